"""Look into all dedup shards at once, without a way to write: where a key stands, how keys lie.

A dedup shard that does not answer is named; what is said of the others holds all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from fractal_lba.errors import ConfigError

from .core.dedup import DONE, DedupShard, Entry, ShardUnavailable
from .core.first_write import Key
from .core.ring_document import RingDocument, ShardInfo, ring_of
from .store.shards.opening import open_shard

AUTHORITY: Final = "authority"
COPY: Final = "copy"
OTHER: Final = "other"

ResultT = TypeVar("ResultT")


class Place(NamedTuple):
    """What one dedup shard says about a key, and what it is to the key."""

    dedup_shard: str
    role: str
    entry: Entry | None
    unavailable: str | None


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a key stands, at every dedup shard of the ring document."""

    key: Key
    ring_epoch: int
    places: tuple[Place, ...]

    @property
    def faults(self) -> tuple[str, ...]:
        """Say what is not as the ring document wants it; a claim may be ahead of its copy."""
        own = next(place for place in self.places if place.role == AUTHORITY)
        found = []
        for place in self.places:
            if place.unavailable is not None:
                found.append(f"{place.dedup_shard} does not answer: {place.unavailable}")
            elif place.role == OTHER and place.entry is not None:
                found.append(f"{place.dedup_shard} holds the key and owns it in no ring")
            elif place.role == COPY and own.unavailable is None:
                found += _differences(own.entry, place)
        return tuple(found)


class ShardFigures(NamedTuple):
    """How one dedup shard is; None is what it did not say."""

    dedup_shard: str
    entries: int | None
    share: float
    """Of the ring that decides, exact but for the last digit; 0 if it is not in it."""
    expected: float
    """Entries that this share of all counted entries is."""
    fence: int | None
    repairs: int
    unavailable: str | None


def _differences(own: Entry | None, copy: Place) -> Iterable[str]:
    if own is not None and own.state == DONE and own != copy.entry:
        what = "lacks the outcome" if copy.entry is None else "has another entry"
        yield f"{copy.dedup_shard} should have the same entry as the authority and {what}"
    elif own is None and copy.entry is not None:
        yield f"{copy.dedup_shard} holds a key that the authority does not know"


async def find(document: RingDocument, key: Key) -> Whereabouts:
    """Ask every dedup shard for a key."""
    routes = document.routes(key)

    async def ask(dedup_shard: DedupShard) -> Entry | None:
        return (await dedup_shard.lookup([key]))[0]

    answers = await _ask_all(document, ask)
    places = []
    for name, (entry, unavailable) in answers.items():
        role = AUTHORITY if name == routes.authority else COPY if name in routes.also else OTHER
        places.append(Place(name, role, entry, unavailable))
    return Whereabouts(key, document.ring_epoch, tuple(places))


async def figures(document: RingDocument, repairs: Mapping[str, int]) -> list[ShardFigures]:
    """Count entries, and compare with the exact shares of the ring that decides."""

    async def ask(dedup_shard: DedupShard) -> tuple[int, int]:
        return await dedup_shard.count(), await dedup_shard.fence()

    answers = await _ask_all(document, ask)
    shares = ring_of(document.shards).shares()
    total = sum(counted[0] for counted, _ in answers.values() if counted is not None)
    known = sum(shares.get(name, 0) for name, (counted, _) in answers.items() if counted)
    found = []
    for name, (counted, unavailable) in answers.items():
        share = shares.get(name, 0)
        expected = float(total * share / known) if known else 0.0
        entries, fence = (None, None) if counted is None else counted
        found.append(
            ShardFigures(
                name, entries, float(share), expected, fence, repairs.get(name, 0), unavailable
            )
        )
    return found


async def _ask_all(
    document: RingDocument, ask: Callable[[DedupShard], Awaitable[ResultT]]
) -> dict[str, tuple[ResultT | None, str | None]]:
    """Give the answer of every dedup shard, or why there is none."""
    async with AsyncExitStack() as stack:

        async def one(info: ShardInfo) -> tuple[Any, str | None]:
            if info.url.startswith("memory:"):
                return None, "it is in the memory of another process"
            try:
                dedup_shard = await open_shard(info.name, info.url, read_only=True)
                stack.push_async_callback(dedup_shard.close)
                return await ask(dedup_shard), None
            except ShardUnavailable as error:
                return None, error.reason
            except ConfigError as error:
                return None, error.message

        infos = document.everyone()
        answers = await asyncio.gather(*map(one, infos))
    return {info.name: answer for info, answer in zip(infos, answers, strict=True)}
