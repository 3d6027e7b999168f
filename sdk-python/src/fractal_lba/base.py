"""What both clients are made of: the options, checked; the state; and the calls, not yet run.

A client object holds no decision of its own: it builds a call here and steps it. Nothing in this
file does I/O, so a constructor does none.
"""

from __future__ import annotations

import math
import random as chance
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from . import deliver
from .call import (
    Answer,
    Answers,
    Bounds,
    Call,
    Effect,
    Enter,
    Probe,
    Send,
    Spec,
    State,
    Turn,
    batch_spec,
    exchange,
    get_spec,
    submit_spec,
)
from .canonical import MAX_RECORD_BYTES, jcs, parse
from .clock import Clock, Random
from .endpoints import Endpoint, FailoverPolicy, Fleet
from .errors import CancelledError, ConfigError, FractalLBAError, OutboxError, ValidationError
from .hooks import Hooks, Logger, Reporter
from .http import (
    MAX_RESPONSE_BYTES,
    MAX_RESPONSE_HEADERS,
    Request,
    check_tenant,
    health_request,
    user_agent,
)
from .ids import check_pcs_id, derive_pcs_id
from .outbox import Letter, sent_at_ms
from .outcome import LEVELS, Outcome, Submitted
from .record import Record, check_record
from .region_status import status_request
from .retry import RetryPolicy
from .secret import Secret
from .sign import SignedRecord, Signer, check_version_2, sign
from .spool import Outbox

CONCURRENCY: Final = 16
"""Default of how many records one `submit_many` has in flight."""

MAX_IN_FLIGHT: Final = 64
"""Default of how many calls of one client are in flight; more callers queue."""

HEALTH_TIMEOUT_MS: Final = 2_000
"""How long `health` waits for an endpoint."""

TransportT = TypeVar("TransportT")
ClockT = TypeVar("ClockT", bound=Clock)
T = TypeVar("T")

AnyRecord = Record | SignedRecord | Mapping[str, Any]
Token = Secret | str | Callable[[], Secret | str]


@dataclass(frozen=True, slots=True)
class Item:
    """One answer of `submit_many`: the place of the record, and a result or an error."""

    index: int
    result: Submitted | None = None
    error: FractalLBAError | None = None


DRAWING: Final = (Send, Enter, Probe)
"""Effects after which the core needs a random number."""


