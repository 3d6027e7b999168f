"""Planted: a stream of another region is taken, kept or acknowledged as it should not be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fractal_lba_server.core import receiver as take
from fractal_lba_server.core import replication as ship
from fractal_lba_server.core.facts import Facts
from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.receiver import Held, Receiver
from fractal_lba_server.core.replay import Replay, ReplayFault
from fractal_lba_server.core.replication import Mark, Shipper
from fractal_lba_server.core.segment import HEADER_BYTES, Frame, SegmentError, read_frame
from fractal_lba_server.core.tenants import KeyRecord

from ...exact.disk import File
from ...exact.segments import Segments
from .bug import bug, enter

WEATHER: Final = ("partition", "one-way-cut", "loss", "reorder", "delay", "flapping", "reset")
TORN_APART: Final = ("digests_equal", "no_loss_at_level", "machine", "linearizable")
CRASHES: Final = ("process-kill", "region-down", "unsynced-lost", "disk-torn")


@bug(
    "watermark-before-acknowledged", "a record counts as replicated when it was sent to the peer",
    hazard="H40", base="pair-loss", part="shipper", kinds=("partition", "disk-lost", "delay"),
    found_by=("no_loss_at_level",),
)  # fmt: skip
class EagerWatermark(Shipper):
    """Moves the watermark when a batch leaves, not when the peer has acknowledged it."""

    def _go_on(self, now_ns: int) -> list[ship.Effect]:
        effects = super()._go_on(now_ns)
        if effects and isinstance(effects[0], ship.Send):
            effects += self._advance(self._tail, ())
        return effects


class Hasty(Shipper):
    """Gives each segment its own way to the peer: does not wait for the one before."""

    def _on_sealed(self, event: ship.SegmentSealed, now_ns: int) -> list[ship.Effect]:
        effects = super()._on_sealed(event, now_ns)
        self._awaiting = None
        self._at = Mark(event.first_seq, event.size, event.seq, sealed=True)
        return effects


class Impatient(Hasty):
    """Goes on as well when the peer says what it lacks: otherwise every gap is mended."""

    def _take_position(self, mark: Mark, now_ns: int) -> list[ship.Effect]:
        return self._go_on(now_ns)


@bug(
    "segments-out-of-order", "a segment is applied although the one before it has not come",
    hazard="H43", part="receiver", beside={"shipper": Hasty}, kinds=WEATHER, found_by=TORN_APART,
)  # fmt: skip
class AnyOrder(Receiver):
    """Applies what arrives, also if what stands before it has not."""

    def _on_batch(self, event: take.BatchReceived, now_ns: int) -> list[take.Effect]:
        here = (event.first_seq, event.offset)
        if event.offset == 0 and here > self._mark.next and self._pending is None:
            header = event.body[:HEADER_BYTES]
            if len(header) == HEADER_BYTES:
                self._prev_sha256 = header[16:48]
                self._mark = Mark(1, 0, event.first_seq - 1, sealed=True)
        return super()._on_batch(event, now_ns)


class HidesGap(Receiver):
    """Acknowledges a batch that does not follow, as if what is missing were there."""

    def _on_batch(self, event: take.BatchReceived, now_ns: int) -> list[take.Effect]:
        effects = super()._on_batch(event, now_ns)
        if effects and isinstance(effects[0], take.Refuse) and effects[0].fault == "gap":
            end = event.offset + len(event.body)
            try:
                at = HEADER_BYTES if event.offset == 0 else 0
                seq = event.first_seq - 1
                while at < len(event.body):
                    frame = read_frame(event.body, at)
                    at, seq = frame.end, frame.seq
            except SegmentError:
                return effects
            return [take.Ack(event.token, Mark(event.first_seq, end, seq, sealed=False), ())]
        return effects


enter(
    "gap-hidden", "a gap in a stream is closed by pretending that nothing is missing",
    {"receiver": HidesGap, "shipper": Impatient}, hazard="H43", kinds=WEATHER, found_by=TORN_APART,
)  # fmt: skip


@bug(
    "truncated-segment-skipped", "a segment that ends early is taken for a whole one",
    part="receiver", kinds=(*CRASHES, "delay", "bandwidth"),
    found_by=("digests_equal", "no_loss_at_level", "machine"),
)  # fmt: skip
class SkipsTruncatedSegment(Receiver):
    """Takes a torn segment for finished, and goes on with the next one."""

    def __init__(self, *, held: Held, **facts: Any) -> None:
        if held.open_data:
            held = held._replace(mark=held.mark._replace(sealed=True), open_data=b"")
        super().__init__(held=held, **facts)


@bug(
    "torn-tail-accepted", "a log goes on behind a frame that was written in part", hazard="H58",
    part="segments", kinds=("disk-torn", "disk-slow", "delay"),
    found_by=TORN_APART,
)  # fmt: skip
class TornTailStays(Segments):
    """Takes a stream up with whatever stands behind its last whole frame."""

    def _take_up(self, first: int, file: File, held: Held, *, copies_others: bool) -> Held:
        before = bytes(file.data)
        taken = super()._take_up(first, file, held, copies_others=copies_others)
        if not file.sealed and HEADER_BYTES < len(file.data) < len(before):
            file.data[:] = before
            file.synced = len(before)
            taken = taken._replace(mark=taken.mark._replace(offset=len(before)))
        return taken


@bug(
    "rotation-rejects-old-signatures", "after a rotation frames of the former key are refused",
    hazard="H47", part="replay", kinds=("key-rotated", "partition", "delay"),
    found_by=("digests_equal", "no_loss_at_level", "no_loss_end_to_end"),
)  # fmt: skip
class CurrentKeysOnly(Replay):
    """Holds a frame against the keys that are valid now, not when it was written."""

    def _key(
        self, frame: Frame, facts: Facts, record: Mapping[str, Any], origin: Origin
    ) -> KeyRecord:
        key = super()._key(frame, facts, record, origin)
        if key.status != "active":
            text = f"key {facts.kid!r} is not valid any more"
            raise ReplayFault("key_inactive", text, frame.seq)
        return key
