"""The testees of this repository conform; those that are not there, or cannot run, are skipped."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flk_conformance import testee
from flk_conformance.vectors import LEVELS
from mutants.harness import tiny

TESTEES = Path(__file__).resolve().parents[1] / "testees"


@pytest.fixture(autouse=True)
def this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", sys.executable)


def test_the_python_testee_conforms() -> None:
    code, text = tiny.called(["run", "--", str(TESTEES / "python" / "run")])
    assert code == 0, text


def test_the_python_testee_gives_the_same_in_lock_step_and_repeated() -> None:
    """tp.23."""
    words = ["run", "--suite", "number", "--suite", "retry", "--lock-step", "--repeat", "2"]
    code, text = tiny.called([*words, "--", str(TESTEES / "python" / "run")])
    assert code == 0, text


def test_the_python_testee_knows_every_operation_of_a_testee() -> None:
    asked = testee.Testee([str(TESTEES / "python" / "run")])
    greeting = asked.start("1.0.0")
    assert asked.bye() is None
    assert greeting.policies.ops == {op for op, level in LEVELS.items() if level != "server"}
    assert greeting.policies.levels == set(LEVELS.values()) - {"server"}


def test_the_python_testee_is_looked_at_closely() -> None:
    code, text = tiny.called(["smoke", "--", str(TESTEES / "python" / "run")])
    assert code == 0, text


def test_the_python_testee_ends_with_3_without_a_common_protocol() -> None:
    """tp.11."""
    import subprocess

    hello = json.dumps({"cmd": "hello", "protocol": 0, "vectors": "1.0.0"}) + "\n"
    done = subprocess.run(
        [str(TESTEES / "python" / "run")], input=hello, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
