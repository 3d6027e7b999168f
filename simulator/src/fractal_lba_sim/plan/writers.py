"""Who may write to a placement: everybody, the holder of a lease, or the region that was restored.

The invariant of this file: what the arbiter answers is `core.lease`, who is promoted
`core.health.successor`. A region writes under a later epoch only after the lease of the earlier
one is over, and after it holds what enough of its peers hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fractal_lba_server.core import lease
from fractal_lba_server.core.health import successor
from fractal_lba_server.core.lease import Granted, Holder, Mark, NotYet, Row
from fractal_lba_server.core.regions import ACTIVE_ACTIVE, Placement

from .incidents import Incident
from .logs import OPEN_END, Log
from .net import ARBITER
from .setup import COLD_STANDBY, NS_PER_MS, NS_PER_S
from .snapshots import SnapshotPlan

if TYPE_CHECKING:
    from .world import World

HASTY_MS: Final = 200
"""How often a region that is taking over asks for its lease (role_keeper.py of the server)."""

ARBITER_PROCESS: Final = "1"
"""Marks of one process of a holder: the plan engine does not tell restarts apart."""


@dataclass(slots=True, eq=False)
class Seat:
    """The right to write to one placement with one writer."""

    placement: Placement
    writer: str | None
    region_epoch: int
    row: Row
    holder: Holder
    phase_ns: int
    """Of the grid on which leases are renewed."""
    reaches: bool = True
    """Whether the writer hears from the arbiter."""
    candidate: str | None = None
    step: str = ""
    forced: set[str] = field(default_factory=set)
    """Regions that write although they should not."""
    ready_ns: int = 0
    """When the candidate goes on at the earliest: with its next tick."""
    incident: Incident | None = None
    restored: dict[str, dict[tuple[str, str, int], int]] = field(default_factory=dict)


class Writers:
    """All placements."""

    def __init__(self, world: World) -> None:
        self._world = world
        setup = world.setup
        self._seats: dict[str, Seat] = {}
        self._snapshots: dict[str, SnapshotPlan] = {}
        for name, placement in setup.placements.items():
            if placement.topology == ACTIVE_ACTIVE:
                continue
            primary = placement.primary or placement.regions[0]
            renew_ns = setup.terms.renew_ms * NS_PER_MS
            phase_ns = int(setup.streams.of("lease", name, "phase").random() * renew_ns)
            row = lease.founded(name, primary, 0, setup.terms)
            self._seats[name] = Seat(
                placement, primary, lease.FIRST_EPOCH, row, Holder(setup.terms), phase_ns
            )
            if placement.topology == COLD_STANDBY:
                self._snapshots[name] = SnapshotPlan(setup, name)

    def founders(self, placement: Placement) -> tuple[str, ...]:
        """Name the regions that write from the start."""
        seat = self._seats.get(placement.name)
        return placement.regions if seat is None else (seat.writer or placement.regions[0],)

    def ships(self, placement: Placement) -> bool:
        """Say whether the regions of a placement ship their logs to one another."""
        return placement.topology != COLD_STANDBY

    # --- what others ask

    def may_write(self, region: str, placement: str) -> bool:
        """Say whether a region may write to a placement now."""
        if region not in self._world.setup.placements[placement].regions:
            return False
        seat = self._seats.get(placement)
        if seat is None or region in seat.forced:
            return True
        return seat.writer == region and self._holds(seat)

    def _holds(self, seat: Seat) -> bool:
        """Say whether the writer trusts its lease; without an arbiter it needs none."""
        if seat.reaches or not self._needs_lease(seat):
            return True
        return seat.holder.left_ns(self._world.agenda.now_ns) > 0

    def _needs_lease(self, seat: Seat) -> bool:
        return self._world.setup.has_arbiter and seat.placement.topology != COLD_STANDBY

    def is_ready(self, region: str) -> bool:
        """Say whether probes of a region are good, as far as roles go."""
        return all(self._holds(seat) for seat in self._seats.values() if seat.writer == region)

    def follows(self, region: str, placement: str) -> bool:
        """Say whether a region that does not write is one that follows; a fenced writer is not.

        A candidate counts as one that follows. The server's answers 503 while it takes over, which
        has clients try the old region once more: they come up to a probe interval later.
        """
        seat = self._seats.get(placement)
        if seat is None:
            return True
        row = seat.row.lease
        return seat.writer != region and (seat.writer is not None or row.previous != region)

    def takes_records(self, region: str) -> bool:
        """Say whether a region writes to any of its placements; a standby writes to none."""
        held = [one for one in self._world.setup.placements.values() if region in one.regions]
        return not held or any(
            one.name not in self._seats or self._seats[one.name].writer == region for one in held
        )

    def cold_ns(self, region: str, log: Log) -> int:
        """Give up to when a cold standby has a log: what it was restored from, or could be."""
        seat = self._seats[log.placement]
        known = seat.restored.get(region)
        if known is not None:
            return known.get(log.name, -1)
        at_ns = min(self._world.agenda.now_ns, self._world.died_ns.get(log.region, OPEN_END))
        return self._snapshots[log.placement].newest_ns(at_ns)

    # --- leases

    def look(self) -> None:
        """Take note that something has changed."""
        for seat in self._seats.values():
            if seat.writer is not None and self._needs_lease(seat):
                self._look_at_lease(seat, seat.writer)
            self._go_on(seat)

    def _look_at_lease(self, seat: Seat, writer: str) -> None:
        world = self._world
        reaches = world.alive(writer) and world.net.both(writer, ARBITER)
        if reaches == seat.reaches:
            return
        renew_ns = world.setup.terms.renew_ms * NS_PER_MS
        now_ns = world.agenda.now_ns
        if reaches:
            wait_ns = (seat.phase_ns - now_ns) % renew_ns
            world.agenda.after(wait_ns, self._renewed, seat, writer)
            return
        last_ns = now_ns - (now_ns - seat.phase_ns) % renew_ns
        seat.reaches = False
        self._ask(seat, writer, last_ns)
        left_ns = seat.holder.left_ns(now_ns)
        if left_ns:
            world.agenda.after(left_ns, world.changed)

    def _renewed(self, seat: Seat, writer: str) -> None:
        """Ask again, now that the arbiter is heard."""
        world = self._world
        if seat.writer != writer or not world.net.both(writer, ARBITER) or not world.alive(writer):
            return
        if isinstance(self._ask(seat, writer, world.agenda.now_ns), Granted):
            seat.reaches = True
        else:
            seat.writer = None  # another one comes next: it stops before anything else
        world.changed()

    def _ask(self, seat: Seat, region: str, at_ns: int) -> lease.Answer:
        number = seat.holder.send(at_ns)
        mark = Mark(ARBITER_PROCESS, number)
        terms = self._world.setup.terms
        decision = lease.ask(seat.row, region, seat.region_epoch, mark, at_ns, terms)
        seat.row = decision.row
        if isinstance(decision.answer, Granted):
            seat.holder.granted(number, decision.answer, seat.region_epoch)
        return decision.answer

    # --- promotion

    def give_up(self, region: str) -> None:
        """Have another region write what a region wrote."""
        for seat in self._seats.values():
            if seat.row.lease.holder == region and seat.candidate is None:
                verdict = self._world.checkers.verdict
                chosen = successor(seat.placement.regions, region, verdict.get, self._world.alive)
                if chosen is not None:
                    self.promote(seat.placement.name, chosen, self._world.incidents.about(region))

    def promote(
        self, placement: str, region: str, incident: Incident | None, *, handed: bool = False
    ) -> None:
        """Begin to promote a region: the arbiter gives it the next epoch.

        A writer that hands over releases its lease; one that is replaced stops, and its lease
        is waited for.
        """
        seat = self._seats[placement]
        world = self._world
        now_ns = world.agenda.now_ns
        if seat.writer is not None and seat.reaches and self._needs_lease(seat):
            renew_ns = world.setup.terms.renew_ms * NS_PER_MS
            self._ask(seat, seat.writer, now_ns - (now_ns - seat.phase_ns) % renew_ns)
        seen = seat.row.lease.region_epoch
        seat.row = lease.promote(seat.row, region, seen, now_ns, world.setup.terms).row
        seat.candidate, seat.step, seat.incident = region, "called", incident
        if seat.placement.topology == COLD_STANDBY:
            self._restore(seat, region)
            return
        if not self._needs_lease(seat):
            # An operator's word that the old writer is stopped.
            seat.row = seat.row._replace(busy_until_ns=now_ns)
            seat.writer = None
        elif seat.writer is not None and seat.reaches:
            # The old writer hears of the later epoch with its next renewal.
            renew_ns = world.setup.terms.renew_ms * NS_PER_MS
            wait_ns = (seat.phase_ns - now_ns) % renew_ns
            world.agenda.after(wait_ns, self._stops, seat, seat.writer, handed)
        epoch = seat.row.lease.region_epoch
        world.agenda.after(self._unasked_ns(seat, region), self._called, seat, epoch)

    def _unasked_ns(self, seat: Seat, region: str) -> int:
        """Give how long a standby does not know that it is promoted: until it asks the arbiter."""
        if not self._needs_lease(seat):
            return 0
        setup = self._world.setup
        renew_ns = setup.terms.renew_ms * NS_PER_MS
        chance = setup.streams.of("lease", seat.placement.name, "phase", str(setup.rank(region)))
        return (int(chance.random() * renew_ns) - self._world.agenda.now_ns) % renew_ns

    def _called(self, seat: Seat, region_epoch: int) -> None:
        """Begin to take over; the next step is due where the next renewal was."""
        if seat.candidate is None or seat.row.lease.region_epoch != region_epoch:
            return
        world, writer = self._world, seat.writer
        if writer not in (None, seat.candidate) and world.net.both(seat.candidate, writer):
            # It hears of the later epoch from the candidate, too.
            wait_ns = world.net.wire(seat.candidate, writer).delay_ns
            world.agenda.after(wait_ns, self._stops, seat, writer, False)
        seat.step = "fence"
        seat.ready_ns = world.agenda.now_ns + world.setup.terms.renew_ms * NS_PER_MS
        self._go_on(seat)

    def _stops(self, seat: Seat, writer: str, released: bool) -> None:
        if seat.writer == writer and seat.candidate is not None:
            seat.writer = None
            if released:
                seat.row = seat.row._replace(busy_until_ns=self._world.agenda.now_ns)
            self._world.changed()

    def _go_on(self, seat: Seat) -> None:
        """Fence, as soon as enough peers can be asked."""
        world, candidate = self._world, seat.candidate
        if candidate is None or seat.step != "fence" or not world.alive(candidate):
            return
        placement = seat.placement
        peers = [
            code for code in placement.regions
            if code != candidate and world.alive(code) and world.net.both(candidate, code)
        ]  # fmt: skip
        if 1 + len(peers) < len(placement.regions) - placement.copies + 1:
            return
        seat.step = "learn"
        trips = [world.net.round_trip_ns(candidate, code) for code in peers]
        wait_ns = max(0, seat.ready_ns - world.agenda.now_ns, *trips)
        world.agenda.after(wait_ns, self._fenced, seat, peers)

    def _fenced(self, seat: Seat, peers: list[str]) -> None:
        """Learn what the peers hold of every log, and take it over."""
        world, candidate = self._world, seat.candidate
        assert candidate is not None
        world.incidents.mark(seat.incident, "fence")
        missing = 0
        for log in world.logs:
            if log.placement != seat.placement.name or log.region == candidate:
                continue
            here_ns = world.held(candidate, log)
            there_ns = max((world.held(code, log) for code in peers), default=-1)
            if there_ns > here_ns:
                missing += log.count(there_ns) - log.count(here_ns)
                world.lift(candidate, log, there_ns)
        wait_ns = 0
        rate = world.setup.recovery.catch_up_bytes_per_s
        if missing and rate:
            wait_ns = round(missing * world.setup.record_bytes / rate * NS_PER_S)
        name = ("promote", seat.placement.name, str(seat.row.lease.region_epoch))
        wait_ns += world.setup.draw_ns(world.setup.recovery.promote, *name)
        world.agenda.after(wait_ns, self._routes, seat)

    def _routes(self, seat: Seat) -> None:
        """Ask for the first lease of the epoch, until it is granted."""
        world, candidate = self._world, seat.candidate
        if candidate is None or not world.alive(candidate):
            return
        before = seat.region_epoch
        seat.region_epoch = seat.row.lease.region_epoch
        answer = self._ask(seat, candidate, world.agenda.now_ns)
        if isinstance(answer, NotYet):
            seat.region_epoch = before
            wait_ms = max(1, -(-answer.wait_ms // HASTY_MS)) * HASTY_MS
            world.agenda.after(wait_ms * NS_PER_MS, self._routes, seat)
            return
        self._serve(seat, candidate)

    def _serve(self, seat: Seat, candidate: str) -> None:
        world = self._world
        seat.writer, seat.candidate, seat.step, seat.reaches = candidate, None, "", True
        world.open_log(candidate, seat.placement.name, seat.region_epoch, go=True)
        world.incidents.mark(seat.incident, "promote")
        world.promoted(seat.incident)
        world.naming.caught_up()
        world.changed()

    # --- a cold standby

    def _restore(self, seat: Seat, region: str) -> None:
        """Boot the standby and restore the newest snapshot that it can have."""
        world, rule = self._world, self._world.setup.snapshots
        world.incidents.mark(seat.incident, "fence")
        known = {log.name: world.held(region, log) for log in world.logs
                 if log.placement == seat.placement.name}  # fmt: skip
        seat.restored[region] = known
        count = sum(log.count(known[log.name]) for log in world.logs
                    if known.get(log.name, -1) >= 0)  # fmt: skip
        name = ("restore", seat.placement.name, str(seat.row.lease.region_epoch))
        wait_ns = world.setup.draw_ns(rule.boot, *name, "boot")
        wait_ns += world.setup.draw_ns(world.setup.recovery.promote, *name, "promote")
        if rule.restore_bytes_per_s:
            size = count * world.setup.record_bytes
            wait_ns += round(size / rule.restore_bytes_per_s * NS_PER_S)
        seat.writer = None
        world.agenda.after(wait_ns, self._restored, seat, region)

    def _restored(self, seat: Seat, region: str) -> None:
        seat.region_epoch = seat.row.lease.region_epoch
        self._serve(seat, region)

    def promote_in(
        self, placement: str | None, region: str, incident: Incident | None, *, handed: bool = False
    ) -> None:
        """Promote a region in one placement, or in all that it is of and does not write to."""
        for name, seat in self._seats.items():
            is_free = seat.writer != region and seat.candidate is None
            if placement in (None, name) and region in seat.placement.regions and is_free:
                self.promote(name, region, incident, handed=handed)

    # --- people's faults

    def slip(self, region: str, incident: Incident) -> int:
        """Promote a region beside the one that writes; tell in how many placements.

        With an arbiter, or where the other one hears of it, one of them stops. Where it does not,
        and somebody has said that it is stopped, both write.
        """
        world, count = self._world, 0
        for seat in self._seats.values():
            writer = seat.writer
            if region not in seat.placement.regions or writer in (None, region):
                continue
            count += 1
            if self._needs_lease(seat) or world.net.both(region, writer or region):
                self.promote(seat.placement.name, region, incident)
                continue
            seat.forced.add(region)
            epoch = max(log.region_epoch for log in world.logs) + 1
            world.open_log(region, seat.placement.name, epoch, go=True)
        return count
