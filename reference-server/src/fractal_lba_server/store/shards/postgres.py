"""A dedup shard in a PostgreSQL database: one call is one statement (postgres_schema.py).

An answer is believed only from a server that is no standby, syncs what it commits, and answered
in time; anything else is "unavailable". A commit that a fail-over takes back is not noticed
here: replicas of such a database have to be synchronous.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from fractal_lba.errors import ConfigError

from ...core import dedup
from ...core.dedup import (
    Claim,
    Claimed,
    Entry,
    Found,
    Pending,
    Ranges,
    ShardUnavailable,
    StaleRingEpoch,
    Verdict,
)
from ...core.first_write import Key
from . import postgres_schema as schema
from .batches import (
    CALL_S,
    DIGEST_PAGE,
    ROUNDS_MAX,
    SCAN_MAX,
    Clock,
    late_ms,
    parts,
    rounds,
    unix_ms,
)

CONNECTIONS_MAX: Final = 4
"""Connections of one process to one dedup shard; a statement more waits for one of them."""

COUNT_S: Final = 60.0
"""How long a count may take, which walks the index; people wait for it, no record does."""

_FIT: Final = """
SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit')
"""
_ENTER: Final = """
INSERT INTO flk_dedup_shards(name) VALUES ($1) ON CONFLICT (name) DO NOTHING
"""
_NUMBER: Final = "SELECT number FROM flk_dedup_shards WHERE name = $1"
_LOOKUP: Final = """
SELECT g.place, e.row FROM unnest($2::bigint[], $3::bytea[]) WITH ORDINALITY AS g(point, key, place)
JOIN flk_dedup_entries AS e ON e.shard = $1 AND e.point = g.point AND e.key = g.key
"""
_CALLS: Final = {
    "claim": "SELECT * FROM flk_dedup_claim($1, $2, $3, $4, $5, $6, $7)",
    "put": "SELECT * FROM flk_dedup_put($1, $2, $3, $4, $5, $6, $7)",
}
_FAILURES: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class PostgresShard:
    """Calls over a few connections; one that failed or ran late is never used again."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        now_ms: Clock = unix_ms,
        grace_ms: int = dedup.GRACE_MS,
        read_only: bool = False,
    ) -> None:
        self.name = name
        self._url = url
        self._read_only = read_only
        self._now_ms = now_ms
        self._grace_ms = grace_ms
        self._number: int | None = None
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[asyncpg.Connection[Any]] = []

    async def start(self) -> None:
        """Make the tables; raises ConfigError if the database is not fit."""
        async with self._connection():
            pass

    async def claim(self, claims: Sequence[Claim], *, ring_epoch: int) -> list[Verdict]:
        """Decide about each claim; those whose row went away meanwhile are asked again."""
        verdicts: dict[int, Verdict] = {}
        for _ in range(ROUNDS_MAX):
            left = [index for index in range(len(claims)) if index not in verdicts]
            rows = [dedup.claim_entry(claims[index]) for index in left]
            standing = await self._put("claim", rows, ring_epoch)
            for index, entry in zip(left, standing, strict=True):
                if entry is not None:
                    verdicts[index] = _verdict(claims[index], entry)
            if len(verdicts) == len(claims):
                return [verdicts[index] for index in range(len(claims))]
        raise ShardUnavailable(self.name, f"a claim was released {ROUNDS_MAX} times meanwhile")

    async def complete(self, entries: Sequence[Entry], *, ring_epoch: int) -> None:
        """Put outcomes where their claims were."""
        await self.put_if_first(entries, ring_epoch=ring_epoch)

    async def release(self, keys: Sequence[Key], owner: str, *, ring_epoch: int) -> None:
        """Give back claims of this owner."""
        await self._delete(keys, dedup.owner_bytes(owner), ring_epoch)

    async def lookup(self, keys: Sequence[Key]) -> list[Entry | None]:
        """Give what stands under each key."""
        found: list[Entry | None] = [None] * len(keys)
        for part in parts(len(keys)):
            places = [dedup.place_of(keys[index]) for index in part]
            points, hashed = [point for point, _ in places], [key for _, key in places]
            for place, row in await self._fetch(_LOOKUP, points, hashed):
                index = part[place - 1]
                found[index] = self._entry(keys[index], row)
        return found

    async def put_if_first(self, entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
        """Put each entry that comes before what stands; give what stands now."""
        standing = await self._put("put", entries, ring_epoch)
        # A claim that lost to nothing and is gone again was released by its owner meanwhile.
        return [now or entry for now, entry in zip(standing, entries, strict=True)]

    async def scan(
        self, *, ranges: Ranges, after: tuple[int, Key] | None, limit: int
    ) -> list[Entry]:
        """Give entries of these ranges behind `after`, in order."""
        behind = (-1, b"") if after is None else dedup.place_of(after[1])
        rows = await self._scan(ranges, behind, min(limit, SCAN_MAX), digests=False)
        return [self._entry(dedup.key_of(key), row) for _, _, key, row in rows]

    async def digest(self, ranges: Ranges) -> list[tuple[int, bytes]]:
        """Give number and digest of the entries of each range; entries are digested there."""
        digests: list[list[bytes]] = [[] for _ in ranges]
        behind: tuple[int, bytes] = (-1, b"")
        while rows := await self._scan(ranges, behind, DIGEST_PAGE, digests=True):
            for span, _, _, digest in rows:
                digests[span - 1].append(digest)
            behind = (rows[-1][1], rows[-1][2])
        return [dedup.range_digest(each) for each in digests]

    async def delete(self, keys: Sequence[Key], *, ring_epoch: int) -> int:
        """Delete entries; give how many there were."""
        return await self._delete(keys, None, ring_epoch)

    async def count(self) -> int:
        """Count the entries. Walks the index."""
        statement = "SELECT count(*) FROM flk_dedup_entries WHERE shard = $1"
        async with self._connection(COUNT_S) as connection, connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = {COUNT_S * 1_000:.0f}")
            return int(await connection.fetchval(statement, self._number))

    async def fence(self) -> int:
        """Give the smallest ring epoch under which writes are taken."""
        rows = await self._fetch("SELECT fence FROM flk_dedup_shards WHERE number = $1")
        return int(rows[0][0])

    async def set_fence(self, ring_epoch: int) -> None:
        """Raise the fence; the lock waits for every write that is under way."""
        await self._fetch("SELECT flk_dedup_fence($1, $2)", ring_epoch)

    async def close(self) -> None:
        """End the connections."""
        for connection in self._take_idle():
            connection.terminate()

    async def _put(
        self, function: str, entries: Sequence[Entry], ring_epoch: int
    ) -> list[Entry | None]:
        keys = [entry.key for entry in entries]
        expired = dedup.expiry_bytes(dedup.expired_before_ms(self._now_ms(), self._grace_ms))
        standing: list[Entry | None] = [None] * len(entries)
        statement = _CALLS[function]
        for part in rounds(keys):
            places = [dedup.place_of(keys[index]) for index in part]
            points, hashed = [point for point, _ in places], [key for _, key in places]
            encoded = [dedup.encode_row(entries[index]) for index in part]
            rows = await self._fetch(
                statement, late_ms(), ring_epoch, points, hashed, encoded, expired
            )
            for place, row in rows:
                index = part[place - 1]
                standing[index] = self._entry(keys[index], row)
        return standing

    async def _delete(self, keys: Sequence[Key], owner: bytes | None, ring_epoch: int) -> int:
        deleted = 0
        for part in parts(len(keys)):
            places = [dedup.place_of(keys[index]) for index in part]
            points, hashed = [point for point, _ in places], [key for _, key in places]
            rows = await self._fetch(
                "SELECT flk_dedup_delete($1, $2, $3, $4, $5, $6)",
                late_ms(), ring_epoch, points, hashed, owner,
            )  # fmt: skip
            deleted += rows[0][0]
        return deleted

    async def _scan(
        self, ranges: Ranges, behind: tuple[int, bytes], limit: int, *, digests: bool
    ) -> list[Any]:
        los, his = [lo for lo, _ in ranges], [hi for _, hi in ranges]
        statement = "SELECT * FROM flk_dedup_scan($1, $2, $3, $4, $5, $6, $7)"
        return await self._fetch(statement, los, his, *behind, limit, digests)

    def _entry(self, key: Key, row: bytes) -> Entry:
        try:
            return dedup.decode_row(key, row)
        except ValueError as error:
            raise ShardUnavailable(self.name, str(error)) from error

    async def _fetch(self, statement: str, *values: object) -> list[Any]:
        """Run one statement; its first value is the number of the dedup shard."""
        async with self._connection() as connection:
            if self._number is None:
                raise ShardUnavailable(self.name, "PostgreSQL: the database does not know it")
            rows: list[Any] = await connection.fetch(statement, self._number, *values)
            return rows

    @asynccontextmanager
    async def _connection(self, within_s: float = CALL_S) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Lend a connection for a statement, and map what goes wrong."""
        connection: asyncpg.Connection[Any] | None = None
        sound = False
        try:
            async with asyncio.timeout(within_s), self._room:
                connection = self._idle.pop() if self._idle else await self._connect()
                try:
                    yield connection
                    sound = True
                except asyncpg.PostgresError as error:
                    sound = getattr(error, "sqlstate", None) == schema.STALE
                    if sound:
                        raise StaleRingEpoch(int(error.args[0])) from None
                    raise
                finally:
                    if sound:
                        self._idle.append(connection)
                    else:
                        connection.terminate()
        except _FAILURES as error:
            for other in self._take_idle():  # most likely they are as dead as this one
                other.terminate()
            reason = str(error) or type(error).__name__
            raise ShardUnavailable(self.name, f"PostgreSQL: {reason}") from error

    def _take_idle(self) -> list[asyncpg.Connection[Any]]:
        idle, self._idle = self._idle, []
        return idle

    async def _connect(self) -> asyncpg.Connection[Any]:
        settings = {
            "application_name": f"flk {self.name}",
            "statement_timeout": f"{CALL_S * 1_000:.0f}",
            "default_transaction_read_only": "on" if self._read_only else "off",
        }
        connection = await asyncpg.connect(self._url, timeout=CALL_S, server_settings=settings)
        fit = False
        try:
            standby, fsync, commit = await connection.fetchrow(_FIT)
            if standby:
                raise ShardUnavailable(self.name, "PostgreSQL: this server is a standby")
            if fsync != "on" or commit in ("off", "local"):
                raise ConfigError(
                    "config_invalid",
                    f"dedup shard {self.name}: PostgreSQL with fsync={fsync} and "
                    f"synchronous_commit={commit} forgets claims; expected both on",
                )
            if self._number is None:
                if not self._read_only:
                    await _enter(connection, self.name)
                self._number = await connection.fetchval(_NUMBER, self.name.encode())
            fit = True
        finally:
            if not fit:
                connection.terminate()
        return connection


def _verdict(claim: Claim, stands: Entry) -> Verdict:
    if stands.state == dedup.DONE:
        return Found(stands)
    return Claimed(claim.key) if stands.owner == claim.owner else Pending(stands)


async def _enter(connection: asyncpg.Connection[Any], dedup_shard: str) -> None:
    """Make what is not there yet."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1, 0)", schema.LOCK)
        await connection.execute(schema.TABLES)
        version = await connection.fetchval("SELECT version FROM flk_dedup_layout")
        if version is None:
            await connection.execute(schema.FUNCTIONS)
            await connection.execute("INSERT INTO flk_dedup_layout VALUES ($1)", schema.LAYOUT)
        elif version != schema.LAYOUT:
            raise ConfigError(
                "config_invalid",
                f"dedup shard {dedup_shard}: tables of layout {version}, expected {schema.LAYOUT}",
            )
        await connection.execute(_ENTER, dedup_shard.encode())
