"""A small world for migrations: dedup shards, writers and a coordinator, judged like any other.

The rules of a row, of the ring document and of the migration are the server's core. What is here
carries their effects out: shards that are down, answers that come too late, writers that learn of
a ring by being refused, a coordinator that ends in the middle. A scenario's step `migrate` moves
to as many shards; moving back within the window is the rollback.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from operator import methodcaller
from typing import Any, Final, NamedTuple

from fractal_lba_server.core import dedup
from fractal_lba_server.core.dedup import (
    Claim,
    Claimed,
    Entry,
    Found,
    ShardUnavailable,
    StaleRingEpoch,
    Verdict,
)
from fractal_lba_server.core.first_write import Key, Order, Origin, Stored
from fractal_lba_server.core.migration import Migration
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo

from ...streams import Streams
from ...waiting import NS_PER_MS, NS_PER_S, Agenda, Life

START_MS: Final = 1_767_225_600_000
TRIP_MS: Final = (1.0, 8.0)
"""Shortest and longest way of a message."""

SILENCE_NS: Final = 300 * NS_PER_MS
"""How long one waits for a dedup shard that is down."""

ROUNDS_MAX: Final = 40
"""Times that a writer reads the ring document again before it says that nothing can be taken."""

REST_NS: Final = 20 * NS_PER_MS
SHARDS_MAX: Final = 8

Steps = Generator[int, None, Any]
"""What a process does, and how many nanoseconds it waits between."""


def infos(count: int) -> tuple[ShardInfo, ...]:
    """Give so many shards of weight one."""
    return tuple(ShardInfo(f"s{n}", 1, f"memory:s{n}") for n in range(1, count + 1))


class Shard:
    """One dedup shard: rows, a fence, and whether it answers."""

    def __init__(self, name: str, now_ms: Callable[[], int]) -> None:
        self.name = name
        self.rows: dict[Key, Entry] = {}
        self.fence = 0
        self.is_down = False
        self._now_ms = now_ms

    def _pass(self, ring_epoch: int) -> None:
        if ring_epoch < self.fence:
            raise StaleRingEpoch(self.fence)

    def _put(self, key: Key, entry: Entry | None) -> None:
        self.rows.pop(key, None)
        if entry is not None:
            self.rows[key] = entry

    def claim(self, claim: Claim, ring_epoch: int) -> Verdict:
        """Decide about a claim."""
        self._pass(ring_epoch)
        verdict, row = dedup.claim_row(self.rows.get(claim.key), claim, self._now_ms())
        self._put(claim.key, row)
        return verdict

    def put_if_first(self, entry: Entry, ring_epoch: int) -> Entry:
        """Put an entry that comes before what stands."""
        self._pass(ring_epoch)
        stands = dedup.first_of(self.rows.get(entry.key), entry, self._now_ms())
        self._put(entry.key, stands)
        return stands

    def release(self, key: Key, owner: str, ring_epoch: int) -> None:
        """Take back a claim."""
        self._pass(ring_epoch)
        self._put(key, dedup.release_row(self.rows.get(key), owner))

    def lookup(self, key: Key) -> Entry | None:
        """Give what stands."""
        return self.rows.get(key)

    def scan(self, lo: int, hi: int) -> list[Entry]:
        """Give the entries of a range in order."""
        found = [row for row in self.rows.values() if lo <= dedup.point_of(row.key) <= hi]
        return sorted(found, key=lambda row: dedup.place_of(row.key))

    def delete(self, key: Key, ring_epoch: int) -> None:
        """Delete an entry."""
        self._pass(ring_epoch)
        self._put(key, None)

    def set_fence(self, ring_epoch: int) -> None:
        """Refuse what is older from now on."""
        self.fence = max(self.fence, ring_epoch)


class Repair(NamedTuple):
    """A second write that failed."""

    shard: str
    key: Key


@dataclass(slots=True)
class Control:
    """What all processes share: the ring document, the migration's state, the repair queue."""

    document: RingDocument
    state: Migration | None = None
    repairs: list[Repair] = field(default_factory=list)
    sealed_epoch: int = 0

    def queue_repair(self, repair: Repair, ring_epoch: int) -> bool:
        """Note a failed second write, if the document is still the one it was made under."""
        if ring_epoch != self.document.ring_epoch or self.sealed_epoch >= ring_epoch:
            return False
        self.repairs.append(repair)
        return True


