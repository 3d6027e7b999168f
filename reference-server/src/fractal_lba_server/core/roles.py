"""Own what one region may do in a placement with one writer: write, stand by, take over, return.

The invariant of this file: a region writes under a region epoch only after it has persisted that
epoch, fenced the earlier ones, and holds every frame that any of enough fenced regions holds; and
a region that learns of a later epoch than its own stops before it does anything else, and stands
by only after all that it ever wrote has been merged by whoever writes now (spec/roles.md 4, 5).

The machine is driven by a tick each second, by the arbiter's answers and by those of its peers.
Effects are carried out in their order; one that fails ends the machine, as a crash would.
"""

# tidy: long because the machine and the values it speaks in are read together

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from .health import NS_PER_MS
from .lease import (
    FIRST_EPOCH,
    Answer,
    Granted,
    Holder,
    NotLeader,
    NotYet,
    Promoted,
    Terms,
)
from .regions import REGIONS_MAX, Placement

WRITER: Final = "writer"
STANDBY: Final = "standby"
PROMOTING: Final = "promoting"
DRAINING: Final = "draining"
FENCED: Final = "fenced"
RETURNING: Final = "returning"
KEPT_ROLES: Final = frozenset({WRITER, STANDBY, PROMOTING, FENCED, RETURNING})

FENCE: Final = "fence"
LEARN: Final = "learn"
OPEN: Final = "open"
ROUTE: Final = "route"
STEPS: Final = (FENCE, LEARN, OPEN, ROUTE)

HAND_OVER_MS: Final = 10_000
"""A planned hand-over that takes longer is given up, and the old writer goes on."""

HAND_OVER_FRAMES_MAX: Final = 10_000
"""A standby that lacks more frames than this has not caught up, and is handed nothing."""

FOR_EVER_NS: Final = (1 << 63) - 1
"""The end of the right to write where no arbiter grants leases."""


class Kept(NamedTuple):
    """What outlasts a crash of the region."""

    role: str
    region_epoch: int
    leader: str | None = None
    step: str = ""
    old_is_stopped: bool = False
    """The operator's word, where there is no arbiter, that regions without an answer do not run."""


# --- events --------------------------------------------------------------------------------


class View(NamedTuple):
    """What is here of the streams of the placement, by region, as highest numbers."""

    merged: Mapping[str, int]
    """In the index; our own stream included."""
    stored: Mapping[str, int]
    """Durable here: what peers may have been told, or will be, that we hold."""
    acked: Mapping[str, int]
    """Of our own stream, by peer: what the peer has merged."""
    in_flight: int = 0
    """Requests of ours that have no answer yet."""


class Tick(NamedTuple):
    """Time has passed."""

    view: View


class ArbiterSaid(NamedTuple):
    """The answer to `AskArbiter` with this number."""

    number: int
    answer: Answer


class PeerSaid(NamedTuple):
    """A peer's answer to `AskPeer`: durable, and read after it had refused earlier epochs."""

    peer: str
    role: str
    region_epoch: int
    leader: str | None
    """Whom it follows at this epoch: one candidate alone."""
    stored: Mapping[str, int]


class LaterEpoch(NamedTuple):
    """A peer refused or fenced us: it knows this epoch, and perhaps who leads."""

    region_epoch: int
    leader: str | None = None


class Promote(NamedTuple):
    """An operator promotes us, where no arbiter does it."""

    seen_epoch: int
    old_is_stopped: bool


class HandOver(NamedTuple):
    """An operator wants another region to write."""

    to: str


class HandOverFailed(NamedTuple):
    """The `GiveTo` was not carried out, as far as is known."""


# --- effects -------------------------------------------------------------------------------


class Persist(NamedTuple):
    """Make this durable before the next effect."""

    kept: Kept


class Say(NamedTuple):
    """Tell the ingest machine who may write, and wait until it has taken it."""

    until_ns: int
    region_epoch: int
    leader: str | None = None
    taking_over: bool = False
    """Whether we alone may be next: whoever comes to us is right, but early."""


