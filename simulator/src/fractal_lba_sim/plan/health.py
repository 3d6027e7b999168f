"""Checkers that probe the regions, and the quorum whose word counts.

The invariant of this file: a probe is due on a grid of its own whether or not anything is wrong,
but it is played only while it can change an opinion. So detection takes what probes take, and a
quiet day costs nothing. An opinion is told when it changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fractal_lba_server.core.health import Probe, Quorum

from ..waiting import NS_PER_MS, Agenda, Moment
from .setup import Setup

Sees = Callable[[str], bool]
"""Says whether a probe of a region would be good now."""

Said = Callable[[str, bool], None]
"""Told that the quorum now holds a region for up or down."""


class Checkers:
    """All checkers, and what they think of every region."""

    def __init__(self, setup: Setup, agenda: Agenda, sees: Sees, said: Said) -> None:
        self._setup, self._agenda, self._sees, self._said = setup, agenda, sees, said
        self.names = [f"checker-{number + 1}" for number in range(setup.checkers)]
        self._quorum = Quorum(self.names, setup.quorum)
        self._probes = {
            (name, code): Probe(setup.probe) for name in self.names for code in setup.regions
        }
        interval_ns = setup.probe.interval_ms * NS_PER_MS
        self._phase_ns = {
            (name, code): int(
                setup.streams.of("probe", name, str(setup.rank(code))).random() * interval_ns
            )
            for name, code in self._probes
        }
        self._busy: dict[tuple[str, str], Moment] = {}
        self.verdict = dict.fromkeys(setup.regions, True)
        self.failed = Counter[str]()
        """Probes that came to nothing, by region."""

    def look(self) -> None:
        """Take note that something has changed: probe whatever may look different now."""
        for pair, probe in self._probes.items():
            if pair not in self._busy and self._sees(pair[1]) != probe.up:
                self._plan(pair)

    def _plan(self, pair: tuple[str, str]) -> None:
        self._busy[pair] = self._agenda.at(self._next_ns(pair), self._probe, pair)

    def _next_ns(self, pair: tuple[str, str]) -> int:
        """Give the first moment of the grid that is later than now."""
        interval_ns = self._setup.probe.interval_ms * NS_PER_MS
        phase_ns, now_ns = self._phase_ns[pair], self._agenda.now_ns
        return phase_ns + ((now_ns - phase_ns) // interval_ns + 1) * interval_ns

    def _probe(self, pair: tuple[str, str]) -> None:
        del self._busy[pair]
        ok, was_up = self._sees(pair[1]), self._probes[pair].up
        if ok:
            self._heard(pair, ok=True)
        else:
            self.failed[pair[1]] += 1
            timeout_ns = self._setup.probe.timeout_ms * NS_PER_MS
            self._agenda.after(timeout_ns, self._heard, pair, False)
        if ok != was_up:
            self._plan(pair)

    def _heard(self, pair: tuple[str, str], ok: bool) -> None:
        if self._probes[pair].heard(ok, self._agenda.now_ns):
            self._vote(pair[1])

    def _vote(self, code: str) -> None:
        """Have every checker say again what it has said, as it does all the time."""
        now_ns = self._agenda.now_ns
        for name in self.names:
            opinions = {c: probe.up for (n, c), probe in self._probes.items() if n == name}
            self._quorum.vote(name, opinions, now_ns)
        verdict = self._quorum.verdict(code, now_ns)
        if verdict is not None and verdict != self.verdict[code]:
            self.verdict[code] = verdict
            self._said(code, verdict)
