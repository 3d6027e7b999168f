"""Suite `reject`: texts and values that no implementation may take.

Three files: the signing entry on the eight members, the typed entry, and the record entry on the
full record. Every case has one fault.
"""

from __future__ import annotations

from typing import Any

from golden.oracle import schema
from golden.oracle.base import BASE, FULL, record
from golden.oracle.emit import Flag, Suite
from golden.oracle.scanner import parse
from golden.oracle.suites import record as whole
from golden.oracle.suites.string import utf16

FLAGS = {
    "Bytes": Flag("Not one UTF-8 text without BOM.", ("canonical 3.9(1)",)),
    "Domain": Flag("A value outside its domain.", ("canonical 3.1", "canonical 3.2(2)")),
    "Duplicate": Flag("A member named twice.", ("canonical 3.9(3)",)),
    "Epoch": Flag("An epoch that is not a lexical integer in range.", ("canonical 3.3",)),
    "Grammar": Flag("Not RFC 8259 JSON.", ("canonical 3.9(2)", "canonical 3.9(4)")),
    "Limit": Flag("Past a limit of size or depth.", ("canonical 3.9(1)", "canonical 3.9(2)")),
    "Missing": Flag("A signed member is absent.", ("canonical 3.1",)),
    "Surrogate": Flag("An unpaired surrogate.", ("canonical 3.4(1)", "canonical 3.9(3)")),
    "Type": Flag("A member with another JSON type.", ("canonical 3.1",)),
}
TYPED_FLAGS = {name: FLAGS[name] for name in ("Domain", "Epoch", "Surrogate")}
RECORD_FLAGS = {
    "Closed": Flag("A record has no other members.", ("formats 1.1",)),
    "Constant": Flag("schema and version are constants.", ("formats 1.2",)),
    "Integer": Flag("Integers are lexical and bounded.", ("formats 1.4",)),
    "Scales": Flag("Scales and N_j.", ("formats 1.5", "formats 1.6")),
    "Direction": Flag("The direction v_star.", ("formats 1.7",)),
    "Time": Flag("sent_at is a real time.", ("formats 1.9",)),
    "Delivery": Flag("The member ft.", ("formats 1.10",)),
    "Regime": Flag("regime is one of three texts.", ("formats 1.8",)),
    "Control": Flag("A neighbour that is valid.", ("formats 1.1",)),
}


def hex_string(text: str) -> str:
    return '"' + text + '"'


def texts(s: Suite) -> None:
    plain = record(BASE)

    def bad(name: str, flag: str, data: bytes, code: str = "json_malformed", *kills: str) -> None:
        s.add(f"reject/json/{name}", flag, whole.json_args(data), code=code, kills=kills)

    def change(name: str, flag: str, code: str, *kills: str, **members: str | None) -> None:
        bad(name, flag, record(BASE, **members), code, *kills)

    for member in BASE:
        slug = member.lower().replace("_", "-")
        change(f"missing-{slug}", "Missing", "member_missing", "P13", **{member: None})
        kinds = {"null": ("null", "P12"), "true": ("true", "P10"), "false": ("false", "P10"),
                 "array": ("[1]", ""), "object": ("{}", ""), "empty-array": ("[]", "")}
        if member in ("pcs_id", "merkle_root", "shard_id"):
            kinds["number"] = ("1", "")
        else:
            kinds["string"] = ('"0.5"' if member != "epoch" else '"1"', "P11")
        for kind, (text, kill) in kinds.items():
            is_number = member not in ("pcs_id", "merkle_root", "shard_id")
            change(f"type-{slug}-{kind}", "Type", "member_type", *((kill,) if kill and is_number else ()),
                   **{member: text})
    change("case-d-hat", "Missing", "member_missing", "P14", D_hat=None, d_hat="1.25")
    change("case-epoch", "Missing", "member_missing", "P14", epoch=None, Epoch="1")
    duplicates(bad, plain)
    grammar(bad, plain)
    for text, name in (("1.0", "point"), ("1e3", "exponent"), ("1E0", "upper-exponent"), ("-1", "minus"),
                       ("1.5", "fraction"), ("9007199254740992", "2-53"), ("0.0", "zero-point"),
                       ("9007199254740993", "2-53-1"), ("18446744073709551616", "2-64"),
                       ("9" * 400, "400-digits"), ("9" * 5000, "5000-digits"), ("1e-1", "tenth")):
        kills = {"point": ("P08",), "exponent": ("P08",), "2-53": ("V09",), "2-53-1": ("V10",),
                "minus": ("V11",)}.get(name, ())
        change(f"epoch-{name}", "Epoch", "epoch_invalid", *kills, epoch=text)
    change("epoch-minus-zero", "Epoch", "epoch_invalid", "P09", epoch="-0")
    domains(change)
    surrogates(bad, change)
    limits(bad, plain)


