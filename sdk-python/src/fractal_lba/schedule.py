"""Decide what a delivery's end means for an outbox entry, and when an entry is due again.

Pure: time and chance are arguments. An entry is waiting, parked because its credentials were
refused, or in flight. After a failure one entry at a time probes, and each success doubles the
number that may go out, up to the bound.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final, NamedTuple

from .outbox import Entry, Letter
from .outcome import Position

MAX_DEAD_RESPONSE_BYTES: Final = 65_536
"""How much of the server's last answer a dead letter keeps."""

RETRY_BASE_MS: Final = 1_000
"""The first wait after a stopped call is drawn from 0 to this."""

RETRY_CAP_MS: Final = 30_000
"""No wait of the outbox's own is longer than this; a server may ask for more."""


class Acknowledge(NamedTuple):
    """The server has recorded it: release."""

    status: int


class Hold(NamedTuple):
    """The server has recorded it at this place, which is not replicated yet: keep it."""

    status: int
    position: Position


class Bury(NamedTuple):
    """The server will never take it: move it to the dead letters."""

    status: int | None
    code: str
    reason: str
    response: str = ""


class Pause(NamedTuple):
    """The server refuses the credentials: `what` is "kid" (401) or "tenant" (403)."""

    what: str
    code: str


class Later(NamedTuple):
    """It could not be delivered now; `retry_after_ms` is what the server asked for."""

    retry_after_ms: int = 0
    endpoint_down: bool = True


class Due(NamedTuple):
    """What the outbox gave to be sent, and what it still has: the next time, in flight, held."""

    letters: tuple[Letter, ...]
    next_due_ms: int | None
    in_flight: int
    held: int = 0


Verdict = Acknowledge | Hold | Bury | Pause | Later
Group = tuple[str, str | None]

_BURIED_STATUSES: Final = frozenset({400, 409, 413, 422})


def judge(
    status: int | None,
    code: str,
    reason: str,
    body: bytes,
    *,
    retry_after_ms: int | None,
    cancelled: bool,
) -> Verdict:
    """Decide what a refused, failed or cancelled delivery means for its entry."""
    if status in _BURIED_STATUSES:
        kept = body[:MAX_DEAD_RESPONSE_BYTES].decode("utf-8", "replace")
        return Bury(status, code, reason, kept)
    if status == 401:
        return Pause("kid", code)
    if status == 403:
        return Pause("tenant", code)
    return Later(retry_after_ms or 0, endpoint_down=status != 429 and not cancelled)


class _Due(NamedTuple):
    due_ms: int
    floor_ms: int
    tries: int


