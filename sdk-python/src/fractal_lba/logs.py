"""Own the log files of an outbox: which entries are live, where they lie, when files come and go.

What is appended here is durable only after `LogFile.sync` or `sync_now`. Every method is called
with the lock of the outbox held; only `put` and `rotate_if_full` may let it go, before they write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from .errors import OutboxError
from .hooks import log
from .journal import LogFile
from .outbox import (
    DEAD_LOG,
    LAST_ID,
    Entry,
    Letter,
    Recovery,
    Space,
    encode,
    first_id_of,
    id_after,
    log_name,
    read_frame,
)
from .outcome import Position
from .store import Files


class Logs:
    """The live entries and their files. `moved` hears of new places, `lost` of rotten frames."""

    def __init__(
        self,
        files: Files,
        lock: threading.Condition,
        *,
        moved: Callable[[Entry], object],
        lost: Callable[[Entry], object],
    ) -> None:
        self.log = LogFile(files, lock)
        self.entries: dict[str, Entry] = {}
        self._files = files
        self._moved = moved
        self._lost = lost
        self._space = Space()
        self._next_id = 1

    @property
    def live_bytes(self) -> int:
        """Count the bytes of live entries."""
        return self._space.live_bytes

    @property
    def next_name(self) -> str:
        """Name what a recovery sets aside beside the logs, never twice the same."""
        return f"{self._next_id:016x}"

    # --- entries --------------------------------------------------------------------------------

    def put(self, letter: Letter) -> Letter:
        """Write an entry under the next id, not yet durable."""
        if self._next_id == LAST_ID:
            raise OutboxError("outbox_full", "the outbox has given out every id")
        self.rotate_if_full()
        kept = replace(letter, id=f"{self._next_id:016x}")
        entry = self._write_put(kept)
        self._next_id = id_after(self._next_id)
        self.entries[entry.id] = entry
        return kept

    def append(self, t: str, id: str, **facts: str) -> None:
        """Write what became of an entry, not yet durable."""
        self._append(encode({"t": t, "id": id, **facts}))

    def hold(self, entry: Entry, position: Position | None) -> Entry:
        """Note that an entry is held at a position, or no more; a mark may be lost as any other."""
        held = replace(entry, hold=position)
        self.entries[entry.id] = held
        if position is not None:
            try:
                self.append("hold", entry.id, position=str(position))
            except OutboxError as error:
                log.warning("outbox: hold of entry %s was not written: %s", entry.id, error.code)
        return held

    def release(self, entry: Entry, t: str, **facts: str) -> None:
        """Let an entry go with a mark, which may be lost: then the entry is only sent once more."""
        try:
            self.append(t, entry.id, **facts)
        except OutboxError as error:
            log.warning("outbox: %s of entry %s was not written: %s", t, entry.id, error.code)
        del self.entries[entry.id]
        self._space.free(entry)

    def read(self, entry: Entry) -> Letter | None:
        """Read the letter of an entry, or give None if its frame rotted."""
        with self.log.guarded():
            data = self._files.read_at(entry.file, entry.offset, entry.length)
        found = read_frame(data)
        if found is None or found.value["t"] != "put" or found.value["id"] != entry.id:
            return None
        return Letter.of(found.value)

    def _write_put(self, letter: Letter) -> Entry:
        data = encode(letter.frame())
        offset = self._append(data)
        entry = Entry.at(letter, self.log.name, offset, len(data))
        self._space.hold(entry)
        return entry

    def _append(self, data: bytes) -> int:
        offset = self.log.append(data)
        self._space.grow(self.log.name, len(data))
        return offset

    # --- files ----------------------------------------------------------------------------------

    def rotate_if_full(self) -> None:
        """Go on in a new file if the current one is full."""
        while self._space.is_full(self.log.name):
            if self.log.wait_for_sync():
                continue  # somebody else may have rotated
            self.log.sync_now()
            self._create()
            self._collect()

    def remove_done(self) -> None:
        """Remove the oldest files as long as nothing in them is live."""
        self._remove(list(self._space.removable()))

    def _create(self) -> None:
        newest = first_id_of(self.log.name)
        if newest is not None:
            self._next_id = max(self._next_id, id_after(newest))
        self.log.create(log_name(self._next_id))
        self._space.start(self.log.name, 0)

    def _collect(self) -> None:
        """Remove files in which nothing is live, oldest first; carry what holds one up."""
        self.remove_done()
        name = self._space.to_carry()
        while name is not None:
            self._carry([name])
            self._remove([name])
            name = self._space.to_carry()

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files, oldest first; each is gone for good before the next one goes.

        A younger file may hold what became of the entries in an older one.
        """
        with self.log.guarded():
            for name in names:
                self._files.unlink(name)
                self._files.fsync_dir()
                self._space.forget(name)

    def _carry(self, names: list[str]) -> None:
        """Write the live entries of some files again at the end, and make that durable."""
        for entry in [each for each in self.entries.values() if each.file in names]:
            letter = self.read(entry)
            if letter is None:
                self._lost(entry)
                continue
            # Counted in its new place before it is given up in the old one: a full disk may
            # refuse it.
            moved = self._write_put(letter)
            self._space.free(entry)
            # The file that goes may hold its `hold`.
            self._moved(self.hold(moved, entry.hold))
        self.log.sync_now()

    # --- recovery -------------------------------------------------------------------------------

    def take_over(self, found: Recovery, logs: list[str]) -> None:
        """Take what recovery found in the log files, oldest first."""
        self._next_id = found.next_id
        self.entries = dict(found.entries)
        for name in logs:
            self._space.start(name, found.sizes[name])
        for entry in self.entries.values():
            self._space.hold(entry)
        damaged = [name for name in found.corrupt if name != DEAD_LOG]
        if logs and not damaged:
            self.log.resume(logs[-1], found.sizes[logs[-1]], cut=logs[-1] in found.cuts)
            return
        self.log.name = logs[-1] if logs else ""
        self._create()
        if damaged:
            self._set_aside(logs, damaged)

    def _set_aside(self, logs: list[str], damaged: list[str]) -> None:
        """Write all that is live to the new file; then the old ones go, oldest first."""
        self._carry(logs)
        for name in logs:
            if name not in damaged:
                self._remove([name])
                continue
            with self.log.guarded():
                self._files.rename(name, f"{name}.corrupt")
                self._files.fsync_dir()
            self._space.forget(name)
