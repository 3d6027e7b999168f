"""The retry rules once more, as a small simulation; it must agree with `waiting.plan`.

Nothing of the formulas is shared: the clock ticks from event to event, the bound of the jitter
grows by doubling, every stop is an event with a rank, and the first in rank wins.
"""

from __future__ import annotations

import re
from typing import Any

from golden.oracle import double

RANKS = (
    "success",
    "cancelled",
    "server_refused",
    "not_retryable",
    "attempts_exhausted",
    "retry_after_too_long",
    "deadline_exceeded",
    "quota_exhausted",
)


def delay_ms(text: str) -> int | None:
    """Count the milliseconds of a delay digit by digit; dates are left to the other oracle."""
    text = text.strip(" \t")
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return None
    if text[0] == "-":
        return 0
    whole, _, fraction = text.partition(".")
    total = 0
    for digit in whole:
        total = total * 10 + ord(digit) - ord("0")
    total *= 1000
    unit = 100
    for place, digit in enumerate(fraction):
        value = ord(digit) - ord("0")
        if place < 3:
            total += value * unit
            unit //= 10
        elif value:
            return min(total + 1, 2**53 - 1)
    return min(total, 2**53 - 1)


def simulate(args: dict[str, Any]) -> dict[str, str] | None:
    """Play one decision; None if a date is involved."""
    outcome = args["outcome"]
    status, error = int(outcome["status"]), outcome.get("error")
    fields: dict[str, list[str]] = {}
    for name, value in outcome["headers"]:
        fields.setdefault(name.lower(), []).append(value)
    delays = [delay_ms(v) for v in fields.get("retry-after", [])]
    if any(
        (d is None and "GMT" in v) or (re.search(r"\d{4}$", v) and ":" in v)
        for d, v in zip(delays, fields.get("retry-after", []), strict=True)
    ):
        return None
    known = sorted(d for d in delays if d is not None)
    policy = args["policy"]
    allowed = {"default": 3, "none": 1}.get(policy if isinstance(policy, str) else "", 0)
    allowed = allowed or int(policy["max_attempts"])
    happened: set[str] = set()
    good = error is None and status in (200, 202)
    asked = fields.get("x-should-retry", [""])
    is_refusal = error is None and status >= 400
    word = asked[0] if is_refusal and len(asked) == 1 else ""
    if good:
        happened.add("success")
    if error == "cancelled":
        happened.add("cancelled")
    if word == "false":
        happened.add("server_refused")
    come_back = error in ("connect_failed", "connection_lost", "attempt_timeout")
    if error is None:
        come_back = status in {408, 425, 429} | {500, 502, 503, 504}
    if not come_back and word != "true":
        happened.add("not_retryable")
    # Attempts already made fill the slots that the policy gives.
    slots = ["used"] * int(args["attempt"]) + ["free"] * allowed
    if "free" not in slots[:allowed]:
        happened.add("attempts_exhausted")
    clock = int(args["now_ms"])
    begun = clock
    floor = known[-1] if known and args["alternate"] == "false" else 0
    if floor > 60_000:
        happened.add("retry_after_too_long")
    clock += floor
    bound = 500
    for _ in range(min(int(args["attempt"]), 64) - 1):
        bound = min(bound * 2, 8000)
    scaled = double.nearest(double.value(int(args["u"], 16)) * bound)
    mantissa, power = double.parts(scaled)
    clock += mantissa << power if power >= 0 else mantissa >> -power
    if clock >= int(args["deadline_ms"]):
        happened.add("deadline_exceeded")
    purse = int(args["quota"])
    told = error is None and (status == 429 or (status == 503 and bool(known)))
    price = 5 if told else 14
    if purse - price < 0:
        happened.add("quota_exhausted")
    for reason in RANKS:
        if reason in happened:
            earned = 1 if reason == "success" and args["attempt"] == "1" and purse < 500 else 0
            return {"stop": reason, "quota": str(purse + earned)}
    return {"wait_ms": str(clock - begun), "quota": str(purse - price)}
