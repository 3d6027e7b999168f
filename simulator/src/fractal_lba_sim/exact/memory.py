"""Remember what pure functions gave for bytes that were seen before.

Parsing, canonicalizing, checking and verifying a record depend on its bytes and the policy alone.
Each region does it again for the same bytes; a world does it once. While a world runs these
functions stand in the place of those that they call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from fractal_lba import canonical, ids, sign
from fractal_lba.sign import Ed25519Signer
from fractal_lba_server.contract import record_shape
from fractal_lba_server.core import facts, replication, segment
from fractal_lba_server.core import verify as verifying
from fractal_lba_server.core.first_write import Origin, Stored
from fractal_lba_server.core.policy import Policy

KNOWN_MAX: Final = 1 << 16
"""Records remembered; beyond it all are forgotten."""


class _Known(dict[str, Any]):
    """A parsed record, and what is known of it."""

    __slots__ = ("canonical", "is_checked", "verdicts")

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(record)
        self.canonical: canonical.Canonical | None = None
        self.is_checked = False
        self.verdicts: dict[str, verifying.Verdict] = {}


class Memory:
    """What one process remembers of records."""

    def __init__(self) -> None:
        self._parsed: dict[bytes, _Known] = {}
        self._check = record_shape().check

    def parse(self, body: bytes, *args: Any, **more: Any) -> Any:
        """Parse bytes, or give what they were parsed to."""
        record = self._parsed.get(body)
        if record is None or args or more:
            if len(self._parsed) >= KNOWN_MAX:
                self._parsed.clear()
            record = _Known(canonical.parse(body, *args, **more))
            self._parsed[body] = record
        return record

    def canonical_of(self, record: Any) -> canonical.Canonical:
        """Give the canonical form of a record."""
        if type(record) is not _Known:
            return canonical.canonicalize(record)
        if record.canonical is None:
            record.canonical = canonical.canonicalize(record)
        return record.canonical

    def check(self, record: Mapping[str, Any]) -> None:
        """Judge the shape of a record."""
        if type(record) is not _Known:
            self._check(record)
        elif not record.is_checked:
            self._check(dict(record))
            record.is_checked = True

    def verify(
        self, record: Mapping[str, Any], nanos: Mapping[str, int], policy: Policy
    ) -> verifying.Verdict:
        """Verify a record under a policy."""
        if type(record) is not _Known:
            return verifying.verify(record, nanos, policy)
        verdict = record.verdicts.get(policy.version)
        if verdict is None:
            verdict = record.verdicts[policy.version] = verifying.verify(record, nanos, policy)
        return verdict


class Seal:
    """A signature of a region, computed when somebody needs its bytes.

    A key has one signature of a message, so that later is as good as now; and of a signature that
    was made here it is known of which key and message it is.
    """

    __slots__ = ("_key", "message")

    def __init__(self, key: RegionKey, message: bytes) -> None:
        self._key = key
        self.message = message

    @property
    def public_key(self) -> bytes:
        """Give the 32 bytes by which others know its key."""
        return self._key.public_key

    def __bytes__(self) -> bytes:
        return self._key.sign(self.message)


class RegionKey(Ed25519Signer):
    """A key of a region."""

    __slots__ = ("_public",)

    def __init__(self, seed: bytes, *, kid: str) -> None:
        super().__init__(seed, kid=kid)
        self._public = super().public_key

    @property
    def public_key(self) -> bytes:
        """Give the 32 bytes by which others know it."""
        return self._public

    def seal(self, message: bytes) -> Seal:
        """Sign when it is needed."""
        return Seal(self, message)


def signature_holds(public_key: bytes, message: bytes, signature: bytes | Seal) -> bool:
    """Check a region's signature, unless it was made here with this key, of this message."""
    if isinstance(signature, Seal):
        if signature.message == message and signature.public_key == public_key:
            return True
        signature = bytes(signature)
    return replication.signature_holds(public_key, message, signature)


batch_message: Callable[..., bytes] = lru_cache(maxsize=256)(replication.batch_message)
"""What a region signs of a batch: its sender and every one who takes it write the same."""

_frames: dict[bytes, dict[int, segment.Frame]] = {}
"""By bytes of a batch: its frames, by where they begin."""

BATCHES_MAX: Final = 256
"""Batches whose frames are remembered, from the file that they are read from to the mirror."""


