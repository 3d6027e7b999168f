"""Which function checks which claim, and how the checks of a register are run.

The invariant of this file: every claim gets exactly one row, whatever happens to its check, and
the rows follow the order of the claims.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

from .register import Claim
from .verdicts import (
    COMPUTED,
    NOT_ENOUGH,
    NOT_RUN,
    REFUTED,
    DisagreementError,
    Finding,
)

MODULES: Final = (
    "checks_regions", "checks_regions_simulated", "checks_shards", "checks_tiers",
    "checks_tiers_sizes", "checks_queue", "checks_sdk", "checks_document", "checks_operations",
    "checks_ledger", "checks_regional", "checks_drills",
)  # fmt: skip
"""Modules of this package that hold check functions."""

LIVE_S_MAX: Final = 1_800
"""A live check that takes longer than this has failed."""

LINES_KEPT: Final = 3
"""Lines of a live command's output that a row quotes."""


class Run(NamedTuple):
    """How much work the checks may do, and whether commands are run."""

    quick: bool = False
    live: bool = False
    root: Path = Path()
    """Where live commands run: the root of a checkout."""

    def trials(self, full: int, quick: int) -> int:
        """Choose a number of trials."""
        return quick if self.quick else full


Check = Callable[[Run], Finding]
_CHECKS: dict[str, Check] = {}


def checks(*ids: str) -> Callable[[Check], Check]:
    """Register a function for claims; raises ValueError for a claim that has one."""

    def register(check: Check) -> Check:
        for id in ids:
            if id in _CHECKS:
                raise ValueError(f"{id} is checked by {_CHECKS[id].__name__} already")
            _CHECKS[id] = check
        return check

    return register


def all_checks() -> dict[str, Check]:
    """Give every check function by claim."""
    for name in MODULES:
        import_module(f"{__package__}.{name}")
    return dict(sorted(_CHECKS.items()))


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one claim."""

    claim: Claim
    finding: Finding

    @property
    def is_failure(self) -> bool:
        """Say whether the verdict is another one than the register expects.

        What was not run is no failure, and no success.
        """
        return self.finding.verdict not in {NOT_RUN, self.claim.expected}


def run_checks(claims: Iterable[Claim], run: Run) -> Iterator[Row]:
    """Check claims one after the other, in their order."""
    table = all_checks()
    for claim in claims:
        yield Row(claim, _check(claim, table.get(claim.id), run))


def _check(claim: Claim, check: Check | None, run: Run) -> Finding:
    if claim.check in COMPUTED:
        if check is None:
            return Finding(NOT_ENOUGH, "no function checks this claim")
        try:
            return check(run)
        except DisagreementError as error:
            return Finding(NOT_ENOUGH, str(error))
    if claim.check == "live":
        if run.live:
            return _live(claim, run.root)
        return Finding(NOT_RUN, claim.why or "it needs real processes")
    # Nothing is computed: the register alone decides between the two words that it may use here.
    return Finding(claim.expected, claim.why)


def _live(claim: Claim, root: Path) -> Finding:
    """Run the command of a claim: where it ends well, the claim is what the register expects."""
    words = shlex.split(claim.command)
    if words[0] == "python":
        words[0] = sys.executable
    try:
        # The words are those of the register, which is part of this package.
        done = subprocess.run(  # noqa: S603 - the register's own words
            words, cwd=root, capture_output=True, text=True, timeout=LIVE_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(REFUTED, f"{claim.command} took longer than {LIVE_S_MAX} s")
    except FileNotFoundError:
        return Finding(NOT_ENOUGH, f"{words[0]} is not installed here")
    tail = " / ".join(done.stdout.strip().splitlines()[-LINES_KEPT:])
    verdict = claim.expected if done.returncode == 0 else REFUTED
    return Finding(verdict, f"exit code {done.returncode}: {tail}")
