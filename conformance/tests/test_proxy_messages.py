"""Followers find the same messages in the same bytes, however these are cut."""

from __future__ import annotations

import random

import pytest

from flk_conformance.proxy.messages import Follower, Message

PLAIN = b"POST /v1/pcs/submit HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
BARE = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = (
    b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;name=value\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


def followed(parts: list[bytes], *, answers: bool = False) -> list[Message]:
    follower = Follower(answers=answers)
    found = []
    for part in parts:
        data = part
        while data:
            data = data[follower.feed(data, 1) :]
            if follower.message.is_whole or follower.message.is_broken:
                found.append(follower.message)
                if follower.is_broken:
                    return found
                follower.start_next()
    follower.end(2)
    if follower.message.started_ns and not follower.is_idle:
        found.append(follower.message)
    return found


def facts(message: Message) -> tuple[object, ...]:
    return (
        message.method, message.target, message.status, message.headers, bytes(message.body),
        message.body_bytes, message.is_whole, message.is_broken,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "answers", "bodies"),
    [
        (PLAIN, False, [b"hello"]),
        (BARE, False, [b""]),
        (CHUNKED, False, [b"abc0123456789"]),
        (PLAIN + BARE + CHUNKED + PLAIN, False, [b"hello", b"", b"abc0123456789", b"hello"]),
        (INTERIM + ANSWER + ANSWER, True, [b"", b"ok", b"ok"]),
        (b"HTTP/1.1 204 No Content\r\n\r\n" + ANSWER, True, [b"", b"ok"]),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True, [b"until the end"]),
    ],
)
def test_cuts_do_not_matter(data: bytes, answers: bool, bodies: list[bytes]) -> None:
    whole = followed([data], answers=answers)
    assert [bytes(one.body) for one in whole] == bodies
    assert all(one.is_whole for one in whole)
    for at in range(1, len(data), 3):
        cut = followed([data[:at], data[at:]], answers=answers)
        assert [facts(one) for one in cut] == [facts(one) for one in whole]
    singles = followed([data[i : i + 1] for i in range(len(data))], answers=answers)
    assert [facts(one) for one in singles] == [facts(one) for one in whole]
    draw = random.Random(7)
    for _ in range(20):
        places = sorted(draw.sample(range(1, len(data)), 5))
        parts = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
        assert [facts(one) for one in followed(parts, answers=answers)] == [
            facts(one) for one in whole
        ]


@pytest.mark.parametrize(
    "data",
    [
        b"POST /x HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"POST /x HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"POST /x HTTP/1.1\r\nContent-Length: +2\r\n\r\nok",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"POST /x HTTP/1.1\r\nno colon\r\n\r\nok",
        b"\x16\x03\x01\r\n\r\nok",
    ],
)
def test_what_cannot_be_followed_is_broken_and_kept(data: bytes) -> None:
    (message,) = followed([data])
    assert message.is_broken
    assert not message.is_whole
    assert message.ended_ns


def test_first_line_of_a_head_that_never_ends_is_known() -> None:
    (message,) = followed([b"GET /health HTTP/1.1\r\nhost"])
    assert (message.method, message.target, message.has_head) == ("GET", "/health", False)


def test_answer_to_head_has_no_body() -> None:
    follower = Follower(answers=True)
    follower.to_head = True
    data = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
    assert follower.feed(data + b"HTTP", 1) == len(data)
    assert follower.message.is_whole


def test_answer_that_is_cut_is_not_whole() -> None:
    (message,) = followed([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"], answers=True)
    assert (message.is_whole, message.status, bytes(message.body)) == (False, 200, b"ab")
