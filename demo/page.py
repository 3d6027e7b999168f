"""Render the account of a run as one HTML page: no script, no file beside it, no network.

A content security policy in the page forbids what the page promises not to do. Colours are
variables, set once for light and once for dark; paper is always light.
"""

from __future__ import annotations

import re
from html import escape
from string import Template
from typing import Any, Final

from demo.account import Account, Step, Table
from demo.charts import bars_chart, latency_chart, months_chart, progress_chart

ROWS_INLINE_MAX: Final = 12
"""A longer table stands at the end of the page, and its step links to it."""

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #ffffff; --ink: #1d2327;
  --soft: #5b6770; --rule: #dcdad3; --main: #0b6b74; --no: #b4491f; --band: #f3dccf; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181b; --card: #1c2226; --ink: #e4e7e9; --soft: #9aa6ae;
    --rule: #343d43; --main: #5cc4cd; --no: #ef9468; --band: #4a2d20; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", "Noto Sans", sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.1rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; color: var(--soft); font-weight: 600; }
p { margin: .4rem 0; }
.lead, footer { color: var(--soft); }
a { color: var(--main); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem;
  padding: 1.1rem 1.2rem; margin: 1.1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: .7rem; margin: 1.5rem 0;
  padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem;
  padding: .7rem .8rem; line-height: 1.35; font-size: .85rem; color: var(--soft); }
.tiles b { display: block; font-size: 1.45rem; color: var(--main); font-weight: 650;
  font-variant-numeric: tabular-nums; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88em; }
p code { white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; padding: .7rem .8rem;
  border: 1px solid var(--rule); border-radius: .35rem; background: var(--paper); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .6rem 0;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 600; }
figure { margin: 0; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; margin: .2rem 0; }
svg text { fill: var(--soft); font: 13px system-ui, "Noto Sans", sans-serif; }
.grid { stroke: var(--rule); fill: none; }
.line { stroke: var(--main); stroke-width: 2; fill: none; stroke-linejoin: round; }
.dot, .bar { fill: var(--main); }
.bar.no { fill: var(--no); }
.band { fill: var(--band); }
.kill { stroke: var(--no); stroke-width: 2; stroke-dasharray: 4 3; fill: none; }
@media (max-width: 34rem) {
  .tiles { grid-template-columns: 1fr 1fr; }
  main { padding: 1.5rem .8rem 2rem; }
  section { padding: .9rem .85rem; }
  svg text { font-size: 15px; }
  table { font-size: .8rem; }
  th, td { padding: .25rem .3rem; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --soft: #444;
    --rule: #bbb; --main: #0b6b74; --no: #b4491f; --band: #eee; }
  body { font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  section, .tiles li { border-radius: 0; }
  section { border-width: 1px 0 0; padding: .6rem 0; }
  svg, pre, tr, .tiles, figure { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  section[id] { break-before: page; }
}
"""

PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>fractal-lba: one run of the demo</title>
<style>$style</style>
</head>
<body>
<main>
<h1>One run of the main job, on real data</h1>
<p class="lead">Daily weather of Seattle was summarised, signed, submitted and kept while the server
was killed again and again. What is promised below was checked while it happened; had one promise
failed, the run would have ended there, without this page.</p>
<ul class="tiles">$tiles</ul>
$steps
$long_tables
<footer>
<h3>Made by</h3>
<pre>$command</pre>
<p>$versions. Data: <code>seattle-weather.csv</code> of the package <code>vega_datasets</code>,
from the National Oceanic and Atmospheric Administration.</p>
</footer>
</main>
</body>
</html>
""")


def render(account: Account) -> str:
    """Give the page of a finished run."""
    figures, steps = account.figures, list(enumerate(account.steps, 1))
    versions = ", ".join(f"{name} {text}" for name, text in figures["versions"].items())
    return PAGE.substitute(
        style=STYLE,
        tiles=_tiles(figures, account.promises_kept),
        steps="\n".join(_step(number, step, figures) for number, step in steps),
        long_tables="".join(_long_tables(number, step) for number, step in steps),
        command=escape(figures["command"]),
        versions=escape(versions),
    )


def _tiles(figures: dict[str, Any], promises_kept: int) -> str:
    load = figures["load"]
    tiles = (
        (f"{load['checked']:,}", "acknowledged outcomes read back"),
        (f"{load['lost']}", f"lost: below {load['bound_95'] * 100:.2f} % with 95 % confidence"),
        (f"{len(load['kills'])}", "kills of the server under load"),
        (f"{promises_kept}", f"promises held, in {figures['seconds']:.0f} seconds"),
    )
    return "".join(f"<li><b>{escape(n)}</b>{escape(text)}</li>" for n, text in tiles)


def _step(number: int, step: Step, figures: dict[str, Any]) -> str:
    parts = [f"<h2>{escape(step.title)}</h2>"]
    for part in step.parts:
        if isinstance(part, str):
            parts.append(f"<p>{_prose(part)}</p>")
        elif len(part) > ROWS_INLINE_MAX:
            parts.append(f'<p><a href="#table-{number}">All {len(part) - 1} records</a></p>')
        elif number != OUTCOMES_STEP:  # its chart shows the same numbers
            parts.append(_table(part))
    parts += _charts(number, figures)
    return f"<section>{''.join(parts)}</section>"


MONTHS_STEP: Final = 2
OUTCOMES_STEP: Final = 3
KILL_STEP: Final = 8


def _charts(number: int, figures: dict[str, Any]) -> list[str]:
    """Give the charts and texts that belong to a step."""
    if number == MONTHS_STEP:
        months = figures["months"]
        chart = months_chart([m["D_hat"] for m in months], [m["month"] for m in months])
        return [_figure("D_hat by month", chart)]
    if number == OUTCOMES_STEP:
        return [
            _figure("Verdicts", bars_chart(figures["outcomes"], "Records by verdict")),
            "<h3>The first outcome, as it is stored</h3>",
            f"<pre>{escape(figures['first_outcome_text'])}</pre>",
        ]
    if number == KILL_STEP:
        load = figures["load"]
        kills = [(kill["at_s"], kill["away_s"]) for kill in load["kills"]]
        times = load["latency_ms"]
        return [
            _figure(
                "Records acknowledged over time; a band is a server killed and not yet back",
                progress_chart(load["answered_at_s"], kills),
            ),
            _figure(
                f"Answers by time taken, disk included: median {times['median']:.1f} ms, "
                f"99 % within {times['p99']:.0f} ms",
                latency_chart(load["latencies_ms"]),
            ),
        ]
    return []


def _figure(title: str, chart: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{chart}</figure>"


def _long_tables(number: int, step: Step) -> str:
    title = escape(step.title.partition(". ")[2])
    return "".join(
        f'<section id="table-{number}"><h2>{title}</h2>{_table(part)}</section>'
        for part in step.parts
        if not isinstance(part, str) and len(part) > ROWS_INLINE_MAX
    )


def _table(rows: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:]
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _prose(text: str) -> str:
    """Escape a paragraph, and set what stands in backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
