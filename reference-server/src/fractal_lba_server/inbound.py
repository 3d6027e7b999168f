"""Carries out what the receiver of one peer stream decides: its mirror, its merges, its answers.

Work on files and signatures is done in worker threads, one batch of a stream at a time; what is
merged goes to the event loop. No rule about batches stands in this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from .core import receiver as machine
from .core.facts import read_facts
from .core.first_write import Origin
from .core.hlc import MAX_SKEW_MS
from .core.replay import Replay, VerifiedFrame
from .core.replication import NOTHING, Mark, RaiseAlarm, SetTimer
from .outbound import PeerRefusedError, Transport
from .store.files import Files
from .store.mirror import Mirror, MirrorFailedError, read_part, read_range
from .store.wal import WalCorruptError

REPLAY_FRAMES: Final = 512
"""Frames that are handed over at once while the index catches up with a mirror."""

BUSY_PAUSE_S: Final = 0.05
"""How long a reader of another's copy waits while the origin's own batch is under way."""

BUSY_MAX: Final = 400
"""How often it waits; then the origin is there, and needs nobody to speak for it."""

log = logging.getLogger("fractal_lba_server.replication")

Answer = machine.Ack | machine.Refuse
Displaced = Callable[[Sequence[int]], None]
OnFrames = Callable[[Origin, Sequence[VerifiedFrame], Displaced], None]
"""Merges frames on the event loop, then calls back with the numbers of those that lost."""


class Alarm(NamedTuple):
    """What an operator must hear of; `fatal` ends the process."""

    code: str
    region: str
    placement: str
    message: str
    fatal: bool = False
    fenced_epoch: int = 0
    """Of the code `fenced`: the region epoch that the peer wants at least."""


class Loop(Protocol):
    """What is needed of the event loop."""

    def soon(self, call: Callable[[], None]) -> None:
        """Call on the loop."""

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call on the loop after a while."""


class LoopCalls:
    """Call on an event loop from any thread, as long as it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed: the process is ending
            self._loop.call_soon_threadsafe(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._loop.call_later(delay_s, call)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all streams of a process share."""

    loop: Loop
    workers: Executor
    replay: Replay
    on_frames: OnFrames
    on_alarm: Callable[[Alarm], None]
    now_ns: Callable[[], int] = time.time_ns
    max_skew_ms: int = MAX_SKEW_MS
    files: Files | None = None


class Batch(NamedTuple):
    """What a peer has sent, as far as it was read."""

    region_epoch: int
    first_seq: int
    offset: int
    body: bytes
    signature: bytes
    relay_key: bytes = b""


class Part(NamedTuple):
    """Bytes of a segment that a peer holds, signed by that peer."""

    region_epoch: int
    body: bytes
    signature: bytes


Read = Callable[[str, str, int, int], Part]
"""Reads what a peer holds: region, placement, segment, offset. Raises PeerRefusedError."""


class Held(NamedTuple):
    """What is held of a stream, and what its origin was heard to say."""

    mark: Mark
    prev_sha256: bytes
    header_epoch: int
    fenced_epoch: int


