"""A real server whose outcomes have moved to cold: the same answers, each cold read on record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from region import ServerProcess, get, signed, submit, write_home

from fractal_lba_server.store.tiers.lineage import read_lineage

COUNT = 3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a server whose payloads move at once."""
    policy = {"version": 1, "default": {"class": "cold", "cold_reads_burst": 9}}
    (tmp_path / "tiers.yaml").write_text(yaml.safe_dump(policy))
    tiers = {"policy_file": "tiers.yaml", "cold": f"file://{tmp_path}/cold"}
    return write_home(tmp_path, tiers=tiers)


@pytest.fixture
def server(home: Path) -> Iterator[ServerProcess]:
    """Give its process; it ends with the test."""
    process = ServerProcess(home)
    yield process
    process.end()


def flk_tiers(home: Path, *words: str) -> Any:
    """Run a command of the tiers on the server's file."""
    done = subprocess.run(
        [sys.executable, "-m", "fractal_lba_server", "tiers", *words, "--config",
         str(home / "flk.yaml"), "--json"],
        capture_output=True, text=True, check=False, env=dict(os.environ), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def objects(home: Path) -> list[Path]:
    return sorted((home / "cold").rglob("*.cold"))


def test_outcomes_that_moved_are_answered_byte_for_byte(home: Path, server: ServerProcess) -> None:
    server.start()
    bodies = [signed().body for _ in range(COUNT)]
    firsts = [submit(server.port, body) for body in bodies]
    assert [reply.status for reply in firsts] == [200] * COUNT
    assert server.stop() == 0
    assert flk_tiers(home, "move")["payloads"] == COUNT
    assert len(objects(home)) == 1
    server.start()
    again = submit(server.port, bodies[0])
    assert (again.status, again.body) == (200, firsts[0].body)
    assert again.headers["idempotency-replayed"] == "true"
    pcs_id = firsts[1].outcome["pcs_id"]
    assert get(server.port, pcs_id).body == firsts[1].body
    assert len(list(read_lineage(home / "data" / "cold-reads"))) == 2
    assert submit(server.port, signed().body).status == 200, "new records need no cold"
    assert server.stop() == 0


def test_cold_that_is_gone_is_503_and_new_records_are_taken(
    home: Path, server: ServerProcess
) -> None:
    server.start()
    body = signed().body
    assert submit(server.port, body).status == 200
    assert server.stop() == 0
    flk_tiers(home, "move")
    for path in objects(home):
        path.unlink()
    server.start()
    assert submit(server.port, body).status == 503
    assert submit(server.port, signed().body).status == 200
    assert server.stop() == 0
    write_home(home)
    status, said = server.refuse_to_start()
    assert status != 0
    assert "tiers.policy_file" in said, "without its tiers the index cannot answer"


def test_kill_in_the_middle_of_everything_loses_no_outcome(
    home: Path, server: ServerProcess
) -> None:
    bodies = [signed().body for _ in range(COUNT)]
    firsts = []
    for body in bodies:
        server.start()
        firsts.append(submit(server.port, body))
        server.signal(signal.SIGKILL)
        server.wait()
        flk_tiers(home, "move")
    server.start()
    for body, first in zip(bodies, firsts, strict=True):
        assert submit(server.port, body).body == first.body
    assert server.stop() == 0
