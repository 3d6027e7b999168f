"""What was refused, and what got no answer: flows that name no number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fractal_lba.errors import CODES

from .sites import (
    CANARY,
    DENIED,
    FAILING,
    NOT_LEADER,
    OK,
    REFUSED,
    SILENT,
    TOO_EARLY,
    UNAVAILABLE,
    Feed,
)

if TYPE_CHECKING:
    from .world import World

STATUS: Final = {
    path: CODES[code].status
    for path, code in (
        (FAILING, "internal"), (UNAVAILABLE, "unavailable"), (NOT_LEADER, "not_leader"),
        (TOO_EARLY, "too_early"), (DENIED, "signature_invalid"),
    )
}  # fmt: skip
"""What a region answers with; who refuses a connection answers nothing."""

ANSWERED: Final = frozenset({REFUSED, *STATUS})


def write_refusals(world: World) -> None:
    """Write the calls that were refused, and those that nobody answered."""
    end_ns = world.setup.load_end_ns
    for feed in world.feeds:
        if feed.site is not None and feed.met[0] != OK:
            feed.meet(feed.site.code, OK, end_ns)
        for one in feed.refusals:
            begin = feed.source.before(one.begin_ns)
            count = feed.source.before(min(one.end_ns, end_ns)) - begin
            if count:
                first_ns = feed.source.due(begin)
                last_ns = max(first_ns, feed.source.due(begin + count - 1))
                late_ns = world.setup.attempt_ns if one.path == SILENT else 0
                _write(
                    world, feed, one.region, first_ns=first_ns + late_ns, at_ns=last_ns + late_ns,
                    count=count, path=one.path,
                )  # fmt: skip
        for part in feed.parts:
            count = round((part.end - part.begin) * part.refused_share)
            if count:
                first_ns, last_ns = part.durable(part.begin), part.durable(part.end - 1)
                _write(
                    world, feed, part.region, first_ns=first_ns, at_ns=max(first_ns, last_ns),
                    count=count, path=UNAVAILABLE,
                )  # fmt: skip


def _write(
    world: World, feed: Feed, region: str, *, first_ns: int, at_ns: int, count: int, path: str
) -> None:
    log = world.sites[region].logs.get(feed.placement)
    members: dict[str, Any] = {"canary": True} if feed.kind == CANARY else {}
    world.events.add(
        "flow", at_ns, first_ns=first_ns, client=feed.client, region=region,
        placement=feed.placement, region_epoch=1 if log is None else log.region_epoch, count=count,
        bytes=count * world.setup.record_bytes, result="refused" if path in ANSWERED else "unknown",
        status=STATUS.get(path), **members,
    )  # fmt: skip
