"""Say in an operator's words what a schema refuses in a configuration document.

The words come from the schema itself: its descriptions, its names and its bounds. No value of the
document is quoted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from .contract import schema, validator
from .core.faults import Fault, pointer_of

_TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}
_SCHEMA_TYPE_NAMES: dict[str, str] = {
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_BOUNDS: dict[str, str] = {
    "minimum": "expected at least {}",
    "maximum": "expected at most {}",
    "exclusiveMinimum": "expected more than {}",
    "exclusiveMaximum": "expected less than {}",
    "minLength": "expected at least {} characters",
    "maxLength": "expected at most {} characters",
    "minItems": "expected at least {} entries",
    "maxItems": "expected at most {} entries",
    "minProperties": "expected at least {} keys",
    "maxProperties": "expected at most {} keys",
}


def schema_faults(name: str, value: object) -> list[Fault]:
    """Return what the schema `name` refuses in a value, in the order of the schema."""
    errors = list(validator(name).iter_errors(value))
    firm = [pointer_of(error.instance_path) for error in errors if not _is_conditional(error)]
    return [
        fault
        for error in errors
        if not (_is_conditional(error) and _is_in_doubt(error, firm))
        for fault in _faults_of(schema(name), error)
    ]


def _is_conditional(error: jsonschema_rs.ValidationError) -> bool:
    return "then" in error.schema_path or "else" in error.schema_path


def _is_in_doubt(error: jsonschema_rs.ValidationError, firm: list[str]) -> bool:
    """Tell whether the mapping has other faults, one of which may have chosen the condition."""
    path = error.instance_path
    place = pointer_of(path[:-1] if error.kind.name == "falseSchema" else path)
    return any(pointer == place or pointer.startswith(f"{place}/") for pointer in firm)


def _faults_of(document: dict[str, Any], error: jsonschema_rs.ValidationError) -> Iterator[Fault]:
    pointer = pointer_of(error.instance_path)
    facts = error.kind.as_dict()
    match error.kind.name:
        case "additionalProperties":
            known = sorted(_parent_of(document, error).get("properties", {}))
            for key in facts["unexpected"]:
                yield Fault(f"{pointer}{pointer_of([key])}", "unknown key", _suggestion(key, known))
        case "required":
            missing = facts["property"]
            yield Fault(pointer, f'the key "{missing}" is missing', f'add "{missing}"')
        case "falseSchema":
            yield Fault(pointer, "does not belong here", "remove it")
        case "uniqueItems":
            yield Fault(pointer, "an entry appears twice", "keep one of the two")
        case "anyOf" | "oneOf":
            yield from _branch_faults(document, facts["context"])
        case _:
            yield Fault(pointer, *_value_problem(document, error, facts))


def _branch_faults(document: dict[str, Any], branches: list[list[Any]]) -> Iterator[Fault]:
    """Follow the branch that has the right type; where none has, name the types."""
    wrong_types = [errors for errors in branches if errors[0].kind.name == "type"]
    for errors in branches:
        if errors not in wrong_types:
            for error in errors:
                yield from _faults_of(document, error)
            return
    types = [name for errors in wrong_types for name in errors[0].kind.as_dict()["types"]]
    yield Fault(pointer_of(branches[0][0].instance_path), *_type_problem(types, branches[0][0]))


def _value_problem(
    document: dict[str, Any], error: jsonschema_rs.ValidationError, facts: dict[str, Any]
) -> tuple[str, str]:
    kind = error.kind.name
    if kind == "type":
        return _type_problem(facts["types"], error)
    if kind == "enum":
        return f"expected one of {', '.join(map(str, facts['options']))}", "choose one of them"
    if kind == "const":
        expected = _parent_of(document, error)["const"]
        return f"expected {expected}", f"write {expected}"
    if kind == "pattern":
        description = _parent_of(document, error).get("description", "change the value")
        return f"expected text of the form {facts['pattern']}", description.rstrip(".")
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(facts["limit"]), "change the value"
    return f'refused by the rule "{kind}" of the schema', "change the value"


def _type_problem(types: list[str], error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    expected = " or ".join(_SCHEMA_TYPE_NAMES[name] for name in types)
    found = type(error.instance)
    fix = "put it in quotes" if "string" in types and found in (bool, int, float) else "change it"
    return f"expected {expected}, got {_TYPE_NAMES[found]}", fix


def _suggestion(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(known)}"


def _parent_of(document: dict[str, Any], error: jsonschema_rs.ValidationError) -> dict[str, Any]:
    """Return the part of the schema that holds the keyword which refused."""
    node: Any = document
    for step in error.schema_path[:-1]:
        node = node[step]
    assert isinstance(node, dict)
    return node
