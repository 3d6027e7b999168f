"""The control store: the ring document, the state of a migration, and the repair queue.

Whoever changes something says which version it saw; of two changes to one version the second is
a `ConflictError`. So a coordinator that was taken for dead changes nothing (spec/dedup.md 5.6).
It is one SQLite file, or tables of a PostgreSQL database; the statements are the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple, Protocol

from ..core.first_write import Key
from ..core.migration import Migration
from ..core.ring_document import RingDocument

REPAIRS_MAX: Final = 100_000
"""Most entries that wait for repair: beyond it writers are told to wait, and nothing grows."""

_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS flk_ring(
        one INTEGER PRIMARY KEY, version BIGINT NOT NULL, sealed INTEGER NOT NULL,
        document {blob} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS flk_migrations(
        id TEXT PRIMARY KEY, started BIGINT NOT NULL, version BIGINT NOT NULL,
        state {blob} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS flk_checkpoints(
        migration TEXT NOT NULL, name TEXT NOT NULL, value {blob} NOT NULL,
        PRIMARY KEY(migration, name))""",
    """CREATE TABLE IF NOT EXISTS flk_repairs(
        shard TEXT NOT NULL, tenant TEXT NOT NULL, pcs_id TEXT NOT NULL, asked BIGINT NOT NULL,
        PRIMARY KEY(shard, tenant, pcs_id))""",
)

Run = Callable[..., Any]
"""Carries out one statement with its values; awaits to a list of rows."""


class ControlError(Exception):
    """Say why the control store could not be used."""


class ControlUnavailableError(ControlError):
    """The store cannot be reached: nothing is known, and nothing may be assumed."""


class ConflictError(ControlError):
    """Somebody else changed it meanwhile: look again."""


class Held(NamedTuple):
    """The ring document, and the version that a change has to name."""

    document: RingDocument
    version: int


class Kept(NamedTuple):
    """The state of a migration, and the version that a change has to name."""

    state: Migration
    version: int


class Repair(NamedTuple):
    """One entry that a dedup shard may have missed; `asked` counts how often it was queued."""

    dedup_shard: str
    key: Key
    asked: int


