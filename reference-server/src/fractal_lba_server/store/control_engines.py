"""Open the control store of a URL; the store in a SQLite file.

Transactions follow one another over all processes, here by the write lock of the file. The store
is small and changes seldom, so nothing is gained by less.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from fractal_lba.errors import ConfigError

from .control import ControlStore, ControlUnavailableError, Run

BUSY_MS: Final = 5_000
"""How long a process waits for the write lock of the file."""

RETRY_S: Final = 0.000_5
"""Pause between two attempts to get it."""


def open_control(url: str) -> ControlStore:
    """Open the control store of a URL; nothing is reached before the first call.

    Raises ConfigError for a URL that is neither `sqlite:///PATH` nor `postgresql://...`.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return ControlStore(SqliteEngine(Path(unquote(parts.path[1:]))))
    if parts.scheme in ("postgresql", "postgres"):
        from .control_postgres import PostgresEngine  # noqa: PLC0415 - this URL alone needs it

        return ControlStore(PostgresEngine(url))
    raise ConfigError(
        "config_invalid", "dedup.control: expected sqlite:///PATH or postgresql://HOST/DATABASE"
    )


class SqliteEngine:
    """One file, one connection, one thread that owns it."""

    blob = "BLOB"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="control")
        self._connection: sqlite3.Connection | None = None
        self._one = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self, *, writes: bool) -> AsyncIterator[Run]:
        """Take the write lock of the file for a few statements; who only reads takes none."""
        async with self._one:
            try:
                await self._call(self._begin, writes)
                yield self._run
                await self._call(self._execute, "COMMIT", ())
            except sqlite3.Error as error:
                raise ControlUnavailableError(f"{self._path}: {error}") from None
            finally:
                # Also behind a call that was cancelled: its thread may only begin now.
                self._soon(self._give_up)

    async def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            await self._call(self._connection.close)
            self._connection = None
        self._thread.shutdown()

    async def _run(self, statement: str, *values: object) -> list[Any]:
        rows: list[Any] = await self._call(self._execute, statement, values)
        return rows

    async def _call(self, function: Any, *values: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, partial(function, *values)
        )

    def _soon(self, function: Callable[[], None]) -> None:
        """Do something in the thread, after whatever it has to do already."""
        self._thread.submit(function)

    def _give_up(self) -> None:
        """Take back a transaction that did not come to its end."""
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _begin(self, writes: bool) -> None:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, isolation_level=None, timeout=BUSY_MS / 1000, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._connection = connection
        if not writes:
            self._connection.execute("BEGIN")
            return
        # SQLite's own wait sleeps ever longer between two attempts, up to 100 ms: too long for
        # a pause of writes that may last 50 ms.
        self._connection.execute("PRAGMA busy_timeout=0")
        deadline = time.monotonic() + BUSY_MS / 1000
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)
            else:
                break
        self._connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")

    def _execute(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        assert self._connection is not None
        return self._connection.execute(statement, values).fetchall()
