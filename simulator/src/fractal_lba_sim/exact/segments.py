"""Own the files of one stream on a simulated disk: their names, what of them is whole, batches.

The bytes are those of core/segment.py. A stream that begins with a torn tail is cut there; one
that is damaged elsewhere is not taken up at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Final

from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.receiver import Held
from fractal_lba_server.core.replication import BATCH_FRAMES_MAX, Mark
from fractal_lba_server.core.segment import (
    HEADER_BYTES,
    Frame,
    Header,
    Scan,
    SegmentError,
    frame_behind,
    read_header,
    scan,
    whole_part,
)

from .disk import Disk, File
from .memory import know_frames

SCANS_MAX: Final = 16
"""Files whose frames are remembered: a start reads each file several times."""

scan_of: Callable[[bytes], Scan] = lru_cache(maxsize=SCANS_MAX)(scan)


class CorruptError(Exception):
    """A stream on a disk is not what was written; the process must not go on with it."""


class Segments:
    """The files of one stream."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self.disk = disk
        self.folder = folder
        self._names: dict[int, str] = {}

    def name(self, first_seq: int) -> str:
        """Name the file of a segment."""
        name = self._names.get(first_seq)
        if name is None:
            name = self._names[first_seq] = f"{self.folder}/{first_seq:016d}"
        return name

    def firsts(self) -> list[int]:
        """Give the first number of each segment, in order."""
        return [int(name.rpartition("/")[2]) for name in self.disk.names(f"{self.folder}/")]

    def file(self, first_seq: int) -> File:
        """Give a file. Raises SegmentError if there is none."""
        file = self.disk.files.get(self.name(first_seq))
        if file is None:
            raise SegmentError(f"number {first_seq} begins no segment here", 0)
        return file

    def recover(self, *, at_least: int = 0, copies_others: bool = False) -> Held:
        """Take up what is there: cut a torn tail, sync, and say where the stream ends.

        Raises CorruptError where more is missing than a tail that nobody was told of. A copy of
        another region's stream (`copies_others`) ends at the damage instead: its origin sends
        the rest again.
        """
        held = Held()
        for first in self.firsts():
            file = self.file(first)
            held = self._take_up(first, file, held, copies_others=copies_others)
        if held.mark.seq < at_least:
            text = f"{self.folder} ends at {held.mark.seq}, and {at_least} was acknowledged"
            raise CorruptError(text)
        return held

    def _take_up(self, first: int, file: File, held: Held, *, copies_others: bool) -> Held:
        found = self._scanned(first, file)
        if found is None or (not found.frames and not file.sealed):
            if file.sealed:
                raise CorruptError(f"{self.name(first)}: the header is damaged")
            self.disk.remove(self.name(first))
            return held
        data = bytes(file.data)
        if found.footer is not None:
            file.sealed, file.synced = True, len(data)
            seq, region_epoch = found.frames[-1].seq, read_header(data).region_epoch
            mark = Mark(first, len(data), seq, sealed=True)
            sealed = {**held.sealed, first: (seq, region_epoch)}
            return Held(mark, data[-32:], region_epoch, sealed=sealed)
        if file.sealed:
            raise CorruptError(f"{self.name(first)}: {found.fault or 'the footer is gone'}")
        if not copies_others and frame_behind(data, found) is not None:
            fault = found.fault or f"the data ends at byte {found.end}"
            raise CorruptError(f"{self.name(first)}: {fault}, and frames follow")
        del file.data[found.end :]
        file.synced = len(file.data)
        mark = Mark(first, found.end, found.frames[-1].seq, sealed=False)
        return held._replace(
            mark=mark, region_epoch=read_header(data).region_epoch, open_data=data[: found.end]
        )

    def _scanned(self, first: int, file: File) -> Scan | None:
        try:
            found = scan_of(bytes(file.data))
        except SegmentError:
            if len(file.data) > HEADER_BYTES:
                raise CorruptError(f"{self.name(first)}: the header is damaged") from None
            return None
        return found

    def frames(self, region: str, placement: str, after: int = 0) -> Iterator[tuple[Origin, Frame]]:
        """Give every whole frame behind a number, with where it came from."""
        for first in self.firsts():
            data = bytes(self.file(first).data)
            if len(data) <= HEADER_BYTES:
                continue
            found = scan_of(data)
            if found.frames and found.frames[-1].seq <= after:
                continue
            origin = Origin(region, placement, read_header(data).region_epoch)
            for frame in found.frames:
                if frame.seq > after:
                    yield origin, frame

    def closed(self) -> tuple[tuple[int, int], ...]:
        """Give the earlier region epochs, each with its last number."""
        headers = self._headers()
        return tuple(
            (one.region_epoch, then.first_seq - 1)
            for one, then in pairwise(headers)
            if one.region_epoch != then.region_epoch
        )

    def last_epoch(self) -> int | None:
        """Give the region epoch that wrote last."""
        headers = self._headers()
        return headers[-1].region_epoch if headers else None

    def _headers(self) -> list[Header]:
        return [read_header(bytes(self.file(first).data[:HEADER_BYTES])) for first in self.firsts()]

    def read(self, first_seq: int, offset: int, size: int) -> bytes:
        """Give bytes of a segment; none where there are none."""
        file = self.disk.files.get(self.name(first_seq))
        return b"" if file is None else bytes(file.data[offset : offset + size])

    def batch(self, place: tuple[int, int], until: int, limit: int) -> bytes:
        """Give whole frames, each checked before it leaves, and the footer if it fits.

        Raises SegmentError where the file is not what was written.
        """
        first_seq, offset = place
        with memoryview(self.file(first_seq).data) as whole:
            data = bytes(whole[offset : offset + min(until - offset, limit)])
        part = whole_part(data, offset=offset, until=until, frames_max=BATCH_FRAMES_MAX)
        body = data[: part.end]
        know_frames(body, {frame.offset: frame for frame in part.frames})
        return body

    def part(self, held: Mark, place: tuple[int, int], limit: int) -> bytes:
        """Give whole frames of what is durable, for another region's copy."""
        first_seq, offset = place
        if (first_seq, offset) >= held[:2]:
            return b""
        until = held.offset
        if first_seq != held.first_seq:
            file = self.disk.files.get(self.name(first_seq))
            until = 0 if file is None else len(file.data)
        return b"" if offset >= until else self.batch(place, until, limit)


def grown(segments: Segments) -> Iterator[tuple[int, int, int, bool]]:
    """Give what is durable of a stream, segment by segment: first, size, last number, sealed."""
    for first in segments.firsts():
        file = segments.file(first)
        found = scan_of(bytes(file.data))
        if found.frames:
            yield first, len(file.data), found.frames[-1].seq, file.sealed
