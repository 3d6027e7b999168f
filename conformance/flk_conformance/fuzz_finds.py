"""Keep what the fuzzer found: one vector file per find, in the form of the published vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from .draw import Question
from .oracle import RUNS
from .places import root_of
from .respondent import Answer

DIGITS: Final = 12
"""Hex digits of the hash that tell finds apart."""

SHOWN_CHARACTERS: Final = 600

Members = dict[str, Any]


class Find(NamedTuple):
    """One wrong answer, after shrinking."""

    number: int
    seed: str
    grammar: str
    testee: str
    fault: str
    question: Question
    expected: Members
    answer: Answer
    repeat: str


def slug(question: Question) -> str:
    """Name a find by what it asks, so that the same find has the same name."""
    text = json.dumps([question.op, question.args], sort_keys=True)
    operation = question.op.replace(".", "-").replace("_", "-")
    return f"{operation}-{hashlib.sha256(text.encode()).hexdigest()[:DIGITS]}"


def vector_file(find: Find, version: str) -> Members:
    """Write a find as a file of vectors with one case."""
    module, sentence, _ = RUNS[find.question.op]
    name = f"golden/oracle/suites/{module}.py"
    source = (root_of(name) / name).read_bytes()
    where = f"seed {find.seed}, index {find.number}, grammar {find.grammar}"
    about = f"{find.testee}: {find.fault}; {where}."
    error = len(find.expected) == 1 and "code" in find.expected
    case = {
        "id": f"regression/{slug(find.question)}",
        "flags": ["Fuzz"],
        "args": find.question.args,
        "result": "invalid" if error else "valid",
        "expect": find.expected,
        "since": version,
    }
    return {
        "$schema": "../../../spec/schemas/vectors.json",
        "op": find.question.op,
        "version": version,
        "source": {"name": name, "sha256": hashlib.sha256(source).hexdigest()},
        "flags": {
            "Fuzz": {
                "kind": "correctness",
                "text": f"Found by fuzzing. {about}",
                "spec": [sentence],
            }
        },
        "cases": [case],
    }


def keep(folder: Path, version: str, finds: Iterable[Find]) -> list[Path]:
    """Write each find that is not there yet; give the new files."""
    kept: list[Path] = []
    for find in finds:
        path = folder / f"{slug(find.question)}.json"
        if path.exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(file_text(vector_file(find, version)), encoding="ascii")
        kept.append(path)
    return kept


def file_text(content: Members) -> str:
    """Write a vector file: one line per member, one case per line."""
    lines = [
        f"{json.dumps(name)}:{compact(content[name])},"
        for name in ("$schema", "op", "version", "source")
    ]
    flags = ",\n".join(f"{json.dumps(k)}:{compact(v)}" for k, v in content["flags"].items())
    cases = ",\n".join(map(compact, content["cases"]))
    return (
        "{\n" + "\n".join(lines) + '\n"flags":{\n' + flags + '\n},\n"cases":[\n' + cases + "\n]}\n"
    )


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def text(find: Find) -> str:
    """Show a find to a person."""
    args = json.dumps(find.question.args)
    got = f"{find.answer.kind} {json.dumps(find.answer.value)}"
    return (
        f"{find.testee}: {find.fault} ({find.question.op}, {find.grammar})\n"
        f"  args      {args:.{SHOWN_CHARACTERS}}\n"
        f"  expected  {json.dumps(find.expected):.{SHOWN_CHARACTERS}}\n"
        f"  actual    {got:.{SHOWN_CHARACTERS}}\n"
        f"  repeat    {find.repeat}"
    )
