"""The committed page is what a fresh run gives; the command says it, and fails where it must."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from claims_rows import EVERY, QUICK, TOPICS, checked
from click.testing import CliRunner, Result

from fractal_lba_sim import cli_check
from fractal_lba_sim.claims import checking
from fractal_lba_sim.claims.checking import Row, Run, run_checks
from fractal_lba_sim.claims.checks_drills import DRILLED
from fractal_lba_sim.claims.page import as_json, command_of, counts, page
from fractal_lba_sim.claims.sources import SOURCES
from fractal_lba_sim.claims.verdicts import (
    HOLDS,
    NOT_ENOUGH,
    NOT_RUN,
    REFUTED,
    VERDICTS,
    Finding,
    duration,
    percent,
    share_text,
    wilson,
)
from fractal_lba_sim.results_verdicts import RUNS_NEEDED

ROOT = Path(__file__).parents[2]
FULL = Run(root=ROOT)
PLAYED = DRILLED.keys() | {
    "C002", "C003", "C005", "C006", "C016", "C034", "C065", "C141", "C150",
}  # fmt: skip
"""Claims for which an engine plays: with all of their runs they take minutes."""


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(checked().rows.values())


@pytest.fixture(scope="module")
def committed() -> str:
    return (ROOT / "docs/claims.md").read_text(encoding="utf-8")


def table_rows(text: str) -> dict[str, str]:
    """Give each claim's line of a page."""
    lines = [line for line in text.splitlines() if line.startswith("| **C")]
    return {line[4:8]: line for line in lines}


def test_a_committed_row_is_that_of_a_fresh_run(committed: str) -> None:
    cheap = [claim for id, claim in EVERY.items() if id not in PLAYED]
    fresh = table_rows(page(TOPICS, list(run_checks(cheap, FULL)), FULL))
    found = table_rows(committed)
    assert {id: found[id] for id in fresh} == fresh, f"run: {command_of(FULL)}"
    assert list(fresh.keys() | PLAYED) != []
    assert fresh.keys() | PLAYED == found.keys() == EVERY.keys()


@pytest.mark.long
def test_the_committed_page_is_a_fresh_one(committed: str) -> None:
    fresh = list(run_checks(EVERY.values(), FULL))
    assert [row.claim.id for row in fresh if row.is_failure] == []
    assert page(TOPICS, fresh, FULL) == committed, f"run: {command_of(FULL)}"


def test_the_committed_page_has_the_verdicts_that_the_register_expects(committed: str) -> None:
    for id, line in table_rows(committed).items():
        claim, verdict = EVERY[id], line.split(" | ")[1]
        assert verdict == (NOT_RUN if claim.check == "live" else claim.expected), id
    assert all(f"`{stem}`" in committed for stem in SOURCES)
    assert {seed.split()[0] for claim in EVERY.values() for seed in claim.seed} == SOURCES.keys()


def test_every_claim_has_one_row_with_the_verdict_that_the_register_expects(
    rows: list[Row],
) -> None:
    assert [row.claim.id for row in rows] == list(EVERY)
    assert {row.claim.id for row in rows if row.is_failure} == DRILLED.keys()


def test_what_a_drill_decides_needs_as_many_runs_as_a_promise(rows: list[Row]) -> None:
    for row in rows:
        if row.claim.id in DRILLED:
            assert row.finding.verdict == NOT_ENOUGH
            assert f"{RUNS_NEEDED} are needed" in row.finding.bound


def test_counts_add_up(rows: list[Row]) -> None:
    assert sum(counts(rows).values()) == 158
    assert list(counts(rows)) == list(VERDICTS)


def test_nothing_that_was_not_computed_is_green(rows: list[Row]) -> None:
    for row in rows:
        if row.finding.verdict == HOLDS:
            assert row.claim.check in {"vector", "simulated", "analytic", "document"}
            assert row.finding.bound, row.claim.id


def test_every_refuted_claim_says_what_would_make_it_true(rows: list[Row]) -> None:
    for row in rows:
        if row.finding.verdict in {REFUTED, "conditional"} and row.claim.check != "live":
            assert row.finding.change, row.claim.id


def test_no_zero_is_printed_without_a_bound(rows: list[Row], committed: str) -> None:
    assert not [row.claim.id for row in rows if " 0 % (" in row.finding.said + row.finding.bound]
    for zero in re.finditer(r"\b0 of [\d,]+(?P<rest>[^|]{0,40})", committed):
        is_bounded = "below" in zero["rest"] or "the whole table" in zero["rest"]
        assert is_bounded or "record" not in zero["rest"], zero[0]


def test_two_runs_give_the_same_bytes(rows: list[Row]) -> None:
    some = [EVERY[id] for id in ("C002", "C016", "C034", "C065", "C141")]
    again = as_json(list(run_checks(some, QUICK)))
    assert again["claims"] == [
        member for member in as_json(rows)["claims"] if EVERY[member["id"]] in some
    ]


