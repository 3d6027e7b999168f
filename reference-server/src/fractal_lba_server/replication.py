"""Ships our streams to the peers of their placements, and takes theirs.

One `Outbound` per placement and peer carries our log away in a thread of its own; one `Inbound`
per placement and peer keeps a mirror. What they decide is in `core/replication.py` and
`core/receiver.py`. Nothing here is on the way of a request: the log says how far it is durable,
and everything else follows.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from .core.faults import DocumentError
from .core.governor import Lag, LagClock
from .core.hlc import MAX_SKEW_MS
from .core.policy import Policy
from .core.regions import Registry
from .core.replay import Replay
from .core.replication import (
    BATCH_BYTES,
    NOTHING,
    EpochAdopted,
    Mark,
    RaiseAlarm,
    SegmentSealed,
    Shipper,
    TailGrown,
    batch_message,
)
from .inbound import (
    Alarm,
    Answer,
    Batch,
    Inbound,
    LoopCalls,
    ObjectWays,
    OnFrames,
    Surroundings,
    logged,
)
from .net.peer_client import PeerClient
from .net.peers import HeldStream, PeerApp, PeerTls
from .outbound import Listeners, Outbound, Route, Transport
from .shipped_stream import ShippedStream
from .store.files import Files
from .store.mirror import read_part
from .store.region_key import RegionKey
from .store.watermarks import Watermarks

WORKERS: Final = 4
"""Threads that check, keep and read what peers send and ask for."""

FLUSH_S: Final = 1.0
"""How often what peers have acknowledged is made durable, if it has changed."""

OBJECTS: Final = "objects"
"""Stands for the object store where a peer is named; no region has a code so long."""

log = logging.getLogger("fractal_lba_server.replication")


class PeerLag(NamedTuple):
    """How far one peer is behind one of our streams."""

    placement: str
    peer: str
    age_ms: int
    records: int
    bytes: int
    acked_seq: int
    state: str
    reason: str | None


class Received(NamedTuple):
    """What is held here of a peer's stream, and how long ago its region was heard."""

    region: str
    placement: str
    region_epoch: int
    seq: int
    claimed_seq: int
    heard_age_ms: int
    fenced_epoch: int


