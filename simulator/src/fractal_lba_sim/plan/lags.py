"""How long records waited until their region knew them to be replicated, as a reader sees it.

The invariant of this file: lags are told of moments at equal distances, so that a long stall weighs
as much as it lasted (spec/drills.md 3.11).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .shipping import Stream
    from .world import World

LOOK_NS: Final = 20_000_000
"""No moment is nearer to the next."""

LOOKS_MAX: Final = 1_000
"""Moments of a run that are looked at."""


class LagLines:
    """The lines of one run; none unless a promise asks for them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._step_ns = max(LOOK_NS, world.setup.load_end_ns // LOOKS_MAX)

    def replicated(self, stream: Stream, before_ns: int, at_ns: int) -> None:
        """Tell the lags of what a peer is known to hold now and was not before."""
        world = self._world
        if not world.setup.shows_lag:
            return
        now_ns, log = world.agenda.now_ns, stream.log
        back_ns = world.net.wire(stream.peer, log.region).delay_ns
        rank = str(world.setup.rank(log.region))
        end_ns = min(at_ns, world.setup.load_end_ns)
        for moment_ns in range(
            max(0, before_ns) // self._step_ns * self._step_ns + self._step_ns,
            end_ns + 1,
            self._step_ns,
        ):
            known_ns = now_ns
            if stream.asleep:
                u = world.setup.streams.anew().of("lag", rank, str(moment_ns)).random()
                known_ns = min(now_ns, moment_ns + stream.rhythm.lag_ns(u, back_ns))
            world.events.add(
                "lag", known_ns, region=log.region, peer=stream.peer, placement=log.placement,
                age_ms=round((known_ns - moment_ns) / 1e6, 3),
            )  # fmt: skip
