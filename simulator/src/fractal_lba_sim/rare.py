"""Say how rare a bad run is where plain runs are too few: by splitting over its named streams.

The invariant of this file: a run is a function of independent streams, so that moving some of them
as chance does, and keeping the new run only if it is bad enough too, leaves the distribution of bad
enough runs as it is. Step by step the worst runs so far are kept and moved in this way; the chance
is the product of the shares that were kept (generalised splitting; Botev and Kroese, 2012).
Repetitions are independent of one another, and the interval is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import Final, NamedTuple

from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.recovery import zero_bound
from fractal_lba_server.judge.summary import outcome

from .metrics import Metric
from .plan.engine import play as played
from .stats import student
from .streams import SEPARATOR, Streams, digest_of

Play = Callable[[Streams], float]
"""Gives how bad the run of some streams is: more is worse."""

SIZE: Final = 100
"""Runs of one step."""

REPEATS: Final = 10
"""Independent estimates."""

KEPT: Final = 0.25
"""The share of the runs of a step that are bad enough for the next, or less where values tie."""

MOVES: Final = 6
"""How often each kept run is drawn again in part before the next step."""

MOVES_MADE: Final = ((1.0, 0.9), (0.5, 0.9), (0.3, 0.6), (0.3, 0.0), (0.05, 0.0))
"""What a move changes, one of them at random: a share of the streams, and how much each stays."""

STEPS_MAX: Final = 64
"""After so many steps a chance is below a quarter to this power, and is given up."""

SELECTING: Final = slice(16, 24)
"""The bytes of a digest that say whether a stream is redrawn; its seed is made of those before."""

SELECTED_OF: Final = float(1 << 64)

FAULT_SEEDS: Final = 1 << 53
"""As many as a number between 0 and 1 tells apart."""

NORMAL: Final = NormalDist()
ABOVE_ZERO: Final = 2.0**-54
BELOW_ONE: Final = 1 - 2.0**-53


class Move(NamedTuple):
    """Changes every stream with the same chance, whether a run has asked for it or not."""

    seed: int
    share: float
    stays: float
    """How much a changed stream is what it was: 0 draws it again, nearly 1 shifts it a little."""

    def changes(self, key: str) -> int | None:
        """Give the seed of what a stream is changed by, or None."""
        digest = digest_of(self.seed, key)
        if int.from_bytes(digest[SELECTING]) >= self.share * SELECTED_OF:
            return None
        return int.from_bytes(digest[:16])


class _Shifted(Random):
    """Numbers that were moved, each by a step of a random walk that keeps them uniform.

    On the scale of the normal distribution, where one number is z, the next is a z + b w with
    a^2 + b^2 = 1 and w drawn anew (Crank and Nicolson).
    """

    def __init__(self, base: Random, steps: Sequence[tuple[Random, float]]) -> None:
        super().__init__(0)
        self._base = base
        self._steps = [(chance, stays, math.sqrt(1 - stays * stays)) for chance, stays in steps]

    def random(self) -> float:
        """Give the next number."""
        z = _normal(self._base.random())
        for chance, stays, goes in self._steps:
            z = stays * z + goes * _normal(chance.random())
        return min(NORMAL.cdf(z), BELOW_ONE)


def _normal(u: float) -> float:
    return NORMAL.inv_cdf(max(u, ABOVE_ZERO))


class Redrawn(Streams):
    """The streams of a seed, after moves. Those of arrays are drawn again or stay."""

    def __init__(self, seed: int, moves: tuple[Move, ...]) -> None:
        super().__init__(seed)
        self._moves = moves
        self._made: dict[str, Random] = {}

    def anew(self) -> Streams:
        """Give the same streams with nothing taken from them."""
        return Redrawn(self.seed, self._moves)

    def of(self, *name: str) -> Random:
        """Give the stream of a name."""
        key = SEPARATOR.join(name)
        if key not in self._made:
            base = Random(self._seed_of(key))
            steps = [(Random(seed), stays) for seed, stays in self._since(key)]
            self._made[key] = _Shifted(base, steps) if steps else base
        return self._made[key]

    def _since(self, key: str) -> list[tuple[int, float]]:
        """Give the moves of a stream since it was drawn again, in their order."""
        found: list[tuple[int, float]] = []
        for move in self._moves:
            seed = move.changes(key)
            if seed is not None:
                found = [*found, (seed, move.stays)] if move.stays else []
        return found

    def _seed_of(self, key: str) -> int:
        for move in reversed(self._moves):
            seed = None if move.stays else move.changes(key)
            if seed is not None:
                return seed
        return super()._seed_of(key)


class _Run(NamedTuple):
    seed: int
    moves: tuple[Move, ...]
    value: float


class Rare(NamedTuple):
    """The chance of a bad run, with its 95 % interval."""

    value: float
    low: float
    high: float
    runs: int
    """How many were played."""


def badness(scenario: Scenario, metric: Metric) -> Play:
    """Give how bad plan's runs of a scenario are; one that does not recover is worse than all."""

    def play(streams: Streams) -> float:
        faults = scenario.faults(int(streams.of("faults").random() * FAULT_SEEDS))
        value = metric.of(outcome(check(played(scenario, streams, faults))))
        return math.inf if value is None else value

    return play


