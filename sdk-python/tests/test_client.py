"""Both clients against scripted servers on real sockets; waits pass on a fake clock."""

# tidy: long because each test is one sentence of one contract

from __future__ import annotations

import base64
import copy
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import KEY, SIGNER, AnyClient, options, record
from record_samples import full_record
from scripted_server import ScriptedServer, Seen, Step, recorded, refused

from fractal_lba import base, errors
from fractal_lba.aio import AsyncClient
from fractal_lba.canonical import jcs
from fractal_lba.client import Client
from fractal_lba.endpoints import FailoverPolicy
from fractal_lba.errors import ConfigError, FractalLBAError, NotFoundError, ValidationError
from fractal_lba.hooks import Hooks
from fractal_lba.http import STATUS_CODES
from fractal_lba.record import Record
from fractal_lba.retry import RetryPolicy
from fractal_lba.secret import Secret
from fractal_lba.sign import HmacSigner, SignedRecord, sign_record
from fractal_lba.spool import open_outbox
from fractal_lba.testing import FakeClock, Fault, Reply, ScriptedTransport, outcome_body

LONG_S = 30.0
"""A bound that no test waits for."""

Make = Callable[..., AnyClient]


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[AnyClient] = []

    def make_one(endpoints: Any, **changes: Any) -> AnyClient:
        made.append(AnyClient(request.param, endpoints, **changes))
        return made[-1]

    yield make_one
    for client in made:
        client.end()


def fails(client: AnyClient, *args: Any, **kwargs: Any) -> FractalLBAError:
    with pytest.raises(FractalLBAError) as caught:
        client.submit(*args, **kwargs)
    return caught.value


# --- every status --------------------------------------------------------------------------

# status: the class of the error and the number of attempts
STATUSES: dict[int, tuple[type[FractalLBAError] | None, int]] = {
    200: (None, 1),
    202: (None, 1),
    400: (errors.APIError, 1),
    401: (errors.AuthError, 1),
    403: (errors.AuthError, 1),
    404: (errors.NotFoundError, 1),
    409: (errors.ConflictError, 1),
    413: (errors.APIError, 1),
    415: (errors.APIError, 1),
    422: (errors.APIError, 1),
    429: (errors.RateLimitError, 3),
    500: (errors.APIError, 3),
    502: (errors.APIError, 3),
    503: (errors.UnavailableError, 3),
    504: (errors.APIError, 3),
}


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_one_typed_result(make: Make, status: int) -> None:
    expected, attempts = STATUSES[status]
    if expected is None:
        with ScriptedServer([recorded(status, replayed=True)]) as server:
            submitted = make(server.url).submit(record())
        assert submitted.outcome.accepted is (status == 200)
        assert submitted.replayed
        assert str(submitted.position) == "fra/open/1/7"
        assert (submitted.level, submitted.receipt) == ("durable", None)
        assert (submitted.raw.status, submitted.raw.request_id) == (status, "req-1")
        return
    with ScriptedServer([refused(status, STATUS_CODES[status], repeat=True)]) as server:
        error = fails(make(server.url), record())
    assert type(error) is expected
    assert (error.code, error.status, error.attempts) == (STATUS_CODES[status], status, attempts)
    assert (error.request_id, error.queued) == ("req-2", False)
    assert error.stop == ("attempts_exhausted" if attempts == 3 else "not_retryable")
    assert len(server.seen) == attempts


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "signature_invalid", errors.SignatureError),
        (401, "kid_unknown", errors.SignatureError),
        (422, "pcs_id_mismatch", errors.ValidationError),
        (400, "json_malformed", errors.ValidationError),
        (503, "not_primary", errors.UnavailableError),
    ],
)
def test_the_code_of_the_server_is_kept(
    make: Make, status: int, code: str, expected: type[FractalLBAError]
) -> None:
    with ScriptedServer([refused(status, code, repeat=True)]) as server:
        error = fails(make(server.url), record())
    assert (type(error), error.code) == (expected, code)


# --- the request ---------------------------------------------------------------------------


