"""Clients behind a name: each resolver goes where the name pointed when it last asked.

The invariant of this file: a resolver learns of a change when its answer is over, and not before.
All calls that go one way are one leg; a resolver that asks again takes its share of the calls,
and of what waits for an answer, from one leg to another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..waiting import Agenda, Moment
from .arrivals import Shared
from .clients import Route
from .net import Net
from .setup import Setup, ns
from .sites import OK, Feed, Kept, Site

GROUPS_MAX: Final = 16
"""What waits in outboxes follows the resolvers in so many steps at most."""

SERVED: Final = 0.99
"""Clients are served again when so large a share of them is."""


class Leg(Route):
    """The calls of a client behind a name that go to one region."""

    share = 0.0

    def look(self) -> None:
        """Take note that something has changed; who has no calls is not hurt."""
        well = self.path(0) == OK or self.share <= 1 - SERVED
        if well == self.troubled:
            self.troubled = not well
            (self.on_well if well else self.on_trouble)(self)


class _Resolver(NamedTuple):
    place: float
    """From 0 to 1: those of a ramp are the first ones."""
    weight: float
    ignores: bool
    name: str


class NamedClient:
    """One client and all its resolvers."""

    def __init__(
        self, setup: Setup, agenda: Agenda, net: Net, sites: dict[str, Site], *,
        name: str, endpoints: tuple[str, ...], resolvers: int,
        feeds_of: Callable[[str, float], list[Feed]],
    ) -> None:  # fmt: skip
        self._setup, self._agenda, self._sites = setup, agenda, sites
        self.name, self.endpoints = name, endpoints
        self.legs = {
            code: Leg(
                setup, agenda, net, sites, name=name, endpoints=(code,),
                feeds=feeds_of(code, 1.0 if code == endpoints[0] else 0.0),
            )
            for code in endpoints
        }  # fmt: skip
        self.legs[endpoints[0]].share = 1.0
        share = setup.names.ignore_share
        stale = max(1, round(resolvers * share)) if share else 0
        self._resolvers = [
            _Resolver((n + 0.5) / resolvers, (1 - share) / resolvers, False, str(n))
            for n in range(resolvers)
        ] + [_Resolver((n + 0.5) / stale, share / stale, True, f"old {n}") for n in range(stale)]
        self._at = dict.fromkeys(self._resolvers, endpoints[0])
        self._wanted = dict(self._at)
        self._plan: list[tuple[int, _Resolver]] = []
        self._events: list[Moment] = []
        self.on_leave: Callable[[Feed, Site], None] = lambda feed, site: None
        self.on_moved: Callable[[Leg, bool], None] = lambda leg, home: None

    def points(self, answer: Callable[[float], str]) -> None:
        """Take note of what the name is answered with from now on."""
        now_ns = self._agenda.now_ns
        self._settle(now_ns)
        planned = {resolver: at_ns for at_ns, resolver in self._plan}
        names = self._setup.names
        plan: list[tuple[int, _Resolver]] = []
        for resolver in self._resolvers:
            wanted = answer(resolver.place)
            if wanted == self._at[resolver]:
                self._wanted[resolver] = wanted
                continue
            if wanted == self._wanted[resolver] and resolver in planned:
                plan.append((planned[resolver], resolver))
                continue
            self._wanted[resolver] = wanted
            stream = ("client", self.name, "resolver", resolver.name)
            wait_ns = int(names.ttl_ns * self._setup.streams.of(*stream, "asks").random())
            if resolver.ignores:
                wait_ns += ns(names.ignore_for.sample(self._setup.streams.of(*stream, "ignores")))
            plan.append((now_ns + wait_ns, resolver))
        self._plan = sorted(plan, key=lambda row: row[0])
        self._replan(now_ns)

    def _replan(self, now_ns: int) -> None:
        """Tell the sources of all legs how their shares will change."""
        for event in self._events:
            event.cancel()
        shares = dict.fromkeys(self.endpoints, 0.0)
        for resolver, code in self._at.items():
            shares[code] += resolver.weight
        steps = {code: [(now_ns, round(shares[code], 12))] for code in self.endpoints}
        for at_ns, resolver in self._plan:
            left, code = self._at[resolver], self._wanted[resolver]
            shares[left] -= resolver.weight
            shares[code] += resolver.weight
            for one in (left, code):
                steps[one].append((max(at_ns, now_ns), max(0.0, round(shares[one], 12))))
        for code, leg in self.legs.items():
            leg.share = steps[code][0][1]
            for feed in leg.feeds:
                assert isinstance(feed.source, Shared)
                feed.source.replan(steps[code])
                log = self._sites[code].logs.get(feed.placement)
                if log is not None:
                    self._sites[code].on_more(log)
        self._events = [self._agenda.at(at_ns, self._asked) for at_ns in self._ends()]

    def _ends(self) -> list[int]:
        """Give the moments at which what waits follows: a few of all, and each late resolver's."""
        usual = [at_ns for at_ns, resolver in self._plan if not resolver.ignores]
        size = max(1, -(-len(usual) // GROUPS_MAX))
        ends = {usual[min(n + size, len(usual)) - 1] for n in range(0, len(usual), size)}
        return sorted(ends | {at_ns for at_ns, resolver in self._plan if resolver.ignores})

    def _settle(self, now_ns: int) -> set[tuple[str, str]]:
        """Carry over what resolvers that have asked by now have waiting; give the ways taken."""
        gone = [row for row in self._plan if row[0] <= now_ns]
        self._plan = [row for row in self._plan if row[0] > now_ns]
        ways: dict[tuple[str, str], float] = {}
        for _, resolver in gone:
            way = (self._at[resolver], self._wanted[resolver])
            ways[way] = ways.get(way, 0.0) + resolver.weight
            self._at[resolver] = way[1]
        for (left, code), weight in ways.items():
            before, self.legs[left].share = self.legs[left].share, self.legs[left].share - weight
            self.legs[code].share += weight
            if self._sites[left].path_of(self.legs[left].placement) != OK:
                self._carry(left, code, min(1.0, weight / max(before, weight)))
        return set(ways)

    def _carry(self, left: str, code: str, share: float) -> None:
        """Have a share of what waits for one region go to another."""
        now_ns = self._agenda.now_ns
        for old, new in zip(self.legs[left].feeds, self.legs[code].feeds, strict=True):
            due = old.source.before(now_ns)
            old.keep(Kept(max(0, due - old.taken)))
            old.taken = max(old.taken, due)
            self.on_leave(old, self._sites[left])
            rest = round(old.waiting * share)
            while rest and old.kept:
                kept = old.kept.popleft()
                new.keep(kept.first(rest))
                if kept.count > rest:
                    old.keep(kept.without(rest), first=True)
                rest -= min(rest, kept.count)

    def _asked(self) -> None:
        for left, code in sorted(self._settle(self._agenda.now_ns)):
            if left != code:
                self.on_moved(self.legs[code], code == self.endpoints[0])
        for leg in self.legs.values():
            self._sites[leg.region].reshape()
            leg.look()
