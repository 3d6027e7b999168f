"""Own what a region holds under each id: what stands, what was overridden, how far it has come.

The index follows the logs row by row and is never ahead of them. It is kept on the disk of the
region; a process that ends loses the rows that it had not carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Final

from fractal_lba_server.core.first_write import Apply, Key, Stored

Stream = tuple[str, str]
"""Region and placement."""

Watcher = Callable[[Apply], None]

MODULUS = 1 << 256


class Index:
    """The rows of one region."""

    def __init__(self) -> None:
        self.standing: dict[Key, Stored] = {}
        self.overridden: dict[Key, list[Stored]] = {}
        self.applied: dict[Stream, int] = {}
        self.watchers: list[Watcher] = []
        """Who hears of each row before it is carried out."""

    def copy(self) -> Index:
        """Give a copy as it is now."""
        other = Index()
        other.standing = dict(self.standing)
        other.overridden = {key: list(rows) for key, rows in self.overridden.items()}
        other.applied = dict(self.applied)
        return other

    def lookup(self, key: Key) -> Stored | None:
        """Give what stands under an id."""
        return self.standing.get(key)

    def others(self, key: Key) -> tuple[Stored, ...]:
        """Give what does not stand under an id."""
        return tuple(self.overridden.get(key, ()))

    def applied_seq(self, region: str, placement: str) -> int:
        """Say how far the index has followed a stream."""
        return self.applied.get((region, placement), 0)

    def apply(self, rows: Iterable[Apply]) -> int:
        """Carry out rows, in order; one that is here already changes nothing."""
        count = 0
        for row in rows:
            self.apply_one(row)
            count += 1
        return count

    def apply_one(self, row: Apply) -> None:
        """Carry out one row."""
        stored = row.stored
        stream = (stored.origin.region, stored.origin.placement)
        if stored.seq <= self.applied.get(stream, 0):
            return
        for watcher in self.watchers:
            watcher(row)
        self.applied[stream] = stored.seq
        loser = row.replaced if row.wins else stored
        if row.wins:
            self.standing[row.key] = stored
        if loser is not None:
            self.overridden.setdefault(row.key, []).append(loser)


NAMED_MAX: Final = 1 << 15
"""Frames whose names and hashes are remembered: each is asked for by every region and again."""


def frame_name(stored: Stored) -> str:
    """Name a frame as a trace does: where and when it was written."""
    return f"{stored.origin.region}:{stored.hlc:016x}"


@lru_cache(maxsize=NAMED_MAX)
def state_hash(key: Key, stored: Stored) -> int:
    """Give the number that one standing outcome adds to the digest of a placement.

    It is the simulator's own, not the server's: a wrong digest there cannot hide a difference.
    """
    text = f"{key[0]}/{key[1]} {frame_name(stored)} {stored.content[:16]}\n"
    return int.from_bytes(sha256(text.encode()).digest())
