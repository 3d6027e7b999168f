"""Run the arbiter process: its state, its listener, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from .arbiter import REST_MS, Arbiter
from .config import Address
from .core.lease import Terms
from .logs import Log, LogHandler
from .net.arbiter_app import ArbiterApp
from .net.peers import PeerListener, PeerTls
from .regions_file import load_regions
from .store.leases import open_leases

EXIT_SUPERSEDED: Final = 1
"""Another arbiter has taken over the state."""


@dataclass(frozen=True, slots=True)
class ArbiterSettings:
    """Everything that an arbiter is started with."""

    listen: Address
    state: str
    regions: Path
    terms: Terms
    tls: PeerTls | None = None
    checkers: tuple[str, ...] = ()
    quorum: int = 0
    automatic: bool = False
    rest_ms: int = REST_MS


def run_arbiter(settings: ArbiterSettings, *, ready: Callable[[Address], None]) -> int:
    """Run until SIGTERM or SIGINT; give the exit status. ConfigError, OSError: it did not start."""
    with Log(sys.stderr.buffer) as log:
        handler = LogHandler(log)
        for name in ("uvicorn", "fractal_lba_server", "asyncio"):
            logging.getLogger(name).addHandler(handler)
            logging.getLogger(name).setLevel(logging.WARNING)
        return asyncio.run(_serve(settings, log, ready))


async def _serve(settings: ArbiterSettings, log: Log, ready: Callable[[Address], None]) -> int:
    registry = load_regions(settings.regions)
    store = open_leases(settings.state)

    def report(event: str, members: dict[str, Any]) -> None:
        log.event(event, **members)

    arbiter = Arbiter(
        registry,
        store,
        terms=settings.terms,
        checkers=settings.checkers,
        quorum=settings.quorum,
        automatic=settings.automatic,
        rest_ms=settings.rest_ms,
        report=report,
    )
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    try:
        await arbiter.start()
        app = ArbiterApp(arbiter, superseded=lambda: end(EXIT_SUPERSEDED))
        listener = await PeerListener.start(cast("Any", app), settings.listen, settings.tls)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, 0)
        log.event("listening", listen=str(listener.address))
        ready(listener.address)
        status = await ended
        await listener.close()
        log.event("stopped", status=status)
        return status
    finally:
        with contextlib.suppress(OSError):
            await store.close()
