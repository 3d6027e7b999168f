"""Own the table of planted bugs: what each one is, and by which verdict it must be found.

The invariant of this file: a bug has one name, and under that name an engine plants it, a test
finds it, and a token replays it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import methodcaller
from typing import Any, Final, NamedTuple, Required, TypedDict, TypeVar, Unpack

from ...exact.plants import PROTOCOL, plant
from ..schedule import Schedule
from ..swarm import Swarm
from .bases import base as base_of
from .shard_engine import SHARD_PLANTS

SHARDS: Final = "shards"
"""The small world of dedup shards (shard_engine.py), as an engine."""

BASE_OF: Final = {"exact": "pair", SHARDS: "moving"}
"""The base on which a bug is looked for, unless it names another one."""

BESIDE: Final = ":beside"
"""Ends the name of the plant that holds what is changed beside a bug."""

WrongT = TypeVar("WrongT")

SHOWN_BY: Final = {
    "acknowledged-before-fsync": 19,
    "anchor-before-durable": 3,
    "applied-without-verification": 3,
    "blind-copy-overwrites": 6,
    "check-then-act": 3,
    "cleanup-before-the-window-closes": 32,
    "cold-error-is-a-miss": 3,
    "demotion-after-expiry": 1,
    "directory-not-synced": 135,
    "displaced-is-dropped": 13,
    "double-promote": 18,
    "driver-error-is-a-miss": 15,
    "dual-write-stops-before-the-cutover": 19,
    "epoch-not-persisted": 58,
    "failback-before-catch-up": 101095,
    "failed-second-write-forgotten": 48,
    "failover-flaps": 186,
    "granted-before-the-lease-is-over": 923,
    "last-write-wins": 72,
    "merge-by-arrival": 13,
    "merge-by-wall-clock": 5,
    "move-deletes-before-the-upload": 1,
    "neighbour-fallback": 15,
    "old-primary-is-deaf": 17,
    "old-primary-keeps-serving": 117,
    "peer-replaces-what-is-not-durable": 245,
    "policy-not-pinned-on-replay": 1,
    "promoted-without-fencing": 61,
    "replicated-before-durable": 145,
    "replicated-in-word-only": 294,
    "resume-repeats-the-cutover": 336,
    "rollback-loses-new-writes": 34,
    "rotation-rejects-old-signatures": 9,
    "segments-out-of-order": 1,
    "snapshot-over-an-unshipped-tail": 3,
    "tie-by-arrival": 13,
    "torn-tail-accepted": 89,
    "truncated-segment-skipped": 4,
    "two-rings-decide": 101,
    "verified-after-acknowledging": 9,
    "verify-samples-only": 51,
    "watermark-before-acknowledged": 1188,
}
"""Seeds whose small schedule (`small_start`) shows a bug; without an entry it is seed 0."""


class Bug(NamedTuple):
    """One wrong protocol."""

    name: str
    says: str
    """What is wrong, in words."""

    hazard: str
    """The hazard that it is, by its number; empty where it has none."""

    base: str
    """The scenario that can show it (`bases.py`)."""

    kinds: tuple[str, ...]
    """Faults and steps that it needs, and some that it does not."""

    found_by: tuple[str, ...]
    """Verdicts, one of which must fail."""

    seed: int
    """A seed whose small schedule shows it, so that a short test need not search long."""

    engine: str = "exact"
    """The engine that plants it."""

    beside: tuple[str, ...] = ()
    """The plant of what is changed beside it; alone it must be harmless."""


BUGS: Final[dict[str, Bug]] = {}

ONCE: Final = ("disk-lost",)
"""Of two copies one may be lost; what two such faults lose nobody promised to keep."""


class Handful(NamedTuple):
    """The few records of a small start."""

    records: int = 8
    repeat_share: float = 0.8
    """Part that names an earlier one again: a dedup shard forgets by repeats."""


HANDFULS: Final = {
    "blind-copy-overwrites": Handful(24),
    "failback-before-catch-up": Handful(24),
    "granted-before-the-lease-is-over": Handful(24),
    "old-primary-keeps-serving": Handful(24),
    "resume-repeats-the-cutover": Handful(24, 0.2),
    "segments-out-of-order": Handful(16),
}
"""Bugs that the usual handful seldom meets."""

SMALL_EVENTS: Final = 4

LONGEST_S: Final = {"blips": 0.3, "standby-apart": 6.0, "trio-behind": 6.0}
"""Longest fault of a base that is about blips, or about what outlasts a lease."""


def swarm_of(bug: Bug) -> Swarm:
    """Give the swarm in which a bug is looked for."""
    return Swarm(kinds=bug.kinds, longest_s=LONGEST_S.get(bug.base), once=ONCE, keeps=True)


def small_start(bug: Bug) -> Schedule:
    """Give the base of a bug with a handful of records, where a search needs milliseconds."""
    handful = HANDFULS.get(bug.name, Handful())

    def change(document: dict[str, Any]) -> None:
        load = document["load"]
        span_s = load["duration_s"] + load.get("warmup_s", 0)
        load["rate_per_s"] = round(handful.records / span_s, 3)
        if bug.engine == SHARDS:
            load["repeat_share"] = handful.repeat_share

    return base_of(bug.base).changed(change).expect_valid()


def small_swarm(bug: Bug) -> Swarm:
    """Give the swarm that draws few events on a small start."""
    return replace(swarm_of(bug), events_max=SMALL_EVENTS, loads=bug.engine != SHARDS)


class About(TypedDict, total=False):
    """What is said of a bug beside its name, in the words of `Bug`."""

    found_by: Required[tuple[str, ...]]
    hazard: str
    base: str
    kinds: tuple[str, ...]
    engine: str
    beside: Mapping[str, Any]
    """Parts that are changed as well, and harmless without the bug."""


def enter(name: str, says: str, parts: Mapping[str, Any], **about: Unpack[About]) -> None:
    """Enter a bug into the table, and register the parts of its world that plant it."""
    engine, beside = about.get("engine", "exact"), about.get("beside", {})
    _plant(engine, name, says, {**beside, **parts})
    alone = f"{name}{BESIDE}"
    if beside:
        _plant(engine, alone, f"what stands beside {name}, and is right", beside)
    BUGS[name] = Bug(
        name, says, about.get("hazard", ""), about.get("base", BASE_OF[engine]),
        about.get("kinds", ()), about["found_by"], SHOWN_BY.get(name, 0), engine,
        (alone,) if beside else (),
    )  # fmt: skip


def _plant(engine: str, name: str, says: str, parts: Mapping[str, Any]) -> None:
    change = methodcaller("but", **parts)
    if engine == SHARDS:
        SHARD_PLANTS[name] = change
    else:
        plant(name, kind=PROTOCOL, says=says)(change)


def bug(name: str, says: str, *, part: str, **about: Unpack[About]) -> Callable[[WrongT], WrongT]:
    """Enter what is decorated as a bug: a part of a world, made wrong."""

    def entered(wrong: WrongT) -> WrongT:
        enter(name, says, {part: wrong}, **about)
        return wrong

    return entered
