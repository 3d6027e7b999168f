"""Two regions in a few lines, right or as a hazard describes them, that write a trace.

Each switch is one literal design. The same judge reads the traces of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from traces import Book, content, frame

Frame = tuple[str, str]
"""(frame, content)"""


@dataclass
class Store:
    """What one region holds: its log in order, and what stands and does not under each key."""

    log: list[tuple[int, str, Frame]] = field(default_factory=list)
    shipped: int = 0
    standing: dict[str, Frame] = field(default_factory=dict)
    under: dict[str, list[Frame]] = field(default_factory=dict)


@dataclass
class Model:
    """Two regions; times are milliseconds of the trace."""

    promises: Mapping[str, Any]
    merge: str = "first"
    """first: the smallest (time, region) stands; last: what arrives stands; arrival: what is
    there stays; youngest: the largest stands."""

    keep_losers: bool = True
    skew_ms: Mapping[str, int] = field(default_factory=dict)
    forgets_every: int = 0
    """A dedup store that is a cache: every n-th look-up misses."""

    def __post_init__(self) -> None:
        self.book = Book(self.promises)
        self.stores = {"euw": Store(), "use": Store()}
        self.looks = 0

    def put(self, region: str, key: str, at_ms: int, what: str | None = None, **more: Any) -> str:
        """Submit; give the result."""
        store, own = self.stores[region], content(what or key)
        self.looks += 1
        forgotten = self.forgets_every and not self.looks % self.forgets_every
        known = None if forgotten else store.standing.get(key)
        if known is None:
            made = (frame(region, at_ms + self.skew_ms.get(region, 0)), own)
            store.log.append((at_ms, key, made))
            self._meet(store, key, made)
            self._say(region, key, at_ms, "new", made, **more)
            return "new"
        result = "duplicate" if known[1] == own else "conflict"
        self._say(region, key, at_ms, result, (known[0], own), **more)
        return result

    def _say(self, region: str, key: str, at_ms: int, result: str, made: Frame, **m: Any) -> None:
        self.book.put(
            key, at_ms, result, region=region, frame=made[0], content=made[1],
            call_ms=at_ms - 1, **m,
        )  # fmt: skip

    def _meet(self, store: Store, key: str, made: Frame) -> None:
        known = store.standing.get(key)
        if known is None or known == made:
            store.standing[key] = made
            return

        def order(one: Frame) -> tuple[str, str]:
            region, _, hlc = one[0].partition(":")
            return hlc, region

        first = min(known, made, key=order)
        youngest = max(known, made, key=order)
        chosen = {"first": first, "last": made, "arrival": known, "youngest": youngest}
        winner = chosen[self.merge]
        store.standing[key] = winner
        if self.keep_losers:
            loser = made if winner == known else known
            store.under.setdefault(key, [])
            if loser not in store.under[key]:
                store.under[key].append(loser)

    def ship(self, source: str, target: str) -> None:
        """Have one region's log arrive at the other."""
        store = self.stores[source]
        for _, key, made in store.log[store.shipped :]:
            self._meet(self.stores[target], key, made)
        store.shipped = len(store.log)

    def heal(self) -> None:
        """Ship both ways."""
        self.ship("euw", "use")
        self.ship("use", "euw")

    def lose(self, region: str) -> None:
        """Have a region's disk gone."""
        self.stores[region] = Store()

    def census(self, name: str, at_ms: int, *regions: str) -> None:
        """Write what regions hold, and a digest of it."""
        for region in regions:
            store = self.stores[region]
            held = {
                key: {
                    "frame": made[0],
                    "content": made[1],
                    "overridden": [
                        {"frame": f, "content": c,
                         "kind": "duplicate" if c == made[1] else "displaced"}
                        for f, c in store.under.get(key, ())
                    ],
                }
                for key, made in store.standing.items()
            }  # fmt: skip
            self.book.census(name, at_ms, held, region)
            digest = str(hash(tuple(sorted((k, v["frame"]) for k, v in held.items()))))
            self.book.digests(name, at_ms, **{region: digest})

    def end(self) -> list[dict[str, Any]]:
        """Take the last census of both regions and end the trace."""
        self.census("end", 90_000, *self.stores)
        return self.book.end()
