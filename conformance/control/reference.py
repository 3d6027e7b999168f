"""Start and hurt a reference server from outside: `reference.py --home DIR VERB`.

`init` writes the folder (home.py); `start`, `stop`, `kill`, `drain`, `store-down` and `store-up`
are the verbs of `flk-conformance server --control`. Each is harmless where it has nothing to do.
`--as X01` starts a wrong server (mutants/servers) instead.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from home import write_home

HERE = Path(__file__).resolve().parent
WRONG = HERE.parent / "mutants" / "servers" / "wrong_server.py"
PATIENCE_S = 50.0
"""How long a start or an end may take."""

LOOK_S = 0.02
"""How often it is looked whether something has happened."""


class Process:
    """The one server process of a folder, known by a file with its number."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file = home / "pid"

    def pid(self) -> int | None:
        """Give the number of the process if it runs."""
        try:
            pid = int(self._file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if is_alive(pid) else None

    def start(self, mutant: str | None) -> None:
        """Start it and wait until it listens."""
        if self.pid() is not None:
            return
        program = [str(HERE / "served.py"), str(self._home)]
        if mutant is not None:
            program = [str(WRONG), "--as", mutant, "--home", str(self._home)]
        said = self._home / "stdout.log"
        with said.open("wb") as out, (self._home / "stderr.log").open("ab") as err:
            process = subprocess.Popen(
                [sys.executable, *program], stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._file.write_text(str(process.pid), encoding="ascii")
        deadline = time.monotonic() + PATIENCE_S
        while b"listening on" not in said.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server did not start:\n{self._last_words()}")
            time.sleep(LOOK_S)

    def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, number)
        deadline = time.monotonic() + PATIENCE_S
        while is_alive(pid):
            if time.monotonic() > deadline:
                sys.exit(f"process {pid} does not end")
            time.sleep(LOOK_S)
        self._file.unlink(missing_ok=True)

    def drain(self) -> None:
        """Let it take no more records."""
        if self.pid() is None:
            return
        address = json.loads((self._home / "flk.yaml").read_bytes())["admin_listen"]
        connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("POST", "/admin/drain")
            status = connection.getresponse().status
        if status != 200:
            sys.exit(f"drain answers {status}")

    def _last_words(self) -> str:
        return (self._home / "stderr.log").read_text(encoding="utf-8", errors="replace")[-2_000:]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be asked does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2][:1]
    except OSError:
        return _still(pid)
    return state != "Z"


def _still(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Do what one verb says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--as", dest="mutant", help="a wrong server, for example X01")
    parser.add_argument("--port", type=int, default=0, help="for init; 0 chooses a free one")
    parser.add_argument("--connections", type=int, help="for init: the limit of connections")
    parser.add_argument(
        "verb",
        choices=("init", "start", "stop", "kill", "drain", "store-down", "store-up"),
    )
    options = parser.parse_args()
    home: Path = options.home.resolve()
    process = Process(home)
    match options.verb:
        case "init":
            limits = {"connections": options.connections} if options.connections else {}
            sys.stdout.write(write_home(home, options.port, **limits) + "\n")
        case "start":
            process.start(options.mutant)
        case "stop":
            process.end(signal.SIGTERM)
        case "kill":
            process.end(signal.SIGKILL)
        case "drain":
            process.drain()
        case "store-down":
            (home / "store-down").touch()
        case "store-up":
            (home / "store-down").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
