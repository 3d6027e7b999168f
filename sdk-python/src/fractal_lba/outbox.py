"""Own the outbox's format: frames, what a crash leaves of them, space, and the lock's rule.

Nothing here touches a file, a clock or a socket; `spool.py` carries these decisions out. The
format is that of spec/formats.md, one for all SDKs. A frame is

    u32be length | u32be CRC-32 (IEEE) of the JSON | JSON {"t": type, "id": 16 hex digits, ...}

with the types `put` (the frozen body), `sent`, `ack`, `hold` (acknowledged, and held until its
position is replicated), `dead` and `release`. This package reads `sent` and never writes it: that
an attempt began changes nothing. Files `outbox-<16 hex>.log` are named by the first id
they may hold, so ids never repeat while a file remains.

The invariant: a `put` that is on disk without an `ack`, `dead` or `release` behind it is sent
again, with those bytes. A file therefore goes only when no entry in it is live *and* every
older file is gone, because its acknowledgements may speak of entries in older files.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from .canonical import MAX_SAFE_INTEGER, parse_value
from .errors import APIError, OutboxError, ValidationError
from .outcome import Position

FILE_BYTES: Final = 8 * 2**20
"""A log file that has reached this size gets a successor before the next `put`."""

MAX_FRAME_BYTES: Final = 2**20
"""Longest JSON of one frame; a longer length field is damage, not a frame."""

MAX_ENTRIES: Final = 100_000
"""Default of how many entries, dead letters included, an outbox holds before it is full."""

MAX_BYTES: Final = 2**30
"""Default of how many bytes of live frames, dead letters included, an outbox holds.

