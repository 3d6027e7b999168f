"""Find what makes a promise true in all runs: the smallest change of a setting, or a remedy.

The invariant of this file: what it says to hold held in every run that it names, and what is
given up was seen to fail. Runs are played the worst first and in batches that double, so a value
that fails costs few of them, and what is found depends on the seeds alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.check import FAILS, HOLDS

from .edits import shown
from .metrics import Metric, Outcome, metric_of, state_in, state_over
from .playing import Job, job_of
from .remedies import Proposal, monotone
from .runner import Runner, Work
from .whatif import playable, spoken

PROMISES_MAX: Final = 4
"""Failing promises for which the smallest change is looked for."""

REMEDIES_MAX: Final = 3
"""Remedies that are judged by all runs, the best first."""

BATCH: Final = 4
"""Runs of the first batch; each further one has twice as many."""

JUDGED_MAX: Final = 12
"""Times that all runs judge what a search has found; after that it is given up."""

STEPS_MAX: Final = 24
"""Halvings of a setting; by then two neighbours of three digits remain."""

DIGITS: Final = 3
"""Significant digits of a setting that was looked for: people set 208 s, not 208.31 s."""


class Search:
    """Judges changes of one scenario by all its runs."""

    def __init__(
        self, runner: Runner, scenario: Scenario, engine: str, *, seed: int, runs: int
    ) -> None:
        self._runner = runner
        self._scenario = scenario
        self._engine = engine
        base = job_of(scenario, engine)
        seeds = range(seed, seed + runs)
        runner.play([Work(base, seeds)])
        self._base: list[Outcome] = [one for one in runner.outcomes(base, seeds) if one["valid"]]

    def judge(self, remedies: Sequence[dict[str, Any]]) -> None:
        """Say of the best remedies whose promise held in their pairs what all runs say of it."""
        promising = [row for row in remedies if row["holds"] and self._fails(row["promise"])]
        for row in promising[:REMEDIES_MAX]:
            failing = self._failing(
                row["promise"], Proposal(row["name"], row["change"], row["set"]),
                self._worst_first(row["promise"]), f"judging: {row['change']}",
            )  # fmt: skip
            row["judged"] = {"runs": len(self._base), "failing": failing}

    def smallest(self) -> list[dict[str, Any]]:
        """Find, for each promise that fails, which settings alone would make it hold."""
        promised = self._scenario.part("promises")
        rows: list[dict[str, Any]] = []
        for promise in [name for name in promised if self._fails(name)][:PROMISES_MAX]:
            order = self._worst_first(promise)
            for path, now, best in monotone(self._scenario.document):
                found = self._bisected(promise, path, now, best, order)
                if found is not None:
                    rows.append(self._row(promise, path, now, found))
        return rows

    def _fails(self, promise: str) -> bool:
        return state_over(self._base, promise) == FAILS

    def _worst_first(self, promise: str) -> list[int]:
        metric = metric_of(promise)
        ordered = sorted(self._base, key=lambda one: _badness(metric, one), reverse=True)
        return [int(one["seed"]) for one in ordered]

    def _bisected(
        self, promise: str, path: str, now: float, best: float, order: Sequence[int]
    ) -> float | None:
        """Give the value next to the present one with which a promise holds in all runs.

        The search plays the worst runs alone; all runs then judge what it has found, and those
        that fail join the search.
        """

        def failing(value: float, seeds: Sequence[int]) -> list[int]:
            asked = int(value) if float(value).is_integer() else value
            change = Proposal(path, "", {path: asked})
            return self._failing(promise, change, seeds, f"smallest change of {spoken(path)}")

        searched = list(order[:BATCH])
        bad = now
        if failing(best, searched):
            return None
        for _ in range(JUDGED_MAX):
            good = best
            for _ in range(STEPS_MAX):
                middle = _between(good, bad)
                if middle is None:
                    break
                good, bad = (good, middle) if failing(middle, searched) else (middle, bad)
            found = failing(good, order)
            if not found:
                return good
            if good == best:
                return None
            bad = good
            searched = [*found, *searched]
        return None

    def _failing(
        self, promise: str, change: Proposal, seeds: Sequence[int], what: str
    ) -> list[int]:
        """Give the seeds of the first batch in which a promise does not hold; none if it does.

        All of a batch that cannot be played.
        """
        found = next(playable(self._scenario, self._engine, [change]), None)
        if found is None:
            return list(seeds[:BATCH])
        begin, size = 0, BATCH
        while begin < len(seeds):
            batch = seeds[begin : begin + size]
            self._runner.play([Work(found.job, batch)], what)
            failing = self._not_held(found.job, promise, batch)
            if failing:
                return failing
            begin, size = begin + size, 2 * size
        return []

    def _not_held(self, job: Job, promise: str, seeds: Sequence[int]) -> list[int]:
        try:
            outcomes = self._runner.outcomes(job, seeds)
        except ScenarioError:
            return list(seeds)
        held = {one["seed"] for one in outcomes if one["valid"] and state_in(one, promise) == HOLDS}
        return [seed for seed in seeds if seed not in held]

    def _row(self, promise: str, path: str, now: float, value: float) -> dict[str, Any]:
        promised = self._scenario.document["promises"][promise]
        asked = promise if promised is True else f"{promise} = {promised}"
        bound = ">=" if value > now else "<="
        runs = len(self._base)
        return {
            "promise": promise,
            "path": path,
            "from": now,
            "value": value,
            "unit": shown(path, value).partition(" ")[2],
            "runs": runs,
            "said": f"{asked} holds in all {runs} runs with {spoken(path)} {bound} "
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
