"""Faults of a scenario: what a kind needs, when it happens, who can play it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.contract import schema
from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.drill.faults import KINDS
from fractal_lba_server.drill.kinds import ALWAYS_TAKEN, FAMILIES, FAULT_KINDS
from fractal_lba_server.drill.playable import refuse_unplayable
from fractal_lba_server.drill.scenario import Scenario, ScenarioError, scenario_of

GIVEN: dict[str, Any] = {
    "region": "euw", "from": "euw", "to": "use", "period_s": 2, "share": 0.5, "delay_ms": 5,
    "bandwidth_bytes_per_s": 9, "step_ms": -5, "drift_ppm": 5, "shard": "s1", "node": 1,
    "age_s": 4, "tenant": "drill",
}  # fmt: skip


def scenario(**changed: Any) -> Scenario:
    return scenario_of(
        {
            "version": 1,
            "name": "tiny",
            "title": "Two regions",
            "topology": {"regions": [{"code": "euw"}, {"code": "use"}], "shards": {"count": 3}},
            "load": {"duration_s": 100, "rate_per_s": 1},
            "promises": {"rto_s": 1},
            **changed,
        },
        "tiny",
    )


def fault(kind: str = "region-down", **changed: Any) -> dict[str, Any]:
    needed = FAULT_KINDS[kind].needs[0]
    return {"id": "a", "kind": kind, "at_s": 1, **{name: GIVEN[name] for name in needed}, **changed}


def refused(**changed: Any) -> str:
    with pytest.raises(DocumentError) as error:
        scenario(**changed)
    return str(error.value)


# --- kinds


def test_there_are_45_kinds_in_eight_families() -> None:
    table = schema("scenario")["$defs"]["fault"]["properties"]
    assert sorted(table["kind"]["enum"]) == sorted(FAULT_KINDS)
    assert len(FAULT_KINDS) == 45
    assert {kind.family for kind in FAULT_KINDS.values()} == set(FAMILIES)
    assert len(FAMILIES) == 8
    assert set(table) == ALWAYS_TAKEN.union(*(kind.members for kind in FAULT_KINDS.values()))


def test_the_live_engine_has_no_kind_of_its_own() -> None:
    assert set(KINDS) <= set(FAULT_KINDS)


@pytest.mark.parametrize("kind", sorted(FAULT_KINDS))
def test_a_fault_with_what_its_kind_needs_is_taken(kind: str) -> None:
    whole = fault(kind, **{name: GIVEN[name] for name in FAULT_KINDS[kind].takes})
    for made in (fault(kind), whole):
        assert scenario(faults=[made]).faults(1) == [{**made, "at_s": 1.0}]


@pytest.mark.parametrize(
    ("kind", "member"),
    [(kind, name) for kind, row in sorted(FAULT_KINDS.items()) for name in row.needs[0]],
)
def test_a_fault_without_what_its_kind_needs_is_refused(kind: str, member: str) -> None:
    made = {name: value for name, value in fault(kind).items() if name != member}
    assert f"{kind} needs" in refused(faults=[made])


@pytest.mark.parametrize("kind", sorted(FAULT_KINDS))
def test_a_fault_with_what_its_kind_does_not_take_is_refused(kind: str) -> None:
    for name in sorted(set(GIVEN) - FAULT_KINDS[kind].members):
        said = refused(faults=[fault(kind, **{name: GIVEN[name]})])
        assert f"/faults/0/{name}: {kind} has no {name}" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"faults": [fault(), fault()]}, "another fault has this id"),
        ({"faults": [fault("process-kill", node=2)]}, "the region has fewer nodes"),
        ({"faults": [fault("clock-back", step_ms=5)]}, "write a negative step"),
        ({"faults": [fault(region="apn")]}, "no region apn"),
        ({"faults": [fault("partition", to="apn")]}, "no region apn"),
        ({"topology": {"regions": [{"code": "euw"}, {"code": "euw"}]}}, "another region has this"),
        ({"load": {"duration_s": 1, "rate_per_s": 1, "clients": [
            {"name": "a", "endpoints": ["apn"]}]}}, "/load/clients/0/endpoints/0: no region apn"),
        ({"steps": [{"do": "drain", "at_s": 1, "region": "apn"}]}, "/steps/0/region: no such"),
    ],
)  # fmt: skip
def test_what_is_named_must_be_there(changed: dict[str, Any], said: str) -> None:
    assert said in refused(**changed)


# --- moments


def test_a_moment_moves_by_a_part_of_its_spread() -> None:
    made = scenario(faults=[fault(at_s=10, spread_s=5)])
    moments = [made.faults(seed)[0]["at_s"] for seed in range(200)]
    assert 10 <= min(moments) < 10.2
    assert 14.8 < max(moments) < 15
    assert made.faults(7) == made.faults(7)


def test_the_spread_of_a_fault_moves_the_whole_series() -> None:
    repeat = {"count": 3, "every_s": 10}
    made = scenario(faults=[fault(at_s=1, spread_s=5, repeat=repeat)]).faults(1)
    assert [row["id"] for row in made] == ["a#1", "a#2", "a#3"]
    gaps = {round(after["at_s"] - before["at_s"], 9) for before, after in pairwise(made)}
    assert gaps == {10}


def test_a_length_is_drawn_anew_for_each_repeat() -> None:
    repeat = {"count": 50, "every_s": 1}
    uniform = {"uniform": {"min_s": 2, "max_s": 4}}
    lengths = [
        row["for_s"] for row in scenario(faults=[fault(for_s=uniform, repeat=repeat)]).faults(1)
    ]
    assert len(set(lengths)) == 50
    assert min(lengths) >= 2
    assert max(lengths) < 4


def test_a_plain_length_is_left_as_it_is() -> None:
    assert scenario(faults=[fault(for_s=3)]).faults(1)[0]["for_s"] == 3
    assert "for_s" not in scenario(faults=[fault()]).faults(1)[0]


names = st.lists(st.sampled_from("bcdefg"), unique=True)


@given(names, names, st.integers(0, 1000))
def test_what_one_fault_draws_depends_on_no_other(
    before: list[str], after: list[str], seed: int
) -> None:
    def others(ids: list[str], mark: str) -> list[dict[str, Any]]:
        return [
            fault(id=f"{mark}{id}", spread_s=9, for_s={"exponential": {"mean_s": 3}}) for id in ids
        ]

    mine = fault(
        spread_s=5,
        for_s={"exponential": {"mean_s": 3}},
        repeat={"count": 2, "every_s": 30, "spread_s": 2},
    )
    alone = scenario(faults=[mine]).faults(seed)
    among = scenario(faults=[*others(before, "x"), mine, *others(after, "y")]).faults(seed)
    assert [row for row in among if row["id"].startswith("a#")] == alone


def test_two_faults_do_not_share_their_chance() -> None:
    exponential = {"exponential": {"mean_s": 3}}
    made = scenario(faults=[fault(id=id, spread_s=9, for_s=exponential) for id in "ab"])
    for seed in range(20):
        one, other = made.faults(seed)
        assert one["at_s"] != other["at_s"]
        assert one["for_s"] != other["for_s"]


def test_a_late_fault_is_no_longer_one() -> None:
    unit = {"uniform": {"min_s": 0, "max_s": 1}}
    made = scenario(faults=[fault(at_s=0, spread_s=1, for_s=unit)])
    for seed in range(20):
        (one,) = made.faults(seed)
        assert one["at_s"] != one["for_s"]


def test_faults_are_in_order_of_time() -> None:
    made = scenario(faults=[fault(at_s=50), fault(id="b", at_s=2)]).faults(1)
    assert [row["id"] for row in made] == ["b", "a"]


# --- what the live engine refuses


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"faults": [fault("region-gray")]}, "region-gray"),
        ({"faults": [fault("disk-stale", age_s=4)]}, "age_s of a disk-stale"),
        ({"steps": [{"do": "nobody-answers", "at_s": 1}]}, "nobody-answers"),
        ({"topology": {"regions": [{"code": "euw"}, {"code": "use"}], "placements": {
            "open": {"regions": ["euw", "use"], "topology": "cold-standby"}}}}, "cold-standby"),
        ({"topology": {"regions": [{"code": "euw", "capacity_per_s": 5}]}}, "capacity"),
        ({"settings": {"disk": {"sync_s": 1}}}, "settings.disk.sync_s"),
        ({"settings": {"shipping": {"via": "objects"}}}, "shipping via objects"),
        ({"settings": {"shipping": {"upload_s": 1}}}, "settings.shipping.upload_s"),
        ({"settings": {"probe": {"dns_ttl_s": 1}}}, "settings.probe.dns_ttl_s"),
        ({"settings": {"people": {"automatic": False}}}, "people who decide"),
        ({"settings": {"recovery": {"promote_s": 1}}}, "settings.recovery.promote_s"),
        ({"settings": {"snapshot": {"boot_s": 1}}}, "settings.snapshot.boot_s"),
        ({"load": {"duration_s": 1, "rate_per_s": 1, "clients": [
            {"name": "a", "endpoints": ["euw"], "failover": "dns"}]}}, "failover 'dns'"),
        ({"load": {"duration_s": 1, "rate_per_s": 1, "clients": [
            {"name": "a", "endpoints": ["euw"], "resolvers": 5}]}}, "resolvers"),
        ({"load": {"duration_s": 1, "rate_per_s": 1, "record_bytes": 9}}, "record_bytes"),
        ({"topology": {"regions": [{"code": "euw", "nodes": 2}]}}, "without dedup shards"),
        ({"topology": {"regions": [{"code": "euw", "nodes": 2}, {"code": "use"}]}}, "also ships"),
        ({"faults": [fault("disk-full", node=1)]}, "disk-full of one node"),
    ],
)  # fmt: skip
def test_the_live_engine_refuses_by_name_what_it_cannot_play(
    changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(ScenarioError) as error:
        refuse_unplayable(scenario(**changed))
    assert said in str(error.value)
    assert "exact or plan" in str(error.value)


def test_what_has_only_a_price_is_played() -> None:
    refuse_unplayable(
        scenario(settings={"cost": {"currency": "EUR"}, "people": {"automatic": True}})
    )
