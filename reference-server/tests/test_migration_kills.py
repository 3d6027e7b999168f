"""Every step, killed at every point: the next process goes on or goes back, and nothing is lost.

The table is step x role x order. Step: every command of a migration. Role: who ends, a coordinator
or a writer, or which dedup shard is away meanwhile. Order: before and after each effect, and
whether the one that takes over goes on or rolls back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from migration_world import KilledError, World, key_number

from fractal_lba_server import dedup_transfer
from fractal_lba_server.core.dedup import ShardUnavailable, StaleRingEpoch
from fractal_lba_server.core.migration import CLEANED, OPEN, ROLLED_BACK, VERIFIED, Refused
from fractal_lba_server.core.ring_document import ring_of
from fractal_lba_server.dedup_migration import Coordinator, MigrationError
from fractal_lba_server.store.control import ControlError

OLD = ("shard-0", "shard-1")
NEW = ("shard-0", "shard-1", "shard-2")
ALL = [(0, 2**32 - 1)]
DAY_MS = 24 * 3_600_000
STEPS = ("dual-write", "copy", "verify", "cutover", "cleanup")
GIVEN = (MigrationError, ControlError, ShardUnavailable, StaleRingEpoch, Refused)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup_transfer, "BATCH_ENTRIES", 8)


class Ids:
    """Give numbers of records that nobody submitted yet."""

    def __init__(self) -> None:
        self.next = 0

    async def write(self, world: World, count: int = 4, *, ttl_ms: int | None = None) -> None:
        writer = world.writers[0] if world.writers else world.writer()
        for number in range(self.next, self.next + count):
            if await writer.submit(key_number(number), ttl_ms=ttl_ms) == "unavailable":
                world.faults.append(f"a writer was refused: {number}")
        self.next += count


async def prepared(upto: str) -> tuple[World, Ids, bytes]:
    """Run every step before one, with writes between them."""
    world, ids = World(), Ids()
    await world.found(*OLD)
    await ids.write(world, 40)
    await ids.write(world, 4, ttl_ms=40 * DAY_MS)
    plan = await world.plan(*NEW, rate_per_s=0)
    await world.coordinator().begin(plan)
    for step in STEPS[: STEPS.index(upto)]:
        await one_step(world.coordinator(), step, world)
        await ids.write(world)
    if upto == "verify":  # so that there is something to mend
        for entry in await world.shard("shard-2").scan(ranges=ALL, after=None, limit=2):
            await world.shard("shard-2").delete([entry.key], ring_epoch=2)
    return world, ids, plan


async def one_step(coordinator: Coordinator, step: str, world: World) -> None:
    if step == "copy":
        await coordinator.copy(0)
    elif step == "verify":
        await coordinator.verify()
    else:
        if step == "cleanup":
            world.now_ms += DAY_MS + 1
        await coordinator.run(step)


def kill_at(number: int, seen: list[str]) -> Callable[[str], None]:
    def step(name: str) -> None:
        seen.append(name)
        if len(seen) == number:
            raise KilledError(name)

    return step


async def finished(world: World, ids: Ids, step: str) -> None:
    """Take over, go on to the end, and judge."""
    await world.coordinator().resume()
    state, _ = await world.coordinator().look()
    order = {name: index for index, name in enumerate(STEPS)}
    reached = {"planned": 0, "dual": 1, "copied": 2, VERIFIED: 3, OPEN: 4}.get(state.step, 4)
    assert reached >= order[step] - 1
    for each in STEPS[reached:]:
        if (await world.coordinator().look())[0].step != CLEANED:
            await one_step(world.coordinator(), each, world)
        await ids.write(world)
    await the_end(world, NEW)


async def the_end(world: World, names: tuple[str, ...]) -> None:
    await world.settle()
    document = await world.document()
    assert (document.phase, tuple(shard.name for shard in document.shards)) == ("steady", names)
    assert (await world.coordinator().look())[0].step == CLEANED
    assert await world.judge() == []
    total = sum([await world.shard(name).count() for name in NEW])
    assert total == len(world.accepted), "cleanup left entries behind"


async def rolled_back(world: World, ids: Ids) -> None:
    """Take over, go back, and judge; a window that was closed stays closed."""
    await world.coordinator().resume()
    state, _ = await world.coordinator().look()
    went_back = state.old == (await world.document()).shards
    if state.step in ("closed", "listed", CLEANED) and not went_back:
        with pytest.raises(Refused, match="window is closed"):
            await world.coordinator().run("rollback")
        if state.step != CLEANED:
            await world.coordinator().run("cleanup")
        await the_end(world, NEW)
        return
    if state.step not in (ROLLED_BACK, "listed", CLEANED):
        await world.coordinator().run("rollback")
    await ids.write(world)
    if (await world.coordinator().look())[0].step != CLEANED:
        await world.coordinator().run("cleanup")
    await the_end(world, OLD)


async def every_point(
    step: str,
    act: Callable[[World], Awaitable[None]],
    then: Callable[[World, Ids], Awaitable[None]],
) -> list[str]:
    """Kill the coordinator at each of its points in turn; give the names of the points."""
    points: list[str] = []
    while True:
        world, ids, _ = await prepared(step)
        seen: list[str] = []
        coordinator = world.coordinator(kill_at(len(points) + 1, seen))
        try:
            if act is one_step:
                await one_step(coordinator, step, world)
            else:
                await act(coordinator)
        except KilledError:
            points.append(seen[-1])
        else:
            return points
        await ids.write(world)
        await then(world, ids)


@pytest.mark.parametrize("step", STEPS)
def test_a_coordinator_killed_anywhere_is_taken_over_and_goes_on(step: str) -> None:
    points = asyncio.run(every_point(step, one_step, lambda w, i: finished(w, i, step)))
    print(f"{step}: {len(points)} points, each killed and taken over")
    assert len(points) >= 4


@pytest.mark.parametrize("step", STEPS)
def test_a_coordinator_killed_anywhere_is_taken_over_and_rolls_back(step: str) -> None:
    points = asyncio.run(every_point(step, one_step, rolled_back))
    print(f"{step}: {len(points)} points, each killed and rolled back")
    assert len(points) >= 4


@pytest.mark.parametrize("step", ["dual-write", "copy", "verify", "cutover", "cleanup"])
def test_a_rollback_killed_anywhere_is_taken_over(step: str) -> None:
    async def back(coordinator: Coordinator) -> None:
        await coordinator.run("rollback")

    points = asyncio.run(every_point(step, back, rolled_back))
    assert len(points) >= (2 if step == "dual-write" else 6)


async def key_that_moves(world: World) -> tuple[str, str]:
    kept = await world.control.migration()
    assert kept is not None
    old, new = ring_of(kept.state.old), ring_of(kept.state.new)
    keys = (key_number(number) for number in range(10_000, 11_000))
    return next(key for key in keys if old.pick("|".join(key)) != new.pick("|".join(key)))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("then", ["on", "back"])
def test_a_writer_killed_anywhere_loses_nothing_and_blocks_nothing(step: str, then: str) -> None:
    async def run() -> int:
        point = 0
        while True:
            world, ids, _ = await prepared(step)
            # This writer ends in the middle of a key that moves, under the document before the
            # step; it comes back after the step, and finds its claims where they are now.
            writer = world.writer("eu1/b")
            await writer.look()
            moving = await key_that_moves(world)
            seen: list[str] = []
            writer.step = kill_at(point + 1, seen)
            try:
                await writer.submit(moving)
            except KilledError:
                point += 1
            else:
                return point
            await one_step(world.coordinator(), step, world)
            other = world.writer("eu1/c")
            assert await other.submit(moving) in {"unavailable", "duplicate", "new"}
            await writer.flush()
            await (finished(world, ids, step) if then == "on" else rolled_back(world, ids))

    assert asyncio.run(run()) >= 5


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("away", NEW)
@pytest.mark.parametrize("then", ["on", "back"])
def test_a_shard_that_is_away_during_a_step_stops_it_and_loses_nothing(
    step: str, away: str, then: str
) -> None:
    async def run() -> None:
        world, ids, _ = await prepared(step)
        shard = world.shard(away)
        shard.down = True
        with contextlib.suppress(*GIVEN):  # a step that does not need this one goes through
            await one_step(world.coordinator(), step, world)
        writer = world.writer("eu1/b")
        for number in range(20_000, 20_030):
            await writer.submit(key_number(number))
        shard.down = False
        await world.settle()
        world.now_ms -= DAY_MS + 1 if step == "cleanup" else 0
        await world.coordinator().resume()
        await world.coordinator().drain_all()
        await (finished(world, ids, step) if then == "on" else rolled_back(world, ids))

    asyncio.run(run())
