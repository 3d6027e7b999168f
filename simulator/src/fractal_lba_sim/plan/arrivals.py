"""When records are due: even or at random, counted without being made one by one.

The invariant of this file: record `i` of a source is due at one moment that depends on the seed
alone, and `before` and `due` agree about it. Moments of random arrivals are drawn bin by bin, and
only in the bins that somebody looks into; what nobody asks about is a number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..streams import Streams
from ..waiting import NS_PER_S

BIN_RECORDS: Final = 256
"""Records of a bin, in the mean. Small ones cost memory, large ones time where a bin is opened."""

BINS_OPEN_MAX: Final = 64
"""Opened bins that a source remembers; the oldest go, and come again with the same moments."""


Clock = Callable[[], int]
"""Gives the time now."""


class Source(Protocol):
    """A row of records with a moment each, in order."""

    @property
    def rate_per_s(self) -> float:
        """Give how many come in a second, in the mean."""
        ...

    def before(self, at_ns: int) -> int:
        """Count the records that are due before a moment."""
        ...

    def about(self, at_ns: int) -> float:
        """Say nearly how many records are due before a moment, without drawing one."""
        ...

    def due(self, number: int) -> int:
        """Give when a record is due; numbers count from 0."""
        ...


class Counted(ABC):
    """Records whose number costs nothing to know: to say it nearly is to say it."""

    @abstractmethod
    def before(self, at_ns: int) -> int:
        """Count the records that are due before a moment."""

    def about(self, at_ns: int) -> float:
        """Count the records that are due up to a moment."""
        return float(self.before(at_ns + 1))


class Even(Counted):
    """Records at equal distances from `start_ns` until `end_ns`."""

    def __init__(self, rate_per_s: float, *, phase: float, start_ns: int, end_ns: int) -> None:
        self.rate_per_s = rate_per_s
        self._period_ns = NS_PER_S / rate_per_s
        self._phase = phase
        self._start_ns = start_ns
        self._end_ns = end_ns

    def due(self, number: int) -> int:
        """Give when a record is due."""
        return self._start_ns + int((number + self._phase) * self._period_ns)

    def before(self, at_ns: int) -> int:
        """Count the records that are due before a moment."""
        at_ns = min(at_ns, self._end_ns)
        if at_ns <= self._start_ns:
            return 0
        # Asked more often than anything else: `due` is written out.
        passed_ns, phase, period_ns = at_ns - self._start_ns, self._phase, self._period_ns
        count = max(0, int(passed_ns / period_ns - phase))
        while count and int((count - 1 + phase) * period_ns) >= passed_ns:
            count -= 1
        while int((count + phase) * period_ns) < passed_ns:
            count += 1
        return count


class Poisson:
    """Records at random moments, independent of one another."""

    def __init__(
        self,
        rate_per_s: float,
        *,
        streams: Streams,
        name: tuple[str, ...],
        start_ns: int,
        end_ns: int,
    ) -> None:
        self.rate_per_s = rate_per_s
        self._streams, self._name = streams, name
        self._start_ns, self._end_ns = start_ns, end_ns
        self._width_ns = max(1, int(BIN_RECORDS * NS_PER_S / rate_per_s))
        bins = max(1, ceil((end_ns - start_ns) / self._width_ns))
        counts = streams.array(*name, "counts").poisson(
            rate_per_s * self._width_ns / NS_PER_S, bins
        )
        # What the last bin has behind the end is never due: `before` stops at the end.
        self._firsts = np.concatenate(([0], np.cumsum(counts)))
        self._open: dict[int, NDArray[np.int64]] = {}

    def due(self, number: int) -> int:
        """Give when a record is due; behind the last one it is the end."""
        if number >= int(self._firsts[-1]):
            return self._end_ns
        place = int(np.searchsorted(self._firsts, number, side="right")) - 1
        return int(self._moments(place)[number - int(self._firsts[place])])

    def before(self, at_ns: int) -> int:
        """Count the records that are due before a moment."""
        place, within_ns = self._bin(at_ns)
        count = int(self._firsts[place])
        if within_ns:
            count += int(np.searchsorted(self._moments(place), min(at_ns, self._end_ns)))
        return count

    def about(self, at_ns: int) -> float:
        """Say nearly how many records are due before a moment: bins are full evenly."""
        place, within_ns = self._bin(at_ns)
        if not within_ns:
            return float(self._firsts[place])
        first, following = int(self._firsts[place]), int(self._firsts[place + 1])
        return first + (following - first) * within_ns / self._width_ns

    def _bin(self, at_ns: int) -> tuple[int, int]:
        """Give the bin of a moment, and how far it is in it; the last one is behind them all."""
        passed_ns = max(0, min(at_ns, self._end_ns) - self._start_ns)
        place, within_ns = divmod(passed_ns, self._width_ns)
        last = len(self._firsts) - 1
        return (place, within_ns) if place < last else (last, 0)

    def _moments(self, place: int) -> NDArray[np.int64]:
        known = self._open.get(place)
        if known is None:
            # Not remembered by the streams of the run: there may be a hundred thousand bins.
            chance = self._streams.anew().array(*self._name, "bin", str(place))
            count = int(self._firsts[place + 1] - self._firsts[place])
            begin_ns = self._start_ns + place * self._width_ns
            known = np.sort(begin_ns + (chance.random(count) * self._width_ns).astype(np.int64))
            self._open[place] = known
            if len(self._open) > BINS_OPEN_MAX:
                del self._open[next(iter(self._open))]
        return known


class Burst(Counted):
    """A number of records that were kept, evenly between two moments or all at one."""

    def __init__(self, count: int, *, begin_ns: int, end_ns: int) -> None:
        self.count = count
        self._begin_ns, self._length_ns = begin_ns, max(0, end_ns - begin_ns)

    @property
    def rate_per_s(self) -> float:
        """Give how many come in a second; infinite where all come at once."""
        return self.count * NS_PER_S / self._length_ns if self._length_ns else float("inf")

    def due(self, number: int) -> int:
        """Give when a record is due."""
        return self._begin_ns + self._length_ns * min(number, self.count) // max(1, self.count)

    def before(self, at_ns: int) -> int:
        """Count the records that are due before a moment."""
        if at_ns <= self._begin_ns:
            return 0
        if at_ns > self._begin_ns + self._length_ns or not self._length_ns:
            return self.count
        # The smallest i with due(i) >= at_ns.
        return min(self.count, -(-(at_ns - self._begin_ns) * self.count // self._length_ns))


class Moments(Counted):
    """Records whose moments are all known."""

    def __init__(self, at_ns: NDArray[np.int64]) -> None:
        self._at_ns = at_ns

    @property
    def rate_per_s(self) -> float:
        """Give 0: nobody counts on a rate of theirs."""
        return 0.0

    def due(self, number: int) -> int:
        """Give when a record is due; behind the last one, when that was."""
        return int(self._at_ns[min(number, len(self._at_ns) - 1)]) if len(self._at_ns) else 0

    def before(self, at_ns: int) -> int:
        """Count the records that are due before a moment."""
        return int(np.searchsorted(self._at_ns, at_ns, side="left"))


class Shared:
    """A part of a source that changes in steps: the calls of those who go one way at the time.

    Records come as those of `base` do, in a time of their own that passes at the pace of the
    share. A share of nothing stands still.
    """

    def __init__(self, base: Source, *, share: float, end_ns: int, clock: Clock) -> None:
        self._base, self._clock = base, clock
        self._end_ns = end_ns
        self._at_ns = [0]
        self._shares = [share]
        self._passed_ns = [0]

    def replan(self, steps: Sequence[tuple[int, float]]) -> None:
        """Set the shares from the first of these moments on; what was before stays."""
        first_ns = steps[0][0]
        while self._at_ns[-1] >= first_ns and len(self._at_ns) > 1:
            for row in (self._at_ns, self._shares, self._passed_ns):
                row.pop()
        for at_ns, share in steps:
            self._passed_ns.append(self._passed(at_ns))
            self._at_ns.append(at_ns)
            self._shares.append(share)

    @property
    def steps(self) -> Sequence[int]:
        """Give the moments at which the share changes."""
        return self._at_ns[1:]

    def share(self, at_ns: int) -> float:
        """Give the share at a moment."""
        return self._shares[bisect_right(self._at_ns, at_ns) - 1]

    @property
    def rate_per_s(self) -> float:
        """Give how many come in a second now, in the mean."""
        return self._base.rate_per_s * self.share(self._clock())

    def _passed(self, at_ns: int) -> int:
        """Give how much time of the source has passed."""
        at_ns = min(at_ns, self._end_ns)
        place = bisect_right(self._at_ns, at_ns) - 1
        if place < 0:
            return 0
        return self._passed_ns[place] + int((at_ns - self._at_ns[place]) * self._shares[place])

    def before(self, at_ns: int) -> int:
        """Count the records that are due before a moment."""
        return self._base.before(self._passed(at_ns))

    def about(self, at_ns: int) -> float:
        """Say nearly how many records are due before a moment."""
        return self._base.about(self._passed(at_ns))

    def due(self, number: int) -> int:
        """Give when a record is due; behind the last one it is the end."""
        wanted_ns = self._base.due(number)
        place = bisect_right(self._passed_ns, wanted_ns) - 1
        share = self._shares[place]
        if not share:
            return self._end_ns
        at_ns = self._at_ns[place] + int((wanted_ns - self._passed_ns[place]) / share)
        while self._passed(at_ns) > wanted_ns and at_ns > self._at_ns[place]:
            at_ns -= 1
        return min(at_ns, self._end_ns)
