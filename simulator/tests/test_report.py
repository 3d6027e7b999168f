"""The report: what stands in it, in which order, escaped, reachable, and the same each time."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_outcomes import extras, outcome, outcomes, scenario

from fractal_lba_sim import results
from fractal_lba_sim.report import drawings
from fractal_lba_sim.report.charts import COLOURS, time_step
from fractal_lba_sim.report.drawings import bars
from fractal_lba_sim.report.html import Markup, element, safe
from fractal_lba_sim.report.numbers import estimate, figure, interval, signed
from fractal_lba_sim.report.page import render
from fractal_lba_sim.report.style import STYLE
from fractal_lba_sim.report.terminal import summary

THIN = "\u202f"
HOSTILE = '<script>alert("1")</script><img src=x onerror=y> $\\alpha$ [bold]&amp;'


def assembled(many: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "engine": "plan", "seed": 1, "runs": len(many), "command": "flk-sim run two-regions",
        "complete": True, "extras": extras(),
    }  # fmt: skip
    planned = changes.pop("scenario", scenario())
    return results.assemble(planned, many, **(options | changes))


@pytest.fixture(scope="module")
def page() -> str:
    return render(assembled(outcomes(120)))


class Outline(HTMLParser):
    """Reads headings, ids, references and open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.used: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.used += re.findall(r"#([\w-]+)", named.get("href") or named.get("clip-path") or "")
        self.used += (named.get("aria-labelledby") or "").split()
        if tag == "svg":
            self.images.append(named)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    assert not found.open
    return found


def test_what_was_done_stands_before_what_follows_from_it(page: str) -> None:
    order = [
        "scope", "verdicts", "limits", "timeline", "rto", "rpo", "availability", "remedies",
        "cost", "sensitivity", "records", "evidence", "words", "reproduce", "scenario",
    ]  # fmt: skip
    assert re.findall(r'<section id="([a-z]+)"', page) == order


def test_page_asks_for_nothing_and_runs_nothing(page: str) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r"<script|<iframe|<object|@import|\son\w+=", page)
    addresses = set(re.findall(r"(?:src|href)=\"([^\"]*)", page))
    assert {a for a in addresses if not a.startswith("#")} == {"data:,"}
    assert "url(http" not in page


def test_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    found = outline(page)
    assert len(found.ids) == len(set(found.ids))
    assert set(found.used) <= set(found.ids)
    assert found.tags.count("h1") == 1


def test_charts_and_tables_say_in_words_what_they_show(page: str) -> None:
    found = outline(page)
    assert len(found.images) == 2 * 7  # wide and narrow
    assert all(
        image["role"] == "img" and len(image["aria-label"] or "") > 20 for image in found.images
    )
    assert found.tags.count("table") == found.tags.count("caption")
    assert '<th scope="row">' in page


def test_charts_have_the_colours_of_the_page_and_no_others(page: str) -> None:
    charts = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert not [value for value in COLOURS.values() if value in charts]
    assert set(re.findall(r"var\(--([a-z]+)\)", charts)) <= set(COLOURS)
    assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", charts)


def test_report_is_the_same_each_time_and_carries_no_date(page: str) -> None:
    assert render(assembled(outcomes(120))) == page
    assert "<metadata>" not in page
    assert not re.search(r"matplotlib\.org|20\d\d-\d\d-\d\d", page)


def test_everything_that_others_wrote_is_escaped() -> None:
    one = outcome(1)
    one["verdicts"][3] |= {"said": HOSTILE, "state": "fails"}
    one["incidents"][0] |= {"id": HOSTILE, "kind": HOSTILE, "effects": {HOSTILE: 3}}
    one["incidents"][0]["clients"] = {HOSTILE: 4.0}
    one["not_judged"] = {HOSTILE: HOSTILE}
    one["accounts"] = {HOSTILE: one["accounts"]["euw"]}
    one["calls"] = {HOSTILE: {"count": 3, "good": 1}}
    bad = outcome(2, valid=False)
    bad["verdicts"][1] |= {"state": "fails", "said": HOSTILE}
    changes = extras()
    changes["remediations"][0] |= {"change": HOSTILE, "metric": HOSTILE, "unit": HOSTILE}
    changes["tornado"][0] |= {"name": HOSTILE}
    changes["sweep"]["points"][0] |= {"label": HOSTILE}
    changes["smallest"][0] |= {"said": HOSTILE}
    changes["cost"] |= {"currency": HOSTILE, "assumptions": [HOSTILE]}
    planned = scenario(title=HOSTILE, question=HOSTILE)
    text = render(assembled([one, bad], scenario=planned, command=HOSTILE, extras=changes))
    assert "<script" not in text
    assert "<img" not in text
    assert outline(text).tags.count("img") == 0
    assert text.count("&lt;script&gt;") > 20


