"""Number the records at the end and write what became of them: flows, calls, spans, bounds.

The invariant of this file: every record that a client submitted is in one row of one log, was
answered as a duplicate, or waits in an outbox; and every row is written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..catalogue import counter_of
from .calls import write_calls
from .logs import Beaten, Log, Part, Row, held_count, numbered
from .refusals import write_refusals
from .rivals import settle_rivals
from .sites import CANARY, NEW, REPEAT

if TYPE_CHECKING:
    from .world import Holding, World

Place = tuple[str, str, int]


class Books:
    """The numbered logs of a run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: dict[Place, list[Row]] = {log.name: list(numbered(log)) for log in world.logs}
        self.rows_of: dict[int, list[Row]] = {}
        for rows in self.rows.values():
            for row in rows:
                self.rows_of.setdefault(id(row.part), []).append(row)

    def earlier(self, part: Part, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Give the numbers of records of a part, run by run: first record, count, first number."""
        for row in self.rows_of.get(id(part), ()):
            low, high = max(row.begin, begin), min(row.end, end)
            if low < high:
                yield low, high - low, row.first + low - row.begin


def write_end(world: World) -> None:
    """Write everything that is known only at the end."""
    settle_rivals(world)
    books = Books(world)
    for log in world.logs:
        for row in books.rows[log.name]:
            _write_row(world, books, log, row)
    for feed in world.feeds:
        for part in feed.parts:
            if feed.kind in (REPEAT, CANARY) or part.known:
                _write_known(world, books, part)
    write_calls(world)
    write_refusals(world)
    known: dict[str, dict[Place, int]] = {}
    for holding in world.censuses:
        union = known.setdefault(holding.name, {})
        for name, until_ns in holding.until_ns.items():
            union[name] = max(union.get(name, -1), until_ns)
    for holding in world.censuses:
        _write_holding(world, books, holding, known[holding.name])
    _write_marks(world, books)


def _times(part: Part, begin: int, end: int) -> dict[str, int]:
    first_ns = part.durable(begin) + part.answer_ns
    return {"first_ns": first_ns, "at_ns": max(first_ns, part.durable(end - 1) + part.answer_ns)}


def _write_row(world: World, books: Books, log: Log, row: Row) -> None:
    part = row.part
    size = world.setup.record_bytes
    silent = any(
        one is log and begin_ns < row.until_ns <= end_ns
        for one, begin_ns, end_ns in world.unanswered
    )
    members: dict[str, Any] = {
        "client": part.feed.client, "region": log.region, "placement": log.placement,
        "region_epoch": log.region_epoch, "result": "unknown" if silent else "new",
    }  # fmt: skip
    if not part.kept:
        members["took_ns"] = part.durable(row.begin) - part.source.due(row.begin) + part.answer_ns
    if part.again is None:
        world.events.add(
            "flow", **_times(part, row.begin, row.end), **members, first=row.first,
            count=row.count, bytes=row.count * size,
        )  # fmt: skip
        return
    old, offset = part.again
    for low, count, first in books.earlier(old, offset + row.begin, offset + row.end):
        begin = low - offset
        assert old.log is not None  # what was not durable has no number
        world.events.add(
            "flow", **_times(part, begin, begin + count), **members,
            first=row.first + begin - row.begin, count=count, bytes=count * size,
            again={"region": old.log.region, "region_epoch": old.log.region_epoch, "first": first},
        )  # fmt: skip


def _write_known(world: World, books: Books, part: Part) -> None:
    """Write answers that name what a region held already."""
    log = world.sites[part.region].logs[part.feed.placement]
    members: dict[str, Any] = {
        "client": part.feed.client, "region": part.region, "placement": log.placement,
        "result": "duplicate",
    }  # fmt: skip
    if part.feed.kind == CANARY:
        members["canary"] = True
    size = world.setup.record_bytes
    if part.again is None:
        end = part.end if part.known else part.until(world.agenda.now_ns)
        if end > part.begin:
            world.events.add(
                "flow", **_times(part, part.begin, end), **members, count=end - part.begin,
                region_epoch=log.region_epoch, bytes=(end - part.begin) * size,
            )  # fmt: skip
        return
    old, offset = part.again
    assert old.log is not None
    for low, count, first in books.earlier(old, offset + part.begin, offset + part.end):
        begin = low - offset
        world.events.add(
            "flow", **_times(part, begin, begin + count), **members, of=old.log.region,
            region_epoch=old.log.region_epoch, first=first, count=count, bytes=count * size,
        )  # fmt: skip


def _write_holding(world: World, books: Books, holding: Holding, known: dict[Place, int]) -> None:
    """Write the census of one region: runs of numbers, each in one class.

    `known` is up to where any region of the census holds each log: what all of them together know
    decides which of two writes of one record stands.
    """
    spans: list[tuple[Place, int, int, str]] = []
    for log in world.logs:
        until_ns = holding.until_ns.get(log.name, -1)
        if until_ns < 0:
            continue
        for row in books.rows[log.name]:
            if row.until_ns > until_ns:
                break
            for first, count, class_ in _classes(books, known, row):
                last = spans[-1] if spans else None
                if (
                    last
                    and last[0] == log.name
                    and last[1] + last[2] == first
                    and last[3] == class_
                ):
                    spans[-1] = (log.name, last[1], last[2] + count, class_)
                else:
                    spans.append((log.name, first, count, class_))
    keys = sum(count for _, _, count, class_ in spans if class_ == "winner")
    world.events.add("census", holding.at_ns, census=holding.name, region=holding.region, keys=keys)
    for (origin, placement, region_epoch), first, count, class_ in spans:
        members = {"class": class_}
        world.events.add(
            "span", holding.at_ns, census=holding.name, region=holding.region, of=origin,
            placement=placement, region_epoch=region_epoch, first=first, count=count, **members,
        )  # fmt: skip


def _classes(books: Books, known: dict[Place, int], row: Row) -> Iterator[tuple[int, int, str]]:
    """Give runs of a row with what became of them."""
    part = row.part
    if part.beaten is not None:
        yield from _beaten(part.beaten, known, row)
        return
    if part.again is None:
        yield row.first, row.count, "winner"
        return
    old, offset = part.again
    assert old.log is not None
    until_ns = known.get(old.log.name, -1)
    for earlier in books.rows_of.get(id(old), ()):
        low, high = max(earlier.begin, offset + row.begin), min(earlier.end, offset + row.end)
        if low < high:
            held = earlier.until_ns <= until_ns
            yield (
                row.first + low - offset - row.begin,
                high - low,
                "duplicate" if held else "winner",
            )


def _beaten(
    beaten: Sequence[Beaten], known: dict[Place, int], row: Row
) -> Iterator[tuple[int, int, str]]:
    """Say of writes that lost against others whether those are known."""
    for place in range(row.begin, row.end):
        by = beaten[place]
        lost = by.at_ns <= known.get(by.log.name, -1)
        yield row.first + place - row.begin, 1, "displaced" if lost else "winner"


def _write_marks(world: World, books: Books) -> None:
    """Write up to where each log was known to be replicated, and what outboxes hold."""
    now_ns = world.agenda.now_ns
    for log in world.logs:
        seq = held_count(books.rows[log.name], world.levels[log.name].replicated)
        if seq:
            world.events.add(
                "watermark", now_ns, region=log.region, placement=log.placement,
                region_epoch=log.region_epoch, seq=seq,
            )  # fmt: skip
    waiting: dict[str, int] = {}
    for feed in world.feeds:
        left = feed.waiting
        if feed.kind == NEW and feed.taken < (total := feed.source.before(now_ns)):
            left += total - feed.taken
        waiting[feed.client] = waiting.get(feed.client, 0) + left
    for client, count in waiting.items():
        world.events.add("outbox", now_ns, client=client, waiting=count)
    for incident in world.incidents.all:
        effects = dict(sorted(incident.effects.items()))
        if any(effects.values()):
            effects[counter_of(incident.fault["kind"])] = max(effects.values())
        world.events.fault(incident.fault, "effect", now_ns, effects=effects)
