"""Suites `hmac` and `ed25519`: signatures, and the record that is sent."""

from __future__ import annotations

from typing import Any

from golden.oracle import ed25519, sign
from golden.oracle.base import BASE, FULL, KEY, LONG_KEY, TENANT, record
from golden.oracle.emit import Flag, Stream, Suite
from golden.oracle.fault import Fault
from golden.oracle.scanner import parse

# Fewer key bytes than this need the caller's explicit word (canonical 3.6(4)).
HMAC_KEY_BYTES_MIN = 32
SEED_BYTES = 32
FLAGS = {
    "KeyBytes": Flag("Keys are byte strings, used verbatim.", ("canonical 3.6(4)",)),
    "KeyUnusable": Flag("A key that does not fit its algorithm.", ("canonical 3.6(4)",)),
    "Mac": Flag("Digest, signature and base64.", ("canonical 3.6",)),
    "Sent": Flag("The record that is sent.", ("canonical 3.7", "canonical 4.3")),
}
SHORT = {"allow_short_key": "true"}


def run(alg: str) -> Any:
    def judge(args: dict[str, Any]) -> dict[str, Any]:
        key = bytes.fromhex(args["key" if alg == "HMAC" else "seed"])
        short = len(key) < HMAC_KEY_BYTES_MIN and "allow_short_key" not in args
        if short if alg == "HMAC" else len(key) != SEED_BYTES:
            raise Fault("key_unusable")
        text, sent = sign.sign(parse(bytes.fromhex(args["json"])), alg, key, args.get("kid"),
                               int(args["sig_v"]), args.get("tenant"))
        return {"sig": text, "record": sent.hex()}

    return judge


def arguments(data: bytes, name: str, key: bytes, sig_v: str = "1", kid: str | None = None,
              **more: str) -> dict[str, Any]:
    args: dict[str, Any] = {"json": data.hex(), name: key.hex(), "sig_v": sig_v}
    if kid is not None:
        args["kid"] = kid
    if sig_v == "2":
        args |= {"kid": kid or "k1", "tenant": TENANT}
    return {**args, **more}


VARIANTS: dict[str, dict[str, str]] = {
    "zero": {"r": "0", "budget": "-0"}, "off-grid": {"r": "0.1234567891", "D_hat": "1.9999999999"},
    "tie": {"r": "0.0009765625", "budget": "5e-10"}, "tiny": {"r": "1e-9", "budget": "1e-7"},
    "top": {"D_hat": "3.5", "coh_star": "1.05", "r": "1", "budget": "1"},
    "epoch": {"epoch": "9007199254740991"}, "text": {"shard_id": '"<\u00e9\u2028\U0001f600\\n>"'},
    "spelling": {"r": "25e-2", "D_hat": "1.250"}, "extra": {"x": '[1.50,{"b":1,"a":2}]'},
    "old-sig": {"sig": '"old"'}, "nul": {"shard_id": '"a\\u0000b"'},
}


def hmac_suite() -> Suite:
    s = Suite("hmac/hmac.json", "sign.hmac", "suites/hmac.py", FLAGS, run("HMAC"))
    plain = record(BASE)
    keys = {
        "empty": b"", "one": b"\x00", "testsecret": KEY, "31": b"k" * 31, "32": bytes(range(32)),
        "63": b"k" * 63, "64": b"k" * 64, "65": b"k" * 65, "131": b"\xaa" * 131, "nul-first": b"\x00" + b"k" * 31,
        "nul-within": b"abc\x00def" + b"k" * 32, "high": bytes(range(0x80, 0x100)), "newline": KEY + b"\n",
        "space": b" " + KEY, "crlf": b"k" * 40 + b"\r\n", "ff": b"\xff" * 32, "utf8-bom": b"\xef\xbb\xbf" + b"k" * 32,
        "ramp": bytes(range(256)), "zeros": b"\x00" * 64, "hex-text": b"00" * 32,
    }
    kills = {"newline": ("C10",), "space": ("C10",), "65": ("C11",), "131": ("C12",), "high": ("C13",),
             "ramp": ("C14",), "testsecret": ("C01", "C02", "C03", "C05", "C06", "C07", "C08", "C09", "C15", "C16"),
             }
    for name, key in keys.items():
        s.add(f"hmac/key-{name}", "KeyBytes", arguments(plain, "key", key, **SHORT), kills=kills.get(name, ()))
    for size in (0, 1, 10, 31):
        s.add(f"hmac/short-{size}", "KeyUnusable", arguments(plain, "key", b"k" * size), code="key_unusable")
    seed = record(BASE, D_hat="1.41", budget="0.42", coh_star="0.73", r="0.87", merkle_root='"' + "a" * 64 + '"', shard_id='"shard-001"', pcs_id='"a687cafc6f56b4da5a9854606076663877ea5e3660cd739af9147d0904665da2"')
    s.add("hmac/seed", "Mac", arguments(seed, "key", KEY, **SHORT), kills=("C04",))
    shared(s, "hmac", "key", LONG_KEY)
    return s


def shared(s: Suite, suite: str, name: str, key: bytes) -> None:
    for variant, members in VARIANTS.items():
        for sig_v in ("1", "2"):
            s.add(f"{suite}/v{sig_v}-{variant}", "Sent", arguments(record(BASE, **members), name, key, sig_v))
    for sig_v in ("1", "2"):
        s.add(f"{suite}/v{sig_v}-full", "Sent", arguments(record(FULL), name, key, sig_v))
        s.add(f"{suite}/v{sig_v}-kid", "Sent", arguments(record(FULL), name, key, sig_v, "key-2026.01"))
    draw = Stream(f"{suite}/drawn")
    for i in range(12):
        members = {"r": f"0.{draw.below(10**10):010d}", "epoch": str(draw.below(2**53)), "D_hat": f"{draw.below(3)}.{draw.below(10**9):09d}"}
        s.add(f"{suite}/drawn-{i}", "Mac", arguments(record(BASE, **members), name, key))


def ed25519_suite() -> Suite:
    s = Suite("ed25519/ed25519.json", "sign.ed25519", "suites/hmac.py", FLAGS, run("Ed25519"))
    plain = record(BASE)
    # The secret keys of RFC 8032 7.1, tests 1, 2, 3, 1024 and SHA(abc).
    for name, seed in {
        "rfc8032-1": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "rfc8032-2": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "rfc8032-3": "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "rfc8032-1024": "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
        "rfc8032-abc": "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "zeros": "00" * 32, "ones": "ff" * 32, "ramp": LONG_KEY.hex(), "high": bytes(range(0xE0, 0x100)).hex(),
    }.items():
        s.add(f"ed25519/seed-{name}", "KeyBytes", arguments(plain, "seed", bytes.fromhex(seed)))
        s.add(f"ed25519/seed-{name}-full", "Mac", arguments(record(FULL), "seed", bytes.fromhex(seed), "2"))
    for size in (0, 31, 33, 64):
        s.add(f"ed25519/seed-size-{size}", "KeyUnusable", arguments(plain, "seed", b"s" * size), code="key_unusable")
    shared(s, "ed25519", "seed", LONG_KEY)
    return s


def suites() -> list[Suite]:
    assert ed25519.public_key(bytes(32))[:2].hex() == "3b6a"
    return [hmac_suite(), ed25519_suite()]
