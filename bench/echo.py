"""The baseline: a bare ASGI application that reads a body as JSON and answers a short one."""

from __future__ import annotations

from typing import Any

import orjson

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"11")]


async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI
    """Echo."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    orjson.loads(body)
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b'{"ok":true}'})
