"""Hold one trace: its header, its faults, its calls, and its records in whatever form they are.

The invariant of this file: it believes the trace's observations and nothing else. What judges ask
about records is answered by adding up the forms that the trace holds (`parts.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from .callers import Caller, ListedCalls, Stretches
from .flows import Runs
from .listed import ListedRecords
from .parts import (
    END,
    FAILOVER,
    OPEN,
    Books,
    Canaries,
    Event,
    Incident,
    Loss,
    Names,
    Part,
    Records,
    Trouble,
    Writers,
    Writing,
)

STEADY_S: Final = 30
"""How long requests must succeed before an outage is over, if the promises name no other time."""

PATIENCE_MS: Final = 1_000
"""A call that takes longer is not good, if the load names no other time."""

EVIDENCE: Final = {"acked": 1, "canaries": 20, "reads": 1, "incidents": 1}
"""What a promise needs before it is judged, where the scenario names no other count."""


class TraceError(Exception):
    """The file is not a trace."""


class Trace:
    """A trace read once, with what several judges need of it."""

    def __init__(self, events: Iterable[Event]) -> None:
        """Take events; a subclass may keep calls, puts, gets and held lines elsewhere."""
        self.events = list(events)
        if not self.events or self.events[0].get("event") != "run":
            raise TraceError("the first line is not `run`")
        self.header = self.events[0]
        self.scenario: Mapping[str, Any] = self.header["scenario"]
        self.promises: Mapping[str, Any] = self.scenario.get("promises", {})
        self.end_ns = max(event["at_ns"] for event in self.events)
        self.size = len(self.events)

    def of(self, kind: str) -> list[Event]:
        """Give the events of one kind in the order of their time."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = {}
        for event in sorted(self.events, key=lambda event: int(event["at_ns"])):
            found.setdefault(event["event"], []).append(event)
        return found

    @property
    def ended(self) -> bool:
        """Say whether the trace came to its end."""
        return bool(self.events[-1]["event"] == "end")

    def digest(self, of: Callable[[Iterable[Event]], str]) -> str | None:
        """Give the digest of all events; None where not all of them are kept."""
        return of(self.events) if len(self.events) == self.size else None

    def needs(self, name: str) -> int:
        """Give the count below which a promise is not judged."""
        return int(self.promises.get("evidence", {}).get(name, EVIDENCE[name]))

    @property
    def steady_ns(self) -> int:
        """Give how long requests must succeed before an outage is over."""
        return int(self.promises.get("steady_s", STEADY_S) * 10**9)

    @property
    def patience_ns(self) -> int:
        """Give how long a good call takes at most."""
        return int(self.scenario.get("load", {}).get("patience_ms", PATIENCE_MS) * 10**6)

    @cached_property
    def incidents(self) -> list[Incident]:
        """Give the faults that were injected, in their order."""
        begun = [event for event in self.of("fault") if event["state"] == "injected"]
        healed = {e["id"]: e["at_ns"] for e in self.of("fault") if e["state"] == "healed"}
        effects: dict[str, dict[str, int]] = {}
        for seen in self.of("fault"):
            counts = effects.setdefault(seen["id"], {})
            for name, count in seen.get("effects", {}).items():
                counts[name] = max(counts.get(name, 0), count)
        ends = [*(event["at_ns"] for event in begun[1:]), self.end_ns]
        return [
            Incident(
                event["id"], event["kind"], event.get("region"), event["at_ns"],
                healed.get(event["id"]), min(until_ns, self.end_ns), effects[event["id"]],
            )
            for event, until_ns in zip(begun, ends, strict=False)
        ]  # fmt: skip

    @cached_property
    def census_at(self) -> dict[str, int]:
        """Give by the name of a census when it was over."""
        return {event["census"]: event["at_ns"] for event in self.of("census")}

    @cached_property
    def census_of(self) -> dict[str, list[str]]:
        """Give by the name of a census the regions that it asked."""
        found: dict[str, dict[str, None]] = {}
        for event in self.of("census"):
            found.setdefault(event["census"], {})[event["region"]] = None
        return {name: list(regions) for name, regions in found.items()}

    @cached_property
    def records(self) -> Records:
        """Give the single records."""
        return ListedRecords(self.of, self.census_at)

    @cached_property
    def runs(self) -> Runs:
        """Give the runs of records."""
        return Runs(
            self.of("flow"), self.of("span"), census_at=self.census_at,
            marks=self.of("watermark"), audits=self.of("audit"),
        )  # fmt: skip

    @cached_property
    def _parts(self) -> Sequence[Part]:
        return (self.records, self.runs) if self.runs else (self.records,)

    @cached_property
    def callers(self) -> dict[str, list[Caller]]:
        """Give the calls of each client, in each form that the trace has."""
        found: dict[str, list[Caller]] = {}
        for client, calls in self.listed_calls().items():
            found.setdefault(client, []).append(calls)
        stretches: dict[str, list[Event]] = {}
        for event in self.of("calls"):
            stretches.setdefault(event["client"], []).append(event)
        for client, events in stretches.items():
            found.setdefault(client, []).append(Stretches(events))
        return found

    def listed_calls(self) -> Mapping[str, Caller]:
        """Give the calls of each client that are written one by one."""
        found: dict[str, list[Event]] = {}
        for event in self.of("call"):
            found.setdefault(event["client"], []).append(event)
        return {client: ListedCalls(of, self.patience_ns) for client, of in found.items()}

    def results(self) -> Counter[str]:
        """Count the answers of puts by result."""
        return sum((Counter(part.results()) for part in self._parts), Counter())

    @cached_property
    def _books(self) -> dict[str, Books]:
        return {}

    def books(self, census: str) -> Books | None:
        """Settle the acknowledgements that a census must know; None without that census."""
        if census not in self.census_at:
            return None
        if census not in self._books:
            self._books[census] = sum((part.books(census) for part in self._parts), Books())
        return self._books[census]

    def at_level(self, level: str) -> tuple[int, Names]:
        """Count what was acknowledged at a level or above, and name what of it is lost."""
        found = [part.at_level(level) for part in self._parts]
        return sum(count for count, _ in found), _all(lost for _, lost in found)

    @cached_property
    def gone(self) -> list[tuple[Incident, Loss]] | None:
        """Give by fault the acknowledged writes that are gone; None without a census.

        A census of the survivors decides, if there is one, else the last. A write is charged to
        the first fault after its acknowledgement.
        """
        census = FAILOVER if FAILOVER in self.census_at else END
        if census not in self.census_at:
            return None
        losses = [Loss() for _ in self.incidents]
        for part in self._parts:
            for loss, more in zip(losses, part.charged(census, self.incidents), strict=True):
                loss.add(more)
        return list(zip(self.incidents, losses, strict=True))

    def late(self) -> tuple[int, int] | None:
        """Count what was lost at the failover, and what of it is back; None without censuses."""
        if not {FAILOVER, END} <= self.census_at.keys():
            return None
        found = [part.late() for part in self._parts]
        return sum(gone for gone, _ in found), sum(back for _, back in found)

    def phantoms(self) -> tuple[int, Names]:
        """Count what was sent, and name what is held at the end that nobody sent."""
        found = [part.phantoms() for part in self._parts]
        return sum(count for count, _ in found), _all(ghosts for _, ghosts in found)

    def resurrected(self) -> tuple[int, Names]:
        """Count what was overridden, and name what of it stood later."""
        found = [part.resurrected() for part in self._parts]
        return sum(count for count, _ in found), _all(back for _, back in found)

    def members(self, placement: str) -> list[str]:
        """Give the regions of a placement that the last census asked."""
        asked = self.census_of.get(END, [])
        named = self._placements.get(placement, {}).get("regions", asked)
        return [region for region in asked if region in named]

    @property
    def _placements(self) -> Mapping[str, Any]:
        named: Mapping[str, Any] = self.scenario.get("topology", {}).get("placements", {OPEN: {}})
        return named

    def hidden(self) -> tuple[str, str] | None:
        """Give a region and a displaced write that it cannot show at the end."""
        return next(filter(None, (part.hidden(self.members) for part in self._parts)), None)

    def unequal(self) -> list[str]:
        """Name the placements whose regions hold different outcomes at the end."""
        return [
            name
            for name in self._placements
            if any(part.unequal(name, self.members(name)) for part in self._parts)
        ]

    def writers(self) -> Writers:
        """Say who accepted writes, and when."""
        found: Writers = {}
        for part in self._parts:
            for place, regions in part.writers().items():
                known = found.setdefault(place, {})
                for region, one in regions.items():
                    other = known.get(region, one)
                    known[region] = Writing(
                        min(one.first_ns, other.first_ns),
                        max(one.last_call_ns, other.last_call_ns),
                    )
        return found

    def canaries(self) -> Canaries:
        """Count the known duplicates that were sent again."""
        return Canaries(*map(sum, zip(*(part.canaries() for part in self._parts), strict=True)))

    def trouble(self) -> Trouble:
        """Count the requests that failed."""
        found = [part.trouble() for part in self._parts]
        first = next((one.first for one in found if one.first is not None), None)
        return Trouble(
            sum(one.sent for one in found), sum(one.bad for one in found),
            sum(one.unclear for one in found), first,
        )  # fmt: skip

    def refused(self) -> int:
        """Count the refusals with a status after the first fault."""
        if not self.incidents:
            return 0
        begun = self.incidents[0].injected_ns
        return sum(part.refused_after(begun) for part in self._parts)

    def in_flight(self, at_ns: int) -> int:
        """Count the puts that were under way at a moment."""
        return sum(part.in_flight(at_ns) for part in self._parts)

    def audit_gaps(self) -> Names:
        """Name acknowledged writes that the audit log has no entry of."""
        return _all(part.audit_gaps() for part in self._parts)


def _all(found: Iterable[Names]) -> Names:
    return sum(found, Names())


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
