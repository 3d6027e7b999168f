"""Read records from files and stdin: one JSON document, or one record a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .canonical import MAX_RECORD_BYTES
from .errors import ValidationError

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """Hold the text of one record and where it stands."""

    text: bytes
    where: str


def read_sources(paths: Iterable[str]) -> Iterator[Source]:
    """Yield the records of each file in turn; `-` is stdin.

    A file whose first line is a whole JSON value has one record a line (NDJSON); else it is one
    document. Lines are read as they come, so a pipe may go on for ever. A line that is too long
    ends its file: what follows cannot be told apart. Raises ValidationError then, and OSError.
    """
    for path in paths:
        if path == STDIN:
            yield from _read(sys.stdin.buffer, "stdin")
        else:
            with Path(path).open("rb") as file:
                yield from _read(file, path)


def _read(file: BinaryIO, name: str) -> Iterator[Source]:
    found = False
    number = 0
    # One byte more than a record may have, and one for the line end.
    while line := file.readline(MAX_RECORD_BYTES + 2):
        number += 1
        text = line.strip(b" \t\r\n")
        if not text:
            continue
        if not found and not _is_whole(text):
            yield Source(line + file.read(MAX_RECORD_BYTES + 1), name)
            return
        if len(text) > MAX_RECORD_BYTES:
            raise ValidationError(
                "payload_too_large",
                f"{name} line {number}: a record has at most {MAX_RECORD_BYTES} bytes",
            )
        found = True
        yield Source(text, f"{name} line {number}")
    if not found:
        raise ValidationError("json_malformed", f"{name}: expected a record, got nothing")


def _is_whole(text: bytes) -> bool:
    """Tell whether a line is a JSON value by itself; how strictly, the record's parser decides."""
    try:
        json.loads(text)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True
