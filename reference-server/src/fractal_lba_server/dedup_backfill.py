"""Load the outcomes that a region already has into its dedup shards (F070).

The index knows every id that was accepted before there were dedup shards. Each is put, if it is
first, where the ring document says; so this can be run while writers go on, and again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from .core.dedup import Entry, StaleRingEpoch, done_entry
from .core.first_write import Key, Rank, Stored
from .core.migration import Refused
from .dedup_transfer import Fleet, Pace
from .store.control import ControlStore, Held

OWNER = "backfill"
"""Owner of entries that no claim came before."""

PLACE = "backfill"
"""The checkpoint of how far a region's index was loaded, by the name of its region."""

ROUNDS_MAX = 10
"""Times that one batch follows a ring document that changes meanwhile."""


class Backfill:
    """Put the outcomes of one index into the dedup shards."""

    def __init__(
        self, control: ControlStore, fleet: Fleet, *, name: str, rank: Rank, pace: Pace
    ) -> None:
        self._control = control
        self._fleet = fleet
        self._name = name
        self._rank = rank
        self._pace = pace

    async def run(
        self, outcomes: Iterable[tuple[Key, Stored]], told: Callable[[int], None] = lambda _: None
    ) -> int:
        """Put all outcomes, from where it stopped; give how many."""
        kept = await self._control.checkpoint(PLACE, self._name)
        rest = iter(outcomes)
        if kept is not None:
            tenant, pcs_id = json.loads(kept)
            rest = behind(rest, (tenant, pcs_id))
        total = 0
        while batch := list(islice(rest, self._pace.batch)):
            entries = [done_entry(key, stored, self._rank, owner=OWNER) for key, stored in batch]
            await self._put(entries)
            text = json.dumps(batch[-1][0]).encode()
            await self._control.set_checkpoint(PLACE, self._name, text)
            total += len(batch)
            told(len(batch))
            await self._pace.passed(len(batch))
        await self._control.clear_checkpoint(PLACE, self._name)
        return total

    async def _put(self, entries: list[Entry]) -> None:
        """Put a batch under one document, at every dedup shard that it names."""
        for _ in range(ROUNDS_MAX):
            held = await self._control.read()
            if held is None:
                raise Refused("the control store holds no ring document: `dedup init` writes it")
            try:
                await self._put_under(held, entries)
            except StaleRingEpoch:
                continue  # the document has moved on
            return
        raise Refused("the ring document changes too often: a migration is being cut over")

    async def _put_under(self, held: Held, entries: list[Entry]) -> None:
        document = held.document
        self._fleet.know(document.everyone())
        groups: dict[str, list[Entry]] = {}
        for entry in entries:
            routes = document.routes(entry.key)
            for name in (routes.authority, *routes.also):
                groups.setdefault(name, []).append(entry)
        for name, group in groups.items():
            dedup_shard = await self._fleet.get(name)
            await dedup_shard.put_if_first(group, ring_epoch=document.ring_epoch)


def behind(outcomes: Iterator[tuple[Key, Stored]], place: Key) -> Iterator[tuple[Key, Stored]]:
    """Skip what was loaded already; outcomes come tenant by tenant, in order of the ids."""
    tenant, pcs_id = place
    reached = False
    for key, stored in outcomes:
        reached = reached or key[0] == tenant
        if reached and (key[0] != tenant or key[1] > pcs_id):
            yield key, stored
