"""Decide how long an acknowledged entry is held: until its place in the log is replicated.

This file owns the rule that the level `replicated` rests on (spec/formats.md 11.22-11.29): a held
entry ends by a watermark of the same region, placement and region_epoch that reaches its seq, and
by nothing else. A newer region_epoch may have lost what stood above its beginning, so it sends the
entry again. Pure, like `schedule.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from .outcome import LEVELS, Position, Submitted
from .region_status import RegionStatus, StreamStatus
from .schedule import Acknowledge, Hold, Later, Verdict

Stream = tuple[str, str]


class Fate(Enum):
    """What the newest watermark of a stream means for a position in it."""

    OPEN = "open"
    COVERED = "covered"
    PASSED = "passed"


class Moved(NamedTuple):
    """What a watermark or a status changed: what is safe, to be sent again, or held elsewhere."""

    released: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    moved: tuple[tuple[str, Position], ...] = ()


def judge_recorded(submitted: Submitted, level: str) -> Verdict:
    """Decide what a recorded submit means for its entry at the level of its client (11.24)."""
    status, position = submitted.raw.status, submitted.position
    if level == LEVELS[0] or submitted.level != LEVELS[0]:
        return Acknowledge(status)
    if position is None:
        return Later(endpoint_down=False)
    own = submitted.replicated
    if own is not None and _stream_of(own) == _stream_of(position):
        # An answer of a later epoch shows that the frame stands in it.
        newest = max(position.region_epoch, own.region_epoch)
        position = replace(position, region_epoch=newest)
    return Hold(status, position)


class Held:
    """The entries that wait for their level, and the newest watermark of each stream."""

    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}
        self._newest: dict[Stream, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, id: object) -> bool:
        return id in self._positions

    def items(self) -> Iterator[tuple[str, Position]]:
        """Give each held entry with the position at which it is held."""
        return iter(self._positions.items())

    @property
    def regions(self) -> frozenset[str]:
        """Name the regions in which something is held."""
        return frozenset(position.region for position in self._positions.values())

    def add(self, id: str, position: Position) -> None:
        """Hold an entry at a position, in the place of one before."""
        self._positions[id] = position

    def discard(self, id: str) -> None:
        """Forget an entry, if it is held."""
        self._positions.pop(id, None)

    def fate(self, position: Position) -> Fate:
        """Say what the newest watermark means for a position (11.26)."""
        region_epoch, seq = self._newest.get(_stream_of(position), (-1, -1))
        if region_epoch > position.region_epoch:
            return Fate.PASSED
        is_covered = region_epoch == position.region_epoch and position.seq <= seq
        return Fate.COVERED if is_covered else Fate.OPEN

    def hear(self, news: Position | RegionStatus) -> Moved:
        """Take in a watermark, or what a region says of all its streams (11.25-11.29)."""
        if isinstance(news, Position):
            return self._hear_watermark(news)
        found = [self._hear_stream(stream) for stream in news.streams]
        return Moved(*(sum(parts, ()) for parts in zip(*found, strict=True))) if found else Moved()

    def _hear_watermark(self, watermark: Position) -> Moved:
        stream, told = _stream_of(watermark), (watermark.region_epoch, watermark.seq)
        if self._newest.get(stream, (-1, -1)) >= told:
            return Moved()
        self._newest[stream] = told
        fates = {id: self.fate(position) for id, position in self._positions.items()}
        ended = {id: fate for id, fate in fates.items() if fate is not Fate.OPEN}
        for id in ended:
            del self._positions[id]
        return Moved(
            tuple(id for id, fate in ended.items() if fate is Fate.COVERED),
            tuple(id for id, fate in ended.items() if fate is Fate.PASSED),
        )

    def _hear_stream(self, status: StreamStatus) -> Moved:
        """Let what stands of earlier epochs stand in the present one, then hear its watermark."""
        watermark, moved = status.watermark, []
        known, _ = self._newest.get(_stream_of(watermark), (-1, -1))
        if known <= watermark.region_epoch:
            for id, position in self._positions.items():
                if _stands(position, status):
                    moved.append((id, replace(position, region_epoch=watermark.region_epoch)))
        self._positions.update(moved)
        return self._hear_watermark(watermark)._replace(moved=tuple(moved))


def _stands(position: Position, status: StreamStatus) -> bool:
    watermark, closed = status.watermark, status.closed
    if _stream_of(position) != _stream_of(watermark) or position.region_epoch not in closed:
        return False
    ends = (seq for epoch, seq in closed.items() if epoch >= position.region_epoch)
    return position.region_epoch < watermark.region_epoch and position.seq <= min(ends)


def _stream_of(position: Position) -> Stream:
    return position.region, position.placement
