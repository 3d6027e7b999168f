"""When a region slows its writes down or refuses them: too far ahead of its peers, or alone.

The invariant of this file: what a write meets is decided by `core.governor.Governor`, asked when
the lag passes one of its bounds or falls. Lag is the age of the oldest record that is not
replicated; it grows by itself, so the moments at which it passes a bound are known ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fractal_lba_server.core.governor import REFUSE_MS_MIN, SOFT_SHARE, Governor
from fractal_lba_server.core.ingest import CUT_OFF_MS

from ..waiting import NS_PER_MS, Moment
from .logs import Log

if TYPE_CHECKING:
    from .world import World

LAGGING: Final = "lag"
ALONE: Final = "alone"

GROWTH: Final = SOFT_SHARE / (1 - SOFT_SHARE)
"""The delay of writes grows by so much for each moment that the lag grows."""


class Governors:
    """All governors of a run, one for each log whose tenants have a bound."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._of: dict[tuple[str, str, int], Governor] = {}
        self._alarms: dict[tuple[str, str, int], Moment] = {}
        self._lonely: dict[tuple[str, str], int] = {}

    def opened(self, log: Log) -> None:
        """Take note of a new log."""
        bound_ms = self._world.setup.placement_rpo_ms(log.placement)
        if bound_ms is not None:
            self._of[log.name] = Governor(bound_ms)

    def look(self, log: Log) -> None:
        """Ask the governor of a log, and again when the lag passes its next bound."""
        governor = self._of.get(log.name)
        site = self._world.sites[log.region]
        if governor is None or not site.alive or site.logs.get(log.placement) is not log:
            return
        world, now_ns = self._world, self._world.agenda.now_ns
        bound_ms = self._world.setup.placement_rpo_ms(log.placement)
        assert bound_ms is not None  # it has a governor
        known_ns = world.known_replicated_ns(log)
        first_ns = log.next_durable(known_ns)
        oldest_ns = now_ns if first_ns is None else min(first_ns, now_ns)
        lag_ms = (now_ns - oldest_ns) // NS_PER_MS
        pace = governor.decide(lag_ms, now_ns)
        soft_ms = int(bound_ms * SOFT_SHARE)
        before = (dict(site.pace), set(site.refusing))
        (site.refusing.add if pace.refuse else site.refusing.discard)((log.placement, LAGGING))
        if pace.wait_ms and not pace.refuse:
            site.pace[log.placement] = (pace.wait_ms * NS_PER_MS, 1 + GROWTH)
        else:
            site.pace.pop(log.placement, None)
        self._wait(log, oldest_ns, lag_ms, soft_ms=soft_ms, bound_ms=bound_ms, refuse=pace.refuse)
        if before != (site.pace, site.refusing):
            if pace.refuse:
                site.give_back(log.placement)
            world.noticed(log.region)

    def _wait(
        self, log: Log, oldest_ns: int, lag_ms: int, *, soft_ms: int, bound_ms: int, refuse: bool
    ) -> None:
        """Look again when the lag passes its next bound; a refusal ends with an acknowledgement."""
        alarm = self._alarms.pop(log.name, None)
        if alarm is not None:
            alarm.cancel()
        now_ns = self._world.agenda.now_ns
        next_ms = soft_ms if lag_ms < soft_ms else bound_ms
        at_ns = oldest_ns + next_ms * NS_PER_MS
        if refuse:
            if lag_ms >= soft_ms:
                return
            at_ns = now_ns + REFUSE_MS_MIN * NS_PER_MS
        sleeps = any(stream.asleep for stream in self._world.streams.values() if stream.log is log)
        if now_ns < at_ns < self._world.setup.load_end_ns and not sleeps:
            self._alarms[log.name] = self._world.agenda.at(at_ns, self.look, log)

    # --- a region that is alone

    def look_around(self) -> None:
        """Have regions refuse whose tenants want no record taken where no peer is heard."""
        world = self._world
        for name in world.setup.lonely_placements:
            for code in world.setup.placements[name].regions:
                peers = [c for c in world.setup.placements[name].regions if c != code]
                heard = any(world.alive(c) and world.net.both(code, c) for c in peers)
                if heard or not peers:
                    self._lonely.pop((code, name), None)
                    world.sites[code].refusing.discard((name, ALONE))
                elif (code, name) not in self._lonely:
                    self._lonely[code, name] = world.agenda.now_ns
                    wait_ns = CUT_OFF_MS * NS_PER_MS
                    world.agenda.after(wait_ns, self._alone, code, name, world.agenda.now_ns)

    def _alone(self, code: str, name: str, since_ns: int) -> None:
        if self._lonely.get((code, name)) == since_ns:
            self._world.sites[code].refusing.add((name, ALONE))
            self._world.noticed(code)
