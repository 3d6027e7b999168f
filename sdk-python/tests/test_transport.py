"""Both transports against a real server that answers, cuts, stalls, trickles and lies."""

# tidy: long because each test is one sentence of one contract

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scripted_server import ScriptedServer, Step

from fractal_lba import wire
from fractal_lba.clock import AnyCancel
from fractal_lba.errors import CancelledError, ConfigError, FractalLBAError
from fractal_lba.http import RawResponse, Request
from fractal_lba.httpx_transport import HttpxTransport
from fractal_lba.transport import HttpTransport

LONG_S = 30.0
"""A bound that no test waits for."""

SHORT_S = 0.15
"""A bound that a test waits for."""


class Sender:
    """One face for both transports."""

    def __init__(self, kind: str, **options: Any) -> None:
        self._sync = HttpTransport(**options) if kind == "sync" else None
        self._async = HttpxTransport(**options) if kind == "async" else None
        self._runner = asyncio.Runner()

    def send(
        self,
        request: Request,
        *,
        connect_s: float = LONG_S,
        attempt_s: float = LONG_S,
        cancel: threading.Event | None = None,
    ) -> RawResponse:
        bounds: dict[str, Any] = {"connect_timeout_s": connect_s, "attempt_timeout_s": attempt_s}
        if self._sync is not None:
            return self._sync.send(request, **bounds, cancel=cancel)
        assert self._async is not None
        return self._runner.run(self._async.send_async(request, **bounds))

    def code(self, request: Request, **bounds: Any) -> str:
        with pytest.raises(FractalLBAError) as caught:
            self.send(request, **bounds)
        return caught.value.code

    def close(self) -> None:
        if self._sync is not None:
            self._sync.close()
        if self._async is not None:
            self._runner.run(self._async.aclose())
        self._runner.close()


Make = Callable[..., Sender]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    senders: list[Sender] = []

    def make_one(**options: Any) -> Sender:
        senders.append(Sender(request.param, **options))
        return senders[-1]

    yield make_one
    for sender in senders:
        sender.close()


@pytest.fixture
def sync_only() -> Iterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    transport.close()


def post(server: ScriptedServer, body: bytes = b"{}", path: str = "/v1/pcs/submit") -> Request:
    return Request("POST", server.url + path, (("X-A", "1"), ("Content-Type", "t")), body)


def get(server: ScriptedServer, path: str = "/health") -> Request:
    return Request("GET", server.url + path, ())


# --- what goes out and comes back ----------------------------------------------------------


def test_a_request_goes_out_as_it_is_and_nothing_is_added(make: Make) -> None:
    with ScriptedServer([Step(200, {"X-B": "2"}, b"answer")]) as server:
        response = make().send(post(server, b"body"))
        assert (response.status, response.body) == (200, b"answer")
        assert ("x-b", "2") in [(name.lower(), value) for name, value in response.headers]
        (seen,) = server.seen
        assert (seen.method, seen.path, seen.body) == ("POST", "/v1/pcs/submit", b"body")
        assert seen.headers == {
            "host": f"127.0.0.1:{server.port}", "x-a": "1", "content-type": "t",
            "content-length": "4",
        }  # fmt: skip


def test_a_get_has_no_body(make: Make) -> None:
    with ScriptedServer([Step(204)]) as server:
        assert make().send(get(server)).status == 204
        assert server.seen[0].headers == {"host": f"127.0.0.1:{server.port}"}


@pytest.mark.parametrize("status", [200, 202, 302, 400, 404, 409, 429, 500, 503])
def test_every_status_is_an_answer_and_none_is_followed(make: Make, status: int) -> None:
    with ScriptedServer([Step(status, {"Location": "/other"}, b"x")]) as server:
        assert make().send(get(server)).status == status
        assert len(server.seen) == 1


def test_repeated_fields_stay_apart(make: Make) -> None:
    raw = b"HTTP/1.1 503 x\r\nRetry-After: 1\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"
    with ScriptedServer([Step(raw=raw)]) as server:
        fields = make().send(get(server)).headers
        assert [value for name, value in fields if name.lower() == "retry-after"] == ["1", "9"]


