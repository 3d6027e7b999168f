"""Two runs that differ in one thing meet the same chance everywhere else."""

from __future__ import annotations

from typing import Any

import pytest
from test_exact_faults import ALONE, played, two_regions

from fractal_lba_server.drill.scenario import ScenarioError, scenario_of
from fractal_lba_sim.exact.engine import Engine


def document(**more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "paired",
        "title": "paired",
        "topology": two_regions(),
        "load": {
            "duration_s": 6, "rate_per_s": 20, "arrivals": "poisson", "repeat_share": 0.2,
            "settle_s": 5,
        },
        "promises": {"digests_equal": True},
        **more,
    }  # fmt: skip


def due(events: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return sorted((e["scheduled_ns"], e["client"]) for e in events if e["event"] == "call")


def without_header(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] not in ("run", "fault")]


def test_a_fault_changes_nothing_before_it_and_no_arrival_ever() -> None:
    calm = played(document())
    cut = {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": 3, "for_s": 1}
    hurt = played(document(faults=[cut]))
    assert due(calm) == due(hurt)
    early = [event for event in without_header(calm) if event["at_ns"] < 3 * 10**9]
    assert early == [event for event in without_header(hurt) if event["at_ns"] < 3 * 10**9]


def test_a_loss_that_loses_nothing_leaves_the_trace_as_it_is() -> None:
    links = [{"from": "euw", "to": "use", "delay_ms": 20, "jitter_ms": 5}]
    calm = played(document(topology=two_regions(links=links)))
    links = [{**links[0], "loss": 0}]
    assert calm[1:] == played(document(topology=two_regions(links=links)))[1:]


def test_an_outage_longer_by_a_part_costs_that_part_of_the_recovery() -> None:
    """What a client waits for is the return of the region: nothing else is random here."""
    ends = []
    for for_s in (2, 3):
        fault = {"id": "kill", "kind": "process-kill", "region": "loc", "at_s": 1, "for_s": for_s}
        events = played({**document(faults=[fault]), "topology": ALONE})
        ready = [e["at_ns"] for e in events if e["event"] == "process" and e["state"] == "ready"]
        ends.append(ready[-1])
    assert ends[1] - ends[0] == 10**9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": {"shipping": {"via": "objects"}}}, "objects"),
        ({"engines": {"exact": {"records_max": 10}}}, "records_max"),
        (
            {
                "topology": {
                    "regions": [{"code": "euw", "nodes": 2}, {"code": "use"}],
                    "shards": {"count": 2},
                }
            },
            "one process",
        ),
    ],
)
def test_what_it_cannot_play_is_refused_and_not_left_out(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        played(document(**change))


def test_an_unknown_plant_is_refused_with_the_names_of_those_that_are_known() -> None:
    with pytest.raises(ScenarioError, match="lease-for-ever"):
        Engine().play(scenario_of(document(), "test"), seed=1, plants=("no-such-plant",))


def test_a_scale_of_the_rate_makes_fewer_calls() -> None:
    whole = len(due(played(document())))
    part = len(due(played(document(engines={"exact": {"rate_scale": 0.25}}))))
    assert 0 < part < whole / 2
