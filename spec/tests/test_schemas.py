"""The schemas are 2020-12, closed where they should be, and their codes are on the closed list."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from spec.tests.contract_files import load, schema_names, validator, wire_codes

RECORD: dict[str, Any] = load("examples.yaml")["records"]["version_2"]["value"]
RECORD_1: dict[str, Any] = load("examples.yaml")["records"]["version_1"]["value"]

# Keywords that a record can violate; the others only describe or combine.
ASSERTIONS = {
    "type", "enum", "const", "pattern", "required", "additionalProperties", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems",
}  # fmt: skip

RESIDUAL_KEYWORDS = {"integer", "finite", "maxBytes", "calendar", "increasing", "unitNorm"}


def subschemas(node: Any, codes: dict[str, str]) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield every subschema of a record with the codes in force there."""
    if node is False:
        yield node, codes
    if not isinstance(node, dict):
        return
    own = node.get("x-code", {})
    codes = {**codes, **own}
    yield node, codes
    for group in ("properties", "$defs"):
        for below in node.get(group, {}).values():
            yield from subschemas(below, codes)
    for name in ("items", "additionalProperties", "then", "else"):
        if name in node:
            yield from subschemas(node[name], codes)


@pytest.mark.parametrize("name", schema_names())
def test_schema_is_valid_2020_12(name: str) -> None:
    schema = load(f"schemas/{name}")
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)
    assert validator(name) is not None


