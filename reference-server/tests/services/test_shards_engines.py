"""The contract of a dedup shard against real PostgreSQL and Redis, and a PostgreSQL that is hurt."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from engines import PostgresServer, RedisServer, postgres_server, redis_server
from test_shards_contract import (
    Engine,
    ShardContract,
    asynchronous,
    claim,
    done,
    key,
)

from fractal_lba.errors import ConfigError
from fractal_lba_server.core.dedup import (
    Claimed,
    DedupShard,
    Found,
    Pending,
    ShardUnavailable,
    StaleRingEpoch,
    claim_entry,
    place_of,
)
from fractal_lba_server.store.shards import batches
from fractal_lba_server.store.shards.opening import open_shard
from fractal_lba_server.store.shards.redis import RedisShard

__all__ = ["postgres_server", "redis_server"]

pytestmark = pytest.mark.services

TESTS = Path(__file__).parent


class RedisEngine(Engine):
    async def prepare(self, shard: DedupShard) -> None:
        assert isinstance(shard, RedisShard)
        await shard.refill([], ring_epoch=0, node="eu1")


class TestPostgres(ShardContract):
    @pytest.fixture
    def engine(self, postgres_server: PostgresServer) -> Engine:
        return Engine(lambda name: postgres_server.url)


class TestRedis(ShardContract):
    @pytest.fixture
    def engine(self, redis_server: RedisServer) -> Engine:
        return RedisEngine(lambda name: redis_server.url)


CLAIMANT = """
import asyncio, sys
from fractal_lba_server.core.dedup import Claim, Claimed
from fractal_lba_server.store.shards import batches
from fractal_lba_server.store.shards.opening import open_shard
async def main(url, owner):
    shard = await open_shard("processes", url)
    await shard.start()
    print("ready", flush=True)
    sys.stdin.readline()
    claims = [Claim(("acme", f"{n:064x}"), "c" * 64, owner) for n in range(50)]
    answers = []
    for each in claims:  # one by one: the processes meet at every key
        answers += await shard.claim([each], ring_epoch=1)
    print("".join("C" if type(answer) is Claimed else "-" for answer in answers))
    await shard.close()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.sqlite"
    server = request.getfixturevalue(f"{request.param}_server")
    return str(server.url)


@asynchronous
async def test_one_process_of_several_gets_each_key(shared_url: str) -> None:
    shard = await open_shard("processes", shared_url)
    if isinstance(shard, RedisShard):
        await shard.refill([], ring_epoch=0, node="eu1")
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CLAIMANT,
            shared_url,
            f"eu1/{number}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert b"ready\n" == await process.stdout.readline()
    ended = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    answers = [output.decode().strip() for output, _ in ended]
    assert ["C"] * 50 == ["".join(each).replace("-", "") for each in zip(*answers, strict=True)]
    await shard.close()


