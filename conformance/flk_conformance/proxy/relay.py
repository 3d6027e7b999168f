"""Forward bytes between clients and one server, unchanged, and report what was exchanged.

This file owns the promise that bytes pass as they came: what is received on one side is written to
the other before anybody looks at it, and nothing is ever added. Followers (messages.py) then find
requests and answers in copies. Only with scripted faults is a request held until it is whole
(gate.py), and only a fault keeps bytes back or writes some of its own.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, cast
from urllib.parse import urlsplit

from .faults import Faults
from .gate import Gate
from .messages import Follower, Message

CONNECT_S: Final = 10.0
"""How long the server may take to accept a connection."""

BUFFER_BYTES: Final = 1_048_576
"""How much one side may be ahead of the other before reading from it stops."""

Named = Callable[[str, str], str | None]
"""Gives the operation of a method and a target, or None."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer; `answer` is None if none came."""

    number: int
    connection: int
    case: str
    request: Message
    answer: Message | None = None
    fault: str = ""
    """What a scripted fault did to it."""


Told = Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the server is."""

    host: str
    port: int
    tls: ssl.SSLContext | None


def upstream_of(url: str) -> Upstream:
    """Read a base URL; raises ValueError. A path is not taken: targets pass unchanged."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{url}: expected http://host:port or https://host:port without a path")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    return Upstream(parts.hostname, parts.port or (443 if tls else 80), tls)


class Relay:
    """All connections of one proxy. `case` names what the next requests belong to."""

    def __init__(
        self, upstream: Upstream, told: Told, *, faults: Faults | None = None, named: Named
    ) -> None:
        self.upstream = upstream
        self.case = ""
        self.faults = faults
        self.named = named
        self._told = told
        self._exchanges = 0
        self._connections = 0
        self._open: set[Front] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; give the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Front(self), host, port, backlog=1_024)
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def stop(self) -> None:
        """Close everything; what was open is reported as it stands."""
        if self._server is not None:
            self._server.close()
        for front in list(self._open):
            front.abort()
        await asyncio.sleep(0)  # the transports report their ends in the next turn

    def enter(self, front: Front) -> int:
        """Take in a connection and number it."""
        self._open.add(front)
        self._connections += 1
        return self._connections

    def leave(self, front: Front) -> None:
        """Forget a connection."""
        self._open.discard(front)

    def begin(self, connection: int, request: Message) -> Exchange:
        """Give a new exchange the next number."""
        self._exchanges += 1
        return Exchange(self._exchanges, connection, self.case, request)

    def tell(self, exchange: Exchange) -> None:
        """Report an exchange that is over."""
        self._told(exchange)


class Watch:
    """Finds the exchanges of one connection in copies of its bytes."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._requests = Follower(answers=False)
        self._answers = Follower(answers=True)
        self._open: deque[Exchange] = deque()
        self._begun: Message | None = None
        self._unasked: deque[Message] = deque()
        self.number = 0

    def sent(self, data: bytes, now_ns: int) -> None:
        """Take what the client sent."""
        requests = self._requests
        while data:
            if self._begun is not requests.message:
                self._begun = requests.message
                self._open.append(self._relay.begin(self.number, requests.message))
            data = data[requests.feed(data, now_ns) :]
            if self._unasked and requests.message.has_head:
                self._close_first(self._unasked.popleft())
            if requests.message.is_whole:
                requests.start_next()

    def received(self, data: bytes, now_ns: int) -> None:
        """Take what the server sent."""
        answers = self._answers
        while data:
            answers.to_head = bool(self._open) and self._open[0].request.method == "HEAD"
            data = data[answers.feed(data, now_ns) :]
            if answers.message.is_whole:
                self._answered()

    def _answered(self) -> None:
        message = self._answers.message
        if message.status >= 200 or message.status == 101:
            if self._open:
                self._close_first(message)
            else:  # a server that refuses a connection answers before it is asked
                self._unasked.append(message)
        self._answers.start_next()

    def _close_first(self, answer: Message | None) -> None:
        if not self._open:
            return
        exchange = self._open.popleft()
        exchange.answer = answer
        request = exchange.request
        if not request.is_whole:  # answered before it was; the rest still comes
            exchange.request = replace(request, body=bytearray(request.body))
            if not request.ended_ns:
                exchange.request.ended_ns = answer.started_ns if answer else time.monotonic_ns()
        self._relay.tell(exchange)

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is under way."""
        return not self._open and self._requests.is_idle

    def spoil(self, fault: str) -> None:
        """Note what a scripted fault does to the exchange that waits for its answer."""
        if self._open:
            self._open[0].fault = fault

    def ended(self) -> None:
        """Report what has no answer, or half of one."""
        now_ns = time.monotonic_ns()
        self._requests.end(now_ns)
        self._answers.end(now_ns)
        if not self._answers.is_idle or self._answers.message.has_head:
            self._close_first(self._answers.message)
        while self._unasked:
            if not self._open:
                self._open.append(self._relay.begin(self.number, Message(started_ns=now_ns)))
            self._close_first(self._unasked.popleft())
        while self._open:
            self._close_first(None)


