"""Make the harness, its mutants and small testees importable, and clear what they must not share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFORMANCE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CONFORMANCE))  # mutants and controls are of the checkout, not of a wheel

from mutants.harness import tiny  # noqa: E402 - found by the line above

Examined = Callable[..., tuple[int, str]]


@pytest.fixture
def examined(tmp_path: Path) -> Examined:
    """Run a testee with this body against small vectors; give exit code and output."""

    def run(body: str = "", *options: str, **more: object) -> tuple[int, str]:
        return tiny.examined(tmp_path, body, *options, **more)  # type: ignore[arg-type] # cases

    return run


@pytest.fixture
def smoked(tmp_path: Path) -> Examined:
    """Look at a testee with this body by `smoke`; give exit code and output."""

    def run(body: str = "") -> tuple[int, str]:
        return tiny.called(["smoke", "--", *tiny.program(tmp_path, body)])

    return run
