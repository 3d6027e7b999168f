"""The HTML report: one file without anything outside it, dark and light.

The first table is testee by suite, the second SDK by server (runs whose subject is `a x b`); each
cell opens its cases, with flags and traffic where something went wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from . import terminal
from .judge import PASS, STATUSES
from .results import Members, Run

STYLE: Final = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border: 1px solid #8886; padding: .3rem .6rem; text-align: left; }
td { text-align: center; white-space: nowrap; }
td a { color: inherit; text-decoration: none; display: block; }
.good { background: #2c8a4b38; } .bad { background: #c0392b55; font-weight: 600; }
.known { background: #b8860b44; } .none { opacity: .5; }
pre { overflow-x: auto; background: #8881; padding: .7rem; font-size: 13px; }
details { margin: .2rem 0 .2rem 1rem; } summary { cursor: pointer; }
code { font-size: 13px; } .ids { columns: 22rem; font-size: 13px; }
"""


def page(runs: Sequence[Run]) -> str:
    """Write the page."""
    pairs = [run for run in runs if " x " in run.subject]
    alone = [run for run in runs if run not in pairs]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Conformance</title><style>{STYLE}</style></head><body><h1>Conformance</h1>",
    ]
    numbered = {id(run): number for number, run in enumerate(runs)}
    if alone:
        parts += ["<h2>Testees and suites</h2>", *by_suite(alone, numbered)]
    if pairs:
        parts += ["<h2>SDKs and servers</h2>", *by_server(pairs, numbered)]
    for run in runs:
        parts += section(run, numbered[id(run)])
    return "\n".join([*parts, "</body></html>", ""])


def folder_of(found: Members) -> str:
    """Give the folder of a result's suite."""
    return str(found["suite"]).partition("/")[0]


def by_suite(runs: Sequence[Run], numbered: dict[int, int]) -> Iterator[str]:
    """Write the matrix of testees and suites."""
    suites = sorted({folder_of(found) for run in runs for found in run.results.values()})
    yield f"<table><tr><th></th>{''.join(f'<th>{escape(name)}</th>' for name in suites)}</tr>"
    for run in runs:
        cells = []
        for name in suites:
            results = [found for found in run.results.values() if folder_of(found) == name]
            cells.append(cell(results, f"r{numbered[id(run)]}-{name}"))
        yield f"<tr><th>{escape(run.subject)}</th>{''.join(cells)}</tr>"
    yield "</table>"


def by_server(runs: Sequence[Run], numbered: dict[int, int]) -> Iterator[str]:
    """Write the matrix of SDKs and servers."""
    names = [run.subject.partition(" x ") for run in runs]
    servers = sorted({server for _, _, server in names})
    table = {(sdk, server): run for (sdk, _, server), run in zip(names, runs, strict=True)}
    yield f"<table><tr><th></th>{''.join(f'<th>{escape(name)}</th>' for name in servers)}</tr>"
    for sdk in sorted({sdk for sdk, _, _ in names}):
        cells = []
        for server in servers:
            run = table.get((sdk, server))
            results = [] if run is None else list(run.results.values())
            cells.append(cell(results, "" if run is None else f"r{numbered[id(run)]}"))
        yield f"<tr><th>{escape(sdk)}</th>{''.join(cells)}</tr>"
    yield "</table>"


def cell(results: Sequence[Members], anchor: str) -> str:
    """Write one cell: passes of all, and whether anything is unexpected."""
    if not results:
        return '<td class="none">none</td>'
    good = sum(found["status"] == PASS for found in results)
    bad = sum(bool(found.get("unexpected")) for found in results)
    kind = "bad" if bad else "good" if good == len(results) else "known"
    return f'<td class="{kind}"><a href="#{escape(anchor)}">{good}/{len(results)}</a></td>'


def section(run: Run, number: int) -> Iterator[str]:
    """Write what a run is, and its cases by suite."""
    yield f'<h2 id="r{number}">{escape(run.subject)}</h2>'
    facts = {name: value for name, value in run.header.items() if value and name != "type"}
    shown = "\n".join(f"{name}: {terminal.short(value)}" for name, value in facts.items())
    yield f"<pre>{escape(shown)}</pre>"
    if not run.is_complete:
        why = run.footer.get("error", "no footer")
        yield f'<p class="bad">The run broke off: {escape(str(why))}</p>'
    folders: dict[str, list[Members]] = defaultdict(list)
    for found in run.results.values():
        folders[folder_of(found)].append(found)
    for name in sorted(folders):
        yield from suite(name, folders[name], f"r{number}-{name}")


def suite(name: str, results: Sequence[Members], anchor: str) -> Iterator[str]:
    """Write the cases of one suite; what is unexpected is open."""
    counts = Counter(found["status"] for found in results)
    totals = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
    bad = any(found.get("unexpected") for found in results)
    state = " open" if bad else ""
    yield f'<details id="{escape(anchor)}"{state}><summary>{escape(name)}: {totals}</summary>'
    for found in results:
        if found["status"] != PASS:
            flag = " open" if found.get("unexpected") else ""
            head = f"{found['id']}: {found['status']} {found.get('message', '')}"
            yield f"<details{flag}><summary>{escape(head)}</summary>"
            yield f"<pre>{escape(terminal.failure(found))}</pre></details>"
    passed = [found for found in results if found["status"] == PASS]
    if passed:
        yield f"<details><summary>{len(passed)} passed</summary><div class=ids>"
        for found in passed:
            flags = ", ".join(found["flags"])
            yield f"<div><code>{escape(found['id'])}</code> {escape(flags)}</div>"
        yield "</div></details>"
    yield "</details>"
