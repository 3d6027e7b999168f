"""Both clients with an outbox: kept before it is sent, sent until it is acknowledged."""

# tidy: long because each test is one sentence of one contract

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from clients import KEY, SIGNER, AnyClient, options, record
from fault_files import FaultFiles
from scripted_server import ScriptedServer, Seen, Step, recorded, refused

from fractal_lba.aio import AsyncClient
from fractal_lba.canonical import jcs
from fractal_lba.client import Client
from fractal_lba.errors import (
    CancelledError,
    ConfigError,
    ConflictError,
    FractalLBAError,
    OutboxError,
    UnavailableError,
)
from fractal_lba.hooks import Hooks
from fractal_lba.http import RawResponse
from fractal_lba.outbox import Owner
from fractal_lba.retry import RetryPolicy
from fractal_lba.sign import HmacSigner, sign_record
from fractal_lba.spool import Outbox, open_outbox
from fractal_lba.testing import FakeClock, Reply, ScriptedTransport, outcome_body

LONG_S = 30.0
DAY_MS = 86_400_000
CONFLICTING = refused(409, "pcs_id_conflict")
AWAY = refused(503, "unavailable")

Make = Callable[..., AnyClient]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
def box(directory: Path) -> Iterator[Outbox]:
    with open_outbox(directory, background=False) as opened:
        yield opened


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[AnyClient] = []

    def make_one(endpoints: Any, outbox: Outbox, **changes: Any) -> AnyClient:
        made.append(AnyClient(request.param, endpoints, outbox=outbox, **changes))
        return made[-1]

    yield make_one
    for client in made:
        client.end()


def batch_answer(seen: Seen) -> bytes:
    """Record every line of a batch."""
    lines = []
    for index, line in enumerate(seen.body.splitlines()):
        outcome = json.loads(outcome_body(json.loads(line)["pcs_id"]))
        item = {"index": index, "status": 200, "replayed": False, "outcome": outcome}
        lines.append(jcs(item) + b"\n")
    return b"".join(lines)


