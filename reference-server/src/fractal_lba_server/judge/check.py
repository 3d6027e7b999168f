"""Judge a trace, whoever wrote it: verdicts, accounts, recovery (spec/drills.md 4).

The invariant of this file: it believes the trace's observations and nothing else. It imports no
engine and no server, reads the promises from the first line, and answers each with `holds`,
`fails` or `not enough evidence`; the third is never a pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from .accounts import END, Account, Ack, Census, acknowledgements, censuses, settle
from .recovery import Call, zero_bound

Event = Mapping[str, Any]

HOLDS: Final = "holds"
FAILS: Final = "fails"
UNPROVEN: Final = "not enough evidence"

STEADY_S: Final = 30
"""How long requests must succeed before an outage is over, if the promises name no other time."""

PATIENCE_MS: Final = 1_000
"""A call that takes longer is not good, if the load names no other time."""

EVIDENCE: Final = {"acked": 1, "canaries": 20, "reads": 1, "incidents": 1}
"""What a promise needs before it is judged, where the scenario names no other count."""


class TraceError(Exception):
    """The file is not a trace."""


class Verdict(NamedTuple):
    """What became of one promise."""

    name: str
    state: str
    said: str


class Incident(NamedTuple):
    """One fault as it took place."""

    id: str
    kind: str
    region: str | None
    injected_ns: int
    healed_ns: int | None
    until_ns: int
    """When the next fault began, or the trace ended."""

    effects: Mapping[str, int]


class Trace:
    """A trace read once, with what several judges need of it."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = list(events)
        if not self.events or self.events[0].get("event") != "run":
            raise TraceError("the first line is not `run`")
        self.header = self.events[0]
        self.scenario: Mapping[str, Any] = self.header["scenario"]
        self.promises: Mapping[str, Any] = self.scenario.get("promises", {})
        self.end_ns = max(event["at_ns"] for event in self.events)

    def of(self, kind: str) -> list[Event]:
        """Give the events of one kind in the order of their time."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = {}
        for event in sorted(self.events, key=lambda event: int(event["at_ns"])):
            found.setdefault(event["event"], []).append(event)
        return found

    def needs(self, name: str) -> int:
        """Give the count below which a promise is not judged."""
        return int(self.promises.get("evidence", {}).get(name, EVIDENCE[name]))

    @cached_property
    def acks(self) -> dict[str, Ack]:
        """Give what was acknowledged, by frame."""
        return acknowledgements(self.of("put"), self.of("watermark"))

    @cached_property
    def censuses(self) -> dict[str, Census]:
        """Give what the regions held, by the name of the census."""
        return censuses(self.of("census") + self.of("held"))

    def account(self, census: str) -> Account | None:
        """Settle the acknowledgements that a census must know; None without that census."""
        if census not in self.censuses:
            return None
        moment = max(e["at_ns"] for e in self.of("census") if e["census"] == census)
        known = {frame: ack for frame, ack in self.acks.items() if ack.at_ns <= moment}
        return settle(known, self.censuses[census])

    @cached_property
    def end(self) -> Account | None:
        """Give the account at the end."""
        return self.account(END)

    @cached_property
    def content_of(self) -> dict[str, str]:
        """Give what is known of the content of frames."""
        known = {ack.frame: ack.content for ack in self.acks.values()}
        for put in self.of("put"):
            if put["result"] == "new" and "frame" in put:
                known[put["frame"]] = put["content"]
        for census in self.censuses.values():
            for keys in census.values():
                for held in keys.values():
                    known[held.frame] = held.content
                    known.update({frame: content for frame, content, _ in held.overridden})
        return known

    @cached_property
    def incidents(self) -> list[Incident]:
        """Give the faults that were injected, in their order."""
        begun = [event for event in self.of("fault") if event["state"] == "injected"]
        healed = {e["id"]: e["at_ns"] for e in self.of("fault") if e["state"] == "healed"}
        found = []
        for place, event in enumerate(begun):
            effects: dict[str, int] = {}
            for seen in self.of("fault"):
                if seen["id"] == event["id"]:
                    for name, count in seen.get("effects", {}).items():
                        effects[name] = max(effects.get(name, 0), count)
            later = [other["at_ns"] for other in begun[place + 1 :]]
            found.append(
                Incident(
                    event["id"], event["kind"], event.get("region"), event["at_ns"],
                    healed.get(event["id"]), min([*later, self.end_ns]), effects,
                )
            )  # fmt: skip
        return found

    @cached_property
    def calls(self) -> dict[str, list[Call]]:
        """Give the calls of each client in the order in which they were due."""
        patience_ms = self.scenario.get("load", {}).get("patience_ms", PATIENCE_MS)
        found: dict[str, list[Call]] = {}
        for event in sorted(self.of("call"), key=lambda event: int(event["scheduled_ns"])):
            took_ns = event["at_ns"] - event["scheduled_ns"]
            good = event["result"] in ("recorded", "conflict") and took_ns <= patience_ms * 10**6
            call = Call(event["scheduled_ns"], event["at_ns"], good)
            found.setdefault(event["client"], []).append(call)
        return found

    @property
    def steady_ns(self) -> int:
        """Give how long requests must succeed before an outage is over."""
        return int(self.promises.get("steady_s", STEADY_S) * 10**9)

    def in_flight(self, at_ns: int) -> int:
        """Count the puts that were under way at a moment."""
        return sum(put["call_ns"] <= at_ns < put["at_ns"] for put in self.of("put"))


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
    from .promises import ALWAYS, PROMISES  # noqa: PLC0415 - they speak of the classes above

    trace = Trace(events)
    judged = [(name, judge, None) for name, judge in ALWAYS.items()]
    judged += [
        (name, PROMISES[name], value)
        for name, value in trace.promises.items()
        if name in PROMISES and value is not False
    ]
    verdicts = [Verdict(name, *judge(trace, value)) for name, judge, value in judged]
    return Report(tuple(verdicts), trace)


def read_trace(lines: Iterable[str]) -> list[Event]:
    """Read JSON lines. Raises TraceError with the number of a line that is none."""
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            raise TraceError(f"line {number} is not JSON") from None
        if not isinstance(event, dict) or "event" not in event or "at_ns" not in event:
            raise TraceError(f"line {number} is not an event")
        events.append(event)
    return events


def bound_text(trials: int, what: str) -> str:
    """Say what a zero in `trials` is worth."""
    return f"0 in {trials} {what}: below {zero_bound(trials):.3%} with 95 % confidence"
