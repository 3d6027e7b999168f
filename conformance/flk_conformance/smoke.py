"""Command `smoke`: six cases, every message judged by the schema and explained. Begin here.

It starts the testee three times: once to ask the cases one by one, once to ask them all at once,
and once to end it by a signal. What `run` judges for speed by its result alone is looked at here
member by member.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from . import PROTOCOL, judge, places, terminal, vectors
from .message_table import RULES
from .messages import violations
from .run import NOT_STARTED, OK, UNEXPECTED, UsageError
from .sentences import quoted
from .session import ANSWER_S, seq_of, why_misplaced
from .testee import EndedError, Greeting, LineError, StartError, Testee
from .vectors import Case, Suite, Vectors, tail_of

SIX: Final = (
    "number/tie-1-1024",
    "number/budget-nan",
    "string/astral-1f600",
    "record/base",
    "hmac/drawn-0",
)
"""Five published cases; the sixth is an operation that nobody knows."""

UNKNOWN: Final = "smoke/unknown-operation"
UNKNOWN_OP: Final = "smoke.unknown"
SEPARATE: Final = 7
"""The requests that go out at once are torn apart here, in the middle of the first name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the testee's command follows `--`."""
    parser.add_argument("--vectors", metavar="DIR", help="another folder with MANIFEST.json")


def run(options: argparse.Namespace) -> int:
    """Look at a testee closely; 1 if anything is not as it must be."""
    if not options.testee:
        raise UsageError("smoke: no testee; write its command after --")
    loaded = vectors.load(places.golden_dir(options.vectors))
    look = Look(options.testee, loaded)
    try:
        look.one_by_one()
        look.all_at_once()
        look.by_signal()
    except StartError as error:
        sys.stderr.write(f"flk-conformance: {error}\n")
        return NOT_STARTED
    wrong = look.wrong
    sys.stdout.write(f"\n{wrong} things are wrong\n" if wrong else "\nall is as it must be\n")
    return UNEXPECTED if wrong else OK


def cases_of(loaded: Vectors) -> list[Case]:
    """Give the six cases."""
    known = {case.id: case for case in loaded.cases}
    suite = Suite("smoke", UNKNOWN_OP, "other", {})
    unknown = Case(
        UNKNOWN, suite, (), "an operation that nobody knows is answered with skip (tp.20)",
        {"any": "value"}, "valid", {}, tail_of(UNKNOWN_OP, {"any": "value"}),
    )  # fmt: skip
    missing = [id for id in SIX if id not in known]
    if missing:
        raise UsageError(f"these vectors have no case {missing[0]}, which smoke needs")
    return [*(known[id] for id in SIX), unknown]


