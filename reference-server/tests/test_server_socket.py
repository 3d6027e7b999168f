"""Every route and every status of the contract, asked of a real process over a real socket."""

# tidy: long because it is one table of the whole public contract

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from region import (
    ACME,
    ACME_2,
    ACME_TOKEN,
    BETA,
    BETA_TOKEN,
    ED25519,
    HMAC_KEYS,
    JSON,
    NDJSON,
    ORIGIN,
    SMALL,
    SMALL_QUOTA,
    Reply,
    ServerProcess,
    ask,
    get,
    members,
    signed,
    submit,
    write_home,
)

from fractal_lba.canonical import jcs
from fractal_lba.sign import HmacSigner
from fractal_lba_server.contract import validator
from fractal_lba_server.store.wal import read_segment

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
POSITION = re.compile(r"loc/open/1/[1-9][0-9]*")
DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


def text(record: dict[str, Any]) -> bytes:
    """Write a record as somebody does who does not know RFC 8785."""
    return json.dumps(record).encode()


def changed(**values: Any) -> bytes:
    """Sign a record, then change it: what the signature no longer covers or forbids."""
    return text({**signed().record, **values})


# --- submit --------------------------------------------------------------------------------


def test_first_submission_has_the_headers_of_the_contract(server: ServerProcess) -> None:
    record = signed()
    reply = submit(server.port, record.body)
    outcome = reply.outcome
    assert reply.status == 200
    assert (outcome["accepted"], outcome["escalated"]) == (True, False)
    assert (outcome["pcs_id"], outcome["first_seen"]["region"]) == (record.pcs_id, "loc")
    assert reply.body == jcs(outcome), "the body is the RFC 8785 form"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["idempotency-replayed"] == "false"
    assert reply.headers["pcs-level"] == "durable"
    assert "pcs-replicated" not in reply.headers
    assert POSITION.fullmatch(reply.headers["pcs-position"])
    assert UUID7.fullmatch(reply.headers["x-request-id"])
    assert DATE.fullmatch(reply.headers["date"])
    assert "server" not in reply.headers
    names = [name for name, _ in reply.sent_headers]
    assert len(names) == len(set(names)), "no header comes twice"


