"""Verdicts on answers, and what is shown of them."""

from __future__ import annotations

from typing import Any

import pytest

from flk_conformance import judge, terminal
from flk_conformance.judge import Policies, at, differing
from flk_conformance.sentences import all_sentences, quoted
from flk_conformance.vectors import Suite, case_of

FLAGS = {"Back": {"spec": ["canonical 3.2(4)"], "text": "t"}, "Axis": {"axis": "verify.off_grid"}}
ACCEPTING = Policies(frozenset({"core"}), frozenset(), {"verify.off_grid": "accept"})
REJECTING = Policies(frozenset({"core"}), frozenset(), {"verify.off_grid": "reject"})
SILENT = Policies(frozenset({"core"}), frozenset(), {})


def verdict(
    result: str, expect: Any, policies: Policies = ACCEPTING, **answer: Any
) -> judge.Verdict:
    flags = ["Axis"] if result == "acceptable" else ["Back"]
    line = {"id": "a/b", "flags": flags, "args": {}, "result": result, "expect": expect}
    case = case_of(Suite("a/b", "verify", "core", FLAGS), line)
    return judge.verdict(case, {"seq": "a/b", **answer}, policies)


def error(code: str) -> dict[str, str]:
    return {"code": code, "message": "any words"}


def test_a_valid_case_wants_the_whole_answer() -> None:
    assert verdict("valid", {"a": ["1"]}, ok={"a": ["1"]}).status == "pass"
    assert verdict("valid", {"a": ["1"]}, ok={"a": ["1", "2"]}).status == "fail"
    assert verdict("valid", {"a": "1"}, ok={}).status == "fail"
    assert verdict("valid", {}, ok={}).status == "pass"
    assert verdict("valid", {}, ok={"a": "1"}).status == "fail"
    assert verdict("valid", {}, err=error("json_limit")).status == "fail"


def test_an_invalid_case_wants_the_code_and_not_some_error() -> None:
    expect = {"code": "json_limit"}
    assert verdict("invalid", expect, err=error("json_limit")).status == "pass"
    assert verdict("invalid", expect, err=error("json_malformed")).status == "fail"
    assert verdict("invalid", expect, ok={}).status == "fail"
    assert verdict("invalid", expect, ok={"code": "json_limit"}).status == "fail"


def test_an_acceptable_case_wants_what_was_declared() -> None:
    """tp.48."""
    expect = {"accept": {"a": "1"}, "reject": {"code": "number_out_of_range"}}
    refusal = error("number_out_of_range")
    for policies, good, bad in (
        (ACCEPTING, {"ok": {"a": "1"}}, {"err": refusal}),
        (REJECTING, {"err": refusal}, {"ok": {"a": "1"}}),
    ):
        assert verdict("acceptable", expect, policies, **good).status == "pass"
        assert verdict("acceptable", expect, policies, **bad).status == "fail"
    for answer in ({"ok": {"a": "1"}}, {"err": refusal}):
        found = verdict("acceptable", expect, SILENT, **answer)
        assert (found.status, found.sentence) == ("fail", "tp.14")


@pytest.mark.parametrize(
    ("expected", "actual", "places"),
    [
        ({"a": "1"}, {"a": "2"}, ["/a"]),
        ({"a": {"b": ["x", "y"]}}, {"a": {"b": ["x", "z"]}}, ["/a/b/1"]),
        ({"a": ["x"]}, {"a": ["x", "y"]}, ["/a"]),
        ({"a": "1"}, {"a": "1", "b": "2"}, ["/b"]),
        ({"a": "1"}, {}, ["/a"]),
        ({"a": "1"}, "x", ["the whole answer"]),
        ({"a": "1"}, {"a": "1"}, []),
    ],
)
def test_places_that_differ_are_named(expected: Any, actual: Any, places: list[str]) -> None:
    found = [] if expected == actual else differing(expected, actual)
    assert found == places


def test_a_place_leads_to_its_value() -> None:
    assert at({"a": [{"b": "x"}]}, "/a/0/b") == "x"
    assert at({"a": []}, "/a/3") is None
    assert at("x", "/a") is None
    assert at({"a": "1"}, "the whole answer") == {"a": "1"}


def test_bytes_are_shown_as_a_dump_around_the_first_difference() -> None:
    one = bytes(range(100)).hex()
    other = one[:120] + "ff" + one[122:]
    shown = "\n".join(terminal.difference({"x": one}, {"x": other}))
    assert "first difference at byte 60; 100 bytes expected, 100 got" in shown
    assert "- 000030  30 31 32" in shown
    assert "+ 000030  30 31 32" in shown
    assert "<=>?|" in shown
    longer = "\n".join(terminal.difference({"x": one}, {"x": one + "00"}))
    assert "first difference at byte 100" in longer
    texts = "\n".join(terminal.difference({"x": "0.5", "y": "1"}, {"x": "0.50"}))
    assert "/x: expected 0.5, got 0.50" in texts
    assert "/y: expected 1, got nothing" in texts


def test_a_failure_names_everything(examined: Any) -> None:
    """Id, comment, flag text, sentence, difference, traffic and the line that repeats it."""
    wrong = "if m['seq'] == 'tiny/c1': a['ok']['text'] = 'zz'"
    body = f"def run(m):\n    a = good(m)\n    {wrong}\n    say(a)\n"
    code, text = examined(body)
    assert code == 1
    for word in (
        "--- fail: tiny/c1 (canon.string)",
        "Back: The argument comes back.",
        "canonical 3.2(4): n MUST be the integer nearest p",
        "/text: expected c1, got zz",
        '-> {"cmd":"run","seq":"tiny/c1"',
        '<- {"seq": "tiny/c1"',
        "repeat: flk-conformance run --vectors ",
        " --only tiny/c1 -- ",
    ):
        assert word in text


def test_sentences_of_the_specification_are_found() -> None:
    found = all_sentences()
    assert len(found) > 200
    assert "ties away from zero" in found["canonical 3.2(4)"].text
    assert found["retry 26"].text.startswith("Of several values")
    assert "crash" in found["tp.25"].text
    assert quoted("nowhere 1") == "nowhere 1"
