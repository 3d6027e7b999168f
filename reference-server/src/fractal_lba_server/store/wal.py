"""The write-ahead log on disk: one stream of segments, one thread that writes and syncs.

This file owns durability: `FrameSynced` is said after `fdatasync` has returned for the bytes
of that frame, and nowhere else. Frames that arrive while a sync is under way share the next
one (group commit). Space is zero-filled ahead of the data, so that a sync writes data only.
The bytes themselves are `core/segment.py`. Whoever ships the log hears through `on_tail` how far
it is durable, after each sync and after each close, and never sooner.
"""

# tidy: long because writing, rotation, loss and recovery share one account of the open segment

from __future__ import annotations

import errno
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

from fractal_lba.merkle import MerkleRoot

from ..core.ingest_events import FramesLost, FrameSynced, SpaceReturned
from ..core.replication import SegmentSealed, TailGrown
from ..core.segment import (
    FOOTER_BYTES,
    GENESIS,
    GROUP_FRAMES_MAX,
    HEADER_BYTES,
    Footer,
    Frame,
    Header,
    Scan,
    SegmentError,
    frame_behind,
    payload_of,
    read_header,
    scan,
)
from .files import Files, SystemFiles

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""A segment is closed before it would grow beyond this."""

SEGMENT_AGE_S: Final = 3_600.0
"""A segment with frames is closed when it is this old, so that it can be shipped or kept."""

FILL_STEP_BYTES: Final = 4 * 1024 * 1024
"""Zero-filled space is kept at least this far ahead of the data."""

FILL_CHUNK_BYTES: Final = 256 * 1024
"""Zero-filling syncs this often, because a sync of data waits for the zeros before it."""

AGE_CHECK_S: Final = 1.0
"""How often an idle log looks at the age of its segment."""

RETRY_SPACE_S: Final = 1.0
"""How often a log without space tries again."""

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

log = logging.getLogger("fractal_lba_server.wal")


@dataclass(frozen=True, slots=True)
class WalFailed:
    """A sync failed: what was written before it may be lost, so the process must end."""

    reason: str


WalEvent = FrameSynced | FramesLost | SpaceReturned | WalFailed


class WalCorruptError(Exception):
    """The log on disk is not what was written; names the file and the offset."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


# --- reading -------------------------------------------------------------------------------


def segment_paths(directory: Path) -> list[Path]:
    """Give the segments of a stream in order; the last may be open."""
    found = [p for p in directory.glob("seg-*") if p.suffix in (".wal", ".open")]
    return sorted(found, key=lambda path: path.stem)


def segment_ends(directory: Path) -> list[tuple[Path, int]]:
    """Give the segments of a stream with the number of each one's last frame.

    The next one's name says it; only the last segment is read. One without a frame is left out.
    """
    paths = segment_paths(directory)
    ends = [(path, int(after.stem[4:]) - 1) for path, after in pairwise(paths)]
    for path in paths[-1:]:
        found = read_segment(path).frames
        ends += [(path, found[-1].seq)] if found else []
    return ends


def read_segment(path: Path) -> Scan:
    """Scan one segment; raises WalCorruptError if not even its header can be read."""
    try:
        return scan(path.read_bytes())
    except SegmentError as error:
        raise WalCorruptError(path, str(error)) from None


def closed_hash(path: Path, prev_sha256: bytes) -> bytes:
    """Check a closed segment as a whole; give the hash that the next one must name.

    Raises WalCorruptError with the offset of the first wrong byte that can be told.
    """
    size = path.stat().st_size
    if size < HEADER_BYTES + FOOTER_BYTES:
        raise WalCorruptError(path, f"a closed segment of {size} bytes has no room for a footer")
    with path.open("rb") as file:
        header_bytes = file.read(HEADER_BYTES)
        file.seek(size - 32)
        claimed = file.read(32)
        file.seek(0)
        digest = sha256()
        left = size - 32
        while left:
            block = file.read(min(left, 1 << 20))
            digest.update(block)
            left -= len(block)
    if digest.digest() != claimed:
        found = read_segment(path)
        raise WalCorruptError(path, found.fault or f"its hash differs from its footer, byte {size}")
    try:
        header = read_header(header_bytes)
    except SegmentError as error:
        raise WalCorruptError(path, str(error)) from None
    if header.prev_sha256 != prev_sha256:
        raise WalCorruptError(path, "it names another predecessor at byte 16")
    return claimed


