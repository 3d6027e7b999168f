"""How far a peer is behind: lag at a steady rate over a slow link, and how fast it catches up.

    python -m bench.shipping [--rate 2000] [--seconds 10] [--one-way-ms 40] [--backlog 30000]

Three processes on one machine, with mutual TLS: the region that writes, a relay that holds every
byte back for a while in each direction, and the region that keeps the mirror, which verifies
every record. Nothing answers requests here: the frames are made beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import multiprocessing
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bench.records import HMAC_KEY, TENANT
from bench.records import record as make_record
from fractal_lba.canonical import canonicalize, parse
from fractal_lba.sign import HmacSigner, sign
from fractal_lba_server.config import Address
from fractal_lba_server.contract import record_shape
from fractal_lba_server.core import hlc
from fractal_lba_server.core.facts import write_facts
from fractal_lba_server.core.ingest_events import FrameSynced
from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.regions import Placement, RegionInfo, Registry
from fractal_lba_server.core.replay import Replay
from fractal_lba_server.core.segment import encode_frame
from fractal_lba_server.core.tenants import Directory, KeyRecord, Tenant
from fractal_lba_server.core.verify import outcome_bytes, verify
from fractal_lba_server.net.peers import PeerListener, PeerTls
from fractal_lba_server.replication import Replication
from fractal_lba_server.store.region_key import RegionKey, new_certificate, now_utc
from fractal_lba_server.store.wal import Wal

CODES = ("eu1", "us1")
SIGNER = HmacSigner(HMAC_KEY, kid="h1")
POLICY = Policy()
GROUP_S = 0.005
"""Frames are handed to the log this often, as they arrive."""


def region_key(code: str) -> RegionKey:
    """Make the key of a region that lives for one run."""
    return RegionKey(hashlib.sha256(code.encode()).digest())


def registry(port: int) -> Registry:
    """Describe both regions; the one that writes reaches the other through `port`."""
    regions = {
        code: RegionInfo(
            code,
            rank,
            f"http://127.0.0.1:{rank + 1}",
            f"https://127.0.0.1:{port}",
            region_key(code).public_key,
        )
        for rank, code in enumerate(CODES)
    }
    return Registry(regions, {"open": Placement("open", CODES, "active-active", 2)})


def make_frame(seq: int) -> bytes:
    """Write the frame of a record as the region that accepts it does."""
    record = sign(make_record(seq), SIGNER, sig_version=2, tenant=TENANT)
    canonical = canonicalize(record.record)
    stamp = (time.time_ns() // 1_000_000 << hlc.COUNTER_BITS) + seq % 60_000
    verdict = verify(parse(record.body), canonical.nanos, POLICY)
    outcome = outcome_bytes(
        verdict, pcs_id=record.pcs_id, policy_version=POLICY.version, region="eu1",
        hlc=hlc.text(stamp),
    )  # fmt: skip
    meta = write_facts(
        content=canonical.content, kid="h1", outcome=outcome, policy_version=POLICY.version,
        sig_v=2, status=verdict.status, tenant=TENANT,
    )  # fmt: skip
    return encode_frame(seq, stamp, meta, record.body)


def replication(
    folder: Path, code: str, port: int, on_acked: Callable[[str, str, int, Sequence[int]], None]
) -> Replication:
    """Put a region's shipping together, without the rest of a server."""
    tenant = Tenant(TENANT, 2, None, None, ("h1",))
    key = KeyRecord("h1", TENANT, "HMAC", HMAC_KEY, "active", None, None)
    directory = Directory(tenants=[tenant], keys=[key])
    folder.mkdir(exist_ok=True)
    keys = folder.parent / "keys"
    return Replication(
        registry=registry(port),
        region=code,
        region_epoch=1,
        key=region_key(code),
        data=folder,
        replay=Replay(
            check=record_shape().check,
            directory=lambda: directory,
            policy={POLICY.version: POLICY}.get,
        ),
        keep_policy=lambda _policy: None,
        policy_bytes=lambda _version: POLICY.to_bytes(),
        on_frames=lambda _origin, _frames, done: done(()),
        on_peer_acked=on_acked,
        on_alarm=lambda alarm: print(f"  alarm {alarm.code}: {alarm.message}"),
        applied=lambda _region, _placement: 0,
        tls=PeerTls(keys / f"{code}.crt", keys / f"{code}.pem", keys / "ca.crt"),
    )


def keep_mirror(folder: Path, ports: Any, stop: Event) -> None:
    """Run the region that keeps the mirror, in a process of its own."""

    async def run() -> None:
        one = replication(folder / "us1", "us1", 1, lambda *_: None)
        one.start(asyncio.get_running_loop())
        keys = folder / "keys"
        tls = PeerTls(keys / "us1.crt", keys / "us1.pem", keys / "ca.crt")
        listener = await PeerListener.start(one.app(), Address("127.0.0.1", 0), tls)
        ports.put(listener.address.port)
        await asyncio.to_thread(stop.wait)
        await listener.close()
        await asyncio.to_thread(one.stop)

    asyncio.run(run())


