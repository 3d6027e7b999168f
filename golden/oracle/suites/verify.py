"""Suite `verify`: what a verifier takes and refuses, version 1 and the choice of the key."""

from __future__ import annotations

import hashlib
from typing import Any

from golden.oracle import canon, double, ed25519, sign
from golden.oracle.base import BASE, FULL, LONG_KEY, TENANT, record
from golden.oracle.emit import Case, Flag, Suite
from golden.oracle.jcs import form
from golden.oracle.scanner import parse

FLAGS = {
    "Altered": Flag("A signed member was changed.", ("canonical 3.8(2)",)),
    "Base64": Flag("Another spelling of the signature.", ("canonical 3.8(3)",)),
    "Curve": Flag("Ed25519 encodings.", ("canonical 3.8(3)",)),
    "Equation": Flag("Cofactored or cofactorless verification.", ("canonical 3.8(5)",), "policy", "ed25519.equation"),
    "Good": Flag("A right signature.", ("canonical 3.8", "canonical 3.8(4)")),
    "KeyChoice": Flag("alg and kid are checked against the key record.", ("canonical 3.10(1)", "canonical 3.10(2)")),
    "NoKid": Flag("A version-1 record without kid.", ("canonical 3.10(3)",)),
    "OffGrid": Flag("A value that is not on the grid.", ("canonical 3.8(4)",), "policy", "verify.off_grid"),
    "SmallOrder": Flag("A public key of small order.", ("canonical 3.8(6)",), "policy", "ed25519.small_order_key"),
    "Strict": Flag("Strict mode refuses values off the grid.", ("canonical 3.8(4)",)),
    "Text": Flag("The JSON text and the domains count for a verifier too.", ("canonical 3.8(1)",)),
    "Version": Flag("The signature version.", ("canonical 3.10(4)", "canonical 4.5")),
}
SEED = bytes(range(32, 64))
OTHER_SEED = bytes(range(64, 96))
OTHER_KEY = bytes(range(100, 132))
# In no keyring here; a server knows it as revoked.
REVOKED_KEY = bytes(range(150, 182))
KEYRING = [
    {"kid": "k1", "alg": "HMAC", "key": LONG_KEY.hex(), "tenant": TENANT},
    {"kid": "k2", "alg": "Ed25519", "key": ed25519.public_key(SEED).hex(), "tenant": TENANT},
    {"kid": "k3", "alg": "HMAC", "key": OTHER_KEY.hex(), "tenant": "tenant-b"},
    {"kid": "k4", "alg": "Ed25519", "key": ed25519.public_key(OTHER_SEED).hex(), "tenant": TENANT},
]
SECRET = {"k1": ("HMAC", LONG_KEY), "k2": ("Ed25519", SEED), "k3": ("HMAC", OTHER_KEY), "k4": ("Ed25519", OTHER_SEED),
          "k5": ("HMAC", REVOKED_KEY)}


def run(args: dict[str, Any]) -> dict[str, Any]:
    keys = [sign.Key(k["kid"], k["alg"], bytes.fromhex(k["key"]), k["tenant"]) for k in args["keyring"]]
    values = sign.verify(
        bytes.fromhex(args["json"]), keys, v1_default_kid=args.get("v1_default_kid"),
        min_version=int(args.get("min_version", "1")), strict=args["strict"] == "true")
    return {"values": {m: double.hex16(values[m]) for m in canon.FLOATS}}


def arguments(data: bytes, strict: str = "false", **more: Any) -> dict[str, Any]:
    return {"json": data.hex(), "keyring": KEYRING, "strict": strict, **more}


def signed(kid: str, base: dict[str, str] = BASE, sig_v: int = 1, *, named: bool = True, tenant: str = TENANT) -> dict[str, str]:
    """Sign a record and give its members as JSON tokens."""
    alg, key = SECRET[kid]
    _, sent = sign.sign(parse(record(base)), alg, key, kid if named else None, sig_v, tenant if sig_v == 2 else None)
    return {name: form(node) for name, node in parse(sent).items()}


def sig_of(members: dict[str, str]) -> str:
    return members["sig"][1:-1]


def flip(members: dict[str, str], at: int) -> str:
    """Change one character of the signature into another of the alphabet."""
    text = sig_of(members)
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def quoted(text: str) -> str:
    return '"' + text + '"'


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def stray(text: str, pad: int) -> str:
    """Change the unused bits of the last character before the padding."""
    at = len(text) - pad - 1
    return text[:at] + ALPHABET[ALPHABET.index(text[at]) ^ 1] + text[at + 1 :]


