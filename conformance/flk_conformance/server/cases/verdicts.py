"""What an answer says about a record: outcome, levels, request ids."""

from __future__ import annotations

import re

from .. import judge
from ..judge import require
from ..records import OFF_D_HAT, OFF_REGIME, resigned
from ..trial import Trial, case

POLICY_OF_DEFAULTS = "3fcb272de67aa246"


@case("submit/2.9/1", "formats 2.9", needs="submit default-policy")
def accepted(trial: Trial) -> None:
    """A record whose claims hold is accepted, 200."""
    members = judge.recorded(trial.send(trial.records.fresh(trial.key())))
    require(members["accepted"] is True and members["escalated"] is False, f"{members}")


@case("submit/2.9/2", "formats 2.9", needs="submit default-policy")
def not_accepted(trial: Trial) -> None:
    """A record with a D_hat out of tolerance is escalated and not accepted, 202."""
    members = judge.recorded(trial.send(trial.records.fresh(trial.key(), OFF_D_HAT)), 202)
    require(members["reason"] == "d_hat_out_of_tolerance", f"reason {members['reason']}")


@case("submit/2.9/3", "formats 2.9", needs="submit default-policy")
def accepted_and_escalated(trial: Trial) -> None:
    """A record of another regime is accepted and escalated, 202."""
    members = judge.recorded(trial.send(trial.records.fresh(trial.key(), OFF_REGIME)), 202)
    require(members["reason"] == "regime_mismatch", f"reason {members['reason']}")


@case("submit/2.10/1", "formats 2.10")
def outcome_names_the_record(trial: Trial) -> None:
    """The outcome has the pcs_id of the record."""
    one = trial.records.fresh(trial.key())
    require(judge.recorded(trial.send(one))["pcs_id"] == one.pcs_id, "another pcs_id")


@case("submit/3.2/1", "formats 3.2", needs="submit default-policy")
def version_of_the_policy(trial: Trial) -> None:
    """The outcome names the version of the default policy."""
    members = judge.recorded(trial.send(trial.records.fresh(trial.key())))
    require(members["policy_version"] == POLICY_OF_DEFAULTS, members["policy_version"])


@case("submit/5.2/4", "formats 5.2")
def clock_moves_on(trial: Trial) -> None:
    """Records that are sent one after the other have a growing first_seen.hlc."""
    key = trial.key()
    seen = [
        judge.recorded(trial.send(trial.records.fresh(key)))["first_seen"]["hlc"] for _ in range(5)
    ]
    require(seen == sorted(set(seen)), f"hlc {seen}")


@case("submit/4.2/2", "formats 4.2")
def levels_of_answers(trial: Trial) -> None:
    """The level of an answer is at least durable, for the first and for a duplicate."""
    one = trial.records.fresh(trial.key())
    for again in (False, True):
        reply = trial.send(one)
        judge.recorded(reply, again=again)
        require(reply.header("pcs-level") in judge.LEVELS, "no level")


@case("submit/4.3/1", "formats 4.3")
def level_that_is_reached(trial: Trial) -> None:
    """PCS-Min-Ack: durable is the default, and is reached."""
    one = trial.records.fresh(trial.key())
    judge.recorded(trial.send(one, ("PCS-Min-Ack", "durable")))
    judge.recorded(trial.send(one), again=True)


@case("submit/4.3/2", "formats 4.3")
def level_that_is_not_reached(trial: Trial) -> None:
    """A level that is not reached is 503 with the position, and the record stays recorded."""
    one = trial.records.fresh(trial.key())
    reply = trial.send(one, ("PCS-Min-Ack", "witnessed"))
    if reply.status in (200, 202):
        require(reply.header("pcs-level") == "witnessed", "the level is not that asked for")
        return
    members = judge.refused(reply, 503, "unavailable")
    place = reply.header("pcs-position")
    require(place and judge.POSITION.fullmatch(place), f"PCS-Position: {place!r}")
    require(members.get("position") == place, f"position: {members.get('position')!r}")
    again = trial.send(one)
    judge.recorded(again, again=True)
    require(again.header("pcs-position") == place, "the position moved")


@case("submit/4.3/3", "formats 4.3")
def level_that_does_not_exist(trial: Trial) -> None:
    """Another word for a level is bad_request, and nothing is recorded."""
    one = trial.records.fresh(trial.key())
    for word in ("engraved", "Durable", "durable,replicated", "0"):
        judge.refused(trial.send(one, ("PCS-Min-Ack", word)), 400, "bad_request")
    trial.unrecorded(one)


