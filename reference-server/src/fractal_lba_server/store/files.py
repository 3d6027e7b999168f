"""The few file operations that durability is made of, behind one small interface.

Whatever must survive a crash is written through `Files`, so that a test can fail or stop at
any one call and forget what was never synced.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

if sys.platform == "darwin":  # fsync there leaves the drive's cache alone
    import fcntl

    def _sync(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

    _sync_data = _sync
else:
    _sync = os.fsync
    _sync_data = os.fdatasync


class Files(Protocol):
    """What the log needs of a file system. Every method raises OSError."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int: ...
    def pwrite(self, fd: int, data: bytes, offset: int) -> None: ...
    def fdatasync(self, fd: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def fsync_dir(self, path: Path) -> None: ...
    def ftruncate(self, fd: int, size: int) -> None: ...
    def chmod(self, fd: int, mode: int) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def close(self, fd: int) -> None: ...


class SystemFiles:
    """The real file system."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data`; a short write is continued."""
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)

    def fdatasync(self, fd: int) -> None:
        _sync_data(fd)

    def fsync(self, fd: int) -> None:
        _sync(fd)

    def fsync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def close(self, fd: int) -> None:
        os.close(fd)
