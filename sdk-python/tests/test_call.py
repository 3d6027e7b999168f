"""The core of a call, stepped by hand: no thread, no socket, no clock."""

# tidy: long because each test is one sentence of one contract

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from record_samples import full_record

from fractal_lba import deliver
from fractal_lba.call import (
    Bounds,
    Call,
    Deliver,
    Doze,
    Effect,
    Enter,
    Keep,
    Probe,
    Send,
    Settle,
    Sleep,
    State,
    Take,
    Tell,
    Turn,
    batch_spec,
    exchange,
    get_spec,
    probed,
    read_health,
    submit_spec,
)
from fractal_lba.canonical import jcs
from fractal_lba.endpoints import Endpoint, FailoverPolicy, Fleet
from fractal_lba.errors import (
    CancelledError,
    FractalLBAError,
    NotFoundError,
    ValidationError,
    error_for,
)
from fractal_lba.hooks import AttemptEvent, FailoverEvent, RetryEvent, StopEvent
from fractal_lba.http import RawResponse, Request
from fractal_lba.outbox import Letter
from fractal_lba.retry import RetryPolicy
from fractal_lba.schedule import Acknowledge, Bury, Due, Later, Pause
from fractal_lba.sign import HmacSigner, sign_record
from fractal_lba.testing import outcome_body

NOW_MS = 1_767_225_600_000
SIGNED = sign_record(full_record(), HmacSigner(b"k" * 32, kid="k1"), tenant="acme")
A, B = "https://a.example", "https://b.example"

Scripted = RawResponse | FractalLBAError | Callable[["Play"], RawResponse | FractalLBAError]


def ok(status: int = 200, **headers: str) -> RawResponse:
    verdict = {} if status == 200 else {
        "accepted": False, "escalated": True, "reason": "n_j_implausible",
    }  # fmt: skip
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return RawResponse(status, fields, outcome_body(SIGNED.pcs_id, **verdict))


def no(status: int, code: str = "", **headers: str) -> RawResponse:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return RawResponse(status, fields, jcs({"code": code, "status": status}) if code else b"")


def lost(code: str) -> FractalLBAError:
    return error_for(code, "scripted")


