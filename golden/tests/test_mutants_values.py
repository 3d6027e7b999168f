"""Each wrong rounding, text, string, structure and domain check dies on a published vector.

The mutants are those of sections 1 and 2 of the mutant list, written the way people write them.
"""

from __future__ import annotations

import decimal
import json
import math
import re
import struct
import unicodedata
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from golden.tests.conftest import cases

HI = {"D_hat": 3.5, "budget": 1.0, "coh_star": 1.05, "r": 1.0}


def f64(text: str) -> float:
    x: float = struct.unpack(">d", bytes.fromhex(text))[0]
    return x


def right_n(x: float) -> int:
    p = x * 1e9
    f = math.floor(p)
    return f + (p - f >= 0.5)


def right_text(n: float) -> str:
    """Write n / 10^9 as the rule says; shortest text of Python, laid out as ECMAScript does."""
    return es(n / 1e9)


def es(x: float) -> str:
    if x == 0:
        return "0"
    digits, exponent = f"{decimal.Decimal(repr(x)).normalize():e}".lower().split("e")
    e = int(exponent)
    plain = digits.replace(".", "")
    if -7 < e < 21:
        if e < 0:
            return "0." + "0" * (-e - 1) + plain
        plain = plain.ljust(e + 1, "0")
        return plain[: e + 1] + ("." + plain[e + 1 :] if len(plain) > e + 1 else "")
    return f"{plain[0]}{'.' + plain[1:] if len(plain) > 1 else ''}e{e:+d}"


def quantized(x: decimal.Decimal, rounding: str) -> str:
    return es(float(x.quantize(decimal.Decimal("1e-9"), rounding=rounding)))


def fused(x: float) -> int:
    f = math.floor(x * 1e9)
    return f + (float(Fraction(x) * 10**9 - f) >= 0.5)


def f32(x: float) -> float:
    single: float = struct.unpack(">f", struct.pack(">f", x))[0]
    return single


def sub(pattern: str, by: str | Callable[[re.Match[str]], str]) -> Callable[[float], str]:
    return lambda x: re.sub(pattern, by, right_text(right_n(x)))


def exponent_below(limit: float) -> Callable[[float], str]:
    def text(x: float) -> str:
        value = right_n(x) / 1e9
        if value == 0 or value >= limit:
            return right_text(right_n(x))
        digits, exponent = f"{decimal.Decimal(repr(value)).normalize():e}".split("e")
        return f"{digits}e{int(exponent)}"

    return text


TEXTS: dict[str, Callable[[float], str]] = {
    "R01": lambda x: right_text(round(x * 1e9)),
    "R02": lambda x: es(round(x, 9)),
    "R03": lambda x: quantized(decimal.Decimal(x), decimal.ROUND_HALF_UP),
    "R04": lambda x: quantized(decimal.Decimal(str(x)), decimal.ROUND_HALF_UP),
    "R05": lambda x: right_text(math.floor(x * 1e9 + 0.5)),
    "R07": lambda x: right_text(fused(x)),
    "R08": lambda x: right_text(int(x * 1e9)),
    "R09": lambda x: right_text(math.ceil(x * 1e9)),
    "R10": lambda x: right_text(right_n(f32(x))),
    "R11": lambda x: es(right_n(x / 10) / 1e8),
    "R12": es,
    "R13": lambda x: right_text(math.floor(x / 1e-9) + (x / 1e-9 - math.floor(x / 1e-9) >= 0.5)),
    "R14": lambda x: es(right_n(x) * 1e-9),
    "N01": lambda x: f"{right_n(x) / 1e9:.9f}",
    "N02": sub(r"\A(\d+)\Z", r"\1.0"),
    "N03": lambda x: "-0" if math.copysign(1, x) < 0 else right_text(right_n(x)),
    "N04": sub(r"e-(\d)\Z", r"e-0\1"),
    "N05": exponent_below(1e-4),
    "N06": lambda x: f"{right_n(x) / 1e9:.9f}".rstrip("0").rstrip("."),
    "N07": exponent_below(1.0000001e-6),
    "N08": sub("e", "E"),
    "N09": lambda x: f"{right_n(x) / 1e9:.9g}" if x >= 1e-4 else right_text(right_n(x)),
    "N10": lambda x: f"{right_n(x) / 1e9:.17g}" if x >= 1e-4 else right_text(right_n(x)),
    "N11": lambda x: str(right_n(x)),
    "N12": lambda x: f'"{right_text(right_n(x))}"',
    "N13": sub(r"\A0\.", "."),
    "N14": lambda x: right_text(right_n(x)).rstrip("0"),
}


