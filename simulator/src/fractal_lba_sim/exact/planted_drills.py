"""The wrong protocols that the controls of shipped scenarios name."""

from __future__ import annotations

from typing import Any, Final

from fractal_lba_server.core.dedup import Claim
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.ingest import Ingest
from fractal_lba_server.core.ingest_events import LeaseChanged
from fractal_lba_server.core.ring_document import RingDocument

from .lookups import ShardLookups
from .plants import PROTOCOL, Parts, plant
from .shards import Answered, ShardRouter, Unavailable
from .tiers import HOT_NS, Tiers

FOR_EVER_NS: Final = 1 << 62


class _LeaseForEver(Ingest):
    """Believes that a lease that was held once is held for ever."""

    def _on_lease(self, event: LeaseChanged, now_ns: int) -> list[Any]:
        held = self.__dict__.setdefault("_for_ever", {})
        if event.until_ns:
            held[event.placement] = True
            return super()._on_lease(event._replace(until_ns=FOR_EVER_NS), now_ns)
        return [] if event.placement in held else super()._on_lease(event, now_ns)


@plant(
    "lease-for-ever", kind=PROTOCOL, says="a region that once held a lease believes it still does"
)
def lease_for_ever(parts: Parts) -> Parts:
    """Have a lease never end."""
    return parts.but(ingest=_LeaseForEver)


class _NeighbourRouter(ShardRouter):
    """Asks the next dedup shard of the ring for one that is down."""

    def _claimed(
        self, document: RingDocument, claim: Claim, until_ns: int, answered: Answered, answer: Any
    ) -> None:
        if not isinstance(answer, Unavailable):
            super()._claimed(document, claim, until_ns, answered, answer)
            return
        names = [info.name for info in document.shards]
        other = names[(names.index(answer.dedup_shard) + 1) % len(names)]
        self.call(other, lambda store: store.claim(claim, document.ring_epoch), answered)


@plant(
    "neighbour-fallback", kind=PROTOCOL, says="the next dedup shard answers for one that is down"
)
def neighbour_fallback(parts: Parts) -> Parts:
    """Have the neighbour answer."""
    return parts.but(shard_router=_NeighbourRouter)


class _Alone(ShardLookups):
    """Never looks into the log of its own process."""

    def __init__(self, node: Any) -> None:
        super().__init__(node)
        self.alone = True


@plant("shards-alone", kind=PROTOCOL, says="the dedup shards alone are asked, never the own log")
def shards_alone(parts: Parts) -> Parts:
    """Ask the dedup shards alone."""
    return parts.but(shard_lookups=_Alone)


class _HotIsAll(Tiers):
    """Takes what the hot tier does not hold for new."""

    def ask(self, key: Key, answered: Answered) -> None:
        stored = self.hot.get(key, self._now_ms())
        self.world.agenda.after(HOT_NS, answered, stored)


@plant("hot-is-all", kind=PROTOCOL, says="what the hot tier does not hold was never seen")
def hot_is_all(parts: Parts) -> Parts:
    """Have the hot tier decide what is new."""
    return parts.but(tiers=_HotIsAll)


class _ErrorIsAbsence(Tiers):
    """Takes an error of the cold store for an absence."""

    def failed(self, key: Key, answered: Answered) -> None:
        answered(None)


@plant("error-is-absence", kind=PROTOCOL, says="an error of the cold store is read as an absence")
def error_is_absence(parts: Parts) -> Parts:
    """Read an error as an absence."""
    return parts.but(tiers=_ErrorIsAbsence)
