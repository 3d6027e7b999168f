"""Say how sure a number of runs can be: intervals, bounds, differences, yearly downtime.

Owner of every interval that a report prints. All are exact or conservative: percentiles have
order-statistics intervals, shares those of Clopper and Pearson, means those of Student. What a
run did not live to see is kept as a value above every other, so no percentile is better than
the runs have shown.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, variance
from typing import Final, NamedTuple

from fractal_lba_server.judge.recovery import CONFIDENCE, percentile, percentile_needs, zero_bound

FRACTION_STEPS_MAX: Final = 10_000
"""Steps of the continued fraction; of a million runs it takes about two thousand."""

FRACTION_PRECISION: Final = 1e-15
SMALLEST: Final = 1e-300
HALVINGS: Final = 200
"""Halvings of an interval until two neighbours among the floating-point numbers remain."""

SERIES_TERMS: Final = 100
"""Terms of the series of Kolmogorov; the hundredth is below the smallest number."""


def beta_share(x: float, a: float, b: float) -> float:
    """Give the regularised incomplete beta function, by the continued fraction of Lentz."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_share(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _far_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, FRACTION_STEPS_MAX):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _far_from_zero(1 + term * d)
            c = _far_from_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < FRACTION_PRECISION:
            break
    return math.exp(front) * value / a


def _far_from_zero(value: float) -> float:
    return math.copysign(max(abs(value), SMALLEST), value)


def binomial_cdf(k: int, n: int, share: float) -> float:
    """Give the probability of at most `k` successes in `n` trials."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else 1 - beta_share(share, k + 1, n - k)


def _smallest(holds: Callable[[int], bool], high: int) -> int:
    """Give the smallest number from 0 to `high` for which something holds, once it does."""
    return bisect_left(range(high), True, key=holds)


def _root(rising: Callable[[float], float], target: float, low: float, high: float) -> float:
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2


@lru_cache(maxsize=4096)
def rank_interval(
    n: int, share: float, confidence: float = CONFIDENCE
) -> tuple[int | None, int | None]:
    """Give the ranks, from 1, whose values enclose a percentile; None where `n` is too small."""
    tail = (1 - confidence) / 2
    low = _smallest(lambda k: binomial_cdf(k, n, share) >= tail, n)
    high = _smallest(lambda k: binomial_cdf(k, n, share) >= 1 - tail, n) + 1
    return (low or None), (high if high <= n else None)


@lru_cache(maxsize=4096)
def student(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Give by how many standard errors a mean may be off, for degrees of freedom."""

    def cdf(t: float) -> float:
        return 1 - beta_share(degrees / (degrees + t * t), degrees / 2, 0.5) / 2

    return _root(cdf, (1 + confidence) / 2, 0.0, 1e6)


class Share(NamedTuple):
    """A share of trials with its interval of Clopper and Pearson, and the bound of a zero."""

    happened: int
    trials: int
    value: float
    low: float
    high: float
    bound: float | None
    """What the rate is below, one-sided, if nothing was counted; None otherwise."""


