"""What an operator asks of a region on the second listener: status, drain, promote and back.

    GET  /admin/region/status
    POST /admin/region/drain
    POST /admin/region/promote    {placement, region_epoch, old_is_stopped?}
    POST /admin/region/fence      {placement, region_epoch}
    POST /admin/region/failback   {placement, to}

Nobody is asked who they are on loopback or behind a client certificate; anybody else shows the
token of `admin_token_file` (spec/roles.md 8.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from fractal_lba.canonical import jcs, parse
from fractal_lba.errors import ValidationError

from ..admin_token import AdminToken
from ..config import Address
from ..core.problem import problem
from ..core.regions import Registry
from ..role_keeper import RoleKeeper, RoleRefusedError
from .app import RequestIds
from .protocol import Reply, Request

BASE: Final = "/admin/region/"
MEMBERS: Final[Mapping[str, Mapping[str, type]]] = {
    "drain": {},
    "promote": {"placement": str, "region_epoch": int},
    "fence": {"placement": str, "region_epoch": int},
    "failback": {"placement": str, "to": str},
}
"""What each order must say."""


class RegionAdmin:
    """The part of the administrative listener that is about regions."""

    def __init__(
        self,
        *,
        region: str,
        registry: Registry | None,
        keeper: RoleKeeper | None,
        describe: Callable[[], dict[str, Any]],
        drain: Callable[[], int],
        token: AdminToken | None = None,
        certified: bool = False,
    ) -> None:
        """`describe` gives `gate`, `streams`, `lags` and `received`; it is called on the loop.

        `certified`: the listener takes nobody without a client certificate.
        """
        self._certified = certified
        self._region = region
        self._registry = registry
        self._keeper = keeper
        self._describe = describe
        self._drain = drain
        self._token = token
        self._ids = RequestIds()
        self._tasks: set[asyncio.Task[None]] = set()

    def admits(self, request: Request) -> bool:
        """Tell whether a request may be answered at all; true for every path of the listener."""
        if self._token is not None and self._token.admits(
            request.headers.get(b"authorization", b"")
        ):
            return True
        return self._certified or Address(request.address, 0).is_loopback

    def handles(self, request: Request) -> bool:
        """Tell whether a request is about the region."""
        return request.path.startswith(BASE)

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        name = request.path.removeprefix(BASE)
        if not self.admits(request):
            self._refuse("unauthorized", "show the administrative token", reply)
        elif name == "status" and request.method == "GET":
            self._respond(reply, self.status())
        elif name in {"status", *MEMBERS} and request.method != ("POST", "GET")[name == "status"]:
            self._refuse("method_not_allowed", "see spec/admin.yaml", reply)
        elif name not in MEMBERS:
            self._refuse("not_found", "no such resource", reply)
        elif request.headers.get(b"content-type", b"").lower() != b"application/json":
            # What a page of another origin can send without asking first is not JSON by name.
            self._refuse("unsupported_media_type", "expected application/json", reply)
        else:
            self._order(name, request, reply)

    def status(self) -> dict[str, Any]:
        """Describe the region: roles, epochs, leases, watermarks, lag, gate."""
        roles = self._keeper.status() if self._keeper is not None else []
        codes = self._registry.codes if self._registry is not None else (self._region,)
        return {
            "region": self._region,
            "regions": list(codes),
            "placements": [one._asdict() for one in roles],
            **self._describe(),
        }

    def _order(self, name: str, request: Request, reply: Reply) -> None:
        try:
            body = parse(request.body) if request.body else {}
        except ValidationError as error:
            self._refuse("bad_request", error.message, reply)
            return
        for member, kind in MEMBERS[name].items():
            if type(body.get(member)) is not kind:
                text = f"{member}: missing, or of another type"
                self._refuse("unprocessable", text, reply)
                return
        if name == "drain":
            self._respond(reply, {"draining": True, "in_flight": self._drain()})
        elif self._keeper is None:
            self._refuse("not_found", "no placement of this region has one writer", reply)
        else:
            task = asyncio.get_running_loop().create_task(self._carry_out(name, body, reply))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, name: str, body: dict[str, Any], reply: Reply) -> None:
        assert self._keeper is not None
        keeper, placement = self._keeper, body["placement"]
        orders: dict[str, Callable[[], Any]] = {
            "promote": lambda: keeper.promote(
                placement,
                region_epoch=body["region_epoch"],
                old_is_stopped=body.get("old_is_stopped") is True,
            ),
            "fence": lambda: keeper.fence(placement, region_epoch=body["region_epoch"]),
            "failback": lambda: keeper.failback(placement, to=body["to"]),
        }
        try:
            status = await asyncio.to_thread(orders[name])
        except RoleRefusedError as error:
            self._refuse(error.code, error.message, reply)
        else:
            self._respond(reply, status._asdict())

    def _refuse(self, code: str, message: str, reply: Reply) -> None:
        request_id = self._ids.next()
        status, body = problem(code, message, request_id=request_id)
        lines = f"content-type: application/problem+json\r\nx-request-id: {request_id}\r\n"
        if status == 503:
            lines += "retry-after: 1\r\n"
        reply(status, lines.encode(), body)

    def _respond(self, reply: Reply, document: dict[str, Any]) -> None:
        lines = f"content-type: application/json\r\nx-request-id: {self._ids.next()}\r\n"
        reply(200, lines.encode(), jcs(document))