@dataclass
class Play:
    """Step a call: answers to `Send` come from the script, time passes only in waits."""

    script: Iterable[Scripted] = ()
    u: float = 0.5
    now_ms: int = NOW_MS
    monotonic_ms: int = 1_000
    effects: list[Effect] = field(default_factory=list)
    enter: FractalLBAError | None = None
    cancelled_in_sleep: bool = False
    attempt_ms: int = 0
    dues: list[Any] = field(default_factory=list)
    doze: FractalLBAError | None = None
    keep: FractalLBAError | None = None
    oversleep_ms: int = 0

    def __post_init__(self) -> None:
        self._script = iter(self.script)

    def run(self, call: Call[Any]) -> Any:
        turn: Any = None
        try:
            while True:
                effect = call.send(turn)
                self.effects.append(effect)
                answer = self._answer(effect)
                turn = Turn(self.now_ms, self.monotonic_ms, self.u, answer)
        except StopIteration as stop:
            return stop.value

    def error(self, call: Call[Any]) -> FractalLBAError:
        with pytest.raises(FractalLBAError) as caught:
            self.run(call)
        return caught.value

    def _pass(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.monotonic_ms += step_ms

    def _answer(self, effect: Effect) -> Any:
        match effect:
            case Send():
                self._pass(self.attempt_ms)
                step = next(self._script)
                return step(self) if callable(step) else step
            case Sleep(wait_ms):
                self._pass(wait_ms + self.oversleep_ms)
                return lost("cancelled") if self.cancelled_in_sleep else None
            case Enter():
                return self.enter
            case Keep(letter):
                return self.keep or replace(letter, id="0000000000000007")
            case Take():
                return self.dues.pop(0)
            case Doze(wait_ms):
                self._pass(wait_ms or 0)
                return self.doze
        return None

    def of(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def told(self, kind: type) -> list[Any]:
        return [effect.event for effect in self.of(Tell) if isinstance(effect.event, kind)]

    @property
    def requests(self) -> list[Request]:
        return [effect.request for effect in self.of(Send)]

    @property
    def waits_ms(self) -> list[int]:
        return [effect.wait_ms for effect in self.of(Sleep)]


def state_of(*urls: str, **policy: Any) -> State:
    return State(Fleet.of(list(urls or (A,)), FailoverPolicy(**policy)))


def submit(state: State | None = None, *, total_ms: int = 60_000, **bounds: Any) -> Call[Any]:
    spec = submit_spec(SIGNED, agent="agent", tenant="acme", min_ack=None)
    return exchange(
        spec, state or state_of(), Bounds(**bounds), deadline_ms=1_000 + total_ms, agent="agent"
    )


# --- one attempt ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 202])
def test_a_recorded_submit_is_a_result(status: int) -> None:
    play = Play([ok(status, Idempotency_Replayed="true", X_Request_Id="r1")])
    submitted = play.run(submit())
    assert submitted.outcome.accepted is (status == 200)
    assert (submitted.replayed, submitted.raw.status, submitted.raw.attempts) == (True, status, 1)
    assert play.waits_ms == []


# What each status means for a call: the code, the reason of the stop, the number of attempts.
STATUSES = [
    (400, "bad_request", "not_retryable", 1), (401, "unauthorized", "not_retryable", 1),
    (403, "forbidden", "not_retryable", 1), (404, "not_found", "not_retryable", 1),
    (405, "method_not_allowed", "not_retryable", 1),
    (408, "request_timeout", "attempts_exhausted", 3),
    (409, "pcs_id_conflict", "not_retryable", 1), (413, "payload_too_large", "not_retryable", 1),
    (415, "unsupported_media_type", "not_retryable", 1), (421, "wrong_region", "not_retryable", 1),
    (422, "unprocessable", "not_retryable", 1), (423, "frozen", "not_retryable", 1),
    (425, "too_early", "attempts_exhausted", 3), (429, "rate_limited", "attempts_exhausted", 3),
    (431, "header_too_large", "not_retryable", 1), (500, "internal", "attempts_exhausted", 3),
    (502, "bad_gateway", "attempts_exhausted", 3), (503, "unavailable", "attempts_exhausted", 3),
    (504, "gateway_timeout", "attempts_exhausted", 3), (302, "response_malformed", "not_retryable", 1),
    (204, "response_malformed", "not_retryable", 1),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "stop", "attempts"), STATUSES)
def test_every_status_ends_as_the_table_says(
    status: int, code: str, stop: str, attempts: int
) -> None:
    play = Play([no(status)] * 3)
    error = play.error(submit())
    assert (error.code, error.stop, error.attempts, error.status) == (code, stop, attempts, status)
    assert len(play.requests) == attempts
    assert [event.error for event in play.told(StopEvent)] == [error]


@pytest.mark.parametrize(
    ("code", "attempts"),
    [("connect_failed", 3), ("connection_lost", 3), ("attempt_timeout", 3), ("tls_failed", 1),
     ("response_too_large", 1)],
)  # fmt: skip
def test_every_fault_of_the_network_ends_as_the_table_says(code: str, attempts: int) -> None:
    play = Play([lost(code) for _ in range(3)])
    error = play.error(submit())
    assert (error.code, error.attempts) == (code, attempts)


def test_an_unreadable_success_is_not_sent_again() -> None:
    play = Play([RawResponse(200, [], b"{")])
    error = play.error(submit())
    assert (error.code, error.stop, error.status) == ("response_malformed", "not_retryable", 200)


def test_limits_on_the_response_are_those_of_the_client() -> None:
    assert Play([ok()]).error(submit(max_response_bytes=10)).code == "response_too_large"
    many = ok(A="1", B="2")
    assert Play([many]).error(submit(max_response_headers=1)).code == "response_too_large"


# --- retries -------------------------------------------------------------------------------


def test_every_attempt_sends_the_same_bytes_under_the_same_key() -> None:
    play = Play([no(500), lost("connection_lost"), ok()])
    assert play.run(submit()).raw.attempts == 3
    assert {request.body for request in play.requests} == {SIGNED.body}
    headers = [dict(request.headers) for request in play.requests]
    assert {each["Idempotency-Key"] for each in headers} == {SIGNED.content}
    assert [each.get("X-Retry-Attempt") for each in headers] == [None, "1", "2"]


def test_waits_have_full_jitter_and_double() -> None:
    play = Play([no(500), no(500), ok()], u=0.5)
    play.run(submit())
    assert play.waits_ms == [250, 500]
    assert [(event.attempt, event.wait_ms) for event in play.told(RetryEvent)] == [
        (1, 250), (2, 500),
    ]  # fmt: skip


def test_retry_after_is_a_floor() -> None:
    play = Play([no(429, Retry_After="7"), ok()], u=0.5)
    play.run(submit())
    assert play.waits_ms == [7_250]


def test_a_wait_that_does_not_fit_is_not_begun() -> None:
    play = Play([no(503, Retry_After="7")])
    error = play.error(submit(total_ms=7_000))
    assert (error.code, error.stop, error.retry_after_ms) == (
        "unavailable", "deadline_exceeded", 7_000,
    )  # fmt: skip
    assert play.waits_ms == []


def test_an_attempt_gets_no_more_time_than_the_call_has_left() -> None:
    play = Play([no(500), no(500), ok()], attempt_ms=900, u=0.0)
    play.run(submit(total_ms=2_000))
    bounds = [(each.connect_timeout_ms, each.attempt_timeout_ms) for each in play.of(Send)]
    assert bounds == [(2_000, 2_000), (1_100, 1_100), (200, 200)]


def test_a_sleep_that_ran_late_ends_the_call_with_the_last_error() -> None:
    play = Play([no(500)], oversleep_ms=100_000)
    error = play.error(submit())
    assert (error.code, error.stop, error.attempts) == ("internal", "deadline_exceeded", 1)


def test_a_call_that_waited_too_long_for_its_place_sends_nothing() -> None:
    play = Play(monotonic_ms=1_000 + 60_000)
    error = play.error(submit())
    assert (error.code, error.stop, error.attempts) == (
        "deadline_exceeded", "deadline_exceeded", 0,
    )  # fmt: skip


@pytest.mark.parametrize("code", ["cancelled", "deadline_exceeded"])
def test_a_call_without_a_place_ends_with_the_reason(code: str) -> None:
    error = Play(enter=lost(code)).error(submit())
    assert (error.code, error.stop, error.attempts) == (code, code, 0)


def test_a_cancel_during_an_attempt_ends_the_call() -> None:
    state = state_of()
    error = Play([lost("cancelled")]).error(submit(state))
    assert isinstance(error, CancelledError)
    assert (error.stop, error.attempts) == ("cancelled", 1)
    assert state.fleet.states[0].name == "up", "a cancel says nothing about the endpoint"


def test_a_cancel_during_a_wait_ends_the_call() -> None:
    play = Play([no(500)], cancelled_in_sleep=True)
    error = play.error(submit())
    assert (error.code, error.stop, error.attempts) == ("cancelled", "cancelled", 1)


def test_the_quota_is_shared_by_the_calls_of_a_client() -> None:
    state = state_of(down_after=10_000)
    state.quota = 14
    play = Play([no(500), no(500)])
    error = play.error(submit(state))
    assert (error.stop, error.attempts, state.quota) == ("quota_exhausted", 2, 0)
    Play([ok()]).run(submit(state))
    assert state.quota == 1


def test_what_a_retry_took_is_given_back_when_it_succeeds() -> None:
    state = state_of()
    Play([no(500), no(429), ok()]).run(submit(state))
    assert state.quota == 500 - 14 - 5 + 5


def test_one_attempt_means_one() -> None:
    play = Play([no(503)])
    assert play.error(submit(retry=RetryPolicy.none)).stop == "attempts_exhausted"


# --- endpoints -----------------------------------------------------------------------------


def urls(play: Play) -> list[str]:
    return [request.url.removesuffix("/v1/pcs/submit") for request in play.requests]


@pytest.mark.parametrize("first", [no(503), lost("connect_failed")])
def test_a_refusal_fails_over_at_once_and_success_is_sticky(first: Scripted) -> None:
    state = state_of(A, B)
    play = Play([first, ok()])
    play.run(submit(state))
    assert urls(play) == [A, B]
    assert play.told(FailoverEvent) == [FailoverEvent(A, B)]
    again = Play([ok()])
    again.run(submit(state))
    assert urls(again) == [B]


def test_retry_after_does_not_bind_another_endpoint() -> None:
    play = Play([no(503, Retry_After="90"), ok()], u=0.5)
    play.run(submit(state_of(A, B)))
    assert (urls(play), play.waits_ms) == ([A, B], [250])


@pytest.mark.parametrize("fault", [lost("connection_lost"), lost("attempt_timeout"), no(500)])
def test_after_an_ambiguous_result_the_same_endpoint_is_asked_until_it_is_down(
    fault: Scripted,
) -> None:
    state = state_of(A, B, down_after=3)
    play = Play([fault, fault, fault, ok()])
    play.run(submit(state, retry=RetryPolicy(max_attempts=4)))
    assert urls(play) == [A, A, A, B]


def test_an_ambiguous_call_stays_although_another_call_has_moved_on() -> None:
    state = state_of(A, B)

    def others_move(_: Play) -> RawResponse:
        Play([no(503), ok()]).run(submit(state))
        return no(500)

    play = Play([others_move, ok()])
    play.run(submit(state))
    assert state.fleet.current == 1
    assert urls(play) == [A, A]


def test_a_quota_is_the_tenants_everywhere() -> None:
    play = Play([no(429), ok()])
    play.run(submit(state_of(A, B)))
    assert urls(play) == [A, A]


def test_an_endpoint_outside_the_regions_is_never_used() -> None:
    policy = FailoverPolicy(allowed_regions=frozenset({"eu"}))
    fleet = Fleet.of([Endpoint(A, "eu"), Endpoint(B, "us")], policy)
    play = Play([no(503)] * 3)
    play.error(submit(State(fleet)))
    assert urls(play) == [A, A, A]


def hint(url: str, *, region_epoch: int = 1, should_retry: str = "true") -> RawResponse:
    body = {
        "code": "not_leader", "status": 421,
        "leader_hint": {"endpoint": url, "region_epoch": region_epoch},
    }  # fmt: skip
    return RawResponse(421, [("X-Should-Retry", should_retry)], jcs(body))


def test_a_hint_leads_to_a_configured_endpoint_only() -> None:
    play = Play([hint(B), ok()])
    play.run(submit(state_of(A, B)))
    assert urls(play) == [A, B]
    stranger = Play([hint("https://c.example"), ok()])
    stranger.run(submit(state_of(A, B)))
    assert urls(stranger) == [A, A]


def test_a_hint_without_leave_to_retry_ends_the_call() -> None:
    error = Play([hint(B, should_retry="false")]).error(submit(state_of(A, B)))
    assert (error.code, error.stop) == ("not_leader", "server_refused")


def test_hints_are_followed_a_bounded_number_of_times() -> None:
    play = Play([hint(B), hint(A), hint(B), hint(A), ok()])
    play.run(submit(state_of(A, B), retry=RetryPolicy(max_attempts=5)))
    assert urls(play) == [A, B, A, B, B]


# --- probes --------------------------------------------------------------------------------


def test_a_down_endpoint_is_probed_beside_the_calls_that_follow() -> None:
    state = state_of(A, B, down_after=1)
    Play([no(503), ok()]).run(submit(state))
    early = Play([ok()], now_ms=NOW_MS + 5_000)
    early.run(submit(state))
    assert early.of(Probe) == []
    late = Play([ok()], now_ms=NOW_MS + 20_000)
    late.run(submit(state))
    (probe,) = late.of(Probe)
    assert (probe.endpoint, probe.request.url, probe.timeout_ms) == (0, f"{A}/health", 2_000)
    Play([ok()], now_ms=NOW_MS + 30_000).run(submit(state))
    assert state.probing == {0}, "one probe at a time"


def turn(answer: RawResponse | FractalLBAError, now_ms: int) -> Turn:
    return Turn(now_ms, 0, 0.5, answer)


def test_good_probes_bring_an_endpoint_up_and_bad_ones_do_not() -> None:
    state = state_of(A, B, down_after=1)
    Play([no(503), ok()]).run(submit(state))
    answers = [RawResponse(200, [], b""), no(503), lost("connect_failed"),
               RawResponse(200, [], b""), RawResponse(200, [], b"")]  # fmt: skip
    names = []
    for number, answer in enumerate(answers):
        state.probing.add(0)
        probed(state, 0, turn(answer, NOW_MS + 20_000 * number))
        names.append(state.fleet.states[0].name)
    assert names == ["down", "down", "down", "down", "up"]
    assert state.probing == set()


def test_a_cancelled_probe_says_nothing() -> None:
    state = state_of(A, B, down_after=1)
    Play([no(503), ok()]).run(submit(state))
    before = state.fleet
    probed(state, 0, turn(lost("cancelled"), NOW_MS))
    assert state.fleet is before


# --- other calls ---------------------------------------------------------------------------


def test_get_reads_the_outcome_and_knows_missing_from_unavailable() -> None:
    spec = get_spec(SIGNED.pcs_id, agent="agent", tenant="acme", token=None)

    def get() -> Call[Any]:
        return exchange(spec, state_of(), Bounds(), deadline_ms=61_000, agent="agent")

    assert Play([ok()]).run(get()).pcs_id == SIGNED.pcs_id
    assert isinstance(Play([no(404)]).error(get()), NotFoundError)
    assert Play([no(503)] * 3).error(get()).code == "unavailable"


def test_an_id_that_is_none_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValidationError):
        get_spec("A" * 64, agent="agent", tenant=None, token=None)


