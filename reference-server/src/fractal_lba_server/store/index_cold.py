"""The server's index as the warm tier: which payloads are in cold, and where.

The invariant of this file: an outcome's bytes leave the index only in the transaction that
points to them, and that transaction is synced before it counts, unlike those of the index,
because what is removed afterwards cannot be read from the log's neighbour again. Ids, content
digests and places in the log stay. An outcome that is replaced takes its reference with it and
raises the generation, by a trigger, whoever replaces it.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from ..core.first_write import Key, Origin, Stored
from ..core.mover import END, KEPT, REPLACED, Plan
from ..core.tiering import Scanned, written_ms
from .sqlite import Index
from .tiers.protocols import (
    ANOTHERS,
    CHANGED,
    POINTED,
    ObjectInfo,
    PlanExistsError,
    Ref,
    TierSize,
    TierUnavailableError,
    WarmRow,
)

BUSY_S: Final = 5.0
"""Longest wait for the transaction of the view, which takes a fraction of a second."""

NUMBERS_MAX: Final = 500
"""Numbers in one statement: SQLite takes 999 of them at least."""

T = TypeVar("T")

_SCHEMA: Final = """
CREATE INDEX IF NOT EXISTS tier_numbers ON ids(number);
CREATE TABLE IF NOT EXISTS tier_facts(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tier_plans(
    one INTEGER PRIMARY KEY CHECK (one = 1), stage TEXT NOT NULL, plan BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS tier_objects(
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, placement TEXT NOT NULL,
    tenant TEXT NOT NULL, size INTEGER NOT NULL, newest_ms INTEGER NOT NULL,
    entries INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS tier_refs(
    number INTEGER PRIMARY KEY, object INTEGER, offset INTEGER, length INTEGER, sha256 BLOB,
    warm_until_ms INTEGER
);
CREATE INDEX IF NOT EXISTS tier_refs_object ON tier_refs(object);
CREATE INDEX IF NOT EXISTS tier_refs_warm ON tier_refs(warm_until_ms)
    WHERE warm_until_ms IS NOT NULL;
INSERT OR IGNORE INTO tier_facts VALUES ('generation', 1);
CREATE TRIGGER IF NOT EXISTS tier_replaced AFTER DELETE ON outcomes
WHEN NOT EXISTS (SELECT 1 FROM tier_facts WHERE name = 'moving') BEGIN
    DELETE FROM tier_refs WHERE number = OLD.number;
    UPDATE tier_facts SET value = value + 1 WHERE name = 'generation';
END;
"""
# A reference without an object says that the payload has ended.
_ROW: Final = """
SELECT o.number, t.id, i.pcs_id, s.region, s.placement, s.region_epoch, o.seq, o.hlc, o.content,
       o.status, o.outcome, b.name, r.offset, r.length, r.sha256, r.warm_until_ms,
       r.number IS NOT NULL AND r.object IS NULL
FROM outcomes AS o JOIN ids AS i ON i.number = o.number JOIN tenants AS t ON t.number = i.tenant
     JOIN streams AS s ON s.number = o.stream LEFT JOIN tier_refs AS r ON r.number = o.number
     LEFT JOIN tier_objects AS b ON b.number = r.object
"""
_BY_KEY: Final = f"{_ROW} WHERE t.id = ? AND i.pcs_id = ?"
_BY_OBJECT: Final = f"{_ROW} WHERE b.name = ? ORDER BY o.number"
_PROMOTED: Final = f"""
{_ROW} WHERE r.warm_until_ms IS NOT NULL AND r.warm_until_ms <= ? ORDER BY r.warm_until_ms LIMIT ?
"""
_SCAN: Final = """
SELECT o.number, t.id, s.placement, o.hlc, length(o.outcome), b.name
FROM outcomes AS o JOIN ids AS i ON i.number = o.number JOIN tenants AS t ON t.number = i.tenant
     JOIN streams AS s ON s.number = o.stream LEFT JOIN tier_refs AS r ON r.number = o.number
     LEFT JOIN tier_objects AS b ON b.number = r.object
WHERE o.number > ? ORDER BY o.number LIMIT ?
"""
_OBJECTS: Final = """
SELECT b.name, b.placement, b.tenant, count(r.number), b.size, b.newest_ms,
       b.entries - count(r.number)
FROM tier_objects AS b LEFT JOIN tier_refs AS r ON r.object = b.number
WHERE b.name > ? GROUP BY b.number ORDER BY b.name LIMIT ?
"""
_POINT: Final = """
INSERT INTO tier_refs VALUES (?1, ?2, ?3, ?4, ?5, NULL) ON CONFLICT (number) DO UPDATE
SET object = ?2, offset = ?3, length = ?4, sha256 = ?5
"""
_ERASE: Final = """
SELECT i.number FROM ids AS i JOIN tenants AS t ON t.number = i.tenant
WHERE t.id = ? AND i.pcs_id = ?
"""
# A row that is made shorter where it stands leaves its page as it was, and the table grows at its
# end alone: nothing would ever be free again. Rows that are taken out and put back share pages.
_MOVING: Final = """
CREATE TEMP TABLE IF NOT EXISTS tier_moving(
    number INTEGER PRIMARY KEY, stream INTEGER, seq INTEGER, hlc INTEGER, content BLOB,
    status INTEGER
);
"""
_SHORTEN: Final = (
    "INSERT INTO tier_facts VALUES ('moving', 1)",
    """INSERT INTO tier_moving SELECT number, stream, seq, hlc, content, status FROM outcomes
       WHERE number IN (SELECT value FROM json_each(?))""",
    "DELETE FROM outcomes WHERE number IN (SELECT number FROM tier_moving)",
    "INSERT INTO outcomes SELECT number, stream, seq, hlc, content, status, x'' FROM tier_moving",
    "DELETE FROM tier_moving",
    "DELETE FROM tier_facts WHERE name = 'moving'",
)
_COLD_SIZE: Final = """
SELECT (SELECT count(*) FROM tier_refs WHERE object IS NOT NULL),
       (SELECT coalesce(sum(size), 0) FROM tier_objects)
"""


class IndexWarm:
    """The warm tier over the index of a data directory; used on one event loop.

    It has connections of its own: look-ups run where they are asked, everything else on one
    thread. `Index` stays the index's one other writer.
    """

    def __init__(self, index: Index | None, path: Path) -> None:
        self._index = index
        self._writer = _connect(path)
        self._writer.execute("PRAGMA synchronous=FULL")
        self._writer.executescript(_SCHEMA)
        self._writer.executescript(_MOVING)
        self._reader = _connect(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tiers")

    # --- look-ups

    def stored_now(self, key: Key) -> Stored | None:
        """Give what the index says of an id; its outcome is empty if the payload is not here."""
        assert self._index is not None, "opened without the server's index"
        try:
            return self._index.lookup(key)
        except sqlite3.Error as error:
            raise _failed(error) from error

    async def lookup(self, key: Key) -> WarmRow | None:
        try:
            found = self._reader.execute(_BY_KEY, (key[0].encode(), bytes.fromhex(key[1])))
            row = found.fetchone()
        except sqlite3.Error as error:
            raise _failed(error) from error
        return None if row is None else _row(row)

    async def generation(self) -> int:
        return await self._fact("generation")

    async def raise_generation(self) -> int:
        def run() -> int:
            with _Transaction(self._writer):
                return _raise_generation(self._writer)

        return await self._run(run)

    async def tenants(self) -> list[str]:
        rows = await self._select("SELECT id FROM tenants ORDER BY number")
        return [bytes(name).decode() for (name,) in rows]

    async def scan(self, after: int, limit: int) -> list[Scanned]:
        return await self._select(_SCAN, after, limit, made=_scanned)

    async def rows(self, numbers: Sequence[int]) -> list[WarmRow]:
        found: list[WarmRow] = []
        for start in range(0, len(numbers), NUMBERS_MAX):
            part = numbers[start : start + NUMBERS_MAX]
            marks = ",".join("?" * len(part))
            query = f"{_ROW} WHERE o.number IN ({marks}) ORDER BY o.number"
            found += await self._select(query, *part, made=_row)
        return found

    async def newest(self, limit: int) -> list[WarmRow]:
        query = f"{_ROW} WHERE o.outcome <> x'' ORDER BY o.number DESC LIMIT ?"
        return await self._select(query, limit, made=_row)

    async def rows_of(self, name: str) -> list[WarmRow]:
        return await self._select(_BY_OBJECT, name, made=_row)

    async def newest_cold(self, tenant: str, limit: int) -> list[WarmRow]:
        """Give a tenant's newest rows whose payload is in cold alone."""
        query = (
            f"{_ROW} WHERE r.object IS NOT NULL AND r.warm_until_ms IS NULL AND t.id = ?"
            " ORDER BY o.number DESC LIMIT ?"
        )
        return await self._select(query, tenant.encode(), limit, made=_row)

    async def promoted(self, until_ms: int, limit: int) -> list[WarmRow]:
        return await self._select(_PROMOTED, until_ms, limit, made=_row)

    async def objects(self, after: str, limit: int) -> list[ObjectInfo]:
        return [ObjectInfo(*row) for row in await self._select(_OBJECTS, after, limit)]

    async def points_to(self, name: str) -> bool:
        query = (
            "SELECT 1 FROM tier_refs AS r JOIN tier_objects AS b ON b.number = r.object"
            " WHERE b.name = ? LIMIT 1"
        )
        return bool(await self._select(query, name))

    async def size(self) -> TierSize:
        ((keys, size),) = await self._select(
            "SELECT count(*), coalesce(sum(length(outcome)), 0) FROM outcomes WHERE outcome <> x''"
        )
        return TierSize(keys, size)

    async def cold_size(self) -> TierSize:
        ((keys, size),) = await self._select(_COLD_SIZE)
        return TierSize(keys, size)

    # --- the mover's own

    async def cursor(self, name: str) -> int:
        return await self._fact(f"cursor {name}")

    async def set_cursor(self, name: str, number: int) -> None:
        def run() -> None:
            with _Transaction(self._writer):
                row = (f"cursor {name}", number)
                self._writer.execute("INSERT OR REPLACE INTO tier_facts VALUES (?, ?)", row)

        await self._run(run)

    async def plan(self) -> tuple[Plan, str] | None:
        rows = await self._select("SELECT plan, stage FROM tier_plans")
        return (Plan.from_bytes(rows[0][0]), rows[0][1]) if rows else None

    async def keep_plan(self, plan: Plan) -> None:
        def run() -> None:
            with _Transaction(self._writer):
                try:
                    row = (KEPT, plan.to_bytes())
                    self._writer.execute("INSERT INTO tier_plans VALUES (1, ?, ?)", row)
                except sqlite3.IntegrityError:
                    raise PlanExistsError("another plan is kept") from None

        await self._run(run)

    async def drop_plan(self, plan: Plan) -> bool:
        def run() -> bool:
            with _Transaction(self._writer):
                data = (plan.to_bytes(),)
                gone = self._writer.execute("DELETE FROM tier_plans WHERE plan = ?", data)
                return gone.rowcount == 1

        return await self._run(run)

    async def point(self, plan: Plan) -> str:
        def run() -> str:
            with _Transaction(self._writer) as transaction:
                result = _point(self._writer, plan)
                transaction.keeps = result == POINTED
                return result

        return await self._run(run)

    async def promote(self, row: WarmRow, *, until_ms: int, generation: int) -> bool:
        def run() -> bool:
            with _Transaction(self._writer):
                (held,) = self._writer.execute(
                    "SELECT value FROM tier_facts WHERE name = 'generation'"
                ).fetchone()
                if held != generation:
                    return False
                taken = self._writer.execute(
                    "UPDATE tier_refs SET warm_until_ms = ?"
                    " WHERE number = ? AND object IS NOT NULL",
                    (until_ms, row.number),
                ).rowcount
                if taken:
                    self._writer.execute(
                        "UPDATE outcomes SET outcome = ? WHERE number = ? AND outcome = x''",
                        (row.stored.outcome, row.number),
                    )
                return bool(taken)

        return await self._run(run)

    async def cool(self, numbers: Sequence[int]) -> None:
        def run() -> None:
            with _Transaction(self._writer):
                for number in numbers:
                    cooled = self._writer.execute(
                        "UPDATE tier_refs SET warm_until_ms = NULL"
                        " WHERE number = ? AND object IS NOT NULL AND warm_until_ms IS NOT NULL",
                        (number,),
                    )
                    if cooled.rowcount:
                        _empty(self._writer, number)

        await self._run(run)

    async def erase(self, keys: Sequence[Key]) -> int:
        def run() -> int:
            with _Transaction(self._writer):
                for tenant, pcs_id in keys:
                    place = (tenant.encode(), bytes.fromhex(pcs_id))
                    found = self._writer.execute(_ERASE, place).fetchone()
                    if found is not None:
                        _end(self._writer, found[0])
                return _raise_generation(self._writer)

        return await self._run(run)

    async def fold(self) -> None:
        """Fold SQLite's own journal back into the file."""
        await self._select("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        self._thread.shutdown()
        self._reader.close()
        self._writer.close()

    # --- how

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise _failed(error) from error

    async def _select(
        self, query: str, *values: object, made: Callable[[tuple[Any, ...]], Any] = tuple
    ) -> list[Any]:
        """Give the rows of a query, each as `made` makes it; all of it off the event loop."""
        return await self._run(lambda: [made(row) for row in self._writer.execute(query, values)])

    async def _fact(self, name: str) -> int:
        rows = await self._select("SELECT value FROM tier_facts WHERE name = ?", name)
        return int(rows[0][0]) if rows else 0


def has_cold(path: Path) -> bool:
    """Say whether an index has let payloads go: without its tiers it cannot answer for them."""
    connection = _connect(path)
    try:
        found = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'tier_refs'"
        ).fetchone()
        if found is None:
            return False
        query = "SELECT 1 FROM tier_refs WHERE warm_until_ms IS NULL LIMIT 1"
        return connection.execute(query).fetchone() is not None
    finally:
        connection.close()


class _Transaction:
    """Commit at the end, or roll back after an error or where `keeps` was set False."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.keeps = True

    def __enter__(self) -> Self:
        self._connection.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT" if kind is None and self.keeps else "ROLLBACK")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, check_same_thread=False, isolation_level=None, timeout=BUSY_S
    )
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


def _scanned(row: tuple[Any, ...]) -> Scanned:
    number, tenant, placement, hlc, size, name = row
    names = (bytes(tenant).decode(), bytes(placement).decode())
    return Scanned(number, *names, written_ms(hlc), size, name)


def _row(row: tuple[Any, ...]) -> WarmRow:
    number, tenant, raw, region, placement, region_epoch, seq, hlc, content, status, outcome = row[
        :11
    ]
    name, offset, length, sha256, warm_until_ms, has_ended = row[11:]
    origin = Origin(bytes(region).decode(), bytes(placement).decode(), region_epoch)
    stored = Stored(seq, bytes(content).decode(), status, bytes(outcome), origin, hlc)
    ref = None if name is None else Ref(name, offset, length, bytes(sha256))
    key = (bytes(tenant).decode(), bytes(raw).hex())
    return WarmRow(number, key, stored, ref, warm_until_ms, bool(has_ended))


def _raise_generation(writer: sqlite3.Connection) -> int:
    writer.execute("UPDATE tier_facts SET value = value + 1 WHERE name = 'generation'")
    found = writer.execute("SELECT value FROM tier_facts WHERE name = 'generation'").fetchone()
    return int(found[0])


def _empty(writer: sqlite3.Connection, number: int) -> int:
    return writer.execute("UPDATE outcomes SET outcome = x'' WHERE number = ?", (number,)).rowcount


def _end(writer: sqlite3.Connection, number: int) -> None:
    """Forget one payload; a reference without an object says so."""
    _empty(writer, number)
    writer.execute("INSERT OR REPLACE INTO tier_refs(number) VALUES (?)", (number,))


def _point(writer: sqlite3.Connection, plan: Plan) -> str:
    """Carry a plan out inside a transaction; anything but POINTED is to be rolled back."""
    kept = writer.execute(
        "SELECT 1 FROM tier_plans WHERE plan = ? AND stage = ?", (plan.to_bytes(), KEPT)
    ).fetchone()
    if kept is None:
        return ANOTHERS
    if plan.kind == END:
        for name in plan.old:
            _end_object(writer, name)
    elif not _point_all(writer, plan):
        return CHANGED
    if plan.old:
        writer.execute("UPDATE tier_plans SET stage = ?", (REPLACED,))
        names: Iterable[tuple[str]] = [(name,) for name in plan.old]
        writer.executemany("DELETE FROM tier_objects WHERE name = ?", names)
    else:
        writer.execute("DELETE FROM tier_plans")
    return POINTED


def _point_all(writer: sqlite3.Connection, plan: Plan) -> bool:
    """Put references in the place of payloads; False if one is not what was planned."""
    row = (plan.object, plan.placement, plan.tenant, plan.size, plan.newest_ms, len(plan.moves))
    insert = "INSERT INTO tier_objects VALUES (NULL, ?, ?, ?, ?, ?, ?)"
    number = writer.execute(insert, row).lastrowid
    for move in plan.moves:
        source = _source(writer, move.number)
        expected = source is not None and (source in plan.old if plan.old else source == "")
        if not expected:
            return False
        place = move.place
        writer.execute(_POINT, (move.number, number, place.offset, place.length, place.sha256))
    if not plan.old:
        numbers = json.dumps([move.number for move in plan.moves])
        for statement in _SHORTEN:
            writer.execute(statement, (numbers,) if "?" in statement else ())
    return True


def _source(writer: sqlite3.Connection, number: int) -> str | None:
    """Say where a payload is: "" in the index, the name of an object, or None: nowhere."""
    found = writer.execute(
        "SELECT o.outcome <> x'', r.number IS NOT NULL, b.name FROM outcomes AS o"
        " LEFT JOIN tier_refs AS r ON r.number = o.number"
        " LEFT JOIN tier_objects AS b ON b.number = r.object WHERE o.number = ?",
        (number,),
    ).fetchone()
    if found is None:
        return None
    is_here, is_known, name = found
    if is_known:
        return name if name is None else str(name)
    return "" if is_here else None


def _end_object(writer: sqlite3.Connection, name: str) -> None:
    rows = writer.execute(
        "SELECT r.number FROM tier_refs AS r JOIN tier_objects AS b ON b.number = r.object"
        " WHERE b.name = ?",
        (name,),
    ).fetchall()
    for (number,) in rows:
        _end(writer, number)


def _failed(error: sqlite3.Error) -> TierUnavailableError:
    return TierUnavailableError(f"warm: {type(error).__name__}")
