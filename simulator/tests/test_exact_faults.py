"""Every kind of fault hits something in the exact engine, and the run around it stays whole."""

from __future__ import annotations

from typing import Any

import pytest

from fractal_lba_server.drill.kinds import FAULT_KINDS
from fractal_lba_server.drill.scenario import ScenarioError, scenario_of
from fractal_lba_server.judge.check import HOLDS, check
from fractal_lba_sim.exact.engine import Engine
from fractal_lba_sim.exact.fault_kinds import KINDS

REFUSED = {"listing-stale"}
PAIR = ["euw", "use"]
LINK = {"from": "euw", "to": "use"}


def two_regions(**more: Any) -> dict[str, Any]:
    return {
        "regions": [{"code": code} for code in PAIR],
        "placements": {"open": {"regions": PAIR, "topology": "active-active", "copies": 2}},
        "links": [{**LINK, "delay_ms": 20}],
        **more,
    }


def standby() -> dict[str, Any]:
    placement = {"regions": PAIR, "topology": "warm-standby", "copies": 2, "primary": "euw"}
    return two_regions(placements={"open": placement}, arbiter=True)


ALONE = {"regions": [{"code": "loc"}]}
SHARDS = {**ALONE, "shards": {"count": 3}}
TIERS = {"tiers": {"default": {"class": "hot", "hot_ttl": 3600, "warm_ttl": 1}}}
QUICK = {"live": {"shim": ["quick-mover", "shards-alone"]}}
LEASE = {"duration_s": 2, "renew_s": 0.4, "drift_s": 0.1}
PEOPLE = {
    "people": {
        "automatic": False, "page_s": 1, "decide_s": 1, "act_s": 1, "absent_extra_s": 2,
        "stale_step_extra_s": 2,
    },
    "lease": LEASE,
    "probe": {"interval_s": 0.5, "timeout_s": 0.5},
}  # fmt: skip
DEAD = {"id": "dead", "kind": "process-kill", "region": "euw", "at_s": 0.5, "for_s": 9}


def scenario(fault: dict[str, Any]) -> dict[str, Any]:
    kind = fault["kind"]
    topology: dict[str, Any] = two_regions()
    settings: dict[str, Any] = {}
    faults, steps = [fault], []
    family = FAULT_KINDS[kind].family
    if kind.startswith("shard"):
        topology = SHARDS
    elif kind == "cancel-cutover":
        topology, steps = SHARDS, [{"at_s": 0.5, "do": "migrate", "to_shards": 5}]
    elif family == "tiers and objects":
        topology, settings = ALONE, TIERS
    elif kind in ("double-promote", "probe-path-down"):
        topology, settings = standby(), {"lease": LEASE}
    elif kind in ("nobody-answers", "expert-absent", "stale-runbook"):
        topology, settings, faults = standby(), PEOPLE, [DEAD, fault]
    return {
        "version": 1,
        "name": "one-fault",
        "title": "one fault",
        "topology": topology,
        "settings": settings,
        "load": {
            "duration_s": 12, "rate_per_s": 20, "repeat_share": 0.3, "read_share": 0.3,
            "canary_per_s": 4, "settle_s": 20,
        },
        "faults": faults,
        "steps": steps,
        "promises": {"rto_s": 60, "steady_s": 1},
        "engines": QUICK,
    }  # fmt: skip


STEP = {"region": "euw", "step_ms": -900}
NOBODY = (
    "shard-flush", "hot-flush", "cold-down", "upload-reply-lost", "cancel-cutover", "key-rotated",
    "key-wrong", "key-revoked", "nobody-answers", "expert-absent", "stale-runbook",
)  # fmt: skip
MEMBERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("partition", "one-way-cut", "reset", "refuse"), LINK),
    "flapping": {**LINK, "period_s": 1},
    "delay": {**LINK, "delay_ms": 200},
    "bandwidth": {**LINK, "bandwidth_bytes_per_s": 20_000},
    **{kind: {**LINK, "share": 0.5} for kind in ("loss", "reorder", "duplicate")},
    "rolling-restart": {"region": "euw", "period_s": 1},
    **dict.fromkeys(("clock-offset", "clock-step", "clock-back"), STEP),
    "clock-drift": {"region": "euw", "drift_ppm": 100_000},
    "shard-down": {"shard": "s2"},
    **{kind: {} for kind in NOBODY},
    "double-promote": {"region": "use"},
}


def fault_of(kind: str) -> dict[str, Any]:
    at_s = 0.4 if FAULT_KINDS[kind].family == "people" else 3
    where = MEMBERS.get(kind, {"region": "euw"})
    return {"id": "one", "kind": kind, "at_s": at_s, "for_s": 4, **where}


def played(document: dict[str, Any], seed: int = 1, **more: Any) -> list[dict[str, Any]]:
    return Engine().play(scenario_of(document, "test"), seed=seed, **more)


def test_the_engine_plays_every_kind_but_those_it_refuses_by_name() -> None:
    assert KINDS.keys() | REFUSED == FAULT_KINDS.keys()
    assert not KINDS.keys() & REFUSED


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_fault_has_an_effect_and_the_books_add_up(kind: str) -> None:
    events = played(scenario(fault_of(kind)))
    report = check(events)
    for name in ("complete", "effects", "accounting", "answers", "phantom", "resurrected"):
        assert report.state_of(name) == HOLDS, (name, report.verdicts)


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_is_not_played_is_refused_by_name(kind: str) -> None:
    document = scenario({"id": "one", "kind": kind, "at_s": 1})
    with pytest.raises(ScenarioError, match=kind):
        played(document)
