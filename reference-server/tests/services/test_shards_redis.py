"""A dedup shard in a Redis that is hurt: killed, promoted, flushed, hung, or filled meanwhile.

Redis is a cache of the logs: each test that hurts it counts the keys that it calls new although
they were acknowledged, and there is none; the literal design, a plain `SET NX`, is counted beside
it and has some.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Self

import pytest
import redis.asyncio
from engines import RedisServer
from test_shards_contract import asynchronous, claim, done, key

from fractal_lba.errors import ConfigError
from fractal_lba_server.core.dedup import (
    Claimed,
    DedupShard,
    Entry,
    Found,
    Pending,
    ShardUnavailable,
    claim_entry,
)
from fractal_lba_server.store.shards.opening import begin_empty, open_shard
from fractal_lba_server.store.shards.redis import RedisShard

pytestmark = pytest.mark.services


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer.running() as server:
        yield server


@contextlib.asynccontextmanager
async def filled(url: str, count: int = 20) -> AsyncIterator[RedisShard]:
    """Open a shard that holds `count` outcomes."""
    shard = await open_shard("a", url)
    assert isinstance(shard, RedisShard)
    try:
        await shard.refill([done(n) for n in range(count)], ring_epoch=1, node="eu1")
        yield shard
    finally:
        await shard.close()


async def count_new(shard: DedupShard, count: int = 20) -> int:
    """Submit acknowledged keys again, and count those that are called new."""
    return sum([await is_new(shard, number) for number in range(count)])


async def count_new_literally(url: str, count: int = 20) -> int:
    """Do the same by the literal design: `SET key NX` is "new" if it succeeds."""
    client = redis.asyncio.Redis.from_url(url)
    new = sum([bool(await client.set(f"lit:{n}", "1", nx=True)) for n in range(count)])
    await client.aclose()
    return new


@pytest.mark.parametrize("empty", [True, False])
@asynchronous
async def test_a_redis_that_was_killed_answers_only_after_a_refill(
    own_redis: RedisServer, *, empty: bool
) -> None:
    async with filled(own_redis.url) as shard:
        await count_new_literally(own_redis.url)
        own_redis.kill()
        assert 0 == await count_new(shard, 3)
        if empty:
            own_redis.forget()
        own_redis.start()
        assert 0 == await count_new(shard)
        assert (20 if empty else 0) == await count_new_literally(own_redis.url)
        fresh = await open_shard("a", own_redis.url)
        assert 0 == await count_new(fresh)
        with pytest.raises(ShardUnavailable):
            await fresh.lookup([key(1)])
        assert await shard.refill([done(n) for n in range(20)], ring_epoch=1, node="eu1")
        assert [Found(done(1))] == await fresh.claim([claim(1)], ring_epoch=1)
        assert 20 == await shard.count()
        await fresh.close()


@pytest.mark.parametrize(
    "loss",
    [
        ["FLUSHALL"],
        ["DEL", "flk:dedup:{a}:rows"],
        ["DEL", "flk:dedup:{a}:points"],
        ["HDEL", "flk:dedup:{a}:rows", f"acme|{0:064x}"],
        ["HDEL", "flk:dedup:{a}:rows", "generation"],
        ["HDEL", "flk:dedup:{a}:rows", "fence"],
        ["HSET", "flk:dedup:{a}:rows", "generation", "other"],
    ],
)
@asynchronous
async def test_a_redis_that_lost_something_is_unavailable(
    own_redis: RedisServer, loss: list[str]
) -> None:
    async with filled(own_redis.url) as shard:
        assert own_redis.command(*loss).startswith((":", "+"))
        assert 0 == await count_new(shard)
        with pytest.raises(ShardUnavailable):
            await shard.lookup([key(1)])


class Relay:
    """One address in front of a server: it can be cut, or lead to another one."""

    def __init__(self, port: int) -> None:
        self.port: int | None = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.own_port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.own_port}/0"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.lead_to(None)
        await asyncio.sleep(0.05)

    def lead_to(self, port: int | None) -> None:
        """End what is open; new connections lead to this port, or nowhere."""
        self.port = port
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, sink = await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, TypeError):
            writer.transport.abort()
            return
        self._writers |= {writer, sink}
        await asyncio.gather(_pump(reader, sink), _pump(upstream, writer))
        self._writers -= {writer, sink}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynchronous
async def test_h24_a_promoted_replica_of_redis_calls_no_acknowledged_key_new() -> None:
    """Literal: `SET NX` at whoever is primary now; judge: acknowledged keys that are new again."""
    with RedisServer.running() as primary, RedisServer.running() as replica:
        async with Relay(primary.port) as link, Relay(primary.port) as address:
            await follow_primary(replica, link.own_port)
            async with filled(address.url, 0) as shard, Writers(address.url, shard) as writers:
                await fail_over_under_load(writers, link, address, replica)
                new = [number for number in writers.acked if await is_new(shard, number)]
                lost = [n for n in writers.acked_literally if await writers.set_nx(n)]
                assert [] == new
                assert len(lost) >= 200  # the literal design forgot what it had acknowledged
                entries = [done(number) for number in writers.acked]
                await shard.refill(entries, ring_epoch=1, node="eu1")
                last = claim(writers.acked[-1])
                assert [Found(entries[-1])] == await shard.claim([last], ring_epoch=1)


async def fail_over_under_load(
    writers: Writers, link: Relay, address: Relay, replica: RedisServer
) -> None:
    await writers.reach(300)
    link.lead_to(None)  # what is written now does not reach the replica
    await writers.reach(600)
    assert replica.command("REPLICAOF", "NO", "ONE").startswith("+OK")
    address.lead_to(replica.port)
    await asyncio.sleep(0.2)
    await writers.stop()


async def follow_primary(replica: RedisServer, port: int) -> None:
    replica.command("REPLICAOF", "127.0.0.1", str(port))
    for _ in range(1_000):
        if "master_link_status:up" in await asyncio.to_thread(
            replica.command, "INFO", "replication"
        ):
            return
        await asyncio.sleep(0.01)
    pytest.fail("the replica does not follow")


async def is_new(shard: DedupShard, number: int) -> bool:
    try:
        (verdict,) = await shard.claim([claim(number, "us1")], ring_epoch=9)
    except ShardUnavailable:
        return False
    return type(verdict) is Claimed


class Writers:
    """A few tasks that write by both designs until they are stopped."""

    def __init__(self, url: str, shard: DedupShard) -> None:
        self._client = redis.asyncio.Redis.from_url(url, socket_timeout=1)
        self._shard = shard
        self._numbers = itertools.count()
        self._running = True
        self.acked: list[int] = []
        self.acked_literally: list[int] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._write()) for _ in range(4)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        await self._client.aclose()

    async def stop(self) -> None:
        self._running = False
        await asyncio.gather(*self._tasks)

    async def reach(self, count: int) -> None:
        while len(self.acked) < count:
            await asyncio.sleep(0.005)

    async def set_nx(self, number: int) -> bool:
        return bool(await self._client.set(f"lit:{number}", "1", nx=True))

    async def _write(self) -> None:
        while self._running:
            number = next(self._numbers)
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                if await self.set_nx(number):
                    self.acked_literally.append(number)
            with contextlib.suppress(ShardUnavailable):
                await self._shard.claim([claim(number)], ring_epoch=1)
                await self._shard.complete([done(number)], ring_epoch=1)
                self.acked.append(number)
            await asyncio.sleep(0)


@asynchronous
async def test_a_redis_that_was_a_replica_for_a_moment_is_another_data_set(
    own_redis: RedisServer,
) -> None:
    async with filled(own_redis.url) as shard:
        assert own_redis.command("REPLICAOF", "127.0.0.1", "1").startswith("+OK")
        assert own_redis.command("REPLICAOF", "NO", "ONE").startswith("+OK")
        with pytest.raises(ShardUnavailable, match="restarted or failed over"):
            await shard.claim([claim(1)], ring_epoch=1)
        assert 0 == await count_new(shard)


@asynchronous
async def test_a_shard_that_is_new_is_begun_empty_once(own_redis: RedisServer) -> None:
    shard = await open_shard("a", own_redis.url)
    with pytest.raises(ShardUnavailable, match="no generation"):
        await shard.set_fence(1)
    await begin_empty(shard, ring_epoch=3)
    assert 3 == await shard.fence()
    await shard.complete([done(1)], ring_epoch=3)
    other = await open_shard("a", own_redis.url)
    await begin_empty(other, ring_epoch=2)
    assert [done(1)] == await other.lookup([key(1)])
    assert 3 == await other.fence()
    await shard.close()
    await other.close()


@asynchronous
async def test_a_redis_that_became_a_replica_and_back_is_another_data_set() -> None:
    """It has the same run id, and from its replica it got the generation back, without the rest."""
    with RedisServer.running() as first, RedisServer.running() as second:
        async with Relay(first.port) as link:
            await follow_primary(second, link.own_port)
            async with filled(first.url, 10) as shard:
                while "10" not in second.command("ZCARD", "flk:dedup:{a}:points"):
                    await asyncio.sleep(0.01)
                link.lead_to(None)
                await shard.complete([done(n) for n in range(10, 20)], ring_epoch=1)
                second.command("REPLICAOF", "NO", "ONE")
                await follow_primary(first, second.port)
                assert "10" in first.command("ZCARD", "flk:dedup:{a}:points")
                with pytest.raises(ShardUnavailable):
                    await shard.claim([claim(1)], ring_epoch=1)
                first.command("REPLICAOF", "NO", "ONE")
                assert 0 == await count_new(shard)


@asynchronous
async def test_a_refill_waits_for_every_node_and_keeps_their_claims(own_redis: RedisServer) -> None:
    async with filled(own_redis.url) as one:
        two = await open_shard("a", own_redis.url)
        assert isinstance(two, RedisShard)
        assert [Claimed(key(90))] == await two.claim([claim(90, "eu1/b")], ring_epoch=1)
        own_redis.command("FLUSHALL")
        nodes = ["eu1", "eu1/b"]
        assert not await one.refill([done(1)], ring_epoch=4, node="eu1", nodes=nodes)
        with pytest.raises(ShardUnavailable):
            await one.claim([claim(90)], ring_epoch=9)
        held = claim_entry(claim(90, "eu1/b"))
        assert await two.refill([done(2), held], ring_epoch=4, node="eu1/b", nodes=nodes)
        answers = await one.claim([claim(1), claim(2), claim(90)], ring_epoch=4)
        assert [Found(done(1)), Found(done(2)), Pending(held)] == answers
        assert 4 == await one.fence()
        await two.close()


@asynchronous
async def test_a_refill_is_void_if_the_server_changes_its_role_meanwhile(
    own_redis: RedisServer,
) -> None:
    async with filled(own_redis.url, 0) as shard:
        own_redis.command("FLUSHALL")

        def entries() -> Iterator[Entry]:
            yield from (done(n) for n in range(1_500))
            own_redis.command("REPLICAOF", "127.0.0.1", "1")
            own_redis.command("REPLICAOF", "NO", "ONE")
            yield done(1_501)

        with pytest.raises(ShardUnavailable):
            await shard.refill(entries(), ring_epoch=1, node="eu1")
        assert 0 == await count_new(shard)


@pytest.mark.parametrize(
    "options",
    [{"maxmemory_policy": "allkeys-lru"}, {"appendonly": "no"}, {"appendfsync": "no"}],
)
def test_a_redis_that_may_forget_is_refused(options: dict[str, str]) -> None:
    async def run(url: str) -> None:
        shard = await open_shard("a", url)
        with pytest.raises(ConfigError, match="Redis has"):
            await shard.start()
        await shard.close()

    with RedisServer.running(**options) as server:
        asyncio.run(run(server.url))


@asynchronous
async def test_h24_a_redis_that_hangs_is_no_miss(own_redis: RedisServer) -> None:
    async with filled(own_redis.url) as shard:
        own_redis.signal(signal.SIGSTOP)
        try:
            with pytest.raises(ShardUnavailable):
                await shard.claim([claim(1)], ring_epoch=1)
        finally:
            own_redis.signal(signal.SIGCONT)
        assert [Found(done(1))] == await shard.claim([claim(1)], ring_epoch=1)


@asynchronous
async def test_the_rule_in_redis_does_not_follow_the_locale(own_redis: RedisServer) -> None:
    entries = [done(1, hlc) for hlc in (0x61, 0x42, 0xE4, 0x01, 0xFF00)]
    async with filled(own_redis.url, 0) as shard:
        for entry in entries:
            await shard.put_if_first([entry], ring_epoch=1)
        assert [entries[3]] == await shard.lookup([key(1)])
