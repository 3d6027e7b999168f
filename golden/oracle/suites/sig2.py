"""Suite `sig2`: version 2 signs the whole record through `body`."""

from __future__ import annotations

import hashlib
from typing import Any

from golden.oracle import canon, jcs, sign
from golden.oracle.base import BASE, FULL, LONG_KEY, TENANT, record
from golden.oracle.emit import Flag, Stream, Suite
from golden.oracle.scanner import Number, parse
from golden.oracle.suites import record as whole
from golden.oracle.suites import verify as verifying

FLAGS = {
    "Body": Flag("The body digest covers every member but sig.", ("canonical 4.1", "canonical 4.2")),
    "Bounds": Flag("Numbers of the whole record are bounded.", ("canonical 4.4",)),
    "Rounded": Flag("The four floats are rounded in the body.", ("canonical 4.2",)),
}
VERIFY_FLAGS = {
    "Altered": Flag("Any member was changed.", ("canonical 4.2", "canonical 3.8(2)")),
    "Carried": Flag("alg, kid and tenant_id are carried and signed.", ("canonical 4.3",)),
    "Good": Flag("A right signature.", ("canonical 4.1", "canonical 4.6")),
    "WrongRule": Flag("Signed by a wrong rule.", ("canonical 4.1", "canonical 4.2")),
}
CARRIED = {"sig_v": "2", "alg": '"HMAC"', "kid": '"k1"', "tenant_id": f'"{TENANT}"'}
CARRIED_BASE = {**BASE, **CARRIED}
CARRIED_FULL = {**FULL, **CARRIED}


def payloads(s: Suite) -> None:
    def add(name: str, flag: str, data: bytes, **more: Any) -> None:
        s.add(f"sig2/payload-{name}", flag, whole.json_args(data, "2"), **more)

    add("base", "Body", record(CARRIED_BASE))
    add("full", "Body", record(CARRIED_FULL))
    add("sig-ignored", "Body", record(CARRIED_FULL, sig='"AAAA"'))
    add("sig-other", "Body", record(CARRIED_FULL, sig='"BBBB"'))
    add("reordered", "Body", record(dict(reversed(list(CARRIED_FULL.items())))))
    for name, text in BODY_MEMBERS.items():
        add(f"member-{name}", "Body", record(CARRIED_BASE, x=text))
    for i, name in enumerate(("a", "Z", "z", "\u00e9", "\u20ac", "\ue000", "\U0001f600", "", "\\n", "D_hat2", "sig_", "1", "10", "9")):
        add(f"name-{i}", "Body", record(CARRIED_BASE, **{name: "1"}))
    add("names-utf16-order", "Body", record(CARRIED_BASE, **{"\ue000": "1", "\U0001f600": "2", "\uffff": "3", "\ud7ff": "4"}))
    add("nested-sig", "Body", record(CARRIED_BASE, x='{"sig":"kept","r":0.12345678901}'))
    for member in canon.FLOATS:
        slug = member.lower().replace("_", "-")
        for name, text in (("off-grid", "0.1234567891"), ("tie", "0.0009765625"), ("minus-zero", "-0"), ("half-nano", "5e-10"),
                           ("micro", "1e-6"), ("nano", "1e-9"), ("one", "1.0"), ("seam", "4.999999999999999e-10")):
            add(f"float-{slug}-{name}", "Rounded", record(CARRIED_FULL, **{member: text}))
    for name, text in {"top": str(2**53 - 1), "bottom": str(1 - 2**53)}.items():
        add(f"integer-{name}", "Bounds", record(CARRIED_BASE, x=text))
    for name, text in {"above": str(2**53), "below": str(-(2**53)), "2-64": str(2**64), "digits-5000": "9" * 5000,
                       "nested": f'{{"a":[{2**53}]}}', "overflow": "1e400", "minus-overflow": "-1e309",
                       "overflow-nested": "[[1e999999999]]", "minus-digits": "-" + "9" * 17}.items():
        add(f"number-{name}", "Bounds", record(CARRIED_BASE, x=text), code="number_out_of_range")
    for name, text in {"float-2-53": "9007199254740992.0", "exponent": "1e21", "large": "1.7976931348623157e308", "underflow": "1e-400",
                       "float-above": "9007199254740993.0", "least": "5e-324"}.items():
        add(f"number-{name}", "Bounds", record(CARRIED_BASE, x=text))
    draw = Stream("sig2/payload")
    for i in range(40):
        changes = {"seed": str(draw.below(2**53)), "attempt": str(1 + draw.below(9)), "r": f"0.{draw.below(10**11):011d}",
                   "coh_star": f"0.{draw.below(10**9):09d}", "v_star": f"[0.{draw.below(10**17):017d},{draw.below(10**5)}e-{draw.below(30)}]"}
        add(f"drawn-{i}", "Body", record(CARRIED_FULL, **changes))


