"""The sections for who has to judge the report: what it cannot say, and what its words mean.

The invariant of this file: every limit of the engine that played stands here, and every measure
is defined as the judge takes it (spec/drills.md 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fractal_lba_server.judge.recovery import GOOD_SHARE
from fractal_lba_server.judge.trace import PATIENCE_MS, STEADY_S

from .html import Markup, element, joined, paragraph, section
from .numbers import figure

Document = Mapping[str, Any]

LIMITS: Final = {
    "plan": "Records are played as flows. Single messages do not queue behind each other, and no "
    "ids, contents or reads are carried; what needs them is named below as not looked for. Torn "
    "writes and messages out of order are not played: a scenario with them is refused.",
    "exact": "The server's own core runs on simulated machines, disks, clocks and lines. Its "
    "processes, its HTTP layer and the operating system below them are not part of it.",
    "live": "Real processes ran on one machine, and a proxy between them delayed, dropped and cut. "
    "Distances, disks and load were those of that machine.",
}
"""What an engine leaves out, by its name."""

_OTHERS: Final = (
    "Only the faults listed above were injected, at the moments that the scenario gives them. "
    "Nothing here speaks of others, or of several at once where the scenario has one."
)
_DECLARED: Final = (
    "Hardware, provider and people behave as the scenario declares. It shows what follows if "
    "they do; whether they do, only measurements can show. Settings that the scenario leaves out "
    "have the server's defaults."
)
ALWAYS: Final = (
    _OTHERS,
    _DECLARED,
    "How often a fault happens is declared in the scenario, not measured.",
)

COLD_STANDBY: Final = (
    "A cold standby is played from declared times alone: the server has none of its own."
)


def limits(results: Document) -> Markup:
    """Say what nothing in the report speaks about."""
    items = joined(element("li", text) for text in _limits(results))
    return section(
        "limits",
        "What this report cannot say",
        element("ul", items, kind="points"),
        _not_judged(results["not_judged"]),
    )


def _limits(results: Document) -> Iterator[str]:
    engine = results["run"]["engine"]
    yield LIMITS.get(engine, f"What the {engine} engine leaves out is not known to this report.")
    yield from ALWAYS
    topology = results["scenario"]["document"]["topology"]
    kinds = {one.get("topology") for one in topology.get("placements", {}).values()}
    if "cold-standby" in kinds:
        yield COLD_STANDBY


def _not_judged(missing: Document) -> Markup:
    """Name what nobody looked for, so that nobody takes it for absent."""
    by_reason: dict[str, list[str]] = {}
    for name, why in missing.items():
        by_reason.setdefault(why, []).append(name.replace("_", " "))
    said = "; ".join(f"{', '.join(names)} ({why})" for why, names in sorted(by_reason.items()))
    return paragraph(f"Anomalies that were not looked for: {said}." if said else "")


def words(results: Document) -> Markup:
    """Define what is measured."""
    document = results["scenario"]["document"]
    patience_ms = document["load"].get("patience_ms", PATIENCE_MS)
    steady_s = document["promises"].get("steady_s", STEADY_S)
    meanings = {
        "Run": "The scenario played once. What varies is drawn from the run's seed; a run with "
         "the same seed is the same run.",
        "Judged run": "A run whose trace is whole and in which every fault had an effect. Any "
         "other is invalid, named, and counts in nothing else.",
        "Disruption": "The moment at which a fault was injected: the first clock.",
        "Declaration": "The moment at which somebody or something decided to go elsewhere: the "
         "second clock.",
        "Good call": f"A call answered within {figure(patience_ms, 'ms')} of the moment at which "
         "it was due. Calls are due on a schedule that does not wait for answers.",
        "RTO": "Of a client: from the clock until the first call from which on "
         f"{GOOD_SHARE * 100:g} % of its calls are good for {figure(steady_s, 's')}, and no second "
         "passes in which all fail; 0 if no call was hurt. Of an incident: that of its worst "
         "client.",
        "Phases": "Detect: until the fault is believed. Decide: until it is declared. Fence: "
         "until the old writer can write no more. Promote: until another region takes writes. "
         "Reroute: until clients reach it. Catch up, verify, fail back: until the region that "
         "was away holds what it missed, is believed, and has its clients again. Up to the "
         "recovery they add up to the RTO; what ends later is given apart.",
        "RPO": "The disruption minus the acknowledgement of the oldest acknowledged record that "
         "the survivors did not hold when they were counted; if nobody counted then, that was "
         "gone at the end. Work lost: from the oldest such acknowledgement to the youngest.",
        "State of recovery": "A kind of fault with the phases that took time, the classes of "
         "records in the run, and whether clients recovered. Runs of one state show nothing new.",
        "Percentile": "Of the nearest rank, given only where there are enough incidents for it "
         "(1,000 for p99.9); its 95 % interval is from order statistics.",
        "Holds, fails": "A promise fails if it failed in one judged run. It holds if it held in "
         "all, and in so many that a failure rate of 5 % is ruled out with 95 % confidence. "
         "Anything else is not enough evidence, which is never a pass.",
    }  # fmt: skip
    items = joined(
        joined([element("dt", name), element("dd", text)]) for name, text in meanings.items()
    )
    return section("words", "What the words mean", element("dl", items))
