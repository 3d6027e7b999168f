"""The data directory: who owns it, what layout it has, and which policies its log names.

    FORMAT             the layout's version
    LOCK               held by the one server process (flock)
    region.json        region code and region epoch
    policies/<v>.json  every policy an outcome was decided under, kept for replay
    wal/<placement>/   the segments of one stream
    peers/<region>/<placement>/  the mirror of another region's stream, byte for byte
    index.sqlite       the view that follows the log

The layout is spec/formats.md, section "data directory".
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from ..core.policy import Policy

LAYOUT_VERSION: Final = 1
OPEN_STREAM: Final = "open"
"""The stream of tenants that are not locked to regions."""

LOST_AND_FOUND: Final = "lost+found"
"""What a fresh file system has in its root, which is a fine place for a data directory or a log."""

HARMLESS: Final = frozenset({"LOCK", "FORMAT.new", LOST_AND_FOUND})
"""What a folder may hold that is to become a data directory; a first start that was killed may
have left the other two."""


class StreamDir(NamedTuple):
    """The folder of one stream: our own, or the mirror of another region's."""

    region: str
    placement: str
    path: Path


class DataDirError(Exception):
    """A data directory that this server must not use; the message says why, and what to do."""


@dataclass(slots=True)
class DataDir:
    """An opened data directory; the lock is held until `close` or the end of the process."""

    path: Path
    region: str
    region_epoch: int
    _lock: int

    @classmethod
    def open(cls, path: Path, *, region: str | None = None) -> Self:
        """Open or make a directory. `region` None takes the one it was made for."""
        _make_folders(path)
        lock = _lock(path)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, lock)
            _check_layout(path)
            code, region_epoch = _region(path, region)
            _make_folders(path / "policies", path / "wal", path / "wal" / OPEN_STREAM)
            undo.pop_all()
        return cls(path, code, region_epoch, lock)

    @property
    def wal(self) -> Path:
        return self.path / "wal" / OPEN_STREAM

    def own_stream(self, placement: str) -> StreamDir:
        """Give, and make, the folder of a stream of ours."""
        path = self.path / "wal" / placement
        _make_folders(path)
        return StreamDir(self.region, placement, path)

    def streams(self) -> list[StreamDir]:
        """Give every stream that is here: our own first, then the mirrors."""
        return streams_in(self.path)

    @property
    def index(self) -> Path:
        return self.path / "index.sqlite"

    def keep_policy(self, policy: Policy) -> None:
        """Make a policy durable before the first outcome names it."""
        path = self.path / "policies" / f"{policy.version}.json"
        if not path.exists():
            write_durably(path, policy.to_bytes())

    def policies(self) -> dict[str, Policy]:
        """Read every policy that was ever used here, by version."""
        found = {}
        for path in sorted((self.path / "policies").glob("*.json")):
            policy = Policy.from_bytes(path.read_bytes())
            if policy.version != path.stem:
                raise DataDirError(f"{path}: holds policy {policy.version}, not what it is named")
            found[policy.version] = policy
        return found

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock)


def streams_in(path: Path) -> list[StreamDir]:
    """Give the streams of a data directory, also of one that a server holds."""
    region = json.loads((path / "region.json").read_bytes())["region"]
    logs = sorted(p for p in (path / "wal").iterdir() if p.name != LOST_AND_FOUND)
    own = [StreamDir(region, p.name, p) for p in logs]
    mirrors = sorted((path / "peers").glob("*/*"))
    return own + [StreamDir(p.parent.name, p.name, p) for p in mirrors if p.is_dir()]


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all: temporary file, fsync, rename, fsync directory."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync(path.parent)


def _make_folders(*folders: Path) -> None:
    """Make folders whose names outlast a power cut, as what is synced in them must."""
    for folder in folders:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync(folder.parent)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(path: Path) -> int:
    fd = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 64, 0).decode(errors="replace").strip() or "another process"
        os.close(fd)
        raise DataDirError(
            f"{path}: already in use by {owner}; one server process owns a data directory"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"process {os.getpid()}\n".encode(), 0)
    return fd


def _check_layout(path: Path) -> None:
    file = path / "FORMAT"
    if not file.exists():
        strangers = sorted(p.name for p in path.iterdir() if p.name not in HARMLESS)
        if strangers:
            raise DataDirError(
                f"{path}: holds {strangers[0]!r} but no FORMAT; this is no data directory"
            )
        write_durably(file, f"{LAYOUT_VERSION}\n".encode())
        return
    text = file.read_text().strip()
    if text != str(LAYOUT_VERSION):
        raise DataDirError(
            f"{file}: layout {text!r}; this server reads layout {LAYOUT_VERSION}. "
            "Use the server version that wrote it."
        )


def _region(path: Path, wanted: str | None) -> tuple[str, int]:
    file = path / "region.json"
    if not file.exists():
        if wanted is None:
            raise DataDirError(f"{path}: no region.json; start the server here first")
        document: dict[str, Any] = {"region": wanted, "region_epoch": 1}
        write_durably(file, json.dumps(document).encode() + b"\n")
    else:
        document = json.loads(file.read_bytes())
    if wanted is not None and document["region"] != wanted:
        raise DataDirError(
            f"{path}: belongs to region {document['region']!r}, not {wanted!r}; outcomes name "
            "their region, so a directory never changes it"
        )
    return document["region"], document["region_epoch"]
