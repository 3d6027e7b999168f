"""Requests as bytes, responses as values: every header, every status, every limit."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba import errors, http
from fractal_lba.errors import CODES, ConfigError, FractalLBAError, ValidationError
from fractal_lba.http import (
    LOGGED_HEADERS,
    RawResponse,
    Request,
    Response,
    check_tenant,
    health_request,
    join_headers,
    leader_hint,
    loggable_headers,
    loggable_url,
    outcome_request,
    read_outcome,
    read_response,
    read_submitted,
    submit_request,
    user_agent,
)
from fractal_lba.secret import Secret
from fractal_lba.testing import outcome_body

BASE = "https://eu.example"
PCS_ID = "a" * 64
KEY = "b" * 64
BODY = outcome_body(PCS_ID)
AGENT = user_agent()


def problem(code: str = "rate_limited", **members: Any) -> bytes:
    whole = {
        "type": f"https://fractal-lba.example/problems/{code}", "title": "t", "status": 429,
        "detail": "expected less, got more", "code": code, "request_id": "in-body",
    }  # fmt: skip
    return json.dumps({**whole, **members}).encode()


def failure(
    status: int, body: bytes = b"", *headers: tuple[str, str], now_ms: int = 0
) -> FractalLBAError:
    with pytest.raises(FractalLBAError) as caught:
        read_response(RawResponse(status, list(headers), body), now_ms=now_ms)
    return caught.value


def success(
    status: int = 200, body: bytes = BODY, headers: Mapping[str, str] | None = None
) -> Response:
    fields = list((headers or {}).items())
    return read_response(RawResponse(status, fields, body), now_ms=0)


# --- requests ------------------------------------------------------------------------------


def test_a_submit_has_exactly_these_headers() -> None:
    request = submit_request(BASE, b"{}", idempotency_key=KEY)
    assert request == Request(
        "POST",
        "https://eu.example/v1/pcs/submit",
        (
            ("Accept", "application/json, application/problem+json"),
            ("User-Agent", AGENT),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", KEY),
        ),
        b"{}",
    )


def test_what_is_set_is_sent_and_nothing_else() -> None:
    request = submit_request(
        BASE, b"{}", idempotency_key=KEY, tenant="acme", attempt=3, min_ack="replicated",
        traceparent="00-1-2-01", agent="mine",
    )  # fmt: skip
    added = dict(request.headers)
    assert added["X-Tenant-Id"] == "acme"
    assert added["X-Retry-Attempt"] == "2"
    assert added["PCS-Min-Ack"] == "replicated"
    assert added["traceparent"] == "00-1-2-01"
    assert added["User-Agent"] == "mine"
    assert len(added) == len(request.headers) == 8


@pytest.mark.parametrize(("attempt", "sent"), [(1, None), (2, "1"), (3, "2")])
def test_the_first_attempt_has_no_number(attempt: int, sent: str | None) -> None:
    for request in (
        submit_request(BASE, b"{}", idempotency_key=KEY, attempt=attempt),
        outcome_request(BASE, PCS_ID, attempt=attempt),
    ):
        assert dict(request.headers).get("X-Retry-Attempt") == sent


def test_a_read_carries_the_token_and_no_body() -> None:
    request = outcome_request(BASE + "/base/", PCS_ID, token=Secret("t0ken"), tenant="acme")
    assert (request.method, request.url) == ("GET", f"{BASE}/base/v1/pcs/{PCS_ID}")
    assert dict(request.headers)["Authorization"] == "Bearer t0ken"
    assert "Content-Type" not in dict(request.headers)
    assert request.body == b""


def test_health_names_nobody() -> None:
    assert [name for name, _ in health_request(BASE).headers] == ["Accept", "User-Agent"]
    assert dict(health_request(BASE, agent="mine").headers)["User-Agent"] == "mine"


@pytest.mark.parametrize("pcs_id", ["", "A" * 64, "a" * 63, "../healthz", "a" * 64 + "\n"])
def test_only_an_id_goes_into_a_path(pcs_id: str) -> None:
    with pytest.raises(ValidationError) as caught:
        outcome_request(BASE, pcs_id)
    assert caught.value.code == "hex_invalid"


@pytest.mark.parametrize(
    "value", ["", "a\r\nX-Evil: 1", "a\n", " a", "a ", "\u00e9", "a\x00", "a\x7f"]
)
def test_no_value_breaks_out_of_its_header(value: str) -> None:
    with pytest.raises(ConfigError):
        submit_request(BASE, b"{}", idempotency_key=KEY, traceparent=value)
    with pytest.raises(ConfigError) as caught:
        outcome_request(BASE, PCS_ID, token=Secret("s3cret" + value + "\x00"))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("tenant", "good"),
    [(None, True), ("acme", True), ("A.b_c-9", True), ("t" * 64, True), ("t" * 65, False),
     ("", False),
     ("a b", False), ("a\n", False), ("\u00e9", False), ("a/b", False)],
)  # fmt: skip
def test_a_tenant_can_stand_in_a_header(tenant: str | None, good: bool) -> None:
    if good:
        check_tenant(tenant)
    else:
        with pytest.raises(ConfigError):
            check_tenant(tenant)


def test_the_agent_names_the_version_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        assert name == "fractal-lba"
        return "0.4.0"

    http._version.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert user_agent() == "fractal-lba-python-sdk/0.4.0"
    assert user_agent("shop/1.0") == "fractal-lba-python-sdk/0.4.0 shop/1.0"
    http._version.cache_clear()


def test_the_agent_of_a_source_tree_has_version_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    http._version.cache_clear()
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert user_agent() == "fractal-lba-python-sdk/0"
    http._version.cache_clear()


def test_an_app_of_24_characters_fits() -> None:
    assert user_agent("x" * 24).endswith(" " + "x" * 24)


@pytest.mark.parametrize("app", ["", "x" * 25, "a\nb", "\u00e9"])
def test_an_app_is_short_and_printable(app: str) -> None:
    with pytest.raises(ConfigError):
        user_agent(app)


# --- responses: limits and framing ---------------------------------------------------------


def test_names_are_lower_case_and_fields_are_joined() -> None:
    joined = join_headers([("A-B", "1"), ("a-b", "2"), ("C", "")])
    assert dict(joined) == {"a-b": "1, 2", "c": ""}
    with pytest.raises(TypeError):
        joined["x"] = "y"  # type: ignore[index] # the refusal is the test


@pytest.mark.parametrize("status", [200, 400, 503])
def test_over_a_limit_is_an_error(status: int) -> None:
    many = RawResponse(status, [("a", "b")] * 101, b"")
    with pytest.raises(errors.APIError) as caught:
        read_response(many, now_ms=0)
    assert (caught.value.code, caught.value.status) == ("response_too_large", status)
    long = RawResponse(status, [("X-Request-Id", "r")], b"12345")
    with pytest.raises(errors.APIError) as caught:
        read_response(long, now_ms=0, max_bytes=4)
    assert (caught.value.code, caught.value.request_id) == ("response_too_large", "r")
    assert caught.value.body == b""


def test_the_limits_themselves_are_allowed() -> None:
    at_limit = RawResponse(200, [("a", "b")] * 100, b"1234")
    assert read_response(at_limit, now_ms=0, max_bytes=4).body == b"1234"


@pytest.mark.parametrize("status", [0, 100, 199, 301, 302, 307, 308, 399, 600, 999])
def test_a_redirect_is_never_followed(status: int) -> None:
    error = failure(status, b"", ("Location", "https://evil.example"))
    assert (error.code, error.status, error.fault) == ("response_malformed", status, "server")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("0190-a.b_C", "0190-a.b_C"), ("x" * 64, "x" * 64), ("x" * 65, None), ("a b", None),
     ("", None), ("a\n", None)],
)  # fmt: skip
def test_a_request_id_is_kept_if_it_is_one(sent: str, kept: str | None) -> None:
    assert success(headers={"X-Request-Id": sent}).request_id == kept


# --- responses: errors ---------------------------------------------------------------------


@pytest.mark.parametrize("code", [code for code, info in CODES.items() if info.status])
def test_a_problem_names_its_error(code: str) -> None:
    info = CODES[code]
    body = problem(code, status=info.status, pointer="/r")
    error = failure(info.status or 0, body, ("X-Request-Id", "in-head"))
    assert type(error).__name__ == info.error_class_name
    assert (error.code, error.status, error.pointer) == (code, info.status, "/r")
    assert (error.message, error.request_id) == ("expected less, got more", "in-head")
    assert (error.body, error.fault) == (body, info.fault)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", problem("code_of_next_year"), b'{"code":7}', b"[]"]
)
def test_without_a_known_code_the_status_decides(body: bytes) -> None:
    for status in range(400, 600):
        error = failure(status, body)
        general = "bad_request" if status < 500 else "internal"
        assert error.code == http.STATUS_CODES.get(status, general)
        assert (error.status, error.body) == (status, body)


def test_a_server_cannot_send_a_code_that_is_ours() -> None:
    assert failure(503, problem("cancelled")).code == "unavailable"
    assert failure(400, problem("config_invalid")).code == "bad_request"


def test_every_status_of_the_table_has_its_own_code() -> None:
    sent = {info.status for info in CODES.values() if info.status is not None}
    assert set(http.STATUS_CODES) == sent
    for status, code in http.STATUS_CODES.items():
        assert CODES[code].status == status


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "expected less, got more"),
        ({"detail": ""}, "t"),
        ({"detail": 7, "title": None}, "the server answered 429"),
        ({"detail": "a\r\nb\x1b[31m\x85c"}, "a b [31m c"),
        ({"detail": "x" * 501}, "x" * 500),
    ],
)
def test_a_message_is_one_printable_line(members: dict[str, Any], message: str) -> None:
    assert failure(429, problem(**members)).message == message


@pytest.mark.parametrize("pointer", [None, 7, ["/r"]])
def test_a_pointer_is_text(pointer: Any) -> None:
    assert failure(422, problem(pointer=pointer)).pointer is None


@pytest.mark.parametrize(
    ("request_id", "kept"), [("in-body", "in-body"), ("no id", None), (7, None)]
)
def test_the_body_may_name_the_request(request_id: Any, kept: str | None) -> None:
    assert failure(429, problem(request_id=request_id)).request_id == kept


@pytest.mark.parametrize(
    ("headers", "in_body", "wait_ms"),
    [
        ([], None, None),
        ([("Retry-After", "2")], None, 2000),
        ([("Retry-After", "2"), ("retry-after", "3")], None, 3000),
        ([("Retry-After", "2")], 2500, 2500),
        ([("Retry-After", "2")], 10, 2000),
        ([], 10, 10),
        ([], 0, 0),
        ([], -1, None),
        ([], True, None),
        ([], "10", None),
        ([("Retry-After", "soon")], None, None),
        ([("Retry-After", "Thu, 01 Jan 1970 00:01:00 GMT")], None, 59_000),
        (
            [
                ("Retry-After", "Thu, 01 Jan 1970 00:01:00 GMT"),
                ("Date", "Thu, 01 Jan 1970 00:00:30 GMT"),
            ],
            None,
            30_000,
        ),
    ],
)
def test_the_largest_wait_counts(
    headers: list[tuple[str, str]], in_body: Any, wait_ms: int | None
) -> None:
    body = problem() if in_body is None else problem(retry_after_ms=in_body)
    assert failure(503, body, *headers, now_ms=1000).retry_after_ms == wait_ms


@pytest.mark.parametrize("status", [421, 423])
def test_a_redirect_hint_is_read(status: int) -> None:
    body = problem("not_leader", leader_hint={"endpoint": BASE, "region_epoch": 7})
    assert leader_hint(failure(status, body)) == (BASE, 7)


@pytest.mark.parametrize(
    "hint",
    [None, [], {}, {"endpoint": BASE}, {"endpoint": 1, "region_epoch": 7},
     {"endpoint": BASE, "region_epoch": "7"}, {"endpoint": BASE, "region_epoch": -1},
     {"endpoint": BASE, "region_epoch": True}],
)  # fmt: skip
def test_half_a_hint_is_none(hint: Any) -> None:
    assert leader_hint(failure(421, problem("not_leader", leader_hint=hint))) is None


def test_other_answers_hint_at_nothing() -> None:
    body = problem(leader_hint={"endpoint": BASE, "region_epoch": 7})
    assert leader_hint(failure(503, body)) is None
    assert leader_hint(failure(421, b"")) is None


# --- responses: results --------------------------------------------------------------------


def test_a_submit_is_answered_by_outcome_and_headers() -> None:
    response = success(
        202,
        outcome_body(PCS_ID, accepted=False, escalated=True, reason="n_j_implausible"),
        {
            "Idempotency-Replayed": "true",
            "PCS-Level": "replicated",
            "PCS-Position": "fra/open/1/4711",
            "X-Request-Id": "r-1",
        },
    )
    submitted = read_submitted(response, PCS_ID, attempts=2)
    assert submitted.outcome.reason == "n_j_implausible"
    assert (submitted.replayed, submitted.level) == (True, "replicated")
    assert str(submitted.position) == "fra/open/1/4711"
    raw = submitted.raw
    assert (raw.status, raw.request_id, raw.attempts) == (202, "r-1", 2)
    assert (raw.body, raw.headers) == (response.body, response.headers)


def test_a_bare_success_is_a_first_durable_answer() -> None:
    submitted = read_submitted(success(), PCS_ID)
    assert (submitted.replayed, submitted.level, submitted.position) == (False, "durable", None)


@pytest.mark.parametrize(
    "headers",
    [{"Idempotency-Replayed": "yes"}, {"PCS-Level": "local"}, {"PCS-Level": "durable, durable"},
     {"PCS-Position": "fra/open/1"}],
)  # fmt: skip
def test_facts_of_the_exchange_are_read_strictly(headers: dict[str, str]) -> None:
    with pytest.raises(errors.APIError) as caught:
        read_submitted(success(headers={"X-Request-Id": "r", **headers}), PCS_ID)
    error = caught.value
    assert (error.code, error.status, error.request_id) == ("response_malformed", 200, "r")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"{}"),
        (201, BODY),
        (204, b""),
        (200, BODY[:-1]),
        (202, outcome_body("b" * 64)),
    ],
)
def test_a_success_that_cannot_be_read_is_malformed(status: int, body: bytes) -> None:
    with pytest.raises(errors.APIError) as caught:
        read_outcome(success(status, body), PCS_ID)
    error = caught.value
    assert (error.code, error.status, error.body) == ("response_malformed", status, body)


@given(
    st.integers(0, 999),
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9))),
    st.binary(max_size=40),
)
def test_any_bytes_give_a_result_or_an_error(
    status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    try:
        response = read_response(RawResponse(status, headers, body), now_ms=0)
        read_submitted(response, PCS_ID)
    except FractalLBAError as error:
        assert (error.code in CODES, error.status) == (True, status)  # noqa: PT017 - or no error
    else:
        pytest.fail("random bytes are no outcome")


# --- logs ----------------------------------------------------------------------------------


def test_only_listed_headers_are_logged() -> None:
    fields = [("Authorization", "Bearer x"), ("Cookie", "y"), ("X-Request-Id", "r"), ("DATE", "d")]
    assert loggable_headers(fields) == {"x-request-id": "r", "date": "d"}
    assert {"authorization", "cookie", "set-cookie", "x-tenant-id"}.isdisjoint(LOGGED_HEADERS)
    assert all(name == name.lower() for name in LOGGED_HEADERS)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@eu.example:8443/v1?token=x#y", "https://eu.example:8443/v1"),
        ("https://eu.example", "https://eu.example"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
    ],
)
def test_a_logged_url_has_no_secret_part(url: str, shown: str) -> None:
    assert loggable_url(url) == shown
