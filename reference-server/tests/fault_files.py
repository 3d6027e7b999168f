"""File systems for tests: one that forgets what was not synced, one that fails on request.

`DiskFiles` is a disk in memory beside the real files of a folder. Every call goes to the real
folder, so that readers see it, and to a model of what the disk would hold after a power cut:
contents up to the last sync of the file, names up to the last sync of the directory. `crash`
puts a state into the folder that the disk might have been in: of what was not synced, any
choice of written pages and any first few of the names' changes are there.

`stop_at` ends the run at the k-th call, before or after it took effect; `fail_at` raises an
error there instead.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from fractal_lba_server.store.files import SystemFiles

PAGE_BYTES: Final = 512
"""What a disk writes whole or not at all; the smallest of sectors in use, so the worst case."""

CALLS: Final = (
    "open", "pwrite", "fdatasync", "fsync", "fsync_dir", "ftruncate", "chmod", "rename",
    "unlink", "close",
)  # fmt: skip

_T = TypeVar("_T")


class PowerCutError(BaseException):
    """The machine is off. No handler of ordinary errors may go on after it."""


@dataclass(slots=True)
class _Inode:
    """A file, whatever its name: what is read now, and what was synced."""

    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    mode: int = 0o600
    synced_mode: int = 0o600
    dropped: bytes = b""
    """What a failed sync gave up: a system holds those pages for written from then on."""
    untold: set[int] = field(default_factory=set)
    """Descriptors that have yet to be told of a failed sync; each is told once."""


_Names = dict[str, _Inode]


class DiskFiles:
    """A disk under one folder. Not for two threads at once unless the calls are theirs alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self.stop_at: tuple[int, bool] | None = None
        """(number of a call from 0, whether it takes effect) at which the power is cut."""
        self.fail_at: tuple[int, int] | None = None
        """(number of a call from 0, errno) that fails, once."""
        self.fail_if: Callable[[str], int | None] = lambda name: None
        """Gives the errno with which a call of this name fails now, or None."""
        self._names: _Names = {}
        self._synced_names: list[_Names] = [{}]
        """The names as last synced, then after each change since."""
        self._fds: dict[int, tuple[_Inode, bool]] = {}
        self._next_fd = 1_000_000
        self._lock = threading.RLock()
        self._off = False

    # --- the calls

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        def run() -> int:
            inode = self._names.get(path.name)
            if inode is not None and flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            if inode is None:
                if not flags & os.O_CREAT:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
                inode = _Inode(mode=mode, synced_mode=mode)
                self._change({**self._names, path.name: inode})
            elif flags & (os.O_WRONLY | os.O_RDWR) and not inode.mode & 0o200:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            self._show(path.name)
            self._next_fd += 1
            self._fds[self._next_fd] = (inode, bool(flags & (os.O_WRONLY | os.O_RDWR)))
            return self._next_fd

        return self._call("open", run)

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        def run(share: int = len(data)) -> None:
            inode = self._writable(fd)
            if len(inode.content) < offset:
                inode.content.extend(bytes(offset - len(inode.content)))
            inode.content[offset : offset + share] = data[:share]
            self._show_inode(inode)

        # A write that fails, or that the power cut meets, may have been done in part.
        self._call("pwrite", run, partly=lambda: run(len(data) // 2))

    def fdatasync(self, fd: int) -> None:
        failing = lambda: self._fail_sync(fd)  # noqa: E731 - one line beside its twin
        self._call("fdatasync", lambda: self._sync(fd, mode=False), failing=failing)

    def fsync(self, fd: int) -> None:
        failing = lambda: self._fail_sync(fd)  # noqa: E731 - one line beside its twin
        self._call("fsync", lambda: self._sync(fd, mode=True), failing=failing)

    def _fail_sync(self, fd: int) -> None:
        inode, _ = self._of(fd)
        inode.dropped = bytes(inode.content)
        inode.untold = {other for other, (one, _) in self._fds.items() if one is inode} - {fd}

    def _sync(self, fd: int, *, mode: bool) -> None:
        inode, _ = self._of(fd)
        if fd in inode.untold:
            inode.untold.discard(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        inode.synced = _without(bytes(inode.content), inode.dropped, inode.synced)
        if mode:
            inode.synced_mode = inode.mode

    def fsync_dir(self, path: Path) -> None:
        def run() -> None:
            assert path == self.folder
            self._synced_names = [self._names]

        self._call("fsync_dir", run)

    def ftruncate(self, fd: int, size: int) -> None:
        def run() -> None:
            inode = self._writable(fd)
            del inode.content[size:]
            inode.content.extend(bytes(size - len(inode.content)))
            self._show_inode(inode)

        self._call("ftruncate", run)

    def chmod(self, fd: int, mode: int) -> None:
        def run() -> None:
            inode, _ = self._of(fd)
            inode.mode = mode

        self._call("chmod", run)

    def rename(self, source: Path, target: Path) -> None:
        def run() -> None:
            names = dict(self._names)
            if source.name not in names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
            names[target.name] = names.pop(source.name)
            self._change(names)
            os.rename(source, target)

        self._call("rename", run)

    def unlink(self, path: Path) -> None:
        def run() -> None:
            names = dict(self._names)
            del names[path.name]
            self._change(names)
            os.unlink(path)

        self._call("unlink", run)

    def close(self, fd: int) -> None:
        def run() -> None:
            del self._fds[self._known(fd)]

        self._call("close", run)

    # --- faults

    def _call(
        self,
        name: str,
        run: Callable[[], _T],
        *,
        partly: Callable[[], _T] | None = None,
        failing: Callable[[], None] | None = None,
    ) -> _T:
        with self._lock:
            if self._off:
                raise PowerCutError
            number = len(self.calls)
            self.calls.append(name)
            if self.stop_at is not None and number == self.stop_at[0]:
                self._off = True
                if self.stop_at[1]:
                    run()
                elif partly is not None:
                    partly()
                raise PowerCutError
            error = self.fail_if(name)
            if self.fail_at is not None and number == self.fail_at[0]:
                error = self.fail_at[1]
            if error is not None:
                if partly is not None:
                    partly()
                if failing is not None:
                    failing()
                raise OSError(error, os.strerror(error))
            return run()

    # --- the disk

    def _known(self, fd: int) -> int:
        if fd not in self._fds:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return fd

    def _of(self, fd: int) -> tuple[_Inode, bool]:
        return self._fds[self._known(fd)]

    def _writable(self, fd: int) -> _Inode:
        inode, writable = self._of(fd)
        if not writable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return inode

    def _change(self, names: _Names) -> None:
        self._names = names
        self._synced_names.append(names)

    def _show_inode(self, inode: _Inode) -> None:
        for name, other in self._names.items():
            if other is inode:
                self._show(name)

    def _show(self, name: str) -> None:
        (self.folder / name).write_bytes(self._names[name].content)

    def crash(self, chance: random.Random) -> None:
        """Cut the power, choose what the disk holds, and come up again with that."""
        with self._lock:
            self._names = dict(chance.choice(self._synced_names))
            self._synced_names = [self._names]
            self._fds.clear()
            for inode in self._names.values():
                inode.content = bytearray(_torn(inode, chance))
                inode.synced, inode.dropped = bytes(inode.content), b""
                inode.mode = inode.synced_mode = chance.choice((inode.mode, inode.synced_mode))
            for path in self.folder.iterdir():
                path.unlink()
            for name in self._names:
                self._show(name)
            self.calls = []
            self.stop_at = self.fail_at = None
            self._off = False


def _torn(inode: _Inode, chance: random.Random) -> bytes:
    """Choose for the length and for each page whether the newest state reached the disk."""
    new, old = bytes(inode.content), inode.synced
    if new == old:
        return new
    kind = chance.randrange(4)
    if kind == 0:
        return old
    if kind == 1:
        return new
    size = chance.choice((len(new), len(old)))
    pages = []
    for at in range(0, size, PAGE_BYTES):
        page = (new if chance.random() < 0.5 else old)[at : at + PAGE_BYTES]
        pages.append(page.ljust(min(PAGE_BYTES, size - at), b"\0"))
    return b"".join(pages)


def _without(new: bytes, dropped: bytes, old: bytes) -> bytes:
    """Give what is on the disk after a sync that skips pages held for written."""
    if not dropped:
        return new
    pages = []
    for at in range(0, len(new), PAGE_BYTES):
        page = new[at : at + PAGE_BYTES]
        if dropped[at : at + PAGE_BYTES] == page:
            page = old[at : at + PAGE_BYTES].ljust(len(page), b"\0")
        pages.append(page)
    return b"".join(pages)


class GatedFiles(SystemFiles):
    """The real file system, whose syncs of data wait at a gate, or fail, when told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.errors: dict[str, int] = {}
        """By name of a call, the errno that it fails with."""
        self.calls: dict[str, int] = dict.fromkeys(CALLS, 0)

    def _enter(self, name: str) -> None:
        self.calls[name] += 1
        error = self.errors.get(name)
        if error is not None:
            raise OSError(error, os.strerror(error))

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._enter("open")
        return super().open(path, flags, mode)

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        self._enter("pwrite")
        super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        self.gate.wait()
        self._enter("fdatasync")
        super().fdatasync(fd)
