"""The estimator: closed forms, thresholds, and the counts that honest producers can make."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba.estimate import (
    COUNTS_END,
    D_HAT_MAX,
    DEFAULT_PARAMETERS,
    Estimate,
    Parameters,
    budget,
    d_hat,
    estimate,
    n_j_plausible,
    regime,
    theil_sen,
)

DYADIC = (2, 4, 8, 16, 32, 64)


def counts(scales: tuple[int, ...], values: list[int]) -> dict[str, int]:
    return {str(scale): value for scale, value in zip(scales, values, strict=True)}


scale_lists = st.lists(st.integers(1, 2**31 - 1), min_size=2, max_size=32, unique=True).map(
    lambda scales: tuple(sorted(scales))
)


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, int]]:
    scales = draw(scale_lists)
    size = len(scales)
    values = draw(st.lists(st.integers(1, 2**53 - 1), min_size=size, max_size=size))
    return scales, counts(scales, values)


@pytest.mark.parametrize(
    ("scales", "values", "slope"),
    [
        pytest.param(DYADIC, [1] * 6, 0.0, id="one point"),
        pytest.param(DYADIC, [2, 4, 8, 16, 32, 64], 1.0, id="a line"),
        pytest.param(DYADIC, [4, 16, 64, 256, 1024, 4096], 2.0, id="a full square"),
        pytest.param((2, 4), [4, 2], -1.0, id="counts may fall"),
        pytest.param((1, 2), [1, 32], 5.0, id="five dimensions are not clamped here"),
        pytest.param((2, 4, 8), [1, 2, 8], 1.5, id="odd: the middle of 1, 1.5, 2"),
        pytest.param((2, 4, 8, 16), [1, 2, 8, 16], 1.5, id="even: the upper of 4/3 and 1.5"),
    ],
)
def test_slope_is_the_upper_median(
    scales: tuple[int, ...], values: list[int], slope: float
) -> None:
    assert theil_sen(scales, counts(scales, values)) == slope


@settings(deadline=None)  # a busy machine is no failure
@given(grids())
def test_slope_is_one_of_the_pairwise_slopes(
    grid: tuple[tuple[int, ...], dict[str, int]],
) -> None:
    scales, n_j = grid
    y = [math.log2(n_j[str(scale)]) for scale in scales]
    x = [math.log2(scale) for scale in scales]
    size = len(scales)
    slopes = sorted((y[j] - y[i]) / (x[j] - x[i]) for j in range(size) for i in range(j))
    found = theil_sen(scales, n_j)
    assert found == slopes[len(slopes) // 2]
    assert sum(slope <= found for slope in slopes) > len(slopes) // 2
    assert sum(slope >= found for slope in slopes) >= len(slopes) - len(slopes) // 2


def test_slope_takes_a_list_of_scales_as_json_gives_it() -> None:
    assert theil_sen([2, 4], {"4": 4, "2": 2}) == 1.0


@settings(deadline=None)  # a busy machine is no failure
@given(grids())
def test_d_hat_is_in_range_and_on_the_grid_of_billionths(
    grid: tuple[tuple[int, ...], dict[str, int]],
) -> None:
    found = d_hat(*grid)
    assert 0.0 <= found <= D_HAT_MAX
    assert found == round(found * 10**9) / 10**9
    assert abs(found - min(max(theil_sen(*grid), 0.0), D_HAT_MAX)) <= 5.1e-10


@pytest.mark.parametrize(
    ("values", "expected"), [([4, 1], 0.0), ([1, 2**4], 3.5), ([1, 3], 1.584962501)]
)
def test_d_hat_is_clamped_then_rounded(values: list[int], expected: float) -> None:
    assert d_hat((2, 4), counts((2, 4), values)) == expected


BELOW = -1e-9
ABOVE = 1e-9


@pytest.mark.parametrize(
    ("D_hat", "coh_star", "expected"),
    [
        (1.5, 0.70, "sticky"),
        (0.0, 1.0, "sticky"),
        (1.5 + ABOVE, 0.70, "mixed"),
        (1.5, 0.70 + BELOW, "mixed"),
        (2.6 + BELOW, 0.0, "mixed"),
        (2.6, 0.0, "non_sticky"),
        (2.6, 1.0, "non_sticky"),
    ],
)
def test_regime_changes_exactly_at_its_thresholds(
    D_hat: float, coh_star: float, expected: str
) -> None:
    assert regime(D_hat, coh_star) == expected


@pytest.mark.parametrize(
    ("D_hat", "coh_star", "r", "expected"),
    [
        (0.0, 0.0, 1.0, 0.1),
        (2.2, 0.0, 1.0, 0.1),
        (2.4, 0.0, 1.0, 0.2),
        (1.0, 0.5, 0.5, 0.35),
        (3.5, 1.05, 0.0, 1.0),
        (0.0, 0.3333333335, 1.0, 0.166666667),
    ],
)
def test_budget_adds_its_terms_clamps_and_rounds(
    D_hat: float, coh_star: float, r: float, expected: float
) -> None:
    assert budget(D_hat, coh_star, r) == expected


def test_budget_is_clamped_from_below_when_a_policy_goes_negative() -> None:
    assert budget(0.0, 0.0, 0.0, Parameters(budget_base=-1.0)) == 0.0


def test_estimate_judges_regime_and_budget_on_the_recomputed_slope() -> None:
    n_j = counts(DYADIC, [8, 64, 512, 4096, 32768, 262144])
    assert estimate(DYADIC, n_j, 0.1, 0.9) == Estimate(3.0, "non_sticky", 0.55)


def test_a_policy_replaces_thresholds_and_weights() -> None:
    policy = Parameters(
        sticky_coh_min=0.2,
        sticky_D_max=3.0,
        non_sticky_D_min=3.2,
        budget_base=0.0,
        budget_per_incompressible=1.0,
        budget_per_excess_D=0.0,
        budget_per_coh=0.0,
    )
    n_j = counts((2, 4), [8, 64])
    assert estimate((2, 4), n_j, 0.2, 0.25, policy) == Estimate(3.0, "sticky", 0.75)


def test_parameters_are_the_published_policy() -> None:
    assert (0.15, 0.05, 0.01) == (
        DEFAULT_PARAMETERS.tol_D,
        DEFAULT_PARAMETERS.tol_coh,
        DEFAULT_PARAMETERS.tol_budget,
    )


@pytest.mark.parametrize(
    ("scales", "values", "dimensions", "expected"),
    [
        pytest.param((2, 3), [2, 1], 1, True, id="0.4 and 0.6: counts fall where 2 divides not 3"),
        pytest.param((2, 4), [2, 1], 1, False, id="a refinement cannot lose cells"),
        pytest.param((2, 4), [1, 2], 1, True, id="one cell splits into two"),
        pytest.param((2, 4), [1, 3], 1, False, id="but not into three"),
        pytest.param((2, 4), [1, 3], 2, True, id="into four in the plane"),
        pytest.param((2, 4), [1, 5], 2, False, id="never five"),
        pytest.param((2, 3), [3, 3], 1, False, id="the line has two halves"),
        pytest.param((2, 3), [4, 9], 2, True, id="the square is full"),
        pytest.param((2, 3), [4, 10], 2, False, id="fuller than full, last scale"),
        pytest.param((1, 2), [2, 2], 3, False, id="scale 1 has one cell"),
        pytest.param((1, 2), [1, 1], 2048, True, id="scale 1 in many dimensions"),
        pytest.param((2, 3), [2**52, 1], 52, True, id="2^52 cells, exactly"),
        pytest.param((2, 3), [2**52 + 1, 1], 52, False, id="2^52 cells, one too many"),
        pytest.param((2, 3), [2**53 - 1, 1], 53, True, id="the bound reaches every count"),
        pytest.param((2**20, 2**31 - 1), [1, 2**53 - 1], 2048, True, id="no power is built"),
        pytest.param((2, 4, 8), [1, 1, 8], 1, False, id="the pair in the middle counts too"),
    ],
)
def test_box_counts_are_plausible(
    scales: tuple[int, ...], values: list[int], dimensions: int, expected: bool
) -> None:
    assert n_j_plausible(scales, counts(scales, values), dimensions) is expected


@st.composite
def point_sets(draw: st.DrawFn) -> tuple[int, list[list[Fraction]]]:
    dimensions = draw(st.integers(1, 4))
    unit = st.fractions(0, 1, max_denominator=97)
    point = st.lists(unit, min_size=dimensions, max_size=dimensions)
    return dimensions, draw(st.lists(point, min_size=1, max_size=30))


@settings(deadline=None)  # a busy machine is no failure
@given(point_sets(), st.lists(st.integers(1, 60), min_size=2, max_size=8, unique=True))
def test_counts_of_real_points_are_always_plausible(
    points: tuple[int, list[list[Fraction]]], scales: list[int]
) -> None:
    dimensions, rows = points
    ordered = tuple(sorted(scales))
    n_j = {
        str(s): len({tuple(min(math.floor(u * s), s - 1) for u in row) for row in rows})
        for s in ordered
    }
    assert n_j_plausible(ordered, n_j, dimensions)


@settings(deadline=None)  # a busy machine is no failure
@given(grids(), st.integers(1, 60))
def test_plausibility_equals_the_rules_in_exact_integers(
    grid: tuple[tuple[int, ...], dict[str, int]], dimensions: int
) -> None:
    scales, n_j = grid
    n = [n_j[str(scale)] for scale in scales]
    size = len(scales)
    expected = all(count <= s**dimensions for s, count in zip(scales, n, strict=True)) and all(
        n[i] <= n[j] <= (scales[j] // scales[i]) ** dimensions * n[i]
        for j in range(size)
        for i in range(j)
        if scales[j] % scales[i] == 0
    )
    assert all(count < COUNTS_END for count in n)
    assert n_j_plausible(scales, n_j, dimensions) is expected
