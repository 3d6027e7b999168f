"""Family T: other decisions about what follows an attempt (spec/retry.md 1 to 26)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from fractal_lba import retry
from fractal_lba.retry import QUOTA_FULL, Result, RetryPolicy, Stop, Wait

from .patching import Patch, mutation

Plan = Callable[..., Wait | Stop]

RIGHT: Final[Plan] = retry.plan
CAP_MS: Final = RetryPolicy.default.wait_max_ms


def plans(id: str, plan: Plan) -> None:
    """Register a mutant that plans in another way; `plan` has the arguments of the SDK's."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(RIGHT, plan)


def outcomes(id: str, change: Callable[[Result], Result]) -> None:
    """Register a mutant that takes an outcome for another one."""
    plans(id, lambda policy, outcome, *rest, **more: RIGHT(policy, change(outcome), *rest, **more))


def statuses(
    id: str, *, also: frozenset[int] = frozenset(), never: frozenset[int] = frozenset()
) -> None:
    """Register a mutant that retries after other statuses."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.set(retry, "RETRIED_STATUSES", (retry.RETRIED_STATUSES | also) - never)


def unless_longer(outcome: Result) -> Result:
    """Forget a Retry-After that is longer than the policy honours."""
    asked_ms = outcome.retry_after_ms or 0
    too_long = asked_ms > RetryPolicy.default.retry_after_max_ms
    return replace(outcome, retry_after_ms=None) if too_long else outcome


def clamped(outcome: Result) -> Result:
    if outcome.retry_after_ms is None:
        return outcome
    return replace(outcome, retry_after_ms=min(outcome.retry_after_ms, CAP_MS))


outcomes("T01", lambda outcome: replace(outcome, retry_after_ms=None))
outcomes("T03", clamped)
outcomes("T04", unless_longer)
statuses("T11", also=frozenset({409, 422}))
statuses("T12", never=frozenset({429}))
statuses("T13", never=frozenset({425}))
outcomes("T16", lambda outcome: replace(outcome, should_retry=None))


@mutation("T02")
def jitter_on_all(patch: Patch) -> None:
    """Multiply what the server asked for by the jitter."""

    def plan(
        policy: RetryPolicy, outcome: Result, attempt: int, u: float, *rest: Any, **more: Any
    ) -> Wait | Stop:
        asked_ms = outcome.retry_after_ms
        drawn = replace(outcome, retry_after_ms=None if asked_ms is None else int(asked_ms * u))
        return RIGHT(policy, drawn, attempt, u, *rest, **more)

    patch.swap(RIGHT, plan)


@mutation("T05")
def seconds_are_milliseconds(patch: Patch) -> None:
    right = retry._wait_ms

    def wait_ms(value: str, reference_ms: int, now_ms: int) -> int | None:
        found = right(value, reference_ms, now_ms)
        is_delay = retry._SECONDS.match(value) is not None
        return found // 1000 if is_delay and found is not None else found

    patch.swap(right, wait_ms)


@mutation("T06")
def own_clock(patch: Patch) -> None:
    right = retry.parse_retry_after

    def parse(values: Sequence[str], date: str | None, now_ms: int) -> int | None:
        return right(values, None, now_ms)

    patch.swap(right, parse)


def drawing(id: str, draw: Callable[[float], float]) -> None:
    """Register a mutant that draws waits from another range."""

    @mutation(id)
    def change(patch: Patch) -> None:
        def plan(
            policy: RetryPolicy, outcome: Result, attempt: int, u: float, *rest: Any, **more: Any
        ) -> Wait | Stop:
            return RIGHT(policy, outcome, attempt, draw(u), *rest, **more)

        patch.swap(RIGHT, plan)


drawing("T07", lambda u: 1.0)
drawing("T08", lambda u: 0.5 + u / 2)


def bounds(id: str, bound_ms: Callable[[RetryPolicy, int], int]) -> None:
    """Register a mutant whose waits have another bound."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(retry._wait_bound_ms, bound_ms)


bounds("T09", lambda policy, number: min(policy.wait_base_ms << number, policy.wait_max_ms))
bounds("T10", lambda policy, number: policy.wait_base_ms << (number - 1))


def attempts(id: str, count: Callable[[int], int]) -> None:
    """Register a mutant that counts attempts in another way."""

    @mutation(id)
    def change(patch: Patch) -> None:
        def plan(
            policy: RetryPolicy, outcome: Result, attempt: int, *rest: Any, **more: Any
        ) -> Wait | Stop:
            other = replace(policy, max_attempts=count(policy.max_attempts))
            return RIGHT(other, outcome, attempt, *rest, **more)

        patch.swap(RIGHT, plan)


attempts("T14", lambda most: most + 1)


@mutation("T15")
def zero_is_default(patch: Patch) -> None:
    """Read a quota of 0 as no quota given."""

    def plan(*args: Any, **more: Any) -> Wait | Stop:
        policy, outcome, attempt, u, now_ms, deadline_ms, quota, alternate = args
        return RIGHT(
            policy, outcome, attempt, u, now_ms, deadline_ms, quota or QUOTA_FULL, alternate, **more
        )

    patch.swap(RIGHT, plan)


@mutation("T17")
def wish_over_limit(patch: Patch) -> None:
    """Let X-Should-Retry win over the number of attempts."""

    def plan(
        policy: RetryPolicy, outcome: Result, attempt: int, *rest: Any, **more: Any
    ) -> Wait | Stop:
        wished = outcome.server_wish is True
        most = max(policy.max_attempts, attempt + 1) if wished else policy.max_attempts
        return RIGHT(replace(policy, max_attempts=most), outcome, attempt, *rest, **more)

    patch.swap(RIGHT, plan)


@mutation("T18")
def deadline_after_sleep(patch: Patch) -> None:
    """Begin any wait before the deadline, whether or not it ends before it."""

    def plan(*args: Any, **more: Any) -> Wait | Stop:
        policy, outcome, attempt, u, now_ms, deadline_ms, *rest = args
        late = deadline_ms if now_ms >= deadline_ms else 2**63
        return RIGHT(policy, outcome, attempt, u, now_ms, late, *rest, **more)

    patch.swap(RIGHT, plan)


@mutation("T19")
def free_retries(patch: Patch) -> None:
    def plan(*args: Any, **more: Any) -> Wait | Stop:
        quota = args[6]
        planned = RIGHT(*args, **more)
        return planned._replace(quota=quota, cost=0) if isinstance(planned, Wait) else planned

    patch.swap(RIGHT, plan)


@mutation("T20")
def no_refund(patch: Patch) -> None:
    def plan(*args: Any, **more: Any) -> Wait | Stop:
        quota = args[6]
        planned = RIGHT(*args, **more)
        succeeded = isinstance(planned, Stop) and planned.reason == "success"
        return Stop("success", quota) if succeeded else planned

    patch.swap(RIGHT, plan)
