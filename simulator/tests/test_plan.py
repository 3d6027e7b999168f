"""The plan engine: books that add up, the same bytes for a seed, pairs, labels, units of time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_scenarios import TWO_REGIONS, judged, marks, of, played, two_regions

from fractal_lba_server.drill.scenario import ScenarioError, scenario_of
from fractal_lba_server.judge.check import check
from fractal_lba_server.schema_faults import schema_faults
from fractal_lba_sim.catalogue import CATALOGUE
from fractal_lba_sim.plan import engine as plan_engine
from fractal_lba_sim.plan.engine import Engine
from fractal_lba_sim.plan.faults import ELSEWHERE, PLAYS
from fractal_lba_sim.plan.setup import Setup
from fractal_lba_sim.plan.world import World
from fractal_lba_sim.streams import Streams

FAULTS = st.sampled_from(
    [
        {"kind": "region-down", "region": "euw"},
        {"kind": "process-kill", "region": "euw"},
        {"kind": "process-pause", "region": "use"},
        {"kind": "disk-lost", "region": "euw"},
        {"kind": "disk-stale", "region": "use", "age_s": 7},
        {"kind": "partition", "from": "euw", "to": "use"},
        {"kind": "one-way-cut", "from": "euw", "to": "use"},
        {"kind": "flapping", "from": "euw", "to": "use", "period_s": 3},
        {"kind": "partition", "from": "client", "to": "euw"},
        {"kind": "bandwidth", "from": "euw", "to": "use", "bandwidth_bytes_per_s": 10_000},
        {"kind": "loss", "from": "euw", "to": "use", "share": 0.3},
        {"kind": "disk-full", "region": "use"},
        {"kind": "region-gray", "region": "euw", "share": 0.5},
        {"kind": "clock-step", "region": "euw", "step_ms": 3_000},
    ]
)


def books(events: list[dict[str, Any]]) -> None:
    """Judge what must hold of every run."""
    report = check(events)
    for name in ("complete", "accounting", "phantom", "resurrected"):
        assert report.state_of(name) == "holds", (name, report.verdicts)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(FAULTS, st.integers(20, 80), st.integers(5, 40)), min_size=1, max_size=3),
    st.integers(0, 1_000),
    st.sampled_from(["even", "poisson"]),
    st.sampled_from(["durable", "replicated"]),
    st.sampled_from(["durable", "replicated"]),
    st.sampled_from(["outbox", "dns", "none"]),
)
def test_every_record_is_accounted_for_whatever_breaks(
    found: list[tuple[dict[str, Any], int, int]], seed: int, arrivals: str, level: str,
    until: str, failover: str,
) -> None:  # fmt: skip
    faults = [
        {**fault, "id": f"f{n}", "at_s": at_s, "for_s": for_s}
        for n, (fault, at_s, for_s) in enumerate(found)
    ]
    clients = [
        {"name": "eu", "endpoints": ["euw", "use"], "failover": failover, "resolvers": 3},
        {"name": "us", "endpoints": ["use", "euw"]},
    ]
    if failover != "dns":
        del clients[0]["resolvers"]
    over = {
        "settings": {"level": level, "shipping": {"interval_s": 2}},
        "load": {
            "duration_s": 150, "rate_per_s": 20, "arrivals": arrivals, "clients": clients,
            "outbox_until": until, "repeat_share": 0.1, "rival_share": 0.1, "settle_s": 300,
        },
        "faults": faults,
    }  # fmt: skip
    events = played(two_regions(over), seed)
    books(events)
    assert not schema_faults("trace", events[-1])
    calls = sum(e["count"] for e in of(events, "calls"))
    assert calls == pytest.approx(150 * 20, rel=0.2)


def test_every_line_is_of_the_trace_schema() -> None:
    for event in played(two_regions({"load": {"rival_share": 0.1, "canary_per_s": 1}})):
        assert not schema_faults("trace", event), event


def test_calls_of_a_client_follow_one_another_and_are_all_there() -> None:
    events = played(two_regions())
    for client in ("near-euw", "near-use"):
        mine = [e for e in of(events, "calls") if e["client"] == client]
        assert sum(e["count"] for e in mine) == 600 * 50
        assert all(a["at_ns"] == b["from_ns"] for a, b in pairwise(mine))


def test_one_seed_gives_one_trace_in_any_process() -> None:
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]);"
        "from plan_scenarios import played, two_regions;"
        "over = {'load': {'arrivals': 'poisson', 'rival_share': 0.1}};"
        "print(json.dumps(played(two_regions(over), 7)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program, os.path.dirname(__file__)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def test_another_seed_gives_another_trace() -> None:
    assert played(two_regions(), 1) != played(two_regions(), 2)


def test_a_fault_of_rate_nothing_leaves_what_happens_as_it_was() -> None:
    loss = {"id": "none", "kind": "loss", "from": "euw", "to": "use", "share": 0, "at_s": 1}
    jitter = {"links": [{"from": "euw", "to": "use", "delay_ms": 40, "jitter_ms": 9}]}
    plain = played(two_regions({"topology": jitter}))
    lossy = played(two_regions({"topology": jitter, "faults": [loss, *TWO_REGIONS["faults"]]}))
    for kind in ("flow", "calls", "phase"):
        counted = [sum(e.get("count", 0) for e in of(events, kind)) for events in (plain, lossy)]
        assert counted[0] == counted[1]
    assert marks(plain, "outage") == marks(lossy, "outage")


def test_what_ifs_meet_the_same_chance() -> None:
    named = {"clients": [{"name": "eu", "endpoints": ["euw", "use"], "failover": "dns"}]}
    for seed in range(5):
        ends = [
            marks(
                played(
                    two_regions({"load": named, "settings": {"probe": {"dns_ttl_s": ttl_s}}}), seed
                ),
                "outage",
            )
            for ttl_s in (30, 60)
        ]
        assert ends[0]["detect"] == ends[1]["detect"]
        waits = [one["reroute"] - one["detect"] for one in ends]
        assert waits[1] == pytest.approx(2 * waits[0], rel=1e-6)


def test_a_longer_unit_of_time_makes_every_recovery_longer_by_as_much() -> None:
    for seed in range(5):
        plain = judged(two_regions(), seed)
        slow = judged(
            two_regions(
                {
                    "topology": {"links": [{"from": "euw", "to": "use", "delay_ms": 80}]},
                    "settings": {"probe": {"interval_s": 20, "timeout_s": 4}},
                    "load": {
                        "duration_s": 1200, "rate_per_s": 50, "patience_ms": 2000,
                        "attempt_timeout_ms": 2000, "settle_s": 40,
                    },
                    "faults": [{"id": "outage", "kind": "region-down", "region": "euw",
                                "at_s": 400, "for_s": 200}],
                    "promises": {"steady_s": 60},
                }
            ),
            seed,
        )  # fmt: skip
        one, two = plain["incidents"][0], slow["incidents"][0]
        assert two["rto_s"] == pytest.approx(2 * one["rto_s"], abs=1e-6)
        assert one["rto_s"] > 1


def test_other_names_of_regions_change_names_alone() -> None:
    text = json.dumps(TWO_REGIONS)
    renamed = json.loads(text.replace("euw", "aaa").replace("use", "bbb"))
    clients = [
        {"name": "eu", "endpoints": ["euw", "use"]}, {"name": "us", "endpoints": ["use", "euw"]},
    ]  # fmt: skip
    plain = played(two_regions({"load": {"clients": clients}}), 3)
    renamed["load"]["clients"] = json.loads(
        json.dumps(clients).replace("euw", "aaa").replace("use", "bbb")
    )
    other = played(scenario_of(renamed, "renamed"), 3)
    lines = [json.dumps(e) for e in plain if e["event"] not in ("run", "digest")]
    again = [
        json.dumps(e).replace("aaa", "euw").replace("bbb", "use")
        for e in other
        if e["event"] not in ("run", "digest")
    ]
    assert lines == again


def test_bytes_are_delivered_dropped_or_under_way() -> None:
    scenario = two_regions({"faults": [
        {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 100, "for_s": 50},
        {"id": "outage", "kind": "region-down", "region": "euw", "at_s": 130, "for_s": 60},
    ]})  # fmt: skip
    world = World(Setup(scenario, Streams(1)))
    plan_engine._prepare(world, scenario.faults(1))
    world.agenda.run()
    assert world.net.carried
    for count in world.net.carried.values():
        assert count.sent == count.delivered + count.dropped + count.in_flight


def test_a_day_has_as_many_lines_as_half_of_it() -> None:
    lengths = [
        len(played(two_regions({"load": {"duration_s": hours * 3600, "rate_per_s": 4000}})))
        for hours in (12, 24)
    ]
    assert lengths[0] == lengths[1]


def test_rivals_within_a_partition_are_displaced_and_others_told() -> None:
    cut = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 100, "for_s": 200}
    load = {"rate_per_s": 100, "rival_share": 0.2}
    over = {"topology": {"links": None}, "load": load, "faults": [cut]}
    found = judged(two_regions(over))
    displaced = sum(row["displaced"] for row in found["accounts"].values())
    ids = 100 / 2 * 0.2 * 200  # one of two clients writes so many rivals while it lasts
    assert displaced == pytest.approx(ids, rel=0.05)


def test_a_governor_bounds_what_is_at_risk() -> None:
    over = {
        "settings": {"rpo_ms": 10_000},
        "load": {"duration_s": 300, "patience_ms": 2000},
        "faults": [
            {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 50},
            {"id": "outage", "kind": "region-down", "region": "euw", "at_s": 200},
        ],
    }
    lost = judged(two_regions(over))["incidents"][1]["lost"]
    assert 5 < lost["rpo_work_s"] <= 10.1


def test_an_outbox_brings_back_what_a_dead_region_had_not_shipped() -> None:
    over = {
        "settings": {"shipping": {"interval_s": 20}},
        "load": {"outbox_until": "replicated"},
        "faults": [{"id": "outage", "kind": "disk-lost", "region": "euw", "at_s": 200}],
        "promises": {"no_loss_end_to_end": True},
    }
    scenario = two_regions(over)
    found = judged(scenario)
    assert found["brought_by_outbox"] > 0
    assert check(played(scenario)).state_of("no_loss_end_to_end") == "holds"


def test_one_writer_follows_the_other() -> None:
    over = {
        "topology": {
            "placements": {"open": {"topology": "warm-standby", "primary": "euw"}},
            "arbiter": True,
        },
        "settings": {"probe": {"checkers": 3, "quorum": 2}},
        "promises": {"single_writer": True, "rto_s": 60},
    }
    for seed in range(10):
        report = check(played(two_regions(over), seed))
        assert report.state_of("single_writer") == "holds"
        assert report.state_of("rto_s") == "holds"


def test_people_hand_over_and_back_without_two_writers() -> None:
    over = {
        "topology": {
            "placements": {"open": {"topology": "warm-standby", "primary": "euw"}},
            "arbiter": True,
        },
        "steps": [
            {"at_s": 100, "do": "promote", "region": "use"},
            {"at_s": 400, "do": "failback", "region": "euw"},
        ],
        "promises": {"single_writer": True},
    }
    report = check(played(two_regions({**over, "faults": TWO_REGIONS["faults"]})))
    assert report.state_of("single_writer") == "holds"
    assert report.state_of("accounting") == "holds"


def test_a_step_that_flows_cannot_show_is_refused() -> None:
    with pytest.raises(ScenarioError, match="cannot play the step migrate"):
        Engine().play(two_regions({"steps": [{"at_s": 1, "do": "migrate"}]}), seed=1)


def test_a_survivor_that_is_too_small_answers_late() -> None:
    over = {
        "topology": {"regions": [{"code": "euw", "capacity_per_s": 60},
                                 {"code": "use", "capacity_per_s": 60}]},
        "faults": [{"id": "outage", "kind": "region-down", "region": "euw", "at_s": 200}],
        "promises": {"rto_s": 60},
    }  # fmt: skip
    assert check(played(two_regions(over))).state_of("rto_s") == "fails"


def test_every_kind_of_the_catalogue_is_played_or_refused_by_name() -> None:
    for kind, row in CATALOGUE.items():
        assert (kind in PLAYS) == ("plan" in row.engines)
        assert (kind in PLAYS) != (kind in ELSEWHERE)


@pytest.mark.parametrize("kind", sorted(ELSEWHERE))
def test_what_flows_cannot_show_is_refused(kind: str) -> None:
    fault: dict[str, Any] = {"id": "x", "kind": kind, "at_s": 1}
    fault |= {"region": "euw"} if kind in {"disk-torn", "bit-flip"} else {}
    if kind in {"reorder", "duplicate"}:
        fault |= {"from": "euw", "to": "use", "share": 0.1}
    with pytest.raises(ScenarioError, match=f"plan cannot play {kind}"):
        Engine().play(two_regions({"faults": [fault]}), seed=1)


def test_planted_bugs_are_for_other_engines() -> None:
    with pytest.raises(ScenarioError, match="cannot plant"):
        Engine().play(two_regions(), seed=1, plants=["acks-early"])
