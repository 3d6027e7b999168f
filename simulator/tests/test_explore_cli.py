"""`flk-sim explore` and `flk-sim replay`: what they print, keep, and how they end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fractal_lba_server.drill.scenario import Scenario, load_scenario
from fractal_lba_sim.cli import main
from fractal_lba_sim.engine import Event
from fractal_lba_sim.explore.token import Run, parse_token, token_of
from fractal_lba_sim.explore.written import scenario_text
from fractal_lba_sim.explore.zoo import BUGS, base, small_start

BUG = BUGS["check-then-act"]


def flk_sim(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="flk-sim")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(scenario_text(small_start(BUG).document), encoding="utf-8")
    return path


def explored(scenario: Path, *more: str | Path) -> Result:
    return flk_sim(
        "explore", scenario, "--plant", BUG.name, "--seed", str(BUG.seed), "--runs", "40",
        "--budget", "1h", "--only", "linearizable", *more,
    )  # fmt: skip


def token_in(result: Result) -> str:
    found = re.search(r"again: flk-sim replay (\S+)", result.output)
    assert found, result.output
    return found[1]


def test_a_failing_schedule_is_told_kept_and_ends_with_1(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    result = explored(scenario, "--out", out)
    assert result.exit_code == 1, result.output
    assert "linearizable fails: " in result.output
    assert "2 records offered" in result.output
    assert (out / "token").read_text().strip() == token_in(result)
    assert (
        load_scenario(str(out / "scenario.yaml")).document == parse_token(token_in(result)).scenario
    )
    for name in ("trace.jsonl", "timeline.txt"):
        assert (out / name).stat().st_size > 0


def test_a_token_replays_to_the_trace_that_it_names(scenario: Path, tmp_path: Path) -> None:
    token = token_in(explored(scenario, "--out", tmp_path / "found"))
    for source in (token, tmp_path / "found" / "token"):
        result = flk_sim("replay", source)
        assert result.exit_code == 0, result.output
        assert f"trace {parse_token(token).trace}, the same as the token's" in result.output
        assert "linearizable fails: " in result.output


def test_a_kept_trace_and_a_kept_scenario_are_played_again(scenario: Path, tmp_path: Path) -> None:
    token = token_in(explored(scenario, "--out", tmp_path / "found"))
    run = parse_token(token)
    of_trace = flk_sim("replay", tmp_path / "found" / "trace.jsonl", "--plant", BUG.name)
    of_scenario = flk_sim(
        "replay", tmp_path / "found" / "scenario.yaml", "--seed", str(run.seed),
        "--plant", BUG.name,
    )  # fmt: skip
    for result in (of_trace, of_scenario):
        assert result.exit_code == 0, result.output
        assert f"trace {run.trace}" in result.output


def test_a_token_whose_trace_is_another_one_ends_with_1(scenario: Path) -> None:
    run = parse_token(token_in(explored(scenario)))
    other = token_of(
        Run(scenario=run.scenario, seed=run.seed, engine=run.engine, trace=run.trace)
    )  # fmt: skip
    result = flk_sim("replay", other)
    assert result.exit_code == 1
    assert f"the token's is {run.trace}" in result.output


def test_without_the_plant_nothing_fails_and_the_bound_is_printed(scenario: Path) -> None:
    result = flk_sim("explore", scenario, "--runs", "10", "--seed", str(BUG.seed))
    assert result.exit_code == 0, result.output
    assert "10 schedules" in result.output
    assert "no promise failed: fewer than 25.9\u202f% of such schedules" in result.output


def test_time_ends_a_search(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    result = flk_sim("explore", scenario, "--budget", "20s")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("9 schedules, ")


def test_time_ends_the_shrinking(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    whole, cut = explored(scenario, "--budget", "1h"), explored(scenario, "--budget", "2s")
    plays = [
        int(found) for one in (whole, cut) for found in re.findall(r"in (\d+) plays", one.output)
    ]
    assert plays[0] > plays[1]


class Endless:
    """An engine whose runs have no end."""

    def play(self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()) -> Iterator[Event]:
        while True:
            pass
        yield {}


def test_time_ends_a_run_that_does_not_end(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractal_lba_sim.cli_explore.world", lambda _: Endless())
    result = flk_sim("explore", scenario, "--budget", "0.2s", "--seed", "7", "--runs", "3")
    assert "the run of seed 7 outlasted the budget and was ended" in result.output
    assert "not enough evidence" in result.output
    assert result.exit_code == 1


DAMAGED = token_of(Run(scenario=base("pair").document, seed=1))


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (DAMAGED[:40] + ("A" if DAMAGED[40] != "A" else "B") + DAMAGED[41:], "check bytes"),
        (DAMAGED[:-4], "damaged"),
        ("flk9-" + DAMAGED[5:], "a token of version 9"),
        (token_of(Run(scenario=base("pair").document, seed=1, engine="live")), "plays nothing"),
    ],
)
def test_a_damaged_token_is_2_and_says_why(token: str, said: str) -> None:
    result = flk_sim("replay", token)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "soon"), "is no length of time"),
        (("--kinds", "earthquake"), "no kind is called"),
        (("--plant", "no-such-bug"), "no-such-bug"),
        (("--engine", "live"), "live"),
        (("--events", "0"), "--events"),
        (("--runs", "0"), "--runs"),
    ],
)
def test_wrong_usage_of_explore_is_2(scenario: Path, words: tuple[str, ...], said: str) -> None:
    result = flk_sim("explore", scenario, "--budget", "5s", *words)
    assert result.exit_code == 2, result.output
    assert said in result.output


@pytest.mark.parametrize("command", ["explore", "replay"])
def test_a_scenario_that_is_none_is_2(command: str, tmp_path: Path) -> None:
    assert flk_sim(command, tmp_path / "absent.yaml").exit_code == 2
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text("version: 1\nname: faulty\n")
    result = flk_sim(command, faulty)
    assert result.exit_code == 2
    assert "topology" in result.output