BODY_MEMBERS = {
    "null": "null", "true": "true", "false": "false", "zero": "0", "minus-zero": "-0", "minus-zero-point": "-0.0",
    "integral": "1.0", "exponent": "1e2", "e20": "1e20", "e21": "1e21", "e-6": "1e-6", "e-7": "1e-7", "tenth": "0.1",
    "seventeen": "0.10000000000000001", "third": "0.333333333333333314829616256247", "minus": "-1.5e-7", "empty-object": "{}",
    "empty-array": "[]", "nested": '{"b":[1,{"d":2,"c":3}],"a":null}', "space": '{ "b" : 1 , "a" : [ 2 ] }',
    "escapes": '"\\u0041\\/\\b\\f\\n\\r\\t\\"\\\\\\u001f"', "html": '"<&>"', "separators": '"\u2028\u2029"', "del": '"\x7f"',
    "astral": '"\\ud83d\\ude00"', "nfd": '"e\u0301"', "nfc": '"\u00e9"', "empty": '""', "nul": '"\\u0000"', "bom": '"\ufeff"',
    "number-text": '"1.0"', "names": '{"\u00e9":1,"e":2,"E":3,"\\u0065\u0301":4}', "digits": '{"10":1,"9":2,"1":3}',
}


def forge(rule: str) -> bytes:
    """Sign the full record by a wrong rule; the transmitted record is otherwise right."""
    members = parse(record({**CARRIED_FULL, "r": "0.5", "N_j": FULL["N_j"]}))
    eight = canon.signed(members)
    kept = canon.rounded(members, eight.nanos)
    body = hashlib.sha256(jcs.document(kept)).hexdigest()
    if rule == "v1-payload":
        payload = eight.payload()
    elif rule == "body-upper":
        payload = eight.payload(body).replace(body.encode(), body.upper().encode())
    elif rule == "body-missing":
        payload = eight.payload(body).replace(f'"body":"{body}",'.encode(), b"")
    elif rule == "sig-v-missing":
        payload = eight.payload(body).replace(b',"sig_v":2', b"")
    elif rule == "sig-v-first":
        payload = b'{"sig_v":2,' + eight.payload(body).replace(b',"sig_v":2', b"")[1:]
    elif rule == "domain-prefix":
        payload = b"PCS-SIG-2\x00" + eight.payload(body)
    elif rule == "body-base64":
        payload = eight.payload(sign.base64_text(bytes.fromhex(body)))
    else:
        payload = eight.payload(wrong_body(rule, kept))
    kept["sig"] = sign.base64_text(sign.signature("HMAC", LONG_KEY, payload))
    return jcs.document(kept)


def wrong_body(rule: str, kept: dict[str, Any]) -> str:
    """Hash a body that leaves out, adds or spells a member wrongly."""
    rest = dict(kept)
    if rule.startswith("body-without-"):
        del rest[rule.removeprefix("body-without-").replace("-", "_")]
    elif rule == "body-with-sig":
        rest["sig"] = ""
    elif rule == "body-is-content":
        rest = {k: v for k, v in rest.items() if k not in canon.NOT_CONTENT}
    elif rule == "body-double":
        return hashlib.sha256(hashlib.sha256(jcs.document(rest)).digest()).hexdigest()
    elif rule == "body-spaces":
        return hashlib.sha256(jcs.document(rest).replace(b",", b", ")).hexdigest()
    elif rule == "body-unsorted":
        text = "{" + ",".join(f"{jcs.string(k)}:{jcs.form(v)}" for k, v in reversed(rest.items())) + "}"
        return hashlib.sha256(text.encode()).hexdigest()
    elif rule == "body-payload-again":
        rest = {k: v for k, v in rest.items() if k in canon.MEMBERS}
    elif rule == "body-scaled":
        rest["r"] = Number("500000000")
    return hashlib.sha256(jcs.document(rest)).hexdigest()


