"""Summarise a stream of points as a record, ready to be signed.

This file owns the canonical rows, the Merkle root over them and `r`; `boxes.py` owns the counts
and the direction, `estimate.py` what follows from both, `points.py` what a point may be. A stream
is read once and kept for two more passes, in memory up to 64 MiB and in a temporary file above.
Time is linear in the values, but for the sorting of cells. Memory grows with the stream only by the
distinct cells of grids too large for a table (`boxes.py`): 8 bytes each while s^d < 2^62, else 4 d.

A summary is computed once and re-sent, never recomputed: another machine's zlib, or another
release of numpy, may differ in the last digit, and the server would see other content under the
same id.

    >>> record = summarize([[0.0], [0.25], [0.5], [1.0]], shard_id="s", epoch=1, scales=(2, 4),
    ...                    sent_at="2026-01-01T00:00:00Z")
    >>> dict(record.N_j), record.D_hat
    ({'2': 2, '4': 4}, 1.0)
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from .canonical import jcs, rounded
from .csv_table import CsvTable
from .errors import ConfigError
from .estimate import estimate
from .merkle import MerkleRoot
from .record import Record

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from .boxes import Progress
    from .clock import Clock
    from .points import Block

__all__ = ["DEFAULT_SCALES", "CanonicalRows", "CsvTable", "summarize"]

DEFAULT_SCALES: Final = (2, 4, 8, 16, 32, 64)
"""Cells per unit at which boxes are counted when the caller names no scales."""

CHUNK_BYTES: Final = 64
"""Length of a Merkle leaf; the last one of a stream may be shorter."""

ZLIB_LEVEL: Final = 6
"""Compression level by which `r` is measured."""


class CanonicalRows:
    """Hash and compress the text of the points as they pass; nothing of the text is kept."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(ZLIB_LEVEL)
        self._tree = MerkleRoot()
        self._rest = b""
        self._raw_bytes = 0
        self._packed_bytes = 0

    def add(self, block: Block) -> None:
        """Take the next points: numbers in ECMAScript form, `,` between, LF after each point."""
        text = jcs(block.tolist())[2:-2].replace(b"],[", b"\n") + b"\n"
        self._raw_bytes += len(text)
        self._packed_bytes += len(self._compressor.compress(text))
        data = self._rest + text
        whole = len(data) - len(data) % CHUNK_BYTES
        for start in range(0, whole, CHUNK_BYTES):
            self._tree.add(data[start : start + CHUNK_BYTES])
        self._rest = data[whole:]

    def finish(self) -> tuple[str, float]:
        """Return the Merkle root in hex, and the compressed share of the bytes, at most 1."""
        if self._rest:
            self._tree.add(self._rest)
        packed_bytes = self._packed_bytes + len(self._compressor.flush())
        return self._tree.digest().hex(), min(1.0, packed_bytes / self._raw_bytes)


def summarize(
    points: NDArray[Any] | str | os.PathLike[str] | CsvTable | Iterable[Any],
    *,
    shard_id: str,
    epoch: int,
    scales: Sequence[int] = DEFAULT_SCALES,
    seed: int = 0,
    attempt: int = 1,
    sent_at: str | None = None,
    clock: Clock | None = None,
    on_progress: Callable[[str, int], None] | None = None,
) -> Record:
    """Summarise points: an array (points by coordinates), a CSV file, or an iterable of rows.

    `sent_at` is the time of `clock`, by default the system's, unless given. Raises
    ValidationError for a value that is no finite number or an argument outside the record's
    domain, ConfigError for points that are none, and where numpy is missing.
    """
    grid = tuple(scales)
    given: dict[str, Any] = {
        "shard_id": shard_id,
        "epoch": epoch,
        "attempt": attempt,
        "sent_at": _now_text(clock) if sent_at is None else sent_at,
        "seed": seed,
        "scales": grid,
    }
    # A wrong argument is refused now, not after an hour of reading.
    Record(**given, **_PLACEHOLDER, N_j=dict.fromkeys(map(str, grid), 1))
    measured = _measure(points, grid, seed, on_progress or _no_progress)
    derived = estimate(grid, measured["N_j"], measured["coh_star"], measured["r"])
    return Record(**given, **measured, **asdict(derived))


_PLACEHOLDER: Final[dict[str, Any]] = {
    "merkle_root": "0" * 64,
    "r": 0.0,
    "coh_star": 0.0,
    "v_star": (1.0,),
    "D_hat": 0.0,
    "regime": "mixed",
    "budget": 0.0,
}


def _measure(
    points: Any, scales: tuple[int, ...], seed: int, on_progress: Progress
) -> dict[str, Any]:
    try:
        from .boxes import measure  # noqa: PLC0415 - numpy is an optional extra
        from .points import read_blocks  # noqa: PLC0415 - the same
    except ModuleNotFoundError as error:
        raise ConfigError(
            "config_invalid",
            f"summarize needs {error.name}; install it: pip install 'fractal-lba[signals]'",
        ) from None
    text = CanonicalRows()
    blocks = read_blocks(points)
    boxes = measure(blocks, scales, seed, on_read=text.add, on_progress=on_progress)
    if boxes is None:
        raise ConfigError("config_invalid", "points: expected at least one, got none")
    merkle_root, r = text.finish()
    return {
        "merkle_root": merkle_root,
        "r": rounded(r),
        "N_j": dict(zip(map(str, scales), boxes.counts, strict=True)),
        "coh_star": rounded(boxes.share),
        "v_star": boxes.direction,
    }


def _no_progress(name: str, points: int) -> None:
    """Tell nobody."""


def _now_text(clock: Clock | None) -> str:
    now_ms = time.time_ns() // 1_000_000 if clock is None else clock.now_ms()
    return datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
