"""The log on a real disk: groups, segments, what a start makes of what it finds."""

# tidy: long because what a start may find on a disk is one list

from __future__ import annotations

import errno
import os
import queue
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fault_files import GatedFiles
from region import HANG_S, wait_until

from fractal_lba.merkle import MerkleRoot
from fractal_lba_server.core.ingest_events import FramesLost, FrameSynced, SpaceReturned
from fractal_lba_server.core.segment import (
    FOOTER_BYTES,
    GENESIS,
    HEADER_BYTES,
    Header,
    encode_frame,
    payload_of,
    read_frame,
    read_header,
)
from fractal_lba_server.store import wal as wal_module
from fractal_lba_server.store.files import SystemFiles
from fractal_lba_server.store.wal import (
    GROUP_FRAMES_MAX,
    Wal,
    WalCorruptError,
    WalFailed,
    closed_hash,
    read_frames,
    read_segment,
    segment_paths,
)


def frame(seq: int, size: int = 100) -> bytes:
    """Write a frame whose content follows from its number."""
    return encode_frame(seq, seq << 16, b"{}", random.Random(seq).randbytes(size))


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[tuple[Wal, queue.SimpleQueue[Any]]]:
    """Run a log; give it and the queue of what it says."""
    said: queue.SimpleQueue[Any] = queue.SimpleQueue()
    wal = Wal(folder, notify=said.put, **options)
    wal.start()
    try:
        yield wal, said
    finally:
        wal.stop()


def write(wal: Wal, said: queue.SimpleQueue[Any], first: int, last: int, size: int = 100) -> None:
    """Write frames one by one and wait for each."""
    for seq in range(first, last + 1):
        wal.append([(seq, frame(seq, size))])
        assert said.get(timeout=HANG_S) == FrameSynced(seq)


def bodies(folder: Path, first: int = 1) -> list[tuple[int, bytes]]:
    """Read the numbers and bodies of a log."""
    return [(seen.seq, seen.body) for _, seen in read_frames(folder, first)]


def written(first: int, last: int, size: int = 100) -> list[tuple[int, bytes]]:
    """Give what `bodies` must give."""
    return [(seq, frame(seq, size)[-size:]) for seq in range(first, last + 1)]


def segment(folder: Path) -> Path:
    """Name the one segment."""
    (path,) = segment_paths(folder)
    return path


# --- writing -------------------------------------------------------------------------------


def test_frames_are_synced_in_order_and_read_as_written(tmp_path: Path) -> None:
    with opened(tmp_path) as (wal, said):
        assert (wal.recovered.next_seq, wal.recovered.last_hlc) == (1, 0)
        write(wal, said, 1, 5)
    assert bodies(tmp_path) == written(1, 5)
    assert bodies(tmp_path, 3) == written(3, 5)
    path = segment(tmp_path)
    assert path.name == "seg-0000000000000001.open"
    assert path.stat().st_mode & 0o777 == 0o600
    header = read_header(path.read_bytes())
    assert (header.first_seq, header.prev_sha256, header.region_epoch) == (1, GENESIS, 1)
    with opened(tmp_path) as (wal, said):
        assert (wal.recovered.next_seq, wal.recovered.last_hlc) == (6, 5 << 16)
        assert wal.recovered.cut_bytes == 0
        write(wal, said, 6, 7)
    assert bodies(tmp_path) == written(1, 7)


def test_frames_that_come_during_a_sync_share_the_next(tmp_path: Path) -> None:
    files = GatedFiles()
    groups: list[int] = []
    with opened(tmp_path, files=files, on_commit=lambda frames, *_: groups.append(frames)) as (
        wal,
        said,
    ):
        files.gate.clear()
        wal.append([(1, frame(1))])
        wait_until(wal._queue.empty)
        for seq in range(2, 101):
            wal.append([(seq, frame(seq))])
        assert said.empty()
        files.gate.set()
        assert [said.get(timeout=HANG_S) for _ in range(2)] == [FrameSynced(1), FrameSynced(100)]
    assert groups == [1, 99]
    assert bodies(tmp_path) == written(1, 100)


