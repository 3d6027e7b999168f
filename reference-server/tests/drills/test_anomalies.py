"""Every anomaly that has a name has a trace that shows it, and one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from traces import MS, Book, S, content, frame

from fractal_lba_server.judge.anomalies import LOOKS, anomalies
from fractal_lba_server.judge.check import Trace, check
from fractal_lba_server.judge.summary import outcome

Events = list[dict[str, Any]]
A, B = frame("euw", 100), frame("use", 200)
X, Y = content("x"), content("y")


def kept(**held: str) -> Book:
    """Write one acknowledged write, and what euw and use hold of it."""
    book = Book().put("x", 100)
    for region in ("euw", "use"):
        book.census("end", 90_000, {"x": {"frame": held.get(region, A)}}, region)
    return book


def split(kind: str = "displaced", other: str = Y) -> Events:
    lost = {"frame": B, "content": other, "kind": kind}
    book = Book().put("x", 100).put("x", 200, region="use", content=other)
    return book.census("end", 90_000, {"x": {"frame": A, "overridden": [lost]}}, "euw", "use").end()


def survivors(*, back: bool) -> Events:
    book = Book().put("x", 100).census("failover", 50_000, {}, "use")
    return book.census("end", 90_000, {"x": {"frame": A}} if back else {}, "use").end()


def overridden(*, stands: bool) -> Events:
    book = Book().put("x", 100)
    down = {"x": {"frame": B, "overridden": [{"frame": A, "content": X, "kind": "duplicate"}]}}
    book.census("failover", 50_000, down, "use")
    return book.census("end", 90_000, {"x": {"frame": A}} if stands else down, "use").end()


def twice(*, refused: bool) -> Events:
    """Have a region accept an id again, although it still holds it."""
    more = {} if refused else {"frame": frame("euw", 300)}
    book = Book().put("x", 100).put("x", 300, "duplicate" if refused else "new", **more)
    held = {"frame": A, "overridden": [
        {"frame": frame("euw", 300), "content": X, "kind": "duplicate"}]}  # fmt: skip
    return book.census("end", 90_000, {"x": held}, "euw", "use").end()


def reads(result: str, region: str, at_ms: int = 400) -> Events:
    return kept().get("x", at_ms, result, region=region, frame=A).end()


def told(outcome: str) -> Events:
    book = kept().put("x", 300, "duplicate", frame=A, outcome=X)
    return book.put("x", 400, "duplicate", frame=A, outcome=outcome).end()


def audited(*numbers: int) -> Events:
    book = Book().put("x", 100, position="euw/open/1/7").put("y", 200, position="euw/open/1/8")
    for number in numbers:
        book.add(
            "audit", 300, region="euw", placement="open", region_epoch=1, first=number, count=1
        )
    return book.end()


def roots(*shown: tuple[str, int, str]) -> Events:
    book = Book()
    for by, size, root in shown:
        book.add("root", 100, log="euw", by=by, size=size, root=root * 64, shown_to="web")
    return book.end()


def searched(found: int) -> Events:
    return Book().add(
        "residency", 100, region="use", where="data", found=found, scanned_bytes=5, control_found=1
    ).end()  # fmt: skip


TABLE: dict[str, tuple[int, Events, Events]] = {
    "lost": (1, kept(euw=B, use=B).end(), kept().end()),
    "displaced": (1, split(), split("duplicate", X)),
    "recovered_late": (1, survivors(back=True), survivors(back=False)),
    "recovered_by_client": (1, kept(euw=B, use=B).end(), kept().end()),
    "double_winner": (1, kept(use=B).end(), kept().end()),
    "divergence": (1, kept(use=B).end(), kept(euw=B, use=B).end()),
    "phantom": (
        1, kept().census("end", 90_000, {"ghost": {"frame": B}}, "use").end(), kept().end()
    ),
    "stale_read": (1, reads("absent", "use"), reads("present", "use")),
    "wrong_duplicate_answer": (1, told(Y), told(X)),
    "audit_gap": (1, audited(7), audited(7, 8)),
    "equivocation": (
        1, roots(("a", 5, "0"), ("a", 5, "1"), ("a", 5, "1")),
        roots(("a", 5, "0"), ("a", 6, "1"), ("b", 5, "2"), ("a", 5, "0")),
    ),
    "resurrected": (1, overridden(stands=True), overridden(stands=False)),
    "residency_breach": (2, searched(2), searched(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_an_anomaly_is_counted_and_a_clean_trace_shows_none(name: str) -> None:
    count, shows, clean = TABLE[name]
    assert anomalies(Trace(shows)).counts[name] == count
    assert anomalies(Trace(clean)).counts[name] == 0


def test_every_anomaly_has_a_trace() -> None:
    assert set(TABLE) == set(LOOKS)


def test_a_region_that_accepts_twice_what_it_holds_has_a_double_winner() -> None:
    assert anomalies(Trace(twice(refused=False))).counts["double_winner"] == 1
    assert anomalies(Trace(twice(refused=True))).counts["double_winner"] == 0


def test_a_write_that_a_lost_region_had_taken_is_no_double_winner() -> None:
    events = Book().put("x", 100).put("x", 300, frame=frame("euw", 300))
    held = {"x": {"frame": frame("euw", 300)}}
    assert anomalies(Trace(events.census("end", 9, held, "euw").end())).counts["double_winner"] == 0


def test_a_stale_read_says_how_stale_it_was() -> None:
    for region in ("euw", "use"):
        assert anomalies(Trace(reads("absent", region, 405))).stale_read_ms_max == 300
    assert anomalies(Trace(reads("absent", "use", 50))).counts["stale_read"] == 0


def test_regions_that_differ_after_a_heal_and_at_the_end_diverge_twice() -> None:
    book = kept(use=B).digests("kill", 50_000, euw="a", use="b").digests("end", 9, euw="a", use="b")
    assert anomalies(Trace(book.end())).counts["divergence"] == 2


def test_what_nobody_looked_for_is_not_zero() -> None:
    bare = anomalies(Trace(Book().put("x", 100).end()))
    assert bare.counts == {"wrong_duplicate_answer": 0}
    assert set(bare.not_judged) == set(LOOKS) - {"wrong_duplicate_answer"}
    assert bare.not_judged["equivocation"] == "nothing publishes roots yet"
    assert bare.stale_read_ms_max is None


def test_runs_of_records_show_what_ranges_can_show() -> None:
    book = Book().add(
        "flow", 9_000, first_ns=0, client="web", region="euw", placement="open", region_epoch=1,
        first=1, count=10, bytes=10, result="new",
    ).add("census", 90_000, census="end", region="use", keys=0)  # fmt: skip
    for first, name in ((1, "winner"), (2, "displaced"), (30, "winner")):
        book.add(
            "span", 90_000, census="end", region="use", of="euw", placement="open",
            region_epoch=1, first=first, count=1, class_=name,
        )  # fmt: skip
    found = anomalies(Trace(book.end()))
    assert {name: n for name, n in found.counts.items() if n} == {
        "lost": 8, "displaced": 1, "phantom": 1,
    }  # fmt: skip
    assert {"double_winner", "stale_read", "wrong_duplicate_answer"} <= found.not_judged.keys()


def test_an_outcome_counts_anomalies_and_names_what_was_not_judged() -> None:
    told = outcome(check(kept(use=B).fault(10_000).end()))
    assert told["anomalies"]["double_winner"] == 1
    assert told["not_judged"]["audit_gap"] == "nothing writes an audit log yet"
    assert (told["simulated_s"], told["events"]) == (100 * S / 1e9, 9)
    assert told["incidents"][0]["disrupted_s"] == 10_000 * MS / 1e9
