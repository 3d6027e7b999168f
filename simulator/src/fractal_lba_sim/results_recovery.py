"""Measure incidents over runs: time to recovery, data that is gone, phases, availability.

The invariant of this file: an incident that was not seen to end stays in every number as one that
lasted longer than it was watched, and the means of the eight phases add up to the mean of the
recoveries that were seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from fractal_lba_server.judge.recovery import PHASES, percentile, percentile_needs
from fractal_lba_server.judge.trace import STEADY_S

from .stats import Estimate, Sample, student
from .yearly import YEAR_S, Yearly, yearly_downtime

Document = dict[str, Any]
Incident = Mapping[str, Any]

SHARES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
VALUES_MAX: Final = 100_000
"""Values of one distribution that results keep, for whoever compares them later."""

WORST_MAX: Final = 10
"""Incidents of a fault that are named one by one, the worst first."""

PHASE_TOLERANCE_S: Final = 1e-6
BAND: Final = (0.05, 0.95)
"""The percentiles between which a phase ends in nine of ten recoveries."""


def estimate_document(estimate: Estimate | None) -> Document | None:
    """Write a number with its interval."""
    return None if estimate is None else dict(estimate._asdict())


def distribution(sample: Sample) -> Document:
    """Write a sample: its percentiles where there are enough values, and the values."""
    percentiles: Document = {}
    for name, share in SHARES.items():
        found = sample.percentile(share)
        needs = {"needs": percentile_needs(share)}
        percentiles[name] = needs if found is None else estimate_document(found)
    seen = sample.known[: sample.n - sample.censored]
    kept = sample.n <= VALUES_MAX
    return {
        "n": sample.n,
        "censored": sample.censored,
        "zeros": sum(value == 0 for value in seen),
        "min": seen[0] if seen else None,
        "max": seen[-1] if seen else None,
        "mean": estimate_document(sample.mean()),
        "percentiles": percentiles,
        "values": list(seen) if kept else None,
        "shown": list(sample.shown) if kept and sample.censored else None,
    }


def sample_of(found: Mapping[str, Any]) -> Sample | None:
    """Read a sample back from what `distribution` wrote; None if its values were not kept."""
    if found["values"] is None:
        return None
    known = (*found["values"], *[math.inf] * found["censored"])
    return Sample(known, tuple(found["shown"] or found["values"]))


def watched_s(incident: Incident, outcome: Mapping[str, Any], document: Document) -> float:
    """Give for how long an incident was seen not to be over."""
    load = document["load"]
    end_s = load.get("warmup_s", 0) + load["duration_s"]
    begun_s = incident["disrupted_s"]
    later = [one["disrupted_s"] for one in outcome["incidents"] if one["disrupted_s"] > begun_s]
    steady_s = float(document["promises"].get("steady_s", STEADY_S))
    until_s = float(min([end_s, *later]))
    return max(0.0, until_s - float(begun_s) - steady_s)


def incident_groups(document: Document, outcomes: Sequence[Mapping[str, Any]]) -> list[Document]:
    """Measure each fault of the scenario over all runs and repeats, in the scenario's order."""
    found: dict[str, list[tuple[Incident, float]]] = {}
    for outcome in outcomes:
        for incident in outcome["incidents"]:
            one = {"seed": outcome["seed"], **incident}
            group = found.setdefault(one["id"].partition("#")[0], [])
            group.append((one, watched_s(one, outcome, document)))
    planned = {fault["id"]: fault for fault in document.get("faults", ())}
    order = [*planned, *sorted(set(found) - set(planned))]
    return [
        _group(name, found[name], planned.get(name, {}).get("per_year"))
        for name in order
        if name in found
    ]


def _group(id: str, rows: Sequence[tuple[Incident, float]], per_year: float | None) -> Document:
    incidents = [one for one, _ in rows]
    watched = [limit for _, limit in rows]
    clients = sorted({name for one in incidents for name in one["clients"]})
    late = [max(0.0, at - (one["declared_s"] or 0.0)) for one, at in rows]
    declared = [(one, at) for one, at in zip(incidents, late, strict=True)
                if one["declared_s"] is not None]  # fmt: skip
    lost = [one["lost"] for one in incidents]
    return {
        "id": id,
        "kind": incidents[0]["kind"],
        "per_year": per_year,
        "rto_s": distribution(Sample.of([one["rto_s"] for one in incidents], watched)),
        "rto_declared_s": distribution(
            Sample.of([one["rto_declared_s"] for one, _ in declared], [at for _, at in declared])
        ),
        "clients": {
            name: distribution(
                Sample.of(
                    [one["clients"][name] for one in incidents if name in one["clients"]],
                    [at for one, at in rows if name in one["clients"]],
                )
            )
            for name in clients
        },
        "rpo_s": distribution(Sample.of([row["rpo_s"] or 0.0 for row in lost])),
        "rpo_work_s": distribution(Sample.of([row["rpo_work_s"] or 0.0 for row in lost])),
        "rpo_records": distribution(Sample.of([row["records"] for row in lost])),
        "rpo_bytes": distribution(Sample.of([row["bytes"] for row in lost])),
        "phases": _phases(incidents),
        "later": _later(incidents),
        "outlasted": sum(_outlasted(one) for one in incidents),
        "worst": [_row(one) for one in sorted(incidents, key=_worst_first)[:WORST_MAX]],
    }


