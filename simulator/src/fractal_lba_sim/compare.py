"""Compare what one engine predicted with what another measured, by bounds given beforehand.

The invariant of this file: agreement is shown, never assumed. Every pair of numbers is judged as
holds, fails or not enough evidence; an incident that only one side has seen is named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from fractal_lba_server.judge.check import HOLDS, TraceError, check, read_trace
from fractal_lba_server.judge.summary import outcome
from fractal_lba_server.schema_faults import schema_faults

from .equivalence import Agreement, Bounds, covered, equivalent
from .results_recovery import SHARES, distribution, incident_groups, sample_of
from .stats import Sample, distance, distance_chance

METRICS: Final = {"rto_s": "s", "rpo_s": "s", "rpo_records": ""}
"""What can be compared, with its unit."""

FILES_MAX: Final = 10_000
"""Traces or outcomes of one folder."""


class CompareError(Exception):
    """The input cannot be compared; the message names the file and says why."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What was written down before the comparison."""

    metrics: tuple[str, ...] = ("rto_s", "rpo_s")
    percentiles: tuple[str, ...] = ("p50", "p95")
    relative: float = 0.25
    """Share of the measured value by which a percentile may differ."""

    absolute: Mapping[str, float] = field(
        default_factory=lambda: {"rto_s": 1.0, "rpo_s": 1.0, "rpo_records": 10.0}
    )
    """What it may differ by in any case, by metric, in the metric's unit."""

    interval_share: float = 0.9
    interval_share_min: float = 0.7
    """Of the measured values so many must lie in the predicted interval of that share."""

    given: str = "the defaults of flk-sim compare"

    def bounds(self, metric: str) -> Bounds:
        """Give the bounds of one metric."""
        return Bounds(self.relative, self.absolute.get(metric, 0.0))


MEMBERS: Final = {
    "metrics": list, "percentiles": list, "relative": float, "absolute": dict,
    "interval_share": float, "interval_share_min": float,
}  # fmt: skip
"""Members of an acceptance file, with their types."""


def read_acceptance(path: Path) -> Acceptance:
    """Read an acceptance file. Raises CompareError for a member that is none."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CompareError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise CompareError(f"{path}: expected a mapping of bounds")
    for name, value in found.items():
        kind = MEMBERS.get(name)
        if kind is None:
            raise CompareError(
                f"{path}: no bound is called {name!r}; there are {', '.join(MEMBERS)}"
            )
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and value >= 0 if kind is float else isinstance(value, kind)):
            raise CompareError(f"{path}: {name}: expected a {kind.__name__}, got {value!r}")
    for member, allowed in (("metrics", METRICS), ("percentiles", SHARES), ("absolute", METRICS)):
        unknown = [name for name in found.get(member, ()) if name not in allowed]
        if unknown:
            raise CompareError(f"{path}: {member}: {unknown[0]!r} is none of {', '.join(allowed)}")
    for member in ("metrics", "percentiles"):
        if member in found:
            found[member] = tuple(found[member])
    return Acceptance(**found, given=str(path))


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: samples by incident and metric."""

    name: str
    engine: str
    scenario: str
    digest: str
    runs: int
    invalid: int
    samples: Mapping[tuple[str, str], Sample]

    @property
    def incidents(self) -> list[str]:
        """Name the incidents in their order."""
        return list(dict.fromkeys(id for id, _ in self.samples))


def read_side(path: Path) -> Side:
    """Read results, a trace, or a folder of them. Raises CompareError."""
    if path.is_dir():
        if (path / "results.json").is_file():
            return read_side(path / "results.json")
        traces = sorted(p for p in path.rglob("*.jsonl") if _is_trace(p))[:FILES_MAX]
        if not traces:
            raise CompareError(f"{path}: holds neither results.json nor a trace")
        return _of_traces(str(path), traces)
    if _is_trace(path):
        return _of_traces(str(path), [path])
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CompareError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise CompareError(f"{path}: neither a trace nor results, which are JSON") from None
    faults = schema_faults("results", found)
    if faults:
        raise CompareError(
            f"{path}: neither a trace nor results (spec/schemas/results.json): {faults[0]}"
        )
    return _of_results(str(path), found)


