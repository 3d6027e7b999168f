"""What the copy, the comparison and the canaries must notice, beside wrong ones that do not.

The judge is that of test_migration_zoo.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from types import MethodType

import pytest
from migration_steps import (
    ALL,
    HOUR_MS,
    Patch,
    begun,
    judged,
    moving,
    to_cutover,
)
from migration_world import World, Writer, key_number

from fractal_lba_server import dedup_migration, dedup_transfer
from fractal_lba_server.core import migration
from fractal_lba_server.core.dedup import CLAIMED, Entry, Found
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.migration import Refused
from fractal_lba_server.dedup_migration import MigrationError
from fractal_lba_server.dedup_probe import Canaries
from fractal_lba_server.dedup_watch import Watch, watch
from fractal_lba_server.store.shards.memory import MemoryShard

# --- the copy --------------------------------------------------------------------------------


def blind(shard: MemoryShard) -> None:
    """Let the copy SET instead of put if first."""

    async def put(self: MemoryShard, entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
        for entry in entries:
            self._put(entry.key, entry)
        return list(entries)

    shard.put_if_first = MethodType(put, shard)


def meanwhile(shard: MemoryShard, key: Key, act: Callable[[], Awaitable[None]]) -> None:
    """Do something once between the copy's reading of a key and its writing."""
    put = shard.put_if_first

    async def between(entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
        if any(entry.key == key for entry in entries):
            shard.put_if_first = put
            await act()
        return await put(entries, ring_epoch=ring_epoch)

    shard.put_if_first = between


async def completed_under_the_copy(*, blindly: bool) -> World:
    world = await begun()
    writer = world.writer("eu1/b")
    key = moving(1)[0]

    await ends_behind_the_frame(writer, key)
    if blindly:
        blind(world.shard("shard-2"))
    meanwhile(world.shard("shard-2"), key, writer.flush)
    await to_cutover(world, verifying=False)
    return world


async def ends_behind_the_frame(writer: Writer, key: Key) -> None:
    """Write a frame, and end before its outcome is anywhere."""

    def step(name: str) -> None:
        if name == "after the frame":
            raise InterruptedError

    writer.step = step
    with pytest.raises(InterruptedError):
        await writer.submit(key)


def test_h07_a_copy_never_overwrites_what_was_written_meanwhile() -> None:
    # The copy reads a claim; before it writes, the writer completes it on both sides.
    assert judged(lambda: completed_under_the_copy(blindly=False)) == []
    faults = judged(lambda: completed_under_the_copy(blindly=True))
    assert any("would be taken for new" in fault for fault in faults)


async def released_under_the_copy(*, verifying: bool) -> World:
    world = await begun()
    writer = world.writer("eu1/b")
    key = moving(1)[0]

    def step(name: str) -> None:
        if name == "before the frame":
            raise InterruptedError

    writer.step = step
    with pytest.raises(InterruptedError):
        await writer.submit(key)
    meanwhile(world.shard("shard-2"), key, writer.flush)
    await to_cutover(world, verifying=verifying)
    if await world.writer("eu1/c").submit(key) != "new":
        world.faults.append("a key that nobody holds is never free again")
    return world


def test_h33_a_value_read_before_a_deletion_does_not_come_back() -> None:
    # The copy reads a claim; before it writes, the claim is given back on both sides.
    assert judged(lambda: released_under_the_copy(verifying=True)) == []
    assert judged(lambda: released_under_the_copy(verifying=False)) != []


async def copied_with_expiry(change: Callable[[Entry], Entry] | None) -> World:
    world = await begun(ttl_ms=10 * HOUR_MS)
    world.now_ms += HOUR_MS
    shard = world.shard("shard-2")
    if change is not None:
        put = shard.put_if_first

        async def changed(entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
            await put([change(entry) for entry in entries], ring_epoch=ring_epoch)
            return list(entries)

        shard.put_if_first = changed
    await to_cutover(world, verifying=False)
    return world


def test_h12_a_copy_keeps_the_absolute_expiry() -> None:
    assert judged(lambda: copied_with_expiry(None)) == []
    for lost in (
        lambda entry: entry._replace(expires_at_ms=None),  # GET and SET
        lambda entry: entry._replace(expires_at_ms=entry.expires_at_ms + HOUR_MS),  # a TTL anew
    ):
        faults = judged(lambda lost=lost: copied_with_expiry(lost))
        assert any("expires at another time" in fault for fault in faults)


def test_a_copy_that_arrives_otherwise_is_detected_at_once() -> None:
    # F068: the entries that stand after a batch are compared with those that were sent.
    async def run() -> None:
        world = await begun()
        shard = world.shard("shard-2")
        put = shard.put_if_first

        async def corrupt(entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
            return await put([e._replace(content="f" * 64) for e in entries], ring_epoch=ring_epoch)

        shard.put_if_first = corrupt
        with pytest.raises(MigrationError, match=r"is not what shard-\d sent"):
            await world.coordinator().copy(0)

    asyncio.run(run())


def test_a_damaged_source_is_neither_copied_nor_verified() -> None:
    async def run(*, before_the_copy: bool) -> None:
        world = await begun()
        key = next(key for key in map(key_number, range(60)) if key in moving(60, first=0))
        source = world.shard((await world.document()).routes(key).authority)
        broken = (await source.lookup([key]))[0]._replace(content="f" * 64)
        if before_the_copy:
            source._put(key, broken)
            with pytest.raises(MigrationError, match="is damaged"):
                await world.coordinator().copy(0)
            return
        await world.coordinator().copy(0)
        source._put(key, broken)
        assert (await world.coordinator().verify()).damaged == [key]
        with pytest.raises(Refused, match="not verified"):
            await world.coordinator().run("cutover")

    for before_the_copy in (True, False):
        asyncio.run(run(before_the_copy=before_the_copy))


# --- verification ----------------------------------------------------------------------------


def samples_only(patch: Patch) -> None:
    """Compare one range of each pair, and call the rest verified."""
    verify_pair = dedup_transfer.Transfer._verify_pair

    async def sample(self: object, pair: dedup_transfer.Pair, *rest: object) -> None:
        await verify_pair(self, pair._replace(spans=pair.spans[:1]), *rest)

    patch.setattr(dedup_transfer.Transfer, "_verify_pair", sample)


async def one_entry_lost_by_the_copy() -> World:
    world = await begun(200)
    await world.coordinator().copy(0)
    shard = world.shard("shard-2")
    last = (await shard.scan(ranges=ALL, after=None, limit=1_000))[-1]
    await shard.delete([last.key], ring_epoch=2)
    await world.coordinator().verify()
    await world.coordinator().run("cutover")
    return world


def test_verification_looks_at_every_range(monkeypatch: Patch) -> None:
    assert judged(one_entry_lost_by_the_copy) == []
    samples_only(monkeypatch)
    faults = judged(one_entry_lost_by_the_copy)
    assert any("would be taken for new" in fault for fault in faults)


# --- canaries --------------------------------------------------------------------------------


async def keys_lost_after_the_commit(*, watched: bool) -> World:
    world = await begun(400)
    await world.coordinator().copy(0)
    await world.coordinator().verify()
    coordinator = world.coordinator()
    watcher = Watch(coordinator, chance=lambda: 0.5, now_ms=world.clock_ms)
    assert not (await watcher.look()).lost
    await world.coordinator().run("cutover")
    # A quarter of what the new dedup shard holds goes: the hit ratio falls, as after a cutover
    # that is called cache churn.
    shard = world.shard("shard-2")
    entries = await shard.scan(ranges=ALL, after=None, limit=1_000)
    await shard.delete([entry.key for entry in entries[::4]], ring_epoch=100)
    if watched:
        good = await watch(watcher, interval_s=0, looks=3, told=lambda _: None)
        assert not good
        assert (await world.document()).phase == "steady"
    return world


def test_h11_a_lost_canary_rolls_back_before_a_duplicate_is_taken_for_new() -> None:
    assert judged(lambda: keys_lost_after_the_commit(watched=True)) == []
    faults = judged(lambda: keys_lost_after_the_commit(watched=False))
    assert any("would be taken for new" in fault for fault in faults)


def test_canaries_that_expired_are_not_missed() -> None:
    async def run() -> None:
        world = await begun(ttl_ms=HOUR_MS)
        coordinator = world.coordinator()
        _, seen = await coordinator.look()
        caught = await Canaries.catch(coordinator.fleet, seen.document)
        assert len(caught.entries) > 5
        world.now_ms += 2 * HOUR_MS
        world.shard("shard-0")._rows.clear()
        world.shard("shard-1")._rows.clear()
        assert await caught.lost(coordinator.fleet, seen.document, world.now_ms) == []

    asyncio.run(run())


def test_a_sample_that_differs_keeps_the_cutover_waiting_until_the_next_verification() -> None:
    async def run() -> World:
        world = await begun(2_000)
        await world.coordinator().copy(0)
        await world.coordinator().verify()
        shard = world.shard("shard-2")
        for entry in await shard.scan(ranges=ALL, after=None, limit=2_000):
            await shard.delete([entry.key], ring_epoch=100)
        coordinator = world.coordinator()
        watcher = Watch(coordinator, chance=world_chance(), now_ms=world.clock_ms)
        found = 0
        for _ in range(400):
            found += (await watcher.look()).differences
        assert found > 0
        with pytest.raises(Refused, match="differences were seen"):
            await world.coordinator().run("cutover")
        assert (await world.coordinator().verify()).missing > 100
        await world.coordinator().run("cutover")
        return world

    assert judged(run) == []


def world_chance() -> Callable[[], float]:
    return random.Random(5).random


def test_a_watch_looks_away_when_nothing_moves() -> None:
    async def run() -> None:
        world = await begun()
        await world.coordinator().run("rollback")
        watcher = Watch(world.coordinator(), now_ms=world.clock_ms)
        looks: list[object] = []
        assert await watch(watcher, interval_s=0, looks=2, told=looks.append)
        assert len(looks) == 2

    asyncio.run(run())


def test_the_names_that_mutants_replace_are_those_that_run() -> None:
    # A mutant of a name that nobody calls would pass for a gate.
    assert dedup_migration.resume is migration.resume
    assert migration._take_over_cutover.__module__ == migration.__name__
    assert CLAIMED != Found.__name__
