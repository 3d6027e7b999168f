"""Run a scenario on real processes and write its trace (spec/drills.md 5).

The engine decides nothing about what it saw: it starts, breaks, mends, waits and writes. The
order of a run is: start, warm up, load and timeline together, heal, empty the outboxes, wait for
equal regions, census, stop.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from ..judge.parts import END
from .census import State, digests_of, read_state, write_census
from .faults import STALE, Breaker
from .fleet import Fleet
from .load import Load
from .playable import refuse_unplayable
from .processes import ProcessError, copy_tree
from .residency import ResidencyWatch
from .scenario import Scenario, ScenarioError
from .steps import STEPS
from .trace import NS_PER_S, TraceWriter
from .watch import LagWatch, PhaseWatch, RoleWatch

SETTLE_S: Final = 20.0
"""Longest wait until regions are equal, if the scenario names no other."""

LOOK_S: Final = 0.1
"""How often regions are compared."""

STILL_S: Final = 0.7
"""How long nothing may change before it is believed: an index follows its log with a delay."""

Action = Callable[[], None]


def run(scenario: Scenario, folder: Path, *, seed: int, command: str) -> Path:
    """Run a scenario in an empty folder; give its trace. Raises ScenarioError, ProcessError."""
    refuse_unplayable(scenario)
    faults = scenario.faults(seed)
    shutil.rmtree(folder / "home", ignore_errors=True)
    (folder / "home").mkdir(parents=True, mode=0o700)
    path = folder / "trace.jsonl"
    with TraceWriter(path, scenario, seed=seed, command=command) as trace:
        try:
            with ExitStack() as stack:
                fleet = stack.enter_context(Fleet(scenario, folder / "home", trace, seed=seed))
                Drill(fleet, faults, stack).run()
        except (ProcessError, ScenarioError) as error:
            trace.write("error", said=str(error)[:2000])
            raise
    return path


class Drill:
    """One run."""

    def __init__(self, fleet: Fleet, faults: list[dict[str, Any]], stack: ExitStack) -> None:
        self.fleet = fleet
        self.trace = fleet.trace
        self._faults = faults
        self._stack = stack
        self._breaker = Breaker(fleet)
        self._comparing: list[threading.Thread] = []
        load = fleet.scenario.part("load")
        self._duration_s = float(load["duration_s"])
        self._settle_s = float(load.get("settle_s", SETTLE_S))
        self._warmup_s = float(load.get("warmup_s", 0))

    def run(self) -> None:
        """Play the scenario from the start of the processes to the last census."""
        fleet = self.fleet
        fleet.prepare()
        fleet.start()
        load = Load(fleet, fleet.home)
        self._stack.callback(load.close)
        phases = PhaseWatch(fleet, load)
        lags = LagWatch(fleet)
        load.warm_up()
        for fault in self._faults:
            if fault["kind"] == "disk-stale":
                region = fault["region"]
                copy_tree(fleet.data(region), fleet.home / region / STALE)
        residency = ResidencyWatch(fleet)
        residency.start()
        load.start()
        for watch in (lags, RoleWatch(fleet, phases)):
            watch.start()
            self._stack.callback(watch.stop)
        time.sleep(self._warmup_s)
        self._play(phases)
        load.stop()
        lags.stop()
        left = load.flush(self._settle_s)
        if left:
            self.trace.write("note", said=f"{left} records wait in outboxes")
        for thread in self._comparing:
            thread.join()
        self._breaker.end()
        self.compare(END, until_ms=None)
        self.census(END)
        residency.write()

    def _play(self, phases: PhaseWatch) -> None:
        """Carry out the timeline, each moment counted from the end of the warm-up."""
        begin_ns = self.trace.now_ns()
        for at_s, action in self._timeline(phases):
            self._sleep_until(begin_ns + int(at_s * NS_PER_S))
            action()
        self._sleep_until(begin_ns + int(self._duration_s * NS_PER_S))

    def _timeline(self, phases: PhaseWatch) -> list[tuple[float, Action]]:
        steps = self.fleet.scenario.document.get("steps", ())
        actions: list[tuple[float, Action]] = [
            *((fault["at_s"], partial(self._inject, fault, phases)) for fault in self._faults),
            *(
                (fault["at_s"] + fault["for_s"], partial(self._heal, fault, phases))
                for fault in self._faults
                if "for_s" in fault
            ),
            *((step["at_s"], partial(self._step, step)) for step in steps),
        ]
        return sorted(actions, key=lambda action: action[0])

    def _sleep_until(self, at_ns: int) -> None:
        wait_s = (at_ns - self.trace.now_ns()) / 1e9
        if wait_s > 0:
            time.sleep(wait_s)

    def _inject(self, fault: dict[str, Any], phases: PhaseWatch) -> None:
        phases.begin(fault["id"])
        self._breaker.inject(fault)

    def _heal(self, fault: dict[str, Any], phases: PhaseWatch) -> None:
        self._breaker.heal(fault)
        phases.healed(fault["id"])
        until_ms = time.time_ns() // 1_000_000
        thread = threading.Thread(
            target=self.compare, args=(fault["id"],), kwargs={"until_ms": until_ms}
        )
        self._comparing.append(thread)
        thread.start()

    def _step(self, step: dict[str, Any]) -> None:
        if step["do"] == "census":
            self.census(step.get("census", "failover"))
            return
        STEPS[step["do"]](self.fleet, step)

    # --- what regions hold

    def compare(self, after: str, *, until_ms: int | None) -> None:
        """Wait until regions hold the same, and write what they hold then, or at last."""
        deadline_s = time.monotonic() + self._settle_s
        rows, still_s = self._states(until_ms), time.monotonic()
        while not (_equal(rows) and time.monotonic() - still_s > STILL_S):
            if time.monotonic() > deadline_s:
                break
            time.sleep(LOOK_S)
            before, rows = rows, self._states(until_ms)
            if rows != before:
                still_s = time.monotonic()
        for name, code, digest, keys in rows:
            self.trace.write(
                "digest", after=after, region=code, placement=name, digest=digest, keys=keys
            )
        if _equal(rows) and after != END:
            for phase in ("catch_up", "verify"):
                self.trace.write("phase", incident=after, phase=phase)

    def _states(self, until_ms: int | None) -> list[tuple[str, str, str, int]]:
        """Give placement, region, digest and count of every region of every placement."""
        found = {
            code: digests_of(self._state(code), until_ms=until_ms) for code in self.fleet.regions
        }
        return [
            (name, code, *found[code].get(name, ("empty", 0)))
            for name, placement in self.fleet.placements.items()
            for code in placement["regions"]
        ]

    def census(self, name: str) -> None:
        """Write all that the regions that run now held at this moment, and perhaps a little more.

        An index follows its log with a delay; what is acknowledged after the moment is not asked
        of the census.
        """
        at_ns = self.trace.now_ns()
        time.sleep(STILL_S)
        for code, program in self.fleet.regions.items():
            if program.running:
                write_census(self.trace, name, code, self._state(code), at_ns)

    def _state(self, region: str) -> State:
        """Read what all processes of a region hold together."""
        states = [read_state(self.fleet.data(node)) for node in self.fleet.nodes(region)]
        return State(*(list(chain.from_iterable(rows)) for rows in zip(*states, strict=True)))


def _equal(rows: list[tuple[str, str, str, int]]) -> bool:
    """Say whether the regions of each placement are in one state."""
    return len({row[::2] for row in rows}) == len({name for name, *_ in rows})
