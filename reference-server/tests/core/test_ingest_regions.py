"""The ingest machine among regions: levels, peers' frames, leases, placements, claims, pace.

Driven by a list of events, as in `test_ingest.py`; `test_regions_simulated.py` lets them meet at
random.
"""

# tidy: long because each event has its paths, one test each

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ingest_machine import MS, NOW_NS, Machine, directory
from region import ACME, signed, tenants_document

from fractal_lba.sign import SignedRecord
from fractal_lba_server.core import hlc
from fractal_lba_server.core.facts import Facts
from fractal_lba_server.core.first_write import Apply, Key, Origin, Stored
from fractal_lba_server.core.ingest import GATE_RETRY_MS, PEER_RETRY_MS
from fractal_lba_server.core.ingest_events import (
    Answer,
    Append,
    Ask,
    BodyReceived,
    DirectoryChanged,
    Draining,
    Effect,
    FramesLost,
    FrameSynced,
    LeaseChanged,
    OpenEpoch,
    PeerAcked,
    PeerFrames,
    PeerHeard,
    PeerMerged,
    ReadRequested,
    Refuse,
    Release,
    Resumed,
    SetTimer,
    StoreAnswered,
    StoreFailed,
    StreamStopped,
    TimerFired,
    ViewApplied,
)
from fractal_lba_server.core.streams import StreamStart

PAIR = StreamStart(peers=("eu1",), copies=2)
THREE = StreamStart(peers=("eu1", "us1"), copies=3)
LEASED = StreamStart(needs_lease=True)
NOW_HLC = hlc.tick(0, NOW_NS)
EARLIER, LATER = NOW_HLC - 1_000, NOW_HLC + 1_000


def pair(start: StreamStart = PAIR, *more: StreamStart, **settings: Any) -> Machine:
    """Make a machine with peers."""
    return Machine(streams=(start, *more), **settings)


def tenant(machine: Machine, **members: Any) -> None:
    """Give tenant acme further members, from the next record on."""
    document = tenants_document()
    document["tenants"][0].update(members)
    machine.feed(DirectoryChanged(directory(document)))


def key_of(record: SignedRecord) -> Key:
    """Name the id of a record of acme."""
    return "acme", record.pcs_id


def peer_frame(
    record: SignedRecord, seq: int = 1, stamp: int = EARLIER, region: str = "eu1"
) -> Facts:
    """Give what another region has made of a record."""
    origin = Origin(region, "open", 1)
    stored = Stored(seq, record.content, 200, b'{"region":"%s"}' % region.encode(), origin, stamp)
    return Facts(key_of(record), stored, "acme-1", 2, "p" * 16)


def merge(machine: Machine, *frames: Facts, token: str = "batch") -> list[Effect]:
    """Let frames of a peer meet what stands; the store knows of no id."""
    effects = machine.feed(PeerFrames(token, frames))
    while asks := [one for one in effects if isinstance(one, Ask)]:
        effects = [one for one in effects if not isinstance(one, Ask)]
        for ask in asks:
            effects += machine.feed(StoreAnswered(ask.key, None))
    return effects


def two(number: str = "clash") -> tuple[SignedRecord, SignedRecord]:
    """Give one id with two contents."""
    return signed(number), signed(number, r=0.5)


# --- levels --------------------------------------------------------------------------------


def test_request_waits_until_a_peer_holds_its_frame() -> None:
    machine = pair()
    machine.submit(signed().body, "a", level="replicated")
    machine.submit(signed().body, "b", level="durable")
    _, timer, _, durable = machine.feed(FrameSynced(2))
    assert timer == SetTimer(NOW_NS + 5_000 * MS)
    assert (durable.token, durable.level) == ("b", "durable")
    assert machine.feed(PeerAcked("open", "eu1", 0)) == []
    answer = machine.one(PeerAcked("open", "eu1", 1))
    assert (answer.token, answer.level, answer.replayed) == ("a", "replicated", False)
    assert machine.feed(PeerAcked("open", "eu1", 2)) == []


def test_tenant_may_ask_for_a_level_once_and_for_all() -> None:
    machine = pair()
    tenant(machine, ack={"level": "replicated"})
    machine.submit(signed().body, "a")
    assert [type(one) for one in machine.feed(FrameSynced(1))] == [Apply, SetTimer]
    assert machine.one(PeerAcked("open", "eu1", 1)).token == "a"


