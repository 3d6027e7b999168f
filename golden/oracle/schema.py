"""Check a whole record: the schema and the residual rules of `spec/formats.md` section 1."""

from __future__ import annotations

import re
from fractions import Fraction

from golden.oracle import canon, double
from golden.oracle.fault import Fault
from golden.oracle.scanner import Node, Number

INTEGER_MAX = 2**53 - 1
SKEW_MAX = 86_400_000
REQUIRED = (
    "schema",
    "version",
    "pcs_id",
    "merkle_root",
    "epoch",
    "shard_id",
    "attempt",
    "sent_at",
    "seed",
    "scales",
    "N_j",
    "v_star",
    "D_hat",
    "coh_star",
    "r",
    "regime",
    "budget",
    "ft",
)
OPTIONAL = ("sig", "sig_v", "alg", "kid", "tenant_id")
FT = ("outbox_seq", "degraded", "fallbacks", "clock_skew_ms")
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,9})?Z", re.ASCII)
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
NORM_SLACK = Fraction(1, 10**6)


def integer(node: Node, pointer: str, low: int, high: int = INTEGER_MAX) -> int:
    """Read a lexical integer (formats 1.4)."""
    if not isinstance(node, Number) or not node.is_integer or node.token == "-0":
        raise Fault("member_type", pointer)
    sign, magnitude = double.decimal(node.token)
    x = -magnitude.numerator if sign else magnitude.numerator
    if not low <= x <= high:
        raise Fault("number_out_of_range", pointer)
    return x


def string(node: Node, pointer: str, low: int, high: int) -> str:
    """Read a string of low to high bytes of UTF-8."""
    if not isinstance(node, str):
        raise Fault("member_type", pointer)
    if not low <= len(node.encode("utf-8")) <= high:
        raise Fault("string_length", pointer)
    return node


def closed(node: Node, pointer: str, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Refuse missing and unknown members (formats 1.1)."""
    if not isinstance(node, dict):
        raise Fault("member_type", pointer)
    for name in required:
        if name not in node:
            raise Fault("member_missing", f"{pointer}/{name}")
    for name in node:
        if name not in required and name not in optional:
            raise Fault("member_unknown", f"{pointer}/{name}")


def calendar(text: str) -> bool:
    """Tell whether a sent_at is a real time (formats 1.9)."""
    match = TIME.fullmatch(text)
    if match is None:
        return False
    year, month, day, hour, minute, second = (int(x) for x in match.groups()[:6])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        return False
    return year > 0 and 1 <= day <= MONTH_DAYS[month - 1] + (1 if month == 2 and leap else 0)


def array(node: Node, pointer: str, low: int, high: int) -> list[Node]:
    if not isinstance(node, list):
        raise Fault("member_type", pointer)
    if not low <= len(node) <= high:
        raise Fault("string_length", pointer)
    return node


def check_scales(record: dict[str, Node]) -> tuple[list[int], dict[int, int]]:
    """Read scales and N_j (formats 1.5, 1.6)."""
    nodes = array(record["scales"], "/scales", 2, 32)
    scales = [integer(n, f"/scales/{i}", 1, 2**31 - 1) for i, n in enumerate(nodes)]
    for i in range(1, len(scales)):
        if scales[i] <= scales[i - 1]:
            raise Fault("number_out_of_range", f"/scales/{i}")
    counts = record["N_j"]
    closed(counts, "/N_j", tuple(str(s) for s in scales), ())
    assert isinstance(counts, dict)
    return scales, {s: integer(counts[str(s)], f"/N_j/{s}", 1) for s in scales}


def check_direction(record: dict[str, Node]) -> int:
    """Check the norm of v_star exactly and give its length (formats 1.7)."""
    nodes = array(record["v_star"], "/v_star", 1, 2048)
    total = Fraction(0)
    for i, node in enumerate(nodes):
        if not isinstance(node, Number):
            raise Fault("member_type", f"/v_star/{i}")
        bits = double.token(node.token)
        if not double.is_finite(bits):
            raise Fault("number_out_of_range", f"/v_star/{i}")
        total += double.value(bits) ** 2
    if not (1 - NORM_SLACK) ** 2 <= total <= (1 + NORM_SLACK) ** 2:
        raise Fault("number_out_of_range", "/v_star")
    return len(nodes)


def check_ft(node: Node) -> None:
    """Check the delivery conditions (formats 1.10)."""
    closed(node, "/ft", FT, ())
    assert isinstance(node, dict)
    integer(node["outbox_seq"], "/ft/outbox_seq", 0)
    if not isinstance(node["degraded"], bool):
        raise Fault("member_type", "/ft/degraded")
    for i, text in enumerate(array(node["fallbacks"], "/ft/fallbacks", 0, 16)):
        string(text, f"/ft/fallbacks/{i}", 1, 64)
    integer(node["clock_skew_ms"], "/ft/clock_skew_ms", -SKEW_MAX, SKEW_MAX)


def check(record: dict[str, Node]) -> canon.Signed:
    """Check a record without its signature and identity."""
    closed(record, "", REQUIRED, OPTIONAL)
    for name, constant in (("schema", "fractal-lba-kakeya"), ("version", "0.1")):
        node = record[name]
        if not isinstance(node, str):
            raise Fault("member_type", "/" + name)
        if node != constant:
            raise Fault("schema_unsupported", "/" + name)
    eight = canon.signed(record)
    integer(record["attempt"], "/attempt", 1)
    integer(record["seed"], "/seed", 0)
    sent_at = record["sent_at"]
    if not isinstance(sent_at, str):
        raise Fault("member_type", "/sent_at")
    if not calendar(sent_at):
        raise Fault("member_type", "/sent_at")
    regime = record["regime"]
    if not isinstance(regime, str) or regime not in ("sticky", "mixed", "non_sticky"):
        raise Fault("member_type", "/regime")
    check_scales(record)
    check_direction(record)
    check_ft(record["ft"])
    for name in ("sig", "alg", "kid", "tenant_id"):
        if name in record and not isinstance(record[name], str):
            raise Fault("member_type", "/" + name)
    return eight
