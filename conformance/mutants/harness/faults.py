"""The faults: each replaces one function of the harness, and names the checks that notice it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flk_conformance import judge, session, vectors, xfail
from flk_conformance.judge import FAIL, PASS, PASSED, Verdict
from flk_conformance.session import Session

from .checks import CHECKS


@dataclass(frozen=True, slots=True)
class Fault:
    """One function of the harness, replaced."""

    id: str
    text: str
    owner: Any
    name: str
    wrong: Callable[..., Any]
    killed_by: tuple[str, ...]


def always_equal(*_: object) -> bool:
    """Z01."""
    return True


strictly = xfail.settle


def lenient(verdict: Verdict, entry: xfail.Entry | None) -> Verdict:
    """Z02: a listed case that passes is fine."""
    return verdict if verdict.status == PASS else strictly(verdict, entry)


def crash_is_an_error(case: vectors.Case, how: str) -> Verdict:
    """Z03: whoever must refuse, and dies, has refused."""
    return PASSED if case.result == "invalid" else Verdict(FAIL, how)


def skip_is_a_pass(*_: object) -> Verdict:
    """Z04."""
    return PASSED


def silence_is_a_pass(*_: object) -> Verdict:
    """Z05."""
    return PASSED


by_name = Session._take


def by_order(self: Session, lines: list[str], open_items: session.Opened) -> None:
    """Z06: an answer belongs to the oldest request, whatever its `seq` says."""
    for line in lines:
        answer = {**json.loads(line), "seq": next(iter(open_items))}
        by_name(self, [json.dumps(answer)], open_items)


def hash_is_not_looked_at(*_: object) -> None:
    """Z08."""


FAULTS: Final = (
    Fault("Z01", "comparison always equal", judge, "equal", always_equal, (
        "a wrong answer fails", "another code fails",
    )),
    Fault("Z02", "xfail lenient", xfail, "settle", lenient, (
        "a listed case that passes fails",
    )),
    Fault("Z03", "crash taken for err", session, "crashed", crash_is_an_error, (
        "a crash is no error of the sdk",
    )),
    Fault("Z04", "skip taken for pass", judge, "judge_skip", skip_is_a_pass, (
        "a skip of a required operation fails",
    )),
    Fault("Z05", "missing answer ignored", session, "silent", silence_is_a_pass, (
        "a missing answer fails",
    )),
    Fault("Z06", "wrong seq accepted", Session, "_take", by_order, (
        "an answer under another name fails",
    )),
    Fault("Z08", "suite hash not checked", vectors, "check_hash", hash_is_not_looked_at, (
        "vectors that were changed are refused",
    )),
)  # fmt: skip


@contextmanager
def applied(fault: Fault | None) -> Iterator[None]:
    """Put a fault in, and take it out again."""
    if fault is None:
        yield
        return
    right = fault.owner.__dict__[fault.name]
    setattr(fault.owner, fault.name, fault.wrong)
    try:
        yield
    finally:
        setattr(fault.owner, fault.name, right)


def caught(fault: Fault | None) -> list[str]:
    """Name the checks that notice a fault; without one, those that fail on the harness as it is."""
    names = list(CHECKS) if fault is None else fault.killed_by
    with applied(fault):
        return [name for name in names if not holds(name)]


def holds(name: str) -> bool:
    """Say whether a check is content."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            CHECKS[name](Path(folder))
        except AssertionError:
            return False
    return True
