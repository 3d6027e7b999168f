"""The listener for peers, the client that speaks to it, and the keys that both rest on."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from shipping_frames import REGION_KEYS, registry

from fractal_lba.errors import ConfigError
from fractal_lba_server.cli_region_keys import keys
from fractal_lba_server.config import Address
from fractal_lba_server.core.receiver import Ack, Refuse
from fractal_lba_server.core.replication import NOTHING, Mark, signature_holds
from fractal_lba_server.core.segment import SegmentError
from fractal_lba_server.inbound import Batch
from fractal_lba_server.net.peer_client import PeerClient
from fractal_lba_server.net.peers import (
    STATUS,
    HeldStream,
    PeerApp,
    PeerTls,
    check_listen,
    mark_document,
    mark_of,
)
from fractal_lba_server.net.protocol import Request, certificate_uris
from fractal_lba_server.outbound import OutBatch, PeerRefusedError
from fractal_lba_server.store.region_key import RegionKey, new_certificate, read_region_key

HELD = HeldStream(Mark(1, 500, 4, sealed=False), bytes(32), 1, 2)
US1 = frozenset({"flk-region:us1"})
SIGNED = {b"pcs-region-epoch": b"3", b"pcs-tail": b"9", b"pcs-signature": b"ab" * 64}


class Streams:
    """Stands where `Replication` stands."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, Batch]] = []
        self.answer: Ack | Refuse = Ack(1, Mark(1, 500, 4, sealed=False), (2,))
        self.claims: list[tuple[str, str, int]] = []
        self.held: HeldStream | None = HELD
        self.compares = True
        self.part: bytes | Exception = b"part"

    def work(self, run: Callable[[], None]) -> None:
        run()

    def soon(self, call: Callable[[], None]) -> None:
        call()

    def receive(self, region: str, placement: str, batch: Batch, answer: Any) -> None:
        self.received.append((region, placement, batch))
        answer(self.answer)

    def heard(self, region: str, placement: str, claimed_seq: int) -> None:
        self.claims.append((region, placement, claimed_seq))

    def holds(self, region: str, placement: str) -> HeldStream | None:
        return self.held

    def read(self, region: str, placement: str, first_seq: int, offset: int, size: int) -> bytes:
        if isinstance(self.part, Exception):
            raise self.part
        return self.part

    def sign_read(self, *facts: Any) -> tuple[int, bytes]:
        return 7, b"\x01\x02"

    def keep_policy(self, version: str, document: bytes) -> bool:
        return document == b"policy"

    def policy(self, version: str) -> bytes | None:
        return b"{}" if version == "0" * 16 else None

    def answer_digest(self, region: str, document: Any, done: Any) -> bool:
        if self.compares:
            done({"region": region, "echo": document})
        return self.compares


@pytest.fixture
def streams() -> Streams:
    """Give the streams behind the listener."""
    return Streams()


def ask(
    streams: Streams, method: str, path: str, *, headers: dict[bytes, bytes] | None = None,
    body: bytes = b"", uris: frozenset[str] = US1, address: str = "10.0.0.9",
) -> tuple[int, dict[str, Any] | bytes]:  # fmt: skip
    """Send one request to the application; give status and body."""
    app = PeerApp(streams, registry("eu1", "us1"), me="eu1")
    answers: list[tuple[int, bytes, bytes]] = []
    request = Request(method, path, headers or {}, address, body, uris)
    assert len(body) <= app.body_limit(request)
    app.handle(request, lambda *answer: answers.append(answer))
    ((status, lines, data),) = answers
    if b"application/json" not in lines:
        return status, lines + data
    document: dict[str, Any] = json.loads(data)
    assert (b"retry-after" in lines) == (status == 503)
    return status, document


PLACE = "/peer/v1/wal/us1/open/1/0"


def test_batch_reaches_its_stream_and_is_answered(streams: Streams) -> None:
    status, document = ask(streams, "PUT", PLACE, headers=SIGNED, body=b"bytes")
    assert status == 200
    assert document == {
        "first_seq": 1, "offset": 500, "seq": 4, "sealed": False, "displaced": [2],
    }  # fmt: skip
    ((region, placement, batch),) = streams.received
    assert (region, placement) == ("us1", "open")
    assert batch == Batch(3, 1, 0, b"bytes", b"\xab" * 64)
    assert streams.claims == [("us1", "open", 9)]


@pytest.mark.parametrize("fault", sorted(STATUS))
def test_each_fault_has_its_status_and_members(streams: Streams, fault: str) -> None:
    streams.answer = Refuse(1, fault, "why", Mark(1, 9, 2, sealed=False), 5, "0" * 16)
    status, document = ask(streams, "PUT", PLACE, headers=SIGNED)
    assert status == STATUS[fault]
    assert document == {
        "fault": fault, "message": "why", "holds": mark_document(Mark(1, 9, 2, sealed=False)),
        "region_epoch": 5, "policy_version": "0" * 16,
    }  # fmt: skip