def _is_trace(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as lines:
            first = json.loads(next(lines, ""))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and first.get("event") == "run"


def _of_results(name: str, found: Mapping[str, Any]) -> Side:
    run, scenario = found["run"], found["scenario"]
    return Side(
        name, run["engine"], scenario["name"], scenario["digest"], run["judged"],
        found["scope"]["invalid"]["count"], dict(_samples(name, found["incidents"])),
    )  # fmt: skip


def _samples(
    name: str, groups: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[tuple[str, str], Sample]]:
    for group in groups:
        for metric in METRICS:
            sample = sample_of(group[metric])
            if sample is None:
                raise CompareError(f"{name}: {group['id']}: the values of {metric} were not kept")
            yield (group["id"], metric), sample


def _of_traces(name: str, paths: Sequence[Path]) -> Side:
    outcomes, document = [], None
    for path in paths:
        try:
            with path.open(encoding="utf-8") as lines:
                report = check(read_trace(lines))
        except (OSError, TraceError) as error:
            raise CompareError(f"{path}: {error}") from None
        outcomes.append(outcome(report))
        document = dict(report.trace.scenario)
    digests = sorted({one["scenario_digest"] for one in outcomes})
    if len(digests) > 1 or document is None:
        raise CompareError(
            f"{name}: holds traces of {len(digests)} scenarios; compare one at a time"
        )
    judged = [one for one in outcomes if one["valid"]]
    groups = incident_groups(document, judged)
    return Side(
        name, outcomes[0]["engine"], document["name"], digests[0], len(judged),
        len(outcomes) - len(judged), dict(_samples(name, groups)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """One metric of one incident, as both sides have it."""

    incident: str
    metric: str
    predicted: int
    measured: int
    agreements: tuple[Agreement, ...]
    distance: float | None
    """Of Kolmogorov and Smirnov, for information; None where an end was not seen."""

    chance: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of a comparison."""

    predicted: Side
    measured: Side
    acceptance: Acceptance
    pairs: tuple[Pair, ...]
    only: tuple[tuple[str, str], ...]
    """Incidents that one side alone has seen, with the name of that side."""

    @property
    def accepted(self) -> bool:
        """Say whether everything holds; what was not seen on both sides is not accepted."""
        states = [one.state for pair in self.pairs for one in pair.agreements]
        return bool(states) and not self.only and all(state == HOLDS for state in states)


def compare(predicted: Side, measured: Side, acceptance: Acceptance) -> Comparison:
    """Judge every metric of every incident that both sides have. Raises CompareError for none."""
    shared = [id for id in predicted.incidents if id in measured.incidents]
    if not shared:
        raise CompareError(
            f"{predicted.name} has {', '.join(predicted.incidents) or 'no incidents'}, "
            f"{measured.name} has {', '.join(measured.incidents) or 'none'}: nothing to compare"
        )
    only = [(id, "predicted") for id in predicted.incidents if id not in shared]
    only += [(id, "measured") for id in measured.incidents if id not in shared]
    pairs = [
        _pair(id, metric, predicted.samples[id, metric], measured.samples[id, metric], acceptance)
        for id in shared
        for metric in acceptance.metrics
    ]
    return Comparison(predicted, measured, acceptance, tuple(pairs), tuple(only))


def _pair(
    id: str, metric: str, predicted: Sample, measured: Sample, acceptance: Acceptance
) -> Pair:
    bounds = acceptance.bounds(metric)
    agreements = [
        equivalent(predicted, measured, SHARES[name], bounds) for name in acceptance.percentiles
    ]
    # A measurement is as exact as the absolute bound, so the interval is that much wider.
    agreements.append(
        covered(
            predicted,
            measured,
            share=acceptance.interval_share,
            share_min=acceptance.interval_share_min,
            slack=bounds.absolute,
        )
    )
    gap = chance = None
    if predicted.n and measured.n and not predicted.censored and not measured.censored:
        gap = distance(predicted.known, measured.known)
        chance = distance_chance(gap, predicted.n * measured.n / (predicted.n + measured.n))
    return Pair(id, metric, predicted.n, measured.n, tuple(agreements), gap, chance)


def document_of(found: Comparison) -> dict[str, Any]:
    """Write a comparison for programs."""
    sides = {
        name: {
            "name": side.name, "engine": side.engine, "scenario": side.scenario,
            "digest": side.digest, "runs": side.runs, "invalid": side.invalid,
            "incidents": {
                f"{id}/{metric}": distribution(sample)["percentiles"]
                for (id, metric), sample in side.samples.items()
            },
        }
        for name, side in (("predicted", found.predicted), ("measured", found.measured))
    }  # fmt: skip
    bounds = found.acceptance
    return {
        "accepted": found.accepted,
        **sides,
        "acceptance": {
            "given": bounds.given, "relative": bounds.relative, "absolute": dict(bounds.absolute),
            "interval_share": bounds.interval_share,
            "interval_share_min": bounds.interval_share_min,
        },
        "only": [{"incident": id, "side": side} for id, side in found.only],
        "pairs": [
            {
                "incident": pair.incident, "metric": pair.metric, "predicted": pair.predicted,
                "measured": pair.measured, "distance": pair.distance, "chance": pair.chance,
                "agreements": [
                    {"name": one.name, "state": one.state, "said": one.said, "low": one.low,
                     "high": one.high, "allowed": one.allowed}
                    for one in pair.agreements
                ],
            }
            for pair in found.pairs
        ],
    }  # fmt: skip
