"""Append frames durably: the current log file of the outbox, and its dead-letter file.

Both track their own end and write there with `pwrite`. A full disk refuses the frame and
changes nothing; any other error closes the outbox for good, because after a failed fsync nobody
knows what is on disk and only a fresh recovery can tell.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

from .errors import NotFoundError, OutboxError
from .outbox import DEAD_LOG, FILE_BYTES, DeadLetter, encode, read_frame
from .store import Files, write_new

DEAD_TEMPORARY: Final = "dead.tmp"

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def _spending() -> Iterator[None]:
    """Turn the errors of a full disk into `outbox_full`."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise OutboxError("outbox_full", f"outbox: {error.strerror}") from error
        raise


def _write(files: Files, handle: int, data: bytes, offset: int) -> None:
    """Write at the end of a file. What a full disk took of it is cut off again."""
    try:
        with _spending():
            files.pwrite(handle, data, offset)
    except OutboxError:
        files.truncate(handle, offset)
        raise


def _create(files: Files, name: str) -> int:
    """Create a file whose name is durable."""
    with _spending():
        handle = files.create(name)
    try:
        files.fsync_dir()
    except OSError:
        files.close(handle)
        raise
    return handle


class LogFile:
    """Append to the current log file, with one fsync for all who wait (group commit).

    Every method is called with `lock` held; only `sync` and `wait_for_sync` let it go.
    """

    def __init__(self, files: Files, lock: threading.Condition) -> None:
        self._files = files
        self._lock = lock
        self._handle: int | None = None
        self._offset = 0
        self._written = 0
        self._synced = 0
        self._failure: OSError | None = None
        self._syncing = False
        self.name = ""

    def create(self, name: str) -> None:
        """Go on in a new file; nobody may be syncing the old one."""
        with self.guarded():
            handle = _create(self._files, name)
        self.stop()
        self._handle, self.name, self._offset = handle, name, 0

    def resume(self, name: str, size: int, *, cut: bool) -> None:
        """Go on in an existing file behind its first `size` bytes."""
        with self.guarded():
            self._handle = self._files.open(name)
            if cut:
                self._files.truncate(self._handle, size)
                self._files.fsync(self._handle)
        self.name, self._offset = name, size

    def append(self, data: bytes) -> int:
        """Write at the end, not yet durable; give the offset."""
        handle, offset = self._open_handle(), self._offset
        with self.guarded():
            _write(self._files, handle, data, offset)
        self._offset += len(data)
        self._written += len(data)
        return offset

    def sync(self) -> None:
        """Wait until all that was appended so far is durable."""
        wanted = self._written
        while self._synced < wanted:
            handle, target = self._open_handle(), self._written
            if self._syncing:
                self._lock.wait()
                continue
            failure = self._sync_unlocked(handle)
            if failure is not None:
                self._fail(failure)
            self._synced = max(self._synced, target)

    def wait_for_sync(self) -> bool:
        """Let the lock go until nobody is syncing; say whether it was let go."""
        waited = self._syncing
        while self._syncing:
            self._lock.wait()
        return waited

    def sync_now(self) -> None:
        """Make all durable without letting the lock go."""
        handle = self._open_handle()
        if self._synced < self._written:
            with self.guarded():
                self._files.fsync(handle)
            self._synced = self._written

    def stop(self) -> None:
        """Close the current file; nobody may be syncing it."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._files.close(handle)

    @property
    def is_usable(self) -> bool:
        """Say whether anything can still be appended."""
        return self._failure is None and self._handle is not None

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Close the outbox for good if the file system fails inside the block."""
        try:
            yield
        except OSError as error:
            self._fail(error)

    def _sync_unlocked(self, handle: int) -> OSError | None:
        self._syncing = True
        self._lock.release()
        try:
            self._files.fsync(handle)
        except OSError as error:
            return error
        finally:
            self._lock.acquire()
            self._syncing = False
            self._lock.notify_all()
        return None

    def check_open(self) -> None:
        """Raise `outbox_corrupt` if nothing can be appended any more."""
        self._open_handle()

    def _open_handle(self) -> int:
        if self._failure is not None:
            self._fail(self._failure)
        if self._handle is None:
            raise OutboxError("outbox_corrupt", "the outbox is closed")
        return self._handle

    def _fail(self, error: OSError) -> NoReturn:
        self._failure = error
        raise OutboxError(
            "outbox_corrupt", f"the outbox failed and is closed until it is opened anew: {error}"
        ) from error


