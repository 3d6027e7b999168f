"""Test programs that use this package: a fake clock, a seeded random, a scripted transport.

>>> from functools import partial
>>> clock = FakeClock()
>>> transport = ScriptedTransport([Reply(503), Reply(404)], clock=clock)
>>> request = Request("GET", "https://a.example/health", ())
>>> send = partial(transport.send, connect_timeout_s=1, attempt_timeout_s=1, cancel=None)
>>> send(request).status, send(request).status, len(transport.requests)
(503, 404, 2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Never

from .canonical import jcs
from .errors import CancelledError, error_for
from .http import Cancel, RawResponse, Request

__all__ = [
    "FakeClock",
    "Fault",
    "Reply",
    "ScriptedTransport",
    "SeededRandom",
    "Step",
    "outcome_body",
]

START_MS = 1_767_225_600_000
"""Where a fake clock starts: 2026-01-01T00:00:00Z."""

_MASK = (1 << 64) - 1


class FakeClock:
    """Tell a time that only moves when it is told to; sleeping moves it at once.

    `waits_ms` keeps every wait in order.
    """

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._lock = Lock()
        self.waits_ms: list[int] = []

    def now_ms(self) -> int:
        """Give Unix milliseconds."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back."""
        return self._now_ms

    def advance(self, step_ms: int) -> None:
        """Let time pass."""
        if step_ms < 0:
            raise ValueError(f"step_ms: expected >= 0, got {step_ms}")
        with self._lock:
            self._now_ms += step_ms

    def wait(self, wait_ms: int, cancel: Cancel | None = None) -> bool:
        """Let `wait_ms` pass unless cancelled; say whether it was cancelled."""
        if cancel is not None and cancel.is_set():
            return True
        self.waits_ms.append(wait_ms)
        self.advance(wait_ms)
        return False

    async def wait_async(self, wait_ms: int) -> None:
        """Let `wait_ms` pass."""
        self.wait(wait_ms)


class SeededRandom:
    """Draw the same numbers in [0, 1) for the same seed, in every language (SplitMix64).

    >>> SeededRandom(0).random()
    0.8833108082136426
    """

    def __init__(self, seed: int = 0) -> None:
        self._state = seed & _MASK
        self._lock = Lock()

    def random(self) -> float:
        """Give the next number."""
        with self._lock:
            self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
            z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request, after `delay_ms` of the clock."""

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Fail a request with one of the codes that a transport may raise."""

    code: str
    delay_ms: int = 0


Step = Reply | Fault | Callable[[Request], "Reply | Fault"]


class ScriptedTransport:
    """Answer requests from a script, one step each; a step may be a function of the request.

    `requests` keeps what was sent, in order. A script that has run out is an AssertionError:
    the program sent more than the test expects.
    """

    def __init__(self, script: Iterable[Step], *, clock: FakeClock | None = None) -> None:
        self._script = iter(script)
        self._lock = Lock()
        self.clock = clock or FakeClock()
        self.requests: list[Request] = []

    def send(
        self,
        request: Request,
        *,
        connect_timeout_s: float,  # noqa: ARG002 - the protocol has it
        attempt_timeout_s: float,
        cancel: Cancel | None,
    ) -> RawResponse:
        """Play the next step. A delay past `attempt_timeout_s` is an `attempt_timeout`."""
        if cancel is not None and cancel.is_set():
            raise CancelledError("cancelled", "the caller cancelled")
        step = self._next(request)
        limit_ms = int(attempt_timeout_s * 1000)
        self.clock.advance(min(step.delay_ms, limit_ms))
        if step.delay_ms > limit_ms:
            _fail("attempt_timeout", request)
        if isinstance(step, Fault):
            _fail(step.code, request)
        return RawResponse(step.status, list(step.headers), step.body)

    async def send_async(self, request: Request, **options: Any) -> RawResponse:
        """Play the next step for an asynchronous client."""
        return self.send(request, **options)

    def _next(self, request: Request) -> Reply | Fault:
        with self._lock:
            self.requests.append(request)
            step = next(self._script, None)
        if step is None:
            raise AssertionError(f"the script ended before request {len(self.requests)}")
        return step(request) if callable(step) else step

    def close(self) -> None:
        """Do nothing: there is nothing open."""


def _fail(code: str, request: Request) -> Never:
    raise error_for(code, f"scripted for {request.method} {request.url}")


def outcome_body(pcs_id: str, **changes: Any) -> bytes:
    """Write an outcome as a server stores it: accepted, unless `changes` say otherwise."""
    outcome = {
        "accepted": True,
        "escalated": False,
        "first_seen": {"region": "fra", "hlc": "019b76da35b10000"},
        "pcs_id": pcs_id,
        "policy_version": "0123456789abcdef",
        "recomputed_D_hat": 2.0,
        "recomputed_budget": 0.35,
    }
    return jcs({**outcome, **changes})