def duplicates(bad: Any, plain: bytes) -> None:
    for name, data in {
        "r-same": plain[:-1] + b',"r":0.25}', "r-other": b'{"r":0.9,' + plain[1:],
        "first-last": b'{"pcs_id":1,' + plain[1:], "shard-id": plain[:-1] + b',"shard_id":"t"}',
        "epoch": plain[:-1] + b',"epoch":2}', "d-hat": plain[:-1] + b',"D_hat":1.25}',
        "escaped": plain[:-1] + b',"\\u0072":0.25}', "escaped-upper": plain[:-1] + b',"\\u0065poch":1}',
        "unsigned": plain[:-1] + b',"x":1,"x":1}', "nested": plain[:-1] + b',"x":{"a":1,"a":2}}',
        "in-array": plain[:-1] + b',"x":[{"a":1,"a":1}]}', "empty-name": plain[:-1] + b',"":1,"":2}',
        "sig": plain[:-1] + b',"sig":"a","sig":"a"}', "null-value": plain[:-1] + b',"r":null}',
        "pair-name": plain[:-1] + b',"\xf0\x9f\x98\x80":1,"\\ud83d\\ude00":1}',
    }.items():
        bad(f"duplicate-{name}", "Duplicate", data, "member_duplicate", "P01", "P02")


