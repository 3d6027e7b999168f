"""The closed forms give the hand values of the register, and agree with draws and with scipy."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, isclose, log, sqrt
from random import Random
from statistics import fmean, pvariance
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fractal_lba_sim import formulas as f

HOUR, DAY = f.HOUR_S, f.DAY_S
PER_S = 2_000
RESIDENT = PER_S * 14 * DAY

HAND: list[tuple[str, Callable[[], float], float, float]] = [
    # what it is, the formula, the value of the register, how far off it was rounded
    ("A1 least", lambda: f.detection(10, 3, 0).above_s, 20, 0),
    ("A1 most", lambda: f.detection(10, 3, 0).to_s, 30, 0),
    ("A1 mean", lambda: f.detection(10, 3, 0).mean_s, 25, 0),
    ("A1 p95", lambda: f.detection(10, 3, 2).quantile_s(0.95), 31.5, 1e-9),
    ("A1 false alarm", lambda: f.false_alarm(0.01, 3), 1e-6, 1e-15),
    ("A2 longest TTL for 5 min", lambda: f.ttl_s_max(300, 10, 3, 2, 60), 208, 0),
    ("A2 TTL 300, most", lambda: f.reroute(10, 3, 2, 60, 300).most_s, 392, 0),
    ("A2 mean", lambda: f.reroute(10, 3, 2, 60, 300).mean_s, 27 + 60 + 150, 0),
    ("A2 least", lambda: f.reroute(10, 3, 2, 60, 300).least_s, 82, 0),
    ("A3 least", lambda: f.rpo_shipping(90, 10, 20).above_s, 30, 0),
    ("A3 most", lambda: f.rpo_shipping(90, 10, 20).to_s, 120, 0),
    ("A3 p95", lambda: f.rpo_shipping(90, 10, 20).quantile_s(0.95), 30 + 0.95 * 90, 1e-9),
    ("A3 interval", lambda: f.interval_s_max(120, 10, 20), 90, 0),
    ("A3 lost", lambda: f.lost_records(2_000, 0.12), 240, 0),
    ("A4 least", lambda: f.rpo_cold_standby(300, 60, 10, 15).above_s, 25, 0),
    ("A4 most", lambda: f.rpo_cold_standby(300, 60, 10, 15).to_s, 385, 0),
    ("A4 mean", lambda: f.rpo_cold_standby(300, 60, 10, 15).mean_s, 205, 0),
    ("A4 restore", lambda: f.restore_s(50e9, 100e6, 300), 800, 0),
    ("A5 3 to 4", lambda: f.moved_share(3, 4), 0.25, 0),
    ("A5 1 to 3", lambda: f.moved_share(1, 3), 2 / 3, 1e-12),
    ("A5 sd of 3 to 4", lambda: f.moved_share_sd(3, 4, 150), 0.0177, 5e-5),
    ("A5 remainder 3 to 4", lambda: f.moved_share_modulo(3), 0.75, 0),
    ("A5 remainder 10 to 11", lambda: f.moved_share_modulo(10), 0.909, 1e-3),
    ("A6 N=3", lambda: f.share_cv(3, 150), 0.067, 5e-4),
    ("A6 N=4", lambda: f.share_cv(4, 150), 0.071, 5e-4),
    ("A6 collision N=100", lambda: f.collision(100 * 150, 32), 0.026, 5e-4),
    ("A6 collision N=1000", lambda: f.collision(1_000 * 150, 32), 0.927, 5e-4),
    ("A7 n=3 .99", lambda: f.quorum(3, 0.99), 0.999702, 1e-9),
    ("A7 n=3 .999", lambda: f.quorum(3, 0.999), 0.999997002, 1e-12),
    ("A7 n=5 .99", lambda: f.quorum(5, 0.99), 0.99999015, 5e-9),
    ("A8 two of 99 %", lambda: 1 - f.two_regions(0.99), 1e-4, 1e-12),
    ("A8 budget", lambda: f.budget_s(0.9999) / 60, 52.56, 1e-6),
    ("A8 failovers", lambda: f.budget_s(0.9999) / 300, 10.5, 0.02),
    ("A9 drain", lambda: f.outage(600, 0.5, 1).drain_s, 600, 1e-9),
    ("A9 backlog", lambda: f.outage(600, 2, 10).backlog, 1_200, 0),
    ("A9 audit", lambda: f.outage_s_max(3_600, 0.01, 30 * DAY, 0.5) / HOUR, 4.6, 1e-9),
    ("A9 notary 1 h", lambda: f.outage_s_max(60, 0.05, HOUR, 0.2), 204, 1e-9),
    ("A9 notary 1 d", lambda: f.outage_s_max(60, 0.05, DAY, 0.2), 3_516, 1e-6),
    ("A10 worst", lambda: f.poll(0.9, 0.1).to_s, 1.0, 1e-12),
    ("A10 mean", lambda: f.poll(0.9, 0.1).mean_s, 0.55, 1e-12),
    ("A11 fill", lambda: f.batch(128, 0.5, 64).fill, 1, 0),
    ("A11 wait below", lambda: f.batch(10, 0.5, 64).wait_p95_s, 0.475, 1e-12),
    ("A11 wait at 400/s", lambda: f.batch(400, 0.5, 64).wait_p95_s, 0.152, 1e-12),
    ("A12 30 d", lambda: f.collision(2 * 30 * DAY, 52), 0.003, 5e-5),
    ("A12 1 y", lambda: f.collision(2 * f.YEAR_S, 52), 0.357, 5e-4),
    ("A12 1 %", lambda: f.items_for_collision(0.01, 52) / 1e6, 9.5, 0.05),
    ("A12 50 %", lambda: f.items_for_collision(0.5, 52) / 1e6, 79, 0.5),
    ("A16 20 %", lambda: f.divergence_s(0.2, RESIDENT, PER_S) / HOUR, 84, 1e-9),
    ("A16 10 %", lambda: f.divergence_s(0.1, RESIDENT, PER_S) / HOUR, 37.3, 0.05),
    ("A16 young", lambda: f.divergence_s(0.2, PER_S * DAY, PER_S) / HOUR, 6, 1e-9),
    ("A17 7 days", lambda: f.copy_s(RESIDENT / 4, 1_000) / DAY, 7.0, 1e-9),
    ("A17 14 days", lambda: f.copy_s(RESIDENT / 4, 1_000, 500) / DAY, 14.0, 1e-9),
    ("A17 never", lambda: f.copy_s(1, 500, 500), inf, 0),
    ("A18 none of five", lambda: f.none_of(5, 0.1), 0.59, 5e-4),
    ("A18 10 % of 10,000", lambda: f.share_error(0.1, 10_000), 0.0059, 5e-5),
    ("A18 5 % +- 1", lambda: f.requests_to_see(0.05, 0.01), 1_825, 0),
    ("A19 least", lambda: f.retry_span(1, 3, 1).above_s, 7, 0),
    ("A19 most", lambda: f.retry_span(1, 3, 1).to_s, 10, 0),
    ("A19 mean", lambda: f.retry_span(1, 3, 1).mean_s, 8.5, 0),
    ("A19 whole", lambda: f.hold_s_max(4, 30, f.retry_span(1, 3, 1)), 130, 0),
    ("A20 p95", lambda: f.laplace_error(f.laplace_scale(1, 0.5), 0.95) / 2, 3.00, 5e-3),
    ("A20 Gauss", lambda: f.gaussian_scale(1, 0.5, 1e-5), 2 * sqrt(2 * 11.736069016284437), 1e-9),
    ("A21 least", lambda: f.alert(300, 15, 15).above_s, 300, 0),
    ("A21 most", lambda: f.alert(300, 15, 15).to_s, 330, 0),
    ("zero of 100", lambda: f.zero_bound(100), 0.0295, 5e-5),
    ("partition, never", lambda: f.catch_up_s(10, 5, 5), inf, 0),
]


@pytest.mark.parametrize(
    ("formula", "value", "off"), [row[1:] for row in HAND], ids=[row[0] for row in HAND]
)
def test_gives_the_hand_value(formula: Callable[[], float], value: float, off: float) -> None:
    assert isclose(formula(), value, rel_tol=0, abs_tol=off)


def test_every_reference_of_the_register_is_in_the_table() -> None:
    here = {name.split()[0] for name, *_ in HAND}
    elsewhere = {"A13", "A14", "A15"}  # core.capacity has the first two; the third is below
    assert {f"A{number}" for number in range(1, 22)} <= here | elsewhere


# --- against draws --------------------------------------------------------------------------

DRAWS = 40_000


def test_reroute_cdf_is_the_sum_of_two_uniform_times() -> None:
    chance = Random(1)
    found = f.detection(10, 3, 2)
    for ttl_s in (0.0, 5.0, 10.0, 60.0):
        drawn = [
            chance.uniform(found.above_s, found.to_s) + 7 + chance.random() * ttl_s
            for _ in range(DRAWS)
        ]
        for at_s in (28, 30, 33, 39, 60, 80, 99):
            share = sum(value <= at_s for value in drawn) / DRAWS
            assert abs(share - f.reroute_cdf(at_s, found, 7, ttl_s)) < 4 * 0.5 / DRAWS**0.5


def test_late_share_counts_the_items_of_an_outage() -> None:
    load, length_s, limit_s, window_s = 0.4, 500.0, 60.0, 3_600.0
    waits = [
        max(0.0, length_s - at_s * (1 - load)) for at_s in (0.25 * step for step in range(14_400))
    ]
    share = sum(wait_s > limit_s for wait_s in waits) / len(waits)
    assert isclose(share, f.late_share(length_s, limit_s, window_s, load), abs_tol=1e-3)


def _queue(rate: float, draw: Callable[[Random], float], workers: int, seed: int) -> list[float]:
    """Give the waits of a queue, first come, first served."""
    chance, at_s, free_s, waits = Random(seed), 0.0, [0.0] * workers, []
    for _ in range(DRAWS):
        at_s += chance.expovariate(rate)
        first = min(range(workers), key=free_s.__getitem__)
        begin_s = max(at_s, free_s[first])
        free_s[first] = begin_s + draw(chance)
        waits.append(begin_s - at_s)
    return waits


def test_erlang_c_is_the_share_that_waits() -> None:
    waits = _queue(7, lambda chance: chance.expovariate(1), 10, 2)
    assert abs(sum(wait > 0 for wait in waits) / DRAWS - f.erlang_c(10, 7)) < 0.02
    assert abs(sum(wait > 0.3 for wait in waits) / DRAWS - f.wait_s_over(0.3, 10, 7, 1)) < 0.02


def test_md1_wait_is_the_mean_of_a_queue() -> None:
    waits = _queue(0.6, lambda _: 1.0, 1, 3)
    assert isclose(fmean(waits), f.wait_md1_s(0.6, 1), rel_tol=0.1)


def test_mm1_lag_is_the_mean_time_through_a_queue() -> None:
    waits = _queue(0.5, lambda chance: chance.expovariate(1), 1, 4)
    assert isclose(fmean(waits) + 1, f.lag_mm1_s(0.5, 1), rel_tol=0.1)
    assert isclose(f.records_behind(0.5, 1, 4), 1 + 2, rel_tol=1e-12)


def test_sojourn_percentile_of_one_worker_is_exponential() -> None:
    found = f.sojourn_quantile_s(0.95, 1, 0.5, 1)
    assert isclose(found, -2 * log(0.05), rel_tol=1e-9)


def test_sojourn_percentile_is_that_of_a_queue() -> None:
    chance = Random(5)
    waits = _queue(7, lambda draws: draws.expovariate(1), 10, 6)
    times = sorted(wait + chance.expovariate(1) for wait in waits)
    assert isclose(times[int(0.95 * DRAWS)], f.sojourn_quantile_s(0.95, 10, 7, 1), rel_tol=0.05)


def test_conflict_per_key_is_the_share_of_keys_taken_on_both_sides() -> None:
    chance, a, b, length = Random(7), 0.3, 0.8, 2.0
    both = sum(
        chance.expovariate(a) < length and chance.expovariate(b) < length for _ in range(DRAWS)
    )
    assert abs(both / DRAWS - f.conflict_per_key(a, b, length)) < 4 * 0.5 / DRAWS**0.5


def test_slowest_of_many_is_the_mean_of_maxima() -> None:
    chance = Random(8)
    found = fmean(max(chance.expovariate(1 / 3) for _ in range(5)) for _ in range(DRAWS))
    assert isclose(found, f.slowest_of(5, 3), rel_tol=0.02)


def test_yearly_downtime_adds_up_poisson_outages() -> None:
    chance, per_year, mean_s = Random(9), 4.0, 100.0
    years = []
    for _ in range(DRAWS // 4):
        at, whole = chance.expovariate(per_year), 0.0
        while at < 1:
            whole += chance.expovariate(1 / mean_s)
            at += chance.expovariate(per_year)
        years.append(whole)
    found = f.yearly_downtime(per_year, mean_s, 2 * mean_s**2)
    assert isclose(fmean(years), found.mean_s, rel_tol=0.05)
    assert isclose(pvariance(years), found.variance_s2, rel_tol=0.1)


def test_both_down_is_the_share_of_a_small_chain() -> None:
    fail, repair = 0.2, 1.0
    # Two up, one up, none up; balance of the three states, with one crew and with two.
    for crews in (1, 2):
        rate = [2 * fail, fail, repair, repair * min(2, crews)]
        weights = [1.0, rate[0] / rate[2], rate[0] / rate[2] * rate[1] / rate[3]]
        assert isclose(f.both_down(fail, repair, crews=crews), weights[2] / sum(weights))


def test_phases_in_sequence_add_mean_and_variance() -> None:
    assert f.in_sequence([(1, 4), (2, 5)]) == (3, 9)


def test_a_window_forgets_what_comes_after_it() -> None:
    assert isclose(f.outlives_window(3_600, 1 / 3_600), exp(-1))


def test_conflict_share_counts_resubmissions_within_the_lag() -> None:
    assert isclose(f.conflict_share(0.01, 2, 5), 0.01 * (1 - exp(-0.4)))


# --- against scipy --------------------------------------------------------------------------


@given(st.integers(1, 9), st.floats(0.01, 0.999))
def test_quorum_is_a_binomial_tail(nodes: int, up: float) -> None:
    assert isclose(f.quorum(nodes, up), stats.binom.sf(nodes // 2, nodes, up), abs_tol=1e-12)


@given(st.integers(2, 40), st.integers(1, 400))
def test_shares_of_a_ring_are_beta_distributed(shards: int, vnodes: int) -> None:
    beta = stats.beta(vnodes, vnodes * (shards - 1))
    assert isclose(f.share_cv(shards, vnodes), beta.std() / beta.mean(), rel_tol=1e-9)
    moved = stats.beta(vnodes, vnodes * shards)  # the added shard owns what moved
    assert isclose(f.moved_share_sd(shards, shards + 1, vnodes), moved.std(), rel_tol=1e-9)


@given(st.integers(1, 5_000), st.floats(0.001, 0.5))
def test_zero_bound_is_the_upper_clopper_pearson_bound(runs: int, alpha: float) -> None:
    exact = stats.beta.ppf(1 - alpha, 1, runs)
    assert isclose(f.zero_bound(runs, alpha), exact, rel_tol=1e-9)


@given(st.floats(0.001, 0.999))
def test_noise_and_normal_are_those_of_scipy(share: float) -> None:
    assert isclose(f.normal_quantile(share), stats.norm.ppf(share), abs_tol=1e-9)
    assert isclose(f.normal_cdf(stats.norm.ppf(share)), share, abs_tol=1e-12)
    folded = stats.laplace(scale=2)
    assert isclose(f.laplace_error(2, share), folded.ppf((1 + share) / 2), rel_tol=1e-9)


def test_mean_size_of_a_normal_error_is_that_of_the_half_normal() -> None:
    assert isclose(f.mean_abs_normal(3), stats.halfnorm(scale=3).mean())


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_sojourn_percentile_inverts_its_distribution(workers: int, load: float) -> None:
    rate = load * workers
    p50, p95 = (f.sojourn_quantile_s(share, workers, rate, 1) for share in (0.5, 0.95))
    assert 0 < p50 < p95 < inf


def test_more_load_than_workers_has_no_percentile() -> None:
    assert f.sojourn_quantile_s(0.95, 2, 3, 1) == inf
    assert f.erlang_c(2, 3) == 1
    assert f.wait_s_over(5, 2, 3, 1) == 1


def test_workers_keep_the_load_below_the_bound() -> None:
    needed = f.workers_needed(2_000, 0.05, 10)
    assert needed == 15
    assert 2_000 * 0.05 / (needed * 10) <= 0.7 < 2_000 * 0.05 / ((needed - 1) * 10)


def test_gaussian_noise_is_refused_above_epsilon_1() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        f.gaussian_scale(1, 1.5, 1e-5)


def test_detection_sample_grows_as_rates_come_closer() -> None:
    wide = f.detection_sample(0.01, 0.05, 1.645, 0.84)
    close = f.detection_sample(0.01, 0.02, 1.645, 0.84)
    assert close > 4 * wide


# --- the search -----------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_search_finds_the_edge(low: float, width: float, part: float) -> None:
    edge, high = low + part * width, low + width
    found = f.largest(lambda value: value <= edge, low, high)
    assert found <= max(edge, low)
    assert isclose(found, min(max(edge, low), high), rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize(("holds", "expected"), [(lambda _: True, 5.0), (lambda _: False, 1.0)])
def test_search_ends_at_a_bound(holds: Any, expected: float) -> None:
    assert f.largest(holds, 1.0, 5.0) == expected


def test_the_longest_ttl_is_the_edge_of_the_recovery_time() -> None:
    exact = f.ttl_s_max(300, 10, 3, 2, 60)
    found = f.largest(lambda ttl_s: f.reroute(10, 3, 2, 60, ttl_s).most_s <= 300, 0, 1_000)
    assert isclose(found, exact)