def test_frame_that_a_peer_holds_already_is_answered_at_its_sync() -> None:
    machine = pair()
    machine.submit(signed().body, "a", level="replicated")
    assert machine.feed(PeerAcked("open", "eu1", 1)) == []
    _, answer = machine.feed(FrameSynced(1))
    assert answer.level == "replicated"


def test_duplicate_of_a_replicated_record_names_that_level() -> None:
    machine = pair()
    record = signed()
    machine.recorded(record.body)
    machine.feed(PeerAcked("open", "eu1", 1))
    assert machine.one(BodyReceived("again", record.body)).level == "replicated"
    assert machine.one(ReadRequested("read", *key_of(record))).level == "replicated"


def test_time_that_is_over_is_told_with_the_position_and_the_next_one_is_set() -> None:
    machine = pair(replicated_wait_ms=10)
    for number, token in enumerate("ab", 1):
        machine.submit(signed().body, token, level="replicated")
        machine.feed(FrameSynced(number))
        machine.now_ns += 5 * MS
    refusal, timer = machine.feed(TimerFired())
    assert (refusal.token, refusal.code, refusal.stored.seq) == ("a", "unavailable", 1)
    assert timer == SetTimer(NOW_NS + 15 * MS)
    machine.now_ns += 5 * MS
    assert machine.one(TimerFired()).token == "b"
    assert machine.feed(TimerFired()) == []


@pytest.mark.parametrize("level", ["replicated", "witnessed"])
def test_level_that_cannot_be_reached_is_refused_at_once(level: str) -> None:
    machine = pair(PAIR if level == "witnessed" else StreamStart(copies=2))
    machine.submit(signed().body, "a", level=level)
    _, refusal = machine.feed(FrameSynced(1))
    assert (refusal.code, refusal.stored.seq) == ("unavailable", 1)


@pytest.mark.parametrize(("start", "level"), [(PAIR, "replicated"), (THREE, "durable")])
def test_outcome_of_a_peer_is_as_safe_as_two_copies_are(start: StreamStart, level: str) -> None:
    machine = pair(start)
    record = signed()
    merge(machine, peer_frame(record))
    answer = machine.one(BodyReceived("a", record.body))
    assert (answer.level, answer.stored.origin.region, answer.replayed) == (level, "eu1", True)
    asked = machine.one(BodyReceived("b", record.body, level="replicated"))
    assert isinstance(asked, Answer if level == "replicated" else Refuse)


def test_outcome_of_a_placement_that_is_not_ours_any_more_is_durable() -> None:
    machine = pair()
    record = signed()
    ask = machine.one(BodyReceived("a", record.body, level="replicated"))
    old = peer_frame(record).stored._replace(origin=Origin("eu1", "moved", 1))
    refusal = machine.one(StoreAnswered(ask.key, old))
    assert (refusal.code, refusal.stored) == ("unavailable", old)
    assert machine.feed(ReadRequested("r", *ask.key)) == [Ask(ask.key)]
    assert machine.one(StoreAnswered(ask.key, old)).level == "durable"


# --- displaced while waiting ---------------------------------------------------------------


def waiting(machine: Machine, record: SignedRecord) -> None:
    """Let a request wait for its level."""
    machine.submit(record.body, "a", level="replicated")
    machine.feed(FrameSynced(machine.core.streams["open"].next_seq - 1))


def test_who_waits_is_told_at_once_when_a_peer_says_that_the_frame_lost() -> None:
    machine = pair()
    record = signed()
    waiting(machine, record)
    refusal = machine.one(PeerAcked("open", "eu1", 1, (1,)))
    assert (refusal.token, refusal.code) == ("a", "pcs_id_conflict")
    assert refusal.extras == {"displaced": True, "first_acked": "loc/open/1/1"}
    again = machine.one(BodyReceived("again", record.body))
    assert again.level == "durable", "an acknowledgement that names it is none"
    (refusal,) = machine.feed(BodyReceived("level", record.body, level="replicated"))
    assert refusal.extras == {"displaced": True, "first_acked": "loc/open/1/1"}


def test_who_waits_is_told_at_once_when_an_earlier_frame_of_a_peer_comes() -> None:
    machine = pair()
    mine, theirs = two()
    waiting(machine, mine)
    frame = peer_frame(theirs)
    refusal, row, merged = merge(machine, frame)
    assert (refusal.token, refusal.code) == ("a", "pcs_id_conflict")
    assert refusal.extras == {
        "displaced": True, "first_acked": "loc/open/1/1", "winner": {"region": "eu1"},
    }  # fmt: skip
    assert (row.wins, row.replaced.seq, row.stored) == (True, 1, frame.stored)
    assert merged == PeerMerged("batch", ())
    assert machine.feed(PeerAcked("open", "eu1", 1)) == [], "he has his answer"