def relay(target: int, one_way_s: float, ports: Any, stop: Event) -> None:
    """Pass bytes on, each `one_way_s` later, in a process of its own."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def pass_on() -> None:
            while True:
                at, data = await late.get()
                await asyncio.sleep(at - time.monotonic())
                if not data:
                    writer.close()
                    return
                writer.write(data)

        passing = asyncio.create_task(pass_on())
        data = b"begin"
        while data:
            data = await reader.read(1 << 18)
            late.put_nowait((time.monotonic() + one_way_s, data))
        await passing

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        for one in (writer, far_writer):
            sock: socket.socket = one.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):  # the run is over
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def run() -> None:
        server = await asyncio.start_server(meet, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(stop.wait)
        server.close()

    asyncio.run(run())


class Writer:
    """The region that writes: a log, its shipping, and when each frame was durable and acked."""

    def __init__(self, folder: Path, port: int) -> None:
        self.durable_at: list[tuple[int, float]] = []
        self.acked_at: list[tuple[int, float]] = []
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.replication = replication(folder / "eu1", "eu1", port, self._acked)
        self.replication.follow("open", folder / "eu1" / "wal")
        self.wal = Wal(
            folder / "eu1" / "wal",
            notify=self._synced,
            on_tail=self.replication.on_tail("open"),
        )

    def ship(self) -> None:
        """Begin to ship."""
        self.replication.start(self.loop)

    def _synced(self, event: object) -> None:
        if isinstance(event, FrameSynced):
            self.durable_at.append((event.seq, time.monotonic()))

    def _acked(self, *facts: Any) -> None:
        self.acked_at.append((facts[2], time.monotonic()))

    def wait(self, seq: int) -> None:
        """Wait until the peer has acknowledged a frame."""
        while not self.acked_at or self.acked_at[-1][0] < seq:
            time.sleep(0.002)

    def lags_ms(self) -> list[float]:
        """Give, for each frame, how long after it was durable here the peer had acknowledged it."""
        lags, acked = [], iter(self.acked_at)
        seq, at = next(acked)
        last = 0
        for until, durable in self.durable_at:
            for number in range(last + 1, until + 1):
                while seq < number:
                    seq, at = next(acked)
                lags.append((at - durable) * 1e3)
            last = until
        return sorted(lags)

    def stop(self) -> None:
        """End everything."""
        self.wal.stop()
        self.replication.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def steady(writer: Writer, frames: list[tuple[int, bytes]], rate: int) -> None:
    """Write at a steady rate, and print how far behind the peer was."""
    writer.ship()
    writer.wal.start()
    writer.wal.append(frames[:1])
    writer.wait(1)  # the connection stands
    frames = frames[1:]
    group = max(1, int(rate * GROUP_S))
    begin = time.monotonic()
    for start in range(0, len(frames), group):
        time.sleep(max(0.0, begin + start / rate - time.monotonic()))
        writer.wal.append(frames[start : start + group])
    took_s = time.monotonic() - begin
    writer.wait(frames[-1][0])
    lags = writer.lags_ms()
    p50, p99 = (lags[int(len(lags) * share)] for share in (0.50, 0.99))
    print(
        f"  {len(frames)} records at {len(frames) / took_s:,.0f}/s: "
        f"lag p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {lags[-1]:.0f} ms, "
        f"{len(writer.acked_at)} batches"
    )


def catch_up(writer: Writer, frames: list[tuple[int, bytes]]) -> None:
    """Write first, ship afterwards, and print how fast."""
    size = sum(len(frame) for _, frame in frames)
    writer.wal.start()
    writer.wal.append(frames)
    while not writer.durable_at or writer.durable_at[-1][0] < frames[-1][0]:
        time.sleep(0.01)
    begin = time.monotonic()
    writer.ship()
    writer.wait(frames[-1][0])
    took_s = time.monotonic() - begin
    print(
        f"  catch-up of {len(frames)} records, {size / 1e6:.1f} MB: {took_s:.2f} s, "
        f"{size / took_s / 1e6:.1f} MB/s, {len(frames) / took_s:,.0f} records/s"
    )


def run(one_way_ms: float, work: Callable[[Writer], None]) -> None:
    """Run the processes around one measurement."""
    folder = Path(tempfile.mkdtemp(prefix="flk-bench-shipping-", dir=".")).absolute()
    (folder / "keys").mkdir()
    for code in CODES:
        new_certificate(code, folder / "keys", hosts=(), now=now_utc())
    context = multiprocessing.get_context("spawn")
    ports, stop = context.Queue(), context.Event()
    helpers = [context.Process(target=keep_mirror, args=(folder, ports, stop))]
    try:
        helpers[0].start()
        port = ports.get(timeout=60)
        if one_way_ms:
            helpers.append(
                context.Process(target=relay, args=(port, one_way_ms / 1e3, ports, stop))
            )
            helpers[1].start()
            port = ports.get(timeout=60)
        writer = Writer(folder, port)
        work(writer)
        writer.stop()
    finally:
        stop.set()
        for helper in helpers:
            helper.join(10)
        shutil.rmtree(folder)


def main() -> None:
    """Measure lag and catch-up."""
    parser = argparse.ArgumentParser(prog="python -m bench.shipping", description=__doc__)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--one-way-ms", type=float, default=40.0)
    parser.add_argument("--backlog", type=int, default=30_000)
    args = parser.parse_args()
    count = max(int(args.rate * args.seconds), args.backlog)
    frames = [(seq, make_frame(seq)) for seq in range(1, count + 1)]
    for one_way_ms in (args.one_way_ms, 0.0):
        print(f"round trip {2 * one_way_ms:.0f} ms")
        run(one_way_ms, lambda one: steady(one, frames[: int(args.rate * args.seconds)], args.rate))
        run(one_way_ms, lambda one: catch_up(one, frames[: args.backlog]))


if __name__ == "__main__":
    main()