class Replication:
    """Owns the streams between this region and its peers.

    `follow` for each own stream, `start` before the log starts, `stop` in a thread of its own.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        region: str,
        region_epoch: int,
        key: RegionKey,
        data: Path,
        replay: Replay,
        keep_policy: Callable[[Policy], None],
        policy_bytes: Callable[[str], bytes | None],
        on_frames: OnFrames,
        on_peer_acked: Callable[[str, str, int, Sequence[int]], None],
        on_alarm: Callable[[Alarm], None],
        applied: Callable[[str, str], int],
        tls: PeerTls | None = None,
        batch_bytes: int = BATCH_BYTES,
        max_skew_ms: int = MAX_SKEW_MS,
        now_ns: Callable[[], int] = time.time_ns,
        files: Files | None = None,
        objects: ObjectWays | None = None,
    ) -> None:
        self.on_role: Callable[[str | None, dict[str, Any]], dict[str, Any]] | None = None
        self.on_digest: (
            Callable[[str, dict[str, Any], Callable[[dict[str, Any]], None]], None] | None
        ) = None
        self._registry = registry
        self._region = region
        self._region_epoch = region_epoch
        self._epochs: dict[str, int] = {}
        self._key = key
        self._data = data
        self._replay = replay
        self._keep_policy = keep_policy
        self._policy_bytes = policy_bytes
        self._on_frames = on_frames
        self._on_peer_acked = on_peer_acked
        self._on_alarm = on_alarm
        self._applied = applied
        self._tls = tls
        self._batch_bytes = batch_bytes
        self._max_skew_ms = max_skew_ms
        self._now_ns = now_ns
        self._files = files
        self._objects = objects
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._own: dict[str, ShippedStream] = {}
        self._inbound: dict[tuple[str, str], Inbound] = {}
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="peers")
        (data / "peers").mkdir(mode=0o700, exist_ok=True)
        self._watermarks = Watermarks(data / "peers" / "watermarks.json")
        self._threads: list[threading.Thread] = []
        self._loop: LoopCalls

    # --- before the start

    def follow(self, placement: str, directory: Path) -> None:
        """Ship this stream of ours to the other regions of its placement."""
        needed = self._registry.placements[placement].copies - 1
        self._own[placement] = ShippedStream(placement, directory, needed)

    def on_tail(self, placement: str) -> Callable[[TailGrown | SegmentSealed], None]:
        """Give the function that a log calls with what has become durable."""
        return partial(self._grew, self._own[placement])

    def peer_seq(self, placement: str) -> int:
        """Give the highest number that any peer is known to have acknowledged."""
        return self._watermarks.highest(placement)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ship what is there, and take up the mirrors; raises OSError and WalCorruptError."""
        self._loop = LoopCalls(loop)
        for own in self._own.values():
            for peer in self._registry.peers(own.placement, self._region):
                own.outbound[peer] = self._outbound(own, peer)
                own.clocks[peer] = LagClock()
                own.clocks[peer].held(own.outbound[peer].core.acked.seq)
            own.clock.held(own.replicated_seq())
            if self._objects is not None:
                own.copies.append(self._copy(own, self._objects))
            for event, at_ns in own.backlog(self._now_ns()):
                self._grew(own, event, at_ns)
            for way in own.ways():  # an empty stream asks as well: that is its heartbeat
                way.feed(EpochAdopted(self.epoch(own.placement)))
        world = Surroundings(
            self._loop, self._workers, self._replay, self._on_frames, self._on_alarm,
            self._now_ns, self._max_skew_ms, self._files,
        )  # fmt: skip
        for placement in self._registry.held_by(self._region):
            for peer in self._registry.peers(placement.name, self._region):
                folder = self._data / "peers" / peer / placement.name
                key = self._registry.regions[peer].public_key
                inbound = Inbound(peer, placement.name, folder, key, world)
                inbound.open(self._applied(peer, placement.name))
                self._inbound[peer, placement.name] = inbound
        self._threads = [
            threading.Thread(target=self._catch_up, name="mirrors", daemon=True),
            threading.Thread(target=self._flush_loop, name="watermarks", daemon=True),
        ]
        if self._objects is not None:
            watch = partial(
                self._objects.watch, self._inbound, self.keep_policy, self._troubled, self._stopping
            )
            self._threads.append(threading.Thread(target=watch, name="objects", daemon=True))
        for thread in self._threads:
            thread.start()
        for own in self._own.values():
            for outbound in own.ways():
                outbound.start()

    def stop(self) -> None:
        """End every thread and let go of the files; blocks."""
        self._stopping.set()
        for own in self._own.values():
            for outbound in own.ways():
                outbound.stop()
        for thread in self._threads:
            thread.join()
        self._workers.shutdown(wait=True)
        for inbound in self._inbound.values():
            inbound.close()
        self._flush()

    def app(self) -> PeerApp:
        """Give the application of the listener for peers."""
        return PeerApp(self, self._registry, me=self._region)

    # --- what is asked of it

    def watermark(self, placement: str) -> tuple[str, int, int]:
        """Give the position up to which every frame is replicated."""
        return (self._region, self.epoch(placement), self._own[placement].replicated_seq())

    def epoch(self, placement: str) -> int:
        """Give the region epoch under which we send our stream of a placement."""
        return self._epochs.get(placement, self._region_epoch)

    def lag(self, placement: str) -> Lag:
        """Say how far the replicated part of our stream is behind its durable part."""
        own = self._own[placement]
        with self._lock:
            own.clock.held(own.replicated_seq())
            return own.clock.lag(self._now_ns())

    def lags(self) -> list[PeerLag]:
        """Say how far each peer is behind each of our streams."""
        found = []
        with self._lock:
            for own in self._own.values():
                for peer, outbound in own.outbound.items():
                    lag = own.clocks[peer].lag(self._now_ns())
                    core = outbound.core
                    found.append(
                        PeerLag(own.placement, peer, *lag, core.acked.seq, core.state, core.stopped)
                    )
        return found

    def received(self) -> list[Received]:
        """Say what is held of each peer's streams, and how long each has been silent."""
        found = []
        for inbound in self._inbound.values():
            held = inbound.held()
            age_ms = (self._now_ns() - inbound.heard_ns) // 1_000_000
            found.append(
                Received(
                    inbound.region,
                    inbound.placement,
                    held.header_epoch,
                    held.mark.seq,
                    max(inbound.claimed_seq, held.mark.seq),
                    age_ms,
                    held.fenced_epoch,
                )
            )
        return found

    def fence(self, region: str, placement: str, region_epoch: int) -> None:
        """Take nothing of a sender below this region epoch; durable on return; blocks."""
        self._inbound[region, placement].fence(region_epoch)

    def adopt(self, placement: str, region_epoch: int) -> None:
        """Ship a stream under a higher region epoch, which is durable; if fenced, it goes on."""
        self._epochs[placement] = max(self.epoch(placement), region_epoch)
        own = self._own.get(placement)
        for outbound in own.ways() if own is not None else ():
            outbound.feed(EpochAdopted(region_epoch))

    async def digest(self, peer: str, document: dict[str, Any]) -> dict[str, Any]:
        """Ask a peer to compare digests; raises PeerRefusedError."""

        def run() -> dict[str, Any]:
            client = self._client(peer)
            try:
                return client.digest(document)
            finally:
                client.close()

        return await asyncio.get_running_loop().run_in_executor(self._workers, run)

    def fetch(self, peer: str, region: str, placement: str) -> Mark:
        """Bring our mirror of a region's stream up to what a peer holds of it; blocks.

        This is how a promotion reads what others hold of a lost region. Raises PeerRefusedError.
        """
        client = self._client(peer)
        try:
            inbound = self._inbound[region, placement]
            key = self._registry.regions[peer].public_key
            return inbound.fetch(client.read, key, partial(self._get_policy, client))
        finally:
            client.close()

    # --- what the listener needs (net/peers.py)

    def work(self, run: Callable[[], None]) -> None:
        """Run in a worker thread."""
        if not self._stopping.is_set():
            self._workers.submit(logged, run)

    def soon(self, call: Callable[[], None]) -> None:
        """Call on the event loop."""
        self._loop.soon(call)

    def receive(
        self, region: str, placement: str, batch: Batch, answer: Callable[[Answer], None]
    ) -> None:
        """Take a batch, in a worker thread."""
        self._inbound[region, placement].receive(batch, answer)

    def heard(self, region: str, placement: str, claimed_seq: int) -> None:
        """Take note that a region has spoken."""
        self._inbound[region, placement].heard(claimed_seq)

    def holds(self, region: str, placement: str) -> HeldStream | None:
        """Say what is held of a stream here."""
        if region == self._region:
            own = self._own.get(placement)
            if own is None:
                return None
            return HeldStream(own.mark, own.prev_sha256(), own.header_epoch, 0)
        inbound = self._inbound.get((region, placement))
        return None if inbound is None else HeldStream(*inbound.held())

    def read(self, region: str, placement: str, first_seq: int, offset: int, size: int) -> bytes:
        """Give durable bytes of a segment."""
        inbound = self._inbound.get((region, placement))
        if inbound is not None:
            return inbound.read(first_seq, offset, size)
        own = self._own.get(placement) if region == self._region else None
        return b"" if own is None else read_part(own.directory, own.mark, (first_seq, offset), size)

    def sign_read(
        self, region: str, placement: str, first_seq: int, offset: int, body: bytes
    ) -> tuple[int, bytes]:
        """Sign bytes that are read here, as the one who holds them."""
        region_epoch = held.header_epoch if (held := self.holds(region, placement)) else 0
        message = batch_message(region, placement, region_epoch, first_seq, offset, body)
        return region_epoch, self._key.sign(message)

    def policy(self, version: str) -> bytes | None:
        """Give a policy that is kept here, for a peer that has lost it."""
        return self._policy_bytes(version)

    def _get_policy(self, client: PeerClient, version: str) -> bool:
        document = client.policy(version)
        return document is not None and self.keep_policy(version, document)

    def keep_policy(self, version: str, document: bytes) -> bool:
        """Keep a policy that a peer's frames name; False if it is not the one."""
        policy = policy_of(version, document)
        if policy is not None:
            self._keep_policy(policy)
        return policy is not None

    def answer_digest(
        self, region: str, document: dict[str, Any], done: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Hand a peer's digest to whoever compares; False if nobody does."""
        if self.on_digest is None:
            return False
        self.on_digest(region, document, done)
        return True

    def answer_role(self, region: str | None, document: dict[str, Any]) -> dict[str, Any]:
        """Answer a peer about who writes, in a worker thread; raises ValueError."""
        if self.on_role is None:
            raise ValueError("no placement of this region has one writer")
        return self.on_role(region, document)

    # --- ships

    def _client(self, peer: str) -> PeerClient:
        return PeerClient(self._region, peer, self._registry.regions[peer].peer, self._tls)

    def _outbound(self, own: ShippedStream, peer: str) -> Outbound:
        listeners = Listeners(
            on_mark=partial(self._watermarks.set, own.placement, peer),
            on_acked=partial(self._acked, own, peer),
            on_alarm=partial(self._alarm, own.placement, peer),
        )
        acked = self._watermarks.get(own.placement, peer)
        return self._way(own, peer, self._client(peer), acked, listeners)

    def _copy(self, own: ShippedStream, objects: ObjectWays) -> Outbound:
        """Ship a stream to the object store, whose copy counts for no acknowledgement."""
        listeners = Listeners(
            on_mark=lambda mark: None,
            on_acked=lambda seq, displaced: None,
            on_alarm=partial(self._alarm, own.placement, OBJECTS),
        )
        return self._way(own, OBJECTS, objects.sender(self._region), NOTHING, listeners)

    def _way(
        self, own: ShippedStream, peer: str, transport: Transport, acked: Mark, listeners: Listeners
    ) -> Outbound:
        route = Route(
            self._region, own.placement, peer, own.directory, transport, self._key.sign,
            self._policy_bytes, self._batch_bytes,
        )  # fmt: skip
        shipper = Shipper(region_epoch=self.epoch(own.placement), acked=acked)
        return Outbound(route, shipper, listeners, now_ns=self._now_ns)

    def _grew(
        self, own: ShippedStream, event: TailGrown | SegmentSealed, at_ns: int | None = None
    ) -> None:
        """Take note of what is durable, in the log's thread: cheap, and it never waits."""
        sealed = isinstance(event, SegmentSealed)
        end = event.size if isinstance(event, SegmentSealed) else event.offset
        with self._lock:
            if own.mark.first_seq != event.first_seq:
                own.sealed_bytes += own.mark.offset
            own.mark = Mark(event.first_seq, end, event.seq, sealed)
            own.header_epoch = max(own.header_epoch, self.epoch(own.placement))
            at_ns = self._now_ns() if at_ns is None else at_ns
            for clock in (own.clock, *own.clocks.values()):
                clock.grew(event.seq, own.sealed_bytes + end, at_ns)
        for outbound in own.ways():
            outbound.feed(event)

    def _acked(self, own: ShippedStream, peer: str, seq: int, displaced: tuple[int, ...]) -> None:
        with self._lock:
            own.clocks[peer].held(seq)
            own.clock.held(own.replicated_seq())
        on_peer_acked = self._on_peer_acked
        self._loop.soon(lambda: on_peer_acked(own.placement, peer, seq, displaced))

    def _alarm(self, placement: str, peer: str, found: RaiseAlarm) -> None:
        code, text, fenced_epoch = found
        alarm = Alarm(code, peer, placement, text, fatal=False, fenced_epoch=fenced_epoch)
        self._loop.soon(partial(self._on_alarm, alarm))

    def _troubled(self, region: str, placement: str, code: str, message: str) -> None:
        self._alarm(placement, region, RaiseAlarm(code, message))

    # --- mirrors and watermarks

    def _catch_up(self) -> None:
        for (region, placement), inbound in self._inbound.items():
            inbound.catch_up(self._applied(region, placement), self._stopping)

    def _flush_loop(self) -> None:
        while not self._stopping.wait(FLUSH_S):
            self._flush()

    def _flush(self) -> None:
        try:
            self._watermarks.flush()
        except OSError as error:
            # They may stay behind: every peer is asked at a start.
            log.warning("watermarks cannot be kept: %s", error)


def policy_of(version: str, document: bytes) -> Policy | None:
    """Read a policy that a peer gave; None if it is not the one of this version."""
    try:
        policy = Policy.from_bytes(document)
    except DocumentError:
        return None
    return policy if policy.version == version else None


__all__ = ["Alarm", "PeerLag", "Received", "Replication"]