@pytest.mark.parametrize("engine", ["postgres", "redis"])
@asynchronous
async def test_a_statement_that_comes_too_late_changes_nothing(
    engine: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = await open_shard("late", request.getfixturevalue(f"{engine}_server").url)
    if isinstance(shard, RedisShard):
        await shard.refill([], ring_epoch=0, node="eu1")
    await shard.claim([claim(1)], ring_epoch=1)
    now = batches.late_ms()
    monkeypatch.setattr(f"{shard.__module__}.late_ms", lambda: now - batches.LATE_MS - 2_000)
    for write in (
        shard.release([key(1)], "eu1", ring_epoch=1),
        shard.claim([claim(2)], ring_epoch=1),
        shard.put_if_first([done(1)], ring_epoch=1),
    ):
        with pytest.raises(ShardUnavailable, match="too late"):
            await write
    assert [claim_entry(claim(1)), None] == await shard.lookup([key(1), key(2)])
    await shard.close()


# --- PostgreSQL ------------------------------------------------------------------------------


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with PostgresServer.running() as server:
        yield server


@asynchronous
async def test_a_stopped_postgresql_is_unavailable_and_keeps_every_claim(
    own_postgres: PostgresServer,
) -> None:
    shard = await open_shard("a", own_postgres.url)
    await shard.claim([claim(1), claim(2)], ring_epoch=1)
    await shard.complete([done(1)], ring_epoch=1)
    own_postgres.kill()
    for _ in range(3):
        with pytest.raises(ShardUnavailable):
            await shard.claim([claim(1, "us1"), claim(3, "us1")], ring_epoch=1)
        with pytest.raises(ShardUnavailable):
            await shard.lookup([key(1)])
    own_postgres.start()
    answers = await shard.claim([claim(1, "us1"), claim(2, "us1"), claim(3, "us1")], ring_epoch=1)
    assert [Found(done(1)), Pending(claim_entry(claim(2))), Claimed(key(3))] == answers
    await shard.close()


@asynchronous
async def test_h24_a_postgresql_that_hangs_is_no_miss(own_postgres: PostgresServer) -> None:
    """Literal: an error of the driver is "not found"; judge: is an acknowledged key new?"""
    shard = await open_shard("a", own_postgres.url)
    await shard.complete([done(1)], ring_epoch=1)
    assert own_postgres.process is not None
    processes = [own_postgres.process.pid, *own_postgres.children()]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        literal_is_new = None
        try:
            await shard.lookup([key(1)])
        except ShardUnavailable:
            literal_is_new = True  # `except: return None`
        with pytest.raises(ShardUnavailable):
            await shard.claim([claim(1)], ring_epoch=1)
        assert literal_is_new
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    assert [Found(done(1))] == await shard.claim([claim(1)], ring_epoch=1)
    await shard.close()


@asynchronous
async def test_a_fence_waits_for_writes_that_are_under_way(own_postgres: PostgresServer) -> None:
    shard = await open_shard("a", own_postgres.url)
    await shard.start()
    slow = await asyncpg.connect(own_postgres.url)
    held = slow.transaction()
    await held.start()
    await slow.execute("SELECT flk_dedup_pass(1, 9000000000000, 1)")
    fencing = asyncio.create_task(shard.set_fence(2))
    await asyncio.sleep(0.1)
    assert not fencing.done()
    await held.commit()
    await fencing
    with pytest.raises(StaleRingEpoch):
        await shard.claim([claim(1)], ring_epoch=1)
    await slow.close()
    await shard.close()


@asynchronous
async def test_batches_that_wait_for_one_row_do_not_block_each_other_for_ever(
    postgres_server: PostgresServer,
) -> None:
    shard = await open_shard("deadlock", postgres_server.url)
    await shard.start()
    numbers = sorted(range(20), key=lambda number: place_of(key(number)))
    holder = await asyncpg.connect(postgres_server.url)
    held = holder.transaction()
    await held.start()
    point, hashed = place_of(key(numbers[10]))
    await holder.execute(
        "INSERT INTO flk_dedup_entries SELECT number, $2, $3, '' FROM flk_dedup_shards"
        " WHERE name = $1",
        b"deadlock",
        point,
        hashed,
    )
    asking = [
        asyncio.create_task(shard.claim([claim(n, owner) for n in order], ring_epoch=1))
        for owner, order in (("eu1", numbers), ("eu1/b", numbers[::-1]))
    ]
    await asyncio.sleep(0.3)
    await held.rollback()
    answers = await asyncio.gather(*asking)
    assert 20 == sum(type(answer) is Claimed for each in answers for answer in each)
    await holder.close()
    await shard.close()


def test_a_postgresql_that_forgets_commits_is_refused() -> None:
    async def run(url: str) -> None:
        shard = await open_shard("a", url)
        with pytest.raises(ConfigError, match="synchronous_commit=off"):
            await shard.start()
        await shard.close()

    with PostgresServer.running(synchronous_commit="off") as server:
        asyncio.run(run(server.url))
