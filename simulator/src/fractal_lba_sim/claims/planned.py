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
from .verdicts import DisagreementError, agree

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


def edge_told(
    name: str, promise: str, runs: int, path: str, value: float,
    *, low: float, high: float, above: float, within: float,
) -> str:  # fmt: skip
    """Hold the edge that the engine finds against that of the formula, and tell both.

    The worst of n runs comes near a bound and not to it, so the edge lies about `above` higher.
    Raises DisagreementError where it does not lie `within` of that.
    """
    at = measured(name, promise, runs, path, value)
    found = edge(name, promise, runs, path, low=low, high=high)
    agree(f"edge of {path} in {name}", found=found, exact=value + above, within=within)
    return _told(
        name,
        f"at {value:g} s {promise} holds in {at.holds} of {runs} runs ({at.worst_s:.1f} s the "
        f"worst), by halves in all up to {found:.0f} s",
        promise,
        runs,
    )


def mean_told(name: str, promise: str, runs: int, *, exact_s: float, within_s: float) -> str:
    """Hold the mean that the engine finds against the formula, and tell it."""
    found = measured(name, promise, runs)
    agree(f"mean {promise} of {name}", found=found.mean_s, exact=exact_s, within=within_s)
    said = f"{found.mean_s:.0f} s in the mean of {runs} runs, {found.worst_s:.0f} s the worst"
    return _told(name, said, promise, runs)


def _told(name: str, said: str, promise: str, runs: int) -> str:
    """Add how often the control fails; one that never does shows that the scenario is blind."""
    control = scenario_of_claim(name, control=True)
    seeds = range(FIRST_SEED, FIRST_SEED + runs)
    fails = sum(_played(control, seed, promise)[1] == "fails" for seed in seeds)
    if not fails:
        message = f"the control of {name} fails in no run"
        raise DisagreementError(message)
    why = scenario_of_claim(name).part("control")["why"]
    return (
        f"The plan engine agrees (scenario {name}): {said}; of its control ({why}) {fails} of "
        f"{runs} runs fail"
    )
