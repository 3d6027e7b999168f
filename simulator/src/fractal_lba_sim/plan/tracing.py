"""The lines of the trace, gathered in any order and given in the order of their time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import fractal_lba_server
from fractal_lba_server.drill.scenario import Scenario

from .. import __version__

STARTED_UNIX_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z: simulated time has no other beginning."""


class Events:
    """The lines of one run."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def add(self, event: str, at_ns: int, **members: Any) -> None:
        """Add a line; members that are None are left out."""
        line = {"event": event, "at_ns": at_ns}
        line.update({name: value for name, value in members.items() if value is not None})
        self._lines.append(line)

    def fault(self, fault: Mapping[str, Any], state: str, at_ns: int, **members: Any) -> None:
        """Add a line about a fault."""
        self.add(
            "fault", at_ns, id=fault["id"], kind=fault["kind"], state=state,
            region=fault.get("region"), **members,
        )  # fmt: skip

    def note(self, at_ns: int, said: str) -> None:
        """Add a line for people."""
        self.add("note", at_ns, said=said)

    def lines(self, scenario: Scenario, seed: int, end_ns: int) -> list[dict[str, Any]]:
        """Give the whole trace, from `run` to `end`."""
        head = {
            "event": "run", "at_ns": 0, "schema": 1, "engine": "plan", "seed": seed,
            "scenario": dict(scenario.document), "scenario_digest": scenario.digest,
            "started_unix_ns": STARTED_UNIX_NS, "control": scenario.control,
            "versions": {
                "fractal-lba-server": fractal_lba_server.__version__,
                "fractal-lba-sim": __version__,
            },
        }  # fmt: skip
        # Sorting is stable: what was added first comes first at one moment.
        body = sorted(self._lines, key=lambda line: line["at_ns"])
        return [head, *body, {"event": "end", "at_ns": end_ns}]
