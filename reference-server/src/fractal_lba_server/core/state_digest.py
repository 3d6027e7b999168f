"""One digest of all outcomes that stand, kept up to date record by record.

This file owns how two regions tell that they hold the same (spec/reconcile.md 3). Each standing
outcome is one SHA-256 over its id, its place in the order of first writes and its content; the
digest of a window of time is the sum of those whose hybrid time lies in it, modulo 2^256, so it
can grow and shrink in any order. A region that has merged every frame up to a time T holds, for
windows before T, what every other such region holds: a frame that comes later has a larger time
and displaces nothing there.

Young windows are a second long; old ones are added up to five minutes, which changes no sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from . import hlc
from .first_write import Apply, Key, Stored, position

WINDOW_MS: Final = 1_000
"""Length of a young window."""

OLD_WINDOW_MS: Final = 300_000
"""Length of an old window, a multiple of the other."""

YOUNG_MS: Final = 3_600_000
"""Age at which windows are added up."""

_MODULUS: Final = 1 << 256


class Sum(NamedTuple):
    """What the outcomes of one window of time add up to."""

    records: int
    total: int

    def add(self, other: Sum) -> Sum:
        """Give the sum of two windows."""
        return Sum(self.records + other.records, (self.total + other.total) % _MODULUS)

    @property
    def digest(self) -> str:
        """Give the sum as 64 hex digits."""
        return f"{self.total:064x}"


NOTHING: Final = Sum(0, 0)


def entry_hash(key: Key, stored: Stored) -> int:
    """Give the number that one standing outcome adds."""
    text = f"{key[0]}|{key[1]}|{hlc.text(stored.hlc)}|{position(stored)}|{stored.content}|"
    return int.from_bytes(sha256(f"{text}{stored.status}".encode()).digest(), "big")


class StateDigest:
    """The sums of one placement."""

    def __init__(self) -> None:
        self._young: dict[int, Sum] = {}
        self._old: dict[int, Sum] = {}
        self._young_from_ms = 0

    def add(self, key: Key, stored: Stored) -> None:
        """Count an outcome that stands now."""
        self._change(stored, Sum(1, entry_hash(key, stored)))

    def remove(self, key: Key, stored: Stored) -> None:
        """Take back an outcome that stands no more."""
        self._change(stored, Sum(-1, _MODULUS - entry_hash(key, stored)))

    def apply(self, row: Apply) -> None:
        """Follow one row of the store."""
        if not row.wins:
            return
        if row.replaced is not None:
            self.remove(row.key, row.replaced)
        self.add(row.key, row.stored)

    def _change(self, stored: Stored, change: Sum) -> None:
        at_ms = stored.hlc >> hlc.COUNTER_BITS
        if at_ms >= self._young_from_ms:
            sums, window = self._young, at_ms // WINDOW_MS * WINDOW_MS
        else:
            sums, window = self._old, at_ms // OLD_WINDOW_MS * OLD_WINDOW_MS
        sums[window] = sums.get(window, NOTHING).add(change)

    def age(self, now_ms: int) -> None:
        """Add up the windows that have grown old."""
        young_from_ms = (now_ms - YOUNG_MS) // OLD_WINDOW_MS * OLD_WINDOW_MS
        if young_from_ms <= self._young_from_ms:
            return
        self._young_from_ms = young_from_ms
        for window in [one for one in self._young if one < young_from_ms]:
            old = window // OLD_WINDOW_MS * OLD_WINDOW_MS
            self._old[old] = self._old.get(old, NOTHING).add(self._young.pop(window))

    def windows(self, until_ms: int) -> dict[int, Sum]:
        """Give the sums of windows before a time, each as long as an old one, none that is empty.

        Two regions that have aged differently give the same windows, if the time is one that
        `comparable_ms` gives.
        """
        found: dict[int, Sum] = {}
        for window, one in (*self._old.items(), *self._young.items()):
            if window < until_ms:
                old = window // OLD_WINDOW_MS * OLD_WINDOW_MS
                found[old] = found.get(old, NOTHING).add(one)
        return {window: one for window, one in found.items() if one != NOTHING}


def comparable_ms(until_ms: int, now_ms: int) -> int:
    """Give the last time, at or before a stable one, up to which two regions can compare.

    Of an old window only the sum is known, and two regions add theirs up at different moments: long
    before that a time is taken back to where such a window begins (spec/reconcile.md 3.8).
    """
    step_ms = OLD_WINDOW_MS if until_ms < now_ms - YOUNG_MS // 2 else WINDOW_MS
    return until_ms // step_ms * step_ms


def total_of(entries: Iterable[tuple[Key, Stored]]) -> Sum:
    """Give the digest of a whole state, as two data directories are compared by."""
    found = NOTHING
    for key, stored in entries:
        found = found.add(Sum(1, entry_hash(key, stored)))
    return found


def differing(mine: Mapping[int, Sum], theirs: Mapping[int, Sum]) -> list[int]:
    """Name the windows whose sums differ."""
    both = mine.keys() | theirs.keys()
    return sorted(w for w in both if mine.get(w, NOTHING) != theirs.get(w, NOTHING))
