"""Sign as a day's work in Python looks: the right rounding, and `json` for everything else.

A real program, wrong on purpose: see family I of `list.toml`.
"""

import base64
import hashlib
import hmac
import json
import math
import platform
import re
import struct
import sys
from typing import Any

BOUNDS = {"D_hat": 3.5, "budget": 1.0, "coh_star": 1.05, "r": 1.0}
TEXTS = ("merkle_root", "pcs_id", "shard_id")
EIGHT: dict[str, Any] = {
    "pcs_id": "a" * 64, "merkle_root": "b" * 64, "epoch": 1, "shard_id": "s",
    "D_hat": 1.25, "coh_star": 0.5, "r": 0.25, "budget": 0.125,
}  # fmt: skip


class RefusedError(Exception):
    """Carries a code."""


def rounded(member: str, x: Any) -> float | int:
    if not isinstance(x, (int, float)):
        raise RefusedError("member_type")
    if not math.isfinite(x):
        raise RefusedError("number_not_finite")
    if not 0 <= x <= BOUNDS[member]:
        raise RefusedError("number_out_of_range")
    p = x * 1e9
    n = math.floor(p)
    value = (n + (p - n >= 0.5)) / 1e9
    return int(value) if value.is_integer() else value


def signed(record: dict[str, Any]) -> dict[str, Any]:
    for name in (*BOUNDS, "epoch", *TEXTS):
        if name not in record:
            raise RefusedError("member_missing")
    members: dict[str, Any] = {name: rounded(name, record[name]) for name in BOUNDS}
    epoch = record["epoch"]
    if not isinstance(epoch, int) or not 0 <= epoch < 2**53:
        raise RefusedError("epoch_invalid")
    for name in TEXTS:
        if not isinstance(record[name], str):
            raise RefusedError("member_type")
    for name in TEXTS[:2]:
        if not re.fullmatch("[0-9a-f]{64}", record[name]):
            raise RefusedError("hex_invalid")
    try:
        size = len(record["shard_id"].encode())
    except UnicodeEncodeError:
        raise RefusedError("string_surrogate") from None
    if not 1 <= size <= 256:
        raise RefusedError("string_length")
    return {**members, "epoch": epoch, **{name: record[name] for name in TEXTS}}


def dumps(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def payload(record: dict[str, Any], version: int) -> tuple[bytes, str]:
    members, body = signed(record), ""
    if version == 2:
        whole = {**record, **{name: members[name] for name in BOUNDS}}
        body = hashlib.sha256(dumps({k: v for k, v in whole.items() if k != "sig"})).hexdigest()
        members |= {"body": body, "sig_v": 2}
    return dumps(members), body


def loads(text: str) -> dict[str, Any]:
    data = bytes.fromhex(text)
    if len(data) > 65_536:
        raise RefusedError("payload_too_large")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise RefusedError("json_malformed") from None
    if not isinstance(value, dict):
        raise RefusedError("json_malformed")
    return value


def double(bits: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(bits))[0])


def from_utf16(units: str) -> str:
    return bytes.fromhex(units).decode("utf-16-be", "surrogatepass")


# --- operations -----------------------------------------------------------------------------


def number(args: dict[str, Any]) -> dict[str, Any]:
    value = rounded(args["member"], double(args["f64"]))
    return {"text": json.dumps(value), "nano": str(round(value * 1e9))}


def string(args: dict[str, Any]) -> dict[str, Any]:
    members = signed({**EIGHT, "shard_id": from_utf16(args["utf16"])})
    return {"utf8": dumps(members["shard_id"]).hex()}


def record(args: dict[str, Any]) -> dict[str, Any]:
    if args["entry"] == "typed":
        given = args["values"]
        members: dict[str, Any] = {name: double(given[name]) for name in BOUNDS}
        members |= {name: from_utf16(given[name]) for name in TEXTS}
        members["epoch"] = int(given["epoch"])
    else:
        members = loads(args["json"])
    version = int(args.get("sig_v", "1"))
    made, body = payload(members, version)
    answer = {"payload": made.hex(), "sha256": hashlib.sha256(made).hexdigest()}
    return answer if version == 1 else {**answer, "body_sha256": body}


def signature(key: bytes, made: bytes) -> bytes:
    return hmac.digest(key, hashlib.sha256(made).digest(), "sha256")


def sign(args: dict[str, Any]) -> dict[str, Any]:
    members, key = loads(args["json"]), bytes.fromhex(args["key"])
    if len(key) < 32 and "allow_short_key" not in args:
        raise RefusedError("key_unusable")
    if "kid" in args:
        members |= {"alg": "HMAC", "kid": args["kid"]}
    version = int(args["sig_v"])
    if version == 2:
        members |= {"sig_v": 2, "tenant_id": args["tenant"]}
    made, _ = payload(members, version)
    sig = base64.b64encode(signature(key, made)).decode()
    sent = {**members, **{name: rounded(name, members[name]) for name in BOUNDS}, "sig": sig}
    return {"sig": sig, "record": dumps(sent).hex()}


def verify(args: dict[str, Any]) -> dict[str, Any]:
    members = loads(args["json"])
    if "sig" not in members:
        raise RefusedError("member_missing")
    version = members.get("sig_v", 1)
    if version not in (1, 2) or version < int(args.get("min_version", "1")):
        raise RefusedError("sig_version_unsupported")
    wanted = members.get("kid", args.get("v1_default_kid"))
    key = next((each for each in args["keyring"] if each["kid"] == wanted), None)
    if key is None:
        raise RefusedError("kid_unknown")
    if key["alg"] != members.get("alg", key["alg"]):
        raise RefusedError("alg_mismatch")
    made, _ = payload(members, version)
    try:
        sig = base64.b64decode(members["sig"])
    except (ValueError, TypeError):
        raise RefusedError("signature_malformed") from None
    if not hmac.compare_digest(sig, signature(bytes.fromhex(key["key"]), made)):
        raise RefusedError("signature_invalid")
    values = {name: float(rounded(name, members[name])) for name in BOUNDS}
    return {"values": {name: struct.pack(">d", value).hex() for name, value in values.items()}}


OPS = {
    "canon.number": number, "canon.string": string, "canon.record": record, "sign.hmac": sign,
    "verify": verify,
}  # fmt: skip


def greeting() -> dict[str, Any]:
    return {
        "protocol": 1,
        "testee": {
            "name": "naive-python", "version": "0", "language": "python",
            "runtime": platform.python_version(), "os": platform.system().lower(),
        },
        "ops": list(OPS), "levels": ["core"], "in_flight": 64,
        "policies": {
            "verify.off_grid": "accept", "hmac.short_key": "reject",
            "ed25519.small_order_key": "reject", "ed25519.equation": "cofactorless",
        },
    }  # fmt: skip


def answer(message: dict[str, Any]) -> dict[str, Any]:
    if message["op"] not in OPS:
        return {"skip": {"reason": "not tried"}}
    try:
        return {"ok": OPS[message["op"]](message["args"])}
    except RefusedError as refused:
        return {"err": {"code": str(refused), "message": "refused"}}


def main() -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message["cmd"] == "bye":
            return
        said = (
            greeting() if message["cmd"] == "hello" else {"seq": message["seq"], **answer(message)}
        )
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
