"""Render results as one HTML page: no script, no file beside it, no network.

The invariant of this file: a content security policy in the page forbids what the page promises
not to do, and the order of sections is that of an honest argument: what was done, what follows
from it, what would help, and how to check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .advice_sections import cost, remedies, sensitivity
from .html import Markup, element, joined, paragraph, safe
from .reading_sections import limits, words
from .record_sections import evidence, records, reproduce, scenario
from .recovery_sections import availability, data_at_risk, recovery_time, timeline
from .scope_sections import scope, verdicts
from .style import STYLE

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

SECTIONS: Final = (
    scope, verdicts, limits, timeline, recovery_time, data_at_risk, availability, remedies, cost,
    sensitivity, records, evidence, words, reproduce, scenario,
)  # fmt: skip


def render(results: Mapping[str, Any]) -> str:
    """Give the page of results; the same results give the same page."""
    about, run = results["scenario"], results["run"]
    control = ", negative control" if about["control"] else ""
    header = element(
        "header",
        paragraph(f"Recovery report, {run['engine']} engine{control}", kind="eyebrow"),
        element("h1", about["title"]),
        paragraph(about["question"] or "", kind="lead"),
    )
    body = joined([header, *[made(results) for made in SECTIONS], _footer(results)], "\n")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{safe(about['title'])}: recovery report</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _footer(results: Mapping[str, Any]) -> Markup:
    run = results["run"]
    text = (
        f"fractal-lba-sim {run['versions']['fractal-lba-sim']}, scenario "
        f"{results['scenario']['digest'][:16]}, seed {run['seed']}."
    )
    return element("footer", paragraph(text))