# --- the command ----------------------------------------------------------------------------


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli_check.check, arguments)


def test_command_ends_well_where_verdicts_are_as_expected() -> None:
    done = invoke("C034", "--quick")
    assert done.exit_code == 0, done.output
    assert "C034  refuted" in done.output
    assert "1 claims: 1 refuted" in done.output


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["34"], ["C034"]),
        (["c034-36"], ["C034", "C035", "C036"]),
        (["C036", "C034", "C036"], ["C034", "C036"]),
        (["document"], ["C093", "C094", "C095", "C096"]),
    ],
)
def test_claims_are_chosen_by_number_range_and_topic(words: list[str], ids: list[str]) -> None:
    done = invoke(*words, "--quick", "--json")
    assert [member["id"] for member in json.loads(done.output)["claims"]] == ids


@pytest.mark.parametrize("word", ["C159", "C000", "nothing", "C200-C300"])
def test_an_unknown_claim_is_wrong_usage(word: str) -> None:
    done = invoke(word, "--quick")
    assert done.exit_code == 2
    assert word in done.output


def test_command_writes_the_page_of_what_was_chosen(tmp_path: Path) -> None:
    out = tmp_path / "claims.md"
    assert invoke("C094", "--quick", "--out", str(out)).exit_code == 0
    assert "**C094**" in out.read_text()
    assert "`flk-sim check --quick C094`" in out.read_text()
    assert "**C095**" not in out.read_text()


def test_what_was_not_run_is_neither_green_nor_a_failure() -> None:
    done = invoke("C044", "--json")
    assert done.exit_code == 0
    assert json.loads(done.output)["claims"][0]["verdict"] == NOT_RUN


# --- wrong registers and wrong programs ------------------------------------------------------


@pytest.mark.parametrize("expected", ["holds", "conditional", "not enough evidence"])
def test_a_flipped_verdict_is_a_failure(monkeypatch: pytest.MonkeyPatch, expected: str) -> None:
    shards = next(topic for topic in TOPICS if topic.name == "shards")
    flipped = replace(
        shards,
        claims=tuple(
            replace(claim, expected=expected) if claim.id == "C034" else claim
            for claim in shards.claims
        ),
    )
    monkeypatch.setattr(cli_check, "load_topics", lambda: [flipped])
    done = invoke("C034", "--quick")
    assert done.exit_code == 1
    assert "not as expected" in done.output


def test_a_claim_without_a_function_is_not_enough_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checking, "all_checks", dict)
    (row,) = run_checks([EVERY["C034"]], QUICK)
    assert row.finding.verdict == NOT_ENOUGH
    assert row.is_failure


def test_two_functions_for_one_claim_are_refused() -> None:
    checking.all_checks()
    with pytest.raises(ValueError, match="C034 is checked by"):
        checking.checks("C034")(lambda _: Finding(HOLDS, ""))


@pytest.mark.parametrize(
    ("command", "verdict", "is_failure"),
    [
        ("python -c 'print(1)'", HOLDS, False),
        ("python -c 'raise SystemExit(3)'", REFUTED, True),
        ("no-such-program-anywhere", NOT_ENOUGH, True),
    ],
)
def test_a_live_command_answers_by_its_exit_code(
    command: str, verdict: str, *, is_failure: bool
) -> None:
    claim = replace(EVERY["C044"], command=command)
    (row,) = run_checks([claim], Run(live=True, root=ROOT))
    assert row.finding.verdict == verdict
    assert row.is_failure is is_failure


def test_a_live_command_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LIVE_S_MAX", 0.2)
    claim = replace(EVERY["C044"], command="python -c 'import time; time.sleep(60)'")
    (row,) = run_checks([claim], Run(live=True, root=ROOT))
    assert row.finding.verdict == REFUTED


# --- how figures are written -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "of", "text"),
    [
        (0, 100, "0 of 100: below 2.951 % (95 %)"),
        (30, 100, "30 % (21.89 % to 39.58 %, 95 %, n = 100)"),
        (100, 100, "100 % (96.3 % to 100 %, 95 %, n = 100)"),
    ],
)
def test_a_share_has_its_interval_and_zero_its_bound(hits: int, of: int, text: str) -> None:
    assert share_text(hits, of) == text


def test_wilson_interval_covers_the_share() -> None:
    for hits in range(51):
        low, high = wilson(hits, 50)
        assert 0 <= low <= hits / 50 <= high <= 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250 ms"), (90, "90 s"), (600, "10 min"), (48_384, "13.4 h"), (604_800, "7 days")],
)
def test_a_time_is_in_the_unit_of_a_person(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_percentage_has_four_digits() -> None:
    assert percent(0.2938490) == "29.38 %"
