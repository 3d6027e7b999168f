"""The order of the gate: which check comes first, and what a refusal leaves untouched."""

from __future__ import annotations

import base64
import hashlib
import hmac

from golden.oracle import canon
from golden.oracle.base import record
from golden.oracle.scanner import parse

from .. import judge
from ..features import Key
from ..judge import require
from ..records import OFF_D_HAT, Submission, resigned, signed
from ..trial import BATCH, JSON, NDJSON, SUBMIT, Absent, Trial, case


def _spoiled(one: Submission) -> bytes:
    """Change one character of the signature."""
    text = one.sig
    return one.altered(sig=f'"{"B" if text[0] == "A" else "A"}{text[1:]}"')


@case("gate/9.1/1", "formats 9.1")
def bad_signature_on_known_id(trial: Trial) -> None:
    """A bad signature under a recorded id is 401, and the stored outcome is untouched."""
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    for _ in range(3):
        judge.refused(trial.submit(_spoiled(one)), 401, "signature_invalid")
    trial.stands(one, first)


@case("gate/9.1/2", "formats 9.1")
def bad_signature_with_other_content(trial: Trial) -> None:
    """Other content under a recorded id with a bad signature is 401, not 409."""
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    judge.refused(trial.submit(one.altered(budget="0.353")), 401, "signature_invalid")
    trial.stands(one, first)


@case("gate/9.1/3", "formats 9.1")
def bad_ed25519_signature_on_known_id(trial: Trial) -> None:
    """A bad Ed25519 signature under a recorded id is 401, and the outcome is untouched."""
    one = trial.records.fresh(trial.key("Ed25519"))
    first = trial.send(one)
    judge.refused(trial.submit(_spoiled(one)), 401, "signature_invalid")
    trial.stands(one, first)


@case("gate/9.1/4", "formats 9.1")
def bad_signature_on_known_id_in_a_batch(trial: Trial) -> None:
    """A line with a bad signature under a recorded id is 401 in a batch too."""
    if "batch" not in trial.features.claimed:
        raise Absent("batch is not claimed")
    one = trial.records.fresh(trial.key())
    first = trial.send(one)
    reply = trial.ask("POST", BATCH, [NDJSON], _spoiled(one) + b"\n" + one.body + b"\n")
    require(b'"signature_invalid"' in reply.body.split(b"\n")[0], f"{reply.body[:200]!r}")
    trial.stands(one, first)


@case("gate/9.1/5", "formats 9.1")
def bad_signature_on_new_id(trial: Trial) -> None:
    """A bad signature under a new id records nothing, and the good one is then the first."""
    one = trial.records.fresh(trial.key())
    judge.refused(trial.submit(_spoiled(one)), 401, "signature_invalid")
    trial.unrecorded(one)
    judge.recorded(trial.send(one))


@case("gate/9.1/6", "formats 9.1")
def schema_before_signature(trial: Trial) -> None:
    """A fault in the record is 422, whatever the signature."""
    one = trial.records.fresh(trial.key())
    bodies = {
        "member_unknown": one.altered(extra="1", sig=f'"{"A" * 43}="'),
        "number_out_of_range": one.altered(r="1.5"),
        "member_missing": one.altered(seed=None),
        "pcs_id_mismatch": one.altered(shard_id='"other"'),
    }
    for code, body in bodies.items():
        judge.refused(trial.submit(body), 422, code)


@case("gate/9.1/7", "formats 9.1")
def text_before_schema(trial: Trial) -> None:
    """A fault in the JSON text is 400, also where members are wrong as well."""
    one = trial.records.fresh(trial.key())
    judge.refused(trial.submit(one.altered(r="1.5")[:-1] + b',"r":2}'), 400, "member_duplicate")
    judge.refused(trial.submit(one.altered(extra="1")[:-1]), 400, "json_malformed")


@case("gate/9.1/8", "formats 9.1")
def media_type_before_text(trial: Trial) -> None:
    """Another media type is 415, whatever the body."""
    reply = trial.ask("POST", SUBMIT, [("Content-Type", "text/plain")], b"{")
    judge.refused(reply, 415, "unsupported_media_type")


