"""Take one stream of another region: what of it is accepted, kept, applied and acknowledged.

This file owns the receiver's half of spec/shipping.md. Its invariants: a mirror is a *contiguous
prefix* of the origin's stream, byte for byte; *durable before acknowledged*, applied before
acknowledged; nothing is kept before its batch signature, its chain and every record in it hold;
nothing of a region below its fence is taken. A batch that comes again changes nothing and is
answered again.

The machine has no clock, no file and no socket. One batch is under way at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from fractal_lba.merkle import MerkleRoot

from . import hlc
from .first_write import Origin
from .replay import Replay, ReplayFault, VerifiedFrame
from .replication import (
    BATCH_FRAMES_MAX,
    FENCED,
    FORK,
    GAP,
    NOTHING,
    Mark,
    RaiseAlarm,
    SetTimer,
    batch_message,
    signature_holds,
)
from .segment import (
    FOOTER_BYTES,
    GENESIS,
    HEADER_BYTES,
    Footer,
    Frame,
    Header,
    SegmentError,
    payload_of_frame,
    read_frame,
    read_header,
)

APPLY_TIMEOUT_S: Final = 5
"""How long the frames of a batch may take to be merged; then their sender is told to come again."""


# --- events --------------------------------------------------------------------------------


class BatchReceived(NamedTuple):
    """A batch has come.

    `held` is what the mirror has where the batch begins, at most as long as the body.
    """

    token: int
    region_epoch: int
    first_seq: int
    offset: int
    body: bytes
    signature: bytes
    held: bytes = b""
    relay_key: bytes = b""
    """The key of the peer whose copy this is, where it was fetched and not sent by its origin."""


class MirrorWritten(NamedTuple):
    """What `AppendMirror` asked for is durable."""

    token: int


class MirrorFailed(NamedTuple):
    """It is not; `fatal` if a sync failed, after which nothing is certain."""

    token: int
    reason: str
    fatal: bool


class FramesApplied(NamedTuple):
    """The frames of the batch are merged; `displaced` lost against another first write."""

    token: int
    displaced: tuple[int, ...]


class TimerFired(NamedTuple):
    """The time of a `SetTimer` has come."""

    token: int


class Fenced(NamedTuple):
    """Nothing of a sender below this region epoch is taken from now on; it is durable."""

    region_epoch: int


# --- effects -------------------------------------------------------------------------------


class AppendMirror(NamedTuple):
    """Make these bytes durable in the mirror, then say `MirrorWritten`.

    `offset` 0 begins the segment; `seal` ends it.
    """

    token: int
    first_seq: int
    offset: int
    data: bytes
    seal: bool


class ApplyFrames(NamedTuple):
    """Merge these frames, in order, then say `FramesApplied`."""

    token: int
    origin: Origin
    frames: tuple[VerifiedFrame, ...]


class Ack(NamedTuple):
    """Tell the sender that its batch is held up to `mark`."""

    token: int
    mark: Mark
    displaced: tuple[int, ...]


class Refuse(NamedTuple):
    """Tell the sender that its batch is not taken. `fault` is one of spec/shipping.md 4."""

    token: int
    fault: str
    message: str
    holds: Mark | None = None
    fenced_epoch: int = 0
    policy_version: str = ""
    """The policy that is missing here, of the fault `policy_unknown`."""


Effect = AppendMirror | ApplyFrames | Ack | Refuse | RaiseAlarm | SetTimer


@dataclass(slots=True)
class _Tail:
    """The segment that a mirror's prefix ends in, accounted for up to its last frame."""

    header: Header
    offset: int = HEADER_BYTES
    frames: int = 0
    root: MerkleRoot = field(default_factory=MerkleRoot)
    hash: Any = field(default_factory=sha256)
    end: Footer | None = None
    """Its footer, once it is sealed."""

    @classmethod
    def begun(cls, header: Header) -> _Tail:
        tail = cls(header)
        tail.hash.update(header.to_bytes())
        return tail

    def clone(self) -> _Tail:
        return _Tail(self.header, self.offset, self.frames, copy.copy(self.root), self.hash.copy())

    def add(self, frames: list[Frame], data: bytes) -> None:
        for frame in frames:
            self.root.add(payload_of_frame(frame))
        self.hash.update(data)
        self.frames += len(frames)
        self.offset += len(data)

    def footer(self) -> Footer:
        """Give the footer that the segment must have if it ends here."""
        unhashed = Footer(self.frames, self.root.digest(), bytes(32)).to_bytes()[:-32]
        whole = self.hash.copy()
        whole.update(unhashed)
        return Footer(self.frames, self.root.digest(), whole.digest())


