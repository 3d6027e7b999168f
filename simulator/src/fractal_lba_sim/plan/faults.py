"""Play the faults of a scenario: inject, mend, and count what each of them did.

The invariant of this file: a fault that is injected changes a condition, is undone by the same
hands, and counts its effect. What flows of records cannot show is refused by name before a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.drill.scenario import ScenarioError

from . import fault_links, fault_people, fault_regions
from .incidents import Incident
from .playing import Mend, Play
from .setup import ns

if TYPE_CHECKING:
    from .world import World

PLAYS: Final[dict[str, Play]] = {**fault_links.PLAYS, **fault_regions.PLAYS, **fault_people.PLAYS}
"""Every kind that this engine plays."""

ELSEWHERE: Final = {
    "reorder": "batches go one at a time and in order",
    "duplicate": "a batch that comes twice changes no fate",
    "disk-torn": "it is about the bytes of one frame",
    "bit-flip": "it is about the bytes of one frame",
    "hot-flush": "no fate depends on the hot tier",
    "cold-down": "no fate depends on the cold tier",
    "cancel-cutover": "it has no migration",
}
"""Kinds that it refuses, and why."""


def refuse_unknown(world: World, faults: list[dict[str, Any]]) -> None:
    """Refuse what flows of records cannot show. Raises ScenarioError."""
    for fault in faults:
        kind = fault["kind"]
        why = ELSEWHERE.get(kind)
        if why is None and kind in fault_links.OBJECTS and not world.setup.shipping.by_objects:
            why = "settings.shipping.via is not objects"
        if why is not None:
            message = f"the fault {fault['id']}: plan cannot play {kind}: {why}"
            raise ScenarioError(f"{message}; exact and live may" if kind in ELSEWHERE else message)


def schedule(world: World, faults: list[dict[str, Any]]) -> None:
    """Put every fault on the agenda."""
    world.planned = faults
    for fault in faults:
        at_ns = world.setup.warmup_ns + ns(fault["at_s"])
        world.foresee(at_ns)
        world.agenda.at(at_ns, _inject, world, fault)
        if "for_s" in fault:
            world.foresee(min(at_ns + ns(fault["for_s"]), world.setup.load_end_ns))


def _inject(world: World, fault: Mapping[str, Any]) -> None:
    incident = world.incidents.begin(fault)
    incident.seen_before = _seen(world, fault)
    mend = PLAYS[fault["kind"]](world, fault, incident)
    world.changed()
    if "for_s" in fault:
        end_ns = min(incident.injected_ns + ns(fault["for_s"]), world.setup.load_end_ns)
        world.agenda.at(end_ns, _heal, world, incident, mend)


def _heal(world: World, incident: Incident, mend: Mend) -> None:
    mend()
    count_seen(world, incident)
    world.incidents.healed(incident)
    world.changed()
    world.comparing.follow_up(incident)


def _seen(world: World, fault: Mapping[str, Any]) -> dict[str, int]:
    """Count what this fault may be met by: messages of its links, probes of its region."""
    ends = {fault[name] for name in ("from", "to", "region") if name in fault}
    whole = {fault["from"], fault["to"]} if "from" in fault else None
    messages = sum(
        count for pair, count in world.net.effects.items()
        if (set(pair) == whole if whole else ends & set(pair))
    )  # fmt: skip
    probes = sum(world.checkers.failed[code] for code in sorted(ends) if code in world.sites)
    return {"messages met": messages, "probes failed": probes}


def count_seen(world: World, incident: Incident) -> None:
    """Add to the effects of a fault what met it while it lasted."""
    for name, count in _seen(world, incident.fault).items():
        met = count - incident.seen_before.get(name, 0)
        if met:
            incident.effects[name] += met
    incident.seen_before = _seen(world, incident.fault)
