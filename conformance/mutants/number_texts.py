"""Family N: other ways to write n billionths (spec/canonical.md 3.2(5))."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from fractal_lba import canonical
from fractal_lba.canonical import number_text

from .patching import Patch, mutation
from .rounding import Held, hold

RIGHT: Final = number_text
SMALLEST_PLAIN: Final = 100_000
"""From here on, in billionths, printf and ECMAScript agree on the notation."""


def writes(id: str, text: Callable[[int], str]) -> None:
    """Register a mutant that writes numbers by another rule."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(canonical.number_text, text)


def rewritten(pattern: str, by: str) -> Callable[[int], str]:
    return lambda n: re.sub(pattern, by, RIGHT(n))


def scientific(n: int) -> str:
    """Write with an exponent whatever the size."""
    digits = str(n)
    exponent = len(digits) - 10
    digits = digits.rstrip("0")
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{exponent}"


def printf(form: str) -> Callable[[int], str]:
    return lambda n: form % (n / 1e9) if n >= SMALLEST_PLAIN else RIGHT(n)


writes("N01", lambda n: f"{n / 1e9:.9f}")
writes("N02", rewritten(r"\A(\d+)\Z", r"\1.0"))
writes("N04", rewritten(r"e-(\d)\Z", r"e-0\1"))
writes("N05", lambda n: scientific(n) if 1000 <= n < SMALLEST_PLAIN else RIGHT(n))
writes("N06", lambda n: f"{n / 1e9:.9f}".rstrip("0") if 0 < n < 1000 else RIGHT(n))
writes("N07", lambda n: scientific(n) if 0 < n <= 1000 else RIGHT(n))
writes("N08", rewritten("e", "E"))
writes("N09", printf("%.9g"))
writes("N10", printf("%.17g"))
writes("N11", str)
writes("N12", lambda n: f'"{RIGHT(n)}"')
writes("N13", rewritten(r"\A0\.", "."))
writes("N14", lambda n: RIGHT(n).rstrip("0"))


@mutation("N03")
def minus_zero(patch: Patch) -> None:
    def text(n: int) -> str:
        return "-0" if isinstance(n, Held) and math.copysign(1, n.x) < 0 else RIGHT(n)

    hold(patch)
    patch.swap(canonical.number_text, text)
