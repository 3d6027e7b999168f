"""Read `conformance/mutants/list.toml`: every wrong implementation, and what catches it."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from .places import MissingError

CONFORMANCE: Final = Path(__file__).resolve().parents[1]
LIST: Final = CONFORMANCE / "mutants" / "list.toml"

CHECK: Final = "check/"
"""A killer with this prefix is no vector but a check of `mutants/checks.py`."""

HARNESS_FAMILY: Final = "Z"
"""Wrong harnesses: their killers are checks of the harness, by name."""

FUZZED_FAMILIES: Final = frozenset("RNSKVCPWET")
"""Families whose mutants the fuzzer must find, unless an entry says why it cannot."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong implementation.

    `ops` are the operations that can show it. `equivalent` says why nothing can; `vectors_only`
    why the fuzzer cannot. `program` is the folder of one that is a program of its own.
    """

    id: str
    text: str
    family: str
    ops: Sequence[str] = ()
    killed_by: Sequence[str] = ()
    equivalent: str = ""
    vectors_only: str = ""
    program: str = ""

    @property
    def is_runnable(self) -> bool:
        return not self.equivalent

    @property
    def is_patch(self) -> bool:
        """Say whether it is a change of the Python SDK in this process."""
        return self.is_runnable and not self.program and self.family != HARNESS_FAMILY

    @property
    def is_fuzzed(self) -> bool:
        """Say whether the fuzzer must find it."""
        return self.is_patch and self.family in FUZZED_FAMILIES and not self.vectors_only

    def concerns(self, op: str) -> bool:
        """Say whether cases of an operation can show it."""
        return any(fnmatchcase(op, glob) for glob in self.ops)


def read(path: Path = LIST) -> list[Mutant]:
    """Read the list. Raises MissingError outside a checkout."""
    if not path.is_file():
        raise MissingError("mutate needs a checkout: mutants/list.toml is not there")
    if str(CONFORMANCE) not in sys.path:
        sys.path.insert(0, str(CONFORMANCE))
    rows: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**row) for row in rows]


def select(mutants: Iterable[Mutant], only: Sequence[str]) -> list[Mutant]:
    """Keep those whose id, or beginning of an id, is named; all if nothing is."""
    return [m for m in mutants if not only or any(m.id.startswith(word) for word in only)]
