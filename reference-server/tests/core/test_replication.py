"""The shipper and the receiver, one rule of spec/shipping.md at a time."""

# tidy: long because sender and receiver speak to each other in some of the tests

from __future__ import annotations

from typing import Any

import pytest
from shipping_frames import (
    NOW_MS,
    NOW_NS,
    ORIGIN,
    REGION_KEYS,
    SegmentBuilder,
    batch_signature,
    replay,
)

from fractal_lba_server.core import receiver as take
from fractal_lba_server.core import replication as ship
from fractal_lba_server.core.hlc import COUNTER_BITS
from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.receiver import Held, Receiver
from fractal_lba_server.core.replication import (
    NOTHING,
    LostTail,
    Mark,
    Shipper,
    TailHeld,
    lost_tail,
    signature_holds,
)
from fractal_lba_server.core.segment import HEADER_BYTES, Header, read_frame

# --- the shipper ---------------------------------------------------------------------------


class Sender:
    """A shipper and what it wants."""

    def __init__(self, **facts: Any) -> None:
        self.core = Shipper(**{"region_epoch": 1, **facts})
        self.now_ns = NOW_NS

    def feed(self, event: object) -> list[Any]:
        return self.core.on_event(event, self.now_ns)

    def one(self, event: object, kind: type) -> Any:
        """Feed an event; give its one effect of this kind."""
        (found,) = [effect for effect in self.feed(event) if isinstance(effect, kind)]
        return found

    def at(self, mark: Mark, tail: ship.TailGrown | ship.SegmentSealed) -> ship.Send:
        """Bring it to a peer that holds `mark`; give what it sends first."""
        ask = self.one(tail, ship.AskPeer)
        send: ship.Send = self.one(ship.PeerHolds(ask.token, mark), ship.Send)
        return send


TAIL = ship.TailGrown(1, 500, 4)


def test_peer_is_asked_before_anything_is_sent() -> None:
    sender = Sender()
    (ask,) = sender.feed(TAIL)
    assert ask == ship.AskPeer(1, 4)
    assert sender.core.state == "idle"
    told, send = sender.feed(ship.PeerHolds(1, NOTHING))
    assert told == ship.Acknowledged(0, ())
    assert send == ship.Send(2, 1, 1, 0, 500, 0)
    assert sender.core.state == "sending"


def test_what_becomes_durable_meanwhile_goes_with_the_next_batch() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    assert sender.feed(ship.TailGrown(1, 700, 6)) == []
    assert sender.feed(ship.TailGrown(1, 900, 8)) == []
    mark = Mark(1, 500, 4, sealed=False)
    persist, acknowledged, following = sender.feed(ship.PeerAcked(send.token, mark))
    assert persist == ship.PersistWatermark(mark)
    assert acknowledged == ship.Acknowledged(4, ())
    assert (following.offset, following.until, following.seq) == (500, 900, 4)
    assert sender.core.acked == mark


def test_h41_tail_of_an_open_segment_ships_without_waiting_for_its_end() -> None:
    # The literal design ships closed segments only: a segment that never fills never leaves.
    class ClosedOnly(Shipper):
        def _on_tail(self, event: ship.TailGrown, now_ns: int) -> list[ship.Effect]:
            return []

    def shipped(kind: type[Shipper]) -> bool:
        core = kind(region_epoch=1)
        effects = core.on_event(TAIL, NOW_NS) or core._go_on(NOW_NS)
        (ask,) = effects
        assert isinstance(ask, ship.AskPeer)
        answer = core.on_event(ship.PeerHolds(ask.token, NOTHING), NOW_NS)
        return any(isinstance(effect, ship.Send) for effect in answer)

    assert shipped(Shipper)
    assert not shipped(ClosedOnly)


def test_sealed_segment_is_followed_by_the_next() -> None:
    sender = Sender()
    send = sender.at(NOTHING, ship.SegmentSealed(1, 580, 4))
    sender.feed(ship.TailGrown(5, 300, 6))
    mark = Mark(1, 580, 4, sealed=True)
    following = sender.one(ship.PeerAcked(send.token, mark), ship.Send)
    assert (following.first_seq, following.offset, following.until) == (5, 0, 300)


