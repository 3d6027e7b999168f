"""The judges of how regions behave while something is broken (spec/drills.md 4).

Like `check.py` they import no engine and no server.
"""

# ruff: noqa: D401 - the sentence of a judge is the promise itself

from __future__ import annotations

from typing import Any, Final

from .accounts import END
from .check import FAILS, HOLDS, UNPROVEN, Event, Trace
from .recovery import percentile, percentile_needs
from .verdicts import FAILOVER, NO_CENSUS, SERVER_FAULT, Said

LAG_SHARE: Final = 0.99
PAUSE_CALLS: Final = 5
"""Calls that must have met a change before its pause is judged; of few the longest counts."""

HLC_COUNTER_BITS: Final = 16


def canary(trace: Trace, _: Any) -> Said:
    """No known duplicate is taken as new: dedup is a store of truth, not a cache."""
    sent = [put for put in trace.of("put") if put.get("canary")]
    new = [put for put in sent if put["result"] == "new"]
    if new:
        return FAILS, f"{len(new)} of {len(sent)} known duplicates were taken as new"
    answered = sum(put["result"] == "duplicate" for put in sent)
    if answered < trace.needs("canaries"):
        return UNPROVEN, f"{answered} known duplicates were answered"
    return HOLDS, f"{answered} known duplicates answered as such, {len(sent) - answered} refused"


def stale_read_ms_max(trace: Trace, bound_ms: int) -> Said:
    """A read finds what its region has acknowledged, and soon what another has."""
    gets = trace.of("get")
    shown = [get for get in gets if get["result"] in ("present", "absent")]
    if len(shown) < trace.needs("reads"):
        return UNPROVEN, f"{len(shown)} reads were answered"
    acked = _first_acks(trace)
    worst = 0.0
    for get in (get for get in shown if get["result"] == "absent"):
        for (key, region), at_ns in acked.get(get["key"], {}).items():
            if at_ns >= get["call_ns"]:
                continue
            if region == get["region"]:
                return FAILS, f"{key}: absent in {region}, which had acknowledged it"
            worst = max(worst, (get["call_ns"] - at_ns) / 1e6)
    state = FAILS if worst > bound_ms else HOLDS
    return state, f"at most {worst:.0f} ms behind another region in {len(shown)} reads"


def _first_acks(trace: Trace) -> dict[str, dict[tuple[str, str], int]]:
    """Give by key when each region first acknowledged it."""
    found: dict[str, dict[tuple[str, str], int]] = {}
    for put in trace.of("put"):
        if put["result"] in ("new", "duplicate"):
            place = (put["key"], put["region"])
            found.setdefault(put["key"], {}).setdefault(place, put["at_ns"])
    return found


def single_writer(trace: Trace, _: Any) -> Said:
    """Once a later region_epoch has acknowledged a write, no earlier one accepts any more."""
    begun: dict[int, tuple[int, str]] = {}
    for put in (put for put in trace.of("put") if put["result"] == "new" and "position" in put):
        region, _, number, _ = put["position"].split("/")
        region_epoch = int(number)
        _, owner = begun.setdefault(region_epoch, (put["at_ns"], region))
        if owner != region:
            return FAILS, f"{owner} and {region} both wrote in region_epoch {region_epoch}"
        for later, (first_ns, other) in begun.items():
            if later > region_epoch and put["call_ns"] > first_ns:
                ms = (put["call_ns"] - first_ns) / 1e6
                return FAILS, f"{region} accepted a write {ms:.0f} ms after {other} had begun"
    if len(begun) < 2:
        return UNPROVEN, "only one region wrote"
    order = [f"{region} at {number}" for number, (_, region) in sorted(begun.items())]
    return HOLDS, f"one after the other: {', '.join(order)}"


def displaced_max(trace: Trace, bound: int) -> Said:
    """Few acknowledgements are overridden, and both records of each are kept."""
    account = trace.end
    if account is None:
        return NO_CENSUS
    count = account.total("displaced")
    return (FAILS if count > bound else HOLDS), f"{count} displaced; allowed {bound}"


