"""The shipped drills, played by the exact engine, come to the verdicts of the live ones."""

from __future__ import annotations

import pytest

from fractal_lba_server.drill.scenario import load_scenario, shipped
from fractal_lba_server.judge.check import FAILS, HOLDS, check
from fractal_lba_sim.exact.engine import Engine
from fractal_lba_sim.exact.world import unplayable

SEEDS = (1, 2, 3)
DRILLS = [name for name in shipped() if unplayable(load_scenario(name, short=True)) is None]
NOT_PLAYED = sorted(set(shipped()) - set(DRILLS))


def test_what_is_not_played_is_known() -> None:
    assert set(NOT_PLAYED) <= {"shared-region"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DRILLS)
def test_every_promise_of_a_drill_holds(name: str, seed: int) -> None:
    report = check(Engine().play(load_scenario(name, short=True), seed=seed))
    wrong = [verdict for verdict in report.verdicts if verdict.state != HOLDS]
    assert not wrong


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DRILLS)
def test_what_a_control_must_fail_fails(name: str, seed: int) -> None:
    scenario = load_scenario(name, short=True, control=True)
    report = check(Engine().play(scenario, seed=seed))
    for promise in scenario.document["control"]["must_fail"]:
        assert report.state_of(promise) == FAILS, report.verdicts
    assert report.state_of("effects") == HOLDS
