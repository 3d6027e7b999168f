"""What every form of a trace must be able to tell: single records, columns, runs of records.

The invariant of this file: a judge asks these questions and no others about records, so that one
verdict function judges every form. Answers of several forms add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

Event = Mapping[str, Any]

CLASSES: Final = ("winner", "duplicate", "displaced", "lost")
LEVELS: Final = ("durable", "replicated", "witnessed")
POSITIVE: Final = frozenset({"new", "duplicate"})
"""Answers that acknowledge a write."""

OPEN: Final = "open"
"""The placement of a key of which a trace says nothing."""

END: Final = "end"
"""The name of the last census."""

FAILOVER: Final = "failover"
"""The name of a census of the survivors, before a lost region returns."""

SERVER_FAULT: Final = 500
"""Statuses from here on are faults of a server."""


@dataclass(frozen=True, slots=True)
class Names:
    """How many, and the first of them by name."""

    count: int = 0
    first: str | None = None

    def __bool__(self) -> bool:
        return self.count > 0

    def __add__(self, other: Names) -> Names:
        return Names(self.count + other.count, other.first if self.first is None else self.first)


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


@dataclass(slots=True)
class Loss:
    """The acknowledged writes that one fault took; the times are of their acknowledgements."""

    records: int = 0
    bytes: int = 0
    oldest_ns: int = 0
    latest_ns: int = 0

    def add(self, other: Loss) -> None:
        """Count what another form of the same trace says."""
        if not other.records:
            return
        first = not self.records
        self.oldest_ns = other.oldest_ns if first else min(self.oldest_ns, other.oldest_ns)
        self.latest_ns = max(self.latest_ns, other.latest_ns)
        self.records += other.records
        self.bytes += other.bytes

    def age_s(self, injected_ns: int) -> float:
        """Give the age of the oldest at the fault (spec/drills.md 3.8)."""
        return max(0, injected_ns - self.oldest_ns) / 1e9 if self.records else 0.0

    @property
    def work_s(self) -> float:
        """Give the time in which they were acknowledged."""
        return (self.latest_ns - self.oldest_ns) / 1e9


@dataclass(slots=True)
class Books:
    """One census seen from the acknowledgements: every one in exactly one class."""

    by_region: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: Names = Names()
    brought: int = 0
    """Lost, but an outbox sent the same content again, and it stands."""

    lost_for_good: Names = Names()

    def total(self, name: str) -> int:
        """Count a class over all regions."""
        return sum(row.get(name, 0) for row in self.by_region.values())

    def add(self, region: str, counts: Mapping[str, int]) -> None:
        """Count what was acknowledged of one region, by class and as `acked`."""
        row = self.by_region.setdefault(region, dict.fromkeys((*CLASSES, "acked"), 0))
        for name, count in counts.items():
            row[name] += count

    def check(self) -> None:
        """Note each region whose classes do not add up to what was acknowledged."""
        for region, row in self.by_region.items():
            if row["acked"] != sum(row[name] for name in CLASSES):
                self.faults += Names(1, f"{region}: {row} does not add up")

    def __add__(self, other: Books) -> Books:
        both = Books(
            {}, self.faults + other.faults, self.brought + other.brought,
            self.lost_for_good + other.lost_for_good,
        )  # fmt: skip
        for books in (self, other):
            for region, row in books.by_region.items():
                both.add(region, row)
        return both


class Canaries(NamedTuple):
    """Known duplicates that were sent again."""

    sent: int
    new: int
    duplicate: int


class Trouble(NamedTuple):
    """Requests that failed by a fault of a server or without an answer.

    `unclear` were refused in a form that does not say why.
    """

    sent: int
    bad: int
    unclear: int
    first: str | None


class Writing(NamedTuple):
    """When one region accepted writes in one region_epoch."""

    first_ns: int
    last_call_ns: int


Writers = dict[tuple[str, int], dict[str, Writing]]
"""By (placement, region_epoch), by region."""


Members = Callable[[str], Sequence[str]]
"""Gives the regions of a placement that the last census asked."""


class Part(Protocol):
    """The records of a trace in one form."""

    def results(self) -> Mapping[str, int]:
        """Count the answers of puts by result."""
        ...

    def books(self, census: str) -> Books:
        """Put every acknowledgement that a census must know into one class."""
        ...

    def at_level(self, level: str) -> tuple[int, Names]:
        """Count what was acknowledged at a level or above, and name what of it is lost."""
        ...

    def charged(self, census: str, incidents: Sequence[Incident]) -> list[Loss]:
        """Give for every fault the acknowledged writes that it took."""
        ...

    def late(self) -> tuple[int, int]:
        """Count what was lost at the failover, and what of it is back at the end."""
        ...

    def phantoms(self) -> tuple[int, Names]:
        """Count what was sent, and name what is held at the end that nobody sent."""
        ...

    def resurrected(self) -> tuple[int, Names]:
        """Count what was overridden, and name what of it stood later."""
        ...

    def hidden(self, members: Members) -> tuple[str, str] | None:
        """Give a region and a displaced write that it cannot show at the end."""
        ...

    def unequal(self, placement: str, regions: Sequence[str]) -> bool:
        """Say whether regions hold different outcomes of a placement at the end."""
        ...

    def writers(self) -> Writers:
        """Say who accepted writes, and when."""
        ...

    def canaries(self) -> Canaries:
        """Count the known duplicates that were sent again."""
        ...

    def trouble(self) -> Trouble:
        """Count the requests that failed."""
        ...

    def refused_after(self, at_ns: int) -> int:
        """Count the refusals with a status from a moment on."""
        ...

    def in_flight(self, at_ns: int) -> int:
        """Count the puts that were under way at a moment."""
        ...

    def audit_gaps(self) -> Names:
        """Name acknowledged writes that the audit log has no entry of."""
        ...


class Stale(NamedTuple):
    """Reads that showed nothing of what had been acknowledged."""

    reads: int
    """Answered reads."""

    stale: int
    own: Names
    """Of what the same region had acknowledged, by key and region."""

    worst_ms: float
    """The longest time since an acknowledgement by another region."""

    longest_ms: float
    """The longest time since an acknowledgement by any region."""


class Answers(NamedTuple):
    """Answers that name a write."""

    seen: int
    wrong: Names


class Registers(NamedTuple):
    """Ids judged as registers that are written once."""

    judged: int
    unresolved: int
    split: int
    fault: Names


class Records(Part, Protocol):
    """Single records, which have ids, contents and reads besides."""

    def answers(self) -> Answers:
        """Judge the answers that name a write."""
        ...

    def registers(self, mode: str) -> Registers:
        """Judge each id as a register."""
        ...

    def stale(self) -> Stale:
        """Judge the reads that showed nothing."""
        ...

    def ahead(self, started_ms: float) -> tuple[float, int]:
        """Give how far, in ms, a stamp was ahead of its answer, and the count of stamps."""
        ...

    def younger(self) -> tuple[int, Names]:
        """Count what was overridden, and name what stands though it is younger."""
        ...

    def taken(self) -> tuple[int, Names]:
        """Count the records that a client's call took, and name those that stand nowhere."""
        ...

    def double_winners(self) -> Names:
        """Name the ids of which two writes were both believed to be the first."""
        ...
