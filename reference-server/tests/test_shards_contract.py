"""The contract of a dedup shard, for the engines that need no server: memory and SQLite.

services/test_shards_engines.py runs the same class against PostgreSQL and Redis.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fractal_lba.ring import HASHES
from fractal_lba_server.core import dedup
from fractal_lba_server.core.dedup import (
    Claim,
    Claimed,
    DedupShard,
    Entry,
    Found,
    Pending,
    StaleRingEpoch,
    Verdict,
)
from fractal_lba_server.core.first_write import Key, Origin, Stored
from fractal_lba_server.store.shards.memory import MemoryShard
from fractal_lba_server.store.shards.opening import open_shard

EVERYWHERE = [(0, HASHES - 1)]
GRACE_MS = 500
CHECKS_OFF = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
"""An engine serves all examples of a test, which open new shards; one test is of several classes."""


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, ms: int = 1_000_000) -> None:
        self.ms = ms

    def __call__(self) -> int:
        return self.ms


class Engine:
    """How tests open the shards of an engine: several openers of one name share its rows."""

    numbers = itertools.count()

    def __init__(self, url: Callable[[str], str]) -> None:
        self._url = url
        self.clock = Clock()

    def new_name(self) -> str:
        return f"s{next(self.numbers)}"

    @asynccontextmanager
    async def open(self, name: str | None = None) -> AsyncIterator[DedupShard]:
        name = name or self.new_name()
        shard = await open_shard(name, self._url(name), now_ms=self.clock, grace_ms=GRACE_MS)
        try:
            await shard.start()
            await self.prepare(shard)
            yield shard
        finally:
            await shard.close()

    async def prepare(self, shard: DedupShard) -> None:
        """Do what an engine needs before it answers."""


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))  # type: ignore[arg-type]  # a coroutine

    return run


def key(number: int, tenant: str = "acme") -> Key:
    return tenant, f"{number:064x}"


def claim(number: int, owner: str = "eu1", content: str = "c" * 64) -> Claim:
    return Claim(key(number), content, owner)


def done(
    number: int | Key,
    hlc: int = 5,
    *,
    owner: str = "eu1",
    content: str = "c" * 64,
    expires_at_ms: int | None = None,
    outcome: bytes = b'{"accepted":true}',
) -> Entry:
    stored = Stored(7, content, 200, outcome, Origin("eu1", "open", 1), hlc)
    place = key(number) if isinstance(number, int) else number
    return dedup.done_entry(place, stored, lambda _: 0, owner=owner, expires_at_ms=expires_at_ms)


KEYS = [key(number) for number in range(5)] + [("a\0b|c", "0" * 64)]
OWNERS = ["eu1", "eu1/b"]
OPS = st.one_of(
    st.tuples(
        st.just("claim"),
        st.lists(st.builds(Claim, st.sampled_from(KEYS), st.sampled_from("xy"),
                           st.sampled_from(OWNERS)), max_size=4),
    ),
    st.tuples(
        st.just("put"),
        st.lists(
            st.one_of(
                st.builds(
                    lambda at, hlc, owner, ms: done(at, hlc, owner=owner, expires_at_ms=ms),
                    st.sampled_from(KEYS), st.integers(1, 4), st.sampled_from(OWNERS),
                    st.sampled_from([None, 1_000_000, 1_002_000]),
                ),
                st.builds(lambda at, owner: dedup.claim_entry(Claim(at, "z", owner)),
                          st.sampled_from(KEYS), st.sampled_from(OWNERS)),
            ),
            max_size=4,
        ),
    ),
    st.tuples(st.just("release"), st.lists(st.sampled_from(KEYS), max_size=3),
              st.sampled_from(OWNERS)),
    st.tuples(st.just("delete"), st.lists(st.sampled_from(KEYS), max_size=2)),
    st.tuples(st.just("later"), st.sampled_from([100, 499, 1, 2_000])),
)  # fmt: skip


class Oracle:
    """The pure rule over a dict: what every engine has to answer."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[Key, Entry] = {}
        self._clock = clock

    def claim(self, claims: list[Claim]) -> list[Verdict]:
        return [self._claim(each) for each in claims]

    def _claim(self, each: Claim) -> Verdict:
        row = self.rows.get(each.key)
        verdict, stands = dedup.claim_row(row, each, self._clock.ms, grace_ms=GRACE_MS)
        self._set(each.key, stands)
        return verdict

    def put(self, entries: list[Entry]) -> list[Entry]:
        for entry in entries:
            row = self.rows.get(entry.key)
            stands = dedup.first_of(row, entry, self._clock.ms, grace_ms=GRACE_MS)
            self._set(entry.key, stands)
        return [self.rows[entry.key] for entry in entries]

    def release(self, keys: list[Key], owner: str) -> None:
        for each in keys:
            self._set(each, dedup.release_row(self.rows.get(each), owner))

    def delete(self, keys: list[Key]) -> int:
        return sum(self.rows.pop(each, None) is not None for each in keys)

    def _set(self, at: Key, entry: Entry | None) -> None:
        if entry is None:
            self.rows.pop(at, None)
        else:
            self.rows[at] = entry

    def in_order(self) -> list[Entry]:
        return [self.rows[each] for each in sorted(self.rows, key=dedup.place_of)]


