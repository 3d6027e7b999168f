"""`flk submit`, `get` and `outbox` against a small server that keeps outcomes by id."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flk_runner import KEY, NEW_KEY, Done, Flk, runner, write_key
from record_samples import full_record

from fractal_lba.canonical import jcs
from fractal_lba.ids import derive_pcs_id
from fractal_lba.spool import open_outbox

TOKEN = "read-me"


class Store:
    """Answer like the reference server, as far as these tests ask."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.outcomes: dict[str, bytes] = {}
        self.bodies: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        self.verdict: dict[str, Any] = {"accepted": True, "escalated": False}

    def submit(self, body: bytes) -> tuple[int, bool, dict[str, Any]]:
        """Record one body, or say why not."""
        with self.lock:
            record = json.loads(body)
            for name in (record["shard_id"], record.get("kid", ""), "*"):
                if name in self.refuse:
                    status, code = self.refuse[name]
                    return status, False, {"code": code, "detail": "refused", "status": status}
            pcs_id = record["pcs_id"]
            replayed = pcs_id in self.outcomes
            outcome = {
                "first_seen": {"region": "use", "hlc": "019bc186de000000"},
                "pcs_id": pcs_id,
                "policy_version": "3fcb272de67aa246",
                "recomputed_D_hat": 2.0,
                "recomputed_budget": 0.35,
                **self.verdict,
            }
            if not replayed:
                self.outcomes[pcs_id] = jcs(outcome)
                self.bodies[pcs_id] = record
            outcome = json.loads(self.outcomes[pcs_id])
            return 202 if outcome["escalated"] else 200, replayed, outcome


