"""What one run says about one promise, as a number that is better when it is smaller.

The invariant of this file: a run that did not recover has no number, and is never taken for a
good one. Comparisons, tornado, sweep and remedies all measure with this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN

Outcome = Mapping[str, Any]


class Metric(NamedTuple):
    """One number of a run."""

    name: str
    unit: str
    of: Callable[[Outcome], float | None]
    """None: the run ended before it could be seen."""


def _worst_rto(outcome: Outcome) -> float | None:
    values = [one["rto_s"] for one in outcome["incidents"]]
    return None if None in values else max(values, default=0.0)


def _worst_loss(member: str) -> Callable[[Outcome], float | None]:
    def of(outcome: Outcome) -> float | None:
        return max((one["lost"][member] or 0.0 for one in outcome["incidents"]), default=0.0)

    return of


def _sum(member: str) -> Callable[[Outcome], float | None]:
    return lambda outcome: float(sum(row[member] for row in outcome["accounts"].values()))


def _still_lost(outcome: Outcome) -> float | None:
    lost = sum(row["lost"] for row in outcome["accounts"].values())
    return float(max(0, lost - outcome["brought_by_outbox"]))


def _bad_calls(outcome: Outcome) -> float | None:
    calls = sum(row["count"] for row in outcome["calls"].values())
    good = sum(row["good"] for row in outcome["calls"].values())
    return 1 - good / calls if calls else 0.0


RTO: Final = Metric("rto_s", "s", _worst_rto)
RPO: Final = Metric("rpo_s", "s", _worst_loss("rpo_s"))

METRICS: Final = {
    "rto_s": RTO,
    "rpo_s": RPO,
    "rpo_work_s": Metric("rpo_work_s", "s", _worst_loss("rpo_work_s")),
    "rpo_records": Metric("rpo_records", "records", _worst_loss("records")),
    "no_loss_at_level": Metric("lost", "records", _sum("lost")),
    "no_loss_end_to_end": Metric("lost for good", "records", _still_lost),
    "displaced_max": Metric("displaced", "records", _sum("displaced")),
    "success_share_min": Metric("calls that are not good", "share", _bad_calls),
    "errors_max": Metric("calls that are not good", "share", _bad_calls),
}
"""Numbers of the promises that have one."""


def metric_of(promise: str) -> Metric:
    """Give the number of a promise; of one without a number, 1 for a run in which it fails."""
    if promise in METRICS:
        return METRICS[promise]

    def of(outcome: Outcome) -> float | None:
        return float(state_in(outcome, promise) != HOLDS)

    return Metric(f"runs in which {promise} does not hold", "share", of)


def state_in(outcome: Outcome, promise: str) -> str:
    """Give what one run says of a promise."""
    return next((str(v["state"]) for v in outcome["verdicts"] if v["name"] == promise), UNPROVEN)


def state_over(outcomes: Sequence[Outcome], promise: str) -> str:
    """Give what runs say of a promise; invalid ones say nothing, and too few say so elsewhere."""
    states = [state_in(one, promise) for one in outcomes if one["valid"]]
    if FAILS in states:
        return FAILS
    return HOLDS if states and all(state == HOLDS for state in states) else UNPROVEN


def worst_promise(outcomes: Sequence[Outcome], promises: Mapping[str, Any]) -> str:
    """Give the promise that fails in most runs; if none fails, RTO, or else the first."""
    judged = [one for one in outcomes if one["valid"]]
    named = [v["name"] for one in judged[:1] for v in one["verdicts"] if v["name"] in promises]
    failing = {name: sum(state_in(one, name) == FAILS for one in judged) for name in named}
    worst = max(failing, key=lambda name: failing[name], default="rto_s")
    if failing.get(worst):
        return worst
    return "rto_s" if "rto_s" in failing or not named else named[0]
