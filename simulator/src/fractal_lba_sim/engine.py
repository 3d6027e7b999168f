"""What an engine is, and how one is found by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, Protocol

from fractal_lba_server.drill.scenario import Scenario

Event = Mapping[str, Any]
"""One line of a trace (spec/schemas/trace.json)."""


class Engine(Protocol):
    """Plays a scenario and gives the trace; it judges nothing."""

    def play(self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()) -> Iterable[Event]:
        """Give the trace from `run` to `end`. Raises ScenarioError for what it cannot play.

        `plants` names wrong protocols or wrong environments that are put in on purpose.
        """
        ...


ENGINES: Final = {
    "plan": "fractal_lba_sim.plan.engine",
    "exact": "fractal_lba_sim.exact.engine",
    "live": "fractal_lba_sim.live",
}


def engine(name: str) -> Engine:
    """Give an engine. Raises KeyError for a name that is none."""
    made: Engine = import_module(ENGINES[name]).Engine()
    return made
