"""The state of one stream of our log: where it stands, who may write to it, who else holds it.

This file owns the answer to "may a record of this placement be taken now?" as far as it hangs on
the stream: its space, its lease (spec/roles.md) and its peers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .first_write import Key, Origin, Stored, place
from .levels import Levels
from .tenants import OPEN_PLACEMENT


@dataclass(frozen=True, slots=True)
class StreamStart:
    """What a stream of ours begins with."""

    placement: str = OPEN_PLACEMENT
    name: str = ""
    """Name of the stream where it is not that of the placement: a process of several."""
    region_epoch: int = 1
    next_seq: int = 1
    peers: tuple[str, ...] = ()
    copies: int = 1
    closed: tuple[tuple[int, int], ...] = ()
    """Earlier region epochs of the stream, each with its last number."""
    needs_lease: bool = False
    """Whether the placement has one writer at a time; there is none until a lease is held."""


class Waiter(NamedTuple):
    """A submission that waits for its outcome: of which content, and for which level."""

    token: Any
    replayed: bool
    content: str
    level: str


@dataclass(slots=True)
class Entry:
    """An outcome that the store does not hold yet."""

    key: Key
    stored: Stored
    kid: str
    durable: bool = False
    rows: int = 0
    """How many `Apply` of this id the store has not carried out yet, or was not given yet."""
    kept: Stored | None = None
    """What stands in the store once it has carried out what it was given."""
    waiters: list[Waiter] = field(default_factory=list)
    overridden: list[Stored] = field(default_factory=list)


class Refusal(NamedTuple):
    """Why no record is taken: a code, a sentence, further members of the problem."""

    code: str
    message: str
    extras: Mapping[str, Any] | None = None


class Stream:
    """One stream of ours: plain state, driven by the ingest machine."""

    def __init__(self, region: str, start: StreamStart) -> None:
        self.placement = start.placement
        self.origin = Origin(region, start.name or start.placement, start.region_epoch)
        self.next_seq = start.next_seq
        self.durable_seq = start.next_seq - 1
        self.closed_epochs = list(start.closed)
        self.levels = Levels(copies=start.copies, peers=start.peers, durable_seq=self.durable_seq)
        self.unsynced: deque[Entry] = deque()
        self.has_space = True
        self.stopped: str | None = None
        self._until_ns: int | None = 0 if start.needs_lease else None
        self._leader: str | None = None
        self._leader_epoch = start.region_epoch
        self._taking_over = False

    def lease(
        self, until_ns: int, region_epoch: int, leader: str | None, *, taking_over: bool = False
    ) -> None:
        """Take word of who may write: we until `until_ns`, `leader`, or we before long."""
        if self._until_ns is not None:
            # A lease of an epoch before our own is an old word: it lets nobody write.
            self._until_ns = until_ns if region_epoch >= self.origin.region_epoch else 0
            self._leader = leader
            self._leader_epoch = region_epoch
            self._taking_over = taking_over

    def open_epoch(self, region_epoch: int) -> None:
        """Go on under a later region epoch; what was written before belongs to the earlier one."""
        self.closed_epochs.append((self.origin.region_epoch, self.next_seq - 1))
        self.origin = self.origin._replace(region_epoch=region_epoch)

    def lose_from(self, seq: int) -> None:
        """Take back the numbers of frames that no log holds; there is no space for others."""
        self.has_space = False
        self.next_seq = seq
        self.closed_epochs = [(one, min(last, seq - 1)) for one, last in self.closed_epochs]

    def watermark(self) -> str | None:
        """Write up to where the stream is replicated, or None where nothing of it is."""
        if not self.levels.is_reachable or not self.levels.replicated:
            return None
        return f"{place(self.origin)}{self.levels.replicated}"

    def status(self) -> dict[str, Any]:
        """Describe the stream (spec/schemas/region-status.json)."""
        return {
            "placement": self.origin.placement,
            "region_epoch": self.origin.region_epoch,
            "durable": self.durable_seq,
            "replicated": self.levels.replicated,
            "closed": [
                {"region_epoch": region_epoch, "seq": seq}
                for region_epoch, seq in self.closed_epochs
            ],
        }

    def may_write(self, now_ns: int) -> bool:
        """Tell whether a record may be taken or acknowledged by us now."""
        return self._until_ns is None or now_ns < self._until_ns

    def refusal(self, now_ns: int) -> Refusal | None:
        """Say why the stream takes no record now, or None."""
        if self.stopped is not None:
            return Refusal("unavailable", self.stopped)
        if not self.has_space:
            return Refusal("unavailable", "the write-ahead log has no space")
        if self.may_write(now_ns):
            return None
        if self._taking_over:
            return Refusal("too_early", "this region is taking over the placement; come again")
        if self._leader is None:
            return Refusal("not_primary", "this region does not lead the placement")
        hint = {"endpoint": self._leader, "region_epoch": self._leader_epoch}
        text = "another region leads the placement"
        return Refusal("not_leader", text, {"leader_hint": hint})
