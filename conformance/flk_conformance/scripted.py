"""Play the servers of a case on the loopback address, and keep what they saw.

Owner of scripts (`PROTOCOL.md` section 7). One thread runs an event loop for all servers, so the
order of arrival is one order. The servers of a case live as long as the case: a late request finds
no one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeVar

Members = dict[str, Any]
T = TypeVar("T")

HEAD_BYTES_MAX: Final = 65_536
"""A longer request head is a fault of the client."""

BODY_BYTES_MAX: Final = 16 * 1_048_576
"""A longer request body is a fault of the client."""

SHOWN_BYTES: Final = 2_000
"""How much of a body is kept for the trace of a failure."""

CALL_S: Final = 30.0
"""A guard against a loop that hangs; opening and closing servers takes milliseconds."""

SEEN: Final = {
    "attempt": "x-retry-attempt",
    "key": "idempotency-key",
    "tenant": "x-tenant-id",
    "min_ack": "pcs-min-ack",
    "authorization": "authorization",
}
"""What is compared of a request, and the header it stands in (tp.43)."""

NO_BODY: Final = frozenset({204, 304})
PLACE: Final = re.compile(r"server:(\d+)")
WRITTEN_PLACE: Final = re.compile(rb"\{server:(\d+)\}")
RESET: Final = struct.pack("ii", 1, 0)


class BadRequestError(Exception):
    """Say that a request is not HTTP/1.1 as a server can read it (tp.44)."""


class Stage:
    """The thread that plays."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="scripted", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    def play(self, args: Mapping[str, Any]) -> Play:
        """Give the servers of a case; they open with the `with` block."""
        return Play(self, args)

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        if not self._thread.is_alive():
            self._loop.close()


