"""Planted: another rule than the first write says which of two outcomes stands."""

from __future__ import annotations

from typing import Any

from fractal_lba_server.core.first_write import (
    SAME,
    Apply,
    Key,
    Merge,
    Rank,
    Stored,
    merge,
    resolve,
)
from fractal_lba_server.core.ingest import Ingest, _Candidate, _PeerItem
from fractal_lba_server.core.ingest_events import (
    Effect,
    StoreAnswered,
)

from ...exact.index import Index
from .bug import bug, enter

NETWORK = ("partition", "one-way-cut", "delay", "reorder", "flapping")
RULE = "fractal_lba_server.core.ingest"


def _rules(merging: Any, resolving: Any) -> dict[str, Any]:
    return {f"{RULE}:merge": merging, f"{RULE}:resolve": resolving}


def merge_by_arrival(a: Stored, b: Stored, rank: Rank) -> Merge:
    """Let what stands stand."""
    return Merge(b, a, merge(a, b, rank).kind)


def resolve_by_arrival(
    key: Key, frame: Stored, kid: str, standing: Stored | None, rank: Rank
) -> Apply | None:
    """Let what stands stand, in the store too."""
    row = resolve(key, frame, kid, standing, rank)
    return row if row is None or standing is None else Apply(key, frame, kid, wins=False)


enter(
    "merge-by-arrival", "of two writes of one id each region keeps the one that it saw first",
    {"rules": _rules(merge_by_arrival, resolve_by_arrival)}, hazard="H37", kinds=NETWORK,
    found_by=("digests_equal", "accounting", "linearizable"),
)  # fmt: skip


def last_write_wins(a: Stored, b: Stored, rank: Rank) -> Merge:
    """Let the latest write stand."""
    winner, other, kind = merge(a, b, rank)
    return Merge(other, winner, kind)


def resolve_last(
    key: Key, frame: Stored, kid: str, standing: Stored | None, rank: Rank
) -> Apply | None:
    """Let the latest write stand, in the store too."""
    if standing is None:
        return Apply(key, frame, kid)
    winner, _, kind = last_write_wins(frame, standing, rank)
    if kind == SAME:
        return None
    if winner is frame:
        return Apply(key, frame, kid, wins=True, replaced=standing)
    return Apply(key, frame, kid, wins=False)


enter(
    "last-write-wins", "the latest write of an id stands, not the first",
    {"rules": _rules(last_write_wins, resolve_last)}, hazard="H09", kinds=NETWORK,
    found_by=("first_write", "accounting", "answers", "resurrected"),
)  # fmt: skip


def merge_ties_by_arrival(a: Stored, b: Stored, rank: Rank) -> Merge:
    """Compare times alone; of two that are equal the first to come stands."""
    same_ms = a.hlc >> 16 == b.hlc >> 16
    return merge_by_arrival(a, b, rank) if same_ms else merge(a, b, rank)


def resolve_ties_by_arrival(
    key: Key, frame: Stored, kid: str, standing: Stored | None, rank: Rank
) -> Apply | None:
    """Compare times alone, in the store too."""
    if standing is not None and standing.hlc >> 16 == frame.hlc >> 16:
        return resolve_by_arrival(key, frame, kid, standing, rank)
    return resolve(key, frame, kid, standing, rank)


enter(
    "tie-by-arrival", "of two writes in one millisecond each region keeps what it saw first",
    {"rules": _rules(merge_ties_by_arrival, resolve_ties_by_arrival)}, hazard="H38",
    kinds=NETWORK, found_by=("digests_equal", "accounting", "linearizable"),
)  # fmt: skip


@bug(
    "merge-by-wall-clock", "the wall clock of a region is the time of its writes", hazard="H38",
    part="ingest", kinds=("clock-offset", "clock-step", "partition", "delay", "process-kill"),
    found_by=("linearizable", "accounting", "answers", "digests_equal", "resurrected"),
)  # fmt: skip
class StampsByTheWallClock(Ingest):
    """Takes the time of a frame from the clock alone, whatever was merged."""

    def _decide(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        self._last_hlc = 0
        return super()._decide(candidate, now_ns)


@bug(
    "replicated-in-word-only", "an answer says replicated when one region alone has the record",
    hazard="H95", base="pair-loss", part="ingest", kinds=("partition", "disk-lost", "delay"),
    found_by=("no_loss_at_level",),
)  # fmt: skip
class CallsAllReplicated(Ingest):
    """Says `replicated` as soon as a frame is durable here."""

    def _level_of(self, stored: Stored) -> str:
        return "replicated"


@bug(
    "peer-replaces-what-is-not-durable",
    "a write of a peer is compared with one that may be lost", part="ingest",
    kinds=("disk-full", "disk-slow", "region-down", "unsynced-lost", "partition"),
    found_by=("digests_equal", "accounting", "linearizable", "machine", "no_loss_at_level"),
)  # fmt: skip
class ReplacesWhatIsNotDurable(Ingest):
    """Lets a peer's frame meet an own one that no sync has covered."""

    def _meet_peer(self, item: _PeerItem, now_ns: int, known: StoreAnswered | None) -> list[Effect]:
        entry = self._recent.get(item.facts.key)
        if entry is None or entry.durable:
            return super()._meet_peer(item, now_ns, known)
        entry.durable = True
        try:
            return super()._meet_peer(item, now_ns, known)
        finally:
            entry.durable = False


@bug(
    "displaced-is-dropped", "what another write displaced is kept nowhere", hazard="H38",
    part="index", kinds=NETWORK, found_by=("no_loss_at_level", "accounting", "displaced_min"),
)  # fmt: skip
class ForgetfulIndex(Index):
    """Keeps what stands and nothing else."""

    def apply_one(self, row: Apply) -> None:
        super().apply_one(row)
        self.overridden.clear()
