"""What people do in a run: promote, fence, hand over, migrate, count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.ingest_events import Draining, Resumed

from ..waiting import NS_PER_S

if TYPE_CHECKING:
    from .world import World

Step = Mapping[str, Any]

AGAIN_NS: Final = NS_PER_S
"""How soon somebody promotes again a region that did not answer."""

TRIES_MAX: Final = 30
"""How often; a region that is away for longer is given up."""


def census(world: World, step: Step) -> None:
    """Count what the regions that run hold now."""
    world.census(step.get("census", "failover"))


def promote(world: World, step: Step) -> None:
    """Make a region the writer, as an operator does who has looked just now."""
    _decide(world, step, step.get("region", world.codes[0]))


def fence(world: World, step: Step) -> None:
    """Stop whoever writes."""
    _decide(world, step, None)


def _decide(world: World, step: Step, candidate: str | None) -> None:
    placement = step.get("placement", "open")
    _declare(world, step)
    if world.arbiter is not None:
        answer = world.arbiter.promote(placement, candidate, world.arbiter.epoch(placement))
        said = "moved" if isinstance(answer, lease.Moved) else type(answer).__name__
        world.trace.note(f"operator: {step['do']} {placement} {candidate}: {said}")
        return
    _order(world, step, candidate, TRIES_MAX)


def _order(world: World, step: Step, candidate: str | None, tries: int) -> None:
    """Tell the region itself; whoever promotes tries again where nobody answers."""
    placement, code = step.get("placement", "open"), candidate or step.get("region", world.codes[0])
    node = world.regions[code].node
    if node is None or node.keeper is None:
        world.trace.note(f"operator: {code} does not answer")
        if candidate is not None and tries > 1:
            world.agenda.after(AGAIN_NS, _order, world, step, candidate, tries - 1)
        return
    role = node.keeper.roles[placement]
    # An operator who says of a writer that runs that it is stopped breaks the protocol: that is
    # the fault double-promote. A step of a scenario says what is so.
    is_stopped = all(world.regions[peer].node is None for peer in role.peers)
    event: object = roles.Promote(role.kept.region_epoch, old_is_stopped=is_stopped)
    if candidate is None:
        event = roles.LaterEpoch(role.kept.region_epoch + 1)
    world.trace.note(f"operator: {step['do']}: {node.keeper.operate(placement, event) or 'done'}")


def failback(world: World, step: Step) -> None:
    """Stop writing in one region, and hand over to another that has caught up."""
    placement, code = step.get("placement", "open"), step.get("region")
    _declare(world, step)
    for region in world.regions.values():
        node = region.node
        if node is None or node.keeper is None or placement not in node.keeper.roles:
            continue
        if (code or region.code) == region.code and (
            node.keeper.roles[placement].role == roles.WRITER
        ):
            refused = node.keeper.operate(placement, roles.HandOver(step["to"]))
            world.trace.note(f"operator: failback to {step['to']}: {refused or 'begun'}")
            return
    world.trace.note("operator: failback: nobody writes")


def drain(world: World, step: Step) -> None:
    """Have a region take no new record."""
    _declare(world, step)
    node = world.regions[step.get("region", world.codes[0])].node
    if node is not None:
        node.feed(Draining())


def undrain(world: World, step: Step) -> None:
    """Have it take records again."""
    node = world.regions[step.get("region", world.codes[0])].node
    if node is not None:
        node.feed(Resumed())


def migrate(world: World, step: Step) -> None:
    """Move a region's keys to more dedup shards while writes go on."""
    region = world.regions[step.get("region", world.codes[0])]
    region.router.migrate(step["to_shards"])


def nobody_answers(world: World, step: Step) -> None:
    """Note that nobody answered."""
    world.trace.note("operator: nobody answers")


def _declare(world: World, step: Step) -> None:
    if "incident" in step:
        world.trace.write("declared", incident=step["incident"], by="operator")


STEPS: Final[dict[str, Callable[[World, Step], None]]] = {
    "census": census, "promote": promote, "fence": fence, "failback": failback, "drain": drain,
    "undrain": undrain, "migrate": migrate, "nobody-answers": nobody_answers,
}  # fmt: skip
