"""The synchronous client among threads: cancel, close, turning away from answers."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from clients import SIGNER, is_first, options, record
from scripted_server import ScriptedServer, Step, recorded, refused

from fractal_lba.client import Client
from fractal_lba.clock import AnyCancel, SystemClock
from fractal_lba.errors import CancelledError, FractalLBAError, TimeoutError

LONG_S = 30.0
"""A bound that no test waits for."""


class Background:
    """Run a call in a thread and keep what it raised."""

    def __init__(self, call: Any) -> None:
        self.error: FractalLBAError | None = None
        self.result: Any = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except FractalLBAError as error:
            self.error = error

    def join(self) -> FractalLBAError | None:
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()
        return self.error


def real(url: str, **changes: Any) -> Client:
    """Give a client on the real clock: its waits end by a cancel, or the test hangs."""
    return Client(url, signer=SIGNER, tenant="acme", **changes)


@pytest.fixture
def waiting() -> Iterator[tuple[ScriptedServer, threading.Event]]:
    """Serve an answer that asks for a wait of 50 s, and tell when a client begins it."""
    with ScriptedServer([refused(503, "unavailable", {"Retry-After": "50"})] * 8) as server:
        yield server, threading.Event()


def test_a_cancel_ends_a_wait(waiting: tuple[ScriptedServer, threading.Event]) -> None:
    server, cancel = waiting
    client = real(server.url)
    call = Background(lambda: client.submit(record(), cancel=cancel))
    assert server.arrived.acquire(timeout=LONG_S)
    cancel.set()
    error = call.join()
    assert isinstance(error, CancelledError)
    assert (error.stop, error.attempts) == ("cancelled", 1)
    client.close()


def test_close_ends_waits_and_attempts(waiting: tuple[ScriptedServer, threading.Event]) -> None:
    server, _ = waiting
    with ScriptedServer([Step(hold=threading.Event(), repeat=True)]) as silent:
        clients = [real(server.url), real(silent.url)]
        calls = [Background(lambda client=client: client.submit(record())) for client in clients]
        assert server.arrived.acquire(timeout=LONG_S)
        assert silent.arrived.acquire(timeout=LONG_S)
        for client in clients:
            client.close()
        errors = [call.join() for call in calls]
        assert [error.code for error in errors if error] == ["cancelled"] * 2


def test_close_ends_a_call_that_queues_for_a_place() -> None:
    with ScriptedServer([recorded(hold=threading.Event(), repeat=True)]) as server:
        client = real(server.url, max_in_flight=1)
        calls = [Background(lambda: client.submit(record())) for _ in range(3)]
        assert server.arrived.acquire(timeout=LONG_S)
        client.close()
        errors = [call.join() for call in calls]
        assert [error.code for error in errors if error] == ["cancelled"] * 3
        assert len(server.seen) == 1


def test_a_call_that_queues_too_long_says_so() -> None:
    gate = threading.Event()
    with ScriptedServer([recorded(hold=gate, repeat=True)]) as server:
        client = real(server.url, max_in_flight=1)
        first = Background(lambda: client.submit(record()))
        assert server.arrived.acquire(timeout=LONG_S)
        with pytest.raises(TimeoutError) as caught:
            client.submit(record(), total_timeout_s=0.05)
        assert (caught.value.stop, caught.value.attempts) == ("deadline_exceeded", 0)
        gate.set()
        assert first.join() is None
        client.close()


def test_a_closed_client_refuses_every_call() -> None:
    client = Client("https://a.example", **options())
    client.close()
    client.close()
    for act in (lambda: client.submit(record()), lambda: client.get("a" * 64)):
        with pytest.raises(CancelledError) as caught:
            act()
        assert caught.value.stop == "cancelled"


def test_a_set_cancel_sends_nothing() -> None:
    cancel = threading.Event()
    cancel.set()
    with ScriptedServer() as server, Client(server.url, **options()) as client:
        with pytest.raises(CancelledError):
            client.submit(record(), cancel=cancel)
        assert server.connections == 0


def test_a_cancel_marks_the_rest_and_keeps_what_was_answered() -> None:
    cancel = threading.Event()
    with (
        ScriptedServer([recorded(repeat=True)]) as server,
        Client(server.url, **options()) as client,
    ):
        items = client.submit_many(map(record, range(50)), concurrency=2, cancel=cancel)
        first = next(items)
        cancel.set()
        rest = list(items)
    assert first.result is not None
    assert [item.index for item in rest] == list(range(1, 50))
    codes = [item.error.code if item.error else None for item in rest]
    assert codes[-1] == "cancelled"
    cut = codes.index("cancelled")
    assert cut <= 4 + 2
    assert set(codes) <= {None, "cancelled"}
    assert len(server.seen) <= 8


def test_the_input_is_read_no_more_than_twice_the_width_ahead() -> None:
    read: list[int] = []

    def source() -> Iterator[Any]:
        for number in range(1_000_000):
            read.append(number)
            yield record(number % 5)

    gate = threading.Event()
    with (
        ScriptedServer([recorded(hold=gate, repeat=True)]) as server,
        Client(server.url, **options()) as client,
    ):
        items = client.submit_many(source(), concurrency=3)
        assert read == []
        first = Background(lambda: next(items))
        for _ in range(3):
            assert server.arrived.acquire(timeout=LONG_S)
        gate.set()
        assert first.join() is None
        assert len(read) <= 2 * 3 + 1
        assert isinstance(items, Generator)
        items.close()
    assert len(read) <= 2 * 3 + 1


def test_turning_away_from_the_answers_ends_what_is_in_flight() -> None:
    first_alone = recorded(hold=threading.Event(), free=is_first, repeat=True)
    with ScriptedServer([first_alone]) as server:
        client = real(server.url)
        items = client.submit_many(map(record, range(100)), concurrency=4)
        assert next(items).result is not None
        assert isinstance(items, Generator)
        items.close()
        assert len(server.seen) <= 5 + 4
        client.close()


def test_the_system_clock_waits_no_shorter_and_ends_by_a_cancel() -> None:
    clock = SystemClock()
    before = clock.monotonic_ms()
    assert clock.wait(20) is False
    assert clock.monotonic_ms() - before >= 20
    cancel = threading.Event()
    timer = threading.Timer(0.02, cancel.set)
    timer.start()
    assert clock.wait(60_000, AnyCancel(threading.Event(), cancel)) is True
    assert clock.wait(60_000, cancel) is True
    timer.join()
    assert clock.now_ms() > 1_700_000_000_000


def test_any_of_several_cancels_counts() -> None:
    first, second = threading.Event(), threading.Event()
    both = AnyCancel(first, None, second)
    assert (both.is_set(), both.wait(0.001)) == (False, False)
    second.set()
    assert (both.is_set(), both.wait()) == (True, True)
    assert AnyCancel(first).wait(0.001) is False
