"""Command `report`: make JUnit XML, Markdown and HTML from one or more `results.ndjson`.

Every report says the same: what is unexpected first, then what is known, then skips with their
reasons, then totals per level. A run that broke off, also because the harness failed, has a report
that says so.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from . import report_html, terminal
from .judge import FLAKY, PASS, SKIP, STATUSES, XFAIL
from .results import Members, ResultsError, Run, read

UNFIT: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""

ERRORS: Final = frozenset({"crash", "timeout", "err-protocol"})
"""Statuses that JUnit calls errors rather than failures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("results", nargs="+", type=Path, metavar="results.ndjson")
    parser.add_argument("--junit", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Write the reports that are asked for, or the Markdown to standard output."""
    try:
        runs = [read(path) for path in options.results]
    except (OSError, ResultsError) as error:
        sys.stderr.write(f"flk-conformance: {error}\n")
        return 2
    made = {options.junit: junit, options.markdown: markdown, options.html: report_html.page}
    asked = {path: make for path, make in made.items() if path is not None}
    for path, make in asked.items():
        path.write_text(make(runs), encoding="utf-8")
    if not asked:
        sys.stdout.write(markdown(runs))
    return 0


def write_all(results: Path) -> None:
    """Write every report beside the results of a run."""
    runs = [read(results)]
    results.with_name("junit.xml").write_text(junit(runs), encoding="utf-8")
    results.with_suffix(".md").write_text(markdown(runs), encoding="utf-8")
    results.with_suffix(".html").write_text(report_html.page(runs), encoding="utf-8")


# --- JUnit ---------------------------------------------------------------------------------


def junit(runs: Sequence[Run]) -> str:
    """Write JUnit XML: one suite per folder of vectors, and one for each run that broke off."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for run in runs:
        folders: dict[str, list[Members]] = defaultdict(list)
        for found in run.results.values():
            folders[found["suite"].partition("/")[0]].append(found)
        for folder in sorted(folders):
            lines += junit_suite(f"{run.subject}.{folder}", folders[folder])
        if not run.is_complete:
            lines += junit_broken(run)
    return "\n".join([*lines, "</testsuites>", ""])


def junit_suite(name: str, results: Sequence[Members]) -> Iterator[str]:
    """Write one suite."""
    counts = Counter(kind_of(found) for found in results)
    head = f"tests={quoteattr(str(len(results)))}" + "".join(
        f' {kind}="{counts[kind]}"' for kind in ("failures", "errors", "skipped")
    )
    yield f"<testsuite name={attribute(name)} {head}>"
    for found in results:
        start = f"<testcase classname={attribute(name)} name={attribute(found['id'])}"
        body = junit_body(found)
        yield f"{start}>{body}</testcase>" if body else f"{start}/>"
    yield "</testsuite>"


def kind_of(found: Members) -> str:
    """Say how JUnit counts a result."""
    if found.get("unexpected"):
        return "errors" if found["status"] in ERRORS else "failures"
    return "passed" if found["status"] == PASS else "skipped"


def junit_body(found: Members) -> str:
    """Write what stands inside a test case."""
    kind, message = kind_of(found), attribute(found.get("message") or found["status"])
    if kind == "passed":
        return ""
    if kind == "skipped":
        return f"<skipped message={message}/>"
    tag = {"errors": "error", "failures": "failure"}[kind]
    text = fit(escape(terminal.failure(found)))
    return f"<{tag} type={attribute(found['status'])} message={message}>{text}</{tag}>"


def junit_broken(run: Run) -> list[str]:
    """Write the suite of a run that did not come to its end."""
    why = attribute(run.footer.get("error", "the run broke off without a footer"))
    name = attribute(f"{run.subject}.harness")
    return [
        f'<testsuite name={name} tests="1" failures="0" errors="1" skipped="0">',
        f'<testcase classname={name} name="run"><error type="harness" message={why}/></testcase>',
        "</testsuite>",
    ]


def attribute(text: str) -> str:
    """Quote a text as an attribute."""
    return quoteattr(fit(text), {"\n": "&#10;"})


def fit(text: str) -> str:
    """Replace what XML cannot hold."""
    return UNFIT.sub("\ufffd", text)


# --- Markdown ------------------------------------------------------------------------------


def markdown(runs: Sequence[Run]) -> str:
    """Write Markdown, for a summary of a step."""
    return "\n".join(line for run in runs for line in (*markdown_run(run), ""))


def markdown_run(run: Run) -> Iterator[str]:
    """Write one run."""
    yield f"## {cell(run.subject)}"
    yield ""
    yield summary(run)
    if not run.is_complete:
        yield ""
        yield f"**The run broke off**: {cell(run.footer.get('error', 'no footer'))}"
    yield from markdown_list("Unexpected", run.unexpected())
    yield from markdown_list("Known failures", run.by_status(XFAIL, FLAKY))
    skips = [found for found in run.by_status(SKIP) if not found.get("unexpected")]
    if skips:
        yield from ("", "### Skipped", "", "| Operation | Cases | Reason |", "| --- | --- | --- |")
        reasons = Counter((found["op"], found.get("message", "")) for found in skips)
        for (op, reason), count in sorted(reasons.items()):
            yield f"| `{op}` | {count} | {cell(reason)} |"
    yield from ("", "### Totals", "")
    yield from levels(run)


def summary(run: Run) -> str:
    """Say in a line what was judged by what, and how it went."""
    counts = run.totals()
    header = run.header
    totals = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s]) or "nothing"
    facts = [f"vectors {header['vectors']}"] if header.get("vectors") else []
    facts += [f"suite hash `{header['suite_hash'][:16]}`"] if header.get("suite_hash") else []
    return f"{totals}; {len(run.unexpected())} unexpected ({', '.join([header['tool'], *facts])})"


def markdown_list(title: str, results: Sequence[Members]) -> Iterator[str]:
    """Write results as a table."""
    if not results:
        return
    yield from ("", f"### {title}", "", "| Case | Status | What | Sentences |")
    yield "| --- | --- | --- | --- |"
    for found in results:
        cited = ", ".join((*filter(None, [found.get("sentence")]), *found.get("spec", ())))
        what = cell(found.get("message", ""))
        yield f"| `{found['id']}` | {found['status']} | {what} | {cited} |"
    if lines := [found["repeat"] for found in results if found.get("repeat")]:
        yield from ("", "```", *lines[:5], "```")


def levels(run: Run) -> Iterator[str]:
    """Write a table of the totals per level."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for found in run.results.values():
        table[found["level"]][found["status"]] += 1
    columns = [status for status in STATUSES if any(table[level][status] for level in table)]
    yield f"| Level | {' | '.join(columns)} |"
    yield f"| --- |{' --- |' * len(columns)}"
    for level in sorted(table):
        yield f"| {level} | {' | '.join(str(table[level][status]) for status in columns)} |"


def cell(text: Any) -> str:
    """Write a text into a cell of a table."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(str(text).split()))[:300]
