"""Play schedules until one breaks a promise, then make it small.

The invariant of this file: what is reported failed in a run that can be played again, and the
smallest schedule fails by the same verdict as the one that was found. A schedule that an engine
cannot play, and a fault that met nothing, are counted and are no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.anomalies import equivocations
from fractal_lba_server.judge.check import FAILS, HOLDS, check
from fractal_lba_server.judge.summary import trace_digest

from ..engine import Engine, Event
from .schedule import Schedule
from .shrink import RUNS_MAX, Shrinker
from .swarm import Swarm
from .token import TRACE_DIGITS, Run, token_of

NO_FAILURE: Final = frozenset({"effects"})
"""Verdicts of a run that say something about the schedule, not about what was simulated."""

MACHINE: Final = "machine"
"""What is said of a run that did not come to its end: the simulated server fell over itself."""

MACHINE_FAULTS: Final = (
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip
"""How Python says that a rule inside a machine was broken."""

SEEDS_TRIED: Final = 8
"""Seeds with which a smaller schedule is tried before it counts as harmless."""


HARD_EFFORT: Final = 8
"""Times as many seeds are tried where a schedule does not get small."""


class BudgetOverError(Exception):
    """The time is over in the middle of a run."""


@dataclass(frozen=True, slots=True)
class Played:
    """One run and what the judge says of it."""

    schedule: Schedule
    seed: int
    events: tuple[Event, ...] = field(repr=False)
    failed: dict[str, str]
    """What failed, by the name of the verdict, with its words."""

    held: int = 0
    """Verdicts that hold."""

    idle: bool = False
    """Whether a fault had no effect: the run shows less than it looks."""

    @property
    def digest(self) -> str:
        """Name the trace by its content; a run that fell over has none."""
        return trace_digest(self.events) if self.events else ""


@dataclass(slots=True)
class Tally:
    """What an exploration did, said before what it found."""

    runs: int = 0
    refused: int = 0
    why: str = ""
    """Why the first schedule that was refused could not be played."""

    idle: int = 0
    blamed: int = 0
    """Failures that come without the plant as well."""

    cut: int | None = None
    """Seed of the schedule whose run outlasted the time there was."""

    events: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    simulated_s: float = 0

    def count(self, played: Played) -> None:
        """Count one run."""
        self.runs += 1
        self.idle += played.idle
        self.events += len(played.events)
        for event in played.schedule.events:
            self.faults[event.kind] = self.faults.get(event.kind, 0) + 1
        if played.events:
            self.simulated_s += max(int(event["at_ns"]) for event in played.events) / 1e9


@dataclass(frozen=True, slots=True)
class Failure:
    """A failing run, as it was found and as small as it got."""

    found: Played
    smallest: Played
    name: str
    plants: tuple[str, ...]
    engine: str
    shrink_runs: int

    @property
    def said(self) -> str:
        """Give the words of the verdict on the smallest run."""
        return self.smallest.failed[self.name]

    @property
    def token(self) -> str:
        """Give the smallest run as one line of text."""
        return token_of(
            Run(
                scenario=self.smallest.schedule.document, seed=self.smallest.seed,
                engine=self.engine, plants=self.plants,
                trace=self.smallest.digest[:TRACE_DIGITS],
            )
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """An engine with the wrong protocols that are put into it."""

    engine: Engine
    name: str = "exact"
    plants: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    """What stands beside the plants and must be harmless: it stays where they go."""

    tries: int = SEEDS_TRIED

    @property
    def honest(self) -> Player:
        """Give the same engine without the wrong protocols."""
        return replace(self, plants=self.beside)

    def play(self, schedule: Schedule, seed: int) -> Played:
        """Play a schedule and judge it. Raises ScenarioError for what the engine cannot play."""
        scenario: Scenario = schedule.scenario
        try:
            events = tuple(self.engine.play(scenario, seed=seed, plants=self.plants))
            report = check(events)
        except MACHINE_FAULTS as error:
            return Played(schedule, seed, (), {MACHINE: f"{type(error).__name__}: {error}"})
        failed = {
            verdict.name: verdict.said
            for verdict in report.verdicts
            if verdict.state == FAILS and verdict.name not in NO_FAILURE
        }
        twice = equivocations(report.trace)
        if twice:
            failed["equivocation"] = f"two roots of {twice} sizes of a log"
        held = sum(verdict.state == HOLDS for verdict in report.verdicts)
        return Played(schedule, seed, events, failed, held, report.state_of("effects") == FAILS)


def first_failure(
    player: Player,
    base: Schedule,
    swarm: Swarm,
    seeds: Iterable[int],
    *,
    names: Sequence[str] = (),
    tally: Tally | None = None,
) -> Played | None:
    """Play the schedules of seeds until one fails; `names` says by which verdicts.

    With something planted, a schedule that fails without it as well says nothing of the plant.
    """
    tally = Tally() if tally is None else tally
    for seed in seeds:
        try:
            played = player.play(swarm.draw(base, seed), seed)
        except ScenarioError as error:
            tally.refused += 1
            tally.why = tally.why or str(error)
            continue
        except BudgetOverError:
            tally.cut = seed
            return None
        tally.count(played)
        if any(not names or name in names for name in played.failed):
            if player.plants and player.honest.play(played.schedule, seed).failed:
                tally.blamed += 1
                continue
            return played
    return None


def smallest(
    player: Player,
    found: Played,
    *,
    names: Sequence[str] = (),
    runs_max: int = RUNS_MAX,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Failure:
    """Make a failing run small; it goes on failing by the first verdict that is wanted.

    What is planted must be what fails: a smaller schedule that fails without it counts as one
    that does not fail.
    """
    name = next(name for name in found.failed if not names or name in names)
    best: dict[str, Played] = {found.schedule.key: found}

    def fails(schedule: Schedule, *, effort: int = 1) -> bool:
        for seed in dict.fromkeys((found.seed, *range(player.tries * effort - 1))):
            if out_of_time():
                return False
            try:
                played = player.play(schedule, seed)
            except (ScenarioError, BudgetOverError):
                return False
            if name not in played.failed:
                continue
            if player.plants and player.honest.play(schedule, seed).failed:
                return False
            best[schedule.key] = played
            return True
        return False

    hard = partial(fails, effort=HARD_EFFORT)
    shrinker = Shrinker(fails, hard=hard, runs_max=runs_max, out_of_time=out_of_time)
    try:
        schedule = shrinker.shrink(found.schedule)
    except BudgetOverError:
        schedule = min((one.schedule for one in best.values()), key=lambda one: one.size)
    return Failure(found, best[schedule.key], name, player.plants, player.name, shrinker.runs)


def replay(player: Player, run: Run) -> tuple[Played, str]:
    """Play a run again; give it, and how its trace compares with the one of the token."""
    played = player.play(Schedule(run.scenario), run.seed)
    if not run.trace:
        return played, f"trace {played.digest[:TRACE_DIGITS]}"
    if played.digest.startswith(run.trace):
        return played, f"trace {run.trace}, the same as the token's"
    return played, (
        f"trace {played.digest[:TRACE_DIGITS]}, the token's is {run.trace}, made by version "
        f"{run.simulator}"
    )


def label(value: Any) -> str:
    """Give one value of a summary as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)
