"""Parts of the tests of the tiers: a clock, rows of any age, stores that fail where they are told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from obstore.store import MemoryStore

from fractal_lba_server.core.first_write import Apply, Key, Origin, Stored
from fractal_lba_server.core.tiering import TierBook
from fractal_lba_server.store.index_cold import IndexWarm
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.tiers.cold_objects import ColdObjects
from fractal_lba_server.store.tiers.conditions import Condition
from fractal_lba_server.store.tiers.hot_memory import HotMemory
from fractal_lba_server.store.tiers.lineage import Lineage
from fractal_lba_server.store.tiers.protocols import TierUnavailableError
from fractal_lba_server.tier_mover import TierMover
from fractal_lba_server.tiers import Found, NotFound, Tiers

T = TypeVar("T")

START_MS = 1_763_700_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
HOME = Origin("eu1", "open", 1)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine to its end."""
    return asyncio.run(work)


class Clock:
    """A clock that a test sets."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms * 1_000_000


def key_of(number: int, tenant: str = "acme") -> Key:
    """Name an id."""
    return (tenant, hashlib.sha256(f"{tenant} {number}".encode()).hexdigest())


def stored_of(key: Key, seq: int, *, at_ms: int = START_MS, content: str = "") -> Stored:
    """Make an outcome that looks like one."""
    outcome = (
        f'{{"accepted":true,"escalated":false,"first_seen":{{"hlc":"{at_ms << 16:016x}",'
        f'"region":"eu1"}},"pcs_id":"{key[1]}","policy_version":"0123456789abcdef"}}'
    )
    digest = content or hashlib.sha256(f"content {key[1]}".encode()).hexdigest()
    return Stored(seq, digest, 200, outcome.encode(), HOME, at_ms << 16)


def rows_of(
    count: int, *, tenant: str = "acme", first: int = 1, at_ms: int = START_MS
) -> list[Apply]:
    """Make outcomes that follow one another in the log."""
    found = []
    for seq in range(first, first + count):
        key = key_of(seq, tenant)
        found.append(Apply(key, stored_of(key, seq, at_ms=at_ms), "kid"))
    return found


class Place:
    """A data directory with its index, and every tier of it; `restart` is what a crash leaves."""

    def __init__(self, folder: Path, book: TierBook | None = None) -> None:
        self.folder = folder
        self.book = book if book is not None else TierBook()
        self.clock = Clock()
        self.cold = ColdObjects(MemoryStore())
        self.hot: HotMemory | None = HotMemory()
        self.index = Index(folder / "index.sqlite")
        self.warm = IndexWarm(self.index, folder / "index.sqlite")

    def tiers(self, **changes: Any) -> Tiers:
        """Make the look-ups of this place; `changes` replaces parts of it."""
        path = self.folder / "lineage"
        lineage = changes.pop("lineage") if "lineage" in changes else Lineage(path)
        parts = {"warm": self.warm, "hot": self.hot, "cold": self.cold, "book": self.book}
        return Tiers(
            **{**parts, **changes}, lineage=lineage, condition=Condition, now_ns=self.clock
        )

    def mover(self, **changes: Any) -> TierMover:
        """Make the mover of this place."""
        parts = {"warm": self.warm, "cold": self.cold, "book": self.book}
        return TierMover(**{**parts, **changes}, now_ns=self.clock)

    def names(self) -> list[str]:
        """List the objects that cold holds."""
        return run(_all(self.cold.names("")))

    def close(self) -> None:
        """Close warm and the index."""
        run(self.warm.close())
        self.index.close()


async def _all(names: AsyncIterator[str]) -> list[str]:
    return sorted([name async for name in names])


class Killed(BaseException):
    """Stands for the end of a process: nothing catches it."""


class Wrapped:
    """A store whose calls of some methods are watched, failed, or the last of a process."""

    def __init__(
        self, store: Any, before: Callable[[str], None], after: Callable[[str], None]
    ) -> None:
        self._store, self._before, self._after = store, before, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name.startswith("_") or not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **options: Any) -> Any:
            self._before(name)
            result = await method(*args, **options)
            self._after(name)
            return result

        return call


def nothing(name: str) -> None:
    """Do nothing."""


def failing(*names: str) -> Callable[[str], None]:
    """Make the named methods unavailable."""

    def check(name: str) -> None:
        if name in names:
            raise TierUnavailableError(f"{name} is down")

    return check


async def started(tiers: Tiers, work: Callable[[Tiers], Awaitable[T]]) -> T:
    """Start, do something, stop."""
    await tiers.start()
    try:
        return await work(tiers)
    finally:
        await tiers.stop()


async def get_all(tiers: Tiers, keys: Sequence[Key]) -> list[Any]:
    """Look keys up one after the other, each promotion done before the next."""
    answers = []
    for key in keys:
        answers.append(await tiers.get(key))
        await tiers.promoted()
    return answers


AGES_MS = {
    "0 s": 0,
    "59 m": 59 * MINUTE_MS,
    "61 m": 61 * MINUTE_MS,
    "6.9 d": int(6.9 * DAY_MS),
    "7.1 d": int(7.1 * DAY_MS),
    "13.9 d": int(13.9 * DAY_MS),
}
KEY = key_of(1)
Verdict = Callable[[int], str]


def ours(place: Place, **changes: Any) -> Verdict:
    """Say what a submit of the one id gets at an age, after the mover has done its work."""

    def verdict(age_ms: int) -> str:
        place.clock.now_ms = START_MS + age_ms
        run(place.mover().run())
        answer = run(started(place.tiers(**changes), lambda t: t.get(KEY)))
        if isinstance(answer, NotFound):
            return "new"
        return "duplicate" if isinstance(answer, Found) else "unavailable"

    return verdict
