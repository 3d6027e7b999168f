"""Play a scenario on real processes, and give the trace as the other engines do.

The invariant of this file: it adds nothing to what the server's drill has seen. What it measures
depends on this machine; the same seed gives the same faults, not the same trace.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fractal_lba_server.drill.engine import run
from fractal_lba_server.drill.processes import ProcessError
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.check import read_trace


class Engine:
    """Starts the regions of a scenario on this machine, breaks them, and reads the trace."""

    def play(
        self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Give the trace of one drill. Raises ScenarioError for what it cannot play.

        A drill takes as long as the scenario says.
        """
        words = ["flk-sim", "run", scenario.source, "--engine", "live", "--seed", str(seed)]
        words += ["--control"] if scenario.control else []
        with tempfile.TemporaryDirectory(prefix="flk-sim-live-") as folder:
            try:
                path = run(
                    _planted(scenario, plants), Path(folder), seed=seed, command=shlex.join(words)
                )
            except (ProcessError, OSError) as error:
                message = f"{scenario.name}: the drill did not run: {error}"
                raise ScenarioError(message) from error
            with path.open(encoding="utf-8") as lines:
                yield from map(dict, read_trace(lines))


def _planted(scenario: Scenario, plants: Sequence[str]) -> Scenario:
    """Give a scenario that plants these wrong protocols besides those of its control."""
    if not plants:
        return scenario
    control = {**scenario.part("control"), "plant": [*scenario.plants, *plants]}
    control.setdefault("why", "planted by the caller")
    control.setdefault("must_fail", ["accounting"])
    return replace(scenario, document={**scenario.document, "control": control}, control=True)
