"""Regions over real sockets, real files and mutual TLS: streams go across, byte for byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from shipping_frames import NOW_MS, REGION_KEYS, frame_bytes, registry, replay
from shipping_region import HANG_S, TestRegion, mirror_of, own_of, regions, same, tls_of

from fractal_lba.estimate import Parameters
from fractal_lba_server.cli_region_keys import keys
from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.replay import ReplayFault, VerifiedFrame
from fractal_lba_server.drill.processes import free_port
from fractal_lba_server.net.peer_client import PeerClient
from fractal_lba_server.outbound import OutBatch, PeerRefusedError
from fractal_lba_server.store.wal import Wal, WalCorruptError, read_segment, segment_paths

KILLS = int(os.environ.get("FLK_SHIPPING_KILLS", "8"))
"""How often each side is killed; the default fits into every run."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority and certificates as an operator would."""
    folder = tmp_path_factory.mktemp("keys")
    for code in ("eu1", "us1", "ap1"):
        made = CliRunner().invoke(keys, ["new", "--region", code, "--out", str(folder)])
        assert made.exit_code == 0, made.output
    return folder


def test_what_is_written_arrives_in_both_directions_byte_for_byte(
    tmp_path: Path, certificates: Path
) -> None:
    with regions(tmp_path, "eu1", "us1", segment_bytes=20_000, tls=certificates) as running:
        eu1, us1 = running["eu1"], running["us1"]
        for _ in range(5):
            last_eu, last_us = eu1.write(20), us1.write(7)
        eu1.wait_acked(last_eu)
        us1.wait_acked(last_us)
        assert (eu1.alarms, us1.alarms) == ([], [])
        assert {seq for region, seq in us1.merged if region == "eu1"} == set(range(1, 101))
        assert eu1.replication.lag("open").records == 0
    assert same(tmp_path / "eu1", tmp_path / "us1", "eu1")
    assert same(tmp_path / "us1", tmp_path / "eu1", "us1")
    assert len(segment_paths(mirror_of(tmp_path / "us1", "eu1"))) > 3


def test_three_regions_count_copies_and_a_late_one_catches_up(tmp_path: Path) -> None:
    ports = {code: free_port() for code in ("eu1", "us1", "ap1")}
    peers = {code: f"http://127.0.0.1:{port}" for code, port in ports.items()}
    known = registry("eu1", "us1", "ap1", peers=peers, copies=3)
    made = {
        code: TestRegion(tmp_path / code, code, known, ports[code], segment_bytes=20_000)
        for code in ("eu1", "us1")
    }
    for one in made.values():
        one.start()
    eu1 = made["eu1"]
    last = eu1.write(60)
    eu1.wait(lambda: ("open", "us1", last, ()) in eu1.acked)
    # Two of three copies are not enough here; whoever is late counts from when he is there.
    assert eu1.replication.watermark("open") == ("eu1", 1, 0)
    assert eu1.replication.lag("open").records == 60
    late = made["ap1"] = TestRegion(tmp_path / "ap1", "ap1", known, ports["ap1"])
    late.start()
    eu1.wait_acked(last)
    assert eu1.replication.watermark("open") == ("eu1", 1, 60)
    lags = {lag.peer: lag for lag in eu1.replication.lags()}
    assert (lags["ap1"].records, lags["us1"].records, lags["us1"].acked_seq) == (0, 0, 60)
    for one in made.values():
        one.stop()
    assert same(tmp_path / "eu1", tmp_path / "ap1", "eu1")


def test_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1") as running:
        eu1 = running["eu1"]
        eu1.wait_acked(eu1.write(30))
    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        assert eu1.next_seq == 31
        assert eu1.replication.peer_seq("open") == 30
        last = eu1.write(10)
        eu1.wait_acked(last)
        # The index of this test keeps nothing: all of the mirror was merged again.
        us1.wait(lambda: len(us1.merged) == last)
        assert (eu1.alarms, us1.alarms) == ([], [])
    assert same(tmp_path / "eu1", tmp_path / "us1", "eu1")


def test_f015_new_region_epoch_begins_a_segment(tmp_path: Path) -> None:
    for epoch in (1, 2):
        with regions(tmp_path, "eu1", "us1", region_epoch=epoch) as running:
            eu1 = running["eu1"]
            eu1.wait_acked(eu1.write(5))
    mirror = mirror_of(tmp_path / "us1", "eu1")
    assert [path.name for path in segment_paths(mirror)] == [
        "seg-0000000000000001.wal",
        "seg-0000000000000006.open",
    ]
    assert same(tmp_path / "eu1", tmp_path / "us1", "eu1")


def test_policy_that_the_peer_lacks_goes_before_its_frames(tmp_path: Path) -> None:
    strict = Policy(Parameters(tol_D=0.0))
    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        us1.replication._replay._policy = us1.policies.get
        eu1.policies[strict.version] = strict
        eu1.wait_acked(eu1.write(2, policy=strict))
        assert us1.policies[strict.version] == strict
        assert (eu1.alarms, us1.alarms) == ([], [])


