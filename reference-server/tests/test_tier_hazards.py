"""Hazards of storage tiers: the literal design of each stands beside ours, before one judge."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tier_parts import (
    AGES_MS,
    DAY_MS,
    HOUR_MS,
    KEY,
    MINUTE_MS,
    START_MS,
    Place,
    Verdict,
    Wrapped,
    failing,
    key_of,
    nothing,
    ours,
    rows_of,
    run,
    started,
    stored_of,
)

from fractal_lba_server.core import tiering
from fractal_lba_server.core.first_write import Key, Stored
from fractal_lba_server.core.tiering import TierBook, TierPolicy
from fractal_lba_server.store.tiers.hot_memory import ENTRY_BYTES, HotMemory
from fractal_lba_server.tiers import Found, NotFound, Tally, Tiers


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place(tmp_path)
    made.index.apply(rows_of(1))
    yield made
    made.close()


class Literal:
    """Tiers as they have been published: TTLs only, errors are misses, hot is written first."""

    def __init__(self, *, ttl_ms: dict[str, int | None]) -> None:
        self.now_ms = START_MS
        self.ttl_ms = ttl_ms
        self.tiers: dict[str, dict[Key, tuple[int, Stored]]] = {tier: {} for tier in ttl_ms}
        self.down: set[str] = set()

    def set(self, tier: str, key: Key, stored: Stored) -> None:
        self.tiers[tier][key] = (self.now_ms, stored)

    def get(self, key: Key) -> Stored | None:
        for tier, ttl_ms in self.ttl_ms.items():
            held = self.tiers[tier].get(key)
            if tier in self.down or held is None:
                continue
            if ttl_ms is None or held[0] + ttl_ms > self.now_ms:
                return held[1]
        return None

    def verdict(self, key: Key) -> str:
        return "new" if self.get(key) is None else "duplicate"


def never_new(verdict: Verdict) -> bool:
    """Judge: a record that was accepted once is not accepted again, at any age of a tier."""
    return "new" not in [verdict(age_ms) for age_ms in AGES_MS.values()]


# --- the hazards


def test_h18_replay_after_the_dedup_horizon_is_still_a_duplicate(place: Place) -> None:
    ids: dict[Key, int] = {KEY: START_MS + 14 * DAY_MS}  # the literal dedup entry: a TTL of 14 d

    def literal(age_ms: int) -> str:
        return "duplicate" if ids[KEY] > START_MS + age_ms else "new"

    def judge(verdict: Verdict) -> bool:
        return verdict(16 * DAY_MS) != "new"

    assert judge(ours(place))
    assert not judge(literal)


def test_h22_outcome_written_to_hot_alone_is_new_after_an_hour(place: Place) -> None:
    literal = Literal(ttl_ms={"hot": HOUR_MS, "warm": 7 * DAY_MS})
    literal.set("hot", KEY, stored_of(KEY, 1))

    def aged(age_ms: int) -> str:
        literal.now_ms = START_MS + age_ms
        return literal.verdict(KEY)

    assert never_new(ours(place))
    assert not never_new(aged)


def test_h23_payload_is_moved_from_warm_and_not_when_hot_has_expired(place: Place) -> None:
    literal = Literal(ttl_ms={"hot": HOUR_MS, "warm": 7 * DAY_MS})
    literal.set("hot", KEY, stored_of(KEY, 1))

    def aged(age_ms: int) -> str:
        literal.now_ms = START_MS + age_ms
        expired = literal.get(KEY)  # the demoter runs when the TTL is over: there is no value
        if age_ms >= HOUR_MS and expired is not None:
            literal.set("warm", KEY, expired)
        return literal.verdict(KEY)

    def judge(verdict: Verdict) -> bool:
        return verdict(61 * MINUTE_MS) == "duplicate"

    assert judge(ours(place))
    assert not judge(aged)


def test_h24_error_of_an_authority_is_no_miss(place: Place) -> None:
    literal = Literal(ttl_ms={"hot": HOUR_MS, "warm": None})
    literal.set("warm", KEY, stored_of(KEY, 1))
    literal.down = {"hot", "warm"}
    down = {
        "hot": Wrapped(place.hot, failing("get"), nothing),
        "warm": Wrapped(place.warm, failing("lookup"), nothing),
    }
    assert never_new(ours(place, **down))
    assert not never_new(lambda age_ms: literal.verdict(KEY))


class Slow:
    """A hot tier whose writes take a turn of the clock; it counts those that end."""

    def __init__(self) -> None:
        self.done = 0

    async def begin(self, generation: int) -> None: ...

    async def close(self) -> None: ...

    async def get(self, key: Key, now_ms: int) -> None: ...

    async def put(self, *args: Any, **options: Any) -> bool:
        await asyncio.sleep(0.005)
        self.done += 1
        return True


def test_h25_promotion_outlives_the_request_that_caused_it(place: Place) -> None:
    place.index.apply(rows_of(20, first=2))
    keys = [key_of(number) for number in range(1, 22)]

    async def judge(get: Callable[[Key], Awaitable[Any]], slow: Slow) -> int:
        """Count promotions that end, of requests whose task ends with their answer."""
        for key in keys:
            request = asyncio.create_task(get(key))  # type: ignore[arg-type] - a coroutine
            await request
        for _ in range(200):
            await asyncio.sleep(0.005)
            if slow.done == len(keys):
                break
        return slow.done

    async def literal() -> int:
        slow = Slow()

        async def get(key: Key) -> Any:
            async with asyncio.TaskGroup() as group:  # the context of the request
                row = await place.warm.lookup(key)
                promotion = group.create_task(slow.put(key, row))
                await asyncio.sleep(0)
                promotion.cancel()  # the handler returns and its context ends
            return row

        return await judge(get, slow)

    async def work() -> int:
        slow = Slow()
        return await started(place.tiers(hot=slow), lambda t: judge(t.get, slow))

    assert run(work()) == len(keys)
    assert run(literal()) == 0


class Watched:
    """A warm tier that notes how many look-ups are under way at once."""

    def __init__(self, warm: Any) -> None:
        self._warm, self.now, self.most, self.calls = warm, 0, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warm, name)

    async def lookup(self, key: Key) -> Any:
        self.now += 1
        self.calls += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return await self._warm.lookup(key)


def test_h26_no_lock_is_held_while_a_tier_is_asked(place: Place) -> None:
    keys = [key_of(number) for number in range(1, 33)]

    async def literal() -> int:
        warm, lock = Watched(place.warm), asyncio.Lock()

        async def get(key: Key) -> Any:
            async with lock:
                return await warm.lookup(key)

        await asyncio.gather(*map(get, keys))
        return warm.most

    async def work() -> int:
        warm = Watched(place.warm)

        async def get_each(tiers: Tiers) -> None:
            await asyncio.gather(*map(tiers.get, keys))

        await started(place.tiers(warm=warm, hot=None), get_each)
        return warm.most

    def judge(most: int) -> bool:
        return most == len(keys)

    assert judge(run(work()))
    assert not judge(run(literal()))


def test_look_ups_of_one_key_share_a_walk_that_outlives_each_of_them(place: Place) -> None:
    async def work(tiers: Tiers) -> int:
        first = asyncio.create_task(tiers.get(KEY))
        others = [asyncio.create_task(tiers.get(KEY)) for _ in range(9)]
        await asyncio.sleep(0)
        first.cancel()
        answers = await asyncio.gather(*others)
        assert all(isinstance(answer, Found) for answer in answers)
        return watched.calls

    watched = Watched(place.warm)
    assert run(started(place.tiers(warm=watched, hot=None), work)) == 1


def test_h27_counters_lose_nothing_under_threads() -> None:
    class Literal:
        """Read, add, write: a thread may come between."""

        def __init__(self) -> None:
            self.count = 0

        def add(self, name: str) -> None:
            seen = self.count
            time.sleep(0)
            self.count = seen + 1

        def values(self) -> dict[str, int]:
            return {"n": self.count}

    def judge(tally: Any) -> bool:
        async def work() -> None:
            def add() -> None:
                for _ in range(500):
                    tally.add("n")

            await asyncio.gather(*[asyncio.to_thread(add) for _ in range(8)])

        run(work())
        return bool(tally.values() == {"n": 4_000})

    assert judge(Tally())
    assert not judge(Literal())


def test_h28_promotion_has_the_time_of_the_tenant(tmp_path: Path) -> None:
    book = TierBook(TierPolicy(), {"premium": TierPolicy(hot_ttl_s=7_200)})
    place = Place(tmp_path, book)
    place.index.apply(rows_of(1, tenant="premium"))
    key = key_of(1, "premium")
    at_ms = START_MS + 90 * MINUTE_MS

    def literal() -> HotMemory:
        hot = HotMemory()
        until_ms = START_MS + book.default.hot_ttl_s * 1_000  # no tenant in the look-up
        run(hot.put(key, stored_of(key, 1), until_ms=until_ms, generation=0, now_ms=START_MS))
        return hot

    def mine() -> HotMemory:
        hot = HotMemory()

        async def work(tiers: Tiers) -> bool:
            await tiers.get(key)
            await tiers.promoted()
            return hot.get_now(key, at_ms) is not None

        assert run(started(place.tiers(hot=Kept(hot)), work))
        return hot

    assert mine() is not None
    assert literal().get_now(key, at_ms) is None
    place.close()


class Kept:
    """A hot tier that is not emptied at the end, for a judge to look into."""

    def __init__(self, hot: HotMemory) -> None:
        self._hot = hot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hot, name)

    async def close(self) -> None: ...


def test_h29_new_ids_cost_no_read_of_cold(place: Place) -> None:
    new = [key_of(number) for number in range(100, 200)]

    class Cold:
        reads = 0

        async def read_range(self, *args: Any) -> bytes | None:
            Cold.reads += 1
            return None

    async def literal() -> None:
        hot, warm, cold = HotMemory(), place.warm, Cold()
        for key in new:
            if await hot.get(key, START_MS) is None and await warm.lookup(key) is None:
                await cold.read_range(key[1], 0, 0)  # the waterfall goes on to the last tier

    async def mine(tiers: Tiers) -> None:
        for key in new:
            assert await tiers.get(key) == NotFound()

    run(started(place.tiers(cold=Cold()), mine))
    assert Cold.reads == 0
    run(literal())
    assert Cold.reads == len(new)


def test_h30_id_stays_in_warm_when_its_payload_has_left(place: Place) -> None:
    literal = Literal(ttl_ms={"hot": HOUR_MS, "warm": 7 * DAY_MS, "cold": None})
    for tier in literal.tiers:
        literal.set(tier, KEY, stored_of(KEY, 1))
    literal.down = {"cold"}

    def aged(age_ms: int) -> str:
        literal.now_ms = START_MS + age_ms
        return literal.verdict(KEY)

    denied = Wrapped(place.cold, failing("read_range"), nothing)
    assert never_new(ours(place, cold=denied))
    assert not never_new(aged)


def test_h31_bucket_removes_nothing_that_the_policy_keeps() -> None:
    book = TierBook(TierPolicy(), {"brief": TierPolicy(cold_ttl_s=30 * 86_400)})

    def judge(document: dict[str, Any]) -> bool:
        """Say whether every rule leaves each tenant's payloads their time."""
        for rule in document["Rules"]:
            for tenant in ("anybody", "brief"):
                if not f"open/t-{tenant}/x".startswith(rule["Filter"]["Prefix"]):
                    continue
                ttl_s = book.for_tenant(tenant).cold_ttl_s
                days = rule.get("Expiration", {}).get("Days")
                if days is not None and (ttl_s == 0 or days * 86_400 < ttl_s):
                    return False
        return True

    literal = {"Rules": [{"Filter": {"Prefix": ""}, "Expiration": {"Days": 90}}]}
    rules = tiering.lifecycle(book, ["open"], move_days=None, storage_class="STANDARD")
    assert judge(tiering.lifecycle_document(rules))
    assert not judge(literal)
    assert tiering.lifecycle_faults(book, expire_days=90, storage_class="STANDARD")


