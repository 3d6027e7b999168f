"""Carries out moves between warm and cold, one after the other, in the background or by a command.

The order of a move is `core/mover.py`'s; what is due is said by `core/tiering.py`. This file only
asks the stores and hands back what they gave.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from .core import cold_segment, mover, tiering
from .store.tiers.protocols import (
    CHANGED,
    POINTED,
    ColdStore,
    ObjectInfo,
    TierUnavailableError,
    WarmRow,
    WarmStore,
)
from .tiers import Tally

ENTRIES_MAX: Final = 8_192
"""Entries of one object: at 400 packed bytes each it is 3 MiB, which one read brings back."""

BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of outcomes in one object, before packing."""

SCAN_ROWS: Final = 8_192
"""Rows that are looked at a time."""

PASS_ROWS_MAX: Final = 1_048_576
"""Rows that one pass looks at per group of tenants; the next pass goes on from there."""

SMALL_BYTES: Final = 1_048_576
"""An object below this is merged with others."""

MERGE_MIN: Final = 8
"""Small objects of one tenant that are worth one merge: it costs one write and saves seven."""

END_MAX: Final = 64
"""Objects that end in one plan."""

COOL_ROWS: Final = 1_024
"""Promoted payloads that leave warm in one transaction."""

OBJECTS_PAGE: Final = 1_000

log = logging.getLogger("fractal_lba_server.tier_mover")

Records = Callable[[Sequence[WarmRow]], Sequence[bytes]]
"""Gives the bytes of the records of rows, b"" for one that is not kept; runs in a thread."""


class Report(NamedTuple):
    """What one pass did, or with `dry_run` would do."""

    payloads: int = 0  # moved from warm to cold
    objects: int = 0  # written for them
    cooled: int = 0  # promoted payloads that left warm again
    ended: int = 0  # objects whose payloads ended
    merged: int = 0  # small objects that became part of another
    rewritten: int = 0  # objects with an erased or replaced payload, written anew without it
    given_up: int = 0  # plans whose rows had changed
    stopped: str = ""  # why the pass ended early


class _StoppedError(Exception):
    """Ends a pass: a tier failed, and the plan waits for the next one."""


