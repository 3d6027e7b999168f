"""A real HTTP server on loopback that plays a script: one step for each request it reads.

Steps answer with any status, headers and body, wait for the test, cut the response anywhere,
reset the connection, trickle, or record the request and lose the reply. Everything that the
server saw is kept. It speaks raw sockets on purpose: what it sends may be no HTTP at all.
"""

# tidy: long because a reason stands beside what it excuses

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from fractal_lba.canonical import jcs
from fractal_lba.testing import outcome_body

TRICKLE_S = 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with a request.

    `cut` sends only so many bytes of the response and closes; `reset` closes by RST instead;
    `trickle` sends one byte at a time; `hold` is awaited before anything is sent, unless `free`
    says that this request need not wait; `raw` are the bytes to send in place of a response;
    `repeat` uses the step for every further request.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Callable[[Seen], bytes] = b""
    cut: int | None = None
    reset: bool = False
    trickle: bool = False
    hold: threading.Event | None = None
    free: Callable[[Seen], bool] | None = None
    raw: bytes | None = None
    close: bool = False
    repeat: bool = False


def recorded(status: int = 200, *, replayed: bool = False, **step: object) -> Step:
    """Answer a submit as the server does that recorded it."""

    def body(seen: Seen) -> bytes:
        import json

        return outcome_body(json.loads(seen.body)["pcs_id"], **_verdict(status))

    headers = {
        "Idempotency-Replayed": "true" if replayed else "false",
        "PCS-Position": "fra/open/1/7",
        "PCS-Level": "durable",
        "X-Request-Id": "req-1",
    }
    return Step(status, headers, body, **step)  # type: ignore[arg-type]  # fields of Step


def _verdict(status: int) -> dict[str, object]:
    if status == 200:
        return {}
    return {"accepted": False, "escalated": True, "reason": "n_j_implausible"}


def refused(status: int, code: str, headers: dict[str, str] | None = None, **step: object) -> Step:
    """Answer with a problem document."""
    body = jcs({"type": "about:blank", "title": code, "status": status, "code": code})
    named = {"Content-Type": "application/problem+json", "X-Request-Id": "req-2"}
    return Step(status, {**named, **(headers or {})}, body, **step)  # type: ignore[arg-type]  # fields of Step


class ScriptedServer:
    """Listen on a port of loopback and play the script."""

    def __init__(self, script: Iterable[Step] = (), *, tls: ssl.SSLContext | None = None) -> None:
        self._script = iter(script)
        self._tls = tls
        self._lock = threading.Lock()
        self._last: Step | None = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self.connections = 0
        self.seen: list[Seen] = []
        self.arrived = threading.Semaphore(0)
        self.in_flight = 0
        self.in_flight_max = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _shut(each)
        for thread in self._threads:
            thread.join()

    def add(self, *steps: Step) -> None:
        """Play these steps from now on."""
        with self._lock:
            self._script, self._last = iter(steps), None

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.add(connection)
            self._run(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                connection = self._secure(connection)
            reader = connection.makefile("rb")
            with reader:
                while (seen := _read_request(reader, number)) is not None:
                    if not self._play(connection, seen):
                        return
        except OSError:
            return
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _secure(self, connection: socket.socket) -> socket.socket:
        """Wrap a connection; wrapping takes the descriptor out of the plain socket."""
        assert self._tls is not None
        secured = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.discard(connection)
            self._open.add(secured)
        try:
            secured.do_handshake()
        except OSError:
            with self._lock:
                self._open.discard(secured)
            secured.close()
            raise
        return secured

    def _play(self, connection: socket.socket, seen: Seen) -> bool:
        """Answer one request; say whether the connection goes on."""
        with self._lock:
            self.seen.append(seen)
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
            step = self._last if self._last and self._last.repeat else next(self._script, None)
            self._last = step
        self.arrived.release()
        try:
            if step is None:
                raise AssertionError(f"the script ended before {seen.method} {seen.path}")
            is_free = step.free is not None and step.free(seen)
            while step.hold is not None and not is_free and not step.hold.wait(0.01):
                if self._closing.is_set():
                    return False
        finally:
            with self._lock:
                self.in_flight -= 1
        return self._answer(connection, step, seen)

    def _answer(self, connection: socket.socket, step: Step, seen: Seen) -> bool:
        data = step.raw if step.raw is not None else _response(step, seen)
        data = data if step.cut is None else data[: step.cut]
        if step.trickle:
            for index in range(len(data)):
                if self._closing.wait(TRICKLE_S):
                    return False
                connection.sendall(data[index : index + 1])
        else:
            connection.sendall(data)
        if step.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not (step.reset or step.close or step.cut is not None or step.raw is not None)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _read_request(reader: BinaryIO, number: int) -> Seen | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line.endswith(b"\n"):
            return None
        head += line
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    fields = (line.split(": ", 1) for line in lines if line)
    headers = {name.lower(): value for name, value in fields}
    length = int(headers.get("content-length", "0"))
    body = reader.read(length)
    if len(body) < length:
        return None
    return Seen(method, path, headers, body, number)


def _response(step: Step, seen: Seen) -> bytes:
    body = step.body(seen) if callable(step.body) else step.body
    headers = {"Content-Length": str(len(body)), **step.headers}
    if step.close:
        headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value != "")
    return f"HTTP/1.1 {step.status} Scripted\r\n{lines}\r\n".encode("latin-1") + body
