"""Everything of one run together: regions, links, logs, clients, checkers, people.

The invariant of this file: whoever changes a condition calls `changed`, and everybody who may act
on it looks, in an order that never varies. Nothing here knows how a fault is made.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fractal_lba_server.core.first_write import Origin, place
from fractal_lba_server.core.levels import Levels

from ..waiting import Agenda
from .clients import OutboxRoute, Route
from .clocks import Clocks
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


def digest_of(counts: dict[str, int]) -> str:
    """Name a state of a placement: which numbers of which log are held."""
    text = "".join(f"{name}{count}\n" for name, count in sorted(counts.items()) if count)
    return sha256(text.encode()).hexdigest()[:32]


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
        self.catching_up: dict[str, tuple[Incident, int]] = {}
        self.planned: list[dict[str, Any]] = []
        """Every fault of the run, in the order of their moments."""
        self._moments: list[int] = []
        self.writers = Writers(self)
        self.governors = Governors(self)
        self.lags = LagLines(self)
        self.sites = {
            code: Site(
                setup, self.agenda, self.net, code, writes=self.may_write,
                follows=self.writers.follows, held=self.held,
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
        self.people = People(self)
        self.checkers = Checkers(setup, self.agenda, self.sees, self.people.said)
        self._at_route: dict[Route, Incident | None] = {}
        for placement in setup.placements.values():
            for code in self.writers.founders(placement):
                self.open_log(code, placement.name, 1)
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
        peers = [code for code in found.regions if code != region]
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

    def may_write(self, region: str, placement: str) -> bool:
        """Say whether a region may write to a placement now."""
        return self.writers.may_write(region, placement)

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
        self._check_catch_up()

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
        waits.sort()
        copies = self.setup.placements[log.placement].copies
        needed = min(max(copies - 1, 1), len(waits))
        return durable_ns + (waits[needed - 1] if waits else 0)

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
        return any(healed_ns > held_ns for _, healed_ns in self.catching_up.values())

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
        self._check_catch_up()

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
        held = [self.held(code, log) for code in self.setup.placements[log.placement].regions
                if code != region]  # fmt: skip
        best_ns = max(self.own[region, log.name], *held, -1)
        missing = log.count(best_ns) - log.count(self.own[region, log.name])
        rate = self.setup.recovery.catch_up_bytes_per_s
        wait_ns = ns(missing * self.setup.record_bytes / rate) if rate else 0
        log.cut(best_ns)
        self.agenda.after(wait_ns, self._mended, region, log, best_ns)
        if self.sites[region].logs.get(log.placement) is log:
            epoch = max(one.region_epoch for one in self.logs if one.region == region) + 1
            self.open_log(region, log.placement, epoch, go=True)

    def _mended(self, region: str, log: Log, until_ns: int) -> None:
        self.own[region, log.name] = max(self.own[region, log.name], until_ns)
        self._check_catch_up()

    def lift(self, region: str, log: Log, until_ns: int) -> None:
        """Have a region hold a log up to a moment: it has fetched it from a peer."""
        stream = self.streams.get((log.name, region))
        if stream is not None:
            stream.lift(until_ns)

    def promoted(self, incident: Incident | None) -> None:
        """Take note that another region writes: whoever waits for it is served again."""
        if incident is not None:
            incident.moved = True

    # --- how the regions compare

    def follow_up(self, incident: Incident) -> None:
        """Wait until all regions hold what was written before a fault was over."""
        now_ns = self.agenda.now_ns
        self.catching_up[incident.id] = (incident, now_ns)
        for log in self.logs:
            log.cut(now_ns)

    def _check_catch_up(self) -> None:
        for incident, healed_ns in list(self.catching_up.values()):
            if self._equal(healed_ns):
                del self.catching_up[incident.id]
                self.incidents.mark(incident, "catch_up")
                verify = self.setup.recovery.verify
                verify_ns = self.setup.draw_ns(verify, "verify", incident.id)
                self.agenda.after(verify_ns, self._verified, incident, healed_ns)

    def _verified(self, incident: Incident, healed_ns: int) -> None:
        self.incidents.mark(incident, "verify")
        self.compare(incident.id, healed_ns)
        self.naming.caught_up()

    def compare_late(self) -> None:
        """Write how regions differ that have not caught up by the end."""
        for incident, healed_ns in self.catching_up.values():
            self.compare(incident.id, healed_ns)

    def _equal(self, until_ns: int) -> bool:
        """Say whether all regions hold the same of what was written until a moment."""
        shipped = [p for p in self.setup.placements.values() if self.writers.ships(p)]
        if not shipped or not all(self.alive(code) for p in shipped for code in p.regions):
            return False
        for log in self.logs:
            placement = self.setup.placements[log.placement]
            if placement in shipped:
                held = {
                    log.count(min(self.held(code, log), until_ns)) for code in placement.regions
                }
                if len(held) > 1:
                    return False
        return True

    def compare(self, after: str, until_ns: int) -> None:
        """Write in what state each region is, of what was written until a moment."""
        now_ns = self.agenda.now_ns
        for name, placement in self.setup.placements.items():
            if not self.writers.ships(placement):
                continue
            for region in placement.regions:
                if not self.alive(region):
                    continue
                counts = {
                    place(Origin(*log.name)): log.count(min(self.held(region, log), until_ns))
                    for log in self.logs if log.placement == name
                }  # fmt: skip
                self.events.add(
                    "digest", now_ns, after=after, region=region, placement=name,
                    digest=digest_of(counts), keys=sum(counts.values()),
                )  # fmt: skip

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
