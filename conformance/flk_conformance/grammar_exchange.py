"""Draw retries, Retry-After values, responses, histories of endpoints and images of an outbox."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from .draw import Draw, Question
from .oracle import Fleet

NOW_MS: Final = 1_770_000_000_000
U: Final = ("0000000000000000", "3fe0000000000000", "3fefffffffffffff", "3fd3333333333333")
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LONG_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# --- Retry-After ----------------------------------------------------------------------------


def date(draw: Draw, *, is_near: bool = False) -> str:
    """Write an HTTP date in one of its forms, now and then of a day that does not exist."""
    year = 2026 if is_near else draw.pick((2026, 2026, 1994, 2000, 2028, 2075, 2077, 9999, 1))
    month, day = (2, 2) if is_near else (1 + draw.below(12), 1 + draw.below(31))
    hour, minute = (2, 39 + draw.below(3)) if is_near else (draw.below(25), draw.below(61))
    second = draw.below(60 if is_near else 61)
    clock, name, at = f"{hour:02d}:{minute:02d}:{second:02d}", MONTHS[month - 1], draw.below(7)
    way = draw.below(4)
    if way == 0:
        return f"{LONG_DAYS[at]}, {day:02d}-{name}-{year % 100:02d} {clock} GMT"
    if way == 1:
        return f"{DAYS[at]} {name} {day:2d} {clock} {year:04d}"
    return f"{DAYS[at]}, {day:02d} {name} {year:04d} {clock} GMT"


BAD_WAITS: Final = (
    "", " ", "x", "+5", "5.", ".5", "1e3", "0x10", "5s", "5 6", "5, 7", "1,5", "NaN", "Infinity",
    "--1",
    "\uff15", "5\u00a0", "-", "1_0", "true", "5;6", "1.2.3", "Sun, 31 Apr 2026 08:49:37 GMT",
    "sun, 06 nov 1994 08:49:37 gmt", "Sun, 06 Nov 1994 08:49:37 UTC", "2026-11-06T08:49:37Z",
)  # fmt: skip


def delay(draw: Draw) -> str:
    """Write a delay in seconds, around the bounds more often than not."""
    way = draw.below(8)
    if way == 0:
        return f"{draw.below(130)}.{draw.below(10 ** (1 + draw.below(6)))}"
    if way == 1:
        return draw.pick(("-1", "-0", "-0.5", "007", " 7", "7\t", "0.0001", "59.9999", "60.0001"))
    if way == 2:
        return draw.pick(("9007199254740", "9007199254741", "9" * 20, "1." + "0" * 20 + "1"))
    return str(draw.pick((0, 1, 2, 3, 5, 7, 8, 9, 30, 59, 60, 61, 90, 120)))


def wait(draw: Draw) -> str:
    way = draw.below(10)
    if way == 0:
        return draw.pick(BAD_WAITS)
    if way < 4:
        return date(draw, is_near=draw.one_in(2))
    return delay(draw)


def retry_after(draw: Draw) -> Question:
    values = [wait(draw) for _ in range(draw.pick((0, 1, 1, 1, 1, 1, 2, 3)))]
    args: dict[str, Any] = {"values": values, "now_ms": str(NOW_MS + draw.below(2000))}
    if draw.one_in(2):
        args["date"] = draw.pick(BAD_WAITS) if draw.one_in(6) else date(draw, is_near=True)
    return Question("retry.after", args)


# --- retry.plan -----------------------------------------------------------------------------

RETRIED: Final = (408, 425, 429, 429, 500, 502, 503, 503, 503, 504)
FINAL: Final = (
    200,
    200,
    200,
    202,
    400,
    401,
    403,
    404,
    409,
    409,
    413,
    421,
    422,
    422,
    423,
    431,
    501,
    505,
    301,
    204,
)
ERRORS: Final = (
    "connect_failed", "connection_lost", "attempt_timeout", "tls_failed", "cancelled",
    "response_malformed", "response_too_large",
)  # fmt: skip
QUOTAS: Final = (0, 4, 5, 6, 13, 14, 15, 100, 499, 500)


def outcome(draw: Draw) -> dict[str, Any]:
    if draw.one_in(8):
        return {"status": "0", "headers": [], "error": draw.pick(ERRORS)}
    headers = []
    if draw.one_in(2):
        name = draw.pick(("retry-after", "Retry-After", "RETRY-AFTER"))
        headers += [[name, wait(draw)] for _ in range(1 + draw.one_in(6))]
        if draw.one_in(2):
            headers.append(["Date", date(draw, is_near=True)])
    if draw.one_in(4):
        wish = draw.pick(("true", "true", "true", "false", "TRUE", "1", "", "yes"))
        headers.append(["X-Should-Retry", wish])
    status = draw.pick(FINAL) if draw.one_in(3) else draw.pick(RETRIED)
    return {"status": str(status), "headers": draw.order(headers)}


def plan(draw: Draw) -> Question:
    policy: Any = draw.pick(("default", "default", "none"))
    attempt = 1 + (draw.below(4) if draw.one_in(2) else 0)
    if draw.one_in(3):
        most = draw.pick((1, 2, 3, 4, 9, 9, 9))
        policy = {"max_attempts": str(most)}
        attempt = max(1, most - draw.below(4) + draw.below(2))
    left = draw.pick(
        (
            60_000,
            60_000,
            60_000,
            60_000,
            1_000_000,
            1_000_000,
            0,
            1,
            249,
            250,
            251,
            500,
            7250,
            7251,
            30_000,
        )
    )
    return Question(
        "retry.plan",
        {
            "policy": policy,
            "outcome": outcome(draw),
            "attempt": str(attempt),
            "u": draw.pick(U),
            "now_ms": str(NOW_MS),
            "deadline_ms": str(NOW_MS + left),
            "quota": str(draw.pick(QUOTAS) if draw.one_in(2) else 100 + draw.below(401)),
            "alternate": "true" if draw.one_in(6) else "false",
        },
    )


# --- responses ------------------------------------------------------------------------------

PCS_ID: Final = "ab" * 32
OUTCOME: Final = {
    "accepted": "true", "escalated": "false",
    "first_seen": '{"hlc":"019bc000aaaa0001","region":"eu1"}', "pcs_id": f'"{PCS_ID}"',
    "policy_version": '"3fcb272de67aa246"', "recomputed_D_hat": "1.41", "recomputed_budget": "0.42",
}  # fmt: skip
TOKENS: Final = (
    "null", "true", "false", "0", "1", "3.5", "3.6", "-0", "-0.1", "1e400", '"1"', '""', "[]",
    "{}", "NaN",
    '"other"', '"budget_deviation"', '"n_j_implausible"', '"' + "AB" * 32 + '"',
    '"019BC000AAAA0001"',
)  # fmt: skip
EXCHANGE: Final = (
    ["Idempotency-Replayed", "true"], ["Idempotency-Replayed", "True"], ["PCS-Level", "witnessed"],
    ["PCS-Level", "local"], ["PCS-Position", "eu1/open/0/42"], ["PCS-Position", "eu1/open/0/042"],
    ["PCS-Position", "EU1/open/0/42"], ["X-Request-Id", "r-1"], ["X-Request-Id", "a b"],
    ["x-request-id", "x" * 65], ["X-Other", "1"], ["Content-Type", "application/problem+json"],
    ["Retry-After", "7"], ["PCS-Position", "us2/eu-only/4294967295/9007199254740991"],
)  # fmt: skip


def written(members: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()


def damaged(draw: Draw, data: bytes) -> bytes:
    """Cut a body, or change what is around it."""
    return draw.pick(
        (
            data[: draw.below(len(data) + 1)], data + b"x", b"\xef\xbb\xbf" + data,
            b"[" + data + b"]",
            data[:-1] + b',"accepted":true}', data.decode().encode("utf-16-le"), b"<html></html>",
            b"",
            data[:-1] + b',"x":1}', data.replace(b",", b" ,\n"), data + b" \n",
        )
    )  # fmt: skip


def response(draw: Draw) -> Question:
    members = dict(OUTCOME)
    way = draw.below(4)
    if way == 1:
        members[draw.pick((*OUTCOME, "reason"))] = draw.pick(TOKENS)
    elif way == 2:
        members |= {"escalated": "true", "accepted": draw.pick(("true", "false"))}
        members["reason"] = draw.pick(
            ('"regime_mismatch"', '"budget_deviation"', '"n_j_implausible"', "null")
        )
    data = written(members)
    args = {
        "request": draw.pick(("submit", "submit", "get")),
        "status": draw.pick(("200", "200", "200", "202", "201", "204", "304", "400", "503", "999")),
        "headers": [draw.pick(EXCHANGE) for _ in range(draw.below(3))],
        "body": (damaged(draw, data) if way == 3 else data).hex(),
        "pcs_id": PCS_ID,
    }
    names = [name.lower() for name, _ in args["headers"]]
    if len(set(names)) < len(names):
        args["headers"] = args["headers"][:1]
    return Question("http.response", args)


CODES: Final = (
    '"rate_limited"', '"unavailable"', '"pcs_id_conflict"', '"teapot"', '"RATE_LIMITED"', "1",
    "null",
    '"connect_failed"', '"hex_invalid"', '"not_primary"', '""',
)  # fmt: skip


def error(draw: Draw) -> Question:
    members = {"code": draw.pick(CODES), "type": '"about:blank"'}
    for name, values in (
        ("request_id", ('"r-2"', '"<b>"', "1")), ("pointer", ('"/r"', '""', "1")),
        ("retry_after_ms", ("7000", "0", "9007199254740992", "-1", "1.5", '"7"', "null", "6999")),
    ):  # fmt: skip
        if draw.one_in(2):
            members[name] = draw.pick(values)
    data = written(members)
    headers = [["X-Request-Id", draw.pick(("r-1", "a b", ""))]] if draw.one_in(3) else []
    if draw.one_in(3):
        headers.append(["Retry-After", wait(draw)])
        if draw.one_in(2):
            headers.append(["Date", date(draw, is_near=True)])
    status = draw.pick((*RETRIED, *FINAL[4:17], 599, 418))
    return Question(
        "errors.map",
        {
            "status": str(status),
            "headers": headers,
            "body": (damaged(draw, data) if draw.one_in(4) else data).hex(),
            "now_ms": str(NOW_MS),
        },
    )


def request(draw: Draw) -> Question:
    endpoint = draw.pick(
        (
            "https://a.example",
            "https://a.example/",
            "http://127.0.0.1:8080",
            "https://a.example:8443/base/",
        )
    )
    args = {"endpoint": endpoint, "agent": "test/1", "attempt": str(1 + draw.below(4))}
    if draw.one_in(2):
        args["tenant"] = draw.pick(("tenant-a", "t.1_x-y"))
    if draw.one_in(2):
        body = written(dict(draw.order(list(OUTCOME.items())))).hex()
        args |= {"request": "submit", "body": body, "content": draw.data(32).hex()}
        if draw.one_in(3):
            args["min_ack"] = draw.pick(("durable", "replicated", "witnessed"))
    else:
        args |= {"request": "get", "pcs_id": draw.data(32).hex()}
        if draw.one_in(2):
            args["token"] = "dG9rZW4"
    return Question("http.request", args)


# --- endpoints ------------------------------------------------------------------------------

URLS: Final = ("https://a.example", "https://b.example", "https://c.example")
RESULTS: Final = (
    "200", "200", "429", "503", "503", "503", "500", "504", "404", "connect_failed",
    "connection_lost",
    "attempt_timeout", "tls_failed", "421", "423",
)  # fmt: skip
REGIONS: Final = ("eu1", "us1", "eu2")


def history(draw: Draw) -> Question:
    """Draw a history in which every result comes from the current endpoint."""
    count = 1 + draw.below(3)
    endpoints = [{"url": url} for url in URLS[:count]]
    options: dict[str, Any] = {}
    if draw.one_in(3):
        allowed = draw.order(REGIONS[:count])[: 1 + draw.below(count)]
        endpoints = [{**each, "region": REGIONS[i]} for i, each in enumerate(endpoints)]
        options["allowed_regions"] = allowed
    for name, values in (
        ("down_after", ("1", "2", "3")), ("up_after", ("1", "2", "3")), ("redirect_hops", ("0",
        "1")),
        ("failback_after_ms", ("none", "1000", "100000")),
    ):  # fmt: skip
        if draw.one_in(3):
            options[name] = draw.pick(values)
    args = {"options": options, "endpoints": endpoints}
    return Question("endpoint.plan", {**args, "events": events(draw, Fleet.of(options, endpoints))})


def events(draw: Draw, fleet: Fleet) -> list[dict[str, str]]:
    """Draw what happens; the fleet says who sends."""
    found: list[dict[str, str]] = []
    at_ms = 1_000_000
    for _ in range(1 + draw.below(14)):
        at_ms += draw.pick((1, 1000, 30_000, 700_000))
        event = {"at_ms": str(at_ms), "u": draw.pick(U)}
        way = draw.below(6)
        if way == 0:
            event |= {"event": "call"}
        elif way == 1:
            ok = draw.pick(("true", "true", "false"))
            event |= {"event": "probe", "endpoint": str(draw.pick(fleet.eligible)), "ok": ok}
        else:
            event |= result(draw, fleet.current)
        fleet.step(event)
        found.append(event)
    return found


def result(draw: Draw, sender: int) -> dict[str, str]:
    name = draw.pick(RESULTS)
    event = {"event": "result", "endpoint": str(sender), "result": name}
    event["sent"] = draw.pick(("true", "true", "false"))
    if draw.one_in(4):
        event["retry_after_ms"] = str(draw.pick((0, 1000, 30_000, 300_000)))
    if name in ("421", "423") and not draw.one_in(4):
        hint = draw.pick((*URLS, "https://evil.example"))
        event |= {"hint": hint, "hint_epoch": str(draw.below(6))}
    return event


# --- outbox ---------------------------------------------------------------------------------


def framed(text: bytes) -> bytes:
    return struct.pack(">II", len(text), zlib.crc32(text)) + text


def mark(kind: str, number: int) -> bytes:
    return f'{{"t":"{kind}","id":"{number:016x}"}}'.encode()


def put_text(draw: Draw, number: int) -> bytes:
    members = {
        "pcs_id": f'"{PCS_ID}"', "key": '"' + "cd" * 32 + '"', "kid": '"k1"',
        "tenant": '"tenant-a"',
        "at": "1768478400000", "body": draw.pick(('"{\\"x\\":1}"', '"\u00e9\\n"', '""')),
    }  # fmt: skip
    if draw.one_in(12):
        gone = draw.pick(tuple(members))
        members[gone] = draw.pick(("1", "1.5", "null", '"x"', "{}"))
    if draw.one_in(8):
        del members[draw.pick(("kid", "tenant", "key", "body"))]
    inner = "".join(f',"{name}":{value}' for name, value in members.items())
    return f'{{"t":"put","id":"{number:016x}"{inner}}}'.encode()


def letter(draw: Draw, number: int) -> bytes:
    members = {
        "put": put_text(draw, number).decode(), "code": '"pcs_id_conflict"', "reason": '"x"',
        "response": '"{}"', "status": draw.pick(('"409"', '"409"', "409", '"40"')),
    }  # fmt: skip
    inner = "".join(f',"{name}":{value}' for name, value in members.items())
    return f'{{"t":"dead","id":"{number:016x}"{inner}}}'.encode()


def log(draw: Draw) -> bytes:
    frames = []
    for _ in range(draw.below(6)):
        number = 1 + draw.below(6)
        kind = draw.pick(("ack", "dead", "release", "sent", "hold", "nack"))
        frames.append(put_text(draw, number) if draw.one_in(2) else mark(kind, number))
    return b"".join(map(framed, frames))


def hurt(draw: Draw, data: bytes) -> bytes:
    """Cut, flip, insert or fill with zeros, anywhere."""
    if not data:
        return data
    at = draw.below(len(data))
    way = draw.below(7)
    if way == 0:
        return data[:at]
    if way == 1:
        return data[:at] + bytes([data[at] ^ (1 << draw.below(8))]) + data[at + 1 :]
    if way == 2:
        return data[:at] + draw.data(1 + draw.below(8)) + data[at:]
    return data + bytes(1 + draw.below(40)) if way == 3 else data


def image(draw: Draw) -> Question:
    files = {"outbox-0000000000000001.log": hurt(draw, log(draw))}
    if draw.one_in(3):
        files["outbox-0000000000000004.log"] = hurt(draw, log(draw))
    if draw.one_in(3):
        dead = [letter(draw, 1 + draw.below(6)) for _ in range(1 + draw.below(2))]
        if draw.one_in(2):
            dead.append(mark("release", 1 + draw.below(6)))
        files["dead.log"] = hurt(draw, b"".join(map(framed, dead)))
    return Question("outbox.recover", {"files": {name: data.hex() for name, data in files.items()}})


def exchange(draw: Draw) -> Question:
    """HTTP, retries, endpoints, and images of an outbox cut anywhere."""
    way = draw.below(20)
    if way < 8:
        return plan(draw)
    if way < 11:
        return retry_after(draw)
    if way < 13:
        return response(draw)
    if way < 15:
        return error(draw)
    if way < 16:
        return request(draw)
    return history(draw) if way < 18 else image(draw)
