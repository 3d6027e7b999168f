"""One failover three times: in both simulations and on real processes, from one scenario.

Each engine writes a trace, one judge reads them all; nothing here measures anything itself.
"""

from __future__ import annotations

import json
from typing import Any, Final

from demo.account import Account
from fractal_lba_sim.playing import job_of, play
from fractal_lba_sim.scenarios import find_scenario

SCENARIO: Final = "region-outage-side-by-side"
ENGINES: Final = ("plan", "exact", "live")
NAMES: Final = {
    "plan": "simulated, records as flows",
    "exact": "simulated, every byte",
    "live": "real processes",
}
COUNTED: Final = ("acked", "winner", "duplicate", "displaced", "lost")


def show(account: Account, *, runs: dict[str, int], seed: int) -> None:
    """Play the scenario in every engine and lay the recoveries side by side."""
    account.step("A region vanishes: simulated, and on real processes")
    scenario = find_scenario(SCENARIO)
    outcomes = {
        name: [json.loads(play(job_of(scenario, name), seed + turn)) for turn in range(runs[name])]
        for name in ENGINES
    }
    account.say(
        "Two regions take writes; one is killed and cut off, and its clients go to the other.",
        "The simulations run the server's own rules, and the same judge reads all three traces.",
        "Recovery counts from the moment of the fault until calls succeed again for good; of",
        "several runs the median stands first, then the least and the most.",
    )
    head = ("engine", "runs", "recovery, s", "from the decision, s", "acknowledged", "lost")
    account.show([head, *(_row(name, outcomes[name]) for name in ENGINES)], printed_rows=3)
    account.figures["failover"] = {name: _figures(found) for name, found in outcomes.items()}
    every = [outcome for found in outcomes.values() for outcome in found]
    account.expect("every run is valid", holds=all(outcome["valid"] for outcome in every))
    account.expect(
        "clients recover in every run",
        holds=all(one["rto_s"] is not None for outcome in every for one in outcome["incidents"]),
    )
    account.expect("nothing replicated is lost", holds=not any(map(_lost, every)))


def _row(name: str, outcomes: list[dict[str, Any]]) -> tuple[str, ...]:
    return (
        NAMES[name], str(len(outcomes)), _span(outcomes, "rto_s"),
        _span(outcomes, "rto_declared_s"), f"{sum(map(_acked, outcomes)):,}",
        str(sum(map(_lost, outcomes))),
    )  # fmt: skip


def _span(outcomes: list[dict[str, Any]], member: str) -> str:
    found = _values(outcomes, member)
    if not found:
        return "-"
    if len(found) == 1:
        return f"{found[0]:.2f}"
    return f"{found[len(found) // 2]:.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def _values(outcomes: list[dict[str, Any]], member: str) -> list[float]:
    given = [one[member] for outcome in outcomes for one in outcome["incidents"]]
    return sorted(value for value in given if value is not None)


def _acked(outcome: dict[str, Any]) -> int:
    return sum(row["acked"] for row in outcome["accounts"].values())


def _lost(outcome: dict[str, Any]) -> int:
    return sum(row["lost"] for row in outcome["accounts"].values())


def _figures(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "runs": len(outcomes),
        "rto_s": [round(value, 4) for value in _values(outcomes, "rto_s")],
        "accounts": {
            name: sum(row[name] for outcome in outcomes for row in outcome["accounts"].values())
            for name in COUNTED
        },
    }
