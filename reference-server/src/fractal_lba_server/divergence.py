"""Compares the state of this region with that of its peers, again and again (spec/reconcile.md 3).

Two regions are compared up to a time before which both have merged every frame there is; what
they hold before it can no longer change. What differs there is no lag but a fault: it is counted
record by record, given a severity, logged, and exposed as a metric.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from .core import hlc
from .core.first_write import Stored
from .core.ingest import Ingest
from .core.reconcile import Difference, severity
from .core.regions import Registry
from .core.state_digest import NOTHING, OLD_WINDOW_MS, Sum, comparable_ms, differing
from .outbound import PeerRefusedError
from .replication import Replication
from .store.sqlite import Index
from .store.states import States

WINDOWS_MAX: Final = 64
"""Differing windows that are looked into at once; more are counted by their sums alone."""

ENTRIES_MAX: Final = 20_000
"""Entries of one window that are listed to a peer."""


class Word(NamedTuple):
    """What a region says of its own stream: nothing up to this time comes after this number."""

    seq: int
    until_ms: int


class Divergence:
    """One region's comparisons. Everything but `compare` runs on the event loop."""

    def __init__(
        self,
        *,
        region: str,
        registry: Registry,
        states: States,
        index: Index,
        replication: Replication,
        core: Callable[[], Ingest],
        report: Callable[..., None],
        interval_s: float,
    ) -> None:
        self._region = region
        self._registry = registry
        self._states = states
        self._index = index
        self._replication = replication
        self._core = core
        self._report = report
        self._interval_s = interval_s
        self._listing: set[asyncio.Future[dict[str, str]]] = set()
        self._merged: dict[tuple[str, str], int] = {}
        self.found: dict[tuple[str, str], Difference] = {}
        """The last result by placement and peer, for the metrics."""
        self.compared_ms: dict[tuple[str, str], int] = {}
        """Up to which hybrid time the last comparison went."""
        replication.on_digest = self.answer

    async def run(self) -> None:
        """Compare with every peer until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            if not self._states.is_whole:
                continue
            for placement in self._registry.held_by(self._region):
                for peer in self._registry.peers(placement.name, self._region):
                    try:
                        await self.compare(placement.name, peer)
                    except PeerRefusedError:
                        continue  # it is down; that is told elsewhere

    async def compare(self, placement: str, peer: str) -> Difference | None:
        """Compare with one peer; None if there is no moment yet that both know whole."""
        word = self._word(placement)
        said = await self._ask(peer, placement, word=list(word), windows=False)
        self._hear(peer, placement, Word(*said["word"]))
        stable_ms = min(said["until_ms"], self._stable_ms(placement))
        until_ms = comparable_ms(stable_ms, time.time_ns() // 1_000_000)
        if until_ms <= 0:
            return None
        said = await self._ask(peer, placement, word=list(word), windows=True, until_ms=until_ms)
        if said["until_ms"] != until_ms:
            return None
        theirs = _sums(said["windows"])
        mine = self._windows(placement, until_ms)
        found = await self._look_into(placement, peer, until_ms, mine, theirs)
        self.compared_ms[placement, peer] = until_ms
        self._tell(placement, peer, found)
        return found

    async def _ask(self, peer: str, placement: str, **members: Any) -> dict[str, Any]:
        document = {"region": self._region, "placement": placement, **members}
        return await self._replication.digest(peer, document)

    async def _look_into(
        self,
        placement: str,
        peer: str,
        until_ms: int,
        mine: Mapping[int, Sum],
        theirs: Mapping[int, Sum],
    ) -> Difference:
        records = max(sum(s.records for s in side.values()) for side in (mine, theirs))
        missing = conflicting = 0
        for number, window in enumerate(differing(mine, theirs)):
            gap = mine.get(window, NOTHING).records - theirs.get(window, NOTHING).records
            if number >= WINDOWS_MAX:
                missing += max(abs(gap), 1)
                continue
            said = await self._ask(peer, placement, entries=[window, until_ms])
            ours = await asyncio.to_thread(self._entries, placement, window, until_ms)
            other: dict[str, str] = said["entries"]
            is_whole = max(len(ours), len(other)) < ENTRIES_MAX
            missing += len(ours.keys() ^ other.keys()) if is_whole else max(abs(gap), 1)
            conflicting += sum(1 for id_ in ours.keys() & other.keys() if ours[id_] != other[id_])
        return Difference(records, missing, conflicting)

    def _tell(self, placement: str, peer: str, found: Difference) -> None:
        before = self.found.get((placement, peer))
        self.found[placement, peer] = found
        grave = severity(found)
        if grave is not None and found != before:
            self._report(
                "state_divergence",
                level="error",
                severity=grave,
                placement=placement,
                peer=peer,
                records=found.records,
                missing=found.missing,
                conflicting=found.conflicting,
            )

    # --- what a peer asks

    def answer(
        self, peer: str, document: dict[str, Any], done: Callable[[dict[str, Any]], None]
    ) -> None:
        """Answer a peer's comparison; without TLS, on loopback, it says itself who it is."""
        placement = document["placement"]
        peer = peer or document["region"]
        if not self._registry.may_hold(placement, peer):
            done({"word": [0, 0], "until_ms": 0})  # bytes of a placement stay in its regions
            return
        if "entries" in document:
            window, until_ms = document["entries"]
            listing = asyncio.to_thread(self._entries, placement, window, until_ms)
            task = asyncio.ensure_future(listing)
            self._listing.add(task)
            task.add_done_callback(self._listing.discard)
            task.add_done_callback(lambda listed: done({"entries": listed.result()}))
            return
        self._hear(peer, placement, Word(*document["word"]))
        until_ms = self._stable_ms(placement) if self._states.is_whole else 0
        answer: dict[str, Any] = {"word": list(self._word(placement)), "until_ms": until_ms}
        if document["windows"] and until_ms:
            answer["until_ms"] = until_ms = min(until_ms, document["until_ms"])
            sums = self._windows(placement, until_ms)
            answer["windows"] = [[w, s.records, s.digest] for w, s in sums.items()]
        done(answer)

    # --- times

    def _word(self, placement: str) -> Word:
        """Say up to which time nothing more comes from us, once a number of ours is merged."""
        core = self._core()
        now_ms = time.time_ns() // 1_000_000
        stream = core.streams[placement]
        oldest = stream.unsynced[0].stored.hlc >> hlc.COUNTER_BITS if stream.unsynced else now_ms
        return Word(stream.durable_seq, min(now_ms, oldest))

    def _hear(self, region: str, placement: str, word: Word) -> None:
        """Note up to which time a peer's stream is merged here."""
        if self._index.applied(region, placement) >= word.seq:
            known = self._merged.get((region, placement), 0)
            self._merged[region, placement] = max(known, word.until_ms)

    def _stable_ms(self, placement: str) -> int:
        """Give the time before which everything of a placement is merged and counted here."""
        word = self._word(placement)
        if self._index.applied(self._region, placement) < word.seq:
            return 0  # the next comparison is a few seconds away
        peers = self._registry.peers(placement, self._region)
        times = [self._merged.get((peer, placement), 0) for peer in peers]
        return min([word.until_ms, *times])

    # --- sums

    def _windows(self, placement: str, until_ms: int) -> dict[int, Sum]:
        with self._states.locked:
            digest = self._states.digest(placement)
            digest.age(time.time_ns() // 1_000_000)
            return digest.windows(until_ms)

    def _entries(self, placement: str, window: int, until_ms: int) -> dict[str, str]:
        """List what stands in one window: ids, and what is held of each."""
        end_ms = min(window + OLD_WINDOW_MS, until_ms)
        low, high = window << hlc.COUNTER_BITS, end_ms << hlc.COUNTER_BITS
        found = self._index.between(low, high, placement=placement, limit=ENTRIES_MAX)
        return {f"{key[0]}|{key[1]}": _held(stored) for key, stored in found}


def _held(stored: Stored) -> str:
    origin = stored.origin
    return f"{origin.region}/{origin.region_epoch}/{stored.seq}/{stored.content}/{stored.status}"


def _sums(windows: list[list[Any]]) -> dict[int, Sum]:
    return {window: Sum(records, int(digest, 16)) for window, records, digest in windows}
