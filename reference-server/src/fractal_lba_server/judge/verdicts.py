"""The judges of what is kept: loss, first writes, equal regions, recovery (spec/drills.md 4).

Like `check.py` they import no engine and no server. Each gives a state and one sentence; the
sentence of a failure names the first offender.
"""

# ruff: noqa: D401 - the sentence of a judge is the promise itself

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .check import FAILS, HOLDS, UNPROVEN
from .parts import CLASSES, END, Incident, Loss
from .recovery import percentile, percentile_needs, zero_bound
from .trace import Trace

Said = tuple[str, str]

NO_CENSUS: Final = (UNPROVEN, "the trace holds no census at the end")


def bound_text(trials: int, what: str) -> str:
    """Say what a zero in `trials` is worth."""
    return f"0 in {trials} {what}: below {zero_bound(trials):.3%} with 95 % confidence"


def complete(trace: Trace, _: Any) -> Said:
    """The run came to its end, and nothing happened that the drill did not plan."""
    errors = trace.of("error")
    if errors:
        return FAILS, f"not planned: {errors[0]['said']}"
    if not trace.ended:
        return FAILS, "the trace stops before its end"
    return HOLDS, f"{trace.size} events"


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
    books = trace.books(END)
    if books is None:
        return NO_CENSUS
    if books.faults:
        return FAILS, f"{books.faults.count} faults; {books.faults.first}"
    if books.total("acked") < trace.needs("acked"):
        return UNPROVEN, f"{books.total('acked')} writes were acknowledged"
    parts = " + ".join(f"{books.total(name)} {name}" for name in CLASSES)
    return HOLDS, f"{books.total('acked')} acknowledged = {parts}"


def answers(trace: Trace, _: Any) -> Said:
    """A duplicate is told the outcome of its own content, always in the same bytes."""
    seen, wrong = trace.records.answers()
    if wrong:
        return FAILS, str(wrong.first)
    return (HOLDS, f"{seen} answers") if seen else (UNPROVEN, "nothing was answered")


def phantom(trace: Trace, _: Any) -> Said:
    """Nothing is held that nobody sent."""
    if END not in trace.census_at:
        return NO_CENSUS
    sent, ghosts = trace.phantoms()
    if ghosts:
        return FAILS, f"{ghosts.count} ids that nobody sent, the first {ghosts.first}"
    return HOLDS, f"{sent} ids were sent"


def resurrected(trace: Trace, _: Any) -> Said:
    """What was overridden never stands again."""
    if END not in trace.census_at:
        return NO_CENSUS
    down, back = trace.resurrected()
    if back:
        return FAILS, f"{back.first} was overridden and stands again"
    return HOLDS, f"{down} overridden writes stayed so"


def first_write(trace: Trace, _: Any) -> Said:
    """What stands is the first write, as the regions have agreed to order writes."""
    if END not in trace.census_at:
        return NO_CENSUS
    count, wrong = trace.records.younger()
    if wrong:
        return FAILS, f"{wrong.count} of {count} stand though they are younger; {wrong.first}"
    return HOLDS, f"{count} were overridden by an older write"


def no_loss_at_level(trace: Trace, level: str) -> Said:
    """No write acknowledged at a level is gone."""
    if END not in trace.census_at:
        return NO_CENSUS
    strong, lost = trace.at_level(level)
    if lost:
        return FAILS, f"{lost.count} of {strong} lost, the first {lost.first}"
    if strong < trace.needs("acked") or len(trace.incidents) < trace.needs("incidents"):
        return UNPROVEN, f"{strong} writes at {level}, {len(trace.incidents)} faults"
    flying = sum(trace.in_flight(one.injected_ns) for one in trace.incidents)
    return HOLDS, (
        f"{bound_text(len(trace.incidents), 'faults')}; {bound_text(strong, 'records')}; "
        f"{flying} in flight at the faults"
    )


def no_loss_end_to_end(trace: Trace, _: Any) -> Said:
    """What an outbox took stands at the end, whatever a region lost."""
    books = trace.books(END)
    if books is None:
        return NO_CENSUS
    gone = books.lost_for_good
    if gone:
        return FAILS, f"{gone.count} acknowledged writes are gone, the first {gone.first}"
    taken, missing = trace.records.taken()
    if missing:
        return FAILS, f"{missing.count} records never arrived, the first {missing.first}"
    boxes = {event["client"]: event for event in trace.of("outbox")}
    left = sum(event["waiting"] + event.get("dropped", 0) for event in boxes.values())
    if left:
        return FAILS, f"{left} records were still in an outbox, or dropped by it"
    sent = trace.runs.clients()
    silent = sorted(set(sent) - boxes.keys())
    if silent:
        return UNPROVEN, f"nothing says what the outbox of {silent[0]} still holds"
    taken += sum(sent.values())
    if taken < trace.needs("acked"):
        return UNPROVEN, f"{taken} records were taken"
    return HOLDS, f"{taken} records stand, {books.brought} brought by an outbox"


