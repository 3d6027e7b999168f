"""Submit through an outbox while the server is killed, and hold every answer against the log.

The invariant: `Wiretap` sees each exchange of the client, also those that the outbox makes in the
background, so "acknowledged" means here that the bytes of an answer have reached this process.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from demo.region import TENANT, Reader, Region
from fractal_lba import Client, HttpTransport, Record, open_outbox
from fractal_lba.canonical import jcs, parse_value
from fractal_lba.http import Cancel, RawResponse, Request
from fractal_lba.sign import Signer

CONCURRENCY: Final = 16
READERS: Final = 8
FLUSH_TIMEOUT_S: Final = 60
KILL_PAUSE_S_MAX: Final = 0.01
"""A kill comes after a random number of answers and a random moment up to this."""

RECORDED: Final = (200, 202)
"""Statuses of a stored outcome: accepted and done, or escalated."""


@dataclass(frozen=True, slots=True)
class Kill:
    """What was known at the moment of a SIGKILL, and how long the server was away."""

    at_s: float
    acknowledged: int
    in_flight: int
    away_s: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What came of the load."""

    kills: tuple[Kill, ...]
    acknowledged: dict[str, bytes]
    """The outcome of each record, by its id, in the bytes of the first answer."""

    answered_at_s: tuple[float, ...]
    latencies_ms: tuple[float, ...]
    failures: dict[str, int]
    """Calls that gave up while the server was away, by code; the outbox kept their records."""

    survived: int
    """Records whose first answer came as a duplicate: recorded before a kill, not yet heard."""

    contradictions: int
    left: int
    dead: int
    seconds: float


@dataclass(slots=True)
class Books:
    """What has been answered, kept by many threads under one lock."""

    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    answered_at_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    in_flight: int = 0
    survived: int = 0
    contradictions: int = 0

    def now_s(self) -> float:
        """Count seconds since the load began."""
        return time.monotonic() - self.started

    def take(self, outcome: bytes, *, replayed: bool) -> None:
        """Keep the first answer of a record, and hold every later one against it."""
        pcs_id: str = json.loads(outcome)["pcs_id"]
        known = self.acknowledged.get(pcs_id)
        if known is None:
            self.acknowledged[pcs_id] = outcome
            self.answered_at_s.append(self.now_s())
            self.survived += replayed
        elif known != outcome:
            self.contradictions += 1


class Wiretap(HttpTransport):
    """Carry requests as the SDK does, and note what was sent and answered."""

    def __init__(self, books: Books) -> None:
        super().__init__()
        self._books = books

    def send(
        self,
        request: Request,
        *,
        connect_timeout_s: float,
        attempt_timeout_s: float,
        cancel: Cancel | None,
    ) -> RawResponse:
        """Send, and note the answer before the client sees it."""
        books = self._books
        records = request.body.count(b"\n") if request.url.endswith("/batch") else 1
        started = time.monotonic()
        with books.lock:
            books.in_flight += records
        answer = None
        try:
            answer = super().send(
                request,
                connect_timeout_s=connect_timeout_s,
                attempt_timeout_s=attempt_timeout_s,
                cancel=cancel,
            )
            return answer
        finally:
            with books.lock:
                books.in_flight -= records
                if answer is not None:
                    self._note(request, answer, (time.monotonic() - started) * 1000)

    def _note(self, request: Request, answer: RawResponse, elapsed_ms: float) -> None:
        if answer.status not in RECORDED:
            return
        if request.url.endswith("/submit"):
            headers = {name.lower(): value for name, value in answer.headers}
            self._books.latencies_ms.append(elapsed_ms)
            self._books.take(answer.body, replayed=headers["idempotency-replayed"] == "true")
        elif request.url.endswith("/batch"):
            for line in answer.body.splitlines():
                item = parse_value(line)
                if isinstance(item, dict) and "outcome" in item:
                    self._books.take(jcs(item["outcome"]), replayed=item["replayed"] is True)


def run_load(
    region: Region,
    signer: Signer,
    records: Sequence[Record],
    outbox: Path,
    *,
    kills: int,
    chance: random.Random,
) -> LoadReport:
    """Submit all records, kill and restart the server meanwhile, and empty the outbox."""
    books = Books()
    wiretap = Wiretap(books)
    marks = kill_marks(len(records), kills, chance)
    failures: dict[str, int] = {}
    with (
        open_outbox(outbox) as kept,
        Client(
            region.url, signer=signer, tenant=TENANT, outbox=kept, transport=wiretap,
            concurrency=CONCURRENCY,
        ) as client,
        ThreadPoolExecutor(1) as pool,
    ):  # fmt: skip
        over = threading.Event()
        killing = pool.submit(_kill_at, region, books, marks, chance, over)
        try:
            for item in client.submit_many(records):
                if item.error is not None:
                    failures[item.error.code] = failures.get(item.error.code, 0) + 1
            client.flush(FLUSH_TIMEOUT_S)
        finally:
            over.set()
        done = killing.result()
        client.flush(FLUSH_TIMEOUT_S)
        stats = kept.stats()
    wiretap.close()
    return LoadReport(
        kills=tuple(done),
        acknowledged=books.acknowledged,
        answered_at_s=tuple(books.answered_at_s),
        latencies_ms=tuple(books.latencies_ms),
        failures=failures,
        survived=books.survived,
        contradictions=books.contradictions,
        left=stats.entries,
        dead=stats.dead,
        seconds=books.now_s(),
    )


def kill_marks(records: int, kills: int, chance: random.Random) -> list[int]:
    """Draw after how many answers each kill comes: one in the middle half of each equal part."""
    part = records / kills
    return [int(part * (index + chance.uniform(0.25, 0.75))) for index in range(kills)]


def _kill_at(
    region: Region,
    books: Books,
    marks: Sequence[int],
    chance: random.Random,
    over: threading.Event,
) -> list[Kill]:
    """Kill and restart at each mark that is reached before the load is over."""
    done: list[Kill] = []
    for mark in marks:
        while len(books.acknowledged) < mark and not over.wait(0.001):
            pass
        time.sleep(chance.uniform(0, KILL_PAUSE_S_MAX))
        while not books.in_flight and not over.wait(0.0005):
            pass
        if over.is_set():
            break
        with books.lock:  # no answer is noted between the count and the signal
            at_s, acknowledged = books.now_s(), len(books.acknowledged)
            in_flight = books.in_flight
            region.kill()
        region.start()
        done.append(Kill(at_s, acknowledged, in_flight, books.now_s() - at_s))
    return done


@dataclass(frozen=True, slots=True)
class ReadBack:
    """How the stored outcomes compare with the answers."""

    same: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]


def read_back(port: int, token: str, promised: dict[str, bytes]) -> ReadBack:
    """GET every promised outcome and compare its bytes."""
    ids = list(promised)

    def read_some(mine: list[str]) -> list[tuple[str, int, bytes]]:
        reader = Reader(port, token)
        try:
            return [(pcs_id, *reader.read(pcs_id)) for pcs_id in mine]
        finally:
            reader.close()

    with ThreadPoolExecutor(READERS) as pool:
        parts = list(pool.map(read_some, (ids[start::READERS] for start in range(READERS))))
    answers = [answer for part in parts for answer in part]
    missing = tuple(pcs_id for pcs_id, status, _ in answers if status not in RECORDED)
    changed = tuple(
        pcs_id
        for pcs_id, status, body in answers
        if status in RECORDED and body != promised[pcs_id]
    )
    return ReadBack(len(answers) - len(missing) - len(changed), missing, changed)
