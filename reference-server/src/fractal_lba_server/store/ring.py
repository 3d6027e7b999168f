"""A bounded log of raw bytes: the newest are kept, the oldest go.

Two files take turns, each half of the bound; when one is full the other is emptied and written.
It serves what may be kept but never has to be: refused bodies, and bodies as they arrived.
Nothing here is part of the log of accepted records, and nothing of it is ever shipped
(spec/formats.md, data directory).

    entry   len u32 . crc32c u32 over the bytes . received_ns u64 . bytes
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from google_crc32c import value as crc32c

from .files import Files, SystemFiles

_ENTRY: Final = struct.Struct(">IIQ")
_NAMES: Final = ("a.log", "b.log")


class RingLog:
    """One bounded log in a folder of its own. Methods raise OSError; one thread at a time."""

    def __init__(self, folder: Path, *, max_bytes: int, files: Files | None = None) -> None:
        self._files = files if files is not None else SystemFiles()
        self._half = max(max_bytes // 2, 1)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._paths = [folder / name for name in _NAMES]
        flags = os.O_RDWR | os.O_CREAT
        self._fds = [self._files.open(path, flags) for path in self._paths]
        sizes = [os.fstat(fd).st_size for fd in self._fds]
        ages = [path.stat().st_mtime_ns for path in self._paths]
        self._turn = ages.index(max(ages)) if any(sizes) else 0
        # What is written next follows the last whole entry, or nobody could read it.
        self._offset = max((end for *_, end in _entries(self._paths[self._turn])), default=0)

    def append(self, bodies: Iterable[bytes], *, received_ns: int, sync: bool) -> None:
        """Add entries; with `sync` they are durable when this returns."""
        data = b"".join(_ENTRY.pack(len(body), crc32c(body), received_ns) + body for body in bodies)
        if self._offset and self._offset + len(data) > self._half:
            self._turn = 1 - self._turn
            self._files.ftruncate(self._fds[self._turn], 0)
            self._offset = 0
        self._files.pwrite(self._fds[self._turn], data, self._offset)
        self._offset += len(data)
        if sync:
            self._files.fdatasync(self._fds[self._turn])

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Give (received_ns, bytes) from the oldest; a torn entry ends its file."""
        for turn in (1 - self._turn, self._turn):
            yield from ((received_ns, body) for received_ns, body, _ in _entries(self._paths[turn]))

    def close(self) -> None:
        """Close both files."""
        for fd in self._fds:
            self._files.close(fd)


def _entries(path: Path) -> Iterator[tuple[int, bytes, int]]:
    """Give (received_ns, bytes, where the entry ends) of each whole entry of a file."""
    data = path.read_bytes()
    offset = 0
    while offset + _ENTRY.size <= len(data):
        size, checksum, received_ns = _ENTRY.unpack_from(data, offset)
        body = data[offset + _ENTRY.size : offset + _ENTRY.size + size]
        if len(body) < size or crc32c(body) != checksum:
            return
        offset += _ENTRY.size + size
        yield received_ns, body, offset
