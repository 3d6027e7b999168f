"""Ships the log of one simulated region to another, over a link that fails (`region_world.py`)."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from fractal_lba_server.core import hlc
from fractal_lba_server.core.ingest_events import PeerAcked, PeerFrames

if TYPE_CHECKING:
    from region_world import Frame, Life, Region, World

MERGE_TIMEOUT_MS = 30
"""After so long a region tells the sender to come again; the frames are merged all the same."""

Steps = Generator[simpy.Event, Any, None]
"""What happens to one part of the world, one wait after the other."""


class Link:
    """Ships one region's log to another: one batch under way, whatever is not acknowledged."""

    def __init__(self, world: World, origin: Region, peer: Region) -> None:
        self.world, self.origin, self.peer = world, origin, peer
        self.is_up = True
        self.acked = 0
        """The watermark that the origin keeps; it may be behind what the peer holds."""
        world.env.process(self._ship())

    def _ship(self) -> Steps:
        chance = self.world.chance
        while True:
            idle = self.acked == len(self.origin.disk.log)
            calm = 60 if self.world.is_calm and idle else 10
            yield self.world.env.timeout(chance.uniform(0.5, calm))
            if self.is_up and self.origin.life is not None and self.peer.life is not None:
                yield from self._exchange(self.origin.life, self.peer.life)

    def _way(self, most: float) -> simpy.Event:
        return self.world.env.timeout(self.world.chance.uniform(0.5, most))

    def _is_broken(self, *lives: Life) -> bool:
        lost = not self.world.is_calm and self.world.chance.random() < 0.05
        return lost or not self.is_up or any(life.dead for life in lives)

    def _exchange(self, sender: Life, receiver: Life) -> Steps:
        chance, mirror = self.world.chance, self.peer.disk.mirrors[self.origin.code]
        first = self.acked
        frames = self.origin.disk.log[first : first + chance.choice((1, 2, 6, 20))]
        yield self._way(12)
        if self._is_broken(receiver):
            return
        now_ns = self.peer.now_ns()
        if any(hlc.ahead_ms(frame.facts.stored.hlc, now_ns) > hlc.MAX_SKEW_MS for frame in frames):
            return
        new = frames[max(0, len(mirror) - first) :]
        wrong, displaced = self.world.wrong, ()
        if frames:
            if wrong.merges_before_sync:
                displaced = yield from self._merge(receiver, frames)
            yield self._way(5)
            if receiver.dead:
                mirror += new[: chance.randint(0, len(new))]
                return
            if not wrong.acks_before_sync:
                mirror += new
            if not wrong.merges_before_sync:
                displaced = yield from self._merge(receiver, frames)
            if displaced is None:
                return
        yield self._way(12)
        if self._is_broken(sender):
            return
        self.acked = first + len(frames)
        self.world.judge.acked(self.origin.code, displaced)
        sender.feed(PeerAcked("open", self.peer.code, self.acked, displaced))
        if wrong.acks_before_sync and frames:
            yield self._way(12)
            mirror += [] if receiver.dead else frames[max(0, len(mirror) - first) :]
            self.acked = min(self.acked, len(mirror))

    def _merge(self, life: Life, frames: list[Frame]) -> Generator[simpy.Event, Any, Any]:
        """Let the peer's machine merge them; None if it takes too long, or the process ends."""
        env, facts = self.world.env, tuple(frame.facts for frame in frames)
        token = object()
        merged = life.merges[token] = env.event()
        life.feed(PeerFrames(token, facts))
        yield merged | env.timeout(MERGE_TIMEOUT_MS)
        if not merged.triggered or life.dead:
            return None
        self.world.judge.merged(self.peer.code, facts)
        return merged.value