class _Side(asyncio.Protocol):
    """What both ends of a pair share: a transport, and no more in flight than the other takes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def write(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def finish(self) -> None:
        """Pass an end on, after all that was written."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Front(_Side):
    """The side of a client."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self._watch = Watch(relay)
        self._early: list[bytes] = []
        self._ended_early = False
        self._back: Back | None = None
        self._gate: Gate | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(BUFFER_BYTES)
        self._watch.number = self._relay.enter(self)
        self._dialing = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        upstream, loop = self._relay.upstream, asyncio.get_running_loop()
        try:
            _, back = await asyncio.wait_for(
                loop.create_connection(
                    lambda: Back(self), upstream.host, upstream.port, ssl=upstream.tls
                ),
                CONNECT_S,
            )
        except (OSError, TimeoutError):
            self.abort()  # as a server does that cannot be reached
            return
        self._back, self.other = back, back
        early, self._early = b"".join(self._early), []
        if early:
            back.write(early)
        if self._ended_early:
            back.finish()

    def forward(self, data: bytes) -> None:
        """Write to the server, or keep for it while it is dialled."""
        if self._back is not None:
            self._back.write(data)
        else:
            self._early.append(data)

    def data_received(self, data: bytes) -> None:
        relay = self._relay
        if self._gate is None and relay.faults is not None and self._watch.is_idle:
            self._gate = Gate(lambda: relay.faults, relay.named, self._watch, self)
        if self._gate is not None:
            self._gate.sent(data)
            return
        self.forward(data)
        self._watch.sent(data, time.monotonic_ns())

    def answered(self, data: bytes) -> None:
        """Take what the server sent."""
        if self._gate is not None:
            self._gate.received(data)
            return
        self.write(data)
        self._watch.received(data, time.monotonic_ns())

    def eof_received(self) -> bool:
        if self._gate is not None:
            self._gate.ended()
        else:
            self.forward_end()
        return self._relay.upstream.tls is None

    def forward_end(self) -> None:
        """Tell the server that no more will be sent."""
        if self._back is not None:
            self._back.finish()
        else:
            self._ended_early = True

    def close(self) -> None:
        """End both sides when the client has what was written to it."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End both sides at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._dialing.cancel()
        if self._back is not None and self._back.transport is not None:
            if exc is None:
                self._back.transport.close()
            else:
                self._back.transport.abort()
        self._watch.ended()
        self._relay.leave(self)


class Back(_Side):
    """The side of the server."""

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.front = front
        self.other = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        self.front.answered(data)

    def eof_received(self) -> bool:
        self.front.finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport = self.front.transport
        if transport is not None and not transport.is_closing():
            if exc is None:
                transport.close()
            else:
                transport.abort()
