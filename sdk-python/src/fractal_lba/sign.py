"""Sign records and verify signatures (spec/canonical.md 3.6 to 3.10, 4).

What is signed is the 32-byte digest that `canonical` derives; what signs it is a `Signer`. This
file owns which members carry a signature, and the order in which a verifier asks. Keys and the
check of one signature are in `keys`.

    >>> signer = HmacSigner(b"testsecret", allow_short_key=True)
    >>> digest = bytes.fromhex("9cf51a7c3ceec78159e373f045ea5636dcde60a8dd3781b1b6672cacd3b77efc")
    >>> signature_text(signer.sign(digest))
    'UkUZ2Y0HFY8Ff/lTG+bY0Z6gILnhBtr4bw6Jt0VX6a4='
"""

from __future__ import annotations

import binascii
import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, Self

from .canonical import Canonical, canonicalize, parse, signature_version
from .errors import AuthError, ConfigError, SignatureError, ValidationError
from .keys import (
    ALGORITHMS,
    ED25519_KEY_BYTES,
    SIGNATURE_BYTES,
    Key,
    check_alg,
    check_hmac_key,
    check_kid,
    check_signature,
    ed25519,
    is_name,
    keyring,
    signature_text,
    unusable,
)
from .record import VERSION_2_MEMBERS, Record, check_record
from .secret import Secret, reveal

__all__ = [
    "ALGORITHMS",
    "CallableSigner",
    "Ed25519Signer",
    "HmacSigner",
    "Key",
    "SignedRecord",
    "Signer",
    "Verified",
    "check_signature",
    "keyring",
    "sign",
    "sign_record",
    "signature_text",
    "verify",
]


class Signer(Protocol):
    """Sign 32-byte digests with one key."""

    @property
    def alg(self) -> str: ...
    @property
    def kid(self) -> str | None: ...
    def sign(self, digest: bytes) -> bytes: ...


class _Signer:
    """Hold what every signer shows: its algorithm and the name of its key, never the key."""

    __slots__ = ("kid",)
    alg: str

    def __init__(self, kid: str | None) -> None:
        check_kid(kid)
        self.kid = kid

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***, alg={self.alg!r}, kid={self.kid!r})"


