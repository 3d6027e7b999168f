"""One seed gives one trace: in another process, with another order of hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fractal_lba_server.drill.scenario import load_scenario
from fractal_lba_sim.exact.engine import Engine

PROGRAM = Path(__file__).with_name("exact_digest.py")


def digest_in_process(hash_seed: str, *words: str) -> str:
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "name", ["partition", "standby-promotion", "shard-migration", "cold-outage"]
)
def test_one_seed_gives_one_trace_in_every_process(name: str) -> None:
    assert digest_in_process("1", name, "5") == digest_in_process("2", name, "5")


def test_another_seed_gives_another_trace() -> None:
    assert digest_in_process("1", "partition", "5") != digest_in_process("1", "partition", "6")


@pytest.mark.parametrize("plant", ["iterates-a-set", "reads-the-clock"])
def test_what_a_trace_must_not_depend_on_is_found(plant: str) -> None:
    first = digest_in_process("1", "partition", "5", plant)
    assert any(
        first != digest_in_process(seed, "partition", "5", plant) for seed in ("2", "3", "4")
    )


def test_a_run_leaves_nothing_behind_for_the_next_one() -> None:
    scenario = load_scenario("standby-promotion", short=True)
    engine = Engine()
    first = engine.play(scenario, seed=3)
    engine.play(load_scenario("partition", short=True), seed=4)
    assert engine.play(scenario, seed=3) == first
