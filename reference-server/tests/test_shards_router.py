"""Several dedup shards behind one router: who is asked, who is not, and what nobody may call new.

The shards are real ones in memory or in SQLite files; `Breakable` lets one fail like a server
that is down, hangs, or answers after the fact.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from test_shards_contract import asynchronous, claim, done, key

from fractal_lba.errors import ConfigError
from fractal_lba.ring import Ring, Shard, ring_key
from fractal_lba_server.core.dedup import (
    Claimed,
    DedupShard,
    Entry,
    Found,
    Pending,
    ShardUnavailable,
    claim_entry,
)
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo
from fractal_lba_server.store.control import Held
from fractal_lba_server.store.shards import router
from fractal_lba_server.store.shards.following import FixedControl
from fractal_lba_server.store.shards.memory import MemoryShard
from fractal_lba_server.store.shards.opening import open_shard
from fractal_lba_server.store.shards.reach import Unavailable
from fractal_lba_server.store.shards.router import ShardedDedup

NAMES = ("shard-0", "shard-1", "shard-2")


def infos(*names: str) -> tuple[ShardInfo, ...]:
    return tuple(ShardInfo(name, 1, "memory:") for name in names)


STEADY = RingDocument(1, infos(*NAMES))


class Breakable:
    """A dedup shard whose calls fail before or after they were carried out, or wait."""

    def __init__(self, shard: DedupShard) -> None:
        self.shard = shard
        self.name = shard.name
        self.down = False
        self.loses_answers = False
        self.gate: asyncio.Event | None = None
        self.calls: list[str] = []

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(method)
            if self.gate is not None:
                await self.gate.wait()
            if self.down and method != "close":
                raise ShardUnavailable(self.name, "it is down")
            result = await getattr(self.shard, method)(*args, **kwargs)
            if self.loses_answers and method != "fence":
                raise ShardUnavailable(self.name, "the answer was lost")
            return result

        return call


class Region:
    """Dedup shards, and any number of processes that share them."""

    def __init__(self) -> None:
        self.shards: dict[str, Breakable] = {}

    async def open(self, info: ShardInfo) -> Any:
        if info.name not in self.shards:
            self.shards[info.name] = Breakable(MemoryShard(info.name))
        return self.shards[info.name]

    @asynccontextmanager
    async def node(
        self, name: str = "eu1", held: Held | None = None, control: Any = None
    ) -> AsyncIterator[ShardedDedup]:
        held = held or Held(STEADY, 1)
        dedup = ShardedDedup(
            held, control=control or FixedControl(held.document), open_shard=self.open, node=name
        )
        await dedup.start()
        try:
            yield dedup
        finally:
            await dedup.close()


def keys_of(shard: str, count: int, document: RingDocument = STEADY) -> list[Key]:
    numbers = (key(number) for number in range(10_000))
    return [each for each in numbers if document.routes(each).authority == shard][:count]


def claims(keys: Iterable[Key]) -> list[tuple[Key, str]]:
    return [(each, "c" * 64) for each in keys]


def done_all(keys: Iterable[Key]) -> list[Entry]:
    return [done(each) for each in keys]


async def until(ready: Any) -> None:
    for _ in range(1_000):
        if ready():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not happen")


@asynchronous
async def test_a_key_is_new_once_then_found_wherever_it_is_asked() -> None:
    keys = [key(number) for number in range(300)]
    region = Region()
    async with region.node("eu1") as one, region.node("eu1/b") as two:
        assert [Claimed(each) for each in keys] == await one.claim_many(claims(keys))
        expected = [Pending(claim_entry(claim(number))) for number in range(300)]
        assert expected == await two.claim_many(claims(keys))
        await one.complete_many(done_all(keys))
        assert [Found(entry) for entry in done_all(keys)] == await two.claim_many(claims(keys))
        assert done_all(keys) == await two.lookup_many(keys)
        assert {"found": 300, "pending": 300} == dict(two.counts)
    held = {name: await shard.shard.count() for name, shard in region.shards.items()}
    assert 300 == sum(held.values())
    for name, shard in region.shards.items():
        expected_keys = [each for each in keys if STEADY.routes(each).authority == name]
        assert len(expected_keys) == await shard.shard.count()


@asynchronous
async def test_one_round_trip_per_dedup_shard_carries_a_batch() -> None:
    region = Region()
    async with region.node() as dedup:
        for shard in region.shards.values():
            shard.calls.clear()
        await dedup.claim_many(claims(key(number) for number in range(300)))
        assert [["claim"]] * 3 == [shard.calls for shard in region.shards.values()]


@asynchronous
async def test_h01_an_owner_that_is_down_is_never_replaced_by_its_neighbour() -> None:
    """Literal: `Pick()` skips the shard that is down; judge: duplicates that are called new."""
    count = 8_000
    keys = [("acme", f"{random.Random(number).getrandbits(256):064x}") for number in range(count)]
    region = Region()
    async with region.node() as dedup:
        await dedup.merge_many(done_all(keys))
        region.shards["shard-1"].down = True
        answers = await dedup.claim_many(claims(keys))
        ring = Ring(Shard(name) for name in NAMES)
        literal_new = 0
        for each in keys:
            owner = next(name for name in ring.pick_n(ring_key(*each), 3) if name != "shard-1")
            (known,) = await region.shards[owner].shard.lookup([each])
            literal_new += known is None
    kinds = [type(answer) for answer in answers]
    share = ring.shares()["shard-1"]
    assert 0 == kinds.count(Claimed)
    assert len(keys) == kinds.count(Found) + kinds.count(Unavailable)
    assert literal_new == kinds.count(Unavailable)
    print(
        f"the literal Pick() accepts {literal_new / count:.4f}, its exact share {float(share):.4f}"
    )
    assert abs(literal_new / count - share) < 0.0204  # four standard deviations
    assert 0.293 < share < 0.295


@asynchronous
async def test_h05_two_views_of_health_never_make_a_key_new_twice() -> None:
    """Literal: each router walks on from shards that it takes for down; judge: keys new twice."""
    keys = [key(number) for number in range(300)]
    region = Region()
    async with region.node("eu1") as one, region.node("eu1/b") as two:
        one.reach.mark_down("shard-2", "as this router sees it")
        mine, theirs = await asyncio.gather(
            one.claim_many(claims(keys)), two.claim_many(claims(keys))
        )
    twice = sum(Claimed(k) == a == b for k, a, b in zip(keys, mine, theirs, strict=True))
    ring = Ring(Shard(name) for name in NAMES)
    literal_twice = sum(
        next(name for name in ring.pick_n(ring_key(*k), 2) if name != "shard-2")
        != ring.pick(ring_key(*k))
        for k in keys
    )
    assert 0 == twice
    assert literal_twice == sum(STEADY.routes(k).authority == "shard-2" for k in keys) > 50


@asynchronous
async def test_a_shard_that_is_down_costs_its_own_keys_an_answer_and_nothing_else() -> None:
    region = Region()
    async with region.node() as dedup:
        region.shards["shard-2"].down = True
        keys = [key(number) for number in range(90)]
        answers = await dedup.claim_many(claims(keys))
        for each, answer in zip(keys, answers, strict=True):
            owner = STEADY.routes(each).authority
            assert (Unavailable if owner == "shard-2" else Claimed) is type(answer)
        assert [("shard-0", True), ("shard-1", True), ("shard-2", False)] == [
            (health.dedup_shard, health.healthy) for health in dedup.health()
        ]
        region.shards["shard-2"].calls.clear()
        await dedup.claim_many(claims(keys_of("shard-2", 55)[50:]))
        assert "claim" not in region.shards["shard-2"].calls  # known to be down: not asked
        region.shards["shard-2"].down = False
        await until(lambda: dedup.reach.is_healthy("shard-2"))
        fresh = keys_of("shard-2", 70)[-1:]
        assert [Claimed(fresh[0])] == await dedup.claim_many(claims(fresh))


@asynchronous
async def test_h24_a_lost_answer_is_no_miss_and_the_claim_is_given_back_when_it_is_certain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Literal: an error is "not found"; judge: is the key new while its claim may stand?"""
    monkeypatch.setattr(router, "GIVE_UP_S", 0.6)
    region = Region()
    one_key = keys_of("shard-1", 1)
    async with region.node("eu1") as one, region.node("eu1/b") as two:
        shard = region.shards["shard-1"]
        shard.loses_answers = True
        (answer,) = await one.claim_many(claims(one_key))
        assert isinstance(answer, Unavailable)
        shard.loses_answers = False
        assert isinstance((await two.claim_many(claims(one_key)))[0], Pending)
        await until(lambda: one.reach.is_healthy("shard-1"))
        assert isinstance((await one.claim_many(claims(one_key)))[0], Pending)
        await until(lambda: not one._deferred)
        assert [Claimed(one_key[0])] == await two.claim_many(claims(one_key))


