"""Hold what was exchanged to `spec/openapi.yaml`, with openapi-core, long after it was forwarded.

This file owns the translation of what openapi-core says into a `Violation`: side, rule, JSON
pointer, media type, operation. What no validator of OpenAPI looks at is looked at here: headers
and members that no document names, and lines of NDJSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jsonschema_rs
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.deserializing.media_types.exceptions import MediaTypeDeserializeError
from openapi_core.templating.media_types.exceptions import MediaTypeNotFound
from openapi_core.templating.responses.exceptions import ResponseNotFound
from openapi_core.validation.response.exceptions import (
    DataValidationError,
    HeaderValidationError,
    MissingRequiredHeader,
)
from openapi_core.validation.schemas.exceptions import InvalidSchemaValue
from werkzeug.datastructures import Headers, ImmutableMultiDict

METHODS: Final = ("get", "post", "put", "delete", "patch", "options", "head", "trace")
PROBLEM: Final = "application/problem+json"
NDJSON: Final = "application/x-ndjson"
JSON_BASE: Final = "https://fractal-lba.example/spec/"

OF_REQUESTS: Final = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "expect",
        "accept", "user-agent", "content-type", "accept-encoding", "accept-language",
        "sec-fetch-mode", "sec-fetch-site", "sec-fetch-dest", "origin", "referer", "pragma",
        "cache-control", "priority", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform",
    }
)  # fmt: skip
"""Headers of formats 12.2 for all, and those that HTTP libraries and browsers set themselves."""

OF_ANSWERS: Final = frozenset(
    {
        "date", "server", "content-type", "content-length", "transfer-encoding", "connection",
        "keep-alive", "vary", "via", "access-control-allow-origin",
        "access-control-expose-headers",
    }
)  # fmt: skip
"""Headers of HTTP itself, and those by which a browser is let in."""

SIDES: Final = ("client", "server")
RAW: Final = "raw:"
"""A case with this prefix sends what no client would: only the server's side of it is judged."""