class Schedule:
    """Say which entries to send now. An entry is waiting, parked (paused) or in flight."""

    def __init__(self, *, width_max: int) -> None:
        self._width_max = width_max
        self._width = width_max
        self._entries: dict[str, Entry] = {}
        self._due: dict[str, _Due] = {}
        self._queue: list[tuple[int, str]] = []
        self._in_flight: set[str] = set()
        self._parked: dict[Group, dict[str, None]] = {}

    def add(self, entry: Entry, *, in_flight: bool = False) -> None:
        """Take a new entry, due at once unless its own call sends it."""
        self._entries[entry.id] = entry
        self._due[entry.id] = _Due(0, 0, 0)
        if in_flight:
            self._in_flight.add(entry.id)
        else:
            heapq.heappush(self._queue, (0, entry.id))

    def move(self, entry: Entry) -> None:
        """Take in that an entry lies elsewhere now."""
        if entry.id in self._entries:
            self._entries[entry.id] = entry

    def drop(self, id: str) -> None:
        """Forget an entry that is released or dead, if it is known."""
        entry = self._entries.pop(id, None)
        if entry is None:
            return
        del self._due[id]
        self._in_flight.discard(id)
        for group in _groups(entry):
            self._parked.get(group, {}).pop(id, None)

    def take(self, now_ms: int, *, limit: int, bytes_max: int) -> list[str]:
        """Take up to `limit` due entries, of `bytes_max` together, into flight.

        After a failure one entry at a time goes out, and each success doubles that.
        """
        taken: list[str] = []
        size = 0
        healthy = self._width >= self._width_max
        room = limit if healthy else min(limit, self._width - len(self._in_flight))
        while len(taken) < room and self._queue and self._queue[0][0] <= now_ms:
            item = heapq.heappop(self._queue)
            if not self._is_waiting(item):
                continue
            entry = self._entries[item[1]]
            paused = self._paused_group(entry)
            if paused is not None:
                self._parked[paused][entry.id] = None
                continue
            size += entry.length
            if taken and size > bytes_max:
                heapq.heappush(self._queue, item)
                break
            self._in_flight.add(entry.id)
            taken.append(entry.id)
        return taken

    def next_due_ms(self) -> int | None:
        """Say when the next entry is due, or None if none is waiting."""
        while self._queue and not self._is_waiting(self._queue[0]):
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def delivered(self) -> None:
        """Note a success: a narrowed schedule doubles its width."""
        self._width = min(2 * self._width, self._width_max)

    def postpone(self, id: str, verdict: Later, now_ms: int, u: float) -> None:
        """Put an entry back, U(0,1) * min(1 s * 2^k, 30 s) after what the server asked for."""
        if verdict.endpoint_down:
            self._width = 1
        due = self._due[id]
        floor_ms = now_ms + verdict.retry_after_ms
        wait_ms = int(u * min(RETRY_BASE_MS * 2 ** min(due.tries, 16), RETRY_CAP_MS))
        self._wait(id, _Due(floor_ms + wait_ms, floor_ms, due.tries + 1))

    def pause(self, id: str, what: str) -> Group:
        """Park an entry, and from now on all entries of its kid or tenant."""
        entry = self._entries[id]
        group: Group = (what, entry.kid if what == "kid" else entry.tenant)
        self._parked.setdefault(group, {})[id] = None
        self._in_flight.discard(id)
        return group

    def resume(self, groups: Iterable[Group] | None = None) -> None:
        """Let the entries of these groups, or of all, be tried again."""
        for group in list(self._parked) if groups is None else list(groups):
            for id in self._parked.pop(group, {}):
                self._wait(id, self._due[id])

    def resume_for(self, entry: Entry) -> None:
        """End the pauses that an accepted entry shows to be over."""
        self.resume(_groups(entry))

    def hurry(self) -> None:
        """Drop the schedule's own waits, never those that a server asked for."""
        self._queue = []
        for id, due in self._due.items():
            if id not in self._in_flight and not self._is_parked(id):
                self._wait(id, due._replace(due_ms=due.floor_ms))

    @property
    def blocked(self) -> tuple[Group, ...]:
        """Name what is paused: ("kid", K) or ("tenant", T)."""
        return tuple(self._parked)

    @property
    def in_flight(self) -> int:
        """Count the entries that are being sent."""
        return len(self._in_flight)

    def _wait(self, id: str, due: _Due) -> None:
        self._in_flight.discard(id)
        self._due[id] = due
        heapq.heappush(self._queue, (due.due_ms, id))

    def _is_waiting(self, item: tuple[int, str]) -> bool:
        # An entry that moved left its old place in the queue behind.
        due = self._due.get(item[1])
        if due is None or due.due_ms != item[0] or item[1] in self._in_flight:
            return False
        return not self._is_parked(item[1])

    def _is_parked(self, id: str) -> bool:
        return any(id in self._parked.get(group, {}) for group in _groups(self._entries[id]))

    def _paused_group(self, entry: Entry) -> Group | None:
        return next((group for group in _groups(entry) if group in self._parked), None)


def _groups(entry: Entry) -> tuple[Group, Group]:
    return ("kid", entry.kid), ("tenant", entry.tenant)
