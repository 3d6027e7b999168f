"""`flk-sim run`: play a scenario many times, judge its promises, and ask what would help.

Exit status: 0 every promise holds (with --control: every named promise fails, as it must), 1 one
fails or there is not enough evidence, 2 wrong usage or a faulty scenario, 130 interrupted.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import (
    FAIL,
    finish,
    jobs_for,
    option_engine,
    options_play,
    refuse,
    require_canary,
    runs_of,
    said_plainly,
    say_if_interrupted,
    status_of,
)

if TYPE_CHECKING:
    from fractal_lba_server.drill.scenario import Scenario

    from .remedies import Proposal
    from .runner import Runner


@click.command()
@click.argument("scenario")
@option_engine()
@options_play("the scenario's; else 100 for plan, 60 for exact, 1 for live")
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
    from .report.terminal import summary
    from .scenarios import find_scenario

    if given["traces"] and given["out"] is None:
        refuse("--traces needs --out DIR")
    if given["traces"] and given["where"] == "dask":
        refuse("--traces are written on this machine: leave out --executor dask")
    with said_plainly():
        loaded = find_scenario(scenario, short=given["short"], control=given["control"])
        count = runs_of(loaded, engine, runs)
        require_canary()
        results, broken = _results(loaded, engine, count, given)
        finish(results, given, summary)
    say_if_interrupted(results, given["out"])
    if broken:
        click.echo(f"flk-sim run: {broken}", err=True)
    sys.exit(FAIL if broken else status_of(results))


def _results(
    scenario: Scenario, engine: str, runs: int, given: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Play, and assemble what was finished; also say why the work could not go on, if so."""
    from .cost import cost
    from .playing import job_of
    from .results import assemble
    from .runner import Work
    from .session import played

    out: Path | None = given["out"]
    job = job_of(scenario, engine, traces=out if given["traces"] else None)
    seeds = range(given["seed"], given["seed"] + runs)
    extras: dict[str, Any] = {"cost": cost(scenario.document)}
    extras["untried"] = _untried(scenario, engine, runs, given)
    candidates = _asked(scenario, given, extras["untried"])

    def work(runner: Runner) -> None:
        runner.play([Work(job, seeds)])
        if extras["untried"] is None:
            _compare(runner, scenario, engine, runs, candidates, given["seed"], extras)

    ended = played(scenario, job, given, jobs=jobs_for(engine, given["jobs"], runs), work=work)
    results = assemble(
        scenario, ended.runner.outcomes(job, seeds), engine=engine, seed=given["seed"], runs=runs,
        command=_command(scenario, engine, runs, given), complete=ended.complete, extras=extras,
    )  # fmt: skip
    return results, ended.broken


def _untried(scenario: Scenario, engine: str, runs: int, given: dict[str, Any]) -> str | None:
    """Say why no change is played; None if changes are."""
    from .whatif import RUNS_MIN, runs_for

    if given["no_what_ifs"]:
        return "the command was given --no-what-ifs"
    if given["control"]:
        return "this is the negative control"
    if engine == "live":
        return "a drill with real processes is played once"
    if runs < RUNS_MIN:
        return f"a comparison needs {RUNS_MIN} runs"
    return None if runs_for(scenario, runs) else "the scenario is too long to play it so often"


def _compare(
    runner: Runner, scenario: Scenario, engine: str, runs: int, candidates: list[Proposal],
    seed: int, extras: dict[str, Any],
) -> None:  # fmt: skip
    """Ask what would help, with fewer runs; each answer is kept as soon as it is there."""
    from .smallest import Search
    from .whatif import WhatIf, runs_for, searches_for

    asking = WhatIf(runner, scenario, engine, seed=seed, runs=runs_for(scenario, runs))
    if candidates:
        extras["what_ifs"] = asking.rows(candidates)
    extras["remediations"] = asking.remediations()
    extras["tornado"] = asking.tornado()
    search = Search(runner, scenario, engine, seed=seed, runs=searches_for(scenario, runs))
    search.judge(extras["remediations"])
    extras["smallest"] = search.smallest()


def _asked(scenario: Scenario, given: dict[str, Any], untried: str | None) -> list[Proposal]:
    """Read --what-if; each value is one candidate."""
    from .asked import asked
    from .whatif import asked_for

    if given["changes"] and untried is not None:
        refuse(f"--what-if cannot be answered: {untried}")
    found = []
    for text in given["changes"]:
        path, values = asked(scenario, text)
        found += [asked_for(scenario, {path: value}) for value in values]
    return found


def _command(scenario: Scenario, engine: str, runs: int, given: dict[str, Any]) -> str:
    """Write the command that gives these results again: what changes no byte is left out."""
    words = ["flk-sim", "run", scenario.source, "--engine", engine, "-n", str(runs)]
    words += ["--seed", str(given["seed"])]
    words += [f"--{name}" for name in ("control", "short") if given[name]]
    words += ["--no-what-ifs"] if given["no_what_ifs"] else []
    for text in given["changes"]:
        words += ["--what-if", text]
    return shlex.join(words)
