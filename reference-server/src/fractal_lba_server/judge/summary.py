"""Say in one JSON object what a trace shows; many of them make the results of many runs.

The invariant of this file: an outcome holds figures of the trace alone, in an order that is the
same for the same trace, so that equal traces give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .anomalies import anomalies
from .check import HOLDS, Report
from .parts import CLASSES, END, Event, Incident, Loss
from .recovery import phase_lengths
from .trace import Trace
from .verdicts import outages, worst_outages

VALIDITY = ("complete", "effects")
"""The verdicts without which a run shows nothing."""


def outcome(report: Report) -> dict[str, Any]:
    """Give what a trace shows, for programs."""
    trace, header = report.trace, report.trace.header
    books = trace.books(END)
    found = anomalies(trace)
    results = trace.results()
    return {
        "engine": header["engine"],
        "seed": header["seed"],
        "scenario_digest": header["scenario_digest"],
        "control": header["control"],
        "trace_sha256": trace.digest(trace_digest),
        "valid": all(report.state_of(name) == HOLDS for name in VALIDITY),
        "verdicts": [verdict._asdict() for verdict in report.verdicts],
        "incidents": incident_rows(trace),
        "accounts": {} if books is None else _accounts(books.by_region),
        "recovered_late": (trace.late() or (0, 0))[1],
        "brought_by_outbox": 0 if books is None else books.brought,
        "conflicts": results["conflict"],
        "refused": results["refused"],
        "unknown": results["unknown"],
        "in_flight": sum(trace.in_flight(one.injected_ns) for one in trace.incidents),
        "calls": {
            client: {
                "count": sum(calls.count for calls in forms),
                "good": sum(calls.good for calls in forms),
            }
            for client, forms in sorted(trace.callers.items())
        },
        "anomalies": found.counts,
        "not_judged": found.not_judged,
        "stale_read_ms_max": found.stale_read_ms_max,
        "simulated_s": trace.end_ns / 1e9,
        "events": trace.size,
    }


def _accounts(by_region: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {
        region: {name: row[name] for name in ("acked", *CLASSES)}
        for region, row in sorted(by_region.items())
    }


def incident_rows(trace: Trace) -> list[dict[str, Any]]:
    """Give every fault with the recovery on both clocks, its phases, and what it took."""
    worst, clients = worst_outages(trace), outages(trace)
    losses = trace.gone or [(one, Loss()) for one in trace.incidents]
    return [
        {
            "id": one.id,
            "kind": one.kind,
            "region": one.region,
            "disrupted_s": one.injected_ns / 1e9,
            "healed_s": None if one.healed_ns is None else one.healed_ns / 1e9,
            **_recovery(trace, one, worst.get(one.id)),
            "clients": {
                client: _since(one, at_ns)
                for client, at_ns in sorted(clients.get(one.id, {}).items())
            },
            "lost": {
                "records": loss.records,
                "bytes": loss.bytes,
                "rpo_s": loss.age_s(one.injected_ns),
                "rpo_work_s": loss.work_s,
            },
            "effects": dict(sorted(one.effects.items())),
        }
        for one, loss in losses
    ]


def _since(one: Incident, at_ns: int | None) -> float | None:
    return None if at_ns is None else (at_ns - one.injected_ns) / 1e9


def _recovery(trace: Trace, one: Incident, recovered_ns: int | None) -> dict[str, Any]:
    declared = [e["at_ns"] for e in trace.of("declared") if e["incident"] == one.id]
    ends: dict[str, int] = {}
    for event in trace.of("phase"):
        if event["incident"] == one.id:
            ends.setdefault(event["phase"], event["at_ns"])
    row: dict[str, Any] = {
        "declared_s": _since(one, declared[0]) if declared else None,
        "rto_s": _since(one, recovered_ns),
        "rto_declared_s": None,
        "phases": {},
        "later": {},
    }
    if recovered_ns is None:
        return row
    lengths = phase_lengths(ends, disrupted_ns=one.injected_ns, recovered_ns=recovered_ns)
    if declared:
        row["rto_declared_s"] = max(0, recovered_ns - declared[0]) / 1e9
    row["phases"] = {name: length / 1e9 for name, length in lengths.items()}
    row["later"] = {name: _since(one, at) for name, at in ends.items() if at > recovered_ns}
    return row


def trace_digest(events: Iterable[Event]) -> str:
    """Give the SHA-256 of a trace without the command that wrote it.

    A line counts as its JSON without white space, with the members of every object in order.
    """
    digest = hashlib.sha256()
    for event in events:
        told = {name: value for name, value in event.items() if name != "command"}
        digest.update(_encode(_in_order(told)).encode() + b"\n")
    return digest.hexdigest()


_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
"""Types of values that have no order of their own."""


def _in_order(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: one if type(one := value[name]) in _PLAIN else _in_order(one)
            for name in sorted(value)
        }
    if isinstance(value, list | tuple):
        return [_in_order(one) for one in value]
    return value
