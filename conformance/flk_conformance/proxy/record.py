"""Write and read `run.ndjson`, the record of what went through a proxy.

One JSON object a line: a header, the exchanges in the order in which they ended, a footer. What
would let a reader act as somebody else is not in it: the values of `Authorization`, of cookies and
of proxy credentials are replaced on write. Bodies are there as SHA-256 and base64.

    {"type":"header","tool","upstream","spec_sha256","clock":"real"|"virtual"}
    {"type":"exchange","exchange","connection","case","at_ns","sent_ns","answered_ns","fault"?,
     "request":{"method","target","headers":[[name,value],...],"sha256","body","bytes","whole"},
     "answer"?:{"status","headers","sha256","body","bytes","whole"},"violations":[...]}
    {"type":"footer","exchanges","violations"}
"""

from __future__ import annotations

import base64
import hashlib
import json
import marshal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from .contract import Got, Sent

REDACTED: Final = "***"
SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})

Raw = tuple[
    int, int, str, str,
    tuple[str, str, tuple[tuple[str, str], ...], bytes, int, bool, int, int],
    tuple[int, tuple[tuple[str, str], ...], bytes, int, bool, int] | None,
]  # fmt: skip
"""An exchange as it is handed to the judging process: number, connection, case, fault, request
(method, target, headers, body, bytes, whole, started, ended), answer or None."""


def redacted(headers: tuple[tuple[str, str], ...]) -> list[list[str]]:
    """Copy headers without what lets a reader act as somebody else."""
    return [
        [name, REDACTED if name.lower() in SECRET_HEADERS else value] for name, value in headers
    ]


def sent_of(raw: Raw) -> Sent:
    """Give the request for judging."""
    method, target, headers, body, _, whole, _, _ = raw[4]
    return Sent(method, target, tuple((n.lower(), v) for n, v in headers), body, whole)


def got_of(raw: Raw) -> Got | None:
    """Give the answer for judging."""
    if raw[5] is None:
        return None
    status, headers, body, _, whole, _ = raw[5]
    return Got(status, tuple((n.lower(), v) for n, v in headers), body, whole)


def line_of(raw: Raw, violations: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the members of one line."""
    number, connection, case, fault, request, answer = raw
    method, target, headers, body, size, whole, started_ns, ended_ns = request
    members: dict[str, Any] = {
        "type": "exchange", "exchange": number, "connection": connection, "case": case,
        "at_ns": started_ns, "sent_ns": ended_ns,
        "request": {
            "method": method, "target": target, "headers": redacted(headers), **_body(body, size),
            "whole": whole,
        },
        "violations": violations,
    }  # fmt: skip
    if fault:
        members["fault"] = fault
    if answer is not None:
        status, headers, body, size, whole, answered_ns = answer
        members["answered_ns"] = answered_ns
        members["answer"] = {
            "status": status, "headers": redacted(headers), **_body(body, size), "whole": whole,
        }  # fmt: skip
    return members


def _body(body: bytes, size: int) -> dict[str, Any]:
    digest = hashlib.sha256(body).hexdigest()
    return {"sha256": digest, "body": base64.b64encode(body).decode("ascii"), "bytes": size}


def encoded(members: Mapping[str, Any]) -> bytes:
    """Write one line."""
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"


LENGTH_BYTES: Final = 4


def pack(raw: Raw) -> bytes:
    """Write an exchange for the pipe."""
    data = marshal.dumps(raw)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def unpack(pipe: BinaryIO) -> Raw | None:
    """Read an exchange from the pipe; None at its end."""
    size = pipe.read(LENGTH_BYTES)
    if len(size) < LENGTH_BYTES:
        return None
    # From the proxy that started this process, through a pipe that nobody else has.
    found: Raw = marshal.loads(pipe.read(int.from_bytes(size, "big")))  # noqa: S302 - its parent
    return found


def read_record(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of a record; half a last line is passed over."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
