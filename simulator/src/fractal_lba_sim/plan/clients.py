"""Which region a client's calls go to: by the SDK, by a name, or by nobody.

The invariant of this file: a client with an outbox moves when the SDK's own machine
(`fractal_lba.endpoints.Fleet`) says so, one behind a name when its resolver has asked again. A
record that was not acknowledged is kept and sent where the client goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fractal_lba.endpoints import Endpoint, FailoverPolicy, Fleet
from fractal_lba.retry import Result

from ..waiting import NS_PER_MS, NS_PER_S, Agenda, Moment
from .net import CLIENT, Net
from .refusals import STATUS
from .setup import Setup
from .sites import (
    FAILING,
    NOT_LEADER,
    OK,
    REFUSED,
    SILENT,
    Feed,
    Site,
)

ANSWERS: Final = {
    SILENT: Result(code="attempt_timeout"),
    REFUSED: Result(code="connect_failed", sent=False),
    **{path: Result(status=status) for path, status in STATUS.items()},
}
"""What an attempt comes to."""

Moved = Callable[["Route", bool], None]
"""Told when a client has moved, and whether it went home."""


class Route:
    """The feeds of a client that go the same way: to one endpoint after another."""

    def __init__(
        self, setup: Setup, agenda: Agenda, net: Net, sites: dict[str, Site], *,
        name: str, endpoints: tuple[str, ...], feeds: list[Feed],
    ) -> None:  # fmt: skip
        self._setup, self._agenda, self._net, self._sites = setup, agenda, net, sites
        self.name = name
        self.endpoints = endpoints
        self.feeds = feeds
        self.current = 0
        self.troubled = False
        """Whether its calls find nobody who takes them."""
        self.on_trouble: Callable[[Route], None] = lambda route: None
        self.on_moved: Moved = lambda route, home: None
        self.on_well: Callable[[Route], None] = lambda route: None
        self.on_leave: Callable[[Feed, Site], None] = lambda feed, site: None

    @property
    def region(self) -> str:
        """Name the region that calls go to."""
        return self.endpoints[self.current]

    @property
    def placement(self) -> str:
        """Name the placement that its records belong to."""
        return self.feeds[0].placement

    def begin(self) -> None:
        """Send to the first endpoint."""
        for feed in self.feeds:
            self._sites[self.region].join(feed)

    def path(self, index: int) -> str:
        """Say what a call finds at an endpoint."""
        return self._site(index).path_of(self.placement)

    def _site(self, index: int) -> Site:
        return self._sites[self.endpoints[index]]

    def look(self) -> None:
        """Take note that something has changed."""
        well = self.path(self.current) == OK
        if well and self.troubled:
            self.troubled = False
            self.on_well(self)
        elif not well and not self.troubled:
            self.troubled = True
            self.on_trouble(self)
            self.struggle()

    def struggle(self) -> None:
        """Begin to look for another region; a client without failover waits."""

    def move(self, index: int) -> None:
        """Send to another endpoint from now on."""
        if index == self.current:
            return
        left = self._sites[self.region]
        self.current = index
        for feed in self.feeds:
            self.on_leave(feed, left)
            self._sites[self.region].join(feed)
        left.reshape()
        self._sites[self.region].reshape()
        self.on_moved(self, index == 0)
        was, self.troubled = self.troubled, self.path(index) != OK
        if was and not self.troubled:
            self.on_well(self)
        elif self.troubled:
            if not was:
                self.on_trouble(self)
            self.struggle()

    def next_call_ns(self, after_ns: int) -> int | None:
        """Give when the next call is due; None if none is."""
        due = []
        for feed in self.feeds:
            number = feed.source.before(after_ns)
            if feed.source.before(self._setup.load_end_ns) > number:
                due.append(feed.source.due(number))
        return min(due, default=None)


class OutboxRoute(Route):
    """A client whose SDK moves by itself."""

    def __init__(
        self, setup: Setup, agenda: Agenda, net: Net, sites: dict[str, Site], *,
        name: str, endpoints: tuple[str, ...], feeds: list[Feed],
    ) -> None:  # fmt: skip
        super().__init__(setup, agenda, net, sites, name=name, endpoints=endpoints, feeds=feeds)
        rule = setup.probe
        policy = FailoverPolicy(
            down_after=rule.failures, up_after=rule.successes,
            probe_interval_ms=rule.interval_ms, probe_timeout_ms=rule.timeout_ms,
            failback_after_ms=0 if setup.recovery.fail_back else None,
        )  # fmt: skip
        urls = [Endpoint(f"https://{code}.example", region=code) for code in endpoints]
        self._fleet = Fleet.of(urls, policy)
        self._chance = setup.streams.of("client", name, "timers")
        self._probing: Moment | None = None
        self._leaving: Moment | None = None
        self._rounds = self._tried = 0
        self._trying = False
        """Whether attempts of this round are under way."""
        self.on_left: Callable[[Route], None] = lambda route: None

    def struggle(self) -> None:
        """Make attempts until one succeeds, or all endpoints were found to be bad."""
        self._rounds += 1
        self._tried = 0
        self._next(self._rounds, self._agenda.now_ns)

    def _next(self, round_: int, after_ns: int) -> None:
        """Make the attempt of the next call that is due."""
        bad = all(self.path(index) != OK for index in range(len(self.endpoints)))
        tries_max = (self._setup.probe.failures + 1) * len(self.endpoints)
        due_ns = self.next_call_ns(after_ns)
        self._trying = due_ns is not None and not (bad and self._tried >= tries_max)
        if due_ns is not None and self._trying:
            self._agenda.at(due_ns, self._call, round_, due_ns)

    def _call(self, round_: int, due_ns: int) -> None:
        if round_ != self._rounds or not self.troubled:
            return
        now_ns = self._agenda.now_ns
        self._fleet = self._fleet.begun(now_ms=now_ns // NS_PER_MS, u=self._chance.random())
        trying = self._fleet.current
        path = self.path(trying)
        if path == OK:
            self.move(trying)
            return
        trip_ns = self._net.round_trip_ns(CLIENT, self.endpoints[trying])
        if path == NOT_LEADER:
            trip_ns = max(trip_ns, 1)  # who is told of the leader has failed: the next call goes
        answer_ns = self._setup.attempt_ns if path == SILENT else min(
            trip_ns, self._setup.attempt_ns
        )  # fmt: skip
        self._agenda.at(due_ns + answer_ns, self._failed, round_, trying, due_ns)

    def _failed(self, round_: int, trying: int, due_ns: int) -> None:
        if round_ != self._rounds or not self.troubled:
            return
        self._tried += 1
        path = self.path(trying)
        if path != OK:
            now_ms = self._agenda.now_ns // NS_PER_MS
            self._fleet = self._fleet.attempted(
                trying, ANSWERS[path], now_ms=now_ms, u=self._chance.random()
            )
            if self._follows_hint(trying) and self.path(self._fleet.current) == OK:
                self.move(self._fleet.current)
                return
            if trying == self._fleet.home != self._fleet.current:
                self.on_left(self)
            self._plan_probe()
        self._next(round_, due_ns + 1)

    def _follows_hint(self, trying: int) -> bool:
        """Take the hint of an answer that names the region which leads, as the SDK does at once."""
        hint = self._site(trying).hint(self.placement)
        if hint is None or hint.region not in self.endpoints:
            return False
        url = self._fleet.endpoints[self.endpoints.index(hint.region)].url
        now_ms = self._agenda.now_ns // NS_PER_MS
        hinted = self._fleet.hinted(url, hint.region_epoch, hops=0, now_ms=now_ms, u=0.5)
        self._fleet = hinted or self._fleet
        return hinted is not None

    def look(self) -> None:
        """Take note that something has changed."""
        was = self.troubled
        super().look()
        if was and self.troubled:
            now_ms = self._agenda.now_ns // NS_PER_MS
            target = self._fleet.begun(now_ms=now_ms, u=0.5).current
            # What is under way goes on, unless the next call finds a region that takes it.
            if not self._trying or self.path(target) == OK:
                self.struggle()
        self._foresee_failures()
        self._plan_probe()

    # --- a region that fails a part of its requests

    def _foresee_failures(self) -> None:
        """Draw when so many attempts in a row will have failed that the SDK leaves."""
        share = self._sites[self.region].gray
        rate = sum(feed.source.rate_per_s for feed in self.feeds)
        if self._leaving is not None or self.path(self.current) != OK or not share * rate:
            return
        row = share**self._setup.probe.failures
        attempts = (1 - row) / ((1 - share) * row)  # in the mean, until so many fail in a row
        wait_s = self._chance.expovariate((rate / (1 - share)) / attempts)
        self._leaving = self._agenda.after(round(wait_s * NS_PER_S), self._fail_in_a_row)

    def _fail_in_a_row(self) -> None:
        self._leaving = None
        if self.path(self.current) != OK or not self._sites[self.region].gray:
            return
        now_ms = self._agenda.now_ns // NS_PER_MS
        for _ in range(self._setup.probe.failures):
            self._fleet = self._fleet.attempted(
                self.current, ANSWERS[FAILING], now_ms=now_ms, u=self._chance.random()
            )
        if self.path(self._fleet.current) == OK and self._fleet.current != self.current:
            self.troubled = True
            self.on_trouble(self)
            self.move(self._fleet.current)
            self._plan_probe()

    def _plan_probe(self) -> None:
        """Ask endpoints that are down, and home while away, as the SDK plans it."""
        if self._probing is not None:
            return
        at_ms = self._fleet.next_probe_ms
        if at_ms is None or self._agenda.now_ns > self._setup.load_end_ns:
            return
        if all(self._is_dead(i) for i in self._planned()):
            return  # every probe will fail until something changes: `look` comes then
        at_ns = max(at_ms * NS_PER_MS, self._agenda.now_ns + 1)
        self._probing = self._agenda.at(at_ns, self._probe)

    def _planned(self) -> list[int]:
        return [i for i, state in enumerate(self._fleet.states) if state.probe_at_ms is not None]

    def _answers(self, index: int) -> bool:
        return self.path(index) in {OK, FAILING}

    def _is_dead(self, index: int) -> bool:
        """Say whether probes of an endpoint fail, and tell the SDK nothing that calls have not.

        A call that a standby refuses speaks for it; that it takes no records only probes tell.
        """
        knows = self.path(index) != NOT_LEADER or self._fleet.states[index].down
        return knows and not self._answers(index)

    def _probe(self) -> None:
        self._probing = None
        now_ms = self._agenda.now_ns // NS_PER_MS
        for index in self._fleet.probes_due(now_ms):
            self._fleet = self._fleet.probed(
                index, self._answers(index), now_ms=now_ms, u=self._chance.random()
            )
        before = self._fleet.current
        self._fleet = self._fleet.begun(now_ms=now_ms, u=self._chance.random())
        if self._fleet.current != before and self.path(self._fleet.current) == OK:
            self.move(self._fleet.current)
        self._plan_probe()

    def move(self, index: int) -> None:
        """Send to another endpoint from now on, and have the SDK's machine there."""
        if self._fleet.current != index:
            now_ms = self._agenda.now_ns // NS_PER_MS
            hinted = self._fleet.hinted(
                self._fleet.endpoints[index].url, self._fleet.hint_epoch, hops=0, now_ms=now_ms,
                u=0.5,
            )  # fmt: skip
            self._fleet = hinted or self._fleet
        if self._fleet.states[index].down and self.path(index) == OK:
            now_ms = self._agenda.now_ns // NS_PER_MS
            self._fleet = self._fleet.attempted(index, Result(status=200), now_ms=now_ms, u=0.5)
        super().move(index)
        self._foresee_failures()
