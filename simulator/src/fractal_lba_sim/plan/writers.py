"""Who may write to which placement: everybody, whoever holds a lease, or what was restored.

The invariant of this file: a region of an `active-active` placement writes under no lease; of every
other placement one seat knows who writes, and nobody else is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fractal_lba_server.core.regions import ACTIVE_ACTIVE, Placement, elsewhere
from fractal_lba_server.core.streams import Refusal

from .cold import ColdSeat
from .incidents import Incident
from .logs import Log
from .roles import RoleSeat
from .setup import COLD_STANDBY

if TYPE_CHECKING:
    from .world import World


class Writers:
    """All placements."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cold: dict[str, ColdSeat] = {}
        self._seats: dict[str, RoleSeat | ColdSeat] = {}
        registry = world.setup.registry
        self._elsewhere = {code: elsewhere(registry, code) for code in registry.codes}
        for name, placement in world.setup.placements.items():
            if placement.topology == COLD_STANDBY:
                self._seats[name] = self._cold[name] = ColdSeat(world, placement)
            elif placement.topology != ACTIVE_ACTIVE:
                self._seats[name] = RoleSeat(world, placement)

    def begin(self) -> None:
        """Have all regions start."""
        for seat in self._seats.values():
            seat.begin()

    # --- what others ask

    def founders(self, placement: Placement) -> tuple[str, ...]:
        """Name the regions that write from the start."""
        seat = self._seats.get(placement.name)
        return placement.regions if seat is None else (seat.founder,)

    def ships(self, placement: Placement) -> bool:
        """Say whether the regions of a placement ship their logs to one another."""
        return placement.topology != COLD_STANDBY

    def refusal(self, region: str, placement: str) -> Refusal | None:
        """Say why a region takes no record of a placement, as far as roles go, or None."""
        if not self._world.setup.registry.may_hold(placement, region):
            leader = {"endpoint": self._elsewhere[region][placement], "region_epoch": 0}
            text = "another region holds the placement"
            return Refusal("wrong_region", text, {"leader_hint": leader})
        seat = self._seats.get(placement)
        return None if seat is None else seat.refusal(region)

    def is_ready(self, region: str) -> bool:
        """Say whether probes of a region are good, as far as roles go.

        A standby counts as ready: it is asked whether it lives (spec/roles.md 6.5).
        """
        return all(
            seat.refusal(region) is None for seat in self._seats.values() if seat.leads(region)
        )

    def takes_records(self, region: str) -> bool:
        """Say whether a region writes to any of its placements; a standby writes to none."""
        held = self._world.setup.registry.held_by(region)
        return not held or any(
            one.name not in self._seats or self._seats[one.name].leads(region) for one in held
        )

    def cold_ns(self, region: str, log: Log) -> int:
        """Give up to when a cold standby has a log."""
        return self._cold[log.placement].held_ns(region, log)

    # --- what happens

    def look(self) -> None:
        """Take note that something has changed."""
        for seat in self._seats.values():
            seat.look()

    def give_up(self, region: str) -> None:
        """Have another region write what a region wrote."""
        for seat in self._seats.values():
            seat.give_up(region, by_checkers=self._world.setup.people.automatic)

    def promote_in(
        self, placement: str | None, region: str, incident: Incident | None, *, handed: bool = False
    ) -> None:
        """Promote a region in one placement, or in all that it is of and does not write to."""
        for name, seat in self._seats.items():
            is_free = not seat.leads(region) and not seat.is_changing
            if placement in (None, name) and region in seat.placement.regions and is_free:
                (seat.hand_over if handed else seat.promote)(region, incident)

    def slip(self, region: str, incident: Incident) -> int:
        """Promote a region beside the one that writes; tell in how many placements.

        With an arbiter, or where the other one hears of it, one of them stops. Where it does not,
        and somebody has said that it is stopped, both write.
        """
        count = 0
        for seat in self._seats.values():
            others = [code for code in seat.placement.regions if code != region]
            if len(others) < len(seat.placement.regions) and any(map(seat.leads, others)):
                seat.promote(region, incident, slips=True)
                count += 1
        return count
