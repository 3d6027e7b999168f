"""One JSON request to the arbiter, a peer or an administrative listener, with mutual TLS.

A call opens a connection of its own, has one time limit, follows nothing, and either gives the
answer's object or raises one of two errors: the other side refused, or nobody knows what it did.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fractal_lba.canonical import jcs, parse_value
from fractal_lba.errors import ValidationError

from .peers import PeerTls

ANSWER_BYTES_MAX: Final = 1_048_576
"""No answer to these questions comes near it."""


class UnreachableError(Exception):
    """No answer came that can be read: what was asked may have been done or not."""


class CallRefusedError(Exception):
    """The other side answered, and refused."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def call(
    url: str,
    method: str,
    path: str,
    document: Mapping[str, Any] | None = None,
    *,
    tls: PeerTls | None = None,
    ca: Path | None = None,
    names_region: str | None = None,
    token: str | None = None,
    timeout_s: float = 1.0,
) -> dict[str, Any]:
    """Carry out one request. `names_region`: the code that the certificate must name.

    `ca` is whom to trust where we show no certificate; None trusts whom the system does.

    Raises UnreachableError or CallRefusedError.
    """
    headers = {"Content-Type": "application/json"} if document is not None else {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = None if document is None else jcs(dict(document))
    try:
        connection = _connected(url, tls, ca, names_region, timeout_s)
    except (OSError, ValueError) as error:
        raise UnreachableError(f"{url}: {error}") from None
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        data = response.read(ANSWER_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{url}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    return _answer(url, response.status, data)


def _answer(url: str, status: int, data: bytes) -> dict[str, Any]:
    try:
        document = parse_value(data, max_bytes=ANSWER_BYTES_MAX)
    except ValidationError:
        document = None
    if status != http.client.OK:
        members = document if isinstance(document, dict) else {}
        code = str(members.get("code", members.get("fault", "unavailable")))
        message = str(members.get("detail", members.get("message", f"{url} answered {status}")))
        raise CallRefusedError(status, code, message)
    if not isinstance(document, dict):
        raise UnreachableError(f"{url}: the answer is no JSON object")
    return document


def _connected(
    url: str, tls: PeerTls | None, ca: Path | None, names_region: str | None, timeout_s: float
) -> http.client.HTTPConnection:
    from ..store.region_key import REGION_URI  # noqa: PLC0415 - plain calls need no certificates
    from .protocol import certificate_uris  # noqa: PLC0415 - the same

    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        plain = http.client.HTTPConnection(host, parts.port or 80, timeout=timeout_s)
        plain.connect()
        return plain
    context = ssl.create_default_context(cafile=ca if tls is None else tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None:
        context.load_cert_chain(tls.cert, tls.key)
    # A region is named by its URI, wherever it stands; anything else by its host.
    context.check_hostname = names_region is None
    secure = http.client.HTTPSConnection(
        host, parts.port or 443, timeout=timeout_s, context=context
    )
    secure.connect()
    assert isinstance(secure.sock, ssl.SSLSocket)
    uris = certificate_uris(secure.sock.getpeercert())
    if names_region is not None and f"{REGION_URI}{names_region}" not in uris:
        secure.close()
        raise ValueError(f"its certificate does not name region {names_region}")
    return secure
