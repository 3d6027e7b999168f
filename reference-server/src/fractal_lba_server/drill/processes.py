"""Run the processes of a drill: a region as a program, its files, its signals, its end.

The invariant of this file: every process that it started is gone when `close` returns.
"""

from __future__ import annotations

import http.client
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from . import shim
from .trace import TraceWriter

START_TIMEOUT_S: Final = 30.0
"""How long a program may take until it says where it listens."""

STOP_TIMEOUT_S: Final = 30.0
COMMAND_TIMEOUT_S: Final = 60.0

PORTS_KEPT_MAX: Final = 256
"""Of more ports than this, the first are free to others again: a process has few descriptors."""

_kept: Final[deque[int]] = deque()
"""Descriptors: they end with the process."""

_READY = re.compile(
    r"(?:arbiter )?listening on \S+:(?P<port>\d+)(?:, admin on \S+:(?P<admin>\d+))?|checking "
)


class ProcessError(Exception):
    """A program did not start, or ended otherwise than it should have."""


def free_port() -> int:
    """Give a port of this machine that nobody else is given while this process lives.

    A socket stays bound to it and never listens. Linux lets a program that reuses addresses listen
    there all the same, also after a restart; elsewhere the port was free a moment ago.
    """
    kept = socket.socket()
    kept.bind(("127.0.0.1", 0))
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port: int = kept.getsockname()[1]
    if sys.platform != "linux":
        kept.close()
        return port
    if len(_kept) == PORTS_KEPT_MAX:
        os.close(_kept.popleft())
    _kept.append(kept.detach())
    return port


def takes_writes(port: int) -> bool:
    """Ask a region whether it takes writes now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def run_command(*arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """Run `flk-server` to its end and give what it printed. Raises ProcessError."""
    done = subprocess.run(  # noqa: S603 - this program, arguments of its own
        [sys.executable, "-m", "fractal_lba_server", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
        env={**os.environ, **(environ or {})},
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        message = f"flk-server {' '.join(arguments[:2])} ended with {done.returncode}: {said}"
        raise ProcessError(message)
    return done.stdout


@dataclass(slots=True)
class Program:
    """One program of a drill; `who` is its name in the trace."""

    who: str
    home: Path
    arguments: Sequence[str]
    trace: TraceWriter
    shimmed: bool = False
    plants: Sequence[str] = ()
    port: int = 0
    admin_port: int = 0
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def faults(self) -> Path:
        """Give the folder of the shim's switches."""
        return self.home / "faults"

    @property
    def log(self) -> Path:
        """Give the file of what it writes to stderr."""
        return self.home / "stderr.log"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it and wait until it listens. Raises ProcessError with its last words."""
        self.spawn()
        self.await_ready(timeout_s)

    def spawn(self) -> None:
        """Start it."""
        self.faults.mkdir(parents=True, exist_ok=True)
        module = "fractal_lba_server.drill.shim" if self.shimmed else "fractal_lba_server"
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if self.shimmed:
            environ |= {shim.FAULTS: str(self.faults), shim.PLANTS: ",".join(self.plants)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this program, arguments of its own
                [sys.executable, "-m", module, *self.arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
            )
        self.trace.write("process", who=self.who, state="started")

    def await_ready(self, timeout_s: float) -> None:
        """Wait until it listens. Raises ProcessError with its last words."""
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if ready else ""
        said = _READY.match(line)
        if said is None:
            self._end(signal.SIGKILL, "killed")
            message = f"{self.who} did not start: {line or self.last_words()}"
            raise ProcessError(message)
        self.port = int(said["port"] or 0)
        self.admin_port = int(said["admin"] or 0)
        self.trace.write("process", who=self.who, state="ready")

    @property
    def running(self) -> bool:
        """Say whether it runs, stopped by a signal or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def paused(self) -> bool:
        """Say whether the system has stopped it."""
        if self._process is None:
            return False
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return False
        return text.rpartition(")")[2].split()[0] in "Tt"

    def kill(self) -> None:
        """Send SIGKILL, which no program can answer, and wait for the end."""
        self._end(signal.SIGKILL, "killed")

    def stop(self) -> int | None:
        """Ask it to end and give its exit status; None if none ran."""
        self.resume()
        return self._end(signal.SIGTERM, "stopped")

    def pause(self) -> None:
        """Stop it without its knowledge."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.trace.write("process", who=self.who, state="paused")

    def resume(self) -> None:
        """Let it go on."""
        if self.running and self.paused and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.trace.write("process", who=self.who, state="resumed")

    def _end(self, number: signal.Signals, state: str) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            status = process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.trace.write("process", who=self.who, state=state, status=status)
        return status

    def last_words(self) -> str:
        """Give the end of what it wrote to stderr."""
        if not self.log.exists():
            return ""
        return self.log.read_text(encoding="utf-8", errors="replace")[-800:]

    # --- the switches of the shim

    def switch(self, name: str, value: str | None) -> None:
        """Set a switch, or remove it."""
        path = self.faults / name
        if value is None:
            path.unlink(missing_ok=True)
            return
        new = path.with_suffix(".new")
        new.write_text(value, encoding="ascii")
        new.rename(path)

    def effects(self, name: str) -> int:
        """Count the effects that a switch has had."""
        path = self.faults / f"count-{name}"
        return path.stat().st_size if path.exists() else 0


def copy_tree(source: Path, target: Path) -> None:
    """Copy a data directory as it is on the disk, over whatever is there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