class Frame(NamedTuple):
    """A record in the log of the region: what its dedup entry must say."""

    entry: Entry
    number: int


class ShardWorld:
    """Shards, control store and clock, and what every process of it may ask."""

    def __init__(self, *, shards: int, seed: int, ttl_ms: int | None, kind: type[Shard]) -> None:
        self.agenda = Agenda()
        self.streams = Streams(seed)
        self.shards = {info.name: kind(info.name, self.now_ms) for info in infos(SHARDS_MAX)}
        self.control = Control(RingDocument(1, infos(shards)))
        self.ttl_ms = ttl_ms
        self.log: list[Frame] = []
        self.numbers = 0
        self.wants_back = False
        """Whether somebody has ordered to roll the migration back."""
        self.steps = 0
        self.disk_waits_ns = 0
        """How much longer than usual a write of a frame takes."""
        self.slow_writes = 0
        """How many writes took longer."""

    def now_ms(self) -> int:
        """Give Unix time."""
        return START_MS + self.agenda.now_ns // NS_PER_MS

    def start(self, life: Life, steps: Steps) -> None:
        """Run a process until it ends, or its life does."""
        for wait_ns in steps:
            life.after(wait_ns, self._go_on, life, steps)
            return

    def _go_on(self, life: Life, steps: Steps) -> None:
        self.steps += 1
        self.start(life, steps)

    def trip_ns(self, name: str) -> int:
        """Draw how long a message takes."""
        return int(self.streams.of("trip", name).uniform(*TRIP_MS) * NS_PER_MS)

    def disk_ns(self) -> int:
        """Draw how long it takes until a frame is durable."""
        self.slow_writes += self.disk_waits_ns > 0
        return self.trip_ns("disk") + self.disk_waits_ns

    def ask(self, name: str, call: Callable[[Shard], Any]) -> Steps:
        """Ask a dedup shard; raises ShardUnavailable, perhaps after it has done its part."""
        shard = self.shards[name]
        yield self.trip_ns(name)
        if shard.is_down:
            yield SILENCE_NS
            raise ShardUnavailable(name, "down")
        result = call(shard)
        yield self.trip_ns(name)
        if shard.is_down:
            yield SILENCE_NS
            raise ShardUnavailable(name, "its answer did not come")
        return result


