"""Expect the downtime of a year: incidents by their rates, each with the times that runs showed.

The invariant of this file: a year is a compound Poisson process, so its mean is the sum of
l E[R] and its variance the sum of l E[R^2] over the kinds of incident. Nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Final

import numpy as np

from .stats import Estimate, Sample, student

YEAR_S: Final = 31_557_600
"""A Julian year."""

BAD_YEAR: Final = 0.95
"""The share of years that are no worse than what is called a bad year."""

GRID: Final = 1 << 14
"""Steps on which downtime is counted; each incident is rounded up to a step."""

SPREADS: Final = 12
"""Standard deviations above the mean at which the grid ends."""


@dataclass(frozen=True, slots=True)
class Yearly:
    """What to expect of a year."""

    mean: Estimate
    """Seconds; the interval is that of the runs, not that of years."""

    deviation_s: float
    bad_year_s: float
    quiet_share: float
    """Share of years without any downtime."""

    @property
    def availability(self) -> Estimate:
        """Give the share of a year that is not downtime."""
        low, high = self.mean.low, self.mean.high
        return Estimate(
            max(0.0, 1 - self.mean.value / YEAR_S),
            None if high is None else max(0.0, 1 - high / YEAR_S),
            None if low is None else min(1.0, 1 - low / YEAR_S),
            self.mean.at_least,
        )


def yearly_downtime(kinds: Sequence[tuple[float, Sample]]) -> Yearly | None:
    """Add up incidents: how often each happens a year, and its outages. None without any."""
    rated = [(rate, sample) for rate, sample in kinds if rate > 0 and sample.n]
    if not rated:
        return None
    mean = sum(rate * fmean(sample.shown) for rate, sample in rated)
    second = sum(rate * fmean(x * x for x in sample.shown) for rate, sample in rated)
    hurting = sum(rate * sum(x > 0 for x in sample.shown) / sample.n for rate, sample in rated)
    deviation = math.sqrt(second)
    return Yearly(
        _interval(rated, mean), deviation, _bad_year(rated, mean, deviation), math.exp(-hurting)
    )


def _interval(rated: Sequence[tuple[float, Sample]], mean: float) -> Estimate:
    """Give the mean its interval, with the degrees of freedom of Welch and Satterthwaite."""
    censored = any(sample.censored for _, sample in rated)
    if any(sample.n < 2 for _, sample in rated):
        return Estimate(mean, None, None, censored)
    parts = [(rate**2 * variance(sample.shown) / sample.n, sample.n - 1) for rate, sample in rated]
    total = sum(part for part, _ in parts)
    if not total:
        return Estimate(mean, mean, None if censored else mean, censored)
    degrees = total**2 / sum(part**2 / free for part, free in parts)
    half = student(degrees) * math.sqrt(total)
    return Estimate(mean, max(0.0, mean - half), None if censored else mean + half, censored)


def _bad_year(rated: Sequence[tuple[float, Sample]], mean: float, deviation: float) -> float:
    """Give the percentile of a year's downtime from its characteristic function on a grid."""
    longest = max(sample.shown[-1] for _, sample in rated)
    if not longest:
        return 0.0
    step = (mean + SPREADS * deviation + longest) / GRID
    exponent = np.zeros(GRID // 2 + 1, dtype=complex)
    for rate, sample in rated:
        sizes = np.ceil(np.array(sample.shown) / step - 1e-9).astype(int)
        shares = np.bincount(np.clip(sizes, 0, GRID - 1), minlength=GRID) / sample.n
        exponent += rate * (np.fft.rfft(shares) - 1)
    years = np.cumsum(np.fft.irfft(np.exp(exponent), GRID))
    return float(np.searchsorted(years, BAD_YEAR - 1e-12) * step)
