"""The rule of a row of a dedup shard, and its bytes."""

from __future__ import annotations

import itertools
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.ring import hash_point
from fractal_lba_server.core import dedup
from fractal_lba_server.core.dedup import Claim, Claimed, Entry, Found, Pending
from fractal_lba_server.core.first_write import Key, Order, Origin, Stored

KEY = ("acme", "a" * 64)
CLAIM = Claim(KEY, "c" * 64, "eu1")
MINE = dedup.claim_entry(CLAIM)
NOW_MS = 1_700_000_000_000


def outcome(hlc: int = 5, *, seq: int = 7, expires_at_ms: int | None = None) -> Entry:
    stored = Stored(seq, "c" * 64, 200, b'{"accepted":true}', Origin("eu1", "open", 1), hlc)
    return dedup.done_entry(KEY, stored, lambda _: 2, owner="eu1", expires_at_ms=expires_at_ms)


@pytest.mark.parametrize(
    ("row", "verdict", "stands"),
    [
        (None, Claimed(KEY), MINE),
        (MINE, Claimed(KEY), MINE),
        (MINE._replace(content="d" * 64), Claimed(KEY), MINE),
        (MINE._replace(owner="us1"), Pending(MINE._replace(owner="us1")), None),
        (outcome(), Found(outcome()), None),
        (outcome(expires_at_ms=NOW_MS - 499), Found(outcome(expires_at_ms=NOW_MS - 499)), None),
        (outcome(expires_at_ms=NOW_MS - 500), Claimed(KEY), MINE),
    ],
)
def test_a_claim_gets_a_key_that_nobody_has(
    row: Entry | None, verdict: dedup.Verdict, stands: Entry | None
) -> None:
    assert (verdict, stands or row) == dedup.claim_row(row, CLAIM, NOW_MS)


@pytest.mark.parametrize(
    ("row", "entry", "row_stands"),
    [
        (None, MINE, False),
        (MINE, MINE._replace(owner="us1"), True),
        (MINE._replace(owner="us1"), MINE, True),
        (MINE, outcome(), False),
        (outcome(), MINE, True),
        (outcome(5), outcome(4), False),
        (outcome(5), outcome(6), True),
        (outcome(5, seq=7), outcome(5, seq=6), False),
        (outcome(5), outcome(5), True),
        (outcome(expires_at_ms=NOW_MS - 500), outcome(6), False),
        (outcome(expires_at_ms=NOW_MS - 500), MINE, False),
        (MINE, outcome(expires_at_ms=NOW_MS - 500), True),
        (outcome(6), outcome(5, expires_at_ms=NOW_MS - 500), True),
        (outcome(6, expires_at_ms=1), outcome(5, expires_at_ms=2), False),
    ],
)
def test_the_first_write_stands(row: Entry | None, entry: Entry, *, row_stands: bool) -> None:
    assert (row if row_stands else entry) == dedup.first_of(row, entry, NOW_MS)


def test_a_release_takes_back_its_own_claim_alone() -> None:
    assert None is dedup.release_row(MINE, "eu1")
    assert None is dedup.release_row(None, "eu1")
    assert MINE == dedup.release_row(MINE, "eu1/b")
    assert outcome() == dedup.release_row(outcome(), "eu1")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ORDERS = st.builds(
    Order, *(st.integers(0, 2**bits - 1) for bits in (64, 32, 32, 64))
)  # the fields have these widths
CLAIMS = st.builds(
    Entry, st.just(KEY), st.just(dedup.CLAIMED), TEXTS, TEXTS, st.none(), st.none(), st.none()
)
OUTCOMES = st.builds(
    Entry,
    st.just(KEY),
    st.just(dedup.DONE),
    TEXTS,
    TEXTS,
    ORDERS,
    st.binary(max_size=60),
    st.none() | st.integers(0, 2**63 - 2),
)
ENTRIES = CLAIMS | OUTCOMES


@given(ENTRIES, ENTRIES)
def test_rows_are_read_back_and_compare_like_orders(a: Entry, b: Entry) -> None:
    rows = [dedup.encode_row(each) for each in (a, b)]
    assert [a, b] == [dedup.decode_row(KEY, row) for row in rows]
    if a.order is not None and b.order is not None and a.order != b.order:
        assert (a.order < b.order) == (rows[0] < rows[1])
    if a.state != b.state:
        assert (a.state == dedup.DONE) == (rows[0] < rows[1])


@given(st.lists(OUTCOMES, min_size=1, max_size=4))
def test_outcomes_give_one_winner_in_whatever_order_they_arrive(entries: list[Entry]) -> None:
    winners = set()
    for order in itertools.permutations(entries):
        row = None
        for entry in order:
            row = dedup.first_of(row, entry, NOW_MS)
        winners.add(row)
    assert 1 == len(winners)