class Engine(Protocol):
    """What the statements run on."""

    blob: str

    def transaction(self, *, writes: bool) -> AbstractAsyncContextManager[Run]:
        """Run statements all or none; those that write one after the other over all processes."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class ControlStore:
    """Keep what coordinators and routers agree on. Methods raise ControlError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ready = False

    async def close(self) -> None:
        """Let go of the file or the connections."""
        await self._engine.close()

    @asynccontextmanager
    async def _transaction(self, *, writes: bool = True) -> AsyncIterator[Run]:
        async with self._engine.transaction(writes=writes or not self._ready) as run:
            if not self._ready:
                for statement in _SCHEMA:
                    await run(statement.format(blob=self._engine.blob))
            yield run
        self._ready = True

    async def create(self, document: RingDocument) -> Held:
        """Write the first ring document; there must be none."""
        async with self._transaction() as run:
            if await run("SELECT 1 FROM flk_ring"):
                raise ConflictError("there is a ring document already")
            await run("INSERT INTO flk_ring VALUES(1, 1, 0, ?)", document.to_bytes())
        return Held(document, 1)

    async def read(self) -> Held | None:
        """Give the ring document, or None before the first one."""
        async with self._transaction(writes=False) as run:
            return await _read(run)

    async def put(self, document: RingDocument, *, version: int) -> Held:
        """Replace the version that was seen; its ring epoch must grow."""
        async with self._transaction() as run:
            held = await _expect(run, version)
            if document.ring_epoch <= held.document.ring_epoch:
                raise ConflictError(
                    f"ring_epoch {document.ring_epoch} is not above {held.document.ring_epoch}"
                )
            return await _put(run, document, version)

    async def end_pause(self, ring_epoch: int) -> Held:
        """Let the same rings go on under the ring epoch of a fence that is ahead of them.

        For a router that was refused for longer than a pause may last: it does not matter who
        does it, nor how often.
        """
        async with self._transaction() as run:
            held = await _read(run)
            if held is None:
                raise ConflictError("there is no ring document")
            if held.document.ring_epoch >= ring_epoch:
                return held
            return await _put(run, held.document.go_on(ring_epoch), held.version)

    async def seal(self, *, version: int) -> bool:
        """Take no more repairs under this version; False if one waits."""
        async with self._transaction() as run:
            await _expect(run, version)
            if await run("SELECT 1 FROM flk_repairs LIMIT 1"):
                return False
            await run("UPDATE flk_ring SET sealed = 1")
            return True

    async def queue_repair(self, dedup_shard: str, keys: Sequence[Key], *, version: int) -> bool:
        """Note that a dedup shard missed entries; False: route by the new document instead."""
        async with self._transaction() as run:
            rows = await run("SELECT version, sealed FROM flk_ring")
            if not rows or tuple(rows[0]) != (version, 0):
                return False
            if (await run("SELECT count(*) FROM flk_repairs"))[0][0] + len(keys) > REPAIRS_MAX:
                raise ControlUnavailableError(f"more than {REPAIRS_MAX} entries wait for repair")
            for tenant, pcs_id in keys:
                await run(
                    "INSERT INTO flk_repairs VALUES(?, ?, ?, 1) ON CONFLICT(shard, tenant, pcs_id)"
                    " DO UPDATE SET asked = flk_repairs.asked + 1",
                    dedup_shard, tenant, pcs_id,
                )  # fmt: skip
        return True

    async def repairs(self, limit: int) -> list[Repair]:
        """Give entries that wait for repair."""
        async with self._transaction(writes=False) as run:
            rows = await run(
                "SELECT shard, tenant, pcs_id, asked FROM flk_repairs"
                " ORDER BY shard, tenant, pcs_id LIMIT ?", limit,
            )  # fmt: skip
        return [Repair(name, (tenant, pcs_id), asked) for name, tenant, pcs_id, asked in rows]

    async def repaired(self, repairs: Sequence[Repair]) -> None:
        """Take repairs off the queue, but for those that were queued once more meanwhile."""
        async with self._transaction() as run:
            for name, (tenant, pcs_id), asked in repairs:
                await run(
                    "DELETE FROM flk_repairs"
                    " WHERE shard = ? AND tenant = ? AND pcs_id = ? AND asked = ?",
                    name, tenant, pcs_id, asked,
                )  # fmt: skip

    async def count_repairs(self) -> int:
        """Say how many entries wait for repair."""
        async with self._transaction(writes=False) as run:
            return int((await run("SELECT count(*) FROM flk_repairs"))[0][0])

    async def migration(self) -> Kept | None:
        """Give the latest migration, or None before the first one."""
        async with self._transaction(writes=False) as run:
            rows = await run(
                "SELECT state, version FROM flk_migrations ORDER BY started DESC LIMIT 1"
            )
        return Kept(Migration.from_bytes(bytes(rows[0][0])), rows[0][1]) if rows else None

    async def begin(self, state: Migration, *, after: Kept | None) -> Kept:
        """Keep a new migration behind the latest one that was seen."""
        async with self._transaction() as run:
            rows = await run("SELECT id, started FROM flk_migrations ORDER BY started DESC LIMIT 1")
            latest = rows[0][0] if rows else None
            if latest != (after.state.id if after else None):
                raise ConflictError(f"migration {latest} was begun meanwhile")
            started = rows[0][1] + 1 if rows else 1
            await run(
                "INSERT INTO flk_migrations VALUES(?, ?, 1, ?)", state.id, started, state.to_bytes()
            )
        return Kept(state, 1)

    async def save(self, state: Migration, *, version: int) -> Kept:
        """Replace the state that was seen."""
        async with self._transaction() as run:
            rows = await run("SELECT version FROM flk_migrations WHERE id = ?", state.id)
            if not rows or rows[0][0] != version:
                raise ConflictError(f"migration {state.id} was changed by another process")
            await run(
                "UPDATE flk_migrations SET state = ?, version = ? WHERE id = ?",
                state.to_bytes(), version + 1, state.id,
            )  # fmt: skip
        return Kept(state, version + 1)

    async def checkpoint(self, migration: str, name: str) -> bytes | None:
        """Give how far a part of a migration came."""
        async with self._transaction(writes=False) as run:
            rows = await run(
                "SELECT value FROM flk_checkpoints WHERE migration = ? AND name = ?",
                migration, name,
            )  # fmt: skip
        return bytes(rows[0][0]) if rows else None

    async def checkpoints(self, migration: str) -> dict[str, bytes]:
        """Give how far every part of a migration came."""
        async with self._transaction(writes=False) as run:
            rows = await run(
                "SELECT name, value FROM flk_checkpoints WHERE migration = ?", migration
            )
        return {name: bytes(value) for name, value in rows}

    async def set_checkpoint(self, migration: str, name: str, value: bytes) -> None:
        """Keep how far a part of a migration came; to come back behind it does no harm."""
        async with self._transaction() as run:
            await run(
                "INSERT INTO flk_checkpoints VALUES(?, ?, ?) ON CONFLICT(migration, name)"
                " DO UPDATE SET value = excluded.value",
                migration, name, value,
            )  # fmt: skip

    async def clear_checkpoint(self, migration: str, name: str) -> None:
        """Forget how far a part came: it begins anew."""
        async with self._transaction() as run:
            await run(
                "DELETE FROM flk_checkpoints WHERE migration = ? AND name = ?", migration, name
            )


async def _read(run: Run) -> Held | None:
    rows = await run("SELECT document, version FROM flk_ring")
    return Held(RingDocument.from_bytes(bytes(rows[0][0])), rows[0][1]) if rows else None


async def _expect(run: Run, version: int) -> Held:
    held = await _read(run)
    if held is None or held.version != version:
        found = "none" if held is None else f"version {held.version}"
        raise ConflictError(f"the ring document was changed: expected {version}, found {found}")
    return held


async def _put(run: Run, document: RingDocument, version: int) -> Held:
    await run(
        "UPDATE flk_ring SET document = ?, version = ?, sealed = 0",
        document.to_bytes(), version + 1,
    )  # fmt: skip
    return Held(document, version + 1)
