"""The hybrid logical clock: one number that orders events and stays near wall time.

A value is an unsigned 64-bit integer: 48 bits of Unix milliseconds, 16 bits of counter
(spec/formats.md 5). Its text is 16 lower-case hex digits, so text order is time order.
"""

from __future__ import annotations

from typing import Final

COUNTER_BITS: Final = 16

MAX_SKEW_MS: Final = 500
"""How far the clock's own value may run ahead of wall time before writes are refused."""

_NS_PER_MS: Final = 1_000_000


def tick(last: int, now_ns: int) -> int:
    """Give the value of a local event: the present, or one more than the last value."""
    return max(now_ns // _NS_PER_MS << COUNTER_BITS, last + 1)


def ahead_ms(value: int, now_ns: int) -> int:
    """Say how many milliseconds a value lies ahead of wall time; negative when behind."""
    return (value >> COUNTER_BITS) - now_ns // _NS_PER_MS


def text(value: int) -> str:
    """Write a value as 16 lower-case hex digits."""
    return f"{value:016x}"
