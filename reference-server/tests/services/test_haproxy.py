"""deploy/haproxy.cfg in the real HAProxy, with three tiny regions behind it."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fractal_lba_server.core.health import ProbeRule
from fractal_lba_server.core.ramp import STEPS
from fractal_lba_server.drill.processes import free_port
from fractal_lba_server.haproxy_ramp import RampFailedError, is_ready, ramp_up, set_weight

pytestmark = pytest.mark.services

CONFIG = Path(__file__).resolve().parents[3] / "deploy" / "haproxy.cfg"
CODES = ("eu1", "us1", "eu2")
WAIT_S = 20.0


class TinyRegion:
    """Answers its code; `ready` False is a region that drains."""

    def __init__(self, code: str) -> None:
        self.code, self.ready, self.taken = code, True, 0
        self.held = 7
        self.port = 0
        self.server: ThreadingHTTPServer | None = None
        self.start()

    def start(self) -> None:
        region = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                is_probe = self.path in {"/readyz", "/admin/region/status"}
                if not is_probe and region.ready:
                    region.taken += 1
                body = region.code.encode()
                if self.path == "/admin/region/status":
                    told = {"region": "us1", "placement": "open", "claimed_seq": 7}
                    body = json.dumps({"received": [{**told, "seq": region.held}]}).encode()
                is_up = region.ready or self.path.startswith("/admin")
                self.send_response(200 if is_up else 503)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def kill(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class Proxy:
    def __init__(self, folder: Path, regions: dict[str, TinyRegion]) -> None:
        self.port = free_port()
        self.socket = folder / "haproxy.sock"
        self.environment = {
            **os.environ,
            "FLK_BIND": f"127.0.0.1:{self.port}",
            "FLK_SOCKET": str(self.socket),
            **{f"FLK_{code.upper()}": f"127.0.0.1:{one.port}" for code, one in regions.items()},
        }
        self.process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(CONFIG)], env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, host: str = "pcs.example", method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, "/v1/pcs/x", headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def count(self, number: int, host: str = "pcs.example") -> Counter[str]:
        found: Counter[str] = Counter()
        for _ in range(number):
            status, code = self.ask(host)
            found[code if status == 200 else str(status)] += 1
        return found

    def states(self) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.socket))
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(65_536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line.startswith("regions,")]
        return {row[1]: row[17] for row in rows if row[1] in CODES}

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(WAIT_S)


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def regions() -> Iterator[dict[str, TinyRegion]]:
    assert shutil.which("haproxy"), "needs Debian's haproxy"
    made = {code: TinyRegion(code) for code in CODES}
    yield made
    for one in made.values():
        one.kill()


@pytest.fixture
def proxy(tmp_path: Path, regions: dict[str, TinyRegion]) -> Iterator[Proxy]:
    running = Proxy(tmp_path, regions)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return running.ask()[0] == 200
        return False

    wait_until(answers, "HAProxy does not answer")
    yield running
    running.end()


def test_the_file_passes_haproxy_itself(tmp_path: Path, regions: dict[str, TinyRegion]) -> None:
    environment = Proxy(tmp_path, regions)
    environment.end()
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(CONFIG)], env=environment.environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (checked.returncode, "ALERT" in checked.stderr, "WARNING" in checked.stderr) == (
        0, False, False,
    ), checked.stderr  # fmt: skip


def test_the_probe_is_that_of_the_checkers_and_stands_in_one_place() -> None:
    text = CONFIG.read_text()
    rule = ProbeRule()
    assert re.findall(r"inter (\S+) fall (\d+) rise (\d+)", text) == [
        (f"{rule.interval_ms // 1000}s", str(rule.failures), str(rule.successes))
    ]
    assert re.findall(r"timeout check (\S+)", text) == [f"{rule.timeout_ms}ms"]


def test_no_client_is_without_a_region() -> None:
    """H50: there is a default, for every host and for the case that all look down."""
    text = CONFIG.read_text()
    assert len(re.findall(r"^\s+default_backend regions$", text, re.MULTILINE)) == 1
    assert "use_backend regions_unprobed if { nbsrv(regions) eq 0 }" in text
    backends = set(re.findall(r"^backend (\S+)$", text, re.MULTILINE))
    assert set(re.findall(r"_backend (\S+)", text)) == backends


def test_a_killed_region_is_routed_around_and_comes_back(
    proxy: Proxy, regions: dict[str, TinyRegion]
) -> None:
    assert set(proxy.count(12)) == set(CODES)
    regions["eu1"].kill()
    seen = proxy.count(30)
    assert not set(seen) - {"us1", "eu2"}, "refused connections are tried elsewhere"
    wait_until(lambda: proxy.states()["eu1"] == "DOWN", "not seen to be down")
    assert not set(proxy.count(30)) - {"us1", "eu2"}
    assert set(proxy.count(10, "eu.pcs.example")) == {"eu2"}
    regions["eu1"].start()
    wait_until(lambda: proxy.states()["eu1"] == "UP", "not seen to be up")
    assert proxy.count(12)["eu1"] > 0


def test_a_draining_region_gets_no_new_request(
    proxy: Proxy, regions: dict[str, TinyRegion]
) -> None:
    regions["us1"].ready = False
    before = regions["us1"].taken
    assert not set(proxy.count(40)) - {"eu1", "eu2"}, "a refusal is tried elsewhere"
    wait_until(lambda: proxy.states()["us1"] == "DOWN", "not seen to drain")
    assert not set(proxy.count(20)) - {"eu1", "eu2"}
    assert regions["us1"].taken == before


def test_a_submit_that_was_answered_is_not_sent_again(
    proxy: Proxy, regions: dict[str, TinyRegion]
) -> None:
    """A 503 may follow a record that is in the log: its client decides what comes next."""
    regions["us1"].ready = False
    assert (503, "us1") in {proxy.ask(method="POST") for _ in CODES}
    regions["eu1"].kill()
    answers = {proxy.ask(method="POST") for _ in CODES}
    assert answers <= {(200, "eu2"), (503, "us1")}, "one without a connection goes elsewhere"
    wait_until(lambda: proxy.states()["us1"] == "DOWN", "not seen to drain")
    assert {proxy.ask(method="POST") for _ in CODES} == {(200, "eu2")}


def test_a_locked_tenant_stays_in_its_placement(
    proxy: Proxy, regions: dict[str, TinyRegion]
) -> None:
    """H57: with both of its regions gone it waits; nobody else's region takes it."""
    assert set(proxy.count(10, "eu.pcs.example")) == {"eu1", "eu2"}
    regions["eu1"].kill()
    regions["eu2"].kill()
    assert set(proxy.count(6, "eu.pcs.example:443")) == {"503"}
    wait_until(lambda: proxy.states()["eu1"] == "DOWN", "not seen to be down")
    assert set(proxy.count(6, "eu.pcs.example")) == {"503"}
    assert set(proxy.count(6)) == {"us1"}