def test_prices_in_a_chart_are_not_taken_for_mathematics() -> None:
    rows = [{**extras()["remediations"][0], "change": "a node for $5 instead of $6"}]
    assert drawings.differences("x", rows).count("a node for $5 instead of $6 ") == 2


@given(st.text(max_size=40))
def test_text_never_leaves_its_element(text: str) -> None:
    made = element("p", text, kind=text)
    assert made.count("<") == 2
    assert safe(Markup("<b>")) == "<b>"


def test_a_page_without_anything_to_say_still_says_what_is_missing() -> None:
    text = render(assembled([], extras=None))
    assert "Not enough evidence: no run could be judged." in text
    outline(text)


def test_a_partial_run_and_invalid_runs_are_said_at_the_top() -> None:
    many = outcomes(12)
    many[3]["valid"] = False
    many[3]["verdicts"][1] |= {"state": "fails", "said": "the fault outage had no effect"}
    text = render(assembled(many, complete=False, runs=100))
    assert "12 of 100 runs" in text
    assert text.index("12 of 100 runs") < text.index('id="verdicts"')
    assert text.index("had no effect") < text.index('id="verdicts"')


def test_a_percentile_among_unfinished_outages_is_more_than_something() -> None:
    many = outcomes(100)
    for one in many[:10]:
        one["incidents"][0] |= {"rto_s": None, "rto_declared_s": None, "phases": {}}
    text = render(assembled(many))
    assert f"more than 14{THIN}min" in text
    assert "10 of 100 incidents were not over when the run ended" in text
    assert "not over: 10" in text


def test_what_was_never_seen_is_not_what_ended_later(page: str) -> None:
    (never,) = re.findall(r"region-down</th>.*?</tr>", page, flags=re.DOTALL)
    assert "ended after it: verify 120" in never
    assert "verify" not in never.rpartition("<td")[2]


@pytest.mark.parametrize(
    ("engine", "said"),
    [("plan", "played as flows"), ("exact", "own core"), ("live", "on one machine")],
)
def test_the_report_says_what_its_engine_leaves_out(engine: str, said: str) -> None:
    limits = render(assembled(outcomes(3), engine=engine)).partition('id="limits"')[2]
    assert said in limits.partition("</section>")[0]
    assert "stale read (runs of records carry no reads)" in limits.partition("</section>")[0]


def test_a_cold_standby_is_said_to_be_a_model() -> None:
    cold = {"regions": [{"code": "euw"}, {"code": "use"}],
            "placements": {"open": {"regions": ["euw", "use"], "topology": "cold-standby"}}}  # fmt: skip
    said = "the server has none of its own"
    assert said in render(assembled(outcomes(3), scenario=scenario(topology=cold)))
    assert said not in render(assembled(outcomes(3)))


def test_words_are_those_of_the_scenario(page: str) -> None:
    assert f"are good for 30{THIN}s" in page
    promises = {"rto_s": 300, "steady_s": 7}
    assert f"are good for 7{THIN}s" in render(
        assembled(outcomes(3), scenario=scenario(promises=promises))
    )


def test_the_worst_incident_has_a_command(page: str) -> None:
    seed = re.findall(r'scope="row">seed\s(\d+)', page)[0]
    again = f"flk-sim replay two-regions --seed {seed} --engine plan"
    assert again in page
    assert (
        "flk-sim replay"
        not in render(
            assembled(outcomes(30), command="flk-sim run two-regions --short")
        ).rpartition('id="reproduce"')[2]
    )


@pytest.mark.parametrize("why", ["a comparison needs 4 runs", None])
def test_that_no_change_was_played_is_said(why: str | None) -> None:
    found = assembled(outcomes(3), extras={"untried": why, "smallest": None if why else []})
    assert ("No change was played: a comparison needs 4 runs." in render(found)) is bool(why)


def test_a_search_that_found_nothing_says_so() -> None:
    page = render(assembled(outcomes(120), extras={"smallest": []}))
    assert "None of them alone was enough for: Clients recover within" in page


def test_a_remedy_is_said_to_hold_only_by_the_runs_that_judged_it() -> None:
    changes = extras()
    first, second = changes["remediations"][:2]
    first |= {"promise": "rto_s", "holds": True, "judged": {"runs": 144, "failing": []}}
    second |= {"promise": "rto_s", "holds": True, "judged": {"runs": 144, "failing": [9, 77]}}
    page = render(assembled(outcomes(120), extras=changes))
    assert "rto_s held in all 144 runs" in page
    assert "rto_s still fails, with seed 9" in page
    assert "held in these runs" not in page


def test_zeros_are_printed_as_bounds(page: str) -> None:
    assert "Nothing acknowledged was missing in 120 incidents" in page
    assert "No client was hurt in 120 incidents" in page
    assert f"below 2.5{THIN}%" in page


