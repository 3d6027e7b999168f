"""Cells of the interop matrix: how answers are compared, and one SDK through the proxy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from flk_conformance import interop
from flk_conformance.interop import Subject, compare
from flk_conformance.interop_cells import CELLS, MASKED, masked, subset
from flk_conformance.places import PACKAGE
from flk_conformance.results import read
from flk_conformance.testee import Testee as Program  # pytest takes a name with Test for a test

PYTHON = PACKAGE.parent / "testees" / "python" / "run"


@pytest.mark.parametrize(
    ("expected", "actual", "places"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, []),
        ({"a": {"b": "1"}}, {"a": {"b": "2"}}, ["/a/b"]),
        ({"a": {"b": "1"}}, {"a": "1"}, ["/a"]),
        ({"a": "1"}, {}, ["/a"]),
        ({"a": [{"b": "1"}]}, {"a": [{"b": "1", "c": "2"}]}, []),
        ({"a": [{"b": "1"}]}, {"a": []}, ["/a"]),
        ({}, None, ["/"]),
    ],
)
def test_answer_may_say_more_than_is_expected(
    expected: Any, actual: Any, places: list[str]
) -> None:
    assert [text.partition(":")[0] for text in subset(expected, actual)] == places


def test_mask_keeps_that_there_is_something() -> None:
    answer = {"calls": [{"ok": {"hlc": "1", "r": "2"}}, {"err": {"code": "c"}}]}
    assert masked(answer, frozenset({"hlc", "absent"})) == {
        "calls": [{"ok": {"hlc": MASKED, "r": "2"}}, {"err": {"code": "c"}}]
    }


def subject(name: str, **answers: Any) -> Subject:
    return Subject(Program(["true"]), name, {}, answers, {cell: [] for cell in answers})


def test_sdk_that_says_something_else_is_named() -> None:
    one, two = subject("sdk-a", cell={"x": "1"}), subject("sdk-b", cell={"x": "2"})
    compare([one, two])
    assert two.problems["cell"] == ['sdk-b says {"x": "2"}, sdk-a {"x": "1"}']
    assert one.problems["cell"] == []


def test_sdk_that_leaves_a_member_out_is_named() -> None:
    one, two = subject("sdk-a", cell={"x": "1", "y": "2"}), subject("sdk-b", cell={"x": "1"})
    compare([one, two])
    assert two.problems["cell"]


def test_cells_are_named_once_and_cover_the_statuses() -> None:
    names = [cell.name for cell in CELLS]
    assert len(set(names)) == len(names)
    for status in ("200", "202", "401", "409", "429", "503"):
        assert any(name.startswith(status) for name in names)


def through(tmp_path: Path, *options: str) -> int:
    parser = interop.argparse.ArgumentParser()
    interop.add_arguments(parser)
    words = ["--out", str(tmp_path), "--no-suite", *options]
    return interop.execute(parser.parse_args(words))


def test_python_sdk_goes_through_the_proxy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON", sys.executable)
    cells = ["200-again", "202-new", "409-conflict", "lost-reply", "503-once"]
    options = [f"--only={name}" for name in cells]
    assert through(tmp_path, "--testee", str(PYTHON), *options) == 0, capsys.readouterr().out
    run = read(tmp_path / "sdk-python" / "results.ndjson")
    assert run.header["kind"] == "interop"
    assert run.totals() == {"pass": len(cells)}


def test_sample_that_fails_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert through(tmp_path, "--sample", "false") == 1
    assert "false: exit status 1" in capsys.readouterr().out


def test_testee_that_does_not_start(tmp_path: Path) -> None:
    assert through(tmp_path, "--testee", "false") == 3
