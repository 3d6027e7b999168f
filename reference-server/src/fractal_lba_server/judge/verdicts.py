"""The judges of what is kept: loss, first writes, equal regions, recovery (spec/drills.md 4).

Like `check.py` they import no engine and no server. Each gives a state and one sentence; the
sentence of a failure names the first offender.
"""

# ruff: noqa: D401 - the sentence of a judge is the promise itself

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .accounts import CLASSES, END, LEVELS, OPEN, Ack
from .check import FAILS, HOLDS, UNPROVEN, Event, Incident, Trace, bound_text
from .recovery import percentile, percentile_needs, recovered_at
from .register import ABSENT, ACCEPTED, SEEN, UNKNOWN, Operation, fault_of

Said = tuple[str, str]

SERVER_FAULT: Final = 500
"""Statuses from here on are faults of a server."""

NO_CENSUS: Final = (UNPROVEN, "the trace holds no census at the end")

FAILOVER: Final = "failover"
"""The name of a census of the survivors, before a lost region returns."""


def complete(trace: Trace, _: Any) -> Said:
    """The run came to its end, and nothing happened that the drill did not plan."""
    errors = trace.of("error")
    if errors:
        return FAILS, f"not planned: {errors[0]['said']}"
    if trace.events[-1]["event"] != "end":
        return FAILS, "the trace stops before its end"
    return HOLDS, f"{len(trace.events)} events"


def effects(trace: Trace, _: Any) -> Said:
    """Every fault did something; one without effect makes the run invalid."""
    planned = {fault["id"] for fault in trace.scenario.get("faults", [])}
    idle = [one.id for one in trace.incidents if not any(one.effects.values())]
    begun = {one.id.partition("#")[0] for one in trace.incidents}
    missing = sorted(planned - begun)
    if missing:
        return FAILS, f"the fault {missing[0]} was never injected: the run is invalid"
    if idle:
        return FAILS, f"the fault {idle[0]} had no effect: the run is invalid"
    counts = [f"{name} {n}" for one in trace.incidents for name, n in one.effects.items()]
    return HOLDS, ", ".join(counts[:6]) or "no fault planned"


def accounting(trace: Trace, _: Any) -> Said:
    """Every acknowledged write is in exactly one class, and so in every region."""
    account = trace.end
    if account is None:
        return NO_CENSUS
    if account.faults:
        return FAILS, f"{len(account.faults)} faults; {account.faults[0]}"
    if account.total("acked") < trace.needs("acked"):
        return UNPROVEN, f"{account.total('acked')} writes were acknowledged"
    parts = " + ".join(f"{account.total(name)} {name}" for name in CLASSES)
    return HOLDS, f"{account.total('acked')} acknowledged = {parts}"


def answers(trace: Trace, _: Any) -> Said:
    """A duplicate is told the outcome of its own content, always in the same bytes."""
    outcome_of: dict[str, str] = {}
    seen = 0
    for event in trace.of("put") + trace.of("get"):
        frame, outcome = event.get("frame"), event.get("outcome")
        if frame is None:
            continue
        if outcome is not None and outcome_of.setdefault(frame, outcome) != outcome:
            return FAILS, f"{frame} was answered in different bytes"
        content = trace.content_of.get(frame)
        if event.get("result") == "duplicate" and content not in (None, event["content"]):
            return FAILS, f"{event['key']}: told a duplicate of {frame}, which is other content"
        seen += 1
    return (HOLDS, f"{seen} answers") if seen else (UNPROVEN, "nothing was answered")


def phantom(trace: Trace, _: Any) -> Said:
    """Nothing is held that nobody sent."""
    census = trace.censuses.get(END)
    if census is None:
        return NO_CENSUS
    sent = {put["key"] for put in trace.of("put")}
    ghosts = sorted({key for keys in census.values() for key in keys} - sent)
    if ghosts:
        return FAILS, f"{len(ghosts)} ids that nobody sent, the first {ghosts[0]}"
    return HOLDS, f"{len(sent)} ids were sent"


