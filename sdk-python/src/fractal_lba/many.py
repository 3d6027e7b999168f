"""Answer many records beside each other, in the order of the input, reading it lazily.

The input is read at most `WINDOW` times the width ahead of what was yielded, in the thread of the
caller. What it raises is raised last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, TypeVar

from .base import Item

R = TypeVar("R")

WINDOW: Final = 2
"""The input is read this many times the width ahead of the output."""


class _Source(Iterator[tuple[int, R]]):
    """Number the records, and keep what the input raises for later."""

    def __init__(self, records: Iterable[R]) -> None:
        self._records = enumerate(records)
        self.failure: Exception | None = None

    def __next__(self) -> tuple[int, R]:
        if self.failure is not None:
            raise StopIteration
        with self:
            return next(self._records)
        raise StopIteration

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            return False
        self.failure = error
        return True


def in_order(
    records: Iterable[R], work: Callable[[int, R], Item], width: int, stop: Callable[[], object]
) -> Iterator[Item]:
    """Run `work` on each record in `width` threads; `stop` ends it if the caller turns away."""
    source = _Source(records)
    pending: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(width, thread_name_prefix="fractal-lba-submit") as pool:
        try:
            for index, record in source:
                pending.append(pool.submit(work, index, record))
                while pending and (pending[0].done() or len(pending) >= WINDOW * width):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            stop()
    if source.failure is not None:
        raise source.failure
