"""Read a long trace into columns: numbers in rows of one type, names as numbers.

The invariant of this file: a line costs a few dozen bytes, whatever its text, and each name is
kept once. It needs the standard library alone; orjson makes it faster where it is installed.
"""

from __future__ import annotations

import gc
import json
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final

from .parts import LEVELS, OPEN, Event
from .trace import TraceError

CHUNK_BYTES: Final = 1 << 19
"""Read at once: the objects of a chunk fit into the caches of a processor."""

LINE_BYTES_MAX: Final = 1 << 24
"""No line of a trace is longer."""

RESULTS: Final = ("new", "duplicate", "conflict", "refused", "unknown", "present", "absent")
CALLS: Final = ("recorded", "queued", "conflict", "failed")
KINDS: Final = ("duplicate", "displaced")
NOBODY: Final = ""
"""The name with number 0: none."""

NO_DIGEST: Final = "0" * 16

_RESULT: Final = {name: number for number, name in enumerate(RESULTS)}
_CALL: Final = {name: number for number, name in enumerate(CALLS)}
_KIND: Final = {name: number for number, name in enumerate(KINDS)}
_LEVEL: Final = {name: number for number, name in enumerate(LEVELS)}


def _numbers() -> dict[str, int]:
    """Make a table that gives each new name the next number; none is 0."""
    table: defaultdict[str, int] = defaultdict()
    table.default_factory = table.__len__
    table[NOBODY] = 0
    return table


class Columns:
    """The puts, gets, calls and held lines of a trace as columns, and all other lines."""

    def __init__(self) -> None:
        """Begin without a line."""
        self.others: list[Event] = []
        self.lines = 0
        self.end_ns = 0
        self.last = ""
        self.keys, self.frames = _numbers(), _numbers()
        self.regions, self.reasons, self.streams = _numbers(), _numbers(), _numbers()
        self.clients, self.censuses, self.placements = _numbers(), _numbers(), _numbers()
        self.put = _table(
            at="q", call="q", key="i", region="i", result="b", status="h", frame="i", outcome="Q",
            shown="b", reason="i", content="Q", bytes="q", level="b", canary="b", stream="i",
            seq="q",
        )  # fmt: skip
        self.get = _table(
            at="q", call="q", key="i", region="i", result="b", status="h", frame="i", outcome="Q",
            shown="b", reason="i",
        )  # fmt: skip
        self.call = _table(at="q", due="q", client="i", key="i", result="b")
        self.held = _table(
            at="q", census="i", region="i", key="i", frame="i", content="Q", placement="i"
        )
        self.under = _table(row="q", frame="i", content="Q", kind="b")

    def feed(self, events: Sequence[Event]) -> None:
        """Take some events, in the order of their lines."""
        if not events:
            return
        kinds: dict[str, list[Event]] = {"put": [], "get": [], "call": [], "held": []}
        of_kind = {kind: of.append for kind, of in kinds.items()}
        other = self.others.append
        for event in events:
            of_kind.get(event["event"], other)(event)
        self.lines += len(events)
        self.last = events[-1]["event"]
        self.end_ns = max([self.end_ns, *[event["at_ns"] for event in events]])
        for table, of in ((self.put, kinds["put"]), (self.get, kinds["get"])):
            if of:
                self._exchanges(table, of)
        if kinds["put"]:
            self._puts(kinds["put"])
        if kinds["call"]:
            self._calls(kinds["call"])
        if kinds["held"]:
            self._held(kinds["held"])

    def _exchanges(self, table: Table, of: list[Event]) -> None:
        table["at"].fromlist([e["at_ns"] for e in of])
        table["call"].fromlist([e["call_ns"] for e in of])
        table["key"].fromlist(_ids(self.keys, [e["key"] for e in of]))
        table["region"].fromlist(_ids(self.regions, [e["region"] for e in of]))
        table["result"].fromlist([_RESULT[e["result"]] for e in of])
        table["status"].fromlist([e.get("status", 0) for e in of])
        table["frame"].fromlist(_ids(self.frames, [e.get("frame", NOBODY) for e in of]))
        outcomes = [e.get("outcome") for e in of]
        table["shown"].fromlist([one is not None for one in outcomes])
        _digests(table["outcome"], [one or NO_DIGEST for one in outcomes])
        table["reason"].fromlist(_ids(self.reasons, [e.get("code", NOBODY) for e in of]))

    def _puts(self, of: list[Event]) -> None:
        table = self.put
        _digests(table["content"], [e["content"] for e in of])
        table["bytes"].fromlist([e["bytes"] for e in of])
        table["level"].fromlist([_LEVEL[e.get("level", LEVELS[0])] for e in of])
        table["canary"].fromlist(["canary" in e and e["canary"] for e in of])
        positions = [e.get("position", NOBODY).rpartition("/") for e in of]
        table["stream"].fromlist(_ids(self.streams, [stream for stream, _, _ in positions]))
        table["seq"].fromlist([int(seq or -1) for _, _, seq in positions])

    def _calls(self, of: list[Event]) -> None:
        table = self.call
        table["at"].fromlist([e["at_ns"] for e in of])
        table["due"].fromlist([e["scheduled_ns"] for e in of])
        table["client"].fromlist(_ids(self.clients, [e["client"] for e in of]))
        table["key"].fromlist(_ids(self.keys, [e["key"] for e in of]))
        table["result"].fromlist([_CALL[e["result"]] for e in of])

    def _held(self, of: list[Event]) -> None:
        table, under = self.held, self.under
        begin = len(table["at"])
        table["at"].fromlist([e["at_ns"] for e in of])
        table["census"].fromlist(_ids(self.censuses, [e["census"] for e in of]))
        table["region"].fromlist(_ids(self.regions, [e["region"] for e in of]))
        table["key"].fromlist(_ids(self.keys, [e["key"] for e in of]))
        table["frame"].fromlist(_ids(self.frames, [e["frame"] for e in of]))
        _digests(table["content"], [e["content"] for e in of])
        table["placement"].fromlist(_ids(self.placements, [e.get("placement", OPEN) for e in of]))
        below = [
            (begin + n, o) for n, e in enumerate(of) if e["overridden"] for o in e["overridden"]
        ]
        under["row"].fromlist([row for row, _ in below])
        under["frame"].fromlist(_ids(self.frames, [o["frame"] for _, o in below]))
        _digests(under["content"], [o["content"] for _, o in below])
        under["kind"].fromlist([_KIND[o["kind"]] for _, o in below])


