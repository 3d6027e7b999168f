"""Faults that people make, or that lie in nobody being there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .incidents import Incident
from .playing import Mend, Play, nothing
from .setup import ns

if TYPE_CHECKING:
    from .world import World

Fault = Mapping[str, Any]


def _nobody(world: World, fault: Fault, incident: Incident) -> Mend:
    """Have nobody answer a page while the fault lasts, or ever."""
    people = world.people
    end_ns = world.setup.load_end_ns + world.setup.settle_ns
    until_ns = world.agenda.now_ns + ns(fault["for_s"]) if "for_s" in fault else end_ns
    people.away_until_ns = max(people.away_until_ns, until_ns)
    people.blame["away"] = incident

    def mend() -> None:
        people.away_until_ns = min(people.away_until_ns, world.agenda.now_ns)

    return mend


def _slower(world: World, fault: Fault, incident: Incident) -> Mend:
    """Have an answer take longer: who knows is not there, or what is written is wrong."""
    reason = REASONS[fault["kind"]]
    world.people.blame[reason] = incident

    def mend() -> None:
        del world.people.blame[reason]

    return mend


def _drained(world: World, fault: Fault, incident: Incident) -> Mend:
    """Drain a region that is well."""
    region = fault["region"]
    site = world.sites[region]
    incident.effects["feeds sent away"] += len(site.feeds)
    site.closed["drained"] += 1

    def mend() -> None:
        site.closed["drained"] -= 1

    return mend


def _double(world: World, fault: Fault, incident: Incident) -> Mend:
    """Promote a region although another one writes; who hears of it stops."""
    incident.effects["promotions"] += world.writers.slip(fault["region"], incident)
    return nothing


REASONS: Final = {"expert-absent": "absent", "stale-runbook": "stale"}
"""What makes people slower (people.py)."""

PLAYS: Final[dict[str, Play]] = {
    "nobody-answers": _nobody, "expert-absent": _slower, "stale-runbook": _slower,
    "wrong-region-drained": _drained, "double-promote": _double,
}  # fmt: skip
