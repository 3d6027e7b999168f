"""Judge a trace, whoever wrote it: verdicts, accounts, recovery (spec/drills.md 4).

The invariant of this file: it imports no engine and no server, reads the promises from the first
line of a trace, and answers each with `holds`, `fails` or `not enough evidence`; the third is
never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from .parts import Event, Incident
from .trace import EVIDENCE, PATIENCE_MS, STEADY_S, Trace, TraceError, read_trace

__all__ = [
    "EVIDENCE", "FAILS", "HOLDS", "PATIENCE_MS", "STEADY_S", "UNPROVEN", "Event", "Incident",
    "Judge", "Report", "Trace", "TraceError", "Verdict", "check", "judged", "read_trace",
]  # fmt: skip

HOLDS: Final = "holds"
FAILS: Final = "fails"
UNPROVEN: Final = "not enough evidence"


class Verdict(NamedTuple):
    """What became of one promise."""

    name: str
    state: str
    said: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a trace shows."""

    verdicts: tuple[Verdict, ...]
    trace: Trace = field(repr=False)

    @property
    def passed(self) -> bool:
        """Say whether everything holds."""
        return all(verdict.state == HOLDS for verdict in self.verdicts)

    def state_of(self, name: str) -> str:
        """Give the state of a verdict; of one that was not asked for, that nothing is known."""
        return next((v.state for v in self.verdicts if v.name == name), UNPROVEN)


Judge = Callable[[Trace, Any], tuple[str, str]]
"""Gives state and words for one promise, whose value comes second."""


def check(events: Iterable[Event]) -> Report:
    """Judge a trace by its own promises. Raises TraceError."""
    return judged(Trace(events))


def judged(trace: Trace) -> Report:
    """Judge a trace that was read."""
    from .promises import ALWAYS, NEED_CONTENT, PROMISES  # noqa: PLC0415 - they judge the above

    bare = trace.runs and not trace.records.results()
    asked = [
        (name, judge, None) for name, judge in ALWAYS.items() if not (bare and name in NEED_CONTENT)
    ]
    asked += [
        (name, PROMISES[name], value)
        for name, value in trace.promises.items()
        if name in PROMISES and value is not False
    ]
    return Report(tuple(Verdict(name, *judge(trace, value)) for name, judge, value in asked), trace)
