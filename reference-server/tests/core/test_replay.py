"""A peer's frame is judged as its origin must have judged it, with the keys of its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shipping_frames import (
    KEY,
    NOW_MS,
    ORIGIN,
    POLICY,
    SIGNER,
    directory,
    frame_bytes,
    key_record,
    record_body,
    replay,
)

from fractal_lba.canonical import jcs, parse
from fractal_lba.errors import SignatureError
from fractal_lba.estimate import Parameters
from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.replay import FAULTS, Replay, ReplayFault
from fractal_lba_server.core.segment import Frame, encode_frame, read_frame
from fractal_lba_server.core.tenants import Directory, Tenant

STRICT = Policy(Parameters(tol_D=0.0))
"""Another policy; under it the records here have another outcome."""


def frame(seq: int = 1, **facts: Any) -> Frame:
    """Give a genuine frame."""
    return read_frame(frame_bytes(seq, **facts), 0)


def changed(original: Frame, *, body: bytes | None = None, kind: int = 1, **meta: Any) -> Frame:
    """Change facts, or the body, of a frame."""
    facts = {**parse(original.meta), **meta}
    data = encode_frame(
        original.seq, original.hlc, jcs(facts), original.body if body is None else body, kind
    )
    return read_frame(data, 0)


def fault_of(one: Frame, judge: Replay | None = None, origin: Origin = ORIGIN) -> str:
    """Name the fault of a frame that must be refused."""
    with pytest.raises(ReplayFault) as found:
        (replay() if judge is None else judge).verify(one, origin)
    assert found.value.seq == one.seq
    assert found.value.code in FAULTS
    return found.value.code


def outcome(one: Frame, **members: Any) -> dict[str, Any]:
    """Give the outcome of a frame, changed."""
    return {**parse(one.meta)["outcome"], **members}


def test_genuine_frame_is_verified() -> None:
    one = frame()
    verified = replay().verify(one, ORIGIN)
    assert verified.frame == one
    assert verified.facts.key == ("acme", parse(one.body)["pcs_id"])
    assert verified.facts.stored.origin == ORIGIN


RECORD = parse(record_body(1))
OTHER = record_body(2)


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("frame_type_unknown", lambda one: changed(one, kind=2)),
        ("facts_malformed", lambda one: changed(one, outcome=7)),
        ("record_malformed", lambda one: changed(one, body=b"{")),
        ("record_malformed", lambda one: changed(one, body=jcs({**RECORD, "extra": 1}))),
        ("pcs_id_mismatch", lambda one: changed(one, body=OTHER)),
        ("pcs_id_mismatch", lambda one: changed(one, body=jcs({**RECORD, "epoch": 9}))),
        ("content_mismatch", lambda one: changed(one, body=jcs({**RECORD, "r": 0.5}))),
        ("content_mismatch", lambda one: changed(one, content="0" * 64)),
        ("kid_unknown", lambda one: changed(one, kid="nobody")),
        ("tenant_mismatch", lambda one: changed(one, tenant="beta")),
        ("sig_version_mismatch", lambda one: changed(one, sig_v=1)),
        ("signature_invalid", lambda one: changed(one, body=jcs({**RECORD, "sig": "A" * 43 + "="}))),
        ("policy_unknown", lambda one: changed(one, policy_version="0" * 16)),
        ("first_seen_mismatch", lambda one: changed(one, outcome=outcome(
            one, first_seen={"hlc": "0" * 16, "region": "eu1"}))),
        ("outcome_mismatch", lambda one: changed(one, status=200)),
        ("outcome_mismatch", lambda one: changed(one, outcome=outcome(one, recomputed_budget=0))),
    ],
)  # fmt: skip
def test_frame_that_differs_is_refused_by_name(code: str, spoil: Callable[[Frame], Frame]) -> None:
    assert fault_of(spoil(frame())) == code


def test_record_that_names_another_key_or_algorithm_is_refused() -> None:
    other = key_record(kid="acme-2")
    tenant = Tenant("acme", 2, None, None, ("acme-1", "acme-2"))
    both = replay(Directory(tenants=[tenant], keys=[key_record(), other]))
    assert fault_of(changed(frame(), kid="acme-2"), both) == "tenant_mismatch"
    wrong = replay(directory(alg="Ed25519"))
    assert fault_of(frame(), wrong) == "tenant_mismatch"


def test_stream_of_another_region_or_placement_is_refused() -> None:
    assert fault_of(frame(), origin=ORIGIN._replace(region="us1")) == "first_seen_mismatch"
    assert fault_of(frame(), origin=ORIGIN._replace(placement="eu")) == "placement_mismatch"
    locked = replay(directory(placement="eu"))
    assert fault_of(frame(), locked) == "placement_mismatch"
    assert locked.verify(frame(), ORIGIN._replace(placement="eu"))


def test_policy_fault_names_the_version() -> None:
    with pytest.raises(ReplayFault) as found:
        replay(policies=()).verify(frame(), ORIGIN)
    assert (found.value.code, found.value.subject) == ("policy_unknown", POLICY.version)


def test_h46_forged_record_is_refused_on_replay() -> None:
    # The literal design applies what the log of a peer says: it was checked there, was it not.
    forged = frame_bytes(1)
    record = parse(record_body(1))
    stranger = type(SIGNER)(b"x" * 32, kid="acme-1").sign(b"y" * 32)
    record["sig"] = __import__("base64").b64encode(stranger).decode()
    one = changed(read_frame(forged, 0), body=jcs(record))

    def literal(found: Frame) -> bool:
        return found.kind == 1

    def ours(found: Frame) -> bool:
        try:
            replay().verify(found, ORIGIN)
        except ReplayFault:
            return False
        return True

    assert (ours(frame()), literal(frame())) == (True, True)
    assert (ours(one), literal(one)) == (False, True)


def test_h47_key_is_judged_at_the_time_of_the_frame() -> None:
    # The literal design asks for the key as ingest does, at the present: what was accepted under
    # a key that has been retired since is refused, and the regions differ for ever.
    retired = directory(status="revoked")
    expired = directory(not_after_ms=NOW_MS + 1_000)
    later_ms = NOW_MS + 86_400_000

    def literal(found: Directory) -> bool:
        try:
            found.key_for(kid="acme-1", tenant_header=None, now_ms=later_ms)
        except SignatureError:
            return False
        return True

    for found in (retired, expired):
        assert replay(found).verify(frame(), ORIGIN)
        assert not literal(found)
    # A key that was not valid at that time is none: nobody dates records back.
    for window in ({"not_after_ms": NOW_MS - 1}, {"not_before_ms": NOW_MS + 1}):
        assert fault_of(frame(), replay(directory(**window))) == "key_inactive"
    assert replay(directory(not_before_ms=NOW_MS, key=KEY)).verify(frame(), ORIGIN)


def test_h48_outcome_is_recomputed_under_the_policy_of_the_frame() -> None:
    # The literal design verifies under the policy of the region that replays.
    canary = frame(policy=STRICT)
    assert canary.meta != frame().meta

    class PolicyOfHere(Replay):
        def __init__(self, **facts: Any) -> None:
            super().__init__(**{**facts, "policy": lambda version: POLICY})

    def agrees(kind: type[Replay]) -> bool:
        known = {policy.version: policy for policy in (POLICY, STRICT)}
        honest = replay()
        judge = kind(check=honest._check, directory=honest._directory, policy=known.get)
        try:
            judge.verify(canary, ORIGIN)
        except ReplayFault:
            return False
        return True

    assert agrees(Replay)
    assert not agrees(PolicyOfHere)
