"""What commands that play runs have in common: options, errors, canary, exit status.

Exit status: 0 every promise holds, 1 one fails or there is not enough evidence, 2 wrong usage or
a faulty scenario, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
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
JOBS_MAX: Final = 256
"""More workers than this belong on a cluster."""

SEED_MAX: Final = 2**53 - 1 - RUNS_MAX
"""A seed and its successors are numbers that every JSON reader keeps exactly."""

Command = TypeVar("Command", bound=Callable[..., Any])


ENGINES_SAID: Final = {
    "plan": "fast, flows of records",
    "exact": "the server's core, byte for byte",
    "live": "real processes on this machine",
}


def option_engine(*, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Let the caller choose the engine."""
    names = [name for name in ENGINES if name not in without]
    said = "; ".join(f"{name}: {ENGINES_SAID[name]}" for name in names if name in ENGINES_SAID)
    return click.option(
        "--engine", type=click.Choice(names), default="plan", show_default=True, help=f"{said}."
    )


def options_play(runs: str) -> Callable[[Command], Command]:
    """Let the caller say how often, from which seed, where, and what is kept.

    `runs` says how many there are if the caller names no number.
    """

    def put(command: Command) -> Command:
        for option in reversed(_options(runs)):
            command = option(command)
        return command

    return put


def _options(runs: str) -> tuple[Callable[[Command], Command], ...]:
    return (
        click.option("-n", "--runs", type=click.IntRange(1, RUNS_MAX), metavar="RUNS",
                     help=f"Runs, each with the next seed [{runs}]."),
        click.option("--seed", type=click.IntRange(0, SEED_MAX), default=1, show_default=True,
                     help="Seed of the first run."),
        click.option("--jobs", type=click.IntRange(1, JOBS_MAX), metavar="JOBS",
                     help="Processes [one for each core]."),
        click.option("--executor", "where", type=click.Choice(("processes", "dask")),
                     default="processes", show_default=True, is_eager=True,
                     help="Where runs are played; the results are the same."),
        click.option("--scheduler", metavar="ADDRESS", callback=_with_dask,
                     help="Of the Dask cluster."),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                     help="Write results.json and report.html here; a later command goes on."),
        click.option("--json", "as_json", is_flag=True, help="Print the results as JSON."),
        click.option("--quiet", is_flag=True, help="Show no progress."),
    )  # fmt: skip


def _with_dask(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Refuse an address that nothing would ask: --executor stands before it in the list."""
    del option
    if value is not None and context.params.get("where") != "dask":
        raise click.UsageError("--scheduler goes with --executor dask")
    return value


@contextmanager
def said_plainly() -> Iterator[None]:
    """Say what is wrong with the input, and end with the status of a usage error."""
    from fractal_lba_server.core.faults import DocumentError  # noqa: PLC0415 - start-up time
    from fractal_lba_server.drill.scenario import ScenarioError  # noqa: PLC0415 - start-up time

    from .executors import ExecutorError  # noqa: PLC0415 - start-up time
    from .journal import JournalError  # noqa: PLC0415 - start-up time

    try:
        yield
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (DocumentError, ScenarioError, ExecutorError, JournalError) as error:
        refuse(str(error))


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


def finish(
    results: dict[str, Any], given: Mapping[str, Any], summary: Callable[[dict[str, Any]], None]
) -> None:
    """Write the results where they are asked for, and show them."""
    from .results import text_of, write  # noqa: PLC0415 - start-up time

    written = write(given["out"], results) if given["out"] is not None else None
    if given["as_json"]:
        click.echo(text_of(results), nl=False)
        return
    summary(results)
    if written is not None:
        click.echo(f"report: {written[1]}")


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
