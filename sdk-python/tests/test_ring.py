"""The hash ring by properties; what exactly comes out is in the vectors (golden/vectors/ring)."""

from __future__ import annotations

import doctest
import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba import ConfigError, Movement, Range, Ring, Shard, ValidationError, movement
from fractal_lba import ring as ring_module
from fractal_lba.ring import HASHES, POINTS_MAX, SHARDS_MAX, hash_point, ring_key

VECTORS = Path(__file__).parents[2] / "golden" / "vectors" / "ring"
NAMES = st.text(alphabet="abcdefgh0189-", min_size=1, max_size=12)
SHARDS = st.lists(
    st.builds(Shard, NAMES, st.integers(1, 4)), min_size=1, max_size=6, unique_by=lambda s: s.name
)
VNODES = st.integers(1, 12)
KEYS = st.lists(st.binary(max_size=20), min_size=1, max_size=20)


def plain(n: int, **options: int) -> Ring:
    return Ring([Shard(f"shard-{i}") for i in range(n)], **options)


def sizes(ring: Ring) -> dict[str, int]:
    return {s.name: sum(hi - lo + 1 for lo, hi in ring.ranges(s.name)) for s in ring.shards}


def test_the_example_of_the_module_gives_what_it_says() -> None:
    assert doctest.testmod(ring_module) == doctest.TestResults(0, 2 + 1)


# --- owners ---------------------------------------------------------------------------------


@given(SHARDS, VNODES, KEYS)
def test_the_owner_is_who_has_the_first_point_that_is_not_smaller(
    shards: list[Shard], vnodes: int, keys: list[bytes]
) -> None:
    ring = Ring(shards, vnodes=vnodes)
    points = sorted(
        (hash_point(f"{s.name}#{i}".encode()), s.name)
        for s in shards
        for i in range(vnodes * s.weight)
    )
    assert ring.point_count == len(points)
    for key in keys:
        at = hash_point(key)
        assert ring.pick(key) == min([p for p in points if p[0] >= at] or points)[1]


@given(SHARDS, VNODES, KEYS, st.randoms())
def test_the_order_of_the_shards_changes_nothing(
    shards: list[Shard], vnodes: int, keys: list[bytes], chance: Any
) -> None:
    other = list(shards)
    chance.shuffle(other)
    one, two = Ring(shards, vnodes=vnodes), Ring(iter(other), vnodes=vnodes)
    for key in keys:
        assert one.pick_n(key, 6) == two.pick_n(key, 6)
    assert one.shares() == two.shares()


@given(SHARDS, VNODES, KEYS)
def test_more_names_begin_with_fewer_and_are_distinct(
    shards: list[Shard], vnodes: int, keys: list[bytes]
) -> None:
    ring = Ring(shards, vnodes=vnodes)
    for key in keys:
        longest = ring.pick_n(key, SHARDS_MAX)
        assert sorted(longest) == sorted(s.name for s in shards)
        assert longest[0] == ring.pick(key)
        for n in range(1, len(longest) + 1):
            assert ring.pick_n(key, n) == longest[:n]


def test_the_second_is_who_owns_the_key_without_the_first() -> None:
    ring = plain(4)
    for i in range(200):
        key = ring_key("acme", f"{i:064x}")
        first, second = ring.pick_n(key, 2)
        rest = Ring([s for s in ring.shards if s.name != first])
        assert rest.pick(key) == second


def test_equal_points_belong_to_the_smaller_name_and_none_is_dropped() -> None:
    said = json.loads((VECTORS / "pick.json").read_bytes())["cases"]
    (comment,) = {c["comment"] for c in said if c["id"] == "ring/equal-9-10"}
    one, two = comment.replace(" and ", " ").split(" ")[:2]
    names = sorted(point.partition("#")[0] for point in (one, two))
    assert names == ["shard-1350", "shard-297"], "by bytes, not as numbers"
    assert hash_point(one.encode()) == hash_point(two.encode())
    for listed in (names, names[::-1]):
        ring = Ring([Shard(name) for name in listed])
        assert ring.pick_n(one, 2) == names
        assert ring.point_count == 300


