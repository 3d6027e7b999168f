"""The command line: what it refuses, what it loads, and with which code it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flk_conformance import TOOL, cli
from mutants.harness import tiny

CONFORMANCE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "words",
    [
        [], ["dance"], ["run"], ["run", "--"], ["run", "--no-such-option", "--", "x"], ["smoke"],
        ["run", "--jobs", "0", "--", "x"], ["run", "--repeat", "0", "--", "x"],
        ["run", "--entry", "binary", "--", "x"], ["run", "--suite", "nothing", "--", "x"],
        ["run", "--only", "number/nothing", "--", "x"], ["run", "--vectors", "/nowhere", "--", "x"],
        ["run", "--xfail", "/nowhere", "--", "x"], ["run", "--update-expected", "--", "x"],
        ["report"], ["vectors"], ["vectors", "dance"],
    ],
)  # fmt: skip
def test_wrong_use_ends_with_2(words: list[str]) -> None:
    assert tiny.called(words)[0] == 2


def test_a_testee_that_is_not_there_ends_with_3() -> None:
    for command in (["run"], ["smoke"]):
        code, text = tiny.called([*command, "--", "/no/such/program"])
        assert (code, "cannot be started" in text) == (3, True)


def test_help_and_version_end_with_0() -> None:
    code, text = tiny.called(["--help"])
    assert code == 0
    assert all(f"  {name} " in text for name in cli.COMMANDS)
    assert tiny.called(["--version"]) == (0, f"{TOOL}\n")
    assert tiny.called(["run", "--help"])[0] == 0


def test_a_part_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "fuzz", ("no_such_module", ""))
    code, text = tiny.called(["fuzz"])
    assert (code, "is not part of this package" in text) == (2, True)
    monkeypatch.setitem(sys.modules, "flk_conformance.smoke", None)
    code, text = tiny.called(["smoke", "--", "x"])
    assert code == 2


def test_a_bug_of_the_harness_ends_with_4(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("flk_conformance.vectors.load", broken)
    code, text = tiny.called(["run", "--", "x"])
    assert (code, "the harness failed: a bug" in text) == (4, True)


def test_everything_after_the_first_dashes_is_the_testee(examined: Any) -> None:
    body = "assert sys.argv[1:] == ['--', '-x'], sys.argv\n"
    with_words = tiny.program
    try:
        tiny.program = lambda folder, text="": [*with_words(folder, text), "--", "-x"]
        assert examined(body)[0] == 0
    finally:
        tiny.program = with_words


def test_run_and_smoke_need_the_standard_library_alone(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import flk_conformance.run, flk_conformance.smoke, flk_conformance.scripted\n"
        "import flk_conformance.report, flk_conformance.vector_files\n"
        "from flk_conformance.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)"
        " - {'flk_conformance', '__main__', 'sitecustomize', 'usercustomize'}))\n"
        "sys.exit(code)\n"
    )
    root = tiny.vectors(tmp_path)
    words = ["run", "--vectors", str(root), "--", *tiny.program(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, *words],
        cwd=CONFORMANCE, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_leaves_is_no_fault(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "flk_conformance", "vectors", "cover"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=CONFORMANCE, stdout=pipe, stderr=pipe) as done:
        assert done.stdout
        done.stdout.close()
        assert done.stderr
        assert done.stderr.read() == b""
