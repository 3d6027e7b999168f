"""How many calls fail where a share of all attempts does: the SDK tries a call again.

The invariant of this file: attempts and waits are those of `fractal_lba.retry`; a call whose next
attempt would come after the patience of its user is not a good one.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from fractal_lba.retry import RetryPolicy

POINTS: Final = 32
"""A wait is uniform up to its bound; it is looked at in so many places."""

POLICY: Final = RetryPolicy()


@cache
def failing_calls(share: float, patience_ms: int) -> float:
    """Give the share of calls that fail where this share of their attempts does."""
    return _failing(share, patience_ms, 1, 0.0)


def _failing(share: float, patience_ms: int, attempt: int, spent_ms: float) -> float:
    if spent_ms > patience_ms:
        return 1.0
    if attempt >= POLICY.max_attempts:
        return share
    bound_ms = min(POLICY.wait_max_ms, POLICY.wait_base_ms << (attempt - 1))
    waits = [spent_ms + bound_ms * (n + 0.5) / POINTS for n in range(POINTS)]
    return share * sum(_failing(share, patience_ms, attempt + 1, w) for w in waits) / POINTS
