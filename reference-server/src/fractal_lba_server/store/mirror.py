"""The durable copy of one stream of another region: the same bytes in the same files.

This file owns the durability of mirrors: `append` returns after the bytes are synced, and the
names of what was created or sealed too. A mirror holds `DATA/peers/<region>/<placement>/`. Its
open file ends with the data: what is not yet held is not zero-filled. A start cuts a torn tail,
which was never acknowledged, and asks for it again; damage anywhere else is refused, never cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Final

from ..core.first_write import Origin
from ..core.receiver import Held
from ..core.replication import BATCH_FRAMES_MAX, NOTHING, Mark
from ..core.segment import (
    GENESIS,
    HEADER_BYTES,
    Frame,
    Header,
    SegmentError,
    read_header,
    scan,
    whole_part,
)
from .files import Files, SystemFiles
from .wal import (
    WalCorruptError,
    check_cut,
    closed_hash,
    open_again,
    read_frames,
    read_segment,
    segment_paths,
)

FENCE_FILE: Final = "FENCE"
"""Holds the region epoch below which nothing of this stream is taken, in decimal, and LF."""


class Mirror:
    """One stream's files. Calls come one at a time; every method raises OSError."""

    def __init__(
        self, directory: Path, *, files: Files | None = None, applied_seq: int = 0
    ) -> None:
        self._directory = directory
        self._files = files if files is not None else SystemFiles()
        self._fd: int | None = None
        self._path: Path | None = None
        self._failed = False
        _make_folder(directory)
        self.held = self._recover(applied_seq)

    def append(self, first_seq: int, offset: int, data: bytes, *, seal: bool) -> None:
        """Make bytes durable behind those that are held; `offset` 0 begins a segment.

        Raises MirrorFailedError once a sync has failed: after it nothing is certain.
        """
        if self._failed:
            raise MirrorFailedError(self._directory, "a sync failed before")
        if offset == 0:
            self._begin(first_seq)
        assert self._fd is not None
        self._files.pwrite(self._fd, data, offset)
        try:
            self._make_durable(self._fd, offset, len(data), seal=seal)
        except OSError as error:
            self._failed = True
            raise MirrorFailedError(self._directory, str(error)) from error

    def read(self, first_seq: int, offset: int, size: int) -> bytes:
        """Give what is held of a segment from `offset` on; nothing where there is nothing."""
        return read_range(self._directory, first_seq, offset, size)

    def frames(self, region: str, placement: str, first_seq: int) -> Iterator[tuple[Origin, Frame]]:
        """Give the frames from `first_seq` on; raises WalCorruptError."""
        path, origin = None, Origin(region, placement, 0)
        for found, frame in read_frames(self._directory, first_seq):
            if found != path:
                path = found
                origin = Origin(region, placement, header_of(path).region_epoch)
            yield origin, frame

    def fence(self, region_epoch: int) -> None:
        """Make a fence durable; it never goes down."""
        write_fence(self._directory, region_epoch, self._files)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd is not None:
            self._files.close(self._fd)
            self._fd = None

    # --- writing

    def _begin(self, first_seq: int) -> None:
        self.close()
        self._path = self._directory / f"seg-{first_seq:016d}.open"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            self._fd = self._files.open(self._path, flags)
        except FileExistsError:
            # Left by an attempt that failed; nothing of it was acknowledged.
            self._files.unlink(self._path)
            self._fd = self._files.open(self._path, flags)

    def _make_durable(self, fd: int, offset: int, size: int, *, seal: bool) -> None:
        assert self._path is not None
        if not seal:
            if offset == 0:
                self._files.fsync(fd)
                self._files.fsync_dir(self._directory)
            else:
                self._files.fdatasync(fd)
            return
        # An attempt that failed for lack of space may have left more behind.
        self._files.ftruncate(fd, offset + size)
        self._files.fsync(fd)
        self._files.chmod(fd, 0o444)
        self._files.rename(self._path, self._path.with_suffix(".wal"))
        self._files.fsync_dir(self._directory)
        self.close()

    # --- start-up

    def _recover(self, applied_seq: int) -> Held:
        fence = read_fence(self._directory)
        held = Held(NOTHING, GENESIS, 0, fence)
        paths = segment_paths(self._directory)
        for path, after in zip_longest(paths, paths[1:]):
            first_seq = int(path.stem[4:])
            if first_seq != held.mark.seq + 1:
                raise WalCorruptError(path, f"starts at {first_seq}, not at {held.mark.seq + 1}")
            if path.suffix == ".wal":
                held = self._recover_sealed(path, held, after)
            else:
                held = self._recover_open(path, held)
        if applied_seq > held.mark.seq:
            text = f"the mirror ends at {held.mark.seq}, but the index holds number {applied_seq}"
            raise WalCorruptError(self._directory, text)
        return held

    def _recover_sealed(self, path: Path, held: Held, after: Path | None) -> Held:
        if held.open_data:
            raise WalCorruptError(path, "stands behind an open segment")
        digest = closed_hash(path, held.prev_sha256)
        seq = read_segment(path).frames[-1].seq if after is None else int(after.stem[4:]) - 1
        first_seq, region_epoch = held.mark.seq + 1, header_of(path).region_epoch
        mark = Mark(first_seq, path.stat().st_size, seq, sealed=True)
        sealed = {**held.sealed, first_seq: (mark.seq, region_epoch)}
        return held._replace(
            mark=mark, prev_sha256=digest, region_epoch=region_epoch, sealed=sealed
        )

    def _recover_open(self, path: Path, held: Held) -> Held:
        """Take up the open file; a tail that no acknowledgement can have named is cut."""
        data = path.read_bytes()
        try:
            found, header = scan(data), read_header(data)
        except SegmentError as error:
            if data[HEADER_BYTES:].strip(b"\0"):
                raise WalCorruptError(path, str(error)) from None
            return self._discard(path, held)  # its creation did not come to its end
        check_cut(path, data, found)
        if not found.frames:
            return self._discard(path, held)
        if header.prev_sha256 != held.prev_sha256:
            raise WalCorruptError(path, "it names another predecessor at byte 16")
        self._path, self._fd = path, open_again(self._files, path)
        if len(data) != found.end:
            self._files.ftruncate(self._fd, found.end)
            self._files.fsync(self._fd)
        mark = Mark(header.first_seq, found.end, found.frames[-1].seq, sealed=False)
        return held._replace(
            mark=mark, region_epoch=header.region_epoch, open_data=data[: found.end]
        )

    def _discard(self, path: Path, held: Held) -> Held:
        self._files.unlink(path)
        self._files.fsync_dir(self._directory)
        return held


