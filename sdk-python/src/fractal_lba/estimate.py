"""Derive `D_hat`, regime and budget from a record's own counts, and judge those counts.

This file owns the estimator: the producer (`signals.py`) and the server's verification call the
same functions, so a record can only disagree with its verification where its author changed it.
Everything here is pure: parameters come in as a value, nothing reads a clock, a file or a socket.
The results are already rounded by the canonical rule (`spec/canonical.md` 3.2), because regime and
budget are judged on what a record carries, not on digits that it cannot carry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from .canonical import rounded

Regime = Literal["sticky", "mixed", "non_sticky"]

D_HAT_MAX: Final = 3.5
"""Upper end of `D_hat`; a slope outside 0..3.5 is clamped, by the producer and the verifier."""

COUNT_BITS: Final = 53
COUNTS_END: Final = 2**COUNT_BITS
"""A count is below 2^53 (an integer member), so a bound of 2^53 or more cells always holds."""

GRIDS_CACHED_MAX: Final = 64
"""Scale lists whose logarithms are kept; one of 32 scales, the longest, takes about 70 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Hold what a versioned policy may choose: tolerances, thresholds and weights."""

    tol_D: float = 0.15
    tol_coh: float = 0.05
    tol_budget: float = 0.01
    sticky_coh_min: float = 0.70
    sticky_D_max: float = 1.5
    non_sticky_D_min: float = 2.6
    budget_base: float = 0.10
    budget_per_incompressible: float = 0.30
    budget_per_excess_D: float = 0.50
    budget_excess_D_above: float = 2.2
    budget_per_coh: float = 0.20


DEFAULT_PARAMETERS: Final = Parameters()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold the three members that follow from the rest of a record."""

    D_hat: float
    regime: Regime
    budget: float


@dataclass(frozen=True, slots=True)
class _Grid:
    """Hold what depends on the scales alone; a record then costs the logarithms of its counts."""

    keys: tuple[str, ...]
    pairs: tuple[tuple[int, int, float], ...]
    multiples: tuple[tuple[int, int, int], ...]


@lru_cache(maxsize=GRIDS_CACHED_MAX)
def _grid(scales: tuple[int, ...]) -> _Grid:
    logs = [math.log2(scale) for scale in scales]
    indices = [(i, j) for j in range(len(scales)) for i in range(j)]
    return _Grid(
        keys=tuple(str(scale) for scale in scales),
        pairs=tuple((i, j, logs[j] - logs[i]) for i, j in indices),
        multiples=tuple(
            (i, j, scales[j] // scales[i]) for i, j in indices if scales[j] % scales[i] == 0
        ),
    )


def theil_sen(scales: Sequence[int], n_j: Mapping[str, int]) -> float:
    """Return the upper median slope of log2(N_j) on log2(scale), neither clamped nor rounded.

    The caller has checked the record: at least two scales, strictly increasing from 1, and one
    count of at least 1 for each. The upper median is the sorted element `len // 2`: it is one of
    the slopes, so no average of two can fall on a rounding tie.
    """
    grid = _grid(tuple(scales))
    log2 = math.log2
    y = [log2(n_j[key]) for key in grid.keys]
    slopes = [(y[j] - y[i]) / dx for i, j, dx in grid.pairs]
    slopes.sort()
    return slopes[len(slopes) // 2]


def d_hat(scales: Sequence[int], n_j: Mapping[str, int]) -> float:
    """Return `D_hat`: the Theil-Sen slope, clamped to 0..3.5 and rounded."""
    slope = theil_sen(scales, n_j)
    return rounded(min(max(slope, 0.0), D_HAT_MAX))


def regime(D_hat: float, coh_star: float, parameters: Parameters = DEFAULT_PARAMETERS) -> Regime:
    """Name the regime; a stream that is both coherent and low-dimensional is sticky first."""
    if coh_star >= parameters.sticky_coh_min and D_hat <= parameters.sticky_D_max:
        return "sticky"
    return "non_sticky" if D_hat >= parameters.non_sticky_D_min else "mixed"


def budget(
    D_hat: float, coh_star: float, r: float, parameters: Parameters = DEFAULT_PARAMETERS
) -> float:
    """Return the budget, clamped to 0..1 and rounded; the terms are added in the written order."""
    raw = (
        parameters.budget_base
        + parameters.budget_per_incompressible * (1.0 - r)
        + parameters.budget_per_excess_D * max(0.0, D_hat - parameters.budget_excess_D_above)
        + parameters.budget_per_coh * coh_star
    )
    return rounded(min(max(raw, 0.0), 1.0))


def estimate(
    scales: Sequence[int],
    n_j: Mapping[str, int],
    coh_star: float,
    r: float,
    parameters: Parameters = DEFAULT_PARAMETERS,
) -> Estimate:
    """Recompute `D_hat`, and regime and budget from the recomputed `D_hat`.

    `coh_star` and `r` are the values that a verifier uses: already rounded.
    """
    slope = d_hat(scales, n_j)
    return Estimate(
        slope, regime(slope, coh_star, parameters), budget(slope, coh_star, r, parameters)
    )


def n_j_plausible(scales: Sequence[int], n_j: Mapping[str, int], dimensions: int) -> bool:
    """Tell whether box counts of a `dimensions`-dimensional stream can be these.

    A cell of scale s splits into (t/s)^d cells of scale t when s divides t, so N(s) <= N(t) <=
    (t/s)^d N(s); and the unit cube has s^d cells. Counts need not grow where s does not divide t.
    """
    grid = tuple(scales)
    counts = [n_j[key] for key in _grid(grid).keys]
    cells, splits = _bounds(grid, dimensions)
    for count, most in zip(counts, cells, strict=True):
        if count > most:
            return False
    return all(counts[i] <= counts[j] <= parts * counts[i] for i, j, parts in splits)


@lru_cache(maxsize=GRIDS_CACHED_MAX)
def _bounds(
    scales: tuple[int, ...], dimensions: int
) -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]:
    """Give the cells of each scale, and for each multiple the parts that one cell splits into."""
    cells = tuple(_cells(scale, dimensions) for scale in scales)
    splits = tuple((i, j, _cells(ratio, dimensions)) for i, j, ratio in _grid(scales).multiples)
    return cells, splits


def _cells(scale: int, dimensions: int) -> int:
    """Return scale^dimensions, or 2^53 where it is more: above every count, and cheap to build."""
    if (scale.bit_length() - 1) * dimensions >= COUNT_BITS:
        return COUNTS_END
    cells: int = scale**dimensions
    return min(cells, COUNTS_END)
