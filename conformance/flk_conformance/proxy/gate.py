"""Hold the requests of one connection until it is known what a scripted fault does to each.

One exchange is under way at a time and a request is forwarded when it is whole, so that a fault
hits the answer it was meant for. Without faults nothing goes through here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from .faults import Faults, Rule
from .messages import Follower, Message


class Seen(Protocol):
    """What keeps the record of a connection."""

    def sent(self, data: bytes, now_ns: int) -> None: ...

    def received(self, data: bytes, now_ns: int) -> None: ...

    def spoil(self, fault: str) -> None: ...


class Ends(Protocol):
    """The two ends of a connection."""

    def forward(self, data: bytes) -> None: ...

    def forward_end(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Gate:
    """Lets the exchanges of one connection through, one by one."""

    def __init__(
        self,
        faults: Callable[[], Faults | None],
        named: Callable[[str, str], str | None],
        seen: Seen,
        ends: Ends,
    ) -> None:
        self._faults = faults
        self._named = named
        self._seen = seen
        self._ends = ends
        self._held = bytearray()
        self._followed = 0
        self._request = Follower(answers=False)
        self._answer = Follower(answers=True)
        self._kept = bytearray()
        self._rule: Rule | None = None
        self._busy = False
        self._ended = False

    def sent(self, data: bytes) -> None:
        """Take what the client sent."""
        self._held += data
        self._go_on()

    def ended(self) -> None:
        """Take the end of what the client sends; it is passed on after all that is held."""
        self._ended = True
        self._pass_end()

    def _pass_end(self) -> None:
        if self._busy or not self._ended:
            return
        if self._held:  # what will never be whole
            data = bytes(self._held)
            self._held.clear()
            self._ends.forward(data)
            self._seen.sent(data, time.monotonic_ns())
        self._ends.forward_end()

    def _go_on(self) -> None:
        if self._busy:
            return
        new = bytes(self._held[self._followed :])
        self._followed += self._request.feed(new, time.monotonic_ns()) if new else 0
        message = self._request.message
        if message.is_whole or message.is_broken:
            data = bytes(self._held[: self._followed])
            del self._held[: self._followed]
            self._followed = 0
            self._busy = True
            self._decide(message, data)

    def _decide(self, message: Message, data: bytes) -> None:
        faults = self._faults()
        if faults is not None:
            operation = self._named(message.method, message.target)
            self._rule = faults.choose(message.method, message.target, operation)
        self._answer.to_head = message.method == "HEAD"
        self._seen.sent(data, time.monotonic_ns())
        if self._rule is None:
            self._ends.forward(data)
            return
        self._seen.spoil(self._rule.do)
        if self._rule.do == "status":
            answer = self._rule.answer()
            self._ends.write(answer)
            self._seen.received(answer, time.monotonic_ns())
            self._next()
        elif self._rule.do == "delay":
            loop = asyncio.get_running_loop()
            loop.call_later(self._rule.ms / 1000, self._ends.forward, data)
        else:
            self._ends.forward(data)

    def received(self, data: bytes) -> None:
        """Take what the server sent."""
        kept = self._rule is not None and self._rule.do in ("lost", "cut")
        if kept:
            self._kept += data
        else:
            self._ends.write(data)
            self._seen.received(data, time.monotonic_ns())
        while data:
            data = data[self._answer.feed(data, time.monotonic_ns()) :]
            message = self._answer.message
            if message.is_whole and message.status < 200:
                self._answer.start_next()
            elif message.is_whole and kept:
                self._spoil()
                return
            elif message.is_whole:
                self._next()

    def _spoil(self) -> None:
        """Keep the answer back, or all but its beginning."""
        assert self._rule is not None
        raw = bytes(self._kept)
        self._seen.received(raw, time.monotonic_ns())
        if self._rule.do == "lost":
            self._ends.abort()
            return
        head_bytes = raw.find(b"\r\n\r\n") + 4
        self._ends.write(raw[: head_bytes + self._rule.kept_bytes])
        self._ends.close()

    def _next(self) -> None:
        self._request.start_next()
        self._answer.start_next()
        self._rule, self._busy = None, False
        self._go_on()
        self._pass_end()
