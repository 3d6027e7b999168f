"""Own when a region counts as down, for one checker and for a quorum of them (spec/roles.md 6).

A probe asks the public `/readyz` of a region, which speaks of that region alone, or `/healthz`,
whether it lives. One checker turns its probes into up or down; the arbiter takes the word of a
quorum of checkers. A minority
decides nothing, and where everything looks down nothing is taken out: it is then more likely that
the checkers are blind (fail static).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from .faults import DocumentError, Fault

INTERVAL_MS: Final = 1_000
"""From the start of one probe to the start of the next."""

TIMEOUT_MS: Final = 500
"""A probe without an answer has failed after this."""

FAILURES: Final = 3
"""Failed probes in a row that make a region down."""

SUCCESSES: Final = 2
"""Good probes in a row that make it up again."""

HOLD_DOWN_MS: Final = 10_000
"""A region that went down stays so for at least this long, however well its probes go."""

VOTE_AGE_MS: Final = 5_000
"""A checker that has not been heard for so long says nothing."""

NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ProbeRule:
    """How one checker probes; DocumentError for numbers that cannot be kept."""

    interval_ms: int = INTERVAL_MS
    timeout_ms: int = TIMEOUT_MS
    failures: int = FAILURES
    successes: int = SUCCESSES
    hold_down_ms: int = HOLD_DOWN_MS

    def __post_init__(self) -> None:
        faults = [
            Fault(f"/{name}", f"expected at least {least}", "change the value")
            for name, least in _LEAST.items()
            if getattr(self, name) < least
        ]
        if self.timeout_ms > self.interval_ms:
            text = "longer than the interval: probes would overlap"
            faults.append(Fault("/timeout_ms", text, "make it shorter"))
        if faults:
            raise DocumentError(faults)


_LEAST: Final = {
    "interval_ms": 1, "timeout_ms": 1, "failures": 1, "successes": 1, "hold_down_ms": 0,
}  # fmt: skip


class Bounds(NamedTuple):
    """Detection takes more than `above_ms` and at most `to_ms`, uniformly between."""

    above_ms: int
    to_ms: int


def detection(rule: ProbeRule) -> Bounds:
    """Give how long a dead region goes unnoticed by one checker (spec/roles.md 6.3).

    It dies at a random moment between two probes; the last of the failing ones times out.
    """
    above = (rule.failures - 1) * rule.interval_ms + rule.timeout_ms
    return Bounds(above, above + rule.interval_ms)


class Probe:
    """What one checker thinks of one region. Plain state; time is an argument."""

    def __init__(self, rule: ProbeRule, *, up: bool = True) -> None:
        self._rule = rule
        self.up = up
        self._run = 0
        self._down_ns: int | None = None

    def heard(self, ok: bool, now_ns: int) -> bool:
        """Take the end of a probe; tell whether the opinion changed."""
        if ok == self.up:
            self._run = 0
            return False
        if ok and self._is_held_down(now_ns):
            return False
        self._run += 1
        if self._run < (self._rule.successes if ok else self._rule.failures):
            return False
        self.up, self._run = ok, 0
        if not ok:
            self._down_ns = now_ns
        return True

    def _is_held_down(self, now_ns: int) -> bool:
        """Tell whether it is too early to count successes."""
        hold_ns = self._rule.hold_down_ms * NS_PER_MS
        return self._down_ns is not None and now_ns - self._down_ns < hold_ns


class Quorum:
    """The last word of every checker; decides for a majority of them all, or not at all."""

    def __init__(self, checkers: Sequence[str], needed: int) -> None:
        if not len(checkers) < 2 * needed <= 2 * len(checkers):
            text = f"expected more than half of {len(checkers)} checkers, and no more than all"
            raise DocumentError([Fault("/quorum", text, "change the quorum or the checkers")])
        if len(set(checkers)) < len(checkers):
            raise DocumentError([Fault("/checkers", "a name appears twice", "rename one")])
        self._checkers = frozenset(checkers)
        self._needed = needed
        self._votes: dict[str, tuple[int, Mapping[str, bool]]] = {}

    def vote(self, checker: str, up: Mapping[str, bool], now_ns: int) -> bool:
        """Take a checker's opinion of all regions; false for one that is not of the quorum."""
        if checker not in self._checkers:
            return False
        self._votes[checker] = (now_ns, dict(up))
        return True

    def verdict(self, region: str, now_ns: int) -> bool | None:
        """Say whether a region is up or down, or None where no quorum says so."""
        limit_ns = now_ns - VOTE_AGE_MS * NS_PER_MS
        said = [up.get(region) for at_ns, up in self._votes.values() if at_ns > limit_ns]
        for opinion in (True, False):
            if said.count(opinion) >= self._needed:
                return opinion
        return None


def serving(regions: Sequence[str], up: Collection[str], before: Collection[str]) -> list[str]:
    """Name the regions that get traffic; where none is up, those that got it before."""
    chosen = [region for region in regions if region in up]
    return chosen or [region for region in regions if region in before] or list(regions)


def successor(
    regions: Sequence[str],
    leader: str,
    takes_records: Callable[[str], bool | None],
    lives: Callable[[str], bool | None],
) -> str | None:
    """Choose who is promoted because a quorum says that the leader takes no records; None: nobody.

    `regions` are those that may hold the placement, in its order. Nobody is promoted on silence.
    A standby takes no records as long as it is one, so that it is asked whether it lives.
    """
    if takes_records(leader) is not False:
        return None
    return next((code for code in regions if code != leader and lives(code)), None)
