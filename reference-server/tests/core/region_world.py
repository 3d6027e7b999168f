"""Regions in simulated time: the server's ingest machine on disks, links and clocks that fail.

Disks forget what was not synced, links delay, lose and are cut, clocks stand apart within their
bound, processes end at any moment and come up from what is durable: their log, their mirrors of
other regions' logs, and a store that is behind both. What it must come to is in
`region_judge.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

import simpy
from ingest_machine import DIRECTORY, MS, NOW_NS
from region import signed
from region_judge import Judge, Store, expect
from region_links import Link, Steps

from fractal_lba_server.contract import record_shape
from fractal_lba_server.core import ingest
from fractal_lba_server.core.facts import Facts, read_facts
from fractal_lba_server.core.first_write import Apply, Key, Origin
from fractal_lba_server.core.ingest import Ingest, Settings
from fractal_lba_server.core.ingest_events import (
    Answer,
    Append,
    Ask,
    BodyReceived,
    Effect,
    FramesLost,
    FrameSynced,
    PeerMerged,
    Refuse,
    SetTimer,
    SpaceReturned,
    StoreAnswered,
    StoreFailed,
    TimerFired,
    ViewApplied,
)
from fractal_lba_server.core.policy import PolicyBook
from fractal_lba_server.core.segment import read_frame
from fractal_lba_server.core.streams import StreamStart

CODES = ("eu1", "us1", "ap1")
SKEW_MS = 240
"""Two clocks stand at most twice as far apart; the bound of the server is 500 ms."""

REPLICATED_WAIT_MS = 60
SETTLE_MS = 2_500
"""More than every wait that a machine may set."""

BUSY_MS = 260
"""How long clients write before everything is healed."""


class Body(NamedTuple):
    """A record that clients send."""

    data: bytes
    key: Key
    content: str


@cache
def bodies() -> tuple[Body, ...]:
    """Make few ids with three contents each, so that regions meet."""
    made = []
    for number in range(4):
        for r in (0.381, 0.4, 0.42):
            record = signed(f"regions-{number}", r=r)
            made.append(Body(record.body, ("acme", record.pcs_id), record.content))
    return tuple(made)


@lru_cache(maxsize=100_000)
def facts_of(data: bytes, region: str, region_epoch: int) -> Facts:
    """Read the facts of a frame's bytes."""
    return read_facts(read_frame(data, 0), Origin(region, "open", region_epoch))


class Frame(NamedTuple):
    """A frame on a disk, with the region epoch of its segment."""

    data: bytes
    region: str
    region_epoch: int

    @property
    def facts(self) -> Facts:
        """Read it."""
        return facts_of(*self)


@dataclass(slots=True)
class Disk:
    """What one region holds durably; it outlives the process."""

    region: str
    region_epoch: int = 1
    log: list[Frame] = field(default_factory=list)
    mirrors: dict[str, list[Frame]] = field(default_factory=dict)
    store: Store = field(default_factory=Store)

    def frames(self) -> Iterator[Facts]:
        """Give every durable frame, own and mirrored."""
        for stream in (self.log, *self.mirrors.values()):
            for frame in stream:
                yield frame.facts

    def holds(self, region: str, seq: int) -> bool:
        """Tell whether a frame of a stream is here."""
        stream = self.log if region == self.region else self.mirrors[region]
        return len(stream) >= seq


class Wrong(NamedTuple):
    """A planted bug: another machine, other rules of merging, or another environment."""

    machine: type[Ingest] = Ingest
    rules: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    store: type[Store] = Store
    acks_before_sync: bool = False
    merges_before_sync: bool = False
    opens_before_mirrors: bool = False
    clock_of_own_log: bool = False


RIGHT = Wrong()