def differs(case: dict[str, Any], text: Callable[[float], str]) -> bool:
    expected: str = case["expect"]["text"]
    return text(f64(case["args"]["f64"])) != expected


def test_the_right_rule_in_floats_passes_every_number() -> None:
    for case in cases("number/number.json"):
        if case["result"] == "valid":
            assert not differs(case, lambda x: right_text(right_n(x))), case["id"]


def test_fused_floor_is_equivalent() -> None:
    """R06 cannot be killed: floor(fma(x, 1e9, 0.5)) equals the rule on the whole domain."""
    for case in cases("number/number.json"):
        if case["result"] == "valid":
            x = Fraction(f64(case["args"]["f64"]))
            total = x * 10**9 + Fraction(1, 2)
            assert math.floor(float(total)) == int(case["expect"]["nano"]), case["id"]


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_wrong_number_text_is_killed(name: str) -> None:
    valid = [c for c in cases("number/number.json") if c["result"] == "valid"]
    killers = {c["id"] for c in valid if differs(c, TEXTS[name])}
    assert killers
    assert {c["id"] for c in valid if name in c.get("kills", ())} <= killers


def quote(text: str, escape: Callable[[str], str | None] = lambda c: None) -> str:
    out = []
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    for char in text:
        code = ord(char)
        special = escape(char)
        out.append(
            special
            if special is not None
            else short.get(code) or (f"\\u{code:04x}" if code < 32 else char)
        )
    return '"' + "".join(out) + '"'


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def escaping(*ranges: tuple[int, int]) -> Callable[[str], bytes]:
    return lambda s: utf8(
        quote(s, lambda c: f"\\u{ord(c):04x}" if any(a <= ord(c) <= b for a, b in ranges) else None)
    )


def changed(change: Callable[[str], str]) -> Callable[[str], bytes]:
    return lambda s: utf8(quote(change(s)))


def units(char: str) -> list[int]:
    raw = char.encode("utf-16-be")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


STRINGS: dict[str, Callable[[str], bytes]] = {
    "S01": escaping((0x3C, 0x3C), (0x3E, 0x3E), (0x26, 0x26)),
    "S02": escaping((0x2028, 0x2029)),
    "S03": lambda s: json.dumps(s).encode(),
    "S04": lambda s: re.sub(rb"\\u00..", lambda m: m[0][:2] + m[0][2:].upper(), utf8(quote(s))),
    "S05": escaping((8, 8), (12, 12)),
    "S06": escaping((8, 10), (12, 13)),
    "S07": lambda s: utf8(quote(s, lambda c: "\\/" if c == "/" else None)),
    "S08": escaping((0x7F, 0x7F)),
    "S09": escaping((0x80, 0x9F)),
    "S10": changed(lambda s: unicodedata.normalize("NFC", s)),
    "S11": changed(lambda s: unicodedata.normalize("NFD", s)),
    "S12": changed(lambda s: unicodedata.normalize("NFKC", s)),
    "S13": changed(str.strip),
    "S14": changed(str.lower),
    "S15": lambda s: utf8(
        quote(s, lambda c: "".join(f"\\u{u:04x}" for u in units(c)) if ord(c) > 0xFFFF else None)
    ),
    "S16": lambda s: b"".join(chr(u).encode("utf-8", "surrogatepass") for u in units(quote(s))),
    "S17": changed(lambda s: s.split("\0")[0]),
    "S18": changed(lambda s: s.removeprefix("\ufeff")),
    "S19": lambda s: utf8('"' + s + '"'),
    "S20": lambda s: utf8(quote(s, lambda c: "\\'" if c == "'" else None)),
    "S21": lambda s: quote(s).encode("latin-1", "replace"),
}


