"""Find the files of the contract: in the wheel that carries them, or in a checkout beside it.

This file owns where `spec/` is and that each schema is compiled once. What the schemas mean is
decided where they are used.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

from fractal_lba_server.core.record import RecordShape

_PACKAGE = Path(__file__).resolve().parent
_HOMES = (_PACKAGE / "spec", _PACKAGE.parents[2] / "spec")


def contract_file(*parts: str) -> Path:
    """Return the path of a file or folder of `spec/`: `contract_file("schemas", "pcs.json")`."""
    for home in _HOMES:
        path = home.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"spec/{'/'.join(parts)}: not in {' nor in '.join(map(str, _HOMES))}")


@cache
def schema(name: str) -> dict[str, Any]:
    """Read the schema `spec/schemas/<name>.json`; callers share the value and do not change it."""
    return _read_object("schemas", f"{name}.json")


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    """Compile the schema `spec/schemas/<name>.json`, with the schemas that it refers to."""
    return jsonschema_rs.Draft202012Validator(
        schema(name), base_uri=_BASE_URI, retriever=_retrieve, validate_formats=True
    )


@cache
def record_shape() -> RecordShape:
    """Compile `spec/schemas/pcs.json`; its `check` judges a parsed record."""
    return RecordShape(schema("pcs"))


@cache
def error_codes() -> dict[str, dict[str, Any]]:
    """Read `spec/errors.json` as a table by code."""
    return {row["code"]: row for row in _read_object("errors.json")["codes"]}


# Schemas refer to each other by file name; nothing is ever fetched under this name.
_BASE_URI = "https://fractal-lba.example/schemas/"


def _retrieve(uri: str) -> dict[str, Any]:
    return schema(uri.removeprefix(_BASE_URI).removesuffix(".json"))


def _read_object(*parts: str) -> dict[str, Any]:
    document = json.loads(contract_file(*parts).read_bytes())
    assert isinstance(document, dict)
    return document
