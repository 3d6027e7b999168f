"""First write wins: duplicates, conflicts, and tenants that do not see each other."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import pairwise

from .. import judge
from ..judge import require
from ..records import OFF_D_HAT, OFF_REGIME, Submission, resigned
from ..trial import Absent, Trial, case
from ..wire import Connection, Reply, request_bytes

CROWD = 64
"""Submissions of one record at the same time."""


@case("submit/5.3/1", "canonical 5.3")
def duplicate_of_accepted(trial: Trial) -> None:
    """A duplicate is answered with the first outcome, byte for byte, as replayed."""
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    judge.recorded(first)
    for _ in range(3):
        trial.stands(one, first)


@case("submit/2.11/1", "formats 2.11", needs="submit default-policy")
def duplicate_of_refusing(trial: Trial) -> None:
    """A duplicate of an outcome that was not accepted has its status, 202."""
    one = trial.records.fresh(trial.key(), OFF_D_HAT)
    first = trial.send(one)
    judge.recorded(first, 202)
    trial.stands(one, first)


@case("submit/2.11/2", "formats 2.11", needs="submit default-policy")
def duplicate_of_escalated(trial: Trial) -> None:
    """A duplicate of an outcome that was accepted and escalated has its status, 202."""
    one = trial.records.fresh(trial.key(), OFF_REGIME)
    first = trial.send(one)
    judge.recorded(first, 202)
    trial.stands(one, first)


@case("submit/2.11/3", "formats 2.11")
def duplicates_later(trial: Trial) -> None:
    """Every one of a hundred records keeps its outcome after all were submitted."""
    key = trial.key()
    rows = [trial.records.fresh(key, (OFF_D_HAT if i % 3 == 0 else {})) for i in range(100)]
    firsts = [trial.send(one) for one in rows]
    for one, first in reversed(list(zip(rows, firsts, strict=True))):
        trial.stands(one, first)


@case("submit/4.2/1", "formats 4.2")
def position_is_kept(trial: Trial) -> None:
    """A duplicate has the position of the first answer; another record has another."""
    one, two = (trial.records.fresh(trial.key()) for _ in range(2))
    first, other, again = trial.send(one), trial.send(two), trial.send(one)
    places = [reply.header("pcs-position") for reply in (first, other, again)]
    require(places[0] == places[2], f"the position of a duplicate moved: {places}")
    require(places[0] != places[1], f"two records stand at {places[0]}")


@case("submit/4.1/1", "formats 4.1")
def positions_grow(trial: Trial) -> None:
    """Records that are sent one after the other stand one after the other in their stream."""
    key, places = trial.key(), []
    for _ in range(5):
        reply = trial.send(trial.records.fresh(key))
        judge.recorded(reply)
        places.append((reply.header("pcs-position") or "").split("/"))
    for before, after in pairwise(places):
        same = before[:3] == after[:3]
        require(same and int(after[3]) > int(before[3]), f"{before} is followed by {after}")


@case("submit/5.2/1", "canonical 5.2")
def later_attempt_is_a_duplicate(trial: Trial) -> None:
    """What says how a record was delivered is not content: attempt, sent_at, ft."""
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    ft = '{"outbox_seq":9,"degraded":true,"fallbacks":["disk"],"clock_skew_ms":-5}'
    changes = ({"attempt": "2"}, {"sent_at": '"2026-02-01T00:00:00.5Z"'}, {"ft": ft})
    for change in (*changes, {k: v for row in changes for k, v in row.items()}):
        again = trial.send(resigned(one, one.key, change))
        judge.recorded(again, again=True)
        require(again.body == first.body, f"{sorted(change)} changed the answer")


@case("submit/5.2/2", "canonical 5.2")
def other_key_is_a_duplicate(trial: Trial) -> None:
    """The same content under another key of the tenant is a duplicate."""
    tenant = next((t for t in trial.features.ordinary if len(list(t.keys_with())) > 1), None)
    if tenant is None:
        raise Absent("no tenant has two active keys")
    first_key, *others = tenant.keys_with()
    one = trial.records.fresh(first_key)
    first = trial.send(one)
    judge.recorded(first)
    for key in others:
        again = trial.send(resigned(one, key))
        judge.recorded(again, again=True)
        require(again.body == first.body, f"under {key.kid} the answer is another")


@case("submit/5.2/3", "canonical 5.2")
def other_version_is_a_duplicate(trial: Trial) -> None:
    """The same content signed as version 1 and as version 2 is one record."""
    key = trial.key(version=1)
    for before, after in ((1, 2), (2, 1)):
        one = trial.records.fresh(key, version=before)
        first = trial.send(one)
        judge.recorded(first)
        again = trial.send(resigned(one, key, version=after))
        judge.recorded(again, again=True)
        require(again.body == first.body, f"as version {after} the answer is another")


@case("submit/4.6/1", "canonical 4.6")
def spelling_is_no_content(trial: Trial) -> None:
    """Order of members, white space and the spelling of numbers do not matter."""
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    tokens = dict(reversed(list(one.tokens.items())))
    tokens |= {"coh_star": "5e-1", "r": "0.50", "D_hat": "2.0", "v_star": "[6E-1,8e-1]"}
    tokens["shard_id"] = '"\\u0073hard-001"'
    body = "{\n\t" + ",\r\n ".join(f'"{k}" : {v}' for k, v in tokens.items()) + "\n}"
    again = trial.submit(body.encode())
    judge.recorded(again, again=True)
    require(again.body == first.body, "another spelling has another answer")


def _content(one: Submission, budget: str) -> Submission:
    return resigned(one, one.key, {"budget": budget})


@case("submit/5.4/1", "canonical 5.4")
def conflict(trial: Trial) -> None:
    """Other content under a recorded id is 409, and the first outcome stands."""
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    judge.recorded(first)
    members = judge.refused(trial.send(_content(one, "0.351")), 409, "pcs_id_conflict")
    require(members["detail"], "the refusal says nothing")
    trial.stands(one, first)


@case("submit/5.4/2", "canonical 5.4", needs="submit default-policy")
def conflict_with_escalated(trial: Trial) -> None:
    """Other content under the id of an escalated record is 409 too."""
    one = trial.records.fresh(trial.key(), OFF_D_HAT)
    first = trial.send(one)
    judge.recorded(first, 202)
    judge.refused(trial.send(resigned(one, one.key, {"D_hat": "2"})), 409, "pcs_id_conflict")
    trial.stands(one, first)


@case("submit/5.4/3", "canonical 5.4")
def conflict_is_stable(trial: Trial) -> None:
    """A conflict stays one however often it is sent, also after duplicates of the first."""
    one = trial.records.fresh(trial.key())
    first, other = trial.send(one), _content(one, "0.352")
    for _ in range(5):
        judge.refused(trial.send(other), 409, "pcs_id_conflict")
        trial.stands(one, first)


@case("submit/5.4/4", "canonical 5.4")
def conflict_by_one_member(trial: Trial) -> None:
    """A change of any member of the content is a conflict."""
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    for change in (
        {"r": "0.500000001"}, {"seed": "1"}, {"v_star": "[0.8,0.6]"}, {"regime": '"sticky"'},
        {"N_j": '{"2":4,"4":16,"8":64,"16":255}'}, {"coh_star": "0.500000001"},
    ):  # fmt: skip
        judge.refused(trial.send(resigned(one, one.key, change)), 409, "pcs_id_conflict")
    trial.stands(one, first)


@case("submit/5.4/5", "canonical 5.4")
def conflict_among_many(trial: Trial) -> None:
    """Of eight contents sent at once under one id, one is recorded and the others conflict."""
    one = trial.records.fresh(trial.key())
    rows = [_content(one, f"0.35{n}") for n in range(8)]
    replies = _crowd(trial, [row.body for row in rows for _ in range(4)])
    statuses = Counter(reply.status for reply in replies)
    require(statuses == {200: 4, 409: 28}, f"of 8 contents 4 times each: {dict(statuses)}")
    won = [rows[i // 4] for i, reply in enumerate(replies) if reply.status == 200]
    require(len({row.content for row in won}) == 1, "two contents were recorded under one id")
    firsts = [reply for reply in replies if reply.status == 200]
    require(sum(not judge.replayed(reply) for reply in firsts) == 1, "more than one was first")
    trial.stands(won[0], firsts[0])


def _crowd(trial: Trial, bodies: list[bytes]) -> list[Reply]:
    """Submit at once: every connection has sent all but its last byte before any sends that."""
    target = trial.target
    wires = [Connection(target) for _ in bodies]
    requests = [
        request_bytes(target, "POST", "/v1/pcs/submit", [("Content-Type", "application/json")], b)
        for b in bodies
    ]
    try:
        for wire, data in zip(wires, requests, strict=True):
            wire.send(data[:-1])
        for wire, data in zip(wires, requests, strict=True):
            wire.send(data[-1:])
        replies = [wire.reply() for wire in wires]
    finally:
        for wire in wires:
            wire.close()
    for reply in replies:
        trial.check(reply)
    return replies


def _one_first(trial: Trial, one: Submission, status: int) -> None:
    replies = _crowd(trial, [one.body] * CROWD)
    for reply in replies:
        judge.recorded(reply, status, again=None)
    firsts = sum(not judge.replayed(reply) for reply in replies)
    require(firsts == 1, f"of {CROWD} submissions at once {firsts} were the first")
    require(len({reply.body for reply in replies}) == 1, "two outcomes of one record")
    trial.stands(one, replies[0])


@case("submit/5.3/2", "canonical 5.3")
def crowd(trial: Trial) -> None:
    """Of 64 submissions of one record at once exactly one is the first."""
    _one_first(trial, trial.records.fresh(trial.key()), 200)


@case("submit/5.3/3", "canonical 5.3", needs="submit default-policy")
def crowd_of_escalated(trial: Trial) -> None:
    """Of 64 submissions of an escalated record at once exactly one is the first."""
    _one_first(trial, trial.records.fresh(trial.key(), OFF_D_HAT), 202)


@case("submit/5.3/4", "canonical 5.3")
def crowd_ed25519(trial: Trial) -> None:
    """Of 64 submissions signed with Ed25519 at once exactly one is the first."""
    _one_first(trial, trial.records.fresh(trial.key("Ed25519")), 200)


@case("submit/5.3/5", "canonical 5.3")
def crowd_under_two_keys(trial: Trial) -> None:
    """Of 64 submissions of one content under two keys of a tenant exactly one is the first."""
    tenant = trial.tenant("Ed25519")
    mac = tenant.key("HMAC")
    if mac is None:
        raise Absent("no tenant has an HMAC and an Ed25519 key")
    one = trial.records.fresh(mac)
    twin = resigned(one, next(tenant.keys_with("Ed25519")))
    replies = _crowd(trial, [one.body, twin.body] * (CROWD // 2))
    require(sum(not judge.replayed(reply) for reply in replies) == 1, "more than one was first")
    require(len({reply.body for reply in replies}) == 1, "two outcomes of one content")


@case("submit/5.3/6", "canonical 5.3")
def crowd_of_many(trial: Trial) -> None:
    """Eight records, each sent by eight connections at once, are recorded once each."""
    rows = [trial.records.fresh(trial.key()) for _ in range(8)]
    jobs = [partial(trial.send, row) for row in rows for _ in range(8)]
    replies = trial.at_once(jobs)
    for i, row in enumerate(rows):
        mine = replies[8 * i : 8 * i + 8]
        firsts = sum(not judge.replayed(reply) for reply in mine)
        require(firsts == 1, f"{row.pcs_id} was first {firsts} times")
        require(len({reply.body for reply in mine}) == 1, f"{row.pcs_id} has two outcomes")


# --- tenants ---------------------------------------------------------------------------------


def _twins(trial: Trial, **changes: str) -> tuple[Submission, Submission]:
    """Give one record of two tenants, with the same id and, but for `changes`, content."""
    mine, theirs = trial.two_tenants()
    first, second = next(mine.keys_with()), next(theirs.keys_with())
    one = trial.records.fresh(first)
    return one, resigned(one, second, changes)


@case("tenants/5.3/1", "canonical 5.3")
def same_record_of_two_tenants(trial: Trial) -> None:
    """The same record of another tenant is no duplicate."""
    one, other = _twins(trial)
    first = trial.send(one)
    judge.recorded(first)
    theirs = trial.send(other)
    judge.recorded(theirs)
    trial.stands(one, first)
    trial.stands(other, theirs)


@case("tenants/5.4/1", "canonical 5.4", needs="submit default-policy")
def other_content_of_two_tenants(trial: Trial) -> None:
    """Other content of another tenant under the same id is no conflict."""
    one, other = _twins(trial, **OFF_D_HAT)
    first = trial.send(one)
    judge.recorded(first)
    theirs = trial.send(other)
    judge.recorded(theirs, 202)
    trial.stands(one, first)
    trial.stands(other, theirs)


@case("tenants/5.4/2", "canonical 5.4")
def conflict_of_one_tenant(trial: Trial) -> None:
    """A conflict of one tenant is none of the other's business."""
    one, other = _twins(trial)
    trial.send(one)
    judge.refused(trial.send(_content(one, "0.353")), 409, "pcs_id_conflict")
    judge.recorded(trial.send(other))


