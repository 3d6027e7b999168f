"""Build requests and read responses: bytes in, values out, no socket.

This file owns header names, the limits on a response, the step from problem+json to an error
class, and what may be logged.

    >>> health_request("https://eu.example").url
    'https://eu.example/health'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from .canonical import parse_value
from .errors import CODES, APIError, ConfigError, FractalLBAError, ValidationError, error_for
from .outcome import LEVELS, Outcome, Position, Raw, Submitted
from .retry import MAX_RETRY_AFTER_MS, parse_retry_after
from .secret import Secret

__all__ = [
    "LOGGED_HEADERS",
    "MAX_RESPONSE_BYTES",
    "MAX_RESPONSE_HEADERS",
    "Cancel",
    "LeaderHint",
    "RawResponse",
    "Request",
    "Response",
    "Transport",
    "build_request",
    "check_tenant",
    "health_request",
    "join_headers",
    "leader_hint",
    "loggable_headers",
    "loggable_url",
    "outcome_request",
    "read_outcome",
    "read_response",
    "read_submitted",
    "submit_request",
    "user_agent",
]

MAX_RESPONSE_BYTES = 1024 * 1024
"""Longest response body; over it is an error, not a truncation."""

MAX_RESPONSE_HEADERS = 100
"""Most header fields of one response."""


@dataclass(frozen=True, slots=True)
class Request:
    """Hold one HTTP request as it goes out."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class RawResponse:
    """Hold one HTTP response as it came in."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class Cancel(Protocol):
    """Describe what a transport asks of a cancellation; `threading.Event` has it."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Transport(Protocol):
    """Carry one request to a server and give back what came.

    Raises `fractal_lba.errors.ConnectionError` or `TimeoutError` with one of the codes
    `connect_failed tls_failed connection_lost attempt_timeout`, and `CancelledError` once
    `cancel` is set. `connect_failed` says that no byte of the request was sent. It neither
    retries nor follows redirects.
    """

    def send(
        self,
        request: Request,
        *,
        connect_timeout_s: float,
        attempt_timeout_s: float,
        cancel: Cancel | None,
    ) -> RawResponse: ...


# --- requests ------------------------------------------------------------------------------

ACCEPT = "application/json, application/problem+json"
JSON_TYPE = "application/json"

MAX_APP_CHARACTERS = 24
"""Longest `app` that is appended to User-Agent."""

_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_HEADER_TEXT = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")


def _header_value(name: str, value: str) -> str:
    if not _HEADER_TEXT.match(value):
        raise ConfigError("config_invalid", f"{name}: expected printable ASCII")
    return value


@cache
def _version() -> str:
    from importlib.metadata import (  # noqa: PLC0415 - 20 ms, only for programs that send
        PackageNotFoundError,
        version,
    )

    try:
        return version("fractal-lba")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def user_agent(app: str | None = None) -> str:
    """Give User-Agent: the SDK with the version of the package, and the caller's `app`."""
    product = f"fractal-lba-python-sdk/{_version()}"
    if app is None:
        return product
    if len(app) > MAX_APP_CHARACTERS:
        raise ConfigError(
            "config_invalid", f"app: expected at most {MAX_APP_CHARACTERS} characters"
        )
    return f"{product} {_header_value('app', app)}"


def check_tenant(tenant: str | None) -> None:
    """Refuse a tenant that no server has: `config_invalid`."""
    if tenant is not None and not _TENANT.match(tenant):
        raise ConfigError("config_invalid", "tenant: expected 1 to 64 of A-Z a-z 0-9 . _ -")


def build_request(
    method: str,
    endpoint: str,
    path: str,
    *,
    agent: str,
    body: bytes | None = None,
    tenant: str | None = None,
    token: Secret | None = None,
    idempotency_key: str | None = None,
    attempt: int = 1,
    min_ack: str | None = None,
    traceparent: str | None = None,
) -> Request:
    """Build one request; a header whose value is None is not sent.

    `attempt` counts from 1. The body of a record is the same bytes in every attempt.
    """
    headers = [("Accept", ACCEPT), ("User-Agent", agent)]
    if body is not None:
        headers.append(("Content-Type", JSON_TYPE))
    optional = (
        ("X-Tenant-Id", tenant),
        ("Authorization", None if token is None else f"Bearer {token.reveal().decode('latin-1')}"),
        ("Idempotency-Key", idempotency_key),
        ("X-Retry-Attempt", str(attempt - 1) if attempt > 1 else None),
        ("PCS-Min-Ack", min_ack),
        ("traceparent", traceparent),
    )
    headers.extend((name, _header_value(name, text)) for name, text in optional if text is not None)
    return Request(method, endpoint.rstrip("/") + path, tuple(headers), body or b"")


