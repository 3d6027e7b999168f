"""Whole migrations over real PostgreSQL and Redis, and between engines of different kinds."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from engines import PostgresServer, RedisServer, postgres_server, redis_server

sys.path.insert(0, str(Path(__file__).parents[1]))

from migration_runs import OLD, new_world, planted, rolled_back_migration, whole_migration
from migration_world import KilledError, World, key_number

from fractal_lba_server.cli_dedup_migrate import main
from fractal_lba_server.core.dedup import DedupShard, ShardUnavailable
from fractal_lba_server.core.migration import CLEANED, Refused
from fractal_lba_server.dedup_migration import MigrationError
from fractal_lba_server.store.control import ControlStore, ControlUnavailableError
from fractal_lba_server.store.control_engines import open_control
from fractal_lba_server.store.shards.opening import open_shard
from fractal_lba_server.store.shards.redis import RedisShard

__all__ = ["postgres_server", "redis_server"]

pytestmark = pytest.mark.services

NAMES = (*OLD, "shard-3")
KINDS = {
    "postgres": ("postgres",) * 4,
    "redis": ("redis",) * 4,
    "sqlite to postgres": ("sqlite", "sqlite", "sqlite", "postgres"),
    "postgres to redis": ("postgres", "postgres", "postgres", "redis"),
}
_numbers = itertools.count(1)


class Servers:
    """Places for dedup shards, each empty."""

    def __init__(self, postgres: PostgresServer, redis: RedisServer, folder: Path) -> None:
        self.postgres = postgres
        self.redis = redis
        self.folder = folder

    def run(self, kinds: tuple[str, ...], act: Callable[[World], Awaitable[None]]) -> None:
        asyncio.run(self._run(kinds, act))

    async def _run(self, kinds: tuple[str, ...], act: Callable[[World], Awaitable[None]]) -> None:
        database = self.postgres.new_database()
        control = open_control(database)
        holder: list[World] = []
        number = next(_numbers)

        async def make(name: str) -> DedupShard:
            kind = kinds[NAMES.index(name)]
            urls = {
                "postgres": database,
                "redis": self.redis.url,
                "sqlite": f"sqlite:///{self.folder}/{name}.sqlite",
            }
            # Names of dedup shards are apart in one server: each test takes its own.
            own = name if kind != "redis" else f"{name}-{number}"
            shard = await open_shard(own, urls[kind], now_ms=lambda: holder[0].now_ms)
            if isinstance(shard, RedisShard) and name in OLD:  # dual writes begin the new one
                await shard.refill([], ring_epoch=0, node="eu1")
            return shard

        # The clock of the test is needed as soon as a dedup shard is opened.
        holder.append(World())
        world = await new_world(control, make, *NAMES)
        holder[0] = world
        try:
            await act(world)
        finally:
            for shard in world.shards.values():
                await shard.close()
            await control.close()


@pytest.fixture
def servers(postgres_server: PostgresServer, redis_server: RedisServer, tmp_path: Path) -> Servers:
    return Servers(postgres_server, redis_server, tmp_path)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("act", [whole_migration, rolled_back_migration])
def test_a_migration_over_real_servers(
    servers: Servers, kinds: str, act: Callable[[World], Awaitable[None]]
) -> None:
    servers.run(KINDS[kinds], act)


@pytest.mark.parametrize("kinds", ["postgres", "redis"])
def test_verify_finds_every_planted_entry_over_real_servers(servers: Servers, kinds: str) -> None:
    servers.run(KINDS[kinds], lambda world: planted(world, 7))


@pytest.mark.parametrize("point", range(1, 12))
def test_a_cutover_killed_over_real_servers_is_taken_over(servers: Servers, point: int) -> None:
    async def act(world: World) -> None:
        await world.found(*OLD)
        writer = world.writer()
        for number in range(60):
            assert await writer.submit(key_number(number)) == "new"
        await world.coordinator().begin(await world.plan(*NAMES, rate_per_s=0))
        await world.coordinator().run("dual-write")
        await world.coordinator().copy(0)
        await world.coordinator().verify()
        left = point

        def step(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise KilledError

        try:
            await world.coordinator(step).run("cutover")
        except KilledError:
            for number in range(50, 80):
                answer = await writer.submit(key_number(number))
                assert answer == ("duplicate" if number < 60 else "new")
            await world.coordinator().resume()
        if (await world.coordinator().look())[0].step == "verified":
            await world.coordinator().run("cutover")
        world.now_ms += 25 * 3_600_000
        await world.coordinator().run("cleanup")
        assert await world.judge() == []
        assert (await world.coordinator().look())[0].step == CLEANED

    servers.run(KINDS["postgres"], act)


def test_a_ring_of_fresh_redis_servers_is_begun_by_init(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    number = next(_numbers)
    shards = [f"--shard=fresh-{number}-{part}={redis_server.url}" for part in range(2)]
    control = ["--control", f"sqlite:///{tmp_path}/control.sqlite"]
    done = CliRunner().invoke(main, ["init", *shards, *control])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["doctor", *control]).output == "all is well\n"
    again = CliRunner().invoke(main, ["init", *shards, *control])
    assert again.exit_code == 1
    assert "there is a ring document already" in again.stderr


def test_a_redis_that_forgot_is_not_begun_anew_behind_the_copy(servers: Servers) -> None:
    async def act(world: World) -> None:
        await world.found(*OLD)
        await world.coordinator().begin(await world.plan(*NAMES, rate_per_s=0))
        await world.coordinator().run("dual-write")
        await world.coordinator().copy(0)
        servers.redis.command("FLUSHALL")
        with pytest.raises((MigrationError, ShardUnavailable)):
            await world.coordinator().verify()
        with pytest.raises((MigrationError, Refused, ShardUnavailable)):
            await world.coordinator().run("cutover")

    servers.run(KINDS["postgres to redis"], act)


def test_a_control_store_that_is_gone_is_unavailable_and_comes_back(
    postgres_server: PostgresServer,
) -> None:
    async def run() -> None:
        with PostgresServer.running() as server:
            world = World(control=ControlStore(open_control(server.url)._engine))
            await world.found("shard-0")
            server.kill()
            with pytest.raises(ControlUnavailableError):
                await world.control.read()
            server.start()
            assert (await world.document()).ring_epoch == 1
            await world.control.close()

    asyncio.run(run())


def test_transactions_of_many_processes_follow_one_another(
    postgres_server: PostgresServer,
) -> None:
    async def run() -> None:
        database = postgres_server.new_database()
        stores = [open_control(database) for _ in range(4)]
        world = World(control=stores[0])
        await world.found("shard-0")
        held = await stores[0].read()
        assert held is not None
        keys = [key_number(number) for number in range(40)]
        answers = await asyncio.gather(
            *(
                s.queue_repair("shard-0", [key], version=held.version)
                for s in stores
                for key in keys
            )
        )
        assert all(answers)
        repairs = await stores[1].repairs(100)
        assert [(each.key, each.asked) for each in repairs] == [(key, 4) for key in keys]
        await stores[2].repaired(repairs)
        document = held.document.go_on()
        results = await asyncio.gather(
            *(s.put(document, version=held.version) for s in stores), return_exceptions=True
        )
        assert sum(not isinstance(each, Exception) for each in results) == 1
        for store in stores:
            await store.close()

    asyncio.run(run())