Table = dict[str, "array[int]"]
"""Columns of one kind of line, by name."""


def _table(**types: str) -> Table:
    return {name: array(kind) for name, kind in types.items()}


def _ids(table: dict[str, int], names: list[str]) -> list[int]:
    return list(map(table.__getitem__, names))


def _digests(column: array[int], digests: list[str]) -> None:
    """Add hexadecimal digests of eight bytes; how they are ordered does not matter."""
    column.frombytes(bytes.fromhex("".join(digests)))


def read_columns(trace: BinaryIO) -> Columns:
    """Read JSON lines into columns. Raises TraceError with the number of a line that is none."""
    columns = Columns()
    # Millions of objects are made and dropped at once; none is part of a cycle.
    collects = gc.isenabled()
    gc.disable()
    try:
        _read(columns, trace)
    finally:
        if collects:
            gc.enable()
    return columns


def _read(columns: Columns, trace: BinaryIO) -> None:
    loads = _loads()
    rest = b""
    while chunk := trace.read(CHUNK_BYTES):
        whole, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            rest += chunk
            if len(rest) > LINE_BYTES_MAX:
                raise TraceError(f"line {columns.lines + 1} is longer than {LINE_BYTES_MAX} bytes")
            continue
        _take(columns, loads, rest + whole)
        rest = tail
    if rest:
        _take(columns, loads, rest)


def _take(columns: Columns, loads: Callable[[bytes], Any], lines: bytes) -> None:
    """Read whole lines, as one array because that is faster."""
    before, count = columns.lines, lines.count(b"\n") + 1
    try:
        events = loads(b"[" + lines.replace(b"\n", b",") + b"]")
        if len(events) == count:
            columns.feed(events)
            return
        fault = "not one event"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        fault = f"{type(error).__name__}: {error}"
    for place, line in enumerate(lines.split(b"\n"), 1):
        try:
            event = loads(line)
        except ValueError:
            raise TraceError(f"line {before + place} is not JSON") from None
        if not isinstance(event, dict) or "event" not in event or "at_ns" not in event:
            raise TraceError(f"line {before + place} is not an event")
    raise TraceError(f"lines {before + 1} to {before + count}: {fault}")


def _loads() -> Callable[[bytes], Any]:
    """Give the fastest reader of JSON that is installed."""
    try:
        import orjson  # noqa: PLC0415 - it is not required
    except ImportError:
        return json.loads
    read: Callable[[bytes], Any] = orjson.loads
    return read
