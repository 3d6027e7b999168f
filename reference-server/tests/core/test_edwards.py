"""Which 32 bytes are an Ed25519 public key, against the points that everybody publishes."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba_server.core.edwards import key_problem

P = 2**255 - 19

ORDER_EIGHT = (
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)


def encoded(y: int, *, odd: bool = False) -> bytes:
    return (y | (int(odd) << 255)).to_bytes(32, "little")


SMALL_ORDER = [
    encoded(1),
    encoded(P - 1),
    encoded(0),
    encoded(0, odd=True),
    *(bytes.fromhex(text) for text in ORDER_EIGHT),
    *(bytes.fromhex(text)[:31] + bytes([bytes.fromhex(text)[31] | 0x80]) for text in ORDER_EIGHT),
]


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: f"{key.hex()[:8]}-{key[-1]:02x}")
def test_each_of_the_eight_points_of_small_order_is_refused(key: bytes) -> None:
    assert key_problem(key) == "the point has a small order: anybody can sign under it"


@pytest.mark.parametrize(
    "key",
    [
        encoded(P),
        encoded(P + 1),
        encoded(P, odd=True),
        encoded(P + 1, odd=True),
        encoded(2**255 - 1),
        encoded(1, odd=True),
        encoded(P - 1, odd=True),
        encoded(2),
    ],
    ids=["p", "p+1", "p odd", "p+1 odd", "largest", "minus zero", "minus zero of -1", "no point"],
)
def test_what_is_not_the_one_spelling_of_a_point_is_refused(key: bytes) -> None:
    assert key_problem(key) == "the bytes are not the one encoding of a point of the curve"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_another_length_is_refused(size: int) -> None:
    assert key_problem(bytes(size)) == f"expected 32 bytes, got {size}"


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_every_key_of_a_real_signer_passes(seed: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert key_problem(key) is None