@case("submit/4.3/4", "formats 4.3")
def conflict_before_level(trial: Trial) -> None:
    """A conflict is a conflict, whatever level is asked for."""
    one = trial.records.fresh(trial.key())
    judge.recorded(trial.send(one))
    other = resigned(one, one.key, {"budget": "0.355"})
    judge.refused(trial.send(other, ("PCS-Min-Ack", "witnessed")), 409, "pcs_id_conflict")


@case("headers/4.5/1", "formats 4.5")
def request_ids_differ(trial: Trial) -> None:
    """Every answer has a request id of its own, a UUIDv7."""
    one = trial.records.fresh(trial.key())
    replies = [trial.send(one), trial.send(one), trial.submit(b"{")]
    ids = [judge.request_id(reply) for reply in replies]
    require(len(set(ids)) == len(ids), f"request ids {ids}")
    for text in ids:
        require(judge.UUID7.fullmatch(text), f"X-Request-Id {text} is no UUIDv7")


@case("headers/4.5/2", "formats 4.5")
def request_id_of_the_client(trial: Trial) -> None:
    """A client's X-Request-Id does not become the server's, whatever it holds."""
    for text in ("job-17", "x" * 65, "a b", "<>", "%0d%0a"):
        reply = trial.submit(b"{", ("X-Request-Id", text))
        require(judge.request_id(reply) != text, "the server gave back the client's id")


@case("headers/4.2/1", "formats 4.2")
def refusals_have_no_outcome_headers(trial: Trial) -> None:
    """A refusal has no Idempotency-Replayed and no level."""
    one = trial.records.fresh(trial.key())
    for reply in (trial.submit(b"{"), trial.submit(one.altered(alg='"none"'))):
        for name in ("idempotency-replayed", "pcs-level", "pcs-position"):
            require(reply.header(name) is None, f"a refusal has {name}")


@case("headers/9.5/1", "formats 9.5")
def challenge(trial: Trial) -> None:
    """A read without a token is 401 with WWW-Authenticate."""
    reply = trial.ask("GET", "/v1/tenants/self")
    judge.refused(reply, 401, "unauthorized")
    require(reply.header("www-authenticate"), "401 without WWW-Authenticate")


@case("headers/9.5/2", "formats 9.5")
def challenge_of_a_submission(trial: Trial) -> None:
    """A submission whose key or signature is refused is 401 with WWW-Authenticate."""
    one = trial.records.fresh(trial.key())
    for body in (one.altered(alg='"none"'), one.altered(kid='"nobody-knows-me"')):
        reply = trial.submit(body)
        judge.problem(reply, status=401)
        require(reply.header("www-authenticate"), "401 without WWW-Authenticate")


@case("headers/9.2/1", "formats 9.2")
def pointer_of_the_fault(trial: Trial) -> None:
    """A refused member is named by a JSON pointer."""
    one = trial.records.fresh(trial.key())
    for pointer, body in {
        "/r": one.altered(r="1.5"),
        "/scales/1": one.altered(scales="[4,2,8,16]"),
        "/ft/degraded": one.altered(
            ft='{"outbox_seq":0,"degraded":1,"fallbacks":[],"clock_skew_ms":0}'
        ),
        "/a~1b": one.altered(**{"a/b": "1"}),
    }.items():
        reply = trial.submit(body)
        found = judge.problem(reply, status=422).get("pointer")
        require(found == pointer, f"expected the pointer {pointer}, got {found}")


@case("headers/12.11/1", "formats 12.11")
def details_hold_no_secret(trial: Trial) -> None:
    """A refusal repeats neither the signature nor a long text of the caller."""
    one = trial.records.fresh(trial.key())
    marker = "Marker" * 40
    for body in (
        one.altered(alg='"none"'), one.altered(shard_id=f'"{marker}{marker}"'),
        one.altered(extra=f'"{marker}"'), one.altered(r="1.5"),
    ):  # fmt: skip
        text = trial.submit(body).body.decode("utf-8", "replace")
        require(one.sig not in text, "the refusal holds the signature")
        require(marker not in text, "the refusal holds a text of the caller")


@case("headers/9.8/1", "formats 9.8", should=True)
def keeps_the_connection(trial: Trial) -> None:
    """A refusal of a request that was read whole does not end the connection."""
    for reply in (trial.submit(b"{"), trial.ask("GET", "/v1/tenants/self")):
        require(not reply.closes, f"{reply.status} ends the connection")


@case("headers/25/1", "retry 25", should=True)
def answers_have_a_date(trial: Trial) -> None:
    """An answer has a Date, against which a client measures."""
    date = trial.submit(b"{").header("date") or ""
    form = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"
    require(re.fullmatch(form, date), f"Date: {date}")
