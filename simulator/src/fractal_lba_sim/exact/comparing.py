"""Tell when regions hold the same, and write what they hold.

What stands is added up row by row, so that nobody looks at all keys again and again. A digest
after a heal is of the writes up to the heal: first write wins, so that does not change later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core.first_write import Apply, Key, Stored

from ..waiting import NS_PER_MS
from .index import MODULUS, Index, frame_name, state_hash
from .tracing import digest16

if TYPE_CHECKING:
    from .world import World

STILL_NS: Final = 700 * NS_PER_MS
"""How long nothing may change before it is believed: an index follows its log with a delay."""

END: Final = "end"


class _Side:
    """What one region holds of each placement, up to a time."""

    def __init__(self, code: str, index: Index, until_ms: int | None, changed: Any) -> None:
        self.code = code
        self.index = index
        self._until_ms = until_ms
        self._changed = changed
        self.sums: dict[str, tuple[int, int]] = {}
        """By placement: how many keys stand, and the sum of their hashes."""
        for key, stored in index.standing.items():
            self._add(key, stored, 1)
        index.watchers.append(self._row)

    def _row(self, row: Apply) -> None:
        if row.wins:
            is_changed = self._add(row.key, row.stored, 1)
            if row.replaced is not None:
                is_changed |= self._add(row.key, row.replaced, -1)
            if is_changed:
                self._changed()

    def _add(self, key: Key, stored: Stored, sign: int) -> bool:
        """Take a row in, unless it is of a later write; tell whether it was."""
        if self._until_ms is not None and stored.hlc >> 16 > self._until_ms:
            return False
        place = stored.origin.placement
        keys, total = self.sums.get(place, (0, 0))
        self.sums[place] = (keys + sign, total + sign * state_hash(key, stored))
        return True

    def end(self) -> None:
        if self._row in self.index.watchers:
            self.index.watchers.remove(self._row)


class Comparer:
    """Waits until the regions of each placement are equal, and writes what they hold then."""

    def __init__(
        self, world: World, after: str, *, until_ms: int | None, settle_ns: int,
        done: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.world = world
        self.after = after
        self._until_ms = until_ms
        self._done = done
        self.is_over = False
        self._still: Any = None
        self._sides: dict[str, _Side] = {}
        self.follow()
        self._still = world.agenda.after(STILL_NS, self._look)
        self._settle_ns = settle_ns
        self._deadline = world.agenda.after(settle_ns, self._late)

    def follow(self) -> None:
        """Follow the disks as they are now; a disk may have been replaced."""
        for code, region in self.world.regions.items():
            index = region.index
            side = self._sides.get(code)
            if side is not None and side.index is index:
                continue
            if side is not None:
                side.end()
            self._sides[code] = _Side(code, index, self._until_ms, self._changed)

    def _changed(self) -> None:
        if self._still is not None:
            self._still.cancel()
        self._still = self.world.agenda.after(STILL_NS, self._look)

    def _late(self) -> None:
        """Stop to wait, unless something else will be mended or was mended a while ago."""
        breaker, agenda = self.world.breaker, self.world.agenda
        left_ns = breaker.healed_ns + self._settle_ns - agenda.now_ns
        if any("for_s" in fault for fault in breaker.open.values()):
            left_ns = self._settle_ns
        if left_ns > 0:
            self._deadline = agenda.after(left_ns, self._late)
        else:
            self._end()

    def _look(self) -> None:
        if self.is_over:
            return
        self.follow()
        if self.is_equal():
            self._end()

    def is_equal(self) -> bool:
        """Say whether the regions of each placement are in one state."""
        return all(
            len({self._row(name, code) for code in placement.regions}) == 1
            for name, placement in self.world.placements.items()
        )

    def _row(self, name: str, code: str) -> tuple[int, int]:
        return self._sides[code].sums.get(name, (0, 0))

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._deadline.cancel()
        self.follow()
        trace = self.world.trace
        for name, placement in self.world.placements.items():
            for code in placement.regions:
                keys, total = self._row(name, code)
                trace.write(
                    "digest", after=self.after, region=code, placement=name,
                    digest=f"{total % MODULUS:064x}", keys=keys,
                )  # fmt: skip
        if self.is_equal() and self.after != END:
            for phase in ("catch_up", "verify"):
                trace.write("phase", incident=self.after, phase=phase)
        for side in self._sides.values():
            side.end()
        self._done()


def write_census(world: World, name: str, code: str, index: Index) -> None:
    """Write all that a region holds now."""
    trace, at_ns = world.trace, world.agenda.now_ns
    trace.write("census", census=name, region=code, keys=len(index.standing))
    for key in sorted(index.standing):
        stored = index.standing[key]
        content = stored.content
        trace.add({
            "event": "held", "at_ns": at_ns, "census": name, "region": code,
            "key": f"{key[0]}/{key[1]}", "frame": frame_name(stored), "content": content[:16],
            "outcome": digest16(stored.outcome) if stored.outcome else None,
            "placement": stored.origin.placement,
            "overridden": [
                {
                    "frame": frame_name(other), "content": other.content[:16],
                    "kind": "duplicate" if other.content == content else "displaced",
                }
                for other in index.overridden.get(key, ())
            ],
        })  # fmt: skip
