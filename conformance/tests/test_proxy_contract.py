"""Every kind of violation of the document has an exchange here that commits it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from flk_conformance.places import root_of
from flk_conformance.proxy.contract import Contract, Got, Sent, Violation
from flk_conformance.proxy.secrets_seen import Secrets

SPEC = root_of("spec/openapi.yaml") / "spec" / "openapi.yaml"
EXAMPLES = yaml.safe_load((SPEC.parent / "examples.yaml").read_text(encoding="utf-8"))
RECORD = EXAMPLES["records"]["version_2"]["value"]
OUTCOME = EXAMPLES["outcomes"]["accepted"]["value"]
PROBLEM = EXAMPLES["problems"]["unavailable"]["value"]
ID = "019bc186-de00-7c3a-9f52-3b8e21d04a71"
OF_OUTCOMES = {
    "content-type": "application/json", "x-request-id": ID, "idempotency-replayed": "false",
    "pcs-level": "durable", "pcs-position": "use/open/1/4711",
}  # fmt: skip
OF_PROBLEMS = {"content-type": "application/problem+json", "x-request-id": ID, "retry-after": "1"}


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract(SPEC)


def pairs(headers: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in headers.items() if value is not None)


def submit(headers: dict[str, Any] | None = None, body: bytes | None = None) -> Sent:
    named = {"host": "a", "content-type": "application/json", "x-tenant-id": "acme"}
    body = json.dumps(RECORD).encode() if body is None else body
    return Sent("POST", "/v1/pcs/submit", pairs({**named, **(headers or {})}), body)


def get(target: str, headers: dict[str, Any] | None = None, method: str = "GET") -> Sent:
    return Sent(method, target, pairs({"host": "a", **(headers or {})}), b"")


def recorded(headers: dict[str, Any] | None = None, status: int = 200, **changes: Any) -> Got:
    body = json.dumps({**OUTCOME, **changes}).encode()
    return Got(status, pairs({**OF_OUTCOMES, **(headers or {})}), body)


def refused(headers: dict[str, Any] | None = None, status: int = 503, **changes: Any) -> Got:
    body = json.dumps({**PROBLEM, **changes}).encode()
    return Got(status, pairs({**OF_PROBLEMS, **(headers or {})}), body)


BATCH = Sent(
    "POST", "/v1/pcs/batch", pairs({"content-type": "application/x-ndjson"}),
    json.dumps(RECORD).encode() + b"\n",
)  # fmt: skip
ITEMS = EXAMPLES["batches"]["response"]["value"].encode()
OF_ITEMS = {"content-type": "application/x-ndjson", "x-request-id": ID}
HEALTH = Got(
    200, pairs({"content-type": "application/json", "x-request-id": ID}),
    b'{"ok":true,"region":"use","primary":true}',
)  # fmt: skip
TOKEN = {"authorization": "Bearer x"}


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (submit(), recorded()),
        (submit({"idempotency-key": "0" * 64, "x-retry-attempt": "1"}), refused()),
        (submit({"accept-encoding": "gzip", "sec-fetch-mode": "cors"}), recorded()),
        (BATCH, Got(200, pairs(OF_ITEMS), ITEMS)),
        (get("/health"), HEALTH),
        (get("/health", method="HEAD"), Got(200, HEALTH.headers, b"")),
        (get("/v1/pcs/" + "a" * 64, TOKEN), recorded()),
        (get("/health"), Got(431, (("connection", "close"),), b"")),
        (get("/health"), None),
        (get("/v1/pcs/submit", {"access-control-request-method": "POST"}, "OPTIONS"),
         Got(204, (), b"")),
    ],
)  # fmt: skip
def test_right_exchange_has_no_violation(contract: Contract, sent: Sent, got: Got | None) -> None:
    assert contract.judge(sent, got) == []


@pytest.mark.parametrize(
    ("sent", "got", "side", "rule", "pointer"),
    [
        # what a client must not send
        (submit(body=b"{"), None, "client", "malformed", ""),
        (submit(body=json.dumps({**RECORD, "r": 2}).encode()), None, "client", "maximum", "/r"),
        (submit(body=json.dumps({**RECORD, "x": 1}).encode()), None, "client",
         "additionalProperties", ""),
        (submit(body=json.dumps({**RECORD, "ft": {}}).encode()), None, "client", "required", "/ft"),
        (submit({"content-type": "text/plain"}), None, "client", "media-type", ""),
        (submit({"x-secret": "1"}), None, "client", "header-undocumented", ""),
        (submit(TOKEN), None, "client", "header-undocumented", ""),
        (submit({"cookie": "a=b"}), None, "client", "header-undocumented", ""),
        (submit({"x-retry-attempt": "0"}), None, "client", "minimum", "X-Retry-Attempt"),
        (submit({"pcs-min-ack": "soon"}), None, "client", "enum", "PCS-Min-Ack"),
        (submit({"idempotency-key": "short"}), None, "client", "pattern", "Idempotency-Key"),
        (get("/v1/tenants/self"), None, "client", "SecurityNotFound", ""),
        (get("/health", TOKEN), None, "client", "header-undocumented", ""),
        (get("/nowhere"), None, "client", "route", ""),
        (get("/v1/pcs/submit"), None, "client", "route", ""),
        (get("/health", method="DELETE"), None, "client", "route", ""),
        (Sent("", "", (), b"\x16\x03"), None, "client", "route", ""),
        (Sent("GET", "/health", (), b"", whole=False), None, "client", "framing", ""),
        (Sent(BATCH.method, BATCH.target, BATCH.headers, b'{"a":1}\n'), None, "client",
         "required", "/0"),
        # what a server must not answer
        (submit(), recorded(status=201), "server", "MediaTypeNotFound", None),
        (submit(), recorded(x=1), "server", "additionalProperties", ""),
        (submit(), recorded(pcs_id="short"), "server", "pattern", "/pcs_id"),
        (submit(), recorded({"x-request-id": None}), "server", "header-missing", ""),
        (submit(), recorded({"pcs-position": "there"}), "server", "pattern", "PCS-Position"),
        (submit(), recorded({"pcs-level": "soft"}), "server", "enum", "PCS-Level"),
        (submit(), recorded({"x-debug": "1"}), "server", "header-undocumented", ""),
        (submit(), recorded({"set-cookie": "a=b"}), "server", "header-undocumented", ""),
        (submit(), recorded({"content-type": "text/html"}), "server", "media-type", ""),
        (submit(), refused({"retry-after": None}), "server", "header-missing", ""),
        (submit(), refused({"retry-after": "soon"}), "server", "pattern", "Retry-After"),
        (submit(), refused({"content-type": "application/json"}), "server", "media-type", ""),
        (submit(), refused(code="no_such"), "server", "enum", "/code"),
        (submit(), refused(debug="on"), "server", "member-undocumented", "/debug"),
        (submit(), Got(302, (("location", "/"),), b""), "server", "redirect", ""),
        (submit(), Got(200, recorded().headers, b"{", whole=False), "server", "framing", ""),
        (get("/health"), Got(200, HEALTH.headers, b'{"ok":false}'), "server", "const", "/ok"),
        (get("/nowhere"), Got(404, (), b"not here"), "server", "media-type", ""),
        (get("/nowhere"), refused({}, 404, title=7), "server", "type", "/title"),
        (BATCH, Got(200, pairs(OF_ITEMS), ITEMS.replace(b'"replayed"', b'"Replayed"', 1)),
         "server", None, None),
        (get("/health", method="HEAD"), Got(200, (), b""), "server", "header-missing", ""),
    ],
)  # fmt: skip
def test_violation_is_found(
    contract: Contract,
    sent: Sent,
    got: Got | None,
    side: str,
    rule: str | None,
    pointer: str | None,
) -> None:
    found = [one for one in contract.judge(sent, got) if one.side == side]
    assert found
    if rule is None:
        return
    rules = {one.rule for one in found}
    assert rule in rules or pointer is None, rules
    if pointer is not None:
        assert pointer in {one.pointer for one in found if one.rule == rule}


def test_violation_says_where_it_is(contract: Contract) -> None:
    (one,) = contract.judge(submit(), recorded(recomputed_budget=2))
    assert (one.side, one.operation, one.media_type) == ("server", "submitPcs", "application/json")
    assert (one.rule, one.pointer) == ("maximum", "/recomputed_budget")
    assert "submitPcs application/json /recomputed_budget" in str(one)


def test_answer_to_a_batch_without_a_line_is_whole(contract: Contract) -> None:
    assert contract.judge(BATCH, Got(200, pairs(OF_ITEMS), b""), sides=["server"]) == []


def test_sides_are_judged_apart(contract: Contract) -> None:
    sent, got = submit({"x-secret": "1"}), recorded({"x-debug": "1"})
    for side in ("client", "server"):
        assert {one.side for one in contract.judge(sent, got, sides=[side])} == {side}


def test_concrete_path_goes_before_a_template(contract: Contract) -> None:
    assert contract.named("GET", "/v1/pcs/abc?x=1") == "getPcs"
    assert contract.named("GET", "/v1/pcs/submit") is None
    assert contract.named("GET", "/v1/pcs/") is None
    assert contract.named("HEAD", "/healthz") == "getLiveness"


def test_bytes_that_are_no_text_are_a_violation_and_no_crash(contract: Contract) -> None:
    for body in (b"\xff\xfe{", b"\x80" * 100):
        assert contract.judge(submit(body=body), None)
        assert contract.judge(Sent(BATCH.method, BATCH.target, BATCH.headers, body), None)
        assert contract.judge(submit(), Got(200, recorded().headers, body))


# --- secrets -------------------------------------------------------------------------------------

SECRET = bytes(range(32))
PLACES = [
    submit({"x-tenant-id": SECRET.hex()}),
    submit({"x-tenant-id": SECRET.hex().upper()}),
    submit(body=SECRET),
    submit(body=b'{"k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}'),
    get("/v1/pcs/" + SECRET.hex()),
    submit({"authorization": f"Bearer {SECRET.hex()}"}),
]


@pytest.mark.parametrize("sent", PLACES)
def test_secret_is_found_in_every_form(sent: Sent) -> None:
    (found,) = Secrets([("k1.key", SECRET)]).find(sent, None)
    assert (found.side, found.rule) == ("client", "secret")
    assert SECRET.hex() not in str(found)
    assert "k1.key" in found.message


def test_secret_in_an_answer_is_the_servers() -> None:
    got = recorded({"x-debug": SECRET.hex()})
    assert [one.side for one in Secrets([("k", SECRET)]).find(submit(), got)] == ["server"]


def test_token_may_stand_in_the_header_of_a_read_alone() -> None:
    secrets = Secrets([("t.token", b"a-token-of-some-length")])
    authorization = {"authorization": "Bearer a-token-of-some-length"}
    assert list(secrets.find(get("/v1/tenants/self", authorization), None)) == []
    assert list(secrets.find(submit(authorization), None))
    assert list(secrets.find(get("/v1/pcs/a-token-of-some-length"), None))


def test_violation_without_a_place_has_no_empty_members() -> None:
    assert Violation("run", "r", "m").members() == {"side": "run", "rule": "r", "message": "m"}