def test_group_is_bounded(tmp_path: Path) -> None:
    groups: list[int] = []
    count = 2 * GROUP_FRAMES_MAX + 1
    with opened(tmp_path, on_commit=lambda frames, *_: groups.append(frames)) as (wal, said):
        wal.append([(seq, frame(seq)) for seq in range(1, count + 1)])
        while said.get(timeout=HANG_S) != FrameSynced(count):
            pass
    assert max(groups) == GROUP_FRAMES_MAX
    assert sum(groups) == count


def test_full_segment_is_closed_and_named_by_the_next(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=2_000, now_ms=lambda: 7) as (wal, said):
        write(wal, said, 1, 40)
    paths = segment_paths(tmp_path)
    assert [path.suffix for path in paths] == [".wal"] * (len(paths) - 1) + [".open"]
    previous = GENESIS
    for path in paths[:-1]:
        data = path.read_bytes()
        found = read_segment(path)
        assert len(data) <= 2_000
        assert path.stat().st_mode & 0o777 == 0o444
        assert found.footer is not None
        assert found.footer.frames == len(found.frames)
        assert len(data) == found.end + FOOTER_BYTES
        root = MerkleRoot()
        for one in found.frames:
            root.add(payload_of(data[one.offset : one.end]))
        assert found.footer.root == root.digest()
        header = read_header(data)
        assert (header.prev_sha256, header.created_ms) == (previous, 7)
        previous = closed_hash(path, previous)
        assert found.footer.file_sha256 == previous
    assert read_header(paths[-1].read_bytes()).prev_sha256 == previous
    assert bodies(tmp_path) == written(1, 40)
    assert bodies(tmp_path, 23) == written(23, 40)


def test_frame_larger_than_a_segment_has_one_for_itself(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=2_000) as (wal, said):
        write(wal, said, 1, 3, size=5_000)
    assert len(segment_paths(tmp_path)) == 3
    assert bodies(tmp_path) == written(1, 3, 5_000)


def test_old_segment_is_closed_when_the_next_frame_comes_or_nobody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_module, "AGE_CHECK_S", 0.01)
    clock = [0]
    with opened(tmp_path, segment_age_s=10, now_ms=lambda: clock[0]) as (wal, said):
        write(wal, said, 1, 1)
        clock[0] = 10_000
        write(wal, said, 2, 2)
        assert len(segment_paths(tmp_path)) == 1
        clock[0] = 10_001
        wait_until(lambda: len(segment_paths(tmp_path)) == 2)
        clock[0] = 50_000
        for _ in range(3):
            threading.Event().wait(0.02)
        assert len(segment_paths(tmp_path)) == 2, "an empty segment is not closed"
        write(wal, said, 3, 3)
    assert bodies(tmp_path) == written(1, 3)


def test_start_after_a_close_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=2_000) as (wal, said):
        write(wal, said, 1, 20)
    last = segment_paths(tmp_path)[-1]
    first_of_last = int(last.stem[4:])
    last.unlink()
    with opened(tmp_path, segment_bytes=2_000) as (wal, said):
        assert wal.recovered.next_seq == first_of_last
        assert wal.recovered.last_hlc == (first_of_last - 1) << 16
        write(wal, said, first_of_last, 20)
    assert bodies(tmp_path) == written(1, 20)


def test_new_segment_without_frames_is_taken_up(tmp_path: Path) -> None:
    with opened(tmp_path) as (wal, said):
        write(wal, said, 1, 3)
        wal._rotate(4)
    assert len(segment_paths(tmp_path)) == 2
    with opened(tmp_path) as (wal, said):
        assert (wal.recovered.next_seq, wal.recovered.last_hlc) == (4, 3 << 16)
        write(wal, said, 4, 5)
    assert bodies(tmp_path) == written(1, 5)


# --- recovery ------------------------------------------------------------------------------


