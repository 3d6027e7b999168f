"""The fuzzer: cases that any machine rebuilds, judged by the oracle, kept where they fail."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from flk_conformance import cli, fuzz, fuzz_finds, grammar, oracle, respondent
from flk_conformance.draw import Draw, Question
from flk_conformance.respondent import Answer
from flk_conformance.vectors import LEVELS
from mutants import harness_checks
from mutants.subject import CONFORMANCE

SCHEMA = CONFORMANCE.parent / "spec" / "schemas" / "vectors.json"
PYTHON = str(CONFORMANCE / "testees" / "python" / "run")
MUTANT = [sys.executable, str(CONFORMANCE / "mutants" / "mutant.py"), "--as"]
SEED = b"a test"

PROGRAM = """
import json, math, os, struct, sys, time
HELLO = {"protocol": 1, "testee": {"name": "tiny", "version": "1", "language": "python",
         "runtime": "any", "os": "any"}, "ops": ["canon.number"], "levels": ["core"],
         "policies": {}, "in_flight": 8}
def say(message):
    print(json.dumps(message), flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if m["cmd"] == "hello":
        say(HELLO)
        continue
    if m["cmd"] == "bye":
        break
    if m["op"] != "canon.number":
        say({"seq": m["seq"], "skip": {"reason": "unknown"}})
        continue
    (x,) = struct.unpack(">d", bytes.fromhex(m["args"]["f64"]))
    p = x * 1e9
    n = math.floor(p) + (p - math.floor(p) >= 0.5)
    text = repr(n / 1e9).removesuffix(".0")
    @@
    say({"seq": m["seq"], "ok": {"text": text, "nano": str(n)}})
"""

Fuzzed = Callable[..., tuple[int, str, list[Path]]]


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[[str], list[str]]:
    """Write a testee for one operation, with a line of its own."""

    def write(line: str = "") -> list[str]:
        path = tmp_path / f"tiny-{hashlib.sha256(line.encode()).hexdigest()[:8]}.py"
        path.write_text(PROGRAM.replace("@@", line), encoding="utf-8")
        return [sys.executable, "-I", "-S", str(path)]

    return write


@pytest.fixture
def fuzzed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fuzzed:
    """Run the command; give exit code, output and what was kept."""

    def run(*words: str) -> tuple[int, str, list[Path]]:
        finds = tmp_path / "finds"
        cut = words.index("--")
        code = cli.main(["fuzz", "--finds", str(finds), *words[:cut], *words[cut:]])
        return code, capsys.readouterr().out, sorted(finds.glob("*.json"))

    return run


# --- cases ----------------------------------------------------------------------------------


def test_a_draw_is_the_hash_of_seed_index_and_counter() -> None:
    block = hashlib.sha256(SEED + (7).to_bytes(8, "big") + (0).to_bytes(4, "big")).digest()
    second = hashlib.sha256(SEED + (7).to_bytes(8, "big") + (1).to_bytes(4, "big")).digest()
    words = [int.from_bytes(block[at : at + 8], "big") for at in (24, 16, 8, 0)]
    words.append(int.from_bytes(second[24:], "big"))
    draw = Draw(SEED, 7)
    assert [draw.word() for _ in words] == words


def test_a_case_is_the_same_in_any_order() -> None:
    forward = [grammar.question(SEED, index) for index in range(200)]
    backward = [grammar.question(SEED, index) for index in reversed(range(200))]
    assert forward == backward[::-1]
    assert forward != [grammar.question(b"another", index) for index in range(200)]


def test_every_grammar_has_its_share() -> None:
    assert sum(share for share, _ in grammar.SHARES.values()) == 100
    seen = Counter(grammar.question(SEED, index).grammar for index in range(4000))
    for name, (share, _) in grammar.SHARES.items():
        assert 0.7 * share <= seen[name] / 40 <= 1.3 * share, name


@pytest.mark.parametrize("name", sorted(grammar.SHARES))
def test_the_oracle_can_judge_every_case(name: str) -> None:
    results = Counter[bool]()
    for index in range(400):
        question = grammar.question(SEED, index, name)
        assert question.op in LEVELS
        results[fuzz.is_error(oracle.expectation(question.op, question.args))] += 1
    assert results[False], "a grammar of errors alone reaches no text"


def test_seams_are_reached() -> None:
    """Each of these is a thing that only one grammar aims at."""
    asked = [grammar.question(SEED, index) for index in range(10_000)]
    doubles = {q.args["f64"] for q in asked if q.op == "canon.number"}
    texts = b"".join(bytes.fromhex(q.args["json"]) for q in asked if "json" in q.args)
    assert {"3e012e0be826d694", "8000000000000000", "7ff8000000000000"} <= doubles
    for piece in (b"\xef\xbb\xbf{", b"NaN", b'"epoch":-0', b"\\ud800", b"[" * 33, b"9" * 5000):
        assert piece in texts, piece


# --- judging --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "answer", "wrong"),
    [
        ({"text": "1"}, Answer("ok", {"text": "1"}), ""),
        ({"text": "1"}, Answer("ok", {"text": "2"}), "another ok"),
        ({"text": "1"}, Answer("err", "hex_invalid"), "hex_invalid instead of ok"),
        ({"code": "hex_invalid"}, Answer("err", "hex_invalid"), ""),
        ({"code": "hex_invalid"}, Answer("ok", {}), "ok instead of hex_invalid"),
        (
            {"code": "hex_invalid"},
            Answer("err", "member_type"),
            "member_type instead of hex_invalid",
        ),
        ({"text": "1"}, Answer("crash", "status 1"), "crash"),
        ({"text": "1"}, Answer("skip", "unknown"), ""),
    ],
)
def test_an_answer_is_held_against_the_oracle(
    expected: dict[str, str], answer: Answer, wrong: str
) -> None:
    assert fuzz.fault(expected, answer) == wrong


def test_of_many_cases_disagreements_errors_and_a_sample_are_judged() -> None:
    settings = fuzz.Settings("s", fuzz.CASES + 1, None, None, None, 1, 0, [[]], "1.0.0", Path())
    good, other, error = Answer("ok", {}), Answer("ok", {"x": "1"}), Answer("err", "hex_invalid")
    assert fuzz.needs_oracle(settings, 64, [good, good])
    assert not fuzz.needs_oracle(settings, 65, [good, good])
    assert fuzz.needs_oracle(settings, 65, [good, other])
    assert fuzz.needs_oracle(settings, 65, [error, error])
    few = settings._replace(cases=fuzz.CASES)
    assert fuzz.needs_oracle(few, 65, [good, good])


def test_the_majority_does_not_decide() -> None:
    assert harness_checks.holds()
    assert harness_checks.caught("Z07") == [harness_checks.CHECK]


# --- runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ties", "strings", "json", "material"])
def test_the_right_sdk_agrees_with_the_oracle(name: str, fuzzed: Fuzzed) -> None:
    code, out, kept = fuzzed("--grammar", name, "--cases", "400", "--", PYTHON)
    assert (code, kept) == (fuzz.OK, []), out
    assert "400 judged by the oracle" in out


def test_a_wrong_rule_is_found_shrunk_and_kept(
    fuzzed: Fuzzed, tiny: Callable[[str], list[str]]
) -> None:
    wrong = tiny('text += "0" * (x > 0.5)')
    code, out, kept = fuzzed("--grammar", "uniform", "--cases", "60", "--jobs", "1", "--", *wrong)
    assert code == fuzz.UNEXPECTED
    content = json.loads(kept[0].read_bytes())
    (case,) = content["cases"]
    assert case["args"]["f64"] in ("3ff0000000000000", "3fe8000000000000")
    assert oracle.expectation(content["op"], case["args"]) == case["expect"]
    assert f"kept in {kept[0]}" in out
    again, _, same = fuzzed("--grammar", "uniform", "--cases", "60", "--jobs", "1", "--", *wrong)
    assert (again, same) == (fuzz.UNEXPECTED, kept), "the same find has the same name"


def test_a_find_has_the_form_of_a_vector_file(fuzzed: Fuzzed) -> None:
    code, out, kept = fuzzed("--grammar", "json", "--cases", "80", "--", *MUTANT, "P01")
    assert code == fuzz.UNEXPECTED, out
    schema = json.loads(SCHEMA.read_bytes())
    for path in kept:
        content = json.loads(path.read_bytes())
        jsonschema.validate(content, schema)
        assert path.stem == content["cases"][0]["id"].removeprefix("regression/")
        assert "seed 0, index" in content["flags"]["Fuzz"]["text"]
        assert content["cases"][0]["expect"] == {"code": "member_duplicate"}


def test_the_printed_line_repeats_a_find(fuzzed: Fuzzed, tiny: Callable[[str], list[str]]) -> None:
    wrong = tiny('text += "0" * (x > 0.5)')
    _, out, _ = fuzzed("--grammar", "uniform", "--cases", "20", "--jobs", "1", "--", *wrong)
    line = next(line for line in out.splitlines() if "  repeat    flk-conformance " in line)
    words = line.partition("flk-conformance ")[2].split(" ")
    assert cli.main(words) == fuzz.UNEXPECTED
    right = words[: words.index("--")]
    assert cli.main([*right, "--", *tiny("")]) == fuzz.OK


def test_a_crash_is_found_and_the_run_goes_on(
    fuzzed: Fuzzed, tiny: Callable[[str], list[str]]
) -> None:
    wrong = tiny("if 0.5 < x < 0.6: os._exit(3)")
    code, out, kept = fuzzed("--grammar", "uniform", "--cases", "200", "--jobs", "1", "--", *wrong)
    assert code == fuzz.UNEXPECTED
    assert "200 cases" in out
    assert "tiny, canon.number: crash" in out
    assert 1 <= len(kept) <= fuzz.SHRUNK_MAX
    for path in kept:
        (case,) = json.loads(path.read_bytes())["cases"]
        assert case["args"]["f64"].endswith("00000000"), "few significant bits are left"


def test_silence_is_found(
    fuzzed: Fuzzed, tiny: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(respondent, "ANSWER_S", 0.3)
    monkeypatch.setattr(respondent, "ALONE_S", 0.3)
    wrong = tiny("if 0.5 < x < 0.6: time.sleep(60)")
    code, out, _ = fuzzed("--grammar", "uniform", "--cases", "60", "--jobs", "1", "--", *wrong)
    assert code == fuzz.UNEXPECTED
    assert "tiny, canon.number: timeout" in out


def test_one_answer_for_another_case_is_no_answer(
    fuzzed: Fuzzed, tiny: Callable[[str], list[str]]
) -> None:
    wrong = tiny('if 0.5 < x < 0.6: m["seq"] = "fuzz/999999"')
    code, out, _ = fuzzed("--grammar", "uniform", "--cases", "60", "--jobs", "1", "--", *wrong)
    assert code == fuzz.UNEXPECTED
    assert "tiny, canon.number: err-protocol" in out


def test_two_processes_find_what_one_finds(
    fuzzed: Fuzzed, tiny: Callable[[str], list[str]]
) -> None:
    wrong = tiny('text += "0" * (x > 0.999)')
    found = []
    for jobs in ("1", "2"):
        words = ["--grammar", "uniform", "--cases", "1500", "--jobs", jobs]
        code, out, _ = fuzzed(*words, "--", *wrong)
        assert code == fuzz.UNEXPECTED
        found.append([line for line in out.splitlines() if " times: " in line])
    assert found[0] == found[1] != []


def test_a_skip_decides_nothing_and_is_counted(
    fuzzed: Fuzzed, tiny: Callable[[str], list[str]]
) -> None:
    code, out, _ = fuzzed("--grammar", "strings", "--cases", "50", "--", *tiny(""))
    assert code == fuzz.OK
    assert "skipped: " in out


def test_time_ends_a_run(fuzzed: Fuzzed, tiny: Callable[[str], list[str]]) -> None:
    code, out, _ = fuzzed("--grammar", "uniform", "--time", "0.2s", "--jobs", "1", "--", *tiny(""))
    assert code == fuzz.OK
    assert "no disagreement" in out


@pytest.mark.parametrize(
    "words", [["--cases", "0", "--", "x"], ["--time", "soon", "--", "x"], ["--cases", "5", "--"]]
)
def test_wrong_options_are_refused(words: list[str]) -> None:
    assert cli.main(["fuzz", *words]) == 2


def test_a_testee_that_does_not_start_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fuzz", "--cases", "5", "--jobs", "2", "--", "/nowhere/run"]) == 3
    assert "/nowhere/run" in capsys.readouterr().err


def test_finds_are_named_by_what_they_ask() -> None:
    one = Question("canon.number", {"member": "r", "f64": "0" * 16})
    other = one._replace(args={"f64": "0" * 16, "member": "r"}, grammar="ties")
    assert fuzz_finds.slug(one) == fuzz_finds.slug(other)
    assert fuzz_finds.slug(one) != fuzz_finds.slug(one._replace(op="canon.string"))
