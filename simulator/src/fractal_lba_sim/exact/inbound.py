"""Carry out what the receiver of one peer stream decides: its mirror, its merges, its answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fractal_lba_server.core.receiver import (
    Ack,
    AppendMirror,
    ApplyFrames,
    BatchReceived,
    Fenced,
    FramesApplied,
    Held,
    MirrorFailed,
    MirrorWritten,
    Refuse,
    TimerFired,
)
from fractal_lba_server.core.replication import (
    Mark,
    RaiseAlarm,
    SetTimer,
    batch_message,
)
from fractal_lba_server.core.segment import SegmentError

from ..waiting import NS_PER_S
from .memory import MEMORY
from .net import Failure
from .segments import Segments

if TYPE_CHECKING:
    from .node import Node

READ_BYTES: Final = 1_048_576
READ_NS: Final = 8 * NS_PER_S
BUSY_NS: Final = 50_000_000
BUSY_MAX: Final = 400


class Batch(NamedTuple):
    """What a peer sends."""

    region_epoch: int
    first_seq: int
    offset: int
    body: bytes
    signature: Any
    """A Seal (memory.py)."""
    relay_key: bytes = b""


class Holding(NamedTuple):
    """What is held of a stream, and what it is fenced at."""

    mark: Mark
    fenced_epoch: int


class Inbound:
    """One stream of one region, here. With `merges=False` it only fills the log of a region."""

    def __init__(
        self, node: Node, region: str, placement: str, segments: Segments, held: Held, *,
        merges: bool = True,
    ) -> None:  # fmt: skip
        world = node.world
        self.node = node
        self.region = region
        self.placement = placement
        self.segments = segments
        self.ready = False
        self._merges = merges
        self._fence_name = f"fence/{region}/{placement}"
        fence = node.disk.kept.get(self._fence_name, 0)
        self.mirror = world.parts.mirror(segments, node.life)
        self.core = world.parts.receiver(
            region=region,
            placement=placement,
            public_key=world.key_of(region).public_key,
            replay=world.parts.replay(
                check=MEMORY.check, directory=lambda: node.region.directory, policy=world.policy
            ),
            held=held._replace(fenced_epoch=fence if merges else 0),
        )
        self._tokens = itertools.count(1)
        self._answers: dict[int, Callable[[Any], None]] = {}
        self._carriers: dict[type, Callable[[Any], object]] = {
            AppendMirror: self._append,
            ApplyFrames: self._apply,
            Ack: self._answer,
            Refuse: self._answer,
            SetTimer: self._set_timer,
            RaiseAlarm: self._alarm,
        }

    def receive(self, batch: Batch, answer: Callable[[Any], None]) -> None:
        """Take a batch; `answer` is called once with Ack or Refuse."""
        token = next(self._tokens)
        self._answers[token] = answer
        body = batch.body
        held = b""
        mark = self.core.mark
        if (batch.first_seq, batch.offset) < mark[:2]:
            size = len(body)
            if batch.first_seq == mark.first_seq:
                size = min(size, mark.offset - batch.offset)
            held = self.segments.read(batch.first_seq, batch.offset, size)
        self.feed(BatchReceived(token, *batch[:5], held, batch.relay_key))

    def fence(self, region_epoch: int) -> None:
        """Refuse what is below this region epoch from now on, durably."""
        kept = self.node.disk.kept
        kept[self._fence_name] = max(kept.get(self._fence_name, 0), region_epoch)
        self.feed(Fenced(region_epoch))

    def feed(self, event: object) -> None:
        """Give the receiver an event and carry out what it says."""
        node = self.node
        if node.life.ended:
            return
        node.world.steps += 1
        for effect in self.core.on_event(event, node.clock.wall_ns()):
            self._carriers[type(effect)](effect)

    # --- effects

    def _append(self, effect: AppendMirror) -> None:
        self.mirror.append(effect, partial(self._written, effect.token))

    def _apply(self, effect: ApplyFrames) -> None:
        if not self._merges:
            self._applied(effect.token, ())
            return
        facts = tuple([one.facts for one in effect.frames])
        self.node.world.steps += len(facts)
        self.node.take_frames(facts, partial(self._applied, effect.token))

    def _applied(self, token: int, displaced: tuple[int, ...]) -> None:
        self.feed(FramesApplied(token, displaced))

    def _answer(self, effect: Ack | Refuse) -> None:
        self._answers.pop(effect.token)(effect)

    def _set_timer(self, effect: SetTimer) -> None:
        node = self.node
        wait_ns = node.clock.true_ns(effect.at_ns - node.clock.wall_ns())
        node.life.after(wait_ns, self.feed, TimerFired(effect.token))

    def _alarm(self, effect: RaiseAlarm) -> None:
        text = f"{self.placement} of {self.region}: {effect.message}"
        self.node.world.alarm(self.node.code, effect.code, text)

    def _written(self, token: int, reason: str | None) -> None:
        if reason is None:
            self.feed(MirrorWritten(token))
            return
        self.feed(MirrorFailed(token, reason, fatal="durable" in reason))

    # --- from another region's copy

    def fetch(self, peer: str, done: Callable[[str | None], None], busy: int = 0) -> None:
        """Take what a peer holds of this stream until it has no more; `done` hears why not."""
        node, mark = self.node, self.core.mark
        node.world.net.ask(
            node.code, peer, 100, partial(_part, self.region, self.placement, mark.next),
            partial(self._fetched, peer, done, busy), timeout_ns=READ_NS, life=node.life,
        )  # fmt: skip

    def _fetched(
        self, peer: str, done: Callable[[str | None], None], busy: int, answer: Any
    ) -> None:
        if isinstance(answer, Failure):
            done(answer.code)
            return
        if not answer.body:
            done(None)
            return

        def taken(said: Any) -> None:
            if isinstance(said, Ack):
                self.fetch(peer, done)
            elif said.fault == "busy" and busy < BUSY_MAX:
                self.node.life.after(BUSY_NS, self.fetch, peer, done, busy + 1)
            else:
                done(said.fault)

        self.receive(answer, taken)


def _part(
    region: str, placement: str, place: tuple[int, int], node: Node,
    reply: Callable[[Any, int], None],
) -> None:  # fmt: skip
    """Give a part of a stream that is held here, signed by us."""
    world = node.world
    segments: Segments | None
    if region == node.code:
        stream = node.stream(placement)
        segments = world.segments(node.disk, f"log/{placement}")
        held = None if stream is None else node.durable_mark(placement)
    else:
        inbound = node.inbound.get((region, placement))
        segments = None if inbound is None else inbound.segments
        held = None if inbound is None or not inbound.ready else inbound.core.mark
    if held is None or segments is None:
        reply(Failure("unavailable", sent=True), 0)
        return
    try:
        body = segments.part(held, place, READ_BYTES)
    except SegmentError as error:
        reply(Failure(f"unreadable: {error}", sent=True), 0)
        return
    epoch = node.last_epoch(region, placement)
    message = batch_message(region, placement, epoch, *place, body)
    key = world.key_of(node.code)
    part = Batch(epoch, *place, body, key.seal(message), key.public_key)
    reply(part, len(body))
