"""Own what time a region believes it is: an offset, a drift, and steps.

The wall clock may be set; the steady one is not, and drifts as the wall clock does.
"""

from __future__ import annotations

from typing import Final

from ..waiting import Agenda

START_NS: Final = 1_767_225_600_000_000_000
"""The start of every run: 2026-01-01T00:00:00Z."""

PPM: Final = 1_000_000


class Clock:
    """The clocks of one machine."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._drift_ppm = 0.0
        self._since_ns = 0
        self._gained_ns = 0
        self._offset_ns = 0
        self.readings_off = 0
        """How often the wall clock was read while it was wrong."""

    def wall_ns(self) -> int:
        """Give Unix time as this machine shows it."""
        off_ns = self._offset_ns
        if off_ns or self._drift_ppm:
            self.readings_off += 1
            return START_NS + self.steady_ns() + off_ns
        return START_NS + self._agenda.now_ns + self._gained_ns

    def steady_ns(self) -> int:
        """Give the time since the start as this machine counts it; it is never set."""
        now_ns = self._agenda.now_ns
        if not self._drift_ppm:
            return now_ns + self._gained_ns
        return now_ns + self._gained_ns + self._drifted_ns(now_ns)

    def _drifted_ns(self, now_ns: int) -> int:
        return int((now_ns - self._since_ns) * self._drift_ppm / PPM)

    def drift(self, ppm: float) -> None:
        """Run faster or slower from now on; what was gained stays."""
        now_ns = self._agenda.now_ns
        self._gained_ns += self._drifted_ns(now_ns)
        self._since_ns, self._drift_ppm = now_ns, ppm

    def step(self, by_ns: int) -> None:
        """Set the wall clock by so much."""
        self._offset_ns += by_ns

    def true_ns(self, own_ns: int) -> int:
        """Give how long a stretch of the own clock lasts."""
        if not self._drift_ppm:
            return own_ns
        return int(own_ns / (1 + self._drift_ppm / PPM))
