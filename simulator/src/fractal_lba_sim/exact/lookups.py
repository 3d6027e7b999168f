"""Where an id is looked up: in the index, behind it in the tiers, or at the dedup shards.

Each answers `StoreAnswered` or `StoreFailed` for every `Ask`, now or later.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fractal_lba_server.core.dedup import (
    CLAIMED,
    Claimed,
    Entry,
    Found,
    decode_stored,
    done_entry,
)
from fractal_lba_server.core.first_write import Apply, Key, Stored
from fractal_lba_server.core.ingest_events import Ask, StoreAnswered, StoreFailed

from .shards import Unavailable

if TYPE_CHECKING:
    from .node import Node


class IndexLookups:
    """Asks the index of this process, which answers at once."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def ask(self, effect: Ask) -> None:
        """Look an id up."""
        index = self.node.index
        stored = index.lookup(effect.key)
        overridden = () if stored is None else index.others(effect.key)
        self.node.feed(StoreAnswered(effect.key, stored, overridden))

    def release(self, key: Key) -> None:
        """Do nothing: no id is claimed."""

    def applied(self, row: Apply) -> None:
        """Do nothing: the index follows."""

    def closed(self) -> str | None:
        """Never close."""
        return None


class TierLookups(IndexLookups):
    """Asks the tiers behind the index, for what was moved there."""

    def ask(self, effect: Ask) -> None:
        """Look an id up; only one that is taken may need more than the index."""
        tiers = self.node.region.tiers
        tiers.ask(effect.key, partial(self._answered, effect.key))

    def _answered(self, key: Key, stored: Stored | None, failure: Any = None) -> None:
        life = self.node.life
        if failure is not None:
            event = StoreFailed(key, failure.code, failure.retry_after_ms)
            life.run(self.node.feed, event)
            return
        overridden = () if stored is None else self.node.index.others(key)
        life.run(self.node.feed, StoreAnswered(key, stored, overridden))

    def applied(self, row: Apply) -> None:
        """Let the tiers follow a row."""
        self.node.region.tiers.follow(row)


class ShardLookups(IndexLookups):
    """Asks the dedup shards that the processes of a region share.

    What the log of this process holds is answered from it, unless it is to ask the shards alone.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.router = node.region.router
        self.alone = node.world.shards_alone

    def ask(self, effect: Ask) -> None:
        """Claim an id, or look it up."""
        stored = None if self.alone else self.node.index.lookup(effect.key)
        if stored is not None:
            self.node.feed(StoreAnswered(effect.key, stored))
            return
        answered = partial(self.node.life.run, self._answered, effect.key)
        if effect.content is None:
            self.router.lookup(effect.key, answered)
        else:
            self.router.claim(effect.key, effect.content, answered)

    def _answered(self, key: Key, answer: Any) -> None:
        node = self.node
        if answer is None or isinstance(answer, Claimed):
            node.feed(StoreAnswered(key, None))
        elif isinstance(answer, Unavailable):
            node.feed(StoreFailed(key, "unavailable", 1_000))
        else:
            entry: Entry = answer.entry if isinstance(answer, Found) else answer
            if not isinstance(entry, Entry) or entry.state == CLAIMED or entry.stored is None:
                node.feed(StoreFailed(key, "unavailable", 1_000))
                return
            node.feed(StoreAnswered(key, decode_stored(entry.stored)))

    def release(self, key: Key) -> None:
        """Give back a claim."""
        self.router.release(key)

    def applied(self, row: Apply) -> None:
        """Put an outcome where its claim was; that of another region where it may be first."""
        node = self.node
        entry = done_entry(row.key, row.stored, node.world.rank, owner=node.code)
        self.router.complete(entry, own=row.stored.origin.region == node.code)

    def closed(self) -> str | None:
        """Say why nothing new can be taken, or None."""
        closed: str | None = self.router.closed()
        return closed
