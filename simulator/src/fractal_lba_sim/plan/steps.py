"""What people do on the timeline: count, promote, hand back, drain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.drill.scenario import ScenarioError

from .people import FAILOVER
from .setup import ns

if TYPE_CHECKING:
    from .world import World

Step = Mapping[str, Any]


def _census(world: World, step: Step) -> None:
    world.census(step.get("census", FAILOVER))


def _promote(world: World, step: Step) -> None:
    """Have a region write; what it answers is the incident that is named, or the last one."""
    named = [one for one in world.incidents.all if one.id == step.get("incident")]
    incident = named[0] if named else world.incidents.latest
    region = step.get("to", step.get("region"))
    if world.incidents.declare(incident, "people"):
        world.incidents.mark(incident, "decide")
    handed = step["do"] == "failback"
    world.writers.promote_in(step.get("placement"), region, incident, handed=handed)


def _drain(world: World, step: Step) -> None:
    world.sites[step["region"]].closed["drained"] += 1
    world.changed()


def _undrain(world: World, step: Step) -> None:
    world.sites[step["region"]].closed["drained"] -= 1
    world.changed()


STEPS: Final[dict[str, Callable[[World, Step], None]]] = {
    "census": _census,
    "promote": _promote,
    "failback": _promote,
    "drain": _drain,
    "undrain": _undrain,
}  # fmt: skip
"""Every step that this engine plays."""


def schedule_steps(world: World) -> None:
    """Put every step on the agenda. Raises ScenarioError for one that it cannot play."""
    for step in world.setup.scenario.document.get("steps", ()):
        if step["do"] not in STEPS:
            message = f"plan cannot play the step {step['do']}; exact and live may"
            raise ScenarioError(message)
        at_ns = world.setup.warmup_ns + ns(step["at_s"])
        world.foresee(at_ns)
        world.agenda.at(at_ns, STEPS[step["do"]], world, step)
