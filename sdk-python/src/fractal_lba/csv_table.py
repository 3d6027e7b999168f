"""Read the numbers of a CSV file, naming line and column of what is none."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from .errors import ValidationError

__all__ = ["CsvTable"]

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class CsvTable:
    """Read the numbers of a CSV file whose first line names the columns.

    Without `columns`, every column whose values are all finite numbers is taken. A value that is
    none is an error naming line and column, or, with `skip_bad_rows`, its row is left out and
    counted. `columns` and `rows_skipped` tell what was read, once it was read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        columns: Sequence[str] | None = None,
        skip_bad_rows: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self.columns: tuple[str, ...] | None = None if columns is None else tuple(columns)
        self.skip_bad_rows = skip_bad_rows
        self.rows_skipped = 0

    def rows(self) -> Iterator[list[float]]:
        """Yield the chosen numbers of each row."""
        if self.columns is None:
            self.columns = self._numeric_columns()
        self.rows_skipped = 0
        lines = self._lines()
        header = self._header(lines)
        places = [self._place(header, name) for name in self.columns]
        for line, cells in lines:
            try:
                yield self._numbers(line, cells, header, places)
            except ValidationError:
                if not self.skip_bad_rows:
                    raise
                self.rows_skipped += 1

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells; empty lines are no rows, as in every CSV reader."""
        with Path(self.path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
            except csv.Error as error:
                self._refuse(reader.line_num, f"not CSV: {error}")
            except UnicodeDecodeError:
                self._refuse(reader.line_num + 1, "at or after this line: not UTF-8")

    def _header(self, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
        line, header = next(lines, (1, []))
        names = [name.strip() for name in header]
        if not names:
            self._refuse(line, "expected a line that names the columns, got an empty file")
        if all(_number(name) is not None for name in names):
            self._refuse(line, "expected a line that names the columns, got numbers: add one")
        return names

    def _place(self, header: list[str], name: str) -> int:
        found = header.count(name)
        if found != 1:
            self._refuse(1, f"column {name!r}: found {found} times in {', '.join(header)}")
        return header.index(name)

    def _numbers(
        self, line: int, cells: list[str], header: list[str], places: list[int]
    ) -> list[float]:
        if len(cells) != len(header):
            self._refuse(line, f"expected {len(header)} cells, got {len(cells)}")
        row = []
        for place in places:
            number = _number(cells[place])
            if number is None:
                found = repr(cells[place])[:42] if cells[place] else "an empty cell"
                self._refuse(
                    line, f"column {header[place]!r}: expected a finite number, got {found}"
                )
            row.append(number)
        return row

    def _numeric_columns(self) -> tuple[str, ...]:
        lines = self._lines()
        header = self._header(lines)
        places = list(range(len(header)))
        last_text = ""
        for line, cells in lines:
            if len(cells) != len(header):
                if self.skip_bad_rows:
                    continue
                self._refuse(line, f"expected {len(header)} cells, got {len(cells)}")
            for place in [p for p in places if _number(cells[p]) is None]:
                places.remove(place)
                last_text = f"; {header[place]!r} holds {cells[place]!r:.40} in line {line}"
        if not places:
            hint = " (cells are separated by commas)" if len(header) == 1 else ""
            self._refuse(1, f"no column holds finite numbers only{last_text}{hint}")
        return tuple(header[place] for place in places)

    def _refuse(self, line: int, what: str) -> NoReturn:
        raise ValidationError("member_type", f"{self.path}: line {line}: {what}")


def _number(cell: str) -> float | None:
    """Read a decimal number; spellings that only Python knows (`1_0`, `nan`) are no numbers."""
    text = cell.strip(" \t")
    if _NUMBER.fullmatch(text) is None:
        return None
    value = float(text)
    return value if math.isfinite(value) else None
