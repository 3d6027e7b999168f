"""Own what becomes of a message between two ends: late, lost, twice, out of order, or held back.

A cut holds what is sent and loses none of it; when it heals it flows, as retransmitted segments
do. Every message is delivered, lost or under way, and counted as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from ..streams import Streams
from ..waiting import Agenda, Lane

CLIENT: Final = "client"
ARBITER: Final = "arbiter"

NEAR_NS: Final = 100_000
"""Shortest way between two ends: a hop in one building."""

REORDER_NS: Final = 20_000_000
"""How much later a message comes that another overtakes, at most."""

Arrive = Callable[..., object]


@dataclass(slots=True)
class Way:
    """What a direction always suffers, or suffers while a fault lasts."""

    delay_ns: int = 0
    jitter_ns: int = 0
    bandwidth_bytes_per_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0


class Link:
    """One direction between two ends."""

    def __init__(
        self, agenda: Agenda, streams: Streams, source: str, target: str, base: Way
    ) -> None:
        self.source, self.target = source, target
        self.base = base
        self.counts: Counter[str] = Counter()
        self.bytes_sent = self.bytes_delivered = self.bytes_dropped = 0
        self._agenda = agenda
        self._streams = streams
        self._wire = Lane(agenda)
        is_even = not (base.jitter_ns or base.bandwidth_bytes_per_s or base.loss)
        self._even_ns = max(NEAR_NS, base.delay_ns) if is_even else None
        """How long every message takes that no fault hits, where that is always the same."""
        self._faults: dict[str, Way] = {}
        self._cuts: dict[str, None] = {}
        self._held: list[tuple[int, Arrive, tuple[Any, ...]]] = []
        self._stopped: list[tuple[int, Arrive, tuple[Any, ...]]] = []
        """What was on the wire when it was cut: sent before all that is held."""
        self._connections = 0
        """Counts resets: what was under way before one does not arrive."""

    @property
    def is_cut(self) -> bool:
        """Tell whether nothing passes."""
        return bool(self._cuts)

    def _chance(self, cause: str) -> Random:
        return self._streams.of("link", self.source, self.target, cause)

    def send(self, size: int, arrive: Arrive, *args: Any) -> None:
        """Send a message of so many bytes; `arrive` is called there, perhaps never or twice."""
        self.bytes_sent += size
        if self._cuts:
            self.counts["stalled"] += 1
            self._held.append((size, arrive, args))
        elif self._even_ns is not None and not self._faults:
            self._agenda.after(self._even_ns, self._arrived, size, self._connections, arrive, args)
        else:
            self._forward(size, arrive, args)

    def _forward(self, size: int, arrive: Arrive, args: tuple[Any, ...]) -> None:
        loss = self.base.loss
        reorder = duplicate = 0.0
        for way in self._faults.values():
            loss, reorder = max(loss, way.loss), max(reorder, way.reorder)
            duplicate = max(duplicate, way.duplicate)
        if loss and self._chance("loss").random() < loss:
            self.counts["lost"] += 1
            self.bytes_dropped += size
            return
        late_ns = self._late_ns(size)
        if reorder and self._chance("reorder").random() < reorder:
            self.counts["reordered"] += 1
            late_ns += int(self._chance("reorder-by").random() * REORDER_NS) + 1
        if duplicate and self._chance("duplicate").random() < duplicate:
            self.counts["duplicated"] += 1
            again_ns = late_ns + int(self._chance("duplicate-by").random() * REORDER_NS)
            self._agenda.after(again_ns, self._arrived, 0, self._connections, arrive, args)
        self._agenda.after(late_ns, self._arrived, size, self._connections, arrive, args)

    def _late_ns(self, size: int) -> int:
        delay_ns, jitter_ns = self.base.delay_ns, self.base.jitter_ns
        bandwidth = self.base.bandwidth_bytes_per_s
        for way in self._faults.values():
            if way.delay_ns:
                self.counts["delayed"] += 1
                delay_ns = max(delay_ns, way.delay_ns)
            jitter_ns = max(jitter_ns, way.jitter_ns)
            if way.bandwidth_bytes_per_s:
                self.counts["squeezed"] += 1
                least = bandwidth or way.bandwidth_bytes_per_s
                bandwidth = min(least, way.bandwidth_bytes_per_s)
        late_ns = max(NEAR_NS, delay_ns)
        if jitter_ns:
            late_ns += int(self._chance("jitter").random() * jitter_ns)
        if bandwidth:
            end_ns = self._wire.book(int(size / bandwidth * 1_000_000_000))
            late_ns += end_ns - self._agenda.now_ns
        return late_ns

    def _arrived(self, size: int, connections: int, arrive: Arrive, args: tuple[Any, ...]) -> None:
        if connections != self._connections:
            self.bytes_dropped += size
            return
        if self._cuts:
            # It is on the wire while the cut begins: it waits for the heal as well.
            self.counts["stalled"] += 1
            self._stopped.append((size, arrive, args))
            return
        self.bytes_delivered += size
        arrive(*args)

    @property
    def bytes_under_way(self) -> int:
        """Count what was neither delivered nor dropped yet."""
        return self.bytes_sent - self.bytes_delivered - self.bytes_dropped

    # --- what goes wrong

    def cut(self, cause: str) -> None:
        """Let nothing pass."""
        self._cuts[cause] = None

    def mend(self, cause: str) -> None:
        """Let pass what this cause held back, unless another still does."""
        self._cuts.pop(cause, None)
        if self._cuts:
            return
        held = self._stopped + self._held
        self._stopped, self._held = [], []
        for size, arrive, args in held:
            self._forward(size, arrive, args)

    def reset(self) -> None:
        """End every connection: nothing of what is under way arrives."""
        self.counts["resets"] += 1
        self._connections += 1
        self.bytes_dropped += sum(one[0] for one in self._stopped + self._held)
        self._stopped.clear()
        self._held.clear()

    def suffer(self, cause: str, way: Way) -> None:
        """Be worse from now on."""
        self._faults[cause] = way

    def recover(self, cause: str) -> None:
        """Be as before."""
        self._faults.pop(cause, None)
