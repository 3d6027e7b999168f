"""The third process: it alone says who may write where one region at a time may.

One `Arbiter` keeps the rows of core/lease.py, persists what they ask for before it answers, and
takes the votes of checkers. It promotes by itself only where it was told to, on the word of a
quorum of checkers, and not again before a rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .core import lease
from .core.health import NS_PER_MS, Quorum, successor
from .core.lease import Answer, Decision, Mark, Moved, Row, Terms
from .core.regions import Registry
from .steady_clock import steady_ns
from .store.control import ControlUnavailableError
from .store.leases import LeaseStore

REST_MS: Final = 60_000
"""After an automatic promotion, and after its start, the arbiter makes no other for so long."""

Report = Callable[[str, dict[str, Any]], None]


class UnknownPlacementError(Exception):
    """The placement is not registered, or every region of it writes without a lease."""


class NotMemberError(Exception):
    """The region is none of the placement: what is not listed is denied."""


class Arbiter:
    """Answers of one arbiter process; all on one event loop, one after another."""

    def __init__(
        self,
        registry: Registry,
        store: LeaseStore,
        *,
        terms: Terms,
        checkers: Sequence[str] = (),
        quorum: int = 0,
        automatic: bool = False,
        rest_ms: int = REST_MS,
        report: Report = lambda event, members: None,
        now_ns: Callable[[], int] = steady_ns,
    ) -> None:
        self.registry = registry
        self._store = store
        self._terms = terms
        self._has_checkers = bool(checkers)
        if checkers:  # of one opinion each: who takes records, and who lives
            self._ready, self._alive = Quorum(checkers, quorum), Quorum(checkers, quorum)
        self._automatic = automatic and bool(checkers)
        self._rest_ms = rest_ms
        self._report = report
        self._now_ns = now_ns
        self._one = asyncio.Lock()
        self._rows: dict[str, Row] | None = None
        self._rest_until_ns = 0

    async def start(self) -> None:
        """Take over the state; SupersededError and ControlUnavailableError leave it alone."""
        async with self._one:
            await self._load()
            self._rest_until_ns = self._now_ns() + self._rest_ms * NS_PER_MS

    async def ask(self, placement: str, region: str, region_epoch: int, mark: Mark) -> Answer:
        """Answer a region that wants to write, or to know who does."""
        async with self._one:
            row = await self._row(placement, region)
            now_ns = self._now_ns()
            decision = lease.ask(row, region, region_epoch, mark, now_ns, self._terms)
            if isinstance(decision.answer, lease.Granted) and not decision.persist:
                await self._stored(self._store.confirm())
            await self._keep(decision)
            if decision.persist:
                lasting = decision.row.lease
                self._say("lease_begun", placement, lasting.region_epoch, region)
            return decision.answer

    async def promote(self, placement: str, candidate: str | None, seen_epoch: int) -> Answer:
        """Give the next epoch to a candidate, or with None to nobody."""
        async with self._one:
            return await self._promote(placement, candidate, seen_epoch)

    async def hand_over(
        self, placement: str, region: str, region_epoch: int, mark: Mark, to: str
    ) -> Answer:
        """Take the holder's word that it has stopped, and promote whom it names."""
        async with self._one:
            row = await self._row(placement, region)
            if (region, region_epoch) != (row.lease.holder, row.lease.region_epoch):
                return Moved(row.lease.region_epoch)
            await self._row(placement, to)
            assert self._rows is not None
            now_ns = self._now_ns()
            self._rows[placement] = lease.release(row, region, region_epoch, mark, now_ns)
            return await self._promote(placement, to, region_epoch)

    async def vote(
        self, checker: str, ready: Mapping[str, bool], alive: Mapping[str, bool]
    ) -> bool:
        """Take what a checker thinks of each region; false for one that is not asked."""
        now_ns = self._now_ns()
        if not self._has_checkers or not self._ready.vote(checker, ready, now_ns):
            return False
        self._alive.vote(checker, alive, now_ns)
        if self._automatic:
            async with self._one:
                for name in sorted(self.registry.placements):
                    if self.registry.placements[name].needs_lease:
                        await self._fail_over(name)
        return True

    async def status(self) -> dict[str, Any]:
        """Describe every placement with a lease, and what the checkers agree on."""
        async with self._one:
            now_ns = self._now_ns()
            placements = []
            for name in sorted(self.registry.placements):
                if self.registry.placements[name].needs_lease:
                    row = await self._row(name)
                    placements.append(_describe(row, now_ns))
            return {"placements": placements, "regions": self._verdicts(now_ns)}

    # --- within the lock

    async def _load(self) -> dict[str, Row]:
        kept = await self._store.take_over()
        now_ns = self._now_ns()
        self._rows = {name: lease.restarted(one, now_ns, self._terms) for name, one in kept.items()}
        return self._rows

    async def _row(self, placement: str, region: str | None = None) -> Row:
        found = self.registry.placements.get(placement)
        if found is None or found.primary is None:
            raise UnknownPlacementError(placement)
        if region is not None and region not in found.regions:
            raise NotMemberError(region)
        rows = self._rows if self._rows is not None else await self._load()
        if placement not in rows:
            founded = lease.founded(placement, found.primary, self._now_ns(), self._terms)
            await self._keep(Decision(founded, Moved(0), persist=True))
            self._say("placement_founded", placement, lease.FIRST_EPOCH, found.primary)
        return rows[placement]

    async def _keep(self, decision: Decision) -> None:
        row = decision.row
        if decision.persist:
            await self._stored(self._store.save(row.lease))
        assert self._rows is not None
        self._rows[row.lease.placement] = row

    async def _stored(self, change: Any) -> None:
        """Await a change; one whose end is unknown makes us read everything again."""
        try:
            await change
        except ControlUnavailableError:
            self._rows = None
            raise

    async def _promote(self, placement: str, candidate: str | None, seen_epoch: int) -> Answer:
        row = await self._row(placement, candidate)
        decision = lease.promote(row, candidate, seen_epoch, self._now_ns(), self._terms)
        await self._keep(decision)
        if decision.persist:
            # Whoever was promoted needs time to take over, and is not called down meanwhile.
            self._rest_until_ns = self._now_ns() + self._rest_ms * NS_PER_MS
            self._say("promoted", placement, decision.row.lease.region_epoch, candidate)
        return decision.answer

    async def _fail_over(self, placement: str) -> None:
        now_ns = self._now_ns()
        row = await self._row(placement)
        leader = row.lease.holder
        if leader is None or now_ns < self._rest_until_ns:
            return
        regions = self.registry.placements[placement].regions
        chosen = successor(
            regions,
            leader,
            lambda code: self._ready.verdict(code, now_ns),
            lambda code: self._alive.verdict(code, now_ns),
        )
        if chosen is not None:
            await self._promote(placement, chosen, row.lease.region_epoch)

    def _verdicts(self, now_ns: int) -> dict[str, dict[str, bool | None]]:
        if not self._has_checkers:
            return {}
        return {
            code: {
                "ready": self._ready.verdict(code, now_ns),
                "alive": self._alive.verdict(code, now_ns),
            }
            for code in self.registry.codes
        }

    def _say(self, event: str, placement: str, region_epoch: int, region: str | None) -> None:
        members = {"placement": placement, "region_epoch": region_epoch, "region": region}
        self._report(event, members)


def _describe(row: Row, now_ns: int) -> dict[str, Any]:
    kept = row.lease
    return {
        "placement": kept.placement,
        "region_epoch": kept.region_epoch,
        "holder": kept.holder,
        "granted": kept.granted,
        "previous": kept.previous,
        "busy_ms": max(0, row.busy_until_ns - now_ns) // NS_PER_MS,
    }