class MirrorFailedError(OSError):
    """A sync of a mirror failed: what was written may be lost, so the process must end."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"{directory}: {reason}")


def read_range(directory: Path, first_seq: int, offset: int, size: int) -> bytes:
    """Read a part of a segment, open or closed; nothing where there is nothing."""
    for suffix in (".open", ".wal", ".open"):  # it may be renamed while it is looked for
        try:
            with (directory / f"seg-{first_seq:016d}{suffix}").open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            continue
    return b""


def read_batch(
    directory: Path, place: tuple[int, int], until: int, *, seq: int, limit: int
) -> tuple[bytes, Mark]:
    """Read whole frames, and the footer if it fits; every frame is checked before it leaves.

    `place` is segment and byte, `seq` the last frame before it, `until` where the data ends.
    Raises SegmentError where the file is not what was written.
    """
    first_seq, offset = place
    data = read_range(directory, first_seq, offset, min(until - offset, limit))
    part = whole_part(data, offset=offset, until=until, frames_max=BATCH_FRAMES_MAX)
    last_seq = part.frames[-1].seq if part.frames else seq
    return data[: part.end], Mark(first_seq, offset + part.end, last_seq, part.has_footer)


def read_part(directory: Path, held: Mark, place: tuple[int, int], limit: int) -> bytes:
    """Read whole frames of a stream of which `held` is durable; nothing where there is nothing.

    Raises SegmentError where the file is not what was written.
    """
    first_seq, offset = place
    if (first_seq, offset) >= held[:2]:
        return b""
    until = held.offset
    if first_seq != held.first_seq:
        path = directory / f"seg-{first_seq:016d}.wal"
        until = path.stat().st_size if path.exists() else 0
    if offset >= until:
        return b""
    return read_batch(directory, place, until, seq=0, limit=limit)[0]


def header_of(path: Path) -> Header:
    """Read a segment's header; raises WalCorruptError."""
    with path.open("rb") as file:
        try:
            return read_header(file.read(HEADER_BYTES))
        except SegmentError as error:
            raise WalCorruptError(path, str(error)) from None


def read_fence(directory: Path) -> int:
    """Give the region epoch below which nothing is taken; 0 if there is no fence."""
    try:
        return int((directory / FENCE_FILE).read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0


def write_fence(directory: Path, region_epoch: int, files: Files | None = None) -> None:
    """Make a fence durable in a folder that may be new; it never goes down."""
    if region_epoch <= read_fence(directory):
        return
    _make_folder(directory)
    files = files if files is not None else SystemFiles()
    path = directory / FENCE_FILE
    new = path.with_suffix(".new")
    fd = files.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        text = f"{region_epoch}\n".encode()
        files.pwrite(fd, text, 0)
        files.ftruncate(fd, len(text))
        files.fsync(fd)
    finally:
        files.close(fd)
    files.rename(new, path)
    files.fsync_dir(directory)


def _make_folder(folder: Path) -> None:
    """Make a folder whose name outlasts a power cut, and those above it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        fd = os.open(folder.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


__all__ = [
    "Mirror",
    "MirrorFailedError",
    "header_of",
    "read_batch",
    "read_fence",
    "read_part",
    "read_range",
]
