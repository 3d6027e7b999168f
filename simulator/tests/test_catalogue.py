"""The catalogue of faults and the library of scenarios are whole, and agree with each other."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from fractal_lba_server.contract import contract_file, schema
from fractal_lba_server.drill.faults import KINDS as LIVE_KINDS
from fractal_lba_server.drill.kinds import FAULT_KINDS
from fractal_lba_server.drill.playable import refuse_unplayable
from fractal_lba_server.drill.scenario import shipped as drills
from fractal_lba_server.judge.promises import ALWAYS, PROMISES
from fractal_lba_sim.catalogue import (
    CATALOGUE,
    FAMILIES,
    LIVE_COUNTERS,
    NOT_IN_PLAN,
    refusal,
    table,
)
from fractal_lba_sim.plan.faults import ELSEWHERE, PLAYS
from fractal_lba_sim.scenarios import FOLDERS, find_scenario, shipped

SHORT_S_MAX = 60
SHORT_RATE_MAX = 20

OWN_NAMES = re.compile("fail_back_s: |cold_reads_per_s: ")
"""Names with a unit that people have to write: one has no other form, one is a tier policy's."""


# --- the catalogue


def test_every_kind_is_in_the_catalogue_once() -> None:
    kinds = schema("scenario")["$defs"]["fault"]["properties"]["kind"]["enum"]
    assert sorted(CATALOGUE) == sorted(kinds) == sorted(FAULT_KINDS)
    assert len(kinds) == len(set(kinds)) == 45
    assert {kind.family for kind in CATALOGUE.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_kind_is_told_in_one_plain_sentence(name: str) -> None:
    kind = CATALOGUE[name]
    assert kind.said[0].isupper()
    assert kind.said.endswith(".")
    assert ". " not in kind.said
    assert kind.counter.replace("_", "").isalpha()


def test_live_kinds_are_those_of_the_drill() -> None:
    assert {name for name, kind in CATALOGUE.items() if "live" in kind.engines} == set(LIVE_KINDS)


@pytest.mark.parametrize("name", sorted(LIVE_KINDS))
def test_a_live_counter_has_the_name_of_the_catalogue_or_of_its_switch(name: str) -> None:
    live = LIVE_KINDS[name]
    counters = {*live.counters, *live.switches}
    if name in LIVE_COUNTERS:
        assert set(LIVE_COUNTERS[name]) >= counters
    elif counters:
        assert CATALOGUE[name].counter in counters


def test_what_plan_lacks_is_what_happens_below_a_run_of_records() -> None:
    assert {name for name, kind in CATALOGUE.items() if "plan" not in kind.engines} == NOT_IN_PLAN
    assert set(PLAYS) == set(CATALOGUE) - NOT_IN_PLAN
    assert set(ELSEWHERE) == NOT_IN_PLAN
    assert refusal("bit-flip", "plan") == "the plan engine has no fault 'bit-flip'; exact can"
    assert refusal("region-gray", "live").endswith("exact and plan can")


def test_the_table_of_the_specification_is_this_catalogue() -> None:
    text = contract_file("drills.md").read_text(encoding="utf-8")
    assert "\n".join(table()) in text, "write the lines of catalogue.table() into spec/drills.md 6"


# --- the library


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("control", [False, True])
def test_a_scenario_of_the_library_is_valid_in_every_form(
    name: str, short: bool, control: bool
) -> None:
    scenario = find_scenario(name, short=short, control=control)
    assert scenario.name == name
    load = scenario.part("load")
    for seed in (1, 2):
        for fault in scenario.faults(seed):
            assert fault["at_s"] < load["duration_s"], fault
            if not isinstance(scenario_length(name, fault["id"]), dict):
                assert fault["at_s"] + fault.get("for_s", 0) <= load["duration_s"], fault
    assert all(step["at_s"] < load["duration_s"] for step in scenario.document.get("steps", ()))
    named = scenario.part("control")["must_fail"]
    assert set(named) <= set(PROMISES) | set(ALWAYS)
    if short:
        assert load["duration_s"] + load.get("warmup_s", 0) <= SHORT_S_MAX
        assert load["rate_per_s"] <= SHORT_RATE_MAX


def scenario_length(name: str, fault: str) -> object:
    rows = find_scenario(name).document.get("faults", ())
    return next((row.get("for_s") for row in rows if row["id"] == fault), None)


def test_names_are_unique_in_both_libraries() -> None:
    counts = Counter([*shipped(), *drills()])
    assert [name for name, count in counts.items() if count > 1] == []
    titles = Counter(str(find_scenario(name).document["title"]) for name in counts)
    assert [title for title, count in titles.items() if count > 1] == []


def test_the_library_has_every_kind_of_fault_and_every_topology() -> None:
    kinds, pairs = set(), set()
    for name in shipped():
        document = find_scenario(name).document
        found = {fault["kind"] for fault in document["faults"]}
        kinds |= found
        families = {FAULT_KINDS[kind].family for kind in found}
        placements = document["topology"].get("placements", {"open": {"topology": "active-active"}})
        pairs |= {(row["topology"], family) for row in placements.values() for family in families}
    assert sorted(set(FAULT_KINDS) - kinds) == []
    for topology in ("active-active", "warm-standby"):
        assert [family for family in FAMILIES if (topology, family) not in pairs] == [], topology
    assert any(topology == "cold-standby" for topology, _ in pairs)


@pytest.mark.parametrize("name", shipped())
def test_a_scenario_is_written_for_people(name: str) -> None:
    folder = next(folder for folder in FOLDERS if (folder / f"{name}.yaml").is_file())
    text = Path(folder, f"{name}.yaml").read_text(encoding="utf-8")
    assert "question: " in text
    assert "duration: " in text, "quantities have their units in the value"
    assert "_s: " not in OWN_NAMES.sub("", text), "units belong into the values"
    document = find_scenario(name).document
    assert "short" in document
    assert len(document["control"]["why"]) > 10


def test_the_side_by_side_scenario_is_one_for_all_engines() -> None:
    for short in (False, True):
        scenario = find_scenario("region-outage-side-by-side", short=short)
        refuse_unplayable(scenario)
        kinds = {fault["kind"] for fault in scenario.faults(1)}
        assert all(set(CATALOGUE[kind].engines) == {"exact", "plan", "live"} for kind in kinds)
