"""A dedup shard in the memory of one process: for tests, and for drills inside a process.

It forgets everything when the process ends, so no region that runs on keeps its ids here alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from ...core import dedup
from ...core.dedup import Claim, Entry, Ranges, StaleRingEpoch, Verdict
from ...core.first_write import Key
from .batches import Clock, unix_ms

Place = tuple[int, bytes]


class MemoryShard:
    """The pure rule of a row over a dict; a call runs without a pause, so it is atomic."""

    def __init__(
        self, name: str, *, now_ms: Clock = unix_ms, grace_ms: int = dedup.GRACE_MS
    ) -> None:
        self.name = name
        self._now_ms = now_ms
        self._grace_ms = grace_ms
        self._rows: dict[Key, Entry] = {}
        self._places: list[Place] = []
        self._fence = 0

    async def start(self) -> None:
        """There is nothing to reach."""

    async def claim(self, claims: Sequence[Claim], *, ring_epoch: int) -> list[Verdict]:
        """Decide about each claim, in order."""
        self._pass(ring_epoch)
        now_ms, verdicts = self._now_ms(), []
        for claim in claims:
            row = self._rows.get(claim.key)
            verdict, stands = dedup.claim_row(row, claim, now_ms, grace_ms=self._grace_ms)
            self._put(claim.key, stands)
            verdicts.append(verdict)
        return verdicts

    async def complete(self, entries: Sequence[Entry], *, ring_epoch: int) -> None:
        """Put outcomes where their claims were."""
        await self.put_if_first(entries, ring_epoch=ring_epoch)

    async def release(self, keys: Sequence[Key], owner: str, *, ring_epoch: int) -> None:
        """Give back claims of this owner."""
        self._pass(ring_epoch)
        for key in keys:
            self._put(key, dedup.release_row(self._rows.get(key), owner))

    async def lookup(self, keys: Sequence[Key]) -> list[Entry | None]:
        """Give what stands under each key."""
        return [self._rows.get(key) for key in keys]

    async def put_if_first(self, entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
        """Put each entry that comes before what stands; give what stands now."""
        self._pass(ring_epoch)
        now_ms, standing = self._now_ms(), []
        for entry in entries:
            row = self._rows.get(entry.key)
            stands = dedup.first_of(row, entry, now_ms, grace_ms=self._grace_ms)
            self._put(entry.key, stands)
            standing.append(stands)
        return standing

    async def scan(
        self, *, ranges: Ranges, after: tuple[int, Key] | None, limit: int
    ) -> list[Entry]:
        """Give entries of these ranges behind `after`, in order."""
        behind = (-1, b"") if after is None else dedup.place_of(after[1])
        found: list[Entry] = []
        for lo, hi in ranges:
            start = max(bisect_left(self._places, (lo, b"")), bisect_right(self._places, behind))
            end = bisect_left(self._places, (hi + 1, b""))
            places = self._places[start:end][: limit - len(found)]
            found += [self._rows[dedup.key_of(hashed)] for _, hashed in places]
        return found

    async def digest(self, ranges: Ranges) -> list[tuple[int, bytes]]:
        """Give number and digest of the entries of each range."""
        sums = []
        for span in ranges:
            entries = await self.scan(ranges=[span], after=None, limit=len(self._places))
            sums.append(
                dedup.range_digest(
                    dedup.entry_digest(dedup.place_of(entry.key)[1], dedup.encode_row(entry))
                    for entry in entries
                )
            )
        return sums

    async def delete(self, keys: Sequence[Key], *, ring_epoch: int) -> int:
        """Delete entries; give how many there were."""
        self._pass(ring_epoch)
        before = len(self._rows)
        for key in keys:
            self._put(key, None)
        return before - len(self._rows)

    async def count(self) -> int:
        """Count the entries."""
        return len(self._rows)

    async def fence(self) -> int:
        """Give the smallest ring epoch under which writes are taken."""
        return self._fence

    async def set_fence(self, ring_epoch: int) -> None:
        """Raise the fence."""
        self._fence = max(self._fence, ring_epoch)

    async def close(self) -> None:
        """There is nothing to let go of; what is here stays until the process ends."""

    def _pass(self, ring_epoch: int) -> None:
        if ring_epoch < self._fence:
            raise StaleRingEpoch(self._fence)

    def _put(self, key: Key, entry: Entry | None) -> None:
        known = key in self._rows
        if entry is not None:
            self._rows[key] = entry
            if not known:
                insort(self._places, dedup.place_of(key))
        elif known:
            del self._rows[key]
            del self._places[bisect_left(self._places, dedup.place_of(key))]