class TierMover:
    """One mover per warm tier. A pass is one call of `run`."""

    def __init__(
        self,
        *,
        warm: WarmStore,
        cold: ColdStore,
        book: tiering.TierBook,
        tally: Tally | None = None,
        records: Records | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        entries_max: int = ENTRIES_MAX,
        small_bytes: int = SMALL_BYTES,
    ) -> None:
        self._warm, self._cold, self._book = warm, cold, book
        self._tally = tally if tally is not None else Tally()
        self._records = records
        self._now_ns = now_ns
        self._entries_max = entries_max
        self._small_bytes = small_bytes

    async def run(self, *, dry_run: bool = False) -> Report:
        """Run one pass: what an earlier mover left, then what is due now."""
        self._report, self._is_dry = Report(), dry_run
        try:
            left = await self._warm.plan()
            if left is not None and not dry_run:
                await self._carry(*left, data=None)
            await self._cool()
            tenants = await self._warm.tenants()
            for age_s, group in tiering.classes(self._book, tenants).items():
                await self._demote(age_s, group)
            await self._end(tiering.endings(self._book, tenants))
            await self._merge()
        except (TierUnavailableError, _StoppedError) as error:
            self._tally.add("moves_stopped")
            log.warning("the mover stopped: %s", error)
            self._add(stopped=str(error))
        return self._report

    def _add(self, stopped: str = "", **counts: int) -> None:
        old = self._report._asdict()
        more = {name: old[name] + count for name, count in counts.items()}
        self._report = self._report._replace(**more, stopped=stopped or self._report.stopped)

    # --- what is due

    async def _demote(self, age_s: int, tenants: frozenset[str]) -> None:
        name = f"{age_s} {_digest(tenants)}"  # another group has looked at nothing yet
        after, seen = await self._warm.cursor(name), 0
        now_ms = self._now_ns() // 1_000_000
        while seen < PASS_ROWS_MAX:
            rows = await self._warm.scan(after, SCAN_ROWS)
            seen += len(rows)
            found = tiering.due(rows, tenants=tenants, age_s=age_s, now_ms=now_ms, after=after)
            cut = tiering.batches(found.rows, entries_max=self._entries_max, bytes_max=BYTES_MAX)
            moved = [await self._demote_batch(batch) for batch in cut]
            if not all(moved):  # a plan was given up: its rows are looked at again
                return
            after = found.examined
            if not self._is_dry:
                await self._warm.set_cursor(name, after)
            if len(rows) < SCAN_ROWS or found.examined < rows[-1].number:
                return

    async def _demote_batch(self, batch: Sequence[tiering.Scanned]) -> bool:
        if self._is_dry:
            self._add(payloads=len(batch), objects=1)
            return True
        rows = [row for row in await self._warm.rows([r.number for r in batch]) if _is_here(row)]
        if not rows:
            return True
        first, newest_ms = batch[0], max(row.written_ms for row in batch)
        plan = mover.Plan(mover.DEMOTE, first.tenant, first.placement, None, 0, newest_ms, ())
        plan, data = await asyncio.to_thread(
            lambda: _planned(plan, rows, self._write_entries(rows))
        )
        is_moved = await self._carry(plan, None, data=data)
        if is_moved:
            self._tally.add("demotions", len(rows))
            self._add(payloads=len(rows), objects=1)
        return is_moved

    async def _cool(self) -> None:
        """Let promoted payloads whose time is over go again, each compared with cold before."""
        now_ms = self._now_ns() // 1_000_000
        while rows := await self._warm.promoted(now_ms, COOL_ROWS):
            if self._is_dry:
                self._add(cooled=len(rows))
                return
            for row in rows:
                assert row.ref is not None
                data = await self._cold.read_range(row.ref.object, row.ref.offset, row.ref.length)
                try:
                    cold_segment.read_entry(data or b"", row.ref.sha256)
                except cold_segment.ColdCorruptError as error:
                    raise _StoppedError(f"{row.ref.object}: {error}") from error
            await self._warm.cool([row.number for row in rows])
            self._add(cooled=len(rows))

    async def _end(self, groups: dict[int, frozenset[str]]) -> None:
        now_ms = self._now_ns() // 1_000_000
        ttl_s = {tenant: age_s for age_s, group in groups.items() for tenant in group}
        over: dict[tuple[str, str], list[ObjectInfo]] = {}
        for info in await self._objects():
            age_s = ttl_s.get(info.tenant)
            if age_s is not None and info.newest_ms + age_s * tiering.SECOND_MS <= now_ms:
                over.setdefault((info.placement, info.tenant), []).append(info)
        for (placement, tenant), infos in over.items():
            for start in range(0, len(infos), END_MAX):
                part = infos[start : start + END_MAX]
                if not self._is_dry:
                    names = tuple(info.name for info in part)
                    plan = mover.Plan(mover.END, tenant, placement, None, 0, 0, (), names)
                    await self._carry(plan, None, data=None)
                self._add(ended=len(part))

    async def _merge(self) -> None:
        small: dict[tuple[str, str], list[ObjectInfo]] = {}
        for info in await self._objects():
            if info.holes:
                if self._is_dry or await self._merge_all(info.placement, info.tenant, [info]):
                    self._add(rewritten=1)
            elif info.size < self._small_bytes:
                small.setdefault((info.placement, info.tenant), []).append(info)
        for (placement, tenant), infos in small.items():
            for part in _merges(infos, self._entries_max):
                if not self._is_dry and not await self._merge_all(placement, tenant, part):
                    continue
                self._add(merged=len(part))

    async def _merge_all(self, placement: str, tenant: str, infos: Sequence[ObjectInfo]) -> bool:
        names = tuple(info.name for info in infos)
        found = await self._entries_of(names)
        if not found:  # every payload of them was erased or replaced: they go, and nothing comes
            plan = mover.Plan(mover.END, tenant, placement, None, 0, 0, (), names)
            return await self._carry(plan, None, data=None)
        rows, entries = [row for row, _ in found], [entry for _, entry in found]
        newest_ms = max(info.newest_ms for info in infos)
        plan = mover.Plan(mover.MERGE, tenant, placement, None, 0, newest_ms, (), names)
        plan, data = await asyncio.to_thread(_planned, plan, rows, entries)
        return await self._carry(plan, None, data=data)

    async def _objects(self) -> list[ObjectInfo]:
        found: list[ObjectInfo] = []
        after = ""
        while page := await self._warm.objects(after, OBJECTS_PAGE):
            found += page
            after = page[-1].name
        return found

    # --- how a move is carried out

    async def _carry(self, plan: mover.Plan, stage: str | None, *, data: bytes | None) -> bool:
        machine = mover.Mover()
        effect = machine.on_event(mover.Begun(plan, stage))
        while not isinstance(effect, mover.Finish):
            try:
                event = await self._do(effect, data)
            except TierUnavailableError as error:
                event = mover.Failed(str(error))
            effect = machine.on_event(event)
        if effect.result == "stopped":
            raise _StoppedError(effect.reason)
        if effect.result == "given up":
            self._tally.add("moves_given_up")
            self._add(given_up=1)
        return effect.result == "moved"

    async def _do(self, effect: mover.Effect, data: bytes | None) -> mover.Event:
        match effect:
            case mover.KeepPlan(plan):
                await self._warm.keep_plan(plan)
                return mover.PlanKept()
            case mover.Write(plan):
                return await self._write(plan, data)
            case mover.ReadBack(plan):
                assert plan.object is not None
                back = await self._cold.read(plan.object)
                if back is None:
                    return mover.Failed("the object that was written is not there")
                return mover.CameBack(hashlib.sha256(back).hexdigest())
            case mover.Point(plan):
                result = await self._warm.point(plan)
                if result == POINTED:
                    return mover.Pointed()
                return mover.Changed() if result == CHANGED else mover.Failed("another's plan")
            case mover.Remove(names):
                for name in names:
                    if not await self._warm.points_to(name):
                        await self._cold.remove(name)
                return mover.Removed()
            case mover.DropPlan(plan):
                if await self._warm.drop_plan(plan):
                    return mover.PlanDropped()
                return mover.Failed("another's plan")
            case _:
                raise ValueError(f"no effect of a move: {effect}")

    async def _write(self, plan: mover.Plan, data: bytes | None) -> mover.Event:
        assert plan.object is not None
        if data is None:  # an earlier mover made the plan
            data = await self._rebuilt(plan)
        if data is None:
            return mover.Changed()
        await self._cold.create(plan.object, data)
        return mover.Written()

    async def _rebuilt(self, plan: mover.Plan) -> bytes | None:
        """Build the object of a plan again from what warm and cold hold now; None: another."""
        numbers = [move.number for move in plan.moves]
        if plan.old:
            found = [
                (r, e) for r, e in await self._entries_of(plan.old) if r.number in set(numbers)
            ]
            rows, entries = [row for row, _ in found], [entry for _, entry in found]
        else:
            rows = [row for row in await self._warm.rows(numbers) if _is_here(row)]
            entries = await asyncio.to_thread(self._write_entries, rows)
        if [row.number for row in rows] != numbers:
            return None
        again, data = await asyncio.to_thread(_planned, plan, rows, entries)
        return data if again == plan else None

    def _write_entries(self, rows: Sequence[WarmRow]) -> list[bytes]:
        records = self._records(rows) if self._records is not None else [b""] * len(rows)
        return [
            cold_segment.write_entry(cold_segment.Entry(row.key, row.stored, record))
            for row, record in zip(rows, records, strict=True)
        ]

    async def _entries_of(self, names: Iterable[str]) -> list[tuple[WarmRow, bytes]]:
        """Give rows and entries of objects, each compared, in order of number."""
        found: list[tuple[WarmRow, bytes]] = []
        for name in names:
            data = await self._cold.read(name) or b""
            for row in await self._warm.rows_of(name):
                assert row.ref is not None
                entry = data[row.ref.offset : row.ref.offset + row.ref.length]
                if hashlib.sha256(entry).digest() != row.ref.sha256:
                    raise _StoppedError(f"{name}: the entry at {row.ref.offset} cannot be read")
                found.append((row, entry))
        return sorted(found, key=lambda pair: pair[0].number)


