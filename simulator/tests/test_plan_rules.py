"""Plan asks the core and the SDK: whoever changes a rule of theirs changes what plan says.

Each row changes one rule in place and plays the same scenario again. What a fluid of records cannot
ask record by record is listed in `fractal_lba_sim.plan`, and compared here with the rule.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_scenarios import of, played, two_regions
from test_plan_standby import OUTAGE, SLIP, pair

from fractal_lba.endpoints import Fleet
from fractal_lba.retry import RetryPolicy
from fractal_lba_server.core import fate, health, lease, reconcile, replication, residency
from fractal_lba_server.core.governor import RPO_MS_MIN, SOFT_SHARE, Governor
from fractal_lba_server.core.ingest import CUT_OFF_MS
from fractal_lba_server.core.levels import Levels
from fractal_lba_server.core.replication import Shipper
from fractal_lba_server.core.roles import Role
from fractal_lba_server.core.streams import Stream
from fractal_lba_server.drill.scenario import Scenario, scenario_of
from fractal_lba_server.judge.check import check
from fractal_lba_sim.plan.governing import GROWTH
from fractal_lba_sim.plan.retrying import failing_calls
from fractal_lba_sim.waiting import NS_PER_MS

Change = tuple[Any, str, Any]
"""Of what, which member, and what stands there instead."""

NARROW = two_regions(
    {
        "topology": {"links": [{"from": "euw", "to": "use", "delay_ms": 40,
                                "bandwidth_bytes_per_s": 40_000}]},
        "load": {"clients": [{"name": "eu", "endpoints": ["euw"]}], "settle_s": 0},
        "faults": [{"id": "gone", "kind": "partition", "from": "euw", "to": "use", "at_s": 100,
                    "for_s": 50}],
    }
)  # fmt: skip
GOVERNED = two_regions(
    {
        "settings": {"rpo_ms": 10_000},
        "faults": [{"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 100}],
    }
)
REPLICATED = two_regions({"settings": {"level": "replicated"}, "faults": []})
RIVALS = two_regions(
    {
        "load": {"rival_share": 0.2},
        "faults": [{"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 100,
                    "for_s": 200}],
    }
)  # fmt: skip

_PASS = Governor(RPO_MS_MIN).decide(0, 0)
_COMES_FIRST = fate.comes_first
_ASK = lease.ask


def _hasty(row: lease.Row, *args: Any) -> lease.Decision:
    return _ASK(row._replace(busy_until_ns=0), *args)


ROWS: dict[str, tuple[Scenario, Change]] = {
    "roles: nobody counts as fenced": (pair(OUTAGE), (Role, "_is_fenced", lambda role: False)),
    "roles: no follower is told who leads": (
        pair(SLIP, endpoints=["use", "euw"]), (Role, "_elsewhere", lambda role: None),
    ),
    "roles: whoever stepped down is not let home": (
        pair(SLIP), (Role, "_step_down", lambda role, epoch, leader: iter(())),
    ),
    "streams: a lease has no end": (
        pair({"id": "deaf", "kind": "partition", "from": "euw", "to": "arbiter", "at_s": 7}),
        (Stream, "may_write", lambda stream, now_ns: True),
    ),
    "lease: nothing is waited for": (pair(SLIP), (lease, "ask", _hasty)),
    "health: no quorum is ever reached": (
        pair(OUTAGE), (health.Quorum, "verdict", lambda quorum, region, now_ns: None),
    ),
    "residency: no frame leaves": (two_regions(), (residency, "WITHIN_PLACEMENT", frozenset())),
    "reconcile: a gap is never large": (NARROW, (reconcile, "GAP_P2_PPM", 10**9)),
    "governor: it never refuses": (
        GOVERNED, (Governor, "decide", lambda governor, lag_ms, now_ns: _PASS),
    ),
    "shipping: what is acknowledged is sent again": (
        two_regions(), (Shipper, "_on_acked", lambda shipper, event, now_ns: []),
    ),
    "shipping: nobody gives a lost tail back": (
        two_regions({"faults": [{"id": "gone", "kind": "disk-lost", "region": "euw", "at_s": 200,
                                 "for_s": 100}]}),
        (replication, "lost_tail", lambda last_seq, held: None),
    ),
    "fate: whoever comes later stands": (
        RIVALS, (fate, "comes_first", lambda a, b: ~_COMES_FIRST(a, b)),
    ),
    "fate: one copy more is needed": (
        REPLICATED, (fate, "replicated", lambda held, copies: held.min(axis=0) - 5 * 10**9),
    ),
    "endpoints: no failure counts": (
        two_regions(), (Fleet, "_failed", lambda fleet, index, now_ms: fleet),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_changed_rule_changes_the_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, (owner, member, instead) = ROWS[name]
    before = played(scenario)
    assert getattr(owner, member) is not instead
    monkeypatch.setattr(owner, member, instead)
    assert played(scenario) != before


def test_how_grave_a_difference_is_is_said() -> None:
    said = [event["said"] for event in of(played(NARROW), "note")]
    assert said
    assert all(text.endswith(": P2") for text in said)


def test_a_retry_policy_of_one_attempt_changes_how_many_calls_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several = failing_calls(0.5, 10_000)
    monkeypatch.setattr(RetryPolicy, "default", RetryPolicy.none)
    failing_calls.cache_clear()
    alone = failing_calls(0.5, 10_000)
    failing_calls.cache_clear()
    assert several == pytest.approx(0.125)
    assert alone == pytest.approx(0.5)


# --- without an arbiter (spec/roles.md 4.5)


def without_arbiter(fault: dict[str, Any], *, people: Any = None, **more: Any) -> Scenario:
    document = dict(pair(fault).document)
    document["topology"] = {**document["topology"], "arbiter": False}
    settings = {name: part for name, part in document["settings"].items() if name != "lease"}
    document["settings"] = {**settings, "people": people or {}}
    return scenario_of({**document, **more}, "no-arbiter")


def writers(events: list[dict[str, Any]]) -> set[tuple[str, int]]:
    flows = of(events, "flow")
    return {(e["region"], e["region_epoch"]) for e in flows if e["result"] == "new"}


def test_without_an_arbiter_no_program_promotes() -> None:
    assert writers(played(without_arbiter(OUTAGE))) == {("euw", 1)}


def test_without_an_arbiter_people_promote_to_an_epoch_of_the_candidate_alone() -> None:
    people = {"automatic": False, "page_s": 1, "decide_s": 1, "act_s": 1}
    assert ("use", 65) in writers(played(without_arbiter(OUTAGE, people=people)))


@pytest.mark.parametrize("is_cut", [False, True])
def test_who_is_said_to_be_stopped_goes_on_where_it_does_not_hear(is_cut: bool) -> None:
    cut = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 8, "for_s": 20}
    slip = {**SLIP, "at_s": 10}
    load = pair(slip).document["load"] | {
        "clients": [{"name": "one", "endpoints": ["euw"]}, {"name": "two", "endpoints": ["use"]}]
    }
    scenario = without_arbiter(slip, load=load, faults=[cut, slip] if is_cut else [slip])
    flows = [e for e in of(played(scenario), "flow") if e["result"] == "new"]
    during = {e["region"] for e in flows if e["first_ns"] < 20e9 < e["at_ns"]}
    assert during == ({"euw", "use"} if is_cut else {"use"})


# --- taking over and handing over (spec/roles.md 4.3, 5.3)

HANDED = {
    "topology": {
        "placements": {"open": {"topology": "warm-standby", "primary": "euw"}}, "arbiter": True,
    },
    "steps": [{"at_s": 100, "do": "failback", "to": "use"}],
    "promises": {"single_writer": True, "no_loss_at_level": "replicated"},
    "faults": [],
}  # fmt: skip


def test_a_hand_over_loses_nothing_and_takes_two_ticks_and_a_way() -> None:
    events = played(two_regions(HANDED))
    assert writers(events) == {("euw", 1), ("use", 2)}
    flows = [e for e in of(events, "flow") if e["result"] == "new"]
    stopped_ns = max(e["at_ns"] for e in flows if e["region"] == "euw")
    begun_ns = min(e["first_ns"] for e in flows if e["region"] == "use")
    assert stopped_ns / 1e9 == pytest.approx(100, abs=0.1)
    assert stopped_ns < begun_ns < stopped_ns + 5e9
    assert check(events).state_of("single_writer") == "holds"


def test_a_hand_over_to_a_region_that_cannot_catch_up_is_given_up() -> None:
    cut = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 90, "for_s": 30}
    events = played(two_regions({**HANDED, "faults": [cut]}))
    assert writers(events) == {("euw", 1)}
    flows = [e for e in of(events, "flow") if e["result"] == "new"]
    assert not any(e["first_ns"] < 104e9 < e["at_ns"] for e in flows)  # it had stopped for 10 s
    assert any(e["first_ns"] < 130e9 < e["at_ns"] for e in flows)


def test_without_an_arbiter_a_writer_hands_over_to_a_region_that_takes_it() -> None:
    steps = [{"at_s": 10, "do": "failback", "to": "use"}]
    events = played(without_arbiter(OUTAGE, faults=[], steps=steps))
    assert writers(events) == {("euw", 1), ("use", 65)}
    flows = [e for e in of(events, "flow") if e["result"] == "new"]
    stopped_ns = max(e["at_ns"] for e in flows if e["region"] == "euw")
    assert all(e["first_ns"] > stopped_ns for e in flows if e["region"] == "use")
    gone = {**OUTAGE, "region": "use", "at_s": 9, "for_s": 25}
    assert writers(played(without_arbiter(OUTAGE, faults=[gone], steps=steps))) == {("euw", 1)}


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_cold_standby_that_is_promoted_by_mistake_writes_beside_whom_it_does_not_hear(
    is_cut: bool,
) -> None:
    slip = {"id": "slip", "kind": "double-promote", "region": "use", "at_s": 100}
    cut = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 50}
    over = {
        "topology": {"placements": {"open": {"topology": "cold-standby", "primary": "euw"}}},
        "settings": {"snapshot": {"interval_s": 30, "boot_s": 5}},
        "faults": [cut, slip] if is_cut else [slip],
    }
    flows = [e for e in of(played(two_regions(over)), "flow") if e["result"] == "new"]
    during = {e["region"] for e in flows if e["first_ns"] < 300e9 < e["at_ns"]}
    assert during == ({"euw", "use"} if is_cut else {"use"})


@pytest.mark.parametrize("learns", [True, False])
def test_a_candidate_fetches_what_only_a_third_region_holds(
    learns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = ["euw", "use", "apn"]
    links = [{"from": a, "to": b, "delay_ms": 40} for a, b in (codes[:2], codes[1:], codes[::2])]
    over = {
        "topology": {
            "regions": [{"code": code} for code in codes], "links": links, "arbiter": True,
            "placements": {
                "open": {"regions": codes, "topology": "warm-standby", "copies": 2,
                         "primary": "euw"}
            },
        },
        "settings": {"level": "replicated"},
        "promises": {"no_loss_at_level": "replicated"},
        "faults": [
            {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 150},
            {"id": "gone", "kind": "disk-lost", "region": "euw", "at_s": 200},
        ],
    }  # fmt: skip
    if not learns:
        monkeypatch.setattr(Role, "_lacking", lambda role: None)
    events = played(two_regions(over))
    assert ("use", 2) in writers(events)
    held = [e for e in of(events, "span") if e["census"] == "end" and e["region"] == "use"]
    until = max(e["first"] + e["count"] for e in held if e["of"] == "euw")
    known = [e["seq"] for e in of(events, "watermark") if e["region"] == "euw"]
    assert (until > max(known)) == learns


# --- what a fluid cannot ask


@given(st.integers(RPO_MS_MIN, 10_000_000), st.floats(0.0, 0.999))
def test_the_delay_of_a_governor_grows_as_the_fluid_says(rpo_ms: int, share: float) -> None:
    soft_ms = int(rpo_ms * SOFT_SHARE)
    lag_ms = soft_ms + int((rpo_ms - 1 - soft_ms) * share)
    governor = Governor(rpo_ms)
    assert governor.decide(soft_ms - 1, 0).wait_ms == 0
    grown_ms = governor.decide(lag_ms, 0).wait_ms - governor.decide(soft_ms, 0).wait_ms
    assert abs(grown_ms - GROWTH * (lag_ms - soft_ms)) <= 1 + 0.02 * grown_ms
    assert governor.decide(rpo_ms, 0).refuse


def test_a_region_is_alone_when_the_core_says_so() -> None:
    levels = Levels(copies=2, peers=("use",))
    levels.heard(0)
    assert not levels.is_cut_off(CUT_OFF_MS * NS_PER_MS, after_ms=CUT_OFF_MS)
    assert levels.is_cut_off(CUT_OFF_MS * NS_PER_MS + 1, after_ms=CUT_OFF_MS)
    cut = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 100, "for_s": 60}
    events = played(two_regions({"settings": {"on_partition": "refuse"}, "faults": [cut]}))
    refused = [e["first_ns"] for e in of(events, "flow") if e["result"] == "refused"]
    assert min(refused) / 1e9 == pytest.approx(100 + CUT_OFF_MS / 1000, abs=0.1)


# --- names (spec/roles.md 6.2, 6.3)


def test_names_leave_and_return_to_a_drained_region_when_probes_say_so() -> None:
    probe = {"interval_s": 10, "timeout_s": 2, "failures": 3, "successes": 2, "dns_ttl_s": 5}
    named = {"name": "eu", "endpoints": ["euw", "use"], "failover": "dns", "resolvers": 4}
    over = {
        "settings": {"probe": probe, "recovery": {"fail_back_s": 0}},
        "load": {"clients": [named]},
        "steps": [{"do": "drain", "region": "euw", "at_s": 100},
                  {"do": "undrain", "region": "euw", "at_s": 300}],
        "faults": [],
    }  # fmt: skip
    flows = [e for e in of(played(two_regions(over)), "flow") if e["result"] == "new"]
    left_s = min(e["first_ns"] for e in flows if e["region"] == "use") / 1e9
    assert 100 + 2 * 10 + 2 < left_s < 100 + 3 * 10 + 2 + 5
    back_s = min(e["first_ns"] for e in flows if e["region"] == "euw" and e["at_ns"] > 300e9) / 1e9
    assert 300 + 10 < back_s < 300 + 2 * 10 + 5
    assert max(e["at_ns"] for e in flows if e["region"] == "use") / 1e9 < 300 + 2 * 10 + 5 + 0.1
