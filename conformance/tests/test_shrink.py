"""Shrinking: the smallest case that still fails, within its time."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import pytest

from flk_conformance.draw import Question
from flk_conformance.shrink import shrink


def number(x: float) -> Question:
    return Question("canon.number", {"member": "r", "f64": struct.pack(">d", x).hex()})


def value_of(question: Question) -> float:
    (x,) = struct.unpack(">d", bytes.fromhex(question.args["f64"]))
    return float(x)


def document(question: Question) -> Any:
    try:
        return json.loads(bytes.fromhex(question.args["json"]))
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("least", "x", "smallest"), [(0.0, 0.7123, 0.0), (0.5, 0.7123, 0.5), (0.7, 0.7123, 0.703125)]
)
def test_a_double_keeps_the_fewest_significant_bits(
    least: float, x: float, smallest: float
) -> None:
    def fails(question: Question) -> bool:
        return "f64" in question.args and "member" in question.args and value_of(question) >= least

    assert value_of(shrink(number(x), fails)) == smallest


def test_a_json_text_loses_the_members_that_do_not_matter() -> None:
    text = json.dumps({"a": 1, "r": 0.123456789, "b": [1, {"c": "x"}], "shard_id": "long text"})
    question = Question(
        "canon.record", {"entry": "json", "json": text.encode().hex(), "sig_v": "1"}
    )

    def fails(candidate: Question) -> bool:
        found = document(candidate) if "json" in candidate.args else None
        return isinstance(found, dict) and "r" in found

    small = shrink(question, fails)
    assert document(small) == {"r": 0}
    assert small.args.keys() == {"entry", "json", "sig_v"}


def test_a_text_with_a_repeated_name_keeps_the_repetition() -> None:
    text = b'{"x":1,"r":0.5,"y":"\\ud83d\\ude00","r":0.5}'
    question = Question("jcs.document", {"json": text.hex()})

    def fails(candidate: Question) -> bool:
        return bytes.fromhex(candidate.args.get("json", "")).count(b'"r"') == 2

    assert bytes.fromhex(shrink(question, fails).args["json"]) == b'"r""r"'


def test_a_text_loses_code_units() -> None:
    question = Question("canon.string", {"utf16": "abc\u2028def".encode("utf-16-be").hex()})

    def fails(candidate: Question) -> bool:
        return "2028" in candidate.args.get("utf16", "")

    assert shrink(question, fails).args["utf16"] == "2028"


def test_lists_and_members_are_dropped_and_integers_come_closer_to_zero() -> None:
    args = {"values": ["1", "x", "7000", "3"], "now_ms": "1770000000000", "date": "yesterday"}

    def fails(candidate: Question) -> bool:
        values = candidate.args.get("values", [])
        return any(value.isdigit() and int(value) >= 10 for value in values)

    small = shrink(Question("retry.after", args), fails)
    (value,) = small.args["values"]
    assert 10 <= int(value) < 20
    assert small.args.keys() == {"values"}


def test_what_decides_what_is_asked_stays() -> None:
    args = {"request": "submit", "status": "503", "headers": [["A", "1"]], "body": "6162"}
    small = shrink(Question("http.response", args), lambda _: True)
    assert small.args == {"request": "submit", "status": "503"}


def test_without_time_a_case_stays_as_it_is() -> None:
    assert shrink(number(0.7123), lambda _: True, budget_s=0) == number(0.7123)


def test_a_slow_testee_does_not_stretch_the_time() -> None:
    asked: list[Question] = []

    def fails(candidate: Question) -> bool:
        asked.append(candidate)
        time.sleep(0.02)
        return False

    shrink(number(0.7123), fails, budget_s=0.05)
    assert 1 <= len(asked) <= 3


def test_the_result_always_fails_as_the_first_case_did() -> None:
    for x in (1.0, 0.3, 5e-10, 1 / 3):

        def fails(question: Question, x: float = x) -> bool:
            bits = struct.pack(">d", x).hex()
            return question.args.get("f64", "")[:6] == bits[:6]

        assert fails(shrink(number(x), fails))
