"""Hold the oracle to values that other people published."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import rfc8785

from golden.oracle import canon, double, ed25519, jcs, sign
from golden.oracle.base import BASE, FULL, KEY, record
from golden.oracle.crc import crc
from golden.oracle.fault import Fault
from golden.oracle.scanner import parse, parse_any
from golden.tests.conftest import GOLDEN, cases

THIRD_PARTY = GOLDEN / "third_party"
RFC8032 = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)
RFC4231 = (
    (
        "0b" * 20,
        "4869205468657265",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        "4a656665",
        "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    ("aa" * 20, "dd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (
        "aa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First".hex(),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
)
CORPUS = {
    1_000: "be18b62b6f69cdab33a7e0dae0d9cfa869fda80ddc712221570f9f40a5878687",
    10_000: "b9f7a8e75ef22a835685a52ccba7f7d6bdc99e34b010992cbc5864cd12be6892",
    100_000: "22776e6d4b49fa294a0d0f349268e5c28808fe7e0cb2bcbe28f63894e494d4c7",
    1_000_000: "49415fee2c56c77864931bd3624faad425c3c577d6d74e89a83bc725506dad16",
}


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC8032)
def test_ed25519_is_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    assert ed25519.public_key(bytes.fromhex(seed)).hex() == public
    assert ed25519.sign(bytes.fromhex(seed), bytes.fromhex(message)).hex() == signature
    assert ed25519.verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize(("key", "data", "mac"), RFC4231)
def test_hmac_is_rfc_4231(key: str, data: str, mac: str) -> None:
    assert hmac.new(bytes.fromhex(key), bytes.fromhex(data), hashlib.sha256).hexdigest() == mac


def test_ed25519_judges_wycheproof_as_published() -> None:
    groups = json.loads((THIRD_PARTY / "wycheproof/ed25519_test.json").read_text())["testGroups"]
    judged = 0
    for group in groups:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for test in group["tests"]:
            good = ed25519.verify(key, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
            assert good == (test["result"] == "valid"), test["tcId"]
            judged += 1
    assert judged == 151


def test_ed25519_is_cofactorless_on_cctv() -> None:
    """A vector that only a cofactored verifier takes has a low-order residue flag."""
    rows = json.loads((THIRD_PARTY / "cctv-ed25519/ed25519vectors.json").read_text())
    for row in rows:
        flags = set(row["flags"] or [])
        sig, key = bytes.fromhex(row["sig"]), bytes.fromhex(row["key"])
        good = ed25519.verify(key, row["msg"].encode(), sig)
        # Canonical encodings and no residue: every verifier agrees; a residue or an encoding of
        # y >= p that this one does not decode: a cofactorless, strict one refuses.
        if "low_order_residue" in flags or "non_canonical_A" in flags:
            assert not good, row["number"]
        elif "non_canonical_R" not in flags:
            assert good, row["number"]


def test_hmac_judges_wycheproof_as_published() -> None:
    groups = json.loads((THIRD_PARTY / "wycheproof/hmac_sha256_test.json").read_text())[
        "testGroups"
    ]
    for group in groups:
        for test in group["tests"]:
            mac = hmac.new(bytes.fromhex(test["key"]), bytes.fromhex(test["msg"]), hashlib.sha256)
            same = mac.digest()[: group["tagSize"] // 8].hex() == test["tag"]
            assert same == (test["result"] == "valid"), test["tcId"]


def test_base_has_the_published_digest_and_signature() -> None:
    _, payload, _ = canon.payload(parse(record(BASE)), 1)
    assert len(payload) == 235
    assert (
        hashlib.sha256(payload).hexdigest()
        == "9cf51a7c3ceec78159e373f045ea5636dcde60a8dd3781b1b6672cacd3b77efc"
    )
    assert (
        sign.base64_text(sign.signature("HMAC", KEY, payload))
        == "UkUZ2Y0HFY8Ff/lTG+bY0Z6gILnhBtr4bw6Jt0VX6a4="
    )


def test_seed_record_has_the_published_values() -> None:
    pcs_id = canon.derive_pcs_id("a" * 64, 1, "shard-001")
    assert pcs_id == "a687cafc6f56b4da5a9854606076663877ea5e3660cd739af9147d0904665da2"
    changes = {
        "D_hat": "1.41",
        "budget": "0.42",
        "coh_star": "0.73",
        "r": "0.87",
        "pcs_id": f'"{pcs_id}"',
        "merkle_root": '"' + "a" * 64 + '"',
        "shard_id": '"shard-001"',
    }
    _, payload, _ = canon.payload(parse(record(BASE, **changes)), 1)
    assert (
        hashlib.sha256(payload).hexdigest()
        == "b426cc3bccb6a1cb92a723cd46db840f0964ecb3a35e82ffcb9ee90a792bd80a"
    )
    assert (
        sign.base64_text(sign.signature("HMAC", KEY, payload))
        == "NTiQIl9mwhSTvJpIJ/4tShR1buANQjhXoefZzBUQDIM="
    )


def test_longest_payloads_have_the_published_lengths() -> None:
    longest = max(
        (
            bytes.fromhex(c["expect"]["payload"])
            for c in cases("record/record.json")
            if c["result"] == "valid"
        ),
        key=len,
    )
    assert len(longest) == 1813


def corpus_bits() -> Iterator[int]:
    for line in (THIRD_PARTY / "rfc8785/es6-static-bits.txt").read_text().split():
        yield int(line, 16)
    yield from (0x0010000000000000 + i for i in range(2000))
    block = bytes(32)
    while True:
        block = hashlib.sha256(block).digest()
        for (bits,) in struct.iter_unpack("<Q", block):
            if bits & ~double.SIGN and double.is_finite(bits):
                yield bits


def corpus_hashes(lines: int) -> dict[int, str]:
    digest, found = hashlib.sha256(), {}
    for count, bits in enumerate(corpus_bits(), 1):
        digest.update(f"{bits:x},{double.text(bits)}\n".encode())
        if count in CORPUS:
            found[count] = digest.hexdigest()
        if count == lines:
            return found
    raise AssertionError


def test_number_text_has_the_published_hashes_to_100_000_lines() -> None:
    assert corpus_hashes(100_000) == {n: h for n, h in CORPUS.items() if n <= 100_000}


@pytest.mark.long
def test_number_text_has_the_published_hashes_to_1_000_000_lines() -> None:
    assert corpus_hashes(1_000_000) == CORPUS


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_documents_of_rfc_8785_have_their_published_form(name: str) -> None:
    node = parse_any((THIRD_PARTY / f"rfc8785/input/{name}.json").read_bytes())
    assert jcs.document(node) == (THIRD_PARTY / f"rfc8785/output/{name}.json").read_bytes().rstrip(
        b"\n"
    )
    assert jcs.document(node).hex() == "".join(
        (THIRD_PARTY / f"rfc8785/outhex/{name}.txt").read_text().split()
    )


def test_another_rfc_8785_library_writes_the_same_numbers() -> None:
    for case in cases("number/number.json"):
        if case["result"] == "valid":
            n = int(case["expect"]["nano"])
            assert rfc8785.dumps(n / 10**9).decode() == case["expect"]["text"], case["id"]


def test_another_rfc_8785_library_writes_the_same_documents() -> None:
    for case in cases("jcs/jcs.json"):
        if case["result"] == "valid":
            value = json.loads(bytes.fromhex(case["args"]["json"]))
            assert rfc8785.dumps(value).hex() == case["expect"]["utf8"], case["id"]


def test_another_rfc_8785_library_writes_the_same_payloads_and_bodies() -> None:
    compared = 0
    for case in [*cases("record/record.json"), *cases("sig2/payload.json")]:
        if case["result"] != "valid" or "sig_v" not in case["args"]:
            continue
        members: dict[str, Any] = json.loads(bytes.fromhex(case["args"]["json"]), parse_int=wide)
        eight = canon.signed(parse(bytes.fromhex(case["args"]["json"])))
        signed = {name: members[name] for name in canon.MEMBERS}
        signed |= {name: eight.nanos[name] / 10**9 for name in canon.FLOATS}
        if case["args"]["sig_v"] == "2":
            body = {k: signed.get(k, v) for k, v in members.items() if k != "sig"}
            signed |= {"sig_v": 2, "body": hashlib.sha256(rfc8785.dumps(body)).hexdigest()}
            assert signed["body"] == case["expect"]["body_sha256"], case["id"]
        assert rfc8785.dumps(signed).hex() == case["expect"]["payload"], case["id"]
        compared += 1
    assert compared > 200


def wide(text: str) -> int:
    """Read an integer token that Python's own limit would refuse."""
    return int(text[:4000])


