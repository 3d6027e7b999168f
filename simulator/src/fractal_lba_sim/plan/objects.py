"""Segments of a log on their way to a peer through an object store: uploaded, then fetched.

The invariant of this file: segments are closed on a grid, several are under way at once, and the
peer applies them in their order. What is under way when its region dies never arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from ..waiting import Agenda
from .logs import Log
from .net import Net
from .setup import Setup
from .shipping import LinkStream, Stream, Watch


class ObjectStream(Stream):
    """Segments that are uploaded and fetched, several at once."""

    _closed_ns = 0
    _lost_part = 1.0

    def __init__(
        self, setup: Setup, agenda: Agenda, net: Net, watch: Watch, log: Log, peer: str
    ) -> None:
        super().__init__(setup, agenda, net, watch, log, peer)
        self._waiting: deque[int] = deque()
        self._done: dict[int, bool] = {}
        self._flying = 0
        self.lost_replies = 0.0
        """Share of uploads of which the reply is lost: they are made again."""
        self.on_lost_reply: Callable[[], None] = lambda: None
        self.listing_age_ns = 0

    def _begin(self) -> None:
        super()._begin()
        self._waiting.clear()
        self._done.clear()
        self._flying = 0
        self._closed_ns = self._held_ns
        self._clock = self._agenda.at(self._next_close_ns(self._agenda.now_ns), self._closes)

    def _closes(self) -> None:
        now_ns = self._agenda.now_ns
        self._clock = self._agenda.at(self._next_close_ns(now_ns), self._closes)
        if self.log.about(now_ns) > self.log.about(max(self._closed_ns, 0)):
            self._closed_ns = now_ns
            self._waiting.append(now_ns)
            self._done[now_ns] = False
            self._upload()

    def _upload(self) -> None:
        while self._waiting and self._flying < self._setup.shipping.in_flight:
            end_ns = self._waiting.popleft()
            self._flying += 1
            self.batches += 1
            took_ns = self._sample_ns() + self.listing_age_ns
            if self._loses_reply():
                took_ns += self._setup.shipping.retry_ns + self._sample_ns()
                self.on_lost_reply()
            life = self._life
            begin_ns = max((m for m in self._done if m < end_ns), default=max(self._held_ns, 0))
            size = (self.log.about(end_ns) - self.log.about(begin_ns)) * self._setup.record_bytes
            arrive = partial(self._arrived, end_ns, life)
            self._net.send(self.log.region, self.peer, max(size, 0), arrive, extra_ns=took_ns)

    def _loses_reply(self) -> bool:
        """Say whether the reply to this upload is lost: a share of them, evenly."""
        if not self.lost_replies:
            self._lost_part = 1.0
            return False
        self._lost_part += self.lost_replies
        if self._lost_part < 1:
            return False
        self._lost_part -= 1
        return True

    def _arrived(self, end_ns: int, life: int) -> None:
        if life != self._life:
            return
        self._flying -= 1
        self._done[end_ns] = True
        for done_ns in sorted(self._done):
            if not self._done[done_ns]:
                break
            del self._done[done_ns]
            self._held_ns = max(self._held_ns, done_ns)
        self.held()
        self._watch.replicated(self.log, self.peer, self._held_ns)
        if self._done or not self._rest():
            self._upload()


def stream_of(setup: Setup, agenda: Agenda, net: Net, watch: Watch, log: Log, peer: str) -> Stream:
    """Make the stream of a log to a peer."""
    kind = ObjectStream if setup.shipping.by_objects else LinkStream
    return kind(setup, agenda, net, watch, log, peer)
