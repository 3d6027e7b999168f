"""Load the vector files once, and keep long tests apart: `pytest -m long golden/tests`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).resolve().parent.parent
ROOT = GOLDEN.parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes a minute or more; runs on demand")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" in (config.option.markexpr or ""):
        return
    late = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    if late:
        config.hook.pytest_deselected(items=late)


@cache
def load(path: str) -> dict[str, Any]:
    """Read one vector file below `golden/vectors`."""
    suite: dict[str, Any] = json.loads((GOLDEN / "vectors" / path).read_text())
    return suite


def cases(path: str) -> list[dict[str, Any]]:
    """Give the cases of one vector file."""
    found: list[dict[str, Any]] = load(path)["cases"]
    return found


def paths() -> list[str]:
    """Name every vector file."""
    root = GOLDEN / "vectors"
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*.json"))