class Play:
    """The servers of one case."""

    def __init__(self, stage: Stage, args: Mapping[str, Any]) -> None:
        self._stage = stage
        self._args, script = args, args["script"]
        places = [PLACE.fullmatch(each["url"]) for each in args["endpoints"]]
        count = max([0, *(int(place[1]) + 1 for place in places if place)])
        silent: Members = {"steps": []}
        without = max(0, count - len(script["servers"]))
        self._scripts: list[Members] = [*script["servers"], *[silent] * without]
        self._health: list[str] = script.get("health", ["200"])
        self._used = [0] * len(self._scripts)
        self._asked = 0
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: list[Members] = []
        self._problems: list[str] = []
        self._wire: list[str] = []
        self._closed_port = socket.socket()
        self.urls: list[str] = []

    def __enter__(self) -> Self:
        self._stage.call(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stage.call(self._close())

    async def _open(self) -> None:
        self._closed_port.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it
        for number in range(len(self._scripts)):
            server = await asyncio.start_server(
                self._handler(number), "127.0.0.1", 0, limit=HEAD_BYTES_MAX
            )
            self._servers.append(server)
            self.urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed_port.close()

    # --- what a session asks --------------------------------------------------------------------

    def args(self) -> Members:
        """Give the arguments that a testee gets: without the script, with addresses."""
        given = {name: value for name, value in self._args.items() if name != "script"}
        endpoints = [{**each, "url": self._url(each["url"])} for each in given["endpoints"]]
        return {**given, "endpoints": endpoints}

    def _url(self, name: str) -> str:
        if name == "server:closed":
            return f"http://127.0.0.1:{self._closed_port.getsockname()[1]}"
        match = PLACE.fullmatch(name)
        return self.urls[int(match[1])] if match else name

    def requests(self) -> list[Members]:
        """Give what the servers saw so far, in the order of arrival."""
        return list(self._requests)

    def problems(self) -> list[str]:
        """Give what went wrong with the script or with a request."""
        return list(self._problems)

    def wire(self) -> list[str]:
        """Give what went over the wire, for people."""
        return list(self._wire)

    # --- one connection -------------------------------------------------------------------------

    def _handler(self, number: int) -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            self._writers.add(writer)
            try:
                while await self._exchange(number, reader, writer):
                    pass
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the client, or the end of the case, closed the connection
            except BadRequestError as error:
                self._problems.append(f"server {number}: {error} (tp.44)")
            finally:
                self._writers.discard(writer)
                self._tasks.discard(task)
                writer.close()

        return handle

    async def _exchange(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Read a request, answer it, and say whether the connection stays open."""
        request = await read_request(reader)
        if request is None:
            return False
        if request.target == "/health" and request.method == "GET":
            status = self._health[min(self._asked, len(self._health) - 1)]
            self._asked += 1
            await self._answer(number, {"status": status, "headers": [], "body": ""}, writer)
            return True
        self._note(number, request)
        step = self._step(number, request)
        if step.get("reset") == "true":
            self._wire.append(f"server {number}: resets the connection")
            reset(writer)
            return False
        if step.get("hang") == "true":
            self._wire.append(f"server {number}: says nothing")
            while await reader.read(HEAD_BYTES_MAX):
                pass
            return False
        if "delay_ms" in step:
            await asyncio.sleep(int(step["delay_ms"]) / 1000)
        return await self._answer(number, step, writer)

    def _note(self, number: int, request: Request) -> None:
        self._requests.append({"server": str(number), **request.facts()})
        shown = request.body[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        self._wire.append(f"server {number} <- {request.head.rstrip()}\n{shown}".rstrip())

    def _step(self, number: int, request: Request) -> Members:
        """Take the next step of a server, or the one of the record."""
        script = self._scripts[number]
        if "by_id" in script:
            id = request.pcs_id()
            step = script["by_id"].get(id)
            if step is None:
                return self._end(number, f"no step for the record {id!r}")
            return dict(step)
        steps, used = script["steps"], self._used[number]
        self._used[number] += 1
        if used < len(steps):
            return dict(steps[used])
        if steps and steps[-1].get("repeat") == "true":
            return dict(steps[-1])
        return self._end(number, f"request {used + 1} came after {len(steps)} steps")

    def _end(self, number: int, why: str) -> Members:
        self._problems.append(f"server {number}: {why} (tp.39)")
        return {"status": "500", "headers": [], "body": b"script ended".hex()}

    async def _answer(self, number: int, step: Members, writer: asyncio.StreamWriter) -> bool:
        status, body = int(step["status"]), self._filled(bytes.fromhex(step["body"]))
        closes = step.get("close") == "true" or "cut" in step
        fields = [(name, self._filled(value.encode()).decode()) for name, value in step["headers"]]
        if status not in NO_BODY:
            fields.append(("Content-Length", str(len(body))))
        if closes:
            fields.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {status} {phrase(status)}", *(f"{k}: {v}" for k, v in fields)]
        head = "\r\n".join([*lines, "", ""])
        sent = body[: int(step["cut"])] if "cut" in step else body
        shown = sent[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        self._wire.append(f"server {number} -> {head.rstrip()}\n{shown}".rstrip())
        writer.write(head.encode("latin-1") + (b"" if status in NO_BODY else sent))
        await writer.drain()
        return not closes

    def _filled(self, data: bytes) -> bytes:
        return WRITTEN_PLACE.sub(lambda match: self.urls[int(match[1])].encode(), data)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


def phrase(status: int) -> str:
    """Give the words of a status line."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


# --- requests ------------------------------------------------------------------------------


class Request:
    """One request as it came."""

    def __init__(self, head: str, body: bytes) -> None:
        first, *lines = head.rstrip("\r\n").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or words[2] != "HTTP/1.1":
            raise BadRequestError(f"expected a request line of HTTP/1.1, got {first[:100]!r}")
        self.method, self.target, _ = words
        self.head = head
        self.body = body
        self.fields: dict[str, list[str]] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadRequestError(f"expected a header field, got {line[:100]!r}")
            self.fields.setdefault(name.lower(), []).append(value.strip())
        if len(self.fields.get("host", [])) != 1:
            raise BadRequestError("expected one Host")

    def facts(self) -> Members:
        """Give what is compared."""
        found: Members = {"method": self.method, "path": self.target}
        for name, field in SEEN.items():
            if field in self.fields:
                found[name] = ", ".join(self.fields[field])
        if self.method == "POST":
            found["body_sha256"] = hashlib.sha256(self.body).hexdigest()
        return found

    def pcs_id(self) -> str:
        """Name the record that the request is about."""
        if self.method == "GET":
            return self.target.rpartition("/")[2]
        with suppress(ValueError, TypeError, KeyError):
            return str(json.loads(self.body)["pcs_id"])
        return ""


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read a request; None is the end of the connection."""
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequestError(f"the head breaks off: {error.partial[:100]!r}") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequestError(f"the head has more than {HEAD_BYTES_MAX} bytes") from error
    request = Request(data.decode("latin-1"), b"")
    request.body = await read_body(reader, request.fields)
    return request


async def read_body(reader: asyncio.StreamReader, fields: Mapping[str, list[str]]) -> bytes:
    """Read a body by its one length, or by its chunks."""
    lengths = fields.get("content-length", [])
    codings = fields.get("transfer-encoding", [])
    if len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
        raise BadRequestError("expected one Content-Length, or Transfer-Encoding: chunked")
    if codings:
        return await read_chunks(reader)
    if not lengths:
        return b""
    if re.fullmatch(r"[0-9]{1,9}", lengths[0], re.ASCII) is None:
        raise BadRequestError(f"Content-Length: expected digits, got {lengths[0]!r}")
    return await read_exactly(reader, int(lengths[0]))


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a body in chunks."""
    parts: list[bytes] = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = re.match(rb"[0-9a-fA-F]{1,7}", line)
        if size is None:
            raise BadRequestError(f"expected the size of a chunk, got {line[:100]!r}")
        count = int(size[0], 16)
        if not count:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(parts)
        parts.append(await read_exactly(reader, count))
        await reader.readexactly(2)


async def read_exactly(reader: asyncio.StreamReader, count: int) -> bytes:
    """Read so many bytes of a body."""
    if count > BODY_BYTES_MAX:
        raise BadRequestError(f"a body of {count} bytes")
    return await reader.readexactly(count)