def _is_here(row: WarmRow) -> bool:
    return bool(row.stored.outcome) and row.ref is None and not row.has_ended


def _digest(tenants: frozenset[str]) -> str:
    return hashlib.sha256("\n".join(sorted(tenants)).encode()).hexdigest()[:16]


def _planned(
    plan: mover.Plan, rows: Sequence[WarmRow], entries: Sequence[bytes]
) -> tuple[mover.Plan, bytes]:
    """Complete a plan by the object that it is about, and give the object's bytes."""
    data = cold_segment.write_object(plan.tenant, entries, [row.key[1] for row in rows])
    pairs = zip(rows, cold_segment.places(entries), strict=True)
    moves = tuple(mover.Move(row.number, place) for row, place in pairs)
    name = cold_segment.object_name(plan.placement, plan.tenant, data)
    return plan._replace(object=name, size=len(data), moves=moves), data


def _merges(infos: Sequence[ObjectInfo], entries_max: int) -> list[list[ObjectInfo]]:
    """Cut small objects into merges that fit into one object each; a few alone are left."""
    parts: list[list[ObjectInfo]] = [[]]
    entries = 0
    for info in infos:
        if entries + info.entries > entries_max and parts[-1]:
            parts.append([])
            entries = 0
        parts[-1].append(info)
        entries += info.entries
    return [part for part in parts if len(part) >= MERGE_MIN]
