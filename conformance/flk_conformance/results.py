"""Write and read `results.ndjson`, from which every report is made.

One JSON object a line, in this order:

    {"type":"header","tool","kind","subject","vectors","suite_hash","protocol","testee",
     "policies","xfail_sha256","command":[...],"seed"}
    {"type":"result","id","status","suite","op","level","flags":[...],"unexpected"?,"message"?,
     "sentence"?,"spec"?,"comment"?,"expected"?,"actual"?,"stderr"?,"wire"?,"repeat"?}
    {"type":"footer","totals":{status:count},"unexpected","exit","seconds","complete","error"?}

`kind` is `testee`, `server`, `interop` or `fuzz`; `subject` names what was judged, `a x b` for an
SDK against a server. A later line about an id replaces an earlier one. Without a footer the run
broke off. Members that are not known are null in the header and absent elsewhere.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from . import PROTOCOL, TOOL
from .judge import PASS, STATUSES

Members = dict[str, Any]

HEADER: Final[Mapping[str, Any]] = {
    "type": "header", "tool": TOOL, "kind": "testee", "subject": None, "vectors": None,
    "suite_hash": None, "protocol": PROTOCOL, "testee": None, "policies": None,
    "xfail_sha256": None, "command": [], "seed": None,
}  # fmt: skip

VALUE_CHARACTERS: Final = 8_000
"""How much of one value is kept; a longer one is cut in its middle and says so."""


def line_of(members: Mapping[str, Any]) -> str:
    """Encode one line."""
    return json.dumps(members, separators=(",", ":")) + "\n"


def cut(value: Any) -> Any:
    """Shorten long texts inside a value, and spell what no file can hold: a lone surrogate."""
    if isinstance(value, str):
        text = value.encode("utf-8", "backslashreplace").decode("utf-8")
        left_out = len(text) - VALUE_CHARACTERS
        half = VALUE_CHARACTERS // 2
        return text if left_out <= 0 else f"{text[:half]}... {left_out} more ...{text[-half:]}"
    if isinstance(value, Mapping):
        return {name: cut(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [cut(item) for item in value]
    return value


class Writer:
    """Write a run as it goes; without a path only count."""

    def __init__(self, path: Path | None, header: Mapping[str, Any]) -> None:
        self.counts: Counter[str] = Counter()
        self._unexpected: set[str] = set()
        self._out: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._out = path.open("w", encoding="utf-8")
            self._out.write(line_of({**HEADER, **header}))

    @property
    def is_kept(self) -> bool:
        return self._out is not None

    @property
    def unexpected(self) -> int:
        """Count the results that fail the run."""
        return len(self._unexpected)

    def passed(self, count: int, lines: Sequence[str]) -> None:
        """Take in cases that passed; `lines` are theirs if the run is kept."""
        self.counts[PASS] += count
        if self._out is not None:
            self._out.writelines(lines)

    def result(self, members: Members, *, replaces: str | None = None) -> None:
        """Take in any other result, `cut`; `replaces` is the status that its id had before."""
        if replaces is not None:
            self.counts[replaces] -= 1
        self.counts[members["status"]] += 1
        if "unexpected" in members:
            self._unexpected.add(members["id"])
        if self._out is not None:
            self._out.write(line_of({"type": "result", **members}))

    def close(self, code: int, seconds: float, *, error: str | None = None) -> None:
        """End the file; `error` says why a run broke off."""
        if self._out is None:
            return
        totals = {status: self.counts[status] for status in STATUSES if self.counts[status]}
        footer: Members = {
            "type": "footer", "totals": totals, "unexpected": self.unexpected, "exit": code,
            "seconds": round(seconds, 3), "complete": error is None,
        }  # fmt: skip
        self._out.write(line_of(footer if error is None else {**footer, "error": error}))
        self._out.close()
        self._out = None


# --- reading -------------------------------------------------------------------------------


class ResultsError(Exception):
    """Say that a file is no run."""


@dataclass(slots=True)
class Run:
    """A run as a report needs it."""

    header: Members
    results: dict[str, Members] = field(default_factory=dict)
    footer: Members = field(default_factory=dict)

    @property
    def subject(self) -> str:
        return str(self.header.get("subject") or "unknown")

    @property
    def is_complete(self) -> bool:
        return bool(self.footer.get("complete"))

    def unexpected(self) -> list[Members]:
        """Give the results that fail the run."""
        return [found for found in self.results.values() if found.get("unexpected")]

    def by_status(self, *statuses: str) -> list[Members]:
        """Give the results with one of these statuses."""
        return [found for found in self.results.values() if found["status"] in statuses]

    def totals(self) -> Counter[str]:
        """Count the statuses."""
        return Counter(found["status"] for found in self.results.values())


def read(path: Path) -> Run:
    """Read a run; one that broke off, even in the middle of a line, is read as far as it goes."""
    lines = path.read_text(encoding="utf-8").split("\n")
    run: Run | None = None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            found = json.loads(line)
            kind = found["type"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ResultsError(f"{path}:{number}: no line of results: {error}") from error
        if run is None:
            if kind != "header":
                raise ResultsError(f"{path}: the first line is no header")
            run = Run(found)
        elif kind == "result":
            run.results[found["id"]] = found
        elif kind == "footer":
            run.footer = found
    if run is None:
        raise ResultsError(f"{path}: empty")
    return run
