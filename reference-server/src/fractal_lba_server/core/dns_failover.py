"""Judge a set of DNS records before clients depend on it: who is answered, and how late.

Records choose by the client's location; each has a health check of its own or none. This file
owns the three rules of spec/roles.md 9: every client is answered whatever is down, every record
is probed as it was meant to be, and the time to live leaves room in the time to recover.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .faults import Fault
from .health import ProbeRule, detection

ANYWHERE: Final = "*"
"""The location of a record that answers everybody whom no other record does."""


@dataclass(frozen=True, slots=True)
class Record:
    """One answer: for clients of a location, a region, while its health check is good."""

    location: str
    region: str
    health_check: str | None
    ttl_s: int
    priority: int = 0
    """Of several records for a location the smallest healthy one answers."""


class Recovery(NamedTuple):
    """How long after a region's death its clients reach another, in seconds."""

    mean_s: float
    longest_s: float


def resolve(records: Sequence[Record], location: str, down: Collection[str]) -> str | None:
    """Name the region that a client is sent to, or None where it gets no answer.

    A record without a health check always looks healthy. A location whose records are all
    unhealthy falls to the records for anywhere; where those are unhealthy too, all count.
    """
    for place in (location, ANYWHERE):
        healthy = [
            one
            for one in records
            if one.location == place and not (one.health_check is not None and one.region in down)
        ]
        if healthy:
            return min(healthy, key=lambda one: one.priority).region
    blind = [one for one in records if one.location == ANYWHERE]
    return min(blind, key=lambda one: one.priority).region if blind else None


def recovery(rule: ProbeRule, *, propagation_s: float, ttl_s: float) -> Recovery:
    """Give the recovery of clients that honour the time to live."""
    bounds = detection(rule)
    mean_s = (bounds.above_ms + bounds.to_ms) / 2_000 + propagation_s + ttl_s / 2
    return Recovery(mean_s, bounds.to_ms / 1_000 + propagation_s + ttl_s)


def record_faults(
    records: Sequence[Record], rule: ProbeRule, *, propagation_s: float, recover_s: float
) -> Iterator[Fault]:
    """Say what is wrong in a set of records."""
    if not any(one.location == ANYWHERE for one in records):
        text = "no record for anywhere: clients of other places, and of a place that is down, "
        yield Fault("/records", f"{text}get no answer", 'add records with the location "*"')
    room_s = recover_s - recovery(rule, propagation_s=propagation_s, ttl_s=0).longest_s
    for index, one in enumerate(records):
        if one.health_check is None:
            text = "no health check: a region that is down is answered all the same"
            yield Fault(f"/records/{index}/health_check", text, "name the probe of /readyz")
        if one.ttl_s > room_s:
            text = f"longer than the {room_s:g} s that detection leaves of {recover_s:g} s"
            yield Fault(f"/records/{index}/ttl_s", text, "make it shorter")
