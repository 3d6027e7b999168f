"""Signed records to send: distinct ids, one realistic shape, made before anything is timed."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from fractal_lba.estimate import estimate
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import Ed25519Signer, HmacSigner, sign

TENANT = "bench"
HMAC_KEY = sha256(b"bench hmac key").digest()
ED25519_SEED = sha256(b"bench ed25519 seed").digest()

_SCALES = [2, 4, 8, 16, 32, 64]
_COUNTS = {"2": 4, "4": 14, "8": 50, "16": 150, "32": 420, "64": 900}


def record(number: int) -> dict[str, Any]:
    """Make one record; `number` makes its id."""
    own = estimate(_SCALES, _COUNTS, 0.31, 0.44)
    root = sha256(b"%d" % number).hexdigest()
    return {
        "pcs_id": derive_pcs_id(root, number, "bench"),
        "schema": "fractal-lba-kakeya",
        "version": "0.1",
        "shard_id": "bench",
        "epoch": number,
        "attempt": 1,
        "sent_at": "2026-11-21T00:00:00Z",
        "seed": 0,
        "scales": _SCALES,
        "N_j": _COUNTS,
        "coh_star": 0.31,
        "v_star": [0.5773502691896258, -0.5773502691896257, 0.5773502691896258],
        "D_hat": own.D_hat,
        "r": 0.44,
        "regime": own.regime,
        "budget": own.budget,
        "merkle_root": root,
        "ft": {"outbox_seq": number, "degraded": False, "fallbacks": [], "clock_skew_ms": 0},
    }


def bodies(first: int, count: int, kind: str) -> Iterator[bytes]:
    """Sign `count` records; `kind` is v1, v2 or ed25519."""
    if kind == "ed25519":
        signer: Any = Ed25519Signer(ED25519_SEED, kid="e1")
    else:
        signer = HmacSigner(HMAC_KEY, kid="h1")
    version = 1 if kind == "v1" else 2
    for number in range(first, first + count):
        yield sign(record(number), signer, sig_version=version, tenant=TENANT).body


def tenants_yaml(secret_file: str) -> str:
    """Write the tenants file that knows both keys."""
    public = Ed25519Signer(ED25519_SEED, kid="e1").public_key.hex()
    return f"""\
version: 1
tenants:
  - id: {TENANT}
    signing: {{min_version: 1}}
    keys:
      - {{kid: h1, alg: HMAC, secret: {{file: {secret_file}}}}}
      - {{kid: e1, alg: Ed25519, public_key: "{public}"}}
"""