class Look:
    """One look at a testee: what was said, and how much of it is wrong."""

    def __init__(self, command: Sequence[str], loaded: Vectors) -> None:
        self.command = command
        self.loaded = loaded
        self.cases = cases_of(loaded)
        self.wrong = 0

    def say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")

    def fault(self, text: str, *citations: str) -> None:
        """Report one thing that is wrong, with the sentences that it breaks."""
        self.wrong += 1
        self.say("\n".join(terminal.wrapped(f"WRONG: {text}")))
        for citation in citations:
            self.say("\n".join(terminal.wrapped(quoted(citation))))

    # --- one by one -----------------------------------------------------------------------------

    def one_by_one(self) -> None:
        """Ask each case alone, and say what is wrong with each message."""
        testee = Testee(self.command)
        greeting = testee.start(self.loaded.version)
        self.own({"cmd": "hello", "protocol": PROTOCOL, "vectors": self.loaded.version}, "hello")
        self.greeted(greeting)
        try:
            for case in self.cases:
                line = case.request(case.id)
                self.own(json.loads(line), "run")
                self.say(f"\n-> {line.decode().rstrip():.300}")
                testee.write(line)
                self.exchange(testee, case, greeting)
        except (EndedError, LineError, Silent) as error:
            self.fault(f"{error}{self.said(testee)}", "tp.24", "tp.25")
            testee.kill()
            return
        self.own({"cmd": "bye"}, "bye")
        if ended := testee.bye():
            self.fault(ended, "tp.26")

    def exchange(self, testee: Testee, case: Case, greeting: Greeting) -> None:
        """Read until the case is answered; a second answer to an earlier one may come between."""
        earlier = {each.id for each in self.cases[: self.cases.index(case)]}
        while True:
            first, *more = self.reply(testee)
            for extra in more:
                self.say(f"<- {extra:.300}")
                self.fault("a second line for one request", "tp.21")
            if seq_of(first) not in earlier:
                self.answered(case, first, greeting)
                return
            self.say(f"<- {first:.300}")
            self.fault(f"a second line for one request, {seq_of(first)}", "tp.21")

    def own(self, message: Any, kind: str) -> None:
        """Judge what the harness itself sends."""
        for violation in violations(RULES, kind, message):
            self.fault(f"the harness sent a wrong message: {violation}")

    def greeted(self, greeting: Greeting) -> None:
        """Say who answered, and what is missing from its greeting."""
        facts = greeting.identity
        who = f"{facts['name']} {facts['version']}, {facts['language']}, {facts['runtime']}"
        self.say(f"{who}, {facts['os']}: {len(greeting.policies.ops)} operations,")
        self.say(f"levels {', '.join(sorted(greeting.policies.levels))}")
        axes = RULES["greeting"]["properties"]["policies"]["properties"]
        for axis in sorted(set(axes) - set(greeting.policies.choices)):
            self.say(f"    note: no choice for {axis}; a case that rests on it will fail (tp.14)")

    def reply(self, testee: Testee) -> list[str]:
        """Give the lines that come next, at least one; raise Silent if none comes."""
        deadline = time.monotonic() + ANSWER_S
        while (left_s := deadline - time.monotonic()) > 0:
            if lines := testee.lines(left_s):
                return lines
        raise Silent(f"no answer within {ANSWER_S:g} s; is the output flushed?")

    def lines(self, testee: Testee, count: int) -> Iterator[str]:
        """Yield lines until so many have come."""
        while count > 0:
            lines = self.reply(testee)
            count -= len(lines)
            yield from lines

    def said(self, testee: Testee) -> str:
        """Give what the testee wrote to standard error."""
        text = testee.stderr_since(0).decode("utf-8", "replace").strip()
        return f"; standard error: {text:.1000}" if text else ""

    def answered(self, case: Case, line: str, greeting: Greeting) -> None:
        """Judge one answer: its form, then what it says."""
        self.say(f"<- {line:.300}")
        if seq_of(line) != case.id:
            self.fault(*why_misplaced(line, seq_of(line)))
            return
        answer = json.loads(line)
        for name in twice(line):
            self.fault(f"the member {name!r} is there twice", "tp.2")
        if line.endswith("\r"):
            self.fault("the line ends with CR LF, not LF", "tp.2")
        for violation in violations(RULES, "answer", answer):
            self.fault(str(violation), violation.sentence)
        self.judged(case, answer, greeting)

    def judged(self, case: Case, answer: Any, greeting: Greeting) -> None:
        """Judge what an answer says."""
        if case.op == UNKNOWN_OP:
            if "skip" not in answer:
                self.fault("an operation that is not known must be answered with skip", "tp.20")
            else:
                self.say("    skip, as it must be")
            return
        verdict = judge.verdict(case, answer, greeting.policies)
        if verdict.status == judge.PASS:
            self.say("    right")
            return
        spec = [each for name in case.flags for each in case.suite.flags[name]["spec"]]
        self.fault(f"{verdict.status}: {verdict.message}", *filter(None, [verdict.sentence]), *spec)
        if verdict.status == judge.FAIL:
            for text in terminal.difference(verdict.expected, verdict.actual):
                self.say(f"      {text}")

    # --- all at once ----------------------------------------------------------------------------

    def all_at_once(self) -> None:
        """Ask the same in one breath, torn apart, and end by the end of input."""
        testee = Testee(self.command)
        greeting = testee.start(self.loaded.version)
        self.say(f"\n-> the same {len(self.cases)} at once, then the end of input")
        rounds = self.cases if greeting.in_flight >= len(self.cases) else self.cases[:1]
        data = b"".join(case.request(case.id) for case in rounds)
        open_cases = {case.id: case for case in rounds}
        testee.write(data[:SEPARATE])
        time.sleep(0.05)  # long enough that the testee reads a part of a line
        testee.write(data[SEPARATE:])
        try:
            for line in self.lines(testee, len(rounds)):
                seq = seq_of(line)
                if seq is None or open_cases.pop(seq, None) is None:
                    known = any(case.id == seq for case in rounds)
                    answered = (f"{seq} was answered twice", "tp.21")
                    self.fault(*(answered if known else why_misplaced(line, seq)))
        except (EndedError, LineError, Silent) as error:
            left = ", ".join(open_cases)
            self.fault(f"{error}; without an answer: {left}{self.said(testee)}", "tp.21", "tp.15")
            testee.kill()
            return
        if ended := testee.bye(by_end_of_input=True):
            self.fault(ended.replace("after bye", "after the end of its input"), "tp.26")
        else:
            self.say("    each answered once, and ended with status 0")

    def by_signal(self) -> None:
        """End the testee by SIGTERM."""
        testee = Testee(self.command)
        testee.start(self.loaded.version)
        self.say("\n-> SIGTERM")
        if testee.terminate() is None:
            self.fault("it did not end after SIGTERM", "tp.27")
        else:
            self.say("    ended")
        testee.kill()


class Silent(Exception):  # noqa: N818 - an observation
    """Say that no answer came."""


def twice(line: str) -> list[str]:
    """Name members that stand twice in one object of a line."""
    found: list[str] = []

    def look(pairs: Sequence[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        found.extend(sorted({name for name in names if names.count(name) > 1}))

    json.loads(line, object_pairs_hook=look)
    return found
