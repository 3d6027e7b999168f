"""What each peer has acknowledged of each of our streams, kept over a restart.

This file owns `DATA/peers/watermarks.json`. It is written at leisure and may be behind: the peer
is asked at every start. It is never ahead, and a mark in it never moves back.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from fractal_lba.canonical import jcs

from ..core.replication import NOTHING, Mark
from .files import Files, SystemFiles


class Watermarks:
    """Marks by placement and peer. `set` is cheap; `flush` makes them durable."""

    def __init__(self, path: Path, *, files: Files | None = None) -> None:
        self._path = path
        self._files = files if files is not None else SystemFiles()
        self._lock = threading.Lock()
        self._changed = False
        self._marks = _read(path)

    def get(self, placement: str, peer: str) -> Mark:
        """Give what a peer has acknowledged; NOTHING if that is not known."""
        with self._lock:
            return self._marks.get((placement, peer), NOTHING)

    def highest(self, placement: str) -> int:
        """Give the highest number of a stream that any peer has acknowledged."""
        with self._lock:
            found = (mark.seq for (name, _), mark in self._marks.items() if name == placement)
            return max(found, default=0)

    def set(self, placement: str, peer: str, mark: Mark) -> None:
        """Remember what a peer has acknowledged; less than before changes nothing."""
        with self._lock:
            if mark.progress > self._marks.get((placement, peer), NOTHING).progress:
                self._marks[placement, peer] = mark
                self._changed = True

    def flush(self) -> None:
        """Make the marks durable if they have changed; raises OSError."""
        with self._lock:
            if not self._changed:
                return
            document = {f"{name}/{peer}": list(mark) for (name, peer), mark in self._marks.items()}
            self._changed = False
        try:
            self._write(jcs(document))
        except OSError:
            self._changed = True
            raise

    def _write(self, data: bytes) -> None:
        new = self._path.with_suffix(".new")
        fd = self._files.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._files.pwrite(fd, data, 0)
            self._files.ftruncate(fd, len(data))
            self._files.fsync(fd)
        finally:
            self._files.close(fd)
        self._files.rename(new, self._path)
        self._files.fsync_dir(self._path.parent)


class WatermarksError(ValueError):
    """The file is not what was written; without it the peers are asked."""


def _read(path: Path) -> dict[tuple[str, str], Mark]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    marks = {}
    try:
        for name, (first_seq, offset, seq, sealed) in json.loads(text).items():
            placement, peer = name.split("/")
            marks[placement, peer] = Mark(int(first_seq), int(offset), int(seq), bool(sealed))
    except (ValueError, TypeError, AttributeError):
        problem = f"{path}: no watermarks; remove it, and every peer is asked what it holds"
        raise WatermarksError(problem) from None
    return marks


__all__ = ["Watermarks", "WatermarksError"]
