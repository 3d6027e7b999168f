"""What the arbiter answers, to whom, and what it is not started with (spec/roles.md 8)."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from many_roles import ArbiterProcess, RoleWorld

from fractal_lba_server.net.arbiter_app import answer_of
from fractal_lba_server.net.peers import PeerTls
from fractal_lba_server.net.region_client import CallRefusedError, UnreachableError, call
from fractal_lba_server.store.region_key import new_certificate, now_utc


def state_of(folder: Path) -> str:
    return f"sqlite:///{folder}/arbiter.sqlite"


# --- the wire


@pytest.fixture(scope="module")
def arbiter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("arbiter")
    world = RoleWorld(folder)
    checkers = ["--checker", "ck1", "--checker", "ck2", "--checker", "ck3", "--quorum", "2"]
    process = ArbiterProcess(
        world.file, state_of(folder), *checkers, "--automatic", "--rest-ms", "0"
    )
    yield process
    process.kill()
    world.close()


LEASE = {"region": "eu1", "region_epoch": 1, "process": "p", "number": 1}
WIRE: list[tuple[str, str, Any, int]] = [
    ("POST", "lease/open", {**LEASE, "region": "zz9"}, 403),
    ("POST", "lease/both", LEASE, 404),
    ("POST", "lease/nowhere", LEASE, 404),
    ("GET", "lease/open", None, 405),
    ("GET", "nothing", None, 404),
    ("POST", "lease/open", {**LEASE, "region": "EU1"}, 422),
    ("POST", "lease/open", {**LEASE, "region_epoch": -1}, 422),
    ("POST", "lease/open", {**LEASE, "process": ""}, 422),
    ("POST", "lease/open", {**LEASE, "number": True}, 422),
    ("POST", "hand-over/open", LEASE, 422),
    ("POST", "promote/open", {"region_epoch": 1}, 422),
    ("POST", "vote", {"checker": "ck1", "ready": 3, "alive": {}}, 422),
    ("POST", "vote", {"checker": "ck9", "ready": {}, "alive": {}}, 403),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), WIRE)
def test_what_the_arbiter_refuses(
    arbiter: ArbiterProcess, method: str, path: str, body: Any, status: int
) -> None:
    with pytest.raises(CallRefusedError) as caught:
        call(arbiter.url, method, f"/arbiter/v1/{path}", body)
    assert caught.value.status == status


def test_a_page_of_a_browser_promotes_nobody(arbiter: ArbiterProcess) -> None:
    host = arbiter.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=10)) as connection:
        body = '{"region": "us1", "region_epoch": 1}'
        headers = {"Origin": "https://elsewhere.example", "Content-Type": "text/plain"}
        connection.request("POST", "/arbiter/v1/promote/open", body, headers)
        assert connection.getresponse().status == 403


def test_a_quorum_of_checkers_promotes_and_a_minority_does_not(arbiter: ArbiterProcess) -> None:
    def vote(name: str, *, eu1: bool) -> None:
        ready, alive = {"eu1": eu1, "us1": False}, {"eu1": eu1, "us1": True}
        up = {"checker": name, "ready": ready, "alive": alive}
        assert call(arbiter.url, "POST", "/arbiter/v1/vote", up) == {"heard": True}

    def epoch() -> int:
        return int(call(arbiter.url, "GET", "/arbiter/v1/status")["placements"][0]["region_epoch"])

    granted = call(arbiter.url, "POST", "/arbiter/v1/lease/open", LEASE)
    assert granted == {"answer": "granted", "region_epoch": 1, "ttl_ms": 1000}
    vote("ck1", eu1=False)
    vote("ck2", eu1=True)
    vote("ck3", eu1=True)
    assert epoch() == 1
    vote("ck2", eu1=False)
    status = call(arbiter.url, "GET", "/arbiter/v1/status")
    assert status["regions"] == {
        "eu1": {"ready": False, "alive": False}, "us1": {"ready": False, "alive": True},
    }  # fmt: skip
    assert (status["placements"][0]["holder"], epoch()) == ("us1", 2)
    vote("ck3", eu1=False)
    assert epoch() == 2
    assert call(arbiter.url, "GET", "/healthz") == {"ok": True}
    behind = call(arbiter.url, "POST", "/arbiter/v1/lease/open", {**LEASE, "region_epoch": 9})
    assert behind == {"answer": "behind", "region_epoch": 2}
    given = {**LEASE, "to": "us1"}
    late = call(arbiter.url, "POST", "/arbiter/v1/hand-over/open", given)
    assert late == {"answer": "moved", "region_epoch": 2}


def test_nobody_there_is_not_a_refusal() -> None:
    with pytest.raises(UnreachableError):
        call("http://127.0.0.1:9", "GET", "/")


def run_arbiter(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from fractal_lba_server.cli_arbiter import arbiter; arbiter()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip


def test_what_an_arbiter_is_not_started_with(tmp_path: Path) -> None:
    world = RoleWorld(tmp_path)
    world.close()
    regions = ["--regions", str(world.file)]
    state = ["--state", state_of(tmp_path)]
    cases: list[tuple[list[str], int, str]] = [
        ([*regions, "--state", "mysql://x"], 1, "sqlite:///PATH"),
        ([*regions, *state, "--listen", "0.0.0.0:0"], 1, "without TLS"),
        ([*regions, *state, "--ttl-ms", "100"], 1, "ttl_ms"),
        ([*regions, *state, "--automatic"], 2, "needs checkers"),
        ([*regions, *state, "--checker", "ck1", "--checker", "ck2", "--quorum", "1"], 1, "half"),
        ([*regions, *state, "--cert", "x"], 2, "belong together"),
        ([*regions, *state, "--listen", "nowhere"], 2, "HOST:PORT"),
        (["--regions", str(tmp_path / "none"), *state], 1, "none"),
        ([*regions, "--state", f"sqlite:///{tmp_path}"], 1, "unable to open"),
    ]
    for arguments, status, word in cases:
        ended = run_arbiter(*arguments)
        assert (ended.returncode, word in ended.stderr) == (status, True), ended.stderr


# --- mutual TLS: a certificate speaks for the code that it names, and for nobody else


def test_a_certificate_speaks_for_its_own_region_alone(tmp_path: Path) -> None:
    world = RoleWorld(tmp_path)
    world.close()
    keys = tmp_path / "keys"
    keys.mkdir()
    for code in ("arb", "eu1", "us1", "ck1", "zz9"):
        new_certificate(code, keys, hosts=("127.0.0.1",), now=now_utc())

    def tls(code: str) -> PeerTls:
        return PeerTls(keys / f"{code}.crt", keys / f"{code}.pem", keys / "ca.crt")

    own = tls("arb")
    process = ArbiterProcess(
        world.file, state_of(tmp_path), "--cert", str(own.cert), "--key", str(own.key),
        "--ca", str(own.ca), "--checker", "ck1", "--quorum", "1",
    )  # fmt: skip
    url = f"https://{process.address}"
    vote = {"checker": "ck1", "ready": {}, "alive": {}}
    fence = {"region": None, "region_epoch": 1}
    cases: list[tuple[str, str, dict[str, Any], int]] = [
        ("eu1", "lease/open", LEASE, 200),
        ("us1", "lease/open", LEASE, 403),
        ("us1", "promote/open", {"region": "eu1", "region_epoch": 1}, 403),
        ("zz9", "promote/open", fence, 403),
        ("zz9", "promote/nowhere", fence, 403),
        ("us1", "vote", vote, 403),
        ("ck1", "vote", vote, 200),
        ("us1", "promote/open", fence, 200),
    ]
    try:
        for caller, path, body, status in cases:
            assert ask(url, path, body, tls(caller)) == status, (caller, path)
        with pytest.raises(UnreachableError):
            call(url, "POST", "/arbiter/v1/lease/open", LEASE, ca=keys / "ca.crt")
        with pytest.raises(UnreachableError, match="does not name"):
            call(url, "GET", "/healthz", tls=tls("eu1"), names_region="us1")
        assert call(url, "GET", "/healthz", tls=tls("eu1"), names_region="arb") == {"ok": True}
    finally:
        process.kill()


def ask(url: str, path: str, body: dict[str, Any], tls: PeerTls) -> int:
    try:
        call(url, "POST", f"/arbiter/v1/{path}", body, tls=tls, timeout_s=5)
    except CallRefusedError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "document",
    [
        {}, {"answer": "king"}, {"answer": "granted", "region_epoch": 1},
        {"answer": "granted", "region_epoch": -1, "ttl_ms": 5},
        {"answer": "not_leader", "region_epoch": 1, "leader": 3},
        {"answer": "moved", "region_epoch": 1, "more": 1},
    ],
)  # fmt: skip
def test_what_is_no_answer_of_an_arbiter(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not an answer"):
        answer_of(document)