class DeadFile:
    """Keep letters that will not be sent again, each until it is requeued or purged.

    Each change is durable when the method returns. The caller turns OSError into a closed
    outbox.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._handle: int | None = None
        self._size = 0
        self._places: dict[str, tuple[int, int]] = {}
        self.live_bytes = 0

    def load(self, places: dict[str, tuple[int, int]], size: int) -> None:
        """Take what recovery found; `size` is where the next frame goes."""
        self._places, self._size = dict(places), size
        self.live_bytes = sum(length for _, length in places.values())

    def cut(self) -> None:
        """Drop a torn tail."""
        self._files.truncate(self._writable(), self._size)
        self._files.fsync(self._writable())

    def add(self, letter: DeadLetter) -> None:
        """Keep a letter."""
        data = encode(letter.frame())
        offset = self._append(data)
        self._places[letter.id] = (offset, len(data))
        self.live_bytes += len(data)

    def read(self, id: str) -> DeadLetter:
        """Read one letter."""
        if id not in self._places:
            raise NotFoundError("not_found", f"the outbox has no dead letter {id}")
        found = read_frame(self._files.read_at(DEAD_LOG, *self._places[id]))
        letter = None if found is None else DeadLetter.of(found.value)
        if letter is None:
            raise OutboxError("outbox_corrupt", f"the dead letter {id} cannot be read")
        return letter

    def drop(self, id: str, reason: str) -> None:
        """Forget a letter; collect garbage when it outweighs what is kept by a file."""
        self._append(encode({"t": "release", "id": id, "reason": reason}))
        self.live_bytes -= self._places.pop(id)[1]
        if self._size > 2 * self.live_bytes + FILE_BYTES:
            # On a full disk the letter has gone all the same, and the garbage can wait.
            with suppress(OutboxError):
                self.rewrite(self)

    def rewrite(self, readable: Iterable[str], *, aside: str | None = None) -> None:
        """Write the readable letters to a new file and put it in the place of the old one.

        With `aside` the old file is kept under that name. Between the two renames there is no
        dead-letter file, and `settle_names` finishes the second one.
        """
        frames = {id: self._files.read_at(DEAD_LOG, *self._places[id]) for id in readable}
        self.stop()
        # Its name is durable before the old file loses its own.
        handle = _create(self._files, DEAD_TEMPORARY)
        with _spending():
            write_new(self._files, DEAD_TEMPORARY, handle, b"".join(frames.values()))
        if aside is not None:
            self._files.rename(DEAD_LOG, aside)
            self._files.fsync_dir()
        self._files.rename(DEAD_TEMPORARY, DEAD_LOG)
        self._files.fsync_dir()
        self._size = 0
        for id, data in frames.items():
            self._places[id] = (self._size, len(data))
            self._size += len(data)

    def stop(self) -> None:
        """Close the file."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._files.close(handle)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._places))

    def _append(self, data: bytes) -> int:
        handle, offset = self._writable(), self._size
        _write(self._files, handle, data, offset)
        self._files.fsync(handle)
        self._size += len(data)
        return offset

    def _writable(self) -> int:
        if self._handle is None:
            if DEAD_LOG in self._files.names():
                self._handle = self._files.open(DEAD_LOG)
            else:
                self._handle = _create(self._files, DEAD_LOG)
        return self._handle


def settle_names(files: Files) -> None:
    """Finish or undo a rewrite of the dead-letter file that a crash interrupted."""
    names = files.names()
    if DEAD_TEMPORARY not in names:
        return
    if DEAD_LOG in names:
        files.unlink(DEAD_TEMPORARY)
    else:
        files.rename(DEAD_TEMPORARY, DEAD_LOG)
    files.fsync_dir()
