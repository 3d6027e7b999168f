"""Keep what a lost region would cost within a tenant's bound: slow writes down, then refuse them.

This file owns two rules (spec/shipping.md 8). *Lag* is the age of the oldest durable frame that
not enough peers hold yet; nothing is guessed to be younger than it is. The *governor* lets writes
pass below a soft bound, delays them more and more above it, and refuses them at the tenant's
`rpo_ms`; once it refuses it goes on until the lag is below the soft bound again.

Both are pure: the same lags at the same times give the same answers, in the server and in the
simulator.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

RPO_MS_MIN: Final = 250
"""Smallest bound: below it two round trips of 80 ms would have no room left for a pause."""

SOFT_SHARE: Final = 3 / 4
"""Share of the bound from which on writes are slowed down."""

REFUSE_MS_MIN: Final = 100
"""A refusal lasts at least this long, so that it cannot flicker with every batch."""

MARKS_MAX: Final = 1_024
"""Most points in time that a clock of lag keeps; beyond it neighbours are joined."""

_MS: Final = 1_000_000


class Pace(NamedTuple):
    """What a write meets: nothing, a delay, or a refusal that names a time to come back."""

    wait_ms: int
    refuse: bool


class Governor:
    """Decide about the writes of one tenant."""

    def __init__(self, rpo_ms: int) -> None:
        if rpo_ms < RPO_MS_MIN:
            raise ValueError(f"rpo_ms: at least {RPO_MS_MIN}, got {rpo_ms}")
        self._rpo_ms = rpo_ms
        self._soft_ms = int(rpo_ms * SOFT_SHARE)
        self._refusing_since: int | None = None

    @property
    def refusing(self) -> bool:
        """Say whether writes are refused now."""
        return self._refusing_since is not None

    def decide(self, lag_ms: int, now_ns: int) -> Pace:
        """Say what a write meets at this lag and time."""
        if lag_ms >= self._rpo_ms:
            if self._refusing_since is None:
                self._refusing_since = now_ns
        elif self._refusing_since is not None:
            long_enough = now_ns - self._refusing_since >= REFUSE_MS_MIN * _MS
            if long_enough and lag_ms < self._soft_ms:
                self._refusing_since = None
        if self._refusing_since is not None:
            return Pace(max(REFUSE_MS_MIN, lag_ms - self._soft_ms), refuse=True)
        if lag_ms < self._soft_ms:
            return Pace(0, refuse=False)
        # From nothing at the soft bound to as long as the bound leaves room for, just below it.
        room_ms = self._rpo_ms - self._soft_ms
        return Pace(1 + (lag_ms - self._soft_ms) * self._soft_ms // room_ms, refuse=False)


class Lag(NamedTuple):
    """How far a copy is behind: age of the oldest frame it lacks, frames, bytes."""

    age_ms: int
    records: int
    bytes: int


@dataclass(slots=True)
class _Point:
    """Frames up to `seq` and bytes up to `size` were durable here at `at_ns`, none earlier."""

    seq: int
    size: int
    at_ns: int


class LagClock:
    """Remember when frames became durable here, until they are held elsewhere."""

    def __init__(self) -> None:
        self._points: deque[_Point] = deque()
        self._held = _Point(0, 0, 0)
        self._last = _Point(0, 0, 0)

    def grew(self, seq: int, size: int, at_ns: int) -> None:
        """Take note of durable frames up to `seq`; `size` counts the stream's bytes so far."""
        self._last = _Point(seq, size, at_ns)
        if seq <= self._held.seq:
            return
        self._points.append(self._last)
        if len(self._points) > MARKS_MAX:
            self._join()

    def held(self, seq: int) -> None:
        """Take note that the frames up to `seq` are held elsewhere; it never moves back."""
        if seq <= self._held.seq:
            return
        self._held = _Point(seq, self._held.size, 0)
        while self._points and self._points[0].seq <= seq:
            self._held.size = self._points.popleft().size

    def lag(self, now_ns: int) -> Lag:
        """Say how far the other copy is behind. The bytes may count a batch too many."""
        if not self._points:
            return Lag(0, 0, 0)
        age_ms = max(0, now_ns - self._points[0].at_ns) // _MS
        records = self._last.seq - self._held.seq
        return Lag(age_ms, records, max(0, self._last.size - self._held.size))

    def _join(self) -> None:
        """Join neighbours: the later's frames get the earlier's time, so no age is too small."""
        joined: deque[_Point] = deque()
        points = iter(self._points)
        for first in points:
            second = next(points, first)
            joined.append(_Point(second.seq, second.size, first.at_ns))
        self._points = joined
