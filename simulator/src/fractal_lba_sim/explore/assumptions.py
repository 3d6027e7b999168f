"""Which kinds of fault the promises are made for, and which they except.

The invariant of this file: with kinds of `WITHIN` alone no schedule breaks a promise of the
protocol, so every alarm is a defect of the server, of the simulator, or of a promise. What is in
`BEYOND` may break a promise rightly; the reason says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .swarm import drawable

WITHIN: Final = (
    "partition", "one-way-cut", "flapping", "loss", "delay", "reorder", "duplicate", "bandwidth",
    "reset", "refuse", "process-kill", "process-pause", "process-restart", "region-down",
    "unsynced-lost", "disk-torn", "disk-full", "disk-slow", "sync-error", "clock-offset",
    "clock-step", "probe-path-down", "region-gray", "promote", "drain", "fence", "failback",
)  # fmt: skip
"""Kinds that a placement with an arbiter, and records that wait for two copies, must survive."""

BEYOND: Final[Mapping[str, str]] = {
    "disk-lost": "of two copies one is gone; a second such fault loses what was replicated",
    "disk-stale": "a disk that went back has forgotten what it acknowledged alone",
    "stale-return": "the same, for a whole region",
    "bit-flip": "a log that is damaged is refused at the start, and a person decides",
    "clock-drift": "a lease is safe up to the drift that its terms allow",
    "clock-back": "a clock behind its bound is refused by every peer until it is right",
    "key-rotated": "a key that a region does not know yet refuses its records",
    "key-wrong": "records with a wrong key are refused",
    "key-revoked": "records with a revoked key are refused",
    "shard-flush": "a store that forgets what it was told is no store of dedup entries",
}


def kinds_of(document: Mapping[str, Any], asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Give the kinds that a scenario is explored with: those asked for, or those within."""
    return drawable(document, tuple(asked) or WITHIN)