@pytest.mark.parametrize("signer", [ACME, ACME_2], ids=["same key", "another key"])
def test_duplicate_is_answered_with_the_bytes_of_the_first(
    server: ServerProcess, signer: HmacSigner
) -> None:
    unsigned = members()
    first = submit(server.port, signed(**_as_given(unsigned)).body)
    again = submit(server.port, signed(signer=signer, **_as_given(unsigned)).body)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.body == first.body
    assert again.status == first.status
    assert again.headers["pcs-position"] == first.headers["pcs-position"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


def _as_given(unsigned: dict[str, Any]) -> dict[str, Any]:
    return {name: unsigned[name] for name in ("merkle_root", "pcs_id")}


@pytest.mark.parametrize(
    ("values", "accepted", "reason"),
    [
        ({"D_hat": 1.0}, False, "d_hat_out_of_tolerance"),
        ({"N_j": {"2": 9, "4": 38, "8": 142, "16": 431, "32": 910, "64": 1278}}, False,
         "n_j_implausible"),
        ({"regime": "sticky"}, True, "regime_mismatch"),
        ({"budget": 0.9}, True, "budget_deviation"),
    ],
)  # fmt: skip
def test_what_its_own_counts_refute_is_recorded_with_202(
    server: ServerProcess, values: dict[str, Any], accepted: bool, reason: str
) -> None:
    record = signed(**values)
    first = submit(server.port, record.body)
    assert first.status == 202
    outcome = first.outcome
    assert (outcome["accepted"], outcome["escalated"]) == (accepted, True)
    assert outcome["reason"] == reason
    again = submit(server.port, record.body)
    assert (again.status, again.body) == (202, first.body)
    read = get(server.port, record.pcs_id)
    assert (read.status, read.body) == (202, first.body)


def test_other_content_under_an_id_is_refused_and_the_first_stands(server: ServerProcess) -> None:
    first = signed("conflict")
    before = submit(server.port, first.body)
    refused = submit(server.port, signed("conflict", r=0.5).body)
    assert (refused.status, refused.code) == (409, "pcs_id_conflict")
    assert refused.problem["pointer"] == "/pcs_id"
    assert submit(server.port, first.body).body == before.body
    assert get(server.port, first.pcs_id).body == before.body


def test_ids_of_tenants_are_apart(server: ServerProcess) -> None:
    ours = submit(server.port, signed("apart").body)
    theirs = submit(server.port, signed("apart", signer=BETA, tenant="beta", r=0.5).body)
    assert ours.headers["idempotency-replayed"] == "false"
    assert theirs.headers["idempotency-replayed"] == "false"
    assert ours.body != theirs.body
    pcs_id = members("apart")["pcs_id"]
    assert get(server.port, pcs_id).body == ours.body
    assert get(server.port, pcs_id, BETA_TOKEN).body == theirs.body


def test_version_1_needs_leave_and_the_key_may_be_the_tenants_default(
    server: ServerProcess,
) -> None:
    bare = HmacSigner(HMAC_KEYS["beta-1"])
    taken = submit(server.port, signed(signer=bare, version=1).body, X_Tenant_Id="beta")
    assert taken.status == 200
    nobody = submit(server.port, signed(signer=bare, version=1).body)
    assert (nobody.status, nobody.code) == (401, "kid_unknown")
    no_default = submit(server.port, signed(signer=bare, version=1).body, X_Tenant_Id="acme")
    assert (no_default.status, no_default.code) == (401, "kid_unknown")
    old = submit(server.port, signed(version=1).body)
    assert (old.status, old.code) == (401, "sig_version_unsupported")


def test_ed25519_is_taken_and_replayed(server: ServerProcess) -> None:
    record = signed(signer=ED25519, tenant="beta")
    first = submit(server.port, record.body)
    again = submit(server.port, record.body)
    assert (first.status, again.status) == (200, 200)
    assert [r.headers["idempotency-replayed"] for r in (first, again)] == ["false", "true"]
    assert first.body == again.body
    forged = changed_signature(record.record)
    assert submit(server.port, forged).code == "signature_invalid"


def changed_signature(record: Any) -> bytes:
    """Replace the first character of a signature by another of the alphabet."""
    sig = record["sig"]
    return text({**record, "sig": ("A" if sig[0] != "A" else "B") + sig[1:]})


def _deep() -> bytes:
    return changed(extra=json.loads("[" * 33 + "]" * 33))


REFUSED: list[tuple[str, int, str, Callable[[], bytes]]] = [
    ("empty body", 400, "json_malformed", lambda: b""),
    ("truncated", 400, "json_malformed", lambda: signed().body[:-1]),
    ("trailing bytes", 400, "json_malformed", lambda: signed().body + b"x"),
    ("byte order mark", 400, "json_malformed", lambda: b"\xef\xbb\xbf" + signed().body),
    ("no UTF-8", 400, "json_malformed", lambda: signed().body.replace(b"seattle", b"seattl\xff")),
    ("NaN", 400, "json_malformed", lambda: signed().body.replace(b'"r":0.381', b'"r":NaN')),
    ("an array", 400, "json_malformed", lambda: b"[]"),
    ("33 deep", 400, "json_limit", _deep),
    ("a member twice", 400, "member_duplicate", lambda: b'{"epoch":1,' + signed().body[1:]),
    ("half a surrogate", 400, "string_surrogate", lambda: changed(shard_id="\ud800")),
    ("a byte too many", 413, "payload_too_large",
     lambda: signed().body + b" " * (65_537 - len(signed().body))),
    ("unknown member", 422, "member_unknown", lambda: changed(extra=1)),
    ("missing member", 422, "member_missing",
     lambda: text({k: v for k, v in signed().record.items() if k != "regime"})),
    ("wrong type", 422, "member_type", lambda: changed(regime=1)),
    ("epoch that is no integer", 422, "epoch_invalid",
     lambda: signed().body.replace(b'"epoch":1', b'"epoch":1.0')),
    ("number out of range", 422, "number_out_of_range", lambda: changed(coh_star=2)),
    ("number beyond a double", 422, "number_out_of_range",
     lambda: signed().body.replace(b'"r":0.381', b'"r":1e999')),
    ("upper-case hex", 422, "hex_invalid", lambda: changed(merkle_root="A" * 64)),
    ("long string", 422, "string_length", lambda: changed(shard_id="x" * 300)),
    ("other schema", 422, "schema_unsupported", lambda: changed(schema="other")),
    ("other id", 422, "pcs_id_mismatch", lambda: signed(pcs_id="0" * 64).body),
    ("unknown kid", 401, "kid_unknown",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["stranger"], kid="nobody")).body),
    ("expired key", 401, "key_inactive",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["acme-old"], kid="acme-old")).body),
    ("revoked key", 401, "key_inactive",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["acme-gone"], kid="acme-gone")).body),
    ("algorithm of another key", 401, "alg_mismatch", lambda: changed(alg="Ed25519")),
    ("unknown version", 401, "sig_version_unsupported", lambda: changed(sig_v=3)),
    ("signature that is no base64", 401, "signature_malformed", lambda: changed(sig="?" * 44)),
    ("signature of another key", 401, "signature_invalid",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["stranger"], kid="acme-1")).body),
    ("altered signed number", 401, "signature_invalid", lambda: changed(r=0.5)),
    ("altered member outside the eight", 401, "signature_invalid", lambda: changed(seed=7)),
    ("altered tenant", 401, "signature_invalid", lambda: changed(tenant_id="beta")),
    ("key of another tenant", 403, "tenant_mismatch", lambda: signed(tenant="beta").body),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code", "body"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_fault_of_a_record_has_its_status_and_code(
    server: ServerProcess, status: int, code: str, body: Callable[[], bytes]
) -> None:
    reply = submit(server.port, body())
    assert (reply.status, reply.code) == (status, code)
    assert UUID7.fullmatch(reply.headers["x-request-id"])


