"""The samples of the three SDKs run against a real server, and print the same lines."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.tests.installed import RunningServer

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "sdk-python" / "samples"
GO = ROOT / "sdk-go"
TS = ROOT / "sdk-ts" / "samples"
TIMEOUT_S = 300
"""Longest time for one sample; `go run` may have to build first."""
LOG_S = 30
"""Longest time until the server has written its log."""

PCS_ID = hashlib.sha256(f"{'3f' * 32}|1|sample/submit".encode()).hexdigest()
"""The id of the one record of `submit`, by the rule of canonical 5.5."""

PRINTED = {
    "submit": [f"pcs_id {PCS_ID}", "accepted true", "replayed true", "same true"],
    "submit_many": ["accepted 100", "failed 0"],
    "offline_outbox": ["kept 3", "waiting 0", "dead 0"],
}
ARGUMENTS = {"offline_outbox": ["outbox"]}

pytestmark = pytest.mark.guides


def found(name: str) -> str:
    path = shutil.which(name)
    assert path, f"{name} is missing; `nox -s samples` installs it"
    return path


def python(name: str) -> list[str]:
    return [sys.executable, str(PYTHON / f"{name}.py")]


def go(name: str) -> list[str]:
    return [found("go"), "run", "-C", str(GO), f"./samples/{name}"]


def ts(name: str) -> list[str]:
    return [found("node"), str(TS / f"{name.replace('_', '-')}.mjs")]


LANGUAGES: dict[str, Callable[[str], list[str]]] = {"python": python, "go": go, "ts": ts}


def lines_of(server: RunningServer, language: str, name: str, *arguments: str) -> list[str]:
    settings = {
        "FLK_ENDPOINT": server.endpoint,
        "FLK_TENANT": "demo",
        "PCS_KID": "demo",
        "PCS_HMAC_KEY": server.key,
    }
    done = subprocess.run(
        [*LANGUAGES[language](name), *arguments],
        cwd=server.folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("language", sorted(LANGUAGES))
@pytest.mark.parametrize("name", sorted(PRINTED))
def test_sample_prints_the_same_lines(server: RunningServer, name: str, language: str) -> None:
    arguments = [str(server.folder / argument) for argument in ARGUMENTS.get(name, [])]
    assert lines_of(server, language, name, *arguments) == PRINTED[name]


def test_one_record_through_three_sdks_is_recorded_once(server: RunningServer) -> None:
    """The samples build the same record, so the second and third SDK send duplicates."""
    printed = {language: lines_of(server, language, "submit") for language in LANGUAGES}
    assert printed == dict.fromkeys(LANGUAGES, PRINTED["submit"])
    assert replays(server, 2 * len(LANGUAGES)) == [False] + [True] * 5


def test_the_go_client_against_a_real_server(server: RunningServer) -> None:
    """The Go test that skips where no server is named; `sdk-go` alone has none to name."""
    name = "TestARealServerRecordsReplaysAndRefuses"
    done = subprocess.run(
        [found("go"), "test", "-C", str(GO), "-count", "1", "-v", "-run", f"^{name}$", "."],
        env={**os.environ, "FLK_SERVER_URL": server.endpoint, "PCS_HMAC_KEY": server.key},
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert f"--- PASS: {name}" in done.stdout, done.stdout + done.stderr


def replays(server: RunningServer, count: int) -> list[bool]:
    """Wait for the log lines of so many submits, and say which were replayed."""
    end = time.monotonic() + LOG_S
    while True:
        text = (server.folder / "server.log").read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        found = [line["replayed"] for line in lines if line.get("route") == "/v1/pcs/submit"]
        if len(found) >= count or time.monotonic() > end:
            return found
        time.sleep(0.05)


def test_every_sample_is_run() -> None:
    assert {path.stem for path in PYTHON.glob("*.py")} == set(PRINTED)
    folders = {path.name for path in (GO / "samples").iterdir() if (path / "main.go").is_file()}
    assert folders == set(PRINTED)
    names = {path.stem.replace("-", "_") for path in TS.glob("*.mjs")} - {"record"}
    assert names == set(PRINTED)
