"""Print the digests of traces, in a process of its own (test_trust_determinism.py).

Words: an engine, plants joined by commas or `-`, then scenarios; seeds follow `--`. A plant puts
something into an engine that a trace must not depend on, to see that the comparison finds it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from typing import Any
from unittest.mock import patch

from fractal_lba_sim import streams
from fractal_lba_sim.engine import engine
from fractal_lba_sim.plan import health, net
from fractal_lba_sim.scenarios import find_scenario


def iterates_a_set() -> None:
    """Have checkers begin in the order of a set of their names."""
    begin = health.Checkers.__init__

    def wandering(self: health.Checkers, *args: Any) -> None:
        begin(self, *args)
        step_ns = self._setup.probe.interval_ms * 1_000_000 // len(self._phase_ns)
        for number, name in enumerate({"/".join(pair) for pair in self._phase_ns}):
            checker, _, region = name.partition("/")
            self._phase_ns[checker, region] = number * step_ns

    patch.object(health.Checkers, "__init__", wandering).start()


def reads_the_clock() -> None:
    """Make a link as slow as the machine that simulates it."""
    takes = net.Net._takes_ns

    def timed(self: net.Net, pair: net.Pair, size: int) -> int:
        return takes(self, pair, size) + int(time.time() * 1e9) % 1_000_000

    patch.object(net.Net, "_takes_ns", timed).start()


def hashes_a_name() -> None:
    """Seed streams with `hash`, which differs from process to process."""

    def hashed(self: streams.Streams, key: str) -> int:
        return hash((self.seed, key)) & 0xFFFF_FFFF

    patch.object(streams.Streams, "_seed_of", hashed).start()


PLANTS: dict[str, Callable[[], None]] = {
    "iterates-a-set": iterates_a_set,
    "reads-the-clock": reads_the_clock,
    "hashes-a-name": hashes_a_name,
}
"""Of the plan engine, which plants nothing by itself; the last is of both engines."""


def trace_sha256(events: Sequence[Any]) -> str:
    """Digest a trace byte for byte, with its members in the order in which they were written."""
    whole = sha256()
    for event in events:
        whole.update(json.dumps(event).encode() + b"\n")
    return whole.hexdigest()


if __name__ == "__main__":
    import_module("exact_digest")  # registers the plants of the exact engine
    name, planted, *words = sys.argv[1:]
    cut = words.index("--")
    plants = [] if planted == "-" else planted.split(",")
    for plant in list(plants):
        if name == "plan" or plant == "hashes-a-name":
            PLANTS[plant]()
            plants.remove(plant)
    for scenario in words[:cut]:
        for seed in words[cut + 1 :]:
            found = engine(name).play(
                find_scenario(scenario, short=True), seed=int(seed), plants=plants
            )
            print(scenario, seed, trace_sha256(list(found)))
