"""Looks outcomes up through the tiers, and brings what is read up one tier.

The invariant of this file: "not found" comes from warm alone, and what cannot be known is
Unavailable (spec/tiers.md 2). One walk per key at a time, no lock while a tier is asked, promotion
on tasks of its own. Everything here runs on one event loop; which row is due and who may read is
decided in `core/tiering.py`, moving down is `tier_mover.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol, TypeAlias

from .core import tiering
from .core.cold_segment import ColdCorruptError, read_entry
from .core.first_write import Key, Stored
from .store.tiers.lineage import Lineage, LineageError
from .store.tiers.protocols import (
    ColdStore,
    HotStore,
    TierSize,
    TierUnavailableError,
    WarmRow,
    WarmStore,
)

PROMOTIONS_MAX: Final = 1_024
"""Promotions that wait; more are dropped, because the next read offers them again."""

PROMOTERS: Final = 2
"""Promotions at one time: they must not crowd out look-ups."""

PROMOTION_TIMEOUT_S: Final = 5.0
"""Longest promotion; it is then dropped."""

ACCESSES_MAX: Final = 65_536
"""Keys whose accesses are counted, for conditions over access_count."""

RETRY_MS: Final = 1_000
"""When to ask again after a tier failed."""

HOT_REPAIR_S: Final = 1.0
"""How often a hot tier that missed a removal is tried again."""

log = logging.getLogger("fractal_lba_server.tiers")


class Found(NamedTuple):
    """The outcome, and the tier that gave it."""

    stored: Stored
    tier: str


class NotFound(NamedTuple):
    """The id is new: warm says so."""


class Ended(NamedTuple):
    """The id is taken; its payload has ended."""


class Unavailable(NamedTuple):
    """Nothing is known now: 503 `unavailable`, or 429 `rate_limited`."""

    code: str
    reason: str
    retry_after_ms: int
    is_over_budget: bool = False


Answer: TypeAlias = Found | NotFound | Ended | Unavailable


class Holds(Protocol):
    """A compiled condition of promotion; None: its value is an error."""

    def holds(self, access: tiering.Access) -> bool | None: ...


class Tally:
    """Counters that any thread may raise."""

    def __init__(self) -> None:
        self._values: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Raise a counter. Reading and writing it again is one step here."""
        with self._lock:
            self._values[name] += count

    def values(self) -> dict[str, int]:
        """Give every counter that was ever raised."""
        with self._lock:
            return dict(self._values)


class _Promotion(NamedTuple):
    row: WarmRow  # with its payload
    source: str


