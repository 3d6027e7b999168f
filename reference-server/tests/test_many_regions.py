"""Two and three regions as real processes: what one took, the others hold and answer."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from many_regions import Regions
from region import (
    ACME_TOKEN,
    BETA,
    JSON,
    Reply,
    ServerProcess,
    ask,
    environment,
    signed,
    tenants_document,
    wait_until,
    write_tenants,
)

READ = {"authorization": f"Bearer {ACME_TOKEN}"}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Regions]:
    regions = Regions(tmp_path)
    try:
        regions.start()
        yield regions
    finally:
        regions.end()


def submit(server: ServerProcess, body: bytes, level: str | None = None) -> Reply:
    headers = {**JSON, **({} if level is None else {"pcs-min-ack": level})}
    return ask(server.port, "POST", "/v1/pcs/submit", body, headers)


def read(server: ServerProcess, pcs_id: str) -> Reply:
    return ask(server.port, "GET", f"/v1/pcs/{pcs_id}", headers=READ)


def status(server: ServerProcess) -> dict[str, object]:
    return json.loads(ask(server.port, "GET", "/v1/region/status", headers=READ).body)


def test_outcome_of_one_region_is_the_answer_of_the_other(two: Regions) -> None:
    record = signed("shipped")
    first = submit(two["eu1"], record.body)
    assert (first.status, first.headers["pcs-position"]) == (200, "eu1/open/1/1")
    wait_until(lambda: read(two["us1"], record.pcs_id).status == 200)
    again = submit(two["us1"], record.body)
    assert (again.body, again.status) == (first.body, first.status)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["pcs-position"] == "eu1/open/1/1"
    assert again.headers["pcs-level"] == "replicated"


def test_level_replicated_is_reached_and_named(two: Regions) -> None:
    answer = submit(two["eu1"], signed("level").body, "replicated")
    assert (answer.status, answer.headers["pcs-level"]) == (200, "replicated")
    assert answer.headers["pcs-replicated"] == answer.headers["pcs-position"]
    streams = status(two["eu1"])["streams"]
    assert streams == [
        {"placement": "open", "region_epoch": 1, "durable": 1, "replicated": 1, "closed": []}
    ]


def test_level_replicated_is_refused_with_the_position_while_the_other_is_down(
    tmp_path: Path,
) -> None:
    regions = Regions(tmp_path, peers={"replicated_wait_ms": 200})
    try:
        regions["eu1"].start()
        answer = submit(regions["eu1"], signed("alone").body, "replicated")
        assert (answer.status, answer.problem["position"]) == (503, "eu1/open/1/1")
        regions["us1"].start()
        wait_until(lambda: submit(regions["eu1"], signed("alone").body, "replicated").status == 200)
    finally:
        regions.end()


def test_writes_on_both_sides_of_a_split_heal_to_the_first(tmp_path: Path) -> None:
    regions = Regions(tmp_path)
    early, late = signed("split", r=0.381), signed("split", r=0.4)
    try:
        regions["eu1"].start()
        first = submit(regions["eu1"], early.body)
        assert first.status == 200
        regions["eu1"].kill()
        regions["us1"].start()
        other = submit(regions["us1"], late.body)
        assert (other.status, other.headers["pcs-position"]) == (200, "us1/open/1/1")
        regions["eu1"].start()
        wait_until(lambda: read(regions["us1"], early.pcs_id).body == first.body)
        displaced = submit(regions["us1"], late.body)
        assert displaced.status == 409
        assert displaced.problem["displaced"] is True
        assert displaced.problem["first_acked"] == "us1/open/1/1"
        assert displaced.problem["winner"] == json.loads(first.body)
        assert submit(regions["us1"], early.body).body == first.body
        wait_until(lambda: submit(regions["eu1"], late.body).problem.get("displaced") is True)
    finally:
        regions.end()


def flk_server(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fractal_lba_server", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment())


def test_states_of_healed_regions_are_one_and_a_rebuild_from_the_logs_gives_it_again(
    tmp_path: Path,
) -> None:
    regions = Regions(tmp_path, ("eu1", "us1", "ap1"))
    try:
        regions.start()
        for number in range(40):
            server = regions[("eu1", "us1", "ap1")[number % 3]]
            assert submit(server, signed(f"state-{number}").body).status == 200
        clash = [signed("clash", r=r).body for r in (0.381, 0.4, 0.41)]
        for server, body in zip(regions.servers.values(), clash, strict=True):
            assert submit(server, body).status in (200, 409)
        for server in regions.servers.values():
            wait_until(lambda server=server: len(held(server)) == 41)
    finally:
        for server in regions.servers.values():
            server.stop()
    folders = [server.data for server in regions.servers.values()]
    before = flk_server("reconcile", "digest", *folders, "--json")
    assert before.returncode == 0, before.stdout + before.stderr
    digests = {json.loads(line)["state_digest"] for line in before.stdout.splitlines()}
    for folder in folders:
        assert flk_server("replay", "--data", folder, "--rebuild").returncode == 0
        checked = flk_server("fsck", "--data", folder)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    after = flk_server("reconcile", "digest", *folders, "--json")
    assert {json.loads(line)["state_digest"] for line in after.stdout.splitlines()} == digests
    assert flk_server("reconcile", "compare", *folders[:2]).returncode == 0


def test_a_state_that_was_tampered_with_is_found_by_the_next_comparison(tmp_path: Path) -> None:
    regions = Regions(tmp_path, peers={"compare_interval_ms": 200})
    try:
        regions.start()
        for number in range(5):
            assert submit(regions["eu1"], signed(f"rot-{number}").body).status == 200
        wait_until(lambda: len(held(regions["us1"])) == 5)
        regions["us1"].stop()
        with contextlib.closing(sqlite3.connect(regions["us1"].data / "index.sqlite")) as index:
            index.execute("UPDATE outcomes SET content = ? WHERE number = 2", (b"f" * 64,))
            index.commit()
        regions["us1"].start()
        found = regions["eu1"].event("state_divergence")
        assert (found["severity"], found["conflicting"], found["missing"]) == ("P0", 1, 0)
        named = flk_server(
            "reconcile", "compare", regions["eu1"].data, regions["us1"].data, "--json"
        )
        assert named.returncode == 1
        assert json.loads(named.stdout.splitlines()[-1])["conflicting"] == 1
    finally:
        regions.end()


def held(server: ServerProcess) -> list[object]:
    """Give the ids that the index of a running region holds."""
    with contextlib.closing(sqlite3.connect(server.data / "index.sqlite")) as index:
        return index.execute("SELECT pcs_id FROM ids").fetchall()


def test_metrics_say_how_far_each_peer_is(two: Regions) -> None:
    assert submit(two["eu1"], signed("metric").body, "replicated").status == 200

    def value(name: str, labels: str) -> float | None:
        text = ask(two["eu1"].admin_port, "GET", "/metrics").body.decode()
        found = [line for line in text.splitlines() if line.startswith(f"{name}{{{labels}}}")]
        return float(found[0].split()[-1]) if found else None

    to_us = 'peer="us1",placement="open",region="eu1"'
    assert value("flk_ship_lag_records", to_us) == 0
    assert value("flk_ship_stopped", to_us) == 0
    assert (
        value("flk_peer_silence_seconds", 'origin="us1",placement="open",region="eu1"') is not None
    )
    two["us1"].kill()
    assert submit(two["eu1"], signed("behind").body).status == 200
    wait_until(lambda: value("flk_ship_lag_records", to_us) == 1)
    wait_until(lambda: (value("flk_ship_lag_seconds", to_us) or 0) > 0.2)


def place_acme(regions: Regions, **changes: object) -> None:
    """Give the tenant acme other terms in every region."""
    document = tenants_document()
    document["tenants"][0] |= changes
    for server in regions.servers.values():
        write_tenants(server.home, document)


OPEN = {"regions": ["eu1", "us1"], "topology": "active-active"}


def test_h57_no_byte_of_a_locked_tenant_leaves_its_regions(tmp_path: Path) -> None:
    placements = {"open": OPEN, "eu-only": {"regions": ["eu1"], "topology": "active-active"}}
    regions = Regions(tmp_path, placements=placements)
    place_acme(regions, placement="eu-only")
    locked, free = signed("locked"), signed("free", signer=BETA, tenant="beta")
    try:
        regions.start()
        first = submit(regions["eu1"], locked.body)
        assert first.headers["pcs-position"] == "eu1/eu-only/1/1"
        assert "pcs-replicated" not in first.headers
        refused = submit(regions["us1"], locked.body)
        assert (refused.status, refused.code) == (421, "wrong_region")
        hint = refused.problem["leader_hint"]["endpoint"]
        assert hint == f"http://127.0.0.1:{regions['eu1'].port}"
        # The literal design ships one log to every region: what is open shows that it would come.
        assert submit(regions["eu1"], free.body, "replicated").status == 200
    finally:
        for server in regions.servers.values():
            server.stop()
    kept = {path: path.read_bytes() for path in regions["us1"].home.rglob("*") if path.is_file()}
    held = [path for path, data in kept.items() if free.pcs_id.encode() in data]
    assert any("peers/eu1/open" in str(path) for path in held)
    marks = (locked.pcs_id.encode(), bytes.fromhex(locked.pcs_id))
    assert [path for path, data in kept.items() if any(mark in data for mark in marks)] == []


def test_tenant_that_refuses_a_split_is_refused_by_a_region_alone(tmp_path: Path) -> None:
    regions = Regions(tmp_path, peers={"cut_off_ms": 2_000})
    place_acme(regions, on_partition="refuse")
    try:
        regions.start()
        wait_until(lambda: submit(regions["eu1"], signed("together").body).status == 200)
        regions["us1"].kill()
        wait_until(lambda: submit(regions["eu1"], signed("apart").body).status == 503)
        other = signed("beta", signer=BETA, tenant="beta")
        assert submit(regions["eu1"], other.body).status == 200
        regions["us1"].start()
        wait_until(lambda: submit(regions["eu1"], signed("apart").body).status == 200)
    finally:
        regions.end()


def test_writes_stop_at_the_tenant_s_bound_on_lag_and_go_on_when_the_peer_is_back(
    tmp_path: Path,
) -> None:
    regions = Regions(tmp_path)
    place_acme(regions, ack={"rpo_ms": 250})
    try:
        regions.start()
        assert submit(regions["eu1"], signed("in time").body).status == 200
        regions["us1"].kill()
        numbers = iter(range(1_000))
        wait_until(lambda: submit(regions["eu1"], signed(next(numbers)).body).status == 503)
        refused = submit(regions["eu1"], signed("late").body)
        assert refused.code == "unavailable"
        assert "behind" in refused.problem["detail"]
        regions["us1"].start()
        wait_until(lambda: submit(regions["eu1"], signed("late").body).status == 200)
    finally:
        regions.end()


def test_tenant_of_an_unknown_placement_is_refused_at_the_start(tmp_path: Path) -> None:
    regions = Regions(tmp_path)
    place_acme(regions, placement="moon")
    status, text = regions["eu1"].refuse_to_start()
    assert status == 1
    assert '/tenants/0/placement: no placement has the name "moon"' in text
    assert "declare it in the regions file, or use one of open" in text


STANDBY = {
    "open": {"regions": ["eu1", "us1"], "topology": "warm-standby", "primary": "eu1"},
}


@contextlib.contextmanager
def arbiter(regions: Regions) -> Iterator[str]:
    """Run the arbiter of some regions; give its address."""
    state = regions.folder / "arbiter.sqlite"
    command = [
        sys.executable, "-m", "fractal_lba_server", "arbiter", "--listen", "127.0.0.1:0",
        "--state", f"sqlite:///{state}", "--regions", str(regions.folder / "regions.yaml"),
        "--ttl-ms", "1500", "--renew-ms", "200", "--max-drift-ms", "100",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening on" in line, line
        yield "http://" + line.split("listening on ")[1].split(",")[0].strip()
    finally:
        process.kill()
        process.communicate()


def lead_by(regions: Regions, url: str) -> None:
    for server in regions.servers.values():
        file = server.home / "flk.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["arbiter"] = {"url": url, "ttl_ms": 1_500, "renew_ms": 200, "max_drift_ms": 100}
        file.write_text(yaml.safe_dump(document), encoding="utf-8")


def epoch_of(server: ServerProcess) -> int:
    said = ask(server.admin_port, "GET", "/admin/region/status").body
    return int(json.loads(said)["placements"][0]["region_epoch"])


def test_standby_refuses_and_is_promoted_and_the_old_primary_stays_fenced(tmp_path: Path) -> None:
    regions = Regions(tmp_path, placements=STANDBY)
    with arbiter(regions) as url:
        lead_by(regions, url)
        try:
            regions.start()
            eu1, us1 = regions["eu1"], regions["us1"]
            wait_until(lambda: ask(eu1.port, "GET", "/readyz").status == 200)
            before = signed("before")
            first = submit(eu1, before.body, "replicated")
            assert first.status == 200
            refused = submit(us1, signed("too early").body)
            assert (refused.status, refused.code) == (421, "not_leader")
            assert refused.problem["leader_hint"]["endpoint"] == f"http://127.0.0.1:{eu1.port}"
            assert ask(us1.port, "GET", "/readyz").status == 503
            eu1.kill()
            promoted = flk_server(
                "region", "promote", "--admin", f"http://127.0.0.1:{us1.admin_port}"
            )
            assert promoted.returncode == 0, promoted.stdout + promoted.stderr
            wait_until(lambda: ask(us1.port, "GET", "/readyz").status == 200)
            again = submit(us1, before.body)
            assert (again.status, again.body) == (200, first.body)
            after = submit(us1, signed("after").body)
            assert after.headers["pcs-position"] == "us1/open/2/1"
            eu1.start()
            refused = submit(eu1, signed("zombie").body)
            assert refused.status in (421, 503)
            wait_until(lambda: submit(eu1, signed("zombie").body).code == "not_leader")
            assert ask(eu1.port, "GET", "/readyz").status == 503
        finally:
            regions.end()


def test_h45_region_whose_disk_was_lost_gets_its_log_back_before_it_answers(tmp_path: Path) -> None:
    regions = Regions(tmp_path)
    record = signed("lost disk")
    try:
        regions.start()
        first = submit(regions["eu1"], record.body, "replicated")
        assert first.status == 200
        regions["eu1"].kill()
        shutil.rmtree(regions["eu1"].data)
        regions["eu1"].start()
        # The literal design begins anew: the record would be new, at a number that is taken.
        again = submit(regions["eu1"], record.body)
        assert (again.body, again.headers["idempotency-replayed"]) == (first.body, "true")
        following = submit(regions["eu1"], signed("after").body, "replicated")
        assert following.headers["pcs-position"] == "eu1/open/2/2"
    finally:
        regions.end()
