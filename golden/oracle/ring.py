"""The hash ring by its formulas, one sentence of `spec/ring.md` each; slow, and shared with nobody.

A ring is its list of points `(hash, name)` in order. The owner is found by looking at every point.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from golden.oracle.fault import Fault

SIZE = 2**32
NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
VNODES = "150"
VNODES_MAX = 1024
SHARDS_MAX = 1024
WEIGHT_MAX = 16
POINTS_MAX = 2**20

Points = list[tuple[int, str]]
Arc = tuple[int, int, str]


def hashed(data: bytes) -> int:
    """Sentence 2.1."""
    first, second, third, fourth = hashlib.sha256(data).digest()[:4]
    return ((first * 256 + second) * 256 + third) * 256 + fourth


def points_of(args: dict[str, Any]) -> Points:
    """Sentences 1.1 to 1.4, 2.2 and 2.3."""
    vnodes = int(args.get("vnodes", VNODES))
    counts = {one["name"]: int(one.get("weight", "1")) for one in args["shards"]}
    distinct = len(counts) == len(args["shards"])
    in_range = 1 <= vnodes <= VNODES_MAX and 1 <= len(args["shards"]) <= SHARDS_MAX
    weighed = all(1 <= weight <= WEIGHT_MAX for weight in counts.values())
    named = all(NAME.fullmatch(name) for name in counts)
    if not (distinct and in_range and weighed and named):
        raise Fault("config_invalid")
    if vnodes * sum(counts.values()) > POINTS_MAX:
        raise Fault("config_invalid")
    return sorted(
        (hashed(f"{name}#{i}".encode("ascii")), name)
        for name, weight in counts.items()
        for i in range(vnodes * weight)
    )


def first_at(points: Points, at: int) -> int:
    """Sentence 3.1: the index of the point to which a hash belongs."""
    for index, (point, _) in enumerate(points):
        if point >= at:
            return index
    return 0


def owner(points: Points, at: int) -> str:
    return points[first_at(points, at)][1]


def several(points: Points, at: int, n: int) -> list[str]:
    """Sentence 3.2."""
    if not 1 <= n <= SHARDS_MAX:
        raise Fault("config_invalid")
    start = first_at(points, at)
    names: list[str] = []
    for _, name in points[start:] + points[:start]:
        if name not in names and len(names) < n:
            names.append(name)
    return names


def arcs(ends: list[int]) -> list[tuple[int, int]]:
    """Cut 0 .. 2^32 - 1 behind each of these hashes: no owner changes inside a piece."""
    pieces: list[tuple[int, int]] = []
    start = 0
    for end in sorted({*ends, SIZE - 1}):
        pieces.append((start, end))
        start = end + 1
    return pieces


def joined(pieces: list[tuple[int, int, Any]]) -> list[tuple[int, int, Any]]:
    """Join pieces that touch and mean the same: the fewest ranges of 4.2 and 4.3."""
    found: list[tuple[int, int, Any]] = []
    for lo, hi, what in pieces:
        if found and found[-1][1] + 1 == lo and found[-1][2] == what:
            found[-1] = (found[-1][0], hi, what)
        else:
            found.append((lo, hi, what))
    return found


def owned(points: Points) -> list[Arc]:
    """Every hash with its owner, as the fewest ranges."""
    return joined([(lo, hi, owner(points, hi)) for lo, hi in arcs([p for p, _ in points])])


def moved(old: Points, new: Points) -> list[tuple[int, int, Any]]:
    """Sentence 4.3."""
    ends = [point for point, _ in old + new]
    pieces = [(lo, hi, (owner(old, hi), owner(new, hi))) for lo, hi in arcs(ends)]
    return joined([piece for piece in pieces if piece[2][0] != piece[2][1]])


def size_of(ranges: list[tuple[int, int, Any]]) -> str:
    """Sentence 5.1: a share as a text."""
    return f"{sum(hi - lo + 1 for lo, hi, _ in ranges)}/{SIZE}"


# --- operations, sentences 5.2 to 5.6 --------------------------------------------------------


def key(args: dict[str, Any]) -> dict[str, Any]:
    data = bytes.fromhex(args["tenant"]) + b"|" + args["pcs_id"].encode("ascii")
    return {"key": data.hex(), "point": str(hashed(data))}


def pick(args: dict[str, Any]) -> dict[str, Any]:
    points = points_of(args)
    return {"owners": [owner(points, hashed(bytes.fromhex(each))) for each in args["keys"]]}


def pick_n(args: dict[str, Any]) -> dict[str, Any]:
    points, n = points_of(args), int(args["n"])
    found = [several(points, hashed(bytes.fromhex(each)), n) for each in args["keys"]]
    return {"owners": found}


def shares(args: dict[str, Any]) -> dict[str, Any]:
    points = points_of(args)
    ranges = owned(points)
    names = sorted({name for _, name in points})
    of_name = {name: size_of([each for each in ranges if each[2] == name]) for name in names}
    return {"points": str(len(points)), "shares": of_name}


def ranges(args: dict[str, Any]) -> dict[str, Any]:
    points = points_of(args)
    if args["name"] not in {name for _, name in points}:
        raise Fault("config_invalid")
    found = [(lo, hi) for lo, hi, name in owned(points) if name == args["name"]]
    return {"ranges": [[str(lo), str(hi)] for lo, hi in found]}


def movement(args: dict[str, Any]) -> dict[str, Any]:
    found = moved(points_of(args["old"]), points_of(args["new"]))
    rows = [[str(lo), str(hi), *owners] for lo, hi, owners in found]
    return {"share": size_of(found), "ranges": rows}
