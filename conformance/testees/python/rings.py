"""Operations of the hash ring (`PROTOCOL.md` section 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from fractal_lba.ring import HASHES, VNODES, Ring, Shard, hash_point, movement, ring_key

Members = dict[str, Any]


def ring_of(given: Members) -> Ring:
    """Build a ring; health is no input of one (ring 1.6)."""
    return ring_from(given["shards"], int(given.get("vnodes", VNODES)))


def ring_from(shards: Sequence[Members], vnodes: int) -> Ring:
    """Build a ring of shards as a case lists them."""
    made = [Shard(each["name"], int(each.get("weight", "1"))) for each in shards]
    return Ring(made, vnodes=vnodes)


def counted(share: Fraction) -> str:
    """Write a share: a number of hashes, not reduced."""
    return f"{share * HASHES}/{HASHES}"


def key(args: Members) -> Members:
    """ring.key."""
    made = ring_key(bytes.fromhex(args["tenant"]).decode(), args["pcs_id"])
    return {"key": made.hex(), "point": str(hash_point(made))}


def pick(args: Members) -> Members:
    """ring.pick."""
    ring = ring_of(args)
    return {"owners": [ring.pick(bytes.fromhex(each)) for each in args["keys"]]}


def pick_n(args: Members) -> Members:
    """ring.pick_n."""
    ring, n = ring_of(args), int(args["n"])
    return {"owners": [ring.pick_n(bytes.fromhex(each), n) for each in args["keys"]]}


def shares(args: Members) -> Members:
    """ring.shares."""
    ring = ring_of(args)
    found = {name: counted(share) for name, share in ring.shares().items()}
    return {"points": str(ring.point_count), "shares": found}


def ranges(args: Members) -> Members:
    """ring.ranges."""
    return {"ranges": [[str(lo), str(hi)] for lo, hi in ring_of(args).ranges(args["name"])]}


def moved(args: Members) -> Members:
    """ring.movement."""
    found = movement(ring_of(args["old"]), ring_of(args["new"]))
    rows = [[str(lo), str(hi), source, target] for lo, hi, source, target in found.ranges]
    return {"share": counted(found.share), "ranges": rows}


OPS: dict[str, Callable[[Members], Members]] = {
    "ring.key": key,
    "ring.pick": pick,
    "ring.pick_n": pick_n,
    "ring.shares": shares,
    "ring.ranges": ranges,
    "ring.movement": moved,
}
