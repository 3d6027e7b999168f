"""Run the server and the two commands as a person would: as programs, through their options."""

from __future__ import annotations

import http.client
import os
import re
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

TENANT: Final = "demo"
START_TIMEOUT_S: Final = 20
"""How long a server may take until it says where it listens."""

STOP_TIMEOUT_S: Final = 20
COMMAND_TIMEOUT_S: Final = 60


class CommandError(Exception):
    """A program ended otherwise than it should have."""


def run_command(module: str, *arguments: str, status: int = 0) -> str:
    """Run `python -m MODULE` and give its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode != status:
        said = (done.stderr or done.stdout).strip()
        message = f"{module} {arguments[0]} ended with {done.returncode}: {said}"
        raise CommandError(message)
    return done.stdout


def flk(*arguments: str) -> str:
    """Run the command of the SDK."""
    return run_command("fractal_lba.cli", *arguments)


def flk_server(*arguments: str) -> str:
    """Run the command of the server."""
    return run_command("fractal_lba_server", *arguments)


class Region:
    """One server with its keys, tenants file and data directory under `home`.

    The port is chosen at the first start and kept, so that a client finds the server again.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True)
        self.key_file = home / "demo.json"
        self.token_file = home / "token"
        self.data = home / "data"
        self.log = home / "server.log"
        self._tenants = home / "tenants.yaml"
        self.secret_file = home / "demo.hex"
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Say where the server listens."""
        return f"http://127.0.0.1:{self.port}"

    def make_keys(self) -> None:
        """Draw a signing key and a read token, and write the tenants file that knows both."""
        tenants = flk(
            "keys", "new", "--kid", "demo-1", "--tenant", TENANT,
            "--out", str(self.key_file), "--secret-out", str(self.secret_file),
        )  # fmt: skip
        token = flk_server(
            "tenants", "token", "new", "--id", "reader", "--out", f"{self.token_file}"
        )
        self._tenants.write_text(f"{tenants.rstrip()}\n    read_tokens:\n{_indented(token)}\n")
        flk_server("tenants", "check", str(self._tenants))

    def start(self) -> None:
        """Start the server and wait until it listens."""
        command = [
            sys.executable, "-m", "fractal_lba_server", "serve",
            "--data", str(self.data), "--tenants", str(self._tenants),
            "--listen", f"127.0.0.1:{self.port}", "--admin-listen", "127.0.0.1:0",
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ.copy()
            )
        assert self._process.stdout is not None
        line = _first_line(self._process.stdout)
        said = re.match(r"listening on 127\.0\.0\.1:(\d+)", line)
        if said is None:
            self.kill()
            message = f"the server did not start: {self.log.read_text()[-500:]}"
            raise CommandError(message)
        self.port = int(said[1])

    def kill(self) -> None:
        """Send SIGKILL, which no program can answer, and wait for the end."""
        self._end(kill=True)

    def stop(self) -> int | None:
        """Ask the server to end (SIGTERM) and give its exit status; None if none ran."""
        return self._end(kill=False)

    def _end(self, *, kill: bool) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


class Reader:
    """Read stored outcomes with nothing but the standard library: status and exact bytes."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STOP_TIMEOUT_S)
        self._headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"}

    def read(self, pcs_id: str) -> tuple[int, bytes]:
        """GET one outcome."""
        self._connection.request("GET", f"/v1/pcs/{pcs_id}", headers=self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _first_line(stream: IO[str]) -> str:
    ready, _, _ = select.select([stream], [], [], START_TIMEOUT_S)
    return stream.readline() if ready else ""


def _indented(entry: str) -> str:
    return "\n".join(f"      {line.strip()}" for line in entry.strip().splitlines())