def read_frame(data: bytes, offset: int) -> segment.Frame:
    """Read a frame of a batch, or give what was read there before; raises SegmentError."""
    known = _frames.get(data)
    if known is None:
        if len(_frames) >= BATCHES_MAX:
            _frames.clear()
        known = _frames[data] = {}
    frame = known.get(offset)
    if frame is None:
        frame = known[offset] = segment.read_frame(data, offset)
    return frame


def know_frames(data: bytes, frames: dict[int, segment.Frame]) -> None:
    """Remember the frames of a batch, by where they begin in it."""
    if len(_frames) >= BATCHES_MAX:
        _frames.clear()
    _frames[data] = frames


class Written:
    """What frames say beside their records, as their writer gave it.

    Reading gives what was written. That is not taken on trust: of every sort of frame the first
    one is read, and held against what is remembered.
    """

    def __init__(self) -> None:
        self._ids: dict[bytes, str] = {}
        self._facts: dict[bytes, tuple[Any, ...]] = {}
        self._proved: set[tuple[Any, ...]] = set()

    def outcome_bytes(
        self, verdict: verifying.Verdict, *, pcs_id: str, policy_version: str, region: str, hlc: str
    ) -> bytes:
        """Write an outcome."""
        if len(self._ids) >= KNOWN_MAX:
            self._ids.clear()
            self._facts.clear()
        outcome = verifying.outcome_bytes(
            verdict, pcs_id=pcs_id, policy_version=policy_version, region=region, hlc=hlc
        )
        self._ids[outcome] = pcs_id
        return outcome

    def write_facts(
        self, *, content: str, kid: str, outcome: bytes, policy_version: str, sig_v: int,
        status: int, tenant: str,
    ) -> bytes:  # fmt: skip
        """Write the facts of a frame."""
        meta = facts.write_facts(
            content=content, kid=kid, outcome=outcome, policy_version=policy_version, sig_v=sig_v,
            status=status, tenant=tenant,
        )  # fmt: skip
        pcs_id = self._ids.get(outcome)
        if pcs_id is not None:
            sort = (kid, sig_v, policy_version, status, tenant)
            self._facts[meta] = (sort, content, outcome, (tenant, pcs_id))
        return meta

    def read_facts(self, frame: segment.Frame, origin: Origin) -> facts.Facts:
        """Read the facts of a frame; raises ValueError if they are not facts."""
        known = self._facts.get(frame.meta)
        if known is None:
            return facts.read_facts(frame, origin)
        sort, content, outcome, key = known
        kid, sig_v, policy_version, status, _ = sort
        stored = Stored(frame.seq, content, status, outcome, origin, frame.hlc)
        found = facts.Facts(key, stored, kid, sig_v, policy_version)
        if sort in self._proved:
            return found
        read = facts.read_facts(frame, origin)
        if read == found:
            self._proved.add(sort)
        return read


MEMORY: Final = Memory()
WRITTEN: Final = Written()
_CORE: Final = "fractal_lba_server.core"
_check_signature: Callable[..., Any] = lru_cache(maxsize=KNOWN_MAX)(sign.check_signature)
_derive_pcs_id: Callable[..., Any] = lru_cache(maxsize=KNOWN_MAX)(ids.derive_pcs_id)

RULES: Final[Mapping[str, Any]] = {
    f"{_CORE}.{module}:{name}": function
    for module in ("ingest", "replay")
    for name, function in (
        ("parse", MEMORY.parse),
        ("canonicalize", MEMORY.canonical_of),
        ("verify", MEMORY.verify),
        ("check_signature", _check_signature),
        ("derive_pcs_id", _derive_pcs_id),
    )
} | {
    f"{_CORE}.ingest:outcome_bytes": WRITTEN.outcome_bytes,
    f"{_CORE}.ingest:write_facts": WRITTEN.write_facts,
    f"{_CORE}.replay:read_facts": WRITTEN.read_facts,
    f"{_CORE}.receiver:signature_holds": signature_holds,
    f"{_CORE}.receiver:read_frame": read_frame,
    f"{_CORE}.receiver:batch_message": batch_message,
    f"{_CORE}.verify:number_text": lru_cache(maxsize=KNOWN_MAX)(canonical.number_text),
}
"""What stands in the place of the pure functions of the core while a world runs."""
