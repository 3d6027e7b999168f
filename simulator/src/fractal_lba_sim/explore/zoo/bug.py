"""Own the table of planted bugs: what each one is, and by which verdict it must be found.

The invariant of this file: a bug has one name, and under that name an engine plants it, a test
finds it, and a token replays it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ...exact.plants import PROTOCOL, Change, plant
from ..swarm import Swarm
from .shard_engine import SHARD_PLANTS, ShardChange


SHOWN_BY: Final = {
    "acknowledged-before-fsync": 1,
    "anchor-before-durable": 1,
    "cleanup-before-the-window-closes": 56,
    "cold-error-is-a-miss": 3,
    "cutover-without-a-barrier": 1,
    "demotion-after-expiry": 3,
    "directory-not-synced": 37,
    "double-promote": 11,
    "dual-write-stops-before-the-cutover": 1,
    "epoch-not-persisted": 58,
    "failback-before-catch-up": 125,
    "failed-second-write-forgotten": 2,
    "failover-flaps": 2,
    "granted-before-the-lease-is-over": 67,
    "merge-by-wall-clock": 1,
    "move-deletes-before-the-upload": 4,
    "old-primary-is-deaf": 5,
    "old-primary-keeps-serving": 222,
    "peer-replaces-what-is-not-durable": 86,
    "promoted-without-fencing": 2,
    "replicated-in-word-only": 37,
    "replicated-before-durable": 3,
    "rotation-rejects-old-signatures": 2,
    "snapshot-over-an-unshipped-tail": 3,
    "torn-tail-accepted": 4,
    "watermark-before-acknowledged": 37,
}
"""Seeds whose schedules show a bug, so that a short test need not search long; else 0."""


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
    """A seed whose schedule shows it, so that a short test need not search long."""

    engine: str = "exact"
    """The engine that plants it."""


BUGS: Final[dict[str, Bug]] = {}

ONCE: Final = ("disk-lost",)
"""Of two copies one may be lost; what two such faults lose nobody promised to keep."""

BLIP_S: Final = 0.3
"""Longest fault of a base that is about blips."""


def swarm_of(bug: Bug) -> Swarm:
    """Give the swarm in which a bug is looked for."""
    longest_s = BLIP_S if bug.base == "blips" else None
    return Swarm(kinds=bug.kinds, longest_s=longest_s, once=ONCE, keeps=True)


def bug(
    name: str, says: str, *, found_by: tuple[str, ...], hazard: str = "", base: str = "pair",
    kinds: tuple[str, ...] = (), seed: int = 0,
) -> Callable[[Change], Change]:  # fmt: skip
    """Enter a bug into the table, and register the change of parts that plants it."""

    def enter(change: Change) -> Change:
        BUGS[name] = Bug(name, says, hazard, base, kinds, found_by, SHOWN_BY.get(name, 0))
        return plant(name, kind=PROTOCOL, says=says)(change)

    return enter


def shard_bug(
    name: str, says: str, *, found_by: tuple[str, ...], hazard: str = "", base: str = "moving",
    kinds: tuple[str, ...] = (), seed: int = 0,
) -> Callable[[ShardChange], ShardChange]:  # fmt: skip
    """Enter a bug of the small world of dedup shards."""

    def enter(change: ShardChange) -> ShardChange:
        BUGS[name] = Bug(name, says, hazard, base, kinds, found_by, SHOWN_BY.get(name, 0), "shards")
        SHARD_PLANTS[name] = change
        return change

    return enter
