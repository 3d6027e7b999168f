"""Count the anomalies of a trace by name (spec/drills.md 4.21, 4.22).

The invariant of this file: an anomaly is either counted or listed as not judged with the reason;
none is taken for absent because nobody looked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .parts import END, FAILOVER
from .trace import Trace
from .verdicts import digest_groups

NO_CENSUS: Final = "the trace holds no census at the end"
NO_SURVIVORS: Final = "the trace holds no census of the survivors"
RUNS: Final = "runs of records carry no ids, contents or reads"


class Anomalies(NamedTuple):
    """What was found, and what could not be looked for."""

    counts: dict[str, int]
    not_judged: dict[str, str]
    stale_read_ms_max: float | None


def anomalies(trace: Trace) -> Anomalies:
    """Look for every anomaly that has a name."""
    counts: dict[str, int] = {}
    unknown: dict[str, str] = {}
    for name, (look, why_not) in LOOKS.items():
        reason = why_not(trace)
        if reason is None:
            counts[name] = look(trace)
        else:
            unknown[name] = reason
    worst = trace.records.stale().longest_ms if "stale_read" in counts else None
    return Anomalies(counts, unknown, worst)


def equivocations(trace: Trace) -> int:
    """Count the sizes of a log of which one signer has signed two roots."""
    roots: dict[tuple[str, str, int], set[str]] = {}
    for event in trace.of("root"):
        roots.setdefault((event["log"], event["by"], event["size"]), set()).add(event["root"])
    return sum(len(shown) > 1 for shown in roots.values())


def divergences(trace: Trace) -> int:
    """Count the moments at which regions of a placement had to be equal and were not."""
    digests = sum(len(set(found.values())) > 1 for found in digest_groups(trace).values())
    told = {
        placement
        for (after, placement), found in digest_groups(trace).items()
        if after == END and len(set(found.values())) > 1
    }
    return digests + len(set(trace.unequal()) - told)


def _total(name: str) -> Callable[[Trace], int]:
    def look(trace: Trace) -> int:
        books = trace.books(END)
        return 0 if books is None else books.total(name)

    return look


def _brought(trace: Trace) -> int:
    books = trace.books(END)
    return 0 if books is None else books.brought


def _late(trace: Trace) -> int:
    _, back = trace.late() or (0, 0)
    return back


def _breaches(trace: Trace) -> int:
    return sum(int(event["found"]) for event in trace.of("residency"))


def _ended(trace: Trace) -> str | None:
    return None if END in trace.census_at else NO_CENSUS


def _survived(trace: Trace) -> str | None:
    return _ended(trace) or (None if FAILOVER in trace.census_at else NO_SURVIVORS)


def _single(trace: Trace) -> str | None:
    return RUNS if trace.runs else None


def _single_ended(trace: Trace) -> str | None:
    return _ended(trace) or _single(trace)


def _read(trace: Trace) -> str | None:
    reads = trace.records.stale().reads
    return None if reads else RUNS if trace.runs else "no read was answered"


def _compared(trace: Trace) -> str | None:
    if trace.of("digest") or len(trace.census_of.get(END, ())) > 1:
        return None
    return "no two regions were compared"


def _needs(kind: str, reason: str) -> Callable[[Trace], str | None]:
    return lambda trace: None if trace.of(kind) else reason


Look = tuple[Callable[[Trace], int], Callable[[Trace], str | None]]
"""Counts an anomaly, and says why it cannot be looked for."""

LOOKS: Final[dict[str, Look]] = {
    "lost": (_total("lost"), _ended),
    "displaced": (_total("displaced"), _ended),
    "recovered_late": (_late, _survived),
    "recovered_by_client": (_brought, _ended),
    "double_winner": (lambda trace: trace.records.double_winners().count, _single_ended),
    "divergence": (divergences, _compared),
    "phantom": (lambda trace: trace.phantoms()[1].count, _ended),
    "stale_read": (lambda trace: trace.records.stale().stale, _read),
    "wrong_duplicate_answer": (lambda trace: trace.records.answers().wrong.count, _single),
    "audit_gap": (
        lambda trace: trace.audit_gaps().count,
        _needs("audit", "nothing writes an audit log yet"),
    ),
    "equivocation": (equivocations, _needs("root", "nothing publishes roots yet")),
    "resurrected": (lambda trace: trace.resurrected()[1].count, _ended),
    "residency_breach": (_breaches, _needs("residency", "nobody searched for marks")),
}