def test_a_submit_sends_the_documented_headers_and_no_other(make: Make) -> None:
    with ScriptedServer([recorded()]) as server:
        make(server.url, app="test/1").submit(record())
        (seen,) = server.seen
    signed = sign_record(record(), SIGNER, tenant="acme")
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/pcs/submit", signed.body)
    agent = seen.headers.pop("user-agent")
    assert agent.startswith("fractal-lba-python-sdk/")
    assert agent.endswith(" test/1")
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}", "accept": "application/json, application/problem+json",
        "content-type": "application/json", "content-length": str(len(signed.body)),
        "x-tenant-id": "acme", "idempotency-key": signed.content,
    }  # fmt: skip


def test_bytes_and_key_are_the_same_in_every_attempt(make: Make) -> None:
    script = [refused(503, "unavailable"), Step(cut=0), recorded()]
    with ScriptedServer(script) as server:
        submitted = make(server.url).submit(record())
    assert submitted.raw.attempts == 3
    assert len({(seen.body, seen.headers["idempotency-key"]) for seen in server.seen}) == 1
    assert [seen.headers.get("x-retry-attempt") for seen in server.seen] == [None, "1", "2"]


@pytest.mark.parametrize("level", ["replicated", "witnessed"])
def test_only_a_level_above_the_default_is_asked_for(make: Make, level: str) -> None:
    with ScriptedServer([recorded(repeat=True)]) as server:
        client = make(server.url)
        client.submit(record(), durability="durable")
        client.submit(record(), durability=level)
        make(server.url, durability=level).submit(record())
    asked = [seen.headers.get("pcs-min-ack") for seen in server.seen]
    assert asked == [None, level, level]


def test_the_tenant_is_sent_only_if_it_is_set(make: Make) -> None:
    with ScriptedServer([recorded()]) as server:
        make(server.url, tenant=None, sig_version=1).submit(record())
    assert "x-tenant-id" not in server.seen[0].headers
    assert "sig_v" not in json.loads(server.seen[0].body)


# --- records -------------------------------------------------------------------------------


def test_the_callers_record_is_never_changed_and_two_clients_may_sign_it(make: Make) -> None:
    given = record()
    before = copy.deepcopy(given)
    other = HmacSigner(b"o" * 32, kid="k2")
    with ScriptedServer([recorded(repeat=True)]) as server:
        clients = [make(server.url), make(server.url, signer=other, tenant="other")]
        for client in clients:
            client.submit(given)
    assert given == before
    kids = [json.loads(seen.body)["kid"] for seen in server.seen]
    assert kids == ["k1", "k2"]
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1


def test_two_clients_sign_one_record_at_the_same_time() -> None:
    given = Record.from_dict(record())
    bodies: dict[str, set[bytes]] = {"k1": set(), "k2": set()}
    transports = [ScriptedTransport(_always_recorded()) for _ in range(2)]
    signers = [SIGNER, HmacSigner(b"o" * 32, kid="k2")]
    clients = [
        Client("https://a.example", **options(signer=signer, transport=transport))
        for signer, transport in zip(signers, transports, strict=True)
    ]
    threads = [
        threading.Thread(target=lambda client=client: [client.submit(given) for _ in range(30)])
        for client in clients
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for transport in transports:
        for request in transport.requests:
            bodies[json.loads(request.body)["kid"]].add(request.body)
    for signer in signers:
        assert bodies[signer.kid or ""] == {sign_record(given, signer, tenant="acme").body}
    for client in clients:
        client.close()


def _always_recorded() -> Iterator[Any]:
    def answer(request: Any) -> Reply:
        return Reply(200, [], outcome_body(json.loads(request.body)["pcs_id"]))

    while True:
        yield answer


def test_a_missing_id_is_derived_and_a_wrong_one_refused(make: Make) -> None:
    without = record()
    pcs_id = without.pop("pcs_id")
    with ScriptedServer([recorded(repeat=True)]) as server:
        client = make(server.url)
        assert client.submit(without).outcome.pcs_id == pcs_id
        assert client.submit(Record(**_typed(without))).outcome.pcs_id == pcs_id
        assert fails(client, record() | {"pcs_id": "0" * 64}).code == "pcs_id_mismatch"
    assert len(server.seen) == 2


def _typed(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name != "ft"}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (full_record(extra=1), "member_unknown"),
        (full_record(D_hat=4.0), "number_out_of_range"),
        (full_record(r=float("nan")), "number_not_finite"),
        ({"epoch": 1}, "member_missing"),
        (7, "member_type"),
        (None, "member_type"),
        (full_record(merkle_root=7), "member_type"),
    ],
)
def test_a_record_outside_its_format_is_refused_before_anything_is_sent(
    make: Make, given: Any, code: str
) -> None:
    with ScriptedServer() as server:
        given = {k: v for k, v in given.items() if k != "pcs_id"} if code == "member_type" and (
            isinstance(given, dict)
        ) else given  # fmt: skip
        error = fails(make(server.url), given)
        assert isinstance(error, ValidationError)
        assert error.code == code
        assert server.connections == 0


