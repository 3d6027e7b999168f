"""Own the table of planted bugs: what each one is, and by which verdict it must be found.

The invariant of this file: a bug has one name, and under that name an engine plants it, a test
finds it, and a token replays it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ...exact.plants import PROTOCOL, Change, plant
from ..schedule import Schedule
from ..swarm import Swarm
from .bases import base as base_of
from .shard_engine import SHARD_PLANTS, ShardChange

SHOWN_BY: Final = {
    "acknowledged-before-fsync": 19,
    "anchor-before-durable": 3,
    "check-then-act": 3,
    "cleanup-before-the-window-closes": 31,
    "cold-error-is-a-miss": 3,
    "demotion-after-expiry": 1,
    "directory-not-synced": 135,
    "displaced-is-dropped": 13,
    "double-promote": 18,
    "driver-error-is-a-miss": 15,
    "dual-write-stops-before-the-cutover": 83,
    "epoch-not-persisted": 58,
    "failback-before-catch-up": 125,
    "failed-second-write-forgotten": 48,
    "failover-flaps": 44,
    "granted-before-the-lease-is-over": 923,
    "last-write-wins": 72,
    "merge-by-arrival": 13,
    "merge-by-wall-clock": 5,
    "move-deletes-before-the-upload": 1,
    "neighbour-fallback": 15,
    "old-primary-is-deaf": 17,
    "old-primary-keeps-serving": 117,
    "peer-replaces-what-is-not-durable": 245,
    "promoted-without-fencing": 61,
    "replicated-before-durable": 145,
    "replicated-in-word-only": 294,
    "resume-repeats-the-cutover": 336,
    "rollback-loses-new-writes": 31,
    "rotation-rejects-old-signatures": 9,
    "snapshot-over-an-unshipped-tail": 3,
    "tie-by-arrival": 13,
    "torn-tail-accepted": 89,
    "truncated-segment-skipped": 4,
    "two-rings-decide": 101,
    "verified-after-acknowledging": 9,
    "watermark-before-acknowledged": 1188,
}
"""Seeds whose small schedule (`small_start`) shows a bug; without an entry it is seed 0."""


OPEN: Final = {
    "blind-copy-overwrites": "found with 24 records at seed 142, and the smallest has 25 events",
    "verify-samples-only": "found with 24 records at seed 116, and the smallest has 14 events",
}
"""Bugs that are planted and not yet found, or not yet made small, within a test's budget."""


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


BUGS: Final[dict[str, Bug]] = {}

ONCE: Final = ("disk-lost",)
"""Of two copies one may be lost; what two such faults lose nobody promised to keep."""

SMALL_RECORDS: Final = 8
MORE_RECORDS: Final = {
    "blind-copy-overwrites": 24,
    "granted-before-the-lease-is-over": 24,
    "resume-repeats-the-cutover": 24,
    "verify-samples-only": 24,
}
"""Bugs that a handful of records seldom meets."""

SMALL_EVENTS: Final = 4
SMALL_REPEATS: Final = 0.8
"""Of a handful of records so many name an earlier one again: a dedup shard forgets by repeats."""

BLIP_S: Final = 0.3
"""Longest fault of a base that is about blips."""


def swarm_of(bug: Bug) -> Swarm:
    """Give the swarm in which a bug is looked for."""
    longest_s = BLIP_S if bug.base == "blips" else None
    return Swarm(kinds=bug.kinds, longest_s=longest_s, once=ONCE, keeps=True)


def small_start(bug: Bug) -> Schedule:
    """Give the base of a bug with a handful of records, where a search needs milliseconds."""

    def change(document: dict[str, Any]) -> None:
        load = document["load"]
        span_s = load["duration_s"] + load.get("warmup_s", 0)
        load["rate_per_s"] = round(MORE_RECORDS.get(bug.name, SMALL_RECORDS) / span_s, 3)
        if bug.engine == "shards":
            load["repeat_share"] = SMALL_REPEATS

    return base_of(bug.base).changed(change).expect_valid()


def small_swarm(bug: Bug) -> Swarm:
    """Give the swarm that draws few events on a small start."""
    return replace(swarm_of(bug), events_max=SMALL_EVENTS, loads=bug.engine != "shards")


def bug(
    name: str, says: str, *, found_by: tuple[str, ...], hazard: str = "", base: str = "pair",
    kinds: tuple[str, ...] = (),
) -> Callable[[Change], Change]:  # fmt: skip
    """Enter a bug into the table, and register the change of parts that plants it."""

    def enter(change: Change) -> Change:
        BUGS[name] = Bug(name, says, hazard, base, kinds, found_by, SHOWN_BY.get(name, 0))
        return plant(name, kind=PROTOCOL, says=says)(change)

    return enter


def shard_bug(
    name: str, says: str, *, found_by: tuple[str, ...], hazard: str = "", base: str = "moving",
    kinds: tuple[str, ...] = (),
) -> Callable[[ShardChange], ShardChange]:  # fmt: skip
    """Enter a bug of the small world of dedup shards."""

    def enter(change: ShardChange) -> ShardChange:
        BUGS[name] = Bug(name, says, hazard, base, kinds, found_by, SHOWN_BY.get(name, 0), "shards")
        SHARD_PLANTS[name] = change
        return change

    return enter
