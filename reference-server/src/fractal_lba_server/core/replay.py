"""Judge a frame that another region wrote, as that region must have judged it.

This file owns re-verification (spec/shipping.md 6): nothing of a peer is applied because a peer
says so. The signature is checked with the key that the frame names, valid at the frame's own
time; the content digest and the outcome are computed anew under the policy that the frame names.
A frame that differs in anything is refused with a named fault, and with it all that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from fractal_lba.canonical import canonicalize, parse
from fractal_lba.errors import FractalLBAError, SignatureError
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import check_signature

from . import hlc
from .facts import Facts, read_facts
from .first_write import Origin
from .policy import Policy
from .segment import FRAME_RECORD, Frame
from .tenants import Directory, KeyRecord
from .verify import outcome_bytes, verify

FAULTS: Final = (
    "frame_type_unknown", "facts_malformed", "record_malformed", "pcs_id_mismatch",
    "content_mismatch", "kid_unknown", "tenant_mismatch", "placement_mismatch", "key_inactive",
    "sig_version_mismatch", "signature_invalid", "first_seen_mismatch", "policy_unknown",
    "outcome_mismatch",
)  # fmt: skip
"""What may be wrong with a frame, in the order in which it is looked for."""


class ReplayFault(Exception):  # noqa: N818 - a fault of the frame, as the specification names it
    """A frame that must not be applied: which fault, and of which frame."""

    def __init__(self, code: str, message: str, seq: int, subject: str = "") -> None:
        super().__init__(f"frame {seq}: {code}: {message}")
        self.code = code
        self.message = message
        self.seq = seq
        self.subject = subject
        """What is missing here, where that is the fault."""


class VerifiedFrame(NamedTuple):
    """A frame whose signature, content and outcome hold."""

    frame: Frame
    facts: Facts


class Replay:
    """Re-verify frames with the keys and policies that are known now."""

    def __init__(
        self,
        *,
        check: Callable[[Mapping[str, Any]], None],
        directory: Callable[[], Directory],
        policy: Callable[[str], Policy | None],
    ) -> None:
        self._check = check
        self._directory = directory
        self._policy = policy

    def verify(self, frame: Frame, origin: Origin) -> VerifiedFrame:
        """Hold a frame against its own record; raises ReplayFault."""

        def refuse(code: str, message: str) -> ReplayFault:
            return ReplayFault(code, message, frame.seq)

        if frame.kind != FRAME_RECORD:
            raise refuse("frame_type_unknown", f"type {frame.kind}")
        try:
            facts = read_facts(frame, origin)
        except ValueError as error:
            raise refuse("facts_malformed", str(error)) from None
        try:
            record = parse(frame.body)
            self._check(record)
            canonical = canonicalize(record)
        except FractalLBAError as error:
            raise refuse("record_malformed", f"{error.code} at {error.pointer}") from None
        pcs_id = derive_pcs_id(record["merkle_root"], record["epoch"], record["shard_id"])
        if not pcs_id == record["pcs_id"] == facts.key[1]:
            raise refuse("pcs_id_mismatch", "the id is not that of the record")
        if canonical.content != facts.stored.content:
            raise refuse("content_mismatch", "the record has another content digest")
        key = self._key(frame, facts, record, origin)
        try:
            check_signature(key.alg, key.key, canonical.digest, record["sig"])
        except SignatureError as error:
            raise refuse("signature_invalid", error.message) from None
        self._check_outcome(frame, facts, record, canonical.nanos)
        return VerifiedFrame(frame, facts)

    def _key(
        self, frame: Frame, facts: Facts, record: Mapping[str, Any], origin: Origin
    ) -> KeyRecord:
        """Find the key of a frame and judge it at the frame's time, not at ours."""
        directory = self._directory()
        key = directory.keys.get(facts.kid)
        if key is None:
            text = f"no key {facts.kid!r} is registered here"
            raise ReplayFault("kid_unknown", text, frame.seq)
        tenant = facts.key[0]
        named = (key.tenant, record.get("tenant_id", tenant), record.get("kid", facts.kid))
        if named != (tenant, tenant, facts.kid) or record.get("alg", key.alg) != key.alg:
            text = "frame, record and key name different tenants, keys or algorithms"
            raise ReplayFault("tenant_mismatch", text, frame.seq)
        placement = directory.tenants[tenant].placement
        if placement != origin.placement:
            text = f"its tenant belongs to placement {placement!r}, not {origin.placement!r}"
            raise ReplayFault("placement_mismatch", text, frame.seq)
        at_ms = frame.hlc >> hlc.COUNTER_BITS
        early = key.not_before_ms is not None and at_ms < key.not_before_ms
        if early or (key.not_after_ms is not None and at_ms > key.not_after_ms):
            text = f"key {facts.kid!r} was outside its time window"
            raise ReplayFault("key_inactive", text, frame.seq)
        if record.get("sig_v", 1) != facts.sig_v:
            text = "the record has another signature version"
            raise ReplayFault("sig_version_mismatch", text, frame.seq)
        return key

    def _check_outcome(
        self, frame: Frame, facts: Facts, record: Mapping[str, Any], nanos: Mapping[str, int]
    ) -> None:
        stamp, stored = hlc.text(frame.hlc), facts.stored
        policy = self._policy(facts.policy_version)
        if policy is None:
            text = f"policy {facts.policy_version} is not kept here"
            raise ReplayFault("policy_unknown", text, frame.seq, facts.policy_version)
        verdict = verify(record, nanos, policy)
        again = outcome_bytes(
            verdict,
            pcs_id=record["pcs_id"],
            policy_version=policy.version,
            region=stored.origin.region,
            hlc=stamp,
        )
        if again == stored.outcome and verdict.status == stored.status:
            return
        first_seen = f'"first_seen":{{"hlc":"{stamp}","region":"{stored.origin.region}"}}'
        if first_seen.encode() not in stored.outcome:
            text = "its outcome was first seen elsewhere, or at another time"
            raise ReplayFault("first_seen_mismatch", text, frame.seq)
        text = "its record and policy give another outcome"
        raise ReplayFault("outcome_mismatch", text, frame.seq)