def test_a_signed_record_goes_out_byte_for_byte(make: Make) -> None:
    pretty = json.dumps(json.loads(sign_record(record(), SIGNER, tenant="acme").body), indent=1)
    signed = SignedRecord.from_json(pretty.encode())
    with ScriptedServer([recorded(repeat=True)]) as server:
        make(server.url, signer=None).submit(signed)
        make(server.url).submit(signed)
        make(server.url, signer=None).submit(dict(json.loads(pretty)))
    assert [seen.body for seen in server.seen] == [
        pretty.encode(), pretty.encode(), jcs(json.loads(pretty)),
    ]  # fmt: skip


def test_without_a_signer_an_unsigned_record_is_refused(make: Make) -> None:
    with ScriptedServer() as server:
        error = fails(make(server.url, signer=None), record())
    assert (error.code, error.fault) == ("member_missing", "caller")


def test_a_record_over_the_limit_is_refused(make: Make) -> None:
    with ScriptedServer() as server:
        assert fails(make(server.url, max_record_bytes=500), record()).code == "payload_too_large"


# --- waits, time, cancellation -------------------------------------------------------------


def test_retry_after_is_a_floor(make: Make) -> None:
    script = [refused(429, "rate_limited", {"Retry-After": "7.5"}), recorded()]
    with ScriptedServer(script) as server:
        client = make(server.url)
        client.submit(record())
    (wait_ms,) = client.clock.waits_ms
    assert 7_500 <= wait_ms < 8_000


def test_a_retry_after_beyond_reason_ends_the_call(make: Make) -> None:
    with ScriptedServer([refused(503, "unavailable", {"Retry-After": "61"})]) as server:
        client = make(server.url)
        error = fails(client, record())
    assert (error.stop, error.retry_after) == ("retry_after_too_long", 61.0)
    assert client.clock.waits_ms == []


def test_a_lost_reply_after_acceptance_becomes_a_replay(make: Make) -> None:
    with ScriptedServer([Step(cut=0), recorded(replayed=True)]) as server:
        submitted = make(server.url).submit(record())
    assert (submitted.replayed, submitted.raw.attempts) == (True, 2)
    assert server.seen[0].body == server.seen[1].body


@pytest.mark.parametrize(
    "step",
    [
        Step(cut=17),
        Step(body=b"x" * 50, cut=70),
        Step(cut=0, reset=True),
        Step(raw=b"nonsense\r\n"),
    ],
)
def test_a_broken_answer_is_asked_for_again(make: Make, step: Step) -> None:
    with ScriptedServer([step, recorded()]) as server:
        assert make(server.url).submit(record()).raw.attempts == 2


def test_an_attempt_has_its_own_bound(make: Make) -> None:
    with ScriptedServer([Step(hold=threading.Event()), recorded()]) as server:
        client = make(server.url, attempt_timeout_s=1)
        assert client.submit(record()).raw.attempts == 2