class World:
    """One history: regions, links between them, clients, and the judge who watches."""

    def __init__(self, seed: int, wrong: Wrong) -> None:
        self.chance = chance = random.Random(seed)
        self.env = simpy.Environment()
        self.wrong = wrong
        self.is_calm = False
        """Whether everything works from now on."""
        codes = CODES[: chance.choice((2, 2, 3))]
        self.rank = CODES.index
        self.judge = Judge(codes, CODES.index)
        same = chance.random() < 0.4  # clocks that agree make ties
        self.regions = {
            code: Region(self, code, 0 if same else chance.randint(-SKEW_MS, SKEW_MS))
            for code in codes
        }
        for region in self.regions.values():
            region.disk.mirrors = {code: [] for code in codes if code != region.code}
        self.judge.disks = {code: one.disk for code, one in self.regions.items()}
        self.links = [
            Link(self, a, b)
            for a in self.regions.values()
            for b in self.regions.values()
            if a is not b
        ]
        self._tokens = iter(range(1, 1_000_000))

    def run(self) -> Judge:
        """Run it to its end; raises FaultError where the judge finds a fault."""
        self.env.run(until=self.env.process(self._history()))
        return self.judge

    def _history(self) -> Steps:
        env, chance = self.env, self.chance
        for region in self.regions.values():
            region.start()
            env.process(self._crashes(region))
        env.process(self._partitions())
        while env.now < BUSY_MS:
            yield env.timeout(chance.choice((0, 1, 4, 15)))
            self._some_client()
        self.is_calm = True
        for link in self.links:
            link.is_up = True
        for region in self.regions.values():
            if region.life is None:
                region.start()
        yield env.timeout(SETTLE_MS)
        expect(not self.judge.waiting, "every request has its answer")
        self.judge.judge_convergence()
        yield from self._ask_again()

    def _some_client(self) -> None:
        chance = self.chance
        regions = list(self.regions.values())
        if chance.random() < 0.15:  # different contents of one id, everywhere at once
            number = chance.randrange(4) * 3
            for place, region in enumerate(regions):
                self._submit(region, bodies()[number + place])
            return
        self.env.process(self._client(chance.choice(regions), chance.choice(bodies())))

    def _client(self, region: Region, body: Body) -> Steps:
        """Send a record; who hears nothing, or that it is unavailable, goes to another region."""
        for _ in range(self.chance.randint(1, 3)):
            token = self._submit(region, body)
            yield self.env.timeout(self.chance.uniform(5, 80))
            answer = self.judge.answers.get(token)
            if answer is not None and not (
                isinstance(answer, Refuse) and answer.code == "unavailable"
            ):
                return
            region = self.chance.choice(list(self.regions.values()))

    def _submit(self, region: Region, body: Body, level: str | None = None) -> int:
        token = next(self._tokens)
        if region.life is not None:
            level = level or self.chance.choice((None, "durable", "replicated", "replicated"))
            self.judge.asked(token, region.code, body.key, body.content, level or "durable")
            region.life.feed(BodyReceived(token, body.data, level=level))
        return token

    def _ask_again(self) -> Steps:
        """Submit each content in each region: what the healed regions answer is one thing."""
        for body in bodies():
            if body.key not in self.judge.winners:
                continue
            tokens = []
            for region in self.regions.values():
                tokens.append(self._submit(region, body, "durable"))
                yield self.env.timeout(20)
            self.judge.judge_healed(body.key, body.content, tokens)

    def _crashes(self, region: Region) -> Steps:
        chance = self.chance
        while chance.random() < 0.6:
            yield self.env.timeout(chance.uniform(0, BUSY_MS / 2))
            if self.is_calm:
                return
            region.crash()
            yield self.env.timeout(chance.uniform(1, 60))
            if self.is_calm:
                return
            region.start()

    def _partitions(self) -> Steps:
        chance = self.chance
        while not self.is_calm:
            yield self.env.timeout(chance.uniform(0, 80))
            cut = chance.choice(list(self.regions.values()))
            both = chance.random() < 0.7
            for link in self.links:
                if link.origin is cut or (both and link.peer is cut):
                    link.is_up = self.is_calm
            yield self.env.timeout(chance.uniform(10, 120))
            for link in self.links:
                link.is_up = True


class Region:
    """One region: a disk for ever, and a process now and then."""

    def __init__(self, world: World, code: str, offset_ms: int) -> None:
        self.world = world
        self.code = code
        self.offset_ms = offset_ms
        self.disk = Disk(code, store=world.wrong.store())
        self.life: Life | None = None

    def now_ns(self) -> int:
        """Give what the clock of this region shows."""
        return NOW_NS + int((self.world.env.now + self.offset_ms) * MS)

    def start(self) -> None:
        """Come up: the store is brought up to the logs, and only then are records taken."""
        disk, chance = self.disk, self.world.chance
        if chance.random() < 0.2:
            disk.region_epoch += 1
        streams = [disk.log, *disk.mirrors.values()]
        if self.world.wrong.opens_before_mirrors:
            streams = [disk.log]
        chance.shuffle(streams)
        for stream in streams:
            for frame in stream:
                facts = frame.facts
                if not disk.store.has(facts.stored):
                    standing = disk.store.standing.get(facts.key)
                    rank = self.world.rank
                    row = ingest.resolve(facts.key, facts.stored, facts.kid, standing, rank)
                    expect(row is not None, "the store does not run ahead of the logs")
                    disk.store.apply(row)
        self.life = Life(self)

    def crash(self) -> None:
        """End the process; of what was not synced, some is on the disk."""
        if self.life is None:
            return
        chance, life = self.world.chance, self.life
        self.life = None
        life.end()
        survivors = chance.randint(0, len(life.written))
        self.disk.log += [Frame(d, self.code, e) for _, d, e in life.written[:survivors]]
        self.world.judge.crashed(self.code)
        self.disk.store = self.disk.store.reopened(lost=chance.choice((0, 0, 1, 3, 8)))


