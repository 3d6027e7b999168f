"""Wrong migrations beside the right one: the same judge finds each of them, and not ours.

Each test runs a hazard's scenario twice: as this server does it, and with the literal design of
the hazard in one place. What the judge knows is in migration_world.py: what clients were told,
and what they would be told now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from migration_steps import (
    ALL,
    HOUR_MS,
    OLD,
    Patch,
    begun,
    judged,
    moving,
    taken_for,
    to_cutover,
)
from migration_world import World, Writer, done, infos, key_number

from fractal_lba_server.core import migration
from fractal_lba_server.core.dedup import CLAIMED, Entry
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.migration import OPEN, VERIFIED, Migration, Refused, Save
from fractal_lba_server.core.ring_document import COMMITTED, DUAL, ring_of
from fractal_lba_server.dedup_migration import MigrationError
from fractal_lba_server.store.control import Held
from fractal_lba_server.store.shards.memory import MemoryShard

# --- the barrier -----------------------------------------------------------------------------


class StaleWriter(Writer):
    """Route by the map of the start, whatever happens: a configuration that was not rolled out."""

    async def look(self, fence: int = 0) -> Held:
        return self.held or await super().look()


def without_fences(patch: Patch) -> None:
    """Roll a ring out without a barrier: no dedup shard refuses anybody."""

    async def set_fence(self: MemoryShard, ring_epoch: int) -> None:
        return

    patch.setattr(MemoryShard, "set_fence", set_fence)


async def two_maps(old: type[Writer], new: type[Writer]) -> World:
    world = await begun()
    late = old(world, "eu1/late")
    await late.look()
    await to_cutover(world)
    for key in moving(6):
        await late.submit(key)
        await new(world, "eu1/new").submit(key)
    return world


def test_h06_writers_with_two_maps_accept_a_record_once(monkeypatch: Patch) -> None:
    assert judged(lambda: two_maps(Writer, Writer)) == []
    without_fences(monkeypatch)
    faults = judged(lambda: two_maps(StaleAlone, Single))
    assert any("as new 2 times" in fault for fault in faults)


class StaleAlone(StaleWriter):
    """A stale map that writes to the ring it knows alone."""

    async def look(self, fence: int = 0) -> Held:
        self.held = replace_document(await super().look())
        return self.held


def replace_document(held: Held) -> Held:
    document = held.document
    steady = replace(document, phase="steady", next=(), migration=None)
    return held._replace(document=steady)


def test_a_stale_map_is_refused_at_the_fence(monkeypatch: Patch) -> None:
    async def run() -> World:
        world = await begun(0)
        late = StaleWriter(world, "eu1/late")
        await late.look()
        await to_cutover(world)
        assert [await late.submit(key) for key in moving(3)] == ["unavailable"] * 3
        return world

    assert judged(run) == []


# --- dual writes -----------------------------------------------------------------------------


class Single(Writer):
    """Write to the authority alone in some phase."""

    phases: tuple[str, ...] = (DUAL, COMMITTED)

    async def look(self, fence: int = 0) -> Held:
        held = await super().look(fence)
        if held.document.phase in self.phases:
            self.held = replace_document(held)
        return self.held or held


class NoDual(Single):
    phases = (DUAL,)


class NoReverse(Single):
    phases = (COMMITTED,)


async def writes_behind_the_copy(kind: type[Writer]) -> World:
    world = await begun()
    await world.coordinator().copy(0)
    writer = kind(world, "eu1")
    world.writers.append(writer)
    for key in moving(6):
        await writer.submit(key)
    await taken_for(world, VERIFIED)
    await world.coordinator().run("cutover")
    return world


def test_dual_writes_go_on_until_the_cutover() -> None:
    assert judged(lambda: writes_behind_the_copy(Writer)) == []
    faults = judged(lambda: writes_behind_the_copy(NoDual))
    assert any("would be taken for new" in fault for fault in faults)


def test_what_a_writer_missed_is_found_by_verify() -> None:
    async def run() -> World:
        world = await begun()
        await world.coordinator().copy(0)
        writer = NoDual(world, "eu1")
        for key in moving(6):
            await writer.submit(key)
        assert (await world.coordinator().verify()).missing == 6
        await world.coordinator().run("cutover")
        return world

    assert judged(run) == []


async def rolled_back_after_writes(kind: type[Writer]) -> World:
    world = await begun()
    await to_cutover(world)
    writer = kind(world, "eu1")
    world.writers.append(writer)
    for key in moving(6):
        assert await writer.submit(key) == "new"
    await world.coordinator().run("rollback")
    return world


def test_h10_a_rollback_keeps_what_was_written_since_the_commit() -> None:
    assert judged(lambda: rolled_back_after_writes(Writer)) == []
    faults = judged(lambda: rolled_back_after_writes(NoReverse))
    assert any("would be taken for new" in fault for fault in faults)


# --- verdicts and partial failure ------------------------------------------------------------


class AnyNew(Writer):
    """Take "new" from whoever says it: the new ring has not been copied to yet."""

    async def _claim(self, key: Key, held: Held) -> str:
        verdict = await super()._claim(key, held)
        if verdict == "duplicate" and held.document.routes(key).also:
            name = held.document.routes(key).also[0]
            if (await self.world.shard(name).lookup([key]))[0] is None:
                return "claimed"
        return verdict


async def duplicates_before_the_copy(kind: type[Writer]) -> World:
    world = await begun()
    writer = kind(world, "eu2")
    for number in range(60):
        await writer.submit(key_number(number))
    return world


def test_h08_one_ring_alone_gives_the_verdict() -> None:
    assert judged(lambda: duplicates_before_the_copy(Writer)) == []
    faults = judged(lambda: duplicates_before_the_copy(AnyNew))
    assert any("as new 2 times" in fault for fault in faults)


class Forgetful(Writer):
    """Take a failed second write for done, and note it nowhere."""

    async def _submit(self, key: Key, ttl_ms: int | None) -> str:
        queue = self.world.control.queue_repair

        async def forget(*_: object, **__: object) -> bool:
            return True

        self.world.control.queue_repair = forget
        try:
            return await super()._submit(key, ttl_ms)
        finally:
            self.world.control.queue_repair = queue


async def second_write_fails(kind: type[Writer], refusals: list[str]) -> World:
    world = await begun()
    await world.coordinator().copy(0)
    await world.coordinator().verify()
    writer = kind(world, "eu1")
    world.shard("shard-2").down = True
    for key in moving(6):
        assert await writer.submit(key) == "new"
    world.shard("shard-2").down = False
    try:
        await world.coordinator().run("cutover")
    except Refused as refused:
        refusals += refused.reasons
        await world.coordinator().drain_all()
        await world.coordinator().run("cutover")
    return world


def test_h08_a_failed_second_write_blocks_the_cutover_until_it_is_repaired() -> None:
    refusals: list[str] = []
    assert judged(lambda: second_write_fails(Writer, refusals)) == []
    assert refusals == ["the repair queue holds 6 entries"]
    faults = judged(lambda: second_write_fails(Forgetful, []))
    assert any("would be taken for new" in fault for fault in faults)


# --- window and cleanup ----------------------------------------------------------------------


async def cleaned_then_rolled_back(*, after_ms: int, checked: bool) -> World:
    world = await begun()
    await to_cutover(world)
    world.now_ms += after_ms
    if checked:
        with pytest.raises(Refused, match="window for a rollback is open"):
            await world.coordinator().run("cleanup")
    else:
        for name in OLD:
            shard = world.shard(name)
            entries = await shard.scan(ranges=ALL, after=None, limit=1_000)
            routes = (await world.document()).routes
            gone = [entry.key for entry in entries if routes(entry.key).authority != name]
            await shard.delete(gone, ring_epoch=100)
    await world.coordinator().run("rollback")
    return world


def test_h13_nothing_is_deleted_while_a_rollback_is_possible() -> None:
    assert judged(lambda: cleaned_then_rolled_back(after_ms=HOUR_MS, checked=True)) == []
    faults = judged(lambda: cleaned_then_rolled_back(after_ms=HOUR_MS, checked=False))
    assert any("would be taken for new" in fault for fault in faults)


async def owner_lacks_some_at_deletion(hurt: Callable[[MemoryShard, Key], None]) -> World:
    world = await begun()
    await to_cutover(world)
    world.now_ms += 25 * HOUR_MS

    def step(name: str) -> None:
        if name == "kept that deletion begins":
            moved = world.shard("shard-2")
            for key in list(moved._rows)[:3]:
                hurt(moved, key)

    await world.coordinator(step).run("cleanup")
    return world


def test_cleanup_deletes_nothing_that_its_owner_does_not_hold() -> None:
    # A completion that is still due at the owner, or an entry that it has lost meanwhile.
    def to_claim(shard: MemoryShard, key: Key) -> None:
        shard._put(key, Entry(key, CLAIMED, "eu1", "c" * 64, None, None, None))

    for hurt in (to_claim, lambda shard, key: shard._put(key, None)):
        assert judged(lambda hurt=hurt: owner_lacks_some_at_deletion(hurt)) == []


def test_cleanup_stops_at_an_outcome_that_its_owner_holds_otherwise() -> None:
    def later(shard: MemoryShard, key: Key) -> None:
        shard._put(key, done(key, hlc=2**60))

    def damaged(shard: MemoryShard, key: Key) -> None:
        shard._put(key, shard._rows[key]._replace(content="f" * 64))

    # Of two outcomes the first write stands, and that is the one that was left over.
    assert judged(lambda: owner_lacks_some_at_deletion(later)) == []
    with pytest.raises(MigrationError, match=r"does not hold .* as it is here: it stays"):
        judged(lambda: owner_lacks_some_at_deletion(damaged))


def test_cleanup_refuses_what_was_added_since_the_list_was_made() -> None:
    async def run() -> None:
        world = await begun()
        await to_cutover(world)
        world.now_ms += 25 * HOUR_MS
        old = ring_of(infos(*OLD))
        stranger = next(key for key in moving(40) if old.pick("|".join(key)) == "shard-0")

        def step(name: str) -> None:
            if name == "after ListLeftovers":
                world.shard("shard-0")._put(stranger, done(stranger))

        with pytest.raises(MigrationError, match="changed in ranges of shard-2 since"):
            await world.coordinator(step).run("cleanup")

    asyncio.run(run())


# --- taking over -----------------------------------------------------------------------------


def repeats_the_cutover(patch: Patch) -> None:
    """Resume a cutover by doing it again, whatever the document says."""

    def again(state: Migration, seen: migration.Seen) -> migration.Effects:
        before = seen.document
        after = replace(
            before, ring_epoch=before.ring_epoch + 1, phase=COMMITTED, shards=before.next,
            next=before.shards,
        )  # fmt: skip
        return (migration.PutDocument(after), Save(replace(state, step=OPEN)))

    patch.setattr(migration, "_take_over_cutover", again)


async def taken_over_after_the_commit() -> World:
    world = await begun()
    await to_cutover(world)
    await taken_for(world, "cutting")
    await world.coordinator().resume()
    kept, document = await world.control.migration(), await world.document()
    assert kept is not None
    if kept.state.step == OPEN and document.shards != kept.state.new:
        world.faults.append("the state says committed, and the old ring decides")
    return world


def test_a_resumed_cutover_is_not_done_again(monkeypatch: Patch) -> None:
    assert judged(taken_over_after_the_commit) == []
    repeats_the_cutover(monkeypatch)
    assert judged(taken_over_after_the_commit) == [
        "the state says committed, and the old ring decides"
    ]
