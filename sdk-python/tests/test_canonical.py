"""The signing rule against other people's files, a kept library, and itself with another back end."""

from __future__ import annotations

import copy
import json
import math
import random
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba import canonical
from fractal_lba.canonical import (
    MAX_DEPTH,
    MAX_RECORD_BYTES,
    canonicalize,
    jcs,
    nano,
    number_text,
    parse,
    parse_value,
    payload,
    rounded,
    signature_version,
)
from fractal_lba.errors import SignatureError, ValidationError
from fractal_lba.merkle import MerkleRoot

THIRD_PARTY = Path(__file__).resolve().parents[2] / "golden" / "third_party"
CORPUS_SHA256 = {
    1_000: "be18b62b6f69cdab33a7e0dae0d9cfa869fda80ddc712221570f9f40a5878687",
    10_000: "b9f7a8e75ef22a835685a52ccba7f7d6bdc99e34b010992cbc5864cd12be6892",
}
FUZZ_CASES = 100_000

BASE: dict[str, Any] = {
    "D_hat": 1.25, "budget": 0.125, "coh_star": 0.5, "epoch": 1, "merkle_root": "b" * 64,
    "pcs_id": "a" * 64, "r": 0.25, "shard_id": "s",
}  # fmt: skip


@pytest.fixture(params=["orjson", "standard library"])
def back_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with each text back end; orjson is in the test environment."""
    assert canonical.orjson is not None
    if request.param != "orjson":
        monkeypatch.setattr(canonical, "orjson", None)
    name: str = request.param
    return name


# --- JSON text -----------------------------------------------------------------------------

SUITE = sorted((THIRD_PARTY / "json-test-suite" / "test_parsing").glob("*.json"))
OURS = {
    # The suite takes these; the profile of spec/canonical.md 3.9 does not.
    "y_object_duplicated_key.json": "member_duplicate",
    "y_object_duplicated_key_and_value.json": "member_duplicate",
}


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.stem)
def test_the_json_test_suite(path: Path, back_end: str) -> None:
    data = path.read_bytes()
    try:
        parse_value(data, max_bytes=len(data))
        code = None
    except ValidationError as error:
        code = error.code
    if path.name in OURS:
        assert code == OURS[path.name]
    elif path.name.startswith("y_"):
        assert code is None
    elif path.name.startswith("n_"):
        assert code in {"json_malformed", "json_limit"}


def test_the_suite_is_there() -> None:
    assert len(SUITE) >= 300


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"a":1,"a":2}', "member_duplicate"),
        (b'{"a":1,"\\u0061" :2}', "member_duplicate"),
        (b'{"a":{"b":1,"b":1}}', "member_duplicate"),
        (b'\xef\xbb\xbf{"a":1}', "json_malformed"),
        ('{"a":1}'.encode("utf-16"), "json_malformed"),
        (b'{"a":"\xff"}', "json_malformed"),
        (b'{"a":NaN}', "json_malformed"),
        (b'{"a":-Infinity}', "json_malformed"),
        (b'{"a":01}', "json_malformed"),
        (b'{"a":1}x', "json_malformed"),
        (b'{"a":1,}', "json_malformed"),
        (b'\xc2\xa0{"a":1}', "json_malformed"),
        (b"[1]", "json_malformed"),
        (b"", "json_malformed"),
        (b'{"a":"\\ud800"}', "string_surrogate"),
        (b'{"\\uDFFF":1}', "string_surrogate"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "json_limit"),
        (b'{"a":"' + b"x" * MAX_RECORD_BYTES + b'"}', "payload_too_large"),
        (b'{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[', "json_malformed"),
    ],
)
def test_text_outside_the_profile_is_refused(text: bytes, code: str, back_end: str) -> None:
    with pytest.raises(ValidationError) as error:
        parse(text)
    assert error.value.code == code


def test_text_at_its_limits_is_read(back_end: str) -> None:
    deep = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert list(parse(deep)) == ["a"]
    brackets = parse(b'{"a":"' + b"[{" * 40 + b'","b":[]}')
    assert brackets["a"] == "[{" * 40
    long = b'{"a":"' + b"x" * (MAX_RECORD_BYTES - 8) + b'"}'
    assert len(long) == MAX_RECORD_BYTES
    assert len(parse(long)["a"]) == MAX_RECORD_BYTES - 8
    assert parse(b' \t\r\n{"a" : 1}\n') == {"a": 1}
    assert parse(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_tokens_keep_what_they_are(back_end: str) -> None:
    read = parse(b'{"int":1,"float":1.0,"exponent":1e2,"zero":-0,"half":-0.5,"deep":[-0]}')
    assert [type(read[n]) for n in ("int", "float", "exponent", "zero", "half")] == [
        int, float, float, float, float,
    ]  # fmt: skip
    assert math.copysign(1, read["zero"]) == -1
    assert type(read["deep"][0]) is float
    big = parse(b'{"n":' + b"9" * 5_000 + b',"m":-' + b"9" * 5_000 + b',"k":1e400}')
    assert big["n"] > 10**3_999
    assert big["m"] < -(10**3_999)
    assert big["k"] == math.inf


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_with_a_code(data: bytes) -> None:
    try:
        parse(data)
    except ValidationError as error:
        assert error.code in {  # noqa: PT017 - most bytes are refused, some are read
            "json_malformed", "json_limit", "member_duplicate", "string_surrogate",
        }  # fmt: skip


# --- RFC 8785 ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_the_documents_of_rfc_8785(name: str, back_end: str) -> None:
    source = json.loads((THIRD_PARTY / "rfc8785" / "input" / f"{name}.json").read_bytes())
    expected = (THIRD_PARTY / "rfc8785" / "output" / f"{name}.json").read_bytes()
    assert jcs(source) == expected


def _corpus() -> Iterator[str]:
    """Give the bits of the published number corpus (golden/third_party/rfc8785)."""
    text = (THIRD_PARTY / "rfc8785" / "es6-static-bits.txt").read_text()
    yield from (f"{int(bits, 16):x}" for bits in text.split())
    yield from (f"{0x0010000000000000 + i:x}" for i in range(2_000))
    block = bytes(32)
    while True:
        block = sha256(block).digest()
        for bits in struct.unpack("<4Q", block):
            (x,) = struct.unpack("<d", struct.pack("<Q", bits))
            if math.isfinite(x) and x != 0:
                yield f"{bits:x}"


def test_the_number_corpus_of_rfc_8785(back_end: str) -> None:
    digest = sha256()
    for seen, bits in enumerate(_corpus(), 1):
        (x,) = struct.unpack(">d", bytes.fromhex(bits.zfill(16)))
        digest.update(f"{bits},{jcs(x).decode()}\n".encode())
        if seen in CORPUS_SHA256:
            assert digest.hexdigest() == CORPUS_SHA256[seen]
        if seen == max(CORPUS_SHA256):
            return


def _number(source: random.Random) -> float | int:
    kind = source.randrange(8)
    if kind == 0:
        x: float = struct.unpack("<d", source.randbytes(8))[0]
        return x if math.isfinite(x) else 0.5
    if kind == 1:
        return source.uniform(-1, 1)
    if kind == 2:
        return source.choice(
            [0.0, -0.0, 1.0, 1e16, 1e20, 1e21, 5e-324, 1e-6, 9.99e-6, 1e-7, 2.0**53]
        )
    if kind == 3:
        return source.randrange(-(2**53) + 1, 2**53)
    if kind == 4:
        return source.random() * 10.0 ** source.randrange(-12, 25)
    if kind == 5:
        return float(source.randrange(10**6))
    return source.randrange(3_500_000_001) / 1e9


_CHARACTERS = 'ab"\\/\n\x00\x1f\x7f\xe9\u2028\ue000\U0001f600.0,e+e-6]null'


def _value(source: random.Random, depth: int = 0) -> Any:
    def text() -> str:
        return "".join(source.choice(_CHARACTERS) for _ in range(source.randrange(6)))

    kind = source.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return _number(source)
    if kind == 2:
        return text()
    if kind == 3:
        return source.choice([True, False, None])
    if kind < 6:
        return [_number(source) for _ in range(source.randrange(5))]
    if kind == 6:
        return [_value(source, depth + 1) for _ in range(source.randrange(4))]
    return {text(): _value(source, depth + 1) for _ in range(source.randrange(5))}


def test_both_back_ends_write_what_a_kept_library_writes() -> None:
    source = random.Random(20_261_121)
    for _ in range(FUZZ_CASES):
        value = _value(source)
        expected = rfc8785.dumps(value)
        assert jcs(value) == expected
        assert canonical._text(value).encode() == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (2**53, "number_out_of_range"),
        (-(2**53), "number_out_of_range"),
        (10**400, "number_out_of_range"),
        (math.nan, "number_out_of_range"),
        ([0.5, math.inf], "number_out_of_range"),
        ("\ud800", "string_surrogate"),
        ({"\udfff": 1}, "string_surrogate"),
        ({"a": object()}, "member_type"),
        ((1, b"x"), "member_type"),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Any, code: str, back_end: str) -> None:
    with pytest.raises(ValidationError) as error:
        jcs(value)
    assert error.value.code == code


# --- rounding ------------------------------------------------------------------------------


@given(st.floats(0, 3.5))
def test_rounding_is_idempotent_and_near(x: float) -> None:
    n = nano(x)
    assert nano(n / 1e9) == n
    assert rounded(rounded(x)) == rounded(x)
    assert abs(n - x * 1e9) <= 0.5


@given(st.integers(0, 3_500_000_000) | st.integers(0, 2_000))
def test_number_text_is_the_text_of_the_double(n: int) -> None:
    assert number_text(n).encode() == rfc8785.dumps(n / 1e9)
    assert float(number_text(n)) == n / 1e9


# --- payloads ------------------------------------------------------------------------------


def test_first_values(back_end: str) -> None:
    assert len(payload(BASE)) == 235
    expected = "9cf51a7c3ceec78159e373f045ea5636dcde60a8dd3781b1b6672cacd3b77efc"
    assert canonicalize(BASE).digest.hex() == expected


def test_the_record_of_the_caller_stays_as_it_is() -> None:
    record = {**BASE, "r": 0.12345678951}
    before = dict(record)
    whole = canonicalize(record)
    assert whole.values["r"] == 0.12345679
    assert record == before


@given(
    extra=st.dictionaries(
        st.text(max_size=6).filter(lambda name: name not in {*BASE, "sig", "sig_v"}),
        st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4) | st.booleans(),
        max_size=4,
    )
)
def test_version_2_covers_every_member_and_version_1_eight(extra: dict[str, Any]) -> None:
    record = {**BASE, **extra, "sig_v": 2}
    whole = canonicalize(record)
    assert whole.body == sha256(rfc8785.dumps(record)).hexdigest()
    assert whole.payload.count(b'"body"') == 1
    assert whole.payload.endswith(b',"sig_v":2}')
    assert payload({**BASE, **extra}) == payload(BASE)


def test_content_leaves_out_how_a_record_came() -> None:
    delivery = {
        "attempt": 3, "sent_at": "x", "ft": {}, "sig": "s", "alg": "HMAC", "kid": "k",
    }  # fmt: skip
    signed = {**BASE, **delivery, "sig_v": 2, "tenant_id": "t"}
    assert canonicalize(signed).content == canonicalize({**BASE, **delivery}).content
    assert canonicalize(BASE).content == canonicalize(signed).content
    assert canonicalize({**BASE, "seed": 1}).content != canonicalize(BASE).content


@pytest.mark.parametrize("claimed", [1, 3, True, 2.0, "2", None])
def test_only_the_integer_2_names_version_2(claimed: Any) -> None:
    with pytest.raises(SignatureError) as error:
        signature_version({"sig_v": claimed})
    assert error.value.code == "sig_version_unsupported"
    with pytest.raises(SignatureError):
        canonicalize(BASE, sig_v=3)


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("r", math.nan, "number_not_finite"),
        ("r", -math.inf, "number_not_finite"),
        ("r", math.inf, "number_not_finite"),
        ("r", 10**400, "number_out_of_range"),
        ("r", math.nextafter(1, 2), "number_out_of_range"),
        ("r", -5e-324, "number_out_of_range"),
        ("r", True, "member_type"),
        ("r", "0.5", "member_type"),
        ("r", None, "member_type"),
        ("epoch", 1.0, "epoch_invalid"),
        ("epoch", 2**53, "epoch_invalid"),
        ("epoch", -1, "epoch_invalid"),
        ("epoch", True, "member_type"),
        ("pcs_id", "A" * 64, "hex_invalid"),
        ("pcs_id", "a" * 64 + "\n", "hex_invalid"),
        ("merkle_root", 5, "member_type"),
        ("shard_id", "", "string_length"),
        ("shard_id", "\u65e5" * 86, "string_length"),
        ("shard_id", "\ud800", "string_surrogate"),
        ("shard_id", 7, "member_type"),
    ],
)
def test_a_signed_member_outside_its_domain_is_refused(member: str, value: Any, code: str) -> None:
    with pytest.raises(ValidationError) as error:
        canonicalize({**BASE, member: value})
    assert (error.value.code, error.value.pointer) == (code, f"/{member}")


@pytest.mark.parametrize("member", sorted(BASE))
def test_a_missing_member_is_named(member: str) -> None:
    record = {name: value for name, value in BASE.items() if name != member}
    with pytest.raises(ValidationError) as error:
        canonicalize(record)
    assert (error.value.code, error.value.pointer) == ("member_missing", f"/{member}")


def test_an_orjson_that_writes_exponents_early_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(canonical, "_WRITES_EXPONENTS_LATE", False)
    value = {"a": [1.0, 2e-6, 0.5], "b": "x", "\xe9": [True, 1e16]}
    assert jcs(value) == rfc8785.dumps(value)


def test_content_is_derived_once() -> None:
    whole = canonicalize(BASE)
    assert whole.content is whole.content


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert MerkleRoot().digest() == sha256(b"").digest()


def test_a_copy_of_a_tree_grows_by_itself() -> None:
    tree = MerkleRoot()
    tree.add(b"a")
    other = copy.copy(tree)
    other.add(b"b")
    assert (tree.size, other.size) == (1, 2)
    again = MerkleRoot()
    again.add(b"a")
    assert tree.digest() == again.digest()
    again.add(b"b")
    assert other.digest() == again.digest()