@given(st.binary(max_size=120))
def test_other_bytes_are_no_row_and_no_outcome(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not of version 1|codec|not in range"):
        dedup.decode_row(KEY, data)


ROW = dedup.encode_row(outcome())


@pytest.mark.parametrize(
    "row",
    [b"", ROW[:33], ROW[:40], b"\x02" + ROW[1:], ROW[:1] + b"\x02" + ROW[2:],
     dedup.encode_row(MINE) + b"x"],
)  # fmt: skip
def test_a_damaged_row_is_refused(row: bytes) -> None:
    with pytest.raises(ValueError, match="the row of acme/aaaa"):
        dedup.decode_row(KEY, row)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (outcome()._replace(order=None), "an outcome has an order"),
        (outcome()._replace(stored=None), "an outcome has an order"),
        (MINE._replace(stored=b"x"), "a claim has neither"),
        (MINE._replace(owner="x" * 256), "at most 255 bytes, got 256"),
        (outcome()._replace(stored=bytes(dedup.STORED_BYTES_MAX + 1)), "at most 1048576 bytes"),
    ],
)
def test_what_is_no_entry_is_not_written(entry: Entry, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        dedup.encode_row(entry)


def test_an_outcome_is_read_back_with_the_place_of_its_frame() -> None:
    stored = Stored(2**64 - 1, "c" * 64, 202, b"{}", Origin("us1", "eu-only", 3), 2**63)
    data = dedup.encode_stored(stored)
    assert stored == dedup.decode_stored(data)
    assert b"\x01\x00\xca" == data[:3]
    for short in (b"", data[:30], data[: len(data) - 3]):
        with pytest.raises(ValueError, match="not an encoded outcome"):
            dedup.decode_stored(short)
    with pytest.raises(ValueError, match="version 2, expected 1"):
        dedup.decode_stored(b"\x02" + data[1:])


@pytest.mark.parametrize("key", [KEY, ("a\0b|c", "0" * 64), ("", ""), ("é", "f" * 64)])
def test_a_key_has_a_point_and_is_read_back_from_its_bytes(key: Key) -> None:
    point, hashed = dedup.place_of(key)
    assert f"{key[0]}|{key[1]}".encode() == hashed
    assert hash_point(hashed) == point == dedup.point_of(key)
    assert key == dedup.key_of(hashed)


def test_expiries_are_compared_as_bytes() -> None:
    threshold = dedup.expiry_bytes(dedup.expired_before_ms(NOW_MS))
    for expires_at_ms in (None, NOW_MS - 501, NOW_MS - 500, NOW_MS - 499, 0):
        entry = outcome(expires_at_ms=expires_at_ms)
        at = dedup.encode_row(entry)[dedup.EXPIRY_AT : dedup.EXPIRY_AT + 8]
        assert (at <= threshold) == dedup.has_expired(entry, NOW_MS)
    assert 0 == dedup.expired_before_ms(3)
    row = dedup.encode_row(MINE)
    assert row[dedup.OWNER_AT :].startswith(dedup.owner_bytes("eu1"))
    assert 1 == row[dedup.STATE_AT]


def test_a_range_is_digested_from_its_entries() -> None:
    _, hashed = dedup.place_of(KEY)
    one = dedup.entry_digest(hashed, ROW)
    lengths = [len(part).to_bytes(4, "big") for part in (hashed, ROW)]
    assert sha256(lengths[0] + hashed + lengths[1] + ROW).digest() == one
    assert (0, sha256().digest()) == dedup.range_digest([])
    assert (2, sha256(one + one).digest()) == dedup.range_digest([one, one])


def test_faults_name_the_shard_and_the_fence() -> None:
    assert "dedup shard a is unavailable: down" == str(dedup.ShardUnavailable("a", "down"))
    assert "fenced at 7" in str(dedup.StaleRingEpoch(7))
    assert 7 == dedup.StaleRingEpoch(7).current


@pytest.mark.parametrize("skews_ms", [(0, 0), (0, 500), (500, 0), (-250, 250), (-500, 0)])
def test_h19_no_region_calls_a_record_new_that_another_still_takes(
    skews_ms: tuple[int, int],
) -> None:
    """Literal: an entry is over at its expiry by the local clock; judge: taken, and new at one.

    Each region takes records up to the TTL by its own clock (`record_expired` refuses older ones),
    and two clocks differ by 500 ms at most.
    """
    ttl_ms, entry = 1_000_000, outcome(expires_at_ms=1_000_000)
    early = []
    for literal, now_ms in itertools.product([True, False], range(998_000, 1_003_000, 50)):
        clocks = [now_ms + skew_ms for skew_ms in skews_ms]
        is_taken = any(clock < ttl_ms for clock in clocks)
        grace_ms = 0 if literal else dedup.GRACE_MS
        news = [dedup.has_expired(entry, clock, grace_ms=grace_ms) for clock in clocks]
        if is_taken and any(news):
            early.append(literal)
    assert False not in early
    assert (True in early) == (skews_ms[0] != skews_ms[1])
