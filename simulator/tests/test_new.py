"""What `flk-sim new` writes runs without a change, and is explained line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fractal_lba_server.drill.scenario import load_scenario
from fractal_lba_server.judge.check import HOLDS, check
from fractal_lba_sim.cli_new import new
from fractal_lba_sim.engine import engine
from fractal_lba_sim.new import REGIONS_MAX, TOPOLOGIES, starting_file


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("regions", [2, 3, REGIONS_MAX])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("control", [False, True])
def test_a_starting_file_loads_without_a_change(
    tmp_path: Path, topology: str, regions: int, short: bool, control: bool
) -> None:
    path = tmp_path / "plan-b.yaml"
    arguments = ["--topology", topology, "--regions", str(regions), str(path)]
    done = CliRunner().invoke(new, arguments)
    assert done.exit_code == 0, done.output
    scenario = load_scenario(str(path), short=short, control=control)
    assert scenario.name == "plan-b"
    assert len(scenario.regions) == regions
    assert scenario.document["topology"]["placements"]["open"]["topology"] == topology
    fault = scenario.faults(1)[0]
    assert fault["at_s"] + fault.get("for_s", 0) < scenario.part("load")["duration_s"]
    assert not short or scenario.part("load")["duration_s"] <= 60


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("control", [False, True])
def test_what_a_starting_file_promises_holds_and_its_control_fails(
    tmp_path: Path, topology: str, control: bool
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(starting_file(topology=topology), encoding="utf-8")
    scenario = load_scenario(str(path), short=True, control=control)
    # The server has no cold standby, so the exact engine has none.
    played = engine("plan" if topology == "cold-standby" else "exact").play(scenario, seed=1)
    report = check(list(played))
    others = {one.name for one in report.verdicts if one.state != HOLDS}
    named = set(scenario.part("control")["must_fail"])
    assert (named <= others) if control else (others == set()), others


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_setting_stands_under_a_sentence(topology: str) -> None:
    lines = starting_file(topology=topology).splitlines()
    explained = 0
    for line, above in zip(lines[1:], lines, strict=False):
        if line.strip().startswith("#") and not above.strip().startswith("#"):
            explained += 1
    assert explained >= 24
    assert all(len(line) <= 110 for line in lines)


def test_without_a_file_it_is_shown() -> None:
    assert CliRunner().invoke(new, []).output == starting_file()


def test_the_file_may_be_named_alone(tmp_path: Path) -> None:
    path = tmp_path / "Odd Name.yaml"
    assert CliRunner().invoke(new, [str(path)]).exit_code == 0
    assert load_scenario(str(path)).name == "my-plan"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["there.yaml"], "is there already"),
        (["no/such/folder.yaml"], "No such file"),
        (["--topology", "ring"], "is not one of"),
        (["--regions", "1"], "is not in the range"),
        (["--regions", str(REGIONS_MAX + 1)], "is not in the range"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(new, arguments)
    assert (done.exit_code, said in done.output) == (2, True), done.output
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]
    assert Path("there.yaml").read_text(encoding="utf-8") == "mine"


def test_what_is_no_topology_is_refused_by_the_function_too() -> None:
    with pytest.raises(ValueError, match="active-active"):
        starting_file(topology="ring")
    with pytest.raises(ValueError, match="2 to"):
        starting_file(regions=1)