@case("tenants/5.3/2", "canonical 5.3")
def crowd_of_two_tenants(trial: Trial) -> None:
    """One record sent 64 times at once by two tenants is recorded once by each."""
    one, other = _twins(trial)
    replies = _crowd(trial, [one.body, other.body] * (CROWD // 2))
    for part, name in ((replies[::2], "the first"), (replies[1::2], "the second")):
        firsts = sum(not judge.replayed(reply) for reply in part)
        require(firsts == 1, f"{name} tenant was first {firsts} times")


# --- what a key in a header does not decide ----------------------------------------------------


@case("submit/4.4/1", "formats 4.4")
def idempotency_key_of_two_records(trial: Trial) -> None:
    """Two records under one Idempotency-Key are two records."""
    one, two = (trial.records.fresh(trial.key()) for _ in range(2))
    header = ("Idempotency-Key", one.content)
    judge.recorded(trial.send(one, header))
    judge.recorded(trial.send(two, header))


@case("submit/4.4/2", "formats 4.4")
def two_idempotency_keys(trial: Trial) -> None:
    """One record under two Idempotency-Keys is one record."""
    one = trial.records.fresh(trial.key())
    judge.recorded(trial.send(one, ("Idempotency-Key", one.content)))
    judge.recorded(trial.send(one, ("Idempotency-Key", "0" * 64)), again=True)
    judge.recorded(trial.send(one, ("Idempotency-Key", "not a digest")), again=True)


@case("submit/4.4/3", "formats 4.4")
def idempotency_key_of_other_content(trial: Trial) -> None:
    """Other content stays a conflict, also under the Idempotency-Key of the first."""
    one = trial.records.fresh(trial.key())
    judge.recorded(trial.send(one, ("Idempotency-Key", one.content)))
    other = _content(one, "0.354")
    reply = trial.send(other, ("Idempotency-Key", one.content), ("X-Retry-Attempt", "1"))
    judge.refused(reply, 409, "pcs_id_conflict")
