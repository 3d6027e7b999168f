"""What commands that play runs have in common: options, errors, canary, exit status.

Exit status: 0 every promise holds, 1 one fails or there is not enough evidence, 2 wrong usage or
a faulty scenario, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from .engine import ENGINES

HOLD: Final = 0
FAIL: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

RUNS: Final = {"plan": 100, "exact": 60, "live": 1}
"""Runs of an engine if neither the command nor the scenario names a number."""

RUNS_MAX: Final = 1_000_000
SEED_MAX: Final = 2**53 - 1 - RUNS_MAX
"""A seed and its successors are numbers that every JSON reader keeps exactly."""

Command = TypeVar("Command", bound=Callable[..., Any])


def option_engine(command: Command) -> Command:
    """Let the caller choose the engine."""
    return click.option(
        "--engine", type=click.Choice(list(ENGINES)), default="plan", show_default=True,
        help="plan: fast, flows of records; exact: the server's core, byte for byte; live: real "
        "processes on this machine.",
    )(command)  # fmt: skip


def options_play(command: Command) -> Command:
    """Let the caller say how often, from which seed, where, and what is kept."""
    for option in reversed((
        click.option("-n", "--runs", type=click.IntRange(1, RUNS_MAX), metavar="RUNS",
                     help="Runs, each with the next seed [the scenario's; else 100]."),
        click.option("--seed", type=click.IntRange(0, SEED_MAX), default=1, show_default=True,
                     help="Seed of the first run."),
        click.option("--jobs", type=click.IntRange(1, 256), metavar="JOBS",
                     help="Processes [one for each core]."),
        click.option("--executor", "where", type=click.Choice(("processes", "dask")),
                     default="processes", show_default=True,
                     help="Where runs are played; the results are the same."),
        click.option("--scheduler", metavar="ADDRESS", help="Of the Dask cluster."),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                     help="Write results.json and report.html here; a later command goes on."),
        click.option("--json", "as_json", is_flag=True, help="Print the results as JSON."),
        click.option("--quiet", is_flag=True, help="Show no progress."),
    )):  # fmt: skip
        command = option(command)
    return command


@contextmanager
def said_plainly() -> Iterator[None]:
    """Say what is wrong with the input, and end with the status of a usage error."""
    from fractal_lba_server.core.faults import DocumentError  # noqa: PLC0415 - start-up time
    from fractal_lba_server.drill.scenario import ScenarioError  # noqa: PLC0415 - start-up time

    from .executors import ExecutorError  # noqa: PLC0415 - start-up time
    from .journal import JournalError  # noqa: PLC0415 - start-up time

    try:
        yield
    except (DocumentError, ScenarioError, ExecutorError, JournalError, OSError) as error:
        refuse(str(error))


@contextmanager
def termination_is_interrupt() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C: a batch system that ends a command gets its partial results."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse(message: str, status: int = USAGE) -> NoReturn:
    """Say an error and end."""
    name = click.get_current_context().command_path.replace("python -m fractal_lba_sim", "flk-sim")
    click.echo(f"{name}: {message}", err=True)
    sys.exit(status)


def require_canary() -> None:
    """Run the checker against a trace that is wrong; if nothing fails, no verdict is worth much."""
    from fractal_lba_server.judge.canary import CanaryError, canary  # noqa: PLC0415 - start-up time

    try:
        canary()
    except CanaryError as error:
        refuse(f"the canary did not fail, so the checker is blind: {error}", FAIL)


def jobs_for(engine: str, jobs: int | None, runs: int) -> int:
    """Give how many runs are played at once: drills measure, and are played one at a time."""
    if engine == "live":
        return 1
    return max(1, min(jobs or os.cpu_count() or 1, runs))


def runs_of(scenario: Any, engine: str, runs: int | None) -> int:
    """Give the number of runs: of the command, else of the scenario, else of the engine."""
    declared = scenario.part("engines", engine).get("runs") if engine == "plan" else None
    return int(runs or declared or RUNS[engine])


def say_if_interrupted(results: dict[str, Any], out: Path | None) -> None:
    """Say how much was finished, and whether a second command goes on from there."""
    run = results["run"]
    if not run["complete"]:
        kept = f"{out} keeps them, and the same command goes on" if out else "--out would keep them"
        click.echo(
            f"ended early: {run['done']} of {run['runs']} runs are finished; {kept}", err=True
        )


def status_of(results: dict[str, Any]) -> int:
    """Give the exit status of results; a negative control must fail as it promises."""
    if not results["run"]["complete"]:
        return INTERRUPTED
    if results["control"] is not None:
        return HOLD if results["control"]["as_expected"] else FAIL
    states = [verdict["state"] for verdict in results["verdicts"]]
    return HOLD if states and all(state == "holds" for state in states) else FAIL
