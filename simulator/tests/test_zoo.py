"""Every planted protocol bug is found, named and shrunk; without it the same schedules are quiet.

The short form starts each search at a seed whose schedule shows the bug; `-m long` searches from
random ones, and plays 10,000 schedules of the clean build.
"""

from __future__ import annotations

import os

import pytest

from fractal_lba_sim.engine import Engine, engine
from fractal_lba_sim.explore.assumptions import kinds_of
from fractal_lba_sim.explore.search import (
    SEEDS_TRIED,
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
from fractal_lba_sim.explore.zoo import BUGS, Bug, base, swarm_of
from fractal_lba_sim.explore.zoo.shard_engine import Engine as ShardEngine

SEEDS_SHORT = 25
"""A bug must be found within this many schedules from its seed on."""

SEEDS_LONG = 3_000
CLEAN_SHORT = 200
CLEAN_LONG = 10_000
SHRINK_RUNS_MAX = 200
SIZE_MAX = 10
"""Events of the smallest schedule: faults, steps, and records that are offered."""

BUGS_MIN = 40
TRIES_QUICK = 14
"""Seeds of each smaller schedule in the small world, whose runs take milliseconds."""

CLEAN_BASES = ("pair", "alone", "standby", "trio", "by-hand", "tiers", "moving")


def engine_of(bug: Bug) -> Engine:
    return ShardEngine() if bug.engine == "shards" else engine("exact")


def planted(bug: Bug) -> Player:
    tries = TRIES_QUICK if bug.engine == "shards" else SEEDS_TRIED
    return Player(engine=engine_of(bug), name=bug.engine, plants=(bug.name,), tries=tries)


def found(bug: Bug, seeds: range) -> Played:
    played = first_failure(planted(bug), base(bug.base), swarm_of(bug), seeds, names=bug.found_by)
    assert played is not None, f"no schedule of {len(seeds)} shows {bug.name}"
    return played


def judged(bug: Bug, seeds: range) -> Failure:
    failure = smallest(
        planted(bug), found(bug, seeds), names=bug.found_by, runs_max=SHRINK_RUNS_MAX
    )
    assert failure.name in bug.found_by
    assert failure.said
    assert failure.smallest.schedule.size <= SIZE_MAX, [
        str(event) for event in failure.smallest.schedule.events
    ]
    honest = Player(engine=engine_of(bug)).play(failure.smallest.schedule, failure.smallest.seed)
    assert honest.failed == {}, "the schedule fails without the bug as well"
    again, _ = replay(planted(bug), parse_token(failure.token))
    assert again.digest == failure.smallest.digest
    return failure


def test_the_zoo_is_large_and_each_bug_says_what_it_is() -> None:
    assert len(BUGS) >= BUGS_MIN
    for bug in BUGS.values():
        assert bug.says
        assert bug.found_by
        base(bug.base)


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found_named_and_shrunk(name: str) -> None:
    bug = BUGS[name]
    judged(bug, range(bug.seed, bug.seed + SEEDS_SHORT))


@pytest.mark.long
@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found_from_any_seed(name: str) -> None:
    first = int(os.environ.get("FLK_SIM_ZOO_SEED", "100000"))
    judged(BUGS[name], range(first, first + SEEDS_LONG))


def quiet(name: str, seeds: range) -> Tally:
    player = Player(engine=ShardEngine() if name == "moving" else engine("exact"))
    kinds = (
        ("migrate", "shard-down", "process-kill", "process-pause")
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
