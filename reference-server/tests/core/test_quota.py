"""The token buckets against an exact model, and what an operator relies on."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core.quota import (
    CLOCK_STEP_NS,
    NEVER_NS,
    Buckets,
    address_name,
)

SECOND = 1_000_000_000


class ExactBuckets:
    """Keep every level as a rational number of tokens, and every name in order of use."""

    def __init__(self, max_buckets: int) -> None:
        self.max_buckets = max_buckets
        self.held: list[tuple[str, Fraction, int]] = []

    def level(self, name: str, rate: Fraction, burst: int, now_ns: int) -> tuple[Fraction, int]:
        known = [(level, at_ns) for held, level, at_ns in self.held if held == name]
        if not known:
            return Fraction(burst), now_ns
        ((level, at_ns),) = known
        if now_ns >= at_ns:
            level, at_ns = level + rate * Fraction(now_ns - at_ns, SECOND), now_ns
        elif at_ns - now_ns >= CLOCK_STEP_NS:
            at_ns = now_ns
        return min(level, Fraction(burst)), at_ns

    def take(self, name: str, rate: Fraction, burst: int, cost: int, now_ns: int) -> int:
        level, at_ns = self.level(name, rate, burst, now_ns)
        wait_ns = self.wait_ns(level, rate, burst, cost)
        if wait_ns == 0:
            level -= cost
        known = [entry for entry in self.held if entry[0] != name]
        if len(known) == self.max_buckets:
            known = known[1:]
        self.held = [*known, (name, level, at_ns)]
        return wait_ns

    @staticmethod
    def wait_ns(level: Fraction, rate: Fraction, burst: int, cost: int) -> int:
        if level >= cost:
            return 0
        if cost > burst or rate == 0:
            return NEVER_NS
        exact = (cost - level) / rate * SECOND
        return min(-(-exact.numerator // exact.denominator), NEVER_NS)


rates = st.one_of(st.integers(0, 1_000_000), st.integers(0, 10**9).map(lambda n: n / 10**6))
steps_ns = st.one_of(
    st.integers(0, 5 * SECOND),
    st.sampled_from([0, 1, -1, -CLOCK_STEP_NS, 1 - CLOCK_STEP_NS, -3600 * SECOND, 10**18]),
)
takes = st.tuples(
    st.sampled_from("abcd"), rates, st.integers(0, 50), st.integers(0, 60), steps_ns, st.booleans()
)


def as_exact(rate: float) -> Fraction:
    return Fraction(rate) if isinstance(rate, int) else Fraction(round(rate * 10**6), 10**6)


@given(max_buckets=st.integers(1, 3), script=st.lists(takes, max_size=40))
def test_buckets_equal_the_exact_model(
    max_buckets: int, script: list[tuple[str, float, int, int, int, bool]]
) -> None:
    buckets, model = Buckets(max_buckets=max_buckets), ExactBuckets(max_buckets)
    now_ns = 10**18
    for name, rate, burst, cost, step_ns, only_peek in script:
        now_ns += step_ns
        exact = as_exact(rate)
        level, _ = model.level(name, exact, burst, now_ns)
        assert buckets.peek(
            name, rate_per_s=rate, burst=burst, cost=cost, now_ns=now_ns
        ) == model.wait_ns(level, exact, burst, cost)
        if not only_peek:
            assert buckets.take(
                name, rate_per_s=rate, burst=burst, cost=cost, now_ns=now_ns
            ) == model.take(name, exact, burst, cost, now_ns)
        assert len(buckets) == len(model.held)


@given(
    rate=st.integers(1, 1000),
    burst=st.integers(0, 20),
    steps=st.lists(st.tuples(st.integers(-5 * SECOND, 5 * SECOND), st.integers(0, 5)), max_size=60),
)
def test_no_clock_gives_more_than_the_time_that_passed(
    rate: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    buckets, now_ns, passed_ns, taken = Buckets(max_buckets=1), 10**18, 0, 0
    for step_ns, cost in steps:
        now_ns += step_ns
        passed_ns += max(0, step_ns)
        if buckets.take("a", rate_per_s=rate, burst=burst, cost=cost, now_ns=now_ns) == 0:
            taken += cost
    assert taken * SECOND <= burst * SECOND + rate * passed_ns


@given(
    rate=st.integers(1, 1_000_000),
    burst=st.integers(1, 100),
    data=st.data(),
)
def test_the_wait_is_the_first_nanosecond_that_is_enough(
    rate: int, burst: int, data: st.DataObject
) -> None:
    buckets, cost = Buckets(max_buckets=1), data.draw(st.integers(1, burst))
    limits = {"rate_per_s": rate, "burst": burst}
    buckets.take("a", **limits, cost=burst, now_ns=0)
    wait_ns = buckets.take("a", **limits, cost=cost, now_ns=0)
    assert wait_ns > 0
    assert buckets.peek("a", **limits, cost=cost, now_ns=wait_ns - 1) == 1
    assert buckets.take("a", **limits, cost=cost, now_ns=wait_ns) == 0


def test_events_out_of_order_refill_nothing_twice() -> None:
    buckets = Buckets(max_buckets=1)
    limits = {"rate_per_s": 1000, "burst": 10}
    assert buckets.take("a", **limits, cost=10, now_ns=SECOND) == 0
    # Ten milliseconds pass once, however often two threads disagree about them.
    for _ in range(100):
        buckets.take("a", **limits, cost=11, now_ns=SECOND + 10_000_000)
        buckets.take("a", **limits, cost=11, now_ns=SECOND)
    assert buckets.take("a", **limits, cost=10, now_ns=SECOND + 10_000_000) == 0
    assert buckets.take("a", **limits, cost=1, now_ns=SECOND + 10_000_000) == 1_000_000


def test_a_clock_set_back_keeps_the_level_and_goes_on_refilling() -> None:
    buckets = Buckets(max_buckets=1)
    limits = {"rate_per_s": 1, "burst": 10}
    buckets.take("a", **limits, cost=7, now_ns=7200 * SECOND)
    assert buckets.take("a", **limits, cost=3, now_ns=3600 * SECOND) == 0
    assert buckets.take("a", **limits, cost=1, now_ns=3600 * SECOND) == SECOND
    assert buckets.take("a", **limits, cost=2, now_ns=3602 * SECOND) == 0


def test_one_name_leaves_another_alone() -> None:
    buckets = Buckets(max_buckets=2)
    for _ in range(10_000):
        buckets.take("forger", rate_per_s=1, burst=5, cost=1, now_ns=0)
    for _ in range(5):
        assert buckets.take("tenant", rate_per_s=1, burst=5, cost=1, now_ns=0) == 0


def test_a_peek_changes_nothing() -> None:
    buckets = Buckets(max_buckets=1)
    for _ in range(10):
        assert buckets.peek("a", rate_per_s=1, burst=1, cost=1, now_ns=0) == 0
    assert len(buckets) == 0


def test_the_bucket_used_longest_ago_makes_room() -> None:
    buckets = Buckets(max_buckets=2)
    one = {"rate_per_s": 1, "burst": 1, "cost": 1, "now_ns": 0}
    buckets.take("a", **one)
    buckets.take("b", **one)
    buckets.take("a", **one)
    buckets.take("c", **one)
    assert len(buckets) == 2
    assert buckets.peek("a", **one) == SECOND
    assert buckets.peek("b", **one) == 0


def test_a_smaller_burst_of_a_reload_applies_at_once() -> None:
    buckets = Buckets(max_buckets=1)
    buckets.take("a", rate_per_s=1, burst=100, cost=0, now_ns=0)
    assert buckets.take("a", rate_per_s=1, burst=3, cost=3, now_ns=0) == 0
    assert buckets.take("a", rate_per_s=1, burst=100, cost=1, now_ns=0) == SECOND


@pytest.mark.parametrize(
    ("rate", "burst", "cost"), [(1, 0, 1), (1, 5, 6), (0, 5, 6), (1e-9, 5, 6), (0, 0, 1)]
)
def test_what_can_never_be_taken_waits_the_longest(rate: float, burst: int, cost: int) -> None:
    buckets = Buckets(max_buckets=1)
    assert buckets.take("a", rate_per_s=rate, burst=burst, cost=cost, now_ns=0) == NEVER_NS


def test_a_rate_of_zero_gives_its_burst_once() -> None:
    buckets = Buckets(max_buckets=1)
    none = {"rate_per_s": 0, "burst": 2, "cost": 1}
    assert buckets.take("a", **none, now_ns=0) == 0
    assert buckets.take("a", **none, now_ns=0) == 0
    assert buckets.take("a", **none, now_ns=10**18) == NEVER_NS


def test_half_a_token_per_second_is_exact() -> None:
    buckets = Buckets(max_buckets=1)
    one = {"burst": 1, "cost": 1, "now_ns": 0}
    assert buckets.take("a", rate_per_s=0.5, **one) == 0
    assert buckets.take("a", rate_per_s=0.5, **one) == 2 * SECOND


def test_a_negative_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="cost: expected at least 0, got -1"):
        Buckets(max_buckets=1).take("a", rate_per_s=1, burst=1, cost=-1, now_ns=0)


def test_no_room_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="max_buckets: expected at least 1, got 0"):
        Buckets(max_buckets=0)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/flk.sock", "/run/flk.sock"),
    ],
)
def test_an_address_is_named_by_its_customer(host: str, name: str) -> None:
    assert address_name(host) == name