def grammar(bad: Any, plain: bytes) -> None:
    def token(name: str, text: str, *kills: str) -> None:
        bad(f"token-{name}", "Grammar", record(BASE, r=text), "json_malformed", *kills)

    for name, text in {"nan": "NaN", "infinity": "Infinity", "minus-infinity": "-Infinity"}.items():
        token(name, text, "P03")
        bad(f"unsigned-{name}", "Grammar", record(BASE, x=text), "json_malformed", "P03")
    for name, text in {
        "plus": "+0.5", "leading-zero": "00.5", "minus-leading-zero": "-01", "point-only": ".5",
        "point-end": "0.", "exponent-empty": "1e", "exponent-plus": "1e+", "hex": "0x1", "minus": "-",
        "two-points": "0.5.1", "underscore": "0.5_0", "comma": "0,5", "inf": "inf", "nan-lower": "nan",
        "true-upper": "True", "none": "None", "undefined": "undefined", "full-width": "\uff11",
        "single-quote": "'x'", "suffix-f": "0.5f", "minus-nan": "-NaN", "space-within": "0 .5",
        "double-minus": "--1", "octal": "0o7", "big-n": "1n",
    }.items():
        token(name, text)
    for name, data in {
        "empty": b"", "space-only": b" ", "array": b"[" + plain + b"]", "string": b'"x"',
        "number": b"1", "null": b"null", "unclosed": plain[:-1], "unopened": plain[1:],
        "trailing-comma": plain[:-1] + b",}", "leading-comma": b"{," + plain[1:],
        "comment": b"/* c */" + plain, "line-comment": plain + b"//", "hash": b"# c\n" + plain,
        "no-colon": plain.replace(b'"r":', b'"r"'), "bare-name": plain.replace(b'"r"', b"r"),
        "two-commas": plain.replace(b",", b",,", 1), "nul-end": plain + b"\x00",
        "vertical-tab": plain.replace(b"{", b"{\x0b", 1), "form-feed": b"\x0c" + plain,
        "escape-x": record(BASE, shard_id='"\\x41"'), "escape-quote": record(BASE, shard_id='"\\\'"'),
        "escape-short-u": record(BASE, shard_id='"\\u004"'), "escape-end": record(BASE, shard_id='"\\'),
        "escape-u-sign": record(BASE, shard_id='"\\u+041"'), "escape-upper-u": record(BASE, shard_id='"\\U0041"'),
        "raw-newline": record(BASE, shard_id='"a\nb"'), "raw-tab": record(BASE, shard_id='"a\tb"'),
        "raw-nul": record(BASE, shard_id='"a\x00b"'), "raw-unit-separator": record(BASE, x='"\x1f"'),
        "single-quoted": plain.replace(b'"s"', b"'s'"), "array-comma": record(BASE, x="[1,]"),
        "array-open": record(BASE, x="[1"), "object-number-name": record(BASE, x="{1:2}"),
    }.items():
        bad(f"grammar-{name}", "Grammar", data)
    for name, tail in {"x": b"x", "object": b"{}", "comma": b",", "brace": b"}", "nbsp": b"\xc2\xa0"}.items():
        bad(f"trailing-{name}", "Grammar", plain + tail, "json_malformed", "P15")
    for name, head in {"nbsp": "\u00a0", "em-space": "\u2003", "nel": "\u0085", "ideographic": "\u3000",
                       "zero-width": "\u200b"}.items():
        trimmed = () if name == "zero-width" else ("P19",)  # no language counts U+200B as white space
        bad(f"leading-{name}", "Grammar", head.encode() + plain, "json_malformed", *trimmed)
    bad("bom", "Bytes", b"\xef\xbb\xbf" + plain, "json_malformed", "P04")
    text = plain.decode()
    for name in ("utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be"):
        bad(name, "Bytes", text.encode(name) if name != "utf-16" else b"\xff\xfe" + text.encode("utf-16-le"),
            "json_malformed", "P05")
    for name, raw in {
        "ff": b"a\xffb", "continuation": b"\x80", "overlong-slash": b"\xc0\xaf", "overlong-nul": b"\xc0\x80",
        "overlong-3": b"\xe0\x80\xaf", "cut-2": b"\xc3", "cut-3": b"\xe2\x80", "cut-4": b"\xf0\x9f\x98",
        "surrogate": b"\xed\xa0\x80", "surrogate-pair": b"\xed\xa0\xbd\xed\xb8\x80", "latin-1": b"\xe9",
        "above": b"\xf4\x90\x80\x80", "five-bytes": b"\xf8\x88\x80\x80\x80", "fe": b"\xfe",
    }.items():
        bad(f"utf8-{name}", "Bytes", plain.replace(b'"s"', b'"' + raw + b'"'), "json_malformed", "P06")
        bad(f"utf8-unsigned-{name}", "Bytes", plain[:-1] + b',"x":"' + raw + b'"}', "json_malformed", "P06")


def domains(change: Any) -> None:
    for member, top in (("D_hat", "3.500000000000001"), ("budget", "1.0000000000000003"),
                        ("coh_star", "1.0500000000000003"), ("r", "1.0000000000000003")):
        slug = member.lower().replace("_", "-")
        for name, text in {"above": top, "far": "1e300", "minus": "-0.1", "overflow": "1e400",
                           "minus-least": "-5e-324", "minus-overflow": "-1e400"}.items():
            change(f"{slug}-{name}", "Domain", "number_out_of_range", **{member: text})
    a = "a" * 64
    for name, text in {"upper": "A" * 64, "short": "a" * 63, "long": "a" * 65, "empty": "",
                       "newline": a + "\\n", "wide-digit": "a" * 63 + "\uff11", "g": "a" * 63 + "g",
                       "prefix": "0x" + "a" * 62, "space": " " + "a" * 63, "dash": "a" * 63 + "-",
                       "arabic-digit": "a" * 63 + "\u0661", "bytes-64": "\u00e9" * 32}.items():
        kill = {"upper": "V18", "newline": "V19", "wide-digit": "V20", "arabic-digit": "V21"}.get(name)
        kills = () if kill is None else (kill,)
        change(f"pcs-id-{name}", "Domain", "hex_invalid", *kills, pcs_id=hex_string(text))
        change(f"merkle-root-{name}", "Domain", "hex_invalid", merkle_root=hex_string(text))
    for name, text in {"empty": "", "257": "a" * 257, "86-cjk": "\u65e5" * 86, "65-astral": "\U0001f600" * 65,
                       "129-two": "\u00e9" * 129}.items():
        change(f"shard-id-{name}", "Domain", "string_length", shard_id=hex_string(text))


