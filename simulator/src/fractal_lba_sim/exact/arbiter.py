"""The third process and its checkers: who may write, and whom a quorum holds for dead.

The arbiter's machine is exact where the regions' is: what it decides is decided by core/lease.py
and core/health.py, on its own clock; it promotes by itself only on the word of a quorum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fractal_lba_server.core import lease
from fractal_lba_server.core.lease import Answer, Decision, Mark, Moved, Row

from ..waiting import NS_PER_MS, NS_PER_S, Life
from .probing import HOLD_DOWN_MS

if TYPE_CHECKING:
    from .world import World

HOLD_DOWN_NS: Final = HOLD_DOWN_MS * NS_PER_MS

REST_MARGIN_NS: Final = NS_PER_S


class Arbiter:
    """Keeps the rows of core/lease.py, and decides what its checkers agree on."""

    def __init__(self, world: World, *, checkers: int, quorum: int, automatic: bool) -> None:
        self.world = world
        self.life = Life(world.agenda)
        self.rows: dict[str, Row] = {}
        names = [f"c{number:02}" for number in range(checkers)]
        self._has_checkers = bool(names)
        if names:
            self._ready = world.parts.quorum(names, quorum)
            self._alive = world.parts.quorum(names, quorum)
        self.automatic = automatic and bool(names)
        self._rest_ns = rest_ns(world)
        self._rest_until_ns = 0
        """It has run for long when the run begins."""

    def _now_ns(self) -> int:
        return self.world.arbiter_clock.steady_ns()

    def ask(self, placement: str, region: str, region_epoch: int, mark: Mark) -> Answer:
        """Answer a region that wants to write, or to know who does."""
        self.world.steps += 1
        decision = self.world.parts.ask_lease(
            self._row(placement), region, region_epoch, mark, self._now_ns(), self.world.terms
        )
        self._keep(decision)
        return decision.answer

    def hand_over(
        self, placement: str, region: str, region_epoch: int, mark: Mark, to: str
    ) -> Answer:
        """Take the holder's word that it has stopped, and promote whom it names."""
        row = self._row(placement)
        if (region, region_epoch) != (row.lease.holder, row.lease.region_epoch):
            return Moved(row.lease.region_epoch)
        now_ns = self._now_ns()
        release = self.world.parts.release_lease
        self.rows[placement] = release(row, region, region_epoch, mark, now_ns)
        return self.promote(placement, to, region_epoch)

    def promote(self, placement: str, candidate: str | None, seen_epoch: int) -> Answer:
        """Give the next epoch to a candidate, or with None to nobody."""
        self.world.steps += 1
        decision = self.world.parts.promote_lease(
            self._row(placement), candidate, seen_epoch, self._now_ns(), self.world.terms
        )
        self._keep(decision)
        if decision.persist:
            self._rest_until_ns = self._now_ns() + self._rest_ns
            kept = decision.row.lease
            self.world.trace.note(f"arbiter: {placement} to {candidate} at {kept.region_epoch}")
        return decision.answer

    def epoch(self, placement: str) -> int:
        """Give the region epoch as an operator sees it."""
        return self._row(placement).lease.region_epoch

    def vote(self, checker: str, ready: dict[str, bool], alive: dict[str, bool]) -> None:
        """Take what a checker thinks of each region."""
        self.world.steps += 2
        now_ns = self._now_ns()
        if not self._has_checkers or not self._ready.vote(checker, ready, now_ns):
            return
        self._alive.vote(checker, alive, now_ns)
        if self.automatic or self.world.operator is not None:
            for name, placement in sorted(self.world.placements.items()):
                if placement.needs_lease:
                    self._fail_over(name)

    def _fail_over(self, name: str) -> None:
        now_ns, row = self._now_ns(), self._row(name)
        leader = row.lease.holder
        if leader is None or now_ns < self._rest_until_ns:
            return
        chosen = self.world.parts.successor(
            self.world.placements[name].regions,
            leader,
            lambda code: self._ready.verdict(code, now_ns),
            lambda code: self._alive.verdict(code, now_ns),
        )
        if chosen is None:
            return
        if self.automatic:
            self.promote(name, chosen, row.lease.region_epoch)
        elif self.world.operator is not None:
            self.world.operator.page(name, lambda: self._promoted_by_hand(name, chosen))

    def _promoted_by_hand(self, name: str, chosen: str) -> str:
        answer = self.promote(name, chosen, self.epoch(name))
        return f"promote {chosen}: {'moved' if isinstance(answer, Moved) else 'done'}"

    def _row(self, name: str) -> Row:
        if name not in self.rows:
            primary = self.world.placements[name].primary
            assert primary is not None
            now_ns, terms = self._now_ns(), self.world.terms
            self.rows[name] = lease.founded(name, primary, now_ns, terms)
        return self.rows[name]

    def _keep(self, decision: Decision) -> None:
        self.rows[decision.row.lease.placement] = decision.row


def rest_ns(world: World) -> int:
    """Give how long no other promotion is made: whoever was promoted takes over meanwhile.

    He waits for the lease before his, and is held for down until his probes have been good often
    enough. A server rests for a minute, which is more than this with the numbers it comes with.
    """
    terms, probe = world.terms, world.probe
    up_s = probe["interval_s"] * (probe["successes"] + 1) + probe["timeout_s"]
    return terms.ttl_ns + terms.drift_ns + int(up_s * NS_PER_S) + HOLD_DOWN_NS + REST_MARGIN_NS