def test_only_who_a_stream_belongs_to_writes_it(streams: Streams) -> None:
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("forbidden", "/peer/v1/wal/eu1/open/1/0", {}),  # ours
        ("forbidden", "/peer/v1/wal/us1/open/1/0", {"uris": frozenset({"flk-region:eu1"})}),
        ("forbidden", "/peer/v1/wal/us1/open/1/0", {"uris": frozenset({"flk-region:ap1"})}),
        ("forbidden", "/peer/v1/wal/us1/open/1/0", {"uris": frozenset({"spiffe://us1"})}),
        ("forbidden", PLACE, {"uris": US1 | {"flk-region:eu1"}}),
        ("forbidden", "/peer/v1/wal/us1/eu/1/0", {}),  # a placement nobody holds
        ("forbidden", "/peer/v1/wal/ap1/open/1/0", {"uris": frozenset(), "address": "127.0.0.1"}),
        ("unauthorized", PLACE, {"uris": frozenset()}),  # plain, and not from here
    ]
    for fault, path, facts in cases:
        status, document = ask(streams, "PUT", path, headers=SIGNED, **facts)
        assert isinstance(document, dict)
        assert (status, document["fault"]) == (STATUS[fault], fault)
    assert streams.received == []
    loopback: dict[str, Any] = {"uris": frozenset(), "address": "127.0.0.1"}
    assert ask(streams, "PUT", PLACE, headers=SIGNED, **loopback)[0] == 200


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        ("bad_request", {b"pcs-region-epoch": b"01"}),
        ("bad_request", {b"pcs-tail": b""}),
        ("signature_invalid", {b"pcs-signature": b"AB" * 64}),
        ("signature_invalid", {b"pcs-signature": b"ab" * 63}),
    ],
)
def test_malformed_headers_are_named(
    streams: Streams, fault: str, changed: dict[bytes, bytes]
) -> None:
    status, document = ask(streams, "PUT", PLACE, headers={**SIGNED, **changed})
    assert isinstance(document, dict)
    assert (status, document["fault"]) == (STATUS[fault], fault)


def test_peer_hears_what_is_held_and_is_heard(streams: Streams) -> None:
    status, document = ask(streams, "GET", "/peer/v1/wal/us1/open", headers={b"pcs-tail": b"12"})
    assert status == 200
    assert document == {
        "first_seq": 1, "offset": 500, "seq": 4, "sealed": False, "prev_sha256": "00" * 32,
        "region_epoch": 1, "fenced_epoch": 2,
    }  # fmt: skip
    assert streams.claims == [("us1", "open", 12)]
    # Asking about our stream, or about another's, is no word of its origin.
    ask(streams, "GET", "/peer/v1/wal/eu1/open", headers={b"pcs-tail": b"12"})
    ask(streams, "GET", "/peer/v1/wal/us1/open")
    assert len(streams.claims) == 1
    streams.held = None
    assert ask(streams, "GET", "/peer/v1/wal/us1/open")[0] == 404


def test_parts_are_signed_and_residency_is_denied(streams: Streams) -> None:
    status, answer = ask(streams, "GET", PLACE)
    assert status == 200
    assert isinstance(answer, bytes)
    assert b"pcs-region-epoch: 7\r\npcs-signature: 0102\r\n" in answer
    assert answer.endswith(b"part")
    assert ask(streams, "GET", "/peer/v1/wal/us1/eu/1/0")[0] == 403
    streams.part = SegmentError("damaged", 7)
    assert ask(streams, "GET", PLACE)[0] == 503


def test_policies_and_digests_are_taken(streams: Streams) -> None:
    path = f"/peer/v1/policies/{'0' * 16}"
    assert ask(streams, "PUT", path, body=b"policy") == (200, {"policy_version": "0" * 16})
    assert ask(streams, "PUT", path, body=b"other")[0] == 422
    assert ask(streams, "GET", path) == (200, {})
    assert ask(streams, "GET", f"/peer/v1/policies/{'1' * 16}")[0] == 404
    answer = {"region": "us1", "echo": {"a": 1}}
    assert ask(streams, "POST", "/peer/v1/digest", body=b'{"a":1}') == (200, answer)
    assert ask(streams, "POST", "/peer/v1/digest", body=b"{")[0] == 400
    streams.compares = False
    assert ask(streams, "POST", "/peer/v1/digest", body=b"{}")[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", PLACE, 405),
        ("GET", "/", 404),
        ("GET", "/peer/v1/wal/us1/open/01/0", 404),
        ("PUT", "/peer/v1/wal/us1/open", 404),
        ("GET", "/peer/v1/wal/us1/../open/1/0", 404),
        ("PUT", "/peer/v1/policies/xyz", 404),
    ],
)
def test_nothing_else_is_there(streams: Streams, method: str, path: str, status: int) -> None:
    assert ask(streams, method, path)[0] == status


