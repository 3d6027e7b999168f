"""Judge runs of records as the records that they stand for (spec/drills.md 2.9-2.12, 4.16-4.20).

The invariant of this file: no step costs more for a run of a million records than for a run of
one, and each answer is the one that the single records would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from .parts import (
    CLASSES,
    END,
    FAILOVER,
    LEVELS,
    POSITIVE,
    SERVER_FAULT,
    Books,
    Canaries,
    Event,
    Incident,
    Loss,
    Members,
    Names,
    Trouble,
    Writers,
    Writing,
)
from .ranges import Growing, Pair, Ranges

HELD: Final = CLASSES[:3]
EMPTY: Final = Ranges()

Fates = dict[str, Ranges]
"""By class, the numbers of one stream."""


def stream_of(region: str, placement: str, region_epoch: int) -> str:
    """Name a stream as positions do."""
    return f"{region}/{placement}/{region_epoch}"


def region_of(stream: str) -> str:
    """Give the region whose stream it is."""
    return stream.partition("/")[0]


class Piece(NamedTuple):
    """A part of a flow that acknowledged its numbers first."""

    begin: int
    end: int
    flow: Event

    def until(self, at_ns: int) -> int:
        """Give the first number of it that was acknowledged after a moment."""
        first = int(self.flow["first"])
        return min(self.end, max(self.begin, first + answered(self.flow, at_ns)))

    def loss(self, begin: int, end: int) -> Loss:
        """Give what the loss of some of its numbers is."""
        flow, first = self.flow, self.flow["first"]
        size, count = flow["bytes"], flow["count"]
        below, above = (begin - first) * size // count, (end - first) * size // count
        return Loss(
            end - begin, above - below,
            answer_ns(flow, begin - first), answer_ns(flow, end - 1 - first),
        )  # fmt: skip


def answer_ns(flow: Event, place: int) -> int:
    """Give when the answer at a place of a flow came (spec/drills.md 2.10)."""
    first, last, count = flow["first_ns"], flow["at_ns"], flow["count"]
    return int(last if count == 1 else first + place * (last - first) // (count - 1))


def answered(flow: Event, at_ns: int) -> int:
    """Count the answers of a flow up to and with a moment."""
    first, last, count = flow["first_ns"], flow["at_ns"], flow["count"]
    if at_ns >= last:
        return int(count)
    if count == 1 or at_ns < first:
        return 0
    return int(min(count, 1 + ((at_ns - first + 1) * (count - 1) - 1) // (last - first)))


def censuses(lines: Iterable[Event]) -> dict[str, dict[str, dict[str, Fates]]]:
    """Gather `span` lines: by census, by the region that held, by stream, by class."""
    found: dict[str, dict[str, dict[str, dict[str, list[Pair]]]]] = {}
    for line in lines:
        stream = stream_of(line["of"], line["placement"], line["region_epoch"])
        streams = found.setdefault(line["census"], {}).setdefault(line["region"], {})
        pairs = streams.setdefault(stream, {}).setdefault(line["class"], [])
        pairs.append((line["first"], line["first"] + line["count"]))
    return {
        census: {
            region: {
                stream: {name: Ranges(pairs) for name, pairs in classes.items()}
                for stream, classes in streams.items()
            }
            for region, streams in regions.items()
        }
        for census, regions in found.items()
    }


class Runs:
    """The flows and spans of a trace."""

    def __init__(
        self, flows: Sequence[Event], spans: Iterable[Event], *,
        census_at: Mapping[str, int], marks: Sequence[Event], audits: Sequence[Event],
    ) -> None:  # fmt: skip
        """Take the lines in the order of their time; `census_at` says when censuses were over."""
        self.flows = sorted(flows, key=lambda flow: int(flow["first_ns"]))
        self._marks = marks
        self._audits = audits
        self._census_at = census_at
        self._censuses = censuses(spans)
        self._twice: list[str] = []
        self._fates: dict[str, dict[str, Fates]] = {}

    def __bool__(self) -> bool:
        return bool(self.flows or self._censuses)

    @staticmethod
    def stream(flow: Event) -> str:
        """Give the stream whose numbers a flow names."""
        region = flow.get("of", flow["region"])
        return stream_of(region, flow["placement"], flow["region_epoch"])

    @cached_property
    def pieces(self) -> dict[str, list[Piece]]:
        """Give by stream what was acknowledged, each number once."""
        known: dict[str, Growing] = {}
        new: dict[str, Growing] = {}
        found: dict[str, list[Piece]] = {}
        for flow in self.flows:
            if flow["result"] not in POSITIVE or "first" not in flow:
                continue
            stream = self.stream(flow)
            begin, end = flow["first"], flow["first"] + flow["count"]
            if flow["result"] == "new":
                fresh = Ranges(new.setdefault(stream, Growing()).add(begin, end))
                again = Ranges([(begin, end)]) - fresh
                if again:
                    self._twice.append(f"{stream}/{again.first} was acknowledged as new twice")
            for pair in known.setdefault(stream, Growing()).add(begin, end):
                found.setdefault(stream, []).append(Piece(*pair, flow))
        for pieces in found.values():
            pieces.sort(key=lambda piece: piece.begin)
        return found

    @cached_property
    def acked(self) -> dict[str, Ranges]:
        """Give by stream the numbers that were acknowledged."""
        return {
            stream: Ranges((piece.begin, piece.end) for piece in pieces)
            for stream, pieces in self.pieces.items()
        }

    def _acked_by(self, at_ns: int) -> dict[str, Ranges]:
        return {
            stream: Ranges((piece.begin, piece.until(at_ns)) for piece in pieces)
            for stream, pieces in self.pieces.items()
        }

    def _held(self, census: str) -> dict[str, Fates]:
        """Give by stream what any region held, by class."""
        held: dict[str, dict[str, list[Pair]]] = {}
        for streams in self._censuses.get(census, {}).values():
            for stream, classes in streams.items():
                for name, ranges in classes.items():
                    held.setdefault(stream, {}).setdefault(name, []).extend(ranges.pairs)
        return {
            stream: {name: Ranges(classes.get(name, ())) for name in HELD}
            for stream, classes in held.items()
        }

    def fates(self, census: str) -> dict[str, Fates]:
        """Give by stream what became of what a census must know."""
        if census not in self._fates:
            held = self._held(census)
            acked = self._acked_by(self._census_at[census])
            self._fates[census] = {
                stream: _settled(numbers, held.get(stream, {})) for stream, numbers in acked.items()
            }
        return self._fates[census]

    def clients(self) -> Mapping[str, int]:
        """Count the records by the client that sent them."""
        counts: Counter[str] = Counter()
        for flow in self.flows:
            counts[flow["client"]] += flow["count"] * (flow["result"] == "new")
        return counts

    def results(self) -> Mapping[str, int]:
        """Count the answers of puts by result."""
        counts: Counter[str] = Counter()
        for flow in self.flows:
            counts[flow["result"]] += flow["count"]
        return counts

    def books(self, census: str) -> Books:
        """Put every acknowledgement that a census must know into one class."""
        books = Books()
        brought = self._brought(census)
        held = self._held(census)
        for stream, classes in self.fates(census).items():
            if not classes["acked"]:
                continue
            counts = {name: len(classes[name]) for name in CLASSES}
            books.add(region_of(stream), counts | {"acked": len(classes["acked"])})
            books.faults += _at_once(stream, classes["acked"], held.get(stream, {}))
            mended = classes["lost"] & brought.get(stream, EMPTY)
            books.brought += len(mended)
            books.lost_for_good += _named(stream, classes["lost"] - mended)
        books.faults += Names(len(self._twice), self._twice[0] if self._twice else None)
        books.check()
        return books

    def _brought(self, census: str) -> dict[str, Ranges]:
        """Give by stream what stands, itself or as the same record that was sent again."""
        alive = {
            stream: classes["winner"] | classes["duplicate"]
            for stream, classes in self._held(census).items()
        }
        # Back to what was sent first, and from there to whatever was sent of it later.
        for target, source, sent, by in reversed(self._again):
            stands = sent & alive.get(target, EMPTY)
            alive[source] = alive.get(source, EMPTY) | stands.shifted(-by)
        for target, source, sent, by in self._again:
            stands = sent & alive.get(source, EMPTY).shifted(by)
            alive[target] = alive.get(target, EMPTY) | stands
        return alive

    @cached_property
    def _again(self) -> list[tuple[str, str, Ranges, int]]:
        """Give what was sent again: new and old stream, new numbers, distance to the old ones."""
        found = []
        for flow in self.flows:
            if "again" in flow and "first" in flow:
                old, first = flow["again"], flow["first"]
                source = stream_of(old["region"], flow["placement"], old["region_epoch"])
                sent = Ranges([(first, first + flow["count"])])
                found.append((self.stream(flow), source, sent, first - old["first"]))
        return found

    def at_level(self, level: str) -> tuple[int, Names]:
        """Count what was acknowledged at a level or above, and name what of it is lost."""
        wanted = LEVELS.index(level)
        strong: dict[str, list[Pair]] = {}
        for flow in self.flows:
            if flow["result"] in POSITIVE and "first" in flow:
                pairs = strong.setdefault(self.stream(flow), [])
                if LEVELS.index(flow.get("level", LEVELS[0])) >= wanted:
                    pairs.append((flow["first"], flow["first"] + flow["count"]))
        for mark in self._marks if wanted <= LEVELS.index("replicated") else ():
            stream = stream_of(mark["region"], mark["placement"], mark["region_epoch"])
            strong.setdefault(stream, []).append((0, mark["seq"] + 1))
        count, lost = 0, Names()
        fates = self.fates(END)
        for stream, acked in self.acked.items():
            firm = Ranges(strong[stream]) & acked
            count += len(firm)
            lost += _named(stream, firm & fates[stream]["lost"])
        return count, lost

    def charged(self, census: str, incidents: Sequence[Incident]) -> list[Loss]:
        """Give for every fault the acknowledged writes that it took."""
        losses = [Loss() for _ in incidents]
        for stream, classes in self.fates(census).items() if incidents else ():
            for piece, begin, end in self._parts(stream, classes["lost"]):
                at = begin
                for place, one in enumerate(incidents):
                    last = place == len(incidents) - 1
                    over = end if last else min(end, max(at, piece.until(one.injected_ns)))
                    if at < over:
                        losses[place].add(piece.loss(at, over))
                    at = over
        return losses

    def _parts(self, stream: str, numbers: Ranges) -> Iterator[tuple[Piece, int, int]]:
        """Give the numbers with the flows that acknowledged them."""
        pieces = self.pieces[stream]
        place = 0
        for begin, end in numbers.pairs:
            while pieces[place].end <= begin:
                place += 1
            look = place
            while look < len(pieces) and pieces[look].begin < end:
                piece = pieces[look]
                yield piece, max(begin, piece.begin), min(end, piece.end)
                look += 1

    def late(self) -> tuple[int, int]:
        """Count what was lost at the failover, and what of it is back at the end."""
        gone = back = 0
        after = self.fates(END)
        for stream, classes in self.fates(FAILOVER).items():
            gone += len(classes["lost"])
            back += len(classes["lost"] - after[stream]["lost"])
        return gone, back

    def phantoms(self) -> tuple[int, Names]:
        """Count what was sent, and name what is held at the end that nobody sent."""
        sent: dict[str, Growing] = {}
        for flow in self.flows:
            if "first" in flow:
                numbers = sent.setdefault(self.stream(flow), Growing())
                numbers.add(flow["first"], flow["first"] + flow["count"])
        known = {stream: numbers.ranges() for stream, numbers in sent.items()}
        ghosts = Names()
        for stream, classes in sorted(self._held(END).items()):
            held = Ranges(pair for ranges in classes.values() for pair in ranges.pairs)
            ghosts += _named(stream, held - known.get(stream, EMPTY))
        return sum(map(len, known.values())), ghosts

    def resurrected(self) -> tuple[int, Names]:
        """Count what was overridden, and name what of it stood later."""
        down: dict[str, Ranges] = {}
        back = Names()
        for census in sorted(self._censuses, key=lambda name: self._census_at[name]):
            for stream, classes in self._held(census).items():
                before = down.get(stream, EMPTY)
                back += _named(stream, classes["winner"] & before)
                down[stream] = before | classes["duplicate"] | classes["displaced"]
        return sum(map(len, down.values())), back

    def hidden(self, members: Members) -> tuple[str, str] | None:
        """Give a region and a displaced write that it cannot show at the end."""
        census = self._censuses.get(END, {})
        for stream, classes in self.fates(END).items():
            for region in members(stream.split("/")[1]):
                shown = census.get(region, {}).get(stream, {}).get("displaced", EMPTY)
                missing = classes["displaced"] - shown
                if missing:
                    return region, f"{stream}/{missing.first}"
        return None

    def unequal(self, placement: str, regions: Sequence[str]) -> bool:
        """Say whether regions hold different outcomes of a placement at the end."""
        census = self._censuses.get(END, {})
        states = [
            {
                stream: classes["winner"]
                for stream, classes in census.get(region, {}).items()
                if stream.split("/")[1] == placement and "winner" in classes
            }
            for region in regions
        ]
        return any(state != states[0] for state in states)

    def writers(self) -> Writers:
        """Say who accepted writes, and when."""
        found: Writers = {}
        for flow in self.flows:
            if flow["result"] != "new":
                continue
            called = flow["at_ns"] - flow.get("took_ns", 0)
            regions = found.setdefault((flow["placement"], flow["region_epoch"]), {})
            known = regions.get(flow["region"], Writing(flow["first_ns"], called))
            regions[flow["region"]] = Writing(
                min(known.first_ns, flow["first_ns"]), max(known.last_call_ns, called)
            )
        return found

    def canaries(self) -> Canaries:
        """Count the known duplicates that were sent again."""
        counts: Counter[str] = Counter()
        for flow in self.flows:
            if flow.get("canary"):
                counts[flow["result"]] += flow["count"]
        return Canaries(sum(counts.values()), counts["new"], counts["duplicate"])

    def trouble(self) -> Trouble:
        """Count the requests that failed."""
        sent = bad = unclear = 0
        for flow in self.flows:
            sent += flow["count"]
            if flow["result"] == "unknown" or flow.get("status", 0) >= SERVER_FAULT:
                bad += flow["count"]
            elif flow["result"] == "refused" and "status" not in flow:
                unclear += flow["count"]
        return Trouble(sent, bad, unclear, "unknown" if bad else None)

    def refused_after(self, at_ns: int) -> int:
        """Count the refusals with a status from a moment on."""
        return sum(
            flow["count"] - answered(flow, at_ns - 1)
            for flow in self.flows
            if flow["result"] == "refused" and "status" in flow
        )

    def in_flight(self, at_ns: int) -> int:
        """Count the puts that were under way at a moment."""
        return sum(
            answered(flow, at_ns + flow["took_ns"]) - answered(flow, at_ns)
            for flow in self.flows
            if "took_ns" in flow
        )

    def audit_gaps(self) -> Names:
        """Name acknowledged writes that the audit log has no entry of."""
        seen: dict[str, list[Pair]] = {}
        for line in self._audits:
            stream = stream_of(line["region"], line["placement"], line["region_epoch"])
            seen.setdefault(stream, []).append((line["first"], line["first"] + line["count"]))
        gaps = Names()
        for stream, acked in self.acked.items():
            gaps += _named(stream, acked - Ranges(seen.get(stream, ())))
        return gaps


def _settled(acked: Ranges, held: Fates) -> Fates:
    """Put every acknowledged number into the first class in which a region holds it."""
    classes = {"acked": acked}
    left = acked
    for name in HELD:
        classes[name] = left & held.get(name, EMPTY)
        left -= classes[name]
    classes["lost"] = left
    return classes


def _at_once(stream: str, acked: Ranges, held: Fates) -> Names:
    """Name the acknowledged numbers that are in two classes at once."""
    winner, duplicate, displaced = (acked & held.get(name, EMPTY) for name in HELD)
    both = (winner & duplicate) | (winner & displaced) | (duplicate & displaced)
    return Names(len(both), f"{stream}/{both.first} is in two classes at once" if both else None)


def _named(stream: str, numbers: Ranges) -> Names:
    return Names(len(numbers), f"{stream}/{numbers.first}" if numbers else None)
