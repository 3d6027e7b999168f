"""How many bytes each tier has to hold, what cold requests cost, and how reads are mixed.

This file owns the formulas (spec/tiers.md 9). Residency follows from Little's law: what arrives
stays for its TTL, whoever reads it, so no hit ratio is a factor. The `documented_wrong_` functions
are formulas that have been published and do not hold; a test shows by how much, and nothing else
uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erf, exp, log, sqrt
from typing import Final, NamedTuple

HOT_OVERHEADS: Final = {"memory": 2.8, "redis": 0.6}
"""Of an outcome of 250 bytes: in CPython an entry takes 950, in Redis (packed) 400."""

WARM_OVERHEAD: Final = 0.1
"""Of an outcome in SQLite: the row's head and the rest of its page. The id is counted apart."""

COLD_OVERHEAD: Final = 0.4
"""Of a packed entry of 180 bytes: 72 of the object's index."""

MONTH_S: Final = 30 * 86_400
HALVINGS: Final = 200
"""Steps of the search for a percentile: far below a nanosecond."""


def resident_bytes(rate_per_s: float, ttl_s: float, size_bytes: float, overhead: float) -> float:
    """Give the bytes that are resident: rate x TTL x size x (1 + overhead)."""
    return rate_per_s * ttl_s * size_bytes * (1 + overhead)


def documented_wrong_hot_bytes(
    rate_per_s: float, ttl_s: float, size_bytes: float, hot_hit_ratio: float
) -> float:
    """Give what the published formula says of hot; too little by 1 / hit ratio and more."""
    return size_bytes * hot_hit_ratio * rate_per_s * ttl_s


def documented_wrong_warm_bytes(
    rate_per_s: float, ttl_s: float, size_bytes: float, warm_hit_ratio: float
) -> float:
    """Give what the published formula says of warm; too little by 1 / hit ratio and more."""
    return size_bytes * warm_hit_ratio * rate_per_s * ttl_s


class Sizes(NamedTuple):
    """The bytes of each tier, and the objects written to cold in a month."""

    hot_bytes: float
    warm_bytes: float
    cold_bytes: float
    objects_per_month: float


def sizes(
    *,
    rate_per_s: float,
    payload_bytes: float,
    id_bytes: float,
    packed_ratio: float,
    hot_ttl_s: float,
    warm_ttl_s: float,
    ids_ttl_s: float,
    keep_s: float,
    entries_per_object: float,
    hot_overhead: float,
) -> Sizes:
    """Size the tiers; `ids_ttl_s` is the dedup horizon, or the age of the service if for ever."""
    ids = resident_bytes(rate_per_s, ids_ttl_s, id_bytes, 0)
    warm = resident_bytes(rate_per_s, warm_ttl_s, payload_bytes, WARM_OVERHEAD)
    cold_s = max(keep_s - warm_ttl_s, 0)
    return Sizes(
        resident_bytes(rate_per_s, hot_ttl_s, payload_bytes, hot_overhead),
        warm + ids,
        resident_bytes(rate_per_s, cold_s, payload_bytes * packed_ratio, COLD_OVERHEAD),
        rate_per_s * MONTH_S / entries_per_object,
    )


class Mode(NamedTuple):
    """One tier as a reader sees it: its share of the reads and its latency, lognormal."""

    share: float
    median_ms: float
    sigma: float


def sigma_of(median_ms: float, p95_ms: float) -> float:
    """Give the spread of a lognormal latency from its median and its p95."""
    return log(p95_ms / median_ms) / P95_SIGMAS if p95_ms > median_ms else 0.0


P95_SIGMAS: Final = 1.6448536269514722
"""The 95th percentile of the standard normal distribution."""


def blended_ms(modes: Sequence[Mode], quantile: float) -> float:
    """Give a percentile of all reads: that of the mixture, not a mean of percentiles."""
    total = sum(mode.share for mode in modes)
    if not modes or total <= 0 or not 0 < quantile < 1:
        raise ValueError("expected modes with shares above 0, and a quantile between 0 and 1")
    low, high = 1e-6, max(mode.median_ms * exp(8 * mode.sigma + 1e-9) for mode in modes) * 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if sum(mode.share * _below(mode, middle) for mode in modes) < quantile * total:
            low = middle
        else:
            high = middle
    return high


def _below(mode: Mode, at_ms: float) -> float:
    """Give the share of a tier's reads that take at most `at_ms`."""
    if mode.sigma == 0:
        return 1.0 if at_ms >= mode.median_ms else 0.0
    return (1 + erf(log(at_ms / mode.median_ms) / (mode.sigma * sqrt(2)))) / 2


MEDIANS: Final = "hot 1 ms, warm 10 ms, cold 100 ms"
"""What `expected_modes` assumes; a measurement of one's own replaces it."""


def expected_modes(hot_share: float, cold_share: float) -> list[Mode]:
    """Give the modes of three tiers whose p95 are 5, 50 and 500 ms: the published limits."""
    shares = (hot_share, max(0.0, 1 - hot_share - cold_share), cold_share)
    medians = (1.0, 10.0, 100.0)
    return [
        Mode(share, median_ms, sigma_of(median_ms, 5 * median_ms))
        for share, median_ms in zip(shares, medians, strict=True)
        if share > 0
    ]


def walk_ms(times_ms: Sequence[float], shares: Sequence[float]) -> float:
    """Give the mean time of a waterfall that asks one tier after the other."""
    left, spent = 1.0, 0.0
    for time_ms, share in zip(times_ms, shares, strict=True):
        spent += left * time_ms
        left -= share
    return spent


def requests_cost(requests: float, price_per_1000: float) -> float:
    """Give what so many writes to an object store cost."""
    return requests / 1_000 * price_per_1000
