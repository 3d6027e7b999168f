"""Reports: they can be read by their tools, say the same, and are there when a run breaks off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from flk_conformance import judge, report, report_html
from flk_conformance.results import ResultsError, Run, Writer, cut, read
from flk_conformance.session import Session
from mutants.harness import tiny

CONFORMANCE = Path(__file__).resolve().parents[1]
MIXED = """
def run(m):
    a = good(m)
    if m["seq"] == "tiny/c0": a["ok"]["text"] = "<&\\x00\\ud800\\u20ac]]>`|"
    if m["seq"] == "tiny/c1": os._exit(2)
    if m["seq"] == "tiny/c2": a = {"seq": m["seq"], "skip": {"reason": "not | yet"}}
    if m["seq"] == "tiny/c3": a["ok"] = {"text": 3}
    say(a)
"""


@pytest.fixture
def out(examined: Any, tmp_path: Path) -> Path:
    """Give the folder of a run with something of everything."""
    listed = tmp_path / "tiny.xfail"
    listed.write_text("tiny/c3  a number  https://issue.example/3\n", encoding="utf-8")
    code, _ = examined(MIXED, "--out", str(tmp_path / "out"), "--xfail", str(listed))
    assert code == 1
    return tmp_path / "out"


def suites_of(path: Path) -> dict[str, Any]:
    return {each.attrib["name"]: each for each in ET.parse(path).getroot()}


def test_results_are_lines_from_header_to_footer(out: Path) -> None:
    lines = [json.loads(line) for line in (out / "results.ndjson").read_text().splitlines()]
    header, *results, footer = lines
    assert {name: header[name] for name in ("type", "kind", "subject", "vectors", "protocol")} == {
        "type": "header", "kind": "testee", "subject": "tiny", "vectors": "1.0.0", "protocol": 1,
    }  # fmt: skip
    assert len(header["suite_hash"]) == len(header["xfail_sha256"]) == 64
    assert header["command"][:2] == ["flk-conformance", "run"]
    assert {each["id"]: each["status"] for each in results} == {
        "tiny/c0": "fail", "tiny/c1": "crash", "tiny/c2": "skip", "tiny/c3": "xfail",
        "tiny/c4": "pass", "tiny/c5": "pass", "tiny/r0": "pass", "tiny/r1": "pass",
    }  # fmt: skip
    assert footer["totals"] == {"pass": 4, "fail": 1, "crash": 1, "skip": 1, "xfail": 1}
    assert (footer["unexpected"], footer["exit"], footer["complete"]) == (3, 1, True)


def test_junit_can_be_read_and_counts(out: Path) -> None:
    (suite,) = suites_of(out / "junit.xml").values()
    assert suite.attrib == {
        "name": "tiny.tiny", "tests": "8", "failures": "2", "errors": "1", "skipped": "1",
    }  # fmt: skip
    cases = {each.attrib["name"]: each for each in suite}
    assert cases["tiny/c0"][0].tag == "failure"
    assert "flk-conformance run" in (cases["tiny/c0"][0].text or "")
    assert (cases["tiny/c1"][0].tag, cases["tiny/c2"][0].tag) == ("error", "failure")
    assert (cases["tiny/c3"][0].tag, len(cases["tiny/c4"])) == ("skipped", 0)


def test_markdown_has_what_is_unexpected_first(out: Path) -> None:
    text = (out / "results.ndjson").with_suffix(".md").read_text(encoding="utf-8")
    order = ["### Unexpected", "### Known failures", "### Totals"]
    assert [part for part in text.split("\n") if part.startswith("### ")] == order
    assert "| `tiny/c1` | crash |" in text
    assert "| core | 4 | 1 | 1 | 1 | 1 |" in text
    assert "flk-conformance run --vectors" in text


class Page(HTMLParser):
    """Check that tags close, and collect links and anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag != "meta":
            self.open.append(tag)
        self.anchors.add(given.get("id") or "")
        if tag == "a":
            self.links.add((given["href"] or "").removeprefix("#"))
        assert not {"src", "srcset"} & set(given)
        assert tag not in {"script", "link", "img", "iframe"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_one_file_whose_cells_open_their_cases(out: Path) -> None:
    page = Page()
    text = (out / "results.html").read_text(encoding="utf-8")
    page.feed(text)
    assert page.open == []
    assert page.links
    assert page.links <= page.anchors
    assert "tiny/c1: crash" in text
    assert "<\\u0026" not in text
    assert "url(" not in text
    assert "http" not in text.replace("https://issue.example/3", "")


def run_of(subject: str, *statuses: str) -> Run:
    results = {
        f"a/{n}": {"id": f"a/{n}", "status": status, "suite": "a/b", "op": "verify", "level": "core",
                   "flags": [], **({"unexpected": True} if status == "fail" else {})}
        for n, status in enumerate(statuses)
    }  # fmt: skip
    header = {"tool": "x", "subject": subject}
    return Run(header, results, {"complete": True})


def test_the_matrix_has_testees_by_suite_and_sdks_by_server() -> None:
    runs = [
        run_of("sdk-go", "pass", "pass"), run_of("sdk-ts", "pass", "fail"),
        run_of("sdk-go x reference-server", "pass"), run_of("sdk-ts x other", "skip"),
    ]  # fmt: skip
    text = report_html.page(runs)
    for word in ("2/2", "1/2", "SDKs and servers", "<th>other</th>", "<th>reference-server</th>"):
        assert word in text
    assert text.count('class="bad"') == 1
    assert text.count('class="none"') == 2
    assert "testsuite" in report.junit(runs)


def test_the_command_joins_runs(out: Path, tmp_path: Path) -> None:
    results = str(out / "results.ndjson")
    files = [str(tmp_path / name) for name in ("junit.xml", "summary", "matrix.html")]
    options = ["--junit", files[0], "--markdown", files[1], "--html", files[2]]
    assert tiny.called(["report", results, results, *options])[0] == 0
    assert len(list(ET.parse(files[0]).getroot())) == 2
    code, text = tiny.called(["report", results])
    assert (code, text.startswith("## tiny")) == (0, True)
    assert tiny.called(["report", str(tmp_path / "nothing")])[0] == 2


# --- runs that break off ---------------------------------------------------------------------


def test_a_harness_that_fails_leaves_a_report(
    examined: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug of the harness")

    monkeypatch.setattr(judge, "judge_error", broken)
    code, text = examined("", "--out", str(tmp_path / "out"), "--lock-step")
    assert (code, "a bug of the harness" in text) == (4, True)
    found = suites_of(tmp_path / "out" / "junit.xml")
    assert found["tiny.harness"][0][0].tag == "error"
    assert len(found["tiny.tiny"]) == 6
    assert "broke off" in (tmp_path / "out" / "results.ndjson").with_suffix(".md").read_text()
    assert not read(tmp_path / "out" / "results.ndjson").is_complete


@pytest.mark.parametrize("options", [[], ["--jobs", "2"]], ids=["alone", "with a thread"])
def test_a_case_that_the_harness_loses_is_no_pass(
    examined: Any, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    send = Session._send
    monkeypatch.setattr(
        Session, "_send", lambda self, waiting, *more: (waiting.pop(), send(self, waiting, *more))
    )
    code, text = examined("", *options)
    assert (code, "cases got no verdict" in text) == (4, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_its_report(tmp_path: Path, number: signal.Signals) -> None:
    stays = "if m['seq'] == 'tiny/c5': open(__file__ + '.here', 'w'); time.sleep(60)"
    body = f"def run(m):\n    {stays}\n    say(good(m))\n"
    testee = tiny.program(tmp_path, body)
    words = [
        "-m",
        "flk_conformance",
        "run",
        "--vectors",
        str(tiny.vectors(tmp_path)),
        "--lock-step",
    ]
    process = subprocess.Popen(
        [sys.executable, *words, "--out", str(tmp_path / "out"), "--", *testee],
        cwd=CONFORMANCE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    here = Path(f"{testee[-1]}.here")
    while not here.exists():
        time.sleep(0.01)
    process.send_signal(number)
    printed, _ = process.communicate()
    assert process.returncode == 128 + number
    assert f"ended by {number.name}" in printed
    broken = suites_of(tmp_path / "out" / "junit.xml")["tiny.harness"][0][0]
    assert number.name in broken.attrib["message"]
    assert read(tmp_path / "out" / "results.ndjson").totals()["pass"] == 5
    with pytest.raises(ProcessLookupError):
        os.kill(testee_pid(testee), 0)


def testee_pid(testee: list[str]) -> int:
    """Find the process of a testee, or raise as if it were asked for."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if testee[-1].encode() in path.read_bytes():
                return int(path.parent.name)
        except OSError:
            continue
    raise ProcessLookupError


testee_pid.__test__ = False  # type: ignore[attr-defined] # its name begins like a test's


def test_a_file_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "results.ndjson"
    writer = Writer(path, {"subject": "x"})
    facts = {"suite": "a/b", "op": "verify", "level": "core", "flags": []}
    writer.result({"id": "a/1", "status": "fail", "unexpected": True, **facts})
    writer.result({"id": "a/1", "status": "crash", "unexpected": True, **facts}, replaces="fail")
    writer.close(1, 0.5, error="why")
    assert writer.unexpected == 1
    run = read(path)
    assert (run.totals(), run.footer["error"]) == ({"crash": 1}, "why")
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index('{"type":"footer"') + 9], encoding="utf-8")
    assert read(path).results.keys() == {"a/1"}
    assert "broke off" in report.markdown([read(path)])
    for bad in ("", "no json\n{}\n", '{"type":"result"}\n'):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(ResultsError):
            read(path)


def test_long_values_are_cut(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "results.ndjson", {})
    actual = {"x": ["y" * 100_000], "z": "\ud800"}
    writer.result(cut({"id": "a/1", "status": "fail", "suite": "a/b", "actual": actual}))
    writer.close(1, 0)
    assert (tmp_path / "results.ndjson").stat().st_size < 10_000
    assert read(tmp_path / "results.ndjson").results["a/1"]["actual"]["z"] == "\\ud800"
