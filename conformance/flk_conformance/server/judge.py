"""Judge answers by what holds for every one of them: spec/formats.md 2.10, 4, 9.3-9.8 and 12.11.

A function returns what it has read, or raises `Failed` with a sentence. Cases ask for more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from golden.oracle import jcs
from golden.oracle.closed_codes import CODES
from golden.oracle.fault import Fault
from golden.oracle.scanner import Number, parse_any

from .wire import Reply

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
POSITION: Final = re.compile(r"[a-z0-9]{3}/[a-z0-9-]{1,64}/(0|[1-9][0-9]{0,9})/([1-9][0-9]{0,15})")
LEVELS: Final = ("durable", "replicated", "witnessed")
POINTER: Final = re.compile(r"(/([^~/]|~[01])*)*")

_PROBLEM: Final[Mapping[str, type]] = {
    "type": str, "title": str, "status": int, "detail": str, "code": str, "request_id": str,
}  # fmt: skip
_PROBLEM_MAY: Final = {
    "pointer", "retry_after_ms", "leader_hint", "position", "winner", "displaced", "first_acked",
}  # fmt: skip
_OUTCOME: Final = {
    "accepted", "escalated", "first_seen", "pcs_id", "policy_version", "recomputed_D_hat",
    "recomputed_budget",
}  # fmt: skip
_REFUSING: Final = ("d_hat_out_of_tolerance", "coh_star_out_of_range", "n_j_implausible")
_REMARKING: Final = ("regime_mismatch", "budget_deviation")


class Failed(Exception):  # noqa: N818 - a verdict, not an error of the harness
    """What a server did that the specification forbids."""


def require(holds: object, text: str) -> None:
    """Fail with a sentence unless something holds."""
    if not holds:
        raise Failed(text)


def request_id(reply: Reply) -> str:
    """Give the request id, which every answer to a parsed request has (formats 4.5)."""
    text = reply.header("x-request-id") or ""
    require(REQUEST_ID.fullmatch(text), f"X-Request-Id: got {text!r}")
    return text


def problem(reply: Reply, *, status: int | None = None) -> dict[str, Any]:
    """Give the members of a refusal: RFC 9457, a code of the closed list, its own status."""
    require(
        reply.status == status if status else 400 <= reply.status <= 599,
        f"expected {status or 'a refusal'}, got {reply.status} {reply.body[:120]!r}",
    )
    require(
        reply.media_type == "application/problem+json",
        f"{reply.status} with Content-Type {reply.header('content-type')!r}, "
        "expected application/problem+json",
    )
    try:
        members: dict[str, Any] = json.loads(reply.body, object_pairs_hook=_closed_pairs)
    except ValueError as error:
        raise Failed(f"the problem cannot be read: {error}") from None
    require(isinstance(members, dict), "the problem is no object")
    for name, kind in _PROBLEM.items():
        got = members.get(name)
        require(type(got) is kind, f"the problem's {name} is {got!r}")
    unknown = sorted(set(members) - set(_PROBLEM) - _PROBLEM_MAY)
    require(not unknown, f"the problem has an undocumented member {unknown[:1]}")
    code = members["code"]
    _, _, of_code = CODES.get(code, ("", "", None))
    require(of_code is not None, f"{code!r} is no code that a server sends")
    require(
        members["status"] == reply.status == of_code,
        f"{code} has status {of_code}; the line says {reply.status}, the body {members['status']}",
    )
    require(members["request_id"] == request_id(reply), "request_id is not X-Request-Id")
    pointer = members.get("pointer", "")
    require(isinstance(pointer, str) and POINTER.fullmatch(pointer), f"pointer: {pointer!r}")
    _waiting(reply, members)
    return members


def _closed_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member stands twice")
    return dict(pairs)


def _waiting(reply: Reply, members: Mapping[str, Any]) -> None:
    """Hold 429 and 503 to saying when to come back (formats 9.8)."""
    seconds, exact = reply.header("retry-after"), members.get("retry_after_ms")
    if reply.status in (429, 503):
        require(seconds is not None, f"{reply.status} without Retry-After")
    if seconds is not None:
        require(re.fullmatch("[0-9]+", seconds), f"Retry-After: {seconds!r}")
        if exact is not None:
            require(type(exact) is int and exact >= 0, f"retry_after_ms: {exact!r}")
            text = f"Retry-After {seconds} is not the {exact} ms of the body, rounded up"
            require(-(-exact // 1000) == int(seconds), text)


def outcome(reply: Reply) -> dict[str, Any]:
    """Give the members of an outcome that came with the headers of formats 4.2."""
    text = f"expected 200 or 202, got {reply.status} {reply.body[:200]!r}"
    require(reply.status in (200, 202), text)
    require(
        reply.media_type == "application/json",
        f"{reply.status} with Content-Type {reply.header('content-type')!r}",
    )
    request_id(reply)
    members = outcome_members(reply.body, reply.status)
    replayed(reply)
    level = reply.header("pcs-level")
    require(level in LEVELS, f"PCS-Level: {level!r}")
    for name in ("pcs-position", "pcs-replicated"):
        place = reply.header(name)
        if place is not None or name == "pcs-position":
            require(POSITION.fullmatch(place or ""), f"{name}: {place!r}")
    return members


def outcome_members(body: bytes, status: int) -> dict[str, Any]:
    """Read an outcome: RFC 8785 bytes, closed, and in agreement with its status (2.9, 2.10)."""
    try:
        node = parse_any(body)
        again = jcs.document(node)
    except Fault as fault:
        raise Failed(f"the outcome cannot be read: {fault.code}") from None
    require(again == body, f"the outcome is not in RFC 8785 form: {body[:200]!r}")
    require(isinstance(node, dict), "the outcome is no object")
    members = cast("dict[str, Any]", node)
    found = set(members)
    require(found - {"reason"} == _OUTCOME, f"the outcome has the members {sorted(found)}")
    accepted, escalated, reason = (members.get(n) for n in ("accepted", "escalated", "reason"))
    require(type(accepted) is bool and type(escalated) is bool, "accepted, escalated: no booleans")
    if not escalated:
        agrees = accepted is True and "reason" not in members and status == 200
    else:
        agrees = status == 202 and reason in (_REMARKING if accepted else _REFUSING)
    text = f"status {status}, accepted {accepted}, escalated {escalated}, reason {reason}"
    require(agrees, f"the outcome contradicts itself: {text}")
    seen = members["first_seen"]
    require(isinstance(seen, dict) and set(seen) == {"hlc", "region"}, f"first_seen: {seen}")
    require(re.fullmatch("[0-9a-f]{16}", str(seen["hlc"])), f"hlc: {seen['hlc']!r}")
    require(re.fullmatch("[a-z0-9]{3}", str(seen["region"])), f"region: {seen['region']!r}")
    require(re.fullmatch("[0-9a-f]{64}", str(members["pcs_id"])), "pcs_id is no id")
    require(re.fullmatch("[0-9a-f]{16}", str(members["policy_version"])), "policy_version")
    for name, most in (("recomputed_D_hat", 3.5), ("recomputed_budget", 1)):
        value = members[name]
        require(isinstance(value, Number) and 0 <= float(value.token) <= most, f"{name}: {value}")
    return members


def replayed(reply: Reply) -> bool:
    """Give `Idempotency-Replayed`, which every recorded answer has (formats 4.2)."""
    text = reply.header("idempotency-replayed")
    require(text in ("true", "false"), f"Idempotency-Replayed: {text!r}")
    return text == "true"


def refused(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """Give the problem, which must have this status and code."""
    require(
        reply.status == status,
        f"expected {status} {code}, got {reply.status} {reply.body[:160]!r}",
    )
    members = problem(reply, status=status)
    require(members["code"] == code, f"expected {code}, got {members['code']}")
    return members


def recorded(reply: Reply, status: int = 200, *, again: bool | None = False) -> dict[str, Any]:
    """Give the outcome of a record: new, a duplicate (`again`), or either (None)."""
    require(reply.status == status, f"expected {status}, got {reply.status} {reply.body[:160]!r}")
    members = outcome(reply)
    if again is not None:
        was = replayed(reply)
        require(was is again, f"Idempotency-Replayed: expected {again}, got {was}".lower())
    return members


# --- batches -----------------------------------------------------------------------------------

_RECORDED_ITEM: Final = {"index", "level", "outcome", "position", "replayed", "status"}
_REFUSED_ITEM: Final = {"index", "problem", "status"}


def items(reply: Reply) -> list[dict[str, Any]]:
    """Give the items of an answer to a batch: one a line, in order, each whole (formats 8.2)."""
    require(reply.status == 200, f"expected 200, got {reply.status} {reply.body[:160]!r}")
    require(
        reply.media_type == "application/x-ndjson",
        f"200 with Content-Type {reply.header('content-type')!r}",
    )
    identity = request_id(reply)
    require(reply.body == b"" or reply.body.endswith(b"\n"), "the last line has no end")
    return [_item(line, index, identity) for index, line in enumerate(reply.body.split(b"\n")[:-1])]


def _item(line: bytes, index: int, identity: str) -> dict[str, Any]:
    try:
        node = parse_any(line)
    except Fault as fault:
        raise Failed(f"item {index} cannot be read: {fault.code}") from None
    require(isinstance(node, dict), f"item {index} is no object")
    item = {**cast("dict[str, Any]", node)}
    number, status = (getattr(item.get(n), "token", "") for n in ("index", "status"))
    require(number == str(index), f"item {index} says that it is {number}")
    if status in ("200", "202"):
        require(set(item) == _RECORDED_ITEM, f"item {index} has the members {sorted(item)}")
        item["outcome"] = jcs.document(item["outcome"])
        outcome_members(item["outcome"], int(status))
        require(type(item["replayed"]) is bool, f"item {index}: replayed {item['replayed']!r}")
        require(item["level"] in LEVELS, f"item {index}: level {item['level']!r}")
        require(POSITION.fullmatch(str(item["position"])), f"item {index}: {item['position']!r}")
    else:
        most = _REFUSED_ITEM | {"position", "level"}
        require(_REFUSED_ITEM <= set(item) <= most, f"item {index} has {sorted(item)}")
        item["problem"] = _problem_of_item(item["problem"], index, status)
        require(item["problem"]["request_id"] == identity, f"item {index}: another request_id")
    item["index"], item["status"] = index, int(status)
    return item


def _problem_of_item(node: Any, index: int, status: str) -> dict[str, Any]:
    require(isinstance(node, dict), f"item {index}: the problem is no object")
    require(set(_PROBLEM) <= set(node), f"item {index}: the problem has {sorted(node)}")
    unknown = sorted(set(node) - set(_PROBLEM) - _PROBLEM_MAY)
    require(not unknown, f"item {index}: the problem has an undocumented member {unknown[:1]}")
    code = str(node["code"])
    of_code = CODES.get(code, ("", "", None))[2]
    said = getattr(node["status"], "token", "")
    text = f"item {index}: {code} has status {of_code}, the item says {status}"
    require(str(of_code) == said == status, text)
    if status in ("429", "503"):
        wait = getattr(node.get("retry_after_ms"), "token", "")
        require(wait.isdecimal(), f"item {index}: {status} without retry_after_ms")
    return dict(node)
