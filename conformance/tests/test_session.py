"""How open cases are kept: how many, in which order, and what becomes of them in trouble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flk_conformance import session, testee
from flk_conformance.judge import PASSED, Policies, Verdict
from flk_conformance.session import Item, Limits, Session, Trace
from flk_conformance.testee import EndedError, Greeting
from flk_conformance.vectors import Vectors, load
from mutants.harness import tiny

WHO = Greeting({"name": "fake"}, Policies(frozenset({"core"}), frozenset(), {}), 4, {})


class FakeTestee(testee.Testee):
    """Answer from a list of open requests, in the order that a test wants."""

    def __init__(self, pick: int = 0) -> None:
        super().__init__(["fake"])
        self.pick = pick
        self.open: list[str] = []
        self.widest = 0
        self.starts = 0

    def start(self, vectors: str, *, hello_s: float = 0) -> Greeting:
        self.starts += 1
        self.open.clear()
        return WHO

    def write(self, data: bytes) -> None:
        self.open += [json.loads(line)["seq"] for line in data.splitlines()]
        self.widest = max(self.widest, len(self.open))

    def lines(self, timeout_s: float) -> list[str]:
        assert timeout_s > 0
        seq = self.open.pop(self.pick)
        return [json.dumps({"seq": seq, "ok": {"text": seq.removeprefix("tiny/")}})]

    def stderr_since(self, mark: int) -> bytes:
        return b"" if mark else b"said"

    def kill(self) -> None:
        """Nothing runs."""


class Kept:
    """Keep what a session tells."""

    def __init__(self, asked: testee.Testee, **limits: float) -> None:
        self.passed: list[str] = []
        self.told: list[tuple[str, Verdict]] = []
        self.traces: list[Trace] = []
        self.session = Session(
            asked, "1.0.0", passed=self.took, told=self.hear, limits=Limits(**limits)
        )  # type: ignore[arg-type] # in_flight is whole

    def took(self, items: list[Item]) -> None:
        self.passed += [item.seq for item in items]

    def hear(self, item: Item, verdict: Verdict, trace: Trace) -> None:
        self.told.append((item.seq, verdict))
        self.traces.append(trace)

    def run(self, items: list[Item]) -> None:
        self.session.start()
        self.session.run(items)


@pytest.fixture
def loaded(tmp_path: Path) -> Vectors:
    return load(tiny.vectors(tmp_path, [tiny.case(f"c{n:02}") for n in range(40)]))


def items_of(loaded: Vectors) -> list[Item]:
    return [Item(case.id, case) for case in loaded.cases]


@pytest.mark.parametrize("pick", [0, -1], ids=["first in first out", "last in first out"])
@pytest.mark.parametrize(("in_flight", "widest"), [(None, 4), (1, 1), (9, 9)])
def test_open_requests_keep_to_their_bound(
    loaded: Vectors, pick: int, in_flight: int | None, widest: int
) -> None:
    kept = Kept(fake := FakeTestee(pick), in_flight=in_flight)
    kept.run(items_of(loaded))
    assert sorted(kept.passed) == [case.id for case in loaded.cases]
    assert kept.told == []
    assert fake.widest == widest


def test_a_verdict_on_one_case_reaches_its_caller_alone(loaded: Vectors) -> None:
    kept = Kept(FakeTestee())
    kept.session.start()
    assert kept.session.verdict_of(items_of(loaded)[0]) is PASSED
    assert (kept.passed, kept.told) == ([], [])


def test_who_ends_at_every_case_is_given_up(
    loaded: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "RESTARTS_MAX", 5)

    class Mortal(FakeTestee):
        def lines(self, timeout_s: float) -> list[str]:
            raise EndedError("it ended with status 1")

    kept = Kept(fake := Mortal())
    kept.run(items_of(loaded))
    assert {seq for seq, _ in kept.told} == {case.id for case in loaded.cases}
    assert {verdict.status for _, verdict in kept.told} == {"crash"}
    assert "more than 5 times" in kept.told[-1][1].message
    assert fake.starts == 1 + 5


def test_a_stopped_session_asks_no_more(loaded: Vectors) -> None:
    kept = Kept(fake := FakeTestee())

    def stop_at_ten(items: list[Item]) -> None:
        kept.took(items)
        if len(kept.passed) == 10:
            kept.session.stop()

    kept.session.passed = stop_at_ten
    kept.run(items_of(loaded))
    assert len(kept.passed) == 10
    assert fake.starts == 1


def test_only_the_culprit_of_many_open_cases_is_blamed(examined: tiny.Any) -> None:
    cases = [tiny.case(f"c{n:02}") for n in range(30)]
    body = "def run(m):\n    os._exit(3) if m['seq'] == 'tiny/c17' else say(good(m))\n"
    code, text = examined(body, cases=cases)
    assert (code, "29 pass, 1 crash" in text) == (1, True)
    assert "--- crash: tiny/c17" in text


def test_a_case_that_is_never_answered_does_not_hold_up_the_others(examined: tiny.Any) -> None:
    cases = [tiny.case(f"c{n:02}") for n in range(30)]
    body = "def run(m):\n    if m['seq'] != 'tiny/c05': say(good(m))\n"
    code, text = examined(body, cases=cases)
    assert (code, "29 pass, 1 timeout" in text) == (1, True)


def test_a_testee_that_writes_before_it_reads_does_not_lock_up(examined: tiny.Any) -> None:
    """Both pipes are full at once: requests and answers of 200 kB, eight open."""
    cases = [tiny.case(f"c{n}", args={"text": "x" * 200_000}, expect={"text": "x" * 200_000})
             for n in range(12)]  # fmt: skip
    code, text = examined(cases=cases)
    assert (code, "12 pass" in text) == (0, True)


def test_lock_step_and_jobs_give_the_same(examined: tiny.Any) -> None:
    for options in (["--lock-step"], ["--jobs", "3"], ["--jobs", "2", "--repeat", "3"]):
        code, text = examined("", *options)
        assert code == 0, text
        assert f"{24 if '--repeat' in options else 8} pass" in text


def test_a_job_that_cannot_start_ends_with_3(examined: tiny.Any, tmp_path: Path) -> None:
    body = (
        f"def hello(m):\n    once = {str(tmp_path / 'once')!r}\n"
        "    if os.path.exists(once): os._exit(1)\n    open(once, 'w'); say(HELLO)\n"
    )
    code, text = examined(body, "--jobs", "2")
    assert (code, "tp.10" in text) == (3, True)


def test_a_testee_that_cannot_start_again_leaves_the_rest_unasked(examined: tiny.Any) -> None:
    body = (
        "def hello(m):\n    once = __file__ + '.once'\n    if os.path.exists(once): sys.exit('gone')\n"
        "    open(once, 'w'); say(HELLO)\n"
        "def run(m): os._exit(1)\n"
    )
    code, text = examined(body)
    assert (code, "could not be started again" in text, "8 crash" in text) == (1, True, True)
