"""The logs of the regions as rows of records that are counted and not kept.

The invariant of this file: what a log holds up to a moment is a prefix of it, by time and by
number alike. While a run goes on a log is a list of parts, each of which can be counted up to any
moment; the moments at which a fate changes are kept as cuts, and records are numbered at the end,
between the cuts. So a number never lies on the wrong side of a fate.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .arrivals import Source

if TYPE_CHECKING:
    from .sites import Feed

OPEN_END = (1 << 63) - 1
"""The end of a part that goes on."""


class Again(NamedTuple):
    """Records that were sent before: which of another part, from which one on."""

    part: Part
    begin: int


class Beaten(NamedTuple):
    """The write that stands in place of another: in which log, and when it was durable."""

    log: Log
    at_ns: int


@dataclass(slots=True, eq=False)
class Part:
    """Records `begin` to `end` of a source, durable at even steps behind the moments they are due.

    A record that is due at `due_ns` is durable at `durable_ns`, and what is due later by some
    time is durable later by `slope` times that: more than 1 where a queue grows.
    """

    feed: Feed
    source: Source
    begin: int
    due_ns: int
    durable_ns: int
    answer_ns: int
    """From durable to answered."""

    slope: float = 1.0
    end: int = OPEN_END
    last_ns: int = OPEN_END
    """From here on all of it is durable."""
    again: Again | None = None
    region: str = ""
    known: bool = False
    """Whether the region held these records before; it answers a duplicate."""
    kept: bool = False
    """Whether an outbox kept these records before they were taken."""
    bad_share: float = 0.0
    """Share of its calls that find nobody, however often they try again."""
    refused_share: float = 0.0
    """Share of its attempts that are refused."""
    log: Log | None = None
    log_then: Log | None = None
    """The log that its region wrote to; that of a part that is in none."""
    beaten: Sequence[Beaten] | None = None
    """Against what each of the records lost, where all of them did."""

    def durable(self, number: int) -> int:
        """Give when a record is durable."""
        late_ns = self.source.due(number) - self.due_ns
        return self.durable_ns + (late_ns if self.slope == 1.0 else int(late_ns * self.slope))

    def until(self, at_ns: int) -> int:
        """Give the number of the first record that is not durable at a moment."""
        if at_ns >= self.last_ns:
            return self.end
        late_ns = at_ns - self.durable_ns
        if late_ns < 0:
            return self.begin
        if self.slope != 1.0:
            late_ns = int(late_ns / self.slope) if self.slope else OPEN_END >> 1
        number = self.source.before(min(self.due_ns + late_ns + 1, OPEN_END >> 1))
        return min(max(number, self.begin), self.end)

    def about(self, at_ns: int) -> float:
        """Say nearly how many records of the part are durable at a moment."""
        if at_ns >= self.last_ns:
            return float(self.end - self.begin)
        late_ns = at_ns - self.durable_ns
        if late_ns < 0:
            return 0.0
        if self.slope != 1.0:
            late_ns = int(late_ns / self.slope) if self.slope else OPEN_END >> 1
        return min(
            max(self.source.about(self.due_ns + late_ns) - self.begin, 0.0), self.end - self.begin
        )

    def close(self, number: int, at_ns: int) -> None:
        """End the part before a record; all before it are due by a moment."""
        self.end = min(self.end, max(number, self.begin))
        late_ns = max(0, at_ns - self.due_ns)
        last_ns = self.durable_ns + (
            late_ns if self.slope == 1.0 else int(late_ns * self.slope) + 1
        )
        self.last_ns = min(self.last_ns, last_ns)


@dataclass(slots=True, eq=False)
class Log:
    """The stream of one region for one placement, under one region epoch."""

    region: str
    placement: str
    region_epoch: int
    parts: list[Part] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    live: list[Part] = field(default_factory=list)
    """Parts that are not over for good."""
    _over_count: int = 0
    """What is in all others, and when the last of it was durable."""
    _over_ns: int = -1

    @property
    def name(self) -> tuple[str, str, int]:
        """Name the log."""
        return (self.region, self.placement, self.region_epoch)

    def add(self, part: Part) -> Part:
        """Go on with a part."""
        part.log = self
        self.parts.append(part)
        self.live.append(part)
        return part

    def count(self, at_ns: int) -> int:
        """Count what is durable at a moment."""
        before, rest = self._split(at_ns)
        return before + sum(part.until(at_ns) - part.begin for part in rest)

    def about(self, at_ns: int) -> int:
        """Say nearly how many records are durable at a moment: enough for sizes."""
        before, rest = self._split(at_ns)
        return before + int(sum(part.about(at_ns) for part in rest))

    def _split(self, at_ns: int) -> tuple[int, list[Part]]:
        """Give what is in the parts that are over at a moment, and the others to be asked.

        Parts that are over for good are added up once, so that a long log costs as much as a
        short one.
        """
        if at_ns < self._over_ns:
            return 0, self.parts
        over = [part for part in self.live if part.last_ns <= at_ns - SETTLED_NS]
        if over:
            self.live = [part for part in self.live if part.last_ns > at_ns - SETTLED_NS]
            self._over_count += sum(part.end - part.begin for part in over)
            self._over_ns = max(self._over_ns, *(part.last_ns for part in over))
        return self._over_count, self.live

    def cut(self, at_ns: int) -> int:
        """Keep apart what is durable at a moment and what is not yet; give the moment."""
        if at_ns not in self.cuts:
            insort(self.cuts, at_ns)
        return at_ns

    def moment_of(self, count: int, low: tuple[int, int], high: tuple[int, int]) -> tuple[int, int]:
        """Give nearly the moment at which so many records are durable, and how many they are.

        `low` and `high` are moments before and after it, each with its number of records.
        """
        first = low[1]
        for _ in range(GUESSES):
            if high[1] <= low[1] or count <= low[1]:
                break
            share_ns = (high[0] - low[0]) * (count - low[1]) // (high[1] - low[1])
            guess_ns = low[0] + max(1, share_ns)
            if guess_ns >= high[0]:
                break
            guess = (guess_ns, self.about(guess_ns))
            if abs(guess[1] - count) * GUESS_PARTS <= count - first:
                return guess
            if guess[1] > count:
                high = guess
            else:
                low = guess
        return high

    def next_durable(self, after_ns: int) -> int | None:
        """Give when the next record is durable; None if none is under way."""
        found = [
            part.durable(number)
            for part in self._split(after_ns)[1]
            for number in (part.until(after_ns),)
            if number < part.end and part.source.before(OPEN_END >> 1) > number
        ]
        return min(found, default=None)

    def truncate(self, at_ns: int) -> list[tuple[Part, int, int]]:
        """Stop at a moment: what is not durable by then never is. Give what was taken away."""
        lost = []
        for part in self.live:
            last = part.until(at_ns)
            if last < part.end:
                lost.append((part, last, part.end))
                part.end, part.last_ns = last, min(part.last_ns, at_ns)
        return lost


GUESSES = 8
"""Most tries to find where a batch ends."""

GUESS_PARTS = 20
"""A batch may be so small a part of itself shorter or longer than it should be."""

SETTLED_NS = 60 * 1_000_000_000
"""A part is added up for good so long after its last record: nothing cuts so far back."""


@dataclass(frozen=True, slots=True)
class Row:
    """Records of one part between two cuts, with their numbers in the log."""

    part: Part
    begin: int
    end: int
    first: int
    until_ns: int
    """The cut behind them."""

    @property
    def count(self) -> int:
        return self.end - self.begin


def numbered(log: Log) -> Iterator[Row]:
    """Give the records of a log, numbered from 1: cut after cut, and part after part."""
    done = [part.begin for part in log.parts]
    number = 1
    for until_ns in (*log.cuts, OPEN_END >> 1):
        for place, part in enumerate(log.parts):
            end = part.until(until_ns)
            if end > done[place]:
                yield Row(part, done[place], end, number, until_ns)
                number += end - done[place]
                done[place] = end


def held_count(rows: Sequence[Row], until_ns: int) -> int:
    """Count the records of numbered rows up to a cut."""
    place = bisect_right([row.until_ns for row in rows], until_ns)
    return rows[place - 1].first + rows[place - 1].count - 1 if place else 0