@asynchronous
async def test_completions_wait_for_a_shard_that_is_down_and_close_the_gate_when_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = keys_of("shard-0", 8)
    region = Region()
    async with region.node() as dedup:
        await dedup.claim_many(claims(keys))
        region.shards["shard-0"].down = True
        await dedup.complete_many(done_all(keys))
        lag = {lag.dedup_shard: lag.entries for lag in dedup.lags()}
        assert {"shard-0": 8, "shard-1": 0, "shard-2": 0} == lag
        monkeypatch.setattr(router, "DEFERRED_MAX", 8)
        elsewhere = keys_of("shard-1", 1)
        (refused,) = await dedup.claim_many(claims(elsewhere))
        assert Unavailable("", "8 completions wait for dedup shards") == refused
        region.shards["shard-0"].down = False
        await until(lambda: dedup.closed() is None)
        assert [Claimed(elsewhere[0])] == await dedup.claim_many(claims(elsewhere))
        assert done_all(keys) == await dedup.lookup_many(keys)


@asynchronous
async def test_a_release_lets_the_next_one_claim() -> None:
    region = Region()
    async with region.node("eu1") as one, region.node("eu1/b") as two:
        await one.claim_many(claims([key(1)]))
        await two.release_many([key(1)])  # not its claim
        assert isinstance((await two.claim_many(claims([key(1)])))[0], Pending)
        await one.release_many([key(1)])
        assert [Claimed(key(1))] == await two.claim_many(claims([key(1)]))