def test_a_chunked_body_and_one_that_ends_with_the_connection_are_read(make: Make) -> None:
    head = b"HTTP/1.1 200 x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    ending = b"HTTP/1.0 200 x\r\n\r\nuntil the end"
    with ScriptedServer([Step(raw=chunked), Step(raw=ending)]) as server:
        sender = make()
        assert sender.send(get(server)).body == b"abcde"
        assert sender.send(get(server)).body == b"until the end"


def test_interim_answers_are_passed_over(make: Make) -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nok"
    with ScriptedServer([Step(raw=raw)]) as server:
        assert make().send(get(server)).body == b"ok"


# --- connections ---------------------------------------------------------------------------


def test_a_connection_is_used_again(make: Make) -> None:
    with ScriptedServer([Step(body=b"x")] * 5) as server:
        sender = make()
        for _ in range(5):
            sender.send(post(server))
        assert server.connections == 1


@pytest.mark.parametrize("option", ["connection_max_age_s", "connection_idle_s"])
def test_an_old_or_long_idle_connection_is_given_up(make: Make, option: str) -> None:
    with ScriptedServer([Step(body=b"x")] * 3) as server:
        sender = make(**{option: 1e-9})
        for _ in range(3):
            sender.send(get(server))
        assert server.connections == 3


def test_a_connection_that_the_server_closes_is_no_error(make: Make) -> None:
    with ScriptedServer([Step(body=b"x", close=True), Step(body=b"y")]) as server:
        sender = make()
        assert sender.send(get(server)).body == b"x"
        assert sender.send(get(server)).body == b"y"


def test_an_idle_connection_that_has_ended_is_not_used(sync_only: HttpTransport) -> None:
    raw = b"HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\nx"  # keep-alive, and then it closes
    with ScriptedServer([Step(raw=raw), Step(body=b"y")]) as server:
        bounds: Any = {"connect_timeout_s": LONG_S, "attempt_timeout_s": LONG_S, "cancel": None}
        sync_only.send(get(server), **bounds)
        (pool,) = sync_only._pools.values()
        idle = pool.idle[0]._sock
        assert select.select([idle], [], [], LONG_S)[0], "the end has arrived"
        assert sync_only.send(get(server), **bounds).body == b"y"
        assert server.connections == 2