BARE: Final = (400, 408, 431, 503)
"""Statuses of what was never parsed as a request: no body, and the connection ends."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that should not have been sent."""

    side: str
    rule: str
    message: str
    pointer: str = ""
    media_type: str = ""
    operation: str = ""
    case: str = ""
    exchange: int = 0

    def members(self) -> dict[str, Any]:
        """Give the members for a record; empty ones are left out."""
        return {n: getattr(self, n) for n in self.__slots__ if getattr(self, n) not in ("", 0)}

    def __str__(self) -> str:
        where = " ".join(filter(None, (self.operation, self.media_type, self.pointer)))
        at = f" (exchange {self.exchange})" if self.exchange else ""
        case = f" [{self.case}]" if self.case else ""
        return f"{self.side}: {self.rule}: {where}: {self.message}{at}{case}"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as the record has it. Header names are in lower case."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = True

    def header(self, name: str) -> str | None:
        """Give the first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Got:
    """An answer as the record has it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = True

    def header(self, name: str) -> str | None:
        """Give the first value of a header."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def media_type(self) -> str:
        """Give the media type without parameters."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def is_bare(self) -> bool:
        """Tell whether this answers something that was never parsed as a request."""
        return self.status in BARE and not self.body and self.header("x-request-id") is None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the document."""

    id: str
    method: str
    path: str
    request_headers: frozenset[str]
    needs_token: bool
    statuses: Mapping[str, Mapping[str, Any]]
    item_schemas: Mapping[str, Any]
    unreachable: Mapping[str, str]

    def answer_headers(self, status: int) -> frozenset[str]:
        """Name the documented headers of a status."""
        rows = self.statuses.get(str(status)) or self.statuses.get("default") or {}
        return frozenset(name.lower() for name in rows.get("headers", {}))


class _Request:
    """What openapi-core asks of a request."""

    def __init__(self, host_url: str, sent: Sent, operation: Operation) -> None:
        parts = urlsplit(sent.target)
        self.host_url = host_url
        self.path = parts.path
        self.method = "get" if sent.method == "HEAD" else sent.method.lower()
        self.content_type = sent.header("content-type") or ""
        self.body = sent.body or None
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(),
            header=Headers(list(sent.headers)),
            cookie=ImmutableMultiDict(),
            path=_path_values(operation.path, parts.path),
        )


class _Response:
    """What openapi-core asks of an answer."""

    def __init__(self, got: Got) -> None:
        self.data = got.body
        self.status_code = got.status
        self.content_type = got.header("content-type") or ""
        self.headers = Headers(list(got.headers))


def _fits(template: str, path: str) -> bool:
    parts, steps = template.split("/"), path.split("/")
    return len(parts) == len(steps) and all(
        part == step or (part.startswith("{") and step)
        for part, step in zip(parts, steps, strict=True)
    )


def _path_values(template: str, path: str) -> dict[str, str]:
    pairs = zip(template.split("/"), path.split("/"), strict=True)
    return {part[1:-1]: value for part, value in pairs if part.startswith("{")}


class Contract:
    """One OpenAPI document with the schemas beside it."""

    def __init__(self, spec: Path) -> None:
        self._folder = spec.parent
        self._document = yaml.safe_load(spec.read_text(encoding="utf-8"))
        self._host_url = self._document["servers"][0]["url"].rstrip("/")
        config = Config(extra_media_type_deserializers={PROBLEM: json.loads, NDJSON: bytes.decode})
        self._openapi = OpenAPI.from_file_path(str(spec), config=config)
        self.operations = tuple(self._operations())
        self._problem = self._compiled({"$ref": "schemas/problem.json"})
        self._compiled_items: dict[int, jsonschema_rs.Draft202012Validator] = {}

    # --- the document

    def _operations(self) -> Iterator[Operation]:
        for path, item in self._document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield self._operation(path, method, item[method])

    def _operation(self, path: str, method: str, node: Mapping[str, Any]) -> Operation:
        rows = [self._resolved(row) for row in node.get("parameters", ())]
        statuses = {str(s): self._resolved(row) for s, row in node["responses"].items()}
        schemas: dict[str, Any] = {}
        for side, holder in [("request", node.get("requestBody", {})), *statuses.items()]:
            for media_type, media in holder.get("content", {}).items():
                if "x-item-schema" in media:
                    schemas[f"{side} {media_type}"] = media["x-item-schema"]
        return Operation(
            id=node["operationId"],
            method=method.upper(),
            path=path,
            request_headers=frozenset(r["name"].lower() for r in rows if r["in"] == "header"),
            needs_token={} not in node.get("security", self._document.get("security", [{}])),
            statuses=statuses,
            item_schemas=schemas,
            unreachable=_unreachable(node, statuses),
        )

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            found: Any = self._document
            for step in node["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            node = {**found, **{k: v for k, v in node.items() if k != "$ref"}}
        return node

    def _compiled(self, schema: Any) -> jsonschema_rs.Draft202012Validator:
        def retrieve(uri: str) -> Any:
            return json.loads((self._folder / uri.removeprefix(JSON_BASE)).read_bytes())

        return jsonschema_rs.Draft202012Validator(
            schema, base_uri=JSON_BASE, retriever=retrieve, validate_formats=True
        )

    def find(self, method: str, target: str) -> Operation | None:
        """Find the operation of a request: HEAD as GET, a concrete path before a template."""
        wanted = "GET" if method == "HEAD" else method
        path = urlsplit(target).path if target.startswith("/") else ""
        if not any(one.path == path for one in self.operations):
            path = next((one.path for one in self.operations if _fits(one.path, path)), "")
        found = (one for one in self.operations if one.path == path and one.method == wanted)
        return next(found, None)

    def named(self, method: str, target: str) -> str | None:
        """Name the operation of a request."""
        found = self.find(method, target)
        return None if found is None else found.id

    # --- judging

    def judge(
        self, sent: Sent, got: Got | None, *, sides: Sequence[str] = SIDES
    ) -> list[Violation]:
        """Give what is wrong on the given sides of an exchange."""
        operation = self.find(sent.method, sent.target)
        if operation is None:
            return [one for one in self._unknown(sent, got) if one.side in sides]
        found: list[Violation] = []
        if "client" in sides:
            found += self._request(sent, operation)
        if got is not None and "server" in sides:
            found += self._answer(sent, got, operation)
        return found

    def _unknown(self, sent: Sent, got: Got | None) -> Iterator[Violation]:
        if sent.method == "OPTIONS" and sent.header("access-control-request-method"):
            return  # a preflight, which the document describes in words
        text = f"{sent.method or 'no request'} {sent.target[:80]} is not in the document"
        yield Violation("client", "route", text)
        if got is not None and got.status >= 400 and not got.is_bare and sent.method != "HEAD":
            yield from self._is_problem(got, "")

    def _request(self, sent: Sent, operation: Operation) -> Iterator[Violation]:
        if not sent.whole:
            text = "the request is not whole, or its framing is wrong"
            yield Violation("client", "framing", text, operation=operation.id)
            return
        request = _Request(self._host_url, sent, operation)
        media_type = request.content_type
        for error in self._openapi.iter_request_errors(request):
            yield from _violations("client", error, operation.id, media_type)
        allowed = OF_REQUESTS | operation.request_headers
        if operation.needs_token:
            allowed |= {"authorization"}
        yield from _undocumented("client", sent.headers, allowed, operation.id)
        schema = operation.item_schemas.get(f"request {media_type}")
        if schema is not None:
            yield from self._lines("client", sent.body, schema, operation.id)

    def _answer(self, sent: Sent, got: Got, operation: Operation) -> Iterator[Violation]:
        if got.is_bare:
            return
        if not got.whole:
            yield Violation("server", "framing", "the answer is not whole", operation=operation.id)
            return
        request = _Request(self._host_url, sent, operation)
        for error in self._openapi.iter_response_errors(request, _Response(got)):
            if (
                not got.body
                and not isinstance(error, HeaderValidationError)
                and (sent.method == "HEAD" or got.media_type == NDJSON)
            ):
                continue  # an answer to HEAD, and no line at all, are whole without a body
            yield from _violations("server", error, operation.id, got.media_type)
        allowed = OF_ANSWERS | operation.answer_headers(got.status)
        yield from _undocumented("server", got.headers, allowed, operation.id)
        if got.media_type == PROBLEM and sent.method != "HEAD":
            yield from self._open_members(got, operation.id)
        if 300 <= got.status <= 399:
            yield Violation("server", "redirect", str(got.status), operation=operation.id)
        schema = operation.item_schemas.get(f"{got.status} {got.media_type}")
        if schema is not None:
            yield from self._lines("server", got.body, schema, operation.id)

    def _is_problem(self, got: Got, operation: str) -> Iterator[Violation]:
        if got.media_type != PROBLEM:
            text = f"{got.status} with {got.media_type or 'no media type'}"
            yield Violation("server", "media-type", text, "", got.media_type, operation)
            return
        for error in self._problem.iter_errors(_value(got.body)):
            pointer = "".join(f"/{step}" for step in error.instance_path)
            yield Violation(
                "server", error.kind.name, error.message[:300], pointer, PROBLEM, operation
            )

    def _open_members(self, got: Got, operation: str) -> Iterator[Violation]:
        """Find members that a problem may have and that no document names."""
        value = _value(got.body)
        known = json.loads((self._folder / "schemas" / "problem.json").read_bytes())["properties"]
        for name in sorted(set(value) - set(known)) if isinstance(value, dict) else ():
            text = f"{name} is not documented"
            yield Violation("server", "member-undocumented", text, f"/{name}", PROBLEM, operation)

    def _lines(self, side: str, body: bytes, schema: Any, operation: str) -> Iterator[Violation]:
        validator = self._compiled_items.setdefault(id(schema), self._compiled(schema))
        lines = body.removesuffix(b"\n").split(b"\n") if body else []
        for number, line in enumerate(lines):
            for error in validator.iter_errors(_value(line)):
                pointer = f"/{number}" + "".join(f"/{step}" for step in error.instance_path)
                yield Violation(
                    side, error.kind.name, error.message[:300], pointer, NDJSON, operation
                )


def _value(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _unreachable(
    node: Mapping[str, Any], statuses: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Collect `x-not-reachable`: of the operation by status, or of one response."""
    found = {str(s): str(reason) for s, reason in node.get("x-not-reachable", {}).items()}
    for status, row in statuses.items():
        if "x-not-reachable" in row:
            found.setdefault(status, str(row["x-not-reachable"]))
    return found


