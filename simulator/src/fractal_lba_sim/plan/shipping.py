"""How the log of a region gets to a peer: over a link batch by batch, or as objects.

The invariant of this file: what a peer holds is a prefix of the log, and the watermark is what it
has acknowledged. Over links the server's own machine (`core.replication.Shipper`) decides what is
sent next; here it meets delays and cuts. While nothing is wrong and nothing is about to be, a
stream sleeps: how far behind its peer is then follows from its rhythm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fractal_lba_server.core import replication
from fractal_lba_server.core.replication import (
    AskPeer,
    Mark,
    PeerAcked,
    PeerHolds,
    Send,
    SetTimer,
    Shipper,
    TailGrown,
    TimerFired,
)

from ..waiting import NS_PER_MS, NS_PER_S, Agenda, Moment
from .logs import OPEN_END, Log
from .net import Net
from .setup import Setup, ns

FIRST_SEQ: Final = 1
"""To the machine a log is one open segment: only sizes matter here."""

CYCLES_AWAKE: Final = 8
"""A stream wakes up so many of its rhythms before anything is to happen."""

CYCLES_ASLEEP_MIN: Final = 32
"""A shorter sleep is not worth it."""


CATCH_UP_PARTS: Final = 16
"""While a peer is far behind this part of what it lacks is played as one batch."""


class Watch(Protocol):
    """What a stream asks of the run around it."""

    def alive(self, region: str) -> bool:
        """Say whether a region's process runs."""
        ...

    def next_moment_ns(self) -> int:
        """Give the next moment at which something is to happen."""
        ...

    def is_awaited(self, held_ns: int) -> bool:
        """Say whether somebody waits until more than that is held."""
        ...

    def replicated(self, log: Log, peer: str, at_ns: int) -> None:
        """Hear that the origin knows its peer to hold the log up to a moment of it."""
        ...


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What a stream does while nothing is wrong."""

    interval_ns: int
    phase_ns: int
    behind_ns: int
    """From the closing of a batch until the peer holds it."""

    def held_ns(self, now_ns: int) -> int:
        """Give up to which moment the peer holds the log."""
        known_ns = now_ns - self.behind_ns
        if not self.interval_ns:
            return known_ns
        return self.phase_ns + (known_ns - self.phase_ns) // self.interval_ns * self.interval_ns

    def wait_ns(self, back_ns: int) -> int:
        """Give how long it takes until a record is known to be there, in the mean."""
        return self.lag_ns(0.5, back_ns)

    def lag_ns(self, u: float, back_ns: int) -> int:
        """Give how long a record takes that waits a share `u` of the rhythm for its batch."""
        trip_ns = self.behind_ns + back_ns
        return int(u * (self.interval_ns or trip_ns)) + trip_ns

    @property
    def cycle_ns(self) -> int:
        """Give how long it takes until all has been seen once."""
        return self.interval_ns + 2 * self.behind_ns


class Stream:
    """One log on its way to one peer."""

    def __init__(
        self, setup: Setup, agenda: Agenda, net: Net, watch: Watch, log: Log, peer: str
    ) -> None:
        self._setup, self._agenda, self._net, self._watch = setup, agenda, net, watch
        self.log, self.peer = log, peer
        self._held_ns = -1
        self._asleep = False
        self._alarm: Moment | None = None
        """Ends the sleep."""
        self._clock: Moment | None = None
        """Closes the next batch."""
        self._life = 0
        """Counts the times that it began: what was under way before comes to nothing."""
        self.is_begun = False
        self.ahead_ns = 0
        """How far the stamps of the log are ahead of what its peer takes."""
        self.batches = 0
        self._name = ("ship", str(setup.rank(log.region)), str(setup.rank(peer)), log.placement)
        self._phase = setup.streams.of(*self._name, "phase").random()
        self._begin_anew()
        self.rhythm = self._rhythm()
        self.history: list[tuple[int, int, bool]] = []
        """When the peer held the log up to which moment; whether it had slept until then."""

    def _begin_anew(self) -> None:
        """Have what is drawn from now on depend on what is to come next alone."""
        mark = repr(self._watch.next_moment_ns() / self._setup.load_end_ns)
        streams = self._setup.streams.anew()
        self._uploads = streams.of(*self._name, "upload", mark)
        self._transfers = streams.of(*self._name, "transfer", mark)
        self._net.begin_anew(self.log.region, self.peer, mark)

    def _rhythm(self) -> Rhythm:
        shipping, wire = self._setup.shipping, self._net.wire(self.log.region, self.peer)
        rate = self._rate()
        interval_ns = shipping.interval_ns
        if shipping.by_objects and not (interval_ns or shipping.segment_bytes):
            interval_ns = NS_PER_S  # without an age or a size a segment is closed each second
        if shipping.segment_bytes and rate:
            full_ns = ns(shipping.segment_bytes / (rate * self._setup.record_bytes))
            interval_ns = min(interval_ns or full_ns, full_ns)
        behind_ns = wire.delay_ns + wire.jitter_ns + ns(shipping.upload.mean)
        behind_ns += ns(shipping.transfer.mean)
        cycle_ns = interval_ns or 2 * behind_ns
        if wire.bytes_per_s:
            size = rate * cycle_ns / NS_PER_S * self._setup.record_bytes
            behind_ns += ns(size / wire.bytes_per_s)
        return Rhythm(interval_ns, int(self._phase * interval_ns), behind_ns)

    def _rate(self) -> float:
        """Give how many records a second the log grows by."""
        open_ = [part for part in self.log.live if part.end == OPEN_END]
        return sum(part.source.rate_per_s for part in open_)

    # --- what others ask

    def held_ns(self) -> int:
        """Give up to which moment of the log the peer holds it now."""
        if self._asleep:
            return max(self._held_ns, self.rhythm.held_ns(self._agenda.now_ns))
        return self._held_ns

    def held_ns_at_rest(
        self, alive: Callable[[str], bool], both: Callable[[str, str], bool]
    ) -> int:
        """Give the same, and after the load until when nothing is missing, if all is well.

        Rivals get their places in a log when the run is over: no batch of theirs is played.
        """
        held_ns, now_ns, region = self.held_ns(), self._agenda.now_ns, self.log.region
        rest_ns = now_ns - 2 * self.rhythm.cycle_ns
        if held_ns >= rest_ns or rest_ns <= self._setup.load_end_ns:
            return held_ns
        if not (alive(region) and alive(self.peer) and both(region, self.peer)):
            return held_ns
        return rest_ns if self.log.count(held_ns) == self.log.count(now_ns) else held_ns

    @property
    def asleep(self) -> bool:
        """Say whether it is not played now."""
        return self._asleep

    def look(self) -> None:
        """Take note that something has changed."""
        if self._asleep:
            self._wake()

    def more(self) -> None:
        """Take note that the log goes on."""

    def lift(self, until_ns: int) -> None:
        """Have the peer hold more: it has fetched it elsewhere."""
        self._held_ns = max(self.held_ns(), until_ns)

    def forget(self, until_ns: int) -> None:
        """Have the peer hold less: its disk has lost it."""
        self._held_ns = min(self.held_ns(), until_ns)
        if self._asleep:
            self._asleep = False
            self._stop_alarm()
        if self.is_begun and self._watch.alive(self.log.region):
            self._begin()

    def start(self) -> None:
        """Begin, with nothing shipped; asleep if nothing is to happen soon."""
        self.is_begun = True
        self._begin()

    def held(self, *, slept: bool = False) -> None:
        """Note what the peer holds now."""
        if not self.history or self.history[-1][1] < self._held_ns:
            self.history.append((self._agenda.now_ns, self._held_ns, slept))

    def known_at(self, at_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give when the peer held what became durable at moments."""
        if self._asleep:
            self._held_ns = self.held_ns()
            self.held(slept=True)
        if not self.history:
            return np.full(at_ns.shape, OPEN_END >> 1)
        when = np.array([row[0] for row in self.history] + [OPEN_END >> 1])
        upto = np.array([row[1] for row in self.history])
        slept = np.array([row[2] for row in self.history] + [False])
        place = np.searchsorted(upto, at_ns, side="left")
        closed = at_ns
        if self.rhythm.interval_ns:
            interval_ns, phase_ns = self.rhythm.interval_ns, self.rhythm.phase_ns
            closed = phase_ns - (phase_ns - at_ns) // interval_ns * interval_ns
        usual = np.minimum(closed + self.rhythm.behind_ns, when[place])
        return np.where(slept[place], usual, when[place])

    # --- sleep

    def _rest(self) -> bool:
        """Sleep, if all is well for long enough; tell whether."""
        now_ns = self._agenda.now_ns
        self.rhythm = self._rhythm()
        guard_ns = CYCLES_AWAKE * self.rhythm.cycle_ns
        until_ns = self._watch.next_moment_ns() - guard_ns
        if until_ns - now_ns < CYCLES_ASLEEP_MIN * self.rhythm.cycle_ns:
            return False
        if self._is_behind(now_ns) or self._is_busy() or self._watch.is_awaited(self._held_ns):
            return False
        self._asleep = True
        self._drop()
        if not self.rhythm.interval_ns:
            mark = repr(self._watch.next_moment_ns() / self._setup.load_end_ns)
            wakes = self._setup.streams.anew().of(*self._name, "wakes", mark)
            until_ns += int(wakes.random() * self.rhythm.cycle_ns)
        self._alarm = self._agenda.at(until_ns, self._wake)
        return True

    def _is_behind(self, now_ns: int) -> bool:
        return now_ns - self._held_ns > 2 * self.rhythm.cycle_ns

    def _is_busy(self) -> bool:
        """Say whether link or batches are used so much that a queue has a memory."""
        wire = self._net.wire(self.log.region, self.peer)
        load = self._rate() * self._setup.record_bytes
        if wire.bytes_per_s is not None and load > BUSY_SHARE * wire.bytes_per_s:
            return True
        if load > BUSY_SHARE * self._capacity():
            return True
        bound_ms = self._setup.rpo_ms
        return bound_ms is not None and self.rhythm.cycle_ns > bound_ms * NS_PER_MS // 2

    def _capacity(self) -> float:
        """Give the bytes a second that batches one after the other carry at most."""
        return float("inf")

    def _wake(self) -> None:
        self._held_ns = self.held_ns()
        self.held(slept=True)
        self._watch.replicated(self.log, self.peer, self._held_ns)
        self._asleep = False
        self._begin_anew()
        self._stop_alarm()
        self._begin()

    # --- what a way of shipping does

    def _begin(self) -> None:
        """Go on from what the peer holds, in the rhythm of the link as it is now."""
        self.rhythm = self._rhythm()
        self._drop()

    def stop(self) -> None:
        """Forget what was under way: the origin is dead."""
        self._held_ns = self.held_ns()
        self.held(slept=self._asleep)
        self._asleep = False
        self._stop_alarm()
        self._drop()

    def _drop(self) -> None:
        """Have what is under way come to nothing, and close no batch."""
        self._life += 1
        self._stop_clock()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _sample_ns(self) -> int:
        """Draw the upload and the transfer of a batch."""
        shipping = self._setup.shipping
        upload_ns = ns(shipping.upload.sample(self._uploads))
        return upload_ns + ns(shipping.transfer.sample(self._transfers)) + self.ahead_ns

    def _next_close_ns(self, now_ns: int) -> int:
        """Give the next moment of the grid after now."""
        interval_ns, phase_ns = self.rhythm.interval_ns, self.rhythm.phase_ns
        return phase_ns + ((now_ns - phase_ns) // interval_ns + 1) * interval_ns


BUSY_SHARE: Final = 0.5
"""A link that is used more than this keeps a queue that a sleep would lose."""


class LinkStream(Stream):
    """Batches over a link, one at a time, by the server's own machine."""

    _shipper: Shipper
    _tail_ns = _tail_seq = _held_seq = 0

    def _begin(self) -> None:
        super()._begin()
        self._tail_ns = self._held_ns
        self._held_seq = self._tail_seq = self.log.about(self._held_ns) if self._held_ns >= 0 else 0
        self._shipper = Shipper(
            region_epoch=self.log.region_epoch, acked=self._mark(self._held_seq)
        )
        # The machine asks its peer first; the peer says what we know.
        effects = self._grow(self._held_ns)
        if not self.rhythm.interval_ns:
            effects += self._grow(self._agenda.now_ns, at_least=1)
        self._carry_out(effects)
        self._tick()

    def more(self) -> None:
        """Take note that the log goes on: an idle stream may have records again, or sooner."""
        if self._asleep or self.rhythm.interval_ns or self._shipper.state != "idle":
            return
        self._stop_clock()
        self._tick()

    def _mark(self, seq: int) -> Mark:
        if not seq:
            return replication.NOTHING
        return Mark(FIRST_SEQ, seq * self._setup.record_bytes, seq, sealed=False)

    def _grow(self, at_ns: int, *, at_least: int = 0) -> list[replication.Effect]:
        """Tell the machine how far the log is durable; a size once told is never taken back.

        `at_least` so many records are new, however few are nearly counted.
        """
        self._tail_ns = max(self._tail_ns, at_ns)
        if self._tail_ns >= 0:
            about = self.log.about(self._tail_ns)
            self._tail_seq = max(self._tail_seq + at_least, about)
        if not self._tail_seq:
            return []
        tail = TailGrown(FIRST_SEQ, self._tail_seq * self._setup.record_bytes, self._tail_seq)
        return self._shipper.on_event(tail, self._agenda.now_ns)

    def _tick(self) -> None:
        """Close a batch each interval, or when the next record is durable."""
        now_ns = self._agenda.now_ns
        if self.rhythm.interval_ns:
            at_ns: int | None = self._next_close_ns(now_ns)
        else:
            at_ns = self.log.next_durable(max(self._held_ns, 0))
        if at_ns is not None:
            self._clock = self._agenda.at(max(at_ns, now_ns + 1), self._closes)

    def _closes(self) -> None:
        self._clock = None
        if self.rhythm.interval_ns:
            self._carry_out(self._grow(self._agenda.now_ns, at_least=1))
            self._tick()
        elif self._shipper.state == "idle":
            self._carry_out(self._grow(self._agenda.now_ns, at_least=1))

    def _carry_out(self, effects: list[replication.Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect)
                case AskPeer():
                    trip_ns = self._net.round_trip_ns(self.log.region, self.peer)
                    arrive = self._guarded(self._asked, effect.token)
                    self._net.send(self.log.region, self.peer, 0, arrive, extra_ns=trip_ns // 2)
                case SetTimer() if self._shipper.state == "waiting":
                    self._agenda.at(effect.at_ns, self._guarded(self._fired, effect.token))
                case _:
                    pass  # what is acknowledged is in the watermark that came with it

    def _guarded(self, call: Callable[..., None], *args: object) -> Callable[[], None]:
        """Make a call that comes to nothing if the origin has died since."""
        life = self._life

        def made() -> None:
            if life == self._life:
                call(*args)

        return made

    def _asked(self, token: int) -> None:
        event = PeerHolds(token, self._mark(self._held_seq))
        self._carry_out(self._shipper.on_event(event, self._agenda.now_ns))

    def _fired(self, token: int) -> None:
        self._carry_out(self._shipper.on_event(TimerFired(token), self._agenda.now_ns))

    def _send(self, send: Send) -> None:
        """Carry a batch to the peer; what is too long for one goes with the next."""
        record, limit = self._setup.record_bytes, self._setup.shipping.batch_bytes
        frames = max(1, limit // record)
        together = self._together((send.until - send.offset) // record // frames)
        frames *= together
        seq, tail_ns = send.until // record, self._tail_ns
        if send.seq + frames < seq:
            # Numbers once told stay, what is nearly counted moves a little: both ends anew.
            low_ns = max(self._held_ns, 0)
            low, high = self.log.about(low_ns), self.log.about(tail_ns)
            tail_ns, about = self.log.moment_of(low + frames, (low_ns, low), (tail_ns, high))
            seq = min(seq, send.seq + max(about - low, 1))
        self.batches += together
        extra_ns = self._sample_ns() + (together - 1) * self._turn_ns()
        self._net.send(
            self.log.region, self.peer, (seq - send.seq) * record,
            self._guarded(self._arrived, send.token, tail_ns, seq), extra_ns=extra_ns,
        )  # fmt: skip

    def _turn_ns(self) -> int:
        """Give how long one batch and its acknowledgement take."""
        shipping = self._setup.shipping
        trip_ns = self._net.round_trip_ns(self.log.region, self.peer)
        return trip_ns + ns(shipping.upload.mean) + ns(shipping.transfer.mean)

    def _capacity(self) -> float:
        """Give the bytes a second that batches one after the other carry at most."""
        turn_ns = self._turn_ns()
        return self._setup.shipping.batch_bytes * NS_PER_S / turn_ns if turn_ns else float("inf")

    def _together(self, batches: int) -> int:
        """Say how many batches are played as one, where a peer that is far behind catches up.

        Only as many as are over before anything is to happen, and always a small part of all.
        """
        room_ns = self._watch.next_moment_ns() - self._agenda.now_ns
        return max(1, min(batches // CATCH_UP_PARTS, room_ns // max(1, 2 * self._turn_ns())))

    def _arrived(self, token: int, tail_ns: int, seq: int) -> None:
        if not self._watch.alive(self.peer):
            retry_ns = self._setup.shipping.retry_ns
            self._agenda.after(retry_ns, self._guarded(self._arrived, token, tail_ns, seq))
            return
        self._held_ns, self._held_seq = max(self._held_ns, tail_ns), max(self._held_seq, seq)
        self.held()
        acked = self._guarded(self._acked, token, tail_ns, seq)
        self._net.send(self.peer, self.log.region, 0, acked)

    def _acked(self, token: int, tail_ns: int, seq: int) -> None:
        self._watch.replicated(self.log, self.peer, tail_ns)
        if self._rest():
            return
        effects = [] if self.rhythm.interval_ns else self._grow(self._agenda.now_ns)
        effects += self._shipper.on_event(PeerAcked(token, self._mark(seq)), self._agenda.now_ns)
        self._carry_out(effects)
        if self._shipper.state == "idle" and self._clock is None:
            self._tick()
