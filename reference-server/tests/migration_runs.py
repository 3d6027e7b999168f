"""Whole migrations over any engine of a dedup shard; what each engine must do the same."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from migration_world import World, done, key_number

from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.ring_document import movement_of, ring_of
from fractal_lba_server.store.control import ControlStore

DAY_MS = 24 * 3_600_000
OLD = ("shard-0", "shard-1", "shard-2")
NEW = (*OLD, "shard-3")
MakeShard = Callable[[str], Awaitable[Any]]


async def new_world(control: ControlStore | None, make: MakeShard, *names: str) -> World:
    world = World(control=control)
    for name in names:
        world.shards[name] = await make(name)
    return world


async def fill(world: World, count: int, names: tuple[str, ...]) -> None:
    """Put outcomes straight to their owners, some with an end."""
    ring = ring_of(tuple(s for s in (await world.document()).shards))
    entries: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(count):
        key = key_number(number)
        expires_at_ms = world.now_ms + 90 * DAY_MS if number % 3 == 0 else None
        entry = done(key, hlc=number + 1, seq=number + 1, expires_at_ms=expires_at_ms)
        entries[ring.pick("|".join(key))].append(entry)
        world.accepted[key] = [entry]
        world.expiry[key] = expires_at_ms
    for name, found in entries.items():
        await world.shard(name).put_if_first(found, ring_epoch=1)


async def whole_migration(world: World, *, keys: int = 400) -> None:
    """Go 3 -> 4 with writes between the steps; the keys that move are those of the rings."""
    await world.found(*OLD)
    await fill(world, keys, OLD)
    writer = world.writer()
    await world.coordinator().begin(await world.plan(*NEW, rate_per_s=0))
    await world.coordinator().run("dual-write")
    copied = await world.coordinator().copy(0)
    old, new = (ring_of((await world.document()).shards), ring_of((await world.document()).next))
    moving = sum(
        old.pick("|".join(key)) != new.pick("|".join(key)) for key in map(key_number, range(keys))
    )
    assert copied == moving
    report = await world.coordinator().verify()
    assert (report.found, report.compared) == (0, moving)
    for number in range(keys, keys + 20):
        assert await writer.submit(key_number(number)) == "new"
    coordinator = world.coordinator()
    await coordinator.run("cutover")
    assert coordinator.pause_ms is not None
    for number in range(keys + 15, keys + 40):
        answer = await writer.submit(key_number(number))
        assert answer == ("duplicate" if number < keys + 20 else "new")
    world.now_ms += DAY_MS
    await world.coordinator().run("cleanup")
    assert await world.judge() == []
    counts = [await world.shard(name).count() for name in NEW]
    assert sum(counts) == len(world.accepted)
    share = movement_of((await world.control.migration()).state.old,
                        (await world.document()).shards).share  # fmt: skip
    assert abs(counts[3] / sum(counts) - share) < 4 * (float(share) / sum(counts)) ** 0.5


async def rolled_back_migration(world: World) -> None:
    """Commit, write, roll back: nothing is lost, and the new dedup shard is empty again."""
    await world.found(*OLD)
    await fill(world, 200, OLD)
    await world.coordinator().begin(await world.plan(*NEW, rate_per_s=0))
    for step in ("dual-write", "copy", "verify", "cutover"):
        coordinator = world.coordinator()
        if step == "copy":
            await coordinator.copy(0)
        elif step == "verify":
            await coordinator.verify()
        else:
            await coordinator.run(step)
    writer = world.writer()
    for number in range(1_000, 1_040):
        assert await writer.submit(key_number(number)) == "new"
    await world.coordinator().run("rollback")
    await world.coordinator().run("cleanup")
    assert await world.judge() == []
    assert await world.shard("shard-3").count() == 0


async def planted(world: World, seed: int) -> None:
    """Plant missing, extra and changed entries in what moves; verify finds each, and mends it."""
    chance = random.Random(seed)
    await world.found(*OLD)
    await fill(world, 600, OLD)
    await world.coordinator().begin(await world.plan(*NEW, rate_per_s=0))
    await world.coordinator().run("dual-write")
    await world.coordinator().copy(0)
    target = world.shard("shard-3")
    ring = ring_of((await world.document()).next)
    moved = [k for k in map(key_number, range(600)) if ring.pick("|".join(k)) == "shard-3"]
    chance.shuffle(moved)
    missing, changed, retimed = moved[:7], moved[7:12], moved[12:15]
    extra = [k for k in map(key_number, range(5_000, 5_200))
             if ring.pick("|".join(k)) == "shard-3"][:6]  # fmt: skip
    await _plant(world, target, missing, changed, retimed, extra)
    look = await world.coordinator().verify(mending=False)
    found = (look.missing, look.extra, look.changed)
    assert found == (len(missing), len(extra), len(changed) + len(retimed))
    assert (await world.coordinator().verify()).mended == sum(found)
    again = await world.coordinator().verify(mending=False)
    assert again.found == 0
    await world.coordinator().run("cutover")
    assert await world.judge() == []


async def _plant(
    world: World,
    target: Any,
    missing: list[Key],
    changed: list[Key],
    retimed: list[Key],
    extra: list[Key],
) -> None:
    await target.delete([*missing, *changed], ring_epoch=9)
    later = [done(key, hlc=9_999, seq=9_999, expires_at_ms=None) for key in changed]
    await target.put_if_first(later, ring_epoch=9)
    for entry in await target.lookup(retimed):
        await target.delete([entry.key], ring_epoch=9)
        moved = entry._replace(expires_at_ms=(entry.expires_at_ms or world.now_ms) + 5 * DAY_MS)
        await target.put_if_first([moved], ring_epoch=9)
    await target.put_if_first([done(key, hlc=5) for key in extra], ring_epoch=9)
