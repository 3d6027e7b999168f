"""Own how `flk` speaks: results on stdout, notes, errors and progress on stderr.

With `--json` a result is one JSON object a line and an error is `{"error": {"code": ...}}`; notes
and progress are for people and are left out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click

from .errors import FractalLBAError

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_ACCEPTED: Final = 3

PROGRESS_AFTER_S: Final = 1.0
"""Work that is done sooner shows no progress."""

HINTS: Final[Mapping[str, str]] = {
    "attempt_timeout": "the server is slow or hangs; try again later, or keep records in --outbox",
    "connect_failed": "is the server running, and is --endpoint (FLK_ENDPOINT) its address?",
    "forbidden": "the server does not let this tenant do that",
    "key_inactive": "the server knows this key but no longer takes it; sign with the present one",
    "kid_unknown": "who checks has no such key: register it (`flk keys show`), or --key-file it",
    "not_found": "nothing was recorded under this id for the tenant of the token",
    "outbox_blocked": "put the right key in place, or sign again with `flk outbox resign`",
    "outbox_locked": "another process uses this outbox; stop it, or use another directory",
    "pcs_id_conflict": "other content is recorded under this id; its outcome stands",
    "pcs_id_mismatch": "pcs_id follows from merkle_root, epoch and shard_id; leave it to the tool",
    "signature_invalid": "the record was changed after it was signed, or the key is another one",
    "tenant_mismatch": "the key is another tenant's; say whose with --tenant (FLK_TENANT)",
    "tls_failed": "the server's certificate is not trusted, or the address speaks no TLS",
    "unauthorized": "reading needs the tenant's read token: --token-file",
}
"""What to do about an error, for the codes whose message cannot know."""

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Give a command the option `--json`."""
    option = click.option(
        "--json", "as_json", is_flag=True, help="Speak JSON, one object a line, for programs."
    )
    return option(command)


class Output:
    """Write what a command has to say, for people or for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, members: Mapping[str, Any], text: str) -> None:
        """Write a result: the members for programs, the text for people."""
        click.echo(json.dumps(members, ensure_ascii=False) if self.as_json else text)

    def note(self, text: str) -> None:
        """Tell a person something that is no result."""
        if not self.as_json:
            click.echo(text, err=True)

    def error(self, error: FractalLBAError, *, where: str | None = None) -> None:
        """Write what failed, where, and what to do about it."""
        hint = HINTS.get(error.code)
        if self.as_json:
            members = {"where": where, **_facts(error), "hint": hint}
            kept = {name: value for name, value in members.items() if value is not None}
            click.echo(json.dumps({"error": kept}, ensure_ascii=False), err=True)
            return
        place = f"{where}: " if where else ""
        click.echo(f"flk: {place}{error}", err=True)
        if hint:
            click.echo(f"     {hint}", err=True)

    def detach(self) -> None:
        """Forget stdout, whose reader has gone, so that the interpreter does not complain."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _facts(error: FractalLBAError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": error.message,
        "fault": error.fault,
        "pointer": error.pointer,
        "status": error.status,
        "request_id": error.request_id,
        "retry_after_ms": error.retry_after_ms,
        "attempts": error.attempts or None,
        "stop": error.stop,
        "queued": error.queued or None,
    }


class LongWork:
    """Show progress on a terminal, once the work has taken a second."""

    def __init__(self, output: Output, *, enabled: bool | None = None) -> None:
        terminal = sys.stderr.isatty() and not output.as_json
        self._enabled = terminal if enabled is None else enabled
        self._begun_s = time.monotonic()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def update(self, name: str, done: int, total: int | None = None) -> None:
        """Say how much of the named part is done."""
        if not self._enabled or time.monotonic() - self._begun_s < PROGRESS_AFTER_S:
            return
        if self._bars is None:
            from rich.console import Console  # noqa: PLC0415 - slow to load, seldom needed
            from rich.progress import Progress  # noqa: PLC0415 - the same

            self._bars = Progress(console=Console(stderr=True), transient=True)
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)
