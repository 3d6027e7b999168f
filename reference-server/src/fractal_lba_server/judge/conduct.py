"""The judges of how regions behave while something is broken (spec/drills.md 4).

Like `check.py` they import no engine and no server.
"""

# ruff: noqa: D401 - the sentence of a judge is the promise itself

from __future__ import annotations

from typing import Any, Final

from .check import FAILS, HOLDS, UNPROVEN
from .parts import END, Event
from .recovery import percentile, percentile_needs
from .trace import Trace
from .verdicts import NO_CENSUS, Said

LAG_SHARE: Final = 0.99
PAUSE_CALLS: Final = 5
"""Calls that must have met a change before its pause is judged; of few the longest counts."""


def canary(trace: Trace, _: Any) -> Said:
    """No known duplicate is taken as new: dedup is a store of truth, not a cache."""
    sent, new, answered = trace.canaries()
    if new:
        return FAILS, f"{new} of {sent} known duplicates were taken as new"
    if answered < trace.needs("canaries"):
        return UNPROVEN, f"{answered} known duplicates were answered"
    return HOLDS, f"{answered} known duplicates answered as such, {sent - answered} refused"


def stale_read_ms_max(trace: Trace, bound_ms: int) -> Said:
    """A read finds what its region has acknowledged, and soon what another has."""
    reads, _, own, worst, _ = trace.records.stale()
    if own:
        return FAILS, f"{own.first}, which had acknowledged it"
    if reads < trace.needs("reads"):
        return UNPROVEN, f"{reads} reads were answered"
    state = FAILS if worst > bound_ms else HOLDS
    return state, f"at most {worst:.0f} ms behind another region in {reads} reads"


def single_writer(trace: Trace, _: Any) -> Said:
    """Once a later region_epoch has acknowledged a write, no earlier one accepts any more."""
    writers = trace.writers()
    begun: dict[str, dict[int, str]] = {}
    for (placement, number), regions in sorted(writers.items()):
        if len(regions) > 1:
            return FAILS, f"{' and '.join(sorted(regions))} both wrote in region_epoch {number}"
        ((region, one),) = regions.items()
        begun.setdefault(placement, {})[number] = region
        for (other, later), ((successor, next_one),) in (
            (place, known.items()) for place, known in writers.items() if len(known) == 1
        ):
            if other == placement and later > number and one.last_call_ns > next_one.first_ns:
                ms = (one.last_call_ns - next_one.first_ns) / 1e6
                return FAILS, f"{region} accepted a write {ms:.0f} ms after {successor} had begun"
    if all(len(order) < 2 for order in begun.values()):
        return UNPROVEN, "only one region wrote"
    orders = [f"{region} at {n}" for order in begun.values() for n, region in order.items()]
    return HOLDS, f"one after the other: {', '.join(orders)}"


def displaced_max(trace: Trace, bound: int) -> Said:
    """Few acknowledgements are overridden, and both records of each are kept."""
    books = trace.books(END)
    if books is None:
        return NO_CENSUS
    count = books.total("displaced")
    return (FAILS if count > bound else HOLDS), f"{count} displaced; allowed {bound}"


def displaced_min(trace: Trace, bound: int) -> Said:
    """The drill made conflicts, and each region can show both records of every one."""
    books = trace.books(END)
    if books is None:
        return NO_CENSUS
    down = books.total("displaced")
    if down < bound:
        return UNPROVEN, f"{down} displaced; the drill needs {bound}"
    hidden = trace.hidden()
    if hidden is not None:
        return FAILS, f"{hidden[0]} cannot show {hidden[1]}"
    return HOLDS, f"{down} conflicts, both records of each in {len(trace.census_of[END])} regions"


