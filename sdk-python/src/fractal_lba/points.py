"""Read points of an array, a CSV file or an iterator of rows as blocks of finite doubles.

This file owns what a point may be. It needs numpy, which `signals.py` loads on first use. A block
is a C-contiguous array of at most `block_rows(d)` points by d coordinates; a stream is read once,
and `KeptBlocks` keeps its blocks for the later passes in bounded memory.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from numbers import Real
from types import TracebackType
from typing import IO, Any, Final, NoReturn, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .csv_table import CsvTable
from .errors import ConfigError, ValidationError

__all__ = ["Block", "KeptBlocks", "block_rows", "read_blocks"]

Block: TypeAlias = NDArray[np.float64]

DIMENSIONS_MAX: Final = 2048
"""Most coordinates of a point: a record carries a direction of as many numbers in 64 KiB."""

COORDINATE_MAX: Final = 2.0**1022
"""Largest magnitude of a coordinate: the span of two is still a finite double."""

BLOCK_VALUES: Final = 2**18
"""Most doubles that a pass holds for one block: 2 MiB, small enough for a cache."""

POINT_VALUES_MIN: Final = 100
"""Doubles that a pass holds for a point of fewer coordinates: its projections."""

KEPT_MEMORY_BYTES_MAX: Final = 64 * 2**20
"""Points kept in memory between the passes; above it they go to an unnamed temporary file."""


def block_rows(dimensions: int) -> int:
    """Return how many points of so many coordinates make one block."""
    return BLOCK_VALUES // max(dimensions, POINT_VALUES_MIN)


def read_blocks(points: Any) -> Iterator[Block]:
    """Yield the points of an array, a CSV file (path or `CsvTable`) or an iterable, checked.

    A one-dimensional array, or an iterable of numbers, is a stream of points of one coordinate.
    Raises ValidationError for a value that is no finite number, ConfigError for points that are
    no points.
    """
    if isinstance(points, str | os.PathLike):
        points = CsvTable(points)
    if isinstance(points, CsvTable):
        return _row_blocks(points.rows())
    if hasattr(points, "__array__"):
        return _array_blocks(np.asarray(points))
    if isinstance(points, Iterable) and not isinstance(points, bytes | bytearray):
        return _row_blocks(points)
    raise ConfigError(
        "config_invalid",
        f"points: expected an array, a CSV path or rows of numbers, got {type(points).__name__}",
    )


def _check_dimensions(dimensions: int) -> None:
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise ConfigError(
            "config_invalid",
            f"points: expected 1 to {DIMENSIONS_MAX} coordinates, got {dimensions}",
        )


def _array_blocks(array: NDArray[Any]) -> Iterator[Block]:
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise ConfigError(
            "config_invalid",
            "points: expected an array of points by coordinates, integers or floats, "
            f"got {array.ndim} axes of {array.dtype}",
        )
    _check_dimensions(array.shape[1])
    step = block_rows(array.shape[1])
    for start in range(0, len(array), step):
        yield _checked(np.ascontiguousarray(array[start : start + step], np.float64), start)


def _checked(block: Block, first_row: int) -> Block:
    """Return the block, or refuse its first value that is not a usable number."""
    usable = np.abs(block) <= COORDINATE_MAX  # false for NaN as well
    if not usable.all():
        row, column = (int(i) for i in np.argwhere(~usable)[0])
        _refuse_value(first_row + row, column, float(block[row, column]))
    return block


def _refuse_value(row: int, column: int, value: object) -> NoReturn:
    where = f"points: row {row}, column {column}"
    if not isinstance(value, float):
        found = f"{type(value).__name__} {value!r:.40}"
        raise ValidationError("member_type", f"{where}: expected a number, got {found}")
    if math.isfinite(value):
        limit = f"a magnitude of at most 2^1022, got {value}"
        raise ValidationError("number_out_of_range", f"{where}: expected {limit}")
    raise ValidationError("number_not_finite", f"{where}: expected a finite number, got {value}")


def _row_blocks(rows: Iterable[Any]) -> Iterator[Block]:
    """Gather rows into blocks; the first row says how many coordinates a point has."""
    iterator = iter(rows)
    head = list(islice(iterator, 1))
    if not head:
        return
    scalar = isinstance(head[0], Real)
    dimensions = 1 if scalar else _width(head[0], 0)
    _check_dimensions(dimensions)
    step = block_rows(dimensions)
    done = 0
    everything = chain(head, iterator)
    while batch := list(islice(everything, step)):
        block = _exact_block([(row,) for row in batch] if scalar else batch, dimensions, done)
        yield _checked(block, done)
        done += len(batch)


def _width(row: Any, index: int) -> int:
    if not isinstance(row, Sequence | np.ndarray) or isinstance(row, str | bytes):
        raise ValidationError(
            "member_type",
            f"points: row {index}: expected a sequence of numbers, got {type(row).__name__}",
        )
    return len(row)


def _exact_block(batch: list[Any], dimensions: int, first_row: int) -> Block:
    """Convert rows of numbers; text, truth values and ragged rows are refused, not guessed at."""
    for index, row in enumerate(batch, first_row):
        if _width(row, index) != dimensions:
            raise ValidationError(
                "member_type",
                f"points: row {index}: expected {dimensions} coordinates, got {len(row)}",
            )
        for column, value in enumerate(row):
            kind = type(value)
            if kind is float or kind is int:
                continue
            if isinstance(value, bool) or not isinstance(value, Real):
                _refuse_value(index, column, value)
    try:
        return np.array(batch, dtype=np.float64)
    except OverflowError:  # an integer beyond every double
        raise ValidationError(
            "number_out_of_range", f"points: rows from {first_row}: an integer is beyond 2^1022"
        ) from None


class KeptBlocks:
    """Keep blocks for repeated reading: in memory up to a limit, then in a temporary file."""

    def __init__(self, *, memory_bytes_max: int = KEPT_MEMORY_BYTES_MAX) -> None:
        self._memory_bytes_left = memory_bytes_max
        self._memory: list[Block] = []
        self._file: IO[bytes] | None = None
        self._dimensions = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._memory.clear()
        if self._file is not None:
            self._file.close()

    def keep(self, block: Block) -> None:
        """Append a block; a view of the caller's array takes no memory of its own."""
        if block.flags.owndata:
            self._memory_bytes_left -= block.nbytes
        if self._file is None and self._memory_bytes_left >= 0:
            self._memory.append(block)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        self._dimensions = block.shape[1]
        self._file.write(block.data)

    def blocks(self) -> Iterator[Block]:
        """Yield all points again, in order."""
        yield from self._memory
        if self._file is None:
            return
        self._file.seek(0)
        block_bytes = block_rows(self._dimensions) * self._dimensions * 8
        while data := self._file.read(block_bytes):
            yield np.frombuffer(data, np.float64).reshape(-1, self._dimensions)
