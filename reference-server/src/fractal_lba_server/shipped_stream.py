"""One of our streams as those see it who ship it: how far it is durable, and who has it."""

from __future__ import annotations

import os
from pathlib import Path

from .core.governor import LagClock
from .core.hlc import COUNTER_BITS
from .core.replication import NOTHING, SegmentSealed, TailGrown
from .core.segment import GENESIS
from .outbound import Outbound
from .store.mirror import header_of
from .store.wal import read_frames, read_segment, segment_ends, segment_paths


class ShippedStream:
    """One of our streams: where it is, how far it is durable, who has it."""

    def __init__(self, placement: str, directory: Path, needed: int) -> None:
        self.placement = placement
        self.directory = directory
        self.needed = needed
        """Peers that must hold a frame before it is replicated."""
        self.outbound: dict[str, Outbound] = {}
        self.copies: list[Outbound] = []
        """On the way to an object store; they count for nothing."""
        self.clocks: dict[str, LagClock] = {}
        self.clock = LagClock()
        self.mark = NOTHING
        self.header_epoch = 0
        self.sealed_bytes = 0

    def ways(self) -> list[Outbound]:
        """Give every way that this stream takes."""
        return [*self.outbound.values(), *self.copies]

    def replicated_seq(self) -> int:
        """Give the last frame that enough peers have acknowledged."""
        acked = sorted((one.core.acked.seq for one in self.outbound.values()), reverse=True)
        if self.needed == 0:
            return self.mark.seq
        return acked[self.needed - 1] if self.needed <= len(acked) else 0

    def backlog(self, now_ns: int) -> list[tuple[TailGrown | SegmentSealed, int]]:
        """List what is there already, and since when at least it may be missing elsewhere."""
        missing = self.replicated_seq() + 1
        since_ns = now_ns
        for _, frame in read_frames(self.directory, missing):
            since_ns = (frame.hlc >> COUNTER_BITS) * 1_000_000
            break
        events: list[tuple[TailGrown | SegmentSealed, int]] = []
        for path, seq in segment_ends(self.directory):
            first_seq = int(path.stem[4:])
            self.header_epoch = header_of(path).region_epoch
            if path.suffix == ".wal":
                events.append((SegmentSealed(first_seq, path.stat().st_size, seq), since_ns))
            else:
                end = read_segment(path).end
                events.append((TailGrown(first_seq, end, seq), since_ns))
        return events

    def prev_sha256(self) -> bytes:
        """Give the hash that the segment after the last sealed one names."""
        sealed = [path for path in segment_paths(self.directory) if path.suffix == ".wal"]
        if not sealed:
            return GENESIS
        with sealed[-1].open("rb") as file:
            file.seek(-32, os.SEEK_END)
            return file.read()
