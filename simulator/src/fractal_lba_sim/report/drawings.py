"""The charts of the report: phases, distributions, differences, sensitivity, cost.

The invariant of this file: a chart shows what the table beside it says, in the same numbers, and
marks what was promised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from .charts import (
    BEHIND,
    COLOURS,
    Margins,
    beside,
    figure_html,
    grid,
    shortened,
    time_axis,
    time_step,
)
from .numbers import estimate, figure, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]

BARS_MAX: Final = 36
MARKED: Final = ("p50", "p95", "p99")
"""Percentiles that a distribution is marked with."""

MARK_ROW: Final = 17
"""Points of height for each mark above a distribution."""

ROW: Final = 42
"""Points of height for each row that has its label above it."""


def timeline(name: str, phases: Document, promise_s: float | None) -> str:
    """Draw the eight phases as bars one after the other, with the band in which each ends."""
    rows: Sequence[Document] = phases["rows"]
    end = max(max(row["end_mean_s"], row["end_p95_s"] or 0.0) for row in rows)
    high = max(end, promise_s or 0.0, 1e-3) * 1.16
    total = figure(phases["mean_rto_s"], "s")
    said = ", ".join(f"{_phase(row)} {figure(row['mean_s'], 's')}" for row in rows)

    def draw(axes: Axes, size: str) -> None:
        grid(axes)
        begin = 0.0
        for place, row in enumerate(rows[::-1]):
            begin = row["end_mean_s"] - row["mean_s"]
            empty = not (row["mean_s"] if row["p95_s"] is None else row["p95_s"])
            low, until = row["end_p5_s"], row["end_p95_s"]
            if not empty:
                axes.barh(place, row["mean_s"], 0.56, begin, color=COLOURS["main"])
            if not empty and until is not None:
                axes.plot([low, until], [place, place], color=COLOURS["ink"], linewidth=1.3)
                for at in (low, until):
                    axes.plot(
                        [at, at], [place - 0.2, place + 0.2], color=COLOURS["ink"], linewidth=1.3
                    )
            _label(
                axes, figure(row["mean_s"], "s"),
                (begin if empty else max(until or 0.0, row["end_mean_s"]), place),
                colour="soft" if empty else "ink",
            )  # fmt: skip
        _promise(axes, promise_s, high, len(rows) - 0.42)
        axes.set_yticks(range(len(rows)), [_phase(row) for row in rows[::-1]])
        axes.set_ylim(-0.6, len(rows) + 0.2)
        axes.set_xlim(0, high)
        time_axis(axes, size, high=high)

    label = f"Mean recovery of {total}: {said}"
    return figure_html(
        name, label, draw, height=28 * len(rows) + 64, margins=Margins(left=76, top=6)
    )


def _phase(row: Document) -> str:
    return str(row["phase"]).replace("_", " ")


def _label(axes: Axes, text: str, at: tuple[float, float], *, colour: str = "ink") -> None:
    axes.annotate(
        text, at, xytext=(6, 0), textcoords="offset points", va="center", fontsize=11,
        color=COLOURS[colour], bbox=BEHIND, zorder=5,
    )  # fmt: skip


def _promise(axes: Axes, value: float | None, high: float, y: float) -> None:
    if value is not None:
        axes.axvline(value, color=COLOURS["bad"], linewidth=1.6, dashes=(4, 3))
        beside(axes, f"promised {figure(value, 's')}", (value, y), "bad", span=high)


def histogram(name: str, what: str, found: Document, promise: float | None, unit: str) -> str:
    """Draw how many incidents took how long, with percentiles and the promise drawn in.

    Incidents that took nothing are said, not drawn, where others took something.
    """
    values = [value for value in found["values"] or [] if value]
    edges, within, beyond = bars(values, promise)
    far = promise is not None and promise > FAR * edges[-1]
    shown = promise if promise is not None and not far else 0.0
    high = max(edges[-1], shown * 1.02)
    room = high * (1.13 if found["censored"] else 1.0)
    marks = _marks(found, None if far else promise, unit)
    rows = len(marks) + far

    def draw(axes: Axes, size: str) -> None:
        grid(axes, "y")
        width = edges[1] - edges[0]
        axes.bar(edges[:-1], within, width * 0.92, align="edge", color=COLOURS["main"])
        axes.bar(edges[:-1], beyond, width * 0.92, within, align="edge", color=COLOURS["bad"])
        top = max([1, found["censored"], *[a + b for a, b in zip(within, beyond, strict=True)]])
        tall = top * 1.04 * (PLOT + MARK_ROW * rows) / PLOT
        if found["censored"]:
            _not_over(axes, found["censored"], high, room, tall)
        for row, (value, text, colour) in enumerate(marks, int(far)):
            y = tall * (1 - (row + 0.5) * MARK_ROW / (PLOT + MARK_ROW * rows))
            thin = colour == "ink"
            axes.plot(
                [value, value], [0, y], color=COLOURS[colour], linewidth=1 if thin else 1.6,
                linestyle="-" if thin else (0, (4, 3)),
            )  # fmt: skip
            beside(axes, text, (value, y), colour, span=room)
        if far:
            y = tall * (1 - 0.5 * MARK_ROW / (PLOT + MARK_ROW * rows))
            text = f"promised {figure(promise, unit)}, far beyond this chart"
            beside(axes, text, (room, y), "bad", span=room)
        axes.set_xlim(0, room)
        axes.set_ylim(0, tall)
        axes.set_yticks(_count_ticks(top), [figure(tick) for tick in _count_ticks(top)])
        _value_axis(axes, size, high, unit)

    said = ", ".join(f"{key} {estimate(found['percentiles'][key], unit)}" for key in MARKED)
    label = f"{what} of {figure(found['n'])} incidents: {said}"
    if found["censored"]:
        label += f"; {figure(found['censored'])} did not recover while they were watched"
    return figure_html(name, label, draw, height=PLOT + MARK_ROW * rows + 44)


PLOT: Final = 150
"""Points of height of the bars of a distribution."""

FAR: Final = 3
"""A promise so many times beyond the longest is said, not drawn: it would squeeze the bars."""


def _marks(found: Document, promise: float | None, unit: str) -> list[tuple[float, str, str]]:
    """Give what is marked, in the order of its place, so that no line runs through a label."""
    marks = []
    for key in MARKED:
        one = found["percentiles"][key]
        if "needs" not in one and not one["at_least"] and one["value"]:
            marks.append((one["value"], f"{key} {figure(one['value'], unit)}", "ink"))
    if promise is not None:
        marks.append((promise, f"promised {figure(promise, unit)}", "bad"))
    return sorted(marks)


def _not_over(axes: Axes, count: int, high: float, room: float, tall: float) -> None:
    """Draw apart those whose end was not seen."""
    axes.bar(
        high * 1.05, count, high * 0.06, color="none", hatch="////", align="edge",
        edgecolor=COLOURS["bad"],
    )  # fmt: skip
    beside(axes, f"not over: {figure(count)}", (room, count + tall * 0.05), "bad", span=room)


def _value_axis(axes: Axes, size: str, high: float, unit: str) -> None:
    if unit == "s":
        time_axis(axes, size, high=high)
        return
    step = _round_step(high / (4 if size == "narrow" else 7))
    ticks = [index * step for index in range(int(high / step) + 1)]
    axes.set_xticks(ticks, [figure(tick, unit) for tick in ticks])


def bars(
    values: Sequence[float], promise: float | None
) -> tuple[list[float], list[int], list[int]]:
    """Sort values into bars: their edges, and how many are within and beyond the promise."""
    if not values:
        return [0.0, 1.0], [0], [0]
    low, high = min(values), max(values)
    count = max(6, min(BARS_MAX, round(2 * math.sqrt(len(values)))))
    step = time_step(max(high - min(low, high * 0.98), 1e-3), count)
    first = math.floor(low / step)
    number = math.floor(high / step) - first + 1
    within, beyond = [0] * number, [0] * number
    for value in values:
        place = min(number - 1, math.floor(value / step) - first)
        side = within if promise is None or value <= promise else beyond
        side[place] += 1
    return [(first + index) * step for index in range(number + 1)], within, beyond


def _round_step(least: float) -> float:
    power: float = 10 ** math.floor(math.log10(max(least, 1e-9)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * (1 - 1e-9))


def _count_ticks(top: int) -> list[int]:
    step = max(1, math.ceil(_round_step(top / 4)))
    return list(range(0, top + 1, step))


def differences(name: str, rows: Sequence[Document]) -> str:
    """Draw what each change makes of its metric, with 95 % intervals around the difference."""
    unit = str(rows[0].get("unit", ""))
    ends = [
        row["difference"][key]
        for row in rows
        for key in ("value", "low", "high")
        if row["difference"][key] is not None
    ]
    low, high = _padded(min([0.0, *ends]), max([0.0, *ends]))

    def draw(axes: Axes, size: str) -> None:
        grid(axes)
        axes.axvline(0, color=COLOURS["soft"], linewidth=1.2)
        for place, row in enumerate(rows[::-1]):
            found = row["difference"]
            clear = found["high"] is not None and found["high"] < 0
            colour = COLOURS["main"] if clear else COLOURS["soft"]
            if found["low"] is not None and found["high"] is not None:
                axes.plot([found["low"], found["high"]], [place - 0.2] * 2, color=colour, lw=2.2)
            axes.plot([found["value"]], [place - 0.2], "o", color=colour, markersize=7)
            axes.annotate(
                shortened(row["change"], size, f"  ({signed(found['value'], unit)})"),
                (0, place + 0.18), xycoords=("axes fraction", "data"), va="center", fontsize=11,
                color=COLOURS["ink"],
            )  # fmt: skip
        _rows_axis(axes, size, len(rows), low, high, unit)

    said = "; ".join(f"{r['change']}: {signed(r['difference']['value'], unit)}" for r in rows)
    label = f"Paired differences of {rows[0]['metric']}: {said}"
    return figure_html(name, label, draw, height=ROW * len(rows) + 44, margins=Margins(left=16))


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = max(high - low, 1e-6) * 0.05
    return low - pad, high + pad


def _rows_axis(axes: Axes, size: str, count: int, low: float, high: float, unit: str) -> None:
    axes.set_yticks([])
    axes.set_ylim(-0.55, count - 0.4)
    axes.set_xlim(low, high)
    number = 3 if size == "narrow" else 6
    least = (high - low) / number
    step = time_step(high - low, number) if unit == "s" else _round_step(least)
    ticks = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    axes.set_xticks(ticks, [figure(tick, unit) for tick in ticks])


def tornado(name: str, rows: Sequence[Document]) -> str:
    """Draw how far each parameter moves the metric when it alone goes to its low and high end."""
    unit, base = str(rows[0].get("unit", "")), float(rows[0]["base"])
    ordered = sorted(rows, key=lambda r: -abs(r["high"]["value"] - r["low"]["value"]))
    ends = [row[side]["value"] for row in rows for side in ("low", "high")]
    low, high = _padded(min([base, *ends]), max([base, *ends]))

    def draw(axes: Axes, size: str) -> None:
        grid(axes)
        for place, row in enumerate(ordered[::-1]):
            for side, colour in (("low", "band"), ("high", "main")):
                value = row[side]["value"]
                axes.barh(place - 0.2, value - base, 0.34, base, color=COLOURS[colour],
                          edgecolor=COLOURS["main"], linewidth=0.8)  # fmt: skip
            sides = f"{row['low']['set']} to {row['high']['set']}"
            axes.annotate(
                shortened(f"{row['name']}: {sides}", size), (0, place + 0.2), fontsize=11,
                xycoords=("axes fraction", "data"), va="center", color=COLOURS["ink"],
            )  # fmt: skip
        axes.axvline(base, color=COLOURS["ink"], linewidth=1.2)
        _rows_axis(axes, size, len(rows), low, high, unit)

    said = "; ".join(
        f"{r['name']} {figure(r['low']['value'], unit)} to {figure(r['high']['value'], unit)}"
        for r in ordered
    )
    label = f"Sensitivity of {rows[0]['metric']}, now {figure(base, unit)}: {said}"
    return figure_html(name, label, draw, height=ROW * len(rows) + 44, margins=Margins(left=16))


def front(name: str, points: Sequence[Document], currency: str, axis: str, promise: float | None
          ) -> str:  # fmt: skip
    """Draw cost against a measure; points of the front are numbered as in the table."""
    high_x = max([point[axis] for point in points] + [promise or 0.0])
    high_y = max(point["cost_per_month"] for point in points)
    best = sorted((p for p in points if p["pareto"]), key=lambda p: (p[axis], p["cost_per_month"]))

    def draw(axes: Axes, size: str) -> None:
        grid(axes, "y")
        others = [point for point in points if not point["pareto"]]
        axes.plot(
            [p[axis] for p in others], [p["cost_per_month"] for p in others], "o",
            color="none", markeredgecolor=COLOURS["soft"], markersize=7,
        )  # fmt: skip
        axes.plot(
            [p[axis] for p in best], [p["cost_per_month"] for p in best], "o-",
            color=COLOURS["main"], linewidth=1.4, markersize=8, drawstyle="steps-post",
        )  # fmt: skip
        for number, point in enumerate(best, 1):
            axes.annotate(
                str(number), (point[axis], point["cost_per_month"]), xytext=(9, 9),
                textcoords="offset points", ha="center", va="center", fontsize=11,
                color=COLOURS["ink"],
            )  # fmt: skip
        axes.set_xlim(-high_x * 0.03, high_x * 1.08)
        axes.set_ylim(0, high_y * 1.2)
        _promise(axes, promise, high_x * 1.08, high_y * 1.1)
        step = _round_step(high_y / 4)
        ticks = [index * step for index in range(int(high_y * 1.2 / step) + 1)]
        axes.set_yticks(ticks, [figure(tick) for tick in ticks])
        time_axis(axes, size, high=high_x * 1.08)

    said = "; ".join(
        f"{p['label']}: {figure(p[axis], 's')} for {figure(p['cost_per_month'], currency)}"
        for p in best
    )
    label = f"Cost a month in {currency} against {axis[:3].upper()} at p95; on the front: {said}"
    return figure_html(name, label, draw, height=250, margins=Margins(left=60))
