"""Sign and verify records: `spec/canonical.md` 3.6-3.8, 3.10 and 4."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from golden.oracle import canon, double, ed25519
from golden.oracle.fault import Fault
from golden.oracle.jcs import document
from golden.oracle.scanner import Node, Number, parse

SIG_BYTES = {"HMAC": 32, "Ed25519": 64}
VERSION_2_MEMBERS = ("alg", "kid", "tenant_id")


@dataclass(frozen=True, slots=True)
class Key:
    kid: str
    alg: str
    key: bytes
    tenant: str


def base64_text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def signature(alg: str, key: bytes, payload: bytes) -> bytes:
    """Sign the digest of a payload (3.6); an Ed25519 key is its 32-byte seed."""
    digest = hashlib.sha256(payload).digest()
    if alg == "HMAC":
        return hmac.new(key, digest, hashlib.sha256).digest()
    return ed25519.sign(key, digest)


def sign(
    record: dict[str, Node], alg: str, key: bytes, kid: str | None, sig_v: int, tenant: str | None
) -> tuple[str, bytes]:
    """Give the signature text and the RFC 8785 bytes of the transmitted record (3.7, 4.3)."""
    carried: dict[str, Node] = dict(record)
    if kid is not None:
        carried |= {"alg": alg, "kid": kid}
    if sig_v == 2:
        carried |= {"sig_v": Number("2"), "tenant_id": tenant}
    eight, payload, _ = canon.payload(carried, sig_v)
    sig = base64_text(signature(alg, key, payload))
    sent = canon.rounded(carried, eight.nanos) | {"sig": sig}
    return sig, document(sent)


def version(record: dict[str, Node]) -> int:
    """Read the signature version (4.5)."""
    if "sig_v" not in record:
        return 1
    node = record["sig_v"]
    if not isinstance(node, Number) or node.token != "2":
        raise Fault("sig_version_unsupported", "/sig_v")
    return 2


def text_member(record: dict[str, Node], name: str) -> str | None:
    """Read an optional string member."""
    if name not in record:
        return None
    node = record[name]
    if not isinstance(node, str):
        raise Fault("member_type", "/" + name)
    return node


def key_of(record: dict[str, Node], sig_v: int, keys: list[Key], v1_default_kid: str | None) -> Key:
    """Choose the key record, never by trial (3.10)."""
    if sig_v == 2:
        for name in VERSION_2_MEMBERS:
            if name not in record:
                raise Fault("member_missing", "/" + name)
    alg, kid, tenant = (text_member(record, n) for n in ("alg", "kid", "tenant_id"))
    wanted = kid if kid is not None else v1_default_kid
    found = [key for key in keys if key.kid == wanted]
    if wanted is None or not found:
        raise Fault("kid_unknown", "/kid")
    if alg is not None and alg != found[0].alg:
        raise Fault("alg_mismatch", "/alg")
    if tenant is not None and tenant != found[0].tenant:
        raise Fault("tenant_mismatch", "/tenant_id")
    return found[0]


def decode_signature(alg: str, text: str) -> bytes:
    """Decode base64 that re-encodes to itself and has the length of the algorithm (3.8(3))."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise Fault("signature_malformed", "/sig") from None
    if base64_text(raw) != text or len(raw) != SIG_BYTES[alg]:
        raise Fault("signature_malformed", "/sig")
    return raw


def verify(
    data: bytes,
    keys: list[Key],
    *,
    v1_default_kid: str | None = None,
    min_version: int = 1,
    strict: bool = False,
) -> dict[str, int]:
    """Give the four rounded values as doubles, or raise the fault (3.8).

    An Ed25519 key record holds the 32-byte public key.
    """
    record = parse(data)
    if "sig" not in record:
        raise Fault("member_missing", "/sig")
    sig_v = version(record)
    if sig_v < min_version:
        raise Fault("sig_version_unsupported", "/sig_v")
    key = key_of(record, sig_v, keys, v1_default_kid)
    eight, payload, _ = canon.payload(record, sig_v)
    sig = text_member(record, "sig")
    assert sig is not None
    raw = decode_signature(key.alg, sig)
    digest = hashlib.sha256(payload).digest()
    if key.alg == "HMAC":
        good = hmac.compare_digest(hmac.new(key.key, digest, hashlib.sha256).digest(), raw)
    else:
        good = ed25519.verify(key.key, digest, raw)
    if not good:
        raise Fault("signature_invalid", "/sig")
    values = {m: canon.grid(eight.nanos[m]) for m in canon.FLOATS}
    if strict:
        for member in canon.FLOATS:
            node = record[member]
            assert isinstance(node, Number)
            if double.token(node.token) & ~double.SIGN != values[member]:
                raise Fault("number_out_of_range", "/" + member)
    return values
