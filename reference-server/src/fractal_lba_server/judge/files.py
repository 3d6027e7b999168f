"""Judge a trace in a file, line by line or as columns, whichever its size asks for.

The invariant of this file: both ways give the same verdicts, so that a size chooses between them
and no person has to.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from .callers import Caller
from .check import Report, judged
from .intake import Columns, read_columns
from .parts import Records
from .trace import Trace, TraceError, read_trace

__all__ = ["LISTED_BYTES_MAX", "ColumnTrace", "TraceError", "check_file", "require_numpy"]

LISTED_BYTES_MAX: Final = 32 << 20
"""A longer trace is judged as columns: a line costs ten times its bytes as an object."""


class ColumnTrace(Trace):
    """A trace whose puts, gets, calls and held lines are columns."""

    def __init__(self, columns: Columns) -> None:
        """Take columns. Raises TraceError, also where numpy is not installed."""
        super().__init__(columns.others)
        self._columns = columns
        self.end_ns = columns.end_ns
        self.size = columns.lines
        require_numpy()

    @property
    def ended(self) -> bool:
        """Say whether the trace came to its end."""
        return self._columns.last == "end"

    @cached_property
    def records(self) -> Records:
        """Give the single records."""
        from .columns import ColumnRecords  # noqa: PLC0415 - it needs numpy

        return ColumnRecords(self._columns, self.census_at, self.of)

    def listed_calls(self) -> Mapping[str, Caller]:
        """Give the calls of each client that are written one by one."""
        from .columns import calls_of  # noqa: PLC0415 - it needs numpy

        return calls_of(self._columns, self.patience_ns)


def require_numpy() -> None:
    """Raise TraceError where numpy is not installed."""
    try:
        import numpy  # noqa: F401, ICN001, PLC0415 - it is not required for short traces
    except ImportError:
        said = "a trace of this size is judged as columns, which needs numpy: pip install numpy"
        raise TraceError(said) from None


def check_file(path: Path, *, listed_bytes_max: int | None = None) -> Report:
    """Judge the trace in a file. Raises TraceError and OSError."""
    limit = LISTED_BYTES_MAX if listed_bytes_max is None else listed_bytes_max
    if path.stat().st_size <= limit:
        with path.open(encoding="utf-8") as lines:
            return judged(Trace(read_trace(lines)))
    require_numpy()
    with path.open("rb") as trace:
        return judged(ColumnTrace(read_columns(trace)))
