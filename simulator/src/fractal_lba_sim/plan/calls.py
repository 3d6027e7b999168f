"""What the users of a client saw: calls that were good, late, or found nobody.

The invariant of this file: every call that was due is in one line of its client, and is good if it
was answered within the patience of its user. Lines follow one another without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Final, NamedTuple

from .arrivals import Shared
from .logs import Part
from .sites import Feed

if TYPE_CHECKING:
    from .world import World

DRAWN_MAX: Final = 200
"""So many failing calls of a part are drawn one by one; of more, a share says enough."""


class Stretch(NamedTuple):
    """Calls of one feed in a row that met the same."""

    begin: int
    end: int
    good: float
    """Share of them."""
    took_ns: int


def write_calls(world: World) -> None:
    """Write the calls of every client."""
    feeds_of: dict[str, list[Feed]] = {}
    for feed in world.feeds:
        feeds_of.setdefault(feed.client, []).append(feed)
    for client, feeds in feeds_of.items():
        last: tuple[int, int, int, float, int] | None = None
        for begin_ns, end_ns, count, good, took_ns in _lines(world, feeds):
            same = last is not None and good == last[3] * count / max(last[2], 1)
            if last is not None and same and took_ns == last[4]:
                last = (last[0], end_ns, last[2] + count, last[3] + good, took_ns)
                continue
            if last is not None:
                _write(world, client, *last)
            last = (begin_ns, end_ns, count, good, took_ns)
        if last is not None:
            _write(world, client, *last)


def _write(
    world: World, client: str, begin_ns: int, end_ns: int, count: int, good: float, took_ns: int
) -> None:
    world.events.add(
        "calls", end_ns, from_ns=begin_ns, client=client, count=count, good=round(good),
        took_ns=took_ns,
    )  # fmt: skip


def _lines(world: World, feeds: Sequence[Feed]) -> Iterator[tuple[int, int, int, float, int]]:
    """Cut the time of a client where the fate of any of its calls changes; leave out the empty."""
    end_ns = world.setup.load_end_ns
    cuts = {0, end_ns}
    rows: list[tuple[Feed, list[Stretch]]] = []
    for feed in feeds:
        stretches = list(_joined(_stretches(world, feed, feed.source.before(end_ns))))
        rows.append((feed, stretches))
        cuts.update(min(feed.source.due(one.begin), end_ns) for one in stretches)
        if isinstance(feed.source, Shared):
            cuts.update(at_ns for at_ns in feed.source.steps if at_ns < end_ns)
    places = [0] * len(rows)
    begins = [feed.source.before(0) for feed in feeds]
    begin_ns = 0
    for high_ns in sorted(cuts)[1:]:
        count, good, took_ns = 0, 0.0, 0
        for number, (feed, stretches) in enumerate(rows):
            begin, end = begins[number], feed.source.before(high_ns)
            begins[number] = end
            while places[number] < len(stretches) and stretches[places[number]].end <= begin:
                places[number] += 1
            if end > begin:
                one = stretches[places[number]]
                count += end - begin
                good += (end - begin) * one.good
                took_ns = max(took_ns, one.took_ns if one.good else 0)
        if count:
            yield begin_ns, high_ns, count, good, took_ns
            begin_ns = high_ns


def _stretches(world: World, feed: Feed, total: int) -> Iterator[Stretch]:
    at = 0
    for part in feed.parts:
        if part.kept or part.end <= part.begin:
            continue
        if part.begin > at:
            yield Stretch(at, part.begin, 0.0, 0)
        end = min(part.end, total)
        yield from _served(world, part, end)
        at = max(at, end)
    if at < total:
        yield Stretch(at, total, 0.0, 0)


def _took_ns(world: World, part: Part, number: int) -> int:
    """Give how long a call took: until its answer, or until it is known to be replicated."""
    durable_ns = part.durable(number)
    answer_ns = durable_ns + part.answer_ns
    if part.log is not None and part.feed.level != "durable":
        answer_ns = world.replicated_ns(part.log, durable_ns) + part.answer_ns
    return answer_ns - part.source.due(number)


def _drawn(world: World, part: Part, end: int) -> Iterator[Stretch]:
    """Draw which calls of a part fail, where they are few: a share says nothing about a gap."""
    took_ns = _took_ns(world, part, part.begin)
    name = ("client", part.feed.client, part.region, "bad calls", str(part.begin))
    chance, at = world.setup.streams.of(*name), part.begin
    while at < end:
        bad = min(end, at + int(log(1 - chance.random()) / log(1 - part.bad_share)))
        if bad > at:
            yield Stretch(at, bad, 1.0 * (took_ns <= world.setup.patience_ns), took_ns)
        if bad < end:
            yield Stretch(bad, bad + 1, 0.0, 0)
        at = bad + 1


def _served(world: World, part: Part, end: int) -> Iterator[Stretch]:
    """Split a part where its calls begin, or cease, to take too long."""
    if part.begin >= end:
        return
    if 0 < part.bad_share < 1 and (end - part.begin) * part.bad_share <= DRAWN_MAX:
        yield from _drawn(world, part, end)
        return
    good, patience_ns = 1 - part.bad_share, world.setup.patience_ns
    marks = [part.begin, end]
    if part.log is not None and part.feed.level != "durable":
        numbers = {part.until(moment) for moment in world.stall_moments(part.log)}
        marks[1:1] = sorted(number for number in numbers if part.begin < number < end)
    for begin, last in pairwise(marks):
        took = [_took_ns(world, part, number) for number in (begin, last - 1)]
        inside = [one <= patience_ns for one in took]
        if inside[0] == inside[1]:
            yield Stretch(begin, last, good * inside[0], sum(took) // 2)
            continue
        low, high = begin, last - 1
        while high - low > 1:  # the wait grows or shrinks all along
            middle = (low + high) // 2
            if (_took_ns(world, part, middle) <= patience_ns) == inside[0]:
                low = middle
            else:
                high = middle
        yield Stretch(begin, high, good * inside[0], (took[0] + patience_ns) // 2)
        yield Stretch(high, last, good * inside[1], (took[1] + patience_ns) // 2)


def _joined(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """Join neighbours that met the same."""
    last: Stretch | None = None
    for one in stretches:
        if last is not None and last.good == one.good and last.took_ns == one.took_ns:
            last = last._replace(end=one.end)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last
