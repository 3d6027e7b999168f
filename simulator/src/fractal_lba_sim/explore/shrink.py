"""Make a failing schedule small: delta debugging of its events, then simpler parts.

The invariant of this file: what comes out fails as what went in, by the same judge of the same
engine, and no single reduction that is tried here makes it smaller. It is deterministic: which
reductions are tried, and in which order, depends on the schedule alone; the budget only cuts it
short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .schedule import FAULTS, STEPS, Event, Schedule

Fails = Callable[[Schedule], bool]
"""Plays a schedule and says whether it still fails in the same way."""

RUNS_MAX: Final = 2_000
"""Plays of one shrinking, unless the caller says otherwise."""

ROUNDS_MAX: Final = 8
"""Times that every reduction is tried again after one of them helped."""

SMALL: Final = 10
"""Faults, steps and records that a person sees at a glance: up to here it is worth more work."""

GRIDS_S: Final = (10.0, 1.0, 0.5)
"""Moments and lengths are rounded to multiples of these, the coarsest that still fails."""

PART_MEMBERS: Final = ("read_share", "rival_share", "repeat_share", "canary_per_s", "canaries")
"""Parts of a load that go if the failure does not need them."""

HALVED: Final = ("rate_per_s", "duration_s", "warmup_s")
"""Numbers of a load that are halved as long as it still fails."""

RATE_MIN: Final = 0.01
"""Records a second below which a load is not thinned."""

SHORTEST_S: Final = 0.5
"""Load below which it is not shortened."""

FEW: Final = (1, 2, 3, 5, 7, 8)
"""Numbers of records that are tried at once, the fewest first."""

STRETCHED_S: Final = (0.0, 1.0, 4.0)
"""Few records meet a short fault by chance alone: with them it is tried to last so long."""

MEETING: Final = ("repeat_share", "rival_share")
MEETING_SHARE: Final = 0.5
"""Of few records so many meet an earlier one, or their point is lost."""

TIMES: Final = ("at_s", "for_s", "period_s")

Change = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Shrinker:
    """One shrinking: what fails, what was tried, and how much may still be tried."""

    fails: Fails
    hard: Fails | None = None
    """The same with more seeds: which of few records meet a fault is chance."""

    runs_max: int = RUNS_MAX
    out_of_time: Callable[[], bool] = lambda: False
    runs: int = 0
    _tried: dict[str, bool] = field(default_factory=dict)

    @property
    def spent(self) -> bool:
        """Say whether the budget is used up."""
        return self.runs >= self.runs_max or self.out_of_time()

    def shrink(self, schedule: Schedule) -> Schedule:
        """Give the smallest schedule that was found to fail; it must fail as it is."""
        for _ in range(ROUNDS_MAX):
            before = schedule.key
            schedule = self._fewer_events(schedule)
            for passed in REDUCTIONS:
                schedule = self._greedily(schedule, passed)
            if schedule.key == before and schedule.size > SMALL:
                schedule = self._with_effort(schedule)
            if schedule.key == before or self.spent:
                return schedule
        return schedule

    def _with_effort(self, schedule: Schedule) -> Schedule:
        """Offer few records, and look for a seed with which they are enough."""
        for change in _few_records(schedule):
            changed = schedule.changed(change)
            if self.hard is None or self.spent:
                return schedule
            if not changed.faults() and changed.size <= SMALL:
                self.runs += 1
                if self.hard(changed):
                    return changed
        return schedule

    def _still_fails(self, schedule: Schedule) -> bool:
        known = self._tried.get(schedule.key)
        if known is not None:
            return known
        if self.spent or schedule.faults():
            return False
        self.runs += 1
        self._tried[schedule.key] = self.fails(schedule)
        return self._tried[schedule.key]

    def _fewer_events(self, schedule: Schedule) -> Schedule:
        """Remove events by delta debugging: first halves, at last one at a time."""
        if schedule.events and self._still_fails(bare := schedule.keeping(())):
            return bare
        parts = 2
        while len(schedule.events) > 1 and not self.spent:
            events = schedule.events
            chunks = _chunks(events, min(parts, len(events)))
            smaller = next(
                (
                    candidate
                    for chunk in chunks
                    if self._still_fails(
                        candidate := schedule.keeping([e for e in events if e not in chunk])
                    )
                ),
                None,
            )
            if smaller is not None:
                schedule, parts = smaller, max(parts - 1, 2)
            elif parts >= len(events):
                break
            else:
                parts = min(2 * parts, len(events))
        return schedule

    def _greedily(
        self, schedule: Schedule, changes: Callable[[Schedule], Iterator[Change]]
    ) -> Schedule:
        """Take over each change that still fails, until none does."""
        for _ in range(self.runs_max):
            found = next(
                (
                    changed
                    for change in changes(schedule)
                    if (changed := schedule.changed(change)).key != schedule.key
                    and self._still_fails(changed)
                ),
                None,
            )
            if found is None or self.spent:
                return found or schedule
            schedule = found
        return schedule


def _chunks(events: Sequence[Event], count: int) -> list[list[Event]]:
    size = -(-len(events) // count)
    return [list(events[at : at + size]) for at in range(0, len(events), size)]


def _setting(group: str, name: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        document[group][name] = value

    return change


def _removing(group: str, name: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        document[group].pop(name, None)

    return change


def _plain_loads(schedule: Schedule) -> Iterator[Change]:
    """Leave out parts of the load."""
    load = schedule.document["load"]
    for name in PART_MEMBERS:
        if load.get(name):
            yield _removing("load", name)
    if load.get("arrivals", "even") != "even":
        yield _removing("load", "arrivals")
    if load.get("repeat_share", 1) < 1:
        yield _setting("load", "repeat_share", min(1, 2 * load["repeat_share"]))


def _smaller_loads(schedule: Schedule) -> Iterator[Change]:
    """Offer fewer records, for a shorter time."""
    load = schedule.document["load"]
    last_s = max((event.at_s + (event.for_s or 0) for event in schedule.events), default=0)
    if SHORTEST_S < (ends_s := float(-(-last_s // 1)) + 1) < float(load["duration_s"]):
        yield _setting("load", "duration_s", ends_s)
    for name in HALVED:
        value = float(load.get(name, 0))
        least = {"rate_per_s": RATE_MIN, "duration_s": SHORTEST_S}.get(name, 0)
        for factor in (0.25, 0.5, 0.8):
            smaller = round(value * factor, 3)
            if least < smaller < value:
                yield _setting("load", name, smaller)


def _few_records(schedule: Schedule) -> Iterator[Change]:
    """Offer a handful of records, with faults that are long enough to meet them."""
    for count in FEW:
        if count < schedule.offered:
            for least_s in STRETCHED_S:
                yield _offering(count, least_s)


def _offering(count: int, least_s: float) -> Change:
    def change(document: dict[str, Any]) -> None:
        load = document["load"]
        for fault in document.get(FAULTS, ()):
            if isinstance(fault.get("for_s"), int | float):
                fault["for_s"] = max(least_s, fault["for_s"])
        ends = (one["at_s"] + one.get("for_s", 0) for one in document.get(FAULTS, ()))
        load["duration_s"] = max([load["duration_s"], *(ends if least_s else ())])
        for name in MEETING:
            if load.get(name):
                load[name] = max(load[name], MEETING_SHARE)
        span_s = load["duration_s"] + load.get("warmup_s", 0)
        load["rate_per_s"] = round(count / span_s, 3)

    return change


def _earlier(schedule: Schedule) -> Iterator[Change]:
    """Let everything begin earlier, or happen faster."""
    events = schedule.events
    first_s = min((event.at_s for event in events), default=0)
    for grid in GRIDS_S:
        moved_s = first_s // grid * grid
        if moved_s > 0:
            yield _moved(moved_s)
    if schedule.document["load"]["duration_s"] > 2 * SHORTEST_S:
        yield _scaled(0.5)


def _moved(by_s: float) -> Change:
    def change(document: dict[str, Any]) -> None:
        for one in (*document.get(FAULTS, ()), *document.get(STEPS, ())):
            one["at_s"] = round(one["at_s"] - by_s, 3)
        load = document["load"]
        load["duration_s"] = round(max(SHORTEST_S, load["duration_s"] - by_s), 3)

    return change


def _scaled(factor: float) -> Change:
    def change(document: dict[str, Any]) -> None:
        for one in (*document.get(FAULTS, ()), *document.get(STEPS, ())):
            for name in TIMES:
                if isinstance(one.get(name), int | float):
                    one[name] = round(one[name] * factor, 3)
        load = document["load"]
        load["duration_s"] = round(load["duration_s"] * factor, 3)

    return change


def _simpler_places(schedule: Schedule) -> Iterator[Change]:
    """Do with fewer regions, clients and placements, and with plainer links."""
    topology, load = schedule.document["topology"], schedule.document["load"]
    for region in reversed(topology["regions"]):
        yield _without_region(region["code"])
    clients = load.get("clients", ())
    for client in clients if len(clients) > 1 else ():
        yield _without_client(client["name"])
    for place, link in enumerate(topology.get("links", ())):
        for name in ("jitter_ms", "loss", "bandwidth_bytes_per_s", "price_per_gb"):
            if name in link:
                yield _without_link_member(place, name)


def _without_region(code: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        topology = document["topology"]
        kept = [region for region in topology["regions"] if region["code"] != code]
        if not kept:
            return
        topology["regions"] = kept
        for placement in topology.get("placements", {}).values():
            placement["regions"] = [name for name in placement["regions"] if name != code]
            if placement.get("primary") == code:
                placement.pop("primary")
            if len(placement["regions"]) < placement.get("copies", 1):
                placement["copies"] = max(1, len(placement["regions"]))
        topology["links"] = [
            link for link in topology.get("links", ()) if code not in (link["from"], link["to"])
        ]
        for client in document["load"].get("clients", ()):
            client["endpoints"] = [name for name in client["endpoints"] if name != code]
        for group in (FAULTS, STEPS):
            document[group] = [
                one
                for one in document.get(group, ())
                if code not in (one.get("region"), one.get("from"), one.get("to"))
            ]

    return change


def _without_client(name: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        load = document["load"]
        load["clients"] = [client for client in load["clients"] if client["name"] != name]
        for client in load["clients"]:
            client.pop("share", None)

    return change


def _without_link_member(place: int, name: str) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["topology"]["links"][place].pop(name, None)

    return change


def _rounder_events(schedule: Schedule) -> Iterator[Change]:
    """Begin at round moments, last shorter, and be weaker."""
    for event in schedule.events:
        member = schedule.document[event.group][event.place]
        for name in ("for_s", "at_s", "period_s"):
            value = member.get(name)
            if not isinstance(value, int | float):
                continue
            for smaller in _shorter(float(value), is_moment=name == "at_s"):
                yield _on_event(event, name, smaller)
        for name in ("share", "repeat"):
            if name == "share" and member.get(name, 1) not in (0, 1):
                yield _on_event(event, name, 1)
            if name == "repeat" and member.get(name):
                yield _on_event(event, name, None)


def _shorter(value: float, *, is_moment: bool) -> Iterator[float]:
    """Give rounder values; a length is halved as well, and is never 0."""
    found = [round(value // grid * grid, 3) for grid in GRIDS_S]
    if not is_moment:
        found = [round(value / 4, 1), round(value / 2, 1), *found]
    least = 0.0 if is_moment else 0.1
    yield from (each for each in dict.fromkeys(found) if least <= each < value)


def _on_event(event: Event, name: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        member = document[event.group][event.place]
        if value is None:
            member.pop(name, None)
        else:
            member[name] = value

    return change


REDUCTIONS: Final = (
    _plain_loads, _earlier, _few_records, _smaller_loads, _simpler_places, _rounder_events,
)  # fmt: skip
"""What is tried, in this order, until nothing of it helps."""
