"""`flk-sim sweep`: vary settings together; show cost against RTO and RPO, and the front.

Exit status: 0 at least one point keeps every promise, 1 none does, 2 wrong usage or a faulty
scenario, 130 interrupted.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from .command import (
    FAIL,
    HOLD,
    INTERRUPTED,
    finish,
    jobs_for,
    option_engine,
    options_play,
    require_canary,
    said_plainly,
    say_if_interrupted,
)

if TYPE_CHECKING:
    from fractal_lba_server.drill.scenario import Scenario

    from .runner import Runner

RUNS: Final = 60
"""Runs of each point: enough for a p95 and for a promise to hold."""


@click.command()
@click.argument("scenario")
@click.option("--set", "settings", multiple=True, required=True, metavar="PATH=V1,V2,...",
              help="A setting and its values with their units; may be given again.")  # fmt: skip
@option_engine(without=("live",))
@options_play(f"{RUNS} for each point")
def sweep(scenario: str, engine: str, runs: int | None, **given: Any) -> None:
    """Play a SCENARIO with every combination of settings.

    \b
    flk-sim sweep eu-west-outage --set settings.shipping.interval=5s,30s \\
                                 --set settings.probe.dns_ttl=30s,60s,300s

    Prices are those of the scenario. A point is marked if no other one is cheaper and as good.

    \b
    Exit status: 0 at least one point keeps every promise, 1 none does, 2 wrong
    usage or a faulty scenario, 130 interrupted.
    """  # noqa: D301 - click reads the mark before a paragraph that it must not wrap
    from .scenarios import find_scenario

    with said_plainly():
        loaded = find_scenario(scenario)
        require_canary()
        results, broken = _results(loaded, engine, runs or RUNS, given)
        finish(results, given, _print_table)
    say_if_interrupted(results, given["out"])
    if broken:
        click.echo(f"flk-sim sweep: {broken}", err=True)
    if not results["run"]["complete"]:
        sys.exit(FAIL if broken else INTERRUPTED)
    held = any(point["holds"] for point in results["sweep"]["points"])
    sys.exit(HOLD if held else FAIL)


def _results(
    scenario: Scenario, engine: str, runs: int, given: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Play, and assemble what was finished; also say why the work could not go on, if so."""
    from .asked import asked
    from .cost import cost
    from .playing import job_of
    from .results import assemble
    from .runner import Work
    from .session import played
    from .sweep import play, points, table

    settings = [asked(scenario, text) for text in given["settings"]]
    found = points(scenario, settings, engine)
    base = job_of(scenario, engine)
    seeds = range(given["seed"], given["seed"] + runs)

    def work(runner: Runner) -> None:
        runner.play([Work(base, seeds)])
        play(runner, found, seeds)

    jobs = jobs_for(engine, given["jobs"], runs * len(found))
    ended = played(scenario, base, given, jobs=jobs, work=work)
    judged = _judged(list(scenario.part("promises")))
    extras = {
        "sweep": table(ended.runner, found, seeds, promises=judged),
        "cost": cost(scenario.document),
        "untried": "a sweep compares settings with each other",
    }
    results = assemble(
        scenario, ended.runner.outcomes(base, seeds), engine=engine, seed=given["seed"],
        runs=runs, command=_command(scenario, engine, runs, given), complete=ended.complete,
        extras=extras,
    )  # fmt: skip
    return results, ended.broken


def _judged(promises: list[str]) -> list[str]:
    """Give the promises that are judged; the others are parameters of the judge."""
    from fractal_lba_server.judge.promises import PROMISES

    return [name for name in promises if name in PROMISES]


def _command(scenario: Any, engine: str, runs: int, given: dict[str, Any]) -> str:
    words = ["flk-sim", "sweep", scenario.source]
    for text in given["settings"]:
        words += ["--set", text]
    words += ["--engine", engine, "-n", str(runs), "--seed", str(given["seed"])]
    return shlex.join(words)


def _print_table(results: dict[str, Any]) -> None:
    from rich.table import Table

    from .cost import CURRENCY
    from .edits import shown
    from .report.terminal import plain_console
    from .whatif import spoken

    sweep = results["sweep"]
    run = results["run"]
    currency = (results["cost"] or {}).get("currency") or "cost"
    table = Table(box=None, pad_edge=False)
    for path in sweep["paths"]:
        table.add_column(spoken(path).removeprefix("settings."), overflow="fold")
    for name in ("RTO p95", "RPO p95", f"{currency} a month"):
        table.add_column(name, justify="right")
    for name in ("front", "fails"):
        table.add_column(name, overflow="fold")
    for point in sweep["points"]:
        cost = point["cost_per_month"]
        table.add_row(
            *(shown(path, point["set"][path]) for path in sweep["paths"]),
            _seconds(point["rto_p95_s"], run["runs"]), _seconds(point["rpo_p95_s"], run["runs"]),
            "not declared" if cost is None else f"{cost:,.0f}",
            ", ".join(name[:3].upper() for name in point["front"]),
            ", ".join(point["fails"]) or ("nothing" if point["holds"] else "too few runs"),
        )  # fmt: skip
    console = plain_console()
    console.print(
        f"{results['scenario']['name']}: {len(sweep['points'])} of {sweep['wanted']} points, "
        f"{run['runs']} runs each, seeds from {run['seed']}"
    )
    console.print(table)
    for path in (results["cost"] or {}).get("missing", ()):
        if path != CURRENCY:
            console.print(f"not declared, so there is no cost: {path}")


def _seconds(value: float | None, runs: int) -> str:
    """Say a p95; without one, that runs did not recover, or how many it needs."""
    from fractal_lba_server.judge.recovery import percentile_needs

    from .sweep import SHARE

    if value is None:
        needed = percentile_needs(SHARE)
        return "not recovered" if runs >= needed else f"needs {needed} runs"
    return f"{value:,.1f} s"
