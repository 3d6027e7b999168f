"""The command `flk-conformance mutate`: show that every wrong implementation is caught.

Runs every mutant of `mutants/list.toml`, checks that the killers that the list names do kill, and
says how many vectors kill each. A gate that cannot fail is no gate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from . import judge, mutant_list, mutant_runs, places, vectors
from .mutant_list import CONFORMANCE, HARNESS_FAMILY, Mutant
from .mutant_runs import Asked, Found, Subject
from .run import OK, UNEXPECTED, UsageError
from .session import Item, Session, Trace
from .testee import Testee
from .vectors import Case, Vectors

FUZZ_CASES: Final = 10_000
"""Within so many generated cases a mutant must be found."""

SEED: Final = "mutants"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mutate`."""
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="an id, or how ids begin: R01, R"
    )
    parser.add_argument(
        "--all", action="store_true", help="put every vector to every mutant, for exact counts"
    )
    parser.add_argument(
        "--fuzz", action="store_true", help="find mutants by generated cases instead of vectors"
    )
    parser.add_argument(
        "--cases", type=int, default=FUZZ_CASES, metavar="N", help="with --fuzz: how many (10000)"
    )
    parser.add_argument("--seed", default=SEED, metavar="S", help="with --fuzz: the seed (mutants)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="children beside each other",
    )
    parser.add_argument("--vectors", metavar="DIR", help="a folder with MANIFEST.json and vectors/")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write killers by mutant as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the mutants and give the exit code."""
    if options.testee:
        raise UsageError("mutate has its own testee; write nothing behind --")
    if options.jobs < 1 or options.cases < 1:
        raise UsageError("--jobs and --cases are at least 1")
    chosen = mutant_list.select(mutant_list.read(), options.only)
    if not chosen:
        raise UsageError(f"--only {' '.join(options.only)}: no such mutant")
    began = time.monotonic()
    problems = fuzzed(options, chosen) if options.fuzz else examined(options, chosen)
    for problem in problems:
        say(f"!! {problem}")
    ran = sum(m.is_fuzzed if options.fuzz else m.is_runnable for m in chosen)
    verdict = (
        f"{len(problems)} problems" if problems else "each is caught, the clean SDK raises nothing"
    )
    say(f"{ran} mutants in {time.monotonic() - began:.1f} s: {verdict}")
    return UNEXPECTED if problems else OK


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# --- by vectors -----------------------------------------------------------------------------


def examined(options: argparse.Namespace, chosen: Sequence[Mutant]) -> list[str]:
    """Run every mutant over the vectors that concern it."""
    loaded = vectors.load(places.golden_dir(options.vectors))
    cases = mutant_runs.of_testees(loaded.cases)
    subject = Subject()
    problems = unknown_killers(chosen, loaded)
    found: dict[str, Sequence[str]] = {}
    patches = [m for m in chosen if m.is_patch]
    if options.all:
        patches = [widened(m) for m in patches]
    work = partial(mutant_runs.by_vectors, subject, cases=cases)
    for result in mutant_runs.spread(work, [mutant_runs.clean(), *patches], options.jobs):
        if result.id:
            found[result.id] = result.killers
        else:
            problems += [f"the SDK as it is fails {id}" for id in result.killers]
    for mutant in chosen:
        if mutant.program:
            found[mutant.id] = by_program(mutant, loaded, cases)
    found |= harnesses([m for m in chosen if m.family == HARNESS_FAMILY], problems)
    problems += judged(chosen, found)
    problems += false_kills(loaded, found)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return problems


def widened(mutant: Mutant) -> Mutant:
    """Let every vector concern a mutant."""
    ops = (*mutant.ops, "*.*")
    return Mutant(mutant.id, mutant.text, mutant.family, ops, mutant.killed_by)


def unknown_killers(chosen: Iterable[Mutant], loaded: Vectors) -> list[str]:
    """Name killers that are neither vectors nor checks."""
    from mutants import checks, harness_checks  # noqa: PLC0415 - found once the list was read

    known = {case.id for case in loaded.cases} | set(checks.CHECKS) | set(harness_checks.names())
    return [
        f"{mutant.id}: killed_by names {killer}, which does not exist"
        for mutant in chosen
        for killer in mutant.killed_by
        if killer not in known
    ]


def by_program(mutant: Mutant, loaded: Vectors, cases: Sequence[Case]) -> list[str]:
    """Run a program of its own; what it does not try does not count."""
    killers: list[str] = []

    def passed(items: list[Item]) -> None:
        """Do nothing: a vector that passes does not kill."""

    def told(item: Item, verdict: judge.Verdict, trace: Trace) -> None:  # noqa: ARG001 - a Told
        if verdict.status != judge.SKIP:
            killers.append(item.case.id)

    command = [str(CONFORMANCE / "mutants" / mutant.program / "run")]
    session = Session(Testee(command), loaded.version, passed=passed, told=told)
    session.start()
    try:
        session.run([Item(case.id, case) for case in cases if mutant.concerns(case.op)])
    finally:
        session.abandon()
    return sorted(killers)


def harnesses(chosen: Sequence[Mutant], problems: list[str]) -> dict[str, Sequence[str]]:
    """Run the wrong harnesses, and the right one."""
    if not chosen:
        return {}
    from mutants import harness_checks  # noqa: PLC0415 - found once the list was read

    problems += [f"the harness as it is fails: {name}" for name in harness_checks.caught("")]
    return {mutant.id: harness_checks.caught(mutant.id) for mutant in chosen}


def judged(chosen: Iterable[Mutant], found: Mapping[str, Sequence[str]]) -> list[str]:
    """Print what caught each mutant; name those that survive and killers that do not kill."""
    problems: list[str] = []
    for mutant in chosen:
        if mutant.equivalent:
            say(f"{mutant.id}     -  {mutant.text}: equivalent, {mutant.equivalent}")
            continue
        killers = found[mutant.id]
        note = ""
        if not killers:
            problems.append(f"{mutant.id} survives: {mutant.text}")
        elif len(killers) == 1 and mutant.family != HARNESS_FAMILY:
            note = f" (only {killers[0]}: not removable)"
        say(f"{mutant.id} {len(killers):5}  {mutant.text}{note}")
        idle = [killer for killer in mutant.killed_by if killer not in killers]
        problems += [f"{mutant.id}: {killer} does not kill it" for killer in idle]
        if not mutant.killed_by:
            problems.append(f"{mutant.id}: killed_by names nothing")
    return problems


def false_kills(loaded: Vectors, found: Mapping[str, Sequence[str]]) -> list[str]:
    """Name vectors whose `kills` claims a mutant that they do not kill."""
    problems: list[str] = []
    for suite in loaded.suites:
        content = json.loads((loaded.root / "vectors" / f"{suite.name}.json").read_bytes())
        problems += [
            f"{case['id']} claims to kill {id}, and does not"
            for case in content["cases"]
            for id in case.get("kills", ())
            if id in found and case["id"] not in found[id]
        ]
    return problems


# --- by generated cases ---------------------------------------------------------------------


def fuzzed(options: argparse.Namespace, chosen: Sequence[Mutant]) -> list[str]:
    """Look for every mutant with the fuzzer."""
    subject = Subject()
    asked: Asked = mutant_runs.asked_cases(options.seed.encode(), options.cases)
    wanted = [m for m in chosen if m.is_fuzzed]
    problems: list[str] = []
    seams: Counter[str] = Counter()
    work = partial(mutant_runs.by_fuzz, subject, asked=asked)
    for result in mutant_runs.spread(work, [mutant_runs.clean(), *wanted], options.jobs):
        if not result.id and result.number is not None:
            problems.append(f"the SDK as it is fails case {result.number} of {result.grammar}")
        elif result.id and result.number is None and mutant_runs.DIED not in result.killers:
            problems.append(f"{result.id} is not found in {options.cases} cases")
        elif result.id:
            seams[result.grammar] += 1
            say(f"{result.id} {shown(result)}")
    for mutant in chosen:
        if mutant.vectors_only:
            say(f"{mutant.id}       -  vectors only: {mutant.vectors_only}")
    say(", ".join(f"{count} by {name}" for name, count in seams.most_common()))
    return problems


def shown(result: Found) -> str:
    place: Any = "died" if result.number is None else result.number
    return f"{place:>7}  {result.grammar}"
