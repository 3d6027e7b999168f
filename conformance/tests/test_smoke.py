"""`smoke` looks at every message, member by member, and explains what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from flk_conformance import smoke, testee
from flk_conformance.places import golden_dir
from flk_conformance.vectors import load

RIGHT = """
def run(m):
    if m["seq"] in KNOWN: say({"seq": m["seq"], **KNOWN[m["seq"]]})
    else: say({"seq": m["seq"], "skip": {"reason": "unknown"}})
"""


@pytest.fixture(scope="module")
def known() -> str:
    """Give a body that knows the five answers, by heart."""
    answers: dict[str, Any] = {}
    for case in load(golden_dir()).cases:
        if case.id in smoke.SIX:
            code = {"code": case.expect.get("code"), "message": ""}
            answers[case.id] = {"err": code} if case.result == "invalid" else {"ok": case.expect}
    assert len(answers) == 5
    return f"KNOWN = {answers!r}\n{RIGHT}"


def test_a_right_testee_passes(smoked: Any, known: str) -> None:
    code, text = smoked(known)
    assert (code, "all is as it must be" in text) == (0, True)
    assert text.count("    right") == 5


TORN = """
class Torn:
    def __iter__(self):
        while data := os.read(0, 65536):
            yield from data.splitlines()
sys.stdin = type("In", (), {"buffer": Torn()})
"""
FAULTS = {
    "a wrong answer": ("KNOWN['number/tie-1-1024']['ok']['nano'] = '976562'", "differs in /nano", "canonical 3.2"),
    "an answer twice": ("def run(m, right=run):\n    right(m); right(m)", "second line", "tp.21"),
    "an unknown operation answered": ("KNOWN['smoke/unknown-operation'] = {'ok': {}}", "with skip", "tp.20"),
    "an unknown operation kills": ("def run(m, right=run):\n    right(m) if m['seq'] in KNOWN else os._exit(1)", "status 1", "tp.25"),
    "no flush": ("def run(m): pass", "is the output flushed?", "tp.24"),
    "a member twice": ("def run(m):\n    say('{\"seq\":\"%s\",\"ok\":{\"a\":\"\",\"a\":\"\"}}' % m['seq'])", "'a' is there twice", "tp.2"),
    "CR LF": ("def say(x): raw(json.dumps(x).encode() + b'\\r\\n')", "CR LF", "tp.2"),
    "a number in ok": ("KNOWN['hmac/drawn-0']['ok'] = {'sig': 1}", "/ok/sig", "tp.6"),
    "a skip of core": ("del KNOWN['record/base']", "canon.record is required", "tp.28"),
    "no skip reason": ("def run(m): say({'seq': m['seq'], 'skip': {}})", "'reason' is missing", "tp.20"),
    "another seq": ("def run(m): say({'seq': 'a/b', 'ok': {}})", "never asked", "tp.22"),
    "a line that is none": ("def run(m): say('hi')", "is no JSON", "tp.4"),
    "lines must come whole": (TORN, "without an answer", "tp.21"),
    "the end of input is overlooked": ("def bye(): time.sleep(60)", "did not end", "tp.26"),
    "SIGTERM is overlooked": ("signal.signal(signal.SIGTERM, lambda *_: None)", "did not end after SIGTERM", "tp.27"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "word", "sentence"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_explained(
    smoked: Any, known: str, monkeypatch: pytest.MonkeyPatch, body: str, word: str, sentence: str
) -> None:
    monkeypatch.setattr(testee, "END_S", 0.5)
    monkeypatch.setattr(smoke, "ANSWER_S", 0.5)
    code, text = smoked(f"{known}\n{body}\n")
    assert code == 1, text
    flat = " ".join(text.split())
    assert word in flat
    assert sentence in flat


def test_a_greeting_that_leaves_an_axis_open_is_noted(smoked: Any, known: str) -> None:
    """tp.14."""
    code, text = smoked(f"{known}\nHELLO['policies'] = {{}}\n")
    assert (code, text.count("no choice for")) == (0, 4)


def test_a_testee_that_takes_one_at_a_time_gets_one(smoked: Any, known: str) -> None:
    """tp.15."""
    assert smoked(f"{known}\nHELLO['in_flight'] = 1\n")[0] == 0


def test_the_harness_sends_right_messages(
    monkeypatch: pytest.MonkeyPatch, smoked: Any, known: str
) -> None:
    """Both directions are judged: a harness that asks wrongly is told so too."""
    monkeypatch.setattr(smoke, "UNKNOWN_OP", "Not An Operation")
    code, text = smoked(known)
    assert (code, "the harness sent a wrong message" in text) == (1, True)