@case("gate/9.1/9", "formats 9.1")
def size_before_media_type(trial: Trial) -> None:
    """A body that is too large is 413, whatever its media type."""
    body = b" " * (trial.features.limits.record_bytes + 1)
    judge.refused(
        trial.ask("POST", SUBMIT, [("Content-Type", "text/plain")], body), 413, "payload_too_large"
    )


@case("gate/9.1/10", "formats 9.1")
def size_of_a_known_record(trial: Trial) -> None:
    """A record of exactly the largest size is taken; one byte more is 413."""
    one = trial.records.fresh(trial.key())
    most = trial.features.limits.record_bytes
    judge.recorded(trial.submit(one.body.ljust(most)))
    judge.refused(trial.submit(one.body.ljust(most + 1)), 413, "payload_too_large")


@case("gate/9.1/11", "formats 9.1")
def id_before_key(trial: Trial) -> None:
    """A pcs_id that is not derived is 422, also under an unknown kid."""
    one = trial.records.fresh(trial.key())
    body = one.altered(pcs_id=f'"{"0" * 64}"', kid='"nobody-knows-me"')
    judge.refused(trial.submit(body), 422, "pcs_id_mismatch")


@case("gate/9.1/12", "formats 9.1")
def kid_before_algorithm(trial: Trial) -> None:
    """An unknown kid is kid_unknown, also with an alg that does not exist."""
    one = trial.records.fresh(trial.key())
    body = one.altered(kid='"nobody-knows-me"', alg='"none"')
    judge.refused(trial.submit(body), 401, "kid_unknown")


@case("gate/9.1/13", "formats 9.1")
def algorithm_before_signature(trial: Trial) -> None:
    """An alg other than the key's is alg_mismatch, also with a signature of no form."""
    one = trial.records.fresh(trial.key())
    judge.refused(trial.submit(one.altered(alg='"none"', sig='"x"')), 401, "alg_mismatch")


@case("gate/9.1/14", "formats 9.1")
def signature_before_tenant(trial: Trial) -> None:
    """That a header names another tenant is said only to a caller whose signature holds."""
    _, other = trial.two_tenants()
    one = trial.records.fresh(next(trial.features.ordinary[0].keys_with()))
    named = ("X-Tenant-Id", other.id)
    judge.refused(trial.submit(_spoiled(one), named), 401, "signature_invalid")
    judge.refused(trial.submit(one.body, named), 403, "tenant_mismatch")
    trial.unrecorded(one)


@case("gate/9.1/15", "formats 9.1")
def tenant_before_duplicate(trial: Trial) -> None:
    """A recorded record under another tenant's name is 403."""
    _, other = trial.two_tenants()
    one = trial.records.fresh(next(trial.features.ordinary[0].keys_with()))
    first = trial.send(one)
    judge.refused(trial.send(one, ("X-Tenant-Id", other.id)), 403, "tenant_mismatch")
    trial.stands(one, first)


@case("gate/9.1/16", "formats 9.1")
def refusals_record_nothing(trial: Trial) -> None:
    """After every kind of refusal the record itself is still new."""
    one = trial.records.fresh(trial.key())
    for body in (
        one.body[:-1], one.altered(extra="1"), one.altered(kid='"nobody-knows-me"'),
        one.altered(alg='"none"'), _spoiled(one), one.altered(sig_v="3"),
    ):  # fmt: skip
        require(400 <= trial.submit(body).status < 500, "a fault was not refused")
    judge.recorded(trial.send(one))


# --- keys and algorithms ---------------------------------------------------------------------


@case("gate/3.10/1", "canonical 3.10(1)")
def none_is_no_algorithm(trial: Trial) -> None:
    """The algorithm `none` does not exist, with and without a signature."""
    key = trial.key()
    one = trial.records.fresh(key)
    members = judge.refused(trial.submit(one.altered(alg='"none"')), 401, "alg_mismatch")
    require(members.get("pointer", "/alg") == "/alg", f"pointer {members.get('pointer')}")
    judge.refused(trial.submit(one.altered(alg='"none"', sig='""')), 401, "alg_mismatch")
    trial.unrecorded(one)


