"""The synchronous client: threads, events and sockets around the calls of `base.py`.

    from fractal_lba import Client, HmacSigner

    with Client("https://eu.example", signer=HmacSigner.from_env(), tenant="acme") as client:
        submitted = client.submit(record)

A client is safe for threads. `close` ends every wait and every call with the code `cancelled`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar

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
from .clock import CANCEL_POLL_S, AnyCancel, Clock, SystemClock
from .errors import FractalLBAError, error_for
from .hooks import OutboxEvent
from .http import Cancel, RawResponse, Request, Transport
from .many import in_order
from .outcome import Outcome, Position, Submitted
from .region_status import RegionStatus
from .schedule import Later
from .spool import OutboxStats
from .transport import HttpTransport

T = TypeVar("T")
U = TypeVar("U")

WORKERS_MAX: Final = 16
"""Threads that deliver outbox entries beside each other where batches are not taken."""


class _Places:
    """Count the calls in flight; who finds no place waits."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._changed = threading.Condition()

    def enter(self, clock: Clock, deadline_ms: int, cancel: Cancel) -> FractalLBAError | None:
        """Take a place, or say why there was none."""
        with self._changed:
            while not cancel.is_set():
                if self._free:
                    self._free -= 1
                    return None
                if clock.monotonic_ms() >= deadline_ms:
                    return error_for("deadline_exceeded", "no place among the calls in flight")
                self._changed.wait(CANCEL_POLL_S)
        return cancelled()

    def leave(self) -> None:
        """Give a place back."""
        with self._changed:
            self._free += 1
            self._changed.notify()


class _Run:
    """What the shell must give back when a call ends, and how the call is woken."""

    def __init__(self, cancel: Cancel, waker: threading.Event | None) -> None:
        self.cancel = cancel
        self.waker = waker
        self.has_place = False
        self.unsettled: tuple[str, ...] = ()