def fresh(number: int = 7) -> dict[str, Any]:
    """Give a record of now, for a client on the real clock."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return record(number) | {"sent_at": now}


BATCH = Step(200, {"Content-Type": "application/x-ndjson"}, batch_answer)


def any_answer(seen: Seen) -> bytes:
    """Record whatever comes."""
    if seen.path == "/v1/pcs/batch":
        return batch_answer(seen)
    return outcome_body(json.loads(seen.body)["pcs_id"])


ANY = Step(200, {}, any_answer, repeat=True)


def counts(box: Outbox) -> tuple[int, int]:
    stats = box.stats()
    return stats.entries, stats.dead


# --- submit --------------------------------------------------------------------------------


def test_an_acknowledged_submit_leaves_nothing_behind(make: Make, box: Outbox) -> None:
    with ScriptedServer([recorded()]) as server:
        assert make(server.url, box).submit(record()).outcome.accepted
    assert counts(box) == (0, 0)


def test_the_letter_is_on_disk_before_the_first_byte_goes_out(
    make: Make, box: Outbox, directory: Path
) -> None:
    found: list[bool] = []

    def look(seen: Seen) -> bytes:
        text = json.dumps(seen.body.decode(), ensure_ascii=False).encode()
        found.append(any(text in path.read_bytes() for path in directory.glob("*.log")))
        return outcome_body(json.loads(seen.body)["pcs_id"])

    with ScriptedServer([Step(200, {}, look)]) as server:
        make(server.url, box).submit(record())
    assert found == [True]


def test_a_stopped_submit_is_queued_and_sent_later_with_the_same_bytes(
    make: Make, box: Outbox
) -> None:
    with ScriptedServer([AWAY, AWAY, AWAY, recorded()]) as server:
        client = make(server.url, box)
        with pytest.raises(UnavailableError) as caught:
            client.submit(record())
        assert caught.value.queued
        assert counts(box) == (1, 0)
        assert client.flush(60).entries == 0
    assert len({seen.body for seen in server.seen}) == 1
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1
    assert "x-retry-attempt" not in server.seen[3].headers


def test_a_restart_goes_on_where_the_last_process_ended(make: Make, directory: Path) -> None:
    with ScriptedServer([AWAY] * 3) as server, open_outbox(directory, background=False) as box:
        client = make(server.url, box)
        with pytest.raises(UnavailableError):
            client.submit(record())
        client.close()
    first = server.seen[0]
    with ScriptedServer([recorded()]) as server, open_outbox(directory, background=False) as box:
        client = make(server.url, box, signer=None, tenant="another")
        assert client.flush(60).entries == 0
        client.close()
    (seen,) = server.seen
    assert seen.body == first.body
    assert seen.headers["x-tenant-id"] == "acme", "the tenant is the one that signed"


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_what_the_server_will_never_take_becomes_a_dead_letter(
    make: Make, box: Outbox, status: int
) -> None:
    with ScriptedServer([refused(status, "pcs_id_conflict"), recorded()]) as server:
        client = make(server.url, box)
        with pytest.raises(FractalLBAError) as caught:
            client.submit(record())
        assert not caught.value.queued
        assert counts(box) == (0, 1)
        (dead,) = box.dead()
        assert (dead.status, dead.code) == (status, "pcs_id_conflict")
        assert json.loads(dead.response)["code"] == "pcs_id_conflict"
        box.requeue(dead.id)
        client.flush(60)
        assert counts(box) == (0, 0)
    assert server.seen[0].body == server.seen[1].body


def test_a_record_that_is_refused_here_is_not_kept(make: Make, box: Outbox) -> None:
    client = make("https://a.example", box)
    with pytest.raises(FractalLBAError):
        client.submit(record() | {"extra": 1})
    assert counts(box) == (0, 0)


def test_a_full_outbox_sends_nothing(make: Make, directory: Path) -> None:
    with ScriptedServer() as server, open_outbox(directory, max_entries=1) as box:
        client = make(server.url, box)
        box.background = False
        client.enqueue(record(1))
        with pytest.raises(OutboxError) as caught:
            client.submit(record(2))
        assert (caught.value.code, caught.value.queued) == ("outbox_full", False)
        assert server.connections == 0
        client.close()


def test_when_the_disk_fails_nothing_is_sent_and_the_caller_knows(make: Make) -> None:
    files = FaultFiles()
    box = open_outbox("", files=files, owner=Owner(1, "b", 1, "h"), background=False)
    files._at, files._how = files.calls + 2, "fail"
    with ScriptedServer() as server:
        client = make(server.url, box)
        for _ in range(2):
            with pytest.raises(OutboxError) as caught:
                client.submit(record())
            assert caught.value.code == "outbox_corrupt"
        with pytest.raises(OutboxError):
            client.flush(1)
        assert server.connections == 0


# --- pauses --------------------------------------------------------------------------------


def test_a_refused_key_pauses_its_entries_and_lets_others_go(make: Make, directory: Path) -> None:
    with open_outbox(directory, background=False) as box:
        other = make("https://a.example", box, signer=HmacSigner(b"o" * 32, kid="k2"))
        for number in range(3):
            make("https://a.example", box).enqueue(record(number))
            other.enqueue(record(10 + number))

        def answer(seen: Seen) -> bytes:
            items = []
            for index, line in enumerate(seen.body.splitlines()):
                members = json.loads(line)
                if members["kid"] == "k1":
                    problem = {"code": "kid_unknown", "status": 401}
                    items.append({"index": index, "status": 401, "problem": problem})
                else:
                    outcome = json.loads(outcome_body(members["pcs_id"]))
                    items.append({"index": index, "status": 200, "outcome": outcome})
            return b"".join(jcs(item) + b"\n" for item in items)

        heard: list[str | None] = []
        hooks = Hooks(on_outbox=lambda event: heard.append(event.code))
        with ScriptedServer([Step(200, {}, answer)]) as server:
            client = make(server.url, box, hooks=hooks)
            stats = client.flush(60)
        assert (stats.entries, stats.dead, stats.blocked) == (3, 0, (("kid", "k1"),))
        assert heard.count("kid_unknown") == 3
        with ScriptedServer([BATCH]) as server:
            assert make(server.url, box).flush(60).entries == 0, "a flush tries again"


def test_a_refused_tenant_pauses_its_entries(make: Make, box: Outbox) -> None:
    with ScriptedServer([refused(403, "forbidden")]) as server:
        client = make(server.url, box)
        with pytest.raises(FractalLBAError) as caught:
            client.submit(record())
    assert caught.value.queued
    assert box.stats().blocked == (("tenant", "acme"),)


def test_entries_of_a_retired_key_are_signed_again_by_hand(make: Make, box: Outbox) -> None:
    make("https://a.example", box).enqueue(record(1))
    make("https://a.example", box, signer=HmacSigner(b"x" * 32, kid="k9")).enqueue(record(2))
    new = HmacSigner(b"n" * 32, kid="k2")
    with ScriptedServer([BATCH]) as server:
        client = make(server.url, box, signer=new)
        assert client.resign("k1") == 1
        client.flush(60)
    lines = [json.loads(line) for line in server.seen[0].body.splitlines()]
    assert sorted((line["epoch"], line["kid"]) for line in lines) == [(1, "k2"), (2, "k9")]
    assert counts(box) == (0, 0)
    resigned = next(line for line in lines if line["kid"] == "k2")
    assert jcs(resigned) == sign_record(record(1), new, tenant="acme").body


def test_only_a_client_with_a_signer_signs_again(make: Make, box: Outbox) -> None:
    make("https://a.example", box).enqueue(record(1))
    with pytest.raises(ConfigError):
        make("https://a.example", box, signer=None).resign("k1")
    assert counts(box) == (1, 0)


# --- flush ---------------------------------------------------------------------------------


def fill(make: Make, box: Outbox, count: int) -> AnyClient:
    client = make("https://a.example", box)
    for number in range(count):
        client.enqueue(record(number))
    return client


def test_a_flush_sends_batches_in_order(make: Make, box: Outbox) -> None:
    fill(make, box, 30)
    with ScriptedServer([BATCH]) as server:
        assert make(server.url, box).flush(60).entries == 0
    (seen,) = server.seen
    assert seen.path == "/v1/pcs/batch"
    assert [json.loads(line)["epoch"] for line in seen.body.splitlines()] == list(range(30))
    assert seen.headers["x-tenant-id"] == "acme"
    assert "idempotency-key" not in seen.headers


def test_a_batch_holds_records_of_one_tenant(make: Make, box: Outbox) -> None:
    fill(make, box, 3)
    other = make("https://a.example", box, tenant="other")
    for number in range(3):
        other.enqueue(record(100 + number))
    with ScriptedServer([BATCH, BATCH]) as server:
        make(server.url, box).flush(60)
    tenants = {seen.headers["x-tenant-id"]: seen.body for seen in server.seen}
    assert set(tenants) == {"acme", "other"}
    for tenant, body in tenants.items():
        assert {json.loads(line)["tenant_id"] for line in body.splitlines()} == {tenant}


@pytest.mark.parametrize("status", [404, 405, 415, 413])
def test_a_server_without_batches_gets_singles(make: Make, box: Outbox, status: int) -> None:
    fill(make, box, 8)
    with ScriptedServer([refused(status, "not_found"), recorded(repeat=True)]) as server:
        assert make(server.url, box).flush(60).entries == 0
    assert [seen.path for seen in server.seen] == ["/v1/pcs/batch"] + ["/v1/pcs/submit"] * 8
    assert counts(box) == (0, 0)


def test_a_batch_that_was_cut_is_sent_again_and_nothing_is_lost(make: Make, box: Outbox) -> None:
    fill(make, box, 5)
    cut = Step(200, {}, batch_answer, cut=300)
    with ScriptedServer([cut, BATCH]) as server:
        assert make(server.url, box).flush(60).entries == 0
    assert server.seen[0].body == server.seen[1].body


def test_a_flush_waits_as_long_as_the_server_asked_and_no_shorter(make: Make, box: Outbox) -> None:
    fill(make, box, 1)
    script = [refused(429, "rate_limited", {"Retry-After": "100"}), recorded()]
    with ScriptedServer(script) as server:
        client = make(server.url, box)
        start_ms = client.clock.now_ms()
        assert client.flush(50).entries == 1
        assert len(server.seen) == 1
        assert client.clock.now_ms() - start_ms == 50_000
        assert client.flush(3_600).entries == 0
        assert client.clock.now_ms() - start_ms >= 100_000


def test_a_flush_in_vain_ends_at_its_deadline(make: Make, box: Outbox) -> None:
    fill(make, box, 3)
    with ScriptedServer([refused(503, "unavailable", repeat=True)]) as server:
        client = make(server.url, box)
        start_ms = client.clock.now_ms()
        assert client.flush(300).entries == 3
        assert client.clock.now_ms() - start_ms >= 300_000
        assert len(server.seen) > 10


SLOW_S = 30


def slow(clock: FakeClock, status: int = 200) -> Step:
    """Answer every request after as long as the flush may take."""

    def answer(seen: Seen) -> bytes:
        clock.advance(SLOW_S * 1000)
        return any_answer(seen) if status == 200 else b""

    return Step(status, {}, answer, repeat=True)


def test_a_flush_takes_nothing_after_its_deadline(
    make: Make, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractal_lba.deliver.MAX_BATCH_LINES", 1)
    fill(make, box, 5)
    clock = FakeClock()
    with ScriptedServer([slow(clock)]) as server:
        stats = make(server.url, box, clock=clock).flush(SLOW_S)
        assert (len(server.seen), stats.entries, stats.in_flight) == (1, 4, 0)
    assert box.take(clock.now_ms(), limit=9, bytes_max=10**6).in_flight == 4


def test_a_flush_starts_no_delivery_after_its_deadline(make: Make, box: Outbox) -> None:
    fill(make, box, 40)
    clock = FakeClock()
    with ScriptedServer([refused(404, "not_found"), slow(clock)]) as server:
        stats = make(server.url, box, clock=clock, max_in_flight=4).flush(SLOW_S)
    assert stats.in_flight == 0
    assert stats.entries >= 40 - 4
    assert 1 <= len([seen for seen in server.seen if seen.path == "/v1/pcs/submit"]) <= 4


def test_a_flush_attempts_nothing_again_after_its_deadline(make: Make, box: Outbox) -> None:
    fill(make, box, 1)
    clock = FakeClock()
    with ScriptedServer([slow(clock, 503)]) as server:
        stats = make(server.url, box, clock=clock, total_timeout_s=600).flush(SLOW_S)
    assert (len(server.seen), stats.entries, stats.in_flight) == (1, 1, 0)


def test_while_an_endpoint_is_down_one_entry_probes(make: Make, box: Outbox) -> None:
    fill(make, box, 40)
    sizes: list[int] = []

    def note(seen: Seen) -> bytes:
        sizes.append(len(seen.body.splitlines()))
        return any_answer(seen)

    script = [AWAY, AWAY, AWAY, *[Step(200, {}, note)] * 40]
    with ScriptedServer(script) as server:
        client = make(server.url, box, retry=RetryPolicy.none)
        assert client.flush(600).entries == 0
    assert len(server.seen[0].body.splitlines()) == 40
    assert [len(seen.body.splitlines()) for seen in server.seen[1:3]] == [1, 1]
    assert sizes[0] == 1
    assert sum(sizes) == 40


def test_an_entry_that_grows_too_old_is_not_sent(make: Make, box: Outbox) -> None:
    client = fill(make, box, 1)
    with ScriptedServer() as server:
        clock = FakeClock()
        clock.advance(40 * DAY_MS)
        make(server.url, box, clock=clock).flush(1)
        assert server.connections == 0
    assert counts(box) == (0, 1)
    assert box.dead()[0].code == "outbox_expired"
    client.close()


def test_a_closed_client_neither_keeps_nor_flushes(make: Make, box: Outbox) -> None:
    client = make("https://a.example", box)
    client.close()
    for act in (
        lambda: client.enqueue(record()),
        lambda: client.submit(record()),
        lambda: client.flush(1),
    ):
        with pytest.raises(CancelledError):
            act()
    assert counts(box) == (0, 0)


# --- the courier -----------------------------------------------------------------------------


def test_what_waits_is_delivered_in_the_background_from_the_first_call_on(directory: Path) -> None:
    delivered = threading.Event()

    def hear(event: Any) -> None:
        if event.kind == "acknowledged" and box.stats().entries == 0:
            delivered.set()

    with (
        open_outbox(directory, background=False) as box,
        Client("https://a.example", **options(outbox=box)) as client,
    ):
        for number in range(5):
            client.enqueue(record(number))
    with ScriptedServer([AWAY, ANY]) as server, open_outbox(directory) as box:
        hooks = Hooks(on_outbox=hear)
        with Client(server.url, **options(outbox=box, hooks=hooks)) as client:
            client.enqueue(record(99))
            assert delivered.wait(LONG_S)
    lines = [line for seen in server.seen for line in seen.body.splitlines()]
    assert {json.loads(line)["epoch"] for line in lines} == {0, 1, 2, 3, 4, 99}


def test_tasks_deliver_in_the_background_as_well(directory: Path) -> None:
    async def main() -> None:
        done = asyncio.Event()

        def hear(event: Any) -> None:
            if event.kind == "acknowledged" and box.stats().entries == 0:
                done.set()

        with ScriptedServer([AWAY, ANY]) as server, open_outbox(directory) as box:
            hooks = Hooks(on_outbox=hear)
            async with AsyncClient(server.url, **options(outbox=box, hooks=hooks)) as client:
                await client.enqueue(record(1))
                await client.enqueue(record(2))
                async with asyncio.timeout(LONG_S):
                    await done.wait()

    asyncio.run(main())


def test_closing_ends_a_delivery_and_keeps_its_entries(directory: Path) -> None:
    with ScriptedServer([Step(hold=threading.Event())]) as server, open_outbox(directory) as box:
        client = Client(server.url, signer=SIGNER, tenant="acme", outbox=box)
        client.enqueue(fresh())
        assert server.arrived.acquire(timeout=LONG_S)
        client.close()
        stats = box.stats()
        assert (stats.entries, stats.in_flight) == (1, 0)


def test_an_outbox_that_fails_ends_the_courier_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = FaultFiles()
    box = open_outbox("", files=files, owner=Owner(1, "b", 1, "h"))
    told = threading.Event()
    hooks = Hooks(on_outbox=lambda event: event.kind == "outbox_corrupt" and told.set())
    with Client("https://a.example", **options(outbox=box, hooks=hooks)) as client:
        files._at, files._how = files.calls + 2, "fail"
        with pytest.raises(OutboxError):
            client.enqueue(record())
        box._wake()
        assert told.wait(LONG_S)
    assert "outbox_corrupt" in caplog.text

    async def main() -> None:
        async with AsyncClient("https://a.example", **options(outbox=box)) as client:
            with pytest.raises(OutboxError):
                await client.enqueue(record())

    asyncio.run(main())


def test_a_cancelled_task_leaves_its_entry_to_the_outbox(box: Outbox) -> None:
    async def main() -> None:
        with ScriptedServer([Step(hold=threading.Event())]) as server:
            client = AsyncClient(server.url, signer=SIGNER, tenant="acme", outbox=box)
            call = asyncio.create_task(client.submit(fresh()))
            assert await asyncio.to_thread(server.arrived.acquire, timeout=LONG_S)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            stats = box.stats()
            assert (stats.entries, stats.in_flight) == (1, 0)
            await client.close()

    asyncio.run(main())


def test_a_task_cancelled_while_it_keeps_leaves_its_entry_too() -> None:
    syncing, go_on = threading.Event(), threading.Event()
    gated: list[int] = []

    class Slow(FaultFiles):
        def fsync(self, handle: int) -> None:
            if gated:
                syncing.set()
                assert go_on.wait(LONG_S)
            super().fsync(handle)

    box = open_outbox("", files=Slow(), owner=Owner(1, "b", 1, "h"), background=False)
    box.put(_letter(), now_ms=0, in_flight=True)
    gated.append(1)

    async def main() -> None:
        client = AsyncClient("https://a.example", **options(outbox=box))
        call = asyncio.create_task(client.submit(record()))
        assert await asyncio.to_thread(syncing.wait, LONG_S)
        call.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (box.stats().entries, box.stats().in_flight) == (2, 1)
        await client.close()

    asyncio.run(main())


def _letter() -> Any:
    from fractal_lba.outbox import Letter

    return Letter("", "a" * 64, "b" * 64, "k", "acme", 1, b"{}")


def test_an_interrupt_leaves_the_entry_to_the_outbox(box: Outbox) -> None:
    def interrupted(_: Any) -> Reply:
        raise KeyboardInterrupt

    transport = ScriptedTransport([interrupted])
    client = Client("https://a.example", **options(outbox=box, transport=transport))
    with pytest.raises(KeyboardInterrupt):
        client.submit(record())
    assert (box.stats().entries, box.stats().in_flight) == (1, 0)
    client.close()


def test_the_outbox_forgets_a_client_that_is_closed(make: Make, box: Outbox) -> None:
    heard: list[Any] = []
    client = make("https://a.example", box, hooks=Hooks(on_outbox=heard.append))
    client.enqueue(record(1))
    client.close()
    count = len(heard)
    box.release(box.letters_of("k1")[0].id, "test")
    assert len(heard) == count


# --- a real process, killed --------------------------------------------------------------------

CHILD = f"""
import sys
sys.path.insert(0, sys.argv[3])
from test_delivery import fresh
from fractal_lba.client import Client
from fractal_lba.sign import HmacSigner
from fractal_lba.spool import open_outbox