def test_limits_of_the_wire_are_answered_in_the_same_form(streams: Streams) -> None:
    app = PeerApp(streams, registry("eu1", "us1"), me="eu1")
    answers: list[Any] = []
    request = Request("PUT", PLACE, {}, "127.0.0.1")
    app.refuse("payload_too_large", "too much", request, lambda *answer: answers.append(answer))
    assert answers[0][0] == 413
    assert json.loads(answers[0][2])["fault"] == "payload_too_large"
    sizes = [app.body_limit(Request("PUT", path, {}, "")) for path in
             (PLACE, "/peer/v1/digest", "/peer/v1/policies/x")]  # fmt: skip
    assert sizes == [4_194_304, 4_194_304, 65_536]


def test_retired_region_is_nobody(streams: Streams) -> None:
    known = registry("eu1", "us1")
    info = known.regions["us1"]
    retired = type(info)(info.code, info.rank, info.endpoint, info.peer, info.public_key, True)
    gone = type(known)({**known.regions, "us1": retired}, known.placements)
    answers: list[Any] = []
    request = Request("PUT", PLACE, SIGNED, "10.0.0.9", b"", US1)
    PeerApp(streams, gone, me="eu1").handle(request, lambda *answer: answers.append(answer))
    assert answers[0][0] == 403


@pytest.mark.parametrize(
    "document",
    [{}, {"first_seq": "1", "offset": 0, "seq": 0, "sealed": True},
     {"first_seq": 1, "offset": -1, "seq": 0, "sealed": True},
     {"first_seq": 1, "offset": 0, "seq": True, "sealed": True},
     {"first_seq": 1, "offset": 0, "seq": 0, "sealed": 1}],
)  # fmt: skip
def test_marks_are_read_strictly(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no mark"):
        mark_of(document)
    assert mark_of(mark_document(NOTHING)) == NOTHING


def test_certificate_uris_are_those_of_its_subject() -> None:
    names = (("DNS", "flk-region:us1"), ("URI", "flk-region:eu1"))
    assert certificate_uris({"subjectAltName": names}) == {"flk-region:eu1"}
    assert certificate_uris(None) == certificate_uris({}) == frozenset()


# --- addresses -----------------------------------------------------------------------------


def test_plain_listener_is_for_loopback_alone(tmp_path: Path) -> None:
    check_listen(Address("127.0.0.1", 0), None)
    check_listen(Address("0.0.0.0", 0), PeerTls(tmp_path, tmp_path, tmp_path))
    with pytest.raises(ConfigError, match="without TLS"):
        check_listen(Address("0.0.0.0", 0), None)


@pytest.mark.parametrize(
    "url", ["http://example.org:1", "https://127.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:1"]
)
def test_caller_refuses_addresses_without_trust(url: str) -> None:
    with pytest.raises(ConfigError):
        PeerClient("eu1", "us1", url, None)


# --- the caller ----------------------------------------------------------------------------


@pytest.fixture
def odd_peer() -> Iterator[Callable[[bytes], PeerClient]]:
    """Run a peer that answers anything with the same bytes."""
    sockets: list[socket.socket] = []

    def answering(answer: bytes) -> PeerClient:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def serve() -> None:
            with contextlib.suppress(OSError):  # nobody calls, or a caller has heard enough
                speak(*listener.accept())

        def speak(connection: socket.socket, _: object) -> None:
            with connection:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65_536)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        return PeerClient("eu1", "us1", url, None, timeout_s=5)

    yield answering
    for one in sockets:
        one.close()


def answer_of(status: int, body: bytes, headers: bytes = b"") -> bytes:
    """Write an answer."""
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


BATCH = OutBatch("open", 1, 1, 0, b"x", b"s", Mark(1, 1, 1, sealed=False), 1)
MARK = json.dumps(mark_document(NOTHING)).encode()


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"", "unreachable"),
        (b"nonsense\r\n\r\n", "unreachable"),
        (answer_of(200, b"?"), "unreachable"),
        (answer_of(200, b"[]"), "unreachable"),
        (answer_of(200, b"{}"), "unreachable"),
        (answer_of(200, MARK[:-1] + b',"displaced":["1"]}'), "unreachable"),
        (answer_of(502, b"bad gateway"), "unreachable"),
        (answer_of(400, b'{"fault":"made_up"}'), "unreachable"),
        (answer_of(423, b'{"fault":"fenced","region_epoch":7}'), "fenced"),
        (answer_of(409, b'{"fault":"gap","holds":' + MARK + b"}"), "gap"),
        (answer_of(424, b'{"fault":"policy_unknown","policy_version":7}'), "policy_unknown"),
        (answer_of(409, b'{"fault":"gap","holds":{}}'), "unreachable"),
        (b"HTTP/1.1 200 X\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 5_000_000, "unreachable"),
    ],
)
def test_odd_answers_are_no_acknowledgements(
    odd_peer: Callable[[bytes], PeerClient], answer: bytes, fault: str
) -> None:
    client = odd_peer(answer)
    with pytest.raises(PeerRefusedError) as found:
        client.send(BATCH)
    assert found.value.fault == fault
    if fault == "fenced":
        assert found.value.fenced_epoch == 7
    if fault == "gap":
        assert found.value.holds == NOTHING
    client.close()


