"""Planted: wrong simulators. Each is the right instrument or environment with one thing wrong.

The invariant of this file: a wrong simulator is caught by an identity, a closed form or a
metamorphic relation that has a name, never by looking like another simulator. Environments are
plants of the exact engine; instruments are what turns runs into numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from fractal_lba_server.judge.recovery import percentile

from ... import formulas
from ...exact.breaker import Breaker, Fault
from ...exact.plants import SIMULATOR, Parts, plant
from ...streams import Streams
from ...waiting import NS_PER_S, Agenda, Places

# --- environments ------------------------------------------------------------------------------


class NothingInstalled(Breaker):
    """Writes that a fault was injected, and breaks nothing."""

    def inject(self, fault: Fault) -> None:
        self.open[fault["id"]] = fault
        self._moments[fault["id"]] = []
        self._write(fault, "injected")

    def heal(self, fault: Fault) -> None:
        if self.open.pop(fault["id"], None) is not None:
            self._write(fault, "healed")


@plant("fault-callback-not-installed", kind=SIMULATOR, says="a fault is told and never happens")
def fault_callback_not_installed(parts: Parts) -> Parts:
    """Put it in."""
    return parts.but(breaker=NothingInstalled)


class CutsOneWay(Breaker):
    """Cuts a partition in one direction."""

    def ways(self, fault: Fault, *, both: bool) -> Any:
        return super().ways(fault, both=False)


@plant("partition-one-way-only", kind=SIMULATOR, says="a partition lets one direction pass")
def partition_one_way_only(parts: Parts) -> Parts:
    """Put it in."""
    return parts.but(breaker=CutsOneWay)


class OneAtATime(Breaker):
    """Ignores a fault of a region that has not recovered from another."""

    def inject(self, fault: Fault) -> None:
        region = fault.get("region")
        busy = any(one.get("region") == region for one in self.open.values())
        if not busy or region is None:
            super().inject(fault)


@plant(
    "failures-during-recovery-ignored", kind=SIMULATOR,
    says="a region that is down cannot be hit again",
)  # fmt: skip
def failures_during_recovery_ignored(parts: Parts) -> Parts:
    """Put it in."""
    return parts.but(breaker=OneAtATime)


class OneStream(Streams):
    """Draws everything from one stream."""

    def of(self, *name: str) -> Random:
        return super().of("all")


@plant(
    "one-stream-for-two-causes", kind=SIMULATOR, says="loss and arrivals share one random stream"
)
def one_stream_for_two_causes(parts: Parts) -> Parts:
    """Put it in."""
    return parts.but(streams=OneStream)


@plant("seconds-for-milliseconds", kind=SIMULATOR, says="a delay in milliseconds is taken in s")
def seconds_for_milliseconds(parts: Parts) -> Parts:
    """Put it in."""

    def change(document: dict[str, Any]) -> dict[str, Any]:
        links = [
            {**link, "delay_ms": link.get("delay_ms", 0) * 1_000}
            for link in document["topology"].get("links", ())
        ]
        return {**document, "topology": {**document["topology"], "links": links}}

    return parts.but(settings=change)


ENVIRONMENTS: Final[Mapping[str, str]] = {
    "fault-callback-not-installed": "the effect counter of every fault",
    "partition-one-way-only": "nothing is acknowledged over a cut, in either direction",
    "failures-during-recovery-ignored": "every planned fault is injected",
    "one-stream-for-two-causes": "a loss moves no arrival",
    "seconds-for-milliseconds": "an answer takes the round trip of its link",
}
"""Wrong environments, and the relation that each breaks."""


# --- instruments -------------------------------------------------------------------------------


class Crews(Places):
    """Repairs so many regions at a time."""


class EndlessCrews(Places):
    """Has a crew for everybody."""

    def enter(self, call: Callable[..., object], *args: Any) -> None:
        call(*args)

    def leave(self) -> None:
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What turns runs into numbers."""

    crews: type[Places] = Crews
    percentile: Callable[[Sequence[float], float], float] = percentile
    mean_age_s: Callable[[Sequence[float], Random], float]
    """Mean age of what is replicated, of the gaps between two replications."""

    rpo_s: Callable[[float, float, float], float]
    """Given the last record that arrived, the last that was sent, and the disruption."""

    detected_s: Callable[[float, float, int, Sequence[float]], float]
    """Given interval, timeout, failures and the phases of checkers whose probes overlap."""

    unrecovered: Callable[[Sequence[float | None]], tuple[int, int]]
    """Count outages, and those that were not over when the run ended."""

    measured: Callable[[Sequence[float], float], list[float]]
    """Choose which moments count, given when the warm-up ends."""

    both_down: Callable[[float, Random], tuple[bool, bool]]
    """Draw whether each of two regions is hit by one cause."""


