"""What follows an alarm: a program acts at once, people are paged, decide and act.

The invariant of this file: `declared` is when somebody or something has decided; what is done
about it begins after that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .incidents import Incident

if TYPE_CHECKING:
    from .world import World

FAILOVER: Final = "failover"
"""The census of the survivors."""

DEADLY: Final = frozenset(
    {"region-down", "stale-return", "process-kill", "disk-lost", "disk-stale", "sync-error"}
)
"""Kinds of faults that take away what only their region holds, for a time or for ever."""


class People:
    """Who is called, and what they do."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.away_until_ns = 0
        """Nobody answers a page before."""
        self.blame: dict[str, Incident] = {}
        """Faults that make an answer slower: `away`, `absent`, `stale`."""
        self._counted = False
        self._alarms = 0

    def said(self, region: str, up: bool) -> None:
        """Take the word of the quorum of checkers."""
        world = self._world
        if up:
            world.naming.bring_back(region)
            return
        incident = world.incidents.about(region)
        world.incidents.mark(incident, "detect")
        self.alarm(region, incident)

    def alarm(self, region: str, incident: Incident | None) -> None:
        """Begin to do something about a region that is down."""
        world, people = self._world, self._world.setup.people
        if people.automatic:
            self._decided(region, incident, "checkers")
            return
        self._alarms += 1
        streams, alarm = world.setup.streams, str(self._alarms)
        page_ns = world.setup.draw_ns(people.page, "people", alarm, "page")
        decide_ns = world.setup.draw_ns(people.decide, "people", alarm, "decide")
        u = streams.of("people", alarm, "absent").random()
        if self._is_to_blame("absent") or u < people.absent_share:
            decide_ns += world.setup.draw_ns(people.absent_extra, "people", alarm, "absent_extra")
        begin_ns = max(world.agenda.now_ns, self.away_until_ns)
        if begin_ns > world.agenda.now_ns:
            self._is_to_blame("away")
        wait_ns = begin_ns - world.agenda.now_ns + page_ns + decide_ns
        world.agenda.after(wait_ns, self._decided, region, incident, "people")

    def _is_to_blame(self, name: str) -> bool:
        """Say whether a fault slows this answer down, and count it as its effect."""
        incident = self.blame.get(name)
        if incident is not None:
            incident.effects["answers slowed"] += 1
        return incident is not None

    def _decided(self, region: str, incident: Incident | None, by: str) -> None:
        world, people = self._world, self._world.setup.people
        if by == "people" and world.checkers.verdict[region]:
            return  # it came back before anybody decided
        world.incidents.declare(incident, by)
        world.incidents.mark(incident, "decide")
        if incident is not None:
            self.given_up(incident)
        act_ns = 0
        if by == "people":
            alarm = str(self._alarms)
            act_ns = world.setup.draw_ns(people.act, "people", alarm, "act")
            chance = world.setup.streams.of("people", alarm, "stale")
            if self._is_to_blame("stale") or chance.random() < people.stale_share:
                act_ns += world.setup.draw_ns(people.stale_extra, "people", alarm, "stale_extra")
        world.agenda.after(act_ns, self._acted, region)

    def _acted(self, region: str) -> None:
        world = self._world
        world.naming.take_out(region)
        world.writers.give_up(region)

    def given_up(self, incident: Incident) -> None:
        """Count what survivors hold, if one fault takes a region away and no step asks."""
        world = self._world
        document = world.setup.scenario.document
        asked = any(step["do"] == "census" for step in document.get("steps", ()))
        deaths = [fault for fault in world.planned if fault["kind"] in DEADLY]
        if not asked and len(deaths) == 1 and incident.fault is deaths[0] and not self._counted:
            self._counted = True
            # A moment later: what is answered in this one is counted with it.
            world.agenda.after(1, world.census, FAILOVER)
