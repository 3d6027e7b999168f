"""Bytes that are no request, requests that never end, and clients that leave.

The answer is in the 4xx range or the connection ends; it is never 5xx and never silence, nothing
is recorded, and the next request works.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from functools import partial

from .. import judge
from ..judge import Failed, require
from ..records import Submission
from ..trial import SUBMIT, Case, Trial, add, case
from ..wire import HANG_S, ClosedError, Connection, WireError, parse_head, request_bytes
from .methods import ROUTES

Wire = Callable[[Trial, Submission], bytes]
MARGIN_S = 4.0
"""How long after its own limit a server may take to notice that a client is slow."""


def _head(trial: Trial, *lines: str, request: str = f"POST {SUBMIT} HTTP/1.1") -> bytes:
    prefixed = request.replace(" /", f" {trial.target.prefix}/", 1)
    rows = [prefixed, f"Host: {trial.target.authority}", "Content-Type: application/json", *lines]
    return "\r\n".join(rows).encode("latin-1") + b"\r\n\r\n"


def _judge(received: bytes, *statuses: int) -> None:
    """Judge what came back to something that is no request."""
    if not received:
        return  # closed without a word
    head, _, _ = received.partition(b"\r\n\r\n")
    try:
        status, _ = parse_head(head)
    except WireError as error:
        raise Failed(f"the answer is no HTTP: {error}") from None
    require(400 <= status <= 499, f"expected 4xx or a close, got {status}")
    require(not statuses or status in statuses, f"expected one of {statuses}, got {status}")


def _next_works(trial: Trial, one: Submission) -> None:
    trial.unrecorded(one)
    judge.recorded(trial.send(one))


def _malformed(number: int, name: str, make: Wire, statuses: tuple[int, ...] = ()) -> None:
    def run(trial: Trial) -> None:
        one = trial.records.fresh(trial.key())
        _judge(trial.client.raw(make(trial, one)), *statuses)
        _next_works(trial, one)

    text = f"A request with {name} is refused, and the next one works."
    cites = "formats 9.9" if 431 in statuses else "formats 9.8"
    add(Case(f"sockets/{cites.split()[1]}/{number}", cites, text, run, frozenset({"submit"})))


def _framed(*lines: str, body: Callable[[bytes], bytes] = lambda body: body) -> Wire:
    """Write the record's request with header lines in which {n} is the length of its body."""

    def make(trial: Trial, one: Submission) -> bytes:
        filled = [line.replace("{n}", str(len(one.body))) for line in lines]
        return _head(trial, *filled) + body(one.body)

    return make


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def _plain(data: bytes) -> Wire:
    return lambda _trial, _one: data


def _many_headers(trial: Trial, one: Submission) -> bytes:
    lines = [f"x-{i}: 1" for i in range(trial.features.limits.headers + 1)]
    return _head(trial, *lines, f"Content-Length: {len(one.body)}") + one.body


def _long_header(trial: Trial, one: Submission) -> bytes:
    line = "x-long: " + "a" * trial.features.limits.head_bytes
    return _head(trial, line, f"Content-Length: {len(one.body)}") + one.body


def _long_target(trial: Trial, _: Submission) -> bytes:
    target = "a" * trial.features.limits.head_bytes
    return _head(trial, request=f"GET /{target} HTTP/1.1")


def _endless_head(trial: Trial, _: Submission) -> bytes:
    return b"GET /health HTTP/1.1\r\nx: " + b"a" * (4 * trial.features.limits.head_bytes)


