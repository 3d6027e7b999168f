"""Planted: dedup shards that are asked or moved as they should not be.

Where a second line of defence would hide a bug, it is left out as well: writes that go to both
rings after a cutover answer for what the copy has missed. The plain design has none of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import methodcaller
from typing import Final

from fractal_lba_server.core.dedup import (
    Claim,
    Claimed,
    Entry,
    ShardUnavailable,
    StaleRingEpoch,
    point_of,
)
from fractal_lba_server.core.first_write import Key
from fractal_lba_server.core.migration import (
    COPYING,
    CUTTING,
    OPEN,
    Effects,
    Migration,
    PutDocument,
    Save,
)
from fractal_lba_server.core.ring_document import COMMITTED, STEADY, RingDocument

from ...waiting import NS_PER_MS
from .bug import SHARDS, bug, enter
from .shard_moves import Coordinator
from .shard_world import Shard, Steps, Writer

MOVES: Final = ("migrate", "shard-down", "process-kill", "process-pause")
FORGETS: Final = ("linearizable", "canary", "digests_equal", "no_loss_end_to_end")
SLOW_COPY_NS: Final = 200 * NS_PER_MS
"""What a copy that spares the dedup shards waits between two entries."""

SAMPLED: Final = 8
"""One entry of so many is compared."""

shard_bug: Final = partial(bug, engine=SHARDS, found_by=FORGETS)

# --- who is asked


@shard_bug(
    "neighbour-fallback", "the next dedup shard of the ring answers for one that is down",
    hazard="H01", part="writer", kinds=("shard-down", "process-pause"),
)  # fmt: skip
class NeighbourAnswers(Writer):
    """Asks the next dedup shard when the one that decides is down."""

    def claim(self, key: Key, content: str, held: RingDocument) -> Steps:
        try:
            return (yield from super().claim(key, content, held))
        except ShardUnavailable:
            names = [info.name for info in held.shards]
            authority = held.routes(key).authority
            neighbour = names[(names.index(authority) + 1) % len(names)]
            claim, epoch = Claim(key, content, self.name), held.ring_epoch
            return (yield from self.world.ask(neighbour, methodcaller("claim", claim, epoch)))


@shard_bug(
    "driver-error-is-a-miss", "an error of the store is read as if the id were new", hazard="H24",
    part="writer", kinds=("shard-down", "process-pause"),
)  # fmt: skip
class ErrorIsAbsence(Writer):
    """Reads an error of a dedup shard as if the id had never been seen."""

    def claim(self, key: Key, content: str, held: RingDocument) -> Steps:
        try:
            return (yield from super().claim(key, content, held))
        except ShardUnavailable:
            return Claimed(key)


enter(
    "ttl-shorter-than-the-replay-horizon", "an id is forgotten while its record may come again",
    {"ttl_ms": lambda _: 1_000}, hazard="H18", base="moving-ttl",
    kinds=("process-pause", "shard-down"), found_by=FORGETS, engine=SHARDS,
)  # fmt: skip


# --- the barrier


@shard_bug(
    "stale-map", "a writer routes by the ring of its start, whatever has been published since",
    hazard="H06", base="moving-on", part="late", kinds=("process-pause",),
)  # fmt: skip
class StaleMap(Writer):
    """Knows the ring of its start, and the ring epoch of today."""

    def claim(self, key: Key, content: str, held: RingDocument) -> Steps:
        return (yield from super().claim(key, content, self._first(held)))

    def _first(self, held: RingDocument) -> RingDocument:
        first: RingDocument = self.__dict__.setdefault("_start", self._alone(held))
        return replace(first, ring_epoch=held.ring_epoch)

    @staticmethod
    def _alone(held: RingDocument) -> RingDocument:
        return replace(held, phase=STEADY, next=(), migration=None)


@shard_bug(
    "cutover-without-a-barrier", "dedup shards refuse no writer who knows an older ring",
    hazard="H06", base="moving-on", part="shard", kinds=("process-pause",),
)  # fmt: skip
class Unfenced(Shard):
    """Takes whatever comes, of whatever ring epoch."""

    def set_fence(self, ring_epoch: int) -> None:
        return


# --- dual writes


class _OneRing(Writer):
    """Writes to the ring that decides alone, in some phases."""

    def stops(self, phase: str) -> bool:
        """Say whether second writes are left out now."""
        raise NotImplementedError

    def claim(self, key: Key, content: str, held: RingDocument) -> Steps:
        return (yield from super().claim(key, content, self.seen(held)))

    def seen(self, held: RingDocument) -> RingDocument:
        """Give the document as this writer reads it."""
        if held.phase == STEADY or not self.stops(held.phase):
            return held
        return replace(held, phase=STEADY, next=(), migration=None)

    def complete(self, key: Key) -> Steps:
        while key in self.incomplete:
            entry, held = self.incomplete[key], self.held
            if self.seen(held) is held:
                yield from super().complete(key)
                return
            authority, epoch = held.routes(key).authority, held.ring_epoch
            try:
                yield from self.world.ask(authority, methodcaller("put_if_first", entry, epoch))
                self.incomplete.pop(key, None)
            except StaleRingEpoch as error:
                yield from self.look(error.current)
            except ShardUnavailable:
                yield from self.look()


@shard_bug(
    "dual-write-stops-before-the-cutover",
    "second writes end with the copy, not with the cutover", base="moving-on", part="writer",
    kinds=("process-pause",),
)  # fmt: skip
class StopsEarly(_OneRing):
    """Stops its second writes when the copy has come to its end."""

    def stops(self, phase: str) -> bool:
        state = self.world.control.state
        return state is not None and state.step != COPYING


@shard_bug(
    "rollback-loses-new-writes", "what was written since the cutover is not in the old ring",
    hazard="H10", base="moving-back", part="writer", kinds=("migrate", "process-pause"),
)  # fmt: skip
class NoReverse(_OneRing):
    """Writes to the new ring alone once it decides: the plain design, without a way back."""

    def stops(self, phase: str) -> bool:
        return phase == COMMITTED


class ComparesNothing(Coordinator):
    """Goes on without a look at what was copied, and deletes without a look at what is left."""

    def compared(self, source: str, target: str) -> list[Key]:
        return []

    def bring_home(self, entry: Entry, owner: str) -> Steps:
        yield from ()


PLAIN: Final = {"writer": NoReverse, "coordinator": ComparesNothing}
"""A migration without a second line of defence."""


@shard_bug(
    "failed-second-write-forgotten", "a second write that failed is repaired by nobody",
    hazard="H08", base="moving-on", part="writer",
    beside=PLAIN, kinds=("shard-down",),
)  # fmt: skip
class ForgetsFailures(NoReverse):
    """Takes a failed second write for done, and notes it nowhere."""

    def note_repair(self, name: str, key: Key, ring_epoch: int) -> bool:
        return True


@shard_bug(
    "two-rings-decide", "an id is new if either of two rings has not seen it", hazard="H08",
    base="moving-on", part="writer", kinds=("process-pause",),
)  # fmt: skip
class AnyNew(Writer):
    """Takes "new" from whichever ring says it."""

    def claim(self, key: Key, content: str, held: RingDocument) -> Steps:
        verdict = yield from super().claim(key, content, held)
        also = held.routes(key).also
        if isinstance(verdict, Claimed) or not also:
            return verdict
        other = yield from self.world.ask(also[0], methodcaller("lookup", key))
        return Claimed(key) if other is None else verdict


# --- copying and comparing


def _set(entry: Entry, shard: Shard) -> None:
    shard.rows[entry.key] = entry


@shard_bug(
    "blind-copy-overwrites", "the copy overwrites what a writer has put there meanwhile",
    hazard="H07", base="moving-busy", part="coordinator", beside=PLAIN, kinds=("disk-slow",),
)  # fmt: skip
class BlindCopy(ComparesNothing):
    """Reads first, and sets later whatever it has read."""

    def copy(self) -> Steps:
        read = [(way[1], self.moving(*way)) for way in self._ways()]
        for target, entries in read:
            for entry in entries:
                yield SLOW_COPY_NS
                yield from self.world.ask(target, partial(_set, entry))


@shard_bug(
    "time-to-live-reset-by-the-copy", "an entry that was copied ends later than the one it was",
    hazard="H12", base="moving-ttl", part="coordinator", beside={"coordinator": ComparesNothing},
    kinds=MOVES,
)  # fmt: skip
class ResetsTheTime(ComparesNothing):
    """Gives a copied entry its time to live anew."""

    def copy_one(self, entry: Entry, target: str) -> Steps:
        if entry.expires_at_ms is not None:
            entry = entry._replace(expires_at_ms=self.world.now_ms() + (self.world.ttl_ms or 0))
        yield from super().copy_one(entry, target)


class SkipsWhatFails(Coordinator):
    """Leaves out an entry that could not be copied: the verification finds it."""

    def copy_one(self, entry: Entry, target: str) -> Steps:
        try:
            yield from super().copy_one(entry, target)
        except ShardUnavailable:
            state = self.control.state
            if state is None or state.step != COPYING:
                raise


@shard_bug(
    "verify-samples-only",
    "one entry of eight is compared, and an entry was left out by the copy", base="moving-busy",
    part="coordinator", beside={"writer": NoReverse, "coordinator": SkipsWhatFails},
    kinds=("shard-down",),
)  # fmt: skip
class ComparesSamples(SkipsWhatFails):
    """Compares one entry of eight."""

    def compared(self, source: str, target: str) -> list[Key]:
        keys = super().compared(source, target)
        return [key for key in keys if point_of(key) % SAMPLED == 0]


# --- the window, and taking over


@shard_bug(
    "cleanup-before-the-window-closes", "entries are deleted while a rollback is still possible",
    hazard="H13", base="moving-back", part="coordinator", kinds=("migrate", "process-pause"),
)  # fmt: skip
class CleansAtOnce(Coordinator):
    """Deletes what others own now as soon as the new ring decides."""

    def wait_for_the_window(self, state: Migration) -> Steps:
        for name, _, entry in self._leftovers():
            self.world.shards[name].rows.pop(entry.key, None)
        yield from super().wait_for_the_window(state)


@shard_bug(
    "resume-repeats-the-cutover", "whoever takes over after a cutover does it once more",
    base="moving-busy", part="coordinator", beside=PLAIN, kinds=("shard-down",),
    found_by=(*FORGETS, "machine"),
)  # fmt: skip
class CutsOverAgain(ComparesNothing):
    """Resumes a cutover by doing it again, whatever the document says."""

    def resumed(self) -> Effects:
        state, before = self._state(), self.control.document
        if state.step != CUTTING:
            return super().resumed()
        after = replace(
            before, ring_epoch=before.ring_epoch + 1, phase=COMMITTED, shards=before.next,
            next=before.shards,
        )  # fmt: skip
        until_ms = self.world.now_ms() + state.window_ms
        return (PutDocument(after), Save(replace(state, step=OPEN, window_until_ms=until_ms)))
