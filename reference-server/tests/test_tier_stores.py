"""Hot in memory and warm in the index: the contract, and what is theirs alone."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tier_contract import HOT, WARM, plan_of
from tier_parts import START_MS, Place, key_of, rows_of, run, stored_of

from fractal_lba_server.core.first_write import Apply
from fractal_lba_server.store.index_cold import IndexWarm, has_cold
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.tiers.hot_memory import ENTRY_BYTES, HotMemory
from fractal_lba_server.store.tiers.protocols import TierUnavailableError


@pytest.mark.parametrize("check", HOT)
def test_hot_memory(check: Any) -> None:
    async def work() -> None:
        hot = HotMemory()
        await hot.begin(5)
        await check(hot, START_MS)
        await hot.close()

    run(work())


@pytest.mark.parametrize("check", WARM)
def test_warm_index(check: Any, tmp_path: Path) -> None:
    async def work() -> None:
        index = Index(tmp_path / "index.sqlite")
        warm = IndexWarm(index, tmp_path / "index.sqlite")

        async def put(rows: Sequence[Apply]) -> None:
            index.apply(rows)

        await check(warm, put)
        await warm.close()
        index.close()

    run(work())


def test_full_hot_memory_refuses_and_evicts_nothing() -> None:
    async def work() -> None:
        size = ENTRY_BYTES + len(stored_of(key_of(1), 1).outcome)
        hot = HotMemory(bytes_max=3 * size)
        until_ms = START_MS + 1_000

        async def put(number: int, now_ms: int = START_MS, until_ms: int = until_ms) -> bool:
            key = key_of(number)
            return await hot.put(
                key, stored_of(key, number), until_ms=until_ms, generation=0, now_ms=now_ms
            )

        assert [await put(n) for n in (1, 2, 3, 4)] == [True, True, True, False]
        assert await put(2, until_ms=until_ms + 500), "an entry may take its own place"
        assert [await hot.get(key_of(n), START_MS) is not None for n in (1, 2, 3, 4)] == [
            True, True, True, False,
        ]  # fmt: skip
        assert await hot.size() == (3, 3 * size)
        assert await put(4, now_ms=until_ms, until_ms=until_ms + 500), "room by time alone"
        assert await hot.size() == (2, 2 * size)

    run(work())


def test_bound_of_hot_memory_is_that_of_the_process() -> None:
    """The accounted bytes are what CPython takes, within a fifth."""

    async def work() -> tuple[int, int]:
        hot = HotMemory()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2_000):
            key = key_of(number)
            await hot.put(
                key, stored_of(key, number), until_ms=START_MS + number, generation=0, now_ms=0
            )
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return (await hot.size()).size_bytes, taken

    said, taken = run(work())
    assert 0.8 * taken < said < 1.25 * taken


def test_index_that_fails_is_unavailable(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.index.apply(rows_of(1))
    place.warm._reader.close()
    with pytest.raises(TierUnavailableError):
        run(place.warm.lookup(key_of(1)))
    place.warm._writer.close()
    for work in (place.warm.generation(), place.warm.cool([1])):
        with pytest.raises(TierUnavailableError):
            run(work)
    place.index.close()


def test_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.index.apply(rows_of(3))
    rows = run(place.warm.rows([1, 2, 3]))
    plan, _ = plan_of(rows)
    run(place.warm.keep_plan(plan))
    place.warm._writer.execute("CREATE TRIGGER no BEFORE INSERT ON tier_refs WHEN NEW.number = 3"
                               " BEGIN SELECT RAISE(ABORT, 'no'); END")  # fmt: skip
    with pytest.raises(TierUnavailableError):
        run(place.warm.point(plan))
    assert run(place.warm.rows([1, 2, 3])) == rows
    assert run(place.warm.objects("", 9)) == []
    place.warm._writer.execute("DROP TRIGGER no")
    assert run(place.warm.point(plan)) == "pointed"
    place.close()


def test_index_goes_on_while_payloads_leave_it(tmp_path: Path) -> None:
    """The view's transactions and the mover's take turns on one file."""
    place = Place(tmp_path)
    place.index.apply(rows_of(50))
    place.clock.now_ms = START_MS + 8 * 86_400_000

    async def work() -> None:
        async def apply() -> None:
            for first in range(51, 551, 50):
                await asyncio.to_thread(place.index.apply, rows_of(50, first=first))

        await asyncio.gather(apply(), place.mover(entries_max=5, small_bytes=0).run())

    run(work())
    assert place.index.count() == 550
    assert run(place.warm.cold_size()).keys >= 50
    place.close()


def test_commit_of_the_mover_is_synced(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (level,) = place.warm._writer.execute("PRAGMA synchronous").fetchone()
    assert level == 2, "FULL: a commit survives the loss of power, unlike those of the index"
    place.close()


def test_outcome_that_is_replaced_takes_its_reference_along(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.index.apply(rows_of(2))
    rows = run(place.warm.rows([1, 2]))
    plan, _ = plan_of(rows)
    run(place.warm.keep_plan(plan))
    run(place.warm.point(plan))
    before = run(place.warm.generation())
    early = stored_of(key_of(1), 1, at_ms=START_MS - 5, content="e" * 64)
    early = early._replace(origin=early.origin._replace(region="us1"))
    place.index.apply([Apply(key_of(1), early, "kid", wins=True, replaced=rows[0].stored)])
    assert run(place.warm.generation()) == before + 1
    row = run(place.warm.lookup(key_of(1)))
    assert row is not None
    assert (row.stored, row.ref) == (early, None)
    assert [each.stored for each in run(place.warm.rows_of(plan.object or ""))] == [
        rows[1].stored._replace(outcome=b"")
    ]
    (info,) = run(place.warm.objects("", 9))
    assert (info.entries, info.holes) == (1, 1), "and its entry in cold is one of nobody"
    assert place.index.overridden(key_of(1)) == (rows[0].stored,)
    place.close()


def test_index_says_that_payloads_have_left_it(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    index = Index(path)
    index.apply(rows_of(2))
    index.close()
    assert not has_cold(path), "an index that never had tiers"
    place = Place(tmp_path)
    assert not has_cold(path)
    plan, _ = plan_of(run(place.warm.rows([1])))
    run(place.warm.keep_plan(plan))
    run(place.warm.point(plan))
    place.close()
    assert has_cold(path)


def test_tables_of_the_tiers_leave_the_index_its_layout(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.index.apply(rows_of(2))
    place.close()
    index = Index(tmp_path / "index.sqlite")
    assert index.count() == 2
    index.close()
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert {"tier_refs", "tier_objects", "tier_plans", "tier_facts"} <= names