@pytest.mark.parametrize("name", [n for n in schema_names() if n != "problem.json"])
def test_objects_are_closed(name: str) -> None:
    def check(node: Any, where: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object" and "$ref" not in node:
                assert "additionalProperties" in node, where
            for key, below in node.items():
                check(below, f"{where}/{key}")
        elif isinstance(node, list):
            for index, below in enumerate(node):
                check(below, f"{where}/{index}")

    check(load(f"schemas/{name}"), name)


def test_problem_codes_are_the_codes_that_a_server_can_send() -> None:
    assert load("schemas/problem.json")["properties"]["code"]["enum"] == sorted(wire_codes())


def test_every_assertion_on_a_record_has_a_code_of_the_list() -> None:
    pcs = load("schemas/pcs.json")
    asserted = set()
    for node, codes in subschemas(pcs, {}):
        keywords = {"falseSchema"} if node is False else ASSERTIONS & node.keys()
        for keyword in keywords:
            assert codes[keyword] in wire_codes(), (keyword, node)
            asserted.add(keyword)
    assert set(pcs["x-code"]) - RESIDUAL_KEYWORDS <= asserted, "a code that nothing can have"


def test_every_residual_keyword_has_a_code() -> None:
    codes = load("schemas/pcs.json")["x-code"]
    assert codes.keys() >= RESIDUAL_KEYWORDS


def changed(base: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Copy a record with members replaced, or removed where the value is `...`."""
    record = {**copy.deepcopy(base), **members}
    return {name: value for name, value in record.items() if value is not ...}


@pytest.mark.parametrize(
    ("record", "valid"),
    [
        (RECORD, True),
        (RECORD_1, True),
        (changed(RECORD_1, kid=...), True),
        (changed(RECORD_1, kid=..., alg=...), True),
        (changed(RECORD_1, tenant_id="acme"), False),
        (changed(RECORD, sig_v=...), False),
        (changed(RECORD, kid=...), False),
        (changed(RECORD, alg=...), False),
        (changed(RECORD, tenant_id=...), False),
        (changed(RECORD, sig=...), False),
        (changed(RECORD, sig_v=1), False),
        (changed(RECORD, sig_v=3), False),
        (changed(RECORD, sig_v="2"), False),
        (changed(RECORD, alg="none"), False),
        (changed(RECORD, comment="x"), False),
    ],
)
def test_signature_versions_have_their_own_members(record: dict[str, Any], valid: bool) -> None:
    assert validator("pcs.json").is_valid(record) is valid


OUTCOME: dict[str, Any] = load("examples.yaml")["outcomes"]["accepted"]["value"]
REFUSING = ("d_hat_out_of_tolerance", "coh_star_out_of_range", "n_j_implausible")
ACCEPTING = ("regime_mismatch", "budget_deviation")


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("escalated", [True, False])
@pytest.mark.parametrize("reason", [None, *REFUSING, *ACCEPTING])
def test_outcome_allows_only_verdicts_that_can_occur(
    accepted: bool, escalated: bool, reason: str | None
) -> None:
    outcome = {**OUTCOME, "accepted": accepted, "escalated": escalated}
    if reason is not None:
        outcome["reason"] = reason
    expected = (accepted, escalated, reason) in {
        (True, False, None),
        *((True, True, name) for name in ACCEPTING),
        *((False, True, name) for name in REFUSING),
    }
    assert validator("outcome.json").is_valid(outcome) is expected


PROBLEM: dict[str, Any] = load("examples.yaml")["problems"]["member_type"]["value"]
ITEM = {
    "index": 0,
    "status": 200,
    "replayed": False,
    "position": "use/open/1/1",
    "level": "durable",
    "outcome": OUTCOME,
}


@pytest.mark.parametrize(
    ("item", "valid"),
    [
        (ITEM, True),
        (changed(ITEM, level=...), False),
        ({**ITEM, "level": "local"}, False),
        ({**ITEM, "status": 202}, True),
        ({**ITEM, "status": 204}, False),
        ({**ITEM, "index": 1000}, True),
        ({**ITEM, "index": 1001}, False),
        ({**ITEM, "problem": PROBLEM}, False),
        (changed(ITEM, outcome=...), False),
        (changed(ITEM, position=...), False),
        ({"index": 1, "status": 422, "problem": PROBLEM}, True),
        ({"index": 1, "status": 422}, False),
        ({"index": 1, "status": 302, "problem": PROBLEM}, False),
        ({"index": 1, "status": 422, "problem": PROBLEM, "outcome": OUTCOME}, False),
        ({"index": 1, "status": 422, "problem": PROBLEM, "replayed": True}, False),
        ({"index": 1, "status": 422, "problem": {**PROBLEM, "code": "no_such"}}, False),
    ],
)
def test_batch_item_is_an_outcome_or_a_problem(item: dict[str, Any], valid: bool) -> None:
    assert validator("batch-item.json").is_valid(item) is valid


@pytest.mark.parametrize(
    ("pointer", "valid"),
    [("", True), ("/a", True), ("/a~0b~1c/0", True), ("a", False), ("/~2", False), ("/~", False)],
)
def test_pointer_is_a_json_pointer(pointer: str, valid: bool) -> None:
    assert validator("problem.json").is_valid({**PROBLEM, "pointer": pointer}) is valid


HMAC_KEY = {"kid": "k1", "alg": "HMAC", "secret": {"env": "ACME_KEY"}}
ED_KEY = {"kid": "k2", "alg": "Ed25519", "public_key": "ab" * 32}


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        (HMAC_KEY, True),
        ({**HMAC_KEY, "secret": {"file": "acme.key"}}, True),
        ({**HMAC_KEY, "secret": {"file": "acme.key", "env": "ACME_KEY"}}, False),
        ({**HMAC_KEY, "secret": {}}, False),
        ({**HMAC_KEY, "secret": "00" * 32}, False),
        ({**HMAC_KEY, "public_key": "ab" * 32}, False),
        (changed(HMAC_KEY, secret=...), False),
        (ED_KEY, True),
        ({**ED_KEY, "secret": {"env": "ACME_KEY"}}, False),
        (changed(ED_KEY, public_key=...), False),
        ({**ED_KEY, "public_key": "AB" * 32}, False),
        ({**HMAC_KEY, "alg": "none"}, False),
        ({**HMAC_KEY, "status": "verify_only", "not_after": "2027-01-01T00:00:00Z"}, True),
        ({**HMAC_KEY, "status": "retired"}, False),
        ({**HMAC_KEY, "not_after": "2027-01-01"}, False),
    ],
)
def test_key_names_its_secret_and_never_holds_it(key: dict[str, Any], valid: bool) -> None:
    document = {"version": 1, "tenants": [{"id": "acme", "keys": [key]}]}
    assert validator("tenants.json").is_valid(document) is valid


@pytest.mark.parametrize(
    ("members", "valid"),
    [
        ({}, True),
        ({"signing": {"min_version": 1}, "v1_default_kid": "k1"}, True),
        ({"signing": {"min_version": 3}}, False),
        ({"quota": {"per_s": 0, "burst": 0}}, True),
        ({"quota": {"per_s": 0.5, "burst": 10}}, True),
        ({"quota": {"per_s": -1, "burst": 10}}, False),
        ({"quota": {"per_s": 1}}, False),
        ({"read_tokens": [{"id": "ops", "sha256": "cd" * 32}]}, True),
        ({"read_tokens": [{"id": "ops", "token": "secret"}]}, False),
        ({"id": "a b"}, False),
        ({"keys": []}, False),
        ({"colour": "red"}, False),
    ],
)
def test_tenant_of_the_tenants_file(members: dict[str, Any], valid: bool) -> None:
    tenant = {"id": "acme", "keys": [HMAC_KEY], **members}
    document = {"version": 1, "tenants": [tenant]}
    assert validator("tenants.json").is_valid(document) is valid


@pytest.mark.parametrize(
    ("members", "valid"),
    [
        ({}, True),
        ({"listen": "[::1]:0", "admin_listen": None, "region": "use"}, True),
        ({"listen": "8080"}, False),
        ({"region": "us-east"}, False),
        ({"tls": {"cert": "c.pem", "key": "k.pem", "client_ca": "ca.pem"}}, True),
        ({"tls": {"cert": "c.pem"}}, False),
        ({"tls": {"client_ca": "ca.pem"}}, False),
        ({"limits": {"connections": 0}}, False),
        ({"limits": {"unauthenticated_per_s": 0}}, True),
        ({"wal": {"rejects_bytes": 0}}, True),
        ({"wal": {"retain_days": 30}}, False),
        ({"cors": {"allowed_origins": ["https://app.example:8443"]}}, True),
        ({"cors": {"allowed_origins": ["*"]}}, False),
        ({"cors": {"allowed_origins": ["https://app.example/"]}}, False),
        ({"ingest": {"unknown_members": "ignore"}}, False),
    ],
)
def test_server_file(members: dict[str, Any], valid: bool) -> None:
    assert validator("flk.json").is_valid({"data": "data", **members}) is valid


def test_settings_of_the_server_file_are_the_decided_ones() -> None:
    assert list(load("schemas/flk.json")["properties"]) == [
        "listen", "admin_listen", "admin_token_file", "data", "region", "tls", "limits", "wal", "store",
        "regions_file", "node", "peers", "arbiter", "dedup", "tiers", "tenants_file", "policy_file", "cors",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["flk.json", "policy.json", "tenants.json"])
def test_defaults_lie_within_their_own_bounds(name: str) -> None:
    def check(node: Any) -> None:
        if isinstance(node, dict):
            if "default" in node:
                rule = {k: v for k, v in node.items() if k != "default"}
                whole = {"$ref": f"schemas/{name}", **rule} if "$ref" in rule else rule
                if "$ref" not in whole and "anyOf" not in whole:
                    jsonschema_rs.Draft202012Validator(whole).validate(node["default"])
            for below in node.values():
                check(below)

    check(load(f"schemas/{name}"))


@pytest.mark.parametrize(
    ("parameters", "valid"),
    [
        ({}, True),
        ({"tol_D": 0}, True),
        ({"tol_D": -0.1}, False),
        ({"tol_D": "0.1"}, False),
        ({"tol_d": 0.1}, False),
        ({"dedup_ttl": "forever"}, True),
        ({"dedup_ttl": "14d"}, True),
        ({"dedup_ttl": "1d"}, False),
        ({"dedup_ttl": "014d"}, False),
        ({"dedup_ttl": 14}, False),
    ],
)
def test_policy_parameters(parameters: dict[str, Any], valid: bool) -> None:
    for document in ({"default": parameters}, {"tenants": {"acme": parameters}}):
        assert validator("policy.json").is_valid({"version": 1, **document}) is valid