@pytest.mark.parametrize(
    ("answer", "ok_", "status", "error"),
    [
        (RawResponse(200, [], b"{}"), True, 200, None),
        (no(503), False, 503, "unavailable"),
        (no(302), False, 302, "response_malformed"),
        (RawResponse(204, [], b""), False, 204, None),
        (lost("connect_failed"), False, None, "connect_failed"),
    ],
)
def test_health_reads_any_answer(
    answer: Any, *, ok_: bool, status: int | None, error: str | None
) -> None:
    health = read_health(A, "eu", answer, NOW_MS)
    assert (health.ok, health.status, health.error) == (ok_, status, error)


def test_attempts_are_told_without_secrets_or_queries() -> None:
    play = Play([ok(X_Request_Id="r1", Set_Cookie="s", Retry_After="0")], attempt_ms=12)
    play.run(submit())
    (event,) = play.told(AttemptEvent)
    assert (event.call, event.attempt, event.status, event.code) == ("submit", 1, 200, None)
    assert (event.elapsed_ms, event.request_id) == (12, "r1")
    assert event.response_headers == {"x-request-id": "r1", "retry-after": "0"}
    assert event.request_headers == {
        "content-type": "application/json", "idempotency-key": SIGNED.content,
    }  # fmt: skip


# --- with an outbox ------------------------------------------------------------------------

