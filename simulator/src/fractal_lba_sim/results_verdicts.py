"""Judge promises over runs: a promise holds only if it held in every run, and in enough of them.

The invariant of this file: one run that fails refutes a promise, and no number of runs below the
limit confirms one. Invalid runs are counted and named, never judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN
from fractal_lba_server.judge.recovery import zero_bound

from .report.numbers import counted, figure
from .stats import share_of

Document = dict[str, Any]
Outcome = Mapping[str, Any]

RUNS_NEEDED: Final = 59
"""Runs before a promise may hold: so many without a failure bound its rate below 5 %."""

INVALID_SHARE_MAX: Final = 0.05
"""With more invalid runs than this nothing holds: what was left out could be what fails."""

VALIDITY: Final = frozenset({"complete", "effects"})
"""Verdicts about the run itself; they decide whether it is judged."""

INVALID_SHOWN: Final = 100
"""Invalid runs that results name one by one; all are counted."""

SENTENCES: Final = {
    "rto_s": "Clients recover within {} of a disruption",
    "rpo_s": "No acknowledged record that is gone was older than {}",
    "rpo_work_s": "What is gone is the work of at most {}",
    "rpo_records": "At most {} acknowledged records are gone",
    "no_loss_at_level": "Nothing acknowledged as {} is lost",
    "no_loss_end_to_end": "Whatever an outbox took stands at the end",
    "linearizable": "Each id is a register that is written once ({})",
    "digests_equal": "Regions are in one state after every heal and at the end",
    "single_writer": "One region writes at a time",
    "canary": "No known duplicate is taken as new",
    "displaced_max": "At most {} acknowledged writes are overridden",
    "displaced_min": "At least {} conflicts arise, and both records of each are kept",
    "recovered_late_min": "At least {} records come back with the disk that held them",
    "stale_read_ms_max": "Reads are at most {} behind another region",
    "success_share_min": "At least {} of all calls are good",
    "errors_max": "At most {} requests fail",
    "write_pause_ms_max": "Writes pause for at most {} around a change",
    "lag_p99_ms_max": "Replication is at most {} behind, in 99 % of measurements",
    "hlc_ahead_ms_max": "No write claims a time more than {} ahead",
    "refused_min": "At least {} requests are refused rather than guessed",
    "residency": "No byte of a locked tenant is where it may not be",
    "accounting": "Every acknowledged write is in exactly one class",
    "answers": "A duplicate is told the outcome of its own content, in the same bytes",
    "phantom": "Nothing is held that nobody sent",
    "first_write": "Of two contents under one id the one that came first stands",
    "resurrected": "What was overridden never stands again",
}
"""Promises in words; the value that a scenario promises stands in the braces."""


UNITS: Final = {"_ms_max": "ms", "share": "%", "rto_s": "s", "rpo_s": "s", "work_s": "s"}
"""The unit of a promise by a part of its name; the first that is found counts."""


def promise_text(name: str, value: Any) -> str:
    """Say a promise as a sentence."""
    shown = str(value).replace("_", " ")
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = figure(value, next((u for end, u in UNITS.items() if end in name), ""))
    return SENTENCES.get(name, name.replace("_", " ")).format(shown)


def invalid_runs(outcomes: Sequence[Outcome]) -> Document:
    """Count and name the runs that are not judged, with the reason."""
    found = [
        {
            "seed": outcome["seed"],
            "said": next(
                (v["said"] for v in outcome["verdicts"]
                 if v["name"] in VALIDITY and v["state"] != HOLDS),
                "the run says that it is not valid",
            ),
        }
        for outcome in outcomes
        if not outcome["valid"]
    ]  # fmt: skip
    return {"count": len(found), "shown": found[:INVALID_SHOWN]}


def runs_needed(promises: Mapping[str, Any]) -> int:
    """Give how many judged runs a promise must hold in before it holds."""
    return int(promises.get("evidence", {}).get("runs", RUNS_NEEDED))


def verdicts_over(promises: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[Document]:
    """Judge every promise over runs; `outcomes` are all of them, valid or not."""
    judged = [outcome for outcome in outcomes if outcome["valid"]]
    invalid = len(outcomes) - len(judged)
    too_many = invalid > INVALID_SHARE_MAX * len(outcomes)
    needed = runs_needed(promises)
    by_name: dict[str, list[tuple[int, str, str]]] = {}
    for outcome in judged:
        for verdict in outcome["verdicts"]:
            row = (outcome["seed"], verdict["state"], verdict["said"])
            by_name.setdefault(verdict["name"], []).append(row)
    names = [name for name in by_name if name not in VALIDITY]
    promised = [name for name in names if name in promises]
    always = [name for name in names if name not in promises]
    found = [
        _verdict(name, promises.get(name), by_name[name], runs=len(judged), needed=needed)
        for name in (*promised, *always)
    ]
    for verdict in found:
        if too_many and verdict["state"] == HOLDS:
            verdict["state"] = UNPROVEN
            verdict["why"] = f"{figure(invalid)} of {figure(len(outcomes))} runs are invalid"
    return found


def _verdict(
    name: str, value: Any, rows: Sequence[tuple[int, str, str]], *, runs: int, needed: int
) -> Document:
    states = [state for _, state, _ in rows]
    held, failed = states.count(HOLDS), states.count(FAILS)
    unproven = runs - held - failed
    telling = FAILS if failed else UNPROVEN if unproven else HOLDS
    seed, said = next(((s, said) for s, state, said in rows if state == telling), (None, ""))
    decided = held + failed
    if failed:
        state, why = FAILS, f"failed in {figure(failed)} of {counted(decided, 'judged run')}"
    elif unproven:
        state, why = UNPROVEN, f"{figure(unproven)} of {counted(runs, 'run')} could not tell"
    elif runs < needed:
        state = UNPROVEN
        why = (
            f"held in {_all(runs)}, which leaves a failure rate of up to "
            f"{figure(zero_bound(runs), '%')}; {figure(needed)} runs are needed"
        )
    else:
        state = HOLDS
        why = (
            f"held in {_all(runs)}: it fails in fewer than "
            f"{figure(zero_bound(runs), '%')} of them, with 95 % confidence"
        )
    return {
        "name": name,
        "promised": value,
        "text": promise_text(name, value),
        "state": state,
        "why": why,
        "runs": runs,
        "held": held,
        "failed": failed,
        "unproven": unproven,
        "failing_share": dict(share_of(failed, decided)._asdict()) if decided else None,
        "seed": seed,
        "said": said,
    }


def _all(runs: int) -> str:
    return "the only run" if runs == 1 else f"all {figure(runs)} runs"


def control_verdict(must_fail: Sequence[str], verdicts: Sequence[Document]) -> Document:
    """Say whether a negative control failed as it must: in every run, by every named promise."""
    by_name = {verdict["name"]: verdict for verdict in verdicts}
    rows = [
        {
            "name": name,
            "failed": by_name.get(name, {}).get("failed", 0),
            "runs": by_name.get(name, {}).get("runs", 0),
        }
        for name in must_fail
    ]
    return {"must_fail": rows, "as_expected": all(r["failed"] == r["runs"] > 0 for r in rows)}
