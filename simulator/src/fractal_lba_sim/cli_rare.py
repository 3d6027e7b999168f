"""`flk-sim rare`: how rare it is that a promise is broken, far below what plain runs can show."""

from __future__ import annotations

from typing import Final

import click

from .command import SEED_MAX, refuse, require_canary, said_plainly
from .metrics import METRICS
from .rare import REPEATS, SIZE, Rare, badness, chance_above
from .report.numbers import figure
from .scenarios import find_scenario

BOUNDED: Final = tuple(name for name, metric in METRICS.items() if metric.unit != "share")
"""Promises of a number that is worse when it is larger, and may be as large as it likes."""

SIZE_MAX: Final = 100_000
REPEATS_MAX: Final = 1_000


@click.command()
@click.argument("scenario")
@click.option("--promise", type=click.Choice(BOUNDED), default="rto_s", show_default=True)
@click.option(
    "--over",
    type=click.FloatRange(0),
    metavar="NUMBER",
    help="What counts as broken: more than this [the promise's own number].",
)
@click.option(
    "--size",
    type=click.IntRange(4, SIZE_MAX),
    default=SIZE,
    show_default=True,
    help="Runs of one step.",
)
@click.option(
    "--repeats",
    type=click.IntRange(2, REPEATS_MAX),
    default=REPEATS,
    show_default=True,
    help="Independent estimates; the interval is theirs.",
)
@click.option("--seed", type=click.IntRange(0, SEED_MAX), default=1, show_default=True)
@click.option("--short", is_flag=True, help="The short form of the scenario.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def rare(
    scenario: str, *, promise: str, over: float | None, size: int, repeats: int, seed: int,
    short: bool, quiet: bool,
) -> None:  # fmt: skip
    """Estimate how rare it is that a run of SCENARIO breaks a promise, with the plan engine.

    Plain runs show what happens once in a hundred times. This goes step by step to ever worse
    runs, and says how rare what is beyond them is. A run that never recovers is beyond them all.
    """
    require_canary()
    with said_plainly():
        found = find_scenario(scenario, short=short)
        bound = found.part("promises").get(promise, over) if over is None else over
        if not isinstance(bound, int | float):
            refuse(f"{scenario} promises no {promise}: say --over NUMBER")
        metric = METRICS[promise]
        last: Rare | None = None
        play = badness(found, metric)
        for last in chance_above(play, bound, seed=seed, size=size, repeats=repeats):
            if not quiet:
                click.echo(f"{last.runs} runs: {_odds(last.value)}", err=True)
    assert last is not None  # there are repeats
    click.echo(f"{metric.name} of more than {figure(bound, metric.unit)}: {_said(last)}")


def _said(found: Rare) -> str:
    if not found.value:
        return f"never seen, so at most {_odds(found.high)} incidents ({found.runs} runs)"
    low = "0" if not found.low else _odds(found.low)
    interval = f"95 % interval: {low} to {_odds(found.high)}"
    return f"{_odds(found.value)} incidents ({interval}; {found.runs} runs)"


def _odds(chance: float) -> str:
    return f"1 in {1 / chance:,.0f}" if chance else "none yet"