def test_who_waits_has_the_first_outcome_when_a_peer_took_the_same_content_earlier() -> None:
    machine = pair()
    record = signed()
    waiting(machine, record)
    frame = peer_frame(record)
    answer, row, merged = merge(machine, frame)
    assert answer == Answer("a", frame.stored, False, key_of(record), "replicated")
    assert (row.replaced.seq, merged.displaced) == (1, ())


def test_own_frame_of_a_placement_that_is_gone_is_displaced_all_the_same() -> None:
    machine = pair()
    mine, theirs = two()
    ask = machine.one(PeerFrames("batch", (peer_frame(theirs),)))
    old = peer_frame(mine, region="loc").stored._replace(
        origin=Origin("loc", "moved", 1), hlc=LATER
    )
    row, merged = machine.feed(StoreAnswered(ask.key, old))
    assert (row.replaced, merged.displaced) == (old, ())


# --- frames of peers -----------------------------------------------------------------------


def test_frame_of_a_new_id_stands() -> None:
    machine = pair()
    record = signed()
    frame = peer_frame(record)
    assert merge(machine, frame) == [
        Apply(key_of(record), frame.stored, "acme-1"), PeerMerged("batch", ()),
    ]  # fmt: skip
    assert machine.core.recent == 1
    assert machine.core.kids_used == {"acme-1"}
    machine.feed(ViewApplied(1))
    assert machine.core.recent == 0


def test_no_frames_are_merged_at_once() -> None:
    assert pair().feed(PeerFrames("batch", ())) == [PeerMerged("batch", ())]


CLASHES: list[tuple[str, int, bool, tuple[int, ...], bool]] = [
    # what comes, its time, the same content, displaced, whether it wins
    ("later, the same", LATER, True, (), False),
    ("later, other", LATER, False, (1,), False),
    ("earlier, the same", EARLIER, True, (), True),
    ("earlier, other", EARLIER, False, (), True),
]


@pytest.mark.parametrize(
    ("stamp", "is_same", "displaced", "wins"), [r[1:] for r in CLASHES], ids=[r[0] for r in CLASHES]
)
@pytest.mark.parametrize("where", ["recent", "store"])
def test_first_in_order_stands_and_the_origin_hears_what_lost(
    where: str, stamp: int, is_same: bool, displaced: tuple[int, ...], wins: bool
) -> None:
    machine = pair()
    mine, theirs = two()
    standing = machine.recorded(mine.body)
    frame = peer_frame(mine if is_same else theirs, stamp=stamp)
    if where == "recent":
        row, merged = machine.feed(PeerFrames("batch", (frame,)))
    else:
        machine.feed(ViewApplied(1))
        ask = machine.one(PeerFrames("batch", (frame,)))
        row, merged = machine.feed(StoreAnswered(ask.key, standing))
    assert (row.wins, row.replaced) == (wins, standing if wins else None)
    assert merged == PeerMerged("batch", displaced)
    winner = frame.stored if wins else standing
    answer = machine.one(
        BodyReceived("a", (mine if winner.content == mine.content else theirs).body)
    )
    assert answer.stored == winner
    if not is_same:
        loser = mine if wins else theirs
        refusal = machine.one(BodyReceived("b", loser.body))
        assert refusal.extras["displaced"] is True
        assert refusal.extras["winner"] == json.loads(winner.outcome)
    assert machine.feed(ViewApplied(2)) == []
    assert machine.core.recent == 0


def test_frame_waits_for_an_own_one_that_is_not_durable_and_meets_it_then() -> None:
    machine = pair()
    mine, theirs = two()
    machine.submit(mine.body, "a")
    assert machine.feed(PeerFrames("batch", (peer_frame(theirs),))) == []
    own, answer, row, merged = machine.feed(FrameSynced(1))
    assert (own.wins, answer.token, row.wins) == (True, "a", True)
    assert row.replaced == own.stored, "rows follow one another"
    assert merged == PeerMerged("batch", ())


