"""How many calls fail where a share of all attempts does: the SDK tries a call again.

The invariant of this file: whether there is another attempt, and when, is `fractal_lba.retry.plan`;
a call whose next attempt would come after the patience of its user is not a good one.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from fractal_lba.retry import QUOTA_FULL, Result, RetryPolicy, Stop, plan

POINTS: Final = 32
"""A wait is uniform up to its bound; it is looked at in so many places."""

FAILED: Final = Result(status=500)
"""What an attempt comes to that fails."""


@cache
def failing_calls(share: float, patience_ms: int) -> float:
    """Give the share of calls that fail where this share of their attempts does."""
    return _failing(share, patience_ms, 1, 0)


def _failing(share: float, patience_ms: int, attempt: int, spent_ms: int) -> float:
    """Give the share of calls that fail from an attempt on, which is made after `spent_ms`."""
    failed = 0.0
    for n in range(POINTS):
        u = (n + 0.5) / POINTS
        following = plan(
            RetryPolicy.default, FAILED, attempt, u, spent_ms, patience_ms + 1, QUOTA_FULL,
            alternate=False,
        )  # fmt: skip
        if isinstance(following, Stop):
            failed += 1
        else:
            failed += _failing(share, patience_ms, attempt + 1, spent_ms + following.wait_ms)
    return share * failed / POINTS
