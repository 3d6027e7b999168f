"""Every sentence of the protocol has a testee that breaks it, and is told so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flk_conformance import testee
from mutants.harness import tiny

HERE = Path(__file__).parent
PROTOCOL = (HERE.parent / "PROTOCOL.md").read_text(encoding="utf-8")


def test_every_sentence_is_tested() -> None:
    stated = set(re.findall(r"^tp\.(\d+) ", PROTOCOL, re.MULTILINE))
    sources = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    assert stated == {str(n) for n in range(1, len(stated) + 1)}
    assert sorted(stated - set(re.findall(r"tp\.(\d+)", sources)), key=int) == []


# --- lines and answers -----------------------------------------------------------------------

WRONG_ANSWERS = {
    "a list is no message (tp.2)": ("say([])", "err-protocol", "tp.2"),
    "bytes that are no UTF-8 (tp.2)": (r"raw(b'{\"seq\":\"\xff\"}\n')", "err-protocol", "tp.2"),
    "a long line (tp.3)": ("say({**good(m), 'pad': 'x' * 1_100_000})", "err-protocol", "tp.3"),
    "an endless line (tp.3)": ("raw(b'x' * 1_200_000)", "err-protocol", "tp.3"),
    "a line of a debugger (tp.4)": ("say('here'); say(good(m))", "err-protocol", "tp.4"),
    "an empty line (tp.4)": ("say(''); say(good(m))", "err-protocol", "tp.4"),
    "a number (tp.6)": ("a = good(m); a['ok'] = {'text': 1}; say(a)", "err-protocol", "tp.6"),
    "a null inside (tp.6)": ("a = good(m); a['ok'] = {'t': [None]}; say(a)", "err-protocol", "tp.6"),
    "a text for ok (tp.6)": ("a = good(m); a['ok'] = 'x'; say(a)", "err-protocol", "tp.6"),
    "a member that is empty, not absent (tp.8)": ("a = good(m); a['ok']['more'] = ''; say(a)", "fail", "/more"),
    "two outcomes (tp.17)": ("say({**good(m), 'err': {'code': 'x', 'message': 'y'}})", "err-protocol", "tp.17"),
    "no outcome (tp.17)": ("say({'seq': m['seq']})", "err-protocol", "tp.17"),
    "another outcome (tp.17)": ("say({'seq': m['seq'], 'okay': {}})", "err-protocol", "tp.17"),
    "no seq (tp.17)": ("say({'ok': {}, 'id': m['seq']})", "err-protocol", "tp.17"),
    "a member too many in ok (tp.18)": ("a = good(m); a['ok']['more'] = 'x'; say(a)", "fail", "/more"),
    "err without a message (tp.19)": ("say({'seq': m['seq'], 'err': {'code': 'string_length'}})", "err-protocol", "tp.19"),
    "a code of nobody (tp.19)": ("say({'seq': m['seq'], 'err': {'code': 'oops', 'message': ''}})", "err-protocol", "tp.19"),
    "a text for err (tp.19)": ("say({'seq': m['seq'], 'err': 'no'})", "err-protocol", "tp.19"),
    "skip without a reason (tp.20)": ("say({'seq': m['seq'], 'skip': {}})", "err-protocol", "tp.20"),
    "skip with an empty reason (tp.20)": ("say({'seq': m['seq'], 'skip': {'reason': ''}})", "err-protocol", "tp.20"),
    "skip of what is required (tp.28)": ("say({'seq': m['seq'], 'skip': {'reason': 'later'}})", "skip", "tp.28"),
    "two answers in one breath (tp.21)": ("say(good(m)); say(good(m))", "err-protocol", "second time"),
    "the second answer later (tp.21)": ("say(good(m)); time.sleep(0.1); say(good(m))", "err-protocol", "second time"),
    "an answer to nobody (tp.22)": ("say({**good(m), 'seq': 'tiny/other'})", "err-protocol", "tp.22"),
    "silence (tp.24)": ("time.sleep(9)", "timeout", "no answer within 1 s"),
    "a crash (tp.25)": ("os._exit(7)", "crash", "status 7"),
    "a signal (tp.25)": ("os.kill(os.getpid(), signal.SIGSEGV)", "crash", "SIGSEGV"),
    "an end in the middle of a line (tp.25)": ("raw(b'{\"seq\":'); os._exit(0)", "crash", "middle of a line"),
    "a closed output (tp.25)": ("os.close(1); os._exit(0)", "crash", "status 0"),
    "an answer nested without end (tp.2)": ("raw(b'[' * 100_000 + b'\\n')", "err-protocol", "tp."),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "word"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_a_wrong_answer_is_found_and_explained(
    examined: tiny.Any, body: str, status: str, word: str
) -> None:
    only_one = f"def run(m):\n    if m['seq'] != 'tiny/c3': return say(good(m))\n    {body}\n"
    code, text = examined(only_one)
    assert code == 1, text
    assert f"7 pass, 1 {status} in" in text
    assert f"--- {status}: tiny/c3" in text
    assert word in text


def test_values_are_compared_byte_for_byte(examined: tiny.Any) -> None:
    """Hex is lower-case (tp.7), so an upper-case spelling is another answer."""
    cases = [tiny.case("hex", args={"text": "ab"}, expect={"text": "ab"})]
    upper = "def run(m):\n    a = good(m); a['ok']['text'] = 'AB'; say(a)\n"
    assert examined(upper, cases=cases)[0] == 1
    assert examined(cases=cases)[0] == 0


def test_answers_may_come_in_any_order(examined: tiny.Any) -> None:
    """tp.21: the order of answers is free, as long as each comes once."""
    held = (
        "held = []\ndef run(m):\n    held.append(m)\n    if len(held) == 4:\n"
        "        [say(good(held.pop())) for _ in range(4)]\n"
    )
    assert "8 pass" in examined(held)[1]


def test_an_answer_must_not_depend_on_what_came_before(examined: tiny.Any) -> None:
    """tp.23: a testee that forgets its manners after the tenth request is found by a repetition."""
    mood = "if asked > 8 and 'ok' in a: a['ok']['text'] += '?'"
    moody = f"def run(m):\n    a = good(m)\n    {mood}\n    say(a)\n"
    assert examined(moody)[0] == 0
    code, text = examined(moody, "--repeat", "2")
    assert (code, "10 pass, 6 fail" in text) == (1, True)


def test_a_testee_that_cannot_be_asked_beside_itself_is_blamed(examined: tiny.Any) -> None:
    """tp.23, tp.25: alone each case is answered, so the blame is the testee's and no case's."""
    body = (
        "def run(m):\n    once = __file__ + '.once'\n"
        "    if asked == 3 and not os.path.exists(once):\n        open(once, 'w'); os._exit(1)\n"
        "    say(good(m))\n"
    )
    code, text = examined(body)
    assert (code, "8 pass" in text, "1 crash" in text) == (1, False, True)
    assert "One at a" in text


# --- the process -----------------------------------------------------------------------------


def test_a_testee_has_a_process_group_of_its_own(examined: tiny.Any) -> None:
    """tp.1: so that what it started ends with it."""
    body = "def run(m):\n    say(good(m)) if os.getpgid(0) == os.getpid() else os._exit(1)\n"
    assert examined(body)[0] == 0


def test_standard_error_is_shown_under_the_failure(examined: tiny.Any) -> None:
    """tp.5: at most the last 64 KiB of what came while the case was open."""
    body = (
        "def run(m):\n    sys.stderr.write('x' * 100_000 + ' because of ' + m['seq'] + '\\n')\n"
        "    sys.stderr.flush()\n    os._exit(1) if m['seq'] == 'tiny/c2' else say(good(m))\n"
    )
    code, text = examined(body)
    assert (code, "because of tiny/c2" in text) == (1, True)
    assert len(text) < testee.STDERR_BYTES_MAX * 2


def test_the_harness_asks_as_the_protocol_says(examined: tiny.Any) -> None:
    """tp.9, tp.16: exact messages, `seq` with a number in a repeated run."""
    body = (
        "def hello(m):\n    assert m == {'cmd': 'hello', 'protocol': 1, 'vectors': '1.0.0'}\n    say(HELLO)\n"
        "def run(m):\n    assert list(m) == ['cmd', 'seq', 'op', 'args'], m\n"
        "    assert m['seq'].partition('#')[2] in ('', '2', '3'), m\n    say(good(m))\n"
    )
    assert "24 pass" in examined(body, "--repeat", "3")[1]


def test_no_more_requests_are_open_than_the_testee_takes(examined: tiny.Any) -> None:
    """tp.15: a testee that reads one at a time gets one at a time."""
    body = (
        "import select\nHELLO['in_flight'] = 1\n"
        "def run(m):\n    if select.select([0], [], [], 0.02)[0]: os._exit(9)\n    say(good(m))\n"
    )
    assert examined(body)[0] == 0


ENDS = {
    "a status after bye (tp.26)": ("def bye(): sys.exit(4)", "status 4"),
    "a line after bye (tp.26)": ("def bye():\n    say({'seq': 'tiny/c0', 'ok': {}}); sys.exit(0)", "after bye"),
    "half a line after bye (tp.2)": ("def bye():\n    raw(b'{'); sys.exit(0)", "no LF"),
    "no end after bye (tp.26)": ("def bye(): time.sleep(60)", "did not end"),
    "a crash after bye (tp.26)": ("def bye(): os.kill(os.getpid(), 11)", "SIGSEGV"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "word"), ENDS.values(), ids=ENDS)
def test_a_wrong_end_is_unexpected(
    examined: tiny.Any, monkeypatch: pytest.MonkeyPatch, body: str, word: str
) -> None:
    monkeypatch.setattr(testee, "END_S", 0.5)
    code, text = examined(f"{body}\n")
    assert code == 1
    assert word in text
    assert "testee/end" in text


# --- hello -----------------------------------------------------------------------------------

GREETINGS = {
    "no hello (tp.10)": ("def hello(m): os._exit(0)", "tp.10"),
    "words before the hello (tp.4)": ("def hello(m): say('building...')", "tp.4"),
    "two lines (tp.10)": ("def hello(m): raw(json.dumps(HELLO).encode() * 1 + b'\\n\\n')", "tp.10"),
    "a member is missing (tp.10)": ("del HELLO['ops']", "tp.10"),
    "a member too many (tp.10)": ("HELLO['more'] = 1", "tp.10"),
    "no common protocol (tp.11)": ("def hello(m): os._exit(3)", "tp.11"),
    "a protocol nobody knows (tp.11)": ("HELLO['protocol'] = 2", "tp.11"),
    "a name with a blank (tp.12)": ("HELLO['testee']['name'] = 'my testee'", "tp.12"),
    "no runtime (tp.12)": ("del HELLO['testee']['runtime']", "tp.12"),
    "an empty version (tp.12)": ("HELLO['testee']['version'] = ''", "tp.12"),
    "an operation twice (tp.13)": ("HELLO['ops'] *= 2", "tp.13"),
    "no core (tp.13)": ("HELLO['levels'] = []", "tp.13"),
    "a level of nobody (tp.13)": ("HELLO['levels'] += ['gold']", "tp.13"),
    "an axis of nobody (tp.14)": ("HELLO['policies'] = {'any': 'accept'}", "tp.14"),
    "a choice of nobody (tp.14)": ("HELLO['policies'] = {'hmac.short_key': 'maybe'}", "tp.14"),
    "none in flight (tp.15)": ("HELLO['in_flight'] = 0", "tp.15"),
    "too many in flight (tp.15)": ("HELLO['in_flight'] = 2000", "tp.15"),
    "a boolean in flight (tp.15)": ("HELLO['in_flight'] = True", "tp.15"),
    "a crash (tp.10)": ("def hello(m): sys.exit('no such library')", "no such library"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "word"), GREETINGS.values(), ids=GREETINGS)
def test_a_wrong_hello_ends_with_3(examined: tiny.Any, body: str, word: str) -> None:
    code, text = examined(f"{body}\n")
    assert code == 3, text
    assert word in text


def test_a_hello_that_does_not_come_ends_with_3(
    examined: tiny.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tp.10, with a bound that is no two minutes."""
    start = testee.Testee.start
    monkeypatch.setattr(testee.Testee, "start", lambda self, v: start(self, v, hello_s=0.2))
    code, text = examined("def hello(m): time.sleep(60)\n")
    assert (code, "tp.10" in text) == (3, True)