def test_frame_stands_when_the_own_one_it_waits_for_is_lost() -> None:
    machine = pair()
    mine, theirs = two()
    machine.submit(mine.body, "a")
    frame = peer_frame(theirs, stamp=LATER)
    machine.feed(PeerFrames("batch", (frame,)))
    refusal, row, merged = machine.feed(FramesLost(1))
    assert (refusal.token, refusal.code) == ("a", "unavailable")
    assert row == Apply(key_of(theirs), frame.stored, "acme-1")
    assert merged == PeerMerged("batch", ())
    assert machine.feed(PeerFrames("other", (peer_frame(theirs, region="us1"),))) != []


def test_two_frames_that_wait_for_one_own_are_merged_one_after_the_other() -> None:
    machine = pair(THREE)
    mine, theirs = two()
    machine.submit(mine.body, "a")
    first, second = peer_frame(theirs), peer_frame(theirs, region="us1", stamp=EARLIER - 1)
    machine.feed(PeerFrames("b1", (first,)))
    machine.feed(PeerFrames("b2", (second,)))
    effects = machine.feed(FrameSynced(1))
    rows = [one for one in effects if isinstance(one, Apply)]
    assert [row.replaced for row in rows] == [None, rows[0].stored, first.stored]


def test_frame_and_record_that_ask_for_one_id_are_decided_in_their_order() -> None:
    machine = pair()
    mine, theirs = two()
    frame = peer_frame(theirs)
    assert machine.feed(BodyReceived("a", mine.body)) == [Ask(key_of(mine))]
    assert machine.feed(PeerFrames("batch", (frame,))) == []
    assert [type(one) for one in machine.feed(StoreAnswered(key_of(mine), None))] == [Append]
    other = pair()
    other.feed(PeerFrames("batch", (frame,)))
    assert other.feed(BodyReceived("a", mine.body)) == []
    row, merged, refusal = other.feed(StoreAnswered(key_of(mine), None))
    assert (row.stored, merged.displaced) == (frame.stored, ())
    assert (refusal.token, refusal.code) == ("a", "pcs_id_conflict")


def test_rows_of_a_stream_are_given_in_its_order_whatever_the_store_answers_first() -> None:
    machine = pair()
    frames = [peer_frame(signed(), seq) for seq in (1, 2, 3)]
    asks = machine.feed(PeerFrames("batch", tuple(frames)))
    assert machine.feed(StoreAnswered(frames[2].key, None)) == []
    assert machine.feed(StoreAnswered(frames[1].key, None)) == []
    *rows, merged = machine.feed(StoreAnswered(frames[0].key, None))
    assert (len(asks), merged) == (3, PeerMerged("batch", ()))
    assert [row.stored.seq for row in rows] == [1, 2, 3]


def test_frame_that_waits_for_its_turn_is_answered_from_already() -> None:
    machine = pair()
    first, second = signed(), signed()
    machine.feed(PeerFrames("batch", (peer_frame(first, 1), peer_frame(second, 2))))
    assert machine.feed(StoreAnswered(key_of(second), None)) == []
    assert machine.one(BodyReceived("a", second.body)).stored.seq == 2


def test_row_says_what_the_store_holds_and_not_what_stood_when_the_frame_met() -> None:
    """A frame waits for its turn while another stream's frame of the same id goes by."""
    machine = pair(THREE)
    blocked, mine, theirs = signed(), *two()
    standing = machine.recorded(mine.body)
    slow = peer_frame(theirs, 2, EARLIER)
    machine.feed(PeerFrames("slow", (peer_frame(blocked, 1), slow)))
    quick = peer_frame(signed("clash", r=0.6), 1, EARLIER - 1, "us1")
    row, merged = machine.feed(PeerFrames("quick", (quick,)))
    assert (row.wins, row.replaced) == (True, standing), "the store has not seen the slow one"
    assert merged == PeerMerged("quick", ())
    effects = machine.feed(StoreAnswered(key_of(blocked), None))
    rows = [one for one in effects if isinstance(one, Apply)]
    assert [(row.stored.seq, row.wins) for row in rows] == [(1, True), (2, False)]
    assert effects[-1] == PeerMerged("slow", ()), "it stood when it met"
    assert machine.core.recent == 2
    machine.feed(ViewApplied(4))
    assert machine.core.recent == 0


