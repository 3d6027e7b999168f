"""Bytes pass the proxy as they came, in both directions, whatever they are."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading

import pytest
from server_parts import HANG_S, RawServer, RelayThread, all_of, exactly, says

GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def chunked(draw: random.Random, size: int) -> bytes:
    out = b"POST /v1/pcs/batch HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    while size:
        part = draw.randbytes(min(size, draw.randrange(1, 5_000)))
        out += b"%x\r\n%b\r\n" % (len(part), part)
        size -= len(part)
    return out + b"0\r\n\r\n"


def plain(draw: random.Random, size: int) -> bytes:
    head = (
        b"POST /v1/pcs/submit HTTP/1.1\r\nhost: a\r\nX-Odd:\tvalue \r\ncontent-length: %d\r\n\r\n"
    )
    return head % size + draw.randbytes(size)


REQUESTS = {
    "one": lambda draw: plain(draw, 800),
    "no-body": lambda draw: GET,
    "chunked": lambda draw: chunked(draw, 20_000),
    "pipelined": lambda draw: b"".join(plain(draw, 100 * i) + chunked(draw, 50) for i in range(20)),
    "large": lambda draw: plain(draw, 6_000_000),
    "large-chunked": lambda draw: chunked(draw, 2_000_000),
    "no-http": lambda draw: draw.randbytes(10_000),
    "half-a-head": lambda draw: GET[:20],
    "two-lengths": lambda draw: (
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"
    ),
    "empty": lambda draw: b"",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_what_a_client_sends_arrives_byte_for_byte(name: str) -> None:
    data = REQUESTS[name](random.Random(name))
    arrived: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        arrived.append(all_of(sock))
        sock.sendall(OK)

    with RawServer(serve) as server, RelayThread(server.url) as proxy, proxy.dial() as client:
        draw = random.Random(1)
        left = data
        while left:
            size = draw.randrange(1, 200_000)
            client.sendall(left[:size])
            left = left[size:]
        client.shutdown(socket.SHUT_WR)
        assert all_of(client) == OK
    assert arrived == [data]


ANSWERS = {
    "one": OK,
    "many": OK * 50,
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a\r\nabcde\r\n0\r\nt: 1\r\n\r\n",
    "until-the-end": b"HTTP/1.1 200 OK\r\n\r\n" + random.Random(2).randbytes(5_000_000),
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "no-http": random.Random(3).randbytes(100_000),
    "cut": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
    "nothing": b"",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_server_says_arrives_byte_for_byte(name: str) -> None:
    with (
        RawServer(says(ANSWERS[name])) as server,
        RelayThread(server.url) as proxy,
        proxy.dial() as client,
    ):
        client.sendall(GET)
        assert all_of(client) == ANSWERS[name]


def test_both_directions_flow_at_once() -> None:
    size = 8_000_000
    upward, downward = random.Random(4).randbytes(size), random.Random(5).randbytes(size)
    arrived: list[bytes] = []
    all_is_there = threading.Event()

    def serve(sock: socket.socket) -> None:
        sender = threading.Thread(target=sock.sendall, args=(downward,))
        sender.start()
        arrived.append(exactly(sock, size))
        all_is_there.set()
        sender.join()

    with RawServer(serve) as server, RelayThread(server.url) as proxy, proxy.dial() as client:
        sender = threading.Thread(target=client.sendall, args=(upward,))
        sender.start()
        received = exactly(client, size)
        sender.join()
        assert all_is_there.wait(HANG_S)
    assert (received == downward, arrived == [upward]) == (True, True)


def test_slow_reader_does_not_fill_the_memory() -> None:
    size, sent = 200_000_000, []
    given_up = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.recv(1)
        sock.settimeout(1.0)
        block = bytes(1_000_000)
        with contextlib.suppress(TimeoutError):
            for _ in range(size // len(block)):
                sock.sendall(block)
                sent.append(len(block))
        given_up.set()

    with RawServer(serve) as server, RelayThread(server.url) as proxy, proxy.dial() as client:
        client.sendall(b"x")
        assert given_up.wait(HANG_S)
    assert sum(sent) < size / 4


def test_reset_of_the_server_is_an_end_for_the_client() -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(1_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with (
        RawServer(reset) as server,
        RelayThread(server.url) as proxy,
        proxy.dial() as client,
        contextlib.suppress(ConnectionResetError),
    ):
        client.sendall(GET)
        assert client.recv(1) == b""
    assert proxy.exchanges[0].answer is None


def test_server_that_is_away_is_an_end_for_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with (
        RelayThread(url) as proxy,
        proxy.dial() as client,
        contextlib.suppress(ConnectionResetError),
    ):
        client.sendall(GET)
        assert client.recv(1) == b""


def test_exchanges_are_recorded_in_order_with_case_and_times() -> None:
    def serve(sock: socket.socket) -> None:
        for _ in range(3):
            sock.recv(65_536)
            sock.sendall(OK)

    with RawServer(serve) as server, RelayThread(server.url) as proxy, proxy.dial() as client:
        for name in ("a", "b", "c"):
            proxy.relay.case = name
            client.sendall(GET)
            exactly(client, len(OK))
    found = proxy.exchanges
    assert [one.case for one in found] == ["a", "b", "c"]
    assert [one.number for one in found] == [1, 2, 3]
    assert {one.connection for one in found} == {1}
    for one in found:
        assert one.answer is not None
        assert one.request.started_ns <= one.request.ended_ns <= one.answer.ended_ns


def test_pipelined_answers_belong_to_their_requests() -> None:
    targets = [f"/v1/pcs/{i}" for i in range(10)]
    requests = [f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n".encode() for target in targets]
    answers = [OK.replace(b"{}", b"%2d" % i) for i in range(10)]

    def serve(sock: socket.socket) -> None:
        exactly(sock, sum(map(len, requests)))
        sock.sendall(b"".join(answers))

    with RawServer(serve) as server, RelayThread(server.url) as proxy, proxy.dial() as client:
        client.sendall(b"".join(requests))
        assert all_of(client) == b"".join(answers)
    assert [one.request.target for one in proxy.exchanges] == targets
    bodies = [bytes(one.answer.body) for one in proxy.exchanges if one.answer is not None]
    assert bodies == [b"%2d" % i for i in range(10)]


def test_answer_before_the_request_is_whole_is_paired_with_it() -> None:
    refusal = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    head = b"POST /v1/pcs/submit HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n"
    with (
        RawServer(says(refusal)) as server,
        RelayThread(server.url) as proxy,
        proxy.dial() as client,
    ):
        client.sendall(head)
        assert all_of(client) == refusal
    (one,) = proxy.exchanges
    assert one.answer is not None
    assert (one.answer.status, one.request.is_whole) == (413, False)


def test_answer_before_any_request_is_paired_with_the_one_that_comes() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
    asked = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.sendall(refusal)
        sock.recv(1_000)
        asked.set()

    with RawServer(serve) as server, RelayThread(server.url) as proxy, proxy.dial() as client:
        assert exactly(client, len(refusal)) == refusal
        client.sendall(GET)
        asked.wait(HANG_S)
        assert all_of(client) == b""
    (one,) = proxy.exchanges
    assert one.answer is not None
    assert (one.request.target, one.answer.status) == ("/health", 503)
