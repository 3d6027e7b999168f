"""What every command on the control store shares: its URL, its output, its exit status.

Results go to standard output, progress and reasons to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from fractal_lba.errors import ConfigError

if TYPE_CHECKING:
    from .core.ring_document import ShardInfo
    from .dedup_migration import Coordinator
    from .store.control import ControlStore

FILE = click.Path(path_type=Path, dir_okay=False)
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")

BACKGROUND_NICE: Final = 10
"""Priority of a copy or a comparison: the server comes first, also on a machine with few cores."""


def give_way() -> None:
    """Let every other program come first from now on."""
    os.nice(max(0, BACKGROUND_NICE - os.nice(0)))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def on_store(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Give a command the control store, the form of its output, and exits for what it raises."""

    @click.option(
        "--control",
        metavar="URL",
        envvar="FLK_DEDUP_CONTROL",
        help="Control store: sqlite:///PATH or postgresql://... [$FLK_DEDUP_CONTROL].",
    )
    @click.option("--config", type=FILE, help="flk.yaml that names the control store.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    def run(control: str | None, config: Path | None, *, as_json: bool, **given: Any) -> None:
        output = Output(as_json=as_json)
        try:
            asyncio.run(_with_store(function, _control_url(control, config), output, given))
        except click.ClickException:
            raise
        except _answers() as error:
            output.refuse(error)

    return update_wrapper(run, function)


async def _with_store(
    function: Callable[..., Awaitable[None]], url: str, output: Output, given: dict[str, Any]
) -> None:
    from .store.control_engines import open_control

    control = open_control(url)
    try:
        await function(control, output, **given)
    finally:
        await control.close()


def _answers() -> tuple[type[Exception], ...]:
    """Name what a command answers with instead of a traceback."""
    from .core.dedup import ShardUnavailable, StaleRingEpoch
    from .core.migration import Refused
    from .dedup_migration import MigrationError
    from .store.control import ControlError

    return (
        ConfigError, ControlError, MigrationError, OSError, Refused, ShardUnavailable,
        StaleRingEpoch,
    )  # fmt: skip


def _control_url(control: str | None, config: Path | None) -> str:
    if control is not None:
        return control
    if config is None:
        raise click.UsageError("name the control store: --control URL, or --config FILE")
    from .config import load_config

    found = load_config(config).dedup.control
    if found is None:
        raise click.UsageError(f"--config: {config} names no dedup.control")
    return found


class Output:
    """Say results for a person or a program, and progress for a person on a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def say(self, text: str, **members: Any) -> None:
        """Print a result."""
        click.echo(json.dumps(members) if self._as_json else text)

    def refuse(self, error: Exception) -> NoReturn:
        """Print why a command ended, and exit with 1."""
        text = error.message if isinstance(error, ConfigError) else str(error)
        if self._as_json:
            reasons = getattr(error, "reasons", (text,))
            click.echo(json.dumps({"error": type(error).__name__, "reasons": list(reasons)}))
        else:
            click.echo(f"flk-server dedup: {text}", err=True)
        sys.exit(1)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[Any], None]]:
        """Show a bar on a terminal; a copy that meets new keys ends above its plan."""
        if self._as_json or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total)
            yield lambda told: bar.advance(task, told.entries)


@contextmanager
def coordinator_of(control: ControlStore, told: Callable[[Any], None]) -> Iterator[Coordinator]:
    from .dedup_migration import Coordinator

    yield Coordinator(control, open_info, now_ms=now_ms, told=told)


async def open_info(info: ShardInfo) -> Any:
    from .store.shards.opening import open_shard

    return await open_shard(info.name, info.url)
