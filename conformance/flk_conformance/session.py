"""Put cases to one testee: many open at a time, and one at a time where something went wrong.

Owner of the fate of open cases. While all goes well, up to `in_flight` requests are open and
answers come in any order. When the testee ends, falls silent or writes what belongs to no request,
it is started again and the open cases are sent again one at a time: so the one that did it is
found, and no other is blamed (tp.25).
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from . import judge
from .judge import CRASH, ERR_PROTOCOL, TIMEOUT, Policies, Verdict
from .scripted import Stage
from .testee import EndedError, Greeting, LineError, StartError, Testee
from .vectors import Case, tail_of

ANSWER_S: Final = 10.0
"""How long an answer may take (tp.24)."""

SCRIPTED_ANSWER_S: Final = 60.0
"""The same for cases with scripted servers, whose sockets are real (tp.24)."""

RESTARTS_MAX: Final = 200
"""A testee that has to be started more often than this is not run on."""

WIRE_CHARACTERS: Final = 4_000
"""How much of a line is shown under a failure."""

decode = json.JSONDecoder().decode
"""Read a line; the same as `json.loads` without its search for an encoding."""


class Item(NamedTuple):
    """A case under the name by which it is sent: its id, or `id#2` in a repeated run."""

    seq: str
    case: Case


class Trace(NamedTuple):
    """What is shown under a failure beside the verdict."""

    wire: Sequence[str] = ()
    stderr: bytes = b""


class MisplacedError(Exception):
    """Say that a line belongs to no open request; keeps the sentence that it breaks."""

    def __init__(self, message: str, sentence: str) -> None:
        super().__init__(message)
        self.sentence = sentence


class SilentError(Exception):
    """Say that a request stayed unanswered."""


class Trouble(NamedTuple):
    """What went wrong while these cases were open."""

    items: Sequence[Item]
    problem: Exception


Opened = dict[str, tuple[Item, int]]
"""Open cases by `seq`, each with how much standard error there was when it went out."""

Told = Callable[[Item, Verdict, Trace], None]
PassedAll = Callable[[list[Item]], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, and how many requests to have open; None: as the testee declares."""

    answer_s: float = ANSWER_S
    scripted_answer_s: float = SCRIPTED_ANSWER_S
    in_flight: int | None = None


