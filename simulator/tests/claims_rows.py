"""The rows of a quick check of every claim, and who calls which formula: made once a process."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest

from fractal_lba_sim import formulas
from fractal_lba_sim.claims.checking import Row, Run, run_checks
from fractal_lba_sim.claims.register import claims_of, load_topics

TOPICS = load_topics()
EVERY = claims_of(TOPICS)
QUICK = Run(quick=True)
SEARCHES = {"largest"}

FUNCTIONS = {
    name: value
    for name, value in vars(formulas).items()
    if inspect.isfunction(value)
    and value.__module__ == formulas.__name__
    and not name.startswith("_")
    and name not in SEARCHES
}


class Checked(NamedTuple):
    """What one pass over the register gave."""

    rows: dict[str, Row]
    users: dict[str, set[str]]
    """Claims by the formula that they call."""


@cache
def checked() -> Checked:
    """Check every claim once, and note which formulas each one calls."""
    users: dict[str, set[str]] = {name: set() for name in FUNCTIONS}
    rows: dict[str, Row] = {}

    def noted(name: str, function: Callable[..., Any], id: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            users[name].add(id)
            return function(*arguments, **named)

        return call

    for id, claim in EVERY.items():
        with pytest.MonkeyPatch.context() as patch:
            for name, function in FUNCTIONS.items():
                patch.setattr(formulas, name, noted(name, function, id))
            (rows[id],) = run_checks([claim], QUICK)
    return Checked(rows, users)
