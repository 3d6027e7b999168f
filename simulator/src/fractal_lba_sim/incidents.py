"""Public incidents as scenarios: what the plan engine predicts, and what was observed.

The invariant of this file: a prediction follows from an incident's own file alone, which holds its
parameters with their sources and nothing that was observed. What was observed is in a file of its
own, and is read only to compare. A prediction that was made before its author knew what was
observed says so (`blind`), and stays whether it hits or misses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from fractal_lba_server.drill.scenario import Scenario, ScenarioError, scenario_of
from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.recovery import percentile
from fractal_lba_server.judge.summary import outcome

from .edits import edited
from .engine import engine
from .scenarios import FOLDERS

SUBFOLDER: Final = "incidents"
OBSERVED: Final = "observed"
"""Name of the file that holds what was observed."""

RATIO_MAX: Final = 10.0
"""A wider interval, p95 by p5, says too little to be right or wrong."""

BAND: Final = (0.05, 0.5, 0.95)

BASES: Final = ("stated", "other incidents", "assumption on a stated size", "assumption")
"""Where a parameter may come from."""

MEMBERS: Final = frozenset(
    {
        "version", "incident", "title", "asked", "sources", "parameters", "scenario", "runs",
        "seed", "wrong", "predicted", "blind",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interval:
    """What runs say about one time, in seconds: 90 % of it and the middle."""

    p5_s: float
    p50_s: float
    p95_s: float

    @property
    def ratio(self) -> float:
        """Give how many times longer a bad case is than a good one."""
        return self.p95_s / self.p5_s if self.p5_s else float("inf")

    def __contains__(self, seconds: float) -> bool:
        """Say whether a time lies in it."""
        return self.p5_s <= seconds <= self.p95_s


@dataclass(frozen=True, slots=True)
class PublicIncident:
    """One file."""

    name: str
    document: Mapping[str, Any]
    scenario: Scenario

    @property
    def wrong(self) -> Scenario:
        """Give the scenario with the one set of parameters that must miss."""
        return edited(self.scenario, self.document["wrong"]["changes"])

    @property
    def is_blind(self) -> bool:
        """Say whether its author had not seen how long it lasted; the file says what was seen."""
        return "blind" in self.document

    @property
    def predicted(self) -> Interval | None:
        """Give the prediction that was committed, or None where none was."""
        found = self.document.get("predicted")
        return None if found is None else Interval(**found)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A prediction beside what was observed."""

    name: str
    predicted: Interval
    wrong: Interval
    observed_s: float | None
    """None until it is entered."""

    @property
    def holds(self) -> bool:
        """Say whether the interval is narrow enough and hits, and the wrong one misses."""
        if self.observed_s is None or self.predicted.ratio > RATIO_MAX:
            return False
        return self.observed_s in self.predicted and self.observed_s not in self.wrong

    @property
    def said(self) -> str:
        """Tell it in one line."""
        seen = "not entered" if self.observed_s is None else _minutes(self.observed_s)
        return (
            f"{self.name}: 90 % from {self._beside(self.predicted)} (ratio "
            f"{self.predicted.ratio:.1f}), observed {seen}; with the wrong parameters "
            f"{self._beside(self.wrong)}"
        )

    def _beside(self, interval: Interval) -> str:
        said = f"{_minutes(interval.p5_s)} to {_minutes(interval.p95_s)}"
        if self.observed_s is None:
            return said
        return f"{said}, {'inside' if self.observed_s in interval else 'outside'}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f} min"


def shipped_incidents() -> list[str]:
    """Name the incidents that come with the package."""
    return sorted(
        path.stem
        for folder in FOLDERS
        for path in (folder / SUBFOLDER).glob("*.yaml")
        if path.stem != OBSERVED
    )


def _document(name: str) -> dict[str, Any]:
    for folder in FOLDERS:
        path = folder / SUBFOLDER / f"{name}.yaml"
        if path.is_file():
            found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
            return found
    message = f"no incident is called {name!r}; there are {', '.join(shipped_incidents())}"
    raise ScenarioError(message)


def load_incident(name: str) -> PublicIncident:
    """Read an incident. Raises ScenarioError or DocumentError."""
    document = _document(name)
    unknown = [member for member in document if member not in MEMBERS]
    if unknown or document.get("incident") != name:
        message = f"{name}: expected an incident of that name, got the members {unknown}"
        raise ScenarioError(message)
    keys = {source["key"] for source in document["sources"]}
    for parameter in document["parameters"]:
        cited = parameter.get("source", [])
        cited = [cited] if isinstance(cited, str) else cited
        is_known = parameter["basis"] in BASES and keys.issuperset(cited)
        if not is_known or (parameter["basis"] != "assumption" and not cited):
            message = f"{name}: {parameter['path']}: expected one of {BASES} with its sources"
            raise ScenarioError(message)
    return PublicIncident(name, document, scenario_of(document["scenario"], name))


def observed_s(name: str) -> float | None:
    """Give what was observed, in seconds, or None where it is not entered."""
    found = _document(OBSERVED)["observed"].get(name)
    return None if found is None else float(found["minutes"]) * 60


def predict(scenario: Scenario, *, runs: int, seed: int) -> Interval:
    """Play the scenario and give the interval of its recovery. Raises ScenarioError.

    A run that does not recover within the trace makes the whole prediction void.
    """
    found: list[float] = []
    for number in range(runs):
        said = outcome(check(list(engine("plan").play(scenario, seed=seed + number))))
        incident = said["incidents"][0]
        if not said["valid"] or incident["rto_s"] is None:
            message = f"{scenario.name} with seed {seed + number} is not a whole run"
            raise ScenarioError(message)
        found.append(incident["rto_s"])
    found.sort()
    return Interval(*(round(percentile(found, share), 1) for share in BAND))


def fresh(incident: PublicIncident, scenario: Scenario) -> Interval:
    """Predict with the runs and the seed of the incident's file."""
    return predict(scenario, runs=incident.document["runs"], seed=incident.document["seed"])


def judge(name: str) -> Verdict:
    """Predict an incident anew and compare with what was observed."""
    incident = load_incident(name)
    return Verdict(
        name, fresh(incident, incident.scenario), fresh(incident, incident.wrong), observed_s(name)
    )