def test_displaced_frames_are_named_to_their_origin(tmp_path: Path) -> None:
    def odd(frames: Sequence[VerifiedFrame]) -> list[int]:
        return [one.frame.seq for one in frames if one.frame.seq % 2]

    with regions(tmp_path, "eu1", "us1", displaced=odd) as running:
        eu1 = running["eu1"]
        eu1.wait_acked(eu1.write(5))
        eu1.wait(lambda: bool(eu1.acked))
        assert [seq for *_, displaced in eu1.acked for seq in displaced] == [1, 3, 5]


def test_forged_frame_stops_the_stream_with_an_alarm_on_both_sides(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        eu1.write(3)
        eu1.write(1, kid="nobody")
        eu1.write(2)
        eu1.wait(lambda: bool(eu1.alarms) and bool(us1.alarms))
        assert eu1.alarms[0].code == us1.alarms[0].code == "frame_refused"
        assert "kid_unknown" in us1.alarms[0].message
        eu1.wait_acked(3)
        assert max(seq for _, seq in us1.merged) == 3
        assert eu1.replication.watermark("open")[2] == 3


def test_h45_fenced_region_ships_its_tail_once_it_has_stepped_down(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1") as running:
        eu1, us1 = running["eu1"], running["us1"]
        eu1.wait_acked(eu1.write(3))
        us1.replication.fence("eu1", "open", 2)
        last = eu1.write(4)
        eu1.wait(lambda: any(alarm.code == "fenced" for alarm in eu1.alarms))
        assert eu1.replication.watermark("open")[2] == 3
        assert eu1.replication.lags()[0].state == "stopped"
        assert us1.replication.received()[0].fenced_epoch == 2
        eu1.replication.adopt("open", 2)
        eu1.wait_acked(last)
        assert len(us1.merged) == last
    assert same(tmp_path / "eu1", tmp_path / "us1", "eu1")


def test_promotion_reads_what_another_peer_holds(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1", "ap1", segment_bytes=20_000) as running:
        eu1, us1, ap1 = (running[code] for code in ("eu1", "us1", "ap1"))
        ap1.replication.fence("eu1", "open", 2)  # so that it stays behind
        last = eu1.write(50)
        eu1.wait_acked(last)
        before = ap1.replication.holds("eu1", "open")
        assert before is not None
        assert before.mark.seq == 0
        mark = ap1.replication.fetch("us1", "eu1", "open")
        assert mark.seq == last
        assert {seq for _, seq in ap1.merged} == set(range(1, last + 1))
        # Also the stream of the one that is asked.
        us1.write(5)
        assert ap1.replication.fetch("us1", "us1", "open").seq == 5
        assert us1.replication.read("eu1", "open", 99, 0, 100) == b""
    assert same(tmp_path / "eu1", tmp_path / "ap1", "eu1")


def test_region_whose_disk_forgot_what_peers_hold_does_not_start_or_ship(tmp_path: Path) -> None:
    with regions(tmp_path, "eu1", "us1") as running:
        eu1 = running["eu1"]
        eu1.wait_acked(eu1.write(10))
    path = segment_paths(own_of(tmp_path / "eu1"))[0]
    found = read_segment(path)
    path.write_bytes(path.read_bytes()[: found.frames[6].end])
    with pytest.raises(WalCorruptError, match="a peer holds number 10"):
        Wal(own_of(tmp_path / "eu1"), notify=lambda event: None, peer_seq=10)
    # Without what it remembers of its peers it starts, and the peer says what is missing.
    (tmp_path / "eu1" / "peers" / "watermarks.json").unlink()
    with regions(tmp_path, "eu1", "us1") as running:
        eu1 = running["eu1"]
        eu1.wait(lambda: bool(eu1.alarms))
        assert eu1.alarms[0].code == "local_log_lost"


# --- trust ---------------------------------------------------------------------------------


def batch(region: str, **changed: Any) -> OutBatch:
    """Give a batch that anybody could make."""
    body = b"x" * 100
    facts: dict[str, Any] = {
        "placement": "open", "region_epoch": 1, "first_seq": 1, "offset": 0, "body": body,
        "signature": REGION_KEYS[region].sign(b"something"), "end": (1, 100, 1, False),
        "tail_seq": 1,
    }  # fmt: skip
    return OutBatch(**{**facts, **changed})


def fault(call: Callable[[], object]) -> str:
    """Make a call that is refused; give the fault."""
    with pytest.raises(PeerRefusedError) as found:
        call()
    return found.value.fault


@pytest.fixture
def secured(tmp_path: Path, certificates: Path) -> Iterator[TestRegion]:
    """Run one region behind mutual TLS."""
    with regions(tmp_path, "eu1", "us1", tls=certificates) as running:
        yield running["us1"]


def test_certificate_must_name_the_region_whose_stream_is_written(
    secured: TestRegion, certificates: Path, tmp_path: Path
) -> None:
    url = f"https://127.0.0.1:{secured.port}"
    right = PeerClient("eu1", "us1", url, tls_of(certificates, "eu1"))
    assert fault(lambda: right.send(batch("eu1"))) == "signature_invalid"
    # The certificate of ap1, which is no region of this registry; then eu1's for us1's stream.
    stranger = PeerClient("eu1", "us1", url, tls_of(certificates, "ap1"))
    assert fault(lambda: stranger.send(batch("eu1"))) == "forbidden"
    assert fault(lambda: stranger.ask("open", 0)) == "forbidden"
    thief = PeerClient("us1", "us1", url, tls_of(certificates, "eu1"))
    assert fault(lambda: thief.send(batch("us1"))) == "forbidden"
    # A caller that means another region goes away; so does one of another authority.
    lost = PeerClient("eu1", "ap1", url, tls_of(certificates, "eu1"))
    assert fault(lambda: lost.ask("open", 0)) == "forbidden"
    made = CliRunner().invoke(keys, ["new", "--region", "eu1", "--out", str(tmp_path / "other")])
    assert made.exit_code == 0
    foreign = PeerClient("eu1", "us1", url, tls_of(tmp_path / "other", "eu1"))
    assert fault(lambda: foreign.ask("open", 0)) == "unreachable"
    plain = PeerClient("eu1", "us1", f"http://127.0.0.1:{secured.port}", None)
    assert fault(lambda: plain.ask("open", 0)) == "unreachable"
    for client in (right, stranger, thief, lost, foreign, plain):
        client.close()


def test_digest_is_answered_by_whoever_compares(secured: TestRegion, certificates: Path) -> None:
    client = PeerClient(
        "eu1", "us1", f"https://127.0.0.1:{secured.port}", tls_of(certificates, "eu1")
    )
    assert fault(lambda: client.digest({"a": 1})) == "not_found"
    secured.replication.on_digest = lambda region, document, done: done(
        {"from": region, "asked": document}
    )
    assert client.digest({"a": 1}) == {"from": "eu1", "asked": {"a": 1}}
    client.close()


# --- kills ---------------------------------------------------------------------------------


class Process:
    """`shipping_region.py` as a process that can be killed."""

    def __init__(self, folder: Path, region: str, ports: list[int], tls: Path) -> None:
        self.folder = folder / region
        settings = {
            "folder": str(self.folder), "region": region, "codes": ["eu1", "us1"],
            "ports": ports, "tls": str(tls), "segment_bytes": 30_000,
        }  # fmt: skip
        self._file = folder / f"{region}.json"
        self._file.write_text(json.dumps(settings))
        self._errors = folder / f"{region}.log"
        self.promised = 0
        self.start()

    def start(self) -> None:
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        program = Path(__file__).parent / "shipping_region.py"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(program), str(self._file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
                text=True,
            )
        self.ready = self.heard()["ready"]

    def heard(self) -> dict[str, Any]:
        """Read what it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._errors.read_text()[-2_000:]
        found: dict[str, Any] = json.loads(line)
        self.promised = max(self.promised, found.get("acked", 0))
        return found

    def tell(self, text: str) -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(HANG_S) == 0, self._errors.read_text()[-2_000:]
        assert self._process.stdout is not None
        self._process.stdout.close()


def frames_held(mirror: Path) -> int:
    """Count the frames of a mirror that another process may be sealing."""
    while True:
        try:
            return sum(len(read_segment(path).frames) for path in segment_paths(mirror))
        except FileNotFoundError:
            continue


@pytest.mark.crash
def test_kills_of_both_sides_lose_nothing_replicated_and_leave_equal_streams(
    tmp_path: Path, certificates: Path
) -> None:
    chance = random.Random(20260115)
    ports = [free_port(), free_port()]
    pair = [Process(tmp_path, code, ports, certificates) for code in ("eu1", "us1")]
    in_flight = 0
    for number in range(KILLS):
        for one in pair:
            one.tell("40")
        victim, other = pair[number % 2], pair[1 - number % 2]
        other.heard()
        time.sleep(chance.random() * 0.08)
        victim.kill()
        code = victim.folder.name
        held = frames_held(mirror_of(other.folder, code))
        assert held >= victim.promised
        victim.start()
        in_flight += victim.ready - 1 > held
    last = []
    for one in pair:
        one.tell("1")
        last.append(one.heard()["synced"])
    deadline = time.monotonic() + HANG_S
    for one, seq in zip(pair, last, strict=True):
        while one.promised < seq:
            assert time.monotonic() < deadline
            one.tell("?")
            assert one.heard().get("alarms", []) == []
            time.sleep(0.02)
    for one in pair:
        one.stop()
    print(f"{KILLS} kills, {in_flight} with frames in flight, streams of {last} frames")
    assert same(pair[0].folder, pair[1].folder, "eu1")
    assert same(pair[1].folder, pair[0].folder, "us1")


def test_replay_of_the_tests_is_the_real_one() -> None:
    from shipping_frames import ORIGIN

    from fractal_lba_server.core.segment import read_frame

    frame = read_frame(frame_bytes(1, stamp=NOW_MS << 16, kid="nobody"), 0)
    with pytest.raises(ReplayFault, match="kid_unknown"):
        replay().verify(frame, ORIGIN)