def resurrected(trace: Trace, _: Any) -> Said:
    """What was overridden never stands again."""
    if END not in trace.censuses:
        return NO_CENSUS
    moment = {e["census"]: e["at_ns"] for e in trace.of("census")}
    down: set[str] = set()
    for name in sorted(moment, key=lambda name: int(moment[name])):
        regions = trace.censuses[name].values()
        standing = {held.frame for keys in regions for held in keys.values()}
        back = sorted(standing & down)
        if back:
            return FAILS, f"{back[0]} was overridden and stands again"
        down |= {f for keys in regions for held in keys.values() for f, _, _ in held.overridden}
    return HOLDS, f"{len(down)} overridden writes stayed so"


def no_loss_at_level(trace: Trace, level: str) -> Said:
    """No write acknowledged at a level is gone."""
    account = trace.end
    if account is None:
        return NO_CENSUS
    wanted = LEVELS.index(level)
    strong = [ack for ack in trace.acks.values() if LEVELS.index(ack.level) >= wanted]
    gone = [ack.frame for ack in strong if account.class_of.get(ack.frame) == "lost"]
    if gone:
        return FAILS, f"{len(gone)} of {len(strong)} lost, the first {gone[0]}"
    if len(strong) < trace.needs("acked") or len(trace.incidents) < trace.needs("incidents"):
        return UNPROVEN, f"{len(strong)} writes at {level}, {len(trace.incidents)} faults"
    flying = sum(trace.in_flight(one.injected_ns) for one in trace.incidents)
    return HOLDS, (
        f"{bound_text(len(trace.incidents), 'faults')}; {bound_text(len(strong), 'records')}; "
        f"{flying} in flight at the faults"
    )


def no_loss_end_to_end(trace: Trace, _: Any) -> Said:
    """What an outbox took stands at the end, whatever a region lost."""
    account, census = trace.end, trace.censuses.get(END)
    if account is None or census is None:
        return NO_CENSUS
    gone = account.lost_for_good
    if gone:
        return FAILS, f"{len(gone)} acknowledged writes are gone, the first {gone[0]}"
    held = {key for keys in census.values() for key in keys}
    taken = {c["key"] for c in trace.of("call") if c["result"] in ("recorded", "queued")}
    missing = sorted(taken - held)
    if missing:
        return FAILS, f"{len(missing)} records never arrived, the first {missing[0]}"
    if len(taken) < trace.needs("acked"):
        return UNPROVEN, f"{len(taken)} records were taken"
    return HOLDS, f"{len(taken)} records stand, {len(account.by_client)} brought by an outbox"


def linearizable(trace: Trace, mode: str) -> Said:
    """Each id is a register that is written once."""
    histories, unresolved = _histories(trace, [] if mode == "writes" else trace.of("get"))
    census = trace.censuses.get(END, {})
    split = {key for keys in census.values() for key, held in keys.items() if held.overridden}
    judged = 0
    for key, history in histories.items():
        if mode != "strict" and key in split:
            continue
        judged += 1
        fault = fault_of(history)
        if fault is not None:
            return FAILS, f"{key}: {fault}"
    if unresolved or not judged:
        return UNPROVEN, f"{judged} ids judged, {unresolved} answers of unknown content"
    return HOLDS, f"{judged} ids judged" + (f", {len(split)} split" if split else "")