async def follow(shard: DedupShard, oracle: Oracle, clock: Clock, op: Any) -> None:
    """Let shard and oracle take one step, and compare their answers."""
    match op:
        case "claim", claims:
            assert oracle.claim(claims) == await shard.claim(claims, ring_epoch=1)
        case "put", entries:
            standing = await shard.put_if_first(entries, ring_epoch=1)
            expected = oracle.put(entries)
            # Within a batch an engine may answer before or after later rows of the same key.
            last = {entry.key: at for at, entry in enumerate(entries)}
            assert [expected[at] for at in last.values()] == [standing[at] for at in last.values()]
        case "release", keys, owner:
            oracle.release(keys, owner)
            await shard.release(keys, owner, ring_epoch=1)
        case "delete", keys:
            assert oracle.delete(keys) == await shard.delete(keys, ring_epoch=1)
        case "later", ms:
            clock.ms += ms


class ShardContract:
    """What holds for each engine; a subclass gives the fixture `engine`."""

    @settings(max_examples=40, deadline=None, suppress_health_check=CHECKS_OFF)
    @given(ops=st.lists(OPS, max_size=14))
    def test_an_engine_answers_like_the_pure_rule(self, engine: Engine, ops: list[Any]) -> None:
        async def run() -> None:
            engine.clock.ms = 1_000_000
            oracle = Oracle(engine.clock)
            async with engine.open() as shard:
                for op in ops:
                    await follow(shard, oracle, engine.clock, op)
                found = await shard.scan(ranges=EVERYWHERE, after=None, limit=100)
                assert oracle.in_order() == found
                assert len(oracle.rows) == await shard.count()
                looked_up = await shard.lookup(KEYS)
                assert [oracle.rows.get(each) for each in KEYS] == looked_up

        asyncio.run(run())

    @asynchronous
    async def test_one_of_many_claimants_on_several_connections_wins(self, engine: Engine) -> None:
        name = engine.new_name()
        async with engine.open(name) as a, engine.open(name) as b, engine.open(name) as c:
            shards = [(a, b, c)[number % 3] for number in range(64)]
            claims = [[claim(number, f"n{owner}") for number in range(3)] for owner in range(64)]
            answers = await asyncio.gather(
                *(
                    shard.claim(each, ring_epoch=1)
                    for shard, each in zip(shards, claims, strict=True)
                )
            )
        for number in range(3):
            kinds = [type(answer[number]) for answer in answers]
            assert (1, 63) == (kinds.count(Claimed), kinds.count(Pending))

    @asynchronous
    async def test_batches_in_any_order_of_keys_do_not_block_each_other(
        self, engine: Engine
    ) -> None:
        name = engine.new_name()
        async with engine.open(name) as a, engine.open(name) as b, engine.open(name) as c:
            for turn in range(2):
                claims = [[claim(1_000 * turn + n, owner) for n in range(1_000)] for owner in "abc"]
                claims[1].reverse()
                random.Random(turn).shuffle(claims[2])
                answers = await asyncio.gather(
                    *(
                        shard.claim(each, ring_epoch=1)
                        for shard, each in zip((a, b, c), claims, strict=True)
                    )
                )
                won = [each for answer in answers for each in answer if type(each) is Claimed]
                assert 1_000 == len(won) == len(set(won))

    @asynchronous
    async def test_of_two_outcomes_that_have_expired_the_first_write_stands(
        self, engine: Engine
    ) -> None:
        async with engine.open() as shard:
            entries = [done(1, hlc, expires_at_ms=5) for hlc in (4, 3, 5)]
            for entry in entries:
                await shard.put_if_first([entry], ring_epoch=1)
            assert [entries[1]] == await shard.lookup([key(1)])

    @asynchronous
    async def test_the_first_write_stands_in_whatever_order_writes_arrive(
        self, engine: Engine
    ) -> None:
        entries = [done(1, hlc, content=f"{hlc:064x}") for hlc in (2, 1, 3)]
        for order in itertools.permutations(entries):
            async with engine.open() as shard:
                await shard.claim([claim(1, "us1")], ring_epoch=1)
                for entry in order:
                    await shard.put_if_first([entry], ring_epoch=1)
                assert [entries[1]] == await shard.lookup([key(1)])

    @asynchronous
    async def test_a_write_under_an_older_ring_epoch_changes_nothing(self, engine: Engine) -> None:
        async with engine.open() as shard:
            await shard.claim([claim(1)], ring_epoch=4)
            await shard.set_fence(5)
            writes: list[Awaitable[object]] = [
                shard.claim([claim(2)], ring_epoch=4),
                shard.complete([done(2)], ring_epoch=4),
                shard.put_if_first([done(2)], ring_epoch=4),
                shard.release([key(1)], "eu1", ring_epoch=4),
                shard.delete([key(1)], ring_epoch=4),
            ]
            for write in writes:
                with pytest.raises(StaleRingEpoch) as caught:
                    await write
                assert 5 == caught.value.current
            assert [dedup.claim_entry(claim(1)), None] == await shard.lookup([key(1), key(2)])
            assert [Claimed(key(1))] == await shard.claim([claim(1)], ring_epoch=5)
            assert [Claimed(key(2))] == await shard.claim([claim(2)], ring_epoch=6)

    @asynchronous
    async def test_a_fence_is_never_lowered(self, engine: Engine) -> None:
        name = engine.new_name()
        async with engine.open(name) as shard, engine.open(name) as other:
            await shard.set_fence(2**53 - 1)
            await other.set_fence(4)
            assert 2**53 - 1 == await shard.fence() == await other.fence()
            with pytest.raises(StaleRingEpoch) as caught:
                await other.claim([claim(1)], ring_epoch=2**53 - 2)
            assert 2**53 - 1 == caught.value.current

    @asynchronous
    async def test_a_scan_goes_on_behind_the_last_entry_of_a_page(self, engine: Engine) -> None:
        entries = [done(number) for number in range(50)]
        by_place = sorted(entries, key=lambda entry: dedup.place_of(entry.key))
        async with engine.open() as shard:
            await shard.put_if_first(entries, ring_epoch=1)
            for page in (1, 7, 50):
                found: list[Entry] = []
                after = None
                while part := await shard.scan(ranges=EVERYWHERE, after=after, limit=page):
                    assert len(part) <= page
                    found += part
                    after = (dedup.point_of(part[-1].key), part[-1].key)
                assert by_place == found

    @asynchronous
    async def test_ranges_are_inclusive_and_digested_alike_by_every_engine(
        self, engine: Engine
    ) -> None:
        entries = [done(number) for number in range(40)] + [done(("a\0b|c", "0" * 64))]
        entries.append(dedup.claim_entry(claim(99)))
        points = sorted(dedup.point_of(entry.key) for entry in entries)
        ranges = [
            (points[0], points[9]),
            (points[10] + 1, points[20] - 1),
            (points[20], points[20]),
        ]
        memory = MemoryShard("memory")
        async with engine.open() as shard:
            for each in (shard, memory):
                await each.put_if_first(entries, ring_epoch=1)
            assert await memory.digest(ranges) == await shard.digest(ranges)
            assert [10, 9, 1] == [count for count, _ in await shard.digest(ranges)]
            found = await shard.scan(ranges=ranges, after=None, limit=100)
            assert 20 == len(found)
            behind = (dedup.point_of(found[4].key), found[4].key)
            rest = await shard.scan(ranges=ranges, after=behind, limit=11)
            assert found[5:16] == rest
            assert [] == await shard.scan(ranges=[], after=None, limit=5)
            assert [] == await shard.digest([])

    @asynchronous
    async def test_a_batch_may_be_longer_than_a_statement_and_name_a_key_twice(
        self, engine: Engine
    ) -> None:
        async with engine.open() as shard:
            claims = [claim(number) for number in (*range(2_100), 3, 3)]
            answers = await shard.claim([*claims, claim(4, "us1")], ring_epoch=1)
            assert {Claimed} == {type(answer) for answer in answers[:-1]}
            assert Pending(dedup.claim_entry(claim(4))) == answers[-1]
            standing = await shard.put_if_first([done(3, 8), done(3, 7), done(3, 9)], ring_epoch=1)
            assert done(3, 7) == standing[-1]
            await shard.complete([done(number) for number in range(2_100)], ring_epoch=1)
            found = await shard.lookup([key(number) for number in (0, 2_099, 2_100)])
            assert [done(0), done(2_099), None] == found
            assert 2_100 == await shard.delete([each.key for each in claims], ring_epoch=1)
            assert 0 == await shard.count()

    @asynchronous
    async def test_an_entry_outlives_its_expiry_by_the_grace_band(self, engine: Engine) -> None:
        async with engine.open() as shard:
            engine.clock.ms = 10_000
            entry = done(1, expires_at_ms=10_000)
            await shard.put_if_first([entry], ring_epoch=1)
            engine.clock.ms = 10_000 + GRACE_MS - 1
            assert [Found(entry)] == await shard.claim([claim(1)], ring_epoch=1)
            engine.clock.ms += 1
            assert [Claimed(key(1))] == await shard.claim([claim(1)], ring_epoch=1)

    @asynchronous
    async def test_what_is_written_is_there_for_the_next_opener(self, engine: Engine) -> None:
        name = engine.new_name()
        async with engine.open(name) as shard:
            await shard.put_if_first([done(1)], ring_epoch=1)
            await shard.set_fence(3)
        if self.keeps:
            async with engine.open(name) as shard:
                assert [done(1)] == await shard.lookup([key(1)])
                assert 3 == await shard.fence()

    @asynchronous
    async def test_h12_an_expiry_is_copied_and_never_counted_anew(self, engine: Engine) -> None:
        """Literal: GET without PTTL, then SET with a new TTL; judge: both expire at one time."""
        ttl_ms = 14 * 86_400_000
        async with engine.open() as source, engine.open() as target, engine.open() as literal:
            engine.clock.ms = 0
            await source.put_if_first([done(1, expires_at_ms=ttl_ms)], ring_epoch=1)
            engine.clock.ms = ttl_ms // 2
            entries = await source.scan(ranges=EVERYWHERE, after=None, limit=10)
            await target.put_if_first(entries, ring_epoch=1)
            counted_anew = [entry._replace(expires_at_ms=ttl_ms + ttl_ms // 2) for entry in entries]
            await literal.put_if_first(counted_anew, ring_epoch=1)
            engine.clock.ms = ttl_ms + GRACE_MS
            verdicts = [
                type((await shard.claim([claim(1)], ring_epoch=1))[0])
                for shard in (source, target, literal)
            ]
            assert [Claimed, Claimed, Found] == verdicts

    @asynchronous
    async def test_h15_a_tenant_neither_reads_nor_squats_the_id_of_another(
        self, engine: Engine
    ) -> None:
        """Literal: the key is the id alone; judge: what tenant b is told about an id of a."""
        mine, theirs = key(1, "a"), key(1, "b")
        async with engine.open() as shard, engine.open() as literal:
            await shard.put_if_first([done(mine)], ring_epoch=1)
            await literal.put_if_first([done(("", mine[1]))], ring_epoch=1)
            ours = await shard.claim([Claim(theirs, "d" * 64, "eu1")], ring_epoch=1)
            assert [Claimed(theirs)] == ours
            leaked = await literal.claim([Claim(("", theirs[1]), "d" * 64, "eu1")], ring_epoch=1)
            assert [Found(done(("", mine[1])))] == leaked

    @asynchronous
    async def test_h16_other_content_under_an_id_is_told_from_a_duplicate(
        self, engine: Engine
    ) -> None:
        """Literal: keep the outcome alone; judge: does a changed body look like a duplicate?"""
        async with engine.open() as shard:
            await shard.put_if_first([done(1, content="a" * 64)], ring_epoch=1)
            ours = [
                isinstance(verdict, Found) and verdict.entry.content == content
                for content in ("a" * 64, "b" * 64)
                for verdict in await shard.claim([claim(1, content=content)], ring_epoch=1)
            ]
            literal = {key(1): done(1).stored}
            theirs = [literal.get(key(1)) is not None for _ in ("a" * 64, "b" * 64)]
            assert [True, False] == ours  # the caller answers 409 to the second
            assert [True, True] == theirs  # a duplicate, 200: the client believes it was verified

    keeps = True


class TestMemory(ShardContract):
    keeps = False

    @pytest.fixture
    def engine(self) -> Engine:
        kept: dict[str, DedupShard] = {}

        class Shared(Engine):
            @asynccontextmanager
            async def open(self, name: str | None = None) -> AsyncIterator[DedupShard]:
                name = name or self.new_name()
                if name not in kept:
                    kept[name] = await open_shard(
                        name, "memory:", now_ms=self.clock, grace_ms=GRACE_MS
                    )
                    await kept[name].start()
                yield kept[name]
                await kept[name].close()

        return Shared(lambda name: "memory:")


class TestSqlite(ShardContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        return Engine(lambda name: f"sqlite:///{tmp_path}/{name}.sqlite")
