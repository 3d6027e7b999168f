"""What the tests of runs share: a small scenario, and an engine that plays it at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_engine import tiny_document

from fractal_lba_server.drill.scenario import Scenario, scenario_of
from fractal_lba_sim import engine

HERE = Path(__file__).parent


@pytest.fixture
def tiny() -> Callable[..., Scenario]:
    def make(**over: Any) -> Scenario:
        return scenario_of(tiny_document(**over), "tiny")

    return make


@pytest.fixture(autouse=True)
def _tiny_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the small engine under the name tiny."""
    monkeypatch.setitem(engine.ENGINES, "tiny", "tiny_engine")
    monkeypatch.syspath_prepend(str(HERE))


# A shell has its background jobs ignore Ctrl-C, and what they start ignores it as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
