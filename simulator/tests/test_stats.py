"""Intervals, bounds and tests: against scipy, against definitions, and by their coverage."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats

from fractal_lba_sim import stats
from fractal_lba_sim.equivalence import Bounds, covered, equivalent
from fractal_lba_sim.stats import Sample
from fractal_lba_sim.yearly import YEAR_S, yearly_downtime

SHARES = st.floats(0.001, 0.999)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.5, 500), st.floats(0.5, 500))
def test_beta_share_is_that_of_scipy(x: float, a: float, b: float) -> None:
    assert stats.beta_share(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-12)


@given(st.integers(0, 3000), st.integers(1, 3000), SHARES)
def test_binomial_cdf_is_that_of_scipy(k: int, n: int, p: float) -> None:
    assert stats.binomial_cdf(k, n, p) == pytest.approx(scipy_stats.binom.cdf(k, n, p), abs=1e-9)


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [
        (10_000, 0.99, (9880, 9920)),
        (1_000, 0.5, (469, 532)),
        (71, 0.95, (63, None)),
        (72, 0.95, (64, 72)),
        (5, 0.5, (None, None)),
        (6, 0.5, (1, 6)),
        (1_000, 0.999, (997, None)),
    ],
)
def test_rank_intervals(n: int, share: float, expected: tuple[int | None, int | None]) -> None:
    low, high = stats.rank_interval(n, share)
    reference_low = int(scipy_stats.binom.ppf(0.025, n, share))
    reference_high = int(scipy_stats.binom.ppf(0.975, n, share)) + 1
    assert (low or 0) == reference_low
    assert high == (reference_high if reference_high <= n else None)
    assert (low, high) == expected


@given(st.integers(1, 5000), SHARES)
def test_rank_interval_has_at_least_its_confidence(n: int, share: float) -> None:
    low, high = stats.rank_interval(n, share)
    below = 0.0 if low is None else scipy_stats.binom.cdf(low - 1, n, share)
    above = 0.0 if high is None else 1 - scipy_stats.binom.cdf(high - 1, n, share)
    assert below <= 0.025 + 1e-9
    assert above <= 0.025 + 1e-9


def test_percentile_intervals_cover_what_they_promise() -> None:
    # Ranks are whole numbers, so an interval is a little wider than it must be.
    chance = np.random.default_rng(7)
    low, high = stats.rank_interval(500, 0.95)
    assert low is not None
    assert high is not None
    drawn = np.sort(chance.random((4000, 500)), axis=1)
    covered = np.mean((drawn[:, low - 1] <= 0.95) & (drawn[:, high - 1] > 0.95))
    exact = scipy_stats.binom.cdf(high - 1, 500, 0.95) - scipy_stats.binom.cdf(low - 1, 500, 0.95)
    assert exact == pytest.approx(0.9605, abs=1e-4)
    assert covered == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))


def test_a_percentile_off_by_one_would_be_seen() -> None:
    sample = Sample.of([float(value) for value in range(1, 101)])
    found = sample.percentile(0.95)
    assert found is not None
    assert found.value == 95.0
    reference = scipy_stats.quantile_test(range(1, 101), p=0.95).confidence_interval(0.95)
    assert (found.low, found.high) == (reference.low, reference.high)


@pytest.mark.parametrize(("n", "share"), [(19, 0.95), (99, 0.99), (999, 0.999), (1, 0.5)])
def test_no_percentile_of_too_few_values(n: int, share: float) -> None:
    assert Sample.of([1.0] * n).percentile(share) is None
    assert Sample.of([1.0] * (n + 1)).percentile(share) is not None


@pytest.mark.parametrize("trials", [1, 2, 7, 59, 400])
def test_share_intervals_are_those_of_clopper_and_pearson(trials: int) -> None:
    for happened in {0, 1, trials // 2, trials - 1, trials}:
        found = stats.share_of(happened, trials)
        reference = scipy_stats.binomtest(happened, trials).proportion_ci(0.95, "exact")
        assert found.low == pytest.approx(reference.low, abs=1e-9)
        assert found.high == pytest.approx(reference.high, abs=1e-9)


def test_a_zero_is_a_bound() -> None:
    found = stats.share_of(0, 100)
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 100))
    assert found.bound == pytest.approx(3 / 100, rel=0.02)
    assert stats.share_of(1, 100).bound is None


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 999.5])
def test_student_is_that_of_scipy(degrees: float) -> None:
    assert stats.student(degrees) == pytest.approx(scipy_stats.t.ppf(0.975, degrees), rel=1e-9)


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=60))
def test_mean_interval_is_that_of_student(values: list[float]) -> None:
    found = Sample.of(values).mean()
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = scipy_stats.t.ppf(0.975, len(values) - 1) * error
    assert found.high - found.value == pytest.approx(half, abs=1e-6, rel=1e-6)


def test_a_percentile_among_the_unfinished_is_more_than_what_was_watched() -> None:
    sample = Sample.of([10.0] * 90 + [None] * 10, [600.0] * 100)
    middle, late = sample.percentile(0.5), sample.percentile(0.95)
    assert middle is not None
    assert not middle.at_least
    assert late is not None
    assert late.at_least
    assert late.value == 600.0
    assert late.high is None


def test_unfinished_outages_are_not_dropped() -> None:
    # Dropping them would make p95 of these 10 s.
    sample = Sample.of([10.0] * 94 + [None] * 6, [600.0] * 100)
    found, mean = sample.percentile(0.95), sample.mean()
    assert found is not None
    assert found.at_least
    assert mean is not None
    assert mean.at_least
    assert mean.value == pytest.approx((94 * 10 + 6 * 600) / 100)


@given(st.lists(st.none() | st.floats(0, 100), min_size=100, max_size=140), st.floats(0, 100))
def test_bounds_enclose_every_way_the_unfinished_could_have_ended(
    values: list[float | None], extra: float
) -> None:
    watched = [50.0] * len(values)
    truth = [50.0 + extra if v is None else v for v in values]
    for share in (0.5, 0.95, 0.99):
        found = Sample.of(values, watched).percentile(share)
        full = Sample.of(truth).percentile(share)
        assert found is not None
        assert full is not None
        assert found.low is None or full.low is None or found.low <= full.low
        assert found.high is None or full.high is None or full.high <= found.high
        assert not found.at_least or found.value <= full.value


def test_paired_difference_meets_the_same_chance() -> None:
    chance = Random(3)
    before = [chance.uniform(0, 1000) for _ in range(50)]
    after = [value - 5 + chance.uniform(-1, 1) for value in before]
    found = stats.paired(before, after)
    assert found.value == pytest.approx(-5, abs=0.3)
    assert found.high is not None
    assert found.high < 0
    shuffled = stats.paired(before, chance.sample(after, 50))
    assert shuffled.low is not None
    assert shuffled.high is not None
    assert shuffled.low < 0 < shuffled.high


def test_pairs_are_refused_where_they_are_none() -> None:
    with pytest.raises(ValueError, match="equal numbers of runs, got 2 and 1"):
        stats.paired([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="1 runs did not end: give the limit"):
        stats.paired([1.0, None], [1.0, 2.0])


def test_pairs_that_did_not_end_count_with_the_limit() -> None:
    found = stats.paired([None, 100.0, 100.0], [60.0, 50.0, 60.0], limit_s=600.0)
    assert found.censored == 1
    assert found.value == pytest.approx(-(540 + 50 + 40) / 3)
    assert stats.paired([1.0], [2.0]) == stats.Difference(1.0, None, None, 1, 0)


@given(
    st.lists(st.floats(0, 10), min_size=2, max_size=40),
    st.lists(st.floats(0, 10), min_size=2, max_size=40),
)
def test_distance_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    reference = scipy_stats.ks_2samp(first, second, method="asymp").statistic
    assert stats.distance(first, second) == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize("statistic", [0.01, 0.03, 0.05, 0.08, 0.2])
def test_chance_of_a_distance_is_that_of_scipy(statistic: float) -> None:
    reference = scipy_stats.kstwo.sf(statistic, 1000)
    assert stats.distance_chance(statistic, 1000) == pytest.approx(reference, abs=5e-3)


def test_yearly_downtime_has_the_moments_of_a_compound_poisson_process() -> None:
    values = [10.0, 20.0, 90.0]
    found = yearly_downtime([(2.0, Sample.of(values)), (0.5, Sample.of([100.0, 300.0]))])
    assert found is not None
    assert found.mean.value == pytest.approx(2 * 40 + 0.5 * 200)
    second = 2 * (100 + 400 + 8100) / 3 + 0.5 * (10_000 + 90_000) / 2
    assert found.deviation_s == pytest.approx(math.sqrt(second))
    assert found.quiet_share == pytest.approx(math.exp(-2.5))
    assert found.availability.value == pytest.approx(1 - 180 / YEAR_S)


def test_bad_year_is_the_percentile_of_many_drawn_years() -> None:
    chance = np.random.default_rng(11)
    values = chance.lognormal(5, 0.8, 400)
    found = yearly_downtime([(3.0, Sample.of(values.tolist()))])
    counts = chance.poisson(3.0, 40_000)
    years = [float(np.sum(chance.choice(values, count))) for count in counts]
    assert found is not None
    assert found.bad_year_s == pytest.approx(np.percentile(years, 95), rel=0.03)


def test_mean_interval_of_a_year_covers() -> None:
    inside = 0
    for seed in range(400):
        chance = np.random.default_rng(seed)
        found = yearly_downtime([
            (2.0, Sample.of(chance.gamma(4, 25, 40).tolist())),
            (9.0, Sample.of(chance.gamma(4, 5, 25).tolist())),
        ])  # fmt: skip
        assert found is not None
        assert found.mean.low is not None
        assert found.mean.high is not None
        inside += found.mean.low <= 2 * 100 + 9 * 20 <= found.mean.high
    assert 0.92 <= inside / 400 <= 0.98


def test_a_year_without_rates_or_incidents_is_not_given() -> None:
    assert yearly_downtime([]) is None
    assert yearly_downtime([(0.0, Sample.of([1.0]))]) is None
    assert yearly_downtime([(1.0, Sample.of([]))]) is None


def test_a_year_with_unfinished_outages_is_at_least_so_long() -> None:
    found = yearly_downtime([(1.0, Sample.of([10.0, None], [600.0, 600.0]))])
    assert found is not None
    assert found.mean.at_least
    assert found.mean.high is None
    assert found.availability.at_least


def test_a_year_without_downtime() -> None:
    found = yearly_downtime([(1.0, Sample.of([0.0, 0.0]))])
    assert found is not None
    assert (found.mean.value, found.bad_year_s, found.quiet_share) == (0.0, 0.0, 1.0)


BOUNDS = Bounds(relative=0.2, absolute=0.0)


def _drawn(seed: int, n: int, scale: float = 1.0) -> Sample:
    chance = Random(seed)
    return Sample.of([scale * chance.lognormvariate(5, 0.3) for _ in range(n)])


def test_equal_distributions_are_equivalent() -> None:
    assert equivalent(_drawn(1, 2000), _drawn(2, 400), 0.5, BOUNDS).state == "holds"
    assert equivalent(_drawn(1, 2000), _drawn(2, 1000), 0.95, BOUNDS).state == "holds"


def test_a_shift_beyond_the_bounds_fails() -> None:
    assert equivalent(_drawn(1, 2000, 1.5), _drawn(2, 400), 0.5, BOUNDS).state == "fails"
    assert equivalent(_drawn(1, 2000, 0.6), _drawn(2, 400), 0.5, BOUNDS).state == "fails"


def test_few_values_never_show_equivalence() -> None:
    few = equivalent(_drawn(1, 2000), _drawn(2, 10), 0.95, BOUNDS)
    assert few.state == "not enough evidence"
    assert equivalent(_drawn(1, 2000), _drawn(2, 30), 0.95, BOUNDS).state == "not enough evidence"


def test_a_percentile_beyond_what_was_watched_shows_no_equivalence() -> None:
    cut = Sample.of([None] * 100, [600.0] * 100)
    assert equivalent(_drawn(1, 100), cut, 0.5, BOUNDS).state == "not enough evidence"


def test_equivalence_at_the_edge_is_found_in_at_most_one_case_of_twenty() -> None:
    bounds = Bounds(relative=0.0, absolute=0.1)
    held = 0
    for seed in range(300):
        chance = np.random.default_rng(seed)
        first = Sample.of((chance.exponential(1, 400) + 0.1).tolist())
        second = Sample.of(chance.exponential(1, 400).tolist())
        held += equivalent(first, second, 0.5, bounds).state == "holds"
    assert held / 300 <= 0.09


@pytest.mark.parametrize(
    ("scale", "n", "state"), [(1.0, 100, "holds"), (3.0, 100, "fails"), (1.0, 6, "not enough")]
)
def test_interval_coverage(scale: float, n: int, state: str) -> None:
    found = covered(_drawn(1, 1000), _drawn(2, n, scale), share=0.9, share_min=0.75)
    assert found.state.startswith(state)


def test_coverage_counts_what_did_not_end_as_outside() -> None:
    cut = Sample.of([None] * 30, [1.0] * 30)
    assert covered(_drawn(1, 1000), cut, share=0.9, share_min=0.75).state == "fails"


@settings(max_examples=20)
@given(st.integers(20, 200))
def test_percentile_of_a_whole_sample_lies_in_its_interval(n: int) -> None:
    found = _drawn(n, n).percentile(0.95)
    assert found is not None
    assert found.low is None or found.low <= found.value
    assert found.high is None or found.value <= found.high