def _histories(trace: Trace, gets: list[Event]) -> tuple[dict[str, list[Operation]], int]:
    kinds = {"new": ACCEPTED, "duplicate": SEEN, "conflict": SEEN, "unknown": UNKNOWN}
    kinds |= {"present": SEEN, "absent": ABSENT}
    sent: dict[str, set[str]] = {}
    unanswered: dict[str, set[str]] = {}
    for put in trace.of("put"):
        sent.setdefault(put["key"], set()).add(put["content"])
        if put["result"] == "unknown":
            unanswered.setdefault(put["key"], set()).add(put["content"])
    histories: dict[str, list[Operation]] = {}
    unresolved = 0
    for event in trace.of("put") + gets:
        kind = kinds.get(event["result"])
        if event["result"] == "refused" and event["event"] == "put":
            # What failed inside a server may have reached its log before it did.
            kind = UNKNOWN if int(event.get("status", 0)) >= SERVER_FAULT else None
        if kind is None or (event["result"] == "unknown" and event["event"] == "get"):
            continue
        value = _value(trace, event, sent if event["result"] == "conflict" else unanswered)
        if kind == SEEN and value is None:
            unresolved += 1
            continue
        operation = Operation(kind, value, event["call_ns"], event["at_ns"])
        histories.setdefault(event["key"], []).append(operation)
    return histories, unresolved


def _value(trace: Trace, event: Event, candidates: dict[str, set[str]]) -> str | None:
    """Give the content that an operation wrote or saw; None if several are possible.

    A conflict saw a content other than its own, a read of an unknown frame one whose put had no
    answer.
    """
    if event["result"] in ("new", "unknown", "duplicate", "refused"):
        return str(event["content"])
    known = trace.content_of.get(event.get("frame", ""))
    others = candidates.get(event["key"], set()) - {event.get("content")}
    if known is None and len(others) == 1:
        (known,) = others
    return known


