"""A placement with one writer, as the server runs it: a role in each region, and the arbiter.

The invariant of this file: who writes is decided by `core.roles.Role`, one machine for each region;
what the arbiter answers by `core.lease`; what a record meets by `core.streams.Stream`. Here they
meet delays, cuts and deaths, in the order in which the server's role_keeper.py has them. A tick
that would change nothing is not played: a region sleeps until somebody says that something has
changed, and a lease that was renewed meanwhile is renewed once, for the last time that it was.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.health import successor
from fractal_lba_server.core.lease import Mark
from fractal_lba_server.core.regions import Placement
from fractal_lba_server.core.roles import FOR_EVER_NS, Kept, RefusedError, Role
from fractal_lba_server.core.streams import Refusal, Stream, StreamStart

from ..waiting import NS_PER_MS, Call, Moment
from .incidents import Incident
from .logs import Log
from .net import ARBITER
from .setup import ns

if TYPE_CHECKING:
    from .world import World

HASTY_NS: Final = 200 * NS_PER_MS
"""How often a region that is taking over or handing over goes on (role_keeper.py)."""

Known = tuple[Kept, str, str | None]
"""What a tick may change: what is kept, the role, and what a record meets."""


@dataclass(slots=True, eq=False)
class Desk:
    """One region in one placement: its role, and what its ingest machine was told."""

    region: str
    role: Role
    stream: Stream
    phase_ns: int
    """Of the grid of its ticks."""
    life: int = 0
    """Counts its processes."""
    runs: bool = True
    alive: bool = True
    """Runs, and is not paused."""
    reaches: bool = True
    """Whether it hears from the arbiter."""
    asleep: bool = False
    seen: Known | None = None
    """What the last tick found."""
    prepared: int = 0
    """The epoch that it has prepared to serve."""
    asked: int = 0
    """Questions to peers that have no answer yet."""
    fetching: set[str] = field(default_factory=set)
    clock: Moment | None = None


class RoleSeat:
    """One placement."""

    def __init__(self, world: World, placement: Placement) -> None:
        self._world, self.placement = world, placement
        setup = world.setup
        self._terms, self._has_arbiter = setup.terms, setup.has_arbiter
        self._renew_ns = setup.terms.renew_ms * NS_PER_MS
        assert placement.primary is not None  # setup.py names one
        self.founder = placement.primary
        self._row = lease.founded(placement.name, self.founder, 0, setup.terms)
        self._incident: Incident | None = None
        self._events: deque[tuple[Desk, object, int]] = deque()
        self._is_busy = self._is_begun = self._is_looking = self._is_changed = False
        self._desks = {code: self._desk(code) for code in placement.regions}

    def _desk(self, code: str) -> Desk:
        setup = self._world.setup
        mine = () if code == self.founder else (str(setup.rank(code)),)
        chance = setup.streams.of("lease", self.placement.name, "phase", *mine)
        phase_ns = int(chance.random() * self._renew_ns)
        return Desk(code, *self._machines(code, None), phase_ns)

    def _machines(self, code: str, kept: Kept | None) -> tuple[Role, Stream]:
        role = Role(
            self.placement, code, kept=kept, terms=self._terms, has_arbiter=self._has_arbiter,
            rank=self._world.setup.rank(code),
        )  # fmt: skip
        start = StreamStart(
            self.placement.name, region_epoch=role.kept.region_epoch, needs_lease=True
        )
        return role, Stream(code, start)

    def begin(self) -> None:
        """Have every region start; the run begins when the first lease is held."""
        for desk in self._desks.values():
            self._carry(desk, desk.role.start(), 0)
        for _ in range(STARTS):
            for desk in self._desks.values():
                self._feed(desk, roles.Tick(self._view(desk)), 0)
        for desk in self._desks.values():
            self._rest(desk)
        self._is_begun, self._is_changed = True, False

    # --- what others ask

    def refusal(self, region: str) -> Refusal | None:
        """Say why a region takes no record, or None."""
        return self._desks[region].stream.refusal(self._world.agenda.now_ns)

    def leads(self, region: str) -> bool:
        """Say whether a region takes itself for the writer, with a lease or without one."""
        desk = self._desks.get(region)
        return desk is not None and desk.role.kept.role == roles.WRITER

    @property
    def is_changing(self) -> bool:
        """Say whether somebody was promoted who does not write yet."""
        waits = self._has_arbiter and not self._row.lease.granted
        return waits or any(d.role.kept.role == roles.PROMOTING for d in self._desks.values())

    # --- what happens

    def look(self) -> None:
        """Take note that something has changed: a process, or who hears whom."""
        world, now_ns = self._world, self._world.agenda.now_ns
        self._is_looking = True
        for desk in self._desks.values():
            self._wake(desk)
            site, was, reached = world.sites[desk.region], desk.alive, desk.reaches
            desk.alive = world.alive(desk.region)
            desk.reaches = desk.alive and world.net.both(desk.region, ARBITER)
            if not site.alive:
                self._end(desk)
            elif desk.alive and not was:
                self._go_on(desk)
            if reached and not desk.reaches and self.leads(desk.region):
                left_ns = desk.role.lease_left_ns(now_ns)
                if left_ns:
                    world.agenda.after(left_ns, world.changed)
        self._is_looking = self._is_changed = False

    def _end(self, desk: Desk) -> None:
        if desk.runs:
            desk.runs, desk.life = False, desk.life + 1
            self._stop_clock(desk)

    def _go_on(self, desk: Desk) -> None:
        """Have a process tick at once: it was started again, or went on after a pause."""
        if not desk.runs:
            kept = None if self._world.has_lost_all(desk.region) else desk.role.kept
            desk.role, desk.stream = self._machines(desk.region, kept)
            desk.runs, desk.prepared, desk.asked = True, 0, 0
            desk.fetching.clear()
            self._carry(desk, desk.role.start(), self._world.agenda.now_ns)
        self._stop_clock(desk)
        self._tick(desk)

    def give_up(self, region: str, *, by_checkers: bool) -> None:
        """Have another region write what a region wrote; without an arbiter only people may."""
        world = self._world
        leads = self._row.lease.holder == region if self._has_arbiter else self.leads(region)
        if self.is_changing or not leads or (by_checkers and not self._has_arbiter):
            return
        verdict = world.checkers.verdict
        chosen = successor(self.placement.regions, region, verdict.get, world.alive)
        if chosen is not None:
            self.promote(chosen, world.incidents.about(region))

    def promote(self, region: str, incident: Incident | None, *, slips: bool = False) -> None:
        """Promote a region: the arbiter gives it the next epoch, or an operator tells it.

        Who `slips` says that all others are stopped, whether they are or not.
        """
        self._incident = incident
        if self._has_arbiter:
            for desk in self._desks.values():
                self._wake(desk)
            seen, now_ns = self._row.lease.region_epoch, self._world.agenda.now_ns
            self._row = lease.promote(self._row, region, seen, now_ns, self._terms).row
            return
        desk = self._desks[region]
        stopped = slips or not any(self._desks[code].runs for code in desk.role.peers)
        self._operate(desk, roles.Promote(desk.role.kept.region_epoch, stopped))

    def hand_over(self, region: str, incident: Incident | None) -> None:
        """Have the writer stop, and another region write once it holds everything."""
        self._incident = incident
        for desk in self._desks.values():
            if desk.alive and desk.role.role == roles.WRITER:
                self._operate(desk, roles.HandOver(region))
                return
        self._note("nobody writes who could hand over")

    def _operate(self, desk: Desk, event: object) -> bool:
        """Do what an operator wants, as the server does: with a tick before it. Tell whether."""
        if not desk.alive:
            self._note(f"{desk.region} does not answer")
            return False
        now_ns = self._world.agenda.now_ns
        self._wake(desk)
        self._feed(desk, roles.Tick(self._view(desk)), now_ns)
        try:
            self._feed(desk, event, now_ns)
        except RefusedError as error:
            self._note(str(error))
            return False
        return True

    def _note(self, said: str) -> None:
        self._world.events.note(self._world.agenda.now_ns, f"{self.placement.name}: {said}")

    # --- ticks

    def _wake(self, desk: Desk) -> None:
        """Tick again from the next moment of the grid on; what was slept through is made good."""
        desk.seen = None
        if not desk.asleep or not desk.alive:
            return
        desk.asleep = False
        now_ns = self._world.agenda.now_ns
        if self._is_renewing(desk):
            last_ns = now_ns - (now_ns - desk.phase_ns) % self._renew_ns
            self._feed(desk, roles.Tick(self._view(desk)), last_ns)
        self._plan(desk, (desk.phase_ns - now_ns) % self._renew_ns)

    def _is_renewing(self, desk: Desk) -> bool:
        return self._has_arbiter and desk.reaches and self.leads(desk.region)

    def _plan(self, desk: Desk, wait_ns: int) -> None:
        self._stop_clock(desk)
        agenda = self._world.agenda
        desk.phase_ns = (agenda.now_ns + wait_ns) % self._renew_ns
        desk.clock = agenda.after(wait_ns, self._tick, desk)

    def _stop_clock(self, desk: Desk) -> None:
        if desk.clock is not None:
            desk.clock.cancel()
            desk.clock = None

    def _tick(self, desk: Desk) -> None:
        desk.clock = None
        if not desk.alive:
            return
        now_ns, role = self._world.agenda.now_ns, desk.role
        if not self._has_arbiter and self._prepares(desk):
            return
        known = self._known(desk)
        if known == desk.seen and self._is_idle(desk):
            self._rest(desk)
            return
        desk.seen = known
        is_hasty = role.role in {roles.PROMOTING, roles.DRAINING}
        self._plan(desk, HASTY_NS if is_hasty else self._renew_ns)
        self._feed(desk, roles.Tick(self._view(desk)), now_ns)

    def _rest(self, desk: Desk) -> None:
        """Sleep; a lease that is renewed all the time has no end as long as nothing changes."""
        self._stop_clock(desk)
        desk.asleep = True
        if self._is_renewing(desk):
            desk.stream.lease(FOR_EVER_NS, desk.role.kept.region_epoch, None)

    def _known(self, desk: Desk) -> Known:
        refusal = self.refusal(desk.region)
        return desk.role.kept, desk.role.role, None if refusal is None else refusal.code

    def _is_idle(self, desk: Desk) -> bool:
        """Say whether a tick that is like the last one changes as little."""
        kept = desk.role.kept
        match desk.role.role:
            case roles.DRAINING:
                return False
            case roles.PROMOTING if kept.step == roles.ROUTE:
                return self._has_arbiter and not desk.reaches
            case roles.PROMOTING:
                return not desk.asked and not desk.fetching
            case roles.RETURNING:
                return not self._hears(desk, kept.leader or desk.region)
            case _:
                return True

    def _prepares(self, desk: Desk) -> bool:
        """Begin, once a promotion, what it takes beside the steps of the protocol; tell whether.

        It is done before the lease is asked for; without an arbiter before anything else.
        """
        kept = desk.role.kept
        if kept.role != roles.PROMOTING or desk.prepared == kept.region_epoch:
            return False
        desk.prepared = kept.region_epoch
        setup, name = self._world.setup, ("promote", self.placement.name, str(kept.region_epoch))
        prepare_ns = setup.draw_ns(setup.recovery.promote, *name)
        if prepare_ns:
            self._plan(desk, prepare_ns)
        return prepare_ns > 0

    def _view(self, desk: Desk) -> roles.View:
        held = self._held(desk.region)
        acked = {code: self._seq(code, desk.region) for code in desk.role.peers}
        in_flight = self._world.sites[desk.region].in_flight()
        return roles.View(merged=held, stored=held, acked=acked, in_flight=in_flight)

    def _held(self, holder: str) -> dict[str, int]:
        return {code: self._seq(holder, code) for code in self.placement.regions}

    def _seq(self, holder: str, origin: str) -> int:
        """Count what a region holds of the stream of another: of all its epochs."""
        return sum(log.count(self._world.held(holder, log)) for log in self._logs(origin))

    def _logs(self, origin: str) -> list[Log]:
        name = self.placement.name
        return [log for log in self._world.logs if (log.region, log.placement) == (origin, name)]

    # --- events and effects

    def _feed(self, desk: Desk, event: object, at_ns: int) -> None:
        """Give a role an event, and carry out what it says; what that brings comes after it."""
        self._events.append((desk, event, at_ns))
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._events:
                self._take(*self._events.popleft())
        finally:
            self._is_busy = False
            self._events.clear()
        if self._is_changed and self._is_begun and not self._is_looking:
            self._is_changed = False
            self._world.changed()

    def _take(self, desk: Desk, event: object, at_ns: int) -> None:
        before = self._known(desk)
        self._carry(desk, desk.role.on_event(event, at_ns), at_ns)
        after = self._known(desk)
        if before == after:
            return
        self._is_changed |= before[2] != after[2]
        if before[0].step == roles.FENCE != after[0].step and after[1] == roles.PROMOTING:
            self._world.incidents.mark(self._incident, "fence")
        for other in self._desks.values() if before[0] != after[0] else (desk,):
            self._wake(other)

    def _carry(self, desk: Desk, effects: list[roles.Effect], at_ns: int) -> None:
        for effect in effects:
            match effect:
                case roles.Say(until_ns, region_epoch, leader, taking_over):
                    desk.stream.lease(until_ns, region_epoch, leader, taking_over=taking_over)
                case roles.Persist(kept) if kept.role == roles.WRITER:
                    self._serve(desk, kept.region_epoch)
                case roles.AskArbiter(number, region_epoch):
                    self._ask_arbiter(desk, number, region_epoch, at_ns)
                case roles.AskPeer():
                    self._ask_peer(desk, effect)
                case roles.GiveTo():
                    self._give(desk, effect, at_ns)
                case roles.Fetch():
                    self._fetch(desk, effect)
                case _:
                    pass  # kept is `role.kept`; batches of a stopped writer carry nothing new

    def _serve(self, desk: Desk, region_epoch: int) -> None:
        """Open the log of an epoch, if it is a new one."""
        if region_epoch == desk.stream.origin.region_epoch:
            return
        world = self._world
        desk.stream.open_epoch(region_epoch)
        world.open_log(desk.region, self.placement.name, region_epoch, go=True)
        world.incidents.mark(self._incident, "promote")
        world.promoted(self._incident)
        world.naming.caught_up()

    def _ask_arbiter(self, desk: Desk, number: int, region_epoch: int, at_ns: int) -> None:
        if not desk.reaches or (desk.role.kept.step == roles.ROUTE and self._prepares(desk)):
            return
        mark = self._mark(desk, number)
        decision = lease.ask(self._row, desk.region, region_epoch, mark, at_ns, self._terms)
        self._row = decision.row
        self._feed(desk, roles.ArbiterSaid(number, decision.answer), at_ns)

    def _mark(self, desk: Desk, number: int) -> Mark:
        return Mark(f"{desk.region} {desk.life}", number)

    def _give(self, desk: Desk, give: roles.GiveTo, at_ns: int) -> None:
        """Release the lease and have another region promoted, or ask that region itself."""
        if not self._has_arbiter:
            if not self._send(desk, give.region, self._asked_to_take, give):
                self._feed(desk, roles.HandOverFailed(), at_ns)
            return
        held = self._row.lease
        if not desk.reaches or (desk.region, give.region_epoch) != (held.holder, held.region_epoch):
            self._feed(desk, roles.HandOverFailed(), at_ns)
            return
        mark = self._mark(desk, give.number)
        row = lease.release(self._row, desk.region, give.region_epoch, mark, at_ns)
        row = lease.promote(row, give.region, give.region_epoch, at_ns, self._terms).row
        self._row = row
        for other in self._desks.values():
            self._wake(other)
        answer = lease.NotLeader(row.lease.region_epoch, None)
        self._feed(desk, roles.ArbiterSaid(give.number, answer), at_ns)

    def _asked_to_take(self, desk: Desk, give: roles.GiveTo) -> None:
        wish = roles.Promote(give.region_epoch, old_is_stopped=False)
        if not self._operate(self._desks[give.region], wish) and desk.alive:
            self._feed(desk, roles.HandOverFailed(), self._world.agenda.now_ns)

    # --- between regions

    def _hears(self, desk: Desk, peer: str) -> bool:
        return self._world.alive(peer) and self._world.net.both(desk.region, peer)

    def _send(self, desk: Desk, peer: str, call: Call, *args: Any) -> bool:
        """Have something happen when a message is there; tell whether it comes through."""
        if self._is_begun and not self._hears(desk, peer):
            return False
        if not self._is_begun:
            call(desk, *args)
            return True
        wire = self._world.net.wire(desk.region, peer)
        wait_ns = wire.delay_ns + wire.jitter_ns // 2
        self._world.agenda.after(wait_ns, call, desk, *args)
        return True

    def _ask_peer(self, desk: Desk, effect: roles.AskPeer) -> None:
        desk.asked += self._send(desk, effect.peer, self._told, desk.life, effect)

    def _told(self, desk: Desk, life: int, effect: roles.AskPeer) -> None:
        """Have a peer hear of our epoch, and answer."""
        peer, now_ns = self._desks[effect.peer], self._world.agenda.now_ns
        if self._is_begun and not self._hears(desk, peer.region):
            self._heard(desk, life, None)
            return
        self._feed(peer, roles.LaterEpoch(effect.region_epoch, effect.leader), now_ns)
        role = peer.role
        said = roles.PeerSaid(
            peer.region, role.role, role.kept.region_epoch, role.follows, self._held(peer.region)
        )
        if not self._is_begun:
            self._heard(desk, life, said)
            return
        wire = self._world.net.wire(peer.region, desk.region)
        wait_ns = wire.delay_ns + wire.jitter_ns // 2
        self._world.agenda.after(wait_ns, self._heard, desk, life, said)

    def _heard(self, desk: Desk, life: int, said: roles.PeerSaid | None) -> None:
        if life != desk.life:
            return
        desk.asked -= 1
        if said is not None and desk.alive:
            self._feed(desk, said, self._world.agenda.now_ns)

    def _fetch(self, desk: Desk, effect: roles.Fetch) -> None:
        """Bring a stream up to what a peer holds; it takes what the missing records take."""
        if effect.region in desk.fetching or not self._hears(desk, effect.peer):
            return
        world = self._world
        there = [(log, world.held(effect.peer, log)) for log in self._logs(effect.region)]
        missing = sum(
            max(0, log.count(until_ns) - log.count(world.held(desk.region, log)))
            for log, until_ns in there
        )
        rate = world.setup.recovery.catch_up_bytes_per_s
        wait_ns = ns(missing * world.setup.record_bytes / rate) if rate else 0
        desk.fetching.add(effect.region)
        world.agenda.after(wait_ns, self._fetched, desk, desk.life, effect.region, there)

    def _fetched(self, desk: Desk, life: int, region: str, there: list[tuple[Log, int]]) -> None:
        if life != desk.life:
            return
        desk.fetching.discard(region)
        for log, until_ns in there:
            self._world.lift(desk.region, log, until_ns)


STARTS: Final = 2
"""Ticks after which every region that starts knows who writes: one to ask, one to go on."""
