"""What a server answers to a submit or a batch: `spec/formats.md` 9.1, 9.3-9.6, 2 and 8."""

from __future__ import annotations

from typing import Any

from golden.oracle import canon, schema, sign, verdict
from golden.oracle.closed_codes import CODES
from golden.oracle.fault import Fault
from golden.oracle.scanner import parse

Headers = list[list[str]]
LINE_BYTES_MAX = 65_536
LINES_MAX = 1000


def header(headers: Headers, name: str) -> str | None:
    return next((v for k, v in headers if k.lower() == name), None)


def submit(args: dict[str, Any]) -> dict[str, str]:
    """Judge a request, or raise its fault."""
    headers, body = args["headers"], bytes.fromhex(args["body"])
    if (
        header(headers, "content-type") != "application/json"
        or header(headers, "content-encoding") is not None
    ):
        raise Fault("unsupported_media_type")
    record = parse(body)
    eight = schema.check(record)
    if "sig" not in record:
        raise Fault("member_missing", "/sig")
    sig_v = sign.version(record)
    if sig_v == 1 and "tenant_id" in record:
        raise Fault("member_unknown", "/tenant_id")
    if canon.derive_pcs_id(eight.merkle_root, eight.epoch, eight.shard_id) != eight.pcs_id:
        raise Fault("pcs_id_mismatch", "/pcs_id")
    named = header(headers, "x-tenant-id")
    tenant, entry = key_of(record, sig_v, args["tenants"], named)
    if sig_v < int(tenant["min_version"]):
        raise Fault("sig_version_unsupported", "/sig_v")
    key = sign.Key(entry["kid"], entry["alg"], bytes.fromhex(entry["key"]), tenant["id"])
    sign.verify(body, [key], v1_default_kid=entry["kid"])
    if named is not None and named != tenant["id"]:
        raise Fault("tenant_mismatch")
    scales, counts = schema.check_scales(record)
    claimed = record["regime"]
    assert isinstance(claimed, str)
    found = verdict.judge(
        scales, [counts[s] for s in scales], schema.check_direction(record), eight.nanos, claimed
    )
    return {**found, "pcs_id": eight.pcs_id}


def key_of(
    record: dict[str, Any], sig_v: int, tenants: list[dict[str, Any]], named: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Find the key record of a kid, or a tenant's default for version 1 (10.2)."""
    kid = sign.text_member(record, "kid")
    for tenant in tenants:
        wanted = (
            kid
            if kid is not None
            else tenant.get("v1_default_kid")
            if tenant["id"] == named
            else None
        )
        for entry in tenant["keys"]:
            if wanted is not None and entry["kid"] == wanted:
                if entry.get("status") == "revoked":
                    raise Fault("key_inactive", "/kid")
                return tenant, entry
    if sig_v == 2 and kid is None:
        raise Fault("member_missing", "/kid")
    raise Fault("kid_unknown", "/kid")


def status_of(code: str) -> str:
    status = CODES[code][2]
    assert status is not None
    return str(status)


def batch(args: dict[str, Any]) -> dict[str, Any]:
    """Judge each line of a batch on a server that has seen none of its ids before (8.1-8.4)."""
    headers = args["headers"]
    if header(headers, "content-type") != "application/x-ndjson":
        raise Fault("unsupported_media_type")
    if header(headers, "content-encoding") is not None:
        raise Fault("unsupported_media_type")
    lines = bytes.fromhex(args["body"]).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    seen: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    tenant: list[str] = []
    items: list[dict[str, Any]] = []
    for index, line in enumerate(lines):
        if len(line) > LINE_BYTES_MAX or index == LINES_MAX:
            items.append({"index": str(index), "status": "413", "code": "payload_too_large"})
            break
        try:
            found = batch_line(args, line, tenant, seen)
        except Fault as fault:
            found = {"status": status_of(fault.code), "code": fault.code}
        items.append({"index": str(index), **found})
    return {"status": "200", "items": items}


def batch_line(
    args: dict[str, Any],
    line: bytes,
    tenant: list[str],
    seen: dict[tuple[str, str], tuple[str, dict[str, Any]]],
) -> dict[str, Any]:
    """Judge one line: `tenant` is that of the first authentic line, `seen` what came before."""
    kept = [[k, v] for k, v in args["headers"] if k.lower() == "x-tenant-id"]
    one = {**args, "headers": [["Content-Type", "application/json"], *kept], "body": line.hex()}
    outcome = submit(one)
    record = parse(line)
    owner = str(record["tenant_id"]) if "tenant_id" in record else str(kept[0][1])
    if not tenant:
        tenant.append(owner)
    if tenant[0] != owner:
        raise Fault("tenant_mismatch")
    content = canon.content_digest(record, schema.check(record).nanos)
    before = seen.setdefault((owner, outcome["pcs_id"]), (content, outcome))
    if before[0] != content:
        raise Fault("pcs_id_conflict")
    is_first = before[1] is outcome
    return {**before[1], "replayed": "false" if is_first else "true"}