def _outlasted(one: Incident) -> bool:
    """Say whether clients were hurt until the fault itself was over, and not a moment less."""
    if not one["rto_s"] or one["healed_s"] is None:
        return False
    return bool(one["rto_s"] >= one["healed_s"] - one["disrupted_s"])


def _worst_first(one: Incident) -> tuple[float, float, int]:
    rto_s = math.inf if one["rto_s"] is None else one["rto_s"]
    return -rto_s, -(one["lost"]["rpo_s"] or 0.0), one["seed"]


def _row(one: Incident) -> Document:
    """Write one incident for who wants to see it again."""
    return {
        "seed": one["seed"], "id": one["id"],
        **{name: one[name] for name in ("rto_s", "declared_s", "phases")},
        **{name: one["lost"][name] for name in ("rpo_s", "records")},
    }  # fmt: skip


def _phases(incidents: Sequence[Incident]) -> Document | None:
    """Describe the eight phases of the recoveries that were seen; None if there was none."""
    seen = [one for one in incidents if one["rto_s"] is not None and one["phases"]]
    if not seen:
        return None
    gaps = [abs(sum(one["phases"].values()) - one["rto_s"]) for one in seen]
    rows, ends = [], [0.0] * len(seen)
    for name in PHASES:
        took = [one["phases"].get(name, 0.0) for one in seen]
        ends = [end + length for end, length in zip(ends, took, strict=True)]
        rows.append(
            {
                "phase": name,
                "mean_s": fmean(took),
                "p50_s": _percentile(took, 0.5),
                "p95_s": _percentile(took, 0.95),
                "end_mean_s": fmean(ends),
                "end_p5_s": _percentile(ends, BAND[0]),
                "end_p95_s": _percentile(ends, BAND[1]),
            }
        )
    return {
        "n": len(seen),
        "add_up": max(gaps) <= PHASE_TOLERANCE_S,
        "mean_rto_s": fmean(one["rto_s"] for one in seen),
        "rows": rows,
    }


def _later(incidents: Sequence[Incident]) -> Document:
    """Describe the phases that ended after recovery, from the disruption."""
    found: dict[str, list[float]] = {}
    for one in incidents:
        for name, at in one["later"].items():
            found.setdefault(name, []).append(at)
    return {
        name: {
            "n": len(found[name]),
            "p50_s": _percentile(found[name], 0.5),
            "p95_s": _percentile(found[name], 0.95),
        }
        for name in PHASES
        if name in found
    }


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Give a percentile; None if there are too few values for it."""
    enough = len(values) >= percentile_needs(max(share, 1 - share))
    return percentile(values, share) if enough else None


def availability(outcomes: Sequence[Mapping[str, Any]]) -> Document:
    """Give the share of good calls by client and of all, while the runs lasted.

    Calls of one run share its fate, so the interval counts runs, not calls.
    """
    clients = sorted({name for outcome in outcomes for name in outcome["calls"]})
    return {
        "clients": {
            name: _good_share([outcome["calls"].get(name) for outcome in outcomes])
            for name in clients
        },
        "overall": _good_share(
            row for outcome in outcomes for row in [_sum_calls(outcome["calls"])]
        ),
    }


def _sum_calls(calls: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(row[name] for row in calls.values()) for name in ("count", "good")}


def _good_share(rows: Iterable[Mapping[str, int] | None]) -> Document | None:
    made = [row for row in rows if row is not None and row["count"]]
    count, good = sum(row["count"] for row in made), sum(row["good"] for row in made)
    if not count:
        return None
    share, n = good / count, len(made)
    low = high = None
    if n > 1:
        spread = sum((row["good"] - share * row["count"]) ** 2 for row in made)
        half = student(n - 1) * math.sqrt(n / (n - 1) * spread) / count
        low, high = max(0.0, share - half), min(1.0, share + half)
    return {"count": count, "good": good, "runs": n, "value": share, "low": low, "high": high}


def yearly(groups: Sequence[Document]) -> Document | None:
    """Expect the downtime of a year from the rates of the faults; None if no fault has one."""
    rated = [group for group in groups if group["per_year"]]
    clients = sorted({name for group in rated for name in group["clients"]})
    overall = _yearly_of([(group["per_year"], group["rto_s"]) for group in rated])
    if overall is None:
        return None
    return {
        "year_s": YEAR_S,
        "counted": [{"id": one["id"], "per_year": one["per_year"]} for one in rated],
        "not_counted": [group["id"] for group in groups if not group["per_year"]],
        "worst_client": overall,
        "clients": {
            name: _yearly_of(
                [
                    (group["per_year"], group["clients"][name])
                    for group in rated
                    if name in group["clients"]
                ]
            )
            for name in clients
        },
    }


def _yearly_of(kinds: Sequence[tuple[float, Document]]) -> Document | None:
    samples = [(rate, sample_of(found)) for rate, found in kinds]
    found: Yearly | None = yearly_downtime([(r, s) for r, s in samples if s is not None])
    if found is None or any(sample is None for _, sample in samples):
        return None
    return {
        "downtime_s": estimate_document(found.mean),
        "availability": estimate_document(found.availability),
        "deviation_s": found.deviation_s,
        "bad_year_s": found.bad_year_s,
        "quiet_share": found.quiet_share,
    }
