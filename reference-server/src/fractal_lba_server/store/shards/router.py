"""Ask the dedup shards of a region: each key goes to the shard that owns it, and to no other.

This file owns the write path over dedup shards (spec/dedup.md 3): the authority of the ring
document alone says "new", and only if no other shard that gets the entry contradicts; every
write carries the ring epoch; an owner that does not answer is `Unavailable`, for its keys alone,
and its neighbour is never asked instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from ...core.dedup import (
    CLAIMED,
    Claim,
    Claimed,
    DedupShard,
    Entry,
    Found,
    Pending,
    StaleRingEpoch,
    Verdict,
    claim_entry,
    point_of,
)
from ...core.first_write import Key
from ...core.ring_document import RingDocument
from ..control import ControlError, Held
from .batches import BATCH_MAX, CALL_S, LATE_MS
from .following import Control, Following
from .reach import Health, OpenShard, Reach, Unavailable

CLAIM_S: Final = 2.0
"""How long a request follows changes of the ring document before it is "unavailable"."""

RETRY_S: Final = 0.2
"""Pause between two attempts to hand in what a dedup shard has not taken yet."""

DEFERRED_MAX: Final = 65_536
"""Completions and releases that wait for dedup shards; when they are more, no claim is taken."""

GIVE_UP_S: Final = LATE_MS / 1_000 + CALL_S + 0.5
"""Age at which a claim whose answer was lost is released: the engine refuses it from then on."""

Answer = Verdict | Unavailable
ItemT = TypeVar("ItemT")
Round = tuple[dict[Key, Any], int]
"""Answers of one attempt, and the highest fence that refused another one."""


class Refillable(Protocol):
    """A dedup shard that has to be filled from the logs after it forgot."""

    async def refill(
        self, entries: Iterable[Entry], *, ring_epoch: int, node: str, nodes: Sequence[str]
    ) -> bool:
        """Fill the shard with what one node knows; False if other nodes are still missing."""


class Lag(NamedTuple):
    """What waits for one dedup shard: how much, and for how long already."""

    dedup_shard: str
    entries: int
    age_ms: int


class _Deferred(NamedTuple):
    entry: Entry | None
    """What completes the claim; None to release it."""
    since: float
    not_before: float


class ShardedDedup:
    """The dedup shards of a region, as one process of it (`node`) uses them.

    The name of a node is its own in the region, and the same after a restart.
    """

    def __init__(self, held: Held, *, control: Control, open_shard: OpenShard, node: str) -> None:
        self.node = node
        self.counts: Counter[str] = Counter()
        """Answers so far: `new`, `found`, `pending`, `unavailable`; the hit ratio is of them."""
        self.reach = Reach(open_shard)
        self._following = Following(held, control, self.reach)
        self._control = control
        self._busy: dict[Key, asyncio.Future[Answer | None]] = {}
        self._reading: dict[Key, asyncio.Task[dict[Key, Entry | Unavailable | None]]] = {}
        self._claims: dict[Key, str] = {}
        self._deferred: dict[Key, _Deferred] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def document(self) -> RingDocument:
        """The ring document of this moment."""
        return self._following.held.document

    async def start(self) -> None:
        """Open every dedup shard; raises ConfigError if one is not fit. One may be down."""
        await self.reach.use(self.document.everyone())
        for run in (self._following.poll, self._hand_in):
            self._tasks.append(asyncio.create_task(run()))

    async def close(self) -> None:
        """Hand in what can be handed in, and let go of the dedup shards."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._hand_in_once()
        await self.reach.close()

    def closed(self) -> str | None:
        """Say why no claim is taken now, or None."""
        if len(self._deferred) >= DEFERRED_MAX:
            return f"{len(self._deferred)} completions wait for dedup shards"
        return None

    # --- what the process asks

    async def claim_many(self, claims: Sequence[tuple[Key, str]]) -> list[Answer]:
        """Decide about each key; one request of this process per key is under way at a time.

        Claims of one key that meet here share the answer, but only one of them is `Claimed`.
        """
        given = await self._decide(claims)
        self.counts.update(_KINDS[type(answer)] for answer in given)
        return given

    async def _decide(self, claims: Sequence[tuple[Key, str]]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        mine: dict[Key, int] = {}
        waiting: list[int] = []
        reason = self.closed()
        for index, (key, content) in enumerate(claims):
            if reason is not None:
                answers[index] = Unavailable("", reason)
            elif key in self._busy or key in mine:
                waiting.append(index)
            elif key in self._claims or self._is_released(key):
                answers[index] = self._pending(key, content)
            else:
                mine[key] = index
        if mine:
            contents = {key: claims[index][1] for key, index in mine.items()}
            found = await self._alone(contents, self._claim)
            answers |= {mine[key]: answer for key, answer in found.items()}
        for index in waiting:
            answers[index] = await self._join(*claims[index])
        return [answers[index] for index in range(len(claims))]

    async def complete_many(self, entries: Sequence[Entry]) -> None:
        """Put outcomes where their claims were; what cannot be put now is put later."""
        items = {entry.key: entry for entry in entries}
        self._defer(items, await self._settle(items))
        for key in items:
            self._claims.pop(key, None)

    async def release_many(self, keys: Iterable[Key]) -> None:
        """Give back claims that no frame follows; what cannot be done now is done later."""
        items: dict[Key, Entry | None] = dict.fromkeys(keys)
        for key in items:
            self._claims.pop(key, None)
        await self._alone(items, self._release)

    async def lookup_many(self, keys: Sequence[Key]) -> list[Entry | Unavailable | None]:
        """Give what stands under each key at the dedup shard that decides.

        One look-up per key of this process is under way at a time; others share its answer.
        """
        mine = [key for key in dict.fromkeys(keys) if key not in self._reading]
        if mine:
            self._reading |= dict.fromkeys(mine, asyncio.create_task(self._lookup(mine)))
        found: dict[Key, Entry | Unavailable | None] = {}
        for task in {self._reading[key] for key in keys}:
            found |= await asyncio.shield(task)
        return [found[key] for key in keys]

    async def merge_many(self, entries: Sequence[Entry]) -> list[Entry | Unavailable]:
        """Put outcomes of other regions; give what stands of each key now."""
        stands = await self._settle({entry.key: entry for entry in entries})
        return [stands[entry.key] for entry in entries]

    async def refill(
        self, name: str, entries: Iterable[Entry], *, nodes: Sequence[str] = ()
    ) -> bool:
        """Fill a dedup shard that forgot; `entries` are all outcomes in the index of this node.

        It answers again when every one of `nodes` has done so. Its fence may have been raised
        before it forgot, so the ring epoch moves on for everybody.
        """
        self.reach.mark_down(name, "it is being filled")
        while self._busy:  # whose claims were still answered by what it was before
            await asyncio.wait(self._busy.values())
        ring_epoch = self.document.ring_epoch + 1
        known = (
            entry
            for entry in chain(entries, self._own_entries())
            if name in _shards(self.document, entry.key)
        )
        dedup_shard: Any = self.reach.dedup_shard(name)
        refillable: Refillable = dedup_shard
        whole = await refillable.refill(
            known, ring_epoch=ring_epoch, node=self.node, nodes=nodes or (self.node,)
        )
        if whole:
            await self._control.end_pause(ring_epoch)
        return whole

    async def settle_own(self, find: Callable[[Sequence[Key]], Mapping[Key, Entry]]) -> int:
        """Complete or release the claims of this node's life before; give how many there were.

        `find` gives the outcomes that the logs hold of some keys; the logs are read already. A
        dedup shard that does not answer is waited for.
        """
        settled = 0
        for info in self.document.everyone():
            after = None
            while page := await self._page(info.name, after):
                after = (point_of(page[-1].key), page[-1].key)
                left = [entry.key for entry in page if self._is_left_over(entry)]
                found = find(left)
                await self.complete_many([found[key] for key in left if key in found])
                await self.release_many(
                    key for key in left if key not in found and not self._is_used(key)
                )
                settled += len(left)
        return settled

    # --- figures

    def health(self) -> list[Health]:
        """Say of each dedup shard whether it answers (`shard_healthy`)."""
        return self.reach.health()

    def lags(self) -> list[Lag]:
        """Say what waits for each dedup shard that decides."""
        now = time.monotonic()
        waiting: dict[str, list[float]] = {info.name: [] for info in self.document.everyone()}
        for key, item in self._deferred.items():
            waiting.setdefault(self.document.routes(key).authority, []).append(item.since)
        return [
            Lag(name, len(since), int((now - min(since, default=now)) * 1_000))
            for name, since in waiting.items()
        ]

    # --- claims

    async def _claim(self, claims: Mapping[Key, str]) -> dict[Key, Answer]:
        """Claim under the document of the moment, again and again while it changes."""
        answers: dict[Key, Answer] = await self._under_documents(claims, self._claim_once)
        uncertain: dict[Key, Entry | None] = {}
        for key, answer in answers.items():
            if type(answer) is Claimed:
                self._claims[key] = claims[key]
            elif type(answer) is Unavailable and answer.sent:
                uncertain[key] = None
        self._defer(uncertain, {key: answers[key] for key in uncertain})
        return answers

    async def _claim_once(self, held: Held, claims: Mapping[Key, str]) -> Round:
        """Ask the authority first; what it gives is asked of the others as well (dedup 3.3)."""
        document = held.document

        def ask(dedup_shard: DedupShard, keys: list[Key]) -> Awaitable[list[Verdict]]:
            asked = [Claim(key, claims[key], self.node) for key in keys]
            return dedup_shard.claim(asked, ring_epoch=document.ring_epoch)

        routes = {key: document.routes(key) for key in claims}
        firsts = await self.reach.spread(((r.authority, key) for key, r in routes.items()), ask)
        given = {key: firsts[r.authority, key] for key, r in routes.items()}
        pairs = [(s, key) for key, r in routes.items() for s in r.also if _is_new(given[key])]
        others = await self.reach.spread(pairs, ask)
        contradicted: dict[Key, Entry | None] = {}
        missed: dict[str, list[Key]] = {}
        fence = 0
        for (dedup_shard, key), answer in chain(firsts.items(), others.items()):
            if isinstance(answer, StaleRingEpoch):
                fence = max(fence, answer.current)
                given.pop(key, None)
            elif dedup_shard == routes[key].authority:
                continue
            elif isinstance(answer, Unavailable):
                missed.setdefault(dedup_shard, []).append(key)
            elif not isinstance(answer, Claimed) and key in given:
                given[key] = Pending(answer.entry)
                contradicted[key] = None
                missed.setdefault(dedup_shard, []).append(key)
        await self._note_missed(held, missed, given)
        if contradicted:
            self._defer(contradicted, await self._settle(contradicted))
        return given, fence

    async def _note_missed(
        self, held: Held, missed: Mapping[str, list[Key]], given: dict[Key, Any]
    ) -> None:
        """Queue repairs of copies; where that is refused, the key is asked again."""
        for dedup_shard, keys in missed.items():
            try:
                noted = await self._control.queue_repair(dedup_shard, keys, version=held.version)
            except ControlError as error:
                given.update(dict.fromkeys(keys, Unavailable(dedup_shard, str(error), sent=True)))
            else:
                for key in () if noted else keys:
                    given.pop(key, None)

    # --- completions, releases, merges

    async def _release(self, items: Mapping[Key, Entry | None]) -> dict[Key, Answer]:
        self._defer(items, await self._settle(items))
        return {}

    async def _settle(self, items: Mapping[Key, Entry | None]) -> dict[Key, Any]:
        """Put or release at every shard that holds the key; give what stands, or Unavailable."""
        return await self._under_documents(items, self._settle_once)

    async def _settle_once(self, held: Held, items: Mapping[Key, Entry | None]) -> Round:
        document = held.document

        async def put(dedup_shard: DedupShard, keys: list[Key]) -> list[Entry | None]:
            entries = [entry for key in keys if (entry := items[key]) is not None]
            standing = await dedup_shard.put_if_first(entries, ring_epoch=document.ring_epoch)
            released = [key for key in keys if items[key] is None]
            if released:
                await dedup_shard.release(released, self.node, ring_epoch=document.ring_epoch)
            stands = {entry.key: entry for entry in standing}
            return [stands.get(key) for key in keys]

        routes = {key: document.routes(key) for key in items}
        pairs = [
            (dedup_shard, key)
            for key, r in routes.items()
            for dedup_shard in (r.authority, *r.also)
        ]
        found = await self.reach.spread(pairs, put)
        given: dict[Key, Any] = {key: found[r.authority, key] for key, r in routes.items()}
        missed: dict[str, list[Key]] = {}
        fence = 0
        for (dedup_shard, key), answer in found.items():
            if isinstance(answer, StaleRingEpoch):
                fence = max(fence, answer.current)
                given.pop(key, None)
            elif isinstance(answer, Unavailable) and dedup_shard != routes[key].authority:
                missed.setdefault(dedup_shard, []).append(key)
        await self._note_missed(held, missed, given)
        return given, fence

    def _defer(self, items: Mapping[Key, Entry | None], answers: Mapping[Key, Any]) -> None:
        """Keep what was not taken, to hand it in later."""
        now = time.monotonic()
        for key, entry in items.items():
            if isinstance(answers.get(key), Unavailable):
                before = self._deferred.get(key)
                since = now if before is None else before.since
                wait_s = GIVE_UP_S if entry is None else 0
                self._deferred[key] = _Deferred(entry, since, now + wait_s)

    async def _hand_in(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            await self._hand_in_once()

    async def _hand_in_once(self) -> None:
        """Try what has waited long enough, of dedup shards that answer."""
        now = time.monotonic()
        ready = [
            (key, item)
            for key, item in self._deferred.items()
            if item.not_before <= now and self.reach.is_healthy(self.document.routes(key).authority)
        ][:BATCH_MAX]
        items = {key: item.entry for key, item in ready}
        answers = await self._settle(items)
        self._defer(items, answers)
        for key, item in ready:
            if self._deferred.get(key) == item and not isinstance(answers[key], Unavailable):
                del self._deferred[key]

    # --- parts

    async def _lookup(self, keys: Sequence[Key]) -> dict[Key, Entry | Unavailable | None]:
        document = self.document
        pairs = [(document.routes(key).authority, key) for key in keys]
        try:
            found = await self.reach.spread(
                pairs, lambda dedup_shard, part: dedup_shard.lookup(part)
            )
        finally:
            for key in keys:
                del self._reading[key]
        return {key: _looked_up(answer) for (_, key), answer in found.items()}

    async def _under_documents(
        self,
        items: Mapping[Key, ItemT],
        attempt: Callable[[Held, Mapping[Key, ItemT]], Awaitable[Round]],
    ) -> dict[Key, Any]:
        """Try under the document of the moment; what it refused is tried under the next one."""
        answers: dict[Key, Any] = {}
        left = dict(items)
        deadline = time.monotonic() + CLAIM_S
        while left:
            given, fence = await attempt(self._following.held, left)
            answers |= given
            left = {key: item for key, item in left.items() if key not in given}
            if left:
                await self._following.next_document(fence)
                if time.monotonic() > deadline:
                    late = Unavailable("", "the ring document is changing", sent=True)
                    return answers | dict.fromkeys(left, late)
        return answers

    async def _alone(
        self,
        items: Mapping[Key, ItemT],
        run: Callable[[Mapping[Key, ItemT]], Awaitable[dict[Key, Answer]]],
    ) -> dict[Key, Answer]:
        """Do something about keys while whoever else asks for them here waits."""
        loop = asyncio.get_running_loop()
        futures: dict[Key, asyncio.Future[Answer | None]] = {
            key: loop.create_future() for key in items
        }
        self._busy.update(futures)
        found: dict[Key, Answer] = {}
        try:
            found = await run(items)
        finally:
            for key, future in futures.items():
                if self._busy.get(key) is future:
                    del self._busy[key]
                future.set_result(found.get(key))
        return found

    async def _join(self, key: Key, content: str) -> Answer:
        """Take the answer of the request for this key that is under way."""
        other = self._busy.get(key)
        answer = None if other is None else await asyncio.shield(other)
        if answer is None:  # it has ended, or was a release
            return (await self._decide([(key, content)]))[0]
        return self._pending(key, content) if type(answer) is Claimed else answer

    async def _page(self, name: str, after: tuple[int, Key] | None) -> list[Entry]:
        """Read some entries of a dedup shard, as soon as it answers."""
        while True:
            found = await self.reach.call(
                name,
                lambda dedup_shard: dedup_shard.scan(
                    ranges=EVERYWHERE, after=after, limit=BATCH_MAX
                ),
            )
            if not isinstance(found, Unavailable):
                return found
            await asyncio.sleep(RETRY_S)

    def _pending(self, key: Key, content: str) -> Pending:
        return Pending(claim_entry(Claim(key, content, self.node)))

    def _is_released(self, key: Key) -> bool:
        """Say whether a release of this key waits: until it is certain, nobody claims here."""
        item = self._deferred.get(key)
        return item is not None and item.entry is None

    def _is_used(self, key: Key) -> bool:
        return key in self._claims or key in self._busy or key in self._deferred

    def _is_left_over(self, entry: Entry) -> bool:
        return entry.state == CLAIMED and entry.owner == self.node and not self._is_used(entry.key)

    def _own_entries(self) -> list[Entry]:
        """Give what only this process knows: its claims, and outcomes not handed in yet."""
        held = [claim_entry(Claim(key, c, self.node)) for key, c in self._claims.items()]
        return held + [item.entry for item in self._deferred.values() if item.entry is not None]


EVERYWHERE: Final = [(0, 2**32 - 1)]
_KINDS: Final = {Claimed: "new", Found: "found", Pending: "pending", Unavailable: "unavailable"}


def _is_new(answer: object) -> bool:
    return isinstance(answer, Claimed)


def _shards(document: RingDocument, key: Key) -> tuple[str, ...]:
    routes = document.routes(key)
    return (routes.authority, *routes.also)


def _looked_up(answer: Entry | Unavailable | StaleRingEpoch | None) -> Entry | Unavailable | None:
    assert not isinstance(answer, StaleRingEpoch)  # a look-up carries no ring epoch
    return answer
