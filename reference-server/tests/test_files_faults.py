"""The log on a disk that fails or stops at any one call and forgets what was not synced.

The log's writer runs in the test's own thread here, so that "the k-th call" is the same call in
every run. What was said to be synced must be there after any power cut; what is there must have
been written; and the log must come up again from every state that the disk can be in.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_files import DiskFiles, PowerCutError

from fractal_lba_server.core.ingest_events import FramesLost, FrameSynced, SpaceReturned
from fractal_lba_server.core.segment import encode_frame
from fractal_lba_server.store import wal as wal_module
from fractal_lba_server.store.wal import Wal, WalFailed, read_frames

FRAMES = 24
BATCH = 3
FRAME_BYTES = 300
SEGMENT_BYTES = 2_000
"""So small that the frames of one run fill several segments."""

CRASHES_PER_CALL = 4
"""Different states of the disk that are tried for each call the power is cut at."""


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill in small steps, and wait for space without waiting."""
    monkeypatch.setattr(wal_module, "FILL_STEP_BYTES", 1_024)
    monkeypatch.setattr(wal_module, "FILL_CHUNK_BYTES", 512)
    monkeypatch.setattr(wal_module, "RETRY_SPACE_S", 0.0)


def frame(seq: int, attempt: int = 0) -> bytes:
    """Write the frame of a sequence number; another attempt is another record."""
    body = random.Random(f"{seq}/{attempt}").randbytes(FRAME_BYTES)
    return encode_frame(seq, seq << 16, b'{"facts":1}', body)


class Writer:
    """Stands where the ingest machine stands: hands frames over, hears what became of them."""

    def __init__(self, files: DiskFiles, *, applied_seq: int = 0, attempt: int = 0) -> None:
        self._attempt = attempt
        self.synced = 0
        self.lost = 0
        self.failed: str | None = None
        self.wal = Wal(
            files.folder,
            notify=self._take,
            applied_seq=applied_seq,
            segment_bytes=SEGMENT_BYTES,
            files=files,
            now_ms=lambda: 0,
        )
        self.wal._threads = []
        self._next = self.wal.recovered.next_seq
        self._until = 0

    def run(self, frames: int) -> None:
        """Write this many frames, a few at a time, as long as the log works."""
        self._until = self._next + frames
        self.wal.start()
        self._hand_over()
        self.wal._write_loop()

    def _hand_over(self) -> None:
        if self._next >= self._until:
            self.wal._queue.put(None)
            return
        batch = range(self._next, min(self._next + BATCH, self._until))
        self._next = batch.stop
        self.wal.append([(seq, frame(seq, self._attempt)) for seq in batch])

    def _take(self, event: object) -> None:
        if isinstance(event, FrameSynced):
            self.synced = event.seq
            if event.seq == self._next - 1:
                self._hand_over()
        elif isinstance(event, FramesLost):
            self.lost += 1
            # Frames that were handed over before the loss was known must be dropped.
            self.wal.append([(self._next, frame(self._next, attempt=7))])
            self._next = event.seq
        elif isinstance(event, SpaceReturned):
            self._hand_over()
        elif isinstance(event, WalFailed):
            self.failed = event.reason


def content(folder: Path) -> dict[int, bytes]:
    """Read the whole log, whose numbers must follow one another."""
    found = {seen.seq: seen.body for _, seen in read_frames(folder)}
    assert list(found) == list(range(1, len(found) + 1))
    return found


def expect(folder: Path, synced: int, most: int) -> int:
    """Check that all that was synced is there and nothing that was never written."""
    found = content(folder)
    assert synced <= len(found) <= most, (synced, len(found), most)
    for seq, body in found.items():
        assert frame(seq).endswith(body), f"frame {seq} is not what was written"
    return len(found)


@pytest.fixture
def disk(tmp_path: Path) -> DiskFiles:
    """Give an empty disk."""
    folder = tmp_path / "wal"
    folder.mkdir()
    return DiskFiles(folder)


def calls_of_a_run(folder: Path) -> list[str]:
    """List the calls of a run in which nothing fails."""
    folder.mkdir()
    files = DiskFiles(folder)
    writer = Writer(files)
    writer.run(FRAMES)
    assert (writer.synced, writer.failed) == (FRAMES, None)
    return files.calls


def cut_and_recover(files: DiskFiles, chance: random.Random, writer: Writer | None) -> int:
    """Crash, come up, and check; give how many frames are there."""
    synced = writer.synced if writer else 0
    files.crash(chance)
    after = Writer(files, applied_seq=chance.randint(0, synced), attempt=1)
    there = expect(files.folder, synced, FRAMES)
    assert after.wal.recovered.next_seq == there + 1
    after.run(1)
    after.wal.stop()
    # Nothing that was cut off comes back behind the frame that stands in its place now.
    found = content(files.folder)
    assert len(found) == after.synced == there + 1
    assert frame(there + 1, attempt=1).endswith(found[there + 1])
    again = Writer(files, applied_seq=there + 1, attempt=1)
    again.run(BATCH)
    assert len(content(files.folder)) == again.synced == there + 1 + BATCH
    return there


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
def test_power_cut_at_every_call_loses_nothing_synced(tmp_path: Path, takes_effect: bool) -> None:
    calls = calls_of_a_run(tmp_path / "plain")
    assert {"open", "pwrite", "fdatasync", "fsync", "fsync_dir", "ftruncate", "chmod",
            "rename", "close"} <= set(calls)  # fmt: skip
    met = set()
    for number in range(len(calls)):
        for seed in range(CRASHES_PER_CALL):
            folder = tmp_path / f"{number}-{seed}"
            folder.mkdir()
            files = DiskFiles(folder)
            files.stop_at = (number, takes_effect)
            writer = Writer(files)
            with pytest.raises(PowerCutError):
                writer.run(FRAMES)
            chance = random.Random(f"{number}/{seed}/{takes_effect}")
            met.add(cut_and_recover(files, chance, writer) - writer.synced)
    assert max(met) > 0, "no unsynced frame ever survived: the disk forgets too much"
    assert min(met) == 0


