"""Start what is measured, each on cores of its own, and read what it cost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SERVER_CORE = "0"
LOAD_CORE = "1"
START_TIMEOUT_S = 60.0


def free_port() -> int:
    """Ask the system for a port nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], port: int, *, cores: str, path: str) -> Iterator[int]:
    """Run a server pinned to `cores` until the block ends; gives its process id."""
    process = subprocess.Popen(
        ["taskset", "-c", cores, sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1):
                    break
            except urllib.error.HTTPError:
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[1]} did not start") from None
                time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def echo(*, cores: str = SERVER_CORE) -> contextlib.AbstractContextManager[tuple[int, int]]:
    """Run the baseline on the same HTTP server."""
    port = free_port()
    command = [
        "-m", "uvicorn", "bench.echo:app", "--port", str(port), "--no-access-log",
        "--log-level", "warning", "--no-server-header", "--lifespan", "off",
    ]  # fmt: skip
    return _with_port(command, port, cores=cores, path="/")


def flk_server(
    data: Path, tenants: Path, *, cores: str = SERVER_CORE, stages: Path | None = None
) -> contextlib.AbstractContextManager[tuple[int, int]]:
    """Run one region; with `stages` it also measures its own steps."""
    port = free_port()
    module = ["-m", "fractal_lba_server"] if stages is None else ["-m", "bench.stages", str(stages)]
    command = [
        *module, "serve", "--data", str(data), "--tenants", str(tenants),
        "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{free_port()}",
    ]  # fmt: skip
    return _with_port(command, port, cores=cores, path="/healthz")


@contextlib.contextmanager
def _with_port(
    command: Sequence[str], port: int, *, cores: str, path: str
) -> Iterator[tuple[int, int]]:
    with running(command, port, cores=cores, path=path) as pid:
        yield port, pid


def load(port: int, bodies: Path, *, cores: str = LOAD_CORE, **job: Any) -> dict[str, Any]:
    """Send load from a process of its own; see bench/load.py for the members of a job."""
    whole = {
        "port": port, "bodies": str(bodies), "path": "/v1/pcs/submit", "lines_per_request": 1,
        "connections": 64, "seconds": 5.0, "rate_per_s": None, **job,
    }  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", cores, sys.executable, "-m", "bench.load"],
        input=json.dumps(whole).encode(), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    wrong = {status: n for status, n in result["statuses"].items() if status != "200"}
    if wrong:
        raise RuntimeError(f"the server answered {wrong}: nothing was measured")
    return result


def cpu_s(pid: int) -> float:
    """Give the processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mb(pid: int) -> float:
    """Give the largest resident size of a process so far, in 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmHWM")
