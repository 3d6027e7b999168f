"""How a refusal of a schema reads to the person who wrote the file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.schema_faults import schema_faults

HMAC = {"kid": "k", "alg": "HMAC", "secret": {"env": "K"}}
HEX64 = "0" * 64


def tenants(*keys: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "tenants": [{"id": "acme", "keys": list(keys or [HMAC]), **more}]}


@pytest.mark.parametrize(
    ("name", "value", "pointer", "problem", "fix"),
    [
        ("tenants", tenants({**HMAC, "alg": "hmac"}), "/tenants/0/keys/0/alg",
         "expected one of HMAC, Ed25519", "choose one of them"),
        ("tenants", {"version": 2, "tenants": []}, "/version", "expected 1", "write 1"),
        ("tenants", tenants({**HMAC, "public_key": HEX64}), "/tenants/0/keys/0/public_key",
         "does not belong here", "remove it"),
        ("tenants", tenants({"kid": "k", "alg": "Ed25519"}), "/tenants/0/keys/0",
         'the key "public_key" is missing', 'add "public_key"'),
        ("tenants", tenants({**HMAC, "not_after": "2026-01-01"}), "/tenants/0/keys/0/not_after",
         ("expected text of the form ^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
          "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"),
         "UTC; quote it in YAML"),
        ("tenants", tenants({**HMAC, "secret": {"env": "A", "file": "b"}}),
         "/tenants/0/keys/0/secret", "expected at most 1 keys", "change the value"),
        ("tenants", tenants(quota={"per_s": "many", "burst": 1}), "/tenants/0/quota/per_s",
         "expected a number, got text", "change it"),
        ("tenants", tenants(quota={"per_s": None, "burst": 1}), "/tenants/0/quota/per_s",
         "expected a number, got nothing", "change it"),
        ("tenants", tenants(read_tokens=[{"id": True, "sha256": HEX64}]),
         "/tenants/0/read_tokens/0/id", "expected text, got true or false", "put it in quotes"),
        ("flk", {"data": "d", "cors": {"allowed_origins": ["https://a", "https://a"]}},
         "/cors/allowed_origins", "an entry appears twice", "keep one of the two"),
        ("flk", {"data": "d", "admin_listen": []}, "/admin_listen",
         "expected text or nothing, got a list", "change it"),
        ("policy", {"version": 1, "tenants": {"a b": {}}}, "/tenants",
         'refused by the rule "propertyNames" of the schema', "change the value"),
    ],
    ids=[
        "enum", "const", "false", "conditional", "pattern", "size", "number", "null", "boolean",
        "unique", "alternatives", "other",
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_expected_and_what_to_do(
    name: str, value: Any, pointer: str, problem: str, fix: str
) -> None:
    (fault,) = schema_faults(name, value)
    assert (fault.pointer, fault.problem, fault.fix) == (pointer, problem, fix)


def test_a_condition_is_left_alone_while_its_mapping_has_other_faults() -> None:
    wrong = tenants(
        {**HMAC, "alg": "hmac", "public_key": HEX64},
        {"kid": "k", "alg": "Ed25519", "secret": {"env": "K"}},
    )
    assert [(one.pointer, one.problem) for one in schema_faults("tenants", wrong)] == [
        ("/tenants/0/keys/0/alg", "expected one of HMAC, Ed25519"),
        ("/tenants/0/keys/1", 'the key "public_key" is missing'),
        ("/tenants/0/keys/1/secret", "does not belong here"),
    ]


def test_what_the_schema_takes_has_no_fault() -> None:
    assert schema_faults("tenants", tenants()) == []


leaves = st.none() | st.booleans() | st.integers() | st.just("s3cr3tvalue" * 7)
names = st.sampled_from(
    ["id", "keys", "kid", "alg", "secret", "env", "version", "tenants", "other"]
)


@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(names, inner)))
def test_no_value_is_quoted_whatever_a_file_holds(value: Any) -> None:
    for document in (value, tenants(value), tenants(quota=value)):
        for fault in schema_faults("tenants", document):
            assert "s3cr3tvalue" not in str(fault)


@given(
    st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner)
    )
)
def test_any_value_gets_an_answer(value: Any) -> None:
    for name in ("flk", "tenants", "policy"):
        assert schema_faults(name, value) != []
