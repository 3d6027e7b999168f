"""Break things on command, mend them, and count what the breaking did.

The invariant of this file: a fault that is injected is either proven by its counters or shown by
the checker to have had none; nothing is counted that was not observed.
"""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from .fleet import Fleet
from .links import effect_of
from .processes import Program, copy_tree
from .scenario import ScenarioError
from .stores import Stores

Fault = Mapping[str, Any]

PAUSE_S: Final = 1.0
"""How long the system may take to stop a process."""

ZERO_SPACE: Final = "zeros"
STALE: Final = "stale-copy"

FLAPPING_SHARE: Final = 0.5
"""Part of a period for which a flapping link is cut, if the fault says nothing else."""

HOT_MARKERS: Final = 1
"""Keys of a hot tier that hold no outcome: the generation."""


class Breaker:
    """Injects and heals the faults of one drill."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._before: dict[str, dict[str, Any]] = {}
        self._done: dict[str, dict[str, int]] = {}
        self._open: dict[str, Fault] = {}
        self._calm: dict[str, threading.Event] = {}
        self._flapping: dict[str, threading.Thread] = {}

    def inject(self, fault: Fault) -> None:
        """Break something."""
        self._before[fault["id"]] = self._fleet.links.counts()
        self._done[fault["id"]] = {}
        self._open[fault["id"]] = fault
        self._write(fault, "injected")
        KINDS[fault["kind"]].inject(self, fault)

    def heal(self, fault: Fault) -> None:
        """Mend it, and write what it did."""
        del self._open[fault["id"]]
        self._count(fault)
        KINDS[fault["kind"]].heal(self, fault)
        self._write(fault, "healed")

    def end(self) -> None:
        """Write what the faults did that nobody healed."""
        for fault in list(self._open.values()):
            if fault["kind"] == "flapping":
                self.settle(fault)
            self._count(fault)

    def _write(self, fault: Fault, state: str, **more: Any) -> None:
        self._fleet.trace.write(
            "fault", id=fault["id"], kind=fault["kind"], region=fault.get("region"), state=state,
            **more,
        )  # fmt: skip

    def _count(self, fault: Fault) -> None:
        kind, effects = KINDS[fault["kind"]], dict(self._done[fault["id"]])
        before, after = self._before[fault["id"]], self._fleet.links.counts()
        for name in kind.counters:
            effects[name] = sum(
                effect_of(before[link], after[link], [name]) for link in self._links(fault)
            )
        for name in kind.switches:
            effects[name] = self._region(fault).effects(name)
        self._write(fault, "effect", effects=effects)

    # --- what a fault is about

    def _region(self, fault: Fault) -> Program:
        return self._programs(fault)[0]

    def _programs(self, fault: Fault) -> list[Program]:
        """Give the processes that a fault is about: one node, or all of the region."""
        nodes = self._fleet.nodes(fault["region"])
        if "node" in fault:
            nodes = [nodes[fault["node"] - 1]]
        return [self._fleet.program(node) for node in nodes]

    def _links(self, fault: Fault) -> list[str]:
        if "region" in fault:
            return self._fleet.links_of(fault["region"])
        ends = self._fleet.links_between(fault["from"], fault["to"])
        return [link for link, _ in ends]

    def _ways(self, fault: Fault, *, both: bool) -> list[tuple[str, str]]:
        ways = self._fleet.links_between(fault["from"], fault["to"])
        if both:
            ways += self._fleet.links_between(fault["to"], fault["from"])
        return ways

    def note(self, fault: Fault, name: str, count: int = 1) -> None:
        """Note an effect that was observed."""
        done = self._done[fault["id"]]
        done[name] = done.get(name, 0) + count

    # --- processes

    def kill(self, fault: Fault) -> None:
        """Send SIGKILL."""
        for program in self._programs(fault):
            self.note(fault, "killed", int(program.running))
            program.kill()

    def restart(self, fault: Fault) -> None:
        """Start it again."""
        for program in self._programs(fault):
            program.start()

    def vanish(self, fault: Fault) -> None:
        """Have a machine vanish: nothing answers any more, not even with a refusal."""
        for link in self._links(fault):
            self._fleet.links.set(link, stall=True)
        self.kill(fault)

    def reappear(self, fault: Fault) -> None:
        """Have the machine come back; its old connections are none.

        The network is there before the process: one that starts cut off waits for its peers.
        """
        for link in self._links(fault):
            self._fleet.links.reset(link)
            self._fleet.calm(link)
        self.restart(fault)

    def pause(self, fault: Fault) -> None:
        """Send SIGSTOP."""
        for program in self._programs(fault):
            program.pause()
            until_s = time.monotonic() + PAUSE_S
            while not program.paused and time.monotonic() < until_s:
                time.sleep(0.001)
            self.note(fault, "paused", int(program.paused))

    def resume(self, fault: Fault) -> None:
        """Send SIGCONT."""
        for program in self._programs(fault):
            program.resume()

    def lose_disk(self, fault: Fault) -> None:
        """Kill, and remove the data directory."""
        self.vanish(fault)
        data = self._fleet.data(fault["region"])
        self.note(fault, "files_lost", sum(1 for path in data.rglob("*") if path.is_file()))
        shutil.rmtree(data)

    def keep_stale(self, fault: Fault) -> None:
        """Kill, and put back the data directory as it was when the drill began."""
        self.vanish(fault)
        copy = self._fleet.home / fault["region"] / STALE
        self.note(fault, "restored", int(copy.exists()))
        copy_tree(copy, self._fleet.data(fault["region"]))

    # --- links

    def cut(self, fault: Fault) -> None:
        """Let nothing pass between two ends."""
        for link, way in self._ways(fault, both=True):
            self._fleet.links.set(link, way=way, stall=True)

    def cut_one_way(self, fault: Fault) -> None:
        """Let nothing pass from one end to the other."""
        for link, way in self._ways(fault, both=False):
            self._fleet.links.set(link, way=way, stall=True)

    def slow_link(self, fault: Fault) -> None:
        """Delay, squeeze or reorder what passes between two ends."""
        names = {
            "delay_ms": "delay_ms", "bandwidth_bytes_per_s": "bandwidth_bytes_per_s",
            "share": "reorder",
        }  # fmt: skip
        given = {names[name]: fault[name] for name in names if name in fault}
        for link, way in self._ways(fault, both=True):
            self._fleet.links.set(link, way=way, **given)

    def lose(self, fault: Fault) -> None:
        """Lose a share of what passes between two ends; it is sent again."""
        for link, way in self._ways(fault, both=True):
            self._fleet.links.set(link, way=way, loss=fault["share"])

    def flap(self, fault: Fault) -> None:
        """Cut the link in each period for a share of it, again and again."""
        cut_s = fault["period_s"] * fault.get("share", FLAPPING_SHARE)
        rests = (cut_s, fault["period_s"] - cut_s)
        calm = self._calm[fault["id"]] = threading.Event()

        def work() -> None:
            for turn in itertools.count():
                for link, way in self._ways(fault, both=True):
                    self._fleet.links.set(link, way=way, stall=not turn % 2)
                self.note(fault, "cuts", 1 - turn % 2)
                if calm.wait(rests[turn % 2]):
                    return

        self._flapping[fault["id"]] = thread = threading.Thread(target=work)
        thread.start()

    def settle(self, fault: Fault) -> None:
        """Flap no more."""
        self._calm.pop(fault["id"]).set()
        self._flapping.pop(fault["id"]).join()
        self.calm(fault)

    def reset_link(self, fault: Fault) -> None:
        """End every connection between two ends."""
        for link in self._links(fault):
            self._fleet.links.reset(link)

    def refuse_link(self, fault: Fault) -> None:
        """Have every connect between two ends refused."""
        for link in self._links(fault):
            self._fleet.links.refuse(link, refuse=True)
            self._fleet.links.reset(link)

    def take_link(self, fault: Fault) -> None:
        """Take connects again."""
        for link in self._links(fault):
            self._fleet.links.refuse(link, refuse=False)

    def calm(self, fault: Fault) -> None:
        """Give the links back what the topology says."""
        for link in {link for link, _ in self._ways(fault, both=True)}:
            self._fleet.calm(link)

    def nothing(self, fault: Fault) -> None:
        """Leave it as it is."""

    # --- inside a process

    def fill_disk(self, fault: Fault) -> None:
        """Have no space for anything new."""
        for name in ("fail-open", f"fail-{ZERO_SPACE}"):
            self._region(fault).switch(name, "ENOSPC")

    def empty_disk(self, fault: Fault) -> None:
        """Have space again."""
        for name in ("fail-open", f"fail-{ZERO_SPACE}"):
            self._region(fault).switch(name, None)

    def slow_disk(self, fault: Fault) -> None:
        """Have every sync take long."""
        self._region(fault).switch("slow-fdatasync", str(round(fault.get("delay_ms", 100))))

    def quick_disk(self, fault: Fault) -> None:
        """Have syncs take their time again."""
        self._region(fault).switch("slow-fdatasync", None)

    def fail_sync(self, fault: Fault) -> None:
        """Have the next sync fail."""
        self._region(fault).switch("fail-fdatasync", "EIO")

    def mend_sync(self, fault: Fault) -> None:
        """Have syncs work; the process has ended and starts again."""
        program = self._region(fault)
        program.switch("fail-fdatasync", None)
        program.kill()
        program.start()

    def step_clock(self, fault: Fault) -> None:
        """Put the wall clock forward or back."""
        self._region(fault).switch("clock-ms", str(fault["step_ms"]))

    def right_clock(self, fault: Fault) -> None:
        """Put the wall clock right."""
        self._region(fault).switch("clock-ms", None)

    # --- stores

    def _stores(self, fault: Fault) -> Stores:
        return self._fleet.stores[fault.get("region", self._fleet.scenario.regions[0])]

    def kill_shard(self, fault: Fault) -> None:
        """Kill the store of a dedup shard."""
        dedup_shard = self._stores(fault).shards[fault["shard"]]
        self.note(fault, "killed", int(dedup_shard.running))
        dedup_shard.kill()

    def start_shard(self, fault: Fault) -> None:
        """Start it again, with what its disk holds."""
        self._stores(fault).shards[fault["shard"]].start()

    def flush_shards(self, fault: Fault) -> None:
        """Empty every store of a dedup shard, without its knowledge."""
        self.note(fault, "keys_flushed", self._stores(fault).empty())

    def flush_hot(self, fault: Fault) -> None:
        """Empty the hot tier."""
        hot = self._stores(fault).hot
        assert hot is not None
        self.note(fault, "keys_flushed", max(0, hot.keys - HOT_MARKERS))
        hot.ask("FLUSHALL")

    def take_cold(self, fault: Fault) -> None:
        """Take the cold store away; a file is in its place, so that nothing can be made there."""
        cold = self._stores(fault).cold
        self.note(fault, "objects", sum(1 for path in cold.rglob("*") if path.is_file()))
        cold.rename(cold.with_suffix(".away"))
        cold.touch()

    def give_cold(self, fault: Fault) -> None:
        """Give it back."""
        cold = self._stores(fault).cold
        cold.unlink()
        cold.with_suffix(".away").rename(cold)


Act = Callable[[Breaker, Fault], None]


class Kind(NamedTuple):
    """How a kind of fault begins and ends, and by which counters it shows."""

    inject: Act
    heal: Act
    counters: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()


KINDS: Final[dict[str, Kind]] = {
    "region-down": Kind(Breaker.vanish, Breaker.reappear, ("stalled",)),
    "process-kill": Kind(Breaker.kill, Breaker.restart),
    "process-restart": Kind(Breaker.kill, Breaker.restart),
    "process-pause": Kind(Breaker.pause, Breaker.resume),
    "disk-lost": Kind(Breaker.lose_disk, Breaker.reappear, ("stalled",)),
    "disk-stale": Kind(Breaker.keep_stale, Breaker.reappear, ("stalled",)),
    "partition": Kind(Breaker.cut, Breaker.calm, ("stalled",)),
    "one-way-cut": Kind(Breaker.cut_one_way, Breaker.calm, ("stalled",)),
    "delay": Kind(Breaker.slow_link, Breaker.calm, ("delayed",)),
    "bandwidth": Kind(Breaker.slow_link, Breaker.calm, ("squeezed",)),
    "reorder": Kind(Breaker.slow_link, Breaker.calm, ("reordered",)),
    "loss": Kind(Breaker.lose, Breaker.calm, ("lost",)),
    "flapping": Kind(Breaker.flap, Breaker.settle, ("stalled",)),
    "reset": Kind(Breaker.reset_link, Breaker.nothing, ("resets",)),
    "refuse": Kind(Breaker.refuse_link, Breaker.take_link, ("refused", "resets")),
    "shard-down": Kind(Breaker.kill_shard, Breaker.start_shard),
    "shard-flush": Kind(Breaker.flush_shards, Breaker.nothing),
    "hot-flush": Kind(Breaker.flush_hot, Breaker.nothing),
    "cold-down": Kind(Breaker.take_cold, Breaker.give_cold),
    "disk-full": Kind(
        Breaker.fill_disk, Breaker.empty_disk, switches=("fail-open", f"fail-{ZERO_SPACE}")
    ),
    "disk-slow": Kind(Breaker.slow_disk, Breaker.quick_disk, switches=("slow-fdatasync",)),
    "sync-error": Kind(Breaker.fail_sync, Breaker.mend_sync, switches=("fail-fdatasync",)),
    "clock-step": Kind(Breaker.step_clock, Breaker.right_clock, switches=("clock-ms",)),
}


def refuse_unknown(kinds: list[str]) -> None:
    """Refuse a scenario that this engine cannot play. Raises ScenarioError."""
    for kind in kinds:
        if kind not in KINDS:
            played = ", ".join(sorted(KINDS))
            message = f"the live engine has no fault {kind!r}, exact or plan may; it has {played}"
            raise ScenarioError(message)