def test_h32_full_hot_tier_evicts_nothing() -> None:
    size = ENTRY_BYTES + len(stored_of(KEY, 1).outcome)

    class Literal:
        """`allkeys-lru`: what was used longest ago makes room."""

        def __init__(self) -> None:
            self.entries: OrderedDict[Key, Stored] = OrderedDict()

        async def put(self, key: Key, stored: Stored, **options: Any) -> bool:
            self.entries[key] = stored
            if len(self.entries) > 10:
                self.entries.popitem(last=False)
            return True

        async def get(self, key: Key, now_ms: int) -> Stored | None:
            return self.entries.get(key)

    async def judge(hot: Any) -> bool:
        """Whatever the store said that it took is there until its time."""
        taken = []
        for number in range(20):
            key = key_of(number)
            if await hot.put(
                key, stored_of(key, number), until_ms=START_MS + 1, generation=0, now_ms=START_MS
            ):
                taken.append(key)
        return all([await hot.get(key, START_MS) is not None for key in taken])

    assert run(judge(HotMemory(bytes_max=10 * size + 60)))
    assert not run(judge(Literal()))


def test_h33_promotion_does_not_bring_back_what_was_erased(place: Place) -> None:
    """The promotion holds the old value when the erasure comes."""

    async def mine(tiers: Tiers) -> bool:
        gate, held = asyncio.Event(), asyncio.Event()
        hot = tiers._hot
        assert hot is not None
        put = hot.put

        async def waiting(*args: Any, **options: Any) -> bool:
            held.set()
            await gate.wait()
            return await put(*args, **options)

        hot.put = waiting  # type: ignore[method-assign] - a store that takes its time
        await tiers.get(KEY)
        await held.wait()
        await tiers.erase([KEY])
        gate.set()
        await tiers.promoted()
        return await hot.get(KEY, START_MS) is not None

    async def literal() -> bool:
        hot: dict[Key, Stored] = {}
        row = await place.warm.lookup(KEY)
        assert row is not None
        held = row.stored  # read before ..
        hot.pop(KEY, None)  # .. the erasure ..
        hot[KEY] = held  # .. and written after it
        return KEY in hot

    assert not run(started(place.tiers(), mine))
    assert run(literal())


