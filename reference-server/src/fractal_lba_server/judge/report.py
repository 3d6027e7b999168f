"""Say for people what a trace shows: verdicts first, then time, loss, books, bounds, command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .check import FAILS, HOLDS, Report
from .parts import CLASSES, END
from .recovery import PHASES, percentile, percentile_needs, zero_bound
from .summary import incident_rows, outcome
from .trace import Trace

MARKS: Final = {HOLDS: "holds ", FAILS: "FAILS ", "not enough evidence": "?     "}
OUTAGES_SHOWN: Final = 10
"""Outages printed one by one; of more the percentiles say enough."""


def lines(report: Report) -> Iterator[str]:
    """Write a report."""
    trace = report.trace
    header = trace.header
    control = ", negative control" if header["control"] else ""
    yield f"{trace.scenario['name']}: {trace.scenario.get('title', '')}{control}"
    yield ""
    for verdict in report.verdicts:
        yield f"  {MARKS[verdict.state]} {verdict.name:<20} {verdict.said}"
    yield ""
    yield from _recovery(trace)
    yield from _loss(trace)
    yield from _books(trace)
    yield from _bounds(trace)
    yield f"scenario {header['scenario_digest'][:16]}, seed {header['seed']}, engine " + (
        f"{header['engine']}, " + ", ".join(f"{n} {v}" for n, v in header["versions"].items())
    )
    if "command" in header:
        yield f"again: {header['command']}"


def _recovery(trace: Trace) -> Iterator[str]:
    rows = [row for row in incident_rows(trace) if row["clients"]]
    if not rows:
        return
    yield "recovery of clients, s from the disruption (from the declaration)"
    for row in rows[:OUTAGES_SHOWN]:
        if row["rto_s"] is None:
            yield f"  {row['id']}: not within the trace"
            continue
        declared = "-" if row["rto_declared_s"] is None else f"{row['rto_declared_s']:.2f}"
        parts = [f"{name} {row['phases'][name]:.2f}" for name in PHASES if row["phases"][name]]
        split = f" = {' + '.join(parts)}" if parts else ""
        later = "".join(f"; {name} at {at:.2f}" for name, at in row["later"].items())
        yield f"  {row['id']}: {row['rto_s']:.2f} ({declared}){split}{later}"
    took = [row["rto_s"] for row in rows if row["rto_s"] is not None]
    if len(took) >= percentile_needs(0.95):
        yield (
            f"  {len(took)} outages: median {percentile(took, 0.5):.2f}, "
            f"p95 {percentile(took, 0.95):.2f}, worst {max(took):.2f}"
        )
    yield ""


def _loss(trace: Trace) -> Iterator[str]:
    for one, loss in trace.gone or ():
        if loss.records:
            yield (
                f"RPO of {one.id}: {loss.age_s(one.injected_ns):.3f} s ({loss.work_s:.3f} s of "
                f"work), {loss.records} records, {loss.bytes} bytes"
            )


def _books(trace: Trace) -> Iterator[str]:
    books = trace.books(END)
    if books is None:
        return
    names = ("acked", *CLASSES)
    yield "books       " + "".join(f"{name:>11}" for name in names)
    for region, row in sorted(books.by_region.items()):
        yield f"  {region:<10}" + "".join(f"{row[name]:>11}" for name in names)
    yield f"  {'all':<10}" + "".join(f"{books.total(name):>11}" for name in names)
    _, late = trace.late() or (0, 0)
    yield f"  recovered late {late}, brought by an outbox {books.brought}"
    conflicts = trace.results()["conflict"]
    yield f"  conflicts answered {conflicts}, writes displaced {books.total('displaced')}"
    yield ""


def _bounds(trace: Trace) -> Iterator[str]:
    books = trace.books(END)
    if books is None or books.total("lost") or not trace.incidents:
        return
    kills, records = len(trace.incidents), books.total("acked")
    flying = sum(trace.in_flight(one.injected_ns) for one in trace.incidents)
    yield (
        f"nothing lost in {kills} faults and {records} acknowledged records, {flying} in flight: "
        f"with 95 % confidence the rate is below {zero_bound(kills):.2%} a fault "
        f"and {zero_bound(records):.4%} a record"
    )


def document(report: Report) -> dict[str, Any]:
    """Give the same for programs."""
    name = report.trace.scenario["name"]
    return {"scenario": name, "passed": report.passed} | outcome(report)
