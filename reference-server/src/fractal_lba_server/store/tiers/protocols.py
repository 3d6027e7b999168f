"""What a hot, a warm and a cold store have to do; `tiers.py` speaks to these alone.

The invariant of this file: every method either does what its sentence says or raises
TierUnavailableError. "Not found" is an answer, and only warm may give it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple, Protocol

from ...core.first_write import Key, Stored
from ...core.mover import Plan
from ...core.tiering import Scanned

POINTED: Final = "pointed"
CHANGED: Final = "changed"
ANOTHERS: Final = "another's"


class TierUnavailableError(Exception):
    """A store could not answer; what it holds is not known."""


class PlanExistsError(TierUnavailableError):
    """Another plan is kept: one mover at a time."""


class Ref(NamedTuple):
    """Where a payload stands in cold."""

    object: str
    offset: int
    length: int
    sha256: bytes


class WarmRow(NamedTuple):
    """What warm says of an id; `stored.outcome` is empty where the payload is elsewhere."""

    number: int
    key: Key
    stored: Stored
    ref: Ref | None
    warm_until_ms: int | None  # of a payload that was promoted
    has_ended: bool


class ObjectInfo(NamedTuple):
    """A cold object that warm points to."""

    name: str
    placement: str
    tenant: str
    entries: int  # that warm points to
    size: int
    newest_ms: int
    holes: int  # entries of payloads that were erased or replaced


class TierSize(NamedTuple):
    """What a tier holds."""

    keys: int
    size_bytes: int


class HotStore(Protocol):
    """A cache with absolute expiry; when it is full it refuses, and evicts nothing."""

    async def get(self, key: Key, now_ms: int) -> Stored | None: ...

    async def put(
        self, key: Key, stored: Stored, *, until_ms: int, generation: int, now_ms: int
    ) -> bool:
        """Keep an entry; False: refused, the store is full or its generation another."""
        ...

    async def forget(self, keys: Sequence[Key], generation: int) -> None:
        """Raise the generation, then remove keys."""
        ...

    async def begin(self, generation: int) -> None:
        """Hold nothing from now on, and take this generation."""
        ...

    async def size(self) -> TierSize: ...

    async def close(self) -> None: ...


class WarmStore(Protocol):
    """The authority: every id, and the payloads that are not in cold."""

    async def lookup(self, key: Key) -> WarmRow | None: ...

    async def generation(self) -> int: ...

    async def raise_generation(self) -> int: ...

    async def tenants(self) -> list[str]: ...

    async def scan(self, after: int, limit: int) -> list[Scanned]:
        """Give rows in order of their numbers, those after `after`."""
        ...

    async def rows(self, numbers: Sequence[int]) -> list[WarmRow]:
        """Give rows by number; those that are gone are left out."""
        ...

    async def newest(self, limit: int) -> list[WarmRow]:
        """Give the rows that came last and have their payload here."""
        ...

    async def rows_of(self, name: str) -> list[WarmRow]:
        """Give the rows that point to an object."""
        ...

    async def cursor(self, name: str) -> int: ...

    async def set_cursor(self, name: str, number: int) -> None: ...

    async def plan(self) -> tuple[Plan, str] | None: ...

    async def keep_plan(self, plan: Plan) -> None: ...

    async def point(self, plan: Plan) -> str:
        """Carry a plan out in one transaction: `pointed`, `changed`, or `another's` plan."""
        ...

    async def drop_plan(self, plan: Plan) -> bool:
        """Forget a plan; False: it is not kept."""
        ...

    async def points_to(self, name: str) -> bool: ...

    async def objects(self, after: str, limit: int) -> list[ObjectInfo]:
        """Give objects in order of their names, those after `after`."""
        ...

    async def promoted(self, until_ms: int, limit: int) -> list[WarmRow]:
        """Give promoted payloads whose time in warm is over."""
        ...

    async def promote(self, row: WarmRow, *, until_ms: int, generation: int) -> bool:
        """Take a payload back; False: refused, the row or the generation is another now."""
        ...

    async def cool(self, numbers: Sequence[int]) -> None:
        """Let promoted payloads go again; cold holds them."""
        ...

    async def erase(self, keys: Sequence[Key]) -> int:
        """Forget payloads and raise the generation; the ids stay. Give the new generation."""
        ...

    async def size(self) -> TierSize: ...

    async def cold_size(self) -> TierSize: ...

    async def close(self) -> None: ...


class ColdStore(Protocol):
    """Objects by name, written once."""

    async def create(self, name: str, data: bytes) -> bool:
        """Write an object if its name is free; False: it is there already."""
        ...

    async def read(self, name: str) -> bytes | None:
        """Read a whole object; None: the store says that there is none."""
        ...

    async def read_range(self, name: str, offset: int, length: int) -> bytes | None: ...

    async def remove(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def names(self, prefix: str) -> AsyncIterator[str]:
        """List names. A listing may be stale: it proves neither presence nor absence."""
        ...
