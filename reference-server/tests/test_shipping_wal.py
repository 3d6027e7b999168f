"""What the log tells those who ship it: how far it is durable, and never further."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_files import DiskFiles

from fractal_lba_server.core.replication import SegmentSealed, TailGrown
from fractal_lba_server.core.segment import encode_frame, read_header
from fractal_lba_server.store import wal as wal_module
from fractal_lba_server.store.wal import (
    Wal,
    WalCorruptError,
    read_segment,
    segment_ends,
    segment_paths,
)

SEGMENT_BYTES = 2_000


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill in small steps."""
    monkeypatch.setattr(wal_module, "FILL_STEP_BYTES", 1_024)
    monkeypatch.setattr(wal_module, "FILL_CHUNK_BYTES", 512)


@pytest.fixture
def disk(tmp_path: Path) -> DiskFiles:
    """Give an empty disk."""
    folder = tmp_path / "wal"
    folder.mkdir()
    return DiskFiles(folder)


class Judge:
    """Hears what is said to be durable, and looks at the disk at that moment."""

    def __init__(self, disk: DiskFiles) -> None:
        self.disk = disk
        self.heard: list[TailGrown | SegmentSealed] = []
        self.early = 0

    def hear(self, event: TailGrown | SegmentSealed) -> None:
        self.heard.append(event)
        suffix = ".wal" if isinstance(event, SegmentSealed) else ".open"
        end = event.size if isinstance(event, SegmentSealed) else event.offset
        names = self.disk._synced_names[-1] if len(self.disk._synced_names) == 1 else {}
        inode = names.get(f"seg-{event.first_seq:016d}{suffix}")
        durable = inode is not None and inode.synced[:end] == inode.content[:end]
        self.early += not durable


class SaysWhenWritten(Wal):
    """The literal design: says that the tail has grown when it is written, not when it is synced."""

    def _write(self, batch: list[tuple[int, bytes]]) -> None:
        super()._write(batch)
        assert self._open is not None
        self._on_tail(self._open.tail())


def run(disk: DiskFiles, judge: Judge, kind: type[Wal] = Wal, frames: int = 20) -> Wal:
    """Write frames in this thread."""
    wal = kind(
        disk.folder, notify=lambda event: None, segment_bytes=SEGMENT_BYTES, files=disk,
        now_ms=lambda: 0, on_tail=judge.hear,
    )  # fmt: skip
    wal._threads = []
    wal.start()
    first = wal.recovered.next_seq
    for seq in range(first, first + frames):
        wal.append([(seq, encode_frame(seq, seq << 16, b"{}", b"b" * 300))])
    wal._queue.put(None)
    wal._write_loop()
    return wal


def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each frame be a group of its own."""
    monkeypatch.setattr(wal_module, "GROUP_FRAMES_MAX", 1)


def test_tail_and_end_are_told_when_they_are_durable(
    disk: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_at_a_time(monkeypatch)
    judge = Judge(disk)
    run(disk, judge)
    assert judge.early == 0
    tails = [event for event in judge.heard if isinstance(event, TailGrown)]
    sealed = [event for event in judge.heard if isinstance(event, SegmentSealed)]
    assert [event.seq for event in tails] == list(range(1, 21))
    closed = [path for path in segment_paths(disk.folder) if path.suffix == ".wal"]
    assert [(event.first_seq, event.size) for event in sealed] == [
        (int(path.stem[4:]), path.stat().st_size) for path in closed
    ]
    assert len(sealed) > 2
    last = segment_paths(disk.folder)[-1]
    assert tails[-1].offset == read_segment(last).end


def test_tail_that_is_told_when_written_is_found_early(
    disk: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_at_a_time(monkeypatch)
    judge = Judge(disk)
    run(disk, judge, SaysWhenWritten)
    assert judge.early > 0


def test_what_a_start_takes_up_is_synced_before_anybody_hears_of_it(disk: DiskFiles) -> None:
    wal = run(disk, Judge(disk), frames=3)
    wal.stop()
    # A process that was killed had written more than it had synced; the machine went on.
    path = segment_paths(disk.folder)[-1]
    inode = disk._names[path.name]
    inode.synced = bytes(64)
    again = Wal(disk.folder, notify=lambda event: None, files=disk)
    tail = again.tail()
    assert tail is not None
    assert tail.seq == 3
    assert inode.synced[: tail.offset] == inode.content[: tail.offset]
    again.stop()


def test_tail_that_a_peer_holds_is_never_cut(disk: DiskFiles) -> None:
    run(disk, Judge(disk), frames=3).stop()
    path = segment_paths(disk.folder)[-1]
    second = read_segment(path).frames[1]
    content = disk._names[path.name].content
    content[second.end + 10 :] = b"torn"
    path.write_bytes(content)
    with pytest.raises(WalCorruptError, match="a peer holds number 3"):
        Wal(disk.folder, notify=lambda event: None, files=disk, peer_seq=3, applied_seq=2)
    wal = Wal(disk.folder, notify=lambda event: None, files=disk, peer_seq=2, applied_seq=1)
    assert wal.recovered.next_seq == 3
    wal.stop()
    with pytest.raises(WalCorruptError, match="the index holds number 9"):
        Wal(disk.folder, notify=lambda event: None, files=disk, peer_seq=2, applied_seq=9)


def test_segment_belongs_to_one_region_epoch(disk: DiskFiles) -> None:
    heard: list[TailGrown | SegmentSealed] = []
    for region_epoch, frames in ((1, 2), (2, 0), (3, 2), (3, 1)):
        wal = Wal(
            disk.folder, notify=lambda event: None, files=disk, region_epoch=region_epoch,
            on_tail=heard.append,
        )  # fmt: skip
        wal._threads = []
        wal.start()
        first = wal.recovered.next_seq
        for seq in range(first, first + frames):
            wal.append([(seq, encode_frame(seq, seq, b"{}", b"b"))])
        wal._queue.put(None)
        wal._write_loop()
        wal.stop()
    found = [(path.name, read_header(path.read_bytes()).region_epoch)
             for path in segment_paths(disk.folder)]  # fmt: skip
    assert found == [("seg-0000000000000001.wal", 1), ("seg-0000000000000003.open", 3)]
    assert [type(event).__name__ for event in heard] == [
        "TailGrown", "SegmentSealed", "TailGrown", "TailGrown",
    ]  # fmt: skip
    assert segment_ends(disk.folder) == [
        (disk.folder / "seg-0000000000000001.wal", 2),
        (disk.folder / "seg-0000000000000003.open", 5),
    ]


def test_log_without_a_frame_has_no_tail(disk: DiskFiles) -> None:
    wal = Wal(disk.folder, notify=lambda event: None, files=disk)
    assert wal.tail() is None
    wal._threads = []
    wal.start()
    assert wal.tail() is None
    assert segment_ends(disk.folder) == []
    wal.stop()
