"""Policies: a version is a name for numbers, and a kept policy reads back as the same numbers."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.canonical import jcs
from fractal_lba.estimate import DEFAULT_PARAMETERS, Parameters
from fractal_lba_server.contract import schema, validator
from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.core.policy import DAY_MS, Policy, PolicyBook, ttl_faults

PROPERTIES: dict[str, Any] = schema("policy")["$defs"]["parameters"]["properties"]

EFFECTIVE = jsonschema_rs.Draft202012Validator(
    {"$ref": "#/$defs/effective", "$defs": schema("policy")["$defs"]}
)

NUMBERS = {
    name: st.integers(0, int(rule["maximum"])) | st.floats(0, rule["maximum"])
    for name, rule in PROPERTIES.items()
    if "maximum" in rule
}
TTL = st.just("forever") | st.integers(2, 99_999).map(lambda days: f"{days}d")
PARAMETERS = st.fixed_dictionaries({}, optional={**NUMBERS, "dedup_ttl": TTL})
DOCUMENTS = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "default": PARAMETERS,
        "tenants": st.dictionaries(st.sampled_from(["acme", "b.2", "c-3"]), PARAMETERS),
    },
)


def test_defaults_are_those_of_the_schema() -> None:
    written = Policy().to_document()
    assert written == {name: rule["default"] for name, rule in PROPERTIES.items()}
    assert Policy().parameters == DEFAULT_PARAMETERS
    assert {item.name for item in fields(Parameters)} | {"dedup_ttl"} == set(PROPERTIES)


def test_version_is_the_hash_of_the_whole_policy() -> None:
    policy = Policy(Parameters(tol_coh=0.01), 14)
    whole = {**{name: rule["default"] for name, rule in PROPERTIES.items()}, "tol_coh": 0.01}
    whole["dedup_ttl"] = "14d"
    assert policy.version == hashlib.sha256(jcs(whole)).hexdigest()[:16]


def test_default_version_never_changes_by_accident() -> None:
    assert Policy().version == "3fcb272de67aa246"


@given(parameters=PARAMETERS)
def test_version_names_the_numbers_and_not_their_spelling(parameters: dict[str, Any]) -> None:
    defaults = {name: rule["default"] for name, rule in PROPERTIES.items()}
    short = Policy.from_parameters(parameters)
    whole = {**defaults, **parameters}
    reordered = {
        name: float(value) if name in NUMBERS else value
        for name, value in sorted(whole.items(), reverse=True)
    }
    assert Policy.from_parameters(reordered) == short
    assert Policy.from_parameters(whole).version == short.version


@given(one=PARAMETERS, other=PARAMETERS)
def test_different_numbers_are_different_versions(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = Policy.from_parameters(one), Policy.from_parameters(other)
    assert (first.version == second.version) is (first.to_document() == second.to_document())


@given(document=DOCUMENTS)
def test_every_file_that_the_schema_takes_becomes_a_book(document: dict[str, Any]) -> None:
    validator("policy").validate(document)
    book = PolicyBook.from_document(document)
    base = document.get("default", {})
    assert book.for_tenant("nobody") == Policy.from_parameters(base)
    for tenant, overrides in document.get("tenants", {}).items():
        assert book.for_tenant(tenant) == Policy.from_parameters({**base, **overrides})
    versions = [policy.version for policy in book.policies()]
    assert versions == sorted(set(versions))
    assert {book.default.version} | {p.version for p in book.overridden.values()} == set(versions)


@given(parameters=PARAMETERS)
def test_whole_policy_is_in_its_format_and_reads_back(parameters: dict[str, Any]) -> None:
    policy = Policy.from_parameters(parameters)
    assert EFFECTIVE.is_valid(policy.to_document())
    assert set(schema("policy")["$defs"]["effective"]["required"]) == set(policy.to_document())
    assert Policy.from_bytes(policy.to_bytes()) == policy


def test_override_leaves_the_other_parameters_of_the_default() -> None:
    book = PolicyBook.from_document(
        {
            "version": 1,
            "default": {"tol_D": 0.2, "tol_budget": 0.02},
            "tenants": {"acme": {"tol_D": 0.1, "dedup_ttl": "14d"}},
        }
    )
    acme = book.for_tenant("acme")
    assert (acme.parameters.tol_D, acme.parameters.tol_budget) == (0.1, 0.02)
    assert acme.dedup_ttl_ms == 14 * DAY_MS
    assert book.default.dedup_ttl_ms is None


def test_numbers_of_comparison_are_whole_billionths() -> None:
    policy = Policy(Parameters(tol_D=0.15, tol_budget=0.01, tol_coh=0.05))
    assert (policy.tol_D_nano, policy.tol_budget_nano) == (150_000_000, 10_000_000)
    assert policy.coh_max_nano == 1_050_000_000


KEPT = Policy().to_bytes()


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        (b"", ""),
        (b"[]", ""),
        (KEPT[:-1], ""),
        (KEPT + b"\n", ""),
        (KEPT.replace(b'"tol_D":0.15', b'"tol_D":0.150'), ""),
        (KEPT.replace(b'"tol_D":0.15,', b""), "/tol_D"),
        (KEPT.replace(b'{"budget', b'{"a":1,"budget', 1), "/a"),
        (KEPT.replace(b'"tol_D":0.15', b'"tol_D":"0.15"'), ""),
        (KEPT.replace(b'"tol_D":0.15', b'"tol_D":[]'), ""),
        (KEPT.replace(b'"sticky_D_max":1.5', b'"sticky_D_max":"1.5"'), ""),
        (KEPT.replace(b'"tol_D":0.15', b'"tol_D":1' + b"0" * 400), ""),
        (KEPT.replace(b'"tol_D":0.15', b'"tol_D":1e999'), ""),
        (KEPT.replace(b'"forever"', b'"often"'), ""),
        (KEPT.replace(b'"forever"', b'"014d"'), ""),
        (KEPT.replace(b'"forever"', b"14"), ""),
    ],
)
def test_kept_policy_that_was_changed_is_refused(data: bytes, pointer: str) -> None:
    with pytest.raises(DocumentError) as caught:
        Policy.from_bytes(data)
    assert caught.value.code == "config_invalid"
    assert caught.value.pointer == pointer


def test_time_limit_needs_signed_times() -> None:
    book = PolicyBook.from_document(
        {"version": 1, "tenants": {"old": {"dedup_ttl": "14d"}, "new": {"dedup_ttl": "14d"}}}
    )
    faults = ttl_faults(book, {"old": 1, "new": 2, "other": 1})
    assert [fault.pointer for fault in faults] == ["/tenants/old/dedup_ttl"]
    assert "min_version: 2" in str(faults[0])
