"""The tiers of a running server: opened once, asked for every id, moved in the background.

This file binds the parts to one event loop and decides nothing: what an answer means to a record
is `core/ingest.py`'s, what is due `core/tiering.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from .core import tiering
from .core.first_write import Key, Stored
from .store.index_cold import IndexWarm
from .store.sqlite import Index
from .store.tiers.cold_objects import open_cold
from .store.tiers.conditions import Condition
from .store.tiers.hot_memory import HotMemory
from .store.tiers.lineage import Lineage
from .store.tiers.protocols import HotStore, TierSize, TierUnavailableError
from .store.tiers.wal_records import read_records
from .tier_mover import Report, TierMover
from .tiers import Answer, Found, NotFound, Tally, Tiers, Unavailable

MOVE_INTERVAL_S: Final = 60.0
"""Rest between two passes of the mover."""

HOT_FILL_ROWS: Final = 1_000
"""Payloads that one pass brings into hot at most; older ones come when they are read."""

LINEAGE: Final = "cold-reads"
"""Folder of the lineage in the data directory."""

COUNTS: Final = (
    "hits_hot", "hits_warm", "hits_cold", "misses", "ended", "hot_faults", "warm_faults",
    "cold_faults", "cold_reads", "cold_refused_tenant", "cold_refused_overall", "lineage_faults",
    "promotions_hot", "promotions_warm", "promotions_refused", "promotions_dropped",
    "promotions_failed", "condition_errors", "demotions", "moves_given_up", "moves_stopped",
)  # fmt: skip
"""Every counter, for a scrape; each begins at 0."""

log = logging.getLogger("fractal_lba_server.tier_service")

Reply = Callable[[Key, Stored | None], None]
Refusal = Callable[[Key, Unavailable], None]


class TierService:
    """What a server has of tiers. `open`, then `ask` and `forget`, then `stop`."""

    def __init__(self, tiers: Tiers, warm: IndexWarm, mover: TierMover | None) -> None:
        self.tiers = tiers
        self._warm, self._mover = warm, mover
        self._sizes: Mapping[str, TierSize] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.last_pass: Report | None = None

    @classmethod
    async def open(
        cls,
        *,
        index: Index,
        data: Path,
        book: tiering.TierBook,
        hot: str,
        cold: str | None,
        namespace: str,
        interval_s: float = MOVE_INTERVAL_S,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> TierService:
        """Open every tier; raises ValueError, LineageError or TierUnavailableError.

        `namespace` names this process to a Redis: region and node.
        """
        tally = Tally()
        warm = IndexWarm(index, data / "index.sqlite")
        store = None if cold is None else open_cold(cold)
        lineage = None if store is None else Lineage(data / LINEAGE)
        tiers = Tiers(
            warm=warm, hot=open_hot(hot, namespace), cold=store, lineage=lineage, book=book,
            condition=Condition, tally=tally, now_ns=now_ns,
        )  # fmt: skip
        await tiers.start()
        mover = None
        if store is not None:
            records = partial(read_records, data) if book.keeps_records else None
            mover = TierMover(
                warm=warm, cold=store, book=book, tally=tally, records=records, now_ns=now_ns
            )
        service = cls(tiers, warm, mover)
        service._start(service._follow(interval_s))
        return service

    def ask(self, key: Key, reply: Reply, refuse: Refusal) -> None:
        """Look an id up and call `reply` or `refuse` once, at once or later, on this loop."""
        answer = self.tiers.at_once(key, self._warm.stored_now)
        if answer is None:
            self._start(self._ask_slowly(key, reply, refuse))
        else:
            _tell(key, answer, reply, refuse)

    async def _ask_slowly(self, key: Key, reply: Reply, refuse: Refusal) -> None:
        _tell(key, await self.tiers.get(key), reply, refuse)

    async def forget(self, keys: Sequence[Key]) -> None:
        """Say that the index has replaced outcomes; await it before anybody is told of that."""
        await self.tiers.forget(keys)

    def gauges(self) -> dict[str, Callable[[], float]]:
        """Give what a scrape reads: counters by name, and keys and bytes of each tier."""
        counts = {f"tier_{name}": partial(self._count, name) for name in COUNTS}
        sizes: dict[str, Callable[[], float]] = {}
        for tier in (tiering.HOT, tiering.WARM, tiering.COLD):
            sizes[f"tier_{tier}_keys"] = partial(self._size, tier, 0)
            sizes[f"tier_{tier}_bytes"] = partial(self._size, tier, 1)
        return {**counts, **sizes}

    async def stop(self) -> None:
        """End the mover between two calls of a store, and close everything but the index."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.tiers.stop()
        await self._warm.close()

    async def _follow(self, interval_s: float) -> None:
        """Fill hot, move what is due, look at the sizes, rest, and again.

        Hot comes first: it spares the reads of what this pass takes to cold.
        """
        while True:
            await self._fill_hot()
            if self._mover is not None:
                self.last_pass = await self._mover.run()
            self._sizes = await self.tiers.sizes()
            await asyncio.sleep(interval_s)

    async def _fill_hot(self) -> None:
        try:
            await self.tiers.fill_hot(HOT_FILL_ROWS)
        except TierUnavailableError as error:
            log.warning("hot is not filled: %s", error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None:
                log.error("a task of the tiers ended: %r", error)

    def _count(self, name: str) -> float:
        return self.tiers.tally.values().get(name, 0)

    def _size(self, tier: str, member: int) -> float:
        size = self._sizes.get(tier)
        return 0 if size is None else size[member]


def open_hot(url: str, namespace: str) -> HotStore:
    """Open `memory:`, or a Redis by its URL; raises ValueError for any other text."""
    if url == "memory:":
        return HotMemory()
    if url.startswith(("redis://", "rediss://", "unix://")):
        from .store.tiers.hot_redis import HotRedis  # noqa: PLC0415 - an extra: [redis]

        return HotRedis(url, namespace=namespace)
    raise ValueError("hot: expected memory: or redis://HOST:PORT/DB")


def _tell(key: Key, answer: Answer, reply: Reply, refuse: Refusal) -> None:
    match answer:
        case Found(stored):
            reply(key, stored)
        case NotFound():
            reply(key, None)
        case Unavailable():
            refuse(key, answer)
        case _:
            # The id is taken: whatever is asked of it, it is never a new one.
            refuse(key, Unavailable("unavailable", "the outcome's time is over", 0))
