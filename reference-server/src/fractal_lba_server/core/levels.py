"""Who else holds the frames of one stream, and who waits to hear of it.

This file owns the level `replicated` (spec/shipping.md 8.1): a frame is so when it is durable
in `copies` regions, this one included, and has lost in none of those that were heard of
(spec/reconcile.md 2.10). A placement of one region never reaches it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import Any, Final, NamedTuple

UNSHIPPED_MARKS_MAX: Final = 65_536
"""Syncs remembered for the lag; beyond it neighbours are merged, the oldest of them counts."""


DISPLACED_MAX: Final = 65_536
"""Frames remembered that lost elsewhere, until it is known here against what; the oldest go."""


class Parked(NamedTuple):
    """A request that waits until `seq` is replicated, or until its time is over."""

    seq: int
    number: int
    deadline_ns: int
    waiter: Any


class Levels:
    """The watermarks of one stream's peers. Plain state; time is an argument."""

    def __init__(
        self, *, copies: int = 1, peers: tuple[str, ...] = (), durable_seq: int = 0
    ) -> None:
        self._needed = copies - 1
        self._held = dict.fromkeys(peers, 0)
        self._heard_ns: int | None = None
        self._unshipped: deque[tuple[int, int]] = deque()
        if durable_seq and self.is_reachable:
            # Nobody knows how old the first of them is: as old as can be, until a peer speaks.
            self._unshipped.append((durable_seq, 0))
        self._displaced: dict[int, None] = {}
        self._parked: list[Parked] = []
        self._numbers = itertools.count()
        self.replicated = 0
        """Every frame up to this number is in enough regions; 0 if none is."""

    @property
    def is_reachable(self) -> bool:
        """Tell whether there are regions enough to hold the copies."""
        return 0 < self._needed <= len(self._held)

    def synced(self, seq: int, now_ns: int) -> None:
        """Note that frames up to `seq` are durable here."""
        if not self.is_reachable or seq <= self.replicated:
            return
        if len(self._unshipped) >= UNSHIPPED_MARKS_MAX:
            _, oldest_ns = self._unshipped.pop()
            self._unshipped.append((seq, oldest_ns))
            return
        self._unshipped.append((seq, now_ns))

    def acked(self, peer: str, seq: int, now_ns: int) -> list[Parked]:
        """Take what a peer holds durably; give those who have waited for it."""
        if peer not in self._held:
            return []
        self._heard_ns = now_ns
        self._held[peer] = max(self._held[peer], seq)
        if not self.is_reachable:
            return []
        self.replicated = sorted(self._held.values(), reverse=True)[self._needed - 1]
        while self._unshipped and self._unshipped[0][0] <= self.replicated:
            self._unshipped.popleft()
        done = []
        while self._parked and self._parked[0].seq <= self.replicated:
            done.append(heapq.heappop(self._parked))
        return done

    def is_replicated(self, seq: int) -> bool:
        """Tell whether a frame is in enough regions, and stands there."""
        return seq <= self.replicated and seq not in self._displaced

    def is_displaced(self, seq: int) -> bool:
        """Tell whether a frame has lost elsewhere, against an outcome that is not known here."""
        return seq in self._displaced

    def displace(self, seqs: tuple[int, ...]) -> list[Parked]:
        """Note that frames have lost elsewhere; give, and forget, those who wait for them."""
        found = []
        for seq in seqs:
            self._displaced[seq] = None
            found += self._take(seq)
        while len(self._displaced) > DISPLACED_MAX:
            del self._displaced[next(iter(self._displaced))]
        return found

    def overridden(self, seq: int) -> list[Parked]:
        """Note that a frame stands no more here; give, and forget, those who wait for it."""
        self._displaced.pop(seq, None)
        return self._take(seq)

    def heard(self, at_ns: int) -> None:
        """Note when a peer was last heard of."""
        self._heard_ns = max(self._heard_ns or 0, at_ns)

    def park(self, seq: int, deadline_ns: int, waiter: Any) -> None:
        """Let a request wait until `seq` is replicated."""
        heapq.heappush(self._parked, Parked(seq, next(self._numbers), deadline_ns, waiter))

    def expired(self, now_ns: int) -> list[Parked]:
        """Give, and forget, those whose time is over."""
        over = [parked for parked in self._parked if parked.deadline_ns <= now_ns]
        if over:
            self._parked = [parked for parked in self._parked if parked.deadline_ns > now_ns]
            heapq.heapify(self._parked)
        return over

    def _take(self, seq: int) -> list[Parked]:
        found = [parked for parked in self._parked if parked.seq == seq]
        if found:
            self._parked = [parked for parked in self._parked if parked.seq != seq]
            heapq.heapify(self._parked)
        return found

    def lag_ms(self, now_ns: int) -> int:
        """Give the age of the oldest durable frame that is not replicated; 0 if there is none."""
        if not self._unshipped:
            return 0
        return (now_ns - self._unshipped[0][1]) // 1_000_000

    def is_cut_off(self, now_ns: int, *, after_ms: int) -> bool:
        """Tell whether no peer was heard of for so long; true before the first word."""
        if not self._held:
            return False
        return self._heard_ns is None or now_ns - self._heard_ns > after_ms * 1_000_000

    @property
    def two_suffice(self) -> bool:
        """Tell whether the stream's writer and one peer are copies enough."""
        return self._needed <= 1

    def next_deadline_ns(self) -> int | None:
        """Give when the first of those who wait gives up, or None if nobody waits."""
        return min((parked.deadline_ns for parked in self._parked), default=None)