@pytest.mark.parametrize("name", sorted(STRINGS))
def test_wrong_string_text_is_killed(name: str) -> None:
    valid = [c for c in cases("string/string.json") if c["result"] == "valid"]
    wrong = STRINGS[name]
    killers = {
        c["id"]
        for c in valid
        if wrong(bytes.fromhex(c["args"]["utf16"]).decode("utf-16-be")).hex() != c["expect"]["utf8"]
    }
    assert killers
    assert {c["id"] for c in valid if name in c.get("kills", ())} <= killers


def build(
    values: dict[str, Any],
    epoch: Callable[[int], str] = str,
    order: list[str] | None = None,
    comma: str = ",",
    colon: str = ":",
) -> bytes:
    texts = {m: right_text(right_n(f64(values[m]))) for m in HI}
    texts["epoch"] = epoch(int(values["epoch"]))
    for name in ("merkle_root", "pcs_id", "shard_id"):
        texts[name] = quote(bytes.fromhex(values[name]).decode("utf-16-be"))
    names = order or sorted(texts)
    return ("{" + comma.join(f'"{n}"{colon}{texts[n]}' for n in names) + "}").encode()


INSERTION = ["pcs_id", "merkle_root", "epoch", "shard_id", "D_hat", "coh_star", "r", "budget"]
STRUCTURES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "K01": lambda v: build(
        v, order=sorted([*HI, "epoch", "merkle_root", "pcs_id", "shard_id"], key=str.lower)
    ),
    "K02": lambda v: build(v, order=INSERTION),
    "K03": lambda v: build(v, comma=", ", colon=": "),
    "K04": lambda v: build(v) + b"\n",
    "K05": lambda v: b"\xef\xbb\xbf" + build(v),
    "K07": lambda v: build(v, epoch=lambda e: f"{e}.0"),
    "K08": lambda v: build(v, epoch=lambda e: f"{float(e):g}" if e >= 10**6 else str(e)),
    "K09": lambda v: build(v, epoch=lambda e: str((e + 2**31) % 2**32 - 2**31)),
    "K10": lambda v: build(v, epoch=lambda e: str(e % 2**32)),
    "K11": lambda v: build(v, epoch=lambda e: str(int(f32(float(e))))),
    "K12": lambda v: build(v)[:-1] + b',"version":1}',
}


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_wrong_structure_is_killed(name: str) -> None:
    typed = [c for c in cases("record/record.json") if c["args"]["entry"] == "typed"]
    assert all(build(c["args"]["values"]).hex() == c["expect"]["payload"] for c in typed)
    assert [
        c["id"]
        for c in typed
        if STRUCTURES[name](c["args"]["values"]).hex() != c["expect"]["payload"]
    ]


Accept = Callable[[str, Any], bool]


def right_float(member: str, x: float) -> bool:
    return 0 <= x <= HI[member]


FLOATS: dict[str, Callable[[str, float], bool]] = {
    "V01": lambda m, x: not (x < 0 or x > HI[m]),
    "V02": lambda m, x: 0 <= x < 10 and right_n(x) / 1e9 <= HI[m],
    "V03": lambda m, x: -1e-9 < x <= HI[m],
    "V04": lambda m, x: math.isfinite(x),
    "V05": lambda m, x: 0 <= x < HI[m],
    "V06": lambda m, x: right_float(m, x) and math.copysign(1, x) > 0,
    "V07": lambda m, x: 0 <= x <= (1 if m == "coh_star" else HI[m]),
    "V08": lambda m, x: 0 < x <= HI[m],
}