def test_tail_torn_at_every_byte_of_the_last_frame_is_cut(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with opened(source) as (wal, said):
        write(wal, said, 1, 4)
    whole = segment(source).read_bytes()
    last = read_segment(segment(source)).frames[-1]
    assert last.end - last.offset == len(frame(4))
    for end in range(last.offset, last.end):
        for tail in (b"", bytes(4_096)):
            folder = tmp_path / f"{end}-{len(tail)}"
            folder.mkdir()
            (folder / segment(source).name).write_bytes(whole[:end] + tail)
            wal = Wal(folder, notify=print, applied_seq=3)
            assert wal.recovered.next_seq == 4, end
            assert wal.recovered.cut_bytes <= end - last.offset
            assert bodies(folder) == written(1, 3)
            wal._threads = []
            wal.stop()
            (folder / segment(source).name).write_bytes(whole[:end] + tail)
            with pytest.raises(WalCorruptError, match=f"byte {last.offset}.*index holds number 4"):
                Wal(folder, notify=print, applied_seq=4)


def test_frame_behind_a_hole_does_not_come_back(tmp_path: Path) -> None:
    with opened(tmp_path) as (wal, said):
        write(wal, said, 1, 4)
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    _, second, third, _ = read_segment(path).frames
    # The pages of the second frame never reached the disk; those behind it did.
    data[second.offset : third.offset] = bytes(third.offset - second.offset)
    path.write_bytes(data)
    with opened(tmp_path, applied_seq=1) as (wal, said):
        assert wal.recovered.next_seq == 2
        assert wal.recovered.cut_bytes > 0
        write(wal, said, 2, 2)
    assert bodies(tmp_path) == written(1, 2)


def rotten(tmp_path: Path, frames: int, at: int) -> Path:
    """Write a log, and flip a bit in the body of one frame."""
    with opened(tmp_path) as (wal, said):
        wal.append([(seq, frame(seq)) for seq in range(1, frames + 1)])
        while said.get(timeout=HANG_S) != FrameSynced(frames):
            pass
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[read_segment(path).frames[at - 1].end - 1] ^= 1
    path.write_bytes(data)
    return path


def test_rotten_frame_under_applied_ones_is_refused(tmp_path: Path) -> None:
    path = rotten(tmp_path, frames=9, at=5)
    before = path.read_bytes()
    for applied in (5, 9):
        with pytest.raises(WalCorruptError) as caught:
            Wal(tmp_path, notify=print, applied_seq=applied)
        offset = read_segment(path).end
        assert str(caught.value) == (
            f"{path}: a frame's checksum is wrong at byte {offset}, "
            f"but the index holds number {applied}"
        )
    assert path.read_bytes() == before


def test_rotten_frame_before_more_than_one_group_is_refused(tmp_path: Path) -> None:
    path = rotten(tmp_path, frames=GROUP_FRAMES_MAX + 5, at=5)
    behind = GROUP_FRAMES_MAX + 5
    with pytest.raises(WalCorruptError, match=f"but frame {behind} stands whole behind it"):
        Wal(tmp_path, notify=print, applied_seq=4)
    assert path.suffix == ".open"


def test_torn_group_is_cut(tmp_path: Path) -> None:
    rotten(tmp_path, frames=GROUP_FRAMES_MAX + 4, at=5)
    with opened(tmp_path, applied_seq=4) as (wal, said):
        assert wal.recovered.next_seq == 5
        write(wal, said, 5, 6)
    assert bodies(tmp_path) == written(1, 6)


def test_index_ahead_of_the_log_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as (wal, said):
        write(wal, said, 1, 3)
    with pytest.raises(
        WalCorruptError, match=r"data ends at byte \d+, but the index holds number 4"
    ):
        Wal(tmp_path, notify=print, applied_seq=4)
    empty = tmp_path / "empty"
    with pytest.raises(WalCorruptError, match="the log ends at 0, but the index holds number 1"):
        Wal(empty, notify=print, applied_seq=1)


@pytest.mark.parametrize("data", [b"", b"WORMSEG1", bytes(64), bytes(5_000), b"x" * 64])
def test_segment_that_was_never_born_is_removed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "seg-0000000000000001.open").write_bytes(data)
    with opened(tmp_path) as (wal, said):
        assert wal.recovered.next_seq == 1
        write(wal, said, 1, 2)
    assert bodies(tmp_path) == written(1, 2)


