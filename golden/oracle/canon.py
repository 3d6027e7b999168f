"""The signing rule in exact integers: `spec/canonical.md` 3.1-3.5, 4 and 5.

Owner of the oracle's rounding: p = RN64(x * 10^9), n nearest to p with ties away from zero.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction

from golden.oracle import double, jcs
from golden.oracle.fault import Fault
from golden.oracle.scanner import Node, Number

FLOATS = ("D_hat", "budget", "coh_star", "r")
MEMBERS = ("D_hat", "budget", "coh_star", "epoch", "merkle_root", "pcs_id", "r", "shard_id")
# Largest double of each domain: 3.5, 1, RN64(1.05), 1.
BOUND = {
    "D_hat": 0x400C000000000000,
    "budget": 0x3FF0000000000000,
    "coh_star": 0x3FF0CCCCCCCCCCCD,
    "r": 0x3FF0000000000000,
}
EPOCH_MAX = 2**53 - 1
SHARD_BYTES_MAX = 256
GIGA = 10**9
# Members that say how a record was delivered or signed, not what it says (canonical 5.1).
NOT_CONTENT = ("attempt", "sent_at", "ft", "sig", "sig_v", "alg", "kid", "tenant_id")


def nano(bits: int) -> int:
    """Round x to n (3.2(3)-(4)); no range check."""
    product = double.value(double.nearest(double.value(bits) * GIGA))
    n = abs(product).__floor__()
    if abs(product) - n >= Fraction(1, 2):
        n += 1
    return -n if product < 0 else n


def number_text(n: int) -> str:
    """Write n * 10^-9 with integer operations alone (3.2(5))."""
    if n == 0:
        return "0"
    if n < 1000:
        digits = str(n)
        exponent = 10 - len(digits)
        digits = digits.rstrip("0")
        tail = "." + digits[1:] if len(digits) > 1 else ""
        return f"{digits[0]}{tail}e-{exponent}"
    whole, rest = divmod(n, GIGA)
    return str(whole) if rest == 0 else f"{whole}.{str(rest).rjust(9, '0').rstrip('0')}"


def grid(n: int) -> int:
    """Give the double RN64(n / 10^9), which the signer transmits (3.7)."""
    return double.nearest(Fraction(n, GIGA))


def check_float(member: str, bits: int) -> int:
    """Test the range before rounding, then round (3.2(2))."""
    if not double.is_finite(bits):
        raise Fault("number_not_finite", "/" + member)
    x = double.value(bits)
    if x < 0 or x > double.value(BOUND[member]):
        raise Fault("number_out_of_range", "/" + member)
    return nano(bits)


def check_epoch(token: str) -> int:
    """Test the lexical form and range of the epoch (3.3)."""
    plain = token.isascii() and token.isdigit() and (token == "0" or token[0] != "0")
    if not plain or len(token) > 16 or int(token) > EPOCH_MAX:
        raise Fault("epoch_invalid", "/epoch")
    return int(token)


def check_hex(member: str, text: str) -> None:
    if len(text) != 64 or any(c not in "0123456789abcdef" for c in text):
        raise Fault("hex_invalid", "/" + member)


def check_shard(text: str) -> None:
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise Fault("string_surrogate", "/shard_id")
    if not 1 <= len(text.encode("utf-8")) <= SHARD_BYTES_MAX:
        raise Fault("string_length", "/shard_id")


@dataclass(frozen=True, slots=True)
class Signed:
    """The eight signed members, checked and rounded."""

    nanos: dict[str, int]
    epoch: int
    merkle_root: str
    pcs_id: str
    shard_id: str

    def payload(self, body: str | None = None) -> bytes:
        """Give PCS-SIG-1 bytes, or PCS-SIG-2 bytes if a body digest is given (3.5, 4.1)."""
        text = {m: number_text(self.nanos[m]) for m in FLOATS}
        parts = [f'"D_hat":{text["D_hat"]}']
        if body is not None:
            parts.append(f'"body":"{body}"')
        parts += [
            f'"budget":{text["budget"]}',
            f'"coh_star":{text["coh_star"]}',
            f'"epoch":{self.epoch}',
            f'"merkle_root":"{self.merkle_root}"',
            f'"pcs_id":"{self.pcs_id}"',
            f'"r":{text["r"]}',
            f'"shard_id":{jcs.string(self.shard_id)}',
        ]
        if body is not None:
            parts.append('"sig_v":2')
        return ("{" + ",".join(parts) + "}").encode("utf-8")


def signed(record: dict[str, Node]) -> Signed:
    """Check and round the eight members of a scanned record (3.1)."""
    for member in MEMBERS:
        if member not in record:
            raise Fault("member_missing", "/" + member)
    nanos = {}
    for member in FLOATS:
        node = record[member]
        if not isinstance(node, Number):
            raise Fault("member_type", "/" + member)
        bits = double.token(node.token)
        if not double.is_finite(bits):
            raise Fault("number_out_of_range", "/" + member)
        nanos[member] = check_float(member, bits)
    epoch = record["epoch"]
    if not isinstance(epoch, Number):
        raise Fault("member_type", "/epoch")
    strings = {}
    for member in ("merkle_root", "pcs_id", "shard_id"):
        text = record[member]
        if not isinstance(text, str):
            raise Fault("member_type", "/" + member)
        strings[member] = text
    check_hex("merkle_root", strings["merkle_root"])
    check_hex("pcs_id", strings["pcs_id"])
    check_shard(strings["shard_id"])
    return Signed(nanos, check_epoch(epoch.token), **strings)


def rounded(record: dict[str, Node], nanos: dict[str, int]) -> dict[str, Node | jcs.Raw]:
    """Copy a record with the four floats as n * 10^-9."""
    return {k: jcs.Raw(number_text(nanos[k])) if k in nanos else v for k, v in record.items()}


def body_digest(record: dict[str, Node], nanos: dict[str, int]) -> str:
    """Hash the RFC 8785 form of the whole record without `sig` (4.2)."""
    rest = {k: v for k, v in rounded(record, nanos).items() if k != "sig"}
    return hashlib.sha256(jcs.document(rest)).hexdigest()


def content_digest(record: dict[str, Node], nanos: dict[str, int]) -> str:
    """Hash what a record says, without how it was delivered and signed (5.1)."""
    rest = {k: v for k, v in rounded(record, nanos).items() if k not in NOT_CONTENT}
    return hashlib.sha256(jcs.document(rest)).hexdigest()


def payload(record: dict[str, Node], sig_v: int) -> tuple[Signed, bytes, str | None]:
    """Give the checked members, the payload, and for version 2 the body digest."""
    eight = signed(record)
    body = body_digest(record, eight.nanos) if sig_v == 2 else None
    return eight, eight.payload(body), body


def derive_pcs_id(merkle_root: str, epoch: int, shard_id: str) -> str:
    """Hash `merkle_root|epoch|shard_id`."""
    return hashlib.sha256(f"{merkle_root}|{epoch}|{shard_id}".encode()).hexdigest()
