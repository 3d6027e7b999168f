"""Suites `http` and `errors`: requests built, responses read, errors mapped."""

from __future__ import annotations

from typing import Any

from golden.oracle import answers
from golden.oracle.closed_codes import CODES
from golden.oracle.emit import Flag, Suite

REQUEST_FLAGS = {
    "Attempt": Flag("X-Retry-Attempt counts retries.", ("retry 16", "formats 12.2")),
    "Request": Flag("Method, target, headers, body.", ("formats 12.1", "formats 12.2")),
    "Token": Flag("A token goes with reads only.", ("formats 12.3", "formats 12.15")),
}
RESPONSE_FLAGS = {
    "Error": Flag("An error response becomes its code.", ("formats 12.7",)),
    "Exchange": Flag("The facts of the exchange.", ("formats 12.5", "formats 12.14", "formats 4.1")),
    "Outcome": Flag("A right outcome.", ("formats 12.4", "formats 2.10")),
    "Status": Flag("Statuses that are no answer.", ("formats 12.6", "retry 43")),
    "Unreadable": Flag("A 2xx that cannot be read.", ("formats 12.4", "retry 10")),
}
ERROR_FLAGS = {
    "Code": Flag("The code of the body decides.", ("formats 12.7", "formats 12.9")),
    "Fields": Flag("request_id, pointer, retry_after_ms.", ("formats 12.10",)),
    "Status": Flag("The status decides where no known code is named.", ("formats 12.7", "formats 12.8")),
    "Wait": Flag("The largest of header and body.", ("formats 12.10", "retry 42")),
}
PCS_ID = "ab" * 32
CONTENT = "cd" * 32
NOW = "1770000000000"
AGENT = "fractal-lba-test-sdk/0.4.0"
GOOD = {
    "accepted": "true", "escalated": "false", "first_seen": '{"hlc":"019bc000aaaa0001","region":"eu1"}', "pcs_id": f'"{PCS_ID}"',
    "policy_version": '"3fcb272de67aa246"', "recomputed_D_hat": "1.41", "recomputed_budget": "0.42",
}
EXCHANGE = [["Idempotency-Replayed", "false"], ["PCS-Position", "eu1/open/0/42"], ["PCS-Level", "durable"], ["X-Request-Id", "0199f0c2-7d3e-7a11-8b22-2f1e5d6c7b8a"]]


def body(**changes: str | None) -> bytes:
    members = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    return ("{" + ",".join(f'"{k}":{members[k]}' for k in sorted(members)) + "}").encode()


def requests() -> Suite:
    s = Suite("http/request.json", "http.request", "suites/http.py", REQUEST_FLAGS, answers.request)
    submit = {"request": "submit", "endpoint": "https://a.example", "agent": AGENT, "attempt": "1", "body": b'{"x":1}'.hex(), "content": CONTENT}
    get = {"request": "get", "endpoint": "https://a.example", "agent": AGENT, "attempt": "1", "pcs_id": PCS_ID}
    health = {"request": "health", "endpoint": "https://a.example", "agent": AGENT, "attempt": "1"}

    def add(name: str, flag: str, args: dict[str, str], **more: str) -> None:
        s.add(f"http/request-{name}", flag, {**args, **more})

    for name, base in (("submit", submit), ("get", get), ("health", health)):
        add(name, "Request", base)
        for i, endpoint in enumerate(("https://a.example/", "http://127.0.0.1:8080", "https://a.example:8443/base", "https://a.example/base/", "http://[::1]:80")):
            add(f"{name}-endpoint-{i}", "Request", base, endpoint=endpoint)
    for name, base in (("submit", submit), ("get", get)):
        add(f"{name}-tenant", "Request", base, tenant="tenant-a")
        for attempt in ("2", "3", "10"):
            add(f"{name}-attempt-{attempt}", "Attempt", base, attempt=attempt)
    add("get-token", "Token", {**get, "token": "dG9rZW4"})
    add("get-token-tenant", "Token", {**get, "token": "dG9rZW4", "tenant": "t.1_x-y"})
    status = {"request": "status", "endpoint": "https://a.example", "agent": AGENT, "attempt": "1", "token": "dG9rZW4"}
    add("status", "Token", status)
    add("status-tenant", "Token", status, tenant="tenant-a", endpoint="https://a.example:8443/base/")
    for level in answers.LEVELS:
        add(f"submit-level-{level}", "Request", submit, min_ack=level)
    add("submit-utf8-body", "Request", submit, body='{"shard_id":"\u00e9\U0001f600"}'.encode().hex())
    add("submit-bytes-kept", "Request", submit, body=b' {"b":1 , "a":1.0}\n'.hex())
    add("submit-all", "Attempt", submit, tenant="tenant-a", min_ack="replicated", attempt="3")
    return s


