"""The bytes of the write-ahead log: how a frame, a header and a footer are written and read.

This file owns the segment format (spec/formats.md 7) and says what a reader may conclude
from a file: which frames are whole, where they end, and whether what follows is zero-filled
space, a footer, a torn tail or corruption. It opens no file.

    header  64 B  "WORMSEG1" . first_seq u64 . prev_sha256 32 . created_ms u64
                  . region_epoch u32 . crc32c u32 over the 60 bytes before
    frame         len u32 . crc32c u32 over len and payload . payload
    payload       type u8 . seq u64 . hlc u64 . meta_len u16 . meta . body
    footer  80 B  "WORMEND1" . frames u64 . root 32 (RFC 6962 over payloads)
                  . file_sha256 32 over every byte before it

All integers are big-endian. A `len` of 0 ends the data of an open segment; the first four
bytes of the footer's magic are no possible length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from google_crc32c import extend
from google_crc32c import value as crc32c

HEADER_BYTES: Final = 64
FOOTER_BYTES: Final = 80
GENESIS: Final = bytes(32)
"""`prev_sha256` of the first segment of a stream."""

MAX_META_BYTES: Final = 65_535
"""The width of `meta_len`; the decision's facts take about 600 bytes."""

MAX_PAYLOAD_BYTES: Final = 19 + MAX_META_BYTES + 65_536
"""Longest payload: the fixed part, the facts, and the longest record."""

FRAME_RECORD: Final = 1
"""Frame type of an accepted record."""

GROUP_FRAMES_MAX: Final = 1_024
"""Most frames that share one sync. A whole frame this far behind a damaged one was written after
the damaged one had been synced."""

_MAGIC: Final = b"WORMSEG1"
_END: Final = b"WORMEND1"
_HEADER: Final = struct.Struct(">8sQ32sQI")
_FRAME: Final = struct.Struct(">II")
_FIXED: Final = struct.Struct(">BQQH")
_FOOTER: Final = struct.Struct(">8sQ32s32s")
_U32: Final = struct.Struct(">I")


class SegmentError(ValueError):
    """Says what is wrong in a segment and at which byte."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} at byte {offset}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Header:
    """The first 64 bytes of a segment."""

    first_seq: int
    prev_sha256: bytes
    created_ms: int
    region_epoch: int

    def to_bytes(self) -> bytes:
        head = _HEADER.pack(
            _MAGIC, self.first_seq, self.prev_sha256, self.created_ms, self.region_epoch
        )
        return head + _U32.pack(crc32c(head))


class Frame(NamedTuple):
    """One decision: the exact bytes of a record and the facts of its acceptance."""

    offset: int
    seq: int
    hlc: int
    kind: int
    meta: bytes
    body: bytes

    @property
    def end(self) -> int:
        return self.offset + _FRAME.size + _FIXED.size + len(self.meta) + len(self.body)


@dataclass(frozen=True, slots=True)
class Footer:
    """The last 80 bytes of a closed segment."""

    frames: int
    root: bytes
    file_sha256: bytes

    def to_bytes(self) -> bytes:
        return _FOOTER.pack(_END, self.frames, self.root, self.file_sha256)


def encode_frame(seq: int, hlc: int, meta: bytes, body: bytes, kind: int = FRAME_RECORD) -> bytes:
    """Write one frame."""
    size = _FIXED.size + len(meta) + len(body)
    length = _U32.pack(size)
    payload = b"".join((_FIXED.pack(kind, seq, hlc, len(meta)), meta, body))
    return b"".join((length, _U32.pack(extend(crc32c(length), payload)), payload))


def payload_of(frame: bytes) -> bytes:
    """Give the payload of a frame that `encode_frame` wrote."""
    return frame[_FRAME.size :]


def payload_of_frame(frame: Frame) -> bytes:
    """Give the payload of a frame that was read: what its segment's root is built from."""
    fixed = _FIXED.pack(frame.kind, frame.seq, frame.hlc, len(frame.meta))
    return b"".join((fixed, frame.meta, frame.body))


