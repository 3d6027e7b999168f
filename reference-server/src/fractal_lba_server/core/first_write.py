"""Which of several durable outcomes of one id stands: the first write, everywhere the same.

This file owns the total order of first writes (spec/formats.md 5.5) and what it makes of two
outcomes that meet. The order is of the frames alone, so that regions which have seen the same
frames hold the same outcomes, whatever the order in which the frames arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

Key = tuple[str, str]
"""What an outcome is known by: (tenant, pcs_id)."""

Rank = Callable[[str], int]
"""Gives the rank of a region: its position in the list of regions, never reused."""


class Origin(NamedTuple):
    """Names the stream that a frame was first written to, and that stream's incarnation."""

    region: str
    placement: str
    region_epoch: int


class Order(NamedTuple):
    """The place of a frame among all frames of all regions; the smallest is the first write."""

    hlc: int
    rank: int
    region_epoch: int
    seq: int


class Stored(NamedTuple):
    """A durable decision: what every answer about its id is made of."""

    seq: int
    content: str
    status: int
    outcome: bytes
    origin: Origin
    hlc: int


def order_of(stored: Stored, rank: Rank) -> Order:
    """Give the place of an outcome's frame."""
    origin = stored.origin
    return Order(stored.hlc, rank(origin.region), origin.region_epoch, stored.seq)


SAME: Final = "same"
"""Twice the same frame: a replay."""

DUPLICATE: Final = "duplicate"
"""Two regions took the same content; both clients hold a true success."""

DISPLACED: Final = "displaced"
"""Two regions took different content under one id; one acknowledgement is overridden."""


class Merge(NamedTuple):
    """What two outcomes of one id make: one stands, the other is kept as overridden."""

    winner: Stored
    other: Stored
    kind: str


def merge(a: Stored, b: Stored, rank: Rank) -> Merge:
    """Say which of two outcomes of one id stands."""
    order_a, order_b = order_of(a, rank), order_of(b, rank)
    if order_a == order_b:
        return Merge(a, b, SAME)
    first, second = (a, b) if order_a < order_b else (b, a)
    kind = DUPLICATE if first.content == second.content else DISPLACED
    return Merge(first, second, kind)


class Apply(NamedTuple):
    """Put the outcome of a durable frame into the store; frames of one stream come in order.

    Where `wins`, the outcome stands from now on, and `replaced` is the one that stood before;
    otherwise another stands and this one is kept as overridden.
    """

    key: Key
    stored: Stored
    kid: str
    wins: bool = True
    replaced: Stored | None = None


def resolve(key: Key, frame: Stored, kid: str, standing: Stored | None, rank: Rank) -> Apply | None:
    """Say what a durable frame makes of the outcome that stands; None if it is that outcome."""
    if standing is None:
        return Apply(key, frame, kid)
    met = merge(frame, standing, rank)
    if met.kind == SAME:
        return None
    if met.winner is frame:
        return Apply(key, frame, kid, wins=True, replaced=standing)
    return Apply(key, frame, kid, wins=False)


def position(stored: Stored) -> str:
    """Write where a frame stands: region, placement, region epoch, number (spec/formats.md 4.1)."""
    return f"{place(stored.origin)}{stored.seq}"


@lru_cache(maxsize=1_024)
def place(origin: Origin) -> str:
    """Write what stands before the number in every position of a stream."""
    return f"{origin.region}/{origin.placement}/{origin.region_epoch}/"