def good(s: Suite) -> None:
    for kid in (entry["kid"] for entry in KEYRING):
        tenant = "tenant-b" if kid == "k3" else TENANT
        for sig_v in (1, 2):
            for name, base in {"base": BASE, "full": FULL, "zero": {**BASE, "r": "-0", "budget": "0"},
                               "top": {**BASE, "D_hat": "3.5", "coh_star": "1.05", "r": "1"},
                               "text": {**BASE, "shard_id": '"\\u2028<\U0001f600\\n"'}}.items():
                members = signed(kid, base, sig_v, tenant=tenant)
                s.add(f"verify/good-{kid}-v{sig_v}-{name}", "Good", arguments(record(members)))
    members = signed("k1")
    shuffled = dict(reversed(list(members.items())))
    s.add("verify/good-reordered", "Good", arguments(record(shuffled)))
    s.add("verify/good-spelling", "Good", arguments(record(members, r="25e-2", D_hat="1.250")))
    s.add("verify/good-extra", "Good", arguments(record(members, x='{"r":9}')))
    s.add("verify/good-escapes", "Good", arguments(record(members, shard_id='"\\u0073"')))
    s.add("verify/strict-on-grid", "Strict", arguments(record(members), "true"))
    s.add("verify/strict-minus-zero", "Strict",
          arguments(record(signed("k1", {**BASE, "r": "0"}), r="-0"), "true"))
    for name, change in {"ten-decimals": {"r": "0.25000000001"}, "next-double": {"r": "0.25000000000000006"},
                         "tiny": {"r": "0.2500000000000001"}, "d-hat": {"D_hat": "1.2500000001"}}.items():
        sent = record({**members, **change})
        s.add(f"verify/strict-{name}", "Strict", arguments(sent, "true"), code="number_out_of_range")
        values = run(arguments(sent))
        s.keep(Case(f"verify/off-grid-{name}", ("OffGrid",), arguments(sent), "acceptable",
                    {"accept": values, "reject": {"code": "number_out_of_range"}}))


def altered(s: Suite) -> None:
    for kid in ("k1", "k2"):
        members = signed(kid)
        for name, change in {"d-hat": {"D_hat": "1.250000001"}, "budget": {"budget": "0.125000001"}, "r": {"r": "0.250000001"},
                             "coh-star": {"coh_star": "0.499999999"}, "epoch": {"epoch": "2"}, "shard-id": {"shard_id": '"S"'},
                             "pcs-id": {"pcs_id": quoted("c" * 64)}, "merkle-root": {"merkle_root": quoted("c" * 64)}}.items():
            s.add(f"verify/altered-{kid}-{name}", "Altered", arguments(record({**members, **change})),
                  code="signature_invalid")
        for at in (0, 1, 20, 40):
            s.add(f"verify/altered-{kid}-sig-{at}", "Altered", arguments(record(members, sig=quoted(flip(members, at)))),
                  code="signature_invalid")


def spellings(s: Suite) -> None:
    for kid, pad in (("k1", 1), ("k2", 2)):
        # The record is varied until the signature holds + and /, so that every spelling differs.
        members = next(m for e in range(1, 2000) if "+" in sig_of(m := signed(kid, {**BASE, "epoch": str(e)})) and "/" in sig_of(m))
        text = sig_of(members)
        changes = {
            "leading-space": " " + text, "trailing-space": text + " ", "trailing-lf": text + "\\n", "trailing-crlf": text + "\\r\\n",
            "lf-within": text[:10] + "\\n" + text[10:], "bang": text[:5] + "!" + text[5:], "extra-pad": text + "=",
            "no-pad": text[:-pad], "url-safe": text.replace("+", "-").replace("/", "_"), "empty": "", "pad-only": "====",
            "stray-bits": stray(text, pad), "hex": "ab" * (32 if pad == 1 else 64), "twice": text + text,
            "short": text[4:], "long": "AAAA" + text, "pad-first": "=" + text[:-1], "nul": text + "\\u0000",
            "wide": "\uff21" + text[1:], "data-after-pad": text + "AAAA", "tab": "\\t" + text, "comma": text + ",",
        }
        kills = {"leading-space": ("W01",), "bang": ("W01", "W04"), "extra-pad": ("W01",), "stray-bits": ("W02", "W03"),
                 "trailing-lf": ("W01", "W03"), "url-safe": ("W04",), "no-pad": ("W04",)}
        for name, changed in changes.items():
            s.add(f"verify/base64-{kid}-{name}", "Base64", arguments(record(members, sig=quoted(changed))),
                  code="signature_malformed", kills=kills.get(name, ()))
        s.add(f"verify/base64-{kid}-upper", "Base64", arguments(record(members, sig=quoted(text.swapcase()))),
              code="signature_malformed" if sign_length(text.swapcase(), pad) else "signature_invalid")
        s.add(f"verify/missing-sig-{kid}", "Text", arguments(record(members, sig=None)), code="member_missing")
        for name, token in {"null": "null", "number": "1", "array": "[]"}.items():
            s.add(f"verify/sig-{name}-{kid}", "Text", arguments(record(members, sig=token)), code="member_type")