def test_frames_that_come_again_change_nothing_and_displace_the_same() -> None:
    machine = pair()
    mine, theirs = two()
    machine.recorded(mine.body)
    frames = (peer_frame(signed(), 1), peer_frame(theirs, 2, LATER), peer_frame(signed(), 3))
    assert merge(machine, *frames)[-1] == PeerMerged("batch", (2,))
    assert merge(machine, *frames, token="again") == [PeerMerged("again", (2,))]
    machine.feed(ViewApplied(4))
    asks = machine.feed(PeerFrames("third", frames))
    effects = [
        machine.feed(StoreAnswered(ask.key, peer_frame(mine, region="loc").stored
                                   if ask.key == key_of(mine) else frames[n].stored))
        for n, ask in enumerate(asks)
    ]  # fmt: skip
    assert effects == [[], [], [PeerMerged("third", (2,))]]
    assert machine.core.recent == 0


def test_frame_that_comes_again_while_it_waits_is_asked_for_once() -> None:
    machine = pair()
    frame = peer_frame(signed())
    assert len(machine.feed(PeerFrames("one", (frame,)))) == 1
    assert machine.feed(PeerFrames("two", (frame,))) == []
    row, *merged = machine.feed(StoreAnswered(frame.key, None))
    assert isinstance(row, Apply)
    assert merged == [PeerMerged("one", ()), PeerMerged("two", ())]


def test_frame_that_the_store_holds_after_a_restart_leaves_no_row() -> None:
    machine = pair()
    frame = peer_frame(signed(), 5)
    ask = machine.one(PeerFrames("batch", (frame,)))
    kept = frame.stored._replace()
    assert kept is not frame.stored
    assert machine.feed(StoreAnswered(ask.key, kept)) == [PeerMerged("batch", ())]
    assert machine.core.recent == 0


def test_frame_that_the_store_holds_as_overridden_is_kept_once() -> None:
    machine = pair()
    mine, theirs = two()
    lost, winner = peer_frame(mine, 5, LATER), peer_frame(theirs, region="us1").stored
    ask = machine.one(PeerFrames("batch", (lost,)))
    row, merged = machine.feed(StoreAnswered(ask.key, winner, (lost.stored,)))
    assert (row.wins, merged.displaced) == (False, (5,))
    assert machine.core._recent[ask.key].overridden == [lost.stored]


def test_displaced_client_is_told_so_although_the_store_alone_remembers() -> None:
    machine = pair(THREE)
    mine, theirs = two()
    old, new = peer_frame(mine, region="us1", stamp=LATER), peer_frame(mine, 9, LATER + 1)
    winner = peer_frame(theirs, region="us1", seq=2).stored
    ask = machine.one(PeerFrames("batch", (new,)))
    machine.feed(StoreAnswered(ask.key, winner, (old.stored,)))
    refusal = machine.one(BodyReceived("a", mine.body))
    assert refusal.extras["first_acked"] == "us1/open/1/1"
    direct = pair()
    ask = direct.one(BodyReceived("a", mine.body))
    refusal = direct.one(StoreAnswered(ask.key, winner, (old.stored,)))
    assert refusal.extras["first_acked"] == "us1/open/1/1"


def test_store_that_cannot_answer_lets_frames_wait_and_is_asked_again() -> None:
    machine = pair()
    frame = peer_frame(signed())
    ask = machine.one(PeerFrames("batch", (frame,)))
    assert machine.feed(StoreFailed(ask.key)) == [SetTimer(NOW_NS + PEER_RETRY_MS * MS)]
    machine.now_ns += PEER_RETRY_MS * MS
    assert machine.feed(TimerFired()) == [ask]
    assert isinstance(machine.feed(StoreAnswered(ask.key, None))[0], Apply)


def test_look_ups_stand_behind_all_else_so_that_they_may_be_answered_at_once() -> None:
    """Or the rows that an answer gives would overtake those of the event that asked."""
    machine = pair()
    mine, other = signed(), signed()
    first, second = peer_frame(mine, 1), peer_frame(other, 2)
    machine.feed(PeerFrames("batch", (first, second)))
    machine.feed(StoreFailed(second.key))
    machine.feed(StoreFailed(first.key))
    machine.recorded(mine.body)
    row, ask = machine.feed(TimerFired())
    assert (row.stored, ask) == (first.stored, Ask(second.key))


def test_timer_that_stands_behind_a_look_up_is_not_lost() -> None:
    machine = pair(recent_max=1)
    machine.recorded(signed().body)
    effects = machine.feed(PeerFrames("batch", tuple(peer_frame(signed(), seq) for seq in (1, 2))))
    assert [type(one) for one in effects] == [SetTimer, Ask]


