"""Keeps the digest of each placement's state beside the index (core/state_digest.py).

The invariant of this file: a digest counts every outcome that stands exactly once, although the
index is read while it is being written. The reading sees one moment of the index; rows that were
applied after that moment, as their numbers say, are counted after the reading.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from ..core.first_write import Apply
from ..core.state_digest import StateDigest
from .sqlite import Snapshot


class States:
    """The digests by placement. Any thread may ask; one applies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: dict[str, StateDigest] = {}
        self._waiting: list[Apply] | None = None
        """Rows that come while the index is read; None before and after."""
        self.is_whole = False
        """Whether everything that is in the index is counted."""

    def applied(self, rows: Sequence[Apply]) -> None:
        """Count rows that the index has committed."""
        with self._lock:
            if self._waiting is not None:
                self._waiting += rows
            elif self.is_whole:
                self._count(rows)

    def _count(self, rows: Sequence[Apply]) -> None:
        for row in rows:
            self.digest(row.stored.origin.placement).apply(row)

    def digest(self, placement: str) -> StateDigest:
        """Give the digest of a placement; call it under `locked` if others may apply."""
        return self._digests.setdefault(placement, StateDigest())

    @property
    def locked(self) -> threading.Lock:
        """Give the lock that holds everybody off who applies."""
        return self._lock

    def fill(self, path: Path) -> None:
        """Count what the index holds, once. For a thread of its own."""
        with self._lock:
            self._waiting = []  # what is applied before this is in the snapshot
        snapshot = Snapshot(path)
        for key, stored in snapshot.entries():
            self.digest(stored.origin.placement).add(key, stored)
        with self._lock:
            waiting, self._waiting = self._waiting, None
            self._count([row for row in waiting if not snapshot.holds(row.stored)])
            self.is_whole = True