def responses() -> Suite:
    s = Suite("http/response.json", "http.response", "suites/http.py", RESPONSE_FLAGS, answers.response)

    def add(name: str, flag: str, data: bytes = body(), status: int = 200, headers: list[list[str]] = EXCHANGE, kind: str = "submit", code: str | None = None) -> None:
        args = {"request": kind, "status": str(status), "headers": headers, "body": data.hex(), "pcs_id": PCS_ID}
        s.add(f"http/response-{name}", flag, args, code=code)

    add("accepted", "Outcome")
    for reason in answers.REFUSING:
        add(f"reason-{reason.replace('_', '-')}", "Outcome", body(accepted="false", escalated="true", reason=f'"{reason}"'), 202)
    for reason in answers.ACCEPTING:
        add(f"reason-{reason.replace('_', '-')}", "Outcome", body(escalated="true", reason=f'"{reason}"'), 202)
    add("get", "Outcome", kind="get", headers=[])
    add("get-202", "Outcome", body(escalated="true", reason='"regime_mismatch"'), 202, kind="get", headers=[["X-Request-Id", "r1"]])
    for name, members in {"numbers-zero": {"recomputed_D_hat": "0", "recomputed_budget": "0"}, "numbers-top": {"recomputed_D_hat": "3.5", "recomputed_budget": "1"},
                          "numbers-tiny": {"recomputed_D_hat": "1e-9", "recomputed_budget": "1e-7"}, "numbers-spelling": {"recomputed_D_hat": "1.410"}}.items():
        add(name, "Outcome", body(**members))
    add("white-space", "Outcome", body().replace(b",", b" ,\n ") + b"\n")
    add("reordered", "Outcome", b"{" + b",".join(reversed(body()[1:-1].replace(b'{"hlc":"019bc000aaaa0001","region":"eu1"}', b"@").split(b","))).replace(b"@", b'{"region":"eu1","hlc":"019bc000aaaa0001"}') + b"}")
    for name, headers in {"replayed": [["Idempotency-Replayed", "true"]], "none": [], "names-lower": [[k.lower(), v] for k, v in EXCHANGE], "level-replicated": [["PCS-Level", "replicated"]],
                          "level-witnessed": [["PCS-Level", "witnessed"]], "position-large": [["PCS-Position", "us2/eu-only/4294967295/9007199254740991"]],
                          "position-zero": [["PCS-Position", "loc/open/0/0"]], "extra-header": [*EXCHANGE, ["X-Other", "1"]], "request-id-bad": [["X-Request-Id", "a b"]],
                          "request-id-long": [["X-Request-Id", "x" * 65]], "headers-100": [*EXCHANGE, *[[f"X-{i}", "1"] for i in range(96)]]}.items():
        add(f"exchange-{name}", "Exchange", headers=headers)
    for name, headers in {"replayed-upper": [["Idempotency-Replayed", "True"]], "replayed-1": [["Idempotency-Replayed", "1"]], "level-local": [["PCS-Level", "local"]],
                          "level-upper": [["PCS-Level", "Durable"]], "position-short": [["PCS-Position", "eu1/open/42"]], "position-padded": [["PCS-Position", "eu1/open/0/042"]],
                          "position-sign": [["PCS-Position", "eu1/open/0/+42"]], "position-region": [["PCS-Position", "EU1/open/0/42"]], "position-empty": [["PCS-Position", "/"]],
                          "position-long": [["PCS-Position", "eu1/open/0/42/1"]], "position-placement": [["PCS-Position", "eu1/Open/0/42"]]}.items():
        add(f"exchange-{name}", "Exchange", headers=headers, code="response_malformed")
    for name, value in {"replicated": "eu1/open/0/41", "replicated-zero": "eu1/open/0/0", "replicated-newer": "eu1/open/7/3", "replicated-elsewhere": "us1/eu-only/1/9"}.items():
        add(f"exchange-{name}", "Exchange", headers=[*EXCHANGE, ["PCS-Replicated", value]])
    add("exchange-replicated-alone", "Exchange", headers=[["pcs-replicated", "eu1/open/0/41"]])
    for name, value in {"short": "eu1/open/42", "padded": "eu1/open/0/042", "upper": "EU1/open/0/42", "empty": "/", "two": "eu1/open/0/1, eu1/open/0/2"}.items():
        add(f"exchange-replicated-{name}", "Exchange", headers=[*EXCHANGE, ["PCS-Replicated", value]], code="response_malformed")
    add("exchange-replicated-of-get", "Exchange", headers=[["PCS-Replicated", "none"]], kind="get")
    add("error-replicated-malformed", "Error", b'{"code":"unavailable"}', 503, [["PCS-Replicated", "none"]], code="unavailable")
    unreadable(add)
    for status in (100, 101, 102, 199, 201, 203, 204, 205, 206, 226, 300, 301, 302, 303, 304, 307, 308, 399, 600, 999):
        add(f"status-{status}", "Status", status=status, code="response_malformed")
    add("headers-101", "Status", headers=[*EXCHANGE, *[[f"X-{i}", "1"] for i in range(97)]], code="response_too_large")
    for code, (_, _, at) in sorted(CODES.items()):
        if at is not None:
            data = f'{{"code":"{code}","status":{at},"title":"t","type":"about:blank","detail":"d","request_id":"r"}}'.encode()
            add(f"error-{code.replace('_', '-')}", "Error", data, at, [["Content-Type", "application/problem+json"]], code=code)
    return s