class Session:
    """One testee and the cases it is asked.

    `passed` takes those that passed, batch by batch; `told` takes every other verdict. A second
    answer to a case is told after its first verdict, and replaces it.
    """

    def __init__(
        self,
        testee: Testee,
        vectors: str,
        *,
        passed: PassedAll,
        told: Told,
        limits: Limits | None = None,
    ) -> None:
        self.testee = testee
        self.vectors = vectors
        self.passed = passed
        self.told = told
        self.limits = limits or Limits()
        self.restarts = 0
        self.greeting: Greeting | None = None
        self.given_up = ""
        self.stopped = False
        self._answered: dict[str, Item] = {}
        self._stage: Stage | None = None

    @property
    def policies(self) -> Policies:
        assert self.greeting is not None
        return self.greeting.policies

    def start(self) -> Greeting:
        """Start the testee. Raises StartError."""
        self.greeting = self.testee.start(self.vectors)
        return self.greeting

    def stop(self) -> None:
        """Make `run` return after what is being read; safe from another thread."""
        self.stopped = True

    def close(self) -> str | None:
        """End the testee; give what it did wrong at its end, or None."""
        wrong = None if self.given_up else self.testee.bye()
        self.abandon()
        return wrong

    def abandon(self) -> None:
        """End the testee at once, for whatever reason; does nothing if it has ended."""
        if self._stage is not None:
            self._stage.close()
            self._stage = None
        self.testee.kill()

    # --- many at a time -------------------------------------------------------------------------

    def run(self, items: Iterable[Item]) -> None:
        """Judge every case: first those that need nothing, then those with servers."""
        plain: deque[Item] = deque()
        scripted: list[Item] = []
        for item in items:
            (scripted if item.case.is_scripted else plain).append(item)
        while plain and not self.stopped and not self.given_up:
            trouble = self._pipelined(plain)
            if trouble is not None:
                self._search(trouble)
        for item in (*plain, *scripted):
            if self.stopped:
                return
            self.alone(item)

    def _pipelined(self, waiting: deque[Item]) -> Trouble | None:
        """Ask until nothing is left, or give what was open when something went wrong."""
        assert self.greeting is not None
        width = self.limits.in_flight or self.greeting.in_flight
        open_items: Opened = {}
        heard_at = time.monotonic()
        try:
            while (waiting or open_items) and not self.stopped:
                if waiting and 2 * len(open_items) <= width:
                    self._send(waiting, open_items, width - len(open_items))
                lines = self.testee.lines(left_s(heard_at, self.limits.answer_s))
                if lines:
                    self._take(lines, open_items)
                    heard_at = time.monotonic()
        except (EndedError, LineError, MisplacedError, SilentError) as problem:
            return Trouble([item for item, _ in open_items.values()], problem)
        return None

    def _send(self, waiting: deque[Item], open_items: Opened, room: int) -> None:
        mark = self.testee.stderr_total
        parts = []
        for _ in range(min(room, len(waiting))):
            item = waiting.popleft()
            open_items[item.seq] = (item, mark)
            parts.append(item.case.request(item.seq))
        self.testee.write(b"".join(parts))

    def _take(self, lines: list[str], open_items: Opened) -> None:
        """Judge answers as they come. Raises MisplacedError for a line that nobody asked for."""
        policies = self.policies
        answered = self._answered
        good: list[Item] = []
        for line in lines:
            try:
                answer = decode(line)
                item, mark = open_items.pop(answer["seq"])
            except (ValueError, KeyError, TypeError, RecursionError):
                self.passed(good)  # before a second answer takes one of them back
                good = []
                self.misplaced(line)
                continue
            answered[item.seq] = item
            verdict = judge.verdict(item.case, answer, policies)
            if verdict is judge.PASSED:
                good.append(item)
            else:
                self._tell(item, verdict, line, mark)
        self.passed(good)

    def misplaced(self, line: str) -> None:
        """Deal with a line that is no answer to an open request; the case of a second answer fails.

        Raises MisplacedError for any other.
        """
        seq = seq_of(line)
        item = self._answered.get(seq) if seq is not None else None
        if item is None:
            raise MisplacedError(*why_misplaced(line, seq))
        verdict = Verdict(ERR_PROTOCOL, "it was answered a second time", "tp.21")
        self._tell(item, verdict, line, self.testee.stderr_total)

    def _tell(self, item: Item, verdict: Verdict, line: str, mark: int) -> None:
        wire = [
            f"-> {item.case.request(item.seq).decode().rstrip():.{WIRE_CHARACTERS}}",
            f"<- {line:.{WIRE_CHARACTERS}}",
        ]
        self.told(item, verdict, Trace(wire, self.testee.stderr_since(mark)))

    # --- one at a time --------------------------------------------------------------------------

    def _search(self, trouble: Trouble) -> None:
        """Send open cases again one at a time, so that the one behind a problem is found."""
        found = False
        self._restart()
        for item in trouble.items:
            if self.stopped:
                return
            found = self.alone(item) or found
        if not found and not self.given_up:
            self._not_found(trouble)

    def _not_found(self, trouble: Trouble) -> None:
        """Blame the first open case where each is answered when it is alone."""
        named = ", ".join(item.seq for item in trouble.items[:5])
        more = f" and {len(trouble.items) - 5} more" if len(trouble.items) > 5 else ""
        item = trouble.items[0] if trouble.items else next(reversed(self._answered.values()))
        verdict = judged_trouble(item.case, trouble.problem)
        message = f"{verdict.message}, while these were open: {named or 'none'}{more}. One at a "
        message += "time each is answered; an answer must not depend on other requests (tp.23)"
        self.told(item, verdict._replace(message=message), Trace())

    def _restart(self) -> None:
        """End the testee and start it again, unless that was done too often."""
        self.testee.kill()
        self.restarts += 1
        if self.restarts > RESTARTS_MAX:
            self.given_up = f"it had to be started again more than {RESTARTS_MAX} times"
            return
        try:
            self.greeting = self.testee.start(self.vectors)
        except StartError as error:
            self.given_up = f"it could not be started again: {error}"

    def alone(self, item: Item) -> bool:
        """Judge one case with nothing else open; say whether the testee had to be restarted."""
        if self.given_up:
            self.told(item, Verdict(CRASH, f"not sent: {self.given_up}", "tp.25"), Trace())
            return True
        if item.case.is_scripted:
            return self._scripted(item)
        request = item.case.request(item.seq)
        return self._ask(item, request, self.limits.answer_s, self._judge_plain)

    def verdict_of(self, item: Item) -> Verdict:
        """Give the verdict on one case that is asked alone, to the caller and to nobody else."""
        said: list[Verdict] = []
        kept = self.passed, self.told
        self.passed = lambda items: said.extend(judge.PASSED for _ in items)
        self.told = lambda _item, verdict, _trace: said.append(verdict)
        try:
            self.alone(item)
        finally:
            self.passed, self.told = kept
        return said[-1]

    def _judge_plain(self, item: Item, answer: Any) -> tuple[Verdict, list[str]]:
        return judge.verdict(item.case, answer, self.policies), []

    def _ask(
        self,
        item: Item,
        request: bytes,
        answer_s: float,
        judged: Callable[[Item, Any], tuple[Verdict, list[str]]],
    ) -> bool:
        mark = self.testee.stderr_total
        sent = f"-> {request.decode().rstrip():.{WIRE_CHARACTERS}}"
        line = ""
        try:
            self.testee.write(request)
            line = self._one_line(item, answer_s)
            verdict, more = judged(item, decode(line))
        except (EndedError, LineError, MisplacedError, SilentError) as problem:
            verdict = judged_trouble(item.case, problem)
        else:
            self._answered[item.seq] = item
            if verdict is judge.PASSED:
                self.passed([item])
                return False
            wire = [sent, *more, f"<- {line:.{WIRE_CHARACTERS}}"]
            self.told(item, verdict, Trace(wire, self.testee.stderr_since(mark)))
            return False
        self.told(item, verdict, Trace([sent], self.testee.stderr_since(mark)))
        self._restart()
        return True

    def _one_line(self, item: Item, answer_s: float) -> str:
        """Wait for the one answer; anything beside it is a violation by this case."""
        sent_at = time.monotonic()
        while True:
            lines = self.testee.lines(left_s(sent_at, answer_s))
            for index, line in enumerate(lines):
                seq = seq_of(line)
                if seq == item.seq:
                    if index + 1 < len(lines):
                        self._after(item, lines[index + 1])
                    return line
                self.misplaced(line)

    def _after(self, item: Item, line: str) -> None:
        """Refuse a second line in one breath with the answer."""
        if seq_of(line) == item.seq:
            raise MisplacedError("it was answered a second time", "tp.21")
        self.misplaced(line)

    # --- with servers ---------------------------------------------------------------------------

    def _scripted(self, item: Item) -> bool:
        """Judge a case whose servers the harness plays."""
        if self._stage is None:
            self._stage = Stage()
        with self._stage.play(item.case.args) as play:
            tail = tail_of(item.case.op, play.args())
            request = b'{"cmd":"run","seq":"%b%b' % (item.seq.encode(), tail)

            def judged(item: Item, answer: Any) -> tuple[Verdict, list[str]]:
                if problems := play.problems():
                    expected = item.case.expect.get("requests")
                    found = Verdict(judge.FAIL, "; ".join(problems), "", expected, play.requests())
                else:
                    found = judge.scripted(item.case, answer, self.policies, play.requests())
                return found, play.wire()

            return self._ask(item, request, self.limits.scripted_answer_s, judged)


