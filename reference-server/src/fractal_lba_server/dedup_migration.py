"""Carry a live migration out: the effects of `core/migration.py` over real dedup shards.

One coordinator works at a time; a second one is told apart by the compare-and-set of the control
store. A coordinator that ends anywhere is taken over by the next: `resume` goes on or goes back,
and no person has to know where it ended.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

from .core.dedup import ShardUnavailable, StaleRingEpoch
from .core.migration import (
    CLEANED,
    LISTED,
    DeleteLeftovers,
    Drain,
    Effect,
    Effects,
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
    command,
    resume,
)
from .core.migration_plan import read_plan
from .core.ranges import Span
from .core.ring_document import STEADY, RingDocument, movement_of
from .dedup_leftovers import Leftovers, bring_home, strange_spans
from .dedup_probe import probe_reverse
from .dedup_transfer import (
    REPAIRS_AT_ONCE,
    Fleet,
    OpenShard,
    Pace,
    Pair,
    Report,
    Transfer,
    TransferError,
)
from .store.control import ConflictError, ControlError, ControlStore, Held, Kept

DRAIN_ROUNDS_MAX: Final = 1_000
"""Times that the repair queue is emptied before its writers are taken for too many."""

FENCE_S: Final = 10.0
"""How long a dedup shard may take to set its fence, outside a pause of writes."""

ALARMS: Final = "alarms"
"""The checkpoint that counts differences and lost canaries since the last verification."""


class MigrationError(Exception):
    """Say why a step ended early; what was kept is enough to go on from."""


class Told(NamedTuple):
    """What a step tells while it works: what it does, and by how many entries it came on."""

    what: str
    entries: int


class Coordinator:
    """Work on the latest migration of a control store.

    Methods raise Refused before anything was changed, MigrationError after something was, and
    ControlError or ShardUnavailable if nothing can be reached.
    """

    def __init__(
        self,
        control: ControlStore,
        open_shard: OpenShard,
        *,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        step: Callable[[str], None] = lambda _: None,
        told: Callable[[Told], None] = lambda _: None,
    ) -> None:
        self._control = control
        self.fleet = Fleet(open_shard)
        self._now_ms = now_ms
        self._clock = clock
        self._step = step
        self._told = told
        self._held: Held | None = None
        self._kept: Kept | None = None
        self.pause_ms: float | None = None
        """How long writes were paused by the last switch."""

    async def close(self) -> None:
        """Close the dedup shards; the control store stays open."""
        await self.fleet.close()

    async def look(self) -> tuple[Migration, Seen]:
        """Read state and document; raises Refused if there is no migration."""
        held = await self._read()
        kept = await self._control.migration()
        if kept is None:
            raise Refused("there is no migration: `dual-write` begins the one of a plan")
        self._kept = kept
        self.fleet.know((*kept.state.old, *kept.state.new))
        repairs = await self._control.count_repairs()
        alarms = await self._control.checkpoint(kept.state.id, ALARMS)
        now_ms = self._now_ms()
        return kept.state, Seen(held.document, repairs, now_ms, json.loads(alarms or b"0"))

    async def _read(self) -> Held:
        held = await self._control.read()
        if held is None:
            raise Refused("the control store holds no ring document: `dedup init` writes it")
        self._held = held
        self.fleet.know(held.document.everyone())
        return held

    async def begin(self, plan: bytes) -> Migration:
        """Keep the migration of a plan, unless another one is not finished; twice is once."""
        state = read_plan(plan)
        after = await self._control.migration()
        if after is not None:
            if after.state.id == state.id:
                return after.state
            if after.state.step != CLEANED:
                raise Refused(f"migration {after.state.id} is not finished: {after.state.step}")
        self._kept = await self._control.begin(state, after=after)
        return state

    async def run(self, name: str) -> Migration:
        """Carry a command out; what was left undone before is resumed first."""
        await self.resume()
        state, seen = await self.look()
        return await self._carry_out(command(name, state, seen))

    async def effects_of(self, name: str) -> Effects:
        """Say what a command would do now, and do nothing (a dry run)."""
        state, seen = await self.look()
        return resume(state, seen) + command(name, state, seen)

    async def resume(self) -> Migration:
        """Finish, or call off, what an earlier process left undone."""
        state, seen = await self.look()
        return await self._carry_out(resume(state, seen))

    async def copy(self, rate_per_s: int) -> int:
        """Copy all that moves; goes on where it stopped."""
        await self.resume()
        state, _ = await self.look()
        after = after_copy(state)
        transfer = self.transfer()
        pace = Pace(rate_per_s, clock=self._clock)
        count = await self._guarded(transfer.copy(pace, self._teller("copied")))
        await self._do(Save(after))
        return int(count)

    async def verify(self, *, mending: bool = True) -> Report:
        """Compare all that moves, mend it, and see that writes can go back as well."""
        if mending:
            await self.resume()
        state, _ = await self.look()
        after_verify(state, clean=True, reverse_tested=False)
        transfer = self.transfer()
        told = self._teller("compared")
        report: Report = await self._guarded(transfer.verify(mending=mending, told=told))
        if mending:
            clean = not report.damaged
            tested = clean and await self._guarded(
                probe_reverse(self.fleet, self._document, state.id, self._now_ms())
            )
            self._step("tried the reverse path")
            await self._control.clear_checkpoint(state.id, ALARMS)
            await self._do(Save(after_verify(state, clean=clean, reverse_tested=tested)))
        return report

    async def alarm(self, count: int) -> None:
        """Count differences that were seen: a cutover waits for the next verification."""
        kept = self._expect_kept()
        before = json.loads(await self._control.checkpoint(kept.state.id, ALARMS) or b"0")
        text = json.dumps(before + count).encode()
        await self._control.set_checkpoint(kept.state.id, ALARMS, text)

    @property
    def _document(self) -> RingDocument:
        assert self._held is not None, "the document is read first"
        return self._held.document

    def _expect_kept(self) -> Kept:
        assert self._kept is not None, "the state is read first"
        return self._kept

    def transfer(self) -> Transfer:
        """Give what works on the document that was read last."""
        return Transfer(
            migration=self._document.migration or "none",
            document=self._document,
            control=self._control,
            fleet=self.fleet,
            now_ms=self._now_ms,
            step=self._step,
        )

    def _teller(self, what: str) -> Callable[[int], None]:
        return lambda entries: self._told(Told(what, entries))

    async def _guarded(self, work: Any) -> Any:
        """Say what a fault of the carrying means for the migration."""
        try:
            return await work
        except TransferError as error:
            raise MigrationError(str(error)) from None
        except StaleRingEpoch as error:
            raise MigrationError(f"another coordinator went on meanwhile: {error}") from None

    async def _carry_out(self, effects: Effects) -> Migration:
        """Do the effects in order; after a fault go on or go back at once, then say so."""
        try:
            for effect in effects:
                await self._do(effect)
        except (ControlError, ShardUnavailable, StaleRingEpoch, TransferError) as error:
            with suppress(ControlError, ShardUnavailable, StaleRingEpoch, TransferError, Refused):
                state, seen = await self.look()
                for effect in resume(state, seen):
                    await self._do(effect)
            raise MigrationError(str(error)) from None
        return self._expect_kept().state

    async def _do(self, effect: Effect) -> None:
        name = type(effect).__name__
        self._step(f"before {name}")
        await self._perform(effect)
        self._step(f"after {name}")

    async def _perform(self, effect: Effect) -> None:
        match effect:
            case Save(state):
                await self._save(state)
            case PutDocument(document):
                await self._put(document)
            case Fence():
                await asyncio.wait_for(self._fence(effect), FENCE_S)
            case Seal():
                await self._seal()
            case Drain():
                await self.drain()
            case Pause():
                await self._pause(effect)
            case Verify():
                await self._verify_again()
            case ListLeftovers():
                await self._list_leftovers()
            case DeleteLeftovers():
                await self._delete_leftovers()

    async def _save(self, state: Migration) -> None:
        self._kept = await self._control.save(state, version=self._expect_kept().version)

    async def _put(self, document: RingDocument) -> None:
        assert self._held is not None, "the document is read first"
        before = self._held.document
        if before.phase == STEADY:
            # Before a document names them: whoever finds one empty later has lost what it held.
            for name in sorted({s.name for s in document.next} - {s.name for s in before.shards}):
                await self.fleet.begin(name, document.ring_epoch)
        self._held = await self._control.put(document, version=self._held.version)

    async def _fence(self, fence: Fence) -> None:
        await asyncio.gather(*(self._fence_one(name, fence.ring_epoch) for name in fence.shards))

    async def _fence_one(self, name: str, ring_epoch: int) -> None:
        dedup_shard = await self.fleet.get(name)
        await dedup_shard.set_fence(ring_epoch)
        self._step("fenced one dedup shard")

    async def _seal(self) -> None:
        assert self._held is not None, "the document is read first"
        if not await self._control.seal(version=self._held.version):
            raise ConflictError("a write is waiting for repair")

    async def _pause(self, pause: Pause) -> None:
        """Switch within the budget, or let the same ring go on; never neither (dedup 7.3)."""
        for fence in pause.within:
            if isinstance(fence, Fence):  # connect before the clock runs
                for name in fence.shards:
                    await (await self.fleet.get(name)).fence()
        started = self._clock()
        try:
            await self._switch(pause, started)
        except (TimeoutError, ShardUnavailable, StaleRingEpoch, ControlError) as error:
            held = await self._control.read()
            self._held = held
            target = pause.within[-1]
            if held is None or not isinstance(target, PutDocument):
                raise
            if held.document != target.document:
                await self._go_on(pause, held)
                elapsed_ms = (self._clock() - started) * 1000
                reason = str(error) or f"writes were paused for {elapsed_ms:.0f} ms"
                raise ConflictError(f"called off, the same ring goes on: {reason}") from None
        self.pause_ms = (self._clock() - started) * 1000

    async def _switch(self, pause: Pause, started: float) -> None:
        fence, put = pause.within
        budget_s = pause.budget_ms / 1000
        async with asyncio.timeout(budget_s):
            await self._do(fence)
        if self._clock() - started > budget_s:
            raise TimeoutError(f"the fences took longer than {pause.budget_ms} ms")
        # Not under the time limit: a change that may have been made must not be given up.
        await self._do(put)

    async def _go_on(self, pause: Pause, held: Held) -> None:
        for effect in pause.instead:
            if isinstance(effect, PutDocument) and (
                held.document.ring_epoch >= effect.document.ring_epoch
            ):
                continue  # a router did it
            await self._do(effect)

    async def repair(self) -> list[str]:
        """Mend what `doctor` finds, as far as no person has to decide; say what was done."""
        before = await self._read()
        fences = await asyncio.gather(*(self._fence_of(name) for name in self.fleet.names))
        done = []
        if max(fences) > before.document.ring_epoch:
            self._held = await self._control.end_pause(max(fences))
            done.append(f"writes go on under ring_epoch {self._document.ring_epoch}")
        if await self._control.migration() is not None:
            step = (await self.look())[0].step
            state = await self.resume()
            if state.step != step:
                done.append(f"the migration is {state.step} now, it was {step}")
        document = (await self._read()).document
        if min(fences) < document.ring_epoch:
            names = tuple(dedup_shard.name for dedup_shard in document.everyone())
            await self._do(Fence(names, document.ring_epoch))
            done.append(f"every dedup shard is fenced at ring_epoch {document.ring_epoch}")
        if count := await self._guarded(self.drain()):
            done.append(f"{count} entries were repaired")
        return done

    async def bring_home(self) -> int:
        """Put entries that lie where nobody asks for them to their owners."""
        document = (await self._read()).document
        if document.phase != STEADY:
            raise Refused("a migration is on its way: what it leaves over is no misplaced entry")
        spans = {name: strange_spans(name, document) for name in self.fleet.names}
        return int(await self._guarded(bring_home(self.fleet, document, spans)))

    async def _fence_of(self, name: str) -> int:
        return await (await self.fleet.get(name)).fence()

    async def drain_all(self) -> int:
        """Carry out every repair that waits, as a command of its own."""
        await self.look()
        return int(await self._guarded(self.drain()))

    async def drain(self) -> int:
        """Carry out every repair that waits; give how many."""
        total = 0
        for _ in range(DRAIN_ROUNDS_MAX):
            repairs = await self._control.repairs(REPAIRS_AT_ONCE)
            if not repairs:
                return total
            await self.transfer().drain(repairs)
            total += len(repairs)
        raise TransferError("entries come into the repair queue faster than they leave it")

    async def _verify_again(self) -> None:
        report = await self.transfer().verify(name="verify again", told=self._teller("compared"))
        if report.damaged:
            raise TransferError(f"{len(report.damaged)} entries disagree with themselves")
        await self.drain()

    def _leftovers(self) -> Leftovers:
        return Leftovers(
            leftover_pairs(self._expect_kept().state, self._document),
            self.fleet,
            ring_epoch=self._document.ring_epoch,
            now_ms=self._now_ms,
            step=self._step,
        )

    async def _list_leftovers(self) -> None:
        listed = await self._leftovers().list()
        self._step("listed what is left over")
        await self._save(replace(self._expect_kept().state, step=LISTED, listed=listed))

    async def _delete_leftovers(self) -> None:
        state = self._expect_kept().state
        leftovers = self._leftovers()
        if await self._control.checkpoint(state.id, "deleting") is None:
            await leftovers.check(state.listed)
            await self._control.set_checkpoint(state.id, "deleting", b"1")
            self._step("kept that deletion begins")
        await leftovers.delete(self._teller("deleted"))
        await self._save(replace(state, step=CLEANED))


def leftover_pairs(state: Migration, document: RingDocument) -> list[Pair]:
    """Say who owns what moved, and who holds what is left of it."""
    if document.phase != STEADY:
        raise TransferError("another migration has begun: nothing is deleted")
    back = document.shards == state.old
    if not back and document.shards != state.new:
        raise TransferError("the ring document is that of neither ring: nothing is deleted")
    spans: dict[tuple[str, str], list[Span]] = {}
    for lo, hi, source, target in movement_of(state.old, state.new).ranges:
        owner, holder = (source, target) if back else (target, source)
        spans.setdefault((owner, holder), []).append(Span(lo, hi))
    return [Pair(*names, tuple(found)) for names, found in sorted(spans.items())]