def test_part_without_a_signature_is_no_part(odd_peer: Callable[[bytes], PeerClient]) -> None:
    client = odd_peer(answer_of(200, b"part"))
    with pytest.raises(PeerRefusedError, match="not signed"):
        client.read("us1", "open", 1, 0)
    client.close()


def test_aborted_caller_calls_no_more(odd_peer: Callable[[bytes], PeerClient]) -> None:
    client = odd_peer(answer_of(200, b"{}"))
    client.abort()
    with pytest.raises(PeerRefusedError, match="stopped"):
        client.send(BATCH)


# --- keys ----------------------------------------------------------------------------------


def made(folder: Path, *arguments: str) -> Any:
    """Run `keys new` for eu1."""
    return CliRunner().invoke(keys, ["new", "--region", "eu1", "--out", str(folder), *arguments])


def test_key_certificate_and_authority_are_made(tmp_path: Path) -> None:
    out = tmp_path / "keys"
    result = made(out, "--host", "127.0.0.1", "--host", "eu1.example", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    key = read_region_key(out / "eu1.key")
    assert document["public_key"] == key.public_key.hex()
    assert signature_holds(key.public_key, b"data", key.sign(b"data"))
    assert (out / "eu1.key").read_text().strip() not in result.output + repr(key)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert modes == {
        "eu1.key": 0o600, "eu1.pem": 0o600, "eu1.crt": 0o644, "ca.pem": 0o600, "ca.crt": 0o644,
    }  # fmt: skip
    certificate = x509.load_pem_x509_certificate((out / "eu1.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["flk-region:eu1"]
    assert names.get_values_for_type(x509.DNSName) == ["eu1.example"]
    context = ssl.create_default_context(cafile=str(out / "ca.crt"))
    context.load_cert_chain(out / "eu1.crt", out / "eu1.pem")


def test_second_run_keeps_the_key_and_renews_the_certificate(tmp_path: Path) -> None:
    first = made(tmp_path)
    kept = {name: (tmp_path / name).read_bytes() for name in ("eu1.key", "ca.crt", "ca.pem")}
    certificate = (tmp_path / "eu1.crt").read_bytes()
    again = made(tmp_path)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert first.stdout == again.stdout
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert (tmp_path / "eu1.crt").read_bytes() != certificate


def test_refusals_of_the_command_name_fault_and_place(tmp_path: Path) -> None:
    bad = CliRunner().invoke(keys, ["new", "--region", "EU", "--out", str(tmp_path)])
    assert (bad.exit_code, "three of a-z" in bad.output) == (2, True)
    assert made(tmp_path).exit_code == 0
    (tmp_path / "eu1.key").chmod(0o644)
    shared = made(tmp_path)
    assert (shared.exit_code, "others can read it" in shared.output) == (1, True)
    (tmp_path / "eu1.key").chmod(0o600)
    (tmp_path / "ca.pem").unlink()
    lost = made(tmp_path)
    assert (lost.exit_code, "key of the authority" in lost.output) == (1, True)


@pytest.mark.parametrize("text", ["", "zz", "ab" * 31, "ab" * 33, "ab" * 200])
def test_file_that_holds_no_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "eu1.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="64 hex digits") as found:
        read_region_key(path)
    assert not text or text not in found.value.message
    with pytest.raises(ConfigError, match="cannot be read"):
        read_region_key(tmp_path / "none")
    with pytest.raises(ConfigError, match="is no file"):
        read_region_key(tmp_path)


def test_authority_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    assert made(tmp_path).exit_code == 0
    other = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "ca.pem").write_bytes(other)
    with pytest.raises(ConfigError, match="elliptic-curve"):
        new_certificate("eu1", tmp_path, hosts=(), now=datetime.now(UTC))


def test_key_of_a_region_never_shows_itself() -> None:
    assert "***" in repr(RegionKey(bytes(32)))
    assert bytes(32).hex() not in repr(REGION_KEYS["eu1"])
