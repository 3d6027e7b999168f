"""The asynchronous client among tasks: cancel, close, async input, and the missing extra."""

# tidy: long because a reason stands beside what it excuses

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from clients import SIGNER, is_first, options, record
from scripted_server import ScriptedServer, Step, recorded, refused

from fractal_lba.aio import AsyncClient
from fractal_lba.clock import SystemClock
from fractal_lba.errors import CancelledError, ConfigError, FractalLBAError, TimeoutError

LONG_S = 30.0
"""A bound that no test waits for."""


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LONG_S):
            await main()

    asyncio.run(bounded())


def real(url: str, **changes: Any) -> AsyncClient:
    """Give a client on the real clock: its waits end by a cancel, or the test hangs."""
    return AsyncClient(url, signer=SIGNER, tenant="acme", **changes)


async def arrived(server: ScriptedServer, count: int = 1) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(server.arrived.acquire, timeout=LONG_S)


async def failed(task: asyncio.Task[Any]) -> FractalLBAError:
    with pytest.raises(FractalLBAError) as caught:
        await task
    return caught.value


def silent() -> Step:
    return Step(hold=threading.Event(), repeat=True)


def test_a_cancel_ends_an_attempt_and_a_wait() -> None:
    async def main() -> None:
        asked = refused(503, "unavailable", {"Retry-After": "50"})
        with ScriptedServer([silent()]) as first, ScriptedServer([asked]) as second:
            for server, attempts in ((first, 1), (second, 1)):
                cancel = asyncio.Event()
                async with real(server.url) as client:
                    call = asyncio.create_task(client.submit(record(), cancel=cancel))
                    await arrived(server)
                    cancel.set()
                    error = await failed(call)
                assert isinstance(error, CancelledError)
                assert (error.stop, error.attempts) == ("cancelled", attempts)

    run(main)


def test_the_cancellation_of_a_task_passes_untouched() -> None:
    async def main() -> None:
        with ScriptedServer([silent()]) as server:
            async with real(server.url) as client:
                call = asyncio.create_task(client.submit(record()))
                await arrived(server)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert client._free_places == 64
                assert client._stops == set()

    run(main)


def test_close_ends_attempts_waits_and_queues() -> None:
    async def main() -> None:
        with ScriptedServer([silent()]) as server:
            client = real(server.url, max_in_flight=1)
            calls = [asyncio.create_task(client.submit(record(n))) for n in range(3)]
            health = asyncio.create_task(client.health())
            await arrived(server, 2)
            await client.close()
            assert [(await failed(call)).code for call in calls] == ["cancelled"] * 3
            assert [each.error for each in await health] == ["cancelled"]
            with pytest.raises(CancelledError):
                await client.submit(record())
            with pytest.raises(CancelledError):
                await client.get("a" * 64)

    run(main)


def test_a_call_that_queues_too_long_says_so() -> None:
    async def main() -> None:
        gate = threading.Event()
        with ScriptedServer([recorded(hold=gate, repeat=True)]) as server:
            async with real(server.url, max_in_flight=1) as client:
                first = asyncio.create_task(client.submit(record()))
                await arrived(server)
                with pytest.raises(TimeoutError) as caught:
                    await client.submit(record(), total_timeout_s=0.05)
                assert (caught.value.stop, caught.value.attempts) == ("deadline_exceeded", 0)
                gate.set()
                assert (await first).outcome.accepted

    run(main)


def test_a_set_cancel_sends_nothing() -> None:
    async def main() -> None:
        cancel = asyncio.Event()
        cancel.set()
        with ScriptedServer() as server:
            async with AsyncClient(server.url, **options()) as client:
                with pytest.raises(CancelledError):
                    await client.submit(record(), cancel=cancel)
            assert server.connections == 0

    run(main)


def test_an_asynchronous_input_is_answered_as_it_comes() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def source() -> AsyncIterator[Any]:
            yield record(1)
            await go_on.wait()  # the first answer comes although the next record does not
            yield record(2)

        with ScriptedServer([recorded(repeat=True)]) as server:
            async with AsyncClient(server.url, **options()) as client:
                items = client.submit_many(source())
                assert (await anext(items)).index == 0
                go_on.set()
                assert (await anext(items)).index == 1
                assert [item async for item in items] == []

    run(main)


def test_the_input_is_read_no_more_than_twice_the_width_ahead() -> None:
    async def main() -> None:
        read: list[int] = []

        async def source() -> AsyncIterator[Any]:
            for number in range(1_000_000):
                read.append(number)
                yield record(number % 5)

        gate = threading.Event()
        with ScriptedServer([recorded(hold=gate, repeat=True)]) as server:
            async with AsyncClient(server.url, **options()) as client:
                items = client.submit_many(source(), concurrency=3)
                first = asyncio.create_task(anext(items))  # type: ignore[arg-type]  # a coroutine it is
                await arrived(server, 3)
                gate.set()
                await first
                assert len(read) <= 2 * 3 + 2
                await items.aclose()
                assert server.in_flight_max == 3

    run(main)


def test_a_cancel_marks_the_rest() -> None:
    async def main() -> None:
        cancel = asyncio.Event()
        with ScriptedServer([recorded(repeat=True)]) as server:
            async with AsyncClient(server.url, **options()) as client:
                items = client.submit_many(map(record, range(40)), concurrency=2, cancel=cancel)
                assert (await anext(items)).result is not None
                cancel.set()
                rest = [item async for item in items]
        assert [item.index for item in rest] == list(range(1, 40))
        assert rest[-1].error is not None
        assert rest[-1].error.code == "cancelled"

    run(main)


def test_turning_away_from_the_answers_ends_what_is_in_flight() -> None:
    async def main() -> None:
        first_alone = recorded(hold=threading.Event(), free=is_first, repeat=True)
        with ScriptedServer([first_alone]) as server:
            async with real(server.url) as client:
                items = client.submit_many(map(record, range(100)), concurrency=4)
                assert (await anext(items)).result is not None
                await items.aclose()
                assert client._free_places == 64

    run(main)


def test_without_httpx_an_own_transport_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "fractal_lba.httpx_transport", raising=False)
    with pytest.raises(ConfigError, match="the extra httpx"):
        AsyncClient("https://a.example", **options())
    AsyncClient("https://a.example", **options(transport=object()))


def test_the_system_clock_waits_no_shorter() -> None:
    async def main() -> None:
        clock = SystemClock()
        before = clock.monotonic_ms()
        await clock.wait_async(20)
        assert clock.monotonic_ms() - before >= 20

    run(main)