def test_h33_promotion_into_warm_does_not_bring_back_what_was_erased(place: Place) -> None:
    place.clock.now_ms = START_MS + 8 * DAY_MS
    run(place.mover().run())

    async def work(tiers: Tiers) -> Any:
        gate, held = asyncio.Event(), asyncio.Event()

        class Warm:
            def __getattr__(self, name: str) -> Any:
                return getattr(place.warm, name)

            async def promote(self, *args: Any, **options: Any) -> bool:
                held.set()
                await gate.wait()
                return await place.warm.promote(*args, **options)

        tiers._warm = Warm()
        assert isinstance(await tiers.get(KEY), Found)
        await held.wait()
        await tiers.erase([KEY])
        gate.set()
        await tiers.promoted()
        return await place.warm.lookup(KEY)

    row = run(started(place.tiers(), work))
    assert row.has_ended
    assert row.stored.outcome == b""


def test_h36_many_payloads_share_an_object(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.index.apply(rows_of(500))
    place.clock.now_ms = START_MS + 8 * DAY_MS
    run(place.mover().run())

    async def literal() -> int:
        for number in range(500):
            await place.cold.create(f"literal/{number}", b"x")
        return sum([1 async for _ in place.cold.names("literal")])

    def judge(objects: int) -> bool:
        return objects * 1_000 <= 500 * 10

    assert judge(len(place.names()))
    assert not judge(run(literal()))
    place.close()
