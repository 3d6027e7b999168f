"""Small worlds of dedup shards in which every rule is the core's.

A key has its row in `core.dedup`, its owner in `fractal_lba.ring`, and its way through a migration
in `core.ring_document`. What these worlds add is who asks whom, right or wrong on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, NamedTuple

from fractal_lba.ring import HASHES, Ring, Shard, ring_key
from fractal_lba_server.core.dedup import (
    DONE,
    Claim,
    Claimed,
    Entry,
    Verdict,
    claim_row,
    done_entry,
)
from fractal_lba_server.core.first_write import Key, Origin, Stored
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo

TENANT: Final = "acme"
OUTCOME: Final = b"{}"


def names(count: int) -> list[str]:
    """Name shards as the sources do."""
    return [f"shard-{number}" for number in range(count)]


def ring(count: int, *, vnodes: int = 150) -> Ring:
    """Build the ring of so many shards."""
    return Ring((Shard(name) for name in names(count)), vnodes=vnodes)


def keys(count: int) -> list[Key]:
    """Make keys as ids are: 64 hex digits, spread by a hash."""
    return [(TENANT, f"{number:064x}") for number in range(count)]


@dataclass
class World:
    """Shards by name, and who is down."""

    shards: dict[str, dict[Key, Entry]]
    down: set[str] = field(default_factory=set)
    number: int = 0

    @classmethod
    def of(cls, shards: list[str]) -> World:
        """Make empty shards."""
        return cls({name: {} for name in shards})

    def put(self, shard: str, key: Key, now_ms: int, expires_at_ms: int | None = None) -> Verdict:
        """Claim a key at a shard and, if it is new there, write its outcome."""
        rows = self.shards[shard]
        verdict, row = claim_row(rows.get(key), Claim(key, "content", "writer"), now_ms)
        if row is not None:
            rows[key] = row
        if isinstance(verdict, Claimed):
            self.number += 1
            rows[key] = self._done(key, now_ms, expires_at_ms)
        return verdict

    def _done(self, key: Key, now_ms: int, expires_at_ms: int | None) -> Entry:
        origin = Origin("euw", "open", 1)
        stored = Stored(self.number, "content", 200, OUTCOME, origin, now_ms << 16)
        return done_entry(key, stored, lambda _: 0, owner="writer", expires_at_ms=expires_at_ms)


class Fallback(NamedTuple):
    """What became of resubmitted keys while a shard was down."""

    resubmitted: int
    taken_as_new: int
    refused: int
    by_neighbour: dict[str, int]
    held_twice: int
    """Keys with two outcomes once the shard is back."""


def resubmit_while_down(count: int, down: str, *, shards: int, falls_back: bool) -> Fallback:
    """Store keys, take a shard down, send every key again, and look when it is back.

    With `falls_back` a key of a shard that is down goes to the next other shard of the ring, as
    the published `Pick` does; without, it is refused and its client comes again later.
    """
    circle, world = ring(shards), World.of(names(shards))
    sent = keys(count)
    for key in sent:
        world.put(circle.pick(ring_key(*key)), key, now_ms=1)
    world.down.add(down)
    new, refused, by_neighbour = 0, 0, dict.fromkeys(names(shards), 0)
    for key in sent:
        owner, *others = circle.pick_n(ring_key(*key), shards)
        if owner in world.down and not falls_back:
            refused += 1
            continue
        target = others[0] if owner in world.down else owner
        if isinstance(world.put(target, key, now_ms=2), Claimed):
            new += 1
            by_neighbour[target] += 1
    twice = sum(sum(key in rows for rows in world.shards.values()) > 1 for key in sent)
    return Fallback(count, new, refused, by_neighbour, twice)


def share_of(name: str, shards: int) -> float:
    """Give the exact share of the hashes that a shard owns."""
    return float(ring(shards).shares()[name])


def neighbour_shares(down: str, shards: int) -> dict[str, float]:
    """Give exactly to whom the keys of a shard fall: the arc behind each of its own decides."""
    arcs = list(ring(shards).arcs())
    found: dict[str, int] = {}
    following = [*arcs[1:], arcs[0]]
    for arc, after in zip(arcs, following, strict=True):
        if arc.owner == down:
            heir = after.owner if after.owner != down else arcs[1].owner
            found[heir] = found.get(heir, 0) + arc.hi - arc.lo + 1
    return {name: float(Fraction(size, HASHES)) for name, size in sorted(found.items())}


class Rollback(NamedTuple):
    """What a rollback after a cutover keeps."""

    written_after: int
    forgotten: int
    """Keys that were acknowledged after the cutover and are new again after the rollback."""


def roll_back(before: int, after: int, *, reverse_writes: bool) -> Rollback:
    """Cut over from three shards to four, write on, and go back to the three.

    Without `reverse_writes` nobody writes to the ring before any more, as in the runbook.
    """
    old = tuple(ShardInfo(name, 1, f"mem://{name}") for name in names(3))
    new = (*old, ShardInfo("shard-3", 1, "mem://shard-3"))
    document, world = RingDocument(1, old), World.of(names(4))
    document = document.dual(new, "grow")
    sent = keys(before + after)
    for key in sent[:before]:
        _write(world, document, key)
    document = document.commit()
    if not reverse_writes:
        document = document.close()
    for key in sent[before:]:
        _write(world, document, key)
    # Without reverse writes there is no document to abandon: the operator puts the old one back.
    document = document.abandon() if reverse_writes else replace(document, shards=old)
    forgotten = 0
    for key in sent[before:]:
        row = world.shards[document.routes(key).authority].get(key)
        forgotten += row is None or row.state != DONE
    return Rollback(after, forgotten)


def _write(world: World, document: RingDocument, key: Key) -> None:
    routes = document.routes(key)
    verdict = world.put(routes.authority, key, now_ms=1)
    if isinstance(verdict, Claimed):
        for other in routes.also:
            world.shards[other][key] = world.shards[routes.authority][key]
