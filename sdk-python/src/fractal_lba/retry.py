"""Decide what follows an attempt: wait so long, or stop for that reason (spec/retry.md).

This file owns the retry table, the jitter, the reading of Retry-After and the retry quota.
It is pure: the clock and the random number are arguments, nothing sleeps. A stop is a value,
not an exception type: a caller reads `error.stop` and need not catch nine classes.

    >>> busy = Result(status=429, retry_after_ms=7000)
    >>> plan(RetryPolicy.default, busy, 1, 0.5, 0, 60_000, 500, False)
    Wait(wait_ms=7250, quota=495, cost=5)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, NamedTuple

from .errors import CODES, ConfigError, FractalLBAError

__all__ = [
    "QUOTA_FULL",
    "STOP_REASONS",
    "Result",
    "RetryPolicy",
    "Stop",
    "Wait",
    "parse_retry_after",
    "plan",
]

SUCCESS_STATUSES: Final = frozenset({200, 202})
"""Statuses of an answer that holds an outcome."""

RETRIED_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same bytes may be sent again; every other is final."""

UNREADABLE_CODES: Final = frozenset({"response_malformed", "response_too_large"})
"""Codes of an answer that came but cannot be read: the code decides, not the status."""

QUOTA_FULL: Final = 500
"""Most retry tokens a client holds, and what it starts with."""

RETRY_COST: Final = 14
"""Tokens one retry costs, so that sustained retries stay at 1/14 of the traffic."""

ASKED_RETRY_COST: Final = 5
"""Tokens a retry costs after a 429, or after a 503 that carries Retry-After."""

FIRST_SUCCESS_GAIN: Final = 1
"""Tokens gained by a success at the first attempt."""

STOP_REASONS: Final = (
    "success",
    "cancelled",
    "server_refused",
    "not_retryable",
    "attempts_exhausted",
    "retry_after_too_long",
    "deadline_exceeded",
    "quota_exhausted",
)
"""Why a call ends, in the order in which `plan` asks."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Say how often and how long to try. `max_attempts=1` means no retry."""

    max_attempts: int = 3
    wait_base_ms: int = 500
    wait_max_ms: int = 8_000
    retry_after_max_ms: int = 60_000

    default: ClassVar[RetryPolicy]
    none: ClassVar[RetryPolicy]

    def __post_init__(self) -> None:
        for name, low in (
            ("max_attempts", 1),
            ("wait_base_ms", 0),
            ("wait_max_ms", 0),
            ("retry_after_max_ms", 0),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise ConfigError(
                    "config_invalid", f"{name}: expected an integer >= {low}, got {value!r}"
                )


RetryPolicy.default = RetryPolicy()
RetryPolicy.none = RetryPolicy(max_attempts=1)


@dataclass(frozen=True, slots=True)
class Result:
    """Hold what one attempt came to, as far as a decision needs it.

    An answer has a `status`; no answer, or one that cannot be read, has a `code` of
    `spec/errors.json`. `sent` says whether a byte of the request may have left.
    """

    status: int | None = None
    code: str | None = None
    retry_after_ms: int | None = None
    should_retry: bool | None = None
    sent: bool = True

    @classmethod
    def of_error(cls, error: FractalLBAError, *, sent: bool = True) -> Result:
        """Take from an error what decides; its headers have lower-case names."""
        answered = error.status is not None and error.code not in UNREADABLE_CODES
        return cls(
            status=error.status,
            code=None if answered else error.code,
            retry_after_ms=error.retry_after_ms,
            should_retry=parse_should_retry(error.headers.get("x-should-retry")),
            sent=sent,
        )

    @property
    def succeeded(self) -> bool:
        """Say whether the answer is a success that was read (retry 1)."""
        return self.code is None and self.status in SUCCESS_STATUSES

    @property
    def retryable(self) -> bool:
        """Say what the table says, before X-Should-Retry (retry 10)."""
        if self.code is not None:
            info = CODES.get(self.code)
            return info is not None and info.retryable
        return self.status in RETRIED_STATUSES

    @property
    def server_wish(self) -> bool | None:
        """Give X-Should-Retry, which counts on error responses only (retry 12)."""
        return self.should_retry if self.status is not None and self.status >= 400 else None

    @property
    def cost(self) -> int:
        """Give the tokens that a retry of this costs (retry 13)."""
        asked = self.status == 429 or (self.status == 503 and self.retry_after_ms is not None)
        return ASKED_RETRY_COST if asked else RETRY_COST


class Wait(NamedTuple):
    """Try again after `wait_ms`. `cost` is in `quota` already; keep it for the refund."""

    wait_ms: int
    quota: int
    cost: int


class Stop(NamedTuple):
    """End the call. `retry_after_ms` is what the server asked for, if that ended it."""

    reason: str
    quota: int
    retry_after_ms: int | None = None


def plan(
    policy: RetryPolicy,
    outcome: Result,
    attempt: int,
    u: float,
    now_ms: int,
    deadline_ms: int,
    quota: int,
    alternate: bool,
    *,
    taken: int = 0,
) -> Wait | Stop:
    """Decide what follows attempt number `attempt`, counted from 1 (spec/retry.md).

    `u` lies in [0, 1). `alternate` says that the next attempt would go to another eligible
    endpoint, which Retry-After does not bind. `taken` is the cost of the retry that `outcome`
    answers; a success gives it back (retry 15).
    """
    if outcome.succeeded:
        gain = FIRST_SUCCESS_GAIN if attempt == 1 else taken
        return Stop("success", min(quota + gain, QUOTA_FULL))
    if outcome.code == "cancelled":
        return Stop("cancelled", quota)
    wish = outcome.server_wish
    if wish is False:
        return Stop("server_refused", quota)
    if not (wish or outcome.retryable):
        return Stop("not_retryable", quota)
    if attempt >= policy.max_attempts:
        return Stop("attempts_exhausted", quota)
    asked_ms = 0 if alternate else outcome.retry_after_ms or 0
    if asked_ms > policy.retry_after_max_ms:
        return Stop("retry_after_too_long", quota, asked_ms)
    wait_ms = asked_ms + int(u * _wait_bound_ms(policy, attempt))
    if now_ms + wait_ms >= deadline_ms:
        return Stop("deadline_exceeded", quota, outcome.retry_after_ms)
    cost = outcome.cost
    if quota < cost:
        return Stop("quota_exhausted", quota, outcome.retry_after_ms)
    return Wait(wait_ms, quota - cost, cost)


def _wait_bound_ms(policy: RetryPolicy, retry_number: int) -> int:
    """Double the base for each retry, up to the bound."""
    doublings = min(retry_number - 1, policy.wait_max_ms.bit_length())
    return min(policy.wait_base_ms << doublings, policy.wait_max_ms)


# --- headers -------------------------------------------------------------------------------

MAX_RETRY_AFTER_MS: Final = 2**53 - 1
"""Longest Retry-After that is told apart; a longer one counts as this (retry 22)."""

MAX_SECONDS_DIGITS: Final = 16
"""Longest whole part of a Retry-After that can be below the limit."""

_BLANKS = " \t"
_SECONDS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?\Z")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = r"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_MONTH = f"({'|'.join(_MONTHS)})"
_IMF_FIXDATE = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{{2}}) {_MONTH} ([0-9]{{4}}) {_TIME} GMT\Z"
)
_RFC850 = re.compile(
    r"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday), "
    rf"([0-9]{{2}})-{_MONTH}-([0-9]{{2}}) {_TIME} GMT\Z"
)
_ASCTIME = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} ([ 0-9][0-9]) {_TIME} ([0-9]{{4}})\Z"
)
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def parse_should_retry(value: str | None) -> bool | None:
    """Read X-Should-Retry; anything but exactly `true` and `false` is absent (retry 12)."""
    return None if value is None else {"true": True, "false": False}.get(value)