class BaseClient(Generic[TransportT, ClockT]):
    """Check the options and build calls. `Client` and `AsyncClient` run them."""

    def __init__(
        self,
        endpoints: str | Endpoint | Sequence[str | Endpoint],
        *,
        signer: Signer | None,
        tenant: str | None = None,
        sig_version: int = 2,
        token: Token | None = None,
        retry: RetryPolicy = RetryPolicy.default,
        connect_timeout_s: float = 5,
        attempt_timeout_s: float = 10,
        total_timeout_s: float = 60,
        durability: str = "durable",
        outbox: Outbox | None = None,
        failover: FailoverPolicy | None = None,
        concurrency: int = CONCURRENCY,
        max_in_flight: int = MAX_IN_FLIGHT,
        connection_max_age_s: float = 60,
        connection_idle_s: float = 30,
        max_record_bytes: int = MAX_RECORD_BYTES,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_response_headers: int = MAX_RESPONSE_HEADERS,
        app: str | None = None,
        transport: TransportT | None = None,
        clock: ClockT | None = None,
        random: Random | None = None,
        logger: Logger | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        check_tenant(tenant)
        if sig_version not in (1, 2) or isinstance(sig_version, bool):
            raise _invalid("sig_version", "1 or 2", sig_version)
        if signer is not None and sig_version == 2:
            check_version_2(signer, tenant)
        if not isinstance(retry, RetryPolicy):
            raise _invalid("retry", "a RetryPolicy", retry)
        self._signer, self._tenant, self._sig_version = signer, tenant, sig_version
        self._token = token
        self._bounds = Bounds(
            retry=retry,
            connect_timeout_ms=_milliseconds("connect_timeout_s", connect_timeout_s),
            attempt_timeout_ms=_milliseconds("attempt_timeout_s", attempt_timeout_s),
            max_response_bytes=_count("max_response_bytes", max_response_bytes),
            max_response_headers=_count(
                "max_response_headers", max_response_headers, MAX_RESPONSE_HEADERS
            ),
        )
        self._total_timeout_ms = _milliseconds("total_timeout_s", total_timeout_s)
        self._outbox = outbox
        self._durability = self._level(durability)
        self._concurrency = _count("concurrency", concurrency)
        self._max_in_flight = _count("max_in_flight", max_in_flight)
        self._max_record_bytes = _count("max_record_bytes", max_record_bytes, MAX_RECORD_BYTES)
        self._agent = user_agent(app)
        self._state = State(Fleet.of(endpoints, failover))
        _milliseconds("connection_max_age_s", connection_max_age_s)
        _milliseconds("connection_idle_s", connection_idle_s)
        self._own_transport = transport is None
        self._transport: TransportT = transport or self._make_transport(
            connection_max_age_s=connection_max_age_s,
            connection_idle_s=connection_idle_s,
            max_response_bytes=max_response_bytes,
            max_response_headers=max_response_headers,
        )
        self._clock: ClockT = clock or self._make_clock()
        self._random: Random = random or chance.Random()  # noqa: S311 - jitter, not a key
        self._reporter = Reporter(logger=logger, hooks=hooks)
        self._start()

    def _start(self) -> None:
        """Make what only this kind of client has; no I/O."""

    def _make_transport(self, **options: Any) -> TransportT:
        raise NotImplementedError

    def _make_clock(self) -> ClockT:
        raise NotImplementedError

    # --- records --------------------------------------------------------------------------------

    def _prepare(self, record: AnyRecord) -> SignedRecord:
        """Check and sign a copy of a record; a signed one stays as it is."""
        signed = record if isinstance(record, SignedRecord) else self._sign(_members(record))
        check_pcs_id(signed.record)
        if len(signed.body) > self._max_record_bytes:
            raise ValidationError(
                "payload_too_large",
                f"record: expected at most {self._max_record_bytes} bytes, got {len(signed.body)}",
            )
        return signed

    def _sign(self, members: dict[str, Any]) -> SignedRecord:
        if self._signer is None:
            if "sig" not in members:
                raise ValidationError(
                    "member_missing", "sig is missing, and the client has no signer", pointer=""
                )
            return SignedRecord.from_json(jcs(members))
        return sign(members, self._signer, sig_version=self._sig_version, tenant=self._tenant)

    def _letter(self, signed: SignedRecord) -> Letter:
        return Letter(
            id="",
            pcs_id=signed.pcs_id,
            key=signed.content,
            kid=signed.kid,
            tenant=self._tenant,
            at_ms=sent_at_ms(signed.record["sent_at"]),
            body=signed.body,
        )

    def _resigned(self, letter: Letter) -> Letter:
        """Sign what a letter holds with the present signer; the content stays the same."""
        if self._signer is None:
            raise ConfigError("config_invalid", "resign: expected a client with a signer")
        signed = self._sign(parse(letter.body))
        if signed.content != letter.key:
            raise OutboxError("outbox_corrupt", f"entry {letter.id} changed its content")
        return replace(self._letter(signed), at_ms=letter.at_ms)

    # --- calls ----------------------------------------------------------------------------------

    def _submit_call(
        self, record: AnyRecord, *, durability: str | None, deadline_ms: int
    ) -> Call[Submitted]:
        signed = self._prepare(record)
        level = self._durability if durability is None else self._level_of_call(durability)

        def attempt() -> Call[Submitted]:
            asked = level if self._outbox is None else LEVELS[0]
            return self._single(signed, self._tenant, deadline_ms, asked)

        if self._outbox is None:
            return attempt()
        return deliver.submit_kept(self._letter(signed), attempt, level=level)

    def _get_call(self, pcs_id: str, *, deadline_ms: int) -> Call[Outcome]:
        spec = get_spec(pcs_id, agent=self._agent, tenant=self._tenant, token=self._present_token())
        return self._exchange(spec, deadline_ms)

    def _present_token(self) -> Secret | None:
        token = self._token() if callable(self._token) else self._token
        return Secret(token) if isinstance(token, str) else token

    def _enqueue_call(self, record: AnyRecord) -> Call[str]:
        self._need_outbox()
        return deliver.enqueue(self._letter(self._prepare(record)))

    def _pump_call(self, *, deadline_ms: int | None) -> Call[None]:
        deliveries = partial(self._deliveries, until_ms=deadline_ms)
        asks = None if self._token is None else self._asks
        return deliver.pump(deliveries, asks=asks, deadline_ms=deadline_ms)

    def _asks(self, timeout_ms: int) -> list[Call[None]]:
        """Give a call for each endpoint that may know how far something held is replicated."""
        fleet, regions = self._state.fleet, self._need_outbox().held_regions()
        endpoints = [fleet.endpoints[index] for index in fleet.eligible]
        return [
            deliver.ask(partial(self._status_request, each.url), timeout_ms)
            for each in endpoints
            if each.region is None or each.region in regions
        ]

    def _status_request(self, endpoint: str) -> Request:
        token = self._present_token()
        if token is None:
            raise ConfigError("config_invalid", "token: expected one, got None")
        return status_request(endpoint, agent=self._agent, token=token, tenant=self._tenant)

    def _deliveries(self, letters: Sequence[Letter], *, until_ms: int | None) -> list[Call[Any]]:
        """Give one call for each batch, or for each letter where batches are not taken."""
        deadline_ms = self._clock.monotonic_ms() + self._total_timeout_ms
        if until_ms is not None:
            deadline_ms = min(deadline_ms, until_ms)
        calls: list[Call[Any]] = []
        for group in deliver.by_tenant(letters):
            if len(group) > 1 and self._state.takes_batches:
                signed = [deliver.signed_of(letter) for letter in group]
                spec = batch_spec(signed, agent=self._agent, tenant=group[0].tenant)
                batch: Call[Answers] = self._exchange(spec, deadline_ms)
                calls.append(
                    deliver.deliver_batch(group, batch, self._state, level=self._durability)
                )
                continue
            for letter in group:
                single = self._single(
                    deliver.signed_of(letter), letter.tenant, deadline_ms, LEVELS[0]
                )
                calls.append(deliver.deliver(letter.id, single, level=self._durability))
        return calls

    def _single(
        self, signed: SignedRecord, tenant: str | None, deadline_ms: int, level: str
    ) -> Call[Submitted]:
        min_ack = None if level == LEVELS[0] else level
        spec = submit_spec(signed, agent=self._agent, tenant=tenant, min_ack=min_ack)
        return self._exchange(spec, deadline_ms)

    def _exchange(self, spec: Spec[T], deadline_ms: int) -> Call[T]:
        return exchange(spec, self._state, self._bounds, deadline_ms=deadline_ms, agent=self._agent)

    def _health_requests(self) -> list[tuple[Endpoint, Request]]:
        endpoints = self._state.fleet.endpoints
        return [(each, health_request(each.url, agent=self._agent)) for each in endpoints]

    def _deadline_ms(self, total_timeout_s: float | None) -> int:
        total_ms = (
            self._total_timeout_ms
            if total_timeout_s is None
            else _milliseconds("total_timeout_s", total_timeout_s)
        )
        return self._clock.monotonic_ms() + total_ms

    def _turn(self, effect: Effect, answer: Answer) -> Turn:
        u = self._random.random() if isinstance(effect, DRAWING) else 0.0
        return Turn(self._clock.now_ms(), self._clock.monotonic_ms(), u, answer)

    # --- checks ---------------------------------------------------------------------------------

    def _need_outbox(self) -> Outbox:
        if self._outbox is None:
            raise ConfigError("config_invalid", "expected a client with an outbox")
        return self._outbox

    def _level(self, durability: str) -> str:
        if durability not in LEVELS:
            raise _invalid("durability", f"one of {', '.join(LEVELS)}", durability)
        if self._outbox is not None and durability == LEVELS[2]:
            raise _invalid("durability", f"{LEVELS[0]} or {LEVELS[1]} with an outbox", durability)
        return durability

    def _level_of_call(self, durability: str) -> str:
        level = self._level(durability)
        if self._outbox is not None and level != self._durability:
            # An entry outlives its call, and its frame names no level.
            raise _invalid("durability", f"{self._durability}, as of the client", durability)
        return level


def _members(record: AnyRecord) -> dict[str, Any]:
    """Copy a record's members, with its derived id, and check them unless a type already has."""
    if isinstance(record, Record):
        return record.to_dict()
    if not isinstance(record, Mapping):
        raise ValidationError(
            "member_type", f"record: expected a record, got {type(record).__name__}", pointer=""
        )
    members = dict(record)
    if "pcs_id" not in members and {"merkle_root", "epoch", "shard_id"} <= members.keys():
        members["pcs_id"] = derive_pcs_id(
            members["merkle_root"], members["epoch"], members["shard_id"]
        )
    check_record(members, typed=True)
    return members


def _invalid(name: str, expected: str, given: object) -> ConfigError:
    return ConfigError("config_invalid", f"{name}: expected {expected}, got {given!r:.80}")


def _milliseconds(name: str, seconds: float) -> int:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not math.isfinite(seconds)
        or seconds <= 0
    ):
        raise _invalid(name, "a number of seconds above 0", seconds)
    return max(1, int(seconds * 1000))


def cancelled() -> FractalLBAError:
    """Build the error of a call that was cancelled."""
    return CancelledError("cancelled", "the caller cancelled, or closed the client")


def checked_concurrency(concurrency: int) -> int:
    """Check the width of one `submit_many`."""
    return _count("concurrency", concurrency)


def _count(name: str, value: int, high: int | None = None) -> int:
    if type(value) is not int or value < 1 or (high is not None and value > high):
        raise _invalid(name, "an integer >= 1" if high is None else f"1 to {high}", value)
    return value
