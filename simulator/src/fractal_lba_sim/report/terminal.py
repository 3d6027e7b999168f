"""Say the results in a terminal: what was done, what holds, how long, how much, what to do next.

The invariant of this file: it says nothing that the results do not, in the order of the report,
and where nobody watches it writes plain lines without colour.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final

from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN
from fractal_lba_server.judge.recovery import zero_bound

from .advice_sections import judged_by_all, mean_of
from .numbers import counted, estimate, figure, in_brackets, interval, signed
from .scope_sections import headline, partial

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Document = Mapping[str, Any]

STYLES: Final = {HOLDS: "green", FAILS: "bold red", UNPROVEN: "yellow"}
MARKS: Final = {HOLDS: "holds", FAILS: "FAILS", UNPROVEN: "not enough evidence"}
SHOWN: Final = ("p50", "p95", "p99")
"""Percentiles of the table; the worst stands beside them, and says something of few runs too."""
REMEDIES_SHOWN: Final = 3
INCIDENTS_SHOWN: Final = 8
PLAIN_COLUMNS: Final = 160
"""Width of a table where nobody watches: a file does not wrap."""


def summary(results: Document, *, file: IO[str] | None = None) -> None:
    """Print the results."""
    console = plain_console(file)
    _scope(console, results)
    _verdicts(console, results)
    _incidents(console, results)
    _yearly(console, results)
    _remedies(console, results)
    console.print(f"[dim]again: {_plain(results['run']['command'])}[/dim]", soft_wrap=True)


def plain_console(file: IO[str] | None = None) -> Console:
    """Give a console that writes plain lines of a fixed width where nobody watches."""
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second, and only here

    out = file or sys.stdout
    return Console(
        file=out, highlight=False, width=None if out.isatty() else PLAIN_COLUMNS, emoji=False
    )


def _plain(text: object) -> str:
    """Keep what a scenario says from being read as markup."""
    from rich.markup import escape  # noqa: PLC0415 - as above

    return escape(str(text))


def _table(*heads: str) -> Table:
    from rich import box  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for head in heads:
        made.add_column(head)
    return made


def _scope(console: Console, results: Document) -> None:
    about, run, scope = results["scenario"], results["run"], results["scope"]
    control = " (negative control)" if about["control"] else ""
    console.print(f"[bold]{_plain(about['name'])}[/bold]{control}: {_plain(about['title'])}")
    delivered = sum(row["delivered"] for row in scope["faults"])
    console.print(
        f"{counted(run['judged'], 'run')} of the {run['engine']} engine, "
        f"{figure(scope['simulated_hours'])} simulated hours, {counted(delivered, 'fault')} "
        f"delivered, {counted(scope['acknowledged'], 'record')} followed, "
        f"{counted(scope['covered']['states'], 'state')} seen"
    )
    if partial(run):
        console.print(f"[yellow]{partial(run)}[/yellow]")
    invalid = scope["invalid"]
    if invalid["count"]:
        first = invalid["shown"][0]
        console.print(
            f"[yellow]{counted(invalid['count'], 'invalid run')} left out; seed {first['seed']}: "
            f"{_plain(first['said'])}[/yellow]"
        )


def _verdicts(console: Console, results: Document) -> None:
    table = _table("verdict", "promise", "evidence")
    for one in results["verdicts"]:
        told = one["failed"] or one["unproven"]
        said = f" (seed {one['seed']}: {one['said']})" if told else ""
        table.add_row(
            f"[{STYLES[one['state']]}]{MARKS[one['state']]}[/]",
            _plain(one["text"]),
            _plain(f"{one['why']}{said}"),
        )
    console.print(table)
    state, said = headline(results)
    console.print(f"[{STYLES[state]}]{_plain(said)}[/]\n")


def _incidents(console: Console, results: Document) -> None:
    table = _table("after", "measure", *SHOWN, "worst", "95 % interval of p95")
    for group in results["incidents"][:INCIDENTS_SHOWN]:
        rows = [("recovery (RTO)", group["rto_s"], "s")]
        if group["rto_declared_s"]["n"]:
            rows.append(("from declaration", group["rto_declared_s"], "s"))
        rows += [
            ("data lost (RPO)", group["rpo_s"], "s"),
            ("records lost", group["rpo_records"], ""),
        ]
        for place, (name, found, unit) in enumerate(rows):
            table.add_row("" if place else _plain(group["id"]), name, *_cells(found, unit))
    if table.row_count:
        console.print(table)
    more = len(results["incidents"]) - INCIDENTS_SHOWN
    if more > 0:
        console.print(f"[dim]{figure(more)} more faults are in the report[/dim]\n")


def _cells(found: Document, unit: str) -> list[str]:
    """Give percentiles and an interval; of what never happened the bound."""
    if not found["max"] and not found["censored"]:
        below = figure(zero_bound(found["n"]), "%")
        return ["none", *[""] * len(SHOWN), f"below {below} of {figure(found['n'])} incidents"]
    shown = [estimate(found["percentiles"][key], unit) for key in SHOWN]
    worst = "not seen to end" if found["censored"] else figure(found["max"], unit)
    return [*shown, worst, interval(found["percentiles"]["p95"], unit)]


def _yearly(console: Console, results: Document) -> None:
    year = results["yearly"]
    if year is None:
        return
    found = year["worst_client"]
    console.print(
        f"expected downtime of a year, worst client: {estimate(found['downtime_s'], 's')}"
        f"{in_brackets(interval(found['downtime_s'], 's'))}; a bad year "
        f"{figure(found['bad_year_s'], 's')}; {figure(found['quiet_share'], '%')} of years without"
    )


def _remedies(console: Console, results: Document) -> None:
    rows = results["remediations"] or []
    if results["untried"]:
        console.print(f"[dim]no change was played: {_plain(results['untried'])}[/dim]")
    if rows:
        console.print("\nwhat would help most")
    for row in rows[:REMEDIES_SHOWN]:
        unit, found = row.get("unit", ""), row["difference"]
        console.print(
            f"  {_plain(row['change'])}: {mean_of(row['metric'])} "
            f"{signed(found['value'], unit)}{in_brackets(interval(found, unit))}"
            + (f"; {judged_by_all(row)}" if "judged" in row else "")
        )
    for row in results["smallest"] or []:
        console.print(f"  {_plain(row['said'])}")
