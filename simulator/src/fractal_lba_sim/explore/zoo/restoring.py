"""Planted: a region comes back with another log than the one it left, or has shown it too early."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from fractal_lba_server.core.ingest_events import Append, FrameSynced
from fractal_lba_server.core.receiver import Held
from fractal_lba_server.core.replication import NOTHING, Mark
from fractal_lba_server.core.segment import payload_of_frame, read_frame

from ...exact.node import Node
from .bug import bug


@bug(
    "snapshot-over-an-unshipped-tail", "a region restores what its peers have over its own log",
    hazard="H45", base="pair-durable", part="node",
    kinds=("region-down", "process-kill", "partition", "delay"),
    found_by=("no_loss_at_level", "linearizable", "digests_equal"),
)  # fmt: skip
class RestoresASnapshot(Node):
    """Comes back with what its peers have, and lets go of what it had not shipped."""

    def _take_up(self) -> Any:
        if self.region.starts > 1:
            for name, placement in self.world.placements_of(self.code):
                marks = [
                    self.disk.kept.get(f"acked/{name}/{peer}", NOTHING)
                    for peer in placement.regions
                    if peer != self.code
                ]
                self._cut(name, max(marks, default=NOTHING, key=lambda mark: mark.seq))
            self.index = self.disk.kept["index"] = self.world.parts.index()
        return super()._take_up()

    def _cut(self, name: str, mark: Mark) -> None:
        log = self.world.segments(self.disk, f"log/{name}")
        for first in log.firsts():
            if first > mark.first_seq or mark == NOTHING:
                self.disk.remove(log.name(first))
            elif first == mark.first_seq and not mark.sealed:
                file = log.file(first)
                del file.data[mark.offset :]
                file.synced, file.sealed = mark.offset, False


class Anchors(Node):
    """Publishes a root of the log for each frame, once it is durable."""

    early = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._roots: dict[str, list[str]] = {}
        append = self._carriers[Append]

        def appended(effect: Append) -> None:
            roots = self._roots.setdefault(effect.placement, [])
            del roots[effect.seq - 1 :]
            roots.append(_chained(roots, payload_of_frame(read_frame(effect.frame, 0))))
            if self.early:
                self._publish(effect.placement, effect.seq)
            append(effect)

        self._carriers[Append] = appended

    def _open_stream(self, start: Any, held: Held) -> None:
        log = self.world.segments(self.disk, f"log/{start.placement}")
        roots: list[str] = []
        for _, frame in log.frames(self.code, start.placement):
            roots.append(_chained(roots, payload_of_frame(frame)))
        self._roots[start.placement] = roots
        super()._open_stream(start, held)

    def feed(self, event: object) -> None:
        if isinstance(event, FrameSynced) and not self.early:
            self._publish(event.placement, event.seq)
        super().feed(event)

    def _publish(self, placement: str, seq: int) -> None:
        roots = self._roots.get(placement, [])
        if 0 < seq <= len(roots):
            self.world.trace.write(
                "root", log=f"{self.code}/{placement}", by=self.code, size=seq, root=roots[seq - 1]
            )


@bug(
    "anchor-before-durable", "a root of the log is published before the disk has what it covers",
    hazard="H99", base="alone", part="node", beside={"node": Anchors},
    kinds=("region-down", "unsynced-lost", "disk-torn", "disk-slow"), found_by=("equivocation",),
)  # fmt: skip
class AnchorsEarly(Anchors):
    """Publishes a root when a frame is handed to the log."""

    early = True


def _chained(roots: list[str], payload: bytes) -> str:
    before = roots[-1] if roots else ""
    return sha256(before.encode() + payload).hexdigest()
