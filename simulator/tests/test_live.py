"""The live engine gives the trace of a drill as the other engines give theirs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_sim import live
from fractal_lba_sim.playing import job_of, play
from fractal_lba_sim.scenarios import find_scenario

Make = Callable[..., Scenario]


def test_plants_are_added_to_those_of_the_control(tiny: Make) -> None:
    scenario = tiny(control={"why": "x", "must_fail": ["rto_s"], "plant": ["one"]})
    assert live._planted(scenario, ()) is scenario
    planted = live._planted(scenario, ("two",))
    assert planted.control
    assert planted.plants == ("two",)
    again = live._planted(planted, ("three",))
    assert again.plants == ("two", "three")


@pytest.mark.drills
def test_a_drill_is_judged_as_a_run() -> None:
    scenario = find_scenario("region-kill", short=True)
    outcome = json.loads(play(job_of(scenario, "live"), 1))
    assert outcome["engine"] == "live"
    assert outcome["valid"]
    assert outcome["scenario_digest"] == scenario.digest
    assert [one["kind"] for one in outcome["incidents"]] == ["region-down"]
    assert sum(row["acked"] for row in outcome["accounts"].values()) > 0
