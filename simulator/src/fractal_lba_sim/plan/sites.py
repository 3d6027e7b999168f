"""A region at work: who sends to it, how fast it serves them, what becomes durable when.

The invariant of this file: a record is durable when it has waited behind everything that was due
before it at this region, and its sync is over; what is not durable when the region dies was never
acknowledged, and is its client's again. New records go before what outboxes have kept: those get
the capacity that is left.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from fractal_lba_server.core.streams import Refusal

from ..waiting import NS_PER_MS, NS_PER_S, Agenda, Moment
from .arrivals import Burst, Source
from .logs import OPEN_END, Again, Log, Part
from .net import CLIENT, Net
from .retrying import failing_calls
from .setup import Setup

NEW: Final = "new"
REPEAT: Final = "repeat"
RIVAL: Final = "rival"
CANARY: Final = "canary"


@dataclass(frozen=True, slots=True)
class Kept:
    """Records that wait in an outbox; with `again` they were durable somewhere before."""

    count: int
    again: Again | None = None
    known: bool = False
    """Whether the region that they were sent to held them already."""

    def first(self, count: int) -> Kept:
        """Give the first of them."""
        return replace(self, count=min(count, self.count))

    def without(self, count: int) -> Kept:
        """Give all but the first of them."""
        return replace(self, count=self.count - count, again=_later(self.again, count))


class Hint(NamedTuple):
    """Who leads a placement, as a region that refuses says it."""

    region: str
    region_epoch: int


class Missed(NamedTuple):
    """Calls of a feed that all met the same answer of a region, or none."""

    region: str
    path: str
    begin_ns: int
    end_ns: int


@dataclass(slots=True, eq=False)
class Feed:
    """Calls of one kind of one client that go one way: their source, and where they are."""

    client: str
    kind: str
    source: Source
    placement: str
    taken: int = 0
    """Records before this one are in a part, or wait in `kept`."""
    kept: deque[Kept] = field(default_factory=deque)
    parts: list[Part] = field(default_factory=list)
    refusals: list[Missed] = field(default_factory=list)
    """When its calls were refused, and how."""
    met: tuple[str, int] = ("ok", 0)
    """What its calls find now, and since when."""
    site: Site | None = None
    level: str = "durable"
    copies_kept: bool = False
    """Whether the outbox holds what it knows to be durable until it is replicated."""

    def meet(self, region: str, path: str, now_ns: int) -> None:
        """Note what its calls find from now on."""
        before, since_ns = self.met
        if path != before:
            if before != OK and now_ns > since_ns:
                self.refusals.append(Missed(region, before, since_ns, now_ns))
            self.met = (path, now_ns)

    def keep(self, kept: Kept, *, first: bool = False) -> None:
        """Put records into the outbox."""
        if kept.count and self.kind == NEW:
            (self.kept.appendleft if first else self.kept.append)(kept)

    @property
    def waiting(self) -> int:
        """Count what waits in the outbox."""
        return sum(kept.count for kept in self.kept)


Held = Callable[[str, Log], int]
"""Gives the moment up to which a region holds a log."""

Refuses = Callable[[str, str], Refusal | None]
"""Says why a region takes no record of a placement, as far as roles go."""

OK: Final = "ok"
SILENT: Final = "silent"
REFUSED: Final = "refused"
FAILING: Final = "failing"
UNAVAILABLE: Final = "unavailable"
NOT_LEADER: Final = "not leader"
TOO_EARLY: Final = "too early"
DENIED: Final = "denied"

PATHS: Final = {
    "not_primary": UNAVAILABLE, "not_leader": NOT_LEADER, "wrong_region": NOT_LEADER,
    "too_early": TOO_EARLY,
}  # fmt: skip
"""What a client finds where the core refuses with this code."""

ALL_FAIL: Final = 0.99
"""Where so many requests fail a client finds nobody."""


class Site:
    """One region."""

    def __init__(
        self, setup: Setup, agenda: Agenda, net: Net, code: str, *, refusal: Refuses, held: Held
    ) -> None:
        self._setup, self._agenda, self._net = setup, agenda, net
        self.refusal, self._held = refusal, held
        self.code = code
        self.alive = True
        self.paused = False
        self.rejects = 0
        """Reasons to reset every connection."""
        self.gray = 0.0
        """Share of requests that fail although probes are good."""
        self.closed: Counter[str] = Counter()
        """Reasons to refuse every record."""
        self.denied: Counter[str] = Counter()
        """Reasons to refuse the keys of clients."""
        self.slow_ns = 0
        """What a sick disk adds to every sync."""
        self.capacity_share = 1.0
        self.shard_share = 0.0
        """Share of ids whose dedup shard does not answer."""
        self.pace: dict[str, tuple[int, float]] = {}
        """Delay and slope that a governor puts on every write of a placement."""
        self.refusing: set[tuple[str, str]] = set()
        """Placements that take no records for now, each with the reason."""
        self.on_more: Callable[[Log], None] = lambda log: None
        self.logs: dict[str, Log] = {}
        self.feeds: list[Feed] = []
        self._open: dict[Feed, Part] = {}
        self._bursts: list[tuple[Feed, Part, Kept]] = []
        self._wait_ns = 0.0
        self._growth = 0.0
        """How much longer the wait gets, per time."""
        self._at_ns = 0
        self._drained: Moment | None = None

    def path_of(self, placement: str) -> str:
        """Say in one word what a client finds here."""
        cut = not self._net.both(CLIENT, self.code)
        if self.rejects or (cut and self._net.rejected(CLIENT, self.code)):
            return REFUSED
        if self.paused or cut or self._is_too_slow():
            return SILENT
        if not self.alive:
            return REFUSED
        if self._refused_share >= ALL_FAIL:
            return FAILING
        if self.denied.total():
            return DENIED
        if self.closed.total() or any(name == placement for name, _ in self.refusing):
            return UNAVAILABLE
        refusal = self.refusal(self.code, placement)
        return OK if refusal is None else PATHS[refusal.code]

    def hint(self, placement: str) -> Hint | None:
        """Give what an answer says of who leads, if a client finds one here."""
        refusal = self.refusal(self.code, placement)
        extras = refusal.extras if refusal is not None else None
        if extras is None or self.path_of(placement) != NOT_LEADER:
            return None
        found = extras["leader_hint"]
        return Hint(found["endpoint"], found["region_epoch"])

    def _is_too_slow(self) -> bool:
        """Say whether every attempt is given up before its answer comes."""
        trip_ns = self._net.round_trip_ns(CLIENT, self.code)
        return bool(trip_ns + self._setup.sync_ns + self.slow_ns > self._setup.attempt_ns)

    def is_ready(self) -> bool:
        """Say what `/readyz` says, apart from who may write."""
        return self.alive and not self.paused and not self.closed.total()

    # --- who sends here

    def join(self, feed: Feed) -> None:
        """Have a feed send here from now on; `reshape` follows."""
        if feed.site is not None:
            feed.site.leave(feed)
        feed.site = self
        self.feeds.append(feed)

    def leave(self, feed: Feed) -> None:
        """Have a feed send here no more."""
        self._close(feed)
        feed.meet(self.code, OK, self._agenda.now_ns)
        self.feeds.remove(feed)
        feed.site = None

    def serves(self, feed: Feed) -> bool:
        """Say whether a feed's records are taken now."""
        return feed in self._open

    # --- how fast

    @property
    def capacity_per_s(self) -> float | None:
        """Give the records that are taken in a second; None without a bound."""
        bound = self._setup.capacity[self.code]
        return None if bound is None else bound * self.capacity_share

    def wait_ns(self, now_ns: int) -> float:
        """Give how long a record that comes now waits for those before it."""
        return max(0.0, self._wait_ns + self._growth * (now_ns - self._at_ns))

    def reshape(self) -> None:
        """Take note that something has changed: who comes through, or how fast it goes."""
        now_ns = self._agenda.now_ns
        self._take_back(now_ns)
        self._wait_ns, self._at_ns = self.wait_ns(now_ns), now_ns
        served = []
        for feed in self.feeds:
            path = self.path_of(feed.placement)
            feed.meet(self.code, path, now_ns)
            if path == OK:
                served.append(feed)
        for feed in [feed for feed in self._open if feed not in served]:
            self._close(feed)
        rate = sum(feed.source.rate_per_s for feed in served)
        capacity = self.capacity_per_s
        load = 0.0 if capacity is None else rate / capacity
        busy = load > 1 or self._wait_ns > 0
        self._growth = load - 1 if busy else 0.0
        for feed in served:
            self._open_part(feed, now_ns, load if busy else 1.0)
        self._drain(served, now_ns, None if capacity is None else capacity - rate)
        if self._drained is not None:
            self._drained.cancel()
            self._drained = None
        if self._wait_ns > 0 and load < 1:
            self._drained = self._agenda.after(int(self._wait_ns / (1 - load)) + 1, self.reshape)

    def _open_part(self, feed: Feed, now_ns: int, slope: float) -> None:
        wire_ns = self._net.wire(CLIENT, self.code).delay_ns
        late_ns = wire_ns + self._setup.sync_ns + self.slow_ns + int(self._wait_ns)
        if feed.placement in self.pace:
            wait_ns, growth = self.pace[feed.placement]
            late_ns, slope = late_ns + wait_ns, slope * growth
        part = self._open.get(feed)
        if part is not None:
            answer_ns = self._net.wire(self.code, CLIENT).delay_ns
            same = part.slope == slope == 1.0 and part.durable_ns - part.due_ns == late_ns
            same = same and part.answer_ns == answer_ns
            if same and part.refused_share == self._refused_share:
                return
            self._close(feed, settle=False)
        begin = feed.source.before(now_ns)
        if begin > feed.taken:
            feed.keep(Kept(begin - feed.taken))
        part = Part(
            feed, feed.source, begin, now_ns, now_ns + late_ns,
            self._net.wire(self.code, CLIENT).delay_ns, slope, bad_share=self._bad_share,
            refused_share=self._refused_share,
        )  # fmt: skip
        feed.taken = OPEN_END
        self._add(feed, part)
        self._open[feed] = part

    @property
    def _refused_share(self) -> float:
        return 1 - (1 - self.gray) * (1 - self.shard_share)

    @property
    def _bad_share(self) -> float:
        """Give the share of calls that fail: another attempt helps a call, but no id of a shard."""
        gray = failing_calls(self.gray, self._setup.patience_ns // NS_PER_MS) if self.gray else 0.0
        return 1 - (1 - gray) * (1 - self.shard_share)

    def _add(self, feed: Feed, part: Part) -> None:
        feed.parts.append(part)
        part.region, part.log_then = self.code, self.logs[feed.placement]
        if feed.kind == NEW and not part.known:
            self.logs[feed.placement].add(part)
            self.on_more(self.logs[feed.placement])

    def _close(self, feed: Feed, *, settle: bool = True) -> None:
        """End the part of a feed; with `settle` what is not durable yet never will be."""
        part = self._open.pop(feed, None)
        if part is None:
            return
        now_ns = self._agenda.now_ns
        number = feed.source.before(now_ns)
        if settle and not self._wait_ns:
            number = min(number, part.until(now_ns))
        part.close(number, now_ns)
        feed.taken = part.end

    # --- what outboxes have kept

    def _drain(self, served: list[Feed], now_ns: int, spare_per_s: float | None) -> None:
        """Let outboxes send what they hold, with the capacity that new records leave."""
        if spare_per_s is not None and (spare_per_s <= 0 or self._wait_ns > 0):
            return
        late_ns = self._net.wire(CLIENT, self.code).delay_ns + self._setup.sync_ns + self.slow_ns
        at_ns = now_ns
        for feed in served:
            for kept in self._known_first(feed):
                took_ns = 0 if spare_per_s is None else int(kept.count / spare_per_s * NS_PER_S)
                burst = Burst(kept.count, begin_ns=at_ns, end_ns=at_ns + took_ns)
                part = Part(
                    feed, burst, 0, at_ns, at_ns + late_ns,
                    self._net.wire(self.code, CLIENT).delay_ns, end=kept.count, again=kept.again,
                    kept=True, known=kept.known, last_ns=at_ns + took_ns + late_ns,
                )  # fmt: skip
                self._add(feed, part)
                self._bursts.append((feed, part, kept))
                at_ns += took_ns

    def _known_first(self, feed: Feed) -> list[Kept]:
        """Empty an outbox; tell what this region holds already from what is new to it."""
        found: list[Kept] = []
        while feed.kept:
            kept = feed.kept.popleft()
            if kept.again is not None:
                part, begin = kept.again
                assert part.log is not None  # only what was durable is sent again
                held = part.until(self._held(self.code, part.log)) - begin
                known = min(max(held, 0), kept.count)
                if known:
                    found.append(Kept(known, kept.again, known=True))
                kept = kept.without(known)
            if kept.count:
                found.append(kept)
        return found

    def _take_back(self, now_ns: int) -> None:
        """Give back to outboxes what they have not sent yet."""
        bursts, self._bursts = self._bursts, []
        for feed, part, kept in reversed(bursts):
            sent = min(part.source.before(now_ns), part.end)
            if part.source.due(part.end) <= now_ns:
                sent = part.end
            if sent < part.end:
                part.close(sent, now_ns)
                feed.keep(kept.without(sent), first=True)

    def in_flight(self) -> int:
        """Count the records that are here and not durable yet."""
        now_ns = self._agenda.now_ns
        return sum(
            max(0, feed.source.before(now_ns) - part.until(now_ns))
            for feed, part in self._open.items()
        )

    def give_back(self, placement: str) -> None:
        """Refuse what waits here and is not durable: its clients have it still."""
        now_ns = self._agenda.now_ns
        for feed in [feed for feed in self._open if feed.placement == placement]:
            self._close(feed)
        for part, last, end in reversed(self.logs[placement].truncate(now_ns)):
            part.feed.keep(Kept(end - last, _later(part.again, last)), first=True)

    # --- death

    def die(self) -> None:
        """Lose what is not durable; clients have it still."""
        now_ns = self._agenda.now_ns
        self.alive = False
        self._take_back(now_ns)
        for feed in list(self._open):
            self._close(feed)
        self._wait_ns, self._growth = 0.0, 0.0
        for feed in self.feeds:
            for part in feed.parts[-2:]:
                if feed.kind != NEW and part.region == self.code:
                    part.close(part.until(now_ns), now_ns)
        for placement in self.logs:
            self.give_back(placement)


def _later(again: Again | None, by: int) -> Again | None:
    return None if again is None else again._replace(begin=again.begin + by)
