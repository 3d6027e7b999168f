"""Command `run`: put the vectors to a testee, and say what is not as it must be."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from . import judge, places, report, terminal, vectors, xfail
from .judge import FLAKY, PASS, Verdict
from .results import Writer, cut
from .session import Item, Limits, Session, Trace
from .testee import Greeting, StartError, Testee
from .vectors import SERVER, Case, Vectors

OK: Final = 0
UNEXPECTED: Final = 1
USAGE: Final = 2
NOT_STARTED: Final = 3
BROKEN: Final = 4
SIGNAL: Final = 128
"""A run that a signal ended exits with this plus its number, after its report."""

SHOWN_MAX: Final = 20
"""Failures that are shown in full; the report has all of them."""

JOBS_MAX: Final = 64

Members = dict[str, Any]


class UsageError(Exception):
    """Say that the command line asks for something that does not exist."""


class Interrupted(BaseException):
    """Say that a signal came; not an error, so that no handler of errors takes it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the testee's command follows `--`."""
    more = parser.add_argument
    more("--vectors", metavar="DIR", help="another folder with MANIFEST.json and vectors/")
    more("--suite", action="append", default=[], metavar="GLOB", help="folder or folder/file")
    more("--only", action="append", default=[], metavar="ID", help="one case; may be repeated")
    more("--entry", choices=("typed", "json"), help="leave out cases of the other entry")
    more("--xfail", type=Path, metavar="FILE", help="cases that are expected to fail")
    more("--flaky", type=Path, metavar="FILE", help="cases that never decide")
    more("--update-expected", action="store_true", help="write --xfail anew and show the diff")
    more("--jobs", type=int, default=1, metavar="N", help="testees beside each other")
    more("--repeat", type=int, default=1, metavar="N", help="ask each case N times")
    more("--lock-step", action="store_true", help="one request at a time")
    more("--timeout", type=float, metavar="S", help="seconds for an answer (10; 60 with servers)")
    more("--out", type=Path, metavar="DIR", help="results.ndjson and reports")


def run(options: argparse.Namespace) -> int:
    """Run and report. The exit code is that of conformance: 0 to 4."""
    if not options.testee:
        raise UsageError("run: no testee; write its command after --")
    if options.repeat < 1 or not 1 <= options.jobs <= JOBS_MAX:
        raise UsageError(f"--repeat needs at least 1, --jobs 1 to {JOBS_MAX}")
    if options.update_expected and options.xfail is None:
        raise UsageError("--update-expected needs --xfail FILE")
    loaded = vectors.load(places.golden_dir(options.vectors))
    chosen = chosen_cases(loaded, options)
    lists = xfail.read(options.xfail), xfail.read(options.flaky)
    with interruptible():
        try:
            return Exam(options, loaded, chosen, lists).run()
        except StartError as error:
            sys.stderr.write(f"flk-conformance: {error}\n")
            return NOT_STARTED


