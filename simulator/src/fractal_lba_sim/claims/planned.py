"""Play the scenarios of claims in the plan engine, paired by seed, and look for an edge.

The invariant of this file: two settings are compared over the same seeds, and what the engine says
is held against the closed form before it is told.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from fractal_lba_server.drill.scenario import Scenario, load_scenario
from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.summary import outcome

from ..edits import edited
from ..engine import engine
from .verdicts import DisagreementError

FOLDER: Final = Path(__file__).parent / "scenarios"
FIRST_SEED: Final = 1
HALVINGS: Final = 7
"""Steps of a search: 300 s wide, it ends within 3 s."""


class Measured(NamedTuple):
    """One figure of many runs, in the order of their seeds."""

    values_s: tuple[float, ...]
    holds: int
    """Runs in which the promise about it held."""

    @property
    def worst_s(self) -> float:
        """Give the largest value."""
        return max(self.values_s)

    @property
    def mean_s(self) -> float:
        """Give the mean."""
        return sum(self.values_s) / len(self.values_s)


def scenario_of_claim(name: str, *, control: bool = False) -> Scenario:
    """Read a scenario of this package."""
    return load_scenario(name, control=control, folders=(FOLDER,))


@cache
def measured(name: str, promise: str, runs: int, path: str = "", value: float = 0) -> Measured:
    """Play runs of a scenario, with another value at a path; `promise` is rto_s or rpo_s."""
    scenario = scenario_of_claim(name)
    if path:
        scenario = edited(scenario, {path: value})
    found = [_played(scenario, seed, promise) for seed in range(FIRST_SEED, FIRST_SEED + runs)]
    return Measured(tuple(value for value, _ in found), sum(state == "holds" for _, state in found))


def _played(scenario: Scenario, seed: int, promise: str) -> tuple[float, str]:
    said: dict[str, Any] = outcome(check(list(engine("plan").play(scenario, seed=seed))))
    if not said["valid"]:
        message = f"{scenario.name} with seed {seed} is not a valid run"
        raise DisagreementError(message)
    incident = said["incidents"][0]
    value = incident["rto_s"] if promise == "rto_s" else incident["lost"]["rpo_s"]
    states = {verdict["name"]: verdict["state"] for verdict in said["verdicts"]}
    # Where clients do not recover within the trace, that is later than everything.
    return (float("inf") if value is None else float(value)), states[promise]


def edge(name: str, promise: str, runs: int, path: str, *, low: float, high: float) -> float:
    """Give the largest value of a setting at which every run holds, by halves over paired runs."""
    for _ in range(HALVINGS):
        middle = round((low + high) / 2, 1)
        if measured(name, promise, runs, path, middle).holds == runs:
            low = middle
        else:
            high = middle
    return low


def control_fails(name: str, promise: str, runs: int) -> int:
    """Count the runs of the negative control in which the promise fails, as it must."""
    scenario = scenario_of_claim(name, control=True)
    seeds = range(FIRST_SEED, FIRST_SEED + runs)
    return sum(_played(scenario, seed, promise)[1] == "fails" for seed in seeds)
