"""The demo from end to end, in its quick form: what it promises, what it writes, how it fails."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from demo.account import Account, ExpectationError
from demo.charts import latency_chart, months_chart, progress_chart
from demo.load import kill_marks, read_back
from demo.page import render

RUN = Path(__file__).resolve().parents[1] / "run.py"
WINDOWS = 240
TIMEOUT_S = 240

ADDRESS = re.compile(r"(?:[a-z]+:)?//|@import|url\(", re.IGNORECASE)


def run_demo(out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN), "--out", str(out), *options],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    done = run_demo(out, "--windows", str(WINDOWS), "--kills", "1", "--simulations", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout


@pytest.fixture(scope="module")
def figures(quick: tuple[Path, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((quick[0] / "results.json").read_text())
    return found


@pytest.fixture(scope="module")
def page(quick: tuple[Path, str]) -> str:
    return (quick[0] / "index.html").read_text(encoding="utf-8")


def test_verdicts_are_those_of_honest_records_and_of_one_false_claim(
    figures: dict[str, Any],
) -> None:
    assert figures["outcomes"] == {
        "accepted": 49, "not accepted, escalated: d_hat_out_of_tolerance": 1
    }  # fmt: skip
    assert [month["month"] for month in figures["months"]][::47] == ["2012-01", "2015-12"]
    assert figures["days"] == 1461


def test_duplicate_forgery_and_contradiction_get_their_answers(figures: dict[str, Any]) -> None:
    assert figures["duplicate"]["same"]
    assert figures["duplicate"]["replayed"]
    assert figures["altered"] == {"status": 401, "code": "signature_invalid"}
    assert figures["conflict"] == {
        "status": 409, "code": "pcs_id_conflict", "first_outcome_intact": True
    }  # fmt: skip


def test_a_kill_meets_records_in_flight_and_loses_none(figures: dict[str, Any]) -> None:
    load = figures["load"]
    (kill,) = load["kills"]
    assert 0 < kill["acknowledged"] < WINDOWS
    assert kill["in_flight"] > 0
    assert (load["acknowledged"], load["checked"], load["same"]) == (WINDOWS, 338, 338)
    assert load["lost"] == 0
    assert load["bound_95"] == pytest.approx(3 / 338)
    assert len(load["answered_at_s"]) == WINDOWS


def test_three_sdks_share_records_as_duplicates(figures: dict[str, Any]) -> None:
    counts = {"first": 16, "duplicates": 16}
    assert figures["languages"] == dict.fromkeys(("Python", "Go", "TypeScript"), counts)


def test_log_is_clean_and_holds_each_record_once(figures: dict[str, Any]) -> None:
    assert figures["fsck"]["faults"] == []
    assert figures["fsck"]["frames"] == 338
    assert figures["frame"]["seq"] == 1


def test_a_failover_is_simulated_and_lived_through_and_loses_nothing(
    figures: dict[str, Any], quick: tuple[Path, str]
) -> None:
    failover = figures["failover"]
    assert {name: found["runs"] for name, found in failover.items()} == {
        "plan": 20, "exact": 2, "live": 1
    }  # fmt: skip
    for found in failover.values():
        assert found["accounts"]["acked"] > 0
        assert found["accounts"]["lost"] == 0
        assert all(value > 0 for value in found["rto_s"])
    assert "real processes" in quick[1]


def test_account_ends_with_page_and_total(quick: tuple[Path, str]) -> None:
    out, said = quick
    last = said.strip().splitlines()[-3:]
    assert last[0] == f"Page: {out / 'index.html'}"
    assert re.fullmatch(r"Total: \d+\.\d s", last[2])
    assert "0 of 338 lost: below 0.89 % with 95 % confidence" in said
    assert max(len(line) for line in said.splitlines() if "/" not in line) <= 100


def test_no_secret_is_told(quick: tuple[Path, str], page: str) -> None:
    out, said = quick
    key = json.loads((out / "home" / "demo.json").read_text())["key"]
    token = (out / "home" / "token").read_text().strip()
    told = said + page + (out / "results.json").read_text()
    assert key not in told
    assert token not in told


class Links(HTMLParser):
    """Collect what a page could fetch or run, and how deep its tags still are."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "data", "action", "poster"}:
                self.fetched.append(value or "")
            if name == "id":
                self.ids.add(value or "")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "style":
            self.texts.append(data)


