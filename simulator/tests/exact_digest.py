"""Print the digest of a trace of the exact engine, in a process of its own (test_exact_same.py).

`wander` plants something that a trace must not depend on, to see that the test would find it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from fractal_lba_server.drill.scenario import load_scenario
from fractal_lba_sim.exact.disk import Disk
from fractal_lba_sim.exact.engine import Engine
from fractal_lba_sim.exact.plants import SIMULATOR, Parts, plant
from fractal_lba_sim.exact.watch import Watch
from fractal_lba_sim.exact.world import World


@plant("iterates-a-set", kind=SIMULATOR, says="clients stop in the order of a set of their names")
def iterates_a_set(parts: Parts) -> Parts:
    class Wandering(Watch):
        def __init__(self, world: World) -> None:
            super().__init__(world)
            world.trace.note(" ".join({"euw", "use", "ape", "afs", "sae"}))

    return parts.but(watch=Wandering)


@plant("reads-the-clock", kind=SIMULATOR, says="a disk is as slow as the machine that simulates it")
def reads_the_clock(parts: Parts) -> Parts:
    class Timed(Disk):
        def sync(self, name: str, done: Callable[..., object], *args: Any) -> None:
            self.agenda.after(time.time_ns() % 1_000, super().sync, name, done, *args)

    return parts.but(disk=Timed)


def trace_sha256(events: list[dict[str, Any]]) -> str:
    whole = sha256()
    for event in events:
        whole.update(json.dumps(event, sort_keys=True).encode() + b"\n")
    return whole.hexdigest()


if __name__ == "__main__":
    name, seed, *plants = sys.argv[1:]
    events = Engine().play(load_scenario(name, short=True), seed=int(seed), plants=plants)
    print(trace_sha256(events))
