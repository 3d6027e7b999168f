"""Judge the calls of one client, one by one or in stretches: shares and recovery.

The invariant of this file: `recovered_at` is spec/drills.md 3.3 for either form, in time that
grows with the number of calls or stretches and not with its square.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

from .parts import Event
from .recovery import BREAK_NS, GOOD_SHARE, Call, recovered_at

GOOD: Final = ("recorded", "conflict")
"""Results of a call that was answered."""

Window = tuple[int, int]
"""From the first moment to the last."""


class Caller(Protocol):
    """The calls of one client."""

    @property
    def count(self) -> int:
        """Count the calls."""
        ...

    @property
    def good(self) -> int:
        """Count the good ones."""
        ...

    @property
    def last_due_ns(self) -> int:
        """Give when the last call was due."""
        ...

    def took_ms(self, windows: Sequence[Window]) -> list[float]:
        """Give how long the calls took that overlap one of some windows of time."""
        ...

    def recovered_at(
        self, *, disrupted_ns: int, until_ns: int, steady_ns: int, end_ns: int
    ) -> int | None:
        """Give when calls succeed again, of those due before `until_ns`; None if not shown."""
        ...


class ListedCalls:
    """Calls that are written one by one."""

    def __init__(self, events: Sequence[Event], patience_ns: int) -> None:
        self._calls: Final = [
            Call(
                event["scheduled_ns"], event["at_ns"],
                event["result"] in GOOD and event["at_ns"] - event["scheduled_ns"] <= patience_ns,
            )
            for event in sorted(events, key=lambda event: int(event["scheduled_ns"]))
        ]  # fmt: skip

    @property
    def count(self) -> int:
        """Count the calls."""
        return len(self._calls)

    @cached_property
    def good(self) -> int:
        """Count the good ones."""
        return sum(call.good for call in self._calls)

    @property
    def last_due_ns(self) -> int:
        """Give when the last call was due."""
        return self._calls[-1].due_ns

    def took_ms(self, windows: Sequence[Window]) -> list[float]:
        """Give how long the calls took that overlap one of some windows of time."""
        return [
            (call.returned_ns - call.due_ns) / 1e6
            for call in self._calls
            if any(begin <= call.returned_ns and call.due_ns <= end for begin, end in windows)
        ]

    def recovered_at(
        self, *, disrupted_ns: int, until_ns: int, steady_ns: int, end_ns: int
    ) -> int | None:
        """Give when calls succeed again, of those due before `until_ns`; None if not shown."""
        due = self._calls[: bisect_left(self._calls, (until_ns,))]
        return recovered_at(due, disrupted_ns=disrupted_ns, steady_ns=steady_ns, end_ns=end_ns)


class _Stretch(NamedTuple):
    begin_ns: int
    end_ns: int
    calls: float
    good: float
    took_ns: int

    @property
    def breaks(self) -> bool:
        """Say whether good calls are so rare in it that a second passes between two."""
        length_ns = self.end_ns - self.begin_ns
        if self.good in (0, self.calls):
            return False
        return length_ns / self.good - length_ns / self.calls >= BREAK_NS


class Stretches:
    """Calls that are written in stretches (spec/drills.md 2.13, 4.18)."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._all: Final = sorted(
            _Stretch(
                e["from_ns"], max(e["at_ns"], e["from_ns"] + 1), e["count"], e["good"],
                e.get("took_ns", 0),
            )
            for e in events
        )  # fmt: skip

    @property
    def count(self) -> int:
        """Count the calls."""
        return int(sum(one.calls for one in self._all))

    @property
    def good(self) -> int:
        """Count the good ones."""
        return int(sum(one.good for one in self._all))

    @property
    def last_due_ns(self) -> int:
        """Give when the last stretch is over."""
        return max(one.end_ns for one in self._all)

    def took_ms(self, windows: Sequence[Window]) -> list[float]:
        """Give nothing: a stretch knows no single call."""
        del windows
        return []

    def recovered_at(
        self, *, disrupted_ns: int, until_ns: int, steady_ns: int, end_ns: int
    ) -> int | None:
        """Give when calls succeed again, of those due before `until_ns`; None if not shown."""
        shares = _Shares(_apart([one for one in self._all if one.begin_ns < until_ns], until_ns))
        return shares.recovered_at(disrupted_ns, steady_ns, end_ns)