_CHUNKED = "Transfer-Encoding: chunked"
_MALFORMED: tuple[tuple[str, Wire], ...] = (
    ("two lengths", _framed("Content-Length: {n}", "Content-Length: 1")),
    ("two lengths in one line", _framed("Content-Length: {n}, 1")),
    ("a length and chunks", _framed("Content-Length: {n}", _CHUNKED, body=_chunk)),
    ("chunks and a length", _framed(_CHUNKED, "Content-Length: {n}", body=_chunk)),
    ("a negative length", _framed("Content-Length: -{n}")),
    ("a length with a sign", _framed("Content-Length: +{n}")),
    ("a length in words", _framed("Content-Length: many")),
    ("a length of 40 digits", _framed("Content-Length: " + "9" * 40)),
    ("an empty length", _framed("Content-Length:")),
    ("a hexadecimal length", _framed("Content-Length: 0x10")),
    ("a chunk size that is no number", _framed(_CHUNKED, body=lambda b: b"zz\r\n" + b)),
    ("a chunk that is longer than it says", _framed(_CHUNKED, body=lambda b: b"5\r\n" + b)),
    ("a chunk size of 40 digits", _framed(_CHUNKED, body=lambda b: b"f" * 40 + b"\r\n" + b)),
    ("a negative chunk size", _framed(_CHUNKED, body=lambda b: b"-5\r\n" + b)),
    ("an unknown transfer coding", _framed("Transfer-Encoding: braille")),
    ("a header line without a colon", _framed("nothing here", "Content-Length: {n}")),
    ("a header name with a space", _framed("x y: 1", "Content-Length: {n}")),
    ("a space before the colon", _framed("x : 1", "Content-Length: {n}")),
    ("a header without a name", _framed(": 1", "Content-Length: {n}")),
    ("a NUL in a header", _framed("x: a\0b", "Content-Length: {n}")),
    ("a version that does not exist",
     lambda t, _: _head(t, request=f"POST {SUBMIT} HTTP/9.1")),
    ("no version", lambda t, _: _head(t, request=f"POST {SUBMIT} FTP/1.1")),
    ("no method", lambda t, _: _head(t, request=f" {SUBMIT} HTTP/1.1")),
    ("a method of symbols", lambda t, _: _head(t, request=f"P()ST {SUBMIT} HTTP/1.1")),
    ("a target that is not ASCII", lambda t, _: _head(t, request="GET /\xe9 HTTP/1.1")),
    ("a target without a slash", lambda t, _: _head(t, request="GET health HTTP/1.1")),
    ("CONNECT", lambda t, _: _head(t, request="CONNECT a:1 HTTP/1.1")),
    ("a TLS greeting", _plain(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32))),
    ("an HTTP/2 preface", _plain(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
    ("NULs", _plain(bytes(64) + b"\r\n\r\n")),
    ("a line of another protocol", _plain(b"EHLO example.org\r\n\r\n")),
)  # fmt: skip
_TOO_LARGE: tuple[tuple[str, Wire], ...] = (
    ("101 headers", _many_headers),
    ("a header of 16 KiB", _long_header),
    ("a target of 16 KiB", _long_target),
    ("a head without end", _endless_head),
)
for _number, (_name, _make) in enumerate(_MALFORMED, 1):
    _malformed(_number, _name, _make)
for _number, (_name, _make) in enumerate(_TOO_LARGE, 1):
    _malformed(_number, _name, _make, (431, 400, 414))


# --- the same on every path ----------------------------------------------------------------------


def _asked(trial: Trial, method: str, path: str, *lines: str) -> bytes:
    rows = [f"{method} {trial.target.prefix}{path} HTTP/1.1", f"Host: {trial.target.authority}"]
    return "\r\n".join([*rows, *lines]).encode("latin-1")


@case("sockets/9.9/11", "formats 9.9")
def large_head_on_every_path(trial: Trial) -> None:
    """A head that is too large is refused on every path."""
    many = [f"x-{i}: 1" for i in range(trial.features.limits.headers + 1)]
    for path, (method, _) in ROUTES.items():
        received = trial.client.raw(_asked(trial, method, path, *many) + b"\r\n\r\n")
        _judge(received, 431, 400)


@case("sockets/9.8/43", "formats 9.8")
def two_lengths_on_every_path(trial: Trial) -> None:
    """Two lengths are a framing error on every path: a bare 400, or a close."""
    lengths = ("Content-Length: 1", "Content-Length: 2")
    for path, (method, _) in ROUTES.items():
        received = trial.client.raw(_asked(trial, method, path, *lengths) + b"\r\n\r\n{}")
        _judge(received, 400)
        require(b"\r\n\r\n" not in received.strip(), "a framing error is answered with a body")


@case("sockets/9.9/12", "formats 9.9", slow=True)
def slow_head_on_every_path(trial: Trial) -> None:
    """A head that never ends is 408 or a close on every path."""
    limit_s = trial.features.limits.head_timeout_s
    heads = [_asked(trial, method, path, "x: 1\r\n") for path, (method, _) in ROUTES.items()]
    trial.at_once([partial(_too_slow, trial, limit_s, head, pause_s=0) for head in heads])


# --- bodies that are too large -------------------------------------------------------------------


@case("sockets/9.3/1", "formats 9.3")
def declared_too_large(trial: Trial) -> None:
    """A body that is declared too large is 413 before it is sent."""
    most = trial.features.limits.record_bytes
    with Connection(trial.target) as wire:
        wire.send(_head(trial, f"Content-Length: {most + 1}"))
        reply = wire.reply()
        trial.check(reply)
        judge.refused(reply, 413, "payload_too_large")


@case("sockets/9.3/2", "formats 9.3")
def chunks_too_large(trial: Trial) -> None:
    """Chunks beyond the largest size are 413, and are heard although more is on its way."""
    block = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    with Connection(trial.target) as wire:
        wire.send(_head(trial, _CHUNKED))
        with contextlib.suppress(ClosedError):
            for _ in range(8):
                wire.send(block)
            wire.send(b"0\r\n\r\n")
        reply = wire.reply()
        trial.check(reply)
        judge.refused(reply, 413, "payload_too_large")


@case("sockets/9.3/3", "formats 9.3")
def far_too_large(trial: Trial) -> None:
    """A sender of eight megabytes hears 413, or at least a close."""
    size = 8 * 1024 * 1024
    head = _head(trial, f"Content-Length: {size}")
    received = trial.client.raw(head, *[bytes(65_536)] * (size // 65_536))
    _judge(received, 413)


@case("sockets/9.3/4", "formats 9.3")
def asks_first(trial: Trial) -> None:
    """With Expect: 100-continue a body that is too large is refused unsent, another is taken."""
    one = trial.records.fresh(trial.key())
    most = trial.features.limits.record_bytes
    with Connection(trial.target) as wire:
        wire.send(_head(trial, "Expect: 100-continue", f"Content-Length: {len(one.body)}"))
        require(wire.interim() == 100, "no 100 Continue")
        wire.send(one.body)
        judge.recorded(wire.reply())
    with Connection(trial.target) as wire:
        wire.send(_head(trial, "Expect: 100-continue", f"Content-Length: {most + 1}"))
        judge.refused(wire.reply(), 413, "payload_too_large")


# --- time ----------------------------------------------------------------------------------------


def _too_slow(trial: Trial, limit_s: float, *parts: bytes, pause_s: float) -> bytes:
    """Send parts with pauses; the server must end it soon after its limit."""
    started = time.monotonic()
    with Connection(trial.target, timeout_s=limit_s + MARGIN_S + HANG_S) as wire:
        try:
            for part in parts:
                wire.send(part)
                if wire.is_closed():
                    break
                time.sleep(pause_s)
        except ClosedError:
            pass
        received = wire.rest()
    took_s = time.monotonic() - started
    require(took_s <= limit_s + MARGIN_S, f"it took {took_s:.1f} s; the limit is {limit_s:g} s")
    _judge(received, 408)
    return received


@case("sockets/9.9/5", "formats 9.9", slow=True)
def half_a_head(trial: Trial) -> None:
    """Half a head is 408 or a close when its time is up."""
    limit_s = trial.features.limits.head_timeout_s
    _too_slow(trial, limit_s, _head(trial)[:-2], pause_s=0)


@case("sockets/9.9/6", "formats 9.9", slow=True)
def trickled_head(trial: Trial) -> None:
    """A head that trickles is 408 or a close when its time is up."""
    limit_s = trial.features.limits.head_timeout_s
    lines = [b"x-%d: 1\r\n" % i for i in range(60)]
    _too_slow(trial, limit_s, _head(trial)[:-2], *lines, pause_s=limit_s / 20)


@case("sockets/9.9/7", "formats 9.9", slow=True)
def half_a_body(trial: Trial) -> None:
    """Half a body is 408 when its time is up, and nothing is recorded."""
    one = trial.records.fresh(trial.key())
    limit_s = trial.features.limits.body_timeout_s
    data = _framed("Content-Length: {n}")(trial, one)
    _too_slow(trial, limit_s, data[:-10], pause_s=0)
    _next_works(trial, one)


@case("sockets/9.9/8", "formats 9.9", slow=True)
def trickled_body(trial: Trial) -> None:
    """A body that trickles is 408 when its time is up, and nothing is recorded."""
    one = trial.records.fresh(trial.key())
    limit_s = trial.features.limits.body_timeout_s
    head = _head(trial, f"Content-Length: {len(one.body)}")
    parts = [one.body[i : i + 1] for i in range(60)]
    _too_slow(trial, limit_s, head, *parts, pause_s=limit_s / 20)
    _next_works(trial, one)


@case("sockets/9.9/9", "formats 9.9", slow=True)
def half_a_chunk(trial: Trial) -> None:
    """A chunk that never ends is 408 when its time is up."""
    limit_s = trial.features.limits.body_timeout_s
    _too_slow(trial, limit_s, _head(trial, _CHUNKED) + b"3e8\r\n{", pause_s=0)


@case("sockets/9.9/10", "formats 9.9", slow=True)
def half_a_head_after_an_answer(trial: Trial) -> None:
    """Half a second head on a kept connection is 408 or a close, after the first answer."""
    one = trial.records.fresh(trial.key())
    limit_s = trial.features.limits.head_timeout_s
    whole = _framed("Content-Length: {n}")(trial, one)
    with Connection(trial.target, timeout_s=limit_s + MARGIN_S) as wire:
        wire.send(whole + _head(trial)[:40])
        judge.recorded(wire.reply())
        _judge(wire.rest(), 408)


# --- clients that leave --------------------------------------------------------------------------


def _leaves(trial: Trial, *, share: float, reset: bool) -> None:
    one = trial.records.fresh(trial.key())
    data = _framed("Content-Length: {n}")(trial, one)
    for _ in range(5):
        sock = trial.target.dial()
        sock.sendall(data[: int(len(data) * share)])
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    _next_works(trial, one)


for _number, (_share, _reset) in enumerate(
    [(share, reset) for share in (0.1, 0.5, 0.99) for reset in (False, True)], 2
):
    add(
        Case(
            f"sockets/7.8/{_number}",
            "formats 7.8",
            f"A client that {'resets' if _reset else 'leaves'} after {_share:.0%} of a request "
            "records nothing.",
            partial(_leaves, share=_share, reset=_reset),
            frozenset({"submit"}),
        )
    )


@case("sockets/9.8/32", "formats 9.8")
def body_shorter_than_declared(trial: Trial) -> None:
    """A body that ends before its length records nothing and is no 5xx."""
    one = trial.records.fresh(trial.key())
    data = _framed("Content-Length: {n}")(trial, one)
    _judge(trial.client.raw(data[:-5], half_close=True))
    _next_works(trial, one)


@case("sockets/9.8/33", "formats 9.8")
def nothing_at_all(trial: Trial) -> None:
    """A client that ends without a request is let go."""
    _judge(trial.client.raw(half_close=True))
    judge.recorded(trial.send(trial.records.fresh(trial.key())))


# --- odd, but right ------------------------------------------------------------------------------


@case("sockets/9.8/34", "formats 9.8")
def byte_by_byte(trial: Trial) -> None:
    """A request that comes byte by byte is a request."""
    one = trial.records.fresh(trial.key())
    data = _framed("Content-Length: {n}")(trial, one)
    with Connection(trial.target) as wire:
        for i in range(len(data)):
            wire.send(data[i : i + 1])
        judge.recorded(wire.reply())


@case("sockets/9.8/35", "formats 9.8")
def in_chunks(trial: Trial) -> None:
    """A record in chunks, with extensions and a trailer, is a record."""
    one = trial.records.fresh(trial.key())
    middle = len(one.body) // 2
    parts = (one.body[:1], one.body[1:middle], one.body[middle:])
    body = b"".join(b"%X;name=value\r\n%b\r\n" % (len(part), part) for part in parts)
    with Connection(trial.target) as wire:
        wire.send(_head(trial, _CHUNKED) + body + b"0\r\nx-trailer: 1\r\n\r\n")
        judge.recorded(wire.reply())


@case("sockets/9.8/36", "formats 9.8")
def pipelined(trial: Trial) -> None:
    """Requests that are sent before the first answer are answered in their order."""
    rows = [trial.records.fresh(trial.key()) for _ in range(20)]
    data = b"".join(_framed("Content-Length: {n}")(trial, one) for one in rows)
    with Connection(trial.target) as wire:
        wire.send(data)
        got = [judge.recorded(wire.reply())["pcs_id"] for _ in rows]
    require(got == [one.pcs_id for one in rows], "the answers stand in another order")


@case("sockets/9.8/37", "formats 9.8")
def pipelined_with_a_refusal(trial: Trial) -> None:
    """A refusal in the middle of requests does not take the place of another's answer."""
    one, two = (trial.records.fresh(trial.key()) for _ in range(2))
    good = _framed("Content-Length: {n}")
    bad = request_bytes(trial.target, "POST", SUBMIT, [("Content-Type", "application/json")], b"{")
    with Connection(trial.target) as wire:
        wire.send(good(trial, one) + bad + good(trial, two))
        require(judge.recorded(wire.reply())["pcs_id"] == one.pcs_id, "another record's outcome")
        judge.refused(wire.reply(), 400, "json_malformed")
        require(judge.recorded(wire.reply())["pcs_id"] == two.pcs_id, "another record's outcome")


@case("sockets/9.8/38", "formats 9.8")
def half_closed(trial: Trial) -> None:
    """A client that has sent all and ends its side hears its answer."""
    one = trial.records.fresh(trial.key())
    data = _framed("Content-Length: {n}")(trial, one)
    with Connection(trial.target) as wire:
        wire.send(data)
        wire.end()
        judge.recorded(wire.reply())


@case("sockets/9.8/39", "formats 9.8")
def header_names_of_any_case(trial: Trial) -> None:
    """The letter case of header names does not matter, nor does space around values."""
    one = trial.records.fresh(trial.key())
    prefix = trial.target.prefix
    data = (
        f"POST {prefix}{SUBMIT} HTTP/1.1\r\nhOST: {trial.target.authority}\r\n"
        f"CONTENT-type:application/json\r\ncontent-LENGTH:  {len(one.body)} \r\n\r\n"
    ).encode() + one.body
    with Connection(trial.target) as wire:
        wire.send(data)
        judge.recorded(wire.reply())


@case("sockets/9.8/40", "formats 9.8")
def kept_connection(trial: Trial) -> None:
    """A hundred requests on one connection are answered on it."""
    with Connection(trial.target) as wire:
        for number in range(100):
            wire.send(request_bytes(trial.target, "GET", "/healthz"))
            reply = wire.reply("GET")
            require(reply.status == 200 and not reply.closes, f"request {number}: {reply.status}")


@case("sockets/9.8/41", "formats 9.8")
def connection_close(trial: Trial) -> None:
    """A client that asks for the end of the connection gets its answer and the end."""
    with Connection(trial.target) as wire:
        wire.send(request_bytes(trial.target, "GET", "/healthz", [("Connection", "close")]))
        require(wire.reply("GET").status == 200, "no answer")
        require(wire.rest() == b"", "more than an answer")


@case("sockets/9.8/42", "formats 9.8")
def crowd_of_nonsense(trial: Trial) -> None:
    """Fifty connections of nonsense at once leave the server as it was."""
    rows = [make(trial, trial.records.fresh(trial.key())) for _, make in _MALFORMED[:10]]
    for received in trial.at_once([partial(trial.client.raw, row) for row in rows * 5]):
        _judge(received)
    judge.recorded(trial.send(trial.records.fresh(trial.key())))
