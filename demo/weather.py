"""Read the data set of the demo and summarise it: daily weather of Seattle, 2012 to 2015.

The file ships inside the package `vega_datasets`, which is looked up and never imported, since
importing it would need pandas. The figures are those of the National Oceanic and Atmospheric
Administration.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Final

from fractal_lba import Record, summarize

COLUMNS: Final = ("precipitation", "temp_max", "temp_min", "wind")

SCALES: Final = (2, 4, 8)
"""Boxes per unit. With thirty points a finer grid has every day in a box of its own."""

WINDOW_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Day:
    """One line of the file: its month as `2012-01`, and the four measurements."""

    month: str
    values: tuple[float, ...]


def weather_file() -> Path:
    """Find the CSV file in the installed package."""
    spec = find_spec("vega_datasets")
    if spec is None or not spec.submodule_search_locations:
        message = "vega_datasets is missing: pip install --no-deps vega_datasets"
        raise FileNotFoundError(message)
    return Path(spec.submodule_search_locations[0], "_data", "seattle-weather.csv")


def read_days(path: Path) -> list[Day]:
    """Read every day, in the order of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Day(row["date"][:7].replace("/", "-"), tuple(float(row[name]) for name in COLUMNS))
            for row in csv.DictReader(file)
        ]


def month_record(days: list[Day], *, seed: int = 0) -> Record:
    """Summarise the days of one month; its epoch is the month as a number, 201201."""
    return summarize(
        [day.values for day in days],
        shard_id="seattle/month",
        epoch=int(days[0].month.replace("-", "")),
        scales=SCALES,
        seed=seed,
    )


def by_month(days: list[Day]) -> dict[str, list[Day]]:
    """Split the days by calendar month."""
    return {month: list(group) for month, group in groupby(days, key=lambda day: day.month)}


def window_records(days: list[Day], count: int) -> list[Record]:
    """Summarise up to `count` windows of thirty days, each a day later than the one before."""
    starts = range(min(count, len(days) - WINDOW_DAYS + 1))
    return [
        summarize(
            [day.values for day in days[start : start + WINDOW_DAYS]],
            shard_id="seattle/30-days",
            epoch=start,
            scales=SCALES,
        )
        for start in starts
    ]