def test_frames_wait_while_too_many_outcomes_wait_for_the_index() -> None:
    machine = pair(recent_max=2)
    machine.recorded(signed().body)
    machine.recorded(signed().body)
    frames = [peer_frame(signed(), seq) for seq in (1, 2)]
    timer, asked = machine.feed(PeerFrames("batch", tuple(frames)))
    assert asked == Ask(frames[0].key), "the next of a stream goes on, or nothing would"
    assert isinstance(timer, SetTimer)
    assert len(machine.feed(StoreAnswered(frames[0].key, None))) == 1
    assert machine.feed(TimerFired()) == [Ask(frames[1].key)], "it is the next one now"


def test_clock_follows_what_was_merged() -> None:
    machine = pair()
    merge(machine, peer_frame(signed(), stamp=LATER))
    assert machine.recorded(signed().body).hlc == LATER + 1
    ahead = hlc.tick(0, NOW_NS + 501 * MS)
    merge(machine, peer_frame(signed(), 2, stamp=ahead))
    assert "clock" in str(machine.core.closed(NOW_NS))


def test_read_sees_what_a_peer_took() -> None:
    machine = pair()
    record = signed()
    ask = machine.one(PeerFrames("batch", (peer_frame(record),)))
    assert machine.feed(ReadRequested("r", *ask.key)) == []
    *_, answer = machine.feed(StoreAnswered(ask.key, None))
    assert (answer.token, answer.stored.origin.region) == ("r", "eu1")


# --- leases --------------------------------------------------------------------------------


def test_records_are_refused_without_a_lease_with_the_way_to_the_leader() -> None:
    machine = pair(LEASED)
    record = signed()
    assert machine.refused(record.body) == "not_primary"
    assert machine.core.closed(NOW_NS) == "this region does not lead the placement"
    machine.feed(LeaseChanged("open", 0, 2, "https://eu.example"))
    refusal = machine.one(BodyReceived("a", record.body))
    assert (refusal.code, refusal.retry_after_ms) == ("not_leader", None)
    assert refusal.extras == {
        "leader_hint": {"endpoint": "https://eu.example", "region_epoch": 2}
    }  # fmt: skip
    machine.feed(LeaseChanged("open", NOW_NS + MS, 2))
    assert machine.core.closed(NOW_NS) is None
    assert machine.recorded(record.body).seq == 1


def test_lease_of_a_new_epoch_opens_it_and_one_of_the_same_does_not() -> None:
    machine = pair(LEASED)
    assert machine.feed(LeaseChanged("open", NOW_NS + MS, 1)) == []
    assert machine.recorded(signed().body).origin.region_epoch == 1
    assert machine.feed(LeaseChanged("open", NOW_NS + MS, 3)) == [OpenEpoch("open", 3)]
    (append,) = machine.submit(signed().body)
    assert isinstance(append, Append)
    assert machine.feed(FrameSynced(2))[0].stored.origin == Origin("loc", "open", 3)
    assert machine.feed(LeaseChanged("open", 0, 4, "https://eu.example")) == []
    assert machine.core.streams["open"].closed_epochs == [(1, 1)]


def test_record_that_is_durable_after_the_lease_has_ended_is_not_acknowledged() -> None:
    machine = pair(LEASED)
    machine.feed(LeaseChanged("open", NOW_NS + MS, 1))
    machine.submit(signed().body, "a")
    machine.now_ns += MS
    row, refusal = machine.feed(FrameSynced(1))
    assert isinstance(row, Apply)
    assert (refusal.code, refusal.stored, refusal.retry_after_ms) == (
        "unavailable", row.stored, GATE_RETRY_MS,
    )  # fmt: skip


def test_record_of_an_earlier_lease_is_not_acknowledged_under_a_new_one() -> None:
    """Another region may have written in between."""
    machine = pair(LEASED)
    machine.feed(LeaseChanged("open", NOW_NS + MS, 1))
    machine.submit(signed().body, "a")
    machine.feed(LeaseChanged("open", 0, 2, "https://eu.example"))
    machine.feed(LeaseChanged("open", NOW_NS + MS, 3))
    _, refusal = machine.feed(FrameSynced(1))
    assert refusal.code == "unavailable"


