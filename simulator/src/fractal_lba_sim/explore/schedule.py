"""A fault schedule: what breaks and what people do, on a scenario that any engine plays.

The invariant of this file: a schedule is a scenario document in canonical form and nothing
beside it. Its events are the document's faults and steps, in order of their moments, so what an
exploration finds is what `flk-sim run` plays.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from fractal_lba.canonical import jcs
from fractal_lba_server.drill.scenario import Scenario, ScenarioError, name_faults
from fractal_lba_server.schema_faults import schema_faults

FAULTS, STEPS = "faults", "steps"

SHAPE: Final = frozenset({"id", "kind", "do", "at_s", "for_s", "repeat", "spread_s", "incident"})
"""Members that say what and when; the others say where and how much."""

WHERE: Final = ("region", "node", "from", "to", "shard", "placement")
"""Members that name a place, in the order in which they are told."""

DROPPED: Final = ("short", "control")
"""Parts of a scenario that a schedule does not take over: it is played as it stands."""


class Event(NamedTuple):
    """One fault or step of a schedule, as a person reads it."""

    group: str
    place: int
    kind: str
    at_s: float
    for_s: float | None
    target: str
    parameter: str

    def __str__(self) -> str:
        lasts = "" if self.for_s is None else f" for {self.for_s:g} s"
        words = (self.kind, self.target, self.parameter)
        return f"{self.at_s:g} s: {' '.join(word for word in words if word)}{lasts}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule; what changes it gives another one."""

    document: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Schedule:
        """Take a scenario as it stands, without its short form and its control."""
        return cls(plain({name: document[name] for name in document if name not in DROPPED}))

    @property
    def scenario(self) -> Scenario:
        """Give what an engine plays."""
        return Scenario(self.document, str(self.document["name"]))

    @property
    def key(self) -> str:
        """Name the schedule by its content."""
        return sha256(jcs(dict(self.document))).hexdigest()

    @property
    def events(self) -> list[Event]:
        """Give faults and steps in order of their moments."""
        found = [
            _event(group, place, member)
            for group in (FAULTS, STEPS)
            for place, member in enumerate(self.document.get(group, ()))
        ]
        return sorted(found, key=lambda event: (event.at_s, event.group, event.place))

    @property
    def offered(self) -> int:
        """Count the records that the load offers, warm-up included."""
        load = self.document["load"]
        span_s = float(load["duration_s"]) + float(load.get("warmup_s", 0))
        return max(1, round(span_s * float(load["rate_per_s"])))

    @property
    def size(self) -> int:
        """Count what happens: faults, steps, and records that are offered."""
        return len(self.events) + self.offered

    def faults(self) -> list[str]:
        """Say why it is no scenario; empty if it is one."""
        found = schema_faults("scenario", dict(self.document))
        if not found:
            found = name_faults(self.document)
        return [str(fault) for fault in found]

    def keeping(self, events: Iterable[Event]) -> Schedule:
        """Give the schedule with these events alone."""
        places = {(event.group, event.place) for event in events}
        return self.changed(lambda document: _keep(document, places))

    def changed(self, change: Callable[[dict[str, Any]], None]) -> Schedule:
        """Give a copy to which a change was made."""
        document = copy.deepcopy(dict(self.document))
        change(document)
        return Schedule(plain(document))

    def with_events(
        self, faults: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]] = ()
    ) -> Schedule:
        """Give the same scenario with other faults and steps."""

        def put(document: dict[str, Any]) -> None:
            document[FAULTS], document[STEPS] = list(faults), list(steps)
            _tidy(document)

        return self.changed(put)

    def expect_valid(self) -> Schedule:
        """Give it back, or raise ScenarioError with every reason why it is no scenario."""
        reasons = self.faults()
        if reasons:
            raise ScenarioError("; ".join(reasons))
        return self


def plain(value: Any) -> Any:
    """Copy a document; a number that is whole is an integer, as it is after a token."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def _keep(document: dict[str, Any], places: set[tuple[str, int]]) -> None:
    for group in (FAULTS, STEPS):
        members = document.get(group, [])
        document[group] = [one for at, one in enumerate(members) if (group, at) in places]
    ids = {fault["id"] for fault in document[FAULTS]}
    for step in document[STEPS]:
        if step.get("incident") not in ids:
            step.pop("incident", None)
    _tidy(document)


def _tidy(document: dict[str, Any]) -> None:
    for group in (FAULTS, STEPS):
        if not document[group]:
            del document[group]


def _event(group: str, place: int, member: Mapping[str, Any]) -> Event:
    where = [str(member[name]) for name in WHERE if name in member]
    rest = sorted(set(member) - SHAPE - set(WHERE))
    lasts = member.get("for_s")
    return Event(
        group, place, str(member.get("kind") or member["do"]), float(member["at_s"]),
        float(lasts) if isinstance(lasts, int | float) else None,
        " to ".join(where), ", ".join(f"{name} {json.dumps(member[name])}" for name in rest),
    )  # fmt: skip
