"""What a world remembers is what it would have computed, and nothing else is taken for it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba.merkle import MerkleRoot
from fractal_lba.sign import sign
from fractal_lba_server.core import facts, replication, segment, verify
from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.verify import Verdict
from fractal_lba_sim.exact import memory, records
from fractal_lba_sim.exact.memory import RegionKey, Written
from fractal_lba_sim.waiting import Agenda

ORIGIN = Origin("euw", "open", 3)
ACCEPTED = Verdict(True, False, None, 200, 1_410_000_000, 420_000_000)
ESCALATED = Verdict(True, True, "budget_deviation", 202, 10, 1_000_000_000)
REFUSED = Verdict(False, True, "n_j_implausible", 202, 0, 0)


@settings(max_examples=40)
@given(st.text(max_size=20), st.integers(0, 3), st.integers(1, 3), st.booleans())
def test_a_record_from_a_mould_is_the_one_that_the_sdk_signs(
    name: str, variant: int, generation: int, forged: bool
) -> None:
    signer = records._signer("drill", generation, forged)
    signed = sign(records.unsigned(name, variant), signer, sig_version=2, tenant="drill")
    minted = records.mint("drill", name, variant, generation, forged)
    assert (minted.body, minted.key) == (signed.body, ("drill", signed.pcs_id))
    assert minted.content == signed.content


def test_a_mould_that_gives_another_record_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "NOT_CONTENT", frozenset({"epoch"}))
    with pytest.raises(AssertionError, match="another record than the SDK"):
        records.Mould("drill", 0, 1, forged=False)


def frame_of(written: Written, verdict: Verdict, number: int) -> segment.Frame:
    outcome = written.outcome_bytes(
        verdict,
        pcs_id=f"{number:064x}",
        policy_version="ab" * 8,
        region="euw",
        hlc=f"{number:016x}",
    )
    meta = written.write_facts(
        content="c" * 64, kid="drill-1", outcome=outcome, policy_version="ab" * 8, sig_v=2,
        status=verdict.status, tenant="drill",
    )  # fmt: skip
    return segment.read_frame(segment.encode_frame(number, number, meta, b"{}"), 0)


@pytest.mark.parametrize("verdict", [ACCEPTED, ESCALATED, REFUSED])
def test_facts_that_are_remembered_are_those_that_are_read(verdict: Verdict) -> None:
    written = Written()
    for number in range(1, 4):
        frame = frame_of(written, verdict, number)
        assert written.read_facts(frame, ORIGIN) == facts.read_facts(frame, ORIGIN)
    assert Written().read_facts(frame, ORIGIN) == facts.read_facts(frame, ORIGIN)


def test_of_a_sort_of_frames_the_first_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that writes another thing than it was given is not believed."""
    right: Callable[..., bytes] = facts.write_facts

    def wrong(*, content: str, **more: object) -> bytes:
        return right(content="d" + content[1:], **more)

    monkeypatch.setattr(facts, "write_facts", wrong)
    written = Written()
    for number in (1, 2):
        read = written.read_facts(frame_of(written, ACCEPTED, number), ORIGIN)
        assert read.stored.content == "d" + "c" * 63


def test_outcomes_are_those_of_the_core() -> None:
    names = {"pcs_id": "ab", "policy_version": "cd", "region": "euw", "hlc": "0" * 16}
    written = Written()
    for verdict in (ACCEPTED, ESCALATED, ACCEPTED):
        again = written.outcome_bytes(verdict, **names)
        assert again == verify.outcome_bytes(verdict, **names)


def test_a_signature_holds_for_its_key_and_message_alone() -> None:
    key, other = RegionKey(b"1" * 32, kid="euw"), RegionKey(b"2" * 32, kid="use")
    seal = key.seal(b"message")
    assert replication.signature_holds(key.public_key, b"message", bytes(seal))
    for made in (seal, bytes(seal)):
        assert memory.signature_holds(key.public_key, b"message", made)
        assert not memory.signature_holds(key.public_key, b"massage", made)
        assert not memory.signature_holds(other.public_key, b"message", made)
    assert not memory.signature_holds(key.public_key, b"message", bytes(seal)[:-1] + b"\x00")


def test_damaged_bytes_are_not_taken_for_those_before_the_damage() -> None:
    whole = segment.encode_frame(1, 1, b"meta", b"body")
    memory.know_frames(whole, {0: segment.read_frame(whole, 0)})
    assert memory.read_frame(whole, 0) == segment.read_frame(whole, 0)
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(segment.SegmentError, match="checksum"):
        memory.read_frame(damaged, 0)


def test_a_copy_of_a_tree_grows_by_itself() -> None:
    tree, both = MerkleRoot(), MerkleRoot()
    for leaf in (b"a", b"b", b"c"):
        tree.add(leaf)
        both.add(leaf)
    before = tree.digest()
    other = copy.copy(tree)
    other.add(b"d")
    both.add(b"d")
    assert (tree.digest(), tree.size) == (before, 3)
    assert (other.digest(), other.size) == (both.digest(), 4)


def test_what_is_due_at_the_moment_of_the_stop_is_still_done() -> None:
    agenda, done = Agenda(), list[str]()
    agenda.after(5, agenda.stop)
    agenda.after(5, done.append, "same moment")
    agenda.after(6, done.append, "later")
    agenda.after(3, done.append, "taken back").cancel()
    agenda.run()
    assert (done, agenda.now_ns) == (["same moment"], 5)
