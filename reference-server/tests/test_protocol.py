"""Slow heads, huge heads and framing errors against a real listener, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from fractal_lba_server.net.protocol import (
    Application,
    Reply,
    Request,
    WireLimits,
    bound_connection,
    sweep,
)

LIMITS = WireLimits(
    head_bytes=4_096,
    headers=20,
    head_timeout_s=0.3,
    body_timeout_s=1.5,
    connections=4,
)


class Echo:
    """Answers every whole request with its own body."""

    def body_limit(self, request: Request) -> int:
        return 1_000

    def handle(self, request: Request, reply: Reply) -> None:
        reply(200, b"", request.body)

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        reply({"payload_too_large": 413, "request_timeout": 408}[code], b"", code.encode())


async def no_asgi(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("requests go to the application of the protocol")


@contextlib.asynccontextmanager
async def listener(
    limits: WireLimits = LIMITS, application: Application | None = None
) -> AsyncIterator[int]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    protocol = bound_connection(application or Echo(), limits)
    config = uvicorn.Config(
        no_asgi,
        http=protocol,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([sock]))
    while not server.started:
        await asyncio.sleep(0.01)
    sweeping = asyncio.create_task(sweep(server.server_state.connections))
    try:
        yield sock.getsockname()[1]
    finally:
        sweeping.cancel()
        server.should_exit = True
        await serving


async def exchange(port: int, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send parts with pauses between, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()

    async def read() -> None:
        with contextlib.suppress(ConnectionResetError):
            while block := await reader.read(65_536):
                received.extend(block)

    reading = asyncio.create_task(read())
    with contextlib.suppress(ConnectionError):
        for part in parts:
            if reading.done():
                break
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
    await asyncio.wait_for(reading, 5)
    writer.close()
    return bytes(received) or b"reset"


CLOSE = b"connection: close\r\n\r\n"
GOOD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n" + CLOSE + b"ok"


@pytest.mark.parametrize(
    ("name", "parts", "status"),
    [
        ("a good request", [GOOD], b"200"),
        ("a good request byte by byte", [GOOD[i : i + 1] for i in range(len(GOOD))], b"200"),
        ("one huge header", [b"GET / HTTP/1.1\r\nx: " + b"a" * 10_000], b"431"),
        (
            "one huge header that ends",
            [b"GET / HTTP/1.1\r\nx: " + b"a" * 10_000 + b"\r\n\r\n"],
            b"431",
        ),
        ("a huge target", [b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n"], b"431"),
        (
            "many headers",
            [b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: 1\r\n" % i for i in range(21)) + b"\r\n"],
            b"431",
        ),
        (
            "two lengths",
            [b"POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"],
            b"400",
        ),
        (
            "a length and chunks",
            [b"POST / HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok"],
            b"400",
        ),
        (
            "a bad chunk",
            [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n"],
            b"400",
        ),
        ("no HTTP at all", [b"\x16\x03\x01\x02\x00\x01\x00"], b"400"),
    ],
)
def test_a_head_is_answered_or_refused(name: str, parts: list[bytes], status: bytes) -> None:
    async def run() -> bytes:
        async with listener() as port:
            return await exchange(port, *parts)

    answer = asyncio.run(run())
    assert answer.split(b" ")[1] == status, (name, answer)
    if status != b"200":
        assert b"connection: close" in answer


def test_a_head_that_trickles_is_ended() -> None:
    async def run() -> bytes:
        async with listener() as port:
            head = b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 15
            return await exchange(port, *[head[i : i + 4] for i in range(0, 80, 4)], pause_s=0.1)

    assert asyncio.run(run()).startswith(b"HTTP/1.1 408")


def test_half_a_head_on_a_kept_connection_is_ended() -> None:
    async def run() -> bytes:
        async with listener() as port:
            kept = GOOD.replace(b"connection: close\r\n", b"")
            return await exchange(port, kept, b"GET / HT", pause_s=0.2)

    answer = asyncio.run(run())
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")
    assert b"HTTP/1.1 408" in answer


def test_a_slow_body_is_not_cut_by_the_limit_of_the_head() -> None:
    async def run() -> bytes:
        async with listener() as port:
            return await exchange(port, GOOD[:-2], b"o", b"k", pause_s=0.5)

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200")


def test_a_body_that_never_ends_is_ended() -> None:
    async def run() -> bytes:
        async with listener() as port:
            return await exchange(port, GOOD[:-1], pause_s=2.5)

    answer = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 408")
    assert answer.endswith(b"request_timeout")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_beyond_its_limit_is_refused_unread(declared: bool) -> None:
    if declared:
        parts = [b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n"]
    else:
        head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        parts = [head, *[b"100\r\n" + b"x" * 256 + b"\r\n"] * 5]

    async def run() -> bytes:
        async with listener() as port:
            return await exchange(port, *parts)

    answer = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer


def test_connections_beyond_the_limit_are_told_to_come_back() -> None:
    async def run() -> tuple[bytes, bytes]:
        async with listener(WireLimits(connections=3, head_timeout_s=5)) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            refused = await exchange(port, GOOD)
            for _, writer in held:
                writer.close()
            await asyncio.sleep(0.1)
            return refused, await exchange(port, GOOD)

    refused, later = asyncio.run(run())
    assert refused == b"reset" or (
        refused.startswith(b"HTTP/1.1 503") and b"retry-after" in refused
    )
    assert later.startswith(b"HTTP/1.1 200")


def test_the_next_request_works_after_pipelined_ones() -> None:
    async def run() -> bytes:
        async with listener() as port:
            kept = GOOD.replace(b"connection: close\r\n", b"")
            return await exchange(port, kept * 5 + GOOD)

    assert asyncio.run(run()).count(b"HTTP/1.1 200") == 6
