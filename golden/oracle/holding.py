"""Which acknowledged entries wait for their level: `spec/formats.md` 11.23-11.29, 12.16, 12.17."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from golden.oracle import answers
from golden.oracle.fault import Fault
from golden.oracle.scanner import Node, Number, parse_any

NUMBER_MAX = 2**53 - 1
STREAM = ("placement", "region_epoch", "durable", "replicated", "closed")


class Place(NamedTuple):
    """A position, compared part by part."""

    region: str
    placement: str
    region_epoch: int
    seq: int

    @property
    def stream(self) -> tuple[str, str]:
        return self.region, self.placement


def place(text: str | None) -> Place | None:
    """Read a position (4.1), or nothing."""
    found = None if text is None else answers.POSITION.fullmatch(text)
    return None if found is None else Place(found[1], found[2], int(found[3]), int(found[4]))


def level_reached(headers: dict[str, str]) -> bool:
    return headers.get("level", "durable") in ("replicated", "witnessed")


@dataclass(slots=True)
class Holding:
    """Where each entry is held, and the newest watermark of each stream."""

    at: dict[str, Place] = field(default_factory=dict)
    newest: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return "/".join(str(part) for part in self.at[name])

    def learn(self, found: Place) -> bool:
        """Keep a watermark if none is newer; say whether it says anything new (11.25)."""
        told = found.region_epoch, found.seq
        if self.newest.get(found.stream, (-1, -1)) >= told:
            return False
        self.newest[found.stream] = told
        return True

    def fate(self, at: Place) -> str:
        """Say what the newest watermark means for an entry at this position (11.26)."""
        if at.stream not in self.newest:
            return "stay"
        region_epoch, seq = self.newest[at.stream]
        if region_epoch > at.region_epoch:
            return "again"
        return "release" if region_epoch == at.region_epoch and at.seq <= seq else "stay"

    def fates(self) -> dict[str, str]:
        return {name: self.fate(at) for name, at in self.at.items()}

    def judge(self, position: Place | None, replicated: Place | None) -> tuple[str, Place | None]:
        """Judge an answer below the level: a verdict, and where to hold (11.24, 11.27)."""
        if position is None:
            return "later", None
        if replicated is not None and replicated.stream == position.stream:
            later_epoch = max(position.region_epoch, replicated.region_epoch)
            position = position._replace(region_epoch=later_epoch)
        match self.fate(position):
            case "release":
                return "acknowledge", None
            case "again":
                return "later", None
        return "hold", position

    def watermarks(self, body: bytes) -> Iterator[Place]:
        """Give the watermarks of a status; entries that stand move to the present epoch (11.29)."""
        try:
            streams = read_status(body)
        except Fault:
            return
        for watermark, closed in streams:
            known, _ = self.newest.get(watermark.stream, (-1, -1))
            if known <= watermark.region_epoch:
                self.stand(watermark, closed)
            yield watermark

    def stand(self, watermark: Place, closed: dict[int, int]) -> None:
        for name, at in self.at.items():
            if at.stream != watermark.stream or at.region_epoch not in closed:
                continue
            ends = [seq for epoch, seq in closed.items() if epoch >= at.region_epoch]
            if at.region_epoch < watermark.region_epoch and at.seq <= min(ends):
                self.at[name] = at._replace(region_epoch=watermark.region_epoch)


# --- a region status (12.16, 12.17) --------------------------------------------------------------


def bad() -> Fault:
    return Fault("response_malformed")


def members(node: Node, names: tuple[str, ...]) -> dict[str, Node]:
    if not isinstance(node, dict) or any(name not in node for name in names):
        raise bad()
    return node


def items(node: Node) -> list[Node]:
    if not isinstance(node, list):
        raise bad()
    return node


def count(node: Node) -> int:
    if not isinstance(node, Number) or not node.is_integer or node.token.startswith("-"):
        raise bad()
    if int(node.token) > NUMBER_MAX:
        raise bad()
    return int(node.token)


def named(node: Node, pattern: str) -> str:
    if not isinstance(node, str) or re.fullmatch(pattern, node, re.ASCII) is None:
        raise bad()
    return node


def read_status(body: bytes) -> list[tuple[Place, dict[int, int]]]:
    """Read the watermark of each stream, and where its earlier epochs ended."""
    root = members(parse_any(body), ("region", "streams"))
    region = named(root["region"], "[a-z0-9]{3}")
    found: list[tuple[Place, dict[int, int]]] = []
    for node in items(root["streams"]):
        stream = members(node, STREAM)
        count(stream["durable"])
        at = Place(
            region,
            named(stream["placement"], "[a-z0-9-]{1,64}"),
            count(stream["region_epoch"]),
            count(stream["replicated"]),
        )
        ends: dict[int, int] = {}
        for entry in items(stream["closed"]):
            end = members(entry, ("region_epoch", "seq"))
            epoch, seq = count(end["region_epoch"]), count(end["seq"])
            ends[epoch] = min(seq, ends.get(epoch, seq))
        found.append((at, ends))
    return found
