"""Carry out what the shipper of one stream to one peer decides, over links that fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core.receiver import Ack, Refuse
from fractal_lba_server.core.replication import (
    NOTHING,
    Acknowledged,
    AskPeer,
    EpochAdopted,
    PeerAcked,
    PeerFailed,
    PeerHolds,
    PersistWatermark,
    RaiseAlarm,
    SegmentSealed,
    Send,
    SetTimer,
    TailGrown,
    TimerFired,
)
from fractal_lba_server.core.segment import SegmentError

from ..waiting import NS_PER_S
from .inbound import Batch, Holding
from .memory import batch_message
from .net import Failure
from .segments import Segments

if TYPE_CHECKING:
    from .node import Node

PEER_TIMEOUT_NS: Final = 8 * NS_PER_S
"""How long a peer may take over a batch, as the server's."""

LOST: Final = "local_log_lost"
FENCED: Final = "fenced"


class Outbound:
    """One stream of a region on its way to one peer."""

    def __init__(
        self, node: Node, placement: str, peer: str, log: Segments, region_epoch: int
    ) -> None:
        self.node = node
        self.placement = placement
        self.peer = peer
        self.log = log
        self._mark_name = f"acked/{placement}/{peer}"
        acked = node.disk.kept.get(self._mark_name, NOTHING)
        self.core = node.world.parts.shipper(region_epoch=region_epoch, acked=acked)
        self._interval_ns = node.world.ship_interval_ns
        self._tail: TailGrown | SegmentSealed | None = None
        self._timer: Any = None
        self._has_begun = False
        self._early: list[object] = []
        self._carriers: dict[type, Callable[[Any], object]] = {
            Send: self._send,
            AskPeer: self._ask_peer,
            SetTimer: self._set_timer,
            PersistWatermark: self._persist,
            Acknowledged: self._acknowledged,
            RaiseAlarm: self._alarm,
        }

    def begin(self) -> None:
        """Ship from now on."""
        self._has_begun = True
        early, self._early = self._early, []
        for event in early:
            self.feed(event)
        if not early:
            self.feed(EpochAdopted(0))

    def grew(self, event: TailGrown | SegmentSealed) -> None:
        """Take note of what is durable; what comes within one interval goes together."""
        if not self._has_begun:
            self._early.append(event)
            return
        if not self._interval_ns:
            self.feed(event)
            return
        waiting, self._tail = self._tail, event
        if waiting is not None and waiting.first_seq != event.first_seq:
            self.feed(waiting)
        elif waiting is None:
            into_ns = self.node.world.agenda.now_ns % self._interval_ns
            self.node.life.after(self._interval_ns - into_ns, self._due)

    def _due(self) -> None:
        event, self._tail = self._tail, None
        if event is not None:
            self.feed(event)

    def adopt(self, region_epoch: int) -> None:
        """Send under a later region epoch."""
        self.feed(EpochAdopted(region_epoch))

    def feed(self, event: object) -> None:
        """Give the shipper an event and carry out what it says."""
        node = self.node
        if node.life.ended:
            return
        node.world.steps += 1
        for effect in self.core.on_event(event, node.clock.wall_ns()):
            self._carriers[type(effect)](effect)

    # --- effects

    def _ask_peer(self, effect: AskPeer) -> None:
        self._ask(partial(_holds, self.node.code, self.placement), 100, effect.token)

    def _set_timer(self, effect: SetTimer) -> None:
        node = self.node
        if self._timer is not None:
            self._timer.cancel()
        wait_ns = node.clock.true_ns(effect.at_ns - node.clock.wall_ns())
        self._timer = node.life.after(wait_ns, self.feed, TimerFired(effect.token))

    def _persist(self, effect: PersistWatermark) -> None:
        self.node.disk.kept[self._mark_name] = effect.mark

    def _acknowledged(self, effect: Acknowledged) -> None:
        self.node.acked(self.placement, self.peer, effect.seq, effect.displaced)

    def _alarm(self, effect: RaiseAlarm) -> None:
        node, code = self.node, effect.code
        node.world.alarm(node.code, code, f"{self.placement} to {self.peer}: {effect.message}")
        if code == LOST:
            text = "this log has lost what another region holds of it"
            node.stop_stream(self.placement, text)
        if code == FENCED and node.keeper is not None:
            node.keeper.fenced(self.placement, effect.fenced_epoch)

    def _send(self, effect: Send) -> None:
        node, place = self.node, (effect.first_seq, effect.offset)
        try:
            body = self.log.batch(place, effect.until, node.world.batch_bytes)
        except SegmentError as error:
            failed = PeerFailed(effect.token, "local_unreadable", str(error))
            node.life.after(0, self.feed, failed)
            return
        message = batch_message(node.code, self.placement, effect.region_epoch, *place, body)
        signature = node.world.key_of(node.code).seal(message)
        batch = Batch(effect.region_epoch, *place, body, signature)
        node.world.watch.shipped(node.code, self.peer, body)
        self._ask(partial(_receive, node.code, self.placement, batch), len(body), effect.token)

    def _ask(self, serve: Callable[..., Any], size: int, token: int) -> None:
        node = self.node
        node.world.net.ask(
            node.code, self.peer, size, serve, partial(self._heard, token),
            timeout_ns=PEER_TIMEOUT_NS, life=node.life,
        )  # fmt: skip

    def _heard(self, token: int, answer: Any) -> None:
        match answer:
            case Failure():
                self.feed(PeerFailed(token, "unreachable", answer.code))
            case Holding(mark, fenced_epoch):
                self.feed(PeerHolds(token, mark, fenced_epoch))
            case Ack(_, mark, displaced):
                self.feed(PeerAcked(token, mark, displaced))
            case Refuse():
                self.feed(PeerFailed(token, *answer[1:5]))


def _holds(region: str, placement: str, node: Node, reply: Callable[[Any, int], None]) -> None:
    inbound = node.inbound.get((region, placement))
    if inbound is None or not inbound.ready:
        reply(Failure("unavailable", sent=True), 0)
        return
    node.hear_peer(placement)
    reply(Holding(inbound.core.mark, inbound.core.fenced_epoch), 100)


def _receive(
    region: str, placement: str, batch: Batch, node: Node, reply: Callable[[Any, int], None]
) -> None:
    inbound = node.inbound.get((region, placement))
    if inbound is None or not inbound.ready:
        reply(Refuse(0, "unavailable", "this stream is not ready here"), 100)
        return
    node.hear_peer(placement)
    inbound.receive(batch, lambda answer: reply(answer, 100))