def test_unborn_segment_after_a_closed_one_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as (wal, said):
        write(wal, said, 1, 3)
        wal._rotate(4)
    (tmp_path / "seg-0000000000000004.open").write_bytes(bytes(100))
    with opened(tmp_path) as (wal, said):
        assert (wal.recovered.next_seq, wal.recovered.last_hlc) == (4, 3 << 16)
        write(wal, said, 4, 4)
    assert bodies(tmp_path) == written(1, 4)


@pytest.mark.parametrize("applied", [0, 3])
def test_rotten_header_over_frames_is_refused(tmp_path: Path, applied: int) -> None:
    with opened(tmp_path) as (wal, said):
        write(wal, said, 1, 3)
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(WalCorruptError, match="header's checksum is wrong at byte 60"):
        Wal(tmp_path, notify=print, applied_seq=applied)
    assert path.read_bytes() == data


def closed_log(folder: Path) -> list[Path]:
    """Write several closed segments and an open one."""
    with opened(folder, segment_bytes=2_000) as (wal, said):
        write(wal, said, 1, 40)
    return segment_paths(folder)


def test_every_byte_of_a_closed_segment_is_guarded(tmp_path: Path) -> None:
    path = closed_log(tmp_path)[1]
    whole = path.read_bytes()
    path.chmod(0o600)
    for offset in range(len(whole)):
        data = bytearray(whole)
        data[offset] ^= 1 << offset % 8
        path.write_bytes(data)
        with pytest.raises(WalCorruptError, match=r"byte \d+") as caught:
            Wal(tmp_path, notify=print)
        assert caught.value.path == path
        assert path.read_bytes() == data, "a closed segment is never cut"


@pytest.mark.parametrize("size", [0, 10, HEADER_BYTES + FOOTER_BYTES - 1, 500, -1])
def test_short_closed_segment_is_refused(tmp_path: Path, size: int) -> None:
    path = closed_log(tmp_path)[0]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WalCorruptError) as caught:
        Wal(tmp_path, notify=print)
    assert caught.value.path == path


