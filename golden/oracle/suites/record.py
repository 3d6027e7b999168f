"""Suite `record`: whole version-1 payloads through both entries."""

from __future__ import annotations

import hashlib
from typing import Any

from golden.oracle import canon, double
from golden.oracle.base import BASE, FULL, record
from golden.oracle.emit import Flag, Stream, Suite, quote
from golden.oracle.fault import Fault
from golden.oracle.scanner import parse
from golden.oracle.suites.string import utf16

FLAGS = {
    "Epoch": Flag("Text and range of the epoch.", ("canonical 3.3",)),
    "Escape": Flag("JSON escapes in the input.", ("canonical 3.4(1)", "canonical 3.5")),
    "Extra": Flag("Members outside the eight.", ("canonical 3.9(5)",)),
    "NumberToken": Flag("Spellings of one number.", ("canonical 3.2(1)",)),
    "Order": Flag("Order of members and white space.", ("canonical 3.5",)),
    "Payload": Flag("The payload and its digest.", ("canonical 3.5", "canonical 3.6")),
    "Typed": Flag("The typed entry.", ("canonical 3.1", "canonical 3.3")),
}


def run(args: dict[str, Any]) -> dict[str, Any]:
    if args["entry"] == "typed":
        return result(typed(args["values"]), None)
    eight, _, body = canon.payload(parse(bytes.fromhex(args["json"])), int(args["sig_v"]))
    return result(eight, body)


def result(eight: canon.Signed, body: str | None) -> dict[str, Any]:
    payload = eight.payload(body)
    out = {"payload": payload.hex(), "sha256": hashlib.sha256(payload).hexdigest()}
    return out if body is None else {**out, "body_sha256": body}


def typed(values: dict[str, str]) -> canon.Signed:
    """Check a record that was never JSON: doubles as bits, strings as UTF-16."""
    nanos = {m: canon.check_float(m, int(values[m], 16)) for m in canon.FLOATS}
    strings = {}
    for member in ("merkle_root", "pcs_id", "shard_id"):
        try:
            strings[member] = bytes.fromhex(values[member]).decode("utf-16-be")
        except UnicodeDecodeError:
            raise Fault("string_surrogate", "/" + member) from None
    canon.check_hex("merkle_root", strings["merkle_root"])
    canon.check_hex("pcs_id", strings["pcs_id"])
    canon.check_shard(strings["shard_id"])
    return canon.Signed(nanos, canon.check_epoch(values["epoch"]), **strings)


def json_args(data: bytes, sig_v: str = "1") -> dict[str, Any]:
    return {"entry": "json", "json": data.hex(), "sig_v": sig_v}


TYPED = {
    "pcs_id": utf16("a" * 64), "merkle_root": utf16("b" * 64), "epoch": "1", "shard_id": utf16("s"),
    "D_hat": "3ff4000000000000", "coh_star": "3fe0000000000000",
    "r": "3fd0000000000000", "budget": "3fc0000000000000",
}


def typed_args(**changes: str) -> dict[str, Any]:
    return {"entry": "typed", "values": {**TYPED, **changes}}


EPOCHS = (0, 1, 9, 10, 255, 65535, 65536, 999999, 1000000, 10**7, 16777215, 16777216, 16777217,
          2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 10**15, 10**15 + 1,
          2**52, 2**52 + 1, 2**53 - 2, 2**53 - 1)
EPOCH_KILLS = {0: ("V12",), 1000000: ("K08",), 2**31: ("K09",), 2**32: ("K10",), 16777217: ("K11",)}
NUMBERS = {
    "1": "one", "1.0": "one-point", "1e0": "one-e0", "10e-1": "ten-e-1", "0.1e1": "tenth-e1",
    "1E0": "upper-e", "1e+0": "plus-e", "1e-0": "minus-e0", "0.00001e5": "shifted", "100e-2": "hundred",
    "0": "zero", "-0": "minus-zero", "-0.0": "minus-zero-point", "0e5": "zero-e5", "0.000": "zeros",
    "-0e-9": "minus-zero-e", "0.5": "half", "5e-1": "five-e-1", "0.50000000000000000000": "half-long",
    "1e-9": "nano", "1e-10": "tenth-nano", "5e-10": "half-nano", "1e-400": "underflow",
    "1e-999999999": "underflow-far", "0.1": "tenth", "0.1000000000000000055511151231257827": "tenth-exact",
    "0.99999999999999999999": "rounds-to-one", "0.999999999": "nines", "0.9999999995": "nines-tie",
    "0.123456789": "nine-digits", "0.1234567894": "ten-digits", "0.1234567895": "ten-digit-tie",
    "0.00005": "fifty-micro", "0.000001": "micro", "0.0000001": "tenth-micro", "0.0009765625": "tie-1024",
}


