"""The tiers as a running server has them: asked, moved in the background, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tier_parts import DAY_MS, START_MS, Clock, key_of, rows_of, run, stored_of

from fractal_lba_server.core.first_write import Key, Stored
from fractal_lba_server.core.tiering import TierBook, TierPolicy
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.tier_service import COUNTS, TierService, open_hot
from fractal_lba_server.tiers import Unavailable

Asked = tuple[str, Any]


async def ask(service: TierService, key: Key) -> Asked:
    """Ask as the driver does, and give what it was told."""
    done: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()

    def reply(found: Key, stored: Stored | None) -> None:
        assert found == key
        done.set_result(("answered", stored))

    def refuse(found: Key, why: Unavailable) -> None:
        assert found == key
        done.set_result(("refused", why.code))

    service.ask(key, reply, refuse)
    return await done


def serve(
    tmp_path: Path,
    clock: Clock,
    work: Callable[[TierService, Index], Awaitable[None]],
    **options: Any,
) -> None:
    """Open everything over one data directory, work, stop."""

    async def main() -> None:
        index = Index(tmp_path / "index.sqlite")
        service = await TierService.open(
            index=index,
            data=tmp_path,
            **{
                "book": TierBook(), "hot": "memory:", "cold": f"file://{tmp_path}/cold",
                "namespace": "flk:eu1:a", "interval_s": 0.01, "now_ns": clock, **options,
            },
        )  # fmt: skip
        try:
            await work(service, index)
        finally:
            await service.stop()
            index.close()

    run(main())


async def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_the_newest_payloads_spare_reads_of_cold(tmp_path: Path) -> None:
    clock = Clock()
    book = TierBook(TierPolicy(hot_ttl_s=86_400, warm_ttl_s=60))

    async def work(service: TierService, index: Index) -> None:
        index.apply(rows_of(3))
        gauges = service.gauges()
        await until(lambda: gauges["tier_hot_keys"]() == 3)
        clock.now_ms = START_MS + 3_600_000
        await until(lambda: gauges["tier_cold_keys"]() == 3)
        assert await ask(service, key_of(1)) == ("answered", stored_of(key_of(1), 1))
        assert (gauges["tier_hits_hot"](), gauges["tier_cold_reads"]()) == (1, 0)
        assert gauges["tier_promotions_hot"]() == 3, "each was offered once"

    serve(tmp_path, clock, work, book=book)


def test_server_asks_moves_and_answers(tmp_path: Path) -> None:
    clock = Clock()

    async def work(service: TierService, index: Index) -> None:
        index.apply(rows_of(3))
        stored = stored_of(key_of(1), 1)
        assert await ask(service, key_of(1)) == ("answered", stored)
        assert await ask(service, key_of(99)) == ("answered", None)
        gauges = service.gauges()
        await until(lambda: gauges["tier_hot_keys"]() == 3)
        clock.now_ms = START_MS + 8 * DAY_MS
        await until(lambda: gauges["tier_cold_keys"]() == 3)
        assert gauges["tier_demotions"]() == 3
        assert gauges["tier_cold_bytes"]() > 0
        assert await ask(service, key_of(1)) == ("answered", stored)
        assert gauges["tier_cold_reads"]() == 1
        assert set(gauges) >= {f"tier_{name}" for name in COUNTS}
        await service.forget([key_of(1)])
        assert service.last_pass is not None

    serve(tmp_path, clock, work)


def test_cold_that_fails_refuses_and_the_server_goes_on(tmp_path: Path) -> None:
    clock = Clock(START_MS + 8 * DAY_MS)

    async def work(service: TierService, index: Index) -> None:
        index.apply(rows_of(2))
        while service.last_pass is None or not service.gauges()["tier_cold_keys"]():
            await asyncio.sleep(0.01)
        for path in (tmp_path / "cold").rglob("*.cold"):
            path.unlink()
        assert await ask(service, key_of(1)) == ("refused", "unavailable")
        assert await ask(service, key_of(99)) == ("answered", None), "new ids need no cold"

    serve(tmp_path, clock, work, book=TierBook(TierPolicy(fastest="warm")))


def test_id_whose_payload_has_ended_is_never_new(tmp_path: Path) -> None:
    clock = Clock(START_MS + 8 * DAY_MS)
    book = TierBook(TierPolicy(cold_ttl_s=9 * 86_400))

    async def work(service: TierService, index: Index) -> None:
        index.apply(rows_of(1))
        while service.last_pass is None or not service.gauges()["tier_cold_keys"]():
            await asyncio.sleep(0.01)
        clock.now_ms = START_MS + 10 * DAY_MS
        assert await ask(service, key_of(1)) == ("refused", "unavailable")

    serve(tmp_path, clock, work, book=book)


def test_server_without_cold_keeps_everything_in_the_index(tmp_path: Path) -> None:
    async def work(service: TierService, index: Index) -> None:
        index.apply(rows_of(1))
        await asyncio.sleep(0.03)
        assert (await ask(service, key_of(1)))[1] == stored_of(key_of(1), 1)
        assert service.last_pass is None

    serve(tmp_path, Clock(START_MS + 99 * DAY_MS), work, cold=None)


def test_defect_of_a_task_is_said_and_ends_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(service: TierService, index: Index) -> None:
        async def broken() -> None:
            raise ValueError("a defect")

        service._start(broken())
        await asyncio.sleep(0.01)
        assert await ask(service, key_of(99)) == ("answered", None)

    serve(tmp_path, Clock(), work)
    assert "a defect" in caplog.text


def test_hot_has_two_kinds() -> None:
    assert open_hot("memory:", "flk") is not None
    with pytest.raises(ValueError, match="expected memory: or redis"):
        open_hot("memcached://x", "flk")
