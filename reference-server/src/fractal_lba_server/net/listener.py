"""Sockets that are listened on, and the HTTP server behind each of them."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import uvicorn

from ..config import Address, Tls
from .protocol import Connection

BACKLOG: Final = 2_048
"""Connections that the system holds until they are accepted."""


class Server(uvicorn.Server):
    """A listener whose signals are somebody else's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def listener(protocol: type[Connection], tls: Tls) -> Server:
    """Make a server that gives whole requests to the application of a protocol class."""
    config = uvicorn.Config(
        _no_asgi,
        http=protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        ssl_certfile=tls.cert,
        ssl_keyfile=tls.key,
        ssl_ca_certs=str(tls.client_ca) if tls.client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls.client_ca else ssl.CERT_NONE,
        timeout_graceful_shutdown=5,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return Server(config)


def bind(address: Address) -> socket.socket:
    """Bind a listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address.host, address.port))
    except OSError:
        sock.close()
        raise
    return sock


async def _no_asgi(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("requests go to the protocol's application, not through ASGI")
