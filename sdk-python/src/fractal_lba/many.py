"""Answer many records beside each other, in the order of the input, reading it lazily.

`records` is read at most `WINDOW` times `width` ahead of what was yielded. An answer is yielded as
soon as it is there, also while the input makes us wait for its next record (`async` only: a
synchronous input is read in the thread of the caller). What the input raises is raised last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, TypeVar

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


async def in_order_async(
    records: Iterable[R] | AsyncIterable[R], work: Callable[[int, R], Awaitable[Item]], width: int
) -> AsyncGenerator[Item, None]:
    """Run `work` on each record in tasks, `width` of them at a time."""
    gate = asyncio.Semaphore(width)

    async def gated(index: int, record: R) -> Item:
        async with gate:
            return await work(index, record)

    source = aiter(records) if isinstance(records, AsyncIterable) else _walk(records)
    pending: deque[asyncio.Task[Item]] = deque()
    reader: asyncio.Task[R] | None = asyncio.ensure_future(_next(source))
    failure: BaseException | None = None
    count = 0
    try:
        while reader is not None or pending:
            waits: list[asyncio.Task[Any]] = list(pending)[:1]
            if reader is not None and len(pending) < WINDOW * width:
                waits.append(reader)
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if reader is not None and reader in waits and reader.done():
                failure = reader.exception()
                if failure is None:
                    pending.append(asyncio.ensure_future(gated(count, reader.result())))
                    count += 1
                    reader = asyncio.ensure_future(_next(source))
                else:
                    reader = None
            if pending and pending[0].done():
                yield pending.popleft().result()
    finally:
        await end([*pending, *([reader] if reader else [])])
    if failure is not None and not isinstance(failure, StopAsyncIteration):
        raise failure


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel what is not done, wait for it, and let nobody miss what it raised."""
    open_tasks = [task for task in tasks if not task.done()]
    for task in open_tasks:
        task.cancel()
    if open_tasks:
        await asyncio.wait(open_tasks)
    for task in open_tasks:
        if not task.cancelled():
            task.exception()


async def _walk(records: Iterable[R]) -> AsyncIterator[R]:
    for record in records:
        yield record


async def _next(source: AsyncIterator[R]) -> R:
    return await anext(source)
