"""Delete what dedup shards still hold of ranges that others own now: list first, delete later.

This file owns the second half of a cleanup (spec/dedup.md 8.4): a key is deleted only after its
owner was seen to hold its outcome, and only if nothing was added since the list was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from fractal_lba.ring import HASHES

from .core.dedup import CLAIMED, DedupShard, Entry
from .core.mending import alive
from .core.migration import Listed
from .core.ranges import Span
from .core.ring_document import RingDocument, ring_of
from .dedup_transfer import BATCH_ENTRIES, Fleet, Pair, TransferError


class Leftovers:
    """Work on pairs whose `authority` owns the ranges and whose `copy` holds leftovers."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        fleet: Fleet,
        *,
        ring_epoch: int,
        now_ms: Callable[[], int],
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._pairs = pairs
        self._fleet = fleet
        self._ring_epoch = ring_epoch
        self._now_ms = now_ms
        self._step = step

    async def list(self) -> tuple[Listed, ...]:
        """Count and digest them, pair by pair."""
        return tuple([await self._list_pair(pair) for pair in self._pairs])

    async def _list_pair(self, pair: Pair) -> Listed:
        dedup_shard = await self._fleet.get(pair.copy)
        sums = await dedup_shard.digest(pair.spans)
        digest = hashlib.sha256(b"".join(each[1] for each in sums)).hexdigest()
        return Listed(pair.copy, pair.authority, sum(each[0] for each in sums), digest)

    async def check(self, kept: Sequence[Listed]) -> None:
        """Refuse a list that is no longer true: somebody writes where nobody should.

        Entries that expired meanwhile may be gone.
        """
        for before, now in zip(kept, await self.list(), strict=True):
            if now != before and now.entries >= before.entries:
                raise TransferError(
                    f"{now.dedup_shard} changed in ranges of {now.owner} since they were listed: "
                    f"{before.entries} entries then, {now.entries} now"
                )

    async def delete(self, told: Callable[[int], None] = lambda _: None) -> int:
        """Delete them, batch by batch; what is gone is gone, so this can begin again anywhere."""
        total = 0
        for pair in self._pairs:
            dedup_shard = await self._fleet.get(pair.copy)
            owner = await self._fleet.get(pair.authority)
            while page := await dedup_shard.scan(
                ranges=pair.spans, after=None, limit=BATCH_ENTRIES
            ):
                await self._see_owned(page, owner)
                keys = [entry.key for entry in page]
                await dedup_shard.delete(keys, ring_epoch=self._ring_epoch)
                self._step("deleted a batch")
                total += len(page)
                told(len(page))
        return total

    async def _see_owned(self, page: Sequence[Entry], owner: DedupShard) -> None:
        """See that the owner holds the outcomes; one whose completion is still due is put there."""
        now_ms = self._now_ms()
        outcomes = [e for e in page if e.state != CLAIMED and alive(e, now_ms) is not None]
        held = await owner.lookup([entry.key for entry in outcomes])
        lacking = [
            entry
            for entry, found in zip(outcomes, held, strict=True)
            if found is None or found.order is None or _is_before(entry, found)
        ]
        if lacking:
            await owner.put_if_first(lacking, ring_epoch=self._ring_epoch)
            held = await owner.lookup([entry.key for entry in outcomes])
        for entry, found in zip(outcomes, held, strict=True):
            if found is None or not (found.content == entry.content or _is_before(found, entry)):
                raise TransferError(
                    f"{owner.name} does not hold {'/'.join(entry.key)} as it is here: it stays"
                )


def _is_before(a: Entry, b: Entry) -> bool:
    """Say whether a is an earlier write than b."""
    return a.order is not None and b.order is not None and a.order < b.order


async def bring_home(
    fleet: Fleet, document: RingDocument, spans: Mapping[str, Sequence[Span]]
) -> int:
    """Put entries that lie where nobody asks for them to their owners, then delete them there."""
    total = 0
    for name, strange in spans.items():
        dedup_shard = await fleet.get(name)
        while page := await dedup_shard.scan(ranges=strange, after=None, limit=BATCH_ENTRIES):
            homes: dict[str, list[Entry]] = {}
            for entry in page:
                homes.setdefault(document.routes(entry.key).authority, []).append(entry)
            for owner, entries in homes.items():
                home = await fleet.get(owner)
                await home.put_if_first(entries, ring_epoch=document.ring_epoch)
            keys = [entry.key for entry in page]
            total += await dedup_shard.delete(keys, ring_epoch=document.ring_epoch)
    return total


def strange_spans(name: str, document: RingDocument) -> list[Span]:
    """Give the ranges of which a dedup shard should hold nothing."""
    ring = ring_of(document.shards)
    owned = ring.ranges(name) if any(each.name == name for each in ring.shards) else []
    edges = [-1, *(edge for span in owned for edge in span), HASHES]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return [Span(lo + 1, hi - 1) for lo, hi in gaps if lo + 1 < hi]