def _apart(stretches: Sequence[_Stretch], until_ns: int) -> list[_Stretch]:
    """Cut stretches at a moment and where others begin or end, and add up what overlaps."""
    bounds = {bound for one in stretches for bound in one[:2]} | {until_ns}
    cuts = sorted(bound for bound in bounds if bound <= until_ns)
    found: dict[int, _Stretch] = {}
    for one in stretches:
        length_ns = one.end_ns - one.begin_ns
        place = bisect_left(cuts, one.begin_ns)
        while place + 1 < len(cuts) and cuts[place] < one.end_ns:
            begin_ns, end_ns = cuts[place], cuts[place + 1]
            share = (end_ns - begin_ns) / length_ns
            known = found.get(begin_ns, _Stretch(begin_ns, end_ns, 0, 0, 0))
            found[begin_ns] = _Stretch(
                begin_ns, end_ns, known.calls + share * one.calls, known.good + share * one.good,
                max(known.took_ns, one.took_ns),
            )  # fmt: skip
            place += 1
    return [found[begin_ns] for begin_ns in sorted(found)]


SLACK: Final = 1e-9
"""Calls by which a sum of doubles may miss the share that is asked."""


class _Shares:
    """Counts of calls as functions of time, each linear within a stretch."""

    def __init__(self, stretches: Sequence[_Stretch]) -> None:
        self._all = stretches
        self._begins = [one.begin_ns for one in self._all]
        # What is missing to the share that is asked, summed up to the begin of each stretch.
        self._surplus = [
            0.0, *accumulate(one.good - GOOD_SHARE * one.calls for one in self._all)
        ]  # fmt: skip
        self._bad = [0.0, *accumulate(float(one.calls - one.good) for one in self._all)]
        self._breaks = self._broken()

    def _broken(self) -> list[tuple[int, int]]:
        """Give the times without a good call that last long enough, whole."""
        found = []
        begin: int | None = None
        for one in self._all:
            if one.good and not one.breaks:
                if begin is not None:
                    found.append((begin, one.begin_ns))
                begin = None
            elif begin is None:
                begin = one.begin_ns
        if begin is not None:
            found.append((begin, self._all[-1].end_ns))
        return [(begin, end) for begin, end in found if end - begin >= BREAK_NS]

    def _sum(self, sums: Sequence[float], at_ns: float) -> float:
        place = bisect_right(self._begins, at_ns) - 1
        if place < 0:
            return 0.0
        one = self._all[place]
        share = min(1.0, (at_ns - one.begin_ns) / (one.end_ns - one.begin_ns))
        return sums[place] + share * (sums[place + 1] - sums[place])

    def _over(self, at_ns: float, steady_ns: int) -> float:
        """Give how many good calls a window has above what is asked."""
        return self._sum(self._surplus, at_ns + steady_ns) - self._sum(self._surplus, at_ns)

    def recovered_at(self, disrupted_ns: int, steady_ns: int, end_ns: int) -> int | None:
        """Give the moment from which calls succeed again."""
        bounds = {disrupted_ns}
        for one in self._all:
            bounds |= {one.begin_ns, one.end_ns, one.begin_ns - steady_ns, one.end_ns - steady_ns}
        for begin, end in self._breaks:
            bounds |= {begin + BREAK_NS - steady_ns, end}
        ordered = sorted(bound for bound in bounds if bound >= disrupted_ns)
        for left, right in zip(ordered, [*ordered[1:], ordered[-1] + 1], strict=True):
            at_ns = self._first_steady(left, right, steady_ns)
            if at_ns is None:
                continue
            if at_ns + steady_ns > end_ns:
                return None
            hurt = self._sum(self._bad, at_ns) - self._sum(self._bad, disrupted_ns)
            if hurt <= SLACK:
                return disrupted_ns
            return at_ns + self._all[bisect_right(self._begins, at_ns) - 1].took_ns
        return None

    def _first_steady(self, left: int, right: int, steady_ns: int) -> int | None:
        """Give the first moment of a segment, in which every sum is linear, that is steady."""
        place = bisect_right(self._begins, left) - 1
        if place < 0 or left >= self._all[place].end_ns or not self._all[place].good:
            return None
        if any(a + BREAK_NS - steady_ns <= left < b for a, b in self._breaks):
            return None
        before, after = self._over(left, steady_ns), self._over(right, steady_ns)
        if before >= -SLACK:
            return left
        if after <= SLACK:
            return None
        at_ns = left + round((right - left) * -before / (after - before))
        return at_ns if at_ns < right else None
