"""What the tests of shipping are made of: regions, keys, and streams of genuine frames.

A frame here is what a server of that region would have written: its record is signed, its outcome
is computed, its facts are those of the decision.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final

from fractal_lba.canonical import canonicalize, parse
from fractal_lba.ids import derive_pcs_id
from fractal_lba.merkle import MerkleRoot
from fractal_lba.sign import HmacSigner, sign
from fractal_lba_server.contract import record_shape
from fractal_lba_server.core import hlc
from fractal_lba_server.core.facts import write_facts
from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.regions import Placement, RegionInfo, Registry
from fractal_lba_server.core.replay import Replay
from fractal_lba_server.core.replication import batch_message
from fractal_lba_server.core.segment import Footer, Header, encode_frame, payload_of
from fractal_lba_server.core.tenants import Directory, KeyRecord, Tenant
from fractal_lba_server.core.verify import outcome_bytes, verify
from fractal_lba_server.store.region_key import RegionKey

NOW_NS: Final = 1_768_478_400_000_000_000
NOW_MS: Final = NOW_NS // 1_000_000
REGIONS: Final = ("eu1", "us1", "ap1")
POLICY: Final = Policy()
KEY: Final = hashlib.sha256(b"shipping").digest()
SIGNER: Final = HmacSigner(KEY, kid="acme-1")
SEEDS: Final = {code: hashlib.sha256(code.encode()).digest() for code in REGIONS}
REGION_KEYS: Final = {code: RegionKey(seed) for code, seed in SEEDS.items()}


def key_record(**changed: Any) -> KeyRecord:
    """Give the registered key of all frames here."""
    facts: dict[str, Any] = {
        "kid": "acme-1", "tenant": "acme", "alg": "HMAC", "key": KEY, "status": "active",
        "not_before_ms": None, "not_after_ms": None,
    }  # fmt: skip
    return KeyRecord(**{**facts, **changed})


def directory(placement: str = "open", **changed: Any) -> Directory:
    """Give a directory with the tenant of all frames here."""
    tenant = Tenant("acme", 2, None, None, ("acme-1",), placement=placement)
    return Directory(tenants=[tenant], keys=[key_record(**changed)])


def replay(found: Directory | None = None, policies: tuple[Policy, ...] = (POLICY,)) -> Replay:
    """Give a re-verification with these keys and policies."""
    known = {policy.version: policy for policy in policies}
    chosen = directory() if found is None else found
    return Replay(check=record_shape().check, directory=lambda: chosen, policy=known.get)


def registry(
    *codes: str, peers: dict[str, str] | None = None, copies: int = 2, placement: str = "open"
) -> Registry:
    """Give a registry with one placement of these regions."""
    urls = peers or {}
    regions = {
        code: RegionInfo(
            code, rank, f"http://127.0.0.1:{8000 + rank}", urls.get(code, "http://127.0.0.1:1"),
            REGION_KEYS[code].public_key,
        )
        for rank, code in enumerate(codes)
    }  # fmt: skip
    placements = {placement: Placement(placement, codes, "active-active", copies)}
    return Registry(regions, placements)


@cache
def record_body(number: int, r: float = 0.381) -> bytes:
    """Sign the record of a number; another r is other content under the same id."""
    root = hashlib.sha256(str(number).encode()).hexdigest()
    made = {
        "schema": "fractal-lba-kakeya", "version": "0.1",
        "pcs_id": derive_pcs_id(root, 1, "shard-001"), "epoch": 1, "shard_id": "shard-001",
        "attempt": 1, "seed": 7, "merkle_root": root, "scales": [2, 4, 8, 16, 32],
        "N_j": {"2": 3, "4": 5, "8": 9, "16": 17, "32": 31}, "D_hat": 0.836501268,
        "coh_star": 0.73, "v_star": [0.6, 0.8], "r": r, "regime": "sticky", "budget": 0.3,
        "sent_at": "2026-01-15T12:00:00Z",
        "ft": {"outbox_seq": 0, "degraded": False, "fallbacks": [], "clock_skew_ms": 0},
    }  # fmt: skip
    return sign(made, SIGNER, sig_version=2, tenant="acme").body


def frame_bytes(
    seq: int, *, region: str = "eu1", number: int | None = None, stamp: int | None = None,
    policy: Policy = POLICY, r: float = 0.381, kid: str = "acme-1",
) -> bytes:  # fmt: skip
    """Write the frame that a region would have written for a record."""
    body = record_body(seq if number is None else number, r)
    record = parse(body)
    canonical = canonicalize(record)
    stamp = (NOW_MS << hlc.COUNTER_BITS) + seq if stamp is None else stamp
    verdict = verify(record, canonical.nanos, policy)
    outcome = outcome_bytes(
        verdict, pcs_id=record["pcs_id"], policy_version=policy.version, region=region,
        hlc=hlc.text(stamp),
    )  # fmt: skip
    meta = write_facts(
        content=canonical.content, kid=kid, outcome=outcome, policy_version=policy.version,
        sig_v=2, status=verdict.status, tenant="acme",
    )  # fmt: skip
    return encode_frame(seq, stamp, meta, body)


class SegmentBuilder:
    """Builds the files of a stream in memory, as the log writes them."""

    def __init__(self, region: str = "eu1") -> None:
        self.region = region
        self.files: dict[int, bytes] = {}
        self.sealed: set[int] = set()
        self.prev = bytes(32)
        self.seq = 0
        self._first = 0
        self._root = MerkleRoot()
        self._frames = 0

    def begin(self, region_epoch: int = 1) -> None:
        """Begin a segment."""
        self._first = self.seq + 1
        self.files[self._first] = Header(self._first, self.prev, NOW_MS, region_epoch).to_bytes()
        self._root, self._frames = MerkleRoot(), 0

    def add(self, count: int = 1, **facts: Any) -> None:
        """Add frames to the open segment."""
        for _ in range(count):
            self.seq += 1
            frame = frame_bytes(self.seq, region=self.region, **facts)
            self.files[self._first] += frame
            self._root.add(payload_of(frame))
            self._frames += 1

    def seal(self) -> None:
        """Close the open segment."""
        data = self.files[self._first]
        data += Footer(self._frames, self._root.digest(), bytes(32)).to_bytes()[:-32]
        self.prev = hashlib.sha256(data).digest()
        self.files[self._first] = data + self.prev
        self.sealed.add(self._first)

    @property
    def open_first(self) -> int:
        """Name the last segment."""
        return self._first


def batch_signature(
    region: str, placement: str, region_epoch: int, first_seq: int, offset: int, body: bytes
) -> bytes:
    """Sign a batch as its region does."""
    message = batch_message(region, placement, region_epoch, first_seq, offset, body)
    return REGION_KEYS[region].sign(message)


ORIGIN: Final = Origin("eu1", "open", 1)
