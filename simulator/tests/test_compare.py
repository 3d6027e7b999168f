"""Comparisons: agreement is shown or it is not there, whichever files it is read from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from report_outcomes import outcome, outcomes, scenario

from fractal_lba_sim import results
from fractal_lba_sim.cli_compare import compare as command
from fractal_lba_sim.compare import (
    Acceptance,
    CompareError,
    Comparison,
    compare,
    document_of,
    read_acceptance,
    read_side,
)

Change = Callable[[dict[str, Any]], None]


def slower(factor: float) -> Change:
    def change(one: dict[str, Any]) -> None:
        one["incidents"][0]["rto_s"] *= factor

    return change


def unchanged(one: dict[str, Any]) -> None:
    """Leave a run as it is."""


def side(folder: Path, count: int, first: int, change: Change = unchanged) -> Path:
    many = outcomes(count, first)
    for one in many:
        change(one)
    found = results.assemble(
        scenario(), many, engine="plan", seed=first, runs=count, command="c", complete=True
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.text_of(found), encoding="utf-8")
    return folder


def judged(tmp_path: Path, count: int, change: Change = unchanged, **bounds: Any) -> Comparison:
    predicted = side(tmp_path / "predicted", 800, 1)
    measured = side(tmp_path / "measured", count, 5000, change)
    return compare(read_side(predicted), read_side(measured), Acceptance(**bounds))


def states(found: Comparison, incident: str, metric: str) -> dict[str, str]:
    pair = next(p for p in found.pairs if (p.incident, p.metric) == (incident, metric))
    return {one.name: one.state for one in pair.agreements}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_runs_of_one_model_agree(tmp_path: Path) -> None:
    found = judged(tmp_path, 400, metrics=("rto_s",))
    assert states(found, "outage", "rto_s") == {
        "p50": "holds", "p95": "holds", "90 % interval": "holds",
    }  # fmt: skip
    assert found.accepted


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_a_wrong_model_is_found(tmp_path: Path, factor: float) -> None:
    found = judged(tmp_path, 400, slower(factor), metrics=("rto_s",))
    assert states(found, "outage", "rto_s")["p50"] == "fails"
    assert not found.accepted


def test_a_wrong_spread_with_the_right_middle_is_found(tmp_path: Path) -> None:
    def spread(one: dict[str, Any]) -> None:
        incident = one["incidents"][0]
        incident["rto_s"] = max(1.0, 150 + 3 * (incident["rto_s"] - 150))

    found = states(judged(tmp_path, 400, spread, metrics=("rto_s",)), "outage", "rto_s")
    assert found["p95"] == "fails"
    assert found["90 % interval"] == "fails"


def test_few_measurements_are_not_enough(tmp_path: Path) -> None:
    found = judged(tmp_path, 10, metrics=("rto_s",))
    assert states(found, "outage", "rto_s")["p95"] == "not enough evidence"
    assert not found.accepted


def test_outages_that_did_not_end_are_no_agreement(tmp_path: Path) -> None:
    def unfinished(one: dict[str, Any]) -> None:
        one["incidents"][0] |= {"rto_s": None, "rto_declared_s": None, "phases": {}}

    found = states(judged(tmp_path, 100, unfinished, metrics=("rto_s",)), "outage", "rto_s")
    assert found == {
        "p50": "not enough evidence", "p95": "not enough evidence", "90 % interval": "fails",
    }  # fmt: skip


def test_what_only_one_side_has_seen_is_not_accepted(tmp_path: Path) -> None:
    def only_outage(one: dict[str, Any]) -> None:
        del one["incidents"][1]

    found = judged(tmp_path, 400, only_outage, metrics=("rto_s",))
    assert found.only == (("cut", "predicted"),)
    assert not found.accepted


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    def renamed(one: dict[str, Any]) -> None:
        one["incidents"] = [{**one["incidents"][0], "id": "other"}]

    with pytest.raises(CompareError, match=r"has outage, cut, .* has other: nothing to compare"):
        judged(tmp_path, 5, renamed)


def test_command_says_both_sides_bounds_and_what_became_of_each(tmp_path: Path) -> None:
    predicted = side(tmp_path / "predicted", 800, 1)
    measured = side(tmp_path / "measured", 400, 5000)
    bounds = tmp_path / "bounds.yaml"
    bounds.write_text("metrics: [rto_s]\nrelative: 0.2\nabsolute: {rto_s: 0.5}\n")
    done = run(predicted, measured / "results.json", "--accept", bounds)
    assert done.exit_code == 0, done.output
    assert "predicted  plan: two-regions, 800 runs" in done.output
    assert f"({bounds})" in done.output
    assert "holds  p50" in done.output
    assert "agrees within the bounds" in done.output


def test_command_fails_where_it_does_not_agree_or_not_enough_is_known(tmp_path: Path) -> None:
    predicted = side(tmp_path / "predicted", 800, 1)
    wrong = side(tmp_path / "wrong", 400, 5000, slower(2))
    few = side(tmp_path / "few", 8, 5000)
    done = run(predicted, wrong)
    assert done.exit_code == 1
    assert "FAILS  p50" in done.output
    assert "does NOT agree" in done.output
    assert run(predicted, few).exit_code == 1
    assert run(predicted, wrong, "--relative", "2", "--absolute-s", "900").exit_code in (0, 1)


def test_options_lie_over_the_bounds_and_say_so(tmp_path: Path) -> None:
    predicted = side(tmp_path / "predicted", 800, 1)
    measured = side(tmp_path / "measured", 60, 5000)
    done = run(predicted, measured, "--percentile", "p50", "--absolute-s", "60", "--json")
    found = json.loads(done.output)
    assert found["acceptance"]["given"].endswith("and options of this command")
    assert found["acceptance"]["absolute"]["rto_s"] == 60.0
    names = {one["name"] for pair in found["pairs"] for one in pair["agreements"]}
    assert names == {"p50", "90 % interval"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("relativ: 0.2", "no bound is called 'relativ'"),
        ("relative: much", "relative: expected a float, got 'much'"),
        ("relative: -1", "relative: expected a float, got -1"),
        ("relative: true", "relative: expected a float"),
        ("metrics: [rto]", "metrics: 'rto' is none of rto_s, rpo_s, rpo_records"),
        ("percentiles: [p42]", "percentiles: 'p42' is none of"),
        ("absolute: {rto: 1}", "absolute: 'rto' is none of"),
        ("- 1", "expected a mapping"),
        ("a: [", "while parsing"),
    ],
)
def test_faulty_bounds_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bounds.yaml"
    path.write_text(text)
    with pytest.raises(CompareError, match=r"bounds\.yaml") as error:
        read_acceptance(path)
    assert said in str(error.value)


def test_an_empty_file_of_bounds_is_the_defaults_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "bounds.yaml"
    path.write_text("")
    assert read_acceptance(path) == Acceptance(given=str(path))


def test_faulty_input_is_a_usage_error(tmp_path: Path) -> None:
    good = side(tmp_path / "good", 30, 1)
    (tmp_path / "empty").mkdir()
    text = tmp_path / "x.json"
    text.write_text('{"schema": 1}')
    for bad, said in ((tmp_path / "empty", "neither results.json nor a trace"), (text, "neither")):
        done = run(good, bad)
        assert done.exit_code == 2
        assert said in done.output
    assert run(good, tmp_path / "missing").exit_code == 2


def trace(seed: int, outage_ms: int) -> list[dict[str, Any]]:
    """Write a trace in which one client fails for a while."""
    second = 10**9
    document = dict(scenario().document) | {
        "faults": [{"id": "outage", "kind": "region-down", "region": "euw", "at_s": 5}],
        "promises": {"rto_s": 20, "steady_s": 2},
        "load": {"duration_s": 20, "rate_per_s": 10},
    }
    header = {
        "event": "run", "at_ns": 0, "schema": 1, "engine": "live", "seed": seed,
        "scenario": document, "scenario_digest": "0" * 64, "started_unix_ns": 0, "control": False,
        "versions": {},
    }  # fmt: skip
    fault = {"event": "fault", "id": "outage", "kind": "region-down", "region": "euw"}
    calls = []
    for turn in range(200):
        due = turn * second // 10
        hurt = 5 * second <= due < 5 * second + outage_ms * 10**6
        result = "failed" if hurt else "recorded"
        calls.append({"event": "call", "at_ns": due + 10**6, "scheduled_ns": due, "client": "eu",
                      "key": f"t/{turn}", "result": result})  # fmt: skip
    return [
        header, *calls,
        {**fault, "at_ns": 5 * second, "state": "injected", "effects": {"connections_cut": 3}},
        {"event": "end", "at_ns": 21 * second},
    ]  # fmt: skip


def test_traces_are_judged_before_they_are_compared(tmp_path: Path) -> None:
    for seed in range(12):
        folder = tmp_path / "live" / f"run-{seed}"
        folder.mkdir(parents=True)
        lines = (json.dumps(event) for event in trace(seed, 2000 + 100 * seed))
        (folder / "trace.jsonl").write_text("".join(f"{line}\n" for line in lines))
    found = read_side(tmp_path / "live")
    assert (found.engine, found.runs, found.invalid) == ("live", 12, 0)
    sample = found.samples["outage", "rto_s"]
    assert (sample.n, sample.censored) == (12, 0)
    assert sample.known[0] == pytest.approx(2.001, abs=0.1)
    one = read_side(tmp_path / "live" / "run-3" / "trace.jsonl")
    assert one.samples["outage", "rto_s"].n == 1


def test_traces_of_two_scenarios_are_refused(tmp_path: Path) -> None:
    for seed in range(2):
        events = trace(seed, 2000)
        events[0]["scenario_digest"] = str(seed) * 64
        text = "".join(f"{json.dumps(event)}\n" for event in events)
        (tmp_path / f"{seed}.jsonl").write_text(text)
    with pytest.raises(CompareError, match="traces of 2 scenarios"):
        read_side(tmp_path)


def test_document_of_a_comparison_is_json(tmp_path: Path) -> None:
    found = document_of(judged(tmp_path, 60))
    assert json.loads(json.dumps(found))["accepted"] is False
    assert {pair["metric"] for pair in found["pairs"]} == {"rto_s", "rpo_s"}


def test_outcomes_without_faults_have_nothing_to_compare(tmp_path: Path) -> None:
    quiet = outcome(1, incidents=[])
    found = results.assemble(
        scenario(), [quiet], engine="plan", seed=1, runs=1, command="c", complete=True
    )
    path = tmp_path / "results.json"
    path.write_text(results.text_of(found))
    with pytest.raises(CompareError, match="has no incidents"):
        compare(read_side(path), read_side(path), Acceptance())
