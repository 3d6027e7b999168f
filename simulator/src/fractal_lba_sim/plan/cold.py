"""A placement with a cold standby: it is booted and restored from a snapshot when it is promoted.

The invariant of this file: a standby holds nothing but what its snapshots held. The server has no
cold standby yet, so that no rule of it is asked here; reports say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fractal_lba_server.core.health import successor
from fractal_lba_server.core.lease import FIRST_EPOCH
from fractal_lba_server.core.regions import Placement
from fractal_lba_server.core.streams import Refusal

from .incidents import Incident
from .logs import OPEN_END, Log
from .setup import ns
from .snapshots import SnapshotPlan

if TYPE_CHECKING:
    from .world import World

Name = tuple[str, str, int]


class ColdSeat:
    """One placement."""

    def __init__(self, world: World, placement: Placement) -> None:
        self._world, self.placement = world, placement
        assert placement.primary is not None  # setup.py names one
        self.founder = placement.primary
        self._writers = {self.founder}
        self._epoch = FIRST_EPOCH
        self.is_changing = False
        """Whether a standby is being restored."""
        self._restored: dict[str, dict[Name, int]] = {}
        self._snapshots = SnapshotPlan(world.setup, placement.name)

    def begin(self) -> None:
        """Begin: the primary writes."""

    def look(self) -> None:
        """Take note that something has changed: nobody here hears of anybody else."""

    def refusal(self, region: str) -> Refusal | None:
        """Say why a region takes no record, or None."""
        if region in self._writers:
            return None
        if not self._writers:
            return Refusal("not_primary", "it stands by, cold")
        leader = {"endpoint": min(self._writers), "region_epoch": self._epoch}
        return Refusal("not_leader", "another region leads the placement", {"leader_hint": leader})

    def leads(self, region: str) -> bool:
        """Say whether a region writes."""
        return region in self._writers

    def held_ns(self, region: str, log: Log) -> int:
        """Give up to when a standby has a log: what it was restored from, or could be."""
        known = self._restored.get(region)
        if known is not None:
            return known.get(log.name, -1)
        world = self._world
        at_ns = min(world.agenda.now_ns, world.died_ns.get(log.region, OPEN_END))
        return self._snapshots.newest_ns(at_ns)

    def give_up(self, region: str, *, by_checkers: bool) -> None:
        """Restore another region, where a region wrote."""
        world = self._world
        if self.is_changing or not self.leads(region):
            return
        verdict = world.checkers.verdict
        chosen = successor(self.placement.regions, region, verdict.get, world.alive)
        if chosen is not None:
            self.promote(chosen, world.incidents.about(region))

    def promote(self, region: str, incident: Incident | None, *, slips: bool = False) -> None:
        """Boot a standby and restore the newest snapshot that it can have.

        Who `slips` does so while the writer goes on: where that does not hear of it both write.
        """
        world, rule, name = self._world, self._world.setup.snapshots, self.placement.name
        world.incidents.mark(incident, "fence")
        logs = [log for log in world.logs if log.placement == name]
        known = {log.name: world.held(region, log) for log in logs}
        self._restored[region] = known
        count = sum(log.count(known[log.name]) for log in logs if known[log.name] >= 0)
        self._epoch += 1
        stream = ("restore", name, str(self._epoch))
        wait_ns = world.setup.draw_ns(rule.boot, *stream, "boot")
        wait_ns += world.setup.draw_ns(world.setup.recovery.promote, *stream, "promote")
        if rule.restore_bytes_per_s:
            wait_ns += ns(count * world.setup.record_bytes / rule.restore_bytes_per_s)
        heard = all(world.net.both(region, one) for one in sorted(self._writers))
        if heard or not slips:
            self._writers.clear()
        self.is_changing = True
        world.agenda.after(wait_ns, self._serve, region, incident)

    def _serve(self, region: str, incident: Incident | None) -> None:
        world = self._world
        self._writers.add(region)
        self.is_changing = False
        world.open_log(region, self.placement.name, self._epoch, go=True)
        world.incidents.mark(incident, "promote")
        world.promoted(incident)
        world.naming.caught_up()
        world.changed()

    def hand_over(self, region: str, incident: Incident | None) -> None:
        """Restore another region; the writer stops when that begins."""
        self.promote(region, incident)
