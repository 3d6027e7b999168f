"""Read one YAML file strictly, and check it against its schema.

The invariant of this file: what it returns has no duplicate key, no alias, no tag and no date or
octal number that the writer did not mean; a value is text unless it is spelled as JSON spells
`true`, `false`, `null` or a number. Every fault names the file, the line, the JSON pointer and
the way to mend it, and quotes no value of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .core.faults import DocumentError, Fault, pointer_of

DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
"""A configuration file larger than this is refused unread; 10,000 tenants need about 5 MiB."""

DEPTH_MAX = 32
"""Nested lists and mappings of a file; no schema of the project needs more than six."""

# The C parser reads ten times faster; both yield the same events. The composer of either is not
# used: it recurses without a bound, and in C that ends the process.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Document:
    """Hold the value of a file and the line of each of its nodes, by JSON pointer."""

    path: Path
    value: Any
    lines: dict[str, int]

    def error(self, faults: Sequence[Fault]) -> DocumentError:
        """Build the error that places these faults in this file, in the order of its lines."""
        ordered = sorted(faults, key=self._line_of)
        texts = [f"{self.path}:{self._line_of(fault)}: {fault}" for fault in ordered]
        return DocumentError(ordered, texts=texts)

    def _line_of(self, fault: Fault) -> int:
        """Return the line of a fault: of its node, or of the nearest node around it."""
        pointer = fault.pointer
        while pointer and pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer, 1)


def read_document(path: Path) -> Document:
    """Read a file; raises DocumentError, or OSError where it cannot be opened."""
    with path.open("rb") as file:
        data = file.read(DOCUMENT_BYTES_MAX + 1)
    return parse_document(path, data)


def parse_document(path: Path, data: bytes) -> Document:
    """Parse the bytes of a file; `path` is for messages only."""
    lines: dict[str, int] = {}
    try:
        value = _Builder(_text_of(data), lines).document()
    except _RefusedError as refused:
        raise Document(path, None, lines).error([refused.fault]) from None
    except yaml.YAMLError as error:
        # Only the parser's own words: its full text quotes the line, which may hold a secret.
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "a character that YAML does not allow"
        fault = Fault("", f"not YAML: {problem}", "mend the syntax near this line")
        lines[""] = 1 if mark is None else mark.line + 1
        raise Document(path, None, lines).error([fault]) from None
    return Document(path, value, lines)


class _RefusedError(Exception):
    """Carry the one structural fault at which reading stops."""

    def __init__(self, pointer: str, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fault = Fault(pointer, problem, fix)


def _text_of(data: bytes) -> str:
    if len(data) > DOCUMENT_BYTES_MAX:
        raise _RefusedError("", f"larger than {DOCUMENT_BYTES_MAX} bytes", "make it smaller")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _RefusedError(
            "", f"byte {error.start} is not UTF-8", "save the file as UTF-8"
        ) from None


class _Builder:
    """Build plain values from the events of one document, noting the line of each."""

    def __init__(self, text: str, lines: dict[str, int]) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_PARSER)
        self._lines = lines

    def document(self) -> Any:
        next(self._events)  # the stream starts
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise _RefusedError("", "the file is empty", "write the settings into it")
        value = self._node(next(self._events), ())
        next(self._events)  # the document ends
        if not isinstance(next(self._events), yaml.StreamEndEvent):
            raise _RefusedError("", "more than one document", "keep one, without lines of ---")
        return value

    def _node(self, event: Any, path: tuple[str | int, ...]) -> Any:
        pointer = pointer_of(path)
        self._lines.setdefault(pointer, _line_of(event))
        if event.anchor is not None:
            raise _RefusedError(pointer, "an anchor or alias", "write the value out")
        if event.tag is not None:
            raise _RefusedError(pointer, "a tag", "remove it")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else _plain_value(event.value)
        if len(path) >= DEPTH_MAX:
            raise _RefusedError(pointer, f"nests deeper than {DEPTH_MAX}", "make it flatter")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _sequence(self, path: tuple[str | int, ...]) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._node(event, (*path, len(values))))
        return values

    def _mapping(self, path: tuple[str | int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _RefusedError(pointer_of(path), "a key that is not text", "give it a name")
            key = str(event.value)
            here = (*path, key)
            self._lines[pointer_of(here)] = _line_of(event)
            if key in values:
                raise _RefusedError(
                    pointer_of(here), "the key appears twice", "keep one of the two"
                )
            values[key] = self._node(next(self._events), here)
        return values


def _line_of(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _plain_value(text: str) -> str | int | float | bool | None:
    """Read an unquoted value as JSON would, so that 012, no and 12:30 stay the text they are."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
