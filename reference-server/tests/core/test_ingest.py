"""The ingest machine, driven by a list of events: one path of a record a row or a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ingest_machine import MS, NOW_NS, ORIGIN, Machine, directory
from region import (
    ACME,
    ACME_2,
    BETA,
    ED25519,
    HMAC_KEYS,
    SMALL,
    SMALL_QUOTA,
    signed,
    tenants_document,
)

from fractal_lba.errors import SignatureError
from fractal_lba.sign import HmacSigner, check_signature
from fractal_lba_server.core import hlc
from fractal_lba_server.core.facts import read_facts
from fractal_lba_server.core.first_write import Apply, Stored
from fractal_lba_server.core.ingest import GATE_RETRY_MS
from fractal_lba_server.core.ingest_events import (
    Answer,
    Append,
    Ask,
    BatchEnded,
    BodyReceived,
    CheckSignature,
    DirectoryChanged,
    Draining,
    FramesLost,
    FrameSynced,
    PoliciesChanged,
    ReadRequested,
    Refuse,
    SignatureChecked,
    SpaceReturned,
    StoreAnswered,
    StoreFailed,
    ViewApplied,
)
from fractal_lba_server.core.policy import PolicyBook
from fractal_lba_server.core.segment import read_frame

STORED = Stored(7, "c" * 64, 200, b"{}", ORIGIN, 1)
STRANGER = HmacSigner(HMAC_KEYS["stranger"], kid="acme-1")


@pytest.fixture
def machine() -> Machine:
    """Give a machine that has seen nothing."""
    return Machine()


def text(record: Any) -> bytes:
    """Write a record as JSON."""
    return json.dumps(dict(record)).encode()


# --- the path of a new record --------------------------------------------------------------


def test_new_record_is_asked_for_appended_synced_and_answered(machine: Machine) -> None:
    record = signed()
    key = ("acme", record.pcs_id)
    assert machine.feed(BodyReceived("a", record.body)) == [Ask(key)]
    append = machine.one(StoreAnswered(key, None))
    assert isinstance(append, Append)
    assert (append.seq, machine.core.in_flight, machine.core.recent) == (1, 1, 1)

    frame = read_frame(append.frame, 0)
    facts = read_facts(frame, ORIGIN)
    assert (frame.seq, frame.body) == (1, record.body)
    assert (facts.key, facts.kid, facts.sig_v) == (key, "acme-1", 2)
    assert facts.stored.content == record.content
    assert facts.policy_version == PolicyBook().for_tenant("acme").version

    apply, answer = machine.feed(FrameSynced(1))
    assert apply == Apply(key, facts.stored, "acme-1")
    assert answer == Answer("a", facts.stored, False, key)
    assert (machine.core.in_flight, machine.core.recent) == (0, 1)
    assert machine.feed(ViewApplied(1)) == []
    assert machine.core.recent == 0


def test_outcome_names_region_clock_and_policy(machine: Machine) -> None:
    stored = machine.recorded(signed().body)
    outcome = json.loads(stored.outcome)
    assert outcome["first_seen"] == {"region": "loc", "hlc": hlc.text(hlc.tick(0, NOW_NS))}
    assert outcome["policy_version"] == PolicyBook().for_tenant("acme").version
    assert (stored.status, outcome["accepted"]) == (200, True)


def test_numbers_and_clock_go_on_after_a_restart() -> None:
    last = hlc.tick(0, NOW_NS + 100 * MS)
    machine = Machine(next_seq=42, last_hlc=last)
    stored = machine.recorded(signed().body)
    assert stored.seq == 42
    assert json.loads(stored.outcome)["first_seen"]["hlc"] == hlc.text(last + 1)


def test_frames_are_answered_in_order_and_only_those_that_are_durable(machine: Machine) -> None:
    for token in ("a", "b", "c"):
        machine.submit(signed().body, token)
    assert machine.feed(FrameSynced(0)) == []
    effects = machine.feed(FrameSynced(2))
    assert [type(e) for e in effects] == [Apply, Answer, Apply, Answer]
    assert [e.token for e in effects if isinstance(e, Answer)] == ["a", "b"]
    assert machine.core.in_flight == 1
    assert machine.feed(FrameSynced(2)) == []
    assert [e.token for e in machine.feed(FrameSynced(3)) if isinstance(e, Answer)] == ["c"]


# --- duplicates and conflicts --------------------------------------------------------------

Meeting = Callable[[Machine, str], list[Any]]


def _while_asked(machine: Machine, token: str) -> list[Any]:
    """Second submission while the store is still asked for the first."""
    first = signed("meet")
    machine.feed(BodyReceived("first", first.body))
    assert machine.feed(BodyReceived(token, _second.body)) == []
    (append,) = machine.feed(StoreAnswered(("acme", first.pcs_id), None))
    assert isinstance(append, Append)
    return machine.feed(FrameSynced(append.seq))[2:]


def _while_unsynced(machine: Machine, token: str) -> list[Any]:
    first = signed("meet")
    (append,) = machine.submit(first.body, "first")
    assert machine.feed(BodyReceived(token, _second.body)) == [], "it waits for the frame"
    assert isinstance(append, Append)
    return machine.feed(FrameSynced(append.seq))[2:]


def _while_recent(machine: Machine, token: str) -> list[Any]:
    machine.recorded(signed("meet").body)
    return machine.feed(BodyReceived(token, _second.body))


def _when_in_the_store(machine: Machine, token: str) -> list[Any]:
    stored = machine.recorded(signed("meet").body)
    machine.feed(ViewApplied(stored.seq))
    ask = machine.one(BodyReceived(token, _second.body))
    return machine.feed(StoreAnswered(ask.key, stored))


MEETINGS = [_while_asked, _while_unsynced, _while_recent, _when_in_the_store]
_second = signed("meet")


@pytest.mark.parametrize("meet", MEETINGS)
@pytest.mark.parametrize("signer", [ACME, ACME_2], ids=["same key", "another key"])
def test_duplicate_is_answered_with_the_first_outcome(
    machine: Machine, meet: Meeting, signer: HmacSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "_second", signed("meet", signer=signer))
    (answer,) = meet(machine, "again")
    assert isinstance(answer, Answer)
    assert (answer.token, answer.replayed, answer.stored.seq) == ("again", True, 1)
    assert answer.stored.content == _second.content


@pytest.mark.parametrize("meet", MEETINGS)
def test_other_content_is_refused_whenever_it_comes(
    machine: Machine, meet: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "_second", signed("meet", r=0.5))
    (refusal,) = meet(machine, "other")
    assert isinstance(refusal, Refuse)
    assert (refusal.token, refusal.code, refusal.pointer) == (
        "other", "pcs_id_conflict", "/pcs_id",
    )  # fmt: skip
    assert refusal.key == ("acme", _second.pcs_id)


@pytest.mark.parametrize("level", ["replicated", "witnessed"])
@pytest.mark.parametrize("meet", MEETINGS)
def test_level_that_is_not_reached_names_the_position(
    machine: Machine, meet: Meeting, level: str
) -> None:
    answered = machine.feed

    def with_level(event: object) -> list[Any]:
        if isinstance(event, BodyReceived) and event.token == "second":
            event = event._replace(level=level)
        return answered(event)

    machine.feed = with_level  # type: ignore[method-assign] # one test's own machine
    (refusal,) = meet(machine, "second")
    assert (refusal.code, refusal.stored.seq) == ("unavailable", 1)
    assert refusal.retry_after_ms == GATE_RETRY_MS
    assert level in refusal.message


def test_ids_of_two_tenants_never_meet(machine: Machine) -> None:
    ours = machine.recorded(signed("shared").body)
    theirs = machine.recorded(signed("shared", signer=BETA, tenant="beta", r=0.5).body)
    assert (ours.seq, theirs.seq) == (1, 2)


# --- the store -----------------------------------------------------------------------------


def test_store_that_cannot_answer_is_unavailable_for_all_who_ask(machine: Machine) -> None:
    record = signed()
    machine.feed(BodyReceived("a", record.body))
    machine.feed(BodyReceived("b", record.body))
    machine.feed(ReadRequested("c", "acme", record.pcs_id))
    effects = machine.feed(StoreFailed(("acme", record.pcs_id)))
    assert [(e.token, e.code) for e in effects if isinstance(e, Refuse)] == [
        ("a", "unavailable"), ("b", "unavailable"), ("c", "unavailable"),
    ]  # fmt: skip
    assert machine.core.in_flight == 0
    assert machine.feed(BodyReceived("d", record.body)) == [Ask(("acme", record.pcs_id))]


def test_what_the_store_holds_is_forgotten_and_asked_for_again(machine: Machine) -> None:
    first, second = signed(), signed()
    stored = machine.recorded(first.body)
    machine.recorded(second.body)
    assert machine.feed(ViewApplied(0)) == []
    machine.feed(ViewApplied(1))
    assert machine.core.recent == 1
    key = ("acme", first.pcs_id)
    assert machine.feed(BodyReceived("again", first.body)) == [Ask(key)]
    (again,) = machine.feed(StoreAnswered(key, stored))
    assert again == Answer("again", stored, True, key)
    (recent,) = machine.feed(BodyReceived("recent", second.body))
    assert isinstance(recent, Answer)


# --- reads ---------------------------------------------------------------------------------


def test_read_sees_durable_outcomes_only(machine: Machine) -> None:
    record = signed()
    read = ReadRequested("r", "acme", record.pcs_id)
    (append,) = machine.submit(record.body)
    assert isinstance(append, Append)
    early = machine.one(read)
    assert (early.code, early.token) == ("not_found", "r")
    machine.feed(FrameSynced(1))
    (late,) = machine.feed(read)
    assert isinstance(late, Answer)
    assert (late.replayed, late.key) == (True, ("acme", record.pcs_id))
    assert append.seq == late.stored.seq


@pytest.mark.parametrize(("stored", "kind"), [(STORED, Answer), (None, Refuse)])
def test_read_of_an_old_id_asks_the_store(
    machine: Machine, stored: Stored | None, kind: type
) -> None:
    key = ("acme", "a" * 64)
    assert machine.feed(ReadRequested("r", *key)) == [Ask(key)]
    effect = machine.one(StoreAnswered(key, stored))
    assert (type(effect), effect.token) == (kind, "r")


# --- who signed ----------------------------------------------------------------------------


def test_nothing_is_looked_up_before_the_signature_holds(machine: Machine) -> None:
    genuine = signed("known")
    machine.recorded(genuine.body)
    for forged in (
        signed("known", signer=STRANGER).body,
        signed("known", signer=STRANGER, r=0.5).body,
        text({**genuine.record, "r": 0.5}),
        signed("unknown", signer=STRANGER).body,
    ):
        effect = machine.one(BodyReceived("f", forged))
        assert (effect.code, effect.key) == ("signature_invalid", None)


def test_ed25519_is_checked_elsewhere(machine: Machine) -> None:
    record = signed(signer=ED25519, tenant="beta")
    job = machine.one(BodyReceived("a", record.body))
    assert isinstance(job, CheckSignature)
    assert job.token == "a"
    check_signature(job.alg, job.key, job.digest, job.sig)
    assert machine.feed(SignatureChecked("a", None)) == [Ask(("beta", record.pcs_id))]


def test_ed25519_signature_that_fails_is_refused_and_counted() -> None:
    machine = Machine(unauthenticated_per_s=1)
    record = signed(signer=ED25519, tenant="beta")
    machine.feed(BodyReceived("a", record.body, address="192.0.2.1"))
    wrong = SignatureError("signature_invalid", "sig: does not hold")
    refusal = machine.one(SignatureChecked("a", wrong))
    assert (refusal.token, refusal.code) == ("a", "signature_invalid")
    next_one = machine.one(BodyReceived("b", record.body, address="192.0.2.1"))
    assert next_one.code == "rate_limited"


def test_tenant_that_goes_while_its_signature_is_checked_has_its_answer(
    machine: Machine,
) -> None:
    record = signed(signer=ED25519, tenant="beta")
    machine.feed(BodyReceived("a", record.body))
    document = tenants_document()
    del document["tenants"][1]
    assert machine.feed(DirectoryChanged(directory(document))) == []
    assert machine.feed(SignatureChecked("a", None)) == [Ask(("beta", record.pcs_id))]
    assert machine.refused(record.body) == "kid_unknown"


REFUSED: list[tuple[str, str, Callable[[], bytes], dict[str, Any]]] = [
    ("no JSON", "json_malformed", lambda: b"{", {}),
    ("outside the schema", "member_unknown", lambda: text({**signed().record, "x": 1}), {}),
    ("another id", "pcs_id_mismatch", lambda: signed(pcs_id="0" * 64).body, {}),
    ("unknown kid", "kid_unknown",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["acme-1"], kid="x")).body, {}),
    ("no kid and no tenant", "kid_unknown",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["beta-1"]), version=1).body, {}),
    ("expired key", "key_inactive",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["acme-old"], kid="acme-old")).body, {}),
    ("revoked key", "key_inactive",
     lambda: signed(signer=HmacSigner(HMAC_KEYS["acme-gone"], kid="acme-gone")).body, {}),
    ("version 1 without leave", "sig_version_unsupported", lambda: signed(version=1).body, {}),
    ("another algorithm", "alg_mismatch",
     lambda: text({**signed().record, "alg": "Ed25519"}), {}),
    ("malformed signature", "signature_malformed",
     lambda: text({**signed().record, "sig": "!" * 44}), {}),
    ("wrong signature", "signature_invalid", lambda: signed(signer=STRANGER).body, {}),
    ("header of another tenant", "tenant_mismatch", lambda: signed().body,
     {"tenant_header": "beta"}),
    ("record of another tenant", "tenant_mismatch", lambda: signed(tenant="beta").body, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "body", "facts"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refusal_has_its_code_and_leaves_nothing(
    machine: Machine, code: str, body: Callable[[], bytes], facts: dict[str, Any]
) -> None:
    assert machine.refused(body(), **facts) == code
    assert (machine.core.in_flight, machine.core.recent) == (0, 0)
    assert machine.recorded(signed().body).seq == 1


@pytest.mark.parametrize("header", [None, "beta"])
def test_version_1_is_taken_where_it_is_allowed(machine: Machine, header: str | None) -> None:
    assert machine.recorded(signed(signer=BETA, version=1).body, tenant_header=header).seq == 1


def test_version_1_without_kid_has_the_default_key(machine: Machine) -> None:
    body = signed(signer=HmacSigner(HMAC_KEYS["beta-1"]), version=1).body
    assert machine.recorded(body, tenant_header="beta").seq == 1


# --- limits --------------------------------------------------------------------------------


def test_strangers_are_slowed_by_address_and_the_known_are_not() -> None:
    machine = Machine(unauthenticated_per_s=2)
    forged = signed(signer=STRANGER).body
    at_once = [machine.one(BodyReceived(i, forged, address="192.0.2.1")) for i in range(4)]
    assert [r.code for r in at_once] == ["signature_invalid"] * 2 + ["rate_limited"] * 2
    assert at_once[2].retry_after_ms == 500
    assert machine.recorded(signed().body, address="192.0.2.2").seq == 1
    machine.now_ns += 500 * MS
    assert machine.recorded(signed().body, address="192.0.2.1").seq == 2
    assert machine.recorded(signed().body, address="192.0.2.1").seq == 3, "success costs nothing"


def test_quota_is_the_tenants_and_only_the_authentic_pay(machine: Machine) -> None:
    for _ in range(20):
        forged = signed(signer=HmacSigner(HMAC_KEYS["stranger"], kid="small-1"), tenant="small")
        assert machine.refused(forged.body) == "signature_invalid"
    first = signed(signer=SMALL, tenant="small")
    machine.recorded(first.body)
    for _ in range(SMALL_QUOTA - 2):
        machine.recorded(signed(signer=SMALL, tenant="small").body)
    (again,) = machine.submit(first.body)
    assert isinstance(again, Answer)
    over = machine.one(BodyReceived("o", first.body))
    assert (over.code, over.retry_after_ms) == ("rate_limited", 1_000_000)
    assert machine.recorded(signed().body).seq == SMALL_QUOTA


def test_lines_of_a_batch_are_of_one_tenant(machine: Machine) -> None:
    assert machine.submit(signed().body, batch="b1")
    theirs = signed(signer=BETA, tenant="beta").body
    assert machine.refused(theirs, batch="b1") == "tenant_mismatch"
    assert isinstance(machine.submit(theirs, batch="b2")[0], Append)
    assert machine.feed(BatchEnded("b1")) == []
    assert machine.feed(BatchEnded("never seen")) == []
    again = signed(signer=BETA, tenant="beta").body
    assert isinstance(machine.submit(again, batch="b1")[0], Append)


def test_old_record_is_refused_where_ids_are_forgotten() -> None:
    book = PolicyBook.from_document({"tenants": {"acme": {"dedup_ttl": "14d"}}})
    machine = Machine(policies=book)
    machine.now_ns = NOW_NS
    assert machine.recorded(signed(sent_at="2026-01-14T12:00:00Z").body).seq == 1
    assert machine.refused(signed(sent_at="2025-12-01T12:00:00Z").body) == "record_expired"
    other = signed(signer=BETA, tenant="beta", sent_at="2025-12-01T12:00:00Z")
    assert machine.recorded(other.body).seq == 2


# --- the gate ------------------------------------------------------------------------------


def test_full_index_queue_closes_the_gate_until_it_is_applied() -> None:
    machine = Machine(recent_max=2)
    machine.recorded(signed().body)
    machine.recorded(signed().body)
    refusal = machine.one(BodyReceived("a", signed().body))
    assert (refusal.code, refusal.retry_after_ms) == ("unavailable", GATE_RETRY_MS)
    assert "behind the log" in str(machine.core.closed(NOW_NS))
    machine.feed(ViewApplied(1))
    assert machine.core.closed(NOW_NS) is None
    assert machine.recorded(signed().body).seq == 3


def test_clock_behind_the_log_closes_the_gate() -> None:
    ahead = hlc.tick(0, NOW_NS + 501 * MS)
    machine = Machine(last_hlc=ahead)
    assert machine.refused(signed().body) == "unavailable"
    machine.now_ns += MS
    assert machine.recorded(signed().body).seq == 1


def test_draining_finishes_what_is_under_way(machine: Machine) -> None:
    record, late = signed(), signed(signer=ED25519, tenant="beta")
    (append,) = machine.submit(record.body, "a")
    assert isinstance(append, Append)
    machine.feed(BodyReceived("b", late.body))
    assert machine.feed(Draining()) == []
    assert machine.refused(signed().body) == "unavailable"
    assert [e.token for e in machine.feed(FrameSynced(append.seq)) if isinstance(e, Answer)] == [
        "a"
    ]
    ask = machine.one(SignatureChecked("b", None))
    append = machine.one(StoreAnswered(ask.key, None))
    assert [e.token for e in machine.feed(FrameSynced(append.seq)) if isinstance(e, Answer)] == [
        "b"
    ]


def test_lost_frames_are_refused_with_all_who_wait_and_their_numbers_given_again(
    machine: Machine,
) -> None:
    kept, lost, also = signed(), signed(), signed()
    machine.submit(kept.body, "kept")
    machine.submit(lost.body, "lost")
    machine.submit(lost.body, "lost too")
    machine.submit(also.body, "also")
    asked = signed()
    ask = machine.one(BodyReceived("asked", asked.body))
    refused = machine.feed(FramesLost(2))
    assert {(e.token, e.code) for e in refused if isinstance(e, Refuse)} == {
        ("lost", "unavailable"), ("lost too", "unavailable"), ("also", "unavailable"),
    }  # fmt: skip
    assert [e.token for e in machine.feed(FrameSynced(1)) if isinstance(e, Answer)] == ["kept"]
    assert machine.refused(signed().body) == "unavailable"
    assert machine.one(StoreAnswered(ask.key, None)).code == "unavailable"
    assert "no space" in str(machine.core.closed(NOW_NS))
    assert machine.one(ReadRequested("r", "acme", lost.pcs_id)) == Ask(("acme", lost.pcs_id))
    machine.feed(StoreAnswered(("acme", lost.pcs_id), None))
    assert machine.feed(SpaceReturned()) == []
    assert machine.recorded(lost.body).seq == 2


# --- changes while running -----------------------------------------------------------------


def test_directory_and_policies_hold_from_the_next_record_on(machine: Machine) -> None:
    before = json.loads(machine.recorded(signed().body).outcome)["policy_version"]
    book = PolicyBook.from_document({"default": {"tol_D": 0.5}})
    assert machine.feed(PoliciesChanged(book)) == []
    after = json.loads(machine.recorded(signed().body).outcome)["policy_version"]
    assert after == book.for_tenant("acme").version != before
    document = tenants_document()
    document["tenants"][0]["keys"][0]["status"] = "revoked"
    machine.feed(DirectoryChanged(directory(document)))
    assert machine.refused(signed().body) == "key_inactive"
    assert machine.recorded(signed(signer=ACME_2).body).seq == 3
