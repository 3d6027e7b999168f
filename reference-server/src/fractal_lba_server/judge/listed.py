"""Judge single records that are held in memory one by one.

The invariant of this file: it is the plain form of every question in `parts.py`, which the
columns of `columns.py` must answer alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Final

from .accounts import Account, Ack, Census, acknowledgements, censuses, settle
from .flows import stream_of
from .parts import (
    END,
    FAILOVER,
    LEVELS,
    SERVER_FAULT,
    Answers,
    Books,
    Canaries,
    Event,
    Incident,
    Loss,
    Members,
    Names,
    Registers,
    Stale,
    Trouble,
    Writers,
    Writing,
)
from .register import ABSENT, ACCEPTED, SEEN, UNKNOWN, Operation, fault_of

HLC_COUNTER_BITS: Final = 16
HLC_DIGITS: Final = 16

KINDS: Final = {
    "new": ACCEPTED, "duplicate": SEEN, "conflict": SEEN, "unknown": UNKNOWN,
    "present": SEEN, "absent": ABSENT,
}  # fmt: skip
"""What an answer says about a register."""


def named(names: Sequence[str]) -> Names:
    """Count names and keep the first."""
    return Names(len(names), names[0] if names else None)


def hlc_of(frame: str) -> int:
    """Give the HLC in the name of a frame (spec/drills.md 2.5)."""
    return int(frame.partition(":")[2][:HLC_DIGITS], 16)


class ListedRecords:
    """The puts, gets, calls and held lines of a trace."""

    def __init__(self, of: Callable[[str], list[Event]], census_at: Mapping[str, int]) -> None:
        """Take what gives the events of a kind in the order of their time."""
        self._of = of
        self._census_at = census_at
        self._accounts: dict[str, Account] = {}

    @cached_property
    def acks(self) -> dict[str, Ack]:
        """Give what was acknowledged, by frame."""
        return acknowledgements(self._of("put"), self._of("watermark"))

    @cached_property
    def censuses(self) -> dict[str, Census]:
        """Give what the regions held, by the name of the census."""
        return censuses(self._of("census") + self._of("held"))

    def account(self, census: str) -> Account:
        """Settle the acknowledgements that a census must know."""
        if census not in self._accounts:
            moment = self._census_at[census]
            known = {frame: ack for frame, ack in self.acks.items() if ack.at_ns <= moment}
            self._accounts[census] = settle(known, self.censuses[census])
        return self._accounts[census]

    @cached_property
    def content_of(self) -> dict[str, str]:
        """Give what is known of the content of frames; what was said first counts."""
        known = {ack.frame: ack.content for ack in self.acks.values()}
        for put in self._of("put"):
            if put["result"] == "new" and "frame" in put:
                known.setdefault(put["frame"], put["content"])
        for held in self._of("held"):
            known.setdefault(held["frame"], held["content"])
        for held in self._of("held"):
            for other in held["overridden"]:
                known.setdefault(other["frame"], other["content"])
        return known

    def results(self) -> Counter[str]:
        """Count the answers of puts by result."""
        return Counter(put["result"] for put in self._of("put"))

    def books(self, census: str) -> Books:
        """Put every acknowledgement that a census must know into one class."""
        account = self.account(census)
        return Books(
            account.by_region, named(account.faults), len(account.by_client),
            named(account.lost_for_good),
        )  # fmt: skip

    def at_level(self, level: str) -> tuple[int, Names]:
        """Count what was acknowledged at a level or above, and name what of it is lost."""
        wanted = LEVELS.index(level)
        strong = [ack for ack in self.acks.values() if LEVELS.index(ack.level) >= wanted]
        class_of = self.account(END).class_of
        return len(strong), named([a.frame for a in strong if class_of.get(a.frame) == "lost"])

    def charged(self, census: str, incidents: Sequence[Incident]) -> list[Loss]:
        """Give for every fault the acknowledged writes that it took."""
        losses = [Loss() for _ in incidents]
        for frame, name in self.account(census).class_of.items() if incidents else ():
            if name == "lost":
                ack = self.acks[frame]
                later = (n for n, one in enumerate(incidents) if one.injected_ns >= ack.at_ns)
                place = next(later, len(incidents) - 1)
                losses[place].add(Loss(1, ack.size, ack.at_ns, ack.at_ns))
        return losses

    def late(self) -> tuple[int, int]:
        """Count what was lost at the failover, and what of it is back at the end."""
        after = self.account(END).class_of
        gone = [f for f, name in self.account(FAILOVER).class_of.items() if name == "lost"]
        return len(gone), sum(after[frame] != "lost" for frame in gone)

    def phantoms(self) -> tuple[int, Names]:
        """Count what was sent, and name what is held at the end that nobody sent."""
        sent = {put["key"] for put in self._of("put")}
        held = {key for keys in self.censuses[END].values() for key in keys}
        return len(sent), named(sorted(held - sent))

    def resurrected(self) -> tuple[int, Names]:
        """Count what was overridden, and name what of it stood later."""
        down: set[str] = set()
        back: set[str] = set()
        for name in sorted(self._census_at, key=lambda name: self._census_at[name]):
            regions = self.censuses[name].values()
            back |= {held.frame for keys in regions for held in keys.values()} & down
            for keys in regions:
                for held in keys.values():
                    down.update(frame for frame, _, _ in held.overridden)
        return len(down), named(sorted(back))

    def hidden(self, members: Members) -> tuple[str, str] | None:
        """Give a region and a displaced write that it cannot show at the end."""
        census = self.censuses[END]
        down: dict[str, set[str]] = {}
        for keys in census.values():
            for held in keys.values():
                displaced = [
                    frame
                    for frame, _, _ in held.overridden
                    if self.account(END).class_of.get(frame) == "displaced"
                ]
                down.setdefault(held.placement, set()).update(displaced)
        for placement, frames in sorted(down.items()):
            for region in members(placement):
                keys = census.get(region, {})
                shown = {frame for held in keys.values() for frame, _, _ in held.overridden}
                if frames - shown:
                    return region, min(frames - shown)
        return None

    def unequal(self, placement: str, regions: Sequence[str]) -> bool:
        """Say whether regions hold different outcomes of a placement at the end."""
        census = self.censuses.get(END, {})
        states = [
            {
                key: held.frame
                for key, held in census.get(region, {}).items()
                if held.placement == placement
            }
            for region in regions
        ]
        return any(state != states[0] for state in states)

    def writers(self) -> Writers:
        """Say who accepted writes, and when."""
        found: Writers = {}
        for put in self._of("put"):
            if put["result"] != "new" or "position" not in put:
                continue
            region, placement, number, _ = put["position"].split("/")
            regions = found.setdefault((placement, int(number)), {})
            known = regions.get(region, Writing(put["at_ns"], put["call_ns"]))
            regions[region] = Writing(known.first_ns, max(known.last_call_ns, put["call_ns"]))
        return found

    def canaries(self) -> Canaries:
        """Count the known duplicates that were sent again."""
        sent = Counter(put["result"] for put in self._of("put") if put.get("canary"))
        return Canaries(sum(sent.values()), sent["new"], sent["duplicate"])

    def trouble(self) -> Trouble:
        """Count the requests that failed."""
        sent = self._of("put") + self._of("get")
        bad = [
            one
            for one in sent
            if one["result"] == "unknown" or int(one.get("status", 0)) >= SERVER_FAULT
        ]
        first = bad[0].get("code", bad[0]["result"]) if bad else None
        return Trouble(len(sent), len(bad), 0, first)

    def refused_after(self, at_ns: int) -> int:
        """Count the refusals with a status from a moment on."""
        return sum(
            one["result"] == "refused" and "status" in one and at_ns <= one["at_ns"]
            for one in self._of("put") + self._of("get")
        )

    def in_flight(self, at_ns: int) -> int:
        """Count the puts that were under way at a moment."""
        return sum(put["call_ns"] <= at_ns < put["at_ns"] for put in self._of("put"))

    def audit_gaps(self) -> Names:
        """Name acknowledged writes that the audit log has no entry of."""
        seen: dict[str, list[tuple[int, int]]] = {}
        for line in self._of("audit"):
            stream = stream_of(line["region"], line["placement"], line["region_epoch"])
            seen.setdefault(stream, []).append((line["first"], line["first"] + line["count"]))
        gaps = []
        for ack in self.acks.values():
            stream, _, seq = (ack.position or "").rpartition("/")
            ranges = seen.get(stream, ())
            if not seq or not any(begin <= int(seq) < end for begin, end in ranges):
                gaps.append(ack.frame)
        return named(gaps)

    def answers(self) -> Answers:
        """Judge the answers that name a write."""
        outcome_of: dict[str, str] = {}
        seen, wrong = 0, []
        for event in self._of("put") + self._of("get"):
            frame, outcome = event.get("frame"), event.get("outcome")
            if frame is None:
                continue
            seen += 1
            content = self.content_of.get(frame)
            if outcome is not None and outcome_of.setdefault(frame, outcome) != outcome:
                wrong.append(f"{frame} was answered in different bytes")
            elif event.get("result") == "duplicate" and content not in (None, event["content"]):
                said = f"{event['key']}: told a duplicate of {frame}, which is other content"
                wrong.append(said)
        return Answers(seen, named(wrong))

    def registers(self, mode: str) -> Registers:
        """Judge each id as a register."""
        histories, unresolved = self._histories([] if mode == "writes" else self._of("get"))
        census = self.censuses.get(END, {})
        split = {k for keys in census.values() for k, held in keys.items() if held.overridden}
        judged, faults = 0, []
        for key, history in histories.items():
            if mode != "strict" and key in split:
                continue
            judged += 1
            fault = fault_of(history)
            if fault is not None:
                faults.append(f"{key}: {fault}")
        return Registers(judged, unresolved, len(split), named(faults))

    def _histories(self, gets: list[Event]) -> tuple[dict[str, list[Operation]], int]:
        sent: dict[str, set[str]] = {}
        unanswered: dict[str, set[str]] = {}
        for put in self._of("put"):
            sent.setdefault(put["key"], set()).add(put["content"])
            if put["result"] == "unknown":
                unanswered.setdefault(put["key"], set()).add(put["content"])
        histories: dict[str, list[Operation]] = {}
        unresolved = 0
        for event in self._of("put") + gets:
            kind = KINDS.get(event["result"])
            if event["result"] == "refused" and event["event"] == "put":
                # What failed inside a server may have reached its log before it did.
                kind = UNKNOWN if int(event.get("status", 0)) >= SERVER_FAULT else None
            if kind is None or (event["result"] == "unknown" and event["event"] == "get"):
                continue
            value = self._value(event, sent if event["result"] == "conflict" else unanswered)
            if kind == SEEN and value is None:
                unresolved += 1
                continue
            operation = Operation(kind, value, event["call_ns"], event["at_ns"])
            histories.setdefault(event["key"], []).append(operation)
        return histories, unresolved

    def _value(self, event: Event, candidates: dict[str, set[str]]) -> str | None:
        """Give the content that an operation wrote or saw; None if several are possible.

        A conflict saw a content other than its own, a read of an unknown frame one whose put had
        no answer.
        """
        if event["result"] in ("new", "unknown", "duplicate", "refused"):
            return str(event["content"])
        known = self.content_of.get(event.get("frame", ""))
        others = candidates.get(event["key"], set()) - {event.get("content")}
        if known is None and len(others) == 1:
            (known,) = others
        return known

    def stale(self) -> Stale:
        """Judge the reads that showed nothing."""
        shown = [get for get in self._of("get") if get["result"] in ("present", "absent")]
        acked = self._first_acks()
        worst, longest, stale, own = 0.0, 0.0, 0, []
        for get in (get for get in shown if get["result"] == "absent"):
            before = {
                region: at_ns
                for region, at_ns in acked.get(get["key"], {}).items()
                if at_ns < get["call_ns"]
            }
            if not before:
                continue
            stale += 1
            behind_ms = (get["call_ns"] - min(before.values())) / 1e6
            longest = max(longest, behind_ms)
            if get["region"] in before:
                own.append(f"{get['key']}: absent in {get['region']}")
            else:
                worst = max(worst, behind_ms)
        return Stale(len(shown), stale, named(own), worst, longest)

    def _first_acks(self) -> dict[str, dict[str, int]]:
        """Give by key when each region first acknowledged it."""
        found: dict[str, dict[str, int]] = {}
        for put in self._of("put"):
            if put["result"] in ("new", "duplicate"):
                found.setdefault(put["key"], {}).setdefault(put["region"], put["at_ns"])
        return found

    def ahead(self, started_ms: float) -> tuple[float, int]:
        """Give how far, in ms, a stamp was ahead of its answer, and the count of stamps."""
        worst, count = 0.0, 0
        for put in self._of("put"):
            if put["result"] == "new" and "frame" in put:
                hlc_ms = hlc_of(put["frame"]) >> HLC_COUNTER_BITS
                worst = max(worst, hlc_ms - (started_ms + put["at_ns"] / 1e6))
                count += 1
        return worst, count

    def younger(self) -> tuple[int, Names]:
        """Count what was overridden, and name what stands though it is younger."""
        wrong = []
        count = 0
        for held in self._of("held"):
            for other in held["overridden"]:
                count += 1
                if hlc_of(held["frame"]) > hlc_of(other["frame"]):
                    wrong.append(f"{held['frame']} overrode {other['frame']}")
        return count, named(wrong)

    def taken(self) -> tuple[int, Names]:
        """Count the records that a client's call took, and name those that stand nowhere."""
        held = {key for keys in self.censuses[END].values() for key in keys}
        calls = self._of("call")
        taken = {call["key"] for call in calls if call["result"] in ("recorded", "queued")}
        return len(taken), named(sorted(taken - held))

    def double_winners(self) -> Names:
        """Name the ids of which two writes were both believed to be the first."""
        standing: dict[str, set[str]] = {}
        for keys in self.censuses.get(END, {}).values():
            for key, held in keys.items():
                standing.setdefault(key, set()).add(held.frame)
        accepted: dict[tuple[str, str], set[str]] = {}
        class_of = self.account(END).class_of
        for put in self._of("put"):
            if put["result"] == "new" and class_of.get(put.get("frame", ""), "lost") != "lost":
                place = (put["key"], put["frame"].partition(":")[0])
                accepted.setdefault(place, set()).add(put["frame"])
        twice = {key for key, frames in standing.items() if len(frames) > 1}
        twice |= {key for (key, _), frames in accepted.items() if len(frames) > 1}
        return named(sorted(twice))
