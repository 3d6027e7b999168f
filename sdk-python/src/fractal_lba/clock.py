"""Tell the time and wait: the real clock of a client. Tests give `testing.FakeClock`."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from .http import Cancel

CANCEL_POLL_S = 0.02
"""How often a wait looks at a cancellation that cannot wake it; a cancel takes at most 50 ms."""


class Clock(Protocol):
    """What a client asks of a clock."""

    def now_ms(self) -> int: ...
    def monotonic_ms(self) -> int: ...
    def wait(self, wait_ms: int, cancel: Cancel | None = None) -> bool: ...


class AsyncClock(Clock, Protocol):
    """What an asynchronous client asks besides."""

    async def wait_async(self, wait_ms: int) -> None: ...


class Random(Protocol):
    """What a client asks of chance; `random.Random` has it."""

    def random(self) -> float: ...


class SystemClock:
    """The clock of the system."""

    def now_ms(self) -> int:
        """Give Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back."""
        return time.monotonic_ns() // 1_000_000

    def wait(self, wait_ms: int, cancel: Cancel | None = None) -> bool:
        """Wait unless cancelled, never shorter; say whether it was cancelled."""
        waiter = threading.Event() if cancel is None else cancel
        end = time.monotonic() + wait_ms / 1000
        while (left_s := end - time.monotonic()) > 0:
            if waiter.wait(left_s):
                return True
        return waiter.is_set()

    async def wait_async(self, wait_ms: int) -> None:
        """Wait, never shorter; a cancelled task stops waiting."""
        import asyncio  # noqa: PLC0415 - a program without an event loop does not load it

        end = time.monotonic() + wait_ms / 1000
        while (left_s := end - time.monotonic()) > 0:  # noqa: ASYNC110 - no event comes
            await asyncio.sleep(left_s)


class AnyCancel:
    """A cancellation that is set as soon as one of several is.

    The first one wakes a wait at once if it is the only one; others are looked at in turn.
    """

    def __init__(self, *parts: Cancel | None) -> None:
        self._parts = [part for part in parts if part is not None]

    def is_set(self) -> bool:
        """Say whether any part is set."""
        return any(part.is_set() for part in self._parts)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a part is set; say whether one is."""
        if len(self._parts) == 1:
            return self._parts[0].wait(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = CANCEL_POLL_S if end is None else min(CANCEL_POLL_S, end - time.monotonic())
            if left_s <= 0:
                return False
            self._parts[0].wait(left_s)
        return True
