"""The two descriptions of the interface are valid, complete, and agree with their examples."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import validate
from openapi_spec_validator.readers import read_from_filename

from spec.tests.contract_files import (
    SPEC,
    compile_schema,
    load,
    media_types,
    operations,
    resolve,
    responses,
    wire_codes,
)

PUBLIC, ADMIN = "openapi.yaml", "admin.yaml"
DOCUMENTS = (PUBLIC, ADMIN)

PUBLIC_OPERATIONS = {
    ("/v1/pcs/submit", "post"),
    ("/v1/pcs/batch", "post"),
    ("/v1/pcs/{pcs_id}", "get"),
    ("/v1/tenants/self", "get"),
    ("/v1/region/status", "get"),
    ("/health", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
}

SUBMIT_STATUSES = {
    "200", "202", "400", "401", "403", "408", "409", "413", "415", "422", "429", "431", "500",
    "503", "default",
}  # fmt: skip


def bodies_of(kind: str, media: dict[str, Any], document: str) -> list[tuple[str, Any, Any]]:
    """List name, schema and value of every example; of every line where the body has lines."""
    found = []
    for name, example in media["examples"].items():
        value = resolve(example, document)[0]["value"]
        schema = media["schema"]
        if schema.get("$ref", "").startswith("#"):
            schema = {"$ref": document + schema["$ref"]}
        if kind == "application/x-ndjson":
            lines = [json.loads(line) for line in value.splitlines()]
            assert len(lines) > 1, "an example of lines has several"
            found += [(f"{name} {i}", media["x-item-schema"], v) for i, v in enumerate(lines)]
        else:
            found.append((name, schema, value))
    return found


EXAMPLES = [
    pytest.param(schema, value, id=f"{document} {where} {name}")
    for document in DOCUMENTS
    for where, kind, media in media_types(document)
    for name, schema, value in bodies_of(kind, media, document)
]

# The one example that is wrong on purpose: the line of a batch that spoils no other.
BAD_LINE = ("comment",)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_is_valid_openapi(document: str) -> None:
    spec, base_uri = read_from_filename(str(SPEC / document))
    validate(spec, base_uri=base_uri)
    assert load(document)["openapi"] == "3.1.0"


@pytest.mark.parametrize(("schema", "value"), EXAMPLES)
def test_example_of_a_body_validates(schema: Any, value: Any) -> None:
    judge = compile_schema(schema)
    if isinstance(value, dict) and any(name in value for name in BAD_LINE):
        assert not judge.is_valid(value)
        value = {name: v for name, v in value.items() if name not in BAD_LINE}
    judge.validate(value)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_body_has_an_example(document: str) -> None:
    for where, _, media in media_types(document):
        assert media["examples"], where


@pytest.mark.parametrize("document", DOCUMENTS)
def test_examples_of_headers_and_parameters_validate(document: str) -> None:
    components = load(document)["components"]
    described = {**components.get("headers", {}), **components.get("parameters", {})}
    described |= {
        f"{path} {name}": header
        for path, _, _, response in responses(document)
        for name, header in response.get("headers", {}).items()
        if "$ref" not in header
    }
    for name, item in described.items():
        judge = compile_schema(item["schema"])
        assert judge.is_valid(item["example"]), name


def test_public_operations_are_those_of_the_product() -> None:
    assert {(path, method) for path, method, _ in operations(PUBLIC)} == PUBLIC_OPERATIONS


def test_administration_is_not_public() -> None:
    admin = {path for path, _, _ in operations(ADMIN)}
    orders = {
        f"/admin/region/{name}" for name in ("status", "drain", "promote", "fence", "failback")
    }
    assert admin == {"/metrics", "/admin/drain", "/admin/reload"} | orders
    assert not admin & {path for path, _, _ in operations(PUBLIC)}


def test_operation_ids_are_unique() -> None:
    ids = [op["operationId"] for doc in DOCUMENTS for _, _, op in operations(doc)]
    assert sorted(ids) == sorted(set(ids))


def test_reads_of_a_tenant_need_a_token_and_submissions_do_not() -> None:
    general = load(PUBLIC)["security"]
    for path, method, operation in operations(PUBLIC):
        needed = operation.get("security", general)
        reads = path.startswith("/v1/") and method == "get"
        assert needed == ([{"readToken": []}] if reads else [{}]), path


def test_submit_answers_every_status_of_the_table() -> None:
    submit = load(PUBLIC)["paths"]["/v1/pcs/submit"]["post"]
    assert set(submit["responses"]) == SUBMIT_STATUSES
    assert {str(row["status"]) for row in wire_codes().values()} - SUBMIT_STATUSES == {
        "404", "405", "421", "423", "425", "502", "504",
    }  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_answer_is_a_redirect(document: str) -> None:
    assert not [status for _, _, status, _ in responses(document) if status.startswith("3")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_errors_are_problems_of_their_status(document: str) -> None:
    for path, method, status, response in responses(document):
        if status.startswith("2"):
            continue
        for kind, media in response.get("content", {}).items():
            assert kind == "application/problem+json", (path, method, status)
            for name, _, value in bodies_of(kind, media, document):
                assert name == value["code"]
                assert status in ("default", str(value["status"])), (path, status, name)


def test_every_code_of_the_wire_has_an_example_where_it_occurs() -> None:
    shown = {
        name
        for document in DOCUMENTS
        for _, kind, media in media_types(document)
        if kind == "application/problem+json"
        for name in media["examples"]
    }
    # The head was never parsed as a request, so its refusal has no body.
    assert set(wire_codes()) - shown == {"header_too_large"}


def test_examples_of_problems_say_what_the_code_list_says() -> None:
    problems = load("examples.yaml")["problems"]
    assert set(problems) == set(wire_codes())
    for code, row in wire_codes().items():
        value = problems[code]["value"]
        assert value["code"] == code
        assert value["type"].rpartition("/")[2] == code
        assert (value["status"], value["title"]) == (row["status"], row["sentence"])
        assert ("retry_after_ms" in value) >= (row["status"] in (429, 503)), code


def test_waiting_statuses_carry_retry_after() -> None:
    for path, _, status, response in responses(PUBLIC):
        if status in ("429", "503"):
            header, _ = resolve(response["headers"]["Retry-After"], PUBLIC)
            assert header["required"], path


def test_refused_credentials_carry_a_challenge() -> None:
    for path, _, status, response in responses(PUBLIC):
        if status == "401":
            assert "WWW-Authenticate" in response["headers"], path


def test_every_parsed_request_is_answered_with_its_id() -> None:
    for path, _, status, response in responses(PUBLIC):
        if status != "default" and "content" in response:
            assert "X-Request-Id" in response["headers"], (path, status)


def test_recorded_answers_carry_the_facts_of_the_exchange() -> None:
    facts = {"Idempotency-Replayed", "PCS-Position", "PCS-Level", "PCS-Replicated", "X-Request-Id"}
    for path, method, status, response in responses(PUBLIC):
        if path in ("/v1/pcs/submit", "/v1/pcs/{pcs_id}") and status.startswith("2"):
            assert set(response["headers"]) == facts, (path, method, status)


def test_pages_are_told_which_headers_they_can_read() -> None:
    text = load(PUBLIC)["info"]["description"]
    carried = {
        name for _, _, _, response in responses(PUBLIC) for name in response.get("headers", {})
    }
    for name in carried - {"WWW-Authenticate", "Allow"}:
        assert f"`{name}`" in text, name
