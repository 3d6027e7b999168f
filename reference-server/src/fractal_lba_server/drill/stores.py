"""The stores behind a region in a drill: Redis, PostgreSQL, dedup shards, a cold folder.

Every process that is started here has ended after `close`.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .postgres import Postgres
from .processes import ProcessError, free_port, run_command

REDIS: Final = "redis-server"
START_S: Final = 10.0
REPLY_BYTES: Final = 4_096
STOP_TIMEOUT_S: Final = 10


class Redis:
    """One real Redis, as the server asks for it: everything kept, nothing evicted."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Say where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers. Raises ProcessError."""
        program = shutil.which(REDIS)
        if program is None:
            message = f"the scenario needs {REDIS}: apt-get install {REDIS}"
            raise ProcessError(message)
        self._home.mkdir(parents=True, exist_ok=True)
        command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._home),
            "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
            "--save", "",
        ]  # fmt: skip
        with (self._home / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - found above
                command, stdout=log, stderr=log
            )
        until_s = time.monotonic() + START_S
        while True:
            try:
                if self.ask("PING") == "+PONG":
                    return
            except OSError:
                pass
            if time.monotonic() > until_s:
                self.kill()
                message = f"{REDIS} does not answer"
                raise ProcessError(message)
            time.sleep(0.05)

    def ask(self, *words: str) -> str:
        """Send one command and give the first line of the reply. Raises OSError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=START_S) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            return connection.recv(REPLY_BYTES).decode().split("\r\n")[0]

    @property
    def keys(self) -> int:
        """Count the keys."""
        return int(self.ask("DBSIZE").removeprefix(":"))

    def empty(self) -> int:
        """Take every key away; count them."""
        count = self.keys
        self.ask("FLUSHALL")
        return count

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        """End it."""
        self.kill()

    @property
    def running(self) -> bool:
        """Say whether it runs."""
        return self._process is not None and self._process.poll() is None


class Stores:
    """The stores of one region."""

    def __init__(
        self, home: Path, topology: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self._home = home
        self._tiers = settings.get("tiers")
        self._wants: Mapping[str, Any] = topology.get("shards", {})
        self.shards: dict[str, Redis | Postgres] = {}
        """Those that are programs of their own."""
        self.hot: Redis | None = None
        self.cold = home / "cold"

    @property
    def control(self) -> str:
        """Give the URL of the control store of the dedup shards."""
        return f"sqlite:///{self._home}/control.sqlite"

    def config(self) -> dict[str, Any]:
        """Give what flk.yaml says of the stores."""
        document: dict[str, Any] = {}
        if self._wants:
            document["dedup"] = {"control": self.control}
        if self._tiers is not None:
            self.hot = Redis(self._home / "hot")
            document["tiers"] = {
                "policy_file": "tiers.yaml", "hot": self.hot.url, "cold": f"file://{self.cold}",
            }  # fmt: skip
        return document

    def url_of(self, name: str) -> str:
        """Give the URL of a dedup shard, and have its store."""
        if name not in self.shards and self._wants["store"] == "redis":
            self.shards[name] = Redis(self._home / name)
        if name not in self.shards and self._wants["store"] == "postgresql":
            self.shards[name] = Postgres()
        if name in self.shards:
            return self.shards[name].url
        return f"sqlite:///{self._home}/{name}.sqlite"

    def start(self) -> None:
        """Start the stores, and write the first ring."""
        if self.hot is not None:
            self.cold.mkdir(exist_ok=True)
            self.hot.start()
        if self._wants:
            names = [f"s{number}" for number in range(1, self._wants["count"] + 1)]
            words = [word for name in names for word in ("--shard", f"{name}={self.url_of(name)}")]
            for dedup_shard in self.shards.values():
                dedup_shard.start()
            run_command("dedup", "init", "--control", self.control, *words)

    def empty(self) -> int:
        """Take every entry from every dedup shard behind its back; count them."""
        count = 0
        for dedup_shard in self.shards.values():
            count += dedup_shard.empty()
        for path in sorted(self._home.glob("s[0-9]*.sqlite")):
            with contextlib.closing(sqlite3.connect(path, timeout=START_S)) as connection:
                count += connection.execute("DELETE FROM entries").rowcount
                connection.commit()
        return count

    def close(self) -> None:
        """End every process."""
        for store in (*self.shards.values(), *([self.hot] if self.hot else [])):
            store.close()
