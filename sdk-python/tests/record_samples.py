"""Records that tests vary."""

from __future__ import annotations

from typing import Any

from fractal_lba.ids import derive_pcs_id

MERKLE_ROOT = "c3" * 32


def full_record(**changes: Any) -> dict[str, Any]:
    """Give a whole record without signature; every check of it passes."""
    record: dict[str, Any] = {
        "schema": "fractal-lba-kakeya",
        "version": "0.1",
        "pcs_id": derive_pcs_id(MERKLE_ROOT, 7, "shard-001"),
        "merkle_root": MERKLE_ROOT,
        "epoch": 7,
        "shard_id": "shard-001",
        "attempt": 1,
        "sent_at": "2026-01-15T12:00:00Z",
        "seed": 0,
        "scales": [2, 4, 8, 16],
        "N_j": {"2": 4, "4": 16, "8": 64, "16": 256},
        "v_star": [0.6, 0.8],
        "D_hat": 2.0,
        "coh_star": 0.5,
        "r": 0.5,
        "regime": "mixed",
        "budget": 0.35,
        "ft": {"outbox_seq": 0, "degraded": False, "fallbacks": [], "clock_skew_ms": 0},
    }
    return {**record, **changes}
