"""Results: verdicts over runs, what is left out and said so, and equal bytes for equal runs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_outcomes import FAILS, HOLDS, UNPROVEN, extras, outcome, outcomes, scenario

from fractal_lba_server.judge.recovery import PHASES
from fractal_lba_server.schema_faults import schema_faults
from fractal_lba_sim import results
from fractal_lba_sim.report.page import render
from fractal_lba_sim.report.scope_sections import headline
from fractal_lba_sim.results_recovery import WORST_MAX, sample_of, watched_s
from fractal_lba_sim.results_verdicts import RUNS_NEEDED, SENTENCES, promise_text


def assembled(many: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "engine": "plan", "seed": 1, "runs": len(many), "command": "flk-sim run two-regions",
        "complete": True,
    }  # fmt: skip
    planned = changes.pop("scenario", scenario())
    return results.assemble(planned, many, **(options | changes))


def holding(seed: int, **changes: Any) -> dict[str, Any]:
    """Give a run in which everything holds."""
    made = outcome(seed)
    for verdict in made["verdicts"]:
        verdict["state"] = HOLDS
    return made | changes


def verdict_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["verdicts"] if one["name"] == name)


@pytest.mark.parametrize("many", [[], outcomes(1), outcomes(30), outcomes(130)])
def test_results_are_valid_by_their_schema(many: list[dict[str, Any]]) -> None:
    assert schema_faults("results", assembled(many)) == []
    assert schema_faults("results", assembled(many, extras=extras())) == []


def test_results_of_a_control_and_of_unfinished_runs_are_valid() -> None:
    cut = outcome(3)
    cut["incidents"][0] |= {"rto_s": None, "rto_declared_s": None, "phases": {}, "clients": {}}
    found = assembled([cut], scenario=scenario(control=True), complete=False, runs=9)
    assert schema_faults("results", found) == []


def test_a_scenario_without_prices_has_valid_results() -> None:
    changes = extras()
    changes["cost"] |= {"currency": None, "per_month": {"nodes": 0, "total": 0}}
    found = assembled(outcomes(3), extras=changes)
    assert schema_faults("results", found) == []
    assert "declares no prices" in render(found)


def test_one_member_too_many_is_refused_by_the_schema() -> None:
    found = assembled(outcomes(2))
    found["run"]["host"] = "build-7"
    assert schema_faults("results", found)


def test_equal_runs_give_equal_bytes_in_any_order() -> None:
    many = outcomes(80)
    shuffled = random.Random(1).sample(many, len(many))
    again = json.loads(json.dumps(shuffled, sort_keys=False))
    assert results.text_of(assembled(many)) == results.text_of(assembled(again))


def test_results_and_report_are_equal_in_processes_of_other_hash_seeds(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from report_outcomes import *; from fractal_lba_sim import results;"
        "found = results.assemble(scenario(), outcomes(70), engine='plan', seed=1, runs=70,"
        " command='c', complete=True, extras=extras()); results.write(Path(sys.argv[2]), found)"
    )
    made = []
    for seed in ("1", "77"):
        folder = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent), str(folder)],
            check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        made.append([(folder / name).read_bytes() for name in ("results.json", "report.html")])
    assert made[0] == made[1]


def test_text_is_json_with_keys_in_order_and_ends_in_a_line() -> None:
    found = assembled(outcomes(25))
    text = results.text_of(found)
    assert json.loads(text) == found
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(found)


def test_numbers_are_rounded_so_that_the_last_bits_do_not_show() -> None:
    assert (
        results.text_of({"b": 0.1 + 0.2, "a": [1, -0.0]})
        == '{\n "b": 0.30000000000000004,\n "a": [1, -0.0]\n}\n'
    )
    one, other = outcome(1), outcome(1)
    other["incidents"][0]["rto_s"] *= 1 + 1e-15
    assert results.text_of(assembled([one])) == results.text_of(assembled([other]))


def test_a_promise_holds_only_if_it_held_in_enough_runs() -> None:
    few = assembled([holding(seed) for seed in range(RUNS_NEEDED - 1)])
    enough = assembled([holding(seed) for seed in range(RUNS_NEEDED)])
    assert verdict_of(few, "rto_s")["state"] == UNPROVEN
    assert "59 runs are needed" in verdict_of(few, "rto_s")["why"]
    assert verdict_of(enough, "rto_s")["state"] == HOLDS
    assert headline(few)[0] == UNPROVEN
    assert headline(enough)[0] == HOLDS


def test_a_scenario_may_ask_for_other_numbers_of_runs() -> None:
    asked = scenario(promises={"rto_s": 300, "evidence": {"runs": 3}})
    assert verdict_of(assembled([holding(1), holding(2)], scenario=asked), "rto_s")["state"] == (
        UNPROVEN
    )
    three = assembled([holding(seed) for seed in range(3)], scenario=asked)
    assert verdict_of(three, "rto_s")["state"] == HOLDS


def test_one_run_that_fails_refutes_a_promise() -> None:
    many = [holding(seed) for seed in range(200)]
    many[120]["verdicts"][3] |= {"state": FAILS, "said": "322.44 s of 300 s"}
    found = verdict_of(assembled(many), "rto_s")
    assert (found["state"], found["failed"], found["seed"]) == (FAILS, 1, 120)
    assert found["said"] == "322.44 s of 300 s"
    assert found["failing_share"]["low"] < 1 / 200 < found["failing_share"]["high"]
    assert headline(assembled(many)) == (FAILS, "1 of 4 promises fails.")


def test_a_run_that_cannot_tell_keeps_a_promise_from_holding() -> None:
    many = [holding(seed) for seed in range(200)]
    many[9]["verdicts"][3] |= {"state": UNPROVEN, "said": "the trace ends"}
    assert verdict_of(assembled(many), "rto_s")["state"] == UNPROVEN
    absent = [holding(seed) for seed in range(200)]
    del absent[9]["verdicts"][3]
    assert verdict_of(assembled(absent), "rto_s")["state"] == UNPROVEN


def test_invalid_runs_are_named_and_counted_in_nothing() -> None:
    idle = outcome(500, valid=False)
    idle["verdicts"][1] |= {"state": FAILS, "said": "the fault outage had no effect"}
    with_it, without = assembled([*outcomes(60), idle]), assembled(outcomes(60))
    assert with_it["scope"]["invalid"] == {
        "count": 1, "shown": [{"seed": 500, "said": "the fault outage had no effect"}],
    }  # fmt: skip
    for part in ("incidents", "accounts", "availability", "yearly", "anomalies"):
        assert with_it[part] == without[part]
    assert with_it["run"]["judged"] == 60
    assert with_it["run"]["done"] == 61


def test_nothing_holds_where_many_runs_are_invalid() -> None:
    many = [holding(seed) for seed in range(100)]
    for one in many[:6]:
        one["valid"] = False
    found = verdict_of(assembled(many), "rto_s")
    assert (found["state"], found["why"]) == (UNPROVEN, "6 of 100 runs are invalid")
    many[0]["valid"] = True
    assert verdict_of(assembled(many), "rto_s")["state"] == HOLDS


def test_no_runs_are_no_evidence() -> None:
    assert headline(assembled([]))[0] == UNPROVEN
    assert assembled([])["evidence"]["result"] == UNPROVEN


def test_an_interrupted_command_never_holds() -> None:
    found = assembled([holding(seed) for seed in range(100)], complete=False, runs=1000)
    assert headline(found)[0] == UNPROVEN
    assert found["evidence"]["result"] == UNPROVEN


def test_a_control_must_fail_in_every_run() -> None:
    many = [holding(seed) for seed in range(5)]
    for one in many:
        one["verdicts"][3]["state"] = FAILS
    assert headline(assembled(many, scenario=scenario(control=True)))[0] == HOLDS
    many[2]["verdicts"][3]["state"] = HOLDS
    blind = assembled(many, scenario=scenario(control=True))
    assert headline(blind)[0] == FAILS
    assert not blind["control"]["as_expected"]
    assert not assembled([], scenario=scenario(control=True))["control"]["as_expected"]


def test_phases_add_up_to_the_recovery() -> None:
    group = assembled(outcomes(50))["incidents"][0]
    assert group["phases"]["add_up"]
    rows = group["phases"]["rows"]
    assert [row["phase"] for row in rows] == list(PHASES)
    assert sum(row["mean_s"] for row in rows) == pytest.approx(group["phases"]["mean_rto_s"])
    assert rows[-1]["end_mean_s"] == pytest.approx(group["phases"]["mean_rto_s"])
    many = outcomes(50)
    many[3]["incidents"][0]["phases"]["verify"] += 0.001
    assert not assembled(many)["incidents"][0]["phases"]["add_up"]


def test_repeats_of_a_fault_are_one_group() -> None:
    one = outcome(1)
    one["incidents"] = [{**one["incidents"][0], "id": f"outage#{turn}"} for turn in (1, 2, 3)]
    found = assembled([one])
    assert [group["id"] for group in found["incidents"]] == ["outage"]
    assert found["incidents"][0]["rto_s"]["n"] == 3
    assert found["scope"]["faults"][0]["delivered"] == 3
    assert found["scope"]["faults"][0]["family"] == "region"


def test_an_outage_that_was_not_over_is_more_than_what_was_watched() -> None:
    many = outcomes(100)
    for one in many[:10]:
        one["incidents"][0] |= {"rto_s": None, "rto_declared_s": None, "phases": {}}
    found = assembled(many)["incidents"][0]["rto_s"]
    # Watched until the next fault, at 1200 s, less 30 s of steadiness.
    assert found["percentiles"]["p95"] | {"low": None} == {
        "value": 870.0, "low": None, "high": None, "at_least": True,
    }  # fmt: skip
    assert found["censored"] == 10
    assert assembled(many)["yearly"]["worst_client"]["downtime_s"]["at_least"]


def test_what_a_judge_says_was_watched_counts_before_what_follows_from_the_load() -> None:
    one, document = outcome(1), dict(scenario().document)
    first, second = one["incidents"]
    assert watched_s(first, one, document) == 870.0
    assert watched_s(second, one, document) == 570.0


def test_samples_are_read_back_as_they_were_written() -> None:
    many = outcomes(40)
    many[0]["incidents"][0]["rto_s"] = None
    found = assembled(many)["incidents"][0]["rto_s"]
    sample = sample_of(found)
    assert sample is not None
    assert (sample.n, sample.censored) == (40, 1)
    middle = sample.percentile(0.5)
    assert middle is not None
    assert found["percentiles"]["p50"]["value"] == pytest.approx(middle.value)


def test_no_percentile_from_too_few_incidents() -> None:
    found = assembled(outcomes(30))["incidents"][0]["rto_s"]["percentiles"]
    assert found["p99"] == {"needs": 100}
    assert found["p99.9"] == {"needs": 1000}
    assert "value" in found["p95"]


def test_zeros_are_given_as_bounds() -> None:
    many = outcomes(50)
    for one in many:
        one["accounts"]["euw"] |= {"lost": 0, "winner": one["accounts"]["euw"]["acked"]}
        one["accounts"]["euw"]["displaced"] = 0
        one["anomalies"]["lost"] = 0
    found = {(row["what"], row["per"]): row for row in assembled(many)["bounds"]}
    assert found["acknowledged records gone for good", "incident"]["trials"] == 100
    assert found["acknowledged records gone for good", "incident"]["below"] == pytest.approx(
        0.0295, abs=1e-4
    )
    # Records that no fault met cannot be lost by it: those in flight are the trials.
    flying = found["acknowledged records gone for good", "record in flight"]
    assert flying["trials"] == sum(one["in_flight"] for one in many) == 50 * 80
    assert ("lost", "run") not in found
    assert found["double winner", "run"]["below"] == pytest.approx(0.0582, abs=1e-4)
    assert all(row["below"] > 0 for row in found.values())


def test_a_percentile_of_a_phase_needs_as_many_recoveries_as_any_other() -> None:
    few, enough = (
        assembled(outcomes(count))["incidents"][0]["phases"]["rows"][0] for count in (19, 20)
    )
    assert (few["p50_s"] is None, few["p95_s"], few["end_p5_s"]) == (False, None, None)
    assert enough["p95_s"] >= enough["p50_s"]
    assert enough["end_p5_s"] <= enough["end_p95_s"]


@pytest.mark.parametrize(("rto_s", "count"), [(599.9, 0), (600.0, 1), (None, 0), (0.0, 0)])
def test_a_recovery_that_waited_for_the_end_of_the_fault_is_counted(
    rto_s: float | None, count: int
) -> None:
    one = outcome(1)
    one["incidents"][0]["rto_s"] = rto_s
    assert assembled([one])["incidents"][0]["outlasted"] == count


def test_the_worst_incidents_are_named_by_their_seeds() -> None:
    many = outcomes(40)
    many[7]["incidents"][0] |= {"rto_s": None, "rto_declared_s": None, "phases": {}}
    found = assembled(many)["incidents"][0]["worst"]
    assert len(found) == WORST_MAX
    assert (found[0]["seed"], found[0]["rto_s"]) == (8, None)
    seen = [row["rto_s"] for row in found[1:]]
    assert seen == sorted(seen, reverse=True)
    every = [one["incidents"][0]["rto_s"] for one in many if one["seed"] != 8]
    assert seen[0] == pytest.approx(max(every))


def test_a_phase_that_ended_after_recovery_is_no_phase_that_was_never_seen() -> None:
    (row,) = [one for one in assembled(outcomes(3))["scope"]["covered"]["rows"]
              if one["kind"] == "region-down"]  # fmt: skip
    assert (row["phases"]["verify"], row["later"]["verify"], row["later"]["promote"]) == (0, 3, 0)


def test_an_anomaly_that_nobody_looked_for_is_not_absent() -> None:
    many = outcomes(10)
    found = assembled(many)
    assert found["not_judged"] == {"stale_read": "runs of records carry no reads"}
    assert "stale_read" not in found["anomalies"]
    del many[0]["anomalies"]["divergence"]
    assert assembled(many)["anomalies"]["divergence"]["runs"]["trials"] == 9


def test_books_that_do_not_add_up_in_one_region_are_seen() -> None:
    many = outcomes(4)
    assert assembled(many)["accounts"]["add_up"]
    many[1]["accounts"]["euw"]["winner"] += 1
    many[1]["accounts"]["use"]["winner"] -= 1
    assert not assembled(many)["accounts"]["add_up"]


def test_states_covered_are_counted_once() -> None:
    same = [outcome(1), {**outcome(1), "seed": 2}]
    found = assembled(same)["scope"]["covered"]
    assert found["states"] == 2  # one of each kind of fault
    row = next(row for row in found["rows"] if row["kind"] == "region-down")
    assert row["phases"]["detect"] == 2
    assert row["phases"]["promote"] == 0


def test_availability_counts_runs_not_calls() -> None:
    calls = {"a": {"count": 1000, "good": 900}}
    other = {"a": {"count": 1000, "good": 1000}}
    many = [outcome(seed, calls=calls if seed % 2 else other) for seed in range(20)]
    found = assembled(many)["availability"]["overall"]
    assert found["value"] == pytest.approx(0.95)
    assert found["high"] - found["low"] > 0.04  # of 20,000 independent calls it would be 0.006


def test_a_year_needs_rates() -> None:
    faults = [{key: v for key, v in fault.items() if key != "per_year"}
              for fault in scenario().document["faults"]]  # fmt: skip
    assert assembled(outcomes(5), scenario=scenario(faults=faults))["yearly"] is None
    found = assembled(outcomes(5))["yearly"]
    assert found["counted"] == [{"id": "outage", "per_year": 0.5}]
    assert found["not_counted"] == ["cut"]


def test_evidence_leaves_to_a_person_what_only_a_person_knows() -> None:
    found = assembled(outcomes(100), extras=extras())["evidence"]
    assert [found[name] for name in found["left_to_the_auditor"]] == [None] * 4
    assert found["result"] == "not met"
    assert found["rto"]["achieved"][0]["percentile"] == "p99"
    assert found["gaps"]
    assert found["remediation"][0] == "Decide automatically instead of paging somebody"


def test_every_promise_has_words_and_units() -> None:
    from fractal_lba_server.judge.promises import ALWAYS, PROMISES

    assert set(PROMISES) <= set(SENTENCES)
    assert set(ALWAYS) - {"complete", "effects"} <= set(SENTENCES)
    assert promise_text("rto_s", 300) == "Clients recover within 5\u202fmin of a disruption"
    assert promise_text("success_share_min", 0.85) == "At least 85.0\u202f% of all calls are good"
    assert (
        promise_text("write_pause_ms_max", 250)
        == "Writes pause for at most 250\u202fms around a change"
    )
    assert promise_text("no_such_thing", True) == "no such thing"


def test_results_name_no_machine_and_no_day(tmp_path: Path) -> None:
    data, page = results.write(tmp_path / "out", assembled(outcomes(20), extras=extras()))
    for path in (data, page):
        text = path.read_text(encoding="utf-8")
        assert os.uname().nodename not in text
        assert str(tmp_path) not in text


def test_only_the_changes_that_were_tried_may_be_missing() -> None:
    found = assembled([holding(seed) for seed in range(100)], complete=False)
    assert headline(found)[0] == HOLDS
    assert "all runs are here" in render(found)
