"""Data that nobody made for a test: daily weather of Seattle, 2012 to 2015."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

SEATTLE = "vega_datasets/_data/seattle-weather.csv"


def seattle_weather() -> Path:
    """Find the file of the installed package; the package itself would import pandas."""
    try:
        files = importlib.metadata.files("vega_datasets") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vega_datasets is not installed")
    return next(Path(str(file.locate())) for file in files if str(file) == SEATTLE)
