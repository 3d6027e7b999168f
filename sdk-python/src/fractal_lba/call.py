"""Decide, step by step, what a call does: which request goes where, what follows, when it ends.

A call is a generator. It yields an `Effect`, the shell carries that out and sends back a `Turn`
with what came of it and the time; so the synchronous and the asynchronous client run the very
same code, and nothing in here sleeps, sends, draws or looks at a clock. The frozen body is built
before the first step and every attempt sends those bytes.

`State` is what the calls of one client share. A shell steps one call at a time.
"""

# tidy: long because a reason stands beside what it excuses

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from .batch import batch_request, read_batch
from .endpoints import Fleet
from .errors import CancelledError, FractalLBAError, error_for
from .hooks import AttemptEvent, Event, FailoverEvent, RetryEvent, StopEvent
from .http import (
    MAX_RESPONSE_BYTES,
    MAX_RESPONSE_HEADERS,
    RawResponse,
    Request,
    Response,
    health_request,
    leader_hint,
    loggable_headers,
    loggable_url,
    outcome_request,
    read_outcome,
    read_response,
    read_submitted,
    submit_request,
)
from .outbox import Letter
from .outcome import Outcome, Position, Submitted
from .region_status import RegionStatus, watermark_of
from .retry import QUOTA_FULL, Result, RetryPolicy, Stop, plan
from .schedule import Due, Verdict
from .secret import Secret
from .sign import SignedRecord

T = TypeVar("T")

# --- effects and turns ---------------------------------------------------------------------


class Send(NamedTuple):
    """Send a request; the turn brings the response, or the error of the transport."""

    request: Request
    connect_timeout_ms: int
    attempt_timeout_ms: int


class Sleep(NamedTuple):
    """Let time pass; the turn brings the error `cancelled` if the wait was cut short."""

    wait_ms: int


class Probe(NamedTuple):
    """Ask an endpoint for its health beside the call; the result goes to `probed`."""

    endpoint: int
    request: Request
    timeout_ms: int


class Tell(NamedTuple):
    """Report an event."""

    event: Event


class Enter(NamedTuple):
    """Wait for a free place among the calls in flight; the turn brings an error if none came.

    The shell gives the place back when the call ends.
    """

    deadline_ms: int


class Keep(NamedTuple):
    """Put a letter into the outbox; the turn brings it with its id, or the outbox's error.

    `in_flight` says that this call sends it itself.
    """

    letter: Letter
    in_flight: bool = True


class Settle(NamedTuple):
    """Tell the outbox what became of an entry."""

    id: str
    verdict: Verdict


class Hear(NamedTuple):
    """Tell the outbox, if there is one, how far a region is replicated."""

    news: Position | RegionStatus


class Take(NamedTuple):
    """Take due entries out of the outbox; the turn brings a `Due`."""

    limit: int
    bytes_max: int


class Deliver(NamedTuple):
    """Run these calls beside each other until all have ended, well or not.

    `ids` are the entries that they settle.
    """

    calls: tuple[Call[Any], ...]
    ids: tuple[str, ...]


class Doze(NamedTuple):
    """Wait until the outbox changes, at most so long; None: without end.

    The turn brings the error `cancelled` if the client was closed.
    """

    wait_ms: int | None


Effect = Send | Sleep | Probe | Tell | Enter | Keep | Settle | Hear | Take | Deliver | Doze


Answer = RawResponse | Letter | Due | FractalLBAError | None


class Turn(NamedTuple):
    """What came of an effect, and when: Unix time, a clock that never goes back, and chance."""

    now_ms: int
    monotonic_ms: int
    u: float
    answer: Answer = None


Call = Generator[Effect, Turn, T]


# --- what calls share, and what they are -----------------------------------------------------