def age_at_random_moments(gaps: Sequence[float], chance: Random) -> float:
    """Look at random moments: a long gap is met more often than a short one."""
    total = sum(gaps)
    found = 0.0
    for _ in range(len(gaps)):
        at = chance.random() * total
        for gap in _from(gaps, at):
            found += gap
    return found / len(gaps)


def _from(gaps: Sequence[float], at: float) -> Sequence[float]:
    """Give the age at a moment: how long ago the gap around it began."""
    for gap in gaps:
        if at < gap:
            return (at,)
        at -= gap
    return (0.0,)


def age_at_arrivals(gaps: Sequence[float], chance: Random) -> float:
    """Look once in each gap, however long it is."""
    return sum(gap * chance.random() for gap in gaps) / len(gaps)


def rpo_of_what_arrived(arrived_s: float, sent_s: float, disrupted_s: float) -> float:
    """Count from the last record that another region holds."""
    return disrupted_s - arrived_s


def rpo_of_what_was_sent(arrived_s: float, sent_s: float, disrupted_s: float) -> float:
    """Count from the last record that left."""
    return disrupted_s - sent_s


def detected_by_one(
    interval_s: float, timeout_s: float, failures: int, phases: Sequence[float]
) -> float:
    """Give when the first checker knows: probes of several run side by side."""
    return min(phase + (failures - 1) * interval_s + timeout_s for phase in phases)


def detected_in_turn(
    interval_s: float, timeout_s: float, failures: int, phases: Sequence[float]
) -> float:
    """Add the timeouts up, although they overlap."""
    return min(phases) + (failures - 1) * interval_s + failures * timeout_s


def all_outages(outages: Sequence[float | None]) -> tuple[int, int]:
    """Count every outage."""
    return len(outages), sum(one is None for one in outages)


def finished_outages(outages: Sequence[float | None]) -> tuple[int, int]:
    """Count those that were over."""
    return sum(one is not None for one in outages), 0


def after_the_warm_up(moments: Sequence[float], warm_s: float) -> list[float]:
    """Choose what happened after the warm-up."""
    return [moment for moment in moments if moment >= warm_s]


def everything(moments: Sequence[float], warm_s: float) -> list[float]:
    """Choose all."""
    return list(moments)


def one_cause(share: float, chance: Random) -> tuple[bool, bool]:
    """Hit both regions or neither."""
    hit = chance.random() < share
    return hit, hit


def two_causes(share: float, chance: Random) -> tuple[bool, bool]:
    """Draw for each region by itself."""
    return chance.random() < share, chance.random() < share