class Fence(NamedTuple):
    """Refuse the batches of these regions below this epoch, durably."""

    regions: tuple[str, ...]
    region_epoch: int


class Adopt(NamedTuple):
    """Send our own batches under this epoch from now on."""

    region_epoch: int


class AskArbiter(NamedTuple):
    """Ask for a lease, or who has it."""

    number: int
    region_epoch: int


class AskPeer(NamedTuple):
    """Tell a peer our epoch and whom we follow; ask for the same, and for what it holds.

    A peer that knows an earlier epoch takes ours, and refuses earlier ones, before it answers.
    """

    peer: str
    region_epoch: int
    leader: str | None


class GiveTo(NamedTuple):
    """Release the lease of this epoch, with this number, then have this region promoted."""

    region: str
    region_epoch: int
    number: int


class Fetch(NamedTuple):
    """Bring our copy of this region's stream up to what the peer holds."""

    peer: str
    region: str


Effect = Fetch | Persist | Say | Fence | Adopt | AskArbiter | AskPeer | GiveTo


class RefusedError(Exception):
    """An operator's wish that cannot be carried out; the text says why."""


# --- the machine ---------------------------------------------------------------------------


class Role:
    """One region in one placement. `on_event` is the way in; `now_ns` never goes back."""

    def __init__(
        self,
        placement: Placement,
        region: str,
        *,
        kept: Kept | None,
        terms: Terms,
        has_arbiter: bool,
        rank: int,
    ) -> None:
        self.placement = placement
        self._me = region
        self._others = tuple(code for code in placement.regions if code != region)
        self._has_arbiter = has_arbiter
        self._rank = rank
        self._holder = Holder(terms)
        first = WRITER if placement.primary == region else STANDBY
        self.kept = kept or Kept(first, FIRST_EPOCH, placement.primary)
        if self.kept.step == LEARN or (self.kept.step and not has_arbiter):
            # What the peers said is not kept, and while we were away nobody but an arbiter has
            # kept the placement from another.
            self.kept = self.kept._replace(step=FENCE, old_is_stopped=False)
        self._said: dict[str, PeerSaid] = {}
        self._view = View({}, {}, {})
        self._to: str | None = None
        self._deadline_ns = 0
        self._given = False
        self._confirmed = False
        self.reason = ""
        """Why it does not go on, for people; empty where nothing is the matter."""
        self._handlers: dict[type, Callable[[Any, int], Iterator[Effect]]] = {
            Tick: self._on_tick,
            ArbiterSaid: self._on_arbiter,
            PeerSaid: self._on_peer,
            LaterEpoch: self._on_later_epoch,
            Promote: self._on_promote,
            HandOver: self._on_hand_over,
            HandOverFailed: self._on_hand_over_failed,
        }

    def start(self) -> list[Effect]:
        """Give what is to be done first: nobody writes before a lease says so."""
        kept = self.kept
        return [
            Persist(kept),
            Say(0, kept.region_epoch, self._elsewhere(), self._takes_over()),
            Fence(self._others, kept.region_epoch),
            Adopt(kept.region_epoch),
        ]

    def on_event(self, event: object, now_ns: int) -> list[Effect]:
        """Take one event; give what is to be carried out, in order. RefusedError: nothing is."""
        return list(self._handlers[type(event)](event, now_ns))

    @property
    def role(self) -> str:
        """Name what we are."""
        return DRAINING if self._to is not None else self.kept.role

    @property
    def peers(self) -> tuple[str, ...]:
        """Name the other regions of the placement."""
        return self._others

    def lease_left_ns(self, now_ns: int) -> int:
        """Give how long we may write yet."""
        return self._holder.left_ns(now_ns)

    # --- time

    def _on_tick(self, event: Tick, now_ns: int) -> Iterator[Effect]:
        self._view = event.view
        kept = self.kept
        if kept.role == PROMOTING and kept.step in {FENCE, LEARN}:
            yield from self._ask_peers()
            yield from self._go_on()
        elif kept.role == PROMOTING and kept.step == OPEN:
            yield from self._open()
        elif kept.role == RETURNING:
            yield from self._come_home()
        elif self._to is not None:
            yield from self._drain(self._to, now_ns)
        if self._has_arbiter and not self._given:
            yield AskArbiter(self._holder.send(now_ns), self._asked_epoch())
        elif not self._has_arbiter:
            yield from self._without_arbiter()

    def _ask_peers(self) -> Iterator[Effect]:
        for peer in self._others:
            yield AskPeer(peer, self.kept.region_epoch, self.follows)

    def _asked_epoch(self) -> int:
        """Name the epoch to ask for: not yet the new one before we are ready to serve."""
        kept = self.kept
        return kept.region_epoch - (kept.role == PROMOTING and kept.step != ROUTE)

    def _without_arbiter(self) -> Iterator[Effect]:
        kept = self.kept
        if kept.role == WRITER and self._confirmed and self._to is None:
            yield Say(FOR_EVER_NS, kept.region_epoch)
        elif kept.role != PROMOTING or kept.step == ROUTE:
            yield from self._ask_peers()
        if kept.role == PROMOTING and kept.step == ROUTE:
            yield from self._serve(FOR_EVER_NS)
            self._confirmed = True

    # --- promotion: fence, learn, open, route, serve

    def _begin(self, region_epoch: int, *, stopped: bool = False) -> Iterator[Effect]:
        self.kept = Kept(PROMOTING, region_epoch, None, FENCE, stopped)
        yield Persist(self.kept)
        yield Say(0, region_epoch, None, self._takes_over())
        yield Fence(self._others, region_epoch)
        yield from self._ask_peers()

    def _is_fenced(self) -> bool:
        """Tell whether no earlier writer gathers copies any more, and what it gathered is known.

        A replicated frame is in `copies` of the n regions, so that it is in one at least of any
        n - copies + 1; and of these none lets an earlier writer have another copy.
        """
        kept, regions = self.kept, self.placement.regions
        needed = len(regions) - self.placement.copies + 1
        followers = {
            peer for peer, said in self._said.items() if said.region_epoch >= kept.region_epoch
        }
        if not self._has_arbiter:
            # Of two operators who promote at once, one alone may find so many followers.
            needed = max(needed, len(self._others) // 2 + 1)
            followers = {peer for peer in followers if self._said[peer].leader == self._me}
            silent = sorted(set(self._others) - followers)
            if silent and not kept.old_is_stopped:
                self.reason = f"{', '.join(silent)} must follow, or be stopped: then say so"
                return False
        missing = needed - 1 - len(followers)
        self.reason = f"{missing} more regions must be fenced and read" if missing > 0 else ""
        return missing <= 0

    def _lacking(self) -> Fetch | None:
        """Name a region, perhaps ours, that has stored frames of a stream not merged here."""
        stored = {self._me: self._view.stored}
        stored |= {peer: said.stored for peer, said in self._said.items()}
        for holder, seqs in sorted(stored.items()):
            for region, seq in sorted(seqs.items()):
                if seq > self._view.merged.get(region, 0):
                    self.reason = f"{holder} holds {region} up to {seq}, which is not merged here"
                    return Fetch(holder, region)
        return None

    def _go_on(self) -> Iterator[Effect]:
        if self.kept.step == FENCE and self._is_fenced():
            self.kept = self.kept._replace(step=LEARN)
            yield Persist(self.kept)
        if self.kept.step == LEARN:
            lacking = self._lacking()
            if lacking is None:
                self.reason = ""
                self.kept = self.kept._replace(step=OPEN)
                yield Persist(self.kept)
                yield from self._open()
            elif self._me not in lacking:  # what others hold of our own stream comes at a start
                yield lacking

    def _open(self) -> Iterator[Effect]:
        yield Adopt(self.kept.region_epoch)
        self.kept = self.kept._replace(step=ROUTE)
        yield Persist(self.kept)

    def _serve(self, until_ns: int) -> Iterator[Effect]:
        self.kept = Kept(WRITER, self.kept.region_epoch, self._me)
        self.reason = ""
        yield Persist(self.kept)
        yield Say(until_ns, self.kept.region_epoch)

    # --- what the arbiter says

    def _on_arbiter(self, event: ArbiterSaid, now_ns: int) -> Iterator[Effect]:
        answer = event.answer
        match answer:
            case Granted():
                yield from self._granted(event.number, answer, now_ns)
            case Promoted():
                if answer.region_epoch > self.kept.region_epoch:
                    yield from self._promoted(answer.region_epoch)
            case NotLeader():
                yield from self._not_leader(answer.region_epoch, answer.leader)
            case NotYet():
                self.reason = f"an older lease lasts for {answer.wait_ms} ms yet"
            case _:
                self.reason = (
                    f"the arbiter is at region epoch {answer.region_epoch}, we are at "
                    f"{self.kept.region_epoch}: its state is an old copy; restore it, or promote a "
                    "region"
                )

    def _granted(self, number: int, answer: Granted, now_ns: int) -> Iterator[Effect]:
        kept = self.kept
        leads = kept.role == WRITER or (kept.role == PROMOTING and kept.step == ROUTE)
        if not leads or not self._holder.granted(number, answer, kept.region_epoch):
            return
        if not self._holder.left_ns(now_ns):
            return
        if kept.role == PROMOTING:
            yield from self._serve(self._holder.until_ns)
        elif self._to is None:
            self.reason = ""
            yield Say(self._holder.until_ns, kept.region_epoch)

    def _promoted(self, region_epoch: int) -> Iterator[Effect]:
        self._stop()
        yield from self._begin(region_epoch)

    def _not_leader(self, region_epoch: int, leader: str | None) -> Iterator[Effect]:
        kept = self.kept
        if region_epoch < kept.region_epoch:
            return  # an answer that was overtaken
        if leader == self._me:
            leader = None
        if region_epoch > kept.region_epoch or kept.role in {WRITER, PROMOTING}:
            yield from self._step_down(region_epoch, leader)
        elif leader != kept.leader and leader is not None:
            yield from self._follow(leader)

    def _step_down(self, region_epoch: int, leader: str | None) -> Iterator[Effect]:
        """Stop first; then keep it; only then let our batches pass the fences."""
        self._stop()
        yield Say(0, region_epoch, leader)
        role = STANDBY
        if self.kept.role != STANDBY:
            role = FENCED if leader is None else RETURNING
        self.kept = Kept(role, region_epoch, leader)
        yield Persist(self.kept)
        yield Fence(self._others, region_epoch)
        yield Adopt(region_epoch)

    def _follow(self, leader: str) -> Iterator[Effect]:
        role = RETURNING if self.kept.role == FENCED else self.kept.role
        self.kept = self.kept._replace(role=role, leader=leader)
        yield Persist(self.kept)
        yield Say(0, self.kept.region_epoch, leader)

    def _stop(self) -> None:
        self._holder.stop()
        self._said.clear()
        self._to = None
        self._given = self._confirmed = False
        self.reason = ""

    def _elsewhere(self) -> str | None:
        return self.kept.leader if self.kept.leader != self._me else None

    def _takes_over(self) -> bool:
        """Tell whether the next lease is ours alone; nobody but an arbiter sees to that."""
        return self._has_arbiter and self.kept.role == PROMOTING

    @property
    def follows(self) -> str | None:
        """Name whom we follow at our epoch: ourselves, where we lead or try to."""
        return self._me if self.kept.role in {WRITER, PROMOTING} else self.kept.leader

    # --- what peers say

    def _on_peer(self, event: PeerSaid, now_ns: int) -> Iterator[Effect]:
        kept = self.kept
        if event.region_epoch > kept.region_epoch:
            yield from self._not_leader(event.region_epoch, event.leader)
            return
        self._said[event.peer] = event
        if kept.role == PROMOTING:
            yield from self._go_on()
        elif kept.role == WRITER:
            # Every promotion has followers in all groups of so many peers; one would speak of it.
            needed = max(self.placement.copies - 1, 1)
            self._confirmed = self._confirmed or len(self._said) >= needed
        elif event.role == WRITER and event.region_epoch == kept.region_epoch:
            yield from self._not_leader(event.region_epoch, event.peer)

    def _on_later_epoch(self, event: LaterEpoch, now_ns: int) -> Iterator[Effect]:
        kept = self.kept
        if event.region_epoch > kept.region_epoch:
            yield from self._not_leader(event.region_epoch, event.leader)
        elif (
            event.region_epoch == kept.region_epoch
            and kept.role in {FENCED, STANDBY}
            and kept.leader is None
            and event.leader is not None
            and event.leader != self._me
        ):
            # A refused batch may have told us the epoch before the candidate could say whose it is.
            yield from self._follow(event.leader)

    # --- the way back

    def _come_home(self) -> Iterator[Effect]:
        """Stand by, once whoever writes has merged all that we ever wrote."""
        leader = self.kept.leader
        assert leader is not None
        own, merged = self._view.merged.get(self._me, 0), self._view.acked.get(leader, 0)
        if merged < own:
            self.reason = f"{leader} has merged our frames up to {merged} of {own}"
            return
        self.reason = ""
        self.kept = self.kept._replace(role=STANDBY)
        yield Persist(self.kept)

    # --- an operator

    def _on_promote(self, event: Promote, now_ns: int) -> Iterator[Effect]:
        kept = self.kept
        if self._has_arbiter:
            raise RefusedError("the arbiter promotes; ask it")
        if event.seen_epoch != kept.region_epoch:
            raise RefusedError(f"the region epoch is {kept.region_epoch} by now; look again")
        if kept.role == WRITER:
            raise RefusedError("this region writes already")
        self._stop()
        yield from self._begin(self._own_epoch(), stopped=event.old_is_stopped)

    def _own_epoch(self) -> int:
        """Give the next epoch that is ours alone: no arbiter keeps two from taking the same."""
        return (self.kept.region_epoch // REGIONS_MAX + 1) * REGIONS_MAX + self._rank

    def _on_hand_over(self, event: HandOver, now_ns: int) -> Iterator[Effect]:
        if self.role != WRITER:
            raise RefusedError(f"this region is {self.role}; ask the one that writes")
        if event.to not in self._others:
            raise RefusedError(f"{event.to} is not another region of the placement")
        lag = self._view.merged.get(self._me, 0) - self._view.acked.get(event.to, 0)
        if lag > HAND_OVER_FRAMES_MAX:
            raise RefusedError(f"{event.to} lacks {lag} frames; wait until it has caught up")
        self._to = event.to
        self._deadline_ns = now_ns + HAND_OVER_MS * NS_PER_MS
        yield Say(0, self.kept.region_epoch)

    def _drain(self, to: str, now_ns: int) -> Iterator[Effect]:
        view = self._view
        if now_ns >= self._deadline_ns:
            yield from self._on_hand_over_failed(HandOverFailed(), now_ns)
            self.reason = f"{to} did not catch up in time; the hand-over was given up"
        elif (
            not self._given
            and not view.in_flight
            and (view.acked.get(to, 0) >= view.merged.get(self._me, 0))
        ):
            self._given = True
            number = self._holder.send(now_ns)
            self._holder.stop()
            yield GiveTo(to, self.kept.region_epoch, number)

    def _on_hand_over_failed(self, event: HandOverFailed, now_ns: int) -> Iterator[Effect]:
        """Go on as before: the next lease, or the peers, say whether we still may."""
        self._to, self._given, self._confirmed = None, False, False
        self._said.clear()
        yield from ()