class Inbound:
    """One stream of one peer region."""

    def __init__(
        self, region: str, placement: str, directory: Path, public_key: bytes, world: Surroundings
    ) -> None:
        self.region = region
        self.placement = placement
        self.directory = directory
        self._public_key = public_key
        self._world = world
        self._lock = threading.Lock()
        self._tokens = itertools.count(1)
        self._waiting: dict[int, Callable[[Answer], None]] = {}
        self._mirror: Mirror | None = None
        self._core: machine.Receiver | None = None
        self._ready = False
        self.heard_ns = world.now_ns()
        """When the origin was heard last; from the start on, so that silence has an age."""
        self.claimed_seq = 0
        """How far the origin says its log is durable."""

    def open(self, applied_seq: int) -> None:
        """Take up the mirror; nothing is received before `caught_up`."""
        world = self._world
        try:
            self._mirror = Mirror(self.directory, files=world.files, applied_seq=applied_seq)
        except (WalCorruptError, OSError) as error:
            self._alarm("mirror_corrupt", str(error))
            return
        self._core = machine.Receiver(
            region=self.region,
            placement=self.placement,
            public_key=self._public_key,
            replay=world.replay,
            held=self._mirror.held,
            max_skew_ms=world.max_skew_ms,
        )

    def catch_up(self, applied_seq: int, stopping: threading.Event) -> None:
        """Merge what the mirror holds and the index does not; then receive."""
        if self._mirror is None or self._core is None:
            return
        try:
            frames = self._mirror.frames(self.region, self.placement, applied_seq + 1)
            for origin, group in itertools.groupby(frames, key=lambda pair: pair[0]):
                found = (VerifiedFrame(frame, read_facts(frame, origin)) for _, frame in group)
                while chunk := tuple(itertools.islice(found, REPLAY_FRAMES)):
                    if not self._merge_and_wait(origin, chunk, stopping):
                        return
        except (WalCorruptError, ValueError, OSError) as error:
            self._alarm("mirror_corrupt", str(error))
            return
        self._ready = True

    def receive(self, batch: Batch, answer: Callable[[Answer], None]) -> None:
        """Take a batch, in a worker thread; `answer` is called once, in some thread."""
        token = next(self._tokens)
        if not self._ready:
            answer(machine.Refuse(token, "unavailable", "this stream is not ready here"))
            return
        self._waiting[token] = answer
        with self._lock:
            try:
                held = self._held_bytes(batch)
            except OSError as error:
                text = f"the mirror cannot be read: {error}"
                self._waiting.pop(token)(machine.Refuse(token, "unavailable", text))
                return
            self._feed(machine.BatchReceived(token, *batch[:5], held, batch.relay_key))

    def held(self) -> Held:
        """Say what is held, durable."""
        core = self._core
        if core is None:
            return Held(NOTHING, bytes(32), 0, 0)
        return Held(core.mark, core.prev_sha256, core.header_epoch, core.fenced_epoch)

    def read(self, first_seq: int, offset: int, limit: int) -> bytes:
        """Give whole frames of the mirror, of those that are durable; raises SegmentError."""
        return read_part(self.directory, self.held().mark, (first_seq, offset), limit)

    def fetch(self, read: Read, relay_key: bytes, policy: Callable[[str], bool]) -> Mark:
        """Take what a peer holds of this stream, until it has no more; blocks.

        `policy` gets a policy that is missing here; it says whether it has. Raises
        PeerRefusedError.
        """
        busy = BUSY_MAX
        while True:
            first_seq, offset = self.held().mark.next
            part = read(self.region, self.placement, first_seq, offset)
            if not part.body:
                return self.held().mark
            answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
            place = (part.region_epoch, first_seq, offset)
            self.receive(Batch(*place, part.body, part.signature, relay_key), answers.put)
            answer = answers.get()
            if isinstance(answer, machine.Refuse):
                if answer.fault == "policy_unknown" and policy(answer.policy_version):
                    continue
                if answer.fault != "busy" or busy == 0:
                    raise PeerRefusedError(answer.fault, answer.message)
                busy -= 1  # its origin sends as well
                time.sleep(BUSY_PAUSE_S)

    def fence(self, region_epoch: int) -> None:
        """Take nothing of a sender below this region epoch; durable on return."""
        with self._lock:
            if self._mirror is None:
                raise OSError(f"{self.directory}: the mirror is not usable")
            self._mirror.fence(region_epoch)
            self._feed(machine.Fenced(region_epoch))

    def heard(self, claimed_seq: int) -> None:
        """Take note that the origin has spoken."""
        self.heard_ns = self._world.now_ns()
        self.claimed_seq = max(self.claimed_seq, claimed_seq)

    def close(self) -> None:
        """Let go of the files; nothing is received any more."""
        with self._lock:
            self._ready = False
            if self._mirror is not None:
                self._mirror.close()

    # --- the machine

    def _held_bytes(self, batch: Batch) -> bytes:
        """Read what the mirror has where the batch begins."""
        assert self._core is not None
        mark = self._core.mark
        place = (batch.first_seq, batch.offset)
        if place >= mark[:2]:
            return b""
        size = len(batch.body)
        if batch.first_seq == mark.first_seq:
            size = min(size, mark.offset - batch.offset)
        return read_range(self.directory, *place, size)

    def _later(self, event: object) -> None:
        """Feed an event from the loop, which must not wait for a disk."""
        with contextlib.suppress(RuntimeError):  # the process is ending
            self._world.workers.submit(self._feed_locked, event)

    def _feed_locked(self, event: object) -> None:
        with self._lock:
            self._feed(event)

    def _feed(self, event: object) -> None:
        core, world = self._core, self._world
        assert core is not None
        effects = deque(core.on_event(event, world.now_ns()))
        while effects:
            effect = effects.popleft()
            match effect:
                case machine.AppendMirror():
                    done = self._append(effect)
                    effects += core.on_event(done, world.now_ns())
                case machine.ApplyFrames(token, origin, frames):
                    self._merge(origin, frames, partial(self._merged, token))
                case machine.Ack() | machine.Refuse():
                    self._waiting.pop(effect.token)(effect)
                case RaiseAlarm(code, message):
                    self._alarm(code, message, fatal=code == "mirror_failed")
                case SetTimer(token, at_ns):
                    delay_s = max(0, at_ns - world.now_ns()) / 1e9
                    fire = partial(self._later, machine.TimerFired(token))
                    world.loop.soon(partial(world.loop.later, delay_s, fire))

    def _append(self, effect: machine.AppendMirror) -> machine.MirrorWritten | machine.MirrorFailed:
        assert self._mirror is not None
        try:
            self._mirror.append(effect.first_seq, effect.offset, effect.data, seal=effect.seal)
        except MirrorFailedError as error:
            return machine.MirrorFailed(effect.token, str(error), fatal=True)
        except OSError as error:
            log.error("a mirror is not writable: %s", error)
            return machine.MirrorFailed(effect.token, str(error), fatal=False)
        return machine.MirrorWritten(effect.token)

    def _merge(self, origin: Origin, frames: Sequence[VerifiedFrame], done: Displaced) -> None:
        on_frames = self._world.on_frames
        self._world.loop.soon(lambda: on_frames(origin, frames, done))

    def _merged(self, token: int, displaced: Sequence[int]) -> None:
        self._later(machine.FramesApplied(token, tuple(displaced)))

    def _merge_and_wait(
        self, origin: Origin, frames: Sequence[VerifiedFrame], stopping: threading.Event
    ) -> bool:
        """Merge frames of the mirror; False if the process is to stop first."""
        merged = threading.Event()
        self._merge(origin, frames, lambda displaced: merged.set())
        while not merged.wait(0.1):
            if stopping.is_set():
                return False
        return True

    def _alarm(self, code: str, message: str, *, fatal: bool = False) -> None:
        alarm = Alarm(code, self.region, self.placement, message, fatal)
        self._world.loop.soon(partial(self._world.on_alarm, alarm))


def logged(run: Callable[[], None]) -> None:
    """Let a defect in a worker thread be seen; whoever waits comes again."""
    try:
        run()
    except BaseException:
        log.exception("a worker of the peers' listener failed")
        raise


class ObjectWays(Protocol):
    """The ways into and out of an object store (store/object_transport.py), if there is one."""

    def sender(self, region: str) -> Transport: ...
    def watch(
        self,
        streams: Mapping[tuple[str, str], Inbound],
        keep_policy: Callable[[str, bytes], bool],
        on_trouble: Callable[[str, str, str, str], None],
        stopping: threading.Event,
    ) -> None: ...
