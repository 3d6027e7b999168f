"""Suite `jcs`: RFC 8785 documents, needed for version-2 bodies and content digests."""

from __future__ import annotations

from typing import Any

from golden.oracle import double
from golden.oracle.emit import Flag, Stream, Suite
from golden.oracle.jcs import document
from golden.oracle.scanner import parse

FLAGS = {
    "Bounds": Flag("Integers beyond 2^53-1 and overflows are refused.", ("canonical 4.4",)),
    "Literal": Flag("Literals, nesting, white space.", ("canonical 4.2",)),
    "Names": Flag("Names sorted by UTF-16 code units.", ("canonical 4.2",)),
    "Number": Flag("Shortest text of a double.", ("canonical 4.2",)),
    "String": Flag("Escapes of strings.", ("canonical 3.4(4)", "canonical 4.2")),
}


def run(args: dict[str, Any]) -> dict[str, Any]:
    return {"utf8": document(parse(bytes.fromhex(args["json"]))).hex()}


NUMBERS = (
    "0", "-0", "0.0", "-0.0", "1", "-1", "1.0", "100", "1e2", "1E2", "1e+2", "0.1", "0.2", "0.3", "0.30000000000000004", "1.5",
    "123456789012345680000.0", "1e20", "1e21", "1e22", "999999999999999900000.0", "1e-5", "1e-6", "1e-7", "0.000001", "0.0000012",
    "0.00000123", "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "2.225073858507201e-308", "4.9e-324",
    "1e-400", "-1e-400", "9007199254740991", "-9007199254740991", "9007199254740992.0", "9007199254740993.0", "295147905179352830000.0",
    "1e23", "8.41e21", "9.5367431640625e-7", "333333333.33333329", "1E30", "4.50", "2e-3", "0.000000000000000000000000001",
    "5e-1", "0.1e1", "179769313486231570000e288", "1.0000000000000002", "0.99999999999999989", "10000000000000000.0",
    "2.0e-323", "1234567890.123456789", "0.5000000000000001", "72057594037927945.0", "1e-10", "123e-20", "0e0", "-0e5", "1.0e0",
    "7.120236347223045e-307", "5.684341886080802e-14", "9007199254740992e0",
)


def suites() -> list[Suite]:
    s = Suite("jcs/jcs.json", "jcs.document", "suites/jcs.py", FLAGS, run)

    def add(name: str, flag: str, text: str, **more: Any) -> None:
        s.add(f"jcs/{name}", flag, {"json": text.encode("utf-8").hex()}, **more)

    for i, token in enumerate(NUMBERS):
        add(f"number-{i:02d}", "Number", f'{{"x":{token}}}', comment=token)
    draw = Stream("jcs/number")
    for i in range(60):
        while not double.is_finite(bits := draw.below(2**64)):
            continue
        d, e = double.digits_of(bits & ~double.SIGN or 1)
        add(f"number-drawn-{i:02d}", "Number", f'{{"x":[{d}e{e},-{d}e{e}]}}')
    for i in range(20):
        add(f"number-near-{i:02d}", "Number", f'{{"x":{draw.below(10**17)}e-{draw.below(25)}}}')
    for name, text in {
        "empty": "{}", "space": ' {\t"a" :\r\n[ ] } ', "literals": '{"a":[true,false,null]}', "nested": '{"a":{"b":{"c":[[],{}]}}}',
        "array-order": '{"a":[3,1,2]}', "depth-32": '{"a":' + "[" * 31 + "]" * 31 + "}", "same-names": '{"a":{"x":1},"b":{"x":1}}',
    }.items():
        add(name, "Literal", text)
    for name, text in {
        "ascii": '{"b":1,"a":2,"B":3,"A":4,"_":5,"1":6}', "digits": '{"10":1,"9":2,"1":3,"100":4}', "empty-name": '{"a":1,"":2}',
        "rfc": '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\\ud83d\\ude00":"Emoji","\\u0080":"Control","\\u00f6":"Latin"}',
        "astral-below-bmp": '{"\\uffff":1,"\\ud800\\udc00":2,"\\ue000":3,"\\ud7ff":4}', "prefix": '{"ab":1,"a":2,"abc":3}',
        "nested": '{"b":{"z":1,"a":2},"a":[{"y":1,"x":2}]}', "nfd": '{"\u00e9":1,"e\u0301":2}', "escaped": '{"\\u0062":1,"a":2}',
        "case": '{"peach":1,"p\u00eache":2,"Peach":3,"sin":4}', "proto": '{"__proto__":1,"constructor":2}', "control": '{"\\n":1,"\\u0001":2," ":3}',
    }.items():
        add(f"names-{name}", "Names", text)
    for name, text in {
        "rfc": '"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"', "short": '"\\b\\t\\n\\f\\r"', "c0": '"' + "".join(f"\\u{i:04x}" for i in range(32)) + '"',
        "del-c1": '"\\u007f\\u0080\\u009f"', "separators": '"\\u2028\\u2029"', "html": '"<script>&</script>"', "slash": '"\\/"',
        "pair": '"\\ud83d\\ude00"', "pair-upper": '"\\uD83D\\uDE00"', "literal": '"\u00e9\u65e5\U0001f600"', "nul": '"\\u0000"', "bom": '"\\ufeff"',
        "noncharacter": '"\\uffff\\ufffe"', "backslashes": '"\\\\\\\\"', "empty": '""', "last-bmp": '"\\ud7ff\\ue000"',
    }.items():
        add(f"string-{name}", "String", f'{{"s":{text}}}')
    for name, token in {"2-53": "9007199254740992", "minus-2-53": "-9007199254740992", "2-64": "18446744073709551616", "overflow": "1e309",
                        "overflow-just": "1.7976931348623159e308", "minus-overflow": "-1e400", "far": "1e999999999", "5000": "9" * 5000}.items():
        add(f"bounds-{name}", "Bounds", f'{{"x":[{token}]}}', code="number_out_of_range")
    add("bounds-largest-rounds-down", "Bounds", '{"x":1.7976931348623158e308}')
    return [s]
