"""Write vector files: a small JSON writer, cases, suites, and the manifest.

Owner of the file form of conformance section 5: ids sorted, one case per line, and no value under
test as a JSON number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from golden.oracle.fault import Fault

# The version of the vectors: adding cases is a minor step, changing an expectation a major one.
VERSION = "1.0.0"
ID = re.compile(r"[a-z0-9]+(/[a-z0-9.]+(-[a-z0-9.]+)*)+", re.ASCII)
ID_MAX = 80
ESCAPES = {'"': '\\"', "\\": "\\\\"}


def quote(text: str) -> str:
    """Write a JSON string in printable ASCII."""
    out = []
    for char in text:
        code = ord(char)
        if char in ESCAPES:
            out.append(ESCAPES[char])
        elif 0x20 <= code < 0x7F:
            out.append(char)
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            code -= 0x10000
            out.append(f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}")
    return '"' + "".join(out) + '"'


def json_text(value: Any) -> str:
    """Write strings, lists, objects, and the counts of a manifest."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{quote(k)}:{json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(json_text(x) for x in value) + "]"
    if type(value) is int:
        return str(value)
    raise TypeError(f"a vector holds no {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Flag:
    """Why a case exists, and which sentences of `spec/` it tests."""

    text: str
    spec: tuple[str, ...]
    kind: str = "correctness"
    axis: str | None = None

    def members(self) -> dict[str, Any]:
        axis = {} if self.axis is None else {"axis": self.axis}
        return {"kind": self.kind, **axis, "text": self.text, "spec": list(self.spec)}


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    flags: tuple[str, ...]
    args: dict[str, Any]
    result: str
    expect: dict[str, Any]
    comment: str = ""
    kills: tuple[str, ...] = ()
    since: str = VERSION

    def line(self) -> str:
        members: dict[str, Any] = {"id": self.id}
        if self.comment:
            members["comment"] = self.comment
        members |= {"flags": list(self.flags), "args": self.args, "result": self.result}
        members["expect"] = self.expect
        if self.kills:
            members["kills"] = list(self.kills)
        return json_text(members | {"since": self.since})


@dataclass(slots=True)
class Suite:
    """One vector file: one operation, its flags and its cases."""

    path: str  # below golden/vectors
    op: str
    source: str  # module below golden/oracle
    flags: dict[str, Flag]
    run: Callable[[dict[str, Any]], dict[str, Any]]
    cases: dict[str, Case] = field(default_factory=dict)

    def add(
        self,
        name: str,
        flags: str | Iterable[str],
        args: dict[str, Any],
        *,
        comment: str = "",
        kills: Iterable[str] = (),
        code: str | None = None,
    ) -> None:
        """Judge the arguments by the oracle and keep the case.

        `code` is what the author means to test: it must be what the oracle finds.
        """
        chosen = (flags,) if isinstance(flags, str) else tuple(flags)
        try:
            expect, result = self.run(args), "valid"
        except Fault as fault:
            expect, result = {"code": fault.code}, "invalid"
        found = expect.get("code") if result == "invalid" else None
        if found != code:
            raise AssertionError(f"{name}: meant {code}, the oracle says {found or expect}")
        self.keep(Case(name, chosen, args, result, expect, comment, tuple(kills)))

    def keep(self, case: Case) -> None:
        if not ID.fullmatch(case.id) or len(case.id) > ID_MAX:
            raise AssertionError(f"{case.id}: not an id")
        if case.id in self.cases:
            raise AssertionError(f"{case.id}: twice")
        unknown = [f for f in case.flags if f not in self.flags]
        if unknown or not case.flags:
            raise AssertionError(f"{case.id}: flags {unknown}")
        self.cases[case.id] = case

    def text(self, source_sha256: str) -> str:
        used = {f for case in self.cases.values() for f in case.flags}
        unused = sorted(set(self.flags) - used)
        if unused:
            raise AssertionError(f"{self.path}: flags without a case: {unused}")
        head = {
            "$schema": "../../../spec/schemas/vectors.json",
            "op": self.op,
            "version": VERSION,
            "source": {"name": f"golden/oracle/{self.source}", "sha256": source_sha256},
        }
        flags = {name: self.flags[name].members() for name in sorted(self.flags)}
        lines = [f"{quote(k)}:{json_text(v)}," for k, v in head.items()]
        lines.append(quote("flags") + ":{")
        lines.append(",\n".join(f"{quote(k)}:{json_text(v)}" for k, v in flags.items()))
        lines.append("},")
        lines.append(quote("cases") + ":[")
        lines.append(",\n".join(self.cases[name].line() for name in sorted(self.cases)))
        return "{\n" + "\n".join(lines) + "\n]}\n"


class Stream:
    """Draw numbers that depend on a name alone: SHA-256 in counter mode."""

    def __init__(self, name: str) -> None:
        self.name = name.encode("ascii")
        self.counter = 0

    def below(self, limit: int) -> int:
        """Draw an integer in [0, limit); 128 bits make the bias irrelevant."""
        block = hashlib.sha256(self.name + self.counter.to_bytes(8, "big")).digest()
        self.counter += 1
        return int.from_bytes(block[:16], "big") % limit

    def pick(self, items: list[Any] | tuple[Any, ...] | str) -> Any:
        return items[self.below(len(items))]
