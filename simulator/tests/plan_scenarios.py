"""Small scenarios for the tests of the plan engine, and their outcomes."""

from __future__ import annotations

import copy
from typing import Any

from fractal_lba_server.drill.scenario import Scenario, laid_over, scenario_of
from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.summary import outcome
from fractal_lba_sim.plan.engine import Engine

TWO_REGIONS: dict[str, Any] = {
    "version": 1,
    "name": "two-regions",
    "title": "Two regions, one of which is gone for a while",
    "topology": {
        "regions": [{"code": "euw"}, {"code": "use"}],
        "placements": {
            "open": {"regions": ["euw", "use"], "topology": "active-active", "copies": 2}
        },
        "links": [{"from": "euw", "to": "use", "delay_ms": 40}],
    },
    "settings": {"probe": {"interval_s": 10, "timeout_s": 2, "failures": 3, "successes": 2}},
    "load": {"duration_s": 600, "rate_per_s": 100},
    "faults": [{"id": "outage", "kind": "region-down", "region": "euw", "at_s": 200, "for_s": 100}],
    "promises": {"steady_s": 30},
}


def two_regions(over: dict[str, Any] | None = None) -> Scenario:
    """Lay something over the scenario of two regions."""
    document = laid_over(copy.deepcopy(TWO_REGIONS), over or {})
    return scenario_of(document, "two-regions")


def played(scenario: Scenario, seed: int = 1) -> list[dict[str, Any]]:
    return [dict(event) for event in Engine().play(scenario, seed=seed)]


def judged(scenario: Scenario, seed: int = 1) -> dict[str, Any]:
    return outcome(check(played(scenario, seed)))


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def marks(events: list[dict[str, Any]], incident: str) -> dict[str, float]:
    """Give when each phase of an incident was over, in seconds since the disruption."""
    begun = next(e["at_ns"] for e in of(events, "fault") if e["id"] == incident)
    return {
        e["phase"]: (e["at_ns"] - begun) / 1e9
        for e in of(events, "phase")
        if e["incident"] == incident
    }


def distance_to_uniform(values: list[float], low: float, high: float) -> float:
    """Give the Kolmogorov-Smirnov distance of a sample from the uniform distribution."""
    ordered = sorted((value - low) / (high - low) for value in values)
    count = len(ordered)
    return max(
        max(value - place / count, (place + 1) / count - value)
        for place, value in enumerate(ordered)
    )


def ks_bound(count: int) -> float:
    """Give the distance that one sample of a thousand exceeds by chance."""
    return 1.95 / count**0.5
