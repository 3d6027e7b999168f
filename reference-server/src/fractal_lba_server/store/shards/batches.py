"""What all engines of a dedup shard have in common: limits, and batches without a key twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ...core.first_write import Key

CALL_S: Final = 2.0
"""Longest round trip to a dedup shard; beyond it the answer is "unavailable"."""

LATE_MS: Final = 2_500
"""Age at which an engine refuses a statement: `CALL_S`, and the skew of its clock against ours. A
server that hung carries out nothing afterwards that its caller gave up long ago."""

BATCH_MAX: Final = 1_000
"""Most keys of one statement; longer batches are cut, so that others get their turn."""

SCAN_MAX: Final = 10_000
"""Most entries that one call of `scan` gives."""

DIGEST_PAGE: Final = 4_096
"""Entries that are read at a time to digest a range."""

ROUNDS_MAX: Final = 3
"""Times that an engine asks again because a row was released between two of its statements."""

Clock = Callable[[], int]


def unix_ms() -> int:
    """Read the clock that expiry is judged by."""
    return time.time_ns() // 1_000_000


def late_ms() -> int:
    """Give the time after which a statement that is sent now must not be carried out."""
    return unix_ms() + LATE_MS


def parts(size: int) -> Iterator[range]:
    """Cut a batch into statements of which none is too long."""
    for start in range(0, size, BATCH_MAX):
        yield range(start, min(start + BATCH_MAX, size))


def rounds(keys: Sequence[Key]) -> Iterator[list[int]]:
    """Cut a batch into statements: in each no key stands twice, and none is too long."""
    waiting = list(range(len(keys)))
    while waiting:
        seen: set[Key] = set()
        now: list[int] = []
        later: list[int] = []
        for index in waiting:
            fits = len(now) < BATCH_MAX and keys[index] not in seen
            seen.add(keys[index])
            (now if fits else later).append(index)
        yield now
        waiting = later
