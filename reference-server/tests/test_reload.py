"""Tenants change while the server runs: keys overlap, go, and a broken file changes nothing."""

from __future__ import annotations

import copy
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from region import (
    ACME,
    ACME_TOKEN,
    HMAC_KEYS,
    SMALL,
    SMALL_QUOTA,
    Reply,
    ServerProcess,
    ask,
    get,
    signed,
    submit,
    tenants_document,
    wait_until,
    write_tenants,
)

from fractal_lba.sign import HmacSigner

BROKEN_METRIC = "flk_tenants_file_broken{"
NEW = HmacSigner(HMAC_KEYS["stranger"], kid="acme-3")


@pytest.fixture
def server(home: Path) -> Iterator[ServerProcess]:
    """Run a server whose tenants the test changes."""
    process = ServerProcess(home)
    process.start()
    yield process
    assert process.stop() == 0
    words = process.stderr()
    assert "Traceback" not in words
    for key in HMAC_KEYS.values():
        assert key.hex() not in words


def change(server: ServerProcess, document: dict[str, Any]) -> None:
    """Put another tenants file in place and wait until the server has looked at it."""
    before = len(server.events("tenants_loaded")) + len(server.events("tenants_refused"))
    write_tenants(server.home, document)
    server.signal(signal.SIGHUP)
    wait_until(
        lambda: (
            len(server.events("tenants_loaded")) + len(server.events("tenants_refused")) > before
        )
    )


def with_new_key() -> dict[str, Any]:
    """Add a third key to acme."""
    document = tenants_document()
    key = {"kid": "acme-3", "alg": "HMAC", "secret": {"file": "stranger.key"}}
    document["tenants"][0]["keys"].append(key)
    return document


def key_of(document: dict[str, Any], kid: str) -> dict[str, Any]:
    """Find a key in a tenants file."""
    found: dict[str, Any]
    (found,) = [key for key in document["tenants"][0]["keys"] if key["kid"] == kid]
    return found


def submitted(server: ServerProcess, signer: HmacSigner) -> Reply:
    """Submit a new record under a key."""
    return submit(server.port, signed(signer=signer).body)


def test_keys_overlap_until_the_old_one_is_revoked(server: ServerProcess) -> None:
    old = signed()
    first = submit(server.port, old.body)
    assert submitted(server, NEW).code == "kid_unknown"

    document = with_new_key()
    change(server, document)
    wait_until(lambda: submitted(server, NEW).status == 200)
    assert submitted(server, ACME).status == 200, "both keys are good for a while"

    key_of(document, "acme-1")["status"] = "verify_only"
    change(server, document)
    assert submitted(server, ACME).status == 200

    key_of(document, "acme-1")["status"] = "revoked"
    change(server, document)
    wait_until(lambda: submitted(server, ACME).status == 401)
    assert submitted(server, ACME).code == "key_inactive"
    assert submit(server.port, old.body).code == "key_inactive", "a duplicate needs a key as well"
    assert get(server.port, old.pcs_id).body == first.body, "what was recorded stays readable"
    resigned = signed(signer=NEW, **{name: old.record[name] for name in ("merkle_root", "pcs_id")})
    again = submit(server.port, resigned.body)
    assert (again.headers["idempotency-replayed"], again.body) == ("true", first.body)


def test_window_of_a_key_is_kept(server: ServerProcess) -> None:
    document = tenants_document()
    key_of(document, "acme-2")["not_before"] = "2999-01-01T00:00:00Z"
    change(server, document)
    early = HmacSigner(HMAC_KEYS["acme-2"], kid="acme-2")
    wait_until(lambda: submitted(server, early).status == 401)
    assert submitted(server, early).code == "key_inactive"


BROKEN: list[tuple[str, str]] = [
    ("not YAML", "tenants: [\n"),
    ("empty", ""),
    ("a name that is not known", "version: 1\ntenants: []\nextra: 1\n"),
    ("another version", "version: 2\ntenants: []\n"),
    ("a member twice", "version: 1\nversion: 1\ntenants: []\n"),
]


@pytest.mark.parametrize("text", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_file_keeps_the_last_good_one_and_says_so(server: ServerProcess, text: str) -> None:
    assert submitted(server, ACME).status == 200
    (server.home / "tenants.yaml").write_text(text, encoding="utf-8")
    server.signal(signal.SIGHUP)
    refused = server.event("tenants_refused")
    assert refused["kept"] == "the last good file stays in use"
    assert refused["faults"]
    assert submitted(server, ACME).status == 200
    metrics = ask(server.admin_port, "GET", "/metrics").body.decode()
    (broken,) = [line for line in metrics.splitlines() if line.startswith(BROKEN_METRIC)]
    assert float(broken.rpartition(" ")[2]) == 1
    reply = ask(server.admin_port, "POST", "/admin/reload")
    assert (reply.status, reply.code) == (422, "unprocessable")
    change(server, with_new_key())
    wait_until(lambda: submitted(server, NEW).status == 200)


def test_key_that_the_log_names_cannot_be_removed(server: ServerProcess) -> None:
    assert submitted(server, ACME).status == 200
    wait_until(lambda: b"acme-1" in index_bytes(server))
    document = tenants_document()
    document["tenants"][0]["keys"].remove(key_of(document, "acme-1"))
    write_tenants(server.home, document)
    reply = ask(server.admin_port, "POST", "/admin/reload")
    assert (reply.status, reply.code) == (422, "unprocessable")
    assert 'the key "acme-1" is gone' in reply.problem["detail"]
    assert submitted(server, ACME).status == 200


def index_bytes(server: ServerProcess) -> bytes:
    """Read what SQLite has written so far."""
    return b"".join(path.read_bytes() for path in server.data.glob("index.sqlite*"))


def test_tokens_and_quotas_change_at_once(server: ServerProcess) -> None:
    record = signed()
    submit(server.port, record.body)
    assert get(server.port, record.pcs_id).status == 200
    for _ in range(SMALL_QUOTA):
        submit(server.port, signed(signer=SMALL, tenant="small").body)
    assert submit(server.port, signed(signer=SMALL, tenant="small").body).status == 429

    document = copy.deepcopy(tenants_document())
    token = ACME_TOKEN.replace("0", "1")
    digest = hashlib.sha256(token.encode()).hexdigest()
    document["tenants"][0]["read_tokens"] = [{"id": "new", "sha256": digest}]
    del document["tenants"][2]["quota"]
    write_tenants(server.home, document)
    reply = ask(server.admin_port, "POST", "/admin/reload")
    assert json.loads(reply.body)["tenants"] == 3
    assert get(server.port, record.pcs_id).code == "unauthorized"
    assert get(server.port, record.pcs_id, token).status == 200
    for _ in range(SMALL_QUOTA):
        assert submit(server.port, signed(signer=SMALL, tenant="small").body).status == 200


def test_file_is_looked_at_without_being_asked(server: ServerProcess) -> None:
    write_tenants(server.home, with_new_key())
    wait_until(lambda: submitted(server, NEW).status == 200)
