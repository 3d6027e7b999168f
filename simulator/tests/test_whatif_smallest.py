"""What is said to make a promise true does so in every run, and no smaller change does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_whatif import Counting

from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_sim.executors import Serial
from fractal_lba_sim.remedies import monotone
from fractal_lba_sim.runner import Runner
from fractal_lba_sim.smallest import BATCH, Search
from fractal_lba_sim.whatif import RUNS, WhatIf, asked_for

Make = Callable[..., Scenario]


def searching(scenario: Scenario, *, runs: int = RUNS, runner: Runner | None = None) -> Search:
    return Search(runner or Runner(Serial()), scenario, "tiny", seed=1, runs=runs)


def test_the_smallest_change_keeps_the_promise_in_every_run_and_a_smaller_one_does_not(
    tiny: Make,
) -> None:
    scenario = tiny()
    runner = Runner(Serial())
    asker = WhatIf(runner, scenario, "tiny", seed=1, runs=60)
    (row,) = searching(scenario, runs=60, runner=runner).smallest()
    assert row["path"] == "settings.probe.dns_ttl_s"
    assert 150 <= row["value"] < 156  # 30 s + TTL <= 180 s, and 60 runs do not draw the whole TTL
    assert row["said"] == (
        f"rto_s = 180 holds in all 60 runs with settings.probe.dns_ttl <= {row['value']:g} s "
        "(now 300 s)"
    )
    for value, state in ((row["value"], "holds"), (row["value"] + 1, "fails")):
        change = asked_for(scenario, {row["path"]: value})
        (found,) = asker.rows([change])
        assert found["holds"] == (state == "holds")


def test_a_promise_that_no_value_can_keep_gives_no_change(tiny: Make) -> None:
    assert searching(tiny(promises={"rto": "1s", "steady": "30s"})).smallest() == []


def test_a_value_that_fails_costs_one_batch(tiny: Make) -> None:
    counting = Counting()
    scenario = tiny(promises={"rto": "1s", "steady": "30s"})
    searching(scenario, runs=60, runner=Runner(counting)).smallest()
    settings = len(list(monotone(scenario.document)))
    assert len(counting.played) == 60 + settings * BATCH


@pytest.mark.parametrize(
    ("ttl", "failing"),
    [({"settings.probe.dns_ttl_s": 60}, False), ({"settings.probe.dns_ttl_s": 299}, True)],
)
def test_all_runs_judge_a_remedy_that_held_in_its_pairs(
    tiny: Make, ttl: dict[str, Any], failing: bool
) -> None:
    row: dict[str, Any] = {
        "name": "x",
        "change": "x",
        "set": ttl,
        "promise": "rto_s",
        "holds": True,
    }
    rows = [{**row, "holds": False}, row]
    searching(tiny(), runs=60).judge(rows)
    assert "judged" not in rows[0]
    assert rows[1]["judged"]["runs"] == 60
    assert bool(rows[1]["judged"]["failing"]) is failing


def test_a_promise_that_holds_needs_no_change(tiny: Make) -> None:
    assert searching(tiny(promises={"rto": "1h", "steady": "30s"})).smallest() == []
