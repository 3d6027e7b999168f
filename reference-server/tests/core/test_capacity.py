"""Capacity: Little's law holds where the published formulas do not, and a p95 is a mixture's."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from fractal_lba_server.core import capacity as c


def resident_by_counting(rate_per_s: float, ttl_s: float, size: float, hit_ratio: float) -> float:
    """Judge: let entries come and expire, read them with any hit ratio, count what is there."""
    chance = random.Random(7)
    now_s, most, hits = 0.0, 0, 0
    ends: list[float] = []
    while now_s < 3 * ttl_s:
        now_s += chance.expovariate(rate_per_s)
        heapq.heappush(ends, now_s + ttl_s)
        while ends[0] <= now_s:
            heapq.heappop(ends)
        if chance.random() < hit_ratio:
            hits += 1  # a read changes nothing of what is held
        most = max(most, len(ends))
    assert hits
    return most * size


@pytest.mark.parametrize("hit_ratio", [0.25, 0.65, 0.9])
def test_h35_bytes_that_are_held_do_not_depend_on_the_hit_ratio(hit_ratio: float) -> None:
    rate_per_s, ttl_s, size = 50.0, 60.0, 1_000.0
    held = resident_by_counting(rate_per_s, ttl_s, size, hit_ratio)
    ours = c.resident_bytes(rate_per_s, ttl_s, size, 0.1)
    assert held == pytest.approx(c.resident_bytes(rate_per_s, ttl_s, size, 0), rel=0.1)
    assert held <= ours, "what was provisioned is enough"
    published = c.documented_wrong_hot_bytes(rate_per_s, ttl_s, size, hit_ratio)
    assert held > published, "what was published is not"


def test_h35_published_formulas_are_too_small_by_the_hit_ratio() -> None:
    """The figures of the hazard: 4.68 GB for 7.2 GB, 302 GB for 1.21 TB."""
    hot = c.documented_wrong_hot_bytes(2_000, 3_600, 1_000, 0.65)
    warm = c.documented_wrong_warm_bytes(2_000, 604_800, 1_000, 0.25)
    assert (hot / 1e9, c.resident_bytes(2_000, 3_600, 1_000, 0) / 1e9) == (4.68, 7.2)
    assert warm / 1e9 == pytest.approx(302.4)
    assert c.resident_bytes(2_000, 604_800, 1_000, 0) / 1e12 == pytest.approx(1.2096)


def test_h36_object_for_each_record_costs_more_than_the_bytes() -> None:
    """The judge is the published alarm: 1,000 per month."""
    each = c.requests_cost(2_000 * c.MONTH_S, 0.005)
    batched = c.requests_cost(2_000 * c.MONTH_S / 8_192, 0.005)
    assert each == pytest.approx(25_920)
    assert batched == pytest.approx(3.16, abs=0.01)
    assert batched < 1_000 < each


def test_sizes_of_a_service() -> None:
    found = c.sizes(
        rate_per_s=2_000, payload_bytes=600, id_bytes=150, packed_ratio=0.5, hot_ttl_s=3_600,
        warm_ttl_s=604_800, ids_ttl_s=31_536_000, keep_s=31_536_000, entries_per_object=8_192,
        hot_overhead=c.HOT_OVERHEADS["redis"],
    )  # fmt: skip
    assert found.hot_bytes == pytest.approx(2_000 * 3_600 * 600 * 1.6)
    warm = 2_000 * 604_800 * 600 * (1 + c.WARM_OVERHEAD) + 2_000 * 31_536_000 * 150
    assert found.warm_bytes == pytest.approx(warm)
    cold = 2_000 * (31_536_000 - 604_800) * 300 * (1 + c.COLD_OVERHEAD)
    assert found.cold_bytes == pytest.approx(cold)
    assert found.objects_per_month == pytest.approx(632_812.5)


@pytest.mark.parametrize(("sigma", "p95_ms"), [(0.25, 332), (0.5, 220), (1.0, 103)])
def test_h34_p95_with_ten_percent_of_cold_reads_is_the_median_of_cold(
    sigma: float, p95_ms: float
) -> None:
    """The literal argument: 90 % of the reads are fast, so p95 is below 200 ms."""
    median_ms = 500 / math.exp(c.P95_SIGMAS * sigma)
    fast = [c.Mode(0.65, 1, 0.3), c.Mode(0.25, 10, 0.3)]
    blended = c.blended_ms([*fast, c.Mode(0.10, median_ms, sigma)], 0.95)
    assert blended == pytest.approx(median_ms, rel=0.05)
    assert blended == pytest.approx(p95_ms, rel=0.08)
    if sigma < 1:
        assert blended > 200, "the literal argument fails for light tails"
    safe = c.blended_ms([*fast[:1], c.Mode(0.31, 10, 0.3), c.Mode(0.04, median_ms, sigma)], 0.95)
    assert safe < 50, "with less than 5 % of cold reads it is not a cold latency"


def test_blended_percentile_is_that_of_the_mixture() -> None:
    assert c.blended_ms([c.Mode(1, 5, 0)], 0.5) == pytest.approx(5)
    assert c.blended_ms([c.Mode(3, 5, 0), c.Mode(1, 50, 0)], 0.74) == pytest.approx(5)
    assert c.blended_ms([c.Mode(3, 5, 0), c.Mode(1, 50, 0)], 0.76) == pytest.approx(50)
    one = c.Mode(1, 10, c.sigma_of(10, 50))
    assert c.blended_ms([one], 0.95) == pytest.approx(50, rel=1e-6)
    assert c.sigma_of(10, 10) == 0
    for modes, quantile in ([], 0.5), ([c.Mode(0, 5, 1)], 0.5), ([one], 1.0):
        with pytest.raises(ValueError, match="expected modes"):
            c.blended_ms(modes, quantile)


def test_modes_of_the_published_limits() -> None:
    assert [m.share for m in c.expected_modes(0.65, 0.05)] == pytest.approx([0.65, 0.3, 0.05])
    assert [m.median_ms for m in c.expected_modes(1, 0)] == [1]


def test_walk_costs_every_tier_that_was_asked() -> None:
    assert c.walk_ms((1, 10, 100), (0.6, 0.3, 0.1)) == pytest.approx(1 + 0.4 * 10 + 0.1 * 100)
    assert c.walk_ms((1, 10, 100), (0, 0, 0)) == 111, "a new id costs all of them: never walk it"
