"""What goes wrong inside a region that ships or receives, and what of it others notice."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fault_files import GatedFiles
from shipping_region import TestRegion, described, mirror_of, own_of, regions, same

from fractal_lba_server.core import receiver
from fractal_lba_server.core.replication import BATCH_FRAMES_MAX
from fractal_lba_server.net.peer_client import PeerClient
from fractal_lba_server.outbound import PeerRefusedError
from fractal_lba_server.store import object_transport
from fractal_lba_server.store.wal import segment_paths
from fractal_lba_server.store.watermarks import Watermarks


def test_merge_that_never_answers_delays_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "APPLY_TIMEOUT_S", 0.2)
    silent = [True]
    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        merge = us1._on_frames

        def merge_or_not(*facts: Any) -> None:
            if not silent[0]:
                merge(*facts)

        for one in us1.replication._inbound.values():
            world = one._world
            object.__setattr__(world, "on_frames", merge_or_not)
        last = eu1.write(5)
        inbound = us1.replication._inbound["eu1", "open"]
        eu1.wait(lambda: inbound.held().mark.seq == last)
        # It is durable there, and not acknowledged: what it displaces is not known yet.
        assert eu1.replication.watermark("open")[2] == 0
        silent[0] = False
        eu1.wait_acked(last)
        assert len(us1.merged) == last


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_mirror_that_cannot_be_written_is_no_acknowledgement(tmp_path: Path, error: int) -> None:
    known, ports = described("eu1", "us1")
    files = GatedFiles()
    us1 = TestRegion(tmp_path / "us1", "us1", known, ports["us1"], files=files)
    eu1 = TestRegion(tmp_path / "eu1", "eu1", known, ports["eu1"])
    for one in (us1, eu1):
        one.start()
    eu1.wait_acked(eu1.write(2))
    files.errors["fdatasync" if error == errno.EIO else "pwrite"] = error
    last = eu1.write(3)
    if error == errno.EIO:
        us1.wait(lambda: bool(us1.alarms))
        assert (us1.alarms[0].code, us1.alarms[0].fatal) == ("mirror_failed", True)
    eu1.wait(lambda: eu1.replication.lags()[0].state == "waiting")
    assert eu1.replication.watermark("open")[2] == 2
    files.errors.clear()
    if error == errno.ENOSPC:
        eu1.wait_acked(last)
        assert us1.alarms == []
    for one in (eu1, us1):
        one.stop()


def test_damaged_mirror_is_not_taken_and_stops_nobody_else(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1") as running:
        running["eu1"].wait_acked(running["eu1"].write(3))
    path = segment_paths(mirror_of(tmp_path / "us1", "eu1"))[0]
    data = path.read_bytes()
    path.write_bytes(b"?" + data[1:])
    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        us1.wait(lambda: bool(us1.alarms))
        assert us1.alarms[0].code == "mirror_corrupt"
        us1.wait_acked(us1.write(3))
        eu1.write(1)
        eu1.wait(lambda: eu1.replication.lags()[0].state in {"waiting", "stopped"})
        with pytest.raises(OSError, match="not usable"):
            us1.replication.fence("eu1", "open", 2)
    assert path.read_bytes() == b"?" + data[1:], "and nothing was cut"


def test_stop_does_not_wait_for_a_merge_that_never_comes(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1") as running:
        running["eu1"].wait_acked(running["eu1"].write(3))
    known, ports = described("us1", "eu1")
    silent: Callable[..., None] = lambda origin, frames, done: None  # noqa: E731 - it never answers
    us1 = TestRegion(tmp_path / "us1", "us1", known, ports["us1"], on_frames=silent)
    us1.start()
    client = PeerClient("eu1", "us1", known.regions["us1"].peer, None)
    # What it holds is shown, and nothing is taken before the index has caught up.
    assert client.ask("open", 0).mark.seq == 3
    eu1 = TestRegion(tmp_path / "eu1", "eu1", known, ports["eu1"])
    eu1.start()
    eu1.write(1)
    eu1.wait(lambda: eu1.replication.lags()[0].state == "waiting")
    client.close()
    eu1.stop()
    us1.stop()


def test_object_store_that_fails_or_lacks_a_part_raises_one_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = object_transport.open_store(f"file://{tmp_path}/objects")
    objects = object_transport.Objects(store)
    ways = object_transport.ObjectTransport(store, poll_s=0.05)
    known, ports = described("eu1", "us1")
    eu1 = TestRegion(tmp_path / "eu1", "eu1", known, ports["eu1"], objects=ways)
    eu1.start()
    last = eu1.write(2)

    def has_passed() -> bool:
        manifest = object_transport.read_manifest(objects, "eu1", "open")
        return manifest is not None and manifest.mark.seq == last

    eu1.wait(has_passed)
    eu1.stop()
    name = object_transport.part_name("eu1", "open", 1, 0)
    part = objects.read(name)
    assert part is not None
    (tmp_path / "objects" / name).unlink()

    turns = [0]
    turn = object_transport.ObjectReader.turn

    def counted(self: object_transport.ObjectReader) -> object_transport.Turn:
        turns[0] += 1
        if turns[0] == 1:
            raise PeerRefusedError("unreachable", "once")
        return turn(self)

    monkeypatch.setattr(object_transport.ObjectReader, "turn", counted)
    us1 = TestRegion(tmp_path / "us1", "us1", known, ports["us1"], objects=ways)
    us1.start()
    us1.wait(lambda: turns[0] > 5 and bool(us1.alarms))
    assert [alarm.code for alarm in us1.alarms] == ["gap"]
    objects.create(name, part)
    us1.wait(lambda: len(us1.merged) == last)
    assert len(us1.alarms) == 1
    us1.stop()


def test_watermarks_that_cannot_be_kept_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Watermarks) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Watermarks, "flush", fails)
    with regions(tmp_path, "eu1", "us1") as running:
        eu1 = running["eu1"]
        eu1.wait_acked(eu1.write(3))
        eu1.replication._flush()
        assert eu1.replication.peer_seq("open") == 3
    assert not (tmp_path / "eu1" / "peers" / "watermarks.json").exists()


def test_region_without_peers_is_its_own_only_copy(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", copies=1) as running:
        eu1 = running["eu1"]
        last = eu1.write(3)
        assert eu1.replication.watermark("open") == ("eu1", 1, last)
        assert eu1.replication.lag("open").records == 0
        assert eu1.replication.lags() == []
        held = eu1.replication.holds("eu1", "open")
        assert held is not None
        assert held.mark.seq == last
        assert eu1.replication.holds("eu1", "elsewhere") is None


def test_burst_of_more_frames_than_a_batch_takes_arrives_whole(tmp_path: Path) -> None:
    sizes: list[int] = []

    def count(frames: Sequence[Any]) -> Sequence[int]:
        sizes.append(len(frames))
        return ()

    with regions(tmp_path, "eu1", "us1", displaced=count) as running:
        eu1 = running["eu1"]
        eu1.wait_acked(eu1.write(BATCH_FRAMES_MAX + 300))
    assert max(sizes) <= BATCH_FRAMES_MAX
    assert same(tmp_path / "eu1", tmp_path / "us1", "eu1")
    assert own_of(tmp_path / "eu1").is_dir()