def surrogates(bad: Any, change: Any) -> None:
    for name, text in {"high": "\\ud800", "low": "\\udc00", "high-upper": "\\uD800", "last": "\\udfff",
                       "reversed": "\\udc00\\ud800", "high-a": "\\ud800a", "high-escape": "\\ud800\\n",
                       "high-high": "\\ud83d\\ud83d", "high-bmp": "\\ud83d\\u0041", "end": "x\\udbff"}.items():
        change(f"surrogate-{name}", "Surrogate", "string_surrogate", "P07", shard_id=hex_string(text))
        change(f"surrogate-unsigned-{name}", "Surrogate", "string_surrogate", "P07", x=hex_string(text))
    for name, text in {"name": '{"\\ud800":1}', "in-array": '["\\udc00"]'}.items():
        change(f"surrogate-in-{name}", "Surrogate", "string_surrogate", "P07", x=text)
    bad("surrogate-member-name", "Surrogate", record(BASE)[:-1] + b',"\\ud800":1}', "string_surrogate")


def limits(bad: Any, plain: bytes) -> None:
    for name, open_, close in (("array", "[", "]"), ("object", '{"a":', "}")):
        inner = "1" if name == "object" else ""
        text = open_ * 32 + inner + close * 32
        bad(f"depth-33-{name}", "Limit", record(BASE, x=text), "json_limit", "P17")
    bad("depth-5000", "Limit", record(BASE, x="[" * 5000 + "]" * 5000), "json_limit")
    bad("depth-30000-open", "Limit", b"[" * 30000, "json_limit")
    room = 65_537 - len(record(BASE, x='""'))
    big = record(BASE, x='"' + "x" * room + '"')
    bad("size-65537", "Limit", big, "payload_too_large", "P18")
    bad("size-65537-spaces", "Limit", plain + b" " * (65_537 - len(plain)), "payload_too_large", "P18")
    bad("size-100000", "Limit", plain + b"\n" * 100_000, "payload_too_large")


def typed(s: Suite) -> None:
    def bad(name: str, flag: str, code: str, *kills: str, **values: str) -> None:
        s.add(f"reject/typed/{name}", flag, whole.typed_args(**values), code=code, kills=kills)

    for member in ("D_hat", "budget", "coh_star", "r"):
        slug = member.lower().replace("_", "-")
        for name, bits in {"nan": "7ff8000000000000", "infinity": "7ff0000000000000",
                           "minus-infinity": "fff0000000000000"}.items():
            bad(f"{slug}-{name}", "Domain", "number_not_finite", **{member: bits})
        for name, bits in {"minus-least": "8000000000000001", "minus-one": "bff0000000000000",
                           "four": "4010000000000000"}.items():
            bad(f"{slug}-{name}", "Domain", "number_out_of_range", **{member: bits})
    for value, kills in {"-1": ("V11",), str(2**53): ("V09",), str(2**53 + 1): ("V10",), str(2**64): ()}.items():
        bad(f"epoch-{value.replace('-', 'minus.')}", "Epoch", "epoch_invalid", *kills, epoch=value)
    for name, text in {"upper": "A" * 64, "short": "a" * 63, "long": "a" * 65, "empty": "",
                       "newline": "a" * 64 + "\n", "wide-digit": "a" * 63 + "\uff11"}.items():
        kill = {"upper": "V18", "newline": "V19", "wide-digit": "V20"}.get(name)
        kills = () if kill is None else (kill,)
        bad(f"pcs-id-{name}", "Domain", "hex_invalid", *kills, pcs_id=utf16(text))
        bad(f"merkle-root-{name}", "Domain", "hex_invalid", merkle_root=utf16(text))
    for name, text in {"empty": "", "257": "a" * 257, "86-cjk": "\u65e5" * 86}.items():
        bad(f"shard-id-{name}", "Domain", "string_length", shard_id=utf16(text))
    for name, units in {"high": "d800", "low": "dc00", "pair-split": "d83d0020de00"}.items():
        bad(f"shard-id-{name}", "Surrogate", "string_surrogate", "V13", shard_id=units)


