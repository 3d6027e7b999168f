"""Cut signed records into batches, and read the answers line by line.

A batch is newline-delimited JSON: one record a line, one answer a line, in order. It is for bulk
work of a program (`flk submit --batch`); each line means what a single submit of it would have
meant, so an answer is read by the same functions as that of a submit (`http.py`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from .canonical import jcs, parse_value
from .errors import APIError, FractalLBAError, ValidationError
from .http import RawResponse, Request, Response, build_request, read_response, read_submitted
from .outcome import Submitted
from .sign import SignedRecord

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_LINES", "batch_request", "cut", "read_batch"]

MAX_BATCH_LINES: Final = 1_000
"""Most records of one batch; the server refuses more."""

MAX_BATCH_BYTES: Final = 4 * 2**20
"""Most bytes of one batch, and of its answer."""

NDJSON_TYPE: Final = "application/x-ndjson"


def cut(records: Iterable[SignedRecord]) -> Iterator[tuple[SignedRecord, ...]]:
    """Yield the records in batches as large as the limits allow, in order."""
    batch: list[SignedRecord] = []
    room_bytes = MAX_BATCH_BYTES
    for record in records:
        line_bytes = len(record.body) + 1
        if batch and (line_bytes > room_bytes or len(batch) == MAX_BATCH_LINES):
            yield tuple(batch)
            batch, room_bytes = [], MAX_BATCH_BYTES
        batch.append(record)
        room_bytes -= line_bytes
    if batch:
        yield tuple(batch)


def batch_request(
    endpoint: str,
    records: Sequence[SignedRecord],
    *,
    agent: str,
    tenant: str | None = None,
    attempt: int = 1,
) -> Request:
    """Build `POST /v1/pcs/batch`.

    A line end inside a record is white space between its members: a string holds none raw. It
    becomes a blank, which no signature sees.
    """
    body = b"".join(record.body.replace(b"\n", b" ") + b"\n" for record in records)
    request = build_request(
        "POST",
        endpoint,
        "/v1/pcs/batch",
        agent=agent,
        body=body,
        tenant=tenant,
        attempt=attempt,
    )
    other = tuple(item for item in request.headers if item[0] not in ("Content-Type", "Accept"))
    typed = (("Content-Type", NDJSON_TYPE), ("Accept", f"{NDJSON_TYPE}, application/problem+json"))
    return Request(request.method, request.url, typed + other, request.body)


def read_batch(
    response: Response, records: Sequence[SignedRecord], *, now_ms: int, attempts: int = 1
) -> list[Submitted | FractalLBAError]:
    """Read the answer to each record; one that has none is `response_malformed`."""
    lines = response.body.split(b"\n")
    answers: list[Submitted | FractalLBAError] = []
    for index, record in enumerate(records):
        try:
            item = _read_item(lines, index)
            answers.append(_read_answer(item, response, record, now_ms, attempts))
        except FractalLBAError as error:
            error.attempts = attempts
            answers.append(error)
    return answers


def _read_item(lines: list[bytes], index: int) -> Mapping[str, Any]:
    if index >= len(lines) or not lines[index]:
        raise APIError("response_malformed", f"batch: expected an answer for line {index}")
    try:
        item = parse_value(lines[index], max_bytes=MAX_BATCH_BYTES)
    except ValidationError as error:
        raise APIError("response_malformed", f"batch: line {index}: {error.message}") from None
    if not isinstance(item, dict) or item.get("index") != index:
        raise APIError("response_malformed", f"batch: line {index}: expected an item of that index")
    if type(item.get("status")) is not int:
        raise APIError("response_malformed", f"batch: line {index}: expected a status")
    return item


def _read_answer(
    item: Mapping[str, Any],
    response: Response,
    record: SignedRecord,
    now_ms: int,
    attempts: int,
) -> Submitted:
    """Read an item as the response that a single submit would have had."""
    if "problem" in item:
        fields = [] if response.request_id is None else [("X-Request-Id", response.request_id)]
        alone = RawResponse(item["status"], fields, jcs(item["problem"]))
        single = read_response(alone, now_ms=now_ms)
    else:
        headers = _exchange_headers(item)
        if "pcs-replicated" in response.headers:
            headers["pcs-replicated"] = response.headers["pcs-replicated"]
        outcome = jcs(item.get("outcome"))
        single = Response(item["status"], headers, outcome, response.request_id)
    return read_submitted(single, record.pcs_id, attempts=attempts)


def _exchange_headers(item: Mapping[str, Any]) -> dict[str, str]:
    """Name the members that a single answer has as headers."""
    names = {
        "replayed": "idempotency-replayed",
        "position": "pcs-position",
        "level": "pcs-level",
    }
    texts = {True: "true", False: "false"}
    return {
        header: texts[item[name]] if isinstance(item[name], bool) else str(item[name])
        for name, header in names.items()
        if name in item
    }
