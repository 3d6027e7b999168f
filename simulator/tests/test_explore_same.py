"""One seed gives one schedule and one trace, in another process with another hash seed as well."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from fractal_lba_sim.engine import engine
from fractal_lba_sim.explore.assumptions import kinds_of
from fractal_lba_sim.explore.search import Player
from fractal_lba_sim.explore.swarm import Swarm
from fractal_lba_sim.explore.zoo import BASES, base
from fractal_lba_sim.explore.zoo.shard_engine import Engine as ShardEngine
from fractal_lba_sim.exact import plants
from fractal_lba_sim.exact.wal import Wal

class InOrderOfASet(Wal):
    def _write_group(self):
        names = {f"frame-{number}" for number in range(8)}
        for _ in range(list(names).index("frame-0")):
            self.segments.disk._chance.random()
        super()._write_group()

plants.plant("iterates-a-set", kind=plants.SIMULATOR)(lambda parts: parts.but(wal=InOrderOfASet))
planted = tuple(sys.argv[1:])
for name in ("pair", "alone", "standby", "tiers", "moving"):
    moves = name == "moving"
    player = Player(engine=ShardEngine() if moves else engine("exact"), plants=planted)
    if moves and planted:
        continue
    kinds = ("migrate", "shard-down", "process-kill") if moves else kinds_of(base(name).document)
    for seed in range(4):
        schedule = Swarm(kinds=kinds).draw(base(name), seed)
        print(name, seed, schedule.key, player.play(schedule, seed).digest)
"""


def printed(hash_seed: str, *plants: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *plants],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def first() -> str:
    return printed("1")


def test_two_processes_with_different_hash_seeds_give_equal_traces(first: str) -> None:
    assert len(first.splitlines()) == 20
    assert printed("2718281828") == first


def test_a_planted_iteration_over_a_set_is_caught(first: str) -> None:
    one, other = printed("1", "iterates-a-set"), printed("2", "iterates-a-set")
    assert one != other
