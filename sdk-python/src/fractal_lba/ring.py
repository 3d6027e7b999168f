"""Own the hash ring: which dedup shard owns a key, and what moves from ring to ring (spec/ring.md).

    >>> ring = Ring([Shard("eu-a"), Shard("eu-b"), Shard("eu-c", weight=2)])
    >>> ring.pick(ring_key("acme", "a" * 64))
    'eu-c'
    >>> ring.pick_n(ring_key("acme", "a" * 64), 2)
    ['eu-c', 'eu-b']

A ring is a value and knows nothing of health: who is down keeps what it owns.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from typing import NamedTuple

from .errors import ConfigError, ValidationError

VNODES = 150
"""Points of one unit of weight, where nothing is said."""

VNODES_MAX = 1024
"""Most points of one unit of weight."""

SHARDS_MAX = 1024
"""Most shards of a ring, and most names that one call lists."""

WEIGHT_MAX = 16
"""Largest weight of a shard."""

POINTS_MAX = 1 << 20
"""Most points of a ring: about a second of hashing and 100 MB."""

HASHES = 1 << 32
"""How many hashes there are."""

_NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shard:
    """Name one dedup shard and its weight: 150 points for each unit of it, by default."""

    name: str
    weight: int = 1


class Range(NamedTuple):
    """Hashes from `lo` to `hi`, both inclusive."""

    lo: int
    hi: int


class Arc(NamedTuple):
    """Hashes from `lo` to `hi`, both inclusive, and who owns them."""

    lo: int
    hi: int
    owner: str


class Moved(NamedTuple):
    """Hashes from `lo` to `hi`, both inclusive, and who owns them before and after."""

    lo: int
    hi: int
    source: str
    target: str


class Movement(NamedTuple):
    """What changes its owner between two rings: its exact share of all hashes, and where it is."""

    share: Fraction
    ranges: list[Moved]


def hash_point(data: bytes) -> int:
    """Give the first 4 bytes of the SHA-256 as an unsigned integer, big-endian (ring 2.1)."""
    return int.from_bytes(sha256(data).digest()[:4], "big")


def ring_key(tenant: str, pcs_id: str) -> bytes:
    """Write the key of a record: `<tenant>|<pcs_id>` in UTF-8 (ring 2.4)."""
    return _encoded(f"{tenant}|{pcs_id}")


class Ring:
    """Spread keys over dedup shards; the order of the shards changes nothing.

    Raises ConfigError for shards that are no ring (ring 1.1 to 1.4).
    """

    __slots__ = ("_owners", "_points", "shards", "vnodes")

    def __init__(self, shards: Iterable[Shard], *, vnodes: int = VNODES) -> None:
        self.shards = tuple(shards)
        self.vnodes = vnodes
        _check(self.shards, vnodes)
        points = sorted(
            (hash_point(b"%b#%d" % (shard.name.encode(), i)), shard.name)
            for shard in self.shards
            for i in range(vnodes * shard.weight)
        )
        self._points = [point for point, _ in points]
        # One name more than points: behind the last point the first one follows.
        self._owners = [name for _, name in points] + [points[0][1]]

    def __repr__(self) -> str:
        return f"Ring({list(self.shards)}, vnodes={self.vnodes})"

    @property
    def point_count(self) -> int:
        """Give the number of points."""
        return len(self._points)

    @staticmethod
    def point(key: bytes | str) -> int:
        """Give the hash of a key, 0 to 2^32 - 1."""
        return hash_point(key if isinstance(key, bytes) else _encoded(key))

    def pick(self, key: bytes | str) -> str:
        """Name the owner of a key (ring 3.1)."""
        return self._owners[bisect_left(self._points, self.point(key))]

    def pick_n(self, key: bytes | str, n: int) -> list[str]:
        """Name the owner, then the next other shards in ring order, up to n (ring 3.2)."""
        _check_integer("n", n, SHARDS_MAX)
        names: dict[str, None] = {}
        at = bisect_left(self._points, self.point(key))
        while len(names) < min(n, len(self.shards)):
            names[self._owners[at % len(self._points)]] = None
            at += 1
        return list(names)

    def shares(self) -> dict[str, Fraction]:
        """Give the exact share of every shard (ring 4.1)."""
        counts = {shard.name: 0 for shard in self.shards}
        for lo, hi, name in self.arcs():
            counts[name] += hi - lo + 1
        return {name: Fraction(count, HASHES) for name, count in counts.items()}

    def ranges(self, name: str) -> list[Range]:
        """Give the hashes that a shard owns, as the fewest ranges, ascending (ring 4.2)."""
        if all(shard.name != name for shard in self.shards):
            raise ConfigError("config_invalid", f"name: the ring has no shard {name!r}")
        return [Range(lo, hi) for lo, hi, owner in self.arcs() if owner == name]

    def arcs(self) -> Iterator[Arc]:
        """Yield every hash once with its owner, as the fewest inclusive ranges, ascending."""
        lo, hi, owner = 0, -1, self._owners[0]
        for point, name in zip([*self._points, HASHES - 1], self._owners, strict=True):
            # Of equal points the later ones own nothing; so does the end, if a point is there.
            if point == hi:
                continue
            if name != owner:
                yield Arc(lo, hi, owner)
                lo, owner = hi + 1, name
            hi = point
        yield Arc(lo, hi, owner)


def movement(old: Ring, new: Ring) -> Movement:
    """Compare two rings: what changes its owner, as the fewest ranges, ascending (ring 4.3)."""
    ranges = [piece for piece in _pieces(old, new) if piece.source != piece.target]
    share = Fraction(sum(each.hi - each.lo + 1 for each in ranges), HASHES)
    return Movement(share, ranges)


def _pieces(old: Ring, new: Ring) -> Iterator[Moved]:
    """Yield every hash once, in the fewest ranges over which neither ring changes the owner."""
    befores, afters = old.arcs(), new.arcs()
    lo, end, last = 0, -1, -1
    source = target = ""
    while lo < HASHES:
        if end < lo:
            _, end, source = next(befores)
        if last < lo:
            _, last, target = next(afters)
        hi = min(end, last)
        yield Moved(lo, hi, source, target)
        lo = hi + 1


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValidationError("string_surrogate", "key: an unpaired surrogate") from None


def _check(shards: tuple[Shard, ...], vnodes: int) -> None:
    """Refuse what is no ring, before anything is hashed."""
    _check_integer("vnodes", vnodes, VNODES_MAX)
    _check_integer("shards", len(shards), SHARDS_MAX)
    seen: set[str] = set()
    for index, shard in enumerate(shards):
        if not isinstance(shard.name, str) or not _NAME.fullmatch(shard.name):
            said = f"expected [a-z0-9-], 1 to 64 of them, got {shard.name!r:.80}"
            raise ConfigError("config_invalid", f"shards[{index}].name: {said}")
        if shard.name in seen:
            raise ConfigError(
                "config_invalid", f"shards[{index}].name: {shard.name} is there twice"
            )
        seen.add(shard.name)
        _check_integer(f"shards[{index}].weight", shard.weight, WEIGHT_MAX)
    points = vnodes * sum(shard.weight for shard in shards)
    if points > POINTS_MAX:
        said = f"expected at most {POINTS_MAX} points, got {points}"
        raise ConfigError("config_invalid", f"shards: {said}")


def _check_integer(what: str, value: int, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        said = f"expected an integer from 1 to {most}, got {value!r:.40}"
        raise ConfigError("config_invalid", f"{what}: {said}")