def sign_length(text: str, pad: int) -> bool:
    """Tell whether swapping the case left stray bits behind."""
    return ALPHABET.index(text[-pad - 1]) % (4 if pad == 1 else 16) != 0


def keys(s: Suite) -> None:
    one, two = signed("k1"), signed("k2")
    rows: dict[str, tuple[dict[str, str], str]] = {
        "kid-other": ({**one, "kid": '"k3"'}, "signature_invalid"),
        "kid-unknown": ({**one, "kid": '"k9"'}, "kid_unknown"),
        "kid-case": ({**one, "kid": '"K1"'}, "kid_unknown"),
        "kid-empty": ({**one, "kid": '""'}, "kid_unknown"),
        "kid-space": ({**one, "kid": '"k1 "'}, "kid_unknown"),
        "alg-none": ({**one, "alg": '"none"'}, "alg_mismatch"),
        "alg-other": ({**one, "alg": '"Ed25519"'}, "alg_mismatch"),
        "alg-hmac-for-ed25519": ({**two, "alg": '"HMAC"'}, "alg_mismatch"),
        "alg-lower": ({**one, "alg": '"hmac"'}, "alg_mismatch"),
        "alg-long": ({**one, "alg": '"HMAC-SHA256"'}, "alg_mismatch"),
        "alg-hs256": ({**one, "alg": '"HS256"'}, "alg_mismatch"),
        "alg-empty": ({**one, "alg": '""'}, "alg_mismatch"),
        "alg-eddsa": ({**two, "alg": '"EdDSA"'}, "alg_mismatch"),
        "alg-number": ({**one, "alg": "1"}, "member_type"), "alg-null": ({**one, "alg": "null"}, "member_type"),
        "kid-number": ({**one, "kid": "1"}, "member_type"), "kid-null": ({**one, "kid": "null"}, "member_type"),
        "kid-array": ({**one, "kid": '["k1"]'}, "member_type"),
    }
    for name, (members, code) in rows.items():
        s.add(f"verify/key-{name}", "KeyChoice", arguments(record(members)), code=code)
    # An HMAC made with the public key's bytes must not pass for an Ed25519 kid.
    public = bytes.fromhex(KEYRING[1]["key"])
    _, payload, _ = canon.payload(parse(record(BASE)), 1)
    forged = sign.base64_text(sign.signature("HMAC", public, payload))
    for name, alg in (("with-alg", '"HMAC"'), ("without-alg", None)):
        code = "alg_mismatch" if alg else "signature_malformed"
        data = record(BASE, kid='"k2"', sig=quoted(forged), alg=alg)
        s.add(f"verify/key-confusion-{name}", "KeyChoice", arguments(data), code=code)
    only_kid = {k: v for k, v in one.items() if k != "alg"}
    s.add("verify/key-without-alg", "KeyChoice", arguments(record(only_kid)))
    bare = {k: v for k, v in one.items() if k not in ("kid", "alg")}
    s.add("verify/no-kid", "NoKid", arguments(record(bare)), code="kid_unknown")
    s.add("verify/no-kid-default", "NoKid", arguments(record(bare), v1_default_kid="k1"))
    s.add("verify/no-kid-other-default", "NoKid", arguments(record(bare), v1_default_kid="k3"), code="signature_invalid")
    s.add("verify/no-kid-unknown-default", "NoKid", arguments(record(bare), v1_default_kid="k9"), code="kid_unknown")
    s.add("verify/kid-over-default", "NoKid", arguments(record(one), v1_default_kid="k3"))
    s.add("verify/no-kid-alg", "NoKid", arguments(record(bare, alg='"Ed25519"'), v1_default_kid="k1"), code="alg_mismatch")
    for name, token in {"1": "1", "0": "0", "3": "3", "point": "2.0", "exponent": "2e0", "text": '"2"', "null": "null",
                        "true": "true", "minus": "-2", "array": "[2]", "big": "2" * 400}.items():
        s.add(f"verify/version-{name}", "Version", arguments(record(one, sig_v=token)), code="sig_version_unsupported")
    s.add("verify/version-1-where-2", "Version", arguments(record(one), min_version="2"), code="sig_version_unsupported")
    s.add("verify/version-2-where-2", "Version", arguments(record(signed("k1", BASE, 2)), min_version="2"))
    s.add("verify/version-2-where-1", "Version", arguments(record(signed("k1", BASE, 2)), min_version="1"))
    s.add("verify/version-1-as-2", "Version", arguments(record(one, sig_v="2", tenant_id=quoted(TENANT))), code="signature_invalid")


