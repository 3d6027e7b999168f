"""The command `server`: against a reference server, against nobody, and used wrongly."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_parts import reference, written_home

from flk_conformance import checkout, judge_reference
from flk_conformance.cli import main
from flk_conformance.results import read
from flk_conformance.server import runner, trial
from flk_conformance.server.control import VERBS, Command, ControlError
from flk_conformance.server.transpose import DefectError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference")


@pytest.fixture(scope="module", autouse=True)
def control(home: Path) -> Iterator[Command]:
    with reference(home) as command:
        yield command


def judged(home: Path, *options: str) -> int:
    url = (home / "url").read_text(encoding="ascii")
    return main(["server", "--base-url", url, "--features", str(home / "server.yaml"), *options])


def test_right_server_is_as_expected(home: Path, tmp_path: Path) -> None:
    options = [f"--only={name}" for name in ("submit/5.3", "tenants", "gate/3.10", "reads/10.7")]
    assert judged(home, *options, "--out", str(tmp_path), "--seed", "s1") == 0
    run = read(tmp_path / "results.ndjson")
    assert run.is_complete
    assert run.header["kind"] == "server"
    assert run.header["seed"] == "s1"
    assert run.totals()["pass"] == len(run.results) > 15
    for report in ("junit", "results"):
        assert list(tmp_path.glob(f"{report}.*"))


def test_two_runs_with_one_seed_never_meet(home: Path) -> None:
    for _ in range(2):
        assert judged(home, "--only", "submit/5.3/1", "--seed", "same") == 0


def test_case_of_a_batch_and_a_socket_pass(home: Path) -> None:
    assert judged(home, "--only", "batch/8.2/2", "--only", "sockets/9.8/3*", "--rate", "500") == 0


def test_what_is_not_claimed_is_absent_and_no_failure(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((home / "server.yaml").read_bytes())
    document["features"] = ["submit", "receipts"]
    for entry in document["tenants"]:
        for member in ("key_file", "token_file"):
            if member in entry:
                entry[member] = str(home / entry[member])
    (tmp_path / "server.yaml").write_text(json.dumps(document))
    url = (home / "url").read_text(encoding="ascii")
    options = ["--base-url", url, "--features", str(tmp_path / "server.yaml")]
    names = ["--only", "reads/2.11", "--only", "crash/7.8/1", "--only", "submit/5.4/1"]
    assert main(["server", *options, *names]) == 0
    said = capsys.readouterr().out
    assert "get is not claimed" in said
    assert "no --control command is given" in said
    assert "receipts is claimed, and this version has no case for it" in said


def test_crash_case_passes_with_a_control_command(home: Path, control: Command) -> None:
    assert judged(home, "--only", "crash/7.8/1", "--control", control.line) == 0


def test_failure_names_case_sentence_and_the_line_that_repeats_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(trial: trial.Trial) -> None:
        raise trial_failed

    from flk_conformance.server.judge import Failed

    trial_failed = Failed("it says no")
    one = trial.Case("proof/5.3/1", "canonical 5.3", "It says yes.", run, frozenset({"submit"}))
    monkeypatch.setitem(trial.CASES, one.id, one)
    assert judged(home, "--only", one.id) == 1
    said = capsys.readouterr().out
    for text in (
        "proof/5.3/1",
        "It says yes.",
        "it says no",
        "canonical 5.3:",
        "--only proof/5.3/1",
    ):
        assert text in said


def test_defect_of_the_harness_is_no_verdict(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: trial.Trial) -> None:
        raise DefectError("a vector that was not rewritten")

    one = trial.Case("proof/5.3/2", "canonical 5.3", "Is.", run, frozenset({"submit"}))
    monkeypatch.setitem(trial.CASES, one.id, one)
    assert judged(home, "--only", one.id) == 4


def test_list_is_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged(home, "--list", "--only", "quota") == 0
    assert capsys.readouterr().out.count("quota/") == 8


def test_nobody_there(tmp_path: Path) -> None:
    written_home(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    (tmp_path / "url").write_text(f"http://127.0.0.1:{port}")
    assert judged(tmp_path, "--only", "submit/5.3/1") == 3


@pytest.mark.parametrize(
    "options",
    [
        ["--only", "no/such/case"],
        ["--features", "nowhere.yaml"],
        ["--base-url", "ftp://somewhere"],
        ["--rate", "fast"],
    ],
)
def test_wrong_use(home: Path, options: list[str]) -> None:
    assert judged(home, *options) == 2


@pytest.mark.parametrize("verb", VERBS)
def test_control_that_fails_says_how(verb: str) -> None:
    with pytest.raises(ControlError, match=f"{verb}: exit status 1"):
        Command("false").do(verb)
    with pytest.raises(ControlError, match=verb):
        Command("no-such-program-anywhere").do(verb)


def test_verbs_are_harmless_where_they_have_nothing_to_do(tmp_path: Path) -> None:
    control = checkout.written(tmp_path)
    for verb in ("stop", "kill", "drain", "store-up", "start", "start", "stop", "stop"):
        control.do(verb)


def test_server_that_does_not_come_up_again_fails_its_case(home: Path) -> None:
    class Broken:
        def do(self, verb: str) -> None:
            raise ControlError(f"{verb}: it stays down")

    from flk_conformance.server.features import load_features
    from flk_conformance.server.wire import Client, Pace, target_of

    client = Client(target_of((home / "url").read_text()), Pace(None))
    features = load_features(home / "server.yaml")
    cases = runner.chosen(["crash/7.8/1"], strict=False)
    found: list[runner.Outcome] = []
    runner.run(runner.Plan(features, client, cases, "s", "r", Broken()), found.append)
    assert [one.status for one in found] == ["fail"]
    assert "it stays down" in found[0].message


def test_reference_server_is_judged_by_one_command() -> None:
    assert judge_reference.main(["--only", "submit/5.3/1", "--only", "crash/2.11/1"]) == 0