@asynchronous
async def test_one_request_per_key_is_under_way_in_a_process() -> None:
    region = Region()
    async with region.node() as dedup:
        shard = region.shards[STEADY.routes(key(1)).authority]
        shard.gate, shard.calls = asyncio.Event(), []
        asking = [asyncio.create_task(dedup.claim_many(claims([key(1)]))) for _ in range(20)]
        await asyncio.sleep(0.01)
        assert ["claim"] == shard.calls
        shard.gate.set()
        answers = [type(answer) for (answer,) in await asyncio.gather(*asking)]
        assert (1, 19) == (answers.count(Claimed), answers.count(Pending))
        assert ["claim"] == shard.calls
        shard.gate, shard.calls = asyncio.Event(), []
        looking = [asyncio.create_task(dedup.lookup_many([key(1)] * 2)) for _ in range(20)]
        await asyncio.sleep(0.01)
        assert ["lookup"] == shard.calls
        shard.gate.set()
        assert [[claim_entry(claim(1))] * 2] * 20 == await asyncio.gather(*looking)
        twice = await dedup.claim_many(claims([key(2), key(2)]))
        assert [Claimed, Pending] == [type(answer) for answer in twice]


@asynchronous
async def test_h09_the_first_write_stands_whatever_is_read_last() -> None:
    """Literal: read-repair takes the newest; judge: what stands after repairs in every order."""
    first, second = done(1, 1, content="1" * 64), done(1, 2, content="2" * 64)
    for order in ([first, second], [second, first]):
        region = Region()
        async with region.node() as dedup:
            for entry in order:
                (stands,) = await dedup.merge_many([entry])
            assert first == stands
        literal = max(order, key=lambda entry: entry.order or (0, 0, 0, 0))
        assert literal != first


@asynchronous
async def test_a_merge_with_a_shard_that_is_down_says_so() -> None:
    region = Region()
    async with region.node() as dedup:
        region.shards["shard-1"].down = True
        mine, other = keys_of("shard-1", 1) + keys_of("shard-2", 1)
        down, stands = await dedup.merge_many(done_all([mine, other]))
        assert isinstance(down, Unavailable)
        assert done(other) == stands
        assert isinstance((await dedup.lookup_many([mine]))[0], Unavailable)


# --- starts and ends -----------------------------------------------------------------------------


