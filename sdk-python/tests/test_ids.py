"""The three names of a record."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import full_record

from fractal_lba.errors import ValidationError
from fractal_lba.ids import check_pcs_id, content_digest, derive_pcs_id, idempotency_key
from fractal_lba.sign import HmacSigner, sign


def test_first_value_of_the_specification() -> None:
    seed_id = "a687cafc6f56b4da5a9854606076663877ea5e3660cd739af9147d0904665da2"
    assert derive_pcs_id("a" * 64, 1, "shard-001") == seed_id


@given(st.integers(0, 2**53 - 1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_id_is_a_hash_of_three_members(epoch: int, shard_id: str) -> None:
    text = "b" * 64 + "|" + str(epoch) + "|" + shard_id
    assert derive_pcs_id("b" * 64, epoch, shard_id) == sha256(text.encode()).hexdigest()


def test_an_unpaired_surrogate_has_no_id() -> None:
    with pytest.raises(ValidationError) as caught:
        derive_pcs_id("a" * 64, 1, "\ud800")
    assert (caught.value.code, caught.value.pointer) == ("string_surrogate", "/shard_id")


def test_another_id_is_refused_and_the_derived_one_is_not() -> None:
    record = full_record()
    check_pcs_id(record)
    with pytest.raises(ValidationError) as caught:
        check_pcs_id({**record, "pcs_id": "0" * 64})
    assert (caught.value.code, caught.value.pointer) == ("pcs_id_mismatch", "/pcs_id")


def test_content_leaves_out_how_it_was_delivered() -> None:
    """canonical 5.1, 5.2."""
    record = full_record()
    content = content_digest(record)
    later = {
        **record, "attempt": 9, "sent_at": "2027-01-01T00:00:00Z", "sig": "x", "kid": "k",
        "alg": "HMAC", "ft": {**record["ft"], "outbox_seq": 3},
    }  # fmt: skip
    assert content_digest(later) == content
    by_key_a = sign(record, HmacSigner(bytes(32), kid="a"), tenant="t")
    by_key_b = sign(record, HmacSigner(b"b" * 32, kid="b"), tenant="u")
    by_version_1 = sign(record, HmacSigner(bytes(32)), sig_version=1)
    assert {by_key_a.content, by_key_b.content, by_version_1.content} == {content}
    assert idempotency_key(record) == content


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"r": 0.75}, {"regime": "sticky"}, {"scales": [2, 4, 8, 32]}]
)
def test_content_holds_everything_else(change: dict[str, object]) -> None:
    assert content_digest({**full_record(), **change}) != content_digest(full_record())


def test_numbers_that_round_alike_have_one_content() -> None:
    nearly = {**full_record(), "r": 0.5000000001}
    assert content_digest(nearly) == content_digest(full_record())
