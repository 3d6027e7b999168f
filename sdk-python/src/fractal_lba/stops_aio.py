"""End asynchronous work as soon as its caller cancels or the client is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .base import cancelled
from .errors import FractalLBAError
from .many_aio import end

T = TypeVar("T")


async def first(work: Coroutine[Any, Any, T], stop: asyncio.Future[Any]) -> T | FractalLBAError:
    """Await the work, or end it and give the error `cancelled` once `stop` is done."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else cancelled()
    finally:
        await end([task])


async def forward(cancel: asyncio.Event, stop: asyncio.Future[None]) -> None:
    """Pass the cancellation of a caller on to the stop of a call."""
    await cancel.wait()
    if not stop.done():
        stop.set_result(None)
