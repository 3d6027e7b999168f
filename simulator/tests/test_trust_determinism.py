"""One seed gives one trace, byte for byte, in every process; what would break that is caught.

The digest is over the lines as an engine gives them, so also the order of members counts. The same
comparison is shown three ways of breaking it, in each engine, and must see each of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("trust_digest.py")

SEEDS = {"plan": range(1, 6), "exact": range(1, 4)}
"""The seeds of every change; the long form has ten times as many."""

SCENARIOS = {
    "plan": [
        "region-outage-side-by-side", "warm-standby-outage", "three-regions", "night-shift",
        "partition-both-write", "cold-standby-snapshots", "segments-through-objects",
    ],
    "exact": ["region-outage-side-by-side", "warm-standby-outage", "shard-down"],
}  # fmt: skip
SHOWN = "warm-standby-outage"
"""The scenario that shows the plants: checkers decide in it, and links carry what they decide."""

HASH_SEEDS = ("1", "2", "3", "4")
"""Two sets of few names may have one order by chance; four never did."""


def digests(
    engine: str, scenarios: list[str], seeds: list[int], *, hash_seed: str, plant: str = "-"
) -> list[str]:
    words = [engine, plant, *scenarios, "--", *map(str, seeds)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def same_in_every_process(
    engine: str,
    scenarios: list[str],
    seeds: list[int],
    hash_seeds: tuple[str, ...],
    plant: str = "-",
) -> bool:
    """The comparison: of traces without a plant, and of those with one."""
    found = (digests(engine, scenarios, seeds, hash_seed=one, plant=plant) for one in hash_seeds)
    first = next(found)
    assert len(first) == len(scenarios) * len(seeds)
    return all(first == other for other in found)


@pytest.mark.parametrize("engine", ["plan", "exact"])
def test_one_seed_gives_one_trace_in_every_process(engine: str) -> None:
    assert same_in_every_process(engine, SCENARIOS[engine], list(SEEDS[engine]), HASH_SEEDS[:2])


@pytest.mark.long
@pytest.mark.parametrize("engine", ["plan", "exact"])
def test_many_seeds_give_one_trace_each_in_every_process(engine: str) -> None:
    many = list(range(1, 10 * len(SEEDS[engine]) + 1))
    assert same_in_every_process(engine, SCENARIOS[engine], many, HASH_SEEDS[:2])


@pytest.mark.parametrize("engine", ["plan", "exact"])
@pytest.mark.parametrize("plant", ["iterates-a-set", "reads-the-clock", "hashes-a-name"])
def test_what_a_trace_must_not_depend_on_is_caught(engine: str, plant: str) -> None:
    assert not same_in_every_process(engine, [SHOWN], [1], HASH_SEEDS, plant)


@pytest.mark.parametrize("engine", ["plan", "exact"])
def test_seeds_give_different_traces(engine: str) -> None:
    lines = digests(engine, [SHOWN], [1, 2, 3], hash_seed="1")
    assert len({line.split()[-1] for line in lines}) == 3
