"""Programs and servers for the tests: those that are installed beside this Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
START_S = 60
"""Longest time that a server may take until it says that it listens."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server in a folder of its own, the key of its one tenant, and where it listens."""

    folder: Path
    endpoint: str
    key: str


def program(name: str) -> str:
    """Name a command of the packages; without it there is nothing to test."""
    path = BIN / name
    if not path.is_file() and "FLK_DIST" not in os.environ:
        pytest.skip(f"{name} is not installed beside this Python; nox -s tests installs it")
    assert path.is_file(), f"{name} was not installed"
    return str(path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """Start `flk-server` as the README says, with a key that `flk` made."""
    keys = ["keys", "new", "--kid", "demo", "--tenant", "demo"]
    files = ["--out", "demo.json", "--secret-out", "demo.hex"]
    made = subprocess.run(
        [program("flk"), *keys, *files], cwd=tmp_path, capture_output=True, check=True
    )
    (tmp_path / "tenants.yaml").write_bytes(made.stdout)
    listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    log = tmp_path / "server.log"
    with (
        log.open("wb") as logged,
        subprocess.Popen(
            [
                program("flk-server"),
                "serve",
                "--data",
                "data",
                "--tenants",
                "tenants.yaml",
                *listen,
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=logged,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = re.search(r"listening on (\S+?),", said)
            assert address, f"{said!r}\n{log.read_text()}"
            key = (tmp_path / "demo.hex").read_text().strip()
            yield RunningServer(tmp_path, f"http://{address[1]}", key)
        finally:
            process.terminate()
            process.wait(START_S)
