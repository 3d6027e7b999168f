"""The clock of leases: it is never set, and goes on while the machine sleeps."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_ns() -> int:
    """Give nanoseconds since some moment that stays the same until the machine restarts."""
    return time.clock_gettime_ns(_CLOCK)
