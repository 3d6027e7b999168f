"""Scripted faults: what is said of them in a file, and what they do to an exchange."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from server_parts import HANG_S, RawServer, RelayThread, all_of, exactly

from flk_conformance.proxy.faults import FaultsError, load_faults, read_faults

BODY = b'{"a":"0123456789"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
SUBMIT = b"POST /v1/pcs/submit HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
HEALTH = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"


class Counting:
    """Answers every request alike, and keeps what came."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def __call__(self, sock: socket.socket) -> None:
        while data := sock.recv(65_536):
            self.received.append(data)
            sock.sendall(ANSWER * (data.count(b"HTTP/1.1")))


def exchange(faults: list[dict[str, Any]], *requests: bytes) -> tuple[bytes, Counting, RelayThread]:
    """Send requests on one connection; give what came back until the end."""
    serve = Counting()
    with (
        RawServer(serve) as server,
        RelayThread(server.url, read_faults(faults)) as proxy,
        proxy.dial() as client,
    ):
        received = b""
        with contextlib.suppress(ConnectionResetError):
            client.sendall(b"".join(requests))
            client.shutdown(socket.SHUT_WR)
            received = all_of(client)
    return received, serve, proxy


def test_without_a_match_nothing_changes() -> None:
    received, serve, _ = exchange([{"do": "lost", "path": "/elsewhere"}], SUBMIT, HEALTH, SUBMIT)
    assert received == ANSWER * 3
    assert b"".join(serve.received) == SUBMIT + HEALTH + SUBMIT


def test_lost_reply_was_accepted_by_the_server() -> None:
    received, serve, proxy = exchange([{"do": "lost", "path": "/v1"}], SUBMIT)
    assert received == b""
    assert serve.received == [SUBMIT]
    (one,) = proxy.exchanges
    assert one.fault == "lost"
    assert one.answer is not None
    assert one.answer.status == 200


def test_cut_reply_ends_in_the_middle_of_its_body() -> None:
    received, serve, proxy = exchange([{"do": "cut", "bytes": 7}], SUBMIT)
    assert received == ANSWER[: -len(BODY) + 7]
    assert serve.received == [SUBMIT]
    assert proxy.exchanges[0].fault == "cut"


def test_scripted_status_does_not_reach_the_server() -> None:
    rule = {"do": "status", "status": 503, "retry_after": 2, "nth": [1]}
    received, serve, proxy = exchange([rule], SUBMIT, SUBMIT)
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"retry-after: 2" in head
    assert b'"retry_after_ms":2000' in rest
    assert rest.endswith(ANSWER)
    assert b"".join(serve.received) == SUBMIT
    assert [one.fault for one in proxy.exchanges] == ["status", ""]


def test_delay_holds_a_request_back() -> None:
    serve = Counting()
    faults = read_faults([{"do": "delay", "ms": 200, "method": "POST"}])
    with (
        RawServer(serve) as server,
        RelayThread(server.url, faults) as proxy,
        proxy.dial() as client,
    ):
        before = time.monotonic()
        client.sendall(SUBMIT)
        assert exactly(client, len(ANSWER)) == ANSWER
        assert time.monotonic() - before >= 0.2
    assert proxy.exchanges[0].fault == "delay"


def test_rules_count_what_they_match() -> None:
    rules = [
        {"do": "status", "status": 429, "code": "rate_limited", "method": "GET", "nth": [2]},
        {"do": "status", "status": 500, "code": "internal", "path": "/v1", "every": 3},
    ]
    received, _, _ = exchange(rules, SUBMIT, HEALTH, SUBMIT, HEALTH, SUBMIT, HEALTH)
    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"200", b"429", b"500", b"200"]


def test_rule_may_name_an_operation() -> None:
    rule = {"do": "status", "status": 503, "operation": "GET /health"}  # as RelayThread names it
    received, _, _ = exchange([rule], SUBMIT, HEALTH)
    assert received.startswith(ANSWER)
    assert b" 503 " in received


def test_other_connections_are_not_hurt() -> None:
    serve = Counting()
    faults = read_faults([{"do": "lost", "nth": [1]}])
    with (
        RawServer(serve) as server,
        RelayThread(server.url, faults) as proxy,
        proxy.dial() as spoiled,
        proxy.dial() as good,
    ):
        spoiled.sendall(SUBMIT)
        with contextlib.suppress(ConnectionResetError):
            assert spoiled.recv(1) == b""
        good.sendall(SUBMIT)
        assert exactly(good, len(ANSWER)) == ANSWER
        assert good.gettimeout() == HANG_S


def test_faults_may_come_and_go_on_one_connection() -> None:
    rule = [{"do": "status", "status": 503}]
    serve = Counting()
    with RawServer(serve) as server, RelayThread(server.url) as proxy, proxy.dial() as client:
        for faults, start in (
            (None, b"HTTP/1.1 200"),
            (rule, b"HTTP/1.1 503"),
            (None, b"HTTP/1.1 200"),
        ):
            proxy.relay.faults = None if faults is None else read_faults(faults)
            client.sendall(SUBMIT)
            assert client.recv(65_536).startswith(start)
    assert serve.received == [SUBMIT] * 2


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"do": "lost"}, "a list"),
        ([{"do": "explode"}], "rule 0: do is one of"),
        ([{"do": "lost"}, {"do": "delay", "sec": 1}], "rule 1: expected members"),
        ([{"do": "delay", "ms": "soon"}], "ms is a whole number"),
        ([{"do": "cut", "bytes": -1}], "bytes is a whole number"),
        ([{"do": "status", "status": 999}], "status one of HTTP"),
        ([{"do": "lost", "every": 0}], "every is at least 1"),
    ],
)
def test_fault_in_a_file_is_named(document: Any, said: str) -> None:
    with pytest.raises(FaultsError, match=said):
        read_faults(document)


def test_file_is_yaml_or_json(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {do: lost, nth: [1, 3]}\n")
    assert load_faults(path).choose("GET", "/", None) is not None
    path.write_text('[{"do": "lost", "nth": [2]}]')
    assert load_faults(path).choose("GET", "/", None) is None
    with pytest.raises(FaultsError):
        load_faults(tmp_path / "absent")
