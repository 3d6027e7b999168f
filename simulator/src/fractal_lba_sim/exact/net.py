"""Own the exchanges between ends: a request goes there, an answer comes back, or neither does.

The invariant of this file: whoever asked hears exactly once, and hears of an answer only if it
came within the time; what was done there may have been done all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from ..waiting import Agenda, Life
from .network import CLIENT, NEAR_NS, Link

ANYBODY: Final = "*"

REQUEST_BYTES: Final = 200
"""What a request or an answer weighs beside its body."""

REFUSALS: Final = range(400, 500)
"""Statuses of HTTP that say that nothing was done."""


class Failure(NamedTuple):
    """There was no answer: why, and whether a byte of the request may have arrived."""

    code: str
    sent: bool


LATE: Final = Failure("attempt_timeout", sent=True)


class Reply(Protocol):
    """Gives an answer of so many bytes."""

    def __call__(self, value: Any, size: int) -> None: ...


Serve = Callable[[Any, Reply], object]
Done = Callable[[Any], object]


class Program(Protocol):
    """What runs at an end."""

    life: Life


@dataclass(slots=True)
class End:
    """One end of links: a region, the arbiter."""

    code: str
    program: Any = None
    """The process that runs there, or None."""
    vanished: bool = False
    """Nothing answers, not even with a refusal."""
    refusing: dict[str, None] = field(default_factory=dict)
    """Ends whose connections are refused; ANYBODY for all."""
    refused: int = 0
    swallowed: int = 0
    waiting: dict[_Exchange, str] = field(default_factory=dict)
    """Who waits for the process that runs there, and where."""


class _Exchange:
    """One exchange under way."""

    __slots__ = (
        "_back", "_done", "_end", "_life", "_on_way", "_serve", "_source", "is_over", "is_refused",
        "is_served", "timer",
    )  # fmt: skip

    def __init__(
        self, source: str, end: End, back: Link, serve: Serve, done: Done, life: Life,
        on_way: dict[_Exchange, None],
    ) -> None:  # fmt: skip
        self._source = source
        self._end = end
        self._back = back
        self._serve = serve
        self._done = done
        self._life = life
        self._on_way = on_way
        self.is_over = self.is_served = self.is_refused = False
        self.timer: Any = None

    def arrived(self) -> None:
        """Have the request, which has come, served there, unless nobody serves."""
        end, source = self._end, self._source
        if end.vanished:
            end.swallowed += 1
            return
        is_refused = bool(end.refusing) and (source in end.refusing or ANYBODY in end.refusing)
        program = end.program
        if program is None or is_refused:
            end.refused += is_refused
            failure = Failure("connect_failed", sent=False)
            self._back.send(REQUEST_BYTES, self.finish, failure)
            return
        # What came twice is done twice. Whoever speaks HTTP hears of the first time alone: told of
        # the second, a client would take the answer to its own write for one to another's. And
        # nobody sends again what was refused: a refusal says that nothing was recorded.
        if self.is_served and source == CLIENT:
            if not self.is_refused:
                program.life.run(self._serve, program, _unheard)
            return
        self.is_served = True
        end.waiting[self] = source
        life: Life = program.life
        reply = partial(self._reply, life)
        if life.ended or life.paused:
            life.run(self._serve, program, reply)
        else:
            self._serve(program, reply)

    def _reply(self, life: Life, value: Any, size: int) -> None:
        """Send an answer back, unless whoever gives it has ended."""
        if not life.ended:
            self.is_refused = getattr(value, "status", 0) in REFUSALS
            self._end.waiting.pop(self, None)
            self._back.send(size + REQUEST_BYTES, self.finish, value)

    def finish(self, value: Any) -> None:
        if not self.is_over:
            self.is_over = True
            self._on_way.pop(self, None)
            if self.timer is not None:
                self.timer.cancel()
            life = self._life
            if life.ended or life.paused:
                life.run(self._done, value)
            else:
                self._done(value)


def _unheard(value: Any, size: int) -> None:
    """Have an answer that nobody hears."""


class Net:
    """Every end and every link."""

    def __init__(self, agenda: Agenda, links: Mapping[tuple[str, str], Link]) -> None:
        self.agenda = agenda
        self.links = links
        self.ends: dict[str, End] = {}
        self.always = Life(agenda)
        """The life of who never ends: clients and checkers."""
        self._asked: dict[tuple[str, str], dict[_Exchange, None]] = {}
        """By the ends of a connection: who waits on it."""

    def ask(
        self, source: str, target: str, size: int, serve: Serve, done: Done, *,
        timeout_ns: int, life: Life | None = None,
    ) -> None:  # fmt: skip
        """Have `serve` called at the target; `done` hears its answer, or a Failure."""
        ways = (source, target)
        on_way = self._asked.get(ways)
        if on_way is None:
            on_way = self._asked[ways] = {}
        end, back = self.ends[target], self.links[target, source]
        exchange = _Exchange(source, end, back, serve, done, life or self.always, on_way)
        on_way[exchange] = None
        exchange.timer = self.agenda.give_up_after(timeout_ns, exchange.finish, LATE)
        self.links[ways].send(size + REQUEST_BYTES, exchange.arrived)

    def dropped(self, code: str, *, silent: bool) -> None:
        """Tell those who waited for a process that has ended, unless its machine is gone too."""
        end = self.ends[code]
        waiting, end.waiting = end.waiting, {}
        for exchange, source in waiting.items():
            if not silent:
                failure = Failure("connection_lost", sent=True)
                self.links[code, source].send(0, exchange.finish, failure)

    def reset(self, a: str, b: str) -> None:
        """End every connection between two ends, and tell those who waited on one."""
        failure = Failure("connection_lost", sent=True)
        for pair in ((a, b), (b, a)):
            self.links[pair].reset()
            for exchange in self._asked.pop(pair, {}):
                self.agenda.after(NEAR_NS, exchange.finish, failure)