box = open_outbox(sys.argv[1])
signer = HmacSigner(bytes.fromhex("{KEY.hex()}"), kid="k1")
with Client(sys.argv[2], signer=signer, tenant="acme", outbox=box) as client:
    start = int(sys.argv[4])
    for number in range(start, start + 10_000):
        client.enqueue(fresh(number))
        print(number, flush=True)
"""


@pytest.mark.crash
def test_a_killed_client_is_finished_by_the_next_with_the_same_bytes(directory: Path) -> None:
    bodies: dict[int, set[bytes]] = {}
    lock = threading.Lock()

    def answer(seen: Seen) -> bytes:
        with lock:
            for line in seen.body.splitlines():
                bodies.setdefault(json.loads(line)["epoch"], set()).add(line)
        return any_answer(seen)

    kept: set[int] = set()
    kills = 5
    with ScriptedServer([Step(200, {}, answer, repeat=True)]) as server:
        for kill in range(kills):
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    CHILD,
                    str(directory),
                    server.url,
                    str(Path(__file__).parent),
                    str(100_000 * kill),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert child.stdout is not None
            with child, child.stdout as lines:
                kept.update(int(line) for line in islice(lines, 7 + 13 * kill))
                child.kill()
                kept.update(int(line) for line in lines if line.endswith("\n"))
        with open_outbox(directory, background=False) as box:
            waiting = box.stats().entries
            with Client(server.url, **options(outbox=box)) as client:
                assert client.flush(600).entries == 0
            assert counts(box) == (0, 0)
    assert kept <= bodies.keys()
    assert {len(each) for each in bodies.values()} == {1}
    print(f"{kills} kills, {len(kept)} told to be kept, {waiting} waiting at the end, 0 lost")


def test_a_conflict_is_raised_as_such(make: Make, box: Outbox) -> None:
    with ScriptedServer([CONFLICTING]) as server, pytest.raises(ConflictError):
        make(server.url, box).submit(record())


def test_a_foreign_error_of_a_transport_ends_no_delivery_for_good(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broke, done = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: broke.set())
    acknowledged: list[object] = []

    def heard(event: Any) -> None:
        if event.kind == "acknowledged":
            acknowledged.append(event.id)
            if len(acknowledged) == 2:
                done.set()

    class Breaks:
        """Break once as a program's own transport may, then send as it should."""

        calls = 0

        def send(self, request: Any, **bounds: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise TypeError("a bug of the caller")
            if request.url.endswith("/batch"):
                seen = Seen(request.method, "/v1/pcs/batch", {}, request.body, 0)
                return RawResponse(200, [], batch_answer(seen))
            return RawResponse(200, [], outcome_body(json.loads(request.body)["pcs_id"]))

        def close(self) -> None:
            """Nothing is open."""

    with open_outbox(directory) as box:
        client = Client(
            "http://127.0.0.1:9",
            outbox=box,
            hooks=Hooks(on_outbox=heard),
            **options(transport=Breaks()),
        )
        with client:
            client.enqueue(record(1))
            assert broke.wait(LONG_S)
            client.enqueue(record(2))
            assert done.wait(LONG_S)
        assert box.stats().entries == 0
