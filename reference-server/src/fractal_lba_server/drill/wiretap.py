"""See every exchange of the SDK, also those that an outbox makes by itself, as trace lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from fractal_lba.canonical import jcs
from fractal_lba.errors import FractalLBAError
from fractal_lba.http import Cancel, RawResponse, Request
from fractal_lba.ids import content_digest
from fractal_lba.transport import HttpTransport

from .trace import TraceWriter

RECORDED: Final = (200, 202)
UNSENT: Final = frozenset({"connect_failed"})
"""Errors after which nothing can have been recorded."""

CANARY: Final = "canary-"


class Wiretap(HttpTransport):
    """Carries requests as the SDK does, and writes what was sent and answered."""

    def __init__(
        self,
        trace: TraceWriter,
        client: str,
        tenant: str,
        region_of: Mapping[int, str],
        canaries: frozenset[str],
    ) -> None:
        super().__init__()
        self._trace = trace
        self._client = client
        self._tenant = tenant
        self._region_of = region_of
        self._canaries = canaries
        self.watching = False
        """Whether canaries are asked for; before, they are made."""
        self.on_recorded: Callable[[], object] = lambda: None

    def send(
        self,
        request: Request,
        *,
        connect_timeout_s: float,
        attempt_timeout_s: float,
        cancel: Cancel | None,
    ) -> RawResponse:
        """Send, and write the exchange before the client sees the answer."""
        called_ns = self._trace.now_ns()
        try:
            answer = super().send(
                request,
                connect_timeout_s=connect_timeout_s,
                attempt_timeout_s=attempt_timeout_s,
                cancel=cancel,
            )
        except FractalLBAError as error:
            self._write(request, called_ns, None, error.code)
            raise
        self._write(request, called_ns, answer, None)
        if answer.status in RECORDED and request.body:
            self.on_recorded()
        return answer

    def _write(
        self, request: Request, called_ns: int, answer: RawResponse | None, code: str | None
    ) -> None:
        parts = urlsplit(request.url)
        region = self._region_of[parts.port or 0]
        common = {"client": self._client, "region": region, "call_ns": called_ns}
        at_ns = self._trace.now_ns()
        if parts.path == "/v1/pcs/submit":
            fields = {} if answer is None else read_put(answer)
            self._put(common, request.body, fields or _no_answer(code), at_ns)
        elif parts.path == "/v1/pcs/batch":
            items = {} if answer is None else dict(read_batch(answer))
            for index, body in enumerate(request.body.splitlines()):
                self._put(common, body, items.get(index) or _no_answer(code), at_ns)
        elif parts.path.startswith("/v1/pcs/"):
            key = f"{self._tenant}/{parts.path.rpartition('/')[2]}"
            fields = {"result": "unknown"} if answer is None else read_get(answer)
            self._trace.write("get", at_ns=at_ns, key=key, **common, **fields)

    def _put(
        self, common: Mapping[str, Any], body: bytes, fields: Mapping[str, Any], at_ns: int
    ) -> None:
        record = json.loads(body)
        key = f"{self._tenant}/{record['pcs_id']}"
        canary = (key in self._canaries and self.watching) or None
        self._trace.write(
            "put",
            at_ns=at_ns,
            key=key,
            content=content_digest(record)[:16],
            bytes=len(body),
            canary=canary,
            **common,
            **fields,
        )


def _no_answer(code: str | None) -> dict[str, Any]:
    result = "refused" if code in UNSENT else "unknown"
    return {"result": result, "code": code or "no_line"}


def read_put(answer: RawResponse) -> dict[str, Any]:
    """Read what one submit was answered."""
    headers = {name.lower(): value for name, value in answer.headers}
    return _fields(
        answer.status,
        replayed=headers.get("idempotency-replayed") == "true",
        position=headers.get("pcs-position"),
        level=headers.get("pcs-level"),
        outcome=_object(answer.body) if answer.status in RECORDED else None,
        problem=_object(answer.body) if answer.status not in RECORDED else None,
        outcome_bytes=answer.body,
    )


def read_batch(answer: RawResponse) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the lines of a batch by their place."""
    if answer.status not in RECORDED:
        return
    for line in answer.body.splitlines():
        item = _object(line)
        if item is not None and isinstance(item.get("index"), int):
            outcome = item.get("outcome")
            yield (
                item["index"],
                _fields(
                    item["status"],
                    replayed=item.get("replayed") is True,
                    position=item.get("position"),
                    level=item.get("level"),
                    outcome=outcome,
                    problem=item.get("problem"),
                    outcome_bytes=b"" if outcome is None else jcs(outcome),
                ),
            )


def _fields(
    status: int,
    *,
    replayed: bool,
    position: str | None,
    level: str | None,
    outcome: Mapping[str, Any] | None,
    problem: Mapping[str, Any] | None,
    outcome_bytes: bytes,
) -> dict[str, Any]:
    fields: dict[str, Any] = {"status": status, "position": position}
    if status in RECORDED and outcome is not None:
        return fields | {
            "result": "duplicate" if replayed else "new",
            "frame": frame_of(outcome),
            "outcome": sha256(outcome_bytes).hexdigest()[:16],
            "level": level,
        }
    said = problem or {}
    fields["code"] = str(said.get("code", "no_code"))
    if status == 409:
        winner = said.get("winner")
        return fields | {
            "result": "conflict",
            "frame": frame_of(winner) if isinstance(winner, Mapping) else None,
            "displaced": said.get("displaced"),
        }
    # A position beside a refusal says that the record is in the log all the same.
    return fields | {"result": "refused" if position is None else "unknown"}


def read_get(answer: RawResponse) -> dict[str, Any]:
    """Read what a look-up was answered."""
    if answer.status in RECORDED:
        outcome = _object(answer.body) or {}
        digest = sha256(answer.body).hexdigest()[:16]
        found = {"result": "present", "frame": frame_of(outcome), "outcome": digest}
        return {**found, "status": answer.status}
    return {"result": "absent" if answer.status == 404 else "refused", "status": answer.status}


def frame_of(outcome: Mapping[str, Any]) -> str:
    """Name the log frame of an outcome by where and when it was first seen, and by its id.

    Two processes of one region may write at one hybrid time.
    """
    first = outcome["first_seen"]
    return f"{first['region']}:{first['hlc']}.{outcome['pcs_id'][:8]}"


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
