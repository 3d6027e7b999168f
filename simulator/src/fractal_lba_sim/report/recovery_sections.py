"""The sections about recovery: the phases of an incident, time, data at risk, availability.

The invariant of this file: both clocks are printed, percentiles stand with their intervals, and
one that the runs are too few for, or that lies beyond what was watched, says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fractal_lba_server.judge.recovery import zero_bound

from ..results_recovery import SHARES
from . import drawings
from .html import Markup, element, joined, paragraph, section, table, with_interval
from .numbers import estimate, figure, interval

Document = Mapping[str, Any]

DRAWN_MAX: Final = 6
"""Faults that are drawn; of further ones the tables say the same."""


def _groups(results: Document) -> list[Document]:
    return list(results["incidents"])


def _title(group: Document) -> str:
    return f"{group['id']} ({group['kind']})"


def timeline(results: Document) -> Markup:
    """Show for each fault how recovery goes, phase by phase."""
    promise = results["scenario"]["document"]["promises"].get("rto_s")
    parts: list[object] = []
    for place, group in enumerate(_groups(results)):
        phases = group["phases"]
        parts.append(element("h3", _title(group)))
        if phases is None:
            parts.append(paragraph("No recovery was seen, so there are no phases to show."))
            continue
        if not phases["mean_rto_s"]:
            parts += [_unhurt(group), _later(group["later"])]
            continue
        if place < DRAWN_MAX:
            parts.append(drawings.timeline(f"timeline{place}", phases, promise))
        parts += [_phase_table(group), _later(group["later"])]
    if not parts:
        return Markup("")
    return section(
        "timeline",
        "How recovery goes",
        paragraph(
            "Bars are the mean length of each phase in the recoveries that were seen; they add "
            "up to the mean time to recovery. The line at the end of a bar spans the moments at "
            "which nine in ten recoveries had ended that phase."
        ),
        *[Markup(part) if isinstance(part, str) else part for part in parts],
    )


def _unhurt(group: Document) -> Markup:
    n = group["rto_s"]["n"]
    return paragraph(
        f"No client was hurt in {figure(n)} incidents: with 95 % confidence one is hurt in fewer "
        f"than {figure(zero_bound(n), '%')} of them."
    )


def _phase_table(group: Document) -> Markup:
    phases = group["phases"]
    rows = [
        (
            row["phase"].replace("_", " "),
            *[figure(row[name], "s") for name in ("mean_s", "p50_s", "p95_s")],
        )
        for row in phases["rows"]
    ]
    rows.append(("together", figure(phases["mean_rto_s"], "s"), "", ""))
    caption = f"Phases of {group['id']}; recoveries seen: {figure(phases['n'])}"
    return table(caption, ("Phase", "Mean", "p50", "p95"), rows)


def _later(later: Document) -> Markup:
    said = [
        f"{name.replace('_', ' ')} at {figure(row['p50_s'], 's')} (p95 {figure(row['p95_s'], 's')})"
        for name, row in later.items()
    ]
    return paragraph(
        f"After clients had recovered, from the disruption on: {', '.join(said)}." if said else "",
        kind="note",
    )


def recovery_time(results: Document) -> Markup:
    """Show the distribution of the time to recovery on both clocks, and by client."""
    promise = results["scenario"]["document"]["promises"].get("rto_s")
    parts: list[object] = []
    for place, group in enumerate(_groups(results)):
        parts.append(element("h3", _title(group)))
        if not group["rto_s"]["max"] and not group["rto_s"]["censored"]:
            parts.append(_unhurt(group))
            continue
        if place < DRAWN_MAX:
            what = f"Time to recovery after {group['id']}"
            parts.append(_drawn(f"rto{place}", what, group["rto_s"], promise, "s"))
        rows = [("worst client, from the disruption", group["rto_s"])]
        if group["rto_declared_s"]["n"]:
            rows.append(("worst client, from the declaration", group["rto_declared_s"]))
        rows += [(f"client {name}", found) for name, found in group["clients"].items()]
        parts.append(_percentiles(f"Time to recovery after {group['id']}", rows, "s"))
        parts.append(_censored(group["rto_s"]))
    if not parts:
        return Markup("")
    return section(
        "rto",
        "Time to recovery",
        paragraph(
            "The time until requests succeed again: at least 99 % of them, without a break. "
            "Small print gives the 95 % interval of a percentile, from order statistics."
        ),
        *parts,
    )


def _drawn(name: str, what: str, found: Document, promise: float | None, unit: str) -> Markup:
    """Draw a distribution if there is anything in it to draw."""
    if not found["values"] or not found["max"]:
        return Markup("")
    return Markup(drawings.histogram(name, what, found, promise, unit))


def _percentiles(caption: str, rows: list[tuple[str, Document]], unit: str) -> Markup:
    cells = [
        (
            name,
            *[
                with_interval(
                    estimate(found["percentiles"][key], unit),
                    interval(found["percentiles"][key], unit),
                )
                for key in SHARES
            ],
            figure(found["max"], unit) if not found["censored"] else "not seen to end",
        )
        for name, found in rows
    ]
    return table(caption, ("", *SHARES, "worst"), cells, kind="stack")


def _censored(found: Document) -> Markup:
    if not found["censored"]:
        return Markup("")
    return paragraph(
        f"{figure(found['censored'])} of {figure(found['n'])} incidents were not over when the "
        "run ended. They count as longer than they were watched; a percentile among them is "
        "given as “more than”.",
        kind="note",
    )


def data_at_risk(results: Document) -> Markup:
    """Show what acknowledged data incidents cost: in seconds, records and bytes."""
    promises = results["scenario"]["document"]["promises"]
    parts: list[object] = []
    for place, group in enumerate(_groups(results)):
        parts.append(element("h3", _title(group)))
        found = group["rpo_s"]
        if not found["max"]:
            below = figure(zero_bound(found["n"]), "%")
            parts.append(
                paragraph(
                    f"Nothing acknowledged was missing in {figure(found['n'])} incidents. "
                    f"That bounds the rate of a loss at {below} of incidents, with 95 % confidence."
                )
            )
            continue
        if place < DRAWN_MAX:
            what = f"Age of the oldest lost record after {group['id']}"
            parts.append(_drawn(f"rpo{place}", what, found, promises.get("rpo_s"), "s"))
        lost = found["n"] - found["zeros"]
        others = "; the others are in the percentiles, not in the chart" * (lost < found["n"])
        parts += [
            paragraph(
                f"Acknowledged data was missing in {figure(lost)} of {figure(found['n'])} "
                f"incidents{others}."
            ),
            _percentiles(f"Age of the oldest lost record after {group['id']}", [
                ("age, from the disruption", found), ("work lost", group["rpo_work_s"]),
            ], "s"),
            _percentiles(f"Records lost after {group['id']}", [
                ("records", group["rpo_records"]),
            ], ""),
            _percentiles(f"Bytes lost after {group['id']}", [
                ("bytes", group["rpo_bytes"]),
            ], "B"),
        ]  # fmt: skip
    if not parts:
        return Markup("")
    books = results["accounts"]["counted"]
    came = (
        f"In all runs {figure(books['recovered_late'])} of these records came back late with the "
        f"disk that held them, {figure(books['brought_by_outbox'])} were brought again by an "
        f"outbox, and {figure(books['lost'])} were gone at the end."
    )
    return section(
        "rpo",
        "Data at risk",
        paragraph(
            "Acknowledged records that the survivors did not hold when they took over, or where "
            f"nobody counted then, that were gone at the end. {came}"
        ),
        *parts,
    )


def availability(results: Document) -> Markup:
    """Show the share of good calls while runs lasted, and what a year would bring."""
    found, year = results["availability"], results["yearly"]
    rows = [
        (name, row)
        for name, row in (*found["clients"].items(), ("all clients", found["overall"]))
        if row is not None
    ]
    cells = [
        (
            name,
            figure(row["count"]),
            figure(row["count"] - row["good"]),
            with_interval(
                figure(row["value"], "%"),
                interval(row, "%")
                if row["good"] < row["count"]
                else f"a bad call in fewer than {figure(zero_bound(row['runs']), '%')} of runs",
            ),
        )
        for name, row in rows
    ]
    heads = ("Client", "Calls", "Not good", "Good share")
    return section(
        "availability",
        "Availability and yearly downtime",
        _year(year),
        table("Calls while the runs lasted; every run has its incidents in it", heads, cells),
    )


def _year(year: Document | None) -> Markup:
    if year is None:
        return paragraph(
            "No fault of the scenario says how often it happens (per_year), so no downtime of a "
            "year can be given. The shares below are of the simulated time alone, which has an "
            "incident in every run."
        )
    rows = [
        (
            name,
            with_interval(estimate(row["downtime_s"], "s"), interval(row["downtime_s"], "s")),
            with_interval(estimate_share(row["availability"]), interval(row["availability"], "%")),
            figure(row["bad_year_s"], "s"),
            figure(row["quiet_share"], "%"),
        )
        for name, row in (("worst client", year["worst_client"]), *year["clients"].items())
        if row is not None
    ]
    counted = ", ".join(f"{row['id']} {figure(row['per_year'])}" for row in year["counted"])
    missing = (
        f" Not counted, for want of a rate: {', '.join(year['not_counted'])}."
        if year["not_counted"]
        else ""
    )
    return joined(
        [
            paragraph(
                f"Incidents a year as the scenario declares them: {counted}.{missing} A year is "
                "their sum as a compound Poisson process; nineteen years in twenty are no worse "
                "than a bad year. A client without downtime here had none in these runs; no run "
                "proves that it never has any."
            ),
            table(
                "Expected downtime of a year",
                ("Client", "Mean downtime", "Availability", "Bad year", "Years without"),
                rows,
            ),
        ]
    )


def estimate_share(found: Document) -> str:
    """Write an availability, which is at most what it says where runs ended too early."""
    text = figure(found["value"], "%")
    return f"less than {text}" if found["at_least"] else text
