"""Each wrong MAC, JSON reader and verifier dies on a published vector (sections 3 to 5).

A wrong reader is a change of the text before the right reader sees it: what it lets through.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from golden.oracle import ed25519, scanner
from golden.oracle.fault import Fault
from golden.oracle.suites import record as whole
from golden.oracle.suites import verify as verifying
from golden.tests.conftest import cases

Mac = Callable[[bytes, bytes], str]


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def unhashed(key: bytes, digest: bytes) -> bytes:
    """An HMAC by hand whose long key is cut instead of hashed."""
    block = key[:64].ljust(64, b"\0")
    inner = sha(bytes(b ^ 0x36 for b in block) + digest)
    return sha(bytes(b ^ 0x5C for b in block) + inner)


MACS: dict[str, Mac] = {
    "C01": lambda k, p: b64(mac(k, p)),
    "C02": lambda k, p: b64(mac(k, sha(p).hex().encode())),
    "C03": lambda k, p: b64(mac(k, base64.b64encode(sha(p)))),
    "C04": lambda k, p: base64.urlsafe_b64encode(mac(k, sha(p))).decode(),
    "C05": lambda k, p: b64(mac(k, sha(p))).rstrip("="),
    "C06": lambda k, p: base64.encodebytes(mac(k, sha(p))).decode(),
    "C07": lambda k, p: mac(k, sha(p)).hex(),
    "C08": lambda k, p: b64(mac(k, sha(sha(p)))),
    "C09": lambda k, p: b64(hmac.new(k, sha(p), "sha512_256").digest()),
    "C10": lambda k, p: b64(mac(k.strip(), sha(p))),
    "C11": lambda k, p: b64(mac(k[:64], sha(p))),
    "C12": lambda k, p: b64(unhashed(k, sha(p))),
    "C13": lambda k, p: b64(mac(k.decode("utf-8", "replace").encode(), sha(p))),
    "C14": lambda k, p: b64(mac(k.split(b"\0")[0], sha(p))),
    "C15": lambda k, p: b64(mac(sha(p), k)),
    "C16": lambda k, p: b64(sha(k + sha(p))),
}


def payload_of(args: dict[str, Any]) -> bytes:
    return bytes.fromhex(whole.run(whole.json_args(bytes.fromhex(args["json"])))["payload"])


@pytest.mark.parametrize("name", sorted(MACS))
def test_wrong_mac_is_killed(name: str) -> None:
    valid = [
        c for c in cases("hmac/hmac.json") if c["result"] == "valid" and c["args"]["sig_v"] == "1"
    ]
    killers = set()
    for case in valid:
        args = case["args"]
        # The payload of the record without the alg and kid that version 1 merely carries.
        if MACS[name](bytes.fromhex(args["key"]), payload_of(args)) != case["expect"]["sig"]:
            killers.add(case["id"])
    assert killers
    assert {c["id"] for c in valid if name in c.get("kills", ())} <= killers


def strict(data: bytes) -> bool:
    """Tell whether the right reader and the right rule take a text."""
    try:
        whole.run(whole.json_args(data))
    except Fault:
        return False
    return True


def pairs(first: bool) -> Callable[[bytes], bytes]:
    """Drop duplicates as a stock parser does; other texts stay as they are."""

    def hook(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(items)) if first else dict(items)

    def change(data: bytes) -> bytes:
        try:
            value = json.loads(
                data.decode("utf-8"),
                object_pairs_hook=hook,
                parse_float=Token,
                parse_int=Token,
                parse_constant=None,
            )
            return tokens(value).encode()
        except (ValueError, RecursionError, TypeError):
            return data

    return change


class Token(str):
    """A number token that is written back as it was read."""

    __slots__ = ()


def tokens(value: Any) -> str:
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{tokens(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(tokens(v) for v in value) + "]"
    return json.dumps(value)


def through_utf16(data: bytes) -> bytes:
    try:
        return data.decode(json.detect_encoding(data)).encode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        return data


def first_value(data: bytes) -> bytes:
    try:
        text = data.decode()
        return text[: json.JSONDecoder().raw_decode(text)[1]].encode()
    except (ValueError, RecursionError):
        return data


def filled(data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if not isinstance(value, dict) or len(value) < 4:
        return data
    zero = {
        "epoch": "0",
        "shard_id": '"s"',
        "pcs_id": '"' + "0" * 64 + '"',
        "merkle_root": '"' + "0" * 64 + '"',
    }
    missing = [m for m in ("D_hat", "budget", "coh_star", "r", *zero) if m not in value]
    return data[:-1] + "".join(f',"{m}":{zero.get(m, "0")}' for m in missing).encode() + b"}"


def stripped(data: bytes) -> bytes:
    try:
        return data.decode().strip().strip("\u200b").encode()
    except UnicodeDecodeError:
        return data


def regex(pattern: bytes, by: bytes) -> Callable[[bytes], bytes]:
    return lambda data: re.sub(pattern, by, data)


READERS: dict[str, Callable[[bytes], bytes]] = {
    "P01": pairs(first=False),
    "P02": pairs(first=True),
    "P03": regex(rb":-?(NaN|Infinity)\b", b":0"),
    "P04": lambda d: d.removeprefix(b"\xef\xbb\xbf"),
    "P05": through_utf16,
    "P06": lambda d: d.decode("utf-8", "replace").encode(),
    "P07": regex(rb"(?i)\\ud[89a-f][0-9a-f]{2}", rb"\\ufffd"),
    "P08": regex(rb'"epoch":1(\.0|[eE][0-9]+)', b'"epoch":1'),
    "P09": regex(rb'"epoch":-0', b'"epoch":0'),
    "P10": regex(rb":(true|false)\b", b":1"),
    "P11": regex(rb'"(r|epoch|D_hat|budget|coh_star)":"([^"]*)"', rb'"\1":\2'),
    "P12": regex(rb":null\b", b":0"),
    "P13": filled,
    "P14": lambda d: re.sub(
        rb'"(r|d_hat|epoch)"(?=:)',
        lambda m: {b"r": b'"r"', b"d_hat": b'"D_hat"', b"epoch": b'"epoch"'}[m[1].lower()],
        d,
        flags=re.IGNORECASE,
    ),
    "P15": first_value,
    "P19": stripped,
}


@pytest.mark.parametrize("name", sorted(READERS))
def test_wrong_reader_is_killed(name: str) -> None:
    change = READERS[name]
    found = [
        c for c in cases("reject/json.json") if strict(change(bytes.fromhex(c["args"]["json"])))
    ]
    assert [c["id"] for c in found]


def test_case_insensitive_names_overwrite_signed_members() -> None:
    """P14 also dies where it must not refuse: `"R":2` beside `r` is ignored by the rule."""
    record = [c for c in cases("record/record.json") if "P14" in c.get("kills", ())]
    assert record
    assert all(not strict(READERS["P14"](bytes.fromhex(c["args"]["json"]))) for c in record)


def test_digit_limit_of_the_stock_parser_is_killed() -> None:
    """P16: a parser that converts every integer token refuses what the rule ignores."""
    record = [c for c in cases("record/record.json") if "P16" in c.get("kills", ())]
    assert record
    for case in record:
        with pytest.raises(ValueError, match="digit"):
            json.loads(bytes.fromhex(case["args"]["json"]))


@pytest.mark.parametrize(("name", "limit"), [("P17", "DEPTH_MAX"), ("P18", "BYTES_MAX")])
def test_missing_limit_is_killed(name: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = [c for c in cases("reject/json.json") if name in c.get("kills", ())]
    assert marked
    assert not any(strict(bytes.fromhex(c["args"]["json"])) for c in marked)
    monkeypatch.setattr(scanner, limit, 10**6)
    assert all(strict(bytes.fromhex(c["args"]["json"])) for c in marked)


def lax(text: str) -> str:
    return b64(base64.b64decode(text, validate=False))


def validating(text: str) -> str:
    return b64(base64.b64decode(text, validate=True))


def go(text: str) -> str:
    return b64(base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True))


def node(text: str) -> str:
    kept = re.sub("[^A-Za-z0-9+/]", "", text.replace("-", "+").replace("_", "/").split("=")[0])
    return b64(base64.b64decode(kept + "=" * (-len(kept) % 4)))


def reduced(text: str) -> str:
    raw = base64.b64decode(text, validate=True)
    return (
        b64(raw[:32] + (int.from_bytes(raw[32:], "little") % ed25519.L).to_bytes(32, "little"))
        if len(raw) == 64
        else text
    )


VERIFIERS: dict[str, Callable[[str], str]] = {
    "W01": lax,
    "W02": validating,
    "W03": go,
    "W04": node,
    "W05": reduced,
}


def verified(args: dict[str, Any], change: Callable[[str], str]) -> bool:
    try:
        members = json.loads(bytes.fromhex(args["json"]), parse_float=Token, parse_int=Token)
        members["sig"] = change(members["sig"])
        verifying.run({**args, "json": tokens(members).encode().hex()})
    except (Fault, ValueError, KeyError, TypeError):
        return False
    return True


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_wrong_verifier_is_killed(name: str) -> None:
    refused = [
        c
        for c in cases("verify/verify.json")
        if c["result"] == "invalid" and ("base64" in c["id"] or "curve" in c["id"])
    ]
    killers = {c["id"] for c in refused if verified(c["args"], VERIFIERS[name])}
    assert killers
    assert {c["id"] for c in refused if name in c.get("kills", ())} <= killers


def test_wrong_version_2_rules_are_told_from_the_right_one() -> None:
    """Family E: each forged record is signed by one wrong rule, and its own signature differs."""
    forged = [
        c for c in cases("sig2/verify.json") if any(k.startswith("E") for k in c.get("kills", ()))
    ]
    assert len(forged) >= 14
    signatures = {json.loads(bytes.fromhex(c["args"]["json"]))["sig"] for c in forged}
    assert len(signatures) == len(forged)
    assert all(c["expect"] == {"code": "signature_invalid"} for c in forged)


def test_every_mutant_of_the_list_is_named_or_covered() -> None:
    """Count what these two files run: 13 + 14 + 21 + 11 + 21 + 16 + 19 + 5."""
    from golden.tests import test_mutants_values as values

    run: list[dict[str, Any]] = [
        values.TEXTS,
        values.STRINGS,
        values.STRUCTURES,
        values.FLOATS,
        values.EPOCHS,
        values.TEXT_DOMAINS,
        values.HEXES,
        MACS,
        READERS,
        VERIFIERS,
    ]
    assert sum(map(len, run)) + len({"P16", "P17", "P18"}) == 13 + 14 + 21 + 11 + 21 + 16 + 19 + 5