def run_parse(args: dict[str, Any]) -> dict[str, Any]:
    schema.check(parse(bytes.fromhex(args["json"])))
    return {}


def full_faults() -> dict[str, tuple[str, str | None, dict[str, str | None]]]:
    """List what can be wrong in a full record: name -> flag, code (None: valid), changed members."""
    out: dict[str, tuple[str, str | None, dict[str, str | None]]] = {"plain": ("Control", None, {})}

    def row(name: str, flag: str, code: str | None, **members: str | None) -> None:
        out[name] = (flag, code, members)

    for member in FULL:
        slug = member.lower().replace("_", "-")
        row(f"missing-{slug}", "Closed", "member_missing", **{member: None})
        wrong = "true" if member != "ft" else "[]"
        row(f"type-{slug}", "Closed", "member_type", **{member: wrong})
        row(f"null-{slug}", "Closed", "member_type", **{member: "null"})
    for name in ("x", "R", "d_hat", "", "Sig", "tenant", "_comment"):
        slug = {"": "empty", "R": "upper-r", "Sig": "upper-sig", "d_hat": "d-hat", "_comment": "comment"}.get(name, name)
        row(f"unknown-{slug}", "Closed", "member_unknown", **{name: "1"})
    for member, text in (("schema", '"pcs"'), ("schema", '""'), ("version", '"0.2"'), ("version", '"0.10"'),
                         ("schema", '"Fractal-LBA-Kakeya"'), ("version", '"v0.1"')):
        row(f"constant-{member}-{len(out)}", "Constant", "schema_unsupported", **{member: text})
    for member, low, high in (("attempt", 1, 2**53 - 1), ("seed", 0, 2**53 - 1)):
        for name, text in {"point": "1.0", "exponent": "1e0", "minus-zero": "-0", "string": '"1"', "half": "1.5"}.items():
            row(f"{member}-{name}", "Integer", "member_type", **{member: text})
        row(f"{member}-below", "Integer", "number_out_of_range", **{member: str(low - 1)})
        row(f"{member}-above", "Integer", "number_out_of_range", **{member: str(high + 1)})
        row(f"{member}-top", "Integer", None, **{member: str(high)})
        row(f"{member}-low", "Integer", None, **{member: str(low)})
    scales(row)
    for name, text, code in (
        ("empty", "[]", "string_length"), ("short-norm", "[0.6,0.79]", "number_out_of_range"),
        ("zero", "[0,0]", "number_out_of_range"), ("two", "[2]", "number_out_of_range"),
        ("string", '["1"]', "member_type"), ("null", "[null]", "member_type"), ("nested", "[[1]]", "member_type"),
        ("overflow", "[1e400]", "number_out_of_range"), ("just-over", "[1.000002]", "number_out_of_range"),
        ("just-under", "[0.999998]", "number_out_of_range"), ("within", "[1.0000009]", None),
        ("within-below", "[0.9999991]", None), ("minus-one", "[-1]", None), ("integers", "[0,1,0]", None),
        ("minus-zero", "[-0,1]", None), ("2048", "[1" + ",0" * 2047 + "]", None),
        ("2049", "[1" + ",0" * 2048 + "]", "string_length"), ("object", "{}", "member_type"),
    ):
        # N_j of FULL stays plausible for any length; plausibility is no matter of the record.
        row(f"v-star-{name}", "Direction", code, v_star=text)
    times(row)
    delivery(row)
    for name, text in (("upper", '"Mixed"'), ("dash", '"non-sticky"'), ("empty", '""'), ("space", '"mixed "')):
        row(f"regime-{name}", "Regime", "member_type", regime=text)
    for text in ('"sticky"', '"non_sticky"'):
        row(f"regime-{text[1:-1].replace('_', '-')}", "Regime", None, regime=text)
    return out


