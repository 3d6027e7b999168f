"""Speaks to the peer listener of one region: blocking calls, one at a time, one connection.

Whoever calls does so in a thread of his own. The other side must show the certificate of the
region that is meant; its host name says nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from fractal_lba.canonical import jcs
from fractal_lba.errors import ConfigError

from ..config import Address
from ..core.receiver import APPLY_TIMEOUT_S
from ..core.replication import BATCH_BYTES_MAX
from ..inbound import Part
from ..outbound import Accepted, Holds, OutBatch, PeerRefusedError
from ..store.region_key import REGION_URI
from .peers import STATUS, PeerTls, mark_of
from .protocol import certificate_uris

PEER_TIMEOUT_S: Final = APPLY_TIMEOUT_S + 3
"""How long an answer may take: longer than a peer waits for its own merge."""

ANSWER_BYTES_MAX: Final = BATCH_BYTES_MAX + 65_536
"""Most bytes of an answer."""


class PeerClient:
    """Speak for `region` to `peer`."""

    def __init__(
        self,
        region: str,
        peer: str,
        url: str,
        tls: PeerTls | None,
        *,
        timeout_s: float = PEER_TIMEOUT_S,
    ) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in {"http", "https"} or not host:
            raise ConfigError("config_invalid", f"peer {peer}: {url!r} is no http or https URL")
        if parts.scheme == "http" and not Address(host, 0).is_loopback:
            raise ConfigError("config_invalid", f"peer {peer}: {url} needs https")
        if parts.scheme == "https" and tls is None:
            raise ConfigError("config_invalid", f"peer {peer}: {url} needs peers.cert, key and ca")
        self._region = region
        self._peer = peer
        self._host, self._port = host, parts.port or (443 if parts.scheme == "https" else 80)
        self._context = client_context(tls) if tls is not None and parts.scheme == "https" else None
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._aborted = False

    def ask(self, placement: str, tail_seq: int) -> Holds:
        """Ask what the peer holds of our stream; tell it how far we are."""
        path = f"/peer/v1/wal/{self._region}/{placement}"
        document = self._json("GET", path, headers={"PCS-Tail": str(tail_seq)})
        epochs = (_count(document, name) for name in ("fenced_epoch", "region_epoch"))
        return Holds(_mark(document), *epochs)

    def send(self, batch: OutBatch) -> Accepted:
        """Send a batch of our stream."""
        place = f"{batch.placement}/{batch.first_seq}/{batch.offset}"
        headers = {
            "PCS-Region-Epoch": str(batch.region_epoch),
            "PCS-Signature": batch.signature.hex(),
            "PCS-Tail": str(batch.tail_seq),
            "Content-Type": "application/octet-stream",
        }
        path = f"/peer/v1/wal/{self._region}/{place}"
        document = self._json("PUT", path, body=batch.body, headers=headers)
        displaced = document.get("displaced")
        if not isinstance(displaced, list) or not all(type(seq) is int for seq in displaced):
            raise PeerRefusedError("unreachable", "the peer's answer names no displaced frames")
        return Accepted(_mark(document), tuple(displaced))

    def put_policy(self, version: str, document: bytes) -> None:
        """Give the peer a policy that our frames name."""
        self._json("PUT", f"/peer/v1/policies/{version}", body=document)

    def policy(self, version: str) -> bytes | None:
        """Get a policy that the peer keeps; None if it keeps none of this version."""
        try:
            return self._call("GET", f"/peer/v1/policies/{version}")[1]
        except PeerRefusedError as error:
            if error.fault == "not_found":
                return None
            raise

    def holds(self, region: str, placement: str) -> Holds:
        """Ask what the peer holds of any region's stream, its own included."""
        document = self._json("GET", f"/peer/v1/wal/{region}/{placement}")
        epochs = (_count(document, name) for name in ("fenced_epoch", "region_epoch"))
        return Holds(_mark(document), *epochs)

    def read(self, region: str, placement: str, first_seq: int, offset: int) -> Part:
        """Read what the peer holds of a segment, from `offset` on."""
        path = f"/peer/v1/wal/{region}/{placement}/{first_seq}/{offset}"
        headers, body = self._call("GET", path)
        try:
            region_epoch = int(headers["pcs-region-epoch"])
            return Part(region_epoch, body, bytes.fromhex(headers["pcs-signature"]))
        except (KeyError, TypeError, ValueError):
            raise PeerRefusedError("unreachable", "the peer's answer is not signed") from None

    def digest(self, document: dict[str, Any]) -> dict[str, Any]:
        """Compare digests: what is asked and answered is not this file's business."""
        return self._json("POST", "/peer/v1/digest", body=jcs(document))

    def abort(self) -> None:
        """End a call that another thread is in; none succeeds any more."""
        self._aborted = True
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):  # of the socket itself: TLS is the other thread's
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- one exchange

    def _json(
        self, method: str, path: str, *, body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        _, data = self._call(method, path, body=body, headers=headers)
        return _object(data)

    def _call(
        self, method: str, path: str, *, body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[http.client.HTTPMessage, bytes]:  # fmt: skip
        if self._aborted:
            raise PeerRefusedError("unreachable", "stopped")
        try:
            connection = self._connected()
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            data = response.read(ANSWER_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise PeerRefusedError("unreachable", f"{self._peer}: {error}") from None
        if len(data) > ANSWER_BYTES_MAX:
            self.close()
            raise PeerRefusedError("unreachable", f"{self._peer}: the answer is too long")
        if response.status != http.client.OK:
            raise _refusal(self._peer, response.status, data)
        return response.headers, data

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            plain = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
            plain.connect()
            return plain
        secure = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_s, context=self._context
        )
        secure.connect()
        assert isinstance(secure.sock, ssl.SSLSocket)
        if f"{REGION_URI}{self._peer}" not in certificate_uris(secure.sock.getpeercert()):
            secure.close()
            text = f"{self._host}:{self._port} shows no certificate of region {self._peer}"
            raise PeerRefusedError("forbidden", text)
        return secure


def client_context(tls: PeerTls) -> ssl.SSLContext:
    """Make the context of a caller: who we are, and which authority names regions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # a region is named by its URI, wherever it stands
    context.load_cert_chain(tls.cert, tls.key)
    context.load_verify_locations(tls.ca)
    return context


def _refusal(peer: str, status: int, data: bytes) -> PeerRefusedError:
    try:
        document = _object(data)
    except PeerRefusedError:
        document = {}
    fault = document.get("fault")
    if fault not in STATUS:
        return PeerRefusedError("unreachable", f"{peer}: answered {status}")
    holds = document.get("holds")
    version = document.get("policy_version", "")
    return PeerRefusedError(
        fault,
        f"{peer}: {document.get('message', '')}",
        holds=_mark(holds) if isinstance(holds, dict) else None,
        fenced_epoch=_count(document, "region_epoch"),
        policy_version=version if isinstance(version, str) else "",
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise PeerRefusedError("unreachable", "the peer's answer is no JSON object")
    return document


def _mark(document: dict[str, Any]) -> Any:
    try:
        return mark_of(document)
    except ValueError:
        raise PeerRefusedError("unreachable", "the peer's answer names no mark") from None


def _count(document: dict[str, Any], name: str) -> int:
    value = document.get(name, 0)
    return value if type(value) is int and value >= 0 else 0


__all__ = ["PeerClient", "client_context"]
