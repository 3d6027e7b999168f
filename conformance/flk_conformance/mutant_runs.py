"""Run a mutant of the Python SDK in a process of its own, forked from one that has loaded all.

The parent imports the testee, the vectors and the generated cases once; a child applies one
mutation and asks. A vector counts as a killer if its verdict is not `pass`.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from types import FrameType, TracebackType
from typing import Any, Final, NamedTuple, Self

from . import grammar, judge, oracle
from .draw import Question
from .judge import Policies
from .mutant_list import Mutant
from .scripted import Stage
from .testee import read_greeting
from .vectors import SERVER, Case

CASE_S: Final = 10.0
"""A case that a mutant does not end within this time counts as one it fails."""


END_S: Final = 2.0
"""How long a child has to end once it has told what it found."""

DIED: Final = "process-died"
"""The killer of a mutant whose process ended before it told anything."""


class LateError(BaseException):
    """Say that a case took too long; nothing of an SDK catches it."""


class Found(NamedTuple):
    """What caught a mutant: ids of vectors and checks, and the first case of the fuzzer."""

    id: str
    killers: Sequence[str] = ()
    number: int | None = None
    grammar: str = ""


def ring(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler
    """End what takes too long."""
    raise LateError


class Attempt:
    """A block that may raise anything and may not end: what a mutant does is foreign.

    `failed` says afterwards whether it did either.
    """

    failed = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, CASE_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        self.failed = isinstance(error, Exception | LateError)
        return self.failed


class Subject:
    """The Python testee in this process."""

    def __init__(self) -> None:
        from mutants import subject  # noqa: PLC0415 - found once the list was read

        self.subject = subject
        greeting = read_greeting(json.dumps(subject.testee().greeting()))
        assert not isinstance(greeting, str), greeting
        self.policies: Policies = greeting.policies
        self._stage: Stage | None = None

    def become(self, id: str) -> None:
        """Apply a mutation; an empty id applies none."""
        from mutants import patching  # noqa: PLC0415 - found once the list was read

        patching.apply(id, self.subject.modules())

    def passes(self, case: Case) -> bool:
        """Ask a case and judge the answer; whatever a mutant raises is no pass."""
        verdict = judge.CRASH
        with Attempt():
            verdict = self._verdict(case)
        return verdict == judge.PASS

    def _verdict(self, case: Case) -> str:
        if not case.is_scripted:
            answer = {"seq": "", **self.subject.answer(case.op, case.args)}
            return judge.verdict(case, answer, self.policies).status
        if self._stage is None:
            self._stage = Stage()
        with self._stage.play(case.args) as play:
            answer = {"seq": "", **self.subject.answer(case.op, play.args())}
            if play.problems():
                return judge.FAIL
            return judge.scripted(case, answer, self.policies, play.requests()).status

    def gives(self, question: Question, expected: dict[str, Any]) -> bool:
        """Ask a generated case and compare."""
        answer: dict[str, Any] = {}
        with Attempt():
            answer = self.subject.answer(question.op, question.args)
        if "err" in answer:
            return expected == {"code": answer["err"]["code"]}
        return expected == answer.get("ok")


# --- in a child -----------------------------------------------------------------------------


def by_vectors(subject: Subject, mutant: Mutant, cases: Iterable[Case]) -> Found:
    """Run the vectors that concern a mutant, and the checks if a check is to catch it."""
    from mutants import checks  # noqa: PLC0415 - found once the list was read

    subject.become(mutant.id)
    killers = [c.id for c in cases if mutant.concerns(c.op) and not subject.passes(c)]
    for name, check in checks.CHECKS.items() if mutant.concerns("check") else ():
        if not holds(check):
            killers.append(name)
    return Found(mutant.id, killers)


def holds(check: Callable[[], None]) -> bool:
    """Say whether a check is content."""
    with Attempt() as attempt:
        check()
    return not attempt.failed


Asked = Sequence[tuple[Question, dict[str, Any]]]


def by_fuzz(subject: Subject, mutant: Mutant, asked: Asked) -> Found:
    """Ask generated cases until one shows the mutant."""
    subject.become(mutant.id)
    for index, (question, expected) in enumerate(asked):
        if not subject.gives(question, expected):
            return Found(mutant.id, (), index, question.grammar)
    return Found(mutant.id)


# --- many children --------------------------------------------------------------------------


def asked_cases(seed: bytes, count: int) -> Asked:
    """Generate cases with what the oracle says about them."""
    questions = (grammar.question(seed, index) for index in range(count))
    return [(each, oracle.expectation(each.op, each.args)) for each in questions]


def spread(
    work: Callable[[Mutant], Found], mutants: Iterable[Mutant], jobs: int
) -> Iterator[Found]:
    """Run each mutant in a child of its own, some beside each other."""
    context = multiprocessing.get_context("fork")
    waiting = deque(mutants)
    running: dict[Connection, tuple[Mutant, ForkProcess]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.popleft()
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_tell, args=(theirs, work, mutant))
            process.start()
            theirs.close()
            running[mine] = mutant, process
        for ready in connection.wait(list(running)):
            assert isinstance(ready, Connection)
            yield _ended(ready, *running.pop(ready))


def _tell(pipe: Connection, work: Callable[[Mutant], Found], mutant: Mutant) -> None:
    pipe.send(work(mutant))


def _ended(pipe: Connection, mutant: Mutant, process: ForkProcess) -> Found:
    """Take what a child found; one that died is caught by that alone."""
    try:
        found: Found = pipe.recv()
    except EOFError:
        found = Found(mutant.id, (DIED,))
    process.join(END_S)
    if process.is_alive():  # a mutant may leave threads behind
        process.kill()
        process.join()
    pipe.close()
    return found


def of_testees(cases: Iterable[Case]) -> list[Case]:
    """Keep the cases that a testee can be asked."""
    return [case for case in cases if case.suite.level != SERVER]


def clean() -> Mutant:
    """Give the right SDK as a mutant that changes nothing."""
    return Mutant("", "the SDK as it is", "", ("*",))
