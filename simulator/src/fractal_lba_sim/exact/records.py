"""Make the signed records of a run: each name is an id, each variant another content of it.

A record's bytes depend on tenant, key, name and variant alone, so that worlds share them.
"""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

from fractal_lba.estimate import estimate
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import HmacSigner, sign
from fractal_lba_server.core.first_write import Key

SCALES: Final = [2, 4, 8, 16, 32]
COUNTS: Final = {"2": 4, "4": 14, "8": 50, "16": 150, "32": 420}
UNIT: Final = 0.5773502691896258
SHARD_ID: Final = "drill"
SENT_AT: Final = "2026-01-01T00:00:00Z"

MINTED_MAX: Final = 1 << 17
"""Signed records kept for worlds of the same process; a record has about 700 bytes."""


class Minted(NamedTuple):
    """A signed record."""

    body: bytes
    key: Key
    content: str
    """The content digest, 64 hex digits."""

    label: str = ""
    variant: int = 0

    @property
    def name(self) -> str:
        """Name the id as a trace does."""
        return f"{self.key[0]}/{self.key[1]}"


@cache
def _estimate(variant: int) -> Any:
    return estimate(SCALES, COUNTS, 0.31 + variant / 100, 0.44)


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
    """Make a record that every server accepts, before it is signed."""
    own = _estimate(variant)
    root = sha256(name.encode()).hexdigest()
    return {
        "pcs_id": derive_pcs_id(root, 1, SHARD_ID),
        "schema": "fractal-lba-kakeya",
        "version": "0.1",
        "shard_id": SHARD_ID,
        "epoch": 1,
        "attempt": 1,
        "sent_at": SENT_AT,
        "seed": 0,
        "scales": SCALES,
        "N_j": COUNTS,
        "coh_star": 0.31 + variant / 100,
        "v_star": [UNIT, -UNIT, UNIT],
        "D_hat": own.D_hat,
        "r": 0.44,
        "regime": own.regime,
        "budget": own.budget,
        "merkle_root": root,
        "ft": {"outbox_seq": 0, "degraded": False, "fallbacks": [], "clock_skew_ms": 0},
    }


@lru_cache(maxsize=MINTED_MAX)
def mint(
    tenant: str,
    name: str,
    variant: int = 0,
    generation: int = 1,
    forged: bool = False,  # noqa: FBT002 - a cache tells apart what is given by place
) -> Minted:
    """Sign a record with a tenant's key, or with one that is not the tenant's."""
    signed = sign(
        unsigned(name, variant), _signer(tenant, generation, forged), sig_version=2, tenant=tenant
    )
    return Minted(signed.body, (tenant, signed.pcs_id), signed.content, name, variant)