def test_colours_have_contrast_in_light_dark_and_print() -> None:
    themes = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", theme))
        for ground in ("paper", "card", "tint-good", "tint-bad", "tint-warn"):
            assert contrast(colours["ink"], colours[ground]) >= 7
        for name in ("soft", "main", "bad", "good", "warn"):
            for ground in ("paper", "card"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    """Give the contrast of two colours as WCAG counts it."""
    light = sorted(map(_luminance, (one, other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "\u2013"), (0, "s", "0_s"), (0.0123, "s", "12.3_ms"), (0.9996, "s", "1_s"),
        (83.24, "s", "83.2_s"), (60, "s", "1_min"), (90, "s", "90_s"), (300, "s", "5_min"),
        (301, "s", "5_min\u00a01_s"), (7261, "s", "2_h\u00a01_min"), (-31, "s", "\u221231_s"),
        (200_000, "s", "2_d\u00a08_h"), (250, "ms", "250_ms"), (1.0, "%", "100_%"), (0, "%", "0_%"),
        (0.99995, "%", "99.9950_%"), (0.0498, "%", "5.0_%"), (0.00299, "%", "0.30_%"),
        (1_234_567, "B", "1.23_MB"), (999.7, "B", "1_kB"), (7_100_963_402, "", "7,100,963,402"),
        (12.345, "EUR", "12.3_EUR"), (0.000123, "", "0.000123"),
    ],
)  # fmt: skip
def test_one_number_is_one_text(value: float | None, unit: str, text: str) -> None:
    assert figure(value, unit) == text.replace("_", THIN)


@given(st.floats(0, 1e9), st.sampled_from(["s", "B", "%", "", "USD"]))
def test_a_number_of_any_size_has_few_digits_and_no_exponent(value: float, unit: str) -> None:
    text = figure(value if unit != "%" else value / 1e9, unit)
    assert "e" not in text.replace("USD", "").replace("min", "")
    assert len(text) <= 26


def test_estimates_say_what_they_are() -> None:
    found = {"value": 870.0, "low": 300.0, "high": None, "at_least": True}
    assert estimate(found, "s") == f"more than 14{THIN}min\u00a030{THIN}s"
    assert interval(found, "s") == f"5{THIN}min or more"
    assert estimate({"needs": 1000}) == "needs 1,000"
    assert interval({"value": 1, "low": None, "high": None}) == "too few for an interval"
    assert interval({"value": 1, "low": None, "high": 3}, "s") == f"up to 3{THIN}s"
    assert interval({"value": 1, "low": 1, "high": 1}) == ""
    assert signed(12.0) == "+12"


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=300), st.none() | st.floats(0.1, 1e5))
def test_bars_hold_every_value_once(values: list[float], promise: float | None) -> None:
    edges, within, beyond = bars(values, promise)
    assert sum(within) + sum(beyond) == len(values)
    assert len(edges) == len(within) + 1
    assert edges[0] <= min(values) * (1 + 1e-9)
    assert max(values) <= edges[-1] * (1 + 1e-9)
    assert sum(beyond) == sum(promise is not None and value > promise for value in values)


@given(st.floats(0.01, 1e8), st.integers(3, 12))
def test_steps_of_an_axis_of_time_are_few_enough(span: float, count: int) -> None:
    assert span / time_step(span, count) <= count + 1e-6


@pytest.mark.parametrize("values", [[5.0] * 30, [0.001] * 25, [0.0, 0.0, 4.0], [1e6, 2e6, 9e6]])
def test_distributions_of_any_shape_are_drawn(values: list[float]) -> None:
    from fractal_lba_sim.results_recovery import distribution
    from fractal_lba_sim.stats import Sample

    for promise in (None, 3.0, 1e9):
        made = drawings.histogram("x", "RTO", distribution(Sample.of(values)), promise, "s")
        assert made.count("<svg") == 2


def test_terminal_says_the_same_in_plain_lines() -> None:
    out = io.StringIO()
    summary(assembled(outcomes(120), command="flk-sim run [bold]"), file=out)
    text = out.getvalue()
    assert "\x1b" not in text
    assert text.index("simulated hours") < text.index("FAILS")
    assert "Clients recover within" in text
    assert "again: flk-sim run [bold]" in text
    assert "below" in text
    assert max(map(len, text.splitlines())) <= 160


def test_terminal_says_partial_and_invalid() -> None:
    many = outcomes(12)
    many[0]["valid"] = False
    many[0]["verdicts"][1] |= {"state": "fails", "said": "no effect"}
    out = io.StringIO()
    found = assembled(many, complete=False, runs=50)
    summary(found, file=out)
    assert "interrupted after 12 of 50 runs" in out.getvalue()
    assert "seed 1: no effect" in out.getvalue()
