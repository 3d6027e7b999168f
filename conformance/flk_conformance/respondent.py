"""Ask a testee generated cases, many at a time, and find the one that ended or silenced it.

Unlike a session this knows no expectation: it gives answers, and what came instead of one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Container, Sequence
from typing import Any, Final, NamedTuple

from .draw import Question
from .session import ANSWER_S
from .testee import EndedError, Greeting, LineError, StartError, Testee
from .vectors import tail_of

Members = dict[str, Any]

RESTARTS_MAX: Final = 200
"""A testee that has to be started more often than this is not asked on."""

ALONE_S: Final = 2.0
"""How long an answer may take while a case is being shrunk."""


class Answer(NamedTuple):
    """What a testee gave: `ok` with members, `err` with a code, or what came instead."""

    kind: str
    value: Any


class Respondent:
    """One testee and its answers."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._testee = Testee(command)
        self._restarts = 0
        self.greeting: Greeting | None = None

    @property
    def name(self) -> str:
        assert self.greeting is not None
        return self.greeting.name

    def start(self, vectors: str) -> None:
        """Start the testee. Raises StartError."""
        self._vectors = vectors
        self.greeting = self._testee.start(vectors)

    def end(self) -> None:
        """End the testee."""
        self._testee.kill()

    def strict(self) -> bool:
        """Say whether it chose to refuse numbers that are not the signed ones."""
        assert self.greeting is not None
        return self.greeting.policies.choices.get("verify.off_grid") == "reject"

    # --- asking ---------------------------------------------------------------------------------

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Ask all, in any order; give the answers in the order of the questions."""
        lines = [line_of(number, each) for number, each in enumerate(questions)]
        found: dict[int, Answer] = {}
        left = self._pipelined(lines, found)
        if left:
            self._restart()
            for number in left:
                found[number] = self._alone(number, lines[number], ANSWER_S)
        return [found[number] for number in range(len(lines))]

    def answer(self, question: Question) -> Answer:
        """Ask one question."""
        return self._alone(0, line_of(0, question), ALONE_S)

    def _pipelined(self, lines: Sequence[bytes], found: dict[int, Answer]) -> list[int]:
        """Ask all; give the numbers that were left when something went wrong."""
        assert self.greeting is not None
        width, sent = self.greeting.in_flight, 0
        heard_at = time.monotonic()
        try:
            while len(found) < len(lines):
                is_open = sent - len(found)
                if sent < len(lines) and 2 * is_open <= width:
                    count = min(width - is_open, len(lines) - sent)
                    self._testee.write(b"".join(lines[sent : sent + count]))
                    sent += count
                said = self._testee.lines(heard_at + ANSWER_S - time.monotonic())
                for line in said:
                    number, answer = read(line, range(sent), found)
                    found[number] = answer
                if said:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at >= ANSWER_S:
                    break
        except (EndedError, LineError):
            pass
        return [number for number in range(len(lines)) if number not in found]

    def _alone(self, number: int, line: bytes, answer_s: float) -> Answer:
        deadline = time.monotonic() + answer_s
        try:
            self._testee.write(line)
            while (left_s := deadline - time.monotonic()) > 0:
                for said in self._testee.lines(left_s):
                    return read(said, range(number, number + 1))[1]
            problem = Answer("timeout", f"no answer within {answer_s:g} s")
        except EndedError as ended:
            problem = Answer("crash", str(ended))
        except LineError as error:
            problem = Answer("err-protocol", str(error))
        self._restart()
        return problem

    def _restart(self) -> None:
        self._testee.kill()
        self._restarts += 1
        if self._restarts > RESTARTS_MAX:
            raise StartError(f"{self.command[0]} had to be started more than {RESTARTS_MAX} times")
        self._testee = Testee(self.command)
        self.greeting = self._testee.start(self._vectors)


def line_of(number: int, question: Question) -> bytes:
    """Write a request."""
    return b'{"cmd":"run","seq":"fuzz/%d%b' % (number, tail_of(question.op, question.args))


def read(line: str, asked: range, answered: Container[int] = ()) -> tuple[int, Answer]:
    """Read an answer and its number. Raises LineError for what is none, or was not asked."""
    try:
        message = json.loads(line)
        number = int(message["seq"].removeprefix("fuzz/"))
        answer = answer_of(message)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LineError(f"no answer: {line:.100}") from error
    if number not in asked or number in answered:
        raise LineError(f"nobody asked for {line:.100}")
    return number, answer


def answer_of(message: Members) -> Answer:
    """Take the answer out of a message."""
    if "ok" in message:
        return Answer("ok", message["ok"])
    if "err" in message:
        return Answer("err", message["err"]["code"])
    return Answer("skip", message["skip"]["reason"])
