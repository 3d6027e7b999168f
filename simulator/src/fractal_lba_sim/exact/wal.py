"""Own the write-ahead log of one stream: groups of frames, one sync for each, segments in a chain.

The invariant of this file: `FrameSynced` is said of a frame only when the disk has answered that
its bytes are durable, and frames stand in the order of their numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from fractal_lba.merkle import MerkleRoot
from fractal_lba_server.core.ingest_events import FramesLost, FrameSynced, SpaceReturned
from fractal_lba_server.core.receiver import Held
from fractal_lba_server.core.replication import SegmentSealed, TailGrown
from fractal_lba_server.core.segment import (
    FOOTER_BYTES,
    GROUP_FRAMES_MAX,
    HEADER_BYTES,
    Footer,
    Header,
    frames,
    payload_of_frame,
)

from ..waiting import Life
from .clock import Clock
from .segments import Segments

SEGMENT_BYTES: Final = 64 * 1024 * 1024
SEGMENT_AGE_S: Final = 3_600.0
GROUP_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of one group; more wait for the next sync."""

HAND_OVER_NS: Final = 50_000
"""From the ingest machine to the thread that writes: frames of one moment share a sync."""


@dataclass(frozen=True, slots=True)
class WalRule:
    """When a segment is closed."""

    segment_bytes: int = SEGMENT_BYTES
    segment_age_s: float = SEGMENT_AGE_S


class Wal:
    """The log of one stream in one process."""

    def __init__(
        self, segments: Segments, held: Held, *, placement: str, region_epoch: int, rule: WalRule,
        clock: Clock, life: Life, say: Callable[[object], None],
        on_tail: Callable[[TailGrown | SegmentSealed], None], fail: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.segments = segments
        self.placement = placement
        self._disk = segments.disk
        self._rule = rule
        self._clock = clock
        self._life = life
        self._say = say
        self._on_tail = on_tail
        self._fail = fail
        self._queue: deque[tuple[int, bytes] | int] = deque()
        self._epoch = region_epoch
        self._prev_sha256 = held.prev_sha256
        self._header_epoch = held.region_epoch
        self._first: int | None = None if held.mark.sealed else held.mark.first_seq
        self._created_ms = clock.wall_ns() // 1_000_000
        self._seq = held.mark.seq
        self._busy = False
        self._lost = False

    def append(self, seq: int, frame: bytes) -> None:
        """Hand a frame over."""
        self._queue.append((seq, frame))
        self._soon()

    def open_epoch(self, region_epoch: int) -> None:
        """Begin a segment of this region epoch; what was handed over before precedes it."""
        self._queue.append(region_epoch)
        self._soon()

    def _soon(self) -> None:
        if not self._busy:
            self._busy = True
            self._life.after(HAND_OVER_NS, self._turn)

    def _turn(self) -> None:
        """Write what comes next: a closed segment, or a group of frames."""
        self._busy = False
        if not self._queue or self._lost:
            return
        self._busy = True
        head = self._queue[0]
        if isinstance(head, int):
            self._queue.popleft()
            self._epoch = head
            self._busy = False
            self._turn()
            return
        try:
            if self._first is not None and self._must_close(len(head[1])):
                self._close()
                return
            self._write_group()
        except OSError:
            self._lose()

    def _must_close(self, more: int) -> bool:
        assert self._first is not None
        size = len(self.segments.file(self._first).data)
        age_ms = self._clock.wall_ns() // 1_000_000 - self._created_ms
        return (
            self._epoch != self._header_epoch
            or size + more + FOOTER_BYTES > self._rule.segment_bytes
            or age_ms > self._rule.segment_age_s * 1_000
        )

    def _write_group(self) -> None:
        """Write frames that one sync makes durable. Raises OSError where there is no space."""
        seq, size, count = 0, 0, 0
        while self._queue and size < GROUP_BYTES and count < GROUP_FRAMES_MAX:
            head = self._queue[0]
            if isinstance(head, int) or (size and self._must_close(len(head[1]))):
                break
            if self._first is None:
                self._begin(head[0])
            assert self._first is not None
            end = len(self.segments.file(self._first).data)
            try:
                self._disk.write(self.segments.name(self._first), end, head[1])
            except OSError:
                if not size:
                    raise
                break
            seq, size, count = head[0], size + len(head[1]), count + 1
            self._queue.popleft()
        assert self._first is not None
        self.sync(self._first, seq)

    def sync(self, first: int, seq: int) -> None:
        """Have the disk make a group durable, and only then say so."""
        self._disk.sync(self.segments.name(first), self._life.run, self._synced, first, seq)

    def _begin(self, first_seq: int) -> None:
        now_ms = self._clock.wall_ns() // 1_000_000
        header = Header(first_seq, self._prev_sha256, now_ms, self._epoch)
        self._disk.write(self.segments.name(first_seq), 0, header.to_bytes())
        self._first, self._created_ms, self._header_epoch = first_seq, now_ms, self._epoch

    def _synced(self, first: int, seq: int, ok: bool) -> None:
        if not ok:
            self._fail("the log cannot be made durable")
            return
        self.synced(first, seq)
        self._turn()

    def synced(self, first: int, seq: int) -> None:
        """Tell whoever waits how far the log is durable."""
        self._seq = seq
        self._on_tail(TailGrown(first, self.segments.file(first).synced, seq))
        self._say(FrameSynced(seq, self.placement))

    def _close(self) -> None:
        """Write the footer; the next group begins a segment that names this one."""
        first = self._first
        assert first is not None
        file = self.segments.file(first)
        root, count, data = MerkleRoot(), 0, bytes(file.data)
        for frame in frames(data, first):
            root.add(payload_of_frame(frame))
            count += 1
        unhashed = data + Footer(count, root.digest(), bytes(32)).to_bytes()[:-32]
        self._prev_sha256 = sha256(unhashed).digest()
        footer = Footer(count, root.digest(), self._prev_sha256).to_bytes()
        self._disk.write(self.segments.name(first), len(data), footer)
        self._disk.sync(self.segments.name(first), self._life.run, self._closed, first)

    def _closed(self, first: int, ok: bool) -> None:
        if not ok:
            self._fail("a segment cannot be closed")
            return
        file = self.segments.file(first)
        file.sealed = True
        self._first = None
        self._on_tail(SegmentSealed(first, len(file.data), self._seq))
        self._turn()

    def _lose(self) -> None:
        """Give back the numbers of frames for which there is no space, and wait for it."""
        numbers = [one[0] for one in self._queue if not isinstance(one, int)]
        self._queue = deque(one for one in self._queue if isinstance(one, int))
        if self._first is not None and len(self.segments.file(self._first).data) <= HEADER_BYTES:
            self._disk.remove(self.segments.name(self._first))
            self._first = None
        self._lost, self._busy = True, False
        self._disk.when_space(lambda: self._life.run(self._space))
        if numbers:
            self._say(FramesLost(numbers[0], self.placement))

    def _space(self) -> None:
        self._lost = False
        self._say(SpaceReturned(self.placement))
        self._turn()