def test_a_text_and_its_utf8_are_one_key() -> None:
    key = ring_key("müller", "a" * 64)
    assert key == b"m\xc3\xbcller|" + b"a" * 64
    assert Ring.point(key.decode()) == Ring.point(key) == hash_point(key)
    assert plain(5).pick(key.decode()) == plain(5).pick(key)


@pytest.mark.parametrize("make", [lambda: ring_key("\ud800", "a"), lambda: plain(2).pick("\udfff")])
def test_a_text_that_has_no_utf8_is_refused(make: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        make()
    assert refused.value.code == "string_surrogate"


# --- shares, ranges, movement ---------------------------------------------------------------


@given(SHARDS, VNODES)
def test_every_hash_has_one_owner_and_the_shares_add_up(shards: list[Shard], vnodes: int) -> None:
    ring = Ring(shards, vnodes=vnodes)
    owned = sorted((lo, hi, s.name) for s in shards for lo, hi in ring.ranges(s.name))
    assert (owned[0][0], owned[-1][1]) == (0, HASHES - 1)
    for (_, hi, before), (lo, _, after) in pairwise(owned):
        assert hi + 1 == lo
        assert before != after, "two ranges could be one"
    assert sum(ring.shares().values()) == 1
    assert {n: share * HASHES for n, share in ring.shares().items()} == sizes(ring)


@given(SHARDS, SHARDS, VNODES, VNODES, KEYS)
@settings(max_examples=60)
def test_a_key_moves_if_and_only_if_its_hash_is_in_the_movement(
    before: list[Shard], after: list[Shard], one: int, two: int, keys: list[bytes]
) -> None:
    old, new = Ring(before, vnodes=one), Ring(after, vnodes=two)
    found = movement(old, new)
    edges = {edge for each in found.ranges for edge in (each.lo, each.hi)}
    for key in keys:
        hit = [each for each in found.ranges if each.lo <= Ring.point(key) <= each.hi]
        owners = old.pick(key), new.pick(key)
        assert [(e.source, e.target) for e in hit] == ([owners] if owners[0] != owners[1] else [])
    assert len(edges) >= len(found.ranges)
    assert found.share == Fraction(sum(e.hi - e.lo + 1 for e in found.ranges), HASHES)


@given(SHARDS, VNODES, st.data())
def test_what_moves_goes_to_an_added_shard_and_comes_from_a_removed_one(
    shards: list[Shard], vnodes: int, data: st.DataObject
) -> None:
    ring = Ring(shards, vnodes=vnodes)
    more = data.draw(st.builds(Shard, NAMES).filter(lambda s: s.name not in sizes(ring)))
    larger = Ring([more, *shards], vnodes=vnodes)
    there, back = movement(ring, larger), movement(larger, ring)
    assert {each.target for each in there.ranges} <= {more.name}
    assert {each.source for each in back.ranges} <= {more.name}
    assert there.share == back.share == larger.shares()[more.name]


def test_nothing_moves_between_rings_that_are_equal() -> None:
    assert movement(plain(3), plain(3)) == Movement(Fraction(0), [])


def test_a_ring_of_one_shard_is_one_range() -> None:
    assert plain(1).ranges("shard-0") == [Range(0, HASHES - 1)]
    assert plain(1).shares() == {"shard-0": 1}


@pytest.mark.parametrize(("end", "name"), [(0, "b"), (1, "a"), (HASHES - 1, "a")])
def test_points_at_both_ends_of_the_hashes_are_no_exception(
    end: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = {b"a#0": HASHES - 1, b"b#0": 0, b"a#1": HASHES - 1, b"b#1": 0}
    monkeypatch.setattr(ring_module, "hash_point", lambda data: at.get(data, end))
    ring = Ring([Shard("a"), Shard("b")], vnodes=2)
    assert ring.ranges("a") == [Range(1, HASHES - 1)]
    assert ring.ranges("b") == [Range(0, 0)]
    assert ring.pick("key") == name


SHARES = {
    1: (1.0,),
    2: (0.52803, 0.47197),
    3: (0.34614, 0.29385, 0.36001),
    4: (0.25761, 0.21441, 0.25723, 0.27075),
}
SPEED_UP = {2: 1.894, 3: 2.778, 4: 3.693, 5: 4.790, 8: 6.870}
MOVED = {(1, 2): 0.47197, (1, 3): 0.65386, (2, 3): 0.36001, (3, 4): 0.27075, (4, 5): 0.20806}


@pytest.mark.parametrize("n", SHARES)
def test_shares_are_those_that_were_computed_apart(n: int) -> None:
    found = plain(n).shares()
    assert [round(float(found[f"shard-{i}"]), 5) for i in range(n)] == list(SHARES[n])


@pytest.mark.parametrize("n", SPEED_UP)
def test_n_shards_are_no_faster_than_the_largest_share_allows(n: int) -> None:
    assert round(float(1 / max(plain(n).shares().values())), 3) == SPEED_UP[n]


@pytest.mark.parametrize("sizes", MOVED, ids=str)
def test_movements_are_those_that_were_computed_apart(sizes: tuple[int, int]) -> None:
    old, new = sizes
    assert round(float(movement(plain(old), plain(new)).share), 5) == MOVED[sizes]


# --- what is no ring ------------------------------------------------------------------------

WRONG: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "no shards": ([], {}, "shards: expected an integer from 1 to 1024, got 0"),
    "a name that is no name": ([Shard("A")], {}, r"shards\[0\].name: .* got 'A'"),
    "a name with a line feed": ([Shard("a\n")], {}, r"shards\[0\].name"),
    "a name that is bytes": ([Shard(b"a")], {}, r"shards\[0\].name"),  # type: ignore[arg-type] # wrong on purpose
    "the same name": ([Shard("a"), Shard("a", 2)], {}, r"shards\[1\].name: a is there twice"),
    "a weight of 0": ([Shard("a", 0)], {}, r"shards\[0\].weight: .* got 0"),
    "a weight of 17": ([Shard("a", 17)], {}, r"shards\[0\].weight: .* got 17"),
    "a weight that is a bool": ([Shard("a", True)], {}, r"weight: .* got True"),
    "a weight that is a float": ([Shard("a", 1.0)], {}, r"weight: .* got 1.0"),  # type: ignore[arg-type] # wrong on purpose
    "no points": ([Shard("a")], {"vnodes": 0}, "vnodes: .* 1 to 1024, got 0"),
    "too many a weight": ([Shard("a")], {"vnodes": 1025}, "vnodes"),
    "too many points": ([Shard(f"s{i}", 16) for i in range(65)], {"vnodes": 1024}, "1064960"),
}


@pytest.mark.parametrize(("shards", "options", "said"), WRONG.values(), ids=WRONG)
def test_what_is_no_ring_is_refused_with_its_place(
    shards: list[Shard], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        Ring(shards, **options)
    assert refused.value.code == "config_invalid"


def test_nothing_is_hashed_for_what_is_no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    monkeypatch.setattr(ring_module, "hash_point", hashed.append)
    shards = [Shard(f"s{i}", 16) for i in range(POINTS_MAX // (16 * 1024) + 1)]
    with pytest.raises(ConfigError):
        Ring(shards, vnodes=1024)
    assert hashed == []


@pytest.mark.parametrize("n", [0, -1, 1025, 2.0, True])
def test_a_number_of_names_that_is_none_is_refused(n: Any) -> None:
    with pytest.raises(ConfigError, match="n: expected an integer from 1 to 1024"):
        plain(2).pick_n("key", n)


def test_a_shard_that_is_not_there_has_no_ranges() -> None:
    with pytest.raises(ConfigError, match="the ring has no shard 'shard-2'"):
        plain(2).ranges("shard-2")


def test_a_ring_says_what_it_is_made_of() -> None:
    text = "Ring([Shard(name='a', weight=2)], vnodes=3)"
    assert repr(Ring([Shard("a", 2)], vnodes=3)) == text