LETTER = Letter("", SIGNED.pcs_id, SIGNED.content, "k1", "acme", NOW_MS, SIGNED.body)


def kept(play: Play) -> Any:
    return play.run(deliver.submit_kept(LETTER, submit, level="durable"))


def test_a_letter_is_kept_before_the_first_attempt_and_settled_after_the_last() -> None:
    play = Play([no(500), ok()])
    kept(play)
    order = [type(effect) for effect in play.effects if not isinstance(effect, Tell)]
    assert order == [Keep, Enter, Send, Sleep, Send, Settle]
    assert play.of(Settle) == [Settle("0000000000000007", Acknowledge(200))]


def test_what_cannot_be_kept_is_not_sent() -> None:
    play = Play(keep=lost("outbox_full"))
    with pytest.raises(FractalLBAError) as caught:
        kept(play)
    assert caught.value.code == "outbox_full"
    assert not caught.value.queued
    assert play.requests == []


@pytest.mark.parametrize(
    ("answer", "verdict", "queued"),
    [
        (no(409), Bury, False), (no(400), Bury, False), (no(413), Bury, False),
        (no(422), Bury, False), (no(401), Pause, True), (no(403), Pause, True),
        (no(503), Later, True), (no(404), Later, True), (lost("attempt_timeout"), Later, True),
        (lost("cancelled"), Later, True), (RawResponse(200, [], b"{"), Later, True),
        (RawResponse(409, [("x", "y")] * 101, b""), Later, True),
    ],
)  # fmt: skip
def test_a_stop_says_whether_the_outbox_goes_on(
    answer: Scripted, verdict: type, *, queued: bool
) -> None:
    play = Play([answer] * 3)
    error = play.error(deliver.submit_kept(LETTER, submit, level="durable"))
    assert error.queued is queued
    (settle,) = play.of(Settle)
    assert isinstance(settle.verdict, verdict)


