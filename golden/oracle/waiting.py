"""The retry rules as formulas: `spec/retry.md` 1-26."""

from __future__ import annotations

import re
from dataclasses import dataclass

from golden.oracle import double

RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
RETRIED_ERRORS = ("connect_failed", "connection_lost", "attempt_timeout")
QUOTA_MAX = 500
MS_MAX = 2**53 - 1
DELAY = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_CLOCK = r"(\d\d):(\d\d):(\d\d)"
IMF = re.compile(
    rf"({'|'.join(DAYS)}), (\d\d) ({'|'.join(MONTHS)}) (\d{{4}}) {_CLOCK} GMT", re.ASCII
)
RFC850 = re.compile(
    rf"({'|'.join(LONG_DAYS)}), (\d\d)-({'|'.join(MONTHS)})-(\d\d) {_CLOCK} GMT", re.ASCII
)
ASCTIME = re.compile(
    rf"({'|'.join(DAYS)}) ({'|'.join(MONTHS)}) (\d\d| \d) {_CLOCK} (\d{{4}})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Policy:
    max_attempts: int = 3
    base_ms: int = 500
    cap_ms: int = 8000
    retry_after_max_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Result:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    error: str | None = None

    def values(self, name: str) -> list[str]:
        return [v for k, v in self.headers if k.lower() == name]


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_before(year: int) -> int:
    """Count the days from 0001-01-01 to the first day of a year."""
    y = year - 1
    return 365 * y + y // 4 - y // 100 + y // 400


def unix_ms(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """Give the Unix milliseconds of a real time, or None."""
    if year < 1 or not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        return None
    lengths = [n + (1 if i == 1 and is_leap(year) else 0) for i, n in enumerate(MONTH_DAYS)]
    if not 1 <= day <= lengths[month - 1]:
        return None
    days = days_before(year) + sum(lengths[: month - 1]) + day - 1 - days_before(1970)
    return (days * 86400 + hour * 3600 + minute * 60 + second) * 1000


def year_of(ms: int) -> int:
    """Give the year of a Unix time."""
    year = 1970 + ms // (366 * 86_400_000)
    while (days_before(year + 1) - days_before(1970)) * 86_400_000 <= ms:
        year += 1
    return year


def date_ms(text: str, now_ms: int) -> int | None:
    """Read an HTTP date in one of its three forms (23, 24)."""
    if match := IMF.fullmatch(text):
        _, day, month, year, *clock = match.groups()
        return unix_ms(int(year), MONTHS.index(month) + 1, int(day), *map(int, clock))
    if match := ASCTIME.fullmatch(text):
        _, month, day, hour, minute, second, year = match.groups()
        return unix_ms(
            int(year), MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second)
        )
    match = RFC850.fullmatch(text)
    if match is None:
        return None
    _, day, month, short, *clock = match.groups()
    now = year_of(now_ms)
    full = now - now % 100 + int(short)
    if full > now + 50:
        full -= 100
    return unix_ms(full, MONTHS.index(month) + 1, int(day), *map(int, clock))


def value_ms(text: str, date: str | None, now_ms: int) -> int | None:
    """Read one Retry-After value (21-25)."""
    text = text.strip(" \t")
    if match := DELAY.fullmatch(text):
        minus, whole, fraction = match.groups()
        digits = fraction or ""
        numerator = int(whole + digits) * 1000
        ms = -(-numerator // 10 ** len(digits))
        return 0 if minus else min(ms, MS_MAX)
    at = date_ms(text, now_ms)
    if at is None:
        return None
    base = None if date is None else date_ms(date.strip(" \t"), now_ms)
    return min(max(0, at - (now_ms if base is None else base)), MS_MAX)


def after_ms(values: list[str], date: str | None, now_ms: int) -> int | None:
    """Take the largest readable value (26)."""
    read = [ms for v in values if (ms := value_ms(v, date, now_ms)) is not None]
    return max(read, default=None)


def jitter_ms(u: int, bound: int) -> int:
    """Give floor(RN64(u * bound)) for a double u."""
    return double.value(double.nearest(double.value(u) * bound)).__floor__()


def wish(result: Result) -> bool | None:
    """Read X-Should-Retry of an error response (12)."""
    if result.error is not None or result.status < 400:
        return None
    values = result.values("x-should-retry")
    return {"true": True, "false": False}.get(values[0]) if len(values) == 1 else None


def is_retryable(result: Result) -> bool:
    if result.error is not None:
        return result.error in RETRIED_ERRORS
    return result.status in RETRIED_STATUSES


def cost(result: Result, retry_after: int | None) -> int:
    """Price a retry (13)."""
    told = result.status == 429 or (result.status == 503 and retry_after is not None)
    return 5 if told and result.error is None else 14


def plan(
    policy: Policy,
    result: Result,
    attempt: int,
    u: int,
    now_ms: int,
    deadline_ms: int,
    quota: int,
    alternate: bool,
) -> dict[str, str]:
    """Decide by the nine rules, in their order."""

    def stop(reason: str, left: int = quota) -> dict[str, str]:
        return {"stop": reason, "quota": str(left)}

    if result.error is None and result.status in (200, 202):
        return stop("success", min(QUOTA_MAX, quota + 1) if attempt == 1 else quota)
    if result.error == "cancelled":
        return stop("cancelled")
    asked = wish(result)
    if asked is False:
        return stop("server_refused")
    if not is_retryable(result) and asked is not True:
        return stop("not_retryable")
    if attempt >= policy.max_attempts:
        return stop("attempts_exhausted")
    dates = result.values("date")
    told = after_ms(result.values("retry-after"), dates[0] if dates else None, now_ms)
    floor = 0 if alternate or told is None else told
    if floor > policy.retry_after_max_ms:
        return stop("retry_after_too_long")
    wait = floor + jitter_ms(u, min(policy.base_ms * 2 ** (attempt - 1), policy.cap_ms))
    if now_ms + wait >= deadline_ms:
        return stop("deadline_exceeded")
    if quota < cost(result, told):
        return stop("quota_exhausted")
    return {"wait_ms": str(wait), "quota": str(quota - cost(result, told))}
