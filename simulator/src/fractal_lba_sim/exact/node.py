"""One process of a region: the server's machines, and what carries their effects out.

It comes up as the server does: what peers hold of a lost tail is fetched, the index is brought up
to the logs, and only then are records taken. Nothing of it happens after its end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fractal_lba.errors import SignatureError
from fractal_lba.sign import check_signature
from fractal_lba_server.contract import error_codes
from fractal_lba_server.core import ingest
from fractal_lba_server.core.first_write import Apply, Key, Stored
from fractal_lba_server.core.ingest import Ingest
from fractal_lba_server.core.ingest_events import (
    Answer,
    Append,
    Ask,
    BodyReceived,
    CheckSignature,
    FrameSynced,
    LeaseChanged,
    OpenEpoch,
    PeerAcked,
    PeerFrames,
    PeerHeard,
    PeerMerged,
    ReadRequested,
    Refuse,
    Release,
    SetTimer,
    SignatureChecked,
    StreamStopped,
    TimerFired,
    ViewApplied,
)
from fractal_lba_server.core.receiver import Held
from fractal_lba_server.core.replication import SegmentSealed, TailGrown
from fractal_lba_server.core.segment import SegmentError
from fractal_lba_server.core.streams import Stream, StreamStart
from fractal_lba_server.core.tenants import OPEN_PLACEMENT

from ..waiting import NS_PER_MS, Lane, Life
from .boot import own_fence
from .index import Index
from .memory import MEMORY, WRITTEN
from .segments import CorruptError, grown

if TYPE_CHECKING:
    from .keeper import Keeper
    from .region import Region
    from .world import World

APPLY_NS: Final = 250 * NS_PER_MS
"""Rest of the index between two batches of rows, as the server's."""

HEARD_NS: Final = 250 * NS_PER_MS
"""How often the ingest machine is told that a peer was heard."""

_SHOWN: Final = frozenset({FrameSynced, PeerAcked, LeaseChanged})

ANSWER_BYTES: Final = 400
RETRY_MS: Final = 1_000


class Heard(NamedTuple):
    """What a client is answered, as far as it counts."""

    status: int
    code: str | None = None
    stored: Stored | None = None
    replayed: bool = False
    level: str | None = None
    retry_after_ms: int | None = None
    extras: Any = None
    watermark: tuple[str, str, int, int] | None = None
    """Region, placement, region epoch and number up to which it is replicated."""