def test_the_total_bound_counts_waits(make: Make) -> None:
    with ScriptedServer([refused(503, "unavailable", {"Retry-After": "5"})]) as server:
        error = fails(make(server.url), record(), total_timeout_s=5)
    assert (error.code, error.stop, error.attempts) == ("unavailable", "deadline_exceeded", 1)


def test_a_success_that_cannot_be_read_is_not_sent_again(make: Make) -> None:
    with ScriptedServer([Step(200, {}, b'{"accepted":')]) as server:
        error = fails(make(server.url), record())
    assert (error.code, error.stop, error.status) == ("response_malformed", "not_retryable", 200)
    assert len(server.seen) == 1


def test_one_quota_serves_all_calls_of_a_client(make: Make) -> None:
    with ScriptedServer([refused(500, "internal", repeat=True)]) as server:
        client = make(server.url, failover=FailoverPolicy(down_after=10**6))
        stops = [fails(client, record()).stop for _ in range(20)]
    assert stops[0] == "attempts_exhausted"
    assert stops[-1] == "quota_exhausted"
    assert len(server.seen) == 20 + 500 // 14


# --- failover ------------------------------------------------------------------------------


def test_a_refusal_moves_to_the_next_endpoint_and_stays(make: Make) -> None:
    first, second = ScriptedServer([refused(503, "unavailable")]), ScriptedServer(
        [recorded(repeat=True)]
    )  # fmt: skip
    with first, second:
        client = make([first.url, second.url])
        assert client.submit(record(1)).raw.attempts == 2
        assert client.submit(record(2)).raw.attempts == 1
    assert (len(first.seen), len(second.seen)) == (1, 2)
    assert first.seen[0].body == second.seen[0].body


def test_nobody_at_the_first_endpoint(make: Make) -> None:
    with ScriptedServer() as gone:
        dead = gone.url
    with ScriptedServer([recorded()]) as server:
        assert make([dead, server.url]).submit(record()).raw.attempts == 2


@pytest.mark.parametrize("step", [Step(cut=0), Step(cut=20), refused(500, "internal")])
def test_an_ambiguous_result_stays_at_the_endpoint(make: Make, step: Step) -> None:
    with ScriptedServer([step, recorded()]) as first, ScriptedServer() as second:
        make([first.url, second.url]).submit(record())
        assert (len(first.seen), len(second.seen)) == (2, 0)


def test_after_enough_failures_in_a_row_an_ambiguous_endpoint_is_left(make: Make) -> None:
    with (
        ScriptedServer([Step(cut=0, repeat=True)]) as first,
        ScriptedServer([recorded()]) as second,
    ):
        client = make([first.url, second.url], retry=RetryPolicy(max_attempts=4))
        assert client.submit(record()).raw.attempts == 4
        assert (len(first.seen), len(second.seen)) == (3, 1)


def test_an_endpoint_that_is_up_again_is_found_by_probes_and_gone_back_to(make: Make) -> None:
    health: list[Seen] = []

    def answer(seen: Seen) -> bytes:
        if seen.path == "/health":
            health.append(seen)
            return b"{}"
        return outcome_body(json.loads(seen.body)["pcs_id"])

    first = ScriptedServer([refused(503, "unavailable"), Step(200, {}, answer, repeat=True)])
    with first, ScriptedServer([recorded(repeat=True)]) as second:
        policy = FailoverPolicy(down_after=1, failback_after_ms=60_000)
        client = make([first.url, second.url], failover=policy)
        client.submit(record(1))
        for number in range(2, 20):
            client.clock.advance(15_000)
            client.submit(record(number))
            if number <= 4:
                _settle_probes(client)
        assert len(health) >= 2
        assert client.inner._state.fleet.current == 0
        assert any(seen.path == "/v1/pcs/submit" for seen in first.seen[1:])


def _settle_probes(client: AnyClient) -> None:
    """Wait for the probes that a call started beside itself."""
    if client.sync is not None:
        while client.sync._threads:
            for thread in list(client.sync._threads):
                thread.join()
        return

    async def wait() -> None:
        import asyncio

        assert client.aio is not None
        if client.aio._tasks:
            await asyncio.wait(set(client.aio._tasks))

    client.runner.run(wait())


