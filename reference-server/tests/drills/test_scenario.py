"""Scenarios: shipped ones are valid, faulty ones are refused by name and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fractal_lba_server.cli_drill import drill
from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.drill.faults import KINDS, refuse_unknown
from fractal_lba_server.drill.scenario import (
    ALWAYS_JUDGED,
    ScenarioError,
    laid_over,
    load_scenario,
    shipped,
)
from fractal_lba_server.judge.promises import ALWAYS, PROMISES


def document(**changed: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "tiny",
        "title": "One region",
        "topology": {"regions": [{"code": "euw"}]},
        "load": {"duration_s": 1, "rate_per_s": 1},
        "promises": {"canary": True},
        **changed,
    }


def write(folder: Path, **changed: Any) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(document(**changed)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("control", [False, True])
def test_a_shipped_scenario_is_valid_in_every_form(name: str, short: bool, control: bool) -> None:
    scenario = load_scenario(name, short=short, control=control)
    assert scenario.name == name
    assert scenario.faults(1) or scenario.document.get("steps")
    refuse_unknown([fault["kind"] for fault in scenario.faults(1)])
    duration_s = scenario.part("load")["duration_s"]
    assert all(fault["at_s"] + fault.get("for_s", 0) <= duration_s for fault in scenario.faults(1))
    assert duration_s <= 16 or not short


def test_what_a_control_may_break_unasked_is_always_judged() -> None:
    assert set(ALWAYS) >= ALWAYS_JUDGED
    assert not ALWAYS_JUDGED & set(PROMISES)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"colour": "red"}, "colour"),
        ({"promises": {"rto": 5}}, "/promises/rto"),
        ({"promises": {"rto_s": -1}}, "/promises/rto_s"),
        ({"faults": [{"id": "a", "kind": "fire", "at_s": 1}]}, "/faults/0/kind"),
        ({"faults": [{"id": "a", "kind": "delay", "at_s": 1, "from": "use"}]}, "no region use"),
        ({"topology": {"regions": [{"code": "euw"}], "placements": {
            "open": {"regions": ["apx"], "topology": "active-active"}}}}, "no region apx"),
        ({"control": {"why": "x", "must_fail": ["rto_s"]}}, "rto_s is not promised"),
        ({"load": {"duration_s": 1}}, "rate_per_s"),
    ],
)  # fmt: skip
def test_a_faulty_file_is_refused_by_place(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(DocumentError) as refused:
        load_scenario(write(tmp_path, **changed))
    assert said in str(refused.value)
    assert "tiny.yaml" in str(refused.value)


def test_an_unknown_name_and_a_missing_control_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="region-kill"):
        load_scenario("region-kil")
    with pytest.raises(ScenarioError, match="no negative control"):
        load_scenario(write(tmp_path), control=True)


def test_a_fault_that_the_engine_cannot_play_is_refused() -> None:
    refuse_unknown(list(KINDS))
    with pytest.raises(ScenarioError, match="key-revoked"):
        refuse_unknown(["key-revoked"])


def test_overlays_merge_remove_and_replace() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    assert laid_over(base, {"a": {"b": None, "e": 3}, "d": [4]}) == {
        "a": {"c": 2, "e": 3}, "d": [4],
    }  # fmt: skip
    assert base == {"a": {"b": 1, "c": 2}, "d": [1, 2]}, "the base is left alone"


def test_repeats_are_written_out_and_moved_by_the_seed(tmp_path: Path) -> None:
    fault = {
        "id": "k", "kind": "process-kill", "region": "euw", "at_s": 1,
        "repeat": {"count": 3, "every_s": 10, "spread_s": 2},
    }  # fmt: skip
    scenario = load_scenario(write(tmp_path, faults=[fault]))
    first, again, other = scenario.faults(1), scenario.faults(1), scenario.faults(2)
    assert first == again != other
    assert [fault["id"] for fault in first] == ["k#1", "k#2", "k#3"]
    for place, fault in enumerate(first):
        assert 0 <= fault["at_s"] - (1 + 10 * place) <= 2


def test_the_digest_names_what_is_run(tmp_path: Path) -> None:
    one = load_scenario(write(tmp_path))
    other = load_scenario(write(tmp_path, name="other"))
    assert len(one.digest) == 64
    assert one.digest != other.digest
    assert load_scenario("partition").digest != load_scenario("partition", short=True).digest


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["list"], 0, "region-kill"),
        (["list", "--json"], 0, '"name": "partition"'),
        (["no-such-drill"], 2, "no scenario is called"),
        (["check", "no-such-file"], 2, "does not exist"),
        ([], 2, "drill NAME"),
    ],
)
def test_the_command_refuses_by_name(arguments: list[str], status: int, said: str) -> None:
    done = CliRunner().invoke(drill, arguments)
    assert (done.exit_code, said in done.output) == (status, True), done.output


def test_check_refuses_what_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    done = CliRunner().invoke(drill, ["check", str(path)])
    assert done.exit_code == 1
    assert "line 1 is not an event" in done.output
