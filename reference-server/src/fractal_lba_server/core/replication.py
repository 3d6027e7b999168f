"""Ship one stream of the log to one peer: what is sent next, and what the peer is known to hold.

This file owns the sender's half of spec/shipping.md. Its invariant: *a watermark is what the peer
has acknowledged*, never what was sent, and it is never forgotten. Nothing is sent before it is
durable here; batches go in order, one at a time; whatever became durable meanwhile goes with the
next. A peer that holds what we do not have, or other bytes than ours, stops the stream.

The machine has no clock, no file and no socket. Events come in with a time, effects come out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BATCH_BYTES: Final = 1_048_576
"""Most bytes of a batch, unless configured; larger ones gain nothing but memory."""

BATCH_BYTES_MAX: Final = 4_194_304
"""Most bytes of a batch that a peer takes at all."""

BATCH_FRAMES_MAX: Final = 1_024
"""Most frames of a batch: a mirror can then tell a torn tail from damage (spec/formats.md 7.9)."""

BATCH_LABEL: Final = b"ledger/segment/v1\x00"
"""What a region signs begins with this, so that no other signature of the key is a batch's."""

RETRY_MS: Final = 100
"""Wait after the first failure in a row; each further one doubles it."""

RETRY_MS_MAX: Final = 5_000
"""Longest wait between two attempts: a peer that returns is met within this time."""

HEARTBEAT_MS: Final = 1_000
"""An idle stream asks the peer this often, so that the peer can tell silence from death."""

_MS: Final = 1_000_000


class Mark(NamedTuple):
    """A prefix of a stream: it ends in one segment, at one byte, after one frame."""

    first_seq: int
    offset: int
    seq: int
    sealed: bool

    @property
    def progress(self) -> tuple[int, bool]:
        """Order marks of one stream."""
        return (self.seq, self.sealed)

    @property
    def next(self) -> tuple[int, int]:
        """Name the segment and the byte at which the rest of the stream begins."""
        return (self.seq + 1, 0) if self.sealed else (self.first_seq, self.offset)


NOTHING: Final = Mark(0, 0, 0, True)
"""The empty prefix."""


def batch_message(
    region: str, placement: str, region_epoch: int, first_seq: int, offset: int, body: bytes
) -> bytes:
    """Write what a region signs of a batch (spec/shipping.md 3.2)."""
    place = f"{region}/{placement}/{region_epoch}/{first_seq}/{offset}\n"
    return BATCH_LABEL + sha256(place.encode() + body).digest()