def test_enqueue_keeps_and_sends_nothing() -> None:
    play = Play()
    assert play.run(deliver.enqueue(LETTER)) == "0000000000000007"
    assert play.effects == [Keep(LETTER, in_flight=False)]
    assert Play(keep=lost("outbox_full")).error(deliver.enqueue(LETTER)).code == "outbox_full"


LETTERS = [replace(LETTER, id=f"{number:016x}") for number in range(3)]


def batch(state: State) -> Call[Any]:
    records = [deliver.signed_of(letter) for letter in LETTERS]
    spec = batch_spec(records, agent="agent", tenant="acme")
    call = exchange(spec, state, Bounds(), deadline_ms=61_000, agent="agent")
    return deliver.deliver_batch(LETTERS, call, state, level="durable")


def answer_lines(*items: dict[str, Any]) -> RawResponse:
    lines = (jcs({"index": index, **item}) + b"\n" for index, item in enumerate(items))
    return RawResponse(200, [], b"".join(lines))


def test_each_entry_of_a_batch_is_settled_by_its_own_answer() -> None:
    import json

    outcome = json.loads(outcome_body(SIGNED.pcs_id))
    play = Play([answer_lines(
        {"status": 200, "outcome": outcome, "replayed": False},
        {"status": 409, "problem": {"code": "pcs_id_conflict"}},
        {"status": 429, "problem": {"code": "rate_limited", "retry_after_ms": 1500}},
    )])  # fmt: skip
    state = state_of()
    play.run(batch(state))
    (request,) = play.requests
    assert request.body == (SIGNED.body + b"\n") * 3
    verdicts = [settle.verdict for settle in play.of(Settle)]
    assert verdicts[0] == Acknowledge(200)
    assert isinstance(verdicts[1], Bury)
    assert verdicts[2] == Later(1500, endpoint_down=False)
    assert state.takes_batches