def scales(row: Any) -> None:
    two = {"N_j": '{"2":4,"4":16}'}
    for name, members, code in (
        ("one", {"scales": "[2]", "N_j": '{"2":4}'}, "string_length"),
        ("empty", {"scales": "[]", "N_j": "{}"}, "string_length"),
        ("33", {"scales": "[" + ",".join(map(str, range(1, 34))) + "]",
                "N_j": "{" + ",".join(f'"{k}":1' for k in range(1, 34)) + "}"}, "string_length"),
        ("32", {"scales": "[" + ",".join(map(str, range(1, 33))) + "]",
                "N_j": "{" + ",".join(f'"{k}":1' for k in range(1, 33)) + "}"}, None),
        ("two", {"scales": "[2,4]", **two}, None),
        ("equal", {"scales": "[2,2,4]", **two}, "number_out_of_range"),
        ("falling", {"scales": "[4,2]", **two}, "number_out_of_range"),
        ("zero", {"scales": "[0,2]", "N_j": '{"0":1,"2":4}'}, "number_out_of_range"),
        ("minus", {"scales": "[-2,2]", "N_j": '{"-2":1,"2":4}'}, "number_out_of_range"),
        ("2-31", {"scales": "[2,2147483648]", "N_j": '{"2":4,"2147483648":4}'}, "number_out_of_range"),
        ("2-31-below", {"scales": "[2,2147483647]", "N_j": '{"2":4,"2147483647":4}'}, None),
        ("point", {"scales": "[2.0,4]", **two}, "member_type"),
        ("exponent", {"scales": "[2,4e0]", **two}, "member_type"),
        ("strings", {"scales": '["2","4"]', **two}, "member_type"),
        ("key-missing", {"N_j": '{"2":4,"4":16,"8":64}'}, "member_missing"),
        ("key-more", {"N_j": '{"2":4,"4":16,"8":64,"16":256,"32":1024}'}, "member_unknown"),
        ("key-padded", {"N_j": '{"2":4,"4":16,"8":64,"16":256,"016":256}'}, "member_unknown"),
        ("key-word", {"N_j": '{"2":4,"4":16,"8":64,"16":256,"two":4}'}, "member_unknown"),
        ("count-zero", {"N_j": '{"2":0,"4":16,"8":64,"16":256}'}, "number_out_of_range"),
        ("count-minus", {"N_j": '{"2":-4,"4":16,"8":64,"16":256}'}, "number_out_of_range"),
        ("count-point", {"N_j": '{"2":4.0,"4":16,"8":64,"16":256}'}, "member_type"),
        ("count-string", {"N_j": '{"2":"4","4":16,"8":64,"16":256}'}, "member_type"),
        ("count-null", {"N_j": '{"2":null,"4":16,"8":64,"16":256}'}, "member_type"),
        ("count-2-53", {"N_j": '{"2":4,"4":16,"8":64,"16":9007199254740992}'}, "number_out_of_range"),
        ("count-order", {"N_j": '{"16":256,"8":64,"4":16,"2":4}'}, None),
        ("array", {"N_j": "[4,16,64,256]"}, "member_type"),
    ):
        row(f"scales-{name}", "Scales", code, **members)


