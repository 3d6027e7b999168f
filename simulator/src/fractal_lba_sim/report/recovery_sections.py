"""The sections about recovery: the phases of an incident, time, data at risk, availability.

The invariant of this file: both clocks are printed, percentiles stand with their intervals, and
one that the runs are too few for, or that lies beyond what was watched, says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fractal_lba_server.judge.recovery import GOOD_SHARE, PHASES, zero_bound
from fractal_lba_server.judge.trace import STEADY_S

from ..results_recovery import SHARES
from . import drawings
from .html import Markup, element, joined, paragraph, section, table, with_interval
from .numbers import counted, estimate, figure, interval

Document = Mapping[str, Any]

WORST_CLIENT: Final = "worst client"
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
            "up to the mean time to recovery. The thin line spans the moments between which the "
            "phase ended in nine of ten recoveries. A phase of length 0 took no time that a "
            "client could notice, or is no part of this recovery."
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
    said = [f"{name.replace('_', ' ')} {_when(later[name])}" for name in PHASES if name in later]
    return paragraph(
        f"What ended after clients had recovered, from the disruption on: {', '.join(said)}."
        if said
        else "",
        kind="note",
    )


def _when(row: Document) -> str:
    """Say when a phase ended, in how many incidents, as exactly as their number allows."""
    seen = f"in {counted(row['n'], 'incident')}"
    if row["p50_s"] is None:
        return seen
    late = "" if row["p95_s"] is None else f", p95 {figure(row['p95_s'], 's')}"
    return f"{seen} (p50 {figure(row['p50_s'], 's')}{late})"


def recovery_time(results: Document) -> Markup:
    """Show the distribution of the time to recovery on both clocks, and by client."""
    promises = results["scenario"]["document"]["promises"]
    promise, steady_s = promises.get("rto_s"), promises.get("steady_s", STEADY_S)
    parts: list[object] = []
    for place, group in enumerate(_groups(results)):
        parts.append(element("h3", _title(group)))
        if not group["rto_s"]["max"] and not group["rto_s"]["censored"]:
            parts.append(_unhurt(group))
            continue
        if place < DRAWN_MAX:
            what = f"Time to recovery after {group['id']}"
            parts.append(_drawn(f"rto{place}", what, group["rto_s"], promise, "s"))
            parts.append(_outlasted(group))
        rows = [("worst client, from the disruption", group["rto_s"])]
        if group["rto_declared_s"]["n"]:
            rows.append(("worst client, from the declaration", group["rto_declared_s"]))
        rows += [(f"client {name}", found) for name, found in group["clients"].items()]
        parts.append(_percentiles(f"Time to recovery after {group['id']}", rows, "s"))
        parts.append(_censored(group["rto_s"]))
        parts.append(_worst(group))
    if not parts:
        return Markup("")
    return section(
        "rto",
        "Time to recovery (RTO)",
        paragraph(
            f"The time until calls succeed again: at least {GOOD_SHARE * 100:g} % of them, for "
            f"{figure(steady_s, 's')}. Small print gives the 95 % interval of a percentile, from "
            "order statistics; “needs” says how many incidents a percentile takes."
        ),
        *parts,
    )


def _outlasted(group: Document) -> Markup:
    """Say how many recoveries were owed to the end of the fault alone."""
    count = group["outlasted"]
    if not count:
        return Markup("")
    return paragraph(
        f"In {figure(count)} of {counted(group['rto_s']['n'], 'incident')} clients were served "
        "again no sooner than the fault itself was over. A longer fault would have kept them "
        "waiting for longer."
    )


def _worst(group: Document) -> Markup:
    """Name the worst incidents, so that each can be played again."""
    rows = [
        (
            f"seed\u00a0{row['seed']}" + (f", {row['id']}" if row["id"] != group["id"] else ""),
            figure(row["rto_s"], "s") if row["rto_s"] is not None else "not seen to end",
            figure(row["declared_s"], "s"),
            ", ".join(
                f"{name.replace('_', ' ')} {figure(row['phases'][name], 's')}"
                for name in PHASES
                if row["phases"].get(name)
            ),
            figure(row["records"]),
            figure(row["rpo_s"], "s"),
        )
        for row in group["worst"]
    ]
    heads = ("Incident", "RTO", "Declared after", "Phases", "Records at risk", "RPO")
    caption = (
        f"The worst {figure(len(rows))} of {counted(group['rto_s']['n'], 'incident')}, one by one; "
        "flk-sim replay tells one as a timeline (Run it again)"
    )
    return table(caption, heads, rows, kind="stack")


def _drawn(name: str, what: str, found: Document, promise: float | None, unit: str) -> Markup:
    """Draw a distribution if there is anything in it to draw."""
    if not found["values"] or not found["max"]:
        return Markup("")
    return Markup(drawings.histogram(name, what, found, promise, unit))


def _percentiles(caption: str, rows: list[tuple[str, Document]], unit: str) -> Markup:
    cells = [
        (
            joined([name, element("small", f"n = {figure(found['n'])}")]),
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
            what = f"RPO after {group['id']}"
            parts.append(_drawn(f"rpo{place}", what, found, promises.get("rpo_s"), "s"))
        lost = found["n"] - found["zeros"]
        others = "; the others are in the percentiles, not in the chart" * (lost < found["n"])
        parts += [
            paragraph(
                f"Acknowledged data was missing in {figure(lost)} of {figure(found['n'])} "
                f"incidents{others}."
            ),
            _percentiles(f"RPO after {group['id']}", [
                ("age of the oldest record", found), ("work lost", group["rpo_work_s"]),
            ], "s"),
            _percentiles(f"Records at risk after {group['id']}", [
                ("records", group["rpo_records"]),
            ], ""),
            _percentiles(f"Bytes at risk after {group['id']}", [
                ("bytes", group["rpo_bytes"]),
            ], "B"),
        ]  # fmt: skip
    if not parts:
        return Markup("")
    books = results["accounts"]["counted"]
    came = (
        f"In all runs {figure(books['recovered_late'])} of them came back later with the disk that "
        f"held them, {figure(books['brought_by_outbox'])} were brought again by an outbox, and "
        f"{figure(books['lost'])} were gone for good at the end."
    )
    return section(
        "rpo",
        "Data at risk (RPO)",
        paragraph(
            "Data at risk is what was acknowledged and what the survivors did not hold when they "
            f"were counted; where nobody counted them, what was gone at the end. {came}"
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
        _year(year, _groups(results)),
        table("Calls while the runs lasted; every run has its incidents in it", heads, cells),
    )


def _year(year: Document | None, groups: list[Document]) -> Markup:
    if year is None:
        return paragraph(
            "No fault of the scenario says how often it happens (per_year), so no downtime of a "
            "year can be given. The shares below are of the simulated time alone, which has an "
            "incident in every run."
        )
    rows = [
        (
            name,
            with_interval(estimate(row["downtime_s"], "s"), _downtime(name, row, groups)),
            with_interval(estimate_share(row["availability"]), interval(row["availability"], "%")),
            figure(row["bad_year_s"], "s"),
            figure(row["quiet_share"], "%"),
        )
        for name, row in ((WORST_CLIENT, year["worst_client"]), *year["clients"].items())
        if row is not None
    ]
    declared = ", ".join(f"{row['id']} {figure(row['per_year'])}" for row in year["counted"])
    missing = (
        f" Not counted, for want of a rate: {', '.join(year['not_counted'])}."
        if year["not_counted"]
        else ""
    )
    return joined(
        [
            paragraph(
                f"Incidents a year as the scenario declares them: {declared}.{missing} A year is "
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


def _downtime(name: str, row: Document, groups: list[Document]) -> str:
    """Give the interval of a downtime; of none at all, in how many incidents it still may be."""
    if row["downtime_s"]["value"]:
        return interval(row["downtime_s"], "s")
    found = [
        group["rto_s"] if name == WORST_CLIENT else group["clients"][name]
        for group in groups
        if group["per_year"] and (name == WORST_CLIENT or name in group["clients"])
    ]
    return (
        f"hurt in fewer than {figure(zero_bound(min(one['n'] for one in found)), '%')} of incidents"
    )


def estimate_share(found: Document) -> str:
    """Write an availability, which is at most what it says where runs ended too early."""
    text = figure(found["value"], "%")
    return f"less than {text}" if found["at_least"] else text
