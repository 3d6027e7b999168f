"""Signing a copy, verifying without trust in the message, and what a key must be."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import full_record

from fractal_lba.canonical import canonicalize, jcs
from fractal_lba.errors import (
    AuthError,
    ConfigError,
    FractalLBAError,
    SignatureError,
    ValidationError,
)
from fractal_lba.keys import ED25519_ORDER
from fractal_lba.record import Record
from fractal_lba.secret import Secret
from fractal_lba.sign import (
    CallableSigner,
    Ed25519Signer,
    HmacSigner,
    Key,
    SignedRecord,
    Signer,
    check_signature,
    keyring,
    sign,
    signature_text,
    verify,
)

HMAC_KEY = bytes(range(32))
SEED = bytes(range(32, 64))
PUBLIC = Ed25519Signer(SEED).public_key
TENANT = "acme"
DIGEST = hashlib.sha256(b"x").digest()

RING = keyring([Key("h", "HMAC", HMAC_KEY, TENANT), Key("e", "Ed25519", PUBLIC, TENANT)])
SIGNERS: list[Signer] = [HmacSigner(HMAC_KEY, kid="h"), Ed25519Signer(SEED, kid="e")]


def code_of(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(FractalLBAError) as caught:
        call(*args, **options)
    return caught.value.code


def changed_json(signed: SignedRecord, **changes: Any) -> bytes:
    members = {**json.loads(signed.body), **changes}
    return json.dumps({k: v for k, v in members.items() if v is not None}).encode()


# --- signing -------------------------------------------------------------------------------


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("version", [1, 2])
def test_what_is_signed_verifies(signer: Signer, version: int) -> None:
    signed = sign(full_record(), signer, sig_version=version, tenant=TENANT)
    seen = verify(signed.body, RING, strict=True)
    assert seen.sig_v == version
    assert seen.key is RING[str(signer.kid)]
    assert dict(seen.record) == json.loads(signed.body)
    assert seen.content == signed.content == canonicalize(full_record(), sig_v=1).content
    assert signed.pcs_id == full_record()["pcs_id"]


@pytest.mark.parametrize("version", [1, 2])
def test_the_caller_s_record_is_never_changed(version: int) -> None:
    record = full_record(r=0.1234567891, sig="old", kid="old", alg="HMAC")
    before = copy.deepcopy(record)
    signed = sign(record, SIGNERS[0], sig_version=version, tenant=TENANT)
    assert record == before
    record["scales"].append(99)
    assert 99 not in json.loads(signed.body)["scales"]


def test_what_is_sent_is_what_was_signed() -> None:
    """canonical 3.7."""
    signed = sign(full_record(r=0.1234567891, D_hat=-0.0), SIGNERS[0], tenant=TENANT)
    assert signed.record["r"] == json.loads(signed.body)["r"] == 0.123456789
    assert b'"D_hat":0,' in signed.body
    assert jcs(dict(signed.record)) == signed.body


def test_a_typed_record_and_its_members_have_the_same_bytes() -> None:
    typed = Record.from_dict(full_record())
    for signer in SIGNERS:
        by_type = sign(typed, signer, tenant=TENANT)
        by_members = sign(full_record(), signer, tenant=TENANT)
        assert by_type == by_members


def test_version_1_names_key_and_algorithm_only_with_a_kid() -> None:
    bare = sign(full_record(), HmacSigner(HMAC_KEY), sig_version=1)
    named = sign(full_record(), HmacSigner(HMAC_KEY, kid="h"), sig_version=1, tenant=TENANT)
    assert {"alg", "kid", "sig_v", "tenant_id"}.isdisjoint(bare.record)
    assert (named.record["alg"], named.record["kid"]) == ("HMAC", "h")
    assert {"sig_v", "tenant_id"}.isdisjoint(named.record)
    assert (bare.kid, bare.tenant, named.kid) == (None, None, "h")


def test_version_2_carries_everything_it_signs() -> None:
    signed = sign(full_record(), SIGNERS[1], tenant=TENANT)
    carried = {name: signed.record[name] for name in ("sig_v", "alg", "kid", "tenant_id")}
    assert carried == {"sig_v": 2, "alg": "Ed25519", "kid": "e", "tenant_id": TENANT}
    assert (signed.kid, signed.tenant) == ("e", TENANT)


def test_signing_again_replaces_the_signature() -> None:
    once = sign(full_record(), SIGNERS[0], tenant=TENANT)
    assert sign(once.record, SIGNERS[0], tenant=TENANT) == once
    assert sign(once.record, HmacSigner(HMAC_KEY), sig_version=1) == sign(
        full_record(), HmacSigner(HMAC_KEY), sig_version=1
    )


@pytest.mark.parametrize(
    ("signer", "tenant"),
    [
        (HmacSigner(HMAC_KEY), TENANT),
        (HmacSigner(HMAC_KEY, kid="h"), None),
        (HmacSigner(HMAC_KEY, kid="h"), ""),
        (HmacSigner(HMAC_KEY, kid="h"), "t" * 65),
    ],
)
def test_version_2_needs_kid_and_tenant(signer: Signer, tenant: str | None) -> None:
    assert code_of(sign, full_record(), signer, tenant=tenant) == "config_invalid"


def test_another_version_is_refused() -> None:
    assert code_of(sign, full_record(), SIGNERS[0], sig_version=3) == "sig_version_unsupported"


def test_the_signature_is_over_the_digest() -> None:
    """canonical 3.6."""
    signed = sign(full_record(), HmacSigner(HMAC_KEY), sig_version=1)
    digest = canonicalize(full_record(), sig_v=1).digest
    expected = hmac.new(HMAC_KEY, digest, hashlib.sha256).digest()
    assert signed.record["sig"] == base64.b64encode(expected).decode()


def test_the_text_of_a_signed_record_shows_no_members() -> None:
    signed = sign(full_record(), SIGNERS[0], tenant=TENANT)
    assert "MappingProxy" not in repr(signed)


# --- a record that somebody else signed ----------------------------------------------------


def test_foreign_bytes_stay_as_they_are() -> None:
    signed = sign(full_record(), SIGNERS[0], tenant=TENANT)
    spaced = json.dumps(json.loads(signed.body), indent=1).encode()
    taken = SignedRecord.from_json(spaced)
    assert taken.body == spaced
    assert (taken.pcs_id, taken.content, taken.kid) == (signed.pcs_id, signed.content, "h")


@pytest.mark.parametrize(
    ("change", "code"),
    [({"sig": None}, "member_missing"), ({"x": 1}, "member_unknown"),
     ({"sig_v": 3}, "sig_version_unsupported")],
)  # fmt: skip
def test_foreign_bytes_must_be_a_signed_record(change: dict[str, Any], code: str) -> None:
    signed = sign(full_record(), SIGNERS[0], tenant=TENANT)
    assert code_of(SignedRecord.from_json, changed_json(signed, **change)) == code


# --- verifying -----------------------------------------------------------------------------


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"seed": 1}, "signature_invalid"),
        ({"v_star": [0.8, 0.6]}, "signature_invalid"),
        ({"extra": 1}, "signature_invalid"),
        ({"kid": "nobody"}, "kid_unknown"),
        ({"alg": "none"}, "alg_mismatch"),
        ({"tenant_id": "other"}, "tenant_mismatch"),
        ({"kid": None}, "member_missing"),
        ({"alg": None}, "member_missing"),
        ({"tenant_id": None}, "member_missing"),
        ({"kid": 1}, "member_type"),
        ({"sig": None}, "member_missing"),
        ({"sig": 1}, "member_type"),
        ({"sig": ""}, "signature_malformed"),
        ({"sig_v": None}, "signature_invalid"),
        ({"sig_v": 1}, "sig_version_unsupported"),
        ({"r": 1.5}, "number_out_of_range"),
    ],
)
def test_version_2_notices_every_change(signer: Signer, change: dict[str, Any], code: str) -> None:
    signed = sign(full_record(), signer, tenant=TENANT)
    assert code_of(verify, changed_json(signed, **change), RING) == code


def test_the_algorithm_is_never_that_of_the_message() -> None:
    """A public key is no HMAC key, whatever the record says (canonical 3.10(1))."""
    forged = sign(full_record(), HmacSigner(PUBLIC, kid="e"), tenant=TENANT)
    assert code_of(verify, forged.body, RING) == "alg_mismatch"
    bare = sign(full_record(), HmacSigner(PUBLIC), sig_version=1)
    assert code_of(verify, bare.body, RING, v1_default_kid="e") == "signature_malformed"


def test_version_1_without_a_kid_uses_the_one_default_key() -> None:
    signed = sign(full_record(), HmacSigner(HMAC_KEY), sig_version=1)
    assert code_of(verify, signed.body, RING) == "kid_unknown"
    assert code_of(verify, signed.body, RING, v1_default_kid="nobody") == "kid_unknown"
    assert verify(signed.body, RING, v1_default_kid="h").key.kid == "h"


def test_version_1_can_be_switched_off() -> None:
    signed = sign(full_record(), SIGNERS[0], sig_version=1)
    assert code_of(verify, signed.body, RING, min_version=2) == "sig_version_unsupported"


def test_a_verifier_gives_the_signed_values_and_strict_wants_them_sent() -> None:
    signed = sign(full_record(), SIGNERS[0], sig_version=1)
    off_grid = changed_json(signed, r=0.5000000001)
    seen = verify(off_grid, RING)
    assert seen.values["r"] == seen.record["r"] == 0.5
    assert code_of(verify, off_grid, RING, strict=True) == "number_out_of_range"


def test_text_outside_the_profile_is_a_validation_error() -> None:
    with pytest.raises(ValidationError):
        verify(b"{}{}", RING)
    signed = sign(full_record(), SIGNERS[0], tenant="other")
    with pytest.raises(AuthError):
        verify(signed.body, RING)


# --- signatures as text --------------------------------------------------------------------


def spellings(text: str) -> list[str]:
    raw = base64.b64decode(text)
    return [
        text[:-1],
        text + "=",
        text + "\n",
        " " + text,
        text[:-4] + "\n" + text[-4:],
        text[:5] + "!" + text[5:],
        text.replace("+", "-").replace("/", "_").rstrip("="),
        raw.hex(),
        text.lower(),
        signature_text(raw[:-1]),
        signature_text(raw + b"\0"),
        "\u00e9" * len(text),
        "\ud800",
    ]


@pytest.mark.parametrize("signer", SIGNERS)
def test_one_signature_has_one_spelling(signer: Signer) -> None:
    key = RING[str(signer.kid)]
    text = signature_text(signer.sign(DIGEST))
    check_signature(key.alg, key.key, DIGEST, text)
    check_signature(key.alg, key.key.reveal(), DIGEST, text)
    for other in spellings(text):
        expected = "signature_invalid" if other == text.lower() else "signature_malformed"
        code = code_of(check_signature, key.alg, key.key, DIGEST, other)
        assert code in (expected, "signature_malformed")


@pytest.mark.parametrize("signer", SIGNERS)
def test_unused_bits_of_base64_must_be_zero(signer: Signer) -> None:
    key = RING[str(signer.kid)]
    text = signature_text(signer.sign(DIGEST))
    body, padding = text.rstrip("="), "=" * text.count("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + padding
    assert base64.b64decode(other) == base64.b64decode(text)
    assert code_of(check_signature, key.alg, key.key, DIGEST, other) == "signature_malformed"


@pytest.mark.parametrize("signer", SIGNERS)
@given(bit=st.integers(0, 255))
def test_any_other_bit_is_another_signature(signer: Signer, bit: int) -> None:
    key = RING[str(signer.kid)]
    raw = bytearray(signer.sign(DIGEST))
    raw[bit // 8] ^= 1 << bit % 8
    text = signature_text(bytes(raw))
    assert code_of(check_signature, key.alg, key.key, DIGEST, text) == "signature_invalid"


def test_a_signature_of_ed25519_has_no_twin() -> None:
    """S + L verifies under a verifier that does not compare S with L (canonical 3.8(3))."""
    raw = SIGNERS[1].sign(DIGEST)
    twin = int.from_bytes(raw[32:], "little") + ED25519_ORDER
    text = signature_text(raw[:32] + twin.to_bytes(32, "little"))
    assert code_of(check_signature, "Ed25519", PUBLIC, DIGEST, text) == "signature_invalid"


# --- third-party vectors -------------------------------------------------------------------

THIRD_PARTY = Path(__file__).parents[2] / "golden" / "third_party"


def judge(public_key: str, message: bytes, signature: str) -> str:
    """Verify with everything a caller meets: key registration, strict text, the equation."""
    try:
        key = Key("k", "Ed25519", bytes.fromhex(public_key))
        check_signature("Ed25519", key.key, message, signature_text(bytes.fromhex(signature)))
    except SignatureError as error:
        return error.code
    return "valid"


def test_wycheproof_is_judged_as_it_says() -> None:
    suite = json.loads((THIRD_PARTY / "wycheproof" / "ed25519_test.json").read_text())
    cases = [(group["publicKey"]["pk"], c) for group in suite["testGroups"] for c in group["tests"]]
    assert len(cases) == suite["numberOfTests"]
    for public_key, case in cases:
        verdict = judge(public_key, bytes.fromhex(case["msg"]), case["sig"])
        assert (verdict == "valid") == (case["result"] == "valid"), case["tcId"]


def test_edge_points_are_judged_without_the_cofactor() -> None:
    """Policy: small-order keys are refused at registration, the equation is cofactorless."""
    cases = json.loads((THIRD_PARTY / "cctv-ed25519" / "ed25519vectors.json").read_text())
    assert len(cases) > 500
    verdicts = set()
    for case in cases:
        flags = set(case["flags"] or ())
        if "low_order_A" in flags:
            expected = "key_unusable"
        elif flags & {"low_order_residue", "non_canonical_R"}:
            expected = "signature_invalid"
        else:
            expected = "valid"
        assert judge(case["key"], case["msg"].encode(), case["sig"]) == expected, case["number"]
        verdicts.add(expected)
    assert verdicts == {"key_unusable", "signature_invalid", "valid"}


# --- keys ----------------------------------------------------------------------------------

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """Add two points of the curve of Ed25519 in affine coordinates."""
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P
    return x, y


def points_of_small_order() -> set[Point]:
    """Find the eight points whose order divides 8 from one of order 8."""
    for y in range(2, 1000):
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        if x * x % P != square:
            x = x * pow(2, (P - 1) // 4, P) % P
        if x * x % P != square:
            continue
        point, total = (x, y), (0, 1)
        for bit in f"{ED25519_ORDER:b}":
            total = add(total, total)
            total = add(total, point) if bit == "1" else total
        multiples = {(0, 1)}
        step = total
        while step != (0, 1):
            multiples.add(step)
            step = add(step, total)
        if len(multiples) == 8:
            return multiples
    raise AssertionError("no point of order 8")


def test_every_encoding_of_a_point_of_small_order_is_refused() -> None:
    encodings = set()
    for _, y in points_of_small_order():
        for written in {y, y + P} if y + P < 2**255 else {y}:
            for sign_bit in (0, 1):
                encodings.add((written | sign_bit << 255).to_bytes(32, "little"))
    assert len(encodings) == 14
    for encoding in encodings:
        assert code_of(Key, "k", "Ed25519", encoding) == "key_unusable"


@pytest.mark.parametrize("size", [0, 1, 31])
def test_short_hmac_keys_are_for_tests_only(size: int) -> None:
    key = bytes(size)
    assert code_of(HmacSigner, key) == "key_unusable"
    assert code_of(Key, "k", "HMAC", key) == "key_unusable"
    short = HmacSigner(key, allow_short_key=True)
    text = signature_text(short.sign(DIGEST))
    check_signature("HMAC", Key("k", "HMAC", key, allow_short_key=True).key, DIGEST, text)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_ed25519_keys_have_32_bytes(size: int) -> None:
    assert code_of(Ed25519Signer, bytes(size)) == "key_unusable"
    assert code_of(Key, "k", "Ed25519", bytes(size)) == "key_unusable"


@pytest.mark.parametrize("kid", ["", "k" * 65, 1])
def test_a_kid_is_a_short_name(kid: Any) -> None:
    assert code_of(HmacSigner, HMAC_KEY, kid=kid) == "config_invalid"


@pytest.mark.parametrize("alg", ["none", "hmac", "HS256", ""])
def test_there_is_no_other_algorithm(alg: str) -> None:
    assert code_of(Key, "k", alg, HMAC_KEY) == "config_invalid"
    assert code_of(CallableSigner, alg, "k", bytes) == "config_invalid"


def test_a_keyring_holds_each_kid_and_each_key_once() -> None:
    a, b = Key("a", "HMAC", HMAC_KEY), Key("b", "HMAC", b"b" * 32)
    assert dict(keyring([a, b])) == {"a": a, "b": b}
    assert code_of(keyring, [a, a]) == "config_invalid"
    assert code_of(keyring, [a, Key("c", "HMAC", HMAC_KEY)]) == "key_unusable"


def test_the_same_bytes_serve_one_algorithm() -> None:
    """canonical 3.6(4): neither as public key nor as seed."""
    public = Key("e", "Ed25519", PUBLIC)
    assert code_of(keyring, [public, Key("h", "HMAC", PUBLIC)]) == "key_unusable"
    assert code_of(keyring, [public, Key("h", "HMAC", SEED)]) == "key_unusable"
    assert len(keyring([public, Key("h", "HMAC", SEED + b"x"), Key("i", "HMAC", HMAC_KEY)])) == 3


def test_a_callable_signer_gets_the_digest() -> None:
    plain = HmacSigner(HMAC_KEY, kid="h")
    remote = CallableSigner("HMAC", "h", plain.sign)
    assert sign(full_record(), remote, tenant=TENANT) == sign(full_record(), plain, tenant=TENANT)
    short = CallableSigner("HMAC", "h", lambda digest: digest[:31])
    assert code_of(sign, full_record(), short, tenant=TENANT) == "signature_malformed"


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = HmacSigner.from_env({"PCS_HMAC_KEY": HMAC_KEY.hex(), "PCS_KID": "h"})
    assert (signer.kid, signer.sign(DIGEST)) == ("h", SIGNERS[0].sign(DIGEST))
    assert HmacSigner.from_env({"PCS_HMAC_KEY": HMAC_KEY.hex(), "PCS_KID": ""}).kid is None
    monkeypatch.setenv("PCS_HMAC_KEY", HMAC_KEY.hex())
    monkeypatch.delenv("PCS_KID", raising=False)
    assert HmacSigner.from_env().sign(DIGEST) == SIGNERS[0].sign(DIGEST)


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({}, "config_invalid"),
        ({"PCS_HMAC_KEY": ""}, "config_invalid"),
        ({"PCS_HMAC_KEY": "00ff"}, "key_unusable"),
        ({"PCS_HMAC_KEY": "topsecret"}, "key_unusable"),
        ({"PCS_HMAC_KEY": "\u00e9" * 64}, "key_unusable"),
    ],
)
def test_an_environment_without_a_key_is_an_error(environ: dict[str, str], code: str) -> None:
    with pytest.raises((ConfigError, SignatureError)) as caught:
        HmacSigner.from_env(environ)
    assert caught.value.code == code
    assert "topsecret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_text_shows_a_key() -> None:
    key = Secret("k" * 32)
    shown = [HmacSigner(key, kid="a"), Key("a", "HMAC", key), Ed25519Signer(b"k" * 32, kid="a")]
    for holder in [*shown, CallableSigner("HMAC", "a", bytes)]:
        text = f"{holder!r} {holder}"
        assert "kkkk" not in text
        assert (b"k" * 32).hex() not in text
        assert "'a'" in text


def test_without_the_extra_ed25519_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """None in sys.modules is what an import of a missing package meets."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    assert code_of(Ed25519Signer, SEED) == "ed25519_unavailable"
    key = Key("new", "Ed25519", Ed25519Signer.__name__.encode().ljust(32, b"x"))
    text = signature_text(bytes(64))
    assert code_of(check_signature, "Ed25519", key.key, DIGEST, text) == "ed25519_unavailable"