def parse_retry_after(values: Sequence[str], date: str | None, now_ms: int) -> int | None:
    """Read all Retry-After fields of a response; the largest counts (retry 21 to 26).

    A date is measured against `date`, the response's own clock, or `now_ms` (Unix) without it.
    Negative and past are 0; what cannot be read is absent.
    """
    stated_ms = None if date is None else _date_ms(date.strip(_BLANKS), now_ms)
    reference_ms = now_ms if stated_ms is None else stated_ms
    waits_ms = [_wait_ms(value.strip(_BLANKS), reference_ms, now_ms) for value in values]
    return max((wait_ms for wait_ms in waits_ms if wait_ms is not None), default=None)


def _wait_ms(value: str, reference_ms: int, now_ms: int) -> int | None:
    seconds = _SECONDS.match(value)
    if seconds is None:
        date_ms = _date_ms(value, now_ms)
        return None if date_ms is None else max(0, date_ms - reference_ms)
    sign, whole, fraction = seconds.groups(default="")
    if sign:
        return 0
    whole = whole.lstrip("0")
    if len(whole) > MAX_SECONDS_DIGITS:
        return MAX_RETRY_AFTER_MS
    thousandths = fraction[:3].ljust(3, "0")
    rest = 1 if fraction[3:].strip("0") else 0  # rounded up: never earlier than asked
    return min(int(whole + thousandths) + rest, MAX_RETRY_AFTER_MS)


def _date_ms(text: str, now_ms: int) -> int | None:
    """Read the three forms of an HTTP-date as Unix milliseconds (retry 23)."""
    if found := _IMF_FIXDATE.match(text):
        day, month, year, *clock = found.groups()
    elif found := _ASCTIME.match(text):
        month, day, *clock, year = found.groups()
    elif found := _RFC850.match(text):
        day, month, short_year, *clock = found.groups()
        year = str(_full_year(int(short_year), now_ms))
    else:
        return None
    hour, minute, second = map(int, clock)
    try:
        moment = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC
        )
    except ValueError:
        return None
    return (moment - _UNIX_EPOCH) // _MILLISECOND


def _full_year(short_year: int, now_ms: int) -> int:
    """Complete two digits to a year at most 50 years from now (retry 24)."""
    this_year = (_UNIX_EPOCH + timedelta(milliseconds=now_ms)).year
    year = this_year - this_year % 100 + short_year
    return year - 100 if year > this_year + 50 else year