@pytest.mark.parametrize("name", sorted(FLOATS))
def test_wrong_float_domain_is_killed(name: str) -> None:
    all_cases = cases("number/number.json")
    for case in all_cases:
        args = case["args"]
        assert right_float(args["member"], f64(args["f64"])) == (case["result"] == "valid"), case[
            "id"
        ]
    killers = {
        c["id"]
        for c in all_cases
        if FLOATS[name](c["args"]["member"], f64(c["args"]["f64"])) != (c["result"] == "valid")
    }
    assert killers
    assert {c["id"] for c in all_cases if name in c.get("kills", ())} <= killers


EPOCHS: dict[str, Callable[[int], bool]] = {
    "V09": lambda e: 0 <= e <= 2**53,
    "V10": lambda e: 0 <= e < 2**64,
    "V11": lambda e: -(2**63) <= e < 2**53,
    "V12": lambda e: 0 < e < 2**53,
}


@pytest.mark.parametrize("name", sorted(EPOCHS))
def test_wrong_epoch_domain_is_killed(name: str) -> None:
    wrong = EPOCHS[name]
    typed = [
        c
        for c in [*cases("record/record.json"), *cases("reject/typed.json")]
        if c["args"]["entry"] == "typed"
    ]
    typed = [c for c in typed if c["result"] == "valid" or c["expect"]["code"] == "epoch_invalid"]
    assert all(
        (0 <= int(c["args"]["values"]["epoch"]) < 2**53) == (c["result"] == "valid") for c in typed
    )
    assert [
        c["id"]
        for c in typed
        if wrong(int(c["args"]["values"]["epoch"])) != (c["result"] == "valid")
    ]


def text16(hexed: str) -> str:
    return bytes.fromhex(hexed).decode("utf-16-be", "surrogatepass")


def whole(text: str) -> bool:
    return not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


TEXT_DOMAINS: dict[str, Callable[[str], bool]] = {
    "V13": lambda s: 1 <= length(s) <= 256,
    "V14": lambda s: whole(s) and 1 <= length(s) <= 256 and not any(ord(c) > 0xFFFF for c in s),
    "V15": lambda s: whole(s) and 1 <= len(s) <= 256,
    "V16": lambda s: whole(s) and 1 <= length(s) < 256,
    "V17": lambda s: whole(s) and length(s) <= 256,
}


@pytest.mark.parametrize("name", sorted(TEXT_DOMAINS))
def test_wrong_string_domain_is_killed(name: str) -> None:
    all_cases = cases("string/string.json")
    assert all(
        (whole(s := text16(c["args"]["utf16"])) and 1 <= length(s) <= 256)
        == (c["result"] == "valid")
        for c in all_cases
    )
    killers = {
        c["id"]
        for c in all_cases
        if TEXT_DOMAINS[name](text16(c["args"]["utf16"])) != (c["result"] == "valid")
    }
    assert killers
    assert {c["id"] for c in all_cases if name in c.get("kills", ())} <= killers


HEXES: dict[str, Callable[[str], bool]] = {
    "V18": lambda s: re.fullmatch("[0-9a-fA-F]{64}", s) is not None,
    "V19": lambda s: re.match("^[0-9a-f]{64}$", s) is not None,
    "V20": lambda s: len(s) == 64,
    "V21": lambda s: re.fullmatch(r"[\da-f]{64}", s) is not None,
}


def hex_texts() -> Iterator[tuple[str, bool]]:
    for case in cases("reject/typed.json"):
        for name in ("pcs_id", "merkle_root"):
            text = text16(case["args"]["values"][name])
            yield text, re.fullmatch("[0-9a-f]{64}", text, re.ASCII) is not None


@pytest.mark.parametrize("name", sorted(HEXES))
def test_wrong_hex_domain_is_killed(name: str) -> None:
    assert [text for text, good in hex_texts() if HEXES[name](text) != good]
