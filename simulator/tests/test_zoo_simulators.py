"""Wrong simulators are caught, each by a relation with a name; the right one breaks none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fractal_lba_server.judge.check import FAILS, check
from fractal_lba_sim.engine import engine
from fractal_lba_sim.exact.plants import planted
from fractal_lba_sim.exact.world import World
from fractal_lba_sim.explore.schedule import Schedule
from fractal_lba_sim.explore.zoo import base
from fractal_lba_sim.explore.zoo.environment import ENVIRONMENTS, RELATIONS, RIGHT, WRONG, broken

Events = list[Any]
BUGS_MIN = 13
DELAY_MS = 20
"""One way of the link of the pair."""

CUT = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 1, "for_s": 3}
DOWN = {"id": "down", "kind": "region-down", "region": "use", "at_s": 1, "for_s": 2}
OFF = {
    "id": "off", "kind": "clock-offset", "region": "use", "step_ms": 50, "at_s": 1.5, "for_s": 4,
}  # fmt: skip
LOSS = {
    "id": "loss", "kind": "loss", "from": "euw", "to": "use", "share": 0.3, "at_s": 0, "for_s": 4,
}  # fmt: skip


def played(*faults: dict[str, Any], plants: tuple[str, ...] = (), seed: int = 1) -> Events:
    schedule: Schedule = base("pair").with_events(faults).expect_valid()
    return list(engine("exact").play(schedule.scenario, seed=seed, plants=plants))


def effects_hold(plants: tuple[str, ...], *faults: dict[str, Any]) -> bool:
    return check(played(*faults, plants=plants)).state_of("effects") != FAILS


def nothing_over_a_cut(plants: tuple[str, ...]) -> bool:
    """What one side took while cut off, the other learns of after the heal, on both sides."""
    events = played(CUT, plants=plants)
    rows = [event for event in events if event["event"] == "fault" and event["id"] == "cut"]
    begin_ns, end_ns = rows[0]["at_ns"] + 100_000_000, rows[-1]["at_ns"]
    known: dict[str, str] = {}
    for event in events:
        inside = begin_ns < event["at_ns"] < end_ns
        if event["event"] == "put" and inside and "frame" in event:
            origin = event["frame"].partition(":")[0]
            if event["result"] == "new":
                known[event["frame"]] = event["region"]
            elif event["frame"] in known and origin != event["region"]:
                return False
        if event["event"] == "get" and inside and event["result"] == "present":
            origin = event["frame"].partition(":")[0]
            if event["frame"] in known and origin != event["region"]:
                return False
    return stalled_both_ways(plants)


def stalled_both_ways(plants: tuple[str, ...]) -> bool:
    """A cut link carries nothing: of the two directions each held messages back."""
    schedule = base("pair").with_events([CUT])
    world = World(schedule.scenario, seed=1, parts=planted(plants))
    world.play()
    return all(world.net.links[way].counts["stalled"] for way in (("euw", "use"), ("use", "euw")))


def every_fault_is_injected(plants: tuple[str, ...]) -> bool:
    return effects_hold(plants, DOWN, OFF)


def a_loss_moves_no_arrival(plants: tuple[str, ...]) -> bool:
    """Common random numbers: what clients are due to send is the same with and without loss."""
    due = [
        sorted((e["client"], e["scheduled_ns"]) for e in events if e["event"] == "call")
        for events in (played(plants=plants), played(LOSS, plants=plants))
    ]
    return due[0] == due[1]


def an_answer_takes_the_round_trip(plants: tuple[str, ...]) -> bool:
    """`replicated` is said a round trip after `durable`, and not much later."""
    lags = [e["age_ms"] for e in played(plants=plants) if e["event"] == "lag"]
    return bool(lags) and max(lags) < 1_000 and min(lags) >= 2 * DELAY_MS * 0.9


CHECKS: dict[str, Callable[[tuple[str, ...]], bool]] = {
    "the effect counter of every fault": lambda plants: effects_hold(plants, CUT),
    "nothing is acknowledged over a cut, in either direction": nothing_over_a_cut,
    "every planned fault is injected": every_fault_is_injected,
    "a loss moves no arrival": a_loss_moves_no_arrival,
    "an answer takes the round trip of its link": an_answer_takes_the_round_trip,
}


def test_the_zoo_of_simulators_is_large() -> None:
    assert len(ENVIRONMENTS) + len(WRONG) >= BUGS_MIN
    assert set(ENVIRONMENTS.values()) <= set(CHECKS)
    assert {relation for _, relation in WRONG.values()} == set(RELATIONS)


@pytest.mark.parametrize("relation", CHECKS)
def test_the_right_environment_keeps_every_relation(relation: str) -> None:
    assert CHECKS[relation](())


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_wrong_environment_breaks_the_relation_that_it_must(name: str) -> None:
    assert not CHECKS[ENVIRONMENTS[name]]((name,))


def test_the_right_instruments_break_nothing() -> None:
    assert broken(RIGHT) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_instrument_breaks_one_relation_and_no_other(name: str) -> None:
    instruments, relation = WRONG[name]
    assert broken(instruments) == [relation]
