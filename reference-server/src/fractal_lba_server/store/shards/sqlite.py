"""A dedup shard in a SQLite file, which several processes of one machine may share.

A batch is one `BEGIN IMMEDIATE` transaction: its writer is alone, reads the rows, lets the pure
rule decide (core/dedup.py) and writes. It is synced before it is answered, because a claim that
a power failure takes back would be given to somebody else.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from fractal_lba.errors import ConfigError

from ...core import dedup
from ...core.dedup import Claim, Entry, Ranges, ShardUnavailable, StaleRingEpoch, Verdict
from ...core.first_write import Key
from .batches import CALL_S, DIGEST_PAGE, SCAN_MAX, Clock, parts, unix_ms

LAYOUT: Final = 1
"""Version of the tables; a file of another version is refused by name."""

CACHE_KIB: Final = 16_384
"""Page cache of each of the two connections."""

LOCK_S: Final = 0.000_5
"""Pause between two attempts to take the write lock of the file."""

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries(
    point INTEGER NOT NULL, key BLOB NOT NULL, row BLOB NOT NULL, UNIQUE(point, key)
);
INSERT OR IGNORE INTO facts VALUES ('fence', 0), ('layout', {LAYOUT});
COMMIT;
"""  # noqa: S608 - made of a constant
_GET: Final = "SELECT row FROM entries WHERE point = ? AND key = ?"
_PUT: Final = """
INSERT INTO entries VALUES (?, ?, ?) ON CONFLICT(point, key) DO UPDATE SET row = excluded.row
"""
_DELETE: Final = "DELETE FROM entries WHERE point = ? AND key = ?"
_SCAN: Final = """
SELECT point, key, row FROM entries
WHERE (point, key) > (?, ?) AND point <= ? ORDER BY point, key LIMIT ?
"""

ResultT = TypeVar("ResultT")
Decide = Callable[[int, Entry | None], Entry | None]


class SqliteShard:
    """Two threads, a connection each: one writes, the other looks up and scans meanwhile."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        now_ms: Clock = unix_ms,
        grace_ms: int = dedup.GRACE_MS,
        read_only: bool = False,
    ) -> None:
        self.name = name
        self._now_ms = now_ms
        self._grace_ms = grace_ms
        connect = partial(_connect, path, name, read_only=read_only, waits=True)
        self._writer = _Side(partial(connect, waits=False), f"dedup-{name}-write")
        self._reader = _Side(connect, f"dedup-{name}-read")

    async def start(self) -> None:
        """Open the file; raises ConfigError if it is that of another dedup shard."""
        await self._run(self._writer, lambda connection: None)

    async def claim(self, claims: Sequence[Claim], *, ring_epoch: int) -> list[Verdict]:
        """Decide about each claim, in order."""
        now_ms = self._now_ms()
        verdicts: list[Verdict] = []

        def decide(index: int, row: Entry | None) -> Entry | None:
            verdict, stands = dedup.claim_row(row, claims[index], now_ms, grace_ms=self._grace_ms)
            verdicts.append(verdict)
            return stands

        await self._change([claim.key for claim in claims], decide, ring_epoch)
        return verdicts

    async def complete(self, entries: Sequence[Entry], *, ring_epoch: int) -> None:
        """Put outcomes where their claims were."""
        await self.put_if_first(entries, ring_epoch=ring_epoch)

    async def release(self, keys: Sequence[Key], owner: str, *, ring_epoch: int) -> None:
        """Give back claims of this owner."""
        await self._change(keys, lambda _, row: dedup.release_row(row, owner), ring_epoch)

    async def lookup(self, keys: Sequence[Key]) -> list[Entry | None]:
        """Give what stands under each key."""

        def run(connection: sqlite3.Connection) -> list[Entry | None]:
            return [_get(connection, key) for key in keys]

        return await self._run(self._reader, run)

    async def put_if_first(self, entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
        """Put each entry that comes before what stands; give what stands now."""
        now_ms = self._now_ms()
        standing: list[Entry] = []

        def decide(index: int, row: Entry | None) -> Entry:
            stands = dedup.first_of(row, entries[index], now_ms, grace_ms=self._grace_ms)
            standing.append(stands)
            return stands

        await self._change([entry.key for entry in entries], decide, ring_epoch)
        return standing

    async def scan(
        self, *, ranges: Ranges, after: tuple[int, Key] | None, limit: int
    ) -> list[Entry]:
        """Give entries of these ranges behind `after`, in order."""

        def run(connection: sqlite3.Connection) -> list[Entry]:
            found = _pages(connection, ranges, after, min(limit, SCAN_MAX))
            return [_entry(hashed, row) for _, hashed, row in found]

        return await self._run(self._reader, run)

    async def digest(self, ranges: Ranges) -> list[tuple[int, bytes]]:
        """Give number and digest of the entries of each range."""

        def run(connection: sqlite3.Connection) -> list[tuple[int, bytes]]:
            return [dedup.range_digest(_digests(connection, span)) for span in ranges]

        return await self._run(self._reader, run)

    async def delete(self, keys: Sequence[Key], *, ring_epoch: int) -> int:
        """Delete entries; give how many there were."""
        gone: list[Entry] = []

        def decide(_: int, row: Entry | None) -> None:
            if row is not None:
                gone.append(row)

        await self._change(keys, decide, ring_epoch)
        return len(gone)

    async def count(self) -> int:
        """Count the entries. Walks the whole table."""
        return await self._run(
            self._reader,
            lambda connection: int(
                connection.execute("SELECT count(*) FROM entries").fetchone()[0]
            ),
        )

    async def fence(self) -> int:
        """Give the smallest ring epoch under which writes are taken."""
        return await self._run(self._reader, _fence)

    async def set_fence(self, ring_epoch: int) -> None:
        """Raise the fence; the lock of the file waits for every write that is under way."""
        statement = "UPDATE facts SET value = max(value, ?) WHERE name = 'fence'"

        def run(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                connection.execute(statement, (ring_epoch,))

        await self._run(self._writer, run)

    async def close(self) -> None:
        """Close both connections."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._reader.close)

    async def _change(self, keys: Sequence[Key], decide: Decide, ring_epoch: int) -> None:
        """Let a rule decide about rows, in order; all of a transaction or nothing."""
        for part in parts(len(keys)):

            def run(connection: sqlite3.Connection, part: range = part) -> None:
                with _transaction(connection):
                    fence = _fence(connection)
                    if ring_epoch < fence:
                        raise StaleRingEpoch(fence)
                    for index in part:
                        _apply(connection, keys[index], index, decide)

            await self._run(self._writer, run)

    async def _run(self, side: _Side, run: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(side.thread, side.run, run)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise ShardUnavailable(self.name, f"SQLite: {error}") from error


class _Side:
    """A connection, and the one thread that uses it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], thread: str) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=thread)

    def run(self, run: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Use the connection, which is opened when it is needed first."""
        if self._connection is None:
            self._connection = self._connect()
        return run(self._connection)

    def close(self) -> None:
        """End the thread, then close the connection."""
        self.thread.shutdown()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(path: Path, dedup_shard: str, *, read_only: bool, waits: bool) -> sqlite3.Connection:
    mode = "rw" if read_only else "rwc"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=CALL_S,
        check_same_thread=False,
        isolation_level=None,
    )
    fit = False
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.executescript(_SCHEMA)
            _enter(connection, dedup_shard)
        facts = dict(connection.execute("SELECT name, value FROM facts"))
        _expect(path, "layout", facts["layout"], LAYOUT)
        _expect(path, "dedup shard", facts["shard"].decode(), dedup_shard)
        if not waits:
            connection.execute("PRAGMA busy_timeout=0")
        fit = True
    finally:
        if not fit:
            connection.close()
    return connection