def test_where_all_look_down_all_are_asked(proxy: Proxy, regions: dict[str, TinyRegion]) -> None:
    """H52: a fault that all share takes nobody out of service."""
    for one in regions.values():
        one.ready = False
    wait_until(lambda: set(proxy.states().values()) == {"DOWN"}, "not seen to be down")
    for one in regions.values():
        one.ready = True
    assert proxy.ask()[0] == 200


def share_is_within_bounds(found: Counter[str], share: float) -> bool:
    """C11: within 1.96 standard deviations of a binomial share."""
    number = sum(found.values())
    bound = 1.96 * math.sqrt(share * (1 - share) / number)
    return abs(found["eu1"] / number - share) <= bound


@pytest.mark.parametrize("percent", STEPS)
def test_a_weight_is_a_share_within_binomial_bounds(proxy: Proxy, percent: int) -> None:
    set_weight(proxy.socket, "regions/eu1", percent)
    share = percent / (percent + 200)
    assert share_is_within_bounds(proxy.count(420), share)
    set_weight(proxy.socket, "regions/eu1", 0)
    assert proxy.count(20)["eu1"] == 0


def test_a_ramp_ends_at_full_weight_and_a_fault_takes_it_back(
    proxy: Proxy, regions: dict[str, TinyRegion]
) -> None:
    said: list[str] = []
    url = f"http://127.0.0.1:{regions['eu1'].port}/readyz"
    servers = ["regions/eu1", "eu/eu1"]
    set_weight(proxy.socket, "regions/eu1", 0)
    ramp_up(proxy.socket, servers, url, hold_s=0.2, say=said.append)
    assert said == [f"regions/eu1 eu/eu1: {percent} %" for percent in STEPS]
    assert proxy.count(30)["eu1"] > 0

    def fail_at_half(text: str) -> None:
        regions["eu1"].ready = "50" not in text

    with pytest.raises(RampFailedError, match="weight is 0"):
        ramp_up(proxy.socket, servers, url, hold_s=0.2, say=fail_at_half)
    regions["eu1"].ready = True
    assert is_ready(url)
    assert proxy.count(20)["eu1"] == 0
    with pytest.raises(RampFailedError, match="No such server"):
        ramp_up(proxy.socket, ["regions/zz9"], url, hold_s=0.2, say=said.append)
    with pytest.raises(RampFailedError, match="BACKEND/SERVER"):
        ramp_up(proxy.socket, ["a b; shutdown"], url, hold_s=0.2, say=said.append)


def test_the_command_ramps_what_has_caught_up(proxy: Proxy, regions: dict[str, TinyRegion]) -> None:
    url = f"http://127.0.0.1:{regions['eu1'].port}"

    def ramp() -> subprocess.CompletedProcess[str]:
        code = "from fractal_lba_server.cli_region import region; region()"
        return subprocess.run(
            [sys.executable, "-c", code, "ramp", "--socket", str(proxy.socket), "--server",
             "regions/eu1", "--probe", f"{url}/readyz", "--admin", url, "--hold-s", "0.2"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    ended = ramp()
    assert (ended.returncode, ended.stdout.count("%")) == (0, 3), ended.stderr
    regions["eu1"].held = 6
    ended = ramp()
    assert (ended.returncode, "us1/open: holds 6 of 7" in ended.stderr) == (1, True)
    regions["eu1"].held = 7
    regions["eu1"].ready = False
    ended = ramp()
    assert (ended.returncode, "does not answer" in ended.stderr) == (1, True)
    regions["eu1"].kill()
    assert ramp().returncode == 1