class Writer:
    """One process that takes records in, as a router of the server does."""

    def __init__(self, world: ShardWorld, name: str) -> None:
        self.world = world
        self.name = name
        self.life = Life(world.agenda)
        self.held = world.control.document
        self.incomplete: dict[Key, Entry] = {}
        """Durable frames whose entries are not where they belong yet."""
        self._busy: set[Key] = set()

    def look(self, fence: int = 0) -> Steps:
        """Read the ring document; one that is fenced and not there yet ends a pause."""
        for _ in range(ROUNDS_MAX):
            yield self.world.trip_ns(self.name)
            self.held = self.world.control.document
            if self.held.ring_epoch >= fence:
                return
            yield REST_NS
        control = self.world.control
        control.document = self.held = control.document.go_on(fence)

    def submit(self, key: Key, content: str) -> Steps:
        """Give `new`, `duplicate`, `conflict` or `refused`, with the outcome where there is one."""
        while key in self._busy:  # who owns a claim is given it again: one at a time asks
            yield REST_NS
        self._busy.add(key)
        try:
            return (yield from self._submit(key, content))
        finally:
            self._busy.discard(key)

    def _submit(self, key: Key, content: str) -> Steps:
        if key in self.incomplete:
            return self._known(self.incomplete[key], content)
        for _ in range(ROUNDS_MAX):
            held = self.held
            try:
                verdict = yield from self.claim(key, content, held)
            except StaleRingEpoch as error:
                yield from self.look(error.current)
                continue
            except ShardUnavailable:
                yield from self._give_back(key)
                return "refused", None
            if verdict == "again":
                yield from self.look()
                continue
            if isinstance(verdict, Found):
                return self._known(verdict.entry, content)
            if not isinstance(verdict, Claimed):
                return "refused", None
            return (yield from self._write(key, content))
        return "refused", None

    def _known(self, entry: Entry, content: str) -> tuple[str, Entry]:
        return ("duplicate" if entry.content == content else "conflict"), entry

    def claim(self, key: Key, content: str, held: RingDocument) -> Steps:
        """Ask who decides, and claim with the other ring as well."""
        routes = held.routes(key)
        claim = Claim(key, content, self.name)
        epoch = held.ring_epoch
        verdict = yield from self.world.ask(routes.authority, methodcaller("claim", claim, epoch))
        if not isinstance(verdict, Claimed):
            return verdict
        for name in routes.also:
            try:
                other = yield from self.world.ask(name, methodcaller("claim", claim, epoch))
            except ShardUnavailable:
                if not self.note_repair(name, key, epoch):
                    return "again"
                continue
            if not isinstance(other, Claimed):
                yield from self._give_back(key)
                return other
        return verdict

    def note_repair(self, name: str, key: Key, ring_epoch: int) -> bool:
        """Note a second write that failed."""
        return self.world.control.queue_repair(Repair(name, key), ring_epoch)

    def expires_at_ms(self) -> int | None:
        """Say when a new entry ends."""
        ttl_ms = self.world.ttl_ms
        return None if ttl_ms is None else self.world.now_ms() + ttl_ms

    def _write(self, key: Key, content: str) -> Steps:
        self.world.numbers += 1
        number = self.world.numbers
        hlc = (self.world.now_ms() << 16) + number
        stored = Stored(number, content, 200, b"{}", Origin("euw", "open", 1), hlc)
        order = Order(hlc, 0, 1, number)
        encoded = dedup.encode_stored(stored)
        ends_ms = self.expires_at_ms()
        entry = Entry(key, dedup.DONE, self.name, content, order, encoded, ends_ms)
        yield self.world.disk_ns()
        self.world.log.append(Frame(entry, number))
        self.incomplete[key] = entry
        self.world.start(self.life, self.complete(key))
        return "new", entry

    def complete(self, key: Key) -> Steps:
        """Put the outcome where the document says now; go on until it is there."""
        while key in self.incomplete:
            entry, held = self.incomplete[key], self.held
            routes, epoch = held.routes(key), held.ring_epoch
            try:
                yield from self.world.ask(
                    routes.authority, methodcaller("put_if_first", entry, epoch)
                )
                whole = yield from self._everywhere(
                    routes.also, key, epoch, methodcaller("put_if_first", entry, epoch)
                )
                if whole:
                    self.incomplete.pop(key, None)
                    return
            except StaleRingEpoch as error:
                yield from self.look(error.current)
                continue
            except ShardUnavailable:
                yield SILENCE_NS
            yield from self.look()

    def _everywhere(
        self, names: tuple[str, ...], key: Key, epoch: int, call: Callable[[Shard], Any]
    ) -> Steps:
        for name in names:
            try:
                yield from self.world.ask(name, call)
            except ShardUnavailable:
                if not self.note_repair(name, key, epoch):
                    return False
        return True

    def _give_back(self, key: Key) -> Steps:
        """Release a claim without a frame, as long as it takes."""
        for _ in range(ROUNDS_MAX):
            held = self.held
            routes, epoch = held.routes(key), held.ring_epoch
            try:
                for name in (routes.authority, *routes.also):
                    yield from self.world.ask(name, methodcaller("release", key, self.name, epoch))
            except StaleRingEpoch as error:
                yield from self.look(error.current)
                continue
            except ShardUnavailable:
                yield SILENCE_NS
                continue
            return


def expected(world: ShardWorld) -> Iterator[Entry]:
    """Give what the log says that the dedup shards must hold."""
    first: dict[Key, Entry] = {}
    for frame in world.log:
        first.setdefault(frame.entry.key, frame.entry)
    yield from first.values()


def state_digest(entries: Iterator[Entry]) -> tuple[str, int]:
    """Digest entries: key, outcome and expiry of each."""
    rows = sorted(
        f"{entry.key} {entry.content} {entry.order} {entry.expires_at_ms}" for entry in entries
    )
    return sha256("\n".join(rows).encode()).hexdigest(), len(rows)


def as_ns(seconds: float) -> int:
    """Give nanoseconds."""
    return int(seconds * NS_PER_S)
