"""A whole proxy: the judging process, its record, and the command around both."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_parts import HANG_S, RawServer

from flk_conformance.cli import main
from flk_conformance.places import PACKAGE, root_of
from flk_conformance.proxy.record import REDACTED, read_record
from flk_conformance.proxy.service import Proxy, Settings

SPEC = root_of("spec/openapi.yaml") / "spec" / "openapi.yaml"
HEALTH = b'{"ok":true,"region":"use","primary":true}'
TOKEN = "a-read-token-that-nobody-may-see-written-0"
ID = "019bc186-de00-7c3a-9f52-3b8e21d04a71"


def serve(sock: socket.socket) -> None:
    """Answer health well, and everything else with a secret and a cookie."""
    while data := sock.recv(65_536):
        good = b"GET /health " in data
        body = HEALTH if good else json.dumps({"token": TOKEN}).encode()
        more = "" if good else "set-cookie: session=1\r\n"
        head = f"HTTP/1.1 200 OK\r\nx-request-id: {ID}\r\ncontent-type: application/json\r\n{more}"
        sock.sendall(head.encode() + b"content-length: %d\r\n\r\n%b" % (len(body), body))


def ask(port: int, path: str, **headers: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=named)
        return connection.getresponse().read()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a good exchange and a bad one."""
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "read.token").write_text(TOKEN)
    settings = Settings(
        "http://127.0.0.1:1", SPEC, folder / "run.ndjson", secrets=[folder / "read.token"]
    )
    with RawServer(serve) as server:
        settings = Settings(server.url, SPEC, settings.record, secrets=settings.secrets)
        with Proxy(settings) as proxy:
            proxy.case = "good"
            assert ask(proxy.port, "/health") == HEALTH
            proxy.case = "bad"
            bearer = f"Bearer {TOKEN}"
            answer = ask(proxy.port, "/v1/tenants/self", Authorization=bearer, Cookie="session=1")
            assert TOKEN.encode() in answer
    return settings.record


def exchanges(record: Path) -> dict[str, dict[str, Any]]:
    return {line["case"]: line for line in read_record(record) if line["type"] == "exchange"}


def test_good_exchange_is_recorded_whole(record: Path) -> None:
    line = exchanges(record)["good"]
    assert line["violations"] == []
    assert (line["request"]["method"], line["request"]["target"]) == ("GET", "/health")
    assert base64.b64decode(line["answer"]["body"]) == HEALTH
    assert line["answer"]["bytes"] == len(HEALTH)


def test_authorization_and_cookies_are_redacted(record: Path) -> None:
    line = exchanges(record)["bad"]
    sent = {name.lower(): value for name, value in line["request"]["headers"]}
    got = dict(line["answer"]["headers"])
    assert (sent["authorization"], sent["cookie"], got["set-cookie"]) == (REDACTED,) * 3
    assert TOKEN not in json.dumps(line["request"])
    assert "session=1" not in record.read_text(encoding="utf-8")


def test_bad_exchange_has_its_violations(record: Path) -> None:
    found = {(one["side"], one["rule"]) for one in exchanges(record)["bad"]["violations"]}
    assert ("client", "header-undocumented") in found
    assert ("server", "header-undocumented") in found
    assert ("server", "secret") in found
    assert ("server", "required") in found
    assert ("client", "secret") not in found, "the token stands where it belongs"


def test_record_has_a_header_and_a_footer(record: Path) -> None:
    first, *_, last = read_record(record)
    assert (first["type"], first["clock"]) == ("header", "real")
    assert len(first["spec_sha256"]) == 64
    assert last["exchanges"] == 2
    assert last["violations"] == len(exchanges(record)["bad"]["violations"])


# --- the command ---------------------------------------------------------------------------------


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the command and give its process and port."""
    roots = [str(PACKAGE.parent), str(SPEC.parents[1]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", "flk_conformance", "proxy", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), process.stderr and process.stderr.read()
        yield process, int(line.split(",")[0].rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def test_command_ends_well_after_a_good_run(tmp_path: Path) -> None:
    options = ["--record", str(tmp_path / "run.ndjson")]
    with RawServer(serve) as server, running("--upstream", server.url, *options) as (process, port):
        ask(port, "/health")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    assert "1 exchanges" in said
    assert "0 violations" in said


def test_signal_to_the_whole_group_lets_the_judging_finish(tmp_path: Path) -> None:
    options = ["--record", str(tmp_path / "run.ndjson")]
    with RawServer(serve) as server, running("--upstream", server.url, *options) as (process, port):
        ask(port, "/health")
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    assert "1 exchanges" in said
    assert [line["type"] for line in read_record(tmp_path / "run.ndjson")][-1] == "footer"


def test_enforce_ends_at_the_first_violation(tmp_path: Path) -> None:
    options = ["--record", str(tmp_path / "run.ndjson"), "--enforce"]
    with RawServer(serve) as server, running("--upstream", server.url, *options) as (process, port):
        ask(port, "/nowhere")
        said, complained = process.communicate(timeout=HANG_S)
    assert process.returncode == 1
    assert "route" in said
    assert "exchange 1: client: route" in complained


def test_coverage_is_demanded_where_it_is_asked_for(tmp_path: Path) -> None:
    options = ["--record", str(tmp_path / "run.ndjson"), "--coverage"]
    with RawServer(serve) as server, running("--upstream", server.url, *options) as (process, port):
        ask(port, "/health")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 1
    assert "coverage: submitPcs: status 200 was not seen" in said


def test_faults_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text("- {do: status, status: 503, retry_after: 3, nth: [1]}\n")
    options = ["--record", str(tmp_path / "run.ndjson"), "--faults", str(tmp_path / "faults.yaml")]
    with RawServer(serve) as server, running("--upstream", server.url, *options) as (process, port):
        assert b'"retry_after_ms":3000' in ask(port, "/health")
        assert ask(port, "/health") == HEALTH
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    lines = [x for x in read_record(tmp_path / "run.ndjson") if x["type"] == "exchange"]
    assert [line.get("fault") for line in lines] == ["status", None]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--upstream", "ftp://a", "--record", "{}/r"], 3),
        (["--upstream", "http://a/path", "--record", "{}/r"], 3),
        (["--upstream", "http://a", "--record", "{}/r", "--faults", "{}/absent"], 2),
        (["--record", "{}/r"], 2),
    ],
)
def test_wrong_use(options: list[str], code: int, tmp_path: Path) -> None:
    assert main(["proxy", *[word.replace("{}", str(tmp_path)) for word in options]]) == code
