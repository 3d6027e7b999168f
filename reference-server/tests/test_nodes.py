"""Two processes of one region share the ids through dedup shards, and one is no other's rival."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from region import (
    ACME_TOKEN,
    JSON,
    Reply,
    ServerProcess,
    ask,
    environment,
    signed,
    wait_until,
    write_home,
)

READ = {"authorization": f"Bearer {ACME_TOKEN}"}


def flk_server(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fractal_lba_server", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment())


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, ServerProcess]]:
    control = f"sqlite:///{tmp_path}/control.sqlite"
    shards = [f"--shard=shard-{i}=sqlite:///{tmp_path}/shard-{i}.sqlite" for i in range(3)]
    made = flk_server("dedup", "init", "--control", control, *shards)
    assert made.returncode == 0, made.stdout + made.stderr
    servers = {}
    for node in ("a", "b"):
        home = tmp_path / node
        home.mkdir()
        write_home(home, node=node, dedup={"control": control})
        servers[node] = ServerProcess(home)
        servers[node].start()
    yield servers
    for server in servers.values():
        server.end()


def submit(server: ServerProcess, body: bytes) -> Reply:
    return ask(server.port, "POST", "/v1/pcs/submit", body, JSON)


def test_first_write_of_one_process_is_the_answer_of_the_other(
    nodes: dict[str, ServerProcess],
) -> None:
    record = signed("shared")
    first = submit(nodes["a"], record.body)
    assert (first.status, first.headers["pcs-position"]) == (200, "loc/open--a/1/1")
    wait_until(lambda: submit(nodes["b"], record.body).status == 200)
    again = submit(nodes["b"], record.body)
    assert (again.body, again.headers["idempotency-replayed"]) == (first.body, "true")
    other = submit(nodes["b"], signed("shared", r=0.4).body)
    assert (other.status, other.code) == (409, "pcs_id_conflict")
    read = ask(nodes["b"].port, "GET", f"/v1/pcs/{record.pcs_id}", headers=READ)
    assert read.body == first.body


def test_each_id_has_one_first_write_however_many_processes_are_asked(
    nodes: dict[str, ServerProcess],
) -> None:
    firsts = 0
    for number in range(30):
        body = signed(f"race-{number}").body
        for server in nodes.values():
            reply = submit(server, body)
            while reply.status == 503:  # the other has claimed the id, and not yet completed it
                reply = submit(server, body)
            assert reply.status == 200
            firsts += reply.headers["idempotency-replayed"] == "false"
    assert firsts == 30


def test_claims_of_a_killed_process_are_settled_at_its_restart(
    nodes: dict[str, ServerProcess],
) -> None:
    record = signed("killed")
    first = submit(nodes["a"], record.body)
    nodes["a"].kill()
    nodes["a"].start()
    wait_until(lambda: submit(nodes["b"], record.body).status == 200)
    assert submit(nodes["b"], record.body).body == first.body


def test_found_everywhere_the_id_is_named_by_the_command(
    nodes: dict[str, ServerProcess],
) -> None:
    record = signed("found")
    assert submit(nodes["a"], record.body).status == 200
    wait_until(lambda: submit(nodes["b"], record.body).status == 200)
    found = flk_server(
        "dedup", "find", "acme", record.pcs_id, "--config", nodes["a"].home / "flk.yaml", "--json"
    )
    assert found.returncode == 0, found.stdout + found.stderr
    said = json.loads(found.stdout)
    assert (said["faults"], said["complete"]) == ([], True)
    assert len([place for place in said["places"] if place["entry"] is not None]) == 1
