"""Measure an outage: bounds, percentiles, recovery by eight phases (spec/drills.md 3).

Owner of what "recovered" means and of how sure a number of runs can be. Nothing here reads a
clock; times are nanoseconds of one trace.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

PHASES: Final = (
    "detect", "decide", "fence", "promote", "reroute", "catch_up", "verify", "fail_back",
)  # fmt: skip

GOOD_SHARE: Final = 0.99
"""Share of calls that must be good while requests count as succeeding."""

BREAK_NS: Final = 1_000_000_000
"""A second in which every call that was due failed is a break."""

CONFIDENCE: Final = 0.95


class Call(NamedTuple):
    """One call of a client: when it was due, when it returned, whether it was good."""

    due_ns: int
    returned_ns: int
    good: bool


def zero_bound(trials: int) -> float:
    """Bound the rate of what never happened in `trials`, at 95 % (spec/drills.md 3.9)."""
    return 1.0 if trials <= 0 else 1 - (1 - CONFIDENCE) ** (1 / trials)


def percentile(values: Sequence[float], share: float) -> float:
    """Give the nearest-rank percentile of values, which must not be empty."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentile_needs(share: float) -> int:
    """Give how many values a percentile needs before its rank is not just the largest."""
    return math.ceil(1 / (1 - share))


def recovered_at(
    calls: Sequence[Call], *, disrupted_ns: int, steady_ns: int, end_ns: int
) -> int | None:
    """Give the moment from which calls succeed again; None where the trace does not show it.

    `calls` are in the order of `due_ns`. The disruption itself is given if no call was hurt.
    """
    due = [call.due_ns for call in calls]
    good = [0, *accumulate(call.good for call in calls)]
    broken = _breaks(calls)
    first = bisect.bisect_left(due, disrupted_ns)
    for start in range(first, len(calls)):
        if not calls[start].good:
            continue
        begin = calls[start].due_ns
        if begin + steady_ns > end_ns:
            return None
        over = bisect.bisect_right(due, begin + steady_ns)
        if good[over] - good[start] < GOOD_SHARE * (over - start):
            continue
        place = bisect.bisect_left(broken, (start,))
        if place < len(broken) and broken[place][1] < over:
            continue
        hurt = good[start] - good[first] < start - first
        return calls[start].returned_ns if hurt else disrupted_ns
    return None


def _breaks(calls: Sequence[Call]) -> list[tuple[int, int]]:
    """Give the runs of failed calls that last a second: the first, and the call that shows it."""
    found = []
    hurt: int | None = None
    shown = False
    for place, call in enumerate(calls):
        if hurt is not None and not shown and call.due_ns - calls[hurt].due_ns >= BREAK_NS:
            found.append((hurt, place))
            shown = True
        if call.good:
            hurt, shown = None, False
        elif hurt is None:
            hurt = place
    return found


def phase_lengths(
    ends: Mapping[str, int], *, disrupted_ns: int, recovered_ns: int
) -> dict[str, int]:
    """Split the time to recovery into eight phases whose lengths add up to it.

    `ends` holds when phases ended. A phase that nobody marked has no length; what follows the
    last mark before recovery belongs to the next marked phase, or to `reroute`.
    """
    lengths = dict.fromkeys(PHASES, 0)
    at = disrupted_ns
    current: str | None = None
    for phase in PHASES:
        if phase not in ends:
            continue
        current = phase
        end = min(max(ends[phase], at), recovered_ns)
        lengths[phase] += end - at
        at = end
        if ends[phase] >= recovered_ns:
            return lengths
    last = (
        "reroute"
        if current is None or PHASES.index(current) < PHASES.index("reroute")
        else ("verify")
    )
    lengths[last] += recovered_ns - at
    return lengths
