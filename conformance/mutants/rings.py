"""Family D: rings that spread keys, shares or movements in another way (spec/ring.md)."""

from __future__ import annotations

import importlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from hashlib import sha256
from typing import Any, Final

from fractal_lba import ring as ring_module
from fractal_lba.ring import VNODES, Ring, Shard, hash_point, ring_key

from .patching import Patch, mutation

BUILD: Final = Ring.__init__
ARCS: Final = Ring.arcs
PICK_N: Final = Ring.pick_n
Points = list[tuple[int, str]]


def hashes(id: str, hashed: Callable[[bytes], int]) -> None:
    """Register a mutant that hashes in another way."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(hash_point, hashed)


def picks(id: str, pick: Callable[[Ring, Any], str]) -> None:
    """Register a mutant that names another owner."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.set(Ring, "pick", pick)


def points(id: str, arranged: Callable[[Points], Points]) -> None:
    """Register a mutant that arranges points in another way; it gets them as they are added."""

    @mutation(id)
    def change(patch: Patch) -> None:
        def build(self: Ring, shards: Iterable[Shard], *, vnodes: int = VNODES) -> None:
            BUILD(self, shards, vnodes=vnodes)
            added = [
                (hash_point(f"{shard.name}#{i}".encode()), shard.name)
                for shard in self.shards
                for i in range(self.vnodes * shard.weight)
            ]
            mine = arranged(added)
            self._points = [point for point, _ in mine]
            self._owners = [name for _, name in mine] + [mine[0][1]]

        patch.set(Ring, "__init__", build)


def shards(id: str, taken: Callable[[Sequence[Shard]], Sequence[Shard]]) -> None:
    """Register a mutant that takes shards for other ones."""

    @mutation(id)
    def change(patch: Patch) -> None:
        def build(self: Ring, given: Iterable[Shard], *, vnodes: int = VNODES) -> None:
            BUILD(self, taken(list(given)), vnodes=vnodes)

        patch.set(Ring, "__init__", build)


def modulo(self: Ring, key: bytes | str) -> str:
    names = [shard.name for shard in self.shards]
    return names[Ring.point(key) % (len(names) * self.vnodes) // self.vnodes]


def without_wrap(self: Ring, key: bytes | str) -> str:
    at = bisect_left(self._points, Ring.point(key))
    return self._owners[min(at, len(self._points) - 1)]


def natural(point: tuple[int, str]) -> tuple[int, list[tuple[int, str]]]:
    """Sort numbers in names as numbers."""
    parts = re.findall(r"\d+|\D+", point[1])
    return point[0], [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


hashes("D01", lambda data: int.from_bytes(sha256(data).digest()[:4], "little"))
picks("D02", modulo)
points("D03", lambda added: sorted(dict(added).items()))
shards("D04", lambda given: [Shard(shard.name) for shard in given])
picks("D07", without_wrap)
hashes("D08", lambda data: hash_point(data.replace(b"#", b"-")))
points("D11", lambda added: sorted(dict(sorted(added, reverse=True)).items()))
points("D13", lambda added: sorted(added, key=natural))
shards("D16", lambda given: list({shard.name: shard for shard in given}.values()))
shards("D17", lambda given: [Shard(shard.name, shard.weight or 1) for shard in given])


@mutation("D05")
def neighbour_answers(patch: Patch) -> None:
    """Ask the next shard where the owner is down, as a router with health checks does."""
    testee = importlib.import_module("rings")
    right = testee.ring_from
    down: set[str] = set()

    def ring_from(given: Sequence[dict[str, str]], vnodes: int) -> Ring:
        down.clear()
        down.update(each["name"] for each in given if each.get("healthy") == "false")
        made: Ring = right(given, vnodes)
        return made

    def pick(self: Ring, key: bytes | str) -> str:
        places = PICK_N(self, key, len(self.shards))
        return next((name for name in places if name not in down), places[0])

    patch.swap(right, ring_from)
    patch.set(Ring, "pick", pick)


@mutation("D06")
def first_larger_point(patch: Patch) -> None:
    patch.set(ring_module, "bisect_left", bisect_right)


@mutation("D09")
def key_without_tenant(patch: Patch) -> None:
    patch.swap(ring_key, lambda _tenant, pcs_id: pcs_id.encode())


@mutation("D10")
def next_points(patch: Patch) -> None:
    """Name the shards of the next n points, whether or not they are distinct."""

    def pick_n(self: Ring, key: bytes | str, n: int) -> list[str]:
        wanted = len(PICK_N(self, key, n))
        at = bisect_left(self._points, Ring.point(key))
        return [self._owners[(at + step) % len(self._points)] for step in range(wanted)]

    patch.set(Ring, "pick_n", pick_n)


@mutation("D12")
def shares_of_points(patch: Patch) -> None:
    """Take a share for the part of the points, not of the hashes."""

    def shares(self: Ring) -> dict[str, Fraction]:
        found = {s.name: Fraction(s.weight * self.vnodes, self.point_count) for s in self.shards}
        return {name: Fraction(int(part * 2**32), 2**32) for name, part in found.items()}

    patch.set(Ring, "shares", shares)


@mutation("D14")
def points_from_one(patch: Patch) -> None:
    """Count the points of a shard from 1."""

    def hashed(data: bytes) -> int:
        name, separator, number = data.partition(b"#")
        if separator and number.isdigit():
            return hash_point(b"%b#%d" % (name, int(number) + 1))
        return hash_point(data)

    patch.swap(hash_point, hashed)


@mutation("D15")
def range_per_point(patch: Patch) -> None:
    """Give one range for every point, not the fewest."""

    def arcs(self: Ring) -> list[ring_module.Arc]:
        found = []
        for lo, hi, owner in ARCS(self):
            inside = [point for point in self._points if lo <= point < hi]
            ends = sorted({*inside, hi})
            starts = [lo, *(end + 1 for end in ends[:-1])]
            pairs = zip(starts, ends, strict=True)
            found += [ring_module.Arc(start, end, owner) for start, end in pairs]
        return found

    patch.set(Ring, "arcs", arcs)
