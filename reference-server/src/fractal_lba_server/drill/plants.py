"""Wrong protocols for negative controls, each put in place by name in a process of the shim.

A drill that still passes with its plant is broken itself. Nothing of this is reachable from
`flk-server serve`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ..core import ingest
from ..core.ingest_events import LeaseChanged

FOR_EVER_NS: Final = 1 << 62
QUICK_S: Final = 1.0
"""Rest of the mover between two passes in a drill."""


def lease_for_ever() -> None:
    """Have a region that once held a lease believe that it still does."""
    honest = ingest.Ingest._on_lease  # noqa: SLF001 - the rule that is made wrong
    held: set[str] = set()

    def wrong(self: ingest.Ingest, event: LeaseChanged, now_ns: int) -> list[Any]:
        if event.until_ns:
            held.add(event.placement)
            return honest(self, event._replace(until_ns=FOR_EVER_NS), now_ns)
        return [] if event.placement in held else honest(self, event, now_ns)

    setattr(ingest.Ingest, "_on_lease", wrong)  # noqa: B010 - a method is replaced on purpose


def hot_is_all() -> None:
    """Have the hot tier decide what is new: what it does not hold was never seen."""
    from .. import tiers  # noqa: PLC0415 - an extra of the server

    async def walk(self: tiers.Tiers, key: tuple[str, str]) -> tiers.Answer:
        now_ms = self._now_ms()
        stored = await self._from_hot(key, now_ms)
        return tiers.NotFound() if stored is None else tiers.Found(stored, "hot")

    setattr(tiers.Tiers, "at_once", lambda self, key, look: None)  # noqa: B010 - on purpose
    setattr(tiers.Tiers, "_walk", walk)  # noqa: B010 - on purpose


def error_is_absence() -> None:
    """Read an error of the cold store as if the id had never been seen."""
    from .. import tiers  # noqa: PLC0415 - an extra of the server

    honest = tiers.Tiers._from_cold  # noqa: SLF001 - the rule that is made wrong

    async def wrong(self: tiers.Tiers, row: Any) -> tiers.Answer:
        answer = await honest(self, row)
        return tiers.NotFound() if isinstance(answer, tiers.Unavailable) else answer

    setattr(tiers.Tiers, "_from_cold", wrong)  # noqa: B010 - on purpose


def neighbour_fallback() -> None:
    """Have the next dedup shard of the ring answer for one that is down."""
    from ..core.dedup import Claim, DedupShard, Verdict  # noqa: PLC0415 - beside its user
    from ..store.shards.reach import Unavailable  # noqa: PLC0415 - the same
    from ..store.shards.router import ShardedDedup  # noqa: PLC0415 - the same

    honest = ShardedDedup._claim_once  # noqa: SLF001 - the rule that is made wrong

    async def wrong(self: ShardedDedup, held: Any, claims: Any) -> Any:
        given, fence = await honest(self, held, claims)
        document = held.document
        names = [info.name for info in document.shards]

        async def ask(dedup_shard: DedupShard, keys: list[Any]) -> Sequence[Verdict]:
            asked = [Claim(key, claims[key], self.node) for key in keys]
            return await dedup_shard.claim(asked, ring_epoch=document.ring_epoch)

        pairs = [
            (names[(names.index(document.routes(key).authority) + 1) % len(names)], key)
            for key, answer in given.items()
            if isinstance(answer, Unavailable)
        ]
        for (_, key), answer in (await self.reach.spread(pairs, ask)).items():
            given[key] = answer
        return given, fence

    setattr(ShardedDedup, "_claim_once", wrong)  # noqa: B010 - on purpose


def shards_alone() -> None:
    """Have a process ask the dedup shards alone, as it must for what another process took."""
    from ..lookups import ShardLookups  # noqa: PLC0415 - beside its user

    class NoIndex:
        """Knows nothing."""

        def lookup(self, key: Any) -> None:
            """Find nothing."""

    honest = ShardLookups.ask

    def ask(self: ShardLookups, effect: Any) -> None:
        kept: Any = self._index
        aside: Any = NoIndex()
        self._index = aside
        try:
            honest(self, effect)
        finally:
            self._index = kept

    setattr(ShardLookups, "ask", ask)  # noqa: B010 - a method is replaced on purpose


def quick_mover() -> None:
    """Have the mover of the tiers rest for a second only; not wrong, only quick."""
    from .. import tier_service  # noqa: PLC0415 - an extra of the server

    method: Any = tier_service.TierService.open
    method.__func__.__kwdefaults__["interval_s"] = QUICK_S


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "lease-for-ever": lease_for_ever,
    "hot-is-all": hot_is_all,
    "error-is-absence": error_is_absence,
    "neighbour-fallback": neighbour_fallback,
    "shards-alone": shards_alone,
    "quick-mover": quick_mover,
}


def plant(name: str) -> None:
    """Put one wrong protocol in place. Raises KeyError for a name that is none."""
    PLANTS[name]()