class Node:
    """One process from its start to its end."""

    def __init__(self, world: World, region: Region, life: Life) -> None:
        self.world = world
        self.region = region
        self.code: str = region.code
        self.life = life
        self.disk = region.disk
        self.clock = region.clock
        self.process = f"{region.code}-{region.starts}"
        self.core: Ingest | None = None
        self.index: Index = self.disk.kept.setdefault("index", world.parts.index())
        self.wals: dict[str, Any] = {}
        self.inbound: dict[tuple[str, str], Any] = {}
        self.outbound: dict[str, dict[str, Any]] = {}
        self.keeper: Keeper | None = None
        self.lookups: Any = None
        self._rows: list[Apply] = []
        self._rows_applied = 0
        self._is_applying = False
        self._tokens = itertools.count(1)
        self._replies: dict[object, Callable[[Heard], None]] = {}
        self._merges: dict[object, Callable[[tuple[int, ...]], None]] = {}
        self._timer: Any = None
        self._heard_ns: dict[str, int] = {}
        self._lane = Lane(world.agenda)
        self._carriers: dict[type, Callable[[Any], object]] = {
            Append: lambda effect: self.wals[effect.placement].append(effect.seq, effect.frame),
            OpenEpoch: lambda effect: self.wals[effect.placement].open_epoch(effect.region_epoch),
            Release: lambda effect: self.lookups.release(effect.key),
            Apply: self._apply_later,
            Answer: self._answered,
            Refuse: self._refused,
            PeerMerged: lambda effect: self._merges.pop(effect.token)(effect.displaced),
            SetTimer: self._set_timer,
            CheckSignature: self._check_signature,
        }

    # --- the start

    def start(self) -> None:
        """Come up."""
        self.world.parts.opening(self, self._opened).begin()

    def _opened(self) -> None:
        """Take up what the disk holds, and begin. A disk that cannot be trusted ends it."""
        try:
            streams, logs = self._take_up()
        except (CorruptError, SegmentError, ValueError) as error:
            self.fail(f"the disk cannot be taken up: {error}")
            return
        world = self.world
        self.lookups = world.lookups_for(self)
        self._carriers[Ask] = self.lookups.ask
        self.core = world.parts.ingest(
            world.settings_of(self.code),
            check=MEMORY.check,
            directory=self.region.directory,
            policies=world.policies,
            streams=streams,
            last_hlc=self._last_hlc(),
            rank=world.rank,
        )
        for start in streams:
            self._open_stream(start, logs[start.placement])
        for inbound in self.inbound.values():
            inbound.ready = True
        if self.region.tiers is not None:
            self.region.tiers.begin(self.life)
        if world.roles_of(self.code):
            self.keeper = world.parts.keeper(self)
            self.keeper.start()
        world.trace.write("process", who=self.code, state="ready")

    def _take_up(self) -> tuple[list[StreamStart], dict[str, Held]]:
        world, streams, logs = self.world, [], {}
        for name, placement in world.placements_of(self.code):
            log = world.segments(self.disk, f"log/{name}")
            acked = self.index.applied_seq(self.code, name)
            held = logs[name] = log.recover(at_least=acked)
            self._follow(self.code, name, log)
            peers = tuple(code for code in placement.regions if code != self.code)
            for peer in peers:
                mirror = world.segments(self.disk, f"mirror/{peer}/{name}")
                copied = mirror.recover(copies_others=True)
                self._follow(peer, name, mirror)
                self.inbound[peer, name] = world.parts.inbound(self, peer, name, mirror, copied)
            epoch = max(log.last_epoch() or 1, self.disk.kept.get(own_fence(name), 1))
            if placement.needs_lease:
                kept = self.disk.kept.get(f"role/{name}")
                epoch = max(epoch, 1 if kept is None else kept.region_epoch)
            streams.append(
                StreamStart(
                    placement=name, region_epoch=epoch, next_seq=held.mark.seq + 1, peers=peers,
                    copies=placement.copies, closed=log.closed(),
                    needs_lease=placement.needs_lease,
                )
            )  # fmt: skip
        return streams, logs

    def _follow(self, region: str, placement: str, segments: Any) -> None:
        """Bring the index up to one stream."""
        index = self.index
        after = index.applied_seq(region, placement)
        for origin, frame in segments.frames(region, placement, after):
            facts = WRITTEN.read_facts(frame, origin)
            standing = index.lookup(facts.key)
            resolve = ingest.resolve  # type: ignore[attr-defined]  # the rule that the machine has
            row = resolve(facts.key, facts.stored, facts.kid, standing, self.world.rank)
            if row is not None:
                index.apply_one(row)

    def _last_hlc(self) -> int:
        """Give the latest hybrid time of all that is held here."""
        latest = 0
        folders = [f"log/{name}" for name, _ in self.world.placements_of(self.code)]
        folders += [f"mirror/{peer}/{name}" for peer, name in self.inbound]
        for folder in folders:
            segments = self.world.segments(self.disk, folder)
            for first in segments.firsts():
                for _, frame in segments.frames("", "", first - 1):
                    latest = max(latest, frame.hlc)
        return latest

    def _open_stream(self, start: StreamStart, held: Held) -> None:
        world, name = self.world, start.placement
        log = world.segments(self.disk, f"log/{name}")
        ways = self.outbound[name] = {
            peer: world.parts.outbound(self, name, peer, log, start.region_epoch)
            for peer in start.peers
        }

        def on_tail(event: TailGrown | SegmentSealed) -> None:
            for way in ways.values():
                way.grew(event)

        self.wals[name] = world.parts.wal(
            log, held, placement=name, region_epoch=start.region_epoch, rule=world.wal_rule,
            clock=self.clock, life=self.life, say=self.feed, on_tail=on_tail, fail=self.fail,
        )  # fmt: skip
        for first, size, seq, sealed in grown(log):
            on_tail(SegmentSealed(first, size, seq) if sealed else TailGrown(first, size, seq))
        if start.peers:
            self.feed(PeerHeard(name, self.clock.wall_ns()))
        for way in ways.values():
            self.feed(PeerAcked(name, way.peer, way.core.acked.seq))
            way.begin()

    # --- the machine

    def feed(self, event: object) -> None:
        """Give the ingest machine an event and carry out what it says."""
        core = self.core
        if core is None or self.life.ended:
            return
        self.world.steps += 1
        carriers = self._carriers
        for effect in core.on_event(event, self.clock.wall_ns()):
            carriers[type(effect)](effect)
        if type(event) in _SHOWN:
            if isinstance(event, FrameSynced):
                self.world.watch.durable(self, event.placement, event.seq)
            else:
                self.world.watch.looked(self)

    def _set_timer(self, effect: SetTimer) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait_ns = self.clock.true_ns(effect.at_ns - self.clock.wall_ns())
        self._timer = self.life.after(max(wait_ns, 1), self.feed, TimerFired())

    def _check_signature(self, effect: CheckSignature) -> None:
        error = None
        try:
            check_signature(effect.alg, effect.key, effect.digest, effect.sig)
        except SignatureError as found:
            error = found
        self.life.after(NS_PER_MS, self.feed, SignatureChecked(effect.token, error))

    def _apply_later(self, row: Apply) -> None:
        self._rows.append(row)
        self.lookups.applied(row)
        if not self._is_applying:
            self._is_applying = True
            self.life.after(APPLY_NS, self._apply)

    def _apply(self) -> None:
        rows, self._rows = self._rows, []
        self._is_applying = False
        self.index.apply(rows)
        self._rows_applied += len(rows)
        self.feed(ViewApplied(self._rows_applied))

    # --- clients

    def submit(
        self, body: bytes, tenant: str, level: str | None, reply: Callable[[Heard], None]
    ) -> None:
        """Take a record, when it is its turn."""
        use_ns = self.region.record_ns
        if use_ns:
            self._lane.use(use_ns, self.life.run, self._submit, body, tenant, level, reply)
        else:
            self._submit(body, tenant, level, reply)

    def _submit(
        self, body: bytes, tenant: str, level: str | None, reply: Callable[[Heard], None]
    ) -> None:
        if self.core is None:
            reply(Heard(503, "unavailable", retry_after_ms=RETRY_MS))
            return
        closed = self.lookups.closed()
        if closed is not None:
            reply(Heard(503, "unavailable", retry_after_ms=RETRY_MS))
            return
        token = next(self._tokens)
        self._replies[token] = reply
        self.feed(BodyReceived(token, body, tenant_header=tenant, level=level))

    def read(self, key: Key, reply: Callable[[Heard], None]) -> None:
        """Look an outcome up."""
        if self.core is None:
            reply(Heard(503, "unavailable", retry_after_ms=RETRY_MS))
            return
        token = next(self._tokens)
        self._replies[token] = reply
        self.feed(ReadRequested(token, *key))

    def _answered(self, effect: Answer) -> None:
        token, stored, replayed, _, level = effect
        watermark = self._watermark(stored.origin.placement)
        self._replies.pop(token)(
            Heard(stored.status, None, stored, replayed, level, None, None, watermark)
        )

    def _refused(self, effect: Refuse) -> None:
        row = error_codes()[effect.code]
        placement = OPEN_PLACEMENT if effect.stored is None else effect.stored.origin.placement
        self._replies.pop(effect.token)(
            Heard(
                row["status"], effect.code, effect.stored, False, None, effect.retry_after_ms,
                effect.extras, self._watermark(placement),
            )
        )  # fmt: skip

    def stream(self, placement: str) -> Stream | None:
        """Give our stream of a placement."""
        return None if self.core is None else self.core.streams.get(placement)

    def _watermark(self, placement: str) -> tuple[str, str, int, int] | None:
        assert self.core is not None
        stream = self.core.streams.get(placement)
        if stream is None:
            return None
        replicated = stream.levels.replicated
        return (*stream.origin, replicated) if replicated else None

    def takes_records(self) -> bool:
        """Say what `GET /readyz` and `GET /health` say."""
        core = self.core
        if core is None or self.lookups.closed() is not None:
            return False
        return core.refusal(self.clock.wall_ns()) is None

    def in_flight(self) -> int:
        """Count the requests without an answer."""
        return len(self._replies)

    # --- other regions

    def take_frames(self, frames: tuple[Any, ...], done: Callable[[tuple[int, ...]], None]) -> None:
        """Merge frames of a peer."""
        token = ("peer", next(self._tokens))
        self._merges[token] = done
        self.feed(PeerFrames(token, frames))

    def hear_peer(self, placement: str) -> None:
        """Note that a peer has spoken."""
        now_ns = self.clock.steady_ns()
        if now_ns - self._heard_ns.get(placement, -HEARD_NS) >= HEARD_NS:
            self._heard_ns[placement] = now_ns
            self.feed(PeerHeard(placement, self.clock.wall_ns()))

    def stop_stream(self, placement: str, reason: str) -> None:
        """Write nothing more to a stream."""
        self.world.trace.note(f"{self.code} {placement}: {reason}")
        self.feed(StreamStopped(placement, reason))

    # --- the end

    def fail(self, reason: str) -> None:
        """End by itself: it cannot go on."""
        if not self.life.ended:
            self.world.trace.note(f"{self.code}: {reason}")
            self.region.exited()

    def acked(self, placement: str, peer: str, seq: int, displaced: tuple[int, ...]) -> None:
        """Tell the ingest machine what a peer holds."""
        self.feed(PeerAcked(placement, peer, seq, displaced))

    def durable_mark(self, placement: str) -> Any:
        """Say how far our own log is durable."""
        ways = self.outbound.get(placement, {})
        return next(iter(ways.values())).core.tail if ways else None

    def last_epoch(self, region: str, placement: str) -> int:
        """Give the region epoch under which a stream that is held here was sent last."""
        if region == self.code:
            stream = self.stream(placement)
            return 1 if stream is None else stream.origin.region_epoch
        epoch: int = self.inbound[region, placement].core.header_epoch
        return max(1, epoch)

    def flush_index(self) -> None:
        """Carry out the rows that wait: a census reads what the log says, not a little less."""
        if self._rows:
            self._apply()

    def clock_was_set(self) -> None:
        """Find out that the wall clock was set."""
        if self.keeper is not None:
            self.keeper.clock_was_set()
