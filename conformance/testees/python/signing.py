"""Operations of canonical form, records, identity and signatures (`PROTOCOL.md` section 5)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from fractal_lba.canonical import SIGNED_FLOATS, canonicalize, jcs, parse, parse_value
from fractal_lba.ids import content_digest, derive_pcs_id
from fractal_lba.record import Record, check_record
from fractal_lba.sign import Ed25519Signer, HmacSigner, Key, Signer, sign, verify

Members = dict[str, Any]

EIGHT: Members = {
    "pcs_id": "a" * 64, "merkle_root": "b" * 64, "epoch": 1, "shard_id": "s",
    "D_hat": 1.25, "coh_star": 0.5, "r": 0.25, "budget": 0.125,
}  # fmt: skip
"""The signed members of a record, where a case is about one of them."""

REST: Members = {
    "schema": "fractal-lba-kakeya", "version": "0.1", "attempt": 1,
    "sent_at": "2026-01-15T12:00:00Z", "seed": 0, "scales": (2, 4), "N_j": {"2": 4, "4": 16},
    "v_star": (0.6, 0.8), "regime": "mixed",
}  # fmt: skip
"""What a typed record needs beside them."""


def double(bits: str) -> float:
    """Read a double from its bits."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    return float(value)


def bits(value: float) -> str:
    """Write a double as its bits."""
    return struct.pack(">d", value).hex()


def from_utf16(units: str) -> str:
    """Read a text from its code units."""
    return bytes.fromhex(units).decode("utf-16-be", "surrogatepass")


def number(args: Members) -> Members:
    """canon.number."""
    member = args["member"]
    seen = canonicalize({**EIGHT, member: double(args["f64"])}, sig_v=1)
    _, _, rest = seen.payload.partition(b'"%b":' % member.encode())
    return {"text": rest.partition(b",")[0].decode(), "nano": str(seen.nanos[member])}


def string(args: Members) -> Members:
    """canon.string."""
    seen = canonicalize({**EIGHT, "shard_id": from_utf16(args["utf16"])}, sig_v=1)
    return {"utf8": seen.payload.partition(b'"shard_id":')[2][:-1].hex()}


def record(args: Members) -> Members:
    """canon.record."""
    if args["entry"] == "typed":
        members: Mapping[str, Any] = Record(**REST, **typed(args["values"])).to_dict()
    else:
        members = parse(bytes.fromhex(args["json"]))
    version = int(args.get("sig_v", "1"))
    seen = canonicalize(members, sig_v=version)
    answer = {"payload": seen.payload.hex(), "sha256": seen.digest.hex()}
    return answer if version == 1 else {**answer, "body_sha256": seen.body}


def typed(values: Members) -> Members:
    """Read the eight members of a typed case."""
    return {
        **{name: double(values[name]) for name in SIGNED_FLOATS},
        **{name: from_utf16(values[name]) for name in ("pcs_id", "merkle_root", "shard_id")},
        "epoch": int(values["epoch"]),
    }


def record_parse(args: Members) -> Members:
    """record.parse."""
    check_record(parse(bytes.fromhex(args["json"])))
    return {}


def document(args: Members) -> Members:
    """jcs.document."""
    return {"utf8": jcs(parse_value(bytes.fromhex(args["json"]))).hex()}


def identity(args: Members) -> Members:
    """id.derive."""
    members = parse(bytes.fromhex(args["json"]))
    made = derive_pcs_id(members["merkle_root"], members["epoch"], members["shard_id"])
    return {"pcs_id": made, "content": content_digest(members)}


def signed(args: Members, signer: Signer) -> Members:
    """Sign a record."""
    members = parse(bytes.fromhex(args["json"]))
    made = sign(members, signer, sig_version=int(args["sig_v"]), tenant=args.get("tenant"))
    return {"sig": made.record["sig"], "record": made.body.hex()}


def sign_hmac(args: Members) -> Members:
    """sign.hmac."""
    short = args.get("allow_short_key") == "true"
    key = bytes.fromhex(args["key"])
    return signed(args, HmacSigner(key, kid=args.get("kid"), allow_short_key=short))


def sign_ed25519(args: Members) -> Members:
    """sign.ed25519."""
    return signed(args, Ed25519Signer(bytes.fromhex(args["seed"]), kid=args.get("kid")))


def key_of(given: Members) -> Key:
    """Read a key of a keyring; one that a case shows may be short."""
    key = bytes.fromhex(given["key"])
    return Key(given["kid"], given["alg"], key, given.get("tenant"), allow_short_key=True)


def verified(args: Members) -> Members:
    """Verify."""
    seen = verify(
        bytes.fromhex(args["json"]),
        {given["kid"]: key_of(given) for given in args["keyring"]},
        strict=args["strict"] == "true",
        v1_default_kid=args.get("v1_default_kid"),
        min_version=int(args.get("min_version", "1")),
    )
    return {"values": {name: bits(value) for name, value in seen.values.items()}}


OPS: dict[str, Callable[[Members], Members]] = {
    "canon.number": number,
    "canon.string": string,
    "canon.record": record,
    "record.parse": record_parse,
    "jcs.document": document,
    "id.derive": identity,
    "sign.hmac": sign_hmac,
    "sign.ed25519": sign_ed25519,
    "verify": verified,
}
