"""`kill -9` at random moments under load: what was acknowledged is there, as it was answered.

The default number of kills fits into every run; `FLK_KILLS` asks for more.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from region import (
    ACME,
    ACME_TOKEN,
    HANG_S,
    Reply,
    ServerProcess,
    Wire,
    members,
    request_bytes,
    write_home,
)

from fractal_lba.sign import SignedRecord, sign

KILLS = int(os.environ.get("FLK_KILLS", "50"))
CONNECTIONS = 64
ANSWERS_MAX = 300
"""A kill comes after a random number of answers up to this, and a random moment later."""

PAUSE_S_MAX = 0.02
SEED = int(os.environ.get("FLK_SEED", "20260115"))


@dataclass(slots=True)
class Books:
    """What the client knows: what it was promised, and what it never heard of again."""

    promised: dict[str, tuple[int, bytes, str]] = field(default_factory=dict)
    """By id: status, outcome and position of the first answer."""
    bodies: dict[str, bytes] = field(default_factory=dict)
    unknown: list[SignedRecord] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    """Records without an answer, at each kill."""
    survived: int = 0
    """Records that were recorded although their answer never came."""

    def take(self, record: SignedRecord, reply: Reply) -> None:
        """Keep the first answer, and hold every later one against it."""
        facts = (reply.status, reply.body, reply.headers["pcs-position"])
        assert reply.status in (200, 202), reply
        assert self.promised.setdefault(record.pcs_id, facts) == facts
        self.bodies[record.pcs_id] = record.body


def _records() -> Iterator[SignedRecord]:
    while True:
        yield sign(members(), ACME, tenant="acme")


RECORDS = _records()


async def _load(port: int, books: Books, unknown: list[SignedRecord]) -> None:
    """Submit until the server is gone: first what has no answer yet, then new records."""
    wire = await Wire.open(port)
    record = None
    try:
        while True:
            record = unknown.pop() if unknown else next(RECORDS)
            again = record in books.unknown
            wire.send(request_bytes(record.body))
            reply = await wire.reply()
            books.take(record, reply)
            if again:
                books.survived += reply.headers["idempotency-replayed"] == "true"
            record = None
    except (ConnectionError, asyncio.IncompleteReadError):
        if record is not None:
            books.in_flight[-1] += 1
            books.unknown.append(record)
    finally:
        wire.close()


async def _load_and_kill(server: ServerProcess, books: Books, chance: random.Random) -> None:
    retries = list(books.unknown)
    before = len(books.promised)
    books.in_flight.append(0)
    clients = [asyncio.create_task(_load(server.port, books, retries)) for _ in range(CONNECTIONS)]
    enough = before + chance.randint(1, ANSWERS_MAX)
    while len(books.promised) < enough and not any(client.done() for client in clients):
        await asyncio.sleep(0)
    await asyncio.sleep(chance.uniform(0, PAUSE_S_MAX))
    server.process.kill()
    await asyncio.wait_for(asyncio.gather(*clients), HANG_S)
    answered = books.promised.keys()
    books.unknown = [record for record in books.unknown if record.pcs_id not in answered]


async def _check(port: int, books: Books, ids: list[str]) -> None:
    """Submit and read again everything that was promised: the answers are the old ones."""
    wires = [await Wire.open(port) for _ in range(8)]

    async def run(wire: Wire, mine: list[str]) -> None:
        for pcs_id in mine:
            promise = books.promised[pcs_id]
            wire.send(request_bytes(books.bodies[pcs_id]))
            reply = await wire.reply()
            assert reply.headers["idempotency-replayed"] == "true", f"{pcs_id} was lost"
            assert (reply.status, reply.body, reply.headers["pcs-position"]) == promise
            wire.send(
                f"GET /v1/pcs/{pcs_id} HTTP/1.1\r\nhost: a\r\n"
                f"authorization: Bearer {ACME_TOKEN}\r\n\r\n".encode()
            )
            read = await wire.reply()
            assert (read.status, read.body, read.headers["pcs-position"]) == promise

    await asyncio.gather(*(run(wire, ids[i::8]) for i, wire in enumerate(wires)))
    for wire in wires:
        wire.close()


@pytest.mark.crash
def test_nothing_acknowledged_is_lost_by_kill_9(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    books = Books()
    # Small segments, so that kills also fall into the change from one to the next.
    server = ServerProcess(write_home(tmp_path, wal={"segment_bytes": "1MiB"}))
    replayed = cut = 0
    for _ in range(KILLS):
        known = len(books.promised)
        server.start()
        recovered = server.event("log_recovered")
        replayed += recovered["replayed"]
        cut += recovered["cut_bytes"] > 0
        asyncio.run(_load_and_kill(server, books, chance))
        server.wait()
        assert len(books.promised) > known
    server.start()
    asyncio.run(_check(server.port, books, list(books.promised)))
    segments = len(list((server.data / "wal" / "open").iterdir()))
    assert server.stop() == 0

    flight = sorted(books.in_flight)
    assert flight[-1] > 0, "no kill met a record in flight, so nothing was tried"
    assert replayed > 0, "the index was never behind the log"
    with capsys.disabled():
        print(
            f"\n{KILLS} kills (seed {SEED}), {segments} segments, {cut} torn tails cut, "
            f"{replayed} outcomes replayed from the log"
            f"\nrecords in flight at a kill: least {flight[0]}, median {flight[KILLS // 2]}, "
            f"most {flight[-1]}, together {sum(flight)}; {books.survived} of them were recorded"
            f"\nlost: 0 of {len(books.promised)} acknowledged records; 95 % bounds: "
            f"{3 / KILLS:.1%} of kills, {3 / len(books.promised):.4%} of records"
        )
