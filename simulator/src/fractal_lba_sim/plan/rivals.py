"""Two clients write one id with different content: who is first, who is told, who is overridden.

The invariant of this file: a rival that reaches a region which holds the other one is refused as a
conflict; where neither region knows of the other both are taken, and which of them stands is
`core.fate.merge`. It is decided for all ids at once, when the run is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fractal_lba_server.core import fate
from fractal_lba_server.core.fate import Frames

from .arrivals import Moments
from .logs import OPEN_END, Beaten, Log, Part
from .sites import RIVAL, Feed
from .tracing import STARTED_UNIX_NS

if TYPE_CHECKING:
    from .world import World

NEVER_NS: Final = OPEN_END >> 1
CONFLICT: Final = 409

Whole = NDArray[np.int64]


class Tries(NamedTuple):
    """What one client tried: when each id was durable at a region, and where; never: not sent."""

    feed: Feed
    at_ns: Whole
    place: Whole
    """Number of the log in the list of all."""


def settle_rivals(world: World) -> None:
    """Decide about all rivals, and put those that were taken into the logs."""
    for placement in world.setup.placements:
        feeds = [f for f in world.feeds if f.kind == RIVAL and f.placement == placement]
        if len(feeds) > 1:
            _settle(world, feeds)


def _settle(world: World, feeds: list[Feed]) -> None:
    count = min(feed.source.before(world.setup.load_end_ns) for feed in feeds)
    tries = [_tries(world, feed, count) for feed in feeds]
    at_ns = np.array([one.at_ns for one in tries])
    place = np.array([one.place for one in tries])
    taken = _taken(world, at_ns, place)
    stamps = _stamps(world, at_ns, place, taken)
    ranks = np.array([world.setup.rank(log.region) for log in world.logs])
    epochs = np.array([log.region_epoch for log in world.logs])
    best = _first(stamps, ranks[place], epochs[place], at_ns, taken)
    for row, one in enumerate(tries):
        mine = taken[row]
        won, lost = mine & (best == row), mine & (best != row)
        for number, log in enumerate(world.logs):
            here = place[row] == number
            _add(log, one.feed, np.sort(at_ns[row][won & here]), None)
            where = np.flatnonzero(lost & here)
            where = where[np.argsort(at_ns[row][where], kind="stable")]
            by = [Beaten(world.logs[int(place[best[i], i])], int(at_ns[best[i], i])) for i in where]
            _add(log, one.feed, at_ns[row][where], by)
        _refused(world, one, (at_ns[row] < NEVER_NS) & ~mine)


def _tries(world: World, feed: Feed, count: int) -> Tries:
    """Find when and where each id of a client was durable."""
    at_ns = np.full(count, NEVER_NS)
    place = np.zeros(count, dtype=np.int64)
    numbers = {id(log): number for number, log in enumerate(world.logs)}
    for part in feed.parts:
        assert part.log_then is not None  # it is noted for every rival
        for i in range(part.begin, min(part.end, count)):
            at_ns[i] = part.durable(i)
            place[i] = numbers[id(part.log_then)]
    return Tries(feed, at_ns, place)


def _stamps(world: World, at_ns: Whole, place: Whole, taken: NDArray[np.bool_]) -> Whole:
    """Give the stamp that each try got by the clock of its region; one that was not taken: none."""
    stamps = np.zeros_like(at_ns)
    for number, log in enumerate(world.logs):
        here = np.flatnonzero(taken & (place == number))
        here = here[np.argsort(at_ns.flat[here], kind="stable")]
        shown = world.clocks.shown(log.region, at_ns.flat[here])
        stamps.flat[here] = fate.ticks(0, STARTED_UNIX_NS + shown)
    return stamps


def _taken(world: World, at_ns: Whole, place: Whole) -> NDArray[np.bool_]:
    """Say which tries were taken: those whose region knew of no earlier one that was."""
    order = np.argsort(at_ns, axis=0, kind="stable")
    taken = np.zeros(at_ns.shape, dtype=np.bool_)
    columns = np.arange(at_ns.shape[1])
    for turn in range(len(at_ns)):
        mine = order[turn]
        when, where = at_ns[mine, columns], place[mine, columns]
        free = when < NEVER_NS
        for earlier in range(turn):
            other = order[earlier]
            known_ns = _arrivals(world, at_ns[other, columns], place[other, columns], where)
            free &= ~(taken[other, columns] & (known_ns <= when))
        taken[mine, columns] = free
    return taken


def _arrivals(world: World, at_ns: Whole, place: Whole, there: Whole) -> Whole:
    """Give when the region of one log knew what had become durable in another."""
    known = np.full(at_ns.shape, NEVER_NS)
    for number, log in enumerate(world.logs):
        for target, other in enumerate(world.logs):
            here = (place == number) & (there == target)
            if here.any():
                known[here] = world.known_at(log, other.region, at_ns[here])
    return known


def _first(
    stamps: Whole, ranks: Whole, epochs: Whole, at_ns: Whole, taken: NDArray[np.bool_]
) -> Whole:
    """Give by id which try stands, as the regions will agree."""
    best = np.argmax(taken, axis=0)
    columns = np.arange(taken.shape[1])
    for row in range(len(taken)):
        # Within one log the earlier record has the smaller number.
        mine = Frames(stamps[row], ranks[row], epochs[row], at_ns[row], np.full(len(best), row))
        standing = Frames(
            stamps[best, columns], ranks[best, columns], epochs[best, columns],
            at_ns[best, columns], best,
        )  # fmt: skip
        met = fate.merge(mine, standing)
        best = np.where(taken[row] & met.wins, row, best)
    return np.asarray(best)


def _add(log: Log, feed: Feed, at_ns: Whole, beaten: list[Beaten] | None) -> None:
    if len(at_ns):
        part = Part(
            feed, Moments(at_ns), 0, 0, 0, 0, end=len(at_ns), last_ns=int(at_ns[-1]),
            region=log.region, beaten=beaten,
        )  # fmt: skip
        log.add(part)


def _refused(world: World, tried: Tries, mask: NDArray[np.bool_]) -> None:
    """Write the rivals that were told of a conflict, by the region that told them."""
    for number, log in enumerate(world.logs):
        when = np.sort(tried.at_ns[mask & (tried.place == number)])
        if len(when):
            world.events.add(
                "flow", int(when[-1]), first_ns=int(when[0]), client=tried.feed.client,
                region=log.region, placement=log.placement, region_epoch=log.region_epoch,
                count=len(when), bytes=len(when) * world.setup.record_bytes, result="refused",
                status=CONFLICT,
            )  # fmt: skip