@case("gate/3.10/2", "canonical 3.10(1)")
def public_key_is_no_secret(trial: Trial) -> None:
    """An HMAC made with an Ed25519 public key is refused: the key says what it is for."""
    key = trial.key("Ed25519")
    confused = Key(key.kid, "HMAC", key.verifying, "active", key.tenant)
    one = trial.records.fresh(confused)
    judge.refused(trial.send(one), 401, "alg_mismatch")
    trial.unrecorded(one)


@case("gate/3.10/3", "canonical 3.10(1)")
def public_key_is_no_secret_in_disguise(trial: Trial) -> None:
    """The same HMAC under the name Ed25519 has the wrong length."""
    key = trial.key("Ed25519")
    tokens = trial.records.members()
    named = {**tokens, "alg": '"Ed25519"', "kid": f'"{key.kid}"', "sig_v": "2"}
    named["tenant_id"] = f'"{key.tenant}"'
    _, payload, _ = canon.payload(parse(record(named)), 2)
    mac = hmac.new(key.verifying, hashlib.sha256(payload).digest(), hashlib.sha256).digest()
    body = record(named, sig=f'"{base64.b64encode(mac).decode()}"')
    judge.refused(trial.submit(body), 401, "signature_malformed")


@case("gate/3.10/4", "canonical 3.10(4)")
def version_1_where_2_is_required(trial: Trial) -> None:
    """A version-1 record of a tenant that takes version 2 is refused."""
    one = trial.records.fresh(trial.key(version=2), version=1)
    judge.refused(trial.send(one), 401, "sig_version_unsupported")
    trial.unrecorded(one)


@case("gate/3.10/5", "canonical 3.10(4)")
def version_1_of_a_known_record(trial: Trial) -> None:
    """It is refused also where the record is known as version 2."""
    one = trial.records.fresh(trial.key(version=2))
    first = trial.send(one)
    judge.refused(trial.send(resigned(one, one.key, version=1)), 401, "sig_version_unsupported")
    trial.stands(one, first)


@case("gate/3.10/6", "canonical 3.10(3)")
def keys_are_not_tried(trial: Trial) -> None:
    """A record signed with one key of a tenant under the kid of another is refused."""
    for tenant in trial.features.ordinary:
        keys = list(tenant.keys_with("HMAC"))
        if len(keys) > 1:
            break
    else:
        raise Absent("no tenant has two HMAC keys")
    wrong = Key(keys[0].kid, "HMAC", keys[1].secret, "active", tenant.id)
    one = trial.records.fresh(wrong)
    judge.refused(trial.send(one), 401, "signature_invalid")
    trial.unrecorded(one)


@case("gate/3.10/7", "canonical 3.10(2)")
def key_of_another_tenant(trial: Trial) -> None:
    """A record that names one tenant under the key of another is 403."""
    mine, theirs = trial.two_tenants()
    key = next(mine.keys_with())
    one = signed(trial.records.members(), key, tenant=theirs.id)
    judge.refused(trial.send(one), 403, "tenant_mismatch")
    trial.unrecorded(one)


@case("gate/3.10/8", "canonical 3.10(3)")
def version_1_without_kid(trial: Trial) -> None:
    """A version-1 record without kid is verified with the default key of the named tenant."""
    tenant = next((t for t in trial.features.ordinary if t.v1_default_kid), None)
    if tenant is None or tenant.min_version != 1:
        raise Absent("no tenant has v1_default")
    key = next(key for key in tenant.keys if key.kid == tenant.v1_default_kid)
    one = signed(trial.records.members(), key, version=1, named=False)
    judge.refused(trial.submit(one.body), 401, "kid_unknown")
    judge.recorded(trial.submit(one.body, ("X-Tenant-Id", tenant.id)))


@case("gate/10.4/1", "formats 10.4")
def revoked_key(trial: Trial) -> None:
    """A record of a revoked key is key_inactive."""
    for tenant in trial.features.ordinary:
        key = tenant.key(status="revoked")
        if key is not None:
            one = trial.records.fresh(key, version=2)
            judge.refused(trial.send(one), 401, "key_inactive")
            trial.unrecorded(one)
            return
    raise Absent("no revoked key is listed")


