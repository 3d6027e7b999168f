"""What lies between two ends: delays, queues for bandwidth, loss, cuts.

The invariant of this file: a cut holds messages and loses none; what is held goes on when the cut
heals, unless its sender has died meanwhile. Bytes sent = delivered + dropped + in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from random import Random
from typing import Final

from ..streams import Streams
from ..waiting import NS_PER_S, Agenda
from .setup import Setup, Wire

CLIENT: Final = "client"
ARBITER: Final = "arbiter"
CHECKER: Final = "checker"

LOSSES_MAX: Final = 64
"""A message that was lost so often in a row arrives all the same: loss 1 is a cut."""

Pair = tuple[str, str]


@dataclass(slots=True)
class _Change:
    """What faults do to one direction of a link."""

    cuts: int = 0
    rejects: int = 0
    delay_ns: int = 0
    losses: list[float] = field(default_factory=list)
    bytes_per_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Bytes:
    """What one direction of a link has carried."""

    sent: int = 0
    delivered: int = 0
    dropped: int = 0
    in_flight: int = 0


@dataclass(slots=True, eq=False)
class Message:
    """Something under way."""

    pair: Pair
    size: int
    arrive: Callable[[], None]
    life: int
    """Of the sender: a message of an earlier life is dropped."""


class Net:
    """All links. Ends are region codes, `client`, `arbiter` and `checker`."""

    def __init__(self, setup: Setup, agenda: Agenda) -> None:
        self._setup, self._agenda = setup, agenda
        self._streams: Streams = setup.streams
        self._changes: dict[Pair, _Change] = {}
        self._alone: Counter[str] = Counter()
        self._free_ns: dict[Pair, int] = {}
        self._held: list[Message] = []
        self._lives: Counter[str] = Counter()
        self._marks: dict[Pair, str] = {}
        self._chances: dict[Pair, dict[str, Random]] = {}
        self.carried: dict[Pair, Bytes] = {}
        self.effects: Counter[Pair] = Counter()
        """Messages and calls that met a change, by direction; a fault counts them as its own."""

    # --- what faults do

    def change(self, begin: str, end: str) -> _Change:
        """Give what is changed of one direction."""
        return self._changes.setdefault((begin, end), _Change())

    def cut(self, begin: str, end: str, by: int = 1) -> None:
        """Cut one direction, or with -1 mend it."""
        self.change(begin, end).cuts += by

    def reject(self, begin: str, end: str, by: int = 1) -> None:
        """Answer in one direction with a reset, or with -1 let pass again."""
        self.change(begin, end).rejects += by

    def rejected(self, begin: str, end: str) -> bool:
        """Say whether a connection is reset rather than lost."""
        change = self._changes.get((begin, end))
        return change is not None and change.rejects > 0

    def isolate(self, end: str, by: int = 1) -> None:
        """Cut every link of one end, or mend them."""
        self._alone[end] += by

    def died(self, end: str) -> None:
        """Drop what an end had under way."""
        self._lives[end] += 1

    def begin_anew(self, one: str, other: str, mark: str) -> None:
        """Have the chance of a link from now on depend on what is to come, not on what was.

        So what a link does before one event is the same whatever else the scenario holds.
        """
        for pair in ((one, other), (other, one)):
            if self._marks.get(pair) != mark:
                self._marks[pair] = mark
                self._chances.pop(pair, None)

    def _chance(self, pair: Pair, cause: str) -> Random:
        chances = self._chances.setdefault(pair, {})
        if cause not in chances:
            names = ("link", *(self._name(end) for end in pair), cause, self._marks.get(pair, ""))
            chances[cause] = self._streams.anew().of(*names)
        return chances[cause]

    # --- what everybody asks

    def passes(self, begin: str, end: str) -> bool:
        """Say whether anything gets from one end to the other."""
        if self._alone[begin] or self._alone[end]:
            return False
        change = self._changes.get((begin, end))
        return change is None or not (change.cuts or change.rejects)

    def both(self, one: str, other: str) -> bool:
        """Say whether a question is answered."""
        return self.passes(one, other) and self.passes(other, one)

    def wire(self, begin: str, end: str) -> Wire:
        """Give a direction as it is now."""
        wire = self._setup.wire(begin, end)
        change = self._changes.get((begin, end))
        if change is None:
            return wire
        limits = [b for b in (wire.bytes_per_s, *change.bytes_per_s) if b is not None]
        return Wire(
            wire.delay_ns + change.delay_ns, wire.jitter_ns, min(limits, default=None),
            1 - (1 - wire.loss) * prod(1 - loss for loss in change.losses),
        )  # fmt: skip

    def round_trip_ns(self, one: str, other: str) -> int:
        """Give the delay there and back, with the mean of the jitter."""
        there, back = self.wire(one, other), self.wire(other, one)
        return there.delay_ns + back.delay_ns + (there.jitter_ns + back.jitter_ns) // 2

    def send(
        self, begin: str, end: str, size: int, arrive: Callable[[], None], *, extra_ns: int = 0
    ) -> None:
        """Send a message; `arrive` is called when it is there, after `extra_ns` more."""
        pair = (begin, end)
        count = self.carried.setdefault(pair, Bytes())
        count.sent += size
        count.in_flight += size
        message = Message(pair, size, arrive, self._lives[begin])
        if not self.passes(begin, end):
            self._held.append(message)
            self.effects[pair] += 1
            return
        self._agenda.after(self._takes_ns(pair, size) + extra_ns, self._arrives, message)

    def _takes_ns(self, pair: Pair, size: int) -> int:
        wire = self.wire(*pair)
        now_ns = self._agenda.now_ns
        begin_ns = now_ns
        if wire.bytes_per_s is not None and size:
            begin_ns = max(now_ns, self._free_ns.get(pair, 0))
            begin_ns += round(size * NS_PER_S / wire.bytes_per_s)
            self._free_ns[pair] = begin_ns
        took_ns = begin_ns - now_ns + wire.delay_ns
        if wire.jitter_ns:
            took_ns += int(self._chance(pair, "jitter").random() * wire.jitter_ns)
        if wire.loss:
            chance = self._chance(pair, "loss")
            for _ in range(LOSSES_MAX):
                if chance.random() >= wire.loss:
                    break
                took_ns += self._setup.shipping.retry_ns
                self.effects[pair] += 1
        change = self._changes.get(pair)
        if change is not None and (change.delay_ns or change.bytes_per_s):
            self.effects[pair] += 1
        return took_ns

    def _name(self, end: str) -> str:
        """Name an end for a stream: regions by their rank, so that codes are only names."""
        return str(self._setup.rank(end)) if end in self._setup.regions else end

    def _arrives(self, message: Message) -> None:
        begin, end = message.pair
        count = self.carried[message.pair]
        if message.life != self._lives[begin]:
            count.in_flight -= message.size
            count.dropped += message.size
            return
        if not self.passes(begin, end):
            self._held.append(message)
            self.effects[message.pair] += 1
            return
        count.in_flight -= message.size
        count.delivered += message.size
        message.arrive()

    def mended(self) -> None:
        """Let go on what is not held any more."""
        held, self._held = self._held, []
        for message in held:
            begin, end = message.pair
            if message.life != self._lives[begin]:
                self._arrives(message)
            elif self.passes(begin, end):
                wait_ns = self._takes_ns(message.pair, message.size)
                self._agenda.after(wait_ns, partial(self._arrives, message))
            else:
                self._held.append(message)
