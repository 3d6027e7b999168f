"""`flk-sim explore`: random fault schedules until one breaks a promise, then the smallest one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from fractal_lba_server.drill.scenario import DocumentError, Scenario, ScenarioError
from fractal_lba_server.judge.recovery import zero_bound

from .command import refuse
from .explore.assumptions import kinds_of
from .explore.schedule import Schedule
from .explore.search import BudgetOverError, Failure, Player, Tally, first_failure, smallest
from .explore.swarm import EVENTS_MAX, KINDS, KindError, Swarm
from .explore.timeline import keys_in, timeline
from .explore.worlds import WORLDS, world
from .explore.written import scenario_text
from .progress import LINE_EVERY_S
from .report.numbers import figure
from .scenarios import find_scenario

SHRINK_SHARE: Final = 0.5
"""Part of the budget that is kept for making a failing schedule small."""

MOMENT_S: Final = 0.1

UNITS_S: Final = {"s": 1, "min": 60, "h": 3600}


def seconds_of(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Read a length of time such as 60s, 5min or 1h."""
    number = value.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        seconds = float(number) * UNITS_S.get(value[len(number) :], 0)
    except ValueError:
        seconds = 0
    if seconds <= 0:
        message = f"{value!r} is no length of time: write 60s, 5min or 1h"
        raise click.BadParameter(message, ctx=context, param=parameter)
    return seconds


@click.command()
@click.argument("scenario")
@click.option(
    "--engine", "engine_name", type=click.Choice(WORLDS), default="exact", show_default=True
)
@click.option(
    "--budget",
    callback=seconds_of,
    default="60s",
    show_default=True,
    help="Time to search and shrink.",
)
@click.option("--runs", type=click.IntRange(1), help="Schedules to try; otherwise time decides.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the first schedule.",
)
@click.option("--kinds", help="Kinds of faults and steps, by commas; `all` for every one.")
@click.option(
    "--events",
    type=click.IntRange(1, 64),
    default=EVENTS_MAX,
    show_default=True,
    help="Most of one run.",
)
@click.option("--only", multiple=True, metavar="VERDICT", help="Look for this verdict alone.")
@click.option("--plant", multiple=True, metavar="NAME", help="Put a wrong protocol in, by name.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Keep what fails.")
def explore(
    scenario: str, *, engine_name: str, budget: float, runs: int | None, seed: int,
    kinds: str | None, events: int, only: tuple[str, ...], plant: tuple[str, ...],
    out: Path | None,
) -> None:  # fmt: skip
    """Break SCENARIO in random ways until a promise fails; then give the smallest way.

    The exit status is 1 if something failed, 2 for wrong usage.
    """
    try:
        base = Schedule.of(in_short(scenario).document)
        asked = KINDS if kinds == "all" else tuple((kinds or "").split(",")) if kinds else ()
        swarm = Swarm(kinds=kinds_of(base.document, asked), events_max=events)
    except (DocumentError, ScenarioError, KindError) as error:
        refuse(str(error))
    player = Player(engine=world(engine_name), name=engine_name, plants=plant)
    tally, ends_s = Tally(), time.monotonic() + budget
    seeds = _seeds(seed, runs, ends_s - budget * SHRINK_SHARE)
    try:
        with ended_after(budget):
            found = first_failure(player, base, swarm, seeds, names=only, tally=tally)
        if tally.cut is not None:
            click.echo(f"the run of seed {tally.cut} outlasted the budget and was ended")
        if not tally.runs and tally.refused:
            refuse(f"no schedule could be played: {tally.why}")
        if found is None:
            _tell_tally(tally, click.echo)
            click.echo(f"no promise failed: {bound(tally.runs)}")
            raise SystemExit(0 if tally.runs else 1)
        with ended_after(max(MOMENT_S, ends_s - time.monotonic())):
            failure = smallest(
                player, found, names=only, out_of_time=lambda: time.monotonic() > ends_s
            )
    except ScenarioError as error:
        refuse(str(error))
    _tell_tally(tally, click.echo)
    for line in told(failure):
        click.echo(line)
    if out is not None:
        keep(failure, out)
        click.echo(f"kept in {out}")
    raise SystemExit(1)


def in_short(scenario: str) -> Scenario:
    """Find a scenario, in its short form if it has one: a search plays it many times."""
    found = find_scenario(scenario)
    return find_scenario(scenario, short=True) if "short" in found.document else found


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Raise BudgetOverError in a run that is still played after so long."""

    def end(*_: object) -> None:
        raise BudgetOverError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except BudgetOverError:
        raise click.ClickException("the budget ended before a failure was confirmed") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _seeds(first: int, runs: int | None, until_s: float) -> Iterator[int]:
    """Give seeds: so many, or until the time for it is over."""
    seed, said_s = first, None
    while runs is None or seed < first + runs:
        now_s = time.monotonic()
        if runs is None and now_s >= until_s:
            return
        said_s = now_s if said_s is None else said_s
        if now_s - said_s >= LINE_EVERY_S:
            said_s = now_s
            click.echo(f"{seed - first} schedules tried, nothing fails so far", err=True)
        yield seed
        seed += 1


def _tell_tally(tally: Tally, say: Callable[[str], None]) -> None:
    say(
        f"{tally.runs} schedules, {tally.simulated_s / 3600:.2f} simulated hours, {tally.events} "
        f"events; {tally.idle} with a fault that met nothing, {tally.refused} not played"
    )
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(tally.faults.items()))
    say(f"broken and done: {kinds or 'nothing'}")


def bound(runs: int) -> str:
    """Say how sure a number of runs without a failure is."""
    if not runs:
        return "not enough evidence, no schedule was played"
    below = figure(zero_bound(runs), "%")
    return f"fewer than {below} of such schedules break one, with 95 % confidence"


def told(failure: Failure) -> Iterator[str]:
    """Tell a failure: what, by how few events, how it went, and how to see it again."""
    run = failure.smallest
    yield f"{failure.name} fails: {failure.said}"
    yield (
        f"{failure.found.schedule.size} events and records became {run.schedule.size} in "
        f"{failure.shrink_runs} plays; seed {run.seed}"
    )
    yield from (f"  {event}" for event in run.schedule.events)
    yield f"  {run.schedule.offered} records offered"
    yield ""
    yield from timeline(run.events, keys=keys_in(failure.said, run.events))
    yield ""
    yield f"again: flk-sim replay {failure.token}"


def keep(failure: Failure, folder: Path) -> None:
    """Write scenario, token, trace and timeline of the smallest run."""
    folder.mkdir(parents=True, exist_ok=True)
    run = failure.smallest
    command = f"flk-sim replay {failure.token}"
    head = f"{failure.name} fails: {failure.said}"
    text = scenario_text(run.schedule.document, comments=(head, f"seed {run.seed}", command))
    (folder / "scenario.yaml").write_text(text, encoding="utf-8")
    (folder / "token").write_text(failure.token + "\n", encoding="utf-8")
    lines = (json.dumps(event, separators=(",", ":")) for event in run.events)
    (folder / "trace.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "timeline.txt").write_text("\n".join(told(failure)) + "\n", encoding="utf-8")
