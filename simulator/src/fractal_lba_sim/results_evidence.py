"""Fill in what registers of resilience tests ask for, as far as a simulation can know it.

The invariant of this file: what only a person can say is left empty and named as theirs; it is
never guessed. The fields follow what DORA-style registers have in common: type of scenario, date,
systems in scope, objectives, what was achieved, gaps, remediation.
"""

from __future__ import annotations

from typing import Any, Final

from fractal_lba_server.judge.check import FAILS, HOLDS

from .results_recovery import SHARES

Document = dict[str, Any]

BY_THE_AUDITOR: Final = ("date", "performed_by", "reviewed_by", "approved_by")
METHODS: Final = {
    "plan": "simulation of record flows (plan engine)",
    "exact": "simulation with the server's own core, record by record (exact engine)",
    "live": "drill with real server processes on one machine (live engine)",
}


def evidence(results: Document) -> Document:
    """Give the fields of a register entry."""
    document = results["scenario"]["document"]
    promises = document["promises"]
    groups = results["incidents"]
    return {
        **dict.fromkeys(BY_THE_AUDITOR),
        "left_to_the_auditor": list(BY_THE_AUDITOR),
        "scenario_type": sorted({group["kind"] for group in groups}),
        "scenario": results["scenario"]["title"],
        "scenario_digest": results["scenario"]["digest"],
        "method": METHODS.get(results["run"]["engine"], results["run"]["engine"]),
        "systems": [region["code"] for region in document["topology"]["regions"]],
        "sample": {
            "runs": results["run"]["judged"],
            "incidents": sum(group["rto_s"]["n"] for group in groups),
            "simulated_hours": results["scope"]["simulated_hours"],
        },
        "rto": {
            "objective_s": promises.get("rto_s"),
            "achieved": [achieved(group, "rto_s") for group in groups],
        },
        "rpo": {
            "objective_s": promises.get("rpo_s"),
            "achieved": [achieved(group, "rpo_s") for group in groups],
        },
        "gaps": [
            {"promise": one["text"], "state": one["state"], "why": one["why"]}
            for one in results["verdicts"]
            if one["state"] != HOLDS
        ],
        "result": _result(results),
        "remediation": [row.get("change") for row in results["remediations"] or ()],
        "reproduce": results["run"]["command"],
        "versions": results["run"]["versions"],
    }


def achieved(group: Document, metric: str) -> Document:
    """Give the highest percentile that the incidents of a fault are enough for."""
    found = group[metric]["percentiles"]
    names = [name for name in SHARES if "needs" not in found[name]]
    name = names[-1] if names else None
    return {"incident": group["id"], "percentile": name, "seconds": found[name] if name else None}


def _result(results: Document) -> str:
    states = [one["state"] for one in results["verdicts"]]
    if results["control"] is not None:
        return "negative control"
    if FAILS in states:
        return "not met"
    if (
        not states
        or any(state != HOLDS for state in states)
        or results["run"]["done"] < results["run"]["runs"]
    ):
        return "not enough evidence"
    return "met"