The directory may take twice as much and two files more, until garbage is collected."""

MAX_AGE_MS: Final = 13 * 86_400_000
"""Default age, from `sent_at`, at which an entry becomes a dead letter; below the shortest
time for which a server remembers ids."""

LOCK_SETTLE_MS: Final = 10_000
"""A lock file that cannot be read counts as stale once it is older than this."""

LAST_ID: Final = 2**64 - 1
"""The last id of all; it is never given out, as nothing comes after it."""

TYPES: Final = frozenset({"put", "sent", "ack", "hold", "dead", "release"})
DEAD_LOG: Final = "dead.log"

_HEAD: Final = struct.Struct(">II")
_MARK: Final = b'{"t":"'
_ID: Final = re.compile(r"[0-9a-f]{16}\Z")
_LOG_NAME: Final = re.compile(r"outbox-([0-9a-f]{16})\.log\Z")


# --- frames --------------------------------------------------------------------------------


def encode(frame: Mapping[str, Any]) -> bytes:
    """Write one frame; `t` must be its first member, as recovery searches for it.

    >>> encode({"t": "ack", "id": "0000000000000001"})[:8].hex()
    '0000002328fd29f3'
    """
    text = json.dumps(frame, ensure_ascii=False, separators=(",", ":")).encode()
    return _HEAD.pack(len(text), zlib.crc32(text)) + text


@dataclass(frozen=True, slots=True)
class Framed:
    """One readable frame and the bytes it takes, head included."""

    offset: int
    length: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scan:
    """What is readable of a file, and the ranges that are not."""

    frames: tuple[Framed, ...]
    gaps: tuple[tuple[int, int], ...]
    size: int

    @property
    def torn_at(self) -> int | None:
        """Where to cut, if the only damage is a tail that was never finished."""
        if len(self.gaps) == 1 and self.gaps[0][1] == self.size:
            return self.gaps[0][0]
        return None


def read_frame(data: bytes, offset: int = 0) -> Framed | None:
    """Read the frame at `offset`, or give None if there is none that is whole and known."""
    start = offset + _HEAD.size
    if start > len(data):
        return None
    length, checksum = _HEAD.unpack_from(data, offset)
    text = data[start : start + length]
    if length > MAX_FRAME_BYTES or len(text) < length or not text.startswith(_MARK):
        return None
    if zlib.crc32(text) != checksum:
        return None
    try:
        value = parse_value(text, max_bytes=MAX_FRAME_BYTES)
    except ValidationError:
        return None
    return Framed(offset, _HEAD.size + length, value) if _is_known(value) else None


def _is_known(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("t") not in TYPES:
        return False
    if not isinstance(value.get("id"), str) or not _ID.match(value["id"]):
        return False
    if value["t"] != "put":
        return True
    texts = all(isinstance(value.get(name), str) for name in ("pcs_id", "key", "body"))
    named = all(isinstance(value.get(name, ""), str) for name in ("kid", "tenant", "from"))
    at = value.get("at")
    return texts and named and type(at) is int and abs(at) <= MAX_SAFE_INTEGER


def scan(data: bytes) -> Scan:
    """Read every frame that can be read; behind damage, look for the next whole frame."""
    frames, gaps, offset = [], [], 0
    while offset < len(data):
        found = read_frame(data, offset)
        if found is None:
            found = _next_frame(data, offset + 1)
            end = len(data) if found is None else found.offset
            gaps.append((offset, end))
            if found is None:
                break
        frames.append(found)
        offset = found.offset + found.length
    return Scan(tuple(frames), tuple(gaps), len(data))


def _next_frame(data: bytes, start: int) -> Framed | None:
    at = data.find(_MARK, start + _HEAD.size)
    while at >= 0:
        found = read_frame(data, at - _HEAD.size)
        if found is not None:
            return found
        at = data.find(_MARK, at + 1)
    return None


# --- entries -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letter:
    """One signed record as it is kept: the frozen body and what a request needs beside it."""

    id: str
    pcs_id: str
    key: str
    kid: str | None
    tenant: str | None
    at_ms: int
    body: bytes = field(repr=False)
    came_from: str | None = None

    def frame(self) -> dict[str, Any]:
        """Give the members of the `put` frame; what is unset is left out."""
        members = {
            "t": "put", "id": self.id, "pcs_id": self.pcs_id, "key": self.key, "kid": self.kid,
            "tenant": self.tenant, "from": self.came_from, "at": self.at_ms,
            "body": self.body.decode(),
        }  # fmt: skip
        return {name: value for name, value in members.items() if value is not None}

    @classmethod
    def of(cls, frame: Mapping[str, Any]) -> Letter:
        """Read the members of a `put` frame."""
        return cls(
            frame["id"], frame["pcs_id"], frame["key"], frame.get("kid"), frame.get("tenant"),
            frame["at"], frame["body"].encode(), frame.get("from"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept in memory of a live entry: all but its body, and where that lies.

    `hold` is the position at which it is held, if it is.
    """

    id: str
    key: str
    kid: str | None
    tenant: str | None
    at_ms: int
    file: str
    offset: int
    length: int
    came_from: str | None = None
    hold: Position | None = None

    @classmethod
    def at(cls, letter: Letter, file: str, offset: int, length: int) -> Entry:
        """Remember a letter by its place."""
        return cls(
            letter.id, letter.key, letter.kid, letter.tenant, letter.at_ms, file, offset, length,
            letter.came_from,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One entry that will not be sent again, with the answer that ended it."""

    letter: Letter
    status: int | None
    code: str
    reason: str
    response: str

    @property
    def id(self) -> str:
        """Name the entry, for `requeue` and `purge`."""
        return self.letter.id

    def frame(self) -> dict[str, Any]:
        """Give the members of the frame in the dead-letter file."""
        facts = {"code": self.code, "reason": self.reason, "response": self.response}
        if self.status is not None:
            facts["status"] = str(self.status)
        return {"t": "dead", "id": self.id, "put": self.letter.frame(), **facts}

    @classmethod
    def of(cls, frame: Mapping[str, Any]) -> DeadLetter | None:
        """Read the members of such a frame, or give None if they are not those."""
        put: Any = frame.get("put")
        status = frame.get("status")
        texts = all(isinstance(frame.get(name), str) for name in ("code", "reason", "response"))
        digits = status is None or (isinstance(status, str) and re.fullmatch("[0-9]{3}", status))
        if not (_is_known(put) and put["t"] == "put" and texts and digits):
            return None
        number = None if status is None else int(status)
        letter = Letter.of(put)
        return cls(letter, number, frame["code"], frame["reason"], frame["response"])


def hold_of(frame: Mapping[str, Any]) -> Position | None:
    """Read the position of a `hold` frame, or give None if it has none."""
    text = frame.get("position")
    try:
        return Position.parse(text) if isinstance(text, str) else None
    except APIError:
        return None


def id_after(id: int) -> int:
    """Give the id after one; nothing comes after the last."""
    return min(id + 1, LAST_ID)


def log_name(first_id: int) -> str:
    """Name the log file whose first id is `first_id`."""
    return f"outbox-{first_id:016x}.log"


def first_id_of(name: str) -> int | None:
    """Read the first id from a log file's name, or give None for any other name."""
    match = _LOG_NAME.match(name)
    return int(match[1], 16) if match else None


def sent_at_ms(sent_at: str) -> int:
    """Read the record's `sent_at` as Unix milliseconds; `max_age` counts from it.

    >>> sent_at_ms("1970-01-01T00:00:01.5Z")
    1500
    """
    return int(datetime.fromisoformat(sent_at).timestamp() * 1000)


# --- recovery ------------------------------------------------------------------------------


class Recovery:
    """Fold files, oldest first, into what is live, what is dead and what is damaged."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.dead: dict[str, tuple[int, int]] = {}
        self.sizes: dict[str, int] = {}
        self.cuts: dict[str, int] = {}
        self.corrupt: list[str] = []
        self.unreadable = 0
        self.next_id = 1

    def feed(self, name: str, data: bytes, *, last: bool) -> None:
        """Take one log file. Only the last one may have a torn tail; that is cut."""
        found = self._scan(name, data, may_be_torn=last)
        first_id = first_id_of(name)
        self.next_id = max(self.next_id, first_id or 0)
        for framed in found.frames:
            frame = framed.value
            self._see(frame["id"])
            if frame["t"] == "put":
                entry = Entry.at(Letter.of(frame), name, framed.offset, framed.length)
                older = self.entries.get(entry.id)  # a copy leaves the entry held
                hold = None if older is None else older.hold
                self.entries[entry.id] = replace(entry, hold=hold)
            elif frame["t"] == "hold" and frame["id"] in self.entries:
                entry = self.entries[frame["id"]]
                self.entries[entry.id] = replace(entry, hold=hold_of(frame) or entry.hold)
            elif frame["t"] in ("ack", "dead", "release"):
                self.entries.pop(frame["id"], None)

    def feed_dead(self, data: bytes) -> None:
        """Take the dead-letter file, after all log files."""
        for framed in self._scan(DEAD_LOG, data, may_be_torn=True).frames:
            frame = framed.value
            self._see(frame["id"])
            if frame["t"] == "release":
                self.dead.pop(frame["id"], None)
                continue
            if frame["t"] == "dead" and DeadLetter.of(frame) is not None:
                self.dead[frame["id"]] = (framed.offset, framed.length)
            else:
                self._damaged(DEAD_LOG, 1)
        for id in self.dead:
            self.entries.pop(id, None)

    def half_requeued(self) -> list[str]:
        """Name dead letters that a live entry replaced just before the crash."""
        return sorted({e.came_from for e in self.entries.values() if e.came_from in self.dead})

    def _scan(self, name: str, data: bytes, *, may_be_torn: bool) -> Scan:
        found = scan(data)
        self.sizes[name] = found.size
        if found.gaps and may_be_torn and found.torn_at is not None:
            self.cuts[name] = self.sizes[name] = found.torn_at
        elif found.gaps:
            self._damaged(name, len(found.gaps))
        return found

    def _damaged(self, name: str, frames: int) -> None:
        self.unreadable += frames
        if name not in self.corrupt:
            self.corrupt.append(name)

    def _see(self, id: str) -> None:
        self.next_id = max(self.next_id, id_after(int(id, 16)))


# --- space ---------------------------------------------------------------------------------


class Space:
    """Count bytes per log file and decide rotation, removal and carrying forward."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._live: dict[str, int] = {}
        self._entries: dict[str, int] = {}

    def start(self, name: str, size: int) -> None:
        """Add a file; files are added oldest first."""
        self._files[name] = size
        self._live[name] = self._entries[name] = 0

    def grow(self, name: str, length: int) -> None:
        """Count bytes that were appended."""
        self._files[name] += length

    def hold(self, entry: Entry) -> None:
        """Count a live entry in its file."""
        self._live[entry.file] += entry.length
        self._entries[entry.file] += 1

    def free(self, entry: Entry) -> None:
        """Count an entry as no longer live."""
        self._live[entry.file] -= entry.length
        self._entries[entry.file] -= 1

    def forget(self, name: str) -> None:
        """Remove a file from the books once it is gone."""
        del self._files[name], self._live[name], self._entries[name]

    @property
    def live_bytes(self) -> int:
        """Count the bytes of live entries."""
        return sum(self._live.values())

    @property
    def names(self) -> list[str]:
        """Name the files, oldest first; the last one is being written."""
        return list(self._files)

    def is_full(self, name: str) -> bool:
        """Say whether a file must get a successor before the next `put`."""
        return self._files[name] >= FILE_BYTES

    def removable(self) -> Iterator[str]:
        """Name the oldest files as long as nothing in them is live; never the last one."""
        return itertools.takewhile(lambda name: not self._entries[name], self.names[:-1])

    def to_carry(self) -> str | None:
        """Name the oldest file if garbage outweighs what is live by more than two files.

        Its live entries are then written again at the end, so that one entry that waits for
        days does not keep everything that was written after it.
        """
        names = self.names
        total = sum(self._files.values())
        if len(names) < 2 or total <= 2 * self.live_bytes + 2 * FILE_BYTES:
            return None
        return names[0]


# --- the lock ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds the directory: a process of one boot of one host."""

    pid: int
    boot_id: str
    start_ticks: int
    host: str

    def text(self) -> bytes:
        """Write the lock file."""
        members = {
            "pid": self.pid, "boot_id": self.boot_id,
            "start_ticks": self.start_ticks, "host": self.host,
        }  # fmt: skip
        return json.dumps(members).encode()

    @classmethod
    def of(cls, text: bytes) -> Owner | None:
        """Read a lock file, or give None if it cannot be read."""
        try:
            members = json.loads(text)
            return cls(
                int(members["pid"]), str(members["boot_id"]),
                int(members["start_ticks"]), str(members["host"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return None


def is_stale(
    holder: Owner | None, *, here: Owner, holder_start_ticks: int | None, age_ms: int
) -> bool:
    """Say whether the holder of a lock is gone, seen from the process `here`.

    `holder_start_ticks` is when the process with the holder's pid started, None if there is
    none. A lock of another host is never stale: nothing here can tell.
    """
    if holder is None:
        return age_ms > LOCK_SETTLE_MS
    if holder.host != here.host:
        return False
    if holder.boot_id != here.boot_id:
        return True
    return holder_start_ticks is None or holder_start_ticks != holder.start_ticks


def full_error(what: str, limit: int) -> OutboxError:
    """Build the error that says which limit the outbox has reached."""
    return OutboxError("outbox_full", f"the outbox holds its limit of {limit} {what}")
