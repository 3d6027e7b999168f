"""Mirrors, fences and watermarks on a disk that fails or stops at any call and forgets."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_files import DiskFiles, PowerCutError

from fractal_lba.merkle import MerkleRoot
from fractal_lba_server.core.receiver import Held
from fractal_lba_server.core.replication import NOTHING, Mark
from fractal_lba_server.core.segment import (
    HEADER_BYTES,
    Footer,
    Header,
    SegmentError,
    encode_frame,
    payload_of,
)
from fractal_lba_server.store import wal as wal_module
from fractal_lba_server.store.files import SystemFiles
from fractal_lba_server.store.mirror import (
    Mirror,
    MirrorFailedError,
    header_of,
    read_batch,
    read_fence,
    read_part,
    read_range,
)
from fractal_lba_server.store.wal import GROUP_FRAMES_MAX, WalCorruptError, segment_paths
from fractal_lba_server.store.watermarks import Watermarks, WatermarksError

FRAMES = 5
SEGMENTS = 3
CRASHES_PER_CALL = 3


class Piece(NamedTuple):
    """What one batch adds to a mirror."""

    first: int
    offset: int
    data: bytes
    seal: bool
    mark: Mark


def stream(*, last_open: bool = True) -> list[Piece]:
    """Cut a stream of some segments into batches of one or two frames."""
    pieces: list[Piece] = []
    prev, seq = bytes(32), 0
    for number in range(SEGMENTS):
        first, root = seq + 1, MerkleRoot()
        whole = Header(first, prev, 0, 1 + number).to_bytes()
        start = 0
        for index in range(FRAMES):
            seq += 1
            frame = encode_frame(seq, seq << 16, b"{}", random.Random(seq).randbytes(300))
            root.add(payload_of(frame))
            whole += frame
            if index % 2 == 0:
                mark = Mark(first, len(whole), seq, sealed=False)
                pieces.append(Piece(first, start, whole[start:], False, mark))
                start = len(whole)
        if last_open and number == SEGMENTS - 1:
            break
        whole += Footer(FRAMES, root.digest(), bytes(32)).to_bytes()[:-32]
        prev = sha256(whole).digest()
        whole += prev
        mark = Mark(first, len(whole), seq, sealed=True)
        pieces.append(Piece(first, start, whole[start:], True, mark))
    return pieces


PIECES = stream()


def files_of(pieces: list[Piece]) -> dict[int, bytes]:
    """Give the segments that these batches make."""
    files: dict[int, bytes] = {}
    for piece in pieces:
        files[piece.first] = files.get(piece.first, b"") + piece.data
    return files


def kept(folder: Path) -> dict[int, bytes]:
    """Give the segments that are there."""
    return {int(path.stem[4:]): path.read_bytes() for path in segment_paths(folder)}


def put(mirror: Mirror, pieces: list[Piece]) -> None:
    """Append batches."""
    for piece in pieces:
        mirror.append(piece.first, piece.offset, piece.data, seal=piece.seal)


def rest(held: Held) -> list[Piece]:
    """Give the batches behind what is held, as its origin would send them."""
    after: list[Piece] = []
    for piece in PIECES:
        if piece.mark.progress <= held.mark.progress:
            continue
        skip = 0
        if piece.first == held.mark.first_seq:
            skip = max(0, held.mark.offset - piece.offset)
        after.append(piece._replace(offset=piece.offset + skip, data=piece.data[skip:]))
    return after


@pytest.fixture
def disk(tmp_path: Path) -> DiskFiles:
    """Give an empty disk."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    return DiskFiles(folder)


def run(files: DiskFiles, kind: type[Mirror] = Mirror) -> Mark:
    """Keep the whole stream; give the last mark that was acknowledged before the power went."""
    acknowledged = NOTHING
    try:
        mirror = kind(files.folder, files=files)
        for piece in PIECES:
            mirror.append(piece.first, piece.offset, piece.data, seal=piece.seal)
            acknowledged = piece.mark
    except PowerCutError:
        pass
    return acknowledged


def judge(files: DiskFiles, acknowledged: Mark, kind: type[Mirror] = Mirror) -> int:
    """Come up again: nothing acknowledged is missing, and the stream goes on to its end."""
    mirror = kind(files.folder, files=files)
    held = mirror.held
    assert held.mark.progress >= acknowledged.progress
    whole = files_of(PIECES)
    for first, data in kept(files.folder).items():
        assert whole[first].startswith(data)
    put(mirror, rest(held))
    assert kept(files.folder) == whole
    mirror.close()
    return held.mark.seq - acknowledged.seq


