"""Read the files of the contract and resolve what refers to what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

SPEC = Path(__file__).resolve().parents[1]
BASE_URI = "https://fractal-lba.example/spec/"
"""Stands for the folder of the contract; nothing is fetched from it."""

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@cache
def load(name: str) -> Any:
    """Read one file of `spec/` by its path within it."""
    text = (SPEC / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def schema_names() -> list[str]:
    """List the schemas of the wire and of the server's files."""
    return sorted(p.name for p in (SPEC / "schemas").glob("*.json") if p.name != "vectors.json")


def wire_codes() -> dict[str, dict[str, Any]]:
    """Give the codes that a server can send, with their rows."""
    rows = load("errors.json")["codes"]
    return {row["code"]: row for row in rows if row["status"] is not None}


def resolve(node: Any, document: str) -> tuple[Any, str]:
    """Follow references; give the node and the file it stands in."""
    while isinstance(node, dict) and "$ref" in node:
        file, _, fragment = node["$ref"].partition("#")
        document = file or document
        node = load(document)
        for step in fragment.split("/")[1:]:
            node = node[step.replace("~1", "/").replace("~0", "~")]
    return node, document


def compile_schema(schema: Any) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema whose references are relative to `spec/`."""
    return jsonschema_rs.Draft202012Validator(
        schema,
        base_uri=BASE_URI,
        retriever=lambda uri: load(uri.removeprefix(BASE_URI)),
        validate_formats=True,
    )


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    """Compile one of `spec/schemas/`."""
    return compile_schema({"$ref": f"schemas/{name}"})


def operations(document: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and operation."""
    for path, item in load(document)["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def responses(document: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield path, method, status and resolved response."""
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            yield path, method, status, resolve(response, document)[0]


def media_types(document: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield where a body is described, its media type and its description."""
    for path, method, operation in operations(document):
        if "requestBody" in operation:
            for kind, media in operation["requestBody"]["content"].items():
                yield f"{method} {path} request", kind, media
    for path, method, status, response in responses(document):
        for kind, media in response.get("content", {}).items():
            yield f"{method} {path} {status}", kind, media
