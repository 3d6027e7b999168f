"""Look for the bytes of a locked tenant where they may not be: on disks and on links.

A tenant whose `only_in` names regions has marks: the ids of its first records, known before the
load starts. The same search runs where the marks must be; a search that finds nothing there
proves nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .fleet import Fleet
from .load import client_rows
from .records import pcs_id_of

MARKED: Final = 20
"""Records of each client whose ids are marks."""

CHUNK_BYTES: Final = 1 << 20


class ResidencyWatch:
    """The search of one drill."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._locked = [tenant for tenant in fleet.tenants if "only_in" in tenant]

    def start(self) -> None:
        """Have the proxy count marks that pass."""
        marks = [mark for tenant in self._locked for mark in self._marks(tenant)]
        if marks:
            for link in self._fleet.links.counts():
                self._fleet.links.watch(link, marks)

    def write(self) -> None:
        """Search, and write what was found."""
        for tenant in self._locked:
            self._write_data(tenant)
        if self._locked:
            self._write_traffic()

    def _marks(self, tenant: Mapping[str, Any]) -> list[bytes]:
        first = self._fleet.tenants[0]["id"]
        names = [
            f"{row['name']}-{number}"
            for row in client_rows(self._fleet.scenario)
            if row.get("tenant", first) == tenant["id"]
            for number in range(1, MARKED + 1)
        ]
        return [pcs_id_of(name).encode() for name in names]

    def _write_data(self, tenant: Mapping[str, Any]) -> None:
        # On a disk an id may also stand as the 32 bytes that it is.
        marks = [
            form for mark in self._marks(tenant) for form in (mark, bytes.fromhex(mark.decode()))
        ]
        inside = set(tenant["only_in"])
        control = sum(count_in(self._fleet.data(code), marks)[0] for code in inside)
        for code in self._fleet.regions:
            if code not in inside:
                found, size = count_in(self._fleet.data(code), marks)
                self._fleet.trace.write(
                    "residency", region=code, where="data", found=found, scanned_bytes=size,
                    control_found=control,
                )  # fmt: skip

    def _write_traffic(self) -> None:
        inside = {code for tenant in self._locked for code in tenant["only_in"]}
        seen = {
            link: (
                sum(counts[way]["marks"] for way in ("forward", "back")),
                sum(counts[way]["bytes"] for way in ("forward", "back")),
            )
            for link, counts in self._fleet.links.counts().items()
        }
        outside = {code for code in self._fleet.regions if code not in inside}
        control = sum(marks for link, (marks, _) in seen.items() if not outside & _ends(link))
        for code in sorted(outside):
            rows = [seen[link] for link in seen if code in _ends(link)]
            self._fleet.trace.write(
                "residency", region=code, where="traffic", found=sum(row[0] for row in rows),
                scanned_bytes=sum(row[1] for row in rows), control_found=control,
            )  # fmt: skip


def _ends(link: str) -> set[str]:
    return set(link.split("-"))


def count_in(folder: Path, marks: list[bytes]) -> tuple[int, int]:
    """Count the marks in all files under a folder; give also how many bytes were read."""
    found = size = 0
    for path in folder.rglob("*"):
        if path.is_file():
            for data in _pieces(path, max(map(len, marks))):
                size += len(data)
                found += sum(data.count(mark) for mark in marks)
    return found, size


def _pieces(path: Path, overlap: int) -> Iterator[bytes]:
    """Read a file so that no mark is cut; a mark in the overlap may count twice, never none."""
    tail = b""
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield tail + data
            tail = data[-overlap:]
