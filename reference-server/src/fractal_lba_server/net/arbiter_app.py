"""The arbiter's HTTP: leases for regions, votes of checkers, status for all (spec/roles.md 8).

A caller is the code that its certificate names (`flk-region:<code>`), a region or a checker, and
speaks for nobody else. Plain HTTP is taken from this machine alone, and then the caller is
whoever the body says.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fractal_lba.canonical import jcs, parse
from fractal_lba.errors import ValidationError

from ..arbiter import Arbiter, NotMemberError, UnknownPlacementError
from ..config import Address
from ..core.lease import (
    Answer,
    Behind,
    Fenced,
    Granted,
    Mark,
    Moved,
    NotLeader,
    NotYet,
    Promoted,
)
from ..core.problem import problem
from ..store.control import ControlUnavailableError
from ..store.leases import SupersededError
from ..store.region_key import REGION_URI
from .app import RequestIds
from .protocol import Reply, Request

BODY_BYTES_MAX: Final = 16_384
"""A vote about 64 regions has less than 2 KiB."""

_PATH: Final = re.compile(r"/arbiter/v1/(lease|hand-over|promote)/([a-z0-9][a-z0-9-]{0,63})")
_CODE: Final = re.compile(r"[a-z0-9]{3}")
_PROCESS: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_NUMBER_MAX: Final = 2**53 - 1

_WORDS: Final[dict[type, str]] = {
    Granted: "granted", Promoted: "promoted", NotYet: "not_yet", NotLeader: "not_leader",
    Behind: "behind", Fenced: "fenced", Moved: "moved",
}  # fmt: skip
_ANSWERS: Final = {word: kind for kind, word in _WORDS.items()}


def answer_document(answer: Answer) -> dict[str, Any]:
    """Write an answer for the wire."""
    return {"answer": _WORDS[type(answer)], **answer._asdict()}


def answer_of(document: Mapping[str, Any]) -> Answer:
    """Read an answer from the wire; raises ValueError."""
    members = {name: value for name, value in document.items() if name != "answer"}
    try:
        answer = _ANSWERS[document["answer"]](**members)
    except (KeyError, TypeError):
        raise ValueError("not an answer of an arbiter") from None
    for name, value in members.items():
        is_right = value is None or isinstance(value, str) if name == "leader" else _is_count(value)
        if not is_right:
            raise ValueError(f"not an answer of an arbiter: {name}")
    found: Answer = answer
    return found


class _RefusedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ArbiterApp:
    """Answers whole requests (net/protocol.py)."""

    def __init__(self, arbiter: Arbiter, *, superseded: Callable[[], None]) -> None:
        self._arbiter = arbiter
        self._superseded = superseded
        self._ids = RequestIds()
        self._tasks: set[asyncio.Task[None]] = set()

    def body_limit(self, request: Request) -> int:
        """Say how many bytes of body a request may have."""
        return BODY_BYTES_MAX

    def refuse(self, code: str, message: str, request: Request, reply: Reply) -> None:
        """Answer with a problem."""
        request_id = self._ids.next()
        status, body = problem(code, message, request_id=request_id)
        lines = f"content-type: application/problem+json\r\nx-request-id: {request_id}\r\n"
        if status == 503:
            lines += "retry-after: 1\r\n"
        reply(status, lines.encode(), body)

    def handle(self, request: Request, reply: Reply) -> None:
        """Answer one request."""
        try:
            work = self._route(request, _caller(request))
        except _RefusedError as error:
            self.refuse(error.code, error.message, request, reply)
            return
        task = asyncio.get_running_loop().create_task(self._finish(work, request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(
        self, work: Awaitable[dict[str, Any]], request: Request, reply: Reply
    ) -> None:
        try:
            document = await work
        except UnknownPlacementError:
            self.refuse("not_found", "no placement of this name needs a lease", request, reply)
        except NotMemberError:
            self.refuse("forbidden", "no region of the placement", request, reply)
        except ControlUnavailableError:
            self.refuse("unavailable", "the state cannot be reached", request, reply)
        except SupersededError:
            self.refuse("unavailable", "another arbiter has taken over", request, reply)
            self._superseded()
        except _RefusedError as error:
            self.refuse(error.code, error.message, request, reply)
        else:
            lines = f"content-type: application/json\r\nx-request-id: {self._ids.next()}\r\n"
            reply(200, lines.encode(), jcs(document))

    def _route(self, request: Request, caller: str | None) -> Awaitable[dict[str, Any]]:
        method, path = request.method, request.path
        if method == "GET" and path == "/healthz":
            return self._alive()
        if method == "GET" and path == "/arbiter/v1/status":
            return self._arbiter.status()
        if method == "POST" and path == "/arbiter/v1/vote":
            return self._vote(_body(request), caller)
        found = _PATH.fullmatch(path)
        if found is None:
            raise _RefusedError("not_found", "no such resource")
        if method != "POST":
            raise _RefusedError("method_not_allowed", "POST")
        kind, placement = found[1], found[2]
        body = _body(request)
        if kind == "lease":
            return self._lease(placement, body, caller)
        if kind == "hand-over":
            return self._hand_over(placement, body, caller)
        return self._promote(placement, body, caller)

    async def _alive(self) -> dict[str, Any]:
        return {"ok": True}

    async def _lease(
        self, placement: str, body: dict[str, Any], caller: str | None
    ) -> dict[str, Any]:
        region, region_epoch = _speaker(body, "region", caller), _count(body, "region_epoch")
        return answer_document(
            await self._arbiter.ask(placement, region, region_epoch, _mark(body))
        )

    async def _hand_over(
        self, placement: str, body: dict[str, Any], caller: str | None
    ) -> dict[str, Any]:
        region, region_epoch = _speaker(body, "region", caller), _count(body, "region_epoch")
        to = _code(body, "to")
        answer = await self._arbiter.hand_over(placement, region, region_epoch, _mark(body), to)
        return answer_document(answer)

    async def _promote(
        self, placement: str, body: dict[str, Any], caller: str | None
    ) -> dict[str, Any]:
        """Promote the caller; with `region` null, fence whoever writes."""
        region_epoch = _count(body, "region_epoch")
        candidate = None if body.get("region", "") is None else _speaker(body, "region", caller)
        if candidate is None and caller is not None:
            found = self._arbiter.registry.placements.get(placement)
            if found is None or caller not in found.regions:
                raise _RefusedError("forbidden", "no region of the placement")
        return answer_document(await self._arbiter.promote(placement, candidate, region_epoch))

    async def _vote(self, body: dict[str, Any], caller: str | None) -> dict[str, Any]:
        checker = _speaker(body, "checker", caller)
        if not await self._arbiter.vote(checker, _opinion(body, "ready"), _opinion(body, "alive")):
            raise _RefusedError("forbidden", "not a checker of this arbiter")
        return {"heard": True}


def _caller(request: Request) -> str | None:
    """Name the caller; None on plain loopback, where nobody shows a certificate."""
    if b"origin" in request.headers:
        raise _RefusedError("forbidden", "no page of a browser asks here")
    named = [uri for uri in request.uris if uri.startswith(REGION_URI)]
    if len(named) == 1:
        return named[0].removeprefix(REGION_URI)
    if request.uris or not Address(request.address, 0).is_loopback:
        raise _RefusedError("unauthorized", "show a certificate that names one flk-region")
    return None


def _body(request: Request) -> dict[str, Any]:
    try:
        return parse(request.body)
    except ValidationError as error:
        raise _RefusedError("bad_request", error.message) from None


def _speaker(body: Mapping[str, Any], name: str, caller: str | None) -> str:
    said = _code(body, name)
    if caller is not None and said != caller:
        raise _RefusedError("forbidden", f"{name}: the certificate names another")
    return said


def _code(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        raise _RefusedError("unprocessable", f"{name}: expected three of a-z and 0-9")
    return value


def _opinion(body: Mapping[str, Any], name: str) -> dict[str, bool]:
    value = body.get(name)
    if not isinstance(value, dict) or not all(type(one) is bool for one in value.values()):
        raise _RefusedError("unprocessable", f"{name}: expected true or false by region")
    return value


def _count(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if not _is_count(value):
        raise _RefusedError("unprocessable", f"{name}: expected an integer from 0")
    return int(str(value))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _NUMBER_MAX


def _mark(body: Mapping[str, Any]) -> Mark:
    process = body.get("process")
    if not isinstance(process, str) or not _PROCESS.fullmatch(process):
        raise _RefusedError("unprocessable", "process: expected 1 to 64 letters, digits or -")
    return Mark(process, _count(body, "number"))
