"""Make a case that shows a fault as small as it gets while it still shows it.

Works on the values of the protocol alone: doubles lose significant bits, texts and bytes lose
pieces, JSON texts lose members, lists lose items, integers get smaller. Within the time bound the
smallest case that was seen is given.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from .draw import Question

SHRINK_S: Final = 2.0
"""How long one case is shrunk at most."""

Value = Any
Fails = Callable[[Question], bool]

NEEDED: Final = frozenset({"entry", "sig_v", "request", "strict", "member", "status", "attempt"})
"""Arguments whose value decides what is asked, or has a domain that is not to be left."""

SIMPLE_DIGESTS: Final = ("0061" * 64, "a" * 64)
"""The simplest digest in UTF-16, and as text."""

SIMPLE_DOUBLES: Final = ("0000000000000000", "3ff0000000000000", "3fe0000000000000")
DROPPED_BYTES_MAX: Final = 4096
"""Of longer JSON texts no bytes are dropped, only members."""

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*\Z")
_INTEGER: Final = re.compile(r"-?[0-9]+\Z")


def shrink(question: Question, fails: Fails, budget_s: float = SHRINK_S) -> Question:
    """Give the smallest case found that fails as this one does."""
    deadline = time.monotonic() + budget_s
    best = question
    improved = True
    while improved:
        improved = False
        for args in smaller(best.args):
            if time.monotonic() >= deadline:
                return best
            candidate = best._replace(args=args)
            if fails(candidate):
                best, improved = candidate, True
                break
    return best


def smaller(args: dict[str, Value]) -> Iterator[dict[str, Value]]:
    """Give arguments that are one step smaller, the largest steps first."""
    for name in args:
        if name not in NEEDED:
            yield {key: value for key, value in args.items() if key != name}
    for name, value in args.items():
        if name in NEEDED:
            continue
        for other in values(name, value):
            yield {**args, name: other}


def values(name: str, value: Value) -> Iterator[Value]:
    """Give smaller values of one argument."""
    if isinstance(value, list):
        yield from lists(name, value)
    elif isinstance(value, dict):
        yield from smaller(value)
    elif isinstance(value, str):
        yield from texts(name, value)


def lists(name: str, items: list[Value]) -> Iterator[list[Value]]:
    """Drop runs of items, then make single ones smaller."""
    size = len(items)
    while size:
        for at in range(0, len(items), size):
            yield items[:at] + items[at + size :]
        size //= 2
    for at, item in enumerate(items):
        for other in values(name, item):
            yield [*items[:at], other, *items[at + 1 :]]


def texts(name: str, text: str) -> Iterator[str]:
    """Give smaller values of a text, by what it holds."""
    if name in ("f64", "u", "D_hat", "budget", "coh_star", "r") and len(text) == 16:
        yield from doubles(text)
    elif name in ("pcs_id", "merkle_root"):
        yield from (simple for simple in SIMPLE_DIGESTS if simple < text)
    elif name in ("utf16", "shard_id") and len(text) % 4 == 0:
        yield from pieces(text, 4)
    elif name == "json":
        yield from documents(text)
    elif _INTEGER.match(text):
        yield from integers(text)
    elif len(text) > 1 and _HEX.match(text):
        yield from pieces(text, 2)


def doubles(text: str) -> Iterator[str]:
    """Clear significant bits, as many as can be at once."""
    yield from (simple for simple in SIMPLE_DOUBLES if simple < text)
    bits = int(text, 16)
    for kept in range(52):
        rounded = bits >> (52 - kept) << (52 - kept)
        if rounded != bits:
            yield f"{rounded:016x}"


def integers(text: str) -> Iterator[str]:
    """Come closer to zero."""
    number = int(text)
    for other in (0, 1, number // 2, number - 1 if number > 0 else number + 1):
        if abs(other) < abs(number):
            yield str(other)


def dropped(text: str, unit: int) -> Iterator[str]:
    """Drop runs of units, long ones first."""
    count = len(text) // unit
    size = count
    while size:
        for at in range(0, count, size):
            yield text[: at * unit] + text[(at + size) * unit :]
        size //= 2


def pieces(text: str, unit: int) -> Iterator[str]:
    """Drop runs of units, then replace single ones by the simplest."""
    yield from dropped(text, unit)
    count = len(text) // unit
    simple = "0061" if unit == 4 else "61"
    for at in range(count):
        if text[at * unit : (at + 1) * unit] > simple:
            yield text[: at * unit] + simple + text[(at + 1) * unit :]


# --- JSON texts -----------------------------------------------------------------------------


class Token(str):
    """A number token, as written."""

    __slots__ = ()


Pairs = list[tuple[str, Value]]


def documents(text: str) -> Iterator[str]:
    """Drop and shorten members of a JSON text; bytes where it cannot be read."""
    data = bytes.fromhex(text)
    for other in trees(data):
        if len(other) < len(data):
            yield other.hex()
    if len(data) < DROPPED_BYTES_MAX:
        yield from dropped(text, 2)


def trees(data: bytes) -> Iterator[bytes]:
    try:
        tree = json.loads(
            data.decode("utf-8", "surrogateescape"), object_pairs_hook=Members,
            parse_int=Token, parse_float=Token, parse_constant=Token,
        )  # fmt: skip
    except (ValueError, RecursionError):
        return
    for other in reduced(tree):
        yield written(other).encode("utf-8", "surrogateescape")


class Members(list[tuple[str, Value]]):
    """The members of an object as they came, repeated names and all."""


def reduced(tree: Value) -> Iterator[Value]:
    """Give a JSON value with one thing less."""
    if isinstance(tree, Members):
        for at in range(len(tree)):
            yield Members(tree[:at] + tree[at + 1 :])
        for at, (name, value) in enumerate(tree):
            for other in reduced(value):
                yield Members([*tree[:at], (name, other), *tree[at + 1 :]])
    elif isinstance(tree, list):
        for at in range(len(tree)):
            yield tree[:at] + tree[at + 1 :]
        for at, value in enumerate(tree):
            for other in reduced(value):
                yield [*tree[:at], other, *tree[at + 1 :]]
    elif isinstance(tree, Token):
        yield from (Token(text) for text in ("0", "1", "0.5") if len(text) < len(tree))
        if len(tree) > 3:
            yield Token(tree[: len(tree) // 2] if tree[: len(tree) // 2].isdigit() else "1")
    elif isinstance(tree, str) and tree:
        yield ""
        yield tree[: len(tree) // 2]
        yield tree[len(tree) // 2 :]


def written(tree: Value) -> str:
    """Write a JSON value without white space."""
    if isinstance(tree, Members):
        inner = ",".join(f"{written(str(name))}:{written(value)}" for name, value in tree)
        return f"{{{inner}}}"
    if isinstance(tree, list):
        return f"[{','.join(map(written, tree))}]"
    if isinstance(tree, Token):
        return str(tree)
    if isinstance(tree, str):
        return spelled(tree)
    return json.dumps(tree)


def spelled(text: str) -> str:
    """Write a string; bytes that are no UTF-8 stay those bytes, surrogates stay escapes."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(
        f"\\u{ord(char):04x}"
        if "\ud800" <= char <= "\udfff" and not "\udc80" <= char <= "\udcff"
        else char
        for char in quoted
    )
