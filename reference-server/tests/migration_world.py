"""A small world for migrations: dedup shards in memory, writers, and a judge of what they saw.

A writer here follows the contract of a router (spec/dedup.md 6) in its smallest form. The judge
knows only what clients were told, and what a client would be told now.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fractal_lba.canonical import jcs
from fractal_lba_server.core.dedup import (
    CLAIMED,
    DONE,
    Claim,
    Claimed,
    Entry,
    Found,
    ShardUnavailable,
    StaleRingEpoch,
    encode_stored,
)
from fractal_lba_server.core.first_write import Key, Order, Origin, Stored
from fractal_lba_server.core.migration_plan import Wish, make_plan
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo
from fractal_lba_server.dedup_migration import Coordinator
from fractal_lba_server.store.control import ControlStore, Held
from fractal_lba_server.store.control_engines import SqliteEngine
from fractal_lba_server.store.shards.memory import MemoryShard

NOW_MS = 1_790_000_000_000
ROUNDS = 200


def infos(*names: str) -> tuple[ShardInfo, ...]:
    return tuple(ShardInfo(name, 1, f"memory:{name}") for name in names)


def key_number(number: int, tenant: str = "acme") -> Key:
    return tenant, f"{number:064x}"


def done(key: Key, *, hlc: int = 1, seq: int = 1, expires_at_ms: int | None = None) -> Entry:
    """Make an outcome as a writer would."""
    content = f"{hlc:032x}{seq:032x}"
    stored = Stored(seq, content, 200, b'{"accepted":true}', Origin("eu1", "open", 1), hlc)
    order = Order(hlc, 0, 1, seq)
    return Entry(key, DONE, "eu1", content, order, encode_stored(stored), expires_at_ms)


class KilledError(BaseException):
    """End a coordinator or a writer at one point, as `kill -9` would."""


class Fault(MemoryShard):
    """A dedup shard that can be down, and that lets others run between request and answer."""

    def __init__(self, name: str, *, now_ms: Callable[[], int]) -> None:
        super().__init__(name, now_ms=now_ms)
        self.down = False
        self.chance: random.Random | None = None

    async def pass_by(self) -> None:
        if self.chance is not None:
            for _ in range(self.chance.randrange(4)):
                await asyncio.sleep(0)
        if self.down:
            raise ShardUnavailable(self.name, "down")


class InlineEngine(SqliteEngine):
    """The control store without its thread: a seed then gives the whole order of events."""

    def __init__(self, chance: random.Random | None) -> None:
        super().__init__(Path(":memory:"))
        self._chance = chance

    async def _call(self, function: Callable[..., object], *values: object) -> object:
        if self._chance is not None:
            for _ in range(self._chance.randrange(3)):
                await asyncio.sleep(0)
        return function(*values)

    def _soon(self, function: Callable[[], None]) -> None:
        function()


def _meeting(method: str) -> Callable[..., object]:
    async def call(self: Fault, *args: object, **options: object) -> object:
        await self.pass_by()
        result = await getattr(MemoryShard, method)(self, *args, **options)
        # The answer may be lost after the work was done.
        await self.pass_by()
        return result

    return call


for _method in (
    "claim", "complete", "release", "lookup", "put_if_first", "delete", "fence", "set_fence",
):  # fmt: skip
    setattr(Fault, _method, _meeting(_method))


class World:
    """Shards, a control store, a clock; coordinators and writers come and go."""

    def __init__(self, *, seed: int | None = None, control: ControlStore | None = None) -> None:
        self.now_ms = NOW_MS
        self.chance = None if seed is None else random.Random(seed)
        self.shards: dict[str, Any] = {}
        """Dedup shards in memory, unless a test puts others here."""
        self.control = control or ControlStore(InlineEngine(self.chance))
        self.accepted: dict[Key, list[Stored]] = {}
        self.answers: list[str] = []
        self.expiry: dict[Key, int | None] = {}
        self.writers: list[Writer] = []
        self.faults: list[str] = []

    def clock_ms(self) -> int:
        return self.now_ms

    async def open_shard(self, info: ShardInfo) -> Any:
        return self.shard(info.name)

    def shard(self, name: str) -> Any:
        if name not in self.shards:
            self.shards[name] = Fault(name, now_ms=self.clock_ms)
            self.shards[name].chance = self.chance
        return self.shards[name]

    async def found(self, *names: str) -> RingDocument:
        """Write the first ring document."""
        document = RingDocument(1, infos(*names))
        await self.control.create(document)
        for name in names:
            await self.shard(name).set_fence(1)
        return document

    def coordinator(self, step: Callable[[str], None] = lambda _: None) -> Coordinator:
        return Coordinator(self.control, self.open_shard, now_ms=self.clock_ms, step=step)

    async def plan(self, *names: str, **wish: object) -> bytes:
        held = await self.control.read()
        assert held is not None
        counts = {s.name: await self.shard(s.name).count() for s in held.document.shards}
        made = Wish(**{"pause_ms": 10_000, **wish})
        return jcs(make_plan(held.document, infos(*names), counts, made))

    def writer(self, name: str = "eu1") -> Writer:
        writer = Writer(self, name)
        self.writers.append(writer)
        return writer

    async def document(self) -> RingDocument:
        held = await self.control.read()
        assert held is not None
        return held.document

    async def judge(self) -> list[str]:
        """Say what a client was told or would be told now that is wrong."""
        faults = list(self.faults)
        document = await self.document()
        probe = self.writer("judge")
        for key, stored in self.accepted.items():
            if len(stored) > 1:
                faults.append(f"{key[1][-4:]} was accepted as new {len(stored)} times")
                continue
            expires_at_ms = self.expiry.get(key)
            if expires_at_ms is not None and expires_at_ms + 1_000 < self.now_ms:
                continue
            entry = (await self.shard(document.routes(key).authority).lookup([key]))[0]
            if entry is None or entry.state == CLAIMED:
                faults.append(f"{key[1][-4:]} was accepted and would be taken for new")
            elif entry.content != stored[0].content:
                faults.append(f"{key[1][-4:]} has another outcome than the first one")
            elif entry.expires_at_ms != expires_at_ms:
                faults.append(f"{key[1][-4:]} expires at another time")
        for key in [key for key in self.accepted if self.expiry.get(key) is None][:20]:
            answer = await probe.submit(key)
            faults += [f"a duplicate of {key[1][-4:]}: {answer}"] * (answer != "duplicate")
        return faults

    async def settle(self) -> None:
        """Let every writer finish what it began."""
        for writer in self.writers:
            await writer.flush()


class Writer:
    """Take in records through claims, as a router of a server does."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.held: Held | None = None
        self.frames: dict[Key, Entry] = {}
        """Durable frames whose entries are not complete yet: the log of this writer."""
        self.begun: dict[Key, str] = {}
        """Claims without a frame: what a writer that comes back releases."""
        self.seq = 0
        self.step: Callable[[str], None] = lambda _: None

    async def look(self, fence: int = 0) -> Held:
        held = await self.world.control.read()
        assert held is not None
        if held.document.ring_epoch < fence:
            # A pause of writes: wait a little, then end it (dedup 7.4).
            for _ in range(50):
                await asyncio.sleep(0)
            held = await self.world.control.read()
            assert held is not None
            if held.document.ring_epoch < fence:
                held = await self.world.control.end_pause(fence)
        self.held = held
        return held

    async def submit(self, key: Key, *, ttl_ms: int | None = None) -> str:
        """Give "new", "duplicate" or "unavailable"."""
        answer = await self._submit(key, ttl_ms)
        self.world.answers.append(answer)
        return answer

    async def _submit(self, key: Key, ttl_ms: int | None) -> str:
        if key in self.frames:  # its own log comes before any claim: a repeated claim is granted
            return "duplicate"
        for _ in range(ROUNDS):
            held = self.held or await self.look()
            try:
                verdict = await self._claim(key, held)
            except StaleRingEpoch as error:
                await self.look(error.current)
                continue
            except ShardUnavailable:
                await self._give_back(key)
                return "unavailable"
            if verdict == "again":
                await self.look()
                continue
            if verdict != "claimed":
                if verdict == "unavailable":
                    await self._give_back(key)
                return verdict
            return await self._write(key, ttl_ms)
        return "unavailable"

    async def _claim(self, key: Key, held: Held) -> str:
        routes = held.document.routes(key)
        claim = Claim(key, "c" * 64, self.name)
        ring_epoch = held.document.ring_epoch
        self.begun[key] = "claim"
        self.step("before the claim")
        verdict = (await self.world.shard(routes.authority).claim([claim], ring_epoch=ring_epoch))[
            0
        ]
        self.step("after the claim")
        if isinstance(verdict, Found):
            self.begun.pop(key, None)
            return "duplicate"
        if not isinstance(verdict, Claimed):
            self.begun.pop(key, None)
            return "unavailable"
        for name in routes.also:
            try:
                other = (await self.world.shard(name).claim([claim], ring_epoch=ring_epoch))[0]
            except ShardUnavailable:
                if not await self.world.control.queue_repair(name, [key], version=held.version):
                    return "again"
                continue
            if not isinstance(other, Claimed):
                return "unavailable"
        return "claimed"

    async def _write(self, key: Key, ttl_ms: int | None) -> str:
        self.seq += 1
        expires_at_ms = None if ttl_ms is None else self.world.now_ms + ttl_ms
        hlc = (self.world.now_ms << 16) + sum(map(ord, self.name)) % 997 * 1000 + self.seq
        entry = done(key, hlc=hlc, seq=self.seq, expires_at_ms=expires_at_ms)
        self.step("before the frame")
        self.frames[key] = entry
        self.begun.pop(key, None)
        stored = Stored(self.seq, entry.content, 200, b"", Origin("eu1", "open", 1), hlc)
        self.world.accepted.setdefault(key, []).append(stored)
        self.world.expiry[key] = expires_at_ms
        self.step("after the frame")
        await self._complete(key)
        return "new"

    async def _complete(self, key: Key) -> bool:
        """Put the outcome where the document says now; what fails stays in the log."""
        entry = self.frames[key]
        for _ in range(ROUNDS):
            held = self.held or await self.look()
            routes = held.document.routes(key)
            ring_epoch = held.document.ring_epoch
            try:
                await self.world.shard(routes.authority).complete([entry], ring_epoch=ring_epoch)
                self.step("completed at the authority")
                if await self._everywhere(routes.also, "complete", key, held, [entry]):
                    self.frames.pop(key, None)
                    return True
            except StaleRingEpoch as error:
                await self.look(error.current)
                continue
            except ShardUnavailable:
                return False
            await self.look()
        return False

    async def _everywhere(
        self, names: tuple[str, ...], method: str, key: Key, held: Held, *args: object
    ) -> bool:
        for name in names:
            try:
                call = getattr(self.world.shard(name), method)
                await call(*args, ring_epoch=held.document.ring_epoch)
            except ShardUnavailable:
                if not await self.world.control.queue_repair(name, [key], version=held.version):
                    return False
        return True

    async def _give_back(self, key: Key) -> bool:
        """Release a claim without a frame; what fails stays noted."""
        for _ in range(ROUNDS):
            held = self.held or await self.look()
            routes = held.document.routes(key)
            ring_epoch = held.document.ring_epoch
            try:
                authority = self.world.shard(routes.authority)
                await authority.release([key], self.name, ring_epoch=ring_epoch)
                if await self._everywhere(routes.also, "release", key, held, [key], self.name):
                    self.begun.pop(key, None)
                    return True
            except StaleRingEpoch as error:
                await self.look(error.current)
                continue
            except ShardUnavailable:
                return False
            await self.look()
        return False

    async def flush(self) -> None:
        """Complete frames and give back claims, as a writer does when it comes back."""
        self.step = lambda _: None
        for key in list(self.frames):
            await self._complete(key)
        for key in list(self.begun):
            await self._give_back(key)
