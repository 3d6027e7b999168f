"""Do what `many` does with tasks, for synchronous and asynchronous inputs.

An answer is yielded as soon as it is there, also while the input keeps us waiting for its next
record.
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
)
from typing import Any, TypeVar

from .base import Item
from .many import WINDOW

R = TypeVar("R")


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