def times(row: Any) -> None:
    good = {"fraction-1": "2026-01-15T12:00:00.1Z", "fraction-9": "2026-01-15T12:00:00.123456789Z",
            "leap-day": "2024-02-29T23:59:59Z", "leap-400": "2000-02-29T00:00:00Z", "year-1": "0001-01-01T00:00:00Z",
            "year-9999": "9999-12-31T23:59:59Z"}
    bad = {"no-zone": "2026-01-15T12:00:00", "offset": "2026-01-15T12:00:00+00:00", "lower-z": "2026-01-15T12:00:00z",
           "space": "2026-01-15 12:00:00Z", "second-60": "2016-12-31T23:59:60Z", "minute-60": "2026-01-15T12:60:00Z",
           "hour-24": "2026-01-15T24:00:00Z", "month-13": "2026-13-01T00:00:00Z", "month-0": "2026-00-01T00:00:00Z",
           "day-0": "2026-01-00T00:00:00Z", "day-32": "2026-01-32T00:00:00Z", "feb-30": "2026-02-30T00:00:00Z",
           "feb-29": "2026-02-29T00:00:00Z", "feb-29-1900": "1900-02-29T00:00:00Z", "apr-31": "2026-04-31T00:00:00Z",
           "point-empty": "2026-01-15T12:00:00.Z", "fraction-10": "2026-01-15T12:00:00.1234567890Z",
           "comma": "2026-01-15T12:00:00,5Z", "year-2": "26-01-15T12:00:00Z", "date-only": "2026-01-15",
           "empty": "", "newline": "2026-01-15T12:00:00Z\\n", "wide": "2026-01-15T12:00:0\uff11Z",
           "short-hour": "2026-01-15T1:00:00Z", "lower-t": "2026-01-15t12:00:00Z", "year-0": "0000-01-01T00:00:00Z"}
    for name, text in good.items():
        row(f"sent-at-{name}", "Time", None, sent_at=hex_string(text))
    for name, text in bad.items():
        row(f"sent-at-{name}", "Time", "member_type", sent_at=hex_string(text))
    row("sent-at-number", "Time", "member_type", sent_at="1768478400")


def delivery(row: Any) -> None:
    base = {"outbox_seq": "0", "degraded": "false", "fallbacks": "[]", "clock_skew_ms": "0"}

    def ft(name: str, code: str | None, **changes: str | None) -> None:
        members = {k: v for k, v in {**base, **changes}.items() if v is not None}
        row(f"ft-{name}", "Delivery", code, ft="{" + ",".join(f'"{k}":{v}' for k, v in members.items()) + "}")

    for member in base:
        ft(f"missing-{member.replace('_', '-')}", "member_missing", **{member: None})
    ft("unknown", "member_unknown", x="1")
    ft("seq-minus", "number_out_of_range", outbox_seq="-1")
    ft("seq-point", "member_type", outbox_seq="0.0")
    ft("seq-top", None, outbox_seq=str(2**53 - 1))
    ft("seq-above", "number_out_of_range", outbox_seq=str(2**53))
    ft("degraded-one", "member_type", degraded="1")
    ft("degraded-true", None, degraded="true")
    ft("degraded-text", "member_type", degraded='"false"')
    ft("fallbacks-16", None, fallbacks="[" + ",".join(['"a"'] * 16) + "]")
    ft("fallbacks-17", "string_length", fallbacks="[" + ",".join(['"a"'] * 17) + "]")
    ft("fallbacks-64", None, fallbacks='["' + "a" * 64 + '"]')
    ft("fallbacks-65", "string_length", fallbacks='["' + "a" * 65 + '"]')
    ft("fallbacks-65-bytes", "string_length", fallbacks='["' + "\u00e9" * 33 + '"]')
    ft("fallbacks-64-bytes", None, fallbacks='["' + "\u00e9" * 32 + '"]')
    ft("fallbacks-empty", "string_length", fallbacks='[""]')
    ft("fallbacks-number", "member_type", fallbacks="[1]")
    ft("fallbacks-text", "member_type", fallbacks='"a"')
    for text, name, code in (("86400000", "top", None), ("-86400000", "bottom", None), ("-1", "minus", None),
                             ("86400001", "above", "number_out_of_range"), ("-86400001", "below", "number_out_of_range"),
                             ("0.5", "half", "member_type"), ("null", "null", "member_type")):
        ft(f"skew-{name}", code, clock_skew_ms=text)


def suites() -> list[Suite]:
    json_suite = Suite("reject/json.json", "canon.record", "suites/reject.py", FLAGS, whole.run)
    texts(json_suite)
    typed_suite = Suite("reject/typed.json", "canon.record", "suites/reject.py", TYPED_FLAGS, whole.run)
    typed(typed_suite)
    parse_suite = Suite("reject/record.json", "record.parse", "suites/reject.py", RECORD_FLAGS, run_parse)
    for name, (flag, code, members) in full_faults().items():
        args = {"json": record(FULL, **members).hex()}
        parse_suite.add(f"reject/record/{name}", flag, args, code=code)
    return [json_suite, typed_suite, parse_suite]