@pytest.mark.parametrize("is_known", [True, False])
def test_record_is_refused_when_the_lease_ends_while_the_store_is_asked(is_known: bool) -> None:
    machine = pair(LEASED)
    machine.feed(LeaseChanged("open", NOW_NS + MS, 1))
    record = signed()
    ask = machine.one(BodyReceived("a", record.body))
    machine.now_ns += MS
    stored = peer_frame(record).stored if is_known else None
    assert machine.one(StoreAnswered(ask.key, stored)).code == "not_primary"


def test_stream_that_must_not_grow_takes_no_record() -> None:
    machine = pair()
    machine.feed(StreamStopped("open", "a peer holds more than our log"))
    refusal = machine.one(BodyReceived("a", signed().body))
    assert (refusal.code, refusal.message) == ("unavailable", "a peer holds more than our log")


# --- placements ----------------------------------------------------------------------------


def test_tenant_of_another_placement_is_sent_to_its_regions() -> None:
    machine = pair(PAIR, elsewhere={"eu-only": "https://eu.example"})
    tenant(machine, placement="eu-only")
    refusal = machine.one(BodyReceived("a", signed().body))
    assert (refusal.code, refusal.retry_after_ms) == ("wrong_region", None)
    assert refusal.extras == {
        "leader_hint": {"endpoint": "https://eu.example", "region_epoch": 0}
    }  # fmt: skip
    tenant(machine, placement="unknown")
    refusal = machine.one(BodyReceived("a", signed().body))
    assert (refusal.code, refusal.extras) == ("wrong_region", None)


def test_streams_of_two_placements_have_numbers_of_their_own() -> None:
    machine = pair(PAIR, StreamStart(placement="eu-only", next_seq=7))
    assert machine.recorded(signed().body).seq == 1
    tenant(machine, placement="eu-only")
    (append,) = machine.submit(signed().body)
    assert isinstance(append, Append)
    assert (append.placement, append.seq) == ("eu-only", 7)
    assert machine.feed(FrameSynced(7, "eu-only"))[0].stored.origin.placement == "eu-only"
    machine.feed(FramesLost(2))
    assert machine.core.closed(NOW_NS) is None, "one placement is enough to be open"


def test_region_that_holds_no_placement_is_closed() -> None:
    machine = pair()
    machine.core._streams.clear()
    assert "no placement" in str(machine.core.closed(NOW_NS))


@pytest.mark.parametrize(("policy", "is_taken"), [("accept", True), ("refuse", False)])
def test_tenant_chooses_what_happens_when_the_region_is_cut_off(
    policy: str, is_taken: bool
) -> None:
    machine = pair(PAIR, cut_off_ms=10)
    tenant(machine, on_partition=policy)
    machine.feed(PeerAcked("open", "eu1", 0))
    assert machine.recorded(signed().body).seq == 1
    machine.now_ns += 11 * MS
    effects = machine.submit(signed().body)
    assert isinstance(effects[0], Append) == is_taken
    machine.feed(PeerHeard("open", machine.now_ns))
    assert isinstance(machine.submit(signed().body)[0], Append)


# --- pace ----------------------------------------------------------------------------------


def paced() -> Machine:
    """Make a machine whose tenant bounds what a lost region costs by 1 s."""
    machine = pair()
    tenant(machine, ack={"rpo_ms": 1_000})
    assert machine.recorded(signed().body).seq == 1
    return machine


def test_write_is_held_back_when_the_lag_comes_near_the_bound() -> None:
    machine = paced()
    machine.now_ns += 900 * MS
    (timer,) = machine.feed(BodyReceived("a", signed().body))
    assert isinstance(timer, SetTimer)
    assert timer.at_ns > machine.now_ns
    assert machine.feed(TimerFired()) == [timer], "too early, so it is set again"
    machine.now_ns = timer.at_ns
    assert isinstance(machine.one(TimerFired()), Ask)


def test_write_is_refused_at_the_bound_and_taken_again_below_it() -> None:
    machine = paced()
    machine.now_ns += 3_600_000 * MS
    refusal = machine.one(BodyReceived("a", signed().body))
    assert (refusal.code, refusal.retry_after_ms) == ("unavailable", GATE_RETRY_MS)
    machine.feed(PeerAcked("open", "eu1", 1))
    machine.now_ns += 1_000 * MS
    assert machine.recorded(signed().body).seq == 2


def test_write_that_was_held_back_is_refused_when_the_region_was_left_without_space() -> None:
    machine = paced()
    machine.now_ns += 900 * MS
    (timer,) = machine.feed(BodyReceived("a", signed().body))
    machine.feed(FramesLost(2))
    machine.now_ns = timer.at_ns
    refusal = machine.one(TimerFired())
    assert (refusal.token, refusal.code) == ("a", "unavailable")


