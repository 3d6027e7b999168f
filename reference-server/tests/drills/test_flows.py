"""Runs of records are judged as the records that they stand for."""

from __future__ import annotations

import random
from typing import Any

import jsonschema_rs
import pytest
from expansion import REGIONS, history
from traces import MS, Book, S

from fractal_lba_server.contract import schema
from fractal_lba_server.judge.callers import ListedCalls, Stretches
from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN, check
from fractal_lba_server.judge.flows import answer_ns, answered
from fractal_lba_server.judge.parts import END, FAILOVER, LEVELS
from fractal_lba_server.judge.ranges import Growing, Ranges
from fractal_lba_server.judge.trace import Trace

LINE = jsonschema_rs.Draft202012Validator(schema("trace"))
Events = list[dict[str, Any]]


def numbers(chance: random.Random) -> set[int]:
    return {chance.randint(0, 20) for _ in range(chance.randint(0, 12))}


def ranges(members: set[int]) -> Ranges:
    return Ranges((n, n + 1) for n in members)


@pytest.mark.parametrize("seed", range(3))
def test_ranges_are_sets(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(2_000):
        a, b = numbers(chance), numbers(chance)
        assert ranges(a) | ranges(b) == ranges(a | b)
        assert ranges(a) & ranges(b) == ranges(a & b)
        assert ranges(a) - ranges(b) == ranges(a - b)
        assert (len(ranges(a)), ranges(a).first) == (len(a), min(a, default=None))
        assert ranges(a).shifted(3) == ranges({n + 3 for n in a})
        assert bool(ranges(a)) == bool(a)
    assert hash(ranges({1, 2})) == hash(Ranges([(1, 3)]))
    assert repr(ranges({1, 2})) == "Ranges([(1, 3)])"


@pytest.mark.parametrize("seed", range(3))
def test_a_growing_set_tells_what_is_new(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(300):
        grown, known = Growing(), set[int]()
        for _ in range(12):
            begin = chance.randint(0, 30)
            more = set(range(begin, begin + chance.randint(1, 9)))
            new = grown.add(min(more), max(more) + 1)
            assert Ranges(new) == ranges(more - known)
            known |= more
            assert grown.ranges() == ranges(known)


def test_answers_of_a_flow_are_evenly_spaced() -> None:
    chance = random.Random(1)
    for _ in range(2_000):
        count = chance.randint(1, 9)
        first = chance.randint(0, 50)
        last = first if count == 1 else first + chance.randint(0, 40)
        flow = {"first_ns": first, "at_ns": last, "count": count}
        moments = [answer_ns(flow, place) for place in range(count)]
        assert (moments[0], moments[-1]) == (first, last)
        for at in range(110):
            assert answered(flow, at) == sum(moment <= at for moment in moments)


def facts(events: Events) -> dict[str, Any]:
    trace = Trace(events)
    found: dict[str, Any] = {}
    for name in (END, FAILOVER):
        books = trace.books(name)
        if books is not None:
            counts = books.faults.count, books.brought, books.lost_for_good.count
            found[name] = (dict(sorted(books.by_region.items())), *counts)
    found["levels"] = [(n, lost.count) for n, lost in map(trace.at_level, LEVELS)]
    found["gone"] = trace.gone
    found["late"] = trace.late()
    found["phantoms"] = trace.phantoms()[1].count
    found["resurrected"] = trace.resurrected()[1].count
    found["hidden"] = trace.hidden() is None
    found["unequal"] = trace.unequal()
    found["writers"] = trace.writers()
    found["canaries"] = trace.canaries()
    found["results"] = {name: n for name, n in sorted(trace.results().items()) if n}
    found["refused"] = trace.refused()
    found["in_flight"] = [trace.in_flight(at * S // 7) for at in range(60)]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_runs_are_judged_like_their_records(seed: int) -> None:
    seen: dict[str, int] = {}
    for turn in range(250):
        both = history(seed * 1_000 + turn)
        runs, single = facts(both.runs.end(200_000)), facts(both.single.end(200_000))
        # A standing record that overrides those of flows is itself in no flow here.
        compared = single.keys() - ({"unequal"} if both.overrides else set())
        for name in sorted(compared):
            assert runs[name] == single[name], (seed * 1_000 + turn, name)
        rows, faults, brought, for_good = single[END]
        seen["faults"] = seen.get("faults", 0) + faults
        seen["brought"] = seen.get("brought", 0) + brought
        seen["for good"] = seen.get("for good", 0) + for_good
        for name in ("winner", "duplicate", "displaced", "lost"):
            seen[name] = seen.get(name, 0) + sum(row[name] for row in rows.values())
        seen["gone"] = seen.get("gone", 0) + sum(loss.records for _, loss in single["gone"])
        seen["late"] = seen.get("late", 0) + (single["late"] or (0, 0))[1]
        seen["phantoms"] = seen.get("phantoms", 0) + single["phantoms"]
        seen["resurrected"] = seen.get("resurrected", 0) + single["resurrected"]
        seen["unequal"] = seen.get("unequal", 0) + len(runs["unequal"])
    assert min(seen.values()) > 10, f"the histories say nothing of {seen}"


def test_random_traces_of_runs_are_valid_lines() -> None:
    for seed in range(20):
        for event in history(seed).runs.end(200_000):
            LINE.validate(event)


def stretches(chance: random.Random) -> Events:
    found: Events = []
    at = 0
    for _ in range(chance.randint(1, 9)):
        if chance.random() < 0.15:
            at += chance.randint(1, 4) * 100 * MS
        count = chance.randint(50, 300)
        good = chance.choice((0, 0, count, count, count, count // 2))
        end = at + count * chance.choice((20, 100)) * MS
        found.append({"from_ns": at, "at_ns": end, "count": count, "good": good, "client": "c"})
        at = end
    return found


def written_out(of: Events) -> Events:
    calls = []
    for one in of:
        count, good, begin = one["count"], one["good"], one["from_ns"]
        for place in range(count):
            due = begin + place * (one["at_ns"] - begin) // count
            is_good = (place + 1) * good // count > place * good // count
            result = "recorded" if is_good else "failed"
            calls.append({"scheduled_ns": due, "at_ns": due, "result": result})
    return calls


NEAR_NS = 700 * MS
"""Some calls: of a share that is constant nobody knows which single call was good."""


def moved(of: Events, window: dict[str, int]) -> list[int | None]:
    """Recover with windows that begin or last a few calls earlier or later."""
    by = (-250 * MS, 0, 250 * MS)
    return [
        Stretches(of).recovered_at(
            **window | {"disrupted_ns": window["disrupted_ns"] + a,
                        "steady_ns": window["steady_ns"] + b,
                        "end_ns": window["end_ns"] + c}
        )
        for a in by for b in by for c in by
    ]  # fmt: skip


def near(a: int | None, b: int | None) -> bool:
    return a == b if a is None or b is None else abs(a - b) <= NEAR_NS


@pytest.mark.parametrize("seed", range(4))
def test_stretches_of_calls_recover_as_their_calls_do(seed: int) -> None:
    chance = random.Random(seed)
    shown = {"late": 0, "at once": 0, "never": 0}
    exact = 0
    for turn in range(200):
        of = stretches(chance)
        begin = chance.randint(0, of[-1]["at_ns"] // 2)
        until = chance.choice((of[-1]["at_ns"], of[-1]["at_ns"] // 100 * 90 + 1))
        window = {
            "disrupted_ns": begin, "until_ns": until,
            "steady_ns": chance.choice((2, 5)) * S, "end_ns": until - 100 * MS,
        }  # fmt: skip
        single = ListedCalls(written_out(of), S).recovered_at(**window)
        runs = Stretches(of).recovered_at(**window)
        exact += near(single, runs)
        assert any(near(single, one) for one in moved(of, window)), (seed, turn, single, runs)
        shown["never" if single is None else "at once" if single == begin else "late"] += 1
    assert min(shown.values()) > 10, shown
    assert exact > 185, "few windows end at a call that decides"


FLOW = {
    "first_ns": 0, "client": "web", "region": "euw", "placement": "open", "region_epoch": 1,
    "first": 1, "count": 100, "bytes": 80_000, "result": "new",
}  # fmt: skip
"""One answer each 100 ms, from 0.1 s on."""


def flows(promises: dict[str, Any], *more: dict[str, Any]) -> Book:
    book = Book(promises).add("flow", 10_000, **FLOW | {"first_ns": 100 * MS})
    for members in more:
        book.add("flow", 20_000, **FLOW | {"first_ns": 11 * S} | members)
    return book


def held(book: Book, first: int, count: int, *regions: str, **members: Any) -> Book:
    for region in regions or ("euw", "use"):
        book.add("census", 90_000, census="end", region=region, keys=count)
        base = {"of": "euw", "placement": "open", "region_epoch": 1, "class": "winner"}
        book.add(
            "span", 90_000, census="end", region=region, first=first, count=count,
            **base | {name.rstrip("_"): value for name, value in members.items()},
        )  # fmt: skip
    return book


def kept(name: str, value: Any = True) -> Book:  # noqa: FBT002 - most promises are flags
    return held(flows({name: value}), 1, 100).fault(10_000)


def torn(name: str, value: Any, *more: dict[str, Any], left: int = 90) -> Book:
    """Lose the last numbers of the flow; what was sent again stands in the other region."""
    book = held(flows({name: value}, *more).fault(10_500), 1, left, "use")
    if more:
        first, count = more[0]["first"], more[0]["count"]
        book.add(
            "span", 90_000, census="end", region="use", of="use", placement="open",
            region_epoch=1, first=first, count=count, class_="winner",
        )  # fmt: skip
    return book


AGAIN = {"region": "use", "first": 7, "count": 10, "again": {
    "region": "euw", "region_epoch": 1, "first": 91}}  # fmt: skip


def outage(bound: float, failed_s: int, *, tail_s: int = 60) -> Events:
    book = Book({"rto_s": bound}).fault(10_000)
    book.add("calls", 10_000, from_ns=0, client="web", count=1000, good=1000)
    over = 10_000 + 1_000 * failed_s
    if failed_s:
        book.add("calls", over, from_ns=10 * S, client="web", count=100 * failed_s, good=0)
    return book.add(
        "calls", over + 1_000 * tail_s, from_ns=over * MS, client="web", count=100 * tail_s,
        good=100 * tail_s,
    ).end(200_000)  # fmt: skip


def box(book: Book, waiting: int = 0) -> Events:
    return book.add("outbox", 95_000, client="web", waiting=waiting).end()


def late(*, back: bool) -> Events:
    book = flows({"recovered_late_min": 1}).fault(10_000)
    book.add("census", 50_000, census="failover", region="use", keys=0)
    return held(book, 1, 100 if back else 50, "use").end()


def epochs(at_ms: int) -> Events:
    other = {"region": "use", "region_epoch": 2, "first_ns": at_ms * MS}
    return flows({"single_writer": True}, other).end()


def digests(*regions: str) -> Events:
    book = held(flows({"digests_equal": True}), 1, 100, *regions)
    book.add("census", 90_000, census="end", region="apx", keys=0)
    return book.digests("end", 90_000, euw="d", use="d").end()


def refusals(name: str, value: Any, **members: Any) -> Events:
    told = {"result": "refused", "first": 0} | members
    return flows({name: value}, told).fault(15_500).end()


def displaced(book: Book, *, shown: bool = True) -> Events:
    held(book, 1, 100, "euw", class_="displaced")
    held(book, 1, 100, "use", class_="displaced") if shown else book.add(
        "census", 90_000, census="end", region="use", keys=0
    )
    return book.end()


TABLE: list[tuple[str, str, Events]] = [
    ("accounting", HOLDS, kept("canary").end()),
    ("accounting", UNPROVEN, flows({}).end()),
    ("accounting", FAILS, held(flows({}, {"first": 90, "count": 20}), 1, 100).end()),
    ("accounting", FAILS, held(held(flows({}), 1, 9, "euw"), 1, 1, "use", class_="displaced").end()),
    ("phantom", HOLDS, kept("canary").end()),
    ("phantom", FAILS, held(flows({}), 1, 101).end()),
    ("resurrected", HOLDS, kept("canary").end()),
    ("resurrected", FAILS, held(flows({}).add(
        "census", 8, census="failover", region="use", keys=0).add(
        "span", 8, census="failover", region="use", of="euw", placement="open", region_epoch=1,
        first=3, count=1, class_="displaced"), 1, 100).end()),
    ("no_loss_at_level", HOLDS, kept("no_loss_at_level", "durable").end()),
    ("no_loss_at_level", UNPROVEN, kept("no_loss_at_level", "replicated").end()),
    ("no_loss_at_level", FAILS, torn("no_loss_at_level", "durable").end()),
    ("no_loss_at_level", HOLDS, torn("no_loss_at_level", "replicated").add(
        "watermark", 9, region="euw", placement="open", region_epoch=1, seq=90).end()),
    ("no_loss_at_level", FAILS, torn("no_loss_at_level", "replicated").add(
        "watermark", 9, region="euw", placement="open", region_epoch=1, seq=91).end()),
    ("no_loss_end_to_end", HOLDS, box(kept("no_loss_end_to_end"))),
    ("no_loss_end_to_end", HOLDS, box(torn("no_loss_end_to_end", True, AGAIN))),
    ("no_loss_end_to_end", UNPROVEN, kept("no_loss_end_to_end").end()),
    ("no_loss_end_to_end", FAILS, box(torn("no_loss_end_to_end", True))),
    ("no_loss_end_to_end", FAILS, box(torn("no_loss_end_to_end", True, AGAIN, left=89))),
    ("no_loss_end_to_end", FAILS, box(kept("no_loss_end_to_end"), waiting=1)),
    ("linearizable", UNPROVEN, kept("linearizable", "strict").end()),
    ("stale_read_ms_max", UNPROVEN, kept("stale_read_ms_max", 5).end()),
    ("hlc_ahead_ms_max", UNPROVEN, kept("hlc_ahead_ms_max", 5).end()),
    ("write_pause_ms_max", UNPROVEN, kept("write_pause_ms_max", 5).end()),
    ("digests_equal", HOLDS, digests("euw", "use", "apx")),
    ("digests_equal", FAILS, digests("euw", "use")),
    ("rto_s", HOLDS, outage(5, 4)),
    ("rto_s", HOLDS, outage(0, 0)),
    ("rto_s", FAILS, outage(5, 6)),
    ("rto_s", UNPROVEN, outage(5, 4, tail_s=20)),
    ("rto_s", FAILS, outage(5, 60, tail_s=1)),
    ("rpo_s", HOLDS, torn("rpo_s", 1.4).end()),
    ("rpo_s", FAILS, torn("rpo_s", 1.3).end()),
    ("rpo_s", HOLDS, kept("rpo_s", 0).end()),
    ("rpo_work_s", HOLDS, torn("rpo_work_s", 0.9).end()),
    ("rpo_work_s", FAILS, torn("rpo_work_s", 0.89).end()),
    ("rpo_records", HOLDS, torn("rpo_records", 10).end()),
    ("rpo_records", FAILS, torn("rpo_records", 9).end()),
    ("single_writer", HOLDS, epochs(10_001)),
    ("single_writer", FAILS, epochs(9_999)),
    ("single_writer", UNPROVEN, flows({"single_writer": True}).end()),
    ("canary", HOLDS, flows({"canary": True}, {"result": "duplicate", "canary": True}).end()),
    ("canary", FAILS, flows({"canary": True}, {"first": 500, "canary": True}).end()),
    ("displaced_max", HOLDS, displaced(flows({"displaced_max": 100}))),
    ("displaced_max", FAILS, displaced(flows({"displaced_max": 99}))),
    ("displaced_min", HOLDS, displaced(flows({"displaced_min": 100}))),
    ("displaced_min", UNPROVEN, kept("displaced_min", 1).end()),
    ("displaced_min", FAILS, displaced(flows({"displaced_min": 1}), shown=False)),
    ("recovered_late_min", HOLDS, late(back=True)),
    ("recovered_late_min", HOLDS, late(back=False)),
    ("success_share_min", HOLDS, [e if e["event"] != "run" else e | {"scenario": {
        "promises": {"success_share_min": 0.9}}} for e in outage(5, 4)]),
    ("success_share_min", FAILS, [e if e["event"] != "run" else e | {"scenario": {
        "promises": {"success_share_min": 0.99}}} for e in outage(5, 4)]),
    ("errors_max", HOLDS, refusals("errors_max", 0, status=429)),
    ("errors_max", HOLDS, refusals("errors_max", 100)),
    ("errors_max", UNPROVEN, refusals("errors_max", 0)),
    ("errors_max", FAILS, refusals("errors_max", 0, status=503)),
    ("errors_max", FAILS, refusals("errors_max", 99, result="unknown")),
    ("refused_min", HOLDS, refusals("refused_min", 50, status=503)),
    ("refused_min", FAILS, refusals("refused_min", 51, status=503)),
    ("refused_min", FAILS, refusals("refused_min", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "events"), TABLE)
def test_a_verdict_on_runs(name: str, expected: str, events: Events) -> None:
    for event in events:
        LINE.validate(event)
    verdict = next(one for one in check(events).verdicts if one.name == name)
    assert verdict.state == expected, verdict.said


def test_a_trace_of_runs_alone_is_not_asked_for_contents() -> None:
    assert "answers" not in [one.name for one in check(kept("canary").end()).verdicts]
    both = check(kept("canary").put("x", 9).end())
    assert "answers" in [one.name for one in both.verdicts]


def test_several_stretches_of_one_client_at_one_time_add_up() -> None:
    half = [{"from_ns": 0, "at_ns": 60 * S, "count": 600, "good": 600}]
    bad = [{"from_ns": 10 * S, "at_ns": 20 * S, "count": 1_000, "good": 0}]
    window = {"disrupted_ns": 10 * S, "until_ns": 60 * S, "steady_ns": 5 * S, "end_ns": 60 * S}
    at = Stretches([*half, *bad]).recovered_at(**window)
    # 1 bad call each 10 ms and 10 good ones a second: 99 % once 5 bad ones, 5 ms, are in sight.
    assert at is not None
    assert 19.99 < at / S < 20


def test_rare_good_calls_are_no_recovery() -> None:
    rare = [{"from_ns": 0, "at_ns": 100 * S, "count": 10_000, "good": 9_990}]
    late = [{"from_ns": 100 * S, "at_ns": 200 * S, "count": 40, "good": 20, "took_ns": 7}]
    good = [{"from_ns": 200 * S, "at_ns": 300 * S, "count": 1_000, "good": 1_000, "took_ns": 7}]
    window = {"disrupted_ns": 99 * S, "until_ns": 300 * S, "steady_ns": 10 * S, "end_ns": 300 * S}
    at = Stretches([*rare, *late, *good]).recovered_at(**window)
    assert at == 200 * S + 7


def test_regions_are_those_of_the_model() -> None:
    assert sorted(REGIONS) == list(REGIONS)