def linearizable(trace: Trace, mode: str) -> Said:
    """Each id is a register that is written once."""
    judged, unresolved, split, fault = trace.records.registers(mode)
    if fault:
        return FAILS, str(fault.first)
    if trace.runs:
        return UNPROVEN, f"{judged} ids judged, but runs of records name no ids"
    if unresolved or not judged:
        return UNPROVEN, f"{judged} ids judged, {unresolved} answers of unknown content"
    return HOLDS, f"{judged} ids judged" + (f", {split} split" if split else "")


def digests_equal(trace: Trace, _: Any) -> Said:
    """After every heal, and at the end, all regions are in one state."""
    groups = digest_groups(trace)
    for (after, placement), found in groups.items():
        if len(set(found.values())) > 1:
            return FAILS, f"{placement} differs after {after} in {', '.join(sorted(found))}"
    different = trace.unequal()
    if different:
        return FAILS, f"{different[0]} holds different outcomes in its regions at the end"
    wanted = {one.id for one in trace.incidents if one.healed_ns is not None} | {END}
    compared = {after for (after, _), found in groups.items() if len(found) > 1}
    if wanted - compared:
        return UNPROVEN, f"no digests of two regions after {min(wanted - compared)}"
    return HOLDS, f"equal at {len(groups)} moments"


def digest_groups(trace: Trace) -> dict[tuple[str, str], dict[str, str]]:
    """Gather the digests that must be equal: by (after what, placement), by region."""
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for event in trace.of("digest"):
        group = groups.setdefault((event["after"], event["placement"]), {})
        group[event["region"]] = event["digest"]
    return groups


def _known_until(trace: Trace, one: Incident) -> int:
    """Give the last moment before the next fault at which calls were still due."""
    last = [calls.last_due_ns for forms in trace.callers.values() for calls in forms]
    return min([one.until_ns, *last])


def outages(trace: Trace) -> dict[str, dict[str, int | None]]:
    """Give by fault and client when its calls succeeded again; None if they never did."""
    found: dict[str, dict[str, int | None]] = {}
    for one in trace.incidents if trace.callers else ():
        end_ns = _known_until(trace, one)
        for client, forms in trace.callers.items():
            moments = [
                calls.recovered_at(
                    disrupted_ns=one.injected_ns, until_ns=one.until_ns,
                    steady_ns=trace.steady_ns, end_ns=end_ns,
                )
                for calls in forms
            ]  # fmt: skip
            found.setdefault(one.id, {})[client] = _latest(one, moments)
    return found


def _latest(one: Incident, moments: list[int | None]) -> int | None:
    known = [at_ns for at_ns in moments if at_ns is not None]
    return max([one.injected_ns, *known]) if len(known) == len(moments) else None


def worst_outages(trace: Trace) -> dict[str, int | None]:
    """Give by fault when the last client population had recovered; None if one never did."""
    found = outages(trace)
    return {
        one.id: _latest(one, list(found[one.id].values()))
        for one in trace.incidents
        if one.id in found
    }


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


def rpo_s(trace: Trace, bound: float) -> Said:
    """The oldest acknowledged write that is gone was young."""
    return _ages(trace, bound, lambda one, loss: loss.age_s(one.injected_ns))


def rpo_work_s(trace: Trace, bound: float) -> Said:
    """The acknowledged writes that are gone are the work of a short time."""
    return _ages(trace, bound, lambda _, loss: loss.work_s)


def _ages(trace: Trace, bound: float, age_s: Callable[[Incident, Loss], float]) -> Said:
    charged = trace.gone
    if charged is None:
        return NO_CENSUS
    if len(charged) < trace.needs("incidents"):
        return UNPROVEN, f"{len(charged)} faults"
    ages = [age_s(one, loss) for one, loss in charged if loss.records]
    if any(age > bound for age in ages):
        return FAILS, f"{max(ages):.3f} s, more than {bound:g} s"
    if not ages:
        return HOLDS, f"nothing is gone; {bound_text(len(charged), 'faults')}"
    return HOLDS, f"{max(ages):.3f} s of {bound:g} s"


def rpo_records(trace: Trace, bound: int) -> Said:
    """Few acknowledged writes are gone."""
    charged = trace.gone
    if charged is None:
        return NO_CENSUS
    if len(charged) < trace.needs("incidents"):
        return UNPROVEN, f"{len(charged)} faults"
    worst = max((loss.records for _, loss in charged), default=0)
    size = max((loss.bytes for _, loss in charged), default=0)
    return (FAILS if worst > bound else HOLDS), f"{worst} records, {size} bytes; allowed {bound}"