class Handler(BaseHTTPRequestHandler):
    """Carry requests to the store of the server."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """Send one response."""
        self.send_response(status)
        kind = "application/json" if status < 300 else "application/problem+json"
        for name, value in {"Content-Type": kind, "X-Request-Id": "req-1", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer health and outcomes."""
        store = self.server.store
        store.requests.append(("GET", self.path, dict(self.headers)))
        if self.path == "/health":
            self.answer(200, b'{"ok":true}')
            return
        found = store.outcomes.get(self.path.rpartition("/")[2])
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer(401, b'{"code":"unauthorized","detail":"no token","status":401}')
        elif found is None:
            self.answer(404, b'{"code":"not_found","detail":"no such record","status":404}')
        else:
            self.answer(200, found)

    def do_POST(self) -> None:
        """Answer a submit or a batch."""
        store = self.server.store
        store.requests.append(("POST", self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/pcs/submit":
            status, replayed, result = store.submit(body)
            facts = {"Idempotency_Replayed": str(replayed).lower(), "PCS_Level": "durable"}
            place = {"PCS_Position": "use/open/1/7"} if status < 300 else {}
            self.answer(status, jcs(result), **facts, **place)
            return
        lines = []
        for index, line in enumerate(body.splitlines()):
            status, replayed, result = store.submit(line)
            item: dict[str, Any] = {"index": index, "status": status}
            if status < 300:
                item |= {"outcome": result, "replayed": replayed, "position": "use/open/1/7"}
            else:
                item["problem"] = result
            lines.append(jcs(item) + b"\n")
        self.answer(200, b"".join(lines))


class Server(ThreadingHTTPServer):
    """Hold the store."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store = Store()

    @property
    def url(self) -> str:
        """Give the endpoint."""
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve on a port of its own."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def away() -> str:
    """Give an endpoint at which nobody answers."""
    with Server() as server:
        return server.url


@pytest.fixture
def flk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Flk:
    """Run `flk` in an empty directory with two keys and a token of tenant `acme`."""
    run = runner(tmp_path, monkeypatch, capfdbinary)
    write_key("old.json", kid="old")
    write_key("new.json", kid="new", key=NEW_KEY)
    Path("token").write_text(TOKEN)
    Path("token").chmod(0o600)
    return run


def records(number: int, **changes: Any) -> bytes:
    """Give records of different epochs, one a line; an outbox takes no old ones."""
    changes = {"sent_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **changes}
    lines = []
    for epoch in range(number):
        record = full_record(epoch=epoch, **changes)
        pcs_id = derive_pcs_id(record["merkle_root"], epoch, record["shard_id"])
        lines.append(jcs({**record, "pcs_id": pcs_id}) + b"\n")
    return b"".join(lines)


def send(flk: Flk, server: Server, source: bytes, *options: str) -> Done:
    return flk(
        "submit", "-", "--endpoint", server.url, "--key-file", "old.json", *options, stdin=source
    )


# --- submit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [[], ["--batch"]])
def test_records_are_signed_sent_and_answered_in_order(
    flk: Flk, server: Server, mode: list[str]
) -> None:
    source = records(25)
    done = send(flk, server, source, "--json", *mode)
    assert done.code == 0, done.err
    lines = done.lines()
    assert [line["where"] for line in lines] == [f"stdin line {n}" for n in range(1, 26)]
    assert [line["pcs_id"] for line in lines] == [
        json.loads(line)["pcs_id"] for line in source.splitlines()
    ]
    assert {line["replayed"] for line in lines} == {False}
    assert lines[0]["outcome"]["accepted"] is True
    assert lines[0]["position"] == "use/open/1/7"
    stored = server.store.bodies[lines[0]["pcs_id"]]
    assert (stored["kid"], stored["tenant_id"], stored["sig_v"]) == ("old", "acme", 2)
    again = send(flk, server, source, "--json", *mode)
    assert {line["replayed"] for line in again.lines()} == {True}
    assert [line["outcome"] for line in again.lines()] == [line["outcome"] for line in lines]


def test_a_batch_is_one_request(flk: Flk, server: Server) -> None:
    send(flk, server, records(25), "--batch")
    assert [path for _, path, _ in server.store.requests] == ["/v1/pcs/batch"]


def test_people_read_one_line_a_record_and_a_total(flk: Flk, server: Server) -> None:
    source = records(2)
    done = send(flk, server, source)
    first = json.loads(source.splitlines()[0])["pcs_id"]
    assert done.out.splitlines()[0] == f"{first}  recorded  accepted  use/open/1/7"
    assert done.err == "2 recorded, 0 of them not accepted, 0 failed\n"
    assert "  duplicate  accepted  " in send(flk, server, source).out


def test_a_signed_record_needs_no_key_and_is_sent_as_it_is(flk: Flk, server: Server) -> None:
    signed = flk("sign", "-", "--key-file", "new.json", stdin=records(1)).out
    Path("signed.json").write_text(json.dumps(json.loads(signed), indent=1))
    for mode in ([], ["--batch"]):
        done = flk("submit", "signed.json", "--endpoint", server.url, *mode)
        assert done.code == 0, done.err
    (stored,) = server.store.bodies.values()
    assert stored == json.loads(signed)


def test_an_unsigned_record_without_a_key_is_a_usage_error(flk: Flk, server: Server) -> None:
    done = flk("submit", "-", "--endpoint", server.url, stdin=records(1))
    assert done.code == 2
    assert "no key: name one with --key-file" in done.err
    assert server.store.requests == []


@pytest.mark.parametrize("mode", [[], ["--batch"]])
def test_one_bad_record_spoils_no_other(flk: Flk, server: Server, mode: list[str]) -> None:
    server.store.refuse["bad"] = (422, "n_j_unheard_of")
    source = b"".join(
        [
            records(1),
            b"{\n",
            jcs({**full_record(), "note": 1}) + b"\n",
            jcs({**full_record(), "pcs_id": "0" * 64}) + b"\n",
            records(1, shard_id="bad"),
            records(1, shard_id="good"),
        ]
    )
    done = send(flk, server, source, "--json", *mode)
    assert done.code == 1
    assert [line["where"] for line in done.lines()] == ["stdin line 1", "stdin line 6"]
    assert sorted((error["where"], error["code"]) for error in done.errors()) == [
        ("stdin line 2", "json_malformed"),
        ("stdin line 3", "member_unknown"),
        ("stdin line 4", "pcs_id_mismatch"),
        ("stdin line 5", "unprocessable"),
    ]


def test_not_accepted_is_recorded_and_is_exit_code_3_on_demand(flk: Flk, server: Server) -> None:
    server.store.verdict = {
        "accepted": False,
        "escalated": True,
        "reason": "d_hat_out_of_tolerance",
    }
    done = send(flk, server, records(1))
    assert done.code == 0
    assert "not accepted, escalated: d_hat_out_of_tolerance" in done.out
    assert send(flk, server, records(1), "--require-accepted").code == 3


def test_a_conflict_says_that_the_first_outcome_stands(flk: Flk, server: Server) -> None:
    server.store.refuse["*"] = (409, "pcs_id_conflict")
    done = send(flk, server, records(1))
    assert done.code == 1
    assert done.err.splitlines() == [
        "flk: stdin line 1: pcs_id_conflict: refused (request req-1)",
        "     other content is recorded under this id; its outcome stands",
    ]


def test_endpoint_and_tenant_may_come_from_the_environment(
    flk: Flk, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLK_ENDPOINT", server.url)
    monkeypatch.setenv("FLK_TENANT", "other")
    monkeypatch.setenv("PCS_HMAC_KEY", KEY)
    monkeypatch.setenv("PCS_KID", "k")
    assert flk("submit", "-", stdin=records(1)).code == 0
    ((_, _, headers),) = server.store.requests
    assert headers["X-Tenant-Id"] == "other"


@pytest.mark.parametrize("mode", [[], ["--batch"]])
def test_another_endpoint_takes_over_from_one_that_is_away(
    flk: Flk, server: Server, mode: list[str]
) -> None:
    with Server() as other:
        away = other.url
    options = ["--endpoint", away, "--endpoint", server.url, "--key-file", "old.json"]
    done = flk("submit", "-", *options, *mode, "--json", stdin=records(1))
    assert done.code == 0, done.err
    assert done.lines()[0]["attempts"] == 2


def test_a_batch_that_is_not_sent_is_an_error_of_each_record(flk: Flk, away: str) -> None:
    options = ["--endpoint", away, "--key-file", "old.json", "--timeout", "0.3", "--batch"]
    done = flk("submit", "-", *options, "--json", stdin=records(2))
    assert done.code == 1
    assert [(error["where"], error["code"]) for error in done.errors()] == [
        ("stdin line 1", "connect_failed"),
        ("stdin line 2", "connect_failed"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", "-"], "Missing option '--endpoint'"),
        (["submit", "-", "--endpoint", "ftp://x"], "ftp"),
        (["submit", "none.json", "--endpoint", "http://127.0.0.1:9"], "none.json"),
        (["submit", "-", "--endpoint", "http://127.0.0.1:9", "--timeout", "0"], "--timeout"),
        (
            ["submit", "-", "--endpoint", "http://127.0.0.1:9", "--batch", "--outbox", "o"],
            "expected one of them",
        ),
    ],
)
def test_a_wrong_option_is_exit_code_2(flk: Flk, arguments: list[str], words: str) -> None:
    done = flk(*arguments, "--json", stdin=records(1))
    assert done.code == 2
    assert done.errors()[0]["code"] == "config_invalid"
    assert words in done.errors()[0]["message"]


# --- get -------------------------------------------------------------------------------------


def test_get_prints_the_outcome(flk: Flk, server: Server) -> None:
    (line,) = send(flk, server, records(1), "--json").lines()
    command = ["get", line["pcs_id"], "--endpoint", server.url, "--token-file", "token"]
    assert flk(*command, "--json").lines() == [line["outcome"]]
    text = flk(*command).out
    assert "verdict     accepted\n" in text
    assert "first seen  2026-01-15 12:00:00 UTC in use\n" in text


def test_get_says_what_it_did_not_find(flk: Flk, server: Server) -> None:
    command = ["get", "b" * 64, "--endpoint", server.url, "--token-file", "token"]
    done = flk(*command, "--json")
    assert done.code == 1
    assert (done.errors()[0]["code"], done.errors()[0]["status"]) == ("not_found", 404)
    Path("token").write_text("another")
    done = flk(*command)
    assert "reading needs the tenant's read token" in done.err
    assert TOKEN not in done.err


# --- outbox ----------------------------------------------------------------------------------


def keep(flk: Flk, away: str, source: bytes, key: str = "old.json") -> Done:
    options = ["--outbox", "box", "--timeout", "0.3", "--json"]
    return flk("submit", "-", "--endpoint", away, "--key-file", key, *options, stdin=source)


def test_what_cannot_be_sent_is_kept_and_flushed_later(flk: Flk, server: Server, away: str) -> None:
    kept = keep(flk, away, records(3))
    assert kept.code == 1
    assert [error["queued"] for error in kept.errors()] == [True] * 3
    (status,) = flk("outbox", "status", "box", "--json").lines()
    assert (status["entries"], status["dead"], status["in_flight"]) == (3, 0, 0)
    flushed = flk("outbox", "flush", "box", "--endpoint", server.url, "--json")
    assert flushed.code == 0, flushed.err
    assert flushed.lines()[0]["entries"] == 0
    assert len(server.store.bodies) == 3
    assert {body["kid"] for body in server.store.bodies.values()} == {"old"}


def test_a_flush_that_ends_too_soon_says_what_is_left(flk: Flk, away: str) -> None:
    keep(flk, away, records(2))
    options = ["--endpoint", away, "--timeout", "0.3"]
    done = flk("outbox", "flush", "box", *options)
    assert done.code == 1
    assert "2 waiting" in done.out
    assert flk("outbox", "flush", "box", *options, "--json").lines()[0]["entries"] == 2


def test_dead_letters_are_listed_requeued_and_purged(flk: Flk, server: Server, away: str) -> None:
    keep(flk, away, records(2))
    server.store.refuse["*"] = (409, "pcs_id_conflict")
    flush = ["outbox", "flush", "box", "--endpoint", server.url, "--json"]
    assert flk(*flush).code == 1
    dead = flk("outbox", "dead", "list", "box", "--json").lines()
    assert [(letter["status"], letter["code"]) for letter in dead] == [(409, "pcs_id_conflict")] * 2
    assert dead[0]["id"] in flk("outbox", "dead", "list", "box").out
    (purged,) = flk("outbox", "dead", "purge", "box", dead[0]["id"], "--json").lines()
    assert purged["purged"] == dead[0]["id"]
    (again,) = flk("outbox", "dead", "requeue", "box", dead[1]["id"], "--json").lines()
    assert again["requeued"] == dead[1]["id"]
    server.store.refuse.clear()
    assert flk(*flush).code == 0
    assert list(server.store.bodies) == [dead[1]["pcs_id"]]
    missing = flk("outbox", "dead", "purge", "box", dead[0]["id"], "--json")
    assert (missing.code, missing.errors()[0]["code"]) == (1, "not_found")


def test_entries_of_a_retired_key_are_signed_again(flk: Flk, server: Server, away: str) -> None:
    keep(flk, away, records(2))
    keep(flk, away, records(1, shard_id="other"), key="new.json")
    command = ["outbox", "resign", "box", "--kid", "old", "--key-file", "new.json", "--json"]
    assert flk(*command).lines() == [{"kid": "old", "new_kid": "new", "resigned": 2}]
    server.store.refuse["old"] = (401, "key_inactive")
    assert flk("outbox", "flush", "box", "--endpoint", server.url).code == 0
    assert {body["kid"] for body in server.store.bodies.values()} == {"new"}
    assert flk(*command).lines()[0]["resigned"] == 0
    same = flk("outbox", "resign", "box", "--kid", "new", "--key-file", "new.json")
    assert (same.code, "expected another key" in same.err) == (2, True)


def test_a_key_that_is_refused_blocks_its_entries_and_says_so(
    flk: Flk, server: Server, away: str
) -> None:
    keep(flk, away, records(1))
    server.store.refuse["old"] = (401, "key_inactive")
    done = flk("outbox", "flush", "box", "--endpoint", server.url, "--timeout", "2", "--json")
    assert done.code == 1
    assert done.lines()[0]["blocked"] == [{"what": "kid", "name": "old"}]


def test_an_outbox_of_a_live_process_is_locked(flk: Flk, away: str) -> None:
    keep(flk, away, records(1))
    with open_outbox("box"):
        done = flk("outbox", "status", "box", "--json")
    assert (done.code, done.errors()[0]["code"]) == (1, "outbox_locked")


def test_damage_is_told(flk: Flk, away: str) -> None:
    keep(flk, away, records(2))
    (log,) = Path("box").glob("outbox-*.log")
    damaged = bytearray(log.read_bytes())
    damaged[20] ^= 1
    log.write_bytes(damaged)
    done = flk("outbox", "status", "box")
    assert done.out.startswith("1 waiting, 0 dead, ")
    assert "\ndamaged: " in done.out


def test_status_creates_no_outbox(flk: Flk) -> None:
    done = flk("outbox", "status", "none", "--json")
    assert done.code == 2
    assert not Path("none").exists()
