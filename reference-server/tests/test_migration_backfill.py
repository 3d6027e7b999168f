"""Ids that were there before the dedup shards are loaded into them; again, and from the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from migration_world import World, infos, key_number

from fractal_lba_server.core.dedup import ShardUnavailable
from fractal_lba_server.core.first_write import Key, Origin, Stored
from fractal_lba_server.core.migration import Refused
from fractal_lba_server.core.ring_document import ring_of
from fractal_lba_server.dedup_backfill import Backfill, behind
from fractal_lba_server.dedup_transfer import Fleet, Pace

RING = ("shard-0", "shard-1")


def outcomes(count: int) -> list[tuple[Key, Stored]]:
    """Give outcomes tenant by tenant, in order of the ids, as an index does."""
    return [
        (key_number(number, tenant), Stored(number + 1, "c" * 64, 200, b"{}",
                                            Origin("eu1", "open", 1), number + 1))
        for tenant in ("beta", "acme")  # the order of their first records
        for number in range(count)
    ]  # fmt: skip


def loader(world: World, *, rate: int = 0) -> Backfill:
    async def sleep(_: float) -> None:
        return

    pace = Pace(rate, clock=lambda: 0.0, sleep=sleep)
    fleet = Fleet(world.open_shard)
    return Backfill(world.control, fleet, name="data", rank=lambda _: 0, pace=pace)


async def whole(world: World, expected: list[tuple[Key, Stored]]) -> None:
    document = await world.document()
    for key, stored in expected:
        routes = document.routes(key)
        for name in (routes.authority, *routes.also):
            entry = (await world.shard(name).lookup([key]))[0]
            assert entry is not None
            assert entry.content == stored.content


def test_every_id_is_put_where_the_ring_says_and_again_changes_nothing() -> None:
    async def run() -> None:
        world = World()
        await world.found(*RING)
        assert await loader(world).run(outcomes(50)) == 100
        before = [await world.shard(name).digest([(0, 2**32 - 1)]) for name in RING]
        await whole(world, outcomes(50))
        assert await loader(world).run(outcomes(60)) == 120
        assert await loader(world).run(outcomes(50)) == 100
        assert before != [await world.shard(name).digest([(0, 2**32 - 1)]) for name in RING]
        await whole(world, outcomes(60))

    asyncio.run(run())


def test_a_load_that_ended_goes_on_behind_its_last_batch() -> None:
    async def run() -> None:
        world = World()
        await world.found(*RING)
        asked: list[Key] = []

        def counted(ends_at: int) -> Iterator[tuple[Key, Stored]]:
            for number, each in enumerate(outcomes(50)):
                if number == ends_at:
                    world.shard("shard-0").down = True
                    world.shard("shard-1").down = True
                asked.append(each[0])
                yield each

        with pytest.raises(ShardUnavailable):
            await loader(world, rate=100).run(counted(70))
        for name in RING:
            world.shard(name).down = False
        assert 10 <= await loader(world, rate=100).run(outcomes(50)) <= 50
        await whole(world, outcomes(50))
        assert await loader(world).run(outcomes(50)) == 100, "a whole load begins anew"

    asyncio.run(run())


def test_a_load_while_a_migration_is_on_reaches_both_rings_and_follows_the_fence() -> None:
    async def run() -> None:
        world = World()
        await world.found(*RING)
        await world.coordinator().begin(await world.plan(*RING, "shard-2"))
        await world.coordinator().run("dual-write")
        assert await loader(world).run(outcomes(40)) == 80
        await whole(world, outcomes(40))
        old, new = ring_of(infos(*RING)), ring_of(infos(*RING, "shard-2"))
        moving = [k for k, _ in outcomes(40) if old.pick("|".join(k)) != new.pick("|".join(k))]
        assert await world.shard("shard-2").count() == len(moving)

    asyncio.run(run())


def test_without_a_ring_document_or_with_one_that_never_settles_it_is_refused() -> None:
    async def run() -> None:
        world = World()
        with pytest.raises(Refused, match="no ring document"):
            await loader(world).run(outcomes(1))
        await world.found(*RING)
        for name in RING:
            await world.shard(name).set_fence(9)
        with pytest.raises(Refused, match="changes too often"):
            await loader(world).run(outcomes(1))

    asyncio.run(run())


def test_what_is_behind_a_place_follows_the_order_of_the_index() -> None:
    given = [(("beta", "b"), 1), (("beta", "d"), 2), (("acme", "a"), 3), (("acme", "c"), 4)]
    assert [n for _, n in behind(iter(given), ("beta", "b"))] == [2, 3, 4]
    assert [n for _, n in behind(iter(given), ("beta", "c"))] == [2, 3, 4]
    assert [n for _, n in behind(iter(given), ("acme", "a"))] == [4]
    assert [n for _, n in behind(iter(given), ("acme", "z"))] == []
