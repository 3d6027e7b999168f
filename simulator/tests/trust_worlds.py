"""The small worlds of the trust tests, and how they are played and judged.

One region dies, a link is cut, people are slow: each world is as small as it can be and still have
the thing in it that a test asks about, so that hundreds of runs take seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from fractal_lba_server.drill.scenario import Scenario, scenario_of
from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.summary import outcome
from fractal_lba_sim.edits import place
from fractal_lba_sim.engine import engine

PAIR = ["euw", "use"]
DOWN = {"id": "gone", "kind": "region-down", "region": "euw", "at_s": 3, "for_s": 6, "spread_s": 1}

Events = list[dict[str, Any]]


def _document(name: str, **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": name,
        "title": name,
        "topology": {
            "regions": [{"code": code} for code in PAIR],
            "placements": {"open": {"regions": PAIR, "topology": "active-active", "copies": 2}},
            "links": [{"from": "euw", "to": "use", "delay_ms": 20}],
        },
        "load": {
            "duration_s": 14, "rate_per_s": 20, "settle_s": 10, "outbox_until": "replicated",
            "patience_ms": 1000, "attempt_timeout_ms": 1000,
        },
        "promises": {"steady_s": 2, "no_loss_at_level": "replicated"},
        "faults": [DOWN],
        **more,
    }  # fmt: skip


PROBE = {
    "interval_s": 1, "timeout_s": 0.5, "failures": 3, "successes": 2, "checkers": 3, "quorum": 2,
}  # fmt: skip
ONE_WRITER = {
    "regions": [{"code": code} for code in PAIR],
    "placements": {
        "open": {"regions": PAIR, "topology": "warm-standby", "copies": 2, "primary": "euw"}
    },
    "links": [{"from": "euw", "to": "use", "delay_ms": 20}],
    "arbiter": True,
}
LEASE = {"duration_s": 2, "renew_s": 0.4, "drift_s": 0.1}
NAMED = [{"name": "named", "endpoints": PAIR, "failover": "dns", "resolvers": 4}]

WORLDS: Mapping[str, dict[str, Any]] = {
    "outage": _document("outage"),
    "promotion": _document(
        "promotion",
        topology=ONE_WRITER,
        settings={"probe": PROBE, "lease": LEASE, "recovery": {"promote_s": 0}},
        faults=[{**DOWN, "for_s": 10}],
        steps=[{"do": "census", "census": "failover", "at_s": 11}],
    ),
    "names": _document(
        "names",
        settings={"probe": {**PROBE, "dns_ttl_s": 3, "propagation_s": 0.5}},
        load={**_document("")["load"], "clients": NAMED, "duration_s": 18},
        faults=[{**DOWN, "for_s": 12}],
    ),
    "burnt": _document(
        "burnt",
        topology={
            **_document("")["topology"],
            "links": [{"from": "euw", "to": "use", "delay_ms": 200}],
        },
        load={**_document("")["load"], "outbox_until": "durable", "rate_per_s": 40},
        promises={"steady_s": 2},
        faults=[{**DOWN, "kind": "disk-lost"}],
    ),
    "cut": _document(
        "cut",
        faults=[
            {
                "id": "cut", "kind": "partition", "from": "euw", "to": "use",
                "at_s": 3, "for_s": 4, "spread_s": 1,
            }
        ],
    ),
}  # fmt: skip
"""By name; `world` gives one of them with changes."""


def world(name: str, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Give a world, with other values at paths such as `settings.probe.interval_s`."""
    document = deepcopy(WORLDS[name])
    for path, value in (changes or {}).items():
        place(document, path, value)
    return scenario_of(document, name)


def played(scenario: Scenario, seed: int, *, name: str = "plan") -> Events:
    return [dict(event) for event in engine(name).play(scenario, seed=seed)]


def judged(scenario: Scenario, seed: int, *, name: str = "plan") -> dict[str, Any]:
    found: dict[str, Any] = outcome(check(played(scenario, seed, name=name)))
    return found


def outcomes(scenario: Scenario, seeds: Iterable[int], *, name: str = "plan") -> list[Any]:
    return [judged(scenario, seed, name=name) for seed in seeds]
