"""The tiers of one region: hot that may forget, the index as warm, cold objects that may be gone.

What moves when is core/tiering.py's, in which order core/mover.py's, the bytes of an object
core/cold_segment.py's. Warm is the authority about what is taken; an error of cold is an answer
of its own, never an absence.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fractal_lba_server.core import cold_segment, mover, tiering
from fractal_lba_server.core.first_write import Apply, Key, Stored
from fractal_lba_server.core.tiering import TierBook

from ..waiting import NS_PER_MS, NS_PER_S, Life

if TYPE_CHECKING:
    from .region import Region
    from .world import World

HOT_NS: Final = 300_000
COLD_NS: Final = 5 * NS_PER_MS
QUICK_NS: Final = NS_PER_S
"""Rest of the mover between two passes where a scenario asks for `quick-mover`."""

REST_NS: Final = 60 * NS_PER_S
RETRY_MS: Final = 1_000
ENTRIES_MAX: Final = 1_000
BYTES_MAX: Final = 4 * 1024 * 1024
HOT_FILL_ROWS: Final = 1_000

Answered = Callable[..., object]


class Ref(NamedTuple):
    """Where a payload is that is not in warm any more."""

    object: str
    place: cold_segment.Place


class Unavailable(NamedTuple):
    """Nothing is known now."""

    code: str
    retry_after_ms: int


class HotStore:
    """A cache that may lose everything at any time."""

    def __init__(self) -> None:
        self._rows: dict[Key, tuple[Stored, int]] = {}

    def put(self, key: Key, stored: Stored, until_ms: int) -> None:
        """Keep a payload until a time."""
        self._rows[key] = (stored, until_ms)

    def get(self, key: Key, now_ms: int) -> Stored | None:
        """Give a payload that is here and not over."""
        found = self._rows.get(key)
        return None if found is None or found[1] <= now_ms else found[0]

    def flush(self) -> int:
        """Lose everything; give how much it was."""
        count = len(self._rows)
        self._rows.clear()
        return count


class ColdStore:
    """A store of objects, each written once."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.down = False
        self.loses_replies = 0.0
        self.counts: Counter[str] = Counter()

    def put(self, name: str, data: bytes, chance: Any) -> bool:
        """Write an object that is not there; tell whether whoever wrote it hears of it."""
        if self.down:
            self.counts["reads_failed"] += 1
            return False
        self.objects.setdefault(name, data)
        if self.loses_replies and chance.random() < self.loses_replies:
            self.counts["replies_lost"] += 1
            return False
        return True

    def get(self, name: str) -> bytes | None:
        """Give an object; None if it cannot be read now."""
        if self.down:
            self.counts["reads_failed"] += 1
            return None
        return self.objects.get(name, b"")

    def remove(self, name: str) -> bool:
        """Remove an object, if it is there."""
        if self.down:
            return False
        self.objects.pop(name, None)
        return True


