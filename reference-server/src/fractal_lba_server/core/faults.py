"""Describe what is wrong in a configuration document: where, what, and how to mend it.

A document is checked as a whole, so that an operator sees every fault at once. No fault ever
quotes a value: the value at the wrong place may be a secret at the wrong place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fractal_lba.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Fault:
    """Name one fault by its JSON pointer, with the sentence that mends it."""

    pointer: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.problem}; {self.fix}"


class DocumentError(ConfigError):
    """Carry every fault of one document; its text has one line per fault."""

    def __init__(self, faults: Sequence[Fault], *, texts: Sequence[str] | None = None) -> None:
        text = "\n".join(texts if texts is not None else map(str, faults))
        super().__init__("config_invalid", text, pointer=faults[0].pointer)
        self.faults = tuple(faults)


def pointer_of(path: Sequence[str | int]) -> str:
    """Write a path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
