"""What people and programs noted while something was broken: two clocks and eight phases.

The invariant of this file: a phase of an incident ends once, at the moment when it did. `reroute`
is over when the last client that was hurt is served again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..waiting import Agenda
from .tracing import Events


@dataclass(slots=True, eq=False)
class Incident:
    """One fault, and what followed."""

    fault: Mapping[str, Any]
    injected_ns: int
    healed_ns: int | None = None
    declared_ns: int | None = None
    marks: dict[str, int] = field(default_factory=dict)
    hurt: set[str] = field(default_factory=set)
    """Routes whose calls find nobody."""
    moved: bool = False
    effects: Counter[str] = field(default_factory=Counter)
    seen_before: dict[str, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Give the fault's id."""
        return str(self.fault["id"])

    @property
    def region(self) -> str | None:
        """Give the region that the fault is about, if it is about one."""
        return self.fault.get("region")


class Incidents:
    """All incidents of a run, in the order of their beginning."""

    def __init__(self, agenda: Agenda, events: Events) -> None:
        self._agenda, self._events = agenda, events
        self.all: list[Incident] = []

    def begin(self, fault: Mapping[str, Any]) -> Incident:
        """Note that a fault is injected."""
        incident = Incident(fault, self._agenda.now_ns)
        self.all.append(incident)
        self._events.fault(incident.fault, "injected", incident.injected_ns)
        return incident

    def healed(self, incident: Incident) -> None:
        """Note that a fault is over."""
        incident.healed_ns = self._agenda.now_ns
        self._events.fault(incident.fault, "healed", incident.healed_ns)

    @property
    def latest(self) -> Incident | None:
        """Give the incident that what happens now belongs to: the last one that is not over."""
        open_ = [one for one in self.all if one.healed_ns is None] or self.all
        return open_[-1] if open_ else None

    def about(self, region: str) -> Incident | None:
        """Give the last incident of a region, or else the last one of all."""
        mine = [one for one in self.all if one.region == region]
        return mine[-1] if mine else self.latest

    def mark(self, incident: Incident | None, phase: str) -> None:
        """Note that a phase is over; only the first time counts."""
        if incident is None or phase in incident.marks:
            return
        incident.marks[phase] = self._agenda.now_ns
        self._events.add("phase", self._agenda.now_ns, incident=incident.id, phase=phase)

    def declare(self, incident: Incident | None, by: str) -> bool:
        """Note that somebody has decided to go elsewhere; tell whether it is the first time."""
        if incident is None or incident.declared_ns is not None:
            return False
        incident.declared_ns = self._agenda.now_ns
        self._events.add("declared", self._agenda.now_ns, incident=incident.id, by=by)
        return True
