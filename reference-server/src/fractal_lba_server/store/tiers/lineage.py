"""The lineage of cold reads: who read what, one line each, chained and synced before the read.

The invariant of this file: when `record` returns, the line is durable and follows the one before
it by its SHA-256 (spec/tiers.md 3.1-3.3). A line that may not be whole closes the file: nothing is
recorded, and so nothing is read from cold, until it is opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fractal_lba.canonical import jcs

from ..files import Files, SystemFiles

GENESIS: Final = "0" * 64
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A file is closed before a line would take it beyond this: some 200,000 reads."""

LINE_BYTES_MAX: Final = 4_096
"""Longest line: names of tenants and objects take a few hundred bytes."""

MODE: Final = 0o600
CLOSED_MODE: Final = 0o400
SUFFIX: Final = ".ndjson"


class LineageError(Exception):
    """The lineage cannot be written, or does not follow from line to line."""


class Lineage:
    """A folder of append-only files, each named after its first line. Called from one thread."""

    def __init__(
        self, folder: Path, *, files: Files | None = None, file_bytes_max: int = FILE_BYTES_MAX
    ) -> None:
        self._files = files if files is not None else SystemFiles()
        self._folder, self._file_bytes_max = folder, file_bytes_max
        self._is_broken = False
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            self._files.fsync_dir(folder.parent)
            paths = lineage_files(folder)
            if paths:
                self._resume(paths)
            else:
                self._number, self._prev = 0, GENESIS
                self._begin_file()
        except OSError as error:
            raise LineageError(f"{folder}: {error}") from error

    @property
    def count(self) -> int:
        """Say how many reads are recorded."""
        return self._number

    def record(self, facts: Mapping[str, Any]) -> None:
        """Record one read; raises LineageError if it is not durable."""
        if self._is_broken:
            raise LineageError(f"{self._folder}: an earlier line may not be whole; start again")
        line = jcs({**facts, "number": self._number + 1, "prev": self._prev})
        if len(line) > LINE_BYTES_MAX:
            raise LineageError(f"a line of {len(line)} bytes; the longest is {LINE_BYTES_MAX}")
        try:
            if self._size and self._size + len(line) + 1 > self._file_bytes_max:
                full = self._fd
                self._begin_file()  # first: what is closed is never opened for writing again
                self._files.chmod(full, CLOSED_MODE)
                self._files.close(full)
            self._files.pwrite(self._fd, line + b"\n", self._size)
            self._files.fdatasync(self._fd)
        except OSError as error:
            self._is_broken = True
            raise LineageError(f"{self._folder}: {error}") from error
        self._size += len(line) + 1
        self._number += 1
        self._prev = hashlib.sha256(line).hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._fd)

    def _begin_file(self) -> None:
        self._size = 0
        path = self._folder / f"seg-{self._number + 1:016d}{SUFFIX}"
        self._fd = self._files.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE)
        self._files.fsync(self._fd)
        self._files.fsync_dir(self._folder)

    def _resume(self, paths: Sequence[Path]) -> None:
        """Go on behind the last whole line; a torn one was never answered, and is cut off."""
        prev = _last_digest(paths[-2]) if len(paths) > 1 else GENESIS
        first = int(paths[-1].stem[4:])
        self._size, self._number, self._prev = 0, first - 1, prev
        with paths[-1].open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._size += len(line)
                self._number += 1
                self._prev = hashlib.sha256(line[:-1]).hexdigest()
        self._fd = self._files.open(paths[-1], os.O_RDWR, MODE)
        self._files.ftruncate(self._fd, self._size)
        self._files.fsync(self._fd)


def lineage_files(folder: Path) -> list[Path]:
    """Give the files of a lineage in order."""
    return sorted(folder.glob(f"seg-*{SUFFIX}"))


def read_lineage(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the lines of a lineage; raises LineageError where one does not follow another."""
    prev, number = GENESIS, 0
    for path in lineage_files(folder):
        for line in path.read_bytes().split(b"\n")[:-1]:
            number += 1
            try:
                facts = json.loads(line)
            except ValueError:
                facts = {}
            if facts.get("number") != number or facts.get("prev") != prev:
                raise LineageError(f"{path}: line {number} does not follow the one before it")
            prev = hashlib.sha256(line).hexdigest()
            yield facts


def _last_digest(path: Path) -> str:
    """Give the digest of the last line of a closed file."""
    lines = path.read_bytes().rsplit(b"\n", 2)
    return hashlib.sha256(lines[-2]).hexdigest()
