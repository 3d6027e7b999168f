"""Clients that hang, trickle, leave or hurry: each is dealt with, and the next is served."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_files import GatedFiles
from region import (
    ACME,
    ED25519,
    HANG_S,
    SETTLE_S,
    ServerProcess,
    Wire,
    files_are,
    request_bytes,
    running_region,
    signed,
    submit,
    write_home,
)

from fractal_lba.canonical import MAX_RECORD_BYTES
from fractal_lba_server.server import EXIT_LOG_FAILED

CONNECTIONS = 40
IMPATIENT = {
    "head_timeout_s": 0.3,
    "body_timeout_s": 0.3,
    "connections": CONNECTIONS,
    "unauthenticated_per_s": 1_000_000,
    "body_bytes_in_flight": 1_000_000,
}
HEAD = b"POST /v1/pcs/submit HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that waits for nobody."""
    process = ServerProcess(write_home(tmp_path_factory.mktemp("clients"), limits=IMPATIENT))
    process.start()
    yield process
    assert process.stop() == 0
    assert "Traceback" not in process.stderr()


@pytest.fixture(autouse=True)
def next_request_is_served(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a client did, the next record is taken and its duplicate recognised."""
    yield
    if "impatient" in request.fixturenames:
        server: ServerProcess = request.getfixturevalue("impatient")
        record = signed()
        replies = [submit(server.port, record.body) for _ in range(2)]
        assert [r.headers["idempotency-replayed"] for r in replies] == ["false", "true"]


def run(task: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, but not for ever."""

    async def guarded() -> Any:
        return await asyncio.wait_for(task, HANG_S)

    return asyncio.run(guarded())


async def trickle(port: int, data: bytes, pause_s: float) -> bytes:
    """Send byte by byte until the server closes; give what it said."""
    wire = await Wire.open(port)

    async def send() -> None:
        for i in range(len(data)):
            wire.send(data[i : i + 1])
            await asyncio.sleep(pause_s)

    sending = asyncio.create_task(send())
    said = await wire.rest()
    sending.cancel()
    wire.close()
    return said


@pytest.mark.parametrize("sent", [b"P", HEAD[:30], HEAD, HEAD + b"content-length: 10\r\n"])
def test_half_a_head_ends_in_408(impatient: ServerProcess, sent: bytes) -> None:
    async def hang() -> bytes:
        wire = await Wire.open(impatient.port)
        wire.send(sent)
        return await wire.rest()

    assert run(hang()).startswith(b"HTTP/1.1 408 ")


def test_trickled_head_ends_in_408(impatient: ServerProcess) -> None:
    said = run(trickle(impatient.port, HEAD * 10, 0.02))
    assert said.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "framing", [b"content-length: 1000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n3e8\r\n"]
)
@pytest.mark.parametrize("pause_s", [0.02, 30.0])
def test_slow_body_ends_in_408_with_a_problem(
    impatient: ServerProcess, framing: bytes, pause_s: float
) -> None:
    async def hang() -> None:
        wire = await Wire.open(impatient.port)
        wire.send(HEAD + framing)

        async def send() -> None:
            for _ in range(1_000):
                wire.send(b" ")
                await asyncio.sleep(pause_s)

        sending = asyncio.create_task(send())
        reply = await wire.reply()
        rest = await wire.rest()
        sending.cancel()
        wire.close()
        assert (reply.status, reply.code, rest) == (408, "request_timeout", b"")
        assert reply.headers["connection"] == "close"

    run(hang())


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_disconnect_in_the_middle_leaves_nothing(
    impatient: ServerProcess, share: float, reset: bool
) -> None:
    record = signed()
    data = request_bytes(record.body)

    async def leave() -> None:
        for _ in range(20):
            wire = await Wire.open(impatient.port)
            wire.send(data[: int(len(data) * share)])
            await asyncio.sleep(0)
            wire.abort() if reset else wire.close()

    run(leave())
    assert submit(impatient.port, record.body).headers["idempotency-replayed"] == "false"