class Tiers:
    """The tiers of one server process; `start` comes before all else, on the event loop."""

    def __init__(
        self,
        *,
        warm: WarmStore,
        hot: HotStore | None,
        cold: ColdStore | None,
        lineage: Lineage | None,
        book: tiering.TierBook,
        condition: Callable[[str], Holds],
        tally: Tally | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._warm, self._hot, self._cold, self._lineage = warm, hot, cold, lineage
        self._book = book
        self._budget = tiering.Budget(book)
        texts = {book.default.promote_on, *(p.promote_on for p in book.tenants.values())}
        self._conditions = {text: condition(text) for text in texts}
        self._accesses = tiering.Accesses(keys_max=ACCESSES_MAX)
        self.tally = tally if tally is not None else Tally()
        self._now_ns = now_ns
        self._flights: dict[Key, asyncio.Task[Answer]] = {}
        self._queue: asyncio.Queue[_Promotion] = asyncio.Queue(PROMOTIONS_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._generation = 0
        self._hot_is_behind = False
        self._offered_hlc = 0
        self._lineage_thread = ThreadPoolExecutor(1, thread_name_prefix="lineage")

    async def start(self) -> None:
        """Begin with an empty hot tier; raises TierUnavailableError if one is no hot tier."""
        self._generation = await self._warm.raise_generation()
        if self._hot is not None:
            await self._hot.begin(self._generation)
        self._tasks = [asyncio.create_task(self._promote_all()) for _ in range(PROMOTERS)]

    async def stop(self) -> None:
        """End promotions and walks, then close the stores."""
        tasks: list[asyncio.Task[None] | asyncio.Task[Answer]] = [*self._tasks]
        tasks += self._flights.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._hot is not None:
            await self._hot.close()
        self._lineage_thread.shutdown()
        if self._lineage is not None:
            self._lineage.close()

    # --- look-ups

    def at_once(self, key: Key, look: Callable[[Key], Stored | None]) -> Answer | None:
        """Answer without waiting, where warm can be asked so; None: `get` has to walk.

        `look` is the index of this process. It is the authority, and as fast as any cache of it.
        """
        try:
            stored = look(key)
        except TierUnavailableError as error:
            return self._unavailable(str(error))
        if stored is None:
            self.tally.add("misses")
            return NotFound()
        if not stored.outcome or self._is_over(key, stored, self._now_ms()):
            return None
        self.tally.add("hits_warm")
        return Found(stored, tiering.WARM)

    async def get(self, key: Key) -> Answer:
        """Walk hot, warm, cold; several callers of one key share a walk."""
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._walk(key))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def _landed(self, key: Key, flight: asyncio.Task[Answer]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _walk(self, key: Key) -> Answer:
        now_ms = self._now_ms()
        stored = await self._from_hot(key, now_ms)
        if stored is not None:
            self.tally.add("hits_hot")
            return Found(stored, tiering.HOT)
        try:
            row = await self._warm.lookup(key)
        except TierUnavailableError as error:
            self.tally.add("warm_faults")
            return self._unavailable(str(error))
        if row is None:
            self.tally.add("misses")
            return NotFound()
        if row.has_ended or self._is_over(key, row.stored, now_ms):
            self.tally.add("ended")
            return Ended()
        if row.stored.outcome:
            self.tally.add("hits_warm")
            self._offer(row, tiering.WARM, now_ms)
            return Found(row.stored, tiering.WARM)
        answer = await self._from_cold(row)
        if isinstance(answer, Found):
            self._offer(row._replace(stored=answer.stored), tiering.COLD, now_ms)
        return answer

    async def _from_hot(self, key: Key, now_ms: int) -> Stored | None:
        if self._hot is None or self._hot_is_behind:
            return None
        try:
            return await self._hot.get(key, now_ms)
        except TierUnavailableError as error:
            self.tally.add("hot_faults")
            log.warning("%s", error)
            return None

    async def _from_cold(self, row: WarmRow) -> Answer:
        """Read one payload from cold: budget, lineage, read, compare, in this order."""
        if row.ref is None or self._cold is None or self._lineage is None:
            return self._unavailable("the payload is in a cold store that is not configured")
        refused = self._budget.take(row.key[0], self._now_ns())
        if refused is not None:
            whose = "tenant" if refused.code == "rate_limited" else "overall"
            self.tally.add(f"cold_refused_{whose}")
            reason = f"the {whose} budget of cold reads is used up"
            return Unavailable(refused.code, reason, refused.wait_ms, is_over_budget=True)
        ref = row.ref
        facts = {
            "at_ms": self._now_ms(), "length": ref.length, "object": ref.object,
            "offset": ref.offset, "pcs_id": row.key[1], "tenant": row.key[0],
        }  # fmt: skip
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._lineage_thread, self._lineage.record, facts)
        except LineageError as error:
            self.tally.add("lineage_faults")
            log.error("a cold read cannot be recorded: %s", error)
            return self._unavailable("a cold read cannot be recorded")
        self.tally.add("cold_reads")
        try:
            data = await self._cold.read_range(ref.object, ref.offset, ref.length)
            entry = read_entry(data or b"", ref.sha256)  # absent is as bad as different
        except (TierUnavailableError, ColdCorruptError) as error:
            self.tally.add("cold_faults")
            log.error("%s at byte %d cannot be read: %s", ref.object, ref.offset, error)
            return self._unavailable("cold cannot be read")
        if (entry.key, entry.stored.content) != (row.key, row.stored.content):
            self.tally.add("cold_faults")
            log.error("%s at byte %d is another payload", ref.object, ref.offset)
            return self._unavailable("cold holds another payload")
        self.tally.add("hits_cold")
        return Found(row.stored._replace(outcome=entry.stored.outcome), tiering.COLD)

    # --- promotion

    def _offer(self, row: WarmRow, source: str, now_ms: int) -> None:
        """Offer a payload to the tier above; whoever asked for it does not wait."""
        policy = self._book.for_tenant(row.key[0])
        written_ms = tiering.written_ms(row.stored.hlc)
        access = tiering.Access(
            self._accesses.count(row.key),
            max(0, now_ms - written_ms) // tiering.SECOND_MS,
            len(row.stored.outcome),
            source,
        )
        if source == tiering.WARM and self._hot is None:
            return
        holds = self._conditions[policy.promote_on].holds(access)
        if holds is None:
            self.tally.add("condition_errors")
        if not holds:
            return
        try:
            self._queue.put_nowait(_Promotion(row, source))
        except asyncio.QueueFull:
            self.tally.add("promotions_dropped")

    async def _promote_all(self) -> None:
        while True:
            promotion = await self._queue.get()
            try:
                async with asyncio.timeout(PROMOTION_TIMEOUT_S):
                    await self._promote(promotion)
            except (TierUnavailableError, TimeoutError) as error:
                self.tally.add("promotions_failed")
                log.warning("a promotion failed: %s", error)
            finally:
                self._queue.task_done()

    async def _promote(self, promotion: _Promotion) -> bool:
        """Promote what is still so: generations first, then the row, then compare and set."""
        offered, now_ms = promotion.row, self._now_ms()
        generation, warm_generation = self._generation, await self._warm.generation()
        row = await self._warm.lookup(offered.key)
        if row is None:
            return False
        policy = self._book.for_tenant(row.key[0])
        written_ms = tiering.written_ms(row.stored.hlc)
        if promotion.source == tiering.COLD:
            until_ms = tiering.warm_until_ms(policy, written_ms, now_ms)
            if until_ms is None or row.ref != offered.ref:
                return False
            taken = await self._warm.promote(offered, until_ms=until_ms, generation=warm_generation)
        else:
            until_ms = tiering.hot_until_ms(policy, written_ms, now_ms)
            if until_ms is None or not row.stored.outcome or self._hot is None:
                return False
            taken = await self._hot.put(
                row.key, row.stored, until_ms=until_ms, generation=generation, now_ms=now_ms
            )
        above = tiering.WARM if promotion.source == tiering.COLD else tiering.HOT
        self.tally.add(f"promotions_{above}" if taken else "promotions_refused")
        return taken

    async def promoted(self) -> None:
        """Wait until every promotion that was offered is done."""
        await self._queue.join()

    async def bring(self, row: WarmRow) -> Answer:
        """Bring one payload from cold to warm ahead of its readers, recorded and budgeted."""
        answer = await self._from_cold(row)
        if isinstance(answer, Found):
            promotion = _Promotion(row._replace(stored=answer.stored), tiering.COLD)
            try:
                await self._promote(promotion)
            except TierUnavailableError as error:
                return self._unavailable(str(error))
        return answer

    async def fill_hot(self, limit: int) -> int:
        """Bring the newest payloads into hot ahead of their readers; give how many it took.

        What an earlier call has offered is not offered again.
        """
        rows = [row for row in await self._warm.newest(limit) if row.stored.hlc > self._offered_hlc]
        taken = 0
        for row in rows:
            taken += await self._promote(_Promotion(row, tiering.WARM))
            self._offered_hlc = max(self._offered_hlc, row.stored.hlc)
        return taken

    # --- what is replaced or erased

    async def forget(self, keys: Sequence[Key]) -> None:
        """Drop keys from hot after warm has replaced their outcomes (spec/tiers.md 4.4)."""
        for key in keys:
            self._flights.pop(key, None)  # who asks from now on gets a new walk
        self._generation += 1
        if self._hot is None:
            return
        try:
            await self._hot.forget(keys, self._generation)
        except TierUnavailableError as error:
            log.warning("hot is not read until it can forget: %s", error)
            if not self._hot_is_behind:
                self._hot_is_behind = True
                self._tasks.append(asyncio.create_task(self._repair_hot()))

    async def erase(self, keys: Sequence[Key]) -> None:
        """Forget payloads in warm, then in hot; raises TierUnavailableError if warm cannot.

        What a cold object still holds of them goes with the object; nothing points to it.
        """
        await self._warm.erase(keys)
        await self.forget(keys)

    async def _repair_hot(self) -> None:
        assert self._hot is not None
        while self._hot_is_behind:
            await asyncio.sleep(HOT_REPAIR_S)
            with contextlib.suppress(TierUnavailableError):
                await self._hot.begin(self._generation)
                self._hot_is_behind = False

    # --- figures

    async def sizes(self) -> Mapping[str, TierSize]:
        """Give keys and bytes of each tier; one that cannot be asked is left out."""
        found: dict[str, TierSize] = {}
        with contextlib.suppress(TierUnavailableError):
            found[tiering.WARM] = await self._warm.size()
            found[tiering.COLD] = await self._warm.cold_size()
        if self._hot is not None:
            with contextlib.suppress(TierUnavailableError):
                found[tiering.HOT] = await self._hot.size()
        return found

    def _is_over(self, key: Key, stored: Stored, now_ms: int) -> bool:
        policy = self._book.for_tenant(key[0])
        end_ms = tiering.ends_ms(policy, tiering.written_ms(stored.hlc))
        return end_ms is not None and end_ms <= now_ms

    def _unavailable(self, reason: str) -> Unavailable:
        return Unavailable("unavailable", reason, RETRY_MS)

    def _now_ms(self) -> int:
        return self._now_ns() // 1_000_000
