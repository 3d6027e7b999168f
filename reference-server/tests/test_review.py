"""What must not happen at the seams: between frames, connections, files and threads."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from region import HANG_S, running_region, signed, write_home
from test_index import row
from test_protocol import Echo, listener
from test_wal import frame, opened, segment, write

from fractal_lba.canonical import jcs
from fractal_lba.errors import ConfigError
from fractal_lba_server import server
from fractal_lba_server.config import load_config
from fractal_lba_server.core.facts import write_facts
from fractal_lba_server.core.ingest_events import Answer, FrameSynced
from fractal_lba_server.core.segment import encode_frame
from fractal_lba_server.logs import Log
from fractal_lba_server.net.protocol import Reply, Request, WireLimits
from fractal_lba_server.own_streams import catch_up
from fractal_lba_server.server import Region
from fractal_lba_server.store.data_dir import DataDir, StreamDir, write_durably
from fractal_lba_server.store.ring import RingLog
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.wal import (
    GROUP_FRAMES_MAX,
    Wal,
    WalCorruptError,
    WalFailed,
    read_frames,
    read_segment,
    segment_paths,
)


def fill(folder: Path, frames: int, **options: Any) -> None:
    """Write frames and wait until all are synced."""
    with opened(folder, **options) as (wal, said):
        for seq in range(1, frames + 1):
            wal.append([(seq, frame(seq))])
        while said.get(timeout=HANG_S) != FrameSynced(frames):
            pass


# --- the log -------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1"])
def test_rotten_length_hides_no_acknowledged_frame(tmp_path: Path, damage: bytes) -> None:
    fill(tmp_path, GROUP_FRAMES_MAX + 20)
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    offset = read_segment(path).frames[4].offset
    data[offset : offset + 4] = damage
    path.write_bytes(data)
    with pytest.raises(WalCorruptError, match=f"byte {offset}.*stands whole behind it"):
        Wal(tmp_path, notify=print, applied_seq=0)
    assert path.read_bytes() == data


def test_zeros_in_a_closed_segment_are_no_end_for_a_reader(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=1_000) as (wal, said):
        write(wal, said, 1, 20)
    first, second, *_ = segment_paths(tmp_path)
    data = bytearray(first.read_bytes())
    offset = read_segment(first).frames[3].offset
    data[offset : offset + 4] = bytes(4)
    first.chmod(0o600)
    first.write_bytes(data)
    with pytest.raises(WalCorruptError, match=f"{first}.*byte {offset}"):
        list(read_frames(tmp_path))
    first.unlink()
    with pytest.raises(WalCorruptError, match=f"{second}: starts at .*, expected 1"):
        list(read_frames(tmp_path))


def test_index_takes_no_rows_with_a_gap(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    index.apply([row(1), row(2)])
    for batch in ([row(3), row(5)], [row(4)]):
        with pytest.raises(ValueError, match="gap"):
            index.apply(batch)
    assert index.applied("loc", "open") == 2
    assert index.apply([row(2), row(3)]) == 2
    assert index.lookup(row(3).key) == row(3).stored
    index.close()


def test_replay_keeps_what_stands_before_damage(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "content": "a" * 64,
        "kid": "k",
        "policy_version": "p",
        "sig_v": 2,
        "status": 200,
    }
    with opened(tmp_path / "wal") as (wal, said):
        for seq in (1, 2, 3):
            outcome = jcs({"pcs_id": f"{seq:064x}"})
            meta = write_facts(outcome=outcome, tenant="acme", **facts)
            wal.append([(seq, encode_frame(seq, seq, meta, b"{}"))])
            assert said.get(timeout=HANG_S) == FrameSynced(seq)
    path = segment(tmp_path / "wal")
    data = bytearray(path.read_bytes())
    data[read_segment(path).frames[2].end - 1] ^= 1
    path.write_bytes(data)
    index = Index(tmp_path / "index.sqlite")
    with pytest.raises(WalCorruptError):
        catch_up(index, [StreamDir("loc", "open", tmp_path / "wal")], rank=lambda region: 0)
    assert index.applied("loc", "open") == 2
    index.close()


# --- the wire ------------------------------------------------------------------------------

POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
LIMITS = WireLimits(head_timeout_s=0.3, body_timeout_s=1.5, idle_timeout_s=1.0)


class Later(Echo):
    """Answers each request when told to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.held: list[Callable[[], None]] = []

    def handle(self, request: Request, reply: Reply) -> None:
        self.bodies.append(request.body)
        self.held.append(lambda: reply(200, b"", request.body))


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that must happen."""
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.01)


def test_framing_error_does_not_overtake_the_answer_before_it() -> None:
    async def run() -> bytes:
        app = Later()
        async with listener(LIMITS, app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(POST + b"one" + POST + b"two" + b"no HTTP\r\n\r\n")
            await until(lambda: app.held)
            await asyncio.sleep(0.05)
            app.held.pop()()
            await until(lambda: app.held)
            app.held.pop()()
            answers = await asyncio.wait_for(reader.read(), HANG_S)
            writer.close()
            return answers

    answers = asyncio.run(run())
    assert answers.startswith(b"HTTP/1.1 200")
    assert [answers.count(text) for text in (b"HTTP/1.1", b"one", b"two")] == [2, 1, 1]


def test_request_after_a_close_is_not_taken() -> None:
    async def run() -> list[bytes]:
        app = Later()
        async with listener(LIMITS, app) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            large = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2_000
            writer.write(large + POST + b"two")
            answer = await asyncio.wait_for(reader.read(), HANG_S)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 413")
            assert answer.count(b"HTTP/1.1") == 1
            return app.bodies

    assert asyncio.run(run()) == []


@pytest.mark.parametrize(
    "tail", [b"0\r\nx: " + b"a" * 10_000_000, b"3;" + b"a" * 10_000_000, b"1\r\na\r\n" * 999]
)
def test_what_stands_between_the_bytes_of_a_body_is_bounded(tail: bytes) -> None:
    async def run() -> int:
        async with listener(LIMITS) as port:
            head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sent = 0
            try:
                writer.write(head)
                for start in range(0, len(tail), 50_000):
                    writer.write(tail[start : start + 50_000])
                    await writer.drain()
                    sent += 50_000
                    await asyncio.sleep(0)
            except ConnectionError:
                pass
            writer.transport.abort()
            return sent

    sent = asyncio.run(run())
    assert sent < 9_000_000


def test_bodies_that_wait_for_their_turn_are_counted() -> None:
    limits = WireLimits(body_bytes_in_flight=2_000)

    async def run() -> int:
        app = Later()
        async with listener(limits, app) as port:
            writers = []
            for _ in range(6):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                long = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 900\r\n\r\n" + b"x" * 900
                writer.write(POST + b"one" + long)
                writers.append(writer)
            await until(lambda: len(app.held) == 6)
            await asyncio.sleep(0.1)
            for answer in app.held[:]:
                answer()
            await asyncio.sleep(0.1)
            taken = app.bodies.count(b"x" * 900)
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0.1)
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(long + long)
            await until(lambda: len(app.bodies) > 6 + taken)
            app.held[-1]()
            await until(lambda: len(app.bodies) > 7 + taken)
            writer.transport.abort()
            for answer in app.held:
                answer()
            return taken

    assert asyncio.run(run()) == 2


def test_reader_that_hangs_does_not_keep_its_place() -> None:
    class Large(Echo):
        def handle(self, request: Request, reply: Reply) -> None:
            reply(200, b"", bytes(8_000_000))

    async def run() -> bytes:
        async with listener(WireLimits(connections=1, idle_timeout_s=0.3), Large()) as port:
            with socket.create_connection(("127.0.0.1", port)) as hung:
                hung.sendall(POST + b"one" + POST + b"two")
                await asyncio.sleep(2.5)
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(POST.replace(b"host: a", b"connection: close") + b"one")
                answer = await asyncio.wait_for(reader.read(), HANG_S)
                writer.close()
                return answer[:15]

    assert asyncio.run(run()) == b"HTTP/1.1 200 OK"


def test_refusal_does_not_overtake_requests_that_wait() -> None:
    """The first answer fills the connection; the second request waits; the third is refused."""

    class Large(Later):
        def handle(self, request: Request, reply: Reply) -> None:
            self.bodies.append(request.body)
            reply(200, b"", bytes(8_000_000) if request.body == b"one" else request.body)

    async def run() -> bytes:
        async with listener(LIMITS, Large()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_000)
            long = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n"
            writer.write(POST + b"one" + POST + b"two" + long)
            await asyncio.sleep(0.2)
            answers = bytearray()
            while block := await asyncio.wait_for(reader.read(1 << 20), HANG_S):
                answers += block
            writer.close()
            return bytes(answers)

    answers = asyncio.run(run())
    second = answers.find(b"HTTP/1.1", 10)
    assert second < 0 or answers[second:].startswith(b"HTTP/1.1 200")


# --- files beside the log ------------------------------------------------------------------


def test_entries_behind_a_torn_one_are_read(tmp_path: Path) -> None:
    ring = RingLog(tmp_path, max_bytes=10_000)
    ring.append([b"whole", b"torn"], received_ns=7, sync=True)
    ring.close()
    path = tmp_path / "a.log"
    path.write_bytes(path.read_bytes()[:-1])
    again = RingLog(tmp_path, max_bytes=10_000)
    again.append([b"later"], received_ns=8, sync=True)
    assert list(again.entries()) == [(7, b"whole"), (8, b"later")]
    again.close()


def test_small_file_is_whole_also_after_a_short_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_some = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write_some(fd, bytes(data[:3])))
    write_durably(tmp_path / "policy.json", b"0123456789")
    assert (tmp_path / "policy.json").read_bytes() == b"0123456789"


def test_folders_of_the_log_are_durable_before_its_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    fsync = os.fsync

    def note(fd: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    path = tmp_path / "data"
    monkeypatch.setattr(os, "fsync", note)
    data = DataDir.open(path, region="loc")
    names = {str(tmp_path), str(path), str(path / "wal")}
    assert data.wal.is_dir()
    data.close()
    assert names <= synced


# --- the region ----------------------------------------------------------------------------


def test_one_record_that_breaks_the_machine_holds_up_no_other(tmp_path: Path) -> None:
    async def run() -> list[int]:
        async with running_region(write_home(tmp_path)) as running:
            driver = running.region.driver
            machine = driver.core.on_event

            def break_once(event: Any, now_ns: int) -> Any:
                if getattr(event, "body", b"") == b"poison":
                    raise RuntimeError("a defect")
                return machine(event, now_ns)

            driver.core.on_event = break_once  # type: ignore[method-assign]  # a planted fault
            failed: list[Any] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: failed.append(context))
            answers: list[Any] = []
            for body in (signed().body, b"poison", signed().body):
                driver.submit(answers.append, body)
            await until(lambda: len(answers) == 3)
            assert len(failed) == 1
            return sorted(answer.stored.status for answer in answers if isinstance(answer, Answer))

    assert asyncio.run(run()) == [200, 200]


def test_policy_that_cannot_be_kept_is_not_used(tmp_path: Path) -> None:
    home = write_home(tmp_path, policy_file="policy.yaml")
    (home / "policy.yaml").write_text("version: 1\n", encoding="utf-8")

    async def run() -> None:
        async with running_region(home) as running:
            region = running.region
            before = region.policies
            text = "version: 1\ndefault:\n  tol_D: 0.2\n"
            (home / "policy.yaml").write_text(text, encoding="utf-8")
            folder = region.data.path / "policies"
            folder.rename(folder.with_name("away"))
            done: list[Any] = []
            region._reload(done.append)
            await until(lambda: done)
            assert isinstance(done[0], ConfigError)
            assert region.policies is before
            folder.with_name("away").rename(folder)
            region._reload(done.append)
            await until(lambda: len(done) == 2)
            assert region.policies != before
            version = region.policies.default.version
            assert (folder / f"{version}.json").exists()

    asyncio.run(run())


def test_listener_that_fails_ends_the_start(tmp_path: Path) -> None:
    home = write_home(tmp_path)

    async def run() -> None:
        with Log(io.BytesIO()) as log:
            region = Region(load_config(home / "flk.yaml"), log)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(server.Server, "startup", refuse)
                with pytest.raises(OSError, match="in use"):
                    await asyncio.wait_for(region.start(), 10)
            region._close()

    async def refuse(_: server.Server, *, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            sock.close()
        raise OSError(errno.EADDRINUSE, "in use")

    asyncio.run(run())


def test_region_whose_log_failed_says_so(tmp_path: Path) -> None:
    async def run() -> int | None:
        async with running_region(write_home(tmp_path)) as running:
            running.region.driver.feed(WalFailed("a planted fault"))
            assert running.region.driver.closed() == "the write-ahead log failed"
        return running.status

    assert asyncio.run(run()) == server.EXIT_LOG_FAILED
