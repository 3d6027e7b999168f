"""Write the RFC 8785 form of a scanned JSON value, and the strings of PCS-SIG-1."""

from __future__ import annotations

from golden.oracle import double
from golden.oracle.fault import Fault
from golden.oracle.scanner import Node, Number

INTEGER_MAX = 2**53 - 1
SHORT = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def string(text: str) -> str:
    """Quote a string: seven short escapes, lower-case hex below U+0020, all else literal."""
    out = []
    for char in text:
        code = ord(char)
        if 0xD800 <= code <= 0xDFFF:
            raise Fault("string_surrogate")
        if code in SHORT:
            out.append(SHORT[code])
        elif code < 0x20:
            out.append("\\u00" + "0123456789abcdef"[code >> 4] + "0123456789abcdef"[code & 15])
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def units(text: str) -> list[int]:
    """List the UTF-16 code units, which is the order of member names."""
    raw = text.encode("utf-16-be")
    return [raw[i] << 8 | raw[i + 1] for i in range(0, len(raw), 2)]


def number(token: Number, pointer: str) -> str:
    """Write a number token; canonical 4.4 bounds it."""
    bits = double.token(token.token)
    if not double.is_finite(bits):
        raise Fault("number_out_of_range", pointer)
    if token.is_integer and abs(double.decimal(token.token)[1]) > INTEGER_MAX:
        raise Fault("number_out_of_range", pointer)
    return double.text(bits)


class Raw(str):
    """Text that is already in its final form, such as n * 10^-9."""

    __slots__ = ()


def form(node: Node | Raw, pointer: str = "") -> str:
    """Give the RFC 8785 text of a value."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, dict):
        names = sorted(node, key=units)
        return (
            "{" + ",".join(string(k) + ":" + form(node[k], f"{pointer}/{k}") for k in names) + "}"
        )
    if isinstance(node, list):
        return "[" + ",".join(form(x, f"{pointer}/{i}") for i, x in enumerate(node)) + "]"
    if isinstance(node, Number):
        return number(node, pointer)
    if isinstance(node, str):
        return string(node)
    return {True: "true", False: "false", None: "null"}[node]


def document(node: Node) -> bytes:
    """Give the RFC 8785 bytes of a value."""
    return form(node).encode("utf-8")