def share_of(count: int, trials: int, confidence: float = CONFIDENCE) -> Share:
    """Give the share of trials in which something happened; `trials` is at least 1."""
    tail = (1 - confidence) / 2
    low, high = 0.0, 1.0
    if count > 0:
        low = _root(lambda p: beta_share(p, count, trials - count + 1), tail, 0.0, 1.0)
    if count < trials:
        high = _root(lambda p: beta_share(p, count + 1, trials - count), 1 - tail, 0.0, 1.0)
    bound = None if count else zero_bound(trials)
    return Share(count, trials, count / trials, low, high, bound)


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float | None
    """None: the runs are too few for a bound on this side."""

    high: float | None
    at_least: bool = False
    """The runs end before it can be seen: it is more than `value`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Times, of which some are known only to be longer than what was watched."""

    known: tuple[float, ...]
    """In rising order, infinite where the end was not seen."""

    shown: tuple[float, ...]
    """In rising order, with what was watched where the end was not seen."""

    @classmethod
    def of(cls, values: Iterable[float | None], watched: Iterable[float] | None = None) -> Sample:
        """Gather values; None is one that was not seen to end, `watched` says for how long."""
        listed = list(values)
        limits = [0.0] * len(listed) if watched is None else list(watched)
        known = sorted(math.inf if value is None else value for value in listed)
        pairs = zip(listed, limits, strict=True)
        return cls(tuple(known), tuple(sorted(at if v is None else v for v, at in pairs)))

    @property
    def n(self) -> int:
        """Count all values."""
        return len(self.known)

    @property
    def censored(self) -> int:
        """Count those that were not seen to end."""
        return self.n - bisect_left(self.known, math.inf)

    def percentile(self, share: float, confidence: float = CONFIDENCE) -> Estimate | None:
        """Give a percentile of the nearest rank; None if there are too few values for it.

        Where the end of some was not seen, low bounds take them as ended when the watch was
        over, values and high bounds as never.
        """
        if self.n < percentile_needs(max(share, 1 - share)):
            return None
        first, last = rank_interval(self.n, share, confidence)
        low = None if first is None else self.shown[first - 1]
        high = None if last is None else self.known[last - 1]
        value = percentile(self.known, share)
        if math.isinf(value):
            return Estimate(percentile(self.shown, share), low, None, at_least=True)
        return Estimate(value, low, None if high is None or math.isinf(high) else high)

    def mean(self, confidence: float = CONFIDENCE) -> Estimate | None:
        """Give the mean; if the end of some was not seen it is at least that. None if empty."""
        if not self.n:
            return None
        value = fmean(self.shown)
        if self.n == 1:
            return Estimate(value, None, None, self.censored > 0)
        half = student(self.n - 1, confidence) * math.sqrt(variance(self.shown) / self.n)
        high = None if self.censored else value + half
        return Estimate(value, value - half, high, self.censored > 0)

    def share_within(self, low: float, high: float) -> Share:
        """Give the share of values inside bounds; one that was not seen to end is outside."""
        inside = bisect_right(self.known, high) - bisect_left(self.known, low)
        return share_of(max(0, inside), self.n)


class Difference(NamedTuple):
    """What a change makes of a number, over pairs of runs that met the same chance."""

    value: float
    low: float | None
    high: float | None
    n: int
    censored: int
    """Runs of either side that did not end; they count with the limit that was given."""


def _pairs(
    before: Sequence[float | None], after: Sequence[float | None], limit_s: float | None
) -> tuple[list[float], list[float], int]:
    if len(before) != len(after):
        raise ValueError(f"pairs need equal numbers of runs, got {len(before)} and {len(after)}")
    censored = sum(value is None for value in (*before, *after))
    if censored and limit_s is None:
        raise ValueError(f"{censored} runs did not end: give the limit that they count with")
    limit = math.inf if limit_s is None else limit_s
    old, new = ([limit if v is None else min(v, limit) for v in side] for side in (before, after))
    return old, new, censored


def paired(
    before: Sequence[float | None], after: Sequence[float | None], *, limit_s: float | None = None
) -> Difference:
    """Give the mean difference, after minus before, with its interval of Student."""
    old, new, censored = _pairs(before, after, limit_s)
    gaps = [b - a for a, b in zip(old, new, strict=True)]
    if len(gaps) < 2:
        return Difference(gaps[0] if gaps else 0.0, None, None, len(gaps), censored)
    value = fmean(gaps)
    half = student(len(gaps) - 1) * math.sqrt(variance(gaps) / len(gaps))
    return Difference(value, value - half, value + half, len(gaps), censored)


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Give the statistic of Kolmogorov and Smirnov: how far two distributions are apart."""
    a, b = sorted(first), sorted(second)
    return max(abs(bisect_right(a, x) / len(a) - bisect_right(b, x) / len(b)) for x in (*a, *b))


def distance_chance(statistic: float, n: float) -> float:
    """Give how likely such a distance is by chance; of two samples `n` is ab / (a + b)."""
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * statistic
    if scaled < 0.2:  # the series converges slowly here, and its sum is 1 to nine digits
        return 1.0
    terms = (
        (1.0 if k % 2 else -1.0) * math.exp(-2 * (k * scaled) ** 2)
        for k in range(1, SERIES_TERMS + 1)
    )
    return min(1.0, max(0.0, 2.0 * sum(terms)))
