"""One HTTP/1.1 connection: bounded heads and bodies in, whole requests out, one answer each.

The parser underneath has no limit of its own: it would take a head of any size and keep half of
one for ever. Here a head has a size, a number of headers and a time, and so has a body. A whole
request goes to the application in one call and its answer comes back in one call, now or later;
no task is made for it. A request that broke a limit before it was parsed is answered by a bare
status line; problem details start where a request was parsed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

Reply = Callable[[int, bytes, bytes], None]
"""Answers a request: status, header lines, body."""


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What one connection, and all together, may take."""

    head_bytes: int = 16_384
    headers: int = 100
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    connections: int = 1_024
    body_bytes_in_flight: int = 64 * 1024 * 1024


SWEEP_S: Final = 0.5
"""How often overdue requests are looked for; a timer per request would cost more than its head."""

DROPPED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of a refused body at most this is read and dropped, so that its sender can hear the refusal."""

CHUNK_BYTES_MAX: Final = 8
"""Of each byte of a body at most this many bytes of framing; a chunk of one byte has five."""

MAX_PIPELINED: Final = 16
"""Whole requests that wait behind one another on a connection before reading stops."""


class Request:
    """One whole request. Header names are in lower case; of a repeated one the last counts.

    `uris` are those that the client's certificate names, if it showed one that holds.
    """

    __slots__ = ("address", "body", "headers", "method", "path", "uris")

    def __init__(
        self,
        method: str,
        path: str,
        headers: dict[bytes, bytes],
        address: str,
        body: bytes = b"",
        uris: frozenset[str] = frozenset(),
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.address = address
        self.body = body
        self.uris = uris


class Application(Protocol):
    """What a connection needs of the application."""

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer a whole request by one call of `reply`, now or later."""

    def body_limit(self, request: Request) -> int:
        """Say how many bytes of body this request may have."""

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        """Answer a request that broke a limit after its head was parsed."""


class _HeadTooLargeError(Exception):
    """Leaves the parser's callbacks; the parser reports it as a framing error."""


class _NoEvent:
    """Stands where the base class wakes a task: there is none."""

    def set(self) -> None:
        return


_NO_EVENT: Final = _NoEvent()


class Cycle:
    """One request on its way to its answer; the base class looks at some of these names."""

    __slots__ = (
        "chunks", "disconnected", "dropped", "framing", "keep_alive", "limit", "message_event",
        "received", "refused", "request", "response_complete", "since", "size", "whole",
    )  # fmt: skip

    def __init__(self, request: Request, limit: int, *, keep_alive: bool) -> None:
        self.request = request
        self.limit = limit
        self.keep_alive = keep_alive
        self.chunks: list[bytes] = []
        self.size = 0
        self.received = 0
        self.framing = 0
        self.dropped = 0
        self.since = 0.0
        self.whole = False
        self.refused = False
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NO_EVENT


