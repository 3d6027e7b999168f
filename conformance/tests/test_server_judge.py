"""Each rule that holds for every answer has an answer here that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flk_conformance.server import judge
from flk_conformance.server.judge import Failed
from flk_conformance.server.wire import Reply

ID = "019bc186-de00-7c3a-9f52-3b8e21d04a71"
PROBLEM = {
    "type": "https://fractal-lba.example/problems/unavailable", "title": "A title", "status": 503,
    "detail": "later", "code": "unavailable", "request_id": ID, "retry_after_ms": 1500,
}  # fmt: skip
OUTCOME = (
    b'{"accepted":true,"escalated":false,"first_seen":{"hlc":"019bc186de000000","region":"use"},'
    b'"pcs_id":"' + b"a" * 64 + b'","policy_version":"3fcb272de67aa246","recomputed_D_hat":2,'
    b'"recomputed_budget":0.35}'
)
HEADERS = {
    "content-type": "application/json", "x-request-id": ID, "idempotency-replayed": "false",
    "pcs-level": "durable", "pcs-position": "use/open/1/4711",
}  # fmt: skip
WAITING = {"content-type": "application/problem+json", "x-request-id": ID, "retry-after": "2"}


def reply(status: int, headers: dict[str, str | None], body: bytes) -> Reply:
    return Reply(status, tuple((k, v) for k, v in headers.items() if v is not None), body)


def problem(
    headers: dict[str, str | None] | None = None, status: int = 503, **changes: Any
) -> Reply:
    members = {k: v for k, v in {**PROBLEM, **changes}.items() if v is not None}
    return reply(status, {**WAITING, **(headers or {})}, json.dumps(members).encode())


def outcome(
    headers: dict[str, str | None] | None = None, status: int = 200, body: bytes = OUTCOME
) -> Reply:
    return reply(status, {**HEADERS, **(headers or {})}, body)


def test_right_answers_pass() -> None:
    assert judge.problem(problem())["code"] == "unavailable"
    assert judge.refused(problem(), 503, "unavailable")
    assert judge.outcome(outcome())["pcs_id"] == "a" * 64
    assert judge.recorded(outcome())
    assert judge.recorded(outcome({"idempotency-replayed": "true"}), again=True)


@pytest.mark.parametrize(
    "wrong",
    [
        problem({"content-type": "application/json"}),
        problem({"content-type": None}),
        problem({"x-request-id": None}),
        problem({"x-request-id": "another"}),
        problem({"x-request-id": "two words"}),
        problem({"retry-after": None}),
        problem({"retry-after": "1"}),
        problem({"retry-after": "soon"}),
        problem(code="no_such_code"),
        problem(code="outbox_full"),
        problem(code="rate_limited"),
        problem(status=503, code=None),
        problem(status=500),
        problem(title=None),
        problem(detail=7),
        problem(extra=1),
        problem(pointer="no/slash"),
        problem(retry_after_ms=-1),
        problem(retry_after_ms="1500"),
        reply(503, {**WAITING}, b"{"),
        reply(503, {**WAITING}, b"[]"),
        reply(503, {**WAITING}, json.dumps(PROBLEM).encode()[:-1] + b',"code":"internal"}'),
        reply(200, {**WAITING}, json.dumps(PROBLEM).encode()),
    ],
)
def test_wrong_problem_is_seen(wrong: Reply) -> None:
    with pytest.raises(Failed):
        judge.problem(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        outcome({"content-type": "text/plain"}),
        outcome({"x-request-id": None}),
        outcome({"idempotency-replayed": None}),
        outcome({"idempotency-replayed": "yes"}),
        outcome({"pcs-level": None}),
        outcome({"pcs-level": "local"}),
        outcome({"pcs-position": None}),
        outcome({"pcs-position": "use/open/1"}),
        outcome({"pcs-position": "use/open/01/2"}),
        outcome({"pcs-position": "use/open/1/0"}),
        outcome({"pcs-replicated": "far away"}),
        outcome(status=202),
        outcome(status=201),
        outcome(body=b" " + OUTCOME),
        outcome(body=OUTCOME.replace(b":2,", b":2.0,")),
        outcome(body=OUTCOME.replace(b'"accepted":true,', b"")),
        outcome(body=OUTCOME.replace(b'"accepted"', b'"Accepted"')),
        outcome(body=OUTCOME[:-1] + b',"z":1}'),
        outcome(body=OUTCOME.replace(b"true", b"false", 1)),
        outcome(body=OUTCOME.replace(b'"escalated":false', b'"escalated":true'), status=202),
        outcome(body=OUTCOME.replace(b'"use"', b'"USE"')),
        outcome(body=OUTCOME.replace(b"019bc186de000000", b"19")),
        outcome(body=OUTCOME.replace(b"a" * 64, b"A" * 64)),
        outcome(body=OUTCOME.replace(b"3fcb272de67aa246", b"default")),
        outcome(body=OUTCOME.replace(b":2,", b":3.6,")),
        outcome(body=OUTCOME.replace(b":2,", b':"2",')),
        outcome(body=b"[]"),
        outcome(body=b""),
    ],
)
def test_wrong_outcome_is_seen(wrong: Reply) -> None:
    with pytest.raises(Failed):
        judge.outcome(wrong)


def escalated(reason: bytes, accepted: bytes) -> Reply:
    body = OUTCOME.replace(b'"accepted":true', b'"accepted":' + accepted)
    body = body.replace(b'"escalated":false', b'"escalated":true')
    place = b',"recomputed_D_hat"'
    return outcome(status=202, body=body.replace(place, b',"reason":"' + reason + b'"' + place))


@pytest.mark.parametrize(
    ("reason", "accepted"),
    [(b"d_hat_out_of_tolerance", b"false"), (b"n_j_implausible", b"false"),
     (b"regime_mismatch", b"true"), (b"budget_deviation", b"true")],
)  # fmt: skip
def test_reason_agrees_with_accepted(reason: bytes, accepted: bytes) -> None:
    good = escalated(reason, accepted)
    order = good.body.replace(b'"policy_version":"3fcb272de67aa246",', b"")
    assert order != good.body
    assert judge.outcome(good)
    with pytest.raises(Failed, match="contradicts itself"):
        judge.outcome(escalated(reason, b"true" if accepted == b"false" else b"false"))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: judge.refused(problem(), 429, "rate_limited"),
        lambda: judge.refused(problem(), 503, "not_primary"),
        lambda: judge.recorded(outcome(), again=True),
        lambda: judge.recorded(outcome({"idempotency-replayed": "true"})),
        lambda: judge.recorded(outcome(), 202),
        lambda: judge.recorded(problem()),
    ],
)
def test_other_answer_than_asked_for_is_seen(attempt: Callable[[], object]) -> None:
    with pytest.raises(Failed, match=r"expected|got"):
        attempt()


# --- batches -------------------------------------------------------------------------------------

TAKEN = (
    b'{"index":%d,"level":"durable","outcome":' + OUTCOME
    + b',"position":"use/open/1/7","replayed":false,"status":200}'
)  # fmt: skip
REFUSED = (
    b'{"index":%d,"problem":{"code":"rate_limited","detail":"d","request_id":"' + ID.encode()
    + b'","retry_after_ms":5,"status":429,"title":"t","type":"u"},"status":429}'
)  # fmt: skip


def batch(*lines: bytes, **headers: str) -> Reply:
    named = {"content-type": "application/x-ndjson", "x-request-id": ID}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return reply(200, {**named}, b"".join(line + b"\n" for line in lines))


def test_right_items_pass() -> None:
    one, two = judge.items(batch(TAKEN % 0, REFUSED % 1))
    assert (one["status"], two["status"]) == (200, 429)
    assert one["outcome"] == OUTCOME
    assert judge.items(batch()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        batch(TAKEN % 1),
        batch(TAKEN % 0, TAKEN % 0),
        batch(TAKEN % 0, content_type="application/json"),
        batch(TAKEN.replace(b'"replayed":false,', b"") % 0),
        batch(TAKEN.replace(b"false,", b'"no",', 2) % 0),
        batch(TAKEN.replace(b'"durable"', b'"soft"') % 0),
        batch(TAKEN.replace(b"use/open/1/7", b"there") % 0),
        batch(TAKEN.replace(b'"status":200', b'"status":202') % 0),
        batch(TAKEN.replace(b'"index"', b'"extra":1,"index"') % 0),
        batch(REFUSED.replace(b'"retry_after_ms":5,', b"") % 0),
        batch(REFUSED.replace(b"rate_limited", b"too_fast") % 0),
        batch(REFUSED.replace(b'"status":429}', b'"status":503}') % 0),
        batch(REFUSED.replace(ID.encode(), b"another") % 0),
        batch(REFUSED.replace(b'"title"', b'"more":1,"title"') % 0),
        batch(b"{"),
        batch(b"[]"),
        reply(200, {"content-type": "application/x-ndjson", "x-request-id": ID}, TAKEN % 0),
        problem(),
    ],
)
def test_wrong_item_is_seen(wrong: Reply) -> None:
    with pytest.raises(Failed):
        judge.items(wrong)
