"""Say whether two samples agree, by bounds that were written down before.

The invariant of this file: agreement must be shown. An interval inside the bounds holds, one
wholly outside fails, and anything else is not enough evidence, which is never a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN

from .report.numbers import figure
from .stats import Estimate, Sample

EQUIVALENCE_CONFIDENCE: Final = 0.90
"""Two one-sided tests at 5 % are one interval at 90 %."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far two numbers may differ: by a share of the measured one or by seconds, the larger."""

    relative: float
    absolute: float

    def around(self, measured: float) -> float:
        """Give the largest difference that is allowed."""
        return max(self.relative * abs(measured), self.absolute)


@dataclass(frozen=True, slots=True)
class Agreement:
    """What became of one comparison."""

    name: str
    state: str
    said: str
    predicted: Estimate | None = None
    measured: Estimate | None = None
    low: float | None = None
    high: float | None = None
    allowed: float | None = None


def equivalent(predicted: Sample, measured: Sample, share: float, bounds: Bounds) -> Agreement:
    """Test that a percentile is the same within bounds, by two one-sided tests at 5 %."""
    name = f"p{share * 100:g}"
    p = predicted.percentile(share, EQUIVALENCE_CONFIDENCE)
    m = measured.percentile(share, EQUIVALENCE_CONFIDENCE)
    if p is None or m is None:
        which = "predicted" if p is None else "measured"
        return Agreement(name, UNPROVEN, f"too few {which} values for {name}", p, m)
    if p.at_least or m.at_least:
        which = "predicted" if p.at_least else "measured"
        return Agreement(name, UNPROVEN, f"the {which} {name} is beyond what was watched", p, m)
    low, high = _difference(p, m)
    allowed = bounds.around(m.value)
    if low is not None and high is not None and -allowed <= low and high <= allowed:
        state, said = HOLDS, "the whole interval of the difference is within the bounds"
    elif (low is not None and low > allowed) or (high is not None and high < -allowed):
        state, said = FAILS, "the whole interval of the difference is outside the bounds"
    elif low is None or high is None:
        state, said = UNPROVEN, "too few values for an interval of the difference"
    else:
        state, said = UNPROVEN, "the interval of the difference reaches over the bounds"
    return Agreement(name, state, said, p, m, low, high, allowed)


def _difference(p: Estimate, m: Estimate) -> tuple[float | None, float | None]:
    """Give the interval of predicted minus measured from the intervals of both.

    The distances to their bounds are added as independent errors are (Zou and Donner).
    """
    gap = p.value - m.value
    low = high = None
    if p.low is not None and m.high is not None:
        low = gap - math.hypot(p.value - p.low, m.high - m.value)
    if p.high is not None and m.low is not None:
        high = gap + math.hypot(p.high - p.value, m.value - m.low)
    return low, high


def covered(
    predicted: Sample, measured: Sample, *, share: float, share_min: float, slack: float = 0.0
) -> Agreement:
    """Test that the predicted interval of a share of runs holds as much of what was measured.

    `slack` is how exact a measurement is; the interval is that much wider on both sides.
    """
    name = f"{share * 100:g} % interval"
    tail = (1 - share) / 2
    low, high = predicted.percentile(tail), predicted.percentile(1 - tail)
    if low is None or high is None or low.at_least or high.at_least or not measured.n:
        return Agreement(name, UNPROVEN, "no predicted interval, or nothing measured")
    begin, end = max(0.0, low.value - slack), high.value + slack
    inside = measured.share_within(begin, end)
    said = (
        f"{inside.happened} of {inside.trials} measured values are inside: "
        f"{figure(inside.low, '%')} to {figure(inside.high, '%')}, at least "
        f"{figure(share_min, '%')} is wanted"
    )
    if inside.low >= share_min:
        state = HOLDS
    elif inside.high < share_min:
        state = FAILS
    else:
        state = UNPROVEN
    return Agreement(name, state, said, low=begin, high=end, allowed=share_min)
