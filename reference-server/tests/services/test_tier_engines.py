"""Hot in a real Redis and warm in a real PostgreSQL: the contract, and what is theirs alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engines import PostgresServer, RedisServer, postgres_server, redis_server
from tier_contract import HOT, WARM
from tier_parts import START_MS, Place, get_all, key_of, rows_of, run, started, stored_of

from fractal_lba_server.core.first_write import Apply
from fractal_lba_server.store.tiers.hot_redis import HotRedis
from fractal_lba_server.store.tiers.protocols import TierUnavailableError
from fractal_lba_server.store.tiers.warm_postgres import PostgresWarm
from fractal_lba_server.tiers import Found, Tiers

pytestmark = pytest.mark.services
__all__ = ["postgres_server", "redis_server"]


def now_ms() -> int:
    """Redis expires by its own clock."""
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize("check", HOT)
def test_hot_redis(check: Any, redis_server: RedisServer) -> None:
    async def work() -> None:
        hot = HotRedis(redis_server.url, namespace=f"flk:{check.__name__}")
        await hot.begin(5)
        await check(hot, now_ms())
        await hot.close()

    run(work())


@pytest.mark.parametrize("check", WARM)
def test_warm_postgres(check: Any, postgres_server: PostgresServer) -> None:
    async def work() -> None:
        warm = await PostgresWarm.open(postgres_server.new_database())

        async def put(rows: Sequence[Apply]) -> None:
            assert all(await warm.put([(row.key, row.stored) for row in rows]))

        await check(warm, put)
        await warm.close()

    run(work())


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_redis_that_evicts_is_refused(policy: str) -> None:
    with RedisServer.running(maxmemory_policy=policy) as server:
        hot = HotRedis(server.url, namespace="flk")

        async def work() -> None:
            with pytest.raises(TierUnavailableError, match=f"{policy}; set it to noeviction"):
                await hot.begin(1)
            await hot.close()

        run(work())


def test_full_redis_refuses_and_keeps_what_it_has() -> None:
    with RedisServer.running(maxmemory="3mb", appendonly="no") as server:

        async def work() -> None:
            hot = HotRedis(server.url, namespace="flk")
            await hot.begin(1)
            until_ms, taken = now_ms() + 600_000, 0
            for number in range(20_000):
                key = key_of(number)
                if not await hot.put(
                    key, stored_of(key, number), until_ms=until_ms, generation=1, now_ms=now_ms()
                ):
                    break
                taken += 1
            assert 100 < taken < 20_000
            for number in range(0, taken, 97):
                assert await hot.get(key_of(number), now_ms()) is not None
            await hot.close()

        run(work())


def test_redis_that_lost_its_data_is_empty_and_goes_on() -> None:
    with RedisServer.running(appendonly="no") as server:

        async def work() -> None:
            hot = HotRedis(server.url, namespace="flk", timeout_s=1)
            await hot.begin(3)
            key = key_of(1)
            stored, until_ms = stored_of(key, 1), now_ms() + 600_000
            assert await hot.put(key, stored, until_ms=until_ms, generation=3, now_ms=now_ms())
            server.kill()
            with pytest.raises(TierUnavailableError):
                await hot.get(key, now_ms())
            await asyncio.to_thread(server.start)
            assert await hot.get(key, now_ms()) is None
            assert await hot.put(key, stored, until_ms=until_ms, generation=3, now_ms=now_ms())
            assert await hot.get(key, now_ms()) == stored
            await hot.close()

        run(work())


def test_h33_redis_that_comes_back_with_old_data_is_not_believed() -> None:
    """What was forgotten before the crash is in the old copy of the data."""
    with RedisServer.running(appendonly="no") as server:

        async def work() -> None:
            hot = HotRedis(server.url, namespace="flk", timeout_s=1)
            await hot.begin(3)
            key = key_of(1)
            until_ms = now_ms() + 600_000
            await hot.put(key, stored_of(key, 1), until_ms=until_ms, generation=3, now_ms=now_ms())
            assert "OK" in server.command("SAVE")
            await hot.forget([key], 4)
            server.kill()
            with pytest.raises(TierUnavailableError):
                await hot.get(key, now_ms())
            await asyncio.to_thread(server.start)
            names = server.command("EXISTS", hot._name(key))
            assert names.startswith(":1"), "the literal look-up would find what was forgotten"
            assert await hot.get(key, now_ms()) is None
            await hot.close()

        run(work())


def test_h22_outcome_outlives_the_hot_tier(tmp_path: Path) -> None:
    """Kill hot, look up again: warm has it. Written to hot alone it would be new."""
    place = Place(tmp_path)
    place.clock.now_ms = now_ms()
    place.index.apply(rows_of(3, at_ms=place.clock.now_ms))
    with RedisServer.running(appendonly="no") as server:
        hot = HotRedis(server.url, namespace="flk", timeout_s=1)

        async def work(tiers: Tiers) -> list[Any]:
            keys = [key_of(1), key_of(1)]
            before = await get_all(tiers, keys)
            await asyncio.to_thread(server.kill)
            during = await get_all(tiers, keys)
            await asyncio.to_thread(server.start)
            literal = server.command("EXISTS", hot._name(key_of(1)))
            assert literal.startswith(":0"), "in hot alone it would be new"
            return before + during + await get_all(tiers, keys)

        answers = run(started(place.tiers(hot=hot), work))
    assert all(isinstance(answer, Found) for answer in answers)
    assert [a.tier for a in answers] == ["warm", "hot", "warm", "warm", "warm", "hot"]
    place.close()


def test_first_of_many_writers_is_recorded(postgres_server: PostgresServer) -> None:
    async def work() -> None:
        url = postgres_server.new_database()
        warms = [await PostgresWarm.open(url) for _ in range(2)]
        key = key_of(1)
        offers = [stored_of(key, n, content=f"{n:064x}") for n in range(40)]
        done = await asyncio.gather(
            *[warms[n % 2].put([(key, each)]) for n, each in enumerate(offers)]
        )
        assert sum(first for (first,) in done) == 1
        winner = offers[[first for (first,) in done].index(True)]
        row = await warms[0].lookup(key)
        assert row is not None
        assert row.stored == winner
        two = [(key_of(2), stored_of(key_of(2), n, content=f"{n:064x}")) for n in (1, 2)]
        assert await warms[0].put(two) == [True, False]
        assert await warms[0].put([]) == []
        for warm in warms:
            await warm.close()

    run(work())


async def answer_of(warm: PostgresWarm) -> Any:
    """Look an id up until the pool has new connections."""
    for _ in range(100):
        try:
            return await warm.lookup(key_of(1))
        except TierUnavailableError:
            await asyncio.sleep(0.05)
    return None


def test_postgres_that_is_down_is_unavailable() -> None:
    with PostgresServer.running() as server:

        async def work() -> None:
            warm = await PostgresWarm.open(server.url)
            await warm.put([(key_of(1), stored_of(key_of(1), 1))])
            await asyncio.to_thread(server.kill)
            for call in (warm.lookup, lambda key: warm.erase([key])):
                with pytest.raises(TierUnavailableError):
                    await call(key_of(1))
            await asyncio.to_thread(server.start)
            assert await answer_of(warm) is not None, "what was recorded is there"
            await warm.close()
            await asyncio.to_thread(server.stop)
            with pytest.raises(TierUnavailableError):
                await PostgresWarm.open(server.url)

        run(work())


def test_two_movers_of_one_postgres_lose_nothing(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """One plan at a time; whoever finds the other's goes on with it, or stops."""

    async def work() -> None:
        place = Place(tmp_path)
        url = postgres_server.new_database()
        warms = [await PostgresWarm.open(url) for _ in range(2)]
        rows = rows_of(120)
        await warms[0].put([(row.key, row.stored) for row in rows])
        place.clock.now_ms = START_MS + 8 * 86_400_000
        for _ in range(40):
            movers = [place.mover(warm=warm, entries_max=3) for warm in warms]
            await asyncio.gather(*[mover.run() for mover in movers])
            if (await warms[0].size()).keys == 0:
                break
        tiers = place.tiers(warm=warms[0], hot=None)
        await tiers.start()
        answers = await get_all(tiers, [row.key for row in rows])
        assert [getattr(a, "stored", a) for a in answers] == [row.stored for row in rows]
        await tiers.stop()
        for warm in warms:
            await warm.close()
        await place.warm.close()
        place.index.close()

    run(work())


def test_mover_moves_out_of_postgres(postgres_server: PostgresServer, tmp_path: Path) -> None:
    async def work() -> None:
        place = Place(tmp_path)
        warm = await PostgresWarm.open(postgres_server.new_database())
        rows = rows_of(30)
        await warm.put([(row.key, row.stored) for row in rows])
        place.clock.now_ms = START_MS + 8 * 86_400_000
        report = await place.mover(warm=warm, entries_max=3).run()
        assert (report.payloads, report.objects, report.stopped) == (30, 10, "")
        assert (await place.mover(warm=warm).run()).merged == 10
        tiers = place.tiers(warm=warm)
        await tiers.start()
        answers = await get_all(tiers, [row.key for row in rows] * 3)
        assert [a.tier for a in answers] == ["cold"] * 30 + ["warm"] * 30 + ["hot"] * 30
        assert [a.stored for a in answers] == [row.stored for row in rows] * 3
        await tiers.stop()
        await warm.close()
        await place.warm.close()
        place.index.close()

    run(work())