class Life:
    """One process from its start to its end: the machine, and what carries its effects out."""

    def __init__(self, region: Region) -> None:
        self.region, self.world = region, region.world
        self.env, self.chance, self.judge = self.world.env, self.world.chance, self.world.judge
        disk = self.disk = region.disk
        self.dead = False
        frames = disk.frames()
        if self.world.wrong.clock_of_own_log:
            frames = (frame.facts for frame in disk.log)
        last = max((facts.stored.hlc for facts in frames), default=0)
        self.core = self.world.wrong.machine(
            Settings(region.code, recent_max=64, replicated_wait_ms=REPLICATED_WAIT_MS),
            check=record_shape().check,
            directory=DIRECTORY,
            policies=_POLICIES,
            streams=[
                StreamStart(
                    region_epoch=disk.region_epoch,
                    next_seq=len(disk.log) + 1,
                    peers=tuple(disk.mirrors),
                    copies=2,
                )
            ],
            last_hlc=last,
            rank=self.world.rank,
        )
        self.written: list[tuple[int, bytes, int]] = []
        """Handed to the log, not yet durable."""
        self.rows: list[Apply] = []
        self.merges: dict[object, simpy.Event] = {}
        self._applied = 0
        self._timer = 0
        self._carriers: dict[type, Callable[[Any], None]] = {
            Append: self._append,
            Ask: self._ask,
            Apply: self.rows.append,
            Answer: lambda effect: self.judge.hears(region.code, effect),
            Refuse: lambda effect: self.judge.hears(region.code, effect),
            PeerMerged: self._merged,
            SetTimer: self._set_timer,
        }
        self.env.process(self._sync())
        self.env.process(self._apply())

    def end(self) -> None:
        """End it."""
        self.dead = True

    def feed(self, event: object) -> None:
        """Give the machine an event and carry out what it says."""
        if self.dead:
            return
        effects: list[Effect] = self.core.on_event(event, self.region.now_ns())
        for effect in effects:
            self._carriers[type(effect)](effect)
        if self.world.wrong is RIGHT:
            # Why an answer that is on its way cannot contradict what the machine has forgotten.
            both = self.core._asking.keys() & self.core._recent.keys()
            expect(not both, "asked about or known, not both")

    def later(self, delay: float, event: object) -> None:
        """Give an event after a while."""
        self.env.process(self._after(delay, event))

    def _after(self, delay: float, event: object) -> Steps:
        yield self.env.timeout(delay)
        self.feed(event)

    def _append(self, effect: Append) -> None:
        stamp = read_frame(effect.frame, 0).hlc
        self.judge.writes(self.region.code, stamp)
        epoch = self.disk.region_epoch
        self.written.append((effect.seq, effect.frame, epoch))

    def _ask(self, effect: Ask) -> None:
        store, chance = self.disk.store, self.chance
        found = StoreAnswered(effect.key, store.standing.get(effect.key), store.others(effect.key))
        if not self.world.is_calm and chance.random() < 0.12:
            self.later(chance.uniform(0, 3), StoreFailed(effect.key))
        elif chance.random() < 0.4:  # read now, answered later
            self.later(chance.uniform(0, 12), found)
        else:
            self.feed(found)

    def _set_timer(self, effect: SetTimer) -> None:
        self._timer += 1
        self.env.process(self._fire(self._timer, effect.at_ns))

    def _fire(self, number: int, at_ns: int) -> Steps:
        yield self.env.timeout(max(0, at_ns - self.region.now_ns()) / MS)
        if number == self._timer:
            self.feed(TimerFired())

    def _merged(self, effect: PeerMerged) -> None:
        self.merges.pop(effect.token).succeed(effect.displaced)

    def _sync(self) -> Steps:
        """Write groups of frames and sync them, one group after the other."""
        chance = self.chance
        while not self.dead:
            yield self.env.timeout(chance.uniform(0.1, 6))
            if self.dead or not self.written:
                continue
            if not self.world.is_calm and chance.random() < 0.08:
                yield from self._lose()
                continue
            group = list(self.written)
            yield self.env.timeout(chance.uniform(0, 8))
            if self.dead:
                return
            self.disk.log += [Frame(d, self.region.code, e) for _, d, e in group]
            del self.written[: len(group)]
            self.feed(FrameSynced(group[-1][0]))

    def _lose(self) -> Steps:
        lost_from = len(self.disk.log) + 1
        yield self.env.timeout(self.chance.uniform(0, 4))
        if self.dead:
            return
        self.feed(FramesLost(lost_from))
        self.written.clear()
        yield self.env.timeout(self.chance.uniform(0, 8))
        self.feed(SpaceReturned())

    def _apply(self) -> Steps:
        """Follow the machine into the store, and say so only afterwards."""
        while not self.dead:
            yield self.env.timeout(self.chance.uniform(1, 12))
            if self.dead or not self.rows or self.chance.random() < 0.2:
                continue
            batch, self.rows[:] = list(self.rows), []
            for row in batch:
                self.disk.store.apply(row)
            yield self.env.timeout(self.chance.uniform(0, 4))
            self._applied += len(batch)
            self.feed(ViewApplied(self._applied))


_POLICIES = PolicyBook()
