"""The outbox of a client: what it keeps until a verdict, when it tries again, what it holds.

The SDK's own schedule, its judgement of answers and its watermarks decide; a letter ends by a
verdict about an answer to its bytes and by nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from fractal_lba.endpoints import Fleet
from fractal_lba.held import Fate, Held
from fractal_lba.outbox import Entry
from fractal_lba.outcome import Position
from fractal_lba.region_status import RegionStatus, StreamStatus
from fractal_lba.retry import Result
from fractal_lba.schedule import (
    Acknowledge,
    Bury,
    Hold,
    Later,
    Pause,
    Schedule,
    Verdict,
    judge,
)

from ..waiting import NS_PER_MS, NS_PER_S
from .attempts import Rules
from .net import Failure
from .network import CLIENT
from .node import Heard, Node
from .records import Minted, mint

if TYPE_CHECKING:
    from .world import World

OUTBOX_WIDTH: Final = 100
"""Entries of the outbox under way at once, as lines of one batch."""

ASK_NS: Final = 5 * NS_PER_S
"""While something is held, a region is asked so often how far it is replicated."""

ASK_TIMEOUT_NS: Final = 2 * NS_PER_S


@dataclass(slots=True)
class Letter:
    """A record that the outbox keeps until a verdict about it."""

    number: int
    minted: Minted
    generation: int = 1
    canary: bool = False
    id: str = ""
    """Its name in the outbox."""

    def __post_init__(self) -> None:
        self.id = f"{self.number:016x}"


class Outbox:
    """What one population keeps."""

    world: World
    name: str
    tenant: str
    rules: Rules
    fleet: Fleet
    chance: Random

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._letters: dict[str, Letter] = {}
        self._schedule = Schedule(width_max=OUTBOX_WIDTH)
        self._scheduled: set[str] = set()
        self._held = Held()
        self._heard: tuple[str, str, int, int] | None = None
        self._wake: Any = None
        self._asking: Any = None
        self._flush_until_ns: int | None = None
        self._flushed: Callable[[], None] = lambda: None
        self.dead = 0
        """Letters that the server will never take."""

    def now_ms(self) -> int:
        """Give Unix milliseconds as the client knows them."""
        return self.world.unix_ms()

    def place(self) -> int:
        """Say from where a call is made, where that matters."""
        return 0

    def target(self, index: int, place: int) -> str:
        """Name the region to which an endpoint leads now, from a place."""
        raise NotImplementedError

    def _attempt(self, letter: Letter, done: Callable[[Any, Result], None]) -> None:
        raise NotImplementedError

    def hear(self, answer: Heard) -> None:
        """Hear how far a region is replicated."""
        watermark = answer.watermark
        if watermark is not None and watermark != self._heard and len(self._held):
            self._heard = watermark  # a second time it says nothing
            moved = self._held.hear(Position(*watermark))
            self._let_go(moved.released, moved.again)

    def _let_go(self, released: tuple[str, ...], again: tuple[str, ...]) -> None:
        for id in released:
            self._release(id)
        for id in again:
            self._queue(self._letters[id])
        if again:
            self._pump()

    def resign(self) -> None:
        """Sign again what waits, with the key that is in use, and let it be tried."""
        generation, forged = self.world.key_in_use(self.name)
        for letter in self._letters.values():
            minted = letter.minted
            again = mint(self.tenant, minted.label, minted.variant, generation, forged)
            letter.minted, letter.generation = again, generation
        self.try_again()

    def try_again(self) -> None:
        """End every pause, as a person does who knows that a refusal is over."""
        self._schedule.resume()
        self._pump()

    def _release(self, id: str) -> None:
        self._letters.pop(id, None)
        if id in self._scheduled:
            self._schedule.drop(id)
            self._scheduled.discard(id)

    def _settle(self, letter: Letter, answer: Any, result: Result) -> Verdict:
        """Decide what an end means for the letter, and do it."""
        if result.succeeded:
            verdict = self._judge_recorded(answer)
        else:
            code = answer.code or ""
            verdict = judge(
                result.status, code, code, b"", retry_after_ms=result.retry_after_ms,
                cancelled=False,
            )  # fmt: skip
        if not self.rules.has_outbox:
            return verdict
        id = letter.id
        match verdict:
            case Acknowledge():
                self._release(id)
                self._accepted(letter)
            case Hold(_, place):
                self._hold(letter, place)
            case Bury():
                self.dead += 1
                self._release(id)
            case Later():
                self._schedule_it(letter, in_flight=True)
                self._schedule.postpone(id, verdict, self.now_ms(), self.chance.random())
            case Pause(what):
                self._schedule_it(letter, in_flight=True)
                self._schedule.pause(id, what)
        if self._scheduled:
            self._pump()
        self._look_whether_flushed()
        return verdict

    def _judge_recorded(self, answer: Heard) -> Verdict:
        """Decide what a recorded submit means at the level of the client (formats 11.24)."""
        if self.rules.level == "durable" or answer.level != "durable" or answer.stored is None:
            return Acknowledge(answer.status)
        stored, own = answer.stored, answer.watermark
        region_epoch = stored.origin.region_epoch
        if own is not None and own[:2] == stored.origin[:2]:
            region_epoch = max(region_epoch, own[2])
        place = Position(stored.origin.region, stored.origin.placement, region_epoch, stored.seq)
        return Hold(answer.status, place)

    def _accepted(self, letter: Letter) -> None:
        """Widen the schedule, and end the pauses that an accepted entry shows to be over."""
        self._schedule.delivered()
        if self._schedule.blocked:
            self._schedule.resume_for(self._entry(letter))

    def _entry(self, letter: Letter) -> Entry:
        return Entry(
            letter.id, letter.minted.content, f"{self.tenant}-{letter.generation}", self.tenant,
            self.now_ms(), "", 0, len(letter.minted.body),
        )  # fmt: skip

    def _hold(self, letter: Letter, place: Position) -> None:
        self._accepted(letter)
        fate = self._held.fate(place)
        if fate is Fate.COVERED:
            self._release(letter.id)
        elif fate is Fate.PASSED:
            self._schedule_it(letter, in_flight=True)
            later = Later(endpoint_down=False)
            self._schedule.postpone(letter.id, later, self.now_ms(), self.chance.random())
        else:
            if letter.id in self._scheduled:
                self._schedule.drop(letter.id)
                self._scheduled.discard(letter.id)
            self._held.add(letter.id, place)
            self._ask_later()

    def _schedule_it(self, letter: Letter, *, in_flight: bool) -> None:
        if letter.id in self._scheduled:
            return
        self._scheduled.add(letter.id)
        self._schedule.add(self._entry(letter), in_flight=in_flight)

    def _queue(self, letter: Letter) -> None:
        self._schedule_it(letter, in_flight=False)

    def _pump(self) -> None:
        """Send what is due, and wake up when more is."""
        now_ms = self.now_ms()
        ids = self._schedule.take(now_ms, limit=OUTBOX_WIDTH, bytes_max=4_000_000)
        for id in ids:
            letter = self._letters[id]
            self._attempt(letter, partial(self._delivered, letter))
        next_ms = self._schedule.next_due_ms()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if next_ms is not None and next_ms > now_ms:
            wait_ns = (next_ms - now_ms) * NS_PER_MS
            self._wake = self.world.agenda.after(wait_ns, self._pump)

    def _delivered(self, letter: Letter, answer: Any, result: Result) -> None:
        self._settle(letter, answer, result)

    # --- what is held until it is replicated

    def _ask_later(self) -> None:
        if self._asking is None:
            self._asking = self.world.agenda.after(ASK_NS, self._ask)

    def _ask(self) -> None:
        """Ask the endpoints how far their regions are replicated."""
        self._asking = None
        if not len(self._held) or self.world.is_over:
            return
        for index in self.fleet.eligible:
            code = self.target(index, self.place())
            self.world.net.ask(
                CLIENT, code, 50, partial(_status, self.tenant), self._told,
                timeout_ns=ASK_TIMEOUT_NS,
            )  # fmt: skip
        self._ask_later()

    def _told(self, answer: Any) -> None:
        if isinstance(answer, RegionStatus):
            moved = self._held.hear(answer)
            for id, place in moved.moved:
                self._held.add(id, place)
            self._let_go(moved.released, moved.again)
            self._look_whether_flushed()

    # --- the end

    @property
    def waiting(self) -> int:
        """Count the letters that the outbox holds."""
        return len(self._letters)

    def flush(self, until_ns: int, done: Callable[[], None]) -> None:
        """Send what the outbox has; `done` is called when it is empty, or at that moment."""
        self._flushed = done
        self._flush_until_ns = until_ns
        self._schedule.hurry()
        self._pump()
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._ask()
        self.world.agenda.at(until_ns, self._end_flush)
        self._look_whether_flushed()

    def _look_whether_flushed(self) -> None:
        if self._flush_until_ns is not None and not self._letters:
            self._end_flush()

    def _end_flush(self) -> None:
        if self._flush_until_ns is not None:
            self._flush_until_ns = None
            self._flushed()


def _status(tenant: str, node: Node, reply: Callable[[Any, int], None]) -> None:
    if node.core is None:
        reply(Failure("unavailable", sent=True), 0)
        return
    streams = []
    for stream in node.core.streams.values():
        region, placement, region_epoch = stream.origin
        watermark = Position(region, placement, region_epoch, stream.levels.replicated)
        streams.append(StreamStatus(watermark, dict(stream.closed_epochs)))
    reply(RegionStatus(tuple(streams)), 200)
