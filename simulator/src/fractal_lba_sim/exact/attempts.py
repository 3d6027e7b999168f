"""The attempts of one request, as the SDK's own rules order them (spec/retry.md).

What follows an attempt is decided by `retry.plan` and the fleet of endpoints of the SDK; only the
carrying out is simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fractal_lba.endpoints import FailoverPolicy
from fractal_lba.retry import FIRST_SUCCESS_GAIN, QUOTA_FULL, Result, RetryPolicy, Stop, plan

from ..waiting import NS_PER_MS, NS_PER_S
from .net import Failure
from .network import CLIENT

if TYPE_CHECKING:
    from .client import Client


CALL_NS: Final = 15 * NS_PER_S
"""After this a call gives up; with an outbox its record goes on."""


@lru_cache(maxsize=1_024)
def _result(status: int, retry_after_ms: int | None) -> Result:
    return Result(status=status, retry_after_ms=retry_after_ms)


class Rules(NamedTuple):
    """How a population behaves."""

    attempt_ns: int
    level: str
    """Until when the outbox holds a record."""
    has_outbox: bool
    failover: FailoverPolicy
    retry: RetryPolicy


class Attempts:
    """The attempts of one request (spec/retry.md), until there is an answer or a reason to stop."""

    __slots__ = (
        "_attempt", "_client", "_deadline_ns", "_done", "_hops", "_place", "_sender", "_serve",
        "_size", "_taken", "_write",
    )  # fmt: skip

    def __init__(
        self, client: Client, serve: Callable[..., Any], size: int,
        write: Callable[[str, int, Any], None], done: Callable[[Any, Result], None],
    ) -> None:  # fmt: skip
        self._client = client
        self._serve = serve
        self._size = size
        self._deadline_ns = client.world.agenda.now_ns + CALL_NS
        self._write = write
        self._done = done
        self._attempt = self._taken = self._hops = 0
        self._sender = 0
        self._place = client.place()

    def begin(self) -> None:
        """Choose an endpoint and send."""
        client = self._client
        if (
            client.fleet.failback_at_ms is not None
            or client.fleet.states[client.fleet.current].down
        ):
            client.moved(client.fleet.begun(now_ms=client.now_ms(), u=client.chance.random()))
        self._sender = client.fleet.current
        self._send()

    def _send(self) -> None:
        client = self._client
        client.probe_what_is_due()
        now_ns = client.world.agenda.now_ns
        left_ns = self._deadline_ns - now_ns
        if left_ns <= 0:
            late = Failure("deadline_exceeded", sent=False)
            self._done(late, Result(code="deadline_exceeded"))
            return
        self._attempt += 1
        code = client.target(self._sender, self._place)
        timeout_ns = min(client.rules.attempt_ns, left_ns)
        client.world.net.ask(
            CLIENT, code, self._size, self._serve,
            partial(self._heard, code, now_ns), timeout_ns=timeout_ns,
        )  # fmt: skip

    def _heard(self, code: str, called_ns: int, answer: Any) -> None:
        client = self._client
        self._write(code, called_ns, answer)
        if isinstance(answer, Failure):
            result = Result(code=answer.code, sent=answer.sent)
        else:
            client.hear(answer)
            result = _result(answer.status, answer.retry_after_ms)
        if result.succeeded and self._attempt == 1 and client.took_well(self._sender):
            client.quota = min(client.quota + FIRST_SUCCESS_GAIN, QUOTA_FULL)
            self._done(answer, result)
            return
        self._follow(answer, result)

    def _follow(self, answer: Any, result: Result) -> None:
        """Let the SDK's rules say what comes next."""
        client, now_ms, u = self._client, self._client.now_ms(), self._client.chance.random()
        client.moved(client.fleet.attempted(self._sender, result, now_ms=now_ms, u=u))
        target = self._next_endpoint(answer, result, u)
        deadline_ms = now_ms + (self._deadline_ns - client.world.agenda.now_ns) // NS_PER_MS
        decision = plan(
            client.rules.retry, result, self._attempt, u, now_ms, deadline_ms, client.quota,
            target != self._sender, taken=self._taken,
        )  # fmt: skip
        client.quota = decision.quota
        if isinstance(decision, Stop):
            self._done(answer, result)
            return
        self._taken, self._sender = decision.cost, target
        client.world.agenda.after(decision.wait_ms * NS_PER_MS, self._send)

    def _next_endpoint(self, answer: Any, result: Result, u: float) -> int:
        client = self._client
        extras = None if isinstance(answer, Failure) else answer.extras
        hint = (extras or {}).get("leader_hint")
        if hint is not None:
            hinted = client.fleet.hinted(
                hint["endpoint"], hint["region_epoch"], hops=self._hops, now_ms=client.now_ms(),
                u=u,
            )  # fmt: skip
            if hinted is not None:
                client.moved(hinted)
                self._hops += 1
                return hinted.current
        return client.fleet.next_for(self._sender, result)
