"""Own which regions there are, in which order, and which of them hold what (spec/roles.md 1).

The invariant of this file: a code names one region for ever, its rank is its position in the
list, and a placement holds exactly the regions that it lists. What is not listed is denied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from .edwards import key_problem
from .faults import DocumentError, Fault
from .tenants import OPEN_PLACEMENT, Directory

ACTIVE_ACTIVE: Final = "active-active"
"""Every region of the placement takes writes; no lease is needed."""

WARM_STANDBY: Final = "warm-standby"
"""One region of the placement takes writes, under a lease of the arbiter."""

COPIES_DEFAULT: Final = 2
"""Regions that hold a replicated record, where there are two or more and nothing is said."""

REGIONS_MAX: Final = 64
"""Regions that a deployment ever has, retired ones included (spec/schemas/regions.json)."""

PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """Hold what one region is known by. A retired one writes and holds nothing any more."""

    code: str
    rank: int
    endpoint: str
    peer: str
    public_key: bytes
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Hold one set of regions, and how they share the writing."""

    name: str
    regions: tuple[str, ...]
    topology: str
    copies: int = COPIES_DEFAULT
    primary: str | None = None

    @property
    def needs_lease(self) -> bool:
        """Tell whether one region at a time writes, under a lease."""
        return self.topology == WARM_STANDBY


@dataclass(frozen=True, slots=True)
class Registry:
    """Hold every region and every placement, by name; it never changes."""

    regions: Mapping[str, RegionInfo]
    placements: Mapping[str, Placement]

    def rank(self, code: str) -> int:
        """Give the rank of a region; KeyError for one that is not registered."""
        return self.regions[code].rank

    def peers(self, placement: str, me: str) -> tuple[str, ...]:
        """Name the other regions of a placement of ours, in its order."""
        listed = self.placements[placement].regions
        return tuple(code for code in listed if code != me)

    def may_hold(self, placement: str, region: str) -> bool:
        """Tell whether a region may hold what belongs to a placement; what is unknown may not."""
        found = self.placements.get(placement)
        return found is not None and region in found.regions

    def held_by(self, region: str) -> tuple[Placement, ...]:
        """Give the placements that a region holds, in order of name."""
        names = sorted(name for name in self.placements if self.may_hold(name, region))
        return tuple(self.placements[name] for name in names)

    @property
    def codes(self) -> tuple[str, ...]:
        """Give every code in order of rank."""
        return tuple(sorted(self.regions, key=self.rank))


def read_registry(document: Mapping[str, Any]) -> Registry:
    """Build the registry of a document that `spec/schemas/regions.json` lets pass.

    Raises DocumentError for what no schema can say.
    """
    faults = [*_region_faults(document["regions"]), *_placement_faults(document)]
    if faults:
        raise DocumentError(faults)
    regions = {
        one["code"]: RegionInfo(
            code=one["code"],
            rank=rank,
            endpoint=one["endpoint"],
            peer=one["peer"],
            public_key=bytes.fromhex(one["public_key"]),
            retired=one.get("retired", False),
        )
        for rank, one in enumerate(document["regions"])
    }
    placements = {
        name: Placement(
            name=name,
            regions=tuple(one["regions"]),
            topology=one["topology"],
            copies=one.get("copies", min(COPIES_DEFAULT, len(one["regions"]))),
            primary=one.get("primary"),
        )
        for name, one in document["placements"].items()
    }
    return Registry(MappingProxyType(regions), MappingProxyType(placements))


def alone(region: str) -> Registry:
    """Give the registry of a region that stands alone and holds what is open."""
    info = RegionInfo(region, 0, "", "", b"")
    placement = Placement(OPEN_PLACEMENT, (region,), ACTIVE_ACTIVE, copies=1)
    return Registry(MappingProxyType({region: info}), MappingProxyType({OPEN_PLACEMENT: placement}))


def elsewhere(registry: Registry, me: str) -> dict[str, str]:
    """Give, for each placement that a region does not hold, where one of its regions is."""
    return {
        name: registry.regions[placement.regions[0]].endpoint
        for name, placement in registry.placements.items()
        if me not in placement.regions
    }


def placement_faults(directory: Directory, registry: Registry) -> list[Fault]:
    """Name the tenants whose placement nobody has declared."""
    known = ", ".join(sorted(registry.placements))
    return [
        Fault(
            f"/tenants/{place}/placement",
            f'no placement has the name "{tenant.placement}"',
            f"declare it in the regions file, or use one of {known}",
        )
        for place, tenant in enumerate(directory.tenants.values())
        if tenant.placement not in registry.placements
    ]


def order_faults(known: Sequence[str], now: Sequence[str]) -> Iterator[Fault]:
    """Say where a list of codes breaks with the one before it: dropped, moved or put between."""
    for rank, code in enumerate(known):
        if code not in now:
            fix = "put the region back, and set retired: true"
            yield Fault("/regions", f'the region "{code}" is missing', fix)
            return
        if now[rank] != code:
            place = now.index(code)
            text = f'the region "{code}" had rank {rank} and now has {place}'
            fix = "keep the order of the regions, and append new ones"
            yield Fault(f"/regions/{place}/code", text, fix)
            return


def _region_faults(regions: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    seen: dict[tuple[str, str], int] = {}
    for rank, one in enumerate(regions):
        for member in ("code", "endpoint", "peer", "public_key"):
            first = seen.setdefault((member, one[member]), rank)
            if first != rank:
                text = f"the same as of region {first + 1} of the list"
                yield Fault(f"/regions/{rank}/{member}", text, "give each region its own")
        for member in ("endpoint", "peer"):
            problem = _address_problem(one[member])
            if problem is not None:
                yield Fault(f"/regions/{rank}/{member}", *problem)
        weak = key_problem(bytes.fromhex(one["public_key"]))
        if weak is not None:
            fix = "make a key with flk-server region keys new"
            yield Fault(f"/regions/{rank}/public_key", weak, fix)


def _address_problem(url: str) -> tuple[str, str] | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    digits = parts.netloc.rpartition(":")[2] if not parts.netloc.endswith("]") else ""
    if digits.isdigit() and not 0 < int(digits) <= PORT_MAX:
        return f"the port is not between 1 and {PORT_MAX}", "choose another"
    if parts.scheme == "http" and not _is_loopback(host):
        return "reachable from elsewhere without TLS", "use https"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _placement_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    retired = {one["code"]: one.get("retired", False) for one in document["regions"]}
    for name, one in document["placements"].items():
        here = f"/placements/{name}"
        for index, code in enumerate(one["regions"]):
            if code not in retired:
                text, fix = "no region has this code", "add it to the regions, or remove it"
                yield Fault(f"{here}/regions/{index}", text, fix)
            elif retired[code]:
                text, fix = "the region is retired", "remove it from the placement"
                yield Fault(f"{here}/regions/{index}", text, fix)
        if one.get("copies", 1) > len(one["regions"]):
            text = "more copies than the placement has regions"
            yield Fault(f"{here}/copies", text, "add regions, or ask for fewer copies")
        if one.get("primary", one["regions"][0]) not in one["regions"]:
            text = "not a region of the placement"
            yield Fault(f"{here}/primary", text, "choose one of its regions")
