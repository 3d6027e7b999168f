"""The exact and the plan engine agree about small worlds, within bounds written down here.

The bounds were chosen before the first comparison and are those of `flk-sim compare`, with a
tighter absolute one. An interval that reaches over them is not enough evidence, and no pass. What
only one engine models is a difference of the models; it is named in `KNOWN` with its reason, and
the test of it fails as soon as it is gone.

The short form asks for the middle, the long one also for the 95th percentile, which takes 59 runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
from trust_worlds import outcomes, world

from fractal_lba_server.judge.check import FAILS, HOLDS
from fractal_lba_sim.equivalence import Bounds, equivalent
from fractal_lba_sim.stats import Sample

RUNS = 40
"""Of the exact engine, for the middle."""

RUNS_LONG = 64
"""The least with which a 95th percentile has an upper bound is 59."""

PLAN_RUNS = 400

RTO = Bounds(relative=0.25, absolute=0.5)
"""A quarter of what exact says, or half a second: half an attempt's time limit."""

LOSSES = Bounds(relative=0.25, absolute=2.0)
"""Records: a quarter, or those of a tenth of a second."""

SERVED = Bounds(relative=0.1, absolute=0.05)
"""The share of its calls that the client fares worst with: a tenth, or one call in twenty."""

METRICS = {"rto_s": RTO, "records": LOSSES, "served": SERVED}
WORLDS = ("outage", "promotion", "names", "burnt")

KNOWN: dict[tuple[str, str], str] = {}
"""By world and metric: where the engines differ, and why."""

MUTANTS = {
    "promotion": ("rto_s", {"settings.probe.interval_s": 2}),
    "names": ("rto_s", {"settings.probe.dns_ttl_s": 9}),
    "burnt": ("records", {"topology.links.euw-use.delay_ms": 600}),
}
"""Worlds that plan plays with another setting than exact: the comparison must see it."""


def drawn(name: str, engine: str, runs: int, changes: dict[str, Any]) -> dict[str, Sample]:
    found = outcomes(world(name, changes), range(1, runs + 1), name=engine)
    assert all(one["valid"] for one in found)
    rows = [one["incidents"][0] for one in found]
    return {
        "rto_s": Sample.of([row["rto_s"] for row in rows], [30.0] * len(rows)),
        "records": Sample.of([float(row["lost"]["records"]) for row in rows]),
        "served": Sample.of(
            [min(row["good"] / row["count"] for row in one["calls"].values()) for one in found]
        ),
    }


@cache
def samples(name: str, engine: str, runs: int) -> dict[str, Sample]:
    return drawn(name, engine, runs, {})


def states(metric: str, predicted: Sample, measured: Sample, *, long: bool = False) -> set[str]:
    bounds = METRICS[metric]
    shares = (0.5, 0.95) if long else (0.5,)
    found = [equivalent(predicted, measured, share, bounds) for share in shares]
    return {one.state for one in found}


def agree(name: str, metric: str, runs: int, *, long: bool = False) -> bool:
    predicted, measured = samples(name, "plan", PLAN_RUNS), samples(name, "exact", runs)
    return states(metric, predicted[metric], measured[metric], long=long) == {HOLDS}


def of_worlds(names: Iterable[str]) -> list[Any]:
    """Give worlds as parameters; the tests of one share its runs, so they are of one process."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", of_worlds(WORLDS))
def test_plan_and_exact_agree(name: str, metric: str) -> None:
    assert agree(name, metric, RUNS) != ((name, metric) in KNOWN)


@pytest.mark.long
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", of_worlds([*WORLDS, "cut"]))
def test_plan_and_exact_agree_also_about_the_worst_of_twenty(name: str, metric: str) -> None:
    assert agree(name, metric, RUNS_LONG, long=True) != ((name, metric) in KNOWN)


@pytest.mark.parametrize("name", of_worlds(MUTANTS))
def test_a_plan_with_another_setting_does_not_agree(name: str) -> None:
    metric, changes = MUTANTS[name]
    wrong = drawn(name, "plan", PLAN_RUNS, changes)[metric]
    assert FAILS in states(metric, wrong, samples(name, "exact", RUNS)[metric])
