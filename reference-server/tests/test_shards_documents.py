"""One router over a ring document that changes: fences, both rings, repairs and lost coordinators.

The control store is a real one, in a SQLite file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from test_shards_contract import asynchronous, claim, done, key
from test_shards_router import NAMES, STEADY, Region, claims, infos, until

from fractal_lba_server.core.dedup import Claimed, Found, Pending, claim_entry
from fractal_lba_server.core.ring_document import RingDocument
from fractal_lba_server.store.control import ControlStore
from fractal_lba_server.store.control_engines import open_control
from fractal_lba_server.store.shards import following, router
from fractal_lba_server.store.shards.reach import Unavailable


@pytest.fixture
def control(tmp_path: Path) -> ControlStore:
    return open_control(f"sqlite:///{tmp_path}/control.sqlite")


MOVING = [
    each
    for each in (key(number) for number in range(400))
    if STEADY.dual(infos(*NAMES, "shard-4"), "m").routes(each).also
]


@asynchronous
async def test_a_router_behind_the_fence_reads_the_document_again_and_goes_on(
    control: ControlStore,
) -> None:
    region = Region()
    held = await control.create(STEADY)
    async with region.node(held=held, control=control) as dedup:
        later = await control.put(RingDocument(2, infos(*NAMES, "shard-4")), version=1)
        for name in NAMES:
            await region.shards[name].set_fence(2)
        each = MOVING[0]
        assert [Claimed(each)] == await dedup.claim_many(claims([each]))
        assert later.document == dedup.document
        assert (
            claim_entry(claim(0))._replace(key=each)
            == (await region.shards["shard-4"].shard.lookup([each]))[0]
        )
        await dedup.complete_many([done(each)])
    await control.close()


@asynchronous
async def test_a_claim_without_a_newer_document_is_unavailable_in_time(
    control: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "CLAIM_S", 0.05)
    monkeypatch.setattr(router, "GIVE_UP_S", 0.05)
    region = Region()
    held = await control.create(STEADY)
    async with region.node(held=held, control=control) as dedup:
        for name in NAMES:
            await region.shards[name].set_fence(9)
        (answer,) = await dedup.claim_many(claims([key(1)]))
        assert Unavailable("", "the ring document is changing", sent=True) == answer
    await control.close()


@asynchronous
async def test_a_pause_whose_coordinator_died_is_ended_by_whoever_waits(
    control: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "END_PAUSE_S", 0.02)
    region = Region()
    held = await control.create(STEADY)
    async with region.node(held=held, control=control) as dedup:
        for name in NAMES:
            await region.shards[name].set_fence(2)
        assert [Claimed(key(1))] == await dedup.claim_many(claims([key(1)]))
        assert (2, STEADY.shards) == (dedup.document.ring_epoch, dedup.document.shards)
    await control.close()


@asynchronous
async def test_h08_the_authority_decides_and_a_missed_copy_waits_for_repair(
    control: ControlStore,
) -> None:
    """Literal: "new" if either ring says so; judge: keys new although the authority knows them."""
    region = Region()
    await control.create(STEADY)
    held = await control.put(STEADY.dual(infos(*NAMES, "shard-4"), "m"), version=1)
    known, missed, contradicted = MOVING[:3]
    async with region.node(held=held, control=control) as dedup:
        authority = held.document.routes(known).authority
        await region.shards[authority].put_if_first([done(known)], ring_epoch=2)
        assert [Found(done(known))] == await dedup.claim_many(claims([known]))
        (literal,) = await region.shards["shard-4"].shard.lookup([known])
        assert literal is None  # asked alone, the ring to be calls it new

        region.shards["shard-4"].down = True
        assert [Claimed(missed)] == await dedup.claim_many(claims([missed]))
        await dedup.complete_many([done(missed)])
        repairs = await control.repairs(10)
        assert [("shard-4", missed)] == [(repair.dedup_shard, repair.key) for repair in repairs]
        assert not await control.seal(version=held.version)  # no COMMIT before it is repaired
        region.shards["shard-4"].down = False
        await until(lambda: dedup.reach.is_healthy("shard-4"))

        await region.shards["shard-4"].put_if_first([done(contradicted)], ring_epoch=2)
        (answer,) = await dedup.claim_many(claims([contradicted]))
        assert Pending(done(contradicted)) == answer
        authority = held.document.routes(contradicted).authority
        assert [None] == await region.shards[authority].shard.lookup([contradicted])
        assert contradicted in [repair.key for repair in await control.repairs(10)]
    await control.close()


@asynchronous
async def test_in_a_dual_phase_claims_completions_and_releases_reach_both_rings(
    control: ControlStore,
) -> None:
    region = Region()
    await control.create(STEADY)
    held = await control.put(STEADY.dual(infos(*NAMES, "shard-4"), "m"), version=1)
    stays, goes = MOVING[:2]
    async with region.node(held=held, control=control) as dedup:
        await dedup.claim_many(claims([stays, goes]))
        await dedup.complete_many([done(stays)])
        await dedup.release_many([goes])
    for name in ("shard-4", held.document.routes(stays).authority):
        assert [done(stays)] == await region.shards[name].shard.lookup([stays])
    for name in ("shard-4", held.document.routes(goes).authority):
        assert [None] == await region.shards[name].shard.lookup([goes])
    await control.close()


@asynchronous
async def test_a_copy_that_is_missed_after_the_seal_waits_for_the_next_document(
    control: ControlStore,
) -> None:
    region = Region()
    await control.create(STEADY)
    held = await control.put(STEADY.dual(infos(*NAMES, "shard-4"), "m"), version=1)
    each = MOVING[0]
    async with region.node(held=held, control=control) as dedup:
        assert await control.seal(version=held.version)
        region.shards["shard-4"].down = True
        asking = asyncio.create_task(dedup.claim_many(claims([each])))
        await asyncio.sleep(0.05)
        assert not asking.done()
        await control.put(held.document.abandon(), version=held.version)
        assert [Claimed(each)] == await asking
        await dedup.complete_many([done(each)])
        assert [done(each)] == await dedup.lookup_many([each])
    await control.close()
