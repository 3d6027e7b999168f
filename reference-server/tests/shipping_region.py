"""One region that writes a stream, ships it and keeps its peers' streams; also as a process.

There is no ingest machine and no index here: frames are made by number, and merging remembers
what came. `python shipping_region.py FILE` runs one for the tests that kill it: FILE is a JSON
object, commands come as lines on standard input, and what has happened goes to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from shipping_frames import POLICY, REGION_KEYS, frame_bytes, registry, replay

from fractal_lba_server.config import Address
from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.ingest_events import FrameSynced
from fractal_lba_server.core.regions import Registry
from fractal_lba_server.core.replay import VerifiedFrame
from fractal_lba_server.drill.processes import free_port
from fractal_lba_server.inbound import Alarm
from fractal_lba_server.net.peers import PeerListener, PeerTls
from fractal_lba_server.replication import Replication
from fractal_lba_server.store.wal import Wal, read_segment, segment_paths

HANG_S: Final = 60.0
"""A guard against a test that hangs; nothing is concluded from how long anything took."""


def tls_of(folder: Path, region: str) -> PeerTls:
    """Name the certificates that `region keys new` made in a folder."""
    return PeerTls(folder / f"{region}.crt", folder / f"{region}.pem", folder / "ca.crt")


class TestRegion:
    """A region in this process, on an event loop in a thread of its own."""

    __test__ = False

    def __init__(
        self,
        folder: Path,
        region: str,
        known: Registry,
        port: int,
        *,
        tls: PeerTls | None = None,
        region_epoch: int = 1,
        segment_bytes: int = 64 * 1024 * 1024,
        displaced: Callable[[Sequence[VerifiedFrame]], Sequence[int]] = lambda frames: (),
        **options: Any,
    ) -> None:
        self.folder = folder
        self.region = region
        self.port = port
        self._registry = known
        self._tls = tls
        self._displaced = displaced
        self.merged: dict[tuple[str, int], bytes] = {}
        self.acked: list[tuple[str, str, int, Sequence[int]]] = []
        self.alarms: list[Alarm] = []
        self.changed = threading.Condition()
        self.synced: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.policies = {POLICY.version: POLICY}
        folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {
            "registry": known, "region": region, "region_epoch": region_epoch,
            "key": REGION_KEYS[region], "data": folder, "replay": replay(),
            "keep_policy": lambda policy: self.policies.setdefault(policy.version, policy),
            "policy_bytes": self._policy_bytes,
            "on_frames": self._on_frames, "on_peer_acked": self._on_acked,
            "on_alarm": self._on_alarm, "applied": lambda region, placement: 0, "tls": tls,
        }  # fmt: skip
        self.replication = Replication(**{**facts, **options})
        placement = next(iter(known.placements))
        self.placement = placement
        self.replication.follow(placement, folder / "wal" / placement)
        self.wal = Wal(
            folder / "wal" / placement,
            notify=self._on_wal,
            region_epoch=region_epoch,
            segment_bytes=segment_bytes,
            peer_seq=self.replication.peer_seq(placement),
            on_tail=self.replication.on_tail(placement),
        )
        self.next_seq = self.wal.recovered.next_seq
        self._loop = uvloop.new_event_loop()  # as the server has it
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: PeerListener | None = None

    def start(self) -> None:
        """Ship, then write and listen."""
        self._thread.start()
        self.replication.start(self._loop)
        self.wal.start()
        listening = PeerListener.start(
            self.replication.app(), Address("127.0.0.1", self.port), self._tls
        )
        self._listener = self.on_loop(listening)
        self.port = self._listener.address.port

    def on_loop(self, work: Any) -> Any:
        """Run something on the region's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(HANG_S)

    def stop(self) -> None:
        """End everything in order."""
        if self._listener is not None:
            self.on_loop(self._listener.close())
        self.wal.stop()
        self.replication.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def write(self, count: int, **facts: Any) -> int:
        """Write frames and wait until they are durable; give the last number."""
        last = self.next_seq + count - 1
        stamp = facts.pop("stamp", None) or (time.time_ns() // 1_000_000 << 16)
        frames = [
            (seq, frame_bytes(seq, region=self.region, stamp=stamp + seq % 60_000, **facts))
            for seq in range(self.next_seq, last + 1)
        ]
        self.next_seq = last + 1
        self.wal.append(frames)
        while self.synced.get(timeout=HANG_S) != last:
            pass
        return last

    def wait(self, true: Callable[[], bool]) -> None:
        """Wait until something holds."""
        with self.changed:
            deadline = time.monotonic() + HANG_S
            while not true():
                assert time.monotonic() < deadline, (self.alarms, self.replication.lags())
                self.changed.wait(0.05)

    def wait_acked(self, seq: int) -> None:
        """Wait until enough peers hold a frame."""
        self.wait(lambda: self.replication.watermark(self.placement)[2] >= seq)

    # --- what happens

    def _say(self, run: Callable[[], None]) -> None:
        with self.changed:
            run()
            self.changed.notify_all()

    def _on_wal(self, event: object) -> None:
        if isinstance(event, FrameSynced):
            self.synced.put(event.seq)

    def _on_frames(
        self,
        origin: Origin,
        frames: Sequence[VerifiedFrame],
        done: Callable[[Sequence[int]], None],
    ) -> None:
        for one in frames:
            known = self.merged.setdefault((origin.region, one.frame.seq), one.facts.stored.outcome)
            assert known == one.facts.stored.outcome
        done(self._displaced(frames))
        self._say(lambda: None)

    def _on_acked(self, placement: str, peer: str, seq: int, displaced: Sequence[int]) -> None:
        self._say(lambda: self.acked.append((placement, peer, seq, displaced)))

    def _policy_bytes(self, version: str) -> bytes | None:
        policy = self.policies.get(version)
        return None if policy is None else policy.to_bytes()

    def _on_alarm(self, alarm: Alarm) -> None:
        self._say(lambda: self.alarms.append(alarm))


def stream_bytes(folder: Path) -> bytes:
    """Give all bytes of a stream, without the space behind its data."""
    data = b""
    for path in segment_paths(folder):
        found = read_segment(path)
        assert found.fault is None, found.fault
        whole = path.read_bytes()
        data += whole if path.suffix == ".wal" else whole[: found.end]
    return data


def mirror_of(folder: Path, region: str, placement: str = "open") -> Path:
    """Name the mirror of a region's stream in a data directory."""
    return folder / "peers" / region / placement


def own_of(folder: Path, placement: str = "open") -> Path:
    """Name the own stream of a data directory."""
    return folder / "wal" / placement


def same(origin: Path, mirror: Path, region: str) -> bool:
    """Compare a stream with its mirror."""
    return stream_bytes(own_of(origin)) == stream_bytes(mirror_of(mirror, region))


def described(
    *codes: str, copies: int = 2, scheme: str = "http"
) -> tuple[Registry, dict[str, int]]:
    """Give a registry of regions on ports of this machine, and the ports."""
    ports = {code: free_port() for code in codes}
    peers = {code: f"{scheme}://127.0.0.1:{port}" for code, port in ports.items()}
    return registry(*codes, peers=peers, copies=copies), ports


@contextlib.contextmanager
def regions(
    folder: Path, *codes: str, copies: int = 2, tls: Path | None = None, **options: Any
) -> Iterator[dict[str, TestRegion]]:
    """Run regions that ship to one another."""
    scheme = "http" if tls is None else "https"
    known, ports = described(*codes, copies=copies, scheme=scheme)
    running: dict[str, TestRegion] = {}
    try:
        for code in codes:
            pair = None if tls is None else tls_of(tls, code)
            made = TestRegion(folder / code, code, known, ports[code], tls=pair, **options)
            running[code] = made
            made.start()
        yield running
    finally:
        for one in running.values():
            one.stop()


def main() -> None:
    """Run one region until standard input ends; write a burst for each line of it."""
    settings = json.loads(Path(sys.argv[1]).read_bytes())
    codes, ports = settings["codes"], settings["ports"]
    scheme = "https" if settings["tls"] else "http"
    peers = {code: f"{scheme}://127.0.0.1:{port}" for code, port in zip(codes, ports, strict=True)}
    known = registry(*codes, peers=peers)
    region = settings["region"]
    tls = tls_of(Path(settings["tls"]), region) if settings["tls"] else None
    one = TestRegion(
        Path(settings["folder"]), region, known, ports[codes.index(region)], tls=tls,
        segment_bytes=settings["segment_bytes"],
    )  # fmt: skip
    one.start()

    def say(**facts: Any) -> None:
        print(json.dumps(facts), flush=True)

    say(ready=one.next_seq)
    for line in sys.stdin:
        if line.strip().isdigit():
            last = one.write(int(line))
            say(synced=last, acked=one.replication.watermark("open")[2])
        else:
            say(acked=one.replication.watermark("open")[2], alarms=[a.code for a in one.alarms])
    one.stop()


if __name__ == "__main__":
    main()
