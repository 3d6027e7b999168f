"""Everything of one run together: regions, links, logs, clients, checkers, people.

The invariant of this file: whoever changes a condition calls `changed`, and everybody who may act
on it looks, in an order that never varies. Nothing here knows how a fault is made.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fractal_lba_server.core import fate, replication
from fractal_lba_server.core.lease import FIRST_EPOCH
from fractal_lba_server.core.levels import Levels
from fractal_lba_server.core.residency import FRAMES, may_leave

from ..waiting import Agenda
from .clients import OutboxRoute, Route
from .clocks import Clocks
from .comparing import Comparing
from .governing import Governors
from .health import Checkers
from .incidents import Incident, Incidents
from .lags import LagLines
from .logs import OPEN_END, Again, Log
from .naming import Naming
from .net import CHECKER, Net
from .objects import stream_of
from .offer import Offer
from .people import People
from .resolvers import Leg, NamedClient
from .setup import Setup, client_rows, ns
from .shipping import Stream
from .sites import NEW, OK, Feed, Kept, Site
from .tracing import Events
from .writers import Writers


class Holding(NamedTuple):
    """What one region held at a moment: of every log, up to when."""

    name: str
    at_ns: int
    region: str
    until_ns: dict[tuple[str, str, int], int]


class World:
    """One run."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.agenda = Agenda()
        self.net = Net(setup, self.agenda)
        self.events = Events()
        self.incidents = Incidents(self.agenda, self.events)
        self.logs: list[Log] = []
        self.streams: dict[tuple[tuple[str, str, int], str], Stream] = {}
        self.levels: dict[tuple[str, str, int], Levels] = {}
        self.own: dict[tuple[str, tuple[str, str, int]], int] = {}
        """Up to when a region's own disk has its log, where that is not all."""
        self.stalls: dict[tuple[str, str, int], list[tuple[int, int, int]]] = {}
        """Of a log: from and until which moment its peers held nothing new, and when they did."""
        self.unanswered: list[tuple[Log, int, int]] = []
        """Records that were durable, of which no client heard."""
        self.censuses: list[Holding] = []
        self.died_ns: dict[str, int] = {}
        self.clocks = Clocks()
        self.planned: list[dict[str, Any]] = []
        """Every fault of the run, in the order of their moments."""
        self._moments: list[int] = []
        self.writers = Writers(self)
        self.governors = Governors(self)
        self.lags = LagLines(self)
        self.sites = {
            code: Site(
                setup, self.agenda, self.net, code, refusal=self.writers.refusal,
                held=self.held,
            )
            for code in setup.regions
        }  # fmt: skip
        for site in self.sites.values():
            site.on_more = self._more
        self.routes: list[Route] = []
        self.feeds: list[Feed] = []
        self.named: list[NamedClient] = []
        self.offer = Offer(setup, self.agenda)
        self.naming = Naming(self)
        self.comparing = Comparing(self)
        self.people = People(self)
        self.checkers = Checkers(setup, self.agenda, self.sees, self.people.said)
        self._at_route: dict[Route, Incident | None] = {}
        for placement in setup.placements.values():
            for code in self.writers.founders(placement):
                self.open_log(code, placement.name, FIRST_EPOCH)
        self.writers.begin()
        for row in client_rows(setup.scenario):
            self._add_client(row)

    # --- clients

    def _add_client(self, row: dict[str, Any]) -> None:
        name, endpoints = row["name"], tuple(row["endpoints"])
        args = (self.setup, self.agenda, self.net, self.sites)
        failover = row.get("failover", "outbox")
        routes: list[Route]
        if failover == "dns":
            client = NamedClient(
                *args, name=name, endpoints=endpoints, resolvers=row.get("resolvers", 1),
                feeds_of=partial(self.offer.leg, row),
            )  # fmt: skip
            client.on_leave, client.on_moved = self.leaves, self._moved
            self.named.append(client)
            routes = list(client.legs.values())
        else:
            kind = OutboxRoute if failover == "outbox" else Route
            feeds = self.offer.feeds(row, (name,))
            routes = [kind(*args, name=name, endpoints=endpoints, feeds=feeds)]
            if isinstance(routes[0], OutboxRoute):
                routes[0].on_left = self._left
        for route in routes:
            route.on_trouble, route.on_moved, route.on_well = self._hurt, self._moved, self._well
            route.on_leave = self.leaves
            self.routes.append(route)
            self.feeds += route.feeds
            route.begin()

    def _hurt(self, route: Route) -> None:
        incident = self.incidents.latest
        self._at_route[route] = incident
        if incident is not None:
            incident.hurt.add(f"{id(route)}")
            incident.effects["routes hurt"] += 1

    def _moved(self, route: Route, home: bool) -> None:
        if home:
            self.incidents.mark(self.incidents.about(route.region), "fail_back")
            return
        if isinstance(route, Leg):
            for incident in set(self._at_route.values()):
                if incident is not None:
                    incident.moved = True
            return
        incident = self._at_route.get(route)
        if incident is not None:
            incident.moved = True
            if isinstance(route, OutboxRoute):
                self._left(route)

    def _left(self, route: Route) -> None:
        """Take it for a declaration that a client goes elsewhere by itself."""
        incident = self._at_route.get(route)
        if incident is None or self.named:
            return
        self.incidents.mark(incident, "detect")
        if self.incidents.declare(incident, route.name):
            self.incidents.mark(incident, "decide")
            self.people.given_up(incident)

    def _well(self, route: Route) -> None:
        incident = self._at_route.pop(route, None)
        if incident is None:
            return
        incident.hurt.discard(f"{id(route)}")
        if not incident.hurt and incident.moved:
            self.incidents.mark(incident, "reroute")

    def leaves(self, feed: Feed, site: Site) -> None:
        """Have an outbox send again what it does not know to be replicated, now that it moves."""
        if not feed.copies_kept or feed.kind != NEW or site.path_of(feed.placement) == OK:
            return
        log = site.logs.get(feed.placement)
        if log is None:
            return  # a standby has taken none of its records
        known_ns = self.known_replicated_ns(log)
        for part in feed.parts:
            if part.log is log:
                begin, end = part.until(known_ns), part.until(self.agenda.now_ns)
                if end > begin:
                    log.cut(known_ns)
                    feed.keep(Kept(end - begin, Again(part, begin)))

    # --- logs

    def open_log(self, region: str, placement: str, region_epoch: int, *, go: bool = False) -> Log:
        """Open the log of a region under a region epoch; its peers are shipped to from now on."""
        log = Log(region, placement, region_epoch)
        found = self.setup.placements[placement]
        peers = [
            code for code in self.setup.registry.peers(placement, region)
            if may_leave(self.setup.registry, placement, FRAMES, code)
        ]  # fmt: skip
        self.logs.append(log)
        self.sites[region].logs[placement] = log
        self.levels[log.name] = Levels(copies=found.copies, peers=tuple(peers))
        self.stalls[log.name] = []
        self.governors.opened(log)
        if self.writers.ships(found):
            for peer in peers:
                stream = stream_of(self.setup, self.agenda, self.net, self, log, peer)
                self.streams[log.name, peer] = stream
                if go:
                    stream.start()
        return log

    def _more(self, log: Log) -> None:
        for peer in self.setup.placements[log.placement].regions:
            stream = self.streams.get((log.name, peer))
            if stream is not None and stream.is_begun:
                stream.more()

    def held(self, region: str, log: Log) -> int:
        """Give up to which moment of a log a region holds it now; -1 for nothing."""
        if region == log.region:
            return min(self.own.get((region, log.name), OPEN_END), self.agenda.now_ns)
        if not self.writers.ships(self.setup.placements[log.placement]):
            return self.writers.cold_ns(region, log)
        stream = self.streams.get((log.name, region))
        return -1 if stream is None else stream.held_ns_at_rest(self.alive, self.net.both)

    def known_at(self, log: Log, region: str, at_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give when a region held what became durable in a log at moments."""
        if region == log.region:
            return at_ns
        stream = self.streams.get((log.name, region))
        return np.full(at_ns.shape, OPEN_END >> 1) if stream is None else stream.known_at(at_ns)

    def alive(self, region: str) -> bool:
        """Say whether a region's process runs."""
        site = self.sites[region]
        return site.alive and not site.paused

    def has_lost_all(self, region: str) -> bool:
        """Say whether a region comes back with an empty disk."""
        return any(code == region and until_ns < 0 for (code, _), until_ns in self.own.items())

    def sees(self, region: str) -> bool:
        """Say whether a probe of a region would be good."""
        if not self.net.both(CHECKER, region) or not self.sites[region].is_ready():
            return False
        return self.writers.is_ready(region)

    def replicated(self, log: Log, peer: str, at_ns: int) -> None:
        """Hear that the origin knows its peer to hold the log up to a moment of it."""
        levels = self.levels[log.name]
        before_ns, now_ns = levels.replicated, self.agenda.now_ns
        levels.acked(peer, max(at_ns, 0), now_ns)
        stream = self.streams[log.name, peer]
        if now_ns - before_ns > 3 * stream.rhythm.cycle_ns and levels.replicated > before_ns:
            self.stalls[log.name].append((before_ns, levels.replicated, now_ns))
        self.lags.replicated(stream, before_ns, levels.replicated)
        self.governors.look(log)
        self.comparing.look()

    def known_replicated_ns(self, log: Log) -> int:
        """Give up to when a log is known to be replicated now, also where its streams sleep."""
        levels, now_ns = self.levels[log.name], self.agenda.now_ns
        for (name, peer), stream in self.streams.items():
            if name == log.name and stream.asleep:
                levels.acked(peer, max(stream.held_ns(), 0), now_ns)
        return levels.replicated

    def stall_moments(self, log: Log) -> list[int]:
        """Give the moments of a log between which its peers were slow to hold it."""
        return sorted(
            {moment for begin, end, _ in self.stalls[log.name] for moment in (begin, end)}
        )

    def replicated_ns(self, log: Log, durable_ns: int) -> int:
        """Give when what was durable at a moment was known to be replicated, in the mean."""
        for begin_ns, end_ns, known_ns in self.stalls[log.name]:
            if begin_ns < durable_ns <= end_ns:
                return known_ns
        waits = [
            stream.rhythm.wait_ns(self.net.wire(peer, log.region).delay_ns)
            for (name, peer), stream in self.streams.items() if name == log.name
        ]  # fmt: skip
        if not self.levels[log.name].is_reachable:
            return OPEN_END >> 1
        # Who hears of it later is so much behind: marks below zero, as the core counts them.
        behind = -np.array(waits, dtype=np.int64).reshape(-1, 1)
        copies = self.setup.placements[log.placement].copies
        return durable_ns - int(fate.replicated(behind, copies)[0])

    # --- what is to come

    def foresee(self, at_ns: int) -> None:
        """Note a moment at which something is to happen."""
        self._moments.append(at_ns)
        self._moments.sort()

    def next_moment_ns(self) -> int:
        """Give the next moment at which something is to happen."""
        now_ns = self.agenda.now_ns
        place_ = bisect_right(self._moments, now_ns)
        return self._moments[place_] if place_ < len(self._moments) else OPEN_END >> 1

    def is_awaited(self, held_ns: int) -> bool:
        """Say whether somebody waits until more than that is held."""
        return self.comparing.is_awaited(held_ns)

    def changed(self) -> None:
        """Have everybody look."""
        self.net.mended()
        self.writers.look()
        self.governors.look_around()
        for site in self.sites.values():
            site.reshape()
        for route in self.routes:
            route.look()
        self.checkers.look()
        for stream in self.streams.values():
            if self.alive(stream.log.region):
                stream.look()
        self.comparing.look()

    def noticed(self, region: str) -> None:
        """Have a region and its clients look: it has begun to refuse, or ceased."""
        self.sites[region].reshape()
        for route in self.routes:
            route.look()
        self.checkers.look()

    # --- death and return

    def die(self, region: str) -> None:
        """End the process of a region: what was under way is gone."""
        site = self.sites[region]
        if not site.alive:
            return
        now_ns = self.agenda.now_ns
        self.died_ns[region] = now_ns
        site.die()
        self._silence(region)
        for placement, log in site.logs.items():
            log.cut(now_ns)
            log.cut(self.levels[log.name].replicated)
            for (name, _), stream in self.streams.items():
                if name == log.name:
                    log.cut(stream.held_ns())
            if self.setup.placement_level(placement) != "durable":
                self.unanswered.append((log, self.levels[log.name].replicated, now_ns))

    def _silence(self, region: str) -> None:
        """Stop what a region sends."""
        self.net.died(region)
        for stream in self.streams.values():
            if stream.log.region == region:
                stream.stop()

    def live(self, region: str) -> None:
        """Start the process of a region again, with what its disk holds."""
        site = self.sites[region]
        if site.alive:
            return
        site.alive = True
        self.died_ns.pop(region, None)
        for log in self.logs:
            if log.region == region and (region, log.name) in self.own:
                self._mend_log(region, log)
        self._speak(region)

    def pause(self, region: str) -> None:
        """Have a region's process stand still."""
        self.sites[region].paused = True
        self._silence(region)

    def resume(self, region: str) -> None:
        """Have it go on."""
        self.sites[region].paused = False
        self._speak(region)

    def _speak(self, region: str) -> None:
        """Ship again, and be shipped to: answers that were under way are gone."""
        for stream in self.streams.values():
            ends = (stream.log.region, stream.peer)
            cut_off = (stream.log.region, stream.log.name) in self.own
            if region in ends and self.alive(stream.log.region) and not cut_off:
                stream.start()

    def lose_disk(self, region: str, until_ns: int) -> None:
        """Have a region's disk hold its logs up to a moment only, and nothing of its peers."""
        for log in self.logs:
            if log.region == region:
                log.cut(until_ns)
                self.own[region, log.name] = until_ns
        for (_, peer), stream in self.streams.items():
            if peer == region:
                stream.forget(until_ns)

    def _mend_log(self, region: str, log: Log) -> None:
        """Fetch from the peers what a disk has lost of a log, and go on under a new epoch."""
        own_ns, epoch = self.own[region, log.name], log.region_epoch
        held = {
            code: self.held(code, log) for code in self.setup.registry.peers(log.placement, region)
        }
        tails = [
            replication.TailHeld(log.count(until_ns), code, epoch)
            for code, until_ns in held.items()
        ]
        lost = replication.lost_tail(log.count(own_ns), tails)
        best_ns = own_ns if lost is None else held[lost.source]
        missing = log.count(best_ns) - log.count(own_ns)
        rate = self.setup.recovery.catch_up_bytes_per_s
        wait_ns = ns(missing * self.setup.record_bytes / rate) if rate else 0
        log.cut(best_ns)
        self.agenda.after(wait_ns, self._mended, region, log, best_ns)
        if self.sites[region].logs.get(log.placement) is log:
            # Where no peer holds more the server goes on under the old epoch; but here a number
            # names one record for ever, also one that is gone.
            following = epoch + 1 if lost is None else lost.region_epoch
            self.open_log(region, log.placement, following, go=True)

    def _mended(self, region: str, log: Log, until_ns: int) -> None:
        self.own[region, log.name] = max(self.own[region, log.name], until_ns)
        self.comparing.look()

    def lift(self, region: str, log: Log, until_ns: int) -> None:
        """Have a region hold a log up to a moment: it has fetched it from a peer."""
        stream = self.streams.get((log.name, region))
        if stream is not None:
            stream.lift(until_ns)

    def promoted(self, incident: Incident | None) -> None:
        """Take note that another region writes: whoever waits for it is served again."""
        if incident is not None:
            incident.moved = True

    # --- a census

    def census(self, name: str) -> None:
        """Note all that the regions that run hold now."""
        now_ns = self.agenda.now_ns
        for log in self.logs:
            log.cut(now_ns)
        for region in self.setup.regions:
            if not self.sites[region].alive:
                continue
            until = {log.name: self.held(region, log) for log in self.logs
                     if region in self.setup.placements[log.placement].regions}  # fmt: skip
            for log in self.logs:
                if log.name in until:
                    log.cut(until[log.name])
            self.censuses.append(Holding(name, now_ns, region, until))
