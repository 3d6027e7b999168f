"""Give traffic back to a region that has returned: 10, then 50, then 100 of a hundred.

The invariant of this file: a step is taken only after the one before it went well for a while,
and one bad sign or a word of the operator takes everything back at once. A region that fails
while it ramps waits longer each time, so that one at the edge does not swing (spec/roles.md 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .health import NS_PER_MS

STEPS: Final = (10, 50, 100)
"""Percent of its full weight, in order."""

HOLD_MS: Final = 30_000
"""How long a step must go well before the next one."""

REST_MS: Final = 60_000
"""How long a region that failed while it ramped stays out; doubled each time."""

REST_MS_MAX: Final = 3_600_000
"""The longest rest."""

IDLE: Final = "idle"
RAMPING: Final = "ramping"
RESTING: Final = "resting"
DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class RampRule:
    """How long the steps and the rests are."""

    hold_ms: int = HOLD_MS
    rest_ms: int = REST_MS
    rest_ms_max: int = REST_MS_MAX


class Ramp:
    """The weight of one region. Plain state; time is an argument."""

    def __init__(self, rule: RampRule) -> None:
        self._rule = rule
        self.state = IDLE
        self.falls = 0
        self._step = 0
        self._since_ns = 0

    @property
    def percent(self) -> int:
        """Give the weight of the region now, of a hundred."""
        return STEPS[self._step] if self.state in {RAMPING, DONE} else 0

    def begin(self, now_ns: int, *, caught_up: bool) -> bool:
        """Start at the first step; refused while it rests or lacks what the others hold."""
        if self.state in {RAMPING, DONE}:
            return True
        if not caught_up or (self.state == RESTING and not self._is_over(now_ns, self.rest_ms)):
            return False
        self._enter(RAMPING, now_ns)
        return True

    @property
    def rest_ms(self) -> int:
        """Give how long the present rest is."""
        return min(self._rule.rest_ms << max(self.falls - 1, 0), self._rule.rest_ms_max)

    def observe(self, healthy: bool, now_ns: int) -> bool:
        """Take a look at the region; tell whether its weight changed."""
        if self.state not in {RAMPING, DONE}:
            return False
        if not healthy:
            self.falls += 1
            self._enter(RESTING, now_ns)
            return True
        if self.state == DONE or not self._is_over(now_ns, self._rule.hold_ms):
            return False
        if self._step == len(STEPS) - 1:
            self.state, self.falls = DONE, 0
            return False
        self._step += 1
        self._since_ns = now_ns
        return True

    def abort(self, now_ns: int) -> None:
        """Take all traffic away, on the word of an operator; it may begin again at any time."""
        self._enter(IDLE, now_ns)

    def _enter(self, state: str, now_ns: int) -> None:
        self.state, self._step, self._since_ns = state, 0, now_ns

    def _is_over(self, now_ns: int, duration_ms: int) -> bool:
        return now_ns - self._since_ns >= duration_ms * NS_PER_MS
