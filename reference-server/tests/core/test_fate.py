"""Fate: the rules over arrays are the scalar rules, on a million random cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core import dedup, fate, first_write, hlc
from fractal_lba_server.core.fate import Frames
from fractal_lba_server.core.first_write import Origin, Stored
from fractal_lba_server.core.governor import Governor
from fractal_lba_server.core.levels import Levels
from fractal_lba_server.core.streams import Stream, StreamStart

CODES = ("eu1", "us1", "ap1")
KEY = ("acme", "a" * 64)
rank = CODES.index

PAIRS = 250_000
"""Cases of each of the five rules; together a million."""


def chance(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(sum(name.encode())))


def frames(draw: np.random.Generator, count: int) -> Frames:
    """Draw frames that often share parts of their places."""
    return Frames(
        draw.integers(0, 3, count), draw.integers(0, 3, count), draw.integers(1, 3, count),
        draw.integers(1, 3, count), draw.integers(0, 2, count),
    )  # fmt: skip


def scalar(found: Frames) -> Iterator[Stored]:
    for stamp, place, epoch, seq, content in zip(*(part.tolist() for part in found), strict=True):
        origin = Origin(CODES[place], "open", epoch)
        yield Stored(seq, "cd"[content], 200, b"", origin, stamp)


def test_merge_is_that_of_two_frames() -> None:
    draw = chance("merge")
    a, b = frames(draw, PAIRS), frames(draw, PAIRS)
    met = fate.merge(a, b)
    for one, other, wins, kind in zip(scalar(a), scalar(b), met.wins, met.kind, strict=True):
        expected = first_write.merge(one, other, rank)
        assert expected.kind == fate.KINDS[kind]
        assert first_write.order_of(expected.winner, rank) == first_write.order_of(
            one if wins else other, rank
        )


def test_resolve_is_that_of_one_frame() -> None:
    draw = chance("resolve")
    found, standing, stands = frames(draw, PAIRS), frames(draw, PAIRS), draw.random(PAIRS) < 0.7
    new, wins = fate.resolve(found, standing, stands)
    rows = zip(scalar(found), scalar(standing), stands, new, wins, strict=True)
    for frame, other, there, is_new, wins_there in rows:
        expected = first_write.resolve(KEY, frame, "k", other if there else None, rank)
        assert is_new == (expected is not None)
        assert wins_there == (expected is not None and expected.wins)


@pytest.mark.parametrize(("copies", "peers"), [(2, 1), (2, 3), (3, 3), (4, 3), (1, 2), (5, 3)])
def test_replicated_is_what_a_stream_knows_of_its_peers(copies: int, peers: int) -> None:
    draw = chance(f"levels {copies} {peers}")
    held = draw.integers(0, 9, (peers, PAIRS // 20))
    for column, expected in zip(held.T.tolist(), fate.replicated(held, copies), strict=True):
        levels = Levels(copies=copies, peers=tuple(CODES[:peers]))
        for peer, seq in zip(CODES, column, strict=False):
            levels.acked(peer, seq, 0)
        assert expected == levels.replicated


def test_decide_is_the_governor_of_each_tenant_step_by_step() -> None:
    draw = chance("governor")
    tenants, steps = 2_000, 100
    rpo_ms = draw.integers(250, 900, tenants)
    governors = [Governor(int(bound)) for bound in rpo_ms]
    since_ns = np.full(tenants, fate.NOT_REFUSING)
    now_ns = np.zeros(tenants, dtype=np.int64)
    for _ in range(steps):
        now_ns = now_ns + draw.integers(0, 150_000_000, tenants)
        lag_ms = draw.integers(0, 1_000, tenants)
        paces = fate.decide(rpo_ms, since_ns, lag_ms, now_ns)
        since_ns = paces.since_ns
        for place, governor in enumerate(governors):
            expected = governor.decide(int(lag_ms[place]), int(now_ns[place]))
            assert expected == (paces.wait_ms[place], paces.refuse[place])


def test_ticks_are_stamps_one_after_the_other() -> None:
    draw = chance("hlc")
    for _ in range(PAIRS // 100):
        now_ns = np.maximum(0, np.cumsum(draw.integers(-4_000_000, 5_000_000, 100)))
        last = first = int(draw.integers(0, 1 << 20))
        for stamp, at_ns in zip(fate.ticks(first, now_ns), now_ns.tolist(), strict=True):
            last = hlc.tick(last, at_ns)
            assert last == stamp


def test_leases_and_expiries_are_those_of_one_record() -> None:
    draw = chance("leases")
    until_ns, now_ns = draw.integers(-1, 5, 5_000), draw.integers(0, 5, 5_000)
    for until, now, may in zip(until_ns, now_ns, fate.may_write(until_ns, now_ns), strict=True):
        stream = Stream("eu1", StreamStart(needs_lease=until != fate.NO_LEASE_NEEDED))
        stream.lease(int(until), 1, None)
        assert may == stream.may_write(int(now))
    expires_ms, now_ms = draw.integers(-1, 1_000, 5_000), draw.integers(0, 2_000, 5_000)
    found = fate.has_expired(expires_ms, now_ms)
    for expiry, now, over in zip(expires_ms.tolist(), now_ms.tolist(), found, strict=True):
        entry = dedup.claim_entry(dedup.Claim(KEY, "c", "me"))
        entry = entry._replace(expires_at_ms=None if expiry == fate.NEVER else expiry)
        assert over == dedup.has_expired(entry, now)


@given(st.floats(0.01, 3), st.floats(0.01, 3), st.floats(0.1, 2))
def test_a_conflict_needs_both_regions_to_write_a_key_within_the_split(
    a: float, b: float, length: float
) -> None:
    keys = 40_000
    draw = chance("split")
    times = draw.exponential(1 / a, keys), draw.exponential(1 / b, keys)
    both = (times[0] < length) & (times[1] < length)
    ones, zeros = np.ones(keys, dtype=np.int64), np.zeros(keys, dtype=np.int64)
    stamps = [(1_000 * moment).astype(np.int64) << hlc.COUNTER_BITS for moment in times]
    met = fate.merge(
        Frames(stamps[0], zeros, ones, ones, zeros), Frames(stamps[1], ones, ones, ones, ones)
    )
    conflicts = (both & (met.kind == fate.KINDS.index(first_write.DISPLACED))).mean()
    expected = (1 - np.exp(-a * length)) * (1 - np.exp(-b * length))
    assert abs(conflicts - expected) < 5 * np.sqrt(expected * (1 - expected) / keys) + 1e-4
