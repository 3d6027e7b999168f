"""Family Q, first half: other requests, and other readings of a response (formats 12)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from fractal_lba import base, canonical, http, retry
from fractal_lba.http import RawResponse, Request
from fractal_lba.sign import HmacSigner

from .patching import Patch, mutation


def submits(id: str, change: Any) -> None:
    """Register a mutant that builds the request of a retry in another way."""

    @mutation(id)
    def apply(patch: Patch) -> None:
        right = http.submit_request

        def build(endpoint: str, body: bytes, *, attempt: int = 1, **facts: Any) -> Request:
            if attempt > 1:
                body, facts = change(body, facts, attempt)
            return right(endpoint, body, attempt=attempt, **facts)

        patch.swap(right, build)


def encoded_again(body: bytes, facts: dict[str, Any], attempt: int) -> tuple[bytes, dict[str, Any]]:
    return json.dumps(json.loads(body)).encode(), facts


def another_key(body: bytes, facts: dict[str, Any], attempt: int) -> tuple[bytes, dict[str, Any]]:
    drawn = f"{facts['idempotency_key']}{attempt}".encode()
    return body, {**facts, "idempotency_key": sha256(drawn).hexdigest()}


def counted_up(body: bytes, facts: dict[str, Any], attempt: int) -> tuple[bytes, dict[str, Any]]:
    record = canonical.parse(body)
    return canonical.jcs({**record, "attempt": record["attempt"] + attempt - 1}), facts


submits("Q01", encoded_again)
submits("Q02", another_key)
submits("Q03", counted_up)


@mutation("Q04")
def records_are_changed(patch: Patch) -> None:
    """Count `attempt` up in the caller's own record.

    A program that submits one object twice would see it; so the same text is one object here.
    """
    right, seen = canonical.parse, dict[bytes, dict[str, Any]]()

    def parse(data: bytes) -> dict[str, Any]:
        if data not in seen:
            seen[data] = right(data)
        return seen[data]

    members = base._members

    def changing(record: Any) -> dict[str, Any]:
        copied = members(record)
        if isinstance(record, dict):
            record["attempt"] += 1
        return copied

    patch.swap(right, parse)
    patch.swap(members, changing)


@mutation("Q12")
def unavailable_is_absent(patch: Patch) -> None:
    right = http._refusal

    def refusal(raw: RawResponse, facts: dict[str, Any], now_ms: int) -> Any:
        return right(
            RawResponse(404, raw.headers, b"") if raw.status == 503 else raw, facts, now_ms
        )

    patch.swap(right, refusal)


@mutation("Q13")
def unreadable_is_retried(patch: Patch) -> None:
    right: Any = retry.Result.__dict__["retryable"]

    def retryable(self: retry.Result) -> bool:
        return self.code in retry.UNREADABLE_CODES or bool(right.fget(self))

    patch.set(retry.Result, "retryable", property(retryable))


@mutation("Q14")
def code_of_status(patch: Patch) -> None:
    right = http._problem

    def problem(body: bytes) -> Mapping[str, Any]:
        return {name: value for name, value in right(body).items() if name != "code"}

    patch.swap(right, problem)


@mutation("Q15")
def empty_tenant(patch: Patch) -> None:
    right = http.build_request

    def build(method: str, *args: Any, tenant: str | None = None, **facts: Any) -> Request:
        request = right(method, *args, tenant=tenant, **facts)
        if tenant is not None:
            return request
        headers = (*request.headers, ("X-Tenant-Id", ""))
        return Request(request.method, request.url, headers, request.body)

    patch.swap(right, build)


@mutation("Q16")
def key_in_a_line(patch: Patch) -> None:
    right = base.BaseClient._sign

    def sign(self: Any, members: dict[str, Any]) -> Any:
        if isinstance(self._signer, HmacSigner):
            self._reporter._log.debug("signing with %s", self._signer._key.reveal().hex())
        return right(self, members)

    patch.set(base.BaseClient, "_sign", sign)
