"""Endpoints, health and failover: `spec/retry.md` 27-43."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from golden.oracle import double
from golden.oracle.fault import Fault

FAILED_ERRORS = ("connect_failed", "connection_lost", "attempt_timeout", "tls_failed")
HALF = "3fe0000000000000"


@dataclass(slots=True)
class Health:
    failures: int = 0
    is_down: bool = False
    failed_at: int = -1
    good: int = 0
    bound_until: int = -1

    @property
    def name(self) -> str:
        return "down" if self.is_down else "suspect" if self.failures else "up"


@dataclass(slots=True)
class Fleet:
    urls: list[str]
    eligible: list[int]
    down_after: int
    up_after: int
    failback_after_ms: int | None
    redirect_hops: int
    health: list[Health] = field(default_factory=list)
    current: int = 0
    failback_at: int | None = None
    hops: int = 0
    epoch_seen: int = -1

    @classmethod
    def of(cls, options: dict[str, Any], endpoints: list[dict[str, str]]) -> Fleet:
        allowed = options.get("allowed_regions")
        eligible = [
            i for i, e in enumerate(endpoints) if allowed is None or e.get("region") in allowed
        ]
        if not eligible:
            raise Fault("config_invalid")
        failback = options.get("failback_after_ms", "600000")
        return cls(
            [e["url"] for e in endpoints],
            eligible,
            int(options.get("down_after", "3")),
            int(options.get("up_after", "2")),
            None if failback == "none" else int(failback),
            int(options.get("redirect_hops", "3")),
            [Health() for _ in endpoints],
            eligible[0],
        )

    def fail(self, index: int, at: int) -> None:
        health = self.health[index]
        health.failures += 1
        health.failed_at = at
        health.good = 0
        health.is_down = health.is_down or health.failures >= self.down_after

    def oldest(self, indices: list[int]) -> int:
        return min(indices, key=lambda i: (self.health[i].failed_at, i))

    def other(self, sender: int, at: int) -> int:
        """Choose by sentences 34 and 35."""
        rest = [i for i in self.eligible if i != sender and not self.health[i].is_down]
        free = [i for i in rest if self.health[i].bound_until <= at]
        up = [i for i in free if self.health[i].name == "up"]
        if up:
            return up[0]
        if free:
            return self.oldest(free)
        if not self.health[sender].is_down:
            return sender
        if rest:
            return min(rest, key=lambda i: (self.health[i].bound_until, i))
        return self.oldest(self.eligible)

    def move(self, target: int, at: int, u: int) -> None:
        """Make an endpoint current, and start or end the time to failback (40)."""
        home = self.eligible[0]
        if target == home:
            self.failback_at = None
        elif self.current == home and self.failback_after_ms is not None:
            share = Fraction(1, 2) + double.value(u)
            self.failback_at = at + (self.failback_after_ms * share).__floor__()
        if self.current == home and target != home and not self.health[home].is_down:
            self.health[home].good = 0
        self.current = target

    def call(self, at: int, u: int) -> None:
        self.hops = 0
        home = self.health[self.eligible[0]]
        due = self.failback_at is not None and at >= self.failback_at
        if due and home.name == "up" and home.good >= self.up_after:
            self.move(self.eligible[0], at, u)
        elif self.health[self.current].is_down:
            self.move(self.other(self.current, at), at, u)

    def probe(self, index: int, good: bool, at: int) -> None:
        health = self.health[index]
        if not good:
            health.good = 0
            if not health.is_down:
                self.fail(index, at)
            return
        health.good += 1
        if not health.is_down or health.good >= self.up_after:
            health.is_down, health.failures = False, 0

    def result(self, event: dict[str, str], at: int, u: int) -> bool:
        """Take the result of an attempt; tell whether the next goes elsewhere."""
        sender, result = int(event["endpoint"]), event["result"]
        status = int(result) if result.isdigit() else 0
        if status >= 500 or result in FAILED_ERRORS:
            self.fail(sender, at)
        else:
            self.health[sender].failures, self.health[sender].is_down = 0, False
        if status in (429, 503) and "retry_after_ms" in event:
            self.health[sender].bound_until = at + int(event["retry_after_ms"])
        cut = result in ("connection_lost", "attempt_timeout")
        refused = status == 503 or result == "connect_failed" or (cut and event["sent"] == "false")
        ambiguous = (cut and event["sent"] == "true") or (status >= 500 and status != 503)
        target = sender
        if refused or (ambiguous and self.health[sender].is_down):
            target = self.other(sender, at)
        elif status in (421, 423) and "hint" in event:
            target = self.hinted(event, sender)
        self.move(target, at, u)
        return target != sender

    def hinted(self, event: dict[str, str], sender: int) -> int:
        epoch = int(event["hint_epoch"])
        found = [i for i in self.eligible if self.urls[i] == event["hint"]]
        if not found or epoch < self.epoch_seen or self.hops >= self.redirect_hops:
            return sender
        self.epoch_seen = epoch
        self.hops += 1
        return found[0]

    def step(self, event: dict[str, str]) -> dict[str, Any]:
        at, u = int(event["at_ms"]), int(event.get("u", HALF), 16)
        alternate = False
        if event["event"] == "call":
            self.call(at, u)
        elif event["event"] == "probe":
            self.probe(int(event["endpoint"]), event["ok"] == "true", at)
        else:
            alternate = self.result(event, at, u)
        states = [h.name for h in self.health]
        return {
            "current": str(self.current),
            "states": states,
            "alternate": "true" if alternate else "false",
        }
