"""The public listener: HTTP in, ingest events out, stored outcomes and problems back.

This file owns the wire names of `spec/openapi.yaml`. It hands bodies to the ingest driver
unread and writes answers; what is true of a record is decided in `core/`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fractal_lba.canonical import MAX_RECORD_BYTES, jcs

from ..core.first_write import Key, place, position
from ..core.ingest_events import Answer, BatchEnded, Refuse
from ..core.problem import problem, retry_after_ms, retry_after_text
from ..core.tenants import OPEN_PLACEMENT, Directory, Tenant
from ..ingest import Driver
from ..logs import Log
from ..metrics import Metrics
from .protocol import Reply, Request

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Largest body of a batch (spec/formats.md, batch)."""

MAX_BATCH_LINES: Final = 1_000
"""Most records of one batch."""

PREFLIGHT_MAX_AGE_S: Final = 600
"""How long a browser may keep the answer to a preflight."""

LEVELS: Final = frozenset({"durable", "replicated", "witnessed"})

_PCS_ID: Final = re.compile(r"/v1/pcs/([^/]*)\Z")
_HEX64: Final = re.compile(r"[0-9a-f]{64}\Z")
_CLIENT_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")

_JSON: Final = b"content-type: application/json\r\n"
_NDJSON: Final = b"content-type: application/x-ndjson\r\n"
_PROBLEM: Final = b"content-type: application/problem+json\r\n"
_EXPOSED: Final = (
    b"Date, Retry-After, X-Request-Id, X-Should-Retry, Idempotency-Replayed, "
    b"PCS-Position, PCS-Level, PCS-Replicated"
)
_ALLOWED: Final = (
    b"Authorization, Content-Type, Idempotency-Key, PCS-Min-Ack, X-Request-Id, "
    b"X-Retry-Attempt, X-Tenant-Id, traceparent"
)
_NOT_FOUND: Final = "this tenant has no outcome under this pcs_id"


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What the wire says about this region."""

    region: str
    has_peers: bool = False
    primary: bool = True
    allowed_origins: frozenset[str] = frozenset()


class RequestIds:
    """Gives UUIDv7 texts: 48 bits of time, then random bits drawn for many at a time.

    Of the 74 random bits of one id, 62 belong to it and 12 to its batch (RFC 9562 section 5.7).
    """

    BATCH: Final = 256

    def __init__(self) -> None:
        self._tails: list[str] = []
        self._last_ms = 0
        self._head = ""

    def next(self) -> str:
        if not self._tails:
            text = os.urandom(8 * self.BATCH + 2).hex()
            version = f"-7{text[-3:]}-"
            self._tails = [
                version
                + f"{'89ab'[int(text[i], 16) & 3]}{text[i + 1 : i + 4]}-{text[i + 4 : i + 16]}"
                for i in range(0, 16 * self.BATCH, 16)
            ]
        now_ms = time.time_ns() // 1_000_000
        if now_ms != self._last_ms:
            self._last_ms = now_ms
            head = f"{now_ms:012x}"
            self._head = f"{head[:8]}-{head[8:]}"
        return self._head + self._tails.pop()


class Exchange:
    """One request and its answer; what is learned on the way is logged at the end."""

    __slots__ = (
        "_app", "_reply", "code", "pcs_id", "replayed", "request", "request_id", "route",
        "started_ns", "tenant",
    )  # fmt: skip

    def __init__(self, app: App, request: Request, reply: Reply) -> None:
        self._app = app
        self._reply = reply
        self.request = request
        self.request_id = app.request_ids.next()
        self.started_ns = time.perf_counter_ns()
        self.route = "other"
        self.tenant: str | None = None
        self.pcs_id: str | None = None
        self.code: str | None = None
        self.replayed: bool | None = None

    def text(self, name: bytes) -> str | None:
        """Give a header as text, or None."""
        value = self.request.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send an answer and account for it."""
        origin = self.request.headers.get(b"origin")
        if origin is not None:
            headers += self._app.cors_lines(origin)
        self._reply(status, b"%bx-request-id: %b\r\n" % (headers, self.request_id.encode()), body)
        self._app.account(self, status)

    def refuse(self, refusal: Refuse, headers: bytes = b"") -> None:
        """Send a problem."""
        self.code = refusal.code
        status, body, lines = self._app.problem(refusal, self.request_id)
        self.respond(status, _PROBLEM + lines + headers, body)


