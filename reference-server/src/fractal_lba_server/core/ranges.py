"""Compare two sets of entries by the digests of ranges, and find every entry that differs.

This file owns the walk (spec/dedup.md 9): a range whose count and digest are the same on both
sides is done; one that differs is split until it holds few entries, and these are listed. Keys
are placed on a line of integers: ring points for dedup shards, 256 bits for ids of records. The
walk is a value of pending ranges, so it goes on where it stopped.

    >>> walk = Walk.over([Span(0, 255)])
    >>> walk.next_ask()
    AskDigests(spans=(Span(lo=0, hi=255),))
    >>> walk = walk.after_digests((Span(0, 255),), [Sum(70_000, b"a")], [Sum(70_000, b"b")])
    >>> len(walk.pending), walk.pending[0]
    (16, Span(lo=0, hi=15))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Generic, NamedTuple, TypeVar

FANOUT: Final = 16
"""Parts that a differing range is split into: 32 bits take at most eight levels."""

LIST_MAX: Final = 256
"""Entries up to which a differing range is listed instead of split."""

ASK_SPANS_MAX: Final = 64
"""Most ranges of one request for digests; also what is walked again after a crash."""

SPANS_MAX: Final = 1 << 20
"""Most ranges that a walk begins with or keeps: about 100 MB."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Span(NamedTuple):
    """Integers from `lo` to `hi`, both inclusive."""

    lo: int
    hi: int


class Sum(NamedTuple):
    """How many entries a range holds, and the digest over them in order."""

    entries: int
    digest: bytes


class AskDigests(NamedTuple):
    """Ask both sides for the sums of these ranges."""

    spans: tuple[Span, ...]


class AskEntries(NamedTuple):
    """Ask both sides for the entries of this range."""

    span: Span


@dataclass(frozen=True, slots=True)
class Differences(Generic[KeyT, ValueT]):
    """What the other side lacks, has beyond, and has otherwise: each by the side that counts."""

    missing: Mapping[KeyT, ValueT]
    extra: Mapping[KeyT, ValueT]
    changed: Mapping[KeyT, ValueT]

    @property
    def count(self) -> int:
        """Give the number of entries that differ."""
        return len(self.missing) + len(self.extra) + len(self.changed)


def differences(
    mine: Mapping[KeyT, ValueT], theirs: Mapping[KeyT, ValueT]
) -> Differences[KeyT, ValueT]:
    """Compare two lists of entries; `mine` is the side that counts."""
    return Differences(
        {key: value for key, value in mine.items() if key not in theirs},
        {key: value for key, value in theirs.items() if key not in mine},
        {key: value for key, value in mine.items() if key in theirs and theirs[key] != value},
    )


def split(span: Span, parts: int = FANOUT) -> list[Span]:
    """Cut a range into at most that many ranges of nearly the same width."""
    width = span.hi - span.lo + 1
    parts = min(parts, width)
    cuts = [span.lo + width * index // parts for index in range(parts + 1)]
    return [Span(lo, hi - 1) for lo, hi in pairwise(cuts)]


@dataclass(frozen=True, slots=True)
class Walk:
    """What is left to compare, in order, and what was compared so far."""

    pending: tuple[Span, ...]
    listing: tuple[Span, ...] = ()
    compared: int = 0
    """Entries of the side that counts, in ranges that are done."""

    @classmethod
    def over(cls, spans: Iterable[Span]) -> Walk:
        """Begin a walk; raises ValueError for ranges that overlap or go backwards."""
        pending = tuple(spans)
        for before, span in zip((None, *pending), pending, strict=False):
            if span.lo > span.hi or (before is not None and span.lo <= before.hi):
                raise ValueError(f"ranges in ascending order, got {before} and {span}")
        if len(pending) > SPANS_MAX:
            raise ValueError(f"at most {SPANS_MAX} ranges, got {len(pending)}")
        return cls(pending)

    @property
    def done(self) -> bool:
        """Say whether nothing is left."""
        return not self.pending and not self.listing

    def next_ask(self) -> AskDigests | AskEntries | None:
        """Say what both sides are asked next; ranges to list come first, so they stay few."""
        if self.listing:
            return AskEntries(self.listing[0])
        return AskDigests(self.pending[:ASK_SPANS_MAX]) if self.pending else None

    def after_digests(
        self, spans: tuple[Span, ...], mine: Sequence[Sum], theirs: Sequence[Sum]
    ) -> Walk:
        """Take the sums of the first pending ranges."""
        if spans != self.pending[: len(spans)]:
            raise ValueError("the ranges are not the next ones of this walk")
        compared, deeper, listing = self.compared, list[Span](), list(self.listing)
        for span, own, other in zip(spans, mine, theirs, strict=True):
            if own == other:
                compared += own.entries
            elif span.lo == span.hi or max(own.entries, other.entries) <= LIST_MAX:
                listing.append(span)
            else:
                deeper += split(span)
        pending = (*deeper, *self.pending[len(spans) :])
        return Walk(pending, tuple(listing), compared)

    def after_entries(self, span: Span, count: int) -> Walk:
        """Take note that the first range to list was listed, and its faults mended or kept."""
        if self.listing[:1] != (span,):
            raise ValueError("the range is not the next one of this walk")
        return replace(self, listing=self.listing[1:], compared=self.compared + count)

    def members(self) -> dict[str, Any]:
        """Give the members of its JSON object; numbers are hex text, for they may be 256 bits."""
        return {
            "compared": self.compared,
            "listing": [_text(span) for span in self.listing],
            "pending": [_text(span) for span in self.pending],
        }

    @classmethod
    def read(cls, members: Mapping[str, Any]) -> Walk:
        """Read what `members` wrote; raises KeyError, TypeError or ValueError."""
        return cls(
            tuple(map(_span, members["pending"])),
            tuple(map(_span, members["listing"])),
            members["compared"],
        )


def _text(span: Span) -> str:
    return f"{span.lo:x}-{span.hi:x}"


def _span(text: str) -> Span:
    lo, hi = text.split("-")
    return Span(int(lo, 16), int(hi, 16))
