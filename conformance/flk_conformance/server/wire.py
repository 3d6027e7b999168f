"""Speak HTTP/1.1 to a server under test: whole requests, or any bytes at all.

An answer is read strictly: what is not HTTP is a finding, not something to be repaired. Nothing
here knows what an answer should be.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

HANG_S: Final = 10.0
"""A server that says nothing for this long hangs."""

HEAD_BYTES_MAX: Final = 65_536
"""Longest head of an answer that is read."""

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longest body of an answer that is read; that to a batch is the longest."""

BLOCK_BYTES: Final = 65_536

Header = tuple[str, str]


class WireError(Exception):
    """What a server sent is no HTTP answer, or nothing came."""


class ClosedError(WireError):
    """The server closed the connection where an answer was due."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came. Header names are in lower case."""

    status: int
    headers: tuple[Header, ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Give the value of a header, or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def media_type(self) -> str:
        """Give the media type without its parameters."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def closes(self) -> bool:
        """Tell whether the server ends the connection after this answer."""
        return "close" in (self.header("connection") or "").lower()


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    prefix: str
    """Path of the base URL, without a slash at its end."""

    @property
    def authority(self) -> str:
        """Give the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def dial(self, timeout_s: float = HANG_S) -> socket.socket:
        """Connect; raises WireError."""
        try:
            sock = socket.create_connection((self.host, self.port), timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_hostname=self.host)
        except OSError as error:
            raise WireError(f"no connection: {error}") from error
        return sock


def target_of(url: str) -> Target:
    """Read a base URL; raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url}: expected http:// or https:// and a host")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("a base URL has no user, query or fragment")
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if tls else 80)
    return Target(parts.hostname, port, tls, parts.path.rstrip("/"))


class Connection:
    """One connection. Whole answers are read one after the other."""

    def __init__(self, target: Target, *, timeout_s: float = HANG_S) -> None:
        self._sock = target.dial(timeout_s)
        self._received = bytearray()

    def send(self, data: bytes) -> None:
        """Send bytes; raises WireError."""
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise ClosedError(f"the server closed while it was sent to: {error}") from error

    def end(self) -> None:
        """Send no more, but still read."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reply(self, method: str = "POST") -> Reply:
        """Read one final answer; those below 200 are passed over."""
        while True:
            head = self._until(b"\r\n\r\n")
            status, headers = parse_head(head)
            if status >= 200:
                return Reply(status, headers, self._body(status, headers, method))

    def interim(self) -> int:
        """Read one head below 200 and give its status."""
        return parse_head(self._until(b"\r\n\r\n"))[0]

    def rest(self) -> bytes:
        """Read until the server closes, or resets; raises WireError where it hangs."""
        with contextlib.suppress(ClosedError):
            while len(self._received) < BODY_BYTES_MAX:
                self._receive()
        data = bytes(self._received)
        self._received.clear()
        return data

    def is_closed(self) -> bool:
        """Tell whether the server has closed, without waiting; unread bytes count as open."""
        if self._received:
            return False
        before = self._sock.gettimeout()
        self._sock.settimeout(0)
        try:
            self._receive()
        except ClosedError:
            return True
        except WireError:
            return False
        finally:
            self._sock.settimeout(before)
        return False

    def _body(self, status: int, headers: tuple[Header, ...], method: str) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        lengths = [value for name, value in headers if name == "content-length"]
        codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
        if codings:
            if codings != ["chunked"] or lengths:
                raise WireError(f"an answer framed by {codings} and lengths {lengths}")
            return self._chunks()
        if not lengths:
            return self.rest()
        if len(set(lengths)) != 1 or not lengths[0].isdecimal():
            raise WireError(f"an answer with Content-Length {lengths}")
        size = int(lengths[0])
        if size > BODY_BYTES_MAX:
            raise WireError(f"an answer of {size} bytes")
        return self._exactly(size)

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size_text = self._until(b"\r\n").partition(b";")[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise WireError(f"a chunk of size {size_text!r}") from None
            if len(body) + size > BODY_BYTES_MAX:
                raise WireError("an answer without end")
            body += self._exactly(size)
            if self._until(b"\r\n") != b"":
                raise WireError("a chunk that does not end where it says")
            if size == 0:
                return bytes(body)

    def _until(self, mark: bytes) -> bytes:
        while (at := self._received.find(mark)) < 0:
            if len(self._received) > HEAD_BYTES_MAX:
                raise WireError("a head without end")
            self._receive()
        data = bytes(self._received[:at])
        del self._received[: at + len(mark)]
        return data

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _receive(self) -> None:
        try:
            block = self._sock.recv(BLOCK_BYTES)
        except TimeoutError:
            seconds = self._sock.gettimeout()
            raise WireError(f"nothing came for {seconds} s: the server hangs") from None
        except BlockingIOError as error:
            raise WireError("nothing is there") from error
        except OSError as error:
            raise ClosedError(f"the connection was reset: {error}") from error
        if not block:
            raise ClosedError("the server closed without a whole answer")
        self._received += block


def parse_head(head: bytes) -> tuple[int, tuple[Header, ...]]:
    """Read the head of an answer, without the empty line at its end; raises WireError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isdecimal() and len(code) == 3):
        raise WireError(f"no status line: {first[:80]!r}")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise WireError(f"no header line: {line[:80]!r}")
        headers.append((name.lower(), value.strip(" \t")))
    return int(code), tuple(headers)


def request_bytes(
    target: Target,
    method: str,
    path: str,
    headers: Iterable[Header] = (),
    body: bytes | None = None,
) -> bytes:
    """Write a request; a body brings its length."""
    lines = [f"{method} {target.prefix}{path} HTTP/1.1", f"Host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


class Pace:
    """Keeps a run below a number of requests in each second, over all threads."""

    def __init__(self, per_s: float | None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._gap_s = 1 / per_s if per_s else 0.0
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Wait until the next request may go."""
        if not self._gap_s:
            return
        with self._lock:
            now = time.monotonic()
            at = max(self._next, now)
            self._next = at + self._gap_s
        self._sleep(max(0.0, at - now))


class Client:
    """Sends whole requests, on one kept connection per thread."""

    def __init__(self, target: Target, pace: Pace) -> None:
        self.target = target
        self._pace = pace
        self._local = threading.local()
        self._kept: set[Connection] = set()

    def ask(
        self, method: str, path: str, headers: Iterable[Header] = (), body: bytes | None = None
    ) -> Reply:
        """Send one request and read its answer. A kept connection that has ended is replaced.

        Every request of the suite may be sent twice: it is that which the server promises.
        """
        self._pace.wait()
        data = request_bytes(self.target, method, path, headers, body)
        kept: Connection | None = getattr(self._local, "connection", None)
        if kept is not None:
            with contextlib.suppress(ClosedError):
                return self._exchange(kept, data, method)
        fresh = Connection(self.target)
        self._kept.add(fresh)
        return self._exchange(fresh, data, method)

    def _exchange(self, connection: Connection, data: bytes, method: str) -> Reply:
        self._local.connection = None
        try:
            with contextlib.suppress(ClosedError):  # a refusal may come before all is sent
                connection.send(data)
            reply = connection.reply(method)
        except WireError:
            self._let_go(connection)
            raise
        if reply.closes:
            self._let_go(connection)
        else:
            self._local.connection = connection
        return reply

    def _let_go(self, connection: Connection) -> None:
        self._kept.discard(connection)
        connection.close()

    def raw(self, *parts: bytes, pause_s: float = 0.0, half_close: bool = False) -> bytes:
        """Send parts of anything on a connection of its own; give all that comes back."""
        self._pace.wait()
        with Connection(self.target) as connection:
            try:
                for index, part in enumerate(parts):
                    if index and pause_s:
                        time.sleep(pause_s)
                    connection.send(part)
            except ClosedError:
                pass  # it has answered, or closed, before it heard all
            if half_close:
                connection.end()
            return connection.rest()

    def forget(self) -> None:
        """Close the kept connections of every thread; none may be in use."""
        self._local = threading.local()
        while self._kept:
            self._kept.pop().close()
