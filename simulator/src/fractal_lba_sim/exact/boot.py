"""Give a region back what its peers hold of its own log, before the log is opened.

A disk that was lost, or that forgot, would otherwise begin again at a number that peers know
(spec/shipping.md 10.5). What is fetched is checked as any frame of a peer is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core.replication import TailHeld, lost_tail
from fractal_lba_server.core.segment import SegmentError

from ..waiting import NS_PER_S
from .net import Failure
from .segments import CorruptError

if TYPE_CHECKING:
    from .node import Node

ASK_NS: Final = 2 * NS_PER_S
"""How long a peer may take to say what it holds; a silent one may hold more."""


class Opening:
    """One start of one process, up to the opening of its logs."""

    def __init__(self, node: Node, done: Callable[[], None]) -> None:
        self._node = node
        self._done = done
        self._left = 0
        self._held: dict[str, list[TailHeld]] = {}

    def begin(self) -> None:
        """Ask every peer of every placement what it holds of our log."""
        node = self._node
        asks = [
            (name, peer)
            for name, placement in node.world.placements_of(node.code)
            for peer in placement.regions
            if peer != node.code
        ]
        self._left = len(asks)
        if not asks:
            self._done()
        for name, peer in asks:
            node.world.net.ask(
                node.code, peer, 100, partial(_holds, node.code, name),
                partial(self._heard, name), timeout_ns=ASK_NS, life=node.life,
            )  # fmt: skip

    def _heard(self, name: str, answer: Any) -> None:
        if isinstance(answer, TailHeld):
            self._held.setdefault(name, []).append(answer)
        self._left -= 1
        if not self._left:
            self._fetch_next(sorted(self._held))

    def _fetch_next(self, names: list[str]) -> None:
        """Fetch what is missing, one placement after the other."""
        node = self._node
        while names:
            name = names.pop(0)
            log = node.world.segments(node.disk, f"log/{name}")
            try:
                held = log.recover()
            except (CorruptError, SegmentError) as error:
                node.fail(f"the disk cannot be taken up: {error}")
                return
            lost = lost_tail(held.mark.seq, self._held[name])
            if lost is not None:
                self.fence(name, lost.region_epoch)
                inbound = node.world.parts.inbound(node, node.code, name, log, held, merges=False)
                inbound.ready = True
                inbound.fetch(lost.source, partial(self._fetched, name, names))
                return
        self._done()

    def fence(self, name: str, region_epoch: int) -> None:
        """Keep the epoch under which a log goes on, before anything is fetched."""
        self._node.disk.kept[own_fence(name)] = region_epoch

    def _fetched(self, name: str, names: list[str], reason: str | None) -> None:
        if reason is not None:
            self._node.fail(f"the lost tail of {name} cannot be had: {reason}")
            return
        self._fetch_next(names)


def _holds(region: str, name: str, node: Node, reply: Callable[[Any, int], None]) -> None:
    inbound = node.inbound.get((region, name))
    if inbound is None or not inbound.ready:
        reply(Failure("unavailable", sent=True), 0)
        return
    reply(TailHeld(inbound.core.mark.seq, node.code, node.last_epoch(region, name)), 100)


def own_fence(name: str) -> str:
    """Name the fact under which the region epoch of a log that came back is kept."""
    return f"own-fence/{name}"
