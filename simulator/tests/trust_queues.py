"""Both engines' links as queues: messages come at random and wait for the wire.

Replications are independent, and each gives one value: what is sent last of many messages meets a
queue that has forgotten its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from trust_worlds import world

from fractal_lba_sim.exact.network import Link, Way
from fractal_lba_sim.plan.net import Net
from fractal_lba_sim.plan.setup import Setup
from fractal_lba_sim.streams import Streams
from fractal_lba_sim.waiting import NS_PER_S, Agenda

NETS = ("exact", "plan")
REPLICATIONS = 400
MESSAGES = 200
"""With half the capacity in use a queue is empty every second message: this is long enough."""

RATE_PER_S = 50.0
MEAN_BYTES = 10_000
BYTES_PER_S = 1_000_000
"""A hundred messages of the mean size a second."""

PIPE_S = 1.0
Send = Callable[[int, Callable[[], None]], None]


@dataclass
class Served:
    """One value of each replication."""

    behind: list[float] = field(default_factory=list)
    """Messages in the queue, on the wire and in the pipe, at the end."""
    through_s: list[float] = field(default_factory=list)
    """From sending to the end of the wire, of the last message."""
    wait_s: list[float] = field(default_factory=list)
    """Of it what was waiting."""


def sender(name: str, agenda: Agenda) -> Send:
    if name == "exact":
        way = Way(delay_ns=int(PIPE_S * NS_PER_S), bandwidth_bytes_per_s=BYTES_PER_S)
        return Link(agenda, Streams(1), "euw", "use", way).send
    changes: dict[str, Any] = {
        "topology.links.euw-use.bandwidth_bytes_per_s": BYTES_PER_S,
        "topology.links.euw-use.delay_ms": PIPE_S * 1000,
    }
    net = Net(Setup(world("cut", changes), Streams(1)), agenda)
    return lambda size, arrive: net.send("euw", "use", size, arrive)


@cache
def served(name: str, *, exponential: bool) -> Served:
    found = Served()
    for number in range(REPLICATIONS):
        _replicate(name, Random(f"{exponential}/{number}"), found, exponential=exponential)
    return found


def _replicate(name: str, chance: Random, found: Served, *, exponential: bool) -> None:
    agenda = Agenda()
    send = sender(name, agenda)
    state = {"sent": 0, "there": 0}

    def come() -> None:
        size = int(chance.expovariate(1 / MEAN_BYTES)) if exponential else MEAN_BYTES
        at_ns, state["sent"] = agenda.now_ns, state["sent"] + 1
        is_last = state["sent"] == MESSAGES

        def arrive() -> None:
            state["there"] += 1
            if is_last:
                through_s = (agenda.now_ns - at_ns) / NS_PER_S - PIPE_S
                found.through_s.append(through_s)
                found.wait_s.append(through_s - size / BYTES_PER_S)
                agenda.stop()

        if is_last:
            # Whoever comes at random sees the queue as it is in the mean over time.
            found.behind.append(state["sent"] - 1 - state["there"])
        send(size, arrive)
        if not is_last:
            agenda.after(int(chance.expovariate(RATE_PER_S) * NS_PER_S), come)

    come()
    agenda.run()
