"""A segment is read as it was written, or refused with an offset; nothing else is ever read."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fractal_lba_server.core.segment import (
    FOOTER_BYTES,
    FRAME_RECORD,
    GENESIS,
    HEADER_BYTES,
    MAX_META_BYTES,
    MAX_PAYLOAD_BYTES,
    Footer,
    Header,
    SegmentError,
    encode_frame,
    frame_behind,
    frames,
    payload_of,
    payload_of_frame,
    read_frame,
    read_header,
    scan,
    whole_part,
)

FIRST = 41
HEADER = Header(FIRST, GENESIS, 1_768_478_400_000, 7)
FOOTER = Footer(3, bytes(range(32)), bytes(range(32, 64)))
RECORDS = [(b'{"a":1}', b"first body"), (b"", b""), (b"m" * 300, b"\0" * 70)]
FRAMES = [
    encode_frame(FIRST + i, (FIRST + i) << 16, meta, body) for i, (meta, body) in enumerate(RECORDS)
]
OPEN = HEADER.to_bytes() + b"".join(FRAMES)
WRITTEN = [(FIRST + i, meta, body) for i, (meta, body) in enumerate(RECORDS)]
STARTS = [HEADER_BYTES + sum(map(len, FRAMES[:i])) for i in range(len(FRAMES) + 1)]

seqs = st.integers(0, 2**64 - 1)
contents = st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=90)), max_size=6)


def facts(data: bytes) -> list[tuple[int, bytes, bytes]]:
    return [(frame.seq, frame.meta, frame.body) for frame in scan(data).frames]


@given(seqs, st.binary(min_size=32, max_size=32), seqs, st.integers(0, 2**32 - 1))
def test_header_is_read_as_written(first: int, prev: bytes, created: int, epoch: int) -> None:
    header = Header(first, prev, created, epoch)
    assert len(header.to_bytes()) == HEADER_BYTES
    assert read_header(header.to_bytes() + b"more") == header


@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_flipped_bit_of_a_header_is_found(bit: int) -> None:
    data = bytearray(HEADER.to_bytes())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SegmentError) as caught:
        read_header(bytes(data))
    assert caught.value.offset == (0 if bit < 64 else 60)


@given(st.integers(0, HEADER_BYTES - 1))
def test_short_header_is_refused_at_its_end(size: int) -> None:
    with pytest.raises(SegmentError, match="cut short") as caught:
        scan(OPEN[:size])
    assert caught.value.offset == size


@given(st.integers(0, 2**63), contents, st.integers(0, 40))
def test_frames_are_read_as_written(
    first: int, records: list[tuple[bytes, bytes]], space: int
) -> None:
    data = Header(first, GENESIS, 0, 0).to_bytes()
    for i, (meta, body) in enumerate(records):
        frame = encode_frame(first + i, i, meta, body, kind=i % 256)
        assert payload_of(frame) == frame[8:] == payload_of_frame(read_frame(frame, 0))
        data += frame
    found = scan(data + bytes(4 * space))
    assert (found.end, found.footer, found.fault) == (len(data), None, None)
    assert [(f.seq, f.hlc, f.kind, f.meta, f.body) for f in found.frames] == [
        (first + i, i, i % 256, meta, body) for i, (meta, body) in enumerate(records)
    ]
    assert [f.end for f in found.frames][-1:] == ([len(data)] if records else [])


def test_footer_is_read_as_written() -> None:
    data = OPEN + FOOTER.to_bytes()
    assert len(FOOTER.to_bytes()) == FOOTER_BYTES
    found = scan(data)
    assert (found.footer, found.fault, found.end) == (FOOTER, None, len(OPEN))
    assert facts(data) == WRITTEN


@pytest.mark.parametrize("extra", [-1, 1, 4_096])
def test_footer_of_another_size_is_a_fault(extra: int) -> None:
    data = OPEN + FOOTER.to_bytes()
    found = scan(data[:extra] if extra < 0 else data + bytes(extra))
    assert found.footer is None
    assert found.fault is not None
    assert f"at byte {len(OPEN)}" in found.fault


def test_truncation_at_any_byte_leaves_the_whole_frames() -> None:
    for size in range(HEADER_BYTES, len(OPEN) + 1):
        whole = sum(start <= size for start in STARTS[1:])
        found = scan(OPEN[:size])
        assert facts(OPEN[:size]) == WRITTEN[:whole]
        assert found.end == STARTS[whole]
        assert (found.fault is None) == (size == STARTS[whole])
        assert found.fault is None or f"at byte {STARTS[whole]}" in found.fault


def test_any_flipped_bit_is_found_at_its_frame() -> None:
    for bit in range(HEADER_BYTES * 8, len(OPEN) * 8):
        data = bytearray(OPEN + bytes(64))
        data[bit // 8] ^= 1 << bit % 8
        hit = sum(start <= bit // 8 for start in STARTS) - 1
        found = scan(bytes(data))
        assert facts(bytes(data)) == WRITTEN[:hit]
        assert found.fault is not None
        assert f"at byte {STARTS[hit]}" in found.fault


@given(
    st.integers(HEADER_BYTES, len(OPEN)),
    st.binary(max_size=200),
    st.integers(0, 100),
)
@example(len(OPEN), b"\0\0\0", 0)
@example(len(OPEN), b"WORMEND1", 0)
def test_whatever_follows_a_tear_no_frame_is_made_up(size: int, noise: bytes, space: int) -> None:
    data = OPEN[:size] + noise + bytes(space)
    given_back = facts(data)
    assert given_back == WRITTEN[: len(given_back)]


@given(st.binary(max_size=400))
def test_noise_is_never_a_segment(noise: bytes) -> None:
    with pytest.raises(SegmentError):
        scan(noise)
    found = scan(HEADER.to_bytes() + noise)
    assert found.frames == ()


@given(st.lists(st.integers(0, len(OPEN) + FOOTER_BYTES - 1), max_size=20), st.randoms())
def test_any_damage_is_a_segment_error_or_a_prefix(at: list[int], chance: Random) -> None:
    data = bytearray(OPEN + FOOTER.to_bytes())
    for offset in at:
        data[offset] = chance.randrange(256)
    try:
        given_back = facts(bytes(data))
    except SegmentError:
        return
    assert given_back == WRITTEN[: len(given_back)]


def test_gap_between_numbers_is_a_fault() -> None:
    data = HEADER.to_bytes() + FRAMES[0] + FRAMES[2]
    found = scan(data)
    assert len(found.frames) == 1
    assert found.fault == f"expected sequence number 42, got 43 at byte {STARTS[1]}"
    with pytest.raises(SegmentError, match="expected sequence number 40"):
        list(frames(OPEN, 40))


@pytest.mark.parametrize("size", [1, 18, MAX_PAYLOAD_BYTES + 1, 2**32 - 1])
def test_length_that_no_frame_has_is_refused(size: int) -> None:
    data = size.to_bytes(4, "big") + bytes(100)
    with pytest.raises(SegmentError, match="is no length of a frame"):
        read_frame(data, 0)


def test_longest_frame_is_read() -> None:
    frame = encode_frame(1, 2, b"m" * MAX_META_BYTES, b"b" * 65_536)
    found = read_frame(memoryview(frame), 0)
    assert (len(found.meta), len(found.body), found.kind) == (65_535, 65_536, FRAME_RECORD)
    assert found.end == len(frame)


def test_facts_longer_than_their_frame_are_refused() -> None:
    from google_crc32c import value

    payload = bytes(17) + (9).to_bytes(2, "big") + b"12345678"
    length = len(payload).to_bytes(4, "big")
    data = length + value(length + payload).to_bytes(4, "big") + payload
    with pytest.raises(SegmentError, match="facts are longer than the frame"):
        read_frame(data, 0)


def test_worked_example_of_the_format() -> None:
    frame = encode_frame(1, 0x0001_0000, b"{}", b"[]")
    assert frame[:4].hex() == "00000017"
    assert frame[8:].hex() == "010000000000000001000000000001000000027b7d5b5d"


# --- what is given of a segment, and what is cut of it

CLOSED = OPEN + FOOTER.to_bytes()


@given(st.integers(1, len(CLOSED)), st.sampled_from(STARTS))
@example(len(CLOSED), STARTS[-1])
def test_a_part_ends_with_a_whole_frame_or_with_the_footer(limit: int, offset: int) -> None:
    offset = 0 if offset == HEADER_BYTES else offset
    data = CLOSED[offset : offset + limit]
    ends = [start for start in STARTS[1:] if offset < start <= offset + limit]
    if offset + limit >= len(CLOSED):
        ends.append(len(CLOSED))
    if not ends:
        with pytest.raises(SegmentError):
            whole_part(data, offset=offset, until=len(CLOSED), frames_max=9)
        return
    part = whole_part(data, offset=offset, until=len(CLOSED), frames_max=9)
    assert part.end == ends[-1] - offset
    assert part.has_footer == (ends[-1] == len(CLOSED))
    assert [frame.seq for frame in part.frames] == [
        seq for (seq, *_), start in zip(WRITTEN, STARTS, strict=False)
        if max(offset, HEADER_BYTES) <= start < ends[-1]
    ]  # fmt: skip


def test_a_part_holds_no_more_frames_than_a_batch_may() -> None:
    part = whole_part(CLOSED, offset=0, until=len(CLOSED), frames_max=2)
    assert (len(part.frames), part.end, part.has_footer) == (2, STARTS[2], False)


def test_damage_is_not_taken_for_the_end_of_what_was_read() -> None:
    data = bytearray(OPEN)
    data[STARTS[1] + 20] ^= 1
    with pytest.raises(SegmentError, match="checksum"):
        whole_part(bytes(data), offset=0, until=len(data), frames_max=9)


@pytest.mark.parametrize(("group_max", "is_found"), [(1, True), (2, False)])
def test_a_whole_frame_behind_a_group_tells_damage_from_a_torn_tail(
    group_max: int, is_found: bool
) -> None:
    data = bytearray(OPEN)
    data[STARTS[1] + 20] ^= 1
    behind = frame_behind(bytes(data), scan(data), group_max=group_max)
    assert (behind is not None) == is_found
