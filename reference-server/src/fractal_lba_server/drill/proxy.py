"""A TCP proxy that breaks links on command, in a process of its own.

The invariant of this file: bytes of one connection arrive in order or not at all, as over TCP; a
link is cut by holding them, never by losing some of them. It reads one JSON command a line from
its standard input and answers each with one line; at the end of the input it ends.

    {"do": "open", "link": "client-euw", "to": "127.0.0.1:8080"}     -> {"port": 40001}
    {"do": "set", "link": "client-euw", "way": "back", "delay_ms": 40} -> {}
    {"do": "counts"}                          -> {"client-euw": {"forward": {"bytes": 0, ...}, ...}}

A connection to a link that is cut is taken and then hears nothing: a program cannot keep the
system from completing the handshake. Clients see a request without an answer, which is the harder
case. What was held flows when the link heals, as a retransmission does; `reset` ends it instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final

from .proxy_requests import Requests

CHUNK_BYTES: Final = 65_536
"""Read at once; bandwidth and delay apply to each such piece."""

HELD_CHUNKS_MAX: Final = 256
"""Pieces of one direction that wait; beyond it the sender is held back, as by a full window."""

OVERTAKE_S_MAX: Final = 2.0
"""How long a request waits to be overtaken before it goes on all the same."""

OVERTAKE_LEAD_S: Final = 0.005
"""How far ahead the other request is let."""

RETRANSMIT_S: Final = 0.2
"""How long a lost piece is missed before it is sent again; twice as long each time it is lost."""

LOST_MAX: Final = 3
"""How often in a row one piece is lost at most."""

CONNECT_TIMEOUT_S: Final = 5.0
LINGER_NONE: Final = struct.pack("ii", 1, 0)
"""Makes the end of a socket a reset."""

WAYS: Final = ("forward", "back")


@dataclass(slots=True)
class Faults:
    """What one direction of a link suffers. Zero and False mean nothing."""

    delay_ms: float = 0
    jitter_ms: float = 0
    bandwidth_bytes_per_s: float = 0
    stall: bool = False
    reorder: float = 0
    loss: float = 0

    def set(self, given: dict[str, Any]) -> None:
        """Change what is named; anything unknown is an error."""
        known = {each.name for each in fields(self)}
        for name, value in given.items():
            if name not in known:
                message = f"unknown setting {name}"
                raise ValueError(message)
            setattr(self, name, value)


@dataclass(slots=True)
class Counts:
    """What was done to one direction of a link."""

    bytes: int = 0
    delayed: int = 0
    stalled: int = 0
    squeezed: int = 0
    reordered: int = 0
    lost: int = 0
    marks: int = 0


@dataclass(slots=True)
class Way:
    """One direction of a link: its faults, its counts, its share of chance and of time."""

    chance: random.Random
    faults: Faults = field(default_factory=Faults)
    counts: Counts = field(default_factory=Counts)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    free_at_s: float = 0.0
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the next request passes: what waits for it has then been overtaken."""

    def due_s(self, now_s: float, size: int) -> float:
        """Say when a piece read now may be written."""
        faults, due_s = self.faults, now_s
        if faults.bandwidth_bytes_per_s:
            self.counts.squeezed += 1
            due_s = max(now_s, self.free_at_s) + size / faults.bandwidth_bytes_per_s
            self.free_at_s = due_s
        if faults.delay_ms or faults.jitter_ms:
            self.counts.delayed += 1
            due_s += (faults.delay_ms + self.chance.uniform(0, faults.jitter_ms)) / 1000
        return due_s + self._retransmitted_s()

    def _retransmitted_s(self) -> float:
        """Say how much later a piece comes because it was lost on the way, perhaps more than once.

        What follows it in its connection waits for it, as over TCP.
        """
        late_s, wait_s, share = 0.0, RETRANSMIT_S, self.faults.loss
        for _ in range(LOST_MAX):
            if not share or self.chance.random() >= share:
                break
            self.counts.lost += 1
            late_s += wait_s
            wait_s *= 2
        return late_s

    async def open(self) -> None:
        """Wait until nothing holds the direction."""
        while self.faults.stall:
            await self.changed.wait()

    def change(self, given: dict[str, Any]) -> None:
        """Change the faults and wake what they hold."""
        self.faults.set(given)
        self.changed.set()
        self.changed = asyncio.Event()