def test_segment_of_another_log_is_refused(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    paths = closed_log(ours)
    with opened(theirs, segment_bytes=2_000, now_ms=lambda: 1) as (wal, said):
        write(wal, said, 1, 40)
    stolen = theirs / paths[1].name
    os.replace(stolen, paths[1])
    with pytest.raises(WalCorruptError, match="names another predecessor at byte 16") as caught:
        Wal(ours, notify=print)
    assert caught.value.path == paths[1]


def test_open_segment_of_another_log_is_refused(tmp_path: Path) -> None:
    last = closed_log(tmp_path)[-1]
    header = Header(int(last.stem[4:]), bytes(32), 0, 1).to_bytes()
    last.write_bytes(header + last.read_bytes()[HEADER_BYTES:])
    with pytest.raises(WalCorruptError, match="names another predecessor at byte 16") as caught:
        Wal(tmp_path, notify=print)
    assert caught.value.path == last


def test_missing_segment_is_refused(tmp_path: Path) -> None:
    paths = closed_log(tmp_path)
    paths[1].unlink()
    with pytest.raises(WalCorruptError) as caught:
        Wal(tmp_path, notify=print)
    assert caught.value.path == paths[2]


def test_open_segment_before_later_ones_is_refused(tmp_path: Path) -> None:
    paths = closed_log(tmp_path)
    paths[1].rename(paths[1].with_suffix(".open"))
    with pytest.raises(WalCorruptError, match="an open segment stands before later ones"):
        Wal(tmp_path, notify=print)


def test_reader_names_the_fault_it_comes_to(tmp_path: Path) -> None:
    path = rotten(tmp_path, frames=3, at=2)
    seen: list[int] = []
    with pytest.raises(WalCorruptError, match="checksum is wrong") as caught:
        seen.extend(frame.seq for _, frame in read_frames(tmp_path))
    assert (seen, caught.value.path) == ([1], path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(WalCorruptError, match="not a segment"):
        list(read_frames(tmp_path))


# --- faults while running ------------------------------------------------------------------


def test_full_disk_loses_what_was_handed_over_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_module, "RETRY_SPACE_S", 0.01)
    files = GatedFiles()
    with opened(tmp_path, files=files) as (wal, said):
        write(wal, said, 1, 2)
        files.errors["pwrite"] = errno.ENOSPC
        wal.append([(3, frame(3)), (4, frame(4))])
        assert said.get(timeout=HANG_S) == FramesLost(3)
        wal.append([(5, frame(5))])  # handed over before the loss was known
        del files.errors["pwrite"]
        assert said.get(timeout=HANG_S) == SpaceReturned()
        wal.append([(3, frame(3))])
        assert said.get(timeout=HANG_S) == FrameSynced(3)
        write(wal, said, 4, 5)
    assert bodies(tmp_path) == written(1, 5)


def test_stop_does_not_wait_for_space(tmp_path: Path) -> None:
    files = GatedFiles()
    with opened(tmp_path, files=files) as (wal, said):
        files.errors["pwrite"] = errno.EDQUOT
        wal.append([(1, frame(1))])
        assert said.get(timeout=HANG_S) == FramesLost(1)
    assert said.empty()
    assert bodies(tmp_path) == []


@pytest.mark.parametrize(
    ("call", "error"),
    [("fdatasync", errno.EIO), ("fdatasync", errno.ENOSPC), ("pwrite", errno.EIO),
     ("pwrite", errno.EROFS)],
)  # fmt: skip
def test_failure_is_final(tmp_path: Path, call: str, error: int) -> None:
    files = GatedFiles()
    with opened(tmp_path, files=files) as (wal, said):
        write(wal, said, 1, 2)
        files.errors[call] = error
        wal.append([(3, frame(3))])
        failed = said.get(timeout=HANG_S)
        assert isinstance(failed, WalFailed)
        assert os.strerror(error) in failed.reason
        del files.errors[call]
        wal.append([(4, frame(4))])
    assert said.empty(), "nothing is ever said to be durable after a failure"


def test_failure_while_waiting_for_space_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_module, "RETRY_SPACE_S", 0.01)
    files = GatedFiles()
    with opened(tmp_path, files=files) as (wal, said):
        files.errors["pwrite"] = errno.ENOSPC
        wal.append([(1, frame(1))])
        assert said.get(timeout=HANG_S) == FramesLost(1)
        files.errors["pwrite"] = errno.EIO
        assert isinstance(said.get(timeout=HANG_S), WalFailed)
        files.errors.clear()
        wal.append([(1, frame(1))])
    assert said.empty()


def test_space_is_zero_filled_ahead_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_module, "FILL_STEP_BYTES", 8_192)
    monkeypatch.setattr(wal_module, "FILL_CHUNK_BYTES", 1_024)
    with opened(tmp_path) as (wal, said):
        path = segment(tmp_path)
        for seq in range(1, 60):
            write(wal, said, seq, seq, size=500)
            assert path.stat().st_size >= seq * 500
        wait_until(lambda: path.stat().st_size >= 59 * 500 + 8_192)
        found = read_segment(path)
        assert path.read_bytes()[found.end :].strip(b"\0") == b""
    assert bodies(tmp_path) == written(1, 59, 500)


def test_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
    files = SystemFiles()
    fd = files.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    files.pwrite(fd, b"0123456789" * 10, 3)
    files.close(fd)
    assert (tmp_path / "file").read_bytes() == bytes(3) + b"0123456789" * 10


def test_frame_is_whole_in_the_file(tmp_path: Path) -> None:
    with opened(tmp_path) as (wal, said):
        write(wal, said, 1, 1)
    data = segment(tmp_path).read_bytes()
    assert data[HEADER_BYTES:][: len(frame(1))] == frame(1)
    assert read_frame(data, HEADER_BYTES).seq == 1
