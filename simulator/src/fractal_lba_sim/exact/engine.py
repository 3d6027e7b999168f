"""Play a scenario with the server's own core and give its trace."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fractal_lba_server.drill.scenario import Scenario

from .plants import planted
from .world import World

FAULTS = (AssertionError, AttributeError, LookupError, TypeError, ValueError, OSError)
"""What a machine that is wrong on purpose may raise; a right one raises nothing."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let nobody look for cycles: a trace is millions of living objects, and a world makes few."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Engine:
    """The exact engine."""

    def __init__(self) -> None:
        self.steps = 0
        """Events that machines of the core were given in the last run, and frames that they judged.

        What the SDK decides (attempts, endpoints, outbox) is not counted.
        """

    def play(
        self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Give the trace from `run` to `end`. Raises ScenarioError for what it cannot play."""
        parts = planted((*scenario.plants, *plants))
        with _uncollected():
            world = World(scenario, seed=seed, parts=parts)
            try:
                lines = world.play()
            except FAULTS as error:
                if not (plants or scenario.plants):
                    raise
                world.trace.error(f"{type(error).__name__}: {error}")
                world.trace.write("end")
                lines = world.trace.lines
        self.steps = world.steps
        return lines
