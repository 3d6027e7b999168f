"""Doubles as 64-bit integers: exact value, correct rounding, shortest ECMAScript text.

Owner of the oracle's number model. A double is the integer of its 64 bits (`bits`), a real number
is a `Fraction`; no float exists. `spec/canonical.md` 3.2 and 4.5 rest on these four functions.
"""

from __future__ import annotations

import re
from fractions import Fraction

SIGN = 1 << 63
INFINITY = 0x7FF << 52
MANTISSA = (1 << 52) - 1
# Powers of ten past this cannot matter: doubles lie between 10^-324 and 10^309.
EXPONENT_MAX = 400
NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)


def is_finite(bits: int) -> bool:
    """Tell whether the bits are a number."""
    return bits & INFINITY != INFINITY


def parts(bits: int) -> tuple[int, int]:
    """Split a finite double's magnitude into m and q with value m * 2^q."""
    field = (bits >> 52) & 0x7FF
    fraction = bits & MANTISSA
    return (fraction, -1074) if field == 0 else (fraction | 1 << 52, field - 1075)


def value(bits: int) -> Fraction:
    """Give the exact value of a finite double; minus zero gives 0."""
    m, q = parts(bits)
    exact = Fraction(m << q) if q >= 0 else Fraction(m, 1 << -q)
    return -exact if bits & SIGN else exact


def nearest(x: Fraction) -> int:
    """Round a real number to a double, ties to even; past the largest double is infinity."""
    sign = SIGN if x < 0 else 0
    num, den = abs(x.numerator), x.denominator
    if num == 0:
        return 0
    # Choose q so that the quotient has 53 bits, or the subnormal exponent if that is larger.
    q = max(num.bit_length() - den.bit_length() - 53, -1074)
    while True:
        top, bottom = (num, den << q) if q >= 0 else (num << -q, den)
        m, rest = divmod(top, bottom)
        if m < 1 << 53:
            break
        q += 1
    if 2 * rest > bottom or (2 * rest == bottom and m & 1):
        m += 1
    if m == 1 << 53:
        m, q = m >> 1, q + 1
    if q > 971:
        return sign | INFINITY
    if m < 1 << 52:
        return sign | m
    return sign | (q + 1075) << 52 | (m & MANTISSA)


def decimal(text: str) -> tuple[int, Fraction]:
    """Read a JSON number token: its sign bit and its magnitude, both exact.

    Exponents beyond any double are cut to one that is still beyond, so that `1e999999999` is cheap.
    """
    match = NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    minus, whole, fraction, exponent = match.groups()
    digits = (whole + (fraction or "")).lstrip("0")
    power = int((exponent or "0")[:40]) - len(fraction or "")
    if digits == "":
        return (SIGN if minus else 0), Fraction(0)
    scale = max(-EXPONENT_MAX, min(EXPONENT_MAX, power + len(digits))) - len(digits)
    magnitude = _integer(digits) * Fraction(10) ** scale
    return (SIGN if minus else 0), magnitude


def _integer(digits: str) -> int:
    """Convert decimal digits in pieces, because `int` refuses more than 4,300 of them."""
    total = 0
    for start in range(0, len(digits), 1000):
        piece = digits[start : start + 1000]
        total = total * 10 ** len(piece) + int(piece)
    return total


def token(text: str) -> int:
    """Give the double that a JSON number token denotes."""
    sign, magnitude = decimal(text)
    return sign | nearest(magnitude)


def hex16(bits: int) -> str:
    """Write a double as the 16 hex digits of the vectors."""
    return f"{bits:016x}"


def digits_of(bits: int) -> tuple[int, int]:
    """Find the shortest decimal d * 10^e that reads back as this positive double.

    Among the shortest the one nearest to the double is taken. Existence of k digits implies that
    of k + 1 (append a zero), so the search goes down from 17, where one always exists.
    """
    m, q = parts(bits)
    # Numerators over the common denominator `den`: the value and the two ends of its interval.
    den = 4 << max(0, -q)
    unit = 1 << max(0, q)
    middle = 4 * m * unit
    high = (4 * m + 2) * unit
    low = (4 * m - (1 if m == 1 << 52 and q > -1074 else 2)) * unit
    closed = m & 1 == 0
    size = (middle.bit_length() - den.bit_length()) * 30103 // 100000
    while middle >= den * 10**size if size >= 0 else middle * 10**-size >= den:
        size += 1
    best = None
    for count in range(17, 0, -1):
        found = _candidate(middle, low, high, den, size - count, closed)
        if found is None:
            break
        best = (found, size - count)
    assert best is not None
    d, e = best
    while d % 10 == 0:
        d, e = d // 10, e + 1
    return d, e


def _candidate(middle: int, low: int, high: int, den: int, e: int, closed: bool) -> int | None:
    """Give the integer d nearest to the double with d * 10^e in its rounding interval."""
    scale = 10 ** abs(e)
    if e >= 0:
        den *= scale
    else:
        middle, low, high = middle * scale, low * scale, high * scale
    floor, rest = divmod(middle, den)
    ordered = (
        (floor, floor + 1)
        if 2 * rest < den or (2 * rest == den and floor % 2 == 0)
        else (
            floor + 1,
            floor,
        )
    )
    for d in ordered:
        point = d * den
        if low < point < high or (closed and point in (low, high)):
            return d
    return None


def text(bits: int) -> str:
    """Write a finite double as ECMAScript Number::toString does (RFC 8785 3.2.2.3)."""
    if bits & ~SIGN == 0:
        return "0"
    minus = "-" if bits & SIGN else ""
    d, e = digits_of(bits & ~SIGN)
    return minus + layout(str(d), e)


def layout(digits: str, e: int) -> str:
    """Place point and exponent for digits * 10^e, by the ECMAScript thresholds."""
    count = len(digits)
    n = count + e
    if count <= n <= 21:
        return digits + "0" * (n - count)
    if 0 < n <= 21:
        return digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    mantissa = digits if count == 1 else digits[0] + "." + digits[1:]
    return f"{mantissa}e{'+' if n > 0 else '-'}{abs(n - 1)}"
