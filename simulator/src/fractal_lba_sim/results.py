"""Put the outcomes of many runs together into one document, and write it beside its report.

The invariant of this file: the same scenario, seed, runs and versions give the same bytes. So it
reads no clock and no name of a machine, sorts every key, and writes every number in one way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from fractal_lba_server.drill.kinds import FAULT_KINDS
from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_server.judge.parts import CLASSES
from fractal_lba_server.judge.recovery import PHASES, zero_bound

from .results_evidence import evidence
from .results_recovery import (
    Document,
    availability,
    distribution,
    estimate_document,
    incident_groups,
    yearly,
)
from .results_verdicts import control_verdict, invalid_runs, verdicts_over
from .stats import Sample, share_of
from .versions import versions_of_results

Outcome = Mapping[str, Any]

SCHEMA: Final = 1
DIGITS: Final = 12
"""Significant digits of a number: enough for nanoseconds in a day, too few for the last bits, in
which two processors may differ."""

EXTRAS: Final = (
    "what_ifs", "remediations", "smallest", "tornado", "untried", "sweep", "cost",
)  # fmt: skip
COUNTED_APART: Final = frozenset({"lost", "recovered_late", "recovered_by_client"})
"""Names in the table of anomalies of which no zero needs a bound of its own."""

COUNTED_PER_RUN: Final = (
    "conflicts", "refused", "unknown", "recovered_late", "brought_by_outbox",
)  # fmt: skip


def assemble(
    scenario: Scenario,
    outcomes: Sequence[Outcome],
    *,
    engine: str,
    seed: int,
    runs: int,
    command: str,
    complete: bool,
    extras: Mapping[str, Any] | None = None,
) -> Document:
    """Give the results of runs, in the shape of spec/schemas/results.json."""
    document: Document = json.loads(json.dumps(scenario.document))
    ordered = sorted(outcomes, key=lambda outcome: int(outcome["seed"]))
    judged = [outcome for outcome in ordered if outcome["valid"]]
    verdicts = verdicts_over(document["promises"], ordered)
    groups = incident_groups(document, judged)
    found: Document = {
        "schema": SCHEMA,
        "scenario": {
            "name": scenario.name,
            "title": document["title"],
            "question": document.get("question"),
            "digest": scenario.digest,
            "control": scenario.control,
            "document": document,
        },
        "run": {
            "engine": engine,
            "seed": seed,
            "runs": runs,
            "done": len(ordered),
            "judged": len(judged),
            "complete": complete,
            "command": command,
            "versions": versions_of_results(),
            "outcomes_sha256": _digest(ordered),
        },
        "scope": _scope(ordered, judged),
        "verdicts": verdicts,
        "control": None,
        "incidents": groups,
        "availability": availability(judged),
        "yearly": yearly(groups),
        "accounts": _accounts(judged),
        "anomalies": _anomalies(judged),
        "not_judged": _not_judged(judged),
        "bounds": _bounds(judged),
    }
    if scenario.control:
        found["control"] = control_verdict(document["control"]["must_fail"], verdicts)
    found |= {name: (extras or {}).get(name) for name in EXTRAS}
    found["evidence"] = evidence(found)
    normal: Document = _normal(found)
    return normal


def _digest(outcomes: Sequence[Outcome]) -> str:
    """Name what was simulated by the traces of all runs in the order of their seeds."""
    names = "".join(f"{one['seed']} {one.get('trace_sha256')}\n" for one in outcomes)
    return sha256(names.encode()).hexdigest()


def _scope(outcomes: Sequence[Outcome], judged: Sequence[Outcome]) -> Document:
    """Say what was done, before anything is concluded from it."""
    seeds = [outcome["seed"] for outcome in outcomes]
    simulated_s = sum(outcome["simulated_s"] for outcome in judged)
    return {
        "simulated_hours": simulated_s / 3600,
        "simulated_s": simulated_s,
        "seeds": {"first": min(seeds, default=None), "last": max(seeds, default=None)},
        "events": sum(outcome["events"] for outcome in judged),
        "acknowledged": sum(
            row["acked"] for outcome in judged for row in outcome["accounts"].values()
        ),
        "faults": _faults(judged),
        "invalid": invalid_runs(outcomes),
        "covered": _covered(judged),
    }


def _faults(outcomes: Sequence[Outcome]) -> list[Document]:
    """Count what was injected, by fault, and what each was seen to do."""
    found: dict[str, Document] = {}
    for outcome in outcomes:
        for one in outcome["incidents"]:
            name = one["id"].partition("#")[0]
            row = found.setdefault(
                name,
                {
                    "id": name,
                    "kind": one["kind"],
                    "family": _family(one["kind"]),
                    "delivered": 0,
                    "effects": {},
                },
            )
            row["delivered"] += 1
            for effect, count in one["effects"].items():
                row["effects"][effect] = row["effects"].get(effect, 0) + count
    return list(found.values())


def _family(kind: str) -> str | None:
    return FAULT_KINDS[kind].family if kind in FAULT_KINDS else None


def _covered(outcomes: Sequence[Outcome]) -> Document:
    """Say which kinds of fault were seen with which phases of recovery and classes of record."""
    rows: dict[str, Document] = {}
    states = set()
    for outcome in outcomes:
        totals = dict.fromkeys(CLASSES, 0)
        for row in outcome["accounts"].values():
            totals = {name: totals[name] + row[name] for name in CLASSES}
        classes = [name for name in CLASSES if totals[name]]
        for one in outcome["incidents"]:
            row = rows.setdefault(
                one["kind"],
                {
                    "kind": one["kind"],
                    "incidents": 0,
                    "phases": dict.fromkeys(PHASES, 0),
                    "later": dict.fromkeys(PHASES, 0),
                    "classes": dict.fromkeys(CLASSES, 0),
                    "not_recovered": 0,
                },
            )
            phases = [name for name in PHASES if one["phases"].get(name)]
            row["incidents"] += 1
            row["not_recovered"] += one["rto_s"] is None
            for name in phases:
                row["phases"][name] += 1
            for name in one["later"]:
                row["later"][name] += 1
            for name in classes:
                row["classes"][name] += 1
            states.add((one["kind"], tuple(phases), tuple(classes), one["rto_s"] is None))
    return {"states": len(states), "rows": [rows[kind] for kind in sorted(rows)]}


def _accounts(outcomes: Sequence[Outcome]) -> Document:
    """Add up the books of all runs, and say how much a single run differs."""
    names = ("acked", *CLASSES)
    regions = sorted({region for outcome in outcomes for region in outcome["accounts"]})
    by_region = {
        region: {
            name: sum(outcome["accounts"].get(region, {}).get(name, 0) for outcome in outcomes)
            for name in names
        }
        for region in regions
    }
    total = {name: sum(row[name] for row in by_region.values()) for name in names}
    per_run: dict[str, list[float]] = {
        name: [sum(row[name] for row in one["accounts"].values()) for one in outcomes]
        for name in ("displaced", "lost")
    }
    per_run |= {name: [one[name] for one in outcomes] for name in COUNTED_PER_RUN}
    return {
        "regions": by_region,
        "total": total,
        "add_up": all(
            row["acked"] == sum(row[name] for name in CLASSES)
            for outcome in outcomes
            for row in outcome["accounts"].values()
        ),
        "counted": {name: sum(values) for name, values in per_run.items()},
        "per_run": {
            name: {
                "runs_with": dict(share_of(sum(v > 0 for v in values), len(values))._asdict()),
                "mean": estimate_document(Sample.of(values).mean()),
                "max": max(values),
            }
            for name, values in per_run.items()
            if values
        },
        "lost_per_run": distribution(Sample.of(per_run["lost"])),
    }


def _anomalies(outcomes: Sequence[Outcome]) -> Document:
    """Count every named anomaly, and in how many runs it was seen."""
    names = sorted({name for outcome in outcomes for name in outcome["anomalies"]})
    found = {}
    for name in names:
        looked = [
            outcome["anomalies"][name] for outcome in outcomes if name in outcome["anomalies"]
        ]
        seen = sum(count > 0 for count in looked)
        found[name] = {
            "count": sum(looked),
            "runs": dict(share_of(seen, len(looked))._asdict()),
        }
    return found


def _not_judged(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Name the anomalies that some run could not look for, with the first reason."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        for name, why in outcome.get("not_judged", {}).items():
            found.setdefault(name, why)
    return found


def _bounds(outcomes: Sequence[Outcome]) -> list[Document]:
    """Give what each zero is worth; nothing that did not happen is printed as impossible."""
    incidents = [one for outcome in outcomes for one in outcome["incidents"]]
    in_flight = sum(one["in_flight"] for one in outcomes)
    lost = sum(row["lost"] for one in outcomes for row in one["accounts"].values())
    rows = []
    if incidents and not lost:
        rows.append(("acknowledged records gone for good", len(incidents), "incident"))
        if in_flight:
            rows.append(("acknowledged records gone for good", in_flight, "record in flight"))
    if incidents and all(one["rto_s"] is not None for one in incidents):
        rows.append(("incidents without recovery", len(incidents), "incident"))
    rows += [
        (name.replace("_", " "), found["runs"]["trials"], "run")
        for name, found in _anomalies(outcomes).items()
        if not found["count"] and name not in COUNTED_APART
    ]
    return [
        {"what": what, "trials": trials, "per": per, "below": zero_bound(trials)}
        for what, trials, per in rows
    ]


def _normal(value: Any) -> Any:
    """Sort keys and round numbers, so that equal results are equal bytes."""
    if isinstance(value, Mapping):
        return {str(name): _normal(value[name]) for name in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_normal(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0
    return value


def text_of(results: Document) -> str:
    """Write results as JSON: keys in order, a list of plain values on one line."""
    return f"{_text(results, '')}\n"


def _text(value: Any, indent: str) -> str:
    inner = f"{indent} "
    if isinstance(value, dict) and value:
        rows = [f"{json.dumps(key)}: {_text(one, inner)}" for key, one in value.items()]
    elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        rows = [_text(one, inner) for one in value]
    else:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    body = f",\n{inner}".join(rows)
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    return f"{opened}\n{inner}{body}\n{indent}{closed}"


def write(folder: Path, results: Document) -> tuple[Path, Path]:
    """Write results.json and report.html into a folder, and give their paths."""
    from .report.page import render  # noqa: PLC0415 - charts take a second to import

    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / "results.json", folder / "report.html"
    data.write_text(text_of(results), encoding="utf-8")
    page.write_text(render(results), encoding="utf-8")
    return data, page
