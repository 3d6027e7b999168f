"""PostgreSQL as the warm tier, and as the place where outcomes are recorded.

The invariant of this file: an outcome is recorded by one `INSERT .. ON CONFLICT DO NOTHING`, so
the first of a (tenant, pcs_id) stands and every later one is told what stands. Bytes are kept as
bytes: no member of a record is a text column.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from ...core.first_write import Key, Origin, Stored
from ...core.mover import END, KEPT, REPLACED, Plan
from ...core.tiering import Scanned, written_ms
from .protocols import (
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

CONNECTIONS_MAX: Final = 8
TIMEOUT_S: Final = 5.0
"""Longest wait for a connection, and for one statement."""

_FAULTS: Final = (
    OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke while it was given out
)  # fmt: skip
"""What the client raises when the database cannot answer."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS flk_outcomes(
    number bigserial PRIMARY KEY, tenant text NOT NULL, pcs_id bytea NOT NULL,
    region text NOT NULL, placement text NOT NULL, region_epoch bigint NOT NULL,
    seq bigint NOT NULL, hlc bigint NOT NULL, content bytea NOT NULL, status integer NOT NULL,
    outcome bytea NOT NULL, object bigint, at integer, length integer, sha256 bytea,
    warm_until_ms bigint, has_ended boolean NOT NULL DEFAULT false, UNIQUE(tenant, pcs_id)
);
CREATE TABLE IF NOT EXISTS flk_tier_facts(name text PRIMARY KEY, value bigint NOT NULL);
CREATE TABLE IF NOT EXISTS flk_tier_plans(
    one integer PRIMARY KEY CHECK (one = 1), stage text NOT NULL, plan bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS flk_tier_objects(
    number bigserial PRIMARY KEY, name text UNIQUE NOT NULL, placement text NOT NULL,
    tenant text NOT NULL, size bigint NOT NULL, newest_ms bigint NOT NULL,
    entries integer NOT NULL
);
CREATE INDEX IF NOT EXISTS flk_outcomes_object ON flk_outcomes(object) WHERE object IS NOT NULL;
CREATE INDEX IF NOT EXISTS flk_outcomes_warm ON flk_outcomes(warm_until_ms)
    WHERE warm_until_ms IS NOT NULL;
INSERT INTO flk_tier_facts VALUES ('generation', 1) ON CONFLICT DO NOTHING;
"""
_SCHEMA_LOCK: Final = 0x666C6B74
"""Two processes that start at once make the tables one after the other."""

_ROW: Final = """
SELECT o.number, o.tenant, o.pcs_id, o.region, o.placement, o.region_epoch, o.seq, o.hlc,
       o.content, o.status, o.outcome, b.name, o.at, o.length, o.sha256, o.warm_until_ms,
       o.has_ended
FROM flk_outcomes AS o LEFT JOIN flk_tier_objects AS b ON b.number = o.object
"""
_PUT: Final = """
INSERT INTO flk_outcomes(tenant, pcs_id, region, placement, region_epoch, seq, hlc, content,
                         status, outcome)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                     $7::bigint[], $8::bytea[], $9::integer[], $10::bytea[])
ON CONFLICT (tenant, pcs_id) DO NOTHING RETURNING tenant, pcs_id
"""
_SCAN: Final = """
SELECT o.number, o.tenant, o.placement, o.hlc, octet_length(o.outcome) AS size, b.name
FROM flk_outcomes AS o LEFT JOIN flk_tier_objects AS b ON b.number = o.object
WHERE o.number > $1 ORDER BY o.number LIMIT $2
"""
_OBJECTS: Final = """
SELECT b.name, b.placement, b.tenant, count(o.number), b.size, b.newest_ms,
       b.entries - count(o.number) AS holes
FROM flk_tier_objects AS b LEFT JOIN flk_outcomes AS o ON o.object = b.number
WHERE b.name > $1 GROUP BY b.number ORDER BY b.name LIMIT $2
"""
_POINT: Final = """
UPDATE flk_outcomes AS o SET object = $1, at = m.at, length = m.length, sha256 = m.sha256,
       outcome = CASE WHEN $2 THEN o.outcome ELSE ''::bytea END
FROM unnest($3::bigint[], $4::integer[], $5::integer[], $6::bytea[]) AS m(n, at, length, sha256)
WHERE o.number = m.n AND NOT o.has_ended AND CASE WHEN $2
    THEN o.object IN (SELECT number FROM flk_tier_objects WHERE name = ANY($7::text[]))
    ELSE o.object IS NULL AND o.outcome <> ''::bytea END
"""
_ENDED: Final = """
outcome = ''::bytea, object = NULL, at = NULL, length = NULL, sha256 = NULL,
warm_until_ms = NULL, has_ended = true
"""
_END: Final = """
UPDATE flk_outcomes SET @ENDED
WHERE object IN (SELECT number FROM flk_tier_objects WHERE name = ANY($1::text[]))
""".replace("@ENDED", _ENDED)
_ERASE: Final = """
UPDATE flk_outcomes SET @ENDED FROM unnest($1::text[], $2::bytea[]) AS k(t, i)
WHERE tenant = k.t AND pcs_id = k.i
""".replace("@ENDED", _ENDED)
_PROMOTE: Final = """
UPDATE flk_outcomes SET outcome = $2, warm_until_ms = $3
WHERE number = $1 AND object IS NOT NULL
      AND (SELECT value FROM flk_tier_facts WHERE name = 'generation' FOR SHARE) = $4
