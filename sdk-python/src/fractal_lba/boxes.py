"""Count boxes and find the most coherent direction of a stream, in three passes over its blocks.

This file owns `N_j`, `coh_star` and `v_star`, all of points mapped to the unit cube. It needs
numpy, which `signals.py` loads on first use. The projections are sums in a fixed order, one product
after the other: a BLAS would add in an order of its own, and its last bit could move a point into
another bin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .points import Block, KeptBlocks

__all__ = ["BoxCounter", "Coherence", "Extent", "Measured", "measure"]

Progress = Callable[[str, int], None]
"""Called once a block with the pass ("read", "count", "project") and the points done in it."""

DIRECTIONS: Final = 100
"""Directions along which a stream is projected."""

BINS: Final = 20
"""Equal bins between the smallest and the largest projection of a direction."""

SPREAD_MIN: Final = 1e-9
"""Projections that spread no more than this are equal: one bin holds them all."""

CODE_END: Final = 2**62
"""Cells of a grid with fewer than this many cells are numbered by one integer."""

DENSE_CELLS_MAX: Final = 2**22
"""A grid of at most this many cells is a table of flags: 4 MiB, and linear time."""

PENDING_CELLS_MIN: Final = 2**16
"""Cells gathered before they are merged; merging at each doubling keeps the total linear."""


class Extent:
    """Hold the smallest and the largest value of each coordinate, and map points by them."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._low = np.full(dimensions, np.inf)
        self._high = np.full(dimensions, -np.inf)

    def include(self, block: Block) -> None:
        """Widen the extent by a block of points."""
        np.minimum(self._low, block.min(axis=0), out=self._low)
        np.maximum(self._high, block.max(axis=0), out=self._high)

    def unit(self, block: Block) -> Block:
        """Map each coordinate to (x - min) / (max - min), a constant one to 0."""
        span = self._high - self._low
        mapped: Block = (block - self._low) / np.where(span > 0, span, 1.0)
        return mapped


