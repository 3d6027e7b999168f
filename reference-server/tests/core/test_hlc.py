"""The hybrid logical clock always rises, stays near wall time, and its text sorts as it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_machine import MS

from fractal_lba_server.core import hlc

times_ns = st.integers(0, (1 << 48) * MS - 1)


@given(st.lists(times_ns, min_size=1, max_size=30), st.integers(0, 2**63))
def test_clock_always_rises_and_its_text_with_it(times: list[int], last: int) -> None:
    texts = []
    for now_ns in times:
        value = hlc.tick(last, now_ns)
        assert value > last
        assert value >> 16 >= now_ns // MS
        last = value
        texts.append(hlc.text(value))
    assert texts == sorted(set(texts))
    assert {len(one) for one in texts} == {16}


@pytest.mark.parametrize(
    ("last", "now_ms", "value"),
    [
        (0, 5, 5 << 16),
        (5 << 16, 5, (5 << 16) + 1),
        ((5 << 16) + 0xFFFF, 5, 6 << 16),
        (9 << 16, 5, (9 << 16) + 1),
    ],
)
def test_clock_counts_within_a_millisecond_and_carries_over(
    last: int, now_ms: int, value: int
) -> None:
    assert hlc.tick(last, now_ms * MS + MS - 1) == value


@given(times_ns, st.integers(-1_000, 1_000))
def test_clock_says_how_far_it_is_ahead(now_ns: int, ahead_ms: int) -> None:
    now_ms = now_ns // MS
    if now_ms + ahead_ms >= 0:
        assert hlc.ahead_ms((now_ms + ahead_ms) << 16 | 7, now_ns) == ahead_ms
