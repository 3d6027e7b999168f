"""The same scenario the plain way: every record is a SimPy process of its own.

A record waits until it is due, is sent, waits for a sync, is answered, and goes to the other
region in the next batch; while its region is gone it waits and goes to the other one. Nothing is
counted that is not carried out, so its speed is what flows of records are measured against.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_sim.plan.setup import Setup, client_rows, ns
from fractal_lba_sim.streams import Streams
from fractal_lba_sim.waiting import NS_PER_S

Steps = Generator[simpy.Event, Any, None]


@dataclass
class Region:
    """One region: whether it answers, and what it has not shipped."""

    up: bool = True
    unshipped: list[simpy.Event] = field(default_factory=list)
    held: int = 0


class Records:
    """A run with one process for each record."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.setup = Setup(scenario, Streams(seed))
        self.env = simpy.Environment()
        self.regions = {code: Region() for code in self.setup.regions}
        self.faults = scenario.faults(seed)
        self.done = self.started = 0
        self.moved: dict[str, int] = {}

    def record(self, client: str, endpoints: list[str], due_ns: int) -> Steps:
        """Carry one record from its client into two regions."""
        env, setup = self.env, self.setup
        yield env.timeout(due_ns - env.now)
        while True:
            code = endpoints[self.moved.get(client, 0)]
            region = self.regions[code]
            if not region.up:
                yield env.timeout(setup.attempt_ns)
                if not region.up:
                    self.moved[client] = (endpoints.index(code) + 1) % len(endpoints)
                continue
            yield env.timeout(setup.wire("client", code).delay_ns + setup.sync_ns)
            if region.up:
                break
        region.held += 1
        replicated = env.event()
        region.unshipped.append(replicated)
        yield replicated
        self.done += 1

    def ship(self, code: str, peer: str) -> Steps:
        """Send what is not shipped, batch after batch."""
        trip_ns = max(NS_PER_S // 1_000, 2 * self.setup.wire(code, peer).delay_ns)
        while True:
            yield self.env.timeout(trip_ns)
            if self.regions[code].up and self.regions[peer].up:
                batch, self.regions[code].unshipped = self.regions[code].unshipped, []
                self.regions[peer].held += len(batch)
                for one in batch:
                    one.succeed()

    def fault(self, fault: dict[str, Any]) -> Steps:
        """Take a region away, and give it back."""
        region = self.regions[fault["region"]]
        yield self.env.timeout(self.setup.warmup_ns + ns(fault["at_s"]) - self.env.now)
        region.up = False
        if "for_s" in fault:
            yield self.env.timeout(ns(fault["for_s"]))
            region.up = True

    def offer(self, row: dict[str, Any]) -> Steps:
        """Start a process for each record of a client, shortly before it is due."""
        period_ns = NS_PER_S / (row["share"] * self.setup.load["rate_per_s"])
        number = 0
        while (due_ns := int(number * period_ns)) < self.setup.load_end_ns:
            if due_ns > self.env.now:
                yield self.env.timeout(due_ns - self.env.now)
            self.env.process(self.record(row["name"], row["endpoints"], due_ns))
            self.started += 1
            number += 1


def play_records(scenario: Scenario, seed: int = 1) -> int:
    """Play a scenario of regions that vanish; give how many records it carried."""
    run = Records(scenario, seed)
    codes = list(run.setup.regions)
    for place, code in enumerate(codes):
        run.env.process(run.ship(code, codes[(place + 1) % len(codes)]))
    for fault in run.faults:
        run.env.process(run.fault(fault))
    for row in client_rows(scenario):
        run.env.process(run.offer(row))
    run.env.run(until=run.setup.load_end_ns + run.setup.settle_ns)
    return run.started
