"""A promotion in plan takes the steps that the server takes: vote, question, renewal, lease."""

from __future__ import annotations

from copy import deepcopy
from itertools import groupby
from typing import Any

import pytest
from plan_scenarios import judged, marks, played

from fractal_lba_server.core import lease
from fractal_lba_server.drill.scenario import Scenario, scenario_of
from fractal_lba_sim.plan.retrying import failing_calls
from fractal_lba_sim.plan.writers import Writers

OUTAGE = {"id": "gone", "kind": "region-down", "region": "euw", "at_s": 7, "for_s": 15}
SLIP = {"id": "gone", "kind": "double-promote", "region": "use", "at_s": 7, "for_s": 15}
RENEW_S, LEASE_S, DRIFT_S = 0.4, 2.0, 0.1
RUNS = 40
PAIRS = [("euw", "use"), ("use", "euw")]


def pair(fault: dict[str, Any], **client: Any) -> Scenario:
    """Give a warm standby with leases, and one client."""
    document = {
        "version": 1,
        "name": "pair",
        "title": "One writer and its standby",
        "topology": {
            "regions": [{"code": "euw"}, {"code": "use"}],
            "placements": {
                "open": {
                    "regions": ["euw", "use"], "topology": "warm-standby", "copies": 2,
                    "primary": "euw",
                }
            },
            "links": [{"from": "euw", "to": "use", "delay_ms": 35}],
            "arbiter": True,
        },
        "settings": {
            "probe": {
                "interval_s": 1, "timeout_s": 0.5, "failures": 3, "successes": 2, "checkers": 3,
                "quorum": 2, "dns_ttl_s": 2,
            },
            "lease": {"duration_s": LEASE_S, "renew_s": RENEW_S, "drift_s": DRIFT_S},
            "recovery": {"fail_back_s": 2},
        },
        "load": {
            "duration_s": 40, "rate_per_s": 20, "settle_s": 15, "outbox_until": "replicated",
            "attempt_timeout_ms": 2000, "patience_ms": 2000,
            "clients": [{"name": "one", "endpoints": ["euw", "use"], **client}],
        },
        "promises": {"steady_s": 2, "no_loss_end_to_end": True},
        "faults": [fault],
    }  # fmt: skip
    return scenario_of(document, "pair")


def test_the_writer_comes_after_vote_question_and_renewal() -> None:
    found = [marks(played(pair(OUTAGE), seed), "gone")["promote"] for seed in range(RUNS)]
    # Two intervals, a part of one and a time limit until the vote; then a part of a renewal, and
    # a whole one.
    assert min(found) > 2 + 0.5 + RENEW_S
    assert max(found) < 3 + 0.5 + 2 * RENEW_S
    assert max(found) - min(found) > RENEW_S  # the parts are drawn


def test_a_client_declares_when_it_leaves_home_and_is_served_with_the_next_call() -> None:
    ends = marks(played(pair(OUTAGE), 1), "gone")
    assert 2 < ends["detect"] < 2.3  # three attempts of 2 s, all under way at once
    assert ends["reroute"] - ends["promote"] < 0.1


def test_a_replaced_writer_does_not_release_its_lease() -> None:
    for seed in range(RUNS):
        ends = marks(played(pair(SLIP), seed), "gone")
        assert LEASE_S + DRIFT_S - RENEW_S <= ends["promote"] <= LEASE_S + DRIFT_S + 0.2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_name_does_not_return_to_a_region_that_is_a_standby_now(seed: int) -> None:
    found = judged(pair(OUTAGE, failover="dns"), seed)
    states = {verdict["name"]: verdict["state"] for verdict in found["verdicts"]}
    assert states["no_loss_end_to_end"] == "holds"
    assert found["incidents"][0]["rto_s"] is not None


def test_a_name_that_returns_to_a_standby_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writers, "takes_records", lambda writers, region: True)
    found = judged(pair(OUTAGE, failover="dns"), 1)
    states = {verdict["name"]: verdict["state"] for verdict in found["verdicts"]}
    assert states["no_loss_end_to_end"] == "fails"


THREE = [{"code": "euw"}, {"code": "use"}, {"code": "aps"}]
THERE_AND_BACK = [
    {"do": "failback", "to": to, "at_s": at_s} for to, at_s in (("use", 8), ("euw", 20))
]


def three(endpoints: list[str], topology: str, faults: list[dict[str, Any]]) -> Scenario:
    """Give a standby, a region that holds nothing of the placement, and one client."""
    document = deepcopy(dict(pair(OUTAGE).document))
    document["load"]["clients"] = [{"name": "one", "endpoints": endpoints}]
    document["topology"]["regions"] = THREE
    document["topology"]["placements"]["open"]["topology"] = topology
    return scenario_of({**document, "faults": faults}, "three")


@pytest.mark.parametrize("topology", ["warm-standby", "cold-standby"])
@pytest.mark.parametrize("home", ["use", "aps"])
def test_a_client_near_who_takes_no_record_goes_where_the_first_answer_says(
    topology: str, home: str
) -> None:
    found = judged(three([home, "euw"], topology, []), 1)
    assert found["calls"]["one"] == {"count": 800, "good": 799}
    assert found["refused"] == 1


def test_a_client_near_who_takes_no_record_knows_from_probes_not_to_go_there() -> None:
    found = judged(three(["aps", "euw", "use"], "warm-standby", [OUTAGE]), 1)
    assert found["incidents"][0]["rto_s"] is not None


def test_a_client_follows_a_hand_over_and_back_wherever_its_home_is() -> None:
    document = dict(pair(OUTAGE).document)
    both = [{"name": f"near-{one}", "endpoints": [one, other]} for one, other in PAIRS]
    load = {**document["load"], "clients": both}
    more = {"load": load, "steps": THERE_AND_BACK, "faults": []}
    events = played(scenario_of({**document, **more}, "handed"))
    for name in ("near-euw", "near-use"):
        taken = [e for e in events if e["event"] == "flow" and e["client"] == name]
        taken = sorted((e for e in taken if e["result"] == "new"), key=lambda e: e["at_ns"])
        assert [where for where, _ in groupby(e["region"] for e in taken)] == ["euw", "use", "euw"]
        assert taken[-1]["at_ns"] > 39.9e9


def test_an_arbiter_that_does_not_wait_for_the_lease_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promote = lease.promote

    def hasty(*args: Any) -> lease.Decision:
        decision = promote(*args)
        return decision._replace(row=decision.row._replace(busy_until_ns=0))

    monkeypatch.setattr(lease, "promote", hasty)
    ends = marks(played(pair(SLIP), 1), "gone")
    assert ends["promote"] < LEASE_S + DRIFT_S - RENEW_S


@pytest.mark.parametrize(
    ("share", "patience_ms", "expected"),
    [(0.0, 1000, 0.0), (1.0, 1000, 1.0), (0.5, 10_000, 0.125), (0.5, 0, 0.5)],
)
def test_a_call_fails_where_all_its_attempts_in_time_fail(
    share: float, patience_ms: int, expected: float
) -> None:
    assert failing_calls(share, patience_ms) == pytest.approx(expected)