def test_nothing_that_was_refused_is_in_the_log(tmp_path: Path) -> None:
    server = ServerProcess(write_home(tmp_path))
    server.start()
    for _, status, _, body in REFUSED:
        assert submit(server.port, body()).status == status
    assert submit(server.port, signed().body).headers["pcs-position"] == "loc/open/1/1"
    assert server.stop() == 0
    (segment,) = (server.data / "wal" / "open").iterdir()
    assert len(read_segment(segment).frames) == 1
    assert "merkle_root" not in server.stderr(), "no body is in the request log either"


def test_other_tenant_in_the_header_is_refused(server: ServerProcess) -> None:
    record = signed()
    reply = submit(server.port, record.body, X_Tenant_Id="beta")
    assert (reply.status, reply.code) == (403, "tenant_mismatch")
    assert get(server.port, record.pcs_id).code == "not_found"
    assert submit(server.port, record.body, X_Tenant_Id="acme").status == 200


def test_quota_is_429_and_duplicates_pay_as_well(server: ServerProcess) -> None:
    records = [signed(signer=SMALL, tenant="small") for _ in range(SMALL_QUOTA)]
    for record in records:
        assert submit(server.port, record.body).status == 200
    over = submit(server.port, records[0].body)
    assert (over.status, over.code) == (429, "rate_limited")
    assert int(over.headers["retry-after"]) > 1
    assert submit(server.port, signed().body).status == 200, "another tenant has its own"


