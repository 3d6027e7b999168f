"""`flk-server region ...` against the administrative listener (spec/roles.md 8.1), and checkers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from many_roles import ArbiterProcess, RoleWorld, roles_of, wait_until
from region_documents import document

from fractal_lba.errors import ConfigError
from fractal_lba_server.admin_token import AdminToken, read_admin_token
from fractal_lba_server.checker import Checker
from fractal_lba_server.cli_region import status_lines
from fractal_lba_server.config import Address
from fractal_lba_server.core.health import ProbeRule
from fractal_lba_server.core.regions import read_registry
from fractal_lba_server.net.peers import PeerListener
from fractal_lba_server.net.protocol import Reply, Request
from fractal_lba_server.net.region_admin import RegionAdmin
from fractal_lba_server.net.region_client import CallRefusedError, call

TOKEN = "t" * 43


class AdminListener:
    """The administrative listener of a fake region: region_admin.py and nothing else."""

    def __init__(self, world: RoleWorld, code: str, *, keeper: bool = True) -> None:
        region = world.regions[code]
        self.drained = 0
        self.admin = RegionAdmin(
            region=code, registry=world.registry, keeper=region.keeper if keeper else None,
            describe=lambda: {
                "gate": None, "received": [],
                "streams": [{"placement": "open", "durable": 7, "replicated": 5}],
                "lags": [{"placement": "open", "peer": "us1", "records": 2, "age_ms": 9,
                          "reason": ""}],
            },
            drain=self._drain, token=AdminToken(TOKEN),
        )  # fmt: skip
        self._world = world
        self.listener: PeerListener = world.loop.run(self._start())
        self.url = f"http://{self.listener.address}"

    async def _start(self) -> PeerListener:
        app: Any = self
        return await PeerListener.start(app, Address("127.0.0.1", 0), None)

    def _drain(self) -> int:
        self.drained += 1
        return 3

    def body_limit(self, request: Request) -> int:
        return 1_024

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        reply(413, b"", b"")

    def handle(self, request: Request, reply: Reply) -> None:
        if self.admin.handles(request):
            self.admin.handle(request, reply)
        else:
            reply(404, b"", b"")

    def close(self) -> None:
        self._world.loop.run(self.listener.close())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoleWorld]:
    folder = tmp_path_factory.mktemp("regions")
    with roles_of(folder, arbiter=f"sqlite:///{folder}/arbiter.sqlite") as (made, _):
        wait_until(lambda: made.regions["eu1"].may_write, "no first lease")
        yield made


@pytest.fixture
def admins(world: RoleWorld) -> Iterator[dict[str, AdminListener]]:
    made = {code: AdminListener(world, code) for code in world.codes}
    yield made
    for one in made.values():
        one.close()


def flk(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from fractal_lba_server.cli_region import region; region()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60,
        check=False, env=os.environ,
    )  # fmt: skip


def test_status_shows_every_region_and_flags_one_without_an_answer(
    admins: dict[str, AdminListener],
) -> None:
    both = ["--admin", admins["eu1"].url, "--admin", admins["us1"].url]
    shown = flk("status", *both)
    assert shown.returncode == 0, shown.stderr
    head, *rows = shown.stdout.splitlines()
    assert head.split()[:4] == ["region", "placement", "role", "epoch"]
    assert any(row.split()[:3] == ["eu1", "open", "writer"] for row in rows)
    assert "open to us1: 2 records, 9 ms behind" in shown.stdout
    partial = flk("status", "--json", *both, "--admin", "http://127.0.0.1:9")
    found = json.loads(partial.stdout)
    assert (partial.returncode, found["complete"]) == (1, False)
    assert [one.get("region") for one in found["regions"]] == ["eu1", "us1", None]
    assert "not the whole picture" in flk("status", "--admin", "http://127.0.0.1:9").stderr


def test_an_operator_promotes_fences_and_fails_back(
    world: RoleWorld, admins: dict[str, AdminListener]
) -> None:
    eu1, us1 = admins["eu1"], admins["us1"]
    promoted = flk("promote", "--admin", us1.url)
    assert promoted.returncode == 0, promoted.stderr
    assert "at region epoch" in promoted.stderr
    wait_until(lambda: world.regions["us1"].may_write, "not promoted")
    stale = flk("promote", "--admin", eu1.url, "--region-epoch", "1")
    assert (stale.returncode, "by now" in stale.stderr) == (1, True)
    wait_until(lambda: world.regions["eu1"].status.role == "standby", "not a standby")
    refused = flk("failback", "--admin", eu1.url, "--to", "us1")
    assert (refused.returncode, "ask the one that writes" in refused.stderr) == (1, True)
    back = flk("failback", "--admin", us1.url, "--to", "eu1", "--json")
    assert back.returncode == 0
    assert json.loads(back.stdout)["role"] in {"fenced", "standby"}, "it writes no more"
    wait_until(lambda: world.regions["eu1"].may_write, "not back")
    fenced = flk("fence", "--admin", us1.url)
    assert fenced.returncode == 0, fenced.stderr
    wait_until(lambda: world.regions["eu1"].status.role == "fenced", "not fenced")
    nowhere = flk("promote", "--admin", eu1.url, "--placement", "nowhere")
    assert (nowhere.returncode, "holds no placement" in nowhere.stderr) == (1, True)
    gone = flk("fence", "--admin", "http://127.0.0.1:9")
    assert gone.returncode == 1
    epoch = str(world.regions["eu1"].status.region_epoch)
    assert flk("promote", "--admin", eu1.url, "--region-epoch", epoch).returncode == 0
    wait_until(lambda: world.regions["eu1"].may_write, "not promoted again")


def test_drain_is_for_the_whole_region(admins: dict[str, AdminListener]) -> None:
    ended = flk("drain", "--admin", admins["us1"].url)
    assert (ended.returncode, ended.stdout) == (0, "draining, 3 left\n")
    assert (admins["us1"].drained, admins["eu1"].drained) == (1, 0)


REFUSED: list[tuple[str, str, Any, int]] = [
    ("POST", "status", {}, 405),
    ("GET", "promote", None, 405),
    ("POST", "nothing", {}, 404),
    ("POST", "promote", {"placement": "open"}, 422),
    ("POST", "promote", {"placement": "open", "region_epoch": True}, 422),
    ("POST", "failback", {"placement": "nowhere", "to": "us1"}, 404),
]


@pytest.mark.parametrize(("method", "name", "body", "status"), REFUSED)
def test_what_the_listener_refuses(
    admins: dict[str, AdminListener], method: str, name: str, body: Any, status: int
) -> None:
    with pytest.raises(CallRefusedError) as caught:
        call(admins["eu1"].url, method, f"/admin/region/{name}", body)
    assert caught.value.status == status


def test_an_order_that_a_foreign_page_could_send_is_refused(world: RoleWorld) -> None:
    admin = AdminListener(world, "eu1", keeper=False)
    answers: list[tuple[int, bytes]] = []

    def reply(status: int, headers: bytes, body: bytes) -> None:
        answers.append((status, body))

    def ask(address: str, headers: dict[bytes, bytes], body: bytes = b"{}") -> int:
        request = Request("POST", "/admin/region/drain", headers, address, body)
        admin.admin.handle(request, reply)
        return answers[-1][0]

    json_type = {b"content-type": b"application/json"}
    assert ask("127.0.0.1", {b"content-type": b"text/plain"}) == 415
    assert ask("127.0.0.1", json_type) == 200
    assert ask("127.0.0.1", json_type, b"{") == 400
    assert ask("192.0.2.1", json_type) == 401
    assert ask("192.0.2.1", {**json_type, b"authorization": b"Bearer " + b"u" * 43}) == 401
    good = b"Bearer " + TOKEN.encode()
    assert ask("192.0.2.1", {**json_type, b"authorization": good}) == 200
    body = b'{"placement":"open","region_epoch":1}'
    alone = Request("POST", "/admin/region/promote", json_type, "127.0.0.1", body)
    admin.admin.handle(alone, reply)
    assert answers[-1][0] == 404
    assert admin.admin.status()["placements"] == []
    admin.close()


@pytest.mark.parametrize(
    ("text", "mode", "word"),
    [("short", 0o600, "43"), (TOKEN, 0o644, "chmod"), (None, 0o600, "No such file")],
)
def test_a_token_file_that_is_no_secret_is_refused(
    tmp_path: Path, text: str | None, mode: int, word: str
) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    with pytest.raises(ConfigError, match=word):
        read_admin_token(file)


def test_a_token_is_sent_and_never_shown(tmp_path: Path, admins: dict[str, AdminListener]) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    token = read_admin_token(file)
    assert (repr(token), str(token)) == ("***", "***")
    shown = flk("status", "--admin", admins["eu1"].url, "--token-file", str(file))
    assert shown.returncode == 0
    file.chmod(0o644)
    refused = flk("status", "--admin", admins["eu1"].url, "--token-file", str(file))
    assert (refused.returncode, TOKEN in refused.stdout + refused.stderr) == (1, False)


# --- the file of regions


def test_a_file_of_regions_is_checked_and_nothing_is_written(tmp_path: Path) -> None:
    file = tmp_path / "regions.yaml"
    file.write_text(json.dumps(document()))
    data = tmp_path / "data"
    data.mkdir()
    shown = flk("registry", "check", str(file), "--data", str(data))
    assert shown.returncode == 0, shown.stderr
    assert "3 regions, in order of rank: eu1 us1 eu2" in shown.stdout
    assert "eu-only: warm-standby in eu2 eu1, 2 copies, primary eu1" in shown.stdout
    assert list(data.iterdir()) == []
    as_json = json.loads(flk("registry", "check", str(file), "--json").stdout)
    assert as_json["placements"]["open"]["copies"] == 2
    (data / "regions.json").write_text('{"version": 1, "codes": ["us1", "eu1"]}')
    refused = flk("registry", "check", str(file), "--data", str(data))
    assert (refused.returncode, "had rank 0" in refused.stderr) == (1, True)
    assert flk("registry", "check", str(tmp_path / "none")).returncode == 1


def test_a_table_says_why_a_region_takes_nothing() -> None:
    role = {
        "placement": "open", "topology": "warm-standby", "role": "promoting", "step": "learn",
        "region_epoch": 2, "leader": None, "lease_ms": None, "reason": "ap1 holds more",
    }  # fmt: skip
    lag = {"placement": "open", "peer": "ap1", "records": 0, "age_ms": 0, "reason": "fenced"}
    lines = status_lines(
        [{"region": "us1", "gate": "no space", "placements": [role], "streams": [], "lags": [lag]}]
    )
    assert lines[1].split() == ["us1", "open", "promoting:learn", "2", "-", "-", "-", "-"]
    assert lines[2:] == [
        "us1: takes no record: no space",
        "us1: open: ap1 holds more",
        "us1: open to ap1: 0 records, 0 ms behind (fenced)",
    ]


# --- a checker


class Readyz:
    """A region that says whether it is ready, or says nothing at all."""

    def __init__(self) -> None:
        self.status = 200
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if outer.status == 0:
                    outer.release.wait(5)
                    return
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


def test_a_checker_sees_what_answers_200_in_time_and_tells_the_arbiter(tmp_path: Path) -> None:
    readyz = Readyz()
    shape = document()
    shape["regions"][0]["endpoint"] = readyz.url
    shape["regions"][1]["endpoint"] = "http://127.0.0.1:9"
    file = tmp_path / "regions.yaml"
    file.write_text(json.dumps(shape))
    state = f"sqlite:///{tmp_path}/arbiter.sqlite"
    arbiter = ArbiterProcess(file, state, "--checker", "ck1", "--quorum", "1")
    rule = ProbeRule(interval_ms=50, timeout_ms=40, failures=1, successes=1, hold_down_ms=0)
    checker = Checker(read_registry(shape), "ck1", arbiter.url, rule=rule)
    try:
        assert checker.probe("eu1")
        assert not checker.probe("us1")
        for status in (503, 0):
            readyz.status = status
            assert not checker.probe("eu1")
        readyz.status = 200
        assert checker.vote()
        assert call(arbiter.url, "GET", "/arbiter/v1/status")["regions"]["eu1"]["ready"] is True
    finally:
        arbiter.kill()
        readyz.close()
    assert not checker.vote()


def test_an_opinion_is_voted_when_it_changes_and_not_at_the_next_interval(tmp_path: Path) -> None:
    readyz = Readyz()
    shape = document()
    urls = (readyz.url, "http://127.0.0.1:9", "http://127.0.0.1:10")
    for one, url in zip(shape["regions"], urls, strict=True):
        one["endpoint"] = url
    file = tmp_path / "regions.yaml"
    file.write_text(json.dumps(shape))
    state = f"sqlite:///{tmp_path}/arbiter.sqlite"
    arbiter = ArbiterProcess(file, state, "--checker", "ck1", "--quorum", "1")
    rule = ProbeRule(interval_ms=3_600_000, timeout_ms=5_000, failures=1)
    checker = Checker(read_registry(shape), "ck1", arbiter.url, rule=rule)

    def verdict(code: str) -> Any:
        return call(arbiter.url, "GET", "/arbiter/v1/status")["regions"][code]["ready"]

    try:
        checker.start()
        wait_until(lambda: verdict("us1") is False, "no vote before the end of the interval")
        assert verdict("eu1") is True
    finally:
        checker.end()
        arbiter.kill()
        readyz.close()


def test_the_command_probes_until_it_is_told_to_stop(tmp_path: Path) -> None:
    readyz = Readyz()
    shape = document()
    for one in shape["regions"]:
        one["endpoint"] = f"{readyz.url}" if one["code"] == "eu1" else one["endpoint"]
    shape["regions"][1]["endpoint"] = "http://127.0.0.1:9"
    shape["regions"][2]["endpoint"] = "http://127.0.0.1:10"
    file = tmp_path / "regions.yaml"
    file.write_text(json.dumps(shape))
    state = f"sqlite:///{tmp_path}/arbiter.sqlite"
    arbiter = ArbiterProcess(file, state, "--checker", "ck1", "--quorum", "1")
    code = "from fractal_lba_server.cli_arbiter import checker; checker()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--regions", str(file), "--name", "ck1", "--arbiter",
         arbiter.url, "--interval-ms", "50", "--timeout-ms", "50"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "checking 3 regions\n"

        def verdicts() -> Any:
            found = call(arbiter.url, "GET", "/arbiter/v1/status")["regions"]
            return {code: one["ready"] for code, one in found.items()}

        wait_until(lambda: verdicts() == {"eu1": True, "us1": False, "eu2": False}, "no verdict")
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
        arbiter.kill()
        readyz.close()