def test_a_batch_that_breaks_off_leaves_the_rest_pending() -> None:
    import json

    item = {"status": 200, "outcome": json.loads(outcome_body(SIGNED.pcs_id)), "replayed": False}
    play = Play([answer_lines(item)])
    play.run(batch(state_of()))
    verdicts = [settle.verdict for settle in play.of(Settle)]
    assert verdicts == [Acknowledge(200), Later(), Later()]


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422])
def test_a_server_without_batches_buries_nothing_and_gets_singles(status: int) -> None:
    state = state_of()
    play = Play([no(status)])
    play.run(batch(state))
    assert not state.takes_batches
    assert [settle.verdict for settle in play.of(Settle)] == [Later(endpoint_down=False)] * 3


def test_an_answer_that_is_no_batch_at_all_gets_singles() -> None:
    state = state_of()
    Play([RawResponse(200, [], b"<html>")]).run(batch(state))
    assert not state.takes_batches


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [([no(503, Retry_After="9")], Later(9000)), ([lost("tls_failed")], Later()),
     ([no(401)], Pause("kid", "unauthorized"))],
)  # fmt: skip
def test_a_batch_that_fails_as_a_whole_settles_all_alike(
    answers: Sequence[Scripted], verdict: Any
) -> None:
    state = state_of()
    play = Play([*answers, *answers, *answers])
    play.run(batch(state))
    assert [settle.verdict for settle in play.of(Settle)] == [verdict] * 3
    assert state.takes_batches


def test_letters_are_grouped_by_tenant() -> None:
    letters = [replace(LETTER, id=str(n), tenant=tenant) for n, tenant in enumerate("abab")]
    letters.append(replace(LETTER, id="4", tenant=None))
    groups = deliver.by_tenant(letters)
    assert [[letter.id for letter in group] for group in groups] == [["4"], ["0", "2"], ["1", "3"]]


def nothing() -> Call[None]:
    yield from ()


def pump(play: Play, *, deadline_ms: int | None, asks: Any = None) -> None:
    calls: list[Call[Any]] = [nothing()]
    play.run(deliver.pump(lambda _: calls, asks=asks, deadline_ms=deadline_ms))


def due(
    next_due_ms: int | None, in_flight: int = 0, letters: tuple[Letter, ...] = (), held: int = 0
) -> Due:
    return Due(letters, next_due_ms, in_flight, held)


