"""Carries a live migration out in the small world: what core/migration.py says, step by step.

The invariant of this file: it decides nothing. A coordinator that ends anywhere is followed by one
that resumes from the kept state and the ring document, as the server's does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from hashlib import sha256
from operator import methodcaller
from typing import Final

from fractal_lba_server.core.dedup import Entry, ShardUnavailable, StaleRingEpoch, point_of
from fractal_lba_server.core.mending import mend
from fractal_lba_server.core.migration import (
    CLEANED,
    CLOSED,
    COPIED,
    COPYING,
    LISTED,
    OPEN,
    PLANNED,
    ROLLED_BACK,
    VERIFIED,
    DeleteLeftovers,
    Drain,
    Effect,
    Effects,
    Fence,
    Listed,
    ListLeftovers,
    Migration,
    Pause,
    PutDocument,
    Refused,
    Save,
    Seal,
    Seen,
    Verify,
    after_copy,
    after_verify,
    command,
    resume,
)
from fractal_lba_server.core.ring_document import STEADY, RingDocument

from ...waiting import NS_PER_MS, Life
from .shard_world import REST_NS, SHARDS_MAX, Repair, Shard, ShardWorld, Steps, infos

PAUSE_MS: Final = 200
WINDOW_MS: Final = 1_500
"""How long a cutover can be rolled back in this world."""

TYPED_NS: Final = 500 * NS_PER_MS
"""How long a person takes from one command to the next."""

MENDS_MAX: Final = 8
TRIES_MAX: Final = 400
"""Times that a coordinator goes on before it gives a migration up."""


class ConflictError(Exception):
    """Another process has changed what was to be changed."""


class Coordinator:
    """One process that drives a migration to its end, or back."""

    def __init__(self, world: ShardWorld) -> None:
        self.world = world
        self.control = world.control
        self.life = Life(world.agenda)
        self.notes: list[str] = []

    # --- what is wished for

    def drive(self) -> Steps:
        """Go on with whatever is under way, until it is over."""
        for _ in range(TRIES_MAX):
            state = self.control.state
            if state is None or state.step == CLEANED:
                return
            try:
                yield from self._advance()
            except (Refused, ConflictError, ShardUnavailable, StaleRingEpoch) as error:
                self.notes.append(str(error))
                yield REST_NS
                yield from self._mend_what_blocks()

    def _mend_what_blocks(self) -> Steps:
        try:
            yield from self.drain()
        except (ShardUnavailable, StaleRingEpoch):
            yield REST_NS

    def _advance(self) -> Steps:
        yield from self.carry_out(self.resumed())
        yield TYPED_NS
        state = self._state()
        if self.world.wants_back and state.step in (
            PLANNED, COPYING, COPIED, VERIFIED, OPEN,
        ):  # fmt: skip
            yield from self.carry_out(self.ordered("rollback"))
        elif state.step == PLANNED:
            yield from self.carry_out(self.ordered("dual-write"))
        elif state.step == COPYING:
            yield from self.copy()
            self._save(after_copy(self._state()))
        elif state.step == COPIED:
            clean = yield from self.verify()
            self._save(after_verify(self._state(), clean=clean, reverse_tested=clean))
        elif state.step == VERIFIED:
            yield from self.carry_out(self.ordered("cutover"))
        elif state.step == OPEN:
            yield from self.wait_for_the_window(state)
            if not self.world.wants_back:
                yield from self.carry_out(self.ordered("cleanup"))
        elif state.step in (CLOSED, LISTED, ROLLED_BACK):
            yield from self.carry_out(self.ordered("cleanup"))

    def wait_for_the_window(self, state: Migration) -> Steps:
        """Wait until nobody may roll back any more, or somebody does."""
        until_ms = state.window_until_ms or 0
        while self.world.now_ms() < until_ms and not self.world.wants_back:
            yield REST_NS

    # --- decisions of the core

    def _state(self) -> Migration:
        assert self.control.state is not None
        return self.control.state

    def _seen(self) -> Seen:
        return Seen(self.control.document, len(self.control.repairs), self.world.now_ms())

    def ordered(self, name: str) -> Effects:
        """Say what a command does now."""
        return command(name, self._state(), self._seen())

    def resumed(self) -> Effects:
        """Say what an earlier coordinator left undone."""
        return resume(self._state(), self._seen())

    # --- effects

    def carry_out(self, effects: Effects) -> Steps:
        """Do effects in their order."""
        for effect in effects:
            yield self.world.trip_ns("coordinator")
            yield from self._do(effect)

    def _do(self, effect: Effect) -> Steps:
        match effect:
            case Save(state):
                self._save(state)
            case PutDocument(document):
                self._put(document)
            case Fence(names, ring_epoch):
                for name in names:
                    yield from self.fence(name, ring_epoch)
            case Seal():
                if self.control.repairs:
                    raise ConflictError("a write is waiting for repair")
                self.control.sealed_epoch = self.control.document.ring_epoch
            case Drain():
                yield from self.drain()
            case Pause():
                yield from self._pause(effect)
            case Verify():
                yield from self.verify()
            case ListLeftovers():
                yield from self._list()
            case DeleteLeftovers():
                yield from self._delete()

    def fence(self, name: str, ring_epoch: int) -> Steps:
        """Have a dedup shard refuse older writes."""
        yield from self.world.ask(name, methodcaller("set_fence", ring_epoch))

    def _save(self, state: Migration) -> None:
        if state.step != self._state().step:
            self.notes.append(f"migration: {state.step}")
        self.control.state = state

    def _put(self, document: RingDocument) -> None:
        if document.ring_epoch <= self.control.document.ring_epoch:
            raise ConflictError("the ring document is another one by now")
        self.control.document = document

    def _pause(self, pause: Pause) -> Steps:
        started_ns = self.world.agenda.now_ns
        fence, put = pause.within
        try:
            yield from self._do(fence)
            self._expect_quick(started_ns, pause.budget_ms)
            yield from self._do(put)
        except (ConflictError, ShardUnavailable, StaleRingEpoch):
            for effect in pause.instead:
                if isinstance(effect, PutDocument) and (
                    effect.document.ring_epoch <= self.control.document.ring_epoch
                ):
                    continue
                yield from self._do(effect)
            raise ConflictError("called off, the same ring goes on") from None

    def _expect_quick(self, started_ns: int, budget_ms: int) -> None:
        if self.world.agenda.now_ns - started_ns > budget_ms * NS_PER_MS:
            raise ConflictError("the fences took too long")

    # --- entries

    def pairs(self) -> list[tuple[str, str, int, int]]:
        """Give who decides, who gets a copy, and of which range."""
        return [(m.source, m.target, m.lo, m.hi) for m in self.control.document.moves()]

    def moving(self, source: str, target: str) -> list[Entry]:
        """Give what a dedup shard holds of the ranges that go to another one."""
        found = self.world.shards[source].rows.values()
        ranges = [(lo, hi) for a, b, lo, hi in self.pairs() if (a, b) == (source, target)]
        return [
            entry for entry in found if any(lo <= point_of(entry.key) <= hi for lo, hi in ranges)
        ]

    def _ways(self) -> list[tuple[str, str]]:
        return sorted({(source, target) for source, target, _, _ in self.pairs()})

    def copy(self) -> Steps:
        """Copy all that moves."""
        for source, target in self._ways():
            entries = yield from self.world.ask(source, partial(self._read, source, target))
            for entry in entries:
                yield from self.copy_one(entry, target)

    def _read(self, source: str, target: str, _: Shard) -> list[Entry]:
        return self.moving(source, target)

    def copy_one(self, entry: Entry, target: str) -> Steps:
        """Put one entry into the other ring, if it is first."""
        epoch = self.control.document.ring_epoch
        yield from self.world.ask(target, methodcaller("put_if_first", entry, epoch))

    def verify(self) -> Steps:
        """Compare all that moves, mend it, and say whether both sides agree."""
        for source, target in self._ways():
            for key in self.compared(source, target):
                for _ in range(MENDS_MAX):
                    if not (yield from self._mend(source, target, key)):
                        break
                else:
                    return False
        return True

    def compared(self, source: str, target: str) -> list[tuple[str, str]]:
        """Give the keys that are compared: all that either side holds."""
        rows = {entry.key: None for entry in self.moving(source, target)}
        for entry in self.moving_back(source, target):
            rows.setdefault(entry.key)
        return list(rows)

    def moving_back(self, source: str, target: str) -> list[Entry]:
        """Give what the other side holds of the same ranges."""
        ranges = [(lo, hi) for a, b, lo, hi in self.pairs() if (a, b) == (source, target)]
        return [
            entry
            for entry in self.world.shards[target].rows.values()
            if any(lo <= point_of(entry.key) <= hi for lo, hi in ranges)
        ]

    def _mend(self, source: str, target: str, key: tuple[str, str]) -> Steps:
        own = yield from self.world.ask(source, methodcaller("lookup", key))
        copy = yield from self.world.ask(target, methodcaller("lookup", key))
        what = mend(own, copy, self.world.now_ms())
        epoch = self.control.document.ring_epoch
        if what.delete_copy:
            yield from self.world.ask(target, methodcaller("delete", key, epoch))
        for name, entry in ((source, what.at_authority), (target, what.at_copy)):
            if entry is not None:
                yield from self.world.ask(name, methodcaller("put_if_first", entry, epoch))
        return what.needed

    def drain(self) -> Steps:
        """Carry out every repair that waits."""
        while self.control.repairs:
            name, key = self.control.repairs[0]
            routes = self.control.document.routes(key)
            entry = yield from self.world.ask(routes.authority, methodcaller("lookup", key))
            if entry is not None and name in routes.also:
                yield from self.copy_one(entry, name)
            self._drop(Repair(name, key))

    def _drop(self, repair: Repair) -> None:
        if repair in self.control.repairs:
            self.control.repairs.remove(repair)

    # --- what is left over

    def _leftovers(self) -> list[tuple[str, str, Entry]]:
        document = self.control.document
        return [
            (name, owner, entry)
            for name, shard in self.world.shards.items()
            for entry in shard.rows.values()
            if (owner := document.routes(entry.key).authority) != name
        ]

    def _list(self) -> Steps:
        yield self.world.trip_ns("coordinator")
        found: dict[tuple[str, str], list[str]] = {}
        for name, owner, entry in self._leftovers():
            found.setdefault((name, owner), []).append("|".join(entry.key))
        listed = tuple(
            Listed(name, owner, len(keys), sha256("\n".join(sorted(keys)).encode()).hexdigest())
            for (name, owner), keys in sorted(found.items())
        )
        state = self._state()
        self._save(replace(state, step=LISTED, listed=listed))

    def _delete(self) -> Steps:
        epoch = self.control.document.ring_epoch
        for name, owner, entry in self._leftovers():
            yield from self.bring_home(entry, owner)
            yield from self.world.ask(name, methodcaller("delete", entry.key, epoch))
        self._save(replace(self._state(), step=CLEANED))

    def bring_home(self, entry: Entry, owner: str) -> Steps:
        """Give an entry that is to be deleted to its owner, should he not have it."""
        yield from self.copy_one(entry, owner)


def begun(document: RingDocument, count: int) -> Migration:
    """Begin the state of a migration to so many shards."""
    assert document.phase == STEADY
    return Migration(
        id=f"to-{count}-{document.ring_epoch}", step=PLANNED,
        base_ring_epoch=document.ring_epoch, old=document.shards,
        new=infos(min(count, SHARDS_MAX)), pause_ms=PAUSE_MS, window_ms=WINDOW_MS,
    )  # fmt: skip
