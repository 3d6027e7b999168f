"""Keep the outcomes of finished runs in a folder, so that an interrupted command goes on.

The invariant of this file: an outcome is given back only to the job, seed, versions and code
that made it. The first line of `outcomes.jsonl` says what the folder is about, each further one
is an outcome with its key. A last line that was torn by an interrupt is dropped; a folder that
is about another scenario is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from fractal_lba_server.drill.scenario import Scenario

from .playing import Job
from .versions import code_digest, package_versions

FILE: Final = "outcomes.jsonl"
FORMAT: Final = 1


class JournalError(Exception):
    """The folder cannot be gone on with; the message names it and says why."""


class Key(NamedTuple):
    """What an outcome follows from."""

    scenario_digest: str
    control: bool
    plants: tuple[str, ...]
    engine: str
    seed: int


def key_of(job: Job, seed: int) -> Key:
    """Name the outcome of a run."""
    return Key(job.digest, job.scenario.control, job.plants, job.engine, seed)


@dataclass(frozen=True, slots=True)
class Head:
    """What a folder is about, and with what its outcomes were made."""

    scenario: str
    digest: str
    versions: str
    code: str

    @classmethod
    def of(cls, scenario: Scenario) -> Head:
        """Say what a folder of this scenario is about today."""
        versions = ", ".join(f"{name} {of}" for name, of in package_versions().items())
        return cls(scenario.name, scenario.digest, versions, code_digest())

    def line(self) -> str:
        """Write the first line."""
        return _line({
            "journal": FORMAT, "scenario": self.scenario, "scenario_digest": self.digest,
            "versions": self.versions, "code": self.code,
        })  # fmt: skip


class Journal:
    """The outcomes of one folder; use it as a context."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.path = folder / FILE
        self.known: dict[Key, str] = {}
        self.outdated = False
        """Whether outcomes of other versions were found, and left out."""

        self._head = Head.of(scenario)
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._read()
        self._write_all()
        self._file = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            # In the order of keys: the folder has the same bytes however the runs were spread.
            self._write_all()

    def add(self, made: Iterable[tuple[Key, str]]) -> None:
        """Keep outcomes; they are in the file when this returns."""
        for key, outcome in made:
            self.known[key] = outcome
            self._file.write(_entry(key, outcome))
        self._file.flush()

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        whole, _, _torn = text.rpartition("\n")
        lines = whole.split("\n") if whole else []
        if not lines:
            return
        head = self._parsed(lines[0], 1)
        if head.get("journal") != FORMAT:
            message = f"{self.path}: is not a file of outcomes that this version reads"
            raise JournalError(message)
        self._refuse_other(head)
        if (head["versions"], head["code"]) != (self._head.versions, self._head.code):
            self.outdated = len(lines) > 1
            return
        for number, line in enumerate(lines[1:], 2):
            entry = self._parsed(line, number)
            key = Key(
                entry["scenario_digest"], entry["control"], tuple(entry["plants"]),
                entry["engine"], entry["seed"],
            )  # fmt: skip
            self.known[key] = _line(entry["outcome"])

    def _parsed(self, line: str, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except ValueError:
            message = f"{self.path}:{number}: is not JSON; move the file away to start anew"
            raise JournalError(message) from None
        if not isinstance(value, dict):
            message = f"{self.path}:{number}: is not an outcome; move the file away to start anew"
            raise JournalError(message)
        return value

    def _refuse_other(self, head: dict[str, Any]) -> None:
        if head["scenario_digest"] == self._head.digest:
            return
        what = f"scenario {head['scenario']}"
        if head["scenario"] == self._head.scenario:
            what += " as it was before it was changed"
        message = (
            f"{self.path.parent}: holds runs of {what} ({head['scenario_digest'][:16]}), not of "
            f"{self._head.scenario} ({self._head.digest[:16]}); name another folder with --out"
        )
        raise JournalError(message)

    def _write_all(self) -> None:
        part = self.path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            file.write(self._head.line() + "\n")
            file.writelines(_entry(key, self.known[key]) for key in sorted(self.known))
        part.replace(self.path)


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _entry(key: Key, outcome: str) -> str:
    return f'{_line(key._asdict())[:-1]},"outcome":{outcome}}}\n'
