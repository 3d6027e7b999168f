"""Family R: other ways to round to nine decimals.

The range is tested as the SDK does; only the way from x to n differs (spec/canonical.md 3.2).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

from fractal_lba import canonical
from fractal_lba.canonical import SIGNED_FLOATS, nano

from .patching import Patch, mutation

Rule = Callable[[float], int]

NANO: Final = 10**9
HALF: Final = Fraction(1, 2)


class Held(int):
    """A rounded number that remembers the double it came from."""

    x: float

    @classmethod
    def of(cls, n: int, x: float) -> Held:
        held = cls(n)
        held.x = x
        return held


def signed_nanos(rule: Rule) -> Callable[[Mapping[str, Any]], dict[str, int]]:
    """Write the SDK's loop over the four floats with another rounding."""

    def nanos(record: Mapping[str, Any]) -> dict[str, int]:
        found = {}
        for name, high in SIGNED_FLOATS.items():
            given = canonical._member(record, name)
            x = given if type(given) is float else canonical._as_double(name, given)
            if not 0.0 <= x <= high:
                canonical._refuse_number(name, x, given, high)
            found[name] = rule(x)
        return found

    return nanos


def rounds(id: str, rule: Rule) -> None:
    """Register a mutant that rounds by another rule."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(canonical._signed_nanos, signed_nanos(rule))
        patch.swap(canonical.nano, rule)


def fused(x: float) -> int:
    """Compute p - floor(p) with one rounding, as a fused multiply-subtract does."""
    whole = math.floor(x * 1e9)
    return whole + (float(Fraction(x) * NANO - whole) >= 0.5)


def single(x: float) -> float:
    """Take a double through binary32."""
    value: float = struct.unpack(">f", struct.pack(">f", x))[0]
    return value


def eight_decimals(x: float) -> int:
    p = x * 1e8
    return 10 * (math.floor(p) + (p - math.floor(p) >= 0.5))


def divided(x: float) -> int:
    q = x / 1e-9
    return math.floor(q) + (q - math.floor(q) >= 0.5)


rounds("R01", lambda x: round(x * 1e9))
rounds("R02", lambda x: round(Fraction(x) * NANO))
rounds("R03", lambda x: math.floor(Fraction(x) * NANO + HALF))
rounds("R04", lambda x: math.floor(Fraction(repr(x)) * NANO + HALF))
rounds("R05", lambda x: math.floor(x * 1e9 + 0.5))
rounds("R07", fused)
rounds("R08", lambda x: int(x * 1e9))
rounds("R09", lambda x: math.ceil(x * 1e9))
rounds("R10", lambda x: nano(single(x)))
rounds("R11", eight_decimals)
rounds("R13", divided)


def hold(patch: Patch) -> None:
    """Let every rounded number remember its double."""
    patch.swap(canonical._signed_nanos, signed_nanos(lambda x: Held.of(nano(x), x)))


@mutation("R12")
def no_rounding(patch: Patch) -> None:
    right = canonical.number_text

    def text(n: int) -> str:
        return canonical._double_text(n.x) if isinstance(n, Held) else right(n)

    hold(patch)
    patch.swap(right, text)
    values = property(lambda self: {name: n.x for name, n in self.nanos.items()})
    patch.set(canonical.Canonical, "values", values)


@mutation("R14")
def multiplied_back(patch: Patch) -> None:
    patch.swap(canonical.number_text, lambda n: canonical._double_text(n * 1e-9))
    values = property(lambda self: {name: n * 1e-9 for name, n in self.nanos.items()})
    patch.set(canonical.Canonical, "values", values)
