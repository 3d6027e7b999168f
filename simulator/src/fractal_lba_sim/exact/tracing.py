"""Write the trace of a simulated run: one mapping an event, times in ns since the start."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from fractal_lba_server.drill.scenario import Scenario

from ..waiting import Agenda
from .clock import START_NS

SAID_MAX: Final = 2_000
VERSIONS: Final = ("fractal-lba", "fractal-lba-server", "fractal-lba-sim")
VERSION: Final = "0.4.0"


class TraceWriter:
    """Keeps the lines of one run."""

    def __init__(self, agenda: Agenda, scenario: Scenario, *, seed: int) -> None:
        self.lines: list[dict[str, Any]] = []
        self.agenda = agenda
        self.write(
            "run",
            schema=1,
            engine="exact",
            seed=seed,
            scenario=dict(scenario.document),
            scenario_digest=scenario.digest,
            started_unix_ns=START_NS,
            control=scenario.control,
            versions=dict.fromkeys(VERSIONS, VERSION),
        )

    def now_ns(self) -> int:
        """Give the time since the start."""
        return self.agenda.now_ns

    def write(self, event: str, *, at_ns: int | None = None, **members: Any) -> None:
        """Write one event; what is None is left out."""
        at_ns = self.agenda.now_ns if at_ns is None else at_ns
        self.add({"event": event, "at_ns": at_ns, **members})

    def add(self, line: dict[str, Any]) -> None:
        """Keep an event that was written; what is None is left out."""
        if None in line.values():
            line = {name: value for name, value in line.items() if value is not None}
        self.lines.append(line)

    def note(self, said: str) -> None:
        """Write what a reader may want to know."""
        self.write("note", said=said[:SAID_MAX])

    def error(self, said: str) -> None:
        """Write what was not planned; the run is then not valid."""
        self.write("error", said=said[:SAID_MAX])


@lru_cache(maxsize=1 << 16)
def digest16(data: bytes) -> str:
    """Name bytes by the first 16 hex digits of their SHA-256."""
    return sha256(data).hexdigest()[:16]