class Client(BaseClient[Transport, Clock]):
    """Submit records and read outcomes. The options are those of `BaseClient`."""

    def _start(self) -> None:
        self._closing = threading.Event()
        self._state_lock = threading.Lock()
        self._places = _Places(self._max_in_flight)
        self._threads_lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._wakers: list[threading.Event] = []
        self._has_courier = False
        if self._outbox is not None:
            self._outbox.listen(self._reporter.tell, self._wake)

    def _make_transport(self, **options: Any) -> Transport:
        return HttpTransport(**options)

    def _make_clock(self) -> Clock:
        return SystemClock()

    # --- calls ----------------------------------------------------------------------------------

    def submit(
        self,
        record: AnyRecord,
        *,
        durability: str | None = None,
        total_timeout_s: float | None = None,
        cancel: Cancel | None = None,
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
        return self._drive(call, AnyCancel(self._closing, cancel))

    def submit_many(
        self,
        records: Iterable[AnyRecord],
        *,
        concurrency: int | None = None,
        durability: str | None = None,
        total_timeout_s: float | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Item]:
        """Submit records beside each other; yield their answers in the order of the input.

        The input is read lazily, at most twice `concurrency` ahead. A record that fails is an
        `Item` with an error; after a cancel the rest is marked `cancelled`. If the input itself
        raises, that is raised after the answers to what it gave.
        """
        width = self._concurrency if concurrency is None else checked_concurrency(concurrency)
        abandoned = threading.Event()
        stop = AnyCancel(abandoned, cancel)

        def submit_one(index: int, record: AnyRecord) -> Item:
            try:
                result = self.submit(
                    record, durability=durability, total_timeout_s=total_timeout_s, cancel=stop
                )
            except FractalLBAError as error:
                return Item(index, error=error)
            return Item(index, result=result)

        return in_order(records, submit_one, width, abandoned.set)

    def get(
        self,
        pcs_id: str,
        *,
        total_timeout_s: float | None = None,
        cancel: Cancel | None = None,
    ) -> Outcome:
        """Read the outcome of a record of this tenant; it needs the read token.

        Raises NotFoundError if the tenant has no such record, never gives None.
        """
        self._refuse_cancelled(cancel)
        call = self._get_call(pcs_id, deadline_ms=self._deadline_ms(total_timeout_s))
        return self._drive(call, AnyCancel(self._closing, cancel))

    def health(self) -> list[EndpointHealth]:
        """Ask every endpoint at once whether it takes writes now; a sick one never raises."""
        requests = self._health_requests()

        def ask(place: int) -> EndpointHealth:
            endpoint, request = requests[place]
            answer = self._send(request, HEALTH_TIMEOUT_MS, HEALTH_TIMEOUT_MS, self._closing)
            return read_health(endpoint.url, endpoint.region, answer, self._clock.now_ms())

        with ThreadPoolExecutor(len(requests), thread_name_prefix="fractal-lba-health") as pool:
            return list(pool.map(ask, range(len(requests))))

    def submit_pcs(self, record: AnyRecord) -> Submitted:
        """Do what `submit` does."""
        return self.submit(record)

    def health_check(self) -> list[EndpointHealth]:
        """Do what `health` does."""
        return self.health()

    # --- with an outbox -------------------------------------------------------------------------

    def enqueue(self, record: AnyRecord) -> str:
        """Sign a record and keep it in the outbox; return when it is durable, with its entry."""
        self._refuse_cancelled(None)
        call = self._enqueue_call(record)
        self._start_courier()
        return self._drive(call, self._closing)

    def flush(self, timeout_s: float) -> OutboxStats:
        """Send what waits in the outbox, until nothing is left that may be sent, or in vain.

        Pauses end: refused credentials are tried again. What a server asked to come later is
        not sent before that. Gives what the outbox still holds.
        """
        outbox = self._need_outbox()
        deadline_ms = self._deadline_ms(timeout_s)
        self._refuse_cancelled(None)
        outbox.hurry()
        self._pump(deadline_ms)
        return outbox.stats()

    def resign(self, kid: str | None) -> int:
        """Sign the waiting entries of one key again with the present signer; count them.

        What they say does not change, and a record that did arrive is answered as a duplicate.
        """
        outbox = self._need_outbox()
        letters = outbox.letters_of(kid)
        for letter in letters:
            outbox.put(self._resigned(letter), now_ms=self._clock.now_ms(), in_flight=False)
            outbox.release(letter.id, "resigned")
        self._start_courier()
        return len(letters)

    # --- ending ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End every wait and call with `cancelled`. The outbox and a given transport stay open."""
        self._closing.set()
        self._wake()
        with self._threads_lock:
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join()
        if self._outbox is not None:
            self._outbox.listen(_ignore, _ignore)
        if self._own_transport and isinstance(self._transport, HttpTransport):
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the shell ------------------------------------------------------------------------------

    def _refuse_cancelled(self, cancel: Cancel | None) -> None:
        if self._closing.is_set() or (cancel is not None and cancel.is_set()):
            error = cancelled()
            error.stop = "cancelled"
            raise error

    def _drive(self, call: Call[T], cancel: Cancel, waker: threading.Event | None = None) -> T:
        """Step a call to its end, carrying out what it yields."""
        run = _Run(cancel, waker)
        turn: Any = None
        try:
            while True:
                with self._state_lock:
                    effect = call.send(turn)
                answer = self._perform(effect, run)
                turn = self._turn(effect, answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            if run.has_place:
                self._places.leave()
            for id in run.unsettled:  # an interrupt ended the call: the outbox goes on with it
                self._settle(Settle(id, Later(endpoint_down=False)))

    def _perform(self, effect: Effect, run: _Run) -> Answer:
        match effect:
            case Send(request, connect_ms, attempt_ms):
                return self._send(request, connect_ms, attempt_ms, run.cancel)
            case Sleep(wait_ms):
                return cancelled() if self._clock.wait(wait_ms, run.cancel) else None
            case Tell(event):
                self._reporter.tell(event)
            case Enter(deadline_ms):
                return self._enter(deadline_ms, run)
            case Probe():
                self._spawn("probe", self._probe, effect)
            case Keep():
                return self._keep(effect, run)
            case Settle():
                run.unsettled = ()
                self._settle(effect)
            case Hear(news):
                self._hear(news)
            case Take():
                return self._take(effect)
            case Deliver():
                self._deliver(effect, run)
            case Doze(wait_ms):
                return self._doze(wait_ms, run)
        return None

    def _send(
        self, request: Request, connect_ms: int, attempt_ms: int, cancel: Cancel
    ) -> RawResponse | FractalLBAError:
        try:
            return self._transport.send(
                request,
                connect_timeout_s=connect_ms / 1000,
                attempt_timeout_s=attempt_ms / 1000,
                cancel=cancel,
            )
        except FractalLBAError as error:
            return error

    def _enter(self, deadline_ms: int, run: _Run) -> Answer:
        if run.has_place:
            return None
        error = self._places.enter(self._clock, deadline_ms, run.cancel)
        run.has_place = error is None
        return error

    def _probe(self, effect: Probe) -> None:
        answer = self._send(effect.request, effect.timeout_ms, effect.timeout_ms, self._closing)
        turn = self._turn(effect, answer)
        with self._state_lock:
            probed(self._state, effect.endpoint, turn)

    def _keep(self, effect: Keep, run: _Run) -> Answer:
        now_ms, in_flight = self._clock.now_ms(), effect.in_flight
        try:
            letter = self._need_outbox().put(effect.letter, now_ms=now_ms, in_flight=in_flight)
        except FractalLBAError as error:
            return error
        run.unsettled = (letter.id,) if in_flight else ()
        return letter

    def _settle(self, effect: Settle) -> None:
        now_ms, u = self._clock.now_ms(), self._random.random()
        # What cannot be written is reported by the outbox; the answer of the server stands.
        with suppress(FractalLBAError):
            self._need_outbox().settle(effect.id, effect.verdict, now_ms=now_ms, u=u)

    def _hear(self, news: Position | RegionStatus) -> None:
        if self._outbox is not None:
            with suppress(FractalLBAError):
                self._outbox.hear(news)

    def _take(self, effect: Take) -> Answer:
        try:
            return self._need_outbox().take(
                self._clock.now_ms(), limit=effect.limit, bytes_max=effect.bytes_max
            )
        except FractalLBAError as error:
            return error

    def _deliver(self, effect: Deliver, run: _Run) -> None:
        def drive(call: Call[Any]) -> None:
            with suppress(FractalLBAError):  # the entry is settled, the event told
                self._drive(call, run.cancel)

        run.unsettled = effect.ids
        workers = min(WORKERS_MAX, len(effect.calls))
        with ThreadPoolExecutor(workers, thread_name_prefix="fractal-lba-deliver") as pool:
            list(pool.map(drive, effect.calls))
        run.unsettled = ()

    def _doze(self, wait_ms: int | None, run: _Run) -> Answer:
        assert run.waker is not None
        if wait_ms is None:
            run.waker.wait()
        else:
            self._clock.wait(wait_ms, run.waker)
        run.waker.clear()
        return cancelled() if self._closing.is_set() else None

    # --- threads --------------------------------------------------------------------------------

    def _wake(self) -> None:
        for waker in list(self._wakers):
            waker.set()

    def _pump(self, deadline_ms: int | None) -> None:
        waker = threading.Event()
        self._wakers.append(waker)
        try:
            if not self._closing.is_set():
                self._drive(self._pump_call(deadline_ms=deadline_ms), self._closing, waker)
        finally:
            self._wakers.remove(waker)

    def _start_courier(self) -> None:
        """Deliver in the background from the first call on, if there is an outbox."""
        if self._outbox is None or not self._outbox.background:
            return
        with self._threads_lock:
            is_first, self._has_courier = not self._has_courier, True
        if is_first:
            self._spawn("courier", self._run_courier, None)

    def _run_courier(self, deadline_ms: None) -> None:
        is_over = False
        try:
            self._pump(deadline_ms)
            is_over = True
        except FractalLBAError as error:
            is_over = True
            self._reporter.tell(OutboxEvent("outbox_corrupt", None, error.code))
        finally:
            # A foreign error, of a caller's transport, ends this thread alone: the next call of
            # the client starts another, and what was in flight waits in the outbox.
            with self._threads_lock:
                self._has_courier = is_over

    def _spawn(self, name: str, function: Callable[[U], None], argument: U) -> None:
        def run() -> None:
            try:
                function(argument)
            finally:
                with self._threads_lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"fractal-lba-{name}", daemon=True)
        with self._threads_lock:
            self._threads.add(thread)
        thread.start()


def _ignore(*_: object) -> None:
    """Hear nothing."""
