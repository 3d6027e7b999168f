"""The arbiter's row and the holder's trust (spec/roles.md 3): a table, then clocks that part."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from fractal_lba_server.core import lease
from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.core.lease import (
    Behind,
    Decision,
    Fenced,
    Granted,
    Holder,
    Lease,
    Mark,
    Moved,
    NotLeader,
    NotYet,
    Promoted,
    Row,
    Terms,
    ask,
    founded,
    promote,
    release,
    restarted,
)

MS = 1_000_000
TERMS = Terms()
BUSY_NS = (TERMS.ttl_ms + TERMS.max_drift_ms) * MS
MARK = Mark("a", 1)


def held(region_epoch: int = 3) -> Row:
    return Row(Lease("open", region_epoch, "eu1", granted=True, previous="us1"), BUSY_NS, MARK)


PROMOTED = promote(held(), "us1", 3, 0, TERMS)
FENCED = promote(held(), None, 3, 0, TERMS)
ASKS: list[tuple[str, Row, str, int, int, object, bool]] = [
    # what, row, who, at which epoch, when (ms), answer, persisted
    ("renewal", held(), "eu1", 3, 1_000, Granted(3, 5_000), False),
    ("renewal after the end", held(), "eu1", 3, 9_000, Granted(3, 5_000), False),
    ("another", held(), "us1", 3, 0, NotLeader(3, "eu1"), False),
    ("another, older", held(), "us1", 1, 0, NotLeader(3, "eu1"), False),
    ("later than ours", held(), "us1", 4, 0, Behind(3), False),
    ("the holder, later", held(), "eu1", 4, 0, Behind(3), False),
    ("first of all", founded("open", "eu1", 0, TERMS), "eu1", 1, 0, Granted(1, 5_000), False),
    ("promoted", PROMOTED.row, "us1", 3, 0, Promoted(4), False),
    ("too early", PROMOTED.row, "us1", 4, 0, NotYet(4, 5_250), False),
    ("just in time", PROMOTED.row, "us1", 4, 5_250, Granted(4, 5_000), True),
    ("the one before", PROMOTED.row, "eu1", 3, 0, NotLeader(4, None), False),
    ("after a fence", FENCED.row, "eu1", 3, 0, NotLeader(4, None), False),
]


@pytest.mark.parametrize(
    ("row", "region", "epoch", "at_ms", "answer", "persist"),
    [each[1:] for each in ASKS],
    ids=[each[0] for each in ASKS],
)
def test_who_is_granted_what(
    row: Row, region: str, epoch: int, at_ms: int, answer: object, persist: bool
) -> None:
    decision = ask(row, region, epoch, Mark("a", 2), at_ms * MS, TERMS)
    assert (decision.answer, decision.persist) == (answer, persist)
    if isinstance(answer, Granted):
        assert decision.row.busy_until_ns == at_ms * MS + BUSY_NS
        assert decision.row.lease.granted
    else:
        assert decision.row == row


def test_of_two_who_promote_at_once_one_is_refused_and_a_repetition_is_not() -> None:
    first = PROMOTED
    assert (first.answer, first.persist) == (Promoted(4), True)
    assert first.row.lease == Lease("open", 4, "us1", granted=False, previous="eu1")
    assert first.row.busy_until_ns == BUSY_NS
    again = promote(first.row, "us1", 3, 0, TERMS)
    assert again == Decision(first.row, Promoted(4))
    other = promote(first.row, "ap1", 3, 0, TERMS)
    assert other == Decision(first.row, Moved(4))


def test_a_fence_names_nobody_and_the_promotion_after_it_remembers_who_was_before() -> None:
    fenced = FENCED
    assert fenced.answer == Fenced(4)
    assert promote(fenced.row, None, 3, 0, TERMS) == Decision(fenced.row, Fenced(4))
    assert promote(PROMOTED.row, None, 3, 0, TERMS).answer == Moved(4)
    assert promote(fenced.row, "us1", 4, 0, TERMS).row.lease.previous == "eu1"


def test_whoever_has_seen_a_later_epoch_mends_an_old_state() -> None:
    mended = promote(held(), "us1", 9, 7 * MS, TERMS)
    assert mended.answer == Promoted(10)
    assert mended.row.busy_until_ns == 7 * MS + BUSY_NS
    assert ask(mended.row, "us1", 10, MARK, 7 * MS, TERMS).answer == NotYet(10, 5_250)


def test_a_state_that_is_new_may_have_taken_the_place_of_one_that_was_lost() -> None:
    row = founded("open", "eu1", 0, TERMS)
    assert promote(row, "us1", 1, 0, TERMS).row.busy_until_ns == BUSY_NS


def test_a_restart_waits_as_if_a_lease_had_just_been_granted() -> None:
    row = restarted(PROMOTED.row.lease, 7 * MS, TERMS)
    assert ask(row, "us1", 4, MARK, 7 * MS, TERMS).answer == NotYet(4, 5_250)


@pytest.mark.parametrize(
    ("mark", "epoch", "last", "counts"),
    [
        (Mark("a", 2), 3, MARK, True),
        (Mark("a", 1), 3, MARK, False),
        (Mark("b", 2), 3, MARK, False),
        (Mark("a", 2), 3, None, False),
        (Mark("a", 2), 2, MARK, False),
    ],
)
def test_a_release_counts_only_if_nothing_overtook_it(
    mark: Mark, epoch: int, last: Mark | None, counts: bool
) -> None:
    row = release(held()._replace(last=last), "eu1", epoch, mark, 100)
    assert row.busy_until_ns == (100 if counts else BUSY_NS)


def test_the_newest_request_is_remembered_whatever_arrives_last() -> None:
    row = ask(held(), "eu1", 3, Mark("a", 5), 0, TERMS).row
    assert ask(row, "eu1", 3, Mark("a", 4), 0, TERMS).row.last == Mark("a", 5)
    assert ask(row, "eu1", 3, Mark("b", 1), 0, TERMS).row.last == Mark("b", 1)


@pytest.mark.parametrize("wrong", [{"ttl_ms": 2_250}, {"max_drift_ms": -1}])
def test_terms_leave_room_for_a_lost_renewal(wrong: dict[str, int]) -> None:
    with pytest.raises(DocumentError):
        Terms(**wrong)


# --- the holder


def test_a_lease_counts_from_the_sending_of_its_request() -> None:
    holder = Holder(TERMS)
    number = holder.send(100 * MS)
    assert holder.granted(number, Granted(1, 5_000), 1)
    assert holder.until_ns == (100 + 5_000 - 250) * MS
    assert holder.left_ns(4_850 * MS) == 0
    assert not holder.granted(number, Granted(1, 5_000), 1)


def test_an_answer_that_was_overtaken_makes_a_lease_no_shorter() -> None:
    holder = Holder(TERMS)
    first, second = holder.send(0), holder.send(1_000 * MS)
    assert holder.granted(second, Granted(1, 5_000), 1)
    assert not holder.granted(first, Granted(1, 5_000), 1)
    assert holder.until_ns == 5_750 * MS


def test_a_grant_of_another_epoch_or_from_before_a_stop_counts_for_nothing() -> None:
    holder = Holder(TERMS)
    number = holder.send(0)
    assert not holder.granted(number, Granted(2, 5_000), 1)
    number = holder.send(0)
    holder.stop()
    assert not holder.granted(number, Granted(1, 5_000), 1)
    assert holder.left_ns(0) == 0
    assert holder.granted(holder.send(0), Granted(1, 5_000), 1)
    assert holder.granted(holder.send(0), Granted(2, 5_000), 2)


def test_a_longer_lease_than_agreed_is_not_trusted() -> None:
    holder = Holder(TERMS)
    holder.granted(holder.send(0), Granted(1, 60_000), 1)
    assert holder.until_ns == 4_750 * MS


def test_requests_without_an_answer_are_forgotten() -> None:
    holder = Holder(TERMS)
    for second in range(100):
        holder.send(second * 1_000 * MS)
    assert len(holder._sent) <= 6


# --- two holders never trust at the same time, for any clocks within the bound

Ask = Callable[[Row, str, int, Mark, int, Terms], Decision]
Release = Callable[[Row, str, int, Mark, int], Row]


def judge(terms: Terms, ask_: Ask = ask, release_: Release = release) -> list[str]:
    """Let eu1 hold and us1 follow, for many clocks and delays; name each overlap in true time.

    eu1 asks, hands over in vain (the release is late), asks again; then us1 is promoted and asks
    as fast as it can.
    """
    drift = TERMS.max_drift_ms / TERMS.ttl_ms * 0.99
    rates = [1 - drift, 1, 1 + drift]
    found = []
    for slow, fast, late_ms in itertools.product(rates, rates, [None, 1, 40]):
        holder, row = Holder(terms), founded("open", "eu1", 0, terms)
        trusts_ms = 0.0
        numbers = []
        for at_ms in (0, 1_000, 2_000):
            number = holder.send(int(at_ms * slow * MS))
            numbers.append(number)
            decision = ask_(row, "eu1", 1, Mark("p", number), int((at_ms + 3) * fast * MS), terms)
            row = decision.row
            assert isinstance(decision.answer, Granted)
            holder.granted(number, decision.answer, 1)
            trusts_ms = holder.until_ns / MS / slow
        now_ms = 2_010.0
        if late_ms is not None:
            now_ms += late_ms
            row = release_(row, "eu1", 1, Mark("p", numbers[1]), int(now_ms * fast * MS))
        row = promote(row, "us1", 1, int(now_ms * fast * MS), terms).row
        while True:
            now_ms += 1
            decision = ask_(row, "us1", 2, Mark("q", 1), int(now_ms * fast * MS), terms)
            row = decision.row
            if isinstance(decision.answer, Granted):
                break
        if now_ms < trusts_ms:
            found.append(f"rates {slow:.3f} {fast:.3f}: {trusts_ms - now_ms:.0f} ms of two writers")
    return found


def at_once(row: Row, region: str, epoch: int, mark: Mark, now_ns: int, terms: Terms) -> Decision:
    return ask(row._replace(busy_until_ns=0), region, epoch, mark, now_ns, terms)


def any_release(row: Row, region: str, epoch: int, mark: Mark, now_ns: int) -> Row:
    return row._replace(busy_until_ns=min(row.busy_until_ns, now_ns))


def test_trust_ends_before_the_next_lease_begins() -> None:
    assert judge(TERMS) == []


def test_the_judge_catches_drift_haste_and_a_late_release() -> None:
    assert judge(Terms(max_drift_ms=0)) != []
    assert judge(TERMS, at_once) != []
    assert judge(TERMS, release_=any_release) != []
    assert lease.FIRST_EPOCH == 1
