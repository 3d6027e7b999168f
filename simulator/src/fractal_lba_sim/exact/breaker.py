"""Break things on command, mend them, and count what the breaking did.

The invariant of this file: every kind of the catalogue is broken by something that happens in the
world, and counted where it happened; a fault that hit nothing has the count 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fractal_lba_server.drill.scenario import ScenarioError

from ..catalogue import counter_of
from ..waiting import NS_PER_MS, NS_PER_S
from .net import ANYBODY, End
from .network import Link, Way

if TYPE_CHECKING:
    from .region import Region
    from .world import World

Fault = Mapping[str, Any]


class Breaker:
    """Injects and heals the faults of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.open: dict[str, Fault] = {}
        self.healed_ns = 0
        """When something was mended last."""
        self._counts: dict[str, Callable[[], int]] = {}
        self._before: dict[str, int] = {}
        self._moments: dict[str, list[Any]] = {}

    def inject(self, fault: Fault) -> None:
        """Break something."""
        from .fault_kinds import KINDS  # noqa: PLC0415 - its rows are methods of this class

        self.open[fault["id"]] = fault
        self._moments[fault["id"]] = []
        self._write(fault, "injected")
        KINDS[fault["kind"]].inject(self, fault)

    def heal(self, fault: Fault) -> None:
        """Mend it, and write what it did."""
        from .fault_kinds import KINDS  # noqa: PLC0415 - its rows are methods of this class

        if self.open.pop(fault["id"], None) is None:
            return
        self.healed_ns = self.world.agenda.now_ns
        self.count(fault)
        for moment in self._moments.pop(fault["id"]):
            moment.cancel()
        KINDS[fault["kind"]].heal(self, fault)
        self._write(fault, "healed")

    def end(self) -> None:
        """Write what the faults did that nobody healed."""
        for fault in list(self.open.values()):
            self.count(fault)

    def _write(self, fault: Fault, state: str, **more: Any) -> None:
        self.world.trace.write(
            "fault", id=fault["id"], kind=fault["kind"], region=fault.get("region"), state=state,
            **more,
        )  # fmt: skip

    def count(self, fault: Fault) -> None:
        """Write what a fault has done so far."""
        read = self._counts.get(fault["id"])
        done = 0 if read is None else read() - self._before[fault["id"]]
        self._write(fault, "effect", effects={counter_of(fault["kind"]): max(0, done)})

    def counts_by(self, fault: Fault, read: Callable[[], int]) -> None:
        """Take the effect of a fault from a counter, from now on."""
        self._counts[fault["id"]] = read
        self._before[fault["id"]] = read()

    def counted(self, fault: Fault, count: int) -> None:
        """Take the effect of a fault as it is."""
        self._counts[fault["id"]] = lambda: count
        self._before[fault["id"]] = 0

    def later(self, fault: Fault, delay_ns: int, call: Callable[..., object], *args: Any) -> None:
        """Do a part of a fault later, unless it is healed before."""
        moment = self.world.agenda.after(delay_ns, call, *args)
        self._moments[fault["id"]].append(moment)

    # --- what a fault is about

    def region(self, fault: Fault) -> Region:
        """Give the region that a fault hits; the first one if it names none."""
        regions = self.world.regions
        code = fault.get("region")
        return next(iter(regions.values())) if code is None else regions[code]

    def ways(self, fault: Fault, *, both: bool) -> list[Link]:
        """Give the links that a fault of the network hits."""
        links = self.world.net.links
        if "region" in fault and "from" not in fault:
            code = fault["region"]
            return [link for ends, link in links.items() if code in ends]
        pairs = [(fault["from"], fault["to"])]
        if both:
            pairs.append((fault["to"], fault["from"]))
        found = [links[pair] for pair in pairs if pair in links]
        if not found:
            raise ScenarioError(f"{fault['id']}: no link from {fault['from']} to {fault['to']}")
        return found

    def _sum(self, fault: Fault, links: list[Link], name: str) -> None:
        self.counts_by(fault, lambda: sum(link.counts[name] for link in links))

    # --- links

    def cut(self, fault: Fault) -> None:
        """Let nothing pass between two ends."""
        self._cut(fault, self.ways(fault, both=True))

    def cut_one_way(self, fault: Fault) -> None:
        """Let nothing pass from one end to the other."""
        self._cut(fault, self.ways(fault, both=False))

    def _cut(self, fault: Fault, links: list[Link]) -> None:
        self._sum(fault, links, "stalled")
        for link in links:
            link.cut(fault["id"])

    def mend_links(self, fault: Fault) -> None:
        """Let everything pass."""
        for link in self.ways(fault, both=True):
            link.mend(fault["id"])

    def flap(self, fault: Fault) -> None:
        """Cut a link for the first half of each period."""
        links = self.ways(fault, both=True)
        self._sum(fault, links, "stalled")
        half_ns = int(fault.get("period_s", 2.0) * NS_PER_S / 2)
        self._flap(fault, half_ns, cut=True)

    def _flap(self, fault: Fault, half_ns: int, *, cut: bool) -> None:
        for link in self.ways(fault, both=True):
            if cut:
                link.cut(fault["id"])
            else:
                link.mend(fault["id"])
        self.later(fault, half_ns, partial(self._flap, fault, half_ns, cut=not cut))

    def worsen(self, fault: Fault) -> None:
        """Delay, squeeze, lose, double or reorder what passes between two ends."""
        share = fault.get("share", 0.0)
        way = Way(
            delay_ns=int(fault.get("delay_ms", 0) * NS_PER_MS),
            jitter_ns=int(fault.get("jitter_ms", 0) * NS_PER_MS),
            bandwidth_bytes_per_s=fault.get("bandwidth_bytes_per_s", 0.0),
        )
        if fault["kind"] in ("loss", "reorder", "duplicate"):
            setattr(way, fault["kind"], share)
        links = self.ways(fault, both=True)
        self._sum(fault, links, counter_of(fault["kind"]))
        for link in links:
            link.suffer(fault["id"], way)

    def calm(self, fault: Fault) -> None:
        """Give the links back what the topology says."""
        for link in self.ways(fault, both=True):
            link.recover(fault["id"])

    def reset(self, fault: Fault) -> None:
        """End every connection between two ends."""
        links = self.ways(fault, both=True)
        self._sum(fault, links, "resets")
        for link in links:
            if link.source < link.target:
                self.world.net.reset(link.source, link.target)

    def refuse(self, fault: Fault) -> None:
        """Have every new connection to an end refused, or those of one other end."""
        ends = self._refusals(fault)
        self.counts_by(fault, lambda: sum(end.refused for end, _ in ends))
        for end, source in ends:
            end.refusing[source] = None

    def take(self, fault: Fault) -> None:
        """Take connections again."""
        for end, source in self._refusals(fault):
            end.refusing.pop(source, None)

    def _refusals(self, fault: Fault) -> list[tuple[End, str]]:
        """Give each end that refuses, and whom; clients take no connections."""
        ends = self.world.net.ends
        if "from" not in fault:
            return [(ends[fault["region"]], ANYBODY)]
        pairs = [(fault["to"], fault["from"]), (fault["from"], fault["to"])]
        return [(ends[target], source) for target, source in pairs if target in ends]

    def nothing(self, fault: Fault) -> None:
        """Mend nothing: what was done is done."""

    # --- processes

    def kill(self, fault: Fault) -> None:
        """End a process without a word; its machine and its disk stay."""
        region = self.region(fault)
        self.counted(fault, int(region.node is not None))
        region.kill()

    def restart(self, fault: Fault) -> None:
        """Start it again."""
        self.region(fault).start()

    def pause(self, fault: Fault) -> None:
        """Let a process stand still."""
        region = self.region(fault)
        self.counted(fault, int(region.node is not None))
        region.pause()

    def resume(self, fault: Fault) -> None:
        """Let it go on."""
        self.region(fault).resume()

    # --- regions

    def vanish(self, fault: Fault) -> None:
        """Have a region vanish: nothing answers any more, not even with a refusal."""
        region = self.region(fault)
        links = [link for ends, link in self.world.net.links.items() if region.code in ends]
        end = region.end
        self.counts_by(fault, lambda: end.swallowed + sum(link.counts["stalled"] for link in links))
        for link in links:
            link.cut(fault["id"])
        region.kill(silent=True)

    def reappear(self, fault: Fault) -> None:
        """Have the machine come back; its old connections are none."""
        region = self.region(fault)
        for (source, target), link in self.world.net.links.items():
            if region.code in (source, target):
                if source < target:
                    self.world.net.reset(source, target)
                link.mend(fault["id"])
        region.start()

    def lose_disk(self, fault: Fault) -> None:
        """Have a region vanish together with its disk."""
        self.vanish(fault)
        self.counted(fault, self.region(fault).lose_disk())
