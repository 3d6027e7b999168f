"""A proxy as one thing: a relay, and the process that judges what went through it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..places import PACKAGE
from .contract import Contract
from .faults import Faults
from .record import Raw, pack
from .relay import Exchange, Relay, upstream_of


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Choose the faster event loop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - it may be absent
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@dataclass(frozen=True, slots=True)
class Settings:
    """What a proxy is told."""

    upstream: str
    spec: Path
    record: Path
    faults: Faults | None = None
    secrets: Sequence[Path] = ()
    clock: str = "real"


def raw_of(exchange: Exchange) -> Raw:
    """Copy an exchange for the judging process."""
    request, answer = exchange.request, exchange.answer
    sent = (
        request.method, request.target, request.headers, bytes(request.body), request.body_bytes,
        request.is_whole and not request.is_broken, request.started_ns, request.ended_ns,
    )  # fmt: skip
    got = None
    if answer is not None:
        got = (
            answer.status, answer.headers, bytes(answer.body), answer.body_bytes, answer.is_whole,
            answer.ended_ns,
        )  # fmt: skip
    return (exchange.number, exchange.connection, exchange.case, exchange.fault, sent, got)


class Judging:
    """The judging process, fed by a thread of its own."""

    def __init__(self, settings: Settings, verdict: Callable[[int, int, str], None]) -> None:
        self._queue: queue.SimpleQueue[Exchange | None] = queue.SimpleQueue()
        command = [
            sys.executable, "-m", "flk_conformance.proxy.worker", "--spec", str(settings.spec),
            "--record", str(settings.record), "--upstream", settings.upstream,
            "--clock", settings.clock,
        ]  # fmt: skip
        for path in settings.secrets:
            command += ["--secrets", str(path)]
        roots = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the proxy, which lets this one finish
            env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
        )  # fmt: skip
        self._verdict = verdict
        self._feeding = threading.Thread(target=self._feed, daemon=True)
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._feeding.start()
        self._hearing.start()

    def put(self, exchange: Exchange) -> None:
        """Hand an exchange over; never waits."""
        self._queue.put(exchange)

    def _feed(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; `close` says so
            while (exchange := self._queue.get()) is not None:
                pipe.write(pack(raw_of(exchange)))
                if self._queue.empty():
                    pipe.flush()
            pipe.close()

    def _hear(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        for line in pipe:
            number, count, first = json.loads(line)
            self._verdict(number, count, first)

    def close(self) -> None:
        """Wait until everything is judged and written. Raises RuntimeError."""
        self._queue.put(None)
        self._feeding.join()
        self._hearing.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        status = self._process.wait()
        if status:
            raise RuntimeError(f"the judging process ended with {status}")


class Proxy:
    """Runs a relay on an event loop in a thread, for a program that drives clients through it."""

    def __init__(
        self, settings: Settings, *, on_violation: Callable[[str], None] | None = None
    ) -> None:
        self._settings = settings
        self._on_violation = on_violation
        self.violations = 0
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._ended: asyncio.Event | None = None
        self._relay: Relay | None = None
        self._error: Exception | None = None

    @property
    def url(self) -> str:
        """Give the base URL for clients."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def case(self) -> str:
        """Name what requests from now on belong to."""
        return self._relay.case if self._relay is not None else ""

    @case.setter
    def case(self, name: str) -> None:
        assert self._relay is not None
        self._relay.case = name

    def script(self, faults: Faults | None) -> None:
        """Script the faults of requests from now on, also on connections that are open."""
        assert self._relay is not None
        self._relay.faults = faults

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, port: int = 0) -> None:
        """Listen. Raises OSError, ValueError."""
        upstream_of(self._settings.upstream)
        self._judging = Judging(self._settings, self._judged)
        self._thread = threading.Thread(target=self._run, args=(port,), daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._judging.close()
            raise self._error

    def _run(self, port: int) -> None:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._serve(port))

    async def _serve(self, port: int) -> None:
        settings = self._settings
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._relay = Relay(
            upstream_of(settings.upstream),
            self._judging.put,
            faults=settings.faults,
            named=Contract(settings.spec).named,
        )
        try:
            self.port = await self._relay.start(port=port)
        except OSError as error:
            self._error = error
            return
        finally:
            self._ready.set()
        await self._ended.wait()
        await self._relay.stop()

    def _judged(self, number: int, count: int, first: str) -> None:
        self.violations += count
        if count and self._on_violation is not None:
            self._on_violation(f"exchange {number}: {first}")

    def stop(self) -> None:
        """Close every connection, judge the rest, write the record's end."""
        if self._loop is not None and self._ended is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._judging.close()
