"""What is lost, refused or silent between regions: each hazard beside its literal design."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from shipping_frames import NOW_MS, replay
from shipping_region import (
    TestRegion,
    described,
    mirror_of,
    own_of,
    regions,
    same,
    stream_bytes,
)

from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.regions import Registry
from fractal_lba_server.core.segment import encode_frame
from fractal_lba_server.lost_tail import Returned, return_lost_tail
from fractal_lba_server.outbound import PeerRefusedError
from fractal_lba_server.store.mirror import read_fence
from fractal_lba_server.store.ring import RingLog
from fractal_lba_server.store.wal import WalCorruptError, read_segment, segment_paths


def given_back(folder: Path, known: Registry, **facts: Any) -> Returned:
    """Give eu1 back what the others hold of its log."""
    options: dict[str, Any] = {"replay": replay(), "keep_policy": lambda policy: None, **facts}
    return return_lost_tail(
        own_of(folder / "eu1"), registry=known, region="eu1", placement="open", tls=None, **options
    )


def lose(folder: Path, kept: int) -> None:
    """Lose a log from a frame on, in the middle of a segment, with space behind it."""
    for path in segment_paths(folder):
        found, first = read_segment(path), int(path.stem[4:])
        data = path.read_bytes()
        if first > kept or found.frames[-1].seq > kept:
            path.unlink()
        if first <= kept < found.frames[-1].seq:
            data = data[: found.frames[kept - first].end] + bytes(500)
            path.with_suffix(".open").write_bytes(data)


@pytest.mark.parametrize("kept", [0, 7, 25, 30])
def test_lost_log_comes_back_from_a_peer_before_it_is_opened(tmp_path: Path, kept: int) -> None:
    with regions(tmp_path, "eu1", "us1", segment_bytes=12_000) as running:
        eu1 = running["eu1"]
        eu1.wait_acked(eu1.write(30))
    whole = stream_bytes(own_of(tmp_path / "eu1"))
    lose(own_of(tmp_path / "eu1"), kept)
    known, ports = described("us1", "eu1")
    us1 = TestRegion(tmp_path / "us1", "us1", known, ports["us1"])
    us1.start()
    returned = given_back(tmp_path, known)
    assert returned == Returned(kept, 30, None if kept == 30 else "us1", ())
    assert read_fence(own_of(tmp_path / "eu1")) == (0 if kept == 30 else 2), "a new epoch"
    assert stream_bytes(own_of(tmp_path / "eu1")) == whole
    eu1 = TestRegion(tmp_path / "eu1", "eu1", known, ports["eu1"], segment_bytes=12_000)
    eu1.start()
    assert eu1.next_seq == 31
    eu1.wait_acked(eu1.write(5))
    assert (eu1.alarms, us1.alarms) == ([], [])
    for one in (eu1, us1):
        one.stop()
    assert same(tmp_path / "eu1", tmp_path / "us1", "eu1")


def test_lost_log_says_who_could_not_be_asked_and_gets_policies_too(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1") as running:
        eu1 = running["eu1"]
        eu1.wait_acked(eu1.write(5))
    lose(own_of(tmp_path / "eu1"), 0)
    known, ports = described("eu1", "us1", "ap1")
    assert given_back(tmp_path, known) == Returned(0, 0, None, ("us1", "ap1"))
    us1 = TestRegion(tmp_path / "us1", "us1", known, ports["us1"])
    us1.start()
    kept: dict[str, Policy] = {}
    judge = replay()
    judge._policy = kept.get
    at_peer, us1.policies = us1.policies, {}
    with pytest.raises(PeerRefusedError, match="policy_unknown"):
        given_back(tmp_path, known, replay=judge)
    us1.policies = at_peer

    def keep(policy: Policy) -> None:
        kept[policy.version] = policy

    returned = given_back(tmp_path, known, replay=judge, keep_policy=keep)
    assert returned == Returned(0, 5, "us1", ("ap1",))
    lose(own_of(tmp_path / "eu1"), 3)
    path = segment_paths(own_of(tmp_path / "eu1"))[0]
    data = path.read_bytes()
    path.write_bytes(data[:16] + b"?" + data[17:])
    with pytest.raises(WalCorruptError):
        given_back(tmp_path, known)
    us1.stop()


def test_h55_age_of_a_silent_peer_is_measured_by_who_listens(tmp_path: Path) -> None:
    # The literal design shows the lag that the sender reports: a dead sender reports the last
    # value for ever, and one that never lived reports none.
    now = [time.time_ns()]
    with regions(tmp_path, "eu1", "us1", "ap1", now_ns=lambda: now[0] or time.time_ns()) as running:
        now[0] = 0
        eu1, us1 = running["eu1"], running["us1"]
        eu1.wait_acked(eu1.write(3))
        reported = {lag.peer: lag.age_ms for lag in eu1.replication.lags()}["us1"]
        running.pop("eu1").stop()
        now[0] = time.time_ns() + 60_000_000_000

        def ages() -> dict[str, int]:
            return {one.region: one.heard_age_ms for one in us1.replication.received()}

        assert ages()["eu1"] >= 50_000
        assert reported < 50_000
        assert set(ages()) == {"eu1", "ap1"}
        received = {one.region: one for one in us1.replication.received()}["eu1"]
        assert (received.seq, received.claimed_seq) == (3, 3)


def test_h40_replicated_records_survive_the_loss_of_their_region(tmp_path: Path) -> None:
    # The literal design promises what was acknowledged after the local sync alone.
    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        eu1.wait_acked(eu1.write(20))
        gate = threading.Event()
        merge = us1.replication._inbound["eu1", "open"]._world.on_frames
        world = us1.replication._inbound["eu1", "open"]._world

        def slow(*facts: Any) -> None:
            gate.wait(1)
            merge(*facts)

        us1.replication._inbound["eu1", "open"]._world = dataclasses.replace(world, on_frames=slow)
        durable = eu1.write(5)
        replicated = eu1.replication.watermark("open")[2]
        # The region is lost here, as far as anybody else can tell.
        mirror = us1.replication.holds("eu1", "open")
        assert mirror is not None
        assert replicated <= mirror.mark.seq
        assert replicated < durable
        gate.set()


def test_h44_state_of_a_peer_follows_from_its_mirror_alone(tmp_path: Path) -> None:
    # The literal design has two channels, one for the log and one for dedup entries: after a loss
    # on either of them an entry stands without its record, or a record without its entry.
    def evidence(folder: Path) -> set[int]:
        files = segment_paths(mirror_of(folder, "eu1"))
        return {frame.seq for path in files for frame in read_segment(path).frames}

    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        eu1.wait_acked(eu1.write(20))
        second_channel = {seq for _, seq in us1.merged}
        # The channel of the log stands still from here on; the other one would not.
        us1.replication.fence("eu1", "open", 9)
        eu1.write(5)
        second_channel |= set(range(21, 26))
        eu1.wait(lambda: bool(eu1.alarms))
    with regions(tmp_path, "eu1") as running:  # the peer is wiped but for its mirror
        pass
    with regions(tmp_path, "eu1", "us1", region_epoch=1) as running:
        us1 = running["us1"]
        us1.wait(lambda: len(us1.merged) == 20)
        state = {seq for _, seq in us1.merged}
        assert state == evidence(tmp_path / "us1")
        assert second_channel != evidence(tmp_path / "us1")


@pytest.mark.parametrize("hazard", ["h20", "h21"])
def test_h20_h21_refused_bytes_leave_no_region(tmp_path: Path, hazard: str) -> None:
    # The literal design appends bytes before anybody has read them and ships what it appends: a
    # stranger fills the disks of two regions (H20), and what the gate refuses has left (H21).
    refused = b"x" * 5_000 if hazard == "h20" else b'{"name":"a person","born":"1990-01-01"}'

    def shipped(folder: Path, literal: bool) -> bytes:
        with regions(folder, "eu1", "us1") as running:
            eu1 = running["eu1"]
            last = eu1.write(3)
            inbox = RingLog(folder / "eu1" / "inbox", max_bytes=1 << 20)
            inbox.append([refused], received_ns=NOW_MS, sync=True)
            if literal:  # one log for what came and for what was decided
                raw = encode_frame(eu1.next_seq, time.time_ns() // 10**6 << 16, b"{}", refused)
                eu1.wal.append([(eu1.next_seq, raw)])
                eu1.wait(lambda: bool(eu1.alarms) or len(eu1.acked) > 2)
            eu1.wait_acked(last)
            origin = stream_bytes(own_of(folder / "eu1"))
        mirror = stream_bytes(mirror_of(folder / "us1", "eu1"))
        # Even then a peer keeps nothing of it: no signature holds over it.
        assert refused not in mirror
        return origin

    assert refused not in shipped(tmp_path / "ours", literal=False)
    assert refused in shipped(tmp_path / "literal", literal=True)
