"""Draw fault schedules at random: a swarm, in which each run knows a part of the kinds only.

The invariant of this file: a seed gives one schedule, and every schedule is a valid scenario all
of whose faults are over before its load is. A run that knows few kinds meets what one that knows
them all drowns: a cut during a promotion needs that nothing else kills the promotion first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from .schedule import FAULTS, STEPS, Schedule

Member = dict[str, Any]

EVENTS_MAX: Final = 12
"""Most faults and steps of one schedule."""

KIND_SHARE: Final = 0.5
"""How likely a run knows a kind."""

SHARDS_ADDED: Final = 2
"""Dedup shards by which a migration grows a ring at most."""

QUIET_SHARE: Final = 0.2
"""Part of the load, at its end, in which nothing is broken any more."""

GRID_S: Final = 0.1
"""Moments and lengths are multiples of this."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a schedule can be about."""

    regions: tuple[str, ...]
    shards: tuple[str, ...]
    placements: tuple[str, ...]
    has_arbiter: bool
    until_s: float
    """Before this every fault is over."""

    @classmethod
    def of(cls, document: Mapping[str, Any], *, shards_to_come: int = 0) -> Place:
        """Read it from a scenario; shards to come are those that a migration may add."""
        topology = document["topology"]
        count = topology.get("shards", {}).get("count", 0)
        count += shards_to_come if count else 0
        return cls(
            tuple(region["code"] for region in topology["regions"]),
            tuple(f"s{number}" for number in range(1, count + 1)),
            tuple(topology.get("placements", {"open": {}})),
            bool(topology.get("arbiter", False)),
            float(document["load"]["duration_s"]) * (1 - QUIET_SHARE),
        )


Draw = Callable[[Random, Place], Member]
"""Gives the members of one fault or step beside its kind and its moment."""


def _region(chance: Random, place: Place) -> Member:
    return {"region": chance.choice(place.regions)}


def _ends(chance: Random, place: Place) -> Member:
    ends = [*place.regions, "client", *(["arbiter"] if place.has_arbiter else [])]
    first = chance.choice(place.regions)
    return {"from": first, "to": chance.choice([end for end in ends if end != first])}


def _way(chance: Random, place: Place) -> Member:
    ends = _ends(chance, place)
    return ends if chance.random() < 0.5 else {"from": ends["to"], "to": ends["from"]}


def _shard(chance: Random, place: Place) -> Member:
    return {"shard": chance.choice(place.shards)}


def _nothing(chance: Random, place: Place) -> Member:
    return {}


def _with(draw: Draw, **more: Callable[[Random], Any]) -> Draw:
    return lambda chance, place: (
        draw(chance, place) | {name: value(chance) for name, value in more.items()}
    )


def _of(*values: Any) -> Callable[[Random], Any]:
    return lambda chance: chance.choice(values)


FOR_A_WHILE: Final[Mapping[str, Draw]] = {
    "partition": _ends,
    "one-way-cut": _way,
    "flapping": _with(_ends, period_s=_of(0.5, 1, 2)),
    "loss": _with(_ends, share=_of(0.05, 0.2, 0.5)),
    "delay": _with(_ends, delay_ms=_of(20, 200, 2_000)),
    "reorder": _with(_ends, share=_of(0.1, 0.5)),
    "duplicate": _with(_ends, share=_of(0.1, 0.5)),
    "bandwidth": _with(_ends, bandwidth_bytes_per_s=_of(2_000, 20_000)),
    "refuse": _region,
    "process-kill": _region,
    "process-pause": _region,
    "process-restart": _region,
    "unsynced-lost": _region,
    "disk-torn": _region,
    "disk-full": _region,
    "disk-slow": _with(_region, delay_ms=_of(50, 500)),
    "disk-stale": _region,
    "sync-error": _region,
    "clock-offset": _with(_region, step_ms=_of(-200, 200)),
    "clock-drift": _with(_region, drift_ppm=_of(-40_000, -500, 500, 40_000)),
    "clock-step": _with(_region, step_ms=_of(-200, 200)),
    "clock-back": _with(_region, step_ms=_of(-200, -50)),
    "region-down": _region,
    "region-gray": _region,
    "probe-path-down": _region,
    "stale-return": _region,
    "key-rotated": _nothing,
    "key-wrong": _region,
    "key-revoked": _nothing,
    "cold-down": _region,
    "upload-reply-lost": _region,
    "listing-stale": _region,
    "shard-down": _shard,
    "nobody-answers": _nothing,
    "expert-absent": _nothing,
    "stale-runbook": _nothing,
}
"""Kinds that last for a time; what they need beside it."""

AT_ONCE: Final[Mapping[str, Draw]] = {
    "reset": _ends,
    "bit-flip": _region,
    "disk-lost": _region,
    "rolling-restart": _with(_region, period_s=_of(0.5, 2)),
    "hot-flush": _region,
    "shard-flush": _shard,
    "double-promote": _region,
    "wrong-region-drained": _region,
    "cancel-cutover": _region,
}
"""Kinds that are over when they have begun, or never."""

CUT_OFF: Final = "cut-off"
"""A region hears of no other one and not of the arbiter, while clients reach it: partitions."""

