"""Family V: other ranges, lengths and alphabets of the signed members (spec/canonical.md 3.1).

The SDK asks for epochs, digests and shard_id twice, when it signs and when it checks a whole
record; a wrong implementation would be wrong in both places.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any, NoReturn

from fractal_lba import canonical, record
from fractal_lba.canonical import MAX_SAFE_INTEGER, MAX_SHARD_ID_BYTES, SIGNED_FLOATS, nano
from fractal_lba.errors import ValidationError

from .patching import Patch, mutation

InRange = Callable[[str, float, float], bool]


def floats(id: str, in_range: InRange, rule: Callable[[float, float], int] | None = None) -> None:
    """Register a mutant that takes other numbers; `rule` rounds what the SDK never sees."""

    def nanos(members: Mapping[str, Any]) -> dict[str, int]:
        found = {}
        for name, high in SIGNED_FLOATS.items():
            given = canonical._member(members, name)
            x = given if type(given) is float else canonical._as_double(name, given)
            if not in_range(name, x, high):
                canonical._refuse_number(name, x, given, high)
            found[name] = nano(x) if rule is None else rule(x, high)
        return found

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(canonical._signed_nanos, nanos)


def clamped(x: float, high: float) -> int:
    return nano(min(max(x, 0.0), high))


floats(
    "V01", lambda _, x, high: not (x < 0 or x > high), lambda x, _: 0 if math.isnan(x) else nano(x)
)
floats("V02", lambda _, x, high: 0 <= x < 10 and nano(x) / 1e9 <= high)
floats("V03", lambda _, x, high: -1e-9 < x <= high, lambda x, _: max(0, nano(x)))
floats("V04", lambda _, x, __: math.isfinite(x), clamped)
floats("V05", lambda _, x, high: 0 <= x < high)
floats("V06", lambda _, x, high: 0 <= x <= high and math.copysign(1, x) > 0)
floats("V07", lambda name, x, high: 0 <= x <= (1 if name == "coh_star" else high))
floats("V08", lambda _, x, high: 0 < x <= high)


def refuse(code: str, name: str) -> NoReturn:
    raise ValidationError(code, f"{name}: refused by a mutant", pointer=f"/{name}")


def epochs(id: str, low: int, high: int) -> None:
    """Register a mutant that takes other epochs."""

    def epoch(members: Mapping[str, Any]) -> int:
        value = canonical._member(members, "epoch")
        if type(value) is not int or not low <= value <= high:
            refuse("epoch_invalid" if type(value) in (int, float) else "member_type", "epoch")
        return value

    def rule(check: Any, value: Any, pointer: str) -> None:
        if type(value) is not int and type(value) is not float:
            check.add("member_type", pointer, "an integer")
        elif type(value) is float or not low <= value <= high:
            check.add("epoch_invalid", pointer, f"an integer from {low} to {high}")

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(canonical._epoch, epoch)
        for rules in (record._REQUIRED, record._ALL):
            patch.put(rules, "epoch", rule)


epochs("V09", 0, MAX_SAFE_INTEGER + 1)
epochs("V10", 0, 2**64 - 1)
epochs("V11", -(2**63), MAX_SAFE_INTEGER)
epochs("V12", 1, MAX_SAFE_INTEGER)


def shard_ids(id: str, check: Callable[[str], str]) -> None:
    """Register a mutant that takes other texts; `check` gives the text to sign."""

    def shard_id(members: Mapping[str, Any]) -> str:
        value = canonical._member(members, "shard_id")
        if type(value) is not str:
            refuse("member_type", "shard_id")
        return encode_basestring(check(value))

    def rule(faults: Any, value: Any, pointer: str) -> None:
        try:
            shard_id({"shard_id": value})
        except ValidationError as error:
            faults.add(error.code, pointer, "another text")

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(canonical._shard_id, shard_id)
        for rules in (record._REQUIRED, record._ALL):
            patch.put(rules, "shard_id", rule)


def size_of(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        refuse("string_surrogate", "shard_id")


def of_size(text: str, size: int, low: int = 1, high: int = MAX_SHARD_ID_BYTES) -> str:
    if not low <= size <= high:
        refuse("string_length", "shard_id")
    return text


def replaced(text: str) -> str:
    """Put U+FFFD in the place of unpaired surrogates."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return of_size(whole, size_of(whole))


def bmp_alone(text: str) -> str:
    size = size_of(text)
    if any(char > "\uffff" for char in text):
        refuse("string_surrogate", "shard_id")
    return of_size(text, size)


def in_code_points(text: str) -> str:
    size_of(text)
    return of_size(text, len(text))


shard_ids("V13", replaced)
shard_ids("V14", bmp_alone)
shard_ids("V15", in_code_points)
shard_ids("V16", lambda text: of_size(text, size_of(text), high=MAX_SHARD_ID_BYTES - 1))
shard_ids("V17", lambda text: of_size(text, size_of(text), low=0))


class OfLength:
    """Match any text of 64 characters."""

    def match(self, text: str) -> bool:
        return len(text) == 64


def hexes(id: str, pattern: object) -> None:
    """Register a mutant that takes other digests."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.set(canonical, "_HEX64", pattern)
        patch.set(record, "_HEX64", pattern)


hexes("V18", re.compile(r"[0-9a-fA-F]{64}\Z"))
hexes("V19", re.compile(r"[0-9a-f]{64}$"))
hexes("V20", OfLength())
hexes("V21", re.compile(r"[\da-f]{64}\Z"))