def test_power_cut_during_recovery_loses_nothing_synced(tmp_path: Path) -> None:
    chance = random.Random(1)
    tried = 0
    for number in range(0, len(calls_of_a_run(tmp_path / "plain")), 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = DiskFiles(folder)
        files.stop_at = (number, chance.random() < 0.5)
        writer = Writer(files)
        with pytest.raises(PowerCutError):
            writer.run(FRAMES)
        for call in range(40):
            files.crash(chance)
            files.stop_at = (call, chance.random() < 0.5)
            try:
                Writer(files, applied_seq=writer.synced).run(0)
            except PowerCutError:
                tried += 1
            else:
                break
        cut_and_recover(files, chance, writer)
    assert tried > 100


def runs_with_a_fault(
    tmp_path: Path, error: int, names: set[str]
) -> Iterator[tuple[DiskFiles, Writer, str]]:
    """Run once for each call of these names, which fails."""
    for number, name in enumerate(calls_of_a_run(tmp_path / "plain")):
        if name not in names:
            continue
        folder = tmp_path / f"{number}"
        folder.mkdir()
        files = DiskFiles(folder)
        files.fail_at = (number, error)
        writer = Writer(files)
        try:
            writer.run(FRAMES)
        except OSError as found:
            # The very first segment: the server says so and does not start.
            if found.errno != error or writer.synced:
                raise
            writer.failed = str(found)
        yield files, writer, f"{name} {number}"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_at_any_open_or_write_is_survived(tmp_path: Path, error: int) -> None:
    chance = random.Random(2)
    lost = 0
    for files, writer, where in runs_with_a_fault(tmp_path, error, {"open", "pwrite"}):
        if writer.lost:
            lost += 1
            assert (writer.synced, writer.failed) == (FRAMES, None), where
        cut_and_recover(files, chance, writer)
    assert lost > 10


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_failed_sync_of_records_ends_the_log(tmp_path: Path, error: int) -> None:
    chance = random.Random(3)
    ended = 0
    for files, writer, where in runs_with_a_fault(tmp_path, error, {"fdatasync", "fsync"}):
        if error == errno.EIO:
            assert writer.failed is not None, where
        if writer.failed is not None:
            ended += 1
            assert writer.synced < FRAMES
        else:
            assert writer.synced == FRAMES
        cut_and_recover(files, chance, writer)
    assert ended > 10


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_failure_at_the_end_of_a_segment_never_leaves_a_log_that_is_refused(
    tmp_path: Path, error: int
) -> None:
    chance = random.Random(4)
    names = {"ftruncate", "chmod", "rename", "fsync_dir", "close", "fsync"}
    for files, writer, _ in runs_with_a_fault(tmp_path, error, names):
        cut_and_recover(files, chance, writer)


def test_disk_full_for_a_while_takes_frames_again(disk: DiskFiles) -> None:
    full = [True] * 12
    writer = Writer(disk)
    disk.fail_if = lambda name: (
        errno.ENOSPC if name == "pwrite" and len(disk.calls) > 30 and full and full.pop() else None
    )
    writer.run(FRAMES)
    assert (writer.synced, writer.failed, full) == (FRAMES, None, [])
    assert writer.lost >= 1
    assert expect(disk.folder, FRAMES, FRAMES) == FRAMES


@pytest.mark.parametrize("seed", range(8))
def test_sync_that_fails_while_space_is_filled_is_not_kept_from_the_writer(
    disk: DiskFiles, seed: int
) -> None:
    writer = Writer(disk)
    filling: list[str] = []

    def fill_now(name: str) -> int | None:
        if name != "fdatasync" or writer.synced < FRAMES // 2 or filling == ["done"]:
            return None
        if filling:
            return errno.EIO
        segment = writer.wal._open
        if segment is None or segment._filling.locked():
            return None  # not the sync of frames
        # The other thread fills, and its sync meets the frames that the writer has just written.
        filling.append("now")
        with pytest.raises(OSError, match="Input/output error"):
            segment.fill(segment.filled + 1)
        filling[0] = "done"
        return None

    disk.fail_if = fill_now
    writer.run(FRAMES)
    assert filling == ["done"]
    assert writer.failed is not None
    disk.fail_if = lambda name: None
    cut_and_recover(disk, random.Random(seed), writer)


def test_filler_that_comes_too_late_touches_no_other_file(disk: DiskFiles) -> None:
    writer = Writer(disk)
    writer.run(BATCH)
    segment = writer.wal._open
    assert segment is not None
    writer.wal.stop()
    before = list(disk.calls)
    segment.fill(1 << 30)
    assert disk.calls == before