def chosen_cases(loaded: Vectors, options: argparse.Namespace) -> list[Case]:
    """Select what a testee can be asked."""
    chosen = vectors.select(
        loaded.cases, suites=options.suite, only=options.only, entry=options.entry
    )
    mine = [case for case in chosen if case.suite.level != SERVER]
    if not mine:
        what = "are for servers: see `flk-conformance server`" if chosen else "are there"
        raise UsageError(f"no cases for a testee: the selected ones {what}")
    return mine


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into an exception, so that a run ends with its report."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - its signature
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers; whoever runs this elsewhere has its own
        return
    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Exam:
    """One run: who is asked, what came out, and what that means."""

    def __init__(
        self,
        options: argparse.Namespace,
        loaded: Vectors,
        chosen: Sequence[Case],
        lists: tuple[xfail.Listed, xfail.Listed],
    ) -> None:
        self.options = options
        self.loaded = loaded
        self.chosen = chosen
        self.expected, self.flaky = lists
        self.lock = threading.Lock()
        self.shown = 0
        self.status_of: dict[str, str] = {}
        self.entry_of: dict[str, xfail.Entry] = {}
        self.line_of: dict[str, str] = {}
        self.failing: set[str] = set()
        self.skips: Counter[tuple[str, str]] = Counter()
        self.sessions: list[Session] = []
        self.limits = limits_of(options)

    # --- the course of a run --------------------------------------------------------------------

    def run(self) -> int:
        """Ask, report, and give the exit code."""
        began = time.monotonic()
        first = self.session()
        greeting = first.start()
        self.writer = Writer(self.results_path, self.header(greeting))
        code = BROKEN
        error: str | None = "the harness failed"
        try:
            try:
                self.ask(first, greeting)
                code, error = self.code(), None
            except Interrupted as interrupted:
                code, error = SIGNAL + interrupted.number, f"ended by {interrupted}"
            except StartError as failed:
                code, error = NOT_STARTED, str(failed)
        finally:
            # Also when the harness itself fails: the report says so and holds what is known.
            for session in self.sessions:
                session.stop()
                session.abandon()
            self.finish(code, time.monotonic() - began, error)
        return code

    @property
    def results_path(self) -> Path | None:
        return None if self.options.out is None else self.options.out / "results.ndjson"

    def session(self) -> Session:
        """Make one more testee."""
        testee = Testee(self.options.testee)
        session = Session(
            testee, self.loaded.version, passed=self.passed, told=self.told, limits=self.limits
        )
        self.sessions.append(session)
        return session

    def header(self, greeting: Greeting) -> Members:
        """Say what this run is."""
        return {
            "kind": "testee",
            "subject": greeting.name,
            "vectors": self.loaded.version,
            "suite_hash": self.loaded.suite_hash,
            "protocol": greeting.raw["protocol"],
            "testee": dict(greeting.identity),
            "policies": dict(greeting.policies.choices),
            "xfail_sha256": self.expected.sha256,
            "command": ["flk-conformance", *self.options.argv],
        }

    def ask(self, first: Session, greeting: Greeting) -> None:
        """Put every case to the testees."""
        self.check_lists()
        self.prepare(self.chosen)
        cases = []
        for case in self.chosen:
            if greeting.policies.sends(case):
                cases.append(case)
            else:
                what = f"level {case.suite.level} is not declared"
                self.told(Item(case.id, case), judge.Verdict(judge.SKIP, what), Trace())
        steady = [case for case in cases if self.flaky.entry_for(case.id) is None]
        items = list(self.items(steady))
        self.spread(first, items)
        self.check_whole(items)
        self.ask_flaky(first, [case for case in cases if self.flaky.entry_for(case.id)])
        for session in self.sessions:
            if session.greeting is not None and (wrong := session.close()) is not None:
                self.told_apart("testee/end", wrong, "tp.26")

    def items(self, cases: Sequence[Case]) -> Iterable[Item]:
        """Name the cases, as often as they are asked."""
        for number in range(1, self.options.repeat + 1):
            for case in cases:
                yield Item(case.id if number == 1 else f"{case.id}#{number}", case)

    def spread(self, first: Session, items: list[Item]) -> None:
        """Divide the cases among the testees; cases with servers stay with the first."""
        jobs = min(self.options.jobs, len(items))
        if jobs <= 1:
            first.run(items)
            return
        plain = [item for item in items if not item.case.is_scripted]
        others = [self.session() for _ in range(jobs - 1)]
        for session in others:
            session.start()
        failures: list[Exception] = []
        threads = [
            threading.Thread(target=guarded(session, plain[index::jobs], failures), daemon=True)
            for index, session in enumerate(others, 1)
        ]
        for thread in threads:
            thread.start()
        first.run([*plain[0::jobs], *(item for item in items if item.case.is_scripted)])
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def check_whole(self, items: Sequence[Item]) -> None:
        """Refuse to judge a run in which a case got no verdict: the harness lost it."""
        lost = [item.seq for item in items if item.seq not in self.status_of]
        if lost:
            raise RuntimeError(f"{len(lost)} cases got no verdict, the first is {lost[0]}")

    def ask_flaky(self, session: Session, cases: Sequence[Case]) -> None:
        """Run flaky cases three times, and say how often they passed."""
        for case in cases:
            asked = [Item(f"{case.id}#{n}", case) for n in range(1, xfail.FLAKY_RUNS + 1)]
            good = sum(session.verdict_of(item).status == PASS for item in asked)
            message = f"{good} of {len(asked)} passed"
            self.told(Item(case.id, case), Verdict(FLAKY, message), Trace())

    # --- what comes out -------------------------------------------------------------------------

    def prepare(self, cases: Sequence[Case]) -> None:
        """Look lists up and write the lines of passing cases once, not once per answer."""
        for case in cases:
            entry = self.expected.entry_for(case.id)
            if entry is not None:
                self.entry_of[case.id] = entry
        if self.writer.is_kept:
            self.line_of = {case.id: facts_text(case) for case in cases}

    def passed(self, items: list[Item]) -> None:
        """Take in cases that passed."""
        if self.entry_of:
            listed = [item for item in items if item.case.id in self.entry_of]
            for item in listed:
                self.told(item, judge.PASSED, Trace())
            items = [item for item in items if item.case.id not in self.entry_of]
        lines = [self.line_of[case.id] % seq for seq, case in items] if self.line_of else []
        with self.lock:
            for seq, _ in items:
                self.status_of[seq] = PASS
            self.writer.passed(len(items), lines)

    def told(self, item: Item, verdict: Verdict, trace: Trace) -> None:
        """Take in any other verdict; settle it by the list of expected failures."""
        settled = xfail.settle(verdict, self.entry_of.get(item.case.id))
        members = self.members_of(item, settled, trace)
        with self.lock:
            if settled.status in (judge.XFAIL, *xfail.LISTABLE) or verdict.required:
                self.failing.add(item.case.id)
            self.writer.result(members, replaces=self.status_of.get(item.seq))
            self.status_of[item.seq] = settled.status
            if settled.status == judge.SKIP:
                self.skips[item.case.op, settled.message] += 1
            self.show(members)

    def told_apart(self, id: str, message: str, sentence: str) -> None:
        """Take in a fault that belongs to no case."""
        members = {
            "id": id, "status": judge.ERR_PROTOCOL, "suite": "run", "op": "run", "level": "run",
            "flags": [], "unexpected": True, "message": message, "sentence": sentence,
        }  # fmt: skip
        with self.lock:
            self.writer.result(members)
            self.show(members)

    def members_of(self, item: Item, verdict: Verdict, trace: Trace) -> Members:
        """Give the line of a result."""
        case = item.case
        members: Members = {"id": item.seq, "status": verdict.status, **facts(case)}
        unexpected = xfail.is_unexpected(verdict)
        if unexpected:
            members["unexpected"] = True
        if verdict.message:
            members["message"] = verdict.message
        if unexpected or verdict.status == judge.XFAIL:
            found = {
                "comment": case.comment,
                "flag_texts": {name: case.suite.flags[name]["text"] for name in case.flags},
                "sentence": verdict.sentence,
                "spec": list(
                    dict.fromkeys(s for name in case.flags for s in case.suite.flags[name]["spec"])
                ),
                "expected": verdict.expected,
                "actual": verdict.actual,
                "stderr": trace.stderr.decode("utf-8", "replace"),
                "wire": list(trace.wire),
                "repeat": self.repeat(case),
            }
            members.update((name, value) for name, value in found.items() if value)
        shortened: Members = cut(members)
        return shortened

    def repeat(self, case: Case) -> str:
        """Give the line that repeats one case."""
        options = self.options
        where = [] if options.vectors is None else ["--vectors", options.vectors]
        words = ["flk-conformance", "run", *where, "--only", case.id, "--", *options.testee]
        return shlex.join(words)

    def show(self, members: Members) -> None:
        """Show an unexpected result at once, up to a number of them."""
        if not members.get("unexpected"):
            return
        if members["status"] == judge.SKIP and self.skips[members["op"], members["message"]] > 1:
            return  # one of a kind is enough: the summary counts them
        self.shown += 1
        if self.shown <= SHOWN_MAX:
            sys.stdout.write(f"{terminal.failure(members)}\n\n")
        elif self.shown == SHOWN_MAX + 1:
            sys.stdout.write("--- more failures are counted, and stand in the report\n\n")

    # --- the end --------------------------------------------------------------------------------

    def check_lists(self) -> None:
        """Refuse patterns that match no case of all there are (tp.47)."""
        ids = [case.id for case in self.loaded.cases]
        for listed, path in ((self.expected, self.options.xfail), (self.flaky, self.options.flaky)):
            for entry in listed.unmatched(ids):
                message = f"{path}: the pattern {entry.pattern} matches no case: remove the line"
                self.told_apart(f"list/{entry.pattern}", message, "tp.47")

    def code(self) -> int:
        """Give the exit code of a run that came to its end."""
        if self.options.update_expected:
            return self.rewrite()
        return UNEXPECTED if self.writer.unexpected else OK

    def rewrite(self) -> int:
        """Write the list of expected failures anew, and show what changed."""
        path: Path = self.options.xfail
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = xfail.rewritten(before, self.failing, set(self.status_of))
        path.write_text(after, encoding="utf-8")
        sys.stdout.writelines(xfail.changes(path.name, before, after))
        return OK

    def finish(self, code: int, seconds: float, error: str | None) -> None:
        """Write the footer and the reports, and sum up."""
        self.writer.close(code, seconds, error=error)
        if self.results_path is not None:
            report.write_all(self.results_path)
        for (op, reason), count in sorted(self.skips.items()):
            sys.stdout.write(f"skipped: {count} of {op}: {reason}\n")
        counts = self.writer.counts
        totals = ", ".join(f"{counts[s]} {s}" for s in judge.STATUSES if counts[s])
        first = self.sessions[0].greeting
        name = "testee" if first is None else f"{first.name} {first.identity['version']}"
        restarts = sum(session.restarts for session in self.sessions)
        again = f", started again {restarts} times" if restarts else ""
        verdict = "as expected" if code == OK else error or f"{self.writer.unexpected} unexpected"
        sys.stdout.write(
            f"{name}, vectors {self.loaded.version}: {totals or 'nothing'}"
            f" in {seconds:.2f} s{again}: {verdict}\n"
        )
        sys.stdout.flush()


def limits_of(options: argparse.Namespace) -> Limits:
    """Read the time bounds and the width from the options."""
    width = 1 if options.lock_step else None
    if options.timeout is None:
        return Limits(in_flight=width)
    return Limits(options.timeout, options.timeout, width)


def guarded(session: Session, items: list[Item], failures: list[Exception]) -> Callable[[], None]:
    """Give what a thread does: run, and keep what fails for the one that waits."""

    def work() -> None:
        try:
            session.run(items)
        except (StartError, OSError, ValueError, RuntimeError) as error:
            failures.append(error)

    return work


def facts(case: Case) -> Members:
    """Give what every result says about its case."""
    return {
        "suite": case.suite.name,
        "op": case.op,
        "level": case.suite.level,
        "flags": list(case.flags),
    }


def facts_text(case: Case) -> str:
    """Give the line of a pass, with a place for its `seq`."""
    rest = json.dumps(facts(case), separators=(",", ":"))[1:].replace("%", "%%")
    return f'{{"type":"result","id":"%s","status":"pass",{rest}\n'
