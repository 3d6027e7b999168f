"""The checkers: each probes every region, and says what it thinks (core/health.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core.health import ProbeRule

from ..waiting import NS_PER_MS, Moment
from .net import Failure
from .network import CLIENT, NEAR_NS

if TYPE_CHECKING:
    from .world import World

HOLD_DOWN_MS: Final = 1_000
"""How long a region that went down stays so, however well its probes go; as in a live drill."""


class Checker:
    """Probes every region, and says what it thinks when that changes, and each interval."""

    def __init__(self, world: World, name: str, rule: ProbeRule, begin_ns: int) -> None:
        self.world = world
        self.name = name
        self._rule = rule
        self._next: Moment | None = None
        """The next vote."""
        codes = list(world.regions)
        self.ready = {code: world.parts.probe(rule) for code in codes}
        self.alive = {code: world.parts.probe(rule) for code in codes}
        for code in codes:
            for probes, path in ((self.ready, _readyz), (self.alive, _healthz)):
                world.agenda.after(begin_ns, self._probe, code, probes, path)
        self._vote_in(begin_ns + self._rule.interval_ms * NS_PER_MS)

    def _probe(self, code: str, probes: dict[str, Any], path: Callable[..., Any]) -> None:
        world = self.world
        now_ns = world.agenda.now_ns
        if world.is_over:
            return
        interval_ns = self._rule.interval_ms * NS_PER_MS
        timeout_ns = self._rule.timeout_ms * NS_PER_MS

        def heard(answer: Any) -> None:
            world.steps += 1
            if probes[code].heard(answer is True, world.agenda.now_ns):
                self._vote_in(0)
            world.agenda.at(now_ns + interval_ns, self._probe, code, probes, path)

        if world.regions[code].probe_path_down:
            world.regions[code].probes_lost += 1
            world.agenda.after(timeout_ns, heard, Failure("attempt_timeout", sent=True))
            return
        world.net.ask(CLIENT, code, 50, path, heard, timeout_ns=timeout_ns)

    def _vote_in(self, wait_ns: int) -> None:
        """Vote after a while, in the place of a vote that waits."""
        if self._next is not None:
            self._next.cancel()
        self._next = self.world.agenda.after(wait_ns, self._vote)

    def _vote(self) -> None:
        world = self.world
        if world.is_over:
            return
        ready = {code: probe.up for code, probe in self.ready.items()}
        alive = {code: probe.up for code, probe in self.alive.items()}
        for judge in world.vote_counters:
            world.agenda.after(NEAR_NS, partial(judge.vote, self.name, ready, alive))
        self._vote_in(self._rule.interval_ms * NS_PER_MS)


def _readyz(node: Any, reply: Callable[[Any, int], None]) -> None:
    reply(node.region.looks_ready or node.takes_records(), 50)


def _healthz(node: Any, reply: Callable[[Any, int], None]) -> None:
    reply(True, 50)
