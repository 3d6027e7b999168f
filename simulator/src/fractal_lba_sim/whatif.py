"""Play a scenario and changed ones with the same seeds, and say what each change makes of it.

The invariant of this file: every comparison is paired. Runs of equal seed meet the same chance,
a run that is not valid on either side is left out of the pair, and a run that did not recover
counts with the time that was watched, on both sides alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, NamedTuple

from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.check import FAILS, HOLDS

from .cost import total
from .edits import Changes, edited, shown, value_at
from .metrics import (
    Metric,
    Outcome,
    metric_of,
    state_in,
    state_over,
    watched_s,
    worst_promise,
)
from .playing import Job, job_of
from .remedies import Proposal, low_and_high, monotone, proposals, uncertain
from .runner import Runner, Work
from .stats import paired

RUNS: Final = 20
"""Pairs for each change: enough to see a change that matters, few enough to try thirty."""

RUNS_MIN: Final = 4
"""Fewer pairs than this say nothing."""

SIMULATED_MAX_S: Final = 30 * 86_400
"""Simulated time that the what-ifs of one command may take; long scenarios get fewer pairs."""

SMALLEST_PROMISES: Final = 4
"""Failing promises for which the smallest change is looked for."""

SEARCHED_MAX: Final = 8
"""Runs that a search plays: the worst ones decide."""

JUDGED_MAX: Final = 4
"""Times that all runs judge what a search has found; after that it is given up."""

JUDGED_SHARE: Final = 10
"""How often all runs of a command fit into the simulated time of its what-ifs."""

STEPS_MAX: Final = 24
"""Halvings of a setting; by then two neighbours of three digits remain."""

DIGITS: Final = 3
"""Significant digits of a setting that was looked for: people set 208 s, not 208.31 s."""


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
        old, new = (
            [self.limit_s if v is None else min(v, self.limit_s) for v in side]
            for side in (self.before, self.after)
        )
        return fmean(old), fmean(new)


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

    def base(self) -> list[Outcome]:
        """Give the runs that everything is compared with."""
        self._runner.play([Work(self._base, self.seeds)])
        return list(self._runner.outcomes(self._base, self.seeds))

    # --- candidates

    def remediations(self) -> list[dict[str, Any]]:
        """Give every candidate that helps the promise which fails most, the best first."""
        rows = [row for row in self.rows(proposals(self._scenario.document)) if _helps(row)]
        return sorted(rows, key=lambda row: float(row["difference"]["value"]))

    def rows(self, candidates: Sequence[Proposal]) -> list[dict[str, Any]]:
        """Give what each change makes of the promise that fails most, in the order given."""
        base = self.base()
        promise = worst_promise(base, self._scenario.part("promises"))
        metric = metric_of(promise)
        changes = list(self._playable(candidates))
        self._runner.play([Work(change.job, self.seeds) for change in changes])
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

    def _playable(self, candidates: Sequence[Proposal]) -> Iterator[Change]:
        """Leave out what is no valid scenario: a candidate is an idea, not a setting."""
        for proposal in candidates:
            try:
                scenario = edited(self._scenario, proposal.set)
            except (DocumentError, ScenarioError):
                continue
            yield Change(proposal, job_of(scenario, self._engine))

    def _outcomes(self, job: Job) -> list[Outcome] | None:
        """Give the runs of a changed scenario; None if the engine does not play it."""
        try:
            return list(self._runner.outcomes(job, self.seeds))
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
                sides.append(next(self._playable([proposal]), None))
        self._runner.play([Work(side.job, self.seeds) for side in sides if side is not None])
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
            row[name] = {"set": side.proposal.change, "value": value}
            row |= {"name": spoken(path), "path": path}
        yield row

    # --- the smallest change

    def smallest(self) -> list[dict[str, Any]]:
        """Find, for each promise that fails, which settings alone would make it hold."""
        base = self.base()
        promised = self._scenario.part("promises")
        failing = [name for name in promised if state_over(base, name) == FAILS]
        rows: list[dict[str, Any]] = []
        for promise in failing[:SMALLEST_PROMISES]:
            metric = metric_of(promise)
            hurt = [one for one in base if one["valid"] and state_in(one, promise) == FAILS]
            worst = sorted(hurt, key=lambda one: _badness(metric, one), reverse=True)
            seeds = [int(one["seed"]) for one in worst[:SEARCHED_MAX]]
            for path, now, best in monotone(self._scenario.document):
                found = self._bisected(promise, path, now, best, seeds)
                if found is not None:
                    rows.append(self._smallest_row(promise, path, now, found))
        return rows

    def _bisected(
        self, promise: str, path: str, now: float, best: float, seeds: Sequence[int]
    ) -> float | None:
        """Give the value next to the present one with which a promise holds in all runs.

        The search plays the worst runs alone; all runs then judge what it has found, and those
        that fail join the search.
        """
        searched = list(seeds)
        judges = [int(one["seed"]) for one in self.base() if one["valid"]]
        bad = now
        for _ in range(JUDGED_MAX):
            if self._failing(promise, path, best, searched):
                return None
            good = best
            for _ in range(STEPS_MAX):
                middle = _between(good, bad)
                if middle is None:
                    break
                if self._failing(promise, path, middle, searched):
                    bad = middle
                else:
                    good = middle
            failing = self._failing(promise, path, good, judges)
            if not failing:
                return good
            if good == best:
                return None
            bad = good
            searched += failing[:SEARCHED_MAX]
        return None

    def _failing(self, promise: str, path: str, value: float, seeds: Sequence[int]) -> list[int]:
        """Give the seeds with which a promise does not hold; all, if it cannot be played."""
        asked = int(value) if float(value).is_integer() else value
        change = next(self._playable([Proposal(path, "", {path: asked})]), None)
        if change is None:
            return list(seeds)
        self._runner.play([Work(change.job, seeds)])
        try:
            outcomes = self._runner.outcomes(change.job, seeds)
        except ScenarioError:
            return list(seeds)
        held = {one["seed"] for one in outcomes if one["valid"] and state_in(one, promise) == HOLDS}
        return [seed for seed in seeds if seed not in held]

    def _smallest_row(self, promise: str, path: str, now: float, value: float) -> dict[str, Any]:
        promised = self._scenario.document["promises"][promise]
        asked = promise if promised is True else f"{promise} = {promised}"
        bound = ">=" if value > now else "<="
        return {
            "promise": promise,
            "path": path,
            "from": now,
            "value": value,
            "unit": shown(path, value).partition(" ")[2],
            "runs": len(self.seeds),
            "said": f"{asked} holds in all {len(self.seeds)} runs with {spoken(path)} {bound} "
            f"{shown(path, value)} (now {shown(path, now)})",
        }


def _badness(metric: Metric, outcome: Outcome) -> float:
    value = metric.of(outcome)
    return float("inf") if value is None else value


def _between(good: float, bad: float) -> float | None:
    """Give a number of few digits strictly between two, on the good side of their middle."""
    middle = (good + bad) / 2
    if min(good, bad) > 0 and max(good, bad) > 8 * min(good, bad):
        middle = (good * bad) ** 0.5
    for near in (float(f"{middle:.{DIGITS}g}"), float(f"{middle:.{DIGITS - 1}g}")):
        if min(good, bad) < near < max(good, bad):
            return near
    return None


def pairs(metric: Metric, base: Sequence[Outcome], after: Sequence[Outcome]) -> Pairs | None:
    """Pair runs of equal seeds; None if fewer than two are valid on both sides."""
    changed = {one["seed"]: one for one in after if one["valid"]}
    both = [(one, changed[one["seed"]]) for one in base if one["valid"] and one["seed"] in changed]
    if len(both) < 2:
        return None
    limit_s = watched_s([run for pair in both for run in pair])
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
    difference = row["difference"]
    return difference["value"] < 0 and (difference["high"] is None or difference["high"] <= 0)


def _swing_width(row: dict[str, Any]) -> float:
    values = row["low"]["value"], row["high"]["value"], row["base"]
    return float(max(values) - min(values))


def asked_for(scenario: Scenario, changes: Changes) -> Proposal:
    """Make the candidate of a change that a person asks about. Raises as `edited` does."""
    edited(scenario, changes)
    text = ", ".join(f"{spoken(path)} {shown(path, value)}" for path, value in changes.items())
    return Proposal(text, text, changes)


__all__ = ["WhatIf", "asked_for", "pairs", "runs_for", "searches_for", "spoken"]
