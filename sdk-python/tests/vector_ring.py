"""Entries for the vectors of the hash ring: what a caller writes, and the long way round."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from fractal_lba.errors import ConfigError
from fractal_lba.ring import HASHES, VNODES, Ring, Shard, hash_point, movement, ring_key

Answer = dict[str, Any]


def ring_of(given: dict[str, Any]) -> Ring:
    """Build a ring; health is no input of one (ring 1.6)."""
    shards = [Shard(one["name"], int(one.get("weight", "1"))) for one in given["shards"]]
    return Ring(shards, vnodes=int(given.get("vnodes", VNODES)))


def count_of(share: Fraction) -> str:
    """Write a share as a vector does."""
    count = share * HASHES
    assert count.denominator == 1, "a share is a number of hashes"
    return f"{count}/{HASHES}"


def key(args: dict[str, Any]) -> Answer:
    made = ring_key(bytes.fromhex(args["tenant"]).decode(), args["pcs_id"])
    assert Ring.point(made) == Ring.point(made.decode()) == hash_point(made)
    return {"key": made.hex(), "point": str(hash_point(made))}


def pick(args: dict[str, Any]) -> Answer:
    ring = ring_of(args)
    return {"owners": [ring.pick(bytes.fromhex(each)) for each in args["keys"]]}


def pick_by_ranges(args: dict[str, Any]) -> Answer:
    ring = ring_of(args)
    owned = [(lo, hi, one.name) for one in ring.shards for lo, hi in ring.ranges(one.name)]
    owners = []
    for each in args["keys"]:
        point = Ring.point(bytes.fromhex(each))
        (name,) = [name for lo, hi, name in owned if lo <= point <= hi]
        owners.append(name)
    return {"owners": owners}


def pick_by_pick_n(args: dict[str, Any]) -> Answer:
    ring = ring_of(args)
    return {"owners": [ring.pick_n(bytes.fromhex(each), 2)[0] for each in args["keys"]]}


def pick_n(args: dict[str, Any]) -> Answer:
    ring = ring_of(args)
    n = int(args["n"])
    return {"owners": [ring.pick_n(bytes.fromhex(each), n) for each in args["keys"]]}


def shares(args: dict[str, Any]) -> Answer:
    ring = ring_of(args)
    found = {name: count_of(share) for name, share in ring.shares().items()}
    return {"points": str(ring.point_count), "shares": found}


def shares_by_ranges(args: dict[str, Any]) -> Answer:
    ring = ring_of(args)
    sizes = {one.name: sum(hi - lo + 1 for lo, hi in ring.ranges(one.name)) for one in ring.shards}
    return {
        "points": str(ring.point_count),
        "shares": {name: f"{size}/{HASHES}" for name, size in sizes.items()},
    }


def ranges(args: dict[str, Any]) -> Answer:
    found = ring_of(args).ranges(args["name"])
    return {"ranges": [[str(each.lo), str(each.hi)] for each in found]}


def moved(args: dict[str, Any]) -> Answer:
    found = movement(ring_of(args["old"]), ring_of(args["new"]))
    rows = [[str(lo), str(hi), source, target] for lo, hi, source, target in found.ranges]
    return {"share": count_of(found.share), "ranges": rows}


def moved_back(args: dict[str, Any]) -> Answer:
    """The way back is the way there with the owners exchanged."""
    back = movement(ring_of(args["new"]), ring_of(args["old"]))
    rows = [[str(lo), str(hi), source, target] for lo, hi, target, source in back.ranges]
    return {"share": count_of(back.share), "ranges": rows}


def refused(args: dict[str, Any]) -> Answer:
    """A ring that cannot be is refused before a hash: also by whoever only builds it."""
    try:
        ring_of(args)
    except ConfigError as error:
        return {"code": error.code}
    return pick(args)


ENTRIES: dict[str, tuple[Callable[[dict[str, Any]], Answer], ...]] = {
    "ring.key": (key,),
    "ring.pick": (pick, pick_by_ranges, pick_by_pick_n, refused),
    "ring.pick_n": (pick_n,),
    "ring.shares": (shares, shares_by_ranges),
    "ring.ranges": (ranges,),
    "ring.movement": (moved, moved_back),
}