def left_s(since: float, answer_s: float) -> float:
    """Give the time that is left for an answer; raise SilentError if there is none."""
    left = since + answer_s - time.monotonic()
    if left <= 0:
        raise SilentError(f"no answer within {answer_s:g} s")
    return left


def judged_trouble(case: Case, problem: Exception) -> Verdict:
    """Judge a case by what went wrong instead of an answer."""
    if isinstance(problem, EndedError):
        return crashed(case, str(problem))
    if isinstance(problem, SilentError):
        return silent(case, str(problem))
    sentence = problem.sentence if isinstance(problem, MisplacedError) else "tp.3"
    return Verdict(ERR_PROTOCOL, str(problem), sentence, case.expect)


def crashed(case: Case, how: str) -> Verdict:
    """Judge a case during which the testee ended: never an error of the SDK."""
    return Verdict(CRASH, how, "tp.25", case.expect)


def silent(case: Case, how: str) -> Verdict:
    """Judge a case that stayed unanswered."""
    return Verdict(TIMEOUT, how, "tp.24", case.expect)


def seq_of(line: str) -> str | None:
    """Read the `seq` of a line, or None if it is no answer at all."""
    try:
        answer = decode(line)
    except (ValueError, RecursionError):
        return None
    seq = answer.get("seq") if isinstance(answer, dict) else None
    return seq if isinstance(seq, str) else None


def why_misplaced(line: str, seq: str | None) -> tuple[str, str]:
    """Explain a line that belongs to no request, with the sentence that it breaks."""
    if seq is not None:
        return f"an answer to {seq!r}, which was never asked", "tp.22"
    if not line:
        return "an empty line on standard output", "tp.4"
    if line.startswith("\x00"):
        return f"a line is {line[1:200]}", "tp.2"
    try:
        answer = decode(line)
    except (ValueError, RecursionError) as error:
        return f"a line on standard output is no JSON ({error}): {line:.200}", "tp.4"
    if not isinstance(answer, dict):
        return f"a line is no JSON object: {line:.200}", "tp.2"
    return f"an answer without a seq: {line:.200}", "tp.17"
