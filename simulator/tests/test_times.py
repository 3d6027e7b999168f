"""Durations that vary: every distribution is the one that its name says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from statistics import pstdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fractal_lba_sim.times import Time

SAMPLES = 4000
"""Draws of one test; the bounds below are for this number."""

P_MIN = 1e-4
"""A right sampler is called wrong by chance this often; seeds are fixed, so it is never flaky."""

SIGMAS = stats.norm.isf(P_MIN / 2)
"""The same chance for a mean: 3.9 of its standard errors, on either side."""

CASES: list[tuple[Any, float, tuple[float, float], Any]] = [
    # value, mean, support, the same of another library
    ({"uniform": {"min_s": 2, "max_s": 6}}, 4.0, (2, 6), stats.uniform(2, 4)),
    ({"exponential": {"mean_s": 3}}, 3.0, (0, math.inf), stats.expon(scale=3)),
    (
        {"lognormal": {"p50_s": 10, "p95_s": 40}},
        10 * math.exp((math.log(4) / 1.6448536269514722) ** 2 / 2),
        (0, math.inf),
        stats.lognorm(s=math.log(4) / 1.6448536269514722, scale=10),
    ),
    ({"triangular": {"min_s": 1, "mode_s": 2, "max_s": 9}}, 4.0, (1, 9), stats.triang(0.125, 1, 8)),
    ({"triangular": {"min_s": 1, "mode_s": 1, "max_s": 4}}, 2.0, (1, 4), stats.triang(0, 1, 3)),
    ({"triangular": {"min_s": 1, "mode_s": 4, "max_s": 4}}, 3.0, (1, 4), stats.triang(1, 1, 3)),
]
ALL = [*CASES, (5, 5.0, (5, 5), None), ({"observed": {"values_s": [4, 1, 4]}}, 3.0, (1, 4), None)]


def draws(time: Time, seed: int = 1) -> list[float]:
    chance = Random(seed)
    return [time.sample(chance) for _ in range(SAMPLES)]


@pytest.mark.parametrize(("value", "mean", "support", "other"), CASES)
def test_samples_follow_the_distribution(
    value: Any, mean: float, support: tuple[float, float], other: Any
) -> None:
    time = Time.of(value)
    found = draws(time)
    assert stats.kstest(found, other.cdf).pvalue > P_MIN
    assert stats.kstest([time.cdf(x) for x in found], "uniform").pvalue > P_MIN


@pytest.mark.parametrize(("value", "mean", "support", "other"), CASES)
def test_quantiles_are_those_of_another_library(
    value: Any, mean: float, support: tuple[float, float], other: Any
) -> None:
    time = Time.of(value)
    for u in (0.0, 0.001, 0.05, 0.5, 0.95, 0.999):
        assert time.quantile(u) == pytest.approx(other.ppf(u), rel=1e-9, abs=1e-9)
        assert time.cdf(time.quantile(u)) == pytest.approx(u, abs=1e-9)


@pytest.mark.parametrize(("value", "mean", "support", "other"), ALL)
def test_mean_and_support_are_exact(
    value: Any, mean: float, support: tuple[float, float], other: Any
) -> None:
    time = Time.of(value)
    assert time.mean == pytest.approx(mean, rel=1e-12)
    assert time.support == support
    found = draws(time)
    assert support[0] <= min(found)
    assert max(found) <= support[1]
    error = (other.std() if other else pstdev(found)) / math.sqrt(SAMPLES)
    assert math.fsum(found) / SAMPLES == pytest.approx(mean, abs=SIGMAS * error)


@pytest.mark.parametrize(
    ("value", "x_s", "share"),
    [
        ({"uniform": {"min_s": 2, "max_s": 6}}, 1.9, 0),
        ({"uniform": {"min_s": 2, "max_s": 6}}, 3, 0.25),
        ({"uniform": {"min_s": 2, "max_s": 6}}, 7, 1),
        (5, 4.9, 0),
        (5, 5, 1),
        ({"observed": {"values_s": [4, 1, 4, 2]}}, 1, 0.25),
        ({"observed": {"values_s": [4, 1, 4, 2]}}, 3.9, 0.5),
        ({"exponential": {"mean_s": 3}}, -1, 0),
        ({"lognormal": {"p50_s": 10, "p95_s": 40}}, 0, 0),
    ],
)
def test_the_share_up_to_a_duration_is_exact(value: Any, x_s: float, share: float) -> None:
    assert Time.of(value).cdf(x_s) == pytest.approx(share)


def test_a_lognormal_has_the_percentiles_that_it_is_given_by() -> None:
    time = Time.of({"lognormal": {"p50_s": 7, "p95_s": 90}})
    assert time.quantile(0.5) == pytest.approx(7)
    assert time.quantile(0.95) == pytest.approx(90)
    still = Time.of({"lognormal": {"p50_s": 7, "p95_s": 7}})
    assert (still.support, still.mean, still.quantile(0.9)) == ((7, 7), 7, 7)


def test_what_was_observed_comes_as_often_as_it_was_seen() -> None:
    found = draws(Time.of({"observed": {"values_s": [4, 1, 4]}}))
    assert set(found) == {1, 4}
    assert stats.binomtest(found.count(1), SAMPLES, 1 / 3).pvalue > P_MIN


@pytest.mark.parametrize("value", [case[0] for case in ALL])
def test_one_occurrence_is_one_draw(value: Any) -> None:
    chance, other = Random(3), Random(3)
    Time.of(value).sample(chance)
    other.random()
    assert chance.random() == other.random()


seconds = st.floats(0.001, 1e6)


def values(a: float, b: float, c: float) -> Iterator[Any]:
    low, mode, high = sorted((a, b, c))
    yield a
    yield {"uniform": {"min_s": low, "max_s": high}}
    yield {"exponential": {"mean_s": a}}
    yield {"lognormal": {"p50_s": low, "p95_s": high}}
    yield {"triangular": {"min_s": low, "mode_s": mode, "max_s": high}}
    yield {"observed": {"values_s": [a, b, c]}}


@given(seconds, seconds, seconds, st.lists(st.floats(0, 1, exclude_max=True), min_size=2))
def test_quantiles_never_fall_and_stay_in_the_support(
    a: float, b: float, c: float, shares: list[float]
) -> None:
    for value in values(a, b, c):
        time = Time.of(value)
        low, high = time.support
        found = [time.quantile(u) for u in sorted(shares)]
        assert all(x <= y or math.isclose(x, y) for x, y in pairwise(found)), value
        assert all(low * (1 - 1e-12) <= x <= high * (1 + 1e-12) for x in found), value


@given(seconds, seconds, seconds, st.floats(0, 0.999), st.integers(1, 10))
def test_a_longer_unit_scales_every_quantile(
    a: float, b: float, c: float, u: float, times: int
) -> None:
    for one, scaled in zip(values(a, b, c), values(*(times * x for x in (a, b, c))), strict=True):
        first, second = Time.of(one), Time.of(scaled)
        near = times * max(a, b, c) * 1e-7
        assert second.quantile(u) == pytest.approx(times * first.quantile(u), rel=1e-9, abs=near)
        assert second.mean == pytest.approx(times * first.mean, rel=1e-9)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"normal": {"mean_s": 1}}, "expected one of uniform"),
        ({"uniform": {"min_s": 2, "max_s": 1}}, "min_s <= max_s"),
        ({"lognormal": {"p50_s": 2, "p95_s": 1}}, "p50_s <= p95_s"),
        ({"lognormal": {"p50_s": 0, "p95_s": 1}}, "more than 0"),
        ({"exponential": {"mean_s": 0}}, "more than 0"),
        ({"triangular": {"min_s": 1, "mode_s": 0, "max_s": 3}}, "min_s <= mode_s <= max_s"),
        ({"observed": {"values_s": []}}, "at least 0"),
        ({"observed": {"values_s": [-1]}}, "at least 0"),
        ({"uniform": {"min_s": 0, "max_s": math.inf}}, "at least 0"),
    ],
)
def test_what_is_no_duration_is_refused(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Time.of(value)


@pytest.mark.parametrize("u", [-0.1, 1.0, math.nan])
def test_a_share_outside_of_its_range_is_refused(u: float) -> None:
    with pytest.raises(ValueError, match="0 <= u < 1"):
        Time.of(1).quantile(u)
