"""What follows an attempt: rows of spec/retry.md, and properties over all of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.errors import CODES, ConfigError, error_for
from fractal_lba.retry import (
    QUOTA_FULL,
    STOP_REASONS,
    Result,
    RetryPolicy,
    Stop,
    Wait,
    parse_retry_after,
    parse_should_retry,
    plan,
)

FAR = 10**12
BUSY = Result(status=503)
RETRIED = {408, 425, 429, 500, 502, 503, 504}


def decide(
    result: Result,
    *,
    policy: RetryPolicy = RetryPolicy.default,
    attempt: int = 1,
    u: float = 0.5,
    now_ms: int = 0,
    deadline_ms: int = FAR,
    quota: int = QUOTA_FULL,
    alternate: bool = False,
    **options: Any,
) -> Wait | Stop:
    return plan(policy, result, attempt, u, now_ms, deadline_ms, quota, alternate, **options)


# --- the order of the rules ----------------------------------------------------------------


def test_the_status_table() -> None:
    for status in range(100, 600):
        followed = decide(Result(status=status))
        if status in (200, 202):
            assert followed == Stop("success", QUOTA_FULL)
        elif status in RETRIED:
            assert isinstance(followed, Wait)
        else:
            assert followed == Stop("not_retryable", QUOTA_FULL)


@pytest.mark.parametrize("code", CODES)
def test_without_an_answer_the_code_decides(code: str) -> None:
    followed = decide(Result(code=code))
    if code == "cancelled":
        assert followed == Stop("cancelled", QUOTA_FULL)
    elif code in ("connect_failed", "connection_lost", "attempt_timeout"):
        assert isinstance(followed, Wait)
    elif CODES[code].status is None:
        assert followed == Stop("not_retryable", QUOTA_FULL)


@pytest.mark.parametrize("status", [200, 202, 302, 500, 503])
def test_an_answer_that_cannot_be_read_is_not_asked_for_again(status: int) -> None:
    for code in ("response_malformed", "response_too_large"):
        result = Result(status=status, code=code, should_retry=None)
        assert decide(result) == Stop("not_retryable", QUOTA_FULL)


def test_an_unknown_code_is_not_retried() -> None:
    assert decide(Result(code="nobody_knows")) == Stop("not_retryable", QUOTA_FULL)
    assert decide(Result()) == Stop("not_retryable", QUOTA_FULL)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (Result(status=503, should_retry=False), "server_refused"),
        (Result(status=409, should_retry=True), None),
        (Result(status=423, should_retry=True), None),
        (Result(status=200, should_retry=False), "success"),
        (Result(status=204, should_retry=True), "not_retryable"),
        (Result(status=302, should_retry=True), "not_retryable"),
        (Result(code="tls_failed", should_retry=True), "not_retryable"),
        (Result(status=200, code="response_malformed", should_retry=True), "not_retryable"),
    ],
)
def test_x_should_retry_wins_on_error_responses_only(result: Result, reason: str | None) -> None:
    followed = decide(result)
    assert (followed.reason if isinstance(followed, Stop) else None) == reason


def test_x_should_retry_wins_over_no_limit() -> None:
    wish = Result(status=503, should_retry=True)
    assert decide(wish, attempt=3) == Stop("attempts_exhausted", QUOTA_FULL)
    assert decide(wish, deadline_ms=0) == Stop("deadline_exceeded", QUOTA_FULL)
    assert decide(wish, quota=13) == Stop("quota_exhausted", 13)


@pytest.mark.parametrize(
    ("max_attempts", "attempt", "waits"), [(1, 1, 0), (2, 1, 1), (2, 2, 0), (3, 2, 1), (3, 4, 0)]
)
def test_the_first_attempt_counts(max_attempts: int, attempt: int, waits: int) -> None:
    followed = decide(BUSY, policy=RetryPolicy(max_attempts=max_attempts), attempt=attempt)
    assert isinstance(followed, Wait) == bool(waits)


def test_the_rules_are_asked_in_their_order() -> None:
    late = Result(status=503, retry_after_ms=60_001)
    assert decide(late, attempt=3, deadline_ms=0, quota=0) == Stop("attempts_exhausted", 0)
    assert decide(late, deadline_ms=0, quota=0) == Stop("retry_after_too_long", 0, 60_001)
    assert decide(BUSY, deadline_ms=0, quota=0) == Stop("deadline_exceeded", 0)
    assert decide(BUSY, quota=0) == Stop("quota_exhausted", 0)


# --- waits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "u", "wait_ms"),
    [(1, 0.0, 0), (1, 0.5, 250), (1, 0.999, 499), (2, 0.5, 500), (3, 0.5, 1000), (4, 0.5, 2000),
     (5, 0.5, 4000), (6, 0.5, 4000), (7, 0.999, 7992), (10**6, 0.5, 4000)],
)  # fmt: skip
def test_jitter_is_full_and_doubles_up_to_its_bound(attempt: int, u: float, wait_ms: int) -> None:
    policy = RetryPolicy(max_attempts=10**7)
    assert decide(BUSY, policy=policy, attempt=attempt, u=u) == Wait(wait_ms, 486, 14)


@pytest.mark.parametrize("asked_ms", [0, 1, 7000, 60_000])
def test_retry_after_is_a_floor(asked_ms: int) -> None:
    result = Result(status=429, retry_after_ms=asked_ms)
    assert decide(result, u=0.0) == Wait(asked_ms, 495, 5)
    assert decide(result, u=0.5) == Wait(asked_ms + 250, 495, 5)


def test_too_long_a_retry_after_stops_and_says_how_long() -> None:
    result = Result(status=503, retry_after_ms=60_001)
    assert decide(result) == Stop("retry_after_too_long", QUOTA_FULL, 60_001)
    patient = RetryPolicy(retry_after_max_ms=60_001)
    assert isinstance(decide(result, policy=patient), Wait)


def test_retry_after_does_not_bind_another_endpoint() -> None:
    result = Result(status=503, retry_after_ms=3_600_000)
    assert decide(result, alternate=True) == Wait(250, 495, 5)


@pytest.mark.parametrize(("deadline_ms", "fits"), [(250, False), (251, True)])
def test_a_wait_that_cannot_fit_is_not_begun(deadline_ms: int, fits: bool) -> None:
    assert isinstance(decide(BUSY, deadline_ms=deadline_ms), Wait) == fits
    later = decide(BUSY, now_ms=1000, deadline_ms=1000 + deadline_ms)
    assert isinstance(later, Wait) == fits


# --- quota ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "cost"),
    [
        (BUSY, 14),
        (Result(status=503, retry_after_ms=0), 5),
        (Result(status=429), 5),
        (Result(status=429, retry_after_ms=1), 5),
        (Result(status=500, retry_after_ms=1), 14),
        (Result(code="connect_failed"), 14),
    ],
)
def test_a_retry_has_a_price(result: Result, cost: int) -> None:
    followed = decide(result, quota=cost)
    assert isinstance(followed, Wait)
    assert (followed.quota, followed.cost) == (0, cost)
    assert decide(result, quota=cost - 1) == Stop(
        "quota_exhausted", cost - 1, result.retry_after_ms
    )


@pytest.mark.parametrize(
    ("quota", "attempt", "taken", "after"),
    [(499, 1, 0, 500), (500, 1, 0, 500), (0, 1, 0, 1), (100, 2, 0, 100), (100, 2, 14, 114),
     (490, 3, 14, 500)],
)  # fmt: skip
def test_success_gives_back(quota: int, attempt: int, taken: int, after: int) -> None:
    followed = decide(Result(status=200), quota=quota, attempt=attempt, taken=taken)
    assert followed == Stop("success", after)


def test_sustained_retries_stay_below_one_in_fourteen() -> None:
    """An outage drains the quota; what successes earn pays for the rest (hazard of a herd)."""
    quota, retries, calls = QUOTA_FULL, 0, 20_000
    for number in range(calls):
        works = number % 2 == 0
        result = Result(status=200) if works else BUSY
        followed = decide(result, quota=quota)
        if isinstance(followed, Wait):
            retries += 1
            followed = decide(
                BUSY, attempt=2, quota=followed.quota, policy=RetryPolicy(max_attempts=2)
            )
        quota = followed.quota
    assert retries <= QUOTA_FULL / 14 + calls / 14


# --- properties ----------------------------------------------------------------------------

results = st.builds(
    Result,
    status=st.none() | st.integers(100, 599),
    code=st.none() | st.sampled_from(sorted(CODES)),
    retry_after_ms=st.none() | st.integers(0, 10**7),
    should_retry=st.none() | st.booleans(),
)


@given(
    results,
    st.integers(1, 5),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, QUOTA_FULL),
    st.booleans(),
)
def test_no_plan_breaks_a_promise(
    result: Result, attempt: int, u: float, now_ms: int, left_ms: int, quota: int, alternate: bool
) -> None:
    followed = plan(
        RetryPolicy.default, result, attempt, u, now_ms, now_ms + left_ms, quota, alternate
    )
    assert 0 <= followed.quota <= QUOTA_FULL
    if isinstance(followed, Stop):
        assert followed.reason in STOP_REASONS
        return
    floor_ms = 0 if alternate else result.retry_after_ms or 0
    assert floor_ms <= followed.wait_ms < floor_ms + 8000
    assert followed.wait_ms < left_ms
    assert attempt < 3
    assert quota - followed.quota == followed.cost in (5, 14)


@pytest.mark.parametrize(
    "options",
    [{"max_attempts": 0}, {"max_attempts": True}, {"max_attempts": 1.5}, {"wait_base_ms": -1},
     {"wait_max_ms": None}, {"retry_after_max_ms": "1"}],
)  # fmt: skip
def test_a_policy_is_checked_when_it_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        RetryPolicy(**options)
    assert caught.value.code == "config_invalid"


def test_zero_is_a_value() -> None:
    at_once = RetryPolicy(wait_base_ms=0, wait_max_ms=0, retry_after_max_ms=0)
    assert decide(BUSY, policy=at_once, u=0.999) == Wait(0, 486, 14)
    assert RetryPolicy.none.max_attempts == 1


# --- headers -------------------------------------------------------------------------------

NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
NOW_MS = 784_111_777_000


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        ("0", 0), ("7", 7000), ("007", 7000), ("7.5", 7500), ("0.0001", 1), ("0.1230", 123),
        ("0.1231", 124), ("1.0000000001", 1001), ("-1", 0), ("-0.5", 0), (" 7 ", 7000),
        ("\t7", 7000),
        ("9" * 13, 2**53 - 1), ("9" * 5000, 2**53 - 1), ("9007199254740.991", 2**53 - 1),
        ("0" * 5000 + "1", 1000),
        ("+5", None), ("5.", None), (".5", None), ("1e3", None), ("5, 7", None), ("", None),
        ("5s", None), ("\u0665", None), ("\u00b2", None), ("1 2", None), ("- 1", None),
        ("\x0b7", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10_000),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10_000),
        ("Sun Nov  6 08:49:47 1994", 10_000),
        ("Wed Nov 16 08:49:37 1994", 864_000_000),
        ("Mon, 06 Nov 1994 08:49:47 GMT", 10_000),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0),
        ("Sunday, 06-Nov-93 08:49:47 GMT", 0),
        ("Monday, 06-Nov-95 08:49:37 GMT", 31_536_000_000),
        ("Sun, 06 Nov 1994 08:49:47 UTC", None),
        ("sun, 06 Nov 1994 08:49:47 GMT", None),
        ("Sun, 06 NOV 1994 08:49:47 GMT", None),
        ("Sun, 6 Nov 1994 08:49:47 GMT", None),
        ("Sun, 31 Nov 1994 08:49:47 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:60:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:60 GMT", None),
        ("Sun, 06 Nov 0000 08:49:00 GMT", None),
        ("Sunday, 06 Nov 94 08:49:47 GMT", None),
        ("Sun Nov 6 08:49:47 1994", None),
        ("Sun Nov  6 08:49:47 1994 GMT", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT\n", None),
    ],
)  # fmt: skip
def test_every_spelling_of_retry_after(value: str, wait_ms: int | None) -> None:
    assert parse_retry_after([value], None, NOW_MS) == wait_ms
    assert parse_retry_after([value], NOW, NOW_MS) == wait_ms


@pytest.mark.parametrize(
    ("short_year", "ahead"), [(26, True), (70, True), (77, False), (99, False)]
)
def test_a_two_digit_year_is_at_most_fifty_years_ahead(short_year: int, ahead: bool) -> None:
    now_ms = 1_767_225_600_000  # 2026
    wait_ms = parse_retry_after([f"Friday, 06-Nov-{short_year} 08:49:37 GMT"], None, now_ms)
    assert wait_ms is not None
    assert (wait_ms > 0) == ahead


def test_a_date_is_measured_against_the_server_s_clock() -> None:
    later = "Sun, 06 Nov 1994 08:50:37 GMT"
    assert parse_retry_after([later], NOW, NOW_MS + 10**9) == 60_000
    assert parse_retry_after([later], f" {NOW} ", 0) == 60_000
    assert parse_retry_after([later], "no date", NOW_MS) == 60_000
    assert parse_retry_after([later], None, NOW_MS + 1) == 59_999


def test_of_several_the_largest_counts() -> None:
    assert parse_retry_after(["1", "30", "x", "2"], None, 0) == 30_000
    assert parse_retry_after(["x", ""], None, 0) is None
    assert parse_retry_after([], None, 0) is None


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2999, 1, 1)))
def test_all_three_forms_of_a_date_agree(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    stamp = moment.timestamp()
    fixed = formatdate(stamp, usegmt=True)
    asctime = f"{fixed[:3]} {fixed[8:11]} {moment.day:2d} {fixed[17:25]} {moment.year:04d}"
    now_ms = int(stamp * 1000) - 5000
    assert parse_retry_after([fixed], None, now_ms) == 5000
    assert parse_retry_after([asctime], None, now_ms) == 5000
    short = f"Monday, {moment.day:02d}-{fixed[8:11]}-{moment.year % 100:02d} {fixed[17:25]} GMT"
    assert parse_retry_after([short], None, now_ms) in (5000, 0 if moment.second < 5 else 5000)


@pytest.mark.parametrize(
    ("value", "wish"),
    [("true", True), ("false", False), ("True", None), (" true", None), ("1", None), ("", None),
     (None, None)],
)  # fmt: skip
def test_x_should_retry_has_two_spellings(value: str | None, wish: bool | None) -> None:
    assert parse_should_retry(value) is wish


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (
            error_for(
                "unavailable",
                "x",
                status=503,
                retry_after_ms=9,
                headers={"x-should-retry": "false"},
            ),
            Result(status=503, retry_after_ms=9, should_retry=False),
        ),
        (error_for("signature_invalid", "x", status=401), Result(status=401)),
        (
            error_for("response_malformed", "x", status=200),
            Result(status=200, code="response_malformed"),
        ),
        (error_for("attempt_timeout", "x"), Result(code="attempt_timeout")),
    ],
)  # fmt: skip
def test_an_error_says_what_decides(error: Any, result: Result) -> None:
    assert Result.of_error(error) == result


def test_what_was_sent_is_the_transport_s_word() -> None:
    assert not Result.of_error(error_for("connection_lost", "x"), sent=False).sent


def test_jitter_never_reaches_its_bound() -> None:
    assert decide(BUSY, u=math.nextafter(1, 0)) == Wait(499, 486, 14)
