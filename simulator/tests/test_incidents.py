"""Public incidents: the committed prediction is what the engine gives, it hits, a wrong one misses.

The parameters cite where they come from, none of them names what was observed, and the interval is
narrow enough to be missed. A blind prediction is printed beside what was observed and need not hit.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from fractal_lba_server.drill.scenario import ScenarioError
from fractal_lba_sim import incidents
from fractal_lba_sim.edits import value_at
from fractal_lba_sim.incidents import (
    BASES,
    RATIO_MAX,
    Interval,
    Verdict,
    judge,
    load_incident,
    observed_s,
    shipped_incidents,
)
from fractal_lba_sim.scenarios import FOLDERS, shipped

INCIDENTS_MIN = 3
judged = cache(judge)


def test_the_partition_of_october_2018_is_among_them() -> None:
    assert "github-2018-10-21" in shipped_incidents()
    assert len(shipped_incidents()) >= INCIDENTS_MIN
    assert not set(shipped_incidents()) & set(shipped())


@pytest.mark.parametrize("name", shipped_incidents())
def test_the_committed_prediction_is_that_of_a_fresh_run(name: str) -> None:
    assert judged(name).predicted == load_incident(name).predicted


@pytest.mark.parametrize("name", shipped_incidents())
def test_the_interval_is_narrow_and_hits_and_the_wrong_parameters_miss(name: str) -> None:
    verdict = judged(name)
    print(verdict.said)
    assert verdict.holds or load_incident(name).is_blind
    assert verdict.predicted.ratio <= RATIO_MAX
    assert verdict.wrong.p50_s not in verdict.predicted
    assert f"ratio {verdict.predicted.ratio:.1f}" in verdict.said


def test_one_prediction_is_blind_and_says_what_its_author_had_seen() -> None:
    blind = [name for name in shipped_incidents() if load_incident(name).is_blind]
    assert blind == ["basecamp-2020-08-28"]
    assert "masked" in load_incident(*blind).document["blind"]


def test_what_was_not_entered_neither_hits_nor_misses() -> None:
    verdict = Verdict("a", Interval(10, 20, 60), Interval(1, 2, 3), None)
    assert not verdict.holds
    assert "observed not entered" in verdict.said
    assert "side" not in verdict.said


@pytest.mark.parametrize("name", shipped_incidents())
def test_every_parameter_says_where_it_comes_from_and_stands_in_the_scenario(name: str) -> None:
    incident = load_incident(name)
    for parameter in incident.document["parameters"]:
        assert parameter["basis"] in BASES
        assert len(parameter["why"]) > 10
        assert value_at(incident.scenario.document, parameter["path"]) is not None
    assert all(
        source["organisation"] and source["title"] and source["date"]
        for source in incident.document["sources"]
    )


@pytest.mark.parametrize("name", shipped_incidents())
def test_what_is_random_has_a_stated_origin(name: str) -> None:
    """No distribution of a scenario is left without a row among its parameters."""
    incident = load_incident(name)
    paths = tuple(row["path"] for row in incident.document["parameters"])
    settings = incident.scenario.document["settings"]
    drawn = [
        f"settings.{part}.{member}"
        for part, members in settings.items()
        for member, value in members.items()
        if isinstance(value, dict)
    ]
    asked = [path for path in drawn if "people" not in path or not people_decide_alone(settings)]
    assert [path for path in asked if not path.startswith(paths)] == []


def people_decide_alone(settings: dict[str, Any]) -> bool:
    return bool(settings["people"]["automatic"])


@pytest.mark.parametrize("name", shipped_incidents())
def test_no_file_that_predicts_holds_what_was_observed(name: str) -> None:
    path = next(p for p in (f / "incidents" / f"{name}.yaml" for f in FOLDERS) if p.is_file())
    text = path.read_text(encoding="utf-8")
    minutes = yaml.safe_load(path.with_name("observed.yaml").read_text(encoding="utf-8"))
    assert "observed" not in yaml.safe_load(text)
    if name not in minutes["observed"]:
        assert load_incident(name).is_blind
        return
    value = minutes["observed"][name]["minutes"]
    assert not any(f"{value} {unit}" in text for unit in ("min", "minutes"))


def test_a_prediction_that_is_wide_or_misses_does_not_hold() -> None:
    right, wrong = Interval(10, 20, 60), Interval(1, 2, 3)
    assert Verdict("a", right, wrong, 30).holds
    assert not Verdict("a", right, wrong, 61).holds
    assert not Verdict("a", Interval(5, 20, 60), wrong, 30).holds
    assert not Verdict("a", right, Interval(20, 30, 40), 30).holds
    assert Interval(0, 1, 2).ratio == float("inf")


def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    document = deepcopy(dict(load_incident("stripe-2019-07-10").document)) | change
    folder = tmp_path / "incidents"
    folder.mkdir()
    text = yaml.safe_dump(document)
    (folder / "stripe-2019-07-10.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(incidents, "FOLDERS", (tmp_path,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observed": {"minutes": 27}}, "observed"),
        ({"incident": "another"}, "of that name"),
        ({"parameters": [{"path": "a", "basis": "felt", "why": "so"}]}, "expected one of"),
        ({"parameters": [{"path": "a", "basis": "stated", "why": "so"}]}, "with its sources"),
        (
            {"parameters": [{"path": "a", "basis": "stated", "source": "XX", "why": "so"}]},
            "with its sources",
        ),
    ],
)
def test_a_file_that_hides_where_its_numbers_come_from_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    broken(tmp_path, monkeypatch, change)
    with pytest.raises(ScenarioError, match=said):
        load_incident("stripe-2019-07-10")


def test_an_unknown_incident_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ScenarioError, match="github-2018-10-21"):
        load_incident("no-such-incident")


def test_a_run_that_does_not_recover_makes_a_prediction_void() -> None:
    incident = load_incident("stripe-2019-07-10")
    never = incidents.edited(
        incident.scenario, {"settings.people.decide_s": 40_000, "load.duration_s": 7_200}
    )
    with pytest.raises(ScenarioError, match="is not a whole run"):
        incidents.predict(never, runs=1, seed=1)


def test_observations_are_in_seconds() -> None:
    assert observed_s("stripe-2019-07-10") == 27 * 60
