"""Judge messages by the table that is generated from `protocol.schema.json`, without a library.

It understands the keywords that the schema uses, and refuses others when the table is written, so
nothing in the schema goes unheard. `smoke` needs no JSON Schema library therefore.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

Rule = Mapping[str, Any]
Table = Mapping[str, Rule]

KEYWORDS: Final = frozenset({
    "$comment", "$ref", "additionalProperties", "anyOf", "const", "contains", "enum", "items",
    "maxLength", "maxProperties", "maximum", "minLength", "minProperties", "minimum", "pattern",
    "properties", "required", "type", "uniqueItems",
})  # fmt: skip

TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
}


class Violation(NamedTuple):
    """What a message does wrong: the place, the sentence of `PROTOCOL.md`, and what is wrong."""

    pointer: str
    sentence: str
    text: str

    def __str__(self) -> str:
        return f"{self.pointer or 'the message'}: {self.text} ({self.sentence})"


def violations(table: Table, name: str, message: Any) -> list[Violation]:
    """Name what is wrong with a message of this kind."""
    return list(found(table, table[name], message, "", table[name].get("$comment", "tp.2")))


def found(table: Table, rule: Rule, value: Any, pointer: str, sentence: str) -> Iterator[Violation]:
    """Yield the violations of one rule by one value."""
    sentence = rule.get("$comment", sentence)
    if "$ref" in rule:
        yield from found(table, table[rule["$ref"]], value, pointer, sentence)
        return
    if "anyOf" in rule and not any(
        not any(found(table, choice, value, pointer, sentence)) for choice in rule["anyOf"]
    ):
        yield from unfit(table, rule["anyOf"], value, pointer, sentence)
        return
    wanted = rule.get("type")
    if wanted is not None and not TYPES[wanted](value):
        text = f"expected {article(wanted)}, got {shown(value)}"
        yield Violation(pointer, sentence, text)
        return
    for text in plain(rule, value):
        yield Violation(pointer, sentence, text)
    if isinstance(value, list):
        yield from items(table, rule, value, pointer, sentence)
    if isinstance(value, dict):
        yield from members(table, rule, value, pointer, sentence)


def unfit(
    table: Table, choices: Sequence[Rule], value: Any, pointer: str, sentence: str
) -> Iterator[Violation]:
    """Explain why no choice fits: by the one that the value meant, if that can be told."""
    for choice in choices:
        rule = table[choice["$ref"]] if "$ref" in choice else choice
        if isinstance(value, dict | list) and TYPES[rule.get("type", "object")](value):
            deeper = [each for each in found(table, rule, value, pointer, sentence) if each.pointer]
            if deeper:
                yield from deeper
                return
    text = f"expected a string, an array or an object, got {shown(value)}"
    yield Violation(pointer, sentence, text)


def plain(rule: Rule, value: Any) -> Iterator[str]:
    """Yield what is wrong with a value, its parts aside."""
    if "const" in rule and value != rule["const"]:
        yield f"expected {rule['const']!r}, got {shown(value)}"
    if "enum" in rule and value not in rule["enum"]:
        yield f"expected one of {', '.join(rule['enum'])}, got {shown(value)}"
    if isinstance(value, str):
        if len(value) < rule.get("minLength", 0):
            yield "expected a text that is not empty"
        if len(value) > rule.get("maxLength", len(value)):
            yield f"expected at most {rule['maxLength']} characters, got {len(value)}"
        if "pattern" in rule and re.fullmatch(rule["pattern"], value, re.ASCII) is None:
            yield f"expected a text like {rule['pattern']}, got {shown(value)}"
    if type(value) is int:
        if value < rule.get("minimum", value):
            yield f"expected at least {rule['minimum']}, got {value}"
        if value > rule.get("maximum", value):
            yield f"expected at most {rule['maximum']}, got {value}"


def items(
    table: Table, rule: Rule, value: list[Any], pointer: str, sentence: str
) -> Iterator[Violation]:
    """Yield what is wrong with an array."""
    if rule.get("uniqueItems") and len({str(item) for item in value}) < len(value):
        yield Violation(pointer, sentence, "an item is there twice")
    if "contains" in rule and rule["contains"]["const"] not in value:
        yield Violation(pointer, sentence, f"{rule['contains']['const']!r} is missing")
    if "items" in rule:
        for index, item in enumerate(value):
            yield from found(table, rule["items"], item, f"{pointer}/{index}", sentence)


def members(
    table: Table, rule: Rule, value: dict[str, Any], pointer: str, sentence: str
) -> Iterator[Violation]:
    """Yield what is wrong with an object."""
    known = rule.get("properties", {})
    for name in rule.get("required", ()):
        if name not in value:
            yield Violation(pointer, sentence, f"the member {name!r} is missing")
    if not rule.get("minProperties", 0) <= len(value) <= rule.get("maxProperties", len(value)):
        wanted = rule["minProperties"]
        yield Violation(pointer, sentence, f"expected {wanted} members, got {sorted(value)}")
    for name, item in value.items():
        place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if name in known:
            yield from found(table, known[name], item, place, sentence)
        elif rule.get("additionalProperties") is False:
            yield Violation(place, sentence, "no such member is defined")
        elif "additionalProperties" in rule:
            yield from found(table, rule["additionalProperties"], item, place, sentence)


def article(kind: str) -> str:
    """Say `an object`, `a string`."""
    return f"{'an' if kind[0] in 'aio' else 'a'} {kind}"


def shown(value: Any) -> str:
    """Show a value as a reader knows it from JSON."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"{value!r:.100}"