class Tiers:
    """The tiers of one region."""

    def __init__(self, world: World, region: Region) -> None:
        self.world = world
        self.region = region
        self.hot = world.parts.hot()
        self.cold = world.parts.cold()
        settings = dict(world.part("settings", "tiers"))
        self.book = TierBook.from_document(settings)
        self._budget = tiering.Budget(self.book)
        self._rest_ns = QUICK_NS if "quick-mover" in world.shims else REST_NS
        self._offered_hlc = 0
        self._life: Life | None = None
        self._data: dict[str, bytes] = {}

    @property
    def refs(self) -> dict[Key, Ref]:
        """Give what is not in warm any more."""
        found: dict[Key, Ref] = self.region.disk.kept.setdefault("refs", {})
        return found

    @property
    def order(self) -> list[Key]:
        """Give every id of warm in the order in which it came; its place is its number."""
        found: list[Key] = self.region.disk.kept.setdefault("order", [])
        return found

    def _now_ms(self) -> int:
        return self.region.clock.wall_ns() // NS_PER_MS

    def begin(self, life: Life) -> None:
        """Begin to move what is due, as long as this process lives."""
        self._life = life
        life.after(self._rest_ns, self._pass)

    # --- look-ups

    def follow(self, row: Apply) -> None:
        """Take note of a row on its way to warm."""
        if row.wins:
            self.order.append(row.key)
            self.refs.pop(row.key, None)

    def ask(self, key: Key, answered: Answered) -> None:
        """Say what stands under an id: at once where warm knows, else from hot or cold."""
        stored = self.region.index.lookup(key)
        if stored is None or stored.outcome:
            answered(stored)
            return
        self.walk(key, stored, answered)

    def walk(self, key: Key, stored: Stored, answered: Answered) -> None:
        """Ask hot, then cold."""
        self.world.agenda.after(HOT_NS, self._from_hot, key, stored, answered)

    def _from_hot(self, key: Key, stored: Stored, answered: Answered) -> None:
        found = self.hot.get(key, self._now_ms())
        if found is not None:
            answered(found)
            return
        self.world.agenda.after(COLD_NS, self._from_cold, key, stored, answered)

    def _from_cold(self, key: Key, stored: Stored, answered: Answered) -> None:
        refused = self._budget.take(key[0], self.region.clock.wall_ns())
        if refused is not None:
            answered(None, Unavailable(refused.code, refused.wait_ms))
            return
        found = self.read_cold(key, stored)
        if found is None:
            self.failed(key, answered)
            return
        self._promote(key, found)
        answered(found)

    def read_cold(self, key: Key, stored: Stored) -> Stored | None:
        """Read one payload from its object and compare it with what warm says of it."""
        ref = self.refs.get(key)
        data = None if ref is None else self.cold.get(ref.object)
        if ref is None or data is None:
            return None
        try:
            part = data[ref.place.offset : ref.place.offset + ref.place.length]
            entry = cold_segment.read_entry(part, ref.place.sha256)
        except cold_segment.ColdCorruptError:
            return None
        if (entry.key, entry.stored.content) != (key, stored.content):
            return None
        return stored._replace(outcome=entry.stored.outcome)

    def failed(self, key: Key, answered: Answered) -> None:
        """Say that cold cannot be read: that is not the same as "new"."""
        answered(None, Unavailable("unavailable", RETRY_MS))

    def _promote(self, key: Key, stored: Stored) -> None:
        policy = self.book.for_tenant(key[0])
        written_ms = tiering.written_ms(stored.hlc)
        until_ms = tiering.hot_until_ms(policy, written_ms, self._now_ms())
        if until_ms is not None:
            self.hot.put(key, stored, until_ms)

    # --- the mover

    def _pass(self) -> None:
        """Fill hot, move what is due, rest."""
        life = self._life
        assert life is not None
        self._fill_hot()
        left = self.region.disk.kept.get("plan")
        if left is not None:
            self._carry(left, mover.KEPT, self._due)
        else:
            self._due()
        life.after(self._rest_ns, self._pass)

    def _fill_hot(self) -> None:
        index = self.region.index
        for key in self.order[-HOT_FILL_ROWS:]:
            stored = index.lookup(key)
            if stored is not None and stored.outcome and stored.hlc > self._offered_hlc:
                self._promote(key, stored)
        rows = (index.lookup(key) for key in self.order[-1:])
        self._offered_hlc = max([self._offered_hlc, *(row.hlc for row in rows if row)])

    def _due(self) -> None:
        """Choose what has to leave warm, and move it, one object after the other."""
        tenants = [row["id"] for row in self.world.tenants]
        batches: list[tuple[tiering.Scanned, ...]] = []
        for age_s, group in tiering.classes(self.book, tenants).items():
            rows = [self._scanned(number) for number in range(self._cursor(), len(self.order))]
            found = tiering.due(
                [row for row in rows if row is not None], tenants=group, age_s=age_s,
                now_ms=self._now_ms(), after=self._cursor() - 1,
            )  # fmt: skip
            batches += tiering.batches(found.rows, entries_max=ENTRIES_MAX, bytes_max=BYTES_MAX)
        self._move_next(batches)

    def _cursor(self) -> int:
        """Give the number from which on warm may hold payloads."""
        kept = self.region.disk.kept
        at: int = kept.get("cursor", 0)
        index = self.region.index
        while at < len(self.order):
            stored = index.lookup(self.order[at])
            if stored is None or stored.outcome:
                break
            at += 1
        kept["cursor"] = at
        return at

    def _scanned(self, number: int) -> tiering.Scanned | None:
        key = self.order[number]
        stored = self.region.index.lookup(key)
        if stored is None:
            return None
        ref = self.refs.get(key)
        written_ms = tiering.written_ms(stored.hlc)
        return tiering.Scanned(
            number, key[0], stored.origin.placement, written_ms, len(stored.outcome),
            None if ref is None else ref.object,
        )  # fmt: skip

    def _move_next(self, batches: list[tuple[tiering.Scanned, ...]]) -> None:
        if not batches:
            return
        batch = batches.pop(0)
        plan = self._plan(batch)
        if plan is None:
            self._move_next(batches)
            return
        self._carry(plan, None, lambda: self._move_next(batches))

    def _plan(self, batch: Sequence[tiering.Scanned]) -> mover.Plan | None:
        index = self.region.index
        rows = [(row.number, self.order[row.number]) for row in batch]
        found = [(n, key, index.lookup(key)) for n, key in rows]
        kept = [(n, key, stored) for n, key, stored in found if stored is not None]
        if not kept:
            return None
        entries = [
            cold_segment.write_entry(cold_segment.Entry(key, stored, b""))
            for _, key, stored in kept
        ]
        data = cold_segment.write_object(batch[0].tenant, entries, [key[1] for _, key, _ in kept])
        name = cold_segment.object_name(batch[0].placement, batch[0].tenant, data)
        moves = tuple(
            mover.Move(n, place)
            for (n, _, _), place in zip(kept, cold_segment.places(entries), strict=True)
        )
        self._data[name] = data
        newest_ms = max(row.written_ms for row in batch)
        return mover.Plan(
            mover.DEMOTE, batch[0].tenant, batch[0].placement, name, len(data), newest_ms, moves
        )

    def _carry(self, plan: mover.Plan, stage: str | None, done: Callable[[], object]) -> None:
        machine = self.world.parts.mover()
        self._step(machine, machine.on_event(mover.Begun(plan, stage)), done)

    def _step(self, machine: mover.Mover, effect: mover.Effect, done: Callable[[], object]) -> None:
        life = self._life
        assert life is not None
        if isinstance(effect, mover.Finish):
            if effect.result == "moved":
                done()
            return
        life.after(COLD_NS, self._did, machine, effect, done)

    def _did(self, machine: mover.Mover, effect: mover.Effect, done: Callable[[], object]) -> None:
        self.world.steps += 1
        self._step(machine, machine.on_event(self._do(effect)), done)

    def _do(self, effect: mover.Effect) -> mover.Event:
        kept = self.region.disk.kept
        match effect:
            case mover.KeepPlan(plan):
                kept["plan"] = plan
                return mover.PlanKept()
            case mover.Write(plan):
                return self._write(plan)
            case mover.ReadBack(plan):
                data = None if plan.object is None else self.cold.get(plan.object)
                if data is None:
                    return mover.Failed("cold is unavailable")
                return mover.CameBack(hashlib.sha256(data).hexdigest())
            case mover.Point(plan):
                self._point(plan)
                kept.pop("plan", None)
                return mover.Pointed()
            case mover.Remove(names):
                if not all(self.cold.remove(name) for name in names):
                    return mover.Failed("cold is unavailable")
                return mover.Removed()
            case _:
                kept.pop("plan", None)
                return mover.PlanDropped()

    def _write(self, plan: mover.Plan) -> mover.Event:
        """Build the object from its sources, and write it."""
        assert plan.object is not None
        data = self._data.get(plan.object)
        if data is None:
            again = self._plan([s for m in plan.moves if (s := self._scanned(m.number))])
            if again is None or again.object != plan.object:
                return mover.Changed()
            data = self._data[plan.object]
        chance = self.world.streams.of("cold", self.region.code, "reply")
        if not self.cold.put(plan.object, data, chance):
            return mover.Failed("cold did not answer")
        return mover.Written()

    def _point(self, plan: mover.Plan) -> None:
        """Put references in the place of payloads."""
        assert plan.object is not None
        index = self.region.index
        for move in plan.moves:
            key = self.order[move.number]
            stored = index.standing.get(key)
            if stored is not None and stored.outcome:
                self.refs[key] = Ref(plan.object, move.place)
                index.standing[key] = stored._replace(outcome=b"")
        self._data.pop(plan.object, None)
