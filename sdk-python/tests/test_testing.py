"""The tools for tests are themselves tested: they are public API."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fractal_lba.errors import CancelledError, ConnectionError, TimeoutError
from fractal_lba.http import RawResponse, Request, Transport
from fractal_lba.outcome import Outcome
from fractal_lba.testing import (
    START_MS,
    FakeClock,
    Fault,
    Reply,
    ScriptedTransport,
    SeededRandom,
    Step,
    outcome_body,
)

REQUEST = Request("GET", "https://a.example/health", ())


def send(transport: Transport, cancel: threading.Event | None = None) -> RawResponse:
    return transport.send(REQUEST, connect_timeout_s=1, attempt_timeout_s=2, cancel=cancel)


def test_a_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock()
    assert clock.now_ms() == clock.monotonic_ms() == START_MS
    clock.advance(5)
    assert not clock.wait(7)
    asyncio.run(clock.wait_async(8))
    assert (clock.now_ms() - START_MS, clock.waits_ms) == (20, [7, 8])
    with pytest.raises(ValueError, match="step_ms"):
        clock.advance(-1)


def test_a_cancelled_wait_takes_no_time() -> None:
    clock, cancel = FakeClock(now_ms=0), threading.Event()
    assert not clock.wait(1, cancel)
    cancel.set()
    assert clock.wait(9, cancel)
    assert (clock.now_ms(), clock.waits_ms) == (1, [1])


def test_seeded_numbers_are_those_of_splitmix() -> None:
    drawn = SeededRandom(0)
    assert [drawn.random() for _ in range(2)] == [0.8833108082136426, 0.43152799704850997]
    assert SeededRandom(1).random() == SeededRandom(1 + 2**64).random() != SeededRandom(0).random()
    many = [drawn.random() for _ in range(2000)]
    assert all(0 <= u < 1 for u in many)
    assert abs(sum(many) / len(many) - 0.5) < 0.03


def test_a_script_is_played_in_order() -> None:
    clock = FakeClock(now_ms=0)
    script: list[Step] = [
        Reply(503, [("Retry-After", "1")], delay_ms=30),
        lambda request: Reply(200, body=request.url.encode()),
    ]
    transport = ScriptedTransport(script, clock=clock)
    assert send(transport) == RawResponse(503, [("Retry-After", "1")], b"")
    assert send(transport).body == REQUEST.url.encode()
    assert (transport.requests, clock.now_ms()) == ([REQUEST, REQUEST], 30)
    with pytest.raises(AssertionError, match="request 3"):
        send(transport)
    transport.close()


def test_faults_are_errors_of_the_network() -> None:
    transport = ScriptedTransport([Fault("connection_lost", delay_ms=9), Reply(200, delay_ms=2001)])
    started_ms = transport.clock.now_ms()
    with pytest.raises(ConnectionError) as lost:
        send(transport)
    assert (lost.value.code, transport.clock.now_ms() - started_ms) == ("connection_lost", 9)
    with pytest.raises(TimeoutError) as late:
        send(transport)
    assert (late.value.code, transport.clock.now_ms() - started_ms) == ("attempt_timeout", 2009)


def test_a_cancelled_request_is_not_sent() -> None:
    transport, cancel = ScriptedTransport([Reply(200)]), threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        send(transport, cancel)
    assert transport.requests == []
    cancel.clear()
    assert send(transport, cancel).status == 200


def test_the_same_script_serves_asynchronous_clients() -> None:
    transport = ScriptedTransport([Reply(204)])
    answer = transport.send_async(REQUEST, connect_timeout_s=1, attempt_timeout_s=1, cancel=None)
    assert asyncio.run(answer).status == 204


def test_an_outcome_body_is_an_outcome() -> None:
    assert Outcome.from_json(outcome_body("a" * 64)).accepted
