"""The asynchronous transport: httpx's connection pool, and none of its client.

`httpx.AsyncHTTPTransport` follows no redirect, keeps no cookie, reads no proxy from the
environment and adds no header but `Host` and `Content-Length`. Needs the extra `httpx`. Its
loggers, `httpcore.*`, write the headers of answers at debug level; they see no key and no token.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterable
from typing import Final

import httpx

from .errors import FractalLBAError, error_for
from .http import MAX_RESPONSE_BYTES, MAX_RESPONSE_HEADERS, RawResponse, Request
from .transport import MAX_CONNECTIONS
from .wire import check_context

_CONNECTING: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class _Pool:
    """One generation of connections; it is closed when it is old and nobody uses it."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self.transport = transport
        self.opened_at = time.monotonic()
        self.in_use = 0


class HttpxTransport:
    """Send requests over pooled connections of one event loop."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connection_max_age_s: float = 60,
        connection_idle_s: float = 30,
        max_connections: int = MAX_CONNECTIONS,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_response_headers: int = MAX_RESPONSE_HEADERS,
    ) -> None:
        self._context = None if ssl_context is None else check_context(ssl_context)
        self._max_age_s = connection_max_age_s
        self._limits = httpx.Limits(
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=connection_idle_s,
        )
        self._max_bytes = max_response_bytes
        self._max_headers = max_response_headers
        self._pools: dict[str, _Pool] = {}

    async def send_async(
        self,
        request: Request,
        *,
        connect_timeout_s: float,
        attempt_timeout_s: float,
        cancel: object = None,  # noqa: ARG002 - a task is cancelled, not asked
    ) -> RawResponse:
        """Send a request and read the response, all within the bounds."""
        url = httpx.URL(request.url)
        pool = await self._pool_of(f"{url.scheme}://{url.netloc.decode()}")
        pool.in_use += 1
        try:
            async with asyncio.timeout(attempt_timeout_s):
                return await self._exchange(pool, request, connect_timeout_s)
        except TimeoutError:
            raise error_for("attempt_timeout", "the attempt took too long") from None
        except httpx.TransportError as error:
            raise _failure(error) from error
        finally:
            pool.in_use -= 1
            if pool not in self._pools.values() and not pool.in_use:
                await pool.transport.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        pools = list(self._pools.values())
        self._pools.clear()
        for pool in pools:
            await pool.transport.aclose()

    async def _pool_of(self, origin: str) -> _Pool:
        pool = self._pools.get(origin)
        if pool is None or time.monotonic() - pool.opened_at >= self._max_age_s:
            old = self._pools.pop(origin, None)
            pool = self._pools[origin] = _Pool(
                httpx.AsyncHTTPTransport(verify=self._tls(), limits=self._limits, trust_env=False)
            )
            if old is not None and not old.in_use:
                await old.transport.aclose()
        return pool

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._context

    async def _exchange(
        self, pool: _Pool, request: Request, connect_timeout_s: float
    ) -> RawResponse:
        out = httpx.Request(
            request.method,
            request.url,
            headers=list(request.headers),
            content=request.body or None,
            extensions={"timeout": {"connect": connect_timeout_s, "pool": connect_timeout_s}},
        )
        response = await pool.transport.handle_async_request(out)
        try:
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in response.headers.raw]
            body = b"" if len(headers) > self._max_headers else await self._body(response)
        finally:
            await response.aclose()
        return RawResponse(response.status_code, headers, body)

    async def _body(self, response: httpx.Response) -> bytes:
        """Read at most one byte more than the limit: what is over it is judged by the reader."""
        assert isinstance(response.stream, AsyncIterable)
        chunks: list[bytes] = []
        room = self._max_bytes + 1
        async for chunk in response.stream:
            chunks.append(chunk[:room])
            room -= len(chunks[-1])
            if not room:
                break
        return b"".join(chunks)


def _failure(error: httpx.TransportError) -> FractalLBAError:
    if isinstance(error, _CONNECTING):
        cause = error.__cause__ or error.__context__
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
        if cause is not None and not isinstance(cause, ended):
            return error_for("tls_failed", f"TLS: {getattr(cause, 'verify_message', cause.reason)}")
        return error_for("connect_failed", f"no connection: {type(error).__name__}")
    return error_for("connection_lost", f"the connection broke: {type(error).__name__}")
