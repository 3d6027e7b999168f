"""Small worlds of a region that is lost: what had not reached another one.

How far a copy is behind is told by `core.governor.LagClock`, which level a record has reached by
`core.levels`, what a segment holds by `core.segment`, when a checker calls a region down by
`core.health`. Trials differ in the phase at which the region dies, drawn from one named stream,
so that two settings meet the same deaths.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from fractal_lba_server.core.governor import LagClock
from fractal_lba_server.core.health import Probe, ProbeRule
from fractal_lba_server.core.levels import Levels
from fractal_lba_server.core.segment import GENESIS, Header, encode_frame, scan

from ..streams import Streams

SECOND_NS: Final = 1_000_000_000
SEED: Final = 20_260_101

FRAME_BYTES: Final = 813
"""Mean size of a frame, for counts of bytes; nothing is written."""


def stream(name: str) -> Random:
    """Give the random stream of one cause."""
    return Streams(SEED).of("claims", name)


class Loss(NamedTuple):
    """What one death cost."""

    rpo_s: float
    records: int
    oldest_s: float
    """Acknowledgement of the oldest record that is gone, before the death."""


def region_lost(
    *, interval_s: float, upload_s: float, transfer_s: float, rate_per_s: float, phase: float
) -> Loss:
    """Lose a region at a phase of its cycle of closing segments, and say what was not elsewhere.

    A segment closes every `interval_s`, is uploaded, and is elsewhere `transfer_s` later. Uploads
    go one after the other. Records are acknowledged when they are durable here.
    """
    cycles = int((upload_s + transfer_s) / interval_s) + 3
    dies_s = (cycles + phase) * interval_s
    clock, gap_s = LagClock(), 1 / rate_per_s
    count = int(dies_s * rate_per_s)
    for seq in range(1, count + 1):
        clock.grew(seq, seq * FRAME_BYTES, round(seq * gap_s * SECOND_NS))
    free_s, held = 0.0, 0
    for cycle in range(1, cycles + 1):
        closes_s = cycle * interval_s
        free_s = max(free_s, closes_s) + upload_s
        if free_s + transfer_s <= dies_s:
            held = min(count, int(closes_s * rate_per_s + 1e-9))
    clock.held(held)
    lag = clock.lag(round(dies_s * SECOND_NS))
    oldest_s = dies_s - (held + 1) * gap_s if lag.records else 0.0
    return Loss(lag.age_ms / 1_000, lag.records, oldest_s)


def losses(
    trials: int, *, interval_s: float, upload_s: float, transfer_s: float, rate_per_s: float
) -> list[Loss]:
    """Lose a region at many phases; the same ones for every setting."""
    chance = stream("shipping/phase")
    return [
        region_lost(
            interval_s=interval_s, upload_s=upload_s, transfer_s=transfer_s,
            rate_per_s=rate_per_s, phase=chance.random(),
        )
        for _ in range(trials)
    ]  # fmt: skip


def lost_at_level(count: int, round_trip_records: int, *, waits: bool) -> int:
    """Lose a region after `count` records; count the acknowledged ones that the peer lacks.

    With `waits` a record is acknowledged when `core.levels` calls it replicated, else at once.
    """
    levels, acked, held = Levels(copies=2, peers=("use",)), 0, 0
    for seq in range(1, count + 1):
        levels.synced(seq, seq)
        held = max(0, seq - round_trip_records)
        levels.acked("use", held, seq)
        acked = levels.replicated if waits else seq
    return acked - min(acked, held)


class Restored(NamedTuple):
    """What a region holds after it was brought back."""

    acked: int
    lost: int
    renumbered: int
    """Positions that name another record than the one that was acknowledged there."""


def bring_back(acked: int, shipped: int, written_after: int, *, ships_tail: bool) -> Restored:
    """Bring a region back from its peer's copy of its log, which ends at `shipped`.

    `ships_tail`: what the region's own disk still holds goes to the peer first (spec/roles.md 5).
    Without, the copy is put over the disk, as "snapshot and restore" says.
    """
    header = Header(1, GENESIS, 0, 1).to_bytes()
    own = [encode_frame(seq, seq << 16, b"", b"acked %d" % seq) for seq in range(1, acked + 1)]
    disk = header + b"".join(own)
    copy = header + b"".join(own[:shipped])
    if ships_tail:
        copy += disk[len(copy) :]
    restored = scan(copy)
    assert restored.fault is None
    last = restored.frames[-1].seq if restored.frames else 0
    again = [
        encode_frame(seq, (acked + seq) << 16, b"", b"later %d" % seq)
        for seq in range(last + 1, last + 1 + written_after)
    ]
    after = {frame.seq: frame.body for frame in scan(copy + b"".join(again)).frames}
    before = {frame.seq: frame.body for frame in scan(disk).frames}
    lost = len(set(before.values()) - set(after.values()))
    renumbered = sum(after.get(seq, body) != body for seq, body in before.items())
    return Restored(acked, lost, renumbered)


def cold_standby_rpos(
    trials: int,
    *,
    snapshot_s: float,
    sync_s: float,
    taking_s: float,
    copy_s: float,
    locked: bool = False,
) -> list[float]:
    """Lose a region with a cold standby, and give the age of what its newest snapshot there shows.

    Snapshots begin and syncs begin on their own grids; the grids begin at random moments, or with
    `locked` at the same one, as where one scheduler starts both.
    """
    chance = stream("cold-standby/phases")
    found = []
    for _ in range(trials):
        dies_s = 10 * (snapshot_s + sync_s) + chance.random() * snapshot_s
        snapshot_at_s = 0.0 if locked else chance.random() * snapshot_s
        sync_at_s = 0.0 if locked else chance.random() * sync_s
        seen_s = _last(dies_s - copy_s, sync_at_s, sync_s)
        shows_s = _last(seen_s - taking_s, snapshot_at_s, snapshot_s)
        found.append(dies_s - shows_s)
    return found


def _last(until_s: float, first_s: float, every_s: float) -> float:
    """Give the last moment of a grid up to a time."""
    return first_s + (until_s - first_s) // every_s * every_s


def detections(trials: int, rule: ProbeRule) -> list[float]:
    """Let a region die between two probes, and give when the core's checker calls it down."""
    chance = stream("health/phase")
    interval_s, timeout_s = rule.interval_ms / 1_000, rule.timeout_ms / 1_000
    found = []
    for _ in range(trials):
        probe = Probe(rule)
        at_s = chance.random() * interval_s
        while True:
            ends_s = at_s + timeout_s
            if probe.heard(ok=False, now_ns=round(ends_s * SECOND_NS)):
                break
            at_s += interval_s
        found.append(ends_s)
    return found


def reroutes(trials: int, rule: ProbeRule, *, propagation_s: float, ttl_s: float) -> list[float]:
    """Add propagation and what is left of a DNS entry to each detection."""
    chance = stream("dns/age")
    return [
        found_s + propagation_s + chance.random() * ttl_s for found_s in detections(trials, rule)
    ]


def largest_gap(values: list[float], above_s: float, to_s: float) -> float:
    """Give the Kolmogorov-Smirnov distance from a uniform time."""
    ordered, gap = sorted(values), 0.0
    for rank, value in enumerate(ordered):
        exact = min(1.0, max(0.0, (value - above_s) / (to_s - above_s)))
        gap = max(gap, exact - rank / len(ordered), (rank + 1) / len(ordered) - exact)
    return gap


def gap_allowed(count: int) -> float:
    """Give the distance that a sample of a right model exceeds once in a thousand."""
    return float(1.949 / count**0.5)
