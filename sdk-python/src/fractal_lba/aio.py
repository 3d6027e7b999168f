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
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from .base import (
    HEALTH_TIMEOUT_MS,
    AnyRecord,
    BaseClient,
    Item,
    cancelled,
    checked_concurrency,
)
from .call import (
    Answer,
    Call,
    Deliver,
    Doze,
    Effect,
    EndpointHealth,
    Enter,
    Hear,
    Keep,
    Probe,
    Send,
    Settle,
    Sleep,
    Take,
    Tell,
    probed,
    read_health,
)
from .clock import AsyncClock, SystemClock
from .errors import ConfigError, FractalLBAError, error_for
from .hooks import OutboxEvent
from .http import RawResponse, Request
from .many_aio import end, in_order_async
from .outcome import Outcome, Submitted
from .schedule import Later
from .spool import OutboxStats
from .stops_aio import first, forward

T = TypeVar("T")

ENTER_POLL_S: Final = 0.02
"""How often a call that waits for a place looks at its deadline."""


class AsyncTransport(Protocol):
    """Carry one request to a server; the asynchronous `Transport`. A cancel is that of the task."""

    async def send_async(
        self, request: Request, *, connect_timeout_s: float, attempt_timeout_s: float, cancel: None
    ) -> RawResponse: ...


class _Run:
    """What the shell must give back when a call ends, and what ends or wakes it.

    `stop` is done once the caller has cancelled or the client is closed.
    """

    def __init__(self, stop: asyncio.Future[None], waker: asyncio.Event | None) -> None:
        self.stop = stop
        self.waker = waker
        self.has_place = False
        self.unsettled: tuple[str, ...] = ()