def chance_above(
    play: Play, bound: float, *, seed: int = 1, size: int = SIZE, repeats: int = REPEATS
) -> Iterator[Rare]:
    """Estimate the chance of a value above a bound; gives what is known after each repetition.

    Where no run has passed the bound the value is 0, and `high` what that many plain runs say.
    """
    found: list[float] = []
    count = _Count(play)
    for repeat in range(repeats):
        found.append(_once(count, bound, Random(f"{seed}/rare/{repeat}"), size))
        yield _summed(found, size, count.runs)


class _Count:
    """A play that knows how often it was asked."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.runs = 0

    def run(self, seed: int, moves: tuple[Move, ...]) -> _Run:
        self.runs += 1
        return _Run(seed, moves, self._play(Redrawn(seed, moves)))


def _summed(found: list[float], size: int, runs: int) -> Rare:
    value, count = fmean(found), len(found)
    if not value:
        return Rare(0.0, 0.0, zero_bound(size * count), runs)
    if count == 1:
        return Rare(value, 0.0, 1.0, runs)
    half = student(count - 1) * stdev(found) / math.sqrt(count)
    return Rare(value, max(0.0, value - half), min(1.0, value + half), runs)


def _once(count: _Count, bound: float, chance: Random, size: int) -> float:
    """Make one estimate."""
    runs = [count.run(chance.getrandbits(53), ()) for _ in range(size)]
    share, level = 1.0, -math.inf
    for _ in range(STEPS_MAX):
        values = sorted((run.value for run in runs), reverse=True)
        following = _next_level(values, level)
        if following is None or following > bound:
            return share * sum(value > bound for value in values) / size
        level = following
        kept = [run for run in runs if run.value >= level]
        share *= len(kept) / size
        runs = [_moved(count, chance.choice(kept), level, chance) for _ in range(size)]
    return 0.0


def _next_level(values: list[float], level: float) -> float | None:
    """Give a level that at most the part to keep has reached, or the next one above the last.

    None: all values are that of the last level, so that there is nowhere to go from here.
    """
    above = [value for value in values if value > level]
    few = [value for value in above if sum(one >= value for one in values) <= KEPT * len(values)]
    if few:
        return min(few)
    return max(above, default=None)


def _moved(count: _Count, run: _Run, level: float, chance: Random) -> _Run:
    """Draw a run again in part, several times; one that is not bad enough is forgotten."""
    for _ in range(MOVES):
        move = Move(chance.getrandbits(53), *chance.choice(MOVES_MADE))
        other = count.run(run.seed, (*run.moves, move))
        if other.value >= level:
            run = other
    return run
