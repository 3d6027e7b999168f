"""The fault proxy with real sockets: what each fault does, and that it is counted."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fractal_lba_server.drill.links import Links, ProxyError, effect_of
from fractal_lba_server.drill.proxy import LOST_MAX
from fractal_lba_server.drill.proxy_requests import HEAD_BYTES_MAX, Requests

HANG_S = 20


class Echo:
    """A server that sends back what it gets, and keeps the order in which it came."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.seen: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(taken,), daemon=True).start()

    def _answer(self, taken: socket.socket) -> None:
        with taken, contextlib.suppress(OSError):
            while data := taken.recv(65_536):
                self.seen.append(data)
                taken.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def links() -> Iterator[Links]:
    with Links(seed=1) as opened:
        yield opened


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=HANG_S)


def talk(taken: socket.socket, data: bytes) -> bytes:
    taken.sendall(data)
    received = b""
    while len(received) < len(data):
        received += taken.recv(len(data))
    return received


def test_bytes_pass_in_order_and_are_counted(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    data = bytes(range(256)) * 4_000
    with connect(port) as taken:
        sender = threading.Thread(target=taken.sendall, args=(data,))
        sender.start()
        received = b""
        while len(received) < len(data):
            received += taken.recv(65_536)
        sender.join()
    assert received == data
    counts = links.counts()["a"]
    assert counts["forward"]["bytes"] == counts["back"]["bytes"] == len(data)
    assert counts["connections"] == 1


def test_the_end_of_one_direction_passes_and_the_other_goes_on(links: Links, echo: Echo) -> None:
    with connect(links.open("a", echo.address)) as taken:
        taken.sendall(b"last words")
        taken.shutdown(socket.SHUT_WR)
        assert taken.recv(100) == b"last words"
        assert taken.recv(100) == b""


def test_a_delay_is_a_floor_in_each_direction(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    links.set("a", way="forward", delay_ms=60)
    links.set("a", way="back", delay_ms=40, jitter_ms=20)
    with connect(port) as taken:
        begun = time.monotonic()
        assert talk(taken, b"x") == b"x"
        assert time.monotonic() - begun >= 0.1
    assert links.counts()["a"]["forward"]["delayed"] >= 1


def test_a_lost_piece_comes_later_and_in_order(links: Links, echo: Echo) -> None:
    port = links.open("a-b", echo.address)
    links.set("a-b", way="forward", loss=1)
    with connect(port) as taken:
        taken.sendall(b"one")
        while not links.counts()["a-b"]["forward"]["lost"]:
            time.sleep(0.01)
        links.set("a-b", way="forward", loss=0)
        taken.sendall(b"two")
        received = b""
        while len(received) < 6:
            received += taken.recv(100)
    assert received == b"onetwo"
    assert links.counts()["a-b"]["forward"]["lost"] == LOST_MAX


def test_bandwidth_spreads_a_message_over_time(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    links.set("a", way="forward", bandwidth_bytes_per_s=1_000_000)
    with connect(port) as taken:
        begun = time.monotonic()
        assert talk(taken, bytes(200_000)) == bytes(200_000)
        assert time.monotonic() - begun >= 0.19
    before = {"forward": {}, "back": {}}
    assert effect_of(before, links.counts()["a"], ["squeezed"]) >= 4


def test_a_cut_holds_bytes_and_healing_lets_them_flow(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    with connect(port) as old:
        assert talk(old, b"before") == b"before"
        links.set("a", stall=True)
        with connect(port) as new:
            for taken in (old, new):
                taken.sendall(b"held")
                taken.settimeout(0.15)
                with pytest.raises(TimeoutError):
                    taken.recv(1)
            links.set("a", stall=False)
            for taken in (old, new):
                taken.settimeout(HANG_S)
                assert taken.recv(100) == b"held"
    assert links.counts()["a"]["forward"]["stalled"] >= 1


def test_a_one_way_cut_lets_the_other_way_pass(links: Links, echo: Echo) -> None:
    with connect(links.open("a", echo.address)) as taken:
        links.set("a", way="back", stall=True)
        taken.sendall(b"one way")
        deadline = time.monotonic() + HANG_S
        while not echo.seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert echo.seen == [b"one way"]
        taken.settimeout(0.1)
        with pytest.raises(TimeoutError):
            taken.recv(1)
    counts = links.counts()["a"]
    assert (counts["back"]["stalled"], counts["forward"]["stalled"]) == (1, 0)


def test_a_refusal_is_a_refused_connect_on_the_same_port(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    links.refuse("a", refuse=True)
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    links.refuse("a", refuse=False)
    with connect(port) as taken:
        assert talk(taken, b"x") == b"x"
    assert links.counts()["a"]["refused"] == 1


def test_a_reset_ends_connections_that_are_cut_as_well(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    with connect(port) as taken:
        assert talk(taken, b"x") == b"x"
        links.set("a", stall=True)
        taken.sendall(b"y")
        assert links.reset("a") == 1
        with pytest.raises(ConnectionResetError):
            taken.recv(1)


def test_the_death_of_a_server_behind_a_cut_is_not_heard(links: Links) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = links.open("a", f"127.0.0.1:{listener.getsockname()[1]}")
    with connect(port) as taken:
        taken.sendall(b"x")
        behind, _ = listener.accept()
        assert behind.recv(1) == b"x"
        links.set("a", stall=True)
        behind.close()
        listener.close()
        taken.settimeout(0.15)
        with pytest.raises(TimeoutError):
            taken.recv(1)
        links.set("a", stall=False)
        taken.settimeout(HANG_S)
        with contextlib.suppress(ConnectionResetError):
            assert taken.recv(1) == b""


def test_a_link_to_nobody_resets(links: Links, echo: Echo) -> None:
    port = links.open("a", "127.0.0.1:1")
    with connect(port) as taken, pytest.raises(ConnectionResetError):
        taken.recv(1)
    links.retarget("a", echo.address)
    with connect(port) as taken:
        assert talk(taken, b"x") == b"x"


def request(body: bytes) -> bytes:
    return b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_reorder_lets_a_request_of_another_connection_pass_first(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    with connect(port) as first, connect(port) as second:
        links.set("a", way="forward", reorder=1.0)
        first.sendall(request(b"first"))
        time.sleep(0.1)
        links.set("a", way="forward", reorder=0.0)
        assert talk(second, request(b"second")) == request(b"second")
        assert first.recv(200) == request(b"first")
    assert b"".join(echo.seen) == request(b"second") + request(b"first")
    assert links.counts()["a"]["forward"]["reordered"] == 1


def test_marks_are_counted_also_across_pieces(links: Links, echo: Echo) -> None:
    port = links.open("a", echo.address)
    links.watch("a", [b"secret-mark"])
    with connect(port) as taken:
        assert talk(taken, b"..secret-mark..secret-") == b"..secret-mark..secret-"
        assert talk(taken, b"mark..") == b"mark.."
    assert links.counts()["a"]["forward"]["marks"] == 2


@pytest.mark.parametrize(
    "line", ['{"do":"fly"}', "no json", '{"do":"set","link":"none"}', '{"do":"open"}']
)
def test_a_wrong_command_is_an_answer(line: str) -> None:
    command = [sys.executable, "-m", "fractal_lba_server.drill.proxy", "1"]
    done = subprocess.run(
        command, check=False, input=f"{line}\n", capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 0
    assert "error" in done.stdout


def test_an_unknown_setting_is_refused_and_an_ended_proxy_is_named(echo: Echo) -> None:
    with Links(seed=1) as links:
        links.open("a", echo.address)
        with pytest.raises(ProxyError, match="unknown setting colour"):
            links.set("a", colour="red")
    with pytest.raises(ProxyError, match="has ended"):
        links.counts()


@pytest.mark.parametrize(
    ("pieces", "begins"),
    [
        ([request(b"abc"), request(b"d")], [True, True]),
        ([request(b"abc")[:10], request(b"abc")[10:], request(b"")], [True, False, True]),
        ([request(b"a") + request(b"b")[:5], request(b"b")[5:]], [True, False]),
        ([request(b"abcdef")[:-3], b"def" + request(b"x")], [True, True]),
        ([b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"], [True, True]),
        ([b"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", request(b"")], [True, False]),
        ([b"x" * (HEAD_BYTES_MAX + 1), request(b"")], [True, False]),
    ],
)
def test_the_beginnings_of_requests_are_found(pieces: list[bytes], begins: list[bool]) -> None:
    requests = Requests()
    assert [requests.begins(piece) for piece in pieces] == begins
