"""A queue in fluid steps: workers are away, come back, and take what came first."""

from __future__ import annotations

from typing import NamedTuple


class Waits(NamedTuple):
    """What waited."""

    late: float
    longest_s: float


def worst_wait(
    *, rate_per_s: float, drain_per_s: float, outage_s: float, limit_s: float, step_s: float = 1.0
) -> Waits:
    """Step through an outage and its drain, and count what waits longer than a limit.

    In each step items come and, once the workers are back, items leave in order; an item's wait
    ends in the step in which all before it have left.
    """
    came = left = at_s = late = longest_s = 0.0
    while at_s < outage_s or left < came:
        came += rate_per_s * step_s
        if at_s >= outage_s:
            before = left
            left = min(came, left + drain_per_s * step_s)
            wait_s = at_s - before / rate_per_s
            longest_s = max(longest_s, wait_s)
            late += (left - before) * (wait_s > limit_s)
        at_s += step_s
    return Waits(late, longest_s)
