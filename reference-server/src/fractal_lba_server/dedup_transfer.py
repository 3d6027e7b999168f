"""Carry entries between dedup shards: copy, compare, mend, list and delete.

What is right is decided in `core/ranges.py` and `core/mending.py`; here is what asks the dedup
shards for it. Every part keeps how far it came in the control store, and coming back behind that
place does no harm: entries are only ever put if they are first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Final, NamedTuple

from .core.dedup import CLAIMED, DedupShard, Entry, point_of
from .core.first_write import Key
from .core.mending import ROUNDS_MAX, Mend, alive, is_sound, mend
from .core.ranges import AskDigests, Span, Sum, Walk, differences
from .core.ring_document import RingDocument, ShardInfo
from .store.control import ControlStore, Repair
from .store.shards.opening import begin_empty

BATCH_ENTRIES: Final = 1_000
"""Entries of one request to a dedup shard."""

PACES_PER_S: Final = 10
"""Batches in a second when the copy is throttled: small ones, so that the load is even."""

LIST_PAGES_MAX: Final = 1_000
"""Pages of one range that is listed; a range of one point could hold that many at most."""

REPAIRS_AT_ONCE: Final = 500
"""Repairs that are read from the queue at a time."""

OpenShard = Callable[[ShardInfo], Awaitable[DedupShard]]


class TransferError(Exception):
    """Say what was found that no rule mends."""


class Pair(NamedTuple):
    """Two dedup shards, and the ranges that both of them hold while a migration is on."""

    authority: str
    copy: str
    spans: tuple[Span, ...]

    @property
    def name(self) -> str:
        """Name the pair in checkpoints and reports."""
        return f"{self.authority}>{self.copy}"

    @property
    def hashes(self) -> int:
        """Count the hashes of its ranges."""
        return sum(span.hi - span.lo + 1 for span in self.spans)


def pairs_of(document: RingDocument) -> list[Pair]:
    """Give every pair of dedup shards between which keys move under a document."""
    moves = sorted(document.moves(), key=lambda moved: (moved.source, moved.target, moved.lo))
    return [
        Pair(source, target, tuple(Span(moved.lo, moved.hi) for moved in group))
        for (source, target), group in groupby(moves, key=lambda m: (m.source, m.target))
    ]


@dataclass(slots=True)
class Report:
    """What a comparison found; entries that agreed when they were looked at again are not in it."""

    compared: int = 0
    missing: int = 0
    extra: int = 0
    changed: int = 0
    mended: int = 0
    damaged: list[Key] = field(default_factory=list)

    @property
    def found(self) -> int:
        """Count the entries that differed."""
        return self.missing + self.extra + self.changed


class Fleet:
    """The dedup shards of a migration, each opened when it is first needed."""

    def __init__(self, open_shard: OpenShard) -> None:
        self._open_shard = open_shard
        self._infos: dict[str, ShardInfo] = {}
        self._open: dict[str, DedupShard] = {}

    def know(self, shards: Sequence[ShardInfo]) -> None:
        """Learn where dedup shards are."""
        self._infos.update((dedup_shard.name, dedup_shard) for dedup_shard in shards)

    async def get(self, name: str) -> DedupShard:
        """Give one dedup shard; the same one each time."""
        if name not in self._open:
            self._open[name] = await self._open_shard(self._infos[name])
        return self._open[name]

    async def begin(self, name: str, ring_epoch: int) -> None:
        """Make a dedup shard ready that no ring document has named before."""
        await begin_empty(await self.get(name), ring_epoch=ring_epoch)

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of those that are known."""
        return tuple(self._infos)

    async def close(self) -> None:
        """Close those that are open."""
        for dedup_shard in self._open.values():
            await dedup_shard.close()
        self._open.clear()


