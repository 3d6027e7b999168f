"""Vary settings together, and find which points no other one beats in cost and in loss or time.

The invariant of this file: every point is played with the same seeds. A point is on the front of
a measure if no other point is at least as good in cost and measure and better in one of them; a
point without a cost is on no front.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.check import HOLDS
from fractal_lba_server.judge.recovery import percentile, percentile_needs

from .asked import Asked
from .cost import total
from .edits import edited, shown
from .metrics import RPO, RTO, Metric, Outcome, state_over
from .playing import Job, job_of
from .results_verdicts import runs_needed
from .runner import Runner, Work
from .whatif import spoken

POINTS_MAX: Final = 10_000
"""Points of one sweep."""

SHARE: Final = 0.95
"""The percentile that points are compared by."""


class Point(NamedTuple):
    """One combination of values."""

    set: dict[str, Any]
    job: Job

    @property
    def label(self) -> str:
        """Say the values as a person would."""
        return ", ".join(f"{spoken(path)} {shown(path, v)}" for path, v in self.set.items())


def points(scenario: Scenario, settings: Sequence[Asked], engine: str) -> list[Point]:
    """Give every combination, the last setting varying fastest. Raises as `edited` does."""
    count = 1
    for one in settings:
        count *= len(one.values)
    if count > POINTS_MAX:
        message = f"{count} combinations; at most {POINTS_MAX} are played"
        raise ScenarioError(message)
    paths = [one.path for one in settings]
    found = []
    for values in itertools.product(*(one.values for one in settings)):
        changes = dict(zip(paths, values, strict=True))
        found.append(Point(changes, job_of(edited(scenario, changes), engine)))
    return found


def play(runner: Runner, found: Sequence[Point], seeds: Sequence[int]) -> None:
    """Play every point with the same seeds."""
    runner.play([Work(point.job, seeds) for point in found], "points of the sweep")


def table(
    runner: Runner, found: Sequence[Point], seeds: Sequence[int], *, promises: Sequence[str]
) -> dict[str, Any]:
    """Give what was played: one row a point that is finished, and the fronts."""
    rows = []
    for point in found:
        outcomes = runner.outcomes(point.job, seeds)
        if len(outcomes) == len(seeds):
            rows.append(_row(point, outcomes, promises))
    for member in ("rto_p95_s", "rpo_p95_s"):
        for row in front(rows, member):
            row["front"].append(member)
    for row in rows:
        row["pareto"] = bool(row["front"])
    paths = list(found[0].set) if found else []
    return {"paths": paths, "points": rows, "wanted": len(found)}


def _row(point: Point, outcomes: Sequence[Outcome], promises: Sequence[str]) -> dict[str, Any]:
    judged = [one for one in outcomes if one["valid"]]
    fails = [name for name in promises if state_over(judged, name) != HOLDS]
    needed = runs_needed(point.job.scenario.part("promises"))
    return {
        "label": point.label,
        "set": point.set,
        "rto_p95_s": _percentile(RTO, judged),
        "rpo_p95_s": _percentile(RPO, judged),
        "rto_max_s": _percentile(RTO, judged, share=1.0),
        "rpo_max_s": _percentile(RPO, judged, share=1.0),
        "lost": sum(row["lost"] for one in judged for row in one["accounts"].values()),
        "cost_per_month": total(point.job.scenario.document),
        "runs": len(outcomes),
        "invalid": len(outcomes) - len(judged),
        "fails": fails,
        "holds": not fails and len(judged) >= needed,
        "front": [],
    }


def _percentile(metric: Metric, judged: Sequence[Outcome], *, share: float = SHARE) -> float | None:
    """Give a percentile over runs; None if it needs more runs, or lies where none recovered."""
    values = sorted(float("inf") if v is None else v for v in map(metric.of, judged))
    if not values or (share < 1 and len(values) < percentile_needs(share)):
        return None
    found = values[-1] if share >= 1 else percentile(values, share)
    return None if found == float("inf") else found


def front(rows: Sequence[dict[str, Any]], member: str) -> Iterator[dict[str, Any]]:
    """Give the rows that no other row beats in cost and in one measure."""
    known = [r for r in rows if r["cost_per_month"] is not None and r[member] is not None]
    best: float | None = None
    for cost, group in itertools.groupby(
        sorted(known, key=lambda r: (r["cost_per_month"], r[member])),
        key=lambda r: r["cost_per_month"],
    ):
        del cost
        same = list(group)
        least = same[0][member]
        if best is None or least < best:
            best = least
            yield from (row for row in same if row[member] == least)