def in_threads(count: int, target: Callable[[int], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=target, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_connections_to_one_endpoint_are_bounded() -> None:
    gate = threading.Event()
    transport = HttpTransport(max_connections=2)
    bodies: list[bytes] = []
    bounds: Any = {"connect_timeout_s": LONG_S, "attempt_timeout_s": LONG_S, "cancel": None}
    with ScriptedServer([Step(body=b"x", hold=gate, repeat=True)]) as server:
        threads = in_threads(5, lambda _: bodies.append(transport.send(get(server), **bounds).body))
        for _ in range(2):
            assert server.arrived.acquire(timeout=LONG_S)
        gate.set()
        for thread in threads:
            thread.join()
        assert (server.in_flight_max, server.connections, bodies) == (2, 2, [b"x"] * 5)
    transport.close()


def test_a_call_that_finds_no_free_connection_in_time_has_sent_nothing() -> None:
    gate = threading.Event()
    transport = HttpTransport(max_connections=1)
    with ScriptedServer([Step(hold=gate)]) as server:
        bounds: Any = {"connect_timeout_s": LONG_S, "cancel": None}
        (thread,) = in_threads(
            1, lambda _: transport.send(get(server), attempt_timeout_s=LONG_S, **bounds) and None
        )
        assert server.arrived.acquire(timeout=LONG_S)
        with pytest.raises(FractalLBAError) as caught:
            transport.send(get(server), attempt_timeout_s=SHORT_S, **bounds)
        assert caught.value.code == "connect_failed"
        gate.set()
        thread.join()
    transport.close()


def test_a_closed_transport_sends_nothing(sync_only: HttpTransport) -> None:
    gate = threading.Event()
    bounds: Any = {"connect_timeout_s": LONG_S, "attempt_timeout_s": LONG_S, "cancel": None}
    with ScriptedServer([Step(body=b"a"), Step(body=b"b", hold=gate)]) as server:
        sync_only.send(get(server), **bounds)
        (thread,) = in_threads(1, lambda _: sync_only.send(get(server), **bounds) and None)
        assert server.arrived.acquire(timeout=LONG_S)
        assert server.arrived.acquire(timeout=LONG_S)
        sync_only.close()
        gate.set()
        thread.join()
        with pytest.raises(CancelledError):
            sync_only.send(get(server), **bounds)


# --- faults --------------------------------------------------------------------------------

WHOLE = b"HTTP/1.1 200 Scripted\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_a_response_that_breaks_off_anywhere_is_a_lost_connection(cut: int) -> None:
    sender = Sender("sync")
    with ScriptedServer([Step(body=b"body", cut=cut)]) as server:
        assert sender.code(get(server)) == "connection_lost"
    sender.close()


@pytest.mark.parametrize(
    "step",
    [
        Step(cut=0), Step(body=b"body", cut=30), Step(body=b"body", cut=len(WHOLE) - 1),
        Step(cut=0, reset=True), Step(body=b"body" * 100, cut=60, reset=True),
        Step(raw=b"SSH-2.0-OpenSSH_9\r\n"), Step(raw=b"HTTP/1.1 abc\r\n\r\n"),
        Step(raw=b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Step(raw=b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
    ],
)  # fmt: skip
def test_what_is_no_whole_response_is_a_lost_connection(make: Make, step: Step) -> None:
    with ScriptedServer([step]) as server:
        assert make().code(post(server)) == "connection_lost"


def test_a_silent_server_is_an_attempt_timeout(make: Make) -> None:
    with ScriptedServer([Step(hold=threading.Event())]) as server:
        assert make().code(get(server), attempt_s=SHORT_S) == "attempt_timeout"


def test_a_trickle_cannot_stretch_an_attempt(make: Make) -> None:
    with ScriptedServer([Step(body=b"x" * 1000, trickle=True)]) as server:
        assert make().code(get(server), attempt_s=SHORT_S) == "attempt_timeout"


def test_a_body_that_the_server_does_not_read_is_an_attempt_timeout(
    sync_only: HttpTransport,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        request = Request("POST", url, (), b"x" * 50_000_000)
        with pytest.raises(FractalLBAError) as caught:
            sync_only.send(
                request, connect_timeout_s=LONG_S, attempt_timeout_s=SHORT_S, cancel=None
            )
        assert caught.value.code == "attempt_timeout"


def test_an_answer_before_the_body_was_read_counts(sync_only: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_early(_: int) -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.recv(10)
                connection.sendall(b"HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\nno")
                connection.shutdown(socket.SHUT_RD)
                while connection.recv(1 << 20):
                    continue

        (thread,) = in_threads(1, answer_early)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        request = Request("POST", url, (), b"x" * 1_000_000)
        response = sync_only.send(
            request, connect_timeout_s=LONG_S, attempt_timeout_s=LONG_S, cancel=None
        )
        assert (response.status, response.body) == (413, b"no")
        thread.join()


def test_nobody_listens(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
    assert make().code(Request("GET", url, ())) == "connect_failed"


@pytest.fixture
def full_listener() -> Iterator[str]:
    """Listen without accepting until connecting hangs."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(4):
        each = socket.socket()
        each.setblocking(False)
        each.connect_ex(listener.getsockname())
        waiting.append(each)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    for each in (*waiting, listener):
        each.close()


def test_a_connection_that_does_not_come_about_has_its_own_bound(
    make: Make, full_listener: str
) -> None:
    assert make().code(Request("GET", full_listener, ()), connect_s=SHORT_S) == "connect_failed"


def test_a_cancel_ends_connecting(full_listener: str, sync_only: HttpTransport) -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.05, cancel.set)
    timer.start()
    with pytest.raises(CancelledError):
        sync_only.send(
            Request("GET", full_listener, ()),
            connect_timeout_s=LONG_S, attempt_timeout_s=LONG_S, cancel=cancel,
        )  # fmt: skip
    timer.join()


def test_a_cancel_ends_waiting_for_an_answer(sync_only: HttpTransport) -> None:
    cancel = threading.Event()
    with ScriptedServer([Step(hold=threading.Event())]) as server:

        def cancel_it(_: int) -> None:
            assert server.arrived.acquire(timeout=LONG_S)
            cancel.set()

        (thread,) = in_threads(1, cancel_it)
        with pytest.raises(CancelledError):
            sync_only.send(
                get(server), connect_timeout_s=LONG_S, attempt_timeout_s=LONG_S,
                cancel=AnyCancel(threading.Event(), cancel),
            )  # fmt: skip
        thread.join()
        assert sync_only._pools.popitem()[1].in_use == 0


def test_a_set_cancel_sends_nothing(sync_only: HttpTransport) -> None:
    cancel = threading.Event()
    cancel.set()
    with ScriptedServer() as server:
        with pytest.raises(CancelledError):
            sync_only.send(
                get(server), connect_timeout_s=LONG_S, attempt_timeout_s=LONG_S, cancel=cancel
            )
        assert server.seen == []


# --- limits --------------------------------------------------------------------------------


def test_no_more_is_read_than_one_byte_over_the_limit(make: Make) -> None:
    with ScriptedServer([Step(body=b"x" * 100_000), Step(body=b"y" * 10)]) as server:
        sender = make(max_response_bytes=10)
        assert len(sender.send(get(server)).body) == 11
        assert sender.send(get(server)).body == b"y" * 10
        assert server.connections == 2, "the rest of a body is no place for the next answer"


def test_more_headers_than_allowed_are_counted_and_the_body_left(make: Make) -> None:
    headers = {f"X-{number}": "v" for number in range(12)}
    with ScriptedServer([Step(200, headers, b"body")]) as server:
        response = make(max_response_headers=10).send(get(server))
        assert (len(response.headers), response.body) == (13, b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 x\r\n" + b"".join(b"X-%d: v\r\n" % n for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 x\r\nX: " + b"v" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 x\r\n\r\n" * 200_000,
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + b"y" * 3_000_000,
    ],
)
def test_a_response_that_does_not_end_is_too_large(raw: bytes, sync_only: HttpTransport) -> None:
    small = HttpTransport(max_response_bytes=1000)
    with ScriptedServer([Step(raw=raw)]) as server:
        with pytest.raises(FractalLBAError) as caught:
            small.send(get(server), connect_timeout_s=LONG_S, attempt_timeout_s=LONG_S, cancel=None)
        assert caught.value.code == "response_too_large"
    small.close()


# --- names and TLS -------------------------------------------------------------------------


def test_a_name_is_looked_up_in_every_address(
    monkeypatch: pytest.MonkeyPatch, sync_only: HttpTransport
) -> None:
    with ScriptedServer([Step(body=b"x")]) as server:
        real = socket.getaddrinfo
        dead = ("127.0.0.1", 1)

        def look_up(host: str, port: int, **options: Any) -> Any:
            if options.get("flags"):
                raise socket.gaierror
            assert host == "some.example"
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", dead),
                *real("127.0.0.1", server.port, type=socket.SOCK_STREAM),
            ]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        request = Request("GET", f"http://some.example:{server.port}/", ())
        response = sync_only.send(
            request, connect_timeout_s=LONG_S, attempt_timeout_s=LONG_S, cancel=None
        )
        assert response.body == b"x"


def test_a_name_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, sync_only: HttpTransport
) -> None:
    def look_up(*_: object, **__: object) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(FractalLBAError) as caught:
        sync_only.send(
            Request("GET", "http://no.example/", ()),
            connect_timeout_s=LONG_S, attempt_timeout_s=LONG_S, cancel=None,
        )  # fmt: skip
    assert caught.value.code == "connect_failed"
    assert "no.example" in str(caught.value)


def test_a_resolver_that_hangs_is_bounded(
    monkeypatch: pytest.MonkeyPatch, sync_only: HttpTransport
) -> None:
    release = threading.Event()

    def look_up(*_: object, **options: object) -> Any:
        if options.get("flags"):
            raise socket.gaierror
        release.wait(LONG_S)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(FractalLBAError) as caught:
        sync_only.send(
            Request("GET", "http://slow.example/", ()),
            connect_timeout_s=SHORT_S, attempt_timeout_s=LONG_S, cancel=None,
        )  # fmt: skip
    assert caught.value.code == "connect_failed"
    release.set()


def test_a_name_without_an_address_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(FractalLBAError) as caught:
        wire.connect("x", 1, None, wire.Guard(LONG_S, None))
    assert caught.value.code == "connect_failed"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a certificate of its own for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(cert.public_bytes(pem) + private)
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_of_an_own_authority_is_taken(
    make: Make, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    big = b"x" * 300_000
    steps = [Step(body=b"secret"), Step(body=big)]
    with ScriptedServer(steps, tls=server_tls) as server:
        sender = make(ssl_context=context)
        assert sender.send(post(server)).body == b"secret"
        assert sender.send(post(server, big)).body == big
        assert server.seen[1].body == big
        assert server.connections == 1


def test_an_unknown_authority_is_refused_and_nothing_is_sent(
    make: Make, server_tls: ssl.SSLContext
) -> None:
    with ScriptedServer(tls=server_tls) as server:
        assert make().code(post(server)) == "tls_failed"
        assert server.seen == []


def test_a_certificate_for_another_host_is_refused(
    make: Make, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    with ScriptedServer(tls=server_tls) as server:
        url = f"https://localhost:{server.port}/"
        assert make(ssl_context=context).code(Request("GET", url, ())) == "tls_failed"


def test_a_server_without_tls_is_refused(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak_plainly(_: int) -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 400 no\r\n\r\n")
                while connection.recv(1 << 16):
                    continue

        (thread,) = in_threads(1, speak_plainly)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        assert make().code(Request("GET", url, ())) == "tls_failed"
        thread.join()


def test_a_handshake_that_ends_or_hangs_is_no_connection(sync_only: HttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"

        def hang_up(_: int) -> None:
            listener.accept()[0].close()

        (thread,) = in_threads(1, hang_up)
        codes = []
        for _ in range(2):  # the second time nobody answers the handshake
            with pytest.raises(FractalLBAError) as caught:
                sync_only.send(
                    Request("GET", url, ()),
                    connect_timeout_s=SHORT_S, attempt_timeout_s=LONG_S, cancel=None,
                )  # fmt: skip
            codes.append(caught.value.code)
        assert codes == ["connect_failed"] * 2
        thread.join()


def test_verification_cannot_be_switched_off() -> None:
    blind = ssl.create_default_context()
    blind.check_hostname = False
    lax = ssl.create_default_context()
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    for context in (blind, lax):
        for kind in (HttpTransport, HttpxTransport):
            with pytest.raises(ConfigError):
                kind(ssl_context=context)


def test_a_failed_send_without_a_byte_sent_leaves_nothing_in_doubt() -> None:
    from fractal_lba.transport import _lost

    assert _lost(BrokenPipeError(), 0).code == "connect_failed"
    assert _lost(BrokenPipeError(), 1).code == "connection_lost"


def test_a_system_without_poll_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    transport = HttpTransport()
    with ScriptedServer([Step(body=b"x")]) as server:
        bounds: Any = {"connect_timeout_s": LONG_S, "attempt_timeout_s": LONG_S, "cancel": None}
        assert transport.send(get(server), **bounds).body == b"x"
    transport.close()