def test_a_flush_ends_when_nothing_is_left_that_may_be_sent() -> None:
    play = Play(dues=[due(None, 1, (LETTERS[1],)), due(NOW_MS + 40), due(None)])
    pump(play, deadline_ms=10_000)
    assert [type(effect) for effect in play.effects] == [Take, Deliver, Take, Doze, Take]
    assert play.of(Deliver)[0].ids == (LETTERS[1].id,)
    assert [doze.wait_ms for doze in play.of(Doze)] == [40]


def test_a_flush_ends_at_its_deadline() -> None:
    play = Play(dues=[due(NOW_MS + 10**6), due(NOW_MS + 10**6)], monotonic_ms=1_000)
    pump(play, deadline_ms=3_000)
    assert [doze.wait_ms for doze in play.of(Doze)] == [2_000]


def test_a_flush_waits_for_what_others_have_in_flight() -> None:
    play = Play(dues=[due(None, 2), due(None, 0)])
    pump(play, deadline_ms=3_000)
    assert [doze.wait_ms for doze in play.of(Doze)] == [2_000]


def test_an_entry_that_is_due_but_has_no_room_waits_for_one_that_is_in_flight() -> None:
    play = Play(dues=[due(NOW_MS, 1), due(None, 0)], doze=lost("cancelled"))
    pump(play, deadline_ms=None)
    assert [doze.wait_ms for doze in play.of(Doze)] == [None]


def test_a_courier_goes_on_until_the_client_is_closed() -> None:
    play = Play(dues=[due(None), due(None)])
    generator = deliver.pump(lambda _: [], asks=None, deadline_ms=None)
    with pytest.raises(IndexError):  # it asked a third time
        play.run(generator)
    play = Play(dues=[due(NOW_MS + 5)], doze=lost("cancelled"))
    pump(play, deadline_ms=None)


def test_an_outbox_that_fails_ends_the_courier_with_its_error() -> None:
    play = Play(dues=[lost("outbox_corrupt")])
    assert (
        play.error(deliver.pump(lambda _: [], asks=None, deadline_ms=None)).code == "outbox_corrupt"
    )


def test_errors_of_a_whole_batch_that_cannot_be_read_are_no_refusal() -> None:
    state = state_of()
    big = RawResponse(422, [("x", "y")] * 101, b"")
    play = Play([big])
    play.run(batch(state))
    assert state.takes_batches
    assert [settle.verdict for settle in play.of(Settle)] == [Later()] * 3


def test_while_something_is_held_a_flush_asks_at_once_and_then_every_5_s() -> None:
    asked: list[int] = []

    def asks(timeout_ms: int) -> list[Call[Any]]:
        asked.append(timeout_ms)
        return [nothing()]

    held = due(None, held=1)
    play = Play(dues=[held, held, held, held, held, due(None)], monotonic_ms=1_000)
    pump(play, deadline_ms=12_000, asks=asks)
    assert [doze.wait_ms for doze in play.of(Doze)] == [5_000, 5_000]
    assert asked == [2_000, 2_000, 1_000]


def test_a_courier_asks_5_s_after_the_first_entry_was_held() -> None:
    asked: list[int] = []

    def asks(timeout_ms: int) -> list[Call[Any]]:
        asked.append(timeout_ms)
        return []

    held = due(None, held=1)
    play = Play(dues=[due(None), held, held, due(None), held, held])
    with pytest.raises(IndexError):  # it goes on
        pump(play, deadline_ms=None, asks=asks)
    assert [doze.wait_ms for doze in play.of(Doze)] == [None, 5_000, 5_000, None, 5_000, 5_000]
    assert asked == [2_000, 2_000]


def test_what_is_due_goes_out_behind_a_question() -> None:
    play = Play(dues=[due(None, 1, (LETTERS[1],), held=1), due(None)])
    pump(play, deadline_ms=10_000, asks=lambda _: [nothing()])
    assert [type(effect) for effect in play.effects] == [Take, Deliver, Deliver, Take]
    assert [each.ids for each in play.of(Deliver)] == [(LETTERS[1].id,)] * 2


def test_nobody_is_asked_after_the_deadline_or_without_a_token() -> None:
    held = due(None, held=1)
    play = Play(dues=[held], monotonic_ms=3_000)
    pump(play, deadline_ms=3_000, asks=lambda _: [nothing()])
    assert [type(effect) for effect in play.effects] == [Take]
    play = Play(dues=[held])
    pump(play, deadline_ms=3_000)
    assert [type(effect) for effect in play.effects] == [Take]
