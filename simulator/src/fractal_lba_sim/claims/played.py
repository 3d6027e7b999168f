"""Play a drill in the exact engine, right and wrong, and say which of its promises held.

The invariant of this file: a drill is evidence only if its negative control failed where it must,
in every run; one that cannot fail shows that the drill is blind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.summary import outcome

from ..engine import engine
from ..formulas import zero_bound
from ..scenarios import find_scenario
from .registry import Run
from .verdicts import HOLDS, NOT_ENOUGH, REFUTED, DisagreementError, Finding, percent

ENGINE: Final = "exact"
FIRST_SEED: Final = 1


class Played(NamedTuple):
    """What runs of one drill said."""

    name: str
    runs: int
    promises: tuple[str, ...]
    """What the scenario promises and the judge judged, in the scenario's order."""
    fails: tuple[str, ...]
    """Promises that failed in at least one run."""
    open: tuple[str, ...]
    """Promises for which a run had not enough evidence."""
    must_fail: tuple[str, ...]
    """What failed in every run of the control, as it must."""


@cache
def played(name: str, runs: int) -> Played:
    """Play the short form of a drill, and its control, with each of so many seeds."""
    scenario = find_scenario(name, short=True)
    asked = tuple(scenario.part("promises"))
    promises: dict[str, None] = {}
    fails: set[str] = set()
    undecided: set[str] = set()
    must_fail = tuple(scenario.part("control")["must_fail"])
    for seed in range(FIRST_SEED, FIRST_SEED + runs):
        said = _verdicts(name, seed, control=False)
        promises |= dict.fromkeys(name for name in asked if name in said)
        fails |= {verdict for verdict, state in said.items() if state == "fails"}
        undecided |= {verdict for verdict, state in said.items() if state not in {"holds", "fails"}}
        wrong = _verdicts(name, seed, control=True)
        blind = [verdict for verdict in must_fail if wrong.get(verdict) != "fails"]
        if blind:
            message = f"the control of {name} did not fail {', '.join(blind)} with seed {seed}"
            raise DisagreementError(message)
    return Played(
        name, runs, tuple(promises), tuple(sorted(fails)), tuple(sorted(undecided)), must_fail
    )


def _verdicts(name: str, seed: int, *, control: bool) -> dict[str, str]:
    scenario = find_scenario(name, short=True, control=control)
    found: dict[str, Any] = outcome(check(list(engine(ENGINE).play(scenario, seed=seed))))
    return {verdict["name"]: verdict["state"] for verdict in found["verdicts"]}


def runs_of(run: Run) -> int:
    """Give how many seeds a drill is played with."""
    return run.trials(20, 3)


def by_drills(run: Run, names: Sequence[str], said: str) -> Finding:
    """Let drills decide about a claim: all of their promises must hold."""
    found = [played(name, runs_of(run)) for name in names]
    fails = [f"{one.name}: {', '.join(one.fails)}" for one in found if one.fails]
    undecided = [f"{one.name}: {', '.join(one.open)}" for one in found if one.open]
    verdict = REFUTED if fails else NOT_ENOUGH if undecided else HOLDS
    return Finding(
        verdict,
        f"{said} Played by the exact engine, which runs the server's core: "
        + "; ".join(fails or undecided or map(sentence, found)),
        bound_of(runs_of(run) * len(names)),
        "mend what fails" if fails else "",
        {"drills": len(found), "runs": runs_of(run)},
    )


def sentence(one: Played) -> str:
    """Say what held in a drill, and that its control failed."""
    return (
        f"{one.name} holds ({', '.join(one.promises)}), and its control fails "
        f"{', '.join(one.must_fail)}"
    )


def bound_of(runs: int) -> str:
    """Bound how often a run fails of which none did."""
    return f"0 of {runs} runs fail: below {percent(zero_bound(runs))} (95 %)"


def agrees(run: Run, name: str) -> str:
    """Say that the exact engine agrees; raises DisagreementError where it does not."""
    one = played(name, runs_of(run))
    if one.fails or one.open:
        message = f"the exact engine plays {name}, and {', '.join(one.fails + one.open)} fails"
        raise DisagreementError(message)
    return f"The exact engine, which runs the whole core, agrees: {sentence(one)}"