def _enter(connection: sqlite3.Connection, dedup_shard: str) -> None:
    connection.execute("INSERT OR IGNORE INTO facts VALUES ('shard', ?)", (dedup_shard.encode(),))


def _expect(path: Path, name: str, found: object, expected: object) -> None:
    if found != expected:
        raise ConfigError("config_invalid", f"{path}: {name} {found}, expected {expected}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    _lock(connection)
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _lock(connection: sqlite3.Connection) -> None:
    """Take the write lock of the file.

    SQLite's own waiting sleeps longer each time, and starves beside a process that commits one
    batch after the other: a fence would then pause all writes of the region.
    """
    deadline = time.monotonic() + CALL_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(LOCK_S)
        else:
            return


def _fence(connection: sqlite3.Connection) -> int:
    (value,) = connection.execute("SELECT value FROM facts WHERE name = 'fence'").fetchone()
    return int(value)


def _get(connection: sqlite3.Connection, key: Key) -> Entry | None:
    found = connection.execute(_GET, dedup.place_of(key)).fetchone()
    return None if found is None else dedup.decode_row(key, found[0])


def _apply(connection: sqlite3.Connection, key: Key, index: int, decide: Decide) -> None:
    """Let a rule decide about one row, and write what it changes."""
    row = _get(connection, key)
    stands = decide(index, row)
    if stands is None:
        if row is not None:
            connection.execute(_DELETE, dedup.place_of(key))
    elif stands is not row:
        connection.execute(_PUT, (*dedup.place_of(key), dedup.encode_row(stands)))


def _entry(hashed: bytes, row: bytes) -> Entry:
    return dedup.decode_row(dedup.key_of(hashed), row)


def _pages(
    connection: sqlite3.Connection, ranges: Ranges, after: tuple[int, Key] | None, limit: int
) -> list[tuple[int, bytes, bytes]]:
    behind = (-1, b"") if after is None else dedup.place_of(after[1])
    found: list[tuple[int, bytes, bytes]] = []
    for lo, hi in ranges:
        if hi >= behind[0] and len(found) < limit:
            start = max(behind, (lo, b""))  # no key is empty
            values = (*start, hi, limit - len(found))
            found += connection.execute(_SCAN, values).fetchall()
    return found


def _digests(connection: sqlite3.Connection, span: tuple[int, int]) -> Iterator[bytes]:
    behind = (span[0], b"")
    while rows := connection.execute(_SCAN, (*behind, span[1], DIGEST_PAGE)).fetchall():
        for _, hashed, row in rows:
            yield dedup.entry_digest(hashed, row)
        behind = rows[-1][:2]
