"""A PostgreSQL of a dedup shard in a drill: a cluster of its own, so that it can die alone.

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
SETTINGS: Final = ("listen_addresses=127.0.0.1", "shared_buffers=32MB", "max_connections=50")
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
    """One real PostgreSQL; what it was told is on its disk before it answers."""

    def __init__(self) -> None:
        self.port = free_port()
        # Not in the home of the drill: the user of the server may not enter that.
        self._folder = Path(tempfile.mkdtemp(prefix="flk-drill-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Say where it is."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    @property
    def running(self) -> bool:
        """Say whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, the first time with a new cluster, and wait until it answers."""
        folder, data = programs(), self._folder / "data"
        if not data.exists():
            self._initialise(folder, data)
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - found above
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
        process, self._process = self._process, None
        if process is None:
            return
        children = _children(process.pid)
        process.kill()
        process.wait(STOP_S)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def close(self) -> None:
        """End it and remove its cluster."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _as_user() -> list[str]:
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []
