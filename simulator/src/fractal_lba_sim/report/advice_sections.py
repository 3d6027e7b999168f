"""The sections about changes: what would help most, what it costs, what the result hangs on.

The invariant of this file: a change is recommended only by a paired difference whose interval
leaves out zero; any other is shown, and named as not clear.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from fractal_lba_server.judge.check import FAILS, HOLDS

from . import drawings
from .html import Markup, element, joined, paragraph, section, table, with_interval
from .numbers import counted, figure, in_brackets, interval, signed
from .record_sections import source_of

Document = Mapping[str, Any]

ROWS_DRAWN_MAX: Final = 10
POINTS_MAX: Final = 200
NO_EFFECT: Final = 0.01
"""Parameters that move the result by less than this share of what the first one does."""

AXES: Final = (("rpo_p95_s", "rpo_s", "RPO"), ("rto_p95_s", "rto_s", "RTO"))


def remedies(results: Document) -> Markup:
    """Show changes in the order of what they buy, and the smallest that make promises hold."""
    ranked = results["remediations"] or []
    failing = frozenset(one["name"] for one in results["verdicts"] if one["state"] != HOLDS)
    currency = (results["cost"] or {}).get("currency") or ""
    parts: list[object] = [_untried(results), *_smallest(results)]
    if ranked:
        drawn = [row for row in ranked if row["metric"] == ranked[0]["metric"]][:ROWS_DRAWN_MAX]
        parts += [
            paragraph(
                f"Each change was tried alone in {counted(ranked[0]['n'], 'run')}, with the "
                "same seeds as without it, so that both runs of a pair met the same chance. The "
                "best comes first; lines are 95 % intervals of the mean difference. Where a "
                "promise held in those pairs, all runs that are named judged it. Costs are those "
                "that the scenario prices: people and work are in none of them."
            ),
            Markup(drawings.differences("remedies", drawn)),
            _rows("Remediations, ranked", ranked, failing, currency),
        ]
    others = [row for row in results["what_ifs"] or [] if row not in ranked]
    parts.append(_rows("Other changes that were tried", others, failing, currency))
    return section("remedies", "What would help", *parts)


def _untried(results: Document) -> Markup:
    why = results["untried"]
    return paragraph(f"No change was played: {why}." if why else "", kind="note")


def _smallest(results: Document) -> list[Markup]:
    """Give the smallest change of a setting, or say that none was found."""
    rows = results["smallest"]
    cells = [(row["promise"], row["said"], figure(row["runs"])) for row in rows or []]
    heads = ("Promise", "Smallest change with which it holds", "Runs")
    failing = [one["text"] for one in results["verdicts"] if one["state"] == FAILS]
    if rows is None or not failing or rows:
        return [table("Smallest changes", heads, cells, kind="words")]
    return [
        paragraph(
            "Settings of which less (or more) is never worse were moved one by one as far as it "
            f"makes sense. None of them alone was enough for: {'; '.join(failing)}."
        )
    ]


def _rows(caption: str, rows: list[Document], failing: frozenset[str], currency: str) -> Markup:
    cells = []
    for row in rows:
        unit, found = row.get("unit", ""), row["difference"]
        clear = found["low"] is not None and found["high"] is not None
        clear = clear and (found["low"] > 0 or found["high"] < 0)
        cells.append(
            (
                row["change"],
                joined([mean_of(row["metric"]), element("small", _pairs_and(row, failing))]),
                figure(row["before"], unit),
                figure(row["after"], unit),
                with_interval(
                    signed(found["value"], unit),
                    interval(found, unit) + ("" if clear else ", not clear"),
                ),
                signed(row.get("cost_per_month"), currency),
            )
        )
    heads = ("Change", "Measure", "Before", "After", "Difference", "Cost a month")
    return table(caption, heads, cells, kind="stack")


def _pairs_and(row: Document, failing: frozenset[str]) -> str:
    """Say in how many pairs a change was tried, and what becomes of the promise."""
    return "; ".join(part for part in (f"n = {figure(row['n'])}", _then(row, failing)) if part)


def _then(row: Document, failing: frozenset[str]) -> str:
    """Say what becomes of a promise that does not hold without the change."""
    if row.get("promise") not in failing:
        return ""
    if "judged" not in row:
        return f"{row['promise']} {'held in these runs' if row['holds'] else 'still does not hold'}"
    return judged_by_all(row)


def judged_by_all(row: Document) -> str:
    """Say what all runs make of a change whose promise held in its pairs."""
    if row["judged"]["failing"]:
        return f"{row['promise']} still fails, with seed {row['judged']['failing'][0]}"
    return f"{row['promise']} held in all {counted(row['judged']['runs'], 'run')}"


def mean_of(metric: str) -> str:
    """Say a measure of runs: a mean, unless its name has a percentile."""
    name = measure_name(metric)
    return name if re.search(r"\bp\d", name) else f"mean {name}"


def measure_name(metric: str) -> str:
    """Say a measure in words: `rto_s` is RTO, `rpo_records` is RPO records."""
    words = [word for word in metric.split("_") if word != "s"]
    return " ".join(word.upper() if word in {"rto", "rpo"} else word for word in words)


def cost(results: Document) -> Markup:
    """Show cost against data and time at risk, with the front on which nothing is both better."""
    found, sweep = results["cost"], results["sweep"]
    currency = "" if found is None else found["currency"] or ""
    parts: list[object] = []
    points = [
        point
        for point in (sweep or {"points": []})["points"][:POINTS_MAX]
        if point.get("cost_per_month") is not None
    ]
    promises = results["scenario"]["document"]["promises"]
    if not points:
        parts.append(_sweep_hint(results))
    for axis, promise, name in AXES:
        usable = [point for point in points if point.get(axis) is not None]
        if len(usable) < 2 or not any(point[axis] for point in usable):
            continue
        drawn = drawings.front(f"front-{name}", usable, currency, axis, promises.get(promise))
        parts += [
            element("h3", f"Cost a month against {name} (p95)"),
            Markup(drawn),
            _front(usable, axis, name, currency),
        ]
    if found is not None:
        parts.append(_cost_table(found))
    return section("cost", "Cost", *parts)


def _sweep_hint(results: Document) -> Markup:
    """Say how to get cost against recovery: one scenario is one point."""
    source = source_of(results)
    if source is None:
        return Markup("")
    return paragraph(
        "Cost against RPO and RTO takes settings to compare, for example ",
        element(
            "code",
            f"flk-sim sweep {shlex.quote(source)} --set settings.probe.dns_ttl=20s,60s --out DIR",
        ),
        ".",
        kind="note",
    )


def _front(points: list[Document], axis: str, name: str, currency: str) -> Markup:
    best = sorted((p for p in points if p["pareto"]), key=lambda p: (p[axis], p["cost_per_month"]))
    rows = [
        (
            f"{number}  {point['label']}",
            figure(point[axis], "s"),
            figure(point["cost_per_month"], currency),
        )
        for number, point in enumerate(best, 1)
    ]
    others = len(points) - len(best)
    caption = f"The front: nothing is better in both; tried and not on it: {figure(others)}"
    return table(caption, ("Settings", f"{name} (p95)", "Cost a month"), rows)


def _cost_table(found: Document) -> Markup:
    """Break the cost down; what has no price is named, and the sum is then a lower bound."""
    currency = found["currency"] or ""
    missing = found.get("missing") or []
    if missing and not found["per_month"]["total"]:
        return paragraph("The scenario declares no prices, so nothing is said about cost.")
    rows = [
        (name, figure(value, currency))
        for name, value in sorted(found["per_month"].items())
        if name != "total"
    ]
    at_least = "" if found.get("complete", True) else "at least "
    rows.append(("total", at_least + figure(found["per_month"]["total"], currency)))
    notes = ["Assumed: " + "; ".join(found.get("assumptions") or ["nothing"]) + "."]
    if missing:
        notes.append(f"Without a price in the scenario, so not counted: {', '.join(missing)}.")
    return element(
        "div",
        table("Cost a month of the scenario as it is", ("Part", "Cost a month"), rows),
        paragraph(" ".join(notes), kind="note"),
    )


def sensitivity(results: Document) -> Markup:
    """Show which parameter moves the result most."""
    rows = results["tornado"] or []
    if not rows:
        return Markup("")
    unit = rows[0].get("unit", "")
    ordered = sorted(rows, key=lambda row: -_span(row))
    least = NO_EFFECT * _span(ordered[0])
    idle = [row["name"] for row in ordered if _span(row) <= least]
    ordered = [row for row in ordered if _span(row) > least]
    if not ordered:
        return Markup("")
    cells = [
        (
            row["name"],
            *[
                with_interval(figure(row[side]["value"], unit), _swing(row[side], unit))
                for side in ("low", "high")
            ],
            figure(_span(row), unit),
        )
        for row in ordered
    ]
    measure = mean_of(rows[0]["metric"])
    return section(
        "sensitivity",
        "What the result hangs on",
        paragraph(
            "Each parameter went alone to its low and its high end: the 5th and the 95th "
            "percentile of a distribution, half and twice of a number. Both sides met the same "
            f"chance as the scenario as it stands, in {_pairs(ordered)}. The line is {measure} of "
            f"these runs without a change: {figure(ordered[0]['base'], unit)}. The pale bar is the "
            "low end, the full one the high end. Small print in the table is the 95 % interval of "
            "the difference; one that reaches over 0 shows nothing."
        ),
        Markup(drawings.tornado("tornado", ordered[:ROWS_DRAWN_MAX])),
        table(f"Sensitivity of {measure}", ("Parameter", "At low", "At high", "Span"), cells),
        paragraph(
            f"No difference was seen in the first pairs, or next to none, for: {', '.join(idle)}."
            if idle
            else "",
            kind="note",
        ),
    )


def _pairs(rows: list[Document]) -> str:
    counts = [row[side]["n"] for row in rows for side in ("low", "high") if "n" in row[side]]
    return f"{figure(max(counts))} pairs of runs" if counts else "pairs of runs"


def _swing(side: Document, unit: str) -> str:
    """Say where a parameter went, and by how much that moved the result."""
    gap = side.get("difference")
    said = f"with {side['set']}"
    if gap is None or not gap["value"]:
        return said
    return f"{said}: {signed(gap['value'], unit)}{in_brackets(interval(gap, unit))}"


def _span(row: Document) -> float:
    return float(abs(row["high"]["value"] - row["low"]["value"]))
