"""How the regions compare: when all hold the same again after a fault, and how grave it is if not.

The invariant of this file: what was written before a fault was over counts as caught up when every
region of its placement holds it. How grave a difference is, is `core.reconcile.severity`.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import combinations
from typing import TYPE_CHECKING

from fractal_lba_server.core.first_write import Origin, place
from fractal_lba_server.core.reconcile import Difference, severity

from .incidents import Incident

if TYPE_CHECKING:
    from .world import World


def digest_of(counts: dict[str, int]) -> str:
    """Name a state of a placement: which numbers of which log are held."""
    text = "".join(f"{name}{count}\n" for name, count in sorted(counts.items()) if count)
    return sha256(text.encode()).hexdigest()[:32]


class Comparing:
    """The comparisons of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[str, tuple[Incident, int]] = {}
        """Faults that are over, after which some region lacks what others hold; and since when."""

    @property
    def is_pending(self) -> bool:
        """Say whether some region has not caught up."""
        return bool(self._waiting)

    def is_awaited(self, held_ns: int) -> bool:
        """Say whether somebody waits until more than that is held."""
        return any(healed_ns > held_ns for _, healed_ns in self._waiting.values())

    def follow_up(self, incident: Incident) -> None:
        """Wait until all regions hold what was written before a fault was over."""
        now_ns = self._world.agenda.now_ns
        self._waiting[incident.id] = (incident, now_ns)
        for log in self._world.logs:
            log.cut(now_ns)

    def look(self) -> None:
        """See who has caught up."""
        for incident, healed_ns in list(self._waiting.values()):
            if self._equal(healed_ns):
                del self._waiting[incident.id]
                self._world.incidents.mark(incident, "catch_up")
                verify = self._world.setup.recovery.verify
                verify_ns = self._world.setup.draw_ns(verify, "verify", incident.id)
                self._world.agenda.after(verify_ns, self._verified, incident, healed_ns)

    def _verified(self, incident: Incident, healed_ns: int) -> None:
        self._world.incidents.mark(incident, "verify")
        self.compare(incident.id, healed_ns)
        self._world.naming.caught_up()

    def late(self) -> None:
        """Write how regions differ that have not caught up by the end."""
        for incident, healed_ns in self._waiting.values():
            self.compare(incident.id, healed_ns)

    def _equal(self, until_ns: int) -> bool:
        """Say whether all regions hold the same of what was written until a moment."""
        shipped = [p for p in self._world.setup.placements.values() if self._world.writers.ships(p)]
        if not shipped or not all(self._world.alive(code) for p in shipped for code in p.regions):
            return False
        for log in self._world.logs:
            placement = self._world.setup.placements[log.placement]
            if placement in shipped:
                held = {
                    log.count(min(self._world.held(code, log), until_ns))
                    for code in placement.regions
                }
                if len(held) > 1:
                    return False
        return True

    def compare(self, after: str, until_ns: int) -> None:
        """Write in what state each region is, of what was written until a moment."""
        world = self._world
        for name, placement in world.setup.placements.items():
            if not world.writers.ships(placement):
                continue
            states = {
                region: self._state(region, name, until_ns)
                for region in placement.regions if world.alive(region)
            }  # fmt: skip
            for region, counts in states.items():
                world.events.add(
                    "digest", world.agenda.now_ns, after=after, region=region, placement=name,
                    digest=digest_of(counts), keys=sum(counts.values()),
                )  # fmt: skip
            self._tell_differences(states)

    def _state(self, region: str, placement: str, until_ns: int) -> dict[str, int]:
        """Count what a region holds of each log of a placement, up to a moment."""
        return {
            place(Origin(*log.name)): log.count(min(self._world.held(region, log), until_ns))
            for log in self._world.logs if log.placement == placement
        }  # fmt: skip

    def _tell_differences(self, states: dict[str, dict[str, int]]) -> None:
        """Say how grave it is that regions differ; what is merged conflicts nowhere."""
        for (one, mine), (other, theirs) in combinations(states.items(), 2):
            records = max(sum(mine.values()), sum(theirs.values()))
            missing = sum(abs(count - theirs[log]) for log, count in mine.items())
            grave = severity(Difference(records, missing, 0))
            if grave is not None:
                said = f"{one} and {other} differ by {missing} of {records} records: {grave}"
                self._world.events.note(self._world.agenda.now_ns, said)
