"""The asynchronous client: tasks around the same calls that the synchronous one runs.

    from fractal_lba import AsyncClient, HmacSigner

    async with AsyncClient(
        "https://eu.example", signer=HmacSigner.from_env(), tenant="acme"
    ) as client:
        submitted = await client.submit(record)

One event loop uses a client. A cancelled task ends its call at once and asyncio's own exception
passes untouched; `cancel` and `close` end it with the code `cancelled`. The outbox syncs its
files in threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from .base import (
    DRAWING,
    HEALTH_TIMEOUT_MS,
    WINDOW,
    AnyRecord,
    BaseClient,
    Item,
    cancelled,
    checked_concurrency,
)
from .call import (
    Call,
    Deliver,
    Doze,
    Effect,
    EndpointHealth,
    Enter,
    Keep,
    Probe,
    Send,
    Settle,
    Sleep,
    Take,
    Tell,
    Turn,
    probed,
    read_health,
)
from .clock import AsyncClock, SystemClock
from .errors import ConfigError, FractalLBAError, error_for
from .hooks import OutboxEvent
from .http import RawResponse, Request
from .outbox import Letter
from .outcome import Outcome, Submitted
from .schedule import Due, Later
from .spool import OutboxStats

T = TypeVar("T")

Answer = RawResponse | Letter | Due | FractalLBAError | None


class AsyncTransport(Protocol):
    """Carry one request to a server; the asynchronous `Transport`. A cancel is that of the task."""

    async def send_async(
        self, request: Request, *, connect_timeout_s: float, attempt_timeout_s: float, cancel: None
    ) -> RawResponse: ...
