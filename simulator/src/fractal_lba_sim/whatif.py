"""Play a scenario and changed ones with the same seeds, and say what each change makes of it.

The invariant of this file: every comparison is paired. Runs of equal seed meet the same chance,
a run that is not valid on either side is left out of the pair, and a run that did not recover
counts with the length of the longest run, on both sides alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, NamedTuple

from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.check import HOLDS

from .cost import total
from .edits import Changes, edited, shown, value_at
from .metrics import Metric, Outcome, metric_of, state_over, worst_promise
from .playing import Job, job_of
from .remedies import Proposal, acts_rarely, low_and_high, proposals, uncertain
from .runner import Runner, Work
from .stats import paired

RUNS: Final = 20
"""Pairs for each change: enough to see a change that matters, few enough to try thirty."""

RUNS_MIN: Final = 4
"""Fewer pairs than this say nothing."""

SIMULATED_MAX_S: Final = 30 * 86_400
"""Simulated time that the what-ifs of one command may take; long scenarios get fewer pairs."""

FIRST: Final = 8
"""Pairs after which a change is left alone that has made next to no difference in any of them."""

NEXT_TO_NONE: Final = 0.001
"""A difference of a pair below this share of the mean is next to none."""

JUDGED_SHARE: Final = 10
"""How often all runs of a command fit into the simulated time of its what-ifs."""


class Change(NamedTuple):
    """A changed scenario that can be played."""

    proposal: Proposal
    job: Job


@dataclass(frozen=True, slots=True)
class Pairs:
    """What runs make of one number, before and after."""

    before: list[float | None]
    after: list[float | None]
    limit_s: float

    def means(self) -> tuple[float, float]:
        """Give both means; a run that did not recover counts with the limit."""
        old, new = self._limited()
        return fmean(old), fmean(new)

    def differ(self) -> bool:
        """Say whether some pair differs by more than next to nothing."""
        old, new = self._limited()
        least = NEXT_TO_NONE * fmean(old)
        return any(abs(a - b) > least for a, b in zip(old, new, strict=True))

    def _limited(self) -> tuple[list[float], list[float]]:
        old, new = (
            [self.limit_s if v is None else min(v, self.limit_s) for v in side]
            for side in (self.before, self.after)
        )
        return old, new


class WhatIf:
    """Comparisons with one scenario."""

    def __init__(
        self, runner: Runner, scenario: Scenario, engine: str, *, seed: int, runs: int = RUNS
    ) -> None:
        self._runner = runner
        self._scenario = scenario
        self._engine = engine
        self.seeds = range(seed, seed + runs)
        self._base = job_of(scenario, engine)
        self._cost = total(scenario.document)
        self._idle: set[str] = set()
        """Digests of changes that got the first pairs alone."""

    def base(self) -> list[Outcome]:
        """Give the runs that everything is compared with."""
        self._runner.play([Work(self._base, self.seeds)])
        return list(self._runner.outcomes(self._base, self.seeds))

    # --- candidates

    def remediations(self) -> list[dict[str, Any]]:
        """Give every candidate that helps the promise which fails most, the best first."""
        found = self.rows(proposals(self._scenario.document))
        rows = [row for row in found if _helps(row)]
        return sorted(rows, key=lambda row: float(row["difference"]["value"]))

    def rows(self, candidates: Sequence[Proposal]) -> list[dict[str, Any]]:
        """Give what each change makes of the promise that fails most, in the order given."""
        base = self.base()
        promise = worst_promise(base, self._scenario.part("promises"))
        metric = metric_of(promise)
        changes = list(playable(self._scenario, self._engine, candidates))
        self._play(changes, metric, base, "what would help")
        rows: list[dict[str, Any]] = []
        for change in changes:
            after = self._outcomes(change.job)
            if after is not None:
                rows += self._row(change, metric, promise, base, after)
        return rows

    def _row(
        self, change: Change, metric: Metric, promise: str, base: list[Outcome],
        after: list[Outcome],
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        found = pairs(metric, base, after)
        if found is None:
            return
        gap = paired(found.before, found.after, limit_s=found.limit_s)
        before, now = found.means()
        cost = total(change.job.scenario.document)
        yield {
            "name": change.proposal.name,
            "change": change.proposal.change,
            "set": dict(change.proposal.set),
            "metric": metric.name,
            "unit": metric.unit,
            "before": before,
            "after": now,
            "difference": {"value": gap.value, "low": gap.low, "high": gap.high},
            "n": gap.n,
            "promise": promise,
            "holds": state_over(after, promise) == HOLDS,
            "cost_per_month": None if cost is None or self._cost is None else cost - self._cost,
        }

    def _play(
        self, changes: Sequence[Change], metric: Metric, base: list[Outcome], what: str
    ) -> None:
        """Play each change with every seed, unless the first ones show next to no difference."""
        self._idle |= {one.job.digest for one in changes if not acts_rarely(one.proposal.set)}
        self._runner.play([Work(one.job, self._seeds_of(one.job)) for one in changes], what)
        for one in changes:
            found = pairs(metric, base, self._outcomes(one.job) or ())
            if found is not None and found.differ():
                self._idle.discard(one.job.digest)
        self._runner.play([Work(one.job, self._seeds_of(one.job)) for one in changes], what)

    def _seeds_of(self, job: Job) -> range:
        return self.seeds[:FIRST] if job.digest in self._idle else self.seeds

    def _outcomes(self, job: Job) -> list[Outcome] | None:
        """Give the runs of a changed scenario; None if the engine does not play it."""
        try:
            return list(self._runner.outcomes(job, self._seeds_of(job)))
        except ScenarioError:
            return None

    # --- tornado

    def tornado(self, paths: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Give what each setting that may be off does to the number, the widest swing first."""
        document = self._scenario.document
        base = self.base()
        metric = metric_of(worst_promise(base, self._scenario.part("promises")))
        sides = []
        for path in paths or uncertain(document):
            for value in low_and_high(path, value_at(document, path)):
                proposal = Proposal(path, shown(path, value), {path: value})
                sides.append(next(playable(self._scenario, self._engine, [proposal]), None))
        known = [side for side in sides if side is not None]
        self._play(known, metric, base, "what the result hangs on")
        rows: list[dict[str, Any]] = []
        for low, high in zip(sides[::2], sides[1::2], strict=True):
            rows += self._swing(low, high, metric, base)
        return sorted(rows, key=_swing_width, reverse=True)

    def _swing(
        self, low: Change | None, high: Change | None, metric: Metric, base: list[Outcome]
    ) -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"metric": metric.name, "unit": metric.unit}
        for name, side in (("low", low), ("high", high)):
            after = None if side is None else self._outcomes(side.job)
            found = None if after is None else pairs(metric, base, after)
            if side is None or found is None:
                return
            path = side.proposal.name
            row["base"], value = found.means()
            gap = paired(found.before, found.after, limit_s=found.limit_s)
            row[name] = {
                "set": side.proposal.change,
                "value": value,
                "difference": {"value": gap.value, "low": gap.low, "high": gap.high},
                "n": gap.n,
            }
            row |= {"name": spoken(path), "path": path}
        yield row


