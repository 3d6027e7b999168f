"""Real PostgreSQL and Redis servers for tests: private, in a temporary folder, on free ports.

A test module imports the fixtures it needs (`postgres_server`, `redis_server`, both of a session)
or starts a server of its own to stop, kill or promote it:

    with PostgresServer.running() as server:
        connection = await asyncpg.connect(server.url)
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from fractal_lba_server.drill.postgres import Postgres
from fractal_lba_server.drill.processes import free_port

READY_S = 30.0
"""How long a server may take to answer for the first time."""


def wait_for(ready: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers; fails with its exit status if it ended instead."""
    deadline = time.monotonic() + READY_S
    while not ready():
        assert process.poll() is None, f"{what} ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"{what} does not answer"
        time.sleep(0.02)


class PostgresServer(Postgres):
    """The PostgreSQL of a drill, with databases and a gentle end."""

    def __init__(self, **settings: str) -> None:
        super().__init__(**settings)
        self._databases = 0

    @classmethod
    @contextlib.contextmanager
    def running(cls, **settings: str) -> Iterator[Self]:
        """Run a server for a while."""
        server = cls(**settings)
        try:
            server.start()
            yield server
        finally:
            server.close()

    def stop(self) -> None:
        """End the server and every connection to it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(READY_S)

    def new_database(self) -> str:
        """Make an empty database; give its URL."""
        self._databases += 1
        name = f"test{self._databases}"
        self.query(f"CREATE DATABASE {name}")
        return self.url_of(name)


class RedisServer:
    """One Redis that can be stopped, killed and started again; options of its command line."""

    def __init__(self, **options: str) -> None:
        self.options = {
            "save": "", "appendonly": "yes", "appendfsync": "everysec",
            "maxmemory_policy": "noeviction", "repl_diskless_sync_delay": "0", **options,
        }  # fmt: skip
        self.folder = Path(tempfile.mkdtemp(prefix="flk-engine-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls, **options: str) -> Iterator[Self]:
        """Run a server for a while."""
        server = cls(**options)
        try:
            server.start()
            yield server
        finally:
            server.remove()

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the server without a chance to write anything."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server; what it has written stays in the folder."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait(READY_S)
            self.process = None

    def remove(self) -> None:
        """End the server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """Give the URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [part for name, value in self.options.items() for part in (_option(name), value)]
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir",
             str(self.folder), *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: self.command("PING").startswith("+PONG"), "Redis", self.process)

    def forget(self) -> None:
        """Remove what the server has written; it must not run."""
        assert self.process is None
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def command(self, *words: str) -> str:
        """Send one command; give the first line of the answer, "" if there is none."""
        text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(text.encode())
                return connection.recv(65_536).decode()
        except OSError:
            return ""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run one PostgreSQL for all tests that leave it running; each takes a new database."""
    with PostgresServer.running() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Run one Redis for all tests that leave it running; each takes names of its own."""
    with RedisServer.running() as server:
        yield server