class HmacSigner(_Signer):
    """Sign with HMAC-SHA256. The key bytes are used verbatim, never trimmed or decoded."""

    __slots__ = ("_key",)
    alg = "HMAC"

    def __init__(
        self, key: bytes | Secret, *, kid: str | None = None, allow_short_key: bool = False
    ) -> None:
        super().__init__(kid)
        self._key = Secret(reveal(key))
        check_hmac_key(self._key.reveal(), allow_short_key)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Take the key from `PCS_HMAC_KEY` (hex) and the kid from `PCS_KID`."""
        source = os.environ if environ is None else environ
        text = source.get("PCS_HMAC_KEY")
        if not text:
            raise ConfigError("config_invalid", "PCS_HMAC_KEY: expected a key in hex, got none")
        try:
            key = binascii.unhexlify(text)
        except ValueError:
            # The cause would carry the text of the key.
            raise SignatureError("key_unusable", "PCS_HMAC_KEY: expected hex digits") from None
        return cls(key, kid=source.get("PCS_KID") or None)

    def sign(self, digest: bytes) -> bytes:
        """Give the 32 bytes of the MAC."""
        return hmac.digest(self._key.reveal(), digest, "sha256")


class Ed25519Signer(_Signer):
    """Sign with Ed25519 (RFC 8032); needs the extra `ed25519`."""

    __slots__ = ("_private",)
    alg = "Ed25519"

    def __init__(self, seed: bytes | Secret, *, kid: str | None = None) -> None:
        super().__init__(kid)
        raw = reveal(seed)
        if len(raw) != ED25519_KEY_BYTES:
            raise unusable(f"a seed of {ED25519_KEY_BYTES} bytes", len(raw))
        self._private = ed25519().Ed25519PrivateKey.from_private_bytes(raw)

    @property
    def public_key(self) -> bytes:
        """Give the 32 bytes to register with the server."""
        raw: bytes = self._private.public_key().public_bytes_raw()
        return raw

    def sign(self, digest: bytes) -> bytes:
        """Give the 64 bytes of the signature."""
        raw: bytes = self._private.sign(digest)
        return raw


class CallableSigner(_Signer):
    """Sign through a function, for keys in a KMS or HSM; it gets the 32-byte digest."""

    __slots__ = ("_function", "alg")

    def __init__(self, alg: str, kid: str | None, function: Callable[[bytes], bytes]) -> None:
        super().__init__(kid)
        check_alg(alg)
        self.alg = alg
        self._function = function

    def sign(self, digest: bytes) -> bytes:
        """Give what the function gives, if it has the length of a signature."""
        raw = bytes(self._function(digest))
        if len(raw) != SIGNATURE_BYTES[self.alg]:
            raise SignatureError(
                "signature_malformed",
                f"signer: expected {SIGNATURE_BYTES[self.alg]} bytes, got {len(raw)}",
            )
        return raw


# --- signing -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """Hold the frozen bytes of a signed record: what every attempt sends.

    `content` is the content digest and the idempotency key. `record` is what `body` says.
    """

    body: bytes = field(repr=False)
    pcs_id: str
    content: str
    record: Mapping[str, Any] = field(repr=False)

    @property
    def kid(self) -> str | None:
        """Name the key that signed, if the record names it."""
        return self.record.get("kid")

    @property
    def tenant(self) -> str | None:
        """Name the tenant, which version 2 signs."""
        return self.record.get("tenant_id")

    @classmethod
    def from_json(cls, body: bytes) -> SignedRecord:
        """Take a record that somebody else signed; its bytes stay as they are.

        The form is checked, the signature is not: that needs the key.
        """
        record = parse(body)
        check_record(record, signed=True)
        return cls(
            body=bytes(body),
            pcs_id=record["pcs_id"],
            content=canonicalize(record).content,
            record=MappingProxyType(record),
        )


def sign(
    record: Record | Mapping[str, Any],
    signer: Signer,
    *,
    sig_version: int = 2,
    tenant: str | None = None,
) -> SignedRecord:
    """Sign a copy of a record; the caller's record is never changed.

    What is sent is what was signed: the four numbers go out as n / 10^9. Version 1 adds `alg`
    and `kid` if the signer has a kid; version 2 needs `tenant` and a kid, and signs every member.
    A signature that the record had is replaced.
    """
    members = record.to_dict() if isinstance(record, Record) else dict(record)
    for name in ("sig", "sig_v", "alg", "kid", "tenant_id"):
        members.pop(name, None)
    if sig_version == 2:
        check_version_2(signer, tenant)
        members["sig_v"] = 2
        members["tenant_id"] = tenant
    if signer.kid is not None:
        members["alg"] = signer.alg
        members["kid"] = signer.kid
    canonical = canonicalize(members, sig_v=sig_version)
    sig = signature_text(signer.sign(canonical.digest))
    members.update(canonical.values, sig=sig)
    return SignedRecord(
        body=canonical.signed_text(sig),
        pcs_id=members["pcs_id"],
        content=canonical.content,
        record=MappingProxyType(members),
    )


sign_record = sign
"""The name of `sign` in the package, where `fractal_lba.sign` is this module."""


def check_version_2(signer: Signer, tenant: str | None) -> None:
    """Refuse version 2 without what it signs: `config_invalid`."""
    if signer.kid is None:
        raise ConfigError("config_invalid", "sig_version=2: expected a signer with a kid")
    if tenant is None or not is_name(tenant):
        raise ConfigError("config_invalid", "sig_version=2: expected a tenant of 1 to 64 bytes")


# --- verifying -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verified:
    """Hold a record whose signature was checked; its four numbers are the signed ones."""

    record: Mapping[str, Any]
    key: Key
    sig_v: int
    canonical: Canonical = field(repr=False)

    @property
    def values(self) -> dict[str, float]:
        """Give the four numbers as they were signed, n / 10^9."""
        return self.canonical.values

    @property
    def content(self) -> str:
        """Give the content digest."""
        return self.canonical.content


def verify(
    record_json: bytes,
    keyring: Mapping[str, Key],
    *,
    strict: bool = False,
    v1_default_kid: str | None = None,
    min_version: int = 1,
) -> Verified:
    """Check the signature of a record's JSON text, and give the record with signed values.

    `v1_default_kid` names the key of version-1 records without a kid; keys are never tried in
    turn. `min_version=2` refuses version 1. `strict` refuses a number that is not n / 10^9.
    Raises ValidationError for text or members outside the specification, AuthError
    `tenant_mismatch`, and SignatureError for everything about keys and signatures.
    """
    record = parse(record_json)
    sig = _required(record, "sig")
    version = signature_version(record)
    if version < min_version:
        raise SignatureError(
            "sig_version_unsupported",
            f"sig_v: expected at least {min_version}, got {version}",
            pointer="/sig_v",
        )
    key = choose_key(record, version, keyring, v1_default_kid=v1_default_kid)
    canonical = canonicalize(record, sig_v=version)
    check_signature(key.alg, key.key, canonical.digest, sig)
    values = canonical.values
    if strict:
        for name, value in values.items():
            if record[name] != value:
                raise ValidationError(
                    "number_out_of_range", f"{name}: expected {value!r}", pointer=f"/{name}"
                )
    return Verified(MappingProxyType({**record, **values}), key, version, canonical)


def choose_key(
    record: Mapping[str, Any],
    version: int,
    keyring: Mapping[str, Key],
    *,
    v1_default_kid: str | None = None,
) -> Key:
    """Find the one key of a record and hold `alg` and `tenant_id` against it.

    The message names a key; what that key can do is the keyring's word (spec/canonical.md 3.10).
    """
    if version == 2:
        for name in VERSION_2_MEMBERS:
            _required(record, name)
    alg, kid, tenant = (_optional(record, name) for name in VERSION_2_MEMBERS)
    wanted = v1_default_kid if kid is None else kid
    key = None if wanted is None else keyring.get(wanted)
    if key is None:
        raise SignatureError("kid_unknown", "kid: expected a known key", pointer="/kid")
    if alg is not None and alg != key.alg:
        raise SignatureError("alg_mismatch", f"alg: expected {key.alg}", pointer="/alg")
    if tenant is not None and tenant != key.tenant:
        raise AuthError(
            "tenant_mismatch", "tenant_id: expected the tenant of the key", pointer="/tenant_id"
        )
    return key


def _optional(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is None and name not in record:
        return None
    if not isinstance(value, str):
        raise ValidationError("member_type", f"{name}: expected a string", pointer=f"/{name}")
    return value


def _required(record: Mapping[str, Any], name: str) -> str:
    value = _optional(record, name)
    if value is None:
        raise ValidationError("member_missing", f"{name} is missing", pointer=f"/{name}")
    return value
