"""Real PostgreSQL and Redis servers for tests: private, in a temporary folder, on free ports.

A test module imports the fixtures it needs (`postgres_server`, `redis_server`, both of a session)
or starts a server of its own to stop, kill or promote it:

    with PostgresServer.running() as server:
        connection = await asyncpg.connect(server.url)
"""

from __future__ import annotations

import contextlib
import os
import pwd
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

POSTGRES_FOLDERS = ("/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin")
"""Where Debian keeps the programs of PostgreSQL."""

READY_S = 30.0
"""How long a server may take to answer for the first time."""


def free_port() -> int:
    """Give a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(ready: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers; fails with its exit status if it ended instead."""
    deadline = time.monotonic() + READY_S
    while not ready():
        assert process.poll() is None, f"{what} ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"{what} does not answer"
        time.sleep(0.02)


class _Server:
    """A process that can be stopped, killed, and started again on the same folder and port."""

    def __init__(self, **options: str) -> None:
        self.options = options
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

    def start(self) -> None:
        """Start the server and wait until it answers."""
        raise NotImplementedError


class PostgresServer(_Server):
    """A cluster of its own, owned by the user `postgres`, as PostgreSQL refuses root."""

    def __init__(self, **options: str) -> None:
        super().__init__(**{"fsync": "on", "shared_buffers": "32MB", **options})
        self._bin = next(Path(each) for each in POSTGRES_FOLDERS if Path(each).is_dir())
        self._data = self.folder / "data"
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres", "--no-locale",
                  "-E", "UTF8", "--no-sync")  # fmt: skip
        self._databases = 0

    @property
    def url(self) -> str:
        """Give the URL of the first database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Give the URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options = [
            part for name, value in self.options.items() for part in ("-c", f"{name}={value}")
        ]
        self.process = subprocess.Popen(
            [*_as_postgres(), str(self._bin / "postgres"), "-D", str(self._data), "-p",
             str(self.port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self._answers, "PostgreSQL", self.process)

    def stop(self) -> None:
        """End the server and every connection to it."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server at once; its children see that it is gone, and end too."""
        children = self._children()
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def new_database(self) -> str:
        """Make an empty database; give its URL."""
        self._databases += 1
        name = f"test{self._databases}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", name)
        return self.url_of(name)

    def _children(self) -> list[int]:
        if self.process is None or self.process.poll() is not None:
            return []
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_postgres(), str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/")


class RedisServer(_Server):
    """One Redis; options are those of its command line."""

    def __init__(self, **options: str) -> None:
        super().__init__(**{
            "save": "", "appendonly": "yes", "appendfsync": "everysec",
            "maxmemory_policy": "noeviction", "repl_diskless_sync_delay": "0", **options,
        })  # fmt: skip

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


def _as_postgres() -> list[str]:
    """Run as the user of PostgreSQL where we are root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


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
