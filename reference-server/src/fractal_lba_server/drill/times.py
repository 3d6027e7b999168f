"""Durations that vary: a number of seconds, or a distribution that every occurrence draws from.

The invariant of this file: one occurrence is one draw of one uniform number, put through the
inverse of the distribution. So two runs with the same stream stay paired when a parameter or the
whole distribution changes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Any, Final, Self

from ..core.faults import Fault

_NORMAL: Final = NormalDist()
_Z95: Final = _NORMAL.inv_cdf(0.95)

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Time:
    """A duration in seconds; `form` is `constant` or a name of the schema's `time`."""

    form: str
    numbers: tuple[float, ...]
    """In the order in which the schema names them; of `observed`, sorted."""

    @classmethod
    def of(cls, value: float | Parameters) -> Self:
        """Read a value of the schema. Raises ValueError for one that is no duration."""
        if isinstance(value, int | float):
            return cls("constant", (float(value),))
        (form, given), *others = value.items()
        if others or form not in _MEMBERS:
            raise ValueError(f"expected one of {', '.join(_MEMBERS)}")
        numbers = given["values_s"] if form == "observed" else [given[n] for n in _MEMBERS[form]]
        if problem := _problem(form, numbers):
            raise ValueError(problem)
        made = tuple(float(number) for number in numbers)
        return cls(form, tuple(sorted(made)) if form == "observed" else made)

    def sample(self, chance: Random) -> float:
        """Draw one occurrence: exactly one number of the stream, also for a constant."""
        return self.quantile(chance.random())

    def quantile(self, u: float) -> float:
        """Give the value below which a share `u` of all occurrences lies; 0 <= u < 1."""
        if not 0 <= u < 1:
            raise ValueError(f"expected 0 <= u < 1, got {u}")
        numbers = self.numbers
        match self.form:
            case "uniform":
                return numbers[0] + u * (numbers[1] - numbers[0])
            case "exponential":
                return -numbers[0] * math.log1p(-u)
            case "lognormal":
                sigma = self._sigma
                if u == 0:
                    return 0.0 if sigma else numbers[0]
                return numbers[0] * math.exp(sigma * _NORMAL.inv_cdf(u))
            case "triangular":
                return _triangular(u, *numbers)
            case _:
                return numbers[int(u * len(numbers))]

    def cdf(self, x_s: float) -> float:
        """Give the share of all occurrences that last no longer than `x_s`."""
        low_s, high_s = self.support
        if x_s < low_s:
            return 0.0
        if x_s >= high_s:
            return 1.0
        numbers = self.numbers
        match self.form:
            case "uniform":
                return (x_s - low_s) / (high_s - low_s)
            case "exponential":
                return -math.expm1(-x_s / numbers[0])
            case "lognormal":
                return _NORMAL.cdf(math.log(x_s / numbers[0]) / self._sigma) if x_s > 0 else 0.0
            case "triangular":
                mode_s = numbers[1]
                if x_s <= mode_s:
                    return (x_s - low_s) ** 2 / ((high_s - low_s) * (mode_s - low_s) or math.inf)
                return 1 - (high_s - x_s) ** 2 / ((high_s - low_s) * (high_s - mode_s))
            case _:
                return bisect_right(numbers, x_s) / len(numbers)

    @property
    def mean(self) -> float:
        """Give the expected duration."""
        match self.form:
            case "lognormal":
                return self.numbers[0] * math.exp(self._sigma**2 / 2)
            case _:
                return math.fsum(self.numbers) / len(self.numbers)

    @property
    def support(self) -> tuple[float, float]:
        """Give the shortest and the longest duration; infinite where there is no longest."""
        match self.form:
            case "exponential":
                return 0.0, math.inf
            case "lognormal":
                only_s = self.numbers[0]
                return (0.0, math.inf) if self._sigma else (only_s, only_s)
            case _:
                return self.numbers[0], self.numbers[-1]

    @property
    def _sigma(self) -> float:
        p50_s, p95_s = self.numbers
        return math.log(p95_s / p50_s) / _Z95


_MEMBERS: Final = {
    "uniform": ("min_s", "max_s"),
    "exponential": ("mean_s",),
    "lognormal": ("p50_s", "p95_s"),
    "triangular": ("min_s", "mode_s", "max_s"),
    "observed": ("values_s",),
}


def _triangular(u: float, low_s: float, mode_s: float, high_s: float) -> float:
    width_s = high_s - low_s
    if width_s == 0:
        return low_s
    if u * width_s < mode_s - low_s:
        return low_s + math.sqrt(u * width_s * (mode_s - low_s))
    # What is near the shortest is the difference of two long ones here: it may miss by a rounding.
    return max(mode_s, high_s - math.sqrt((1 - u) * width_s * (high_s - mode_s)))


def _problem(form: str, numbers: list[float]) -> str | None:
    """Say what no distribution can have; the schema has judged each number alone."""
    if not numbers or any(not 0 <= number < math.inf for number in numbers):
        return "expected durations of at least 0"
    if form in ("exponential", "lognormal") and min(numbers) == 0:
        return "expected durations of more than 0"
    if form != "observed" and list(numbers) != sorted(numbers):
        return f"expected {' <= '.join(_MEMBERS[form])}"
    return None


def is_distribution(value: object) -> bool:
    """Say whether a value of a scenario is a distribution of this file."""
    return isinstance(value, Mapping) and len(value) == 1 and set(value) <= set(_MEMBERS)


def time_faults(value: object, pointer: str = "") -> Iterator[Fault]:
    """Find distributions anywhere in a valid document whose numbers are out of order."""
    if isinstance(value, list):
        for place, below in enumerate(value):
            yield from time_faults(below, f"{pointer}/{place}")
    if not isinstance(value, dict):
        return
    for name, below in value.items():
        at = f"{pointer}/{name}"
        members = _MEMBERS.get(name, ())
        if isinstance(below, dict) and len(members) > 1 and set(members) == set(below):
            if problem := _problem(name, [below[member] for member in members]):
                yield Fault(at, problem, "put them in order")
        else:
            yield from time_faults(below, at)