def read_frames(directory: Path, first_seq: int = 1) -> Iterator[tuple[Path, Frame]]:
    """Give the frames of a stream from `first_seq` on, none left out; raises WalCorruptError."""
    paths = segment_paths(directory)
    expected = first_seq
    for index, path in enumerate(paths):
        later = paths[index + 1 :]
        if later and int(later[0].stem[4:]) <= first_seq:
            continue
        found = read_segment(path)
        for frame in found.frames:
            if frame.seq > expected:
                raise WalCorruptError(path, f"starts at {frame.seq}, expected {expected}")
            if frame.seq == expected:
                yield path, frame
                expected += 1
        fault = found.fault
        if fault is None and found.footer is None and path.suffix == ".wal":
            fault = f"no frame and no footer at byte {found.end}"
        if fault is not None:
            raise WalCorruptError(path, fault)


def check_cut(path: Path, data: bytes, found: Scan) -> None:
    """Refuse to cut off what must have been acknowledged (spec/formats.md 7.9)."""
    behind = frame_behind(data, found, group_max=GROUP_FRAMES_MAX)
    if behind is not None:
        fault = found.fault or f"the data ends at byte {found.end}"
        text = f"{fault}, but frame {behind.seq} stands whole behind it at byte {behind.offset}"
        raise WalCorruptError(path, text)


def open_again(files: Files, path: Path) -> int:
    """Open the last segment; a close that did not come to its end made it read-only."""
    try:
        return files.open(path, os.O_RDWR)
    except PermissionError:
        fd = files.open(path, os.O_RDONLY)
        try:
            files.chmod(fd, 0o600)
        finally:
            files.close(fd)
        return files.open(path, os.O_RDWR)


# --- the open segment ----------------------------------------------------------------------


class _OpenSegment:
    """The segment that grows: where its data ends and how far it is zero-filled."""

    def __init__(self, files: Files, path: Path, fd: int, header: Header) -> None:
        self._files = files
        self._filling = threading.Lock()
        # A failed sync is told to each descriptor once: filling has its own, so that it cannot
        # take from the writer the news that frames were lost.
        self._fill_fd = files.open(path, os.O_RDWR)
        self.path = path
        self.fd = fd
        self.first_seq = header.first_seq
        self.region_epoch = header.region_epoch
        self.offset = HEADER_BYTES
        self.filled = HEADER_BYTES
        self.frames = 0
        self.root = MerkleRoot()
        self.created_ms = header.created_ms
        self.hash = sha256(header.to_bytes())

    @classmethod
    def create(cls, files: Files, directory: Path, header: Header) -> _OpenSegment:
        path = directory / f"seg-{header.first_seq:016d}.open"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            fd = files.open(path, flags)
        except FileExistsError:
            # Left by a creation that found no space; no frame was ever written to it.
            files.unlink(path)
            fd = files.open(path, flags)
        try:
            segment = cls(files, path, fd, header)
        except OSError:
            files.close(fd)
            raise
        try:
            files.pwrite(fd, header.to_bytes(), 0)
            segment.fill(HEADER_BYTES + FILL_STEP_BYTES)
            files.fsync(fd)
            files.fsync_dir(directory)
        except OSError:
            segment.release()
            raise
        return segment

    def fill(self, until: int) -> None:
        """Zero-fill up to `until`, so that later writes change data and nothing else."""
        with self._filling:
            while self.filled < until:
                self._files.pwrite(self._fill_fd, bytes(FILL_CHUNK_BYTES), self.filled)
                self._files.fdatasync(self._fill_fd)
                self.filled += FILL_CHUNK_BYTES

    def refill(self) -> None:
        """Clear what a failed write may have left behind the data."""
        with self._filling:
            self._files.ftruncate(self.fd, self.offset)
            self.filled = self.offset
        self.fill(self.offset + FILL_STEP_BYTES)

    def account(self, data: bytes, frames: Iterable[bytes]) -> None:
        """Count frames, together `data`, that stand in the file from here on."""
        self.hash.update(data)
        self.offset += len(data)
        for frame in frames:
            self.root.add(payload_of(frame))
            self.frames += 1

    def tail(self) -> TailGrown:
        """Say what the file holds; it is durable if the last write was synced."""
        return TailGrown(self.first_seq, self.offset, self.first_seq + self.frames - 1)

    def sealed(self) -> SegmentSealed:
        """Say what the file holds once it is closed."""
        return SegmentSealed(
            self.first_seq, self.offset + FOOTER_BYTES, self.first_seq + self.frames - 1
        )

    def close(self, directory: Path) -> bytes:
        """Write the footer, make the file read-only and final; give its hash."""
        unhashed = Footer(self.frames, self.root.digest(), bytes(32)).to_bytes()[:-32]
        whole = self.hash.copy()  # frames may still follow if the footer finds no space
        whole.update(unhashed)
        with self._filling:
            self._files.pwrite(self.fd, unhashed + whole.digest(), self.offset)
            try:
                self._finish(directory)
            except OSError as error:
                # No frame may follow a footer, so not even lack of space is survived here.
                raise OSError(errno.EIO, f"cannot close: {error}", str(self.path)) from error
        return whole.digest()

    def _finish(self, directory: Path) -> None:
        self._files.ftruncate(self.fd, self.offset + FOOTER_BYTES)
        self._files.fsync(self.fd)
        self._files.chmod(self.fd, 0o444)
        self._files.rename(self.path, self.path.with_suffix(".wal"))
        self._files.fsync_dir(directory)
        self.release()

    def release(self) -> None:
        """Give the descriptors back; whoever waits to fill finds nothing left to fill."""
        self.filled = sys.maxsize
        self._files.close(self._fill_fd)
        self._files.close(self.fd)