class Held(NamedTuple):
    """What a mirror holds at a start: where it ends, and what the next segment must name."""

    mark: Mark = NOTHING
    prev_sha256: bytes = GENESIS
    region_epoch: int = 0
    """Of the last header; later ones are never lower."""
    fenced_epoch: int = 0
    open_data: bytes = b""
    """The open segment up to its last whole frame; empty if the last one is sealed."""
    sealed: Mapping[int, tuple[int, int]] = MappingProxyType({})
    """Last number and region epoch of each sealed segment, by its first number."""


class _Parts(NamedTuple):
    """A batch taken apart; `footer` is empty if the segment does not end with it."""

    header: Header | None
    frames: list[Frame]
    footer: bytes


@dataclass(slots=True)
class _Pending:
    """The batch under way, and what is true once it is durable."""

    token: int
    origin: Origin
    frames: tuple[VerifiedFrame, ...]
    end: Mark
    tail: _Tail | None
    """The segment as it then is; None if the batch brought nothing new."""


class Receiver:
    """Take one stream of one region. State is plain data; `on_event` is the only entry."""

    def __init__(
        self,
        *,
        region: str,
        placement: str,
        public_key: bytes,
        replay: Replay,
        held: Held | None = None,
        max_skew_ms: int = hlc.MAX_SKEW_MS,
    ) -> None:
        held = Held() if held is None else held
        self._region = region
        self._placement = placement
        self._public_key = public_key
        self._replay = replay
        self._max_skew_ms = max_skew_ms
        self._mark = held.mark
        self._prev_sha256 = held.prev_sha256
        self._header_epoch = held.region_epoch
        self._fenced_epoch = held.fenced_epoch
        self._tail = _tail_of(held.open_data) if held.open_data else None
        self._sealed = dict(held.sealed)
        self._pending: _Pending | None = None
        self._failed: str | None = None
        self._alarmed: set[str] = set()
        self._handlers: dict[type, Callable[[Any, int], list[Effect]]] = {
            BatchReceived: self._on_batch,
            MirrorWritten: self._on_written,
            MirrorFailed: self._on_mirror_failure,
            FramesApplied: self._on_applied,
            TimerFired: self._on_timer,
            Fenced: self._on_fence,
        }

    def on_event(self, event: object, now_ns: int) -> list[Effect]:
        """Take one event at Unix time `now_ns`; give what must be carried out, in order."""
        return self._handlers[type(event)](event, now_ns)

    @property
    def mark(self) -> Mark:
        """Say what is held, durable."""
        return self._mark

    @property
    def prev_sha256(self) -> bytes:
        """Give the hash that the next segment must name."""
        return self._prev_sha256

    @property
    def header_epoch(self) -> int:
        """Give the region epoch of the last segment."""
        return self._header_epoch

    @property
    def fenced_epoch(self) -> int:
        """Give the region epoch below which nothing is taken."""
        return self._fenced_epoch

    # --- a batch comes in

    def _on_batch(self, event: BatchReceived, now_ns: int) -> list[Effect]:
        if self._failed is not None:
            return [Refuse(event.token, "unavailable", self._failed)]
        if self._pending is not None:
            return [Refuse(event.token, "busy", "a batch of this stream is under way")]
        if event.region_epoch < self._fenced_epoch and not event.relay_key:
            text = f"region epoch {event.region_epoch} is fenced"
            return [Refuse(event.token, FENCED, text, fenced_epoch=self._fenced_epoch)]
        message = batch_message(
            self._region, self._placement, event.region_epoch, event.first_seq, event.offset,
            event.body,
        )  # fmt: skip
        if not signature_holds(event.relay_key or self._public_key, message, event.signature):
            return self._refuse(event, "signature_invalid", "the batch is not its sender's")
        if event.held != event.body[: len(event.held)]:
            return self._refuse(event, FORK, f"segment {event.first_seq} has other bytes here")
        follows = self._mark.next if not event.held else self._mark[:2]
        extends = len(event.body) > len(event.held) > 0
        at = event.offset + len(event.held)
        if extends and (self._mark.sealed or (event.first_seq, at) != follows):
            return self._refuse(event, FORK, f"segment {event.first_seq} ends at byte {at} here")
        if not event.held and (event.first_seq, event.offset) != self._mark.next:
            text = f"expected segment {self._mark.next[0]} from byte {self._mark.next[1]}"
            return [Refuse(event.token, GAP, text, holds=self._mark)]
        try:
            return self._take(event, now_ns)
        except SegmentError as error:
            return self._refuse(event, "batch_malformed", str(error))
        except ReplayFault as fault:
            return self._take_before(event, fault, now_ns)

    def _take_before(self, event: BatchReceived, fault: ReplayFault, now_ns: int) -> list[Effect]:
        """Take the frames before one that must not be applied; refuse a batch that begins with it.

        What stands before it would otherwise wait for an operator as well.
        """
        frames = _take_apart(event).frames
        at = next(frame.offset for frame in frames if frame.seq == fault.seq)
        if at > frames[0].offset:
            return self._take(event._replace(body=event.body[:at], held=event.held[:at]), now_ns)
        if fault.code == "policy_unknown":  # the sender has it, and comes again with it
            text = fault.message
            return [Refuse(event.token, fault.code, text, policy_version=fault.subject)]
        if fault.code == "hlc_ahead":
            return self._refuse(event, fault.code, str(fault))
        return self._refuse(event, "frame_refused", str(fault))

    def _take(self, event: BatchReceived, now_ns: int) -> list[Effect]:
        """Check a batch that begins within, or right behind, what is held."""
        parts = _take_apart(event)
        new = event.body[len(event.held) :]
        if not new:
            return self._take_again(event, parts, now_ns)
        end, tail = self._extended(event, parts)
        origin = Origin(self._region, self._placement, tail.header.region_epoch)
        verified = self._verified(parts.frames, origin, now_ns)
        self._alarmed.clear()
        self._pending = _Pending(event.token, origin, verified, end, tail)
        offset = event.offset + len(event.held)
        return [AppendMirror(event.token, event.first_seq, offset, new, end.sealed)]

    def _take_again(self, event: BatchReceived, parts: _Parts, now_ns: int) -> list[Effect]:
        """Answer a batch that is held as a whole: its first answer may not have arrived."""
        seq, region_epoch = self._sealed.get(event.first_seq) or (
            self._mark.seq,
            self._header_epoch,
        )
        if parts.frames:
            seq = parts.frames[-1].seq
        mark = Mark(event.first_seq, event.offset + len(event.body), seq, bool(parts.footer))
        origin = Origin(self._region, self._placement, region_epoch)
        verified = self._verified(parts.frames, origin, now_ns)
        self._pending = _Pending(event.token, origin, verified, mark, None)
        return self._apply(self._pending, now_ns)

    def _verified(
        self, frames: list[Frame], origin: Origin, now_ns: int
    ) -> tuple[VerifiedFrame, ...]:
        """Judge frames in order; raises ReplayFault for the first that must not be applied now."""
        verified = []
        for frame in frames:
            ahead_ms = hlc.ahead_ms(frame.hlc, now_ns)
            if ahead_ms > self._max_skew_ms:
                text = f"{ahead_ms} ms ahead of the clock here"
                raise ReplayFault("hlc_ahead", text, frame.seq)
            verified.append(self._replay.verify(frame, origin))
        return tuple(verified)

    def _extended(self, event: BatchReceived, parts: _Parts) -> tuple[Mark, _Tail]:
        """Say where the stream ends with this batch, if it follows from what is held."""
        skipped = len(event.held)
        if parts.header is not None and not skipped:
            tail = self._begin(event, parts.header)
            skipped = HEADER_BYTES
        else:
            assert self._tail is not None  # what is extended is the open segment
            tail = self._tail.clone()
        fresh = [frame for frame in parts.frames if frame.seq > self._mark.seq]
        if fresh and fresh[0].seq != self._mark.seq + 1:
            raise SegmentError(f"expected frame {self._mark.seq + 1}, got {fresh[0].seq}", 0)
        tail.add(fresh, event.body[skipped : len(event.body) - len(parts.footer)])
        seq = self._mark.seq + len(fresh)
        if not parts.footer:
            return Mark(event.first_seq, tail.offset, seq, False), tail
        tail.end = tail.footer()
        if parts.footer != tail.end.to_bytes():
            raise SegmentError("the footer does not describe the segment", tail.offset)
        return Mark(event.first_seq, tail.offset + FOOTER_BYTES, seq, True), tail

    def _begin(self, event: BatchReceived, header: Header) -> _Tail:
        if header.first_seq != event.first_seq:
            raise SegmentError(f"the header names segment {header.first_seq}", 8)
        if header.prev_sha256 != self._prev_sha256:
            raise SegmentError("the header names another predecessor", 16)
        if not self._header_epoch <= header.region_epoch <= event.region_epoch:
            raise SegmentError(f"region epoch {header.region_epoch} is out of order", 56)
        return _Tail.begun(header)

    # --- durable, then applied, then acknowledged

    def _on_written(self, event: MirrorWritten, now_ns: int) -> list[Effect]:
        pending = self._pending
        assert pending is not None
        assert pending.tail is not None
        self._mark, self._tail = pending.end, pending.tail
        self._header_epoch = pending.origin.region_epoch
        if pending.tail.end is not None:
            self._prev_sha256, self._tail = pending.tail.end.file_sha256, None
            self._sealed[self._mark.first_seq] = (self._mark.seq, self._header_epoch)
        return self._apply(pending, now_ns)

    def _apply(self, pending: _Pending, now_ns: int) -> list[Effect]:
        if not pending.frames:
            self._pending = None
            return [Ack(pending.token, pending.end, ())]
        return [
            SetTimer(pending.token, now_ns + APPLY_TIMEOUT_S * 1_000_000_000),
            ApplyFrames(pending.token, pending.origin, pending.frames),
        ]

    def _on_applied(self, event: FramesApplied, now_ns: int) -> list[Effect]:
        pending = self._pending
        if pending is None or pending.token != event.token:
            return []  # it took too long; the sender comes again
        self._pending = None
        return [Ack(event.token, pending.end, event.displaced)]

    def _on_timer(self, event: TimerFired, now_ns: int) -> list[Effect]:
        if self._pending is None or self._pending.token != event.token:
            return []
        self._pending = None
        return [Refuse(event.token, "unavailable", "the frames are kept and not merged yet")]

    def _on_mirror_failure(self, event: MirrorFailed, now_ns: int) -> list[Effect]:
        self._pending = None
        effects: list[Effect] = [Refuse(event.token, "unavailable", "the mirror is not writable")]
        if event.fatal:
            self._failed = "the mirror failed"
            effects.append(RaiseAlarm("mirror_failed", event.reason))
        return effects

    def _on_fence(self, event: Fenced, now_ns: int) -> list[Effect]:
        self._fenced_epoch = max(self._fenced_epoch, event.region_epoch)
        return []

    def _refuse(self, event: BatchReceived, fault: str, message: str) -> list[Effect]:
        """Refuse what needs an operator; he hears of it once until the stream moves on."""
        refusal = Refuse(event.token, fault, message)
        if fault in self._alarmed:
            return [refusal]
        self._alarmed.add(fault)
        return [refusal, RaiseAlarm(fault, message)]


