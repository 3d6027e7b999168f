"""Say for people what a trace shows: verdicts first, then time, loss, books, bounds, command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .accounts import CLASSES
from .check import FAILS, HOLDS, Incident, Report, Trace
from .recovery import PHASES, percentile, percentile_needs, phase_lengths, zero_bound
from .verdicts import gone, worst_outages

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
    rows = recoveries(trace)
    if not rows:
        return
    yield "recovery of clients, s from the disruption (from the declaration)"
    for row in rows[:OUTAGES_SHOWN]:
        if row["rto_s"] is None:
            yield f"  {row['id']}: not within the trace"
            continue
        declared = "-" if row["declared_s"] is None else f"{row['declared_s']:.2f}"
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


def recoveries(trace: Trace) -> list[dict[str, Any]]:
    """Give for every fault the time to recovery on both clocks, split into phases."""
    outages = worst_outages(trace)
    return [
        _recovery_of(trace, one, outages[one.id]) for one in trace.incidents if one.id in outages
    ]


def _recovery_of(trace: Trace, one: Incident, recovered_ns: int | None) -> dict[str, Any]:
    declared = [e["at_ns"] for e in trace.of("declared") if e["incident"] == one.id]
    ends: dict[str, int] = {}
    for event in trace.of("phase"):
        if event["incident"] == one.id:
            ends.setdefault(event["phase"], event["at_ns"])
    row: dict[str, Any] = {
        "id": one.id,
        "rto_s": None,
        "declared_s": None,
        "phases": {},
        "later": {},
    }
    if recovered_ns is None:
        return row
    lengths = phase_lengths(ends, disrupted_ns=one.injected_ns, recovered_ns=recovered_ns)
    row["rto_s"] = (recovered_ns - one.injected_ns) / 1e9
    if declared:
        row["declared_s"] = max(0, recovered_ns - declared[0]) / 1e9
    row["phases"] = {name: length / 1e9 for name, length in lengths.items()}
    row["later"] = {
        name: (at - one.injected_ns) / 1e9 for name, at in ends.items() if at > recovered_ns
    }
    return row


def _loss(trace: Trace) -> Iterator[str]:
    for one, acks in gone(trace) or ():
        if acks:
            oldest_s = max(0, one.injected_ns - min(ack.at_ns for ack in acks)) / 1e9
            work_s = (max(a.at_ns for a in acks) - min(a.at_ns for a in acks)) / 1e9
            yield (
                f"RPO of {one.id}: {oldest_s:.3f} s ({work_s:.3f} s of work), {len(acks)} records, "
                f"{sum(ack.size for ack in acks)} bytes"
            )


def _books(trace: Trace) -> Iterator[str]:
    account = trace.end
    if account is None:
        return
    names = ("acked", *CLASSES)
    yield "books       " + "".join(f"{name:>11}" for name in names)
    for region, row in sorted(account.by_region.items()):
        yield f"  {region:<10}" + "".join(f"{row[name]:>11}" for name in names)
    yield f"  {'all':<10}" + "".join(f"{account.total(name):>11}" for name in names)
    late = _recovered_late(trace)
    yield f"  recovered late {late}, brought by an outbox {len(account.by_client)}"
    conflicts = sum(put["result"] == "conflict" for put in trace.of("put"))
    yield f"  conflicts answered {conflicts}, writes displaced {account.total('displaced')}"
    yield ""


def _recovered_late(trace: Trace) -> int:
    before, after = trace.account("failover"), trace.end
    if before is None or after is None:
        return 0
    return sum(
        name == "lost" and after.class_of.get(frame) != "lost"
        for frame, name in before.class_of.items()
    )


def _bounds(trace: Trace) -> Iterator[str]:
    account = trace.end
    if account is None or account.total("lost") or not trace.incidents:
        return
    kills, records = len(trace.incidents), account.total("acked")
    flying = sum(trace.in_flight(one.injected_ns) for one in trace.incidents)
    yield (
        f"nothing lost in {kills} faults and {records} acknowledged records, {flying} in flight: "
        f"with 95 % confidence the rate is below {zero_bound(kills):.2%} a fault "
        f"and {zero_bound(records):.4%} a record"
    )


def document(report: Report) -> dict[str, Any]:
    """Give the same for programs."""
    trace, account = report.trace, report.trace.end
    return {
        "scenario": trace.scenario["name"],
        "control": trace.header["control"],
        "seed": trace.header["seed"],
        "digest": trace.header["scenario_digest"],
        "passed": report.passed,
        "verdicts": [verdict._asdict() for verdict in report.verdicts],
        "recovery": recoveries(trace),
        "faults": [one._asdict() for one in trace.incidents],
        "books": {} if account is None else account.by_region,
        "in_flight": [trace.in_flight(one.injected_ns) for one in trace.incidents],
    }