def suites() -> list[Suite]:
    s = Suite("record/record.json", "canon.record", "suites/record.py", FLAGS, run)

    def add(name: str, flag: str, args: dict[str, Any], **more: Any) -> None:
        s.add(f"record/{name}", flag, args, **more)

    plain = record(BASE)
    add("base", "Payload", json_args(plain), kills=("K01", "K02", "K03", "K04", "K05", "K07", "K12"))
    add("base-typed", "Typed", typed_args())
    add("full", "Extra", json_args(record(FULL)))
    seed_id = f'"{canon.derive_pcs_id("a" * 64, 1, "shard-001")}"'
    seed = {"D_hat": "1.41", "budget": "0.42", "coh_star": "0.73", "r": "0.87", "pcs_id": seed_id,
            "merkle_root": '"' + "a" * 64 + '"', "shard_id": '"shard-001"'}
    add("seed", "Payload", json_args(record(BASE, **seed)))
    for value in EPOCHS:
        add(f"epoch-{value}", "Epoch", json_args(record(BASE, epoch=str(value))),
            kills=EPOCH_KILLS.get(value, ()))
        add(f"epoch-typed-{value}", "Typed", typed_args(epoch=str(value)))
    for token, name in NUMBERS.items():
        add(f"number-{name}", "NumberToken", json_args(record(BASE, r=token)))
    for name, text in {"two-ways": '"\\u0041A"', "slash": '"\\/"', "pair": '"\\ud83d\\ude00"',
                       "short": '"\\b\\t\\n\\f\\r\\"\\\\"', "upper-hex": '"\\u00E9\\u001F"',
                       "nul": '"a\\u0000b"', "literal": '"\u00e9\U0001f600\u2028"', "bom": '"\\ufeffx"',
                       "noncharacter": '"\\uffff\\ufdd0"', "del": '"\x7f"', "html": '"<&>"'}.items():
        add(f"escape-{name}", "Escape", json_args(record(BASE, shard_id=text)))
    add("escape-name", "Escape", json_args(plain.replace(b'"r":', b'"\\u0072":')))
    names = list(BASE)
    for turn in range(1, 8):
        order = {k: BASE[k] for k in names[turn:] + names[:turn]}
        add(f"order-{turn}", "Order", json_args(record(order)))
    add("order-reversed", "Order", json_args(record(dict(reversed(list(BASE.items()))))))
    for name, gap in {"space": " ", "tab": "\t", "lf": "\n", "crlf": "\r\n"}.items():
        spaced = plain.decode().replace(":", gap + ":" + gap).replace(",", gap + "," + gap)
        add(f"space-{name}", "Order", json_args((gap + spaced + gap).encode()))
    extras(add)
    draw = Stream("record/drawn")
    for i in range(30):
        bits = {m: double.hex16(canon.grid(draw.below(10**9 + 1))) for m in canon.FLOATS}
        text = "".join(chr(draw.pick((0x22, 0x61, 0xE9, 0x2028, 0x1F600, 0x0A))) for _ in range(4))
        values = {**bits, "epoch": str(draw.below(2**53)), "shard_id": utf16(text)}
        add(f"typed-{i}", "Typed", typed_args(**values))
    long_shard = quote("\U0001f600" * 64)
    longest = {"D_hat": "1.234567891", "coh_star": "1.012345678", "budget": "0.123456789",
               "r": "0.123456789", "epoch": str(2**53 - 1), "shard_id": '"' + "\\u0001" * 256 + '"'}
    add("longest-payload", "Payload", json_args(record(BASE, **longest)))
    add("astral-64", "Payload", json_args(record(BASE, shard_id=long_shard)))
    return [s]


def extras(add: Any) -> None:
    """Members outside the eight are ignored, and their numbers are not evaluated."""
    deep = "[" * 31 + "]" * 31
    for name, text, kills in (
        ("upper-r", '"R":2', ("P14",)), ("lower-d-hat", '"d_hat":9', ("P14",)), ("null", '"x":null', ()),
        ("digits-5000", '"n":' + "9" * 5000, ("P16",)), ("exponent-400", '"n":1e400', ()),
        ("minus-infinite", '"n":-1e99999', ()), ("object", '"x":{"r":9,"epoch":"x"}', ()),
        ("array", '"x":[1,[2,{"y":[]}]]', ()), ("empty-name", '"":0', ()), ("sig", '"sig":"x"', ()),
        ("depth-32", '"x":' + deep, ()), ("true", '"x":true', ()), ("unicode-name", '"\u00e9":1', ()),
        ("space-name", '" r":7', ()), ("nul-name", '"r\\u0000":7', ()), ("proto", '"__proto__":{"r":1}', ()),
        ("same-name-below", '"x":{"r":1},"y":{"r":2}', ()), ("long-fraction", '"n":0.' + "1" * 4000, ()),
    ):
        data = record(BASE)[:-1] + ("," + text + "}").encode()
        add(f"extra-{name}", "Extra", json_args(data), kills=kills)
    room = 65_536 - len(record(BASE, x='""'))
    add("size-65536", "Extra", json_args(record(BASE, x='"' + "x" * room + '"')))
