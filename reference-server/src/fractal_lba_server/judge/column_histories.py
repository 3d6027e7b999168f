"""Judge registers, stale reads and calls that are held as columns.

The invariant of this file: the rule of `register.py` and the definition of `recovery.py` hold for
every id and every client at once, and give what they give one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from .callers import Window
from .intake import CALLS, RESULTS
from .parts import END, SERVER_FAULT, Names, Registers, Stale
from .recovery import BREAK_NS, GOOD_SHARE
from .register import ABSENT, ACCEPTED, SEEN, UNKNOWN, Operation, fault_of

Column = np.ndarray[Any, np.dtype[Any]]
Table = dict[str, Column]

NEW, DUPLICATE, CONFLICT, REFUSED, LOST_ANSWER, PRESENT, NOTHING = range(len(RESULTS))

NAMES: Final = (ACCEPTED, SEEN, ABSENT, UNKNOWN)
IS_ACCEPTED, IS_SEEN, IS_ABSENT, IS_UNKNOWN, IS_NONE = range(5)
KIND_OF: Final = {
    NEW: IS_ACCEPTED, DUPLICATE: IS_SEEN, CONFLICT: IS_SEEN, LOST_ANSWER: IS_UNKNOWN,
    PRESENT: IS_SEEN, NOTHING: IS_ABSENT, REFUSED: IS_NONE,
}  # fmt: skip
NEVER: Final = np.iinfo(np.int64).max


class Held(Protocol):
    """What the regions held at one census."""

    @property
    def key(self) -> Column:
        """Give the ids."""
        ...

    @property
    def under(self) -> Column:
        """Give the rows of what was overridden."""
        ...


class Rows(Protocol):
    """The columns that histories are made of."""

    keys: list[str]
    put: Table
    get: Table
    held: Table
    under: Table

    @property
    def content(self) -> tuple[Column, Column]:
        """Give by frame what is known of its content, and whether anything is."""
        ...

    def census(self, name: str) -> Held:
        """Give what the regions held at one census."""
        ...


def first_rows(ids: Column, rows: Column, size: int) -> Column:
    """Give by id the first of the rows that have it, -1 without one; `rows` are in order."""
    first = np.full(size, -1, np.int64)
    first[ids[::-1]] = rows[::-1]
    return first


def registers(rows: Rows, mode: str) -> Registers:
    """Judge each id as a register."""
    key, kind, value, invoked, returned, unresolved = _operations(rows, gets=mode != "writes")
    split = np.zeros(len(rows.keys), bool)
    split[rows.held["key"][rows.under["row"][rows.census(END).under]]] = True
    if mode != "strict":
        left = ~split[key]
        key, kind, value = key[left], kind[left], value[left]
        invoked, returned = invoked[left], returned[left]
    judged = np.zeros(len(rows.keys), bool)
    judged[key] = True
    bad = _faulty(len(rows.keys), key, kind, value, invoked, returned)
    names = Names()
    if bad.any():
        # The first in the order in which ids appear is judged again for its words.
        first = int(key[np.argmax(bad[key])])
        history = [
            Operation(NAMES[kind[row]], str(value[row]), int(invoked[row]), int(returned[row]))
            for row in np.flatnonzero(key == first)
        ]
        names = Names(int(bad.sum()), f"{rows.keys[first]}: {fault_of(history)}")
    return Registers(int(judged.sum()), unresolved, int(split.sum()), names)


def _operations(rows: Rows, *, gets: bool) -> tuple[Column, Column, Column, Column, Column, int]:
    """Give key, kind, value, call and return of every operation, and count the unclear."""
    put = rows.put
    tables = [put, rows.get] if gets else [put]
    join = {
        name: np.concatenate([table[name] for table in tables])
        for name in ("key", "result", "call", "at", "frame", "status")
    }
    kinds = np.array([KIND_OF[number] for number in range(len(RESULTS))], np.int8)
    kind = kinds[join["result"]]
    is_put = np.arange(len(kind)) < len(put["key"])
    # What failed inside a server may have reached its log before it did.
    refused = is_put & (join["result"] == REFUSED) & (join["status"] >= SERVER_FAULT)
    kind[refused] = IS_UNKNOWN
    kind[~is_put & (join["result"] == LOST_ANSWER)] = IS_NONE
    value = np.zeros(len(kind), np.uint64)
    value[: len(put["key"])] = put["content"]
    shown = (join["result"] == CONFLICT) | (join["result"] == PRESENT)
    content, known = rows.content
    frame = join["frame"]
    sure = shown & known[frame] & (frame > 0)
    value[sure] = content[frame[sure]]
    unclear = np.flatnonzero(shown & ~sure)
    lost = 0
    for row, only in zip(unclear, _only_values(put, join, unclear), strict=True):
        if only is None:
            kind[row] = IS_NONE
            lost += 1
        else:
            value[row] = only
    use = kind != IS_NONE
    return join["key"][use], kind[use], value[use], join["call"][use], join["at"][use], lost


def _only_values(put: Table, join: Table, unclear: Column) -> list[int | None]:
    """Give the value that an answer of unknown content can only have shown.

    A conflict saw a content other than its own, a read one whose put had no answer.
    """
    asked = np.unique(join["key"][unclear])
    sent: dict[int, set[int]] = {}
    unanswered: dict[int, set[int]] = {}
    for row in np.flatnonzero(np.isin(put["key"], asked)) if len(asked) else ():
        key, content = int(put["key"][row]), int(put["content"][row])
        sent.setdefault(key, set()).add(content)
        if put["result"][row] == LOST_ANSWER:
            unanswered.setdefault(key, set()).add(content)
    found: list[int | None] = []
    for row in unclear:
        key = int(join["key"][row])
        if join["result"][row] == CONFLICT:
            values = sent.get(key, set()) - {int(put["content"][row])}
        else:
            values = unanswered.get(key, set())
        found.append(next(iter(values)) if len(values) == 1 else None)
    return found


def _faulty(
    size: int, key: Column, kind: Column, value: Column, invoked: Column, returned: Column
) -> Column:
    """Say by id whether its history is not linearizable (spec/drills.md 4.5)."""
    accepted = kind == IS_ACCEPTED
    observer = accepted | (kind == IS_SEEN)
    firsts = np.bincount(key[accepted], minlength=size)
    seen = np.zeros(size, np.uint64)
    seen[key[observer]] = value[observer]
    observed = np.zeros(size, bool)
    observed[key[observer]] = True
    differ = np.zeros(size, bool)
    differ[key[observer][value[observer] != seen[key[observer]]]] = True
    low, high = np.zeros(size, np.int64), np.full(size, NEVER, np.int64)
    np.maximum.at(low, key[kind == IS_ABSENT], invoked[kind == IS_ABSENT])
    np.minimum.at(high, key[observer], returned[observer])
    begun = np.full(size, NEVER, np.int64)
    maybe = (kind == IS_UNKNOWN) & (value == seen[key]) & (firsts[key] == 0)
    write = accepted | maybe
    np.minimum.at(begun, key[write], invoked[write])
    late = (begun == NEVER) | (np.maximum(low, begun) > high)
    bad: Column = observed & ((firsts > 1) | differ | late)
    return bad


def stale(rows: Rows) -> Stale:
    """Judge the reads that showed nothing."""
    put, get = rows.put, rows.get
    reads = int(((get["result"] == PRESENT) | (get["result"] == NOTHING)).sum())
    absent = np.flatnonzero(get["result"] == NOTHING)
    key, call, region = (get[name][absent] for name in ("key", "call", "region"))
    first = np.full(len(absent), NEVER, np.int64)
    own = np.zeros(len(absent), bool)
    for number in np.unique(put["region"]):
        acked = np.flatnonzero((put["result"] <= DUPLICATE) & (put["region"] == number))
        row = first_rows(put["key"][acked], acked, len(rows.keys))[key]
        at = np.where(row >= 0, put["at"][row] if len(put["at"]) else 0, NEVER)
        before = at < call
        own |= before & (region == number)
        first = np.where(before, np.minimum(first, at), first)
    behind = np.where(first < NEVER, call - first, -1)
    others = behind[(behind >= 0) & ~own]
    said = None
    if own.any():
        place = int(np.argmax(own))
        said = f"{rows.keys[key[place]]}: absent in {_region(rows, int(region[place]))}"
    return Stale(
        reads, int((behind >= 0).sum()), Names(int(own.sum()), said),
        max(0, int(others.max(initial=0))) / 1e6, max(0, int(behind.max(initial=0))) / 1e6,
    )  # fmt: skip


def _region(rows: Any, number: int) -> str:
    return str(rows.regions[number])


class ColumnCalls:
    """The calls of one client as columns."""

    def __init__(self, table: Mapping[str, Column], patience_ns: int) -> None:
        order = np.argsort(table["due"], kind="stable")
        self._due, self._at = table["due"][order], table["at"][order]
        answered = table["result"][order]
        self._good = (answered == CALLS.index("recorded")) | (answered == CALLS.index("conflict"))
        self._good &= self._at - self._due <= patience_ns

    @property
    def count(self) -> int:
        """Count the calls."""
        return len(self._due)

    @property
    def good(self) -> int:
        """Count the good ones."""
        return int(self._good.sum())

    @property
    def last_due_ns(self) -> int:
        """Give when the last call was due."""
        return int(self._due[-1])

    def took_ms(self, windows: Sequence[Window]) -> list[float]:
        """Give how long the calls took that overlap one of some windows of time."""
        mine = np.zeros(len(self._due), bool)
        for begin, end in windows:
            mine |= (begin <= self._at) & (self._due <= end)
        took: list[float] = ((self._at - self._due)[mine] / 1e6).tolist()
        return took

    def recovered_at(
        self, *, disrupted_ns: int, until_ns: int, steady_ns: int, end_ns: int
    ) -> int | None:
        """Give when calls succeed again, of those due before `until_ns`; None if not shown."""
        count = int(np.searchsorted(self._due, until_ns, side="left"))
        due, good = self._due[:count], self._good[:count]
        first = int(np.searchsorted(due, disrupted_ns, side="left"))
        starts = first + np.flatnonzero(good[first:])
        starts = starts[due[starts] + steady_ns <= end_ns]
        over = np.searchsorted(due, due[starts] + steady_ns, side="right")
        sums = np.concatenate(([0], np.cumsum(good)))
        steady = sums[over] - sums[starts] >= GOOD_SHARE * (over - starts)
        begins, shown = _breaks(due, good)
        place = np.searchsorted(begins, starts, side="left")
        steady &= np.append(shown, NEVER)[place] >= over
        if not steady.any():
            return None
        start = int(starts[np.argmax(steady)])
        hurt = int(sums[start] - sums[first]) < start - first
        return int(self._at[start]) if hurt else disrupted_ns


def _breaks(due: Column, good: Column) -> tuple[Column, Column]:
    """Give the runs of failed calls that last a second: the first, and the call that shows it."""
    bad = ~good
    begins = np.flatnonzero(bad & np.concatenate(([True], good[:-1])))
    shown = np.searchsorted(due, due[begins] + BREAK_NS, side="left")
    better = np.append(np.flatnonzero(good), len(due))
    until = better[np.searchsorted(better, begins, side="left")]
    lasts = (shown <= until) & (shown < len(due))
    return begins[lasts], shown[lasts]
