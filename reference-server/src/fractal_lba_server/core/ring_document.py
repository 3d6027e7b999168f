"""The ring document: which ring decides about a key, and where else its entry is written.

This file owns that rule (spec/dedup.md 5). A document is in one of three phases:

    steady      `shards` decide; `next` is empty
    dual        `shards` decide; `next` is the ring to be, and gets every key that moves
    committed   `shards` decide; `next` is the ring before, and gets every key that moved

Each document has a larger `ring_epoch` than the one before it; whoever writes under an older
one is refused by the fence of the dedup shard, reads the document again and goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

from fractal_lba.canonical import jcs, parse_value
from fractal_lba.errors import ConfigError, FractalLBAError
from fractal_lba.ring import Moved, Movement, Ring, Shard, movement, ring_key

from .first_write import Key

STEADY: Final = "steady"
DUAL: Final = "dual"
COMMITTED: Final = "committed"

DOCUMENT_BYTES_MAX: Final = 1 << 20
"""Longest document: two rings of 1,024 shards with URLs of 400 bytes."""

URL_BYTES_MAX: Final = 400
"""Longest URL of a dedup shard."""

RING_EPOCH_MAX: Final = 2**53 - 1
"""Largest ring epoch: the largest integer that every JSON reader keeps exactly."""

_PREFIX: Final = "ring document: "

RINGS_KEPT: Final = 8
"""Rings that stay built: those of the documents a process still meets."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """Name one dedup shard, its weight in the ring, and where it is."""

    name: str
    weight: int
    url: str = field(repr=False)  # it may hold a password

    def member(self) -> dict[str, Any]:
        """Give the members of its JSON object."""
        return {"name": self.name, "url": self.url, "weight": self.weight}


class Routes(NamedTuple):
    """Which dedup shard decides about a key, and which others get what it decided."""

    authority: str
    also: tuple[str, ...]


@lru_cache(maxsize=RINGS_KEPT)
def ring_of(shards: tuple[ShardInfo, ...]) -> Ring:
    """Build the ring of some shards, once."""
    return Ring(Shard(dedup_shard.name, dedup_shard.weight) for dedup_shard in shards)


@dataclass(frozen=True, slots=True)
class RingDocument:
    """Say which ring decides, and which one is on its way in or out."""

    ring_epoch: int
    shards: tuple[ShardInfo, ...]
    phase: str = STEADY
    next: tuple[ShardInfo, ...] = ()
    migration: str | None = None

    def __post_init__(self) -> None:
        if type(self.ring_epoch) is not int or not 1 <= self.ring_epoch <= RING_EPOCH_MAX:
            raise _wrong("ring_epoch", f"expected 1 to {RING_EPOCH_MAX}, got {self.ring_epoch!r}")
        if self.phase not in (STEADY, DUAL, COMMITTED):
            raise _wrong("phase", f"expected steady, dual or committed, got {self.phase!r:.80}")
        moving = self.phase != STEADY
        if bool(self.next) != moving or (self.migration is not None) != moving:
            raise _wrong("next", f"a {self.phase} document has {'both' if moving else 'neither'} "
                         "`next` and `migration`")  # fmt: skip
        if not isinstance(self.migration, str | None):
            raise _wrong("migration", "expected a text or null")
        ring_of(self.shards)
        urls = {dedup_shard.name: dedup_shard.url for dedup_shard in self.shards}
        if self.next:
            ring_of(self.next)
        for dedup_shard in self.next:
            if urls.get(dedup_shard.name, dedup_shard.url) != dedup_shard.url:
                raise _wrong("next", f"{dedup_shard.name} has another url than in `shards`")

    @property
    def version_text(self) -> str:
        """Say phase and ring epoch for a person."""
        return f"{self.phase} at ring_epoch {self.ring_epoch}"

    def everyone(self) -> tuple[ShardInfo, ...]:
        """Give every dedup shard of both rings, once."""
        return tuple(
            {dedup_shard.name: dedup_shard for dedup_shard in (*self.shards, *self.next)}.values()
        )

    def routes(self, key: Key) -> Routes:
        """Say who decides about a key, and who else gets its entry (dedup 5.4)."""
        hashed = ring_key(*key)
        authority = ring_of(self.shards).pick(hashed)
        if not self.next:
            return Routes(authority, ())
        other = ring_of(self.next).pick(hashed)
        return Routes(authority, () if other == authority else (other,))

    def moves(self) -> list[Moved]:
        """Give the ranges whose entries go from the ring that decides to `next`."""
        if not self.next:
            return []
        return movement(ring_of(self.shards), ring_of(self.next)).ranges

    def dual(self, next_shards: tuple[ShardInfo, ...], migration: str) -> RingDocument:
        """Begin to write to the ring to be as well; the same ring goes on to decide."""
        self._expect(STEADY)
        return RingDocument(self.ring_epoch + 1, self.shards, DUAL, next_shards, migration)

    def commit(self) -> RingDocument:
        """Let the ring to be decide; the ring before it gets reverse writes."""
        self._expect(DUAL)
        return replace(
            self, ring_epoch=self.ring_epoch + 1, phase=COMMITTED, shards=self.next,
            next=self.shards,
        )  # fmt: skip

    def go_on(self, ring_epoch: int | None = None) -> RingDocument:
        """Let the same rings go on under a later ring epoch: how a pause of writes ends."""
        return replace(self, ring_epoch=ring_epoch or self.ring_epoch + 1)

    def abandon(self) -> RingDocument:
        """Go back to the ring that was there before the migration, from either phase."""
        shards = self.next if self.phase == COMMITTED else self.shards
        return RingDocument(self.ring_epoch + 1, shards)

    def close(self) -> RingDocument:
        """Stop the reverse writes: the new ring alone remains."""
        self._expect(COMMITTED)
        return RingDocument(self.ring_epoch + 1, self.shards)

    def _expect(self, phase: str) -> None:
        if self.phase != phase:
            raise _wrong("phase", f"expected {phase}, the document is {self.version_text}")

    def to_bytes(self) -> bytes:
        """Write the document in RFC 8785 form."""
        return jcs({
            "migration": self.migration,
            "next": [dedup_shard.member() for dedup_shard in self.next],
            "phase": self.phase,
            "ring_epoch": self.ring_epoch,
            "shards": [dedup_shard.member() for dedup_shard in self.shards],
        })  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> RingDocument:
        """Read exactly what `to_bytes` writes; raises ConfigError for anything else."""
        try:
            value = parse_value(data, max_bytes=DOCUMENT_BYTES_MAX)
            document = cls(
                value["ring_epoch"], read_shards(value["shards"]), value["phase"],
                read_shards(value["next"]), value["migration"],
            )  # fmt: skip
            whole = document.to_bytes() == data
        except (KeyError, TypeError):
            whole = False
        except FractalLBAError as error:
            raise _wrong("text", error.args[0].removeprefix(_PREFIX)) from None
        if not whole:
            raise _wrong("text", "not the RFC 8785 form of its five members")
        return document


def movement_of(old: tuple[ShardInfo, ...], new: tuple[ShardInfo, ...]) -> Movement:
    """Compare two rings."""
    return movement(ring_of(old), ring_of(new))


def read_shards(members: Any) -> tuple[ShardInfo, ...]:
    """Read a list of `{name, url, weight}`; raises KeyError, TypeError or ConfigError."""
    shards = tuple(ShardInfo(each["name"], each["weight"], each["url"]) for each in members)
    for index, dedup_shard in enumerate(shards):
        url = dedup_shard.url
        if not isinstance(url, str) or not 0 < len(url.encode()) <= URL_BYTES_MAX:
            raise _wrong(f"shards[{index}].url", f"expected 1 to {URL_BYTES_MAX} bytes")
    return shards


def _wrong(place: str, problem: str) -> ConfigError:
    return ConfigError("config_invalid", f"{_PREFIX}{place}: {problem}")
