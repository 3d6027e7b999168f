"""The style of the page: one set of variables for light, one for dark; paper is always light."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --paper: #faf9f6; --card: #ffffff; --ink: #1b2226;
  --soft: #56626b; --rule: #dddad2; --main: #1f6f78; --bad: #a8401a; --band: #b9d4d3;
  --warn: #7a5a00; --good: #27683c; --tint-bad: #f8e9e2; --tint-good: #e6f1e8;
  --tint-warn: #f7efd8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #13171a; --card: #1a2023; --ink: #e6e9ea; --soft: #a2adb4; --rule: #353d42;
    --main: #6cc0c6; --bad: #f0986f; --band: #2f5559; --warn: #e3c26a; --good: #86cf9b;
    --tint-bad: #3a2319; --tint-good: #1b3323; --tint-warn: #362d13; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1, h2 { font-family: Charter, "Bitstream Charter", "Sitka Text", Cambria, "Noto Serif",
  "DejaVu Serif", Georgia, serif; font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: 2.1rem; margin: .2rem 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.4rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { margin: .5rem 0; max-width: 42rem; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 1.2rem; }
.eyebrow { font-size: .78rem; letter-spacing: .08em; text-transform: uppercase;
  color: var(--soft); margin: 0; }
.lead { font-size: 1.1rem; color: var(--soft); }
.note, figcaption, footer { color: var(--soft); font-size: .9rem; }
section { padding: 2.2rem 0 .4rem; border-bottom: 1px solid var(--rule); }
section:last-of-type { border-bottom: 0; }
a { color: var(--main); }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 1rem 0 1.2rem;
  padding: 1px; list-style: none; background: var(--rule); border-radius: .3rem; }
.tiles li { background: var(--card); padding: .8rem .9rem; font-size: .84rem; line-height: 1.35;
  color: var(--soft); }
.tiles b { display: block; font-size: 1.4rem; line-height: 1.25; color: var(--ink);
  font-weight: 600; font-variant-numeric: tabular-nums; }
.banner { border-left: .3rem solid var(--soft); background: var(--card); padding: .8rem 1rem;
  margin: .8rem 0 1.2rem; max-width: none; font-size: 1.05rem; }
.banner.holds { border-color: var(--good); background: var(--tint-good); }
.banner.fails { border-color: var(--bad); background: var(--tint-bad); }
.banner.unproven { border-color: var(--warn); background: var(--tint-warn); }
.state { font-weight: 650; white-space: nowrap; }
.state.holds { color: var(--good); }
.state.fails { color: var(--bad); }
.state.unproven { color: var(--warn); }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .85rem; padding-bottom: .4rem; }
th, td { text-align: right; vertical-align: top; padding: .38rem .6rem;
  border-bottom: 1px solid var(--rule); font-weight: 400; }
thead th { color: var(--soft); font-size: .8rem; font-weight: 600; vertical-align: bottom;
  border-bottom-color: var(--soft); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child > * { border-bottom: 0; }
.words th, .words td { text-align: left; }
.points { margin: .5rem 0; padding-left: 1.2rem; max-width: 42rem; }
.points li { margin: .3rem 0; }
summary { color: var(--soft); font-size: .9rem; cursor: pointer; }
.words td { max-width: 28rem; overflow-wrap: anywhere; }
td small, th small { display: block; color: var(--soft); font-size: .8rem; }
tbody th { overflow-wrap: break-word; }
dl { display: grid; grid-template-columns: 13rem 1fr; gap: .35rem 1rem; margin: .8rem 0;
  font-size: .93rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.blank { display: inline-block; min-width: 12rem; border-bottom: 1px dotted var(--soft);
  color: var(--soft); }
code, pre { font-family: ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace;
  font-size: .85rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .6rem 0; padding: .8rem .9rem;
  border: 1px solid var(--rule); border-radius: .3rem; background: var(--card);
  line-height: 1.45; }
figure { margin: .6rem 0 1rem; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: system-ui, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
.narrow { display: none; }
@media (max-width: 40rem) {
  main { padding: 1.6rem 1rem 2.5rem; }
  h1 { font-size: 1.6rem; }
  h2 { font-size: 1.25rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .wide { display: none; }
  .narrow { display: block; }
  dl { grid-template-columns: 1fr; gap: .1rem; }
  dd { margin-bottom: .5rem; }
  table { font-size: .84rem; }
  th, td { padding: .35rem .45rem; }
  .words thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  .stack thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  .words tr, .stack tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--rule); }
  .words th[scope=row], .words td, .stack th[scope=row], .stack td { display: block; border: 0;
    padding: .1rem 0; text-align: left; }
  .words th[scope=row], .stack th[scope=row] { font-weight: 600; }
  .words td::before, .stack td::before { content: attr(data-head) ": "; color: var(--soft); }
  .stack td { display: grid; grid-template-columns: 5.5rem auto 1fr; gap: .5rem;
    align-items: baseline; }
}
@page { margin: 16mm 15mm 18mm; @bottom-right { content: counter(page) " / " counter(pages);
  font: 8pt system-ui, sans-serif; color: #444; } }
@media print {
  :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --soft: #444;
    --rule: #bbb; --main: #1f6f78; --bad: #a8401a; --band: #b9d4d3; --warn: #6b4f00;
    --good: #1f5a33; --tint-bad: #fff; --tint-good: #fff; --tint-warn: #fff; }
  html { font-size: 9.5pt; }
  body { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  p, .points { max-width: none; orphans: 3; widows: 3; }
  section { padding: 1.2rem 0 .2rem; }
  .tiles, figure, tr, dd, .banner { break-inside: avoid; }
  .tiles { border: 1px solid var(--rule); padding: 0; }
  h2, h3, caption, thead { break-after: avoid; }
  section > p, tbody tr:first-child { break-before: avoid; }
  details { display: none; }
  .scroll { overflow: visible; }
}
"""