Handler = Callable[[Exchange], None]


def _refusal(code: str, message: str) -> Refuse:
    return Refuse(0, code, message)


class App:
    """The application of one region; `handle` takes whole requests (net/protocol.py)."""

    def __init__(
        self,
        driver: Driver,
        settings: AppSettings,
        *,
        directory: Callable[[], Directory],
        policy_version: Callable[[str], str],
        log: Log,
        metrics: Metrics,
    ) -> None:
        self.request_ids = RequestIds()
        self._driver = driver
        self._settings = settings
        self._directory = directory
        self._policy_version = policy_version
        self._log = log
        self._metrics = metrics
        self._routes: dict[str, dict[str, Handler]] = {
            "/v1/pcs/submit": {"POST": self._submit},
            "/v1/pcs/batch": {"POST": self._batch},
            "/v1/tenants/self": {"GET": self._self},
            "/v1/region/status": {"GET": self._region_status},
            "/health": {"GET": self._ready},
            "/readyz": {"GET": self._ready},
            "/healthz": {"GET": self._alive},
        }

    def body_limit(self, request: Request) -> int:
        """Say how many bytes of body a request may have."""
        if request.path == "/v1/pcs/batch":
            return MAX_BATCH_BYTES
        return MAX_RECORD_BYTES

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        """Answer a request that broke a limit of the wire."""
        exchange = Exchange(self, request, reply)
        exchange.route = request.path if request.path in self._routes else "other"
        exchange.refuse(_refusal(code, message))

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        exchange = Exchange(self, request, reply)
        methods = self._routes.get(request.path)
        route = request.path
        if methods is None:
            match = _PCS_ID.match(request.path)
            if match is None:
                exchange.refuse(_refusal("not_found", "no such resource"))
                return
            if _HEX64.match(match.group(1)):
                exchange.pcs_id = match.group(1)
            route, methods = "/v1/pcs/{pcs_id}", {"GET": self._get}
        exchange.route = route
        method = request.method
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is not None:
            handler(exchange)
        elif method == "OPTIONS" and b"access-control-request-method" in request.headers:
            self._preflight(exchange, methods)
        else:
            allow = ", ".join(methods)
            refusal = _refusal("method_not_allowed", f"expected {allow}")
            exchange.refuse(refusal, b"allow: %b\r\n" % allow.encode())

    # --- writes

    def _submit(self, exchange: Exchange) -> None:
        fault = _type_fault(exchange, b"application/json")
        if fault is not None:
            exchange.refuse(fault)
            return
        self._driver.submit(
            partial(self._send, exchange),
            exchange.request.body,
            tenant_header=exchange.text(b"x-tenant-id"),
            address=exchange.request.address,
            level=exchange.text(b"pcs-min-ack"),
        )

    def _send(self, exchange: Exchange, result: Answer | Refuse) -> None:
        if result.key is not None:
            exchange.tenant, exchange.pcs_id = result.key
        if type(result) is Refuse:
            self._metrics.refused(result.code, exchange.tenant)
            exchange.refuse(result)
            return
        assert type(result) is Answer
        stored = result.stored
        exchange.replayed = result.replayed
        self._metrics.outcome(result.key[0], stored.status, replayed=result.replayed)
        exchange.respond(
            stored.status,
            b"content-type: application/json\r\nidempotency-replayed: %b\r\n"
            b"pcs-level: %b\r\npcs-position: %b%d\r\n%b"
            % (
                b"true" if result.replayed else b"false",
                result.level.encode(),
                place(stored.origin).encode(),
                stored.seq,
                self._watermark_line(result.key),
            ),
            stored.outcome,
        )

    def _batch(self, exchange: Exchange) -> None:
        fault = _type_fault(exchange, b"application/x-ndjson")
        if fault is not None:
            exchange.refuse(fault)
            return
        lines, last = split_lines(exchange.request.body)
        batch = Batch(self, exchange, len(lines), last)
        level = exchange.text(b"pcs-min-ack")
        tenant_header, address = exchange.text(b"x-tenant-id"), exchange.request.address
        for index, line in enumerate(lines):
            self._driver.submit(
                partial(batch.take, index),
                line,
                tenant_header=tenant_header,
                address=address,
                level=level,
                batch=exchange.request_id,
            )
        batch.start()

    def batch_item(self, exchange: Exchange, index: int, result: Answer | Refuse) -> bytes:
        """Write one line of the answer to a batch (spec/schemas/batch-item.json)."""
        if type(result) is Refuse:
            status, body, _ = self.problem(result, exchange.request_id)
            self._metrics.refused(result.code, result.key[0] if result.key else None)
            return b'{"index":%d,"problem":%b,"status":%d}\n' % (index, body, status)
        assert type(result) is Answer
        stored = result.stored
        exchange.tenant = result.key[0]
        self._metrics.outcome(result.key[0], stored.status, replayed=result.replayed)
        return (
            b'{"index":%d,"level":"%b","outcome":%b,"position":"%b","replayed":%b,'
            b'"status":%d}\n'
        ) % (
            index, result.level.encode(), stored.outcome, position(stored).encode(),
            b"true" if result.replayed else b"false", stored.status,
        )  # fmt: skip

    def end_batch(self, exchange: Exchange, items: list[bytes]) -> None:
        """Send the answer to a batch."""
        self._driver.feed(BatchEnded(exchange.request_id))
        exchange.respond(200, _NDJSON, b"".join(items))

    # --- reads

    def _get(self, exchange: Exchange) -> None:
        tenant = self._reader(exchange)
        if tenant is None:
            return
        pcs_id = exchange.pcs_id
        if pcs_id is None:
            exchange.refuse(_refusal("not_found", _NOT_FOUND))
            return
        self._driver.read(partial(self._send, exchange), tenant.id, pcs_id)

    def _self(self, exchange: Exchange) -> None:
        tenant = self._reader(exchange)
        if tenant is None:
            return
        version = self._policy_version(tenant.id)
        body = self._directory().describe(tenant, policy_version=version)
        exchange.respond(200, _JSON, body)

    def _region_status(self, exchange: Exchange) -> None:
        tenant = self._reader(exchange)
        if tenant is None:
            return
        stream = self._driver.core.streams.get(tenant.placement)
        streams = [] if stream is None else [stream.status()]
        body = jcs({"region": self._settings.region, "streams": streams})
        exchange.respond(200, _JSON, body)

    def _reader(self, exchange: Exchange) -> Tenant | None:
        """Find whose read token came; None if the request has been refused."""
        scheme, _, token = (exchange.text(b"authorization") or "").partition(" ")
        if scheme.lower() == "bearer":
            now_ms = time.time_ns() // 1_000_000
            tenant = self._directory().tenant_of_token(token.strip(), now_ms)
            if tenant is not None:
                exchange.tenant = tenant.id
                return tenant
        text = "expected Authorization: Bearer with a read token of a tenant"
        exchange.refuse(_refusal("unauthorized", text))
        return None

    # --- health

    def _alive(self, exchange: Exchange) -> None:
        primary = b"true" if self._settings.primary else b"false"
        body = b'{"ok":true,"region":"%b","primary":%b}'
        exchange.respond(200, _JSON, body % (self._settings.region.encode(), primary))

    def _ready(self, exchange: Exchange) -> None:
        refusal = self._driver.refusal()
        if refusal is None:
            self._alive(exchange)
        else:  # 503 for every reason; the code tells a standby from a fault
            code = "unavailable" if refusal.code == "unavailable" else "not_primary"
            exchange.refuse(_refusal(code, refusal.message))

    # --- browsers

    def cors_lines(self, origin: bytes) -> bytes:
        """Let a page of an allowed origin read the answer."""
        if origin.decode("latin-1") not in self._settings.allowed_origins:
            return b""
        return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\n%b" % (
            origin, _EXPOSED, b"vary: Origin\r\n",
        )  # fmt: skip

    def _preflight(self, exchange: Exchange, methods: Mapping[str, Handler]) -> None:
        headers = b""
        if self.cors_lines(exchange.request.headers.get(b"origin", b"")):
            headers = (
                b"access-control-allow-methods: %b\r\naccess-control-allow-headers: %b\r\n"
                b"access-control-max-age: %d\r\n"
            ) % (", ".join(methods).encode(), _ALLOWED, PREFLIGHT_MAX_AGE_S)
        exchange.respond(204, headers, b"")

    # --- problems and accounts

    def problem(self, refusal: Refuse, request_id: str) -> tuple[int, bytes, bytes]:
        """Give status, body and header lines of a refusal."""
        extras: dict[str, Any] = dict(refusal.extras or {})
        lines = b""
        if refusal.stored is not None:
            extras["position"] = position(refusal.stored)
            lines = b"pcs-position: %b\r\n" % extras["position"].encode()
        if refusal.key is not None:
            lines += self._watermark_line(refusal.key)
        wait_ms = retry_after_ms(refusal.code, refusal.retry_after_ms)
        if wait_ms is not None:
            extras["retry_after_ms"] = wait_ms
            lines += b"retry-after: %b\r\n" % retry_after_text(wait_ms).encode()
        status, body = problem(
            refusal.code,
            refusal.message,
            request_id=request_id,
            pointer=refusal.pointer,
            **extras,
        )
        if status == 401:  # RFC 9110 15.5.2: it names a scheme, here the read token's
            lines += b"www-authenticate: Bearer\r\n"
        return status, body, lines

    def _watermark_line(self, key: Key) -> bytes:
        """Say up to where our stream of the tenant's placement is replicated."""
        if not self._settings.has_peers:
            return b""
        tenant = self._directory().tenants.get(key[0])
        stream = self._driver.core.streams.get(
            OPEN_PLACEMENT if tenant is None else tenant.placement
        )
        watermark = None if stream is None else stream.watermark()
        return b"" if watermark is None else b"pcs-replicated: %b\r\n" % watermark.encode()

    def account(self, exchange: Exchange, status: int) -> None:
        """Log and count an answered request."""
        duration_ns = time.perf_counter_ns() - exchange.started_ns
        request = exchange.request
        given = request.headers.get(b"x-request-id")
        usable = given is not None and _CLIENT_ID.match(given)
        self._log.request(
            request_id=exchange.request_id,
            method=request.method,
            route=exchange.route,
            status=status,
            duration_us=duration_ns // 1_000,
            tenant=exchange.tenant,
            pcs_id=exchange.pcs_id,
            code=exchange.code,
            replayed=exchange.replayed,
            client_request_id=given.decode() if given is not None and usable else None,
            idempotency_key=exchange.text(b"idempotency-key"),
        )
        self._metrics.request(exchange.route, status, duration_ns)


