"""Draw the four charts of the page as SVG text; colours come from the page's style.

Every chart has the width of `WIDTH` in its own units and scales with the page, so letters stay
readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 480
LEFT: Final = 46
RIGHT: Final = 12
TOP: Final = 14
PLOT_HEIGHT: Final = 150
AXIS_HEIGHT: Final = 28
POINTS_MAX: Final = 240
"""Most points of one line; a longer series is thinned."""

BUCKETS_PER_DECADE: Final = 8


def months_chart(values: Sequence[float], months: Sequence[str]) -> str:
    """Draw D_hat by month, with a mark at each January."""
    low, high = math.floor(min(values) * 5) / 5, math.ceil(max(values) * 5) / 5
    frame = _Frame(len(values) - 1, low, max(high, low + 0.2))
    places = [frame.place(index, value) for index, value in enumerate(values)]
    dots = [
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6">'
        f"<title>{escape(month)}: {value:.3f}</title></circle>"
        for (x, y), month, value in zip(places, months, values, strict=True)
    ]
    years = {index: month[:4] for index, month in enumerate(months) if month.endswith("-01")}
    body = [*frame.grid("{:.1f}"), *frame.below(years), _path(places), *dots]
    return _svg("D_hat of each month", body, frame.height)


def bars_chart(counts: Mapping[str, int], title: str) -> str:
    """Draw one bar for each count, its name above it."""
    row_height = 44
    longest = max(counts.values())
    body = []
    for row, (name, count) in enumerate(counts.items()):
        y = row * row_height + 16
        width = max(3.0, count / longest * (WIDTH - 60))
        kind = "bar no" if name.startswith("not") else "bar"
        body += [
            f'<text x="0" y="{y}">{escape(name)}</text>',
            f'<rect class="{kind}" x="0" y="{y + 7}" width="{width:.1f}" height="14" rx="2"/>',
            f'<text x="{width + 8:.1f}" y="{y + 19}">{count:,}</text>',
        ]
    return _svg(title, body, len(counts) * row_height + 4)


def progress_chart(answered_at_s: Sequence[float], kills: Sequence[tuple[float, float]]) -> str:
    """Draw how many records were acknowledged by when; a kill is a band while nobody serves."""
    end_s = max(answered_at_s[-1], *(at + away for at, away in kills))
    frame = _Frame(end_s, 0, _nice_above(len(answered_at_s)))
    step = max(1, len(answered_at_s) // POINTS_MAX)
    counted = list(enumerate(answered_at_s, 1))
    kept = [*counted[::step], counted[-1]]
    places = [frame.place(0, 0)]
    for count, at in kept:
        x, y = frame.place(at, count)
        if x - places[-1][0] > 3:  # nothing came meanwhile: a level line, then a rise
            places.append((x, places[-1][1]))
        places.append((x, y))
    bands = []
    for number, (at, away) in enumerate(kills, 1):
        left, right = frame.x(at), frame.x(at + away)
        area = f"M{left:.1f} {TOP}H{right:.1f}v{PLOT_HEIGHT}H{left:.1f}z"
        title = f"kill {number}: {away:.2f} s away"
        bands += [
            f'<path class="band" d="{area}"><title>{title}</title></path>',
            f'<path class="kill" d="M{left:.1f} {TOP}v{PLOT_HEIGHT}"/>',
        ]
    ticks = {at: f"{at:g} s" for at in _ticks(end_s)}
    body = [*bands, *frame.grid("{:,.0f}"), *frame.below(ticks), _path(places)]
    return _svg("Records acknowledged over time", body, frame.height)


def latency_chart(latencies_ms: Sequence[float]) -> str:
    """Draw how many answers took how long, in buckets that grow by a constant factor."""
    buckets = [math.floor(math.log10(max(ms, 0.01)) * BUCKETS_PER_DECADE) for ms in latencies_ms]
    first = math.floor(min(buckets) / BUCKETS_PER_DECADE) * BUCKETS_PER_DECADE
    last = (math.floor(max(buckets) / BUCKETS_PER_DECADE) + 1) * BUCKETS_PER_DECADE
    counts = [buckets.count(bucket) for bucket in range(first, last)]
    frame = _Frame(len(counts), 0, _nice_above(max(counts)))
    bars = []
    for index, count in enumerate(counts):
        x, y = frame.place(index, count)
        width = frame.x(index + 1) - x - 1
        low = 10 ** ((first + index) / BUCKETS_PER_DECADE)
        bars.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{TOP + PLOT_HEIGHT - y:.1f}"><title>from {low:.3g} ms: {count}</title></rect>'
        )
    decades = range(0, len(counts) + 1, BUCKETS_PER_DECADE)
    ticks = {at: f"{10 ** ((first + at) // BUCKETS_PER_DECADE):g} ms" for at in decades}
    body = [*frame.grid("{:,.0f}"), *frame.below(ticks), *bars]
    return _svg("Answers by time taken", body, frame.height)


class _Frame:
    """Map values to places, and draw what surrounds a plot."""

    height: Final = TOP + PLOT_HEIGHT + AXIS_HEIGHT

    def __init__(self, x_max: float, y_min: float, y_max: float) -> None:
        self._x_max = max(x_max, 1e-9)
        self._y_min, self._y_max = y_min, y_max

    def x(self, value: float) -> float:
        return LEFT + value / self._x_max * (WIDTH - LEFT - RIGHT)

    def place(self, x: float, y: float) -> tuple[float, float]:
        share = (y - self._y_min) / (self._y_max - self._y_min)
        return self.x(x), TOP + PLOT_HEIGHT * (1 - share)

    def grid(self, form: str) -> list[str]:
        lines = []
        for value in (self._y_min, (self._y_min + self._y_max) / 2, self._y_max):
            _, y = self.place(0, value)
            lines += [
                f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>',
                _text(LEFT - 6, y + 4, form.format(value), "end"),
            ]
        return lines

    def below(self, ticks: Mapping[float, str] | Mapping[int, str]) -> list[str]:
        y = TOP + PLOT_HEIGHT
        lines = []
        for value, name in ticks.items():
            x = self.x(value)
            anchor = "end" if x > WIDTH - RIGHT - 14 else "middle"
            lines += [
                f'<path class="grid" d="M{x:.1f} {y}v5"/>',
                _text(x, y + 21, name, anchor),
            ]
        return lines


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(places: Sequence[tuple[float, float]]) -> str:
    return f'<path class="line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'


def _svg(title: str, body: Sequence[str], height: int) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(body)}</svg>"
    )


def _nice_above(value: float) -> float:
    """Round up to 1, 2, 3, 4, 6 or 10 times a power of ten, whose halves read well."""
    power: float = 10 ** math.floor(math.log10(value))
    steps = (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10)
    return next(step * power for step in steps if step * power >= value)


def _ticks(end: float) -> list[float]:
    step = _nice_above(end / 5)
    return [round(step * index, 6) for index in range(int(end / step) + 1)]
