"""The first sections: what was simulated, and only then which promises hold.

The invariant of this file: nothing is concluded before a reader has seen how much was done, what
was injected, what was never seen, and which runs were left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN
from fractal_lba_server.judge.parts import CLASSES
from fractal_lba_server.judge.recovery import PHASES

from .html import Markup, element, joined, paragraph, section, table
from .numbers import NONE, counted, figure

Document = Mapping[str, Any]

KINDS: Final = {HOLDS: "holds", FAILS: "fails", UNPROVEN: "unproven"}
PLURAL: Final = {
    "run": "runs", "incident": "incidents", "record in flight": "records in flight at a fault",
}  # fmt: skip
EFFECTS_SHOWN: Final = 4
INVALID_SHOWN: Final = 10


def headline(results: Document) -> tuple[str, str]:
    """Give the state of everything, and say it in a sentence."""
    states = [one["state"] for one in results["verdicts"]]
    failed, held = states.count(FAILS), states.count(HOLDS)
    if results["control"] is not None:
        if results["control"]["as_expected"]:
            return HOLDS, "Negative control: every promise that must fail did fail, in every run."
        return FAILS, "Negative control: a promise that must fail did not. The harness is blind."
    if failed:
        open_ones = states.count(UNPROVEN)
        more = f"; for {figure(open_ones)} there is not enough evidence" if open_ones else ""
        return (
            FAILS,
            f"{figure(failed)} of {counted(len(states), 'promise')} {_fail(failed)}{more}.",
        )
    if not states or held < len(states):
        missing = figure(len(states) - held)
        asked = counted(len(states), "promise")
        said = f"Not enough evidence for {missing} of {asked}. No promise failed."
        return UNPROVEN, said if states else "Not enough evidence: no run could be judged."
    if results["run"]["done"] < results["run"]["runs"]:
        return UNPROVEN, "Every promise held in the runs so far, but the work was interrupted."
    return HOLDS, f"All {counted(held, 'promise')} hold, within the bounds below."


def _fail(count: int) -> str:
    return "fails" if count == 1 else "fail"


def state_mark(state: str) -> Markup:
    """Write a state as a word; colour only repeats what the word says."""
    words = {HOLDS: "holds", FAILS: "fails", UNPROVEN: "not enough evidence"}
    return element("span", words[state], kind=f"state {KINDS[state]}")


def scope(results: Document) -> Markup:
    """Say what was done: hours, seeds, faults, states; runs that count for nothing by name."""
    found, run = results["scope"], results["run"]
    delivered = sum(row["delivered"] for row in found["faults"])
    seeds = found["seeds"]
    tiles = (
        (figure(found["simulated_hours"], "h"), "simulated hours in judged runs"),
        (
            figure(run["judged"]),
            f"judged runs, seeds {seeds['first']} to {seeds['last']}",
        ),
        (figure(delivered), f"times a fault was delivered; faults: {len(found['faults'])}"),
        (figure(found["covered"]["states"]), "different states of recovery seen"),
    )
    shown = joined(element("li", element("b", number), text) for number, text in tiles)
    return section(
        "scope",
        "What was simulated",
        element("ul", shown, kind="tiles"),
        _partial(run),
        paragraph(
            f"{figure(found['acknowledged'])} acknowledged records were followed to their end, "
            f"in traces of {figure(found['events'])} events."
        ),
        _faults(found["faults"]),
        _covered(found["covered"]),
        _invalid(found["invalid"], run["done"]),
    )


def _partial(run: Document) -> Markup:
    said = partial(run)
    return paragraph(said, kind="banner unproven") if said else Markup("")


def partial(run: Document) -> str:
    """Say what is missing of work that was interrupted; nothing if all is there."""
    if run["complete"]:
        return ""
    if run["done"] >= run["runs"]:
        return "Partial: all runs are here, but some changes that were to be tried are not."
    return (
        f"Partial: the work was interrupted after {figure(run['done'])} of {figure(run['runs'])} "
        "runs. Nothing here is final."
    )


def _faults(rows: list[Document]) -> Markup:
    cells = []
    for row in rows:
        effects = sorted(row["effects"].items(), key=lambda one: (-one[1], one[0]))
        shown = [f"{name.replace('_', ' ')} {figure(n)}" for name, n in effects[:EFFECTS_SHOWN]]
        cells.append((row["id"], row["kind"], figure(row["delivered"]), ", ".join(shown)))
    heads = ("Fault", "Kind", "Delivered", "What it was seen to do")
    return table("Faults injected, with the counts of their effects", heads, cells, kind="words")


def _covered(covered: Document) -> Markup:
    rows = []
    for row in covered["rows"]:
        counts = {name: row["phases"][name] for name in PHASES}
        counts["no recovery seen"] = row["not_recovered"]
        never = [name for name in PHASES if not counts[name] and not row["later"][name]]
        never += [name for name in CLASSES if not row["classes"][name]]
        rows.append(
            (
                row["kind"],
                figure(row["incidents"]),
                joined([_seen(counts), element("small", _after(row["later"]))]),
                _seen(row["classes"]),
                ", ".join(never).replace("_", " ") or NONE,
            )
        )
    heads = ("Kind of fault", "Incidents", "Phases up to recovery", "Records in those runs",
             "Never seen")  # fmt: skip
    caption = "States covered; of what was never seen nothing here speaks"
    return table(caption, heads, rows, kind="words")


def _after(counts: Document) -> str:
    return f"ended after it: {_seen(counts)}" if any(counts.values()) else ""


def _seen(counts: Document) -> str:
    shown = [f"{name.replace('_', ' ')} {figure(count)}" for name, count in counts.items() if count]
    return ", ".join(shown) or NONE


def _invalid(invalid: Document, done: int) -> Markup:
    if not invalid["count"]:
        return paragraph(f"Of {figure(done)} runs, none was invalid.", kind="note")
    rows = [(f"seed {row['seed']}", row["said"]) for row in invalid["shown"][:INVALID_SHOWN]]
    caption = (
        f"Invalid runs: {figure(invalid['count'])} of {figure(done)}. They count in nothing else."
    )
    return table(caption, ("Run", "Why"), rows, kind="words")


def verdicts(results: Document) -> Markup:
    """Give every promise its verdict with the share of runs and its bound."""
    state, said = headline(results)
    rows = []
    for one in results["verdicts"]:
        share = one["failing_share"]
        if share is None:
            failing = NONE
        elif share["happened"]:
            low, high = figure(share["low"], "%"), figure(share["high"], "%")
            failing = f"{figure(share['value'], '%')} of runs ({low} to {high})"
        else:
            failing = f"below {figure(share['bound'], '%')} of runs"
        telling = one["failed"] or one["unproven"]
        seed = f"Seed {one['seed']}: {one['said']}" if telling else ""
        rows.append(
            (
                joined([one["text"], element("small", one["name"])]),
                state_mark(one["state"]),
                failing,
                joined([one["why"], element("small", seed)]),
            )
        )
    heads = ("Promise", "Verdict", "Fails in", "Evidence")
    return section(
        "verdicts",
        "Verdicts",
        paragraph(said, kind=f"banner {KINDS[state]}"),
        table(
            "Promises over all judged runs; intervals of Clopper and Pearson, 95 %",
            heads,
            rows,
            kind="words",
        ),
        _control(results["control"]),
        _bounds(results["bounds"]),
    )


def _control(control: Document | None) -> Markup:
    if control is None:
        return Markup("")
    rows = [
        (row["name"], f"{figure(row['failed'])} of {figure(row['runs'])}")
        for row in control["must_fail"]
    ]
    return table("Negative control: these must fail in every run", ("Promise", "Failed in"), rows)


def _bounds(bounds: list[Document]) -> Markup:
    rows = [
        (
            row["what"],
            f"0 in {figure(row['trials'])} {PLURAL[row['per']]}",
            f"below {figure(row['below'], '%')} per {row['per']}",
        )
        for row in bounds
    ]
    caption = "What never happened, and the rate that this still allows with 95 % confidence"
    return table(caption, ("Event", "Seen", "Rate"), rows)