def curve(s: Suite) -> None:
    members = signed("k2")
    raw = sign.decode_signature("Ed25519", sig_of(members))
    value = int.from_bytes(raw[32:], "little")

    def bad(name: str, changed: bytes, *kills: str) -> None:
        data = record(members, sig=quoted(sign.base64_text(changed)))
        s.add(f"verify/curve-{name}", "Curve", arguments(data), code="signature_invalid", kills=kills)

    for k in (1, 2, 3, 7):
        bad(f"s-plus-{k}l", raw[:32] + (value + k * ed25519.L).to_bytes(32, "little"), "W05")
    bad("s-is-l", raw[:32] + ed25519.L.to_bytes(32, "little"))
    bad("s-zero", raw[:32] + bytes(32))
    bad("s-ones", raw[:32] + b"\xff" * 32)
    bad("r-zero", bytes(32) + raw[32:])
    bad("r-sign", raw[:31] + bytes([raw[31] ^ 0x80]) + raw[32:])
    bad("r-above-p", (ed25519.P + 1).to_bytes(32, "little") + raw[32:])
    bad("swapped", raw[32:] + raw[:32])
    bad("all-zero", bytes(64))
    torsion = ed25519.decode(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"))
    assert torsion is not None
    scalar, prefix = ed25519.expand(SEED)
    eight, payload, _ = canon.payload(parse(record(BASE)), 1)
    message = hashlib.sha256(payload).digest()
    nonce = ed25519.digest(prefix, message, b"torsion")
    point = ed25519.encode(ed25519.add(ed25519.multiply(nonce, ed25519.BASE), torsion))
    total = nonce + ed25519.digest(point, ed25519.public_key(SEED), message) * scalar
    text = sign.base64_text(point + (total % ed25519.L).to_bytes(32, "little"))
    args = arguments(record(members, sig=quoted(text)))
    values = {"values": {m: double.hex16(canon.grid(eight.nanos[m])) for m in canon.FLOATS}}
    s.keep(Case("verify/curve-torsion-in-r", ("Equation",), args, "acceptable",
                {"cofactorless": {"code": "signature_invalid"}, "cofactored": values}))
    identity = (1).to_bytes(32, "little")
    ring = [{"kid": "k2", "alg": "Ed25519", "key": identity.hex(), "tenant": TENANT}]
    data = record(members, sig=quoted(sign.base64_text(identity + bytes(32))))
    s.keep(Case("verify/curve-small-order-key", ("SmallOrder",), {**arguments(data), "keyring": ring}, "acceptable",
                {"accept": values, "reject": {"code": "key_unusable"}}))


def texts(s: Suite) -> None:
    members = signed("k1")
    plain = record(members)
    for name, data, code in (
        ("bom", b"\xef\xbb\xbf" + plain, "json_malformed"), ("trailing", plain + b"x", "json_malformed"),
        ("duplicate", plain[:-1] + b',"r":0.25}', "member_duplicate"),
        ("duplicate-sig", plain[:-1] + b',"sig":"x"}', "member_duplicate"),
        ("nan", record(members, r="NaN"), "json_malformed"), ("empty", b"", "json_malformed"),
        ("range", record(members, r="1.1"), "number_out_of_range"), ("epoch", record(members, epoch="1.0"), "epoch_invalid"),
        ("hex", record(members, pcs_id=quoted("A" * 64)), "hex_invalid"), ("missing", record(members, r=None), "member_missing"),
        ("type", record(members, r='"0.25"'), "member_type"), ("surrogate", record(members, x='"\\ud800"'), "string_surrogate"),
        ("length", record(members, shard_id='""'), "string_length"),
    ):
        s.add(f"verify/text-{name}", "Text", arguments(data), code=code)


def suites() -> list[Suite]:
    s = Suite("verify/verify.json", "verify", "suites/verify.py", FLAGS, run)
    for part in (good, altered, spellings, keys, curve, texts):
        part(s)
    return [s]
