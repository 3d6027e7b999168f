"""Every verdict has a trace that holds, one that turns it red, and one that proves nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from traces import MS, Book, content, frame

from fractal_lba_server.contract import schema
from fractal_lba_server.judge.check import (
    FAILS,
    HOLDS,
    UNPROVEN,
    TraceError,
    Verdict,
    check,
    read_trace,
)
from fractal_lba_server.judge.promises import ALWAYS, PROMISES
from fractal_lba_server.judge.verdicts import worst_outages

Events = list[dict[str, Any]]
JUDGES = (*ALWAYS, *PROMISES)


def state(name: str, events: Events) -> str:
    return verdict(name, events).state


def verdict(name: str, events: Events) -> Verdict:
    for event in events:
        LINE.validate(event)
    return next(one for one in check(events).verdicts if one.name == name)


LINE = jsonschema_rs.Draft202012Validator(schema("trace"))

ALL = True
A, B = frame("euw", 100), frame("use", 200)
X, Y = content("x"), content("y")


def kept(name: str, value: Any = ALL, **scenario: Any) -> Book:
    """Write one acknowledged write that both regions hold."""
    return (
        Book({name: value}, **scenario)
        .put("x", 100)
        .census("end", 90_000, {"x": {"frame": A}}, "euw", "use")
    )


def split(name: str, value: Any = ALL, kind: str = "displaced", other: str = Y) -> Book:
    """Write two acknowledged writes of one id, one of which was overridden."""
    lost = {"frame": B, "content": other, "kind": kind}
    return (
        Book({name: value})
        .put("x", 100)
        .put("x", 200, region="use", content=other)
        .census("end", 90_000, {"x": {"frame": A, "overridden": [lost]}}, "euw", "use")
    )


def outage(seconds: int, bound: float, *, tail_s: int = 60) -> Events:
    book = Book({"rto_s": bound}).calls(0, 10_000).fault(10_000)
    book.calls(10_000, 10_000 + 1000 * seconds, took_ms=9_000)
    return book.calls(10_000 + 1000 * seconds, 10_000 + 1000 * (seconds + tail_s)).end(200_000)


def lost(promise: str, value: Any, *, at_ms: int = 9_900, level: str = "durable") -> Events:
    book = Book({promise: value}).put("x", 100).put("y", at_ms, level=level).fault(10_000)
    return book.census("end", 90_000, {"x": {"frame": A}}, "use").end()


def leases(gap_ms: int, epochs: tuple[int, int] = (1, 2)) -> Events:
    book = Book({"single_writer": True})
    book.put("x", 100, position=f"euw/open/{epochs[0]}/1")
    book.put("y", 200, region="use", position=f"use/open/{epochs[1]}/1")
    return book.put("z", 200 + gap_ms, position=f"euw/open/{epochs[0]}/2").end()


def digests(first: str, second: str, **more: Any) -> Events:
    book = kept("digests_equal").fault(10_000, 20_000)
    book.digests("kill", 30_000, euw=first, use=second)
    return book.digests("end", 90_000, **{"euw": "d", "use": "d", **more}).end()


def late(frame_of_end: str, *, gone: bool = True) -> Events:
    book = Book({"recovered_late_min": 1}).put("x", 100).fault(10_000)
    book.census("failover", 20_000, {} if gone else {"x": {"frame": A}}, "use")
    return book.census("end", 90_000, {"x": {"frame": frame_of_end}}, "euw", "use").end()


def reads(bound_ms: int, *, region: str, result: str, at_ms: int = 400) -> Events:
    book = Book({"stale_read_ms_max": bound_ms}).put("x", 100).put("x", 110, "refused")
    return (
        book.put("x", 900, "duplicate", region="apx", frame=A)
        .get("x", at_ms, result, region=region, frame=A)
        .end()
    )


def spread(name: str, bound: float, took_ms: float, count: int = 120) -> Events:
    book = Book({name: bound})
    book.add("declared", 0, incident="cutover").add(
        "phase", 60_000, incident="cutover", phase="verify"
    )
    return book.calls(0, count * 100, took_ms=took_ms).end()


def lags(age_ms: float, count: int) -> Events:
    book = Book({"lag_p99_ms_max": 1000})
    for number in range(count):
        book.add("lag", number, region="euw", peer="use", age_ms=age_ms)
    return book.end()


def search(found: int, control: int | None) -> Events:
    book = Book({"residency": True})
    more = {} if control is None else {"control_found": control}
    return book.add(
        "residency", 100, region="use", where="data", found=found, scanned_bytes=5, **more
    ).end()


def canaries(result: str, count: int) -> Events:
    book = Book({"canary": True}).put("x", 100)
    for number in range(count):
        book.put("x", 200 + number, result, frame=A, canary=True)
    return book.end()


def broken(events: Events, change: Callable[[Events], object]) -> Events:
    changed = copy.deepcopy(events)
    change(changed)
    return changed


def other_outcome() -> Events:
    book = kept("linearizable", "strict").put("x", 300, "duplicate", frame=A, outcome=X)
    return book.put("x", 400, "duplicate", frame=A, outcome=Y).end()


TABLE: list[tuple[str, str, Events]] = [
    ("complete", HOLDS, Book().end()),
    ("complete", FAILS, Book().end()[:1]),
    ("complete", FAILS, Book().add("error", 1, said="it broke").end()),
    ("effects", HOLDS, Book(faults=[{"id": "kill"}]).fault(1).end()),
    ("effects", HOLDS, Book().end()),
    ("effects", FAILS, Book(faults=[{"id": "kill"}]).end()),
    ("effects", FAILS, Book().fault(1, effects={"refused": 0}).end()),
    ("accounting", HOLDS, split("canary").end()),
    ("accounting", HOLDS, split("canary").put("q", 9).census("end", 90_000, {
        "q": {"frame": frame("use", 1), "overridden": [
            {"frame": frame("euw", 9), "content": content("q"), "kind": "duplicate"},
            {"frame": B, "content": Y, "kind": "displaced"}]}}, "apx").end()),
    ("accounting", UNPROVEN, Book().put("x", 100).end()),
    ("accounting", UNPROVEN, Book().census("end", 9, {}, "euw").end()),
    ("accounting", FAILS, split("canary", kind="duplicate").end()),
    ("accounting", FAILS, kept("canary").census(
        "end", 90_000, {"x": {"frame": B, "overridden": [
            {"frame": A, "content": X, "kind": "duplicate"}]}}, "use").end()),
    ("answers", HOLDS, kept("canary").put("x", 300, "duplicate", frame=A, outcome=X).end()),
    ("answers", UNPROVEN, Book().put("x", 9, "refused").end()),
    ("answers", FAILS, other_outcome()),
    ("answers", FAILS, kept("canary").put("x", 300, "duplicate", frame=A, content=Y, outcome=X).end()),
    ("phantom", HOLDS, kept("canary").end()),
    ("phantom", UNPROVEN, Book().put("x", 100).end()),
    ("phantom", FAILS, kept("canary").census("end", 90_000, {"ghost": {"frame": B}}, "use").end()),
    ("resurrected", HOLDS, split("canary").end()),
    ("resurrected", UNPROVEN, Book().put("x", 100).end()),
    ("resurrected", FAILS, split("canary").census(
        "failover", 80_000, {"x": {"frame": B, "overridden": [
            {"frame": A, "content": X, "kind": "displaced"}]}}, "use").end()),
    ("first_write", HOLDS, split("canary").end()),
    ("first_write", UNPROVEN, Book().put("x", 100).end()),
    ("first_write", FAILS, split("canary").census("end", 90_000, {"x": {"frame": B, "overridden": [
        {"frame": f"{A}.0011aaff", "content": X, "kind": "displaced"}]}}, "use").end()),
    ("no_loss_at_level", HOLDS, kept("no_loss_at_level", "durable").fault(10_000).end()),
    ("no_loss_at_level", UNPROVEN, kept("no_loss_at_level", "durable").end()),
    ("no_loss_at_level", UNPROVEN, kept("no_loss_at_level", "replicated").fault(10_000).end()),
    ("no_loss_at_level", UNPROVEN, Book({"no_loss_at_level": "durable"}).end()),
    ("no_loss_at_level", FAILS, lost("no_loss_at_level", "durable")),
    ("no_loss_at_level", FAILS, lost("no_loss_at_level", "replicated", level="replicated")),
    ("no_loss_end_to_end", HOLDS, kept("no_loss_end_to_end").call("x", 90).end()),
    ("no_loss_end_to_end", UNPROVEN, kept("no_loss_end_to_end").end()),
    ("no_loss_end_to_end", UNPROVEN, Book({"no_loss_end_to_end": True}).end()),
    ("no_loss_end_to_end", FAILS, lost("no_loss_end_to_end", value=True)),
    ("no_loss_end_to_end", FAILS, kept("no_loss_end_to_end").call("q", 90, result="queued").end()),
    ("linearizable", HOLDS, kept("linearizable", "strict").get("x", 300, frame=A).end()),
    ("linearizable", HOLDS, split("linearizable", "except_displaced").put("y", 9).end()),
    ("linearizable", HOLDS, Book({"linearizable": "strict"}).put(
        "x", 100, "unknown").get("x", 300, frame=A).get("x", 9, "unknown").end()),
    ("linearizable", UNPROVEN, split("linearizable", "except_displaced").end()),
    ("linearizable", UNPROVEN, kept("linearizable", "strict").get("q", 300, frame=B).end()),
    ("linearizable", HOLDS, kept("linearizable", "writes").get("x", 300, "absent").put(
        "q", 9, "refused", status=503).put("q", 90, "duplicate").end()),
    ("linearizable", HOLDS, kept("linearizable", "strict").put(
        "x", 300, "conflict", content=Y).end()),
    ("linearizable", FAILS, kept("linearizable", "strict").put(
        "x", 50, "conflict", content=Y).end()),
    ("linearizable", FAILS, split("linearizable", "strict").end()),
    ("linearizable", FAILS, kept("linearizable", "strict").get("x", 300, "absent").end()),
    ("digests_equal", HOLDS, digests("d", "d")),
    ("digests_equal", UNPROVEN, kept("digests_equal").fault(10_000, 20_000).digests(
        "end", 9, euw="d", use="d").end()),
    ("digests_equal", FAILS, digests("d", "e")),
    ("digests_equal", FAILS, digests("d", "d", use="e")),
    ("digests_equal", FAILS, kept("digests_equal").digests("end", 9, euw="d", use="d").census(
        "end", 90_000, {}, "apx").end()),
    ("digests_equal", HOLDS, kept("digests_equal", topology={"placements": {
        "open": {"regions": ["euw", "use"]}, "eu": {"regions": ["euw"]}}}).digests(
        "end", 9, euw="d", use="d").census(
        "end", 90_000, {"l": {"frame": frame("euw", 7), "placement": "eu"}}, "euw").end()),
    ("rto_s", HOLDS, outage(3, 5)),
    ("rto_s", HOLDS, outage(0, 5)),
    ("rto_s", FAILS, outage(7, 5)),
    ("rto_s", FAILS, outage(60, 5, tail_s=1)),
    ("rto_s", UNPROVEN, outage(3, 5, tail_s=20)),
    ("rto_s", UNPROVEN, Book({"rto_s": 5}).calls(0, 1000).end()),
    ("rpo_s", HOLDS, lost("rpo_s", 1)),
    ("rpo_s", HOLDS, kept("rpo_s", 1).fault(10_000).end()),
    ("rpo_s", UNPROVEN, kept("rpo_s", 1).end()),
    ("rpo_s", UNPROVEN, Book({"rpo_s": 1}).end()),
    ("rpo_s", FAILS, lost("rpo_s", 1, at_ms=8_000)),
    ("rpo_work_s", HOLDS, lost("rpo_work_s", 0)),
    ("rpo_work_s", UNPROVEN, kept("rpo_work_s", 1).end()),
    ("rpo_work_s", FAILS, Book({"rpo_work_s": 1}).put("x", 100).put("y", 1_200).fault(
        10_000).census("end", 90_000, {}, "use").end()),
    ("rpo_records", HOLDS, lost("rpo_records", 1)),
    ("rpo_records", HOLDS, lost("rpo_records", 1, at_ms=10_500)),
    ("rpo_records", UNPROVEN, kept("rpo_records", 0).end()),
    ("rpo_records", UNPROVEN, Book({"rpo_records": 0}).end()),
    ("rpo_records", FAILS, lost("rpo_records", 0)),
    ("single_writer", HOLDS, leases(-60)),
    ("single_writer", UNPROVEN, Book({"single_writer": True}).put("x", 9).end()),
    ("single_writer", FAILS, leases(60)),
    ("single_writer", FAILS, leases(-60, (1, 1))),
    ("canary", HOLDS, canaries("duplicate", 20)),
    ("canary", UNPROVEN, canaries("duplicate", 19)),
    ("canary", FAILS, canaries("new", 1)),
    ("displaced_max", HOLDS, split("displaced_max", 1).end()),
    ("displaced_max", UNPROVEN, Book({"displaced_max": 1}).end()),
    ("displaced_max", FAILS, split("displaced_max", 0).end()),
    ("displaced_min", HOLDS, split("displaced_min", 1).end()),
    ("displaced_min", UNPROVEN, kept("displaced_min", 1).end()),
    ("displaced_min", UNPROVEN, Book({"displaced_min": 1}).end()),
    ("displaced_min", FAILS, split("displaced_min", 1).census(
        "end", 90_000, {"x": {"frame": A}}, "apx").end()),
    ("recovered_late_min", HOLDS, late(A)),
    ("recovered_late_min", UNPROVEN, late(A, gone=False)),
    ("recovered_late_min", UNPROVEN, kept("recovered_late_min", 1).end()),
    ("recovered_late_min", FAILS, late(B)),
    ("stale_read_ms_max", HOLDS, reads(500, region="use", result="absent")),
    ("stale_read_ms_max", HOLDS, reads(500, region="use", result="present")),
    ("stale_read_ms_max", HOLDS, reads(500, region="euw", result="absent", at_ms=50)),
    ("stale_read_ms_max", UNPROVEN, Book({"stale_read_ms_max": 1}).get("x", 9, "refused").end()),
    ("stale_read_ms_max", FAILS, reads(200, region="use", result="absent")),
    ("stale_read_ms_max", FAILS, reads(500, region="euw", result="absent")),
    ("success_share_min", HOLDS, Book({"success_share_min": 0.9}).calls(0, 1000).end()),
    ("success_share_min", UNPROVEN, Book({"success_share_min": 0.9}).end()),
    ("success_share_min", FAILS, Book({"success_share_min": 0.9}).calls(0, 900, 2000).end()),
    ("errors_max", HOLDS, Book({"errors_max": 0}).put("x", 9, "refused", status=429).end()),
    ("errors_max", UNPROVEN, Book({"errors_max": 0}).end()),
    ("errors_max", FAILS, Book({"errors_max": 0}).put("x", 9, "refused", status=503).end()),
    ("errors_max", FAILS, Book({"errors_max": 0}).put("x", 9, "unknown", code="lost").end()),
    ("write_pause_ms_max", HOLDS, spread("write_pause_ms_max", 50, 10)),
    ("write_pause_ms_max", UNPROVEN, spread("write_pause_ms_max", 50, 10, count=4)),
    ("write_pause_ms_max", FAILS, spread("write_pause_ms_max", 50, 60, count=90)),
    ("write_pause_ms_max", FAILS, spread("write_pause_ms_max", 50, 60)),
    ("lag_p99_ms_max", HOLDS, lags(900, 100)),
    ("lag_p99_ms_max", UNPROVEN, lags(900, 99)),
    ("lag_p99_ms_max", FAILS, lags(1100, 100)),
    ("hlc_ahead_ms_max", HOLDS, Book({"hlc_ahead_ms_max": 500}).put("x", 9).put(
        "x", 9, "duplicate").end()),
    ("hlc_ahead_ms_max", HOLDS, Book({"hlc_ahead_ms_max": 500}).put(
        "x", 9, frame=f"{frame('euw', 400)}.0011aaff").end()),
    ("hlc_ahead_ms_max", UNPROVEN, Book({"hlc_ahead_ms_max": 500}).end()),
    ("hlc_ahead_ms_max", FAILS, Book({"hlc_ahead_ms_max": 500}).put(
        "x", 9, frame=frame("euw", 999)).end()),
    ("refused_min", HOLDS, Book({"refused_min": 1}).fault(1).put("x", 9, "refused", status=503).end()),
    ("refused_min", FAILS, Book({"refused_min": 1}).fault(1).put("x", 9, "refused").end()),
    ("refused_min", FAILS, Book({"refused_min": 1}).put("x", 9, "refused").fault(20).end()),
    ("residency", HOLDS, search(0, 3)),
    ("residency", UNPROVEN, search(0, None)),
    ("residency", UNPROVEN, Book({"residency": True}).end()),
    ("residency", FAILS, search(1, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "events"), TABLE)
def test_a_verdict(name: str, expected: str, events: Events) -> None:
    assert verdict(name, events).state == expected, verdict(name, events).said


def test_every_judge_has_all_of_its_answers_in_the_table() -> None:
    shown = {name: {state for judge, state, _ in TABLE if judge == name} for name in JUDGES}
    assert {name for name, states in shown.items() if not {HOLDS, FAILS} <= states} == set()
    certain = {"complete", "effects", "refused_min"}
    assert {name for name, states in shown.items() if UNPROVEN not in states} == certain


def test_every_promise_of_the_schema_has_a_judge() -> None:
    named = schema("scenario")["$defs"]["promises"]["properties"].keys()
    assert set(PROMISES) == named - {"steady_s", "evidence"}


def test_a_report_passes_only_if_every_verdict_holds() -> None:
    report = check(kept("rpo_records", 0).fault(10_000).end())
    assert report.passed
    assert not check(kept("rpo_records", 0).end()).passed, "no evidence is no pass"
    assert report.state_of("rpo_records") == HOLDS
    assert report.state_of("rto_s") == UNPROVEN


def test_a_promise_that_is_false_is_not_asked() -> None:
    assert [one.name for one in check(kept("canary", value=False).end()).verdicts] == list(ALWAYS)


def test_the_worst_client_decides_when_an_outage_is_over() -> None:
    events = outage(3, 5)
    quick = [e | {"client": "use", "at_ns": e["scheduled_ns"] + MS, "result": "recorded"}
             for e in events if e["event"] == "call"]  # fmt: skip
    report = check([*events[:-1], *quick, events[-1]])
    assert worst_outages(report.trace) == {"kill": 13_010 * MS}


def test_many_outages_give_a_percentile() -> None:
    book = Book({"rto_s": 5, "steady_s": 2})
    for number in range(20):
        begin = number * 10_000
        book.calls(begin, begin + 1_000, took_ms=9_000).calls(begin + 1_000, begin + 10_000)
        book.fault(begin, id=f"kill#{number}")
    assert "p95" in verdict("rto_s", book.end(300_000)).said


def test_evidence_is_what_the_scenario_asks_for() -> None:
    promises = {"evidence": {"acked": 2}}
    assert state("accounting", kept("evidence", promises["evidence"]).end()) == UNPROVEN


def test_what_an_outbox_brought_back_is_counted_apart() -> None:
    held = {"x": {"frame": B}}
    report = check(Book().put("x", 100).census("end", 90_000, held, "use").end())
    books = report.trace.books("end")
    assert books is not None
    assert (books.total("lost"), books.brought, books.lost_for_good.count) == (1, 1, 0)


def test_the_strongest_level_of_all_answers_counts() -> None:
    book = Book().put("x", 100).put("x", 300, "duplicate", frame=A, level="replicated")
    assert (
        check(book.put("x", 400, "duplicate", frame=A).end()).trace.records.acks[A].level
        == "replicated"
    )


def test_a_watermark_raises_the_level_of_what_it_covers() -> None:
    book = Book().put("x", 100, position="euw/open/1/7").put("y", 200, position="euw/open/1/8")
    book.put("z", 300, position="euw/open/2/1")
    for seq in (3, 7, 5):
        book.add("watermark", 400, region="euw", placement="open", region_epoch=1, seq=seq)
    levels = [ack.level for ack in check(book.end()).trace.records.acks.values()]
    assert levels == ["replicated", "durable", "durable"]


def test_books_that_do_not_add_up_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from fractal_lba_server.judge import accounts

    monkeypatch.setattr(accounts, "CLASSES", ("winner", "duplicate", "displaced", "lost", "acked"))
    assert state("accounting", kept("canary").end()) == FAILS


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{}"], "line 1 is not an event"),
        (["[]"], "line 1 is not an event"),
        (['{"event":"run","at_ns":0}', "x"], "line 2 is not JSON"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(lines: list[str], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        read_trace(lines)


def test_a_trace_starts_with_its_header() -> None:
    with pytest.raises(TraceError, match="first line"):
        check([{"event": "end", "at_ns": 0}])
    events = kept("canary").end()
    assert read_trace([json.dumps(event) for event in events]) == events


def test_in_flight_counts_what_was_under_way() -> None:
    trace = check(Book().put("x", 100).put("y", 104).end()).trace
    assert [trace.in_flight(at * MS) for at in (90, 97, 99, 100, 104)] == [0, 1, 2, 1, 0]