def recovered_late_min(trace: Trace, bound: int) -> Said:
    """What was gone at the failover came back with the disk that held it."""
    found = trace.late()
    if found is None:
        return UNPROVEN, "the trace holds no census of the survivors and at the end"
    gone, back = found
    if gone < bound:
        return UNPROVEN, f"{gone} writes were gone; the drill needs {bound}"
    return (FAILS if back < bound else HOLDS), f"{back} of {gone} came back"


def success_share_min(trace: Trace, bound: float) -> Said:
    """Calls are good even while something is broken."""
    forms = [calls for forms in trace.callers.values() for calls in forms]
    count = sum(calls.count for calls in forms)
    if not count:
        return UNPROVEN, "no call was made"
    share = sum(calls.good for calls in forms) / count
    return (HOLDS if share >= bound else FAILS), f"{share:.2%} of {count} calls were good"


def errors_max(trace: Trace, bound: int) -> Said:
    """Few requests fail."""
    sent, bad, unclear, first = trace.trouble()
    if not sent:
        return UNPROVEN, "nothing was sent"
    said = f"{bad} of {sent} failed" + (f", the first {first}" if bad else "")
    if bad <= bound < bad + unclear:
        return UNPROVEN, f"{said}; {unclear} were refused without a status"
    return (FAILS if bad > bound else HOLDS), said


def write_pause_ms_max(trace: Trace, bound_ms: int) -> Said:
    """The calls around what people declared are hardly slower."""
    windows = [(event["at_ns"], _over_ns(trace, event)) for event in trace.of("declared")]
    forms = [calls for forms in trace.callers.values() for calls in forms]
    took = [ms for calls in forms for ms in calls.took_ms(windows)]
    if len(took) < PAUSE_CALLS:
        return UNPROVEN, f"{len(took)} calls in the time of the change"
    few = len(took) < percentile_needs(LAG_SHARE)
    worst = max(took) if few else percentile(took, LAG_SHARE)
    said = f"{'longest' if few else 'p99'} {worst:.1f} ms of {len(took)} calls"
    return (FAILS if worst > bound_ms else HOLDS), said


def _over_ns(trace: Trace, declared: Event) -> int:
    ends = [int(e["at_ns"]) for e in trace.of("phase") if e["incident"] == declared["incident"]]
    return max(ends, default=trace.end_ns)


def lag_p99_ms_max(trace: Trace, bound_ms: int) -> Said:
    """Peers are never far behind."""
    ages = [event["age_ms"] for event in trace.of("lag")]
    if len(ages) < percentile_needs(LAG_SHARE):
        return UNPROVEN, f"{len(ages)} measurements"
    worst = percentile(ages, LAG_SHARE)
    return (FAILS if worst > bound_ms else HOLDS), f"p99 {worst:.0f} ms in {len(ages)} measurements"


def hlc_ahead_ms_max(trace: Trace, bound_ms: int) -> Said:
    """No write claims a time that has not come."""
    worst, count = trace.records.ahead(trace.header["started_unix_ns"] / 1e6)
    if count < trace.needs("acked"):
        return UNPROVEN, f"{count} writes were accepted"
    return (FAILS if worst > bound_ms else HOLDS), f"at most {worst:.0f} ms ahead in {count} writes"


def refused_min(trace: Trace, bound: int) -> Said:
    """Where a region cannot know, it refuses rather than guess."""
    refused = trace.refused()
    return (FAILS if refused < bound else HOLDS), f"{refused} refused; at least {bound}"


def residency(trace: Trace, _: Any) -> Said:
    """No byte of a locked tenant is where it may not be."""
    looked = trace.of("residency")
    found = [event for event in looked if event["found"]]
    if found:
        event = found[0]
        return FAILS, f"{event['found']} marks in the {event['where']} of {event['region']}"
    if not looked or any(not e["scanned_bytes"] or not e.get("control_found") for e in looked):
        return UNPROVEN, "no search that found the marks where they must be"
    total = sum(event["scanned_bytes"] for event in looked)
    return HOLDS, f"no mark in {total} bytes of {len(looked)} searches"