def _take_apart(event: BatchReceived) -> _Parts:
    """Read a batch: a header at offset 0, whole frames, perhaps a footer, nothing else."""
    body, at, header = event.body, 0, None
    if event.offset == 0:
        header, at = read_header(body), HEADER_BYTES
    frames: list[Frame] = []
    footer = b""
    while at < len(body):
        try:
            frame = read_frame(body, at)
        except SegmentError:
            if len(body) - at != FOOTER_BYTES:
                raise
            footer = body[at:]  # or a damaged frame of that length, which is no footer either
            break
        if frames and frame.seq != frames[-1].seq + 1:
            raise SegmentError(f"expected frame {frames[-1].seq + 1}, got {frame.seq}", at)
        frames.append(frame)
        at = frame.end
    if len(frames) > BATCH_FRAMES_MAX:
        raise SegmentError(f"more than {BATCH_FRAMES_MAX} frames in a batch", at)
    if not frames and not footer:
        raise SegmentError("a batch without a frame", at)
    return _Parts(header, frames, footer)


def _tail_of(data: bytes) -> _Tail:
    """Account for an open segment that ends with its last whole frame."""
    tail = _Tail.begun(read_header(data))
    at, frames = HEADER_BYTES, []
    while at < len(data):
        frame = read_frame(data, at)
        frames.append(frame)
        at = frame.end
    tail.add(frames, data[HEADER_BYTES:])
    return tail
