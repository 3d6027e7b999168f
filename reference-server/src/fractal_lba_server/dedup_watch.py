"""Watch a migration while it runs: samples that must agree, canaries that must be found.

A lost canary is an alarm and rolls the migration back at once: whoever does not find it would
take its duplicate for a new record (H11). Samples that differ only count, and keep a cutover
from happening before the next verification (F071).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from .core.first_write import Key
from .core.migration import CUTTING, PREPARING, REVERTING, Refused
from .core.ring_document import STEADY
from .dedup_migration import Coordinator
from .dedup_probe import Canaries, sample_differences

_MOVING = (PREPARING, CUTTING, REVERTING)


class Look(NamedTuple):
    """What one look found."""

    step: str
    canaries: int
    lost: tuple[Key, ...]
    differences: int
    rolled_back: bool


class Watch:
    """Look again and again, from the caught canaries on."""

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        chance: Callable[[], float] = random.random,
        now_ms: Callable[[], int],
    ) -> None:
        self._coordinator = coordinator
        self._chance = chance
        self._now_ms = now_ms
        self._canaries: Canaries | None = None

    async def look(self) -> Look:
        """Look once; roll back if a canary is lost."""
        coordinator = self._coordinator
        state, seen = await coordinator.look()
        if seen.document.phase == STEADY or state.step in _MOVING:
            return Look(state.step, 0, (), 0, rolled_back=False)
        if self._canaries is None:
            self._canaries = await Canaries.catch(coordinator.fleet, seen.document)
        lost = tuple(await self._lost())
        differences = await sample_differences(
            coordinator.transfer(), coordinator.fleet, self._chance
        )
        if differences:
            await coordinator.alarm(differences)
        if lost:
            await coordinator.alarm(len(lost))
            await coordinator.run("rollback")
        return Look(
            state.step, len(self._canaries.entries), lost, differences, rolled_back=bool(lost)
        )

    async def _lost(self) -> list[Key]:
        """Ask twice: a document that is being replaced may send one look the wrong way."""
        assert self._canaries is not None, "canaries are caught first"
        for _ in range(2):
            _, seen = await self._coordinator.look()
            lost = await self._canaries.lost(self._coordinator.fleet, seen.document, self._now_ms())
            if not lost:
                return []
        return lost


async def watch(
    watcher: Watch,
    *,
    interval_s: float,
    looks: int | None,
    told: Callable[[Look], None],
) -> bool:
    """Look at intervals until the migration is over or rolled back; False if it was an alarm."""
    count = 0
    while looks is None or count < looks:
        try:
            look = await watcher.look()
        except Refused:
            return True
        told(look)
        if look.rolled_back:
            return False
        count += 1
        await asyncio.sleep(interval_s)
    return True
