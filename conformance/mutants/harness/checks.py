"""Checks of the harness: each gives it something wrong, and looks at what it says.

A check returns nothing, and raises AssertionError where the harness is fooled.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from . import tiny

Check = Callable[[Path], None]
CHECKS: Final[dict[str, Check]] = {}
"""Every check by name."""

OK, UNEXPECTED, BROKEN = 0, 1, 4
LIST_LINE = "tiny/c0  a reason  https://issue.example/1\n"

ONE_WRONG = """
def run(m):
    a = good(m)
    if m["seq"] == "tiny/c3": a["ok"]["text"] += "!"
    say(a)
"""
ENDS_ON_REFUSAL = """
def run(m):
    if "code" in m["args"]: os._exit(1)
    say(good(m))
"""
SKIPS = """
def run(m):
    a = good(m)
    if m["seq"] == "tiny/c2": a = {"seq": m["seq"], "skip": {"reason": "not yet"}}
    say(a)
"""
DROPS = """
def run(m):
    if m["seq"] != "tiny/c4": say(good(m))
"""
RENAMES = """
def run(m):
    a = good(m)
    a["seq"] = a["seq"].replace("c1", "c9")
    say(a)
"""
ACCEPTS = """
def run(m):
    if "code" in m["args"]: m["args"]["text"] = m["args"].pop("code")
    say(good(m))
"""
OTHER_CODE = """
def run(m):
    if "code" in m["args"]: m["args"]["code"] = "epoch_invalid"
    say(good(m))
"""


def check(function: Check) -> Check:
    """Register a check under its name."""
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def expect(code: int, word: str, seen: tuple[int, str]) -> None:
    """Compare the exit code, and look for a word in what was printed."""
    got, text = seen
    assert got == code, f"expected the exit code {code}, got {got}:\n{text}"
    assert word in text, f"expected {word!r} in:\n{text}"


@check
def a_right_testee_passes(folder: Path) -> None:
    expect(OK, "8 pass", tiny.examined(folder))


@check
def a_wrong_answer_fails(folder: Path) -> None:
    expect(UNEXPECTED, "7 pass, 1 fail", tiny.examined(folder, ONE_WRONG))


@check
def a_refusal_that_does_not_come_fails(folder: Path) -> None:
    expect(UNEXPECTED, "6 pass, 2 fail", tiny.examined(folder, ACCEPTS))


@check
def another_code_fails(folder: Path) -> None:
    expect(UNEXPECTED, "6 pass, 2 fail", tiny.examined(folder, OTHER_CODE))


@check
def a_crash_is_no_error_of_the_sdk(folder: Path) -> None:
    expect(UNEXPECTED, "6 pass, 2 crash", tiny.examined(folder, ENDS_ON_REFUSAL))


@check
def a_skip_of_a_required_operation_fails(folder: Path) -> None:
    expect(UNEXPECTED, "7 pass, 1 skip", tiny.examined(folder, SKIPS))


@check
def a_missing_answer_fails(folder: Path) -> None:
    expect(UNEXPECTED, "7 pass, 1 timeout", tiny.examined(folder, DROPS))


@check
def an_answer_under_another_name_fails(folder: Path) -> None:
    expect(UNEXPECTED, "7 pass, 1 err-protocol", tiny.examined(folder, RENAMES))


@check
def a_listed_case_that_passes_fails(folder: Path) -> None:
    path = folder / "tiny.xfail"
    path.write_text(LIST_LINE, encoding="utf-8")
    expect(UNEXPECTED, "7 pass, 1 xpass", tiny.examined(folder, "", "--xfail", str(path)))


@check
def a_line_that_matches_no_case_fails(folder: Path) -> None:
    path = folder / "tiny.xfail"
    path.write_text(LIST_LINE.replace("c0", "gone"), encoding="utf-8")
    expect(UNEXPECTED, "matches no case", tiny.examined(folder, "", "--xfail", str(path)))


@check
def vectors_that_were_changed_are_refused(folder: Path) -> None:
    root = tiny.vectors(folder)
    path = root / "vectors" / "tiny" / "tiny.json"
    path.write_text(path.read_text().replace('"c0"', '"d0"'), encoding="utf-8")
    words = ["run", "--vectors", str(root), "--", *tiny.program(folder)]
    expect(BROKEN, "SHA-256", tiny.called(words))
