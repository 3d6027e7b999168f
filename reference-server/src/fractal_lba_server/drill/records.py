"""Make the records of a drill: each name is an id, each variant another content of it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, Final

from fractal_lba.estimate import estimate
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import HmacSigner

SCALES: Final = [2, 4, 8, 16, 32]
COUNTS: Final = {"2": 4, "4": 14, "8": 50, "16": 150, "32": 420}
UNIT: Final = 0.5773502691896258
SHARD_ID: Final = "drill"


@cache
def _estimate(variant: int) -> Any:
    return estimate(SCALES, COUNTS, 0.31 + variant / 100, 0.44)


def pcs_id_of(name: str) -> str:
    """Give the id that a name stands for."""
    return derive_pcs_id(sha256(name.encode()).hexdigest(), 1, SHARD_ID)


def record(name: str, *, variant: int = 0, sent_at: str | None = None) -> dict[str, Any]:
    """Make an unsigned record that every server accepts; it is sent now if nothing else is said."""
    if sent_at is None:
        sent_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    own = _estimate(variant)
    root = sha256(name.encode()).hexdigest()
    return {
        "pcs_id": derive_pcs_id(root, 1, SHARD_ID),
        "schema": "fractal-lba-kakeya",
        "version": "0.1",
        "shard_id": SHARD_ID,
        "epoch": 1,
        "attempt": 1,
        "sent_at": sent_at,
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


def kid_of(tenant: str) -> str:
    """Name a tenant's key."""
    return f"{tenant}-1"


def secret_of(tenant: str, seed: int) -> bytes:
    """Give a tenant's key; it protects nothing but a drill."""
    return sha256(f"drill/{seed}/{tenant}".encode()).digest()


def signer_of(tenant: str, seed: int) -> HmacSigner:
    """Make a tenant's signer."""
    return HmacSigner(secret_of(tenant, seed), kid=kid_of(tenant))


def token_of(tenant: str, seed: int) -> str:
    """Give a tenant's read token: 43 characters of base64url."""
    return sha256(f"token/{seed}/{tenant}".encode()).hexdigest()[:43]
