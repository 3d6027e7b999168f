"""The hot tier in the memory of the process.

The invariant of this file: the bytes that are held never exceed the bound, and no entry leaves
before its time. What finds no room is refused (spec/tiers.md 5.3).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from ...core.first_write import Key, Stored
from .protocols import TierSize

ENTRY_BYTES: Final = 700
"""What CPython takes for an entry beside its outcome: key, facts, tables (bench/tiers.py)."""

BYTES_MAX: Final = 256 * 1024 * 1024
"""Default bound: a day of 1 record/s, or 15 minutes of 250 records/s."""


class HotMemory:
    """Hold outcomes until their time; used on one event loop."""

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._generation = 0
        self._entries: dict[Key, tuple[int, Stored]] = {}
        self._ends: list[tuple[int, Key]] = []

    def get_now(self, key: Key, now_ms: int) -> Stored | None:
        """Give an entry whose time is not over."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > now_ms else None

    async def get(self, key: Key, now_ms: int) -> Stored | None:
        return self.get_now(key, now_ms)

    async def put(
        self, key: Key, stored: Stored, *, until_ms: int, generation: int, now_ms: int
    ) -> bool:
        if generation != self._generation or until_ms <= now_ms:
            return False
        self._drop_ended(now_ms)
        self._drop(key)
        size = ENTRY_BYTES + len(stored.outcome)
        if self._bytes + size > self._bytes_max:
            return False
        self._entries[key] = (until_ms, stored)
        self._bytes += size
        heapq.heappush(self._ends, (until_ms, key))
        return True

    async def forget(self, keys: Sequence[Key], generation: int) -> None:
        self._generation = generation
        for key in keys:
            self._drop(key)

    async def begin(self, generation: int) -> None:
        self._generation = generation
        self._entries.clear()
        self._ends.clear()
        self._bytes = 0

    async def size(self) -> TierSize:
        return TierSize(len(self._entries), self._bytes)

    async def close(self) -> None:
        await self.begin(self._generation)

    def _drop_ended(self, now_ms: int) -> None:
        while self._ends and self._ends[0][0] <= now_ms:
            until_ms, key = heapq.heappop(self._ends)
            entry = self._entries.get(key)
            if entry is not None and entry[0] == until_ms:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= ENTRY_BYTES + len(entry[1].outcome)
