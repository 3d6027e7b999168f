"""Lists of expected failures are strict both ways; flaky cases decide nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flk_conformance import xfail
from flk_conformance.judge import PASSED, Verdict

URL = "https://issue.example/1"
WRONG = "def run(m):\n    a = good(m)\n    if m['seq'] in %r: a['ok']['text'] = 'zz'\n    say(a)\n"
ENTRY = xfail.Entry("a/*", "known", URL)


def listing(folder: Path, *lines: str) -> str:
    path = folder / "tiny.xfail"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("pattern", "id", "matches"),
    [
        ("a/b", "a/b", True), ("a/b", "a/b-c", False), ("a/*", "a/b-c", True), ("a/*", "a/b/c", False),
        ("a/**", "a/b/c", True), ("**", "a/b/c", True), ("**/c", "a/b/c", True), ("a/b-*", "a/b-1.5", True),
        ("a/b.c", "a/bxc", False), ("*", "a/b", False), ("*/b", "a/b", True), ("a/**/d", "a/d", False),
    ],
)  # fmt: skip
def test_patterns_match_whole_components(pattern: str, id: str, matches: bool) -> None:
    assert xfail.Entry(pattern, "", "").matches(id) is matches


def test_settling_is_strict_both_ways() -> None:
    """tp.46, tp.47."""
    for status in ("fail", "crash", "timeout", "err-protocol"):
        settled = xfail.settle(Verdict(status), ENTRY)
        assert (settled.status, xfail.is_unexpected(settled)) == ("xfail", False)
        assert xfail.is_unexpected(xfail.settle(Verdict(status), None))
    passing = xfail.settle(PASSED, ENTRY)
    assert (passing.status, xfail.is_unexpected(passing)) == ("xpass", True)
    assert xfail.settle(Verdict("skip", required=True), ENTRY).status == "xfail"
    assert xfail.settle(Verdict("skip"), ENTRY).status == "skip"
    assert not xfail.is_unexpected(Verdict("skip"))
    assert xfail.is_unexpected(Verdict("skip", required=True))


def test_listed_failures_are_expected(examined: Any, tmp_path: Path) -> None:
    path = listing(tmp_path, "# why", "tiny/c[0-9]  no such pattern  " + URL)
    assert examined(WRONG % ["tiny/c1"], "--xfail", path)[0] == 1
    path = listing(tmp_path, "# why", "", f"tiny/c1  a known one  {URL}")
    code, text = examined(WRONG % ["tiny/c1"], "--xfail", path)
    assert (code, "7 pass, 1 xfail" in text) == (0, True)


def test_a_case_of_a_pattern_that_passes_is_unexpected(examined: Any, tmp_path: Path) -> None:
    path = listing(tmp_path, f"tiny/c*  some  {URL}")
    code, text = examined(WRONG % ["tiny/c1", "tiny/c2"], "--xfail", path)
    assert (code, "2 pass, 2 xfail, 4 xpass" in text) == (1, True)


def test_a_pattern_counts_against_all_cases_not_the_selected(examined: Any, tmp_path: Path) -> None:
    """Otherwise `--only` would make every other line stale."""
    path = listing(tmp_path, f"tiny/c1  some  {URL}")
    assert examined("", "--xfail", path, "--only", "tiny/c2")[0] == 0


@pytest.mark.parametrize("line", ["tiny/c1", "tiny/c1 reason", "tiny/c1 no url here", f"x {URL}"])
def test_a_line_without_reason_and_url_is_refused(examined: Any, tmp_path: Path, line: str) -> None:
    code, text = examined("", "--xfail", listing(tmp_path, line))
    assert (code, "tiny.xfail:1" in text) == (2, True)


def test_a_flaky_case_is_run_three_times_and_decides_nothing(examined: Any, tmp_path: Path) -> None:
    """tp.46."""
    body = WRONG % ["tiny/c1#2"]
    path = tmp_path / "tiny.flaky"
    path.write_text(f"tiny/c1  a race  {URL}\n", encoding="utf-8")
    out = tmp_path / "out"
    code, text = examined(body, "--flaky", str(path), "--out", str(out))
    assert (code, "7 pass, 1 flaky" in text) == (0, True)
    assert "2 of 3 passed" in (out / "results.ndjson").with_suffix(".md").read_text(
        encoding="utf-8"
    )
    path.write_text(f"tiny/gone  a race  {URL}\n", encoding="utf-8")
    assert examined("", "--flaky", str(path))[0] == 1


def test_the_list_can_be_written_anew(examined: Any, tmp_path: Path) -> None:
    path = listing(tmp_path, "# kept", f"tiny/c1  why  {URL}", f"tiny/c2  fixed  {URL}")
    body = WRONG % ["tiny/c1", "tiny/c3"]
    code, text = examined(body, "--xfail", path, "--update-expected")
    assert code == 0
    assert f"-tiny/c2  fixed  {URL}" in text
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    assert lines == ["# kept", f"tiny/c1  why  {URL}", f"tiny/c3  {xfail.UNEXPLAINED}", ""]
    assert examined(body, "--xfail", path)[0] == 0


def test_lines_about_cases_that_were_not_asked_stay() -> None:
    text = f"tiny/c1  why  {URL}\ntiny/c2  why  {URL}\n"
    assert xfail.rewritten(text, failing=[], asked=["tiny/c2"]) == f"tiny/c1  why  {URL}\n"
