"""Steps of a migration in a world, and the verdict on what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from migration_world import World, infos, key_number

from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.migration import VERIFIED
from fractal_lba_server.core.ring_document import ring_of

OLD, NEW = ("shard-0", "shard-1"), ("shard-0", "shard-1", "shard-2")
ALL = [(0, 2**32 - 1)]
HOUR_MS = 3_600_000
Patch = pytest.MonkeyPatch


async def begun(keys: int = 60, *, ttl_ms: int | None = None) -> World:
    """Make a world with records, whose migration writes to both rings."""
    world = World()
    await world.found(*OLD)
    for number in range(keys):
        assert await world.writer().submit(key_number(number), ttl_ms=ttl_ms) == "new"
    await world.coordinator().begin(await world.plan(*NEW, rate_per_s=0))
    await world.coordinator().run("dual-write")
    return world


def moving(count: int, *, first: int = 1_000) -> list[Key]:
    """Give new keys that the third dedup shard takes over."""
    old, new = ring_of(infos(*OLD)), ring_of(infos(*NEW))
    keys = (key_number(number) for number in range(first, first + 50 * count))
    return [key for key in keys if old.pick("|".join(key)) != new.pick("|".join(key))][:count]


async def to_cutover(world: World, *, verifying: bool = True) -> None:
    await world.coordinator().copy(0)
    if verifying:
        await world.coordinator().verify()
    else:
        await taken_for(world, VERIFIED)
    await world.coordinator().run("cutover")


async def taken_for(world: World, step: str, **members: object) -> None:
    """Keep a step that was not reached: how a design without its check goes on."""
    kept = await world.control.migration()
    assert kept is not None
    state = replace(kept.state, step=step, reverse_tested=True, **members)
    await world.control.save(state, version=kept.version)


def judged(run: Callable[[], Awaitable[World]]) -> list[str]:
    async def judge() -> list[str]:
        world = await run()
        await world.settle()
        return await world.judge()

    return asyncio.run(judge())
