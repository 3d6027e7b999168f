"""Writers, steps, failures and kills in every order that chance finds; nothing is lost or doubled.

A run is a seed: it gives the order in which tasks go on, which dedup shards are away when, and
where a coordinator or a writer ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from migration_world import KilledError, World, Writer, key_number

from fractal_lba_server import dedup_transfer
from fractal_lba_server.core.dedup import ShardUnavailable, StaleRingEpoch
from fractal_lba_server.core.migration import CLEANED, OPEN, ROLLED_BACK, Refused
from fractal_lba_server.dedup_migration import Coordinator, MigrationError
from fractal_lba_server.store.control import ControlError

RINGS = [
    (("shard-0",), ("shard-0", "shard-1", "shard-2")),
    (("shard-0", "shard-1", "shard-2"), ("shard-0", "shard-1", "shard-2", "shard-3")),
    (("shard-0", "shard-1", "shard-2"), ("shard-0", "shard-2")),
    (("shard-0", "shard-1"), ("shard-2", "shard-3")),
]
SEEDS = 60
KEYS = 60
DAY_MS = 24 * 3_600_000
GIVEN = (MigrationError, ControlError, ShardUnavailable, StaleRingEpoch, Refused, TimeoutError)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup_transfer, "BATCH_ENTRIES", 6)


async def write(world: World, writer: Writer, chance: random.Random, until: list[bool]) -> None:
    """Submit ids again and again, as clients of one router; come back after a kill."""
    while not until:
        key = key_number(chance.randrange(KEYS))
        if chance.random() < 0.03:
            writer.step = killer(chance)
        try:
            await writer.submit(key)
        except KilledError:
            await asyncio.sleep(0)
            writer.held = None
            await writer.flush()
        writer.step = lambda _: None
        await asyncio.sleep(0)


def killer(chance: random.Random) -> Callable[[str], None]:
    left = chance.randrange(8)

    def step(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KilledError

    return step


async def trouble(
    world: World, names: tuple[str, ...], chance: random.Random, until: list[bool]
) -> None:
    """Take one dedup shard away for a while, now and then."""
    while not until:
        for _ in range(chance.randrange(400)):
            await asyncio.sleep(0)
        shard = world.shard(chance.choice(names))
        shard.down = chance.random() < 0.5
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        shard.down = False


async def migrate(world: World, chance: random.Random, *, backwards: bool) -> None:
    """Go through the steps with kills, until it is done or rolled back; nobody helps."""
    for _ in range(300):
        step = killer(chance) if chance.random() < 0.4 else lambda _: None
        coordinator = world.coordinator(step)
        try:
            await coordinator.resume()
            state, _ = await coordinator.look()
            if state.step == CLEANED:
                return
            back = backwards and chance.random() < 0.2 and state.step not in ("closed", "listed")
            await (coordinator.run("rollback") if back else forward(world, coordinator, state.step))
        except (KilledError, *GIVEN):
            await asyncio.sleep(0)
    raise AssertionError("the migration did not end")


async def forward(world: World, coordinator: Coordinator, step: str) -> None:
    if step == "planned":
        await coordinator.run("dual-write")
    elif step == "dual":
        await coordinator.copy(0)
    elif step == "copied":
        await coordinator.verify()
    elif step == "verified":
        await coordinator.drain_all()
        await coordinator.run("cutover")
    else:
        if step == OPEN:
            await coordinator.drain_all()
            world.now_ms += DAY_MS
        await coordinator.run("cleanup")


async def one(seed: int) -> World:
    chance = random.Random(seed)
    old, new = RINGS[seed % len(RINGS)]
    names = tuple(sorted({*old, *new}))
    world = World(seed=seed)
    await world.found(*old)
    until: list[bool] = []
    writers = [world.writer(f"eu1/{n}") for n in range(3)]
    tasks = [asyncio.create_task(write(world, each, chance, until)) for each in writers]
    tasks.append(asyncio.create_task(trouble(world, names, chance, until)))
    await asyncio.sleep(0)
    await world.coordinator().begin(await world.plan(*new, rate_per_s=0, pause_ms=5_000))
    await migrate(world, chance, backwards=seed % 3 == 0)
    until.append(True)
    await asyncio.gather(*tasks)
    world.chance = None
    for name in names:
        world.shard(name).down, world.shard(name).chance = False, None
    await world.settle()
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_migration_among_writers_failures_and_kills(seed: int) -> None:
    async def run() -> None:
        world = await one(seed)
        assert await world.judge() == []
        kept = await world.control.migration()
        assert kept is not None
        assert kept.state.step == CLEANED
        assert len(world.accepted) > KEYS / 6
        document = await world.document()
        assert document.shards in (kept.state.old, kept.state.new)
        owners = {shard.name for shard in document.shards}
        total = sum([await world.shard(name).count() for name in owners])
        assert total == sum([await shard.count() for shard in world.shards.values()])
        assert ROLLED_BACK != kept.state.step

    asyncio.run(asyncio.wait_for(run(), 60))
