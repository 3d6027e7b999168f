"""Draw epochs, keys, signatures and version-2 records."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any, Final

from .draw import Draw, Question
from .grammar_texts import BASE, FULL, KEY, TENANT, TYPED, changed, record_text, written
from .oracle import sign, verify

EPOCH_SEAMS: Final = (0, 1, 10**6, 16_777_217, 2**31, 2**32, 2**53, 2**63, 2**64, 10**21)


def epochs(draw: Draw) -> Question:
    """Epochs around the bounds of the types that hold them."""
    epoch = draw.pick(EPOCH_SEAMS) + draw.below(7) - 3
    if draw.one_in(4):
        epoch = draw.pick((-1, 0, 2**53 - 1, 2**53, 2**53 + 1))
    elif draw.one_in(4):
        epoch = draw.below(2 ** (1 + draw.below(56)))
    if draw.one_in(2):
        values = {**TYPED, "epoch": str(epoch)}
        return Question("canon.record", {"entry": "typed", "values": values})
    data = record_text(draw, epoch=str(epoch))
    return Question("canon.record", {"entry": "json", "json": data.hex(), "sig_v": "1"})


KEY_SIZES: Final = (1, 8, 31, 32, 33, 48, 63, 64, 65, 66, 131)


def keys(draw: Draw) -> Question:
    """Keys that somebody trims, cuts, decodes or ends at a NUL."""
    size = draw.pick(KEY_SIZES)
    key = bytearray(draw.data(size))
    way = draw.below(6)
    if way == 0:
        key[draw.below(size)] = 0
    elif way == 1:
        key = bytearray(33 + byte % 94 for byte in key)
        key[draw.pick((0, -1))] = draw.pick(b" \n\t\r")
    elif way == 2:
        key = bytearray(0x80 | byte for byte in key)
    elif way == 3:
        key = bytearray(33 + byte % 94 for byte in key)
    members: dict[str, str] = {"epoch": str(draw.below(10**6))}
    args: dict[str, Any] = {
        "json": record_text(draw, **members).hex(),
        "key": key.hex(),
        "sig_v": "1",
    }
    if size < 32:
        args["allow_short_key"] = "true"
    if draw.one_in(3):
        args |= {"sig_v": "2", "kid": "k1", "tenant": TENANT}
    elif draw.one_in(2):
        args["kid"] = "k1"
    return Question("sign.hmac", args)


TOKENS: Final = (
    "null", "true", "1", "-0", "1.0", "1e21", "1e-7", "0.1", '"<&>"', '"\\u2028"', '{"b":1,"a":2}',
    '[3,1,{"d":null,"c":[]}]', '"\\ud83d\\ude00"', "5e-324", "123456789012345680000.0", '"e\u0301"',
)  # fmt: skip
NAMES: Final = (
    "x",
    "a",
    "Z",
    "\u00e9",
    "\ue000",
    "\U0001f600",
    "1",
    "10",
    "9",
    "",
    "sig_",
    "D_hat2",
)
CARRIED: Final = {"sig_v": "2", "alg": '"HMAC"', "kid": '"k1"', "tenant_id": f'"{TENANT}"'}


def whole(draw: Draw) -> dict[str, str]:
    """Draw a record with more than the eight members."""
    base = FULL if draw.one_in(2) else BASE
    more = {draw.pick(NAMES): draw.pick(TOKENS) for _ in range(draw.below(3))}
    ulp = f"0.{draw.below(10**11):011d}"
    drawn = {draw.pick(("r", "coh_star", "budget")): ulp} if draw.one_in(2) else {}
    return {**base, **more, **drawn, "epoch": str(draw.below(2**40))}


def version_2(draw: Draw) -> Question:
    """Draw records whose body digest covers members of every kind."""
    members = whole(draw)
    way = draw.below(4)
    if way == 0:
        return Question("id.derive", {"json": record_text(draw, members).hex()})
    if way == 1:
        args = {"json": record_text(draw, members).hex(), "key": KEY, "sig_v": "2", "kid": "k1"}
        return Question("sign.hmac", {**args, "tenant": TENANT})
    data = record_text(
        draw, {**members, **CARRIED}, **({"sig": '"AAAA"'} if draw.one_in(3) else {})
    )
    return Question("canon.record", {"entry": "json", "json": data.hex(), "sig_v": "2"})


# --- verification ---------------------------------------------------------------------------


@cache
def signed(kid: str, sig_v: int, full: bool) -> dict[str, str]:
    """Sign a record once; an Ed25519 signature of the oracle takes milliseconds."""
    return verify.signed(kid, dict(FULL if full else BASE), sig_v)


def quoted(text: str) -> str:
    return f'"{text}"'


ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def respelled(draw: Draw, text: str) -> str:
    """Spell a signature in a way that lax decoders take, or change it."""
    pad = text.count("=")
    at = draw.below(len(text) - pad)
    last = len(text) - pad - 1
    return draw.pick(
        (
            f" {text}", f"{text} ", f"{text}\\n", f"{text}\\r\\n", f"{text[:at]}\\n{text[at:]}",
            f"{text[:at]}!{text[at:]}", f"{text}=", text[:-pad], f"{text[4:]}", f"AAAA{text}",
            text.replace("+", "-").replace("/", "_"), f"{text}AAAA", f"\\t{text}", f"{text}\\u0000",
            text[:last] + ALPHABET[ALPHABET.index(text[last]) ^ 1] + text[last + 1 :],
            text[:last] + ALPHABET[ALPHABET.index(text[last]) ^ 2] + text[last + 1 :],
            text[:at] + ALPHABET[ALPHABET.index(text[at]) ^ (1 << draw.below(6))] + text[at + 1 :],
            text.swapcase(), text[::-1], "", "====", f"{text[:at]}\uff21{text[at + 1 :]}",
        )
    )  # fmt: skip


CHANGES: Final[tuple[dict[str, str | None], ...]] = (
    {"r": "0.250000001"}, {"r": "25e-2"}, {"epoch": "2"}, {"shard_id": '"S"'},
    {"shard_id": '"\\u0073"'},
    {"pcs_id": quoted("c" * 64)}, {"coh_star": "0.5000000004"}, {"budget": "0.126"},
    {"kid": '"k9"'},
    {"kid": '"k3"'}, {"alg": '"none"'}, {"alg": '"HMAC"'}, {"alg": '"Ed25519"'}, {"kid": None},
    {"sig": None},
    {"alg": None}, {"sig_v": "2"}, {"sig_v": "1"}, {"sig_v": "2.0"}, {"sig_v": None},
    {"tenant_id": '"tenant-b"'},
    {"tenant_id": None}, {"x": "1"}, {"sig": "1"}, {"kid": "1"}, {"r": "1.1"}, {"seed": "1"},
    {"attempt": "2"}, {"ft": "null"}, {"sent_at": '"2026-01-15T12:00:01Z"'},
)  # fmt: skip


def verification(draw: Draw) -> Question:
    """Signed records with one thing changed."""
    kid = "k2" if draw.one_in(8) else "k1"
    sig_v = 1 + draw.below(2)
    members = dict(signed(kid, sig_v, full=draw.one_in(2)))
    way = draw.below(5) if kid == "k1" else draw.pick((0, 1, 2, 3, 3, 3))
    if way < 2:
        members["sig"] = quoted(respelled(draw, members["sig"][1:-1]))
    elif way == 2:
        members = changed(members, **draw.pick(CHANGES))
    elif kid == "k2":
        members["sig"] = quoted(beyond_order(draw, members["sig"][1:-1]))
    args: dict[str, Any] = {"json": written(members).encode().hex(), "keyring": verify.KEYRING}
    args["strict"] = "true" if draw.one_in(4) else "false"
    if draw.one_in(6):
        args["min_version"] = draw.pick(("1", "2")) if way == 4 else "1"
    if draw.one_in(6):
        args["v1_default_kid"] = draw.pick(("k1", "k2", "k9"))
    return Question("verify", args)


def beyond_order(draw: Draw, text: str) -> str:
    """Add a multiple of the order to S: the twin of a signature."""
    raw = base64.b64decode(text)
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(raw[32:], "little") + (1 + draw.below(3)) * order
    return sign.base64_text(raw[:32] + s.to_bytes(32, "little"))


def ed25519(draw: Draw) -> Question:
    """Sign with a seed, now and then of a wrong size."""
    size = draw.pick((32, 32, 32, 31, 33, 64, 0))
    args: dict[str, Any] = {
        "json": record_text(draw).hex(),
        "seed": draw.data(size).hex(),
        "sig_v": "1",
    }
    if draw.one_in(2):
        args |= {"sig_v": "2", "kid": "k2", "tenant": TENANT}
    return Question("sign.ed25519", args)


def material(draw: Draw) -> Question:
    """Epochs, keys, signatures with one byte or bit changed, version 2."""
    way = draw.below(100)
    if way < 25:
        return epochs(draw)
    if way < 50:
        return keys(draw)
    if way < 75:
        return version_2(draw)
    return verification(draw) if way < 98 else ed25519(draw)
