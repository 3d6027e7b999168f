"""Carries out what the shipper of one stream to one peer decides, in a thread of its own.

The thread reads durable bytes from our segments, signs them, sends them and waits; meanwhile the
log goes on, and whatever it has made durable goes with the next batch. No rule about batches
stands in this file.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from .core.replication import (
    BATCH_BYTES,
    Acknowledged,
    AskPeer,
    Effect,
    Mark,
    PeerAcked,
    PeerFailed,
    PeerHolds,
    PersistWatermark,
    RaiseAlarm,
    Send,
    SetTimer,
    Shipper,
    TimerFired,
    batch_message,
)
from .core.segment import SegmentError
from .store.mirror import read_batch

POLICIES_MAX: Final = 64
"""Most policies that one batch may make a peer ask for; a batch has at most 1,024 frames."""

log = logging.getLogger("fractal_lba_server.replication")


class PeerRefusedError(Exception):
    """The peer did not take what was sent, or did not answer. `fault`: spec/shipping.md 4."""

    def __init__(
        self,
        fault: str,
        message: str,
        *,
        holds: Mark | None = None,
        fenced_epoch: int = 0,
        policy_version: str = "",
    ) -> None:
        super().__init__(f"{fault}: {message}")
        self.fault = fault
        self.message = message
        self.holds = holds
        self.fenced_epoch = fenced_epoch
        self.policy_version = policy_version


class OutBatch(NamedTuple):
    """A signed part of a stream. `end` is where the stream stands after it."""

    placement: str
    region_epoch: int
    first_seq: int
    offset: int
    body: bytes
    signature: bytes
    end: Mark
    tail_seq: int


class Holds(NamedTuple):
    """What a peer says that it has of a stream."""

    mark: Mark
    fenced_epoch: int
    region_epoch: int
    """Of the last segment that it holds; 0 if it holds none."""


class Accepted(NamedTuple):
    """What a peer says of a batch that it took."""

    mark: Mark
    displaced: tuple[int, ...]


class Transport(Protocol):
    """The way to a peer. Both calls block; both raise PeerRefusedError."""

    def ask(self, placement: str, tail_seq: int) -> Holds: ...
    def send(self, batch: OutBatch) -> Accepted: ...
    def put_policy(self, version: str, document: bytes) -> None: ...
    def abort(self) -> None:
        """End a call that another thread is in."""

    def close(self) -> None:
        """Let go of what is open; comes last."""


@dataclass(frozen=True, slots=True)
class Route:
    """Which stream goes to whom, and how."""

    region: str
    placement: str
    peer: str
    directory: Path
    transport: Transport
    sign: Callable[[bytes], bytes]
    policy_bytes: Callable[[str], bytes | None]
    batch_bytes: int = BATCH_BYTES


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who hears what; called in the thread of the stream."""

    on_mark: Callable[[Mark], None]
    on_acked: Callable[[int, tuple[int, ...]], None]
    on_alarm: Callable[[RaiseAlarm], None]


class Outbound:
    """One stream of ours on its way to one peer."""

    def __init__(
        self,
        route: Route,
        shipper: Shipper,
        listeners: Listeners,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._route = route
        self._core = shipper
        self._listeners = listeners
        self._now_ns = now_ns
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._timer: SetTimer | None = None
        self._stopping = threading.Event()
        name = f"ship-{route.placement}-{route.peer}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def core(self) -> Shipper:
        """Give the machine, to look at."""
        return self._core

    @property
    def peer(self) -> str:
        """Name the peer."""
        return self._route.peer

    def feed(self, event: object) -> None:
        """Tell the machine something, from any thread."""
        self._queue.put(event)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not acknowledged is sent after the next start."""
        self._stopping.set()
        self._queue.put(None)
        self._route.transport.abort()
        if self._thread.is_alive():
            self._thread.join()
        self._route.transport.close()

    def _run(self) -> None:
        effects: deque[Effect] = deque()
        while not self._stopping.is_set():
            for event in self._next_events():
                effects += self._core.on_event(event, self._now_ns())
            while effects and not self._stopping.is_set():
                answer = self._carry_out(effects.popleft())
                if answer is None:
                    continue
                # What the log has said meanwhile comes first, so that it goes with what is next.
                for event in (*self._said(), answer):
                    effects += self._core.on_event(event, self._now_ns())

    def _next_events(self) -> list[object]:
        """Wait for something to happen; give all that has."""
        wait_s = None
        if self._timer is not None:
            wait_s = max(0.0, (self._timer.at_ns - self._now_ns()) / 1e9)
        events: list[object] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._queue.get(timeout=wait_s))
        events += self._said()
        if self._timer is not None and self._timer.at_ns <= self._now_ns():
            events.append(TimerFired(self._timer.token))
            self._timer = None
        return [event for event in events if event is not None]

    def _said(self) -> list[object]:
        """Give what has been said and not heard yet."""
        events = []
        with contextlib.suppress(queue.Empty):
            while True:
                events.append(self._queue.get_nowait())
        return [event for event in events if event is not None]

    def _carry_out(self, effect: Effect) -> PeerAcked | PeerHolds | PeerFailed | None:
        """Do what an effect says; give the event that answers it, if one does."""
        match effect:
            case Send():
                return self._send(effect)
            case AskPeer():
                return self._ask(effect)
            case SetTimer():
                self._timer = effect
            case PersistWatermark(mark):
                self._listeners.on_mark(mark)
            case Acknowledged(seq, displaced):
                self._listeners.on_acked(seq, displaced)
            case RaiseAlarm():
                self._listeners.on_alarm(effect)
        return None

    def _ask(self, effect: AskPeer) -> PeerHolds | PeerFailed:
        try:
            holds = self._route.transport.ask(self._route.placement, effect.tail_seq)
        except PeerRefusedError as error:
            return _failed(effect.token, error)
        return PeerHolds(effect.token, holds.mark, holds.fenced_epoch)

    def _send(self, effect: Send) -> PeerAcked | PeerFailed:
        route = self._route
        place = (effect.first_seq, effect.offset)
        try:
            body, end = read_batch(
                route.directory, place, effect.until, seq=effect.seq, limit=route.batch_bytes
            )
        except (SegmentError, OSError) as error:
            text = f"segment {effect.first_seq} from byte {effect.offset}: {error}"
            return PeerFailed(effect.token, "local_unreadable", text)
        message = batch_message(route.region, route.placement, effect.region_epoch, *place, body)
        batch = OutBatch(
            route.placement, effect.region_epoch, *place, body, route.sign(message), end,
            self._core.tail.seq,
        )  # fmt: skip
        try:
            accepted = self._deliver(batch)
        except PeerRefusedError as error:
            return _failed(effect.token, error)
        return PeerAcked(effect.token, accepted.mark, accepted.displaced)

    def _deliver(self, batch: OutBatch) -> Accepted:
        """Send a batch; policies that the peer lacks go before it."""
        for _ in range(POLICIES_MAX):
            try:
                return self._route.transport.send(batch)
            except PeerRefusedError as error:
                document = None
                if error.fault == "policy_unknown":
                    document = self._route.policy_bytes(error.policy_version)
                if document is None:
                    raise
                self._route.transport.put_policy(error.policy_version, document)
        return self._route.transport.send(batch)


def _failed(token: int, error: PeerRefusedError) -> PeerFailed:
    return PeerFailed(token, error.fault, error.message, error.holds, error.fenced_epoch)
