"""`flk-sim run`: play a scenario many times, judge its promises, and ask what would help.

Exit status: 0 every promise holds (with --control: every named promise fails, as it must), 1 one
fails or there is not enough evidence, 2 wrong usage or a faulty scenario, 130 interrupted.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from .command import (
    FAIL,
    jobs_for,
    option_engine,
    options_play,
    refuse,
    require_canary,
    runs_of,
    said_plainly,
    say_if_interrupted,
    status_of,
    termination_is_interrupt,
)


@click.command()
@click.argument("scenario")
@option_engine
@options_play
@click.option("--what-if", "changes", multiple=True, metavar="PATH=VALUE",
              help="Compare with this change, run by run; may be given again.")  # fmt: skip
@click.option("--no-what-ifs", is_flag=True, help="Play the scenario alone.")
@click.option("--control", is_flag=True, help="Play the negative control, which must fail.")
@click.option("--short", is_flag=True, help="The short form of the scenario.")
@click.option("--traces", is_flag=True, help="Keep the trace of every run in --out.")
def run(scenario: str, engine: str, runs: int | None, **given: Any) -> None:
    """Play a SCENARIO many times and judge its promises.

    SCENARIO is a name of `flk-sim list` or a file. The same scenario, seed and runs give the same
    results, whatever --jobs and --executor. Ctrl-C keeps what is finished; with --out, the same
    command goes on from there.

    \b
    Exit status: 0 every promise holds, 1 one fails or there is not enough
    evidence, 2 wrong usage or a faulty scenario, 130 interrupted.
    """  # noqa: D301 - click reads the mark before a paragraph that it must not wrap
    from .scenarios import find_scenario

    if given["traces"] and given["out"] is None:
        refuse("--traces needs --out DIR")
    if given["traces"] and given["where"] == "dask":
        refuse("--traces are written on this machine: leave out --executor dask")
    with said_plainly():
        loaded = find_scenario(scenario, short=given["short"], control=given["control"])
        count = runs_of(loaded, engine, runs)
        require_canary()
        results = _results(loaded, engine, count, given)
        _tell(results, given)
    say_if_interrupted(results, given["out"])
    sys.exit(FAIL if given.get("broken") else status_of(results))


def _results(scenario: Any, engine: str, runs: int, given: dict[str, Any]) -> dict[str, Any]:
    """Play, and assemble what was finished; an interrupt makes it incomplete."""
    from .cost import cost
    from .executors import ExecutorError, executor
    from .playing import job_of
    from .results import assemble
    from .runner import Runner, Work

    out: Path | None = given["out"]
    job = job_of(scenario, engine, traces=out if given["traces"] else None)
    candidates = _asked(scenario, given)
    seeds = range(given["seed"], given["seed"] + runs)
    jobs = jobs_for(engine, given["jobs"], runs)
    extras: dict[str, Any] = {"cost": cost(scenario.document)}
    complete = False
    with ExitStack() as stack:
        tell = stack.enter_context(_shown(scenario.name, given))
        journal = stack.enter_context(_journal(out, scenario)) if out is not None else None
        where = executor(
            given["where"], jobs=jobs, scheduler=given["scheduler"], preload=(job.module,)
        )
        runner = Runner(where, journal=journal, tell=tell)
        try:
            with termination_is_interrupt(), where:
                runner.play([Work(job, seeds)])
                if engine != "live" and not given["no_what_ifs"] and not given["control"]:
                    _compare(runner, scenario, engine, runs, candidates, given["seed"], extras)
                complete = True
        except KeyboardInterrupt:
            # Not an error: what is finished is kept, and marked as a part.
            pass
        except ExecutorError as error:
            click.echo(f"flk-sim run: {error}", err=True)
            given["broken"] = True
        outcomes = runner.outcomes(job, seeds)
    return assemble(
        scenario, outcomes, engine=engine, seed=given["seed"], runs=runs,
        command=_command(scenario, engine, runs, given), complete=complete, extras=extras,
    )  # fmt: skip


def _compare(
    runner: Any, scenario: Any, engine: str, runs: int, candidates: list[Any], seed: int,
    extras: dict[str, Any],
) -> None:  # fmt: skip
    """Ask what would help, with fewer runs; each answer is kept as soon as it is there."""
    from .whatif import WhatIf, runs_for, searches_for

    pairs = runs_for(scenario, runs)
    if not pairs:
        return
    asking = WhatIf(runner, scenario, engine, seed=seed, runs=pairs)
    if candidates:
        extras["what_ifs"] = asking.rows(candidates)
    extras["remediations"] = asking.remediations()
    extras["tornado"] = asking.tornado()
    judged = WhatIf(runner, scenario, engine, seed=seed, runs=searches_for(scenario, runs))
    extras["smallest"] = judged.smallest()


def _asked(scenario: Any, given: dict[str, Any]) -> list[Any]:
    """Read --what-if; each is one candidate."""
    from .asked import asked
    from .whatif import asked_for

    found = []
    for text in given["changes"]:
        path, values = asked(scenario, text)
        found += [asked_for(scenario, {path: value}) for value in values]
    return found


def _journal(out: Path, scenario: Any) -> Any:
    from .journal import Journal

    journal = Journal(out, scenario)
    if journal.outdated:
        click.echo(f"{out}: runs of other versions are played again", err=True)
    return journal


def _shown(name: str, given: dict[str, Any]) -> Any:
    from .progress import shown

    return shown(name, quiet=given["quiet"])


def _command(scenario: Any, engine: str, runs: int, given: dict[str, Any]) -> str:
    """Write the command that gives these results again: what changes no byte is left out."""
    words = ["flk-sim", "run", scenario.source, "--engine", engine, "-n", str(runs)]
    words += ["--seed", str(given["seed"])]
    words += [f"--{name}" for name in ("control", "short") if given[name]]
    words += ["--no-what-ifs"] if given["no_what_ifs"] else []
    for text in given["changes"]:
        words += ["--what-if", text]
    return shlex.join(words)


def _tell(results: dict[str, Any], given: dict[str, Any]) -> None:
    from .report.terminal import summary
    from .results import text_of, write

    if given["out"] is not None:
        written = write(given["out"], results)
    if given["as_json"]:
        click.echo(text_of(results), nl=False)
        return
    summary(results)
    if given["out"] is not None:
        click.echo(f"report: {written[1]}")