class _Date:
    """The last rendering of the server's default headers."""

    source: object = None
    text = b""


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 within `limits`; `bound_connection` makes the class of one listener."""

    limits: WireLimits
    application: Application
    bodies: list[int]
    """One number: bytes of unfinished bodies over all connections."""
    date: _Date

    def connection_made(  # type: ignore[override]  # narrower, as uvicorn has it
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self._head_bytes = 0
        self._in_head = True
        self._head_since = self.loop.time()
        self._waiting: deque[Cycle] = deque()
        self._half_closed = False
        self._address = self.client[0] if self.client else ""
        self._uris = certificate_uris(transport.get_extra_info("peercert"))
        if len(self.connections) > self.limits.connections:
            self._end(503, b"retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in (*self._waiting, *([self._reading] if self._reading else [])):
            cycle.disconnected = True
            self._forget_body(cycle)
        self._reading = None
        super().connection_lost(exc)

    # --- the parser speaks

    _reading: Cycle | None = None

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._head_bytes == 0:
                self._head_since = self.loop.time()
            self._head_bytes += len(data)
        elif self._reading is not None:
            self._reading.framing += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            too_large = isinstance(error.__context__, _HeadTooLargeError)
            self._end(431 if too_large else 400)
        except httptools.HttpParserUpgrade:
            self._end(400)
        if self._in_head and self._head_bytes > self.limits.head_bytes:
            self._end(431)
        elif (cycle := self._reading) is not None and (
            # Trailers and chunk extensions stand behind the head and outside of the body.
            cycle.framing > self.limits.head_bytes + CHUNK_BYTES_MAX * cycle.received
        ):
            self._end(400)

    def on_message_begin(self) -> None:
        if self._head_bytes == 0:  # it began in the bytes that ended the request before it
            self._head_bytes = 1
            self._head_since = self.loop.time()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))
        if len(self.headers) > self.limits.headers:
            raise _HeadTooLargeError

    def on_headers_complete(self) -> None:
        headers = dict(self.headers)
        head = len(self.url) + sum(map(len, headers)) + sum(map(len, headers.values()))
        if head > self.limits.head_bytes:
            raise _HeadTooLargeError
        self._in_head = False
        path = httptools.parse_url(self.url).path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        method = self.parser.get_method().decode("ascii")
        request = Request(method, path, headers, self._address, uris=self._uris)
        keep_alive = self.parser.should_keep_alive()
        self._reading = cycle = Cycle(
            request, self.application.body_limit(request), keep_alive=keep_alive
        )
        declared = headers.get(b"content-length")
        if declared is not None and int(declared) > cycle.limit:
            self._refuse_body(cycle, "payload_too_large", _too_large(cycle.limit))
        elif headers.get(b"expect", b"").lower() == b"100-continue" and not self._owes_answers():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        cycle = self._reading
        if cycle is None:
            return
        cycle.received += len(body)
        cycle.framing -= len(body)
        if cycle.refused:
            cycle.dropped += len(body)
            if cycle.dropped > DROPPED_BYTES_MAX:
                self.transport.close()
            return
        cycle.chunks.append(body)
        cycle.size += len(body)
        self.bodies[0] += len(body)
        if cycle.size > cycle.limit:
            self._refuse_body(cycle, "payload_too_large", _too_large(cycle.limit))
        elif self.bodies[0] > self.limits.body_bytes_in_flight:
            self._refuse_body(cycle, "unavailable", "too many request bodies are under way")
        elif cycle.since == 0.0:
            cycle.since = self._head_since

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        cycle, self._reading = self._reading, None
        if cycle is None:
            return
        if cycle.refused:
            self.transport.close()
            return
        chunks = cycle.chunks
        cycle.request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        cycle.chunks = []
        cycle.whole = True
        self._start(cycle)

    # --- requests and answers, in order

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _owes_answers(self) -> bool:
        return self._busy() or bool(self._waiting)

    def _start(self, cycle: Cycle) -> None:
        if self.transport.is_closing():  # no request is taken after the last answer
            self._forget_body(cycle)
            return
        if self._owes_answers() or self.flow.write_paused:
            self._waiting.append(cycle)
            if len(self._waiting) >= MAX_PIPELINED:
                self.flow.pause_reading()
            return
        self._hand_over(cycle)

    def _hand_over(self, cycle: Cycle) -> None:
        self._forget_body(cycle)
        self.cycle = cast("Any", cycle)
        self.application.handle(cycle.request, self._reply_of(cycle))

    def _reply_of(self, cycle: Cycle) -> Reply:
        def reply(status: int, headers: bytes, body: bytes) -> None:
            self._answer(cycle, status, headers, body)

        return reply

    def _answer(self, cycle: Cycle, status: int, headers: bytes, body: bytes) -> None:
        if cycle.disconnected or cycle.response_complete:
            return
        cycle.response_complete = True
        length = b"" if status == 204 else b"content-length: %d\r\n" % len(body)
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        if cycle.request.method == "HEAD":
            body = b""
        self.transport.write(
            b"".join((STATUS_LINE[status], self._date(), headers, length, close, b"\r\n", body))
        )
        self.server_state.total_requests += 1
        if not cycle.keep_alive or (self._half_closed and not self._waiting):
            # A close with a body on its way is a reset, which can overtake the answer: what is
            # left of a refused body is read and dropped first.
            if self._reading is not cycle:
                self.transport.close()
        else:
            self._head_since = self.loop.time()
            self._next()

    def _next(self) -> None:
        if self._waiting and not self._busy() and not self.flow.write_paused:
            self.flow.resume_reading()
            self.loop.call_soon(self._start_waiting)

    def _start_waiting(self) -> None:
        """Start the request that has waited longest; one that came later must not pass it."""
        if self._waiting and not self._busy() and not self.flow.write_paused:
            self._hand_over(self._waiting.popleft())

    def eof_received(self) -> bool:  # type: ignore[override]  # narrower, as uvicorn has it
        """Answer what came before the client's end of sending, then close."""
        tls = self.transport.get_extra_info("sslcontext")
        self._half_closed = not tls and self._owes_answers()
        return self._half_closed

    def resume_writing(self) -> None:
        super().resume_writing()
        self._next()

    def _date(self) -> bytes:
        """Give the header lines of every answer; the server renews them each second."""
        date, lines = self.date, self.server_state.default_headers
        if lines is not date.source:
            date.source = lines
            date.text = b"".join(b"%b: %b\r\n" % pair for pair in lines)
        return date.text

    # --- limits

    def _forget_body(self, cycle: Cycle) -> None:
        self.bodies[0] -= cycle.size
        cycle.size = 0
        cycle.chunks = []

    def _refuse_body(self, cycle: Cycle, code: str, message: str) -> None:
        """Answer before the body is whole; what is left of it is dropped."""
        cycle.refused = True
        cycle.keep_alive = False
        self._forget_body(cycle)
        if self._owes_answers():
            self.transport.close()
            return
        self.cycle = cast("Any", cycle)
        self.application.refuse(code, message, cycle.request, self._reply_of(cycle))

    def check_time(self, now: float) -> None:
        """End what has taken too long to arrive, or to be read by the client."""
        if self.transport.is_closing() and now - self._head_since > self.limits.idle_timeout_s:
            self.transport.abort()  # a close waits for a reader that hangs
            return
        cycle = self._reading
        if cycle is not None:
            since = cycle.since or self._head_since
            if now - since > self.limits.body_timeout_s:
                if not cycle.refused:
                    text = "the body did not arrive in time"
                    self._refuse_body(cycle, "request_timeout", text)
                self.transport.close()
        elif self._in_head and not self._busy():
            waited_s = now - self._head_since
            if self._head_bytes == 0 and waited_s > self.limits.idle_timeout_s:
                self.transport.close()
            elif self._head_bytes > 0 and waited_s > self.limits.head_timeout_s:
                self._end(408)

    def _end(self, status: int, headers: bytes = b"") -> None:
        """Refuse what cannot be parsed, after the answers to what came before it."""
        if self._owes_answers():
            last = self._waiting[-1] if self._waiting else self.cycle
            last.keep_alive = False
            self.flow.pause_reading()
        elif self._reading is not None and self._reading.refused:
            self.transport.close()  # it has its answer
        elif not self.transport.is_closing():
            self.transport.write(
                STATUS_LINE[status] + headers + b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()


def certificate_uris(certificate: Any) -> frozenset[str]:
    """Give the URIs of a checked certificate, as `ssl` describes it; none if there is none."""
    names = (certificate or {}).get("subjectAltName", ())
    return frozenset(value for kind, value in names if kind == "URI")


def _too_large(limit: int) -> str:
    return f"the body must be at most {limit} bytes"


async def sweep(connections: set[Any]) -> None:
    """Look for overdue requests until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(SWEEP_S)
        now = loop.time()
        for connection in list(connections):
            connection.check_time(now)


def bound_connection(application: Application, limits: WireLimits) -> type[Connection]:
    """Make the protocol class of one listener."""
    members = {
        "application": application,
        "limits": limits,
        "bodies": [0],
        "date": _Date(),
    }
    return type("BoundConnection", (Connection,), members)