@case("gate/3.8/1", "canonical 3.8(3)")
def spellings_of_base64(trial: Trial) -> None:
    """A signature has one spelling: no white space, no other alphabet, whole padding."""
    for alg, pad in (("HMAC", 1), ("Ed25519", 2)):
        one = trial.records.fresh(trial.key(alg))
        text = one.sig
        bare = text.rstrip("=")
        last = _ALPHABET[_ALPHABET.index(bare[-1]) ^ 1]
        spellings = [
            text + " ", " " + text, text + "\\n", bare, text + "=", bare[:-1] + last + "=" * pad,
            text[:10] + "\\r\\n" + text[10:], text.replace("+", "-").replace("/", "_") + "=",
        ]  # fmt: skip
        for spelling in spellings:
            body = one.altered(sig=f'"{spelling}"')
            judge.refused(trial.submit(body), 401, "signature_malformed")
        trial.unrecorded(one)
        judge.recorded(trial.send(one))


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@case("gate/3.9/1", "canonical 3.9(3)")
def duplicate_members(trial: Trial) -> None:
    """A name that stands twice is refused, whichever of the two was signed."""
    one = trial.records.fresh(trial.key())
    first = one.body[:1] + b'"budget":0.9,' + one.body[1:]
    last = one.body[:-1] + b',"budget":0.9}'
    same = one.body[:-1] + b',"seed":0}'
    for body in (first, last, same):
        judge.refused(trial.submit(body), 400, "member_duplicate")
    trial.unrecorded(one)


@case("gate/5.5/1", "canonical 5.5")
def id_is_recomputed(trial: Trial) -> None:
    """A record that is signed well under an id that is not its own is refused."""
    stranger = trial.records.root()
    one = signed(trial.records.members(pcs_id=f'"{stranger}"'), trial.key())
    judge.refused(trial.send(one), 422, "pcs_id_mismatch")
    trial.unrecorded(one)


@case("gate/5.5/2", "canonical 5.5")
def id_of_another_record(trial: Trial) -> None:
    """A record cannot take the id of another, recorded or not."""
    key = trial.key()
    one = trial.records.fresh(key)
    first = trial.send(one)
    thief = signed(trial.records.members(pcs_id=f'"{one.pcs_id}"', **OFF_D_HAT), key)
    judge.refused(trial.send(thief), 422, "pcs_id_mismatch")
    trial.stands(one, first)


@case("gate/3.8/2", "canonical 3.8(4)", should=True)
def values_off_the_grid(trial: Trial) -> None:
    """A float that is not n / 10^9 is refused, unless the server declares that it accepts it."""
    one = trial.records.fresh(trial.key(version=1), version=1)
    reply = trial.submit(one.altered(r="0.5000000001"))
    if trial.features.policies.get("verify.off_grid", "reject") == "accept":
        judge.recorded(reply)
    else:
        judge.refused(reply, 422, "number_out_of_range")


@case("gate/9.3/1", "formats 9.3")
def media_type_parameters(trial: Trial) -> None:
    """application/json is taken in any letter case and with charset=utf-8."""
    for text in ("Application/JSON", "application/json; charset=utf-8"):
        one = trial.records.fresh(trial.key())
        judge.recorded(trial.ask("POST", SUBMIT, [("Content-Type", text)], one.body))


@case("gate/9.3/2", "formats 9.3")
def content_encoding(trial: Trial) -> None:
    """Any Content-Encoding but identity is 415."""
    one = trial.records.fresh(trial.key())
    for coding in ("gzip", "br", "deflate", "zstd", "x", "gzip, identity"):
        reply = trial.submit(one.body, ("Content-Encoding", coding))
        judge.refused(reply, 415, "unsupported_media_type")
    judge.recorded(trial.submit(one.body, ("Content-Encoding", "identity")))


@case("gate/9.3/3", "formats 9.3")
def no_media_type(trial: Trial) -> None:
    """A submission without, or with an empty, Content-Type is 415."""
    one = trial.records.fresh(trial.key())
    for headers in ([], [("Content-Type", "")], [NDJSON], [("Content-Type", "application/xml")]):
        judge.refused(trial.ask("POST", SUBMIT, headers, one.body), 415, "unsupported_media_type")
    judge.recorded(trial.ask("POST", SUBMIT, [JSON], one.body))
