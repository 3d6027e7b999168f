"""Where names point: away from a region that is down, and back to it step by step.

The invariant of this file: which region a name points to is decided by `core.dns_failover`, the
way back by `core.ramp`; a resolver learns of a change when it asks again, and not before.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from fractal_lba_server.core.dns_failover import ANYWHERE, Record, resolve
from fractal_lba_server.core.ramp import RAMPING, Ramp

from ..waiting import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from .world import World

HUNDRED: Final = 100


class Naming:
    """The records of every client behind a name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.down: set[str] = set()
        self._ramps: dict[str, Ramp] = {}
        self._changes = 0

    def take_out(self, region: str) -> None:
        """Have names point elsewhere; they do after the propagation."""
        self.down.add(region)
        ramp = self._ramps.get(region)
        if ramp is not None and ramp.state == RAMPING:
            ramp.observe(healthy=False, now_ns=self._world.agenda.now_ns)
        self._publish()

    def bring_back(self, region: str) -> None:
        """Give a region its clients back, step by step, once it has caught up.

        A region that has come back as a standby refuses records, and gets no client.
        """
        setup, agenda = self._world.setup, self._world.agenda
        if region not in self.down or not setup.recovery.fail_back:
            return
        if not self._world.writers.takes_records(region):
            return
        ramp = self._ramps.setdefault(region, Ramp(setup.recovery.ramp))
        if ramp.begin(agenda.now_ns, caught_up=not self._world.comparing.is_pending):
            self.down.discard(region)
            self._publish()
            agenda.after(setup.recovery.ramp.hold_ms * NS_PER_MS, self._step, region)

    def caught_up(self) -> None:
        """Take note that the regions are equal again."""
        for region in sorted(self.down):
            if self._world.checkers.verdict[region]:
                self.bring_back(region)

    def _step(self, region: str) -> None:
        ramp, now_ns = self._ramps[region], self._world.agenda.now_ns
        healthy = self._world.checkers.verdict[region]
        if ramp.observe(healthy, now_ns):
            self._publish()
        if ramp.state == RAMPING:
            hold_ms = self._world.setup.recovery.ramp.hold_ms
            self._world.agenda.after(hold_ms * NS_PER_MS, self._step, region)

    def _publish(self) -> None:
        """Let the change reach the servers of the name."""
        self._changes += 1
        setup = self._world.setup
        wait_ns = setup.draw_ns(setup.names.propagation, "propagation", str(self._changes))
        self._world.agenda.after(wait_ns, self._point)

    def _point(self) -> None:
        ttl_s = self._world.setup.names.ttl_ns // NS_PER_S
        ramping = {
            code: ramp.percent for code, ramp in self._ramps.items() if ramp.state == RAMPING
        }
        for client in self._world.named:
            records = [
                Record(ANYWHERE, code, code, ttl_s, priority)
                for priority, code in enumerate(client.endpoints)
            ]
            client.points(partial(self._answer, records, ramping))

    def _answer(self, records: list[Record], ramping: dict[str, int], place: float) -> str:
        """Say what the name is answered with; a region that ramps gets a part of its resolvers."""
        down = self.down | {c for c, percent in ramping.items() if place * HUNDRED >= percent}
        found = resolve(records, ANYWHERE, down)
        assert found is not None  # there are records for anywhere
        return found