def signature_holds(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Check a region's signature."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


# --- a log that has lost its tail -----------------------------------------------------------


class TailHeld(NamedTuple):
    """What a peer holds of our log, and the region epoch under which that was written last."""

    seq: int
    peer: str
    region_epoch: int


class LostTail(NamedTuple):
    """What our log has lost: who gives it back, and the region epoch under which it goes on."""

    source: str
    region_epoch: int


def lost_tail(last_seq: int, held: Sequence[TailHeld]) -> LostTail | None:
    """Say what a log that ends at `last_seq` has lost, if peers hold more (spec/shipping.md 10.5).

    What was lost may have been acknowledged, and shipped to nobody: its numbers are given again,
    under an epoch of their own, so that no watermark ever covers what is gone.
    """
    longest = max(held, default=None)
    if longest is None or longest.seq <= last_seq:
        return None
    return LostTail(longest.peer, max(one.region_epoch for one in held) + 1)


# --- events --------------------------------------------------------------------------------


class TailGrown(NamedTuple):
    """The open segment is durable up to `offset`; its last frame there is `seq`."""

    first_seq: int
    offset: int
    seq: int


class SegmentSealed(NamedTuple):
    """A segment is closed for good, with `size` bytes and `seq` as its last frame."""

    first_seq: int
    size: int
    seq: int


class PeerHolds(NamedTuple):
    """The answer to `AskPeer`: how much of the stream the peer has, and what it is fenced at."""

    token: int
    mark: Mark
    fenced_epoch: int = 0


class PeerAcked(NamedTuple):
    """The answer to `Send`: the batch is durable there up to `mark`.

    `displaced` are the numbers of those of its frames that lost against another first write.
    """

    token: int
    mark: Mark
    displaced: tuple[int, ...] = ()


class PeerFailed(NamedTuple):
    """`Send` or `AskPeer` came to nothing. `fault` is one of spec/shipping.md 4."""

    token: int
    fault: str
    message: str = ""
    holds: Mark | None = None
    fenced_epoch: int = 0


class TimerFired(NamedTuple):
    """The time of a `SetTimer` has come."""

    token: int


class EpochAdopted(NamedTuple):
    """Our region has a higher region epoch now, and it is durable."""

    region_epoch: int


# --- effects -------------------------------------------------------------------------------


class Send(NamedTuple):
    """Send the durable bytes from `offset` on, at most up to `until`, cut at a whole frame.

    `seq` is the last frame before them.
    """

    token: int
    region_epoch: int
    first_seq: int
    offset: int
    until: int
    seq: int


class AskPeer(NamedTuple):
    """Ask the peer what it holds; this also tells it that we live, and how far we are."""

    token: int
    tail_seq: int


class SetTimer(NamedTuple):
    """Say `TimerFired(token)` at this time."""

    token: int
    at_ns: int


class PersistWatermark(NamedTuple):
    """Keep what the peer has acknowledged, at leisure: a start asks the peer as well."""

    mark: Mark


class Acknowledged(NamedTuple):
    """Tell whoever waits: the peer holds every frame up to `seq`."""

    seq: int
    displaced: tuple[int, ...]


class RaiseAlarm(NamedTuple):
    """Tell the operator. `code` is one of spec/shipping.md 9; a fence names its epoch."""

    code: str
    message: str
    fenced_epoch: int = 0


Effect = Send | AskPeer | SetTimer | PersistWatermark | Acknowledged | RaiseAlarm

FENCED: Final = "fenced"
FORK: Final = "fork"
GAP: Final = "gap"

ALARMING: Final = frozenset(
    {FORK, "forbidden", "frame_refused", "hlc_ahead", "local_unreadable", "signature_invalid"}
)
"""Faults that an operator hears of once until the stream moves on; the others are weather."""


@dataclass(slots=True)
class _Segment:
    """What is durable of one of our segments."""

    size: int
    seq: int
    sealed: bool


class Shipper:
    """Ship one stream to one peer. State is plain data; `on_event` is the only entry."""

    def __init__(self, *, region_epoch: int, acked: Mark = NOTHING) -> None:
        self._region_epoch = region_epoch
        self._segments: dict[int, _Segment] = {}
        self._tail = NOTHING
        self._acked = acked
        self._at: Mark | None = None
        """Where the next batch begins; None until the peer has said what it holds."""
        self._tokens = 0
        self._awaiting: Send | AskPeer | None = None
        self._timer: tuple[int, bool] | None = None
        """Token, and whether it ends a wait (True) or only makes an idle stream speak."""
        self._failures = 0
        self._alarmed: set[str] = set()
        self.stopped: str | None = None
        """Why nothing is sent any more, or None."""
        self._handlers: dict[type, Callable[[Any, int], list[Effect]]] = {
            TailGrown: self._on_tail,
            SegmentSealed: self._on_sealed,
            PeerHolds: self._on_holds,
            PeerAcked: self._on_acked,
            PeerFailed: self._on_failed,
            TimerFired: self._on_timer,
            EpochAdopted: self._on_epoch,
        }

    def on_event(self, event: object, now_ns: int) -> list[Effect]:
        """Take one event at Unix time `now_ns`; give what must be carried out, in order."""
        return self._handlers[type(event)](event, now_ns)

    @property
    def acked(self) -> Mark:
        """Say what the peer has acknowledged."""
        return self._acked

    @property
    def tail(self) -> Mark:
        """Say what is durable here."""
        return self._tail

    @property
    def state(self) -> str:
        """Say in one word what the stream does."""
        if self.stopped is not None:
            return "stopped"
        if isinstance(self._awaiting, Send):
            return "sending"
        return "waiting" if self._failures else "idle"

    # --- our log grows

    def _on_tail(self, event: TailGrown, now_ns: int) -> list[Effect]:
        self._segments[event.first_seq] = _Segment(event.offset, event.seq, sealed=False)
        self._tail = Mark(event.first_seq, event.offset, event.seq, sealed=False)
        return self._go_on(now_ns)

    def _on_sealed(self, event: SegmentSealed, now_ns: int) -> list[Effect]:
        self._segments[event.first_seq] = _Segment(event.size, event.seq, sealed=True)
        self._tail = Mark(event.first_seq, event.size, event.seq, sealed=True)
        return self._go_on(now_ns)

    # --- the peer speaks

    def _on_holds(self, event: PeerHolds, now_ns: int) -> list[Effect]:
        if not self._is_awaited(event.token):
            return []
        self._awaiting = None
        if event.fenced_epoch > self._region_epoch:
            return self._stop_fenced(event.fenced_epoch)
        self._failures = 0
        return self._take_position(event.mark, now_ns)

    def _take_position(self, mark: Mark, now_ns: int) -> list[Effect]:
        """Go on from what the peer holds, if it is a prefix of ours."""
        if mark.progress > self._tail.progress:
            text = f"the peer holds number {mark.seq}, our log ends at {self._tail.seq}"
            return self._stop("local_log_lost", text)
        if not self._is_ours(mark):
            return self._stop(FORK, f"the peer ends at {mark}, where no frame of ours ends")
        effects: list[Effect] = []
        if mark.progress < self._acked.progress:
            text = f"the peer has acknowledged number {self._acked.seq} and holds {mark.seq}"
            effects.append(RaiseAlarm("peer_log_lost", text))
            self._at = mark
        elif self._at is None and self._acked != NOTHING and self._is_ours(self._acked):
            # What came after the last watermark we kept goes again: its acknowledgement says
            # which frames lost against another first write, and what is held does not.
            self._at = self._acked
        else:
            self._at = mark
            effects += self._advance(mark, ())
        if mark.progress >= self._acked.progress and not effects:
            # Also where nothing moved: that the peer has spoken is news after a start, and to
            # whoever asks whether it is still there.
            effects.append(Acknowledged(self._acked.seq, ()))
        return effects + self._go_on(now_ns)

    def _is_ours(self, mark: Mark) -> bool:
        if mark == NOTHING:
            return True
        segment = self._segments.get(mark.first_seq)
        if segment is None or mark.offset > segment.size or mark.seq > segment.seq:
            return False
        at_end = mark.offset == segment.size
        return mark.sealed == (segment.sealed and at_end) and (
            not at_end or mark.seq == segment.seq
        )

    def _on_acked(self, event: PeerAcked, now_ns: int) -> list[Effect]:
        sent = self._awaiting
        if not isinstance(sent, Send) or sent.token != event.token:
            return []  # of an attempt that was given up: the one that followed it is awaited
        mark = event.mark
        self._awaiting = None
        if (
            mark.first_seq != sent.first_seq
            or not sent.offset < mark.offset <= sent.until
            or not self._is_ours(mark)
        ):
            failed = PeerFailed(event.token, FORK, f"it acknowledged {mark} of {sent}")
            return self._fail(failed, now_ns)
        self._failures = 0
        self._alarmed.clear()
        self._at = mark
        return self._advance(mark, event.displaced) + self._go_on(now_ns)

    def _advance(self, mark: Mark, displaced: tuple[int, ...]) -> list[Effect]:
        """Move the watermark; it never moves back."""
        effects: list[Effect] = []
        if mark.progress > self._acked.progress:
            self._acked = mark
            effects.append(PersistWatermark(mark))
            effects.append(Acknowledged(mark.seq, displaced))
        elif displaced:
            effects.append(Acknowledged(self._acked.seq, displaced))
        return effects

    def _on_failed(self, event: PeerFailed, now_ns: int) -> list[Effect]:
        if not self._is_awaited(event.token):
            return []
        self._awaiting = None
        if event.fault == FENCED and event.fenced_epoch > self._region_epoch:
            return self._stop_fenced(event.fenced_epoch)
        if event.fault == GAP and event.holds is not None and event.holds != self._at:
            return self._take_position(event.holds, now_ns)
        return self._fail(event, now_ns)

    def _fail(self, event: PeerFailed, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        if event.fault in ALARMING and event.fault not in self._alarmed:
            self._alarmed.add(event.fault)
            effects.append(RaiseAlarm(event.fault, event.message))
        wait_ms = min(RETRY_MS << min(self._failures, 16), RETRY_MS_MAX)
        self._failures += 1
        return [*effects, self._set_timer(now_ns + wait_ms * _MS, wait=True)]

    def _on_timer(self, event: TimerFired, now_ns: int) -> list[Effect]:
        if self._timer is None or self._timer[0] != event.token:
            return []
        waited = self._timer[1]
        self._timer = None
        if waited:
            return self._go_on(now_ns)
        return [self._ask()]

    def _on_epoch(self, event: EpochAdopted, now_ns: int) -> list[Effect]:
        self._region_epoch = max(self._region_epoch, event.region_epoch)
        if self.stopped == FENCED:
            self.stopped = None
            self._at = None
        return self._go_on(now_ns)

    # --- what follows

    def _go_on(self, now_ns: int) -> list[Effect]:
        """Send, ask or rest: whatever is next, if nothing is under way and no wait runs."""
        waits = self._timer is not None and self._timer[1]
        if self.stopped is not None or self._awaiting is not None or waits:
            return []
        if self._at is None:
            self._timer = None
            return [self._ask()]
        if self._at.progress >= self._tail.progress:
            if self._timer is not None:
                return []
            return [self._set_timer(now_ns + HEARTBEAT_MS * _MS, wait=False)]
        self._timer = None
        first_seq, offset = self._at.next
        segment = self._segments.get(first_seq)
        if segment is None:
            return self._stop(GAP, f"number {first_seq} begins no segment of our log")
        self._awaiting = Send(
            self._token(), self._region_epoch, first_seq, offset, segment.size, self._at.seq
        )
        return [self._awaiting]

    def _ask(self) -> AskPeer:
        self._awaiting = ask = AskPeer(self._token(), self._tail.seq)
        return ask

    def _set_timer(self, at_ns: int, *, wait: bool) -> SetTimer:
        self._timer = (self._token(), wait)
        return SetTimer(self._timer[0], at_ns)

    def _token(self) -> int:
        self._tokens += 1
        return self._tokens

    def _is_awaited(self, token: int) -> bool:
        return self._awaiting is not None and self._awaiting.token == token

    def _stop(self, code: str, message: str, fenced_epoch: int = 0) -> list[Effect]:
        self.stopped = code
        self._timer = None
        return [RaiseAlarm(code, message, fenced_epoch)]

    def _stop_fenced(self, fenced_epoch: int) -> list[Effect]:
        text = f"the peer takes nothing below region epoch {fenced_epoch}"
        return self._stop(FENCED, f"{text}; ours is {self._region_epoch}", fenced_epoch)
