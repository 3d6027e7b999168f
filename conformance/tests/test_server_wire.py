"""The suite's own HTTP client: it reads strictly, and what is not HTTP is a finding."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from server_parts import RawServer, says

from flk_conformance.server.wire import (
    Client,
    ClosedError,
    Connection,
    Pace,
    WireError,
    request_bytes,
    target_of,
)


def ask(data: bytes, method: str = "POST") -> tuple[int, bytes]:
    with RawServer(says(data)) as server, Connection(target_of(server.url), timeout_s=5) as wire:
        wire.send(request_bytes(target_of(server.url), method, "/", (), b"{}"))
        reply = wire.reply(method)
        return reply.status, reply.body


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("POST", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (200, b"ok")),
        ("POST", b"HTTP/1.1 200 OK\r\ncontent-length:2\r\ncontent-length: 2\r\n\r\nok", (200, b"ok")),
        ("POST", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, b"until the end")),
        ("POST", b"HTTP/1.0 404\r\ncontent-length: 0\r\n\r\n", (404, b"")),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", (200, b"")),
        ("POST", b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
        ("POST", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
         (200, b"x")),
        ("POST", (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
         b"2;a=b\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), (200, b"abc")),
    ],
)  # fmt: skip
def test_answer_is_read(method: str, data: bytes, expected: tuple[int, bytes]) -> None:
    assert ask(data, method) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : 1\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 ABC\r\n\r\n",
        b"220 smtp ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_a_finding(data: bytes) -> None:
    with pytest.raises(WireError):
        ask(data)


def test_silence_is_a_finding() -> None:
    def hang(sock: socket.socket) -> None:
        sock.recv(1)
        sock.recv(1_000)

    with RawServer(hang) as server, Connection(target_of(server.url), timeout_s=0.2) as wire:
        wire.send(b"x")
        with pytest.raises(WireError, match="the server hangs"):
            wire.reply()


def test_reset_is_an_end() -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with RawServer(reset) as server, Connection(target_of(server.url)) as wire:
        wire.send(b"xx")
        with pytest.raises(ClosedError):
            wire.reply()


def test_kept_connection_that_has_ended_is_replaced() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"  # and then it closes
    with RawServer(says(answer)) as server:
        client = Client(target_of(server.url), Pace(None))
        assert [client.ask("GET", "/").body for _ in range(5)] == [b"ok"] * 5
        client.forget()


def test_nobody_there_is_an_error_of_the_wire() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(WireError, match="no connection"):
        Client(target_of(f"http://127.0.0.1:{port}"), Pace(None)).ask("GET", "/")


def test_raw_bytes_come_back_as_they_are() -> None:
    with RawServer(says(b"anything at all")) as server:
        client = Client(target_of(server.url), Pace(None))
        assert client.raw(b"GET / HT", b"TP/1.1\r\n\r\n") == b"anything at all"


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "a:1", "http://a?x", "http://u@a", "http://a#b"]
)
def test_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|has no"):
        target_of(url)


def test_path_of_the_base_url_goes_before_every_path() -> None:
    target = target_of("https://example.org/base/")
    assert (target.port, target.prefix, target.authority) == (443, "/base", "example.org:443")
    assert request_bytes(target, "GET", "/health").startswith(b"GET /base/health HTTP/1.1\r\n")


def test_pace_leaves_a_gap_between_requests() -> None:
    waits: list[float] = []
    pace = Pace(10, sleep=waits.append)
    before = time.monotonic()
    for _ in range(5):
        pace.wait()
    spent = time.monotonic() - before
    assert waits[0] == 0
    assert sum(waits) >= 4 * 0.1 + 3 * 0.1 + 2 * 0.1 + 0.1 - 5 * spent
    assert Pace(None, sleep=waits.append).wait() is None
