"""The outcome of a trace: the same for the same trace, and true to what the trace shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from traces import Book, S, content, frame

from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.recovery import PHASES
from fractal_lba_server.judge.report import document, lines
from fractal_lba_server.judge.summary import outcome, trace_digest

Events = list[dict[str, Any]]
A = frame("euw", 100)


def outage() -> Events:
    """Have a region down for 5 s, with one write that only it held."""
    book = Book({"rto_s": 10, "steady_s": 10}, faults=[{"id": "kill"}]).calls(0, 10_000)
    book.put("x", 100).put("y", 9_500).put("z", 9_900, "unknown", call_ms=9_800)
    book.put("w", 9_950, "refused").put("x", 9_990, "conflict", content=content("w"))
    book.fault(10_000, 40_000).calls(10_000, 15_000, took_ms=9_000).calls(15_000, 60_000)
    book.add("declared", 12_000, incident="kill")
    for phase, at_ms in (("detect", 11_000), ("promote", 14_000), ("fail_back", 50_000)):
        book.add("phase", at_ms, incident="kill", phase=phase)
    book.census("failover", 20_000, {"x": {"frame": A}}, "use")
    held = {"x": {"frame": A}, "y": {"frame": frame("euw", 9_500)}}
    return book.census("end", 90_000, held, "euw", "use").end()


def test_an_outcome_tells_an_outage_on_both_clocks_and_in_phases() -> None:
    told = outcome(check(outage()))
    (row,) = told["incidents"]
    phases = dict.fromkeys(PHASES, 0.0) | {"detect": 1.0, "promote": 3.0, "fail_back": 1.01}
    assert row == {
        "id": "kill", "kind": "region-down", "region": "euw", "disrupted_s": 10.0,
        "healed_s": 40.0, "declared_s": 2.0, "rto_s": 5.01, "rto_declared_s": 3.01,
        "clients": {"euw": 5.01}, "phases": pytest.approx(phases), "later": {"fail_back": 40.0},
        "lost": {"records": 1, "bytes": 800, "rpo_s": 0.5, "rpo_work_s": 0.0},
        "effects": {"refused": 3},
    }  # fmt: skip
    assert sum(row["phases"].values()) == pytest.approx(row["rto_s"])


def test_an_outcome_keeps_the_books() -> None:
    told = outcome(check(outage()))
    assert told["accounts"] == {
        "euw": {"acked": 2, "winner": 2, "duplicate": 0, "displaced": 0, "lost": 0}
    }
    assert (told["recovered_late"], told["brought_by_outbox"]) == (1, 0)
    assert (told["conflicts"], told["refused"], told["unknown"]) == (1, 1, 1)
    assert told["calls"] == {"euw": {"count": 600, "good": 550}}
    assert (told["valid"], told["simulated_s"], told["engine"]) == (True, 100.0, "live")


def test_a_client_that_never_recovers_is_null() -> None:
    book = Book({"steady_s": 10}).calls(0, 10_000).fault(10_000)
    book.calls(10_000, 20_000, took_ms=9_000)
    (row,) = outcome(check(book.end()))["incidents"]
    assert (row["rto_s"], row["clients"], row["phases"]) == (None, {"euw": None}, {})


def test_a_run_whose_fault_did_nothing_is_not_valid() -> None:
    assert not outcome(check(Book().fault(10, effects={"refused": 0}).end()))["valid"]
    assert not outcome(check(Book().add("error", 1, said="no").end()))["valid"]


def test_a_trace_without_anything_has_an_outcome() -> None:
    told = outcome(check(Book().end()))
    assert (told["incidents"], told["accounts"], told["calls"]) == ([], {}, {})
    assert set(told["anomalies"]) == {"wrong_duplicate_answer"}


def test_an_outcome_is_json_and_always_the_same_bytes() -> None:
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from test_summary import outage;"
        "from fractal_lba_server.judge.check import check;"
        "from fractal_lba_server.judge.summary import outcome;"
        "sys.stdout.write(json.dumps(outcome(check(outage()))))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program, os.path.dirname(__file__)],
            check=True, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert told == {json.dumps(outcome(check(outage())))}


def test_the_digest_of_a_trace_leaves_out_the_command_and_the_order_of_members() -> None:
    events = outage()
    known = trace_digest(events)
    assert trace_digest([events[0] | {"command": "flk-sim run x"}, *events[1:]]) == known
    assert trace_digest([dict(reversed(event.items())) for event in events]) == known
    assert trace_digest([*events[:-1], events[-1] | {"at_ns": 101 * S}]) != known
    assert trace_digest(list(reversed(events))) != known
    held = [e | {"overridden": [{"kind": "b", "a": 1}]} for e in events if e["event"] == "held"]
    turned = [e | {"overridden": [{"a": 1, "kind": "b"}]} for e in held]
    assert trace_digest(held) == trace_digest(turned)


def test_a_report_says_the_same_to_people_and_to_programs() -> None:
    report = check(outage())
    said = "\n".join(lines(report))
    assert "5.01 (3.01) = detect 1.00 + promote 3.00 + fail_back 1.01; fail_back at 40.00" in said
    assert "RPO of kill: 0.500 s (0.000 s of work), 1 records, 800 bytes" in said
    assert "recovered late 1, brought by an outbox 0" in said
    told = document(report)
    assert (told["scenario"], told["passed"]) == ("by-hand", report.passed)
    assert told["trace_sha256"] == trace_digest(outage())