class Link:
    """One listening port and the place behind it."""

    def __init__(self, name: str, to: str, seed: str) -> None:
        self.name = name
        self.to = to
        self.ways = {
            way: Way(random.Random(f"{seed}/{name}/{way}"))  # noqa: S311 - keeps no secret
            for way in WAYS
        }
        self.connections = self.refused = self.resets = 0
        self.marks: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def listen(self) -> int:
        """Take connections; the port is kept over a refusal."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    async def refuse(self, *, refuse: bool) -> None:
        """Stop listening, so that a connect is refused, or listen again."""
        if refuse and self._server is not None:
            self.refused += 1
            self._server.close()
            self._server = None
        elif not refuse and self._server is None:
            await self.listen()

    def reset(self) -> int:
        """End every open connection with a reset."""
        count = len(self._open)
        self.resets += count
        for task, writers in list(self._open.items()):
            for writer in writers:
                _reset(writer)
            task.cancel()
        return count

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._open[task] = [writer]
        task.add_done_callback(self._open.pop)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join one connection with one behind it until both directions have ended."""
        host, _, port = self.to.rpartition(":")
        try:
            await self.ways["forward"].open()
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                there = await asyncio.open_connection(host, int(port))
        except (OSError, TimeoutError):
            await self.ways["back"].open()
            _reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._open[task].append(there[1])
        pumps = [
            asyncio.create_task(Pump(self, "forward", reader, there[1]).run()),
            asyncio.create_task(Pump(self, "back", there[0], writer).run()),
        ]
        try:
            await asyncio.gather(*pumps)
        except OSError:
            _reset(writer)
            _reset(there[1])
        finally:
            for pump in pumps:
                pump.cancel()
            writer.close()
            there[1].close()

    def count(self) -> dict[str, Any]:
        """Give everything that was counted."""
        found: dict[str, Any] = {
            "connections": self.connections, "refused": self.refused, "resets": self.resets,
        }  # fmt: skip
        for name, way in self.ways.items():
            found[name] = {each.name: getattr(way.counts, each.name) for each in fields(Counts)}
        return found


def _reset(writer: asyncio.StreamWriter) -> None:
    peer: socket.socket | None = writer.get_extra_info("socket")
    if peer is not None:
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    writer.transport.abort()


class Pump:
    """Carries one direction of one connection: a reader that stamps, a writer that waits."""

    def __init__(
        self, link: Link, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._way = link.ways[way]
        self._marks = link.marks
        self._reader = reader
        self._writer = writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS_MAX)
        self._requests = Requests() if way == "forward" else None
        self._tail = b""

    async def run(self) -> None:
        """Carry bytes until the sender has ended."""
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reading.cancel()

    async def _read(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            try:
                data = await self._reader.read(CHUNK_BYTES)
            except OSError:
                data = b""
            if data:
                self._look(data)
            await self._queue.put((self._way.due_s(now(), len(data)), data))
            if not data:
                return

    def _look(self, data: bytes) -> None:
        """Count the marks that pass, also one that two pieces share."""
        if not self._marks:
            return
        seen = self._tail + data
        longest = max(map(len, self._marks))
        for mark in self._marks:
            before = self._tail.count(mark)
            self._way.counts.marks += seen.count(mark) - before
        self._tail = seen[-(longest - 1) :] if longest > 1 else b""

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        way = self._way
        while True:
            due_s, data = await self._queue.get()
            wait_s = due_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if way.faults.stall:
                way.counts.stalled += 1
                await way.open()
            try:
                if not data:
                    if self._writer.can_write_eof():
                        self._writer.write_eof()
                    return
                if self._requests is not None and self._requests.begins(data):
                    await self._let_others_pass()
                self._writer.write(data)
                way.counts.bytes += len(data)
                await self._writer.drain()
            except (OSError, RuntimeError) as error:
                message = "the other side is gone"
                raise BrokenPipeError(message) from error

    async def _let_others_pass(self) -> None:
        """Hold a request back until one of another connection has passed it."""
        way = self._way
        share = way.faults.reorder
        if share and way.chance.random() < share:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OVERTAKE_S_MAX):
                    await way.passing.wait()
                    way.counts.reordered += 1
                    await asyncio.sleep(OVERTAKE_LEAD_S)
        way.passing.set()
        way.passing = asyncio.Event()


class Proxy:
    """All links of one drill, and the commands that change them."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._links: dict[str, Link] = {}
        self._commands: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "open": self._open,
            "set": self._set,
            "refuse": self._refuse,
            "reset": self._reset,
            "retarget": self._retarget,
            "watch": self._watch,
            "counts": self._counts,
        }

    async def command(self, line: str) -> dict[str, Any]:
        """Carry out one command; what is wrong with it is an answer."""
        try:
            given = json.loads(line)
            return await self._commands[given.pop("do")](given)
        except (ValueError, KeyError, TypeError, OSError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    async def _open(self, given: dict[str, Any]) -> dict[str, Any]:
        link = Link(given["link"], given["to"], self._seed)
        self._links[link.name] = link
        return {"port": await link.listen()}

    async def _set(self, given: dict[str, Any]) -> dict[str, Any]:
        link, way = self._links[given.pop("link")], given.pop("way", "both")
        for name in WAYS if way == "both" else (way,):
            link.ways[name].change(given)
        return {}

    async def _refuse(self, given: dict[str, Any]) -> dict[str, Any]:
        await self._links[given["link"]].refuse(refuse=given["refuse"])
        return {}

    async def _reset(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"resets": self._links[given["link"]].reset()}

    async def _retarget(self, given: dict[str, Any]) -> dict[str, Any]:
        self._links[given["link"]].to = given["to"]
        return {}

    async def _watch(self, given: dict[str, Any]) -> dict[str, Any]:
        self._links[given["link"]].marks[:] = [bytes.fromhex(mark) for mark in given["marks"]]
        return {}

    async def _counts(self, given: dict[str, Any]) -> dict[str, Any]:
        return {name: link.count() for name, link in self._links.items()}


async def run(seed: str) -> None:
    """Answer commands until the input ends; then the process ends and all links with it."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    proxy = Proxy(seed)
    while line := await commands.readline():
        answer = await proxy.command(line.decode())
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(sys.argv[1]))
