"""The records that the cases vary: BASE of the mutant list, and the full record."""

from __future__ import annotations

from golden.oracle.canon import derive_pcs_id

KEY = b"testsecret"
# Members of BASE as JSON tokens; its pcs_id is not derived, so no server accepts it.
BASE = {
    "pcs_id": '"' + "a" * 64 + '"',
    "merkle_root": '"' + "b" * 64 + '"',
    "epoch": "1",
    "shard_id": '"s"',
    "D_hat": "1.25",
    "coh_star": "0.5",
    "r": "0.25",
    "budget": "0.125",
}
LONG_KEY = bytes(range(32))
TENANT = "tenant-a"
MERKLE_ROOT = "c3" * 32

# A whole record without signature: every member in its domain, all verification steps pass.
# N_j = s^2, so the slope is 2; regime and budget follow from the policy.
FULL = {
    "schema": '"fractal-lba-kakeya"',
    "version": '"0.1"',
    "pcs_id": f'"{derive_pcs_id(MERKLE_ROOT, 7, "shard-001")}"',
    "merkle_root": f'"{MERKLE_ROOT}"',
    "epoch": "7",
    "shard_id": '"shard-001"',
    "attempt": "1",
    "sent_at": '"2026-01-15T12:00:00Z"',
    "seed": "0",
    "scales": "[2,4,8,16]",
    "N_j": '{"2":4,"4":16,"8":64,"16":256}',
    "v_star": "[0.6,0.8]",
    "D_hat": "2",
    "coh_star": "0.5",
    "r": "0.5",
    "regime": '"mixed"',
    "budget": "0.35",
    "ft": '{"outbox_seq":0,"degraded":false,"fallbacks":[],"clock_skew_ms":0}',
}


def record(base: dict[str, str], **changes: str | None) -> bytes:
    """Write a record with members replaced, added, or (None) left out."""
    members = {k: v for k, v in {**base, **changes}.items() if v is not None}
    return ("{" + ",".join(f'"{k}":{v}' for k, v in members.items()) + "}").encode("utf-8")
