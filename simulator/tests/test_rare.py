"""Splitting gives the chances that mathematics gives, far below what plain runs could show."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from trust_worlds import DOWN, played, world

from fractal_lba_sim import rare
from fractal_lba_sim.cli_rare import rare as command
from fractal_lba_sim.metrics import METRICS
from fractal_lba_sim.plan.engine import play as play_plan
from fractal_lba_sim.rare import Move, Rare, Redrawn, badness, chance_above
from fractal_lba_sim.streams import Streams
from fractal_lba_sim.waiting import NS_PER_S

UP = 0.25
TOP = 8
"""States of a small chain: from 1 up with this chance, else down, until 0 or the top."""

ERRORS = 3.5
"""Standard errors that an estimate may be off; seeds are fixed, so a test holds for good."""


def climbs(streams: Streams) -> float:
    state = highest = 1
    for number in range(10_000):
        state += 1 if streams.of("steps", str(number // 8)).random() < UP else -1
        highest = max(highest, state)
        if state in (0, TOP):
            return float(highest)
    raise AssertionError


def ruin(up: float) -> float:
    """Give the chance to see the top before 0: of the gambler who is not ruined."""
    odds = (1 - up) / up
    return (odds - 1) / (odds**TOP - 1)


def waits(streams: Streams) -> float:
    """Add up two exponential times, of 1 and 2 in the mean."""
    return streams.of("page").expovariate(1.0) + streams.of("decide").expovariate(0.5)


def waits_longer(at_s: float) -> float:
    return 2 * math.exp(-at_s / 2) - math.exp(-at_s)


def last(play: rare.Play, bound: float, *, repeats: int = 12, size: int = 40) -> Rare:
    return list(chance_above(play, bound, size=size, repeats=repeats))[-1]


def agrees(found: Rare, exact: float) -> bool:
    error = (found.high - found.low) / 4  # an interval of 95 % is about four of them
    return abs(found.value - exact) <= ERRORS * error


@pytest.mark.parametrize(
    ("play", "bound", "exact", "wrong"),
    [
        (climbs, TOP - 0.5, ruin(UP), ruin(UP + 0.05)),
        (waits, 20.0, waits_longer(20), waits_longer(17)),
    ],
)
def test_agrees_with_a_small_chain(
    play: Callable[[Streams], float], bound: float, exact: float, wrong: float
) -> None:
    found = last(play, bound)
    assert found.high < 3 * exact < 1e-3
    assert agrees(found, exact)
    assert not agrees(found, wrong)


def test_keeping_runs_that_are_not_bad_enough_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hasty(count: rare._Count, run: rare._Run, level: float, chance: rare.Random) -> rare._Run:
        return count.run(chance.getrandbits(53), ())

    monkeypatch.setattr(rare, "_moved", hasty)
    assert last(waits, 10.0).value < waits_longer(10) / 3


def test_what_never_happens_has_the_bound_of_as_many_plain_runs() -> None:
    found = last(climbs, TOP + 1.0, repeats=2, size=20)
    assert found.value == 0.0
    assert found.high == pytest.approx(1 - 0.05 ** (1 / 40))


def test_a_run_without_moves_is_that_of_its_seed() -> None:
    assert Redrawn(7, ()).of("a").random() == Streams(7).of("a").random()
    moved = Redrawn(7, (Move(1, 0.5, 0.0),))
    same = [moved.of(str(n)).random() == Streams(7).of(str(n)).random() for n in range(400)]
    assert 150 < sum(same) < 250
    drawn = [[one.of(str(n)).random() for n in range(20)] for one in (moved.anew(), moved.anew())]
    assert drawn[0] == drawn[1]


def test_plan_draws_everything_from_the_streams_that_it_is_given() -> None:
    scenario = world("names", {"load.arrivals": "poisson"})
    faults = scenario.faults(1)
    traces = [
        play_plan(scenario, Redrawn(1, moves), faults) for moves in ((), (Move(3, 1.0, 0.0),))
    ]
    assert traces[0] == played(scenario, 1)
    again = play_plan(scenario, Redrawn(1, (Move(3, 1.0, 0.0),)), faults)
    assert traces[1] == again != traces[0]


def test_people_who_take_long_are_as_rare_in_plan_as_they_should_be() -> None:
    people = {
        "automatic": False, "page_s": {"exponential": {"mean_s": 1}},
        "decide_s": {"exponential": {"mean_s": 2}}, "act_s": 0,
    }  # fmt: skip
    scenario = world("names", {
        "settings.people": people, "load.duration_s": 60, "faults": [{**DOWN, "for_s": 50}],
    })  # fmt: skip

    def decided_s(streams: Streams) -> float:
        events = play_plan(scenario, streams, scenario.faults(1))
        detect = next(e["at_ns"] for e in events if e.get("phase") == "detect")
        declared = next((e["at_ns"] for e in events if e["event"] == "declared"), None)
        return math.inf if declared is None else (declared - detect) / NS_PER_S

    found = last(decided_s, 9.0, repeats=5, size=16)
    assert agrees(found, waits_longer(9))
    assert not agrees(found, waits_longer(4))


def test_a_run_that_does_not_recover_is_worse_than_any_bound() -> None:
    lasting = {**DOWN, "for_s": 30}
    scenario = world("outage", {
        "faults": [lasting], "load.clients": [{"name": "one", "endpoints": ["euw"]}],
    })  # fmt: skip
    assert badness(scenario, METRICS["rto_s"])(Streams(1)) == math.inf


def test_the_command_says_how_rare_a_broken_promise_is(tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(json.dumps(dict(world("names").document)))
    words = [str(path), "--over", "6.5", "--size", "8", "--repeats", "2", "--quiet"]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("rto_s of more than 6.5")
    assert "95 % interval: " in done.output
    refused = CliRunner().invoke(command, [str(path)])
    assert refused.exit_code == 2
    assert "promises no rto_s" in refused.output
