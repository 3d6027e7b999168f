"""The last sections: the books, conflicts, evidence for a register, and how to run it again.

The invariant of this file: what only a person can fill in is a blank with a name, and what makes
the same bytes again is given whole.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

import yaml

from fractal_lba_server.judge.parts import CLASSES

from .html import Markup, element, joined, paragraph, section, table, with_interval
from .numbers import estimate, figure, in_brackets, interval

Document = Mapping[str, Any]

COUNTED: Final = {
    "conflicts": "conflicts answered",
    "displaced": "acknowledged writes displaced",
    "lost": "acknowledged writes gone at the end",
    "recovered_late": "gone at the failover, recovered late with a disk",
    "brought_by_outbox": "gone, and brought again by an outbox",
    "refused": "requests refused",
    "unknown": "requests without an answer",
}


def records(results: Document) -> Markup:
    """Show the books of all runs, and what conflicts did to acknowledged records."""
    found = results["accounts"]
    names = ("acked", *CLASSES)
    rows = [
        (region, *[figure(row[name]) for name in names]) for region, row in found["regions"].items()
    ]
    rows.append(("all regions", *[figure(found["total"][name]) for name in names]))
    heads = ("Region", "acknowledged", *CLASSES)
    equation = (
        "The books add up in every region." if found["add_up"] else "THE BOOKS DO NOT ADD UP."
    )
    return section(
        "records",
        "The books: conflicts, displaced and lost records",
        paragraph(
            "Every acknowledged record is in exactly one class: acknowledged = winner + duplicate "
            f"+ displaced + lost. {equation} Displaced records were acknowledged as first in one "
            "region, and overridden because another region had also accepted that id."
        ),
        table("Acknowledged records of all judged runs", heads, rows),
        _per_run(found),
        _anomalies(results["anomalies"]),
    )


def _per_run(found: Document) -> Markup:
    rows = [
        (
            text,
            figure(found["counted"][name]),
            _share(found["per_run"][name]["runs_with"]),
            with_interval(
                estimate(found["per_run"][name]["mean"]), interval(found["per_run"][name]["mean"])
            ),
            figure(found["per_run"][name]["max"]),
        )
        for name, text in COUNTED.items()
        if name in found["per_run"]
    ]
    heads = ("What", "In all", "Runs with any", "Mean of a run", "Worst run")
    return table("Counted apart, in all runs and in a single run", heads, rows)


def _share(found: Document) -> object:
    if not found["happened"]:
        return f"0, below {figure(found['bound'], '%')}"
    low, high = figure(found["low"], "%"), figure(found["high"], "%")
    return with_interval(figure(found["value"], "%"), f"{low} to {high}")


def _anomalies(found: Document) -> Markup:
    rows = [
        (name.replace("_", " "), figure(row["count"]), _share(row["runs"]))
        for name, row in found.items()
    ]
    heads = ("Anomaly", "In all", "Runs with any")
    return table("Anomalies looked for", heads, rows)


def evidence(results: Document) -> Markup:
    """Give the entries of a register of resilience tests; some are left to the auditor."""
    found = results["evidence"]
    sample = found["sample"]
    sampled = (
        f"{figure(sample['runs'])} runs, {figure(sample['incidents'])} incidents, "
        f"{figure(sample['simulated_hours'])} simulated hours"
    )
    gaps = joined(
        element("div", f"{gap['promise']}: {gap['state']} ({gap['why']})") for gap in found["gaps"]
    )
    remediation = joined(element("div", change) for change in found["remediation"])
    rows: list[tuple[str, object]] = [
        ("Scenario type", ", ".join(found["scenario_type"]) or "no fault"),
        ("Scenario", found["scenario"]),
        ("Systems in scope", ", ".join(found["systems"])),
        ("Method", found["method"]),
        ("Sample", sampled),
        *[(name.upper(), _objective(found[name])) for name in ("rto", "rpo")],
        ("Result", found["result"]),
        ("Gaps", gaps or "none found, within the bounds of this report"),
        ("Remediation", remediation or "none proposed"),
        *[
            (name.replace("_", " ").capitalize(), element("span", "to be filled in", kind="blank"))
            for name in found["left_to_the_auditor"]
        ],
    ]
    items = joined(joined([element("dt", name), element("dd", value)]) for name, value in rows)
    return section(
        "evidence",
        "Evidence for a register",
        paragraph(
            "The fields that registers under DORA and similar rules ask for; the member evidence "
            "of results.json has them for programs."
        ),
        element("dl", items),
        element(
            "details",
            element("summary", "As JSON"),
            element("pre", json.dumps(found, indent=1, ensure_ascii=False)),
        ),
    )


def _objective(found: Document) -> Markup:
    objective = found["objective_s"]
    promised = "no objective" if objective is None else f"objective {figure(objective, 's')}"
    achieved = joined(
        element("div", f"{row['incident']}: {row['percentile']} {_with_interval(row['seconds'])}")
        for row in found["achieved"]
        if row["percentile"]
    )
    return joined([element("div", promised), achieved or "too few incidents for a percentile"])


def _with_interval(found: Document) -> str:
    return f"{estimate(found, 's')}{in_brackets(interval(found, 's'))}"


def reproduce(results: Document) -> Markup:
    """Give the command, the versions and the digests that make the same bytes again."""
    run = results["run"]
    rows = [
        ("Engine", run["engine"]),
        ("Runs", f"{figure(run['done'])} of {figure(run['runs'])}, from seed {run['seed']}"),
        ("Versions", ", ".join(f"{name} {text}" for name, text in run["versions"].items())),
        ("Scenario, SHA-256", element("code", results["scenario"]["digest"])),
        ("Outcomes, SHA-256", element("code", run["outcomes_sha256"])),
    ]
    items = joined(joined([element("dt", name), element("dd", value)]) for name, value in rows)
    return section(
        "reproduce",
        "Run it again",
        paragraph("The same scenario, seed, runs and versions give this page byte for byte."),
        element("pre", run["command"]),
        _again(results),
        element("dl", items),
    )


def source_of(results: Document) -> str | None:
    """Give the scenario as the command named it; None if another program made the results."""
    match shlex.split(results["run"]["command"]):
        case ["flk-sim", "run" | "sweep", source, *_]:
            return source
    return None


def _again(results: Document) -> Markup:
    """Give the command that tells the worst incident; a drill and an overlay have none."""
    seeds = [row["seed"] for group in results["incidents"] for row in group["worst"][:1]]
    words, source = shlex.split(results["run"]["command"]), source_of(results)
    overlaid = {"--short", "--control"} & set(words)
    if not seeds or source is None or overlaid or results["run"]["engine"] == "live":
        return Markup("")
    again = ["flk-sim", "replay", source, "--seed", str(seeds[0])]
    return joined(
        [
            paragraph("One run as a timeline, here that with the worst incident:"),
            element("pre", shlex.join([*again, "--engine", results["run"]["engine"]])),
        ]
    )


def scenario(results: Document) -> Markup:
    """Give the scenario as it was run."""
    document = results["scenario"]["document"]
    text = yaml.safe_dump(document, allow_unicode=True, width=80, default_flow_style=None)
    return section(
        "scenario",
        "The scenario",
        paragraph("As it was run: overlays are laid over it, and units stand in the names."),
        element("pre", text),
    )
