"""Try out what a migration relies on: the reverse path, canaries, samples of what moves.

A *canary* is an entry that is known to be there: whoever does not find it where the ring document
says would take its duplicate for a new record, so one lost canary is an alarm (H11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .core.dedup import DONE, Entry, encode_stored
from .core.first_write import Key, Order, Origin, Stored
from .core.mending import alive
from .core.ranges import Span
from .core.ring_document import RingDocument
from .dedup_transfer import Fleet, Report, Transfer, listed, pairs_of

PROBE_TENANT: Final = "~probe"
"""No tenant has this name: `~` is not allowed in one."""

PROBE_MS: Final = 60_000
"""After this time an entry that a probe left behind expires."""

CANARIES: Final = 200
"""Known entries that are asked for again and again; a loss of 1 % of the keys is then found by
one look with probability 0.87."""

SAMPLE_HASHES: Final = 1 << 16
"""Hashes of one sampled range: 1 key in 65,000 falls into it."""


async def probe_reverse(fleet: Fleet, document: RingDocument, migration: str, now_ms: int) -> bool:
    """Write an entry the way that reverse writes will go, read it, take it away again."""
    good = True
    for pair in pairs_of(document):
        entry = _probe_entry(f"{migration} {pair.name}", now_ms)
        for name in (pair.copy, pair.authority):
            dedup_shard = await fleet.get(name)
            await dedup_shard.put_if_first([entry], ring_epoch=document.ring_epoch)
            good = good and await dedup_shard.lookup([entry.key]) == [entry]
            await dedup_shard.delete([entry.key], ring_epoch=document.ring_epoch)
    return good


def _probe_entry(name: str, now_ms: int) -> Entry:
    digest = hashlib.sha256(name.encode()).hexdigest()
    stored = Stored(1, digest, 200, b"{}", Origin("prb", "open", 1), now_ms << 16)
    order = Order(stored.hlc, 0, 1, 1)
    return Entry(
        (PROBE_TENANT, digest), DONE, "probe", digest, order, encode_stored(stored),
        now_ms + PROBE_MS,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Canaries:
    """Entries that were there, and must be found where the ring document says, unchanged."""

    entries: tuple[Entry, ...]

    @classmethod
    async def catch(
        cls, fleet: Fleet, document: RingDocument, *, count: int = CANARIES
    ) -> Canaries:
        """Take some outcomes from every pair; ranges in turn, so that they are spread."""
        found: list[Entry] = []
        pairs = pairs_of(document)
        for pair in pairs:
            dedup_shard = await fleet.get(pair.authority)
            share = -(-count // len(pairs))
            each = max(1, share // len(pair.spans))
            taken: list[Entry] = []
            for span in pair.spans:
                page = await dedup_shard.scan(ranges=(span,), after=None, limit=each)
                taken += [entry for entry in page if entry.state == DONE]
                if len(taken) >= share:
                    break
            found += taken[:share]
        return cls(tuple(found))

    async def lost(self, fleet: Fleet, document: RingDocument, now_ms: int) -> list[Key]:
        """Name those that would be taken for new, or would get another answer, now."""
        groups: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if alive(entry, now_ms) is not None:
                groups.setdefault(document.routes(entry.key).authority, []).append(entry)
        lost: list[Key] = []
        for name, entries in groups.items():
            dedup_shard = await fleet.get(name)
            held = await dedup_shard.lookup([entry.key for entry in entries])
            lost += [
                entry.key
                for entry, found in zip(entries, held, strict=True)
                if found is None or found.content != entry.content or not _no_later(found, entry)
            ]
        return lost


def _no_later(found: Entry, entry: Entry) -> bool:
    return found.order is not None and entry.order is not None and found.order <= entry.order


async def sample_differences(transfer: Transfer, fleet: Fleet, chance: Callable[[], float]) -> int:
    """Compare a small range of every pair, drawn by chance; give how many entries differ (F071)."""
    report = Report()
    count = 0
    for pair in transfer.pairs:
        span = pair.spans[int(chance() * len(pair.spans))]
        lo = span.lo + int(chance() * (span.hi - span.lo + 1))
        part = Span(lo, min(span.hi, lo + SAMPLE_HASHES - 1))
        theirs = await listed(await fleet.get(pair.copy), (part,))
        mine = await listed(await fleet.get(pair.authority), (part,))
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        count += await transfer.settle(pair.authority, pair.copy, keys, report, mending=False)
    return count