@asynchronous
async def test_a_restarted_node_completes_or_releases_what_it_had_claimed(tmp_path: Path) -> None:
    document = RingDocument(
        1, tuple(ShardInfo(name, 1, f"sqlite:///{tmp_path}/{name}.sqlite") for name in NAMES)
    )

    def start(node: str) -> ShardedDedup:
        return ShardedDedup(
            Held(document, 1), control=FixedControl(document), node=node,
            open_shard=lambda info: open_shard(info.name, info.url),
        )  # fmt: skip

    keys = [key(number) for number in range(30)]
    before, other = start("eu1"), start("eu1/b")
    await before.start()
    await before.claim_many(claims(keys[:20]))
    await other.start()
    await other.claim_many(claims(keys[20:]))
    await before.close()  # as killed: nothing is completed or released
    again = start("eu1")
    await again.start()
    durable = {each: done(each) for each in keys[:10]}

    def find(asked: Sequence[Key]) -> dict[Key, Entry]:
        return {each: durable[each] for each in asked if each in durable}

    new = await again.claim_many(claims(keys[19:20]))
    assert [Claimed(keys[19])] == new  # its own claim, taken up again
    assert 19 == await again.settle_own(find)
    found = await other.lookup_many(keys)
    assert [done(each) for each in keys[:10]] + [None] * 9 == found[:19]
    assert {"claimed"} == {entry.state for entry in found[19:] if isinstance(entry, Entry)}
    await again.close()
    await other.close()


@asynchronous
async def test_a_claim_whose_completion_waits_is_no_left_over() -> None:
    region = Region()
    (waiting,) = keys_of("shard-1", 1)
    async with region.node() as dedup:
        await dedup.claim_many(claims([waiting]))
        region.shards["shard-1"].down = True
        await dedup.complete_many([done(waiting)])
        settling = asyncio.create_task(dedup.settle_own(lambda _: {}))
        await asyncio.sleep(0.05)
        assert not settling.done()  # the shard is waited for
        region.shards["shard-1"].down = False
        assert 0 == await settling
        await until(lambda: not dedup._deferred)
        assert [done(waiting)] == await dedup.lookup_many([waiting])


@asynchronous
async def test_a_shard_that_is_not_fit_refuses_the_start_and_one_that_is_down_does_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "folder").mkdir()
    broken = RingDocument(1, (ShardInfo("shard-1", 1, f"sqlite:///{tmp_path}/folder"),))
    dedup = ShardedDedup(
        Held(broken, 1), control=FixedControl(broken), node="eu1",
        open_shard=lambda info: open_shard(info.name, info.url),
    )  # fmt: skip
    await dedup.start()
    assert [False] == [health.healthy for health in dedup.health()]
    assert isinstance((await dedup.claim_many(claims([key(1)])))[0], Unavailable)
    await dedup.close()
    unfit = RingDocument(1, (ShardInfo("shard-1", 1, "http://h/"),))
    dedup = ShardedDedup(
        Held(unfit, 1), control=FixedControl(unfit), node="eu1",
        open_shard=lambda info: open_shard(info.name, info.url),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="url of dedup shard shard-1"):
        await dedup.start()
    await dedup.close()


class Forgetful(Breakable):
    """A shard that can be filled again, as Redis has to be."""

    async def refill(
        self, entries: Iterable[Entry], *, ring_epoch: int, node: str, nodes: Sequence[str]
    ) -> bool:
        self.shard = MemoryShard(self.name)
        await self.shard.set_fence(ring_epoch)
        await self.shard.put_if_first(list(entries), ring_epoch=ring_epoch)
        self.down = False
        return True


@asynchronous
async def test_a_refill_brings_back_outcomes_and_the_claims_of_the_process() -> None:
    region = Region()
    region.shards["shard-1"] = Forgetful(MemoryShard("shard-1"))
    known, held, late = keys_of("shard-1", 3)
    elsewhere = keys_of("shard-2", 1)
    async with region.node() as dedup:
        await dedup.claim_many(claims([known, held, late]))
        await dedup.complete_many([done(known)])
        region.shards["shard-1"].down = True
        await dedup.complete_many([done(late)])
        assert await dedup.refill("shard-1", done_all([known, *elsewhere]))
        await until(lambda: dedup.reach.is_healthy("shard-1"))
        shard = region.shards["shard-1"].shard
        assert [done(known), claim_entry(claim(0))._replace(key=held), done(late), None] == (
            await shard.lookup([known, held, late, *elsewhere])
        )
        assert 2 == await shard.fence()
        fresh = keys_of("shard-1", 4)[3]
        assert [Claimed(fresh)] == await dedup.claim_many(claims([fresh]))
        assert 2 == dedup.document.ring_epoch
