"""The command `flk-conformance fuzz`: put generated cases to testees, judged by the oracle.

Case number i of a seed is the same anywhere, so `(seed, index)` repeats it. The oracle decides,
never the majority: of up to 10^5 cases it judges each; of more it judges every disagreement, every
error, and one other case in 64. What is found is shrunk and kept in `golden/regressions/`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import fuzz_finds, grammar, oracle, places
from .draw import Question
from .fuzz_finds import Find
from .respondent import Answer, Respondent
from .run import NOT_STARTED, OK, UNEXPECTED, UsageError
from .shrink import SHRINK_S, shrink
from .testee import StartError
from .vectors import read_manifest

CASES: Final = 100_000
"""Default of how many cases, and up to how many the oracle judges all."""

SAMPLE: Final = 64
"""Of more cases the oracle judges one in so many where all testees agree on an answer."""

BATCH: Final = 500
"""Cases that are generated, asked and judged together."""

SHRUNK_MAX: Final = 2
"""Finds of one kind that are shrunk; more of it are counted."""

SHOWN_MAX: Final = 20
"""Finds that are shown in full."""

Members = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fuzz`."""
    parser.add_argument("--seed", default="0", metavar="S", help="the seed, any text (0)")
    parser.add_argument("--cases", type=int, metavar="N", help=f"how many cases ({CASES})")
    parser.add_argument(
        "--time", metavar="60s", help="end after this time; alone, as many cases as fit"
    )
    parser.add_argument(
        "--grammar", choices=sorted(grammar.SHARES), help="cases of one grammar alone"
    )
    parser.add_argument("--index", type=int, metavar="I", help="repeat one case and show it")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes of each testee",
    )
    parser.add_argument("--vectors", metavar="DIR", help="a folder with MANIFEST.json and vectors/")
    parser.add_argument(
        "--shrink", default=f"{SHRINK_S:g}s", metavar="2s", help="how long a find is shrunk at most"
    )
    parser.add_argument(
        "--finds", type=Path, metavar="DIR", help="where finds go (golden/regressions)"
    )


def run(options: argparse.Namespace) -> int:
    """Ask, judge and sum up; give the exit code."""
    settings = settings_of(options)
    if settings.only is not None:
        return repeat(settings)
    try:
        return campaign(settings)
    except StartError as error:
        sys.stderr.write(f"flk-conformance: {error}\n")
        return NOT_STARTED


class Settings(NamedTuple):
    """What one run of the fuzzer is asked for."""

    seed: str
    cases: int
    seconds: float | None
    grammar: str | None
    only: int | None
    jobs: int
    shrink_s: float
    commands: Sequence[Sequence[str]]
    version: str
    finds: Path

    @property
    def judges_all(self) -> bool:
        return self.cases <= CASES

    def question(self, index: int) -> Question:
        return grammar.question(self.seed.encode(), index, self.grammar)

    def repeat_line(self, index: int, command: Sequence[str]) -> str:
        """Give the line that repeats a case."""
        one = [] if self.grammar is None else ["--grammar", self.grammar]
        return shlex.join(
            [
                "flk-conformance",
                "fuzz",
                "--seed",
                self.seed,
                *one,
                "--index",
                str(index),
                "--",
                *command,
            ]
        )


def settings_of(options: argparse.Namespace) -> Settings:
    """Check the options."""
    commands = split(options.testee)
    if not commands:
        raise UsageError("fuzz needs testees: -- A [-- B ...]")
    if options.jobs < 1 or (options.cases is not None and options.cases < 1):
        raise UsageError("--jobs and --cases are at least 1")
    seconds = None if options.time is None else seconds_of(options.time, "--time")
    cases = options.cases or (CASES if seconds is None else 2**62)
    root = places.golden_dir(options.vectors)
    return Settings(
        options.seed, cases, seconds, options.grammar, options.index, options.jobs,
        seconds_of(options.shrink, "--shrink"), commands, read_manifest(root)["version"],
        options.finds or root / "regressions",
    )  # fmt: skip