def test_idle_stream_speaks_each_second() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    mark = Mark(1, 500, 4, sealed=False)
    timer = sender.one(ship.PeerAcked(send.token, mark), ship.SetTimer)
    assert timer.at_ns == NOW_NS + ship.HEARTBEAT_MS * 1_000_000
    assert sender.feed(ship.TimerFired(timer.token - 1)) == []
    (ask,) = sender.feed(ship.TimerFired(timer.token))
    assert ask == ship.AskPeer(ask.token, 4)
    told, again = sender.feed(ship.PeerHolds(ask.token, mark))
    assert told == ship.Acknowledged(4, ())  # that the peer has spoken is told each time
    assert isinstance(again, ship.SetTimer)
    # A frame does not wait for the timer, and the timer that is left over says nothing.
    assert isinstance(sender.feed(ship.TailGrown(1, 600, 5))[0], ship.Send)
    assert sender.feed(ship.TimerFired(again.token)) == []


def test_second_tail_while_idle_keeps_the_timer() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    sender.feed(ship.PeerAcked(send.token, Mark(1, 500, 4, sealed=False)))
    assert sender.feed(TAIL) == []


def test_failures_wait_longer_and_longer_up_to_a_bound() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    waits = []
    token = send.token
    for _ in range(12):
        (timer,) = sender.feed(ship.PeerFailed(token, "unreachable"))
        assert sender.core.state == "waiting"
        waits.append((timer.at_ns - NOW_NS) // 1_000_000)
        assert sender.feed(ship.TailGrown(1, 500, 4)) == []  # a wait is a wait
        (again,) = sender.feed(ship.TimerFired(timer.token))
        assert again[1:] == send[1:]
        token = again.token
    assert waits == [100, 200, 400, 800, 1600, 3200] + [5_000] * 6


def test_alarm_is_raised_once_until_the_stream_moves_on() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    first = sender.feed(ship.PeerFailed(send.token, "frame_refused", "frame 3"))
    assert first[0] == ship.RaiseAlarm("frame_refused", "frame 3")
    (again,) = sender.feed(ship.TimerFired(first[1].token))
    (timer,) = sender.feed(ship.PeerFailed(again.token, "frame_refused", "frame 3"))
    (third,) = sender.feed(ship.TimerFired(timer.token))
    sender.feed(ship.PeerAcked(third.token, Mark(1, 300, 2, sealed=False)))
    fourth = sender.feed(ship.PeerFailed(third.token + 1, "frame_refused", "frame 3"))
    assert isinstance(fourth[0], ship.RaiseAlarm)


def test_answers_of_attempts_that_were_given_up_change_nothing() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    (timer,) = sender.feed(ship.PeerFailed(send.token, "unreachable"))
    mark = Mark(1, 500, 4, sealed=False)
    for event in (
        ship.PeerAcked(send.token, mark),
        ship.PeerFailed(send.token, "fenced", fenced_epoch=9),
        ship.PeerHolds(send.token, mark),
    ):
        assert sender.feed(event) == []
    assert sender.core.acked == NOTHING
    sender.feed(ship.TimerFired(timer.token))
    # An acknowledgement is no answer to a question.
    other = Sender()
    ask = other.one(TAIL, ship.AskPeer)
    assert other.feed(ship.PeerAcked(ask.token, mark)) == []


def test_gap_goes_on_from_what_the_peer_holds() -> None:
    sender = Sender()
    send = sender.at(Mark(1, 200, 1, sealed=False), TAIL)
    assert (send.offset, send.seq) == (200, 1)
    effects = sender.feed(ship.PeerFailed(send.token, "gap", holds=NOTHING))
    assert not any(isinstance(effect, ship.Acknowledged) for effect in effects)
    assert effects[0] == ship.RaiseAlarm(
        "peer_log_lost", "the peer has acknowledged number 1 and holds 0"
    )
    assert effects[1].offset == 0
    # The watermark stays, and moves on only beyond where it was.
    assert sender.core.acked.seq == 1
    (more,) = sender.feed(ship.PeerAcked(effects[1].token, Mark(1, 200, 1, sealed=False)))
    assert isinstance(more, ship.Send)
    assert sender.feed(ship.PeerAcked(more.token, Mark(1, 500, 4, sealed=False)))[0] == (
        ship.PersistWatermark(Mark(1, 500, 4, sealed=False))
    )


def test_gap_that_names_the_same_place_waits() -> None:
    sender = Sender()
    held = Mark(1, 200, 1, sealed=False)
    send = sender.at(held, TAIL)
    (timer,) = sender.feed(ship.PeerFailed(send.token, "gap", holds=held))
    assert isinstance(timer, ship.SetTimer)
    (again,) = sender.feed(ship.TimerFired(timer.token))
    (timer,) = sender.feed(ship.PeerFailed(again.token, "gap"))
    assert isinstance(timer, ship.SetTimer)


def test_missing_segment_stops_the_stream_with_an_error() -> None:
    sender = Sender()
    ask = sender.one(ship.SegmentSealed(1, 580, 4), ship.AskPeer)
    sender.feed(ship.TailGrown(9, 300, 10))  # 5 to 8 are missing
    (alarm,) = [
        effect
        for effect in sender.feed(ship.PeerHolds(ask.token, Mark(1, 580, 4, sealed=True)))
        if isinstance(effect, ship.RaiseAlarm)
    ]
    assert alarm.code == "gap"
    assert (sender.core.stopped, sender.core.state) == ("gap", "stopped")
    assert sender.feed(ship.TailGrown(9, 400, 11)) == []


def test_peer_that_holds_more_than_our_log_stops_the_stream() -> None:
    for mark in (Mark(1, 600, 5, sealed=False), Mark(1, 580, 4, sealed=True)):
        sender = Sender()
        ask = sender.one(TAIL, ship.AskPeer)
        (alarm,) = sender.feed(ship.PeerHolds(ask.token, mark))
        assert alarm.code == "local_log_lost"
        assert sender.core.acked == NOTHING


@pytest.mark.parametrize(
    "mark",
    [
        Mark(2, 300, 2, sealed=False),  # no segment of ours
        Mark(1, 600, 3, sealed=False),  # longer than ours
        Mark(1, 500, 3, sealed=False),  # our end, but another number
        Mark(1, 300, 2, sealed=True),  # sealed where ours goes on
    ],
)
def test_peer_that_ends_where_we_do_not_is_a_fork(mark: Mark) -> None:
    sender = Sender()
    ask = sender.one(TAIL, ship.AskPeer)
    (alarm,) = sender.feed(ship.PeerHolds(ask.token, mark))
    assert alarm.code == "fork"


@pytest.mark.parametrize(
    "mark",
    [
        Mark(2, 500, 4, sealed=False),  # of another segment
        Mark(1, 0, 0, sealed=False),  # nothing
        Mark(1, 501, 4, sealed=False),  # more than was sent
        Mark(1, 500, 3, sealed=False),  # another number
    ],
)
def test_acknowledgement_of_what_was_not_sent_moves_no_watermark(mark: Mark) -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    alarm, timer = sender.feed(ship.PeerAcked(send.token, mark))
    assert alarm.code == "fork"
    assert isinstance(timer, ship.SetTimer)
    assert sender.core.acked == NOTHING


def test_kept_watermark_is_where_sending_goes_on_after_a_start() -> None:
    kept = Mark(1, 200, 1, sealed=False)
    sender = Sender(acked=kept)
    send = sender.at(Mark(1, 400, 3, sealed=False), TAIL)
    # What lies between goes again: only an acknowledgement says what was displaced there.
    other = Sender(acked=kept)
    ask = other.one(TAIL, ship.AskPeer)
    told = other.one(ship.PeerHolds(ask.token, Mark(1, 400, 3, sealed=False)), ship.Acknowledged)
    assert told == ship.Acknowledged(1, ())
    assert (send.offset, send.seq) == (200, 1)
    assert sender.core.acked == kept
    mark = Mark(1, 400, 3, sealed=False)
    effects = sender.feed(ship.PeerAcked(send.token, mark, (2,)))
    assert effects[1] == ship.Acknowledged(3, (2,))
    assert sender.core.tail.seq == 4


def test_watermark_that_is_not_of_this_log_is_not_believed() -> None:
    sender = Sender(acked=Mark(7, 200, 3, sealed=False))
    send = sender.at(Mark(1, 400, 3, sealed=False), TAIL)
    assert send.offset == 400


def test_displaced_frames_of_a_repeated_batch_are_told_again() -> None:
    sender = Sender(acked=Mark(1, 400, 3, sealed=False))
    ask = sender.one(TAIL, ship.AskPeer)
    effects = sender.feed(ship.PeerHolds(ask.token, Mark(1, 200, 1, sealed=False)))
    send = effects[-1]
    told = sender.feed(ship.PeerAcked(send.token, Mark(1, 400, 3, sealed=False), (2,)))
    assert told[0] == ship.Acknowledged(3, (2,))


def test_fence_stops_a_stream_until_its_region_has_adopted_a_higher_epoch() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    (alarm,) = sender.feed(ship.PeerFailed(send.token, "fenced", fenced_epoch=3))
    assert (alarm.code, alarm.fenced_epoch, sender.core.stopped) == ("fenced", 3, "fenced")
    ask = sender.one(ship.EpochAdopted(2), ship.AskPeer)
    (alarm,) = sender.feed(ship.PeerHolds(ask.token, NOTHING, fenced_epoch=3))
    assert alarm.code == "fenced"
    ask = sender.one(ship.EpochAdopted(3), ship.AskPeer)
    send = sender.one(ship.PeerHolds(ask.token, NOTHING, fenced_epoch=3), ship.Send)
    assert send.region_epoch == 3
    assert sender.feed(ship.EpochAdopted(3)) == []  # and nothing is sent twice


def test_fence_that_is_met_after_the_epoch_was_raised_stops_nothing() -> None:
    sender = Sender()
    send = sender.at(NOTHING, TAIL)
    assert sender.feed(ship.EpochAdopted(3)) == []  # the batch on its way still has the old one
    (timer,) = sender.feed(ship.PeerFailed(send.token, "fenced", fenced_epoch=3))
    (again,) = sender.feed(ship.TimerFired(timer.token))
    assert (again.region_epoch, sender.core.stopped) == (3, None)


def test_h42_watermark_is_what_the_peer_said_not_what_a_store_was_given() -> None:
    # The literal design counts what an object store has taken as replicated: it says nothing
    # about when, or whether, the other region has it.
    class StoreIsEnough(Shipper):
        def _go_on(self, now_ns: int) -> list[ship.Effect]:
            effects = super()._go_on(now_ns)
            if effects and isinstance(effects[0], ship.Send):
                effects += self._advance(self._tail, ())
            return effects

    def acknowledged(kind: type[Shipper]) -> int:
        sender = Sender()
        sender.core = kind(region_epoch=1)
        sender.at(NOTHING, TAIL)
        return sender.core.acked.seq

    assert acknowledged(Shipper) == 0
    assert acknowledged(StoreIsEnough) == 4


# --- the receiver --------------------------------------------------------------------------


class Mirror:
    """A receiver with its mirror in memory."""

    def __init__(self, kind: type[Receiver] = Receiver, **facts: Any) -> None:
        self.core = kind(
            **{
                "region": "eu1",
                "placement": "open",
                "replay": replay(),
                "public_key": REGION_KEYS["eu1"].public_key,
                **facts,
            }
        )
        self.now_ns = NOW_NS
        self.files: dict[int, bytes] = {}
        self.merged: list[int] = []
        self.displaced: tuple[int, ...] = ()
        self.tokens = 0

    def feed(self, event: object) -> list[Any]:
        return self.core.on_event(event, self.now_ns)

    def batch(self, first: int, offset: int, body: bytes, **facts: Any) -> take.BatchReceived:
        self.tokens += 1
        epoch = facts.pop("region_epoch", 1)
        signature = facts.pop("signature", None) or batch_signature(
            "eu1", "open", epoch, first, offset, body
        )
        held = self.files.get(first, b"")[offset : offset + len(body)]
        return take.BatchReceived(self.tokens, epoch, first, offset, body, signature, held, **facts)

    def receive(self, first: int, offset: int, body: bytes, **facts: Any) -> Any:
        """Take a batch through to its answer."""
        effects = self.feed(self.batch(first, offset, body, **facts))
        while not isinstance(effects[0], take.Ack | take.Refuse):
            effect = effects.pop(0)
            match effect:
                case take.AppendMirror():
                    held = self.files.get(effect.first_seq, b"")
                    assert len(held) == effect.offset
                    self.files[effect.first_seq] = held + effect.data
                    effects = self.feed(take.MirrorWritten(effect.token)) + effects
                case take.ApplyFrames():
                    self.merged += [one.frame.seq for one in effect.frames]
                    effects = effects + self.feed(take.FramesApplied(effect.token, self.displaced))
        return effects[0]

    def refused(self, first: int, offset: int, body: bytes, **facts: Any) -> str:
        """Take a batch that is refused; give the fault."""
        answer = self.receive(first, offset, body, **facts)
        assert isinstance(answer, take.Refuse), answer
        return answer.fault


@pytest.fixture
def stream() -> SegmentBuilder:
    """Give a stream of two segments, of which the first is sealed."""
    made = SegmentBuilder()
    made.begin()
    made.add(4)
    made.seal()
    made.begin()
    made.add(3)
    return made


def cut(data: bytes, frames: int, offset: int = HEADER_BYTES) -> int:
    """Say where so many frames end."""
    for _ in range(frames):
        offset = read_frame(data, offset).end
    return offset


def test_stream_is_taken_in_batches_and_kept_byte_for_byte(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    first, second = stream.files[1], stream.files[5]
    at = cut(first, 2)
    assert mirror.receive(1, 0, first[:at]).mark == Mark(1, at, 2, sealed=False)
    assert mirror.receive(1, at, first[at:]).mark == Mark(1, len(first), 4, sealed=True)
    assert mirror.core.prev_sha256 == first[-32:]
    assert mirror.receive(5, 0, second).mark == Mark(5, len(second), 7, sealed=False)
    assert mirror.files == stream.files
    assert mirror.merged == [1, 2, 3, 4, 5, 6, 7]
    assert mirror.core.header_epoch == 1


def test_footer_alone_seals(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    data = stream.files[1]
    mirror.receive(1, 0, data[:-80])
    assert mirror.receive(1, len(data) - 80, data[-80:]).mark == Mark(1, len(data), 4, sealed=True)


def test_replaying_a_batch_changes_nothing_and_is_answered_again(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    mirror.displaced = (2,)
    first = stream.files[1]
    answers = [mirror.receive(1, 0, first) for _ in range(2)]
    assert answers[0][1:] == answers[1][1:] == (Mark(1, len(first), 4, sealed=True), (2,))
    mirror.receive(5, 0, stream.files[5])
    # Also of a segment that is not the last, and its footer alone.
    footer = mirror.receive(1, len(first) - 80, first[-80:])
    assert footer.mark == Mark(1, len(first), 4, sealed=True)
    assert mirror.receive(1, 0, first).mark == footer.mark
    assert mirror.files == stream.files
    assert mirror.merged == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4]


def test_batch_that_overlaps_the_end_adds_what_is_new(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    first = stream.files[1]
    one, two = cut(first, 1), cut(first, 2)
    mirror.receive(1, 0, first[:two])
    assert mirror.receive(1, one, first[one:]).mark == Mark(1, len(first), 4, sealed=True)
    assert mirror.files[1] == first
    again = Mirror()
    again.receive(1, 0, first[:two])
    assert again.receive(1, 0, first).mark == Mark(1, len(first), 4, sealed=True)
    assert again.files[1] == first


def test_h43_batch_that_does_not_follow_is_a_gap(stream: SegmentBuilder) -> None:
    # The literal design applies what arrives: segment 5 before segment 1 makes a later write
    # the first one.
    class AsItComes(Receiver):
        def _on_batch(self, event: take.BatchReceived, now_ns: int) -> list[take.Effect]:
            self._mark = Mark(1, 0, event.first_seq - 1, sealed=True)
            self._prev_sha256 = event.body[16:48]
            return super()._on_batch(event, now_ns)

    def merged(kind: type[Receiver]) -> list[int]:
        mirror = Mirror(kind)
        for first in (5, 1, 5):
            mirror.receive(first, 0, stream.files[first])
        return mirror.merged

    assert merged(Receiver) == [1, 2, 3, 4, 5, 6, 7]
    assert merged(AsItComes) != sorted(merged(AsItComes))
    answer = Mirror().receive(5, 0, stream.files[5])
    assert (answer.fault, answer.holds) == ("gap", NOTHING)


def test_other_bytes_at_the_same_place_are_a_fork(stream: SegmentBuilder) -> None:
    other = SegmentBuilder()
    other.begin()
    other.add(4, r=0.4)
    mirror = Mirror()
    first = stream.files[1]
    at = cut(first, 2)
    mirror.receive(1, 0, first[:at])
    assert mirror.refused(1, 0, other.files[1]) == "fork"
    assert mirror.refused(1, 0, other.files[1]) == "fork"
    mirror.receive(1, at, first[at:])
    longer = first + first[HEADER_BYTES:]
    assert mirror.refused(1, 0, longer) == "fork"


def test_only_the_region_itself_writes_its_stream(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    body = stream.files[1]
    forged = REGION_KEYS["us1"].sign(b"x")
    effects = mirror.feed(mirror.batch(1, 0, body, signature=forged))
    assert effects[0].fault == "signature_invalid"
    assert effects[1] == ship.RaiseAlarm("signature_invalid", "the batch is not its sender's")
    for place in ((1, 1, 0), (2, 1, 0), (1, 1, 64)):
        signature = batch_signature("eu1", "open", *place, body[:-1])
        assert mirror.refused(1, 0, body, signature=signature) == "signature_invalid"
    assert not signature_holds(b"short", b"", b"")


def test_part_that_a_peer_relays_is_under_its_key_and_passes_the_fence(
    stream: SegmentBuilder,
) -> None:
    mirror = Mirror()
    mirror.feed(take.Fenced(5))
    body = stream.files[1]
    message = ship.batch_message("eu1", "open", 1, 1, 0, body)
    relayed = {
        "signature": REGION_KEYS["us1"].sign(message),
        "relay_key": REGION_KEYS["us1"].public_key,
    }
    assert mirror.refused(1, 0, body) == "fenced"
    assert mirror.receive(1, 0, body, **relayed).mark.seq == 4


def test_fence_refuses_senders_below_it_and_never_goes_down(stream: SegmentBuilder) -> None:
    mirror = Mirror(held=Held(fenced_epoch=2))
    answer = mirror.receive(1, 0, stream.files[1])
    assert (answer.fault, answer.fenced_epoch) == ("fenced", 2)
    mirror.feed(take.Fenced(1))
    assert mirror.core.fenced_epoch == 2
    # The tail of the former epoch is taken from a region that has adopted the new one.
    assert mirror.receive(1, 0, stream.files[1], region_epoch=2).mark.seq == 4


def test_h45_tail_of_a_fenced_region_is_shipped_before_anything_is_restored(
    stream: SegmentBuilder,
) -> None:
    # The literal design copies the healthy region's state over the one that returns, and with it
    # goes what that one had acknowledged and not shipped.
    first = stream.files[1]
    at = cut(first, 2)
    mirror = Mirror()
    mirror.receive(1, 0, first[:at])
    mirror.feed(take.Fenced(2))
    returning = Sender(region_epoch=1, acked=mirror.core.mark)
    ask = returning.one(ship.SegmentSealed(1, len(first), 4), ship.AskPeer)
    (alarm,) = returning.feed(ship.PeerHolds(ask.token, mirror.core.mark, 2))
    assert alarm.code == "fenced"
    restored = set(mirror.merged)
    ask = returning.one(ship.EpochAdopted(2), ship.AskPeer)
    send = returning.one(ship.PeerHolds(ask.token, mirror.core.mark, 2), ship.Send)
    answer = mirror.receive(1, send.offset, first[send.offset :], region_epoch=send.region_epoch)
    returning.feed(ship.PeerAcked(send.token, answer.mark))
    acknowledged = {1, 2, 3, 4}
    assert set(mirror.merged) == acknowledged
    assert restored != acknowledged


def test_frame_ahead_of_the_clock_is_held_until_its_time(stream: SegmentBuilder) -> None:
    ahead = SegmentBuilder()
    ahead.begin()
    ahead.add(1, stamp=NOW_MS + 501 << COUNTER_BITS)
    mirror = Mirror()
    effects = mirror.feed(mirror.batch(1, 0, ahead.files[1]))
    assert (effects[0].fault, effects[1].code) == ("hlc_ahead", "hlc_ahead")
    assert mirror.core.mark == NOTHING
    assert mirror.refused(1, 0, ahead.files[1]) == "hlc_ahead"
    mirror.now_ns += 1_000_000
    assert mirror.receive(1, 0, ahead.files[1]).mark.seq == 1


def rewritten(data: bytes, **changed: Any) -> bytes:
    """Change the header of a segment."""
    facts = {"first_seq": 5, "prev_sha256": data[16:48], "created_ms": NOW_MS, "region_epoch": 1}
    return Header(**{**facts, **changed}).to_bytes() + data[HEADER_BYTES:]


def test_segment_must_follow_from_the_one_before(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    mirror.receive(1, 0, stream.files[1])
    second = stream.files[5]
    for changed in ({"first_seq": 6}, {"prev_sha256": bytes(32)}, {"region_epoch": 0},
                    {"region_epoch": 2}):  # fmt: skip
        assert mirror.refused(5, 0, rewritten(second, **changed)) == "batch_malformed"
    assert mirror.receive(5, 0, rewritten(second, region_epoch=2), region_epoch=2).mark.seq == 7
    assert mirror.core.header_epoch == 2


def test_malformed_batches_are_refused_whole(stream: SegmentBuilder) -> None:
    first, second = stream.files[1], stream.files[5]
    one, two = cut(first, 1), cut(first, 2)
    mirror = Mirror()
    assert mirror.refused(1, 0, b"") == "batch_malformed"
    assert mirror.refused(1, 0, first[:HEADER_BYTES]) == "batch_malformed"
    assert mirror.refused(1, 0, first[: two - 1]) == "batch_malformed"
    assert mirror.refused(1, 0, first[:one] + first[two:-80]) == "batch_malformed"
    assert mirror.refused(1, 0, first[:HEADER_BYTES] + first[one:two]) == "batch_malformed"
    wrong = first[:-1] + bytes([first[-1] ^ 1])
    assert mirror.refused(1, 0, wrong) == "batch_malformed"
    assert mirror.core.mark == NOTHING
    mirror.receive(1, 0, first)
    assert mirror.refused(5, 0, second[:-1]) == "batch_malformed"


def test_too_many_frames_are_refused(
    stream: SegmentBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "BATCH_FRAMES_MAX", 3)
    assert Mirror().refused(1, 0, stream.files[1]) == "batch_malformed"


def test_frame_that_does_not_verify_stops_the_stream_there(stream: SegmentBuilder) -> None:
    bad = SegmentBuilder()
    bad.begin()
    bad.add(2)
    bad.add(1, kid="nobody")
    mirror = Mirror()
    # What stands before it is taken, whatever the sender has put into one batch with it.
    at = cut(bad.files[1], 2)
    assert mirror.receive(1, 0, bad.files[1]).mark == Mark(1, at, 2, sealed=False)
    answer = mirror.receive(1, at, bad.files[1][at:])
    assert (answer.fault, answer.message.split(": ")[:2]) == (
        "frame_refused",
        ["frame 3", "kid_unknown"],
    )
    # Also when it comes again with what is held already.
    assert mirror.receive(1, 0, bad.files[1]).mark.seq == 2
    assert mirror.core.mark.seq == 2


def test_unknown_policy_is_asked_for_without_an_alarm(stream: SegmentBuilder) -> None:
    mirror = Mirror(replay=replay(policies=()))
    (answer,) = mirror.feed(mirror.batch(1, 0, stream.files[1]))
    assert (answer.fault, answer.policy_version) == ("policy_unknown", Policy().version)


def test_one_batch_is_under_way_at_a_time(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    body = stream.files[1]
    (append,) = mirror.feed(mirror.batch(1, 0, body))
    (busy,) = mirror.feed(mirror.batch(1, 0, body))
    assert busy.fault == "busy"
    timer, apply = mirror.feed(take.MirrorWritten(append.token))
    assert apply.origin == ORIGIN
    assert mirror.feed(take.TimerFired(timer.token + 1)) == []
    (late,) = mirror.feed(take.TimerFired(timer.token))
    assert late.fault == "unavailable"
    # The bytes stay; the merge that comes too late says nothing.
    assert mirror.feed(take.FramesApplied(append.token, ())) == []
    assert mirror.core.mark.seq == 4
    mirror.files[1] = body
    assert mirror.receive(1, 0, body).mark.seq == 4
    assert mirror.feed(take.FramesApplied(append.token, ())) == []
    assert mirror.feed(take.TimerFired(append.token)) == []


def test_mirror_without_space_takes_the_batch_later(stream: SegmentBuilder) -> None:
    mirror = Mirror()
    (append,) = mirror.feed(mirror.batch(1, 0, stream.files[1]))
    (answer,) = mirror.feed(take.MirrorFailed(append.token, "no space", fatal=False))
    assert answer.fault == "unavailable"
    assert mirror.receive(1, 0, stream.files[1]).mark.seq == 4


def test_h58_failed_sync_of_a_mirror_ends_it(stream: SegmentBuilder) -> None:
    # The literal design tries a failed sync again: the pages are gone, and it then succeeds.
    class TriesAgain(Receiver):
        def _on_mirror_failure(self, event: take.MirrorFailed, now_ns: int) -> list[take.Effect]:
            return super()._on_mirror_failure(event._replace(fatal=False), now_ns)

    def acknowledged(kind: type[Receiver]) -> bool:
        mirror = Mirror(kind)
        (append,) = mirror.feed(mirror.batch(1, 0, stream.files[1]))
        mirror.feed(take.MirrorFailed(append.token, "Input/output error", fatal=True))
        return isinstance(mirror.receive(1, 0, stream.files[1]), take.Ack)

    assert not acknowledged(Receiver)
    assert acknowledged(TriesAgain)
    mirror = Mirror()
    (append,) = mirror.feed(mirror.batch(1, 0, stream.files[1]))
    _, alarm = mirror.feed(take.MirrorFailed(append.token, "Input/output error", fatal=True))
    assert alarm == ship.RaiseAlarm("mirror_failed", "Input/output error")


def test_receiver_takes_up_what_its_mirror_holds(stream: SegmentBuilder) -> None:
    first, second = stream.files[1], stream.files[5]
    at = cut(second, 1)
    held = Held(Mark(5, at, 5, sealed=False), first[-32:], 1, 0, second[:at], {1: (4, 1)})
    mirror = Mirror(held=held)
    mirror.files = {1: first, 5: second[:at]}
    assert mirror.receive(5, at, second[at:]).mark == Mark(5, len(second), 7, sealed=False)
    assert mirror.receive(1, 0, first).mark == Mark(1, len(first), 4, sealed=True)


# --- a log that has lost its tail


@pytest.mark.parametrize(
    ("held", "lost"),
    [
        ([], None),
        ([TailHeld(5, "us1", 9)], None),
        ([TailHeld(6, "us1", 2)], LostTail("us1", 3)),
        ([TailHeld(6, "us1", 2), TailHeld(4, "ap1", 7)], LostTail("us1", 8)),
    ],
)
def test_a_lost_tail_comes_from_whoever_holds_most_under_an_epoch_above_all(
    held: list[TailHeld], lost: LostTail | None
) -> None:
    assert lost_tail(5, held) == lost
