"""First write: the smallest place in the one order of all frames, however they arrive."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core.first_write import (
    DISPLACED,
    DUPLICATE,
    SAME,
    Apply,
    Order,
    Origin,
    Stored,
    merge,
    order_of,
    position,
    resolve,
)

CODES = ("eu1", "us1", "ap1")
KEY = ("acme", "a" * 64)
rank = CODES.index


def frame(
    hlc: int = 1, region: str = "eu1", region_epoch: int = 1, seq: int = 1, content: str = "c"
) -> Stored:
    """Make an outcome of one id."""
    return Stored(seq, content, 200, b"{}", Origin(region, "open", region_epoch), hlc)


frames = st.builds(
    frame,
    hlc=st.integers(0, 3),
    region=st.sampled_from(CODES),
    region_epoch=st.integers(1, 2),
    seq=st.integers(1, 3),
    content=st.sampled_from("cd"),
)


def one_content_a_place(found: list[Stored]) -> bool:
    """Tell whether no two frames that differ have one place: a stream has one frame a number."""
    return len(set(found)) == len({order_of(one, rank) for one in found})


def test_order_is_time_then_rank_then_epoch_then_number() -> None:
    assert order_of(frame(7, "us1", 3, 9), rank) == Order(7, 1, 3, 9)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (frame(1, "ap1", 9, 9), frame(2, "eu1", 1, 1)),
        (frame(1, "eu1", 9, 9), frame(1, "us1", 1, 1)),
        (frame(1, "eu1", 1, 9), frame(1, "eu1", 2, 1)),
        (frame(1, "eu1", 1, 1), frame(1, "eu1", 1, 2)),
    ],
    ids=["time", "rank", "epoch", "number"],
)
def test_the_first_in_order_stands_whoever_comes_first(first: Stored, second: Stored) -> None:
    for a, b in ((first, second), (second, first)):
        assert merge(a, b, rank) == (first, second, DUPLICATE)


def test_kinds_of_meetings() -> None:
    assert merge(frame(), frame(), rank).kind == SAME
    assert merge(frame(1), frame(2), rank).kind == DUPLICATE
    assert merge(frame(1), frame(2, content="d"), rank).kind == DISPLACED


@given(st.lists(frames, min_size=1, max_size=6).filter(one_content_a_place), st.randoms())
def test_every_order_of_arrival_ends_with_the_same(found: list[Stored], chance: object) -> None:
    first = min(found, key=lambda one: order_of(one, rank))
    chance.shuffle(found)  # type: ignore[attr-defined] # a random.Random of the strategy
    assert reduce(lambda a, b: merge(a, b, rank).winner, found) == first


@given(st.lists(frames, min_size=1, max_size=6).filter(one_content_a_place))
def test_rows_of_any_arrival_leave_the_first_and_keep_all_others(found: list[Stored]) -> None:
    standing: Stored | None = None
    others: set[Stored] = set()
    for one in found:
        if one in others:
            continue  # the store has the row
        row = resolve(KEY, one, "kid", standing, rank)
        if row is None:
            assert one == standing
            continue
        assert row.key == KEY
        if row.wins:
            assert row.replaced == standing
            others |= {standing} if standing is not None else set()
            standing = one
        else:
            assert row.replaced is None
            others.add(one)
    assert standing == min(found, key=lambda one: order_of(one, rank))
    assert others == set(found) - {standing}


def test_rows_of_a_frame() -> None:
    early, late = frame(1), frame(2, "us1")
    assert resolve(KEY, early, "kid", None, rank) == Apply(KEY, early, "kid")
    assert resolve(KEY, early, "kid", early, rank) is None
    assert resolve(KEY, early, "kid", late, rank) == Apply(KEY, early, "kid", replaced=late)
    assert resolve(KEY, late, "kid", early, rank) == Apply(KEY, late, "kid", wins=False)


def test_position_names_region_placement_epoch_and_number() -> None:
    assert position(frame(seq=42, region_epoch=3)) == "eu1/open/3/42"
