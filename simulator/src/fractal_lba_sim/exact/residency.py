"""Search the disks and the traffic of regions for the ids of tenants that may not be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .records import mint

if TYPE_CHECKING:
    from .world import World

MARKED: Final = 200
"""Records of each client that are searched for."""


class Residency:
    """The search of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._locked = [row for row in world.tenants if "only_in" in row]
        self._seen: dict[tuple[str, str], int] = {}

    def write(self) -> None:
        """Search, and write what was found."""
        for tenant in self._locked:
            self._write_data(tenant)

    def _marks(self, tenant: Mapping[str, Any]) -> list[bytes]:
        return [
            mint(tenant["id"], f"{client.name}-{number}").key[1].encode()
            for client in self._world.load.clients
            if client.tenant == tenant["id"]
            for number in range(1, MARKED + 1)
        ]

    def _write_data(self, tenant: Mapping[str, Any]) -> None:
        world, marks, inside = self._world, self._marks(tenant), list(tenant["only_in"])
        control = sum(self._count(code, marks)[0] for code in inside)
        sent = sum(self._sent(a, b, marks) for a in inside for b in inside if a != b)
        for code in world.regions:
            if code in inside:
                continue
            found, size = self._count(code, marks)
            world.trace.write(
                "residency", region=code, where="data", found=found, scanned_bytes=size,
                control_found=control,
            )  # fmt: skip
            links = [link for ends, link in world.net.links.items() if code in ends]
            world.trace.write(
                "residency", region=code, where="traffic",
                found=sum(self._sent(a, code, marks) for a in world.regions if a != code),
                scanned_bytes=sum(link.bytes_sent for link in links), control_found=sent,
            )  # fmt: skip

    def _count(self, code: str, marks: list[bytes]) -> tuple[int, int]:
        """Count marks on a disk, its index included."""
        region = self._world.regions[code]
        found = size = 0
        for name in region.disk.names(""):
            data = bytes(region.disk.files[name].data)
            size += len(data)
            found += sum(data.count(mark) for mark in marks)
        ids = {key[1].encode() for key in region.index.standing}
        return found + sum(mark in ids for mark in marks), size

    def _sent(self, source: str, target: str, marks: list[bytes]) -> int:
        """Count marks in what one region has shipped to another."""
        bodies = self._world.watch.bodies.get((source, target), [])
        return sum(body.count(mark) for body in bodies for mark in marks)
