"""Make the signed records of a run: each name is an id, each variant another content of it.

A record's bytes depend on tenant, key, name and variant alone, so that worlds share them.
"""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

from fractal_lba.canonical import NOT_CONTENT, canonicalize, jcs
from fractal_lba.sign import HmacSigner, SignedRecord, sign, signature_text
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.drill.records import pcs_id_of, record

SENT_AT: Final = "2026-01-01T00:00:00Z"

MINTED_MAX: Final = 1 << 17
"""Signed records kept for worlds of the same process; a record has about 700 bytes."""


class Minted(NamedTuple):
    """A signed record."""

    body: bytes
    key: Key
    content: str
    """The content digest, 64 hex digits."""

    label: str
    variant: int
    name: str
    """The id, as a trace names it."""


def kid_of(tenant: str, generation: int = 1) -> str:
    """Name a tenant's key."""
    return f"{tenant}-{generation}"


@cache
def secret_of(tenant: str, generation: int = 1) -> bytes:
    """Give a tenant's key; it protects nothing but a simulation."""
    return sha256(f"simulated/{tenant}/{generation}".encode()).digest()


@cache
def _signer(tenant: str, generation: int, forged: bool) -> HmacSigner:
    secret = b"\x01" * 32 if forged else secret_of(tenant, generation)
    return HmacSigner(secret, kid=kid_of(tenant, generation))


def unsigned(name: str, variant: int) -> dict[str, Any]:
    """Make a record of a drill, sent at the start of every run."""
    return record(name, variant=variant, sent_at=SENT_AT)


class Mould:
    """Signed records of one kind; they differ in what hangs on their names alone.

    The SDK signs the first. Each further one is its text with other digests in the same places,
    and is signed by the SDK's signer; a second record of the SDK is held against it.
    """

    def __init__(self, tenant: str, variant: int, generation: int, *, forged: bool) -> None:
        self._tenant = tenant
        self._variant = variant
        self._signer = _signer(tenant, generation, forged)
        first = self._signed("")
        whole = dict(first.record)
        self._first = (whole["merkle_root"].encode(), first.pcs_id.encode())
        canonical = canonicalize(whole)
        self._payload, self._body = canonical.payload, canonical.body.encode()
        self._sent, self._sig = first.body, whole.pop("sig").encode()
        self._said = jcs(whole)
        said = {name: value for name, value in whole.items() if name not in NOT_CONTENT}
        self._content = jcs(said)
        other = self._signed("other")
        if self.cast("other") != (other.body, other.pcs_id, other.content):
            raise AssertionError("a mould gives another record than the SDK")

    def _signed(self, name: str) -> SignedRecord:
        one = unsigned(name, self._variant)
        return sign(one, self._signer, sig_version=2, tenant=self._tenant)

    def cast(self, name: str) -> tuple[bytes, str, str]:
        """Give the bytes of a record, its id and its content digest."""
        root = sha256(name.encode()).hexdigest()
        pcs_id = pcs_id_of(name)
        names = (root.encode(), pcs_id.encode())
        body = sha256(self._named(self._said, names)).hexdigest().encode()
        payload = self._named(self._payload, names).replace(self._body, body, 1)
        sig = signature_text(self._signer.sign(sha256(payload).digest())).encode()
        sent = self._named(self._sent, names).replace(self._sig, sig, 1)
        return sent, pcs_id, sha256(self._named(self._content, names)).hexdigest()

    def _named(self, text: bytes, names: tuple[bytes, bytes]) -> bytes:
        root, pcs_id = self._first
        return text.replace(root, names[0], 1).replace(pcs_id, names[1], 1)


@cache
def _mould(tenant: str, variant: int, generation: int, forged: bool) -> Mould:
    return Mould(tenant, variant, generation, forged=forged)


@lru_cache(maxsize=MINTED_MAX)
def mint(
    tenant: str,
    name: str,
    variant: int = 0,
    generation: int = 1,
    forged: bool = False,  # noqa: FBT002 - a cache tells apart what is given by place
) -> Minted:
    """Sign a record with a tenant's key, or with one that is not the tenant's."""
    body, pcs_id, content = _mould(tenant, variant, generation, forged).cast(name)
    return Minted(body, (tenant, pcs_id), content, name, variant, f"{tenant}/{pcs_id}")
