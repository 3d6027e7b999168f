"""What a fault is to the engine: something that is played, and gives what undoes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .incidents import Incident

if TYPE_CHECKING:
    from .world import World

Mend = Callable[[], None]
Play = Callable[["World", Mapping[str, Any], Incident], Mend]
"""Injects a fault and gives what mends it."""


def nothing() -> None:
    """Mend nothing: the fault is over by itself."""