def playable(scenario: Scenario, engine: str, candidates: Sequence[Proposal]) -> Iterator[Change]:
    """Leave out what is no valid scenario: a candidate is an idea, not a setting."""
    for proposal in candidates:
        try:
            changed = edited(scenario, proposal.set)
        except (DocumentError, ScenarioError):
            continue
        yield Change(proposal, job_of(changed, engine))


def pairs(metric: Metric, base: Sequence[Outcome], after: Sequence[Outcome]) -> Pairs | None:
    """Pair runs of equal seeds; None if fewer than two are valid on both sides."""
    changed = {one["seed"]: one for one in after if one["valid"]}
    both = [(one, changed[one["seed"]]) for one in base if one["valid"] and one["seed"] in changed]
    if len(both) < 2:
        return None
    limit_s = max(float(run["simulated_s"]) for pair in both for run in pair)
    return Pairs(
        [metric.of(old) for old, _ in both], [metric.of(new) for _, new in both],
        limit_s if metric.unit == "s" else float("inf"),
    )  # fmt: skip


def runs_for(scenario: Scenario, runs: int) -> int:
    """Give how many pairs the what-ifs of a scenario may have; 0 if too few are left."""
    document = scenario.document
    scenarios = 1 + len(proposals(document)) + 2 * len(uncertain(document))
    allowed = int(SIMULATED_MAX_S / (scenarios * _run_s(scenario)))
    found = min(runs, RUNS, allowed)
    return found if found >= RUNS_MIN else 0


def searches_for(scenario: Scenario, runs: int) -> int:
    """Give how many runs may judge what a search for the smallest change has found."""
    return min(runs, max(RUNS_MIN, int(SIMULATED_MAX_S / (JUDGED_SHARE * _run_s(scenario)))))


def _run_s(scenario: Scenario) -> float:
    load = scenario.part("load")
    return max(1.0, float(load["duration_s"] + load.get("warmup_s", 0) + load.get("settle_s", 0)))


def spoken(path: str) -> str:
    """Say a path without the unit of its last member: its value has one."""
    for end in ("_bytes_per_s", "_per_s", "_ms", "_s"):
        if path.endswith(end):
            return path.removesuffix(end)
    return path


def _helps(row: dict[str, Any]) -> bool:
    gap = row["difference"]
    if gap["value"] >= -NEXT_TO_NONE * row["before"]:
        return False
    return gap["high"] is None or bool(gap["high"] <= 0)


def _swing_width(row: dict[str, Any]) -> float:
    values = row["low"]["value"], row["high"]["value"], row["base"]
    return float(max(values) - min(values))


def asked_for(scenario: Scenario, changes: Changes) -> Proposal:
    """Make the candidate of a change that a person asks about. Raises as `edited` does."""
    edited(scenario, changes)
    text = ", ".join(f"{spoken(path)} {shown(path, value)}" for path, value in changes.items())
    return Proposal(text, text, changes)
