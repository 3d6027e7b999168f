"""The transport of the standard library: `http.client` over a pool of bounded connections.

Up to 16 connections per endpoint; one is given up when it is old, so that a change of DNS is
seen, or was idle for long. TLS always verifies. An own CA, a client certificate or a proxy come
with an own `ssl_context` here, or with an own transport.
"""

# tidy: long because a reason stands beside what it excuses

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import deque
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from .errors import CancelledError, FractalLBAError, error_for
from .http import MAX_RESPONSE_BYTES, MAX_RESPONSE_HEADERS, Cancel, RawResponse, Request
from .wire import Guard, TimedOutError, Wire, check_context, connect

MAX_CONNECTIONS: Final = 16
"""Connections to one endpoint; a call that finds all in use waits, within its attempt."""

FRAMING_FACTOR: Final = 8
"""A body in tiny chunks takes more bytes than its content; over this it is too large."""

MAX_HEAD_BYTES: Final = 2**20
"""Bytes received beside the body's share: head, interim responses, trailers."""

_READ_BYTES: Final = 65_536


class _Pool:
    """The connections of one endpoint: idle ones, last used last, and places for new ones."""

    def __init__(self) -> None:
        self.idle: deque[Wire] = deque()
        self.in_use = 0
        self.changed = threading.Condition()


class HttpTransport:
    """Send requests over pooled connections. Safe for threads."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connection_max_age_s: float = 60,
        connection_idle_s: float = 30,
        max_connections: int = MAX_CONNECTIONS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_response_headers: int = MAX_RESPONSE_HEADERS,
    ) -> None:
        self._context = None if ssl_context is None else check_context(ssl_context)
        self._max_age_s = connection_max_age_s
        self._idle_s = connection_idle_s
        self._max_connections = max_connections
        self._max_bytes = max_response_bytes
        self._max_headers = max_response_headers
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str, int], _Pool] = {}
        self._closed = False

    def send(
        self,
        request: Request,
        *,
        connect_timeout_s: float,
        attempt_timeout_s: float,
        cancel: Cancel | None,
    ) -> RawResponse:
        """Send a request and read the response, all within the bounds."""
        guard = Guard(attempt_timeout_s, cancel)
        parts = urlsplit(request.url)
        pool = self._pool_of(parts)
        wire = self._enter(pool, guard)
        kept = None
        try:
            if wire is None:
                wire = self._connect(parts, guard.within(connect_timeout_s))
            wire.begin(guard, receive_max=FRAMING_FACTOR * self._max_bytes + MAX_HEAD_BYTES)
            response, reusable = self._exchange(wire, request, parts)
            kept = wire if reusable else None
        finally:
            if wire is not None and kept is None:
                wire.shut()
            self._leave(pool, kept)
        return response

    def close(self) -> None:
        """Close idle connections now and the others when their attempt ends."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        for pool in pools:
            with pool.changed:
                while pool.idle:
                    pool.idle.pop().shut()

    # --- the pool -----------------------------------------------------------------------------

    def _pool_of(self, parts: SplitResult) -> _Pool:
        key = (parts.scheme, parts.hostname or "", _port(parts))
        with self._lock:
            if self._closed:
                raise CancelledError("cancelled", "the transport is closed")
            return self._pools.setdefault(key, _Pool())

    def _enter(self, pool: _Pool, guard: Guard) -> Wire | None:
        """Take a place in the pool, and with it an idle connection if one is usable."""
        with pool.changed:
            while pool.in_use >= self._max_connections:
                try:
                    pool.changed.wait(guard.check())
                except TimedOutError:
                    raise error_for("connect_failed", "no connection became free in time") from None
            pool.in_use += 1
            while pool.idle:
                wire = pool.idle.pop()
                if self._is_fresh(wire):
                    return wire
                wire.shut()
            return None

    def _is_fresh(self, wire: Wire) -> bool:
        now = time.monotonic()
        young = now - wire.opened_at < self._max_age_s and now - wire.idle_since < self._idle_s
        return young and wire.is_quiet

    def _leave(self, pool: _Pool, kept: Wire | None) -> None:
        with pool.changed:
            pool.in_use -= 1
            if kept is not None:
                kept.idle_since = time.monotonic()
                if self._closed:
                    kept.shut()
                else:
                    pool.idle.append(kept)
            pool.changed.notify()

    def _connect(self, parts: SplitResult, guard: Guard) -> Wire:
        context = self._tls() if parts.scheme == "https" else None
        return connect(parts.hostname or "", _port(parts), context, guard)

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = ssl.create_default_context()
                self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            return self._context

    # --- one exchange ---------------------------------------------------------------------------

    def _exchange(
        self, wire: Wire, request: Request, parts: SplitResult
    ) -> tuple[RawResponse, bool]:
        """Give the response, and whether the connection can be used again."""
        try:
            if _write(wire, request, parts):
                return self._read(wire, request.method)
            return self._read(wire, request.method)[0], False
        except TimedOutError:
            raise error_for("attempt_timeout", "the attempt took too long") from None
        except http.client.LineTooLong as error:
            raise error_for("response_too_large", "a header line is too long") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, FractalLBAError):
                raise
            raise _lost(error, wire.sent_bytes) from error

    def _read(self, wire: Wire, method: str) -> tuple[RawResponse, bool]:
        response = http.client.HTTPResponse(wire, method=method)  # type: ignore[arg-type]  # it asks for `makefile` alone
        try:
            response.begin()
            wire.in_head = False
            headers = response.getheaders()
            body = b"" if len(headers) > self._max_headers else self._body(response)
            whole = response.isclosed() or response.length == 0
            return RawResponse(response.status, headers, body), whole and not response.will_close
        finally:
            response.close()

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        """Read at most one byte more than the limit: what is over it is judged by the reader."""
        chunks: list[bytes] = []
        room = self._max_bytes + 1
        while room > 0 and (chunk := response.read(min(room, _READ_BYTES))):
            chunks.append(chunk)
            room -= len(chunk)
        if room > 0 and response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(chunks)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _write(wire: Wire, request: Request, parts: SplitResult) -> bool:
    """Write the request and say whether all of it went out.

    A server may answer and close before it has read everything: then its answer counts.
    `http.client` refuses line ends in what goes into the head.
    """
    connection = http.client.HTTPConnection(parts.hostname or "", _port(parts))
    sock: Any = wire
    connection.sock = sock
    target = parts.path or "/"
    connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", parts.netloc)
    for name, value in request.headers:
        connection.putheader(name, value)
    if request.body or request.method == "POST":
        connection.putheader("Content-Length", str(len(request.body)))
    try:
        connection.endheaders(request.body or None)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _lost(error: Exception, sent_bytes: int) -> FractalLBAError:
    if not sent_bytes:
        return error_for("connect_failed", "an idle connection had ended; nothing was sent")
    if str(error).startswith("got more than"):
        return error_for("response_too_large", "too many headers")
    return error_for("connection_lost", f"the connection broke: {type(error).__name__}")
