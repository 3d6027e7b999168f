"""The second listener: metrics, drain and reload for the operator (spec/admin.yaml)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fractal_lba.canonical import jcs
from fractal_lba.errors import ConfigError

from ..core.problem import problem
from ..metrics import CONTENT_TYPE, Metrics
from .app import RequestIds
from .protocol import Reply, Request
from .region_admin import RegionAdmin

MAX_ADMIN_BODY_BYTES: Final = 1_024
"""No operation of this listener has a body; one of this size is read and left alone."""


class AdminApp:
    """Answers whole requests (net/protocol.py)."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        drain: Callable[[], int],
        reload: Callable[[Callable[[dict[str, Any] | ConfigError], None]], None],
        region: RegionAdmin,
    ) -> None:
        self._metrics = metrics
        self._drain = drain
        self._reload = reload
        self._region = region
        self._ids = RequestIds()

    def body_limit(self, request: Request) -> int:
        """Say how many bytes of body a request may have."""
        return MAX_ADMIN_BODY_BYTES

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        """Answer with a problem."""
        request_id = self._ids.next()
        status, body = problem(code, message, request_id=request_id)
        lines = f"content-type: application/problem+json\r\nx-request-id: {request_id}\r\n"
        reply(status, lines.encode(), body)

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        if not self._region.admits(request):
            self.refuse("unauthorized", "show the administrative token", request, reply)
            return
        if b"origin" in request.headers:
            self.refuse("forbidden", "no page of a browser asks here", request, reply)
            return
        if self._region.handles(request):
            self._region.handle(request, reply)
            return
        match request.method, request.path:
            case ("GET" | "HEAD", "/metrics"):
                self._respond(reply, CONTENT_TYPE, self._metrics.render())
            case ("POST", "/admin/drain"):
                in_flight = self._drain()
                self._respond_json(reply, {"draining": True, "in_flight": in_flight})
            case ("POST", "/admin/reload"):
                self._reload(lambda result: self._reloaded(result, request, reply))
            case (_, "/metrics" | "/admin/drain" | "/admin/reload"):
                self.refuse("method_not_allowed", "see spec/admin.yaml", request, reply)
            case _:
                self.refuse("not_found", "no such resource", request, reply)

    def _reloaded(
        self, result: dict[str, Any] | ConfigError, request: Request, reply: Reply
    ) -> None:
        if isinstance(result, ConfigError):
            self.refuse("unprocessable", result.message, request, reply)
        else:
            self._respond_json(reply, result)

    def _respond_json(self, reply: Reply, document: dict[str, Any]) -> None:
        self._respond(reply, "application/json", jcs(document))

    def _respond(self, reply: Reply, content_type: str, body: bytes) -> None:
        lines = f"content-type: {content_type}\r\nx-request-id: {self._ids.next()}\r\n"
        reply(200, lines.encode(), body)