def percentile_off_by_one(values: Sequence[float], share: float) -> float:
    """Take the value behind the one that the rank names."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)))]


RIGHT: Final = Instruments(
    mean_age_s=age_at_random_moments, rpo_s=rpo_of_what_arrived, detected_s=detected_by_one,
    unrecovered=all_outages, measured=after_the_warm_up, both_down=one_cause,
)  # fmt: skip

WRONG: Final[Mapping[str, tuple[Instruments, str]]] = {
    "repair-crew-infinite": (replace(RIGHT, crews=EndlessCrews), "two regions, one repair crew"),
    "lag-sampled-at-arrivals": (
        replace(RIGHT, mean_age_s=age_at_arrivals), "mean age E[T^2] / 2 E[T]",
    ),
    "rpo-counted-from-the-last-sent": (
        replace(RIGHT, rpo_s=rpo_of_what_was_sent), "RPO of periodic shipping",
    ),
    "timeouts-summed-where-they-overlap": (
        replace(RIGHT, detected_s=detected_in_turn), "detection of k failures",
    ),
    "percentile-off-by-one": (
        replace(RIGHT, percentile=percentile_off_by_one), "smallest value with that share below",
    ),
    "warm-up-counted": (replace(RIGHT, measured=everything), "a warm-up changes no measure"),
    "unfinished-outages-dropped": (
        replace(RIGHT, unrecovered=finished_outages), "every outage is counted",
    ),
    "correlated-failures-made-independent": (
        replace(RIGHT, both_down=two_causes), "one cause hits both",
    ),
}  # fmt: skip
"""Wrong instruments, each with the relation that it breaks."""


# --- the relations -----------------------------------------------------------------------------

TRIALS: Final = 4_000
WITHIN: Final = 0.08
"""Relative distance that chance alone does not make in so many trials."""


def broken(tools: Instruments) -> list[str]:
    """Name every relation that instruments break."""
    return [name for name, holds in RELATIONS.items() if not holds(tools)]


def _one_crew(tools: Instruments) -> bool:
    """Compare the share of time with both regions down with the Markov chain of one crew."""
    agenda, chance = Agenda(), Random("crews")
    fail_s, repair_s = 4.0, 1.0
    crews = tools.crews(agenda, 1)
    state = {"down": 0, "since": 0, "both": 0}

    def count() -> None:
        if state["down"] == 2:
            state["both"] += agenda.now_ns - state["since"]
        state["since"] = agenda.now_ns

    def fail() -> None:
        count()
        state["down"] += 1
        crews.enter(begin)

    def begin() -> None:
        agenda.after(int(chance.expovariate(1 / repair_s) * NS_PER_S), mend)

    def mend() -> None:
        count()
        state["down"] -= 1
        crews.leave()
        agenda.after(int(chance.expovariate(1 / fail_s) * NS_PER_S), fail)

    for _ in range(2):
        agenda.after(int(chance.expovariate(1 / fail_s) * NS_PER_S), fail)
    end_ns = 5 * TRIALS * NS_PER_S
    agenda.at(end_ns, agenda.stop)
    agenda.run()
    exact = formulas.both_down(1 / fail_s, 1 / repair_s, crews=1)
    return _near(state["both"] / end_ns, exact)


def _mean_age(tools: Instruments) -> bool:
    chance = Random("gaps")
    gaps = [chance.choice((0.2, 4.0)) for _ in range(TRIALS // 8)]
    exact = sum(gap * gap for gap in gaps) / 2 / sum(gaps)
    return _near(tools.mean_age_s(gaps, chance), exact, 2 * WITHIN)


def _rpo(tools: Instruments) -> bool:
    """Compare with U[u + d, u + d + T): what arrived last was cut so long ago."""
    interval_s, upload_s, transfer_s = 30.0, 4.0, 3.0
    span = formulas.rpo_shipping(interval_s, upload_s, transfer_s)
    chance = Random("shipping")
    for _ in range(200):
        disrupted_s = 1_000 + chance.random() * interval_s
        arrived_s = (disrupted_s - upload_s - transfer_s) // interval_s * interval_s
        sent_s = disrupted_s // interval_s * interval_s
        found_s = tools.rpo_s(arrived_s, sent_s, disrupted_s)
        if not span.above_s <= found_s <= span.to_s:
            return False
    return True


def _detection(tools: Instruments) -> bool:
    interval_s, timeout_s, failures = 10.0, 2.0, 3
    span = formulas.detection(interval_s, failures, timeout_s)
    chance = Random("probes")
    return all(
        span.above_s
        <= tools.detected_s(interval_s, timeout_s, failures, [chance.random() * interval_s])
        <= span.to_s
        for _ in range(200)
    )


def _percentile(tools: Instruments) -> bool:
    """Of the values not below it the percentile is the smallest with that share at or below."""
    for count in (7, 20, 100, 101):
        values = [float(value) for value in range(count)]
        for share in (0.5, 0.9, 0.95):
            found = tools.percentile(values, share)
            at_or_below = sum(value <= found for value in values)
            if at_or_below < share * count or at_or_below - 1 >= share * count:
                return False
    return True


def _warm_up(tools: Instruments) -> bool:
    """Have a longer warm-up of slow calls: what is measured stays what it was."""
    slow, steady = [0.1 * n for n in range(50)], [10 + 0.1 * n for n in range(50)]
    return tools.measured(steady, 10) == tools.measured([*slow, *steady], 10)


def _every_outage(tools: Instruments) -> bool:
    outages = [1.0, None, 3.0, None]
    return tools.unrecovered(outages) == (len(outages), 2)


def _one_cause(tools: Instruments) -> bool:
    chance = Random("cause")
    share = 0.2
    both = sum(all(tools.both_down(share, chance)) for _ in range(TRIALS)) / TRIALS
    return _near(both, share, 2 * WITHIN)


def _near(found: float, exact: float, within: float = WITHIN) -> bool:
    return abs(found - exact) <= within * exact


RELATIONS: Final[Mapping[str, Callable[[Instruments], bool]]] = {
    "two regions, one repair crew": _one_crew,
    "mean age E[T^2] / 2 E[T]": _mean_age,
    "RPO of periodic shipping": _rpo,
    "detection of k failures": _detection,
    "smallest value with that share below": _percentile,
    "a warm-up changes no measure": _warm_up,
    "every outage is counted": _every_outage,
    "one cause hits both": _one_cause,
}
