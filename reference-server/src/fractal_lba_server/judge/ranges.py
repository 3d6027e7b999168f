"""Sets of whole numbers as ranges, so that a million records cost as much as one.

The invariant of this file: the pairs of a `Ranges` are half-open, disjoint, not adjacent, in
order and not empty, so that two equal sets have equal pairs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

Pair = tuple[int, int]
"""From the first number up to, and without, the second."""


class Ranges:
    """A set of whole numbers that is not changed."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        merged: list[Pair] = []
        for begin, end in sorted(pair for pair in pairs if pair[0] < pair[1]):
            if merged and begin <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        self.pairs: Final = merged

    def __len__(self) -> int:
        return sum(end - begin for begin, end in self.pairs)

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self.pairs == other.pairs

    def __hash__(self) -> int:
        return hash(tuple(self.pairs))

    def __repr__(self) -> str:
        return f"Ranges({self.pairs})"

    @property
    def first(self) -> int | None:
        """Give the smallest number."""
        return self.pairs[0][0] if self.pairs else None

    def __or__(self, other: Ranges) -> Ranges:
        if not (self.pairs and other.pairs):
            return self if self.pairs else other
        return Ranges([*self.pairs, *other.pairs])

    def __and__(self, other: Ranges) -> Ranges:
        return Ranges(self._common(other))

    def _common(self, other: Ranges) -> Iterator[Pair]:
        mine, theirs = iter(self.pairs), iter(other.pairs)
        a, b = next(mine, None), next(theirs, None)
        while a is not None and b is not None:
            begin, end = max(a[0], b[0]), min(a[1], b[1])
            if begin < end:
                yield begin, end
            if a[1] <= b[1]:
                a = next(mine, None)
            else:
                b = next(theirs, None)

    def __sub__(self, other: Ranges) -> Ranges:
        if not (self.pairs and other.pairs):
            return self
        return Ranges(self._without(other))

    def _without(self, other: Ranges) -> Iterator[Pair]:
        place = 0
        for begin, end in self.pairs:
            at = begin
            while place < len(other.pairs) and other.pairs[place][1] <= at:
                place += 1
            look = place
            while look < len(other.pairs) and other.pairs[look][0] < end:
                yield at, other.pairs[look][0]
                at = max(at, other.pairs[look][1])
                look += 1
            yield at, end

    def shifted(self, by: int) -> Ranges:
        """Give every number plus `by`."""
        return Ranges((begin + by, end + by) for begin, end in self.pairs)


class Growing:
    """A set of whole numbers that mostly grows at its end, as the numbers of a log do."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []

    def add(self, begin: int, end: int) -> list[Pair]:
        """Add a range, which must not be empty; give the parts of it that were not there."""
        low = bisect_left(self._ends, begin)
        high = bisect_right(self._begins, end)
        new: list[Pair] = []
        at = begin
        for place in range(low, high):
            if at < self._begins[place]:
                new.append((at, self._begins[place]))
            at = max(at, self._ends[place])
        if at < end:
            new.append((at, end))
        if low < high:
            begin = min(begin, self._begins[low])
            end = max(end, self._ends[high - 1])
        self._begins[low:high] = [begin]
        self._ends[low:high] = [end]
        return new

    def ranges(self) -> Ranges:
        """Give the set as it is now."""
        return Ranges(zip(self._begins, self._ends, strict=True))
