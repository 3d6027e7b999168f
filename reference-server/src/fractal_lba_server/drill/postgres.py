"""A PostgreSQL with a cluster of its own, so that it can die alone: for drills and for tests.

PostgreSQL refuses root; as root it runs as the user `postgres` that Debian's package makes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from .processes import ProcessError, free_port

DEBIAN: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the programs of PostgreSQL, off the path."""

USER: Final = "postgres"
START_S: Final = 30.0
STOP_S: Final = 10.0
SETTINGS: Final = {"listen_addresses": "127.0.0.1", "shared_buffers": "32MB"}
ENTRIES: Final = "flk_dedup_entries"


def programs() -> Path:
    """Give the folder of the programs. Raises ProcessError where there are none."""
    folders = sorted(path.parent for path in DEBIAN.glob("*/bin/initdb"))
    found = shutil.which("initdb")
    if not folders and found is None:
        message = "the scenario needs postgresql: apt-get install postgresql"
        raise ProcessError(message)
    return folders[-1] if folders else Path(str(found)).resolve().parent


class Postgres:
    """One real PostgreSQL; without other settings, what it was told is on its disk first."""

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = {**SETTINGS, **settings}
        # Not in the home of the drill: the user of the server may not enter that.
        self._folder = Path(tempfile.mkdtemp(prefix="flk-postgres-"))

    @property
    def url(self) -> str:
        """Say where it is."""
        return self.url_of(USER)

    def url_of(self, database: str) -> str:
        """Say where a database is."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        """Say whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, the first time with a new cluster, and wait until it answers."""
        folder, data = programs(), self._folder / "data"
        if not data.exists():
            self._initialise(folder, data)
        settings = [w for name, value in self._settings.items() for w in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - found above
                [
                    *_as_user(), str(folder / "postgres"), "-D", str(data), "-p", str(self.port),
                    "-k", str(self._folder), *settings,
                ],
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until_s = time.monotonic() + START_S
        while not self._answers(folder):
            if time.monotonic() > until_s or not self.running:
                self.close()
                message = "postgresql does not answer"
                raise ProcessError(message)
            time.sleep(0.05)

    def _initialise(self, folder: Path, data: Path) -> None:
        if os.getuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        words = ("-A", "trust", "-U", USER, "--no-locale", "-E", "UTF8", "--no-sync")
        done = subprocess.run(  # noqa: S603 - found above
            [*_as_user(), str(folder / "initdb"), "-D", str(data), *words],
            cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            message = f"initdb: {done.stderr.strip()}"
            raise ProcessError(message)

    def _answers(self, folder: Path) -> bool:
        done = subprocess.run(  # noqa: S603 - found above
            [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        )
        return done.returncode == 0

    def query(self, statement: str) -> str:
        """Carry out one statement and give what it printed. Raises ProcessError."""
        done = subprocess.run(  # noqa: S603 - found above
            [
                str(programs() / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER,
                "-tAqc", statement,
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            message = f"psql: {done.stderr.strip()}"
            raise ProcessError(message)
        return done.stdout.strip()

    def empty(self) -> int:
        """Take every entry away; count them."""
        count = int(self.query(f"SELECT count(*) FROM {ENTRIES}"))  # noqa: S608 - a constant
        self.query(f"DELETE FROM {ENTRIES}")  # noqa: S608 - a constant
        return count

    def kill(self) -> None:
        """Send SIGKILL to it and all of its children, which hold the port otherwise."""
        children = self.children()
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait(STOP_S)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def children(self) -> list[int]:
        """Name the processes that it has started."""
        if self.process is None:
            return []
        pid = self.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(word) for word in listed.read_text().split()] if listed.exists() else []

    def close(self) -> None:
        """End it and remove its cluster."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _as_user() -> list[str]:
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
