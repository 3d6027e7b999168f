"""Name every kind of fault: its family, and the members without which it says nothing.

The invariant of this file: a fault has every member that its kind needs and none that its kind
does not take, so that no engine ever meets a fault it must guess about. What a kind does in an
engine, and by which counter it shows, is said where it is played.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ..core.faults import Fault

FAMILIES: Final = (
    "network", "process", "storage", "clock", "region", "keys", "tiers and objects", "people",
)  # fmt: skip

ALWAYS_TAKEN: Final = frozenset({"id", "kind", "at_s", "for_s", "spread_s", "per_year", "repeat"})
"""Members that say when and how often; every kind takes them."""


class FaultKind(NamedTuple):
    """What a fault of one kind is about."""

    family: str
    needs: tuple[tuple[str, ...], ...] = ((),)
    """Sets of members, one of which must be there as a whole."""

    takes: tuple[str, ...] = ()
    """Members that it may have besides."""

    @property
    def members(self) -> frozenset[str]:
        """Give every member that it needs or may have."""
        return ALWAYS_TAKEN.union(self.takes, *self.needs)


def _table() -> Iterator[tuple[str, FaultKind]]:
    link, place = ("from", "to"), (("region",),)
    for kind in ("partition", "one-way-cut"):
        yield kind, FaultKind("network", (link,))
    yield "flapping", FaultKind("network", ((*link, "period_s"),), ("share",))
    yield "delay", FaultKind("network", ((*link, "delay_ms"),))
    yield "bandwidth", FaultKind("network", ((*link, "bandwidth_bytes_per_s"),))
    for kind in ("loss", "reorder", "duplicate"):
        yield kind, FaultKind("network", ((*link, "share"),))
    for kind in ("reset", "refuse"):
        yield kind, FaultKind("network", (link, ("region",)))
    for kind in ("process-kill", "process-pause", "process-restart"):
        yield kind, FaultKind("process", place, ("node",))
    yield "rolling-restart", FaultKind("process", (("region", "period_s"),))
    for kind in ("unsynced-lost", "disk-torn", "bit-flip", "disk-full", "disk-lost", "sync-error"):
        yield kind, FaultKind("storage", place, ("node",))
    yield "disk-slow", FaultKind("storage", place, ("node", "delay_ms"))
    yield "disk-stale", FaultKind("storage", place, ("node", "age_s"))
    for kind in ("clock-offset", "clock-step", "clock-back"):
        yield kind, FaultKind("clock", (("region", "step_ms"),), ("node",))
    yield "clock-drift", FaultKind("clock", (("region", "drift_ppm"),), ("node",))
    yield "region-down", FaultKind("region", place)
    yield "region-gray", FaultKind("region", place, ("share",))
    yield "probe-path-down", FaultKind("region", place)
    yield "stale-return", FaultKind("region", place, ("age_s",))
    for kind in ("key-rotated", "key-wrong", "key-revoked"):
        yield kind, FaultKind("keys", takes=("region", "tenant"))
    for kind in ("hot-flush", "cold-down"):
        yield kind, FaultKind("tiers and objects", takes=("region",))
    yield "upload-reply-lost", FaultKind("tiers and objects", takes=("region", "share"))
    yield "listing-stale", FaultKind("tiers and objects", takes=("region", "age_s"))
    yield "shard-down", FaultKind("tiers and objects", (("shard",),), ("region",))
    yield "shard-flush", FaultKind("tiers and objects", takes=("region", "shard"))
    for kind in ("double-promote", "wrong-region-drained"):
        yield kind, FaultKind("people", place)
    yield "cancel-cutover", FaultKind("people", takes=("region",))
    for kind in ("nobody-answers", "expert-absent", "stale-runbook"):
        yield kind, FaultKind("people")


FAULT_KINDS: Final[Mapping[str, FaultKind]] = dict(_table())
"""Every kind of spec/schemas/scenario.json."""


def member_faults(pointer: str, fault: Mapping[str, Any]) -> Iterator[Fault]:
    """Find what a fault lacks, or has and its kind does not take."""
    name = fault["kind"]
    kind = FAULT_KINDS[name]
    if not any(set(needed) <= set(fault) for needed in kind.needs):
        said = ", or ".join(" and ".join(needed) for needed in kind.needs)
        yield Fault(pointer, f"{name} needs {said}", "add what is missing")
    for member in fault:
        if member not in kind.members:
            others = sorted(kind.members - ALWAYS_TAKEN)
            taken = f"it takes {', '.join(others)}" if others else "it takes none"
            yield Fault(f"{pointer}/{member}", f"{name} has no {member}", f"remove it; {taken}")
    if name == "clock-back" and fault.get("step_ms", -1) >= 0:
        yield Fault(f"{pointer}/step_ms", "clock-back goes back", "write a negative step")