def displaced_min(trace: Trace, bound: int) -> Said:
    """The drill made conflicts, and each region can show both records of every one."""
    account, census = trace.end, trace.censuses.get(END)
    if account is None or census is None:
        return NO_CENSUS
    down = {frame for frame, name in account.class_of.items() if name == "displaced"}
    if len(down) < bound:
        return UNPROVEN, f"{len(down)} displaced; the drill needs {bound}"
    for region, keys in census.items():
        shown = {frame for held in keys.values() for frame, _, _ in held.overridden}
        if down - shown:
            return FAILS, f"{region} cannot show {min(down - shown)}"
    return HOLDS, f"{len(down)} conflicts, both records of each in {len(census)} regions"


def recovered_late_min(trace: Trace, bound: int) -> Said:
    """What was gone at the failover came back with the disk that held it."""
    before, after = trace.account(FAILOVER), trace.end
    if before is None or after is None:
        return UNPROVEN, "the trace holds no census of the survivors and at the end"
    gone = {frame for frame, name in before.class_of.items() if name == "lost"}
    if len(gone) < bound:
        return UNPROVEN, f"{len(gone)} writes were gone; the drill needs {bound}"
    still = {frame for frame in gone if after.class_of[frame] == "lost"}
    state = FAILS if len(gone) - len(still) < bound else HOLDS
    return state, f"{len(gone) - len(still)} of {len(gone)} came back"


def success_share_min(trace: Trace, bound: float) -> Said:
    """Calls are good even while something is broken."""
    calls = [call for calls in trace.calls.values() for call in calls]
    if not calls:
        return UNPROVEN, "no call was made"
    share = sum(call.good for call in calls) / len(calls)
    return (HOLDS if share >= bound else FAILS), f"{share:.2%} of {len(calls)} calls were good"


def errors_max(trace: Trace, bound: int) -> Said:
    """Few requests fail."""
    puts = trace.of("put") + trace.of("get")
    bad = [one for one in puts if one["result"] == "unknown" or _is_server_fault(one)]
    if not puts:
        return UNPROVEN, "nothing was sent"
    first = f", the first {bad[0].get('code', bad[0]['result'])}" if bad else ""
    return (FAILS if len(bad) > bound else HOLDS), f"{len(bad)} of {len(puts)} failed{first}"


def _is_server_fault(event: Event) -> bool:
    return int(event.get("status", 0)) >= SERVER_FAULT


def write_pause_ms_max(trace: Trace, bound_ms: int) -> Said:
    """The calls around what people declared are hardly slower."""
    spans = [(event["at_ns"], _over_ns(trace, event)) for event in trace.of("declared")]
    took = [
        (call.returned_ns - call.due_ns) / 1e6
        for calls in trace.calls.values()
        for call in calls
        if any(begin <= call.returned_ns and call.due_ns <= end for begin, end in spans)
    ]
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
    started_ms = trace.header["started_unix_ns"] / 1e6
    worst, count = 0.0, 0
    for put in trace.of("put"):
        if put["result"] == "new" and "frame" in put:
            hlc_ms = int(put["frame"].partition(":")[2], 16) >> HLC_COUNTER_BITS
            worst = max(worst, hlc_ms - (started_ms + put["at_ns"] / 1e6))
            count += 1
    if count < trace.needs("acked"):
        return UNPROVEN, f"{count} writes were accepted"
    return (FAILS if worst > bound_ms else HOLDS), f"at most {worst:.0f} ms ahead in {count} writes"


def refused_min(trace: Trace, bound: int) -> Said:
    """Where a region cannot know, it refuses rather than guess."""
    refused = sum(
        put["result"] == "refused"
        and "status" in put
        and any(one.injected_ns <= put["at_ns"] for one in trace.incidents)
        for put in trace.of("put") + trace.of("get")
    )
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