@dataclass(slots=True)
class State:
    """What the calls of one client share."""

    fleet: Fleet
    quota: int = QUOTA_FULL
    probing: set[int] = field(default_factory=set)
    takes_batches: bool = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long, how often and how much; the same for every call of a client."""

    retry: RetryPolicy = RetryPolicy.default
    connect_timeout_ms: int = 5_000
    attempt_timeout_ms: int = 10_000
    max_response_bytes: int = MAX_RESPONSE_BYTES
    max_response_headers: int = MAX_RESPONSE_HEADERS


@dataclass(frozen=True, slots=True)
class Spec(Generic[T]):
    """One kind of call: how its request is built and its response read.

    `build` gets an endpoint and the number of the attempt, `read` a 2xx response, the number of
    attempts and the time.
    """

    name: str
    build: Callable[[str, int], Request]
    read: Callable[[Response, int, int], T]


def submit_spec(
    signed: SignedRecord, *, agent: str, tenant: str | None, min_ack: str | None
) -> Spec[Submitted]:
    """Describe the submit of one frozen body."""

    def build(endpoint: str, attempt: int) -> Request:
        return submit_request(
            endpoint,
            signed.body,
            idempotency_key=signed.content,
            agent=agent,
            tenant=tenant,
            attempt=attempt,
            min_ack=min_ack,
        )

    def read(response: Response, attempts: int, now_ms: int) -> Submitted:  # noqa: ARG001 - every read gets all facts
        return read_submitted(response, signed.pcs_id, attempts=attempts)

    return Spec("submit", build, read)


def get_spec(pcs_id: str, *, agent: str, tenant: str | None, token: Secret | None) -> Spec[Outcome]:
    """Describe the reading of one outcome. Raises ValidationError for an id that is none."""

    def build(endpoint: str, attempt: int) -> Request:
        return outcome_request(
            endpoint, pcs_id, token=token, agent=agent, tenant=tenant, attempt=attempt
        )

    def read(response: Response, attempts: int, now_ms: int) -> Outcome:  # noqa: ARG001 - every read gets all facts
        return read_outcome(response, pcs_id)

    build("", 1)
    return Spec("get", build, read)


Answers = Sequence[Submitted | FractalLBAError]


def batch_spec(records: Sequence[SignedRecord], *, agent: str, tenant: str | None) -> Spec[Answers]:
    """Describe a batch of frozen bodies of one tenant."""

    def build(endpoint: str, attempt: int) -> Request:
        return batch_request(endpoint, records, agent=agent, tenant=tenant, attempt=attempt)

    def read(response: Response, attempts: int, now_ms: int) -> Answers:
        return read_batch(response, records, now_ms=now_ms, attempts=attempts)

    return Spec("batch", build, read)


# --- one exchange --------------------------------------------------------------------------


def exchange(
    spec: Spec[T], state: State, bounds: Bounds, *, deadline_ms: int, agent: str
) -> Call[T]:
    """Attempt until there is a result or a reason to stop (spec/retry.md 1-19).

    `deadline_ms` is on the clock of `Turn.monotonic_ms`. Raises the error of the last attempt.
    """
    turn = yield Enter(deadline_ms)
    if isinstance(turn.answer, FractalLBAError):
        raise (yield from _stopped(spec.name, turn.answer, turn.answer.code, 0))
    attempt, taken, hops = 0, 0, 0
    error: FractalLBAError | None = None
    state.fleet = state.fleet.begun(now_ms=turn.now_ms, u=turn.u)
    sender = state.fleet.current
    while True:
        yield from _probes(state, turn.now_ms, agent)
        left_ms = deadline_ms - turn.monotonic_ms
        if left_ms <= 0:
            late = error or _too_late()
            raise (yield from _stopped(spec.name, late, "deadline_exceeded", attempt))
        attempt += 1
        request = spec.build(state.fleet.endpoints[sender].url, attempt)
        sent_at_ms, attempt_ms = turn.monotonic_ms, min(bounds.attempt_timeout_ms, left_ms)
        turn = yield Send(request, min(bounds.connect_timeout_ms, attempt_ms), attempt_ms)
        yield from _hear(turn)
        value = _read(spec, turn, bounds, attempt)
        error = value if isinstance(value, FractalLBAError) else None
        yield Tell(_attempt_event(spec.name, request, turn, sent_at_ms, attempt, error))
        result = _result_of(turn, error)
        state.fleet = state.fleet.attempted(sender, result, now_ms=turn.now_ms, u=turn.u)
        target, followed = _next_endpoint(state, sender, result, error, turn, hops)
        hops += followed
        decision = plan(
            bounds.retry, result, attempt, turn.u, turn.now_ms,
            turn.now_ms + deadline_ms - turn.monotonic_ms,
            state.quota, target != sender, taken=taken,
        )  # fmt: skip
        state.quota = decision.quota
        if isinstance(decision, Stop):
            if not isinstance(value, FractalLBAError):
                return value
            raise (yield from _stopped(spec.name, value, decision.reason, attempt))
        taken = decision.cost
        assert error is not None
        yield Tell(RetryEvent(spec.name, attempt, decision.wait_ms, error.code))
        if target != sender:
            yield Tell(_failover_event(state, sender, target))
        sender = target
        turn = yield Sleep(decision.wait_ms)
        if isinstance(turn.answer, FractalLBAError):
            raise (yield from _stopped(spec.name, turn.answer, "cancelled", attempt))


def _hear(turn: Turn) -> Generator[Effect, Turn, None]:
    """Read the watermark of an answer, whatever the answer is (formats 12.14)."""
    if isinstance(turn.answer, RawResponse):
        watermark = watermark_of(turn.answer.headers)
        if watermark is not None:
            yield Hear(watermark)


def _too_late() -> FractalLBAError:
    return error_for("deadline_exceeded", "the total bound of the call has passed")


def _read(spec: Spec[T], turn: Turn, bounds: Bounds, attempt: int) -> T | FractalLBAError:
    if isinstance(turn.answer, FractalLBAError):
        return turn.answer
    assert isinstance(turn.answer, RawResponse)
    try:
        response = read_response(
            turn.answer,
            now_ms=turn.now_ms,
            max_bytes=bounds.max_response_bytes,
            max_headers=bounds.max_response_headers,
        )
        return spec.read(response, attempt, turn.now_ms)
    except FractalLBAError as error:
        return error


def _result_of(turn: Turn, error: FractalLBAError | None) -> Result:
    if error is not None:
        return Result.of_error(error)
    assert isinstance(turn.answer, RawResponse)
    return Result(status=turn.answer.status)


def _next_endpoint(
    state: State,
    sender: int,
    result: Result,
    error: FractalLBAError | None,
    turn: Turn,
    hops: int,
) -> tuple[int, int]:
    """Say where the next attempt goes, and whether (1) or not (0) a hint was followed."""
    hint = None if error is None else leader_hint(error)
    if hint is not None:
        hinted = state.fleet.hinted(
            hint.endpoint, hint.region_epoch, hops=hops, now_ms=turn.now_ms, u=turn.u
        )
        if hinted is not None:
            state.fleet = hinted
            return hinted.current, 1
    return state.fleet.next_for(sender, result), 0


def _stopped(
    name: str, error: FractalLBAError, reason: str, attempts: int
) -> Generator[Effect, Turn, FractalLBAError]:
    error.stop, error.attempts = reason, attempts
    yield Tell(StopEvent(name, error))
    return error


def _attempt_event(
    name: str,
    request: Request,
    turn: Turn,
    sent_at_ms: int,
    attempt: int,
    error: FractalLBAError | None,
) -> AttemptEvent:
    answer = turn.answer if isinstance(turn.answer, RawResponse) else None
    headers = {} if answer is None else loggable_headers(answer.headers)
    return AttemptEvent(
        call=name,
        method=request.method,
        url=loggable_url(request.url),
        attempt=attempt,
        elapsed_ms=turn.monotonic_ms - sent_at_ms,
        status=None if answer is None else answer.status,
        code=None if error is None else error.code,
        request_id=headers.get("x-request-id"),
        request_headers=loggable_headers(request.headers),
        response_headers=headers,
    )


def _failover_event(state: State, sender: int, target: int) -> FailoverEvent:
    endpoints = state.fleet.endpoints
    return FailoverEvent(loggable_url(endpoints[sender].url), loggable_url(endpoints[target].url))


# --- probes --------------------------------------------------------------------------------


def _probes(state: State, now_ms: int, agent: str) -> Generator[Effect, Turn, None]:
    """Start the probes that are due: endpoints are probed while calls are made (retry 38)."""
    for index in state.fleet.probes_due(now_ms):
        if index not in state.probing:
            state.probing.add(index)
            url = state.fleet.endpoints[index].url
            request = health_request(url, agent=agent)
            yield Probe(index, request, state.fleet.policy.probe_timeout_ms)


def probed(state: State, index: int, turn: Turn) -> None:
    """Take in what a probe came to."""
    state.probing.discard(index)
    good = isinstance(turn.answer, RawResponse) and turn.answer.status == 200
    if not isinstance(turn.answer, CancelledError):
        state.fleet = state.fleet.probed(index, good, now_ms=turn.now_ms, u=turn.u)


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """What `GET /health` at one endpoint said: `ok` if it takes writes now.

    `error` is a code of the closed list, or None if there was an answer with 200.
    """

    url: str
    region: str | None
    ok: bool
    status: int | None
    error: str | None


def read_health(
    url: str, region: str | None, answer: RawResponse | FractalLBAError, now_ms: int
) -> EndpointHealth:
    """Read the answer to a health request; nothing here raises."""
    status = answer.status
    error = answer if isinstance(answer, FractalLBAError) else None
    if isinstance(answer, RawResponse) and status != 200:
        try:
            read_response(answer, now_ms=now_ms)
        except FractalLBAError as refused:
            error = refused
    return EndpointHealth(url, region, status == 200, status, None if error is None else error.code)