# --- get and health ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token", ["t0ken", Secret("t0ken"), lambda: "t0ken", lambda: Secret("t0ken")]
)
def test_get_reads_with_the_token(make: Make, token: Any) -> None:
    pcs_id = record()["pcs_id"]
    with ScriptedServer([Step(200, {}, outcome_body(pcs_id))]) as server:
        outcome = make(server.url, token=token).get(pcs_id)
    assert outcome.pcs_id == pcs_id
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("GET", f"/v1/pcs/{pcs_id}")
    assert seen.headers["authorization"] == "Bearer t0ken"
    assert "idempotency-key" not in seen.headers


def test_a_submit_carries_no_token(make: Make) -> None:
    with ScriptedServer([recorded()]) as server:
        make(server.url, token="t0ken").submit(record())
    assert "authorization" not in server.seen[0].headers


def test_missing_is_not_unavailable(make: Make) -> None:
    script = [refused(404, "not_found"), *[refused(503, "unavailable")] * 3]
    with ScriptedServer(script) as server:
        client = make(server.url)
        with pytest.raises(NotFoundError):
            client.get("a" * 64)
        with pytest.raises(errors.UnavailableError):
            client.get("a" * 64)
        with pytest.raises(ValidationError):
            client.get("not an id")


def test_health_asks_all_endpoints_and_never_raises(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("client", "aio"):
        monkeypatch.setattr(f"fractal_lba.{module}.HEALTH_TIMEOUT_MS", 150)
    with ScriptedServer() as gone:
        dead = gone.url
    well, sick = (
        ScriptedServer([Step(200, {}, b"{}")]),
        ScriptedServer([refused(503, "not_primary")]),
    )
    with well, sick, ScriptedServer([Step(hold=threading.Event())]) as silent:
        endpoints = [base.Endpoint(well.url, "eu"), sick.url, dead, silent.url]
        answers = make(endpoints).health()
    assert [(each.url, each.region) for each in answers] == [
        (well.url, "eu"), (sick.url, None), (dead, None), (silent.url, None),
    ]  # fmt: skip
    assert [(each.ok, each.status, each.error) for each in answers] == [
        (True, 200, None), (False, 503, "not_primary"), (False, None, "connect_failed"),
        (False, None, "attempt_timeout"),
    ]  # fmt: skip
    assert well.seen[0].path == "/health"
    assert "x-tenant-id" not in well.seen[0].headers


def test_the_names_of_the_seeds_are_aliases(make: Make) -> None:
    with ScriptedServer([recorded(), Step(200, {}, b"{}")]) as server:
        client = make(server.url)
        assert client.submit_pcs(record()).outcome.accepted
        assert client.health_check()[0].ok


# --- options -------------------------------------------------------------------------------

INVALID: list[dict[str, Any]] = [
    {"sig_version": 3}, {"sig_version": True}, {"sig_version": "2"}, {"tenant": None},
    {"signer": HmacSigner(KEY)}, {"tenant": "no spaces"}, {"tenant": ""}, {"retry": 3},
    {"retry": None}, {"connect_timeout_s": 0}, {"attempt_timeout_s": -1},
    {"total_timeout_s": float("inf")}, {"total_timeout_s": float("nan")},
    {"total_timeout_s": True}, {"total_timeout_s": "60"}, {"durability": "local"},
    {"concurrency": 0}, {"concurrency": 1.5}, {"max_in_flight": 0}, {"max_in_flight": True},
    {"connection_max_age_s": 0}, {"connection_idle_s": 0}, {"max_record_bytes": 65_537},
    {"max_record_bytes": 0}, {"max_response_bytes": 0}, {"max_response_headers": 101},
    {"max_response_headers": 0}, {"app": "x" * 25}, {"app": "line\nend"},
]  # fmt: skip


@pytest.mark.parametrize("changes", INVALID)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_invalid_option_fails_in_the_constructor(kind: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        kind("https://a.example", **options(**changes))
    assert caught.value.code == "config_invalid"


@pytest.mark.parametrize(
    "endpoints",
    ["http://a.example", "ftp://a.example", "https://u:p@a.example", "https://a.example?q", [], "",
     ["https://a.example", "https://a.example/"], "https://"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_endpoint_must_be_https_or_loopback(kind: Any, endpoints: Any) -> None:
    with pytest.raises(ConfigError):
        kind(endpoints, **options())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_constructor_does_no_io(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object, **__: object) -> Any:
        raise AssertionError("I/O in a constructor")

    for place, name in ((socket, "socket"), (ssl, "create_default_context"), (threading, "Thread")):
        monkeypatch.setattr(place, name, touched)
    monkeypatch.setattr("builtins.open", touched)
    kind("https://a.example", signer=SIGNER, tenant="acme")


def test_a_call_may_have_its_own_bounds_but_no_invalid_ones(make: Make) -> None:
    client = make("https://a.example")
    assert fails(client, record(), total_timeout_s=0).code == "config_invalid"
    assert fails(client, record(), durability="none").code == "config_invalid"
    for act in (
        lambda: client.enqueue(record()),
        lambda: client.flush(1),
        lambda: client.resign("k"),
    ):
        with pytest.raises(ConfigError, match="outbox"):
            act()
    with pytest.raises(ConfigError, match="concurrency"):
        client.submit_many([], concurrency=0)


def test_an_outbox_keeps_to_the_level_that_it_can_release(tmp_path: Path) -> None:
    with open_outbox(tmp_path / "box") as box:
        for level in ("witnessed", "local"):
            with pytest.raises(ConfigError, match="durability"):
                Client("https://a.example", **options(outbox=box, durability=level))
        for level, other in (("durable", "replicated"), ("replicated", "durable")):
            with Client("https://a.example", **options(outbox=box, durability=level)) as client:
                for wrong in (other, "witnessed", "local"):
                    with pytest.raises(ConfigError, match="durability"):
                        client.submit(record(), durability=wrong)
            assert box.stats().entries == 0


# --- many ----------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_input(make: Make) -> None:
    gates = [threading.Event() for _ in range(8)]
    late = gates[0]

    def answer(number: int) -> Step:
        return recorded(hold=gates[number])

    with ScriptedServer([answer(number) for number in range(8)]) as server:

        def open_backwards() -> None:
            for _ in range(8):
                assert server.arrived.acquire(timeout=LONG_S)
            for gate in reversed(gates):
                gate.set()

        opener = threading.Thread(target=open_backwards)
        opener.start()
        items = make(server.url).submit_many(map(record, range(8)), concurrency=8)
        opener.join()
    assert late.is_set()
    assert [item.index for item in items] == list(range(8))
    expected = [record(number)["pcs_id"] for number in range(8)]
    assert [item.result.outcome.pcs_id for item in items if item.result] == expected


def test_one_bad_record_spoils_no_other(make: Make) -> None:
    records = [record(1), full_record(extra=1), record(2), None, record(3)]
    with ScriptedServer([recorded(repeat=True)]) as server:
        items = make(server.url).submit_many(records)
    assert [item.error.code if item.error else None for item in items] == [
        None, "member_unknown", None, "member_type", None,
    ]  # fmt: skip


def test_no_more_are_in_flight_than_asked(make: Make) -> None:
    gate = threading.Event()
    with ScriptedServer([recorded(hold=gate, repeat=True)]) as server:

        def open_when_full() -> None:
            for _ in range(3):
                assert server.arrived.acquire(timeout=LONG_S)
            gate.set()

        opener = threading.Thread(target=open_when_full)
        opener.start()
        items = make(server.url).submit_many(map(record, range(20)), concurrency=3)
        opener.join()
        assert len(items) == 20
        assert server.in_flight_max == 3


def test_callers_beyond_the_places_of_a_client_queue(make: Make) -> None:
    with ScriptedServer([recorded(repeat=True)]) as server:
        items = make(server.url, max_in_flight=2).submit_many(map(record, range(20)), concurrency=8)
        assert [item.error for item in items] == [None] * 20
        assert server.in_flight_max <= 2


def test_what_the_input_raises_comes_after_the_answers(make: Make) -> None:
    def broken() -> Iterator[Any]:
        yield record(1)
        yield record(2)
        raise LookupError("the source ended badly")

    with ScriptedServer([recorded(repeat=True)]) as server:
        client = make(server.url)
        with pytest.raises(LookupError):
            client.submit_many(broken())
    assert len(server.seen) == 2


def test_no_records_no_answers(make: Make) -> None:
    assert make("https://a.example").submit_many([]) == []


# --- what is told --------------------------------------------------------------------------


def test_nothing_secret_is_ever_logged_or_told(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # httpcore writes the headers of answers at DEBUG; what must stay secret is not in them.
    caplog.handler.addFilter(
        lambda line: not line.getMessage().startswith("receive_response_headers")
    )
    told: list[str] = []
    hooks = Hooks(*[lambda event: told.append(repr(event))] * 4)
    secret = "tokentokentoken"
    script = [
        refused(401, "signature_invalid", {"Set-Cookie": "session=cookiecookie"}),
        Step(200, {}, b"\xff" * 20), refused(503, "unavailable"), Step(cut=0), recorded(),
        Step(200, {}, outcome_body(record()["pcs_id"])),
    ]  # fmt: skip
    with ScriptedServer(script) as server:
        client = make(server.url, token=secret, hooks=hooks)
        errors_seen = [fails(client, record()), fails(client, record())]
        client.submit(record())
        client.get(record()["pcs_id"])
        told += [str(error) + repr(error) for error in errors_seen]
    everything = caplog.text + "".join(told)
    signatures = {json.loads(seen.body)["sig"] for seen in server.seen if seen.body}
    assert len(signatures) == 1
    for needle in (
        KEY.hex(), base64.b64encode(KEY).decode(), repr(KEY), secret, "Bearer", "cookiecookie",
        *signatures, "merkle_root",
    ):  # fmt: skip
        assert needle not in everything
    assert "submit attempt 1 POST" in caplog.text
    assert "submit stopped: signature_invalid after 1 attempts" in caplog.text
    assert all(
        line.levelname in ("DEBUG", "WARNING")
        for line in caplog.records
        if line.name == "fractal_lba"
    )


def test_hooks_hear_every_attempt_retry_and_failover(make: Make) -> None:
    heard: list[str] = []
    hooks = Hooks(
        on_attempt=lambda event: heard.append(f"attempt {event.attempt} {event.status}"),
        on_retry=lambda event: heard.append(f"retry after {event.code}"),
        on_failover=lambda event: heard.append(f"to {event.to_url}"),
    )
    with (
        ScriptedServer([refused(503, "unavailable")]) as first,
        ScriptedServer([recorded()]) as second,
    ):
        make([first.url, second.url], hooks=hooks).submit(record())
        assert heard == [
            "attempt 1 503", "retry after unavailable", f"to {second.url}", "attempt 2 200",
        ]  # fmt: skip


# --- an own transport ----------------------------------------------------------------------


def test_a_client_works_over_a_scripted_transport(make: Make) -> None:
    clock = FakeClock()
    body = outcome_body(record()["pcs_id"])
    transport = ScriptedTransport([Fault("connect_failed"), Reply(200, [], body)], clock=clock)
    client = make("https://a.example", transport=transport, clock=clock)
    assert client.submit(record()).raw.attempts == 2
    assert len(transport.requests) == 2


def test_an_attempt_on_a_fake_clock_takes_no_time(make: Make) -> None:
    clock = FakeClock()
    script = [Reply(200, delay_ms=20_000)] * 3
    transport = ScriptedTransport(script, clock=clock)
    error = fails(make("https://a.example", transport=transport, clock=clock), record())
    assert (error.code, error.attempts) == ("attempt_timeout", 3)
