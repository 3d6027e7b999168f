"""Opens the streams that this region writes: one log for each placement it holds.

The order is that of trust: what the log holds is read, the index is brought up to it, and only
then may frames follow.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from .config import Config
from .core.first_write import Apply, Rank, resolve
from .core.regions import Registry
from .core.replication import SegmentSealed, TailGrown
from .core.segment import HEADER_BYTES, Header, SegmentError, read_header
from .core.streams import StreamStart
from .ingest import Driver
from .replication import Replication
from .store.data_dir import DataDir, StreamDir
from .store.mirror import read_fence
from .store.sqlite import Index
from .store.stream import stream_facts
from .store.wal import Wal, WalCorruptError, segment_paths

REPLAY_ROWS: Final = 65_536
"""Rows of one transaction while the index catches up with the log."""


def catch_up(
    index: Index,
    streams: Iterable[StreamDir],
    *,
    rank: Rank,
    report: Callable[[int], None] = lambda seq: None,
) -> int:
    """Bring the index up to the logs; give the number of frames read.

    Raises WalCorruptError, or ValueError for a frame without facts.
    """
    return sum(_follow(index, stream, rank, report) for stream in streams)


def catch_up_mirrors(index: Index, mirrors: Iterable[StreamDir], *, rank: Rank) -> int:
    """Bring the index up to what is whole in the mirrors of other regions.

    A torn tail, or damage, ends a mirror here; shipping cuts the one and reports the other.
    """
    read = 0
    for mirror in mirrors:
        _make_durable(mirror.path)
        with contextlib.suppress(WalCorruptError):
            read += _follow(index, mirror, rank, lambda seq: None)
    return read


def _make_durable(directory: Path) -> None:
    """Sync what a killed process may have left to the system alone: the index must not lead it."""
    for path in directory.glob("seg-*.open"):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _follow(index: Index, stream: StreamDir, rank: Rank, report: Callable[[int], None]) -> int:
    batch: dict[tuple[str, str], Apply] = {}
    read = 0
    after = index.applied(stream.region, stream.placement)
    found = stream_facts(
        stream.path, region=stream.region, placement=stream.placement, first_seq=after + 1
    )
    try:
        for _, _, facts in found:
            if facts.key in batch or len(batch) == REPLAY_ROWS:  # an id meets what is applied
                read += index.apply(batch.values())
                report(facts.stored.seq)
                batch = {}
            row = resolve(facts.key, facts.stored, facts.kid, index.lookup(facts.key), rank)
            assert row is not None  # no frame that is applied is read
            batch[facts.key] = row
    finally:
        # Also what stands before damage: the index then says how much of the log there was.
        read += index.apply(batch.values())
    return read


def closed_epochs(directory: Path) -> tuple[tuple[int, int], ...]:
    """Give the earlier region epochs of a stream, each with its last number."""
    return tuple(
        (one.region_epoch, then.first_seq - 1)
        for one, then in pairwise(_headers(directory))
        if one.region_epoch != then.region_epoch
    )


def last_epoch(directory: Path) -> int | None:
    """Give the region epoch that wrote to a stream last, or None if nobody has."""
    headers = _headers(directory)
    return headers[-1].region_epoch if headers else None


def _headers(directory: Path) -> list[Header]:
    """Read the headers of the segments that have a whole one."""
    found = []
    for path in segment_paths(directory):
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        with contextlib.suppress(SegmentError):  # the log itself judges a damaged one
            found.append(read_header(head))
    return found


class OwnStreams:
    """The logs of this region, by placement, and what the ingest machine starts with."""

    def __init__(
        self,
        config: Config,
        *,
        data: DataDir,
        index: Index,
        registry: Registry,
        driver: Driver,
        replication: Replication | None,
        on_commit: Callable[[int, int, int], None],
        return_tail: Callable[[StreamDir], None] = lambda stream: None,
    ) -> None:
        self.wals: dict[str, Wal] = {}
        self.directories: list[StreamDir] = []
        self.starts: list[StreamStart] = []
        self.last_hlc = 0
        self.cut_bytes = 0
        for placement in registry.held_by(data.region):
            name = placement.name
            stream = f"{name}--{config.node}" if config.node else name
            directory = data.own_stream(stream)
            self.directories.append(directory)
            on_tail: Callable[[TailGrown | SegmentSealed], None] = _nobody
            peer_seq = 0
            if replication is not None and registry.peers(name, data.region):
                return_tail(directory)
                replication.follow(name, directory.path)
                on_tail, peer_seq = replication.on_tail(name), replication.peer_seq(name)
            written = last_epoch(directory.path) or data.region_epoch
            # A log that came back from a peer goes on under an epoch of its own.
            region_epoch = max(written, read_fence(directory.path))
            if replication is not None and not placement.needs_lease:
                replication.adopt(name, region_epoch)
            wal = Wal(
                directory.path,
                notify=partial(driver.from_log, name),
                region_epoch=region_epoch,
                applied_seq=index.applied(data.region, stream),
                segment_bytes=config.wal.segment_bytes,
                segment_age_s=config.wal.segment_age_s,
                on_commit=on_commit,
                on_tail=on_tail,
                peer_seq=peer_seq,
            )
            self.wals[name] = wal
            self.last_hlc = max(self.last_hlc, wal.recovered.last_hlc)
            self.cut_bytes += wal.recovered.cut_bytes
            self.starts.append(
                StreamStart(
                    placement=name,
                    name=stream,
                    region_epoch=region_epoch,
                    next_seq=wal.recovered.next_seq,
                    peers=registry.peers(name, data.region) if replication else (),
                    copies=placement.copies,
                    closed=closed_epochs(directory.path),
                    needs_lease=placement.needs_lease,
                )
            )

    @property
    def next_seq(self) -> int:
        """Give the next number of all streams together, for the log line of a start."""
        return sum(start.next_seq for start in self.starts)

    def start(self) -> None:
        """Start the writers. Raises OSError if a first segment cannot be made."""
        for wal in self.wals.values():
            wal.start()

    def stop(self) -> None:
        """Write what was handed over, then end."""
        for wal in self.wals.values():
            wal.stop()


def _nobody(event: TailGrown | SegmentSealed) -> None:
    """Hear of a tail that is shipped nowhere."""