@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
def test_power_cut_at_every_call_loses_nothing_acknowledged(
    tmp_path: Path, takes_effect: bool
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    files = DiskFiles(plain)
    assert run(files) == PIECES[-1].mark
    calls = list(files.calls)
    assert {"open", "pwrite", "fdatasync", "fsync", "fsync_dir", "ftruncate", "chmod", "rename",
            "close"} <= set(calls)  # fmt: skip
    survived = 0
    for number in range(len(calls)):
        for seed in range(CRASHES_PER_CALL):
            folder = tmp_path / f"{number}-{seed}"
            folder.mkdir()
            files = DiskFiles(folder)
            files.stop_at = (number, takes_effect)
            acknowledged = run(files)
            files.crash(random.Random(f"{number}/{seed}/{takes_effect}"))
            survived += judge(files, acknowledged)
    assert survived > 0, "nothing unsynced ever survived: the disk forgets too much"


def test_power_cut_while_a_mirror_is_taken_up_loses_nothing(tmp_path: Path) -> None:
    chance = random.Random(3)
    tried = 0
    for number in range(8, 40, 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = DiskFiles(folder)
        files.stop_at = (number, True)
        acknowledged = run(files)
        for call in range(12):
            files.crash(chance)
            files.stop_at = (call, chance.random() < 0.5)
            try:
                Mirror(files.folder, files=files).close()
            except PowerCutError:
                tried += 1
            else:
                break
        files.crash(chance)
        judge(files, acknowledged)
    assert tried > 5


class NoDirectorySync(DiskFiles):
    """What the literal design leaves out."""

    def fsync_dir(self, path: Path) -> None:
        return


class NoCut(Mirror):
    """Takes a torn tail for damage."""

    def _recover_open(self, path: Path, held: Held) -> Held:
        data = path.read_bytes()
        found = wal_module.read_segment(path)
        if len(data) != found.end:
            raise WalCorruptError(path, "damaged")
        return super()._recover_open(path, held)


def test_h58_names_tails_and_failed_syncs_are_handled_as_the_log_handles_them(
    tmp_path: Path,
) -> None:
    def lost(disk: type[DiskFiles], mirror: type[Mirror]) -> int:
        """Count the cuts of power after which something is missing or refused."""
        bad = 0
        for number in range(30):
            folder = tmp_path / f"{disk.__name__}-{mirror.__name__}-{number}"
            folder.mkdir()
            files = disk(folder)
            files.stop_at = (number, False)
            acknowledged = run(files, mirror)
            files.crash(random.Random(number))
            try:
                judge(files, acknowledged, mirror)
            except (AssertionError, WalCorruptError):
                bad += 1
        return bad

    assert lost(DiskFiles, Mirror) == 0
    assert lost(NoDirectorySync, Mirror) > 0
    assert lost(DiskFiles, NoCut) > 0


@pytest.mark.parametrize("name", ["fdatasync", "fsync", "fsync_dir", "chmod", "rename"])
def test_failed_sync_ends_a_mirror(disk: DiskFiles, name: str) -> None:
    mirror = Mirror(disk.folder, files=disk)
    put(mirror, PIECES[:2])
    disk.fail_if = lambda called: errno.EIO if called == name else None
    with pytest.raises(MirrorFailedError):
        put(mirror, PIECES[2:4])
    disk.fail_if = lambda called: None
    with pytest.raises(MirrorFailedError, match="a sync failed before"):
        put(mirror, PIECES[2:3])


@pytest.mark.parametrize("name", ["open", "pwrite"])
def test_lack_of_space_is_survived(disk: DiskFiles, name: str) -> None:
    mirror = Mirror(disk.folder, files=disk)
    for piece in PIECES:
        disk.fail_if = lambda called: errno.ENOSPC if called == name else None
        if name == "pwrite" or piece.offset == 0:
            with pytest.raises(OSError, match="No space"):
                put(mirror, [piece])
        disk.fail_if = lambda called: None
        put(mirror, [piece])
    assert kept(disk.folder) == files_of(PIECES)


# --- what a start finds --------------------------------------------------------------------


def filled(folder: Path, pieces: list[Piece] = PIECES) -> Path:
    """Keep a stream, and let it go."""
    mirror = Mirror(folder)
    put(mirror, pieces)
    mirror.close()
    mirror.close()
    return segment_paths(folder)[-1]


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file, whatever its mode."""
    data = change(path.read_bytes())
    path.chmod(0o600)
    path.write_bytes(data)


def test_mirror_says_what_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "peers" / "eu1" / "open"
    assert Mirror(folder).held == Held()
    last = filled(folder)
    held = Mirror(folder).held
    assert held.mark == PIECES[-1].mark
    assert held.sealed == {1: (5, 1), 6: (10, 2)}
    assert (held.region_epoch, held.fenced_epoch) == (3, 0)
    assert held.open_data == last.read_bytes()
    assert oct(segment_paths(folder)[0].stat().st_mode & 0o777) == "0o444"
    found = list(Mirror(folder).frames("eu1", "open", 5))
    assert [(origin.region_epoch, frame.seq) for origin, frame in found] == (
        [(1, 5)] + [(2, seq) for seq in range(6, 11)] + [(3, seq) for seq in range(11, 16)]
    )


def test_torn_tail_is_cut_and_asked_for_again(tmp_path: Path) -> None:
    last = filled(tmp_path)
    whole = last.read_bytes()
    for torn in (whole[:-7], whole + b"\0" * 9, whole + b"torn", whole[:-1] + b"?"):
        spoil(last, lambda data, torn=torn: torn)  # type: ignore[misc]  # a default binds it
        mirror = Mirror(tmp_path)
        put(mirror, rest(mirror.held))
        mirror.close()
        assert last.read_bytes() == whole


def test_segment_without_a_whole_frame_is_begun_again(tmp_path: Path) -> None:
    last = filled(tmp_path)
    for size in (0, 30, HEADER_BYTES, HEADER_BYTES + 20):
        spoil(last, lambda data, size=size: data[:size])  # type: ignore[misc]  # a default binds it
        mirror = Mirror(tmp_path)
        assert mirror.held.mark == Mark(6, mirror.held.mark.offset, 10, sealed=True)
        put(mirror, rest(mirror.held))
        mirror.close()
    assert kept(tmp_path) == files_of(PIECES)


def test_file_that_an_attempt_left_behind_is_replaced(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path)
    (tmp_path / "seg-0000000000000001.open").write_bytes(b"x")
    put(mirror, PIECES)
    mirror.close()
    assert kept(tmp_path) == files_of(PIECES)


def refused(folder: Path, **facts: int) -> str:
    """Take up a mirror that must be refused; give why."""
    with pytest.raises(WalCorruptError) as found:
        Mirror(folder, **facts)
    return str(found.value)


def test_damage_is_refused_and_never_cut(tmp_path: Path) -> None:
    filled(tmp_path)
    first, second, last = segment_paths(tmp_path)
    whole = first.read_bytes()
    spoil(first, lambda data: data[:100] + b"?" + data[101:])
    assert "byte" in refused(tmp_path)
    spoil(first, lambda data: whole)
    spoil(last, lambda data: b"?" + data[1:])
    assert "WORMSEG1" in refused(tmp_path)
    spoil(last, lambda data: Header(11, bytes(32), 0, 3).to_bytes() + data[HEADER_BYTES:])
    assert "another predecessor" in refused(tmp_path)
    last.unlink()
    assert "holds number 11" in refused(tmp_path, applied_seq=11)
    assert Mirror(tmp_path, applied_seq=10).held.mark.seq == 10
    first.unlink()
    assert "starts at 6" in refused(tmp_path)
    second.rename(second.with_suffix(".open"))


def test_open_segment_before_others_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    first = segment_paths(tmp_path)[0]
    spoil(first, lambda data: data[:-80])
    first.rename(first.with_suffix(".open"))
    assert "behind an open segment" in refused(tmp_path)


def test_damage_with_whole_frames_behind_it_is_refused(tmp_path: Path) -> None:
    data = Header(1, bytes(32), 0, 1).to_bytes()
    for seq in range(1, GROUP_FRAMES_MAX + 3):
        data += encode_frame(seq, seq, b"{}", b"b")
    mirror = Mirror(tmp_path)
    mirror.append(1, 0, data, seal=False)
    mirror.close()
    path = segment_paths(tmp_path)[0]
    spoil(path, lambda data: data[:70] + b"?" + data[71:])
    assert "stands whole behind it" in refused(tmp_path)


# --- reading -------------------------------------------------------------------------------


def test_batches_are_cut_at_whole_frames(tmp_path: Path) -> None:
    filled(tmp_path)
    whole = files_of(PIECES)
    path = segment_paths(tmp_path)[0]
    size = len(whole[1])
    at, seq, parts = 0, 0, []
    while at < size:
        body, mark = read_batch(tmp_path, (1, at), size, seq=seq, limit=800)
        parts.append(body)
        at, seq = mark.offset, mark.seq
        assert mark.sealed == (at == size)
    assert b"".join(parts) == whole[1]
    assert len(parts) > 2
    footer, mark = read_batch(tmp_path, (1, size - 80), size, seq=5, limit=800)
    assert (len(footer), mark) == (80, Mark(1, size, 5, sealed=True))
    spoil(path, lambda data: data[:400] + b"?" + data[401:])
    with pytest.raises(SegmentError):
        read_batch(tmp_path, (1, 0), size, seq=0, limit=10_000)
    with pytest.raises(SegmentError):
        read_batch(tmp_path, (99, 0), size, seq=0, limit=10_000)


def test_parts_are_of_what_is_held_and_of_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path)
    whole = files_of(PIECES)
    held = Mirror(tmp_path).held.mark
    assert read_part(tmp_path, held, (1, 0), 10_000) == whole[1]
    assert read_part(tmp_path, held, (11, 0), 10_000) == whole[11]
    less = held._replace(offset=PIECES[-2].mark.offset, seq=PIECES[-2].mark.seq)
    assert read_part(tmp_path, less, (11, 0), 10_000) == whole[11][: less.offset]
    for place in ((11, held.offset), (12, 0), (3, 0), (1, len(whole[1]))):
        assert read_part(tmp_path, held, place, 10_000) == b""
    assert read_range(tmp_path, 3, 0, 10) == b""
    bad = tmp_path / "seg-0000000000000077.wal"
    bad.write_bytes(b"x")
    with pytest.raises(WalCorruptError):
        header_of(bad)


# --- fences and watermarks -----------------------------------------------------------------


def test_fence_is_durable_and_never_goes_down(disk: DiskFiles) -> None:
    mirror = Mirror(disk.folder, files=disk)
    assert read_fence(disk.folder) == 0
    mirror.fence(3)
    mirror.fence(2)
    for number in range(40):
        disk.crash(random.Random(number))
        disk.stop_at = (number, number % 2 == 0)
        fenced = read_fence(disk.folder)
        assert fenced >= 3
        try:
            Mirror(disk.folder, files=disk).fence(number + 10)
        except PowerCutError:
            continue
        disk.crash(random.Random(number))
        assert read_fence(disk.folder) == number + 10
        return
    pytest.fail("the power was cut at every call")


def test_watermarks_are_kept_and_never_move_back(tmp_path: Path) -> None:
    path = tmp_path / "watermarks.json"
    marks = Watermarks(path)
    assert (marks.get("open", "us1"), marks.highest("open")) == (NOTHING, 0)
    marks.flush()
    assert not path.exists()
    marks.set("open", "us1", Mark(1, 500, 4, sealed=False))
    marks.set("open", "us1", Mark(1, 300, 2, sealed=False))
    marks.set("open", "ap1", Mark(1, 400, 3, sealed=False))
    marks.set("eu", "ap1", Mark(1, 400, 9, sealed=True))
    marks.flush()
    again = Watermarks(path)
    assert again.get("open", "us1") == Mark(1, 500, 4, sealed=False)
    assert (again.highest("open"), again.highest("eu")) == (4, 9)


def test_watermarks_that_could_not_be_kept_are_kept_later(disk: DiskFiles) -> None:
    marks = Watermarks(disk.folder / "watermarks.json", files=disk)
    marks.set("open", "us1", Mark(1, 500, 4, sealed=False))
    disk.fail_if = lambda called: errno.ENOSPC if called == "pwrite" else None
    with pytest.raises(OSError, match="No space"):
        marks.flush()
    disk.fail_if = lambda called: None
    marks.flush()
    assert Watermarks(disk.folder / "watermarks.json").highest("open") == 4


@pytest.mark.parametrize("text", ["?", "[]", '{"a":[1,2,3,4]}', '{"a/b":[1,2]}', '{"a/b":7}'])
def test_file_without_watermarks_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "watermarks.json"
    path.write_text(text)
    with pytest.raises(WatermarksError, match="every peer is asked"):
        Watermarks(path)


def test_watermarks_survive_power_cuts(disk: DiskFiles) -> None:
    path = disk.folder / "watermarks.json"
    chance = random.Random(5)
    flushed = 0
    for number in range(200):
        disk.stop_at = (number % 9, chance.random() < 0.5)
        marks = Watermarks(path, files=disk)
        assert marks.get("open", "us1").seq >= flushed
        marks.set("open", "us1", Mark(1, number, number + 1, sealed=False))
        try:
            marks.flush()
        except PowerCutError:
            pass
        else:
            flushed = number + 1
        disk.crash(chance)
    assert flushed > 20
    assert os.path.basename(path) in os.listdir(disk.folder)


def test_mirror_uses_the_real_file_system_unless_told(tmp_path: Path) -> None:
    assert isinstance(Mirror(tmp_path)._files, SystemFiles)
