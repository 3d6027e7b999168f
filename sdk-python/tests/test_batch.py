"""Batches: how records are cut, and how the answers are read line by line."""

from __future__ import annotations

from typing import Any

import pytest

from fractal_lba.batch import MAX_BATCH_BYTES, MAX_BATCH_LINES, batch_request, cut, read_batch
from fractal_lba.canonical import jcs
from fractal_lba.errors import APIError, ConflictError, FractalLBAError, RateLimitError
from fractal_lba.http import Response
from fractal_lba.outcome import Position, Submitted
from fractal_lba.sign import SignedRecord


def signed(body: bytes = b"{}", pcs_id: str = "a" * 64) -> SignedRecord:
    return SignedRecord(body=body, pcs_id=pcs_id, content="c" * 64, record={})


def outcome(pcs_id: str = "a" * 64, **members: Any) -> dict[str, Any]:
    return {
        "accepted": True,
        "escalated": False,
        "first_seen": {"region": "use", "hlc": "019bc186de000000"},
        "pcs_id": pcs_id,
        "policy_version": "3fcb272de67aa246",
        "recomputed_D_hat": 1.5,
        "recomputed_budget": 0.25,
        **members,
    }


def read(*items: Any, records: int | None = None) -> list[Submitted | FractalLBAError]:
    body = b"".join(item if isinstance(item, bytes) else jcs(item) + b"\n" for item in items)
    lines = [signed()] * (len(items) if records is None else records)
    return read_batch(Response(200, {}, body, "request-1"), lines, now_ms=0, attempts=2)


@pytest.mark.parametrize(
    "sizes",
    [[], [1], [65_536] * 130, [1] * 2000, [1] * 2001, [1, 65_536] * 200, [65_535] * 64 + [1]],
)
def test_batches_keep_order_and_limits_and_waste_no_room(sizes: list[int]) -> None:
    bodies = {size: bytes(size) for size in set(sizes)}
    records = [signed(bodies[size], str(index)) for index, size in enumerate(sizes)]
    batches = list(cut(iter(records)))
    assert [record for batch in batches for record in batch] == records
    lengths = [sum(len(record.body) + 1 for record in batch) for batch in batches]
    assert all(0 < len(batch) <= MAX_BATCH_LINES for batch in batches)
    assert all(length <= MAX_BATCH_BYTES for length in lengths)
    for batch, length, following in zip(batches, lengths, batches[1:], strict=False):
        full = length + len(following[0].body) + 1 > MAX_BATCH_BYTES
        assert full or len(batch) == MAX_BATCH_LINES


def test_a_batch_is_one_record_a_line() -> None:
    records = [signed(b'{"a":1}'), signed(b'{\n "b": "\\n"\n}\r\n')]
    request = batch_request("https://a.example/", records, agent="x", tenant="acme", attempt=2)
    assert request.body == b'{"a":1}\n{  "b": "\\n" }\r \n'
    assert (request.method, request.url) == ("POST", "https://a.example/v1/pcs/batch")
    headers = dict(request.headers)
    assert len(headers) == len(request.headers)
    assert headers["Content-Type"] == "application/x-ndjson"
    assert headers["Accept"] == "application/x-ndjson, application/problem+json"
    assert (headers["X-Tenant-Id"], headers["X-Retry-Attempt"]) == ("acme", "1")


def test_an_item_is_read_as_the_answer_of_a_single_submit() -> None:
    (answer,) = read(
        {
            "index": 0,
            "status": 202,
            "replayed": True,
            "position": "use/open/1/7",
            "level": "durable",
            "outcome": outcome(escalated=True, reason="regime_mismatch"),
        }
    )
    assert isinstance(answer, Submitted)
    assert answer.outcome.reason == "regime_mismatch"
    assert (answer.replayed, answer.level) == (True, "durable")
    assert answer.position == Position("use", "open", 1, 7)
    assert (answer.raw.status, answer.raw.attempts, answer.raw.request_id) == (202, 2, "request-1")


def test_a_problem_is_the_error_of_a_single_submit_and_spoils_no_other() -> None:
    problem = {"code": "pcs_id_conflict", "detail": "other content", "status": 409}
    limited = {"code": "rate_limited", "status": 429, "retry_after_ms": 1500}
    first, second, third = read(
        {"index": 0, "status": 409, "problem": problem},
        {"index": 1, "status": 200, "replayed": False, "outcome": outcome()},
        {"index": 2, "status": 429, "problem": limited},
    )
    assert isinstance(first, ConflictError)
    assert (first.message, first.request_id, first.attempts) == ("other content", "request-1", 2)
    assert isinstance(second, Submitted)
    assert second.position is None
    assert isinstance(third, RateLimitError)
    assert third.retry_after_ms == 1500


@pytest.mark.parametrize(
    "item",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        {"index": 1, "status": 200, "outcome": outcome()},
        {"index": 0, "outcome": outcome()},
        {"index": 0, "status": "200", "outcome": outcome()},
        {"index": 0, "status": 200},
        {"index": 0, "status": 200, "outcome": outcome("b" * 64)},
        {"index": 0, "status": 204, "outcome": outcome()},
        {"index": 0, "status": 200, "outcome": outcome(), "replayed": 1},
        {"index": 0, "status": 200, "outcome": outcome(), "position": "nowhere"},
        {"index": 0, "status": 200, "outcome": outcome(), "level": "certain"},
    ],
)
def test_an_item_that_is_no_answer_is_malformed(item: Any) -> None:
    (answer,) = read(item)
    assert isinstance(answer, APIError)
    assert answer.code == "response_malformed"


def test_a_line_without_an_answer_is_malformed() -> None:
    item = {"index": 0, "status": 200, "outcome": outcome()}
    answered, missing = read(item, records=2)
    assert isinstance(answered, Submitted)
    assert isinstance(missing, APIError)
    assert "expected an answer for line 1" in missing.message
    problem_without_request_id = read_batch(
        Response(200, {}, jcs({"index": 0, "status": 500, "problem": {}}), None),
        [signed()],
        now_ms=0,
    )
    assert isinstance(problem_without_request_id[0], FractalLBAError)
    assert problem_without_request_id[0].code == "internal"
