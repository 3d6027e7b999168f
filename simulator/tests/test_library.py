"""The library is played: what it promises holds, and every negative control fails as it must.

A scenario whose promises fail in its own engine misleads whoever starts from it; one whose
control does not fail sees nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.check import FAILS, HOLDS, check
from fractal_lba_sim.catalogue import CATALOGUE
from fractal_lba_sim.engine import engine
from fractal_lba_sim.scenarios import find_scenario, shipped

SEED = 1

NOT_IN_EXACT = {
    "cold-standby-snapshots": "the server has no cold-standby yet",
    "segments-through-objects": "ships over links",
}
"""What the exact engine refuses, and the words in which it does: the server has none of it."""

IN_EXACT = [name for name in shipped() if name not in NOT_IN_EXACT]


def judged(scenario: Scenario, name: str) -> Any:
    events = list(engine(name).play(scenario, seed=SEED, plants=scenario.plants))
    return check(events)


@pytest.mark.parametrize("name", IN_EXACT)
def test_the_short_form_keeps_its_promises_on_the_exact_engine(name: str) -> None:
    report = judged(find_scenario(name, short=True), "exact")
    others = {one.name: one.said for one in report.verdicts if one.state != HOLDS}
    assert others == {}


@pytest.mark.parametrize("name", IN_EXACT)
def test_the_control_fails_by_name_on_the_exact_engine(name: str) -> None:
    scenario = find_scenario(name, short=True, control=True)
    report = judged(scenario, "exact")
    assert (report.state_of("complete"), report.state_of("effects")) == (HOLDS, HOLDS)
    named = scenario.part("control")["must_fail"]
    assert {promise: report.state_of(promise) for promise in named} == dict.fromkeys(named, FAILS)


@pytest.mark.parametrize("name", sorted(NOT_IN_EXACT))
def test_what_the_server_has_not_is_refused_by_the_exact_engine(name: str) -> None:
    with pytest.raises(ScenarioError, match=NOT_IN_EXACT[name]):
        judged(find_scenario(name, short=True), "exact")


def plan_has(name: str) -> bool:
    faults = find_scenario(name).document["faults"]
    return all("plan" in CATALOGUE[fault["kind"]].engines for fault in faults)


@pytest.mark.parametrize("name", [name for name in shipped() if not plan_has(name)])
def test_what_is_no_matter_of_fates_is_refused_by_the_plan_engine(name: str) -> None:
    with pytest.raises(ScenarioError, match="plan"):
        judged(find_scenario(name), "plan")


@pytest.mark.parametrize("name", [name for name in shipped() if plan_has(name)])
def test_the_short_form_is_a_valid_run_of_the_plan_engine(name: str) -> None:
    report = judged(find_scenario(name, short=True), "plan")
    for verdict in ("complete", "effects", "accounting"):
        assert report.state_of(verdict) == HOLDS, verdict
