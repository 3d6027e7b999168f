"""The command line: what it prints, how it ends, and what an interrupt leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fractal_lba_sim import command
from fractal_lba_sim.cli import COMMANDS, main
from fractal_lba_sim.journal import FILE

HERE = Path(__file__).parent
SCENARIO = """
version: 1
name: tiny
title: tiny
topology:
  regions:
    - {code: euw, node_price_per_hour: 1}
    - {code: use, node_price_per_hour: 1}
  placements:
    open: {regions: [euw, use], topology: active-active}
settings:
  probe: {interval: 10s, failures: 3, dns_ttl: 300s}
  shipping: {interval: 60s}
load:
  duration: 1000s
  rate: 10/s
  clients:
    - {name: near, endpoints: [euw, use], failover: dns}
faults:
  - {id: down, kind: region-down, region: euw, at: 200s}
promises: {rto: 400s, rpo: 60s, steady: 30s, evidence: {runs: 6}}
control:
  why: names are kept for an hour
  must_fail: [rto_s]
  overlay:
    settings: {probe: {dns_ttl: 1h}}
    promises: {rto: 1s}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture(autouse=True)
def _offer_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice of engines was read when the commands were imported."""
    from fractal_lba_sim import cli_run, cli_sweep

    for one in (cli_run.run, cli_sweep.sweep):
        choice = next(option for option in one.params if option.name == "engine").type
        monkeypatch.setattr(choice, "choices", (*choice.choices, "tiny"))


def flk_sim(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="flk-sim")


def process(*words: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "tiny_cli.py"), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE,
        env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip


def results_of(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


RUN = ("--engine", "tiny", "-n", "6", "--jobs", "1", "--no-what-ifs")


def test_every_promise_holds_is_0(scenario: Path) -> None:
    result = flk_sim("run", scenario, *RUN)
    assert result.exit_code == 0, result.output
    assert "rto" in result.output.lower()


def test_a_promise_that_fails_is_1(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("rto: 400s", "rto: 100s"))
    assert flk_sim("run", scenario, *RUN).exit_code == 1


def test_too_few_runs_are_not_green(scenario: Path) -> None:
    result = flk_sim("run", scenario, "--engine", "tiny", "-n", "5", "--no-what-ifs", "--json")
    assert result.exit_code == 1
    assert {one["state"] for one in results_of(result)["verdicts"]} == {"not enough evidence"}


def test_runs_without_an_effect_are_invalid_counted_and_not_green(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("title: tiny", "title: tiny-idle"))
    result = flk_sim("run", scenario, *RUN, "--json")
    assert result.exit_code == 1
    assert results_of(result)["scope"]["invalid"]["count"] == 6


def test_a_control_must_fail_by_name(scenario: Path) -> None:
    assert flk_sim("run", scenario, *RUN, "--control").exit_code == 0
    scenario.write_text(SCENARIO.replace("promises: {rto: 1s}", "promises: {rto: 1h}"))
    assert flk_sim("run", scenario, *RUN, "--control").exit_code == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("duration: 1000s", "duration: 1000", "/load/duration: a number without a unit"),
        ("interval: 10s", "intervall: 10s", 'did you mean "interval"?'),
        ("region: euw, at", "region: eux, at", "no region eux"),
        ("version: 1", "version: [", "not YAML"),
    ],
)
def test_a_faulty_scenario_is_2_with_its_line(
    scenario: Path, old: str, new: str, said: str
) -> None:
    scenario.write_text(SCENARIO.replace(old, new, 1))
    result = flk_sim("run", scenario, *RUN)
    assert result.exit_code == 2
    assert said in result.stderr
    assert f"{scenario}:" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "eu-west-outrage"], "did you mean eu-west-outage?"),
        (["run", "no-such-thing-at-all"], "`flk-sim list` names"),
        (["rum"], "did you mean run?"),
        (["frobnicate"], "no command is called 'frobnicate'"),
        (["run"], "Missing argument"),
        (["run", "eu-west-outage", "--traces"], "--traces needs --out"),
        (["run", "eu-west-outage", "--executor", "dask"], "--scheduler ADDRESS"),
        (["run", "eu-west-outage", "--what-if", "settings.level"], "expected PATH=VALUE"),
        (["sweep", "eu-west-outage", "--set", "settings.probe.dns_ttl=5"], "a number without a unit"),
        (["sweep", "eu-west-outage", "--set", "settings.probe.dns_tll=5s"], 'did you mean "dns_ttl"?'),
        (["sweep", "eu-west-outage", "--engine", "live", "--set", "a=1"], "is not one of"),
        (["run", "eu-west-outage", "--scheduler", "tcp://a:1"], "goes with --executor dask"),
        (["run", "eu-west-outage", "--no-what-ifs", "--what-if", "settings.probe.failures=2"],
         "--what-if cannot be answered: the command was given --no-what-ifs"),
        (["run", "eu-west-outage", "-n", "3", "--what-if", "settings.probe.failures=2"],
         "--what-if cannot be answered: a comparison needs 4 runs"),
        (["run", "eu-west-outage", "--out", "/proc/none"], "/proc/none: No such file"),
    ],
)  # fmt: skip
def test_wrong_usage_is_2_and_says_what_to_do(words: list[str], said: str) -> None:
    result = flk_sim(*words)
    assert result.exit_code == 2, result.output
    assert said in result.stderr


def test_what_an_engine_refuses_is_2(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("settings:", "settings:\n  on_partition: refuse", 1))
    result = flk_sim("run", scenario, *RUN)
    assert result.exit_code == 2
    assert "cannot refuse writes" in result.stderr


def test_a_worker_that_dies_leaves_a_partial_result_and_its_seeds(
    scenario: Path, tmp_path: Path
) -> None:
    scenario.write_text(SCENARIO.replace("title: tiny", "title: tiny-crash"))
    out = tmp_path / "out"
    running = process("run", scenario, "--engine", "tiny", "-n", "8", "--jobs", "2", "--out", out)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == command.FAIL
    assert "a worker died while it played the seeds" in errors
    run = json.loads((out / "results.json").read_text())["run"]
    assert not run["complete"]
    assert run["done"] < 8


def test_a_canary_that_does_not_fail_stops_the_command(
    scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fractal_lba_server.judge import canary

    def blind() -> None:
        raise canary.CanaryError("accounting holds for a trace with a lost record")

    monkeypatch.setattr(canary, "canary", blind)
    result = flk_sim("run", scenario, *RUN)
    assert result.exit_code == command.FAIL
    assert "the checker is blind: accounting holds" in result.stderr


def test_results_have_the_same_bytes_whatever_plays_them(scenario: Path, tmp_path: Path) -> None:
    written = []
    for name, jobs in (("one", "1"), ("two", "2")):
        out = tmp_path / name
        words = ("run", scenario, "--engine", "tiny", "-n", "8", "--jobs", jobs, "--out", out)
        assert flk_sim(*words).exit_code == 0
        written.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert set(written[0]) == {FILE, "report.html", "results.json"}
    assert written[0] == written[1]


def test_the_command_in_the_results_names_what_decides_and_nothing_else(scenario: Path) -> None:
    result = flk_sim("run", scenario, *RUN, "--json", "--quiet", "--seed", "7")
    assert results_of(result)["run"]["command"] == (
        f"flk-sim run {scenario} --engine tiny -n 6 --seed 7 --no-what-ifs"
    )


def test_what_ifs_are_in_the_results(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("rto: 400s", "rto: 180s"))
    words = ("run", scenario, "--engine", "tiny", "-n", "30", "--jobs", "1", "--json")
    found = results_of(flk_sim(*words, "--what-if", "settings.probe.dns_ttl=20s"))
    (row,) = found["what_ifs"]
    assert row["change"] == "settings.probe.dns_ttl 20 s"
    assert row["holds"]
    assert found["remediations"][0]["name"] == "lower the DNS TTL"
    assert found["tornado"][0]["path"] == "settings.probe.dns_ttl_s"


def test_sweep_gives_every_combination_and_the_front(scenario: Path) -> None:
    result = flk_sim(
        "sweep", scenario, "--engine", "tiny", "-n", "20", "--jobs", "1", "--json",
        "--set", "settings.probe.dns_ttl=30s,5min", "--set", "settings.shipping.interval=5s,1min",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    points = results_of(result)["sweep"]["points"]
    assert [tuple(point["set"].values()) for point in points] == [
        (30, 5), (30, 60), (300, 5), (300, 60),
    ]  # fmt: skip
    assert points[0]["rto_p95_s"] < points[2]["rto_p95_s"]
    assert points[0]["rpo_p95_s"] < points[1]["rpo_p95_s"]


def test_a_point_holds_only_with_enough_runs(scenario: Path) -> None:
    words = ("sweep", scenario, "--engine", "tiny", "--jobs", "1", "--quiet",
             "--set", "settings.probe.dns_ttl=5s")  # fmt: skip
    few, enough = flk_sim(*words, "-n", "5"), flk_sim(*words, "-n", "6")
    assert (few.exit_code, enough.exit_code) == (1, 0), few.output
    assert "too few runs" in few.output
    assert "nothing" in enough.output


def test_sweep_prints_a_table(scenario: Path) -> None:
    result = flk_sim(
        "sweep", scenario, "--engine", "tiny", "-n", "3", "--jobs", "1",
        "--set", "settings.probe.dns_ttl=30s",
    )  # fmt: skip
    assert "1 of 1 points, 3 runs each" in result.stdout
    assert "needs 20 runs" in result.stdout
    assert "not declared" in result.stdout


def test_list_names_scenarios_with_titles() -> None:
    result = flk_sim("list")
    assert result.exit_code == 0
    assert "eu-west-outage" in result.stdout
    rows = [json.loads(line) for line in flk_sim("list", "--json").stdout.splitlines()]
    assert {"name", "title", "from"} == set(rows[0])


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_of_the_table_is_there(name: str) -> None:
    result = flk_sim(name, "--help")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Usage: flk-sim {name}")


def test_the_table_is_shown_without_importing_commands() -> None:
    script = (
        "import sys; from fractal_lba_sim.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'simpy', 'rich', "
        "'matplotlib', 'distributed', 'fractal_lba_server')], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


# --- interrupts, in processes of their own


def wait_for_outcomes(out: Path, count: int, running: subprocess.Popen[str]) -> None:
    while running.poll() is None:
        path = out / FILE
        if path.exists() and path.read_bytes().count(b'"outcome"') >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"ended before it was interrupted: {running.communicate()}")


def interrupted(words: Sequence[str | Path], out: Path, *, after: int) -> tuple[str, str]:
    running = process(*words, "--out", out, TINY_SLEEP_S="0.1")
    wait_for_outcomes(out, after, running)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: the workers hear it too
    told, errors = running.communicate(timeout=60)
    assert running.returncode == command.INTERRUPTED, errors
    return told, errors


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_keeps_what_is_finished_and_a_second_command_goes_on(
    scenario: Path, tmp_path: Path, jobs: str
) -> None:
    out = tmp_path / "out"
    words = ("run", scenario, "--engine", "tiny", "-n", "40", "--jobs", jobs, "--no-what-ifs")
    _, errors = interrupted(words, out, after=3)
    assert "Traceback" not in errors
    part = json.loads((out / "results.json").read_text())
    assert part["run"]["complete"] is False
    assert 3 <= part["run"]["done"] < part["run"]["runs"] == 40
    assert f"{part['run']['done']} of 40 runs are finished" in errors
    again = process(*words, "--out", out)
    again.communicate(timeout=60)
    assert again.returncode == 0
    fresh = process(*words, "--out", tmp_path / "fresh")
    fresh.communicate(timeout=60)
    for name in ("results.json", "report.html", FILE):
        assert (out / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_an_interrupted_sweep_shows_the_points_that_are_finished(
    scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = (
        "sweep", scenario, "--engine", "tiny", "-n", "3", "--jobs", "1",
        "--set", "settings.probe.dns_ttl=10s,20s,30s,40s,50s,60s",
    )  # fmt: skip
    told, errors = interrupted(words, out, after=7)
    assert "Traceback" not in errors
    part = json.loads((out / "results.json").read_text())
    assert part["run"]["complete"] is False
    assert 1 <= len(part["sweep"]["points"]) < 6
    assert "of 6 points" in told


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_no_worker_is_left_after_an_interrupt(
    scenario: Path, tmp_path: Path, sign: signal.Signals
) -> None:
    out = tmp_path / "out"
    words = ("run", scenario, "--engine", "tiny", "-n", "40", "--jobs", "2", "--no-what-ifs")
    running = process(*words, "--out", out, TINY_SLEEP_S="0.1")
    wait_for_outcomes(out, 1, running)
    os.kill(running.pid, sign)  # the command alone: it ends its workers itself
    _, errors = running.communicate(timeout=60)
    assert running.returncode == command.INTERRUPTED, errors
    assert "leaked" not in errors
    assert all_are_gone(running.pid)


def all_are_gone(group: int) -> bool:
    """Wait until no process of a group is left; the server of forks ends when its pipe closes."""
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
