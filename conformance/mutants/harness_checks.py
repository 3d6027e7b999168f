"""Wrong harnesses, all eight: those of `mutants.harness`, and the fuzzer that asks the majority."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from flk_conformance import cli, fuzz
from flk_conformance.respondent import Answer
from flk_conformance.run import UNEXPECTED

from .harness import FAULTS
from .harness import caught as caught_by_run
from .subject import CONFORMANCE

MAJORITY: Final = "Z07"
CHECK: Final = "two of three are wrong alike"
WRONG: Final = "R01"
CASES: Final = "400"


def names() -> list[str]:
    """Name every check of the harness."""
    return [CHECK, *(name for fault in FAULTS for name in fault.killed_by)]


def caught(id: str) -> list[str]:
    """Name the checks that notice a wrong harness; an empty id is the right one."""
    if id == MAJORITY:
        right = fuzz.faults
        fuzz.faults = majority
        try:
            return [] if holds() else [CHECK]
        finally:
            fuzz.faults = right
    if id:
        return caught_by_run(next(fault for fault in FAULTS if fault.id == id))
    return [*caught_by_run(None), *([] if holds() else [CHECK])]


def majority(expected: dict[str, Any], answers: Sequence[Answer]) -> list[str]:
    """Take for right what most testees say."""
    said = [repr(answer) for answer in answers]
    right, _ = Counter(said).most_common(1)[0]
    return ["" if answer == right else "in the minority" for answer in said]


def holds() -> bool:
    """Put two equal mutants and the right SDK before the fuzzer: only the two must be named."""
    mutant = [str(CONFORMANCE / "mutants" / "mutant.py"), "--as", WRONG]
    right = [str(CONFORMANCE / "testees" / "python" / "run")]
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(out):
        words = [
            "fuzz",
            "--cases",
            CASES,
            "--jobs",
            "1",
            "--shrink",
            "0s",
            "--finds",
            folder,
            "--grammar",
            "ties",
        ]
        code = cli.main([*words, "--", *mutant, "--", *mutant, "--", *right])
    blamed = {f"mutant-{WRONG.lower()} {place}" for place in (1, 2)}
    text = out.getvalue()
    return code == UNEXPECTED and all(name in text for name in blamed) and "sdk-python" not in text
