"""The listener for other regions: what they send of their logs, and what they ask.

A caller is the region that its certificate names (`flk-region:<code>`), and nobody else's stream
is taken from it (spec/shipping.md 5). Plain HTTP is for tests on one machine: it is refused for
any address that is not loopback, and the batch's signature alone then says whose it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import uvicorn

from fractal_lba.canonical import jcs, parse
from fractal_lba.errors import CODES, ConfigError, FractalLBAError

from ..config import Address
from ..core.receiver import Ack
from ..core.regions import Registry
from ..core.replication import BATCH_BYTES_MAX, Mark
from ..core.segment import SegmentError
from ..inbound import Answer, Batch
from ..store.region_key import REGION_URI
from .protocol import Reply, Request, WireLimits, bound_connection, sweep

BASE: Final = "/peer/v1/"
POLICY_BYTES_MAX: Final = 65_536
"""A policy is a few hundred bytes."""

DIGEST_BYTES_MAX: Final = 4_194_304
"""A page of digests that two regions compare."""

READ_BYTES_MAX: Final = 1_048_576
"""Most bytes of one answer with a part of a segment."""

PEER_CONNECTIONS_MAX: Final = 256
"""Each peer needs one connection per stream, and one to look around."""

PEER_BODIES_MAX: Final = 64 * 1024 * 1024
"""Bytes of unfinished bodies over all connections."""

STATUS: Final = {
    "gap": 409, "fork": 409, "fenced": 423, "busy": 503, "unavailable": 503, "hlc_ahead": 425,
    "signature_invalid": 401, "unauthorized": 401, "forbidden": 403, "batch_malformed": 422,
    "frame_refused": 422, "policy_unknown": 424, "policy_malformed": 422, "bad_request": 400,
    "not_found": 404, "method_not_allowed": 405,
}  # fmt: skip
"""Status of each fault (spec/shipping.md 4)."""

_STREAM: Final = re.compile(r"/peer/v1/wal/([a-z0-9]{3})/([a-z0-9-]{1,64})")
_PLACE: Final = re.compile(_STREAM.pattern + r"/(0|[1-9][0-9]{0,15})/(0|[1-9][0-9]{0,15})")
_POLICY: Final = re.compile(r"/peer/v1/policies/([0-9a-f]{16})")
_NUMBER: Final = re.compile(rb"0|[1-9][0-9]{0,15}")
_SIGNATURE: Final = re.compile(rb"[0-9a-f]{128}")


class HeldStream(NamedTuple):
    """What is held here of a stream, own or mirrored."""

    mark: Mark
    prev_sha256: bytes
    header_epoch: int
    fenced_epoch: int


class Streams(Protocol):
    """What the listener needs; `work` calls run in worker threads, the others on the loop."""

    def work(self, run: Callable[[], None]) -> None: ...
    def soon(self, call: Callable[[], None]) -> None: ...
    def receive(
        self, region: str, placement: str, batch: Batch, answer: Callable[[Answer], None]
    ) -> None: ...
    def heard(self, region: str, placement: str, claimed_seq: int) -> None: ...
    def holds(self, region: str, placement: str) -> HeldStream | None: ...
    def read(
        self, region: str, placement: str, first_seq: int, offset: int, size: int
    ) -> bytes: ...
    def sign_read(
        self, region: str, placement: str, first_seq: int, offset: int, body: bytes
    ) -> tuple[int, bytes]: ...
    def keep_policy(self, version: str, document: bytes) -> bool: ...
    def policy(self, version: str) -> bytes | None: ...
    def answer_digest(
        self, region: str, document: dict[str, Any], done: Callable[[dict[str, Any]], None]
    ) -> bool: ...
    def answer_role(self, region: str | None, document: dict[str, Any]) -> dict[str, Any]: ...


class _RefusedError(Exception):
    """Leaves a handler with a fault for the caller."""

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


class PeerApp:
    """Answers whole requests of peers (net/protocol.py)."""

    def __init__(self, streams: Streams, registry: Registry, *, me: str) -> None:
        self._streams = streams
        self._registry = registry
        self._me = me

    def body_limit(self, request: Request) -> int:
        """Say how many bytes of body a request may have."""
        if request.path.startswith("/peer/v1/wal/"):
            return BATCH_BYTES_MAX
        return DIGEST_BYTES_MAX if request.path == "/peer/v1/digest" else POLICY_BYTES_MAX

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        """Answer a request that broke a limit of the wire."""
        _respond(reply, CODES[code].status or 500, {"fault": code, "message": message})

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        try:
            caller = self._caller(request)
            self._route(request, caller, reply)
        except _RefusedError as error:
            _refuse(reply, error.fault, error.message)

    # --- who calls, and what

    def _caller(self, request: Request) -> str | None:
        """Name the calling region; None on plain loopback, where nobody shows a certificate."""
        named = [uri for uri in request.uris if uri.startswith(REGION_URI)]
        if not request.uris:
            if not Address(request.address, 0).is_loopback:
                raise _RefusedError("unauthorized", "peers show a certificate of their region")
            return None
        region = named[0].removeprefix(REGION_URI) if len(named) == 1 else ""
        info = self._registry.regions.get(region)
        if info is None or info.retired:
            raise _RefusedError("forbidden", "the certificate names no region of ours")
        return region

    def _route(self, request: Request, caller: str | None, reply: Reply) -> None:
        method, path = request.method, request.path
        if found := _PLACE.fullmatch(path):
            place = (found[1], found[2], int(found[3]), int(found[4]))
            if method == "PUT":
                self._receive(request, caller, place, reply)
            elif method == "GET":
                self._read(caller, place, reply)
            else:
                raise _RefusedError("method_not_allowed", "GET or PUT")
        elif (found := _STREAM.fullmatch(path)) and method == "GET":
            self._holds(request, caller, found[1], found[2], reply)
        elif (found := _POLICY.fullmatch(path)) and method == "PUT":
            self._policy(found[1], request.body, reply)
        elif (found := _POLICY.fullmatch(path)) and method == "GET":
            document = self._streams.policy(found[1])
            if document is None:
                raise _RefusedError("not_found", "no such policy here")
            reply(200, b"content-type: application/json\r\n", document)
        elif path == "/peer/v1/digest" and method == "POST":
            self._digest(request, caller, reply)
        elif path == "/peer/v1/role" and method == "POST":
            self._role(request, caller, reply)
        else:
            raise _RefusedError("not_found", "no such resource")

    def _receive(
        self, request: Request, caller: str | None, place: tuple[str, str, int, int], reply: Reply
    ) -> None:
        region, placement, first_seq, offset = place
        if caller is not None and caller != region:
            raise _RefusedError("forbidden", f"{caller} does not write the stream of {region}")
        if region == self._me or not self._both_hold(placement, region):
            raise _RefusedError("forbidden", f"{region} ships no stream {placement} to us")
        region_epoch = _number(request, b"pcs-region-epoch")
        claimed_seq = _number(request, b"pcs-tail")
        signature = request.headers.get(b"pcs-signature", b"")
        if not _SIGNATURE.fullmatch(signature):
            raise _RefusedError("signature_invalid", "PCS-Signature: expected 128 hex digits")
        self._streams.heard(region, placement, claimed_seq)
        batch = Batch(
            region_epoch, first_seq, offset, request.body, bytes.fromhex(signature.decode())
        )

        def answer(result: Answer) -> None:
            self._streams.soon(lambda: _answer(reply, result))

        self._streams.work(lambda: self._streams.receive(region, placement, batch, answer))

    def _holds(
        self, request: Request, caller: str | None, region: str, placement: str, reply: Reply
    ) -> None:
        self._may_read(caller, region, placement)
        held = self._streams.holds(region, placement)
        if held is None:
            raise _RefusedError("not_found", "no such stream here")
        if b"pcs-tail" in request.headers and caller in {None, region} and region != self._me:
            self._streams.heard(region, placement, _number(request, b"pcs-tail"))
        document = {
            **mark_document(held.mark),
            "prev_sha256": held.prev_sha256.hex(),
            "region_epoch": held.header_epoch,
            "fenced_epoch": held.fenced_epoch,
        }
        _respond(reply, 200, document)

    def _read(self, caller: str | None, place: tuple[str, str, int, int], reply: Reply) -> None:
        region, placement, first_seq, offset = place
        self._may_read(caller, region, placement)
        streams = self._streams

        def run() -> None:
            try:
                body = streams.read(region, placement, first_seq, offset, READ_BYTES_MAX)
            except (SegmentError, OSError) as error:
                text = f"the segment cannot be read: {error}"
                streams.soon(lambda: _refuse(reply, "unavailable", text))
                return
            region_epoch, signature = streams.sign_read(region, placement, first_seq, offset, body)
            lines = (
                "content-type: application/octet-stream\r\n"
                f"pcs-region-epoch: {region_epoch}\r\npcs-signature: {signature.hex()}\r\n"
            )
            streams.soon(lambda: reply(200, lines.encode(), body))

        streams.work(run)

    def _policy(self, version: str, document: bytes, reply: Reply) -> None:
        streams = self._streams

        def run() -> None:
            kept = streams.keep_policy(version, document)
            if kept:
                streams.soon(lambda: _respond(reply, 200, {"policy_version": version}))
            else:
                text = "the body is not the policy of this version"
                streams.soon(lambda: _refuse(reply, "policy_malformed", text))

        streams.work(run)

    def _digest(self, request: Request, caller: str | None, reply: Reply) -> None:
        try:
            document = parse(request.body)
        except FractalLBAError as error:
            raise _RefusedError("bad_request", error.message) from None
        try:
            taken = self._streams.answer_digest(
                caller or "", document, lambda answer: _respond(reply, 200, answer)
            )
        except (KeyError, TypeError, ValueError):
            raise _RefusedError("bad_request", "not a comparison of digests") from None
        if not taken:
            raise _RefusedError("not_found", "no digests are compared here")

    def _role(self, request: Request, caller: str | None, reply: Reply) -> None:
        try:
            document = parse(request.body)
        except FractalLBAError as error:
            raise _RefusedError("bad_request", error.message) from None
        streams = self._streams

        def run() -> None:
            try:
                answer = streams.answer_role(caller, document)
            except ValueError as error:
                text = str(error)
                streams.soon(lambda: _refuse(reply, "bad_request", text))
            else:
                streams.soon(lambda: _respond(reply, 200, answer))

        streams.work(run)

    def _both_hold(self, placement: str, region: str) -> bool:
        hold = self._registry.may_hold
        return hold(placement, region) and hold(placement, self._me)

    def _may_read(self, caller: str | None, region: str, placement: str) -> None:
        """Refuse a region outside the placement: residency is denied unless it is granted."""
        reader = self._me if caller is None else caller
        if not (self._both_hold(placement, region) and self._registry.may_hold(placement, reader)):
            raise _RefusedError("forbidden", f"{placement} is not held there")


def mark_document(mark: Mark) -> dict[str, Any]:
    """Write a mark for the wire."""
    return dict(zip(Mark._fields, mark, strict=True))


def mark_of(document: Mapping[str, Any]) -> Mark:
    """Read a mark from the wire; raises ValueError."""
    try:
        found = Mark(*(document[name] for name in Mark._fields))
    except (KeyError, TypeError):
        raise ValueError("no mark") from None
    numbers = (found.first_seq, found.offset, found.seq)
    if not all(type(one) is int and one >= 0 for one in numbers) or type(found.sealed) is not bool:
        raise ValueError("no mark")
    return found


def _number(request: Request, name: bytes) -> int:
    text = request.headers.get(name, b"")
    if not _NUMBER.fullmatch(text):
        raise _RefusedError("bad_request", f"{name.decode()}: expected a number")
    return int(text)


def _answer(reply: Reply, result: Answer) -> None:
    if isinstance(result, Ack):
        document = {**mark_document(result.mark), "displaced": list(result.displaced)}
        _respond(reply, 200, document)
        return
    more: dict[str, Any] = {}
    if result.holds is not None:
        more["holds"] = mark_document(result.holds)
    if result.fenced_epoch:
        more["region_epoch"] = result.fenced_epoch
    if result.policy_version:
        more["policy_version"] = result.policy_version
    _refuse(reply, result.fault, result.message, **more)


def _refuse(reply: Reply, fault: str, message: str, **more: Any) -> None:
    _respond(reply, STATUS[fault], {"fault": fault, "message": message, **more})


def _respond(reply: Reply, status: int, document: Mapping[str, Any]) -> None:
    lines = "content-type: application/json\r\n"
    if status == STATUS["unavailable"]:
        lines += "retry-after: 1\r\n"
    reply(status, lines.encode(), jcs(document))


# --- the listener --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerTls:
    """The files of mutual TLS between regions."""

    cert: Path
    key: Path
    ca: Path


def check_listen(address: Address, tls: PeerTls | None) -> None:
    """Refuse to listen to other machines without mutual TLS; raises ConfigError."""
    if tls is None and not address.is_loopback:
        text = f"peers.listen {address}: reachable from elsewhere without TLS"
        raise ConfigError("config_invalid", f"{text}; set peers.cert, peers.key and peers.ca")


class _Server(uvicorn.Server):
    """A listener whose signals are somebody else's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class PeerListener:
    """A running listener for peers."""

    def __init__(self, server: _Server, address: Address) -> None:
        self._server = server
        self.address = address
        self._tasks: list[asyncio.Task[Any]] = []

    @classmethod
    async def start(cls, app: PeerApp, listen: Address, tls: PeerTls | None) -> PeerListener:
        """Listen; raises ConfigError or OSError."""
        check_listen(listen, tls)
        sock = socket.create_server((listen.host, listen.port), reuse_port=False)
        limits = WireLimits(connections=PEER_CONNECTIONS_MAX, body_bytes_in_flight=PEER_BODIES_MAX)
        config = uvicorn.Config(
            _no_asgi,
            http=bound_connection(app, limits),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_certfile=None if tls is None else tls.cert,
            ssl_keyfile=None if tls is None else str(tls.key),
            ssl_ca_certs=None if tls is None else str(tls.ca),
            ssl_cert_reqs=ssl.CERT_NONE if tls is None else ssl.CERT_REQUIRED,
            timeout_graceful_shutdown=1,
        )
        config.load()
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        host, port = sock.getsockname()[:2]
        self = cls(_Server(config), Address(host, port))
        serving = asyncio.create_task(self._server.serve([sock]))
        self._tasks.append(serving)
        while not self._server.started:  # the HTTP server has no event for it
            if serving.done():
                serving.result()  # raises what ended it
            await asyncio.sleep(0.001)
        self._tasks.append(asyncio.create_task(sweep(self._server.server_state.connections)))
        return self

    async def close(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        serving, *others = self._tasks
        for task in others:
            task.cancel()
        await serving


async def _no_asgi(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("requests go to the protocol's application, not through ASGI")


__all__ = [
    "STATUS",
    "HeldStream",
    "PeerApp",
    "PeerListener",
    "PeerTls",
    "Streams",
    "check_listen",
    "mark_document",
    "mark_of",
]