def test_record_of_a_client_that_left_is_recorded_all_the_same(tmp_path: Path) -> None:
    files = GatedFiles()
    records = [signed() for _ in range(10)]

    async def leave() -> None:
        async with running_region(write_home(tmp_path)) as running:
            files.gate.clear()
            waiting = running.region.driver._replies
            for i, record in enumerate(records):
                wire = await Wire.open(running.port)
                wire.send(request_bytes(record.body))
                while len(waiting) <= i:
                    await asyncio.sleep(SETTLE_S)
                wire.abort() if i % 2 else wire.close()
            files.gate.set()
            while waiting:
                await asyncio.sleep(SETTLE_S)
            for record in records:
                reply = await asyncio.to_thread(submit, running.port, record.body)
                assert reply.headers["idempotency-replayed"] == "true"

    with files_are(files):
        run(leave())


def test_pipelined_requests_are_answered_in_order(impatient: ServerProcess) -> None:
    records = [signed() for _ in range(50)]

    async def hurry(parts: list[bytes]) -> list[str]:
        wire = await Wire.open(impatient.port)
        for part in parts:
            wire.send(part)
            await asyncio.sleep(0)
        replies = [await wire.reply() for _ in records]
        wire.close()
        return [json.loads(reply.body)["pcs_id"] for reply in replies]

    whole = b"".join(request_bytes(record.body) for record in records)
    odd = [whole[i : i + 777] for i in range(0, len(whole), 777)]
    ids = [record.pcs_id for record in records]
    assert run(hurry([whole])) == ids
    assert run(hurry(odd)) == ids


def test_request_that_arrives_with_an_answer_does_not_pass_one_that_waits(
    tmp_path: Path,
) -> None:
    files = GatedFiles()
    first, second, third = signed(), signed(), signed()

    async def race() -> None:
        async with running_region(write_home(tmp_path)) as running:
            driver = running.region.driver
            files.gate.clear()
            wire = await Wire.open(running.port)
            wire.send(request_bytes(first.body) + request_bytes(second.body))
            while not driver._replies:
                await asyncio.sleep(SETTLE_S)
            (connection,) = running.region._servers[0][0].server_state.connections
            answered = driver._answer

            def answer_and_receive(effect: Any) -> None:
                driver._carriers[type(effect)] = answered
                answered(effect)
                # In this same turn of the loop the socket has become readable.
                connection.data_received(request_bytes(third.body))

            for kind, carrier in list(driver._carriers.items()):
                if carrier == answered:
                    driver._carriers[kind] = answer_and_receive
            files.gate.set()
            replies = [await wire.reply() for _ in range(3)]
            wire.close()
            ids = [json.loads(reply.body)["pcs_id"] for reply in replies]
            assert ids == [first.pcs_id, second.pcs_id, third.pcs_id]

    with files_are(files):
        run(race())


def test_half_closed_client_hears_its_answers(tmp_path: Path) -> None:
    files = GatedFiles()
    records = [signed() for _ in range(3)]

    async def half_close() -> None:
        async with running_region(write_home(tmp_path)) as running:
            files.gate.clear()
            wire = await Wire.open(running.port)
            wire.send(b"".join(request_bytes(record.body) for record in records))
            wire.end()
            while not running.region.driver._replies:
                await asyncio.sleep(SETTLE_S)
            for _ in range(10):
                await asyncio.sleep(SETTLE_S)
            files.gate.set()
            replies = [await wire.reply() for _ in records]
            assert [reply.status for reply in replies] == [200] * 3
            assert await wire.rest() == b""
            wire.close()

    with files_are(files):
        run(half_close())


def test_stop_answers_what_was_taken(tmp_path: Path) -> None:
    files = GatedFiles()
    records = [signed() for _ in range(20)]

    async def stop() -> None:
        async with running_region(write_home(tmp_path)) as running:
            files.gate.clear()
            wires = [await Wire.open(running.port) for _ in records]
            for wire, record in zip(wires, records, strict=True):
                wire.send(request_bytes(record.body))
            while len(running.region.driver._replies) < len(records):
                await asyncio.sleep(SETTLE_S)
            os.kill(os.getpid(), signal.SIGTERM)
            while running.region.driver.closed() is None:
                await asyncio.sleep(SETTLE_S)
            files.gate.set()
            for wire, record in zip(wires, records, strict=True):
                reply = await wire.reply()
                assert (reply.status, reply.outcome["pcs_id"]) == (200, record.pcs_id)
                wire.close()
        assert running.status == 0

    with files_are(files):
        run(stop())


