"""Lists of expected failures and of flaky cases: `pattern  reason  url`, one a line.

Patterns match whole components of an id, `*` one and `**` any number; `#` begins a comment. A list
is strict both ways: a listed case that passes is unexpected, and so is a pattern that matches no
case. A flaky case is run three times, reported, and never decides.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .judge import CRASH, ERR_PROTOCOL, FAIL, PASS, SKIP, TIMEOUT, XFAIL, XPASS, Verdict

FLAKY_RUNS: Final = 3
"""How often a flaky case is run, so that a report can say how often it passed."""

UNEXPLAINED: Final = "unexplained  https://issue.example/"
"""What a rewritten list says of a new line, until somebody writes the reason and the issue."""

LISTABLE: Final = frozenset({FAIL, ERR_PROTOCOL, CRASH, TIMEOUT})


class ListError(Exception):
    """Say that a list cannot be read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list."""

    pattern: str
    reason: str
    url: str

    def matches(self, id: str) -> bool:
        return re.fullmatch(expression(self.pattern), id) is not None

    def __str__(self) -> str:
        return f"{self.pattern}  {self.reason}  {self.url}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A list, and the SHA-256 of its text for the header of a run."""

    entries: Sequence[Entry] = ()
    sha256: str = hashlib.sha256(b"").hexdigest()

    def entry_for(self, id: str) -> Entry | None:
        """Give the first entry that matches an id."""
        return next((entry for entry in self.entries if entry.matches(id)), None)

    def unmatched(self, ids: Iterable[str]) -> list[Entry]:
        """Give the entries that match none of all cases there are."""
        known = list(ids)
        return [entry for entry in self.entries if not any(map(entry.matches, known))]


def expression(pattern: str) -> str:
    """Turn a pattern into a regular expression over whole components."""
    parts = []
    for part in pattern.split("/"):
        if part == "**":
            parts.append(r".+")
        else:
            parts.append("".join("[^/]*" if char == "*" else re.escape(char) for char in part))
    return "/".join(parts)


def read(path: Path | None) -> Listed:
    """Read a list; no path is the empty one."""
    if path is None:
        return Listed()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"{path}: {error}") from error
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        words = [] if line.lstrip().startswith("#") else line.split()
        if not words:
            continue
        if len(words) < 3 or "://" not in words[-1]:
            raise ListError(f"{path}:{number}: expected `pattern  reason  url`, got {line!r}")
        entries.append(Entry(words[0], " ".join(words[1:-1]), words[-1]))
    return Listed(tuple(entries), hashlib.sha256(text.encode()).hexdigest())


def settle(verdict: Verdict, entry: Entry | None) -> Verdict:
    """Say what a verdict means for a case that may be listed as failing."""
    if entry is None:
        return verdict
    if verdict.status == PASS:
        message = f"listed as failing ({entry.reason}), and passes: remove the line"
        return Verdict(XPASS, message, "tp.47")
    if verdict.status in LISTABLE or (verdict.status == SKIP and verdict.required):
        return verdict._replace(status=XFAIL, message=f"{entry.reason} {entry.url}")
    return verdict


def is_unexpected(verdict: Verdict) -> bool:
    """Say whether a settled verdict fails a run (tp.47)."""
    return verdict.status in LISTABLE | {XPASS} or (verdict.status == SKIP and verdict.required)


def rewritten(text: str, failing: Collection[str], asked: Collection[str]) -> str:
    """Give a list that fits what was seen: lines about cases that pass go, new ones come.

    Comments stay, and so do lines about cases that were not asked.
    """
    lines, left = [], set(failing)
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            lines.append(line)
            continue
        entry = Entry(line.split()[0], "", "")
        matched = {id for id in failing if entry.matches(id)}
        if matched or not any(map(entry.matches, asked)):
            lines.append(line)
            left -= matched
    return "".join(
        f"{line}\n" for line in [*lines, *(f"{id}  {UNEXPLAINED}" for id in sorted(left))]
    )


def changes(name: str, before: str, after: str) -> list[str]:
    """Give the difference of two lists, as a person reads it."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} before", f"{name} after", lineterm="", n=0
    )
    return [f"{line}\n" for line in lines]
