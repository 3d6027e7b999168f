"""What a cold standby could be restored from at a moment.

The invariant of this file: a snapshot holds what was durable when it was begun; it is of use once
it is finished, was picked up by the next sync, and copied, all while its region lived.
"""

from __future__ import annotations

from random import Random
from typing import Final

from .setup import Setup, ns

TRIES_MAX: Final = 1_000
"""Snapshots looked at, from the newest back: older ones are deleted."""


class SnapshotPlan:
    """The snapshots of one placement."""

    def __init__(self, setup: Setup, placement: str) -> None:
        self._setup, self._placement = setup, placement
        rule = setup.snapshots
        self._begin_ns = int(self._chance("begin").random() * rule.interval_ns)
        self._sync_ns = int(self._chance("sync").random() * rule.sync_ns)

    def _chance(self, *name: str) -> Random:
        return self._setup.streams.anew().of("snapshot", self._placement, *name)

    def newest_ns(self, at_ns: int) -> int:
        """Give when the newest snapshot that is of use was begun; -1 if there is none."""
        rule = self._setup.snapshots
        number = (at_ns - self._begin_ns) // rule.interval_ns
        for place in range(number, max(-1, number - TRIES_MAX), -1):
            begin_ns = self._begin_ns + place * rule.interval_ns
            if place >= 0 and self._there_ns(place, begin_ns) <= at_ns:
                return begin_ns
        return -1

    def _there_ns(self, place: int, begin_ns: int) -> int:
        """Give when a snapshot is at the standby."""
        rule = self._setup.snapshots
        done_ns = begin_ns + rule.duration_ns
        if rule.sync_ns:
            done_ns += (self._sync_ns - done_ns) % rule.sync_ns
        return done_ns + ns(rule.copy.sample(self._chance("copy", str(place))))