"""
_RAISE: Final = """
UPDATE flk_tier_facts SET value = value + 1 WHERE name = 'generation' RETURNING value
"""
_COLD_SIZE: Final = """
SELECT (SELECT count(*) FROM flk_outcomes WHERE object IS NOT NULL),
       (SELECT coalesce(sum(size), 0)::bigint FROM flk_tier_objects)
"""


class PostgresWarm:
    """The warm tier in one PostgreSQL database."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> PostgresWarm:
        """Connect and make the tables; raises TierUnavailableError."""
        try:
            pool = await asyncpg.create_pool(
                url, min_size=1, max_size=CONNECTIONS_MAX, timeout=TIMEOUT_S,
                command_timeout=TIMEOUT_S,
            )  # fmt: skip
        except _FAULTS as error:
            raise _failed(error) from error
        warm = cls(pool)
        async with warm._transaction() as connection:
            await connection.execute(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
            await connection.execute(_SCHEMA)
        return warm

    async def put(self, rows: Sequence[tuple[Key, Stored]]) -> list[bool]:
        """Record outcomes; True for each that is the first of its id. Durable on return."""
        if not rows:
            return []
        columns: list[list[Any]] = [
            [key[0], bytes.fromhex(key[1]), *s.origin, s.seq, s.hlc, s.content.encode(), s.status,
             s.outcome]
            for key, s in rows
        ]  # fmt: skip
        new = await self._select(_PUT, *map(list, zip(*columns, strict=True)))
        taken = {(tenant, pcs_id.hex()) for tenant, pcs_id in new}
        firsts = []
        for key, _ in rows:  # of two in one call the first counts
            firsts.append(key in taken)
            taken.discard(key)
        return firsts

    # --- look-ups

    async def lookup(self, key: Key) -> WarmRow | None:
        query = f"{_ROW} WHERE o.tenant = $1 AND o.pcs_id = $2"
        rows = await self._select(query, key[0], bytes.fromhex(key[1]))
        return _row(rows[0]) if rows else None

    async def generation(self) -> int:
        return await self._fact("generation")

    async def raise_generation(self) -> int:
        return int((await self._select(_RAISE))[0][0])

    async def tenants(self) -> list[str]:
        rows = await self._select("SELECT DISTINCT tenant FROM flk_outcomes ORDER BY tenant")
        return [tenant for (tenant,) in rows]

    async def scan(self, after: int, limit: int) -> list[Scanned]:
        return [
            Scanned(number, tenant, placement, written_ms(hlc), size, name)
            for number, tenant, placement, hlc, size, name in await self._select(
                _SCAN, after, limit
            )
        ]

    async def rows(self, numbers: Sequence[int]) -> list[WarmRow]:
        query = f"{_ROW} WHERE o.number = ANY($1::bigint[]) ORDER BY o.number"
        return [_row(row) for row in await self._select(query, list(numbers))]

    async def newest(self, limit: int) -> list[WarmRow]:
        query = f"{_ROW} WHERE o.outcome <> ''::bytea ORDER BY o.number DESC LIMIT $1"
        return [_row(row) for row in await self._select(query, limit)]

    async def rows_of(self, name: str) -> list[WarmRow]:
        query = f"{_ROW} WHERE b.name = $1 ORDER BY o.number"
        return [_row(row) for row in await self._select(query, name)]

    async def promoted(self, until_ms: int, limit: int) -> list[WarmRow]:
        query = f"{_ROW} WHERE o.warm_until_ms <= $1 ORDER BY o.warm_until_ms LIMIT $2"
        return [_row(row) for row in await self._select(query, until_ms, limit)]

    async def objects(self, after: str, limit: int) -> list[ObjectInfo]:
        return [ObjectInfo(*row) for row in await self._select(_OBJECTS, after, limit)]

    async def points_to(self, name: str) -> bool:
        query = (
            "SELECT 1 FROM flk_outcomes AS o JOIN flk_tier_objects AS b ON b.number = o.object"
            " WHERE b.name = $1 LIMIT 1"
        )
        return bool(await self._select(query, name))

    async def size(self) -> TierSize:
        query = (
            "SELECT count(*), coalesce(sum(octet_length(outcome)), 0)::bigint"
            " FROM flk_outcomes WHERE outcome <> ''::bytea"
        )
        return TierSize(*(await self._select(query))[0])

    async def cold_size(self) -> TierSize:
        return TierSize(*(await self._select(_COLD_SIZE))[0])

    # --- the mover's own

    async def cursor(self, name: str) -> int:
        return await self._fact(f"cursor {name}")

    async def set_cursor(self, name: str, number: int) -> None:
        statement = (
            "INSERT INTO flk_tier_facts VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )
        await self._select(statement, f"cursor {name}", number)

    async def plan(self) -> tuple[Plan, str] | None:
        rows = await self._select("SELECT plan, stage FROM flk_tier_plans")
        return (Plan.from_bytes(rows[0][0]), rows[0][1]) if rows else None

    async def keep_plan(self, plan: Plan) -> None:
        statement = (
            "INSERT INTO flk_tier_plans VALUES (1, $1, $2) ON CONFLICT DO NOTHING RETURNING one"
        )
        if not await self._select(statement, KEPT, await asyncio.to_thread(plan.to_bytes)):
            raise PlanExistsError("another plan is kept")

    async def drop_plan(self, plan: Plan) -> bool:
        data = await asyncio.to_thread(plan.to_bytes)
        gone = await self._select("DELETE FROM flk_tier_plans WHERE plan = $1 RETURNING one", data)
        return bool(gone)

    async def point(self, plan: Plan) -> str:
        data = await asyncio.to_thread(plan.to_bytes)
        async with self._transaction() as connection:
            query = "SELECT stage FROM flk_tier_plans WHERE plan = $1 FOR UPDATE"
            if await connection.fetchval(query, data) != KEPT:
                return ANOTHERS
            inner = connection.transaction()
            await inner.start()
            if plan.kind == END:
                await connection.execute(_END, list(plan.old))
            elif not await _point_all(connection, plan):
                await inner.rollback()
                return CHANGED
            await inner.commit()
            if not plan.old:
                await connection.execute("DELETE FROM flk_tier_plans")
                return POINTED
            await connection.execute("UPDATE flk_tier_plans SET stage = $1", REPLACED)
            names = list(plan.old)
            await connection.execute("DELETE FROM flk_tier_objects WHERE name = ANY($1)", names)
            return POINTED

    async def promote(self, row: WarmRow, *, until_ms: int, generation: int) -> bool:
        async with self._transaction() as connection:
            values = (row.number, row.stored.outcome, until_ms, generation)
            return _count(await connection.execute(_PROMOTE, *values)) == 1

    async def cool(self, numbers: Sequence[int]) -> None:
        statement = (
            "UPDATE flk_outcomes SET outcome = ''::bytea, warm_until_ms = NULL WHERE"
            " number = ANY($1::bigint[]) AND object IS NOT NULL AND warm_until_ms IS NOT NULL"
        )
        await self._select(statement, list(numbers))

    async def erase(self, keys: Sequence[Key]) -> int:
        async with self._transaction() as connection:
            raised = int(await connection.fetchval(_RAISE))
            tenants, ids = [key[0] for key in keys], [bytes.fromhex(key[1]) for key in keys]
            await connection.execute(_ERASE, tenants, ids)
            return raised

    async def close(self) -> None:
        await self._pool.close()

    # --- how

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        try:
            async with (
                self._pool.acquire(timeout=TIMEOUT_S) as connection,
                connection.transaction(),
            ):
                yield connection
        except _FAULTS as error:
            raise _failed(error) from error

    async def _select(self, query: str, *values: object) -> Any:
        try:
            return await self._pool.fetch(query, *values)
        except _FAULTS as error:
            raise _failed(error) from error

    async def _fact(self, name: str) -> int:
        rows = await self._select("SELECT value FROM flk_tier_facts WHERE name = $1", name)
        return int(rows[0][0]) if rows else 0


def _row(row: Any) -> WarmRow:
    number, tenant, raw, region, placement, region_epoch, seq, hlc, content, status = row[:10]
    outcome, name, offset, length, sha256, warm_until_ms, has_ended = row[10:]
    origin = Origin(region, placement, region_epoch)
    stored = Stored(seq, content.decode(), status, outcome, origin, hlc)
    ref = None if name is None else Ref(name, offset, length, sha256)
    return WarmRow(number, (tenant, raw.hex()), stored, ref, warm_until_ms, has_ended)


async def _point_all(connection: Any, plan: Plan) -> bool:
    """Put references in the place of payloads; False if one is not what was planned."""
    row = (plan.object, plan.placement, plan.tenant, plan.size, plan.newest_ms, len(plan.moves))
    insert = (
        "INSERT INTO flk_tier_objects(name, placement, tenant, size, newest_ms, entries)"
        " VALUES ($1, $2, $3, $4, $5, $6) RETURNING number"
    )
    number = await connection.fetchval(insert, *row)
    places = [move.place for move in plan.moves]
    done = await connection.execute(
        _POINT, number, bool(plan.old), [move.number for move in plan.moves],
        [place.offset for place in places], [place.length for place in places],
        [place.sha256 for place in places], list(plan.old),
    )  # fmt: skip
    return _count(done) == len(plan.moves)


def _count(status: str) -> int:
    """Read how many rows a statement changed from what the server says of it."""
    return int(status.rpartition(" ")[2])


def _failed(error: BaseException) -> TierUnavailableError:
    return TierUnavailableError(f"warm: {type(error).__name__}")
