"""Where an id is looked up: in the index, behind it in the tiers, or at the dedup shards.

Each kind answers `StoreAnswered` or `StoreFailed` for every `Ask`, now or later. What an answer
means is decided in `core/ingest.py`; this file only carries questions and answers.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from .core.dedup import CLAIMED, Claimed, Entry, Found, decode_stored, done_entry
from .core.first_write import Apply, Key, Rank, Stored
from .core.ingest_events import Ask, StoreAnswered, StoreFailed
from .store.data_dir import DataDir
from .store.shards.reach import Unavailable
from .store.shards.router import ShardedDedup
from .store.sqlite import Index

if TYPE_CHECKING:
    from .tier_service import TierService
    from .tiers import Unavailable as Faulted

Feed = Callable[[object], None]

log = logging.getLogger("fractal_lba_server.lookups")


class Lookups(Protocol):
    """What the driver asks; all of it on the event loop."""

    def ask(self, effect: Ask) -> None:
        """Look an id up, or claim it; the answer is an event."""

    def release(self, key: Key) -> None:
        """Give back a claim."""

    def applied(self, row: Apply) -> None:
        """Follow a row on its way to the index."""

    def closed(self) -> str | None:
        """Say why nothing new can be taken, or None."""
        ...


class IndexLookups:
    """Asks the index of this process, which answers at once."""

    def __init__(self, index: Index, feed: Feed) -> None:
        self._index = index
        self._feed = feed

    def ask(self, effect: Ask) -> None:
        """Look an id up."""
        try:
            stored = self._index.lookup(effect.key)
            overridden = () if stored is None else self._index.overridden(effect.key)
        except sqlite3.Error as error:
            log.error("the index cannot answer: %s", error)
            self._feed(StoreFailed(effect.key))
            return
        self._feed(StoreAnswered(effect.key, stored, overridden))

    def release(self, key: Key) -> None:
        """Do nothing: no id is claimed."""

    def applied(self, row: Apply) -> None:
        """Do nothing: the view follows."""

    def closed(self) -> str | None:
        """Never close."""
        return None


class TierLookups(IndexLookups):
    """Asks the tiers, which ask the index, and objects for what was moved there."""

    def __init__(self, index: Index, feed: Feed, tiers: TierService) -> None:
        super().__init__(index, feed)
        self._tiers = tiers

    def ask(self, effect: Ask) -> None:
        """Look an id up; only one that is taken may need more than the index."""
        self._tiers.ask(effect.key, self._answered, self._refused)

    def _refused(self, key: Key, reason: Faulted) -> None:
        self._feed(StoreFailed(key, reason.code, reason.retry_after_ms or None))

    def _answered(self, key: Key, stored: Stored | None) -> None:
        try:
            overridden = () if stored is None else self._index.overridden(key)
        except sqlite3.Error as error:
            log.error("the index cannot answer: %s", error)
            self._feed(StoreFailed(key))
            return
        self._feed(StoreAnswered(key, stored, overridden))


class ShardLookups(IndexLookups):
    """Asks the dedup shards that the processes of a region share, many ids at a time.

    What the log of this process holds is answered from it: a claim that its life before has left
    behind would be given to it again, and the record taken twice.
    """

    def __init__(
        self, index: Index, shards: ShardedDedup, feed: Feed, *, region: str, rank: Rank
    ) -> None:
        super().__init__(index, feed)
        self._shards = shards
        self._region = region
        self._rank = rank
        self._claims: list[tuple[Key, str]] = []
        self._reads: list[Key] = []
        self._done: list[Entry] = []
        self._foreign: list[Entry] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, effect: Ask) -> None:
        """Claim an id, or look it up; all of one turn of the loop go together."""
        try:
            stored = self._index.lookup(effect.key)
        except sqlite3.Error as error:
            log.error("the index cannot answer: %s", error)
            self._feed(StoreFailed(effect.key))
            return
        if stored is not None:
            self._feed(StoreAnswered(effect.key, stored))
            return
        self._soon()
        if effect.content is None:
            self._reads.append(effect.key)
        else:
            self._claims.append((effect.key, effect.content))

    def release(self, key: Key) -> None:
        """Give back a claim."""
        self._start(self._shards.release_many([key]))

    def applied(self, row: Apply) -> None:
        """Put an outcome where its claim was; that of another region where it may be first."""
        self._soon()
        entry = done_entry(row.key, row.stored, self._rank, owner=self._shards.node)
        own = row.stored.origin.region == self._region
        (self._done if own else self._foreign).append(entry)

    def closed(self) -> str | None:
        """Say why no claim is taken."""
        return self._shards.closed()

    async def close(self) -> None:
        """Wait for what is under way, and let go of the dedup shards."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._shards.close()

    def _soon(self) -> None:
        if not (self._claims or self._reads or self._done or self._foreign):
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        claims, self._claims = self._claims, []
        reads, self._reads = self._reads, []
        done, self._done = self._done, []
        foreign, self._foreign = self._foreign, []
        if claims:
            self._start(self._claim(claims))
        if reads:
            self._start(self._read(reads))
        if done:
            self._start(self._shards.complete_many(done))
        if foreign:  # the first write stands, whoever puts it; what is not taken is put later
            self._start(self._shards.complete_many(foreign))

    async def _claim(self, claims: Sequence[tuple[Key, str]]) -> None:
        answers = await self._shards.claim_many(claims)
        for (key, _), answer in zip(claims, answers, strict=True):
            if isinstance(answer, Claimed):
                self._feed(StoreAnswered(key, None))
            elif isinstance(answer, Found):
                self._give(key, answer.entry)
            else:
                self._feed(StoreFailed(key))

    async def _read(self, keys: Sequence[Key]) -> None:
        answers = await self._shards.lookup_many(keys)
        for key, answer in zip(keys, answers, strict=True):
            if isinstance(answer, Unavailable):
                self._feed(StoreFailed(key))
            elif answer is None:
                self._feed(StoreAnswered(key, None))
            else:
                self._give(key, answer)

    def _give(self, key: Key, entry: Entry) -> None:
        """Give what stands; a claim without an outcome may be acknowledged elsewhere already."""
        if entry.state == CLAIMED or entry.stored is None:
            self._feed(StoreFailed(key))
            return
        try:
            stored = decode_stored(entry.stored)
        except ValueError as error:
            log.error("a dedup shard holds a damaged row: %s", error)
            self._feed(StoreFailed(key))
        else:
            self._feed(StoreAnswered(key, stored))

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a dedup shard was asked in vain: %r", task.exception())


def own_entries(index: Index, keys: Sequence[Key], rank: Rank, node: str) -> Mapping[Key, Entry]:
    """Give what the logs of this process hold of some ids, as their dedup shards keep it."""
    found = {}
    for key in keys:
        stored = index.lookup(key)
        if stored is not None and stored.outcome:
            found[key] = done_entry(key, stored, rank, owner=node)
    return found


def all_entries(
    data: DataDir, waiting: Iterable[tuple[Key, Stored]], rank: Rank, node: str
) -> list[Entry]:
    """Give all that this process holds, for dedup shards that have forgotten."""
    reading = Index(data.index)
    try:
        held = chain(reading.snapshot(), waiting)
        return [done_entry(key, stored, rank, owner=node) for key, stored in held]
    finally:
        reading.close()
