"""The table of messages is the schema: regenerated it is equal, and it judges as a library does."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from flk_conformance.message_table import RULES
from flk_conformance.messages import violations
from flk_conformance.write_table import TABLE, rule_of, written

CONFORMANCE = Path(__file__).resolve().parents[1]
SCHEMA = CONFORMANCE / "protocol.schema.json"
SCHEMA_TEXT = json.loads(SCHEMA.read_bytes())
MESSAGES: dict[str, list[Any]] = {
    "hello": [{"cmd": "hello", "protocol": 1, "vectors": "1.0.0"}],
    "run": [{"cmd": "run", "seq": "a/b-1#2", "op": "canon.number", "args": {"x": ["1", {"y": ""}]}}],
    "bye": [{"cmd": "bye"}],
    "greeting": [{
        "protocol": 1, "ops": ["verify", "canon.number"], "levels": ["core", "client"],
        "testee": {"name": "sdk-x", "version": "1", "language": "x", "runtime": "x", "os": "x"},
        "policies": {"verify.off_grid": "accept"}, "in_flight": 64,
    }],
    "answer": [
        {"seq": "a/b", "ok": {"x": ["1", {"y": []}]}},
        {"seq": "a/b", "err": {"code": "json_limit", "message": ""}},
        {"seq": "a/b", "skip": {"reason": "later", "issue": "https://issue.example/"}},
    ],
}  # fmt: skip
ODD = [None, True, 0, 1.5, "", "x", "a/b", [], ["core"], {}, {"code": "x"}, {"x": None}, 10**9]


def test_the_table_is_written_from_the_schema() -> None:
    assert TABLE.read_text(encoding="utf-8") == written(SCHEMA_TEXT), (
        "run flk_conformance.write_table"
    )


def test_a_keyword_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="minContains"):
        rule_of({"minContains": 2}, "x")


@pytest.mark.parametrize("kind", MESSAGES)
def test_right_messages_have_no_violation(kind: str) -> None:
    for message in MESSAGES[kind]:
        assert violations(RULES, kind, message) == []


def mutated(message: Any, chance: random.Random) -> Any:
    """Change one place of a message, now and then none."""
    made = copy.deepcopy(message)
    if chance.random() < 0.05:
        return made
    here, path = made, []
    while isinstance(here, dict | list) and here and chance.random() < 0.7:
        key = chance.choice(list(here) if isinstance(here, dict) else range(len(here)))
        path.append((here, key))
        here = here[key]
    if not path:
        return chance.choice(ODD)
    owner, key = path[-1]
    if chance.random() < 0.3:
        del owner[key]
    elif chance.random() < 0.2 and isinstance(owner, dict):
        owner["more"] = chance.choice(ODD)
    else:
        owner[key] = chance.choice(ODD)
    return made


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_table_judges_as_a_schema_library_does(kind: str) -> None:
    library = pytest.importorskip("jsonschema", reason="it judges the table")
    schema = {**SCHEMA_TEXT, "$ref": f"#/$defs/{kind}"}
    del schema["oneOf"]
    judge = library.Draft202012Validator(schema)
    chance = random.Random(kind)
    seen = set()
    for _ in range(1500):
        message = mutated(chance.choice(MESSAGES[kind]), chance)
        if isinstance(message, dict) and any(isinstance(v, float) for v in message.values()):
            continue  # 1.0 is an integer to a schema, and not to the protocol
        found = violations(RULES, kind, message)
        assert bool(found) is not judge.is_valid(message), (message, found)
        seen.add(bool(found))
    assert seen == {True, False}


def test_every_violation_cites_a_sentence() -> None:
    text = (CONFORMANCE / "PROTOCOL.md").read_text(encoding="utf-8")
    chance = random.Random(1)
    for kind in MESSAGES:
        for _ in range(300):
            for found in violations(RULES, kind, mutated(MESSAGES[kind][0], chance)):
                assert f"\n{found.sentence} " in text
                assert str(found).endswith(f"({found.sentence})")


def test_a_violation_deep_inside_is_named_by_its_place() -> None:
    message = {"seq": "a/b", "ok": {"a": ["1", {"b/c": None}]}}
    assert [str(each) for each in violations(RULES, "answer", message)] == [
        "/ok/a/1/b~1c: expected a string, an array or an object, got null (tp.6)"
    ]
