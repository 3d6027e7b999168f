"""Every planted protocol bug is found, named and shrunk; without it the same schedules are quiet.

The short form draws small schedules, each search from a seed that shows the bug; `-m long`
searches from random seeds, among small schedules and large ones, and plays 10,000 schedules of the
clean build.
"""

from __future__ import annotations

import os

import pytest

from fractal_lba_sim.engine import Engine, engine
from fractal_lba_sim.explore.assumptions import kinds_of
from fractal_lba_sim.explore.search import (
    Failure,
    Played,
    Player,
    Tally,
    first_failure,
    replay,
    smallest,
)
from fractal_lba_sim.explore.swarm import Swarm
from fractal_lba_sim.explore.token import parse_token
from fractal_lba_sim.explore.zoo import (
    BUGS,
    Bug,
    base,
    small_start,
    small_swarm,
    swarm_of,
)
from fractal_lba_sim.explore.zoo.shard_engine import Engine as ShardEngine

SEEDS_SHORT = 10
"""A bug must be found within this many small schedules from its seed on."""

SMALL_LONG = 3_000
LARGE_LONG = 300
"""Small schedules, and large ones, among which a bug must be found from any seed."""

CLEAN_SHORT = 200
CLEAN_LONG = 10_000
SHRINK_RUNS_SHORT = 4
"""Plays for each event of the schedule that is made smaller."""

SHRINK_RUNS_LONG = 200
SIZE_MAX = 10
"""Events of the smallest schedule: faults, steps, and records that are offered."""

FOUND_MIN = 40
TRIES = 3
TRIES_QUICK = 6
"""Seeds of each smaller schedule in the small world, where chance decides more."""

CLEAN_BASES = ("pair", "alone", "standby", "trio", "by-hand", "tiers", "moving")


def engine_of(bug: Bug) -> Engine:
    return ShardEngine() if bug.engine == "shards" else engine("exact")


def planted(bug: Bug) -> Player:
    tries = TRIES_QUICK if bug.engine == "shards" else TRIES
    return Player(
        engine=engine_of(bug), name=bug.engine, plants=(bug.name,), beside=bug.beside, tries=tries
    )


def found_small(bug: Bug, seeds: range) -> Played | None:
    start, swarm = small_start(bug), small_swarm(bug)
    return first_failure(planted(bug), start, swarm, seeds, names=bug.found_by)


def found_large(bug: Bug, seeds: range) -> Played | None:
    start, swarm = base(bug.base), swarm_of(bug)
    return first_failure(planted(bug), start, swarm, seeds, names=bug.found_by)


def expect_small(bug: Bug, found: Played, runs_max: int) -> Failure:
    """Shrink what was found, and hold the smallest run against all that is promised of it."""
    failure = smallest(planted(bug), found, names=bug.found_by, runs_max=runs_max)
    assert failure.name in bug.found_by
    assert failure.said
    smaller = failure.smallest
    assert smaller.schedule.size <= min(SIZE_MAX, found.schedule.size), [
        str(event) for event in smaller.schedule.events
    ]
    for plants in ((), bug.beside):
        honest = Player(engine=engine_of(bug), plants=plants)
        without = honest.play(smaller.schedule, smaller.seed)
        assert without.failed == {}, f"with {plants} the schedule fails without the bug as well"
    again, _ = replay(planted(bug), parse_token(failure.token))
    assert again.digest == smaller.digest
    return failure


def test_the_zoo_is_large_and_each_bug_says_what_it_is() -> None:
    for bug in BUGS.values():
        assert bug.says
        assert bug.found_by
        base(bug.base)
    assert len(BUGS) >= FOUND_MIN


@pytest.mark.parametrize("name", sorted(BUGS))
def test_planted_bug_is_found_named_and_shrunk(name: str) -> None:
    bug = BUGS[name]
    found = found_small(bug, range(bug.seed, bug.seed + SEEDS_SHORT))
    assert found is not None, f"no schedule of {SEEDS_SHORT} shows {name}"
    expect_small(bug, found, SHRINK_RUNS_SHORT * found.schedule.size)


@pytest.mark.long
@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found_from_any_seed(name: str) -> None:
    bug = BUGS[name]
    first = int(os.environ.get("FLK_SIM_ZOO_SEED", "100000"))
    found = found_small(bug, range(first, first + SMALL_LONG))
    found = found or found_large(bug, range(first, first + LARGE_LONG))
    assert found is not None, f"no schedule of {SMALL_LONG + LARGE_LONG} shows {name}"
    expect_small(bug, found, SHRINK_RUNS_LONG)


def quiet(name: str, seeds: range) -> Tally:
    player = Player(engine=ShardEngine() if name == "moving" else engine("exact"))
    kinds = (
        ("migrate", "shard-down", "process-kill", "process-pause", "disk-slow")
        if name == "moving"
        else kinds_of(base(name).document)
    )
    tally = Tally()
    failed = first_failure(player, base(name), Swarm(kinds=kinds), seeds, tally=tally)
    assert failed is None, f"{name}, seed {failed.seed}: {failed.failed}"
    return tally


def quietly(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    each = count // len(CLEAN_BASES) + 1
    tallies = [quiet(name, range(each)) for name in CLEAN_BASES]
    runs = sum(tally.runs for tally in tallies)
    idle = sum(tally.idle for tally in tallies)
    refused = sum(tally.refused for tally in tallies)
    hours = sum(tally.simulated_s for tally in tallies) / 3600
    assert runs >= count * 0.9
    with capsys.disabled():
        print(
            f"\n{runs} schedules of the clean build, {hours:.2f} simulated hours: no alarm; "
            f"below {3 / runs:.2%} with 95 % confidence; {idle} with a fault that met nothing, "
            f"{refused} not played"
        )


def test_the_clean_build_raises_no_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    quietly(CLEAN_SHORT, capsys)


@pytest.mark.long
def test_the_clean_build_raises_no_alarm_over_many_seeds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quietly(CLEAN_LONG, capsys)
