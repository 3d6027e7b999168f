"""The dedup shards of a region, and how a process asks them: the owner of a key decides.

The rule of a row is core/dedup.py's, the routes are those of the ring document, and every write
carries the ring epoch. An owner that does not answer is `Unavailable`, for its keys alone; its
neighbour is never asked instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fractal_lba_server.core.dedup import (
    Claim,
    Claimed,
    Entry,
    Pending,
    StaleRingEpoch,
    Verdict,
    claim_row,
    first_of,
    release_row,
)
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo

from ..waiting import NS_PER_MS, NS_PER_S
from .migrating import Migrating

if TYPE_CHECKING:
    from .region import Region
    from .world import World

WAY_NS: Final = 150_000
"""One way between a process and a dedup shard or the control store, in one region."""

CLAIM_NS: Final = 2 * NS_PER_S
"""How long a request follows changes of the ring document before it is "unavailable"."""

RETRY_NS: Final = 200 * NS_PER_MS
"""Pause between two attempts to hand in what a dedup shard has not taken yet."""

NO_NEWS_NS: Final = 20 * NS_PER_MS
"""Pause before a ring document is read again that was the same the last time."""

DEFERRED_MAX: Final = 65_536

Answered = Callable[[Any], object]


class Unavailable(NamedTuple):
    """A dedup shard could not be asked."""

    dedup_shard: str


class DedupStore:
    """One dedup shard: rows, and the fence below which it takes no write."""

    def __init__(self, name: str, now_ms: Callable[[], int]) -> None:
        self.name = name
        self.rows: dict[Key, Entry] = {}
        self.fence = 0
        self.down = False
        self.counts: Counter[str] = Counter()
        self._now_ms = now_ms

    def _check(self, ring_epoch: int) -> None:
        if ring_epoch < self.fence:
            raise StaleRingEpoch(self.fence)

    def claim(self, claim: Claim, ring_epoch: int) -> Verdict:
        """Decide about a claim."""
        self._check(ring_epoch)
        verdict, row = claim_row(self.rows.get(claim.key), claim, self._now_ms())
        if row is not None:
            self.rows[claim.key] = row
        return verdict

    def put_if_first(self, entry: Entry, ring_epoch: int) -> Entry:
        """Put an entry that comes before what stands; give what stands now."""
        self._check(ring_epoch)
        self.rows[entry.key] = first_of(self.rows.get(entry.key), entry, self._now_ms())
        return self.rows[entry.key]

    def release(self, key: Key, owner: str, ring_epoch: int) -> None:
        """Give back a claim of this owner."""
        self._check(ring_epoch)
        row = release_row(self.rows.get(key), owner)
        if row is None:
            self.rows.pop(key, None)

    def lookup(self, key: Key) -> Entry | None:
        """Give what stands under a key."""
        return self.rows.get(key)

    def flush(self) -> int:
        """Lose every row, and not know it."""
        count = len(self.rows)
        self.rows.clear()
        return count


class ShardRouter:
    """The dedup shards of one region as its process uses them, and the control store of both."""

    def __init__(self, world: World, region: Region, wants: Mapping[str, Any]) -> None:
        self.world = world
        self.region = region
        self.stores: dict[str, DedupStore] = {}
        infos = tuple(self.add(f"s{number}") for number in range(1, wants["count"] + 1))
        self.document = RingDocument(1, infos)
        """What the control store holds."""
        self.held = self.document
        """What the process knows of it."""
        self.repairs: dict[tuple[str, Key], None] = {}
        self.sealed_epoch = 0
        """Under documents up to this ring epoch no repair is taken any more."""
        self.migrating = Migrating(self)
        self._deferred: dict[Key, Entry | None] = {}
        self._retrying = False
        self._reading: list[Callable[[], object]] = []

    def add(self, name: str) -> ShardInfo:
        """Have a dedup shard of a name."""
        if name not in self.stores:
            self.stores[name] = self.world.parts.shard_store(name, self._now_ms)
        return ShardInfo(name, 1, f"memory://{name}")

    def _now_ms(self) -> int:
        return self.region.clock.wall_ns() // NS_PER_MS

    def closed(self) -> str | None:
        """Say why no claim is taken now, or None."""
        if len(self._deferred) >= DEFERRED_MAX:
            return f"{len(self._deferred)} completions wait for dedup shards"
        return None

    def call(self, name: str, work: Callable[[DedupStore], Any], answered: Answered) -> None:
        """Do something at a dedup shard; the answer may be Unavailable or StaleRingEpoch."""
        self.world.agenda.after(WAY_NS, self._at_shard, name, work, answered)

    def _at_shard(self, name: str, work: Callable[[DedupStore], Any], answered: Answered) -> None:
        store = self.stores[name]
        answer: Any
        if store.down:
            store.counts["claims_refused"] += 1
            answer = Unavailable(name)
        else:
            self.world.steps += 1
            try:
                answer = work(store)
            except StaleRingEpoch as stale:
                answer = stale
        self.world.agenda.after(WAY_NS, answered, answer)

    def _read_again(self, then: Callable[[], object]) -> None:
        """Read the ring document, and go on."""
        self._reading.append(then)
        if len(self._reading) == 1:
            is_news = self.document.ring_epoch != self.held.ring_epoch
            self.world.agenda.after(2 * WAY_NS if is_news else NO_NEWS_NS, self._read)

    def _read(self) -> None:
        self.held = self.document
        waiting, self._reading = self._reading, []
        for then in waiting:
            then()

    # --- claims

    def claim(self, key: Key, content: str, answered: Answered) -> None:
        """Say whether an id is new: the authority of the ring decides."""
        until_ns = self.world.agenda.now_ns + CLAIM_NS
        self._claim(Claim(key, content, self.region.code), until_ns, answered)

    def _claim(self, claim: Claim, until_ns: int, answered: Answered) -> None:
        document = self.held
        routes = document.routes(claim.key)
        self.call(
            routes.authority, lambda store: store.claim(claim, document.ring_epoch),
            partial(self._claimed, document, claim, until_ns, answered),
        )  # fmt: skip

    def _claimed(
        self, document: RingDocument, claim: Claim, until_ns: int, answered: Answered, answer: Any
    ) -> None:
        if isinstance(answer, StaleRingEpoch):
            self._claim_again(claim, until_ns, answered)
            return
        also = document.routes(claim.key).also
        if not isinstance(answer, Claimed) or not also:
            answered(answer)
            return
        name = also[0]  # a document has one ring beside the one that decides
        self.call(
            name, lambda store: store.claim(claim, document.ring_epoch),
            partial(self._confirmed, document, name, claim, until_ns, answered),
        )  # fmt: skip

    def _confirmed(
        self, document: RingDocument, name: str, claim: Claim, until_ns: int, answered: Answered,
        answer: Any,
    ) -> None:  # fmt: skip
        """Take the word of the other ring's dedup shard about what the authority calls new."""
        if isinstance(answer, StaleRingEpoch):
            self._claim_again(claim, until_ns, answered)
        elif isinstance(answer, Unavailable):
            if document.ring_epoch <= self.sealed_epoch:
                self._claim_again(claim, until_ns, answered)
                return
            self.repairs[name, claim.key] = None
            answered(Claimed(claim.key))
        elif isinstance(answer, Claimed):
            answered(answer)
        else:
            self.repairs[name, claim.key] = None
            self.release(claim.key)
            answered(Pending(answer.entry))

    def _claim_again(self, claim: Claim, until_ns: int, answered: Answered) -> None:
        if self.world.agenda.now_ns >= until_ns:
            answered(Unavailable(self.held.routes(claim.key).authority))
            return
        self._read_again(lambda: self._claim(claim, until_ns, answered))

    def lookup(self, key: Key, answered: Answered) -> None:
        """Give what stands at the dedup shard that decides."""
        self.call(self.held.routes(key).authority, lambda store: store.lookup(key), answered)

    # --- completions and releases

    def complete(self, entry: Entry, *, own: bool) -> None:
        """Put an outcome where its claim was; what cannot be put now is put later."""
        self._settle(entry.key, entry)

    def release(self, key: Key) -> None:
        """Give back a claim."""
        self._settle(key, None)

    def _settle(self, key: Key, entry: Entry | None) -> None:
        document = self.held
        routes = document.routes(key)

        def work(store: DedupStore) -> object:
            if entry is None:
                store.release(key, self.region.code, document.ring_epoch)
                return None
            return store.put_if_first(entry, document.ring_epoch)

        for name in (routes.authority, *routes.also):
            done = partial(self._settled, name, name == routes.authority, key, entry)
            self.call(name, work, done)

    def _settled(
        self, name: str, decides: bool, key: Key, entry: Entry | None, answer: Any
    ) -> None:
        if isinstance(answer, StaleRingEpoch):
            self._read_again(lambda: self._settle(key, entry))
        elif isinstance(answer, Unavailable) and decides:
            self._deferred[key] = entry
            self._retry()
        elif isinstance(answer, Unavailable):
            self.repairs[name, key] = None

    def _retry(self) -> None:
        if not self._retrying:
            self._retrying = True
            self.world.agenda.after(RETRY_NS, self._hand_in)

    def _hand_in(self) -> None:
        self._retrying = False
        deferred, self._deferred = self._deferred, {}
        for key, entry in deferred.items():
            self._settle(key, entry)

    # --- what people do

    def migrate(self, to_shards: int) -> None:
        """Move the keys to more dedup shards."""
        self.migrating.begin(to_shards)