def read_header(data: bytes) -> Header:
    """Read the first 64 bytes; raises SegmentError."""
    if len(data) < HEADER_BYTES:
        raise SegmentError("the header is cut short", len(data))
    magic, first_seq, prev, created_ms, region_epoch = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise SegmentError("not a segment: the first 8 bytes are not WORMSEG1", 0)
    if _U32.unpack_from(data, 60)[0] != crc32c(data[:60]):
        raise SegmentError("the header's checksum is wrong", 60)
    return Header(first_seq, prev, created_ms, region_epoch)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds: its whole frames, where they end, and what stands there."""

    frames: tuple[Frame, ...]
    end: int
    footer: Footer | None
    fault: str | None
    """Why the bytes at `end` are neither space nor a footer; None if they are."""


def read_frame(data: bytes | memoryview, offset: int) -> Frame:
    """Read the frame at `offset`; raises SegmentError."""
    if offset + _FRAME.size > len(data):
        raise SegmentError("a frame's head is cut short", offset)
    size, checksum = _FRAME.unpack_from(data, offset)
    if not _FIXED.size <= size <= MAX_PAYLOAD_BYTES:
        raise SegmentError(f"{size} is no length of a frame", offset)
    start = offset + _FRAME.size
    payload = bytes(data[start : start + size])
    if len(payload) < size:
        raise SegmentError("a frame is cut short", offset)
    if extend(crc32c(bytes(data[offset : offset + 4])), payload) != checksum:
        raise SegmentError("a frame's checksum is wrong", offset)
    kind, seq, hlc, meta_size = _FIXED.unpack_from(payload)
    body_at = _FIXED.size + meta_size
    if body_at > size:
        raise SegmentError("a frame's facts are longer than the frame", offset)
    return Frame(offset, seq, hlc, kind, payload[_FIXED.size : body_at], payload[body_at:])


def frame_at_number(data: bytes, offset: int, seq: int) -> Frame | None:
    """Find the whole frame of a record with this number, anywhere from `offset` on.

    A record cannot hold the bytes that are looked for: its JSON text has no zero bytes.
    """
    mark = _FIXED.pack(FRAME_RECORD, seq, 0, 0)[:9]
    at = data.find(mark, offset + _FRAME.size)
    while at >= 0:
        try:
            return read_frame(data, at - _FRAME.size)
        except SegmentError:
            at = data.find(mark, at + 1)
    return None


def frame_behind(data: bytes, found: Scan, *, group_max: int = GROUP_FRAMES_MAX) -> Frame | None:
    """Find a frame that was written after what a cut of the tail would drop had been synced.

    Where there is one, what was scanned ends at damage and not at a torn tail (spec/formats.md
    7.9). The length of a damaged frame says nothing, and a zero in its place ends the data as a
    tail does; so what stands behind is looked for by its number.
    """
    last_seq = found.frames[-1].seq if found.frames else read_header(data).first_seq - 1
    return frame_at_number(data, found.end, last_seq + 1 + group_max)


class Part(NamedTuple):
    """A part of a segment, cut behind its last whole frame."""

    frames: tuple[Frame, ...]
    end: int
    """How many bytes of what was read are whole."""
    has_footer: bool


def whole_part(data: bytes, *, offset: int, until: int, frames_max: int) -> Part:
    """Cut what was read of a segment from `offset` on; its data, or its footer, ends at `until`.

    Raises SegmentError where it is not what was written.
    """
    found: list[Frame] = []
    at = 0
    if offset == 0:
        read_header(data)
        at = HEADER_BYTES
    while at < len(data) and len(found) < frames_max:
        try:
            frame = read_frame(data, at)
        except SegmentError:
            if offset + len(data) < until and found:
                break  # the end of what was read cuts this frame; it goes with the next part
            if offset + at + FOOTER_BYTES != until or len(data) - at != FOOTER_BYTES:
                raise
            return Part(tuple(found), len(data), has_footer=True)
        found.append(frame)
        at = frame.end
    return Part(tuple(found), at, has_footer=False)


def frames(data: bytes | memoryview, first_seq: int) -> Iterator[Frame]:
    """Give the whole frames in order; raises SegmentError at the first that is not.

    Sequence numbers must follow one another without a gap.
    """
    offset, seq = HEADER_BYTES, first_seq
    while not _at_end(data, offset):
        frame = read_frame(data, offset)
        if frame.seq != seq:
            raise SegmentError(f"expected sequence number {seq}, got {frame.seq}", offset)
        yield frame
        offset, seq = frame.end, seq + 1


def _at_end(data: bytes | memoryview, offset: int) -> bool:
    head = bytes(data[offset : offset + len(_END)])
    return len(head) == 0 or head == _END or (len(head) >= 4 and head[:4] == bytes(4))


def scan(data: bytes | memoryview) -> Scan:
    """Read all that can be read; the header must be whole (raises SegmentError)."""
    header = read_header(bytes(data[:HEADER_BYTES]))
    found: list[Frame] = []
    fault: str | None = None
    try:
        for frame in frames(data, header.first_seq):
            found.append(frame)  # noqa: PERF402 - what was read before a fault is kept
    except SegmentError as error:
        fault = str(error)
    end = found[-1].end if found else HEADER_BYTES
    footer = None
    if fault is None and bytes(data[end : end + 8]) == _END:
        footer, fault = _read_footer(data, end)
    return Scan(tuple(found), end, footer, fault)


def _read_footer(data: bytes | memoryview, end: int) -> tuple[Footer | None, str | None]:
    if len(data) != end + FOOTER_BYTES:
        found = len(data) - end
        return None, f"{found} bytes where a footer of {FOOTER_BYTES} stands at byte {end}"
    _, count, root, file_sha256 = _FOOTER.unpack_from(data, end)
    return Footer(count, root, file_sha256), None