# --- recovery ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the log holds after a start."""

    next_seq: int
    last_hlc: int
    cut_bytes: int
    """How much of a torn tail was removed."""


class Wal:
    """One stream of frames. `append` comes from one thread; `notify` is called in another."""

    def __init__(
        self,
        directory: Path,
        *,
        notify: Callable[[WalEvent], None],
        region_epoch: int = 1,
        applied_seq: int = 0,
        peer_seq: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        segment_age_s: float = SEGMENT_AGE_S,
        on_commit: Callable[[int, int, int], None] = lambda frames, size, duration_ns: None,
        on_tail: Callable[[TailGrown | SegmentSealed], None] = lambda event: None,
        files: Files | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._directory = directory
        self._files = files if files is not None else SystemFiles()
        self._notify = notify
        self._region_epoch = region_epoch
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._on_commit = on_commit
        self._on_tail = on_tail
        self._now_ms = now_ms
        self._queue: queue.SimpleQueue[list[tuple[int, bytes]] | int | None] = queue.SimpleQueue()
        self._fill_wanted = threading.Event()
        self._stopping = threading.Event()
        self._open: _OpenSegment | None = None
        self._prev_sha256 = GENESIS
        self._lost = False
        self._needed_seq = max(applied_seq, peer_seq)
        self._needed_by = "the index" if applied_seq >= peer_seq else "a peer"
        self.recovered = self._recover()
        if self._needed_seq >= self.recovered.next_seq:
            raise self._cut_refused(directory, f"the log ends at {self.recovered.next_seq - 1}")
        self._next_seq = self.recovered.next_seq
        self._threads = [
            threading.Thread(target=self._write_loop, name="wal-writer", daemon=True),
            threading.Thread(target=self._fill_loop, name="wal-filler", daemon=True),
        ]

    def start(self) -> None:
        """Start the writer. Raises OSError if the first segment cannot be made."""
        if self._open is not None and self._open.region_epoch != self._region_epoch:
            self._end_incarnation(self._open)
        if self._open is None:
            self._open = self._new_segment(self._next_seq)
        for thread in self._threads:
            thread.start()

    def tail(self) -> TailGrown | None:
        """Say how far the open segment is durable; to be asked between recovery and `start`."""
        segment = self._open
        return segment.tail() if segment is not None and segment.frames else None

    def append(self, frames: list[tuple[int, bytes]]) -> None:
        """Hand over frames, in order of their sequence numbers."""
        self._queue.put(frames)

    def open_epoch(self, region_epoch: int) -> None:
        """Begin a segment of this region epoch; what was handed over before precedes it."""
        self._queue.put(region_epoch)

    def stop(self) -> None:
        """Write what was handed over, then end the threads. The segment stays open."""
        self._stopping.set()
        self._queue.put(None)
        self._fill_wanted.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        if self._open is not None:
            self._open.release()
            self._open = None

    # --- start-up

    def _cut_refused(self, path: Path, fault: str) -> WalCorruptError:
        return WalCorruptError(
            path, f"{fault}, but {self._needed_by} holds number {self._needed_seq}"
        )

    def _end_incarnation(self, segment: _OpenSegment) -> None:
        """Close what an earlier region epoch left open: a segment belongs to one epoch."""
        if segment.frames:
            self._rotate(self._next_seq)
        else:
            segment.release()
            self._open = None  # creating the next one replaces it: no frame was ever in it

    def _recover(self) -> Recovered:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths = segment_paths(self._directory)
        for path in paths[:-1]:
            self._expect_closed(path)
        if paths and paths[-1].suffix == ".wal":
            self._expect_closed(paths[-1])
            return self._after(read_segment(paths[-1]).frames, paths[-1], 0)
        if not paths:
            return Recovered(1, 0, 0)
        return self._reopen(paths[-1], paths[:-1])

    def _expect_closed(self, path: Path) -> None:
        if path.suffix != ".wal":
            raise WalCorruptError(path, "an open segment stands before later ones")
        self._prev_sha256 = closed_hash(path, self._prev_sha256)

    def _after(self, frames: tuple[Frame, ...], path: Path, cut_bytes: int) -> Recovered:
        if not frames:
            return Recovered(int(path.stem[4:]), 0, cut_bytes)
        return Recovered(frames[-1].seq + 1, frames[-1].hlc, cut_bytes)

    def _reopen(self, path: Path, closed: list[Path]) -> Recovered:
        """Take up the open segment; cut a torn tail if nothing acknowledged can be in it."""
        try:
            found = scan(data := path.read_bytes())
            header = read_header(data)
        except SegmentError as error:
            return self._discard_unborn(path, closed, str(error))
        if header.prev_sha256 != self._prev_sha256:
            raise WalCorruptError(path, "it names another predecessor at byte 16")
        last_seq = found.frames[-1].seq if found.frames else header.first_seq - 1
        if self._needed_seq > last_seq:
            raise self._cut_refused(path, found.fault or f"the data ends at byte {found.end}")
        check_cut(path, data, found)
        segment = self._resume(path, header, data, found)
        self._open = segment
        cut = len(data[found.end :].rstrip(b"\0"))
        if not found.frames and closed:
            return self._after(read_segment(closed[-1]).frames, closed[-1], cut)
        return self._after(found.frames, path, cut)

    def _discard_unborn(self, path: Path, closed: list[Path], fault: str) -> Recovered:
        """Remove a segment whose creation did not finish: its header was never synced."""
        first_seq = int(path.stem[4:])
        if self._needed_seq >= first_seq or path.read_bytes()[HEADER_BYTES:].strip(b"\0"):
            raise WalCorruptError(path, fault)
        self._files.unlink(path)
        self._files.fsync_dir(self._directory)
        if closed:
            return self._after(read_segment(closed[-1]).frames, closed[-1], 0)
        return Recovered(first_seq, 0, 0)

    def _resume(self, path: Path, header: Header, data: bytes, found: Scan) -> _OpenSegment:
        segment = _OpenSegment(self._files, path, open_again(self._files, path), header)
        frames = (data[frame.offset : frame.end] for frame in found.frames)
        segment.account(data[HEADER_BYTES : found.end], frames)
        if data[found.end :].strip(b"\0"):
            # Whatever stands behind the last whole frame goes, so that a zero length ends it and
            # no frame that was never synced can follow one that is written there now.
            self._files.ftruncate(segment.fd, segment.offset)
            self._files.fsync(segment.fd)
            segment.filled = segment.offset
        else:
            # A process that was killed may have written frames that no sync has met yet. They
            # count from now on, also for those to whom they are shipped.
            self._files.fdatasync(segment.fd)
            segment.filled = max(len(data), segment.offset)
        segment.fill(segment.offset + FILL_STEP_BYTES)
        return segment

    def _new_segment(self, first_seq: int) -> _OpenSegment:
        header = Header(first_seq, self._prev_sha256, self._now_ms(), self._region_epoch)
        return _OpenSegment.create(self._files, self._directory, header)

    # --- the writer

    def _write_loop(self) -> None:
        while True:
            found = self._next_batch()
            batch: list[tuple[int, bytes]] = []
            while isinstance(found, list):
                batch += found
                if len(batch) >= GROUP_FRAMES_MAX or self._queue.empty():
                    break
                found = self._queue.get()
            for start in range(0, len(batch), GROUP_FRAMES_MAX):
                if not self._commit(batch[start : start + GROUP_FRAMES_MAX]):
                    return
            if found is None:
                return
            if isinstance(found, int):
                self._region_epoch = found  # the next frame begins a segment of its own

    def _next_batch(self) -> list[tuple[int, bytes]] | int | None:
        """Wait for frames; meanwhile close a segment that has grown old."""
        while True:
            try:
                return self._queue.get(timeout=AGE_CHECK_S)
            except queue.Empty:
                segment = self._open
                if segment is None or not segment.frames or not self._is_old(segment):
                    continue
                try:
                    self._rotate(self._next_seq)
                except OSError as error:
                    if error.errno not in _NO_SPACE:
                        self._fail(error)
                        return None

    def _is_old(self, segment: _OpenSegment) -> bool:
        return self._now_ms() - segment.created_ms > self._segment_age_s * 1_000

    def _commit(self, batch: list[tuple[int, bytes]]) -> bool:
        """Make a batch durable. False if the log has failed and nothing may follow."""
        if self._lost:
            batch = self._skip_lost(batch)
            if not batch:
                return True
            self._lost = False
        started_ns = time.perf_counter_ns()
        try:
            self._write(batch)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                self._fail(error)
                return False
            return self._lose(error)
        try:
            assert self._open is not None
            self._files.fdatasync(self._open.fd)
        except OSError as error:
            self._fail(error)
            return False
        self._next_seq = batch[-1][0] + 1
        self._notify(FrameSynced(batch[-1][0]))
        self._on_tail(self._open.tail())
        size = sum(len(frame) for _, frame in batch)
        self._on_commit(len(batch), size, time.perf_counter_ns() - started_ns)
        if self._open.filled - self._open.offset < FILL_STEP_BYTES:
            self._fill_wanted.set()
        return True

    def _skip_lost(self, batch: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Drop frames numbered before the machine knew of a loss: it has refused them since."""
        for index, (seq, _) in enumerate(batch):
            if seq == self._next_seq:
                return batch[index:]
        return []

    def _write(self, batch: list[tuple[int, bytes]]) -> None:
        """Write frames at the end of the data; a full segment is closed first."""
        data = b"".join(frame for _, frame in batch)
        if self._open is not None and self._open.region_epoch != self._region_epoch:
            self._end_incarnation(self._open)
        segment = self._open
        if segment is None or self._is_full(segment, len(data)):
            segment = self._rotate(batch[0][0])
        segment.fill(segment.offset + len(data) + FOOTER_BYTES)
        self._files.pwrite(segment.fd, data, segment.offset)
        segment.account(data, (frame for _, frame in batch))

    def _is_full(self, segment: _OpenSegment, more_bytes: int) -> bool:
        return segment.frames > 0 and (
            segment.offset + more_bytes + FOOTER_BYTES > self._segment_bytes
            or self._is_old(segment)
        )

    def _rotate(self, first_seq: int) -> _OpenSegment:
        if self._open is not None and self._open.frames:
            self._prev_sha256 = self._open.close(self._directory)
            closed, self._open = self._open, None
            self._on_tail(closed.sealed())
        if self._open is None:
            self._open = self._new_segment(first_seq)
        return self._open

    def _lose(self, error: OSError) -> bool:
        log.error("the write-ahead log has no space: %s", error)
        self._lost = True
        self._notify(FramesLost(self._next_seq))
        return self._drop_until_space()

    def _drop_until_space(self) -> bool:
        """Wait for space, dropping frames: the machine has been told that they are lost.

        False if the log has failed.
        """
        while not self._stopping.wait(RETRY_SPACE_S):
            try:
                segment = self._open
                if segment is None:
                    self._rotate(self._next_seq)
                else:
                    segment.refill()
            except OSError as error:
                if error.errno not in _NO_SPACE:
                    self._fail(error)
                    return False
                continue
            log.warning("the write-ahead log has space again")
            self._notify(SpaceReturned())
            break
        return True

    def _fail(self, error: OSError) -> None:
        log.critical("the write-ahead log failed: %s", error)
        self._notify(WalFailed(str(error)))

    def _fill_loop(self) -> None:
        """Keep zero-filled space ahead of the data."""
        while not self._stopping.is_set():
            self._fill_wanted.wait()
            self._fill_wanted.clear()
            segment = self._open
            if segment is None or self._stopping.is_set():
                continue
            until = min(segment.offset + 2 * FILL_STEP_BYTES, self._segment_bytes)
            try:
                segment.fill(until)
            except OSError as error:
                # The writer meets the same error when it syncs or needs the space, and says so.
                log.warning("cannot zero-fill the write-ahead log ahead: %s", error)


__all__ = [
    "GROUP_FRAMES_MAX",
    "Recovered",
    "Wal",
    "WalCorruptError",
    "WalEvent",
    "WalFailed",
    "check_cut",
    "closed_hash",
    "open_again",
    "read_frames",
    "read_segment",
    "segment_ends",
    "segment_paths",
]