def test_level_that_is_not_reached_is_503_with_the_position(server: ServerProcess) -> None:
    record = signed()
    reply = submit(server.port, record.body, PCS_Min_Ack="replicated")
    assert (reply.status, reply.code) == (503, "unavailable")
    assert reply.problem["position"] == reply.headers["pcs-position"]
    again = submit(server.port, record.body, PCS_Min_Ack="durable")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["pcs-position"] == reply.headers["pcs-position"]
    other = submit(server.port, signed().body, PCS_Min_Ack="engraved")
    assert (other.status, other.code) == (400, "bad_request")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 200),
        ({"content-type": "Application/JSON; charset=UTF-8"}, 200),
        ({"content-type": "application/json", "content-encoding": "identity"}, 200),
        ({}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/x-ndjson"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
def test_media_type_is_asked_for(
    server: ServerProcess, headers: dict[str, str], status: int
) -> None:
    reply = ask(server.port, "POST", "/v1/pcs/submit", signed().body, headers)
    assert reply.status == status
    if status == 415:
        assert reply.code == "unsupported_media_type"


# --- batch ---------------------------------------------------------------------------------


def batch(server: ServerProcess, *lines: bytes, **headers: str) -> tuple[Reply, list[Any]]:
    """Send a batch; give the answer and its items, each valid."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = ask(server.port, "POST", "/v1/pcs/batch", b"\n".join(lines), {**NDJSON, **named})
    if reply.status != 200:
        return reply, []
    assert reply.headers["content-type"] == "application/x-ndjson"
    items = [json.loads(line) for line in reply.body.split(b"\n")[:-1]]
    for item in items:
        validator("batch-item").validate(item)
    assert [item["index"] for item in items] == list(range(len(items)))
    return reply, items


def test_bad_line_of_a_batch_spoils_no_other(server: ServerProcess) -> None:
    known, fresh, judged = signed(), signed(), signed(D_hat=1.0)
    first = submit(server.port, known.body)
    wrong = signed(signer=HmacSigner(HMAC_KEYS["stranger"], kid="acme-1"))
    _, items = batch(
        server, known.body, b"{", fresh.body, wrong.body, judged.body, b"", fresh.body, b""
    )
    assert [item["status"] for item in items] == [200, 400, 200, 401, 202, 400, 200]
    assert [item.get("replayed") for item in items] == [
        True, None, False, None, False, None, True,
    ]  # fmt: skip
    assert jcs(items[0]["outcome"]) == first.body
    assert items[0]["position"] == first.headers["pcs-position"]
    assert items[6]["outcome"] == items[2]["outcome"]
    assert items[1]["problem"]["code"] == "json_malformed"
    assert items[3]["problem"]["code"] == "signature_invalid"
    single = submit(server.port, fresh.body)
    assert single.body == jcs(items[2]["outcome"])


def test_lines_of_two_tenants_are_refused_after_the_first(server: ServerProcess) -> None:
    theirs = signed(signer=BETA, tenant="beta")
    _, items = batch(server, signed().body, theirs.body, signed().body)
    assert [item["status"] for item in items] == [200, 403, 200]
    assert items[1]["problem"]["code"] == "tenant_mismatch"
    assert submit(server.port, theirs.body).headers["idempotency-replayed"] == "false"


def test_line_that_is_too_long_ends_a_batch(server: ServerProcess) -> None:
    long = signed().body + b" " * 65_537
    after = signed()
    _, items = batch(server, signed().body, long, after.body)
    assert [item["status"] for item in items] == [200, 413]
    assert items[1]["problem"]["code"] == "payload_too_large"
    assert get(server.port, after.pcs_id).status == 404


def test_line_1001_ends_a_batch(server: ServerProcess) -> None:
    lines = [signed().body for _ in range(3)] + [b"{}"] * 997 + [signed().body]
    _, items = batch(server, *lines)
    assert len(items) == 1_001
    assert [item["status"] for item in items[:4]] == [200, 200, 200, 422]
    assert (items[1_000]["status"], items[1_000]["index"]) == (413, 1_000)
    _, items = batch(server, *lines[:1_000], b"")
    assert len(items) == 1_000


def test_empty_batch_has_an_empty_answer(server: ServerProcess) -> None:
    reply, items = batch(server, b"")
    assert (reply.status, reply.body, items) == (200, b"", [])


def test_batch_of_the_wrong_type_or_size_is_refused_as_a_whole(server: ServerProcess) -> None:
    reply = ask(server.port, "POST", "/v1/pcs/batch", signed().body, JSON)
    assert (reply.status, reply.code) == (415, "unsupported_media_type")
    huge = ask(server.port, "POST", "/v1/pcs/batch", b"\n" * (4 * 1024 * 1024 + 1), NDJSON)
    assert (huge.status, huge.code) == (413, "payload_too_large")


# --- reads ---------------------------------------------------------------------------------


def test_outcome_is_read_with_a_token_of_its_tenant_only(server: ServerProcess) -> None:
    record = signed()
    first = submit(server.port, record.body)
    read = get(server.port, record.pcs_id)
    assert (read.status, read.body) == (200, first.body)
    assert read.headers["pcs-position"] == first.headers["pcs-position"]
    other = get(server.port, record.pcs_id, BETA_TOKEN)
    assert (other.status, other.code) == (404, "not_found")
    unknown = get(server.port, "0" * 64)
    assert (unknown.status, unknown.code) == (404, "not_found")
    assert other.problem["detail"] == unknown.problem["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/pcs/" + "a" * 64,
        "/v1/tenants/self",
        "/v1/region/status",
        "/v1/pcs/x",
    ],
)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic " + ACME_TOKEN, "Bearer " + "x" * 43,
     "Bearer " + ACME_TOKEN + "0", "Bearer \xe9" + ACME_TOKEN[1:]],
)  # fmt: skip
def test_read_without_a_token_is_401(
    server: ServerProcess, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    reply = ask(server.port, "GET", path, None, headers)
    assert (reply.status, reply.code) == (401, "unauthorized")
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("pcs_id", ["x", "A" * 64, "a" * 63, "a" * 65, "%61" * 64 + "b", "a%2Fb"])
def test_text_that_is_no_id_is_not_found(server: ServerProcess, pcs_id: str) -> None:
    assert get(server.port, pcs_id).code == "not_found"


def test_tenant_reads_itself_without_secrets(server: ServerProcess) -> None:
    reply = ask(
        server.port, "GET", "/v1/tenants/self", None, {"authorization": f"bearer {ACME_TOKEN}"}
    )
    document = json.loads(reply.body)
    validator("tenant").validate(document)
    assert document["tenant"] == "acme"
    assert [key["kid"] for key in document["keys"]] == ["acme-1", "acme-2", "acme-old", "acme-gone"]
    for key in HMAC_KEYS.values():
        assert key.hex() not in reply.body.decode()


def test_read_after_the_answer_never_says_not_found(server: ServerProcess) -> None:
    for _ in range(100):
        record = signed()
        first = submit(server.port, record.body)
        assert get(server.port, record.pcs_id).body == first.body


# --- health, methods, browsers -------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz"])
def test_health_says_who_it_is(server: ServerProcess, path: str) -> None:
    reply = ask(server.port, "GET", path)
    assert (reply.status, reply.body) == (200, b'{"ok":true,"region":"loc","primary":true}')


ROUTES = [
    ("/v1/pcs/submit", "POST"),
    ("/v1/pcs/batch", "POST"),
    ("/v1/pcs/" + "a" * 64, "GET"),
    ("/v1/tenants/self", "GET"),
    ("/v1/region/status", "GET"),
    ("/health", "GET"),
    ("/healthz", "GET"),
    ("/readyz", "GET"),
]


@pytest.mark.parametrize(("path", "right"), ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_method_is_405(server: ServerProcess, path: str, right: str, method: str) -> None:
    if method == right:
        return
    reply = ask(server.port, method, path, b"")
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == right


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/healthz",
        "/readyz",
        "/v1/tenants/self",
        "/v1/region/status",
    ],
)
def test_head_is_get_without_a_body(server: ServerProcess, path: str) -> None:
    authorization = {"authorization": f"Bearer {ACME_TOKEN}"}
    whole = ask(server.port, "GET", path, None, authorization)
    head = ask(server.port, "HEAD", path, None, authorization)
    assert (head.status, head.body) == (whole.status, b"")
    assert head.headers["content-length"] == str(len(whole.body))
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_head_of_an_outcome(server: ServerProcess) -> None:
    record = signed()
    first = submit(server.port, record.body)
    authorization = {"authorization": f"Bearer {ACME_TOKEN}"}
    head = ask(server.port, "HEAD", f"/v1/pcs/{record.pcs_id}", None, authorization)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(first.body))


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/pcs", "/v1/pcs/submit/", "/metrics", "/admin/drain", "/admin/reload",
     "/v1/pcs/a/b", "//v1/pcs/submit", "/v1/pcs/submit%2F", "/%ff"],
)  # fmt: skip
def test_what_is_not_there_is_404(server: ServerProcess, path: str) -> None:
    reply = ask(server.port, "POST", path, b"")
    assert (reply.status, reply.code) == (404, "not_found")


def test_query_plays_no_part(server: ServerProcess) -> None:
    reply = ask(server.port, "POST", "/v1/pcs/submit?x=1", signed().body, JSON)
    assert reply.status == 200


def test_request_id_is_the_servers(server: ServerProcess) -> None:
    reply = submit(server.port, signed().body, X_Request_Id="mine-1")
    assert UUID7.fullmatch(reply.headers["x-request-id"])


def test_preflight_of_an_allowed_page(server: ServerProcess) -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    reply = ask(server.port, "OPTIONS", "/v1/pcs/submit", None, asked)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert reply.headers["access-control-allow-methods"] == "POST"
    assert reply.headers["access-control-max-age"] == "600"
    allowed = {n.strip().lower() for n in reply.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "idempotency-key", "pcs-min-ack", "x-tenant-id"} <= (
        allowed
    )
    assert "content-length" not in reply.headers
    assert "Origin" in reply.headers["vary"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ORIGIN + ".evil", "*"])
def test_other_pages_are_not_let_in(server: ServerProcess, origin: str) -> None:
    asked = {"origin": origin, "access-control-request-method": "POST"}
    replies = [
        ask(server.port, "OPTIONS", "/v1/pcs/submit", None, asked),
        submit(server.port, signed().body, Origin=origin),
    ]
    for reply in replies:
        assert not [name for name in reply.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("body", [signed().body, b"{"], ids=["answer", "problem"])
def test_page_may_read_answers_and_problems(server: ServerProcess, body: bytes) -> None:
    reply = submit(server.port, body, Origin=ORIGIN)
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    exposed = {n.strip() for n in reply.headers["access-control-expose-headers"].split(",")}
    assert exposed == {
        "Date", "Retry-After", "X-Request-Id", "X-Should-Retry", "Idempotency-Replayed",
        "PCS-Position", "PCS-Level", "PCS-Replicated",
    }  # fmt: skip


# --- the operator's listener ---------------------------------------------------------------


def test_metrics_stand_on_the_second_listener(server: ServerProcess) -> None:
    submit(server.port, signed().body)
    reply = ask(server.admin_port, "GET", "/metrics")
    assert reply.status == 200
    words = reply.body.decode()
    assert "# TYPE" in words
    for secret in ("acme", *(key.hex() for key in HMAC_KEYS.values())):
        assert secret not in words, "tenants are pseudonyms there"
    assert ask(server.admin_port, "POST", "/v1/pcs/submit", signed().body, JSON).status == 404
    assert ask(server.admin_port, "GET", "/admin/drain").code == "method_not_allowed"


@pytest.mark.parametrize("path", ["/admin/drain", "/admin/reload", "/admin/region/drain"])
def test_a_page_of_a_browser_gives_no_orders(server: ServerProcess, path: str) -> None:
    """Loopback is everybody on this machine, also a page that somebody opened there."""
    for origin in ("https://elsewhere.example", "null", f"http://127.0.0.1:{server.admin_port}"):
        page = {"Origin": origin, "Content-Type": "text/plain"}
        reply = ask(server.admin_port, "POST", path, b"{}", page)
        assert (reply.status, reply.code) == (403, "forbidden")
    assert ask(server.port, "GET", "/health").status == 200


def test_drained_server_takes_no_record_and_still_reads(home: Path) -> None:
    server = ServerProcess(home)
    server.start()
    record = signed()
    first = submit(server.port, record.body)
    drained = ask(server.admin_port, "POST", "/admin/drain")
    assert json.loads(drained.body) == {"draining": True, "in_flight": 0}
    for reply in (submit(server.port, signed().body), ask(server.port, "GET", "/health")):
        assert (reply.status, reply.code) == (503, "unavailable")
        assert "retry-after" in reply.headers
    assert ask(server.port, "GET", "/healthz").status == 200
    assert get(server.port, record.pcs_id).body == first.body
    assert server.stop() == 0


# --- the log of requests -------------------------------------------------------------------


@pytest.fixture
def own_server(home: Path) -> Iterator[ServerProcess]:
    """Run a server for one test that reads its log."""
    process = ServerProcess(home)
    process.start()
    yield process
    if process.process.poll() is None:
        process.stop()


def test_request_is_logged_without_body_key_or_token(own_server: ServerProcess) -> None:
    record = signed()
    reply = submit(
        own_server.port, record.body, X_Request_Id="client-7", Idempotency_Key=record.content
    )
    get(own_server.port, record.pcs_id)
    assert own_server.stop() == 0
    words = own_server.stderr()
    lines = [json.loads(line) for line in words.splitlines()]
    (line,) = [one for one in lines if one.get("request_id") == reply.headers["x-request-id"]]
    assert (line["tenant"], line["pcs_id"], line["status"]) == ("acme", record.pcs_id, 200)
    assert line["client_request_id"] == "client-7"
    for secret in (ACME_TOKEN, record.record["sig"], record.record["merkle_root"]):
        assert secret not in words
    for key in HMAC_KEYS.values():
        assert key.hex() not in words