def _undocumented(
    side: str, headers: Iterable[tuple[str, str]], allowed: frozenset[str], operation: str
) -> Iterator[Violation]:
    for name in sorted({name for name, _ in headers} - allowed):
        yield Violation(side, "header-undocumented", f"{name} is not documented", "", "", operation)


def _violations(side: str, error: Exception, operation: str, media: str) -> Iterator[Violation]:
    """Translate what openapi-core says."""
    cause = error.__cause__
    if isinstance(cause, InvalidSchemaValue):
        for one in cause.schema_errors:
            path = "".join(f"/{step}" for step in getattr(one, "absolute_path", ()))
            where = path if _is_body(error) else _name_of(error)
            text = getattr(one, "message", str(one))[:300]
            rule = str(getattr(one, "validator", "schema"))
            yield Violation(side, rule, text, where, media, operation)
        return
    yield Violation(side, _rule_of(error), _text(cause or error), "", media, operation)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except UnicodeDecodeError:  # openapi-core quotes the bytes that are no UTF-8 as UTF-8
        return "bytes that are no UTF-8"


def _is_body(error: Exception) -> bool:
    return isinstance(error, DataValidationError) or "Body" in type(error).__name__


def _name_of(error: Exception) -> str:
    return str(getattr(error, "name", ""))


_RULES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (MediaTypeNotFound, "media-type"),
    (ResponseNotFound, "status"),
    (MissingRequiredHeader, "header-missing"),
    (MediaTypeDeserializeError, "malformed"),
)


def _rule_of(error: Exception) -> str:
    for kind, rule in _RULES:
        if isinstance(error, kind) or isinstance(error.__cause__, kind):
            return rule
    return type(error.__cause__ or error).__name__
