"""Touch the disk for the outbox. This is the only file of the package that writes files.

`Files` is the whole of what the outbox asks of a file system, so that a test can fail or stop
it at any call. The owner lock is here too: one process owns a directory at a time. What is
written, and in which order, is in `spool.py`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Final, Protocol

from .errors import ConfigError, OutboxError
from .outbox import Owner, is_stale

LOCK_NAME: Final = "outbox.lock"


class Files(Protocol):
    """One flat directory. Names are file names in it, handles are numbers."""

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def read_at(self, name: str, offset: int, length: int) -> bytes: ...
    def age_ms(self, name: str) -> int: ...
    def create(self, name: str) -> int: ...
    def open(self, name: str) -> int: ...
    def pwrite(self, handle: int, data: bytes, offset: int) -> None: ...
    def truncate(self, handle: int, size: int) -> None: ...
    def fsync(self, handle: int) -> None: ...
    def close(self, handle: int) -> None: ...
    def fsync_dir(self) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def unlink(self, name: str) -> None: ...


class DirectoryFiles:
    """The real thing: a directory of mode 0700 with files of mode 0600."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(self._directory.stat().st_mode) & 0o077:
            raise ConfigError(
                "config_invalid",
                f"outbox: {self._directory} must be open to its owner alone (chmod 700)",
            )

    def names(self) -> list[str]:
        """List the directory."""
        return os.listdir(self._directory)

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        return (self._directory / name).read_bytes()

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """Read a part of a file."""
        with open(self._directory / name, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def age_ms(self, name: str) -> int:
        """Say how long ago a file was written."""
        return int((time.time() - (self._directory / name).stat().st_mtime) * 1000)

    def create(self, name: str) -> int:
        """Create a file that must not exist."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self._directory / name, flags, 0o600)

    def open(self, name: str) -> int:
        """Open a file that must exist, for writing."""
        return os.open(self._directory / name, os.O_RDWR | os.O_CLOEXEC)

    def pwrite(self, handle: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view, offset)
            view, offset = view[written:], offset + written

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(handle, size)

    def fsync(self, handle: int) -> None:
        """Make a file's content durable."""
        os.fsync(handle)

    def close(self, handle: int) -> None:
        """Close a handle."""
        os.close(handle)

    def fsync_dir(self) -> None:
        """Make creations, renames and removals durable."""
        handle = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Rename a file over whatever has the new name."""
        os.rename(self._directory / old, self._directory / new)

    def unlink(self, name: str) -> None:
        """Remove a file."""
        os.unlink(self._directory / name)


# --- the owner lock ------------------------------------------------------------------------


def start_ticks_of(pid: int) -> int | None:
    """Say when a process started (0 where the system does not tell), None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except ProcessLookupError:
        return None
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _signal_ticks(pid)
    return None if fields[0] in "ZX" else int(fields[19])


def _signal_ticks(pid: int) -> int | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0


def this_process() -> Owner:
    """Describe this process as the owner of a lock."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    boot = boot_id.read_text().strip() if boot_id.exists() else ""
    pid = os.getpid()
    return Owner(pid, boot, start_ticks_of(pid) or 0, os.uname().nodename)


def acquire_lock(files: Files, here: Owner) -> None:
    """Become the one owner of the directory, or raise `outbox_locked`.

    A stale lock is replaced through a claim: a second file, created exclusively and named by
    the text of the lock it replaces, which is then renamed over the lock. Two processes that
    find the same stale lock want the same claim, and only one gets it. Names need no sync: a lock
    that a power failure forgets was that of another boot.
    """
    seen: dict[str, bytes] = {}
    name = LOCK_NAME
    while True:
        try:
            handle = files.create(name)
        except FileExistsError:
            try:
                text = files.read(name)
                age_ms = files.age_ms(name)
            except FileNotFoundError:
                seen, name = {}, LOCK_NAME
                continue
            _refuse_live(name, text, here, age_ms)
            seen[name] = text
            name = f"{LOCK_NAME}.{hashlib.sha256(text).hexdigest()[:16]}"
            continue
        write_new(files, name, handle, here.text())
        if name == LOCK_NAME:
            return
        if _unchanged(files, seen):
            files.rename(name, LOCK_NAME)
            for claim in seen.keys() - {LOCK_NAME}:
                files.unlink(claim)
            return
        files.unlink(name)
        seen, name = {}, LOCK_NAME


def _refuse_live(name: str, text: bytes, here: Owner, age_ms: int) -> None:
    holder = Owner.of(text)
    ticks = None if holder is None else start_ticks_of(holder.pid)
    if is_stale(holder, here=here, holder_start_ticks=ticks, age_ms=age_ms):
        return
    who = "an unreadable lock" if holder is None else f"process {holder.pid} on {holder.host}"
    raise OutboxError(
        "outbox_locked",
        f"the outbox belongs to {who}; if that is gone for good, remove {name}",
    )


def _unchanged(files: Files, seen: dict[str, bytes]) -> bool:
    try:
        return all(files.read(name) == text for name, text in seen.items())
    except FileNotFoundError:
        return False


def release_lock(files: Files, here: Owner) -> None:
    """Remove the lock, if it is still this process's own."""
    if LOCK_NAME in files.names() and files.read(LOCK_NAME) == here.text():
        files.unlink(LOCK_NAME)


def write_new(files: Files, name: str, handle: int, data: bytes) -> None:
    """Fill a file that was just created and close it; a file that cannot be filled goes."""
    try:
        files.pwrite(handle, data, 0)
        files.fsync(handle)
    except OSError:
        files.unlink(name)
        raise
    finally:
        files.close(handle)
