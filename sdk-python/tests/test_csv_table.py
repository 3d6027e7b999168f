"""CSV files: which columns are taken, and what is refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fractal_lba.csv_table import CsvTable
from fractal_lba.errors import ConfigError, ValidationError
from fractal_lba.signals import summarize


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "data.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_every_column_of_finite_numbers_is_taken(csv_file: Callable[[str], Path]) -> None:
    path = csv_file("\ufeffday, a ,note,b\n1/1,1,x,+2.5e0\n1/2, 2 ,,.5\n\n")
    table = CsvTable(path)
    assert list(table.rows()) == [[1.0, 2.5], [2.0, 0.5]]
    assert table.columns == ("a", "b")
    given: dict[str, Any] = {"shard_id": "s", "epoch": 1, "sent_at": "2026-01-01T00:00:00Z"}
    expected = summarize([[1, 2.5], [2, 0.5]], **given)
    for source in (path, str(path), CsvTable(path, columns=["a", "b"])):
        assert summarize(source, **given) == expected


def test_columns_keep_the_order_of_the_caller(csv_file: Callable[[str], Path]) -> None:
    assert list(CsvTable(csv_file("a,b\n1,2\n"), columns=["b", "a"]).rows()) == [[2.0, 1.0]]


@pytest.mark.parametrize(
    "cell", ["", "nan", "inf", "1e999", "1_0", "0x10", "1,5", "\u0661", "1 2", "--1", "."]
)
def test_a_cell_that_is_no_finite_number_is_an_error_with_line_and_column(
    csv_file: Callable[[str], Path], cell: str
) -> None:
    quoted = f'"{cell}"'
    table = CsvTable(csv_file(f"a,b\n1,2\n3,{quoted}\n4,5\n"), columns=["b"])
    with pytest.raises(ValidationError, match=r"data\.csv: line 3: column 'b'"):
        list(table.rows())
    table.skip_bad_rows = True
    assert list(table.rows()) == [[2.0], [5.0]]
    assert table.rows_skipped == 1


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("", None, "line 1: expected a line that names the columns, got an empty file"),
        ("1,2\n3,4\n", None, "line 1: expected a line that names the columns, got numbers"),
        ("a,b\n1,x\n", ["c"], "column 'c': found 0 times in a, b"),
        ("a,a\n1,2\n", ["a"], "column 'a': found 2 times"),
        ("a,b\n1,2\n3\n", None, "line 3: expected 2 cells, got 1"),
        ("a,b\n1,2\n3\n", ["a"], "line 3: expected 2 cells, got 1"),
        ("a;b\n1;2\n", None, "cells are separated by commas"),
        ("a\nx\n", None, "'a' holds 'x' in line 2"),
        ('a\n"1\n', None, "not CSV: unexpected end of data"),
        (b"a\n\xff\n", None, "not UTF-8"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(
    csv_file: Callable[[str | bytes], Path], text: str | bytes, columns: Any, words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        list(CsvTable(csv_file(text), columns=columns).rows())
    assert words in str(caught.value)


def test_rows_of_another_width_are_skipped_and_counted(csv_file: Callable[[str], Path]) -> None:
    table = CsvTable(csv_file("a,b\n1,2\n3\n4,5\n"), skip_bad_rows=True)
    assert list(table.rows()) == [[1.0, 2.0], [4.0, 5.0]]
    assert (table.columns, table.rows_skipped) == (("a", "b"), 1)


def test_a_table_without_rows_has_no_points(csv_file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="at least one, got none"):
        summarize(csv_file("a,b\n"), shard_id="s", epoch=1)
