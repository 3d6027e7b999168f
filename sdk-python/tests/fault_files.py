"""A directory in memory that fails or stops at the k-th call and forgets what was not synced.

It has the interface `fractal_lba.store.Files`. Content is durable after `fsync`, a name after
`fsync_dir`. `crash` gives the directory as a machine would find it after a power failure.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

REBOOT_MS = 60_000
"""How old everything is when the machine is back."""


class Stopped(BaseException):
    """The machine has stopped: nobody catches this."""


@dataclass(slots=True)
class Inode:
    """One file: what a reader sees, and what a power failure leaves of it."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    age_ms: int = 0


class FaultFiles:
    """Count the calls that change something; at call number `at` do what `how` says.

    `how` is "fail" (an I/O error, once), "full" (no space, once), "stop" (the machine is gone,
    before the call), "torn" (a write gets half way, then the machine is gone) or "" (never).
    """

    def __init__(self, *, at: int = 0, how: str = "") -> None:
        self._at = at
        self._how = how
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._unsynced: list[tuple[str, Inode | None, str | None]] = []
        self._handles: dict[int, Inode] = {}
        self._next_handle = 100
        self._gone = False
        self.calls = 0
        self.log: list[str] = []

    # --- what a test asks -----------------------------------------------------------------------

    def crash(self, *, keep: str = "synced") -> FaultFiles:
        """Give what is there after the machine comes back.

        `keep` is "synced" (nothing else), "all" (everything had reached the disk in time), "names"
        (names had, content had not) or "last" (of the names only the last change had).
        """
        after = FaultFiles()
        names = dict(self._durable_names if keep in ("synced", "last") else self._names)
        if keep == "last" and self._unsynced:
            name, inode, old = self._unsynced[-1]
            names.pop(old or name, None)
            if inode is not None:
                names[name] = inode
        for name, inode in names.items():
            data = bytes(inode.data) if keep == "all" else inode.durable
            after.put(name, data, age_ms=REBOOT_MS)
        return after

    def put(self, name: str, data: bytes, *, age_ms: int = 0) -> None:
        """Place a durable file."""
        inode = Inode(bytearray(data), data, age_ms)
        self._names[name] = self._durable_names[name] = inode

    def copy(self, *, at: int = 0, how: str = "") -> FaultFiles:
        """Give a directory with the same files, and another fault."""
        other = FaultFiles(at=at, how=how)
        for name, inode in self._names.items():
            other.put(name, bytes(inode.data), age_ms=inode.age_ms)
        return other

    @property
    def open_handles(self) -> int:
        """Count the handles that nobody closed."""
        return len(self._handles)

    # --- the interface --------------------------------------------------------------------------

    def names(self) -> list[str]:
        self._check()
        return list(self._names)

    def read(self, name: str) -> bytes:
        self._check()
        return bytes(self._of(name).data)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        self._check()
        return bytes(self._of(name).data[offset : offset + length])

    def age_ms(self, name: str) -> int:
        self._check()
        return self._of(name).age_ms

    def create(self, name: str) -> int:
        if name in self._names:
            self._check()
            raise FileExistsError(errno.EEXIST, "exists", name)
        self._step("create", name)
        self._names[name] = Inode()
        self._unsynced.append((name, self._names[name], None))
        return self._handle(self._names[name])

    def open(self, name: str) -> int:
        self._step("open", name)
        return self._handle(self._of(name))

    def pwrite(self, handle: int, data: bytes, offset: int) -> None:
        inode = self._handles[handle]
        try:
            torn = self._step("pwrite", len(data))
        except OSError:
            _write(inode, data[: len(data) // 2], offset)  # as far as there was space
            raise
        _write(inode, data[: len(data) // 2] if torn else data, offset)
        if torn:
            self._stop()

    def truncate(self, handle: int, size: int) -> None:
        inode = self._handles[handle]
        self._step("truncate", size)
        del inode.data[size:]

    def fsync(self, handle: int) -> None:
        inode = self._handles[handle]
        self._step("fsync", handle)
        inode.durable = bytes(inode.data)

    def close(self, handle: int) -> None:
        self._check()
        del self._handles[handle]

    def fsync_dir(self) -> None:
        self._step("fsync_dir", "")
        self._durable_names = dict(self._names)
        self._unsynced.clear()

    def rename(self, old: str, new: str) -> None:
        inode = self._of(old)
        self._step("rename", f"{old} {new}")
        del self._names[old]
        self._names[new] = inode
        self._unsynced.append((new, inode, old))

    def unlink(self, name: str) -> None:
        self._of(name)
        self._step("unlink", name)
        del self._names[name]
        self._unsynced.append((name, None, None))

    # --- inside ---------------------------------------------------------------------------------

    def _of(self, name: str) -> Inode:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return self._names[name]

    def _handle(self, inode: Inode) -> int:
        self._next_handle += 1
        self._handles[self._next_handle] = inode
        return self._next_handle

    def _check(self) -> None:
        if self._gone:
            raise Stopped

    def _stop(self) -> None:
        self._gone = True
        raise Stopped

    def _step(self, call: str, what: Any) -> bool:
        """Count a call and fail it if it is its turn; say whether a write is to be torn."""
        self._check()
        self.calls += 1
        self.log.append(f"{self.calls} {call} {what}")
        if self.calls != self._at:
            return False
        if self._how == "fail":
            raise OSError(errno.EIO, "scripted I/O error")
        if self._how == "full" and call in ("create", "pwrite"):
            raise OSError(errno.ENOSPC, "scripted full disk")
        if self._how == "stop" or (self._how == "torn" and call != "pwrite"):
            self._stop()
        return self._how == "torn"


def _write(inode: Inode, data: bytes, offset: int) -> None:
    end = offset + len(data)
    if len(inode.data) < end:
        inode.data.extend(bytes(end - len(inode.data)))
    inode.data[offset:end] = data