@pytest.mark.parametrize(("name", "value"), [("crc32", 0xCBF43926), ("crc32c", 0xE3069283)])
def test_checksums_have_their_check_values(name: str, value: int) -> None:
    assert crc(name, b"123456789") == value


def test_scanner_judges_the_json_test_suite_as_published() -> None:
    judged = 0
    for path in sorted((THIRD_PARTY / "json-test-suite/test_parsing").glob("[yn]_*.json")):
        try:
            parse_any(path.read_bytes())
            taken = True
        except Fault as fault:
            # Duplicate names, surrogates and depth are stricter than RFC 8259 on purpose.
            taken = path.name.startswith("y_") and fault.code in (
                "member_duplicate",
                "string_surrogate",
            )
        assert taken == path.name.startswith("y_"), path.name
        judged += 1
    assert judged > 280


def test_rounding_to_a_double_is_that_of_the_machine() -> None:
    draw = random.Random(8785)
    for _ in range(5000):
        bits = draw.getrandbits(64)
        if double.is_finite(bits):
            x = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
            assert double.token(repr(x)) == bits
            assert double.nearest(double.value(bits)) == bits or bits == double.SIGN


def test_full_record_is_the_worked_example_of_the_specification() -> None:
    text = (GOLDEN.parent / "spec/canonical.md").read_text()
    sig, sent = sign.sign(parse(record(FULL)), "HMAC", bytes(range(32)), "k1", 2, "tenant-a")
    eight, payload, body = canon.payload(parse(sent), 2)
    content = canon.content_digest(parse(sent), eight.nanos)
    for part in (
        sig,
        sent.decode(),
        payload.decode(),
        str(body),
        content,
        hashlib.sha256(payload).hexdigest(),
    ):
        assert part in text