STEP_DRAWS: Final[Mapping[str, Draw]] = {
    "promote": _region,
    "drain": _region,
    "undrain": _region,
    "fence": _region,
    "failback": lambda chance, place: dict(
        zip(("region", "to"), chance.sample(place.regions, 2), strict=True)
    ),
    "migrate": lambda chance, place: {"to_shards": chance.randint(1, len(place.shards))},
}
"""What people do."""

UNDONE_BY: Final = {"drain": "undrain", "fence": "promote"}
"""Steps after which a region takes no records until another step lets it."""

LOADS: Final[Mapping[str, Sequence[Any]]] = {
    "repeat_share": (0, 0.1, 0.5),
    "rival_share": (0, 0.1, 0.5),
    "read_share": (0, 0.2),
    "arrivals": ("even", "poisson"),
}
"""How the load of a run varies."""

KINDS: Final = (*FOR_A_WHILE, *AT_ONCE, CUT_OFF, *STEP_DRAWS)


class KindError(Exception):
    """A kind is asked for that no schedule can be drawn with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """What schedules may hold: kinds by name, and how many events."""

    kinds: tuple[str, ...]
    events_max: int = EVENTS_MAX
    loads: bool = True
    """Whether the load varies, too."""

    longest_s: float | None = None
    """Longest fault; without it up to 0.6 of the time there is."""

    keeps: bool = False
    """Whether the scenario's own faults and steps stay."""

    once: tuple[str, ...] = ()
    """Kinds of which a schedule has one event at most."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown or not self.kinds:
            message = f"no kind is called {', '.join(unknown)}; there are {', '.join(KINDS)}"
            raise KindError(message)

    def draw(self, base: Schedule, seed: int) -> Schedule:
        """Give the schedule of a seed on a scenario."""
        chance = Random(f"{seed}/swarm")
        added = SHARDS_ADDED if self.keeps or "migrate" in self.kinds else 0
        place = Place.of(base.document, shards_to_come=added)
        known = [kind for kind in self.kinds if chance.random() < KIND_SHARE]
        known = known or [chance.choice(self.kinds)]
        longest_s = self.longest_s or chance.choice((0.05, 0.2, 0.6)) * place.until_s
        count = chance.randint(1, chance.choice((2, 5, self.events_max)))
        chosen = [chance.choice(known) for _ in range(count)]
        chosen = [
            kind
            for at, kind in enumerate(chosen)
            if kind not in self.once or kind not in chosen[:at]
        ]
        events = [event for kind in chosen for event in _events(chance, place, kind, longest_s)]
        events.sort(key=lambda event: (event["at_s"], event.get("kind") or event["do"]))
        faults = [one for one in events if "kind" in one]
        for number, fault in enumerate(faults, 1):
            fault["id"] = f"f{number}"
        steps = [one for one in events if "do" in one]
        if self.keeps:
            faults = [*base.document.get(FAULTS, ()), *faults]
            steps = [*base.document.get(STEPS, ()), *steps]
        drawn = base.with_events(faults, steps)
        return drawn.changed(lambda document: self._vary(document, chance))

    def _vary(self, document: dict[str, Any], chance: Random) -> None:
        for name, values in LOADS.items() if self.loads else ():
            # A share that the base does without is not put in: the promises may not allow for it.
            if document["load"].get(name) or name == "arrivals":
                document["load"][name] = chance.choice(values)


def _events(chance: Random, place: Place, kind: str, longest_s: float) -> list[Member]:
    """Draw an event, and what people do some time after it to undo it."""
    if kind == CUT_OFF:
        cut = _event(chance, place, "partition", longest_s)
        others = [code for code in place.regions if code != cut["from"]]
        ends = [*others, *(["arbiter"] if place.has_arbiter else [])]
        return [{**cut, "to": end} for end in ends]
    first = _event(chance, place, kind, longest_s)
    if kind not in UNDONE_BY:
        return [first]
    later_s = min(first["at_s"] + _grid(chance.uniform(0, longest_s)), place.until_s)
    return [first, {**first, "do": UNDONE_BY[kind], "at_s": _grid(later_s)}]


def _event(chance: Random, place: Place, kind: str, longest_s: float) -> Member:
    at_s = _grid(chance.uniform(0, place.until_s))
    if kind in STEP_DRAWS:
        return {"do": kind, "at_s": at_s, **STEP_DRAWS[kind](chance, place)}
    if kind in AT_ONCE:
        return {"id": "", "kind": kind, "at_s": at_s, **AT_ONCE[kind](chance, place)}
    for_s = max(GRID_S, min(_grid(chance.uniform(0, longest_s)), _grid(place.until_s - at_s)))
    members = FOR_A_WHILE[kind](chance, place)
    return {"id": "", "kind": kind, "at_s": at_s, "for_s": for_s, **members}


def _grid(seconds: float) -> float:
    return round(round(seconds / GRID_S) * GRID_S, 1)


def drawable(document: Mapping[str, Any], kinds: Sequence[str]) -> tuple[str, ...]:
    """Leave out the kinds that a scenario has no place for."""
    place = Place.of(document)
    lacking = set()
    if not place.shards:
        lacking |= {"shard-down", "shard-flush", "migrate", "cancel-cutover"}
    if len(place.regions) < 2:
        lacking |= {"failback", "promote", "double-promote", CUT_OFF}
    return tuple(kind for kind in kinds if kind not in lacking)


__all__ = ["FAULTS", "KINDS", "STEPS", "KindError", "Place", "Swarm", "drawable"]