def submit_request(
    endpoint: str,
    body: bytes,
    *,
    idempotency_key: str,
    agent: str | None = None,
    tenant: str | None = None,
    attempt: int = 1,
    min_ack: str | None = None,
    traceparent: str | None = None,
) -> Request:
    """Build `POST /v1/pcs/submit` of a signed body. It carries no token: the signature is one."""
    return build_request(
        "POST",
        endpoint,
        "/v1/pcs/submit",
        agent=agent or user_agent(),
        body=body,
        tenant=tenant,
        idempotency_key=idempotency_key,
        attempt=attempt,
        min_ack=min_ack,
        traceparent=traceparent,
    )


def outcome_request(
    endpoint: str,
    pcs_id: str,
    *,
    token: Secret | None = None,
    agent: str | None = None,
    tenant: str | None = None,
    attempt: int = 1,
    traceparent: str | None = None,
) -> Request:
    """Build `GET /v1/pcs/{pcs_id}`, which needs the tenant's read token."""
    if not _PCS_ID.match(pcs_id):
        raise ValidationError("hex_invalid", "pcs_id: expected 64 characters 0-9 a-f")
    return build_request(
        "GET",
        endpoint,
        f"/v1/pcs/{pcs_id}",
        agent=agent or user_agent(),
        tenant=tenant,
        token=token,
        attempt=attempt,
        traceparent=traceparent,
    )


def health_request(endpoint: str, *, agent: str | None = None) -> Request:
    """Build `GET /health`: 200 only if the region takes writes now."""
    return build_request("GET", endpoint, "/health", agent=agent or user_agent())


# --- responses -----------------------------------------------------------------------------

_PCS_ID = re.compile(r"[0-9a-f]{64}\Z")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")

MAX_DETAIL_CHARACTERS = 500
"""Longest part of a problem's `detail` that goes into a message; the rest is in `body`."""

STATUS_CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "bad_request",
        401: "unauthorized",
        403: "forbidden",
        404: "not_found",
        405: "method_not_allowed",
        408: "request_timeout",
        409: "pcs_id_conflict",
        413: "payload_too_large",
        415: "unsupported_media_type",
        421: "wrong_region",
        422: "unprocessable",
        423: "frozen",
        425: "too_early",
        429: "rate_limited",
        431: "header_too_large",
        500: "internal",
        502: "bad_gateway",
        503: "unavailable",
        504: "gateway_timeout",
    }
)
"""The code of an error response that names none, or none that is known."""


@dataclass(frozen=True, slots=True)
class Response:
    """Hold a 2xx response whose size is within the limits.

    `headers` have lower-case names; several fields of one name are joined by `, `.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str | None


class LeaderHint(NamedTuple):
    """Say where a 421 or 423 points."""

    endpoint: str
    region_epoch: int


def join_headers(fields: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Index header fields by lower-case name."""
    joined: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return MappingProxyType(joined)


def read_response(
    raw: RawResponse,
    *,
    now_ms: int,
    max_bytes: int = MAX_RESPONSE_BYTES,
    max_headers: int = MAX_RESPONSE_HEADERS,
) -> Response:
    """Give a 2xx response, or raise the error that the response is.

    `now_ms` (Unix) is what a Retry-After date is measured against if the response has no Date.
    A redirect is never followed: it is `response_malformed`.
    """
    headers = join_headers(raw.headers)
    request_id = headers.get("x-request-id")
    if request_id is not None and not _REQUEST_ID.match(request_id):
        request_id = None
    facts: dict[str, Any] = {
        "status": raw.status, "request_id": request_id, "headers": headers,
    }  # fmt: skip
    if len(raw.headers) > max_headers:
        raise APIError(
            "response_too_large",
            f"response: expected at most {max_headers} headers, got {len(raw.headers)}",
            **facts,
        )
    if len(raw.body) > max_bytes:
        raise APIError(
            "response_too_large", f"response: expected at most {max_bytes} bytes", **facts
        )
    if 200 <= raw.status < 300:
        return Response(raw.status, headers, raw.body, request_id)
    if not 400 <= raw.status < 600:
        raise APIError(
            "response_malformed",
            f"response: expected a 2xx, 4xx or 5xx status, got {raw.status}",
            body=raw.body,
            **facts,
        )
    raise _refusal(raw, facts, now_ms)


