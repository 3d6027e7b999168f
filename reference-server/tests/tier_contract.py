"""What every hot, warm and cold store has to do; each test of a store runs all of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from tier_parts import DAY_MS, START_MS, key_of, rows_of, stored_of

from fractal_lba_server.core import mover
from fractal_lba_server.core.cold_segment import (
    Entry,
    object_name,
    places,
    write_entry,
    write_object,
)
from fractal_lba_server.core.first_write import Apply
from fractal_lba_server.store.tiers.protocols import (
    ANOTHERS,
    CHANGED,
    POINTED,
    ColdStore,
    HotStore,
    ObjectInfo,
    PlanExistsError,
    TierUnavailableError,
    WarmRow,
    WarmStore,
)

Put = Callable[[Sequence[Apply]], Awaitable[object]]

# --- hot


async def hot_entry_is_there_until_its_time(hot: HotStore, now_ms: int) -> None:
    key = key_of(1)
    stored = stored_of(key, 1)
    assert await hot.get(key, now_ms) is None
    assert await hot.put(key, stored, until_ms=now_ms + 60_000, generation=5, now_ms=now_ms)
    assert await hot.get(key, now_ms) == stored
    assert await hot.get(key, now_ms + 59_999) == stored
    assert await hot.get(key, now_ms + 60_000) is None, "expiry is absolute"
    assert await hot.get(key_of(1, "other"), now_ms) is None, "an id belongs to its tenant"
    assert (await hot.size()).keys == 1


async def hot_time_that_is_over_is_refused(hot: HotStore, now_ms: int) -> None:
    key = key_of(1)
    assert not await hot.put(key, stored_of(key, 1), until_ms=now_ms, generation=5, now_ms=now_ms)


async def hot_put_of_another_generation_is_refused(hot: HotStore, now_ms: int) -> None:
    key, other = key_of(1), key_of(2)
    stored = stored_of(key, 1)
    until_ms = now_ms + 60_000
    assert not await hot.put(key, stored, until_ms=until_ms, generation=4, now_ms=now_ms)
    assert await hot.put(key, stored, until_ms=until_ms, generation=5, now_ms=now_ms)
    assert await hot.put(other, stored_of(other, 2), until_ms=until_ms, generation=5, now_ms=now_ms)
    await hot.forget([key], 6)
    assert await hot.get(key, now_ms) is None
    assert await hot.get(other, now_ms) is not None, "others stay"
    assert not await hot.put(key, stored, until_ms=until_ms, generation=5, now_ms=now_ms)
    assert await hot.put(key, stored, until_ms=until_ms, generation=6, now_ms=now_ms)


async def hot_begins_with_nothing(hot: HotStore, now_ms: int) -> None:
    key = key_of(1)
    await hot.put(key, stored_of(key, 1), until_ms=now_ms + 60_000, generation=5, now_ms=now_ms)
    await hot.begin(9)
    assert await hot.get(key, now_ms) is None
    assert (await hot.size()).keys == 0


HOT = [
    hot_entry_is_there_until_its_time,
    hot_time_that_is_over_is_refused,
    hot_put_of_another_generation_is_refused,
    hot_begins_with_nothing,
]

# --- warm


def plan_of(rows: Sequence[WarmRow], old: tuple[str, ...] = ()) -> tuple[mover.Plan, bytes]:
    """Plan one object of rows."""
    entries = [write_entry(Entry(row.key, row.stored, b"")) for row in rows]
    tenant, placement = rows[0].key[0], rows[0].stored.origin.placement
    data = write_object(tenant, entries, [row.key[1] for row in rows])
    pairs = zip(rows, places(entries), strict=True)
    moves = tuple(mover.Move(row.number, place) for row, place in pairs)
    kind = mover.MERGE if old else mover.DEMOTE
    name = object_name(placement, tenant, data)
    return mover.Plan(kind, tenant, placement, name, len(data), START_MS, moves, old), data


async def all_rows(warm: WarmStore, count: int) -> list[WarmRow]:
    """Look every id up."""
    rows = [await warm.lookup(key_of(number)) for number in range(1, count + 1)]
    return [row for row in rows if row is not None]


async def pointed(warm: WarmStore, numbers: Sequence[int], rows: Sequence[WarmRow]) -> mover.Plan:
    """Move some rows."""
    plan, _ = plan_of([rows[number - 1] for number in numbers])
    await warm.keep_plan(plan)
    assert await warm.point(plan) == POINTED
    return plan


async def warm_holds_what_was_put(warm: WarmStore, put: Put) -> None:
    assert await warm.lookup(key_of(1)) is None
    rows = rows_of(5)
    await put(rows)
    found = await all_rows(warm, 5)
    assert [row.stored for row in found] == [each.stored for each in rows]
    assert [row.key for row in found] == [each.key for each in rows]
    assert all((r.ref, r.warm_until_ms, r.has_ended) == (None, None, False) for r in found)
    assert await warm.lookup(key_of(1, "other")) is None
    assert await warm.tenants() == ["acme"]
    scanned = await warm.scan(0, 3)
    assert [s.number for s in scanned] == [row.number for row in found[:3]]
    assert scanned[0][1:] == ("acme", "open", START_MS, len(rows[0].stored.outcome), None)
    assert len(await warm.scan(scanned[-1].number, 99)) == 2
    numbers = [found[3].number, found[0].number, 10**9]
    assert await warm.rows(numbers) == [found[0], found[3]]
    assert await warm.newest(2) == [found[4], found[3]]
    assert (await warm.size()).keys == 5


async def warm_points_to_cold_in_one_step(warm: WarmStore, put: Put) -> None:
    rows = rows_of(6)
    await put(rows)
    found = await all_rows(warm, 6)
    plan, data = plan_of(found[:4])
    assert plan.object is not None
    assert await warm.plan() is None
    await warm.keep_plan(plan)
    assert await warm.plan() == (plan, mover.KEPT)
    with pytest.raises(PlanExistsError):
        await warm.keep_plan(plan)
    assert not await warm.points_to(plan.object)
    assert await warm.point(plan) == POINTED
    assert await warm.plan() is None
    assert await warm.point(plan) == ANOTHERS, "a plan is carried out once"
    after = await all_rows(warm, 6)
    assert [row.stored.outcome == b"" for row in after] == [True] * 4 + [False] * 2
    for row, before in zip(after[:4], found, strict=False):
        assert row.stored == before.stored._replace(outcome=b""), "facts and id stay"
        assert row.ref is not None
        part = data[row.ref.offset : row.ref.offset + row.ref.length]
        assert hashlib.sha256(part).digest() == row.ref.sha256
    assert await warm.points_to(plan.object)
    assert await warm.rows_of(plan.object) == after[:4]
    info = ObjectInfo(plan.object, "open", "acme", 4, len(data), START_MS, 0)
    assert await warm.objects("", 9) == [info]
    assert await warm.objects(plan.object, 9) == []
    assert (await warm.size()).keys == 2
    assert await warm.cold_size() == (4, len(data))
    assert [s.object for s in await warm.scan(0, 9)] == [plan.object] * 4 + [None] * 2


async def warm_refuses_a_plan_whose_rows_changed(warm: WarmStore, put: Put) -> None:
    await put(rows_of(4))
    found = await all_rows(warm, 4)
    plan, _ = plan_of(found)
    await warm.keep_plan(plan)
    await warm.erase([found[2].key])
    assert await warm.point(plan) == CHANGED
    assert [bool(row.stored.outcome) for row in await all_rows(warm, 4)] == [
        True,
        True,
        False,
        True,
    ]
    assert await warm.objects("", 9) == []
    assert await warm.plan() == (plan, mover.KEPT), "the mover drops it"
    assert await warm.drop_plan(plan)
    assert await warm.plan() is None
    assert not await warm.drop_plan(plan)


async def warm_merges_objects(warm: WarmStore, put: Put) -> None:
    await put(rows_of(4))
    found = await all_rows(warm, 4)
    first, second = await pointed(warm, [1, 2], found), await pointed(warm, [3, 4], found)
    assert first.object is not None
    assert second.object is not None
    plan, data = plan_of(found, (first.object, second.object))
    await warm.keep_plan(plan)
    assert await warm.point(plan) == POINTED
    assert await warm.plan() == (plan, mover.REPLACED), "until the old ones are removed"
    assert await warm.point(plan) == ANOTHERS
    await warm.drop_plan(plan)
    assert await warm.cold_size() == (4, len(data))
    assert not await warm.points_to(first.object)
    assert plan.object is not None
    assert len(await warm.rows_of(plan.object)) == 4


async def warm_ends_the_payloads_of_an_object(warm: WarmStore, put: Put) -> None:
    await put(rows_of(3))
    found = await all_rows(warm, 3)
    gone = await pointed(warm, [1, 2], found)
    assert gone.object is not None
    end = mover.Plan(mover.END, "acme", "open", None, 0, 0, (), (gone.object,))
    await warm.keep_plan(end)
    assert await warm.point(end) == POINTED
    await warm.drop_plan(end)
    after = await all_rows(warm, 3)
    assert [(row.has_ended, row.ref) for row in after] == [
        (True, None),
        (True, None),
        (False, None),
    ]
    assert await warm.objects("", 9) == []


async def warm_takes_a_payload_back_for_its_time(warm: WarmStore, put: Put) -> None:
    await put(rows_of(2))
    found = await all_rows(warm, 2)
    await pointed(warm, [1, 2], found)
    cold = (await all_rows(warm, 2))[0]
    full = cold._replace(stored=found[0].stored)
    generation = await warm.generation()
    assert not await warm.promote(full, until_ms=START_MS, generation=generation - 1)
    assert await warm.promote(full, until_ms=START_MS + DAY_MS, generation=generation)
    row = await warm.lookup(key_of(1))
    assert row is not None
    assert (row.stored, row.ref) == (found[0].stored, cold.ref)
    assert row.warm_until_ms == START_MS + DAY_MS
    assert await warm.promoted(START_MS + DAY_MS - 1, 9) == []
    assert await warm.promoted(START_MS + DAY_MS, 9) == [row]
    await warm.cool([row.number])
    assert await warm.lookup(key_of(1)) == cold
    await warm.cool([row.number])
    assert await warm.lookup(key_of(1)) == cold


async def warm_that_erased_takes_nothing_back(warm: WarmStore, put: Put) -> None:
    await put(rows_of(2))
    found = await all_rows(warm, 2)
    await pointed(warm, [1, 2], found)
    cold = (await all_rows(warm, 2))[0]
    generation = await warm.generation()
    assert await warm.erase([key_of(1), key_of(99)]) == generation + 1
    (info,) = await warm.objects("", 9)
    assert (info.entries, info.holes) == (1, 1)
    assert await warm.generation() == generation + 1
    full = cold._replace(stored=found[0].stored)
    assert not await warm.promote(full, until_ms=START_MS + 1, generation=generation)
    assert not await warm.promote(full, until_ms=START_MS + 1, generation=generation + 1)
    row = await warm.lookup(key_of(1))
    assert row is not None, "the id stays taken"
    assert row.has_ended
    assert row.stored.outcome == b""
    assert row.stored.content == found[0].stored.content
    assert await warm.raise_generation() == generation + 2


async def warm_keeps_places_of_scans(warm: WarmStore, put: Put) -> None:
    assert await warm.cursor("a") == 0
    await warm.set_cursor("a", 7)
    await warm.set_cursor("a", 9)
    assert (await warm.cursor("a"), await warm.cursor("b")) == (9, 0)


WARM: list[Any] = [
    warm_holds_what_was_put,
    warm_points_to_cold_in_one_step,
    warm_refuses_a_plan_whose_rows_changed,
    warm_merges_objects,
    warm_ends_the_payloads_of_an_object,
    warm_takes_a_payload_back_for_its_time,
    warm_that_erased_takes_nothing_back,
    warm_keeps_places_of_scans,
]

# --- cold

NAME = "open/t-acme/" + "a" * 64 + ".cold"


async def cold_object_is_created_once_and_the_first_stands(cold: ColdStore) -> None:
    assert await cold.create(NAME, b"first")
    assert not await cold.create(NAME, b"second")
    assert await cold.read(NAME) == b"first"
    assert await cold.read_range(NAME, 1, 3) == b"irs"


async def cold_object_that_is_not_there_is_none_and_may_be_removed_again(cold: ColdStore) -> None:
    assert await cold.read(NAME) is None
    assert await cold.read_range(NAME, 0, 1) is None
    await cold.remove(NAME)
    await cold.create(NAME, b"x")
    await cold.remove(NAME)
    await cold.remove(NAME)
    assert await cold.read(NAME) is None
    assert await cold.create(NAME, b"again")


async def cold_range_beyond_the_object_is_unavailable_and_no_absence(cold: ColdStore) -> None:
    await cold.create(NAME, b"abc")
    with pytest.raises(TierUnavailableError):
        await cold.read_range(NAME, 7, 3)


async def cold_names_are_listed_below_a_prefix(cold: ColdStore) -> None:
    for tenant in ("acme", "beta"):
        for number in range(3):
            await cold.create(f"open/t-{tenant}/{number}.cold", b"x")
    below = sorted([name async for name in cold.names("open/t-beta")])
    assert below == [f"open/t-beta/{number}.cold" for number in range(3)]
    assert len([name async for name in cold.names("")]) == 6


async def cold_object_of_some_size_comes_back_whole(cold: ColdStore) -> None:
    data = hashlib.sha256(b"seed").digest() * 131_072  # 4 MiB
    assert await cold.create(NAME, data)
    assert await cold.read(NAME) == data
    assert await cold.read_range(NAME, 3_000_000, 1_000) == data[3_000_000:3_001_000]


async def cold_one_of_many_creators_wins(cold: ColdStore) -> None:
    done = await asyncio.gather(*[cold.create(NAME, b"%d" % n) for n in range(12)])
    assert sum(done) == 1
    assert await cold.read(NAME) == b"%d" % done.index(True)


COLD: list[Any] = [
    cold_object_is_created_once_and_the_first_stands,
    cold_object_that_is_not_there_is_none_and_may_be_removed_again,
    cold_range_beyond_the_object_is_unavailable_and_no_absence,
    cold_names_are_listed_below_a_prefix,
    cold_object_of_some_size_comes_back_whole,
    cold_one_of_many_creators_wins,
]
