"""Suite `retry`: what follows an attempt, and how Retry-After is read."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from golden.oracle import double, waiting, waiting_simulation
from golden.oracle.emit import Flag, Stream, Suite

FLAGS = {
    "Alternate": Flag("Another endpoint takes the next attempt.", ("retry 6", "retry 37")),
    "Attempts": Flag("The count of attempts.", ("retry 5", "retry 11")),
    "Deadline": Flag("A wait that cannot fit is not begun.", ("retry 7", "retry 17")),
    "Floor": Flag("Retry-After is a floor.", ("retry 7", "retry 20")),
    "Jitter": Flag("Full jitter with doubling and cap.", ("retry 7",)),
    "Order": Flag("The rules hold in their order.", ("retry 1", "retry 2", "retry 3", "retry 4", "retry 8", "retry 9")),
    "Quota": Flag("The retry quota.", ("retry 8", "retry 13", "retry 14", "retry 15")),
    "Status": Flag("Which results are retried.", ("retry 4", "retry 10")),
    "TooLong": Flag("A Retry-After beyond a minute.", ("retry 6",)),
    "Wish": Flag("X-Should-Retry.", ("retry 3", "retry 4", "retry 12")),
}
AFTER_FLAGS = {
    "Date": Flag("The three forms of a date.", ("retry 23", "retry 24")),
    "DateBase": Flag("What a date is measured against.", ("retry 25",)),
    "Delay": Flag("Delays in seconds.", ("retry 21", "retry 22")),
    "Several": Flag("The largest of several.", ("retry 26",)),
    "Unreadable": Flag("Unreadable is absent.", ("retry 21", "retry 23")),
}
HALF = "3fe0000000000000"
LAST = "3fefffffffffffff"
NOW = 1_770_000_000_000


def policy_of(value: Any) -> waiting.Policy:
    if isinstance(value, str):
        return {"default": waiting.Policy(), "none": waiting.Policy(max_attempts=1)}[value]
    return waiting.Policy(max_attempts=int(value["max_attempts"]))


def run(args: dict[str, Any]) -> dict[str, Any]:
    outcome = args["outcome"]
    headers = tuple((k, v) for k, v in outcome["headers"])
    result = waiting.Result(int(outcome["status"]), headers, outcome.get("error"))
    decided = waiting.plan(policy_of(args["policy"]), result, int(args["attempt"]), int(args["u"], 16),
                           int(args["now_ms"]), int(args["deadline_ms"]), int(args["quota"]), args["alternate"] == "true")
    played = waiting_simulation.simulate(args)
    if played is not None and played != decided:
        raise AssertionError(f"the two oracles differ: {decided} {played} {args}")
    return decided


def arguments(status: int = 503, *headers: tuple[str, str], error: str | None = None, **more: Any) -> dict[str, Any]:
    outcome: dict[str, Any] = {"status": str(status), "headers": [list(h) for h in headers]}
    if error is not None:
        outcome |= {"error": error}
    return {"policy": "default", "outcome": outcome, "attempt": "1", "u": HALF, "now_ms": str(NOW),
            "deadline_ms": str(NOW + 60_000), "quota": "500", "alternate": "false", **more}


def after(seconds: str) -> tuple[str, str]:
    return ("retry-after", seconds)


def plans() -> Suite:
    s = Suite("retry/plan.json", "retry.plan", "suites/retry.py", FLAGS, run)

    def add(name: str, flag: str, args: dict[str, Any], *kills: str) -> None:
        s.add(f"retry/{name}", flag, args, kills=kills)

    statuses = [*range(400, 432), 451, 499, *range(500, 512), 520, 598, 599, 301, 302, 303, 304, 307, 308, 201, 204, 205, 206]
    for status in statuses:
        add(f"status-{status}", "Status", arguments(status))
    for status in (200, 202):
        for attempt, quota in (("1", "500"), ("1", "499"), ("1", "0"), ("2", "486"), ("3", "100")):
            add(f"success-{status}-{attempt}-{quota}", "Quota", arguments(status, attempt=attempt, quota=quota))
        add(f"success-{status}-wish", "Wish", arguments(status, ("x-should-retry", "true")))
        add(f"malformed-{status}", "Status", arguments(status, error="response_malformed"))
    for error in ("connect_failed", "connection_lost", "attempt_timeout", "tls_failed", "cancelled", "response_malformed", "response_too_large", "deadline_exceeded"):
        add(f"error-{error.replace('_', '-')}", "Status", arguments(0, error=error))
        add(f"error-{error.replace('_', '-')}-last", "Order", arguments(0, error=error, attempt="3"))
    jitters(add)
    floors(add)
    limits(add)
    wishes(add)
    draw = Stream("retry/plan")
    for i in range(60):
        status = draw.pick((429, 500, 502, 503, 504, 408, 425, 409, 401))
        headers = [after(draw.pick(("0", "1", "7", "59.999", "60", "61", "x")))] if draw.below(2) else []
        more = {"attempt": str(1 + draw.below(5)), "u": f"{0x3FD0000000000000 + draw.below(2**53):016x}", "quota": str(draw.below(40)),
                "deadline_ms": str(NOW + draw.below(70_000)), "alternate": draw.pick(("true", "false", "false")),
                "policy": draw.pick(("default", {"max_attempts": "5"}))}
        if status == 429:
            more["alternate"] = "false"
        add(f"drawn-{i:02d}", "Order", arguments(status, *headers, **more))
    return s


def jitters(add: Any) -> None:
    long: dict[str, Any] = {"policy": {"max_attempts": "40"}, "deadline_ms": str(NOW + 10**9)}
    for attempt in (1, 2, 3, 4, 5, 6, 7, 10, 30, 39):
        for name, u in (("zero", "0" * 16), ("half", HALF), ("last", LAST), ("tenth", "3fb999999999999a"), ("tiny", "3f60624dd2f1a9fc")):
            add(f"jitter-{attempt}-{name}", "Jitter", arguments(500, attempt=str(attempt), u=u, **long))
    for k in (1, 3, 7, 49, 123, 250, 377, 499):
        bits = double.nearest(Fraction(k, 500))
        for step, name in ((-1, "below"), (0, "at"), (1, "above")):
            add(f"jitter-500th-{k}-{name}", "Jitter", arguments(502, u=f"{bits + step:016x}"))


def floors(add: Any) -> None:
    for text in ("0", "1", "7", "30", "59", "60", "60.000", "0.5", "1.0001", "0.0001", "-5", "00007", " 7 ", "5.25"):
        slug = text.replace(" ", "s.").replace("-", "minus.")
        for status in (429, 503, 500):
            add(f"floor-{status}-{slug}", "Floor", arguments(status, after(text), deadline_ms=str(NOW + 10**6)))
    for text in ("60.0001", "60.001", "61", "3600", "86400", "99999999999999999999"):
        for status in (429, 503):
            add(f"too-long-{status}-{text}", "TooLong", arguments(status, after(text), deadline_ms=str(NOW + 10**9)))
        add(f"too-long-alternate-{text}", "Alternate", arguments(503, after(text), alternate="true"))
    for text in ("7", "30", "60"):
        add(f"alternate-{text}", "Alternate", arguments(503, after(text), alternate="true"))
    add("alternate-plain", "Alternate", arguments(0, error="connect_failed", alternate="true"))
    add("alternate-deadline", "Alternate", arguments(503, after("30"), alternate="true", deadline_ms=str(NOW + 251)))
    add("alternate-attempts", "Alternate", arguments(503, alternate="true", attempt="3"))
    add("alternate-quota", "Alternate", arguments(503, alternate="true", quota="13"))
    for name, headers in {"upper": [("Retry-After", "7")], "mixed": [("rEtRy-AfTeR", "7")], "two": [after("3"), after("7")],
                          "two-falling": [after("7"), after("3")], "one-bad": [after("x"), after("7")], "bad": [after("soon")], "empty": [after("")],
                          "comma": [after("3, 7")], "exponent": [after("1e3")]}.items():
        add(f"floor-name-{name}", "Floor", arguments(503, *headers))
    date = ("date", "Mon, 02 Feb 2026 02:39:50 GMT")
    for name, text in {"imf": "Mon, 02 Feb 2026 02:40:07 GMT", "rfc850": "Monday, 02-Feb-26 02:40:07 GMT", "asctime": "Mon Feb  2 02:40:07 2026",
                       "past": "Mon, 02 Feb 2026 02:39:00 GMT", "too-long": "Mon, 02 Feb 2026 02:41:01 GMT", "bad": "Mon, 30 Feb 2026 02:40:07 GMT"}.items():
        add(f"date-{name}", "Floor", arguments(503, after(text), date))
        add(f"date-{name}-now", "Floor", arguments(503, after(text)))


def limits(add: Any) -> None:
    for wait, headers in ((250, ()), (7250, (after("7"),))):
        for step in (-1, 0, 1, 2):
            add(f"deadline-{wait}-{step + 1}", "Deadline", arguments(503, *headers, deadline_ms=str(NOW + wait + step)))
    add("deadline-passed", "Deadline", arguments(503, deadline_ms=str(NOW - 1)))
    add("deadline-now-zero-wait", "Deadline", arguments(503, u="0" * 16, deadline_ms=str(NOW)))
    add("deadline-next-zero-wait", "Deadline", arguments(503, u="0" * 16, deadline_ms=str(NOW + 1)))
    for quota in ("0", "4", "5", "6", "13", "14", "15", "19", "499", "500"):
        for name, args in {"500": arguments(500), "429": arguments(429), "503": arguments(503), "503-after": arguments(503, after("1")),
                           "503-bad-after": arguments(503, after("x")), "500-after": arguments(500, after("1")), "connect": arguments(0, error="connect_failed")}.items():
            add(f"quota-{name}-{quota}", "Quota", {**args, "quota": quota})
    for attempt in ("1", "2", "3", "4", "100"):
        for name, policy in {"default": "default", "none": "none", "one": {"max_attempts": "1"}, "two": {"max_attempts": "2"}, "four": {"max_attempts": "4"}}.items():
            add(f"attempts-{name}-{attempt}", "Attempts", arguments(503, attempt=attempt, policy=policy))
    add("order-attempts-before-too-long", "Order", arguments(503, after("3600"), attempt="3"))
    add("order-too-long-before-deadline", "Order", arguments(503, after("3600"), deadline_ms=str(NOW)))
    add("order-deadline-before-quota", "Order", arguments(503, deadline_ms=str(NOW), quota="0"))
    add("order-refused-before-attempts", "Order", arguments(503, ("x-should-retry", "false"), attempt="3"))
    add("order-not-retryable-before-attempts", "Order", arguments(404, attempt="3"))


def wishes(add: Any) -> None:
    for value in ("true", "false", "TRUE", "False", "1", "0", "yes", "", "true,false"):
        slug = {"TRUE": "upper", "False": "capital", "": "empty", "true,false": "both"}.get(value, value)
        for status in (400, 401, 409, 423, 501, 503):
            add(f"wish-{slug}-{status}", "Wish", arguments(status, ("X-Should-Retry", value)))
    for status in (204, 301, 304):
        add(f"wish-true-{status}", "Wish", arguments(status, ("x-should-retry", "true")))
    add("wish-true-last", "Wish", arguments(409, ("x-should-retry", "true"), attempt="3"))
    add("wish-true-deadline", "Wish", arguments(409, ("x-should-retry", "true"), deadline_ms=str(NOW)))
    add("wish-true-quota", "Wish", arguments(409, ("x-should-retry", "true"), quota="13"))
    add("wish-true-floor", "Wish", arguments(423, ("x-should-retry", "true"), after("7")))


def run_after(args: dict[str, Any]) -> dict[str, Any]:
    ms = waiting.after_ms(args["values"], args.get("date"), int(args["now_ms"]))
    return {"none": "true"} if ms is None else {"ms": str(ms)}


DELAYS = ("0", "1", "7", "60", "120", "007", "0.5", "0.001", "0.0001", "0.0010", "1.0000", "1.9999", "0.000", "-1", "-0", "-0.5", "-99999", " 7", "7 ", "\t7\t",
          "9007199254740", "9007199254741", "99999999999999999999", "1.00000000000000000001", "3600.25", "0.9999")
BAD = ("", " ", "x", "+5", "5.", ".5", "1e3", "0x10", "5s", "5 6", "5, 7", "1,5", "NaN", "Infinity", "--1", "\uff15", "5\u00a0", "-", "1_0", "true", "soon", "5;6", "1.2.3")
BAD_DATES = ("Sun, 6 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC",
             "Sun, 06 Nov 1994 08:49:37 +0000", "sun, 06 nov 1994 08:49:37 gmt", "Sun, 06 NOV 1994 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT",
             "Sun, 31 Apr 2026 08:49:37 GMT", "Sun, 29 Feb 2026 08:49:37 GMT", "Sun, 00 Nov 2026 08:49:37 GMT", "Sun, 06 Nov 2026 24:00:00 GMT",
             "Sun, 06 Nov 2026 08:60:00 GMT", "Sat, 31 Dec 2016 23:59:60 GMT", "Sun, 06-Nov-2026 08:49:37 GMT", "Sunday, 06 Nov 2026 08:49:37 GMT",
             "Sun Nov 6 08:49:37 2026", "Sun Nov 06 08:49:37 2026 GMT", "Sun,06 Nov 2026 08:49:37 GMT", "2026-11-06T08:49:37Z", "Sun, 06 Nov 2026 8:49:37 GMT",
             "Sun, 06 Nov 0000 08:49:37 GMT", "Xyz, 06 Nov 2026 08:49:37 GMT")


def afters() -> Suite:
    s = Suite("retry/after.json", "retry.after", "suites/retry.py", AFTER_FLAGS, run_after)

    def add(name: str, flag: str, *values: str, date: str | None = None, now_ms: int = NOW) -> None:
        args: dict[str, Any] = {"values": list(values), "now_ms": str(now_ms)}
        s.add(f"retry/after-{name}", flag, args if date is None else {**args, "date": date})

    for i, text in enumerate(DELAYS):
        add(f"delay-{i:02d}", "Delay", text)
    for i, text in enumerate((*BAD, *BAD_DATES)):
        add(f"bad-{i:02d}", "Unreadable", text)
    add("none", "Unreadable")
    for form, text in {"imf": "Mon, 02 Feb 2026 02:40:07 GMT", "rfc850": "Monday, 02-Feb-26 02:40:07 GMT", "asctime": "Mon Feb  2 02:40:07 2026",
                       "wrong-day": "Fri, 02 Feb 2026 02:40:07 GMT", "leap": "Thu, 29 Feb 2028 00:00:00 GMT", "asctime-two": "Thu Feb 12 02:40:07 2026",
                       "asctime-zero": "Mon Feb 02 02:40:07 2026", "year-end": "Thu, 31 Dec 2026 23:59:59 GMT", "far": "Fri, 31 Dec 9999 23:59:59 GMT"}.items():
        add(f"{form}-now", "Date", text)
        add(f"{form}-date", "DateBase", text, date="Mon, 02 Feb 2026 02:39:50 GMT")
        add(f"{form}-date-rfc850", "DateBase", text, date="Monday, 02-Feb-26 02:39:50 GMT")
        add(f"{form}-date-bad", "DateBase", text, date="yesterday")
    for short in ("00", "25", "26", "27", "75", "76", "77", "94", "99"):
        add(f"century-{short}", "Date", f"Monday, 02-Feb-{short} 02:40:07 GMT")
    add("century-1999", "Date", "Monday, 02-Feb-00 02:40:07 GMT", now_ms=946_684_799_000)
    add("past", "Date", "Sun, 06 Nov 1994 08:49:37 GMT")
    add("past-asctime", "Date", "Sun Nov  6 08:49:37 1994")
    add("past-rfc850", "Date", "Sunday, 06-Nov-94 08:49:37 GMT")
    add("half-second-now", "DateBase", "Mon, 02 Feb 2026 02:40:07 GMT", now_ms=NOW + 500)
    for name, values in {"two": ("3", "7"), "falling": ("7", "3"), "bad-first": ("x", "3"), "bad-last": ("3", "x"), "both-bad": ("x", "y"), "negative": ("-1", "3"),
                         "date-and-delay": ("Mon, 02 Feb 2026 02:40:07 GMT", "3"), "same": ("5", "5"), "ten": tuple(str(i) for i in range(10))}.items():
        add(f"several-{name}", "Several", *values)
    return s


def suites() -> list[Suite]:
    return [plans(), afters()]
