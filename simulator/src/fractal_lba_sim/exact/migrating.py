"""Carry a live migration of dedup shards out: the effects of core/migration.py, one by one.

A coordinator may end anywhere; the next one resumes. Copies go in chunks while writes go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from fractal_lba_server.core import migration as core
from fractal_lba_server.core.dedup import Entry, StaleRingEpoch, point_of
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.mending import mend
from fractal_lba_server.core.migration import (
    DeleteLeftovers,
    Drain,
    Effect,
    Fence,
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
)
from fractal_lba_server.core.ring_document import COMMITTED, ShardInfo

from ..waiting import NS_PER_MS

if TYPE_CHECKING:
    from .shards import DedupStore, ShardRouter

COMMAND_NS: Final = 300 * NS_PER_MS
"""From one command of the operator to the next."""

CHUNK: Final = 64
CHUNK_NS: Final = 5 * NS_PER_MS
STEP_NS: Final = 1 * NS_PER_MS
"""What one effect takes: a write to the control store, a fence."""

VERIFY_ROUNDS: Final = 8
INCIDENT: Final = "cutover"


class Migrating:
    """The coordinator of one region's migrations."""

    def __init__(self, router: ShardRouter) -> None:
        self.router = router
        self.state: Migration | None = None
        self.break_off = False
        """Whether the next cutover is broken off in its middle."""
        self.broken_off = 0
        self._stopped = False

    @property
    def _agenda_after(self) -> Callable[..., object]:
        return self.router.world.agenda.after

    def begin(self, to_shards: int) -> None:
        """Plan, write to both rings, copy, verify, cut over: each command as it is typed."""
        router = self.router
        old = router.document.shards
        new = tuple(router.add(f"s{number}") for number in range(1, to_shards + 1))
        self.state = Migration(
            f"m{router.document.ring_epoch}", core.PLANNED, router.document.ring_epoch, old, new,
            window_ms=1_000,
        )  # fmt: skip
        self._agenda_after(COMMAND_NS, self._dual_write)

    def _dual_write(self) -> None:
        self._command("dual-write", lambda: self._agenda_after(COMMAND_NS, self._copy))

    def _copy(self) -> None:
        """Copy every entry that moves, in chunks, while writes go on."""
        moving = self._moving(self.router.document.shards)
        self._copy_chunk(moving)

    def _moving(self, shards: tuple[ShardInfo, ...]) -> Iterator[tuple[str, str, Key]]:
        """Give owner, other shard and key of every entry that moves."""
        for info in shards:
            keys = sorted(self.router.stores[info.name].rows, key=point_of)
            for key in keys:
                routes = self.router.document.routes(key)
                if routes.authority == info.name:
                    for other in routes.also:
                        yield info.name, other, key

    def _copy_chunk(self, moving: Iterator[tuple[str, str, Key]]) -> None:
        for _ in range(CHUNK):
            found = next(moving, None)
            if found is None:
                assert self.state is not None
                self.state = after_copy(self.state)
                self._agenda_after(COMMAND_NS, self._verify)
                return
            self._copy_one(*found)
        self._agenda_after(CHUNK_NS, self._copy_chunk, moving)

    def _copy_one(self, owner: str, other: str, key: Key) -> None:
        entry = self.router.stores[owner].rows.get(key)
        if entry is not None:
            self._put(self.router.stores[other], key, entry)

    def _put(self, store: DedupStore, key: Key, entry: Entry) -> None:
        try:
            store.put_if_first(entry, self.router.document.ring_epoch)
        except StaleRingEpoch:
            self.router.repairs[store.name, key] = None

    def _verify(self) -> None:
        clean = self._compare()
        assert self.state is not None
        self.state = after_verify(self.state, clean=clean, reverse_tested=clean)
        self._drain()
        self._agenda_after(COMMAND_NS, self._cutover)

    def _compare(self) -> bool:
        """Compare what moves and mend it until nothing has to be mended."""
        router, now_ms = self.router, self.router.world.unix_ms()
        damaged = False
        for _ in range(VERIFY_ROUNDS):
            mended = 0
            for owner, other, key in list(self._moving(router.document.shards)):
                authority, copy = router.stores[owner], router.stores[other]
                found = mend(authority.rows.get(key), copy.rows.get(key), now_ms)
                damaged = damaged or found.damaged
                if not found.needed or found.damaged:
                    continue
                mended += 1
                if found.delete_copy:
                    copy.rows.pop(key, None)
                if found.at_copy is not None:
                    self._put(copy, key, found.at_copy)
                if found.at_authority is not None:
                    self._put(authority, key, found.at_authority)
            if not mended:
                break
        return not damaged

    def _drain(self) -> None:
        """Carry out every repair that waits."""
        router = self.router
        repairs, router.repairs = router.repairs, {}
        for name, key in repairs:
            owner = router.stores[router.document.routes(key).authority]
            entry = owner.rows.get(key)
            if owner.down or router.stores[name].down:
                router.repairs[name, key] = None
            elif entry is not None and name != owner.name:
                self._put(router.stores[name], key, entry)

    def _cutover(self) -> None:
        trace = self.router.world.trace
        trace.write("declared", incident=INCIDENT, by="operator")
        self._agenda_after(COMMAND_NS, self._command, "cutover", self._cut_over)

    def _cut_over(self) -> None:
        trace = self.router.world.trace
        trace.write("phase", incident=INCIDENT, phase="promote")
        assert self.state is not None
        trace.note(f"migration {self.state.id}: {self.state.step} {self.state.note}".strip())

    # --- effects

    def _seen(self) -> Seen:
        router = self.router
        return Seen(router.document, len(router.repairs), router.world.unix_ms())

    def _command(self, name: str, done: Callable[[], object]) -> None:
        assert self.state is not None
        self.router.world.steps += 1
        try:
            effects = core.command(name, self.state, self._seen())
        except Refused as refused:
            self.router.world.trace.note(f"migration: {name} refused: {refused}")
            return
        self._carry(list(effects), done)

    def resume(self) -> None:
        """Have another coordinator finish, or call off, what was left undone, and go on."""
        if self.state is None:
            return
        self._stopped = False
        effects = list(core.resume(self.state, self._seen()))
        self._carry(effects, self._after_resume)

    def _after_resume(self) -> None:
        assert self.state is not None
        if self.state.step in (core.COPIED, core.VERIFIED, core.COPYING):
            self._agenda_after(COMMAND_NS, self._verify)

    def _carry(self, effects: list[Effect], done: Callable[[], object]) -> None:
        """Carry effects out in order, each in its time."""
        if self._stopped:
            return
        if not effects:
            done()
            return
        effect = effects.pop(0)
        if isinstance(effect, Pause):
            # Within the budget in simulated time: the writes of the control store are quick.
            effects[:0] = list(effect.within)
        else:
            self._do(effect)
        self._agenda_after(STEP_NS, self._carry, effects, done)

    def _do(self, effect: Effect) -> None:
        router = self.router
        match effect:
            case Save(state):
                self.state = state
            case PutDocument(document):
                if document.phase == COMMITTED and self.break_off:
                    self.break_off, self._stopped = False, True
                    self.broken_off += 1
                    return
                router.document = document
            case Fence(shards, ring_epoch):
                for name in shards:
                    store = router.stores[name]
                    store.fence = max(store.fence, ring_epoch)
            case Seal():
                router.sealed_epoch = router.document.ring_epoch
            case Drain():
                self._drain()
            case Verify():
                self._compare()
            case ListLeftovers() | DeleteLeftovers():
                pass  # nothing is cleaned up within a run: the window stays open