class BoxCounter:
    """Count the distinct cells min(floor(u s), s - 1) that hold a point, at one scale s."""

    def __init__(self, scale: int, dimensions: int) -> None:
        self._scale = scale
        cells = scale**dimensions
        self._numbered = cells < CODE_END
        self._flags = np.zeros(cells, np.bool) if cells <= DENSE_CELLS_MAX else None
        self._distinct: NDArray[Any] | None = None
        self._pending: list[NDArray[Any]] = []
        self._pending_cells = 0

    def add(self, unit: Block) -> None:
        """Take a block of points of the unit cube."""
        cells = np.minimum((unit * self._scale).astype(np.int64), self._scale - 1)
        codes = self._numbers(cells) if self._numbered else _rows_as_bytes(cells)
        if self._flags is not None:
            self._flags[codes] = True
            return
        fresh = np.unique(codes)
        self._pending.append(fresh)
        self._pending_cells += len(fresh)
        merged = 0 if self._distinct is None else len(self._distinct)
        if self._pending_cells >= max(merged, PENDING_CELLS_MIN):
            self._merge()

    def count(self) -> int:
        """Return N_j of all points so far."""
        if self._flags is not None:
            return int(np.count_nonzero(self._flags))
        self._merge()
        return 0 if self._distinct is None else len(self._distinct)

    def _numbers(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Read the cells of each point as the digits of one number, to the base of the scale."""
        codes = cells[:, 0].copy()
        for k in range(1, cells.shape[1]):
            codes *= self._scale
            codes += cells[:, k]
        return codes

    def _merge(self) -> None:
        parts = self._pending if self._distinct is None else [self._distinct, *self._pending]
        if self._pending:
            self._distinct = np.unique(np.concatenate(parts))
        self._pending = []
        self._pending_cells = 0


def _rows_as_bytes(cells: NDArray[np.int64]) -> NDArray[Any]:
    """View each row of cells as one opaque value that compares byte by byte."""
    narrow = np.ascontiguousarray(cells, np.uint32)  # a scale is below 2^31
    return narrow.view(np.dtype((np.void, 4 * cells.shape[1]))).ravel()


def draw_directions(seed: int, dimensions: int) -> Block:
    """Draw the directions: normal samples of PCG64, each row divided by its length."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = generator.standard_normal((DIRECTIONS, dimensions))
    squares = np.zeros(DIRECTIONS)
    for k in range(dimensions):
        squares += rows[:, k] * rows[:, k]
    directions: Block = rows / np.sqrt(squares)[:, np.newaxis]
    return directions


def project(unit: Block, directions: Block) -> Block:
    """Return points by directions, each the sum of x_k v_k for k = 0, 1, ... in that order."""
    total: Block = np.multiply.outer(unit[:, 0], directions[:, 0])
    for k in range(1, unit.shape[1]):
        total += np.multiply.outer(unit[:, k], directions[:, k])
    return total


class Coherence:
    """Find the direction along which one bin holds the largest share of the points.

    All blocks go through `measure`, then all of them through `fill`: the bins lie between the
    smallest and the largest projection of the whole stream.
    """

    def __init__(self, seed: int, dimensions: int) -> None:
        self._directions = draw_directions(seed, dimensions)
        self._low = np.full(DIRECTIONS, np.inf)
        self._high = np.full(DIRECTIONS, -np.inf)
        self._counts = np.zeros(DIRECTIONS * BINS, np.int64)
        self._first_bins = np.arange(DIRECTIONS) * BINS

    def measure(self, unit: Block) -> None:
        """Widen the range of each direction by a block of points."""
        projected = project(unit, self._directions)
        np.minimum(self._low, projected.min(axis=0), out=self._low)
        np.maximum(self._high, projected.max(axis=0), out=self._high)

    def fill(self, unit: Block) -> None:
        """Count a block of points into the bins of each direction."""
        spread = self._high - self._low
        scaled = project(unit, self._directions)
        scaled -= self._low
        scaled /= np.where(spread > SPREAD_MIN, spread, np.inf)
        scaled *= BINS
        bins = np.minimum(scaled.astype(np.int64), BINS - 1) + self._first_bins
        self._counts += np.bincount(bins.ravel(), minlength=len(self._counts))

    def best(self) -> tuple[float, list[float]]:
        """Return the largest share and the first direction that reaches it."""
        fullest = self._counts.reshape(DIRECTIONS, BINS).max(axis=1)
        index = int(np.argmax(fullest))
        points = int(self._counts[:BINS].sum())
        return int(fullest[index]) / points, self._directions[index].tolist()


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what the passes over a stream found."""

    counts: tuple[int, ...]
    share: float
    direction: list[float]


def measure(
    blocks: Iterable[Block],
    scales: tuple[int, ...],
    seed: int,
    *,
    on_read: Callable[[Block], None],
    on_progress: Progress,
) -> Measured | None:
    """Count boxes at each scale and find the direction; of no points, return None.

    `on_read` sees each block once, in order.
    """
    with KeptBlocks() as kept:
        extent = _read(blocks, kept, on_read, on_progress)
        if extent is None:
            return None
        counters = [BoxCounter(scale, extent.dimensions) for scale in scales]
        coherence = Coherence(seed, extent.dimensions)
        for block in _counted("count", kept.blocks(), on_progress):
            unit = extent.unit(block)
            coherence.measure(unit)
            for counter in counters:
                counter.add(unit)
        for block in _counted("project", kept.blocks(), on_progress):
            coherence.fill(extent.unit(block))
    share, direction = coherence.best()
    return Measured(tuple(counter.count() for counter in counters), share, direction)


def _read(
    blocks: Iterable[Block],
    kept: KeptBlocks,
    on_read: Callable[[Block], None],
    on_progress: Progress,
) -> Extent | None:
    extent = None
    for block in _counted("read", blocks, on_progress):
        if extent is None:
            extent = Extent(block.shape[1])
        extent.include(block)
        on_read(block)
        kept.keep(block)
    return extent


def _counted(name: str, blocks: Iterable[Block], on_progress: Progress) -> Iterator[Block]:
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        on_progress(name, done)
