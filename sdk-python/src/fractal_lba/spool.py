"""The durable outbox: what `outbox.py` and `schedule.py` decide, carried out on `logs.py`.

One promise is owned here: `put` returns after the frame is durable, and what was put stays on
disk, live or among the dead letters, until the server has acknowledged it, at the level of the
client, or an operator has purged it. An acknowledgement needs no sync: if a crash forgets it, the
same bytes go out again and the server answers with the first outcome.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

from .errors import ConfigError, OutboxError
from .held import Fate, Held
from .hooks import OutboxEvent, log
from .journal import DeadFile, settle_names
from .logs import Logs
from .outbox import (
    DEAD_LOG,
    MAX_AGE_MS,
    MAX_BYTES,
    MAX_ENTRIES,
    DeadLetter,
    Entry,
    Letter,
    Owner,
    Recovery,
    first_id_of,
    full_error,
)
from .outcome import Position
from .region_status import RegionStatus
from .schedule import Acknowledge, Bury, Due, Group, Hold, Later, Pause, Schedule, Verdict
from .store import DirectoryFiles, Files, acquire_lock, release_lock, this_process

PUT_OVERHEAD_BYTES: Final = 512
"""What a `put` frame is taken to need beside its body when the limits are checked."""

WIDTH_MAX: Final = 16
"""Deliveries at once when all is well; after a failure one, then doubling up to this."""


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """Count what the outbox holds. `blocked` names paused keys and tenants.

    `held` are those of the entries that are acknowledged and not yet replicated.
    """

    entries: int
    in_flight: int
    held: int
    dead: int
    bytes: int
    oldest_sent_at_ms: int | None
    blocked: tuple[Group, ...]
    corrupt_files: tuple[str, ...]
    unreadable_frames: int


class Outbox:
    """Keep signed records until the server has acknowledged them. Made by `open_outbox`.

    Safe for threads. One process owns a directory at a time, one client an outbox.
    """

    def __init__(
        self,
        files: Files,
        owner: Owner,
        *,
        max_entries: int,
        max_bytes: int,
        max_age_ms: int,
        background: bool,
    ) -> None:
        self.background = background
        self._files = files
        self._owner = owner
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_ms
        # Not reentrant: `LogFile.sync` must be able to let it go.
        self._lock = threading.Condition(threading.Lock())
        self._schedule = Schedule(width_max=WIDTH_MAX)
        self._held = Held()
        self._logs = Logs(files, self._lock, moved=self._schedule.move, lost=self._lose)
        self._log = self._logs.log
        self._dead = DeadFile(files)
        self._corrupt: list[str] = []
        self._unreadable = 0
        self._closed = False
        self._events: list[OutboxEvent] = []
        self._tell: Callable[[OutboxEvent], object] = lambda _: None
        self._wake: Callable[[], object] = lambda: None

    # --- for the caller -----------------------------------------------------------------------

    def stats(self) -> OutboxStats:
        """Count entries, dead letters and damage."""
        with self._lock:
            entries = self._logs.entries
            return OutboxStats(
                entries=len(entries),
                in_flight=self._schedule.in_flight,
                held=len(self._held),
                dead=len(self._dead),
                bytes=self._used_bytes(),
                oldest_sent_at_ms=min((e.at_ms for e in entries.values()), default=None),
                blocked=self._schedule.blocked,
                corrupt_files=tuple(self._corrupt),
                unreadable_frames=self._unreadable,
            )

    def dead(self) -> list[DeadLetter]:
        """Read the dead letters, oldest first."""
        with self._lock, self._log.guarded():
            return [self._dead.read(id) for id in self._dead]

    def requeue(self, id: str) -> str:
        """Send a dead letter again, the same bytes; give the id of the new entry.

        One that is older than `max_age` comes back as `outbox_expired`. Raises NotFoundError.
        """
        with self._reporting(wake=True):
            self._logs.rotate_if_full()  # it may let the lock go: the letter is looked up after it
            with self._log.guarded():
                letter = self._dead.read(id).letter
            new = self._logs.put(replace(letter, came_from=id))
            entry = self._logs.entries[new.id]
            try:
                self._drop_dead(id, "requeued")
            except OutboxError:
                self._logs.release(entry, "release", reason="not requeued")
                raise
            self._schedule.add(entry)
            self._note("requeued", new.id)
        return new.id

    def purge(self, id: str) -> None:
        """Remove a dead letter for good. Raises NotFoundError."""
        with self._reporting():
            with self._log.guarded():
                self._dead.read(id)
            self._drop_dead(id, "purged")
            self._note("purged", id)

    def resend(self, region: str) -> int:
        """Send again what is held in a region that will not come back; give how many records.

        The same bytes under the same key: another region that has a record answers with its first
        outcome. Raises OutboxError `outbox_corrupt` if the file system fails.
        """
        sent: dict[str, str] = {}
        with self._reporting(wake=True):
            self._log.check_open()
            for id in [id for id, at in self._held.items() if at.region == region]:
                self._logs.rotate_if_full()  # it may let the lock go, and what is held with it
                letter = self._logs.read(self._logs.entries[id]) if id in self._held else None
                if letter is not None:
                    sent[id] = self._logs.put(letter).id
            self._log.sync_now()
            for old, new in sent.items():
                # While others had the lock, its watermark may have let the old one go.
                if (held := self._logs.entries.get(old)) is not None:
                    self._let_go(held, "release", reason="resent")
                self._schedule.add(self._logs.entries[new])
                self._note("queued", new)
            self._logs.remove_done()
        return len(sent)

    def close(self) -> None:
        """Make everything durable and give the directory free. Close the client first."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._log.wait_for_sync()
            try:
                if self._log.is_usable:
                    self._log.sync_now()
            finally:
                with self._log.guarded():
                    self._log.stop()
                    self._dead.stop()
                    release_lock(self._files, self._owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- for the client -----------------------------------------------------------------------

    def listen(self, tell: Callable[[OutboxEvent], object], wake: Callable[[], object]) -> None:
        """Report events to `tell`, and call `wake` when an entry becomes due."""
        self._tell, self._wake = tell, wake

    def put(self, letter: Letter, *, now_ms: int, in_flight: bool) -> Letter:
        """Keep a letter; return when it is durable, with its id.

        `in_flight` says that the caller sends it himself. Raises OutboxError `outbox_full`,
        `outbox_expired`, or `outbox_corrupt` if the file system fails.
        """
        with self._reporting(wake=not in_flight):
            if letter.at_ms + self._max_age_ms <= now_ms:
                raise OutboxError("outbox_expired", "sent_at is longer ago than max_age")
            self._check_room(len(letter.body))
            kept = self._logs.put(letter)
            self._log.sync()
            # While others had the lock it may have been moved, or signed again and released.
            entry = self._logs.entries.get(kept.id)
            if entry is not None:
                self._schedule.add(entry, in_flight=in_flight)
            self._note("queued", kept.id)
        return kept

    def take(self, now_ms: int, *, limit: int, bytes_max: int) -> Due:
        """Take due entries into flight. What is too old goes to the dead letters instead.

        Raises OutboxError `outbox_corrupt` once the outbox is closed.
        """
        letters: list[Letter] = []
        with self._reporting():
            self._log.check_open()
            for id in self._schedule.take(now_ms, limit=limit, bytes_max=bytes_max):
                entry = self._logs.entries[id]
                letter = self._logs.read(entry)
                if letter is None:
                    self._lose(entry)
                elif entry.at_ms + self._max_age_ms <= now_ms:
                    self._bury(entry, Bury(None, "outbox_expired", "older than max_age"), now_ms)
                else:
                    letters.append(letter)
            self._logs.remove_done()
            due_ms, in_flight = self._schedule.next_due_ms(), self._schedule.in_flight
            held = len(self._held)
        return Due(tuple(letters), due_ms, in_flight, held)

    def settle(self, id: str, verdict: Verdict, *, now_ms: int, u: float) -> None:
        """Carry out what became of an entry in flight.

        Raises OutboxError `outbox_corrupt` once the outbox is closed: another may own its files.
        """
        with self._reporting(wake=True):
            self._log.check_open()
            entry = self._logs.entries.get(id)
            if entry is not None:
                self._settle(entry, verdict, now_ms, u)
                self._logs.remove_done()

    def hear(self, news: Position | RegionStatus) -> None:
        """Take in how far a region is replicated: let go what is safe, send again what may be lost.

        Raises OutboxError `outbox_corrupt` once the outbox is closed.
        """
        with self._reporting():
            self._log.check_open()
            heard = self._held.hear(news)
            entries = self._logs.entries
            for id, position in heard.moved:
                if id in self._held:
                    self._logs.hold(entries[id], position)
            for id in heard.released:
                self._let_go(entries[id], "ack")
                self._note("acknowledged", id)
            for id in heard.again:
                self._schedule.add(self._logs.hold(entries[id], None))
                self._note("postponed", id)
            self._logs.remove_done()
        if heard.released or heard.again:
            self._wake()

    def held_regions(self) -> frozenset[str]:
        """Name the regions in which entries are held."""
        with self._lock:
            return self._held.regions

    def hurry(self) -> None:
        """End all pauses and own waits, not those that a server asked for."""
        with self._lock:
            self._schedule.resume()
            self._schedule.hurry()

    def letters_of(self, kid: str | None) -> list[Letter]:
        """Read the entries that were signed with one key and are not acknowledged."""
        with self._lock:
            found = [entry for entry in self._logs.entries.values() if entry.kid == kid]
            entries = [entry for entry in found if entry.id not in self._held]
            return [letter for entry in entries if (letter := self._logs.read(entry)) is not None]

    def release(self, id: str, reason: str) -> None:
        """Let an entry go that another one replaced."""
        with self._reporting():
            entry = self._logs.entries.get(id)
            if entry is not None:
                self._let_go(entry, "release", reason=reason)

    # --- inside, with the lock held -------------------------------------------------------------

    @contextmanager
    def _reporting(self, *, wake: bool = False) -> Iterator[None]:
        """Hold the lock for the block, then report what was noted: hooks may call back."""
        with self._lock:
            yield
            events, self._events = self._events, []
        for event in events:
            self._tell(event)
        if wake:
            self._wake()

    def _note(self, kind: str, id: str, code: str | None = None) -> None:
        self._events.append(OutboxEvent(kind, id, code))

    def _check_room(self, body_bytes: int) -> None:
        if len(self._logs.entries) + len(self._dead) >= self._max_entries:
            raise full_error("entries, dead letters included", self._max_entries)
        if self._used_bytes() + body_bytes + PUT_OVERHEAD_BYTES > self._max_bytes:
            raise full_error("bytes, dead letters included", self._max_bytes)

    def _used_bytes(self) -> int:
        return self._logs.live_bytes + self._dead.live_bytes

    def _settle(self, entry: Entry, verdict: Verdict, now_ms: int, u: float) -> None:
        match verdict:
            case Acknowledge(status):
                self._let_go(entry, "ack", status=str(status))
                self._schedule.delivered()
                self._schedule.resume_for(entry)
                self._note("acknowledged", entry.id)
            case Hold():
                self._hold(entry, verdict, now_ms, u)
            case Bury():
                self._schedule.delivered()
                self._bury(entry, verdict, now_ms)
            case Pause(what, code):
                self._schedule.pause(entry.id, what)
                self._note("outbox_blocked", entry.id, code)
            case Later():
                self._schedule.postpone(entry.id, verdict, now_ms, u)
                self._note("postponed", entry.id)

    def _hold(self, entry: Entry, verdict: Hold, now_ms: int, u: float) -> None:
        """Keep an acknowledged entry until it is replicated, if it is not already (11.27)."""
        match self._held.fate(verdict.position):
            case Fate.COVERED:
                self._settle(entry, Acknowledge(verdict.status), now_ms, u)
            case Fate.PASSED:  # the answer is older than what others said of its stream
                self._settle(entry, Later(endpoint_down=False), now_ms, u)
            case Fate.OPEN:
                self._logs.hold(entry, verdict.position)
                self._held.add(entry.id, verdict.position)
                self._schedule.drop(entry.id)
                self._schedule.delivered()
                self._schedule.resume_for(entry)
                self._note("outbox_held", entry.id)

    def _bury(self, entry: Entry, verdict: Bury, now_ms: int) -> None:
        letter = self._logs.read(entry)
        if letter is None:
            self._lose(entry)
            return
        dead = DeadLetter(letter, verdict.status, verdict.code, verdict.reason, verdict.response)
        try:
            with self._log.guarded():
                self._dead.add(dead)
        except OutboxError as error:
            # It stays an entry: better sent once more than in neither place.
            self._schedule.postpone(entry.id, Later(endpoint_down=False), now_ms, 1.0)
            self._note("postponed", entry.id, error.code)
            return
        self._let_go(entry, "dead")
        self._note("dead", entry.id, verdict.code)

    def _lose(self, entry: Entry) -> None:
        """Give up an entry whose frame rotted under us; it is counted and reported."""
        self._unreadable += 1
        self._let_go(entry, "release", reason="outbox_corrupt")
        self._note("outbox_corrupt", entry.id, "outbox_corrupt")

    def _let_go(self, entry: Entry, t: str, **facts: str) -> None:
        self._logs.release(entry, t, **facts)
        self._schedule.drop(entry.id)
        self._held.discard(entry.id)

    def _drop_dead(self, id: str, reason: str) -> None:
        """Remove a dead letter.

        Until then it outweighs the `put` in the log, so the mark that follows there must be
        durable before: a crash may have forgotten the one that was written when it died.
        """
        self._logs.append("dead", id)
        self._log.sync_now()
        with self._log.guarded():
            self._dead.drop(id, reason)

    # --- recovery -------------------------------------------------------------------------------

    def recover(self) -> None:
        """Read what an earlier owner left; called once, by `open_outbox`."""
        settle_names(self._files)
        names = self._files.names()
        logs = sorted(name for name in names if first_id_of(name) is not None)
        found = Recovery()
        for name in logs:
            found.feed(name, self._files.read(name), last=name == logs[-1])
        if DEAD_LOG in names:
            found.feed_dead(self._files.read(DEAD_LOG))
        self._logs.take_over(found, logs)
        self._recover_dead(found)
        for _, entry in sorted(self._logs.entries.items()):
            if entry.hold is None:
                self._schedule.add(entry)
            else:
                self._held.add(entry.id, entry.hold)
        if found.corrupt:
            self._corrupt, self._unreadable = found.corrupt, found.unreadable
            log.warning(
                "outbox_corrupt: %d unreadable frames, set aside: %s",
                found.unreadable, ", ".join(found.corrupt),
            )  # fmt: skip

    def _recover_dead(self, found: Recovery) -> None:
        if DEAD_LOG not in found.sizes:
            return
        self._dead.load(found.dead, found.sizes[DEAD_LOG])
        if DEAD_LOG in found.corrupt:
            self._dead.rewrite(list(self._dead), aside=f"dead-{self._logs.next_name}.corrupt")
        elif DEAD_LOG in found.cuts:
            self._dead.cut()
        for id in found.half_requeued():
            self._drop_dead(id, "requeued")


def open_outbox(
    directory: str | os.PathLike[str],
    *,
    max_entries: int = MAX_ENTRIES,
    max_bytes: int = MAX_BYTES,
    max_age_s: float = MAX_AGE_MS / 1000,
    background: bool = True,
    files: Files | None = None,
    owner: Owner | None = None,
) -> Outbox:
    """Open or create the outbox in a directory, and recover what a crash left there.

    The directory must be open to its owner alone; it is created with mode 0700. With
    `background=False` a client sends waiting entries only in `flush`. `files` and `owner` are
    for tests. Raises OutboxError `outbox_locked` if a live process has it, and
    `outbox_corrupt` if it cannot be read or written at all; damaged files are set aside and
    counted in `stats()`.
    """
    for name, value in (
        ("max_entries", max_entries), ("max_bytes", max_bytes), ("max_age_s", max_age_s),
    ):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError("config_invalid", f"{name}: expected a number above 0")
    owner = this_process() if owner is None else owner
    try:
        files = DirectoryFiles(directory) if files is None else files
        acquire_lock(files, owner)
        with ExitStack() as undo:
            undo.callback(release_lock, files, owner)
            outbox = Outbox(
                files, owner, max_entries=max_entries, max_bytes=max_bytes,
                max_age_ms=int(max_age_s * 1000), background=background,
            )  # fmt: skip
            outbox.recover()
            undo.pop_all()
    except OSError as error:
        raise OutboxError("outbox_corrupt", f"the outbox cannot be opened: {error}") from error
    return outbox
