"""Read JSON text in the strict profile of `spec/canonical.md` 3.9.

Owner of the oracle's JSON grammar. A number stays its token, so nothing is lost or evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

from golden.oracle.double import NUMBER
from golden.oracle.fault import Fault

# A record, and so every text that is read here, has at most this many bytes.
BYTES_MAX = 65_536
# Containers within containers, the outermost counted as 1.
DEPTH_MAX = 32
SPACE = " \t\n\r"
SHORT = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "/": "/"}


@dataclass(frozen=True, slots=True)
class Number:
    """A number token, as written."""

    token: str

    @property
    def is_integer(self) -> bool:
        return not any(c in self.token for c in ".eE")


Node = dict[str, "Node"] | list["Node"] | str | Number | bool | None


class Scanner:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self) -> Fault:
        return Fault("json_malformed")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self) -> None:
        while self.peek() != "" and self.peek() in SPACE:
            self.at += 1

    def take(self, literal: str) -> None:
        if not self.text.startswith(literal, self.at):
            raise self.fail()
        self.at += len(literal)

    def value(self, depth: int) -> Node:
        first = self.peek()
        if first == "{":
            return self.object(depth + 1)
        if first == "[":
            return self.array(depth + 1)
        if first == '"':
            return self.string()
        for literal, constant in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(literal, self.at):
                self.at += len(literal)
                return constant
        match = NUMBER.match(self.text, self.at)
        if match is None:
            raise self.fail()
        self.at = match.end()
        return Number(match.group())

    def object(self, depth: int) -> Node:
        self.enter(depth)
        members: dict[str, Node] = {}
        self.take("{")
        self.skip()
        if self.peek() == "}":
            self.at += 1
            return members
        while True:
            self.skip()
            name = self.string()
            if name in members:
                raise Fault("member_duplicate", "/" + pointer_token(name))
            self.skip()
            self.take(":")
            self.skip()
            members[name] = self.value(depth)
            self.skip()
            if self.peek() != ",":
                self.take("}")
                return members
            self.at += 1

    def array(self, depth: int) -> Node:
        self.enter(depth)
        items: list[Node] = []
        self.take("[")
        self.skip()
        if self.peek() == "]":
            self.at += 1
            return items
        while True:
            self.skip()
            items.append(self.value(depth))
            self.skip()
            if self.peek() != ",":
                self.take("]")
                return items
            self.at += 1

    def enter(self, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise Fault("json_limit")

    def string(self) -> str:
        self.take('"')
        out: list[str] = []
        while True:
            char = self.peek()
            if char == "" or char < " ":
                raise self.fail()
            self.at += 1
            if char == '"':
                return "".join(out)
            out.append(self.escape() if char == "\\" else char)

    def escape(self) -> str:
        char = self.peek()
        self.at += 1
        if char in SHORT:
            return SHORT[char]
        if char != "u":
            raise self.fail()
        unit = self.unit()
        if 0xDC00 <= unit <= 0xDFFF:
            raise Fault("string_surrogate")
        if not 0xD800 <= unit <= 0xDBFF:
            return chr(unit)
        if self.text[self.at : self.at + 2] != "\\u":
            raise Fault("string_surrogate")
        self.at += 2
        low = self.unit()
        if not 0xDC00 <= low <= 0xDFFF:
            raise Fault("string_surrogate")
        return chr(0x10000 + (unit - 0xD800 << 10) + (low - 0xDC00))

    def unit(self) -> int:
        digits = self.text[self.at : self.at + 4]
        if len(digits) != 4 or any(c not in "0123456789abcdefABCDEF" for c in digits):
            raise self.fail()
        self.at += 4
        return int(digits, 16)


def pointer_token(name: str) -> str:
    """Escape a member name for a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def parse_any(data: bytes) -> Node:
    """Read one JSON value of any kind, without the size limit of a record."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise Fault("json_malformed")
    try:
        scanner = Scanner(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise Fault("json_malformed") from None
    scanner.skip()
    node = scanner.value(0)
    scanner.skip()
    if scanner.at != len(scanner.text):
        raise Fault("json_malformed")
    return node


def parse(data: bytes) -> dict[str, Node]:
    """Read one JSON object in the strict profile."""
    if len(data) > BYTES_MAX:
        raise Fault("payload_too_large")
    node = parse_any(data)
    if not isinstance(node, dict):
        raise Fault("json_malformed")
    return node
