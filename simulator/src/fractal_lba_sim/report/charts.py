"""Draw with matplotlib into SVG that a page can hold: same numbers, same bytes, any colours.

The invariant of this file: no chart carries a date, a random id or a fixed colour. Colours are
placeholders that become variables of the page's style, so dark, light and paper work alike. Each
chart is drawn twice, for wide and for narrow windows, and the style shows one of them.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from .numbers import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTHS: Final = {"wide": 760, "narrow": 350}
"""Points, which are pixels of the page where there is room for them."""

COLOURS: Final = {
    "ink": "#010203",
    "soft": "#020304",
    "rule": "#030405",
    "main": "#040506",
    "bad": "#050607",
    "band": "#060708",
    "paper": "#070809",
    "warn": "#08090a",
}
"""Placeholders; the style of the page has a variable of each name."""

BEHIND: Final = {"facecolor": COLOURS["paper"], "edgecolor": "none", "pad": 1.5}
"""What a label stands on, so that no line runs through it."""

TIME_STEPS_S: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600,
    900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000,
)  # fmt: skip
"""Steps that read well on an axis of time."""

TICKS_MAX: Final = {"wide": 8, "narrow": 4}
LETTERS: Final = {"wide": 92, "narrow": 42}
"""Letters of a label that stands over its bar."""

LETTERS_MIN: Final = 12


class Margins(NamedTuple):
    """Points around the plot."""

    left: int = 44
    right: int = 28
    top: int = 10
    bottom: int = 34


Draw = Callable[["Axes", str], None]
"""Draws into the axes of one size, `wide` or `narrow`."""


def figure_html(
    name: str, label: str, draw: Draw, *, height: int, margins: Margins | None = None
) -> str:
    """Give a chart in both sizes; `label` says in words what it shows."""
    sizes = "".join(
        f'<div class="{size}">{_svg(f"{name}-{size}", label, draw, size, height, margins)}</div>'
        for size in WIDTHS
    )
    return f'<figure class="chart">{sizes}</figure>'


def _svg(name: str, label: str, draw: Draw, size: str, height: int, margins: Margins | None) -> str:
    width, around = WIDTHS[size], margins or Margins()
    with _axes(width, height, around) as (axes, written):
        draw(axes, size)
        text = written()
    return _inline(text, name, label, width, height)


@contextmanager
def _axes(width: int, height: int, around: Margins) -> Iterator[tuple[Axes, Callable[[], str]]]:
    import matplotlib as mpl  # noqa: PLC0415 - it takes a second to import
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    with mpl.rc_context():
        mpl.rcdefaults()  # what a user has set up for plots is not for reports
        mpl.rc("svg", fonttype="none", hashsalt="fractal-lba-sim")
        mpl.rc("text", parse_math=False)
        mpl.rc("font", family="DejaVu Sans", size=12)
        mpl.rc("hatch", linewidth=1.5)
        drawn = Figure(figsize=(width / 72, height / 72), dpi=72)
        drawn.patch.set_visible(False)
        axes = drawn.add_axes(
            (
                around.left / width,
                around.bottom / height,
                (width - around.left - around.right) / width,
                (height - around.top - around.bottom) / height,
            )
        )
        axes.patch.set_visible(False)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(COLOURS["rule"])
        axes.tick_params(length=0, colors=COLOURS["soft"], labelsize=11, pad=6)

        def written() -> str:
            out = io.StringIO()
            drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
            return out.getvalue()

        yield axes, written


def _inline(text: str, name: str, label: str, width: int, height: int) -> str:
    """Make a document of matplotlib a part of a page: no prologue, own ids, colours as variables.

    Ids are the same in each document of matplotlib, so the name of the chart goes before them.
    """
    body = text[text.index("<svg") : text.rindex("</svg>")]
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    body = re.sub(r"> <", "><", body)
    for colour, value in COLOURS.items():
        body = body.replace(value, f"var(--{colour})")
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def time_step(span_s: float, count: int) -> float:
    """Choose the smallest step of an axis of time that gives at most `count` steps."""
    for step in TIME_STEPS_S:
        if span_s <= step * count:
            return step
    return TIME_STEPS_S[-1] * -(-span_s // (TIME_STEPS_S[-1] * count))


def time_axis(axes: Axes, size: str, *, low: float = 0.0, high: float) -> None:
    """Set an axis of time with steps that read well."""
    step = time_step(high - low, TICKS_MAX[size])
    ticks = [index * step for index in range(int(low / step), int(high / step) + 1)]
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.set_xticklabels([figure(tick, "s") for tick in axes.get_xticks()])


def grid(axes: Axes, which: str = "x") -> None:
    """Draw thin lines behind everything."""
    axes.set_axisbelow(True)
    if which == "x":
        axes.xaxis.grid(visible=True, color=COLOURS["rule"], linewidth=0.8)
    else:
        axes.yaxis.grid(visible=True, color=COLOURS["rule"], linewidth=0.8)


def shortened(text: str, size: str, end: str = "") -> str:
    """Cut a label at a word so that it fits over its bar, with what must stand at its end."""
    room = max(LETTERS_MIN, LETTERS[size] - len(end))
    cut = textwrap.shorten(text, room, placeholder=" …")
    return (cut if len(cut) > 2 else f"{text[: room - 1]}…") + end


def beside(axes: Axes, text: str, at: tuple[float, float], colour: str, *, span: float) -> None:
    """Write a label beside a line: to its right, or to its left where that has more room."""
    left = at[0] > 0.62 * span
    axes.annotate(
        text, at, xytext=(-5 if left else 5, 0), ha="right" if left else "left", va="center",
        textcoords="offset points", fontsize=11, color=COLOURS[colour], zorder=5,
        bbox=BEHIND,
    )  # fmt: skip