def test_an_axis_without_a_choice_fails_its_cases(examined: tiny.Any) -> None:
    """tp.14, tp.48: the declared choice makes an acceptable case assertable."""
    expect = {"accept": {"text": "x"}, "reject": {"code": "number_out_of_range"}}
    cases = [
        tiny.case("axis", flags=["Axis"], args={"text": "x"}, result="acceptable", expect=expect)
    ]
    assert examined(cases=cases)[0] == 0
    assert examined("HELLO['policies'] = {'verify.off_grid': 'reject'}\n", cases=cases)[0] == 1
    code, text = examined("HELLO['policies'] = {}\n", cases=cases)
    assert (code, "must declare verify.off_grid" in text) == (1, True)


def test_levels_that_are_not_declared_are_skipped_and_shown(tmp_path: Path) -> None:
    """tp.28: without the level a case is sent only if `ops` names its operation."""
    root = tiny.vectors(tmp_path, op="outbox.step")
    words = ["run", "--vectors", str(root), "--"]
    code, text = tiny.called([*words, *tiny.program(tmp_path)])
    assert (code, "level outbox is not declared" in text, "8 skip" in text) == (0, True, True)
    offers = tiny.program(tmp_path, "HELLO['ops'] += ['outbox.step']\n")
    code, text = tiny.called([*words, *offers])
    assert (code, "8 of outbox.step: unknown" in text) == (0, True)
    declares = tiny.program(tmp_path, "HELLO['levels'] += ['outbox']\n")
    assert tiny.called([*words, *declares])[0] == 1


def test_cases_of_servers_are_never_sent(tmp_path: Path) -> None:
    """tp.28: they are for `flk-conformance server`."""
    root = tiny.vectors(tmp_path, op="http.submit")
    code, text = tiny.called(["run", "--vectors", str(root), "--", *tiny.program(tmp_path)])
    assert (code, "are for servers" in text) == (2, True)
