"""`flk-sim compare`: say whether what was predicted agrees with what was measured."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fractal_lba_server.judge.check import FAILS

from .command import FAIL, HOLD, refuse

if TYPE_CHECKING:
    from .compare import Acceptance, Comparison, Side

RARE: Final = 0.0001
"""Chances below this are all the same to a reader."""

_PATH: Final = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("predicted", type=_PATH)
@click.argument("measured", type=_PATH)
@click.option(
    "--accept", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Bounds that were written down before: YAML with metrics, percentiles, relative, "
    "absolute, interval_share, interval_share_min.",
)  # fmt: skip
@click.option(
    "--relative", type=click.FloatRange(0), metavar="SHARE",
    help="A percentile may differ by this share of the measured one [0.25].",
)  # fmt: skip
@click.option(
    "--absolute-s", type=click.FloatRange(0), metavar="SECONDS",
    help="Or by so many seconds, whichever is more [1].",
)  # fmt: skip
@click.option(
    "--percentile", "percentiles", multiple=True,
    type=click.Choice(("p50", "p90", "p95", "p99")), help="[p50 and p95]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def compare(
    predicted: Path,
    measured: Path,
    accept: Path | None,
    relative: float | None,
    absolute_s: float | None,
    percentiles: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Compare what was PREDICTED with what was MEASURED.

    Each is a results.json, the folder of one, a trace, or a folder of traces. Exit status: 0 if
    everything agrees within the bounds, 1 if something does not or there is not enough evidence,
    2 for wrong usage.
    """
    from .compare import Acceptance, CompareError, document_of, read_acceptance, read_side
    from .compare import compare as judge

    try:
        bounds = Acceptance() if accept is None else read_acceptance(accept)
        bounds = _with_options(bounds, relative, absolute_s, percentiles)
        found = judge(read_side(predicted), read_side(measured), bounds)
    except CompareError as error:
        refuse(str(error))
    if as_json:
        click.echo(json.dumps(document_of(found), indent=1))
    else:
        _say(found)
    sys.exit(HOLD if found.accepted else FAIL)


def _with_options(
    bounds: Acceptance,
    relative: float | None,
    absolute_s: float | None,
    percentiles: tuple[str, ...],
) -> Acceptance:
    """Lay options of the command over the bounds, and say that they were."""
    if relative is None and absolute_s is None and not percentiles:
        return bounds
    absolute = dict(bounds.absolute)
    if absolute_s is not None:
        absolute |= {"rto_s": absolute_s, "rpo_s": absolute_s}
    return replace(
        bounds,
        relative=bounds.relative if relative is None else relative,
        absolute=absolute,
        percentiles=percentiles or bounds.percentiles,
        given=f"{bounds.given}, and options of this command",
    )


def _say(found: Comparison) -> None:
    """Print both sides, the bounds, and a line for each thing that was judged."""
    from .compare import METRICS
    from .report.advice_sections import measure_name
    from .report.numbers import estimate, figure, interval

    for name, side in (("predicted", found.predicted), ("measured", found.measured)):
        click.echo(f"{name:<10} {_side(side)}")
    if found.predicted.digest != found.measured.digest:
        click.echo("           the two were made from different documents of a scenario")
    bounds = found.acceptance
    click.echo(
        f"bounds     {figure(bounds.relative, '%')} of the measured value, or "
        + ", ".join(
            f"{figure(value, METRICS[name])} of {measure_name(name)}"
            for name, value in bounds.absolute.items()
            if name in bounds.metrics
        )
        + f" ({bounds.given})"
    )
    for pair in found.pairs:
        unit = METRICS[pair.metric]
        counts = f"{figure(pair.predicted)} predicted, {figure(pair.measured)} measured"
        click.echo(f"\n{pair.incident}, {measure_name(pair.metric)}: {counts}")
        for one in pair.agreements:
            mark = {"holds": "holds", "fails": "FAILS"}.get(one.state, "?")
            click.echo(f"  {mark:<6} {one.name:<14} {one.said}")
            if one.predicted is not None and one.measured is not None:
                for what, value in (("predicted", one.predicted), ("measured", one.measured)):
                    row = value._asdict()
                    within = interval(row, unit)
                    click.echo(
                        f"         {what:<14} {estimate(row, unit)}"
                        + (f" ({within}, 90 %)" if within else "")
                    )
                if one.low is not None and one.high is not None:
                    click.echo(
                        f"         {'difference':<14} {figure(one.low, unit)} to "
                        f"{figure(one.high, unit)}; allowed {figure(one.allowed, unit)} "
                        "either way"
                    )
            elif one.low is not None:
                span = f"{figure(one.low, unit)} to {figure(one.high, unit)}"
                click.echo(f"         {'predicted':<14} {span}")
        if pair.distance is not None and pair.chance is not None:
            rare = "less than " if pair.chance < RARE else ""
            chance = figure(max(pair.chance, RARE), "%")
            click.echo(
                f"         {'distance':<14} {figure(pair.distance)} (Kolmogorov and Smirnov; "
                f"by chance in {rare}{chance} of cases)"
            )
    for id, side_name in found.only:
        click.echo(f"\n{id}: only {side_name}, so nothing is known about its agreement")
    click.echo(f"\n{_ending(found)}")


def _ending(found: Comparison) -> str:
    if found.accepted:
        return "agrees within the bounds"
    states = {one.state for pair in found.pairs for one in pair.agreements}
    if FAILS in states:
        return "does NOT agree within the bounds"
    return "not enough evidence that it agrees: more runs, or wider bounds given beforehand"


def _side(side: Side) -> str:
    from .report.numbers import figure

    invalid = f", {figure(side.invalid)} invalid left out" if side.invalid else ""
    return f"{side.engine}: {side.scenario}, {figure(side.runs)} runs{invalid} ({side.name})"