class AsyncClient(BaseClient[AsyncTransport, AsyncClock]):
    """Submit records and read outcomes. The options are those of `BaseClient`."""

    def _start(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._stops: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wakers: list[asyncio.Event] = []
        self._free_places = self._max_in_flight
        self._place_freed = asyncio.Event()
        self._has_courier = False
        if self._outbox is not None:
            self._outbox.listen(self._tell_later, self._wake_later)

    def _make_transport(self, **options: Any) -> AsyncTransport:
        try:
            from .httpx_transport import HttpxTransport  # noqa: PLC0415 - it is an extra
        except ModuleNotFoundError:
            raise ConfigError(
                "config_invalid", "AsyncClient: expected the extra httpx, or an own transport"
            ) from None
        return HttpxTransport(**options)

    def _make_clock(self) -> AsyncClock:
        return SystemClock()

    # --- calls ----------------------------------------------------------------------------------

    async def submit(
        self,
        record: AnyRecord,
        *,
        durability: str | None = None,
        total_timeout_s: float | None = None,
        cancel: asyncio.Event | None = None,
    ) -> Submitted:
        """Sign a copy of the record, send it, and give the recorded outcome.

        With an outbox the record is durable before the first attempt; if the call then stops,
        the error says by `queued` that the outbox goes on with it. Whether the record was
        accepted is in `outcome.accepted`: an escalated one is recorded too.
        """
        deadline_ms = self._deadline_ms(total_timeout_s)
        self._refuse_cancelled(cancel)
        call = self._submit_call(record, durability=durability, deadline_ms=deadline_ms)
        self._start_courier()
        return await self._drive(call, cancel)

    def submit_many(
        self,
        records: Iterable[AnyRecord] | AsyncIterable[AnyRecord],
        *,
        concurrency: int | None = None,
        durability: str | None = None,
        total_timeout_s: float | None = None,
        cancel: asyncio.Event | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Submit records beside each other; yield their answers in the order of the input.

        The input is read lazily, at most twice `concurrency` ahead. A record that fails is an
        `Item` with an error; after a cancel the rest is marked `cancelled`. If the input itself
        raises, that is raised after the answers to what it gave.
        """
        width = self._concurrency if concurrency is None else checked_concurrency(concurrency)

        async def submit_one(index: int, record: AnyRecord) -> Item:
            try:
                result = await self.submit(
                    record, durability=durability, total_timeout_s=total_timeout_s, cancel=cancel
                )
            except FractalLBAError as error:
                return Item(index, error=error)
            return Item(index, result=result)

        return in_order_async(records, submit_one, width)

    async def get(
        self,
        pcs_id: str,
        *,
        total_timeout_s: float | None = None,
        cancel: asyncio.Event | None = None,
    ) -> Outcome:
        """Read the outcome of a record of this tenant; it needs the read token.

        Raises NotFoundError if the tenant has no such record, never gives None.
        """
        self._refuse_cancelled(cancel)
        call = self._get_call(pcs_id, deadline_ms=self._deadline_ms(total_timeout_s))
        return await self._drive(call, cancel)

    async def health(self) -> list[EndpointHealth]:
        """Ask every endpoint at once whether it takes writes now; a sick one never raises."""
        stop = self._new_stop()

        async def ask(url: str, region: str | None, request: Request) -> EndpointHealth:
            answer = await self._send(Send(request, HEALTH_TIMEOUT_MS, HEALTH_TIMEOUT_MS), stop)
            return read_health(url, region, answer, self._clock.now_ms())

        try:
            return await asyncio.gather(
                *(ask(each.url, each.region, request) for each, request in self._health_requests())
            )
        finally:
            self._stops.discard(stop)

    async def submit_pcs(self, record: AnyRecord) -> Submitted:
        """Do what `submit` does."""
        return await self.submit(record)

    async def health_check(self) -> list[EndpointHealth]:
        """Do what `health` does."""
        return await self.health()

    # --- with an outbox -------------------------------------------------------------------------

    async def enqueue(self, record: AnyRecord) -> str:
        """Sign a record and keep it in the outbox; return when it is durable, with its entry."""
        self._refuse_cancelled(None)
        call = self._enqueue_call(record)
        self._start_courier()
        return await self._drive(call, None)

    async def flush(self, timeout_s: float) -> OutboxStats:
        """Send what waits in the outbox, until nothing is left that may be sent, or in vain.

        Pauses end: refused credentials are tried again. What a server asked to come later is
        not sent before that. Gives what the outbox still holds.
        """
        outbox = self._need_outbox()
        deadline_ms = self._deadline_ms(timeout_s)
        self._refuse_cancelled(None)
        outbox.hurry()
        await self._pump(deadline_ms)
        return outbox.stats()

    async def resign(self, kid: str | None) -> int:
        """Sign the waiting entries of one key again with the present signer; count them.

        What they say does not change, and a record that did arrive is answered as a duplicate.
        """
        outbox = self._need_outbox()
        letters = await asyncio.to_thread(outbox.letters_of, kid)
        for letter in letters:
            new, now_ms = self._resigned(letter), self._clock.now_ms()
            await asyncio.to_thread(outbox.put, new, now_ms=now_ms, in_flight=False)
            await asyncio.to_thread(outbox.release, letter.id, "resigned")
        self._start_courier()
        return len(letters)

    # --- ending ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """End every wait and call with `cancelled`. The outbox and a given transport stay open."""
        self._closed = True
        for stop in list(self._stops):
            if not stop.done():
                stop.set_result(None)
        self._wake()
        tasks = self._tasks - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)
        if self._outbox is not None:
            self._outbox.listen(_ignore, _ignore)
        if self._own_transport:
            await self._transport.aclose()  # type: ignore[attr-defined]  # made by _make_transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- the shell ------------------------------------------------------------------------------

    def _refuse_cancelled(self, cancel: asyncio.Event | None) -> None:
        self._loop = asyncio.get_running_loop()
        if self._closed or (cancel is not None and cancel.is_set()):
            error = cancelled()
            error.stop = "cancelled"
            raise error

    async def _drive(
        self, call: Call[T], cancel: asyncio.Event | None, waker: asyncio.Event | None = None
    ) -> T:
        """Step a call to its end, carrying out what it yields."""
        run = _Run(self._new_stop(), waker)
        watcher = None if cancel is None else asyncio.ensure_future(forward(cancel, run.stop))
        turn: Any = None
        try:
            while True:
                effect = call.send(turn)
                answer = await self._perform(effect, run)
                turn = self._turn(effect, answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            self._stops.discard(run.stop)
            if run.has_place:
                self._free_places += 1
                self._place_freed.set()
            if watcher is not None:
                watcher.cancel()
            if run.unsettled:  # a cancelled task: the outbox goes on with its entries
                self._settle_all(run.unsettled)

    async def _perform(self, effect: Effect, run: _Run) -> Answer:
        match effect:
            case Send():
                return await self._send(effect, run.stop)
            case Sleep(wait_ms):
                return await first(self._clock.wait_async(wait_ms), run.stop)
            case Tell(event):
                self._reporter.tell(event)
            case Enter(deadline_ms):
                return await self._enter(deadline_ms, run)
            case Probe():
                self._spawn(self._probe(effect))
            case Keep():
                return await self._keep(effect, run)
            case Settle():
                run.unsettled = ()
                await self._settle(effect)
            case Hear():
                await self._hear(effect)
            case Take():
                return await self._take(effect)
            case Deliver():
                await self._deliver(effect, run)
            case Doze(wait_ms):
                return await self._doze(wait_ms, run)
        return None

    async def _send(
        self, effect: Send, stop: asyncio.Future[None]
    ) -> RawResponse | FractalLBAError:
        try:
            return await first(
                self._transport.send_async(
                    effect.request,
                    connect_timeout_s=effect.connect_timeout_ms / 1000,
                    attempt_timeout_s=effect.attempt_timeout_ms / 1000,
                    cancel=None,
                ),
                stop,
            )
        except FractalLBAError as error:
            return error

    async def _enter(self, deadline_ms: int, run: _Run) -> Answer:
        while not self._free_places:
            if run.stop.done():
                return cancelled()
            if self._clock.monotonic_ms() >= deadline_ms:
                return error_for("deadline_exceeded", "no place among the calls in flight")
            self._place_freed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    first(self._place_freed.wait(), run.stop), timeout=ENTER_POLL_S
                )
        if run.stop.done():
            return cancelled()
        self._free_places -= 1
        run.has_place = True
        return None

    async def _probe(self, effect: Probe) -> None:
        stop = self._new_stop()
        send = Send(effect.request, effect.timeout_ms, effect.timeout_ms)
        try:
            answer = await self._send(send, stop)
        finally:
            self._stops.discard(stop)
        probed(self._state, effect.endpoint, self._turn(effect, answer))

    async def _keep(self, effect: Keep, run: _Run) -> Answer:
        now_ms, in_flight = self._clock.now_ms(), effect.in_flight
        put = self._need_outbox().put
        # Shielded: a cancelled task must still learn the id that it has to settle.
        keeping = asyncio.ensure_future(
            asyncio.to_thread(put, effect.letter, now_ms=now_ms, in_flight=in_flight)
        )
        try:
            letter = await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait({keeping})
            if in_flight and keeping.exception() is None:
                run.unsettled = (keeping.result().id,)
            raise
        except FractalLBAError as error:
            return error
        run.unsettled = (letter.id,) if in_flight else ()
        return letter

    async def _settle(self, effect: Settle) -> None:
        now_ms, u = self._clock.now_ms(), self._random.random()
        # What cannot be written is reported by the outbox; the answer of the server stands.
        with suppress(FractalLBAError):
            await asyncio.to_thread(
                self._need_outbox().settle, effect.id, effect.verdict, now_ms=now_ms, u=u
            )

    def _settle_all(self, ids: Iterable[str]) -> None:
        verdict, now_ms = Later(endpoint_down=False), self._clock.now_ms()
        for id in ids:
            with suppress(FractalLBAError):
                u = self._random.random()
                self._need_outbox().settle(id, verdict, now_ms=now_ms, u=u)

    async def _hear(self, effect: Hear) -> None:
        if self._outbox is not None:
            with suppress(FractalLBAError):
                await asyncio.to_thread(self._outbox.hear, effect.news)

    async def _take(self, effect: Take) -> Answer:
        take, now_ms = self._need_outbox().take, self._clock.now_ms()
        try:
            return await asyncio.to_thread(
                take, now_ms, limit=effect.limit, bytes_max=effect.bytes_max
            )
        except FractalLBAError as error:
            return error

    async def _deliver(self, effect: Deliver, run: _Run) -> None:
        async def drive(call: Call[Any]) -> None:
            with suppress(FractalLBAError):  # the entry is settled, the event told
                await self._drive(call, None)

        run.unsettled = effect.ids
        await asyncio.gather(*map(drive, effect.calls))
        run.unsettled = ()

    async def _doze(self, wait_ms: int | None, run: _Run) -> Answer:
        assert run.waker is not None
        woken = asyncio.ensure_future(run.waker.wait())
        try:
            if wait_ms is None:
                await woken
            else:
                await first(self._clock.wait_async(wait_ms), woken)
        finally:
            await end([woken])
        run.waker.clear()
        return cancelled() if self._closed else None

    # --- tasks ----------------------------------------------------------------------------------

    def _new_stop(self) -> asyncio.Future[None]:
        stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            stop.set_result(None)
        self._stops.add(stop)
        return stop

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()

    def _wake_later(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    def _tell_later(self, event: OutboxEvent) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._reporter.tell, event)

    async def _pump(self, deadline_ms: int | None) -> None:
        waker = asyncio.Event()
        self._wakers.append(waker)
        try:
            if not self._closed:
                await self._drive(self._pump_call(deadline_ms=deadline_ms), None, waker)
        finally:
            self._wakers.remove(waker)

    def _start_courier(self) -> None:
        """Deliver in the background from the first call on, if there is an outbox."""
        if self._outbox is None or not self._outbox.background or self._has_courier:
            return
        self._has_courier = True
        self._spawn(self._run_courier())

    async def _run_courier(self) -> None:
        is_over = False
        try:
            await self._pump(None)
        except FractalLBAError as error:
            is_over = True
            self._reporter.tell(OutboxEvent("outbox_corrupt", None, error.code))
        finally:
            self._has_courier = is_over  # as in `Client._run_courier`

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _ignore(*_: object) -> None:
    """Hear nothing."""
