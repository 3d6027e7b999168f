"""The order of a migration: what each command does in each step, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fractal_lba.errors import ConfigError
from fractal_lba_server.core.migration import (
    CLEANED,
    CLOSED,
    CLOSING,
    COPIED,
    COPYING,
    CUTTING,
    LISTED,
    OPEN,
    PLANNED,
    PREPARING,
    REVERTING,
    ROLLED_BACK,
    STEPS,
    VERIFIED,
    DeleteLeftovers,
    Drain,
    Effects,
    Fence,
    Listed,
    ListLeftovers,
    Migration,
    Pause,
    PutDocument,
    Refused,
    Save,
    Seal,
    Seen,
    Verify,
    after_copy,
    after_verify,
    command,
    cutover_faults,
    resume,
)
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo


def infos(*names: str) -> tuple[ShardInfo, ...]:
    return tuple(ShardInfo(name, 1, f"memory:{name}") for name in names)


OLD, NEW = infos("a", "b"), infos("a", "b", "c")
STEADY_DOCUMENT = RingDocument(1, OLD)
DUAL_DOCUMENT = STEADY_DOCUMENT.dual(NEW, "m1")
COMMITTED_DOCUMENT = DUAL_DOCUMENT.commit()
NOW_MS = 1_000_000


def state(step: str, **members: object) -> Migration:
    return Migration("m1", step, 1, OLD, NEW, **members)


def seen(document: RingDocument, *, repairs: int = 0, alarms: int = 0) -> Seen:
    return Seen(document, repairs, NOW_MS, alarms)


def shape(effects: Effects) -> list[str]:
    """Write effects as words, a step with its name."""
    return [f"Save {e.state.step}" if isinstance(e, Save) else type(e).__name__ for e in effects]


READY = state(VERIFIED, reverse_tested=True)
ALL = ("a", "b", "c")

TABLE = {
    ("dual-write", PLANNED, "steady"): [
        "Save preparing", "PutDocument", "Fence", "Save dual"],
    ("rollback", PLANNED, "steady"): ["Save cleaned"],
    ("rollback", PREPARING, "steady"): ["Save cleaned"],
    ("rollback", PREPARING, "dual"): ["Save reverting", "PutDocument", "Fence", "Save rolled_back"],
    ("rollback", COPYING, "dual"): ["Save reverting", "PutDocument", "Fence", "Save rolled_back"],
    ("rollback", COPIED, "dual"): ["Save reverting", "PutDocument", "Fence", "Save rolled_back"],
    ("rollback", VERIFIED, "dual"): ["Save reverting", "PutDocument", "Fence", "Save rolled_back"],
    ("rollback", CUTTING, "dual"): ["Save reverting", "PutDocument", "Fence", "Save rolled_back"],
    ("rollback", CUTTING, "committed"): [
        "Save reverting", "Drain", "Seal", "Pause", "Fence", "Save rolled_back"],
    ("rollback", OPEN, "committed"): [
        "Save reverting", "Drain", "Seal", "Pause", "Fence", "Save rolled_back"],
    ("rollback", REVERTING, "steady"): ["Save reverting", "Fence", "Save rolled_back"],
    ("rollback", REVERTING, "dual"): [
        "Save reverting", "PutDocument", "Fence", "Save rolled_back"],
    ("rollback", REVERTING, "committed"): [
        "Save reverting", "Drain", "Seal", "Pause", "Fence", "Save rolled_back"],
    ("cutover", VERIFIED, "dual"): ["Save cutting", "Seal", "Pause", "Fence", "Save committed"],
    ("cleanup", OPEN, "committed"): [
        "Verify", "Save closing", "PutDocument", "Fence", "Save closed", "ListLeftovers",
        "DeleteLeftovers"],
    ("cleanup", CLOSED, "steady"): ["ListLeftovers", "DeleteLeftovers"],
    ("cleanup", ROLLED_BACK, "steady"): ["ListLeftovers", "DeleteLeftovers"],
    ("cleanup", LISTED, "steady"): ["DeleteLeftovers"],
    ("resume", PREPARING, "steady"): ["PutDocument", "Fence", "Save dual"],
    ("resume", PREPARING, "dual"): ["Fence", "Save dual"],
    ("resume", CUTTING, "dual"): ["PutDocument", "Fence", "Save verified"],
    ("resume", CUTTING, "committed"): ["Fence", "Save committed"],
    ("resume", REVERTING, "steady"): ["Fence", "Save rolled_back"],
    ("resume", REVERTING, "dual"): ["PutDocument", "Fence", "Save rolled_back"],
    ("resume", REVERTING, "committed"): ["Drain", "Seal", "Pause", "Fence", "Save rolled_back"],
    ("resume", CLOSING, "committed"): [
        "PutDocument", "Fence", "Save closed", "ListLeftovers", "DeleteLeftovers"],
    ("resume", CLOSING, "steady"): [
        "Fence", "Save closed", "ListLeftovers", "DeleteLeftovers"],
}  # fmt: skip
"""Everything that does something; every other combination is refused, or leaves nothing to do."""

DOCUMENTS = {"steady": STEADY_DOCUMENT, "dual": DUAL_DOCUMENT, "committed": COMMITTED_DOCUMENT}
IMPOSSIBLE = {
    "steady": {COPYING, COPIED, VERIFIED, CUTTING, OPEN},
    "dual": {PLANNED, OPEN, CLOSING, CLOSED, LISTED, CLEANED, ROLLED_BACK},
    "committed": {PLANNED, PREPARING, COPYING, COPIED, VERIFIED, CLOSED, LISTED, CLEANED,
                  ROLLED_BACK},
}  # fmt: skip
"""Steps that no order of crashes brings together with a phase."""


@pytest.mark.parametrize("name", ["dual-write", "cutover", "rollback", "cleanup", "resume"])
@pytest.mark.parametrize("phase", DOCUMENTS)
@pytest.mark.parametrize("step", STEPS)
def test_what_each_command_does_in_each_step(name: str, phase: str, step: str) -> None:
    if step in IMPOSSIBLE[phase]:
        return
    kept = state(step, reverse_tested=step == VERIFIED)
    what = seen(DOCUMENTS[phase])
    expected = TABLE.get((name, step, phase))
    if name == "resume":
        assert shape(resume(kept, what)) == (expected or [])
    elif expected is None:
        with pytest.raises(Refused):
            command(name, kept, what)
    else:
        assert shape(command(name, kept, what)) == expected


def test_every_step_is_kept_before_anything_that_depends_on_it() -> None:
    # What changes a document or deletes follows a Save of a step that says so.
    for (name, step, phase), words in TABLE.items():
        if name == "resume":
            continue
        for index, word in enumerate(words):
            if word in {"PutDocument", "Pause"}:
                assert any(each.startswith("Save") for each in words[:index]), (name, step, phase)


def test_dual_writes_fence_both_rings_at_the_epoch_of_their_document() -> None:
    _, put, fence, _ = command("dual-write", state(PLANNED), seen(STEADY_DOCUMENT))
    assert put == PutDocument(DUAL_DOCUMENT)
    assert fence == Fence(ALL, 2)


def test_a_plan_for_another_ring_is_refused() -> None:
    for document in (RingDocument(2, OLD), RingDocument(1, infos("a"))):
        with pytest.raises(Refused, match=r"the plan is for ring_epoch 1, .* plan again"):
            command("dual-write", state(PLANNED), seen(document))


def test_nothing_touches_the_document_of_another_migration() -> None:
    other = STEADY_DOCUMENT.dual(NEW, "m2")
    for do in (lambda: command("rollback", READY, seen(other)), lambda: resume(READY, seen(other))):
        with pytest.raises(Refused, match="belongs to migration m2"):
            do()


def test_a_cutover_fences_those_that_decide_before_it_commits() -> None:
    _, seal, pause, fence, save = command("cutover", READY, seen(DUAL_DOCUMENT))
    assert seal == Seal()
    assert isinstance(pause, Pause)
    assert pause.within == (Fence(("a", "b"), 3), PutDocument(COMMITTED_DOCUMENT))
    assert pause.budget_ms == 50
    assert fence == Fence(ALL, 3)
    assert isinstance(save, Save)
    assert save.state.window_until_ms == NOW_MS + READY.window_ms


def test_a_cutover_that_is_called_off_goes_on_above_its_own_fences() -> None:
    pause = command("cutover", READY, seen(DUAL_DOCUMENT))[2]
    assert isinstance(pause, Pause)
    put, fence, save = pause.instead
    assert put == PutDocument(replace(DUAL_DOCUMENT, ring_epoch=3))
    assert fence == Fence(ALL, 3)
    assert isinstance(save, Save)
    assert save.state.step == VERIFIED
    assert "longer than 50 ms" in save.state.note


def test_a_rollback_of_a_commit_pauses_the_new_ring_and_gives_back_the_old_one() -> None:
    _, drain, _, pause, fence, _ = command("rollback", state(OPEN), seen(COMMITTED_DOCUMENT))
    assert drain == Drain()
    assert isinstance(pause, Pause)
    assert pause.within == (Fence(ALL, 4), PutDocument(RingDocument(4, OLD)))
    put, _, save = pause.instead
    assert put == PutDocument(COMMITTED_DOCUMENT.go_on())
    assert isinstance(save, Save)
    assert save.state.step == OPEN
    assert fence == Fence(ALL, 4)


@pytest.mark.parametrize(
    ("kept", "what", "says"),
    [
        (state(COPYING), {}, "the copy lags behind"),
        (state(COPIED), {}, "ranges that move are not verified"),
        (state(VERIFIED), {}, "the reverse path was not tested"),
        (READY, {"repairs": 3}, "the repair queue holds 3 entries"),
        (READY, {"alarms": 1}, "1 differences were seen"),
        (state(OPEN), {}, "nothing is to be cut over"),
    ],
)
def test_a_cutover_is_refused(kept: Migration, what: dict, says: str) -> None:
    with pytest.raises(Refused, match=says):
        command("cutover", kept, seen(DUAL_DOCUMENT, **what))


def test_a_cutover_says_every_reason_at_once() -> None:
    faults = cutover_faults(state(COPYING), seen(DUAL_DOCUMENT, repairs=1, alarms=2))
    assert len(faults) == 5


def test_a_resumed_cutover_is_never_repeated() -> None:
    fence, save = resume(state(CUTTING), seen(COMMITTED_DOCUMENT))
    assert fence == Fence(ALL, COMMITTED_DOCUMENT.ring_epoch)
    assert isinstance(save, Save)
    assert save.state.step == OPEN


def test_a_rollback_after_the_window_is_refused() -> None:
    for step in (CLOSED, LISTED, CLEANED):
        with pytest.raises(Refused, match="the window is closed"):
            command("rollback", state(step), seen(RingDocument(4, NEW)))
    with pytest.raises(Refused, match="rolled back already"):
        command("rollback", state(ROLLED_BACK), seen(RingDocument(4, OLD)))


def test_a_cleanup_before_the_window_is_over_is_refused() -> None:
    early = state(OPEN, window_until_ms=NOW_MS + 5_500)
    with pytest.raises(Refused, match="open for 5 more seconds; the repair queue holds 2"):
        command("cleanup", early, seen(COMMITTED_DOCUMENT, repairs=2))
    on_time = replace(early, window_until_ms=NOW_MS)
    assert command("cleanup", on_time, seen(COMMITTED_DOCUMENT))[0] == Verify()
    assert command("cleanup", state(CLOSED), seen(RingDocument(4, NEW))) == (
        ListLeftovers(), DeleteLeftovers(),
    )  # fmt: skip


def test_what_copy_and_verify_leave_behind() -> None:
    assert after_copy(state(COPYING)).step == COPIED
    assert after_copy(READY) == state(COPIED)
    assert after_verify(state(COPIED), clean=True, reverse_tested=True) == READY
    assert after_verify(READY, clean=False, reverse_tested=False) == state(COPIED)
    with pytest.raises(Refused, match="copy needs dual writes first"):
        after_copy(state(PLANNED))
    with pytest.raises(Refused, match="verify needs the whole copy first"):
        after_verify(state(COPYING), clean=True, reverse_tested=True)


def test_a_state_reads_back_as_it_was_written() -> None:
    listed = (Listed("a", "c", 7, "ab" * 32),)
    for step in STEPS:
        kept = state(step, listed=listed, window_until_ms=5, note="why", reverse_tested=True)
        assert Migration.from_bytes(kept.to_bytes()) == kept


@pytest.mark.parametrize(
    "change", [(b"planned", b"paused"), (b'"note"', b'"nose"'), (b"{", b" {"), (b"[", b"3")]
)
def test_a_text_that_is_no_state_is_refused(change: tuple[bytes, bytes]) -> None:
    text = state(PLANNED).to_bytes().replace(*change, 1)
    with pytest.raises(ConfigError, match="not a state of this version"):
        Migration.from_bytes(text)
