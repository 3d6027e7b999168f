"""What makes two copies of an entry of a dedup shard agree again.

This file owns that rule (spec/dedup.md 9): the dedup shard that decides is right about what it
knows, an outcome that was acknowledged is never dropped, and of two outcomes the first write
stands, whatever arrived last. Whoever mends reads both sides again afterwards, because writers go
on meanwhile, and mends until nothing has to be.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .dedup import CLAIMED, Entry, decode_stored, has_expired

ROUNDS_MAX: Final = 8
"""Times that one entry is looked at again; writers that change it faster than that do not exist."""


class Mend(NamedTuple):
    """What to do: entries that are put if they are first, and whether the copy goes before it."""

    at_authority: Entry | None = None
    at_copy: Entry | None = None
    delete_copy: bool = False
    damaged: bool = False
    """The dedup shard that decides holds an entry that disagrees with itself: no rule mends it."""

    @property
    def needed(self) -> bool:
        """Say whether there is anything to do."""
        return self != AGREED


AGREED: Final = Mend()


def mend(authority: Entry | None, copy: Entry | None, now_ms: int) -> Mend:
    """Say what makes the copy agree with the dedup shard that decides (dedup 9.4 to 9.7)."""
    own, other = alive(authority, now_ms), alive(copy, now_ms)
    if own is not None and not is_sound(own):
        return Mend(damaged=True)
    if own == other:
        return AGREED
    if other is None:
        return Mend(at_copy=own)
    if own is None and authority is not None and authority.order == other.order:
        return Mend(delete_copy=True)  # the same write, over by the expiry that counts (H12)
    if other.state == CLAIMED or not is_sound(other):
        # A claim of the copy says nothing that its own side would not say, and a damaged entry
        # nothing at all. One that was claimed alone is completed in place.
        finishes = own is not None and own.state != CLAIMED and other.state == CLAIMED
        return Mend(at_copy=own, delete_copy=not finishes)
    if own is None or own.state == CLAIMED or _is_before(other, own):
        return Mend(at_authority=other)
    # The first write stands at the authority: it wins at the copy, unless both claim to be the
    # same write and differ in what no write can change.
    return Mend(at_copy=own, delete_copy=not _is_before(own, other))


def alive(entry: Entry | None, now_ms: int) -> Entry | None:
    """Take an entry whose time is over for none: each side drops it when it pleases (H12)."""
    return None if entry is None or has_expired(entry, now_ms) else entry


def is_sound(entry: Entry) -> bool:
    """Say whether an entry agrees with itself: its order and content are those of its outcome."""
    if entry.state == CLAIMED:
        return entry.order is None and entry.stored is None
    if entry.order is None or entry.stored is None:
        return False
    try:
        stored = decode_stored(entry.stored)
    except ValueError:
        return False
    order = entry.order
    found = (stored.hlc, stored.origin.region_epoch, stored.seq, stored.content)
    return found == (order.hlc, order.region_epoch, order.seq, entry.content)


def _is_before(a: Entry, b: Entry) -> bool:
    """Say whether a is an earlier write than b; both are done."""
    return a.order is not None and b.order is not None and a.order < b.order