class Batch:
    """Collects the answers of one batch and sends them in order of its lines."""

    def __init__(self, app: App, exchange: Exchange, lines: int, last: Refuse | None) -> None:
        self._app = app
        self._exchange = exchange
        self._results: list[Answer | Refuse | None] = [None] * lines
        self._last = last
        # One more than the lines, so that it cannot end while lines are still handed over.
        self._missing = lines + 1

    def take(self, index: int, result: Answer | Refuse) -> None:
        """Take the answer to one line."""
        self._results[index] = result
        self.start()

    def start(self) -> None:
        """Count one answer less to wait for; at none, send."""
        self._missing -= 1
        if self._missing:
            return
        results = [result for result in self._results if result is not None]
        if self._last is not None:
            results.append(self._last)
        app, exchange = self._app, self._exchange
        app.end_batch(exchange, [app.batch_item(exchange, i, r) for i, r in enumerate(results)])


def _type_fault(exchange: Exchange, expected: bytes) -> Refuse | None:
    headers = exchange.request.headers
    given = headers.get(b"content-type", b"")
    if given != expected:
        media, _, parameters = given.partition(b";")
        plain = parameters.strip().lower() in (b"", b"charset=utf-8", b'charset="utf-8"')
        if media.strip().lower() != expected or not plain:
            return _refusal("unsupported_media_type", f"expected {expected.decode()}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        return _refusal("unsupported_media_type", "expected no Content-Encoding")
    level = headers.get(b"pcs-min-ack", b"durable").decode("latin-1")
    if level not in LEVELS:
        return _refusal("bad_request", "PCS-Min-Ack: expected durable, replicated or witnessed")
    return None


def split_lines(body: bytes) -> tuple[list[bytes], Refuse | None]:
    """Split a batch (spec/formats.md, batch); the refusal is that of the line that ends it."""
    lines = body.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for index, line in enumerate(lines):
        if len(line) > MAX_RECORD_BYTES:
            text = f"a line must be at most {MAX_RECORD_BYTES} bytes; no later line was read"
            return lines[:index], _refusal("payload_too_large", text)
        if index == MAX_BATCH_LINES:
            text = f"a batch has at most {MAX_BATCH_LINES} lines; no later line was read"
            return lines[:index], _refusal("payload_too_large", text)
    return lines, None