def split(words: Sequence[str]) -> list[list[str]]:
    """Take apart the commands of several testees."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def seconds_of(text: str, option: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|m|h)?", text)
    if match is None:
        raise UsageError(f"{option} {text}: expected a number and s, m or h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


# --- judging --------------------------------------------------------------------------------


def fault(expected: Members, answer: Answer) -> str:
    """Name what is wrong with an answer; an empty text is nothing. A skip decides nothing."""
    if answer.kind == "ok":
        if answer.value == expected:
            return ""
        return f"ok instead of {expected['code']}" if is_error(expected) else "another ok"
    if answer.kind == "err":
        if is_error(expected) and expected["code"] == answer.value:
            return ""
        wanted = expected["code"] if is_error(expected) else "ok"
        return f"{answer.value} instead of {wanted}"
    return "" if answer.kind == "skip" else answer.kind


def is_error(expected: Members) -> bool:
    """Say whether an expectation is that of an error."""
    return len(expected) == 1 and "code" in expected


def faults(expected: Members, answers: Sequence[Answer]) -> list[str]:
    """Judge the answers of all testees to one case: the oracle decides."""
    return [fault(expected, answer) for answer in answers]


def expectation(question: Question, *, is_strict: bool = False) -> Members:
    """Ask the oracle; a testee that refuses unsigned digits is judged as if asked to be strict."""
    if question.op == "verify" and is_strict:
        return oracle.expectation(question.op, {**question.args, "strict": "true"})
    return oracle.expectation(question.op, question.args)


def needs_oracle(settings: Settings, index: int, answers: Sequence[Answer]) -> bool:
    """Say whether the oracle is asked about a case."""
    if settings.judges_all or index % SAMPLE == 0:
        return True
    first = answers[0]
    return first.kind != "ok" or any(answer != first for answer in answers)


# --- one process ----------------------------------------------------------------------------


class Totals:
    """What was asked, judged and found."""

    def __init__(self) -> None:
        self.cases = 0
        self.judged = 0
        self.skips: Counter[str] = Counter()
        self.finds: list[Find] = []
        self.kinds: Counter[tuple[str, str, str]] = Counter()

    def add(self, other: Totals) -> None:
        """Take in what another process counted."""
        self.cases += other.cases
        self.judged += other.judged
        self.skips += other.skips
        self.finds += other.finds
        self.kinds += other.kinds


class Worker:
    """Testees of its own, and every `jobs`-th batch."""

    def __init__(self, settings: Settings, number: int) -> None:
        self.settings = settings
        self.number = number
        self.totals = Totals()
        self.respondents = [Respondent(command) for command in settings.commands]
        self.labels: list[str] = []

    def run(self) -> Totals:
        """Ask until all is asked or the time is over."""
        settings = self.settings
        ends_at = None if settings.seconds is None else time.monotonic() + settings.seconds
        try:
            for respondent in self.respondents:
                respondent.start(settings.version)
            self.labels = labels(self.respondents)
            for first in range(self.number * BATCH, settings.cases, settings.jobs * BATCH):
                if ends_at is not None and time.monotonic() >= ends_at:
                    break
                self.batch(range(first, min(first + BATCH, settings.cases)))
        finally:
            for respondent in self.respondents:
                respondent.end()
        return self.totals

    def batch(self, indices: range) -> None:
        """Ask some cases of every testee and judge the answers."""
        questions = [self.settings.question(index) for index in indices]
        rows = [each.answers(questions) for each in self.respondents]
        for place, index in enumerate(indices):
            answers = [row[place] for row in rows]
            self.totals.cases += 1
            for respondent, answer in zip(self.respondents, answers, strict=True):
                if answer.kind == "skip":
                    self.totals.skips[f"{questions[place].op} by {respondent.name}"] += 1
            if needs_oracle(self.settings, index, answers):
                self.judge(index, questions[place], answers)

    def judge(self, index: int, question: Question, answers: Sequence[Answer]) -> None:
        """Hold answers against the oracle."""
        self.totals.judged += 1
        for place, wrong in enumerate(faults(expectation(question), answers)):
            found = wrong
            if wrong and self.respondents[place].strict():
                found = fault(expectation(question, is_strict=True), answers[place])
            if found:
                self.found(index, question, place, found)

    def found(self, index: int, question: Question, place: int, wrong: str) -> None:
        """Shrink a find, unless there are enough of its kind."""
        respondent, label = self.respondents[place], self.labels[place]
        kind = label, question.op, wrong
        self.totals.kinds[kind] += 1
        if self.totals.kinds[kind] > SHRUNK_MAX:
            return
        small = shrink(
            question, lambda other: self.shows(other, respondent, wrong), self.settings.shrink_s
        )
        expected = expectation(small, is_strict=respondent.strict())
        answer = respondent.answer(small)
        line = self.settings.repeat_line(index, respondent.command)
        self.totals.finds.append(
            Find(
                index,
                self.settings.seed,
                question.grammar,
                label,
                wrong,
                small,
                expected,
                answer,
                line,
            )
        )

    def shows(self, question: Question, respondent: Respondent, wrong: str) -> bool:
        """Say whether a smaller case shows the same fault at the same testee."""
        try:
            expected = expectation(question, is_strict=respondent.strict())
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ):
            return False  # the oracle cannot read it, so it is no case
        return fault(expected, respondent.answer(question)) == wrong


def labels(respondents: Sequence[Respondent]) -> list[str]:
    """Name the testees; several of one name by their place."""
    names = [each.name for each in respondents]
    return [
        name if names.count(name) == 1 else f"{name} {place + 1}"
        for place, name in enumerate(names)
    ]


# --- all of them ----------------------------------------------------------------------------


def campaign(settings: Settings) -> int:
    """Spread the cases over processes, keep what was found, and sum up."""
    began = time.monotonic()
    totals = Totals()
    for part in parts(settings):
        totals.add(part)
    kept = fuzz_finds.keep(settings.finds, settings.version, totals.finds)
    for find in totals.finds[:SHOWN_MAX]:
        sys.stdout.write(f"{fuzz_finds.text(find)}\n\n")
    for (name, op, wrong), count in sorted(totals.kinds.items()):
        sys.stdout.write(f"{count} times: {name}, {op}: {wrong}\n")
    for path in kept:
        sys.stdout.write(f"kept in {path}\n")
    for what, count in sorted(totals.skips.items()):
        sys.stdout.write(f"skipped: {count} of {what}\n")
    seconds = time.monotonic() - began
    verdict = f"{sum(totals.kinds.values())} disagreements" if totals.kinds else "no disagreement"
    sys.stdout.write(
        f"{totals.cases} cases, {len(settings.commands)} testees, "
        f"{totals.judged} judged by the oracle, "
        f"seed {settings.seed}, {seconds:.1f} s, {totals.cases / seconds:.0f} cases/s: {verdict}\n"
    )
    sys.stdout.flush()
    return UNEXPECTED if totals.kinds else OK


def parts(settings: Settings) -> Iterator[Totals]:
    """Run one worker here, or several in processes of their own."""
    jobs = min(settings.jobs, -(-settings.cases // BATCH))
    if jobs == 1:
        yield Worker(settings._replace(jobs=1), 0).run()
        return
    from .fuzz_jobs import spread  # noqa: PLC0415 - multiprocessing only where it is used

    shared = settings._replace(jobs=jobs)
    yield from spread(lambda number: Worker(shared, number).run(), jobs)


def repeat(settings: Settings) -> int:
    """Show one case and what each testee answers."""
    assert settings.only is not None
    question = settings.question(settings.only)
    sys.stdout.write(
        f"{question.op} of {question.grammar}\n{json.dumps(question.args, indent=1)}\n"
    )
    sys.stdout.write(f"expected: {json.dumps(expectation(question))}\n")
    wrong = False
    for command in settings.commands:
        respondent = Respondent(command)
        try:
            respondent.start(settings.version)
            answer = respondent.answer(question)
            found = fault(expectation(question, is_strict=respondent.strict()), answer)
            name = respondent.name
        except StartError as error:
            sys.stderr.write(f"flk-conformance: {error}\n")
            return NOT_STARTED
        finally:
            respondent.end()
        wrong = wrong or bool(found)
        sys.stdout.write(f"{name}: {answer.kind} {json.dumps(answer.value)}: {found or 'right'}\n")
    return UNEXPECTED if wrong else OK
