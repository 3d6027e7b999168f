"""Entries for the vectors of canonical form, records, identity and signatures."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from fractal_lba import canonical
from fractal_lba.canonical import SIGNED_FLOATS, canonicalize, jcs, parse, parse_value, payload
from fractal_lba.errors import FractalLBAError
from fractal_lba.ids import check_pcs_id, content_digest, derive_pcs_id, idempotency_key
from fractal_lba.record import Record, check_record
from fractal_lba.sign import (
    Ed25519Signer,
    HmacSigner,
    Key,
    SignedRecord,
    Signer,
    check_signature,
    sign,
    verify,
)

# A record in every member that the eight-member vectors do not have.
WHOLE: Mapping[str, Any] = {
    "schema": "fractal-lba-kakeya",
    "version": "0.1",
    "attempt": 1,
    "sent_at": "2026-01-15T12:00:00Z",
    "seed": 0,
    "scales": (2, 4),
    "N_j": {"2": 4, "4": 16},
    "v_star": (0.6, 0.8),
    "regime": "mixed",
}

Answer = dict[str, Any]
Entry = Callable[[dict[str, Any]], Answer]


def double(bits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    return float(value)


def bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def from_utf16(units: str) -> str:
    return bytes.fromhex(units).decode("utf-16-be", "surrogatepass")


def small_record(**changes: Any) -> dict[str, Any]:
    """BASE of the mutant list, as values."""
    base = {
        "pcs_id": "a" * 64, "merkle_root": "b" * 64, "epoch": 1, "shard_id": "s",
        "D_hat": 1.25, "coh_star": 0.5, "r": 0.25, "budget": 0.125,
    }  # fmt: skip
    return {**base, **changes}


# --- canon ---------------------------------------------------------------------------------


def number_by_canonicalize(args: dict[str, Any]) -> Answer:
    member, x = args["member"], double(args["f64"])
    seen = canonicalize(small_record(**{member: x}), sig_v=1)
    name = f'"{member}":'.encode()
    text = seen.payload.split(name)[1].split(b",")[0].decode()
    assert seen.values[member] == seen.nanos[member] / 1e9
    return {"text": text, "nano": str(seen.nanos[member])}


def number_by_parts(args: dict[str, Any]) -> Answer:
    x = double(args["f64"])
    if not 0 <= x <= SIGNED_FLOATS[args["member"]]:
        return number_by_canonicalize(args)  # the parts do not judge the range
    n = canonical.nano(x)
    assert canonical.rounded(x) == n / 1e9
    return {"text": canonical.number_text(n), "nano": str(n)}


def number_by_record(args: dict[str, Any]) -> Answer:
    members = small_record(**{args["member"]: double(args["f64"])})
    record = Record(**{**WHOLE, **members})
    n = canonicalize(record.to_dict(), sig_v=1).nanos[args["member"]]
    return {"text": canonical.number_text(n), "nano": str(n)}


def number_by_jcs(args: dict[str, Any]) -> Answer:
    answer = number_by_canonicalize(args)
    on_grid = int(answer["nano"]) / 1e9
    assert jcs(on_grid).decode() == answer["text"]
    assert jcs([on_grid, on_grid]).decode() == f"[{answer['text']},{answer['text']}]"
    return answer


def string_by_canonicalize(args: dict[str, Any]) -> Answer:
    made = payload(small_record(shard_id=from_utf16(args["utf16"])))
    return {"utf8": made.split(b'"shard_id":')[1][:-1].hex()}


def string_by_record(args: dict[str, Any]) -> Answer:
    record = Record(**{**WHOLE, **small_record(shard_id=from_utf16(args["utf16"]))})
    made = payload(record.to_dict())
    return {"utf8": made.split(b'"shard_id":')[1][:-1].hex()}


def string_by_jcs(args: dict[str, Any]) -> Answer:
    answer = string_by_canonicalize(args)
    assert jcs(from_utf16(args["utf16"])).hex() == answer["utf8"]
    return answer


def canonical_answer(record: Mapping[str, Any], version: int) -> Answer:
    seen = canonicalize(record, sig_v=version)
    assert payload(record, sig_v=version) == seen.payload
    answer = {"payload": seen.payload.hex(), "sha256": seen.digest.hex()}
    return answer if version == 1 else {**answer, "body_sha256": seen.body}


def typed_values(args: dict[str, Any]) -> dict[str, Any]:
    values = args["values"]
    return {
        **{name: double(values[name]) for name in SIGNED_FLOATS},
        **{name: from_utf16(values[name]) for name in ("pcs_id", "merkle_root", "shard_id")},
        "epoch": int(values["epoch"]),
    }


def record_by_values(args: dict[str, Any]) -> Answer:
    if args["entry"] == "typed":
        return canonical_answer(typed_values(args), 1)
    return canonical_answer(parse(bytes.fromhex(args["json"])), int(args["sig_v"]))


def record_by_record(args: dict[str, Any]) -> Answer:
    if args["entry"] != "typed":
        return record_by_values(args)
    return canonical_answer(Record(**{**WHOLE, **typed_values(args)}).to_dict(), 1)


def record_by_sign(args: dict[str, Any]) -> Answer:
    """A signer sees the digest of the same payload."""
    if args["entry"] == "typed":
        record, version = typed_values(args), 1
    else:
        record, version = parse(bytes.fromhex(args["json"])), int(args["sig_v"])
    answer = canonical_answer(record, version)
    if version == 1 and can_travel(record):
        key = bytes(32)
        made = sign(record, HmacSigner(key), sig_version=1)
        digest = bytes.fromhex(answer["sha256"])
        check_signature("HMAC", key, digest, made.record["sig"])
    return answer


def can_travel(record: Mapping[str, Any]) -> bool:
    """Say whether the whole record has an RFC 8785 form; version 1 does not ask for one."""
    try:
        jcs(record)
    except FractalLBAError:
        return False
    return True


# --- record, jcs, id -----------------------------------------------------------------------


def parse_by_check(args: dict[str, Any]) -> Answer:
    check_record(parse(bytes.fromhex(args["json"])))
    return {}


def parse_by_record(args: dict[str, Any]) -> Answer:
    record = Record.from_json(bytes.fromhex(args["json"]))
    assert Record.from_dict(record.to_dict()) == record
    return {}


def jcs_by_document(args: dict[str, Any]) -> Answer:
    return {"utf8": jcs(parse_value(bytes.fromhex(args["json"]))).hex()}


def jcs_by_body(args: dict[str, Any]) -> Answer:
    """Inside a version-2 record a document has the same form, and the same faults."""
    value = parse_value(bytes.fromhex(args["json"]))
    whole = canonicalize(small_record(x=value), sig_v=2)
    text = whole.signed_text("s")
    start = text.index(b',"x":') + len(b',"x":')
    return {"utf8": text[start:-1].hex()}


def id_by_values(args: dict[str, Any]) -> Answer:
    record = parse(bytes.fromhex(args["json"]))
    made = derive_pcs_id(record["merkle_root"], record["epoch"], record["shard_id"])
    content = content_digest(record)
    assert idempotency_key(record) == content
    return {"pcs_id": made, "content": content}


def id_by_canonicalize(args: dict[str, Any]) -> Answer:
    record = parse(bytes.fromhex(args["json"]))
    answer = id_by_values(args)
    assert canonicalize(record, sig_v=1).content == answer["content"]
    if can_travel(record):
        assert canonicalize(record, sig_v=2).content == answer["content"]
        made = sign(record, HmacSigner(bytes(32), kid="any"), tenant="any")
        assert made.content == answer["content"]
    if record["pcs_id"] == answer["pcs_id"]:
        check_pcs_id(record)
    return answer


# --- sign, verify --------------------------------------------------------------------------


def hmac_signer(args: dict[str, Any]) -> Signer:
    short = args.get("allow_short_key") == "true"
    return HmacSigner(bytes.fromhex(args["key"]), kid=args.get("kid"), allow_short_key=short)


def ed25519_signer(args: dict[str, Any]) -> Signer:
    return Ed25519Signer(bytes.fromhex(args["seed"]), kid=args.get("kid"))


def signed_by(make: Callable[[dict[str, Any]], Signer]) -> Entry:
    def answer(args: dict[str, Any]) -> Answer:
        signer = make(args)
        record = parse(bytes.fromhex(args["json"]))
        before = jcs(record) if can_travel(record) else b""
        made = sign(record, signer, sig_version=int(args["sig_v"]), tenant=args.get("tenant"))
        assert not before or jcs(record) == before, "sign changed the caller's record"
        assert jcs(dict(made.record)) == made.body
        return {"sig": made.record["sig"], "record": made.body.hex()}

    return answer


def signed_as_record(make: Callable[[dict[str, Any]], Signer]) -> Entry:
    """The typed entry, where the record is a whole one; its bytes are the same."""

    def answer(args: dict[str, Any]) -> Answer:
        by_json = signed_by(make)(args)
        try:
            record = Record.from_json(bytes.fromhex(args["json"]))
        except FractalLBAError:
            return by_json  # eight members are no whole record
        made = sign(record, make(args), sig_version=int(args["sig_v"]), tenant=args.get("tenant"))
        assert SignedRecord.from_json(made.body).content == made.content
        return {"sig": made.record["sig"], "record": made.body.hex()}

    return answer


def verified(args: dict[str, Any]) -> Answer:
    ring = {
        key["kid"]: Key(
            key["kid"], key["alg"], bytes.fromhex(key["key"]), key.get("tenant"),
            allow_short_key=True,
        )
        for key in args["keyring"]
    }  # fmt: skip
    seen = verify(
        bytes.fromhex(args["json"]),
        ring,
        strict=args["strict"] == "true",
        v1_default_kid=args.get("v1_default_kid"),
        min_version=int(args.get("min_version", "1")),
    )
    for name, value in seen.values.items():
        assert bits(seen.record[name]) == bits(value), "the record keeps what was not signed"
    return {"values": {name: bits(value) for name, value in seen.values.items()}}


ENTRIES: dict[str, tuple[Entry, ...]] = {
    "canon.number": (number_by_canonicalize, number_by_parts, number_by_record, number_by_jcs),
    "canon.string": (string_by_canonicalize, string_by_record, string_by_jcs),
    "canon.record": (record_by_values, record_by_record, record_by_sign),
    "record.parse": (parse_by_check, parse_by_record),
    "jcs.document": (jcs_by_document, jcs_by_body),
    "id.derive": (id_by_values, id_by_canonicalize),
    "sign.hmac": (signed_by(hmac_signer), signed_as_record(hmac_signer)),
    "sign.ed25519": (signed_by(ed25519_signer), signed_as_record(ed25519_signer)),
    "verify": (verified,),
}
