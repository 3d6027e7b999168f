"""The list of wrong implementations is complete, and what it names exists and kills."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flk_conformance import cli, grammar, mutant_list, mutate, places, vectors
from flk_conformance.mutant_list import Mutant
from flk_conformance.mutant_runs import Found
from flk_conformance.run import OK, UNEXPECTED, USAGE
from flk_conformance.vectors import LEVELS
from mutants import checks, harness_checks, patching, subject
from mutants.subject import CONFORMANCE

MUTANTS = mutant_list.read()
BY_ID = {mutant.id: mutant for mutant in MUTANTS}
PATCHES = [mutant for mutant in MUTANTS if mutant.is_patch]
COUNTS = {
    "R": 14, "N": 14, "S": 21, "K": 12, "V": 21, "C": 16, "P": 19, "W": 5, "E": 24, "I": 3,
    "T": 20, "Q": 16, "B": 25, "D": 17, "Z": 8,
}  # fmt: skip
"""How many each family has; R and K with one that is equivalent."""


@pytest.fixture(scope="module")
def loaded() -> vectors.Vectors:
    return vectors.load(places.golden_dir())


# --- the list -------------------------------------------------------------------------------


def test_every_family_is_complete() -> None:
    assert Counter(mutant.family for mutant in MUTANTS) == COUNTS
    assert sum(mutant.is_runnable for mutant in MUTANTS) >= 120


def test_ids_are_unique_and_name_their_family() -> None:
    assert len(BY_ID) == len(MUTANTS)
    for mutant in MUTANTS:
        assert re.fullmatch(r"[A-Z][0-9]{2}", mutant.id)
        assert mutant.id[0] == mutant.family


def test_only_equivalent_mutants_are_not_run() -> None:
    assert {m.id for m in MUTANTS if not m.is_runnable} == {"R06", "K06"}
    assert all(m.killed_by for m in MUTANTS if m.is_runnable)


def test_the_list_and_the_mutations_are_one_to_one() -> None:
    assert {mutant.id for mutant in PATCHES} == set(patching.load())


def test_every_killer_exists_and_is_of_an_operation_of_its_mutant(
    loaded: vectors.Vectors,
) -> None:
    ops = {case.id: case.op for case in loaded.cases} | dict.fromkeys(checks.CHECKS, "check")
    for mutant in MUTANTS:
        for killer in mutant.killed_by:
            if mutant.family == mutant_list.HARNESS_FAMILY:
                assert killer in harness_checks.names(), mutant.id
            else:
                assert mutant.concerns(ops[killer]), f"{mutant.id}: {killer}"


def test_operations_are_those_of_the_protocol() -> None:
    known = [*LEVELS, "check"]
    for mutant in PATCHES:
        for glob in mutant.ops:
            assert any(Mutant("", "", "", (glob,)).concerns(op) for op in known), mutant.id


def test_whoever_the_fuzzer_cannot_find_says_why() -> None:
    for mutant in MUTANTS:
        assert not mutant.vectors_only or len(mutant.vectors_only.split()) > 3, mutant.id


def test_programs_can_be_started() -> None:
    programs = [mutant.program for mutant in MUTANTS if mutant.program]
    assert len(programs) == 3
    for program in programs:
        assert os.access(CONFORMANCE / "mutants" / program / "run", os.X_OK)


# --- mutations ------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", PATCHES, ids=lambda mutant: mutant.id)
def test_a_mutation_changes_something_and_can_be_taken_back(mutant: Mutant) -> None:
    before = states()
    patch = patching.apply("", subject.modules())
    unchanged = states()
    patch.undo()
    patch = patching.apply(mutant.id, subject.modules())
    changed = states()
    patch.undo()
    assert changed != unchanged
    assert states() == before


def states() -> dict[str, Any]:
    """Give every name of every module of the SDK, of its classes and of its tables."""
    found: dict[str, Any] = {}
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] != patching.SDK:
            continue
        for key, value in vars(module).items():
            found[f"{name}.{key}"] = id(value)
            if isinstance(value, type) and value.__module__ == name:
                found |= {f"{name}.{key}.{k}": id(v) for k, v in vars(value).items()}
            if isinstance(value, dict) and key in ("_REQUIRED", "_ALL"):
                found |= {f"{name}.{key}.{k}": id(v) for k, v in value.items()}
    return found


def test_a_mutant_speaks_the_protocol_and_answers_wrongly(loaded: vectors.Vectors) -> None:
    case = next(case for case in loaded.cases if case.id == BY_ID["R02"].killed_by[0])
    hello = b'{"cmd":"hello","protocol":1,"vectors":"1.0.0"}\n'
    program = [sys.executable, str(CONFORMANCE / "mutants" / "mutant.py"), "--as", "R02"]
    told = hello + case.request(case.id) + b'{"cmd":"bye"}\n'
    run = subprocess.run(program, input=told, capture_output=True, check=True, timeout=60)
    greeting, answer = map(json.loads, run.stdout.splitlines())
    assert greeting["testee"]["name"] == "mutant-r02"
    assert answer["seq"] == case.id
    assert answer["ok"] != case.expect


def test_no_mutant_has_an_unknown_name() -> None:
    program = [sys.executable, str(CONFORMANCE / "mutants" / "mutant.py"), "--as", "R99"]
    run = subprocess.run(program, capture_output=True, check=False, timeout=60)
    assert run.returncode == USAGE


@pytest.mark.parametrize("name", sorted(checks.CHECKS))
def test_the_sdk_as_it_is_passes_every_check(name: str) -> None:
    checks.CHECKS[name]()


# --- the command ----------------------------------------------------------------------------


def test_mutants_of_every_kind_are_caught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "killers.json"
    words = [word for id in ("R05", "R06", "B01", "I02", "Z01") for word in ("--only", id)]
    assert cli.main(["mutate", "--out", str(out), *words]) == OK, capsys.readouterr().out
    killers = json.loads(out.read_bytes())
    for id in ("R05", "B01", "I02", "Z01"):
        assert set(BY_ID[id].killed_by) <= set(killers[id])
    assert "R06" not in killers


def only(monkeypatch: pytest.MonkeyPatch, *mutants: Mutant) -> None:
    monkeypatch.setattr(mutant_list, "read", lambda: list(mutants))


def test_a_mutant_that_survives_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, Mutant("R01", "any", "R", ("checksum.crc32",), ("number/half-nano",)))
    assert cli.main(["mutate"]) == UNEXPECTED
    out = capsys.readouterr().out
    assert "R01 survives" in out
    assert "R01: number/half-nano does not kill it" in out


def test_a_killer_that_does_not_exist_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, Mutant("R01", "any", "R", ("canon.number",), ("number/gone",)))
    assert cli.main(["mutate"]) == UNEXPECTED
    assert "number/gone, which does not exist" in capsys.readouterr().out


def test_a_vector_that_kills_alone_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutate.judged([BY_ID["R05"]], {"R05": ["number/one"]}) == [
        f"R05: {killer} does not kill it" for killer in BY_ID["R05"].killed_by
    ]
    assert "only number/one: not removable" in capsys.readouterr().out


def test_a_claim_of_a_vector_that_is_false_fails_the_run(loaded: vectors.Vectors) -> None:
    found: dict[str, list[str]] = {"R05": []}
    problems = mutate.false_kills(loaded, found)
    assert "number/half-nano-predecessor claims to kill R05, and does not" in problems


def test_the_fuzzer_finds_mutants_and_nothing_in_the_sdk(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word for id in ("R01", "N04", "S03", "P01") for word in ("--only", id)]
    assert cli.main(["mutate", "--fuzz", "--cases", "600", *words]) == OK, capsys.readouterr().out


def test_a_mutant_that_the_fuzzer_misses_fails_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["mutate", "--fuzz", "--cases", "1", "--only", "W05"]) == UNEXPECTED
    assert "W05 is not found in 1 cases" in capsys.readouterr().out


def test_a_child_that_dies_is_caught_by_that_alone() -> None:
    from flk_conformance import mutant_runs

    def dies(mutant: Mutant) -> Found:
        os._exit(1)

    (found,) = mutant_runs.spread(dies, [BY_ID["R01"]], 1)
    assert found == Found("R01", (mutant_runs.DIED,))


@pytest.mark.parametrize("words", [["--only", "R99"], ["--jobs", "0"], ["--", "x"]])
def test_wrong_options_are_refused(words: list[str]) -> None:
    assert cli.main(["mutate", *words]) == USAGE


def test_generated_cases_name_their_grammar() -> None:
    assert {grammar.question(b"any", index).grammar for index in range(300)} == set(grammar.SHARES)