class Pace:
    """Let so many keys through in a second; 0 lets all through at once."""

    def __init__(
        self,
        rate_per_s: int,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate_per_s = rate_per_s
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    @property
    def batch(self) -> int:
        """Say how many keys a request moves at most."""
        if not self._rate_per_s:
            return BATCH_ENTRIES
        return max(1, min(BATCH_ENTRIES, self._rate_per_s // PACES_PER_S))

    async def passed(self, keys: int) -> None:
        """Wait until so many more keys may have gone through; time that was not used is lost."""
        if self._rate_per_s:
            self._due = max(self._due, self._clock() - 1 / PACES_PER_S) + keys / self._rate_per_s
            await self._sleep(max(0.0, self._due - self._clock()))


class Transfer:
    """Work on the pairs of one ring document for one migration."""

    def __init__(
        self,
        *,
        migration: str,
        document: RingDocument,
        control: ControlStore,
        fleet: Fleet,
        now_ms: Callable[[], int],
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._migration = migration
        self._document = document
        self._control = control
        self._fleet = fleet
        self._now_ms = now_ms
        self._step = step
        self.pairs = pairs_of(document)

    async def copy(self, pace: Pace, told: Callable[[int], None] = lambda _: None) -> int:
        """Copy every range that moves to its end; give how many entries were put."""
        total = 0
        for pair in self.pairs:
            total += await self._copy_pair(pair, pace, told)
        return total

    async def _copy_pair(self, pair: Pair, pace: Pace, told: Callable[[int], None]) -> int:
        source, target = await self._both(pair)
        name = f"copy {pair.name}"
        at = CopyPlace.read(await self._control.checkpoint(self._migration, name))
        began, started = at.keys, self._now_ms()
        scan = partial(source.scan, ranges=pair.spans, limit=pace.batch)
        page = [] if at.done else await scan(after=at.after)
        while not at.done:
            entries = [entry for entry in page if alive(entry, self._now_ms()) is not None]
            check_sound(entries, source=pair.authority)
            # The next page is read while this one is written.
            stands, following = await asyncio.gather(
                target.put_if_first(entries, ring_epoch=self._document.ring_epoch),
                scan(after=place_of(page[-1])) if page else _nothing(),
            )
            check_copied(entries, stands, source=pair.authority, target=pair.copy)
            self._step("copied a batch")
            seconds = max(self._now_ms() - started, 1) / 1000
            at = at.behind(page, (at.keys - began + len(page)) / seconds)
            await self._control.set_checkpoint(self._migration, name, at.to_bytes())
            self._step("kept the place of the copy")
            told(len(page))
            await pace.passed(len(page))
            page = following
        return at.keys - began

    async def verify(
        self,
        *,
        mending: bool = True,
        name: str = "verify",
        told: Callable[[int], None] = lambda _: None,
    ) -> Report:
        """Compare every range that moves, and mend what differs unless told not to."""
        report = Report()
        for pair in self.pairs:
            await self._verify_pair(pair, report, name if mending else None, told)
        if mending:
            for pair in self.pairs:
                await self._control.clear_checkpoint(self._migration, f"{name} {pair.name}")
        return report

    async def _verify_pair(
        self, pair: Pair, report: Report, name: str | None, told: Callable[[int], None]
    ) -> None:
        place = f"{name} {pair.name}"
        kept = await self._control.checkpoint(self._migration, place) if name else None
        walk = Walk.over(pair.spans) if kept is None else Walk.read(json.loads(kept))
        while (ask := walk.next_ask()) is not None:
            before = walk.compared
            if isinstance(ask, AskDigests):
                mine, theirs = await self._digests(pair, ask.spans)
                walk = walk.after_digests(ask.spans, mine, theirs)
            else:
                count = await self._compare(pair, ask.span, report, mending=name is not None)
                walk = walk.after_entries(ask.span, count)
            if name:
                text = json.dumps(walk.members()).encode()
                await self._control.set_checkpoint(self._migration, place, text)
                self._step("kept the place of the verification")
            told(walk.compared - before)
        report.compared += walk.compared

    async def _digests(self, pair: Pair, spans: tuple[Span, ...]) -> tuple[list[Sum], list[Sum]]:
        authority, copy = await self._both(pair)
        mine, theirs = await asyncio.gather(authority.digest(spans), copy.digest(spans))
        return [Sum(*each) for each in mine], [Sum(*each) for each in theirs]

    async def _compare(self, pair: Pair, span: Span, report: Report, *, mending: bool) -> int:
        """List one range on both sides; give how many entries the authority has there."""
        authority, copy = await self._both(pair)
        # The copy first: whoever writes asks the authority first, so that what is at the copy
        # and not at the authority is no entry on its way.
        theirs = await listed(copy, (span,))
        mine = await listed(authority, (span,))
        now_ms = self._now_ms()
        found = differences(_alive(mine, now_ms), _alive(theirs, now_ms))
        for kind in ("missing", "extra", "changed"):
            keys = list(getattr(found, kind))
            differing = await self.settle(pair.authority, pair.copy, keys, report, mending=mending)
            setattr(report, kind, getattr(report, kind) + differing)
        return len(mine)

    async def settle(
        self, authority: str, copy: str, keys: Sequence[Key], report: Report, *, mending: bool
    ) -> int:
        """Make both sides agree about some keys; give how many still differed at a second look."""
        first, pending = 0, list(keys)
        deciding, following = await self._fleet.get(authority), await self._fleet.get(copy)
        for round_number in range(ROUNDS_MAX):
            if not pending:
                return first
            theirs = await following.lookup(pending)
            mine = await deciding.lookup(pending)
            now_ms = self._now_ms()
            mends = [mend(a, b, now_ms) for a, b in zip(mine, theirs, strict=True)]
            work = [(key, each) for key, each in zip(pending, mends, strict=True) if each.needed]
            damaged = [key for key, each in work if each.damaged]
            if round_number == 0:
                first = len(work)
                report.damaged += damaged
                report.mended += len(work) - len(damaged) if mending else 0
            if not mending:
                return first
            work = [(key, each) for key, each in work if not each.damaged]
            await _carry_out(work, deciding, following, self._document.ring_epoch)
            self._step("mended entries")
            pending = [key for key, _ in work]
        if pending:
            raise TransferError(f"{len(pending)} entries of {copy} changed faster than they mend")
        return first

    async def drain(self, repairs: Sequence[Repair]) -> None:
        """Carry out repairs: make each dedup shard agree with the one that decides."""
        report = Report()
        groups: dict[tuple[str, str], list[Key]] = {}
        for repair in repairs:
            routes = self._document.routes(repair.key)
            if repair.dedup_shard in routes.also:  # otherwise nobody asks it for this key any more
                groups.setdefault((routes.authority, repair.dedup_shard), []).append(repair.key)
        for (authority, copy), keys in groups.items():
            await self.settle(authority, copy, keys, report, mending=True)
        if report.damaged:
            raise TransferError(f"{len(report.damaged)} entries disagree with themselves")
        self._step("carried out repairs")
        await self._control.repaired(repairs)

    async def _both(self, pair: Pair) -> tuple[DedupShard, DedupShard]:
        return await self._fleet.get(pair.authority), await self._fleet.get(pair.copy)


async def _carry_out(
    work: Sequence[tuple[Key, Mend]], authority: DedupShard, copy: DedupShard, ring_epoch: int
) -> None:
    back = [each.at_authority for _, each in work if each.at_authority is not None]
    gone = [key for key, each in work if each.delete_copy]
    put = [each.at_copy for _, each in work if each.at_copy is not None]
    if back:
        await authority.put_if_first(back, ring_epoch=ring_epoch)
    if gone:
        await copy.delete(gone, ring_epoch=ring_epoch)
    if put:
        await copy.put_if_first(put, ring_epoch=ring_epoch)


class CopyPlace(NamedTuple):
    """How far the copy of a pair came."""

    after: tuple[int, Key] | None = None
    keys: int = 0
    done: bool = False
    per_s: float = 0.0
    """Keys a second since the copy of this pair was taken up last."""

    def behind(self, page: Sequence[Entry], per_s: float) -> CopyPlace:
        """Go on behind a page; an empty one is the end."""
        if not page:
            return self._replace(done=True)
        return CopyPlace(place_of(page[-1]), self.keys + len(page), per_s=round(per_s, 1))

    def hashes(self, spans: Sequence[Span]) -> int:
        """Count the hashes of these ranges that the copy has passed."""
        if self.done:
            return sum(span.hi - span.lo + 1 for span in spans)
        at = -1 if self.after is None else self.after[0]
        return sum(max(0, min(span.hi, at) - span.lo + 1) for span in spans)

    def to_bytes(self) -> bytes:
        """Write it as JSON."""
        return json.dumps(list(self)).encode()

    @classmethod
    def read(cls, data: bytes | None) -> CopyPlace:
        """Read what `to_bytes` wrote; None is the beginning."""
        if data is None:
            return cls()
        after, keys, done, per_s = json.loads(data)
        return cls((after[0], (after[1][0], after[1][1])) if after else None, keys, done, per_s)


def place_of(entry: Entry) -> tuple[int, Key]:
    """Give the place of an entry in the order of scans."""
    return point_of(entry.key), entry.key


async def _nothing() -> list[Entry]:
    return []


def check_sound(entries: Sequence[Entry], *, source: str) -> None:
    """Refuse to copy what disagrees with itself: the copy would look whole to every comparison."""
    for entry in entries:
        if not is_sound(entry):
            raise TransferError(f"{source}: the entry of {'/'.join(entry.key)} is damaged")


def check_copied(
    sent: Sequence[Entry], stands: Sequence[Entry], *, source: str, target: str
) -> None:
    """Refuse a copy that arrived otherwise than it was sent (F068).

    An entry that was there before may stand: a claim that was completed, or an earlier write.
    """
    for entry, found in zip(sent, stands, strict=True):
        if found == entry or entry.state == CLAIMED:
            continue
        earlier = found.order is not None and entry.order is not None and found.order < entry.order
        if not (earlier and is_sound(found)):
            raise TransferError(f"{target}: {'/'.join(entry.key)} is not what {source} sent")


async def listed(dedup_shard: DedupShard, spans: Sequence[Span]) -> dict[Key, Entry]:
    """Give every entry of some ranges."""
    found: dict[Key, Entry] = {}
    after: tuple[int, Key] | None = None
    for _ in range(LIST_PAGES_MAX):
        page = await dedup_shard.scan(ranges=spans, after=after, limit=BATCH_ENTRIES)
        found.update((entry.key, entry) for entry in page)
        if len(page) < BATCH_ENTRIES:
            return found
        after = place_of(page[-1])
    raise TransferError(
        f"{dedup_shard.name}: more than {LIST_PAGES_MAX} pages in {len(spans)} ranges"
    )


def _alive(entries: Mapping[Key, Entry], now_ms: int) -> dict[Key, Entry]:
    return {key: entry for key, entry in entries.items() if alive(entry, now_ms) is not None}
