"""What the arbiter keeps: one row for each placement, and which arbiter process may write.

The invariant of this file: of two arbiters on one state only the one that came last grants
anything. Each that starts takes the next generation, and every grant asks whether the generation
is still its own; the one before notices at its next word. (spec/roles.md 3.8)
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from fractal_lba.errors import ConfigError

from ..core.lease import Lease
from .control import Engine, Run
from .control_engines import SqliteEngine

_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS flk_arbiter(
        one INTEGER PRIMARY KEY, generation BIGINT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS flk_leases(
        placement TEXT PRIMARY KEY, region_epoch BIGINT NOT NULL, holder TEXT,
        granted INTEGER NOT NULL, previous TEXT)""",
)


class SupersededError(Exception):
    """Another arbiter has taken over the state; this one must grant nothing more."""


def open_leases(url: str) -> LeaseStore:
    """Open the state of an arbiter; nothing is reached before the first call.

    Raises ConfigError for a URL that is neither `sqlite:///PATH` nor `postgresql://...`.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return LeaseStore(SqliteEngine(Path(unquote(parts.path[1:]))))
    if parts.scheme in ("postgresql", "postgres"):
        from .control_postgres import PostgresEngine  # noqa: PLC0415 - this URL alone needs it

        return LeaseStore(PostgresEngine(url))
    raise ConfigError(
        "config_invalid", "--state: expected sqlite:///PATH or postgresql://HOST/DATABASE"
    )


class LeaseStore:
    """The state of an arbiter. Methods raise SupersededError and ControlUnavailableError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._generation = 0

    async def take_over(self) -> dict[str, Lease]:
        """Become the one arbiter of this state; give its leases by placement.

        A process that was this one before stays so: its generation is the last.
        """
        async with self._engine.transaction(writes=True) as run:
            for statement in _SCHEMA:
                await run(statement)
            rows = await run("SELECT generation FROM flk_arbiter WHERE one = 1")
            last = rows[0][0] if rows else 0
            if self._generation and last != self._generation:
                raise SupersededError
            if not rows:
                await run("INSERT INTO flk_arbiter VALUES(1, 0)")
            if not self._generation:
                await run("UPDATE flk_arbiter SET generation = ?", last + 1)
            found = await run(
                "SELECT placement, region_epoch, holder, granted, previous FROM flk_leases"
            )
        self._generation = self._generation or last + 1
        return {
            placement: Lease(placement, region_epoch, holder, bool(granted), previous)
            for placement, region_epoch, holder, granted, previous in found
        }

    async def confirm(self) -> None:
        """Make sure that no other arbiter has taken over."""
        async with self._engine.transaction(writes=False) as run:
            await self._check(run)

    async def save(self, lease: Lease) -> None:
        """Make a row durable."""
        async with self._engine.transaction(writes=True) as run:
            await self._check(run)
            await run("DELETE FROM flk_leases WHERE placement = ?", lease.placement)
            await run(
                "INSERT INTO flk_leases VALUES(?, ?, ?, ?, ?)",
                lease.placement, lease.region_epoch, lease.holder, int(lease.granted),
                lease.previous,
            )  # fmt: skip

    async def close(self) -> None:
        """Let go of the file or the connections."""
        await self._engine.close()

    async def _check(self, run: Run) -> None:
        rows = await run("SELECT generation FROM flk_arbiter WHERE one = 1")
        if rows[0][0] != self._generation:
            raise SupersededError
