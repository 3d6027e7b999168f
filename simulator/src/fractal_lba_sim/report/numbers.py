"""Write numbers for people. Every number of a page, a chart or a terminal passes through here.

The invariant of this file: one number with one unit is one text, whatever shows it, and no text
is more exact than three or four digits can be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

PLACES_MAX: Final = 12
"""Places behind the point; what is smaller is written as nothing."""

MINUTE_S: Final = 60
MINUTES_FROM_S: Final = 100
HOURS_FROM_S: Final = 2 * 3600
DAYS_FROM_S: Final = 2 * 86_400
BYTE_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
NONE: Final = "\u2013"
"""What stands where there is no number."""

MINUS: Final = "\u2212"
NARROW: Final = "\u202f"
"""The space between a number and its unit; no line breaks there."""


def figure(value: float | None, unit: str = "") -> str:
    """Write a number with its unit: `s` and `ms`, `B`, `%` for a share, any other behind it."""
    if value is None:
        return NONE
    if value < 0:
        return f"{MINUS}{figure(-value, unit)}"
    if unit in ("s", "ms"):
        return _duration(value if unit == "s" else value / 1000)
    if unit == "%":
        return f"{_share(value)}{NARROW}%"
    if unit == "B":
        return _bytes(value)
    text = _plain(value)
    return f"{text}{NARROW}{unit}" if unit else text


def counted(count: int, noun: str) -> str:
    """Write a count with its noun, in the plural where it is one."""
    return f"{figure(count)} {noun}" if count == 1 else f"{figure(count)} {noun}s"


def in_brackets(text: str) -> str:
    """Write a remark in brackets behind a number; nothing if there is none."""
    return f" ({text})" if text else ""


def signed(value: float | None, unit: str = "") -> str:
    """Write a difference with its sign."""
    text = figure(value, unit)
    return f"+{text}" if value is not None and value > 0 else text


def _plain(value: float) -> str:
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return _digits(value, 3)


def _digits(value: float, digits: int) -> str:
    """Write three digits that count, never with an exponent and without zeros behind them."""
    if not value:
        return "0"
    places = min(PLACES_MAX, max(0, digits - 1 - math.floor(math.log10(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _duration(seconds: float) -> str:
    if 0 < seconds < 0.9995:
        return f"{_digits(seconds * 1000, 3)}{NARROW}ms"
    if seconds < MINUTES_FROM_S and seconds != MINUTE_S:
        return f"{_digits(seconds, 3)}{NARROW}s"
    if seconds < HOURS_FROM_S:
        minutes, rest = divmod(round(seconds), 60)
        return _two(minutes, "min", rest, "s")
    if seconds < DAYS_FROM_S:
        hours, rest = divmod(round(seconds / 60), 60)
        return _two(hours, "h", rest, "min")
    days, rest = divmod(round(seconds / 3600), 24)
    return _two(days, "d", rest, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    text = f"{large:,}{NARROW}{large_unit}"
    return f"{text}\u00a0{small}{NARROW}{small_unit}" if small else text


def _share(value: float) -> str:
    """Write a share in per cent; near 0 and near 1 with as many digits as tell it from them."""
    rest = min(value, 1 - value)
    if rest <= 0:
        return _digits(value * 100, 4)
    digits = min(PLACES_MAX, max(1, 1 - math.floor(math.log10(rest * 100))))
    return f"{value * 100:.{digits}f}"


def _bytes(value: float) -> str:
    power = 0
    while value >= 999.5 and power < len(BYTE_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{_digits(value, 3)}{NARROW}{BYTE_UNITS[power]}"


def estimate(found: Mapping[str, Any] | None, unit: str = "") -> str:
    """Write a number of results: too few runs, more than it, or its value."""
    if found is None:
        return NONE
    if "needs" in found:
        return f"needs {figure(found['needs'])}"
    text = figure(found["value"], unit)
    return f"more than {text}" if found.get("at_least") else text


def interval(found: Mapping[str, Any] | None, unit: str = "") -> str:
    """Write the 95 % interval of a number of results."""
    if found is None or "needs" in found:
        return ""
    low, high = found["low"], found["high"]
    if low is None and high is None:
        return "too few for an interval"
    if high is None:
        return f"{figure(low, unit)} or more"
    if low is None:
        return f"up to {figure(high, unit)}"
    begin, end = figure(low, unit), figure(high, unit)
    return "" if begin == end == figure(found["value"], unit) else f"{begin} to {end}"
