"""Judge millions of records as columns, in time and memory that grow with their number.

The invariant of this file: every answer is the one that `listed.py` and `callers.py` give for the
same lines. This file and `column_histories.py` alone need numpy.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from .column_histories import (
    DUPLICATE,
    LOST_ANSWER,
    NEW,
    REFUSED,
    Column,
    ColumnCalls,
    Table,
    first_rows,
    registers,
    stale,
)
from .flows import stream_of
from .intake import CALLS, KINDS, NO_DIGEST, RESULTS, Columns
from .listed import HLC_COUNTER_BITS, HLC_DIGITS
from .parts import (
    CLASSES,
    END,
    FAILOVER,
    LEVELS,
    SERVER_FAULT,
    Answers,
    Books,
    Canaries,
    Event,
    Incident,
    Loss,
    Members,
    Names,
    Registers,
    Stale,
    Trouble,
    Writers,
    Writing,
)

WINNER, SAME, DISPLACED, LOST, UNACKED = range(5)
"""Classes of frames as numbers, in the order of CLASSES."""


def ordered(table: Mapping[str, array[int]], by: str = "at") -> Table:
    """Give columns in the order of time; lines of one moment stay in theirs."""
    columns = {name: as_column(column) for name, column in table.items()}
    if np.any(np.diff(columns[by]) < 0):
        order = np.argsort(columns[by], kind="stable")
        return {name: column[order] for name, column in columns.items()}
    return columns


def as_column(values: array[int]) -> Column:
    """Look at numbers without copying them."""
    return np.frombuffer(values, values.typecode) if len(values) else np.empty(0, values.typecode)


class _Census:
    """What the regions held at one census, the last line of each id in each region."""

    def __init__(self, records: ColumnRecords, number: int) -> None:
        held = records.held
        rows = np.flatnonzero(held["census"] == number)
        place = held["region"][rows].astype(np.int64) * len(records.keys) + held["key"][rows]
        last = np.full(len(records.regions) * len(records.keys), -1, np.int64)
        last[place] = rows
        self.rows = rows[last[place] == rows]
        self.region = held["region"][self.rows]
        self.key = held["key"][self.rows]
        self.frame = held["frame"][self.rows]
        self.content = held["content"][self.rows]
        self.placement = held["placement"][self.rows]
        under = records.under
        mine = np.zeros(len(held["key"]) + 1, bool)
        mine[self.rows] = True
        self.under = np.flatnonzero(mine[under["row"]])
        """Rows of what was overridden."""


class ColumnRecords:
    """The records of a trace as columns."""

    def __init__(
        self, columns: Columns, census_at: Mapping[str, int], of: Callable[[str], list[Event]]
    ) -> None:
        """Take columns, and what gives the lines of a kind that are not in them."""
        self._of = of
        self._census_at = census_at
        self._census_of: dict[str, _Census] = {}
        self._classes_of: dict[str, tuple[Column, Names]] = {}
        self.keys, self.frames, self.regions = (
            list(names) for names in (columns.keys, columns.frames, columns.regions)
        )
        self.streams, self._reasons = list(columns.streams), list(columns.reasons)
        self._numbers = {"census": columns.censuses, "placement": columns.placements}
        self._region_number = columns.regions
        self.put, self.get, self.call = map(ordered, (columns.put, columns.get, columns.call))
        self.under = {name: as_column(column) for name, column in columns.under.items()}
        at = as_column(columns.held["at"])
        order = np.argsort(at, kind="stable")
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        self.held = {name: as_column(column)[order] for name, column in columns.held.items()}
        self.under["row"] = back[self.under["row"]]
        order = np.argsort(self.under["row"], kind="stable")
        self.under = {name: column[order] for name, column in self.under.items()}

    @cached_property
    def _positive(self) -> Column:
        return (self.put["result"] <= DUPLICATE) & (self.put["frame"] > 0)

    @cached_property
    def _ack(self) -> Column:
        """Give by frame the row of the put that acknowledged it first, -1 without one."""
        rows = np.flatnonzero(self._positive)
        return first_rows(self.put["frame"][rows], rows, len(self.frames))

    @cached_property
    def _acked(self) -> Column:
        """Give the acknowledged frames in the order of their acknowledgement."""
        frames = np.flatnonzero(self._ack >= 0)
        return frames[np.argsort(self._ack[frames], kind="stable")]

    @cached_property
    def _region_of(self) -> Column:
        """Give by frame the number of the region in its name."""
        numbers: dict[str, int] = {}
        names = [frame.partition(":")[0] for frame in self.frames]
        return np.array([numbers.setdefault(name, len(numbers)) for name in names])

    def census(self, name: str) -> _Census:
        """Give what the regions held at one census."""
        if name not in self._census_of:
            number = self._numbers["census"].get(name, -1)
            self._census_of[name] = _Census(self, number)
        return self._census_of[name]

    def _classes(self, name: str) -> tuple[Column, Names]:
        """Give by frame its class in a census, and what is in two classes at once."""
        if name in self._classes_of:
            return self._classes_of[name]
        census = self.census(name)
        known = np.full(len(self.frames), -1, np.int64)
        rows = self._ack[self._acked]
        in_time = self._acked[self.put["at"][rows] <= self._census_at[name]]
        known[in_time] = self.put["key"][self._ack[in_time]]
        found = np.zeros((3, len(self.frames)), bool)
        found[WINNER][census.frame[known[census.frame] == census.key]] = True
        under, row = self.under, self.under["row"][census.under]
        frame = under["frame"][census.under]
        same = under["content"][census.under] == self.held["content"][row]
        told = under["kind"][census.under] == KINDS.index("duplicate")
        fits = known[frame] == self.held["key"][row]
        found[SAME][frame[fits & (same | told)]] = True
        found[DISPLACED][frame[fits & ~(same & told)]] = True
        classes = np.full(len(self.frames), UNACKED, np.int8)
        classes[in_time] = LOST
        for place in (DISPLACED, SAME, WINNER):
            classes[found[place]] = place
        wrong = in_time[found.sum(axis=0)[in_time] > 1]
        said = None
        if len(wrong):
            names = sorted(n for n, flags in zip(CLASSES, found, strict=False) if flags[wrong[0]])
            said = f"{self.frames[wrong[0]]} is {' and '.join(names)} at once"
        self._classes_of[name] = classes, Names(len(wrong), said)
        return self._classes_of[name]

    def _lost(self, name: str) -> Column:
        """Give the frames that are lost in a census, in the order of their acknowledgement."""
        classes, _ = self._classes(name)
        lost: Column = self._acked[classes[self._acked] == LOST]
        return lost

    def _named(self, frames: Column) -> Names:
        return Names(len(frames), self.frames[frames[0]] if len(frames) else None)

    def _named_keys(self, flags: Column) -> Names:
        """Name the ids that are flagged."""
        keys = np.flatnonzero(flags)
        return Names(len(keys), min((self.keys[key] for key in keys), default=None))

    def results(self) -> Counter[str]:
        """Count the answers of puts by result."""
        counts = np.bincount(self.put["result"], minlength=len(RESULTS))
        return Counter({n: int(c) for n, c in zip(RESULTS, counts, strict=True) if c})

    def books(self, census: str) -> Books:
        """Put every acknowledgement that a census must know into one class."""
        classes, faults = self._classes(census)
        books = Books(faults=faults)
        known = self._acked[classes[self._acked] != UNACKED]
        place = self._region_of[known] * 4 + classes[known]
        counts = np.bincount(place, minlength=4 * (int(self._region_of.max()) + 1))
        regions = list(dict.fromkeys(frame.partition(":")[0] for frame in self.frames))
        for number, region in enumerate(regions):
            row = dict(zip(CLASSES, map(int, counts[number * 4 : number * 4 + 4]), strict=True))
            if any(row.values()):
                books.add(region, row | {"acked": sum(row.values())})
        lost = self._lost(census)
        brought = self._stands(self.census(census), lost)
        books.brought = int(brought.sum())
        books.lost_for_good = self._named(lost[~brought])
        books.check()
        return books

    def _stands(self, census: _Census, frames: Column) -> Column:
        """Say of acknowledged frames whether their content stands as another."""
        rows = self._ack[frames]
        stands = np.zeros(len(frames), bool)
        for region in np.unique(census.region):
            mine = census.region == region
            content = np.zeros(len(self.keys), np.uint64)
            there = np.zeros(len(self.keys), bool)
            content[census.key[mine]] = census.content[mine]
            there[census.key[mine]] = True
            key = self.put["key"][rows]
            stands |= there[key] & (content[key] == self.put["content"][rows])
        return stands

    @cached_property
    def _level(self) -> Column:
        """Give by frame the strongest level of its answers."""
        put = self.put
        covered = np.full(len(self.streams), -1, np.int64)
        number = {name: place for place, name in enumerate(self.streams)}
        for mark in self._of("watermark"):
            stream = stream_of(mark["region"], mark["placement"], mark["region_epoch"])
            if stream in number:
                covered[number[stream]] = max(covered[number[stream]], mark["seq"])
        firm = (put["level"] == 0) & (put["seq"] >= 0) & (put["seq"] <= covered[put["stream"]])
        levels = np.maximum(put["level"], firm.astype(np.int8))
        strongest = np.zeros(len(self.frames), np.int8)
        for level in range(1, len(LEVELS)):
            strongest[put["frame"][self._positive & (levels >= level)]] = level
        return strongest

    def at_level(self, level: str) -> tuple[int, Names]:
        """Count what was acknowledged at a level or above, and name what of it is lost."""
        strong = self._level >= LEVELS.index(level)
        lost = self._lost(END)
        return int(strong[self._acked].sum()), self._named(lost[strong[lost]])

    def charged(self, census: str, incidents: Sequence[Incident]) -> list[Loss]:
        """Give for every fault the acknowledged writes that it took."""
        losses = [Loss() for _ in incidents]
        if not incidents:
            return losses
        rows = self._ack[self._lost(census)]
        at = self.put["at"][rows]
        place = np.searchsorted([one.injected_ns for one in incidents], at, side="left")
        place = np.minimum(place, len(incidents) - 1)
        for number in np.unique(place):
            mine = place == number
            size = int(self.put["bytes"][rows[mine]].sum())
            losses[number].add(
                Loss(int(mine.sum()), size, int(at[mine].min()), int(at[mine].max()))
            )
        return losses

    def late(self) -> tuple[int, int]:
        """Count what was lost at the failover, and what of it is back at the end."""
        gone = self._lost(FAILOVER)
        return len(gone), int((self._classes(END)[0][gone] != LOST).sum())

    def phantoms(self) -> tuple[int, Names]:
        """Count what was sent, and name what is held at the end that nobody sent."""
        sent = np.zeros(len(self.keys), bool)
        sent[self.put["key"]] = True
        held = np.zeros(len(self.keys), bool)
        held[self.census(END).key] = True
        return int(sent.sum()), self._named_keys(held & ~sent)

    def resurrected(self) -> tuple[int, Names]:
        """Count what was overridden, and name what of it stood later."""
        down, back = np.zeros((2, len(self.frames)), bool)
        for name in sorted(self._census_at, key=lambda name: self._census_at[name]):
            census = self.census(name)
            back[census.frame[down[census.frame]]] = True
            down[self.under["frame"][census.under]] = True
        frames = np.flatnonzero(back)
        first = min((self.frames[frame] for frame in frames), default=None)
        return int(down.sum()), Names(len(frames), first)

    def hidden(self, members: Members) -> tuple[str, str] | None:
        """Give a region and a displaced write that it cannot show at the end."""
        census = self.census(END)
        row = self.under["row"][census.under]
        frame, region = self.under["frame"][census.under], self.held["region"][row]
        displaced = self._classes(END)[0] == DISPLACED
        for name, number in sorted(self._numbers["placement"].items()):
            mine = np.zeros(len(self.frames), bool)
            mine[frame[self.held["placement"][row] == number]] = True
            for member in members(name):
                shown = np.zeros(len(self.frames), bool)
                shown[frame[region == self._region_number.get(member, -1)]] = True
                missing = np.flatnonzero(mine & displaced & ~shown)
                if len(missing):
                    return member, min(self.frames[place] for place in missing)
        return None

    def unequal(self, placement: str, regions: Sequence[str]) -> bool:
        """Say whether regions hold different outcomes of a placement at the end."""
        census = self.census(END)
        number = self._numbers["placement"].get(placement, -1)
        states = []
        for region in regions:
            place = self._region_number.get(region, -1)
            mine = (census.region == place) & (census.placement == number)
            state = np.zeros(len(self.keys), np.int64)
            state[census.key[mine]] = census.frame[mine]
            states.append(state)
        return any(not np.array_equal(state, states[0]) for state in states)

    def writers(self) -> Writers:
        """Say who accepted writes, and when."""
        found: Writers = {}
        new = self.put["result"] == NEW
        rows = np.flatnonzero(new & (self.put["stream"] > 0))
        stream = self.put["stream"][rows]
        first = first_rows(stream, rows, len(self.streams))
        last = np.zeros(len(self.streams), np.int64)
        np.maximum.at(last, stream, self.put["call"][rows])
        for number in np.flatnonzero(first >= 0):
            region, placement, region_epoch = self.streams[number].split("/")
            one = Writing(int(self.put["at"][first[number]]), int(last[number]))
            found.setdefault((placement, int(region_epoch)), {})[region] = one
        return found

    def canaries(self) -> Canaries:
        """Count the known duplicates that were sent again."""
        sent = self.put["result"][self.put["canary"] != 0]
        return Canaries(len(sent), int((sent == NEW).sum()), int((sent == DUPLICATE).sum()))

    def trouble(self) -> Trouble:
        """Count the requests that failed."""
        sent, bad, first = 0, 0, None
        for table in (self.put, self.get):
            wrong = (table["result"] == LOST_ANSWER) | (table["status"] >= SERVER_FAULT)
            rows = np.flatnonzero(wrong)
            if len(rows) and first is None:
                reason = self._reasons[table["reason"][rows[0]]]
                first = reason or RESULTS[table["result"][rows[0]]]
            sent, bad = sent + len(wrong), bad + len(rows)
        return Trouble(sent, bad, 0, first)

    def refused_after(self, at_ns: int) -> int:
        """Count the refusals with a status from a moment on."""
        return sum(
            int(((t["result"] == REFUSED) & (t["status"] > 0) & (t["at"] >= at_ns)).sum())
            for t in (self.put, self.get)
        )

    def in_flight(self, at_ns: int) -> int:
        """Count the puts that were under way at a moment."""
        return int(((self.put["call"] <= at_ns) & (at_ns < self.put["at"])).sum())

    def audit_gaps(self) -> Names:
        """Name acknowledged writes that the audit log has no entry of."""
        rows = self._ack[self._acked]
        stream, seq = self.put["stream"][rows], self.put["seq"][rows]
        seen = np.zeros(len(rows), bool)
        for line in self._of("audit"):
            name = stream_of(line["region"], line["placement"], line["region_epoch"])
            if name in self.streams:
                begin, end = line["first"], line["first"] + line["count"]
                seen |= (stream == self.streams.index(name)) & (begin <= seq) & (seq < end)
        return self._named(self._acked[~seen])

    @cached_property
    def content(self) -> tuple[Column, Column]:
        """Give by frame what is known of its content, and whether anything is."""
        content = np.zeros(len(self.frames), np.uint64)
        known = np.zeros(len(self.frames), bool)
        new = np.flatnonzero((self.put["result"] == NEW) & (self.put["frame"] > 0))
        # What counts most is written last; of equals the first.
        for frame, told in (
            (self.under["frame"], self.under["content"]),
            (self.held["frame"], self.held["content"]),
            (self.put["frame"][new], self.put["content"][new]),
            (self._acked, self.put["content"][self._ack[self._acked]]),
        ):
            content[frame[::-1]] = told[::-1]
            known[frame] = True
        return content, known

    def answers(self) -> Answers:
        """Judge the answers that name a write."""
        both = {
            name: np.concatenate((self.put[name], self.get[name]))
            for name in ("frame", "outcome", "shown")
        }
        rows = np.flatnonzero((both["frame"] > 0) & (both["shown"] != 0))
        first = first_rows(both["frame"][rows], rows, len(self.frames))
        bytes_differ = np.zeros(len(both["frame"]), bool)
        known = both["outcome"][first[both["frame"][rows]]]
        bytes_differ[rows] = both["outcome"][rows] != known
        content, sure = self.content
        frame = self.put["frame"]
        other = (self.put["result"] == DUPLICATE) & (frame > 0) & sure[frame]
        other &= content[frame] != self.put["content"]
        wrong = bytes_differ.copy()
        wrong[: len(frame)] |= other
        said = None
        if wrong.any():
            row = int(np.argmax(wrong))
            name = self.frames[both["frame"][row]]
            said = f"{name} was answered in different bytes"
            if not bytes_differ[row]:
                key = self.keys[self.put["key"][row]]
                said = f"{key}: told a duplicate of {name}, which is other content"
        return Answers(int((both["frame"] > 0).sum()), Names(int(wrong.sum()), said))

    def registers(self, mode: str) -> Registers:
        """Judge each id as a register."""
        return registers(self, mode)

    def stale(self) -> Stale:
        """Judge the reads that showed nothing."""
        return stale(self)

    def ahead(self, started_ms: float) -> tuple[float, int]:
        """Give how far, in ms, a stamp was ahead of its answer, and the count of stamps."""
        rows = np.flatnonzero((self.put["result"] == NEW) & (self.put["frame"] > 0))
        if not len(rows):
            return 0.0, 0
        hlc_ms = self._hlc[self.put["frame"][rows]] >> HLC_COUNTER_BITS
        ahead = hlc_ms.astype(float) - (started_ms + self.put["at"][rows] / 1e6)
        return max(0.0, float(ahead.max())), len(rows)

    @cached_property
    def _hlc(self) -> Column:
        """Give the HLC in the name of every frame."""
        names = (frame.partition(":")[2][:HLC_DIGITS] for frame in self.frames[1:])
        return np.frombuffer(bytes.fromhex(NO_DIGEST + "".join(names)), ">u8").astype(np.int64)

    def younger(self) -> tuple[int, Names]:
        """Count what was overridden, and name what stands though it is younger."""
        standing, frame = self.held["frame"][self.under["row"]], self.under["frame"]
        wrong = np.flatnonzero(self._hlc[standing] > self._hlc[frame])
        said = None
        if len(wrong):
            over, under = self.frames[standing[wrong[0]]], self.frames[frame[wrong[0]]]
            said = f"{over} overrode {under}"
        return len(frame), Names(len(wrong), said)

    def taken(self) -> tuple[int, Names]:
        """Count the records that a client's call took, and name those that stand nowhere."""
        taken = np.zeros(len(self.keys), bool)
        taken[self.call["key"][self.call["result"] <= CALLS.index("queued")]] = True
        held = np.zeros(len(self.keys), bool)
        held[self.census(END).key] = True
        return int(taken.sum()), self._named_keys(taken & ~held)

    def double_winners(self) -> Names:
        """Name the ids of which two writes were both believed to be the first."""
        census = self.census(END)
        twice = np.zeros(len(self.keys), bool)
        one = np.zeros(len(self.keys), np.int64)
        one[census.key] = census.frame
        twice[census.key[one[census.key] != census.frame]] = True
        classes, _ = self._classes(END)
        rows = np.flatnonzero(self.put["result"] == NEW)
        rows = rows[np.isin(classes[self.put["frame"][rows]], (WINNER, SAME, DISPLACED))]
        frame = self.put["frame"][rows]
        rows = rows[first_rows(frame, rows, len(self.frames))[frame] == rows]
        key = self.put["key"][rows].astype(np.int64)
        regions = int(self._region_of.max()) + 1
        place, counts = np.unique(
            key * regions + self._region_of[self.put["frame"][rows]], return_counts=True
        )
        twice[place[counts > 1] // regions] = True
        return self._named_keys(twice)


def calls_of(columns: Columns, patience_ns: int) -> dict[str, ColumnCalls]:
    """Give the calls of each client, in the order in which their first returned."""
    table = ordered(columns.call)
    names = list(columns.clients)
    _, first = np.unique(table["client"], return_index=True)
    return {
        names[number]: ColumnCalls(
            {name: column[table["client"] == number] for name, column in table.items()},
            patience_ns,
        )
        for number in table["client"][np.sort(first)]
    }