WRONG_RULES = (
    "v1-payload", "body-upper", "body-missing", "sig-v-missing", "sig-v-first", "domain-prefix", "body-base64", "body-with-sig",
    "body-is-content", "body-double", "body-spaces", "body-unsorted", "body-payload-again", "body-scaled", "body-without-kid",
    "body-without-alg", "body-without-tenant-id", "body-without-sig-v", "body-without-ft", "body-without-sent-at",
    "body-without-attempt", "body-without-scales", "body-without-seed",
)
ALTERED = {
    "schema": '"other"', "version": '"0.2"', "attempt": "2", "sent-at": '"2026-01-15T12:00:01Z"', "seed": "1",
    "scales": "[2,4,8,17]", "N-j": '{"2":4,"4":16,"8":64,"16":255}', "v-star": "[0.8,0.6]", "regime": '"sticky"',
    "ft": '{"outbox_seq":1,"degraded":false,"fallbacks":[],"clock_skew_ms":0}', "D-hat": "1.9", "coh-star": "0.6", "r": "0.6",
    "budget": "0.36", "epoch": "8", "shard-id": '"shard-002"', "merkle-root": '"' + "d4" * 32 + '"', "pcs-id": '"' + "e5" * 32 + '"',
}


def verifies(s: Suite) -> None:
    def add(name: str, flag: str, data: bytes, **more: Any) -> None:
        s.add(f"sig2/verify-{name}", flag, verifying.arguments(data), **more)

    for kid in ("k1", "k2"):
        members = verifying.signed(kid, FULL, 2)
        add(f"good-{kid}", "Good", record(members))
        add(f"good-{kid}-reversed", "Good", record(dict(reversed(list(members.items())))))
        add(f"good-{kid}-spelling", "Good", record(members, r="5e-1", seed="0", v_star="[6e-1,0.80]"))
        add(f"good-{kid}-off-grid", "Good", record(members, r="0.50000000001"))
        for slug, text in ALTERED.items():
            name = slug.replace("-", "_")
            add(f"altered-{kid}-{slug.lower()}", "Altered", record({**members, name: text}), code="signature_invalid")
            if name not in canon.MEMBERS:
                add(f"removed-{kid}-{slug.lower()}", "Altered", record(members, **{name: None}), code="signature_invalid")
        add(f"added-{kid}", "Altered", record(members, x="1"), code="signature_invalid")
        add(f"ft-reordered-{kid}", "Good",
            record(members, ft='{"fallbacks":[],"degraded":false,"clock_skew_ms":0,"outbox_seq":0}'))
        for name in ("alg", "kid", "tenant_id"):
            slug = name.replace("_", "-")
            add(f"missing-{kid}-{slug}", "Carried", record(members, **{name: None}), code="member_missing")
            add(f"type-{kid}-{slug}", "Carried", record(members, **{name: "1"}), code="member_type")
        add(f"tenant-{kid}-other", "Carried", record({**members, "tenant_id": '"tenant-b"'}), code="tenant_mismatch")
        add(f"tenant-{kid}-empty", "Carried", record({**members, "tenant_id": '""'}), code="tenant_mismatch")
        add(f"kid-{kid}-unknown", "Carried", record({**members, "kid": '"k9"'}), code="kid_unknown")
        other = "k3" if kid == "k1" else "k4"
        code = "tenant_mismatch" if kid == "k1" else "signature_invalid"
        add(f"kid-{kid}-other", "Carried", record({**members, "kid": f'"{other}"'}), code=code)
        add(f"version-{kid}-removed", "Carried", record(members, sig_v=None), code="signature_invalid")
    # The signer of another tenant cannot name this one.
    foreign = verifying.signed("k3", FULL, 2, tenant=TENANT)
    add("tenant-foreign-key", "Carried", record(foreign), code="tenant_mismatch")
    for i, rule in enumerate(WRONG_RULES):
        # A verifier with one of these rules refuses the record too, for another reason: it scales
        # all four floats, or keeps the order of the text.
        kills = () if rule in ("body-scaled", "body-unsorted") else (f"E{i + 1:02d}",)
        add(f"rule-{rule}", "WrongRule", forge(rule), code="signature_invalid", kills=kills)
    rounded_only = parse(record({**CARRIED_FULL, "r": "0.50000000001"}))
    eight = canon.signed(rounded_only)
    unrounded = hashlib.sha256(jcs.document(rounded_only)).hexdigest()
    sent = dict(rounded_only)
    sent["sig"] = sign.base64_text(sign.signature("HMAC", LONG_KEY, eight.payload(unrounded)))
    raw = jcs.document(sent)
    add("rule-body-unrounded", "WrongRule", raw, code="signature_invalid", kills=("E24",))


def suites() -> list[Suite]:
    first = Suite("sig2/payload.json", "canon.record", "suites/sig2.py", FLAGS, whole.run)
    payloads(first)
    second = Suite("sig2/verify.json", "verify", "suites/sig2.py", VERIFY_FLAGS, verifying.run)
    verifies(second)
    return [first, second]