def _refusal(raw: RawResponse, facts: dict[str, Any], now_ms: int) -> FractalLBAError:
    """Turn a 4xx or 5xx into the error its problem+json names, or its status."""
    problem = _problem(raw.body)
    code = problem.get("code")
    if not isinstance(code, str) or code not in CODES or CODES[code].status is None:
        code = STATUS_CODES.get(raw.status, "bad_request" if raw.status < 500 else "internal")
    if facts["request_id"] is None:
        facts["request_id"] = _request_id(problem)
    told_ms = _natural(problem.get("retry_after_ms"))
    waits_ms = [
        parse_retry_after(
            [value for name, value in raw.headers if name.lower() == "retry-after"],
            facts["headers"].get("date"),
            now_ms,
        ),
        None if told_ms is None else min(told_ms, MAX_RETRY_AFTER_MS),
    ]
    pointer = problem.get("pointer")
    return error_for(
        code,
        _detail(problem, raw.status),
        pointer=pointer if isinstance(pointer, str) else None,
        retry_after_ms=max((ms for ms in waits_ms if ms is not None), default=None),
        body=raw.body,
        **facts,
    )


def _problem(body: bytes) -> dict[str, Any]:
    """Read a problem; one that cannot be read has no members, and the status decides."""
    try:
        members = parse_value(body, max_bytes=len(body))
    except ValidationError:
        return {}
    return members if isinstance(members, dict) else {}


def _request_id(problem: Mapping[str, Any]) -> str | None:
    value = problem.get("request_id")
    return value if isinstance(value, str) and _REQUEST_ID.match(value) else None


def _natural(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _detail(problem: Mapping[str, Any], status: int) -> str:
    """Give one printable line: a server's text must not break a log."""
    for name in ("detail", "title"):
        value = problem.get(name)
        if isinstance(value, str) and value:
            return _CONTROL.sub(" ", value)[:MAX_DETAIL_CHARACTERS]
    return f"the server answered {status}"


def leader_hint(error: FractalLBAError) -> LeaderHint | None:
    """Read where a 421 or 423 points. Whether to follow is for `Fleet.hinted` to say."""
    if error.status not in (421, 423):
        return None
    hint = _problem(error.body).get("leader_hint")
    if not isinstance(hint, dict):
        return None
    endpoint, region_epoch = hint.get("endpoint"), _natural(hint.get("region_epoch"))
    if not isinstance(endpoint, str) or region_epoch is None:
        return None
    return LeaderHint(endpoint, region_epoch)


def _malformed(response: Response, message: str) -> APIError:
    return APIError(
        "response_malformed",
        message,
        status=response.status,
        request_id=response.request_id,
        headers=response.headers,
        body=response.body,
    )


def read_outcome(response: Response, pcs_id: str) -> Outcome:
    """Read the outcome of `pcs_id`. Raises APIError `response_malformed`.

    After a submit that means: recorded, but the answer cannot be used; sending again is no help.
    """
    if response.status not in (200, 202):
        raise _malformed(response, f"response: expected 200 or 202, got {response.status}")
    try:
        outcome = Outcome.from_json(response.body, max_bytes=len(response.body))
    except APIError as error:
        raise _malformed(response, error.message) from None
    if outcome.pcs_id != pcs_id:
        raise _malformed(response, f"outcome: expected pcs_id {pcs_id}, got {outcome.pcs_id}")
    return outcome


def read_submitted(response: Response, pcs_id: str, *, attempts: int = 1) -> Submitted:
    """Read the answer to a submit: the outcome, and the facts of the exchange in headers."""
    outcome = read_outcome(response, pcs_id)
    headers = response.headers
    replayed = headers.get("idempotency-replayed", "false")
    level = headers.get("pcs-level", LEVELS[0])
    if replayed not in ("true", "false"):
        raise _malformed(response, f"Idempotency-Replayed: not true or false: {replayed!r:.40}")
    if level not in LEVELS:
        raise _malformed(response, f"PCS-Level: not one of {', '.join(LEVELS)}: {level!r:.40}")
    position, replicated = (_place(response, n) for n in ("PCS-Position", "PCS-Replicated"))
    raw = Raw(response.status, headers, response.body, response.request_id, attempts)
    return Submitted(outcome, replayed == "true", level, position, raw, replicated=replicated)


def _place(response: Response, header: str) -> Position | None:
    text = response.headers.get(header.lower())
    try:
        return None if text is None else Position.parse(text, header=header)
    except APIError as error:
        raise _malformed(response, error.message) from None


# --- logs ----------------------------------------------------------------------------------

LOGGED_HEADERS = frozenset(
    {
        "content-type",
        "content-length",
        "date",
        "retry-after",
        "x-request-id",
        "x-retry-attempt",
        "x-should-retry",
        "idempotency-key",
        "idempotency-replayed",
        "pcs-position",
        "pcs-level",
        "pcs-replicated",
    }
)
"""The only header names whose values may be logged."""


def loggable_headers(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Keep the fields that may be logged, by lower-case name."""
    return {name: v for name, v in join_headers(fields).items() if name in LOGGED_HEADERS}


def loggable_url(url: str) -> str:
    """Cut user-info, query and fragment from a URL."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
