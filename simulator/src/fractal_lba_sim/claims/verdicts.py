"""What a check may say of a claim, and when that is a failure.

The invariant of this file: a claim is green only if something was computed or run that shows it.
What was not run here, is not built or cannot be known here has a verdict of its own, and a
disagreement between a model and its closed form is never evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from .. import formulas

HOLDS: Final = "holds"
REFUTED: Final = "refuted"
CONDITIONAL: Final = "conditional"
NOT_ENOUGH: Final = "not enough evidence"
NOT_CHECKABLE: Final = "not checkable here"
NOT_BUILT: Final = "not built"
NOT_RUN: Final = "not run here"

VERDICTS: Final = (
    HOLDS, CONDITIONAL, REFUTED, NOT_ENOUGH, NOT_RUN, NOT_BUILT, NOT_CHECKABLE,
)  # fmt: skip
"""In the order in which they are counted."""

CHECKS: Final = ("vector", "simulated", "analytic", "document", "live", "not-here")
"""How a claim is checked; the first four compute something in this process."""

COMPUTED: Final = frozenset(CHECKS[:4])

Fact = float | int | str | bool


class Finding(NamedTuple):
    """What a check found."""

    verdict: str
    said: str
    """The result, in numbers that were computed."""
    bound: str = ""
    """A bound or an interval of it."""
    change: str = ""
    """Of what does not hold, or not always: the smallest change that makes it true."""
    facts: Mapping[str, Fact] = {}


class DisagreementError(Exception):
    """A model and its closed form differ: nothing that the model says is evidence."""


def agree(what: str, *, found: float, exact: float, within: float) -> None:
    """Hold a figure of a model against its closed form; raises DisagreementError."""
    if not abs(found - exact) <= within:
        message = f"{what}: the model says {found:.6g}, the formula {exact:.6g} +- {within:.3g}"
        raise DisagreementError(message)


def share_agrees(what: str, *, hits: int, of: int, exact: float, sigmas: float = 4.0) -> None:
    """Hold a counted share against its exact value, four standard deviations wide."""
    if not 0 <= exact <= 1:
        message = f"{what}: the formula gives {exact:.6g}, which is no share"
        raise DisagreementError(message)
    within = sigmas * (exact * (1 - exact) / of) ** 0.5 + 1 / of
    agree(what, found=hits / of, exact=exact, within=within)


def share_text(hits: int, of: int) -> str:
    """Write a counted share with its 95 % interval (Wilson); zero as a bound."""
    if hits == 0:
        return f"0 of {of:,}: below {percent(formulas.zero_bound(of))} (95 %)"
    low, high = wilson(hits, of)
    return f"{percent(hits / of)} ({percent(low)} to {percent(high)}, 95 %, n = {of:,})"


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Give the 95 % interval of a share."""
    share, z2 = hits / of, formulas.Z_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = formulas.Z_95 / (1 + z2 / of) * (share * (1 - share) / of + z2 / (4 * of * of)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(share: float) -> str:
    """Write a share in percent, with four significant digits."""
    return f"{100 * share:.4g} %"


def duration(seconds: float) -> str:
    """Write a time in the unit that a person would use."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.4g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
