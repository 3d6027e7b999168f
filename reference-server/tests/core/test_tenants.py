"""The directory of tenants and keys: who is who at a time, and what a file may not say."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fractal_lba.errors import SignatureError
from fractal_lba_server.contract import validator
from fractal_lba_server.core.faults import DocumentError, Fault, pointer_of
from fractal_lba_server.core.tenants import (
    Directory,
    Quota,
    directory_of,
    faults_of,
)
from fractal_lba_server.schema_faults import schema_faults

NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z
HOUR_MS = 3_600_000
TOKEN = "k" * 42 + "8"
SEED = b"s" * 32
PUBLIC_KEY = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()


def hmac_key(kid: str, **more: Any) -> dict[str, Any]:
    return {"kid": kid, "alg": "HMAC", "secret": {"env": "KEY"}, **more}


def ed25519_key(kid: str, **more: Any) -> dict[str, Any]:
    return {"kid": kid, "alg": "Ed25519", "public_key": PUBLIC_KEY.hex(), **more}


def token(text: str = TOKEN, **more: Any) -> dict[str, Any]:
    return {"id": "t1", "sha256": hashlib.sha256(text.encode()).hexdigest(), **more}


def document(*tenants: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "tenants": list(tenants)}


def secrets_of(value: dict[str, Any]) -> dict[str, bytes]:
    """Give every HMAC key of a document bytes of its own."""
    return {
        f"/tenants/{i}/keys/{j}": hashlib.sha256(f"{i}/{j}".encode()).digest()
        for i, tenant in enumerate(value["tenants"])
        for j, key in enumerate(tenant["keys"])
        if key["alg"] == "HMAC"
    }


def directory(*tenants: dict[str, Any]) -> Directory:
    value = document(*tenants)
    assert schema_faults("tenants", value) == []
    assert faults_of(value, secrets_of(value)) == []
    return directory_of(value, secrets_of(value))


def faults(*tenants: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    value = document(*tenants)
    assert schema_faults("tenants", value) == []
    found = faults_of(value, options.pop("secrets", secrets_of(value)), **options)
    return [(fault.pointer, fault.problem) for fault in found]


ACME = {
    "id": "acme",
    "signing": {"min_version": 1},
    "v1_default_kid": "acme-1",
    "quota": {"per_s": 2.5, "burst": 10},
    "keys": [hmac_key("acme-1"), ed25519_key("acme-2")],
    "read_tokens": [token()],
}
BETA = {"id": "beta", "keys": [hmac_key("beta-1")]}


# --- whose key it is


def test_a_kid_names_its_key_whatever_the_header_says() -> None:
    people = directory(ACME, BETA)
    for header in (None, "acme", "beta", "nobody"):
        record = people.key_for(kid="acme-2", tenant_header=header, now_ms=NOON_MS)
        assert (record.tenant, record.alg, record.key) == ("acme", "Ed25519", PUBLIC_KEY)


def test_without_kid_the_tenant_of_the_header_has_one_default_key() -> None:
    people = directory(ACME, BETA)
    assert people.key_for(kid=None, tenant_header="acme", now_ms=NOON_MS).kid == "acme-1"


@pytest.mark.parametrize(
    ("kid", "header"),
    [("nobody-1", "acme"), (None, None), (None, "nobody"), (None, "beta"), ("", "acme")],
)
def test_keys_are_never_guessed(kid: str | None, header: str | None) -> None:
    with pytest.raises(SignatureError) as caught:
        directory(ACME, BETA).key_for(kid=kid, tenant_header=header, now_ms=NOON_MS)
    assert caught.value.code == "kid_unknown"


def accepted(people: Directory, now_ms: int) -> set[str]:
    """Give the kids that hold at a time; the others have to be inactive."""
    found = set()
    for kid in people.keys:
        try:
            people.key_for(kid=kid, tenant_header=None, now_ms=now_ms)
        except SignatureError as error:
            if error.code != "key_inactive":
                raise
        else:
            found.add(kid)
    return found


@pytest.mark.parametrize(
    ("window", "ages"),
    [
        ({}, {-(10**9): True, 0: True, 10**9: True}),
        ({"not_before": "2026-01-01T12:00:00Z"}, {-1: False, 0: True, 1: True}),
        ({"not_after": "2026-01-01T12:00:00Z"}, {-1: True, 0: True, 1: False}),
        ({"status": "verify_only"}, {0: True}),
        ({"status": "revoked"}, {-HOUR_MS: False, 0: False, HOUR_MS: False}),
    ],
    ids=["always", "not before", "not after", "verify only", "revoked"],
)
def test_a_key_is_judged_at_the_time_that_is_passed_in(
    window: dict[str, str], ages: dict[int, bool]
) -> None:
    people = directory({"id": "acme", "keys": [hmac_key("acme-1", **window)]})
    for age_ms, expected in ages.items():
        assert accepted(people, NOON_MS + age_ms) == ({"acme-1"} if expected else set())


def test_old_and_new_key_both_hold_while_their_windows_overlap() -> None:
    people = directory(
        {
            "id": "acme",
            "keys": [
                hmac_key("old", status="verify_only", not_after="2026-01-01T13:00:00Z"),
                hmac_key("new", not_before="2026-01-01T11:00:00Z"),
            ],
        }
    )
    assert accepted(people, NOON_MS - 2 * HOUR_MS) == {"old"}
    assert accepted(people, NOON_MS) == {"old", "new"}
    assert accepted(people, NOON_MS + 2 * HOUR_MS) == {"new"}


def test_a_revoked_key_is_still_there_for_a_replay() -> None:
    people = directory({"id": "acme", "keys": [hmac_key("acme-1", status="revoked")]})
    assert people.keys["acme-1"].status == "revoked"
    assert len(people.keys["acme-1"].key) == 32


def test_an_inactive_default_key_is_not_replaced_by_another() -> None:
    people = directory(
        {
            "id": "acme",
            "v1_default_kid": "acme-1",
            "keys": [hmac_key("acme-1", status="revoked"), hmac_key("acme-2")],
        }
    )
    with pytest.raises(SignatureError) as caught:
        people.key_for(kid=None, tenant_header="acme", now_ms=NOON_MS)
    assert caught.value.code == "key_inactive"


# --- who may read


def test_a_token_names_its_tenant() -> None:
    tenant = directory(ACME, BETA).tenant_of_token(TOKEN, NOON_MS)
    assert tenant is not None
    assert tenant.id == "acme"


@pytest.mark.parametrize(
    "text",
    ["", "k" * 43, TOKEN[:-1], TOKEN + "k", TOKEN.upper(), "\xe9" * 43, "\ud800" * 43],
    ids=["empty", "unknown", "shorter", "longer", "other case", "not ascii", "surrogates"],
)
def test_another_token_names_nobody(text: str) -> None:
    assert directory(ACME).tenant_of_token(text, NOON_MS) is None


def test_a_token_ends_with_its_last_millisecond() -> None:
    people = directory({**BETA, "read_tokens": [token(not_after="2026-01-01T12:00:00Z")]})
    assert people.tenant_of_token(TOKEN, NOON_MS) is people.tenants["beta"]
    assert people.tenant_of_token(TOKEN, NOON_MS + 1) is None


def test_the_text_of_a_token_is_kept_nowhere() -> None:
    people = directory(ACME)
    assert TOKEN not in repr(people.tokens)
    assert TOKEN not in repr(people.tenants)


# --- what is agreed with a tenant


def test_a_tenant_has_what_the_file_says() -> None:
    tenant = directory(ACME, BETA).tenants["acme"]
    assert tenant.min_version == 1
    assert tenant.quota == Quota(per_s=2.5, burst=10)
    assert tenant.key_ids == ("acme-1", "acme-2")
    assert tenant.v1_default_kid == "acme-1"


def test_version_1_is_off_unless_it_is_written() -> None:
    people = directory({**BETA, "signing": {}}, {"id": "acme", "keys": [hmac_key("acme-1")]})
    assert [tenant.min_version for tenant in people.tenants.values()] == [2, 2]


def test_no_quota_is_no_bound_and_zero_is_a_quota() -> None:
    people = directory(
        BETA, {"id": "acme", "keys": [hmac_key("a")], "quota": {"per_s": 0, "burst": 0}}
    )
    assert people.tenants["beta"].quota is None
    assert people.tenants["acme"].quota == Quota(per_s=0, burst=0)


def test_a_burst_written_as_a_decimal_is_an_integer() -> None:
    people = directory({**BETA, "quota": {"per_s": 1, "burst": 3.0}})
    quota = people.tenants["beta"].quota
    assert quota is not None
    assert (quota.burst, type(quota.burst)) == (3, int)


def test_a_tenant_sees_its_registration_and_no_secret() -> None:
    window = {"not_before": "2026-01-01T12:00:00Z", "not_after": "2099-12-31T23:59:59Z"}
    acme = {**ACME, "keys": [hmac_key("acme-1", **window), ed25519_key("acme-2")]}
    people = directory(acme, BETA)
    view = people.describe(people.tenants["acme"], policy_version="0123456789abcdef")
    assert json.loads(view) == {
        "tenant": "acme",
        "keys": [
            {"kid": "acme-1", "alg": "HMAC", "status": "active", **window},
            {"kid": "acme-2", "alg": "Ed25519", "status": "active"},
        ],
        "signing": {"min_version": 1},
        "quota": {"per_s": 2.5, "burst": 10},
        "policy_version": "0123456789abcdef",
        "v1_default_kid": "acme-1",
    }
    for tenant in people.tenants.values():
        view = people.describe(tenant, policy_version="0123456789abcdef")
        validator("tenant").validate(json.loads(view))


def test_a_directory_cannot_be_changed() -> None:
    people = directory(ACME)
    with pytest.raises(TypeError):
        people.keys["other"] = people.keys["acme-1"]  # type: ignore[index]  # is refused
    with pytest.raises(AttributeError):
        people.keys["acme-1"].status = "revoked"  # type: ignore[misc]  # is refused


# --- secrets


def test_a_key_record_shows_no_key() -> None:
    record = directory(ACME).keys["acme-1"]
    for text in (repr(record), str(record), f"{record}", repr([record])):
        assert "***" in text
        assert record.key.hex() not in text
        assert repr(record.key)[2:-1] not in text


def test_a_key_record_is_not_pickled() -> None:
    record = directory(ACME).keys["acme-1"]
    for act in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="holds a key"):
            act(record)


@pytest.mark.parametrize("kid", ["acme-1", "nobody"])
def test_a_refusal_quotes_no_key(kid: str) -> None:
    people = directory({"id": "acme", "keys": [hmac_key("acme-1", status="revoked")]})
    with pytest.raises(SignatureError) as caught:
        people.key_for(kid=kid, tenant_header=None, now_ms=NOON_MS)
    assert people.keys["acme-1"].key.hex() not in str(caught.value)


# --- what a file may not say


def test_a_file_without_faults_has_none() -> None:
    assert faults(ACME, BETA, kids_in_use={"acme-1", "beta-1"}) == []


def test_tenants_have_different_ids() -> None:
    again = {"id": "beta", "keys": [hmac_key("beta-2")]}
    assert faults(BETA, again) == [("/tenants/1/id", "the same id as /tenants/0/id")]


@pytest.mark.parametrize("other", ["acme", "beta"])
def test_a_kid_is_unique_within_and_across_tenants(other: str) -> None:
    keys = {"acme": [hmac_key("k")], "beta": [hmac_key("b")]}
    keys[other].append(hmac_key("k"))
    tenants = [{"id": name, "keys": keys[name]} for name in keys]
    index = list(keys).index(other)
    assert faults(*tenants) == [
        (f"/tenants/{index}/keys/1/kid", "the same kid as /tenants/0/keys/0/kid")
    ]


def test_key_bytes_are_unique_across_tenants() -> None:
    secrets = {"/tenants/0/keys/0": b"x" * 32, "/tenants/1/keys/0": b"x" * 32}
    acme = {"id": "acme", "keys": [hmac_key("acme-1")]}
    assert faults(acme, BETA, secrets=secrets) == [
        ("/tenants/1/keys/0/secret", "the same key as /tenants/0/keys/0")
    ]


def test_public_keys_are_unique_across_tenants() -> None:
    acme = {"id": "acme", "keys": [ed25519_key("acme-1")]}
    beta = {"id": "beta", "keys": [ed25519_key("beta-1")]}
    assert faults(acme, beta) == [
        ("/tenants/1/keys/0/public_key", "the same key as /tenants/0/keys/0")
    ]


@pytest.mark.parametrize("secret", [PUBLIC_KEY, SEED], ids=["public key", "its seed"])
@pytest.mark.parametrize("first", ["HMAC", "Ed25519"])
def test_the_same_bytes_never_serve_both_algorithms(secret: bytes, first: str) -> None:
    keys = [hmac_key("h"), ed25519_key("e")]
    if first == "Ed25519":
        keys.reverse()
    at = [key["alg"] for key in keys].index("HMAC")
    found = faults({"id": "acme", "keys": keys}, secrets={f"/tenants/0/keys/{at}": secret})
    member = "secret" if at == 1 else "public_key"
    assert found == [(f"/tenants/0/keys/1/{member}", "the same key as /tenants/0/keys/0")]


def test_a_short_hmac_key_is_refused() -> None:
    found = faults(BETA, secrets={"/tenants/0/keys/0": b"x" * 31})
    assert found == [("/tenants/0/keys/0/secret", "expected at least 32 bytes, got 31")]


def test_a_longer_hmac_key_is_no_fault() -> None:
    assert faults(BETA, secrets={"/tenants/0/keys/0": b"x" * 33}) == []


def test_a_public_key_of_small_order_is_refused() -> None:
    key = {"kid": "k", "alg": "Ed25519", "public_key": "00" * 32}
    assert faults({"id": "acme", "keys": [key]}) == [
        (
            "/tenants/0/keys/0/public_key",
            "the point has a small order: anybody can sign under it",
        )
    ]


def test_an_unread_secret_is_left_to_its_reader() -> None:
    assert faults(BETA, secrets={}) == []


def test_the_default_kid_is_a_key_of_the_tenant() -> None:
    found = faults({"id": "acme", "v1_default_kid": "beta-1", "keys": [hmac_key("a")]}, BETA)
    assert found == [("/tenants/0/v1_default_kid", "not a key of this tenant")]


@pytest.mark.parametrize("member", ["not_before", "not_after"])
def test_a_day_that_is_not_in_the_calendar_is_refused(member: str) -> None:
    key = hmac_key("a", **{member: "2026-02-30T00:00:00Z"})
    assert faults({"id": "acme", "keys": [key]}) == [
        (f"/tenants/0/keys/0/{member}", "no such day in the calendar")
    ]


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    times = {"not_before": "2026-01-02T00:00:00Z", "not_after": "2026-01-01T00:00:00Z"}
    assert faults({"id": "acme", "keys": [hmac_key("a", **times)]}) == [
        ("/tenants/0/keys/0/not_after", "before not_before")
    ]


def test_a_window_of_one_millisecond_is_a_window() -> None:
    times = {"not_before": "2026-01-01T00:00:00Z", "not_after": "2026-01-01T00:00:00Z"}
    assert faults({"id": "acme", "keys": [hmac_key("a", **times)]}) == []


def test_a_token_belongs_to_one_tenant() -> None:
    beta = {**BETA, "read_tokens": [token()]}
    assert faults(ACME, beta) == [
        ("/tenants/1/read_tokens/0/sha256", "the same sha256 as /tenants/0/read_tokens/0/sha256")
    ]


def test_the_date_of_a_token_is_a_date() -> None:
    beta = {**BETA, "read_tokens": [token(not_after="2025-02-29T00:00:00Z")]}
    assert faults(beta) == [("/tenants/0/read_tokens/0/not_after", "no such day in the calendar")]


def test_a_kid_that_the_log_names_is_not_removed() -> None:
    assert faults(BETA, kids_in_use=["beta-1", "gone-2", "gone-1", "gone-1"]) == [
        ("/tenants", f'the key "{kid}" is gone, but records in the log were signed with it')
        for kid in ("gone-1", "gone-2")
    ]


def test_every_fault_is_found_at_once() -> None:
    found = faults(
        {
            "id": "acme",
            "v1_default_kid": "x",
            "keys": [hmac_key("k", not_after="2026-02-30T00:00:00Z")],
        },
        {"id": "acme", "keys": [hmac_key("k")]},
        kids_in_use=["gone"],
    )
    assert len(found) == 5


# --- how a fault reads


def test_a_fault_says_where_what_and_how_to_mend_it() -> None:
    assert str(Fault("/a/0", "is wrong", "mend it")) == "/a/0: is wrong; mend it"
    assert str(Fault("", "is empty", "fill it")) == "/: is empty; fill it"


def test_an_error_has_a_line_per_fault_and_points_at_the_first() -> None:
    error = DocumentError([Fault("/a", "b", "c"), Fault("/d", "e", "f")])
    assert str(error) == "config_invalid: /a: b; c\n/d: e; f"
    assert error.pointer == "/a"
    assert len(error.faults) == 2


def test_a_pointer_escapes_what_rfc_6901_says() -> None:
    assert pointer_of(["a/b", 0, "c~d"]) == "/a~1b/0/c~0d"


def test_an_empty_directory_knows_nobody() -> None:
    nobody = Directory()
    assert nobody.tenant_of_token(TOKEN, NOON_MS) is None
    with pytest.raises(SignatureError):
        nobody.key_for(kid="k", tenant_header=None, now_ms=NOON_MS)
    assert dict(nobody.keys) == {}
