"""The level `replicated`: who holds a frame, who waits for it, how old what nobody holds is."""

from __future__ import annotations

import pytest

from fractal_lba_server.core import levels
from fractal_lba_server.core.levels import Levels, Parked

MS = 1_000_000
NOW_NS = 1_768_478_400_000_000_000


def pair(**more: int) -> Levels:
    """Give the levels of a stream with one peer, which two copies need."""
    return Levels(copies=2, peers=("us1",), **more)


def waiters(parked: list[Parked]) -> list[object]:
    """Name who was let go."""
    return [one.waiter for one in parked]


@pytest.mark.parametrize(
    ("copies", "peers", "is_reachable", "two_suffice"),
    [
        (1, (), False, True),
        (1, ("us1",), False, True),
        (2, (), False, True),
        (2, ("us1",), True, True),
        (3, ("us1",), False, False),
        (3, ("us1", "ap1"), True, False),
    ],
)
def test_level_is_reachable_where_there_are_regions_enough(
    copies: int, peers: tuple[str, ...], is_reachable: bool, two_suffice: bool
) -> None:
    found = Levels(copies=copies, peers=peers)
    assert (found.is_reachable, found.two_suffice) == (is_reachable, two_suffice)


@pytest.mark.parametrize(
    ("copies", "acks", "replicated"),
    [
        (2, {"us1": 5}, 5),
        (2, {"us1": 5, "ap1": 7}, 7),
        (3, {"us1": 5}, 0),
        (3, {"us1": 5, "ap1": 7}, 5),
    ],
)
def test_frame_is_replicated_when_enough_peers_hold_it(
    copies: int, acks: dict[str, int], replicated: int
) -> None:
    found = Levels(copies=copies, peers=("us1", "ap1"))
    for peer, seq in acks.items():
        assert found.acked(peer, seq, NOW_NS) == []
    assert found.replicated == replicated
    assert found.is_replicated(replicated)
    assert not found.is_replicated(replicated + 1)


def test_peer_that_goes_back_or_is_unknown_changes_nothing() -> None:
    found = pair()
    found.acked("us1", 5, NOW_NS)
    found.acked("us1", 3, NOW_NS)
    assert found.acked("ap1", 9, NOW_NS) == []
    assert found.replicated == 5


def test_word_of_a_peer_that_is_not_enough_is_heard_all_the_same() -> None:
    found = Levels(copies=3, peers=("us1",))
    assert found.is_cut_off(NOW_NS, after_ms=10)
    assert found.acked("us1", 5, NOW_NS) == []
    assert found.replicated == 0
    assert not found.is_cut_off(NOW_NS, after_ms=10)


# --- who waits -----------------------------------------------------------------------------


def test_those_who_wait_go_in_order_when_their_frame_is_held() -> None:
    found = pair()
    for seq, waiter in ((3, "c"), (1, "a"), (2, "b"), (2, "b too")):
        found.park(seq, NOW_NS, waiter)
    assert waiters(found.acked("us1", 2, NOW_NS)) == ["a", "b", "b too"]
    assert waiters(found.acked("us1", 3, NOW_NS)) == ["c"]
    assert found.next_deadline_ns() is None


def test_those_whose_time_is_over_go_and_the_others_stay() -> None:
    found = pair()
    found.park(1, NOW_NS + 2, "late")
    found.park(2, NOW_NS + 1, "early")
    assert found.next_deadline_ns() == NOW_NS + 1
    assert found.expired(NOW_NS) == []
    assert waiters(found.expired(NOW_NS + 1)) == ["early"]
    assert waiters(found.acked("us1", 2, NOW_NS)) == ["late"]


def test_those_who_wait_for_a_frame_that_lost_are_given_at_once() -> None:
    found = pair()
    for seq, waiter in ((1, "a"), (2, "b"), (2, "b too")):
        found.park(seq, NOW_NS, waiter)
    assert waiters(found.displace((2, 7))) == ["b", "b too"]
    assert found.is_displaced(2)
    assert waiters(found.acked("us1", 2, NOW_NS)) == ["a"]
    assert not found.is_replicated(2), "an acknowledgement that names it is none"
    assert found.is_replicated(1)


def test_frame_that_lost_is_forgotten_when_it_lost_here_too() -> None:
    found = pair()
    found.displace((1,))
    found.park(1, NOW_NS, "a")
    assert waiters(found.overridden(1)) == ["a"]
    assert not found.is_displaced(1)
    assert found.overridden(2) == []


def test_frames_that_lost_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "DISPLACED_MAX", 2)
    found = pair()
    found.displace((1, 2, 3))
    assert [found.is_displaced(seq) for seq in (1, 2, 3)] == [False, True, True]


# --- lag -----------------------------------------------------------------------------------


def test_lag_is_the_age_of_the_oldest_frame_that_is_not_held() -> None:
    found = pair()
    assert found.lag_ms(NOW_NS) == 0
    found.synced(1, NOW_NS)
    found.synced(2, NOW_NS + 5 * MS)
    assert found.lag_ms(NOW_NS + 9 * MS) == 9
    found.acked("us1", 1, NOW_NS)
    assert found.lag_ms(NOW_NS + 9 * MS) == 4
    found.acked("us1", 2, NOW_NS)
    assert found.lag_ms(NOW_NS + 9 * MS) == 0


def test_frame_that_is_held_before_its_sync_is_heard_of_leaves_no_lag() -> None:
    found = pair()
    found.acked("us1", 2, NOW_NS)
    found.synced(2, NOW_NS)
    assert found.lag_ms(NOW_NS + 9 * MS) == 0


def test_what_was_in_the_log_before_a_start_counts_as_old_until_it_is_held() -> None:
    found = pair(durable_seq=7)
    assert found.lag_ms(NOW_NS) >= NOW_NS // MS
    found.acked("us1", 6, NOW_NS)
    assert found.lag_ms(NOW_NS) >= NOW_NS // MS
    found.acked("us1", 7, NOW_NS)
    assert found.lag_ms(NOW_NS) == 0


def test_stream_that_is_shipped_nowhere_has_no_lag() -> None:
    found = Levels(durable_seq=7)
    found.synced(8, NOW_NS)
    assert found.lag_ms(NOW_NS + 9 * MS) == 0


def test_marks_are_bounded_and_no_age_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "UNSHIPPED_MARKS_MAX", 2)
    found = pair()
    for seq in (1, 2, 3, 4):
        found.synced(seq, NOW_NS + seq * MS)
    found.acked("us1", 3, NOW_NS)
    assert found.lag_ms(NOW_NS + 9 * MS) == 7, "4 counts from the time of 2"
    found.acked("us1", 4, NOW_NS)
    assert found.lag_ms(NOW_NS + 9 * MS) == 0


# --- silence -------------------------------------------------------------------------------


def test_region_is_cut_off_when_all_peers_are_silent() -> None:
    found = pair()
    assert found.is_cut_off(NOW_NS, after_ms=10), "nobody was heard of yet"
    found.acked("us1", 0, NOW_NS)
    assert not found.is_cut_off(NOW_NS + 10 * MS, after_ms=10)
    assert found.is_cut_off(NOW_NS + 10 * MS + 1, after_ms=10)
    found.heard(NOW_NS + 5 * MS)
    found.heard(NOW_NS)
    assert not found.is_cut_off(NOW_NS + 15 * MS, after_ms=10)
    assert not Levels().is_cut_off(NOW_NS, after_ms=10), "nobody to be cut off from"
