"""A stream of ours: who may write to it, its epochs, and what it says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.contract import validator
from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.streams import Stream, StreamStart

NOW_NS = 1_768_478_400_000_000_000
THERE = "https://us.example"


def stream(**start: object) -> Stream:
    """Make a stream of region eu1."""
    return Stream("eu1", StreamStart(**start))  # type: ignore[arg-type] # members of the row


def test_stream_without_a_lease_takes_records_from_the_start_on() -> None:
    found = stream()
    assert (found.refusal(NOW_NS), found.may_write(NOW_NS)) == (None, True)
    found.lease(0, 2, THERE)
    assert found.refusal(NOW_NS) is None, "nobody grants what it does not need"


LEASES: list[tuple[str, tuple[int, int, str | None], str | None]] = [
    ("none yet", (0, 1, None), "not_primary"),
    ("held", (NOW_NS + 1, 1, None), None),
    ("over", (NOW_NS, 1, None), "not_primary"),
    ("held by another", (0, 2, THERE), "not_leader"),
    ("of an earlier epoch", (NOW_NS + 1, 0, None), "not_primary"),
]


def test_whoever_comes_while_it_takes_over_is_early_and_not_wrong() -> None:
    found = stream(needs_lease=True)
    found.lease(0, 2, None, taking_over=True)
    refusal = found.refusal(NOW_NS)
    assert (refusal.code if refusal else None) == "too_early"
    found.lease(NOW_NS + 1, 2, None)
    assert found.refusal(NOW_NS) is None
    late = found.refusal(NOW_NS + 1)
    assert (late.code if late else None) == "not_primary", "it took over, and lost its lease"


@pytest.mark.parametrize(("word", "code"), [row[1:] for row in LEASES], ids=[r[0] for r in LEASES])
def test_writer_needs_a_lease(word: tuple[int, int, str | None], code: str | None) -> None:
    found = stream(needs_lease=True)
    assert not found.may_write(NOW_NS), "there is no writer before a word"
    found.lease(*word)
    refusal = found.refusal(NOW_NS)
    assert (refusal.code if refusal else None) == code
    if refusal is not None and code == "not_leader":
        assert refusal.extras == {"leader_hint": {"endpoint": THERE, "region_epoch": 2}}


def test_log_without_space_is_named_before_the_lease() -> None:
    found = stream(needs_lease=True, next_seq=5)
    found.lose_from(4)
    refusal = found.refusal(NOW_NS)
    assert refusal is not None
    assert (refusal.code, found.next_seq) == ("unavailable", 4)


def test_later_epoch_begins_where_the_earlier_ends() -> None:
    found = stream(next_seq=5, region_epoch=2, closed=((1, 3),))
    found.open_epoch(4)
    assert found.closed_epochs == [(1, 3), (2, 4)]
    assert found.origin == Origin("eu1", "open", 4)


def test_frames_that_are_lost_are_not_counted_to_an_epoch_that_has_ended() -> None:
    found = stream(next_seq=7, closed=((1, 2),), region_epoch=2)
    found.open_epoch(3)
    found.lose_from(5)
    assert found.closed_epochs == [(1, 2), (2, 4)]


def test_stream_of_one_process_of_several_keeps_the_name_of_its_placement() -> None:
    found = stream(placement="open", name="open-b")
    assert (found.placement, found.origin.placement) == ("open", "open-b")


def test_watermark_is_a_position_and_absent_where_nothing_is_replicated() -> None:
    alone, paired = stream(), stream(region_epoch=3, peers=("us1",), copies=2)
    assert alone.watermark() is None
    assert paired.watermark() is None
    paired.levels.acked("us1", 7, NOW_NS)
    assert paired.watermark() == "eu1/open/3/7"


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=4))
def test_status_is_of_its_schema(changes: list[tuple[int, bool]]) -> None:
    found = stream(peers=("us1",), copies=2)
    for number, (frames, is_lost) in enumerate(changes, 2):
        found.next_seq += frames
        found.open_epoch(number)
        if is_lost:
            found.lose_from(found.next_seq - 1)
    ends = [one["seq"] for one in found.status()["closed"]]
    assert ends == sorted(ends)
    assert all(seq < found.next_seq for seq in ends)
    validator("region-status").validate({"region": "eu1", "streams": [found.status()]})
