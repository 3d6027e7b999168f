"""Requests and responses of an SDK: `spec/formats.md` section 12."""

from __future__ import annotations

import re
from typing import Any

from golden.oracle import canon, double, waiting
from golden.oracle.closed_codes import CODES, of_status
from golden.oracle.fault import Fault
from golden.oracle.scanner import Node, Number, parse_any

RESPONSE_BYTES_MAX = 2**20
RESPONSE_HEADERS_MAX = 100
LEVELS = ("durable", "replicated", "witnessed")
REFUSING = ("d_hat_out_of_tolerance", "coh_star_out_of_range", "n_j_implausible")
ACCEPTING = ("regime_mismatch", "budget_deviation")
MEMBERS = {
    "accepted",
    "escalated",
    "first_seen",
    "pcs_id",
    "policy_version",
    "recomputed_D_hat",
    "recomputed_budget",
}
POSITION = re.compile(
    r"([a-z0-9]{3})/([a-z0-9-]{1,64})/(0|[1-9][0-9]{0,9})/(0|[1-9][0-9]{0,15})", re.ASCII
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
Headers = list[list[str]]


def request(args: dict[str, Any]) -> dict[str, Any]:
    """Build a request (12.1-12.3)."""
    kind = args["request"]
    headers = {"accept": "application/json, application/problem+json", "user-agent": args["agent"]}
    if kind == "submit":
        headers |= {"content-type": "application/json", "idempotency-key": args["content"]}
    if kind in ("get", "status") and "token" in args:
        headers["authorization"] = "Bearer " + args["token"]
    if "tenant" in args:
        headers["x-tenant-id"] = args["tenant"]
    if "min_ack" in args:
        headers["pcs-min-ack"] = args["min_ack"]
    if int(args["attempt"]) > 1:
        headers["x-retry-attempt"] = str(int(args["attempt"]) - 1)
    path = {
        "submit": "/v1/pcs/submit",
        "get": f"/v1/pcs/{args.get('pcs_id')}",
        "health": "/health",
        "status": "/v1/region/status",
    }[kind]
    base = args["endpoint"]
    base = base.removesuffix("/")
    return {
        "method": "POST" if kind == "submit" else "GET",
        "url": base + path,
        "headers": [[k, headers[k]] for k in sorted(headers)],
        "body": args.get("body", ""),
    }


def header(headers: Headers, name: str) -> str | None:
    found = [v for k, v in headers if k.lower() == name]
    return ", ".join(found) if found else None


def members_of(body: bytes) -> dict[str, Node]:
    """Read a JSON object of the profile, or nothing (12.8)."""
    try:
        node = parse_any(body)
    except Fault:
        return {}
    return node if isinstance(node, dict) else {}


def bad() -> Fault:
    return Fault("response_malformed")


def text(members: dict[str, Node], name: str, pattern: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or re.fullmatch(pattern, value, re.ASCII) is None:
        raise bad()
    return value


def boolean(members: dict[str, Node], name: str) -> bool:
    value = members.get(name)
    if not isinstance(value, bool):
        raise bad()
    return value


def number(members: dict[str, Node], name: str, bound: int) -> str:
    value = members.get(name)
    if not isinstance(value, Number):
        raise bad()
    bits = double.token(value.token)
    if not double.is_finite(bits) or not 0 <= double.value(bits) <= double.value(bound):
        raise bad()
    return double.hex16(bits)


def outcome(members: dict[str, Node], pcs_id: str) -> dict[str, Any]:
    """Read an outcome strictly (12.4)."""
    if set(members) - {"reason"} != MEMBERS:
        raise bad()
    seen = members["first_seen"]
    if not isinstance(seen, dict) or set(seen) != {"region", "hlc"}:
        raise bad()
    accepted, escalated = boolean(members, "accepted"), boolean(members, "escalated")
    out: dict[str, Any] = {
        "accepted": "true" if accepted else "false",
        "escalated": "true" if escalated else "false",
        "first_seen": {
            "hlc": text(seen, "hlc", "[0-9a-f]{16}"),
            "region": text(seen, "region", "[a-z0-9]{3}"),
        },
        "pcs_id": text(members, "pcs_id", "[0-9a-f]{64}"),
        "policy_version": text(members, "policy_version", "[0-9a-f]{16}"),
        "recomputed_D_hat": number(members, "recomputed_D_hat", canon.BOUND["D_hat"]),
        "recomputed_budget": number(members, "recomputed_budget", canon.BOUND["budget"]),
    }
    reason = members.get("reason")
    fitting = {(True, False): (None,), (False, True): REFUSING, (True, True): ACCEPTING}.get(
        (accepted, escalated), ()
    )
    if reason not in fitting or ("reason" in members and reason is None) or out["pcs_id"] != pcs_id:
        raise bad()
    return out if reason is None else {**out, "reason": reason}


def request_id(headers: Headers, members: dict[str, Node]) -> dict[str, str]:
    for value in (header(headers, "x-request-id"), members.get("request_id")):
        if isinstance(value, str) and REQUEST_ID.fullmatch(value):
            return {"request_id": value}
    return {}


def response(args: dict[str, Any]) -> dict[str, Any]:
    """Read a response (12.4-12.7)."""
    status, headers, body = int(args["status"]), args["headers"], bytes.fromhex(args["body"])
    if len(headers) > RESPONSE_HEADERS_MAX or len(body) > RESPONSE_BYTES_MAX:
        raise Fault("response_too_large")
    if 400 <= status < 600:
        raise Fault(mapped(args)["code"])
    if status not in (200, 202):
        raise bad()
    members = members_of(body)
    out: dict[str, Any] = {"outcome": outcome(members, args["pcs_id"])}
    if args["request"] == "submit":
        replayed = header(headers, "idempotency-replayed") or "false"
        level = header(headers, "pcs-level") or "durable"
        place = header(headers, "pcs-position")
        if replayed not in ("true", "false") or level not in LEVELS:
            raise bad()
        out |= {"replayed": replayed, "level": level}
        for name, value in (("position", place), ("replicated", header(headers, "pcs-replicated"))):
            if value is not None:
                out[name] = position(value)
    return out | request_id(headers, {})


def position(value: str) -> dict[str, str]:
    match = POSITION.fullmatch(value)
    if match is None:
        raise bad()
    return dict(zip(("region", "placement", "region_epoch", "seq"), match.groups(), strict=True))


def mapped(args: dict[str, Any]) -> dict[str, Any]:
    """Turn an error response into the fields of an error (12.7-12.10)."""
    status, headers = int(args["status"]), args["headers"]
    members = members_of(bytes.fromhex(args["body"]))
    code = members.get("code")
    if not isinstance(code, str) or code not in CODES or CODES[code][2] is None:
        code = of_status(status)
    kind, fault, _ = CODES[code]
    out = {
        "class": kind,
        "code": code,
        "fault": fault,
        "retryable": "true" if status in waiting.RETRIED_STATUSES else "false",
    }
    out |= request_id(headers, members)
    pointer = members.get("pointer")
    if isinstance(pointer, str):
        out["pointer"] = pointer
    values = [v for k, v in headers if k.lower() == "retry-after"]
    waits = [waiting.after_ms(values, header(headers, "date"), int(args.get("now_ms", "0")))]
    told = members.get("retry_after_ms")
    if isinstance(told, Number) and told.is_integer and not told.token.startswith("-"):
        waits.append(min(int(told.token), waiting.MS_MAX))
    known = [ms for ms in waits if ms is not None]
    return {**out, "retry_after_ms": str(max(known))} if known else out