def unreadable(add: Any) -> None:
    plain = body()
    for name, data in {
        "empty": b"", "cut": plain[:-1], "cut-half": plain[: len(plain) // 2], "html": b"<html></html>", "array": b"[" + plain + b"]", "null": b"null",
        "string": b'"ok"', "bom": b"\xef\xbb\xbf" + plain, "trailing": plain + b"x", "twice": plain + plain, "utf-16": plain.decode().encode("utf-16-le"), "nan": body(recomputed_D_hat="NaN"),
        "duplicate": plain[:-1] + b',"accepted":true}', "unknown": body(x="1"), "unknown-duplicate-flag": body(duplicate="true"), "invalid-utf8": b'{"accepted":"\xff"}',
        "first-seen-unknown": body(first_seen='{"hlc":"019bc000aaaa0001","region":"eu1","x":1}'), "first-seen-null": body(first_seen="null"),
        "hlc-number": body(first_seen='{"hlc":1,"region":"eu1"}'), "hlc-upper": body(first_seen='{"hlc":"019BC000AAAA0001","region":"eu1"}'), "hlc-short": body(first_seen='{"hlc":"1","region":"eu1"}'),
        "region-long": body(first_seen='{"hlc":"019bc000aaaa0001","region":"europe"}'), "accepted-text": body(accepted='"true"'), "accepted-one": body(accepted="1"), "accepted-null": body(accepted="null"),
        "escalated-text": body(escalated='"false"'), "pcs-id-other": body(pcs_id='"' + "ba" * 32 + '"'), "pcs-id-upper": body(pcs_id='"' + "AB" * 32 + '"'), "policy-short": body(policy_version='"abc"'),
        "policy-number": body(policy_version="1"), "d-hat-text": body(recomputed_D_hat='"1.41"'), "d-hat-null": body(recomputed_D_hat="null"), "d-hat-above": body(recomputed_D_hat="3.6"),
        "d-hat-minus": body(recomputed_D_hat="-0.1"), "d-hat-overflow": body(recomputed_D_hat="1e400"), "budget-above": body(recomputed_budget="1.1"), "budget-true": body(recomputed_budget="true"),
        "reason-null": body(reason="null"), "reason-without-escalation": body(reason='"budget_deviation"'), "reason-unknown": body(escalated="true", reason='"other"'), "reason-missing": body(escalated="true"),
        "reason-for-refused": body(accepted="false", escalated="true", reason='"budget_deviation"'), "reason-for-accepted": body(escalated="true", reason='"n_j_implausible"'),
        "refused-not-escalated": body(accepted="false"), "problem": b'{"code":"internal"}',
    }.items():
        add(f"unreadable-{name}", "Unreadable", data, code="response_malformed")
    for name in GOOD:
        add(f"unreadable-without-{name.lower().replace('_', '-')}", "Unreadable", body(**{name: None}), code="response_malformed")


def errors() -> Suite:
    s = Suite("errors/errors.json", "errors.map", "suites/http.py", ERROR_FLAGS, answers.mapped)

    def add(name: str, flag: str, status: int, data: bytes, headers: list[list[str]] | None = None) -> None:
        s.add(f"errors/{name}", flag, {"status": str(status), "headers": headers or [], "body": data.hex(), "now_ms": NOW})

    for code, (_, _, status) in sorted(CODES.items()):
        slug = code.replace("_", "-")
        data = f'{{"code":"{code}","type":"about:blank"}}'.encode()
        if status is not None:
            add(f"code-{slug}", "Code", status, data)
        else:
            add(f"code-{slug}-not-on-the-wire", "Status", 500, data)
    for status in (*range(400, 432), 451, 499, *range(500, 512), 599):
        add(f"status-{status}", "Status", status, b"")
    for name, data in {"html": b"<h1>Bad Gateway</h1>", "array": b"[]", "null": b"null", "code-number": b'{"code":1}', "code-null": b'{"code":null}', "code-unknown": b'{"code":"teapot"}',
                       "code-empty": b'{"code":""}', "code-upper": b'{"code":"RATE_LIMITED"}', "cut": b'{"code":"rate_limited"', "duplicate": b'{"code":"rate_limited","code":"forbidden"}',
                       "bom": b'\xef\xbb\xbf{"code":"rate_limited"}', "nested": b'{"error":{"code":"rate_limited"}}', "utf8": b'{"code":"rate_limited","detail":"\xff"}', "surrogate": b'{"code":"rate_limited","x":"\\ud800"}'}.items():
        for status in (400, 503):
            add(f"body-{name}-{status}", "Status", status, data)
    add("code-over-status", "Code", 400, b'{"code":"pcs_id_conflict"}')
    add("code-over-status-retried", "Code", 503, b'{"code":"rate_limited"}')
    add("code-over-status-not-retried", "Code", 501, b'{"code":"unavailable"}')
    add("code-with-space", "Code", 401, b' {"code" : "kid_unknown" } ')
    fields(add)
    return s


def fields(add: Any) -> None:
    plain = b'{"code":"unavailable","request_id":"body-1","pointer":"/r"}'
    add("fields-both", "Fields", 503, plain, [["X-Request-Id", "header-1"]])
    add("fields-body", "Fields", 503, plain)
    add("fields-header-bad", "Fields", 503, plain, [["X-Request-Id", "a b"]])
    add("fields-both-bad", "Fields", 503, b'{"request_id":"<b>"}', [["X-Request-Id", ""]])
    add("fields-request-id-number", "Fields", 503, b'{"request_id":1}')
    add("fields-pointer-number", "Fields", 422, b'{"code":"member_type","pointer":1}')
    add("fields-pointer-empty", "Fields", 422, b'{"code":"member_type","pointer":""}')
    add("fields-pointer-escaped", "Fields", 422, b'{"code":"member_unknown","pointer":"/a~1b~0c"}')
    for name, headers, member in (("header", [["Retry-After", "7"]], None), ("body", [], "7000"), ("header-larger", [["Retry-After", "7"]], "6999"), ("body-larger", [["Retry-After", "7"]], "7001"),
                                  ("body-zero", [], "0"), ("body-2-53", [], "9007199254740992"), ("body-huge", [], "1" + "0" * 30), ("body-minus", [], "-1"), ("body-fraction", [], "1.5"), ("body-text", [], '"7000"'), ("body-null", [], "null"), ("header-bad", [["Retry-After", "x"]], None),
                                  ("header-date", [["Retry-After", "Mon, 02 Feb 2026 02:40:07 GMT"]], None), ("header-date-base", [["Retry-After", "Mon, 02 Feb 2026 02:40:07 GMT"], ["Date", "Mon, 02 Feb 2026 02:40:05 GMT"]], None)):
        data = b'{"code":"rate_limited"}' if member is None else f'{{"code":"rate_limited","retry_after_ms":{member}}}'.encode()
        add(f"wait-{name}", "Wait", 429, data, headers)


def suites() -> list[Suite]:
    return [requests(), responses(), errors()]
