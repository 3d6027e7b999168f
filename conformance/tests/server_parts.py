"""What the tests of the server suite and of the proxy share: a home, a server, bytes over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from flk_conformance import checkout
from flk_conformance.proxy.faults import Faults
from flk_conformance.proxy.relay import Exchange, Relay, upstream_of
from flk_conformance.server.control import Command

HANG_S = 30.0
"""A guard against a test that hangs; nothing is concluded from how long anything took."""


def written_home(home: Path) -> Path:
    """Write the folder of a reference server."""
    checkout.written(home)
    return home


@contextlib.contextmanager
def reference(home: Path) -> Iterator[Command]:
    """Run a reference server; give the command that controls it."""
    control = checkout.written(home)
    control.do("start")
    try:
        yield control
    finally:
        control.do("kill")


class RawServer:
    """Accepts connections and does with each what it is told, in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            sock.settimeout(HANG_S)
            thread = threading.Thread(target=self._one, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _one(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._serve(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for thread in self._threads:
            thread.join(HANG_S)


def says(data: bytes) -> Callable[[socket.socket], None]:
    """Serve a connection: read one request head, send these bytes, close."""

    def serve(sock: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            block = sock.recv(65_536)
            if not block:
                break
            received += block
        sock.sendall(data)

    return serve


def all_of(sock: socket.socket) -> bytes:
    """Read until the other side ends."""
    received = bytearray()
    while block := sock.recv(65_536):
        received += block
    return bytes(received)


def exactly(sock: socket.socket, size: int) -> bytes:
    """Read this many bytes, or until the other side ends."""
    received = bytearray()
    while len(received) < size and (block := sock.recv(min(65_536, size - len(received)))):
        received += block
    return bytes(received)


class RelayThread:
    """Runs a relay on an event loop in a thread and keeps the exchanges that it reports."""

    def __init__(self, url: str, faults: Faults | None = None) -> None:
        self._url = url
        self._faults = faults
        self.exchanges: list[Exchange] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self.relay = Relay(
            upstream_of(self._url),
            self.exchanges.append,
            faults=self._faults,
            named=lambda method, target: f"{method} {target}",
        )
        self.port = await self.relay.start()
        self._ready.set()
        await self._ended.wait()
        await self.relay.stop()

    def dial(self) -> socket.socket:
        """Connect as a client."""
        return socket.create_connection(("127.0.0.1", self.port), HANG_S)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(HANG_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(HANG_S)
