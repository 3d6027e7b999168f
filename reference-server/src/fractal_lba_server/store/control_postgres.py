"""The control store in a PostgreSQL database: an advisory lock orders its transactions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import asyncpg

from .control import ControlUnavailableError, Run

COMMAND_S: Final = 5.0
"""How long a statement may take."""

CONNECTIONS_MAX: Final = 4
"""Connections of one process."""

ADVISORY_LOCK: Final = 0x464C4B01
"""The lock that orders transactions: `FLK` and a number."""


class PostgresEngine:
    """A few connections; each transaction holds the advisory lock."""

    blob = "BYTEA"

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: Any = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self, *, writes: bool) -> AsyncIterator[Run]:
        """Take the advisory lock for a few statements; who only reads takes none."""
        try:
            pool = await self._connected()
            async with pool.acquire() as connection, connection.transaction():
                if writes:
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
                yield partial(_fetch, connection)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            # A time limit of asyncio is an OSError since Python 3.11.
            raise ControlUnavailableError(f"control store: {error}") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _connected(self) -> Any:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=CONNECTIONS_MAX, command_timeout=COMMAND_S,
                    timeout=COMMAND_S,
                )  # fmt: skip
            return self._pool


async def _fetch(connection: Any, statement: str, *values: object) -> list[Any]:
    """Carry out a statement, its places of values numbered as PostgreSQL wants them."""
    numbers = iter(range(1, len(values) + 1))
    numbered = re.sub(r"\?", lambda _: f"${next(numbers)}", statement)
    return [tuple(row) for row in await connection.fetch(numbered, *values)]
