"""Parts of the live engine: what the wiretap reads, what the shim does, what a census holds."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from region import ACME, ServerProcess, get, signed, submit, wait_until, write_home

from fractal_lba.http import RawResponse
from fractal_lba.ids import content_digest
from fractal_lba_server.contract import validator
from fractal_lba_server.drill.census import digests_of, read_state
from fractal_lba_server.drill.fleet import Fleet
from fractal_lba_server.drill.load import Mix, client_rows
from fractal_lba_server.drill.plants import PLANTS
from fractal_lba_server.drill.processes import ProcessError, Program, run_command
from fractal_lba_server.drill.records import record
from fractal_lba_server.drill.scenario import Scenario, load_scenario, shipped
from fractal_lba_server.drill.shim import SkewedClock, Switches, faulty_files
from fractal_lba_server.drill.trace import TraceWriter
from fractal_lba_server.drill.wiretap import frame_of, read_batch, read_get, read_put

OUTCOME = {"first_seen": {"region": "euw", "hlc": "01a1fdb935480000"}, "pcs_id": "ab" * 32}
FRAME = "euw:01a1fdb935480000.abababab"


def answer(status: int, body: Any, **headers: str) -> RawResponse:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawResponse(status, named, data)


@pytest.mark.parametrize(
    ("given", "result", "frame"),
    [
        (answer(200, OUTCOME, Idempotency_Replayed="false", PCS_Level="durable"), "new", FRAME),
        (answer(202, OUTCOME, Idempotency_Replayed="true"), "duplicate", FRAME),
        (answer(409, {"code": "pcs_id_conflict", "winner": OUTCOME}), "conflict", FRAME),
        (answer(409, {"code": "pcs_id_conflict"}), "conflict", None),
        (answer(503, {"code": "unavailable"}), "refused", None),
        (answer(503, {"code": "unavailable"}, PCS_Position="euw/open/1/7"), "unknown", None),
        (answer(502, b"bad gateway"), "refused", None),
    ],
)
def test_an_answer_to_a_submit_is_read(given: RawResponse, result: str, frame: str | None) -> None:
    fields = read_put(given)
    assert (fields["result"], fields.get("frame")) == (result, frame)


def test_the_lines_of_a_batch_are_read_by_their_place() -> None:
    lines = [
        {"index": 1, "status": 200, "replayed": True, "position": "p", "level": "durable",
         "outcome": OUTCOME},
        {"index": 0, "status": 422, "problem": {"code": "member_type"}},
        "no object",
    ]  # fmt: skip
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    items = dict(read_batch(answer(200, body)))
    assert {place: fields["result"] for place, fields in items.items()} == {
        0: "refused", 1: "duplicate",
    }  # fmt: skip
    assert items[1]["outcome"] == read_put(answer(200, OUTCOME))["outcome"] or len(OUTCOME) == 2
    assert dict(read_batch(answer(503, b""))) == {}


@pytest.mark.parametrize(
    ("status", "result"), [(200, "present"), (404, "absent"), (503, "refused")]
)
def test_an_answer_to_a_look_up_is_read(status: int, result: str) -> None:
    fields = read_get(answer(status, OUTCOME))
    assert (fields["result"], fields.get("frame")) == (result, FRAME if status == 200 else None)


def test_records_of_a_drill_are_valid_and_variants_differ_in_content_alone() -> None:
    first, other = record("a"), record("a", variant=1)
    assert first["pcs_id"] == other["pcs_id"]
    assert content_digest(first) != content_digest(other)
    assert content_digest(first) == content_digest(record("a"))
    assert record("b")["pcs_id"] != first["pcs_id"]


def test_switches_slow_and_fail_calls_and_count_their_effects(tmp_path: Path) -> None:
    switches = Switches(tmp_path)
    files = faulty_files(switches)()
    path = tmp_path / "file"
    fd = files.open(path, os.O_CREAT | os.O_RDWR)
    (tmp_path / "fail-zeros").write_text("ENOSPC")
    (tmp_path / "slow-fdatasync").write_text("30")
    files.pwrite(fd, b"frame", 0)
    with pytest.raises(OSError, match="space") as full:
        files.pwrite(fd, bytes(100), 5)
    assert full.value.errno == errno.ENOSPC
    begun = time.monotonic()
    files.fdatasync(fd)
    assert time.monotonic() - begun >= 0.03
    (tmp_path / "fail-fdatasync").write_text("EIO")
    with pytest.raises(OSError, match="Input"):
        files.fdatasync(fd)
    files.close(fd)
    assert path.read_bytes() == b"frame"
    counted = {p.name: p.stat().st_size for p in tmp_path.glob("count-*")}
    assert counted == {"count-fail-zeros": 1, "count-slow-fdatasync": 2, "count-fail-fdatasync": 1}


def test_a_skewed_clock_is_off_by_what_its_switch_says(tmp_path: Path) -> None:
    clock = SkewedClock(Switches(tmp_path), lambda: 10**18)
    assert clock.time_ns() == 10**18
    (tmp_path / "clock-ms").write_text("-60000")
    time.sleep(0.02)
    assert clock.time_ns() == 10**18 - 60_000_000_000
    assert clock.time() == 10**9 - 60
    assert (tmp_path / "count-clock-ms").stat().st_size >= 1


def test_the_shim_is_not_reached_from_the_product(tmp_path: Path) -> None:
    code = (
        "import fractal_lba_server.server, fractal_lba_server.cli, sys;"
        "print(sorted(n for n in sys.modules if 'drill.' in n or n.endswith('.drill')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_plant_of_a_shipped_control_exists() -> None:
    named = {name for one in shipped() for name in load_scenario(one, control=True).plants}
    assert named <= set(PLANTS)


def tiny(**changed: Any) -> Scenario:
    document = {
        "version": 1, "name": "tiny", "title": "t", "promises": {},
        "topology": {"regions": [{"code": "euw"}, {"code": "use"}]},
        "load": {"duration_s": 1, "rate_per_s": 10}, **changed,
    }  # fmt: skip
    return Scenario(document, "tiny")


def test_shares_of_clients_and_kinds_of_calls() -> None:
    rows = client_rows(tiny())
    assert [(row["name"], row["share"], row["endpoints"]) for row in rows] == [
        ("near-euw", 0.5, ["euw", "use"]),
        ("near-use", 0.5, ["use", "euw"]),
    ]
    mix = Mix(repeat=0.1, rival=0.2, read=0.3)
    kinds = [mix.kind(u) for u in (0.05, 0.15, 0.45, 0.65)]
    assert kinds == ["repeat", "rival", "read", "new"]


def test_a_program_that_does_not_start_says_why(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.jsonl", tiny(), seed=1, command="x") as trace:
        program = Program("euw", tmp_path, ["serve", "--config", "no-such-file"], trace)
        with pytest.raises(ProcessError, match=r"euw did not start.*no-such-file"):
            program.start()
        assert not program.running
        with pytest.raises(ProcessError, match="ended with"):
            run_command("fsck", "--data", str(tmp_path / "none"))


def test_the_links_of_a_fleet_have_the_delays_of_the_topology_in_their_direction(
    tmp_path: Path,
) -> None:
    scenario = tiny(
        topology={
            "regions": [{"code": "euw"}, {"code": "use"}],
            "links": [{"from": "euw", "to": "use", "delay_ms": 40, "both": False}],
        }
    )
    with (
        TraceWriter(tmp_path / "t.jsonl", scenario, seed=1, command="x") as trace,
        Fleet(scenario, tmp_path / "home", trace, seed=1) as fleet,
    ):
        fleet.prepare()
        assert sorted(fleet.links.counts()) == ["client-euw", "client-use", "euw-use", "use-euw"]
        delays = {
            (link, way): fleet._base(link, way)["delay_ms"]
            for link in ("euw-use", "use-euw")
            for way in ("forward", "back")
        }
        assert delays == {
            ("euw-use", "forward"): 40, ("euw-use", "back"): 0,
            ("use-euw", "forward"): 0, ("use-euw", "back"): 40,
        }  # fmt: skip
        assert fleet.links_between("euw", "use") == [("euw-use", "forward"), ("use-euw", "back")]


def test_a_trace_is_valid_line_by_line_and_says_what_went_wrong(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    trace = TraceWriter(path, tiny(), seed=1, command="x")
    with trace:
        trace.write("note", said="hello")
        trace.__exit__(RuntimeError, RuntimeError("no more"), None)
    trace.write("note", said="too late")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        validator("trace").validate(event)
    assert [event["event"] for event in events] == ["run", "note", "error", "end"]
    assert "no more" in events[2]["said"]


def test_a_census_holds_what_the_server_answers(tmp_path: Path) -> None:
    server = ServerProcess(write_home(tmp_path))
    server.start()
    try:
        sent = [signed(number, signer=ACME) for number in ("one", "two")]
        outcomes = [submit(server.port, each.body).outcome for each in sent]
        wait_until(lambda: len(read_state(server.data).standing) == 2)
        state = read_state(server.data)
        for outcome in outcomes:
            (row,) = [row for row in state.standing if row.key.endswith(outcome["pcs_id"])]
            assert row.frame == frame_of(outcome)
            assert row.outcome == read_get(
                answer(200, get(server.port, outcome["pcs_id"]).body)
            )["outcome"]  # fmt: skip
        digest, count = digests_of(state)["open"]
        assert (len(digest), count) == (64, 2)
        assert digests_of(state, until_ms=0) == {}
    finally:
        server.kill()
    assert read_state(tmp_path / "nowhere").standing == []
