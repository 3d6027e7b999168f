"""The one exception of the oracle: a code of `spec/errors.json`, and where."""

from __future__ import annotations


class Fault(Exception):
    """Say that an input is invalid, with the code that every implementation must give."""

    def __init__(self, code: str, pointer: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.pointer = pointer
