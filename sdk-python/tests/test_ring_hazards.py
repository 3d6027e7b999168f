"""Four designs of a ring that were written down once, next to ours, before the same judge.

Each judge must fail the design that the hazard describes: a judge that cannot is no judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from fractal_lba.errors import ConfigError
from fractal_lba.ring import Ring, Shard, movement, ring_key

PICKS = Path(__file__).parents[2] / "golden" / "vectors" / "ring" / "pick.json"
VNODES = 150
Pick = Callable[[list[str], bytes], str]


def asked() -> Iterator[tuple[list[str], bytes, str]]:
    """Give shards, key and owner of the vectors that ask for 1,000 keys in six rings."""
    for case in json.loads(PICKS.read_bytes())["cases"]:
        if case["id"].startswith("ring/owners-"):
            names = [shard["name"] for shard in case["args"]["shards"]]
            owners = case["expect"]["owners"]
            for key, owner in zip(case["args"]["keys"], owners, strict=True):
                yield names, bytes.fromhex(key), owner


ASKED = list(asked())
LARGER = [row for row in ASKED if len(row[0]) > 1]
KEYS = [ring_key("acme", f"{i:064x}") for i in range(4000)]


def wrong_owners(pick: Pick) -> int:
    """Judge a router: how many of the published owners it misses."""
    return sum(pick(names, key) != owner for names, key, owner in LARGER)


def moved(pick: Pick, old: int, new: int) -> float:
    """Judge a router: which part of some keys moves when shards are added."""
    before, after = ([f"shard-{i}" for i in range(n)] for n in (old, new))
    return sum(pick(before, key) != pick(after, key) for key in KEYS) / len(KEYS)


@cache
def ring_of(*names: str) -> Ring:
    return Ring([Shard(name) for name in names])


def ours(names: list[str], key: bytes) -> str:
    return ring_of(*names).pick(key)


def test_there_are_a_thousand_keys_for_each_ring() -> None:
    counts = {n: sum(len(names) == n for names, _, _ in ASKED) for n in (1, 2, 3, 4, 5, 8)}
    assert counts == dict.fromkeys((1, 2, 3, 4, 5, 8), 1000)


# --- H02: a hash by modulo next to a sorted ring ------------------------------------------------


def skeleton(names: list[str], key: bytes) -> str:
    """Take `hash % (shards * vnodes)` as an index of a list of points that is not sorted."""
    at = int.from_bytes(sha256(key).digest()[:4], "big")
    return names[at % (len(names) * VNODES) // VNODES]


def test_h02_a_modulo_skeleton_gives_other_owners_and_moves_three_quarters() -> None:
    assert wrong_owners(ours) == 0
    assert wrong_owners(skeleton) > len(LARGER) / 3
    assert 0.25 < moved(ours, 3, 4) < 0.29
    assert 0.72 < moved(skeleton, 3, 4) < 0.78


# --- H03: bytes in the other order --------------------------------------------------------------


@cache
def little_ring(*names: str) -> list[tuple[int, str]]:
    points = [(little(f"{name}#{i}".encode()), name) for name in names for i in range(VNODES)]
    return sorted(points)


def little(data: bytes) -> int:
    return int.from_bytes(sha256(data).digest()[:4], "little")


def little_endian(names: list[str], key: bytes) -> str:
    points = little_ring(*names)
    at = little(key)
    return next((name for point, name in points if point >= at), points[0][1])


def test_h03_a_port_with_the_other_byte_order_disagrees_on_most_keys() -> None:
    three = [row for row in LARGER if len(row[0]) == 3]
    assert sum(ours(names, key) != owner for names, key, owner in three) == 0
    missed = sum(little_endian(names, key) != owner for names, key, owner in three)
    assert missed > len(three) / 2
    names = ["shard-0", "shard-1", "shard-2"]
    points = little_ring(*names)
    ends = zip(points, [points[-1], *points], strict=False)
    parts = dict.fromkeys(names, 0)
    for (point, name), (before, _) in ends:
        parts[name] += (point - before) % 2**32
    assert [round(part / 2**32, 5) for part in parts.values()] == [0.35288, 0.35032, 0.2968]
    shares = [round(float(share), 5) for share in Ring([Shard(n) for n in names]).shares().values()]
    assert shares == [0.34614, 0.29385, 0.36001]


# --- H04: signed hashes, equal points, twice the same name ----------------------------------------


def signed(names: list[str], key: bytes) -> str:
    """Take a hash as a signed word of 32 bits; an index below 0 is no index."""
    at = int.from_bytes(sha256(key).digest()[:4], "big", signed=True)
    index = abs(at) % (len(names) * VNODES) * (1 if at >= 0 else -1)
    if index < 0:
        raise IndexError(index)
    return names[index // VNODES]


class LastAdded:
    """Keep points in a map, as a router does to which shards are added one by one."""

    def __init__(self, names: list[str]) -> None:
        self.of: dict[int, str] = {}
        for name in names:
            for i in range(VNODES):
                self.of[int.from_bytes(sha256(f"{name}#{i}".encode()).digest()[:4], "big")] = name
        self.points = sorted(self.of)

    def pick(self, key: bytes) -> str:
        at = int.from_bytes(sha256(key).digest()[:4], "big")
        return self.of[next((p for p in self.points if p >= at), self.points[0])]


EQUAL = [("shard-262", "shard-758", b"shard-262#45"), ("shard-297", "shard-1350", b"shard-297#120")]
"""Two names with one point, and a key that lies on it (the vectors `ring/equal*` say which)."""


@pytest.mark.parametrize(("one", "two", "key"), EQUAL, ids=[row[0] for row in EQUAL])
def test_h04_routers_agree_on_equal_points_whoever_was_added_last(
    one: str, two: str, key: bytes
) -> None:
    literal = {LastAdded(names).pick(key) for names in ([one, two], [two, one])}
    assert literal == {one, two}, "the literal design must disagree with itself"
    mine = {Ring([Shard(n) for n in names]).pick(key) for names in ([one, two], [two, one])}
    assert mine == {min(one, two)}


def test_h04_no_hash_is_an_index_below_zero() -> None:
    def answered(pick: Pick) -> int:
        count = 0
        for names, key, _ in LARGER:
            try:
                pick(names, key)
            except IndexError:
                continue
            count += 1
        return count

    assert answered(ours) == len(LARGER)
    assert answered(signed) < 0.6 * len(LARGER)


def test_h04_no_point_is_lost_and_no_name_is_there_twice() -> None:
    for one, two, _ in EQUAL:
        assert len(LastAdded([one, two]).points) == 299
        assert Ring([Shard(one), Shard(two)]).point_count == 300
    assert len(LastAdded(["a", "a"]).points) == VNODES
    with pytest.raises(ConfigError, match="twice"):
        Ring([Shard("a"), Shard("a")])


# --- H05: each router has its own view of who is healthy ------------------------------------------


class Gate:
    """Answer submits of routers; a shard takes a key once, if it is asked for it."""

    def __init__(self, names: list[str]) -> None:
        self.ring = Ring([Shard(name) for name in names])
        self.seen: dict[str, set[bytes]] = {name: set() for name in names}

    def take(self, owner: str, key: bytes) -> str:
        if key in self.seen[owner]:
            return "duplicate"
        self.seen[owner].add(key)
        return "new"

    def next_healthy(self, key: bytes, down: set[str]) -> str:
        """Go on to the next shard that this router believes to be up."""
        places = self.ring.pick_n(key, len(self.seen))
        return self.take(next(name for name in places if name not in down), key)

    def owner_alone(self, key: bytes, down: set[str]) -> str:
        """Ask the owner, or say that nobody can answer."""
        owner = self.ring.pick(key)
        return "unavailable" if owner in down else self.take(owner, key)


VIEWS: list[set[str]] = [set(), {"shard-1"}, set(), {"shard-0", "shard-1"}]
"""What four routers believe to be down, in the order in which they are asked."""


def twice_new(submit: Callable[[bytes, set[str]], str]) -> int:
    """Judge a gate: how many keys were new more than once."""
    return sum([submit(key, down) for down in VIEWS].count("new") > 1 for key in KEYS[:1000])


def test_h05_views_of_health_never_make_a_key_new_twice() -> None:
    names = [f"shard-{i}" for i in range(3)]
    literal, mine = Gate(names), Gate(names)
    owned = sum(mine.ring.pick(key) != "shard-2" for key in KEYS[:1000])
    assert twice_new(literal.next_healthy) == owned > 500
    assert twice_new(mine.owner_alone) == 0


def test_h05_ownership_changes_with_the_shards_of_a_ring_alone() -> None:
    ring, less = (Ring([Shard(f"shard-{i}") for i in range(n)]) for n in (3, 2))
    moves = {name for each in movement(ring, less).ranges for name in (each.source,)}
    assert moves == {"shard-2"}
    assert not hasattr(Shard("a"), "healthy")
