"""How long an acknowledged entry is held, and what is read for that; the rest is in the vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.held import Fate, Held, Moved, judge_recorded
from fractal_lba.http import Request
from fractal_lba.outcome import Outcome, Position, Raw, Submitted
from fractal_lba.region_status import (
    RegionStatus,
    StreamStatus,
    read_region_status,
    status_request,
    watermark_of,
)
from fractal_lba.schedule import Acknowledge, Hold, Later
from fractal_lba.secret import Secret
from fractal_lba.testing import outcome_body

OUTCOME = Outcome.from_json(outcome_body("ab" * 32))
AT = Position("eu1", "open", 1, 5)


def at(seq: int, region_epoch: int = 1, region: str = "eu1", placement: str = "open") -> Position:
    return Position(region, placement, region_epoch, seq)


def submitted(
    position: Position | None, replicated: Position | None = None, level: str = "durable"
) -> Submitted:
    raw = Raw(200, {}, b"")
    return Submitted(OUTCOME, False, level, position, raw, replicated=replicated)


def held(*positions: Position) -> Held:
    made = Held()
    for number, position in enumerate(positions):
        made.add(str(number), position)
    return made


def status(*streams: dict[str, Any], region: Any = "eu1", **more: Any) -> bytes:
    return json.dumps({"region": region, "streams": list(streams), **more}).encode()


def stream(region_epoch: Any, replicated: Any, closed: Any = (), **more: Any) -> dict[str, Any]:
    ends = [{"region_epoch": epoch, "seq": seq} for epoch, seq in closed]
    numbers = {"region_epoch": region_epoch, "durable": 99, "replicated": replicated}
    return {"placement": "open", **numbers, "closed": ends, **more}


# --- what an answer means ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "level", "verdict"),
    [
        (submitted(AT), "durable", Acknowledge(200)),
        (submitted(None), "durable", Acknowledge(200)),
        (submitted(AT, level="replicated"), "replicated", Acknowledge(200)),
        (submitted(AT, level="witnessed"), "replicated", Acknowledge(200)),
        (submitted(AT), "replicated", Hold(200, AT)),
        (submitted(None), "replicated", Later(endpoint_down=False)),
        (submitted(AT, at(3)), "replicated", Hold(200, AT)),
        (submitted(AT, at(3, 4)), "replicated", Hold(200, at(5, 4))),
        (submitted(at(5, 4), at(3)), "replicated", Hold(200, at(5, 4))),
        (submitted(AT, at(3, 4, region="us1")), "replicated", Hold(200, AT)),
        (submitted(AT, at(3, 4, placement="eu")), "replicated", Hold(200, AT)),
    ],
)
def test_an_answer_is_judged_at_the_level_of_the_client(
    answer: Submitted, level: str, verdict: object
) -> None:
    assert judge_recorded(answer, level) == verdict


# --- what a watermark means --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watermark", "moved"),
    [
        (at(4), Moved()),
        (at(5), Moved(released=("0",))),
        (at(6), Moved(released=("0",))),
        (at(9, 0), Moved()),
        (at(0, 2), Moved(again=("0",))),
        (at(9, 2), Moved(again=("0",))),
        (at(9, region="us1"), Moved()),
        (at(9, 2, region="us1"), Moved()),
        (at(9, placement="eu"), Moved()),
    ],
)
def test_a_watermark_covers_its_own_stream_and_epoch_alone(
    watermark: Position, moved: Moved
) -> None:
    box = held(AT)
    assert box.hear(watermark) == moved
    assert ("0" in box) is (moved == Moved())
    assert len(box) == (moved == Moved())


def test_a_watermark_that_goes_back_is_no_news() -> None:
    box = held()
    box.hear(at(9, 2))
    for older in (at(8, 2), at(99, 1), at(9, 2)):
        assert box.hear(older) == Moved()
    assert box.fate(at(9, 2)) is Fate.COVERED
    assert box.fate(at(10, 2)) is Fate.OPEN
    assert box.fate(at(1, 1)) is Fate.PASSED
    assert box.fate(at(1, 3)) is Fate.OPEN


def test_regions_are_those_in_which_something_is_held() -> None:
    box = held(AT, at(1, region="us1"))
    assert box.regions == {"eu1", "us1"}
    box.discard("1")
    box.discard("1")
    assert box.regions == {"eu1"}
    assert list(box.items()) == [("0", AT)]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 9)), max_size=12),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(0, 9)), max_size=12),
)
def test_an_entry_is_released_by_nothing_but_a_watermark_that_reaches_it(
    entries: list[tuple[str, int, int]], heard: list[tuple[str, int, int]]
) -> None:
    positions = [at(seq, epoch, region=name * 3) for name, epoch, seq in entries]
    box = held(*positions)
    released: set[str] = set()
    again: set[str] = set()
    for name, epoch, seq in heard:
        found = box.hear(at(seq, epoch, region=name * 3))
        released |= set(found.released)
        again |= set(found.again)
    for number, (name, epoch, seq) in enumerate(entries):
        own = [each[1:] for each in heard if each[0] == name]
        before = [each for each in own if each[0] == epoch and each[1] >= seq]
        assert str(number) not in released or before
        assert str(number) not in again or any(each[0] > epoch for each in own)
        if str(number) in box:
            assert not before
            assert all(each[0] <= epoch for each in own)


# --- the status of a region --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "position", "moved"),
    [
        (stream(1, 5), AT, Moved(("0",))),
        (stream(2, 4, [(1, 5)]), AT, Moved(moved=(("0", at(5, 2)),))),
        (stream(2, 5, [(1, 5)]), AT, Moved(("0",), moved=(("0", at(5, 2)),))),
        (stream(2, 9, [(1, 4)]), AT, Moved(again=("0",))),
        (stream(3, 9, [(1, 9), (2, 4)]), AT, Moved(again=("0",))),
        (stream(3, 4, [(0, 1), (1, 9), (2, 5)]), AT, Moved(moved=(("0", at(5, 3)),))),
        (stream(2, 9), AT, Moved(again=("0",))),
        (stream(2, 4, [(1, 9), (1, 3)]), AT, Moved(again=("0",))),
        (stream(1, 4, [(1, 2)]), AT, Moved()),
        (stream(2, 4, [(1, 5)]), at(5, region="us1"), Moved()),
    ],
)
def test_a_status_says_what_stands_of_earlier_epochs(
    told: dict[str, Any], position: Position, moved: Moved
) -> None:
    news = read_region_status(status(told))
    assert news is not None
    assert held(position).hear(news) == moved


def test_a_status_of_before_a_newer_epoch_moves_nothing() -> None:
    box = held(at(5, 2))
    box.hear(at(3, 2))
    news = RegionStatus((StreamStatus(at(9, 1), {0: 9}),))
    assert box.hear(news) == Moved()
    assert box.hear(RegionStatus(())) == Moved()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'"eu1"', status(region=1), status(region="EU1"), b'{"region":"eu1"}',
        b'{"region":"eu1","streams":{}}', status(stream(1, 5), {}), status(stream(1.0, 5)),
        status(stream(1, -1)), status(stream(1, 2**53)), status(stream(True, 5)),
        status(stream(1, 5, placement="")), status(stream(1, 5, placement="Open")),
        status(stream(1, 5) | {"closed": 1}), status(stream(1, 5, [(0, None)])),
        status(stream(1, 5) | {"closed": [7]}), status(stream(1, 5, durable="9")),
        status("open"),  # type: ignore[arg-type]  # that is the point
    ],
)  # fmt: skip
def test_what_is_no_status_is_none(body: bytes) -> None:
    assert read_region_status(body) is None


def test_members_that_nobody_knows_are_ignored() -> None:
    news = read_region_status(status(stream(1, 5, lag_ms=3), role="primary"))
    assert news == RegionStatus((StreamStatus(at(5), {}),))


# --- requests and headers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "watermark"),
    [
        ([], None),
        ([("PCS-Replicated", "eu1/open/1/5")], AT),
        ([("pcs-replicated", "eu1/open/1/0")], at(0)),
        ([("PCS-Replicated", "eu1/open/1/05")], None),
        ([("PCS-Replicated", "eu1/open/1/5"), ("PCS-Replicated", "eu1/open/1/6")], None),
        ([("PCS-Position", "eu1/open/1/5")], None),
    ],
)
def test_a_header_that_is_no_position_says_nothing(
    fields: list[tuple[str, str]], watermark: Position | None
) -> None:
    assert watermark_of(fields) == watermark


def test_a_status_is_asked_for_with_the_token_of_the_tenant() -> None:
    made = status_request("https://a.example", agent="x", token=Secret("t"), tenant="acme")
    assert made == Request(
        "GET",
        "https://a.example/v1/region/status",
        (
            ("Accept", "application/json, application/problem+json"),
            ("User-Agent", "x"),
            ("X-Tenant-Id", "acme"),
            ("Authorization", "Bearer t"),
        ),
    )
