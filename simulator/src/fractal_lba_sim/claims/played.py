"""Play a drill in the exact engine, right and wrong, and say which of its promises held.

The invariant of this file: a drill is evidence only if its negative control failed where it must,
in every run of it; one that cannot fail shows that the drill is blind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.summary import outcome

from ..engine import engine
from ..formulas import zero_bound
from ..results_verdicts import RUNS_NEEDED
from ..scenarios import find_scenario
from .checking import Run
from .verdicts import HOLDS, NOT_ENOUGH, REFUTED, DisagreementError, Finding, percent

ENGINE: Final = "exact"
FIRST_SEED: Final = 1
CONTROLS: Final = 3
"""Seeds of a negative control, which must fail with each of them."""
QUICK_RUNS: Final = 1
"""Seeds of a quick check: it shows that a drill can be played, and not that it holds."""


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
    """Play the short form of a drill with each of so many seeds, its control with a few."""
    scenario = find_scenario(name, short=True)
    asked = tuple(scenario.part("promises"))
    promises: dict[str, None] = {}
    fails: set[str] = set()
    undecided: set[str] = set()
    for seed in range(FIRST_SEED, FIRST_SEED + runs):
        said = _verdicts(name, seed, control=False)
        promises |= dict.fromkeys(name for name in asked if name in said)
        fails |= {verdict for verdict, state in said.items() if state == "fails"}
        undecided |= {verdict for verdict, state in said.items() if state not in {"holds", "fails"}}
    must_fail = tuple(scenario.part("control")["must_fail"])
    for seed in range(FIRST_SEED, FIRST_SEED + min(runs, CONTROLS)):
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
    """Give how many seeds a drill is played with: as many as a promise needs, or one."""
    return run.trials(RUNS_NEEDED, QUICK_RUNS)


def by_drills(
    run: Run, names: Sequence[str], said: str, *, held: str = HOLDS, change: str = ""
) -> Finding:
    """Let drills decide about a claim: all of their promises must hold, and in enough runs.

    `held` is what the claim is if they do: what was built may be another thing than its words.
    """
    found = [played(name, runs_of(run)) for name in names]
    fails = [f"{one.name}: {', '.join(one.fails)}" for one in found if one.fails]
    undecided = [f"{one.name}: {', '.join(one.open)}" for one in found if one.open]
    is_enough = runs_of(run) >= RUNS_NEEDED and not undecided
    return Finding(
        REFUTED if fails else held if is_enough else NOT_ENOUGH,
        f"{said} Played by the exact engine, which runs the server's core: "
        + "; ".join(fails or undecided or map(sentence, found)),
        bound_of(runs_of(run)),
        "mend what fails" if fails else change,
        {"drills": len(found), "runs": runs_of(run)},
    )


def sentence(one: Played) -> str:
    """Say what held in a drill, and that its control failed."""
    return (
        f"{one.name} holds ({', '.join(one.promises)}), and its control fails "
        f"{', '.join(one.must_fail)}"
    )


def bound_of(runs: int) -> str:
    """Bound how often a run of one drill fails of which none did."""
    if runs < RUNS_NEEDED:
        return f"{_runs(runs)} of each drill; {RUNS_NEEDED} are needed"
    return f"0 of {runs} runs of each drill fail: below {percent(zero_bound(runs))} (95 %)"


def agrees(run: Run, name: str) -> str:
    """Say that the exact engine agrees; raises DisagreementError where it does not."""
    one = played(name, runs_of(run))
    if one.fails or one.open:
        message = f"the exact engine plays {name}, and {', '.join(one.fails + one.open)} fails"
        raise DisagreementError(message)
    return (
        f"The exact engine, which runs the whole core, agrees in {_runs(one.runs)}: {sentence(one)}"
    )


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
