"""The fate of many records at once: the rules of single records, over arrays.

The invariant of this file: each function gives, element by element, what the scalar rule that it
names gives; nothing is decided here that is not decided there, and nothing else is vectorised. The
simulator's planning engine, which carries millions of records, is its user; the server is not.

Stamps are signed 64-bit integers here, which is enough until the year 6429. numpy is all it needs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .dedup import GRACE_MS
from .first_write import DISPLACED, DUPLICATE, SAME
from .governor import REFUSE_MS_MIN, SOFT_SHARE
from .hlc import COUNTER_BITS

Whole = NDArray[np.int64]
Truth = NDArray[np.bool_]

KINDS: Final = (SAME, DUPLICATE, DISPLACED)
"""What `merge` says in numbers: 0, 1, 2."""

NOT_REFUSING: Final = -1
"""In place of the moment since when a governor refuses."""

NO_LEASE_NEEDED: Final = -1
"""In place of the end of a lease."""

NEVER: Final = -1
"""In place of an expiry."""

_NS_PER_MS: Final = 1_000_000


class Frames(NamedTuple):
    """Frames, one an element: the parts of `first_write.Order`, and a number for each content."""

    hlc: Whole
    rank: Whole
    region_epoch: Whole
    seq: Whole
    content: Whole


class Met(NamedTuple):
    """What pairs of frames of one id make: whether the first of a pair stands, and the kind."""

    wins: Truth
    kind: Whole


class Paces(NamedTuple):
    """What writes meet, and since when their governors refuse."""

    wait_ms: Whole
    refuse: Truth
    since_ns: Whole


def comes_first(a: Frames, b: Frames) -> Truth:
    """Say whether each frame of `a` comes no later than that of `b` (`first_write.order_of`)."""
    less = np.zeros(a.hlc.shape, dtype=np.bool_)
    equal = np.ones(a.hlc.shape, dtype=np.bool_)
    for mine, other in zip(a[:4], b[:4], strict=True):
        less |= equal & (mine < other)
        equal &= mine == other
    return less | equal


def merge(a: Frames, b: Frames) -> Met:
    """Say which of two frames of one id stands, and what the other is (`first_write.merge`)."""
    wins = comes_first(a, b)
    same = wins & comes_first(b, a)
    kind = np.where(a.content == b.content, 1, 2)
    return Met(wins, np.where(same, 0, kind))


def resolve(frames: Frames, standing: Frames, stands: Truth) -> tuple[Truth, Truth]:
    """Say of durable frames which are new to their ids and which win (`first_write.resolve`).

    Where nothing stands a frame is new and wins; the same frame again is neither.
    """
    met = merge(frames, standing)
    new = ~stands | (met.kind != 0)
    return new, new & (~stands | met.wins)


def replicated(held: Whole, copies: int) -> Whole:
    """Give up to which number logs are in enough regions (`levels.Levels.acked`).

    `held` has a row for each peer and a column for each log.
    """
    needed = copies - 1
    if not 0 < needed <= held.shape[0]:
        return np.zeros(held.shape[1], dtype=np.int64)
    return np.asarray(-np.sort(-held, axis=0)[needed - 1])


def decide(rpo_ms: Whole, since_ns: Whole, lag_ms: Whole, now_ns: Whole) -> Paces:
    """Say what one write of each tenant meets (`governor.Governor.decide`)."""
    soft_ms = (rpo_ms * SOFT_SHARE).astype(np.int64)
    over = lag_ms >= rpo_ms
    refusing = since_ns != NOT_REFUSING
    since_ns = np.where(over & ~refusing, now_ns, since_ns)
    long_enough = now_ns - since_ns >= REFUSE_MS_MIN * _NS_PER_MS
    ends = refusing & ~over & long_enough & (lag_ms < soft_ms)
    since_ns = np.where(ends, NOT_REFUSING, since_ns)
    refuse = since_ns != NOT_REFUSING
    slowed = 1 + (lag_ms - soft_ms) * soft_ms // (rpo_ms - soft_ms)
    wait_ms = np.where(lag_ms < soft_ms, 0, slowed)
    wait_ms = np.where(refuse, np.maximum(REFUSE_MS_MIN, lag_ms - soft_ms), wait_ms)
    return Paces(wait_ms, refuse, since_ns)


def may_write(until_ns: Whole, now_ns: Whole) -> Truth:
    """Say whether records may be taken under leases (`streams.Stream.may_write`)."""
    return np.asarray((until_ns == NO_LEASE_NEEDED) | (now_ns < until_ns))


def ticks(last: int, now_ns: Whole) -> Whole:
    """Give the stamps of local events, one after the other (`hlc.tick`)."""
    place = np.arange(1, len(now_ns) + 1, dtype=np.int64)
    base = (now_ns // _NS_PER_MS) << COUNTER_BITS
    # Each stamp is the present, or as far behind an earlier present as events lie between.
    ahead = np.maximum.accumulate(np.concatenate((np.array([last], dtype=np.int64), base - place)))
    return np.asarray(ahead[1:] + place)


def has_expired(expires_at_ms: Whole, now_ms: Whole, *, grace_ms: int = GRACE_MS) -> Truth:
    """Say which entries are no longer there for a claim (`dedup.has_expired`)."""
    return np.asarray((expires_at_ms != NEVER) & (expires_at_ms + grace_ms <= now_ms))