def digests_equal(trace: Trace, _: Any) -> Said:
    """After every heal, and at the end, all regions are in one state."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for event in trace.of("digest"):
        group = groups.setdefault((event["after"], event["placement"]), {})
        group[event["region"]] = event["digest"]
    for (after, placement), found in groups.items():
        if len(set(found.values())) > 1:
            return FAILS, f"{placement} differs after {after} in {', '.join(sorted(found))}"
    different = _unequal(trace)
    if different is not None:
        return FAILS, f"{different} holds different outcomes in its regions at the end"
    wanted = {one.id for one in trace.incidents if one.healed_ns is not None} | {END}
    compared = {after for (after, _), found in groups.items() if len(found) > 1}
    if wanted - compared:
        return UNPROVEN, f"no digests of two regions after {min(wanted - compared)}"
    return HOLDS, f"equal at {len(groups)} moments"


def _unequal(trace: Trace) -> str | None:
    """Name a placement whose regions hold different outcomes in the last census."""
    census = trace.censuses.get(END, {})
    placements = trace.scenario.get("topology", {}).get("placements", {OPEN: {}})
    for name, placement in placements.items():
        states = [
            {key: held.frame for key, held in keys.items() if held.placement == name}
            for code, keys in census.items()
            if code in placement.get("regions", census)
        ]
        if any(state != states[0] for state in states):
            return str(name)
    return None


def _known_until(trace: Trace, one: Incident) -> int:
    """Give the last moment before the next fault at which calls were still due."""
    return min(one.until_ns, *(calls[-1].due_ns for calls in trace.calls.values()))


def _outages(trace: Trace) -> list[tuple[Incident, str, int | None]]:
    """Give for each fault and client when its calls succeeded again."""
    return [
        (
            one, client,
            recovered_at(
                [call for call in calls if call.due_ns < one.until_ns],
                disrupted_ns=one.injected_ns, steady_ns=trace.steady_ns,
                end_ns=_known_until(trace, one),
            ),
        )
        for one in trace.incidents
        for client, calls in trace.calls.items()
    ]  # fmt: skip


def worst_outages(trace: Trace) -> dict[str, int | None]:
    """Give by fault when the last client population had recovered; None if one never did."""
    worst: dict[str, int | None] = {}
    for one, _, at_ns in _outages(trace):
        known = worst.get(one.id, one.injected_ns)
        worst[one.id] = None if at_ns is None or known is None else max(known, at_ns)
    return worst


def rto_s(trace: Trace, bound: float) -> Said:
    """Requests of every client succeed again in time."""
    outages = worst_outages(trace)
    if len(outages) < trace.needs("incidents"):
        return UNPROVEN, f"{len(outages)} faults were seen by clients"
    begun = {one.id: one.injected_ns for one in trace.incidents}
    unknown = [id for id, at_ns in outages.items() if at_ns is None]
    took = [(at - begun[id]) / 1e9 for id, at in outages.items() if at is not None]
    steady = f"steady for {trace.steady_ns / 1e9:g} s"
    over = [seconds for seconds in took if seconds > bound]
    if over:
        return FAILS, f"{max(over):.2f} s, more than {bound:g} s ({steady})"
    if unknown:
        ends = {one.id: _known_until(trace, one) for one in trace.incidents}
        shown = (ends[unknown[0]] - begun[unknown[0]] - trace.steady_ns) / 1e9
        if shown > bound:
            return FAILS, f"no recovery within {shown:.1f} s after {unknown[0]} ({steady})"
        return UNPROVEN, f"the trace ends before {unknown[0]} can be over ({steady})"
    said = f"at most {max(took):.2f} s of {bound:g} s in {len(took)} outages ({steady})"
    if len(took) >= percentile_needs(0.95):
        said += f", p95 {percentile(took, 0.95):.2f} s"
    return HOLDS, said


def gone(trace: Trace) -> list[tuple[Incident, list[Ack]]] | None:
    """Give by fault the acknowledged writes that are gone; None without a census.

    A census of the survivors decides, if there is one, else the last. A write is charged to the
    first fault after its acknowledgement.
    """
    account = trace.account(FAILOVER) or trace.end
    if account is None:
        return None
    lost = [trace.acks[frame] for frame, name in account.class_of.items() if name == "lost"]
    charged: list[tuple[Incident, list[Ack]]] = [(one, []) for one in trace.incidents]
    for ack in lost:
        place = [acks for one, acks in charged if one.injected_ns >= ack.at_ns]
        (place or [acks for _, acks in charged[-1:]] or [[]])[0].append(ack)
    return charged


def rpo_s(trace: Trace, bound: float) -> Said:
    """The oldest acknowledged write that is gone was young."""
    return _ages(trace, bound, lambda one, acks: one.injected_ns - min(a.at_ns for a in acks))


def rpo_work_s(trace: Trace, bound: float) -> Said:
    """The acknowledged writes that are gone are the work of a short time."""
    return _ages(
        trace, bound, lambda _, acks: max(a.at_ns for a in acks) - min(a.at_ns for a in acks)
    )


def _ages(trace: Trace, bound: float, span_ns: Callable[[Incident, list[Ack]], int]) -> Said:
    charged = gone(trace)
    if charged is None:
        return NO_CENSUS
    if len(charged) < trace.needs("incidents"):
        return UNPROVEN, f"{len(charged)} faults"
    ages = [max(0, span_ns(one, acks)) / 1e9 for one, acks in charged if acks]
    if any(age > bound for age in ages):
        return FAILS, f"{max(ages):.3f} s, more than {bound:g} s"
    if not ages:
        return HOLDS, f"nothing is gone; {bound_text(len(charged), 'faults')}"
    return HOLDS, f"{max(ages):.3f} s of {bound:g} s"


def rpo_records(trace: Trace, bound: int) -> Said:
    """Few acknowledged writes are gone."""
    charged = gone(trace)
    if charged is None:
        return NO_CENSUS
    if len(charged) < trace.needs("incidents"):
        return UNPROVEN, f"{len(charged)} faults"
    worst = max((len(acks) for _, acks in charged), default=0)
    size = max((sum(ack.size for ack in acks) for _, acks in charged), default=0)
    return (FAILS if worst > bound else HOLDS), f"{worst} records, {size} bytes; allowed {bound}"
