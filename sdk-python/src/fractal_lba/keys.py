"""Hold keys, and check one signature with one key (spec/canonical.md 3.6, 3.8, 3.10).

This file owns the algorithms, strict base64, and what counts as a usable key. The algorithm of a
check is the key's, and there is no algorithm `none`.

    >>> ring = keyring([Key("k1", "HMAC", bytes(range(32)), "tenant-a")])
    >>> ring["k1"].alg, ring["k1"].key
    ('HMAC', Secret(***))
"""

# tidy: long because a reason stands beside what it excuses

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final

from .errors import ConfigError, SignatureError
from .record import MAX_NAME_BYTES
from .secret import Secret, reveal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["ALGORITHMS", "SIGNATURE_BYTES", "Key", "check_signature", "keyring", "signature_text"]

SIGNATURE_BYTES: Final[Mapping[str, int]] = MappingProxyType({"HMAC": 32, "Ed25519": 64})
"""Length of a signature by algorithm."""

ALGORITHMS: Final = tuple(SIGNATURE_BYTES)
"""The only spellings of `alg`."""

MIN_HMAC_KEY_BYTES: Final = 32
"""Shortest HMAC key in production; test keys may be shorter where a caller allows it."""

ED25519_KEY_BYTES: Final = 32
"""Length of an Ed25519 seed, and of a public key."""

ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""L of RFC 8032: a signature whose S is not below it has a twin and is refused."""

# The y coordinates of the points of order 1, 2, 4 and 8, in every encoding; the sign bit of the
# last byte is left out. Under such a key one signature fits many messages.
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def check_kid(kid: str | None) -> None:
    """Refuse a kid that is no short name: `config_invalid`."""
    if kid is not None and not (isinstance(kid, str) and is_name(kid)):
        raise ConfigError("config_invalid", f"kid: expected 1 to {MAX_NAME_BYTES} bytes of UTF-8")


def is_name(text: str) -> bool:
    """Say whether a text can be a `kid` or a `tenant_id` (spec/formats.md 1.12)."""
    return 1 <= len(text.encode("utf-8", "replace")) <= MAX_NAME_BYTES


def check_alg(alg: str) -> None:
    """Refuse another spelling of an algorithm: `config_invalid`."""
    if alg not in ALGORITHMS:
        expected = " or ".join(ALGORITHMS)
        raise ConfigError("config_invalid", f"alg: expected {expected}, got {alg!r}")


def unusable(expected: str, got: int) -> SignatureError:
    """Build the error of a key that has a wrong size; it never shows the key."""
    return SignatureError("key_unusable", f"key: expected {expected}, got {got} bytes")


def check_hmac_key(key: bytes, allow_short_key: bool) -> None:
    """Refuse an HMAC key that is too short: `key_unusable`."""
    if len(key) < MIN_HMAC_KEY_BYTES and not allow_short_key:
        raise unusable(f"at least {MIN_HMAC_KEY_BYTES} bytes", len(key))


@dataclass(frozen=True, slots=True)
class Key:
    """Hold one key of a verifier: an HMAC key, or an Ed25519 public key.

    `allow_short_key` is for tests.
    """

    kid: str
    alg: str
    key: Secret
    tenant: str | None = None

    def __init__(
        self,
        kid: str,
        alg: str,
        key: bytes | Secret,
        tenant: str | None = None,
        *,
        allow_short_key: bool = False,
    ) -> None:
        check_kid(kid)
        check_alg(alg)
        secret = Secret(reveal(key))
        if alg == "HMAC":
            check_hmac_key(secret.reveal(), allow_short_key)
        else:
            _check_public_key(secret.reveal())
        for name, value in (("kid", kid), ("alg", alg), ("key", secret), ("tenant", tenant)):
            object.__setattr__(self, name, value)


def _check_public_key(key: bytes) -> None:
    if len(key) != ED25519_KEY_BYTES:
        raise unusable(f"a public key of {ED25519_KEY_BYTES} bytes", len(key))
    if key[:-1] + bytes([key[-1] & 0x7F]) in _SMALL_ORDER:
        raise SignatureError("key_unusable", "key: expected no point of small order")


def keyring(keys: Iterable[Key]) -> Mapping[str, Key]:
    """Index keys by kid; a kid, or the bytes of a key, may occur once.

    Bytes that are an HMAC key here and the seed of an Ed25519 key there are refused too.
    """
    ring: dict[str, Key] = {}
    seen: set[bytes] = set()
    for key in keys:
        if key.kid in ring:
            raise ConfigError("config_invalid", f"keyring: the kid {key.kid!r} occurs twice")
        if key.key.reveal() in seen:
            raise SignatureError("key_unusable", f"keyring: the key of {key.kid!r} is used twice")
        ring[key.kid] = key
        seen.add(key.key.reveal())
    if any(key.alg == "Ed25519" for key in ring.values()):
        for key in ring.values():
            if key.alg == "HMAC" and _public_of(key.key.reveal()) in seen:
                raise SignatureError("key_unusable", f"keyring: {key.kid!r} is also a seed")
    return MappingProxyType(ring)


def _public_of(seed: bytes) -> bytes | None:
    """Give the public key of a seed, None for what is no seed."""
    if len(seed) != ED25519_KEY_BYTES:
        return None
    raw: bytes = (
        ed25519().Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    )
    return raw


# --- signatures ----------------------------------------------------------------------------


def signature_text(signature: bytes) -> str:
    """Write a signature as RFC 4648 base64 with padding."""
    return b64encode(signature).decode("ascii")


@lru_cache(maxsize=1024)
def _keyed(key: bytes) -> hmac.HMAC:
    """Prepare a MAC once per key.

    A copy costs less than a key schedule, and a one-shot call would let go of the interpreter in
    the middle of every record.
    """
    return hmac.new(key, digestmod="sha256")


def check_signature(alg: str, key: bytes | Secret, digest: bytes, sig_text: str) -> None:
    """Refuse a signature that is not the one of `digest` under `key`.

    `alg` and `key` are the verifier's. Raises SignatureError `signature_malformed` or
    `signature_invalid` (spec/canonical.md 3.8(3)).
    """
    if alg == "HMAC":
        mac = _keyed(reveal(key)).copy()
        mac.update(digest)
        expected = b64encode(mac.digest())
        if hmac.compare_digest(expected, sig_text.encode("utf-8", "surrogatepass")):
            return
        _decode(alg, sig_text)  # text that is no signature at all has a code of its own
    elif _is_of_ed25519(reveal(key), digest, _decode(alg, sig_text)):
        return
    raise SignatureError(
        "signature_invalid", "sig: expected the signature of this record", pointer="/sig"
    )


def _decode(alg: str, sig_text: str) -> bytes:
    """Decode base64 that re-encodes to itself and has the length of the algorithm."""
    try:
        raw = b64decode(sig_text.encode("ascii"), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != SIGNATURE_BYTES[alg] or signature_text(raw) != sig_text:
        raise SignatureError(
            "signature_malformed",
            f"sig: expected {SIGNATURE_BYTES[alg]} bytes in canonical base64",
            pointer="/sig",
        )
    return raw


def _is_of_ed25519(key: bytes, digest: bytes, signature: bytes) -> bool:
    if int.from_bytes(signature[32:], "little") >= ED25519_ORDER:
        return False
    public = _public_key(key)
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an optional package

    try:
        public.verify(signature, digest)
    except InvalidSignature:
        return False
    return True


def ed25519() -> ModuleType:
    """Import Ed25519 when it is first needed: the package has no run-time dependency."""
    try:
        from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 - an optional package
            ed25519,
        )
    except ImportError:
        raise SignatureError(
            "ed25519_unavailable", "expected the extra: pip install 'fractal-lba[ed25519]'"
        ) from None
    return ed25519


@lru_cache(maxsize=1024)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    loaded: Ed25519PublicKey = ed25519().Ed25519PublicKey.from_public_bytes(raw)
    return loaded