def test_page_names_nothing_outside_itself(page: str) -> None:
    links = Links()
    links.feed(page)
    anchors = {link[1:] for link in links.fetched if link.startswith("#")}
    assert anchors <= links.ids
    assert {link for link in links.fetched if not link.startswith("#")} == {"data:,"}
    assert not {"script", "img", "iframe", "object", "base", "form"} & set(links.tags)
    assert not any(ADDRESS.search(text) for text in links.texts)
    assert "default-src 'none'" in page


def test_page_has_every_step_both_colour_schemes_and_a_form_for_paper(page: str) -> None:
    assert [int(n) for n in re.findall(r"<h2>(\d+)\. ", page)] == list(range(1, 11))
    assert page.count("<svg ") == 4
    kill = page.index("kill -9 under load")
    assert kill < page.index("Records acknowledged over time") < page.index("<h2>9. ")
    dark = re.search(r"prefers-color-scheme: dark\) \{(.*?)\n\}", page, re.DOTALL)
    paper = re.search(r"@media print \{(.*?)\n\}", page, re.DOTALL)
    light = re.search(r":root \{(.*?)\}", page, re.DOTALL)
    assert light
    assert dark
    assert paper
    variables = set(re.findall(r"--\w+(?=:)", light[1]))
    assert variables == set(re.findall(r"--\w+(?=:)", dark[1]))
    assert variables == set(re.findall(r"--\w+(?=:)", paper[1]))
    assert variables == set(re.findall(r"var\((--\w+)\)", page))
    assert "break-inside: avoid" in paper[1]


def test_page_shows_the_first_outcome_and_the_command(page: str, figures: dict[str, Any]) -> None:
    assert figures["first_outcome"]["pcs_id"] in page
    assert f"python demo/run.py --windows {WINDOWS} --kills 1 --simulations 20" in page


def test_text_of_the_account_cannot_become_markup(figures: dict[str, Any]) -> None:
    account = Account(figures=figures)
    account.step("<b>")
    account.say("<script>", "`<i>`")
    page = render(account)
    assert "<script>" not in page
    assert "&lt;script&gt; <code>&lt;i&gt;</code>" in page


def test_a_run_whose_load_never_meets_a_kill_fails_and_names_the_step(tmp_path: Path) -> None:
    done = run_demo(tmp_path / "out", "--windows", "0")
    assert done.returncode == 1
    assert "demo failed: 8. kill -9 under load: this did not hold: " in done.stderr
    assert not (tmp_path / "out" / "index.html").exists()


def test_a_promise_that_does_not_hold_ends_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    account = Account()
    account.step("Arithmetic")
    account.expect("one is one", holds=True)
    with pytest.raises(ExpectationError, match=r"1\. Arithmetic: .* one is two") as caught:
        account.expect("one is two", holds=False)
    assert caught.value.step == "1. Arithmetic"
    assert account.promises_kept == 1
    assert "1. Arithmetic" in capsys.readouterr().out


class TestReadBack:
    def test_tells_missing_from_changed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stored = {"a": (200, b"1"), "b": (202, b"2"), "c": (404, b""), "d": (200, b"other")}

        class Reader:
            def __init__(self, port: int, token: str) -> None: ...
            def read(self, pcs_id: str) -> tuple[int, bytes]:
                return stored[pcs_id]

            def close(self) -> None: ...

        monkeypatch.setattr("demo.load.Reader", Reader)
        back = read_back(1, "t", {"a": b"1", "b": b"2", "c": b"3", "d": b"4"})
        assert (back.same, back.missing, back.changed) == (2, ("c",), ("d",))


@pytest.mark.parametrize(("records", "kills"), [(1432, 3), (240, 1), (40, 8)])
def test_kills_fall_inside_the_load_in_order(records: int, kills: int) -> None:
    for seed in range(50):
        marks = kill_marks(records, kills, random.Random(seed))
        assert marks == sorted(marks)
        assert len(marks) == kills
        assert 0 < marks[0]
        assert marks[-1] < records


def test_charts_draw_every_value_inside_the_frame() -> None:
    chart = months_chart([0.7, 0.9, 1.1], ["2012-01", "2012-02", "2013-01"])
    assert chart.count("<circle") == 3
    assert chart.count(">2012<") == chart.count(">2013<") == 1
    for drawn in (chart, progress_chart([0.1, 0.5, 2.0], [(0.6, 1.1)]), latency_chart([1, 2, 40])):
        places = [float(n) for n in re.findall(r'(?:x|cx|cy|y)="(-?[\d.]+)"', drawn)]
        assert all(0 <= place <= 480 for place in places)
        assert "nan" not in drawn