def test_earlier_timer_is_kept_and_a_later_one_follows_it() -> None:
    machine = pair(PAIR, replicated_wait_ms=10)
    tenant(machine, ack={"rpo_ms": 1_000})
    machine.recorded(signed().body)
    machine.now_ns += 900 * MS
    (later,) = machine.feed(BodyReceived("paced", signed().body))
    tenant(machine)
    machine.submit(signed().body, "a", level="replicated")
    _, sooner = machine.feed(FrameSynced(2))
    assert sooner.at_ns < later.at_ns
    machine.submit(signed().body, "b", level="replicated")
    machine.now_ns += MS
    assert [type(one) for one in machine.feed(FrameSynced(3))] == [Apply], "the timer stands"
    machine.now_ns = later.at_ns
    assert [one.token for one in machine.feed(TimerFired()) if isinstance(one, Refuse)] == [
        "a", "b",
    ]  # fmt: skip


# --- claims --------------------------------------------------------------------------------


def claiming() -> Machine:
    """Make a machine that shares its ids with other processes."""
    return Machine(claims=True)


def test_id_is_claimed_with_its_content_and_given_back_when_no_frame_follows() -> None:
    machine = claiming()
    record = signed()
    ask = machine.one(BodyReceived("a", record.body))
    assert ask == Ask(key_of(record), record.content)
    machine.feed(StoreAnswered(ask.key, None))
    refusal, release = machine.feed(FramesLost(1))
    assert (refusal.token, release) == ("a", Release(ask.key))


def test_claim_is_given_back_when_the_record_is_refused_after_all() -> None:
    machine = claiming()
    record = signed()
    for stored, count in ((None, 2), (peer_frame(record).stored, 1)):
        ask = machine.one(BodyReceived("a", record.body))
        machine.feed(FramesLost(1))
        effects = machine.feed(StoreAnswered(ask.key, stored))
        assert len(effects) == count
        assert (effects[0] == Release(ask.key)) == (stored is None)
        machine.core.streams["open"].has_space = True


def _read(record: SignedRecord) -> object:
    return ReadRequested("r", *key_of(record))


def _frame(record: SignedRecord) -> object:
    return PeerFrames("batch", (peer_frame(record),))


@pytest.mark.parametrize("first", [_read, _frame])
def test_id_that_somebody_else_asked_for_first_is_claimed_before_it_is_decided(
    first: Callable[[SignedRecord], object],
) -> None:
    machine = claiming()
    record = signed()
    assert machine.one(first(record)) == Ask(key_of(record))
    assert machine.feed(BodyReceived("a", record.body)) == []
    effects = machine.feed(StoreAnswered(key_of(record), None))
    if first is _read:
        assert effects[-1] == Ask(key_of(record), record.content)
        assert isinstance(machine.one(StoreAnswered(key_of(record), None)), Append)
    else:
        assert isinstance(effects[-1], Answer), "the frame is the first"


def test_outcome_in_the_store_needs_no_claim() -> None:
    machine = claiming()
    record = signed()
    machine.feed(_read(record))
    machine.feed(BodyReceived("a", record.body))
    read, answer = machine.feed(StoreAnswered(key_of(record), peer_frame(record).stored))
    assert (read.token, answer.token) == ("r", "a")


# --- draining ------------------------------------------------------------------------------


def test_drained_region_still_merges_and_answers_reads_and_resumes() -> None:
    machine = pair()
    record = signed()
    machine.feed(Draining())
    assert isinstance(merge(machine, peer_frame(record))[0], Apply)
    assert isinstance(machine.one(ReadRequested("r", *key_of(record))), Answer)
    assert machine.refused(signed().body) == "unavailable"
    assert machine.feed(Resumed()) == []
    assert machine.recorded(signed(signer=ACME).body).seq == 1


def test_durable_outcomes_are_named_until_the_store_holds_them() -> None:
    machine = Machine()
    (append,) = machine.submit(signed("unapplied").body)
    assert machine.core.unapplied() == []
    machine.feed(FrameSynced(append.seq))
    ((key, stored),) = machine.core.unapplied()
    assert (key[0], stored.seq) == ("acme", append.seq)
    machine.feed(ViewApplied(1))
    assert machine.core.unapplied() == []