@pytest.mark.parametrize("alg", ["HMAC", "Ed25519"])
def test_failed_sync_answers_everybody_who_waits_once(tmp_path: Path, alg: str) -> None:
    files = GatedFiles()
    signer, tenant = (ACME, "acme") if alg == "HMAC" else (ED25519, "beta")
    records = [signed(signer=signer, tenant=tenant) for _ in range(20)]

    async def fail() -> None:
        async with running_region(write_home(tmp_path)) as running:
            files.gate.clear()
            wires = [await Wire.open(running.port) for _ in records]
            for wire, record in zip(wires, records, strict=True):
                wire.send(request_bytes(record.body))
            while len(running.region.driver._replies) < len(records):
                await asyncio.sleep(SETTLE_S)
            files.errors["fdatasync"] = errno.EIO
            files.gate.set()
            for wire in wires:
                reply = await wire.reply()
                assert (reply.status, reply.code) == (503, "unavailable")
                wire.close()
            await asyncio.wait_for(running.stopped, HANG_S)
        assert running.status == EXIT_LOG_FAILED

    with files_are(files):
        run(fail())
    assert "Traceback" not in (tmp_path / "region.log").read_text(encoding="utf-8")


def test_client_that_ends_without_a_request_is_let_go(impatient: ServerProcess) -> None:
    async def end() -> bytes:
        wire = await Wire.open(impatient.port)
        wire.end()
        return await wire.rest()

    assert run(end()) == b""


@pytest.mark.parametrize("size", [MAX_RECORD_BYTES + 1, 8 * 1024 * 1024])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_sender_of_too_much_hears_so(impatient: ServerProcess, size: int, chunked: bool) -> None:
    async def send() -> None:
        wire = await Wire.open(impatient.port)
        if chunked:
            block = b"%x\r\n" % 65_536 + bytes(65_536) + b"\r\n"
            wire.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            wire.send(block * (-(-size // 65_536)) + b"0\r\n\r\n")
        else:
            wire.send(HEAD + b"content-length: %d\r\n\r\n" % size + bytes(size))
        reply = await wire.reply()
        assert (reply.status, reply.code) == (413, "payload_too_large")
        assert await wire.rest() == b""
        wire.close()

    run(send())


def test_sender_that_asks_first_hears_without_sending(impatient: ServerProcess) -> None:
    async def send() -> None:
        wire = await Wire.open(impatient.port)
        record = signed()
        expect = b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"
        wire.send(HEAD + expect % len(record.body))
        assert (await wire.reply()).status == 100
        wire.send(record.body)
        assert (await wire.reply()).status == 200
        wire.send(HEAD + expect % (MAX_RECORD_BYTES + 1))
        assert (await wire.reply()).status == 413
        wire.close()

    run(send())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health HTTP/1.1\r\n" + b"".join(b"x%d: 1\r\n" % i for i in range(101)), 431),
        (b"GET /health HTTP/1.1\r\nx: " + b"a" * 20_000 + b"\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n", 431),
        (b"GET /health HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n", 400),
        (b"GET /health HTTP/9.1\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    ],
)
def test_head_outside_the_rules_is_a_bare_status(
    impatient: ServerProcess, head: bytes, status: int
) -> None:
    async def send() -> bytes:
        wire = await Wire.open(impatient.port)
        wire.send(head + b"host: a\r\n\r\n")
        said = await wire.rest()
        wire.close()
        return said

    assert run(send()).startswith(b"HTTP/1.1 %d " % status)


def test_connection_too_many_is_503(impatient: ServerProcess) -> None:
    async def crowd() -> None:
        wires = [await Wire.open(impatient.port) for _ in range(CONNECTIONS)]
        for wire in wires:
            wire.send(request_bytes(signed().body))
        for wire in wires:
            assert (await wire.reply()).status == 200
        late = await Wire.open(impatient.port)
        assert (await late.rest()).startswith(b"HTTP/1.1 503 ")
        for wire in wires:
            wire.close()

    run(crowd())


def test_bodies_beyond_the_memory_for_them_are_503(impatient: ServerProcess) -> None:
    async def hoard() -> None:
        wires = [await Wire.open(impatient.port) for _ in range(20)]
        for wire in wires:
            wire.send(HEAD + b"content-length: %d\r\n\r\n" % MAX_RECORD_BYTES + bytes(60_000))
        replies = [await wire.reply() for wire in wires]
        # 16 bodies of 60,000 bytes fit into a million; they only wait until their time is up.
        assert sorted(reply.status for reply in replies) == [408] * 16 + [503] * 4
        assert {reply.code for reply in replies} == {"request_timeout", "unavailable"}
        for wire in wires:
            wire.close()

    run(hoard())
